//! From the typed tree to the IR and the plan.
//!
//! Scalars become words; everything else is written straight to where it is
//! wanted (a map key, an event record, a variable's slot), so that large values
//! are not copied about. Memory that a program needs is allocated here, as part
//! of the program.

mod aggregate;
mod compare;
mod context;
mod event;
mod expr;
mod iterate;
mod keep;
pub(crate) mod kernel;
mod map;
mod memory;
mod packet;
mod processes;
mod program;
mod read;
mod rounds;
mod scope;
mod search;
mod stack;
mod statement;
pub(crate) mod typed;
pub(crate) mod unwind;

use std::collections::HashMap;
use std::rc::Rc;

use super::cdefs::Definitions;
use super::check::CheckedTree;
use super::tree::{self, VarId};
use super::{Checked, Options};
use crate::config::Config;
use crate::diag::{Diagnostic, Diagnostics};
use crate::host::Host;
use crate::ir::verify::CALLBACK_DEPTH;
use crate::ir::{self, Expr, LocalId, Place, PtrId, RodataId, SlotId, Stmt, StmtKind};
use crate::plan::{self, Plan, Portable};
use crate::probes::{Instance, Operand};
use crate::source::{Sources, Span};
use crate::types::{Space, Type};

pub(crate) use map::ScriptMap;

/// Bytes of the 512-byte BPF stack that slots may take; the rest is for what
/// the compiler spills.
const STACK_BUDGET: u32 = 288;

/// The same for functions and programs that call them, whose stacks add up.
const CALL_BUDGET: u32 = 96;

/// Slots up to this size go to the stack even when `on_stack_limit` is lower.
const SMALL_SLOT: u32 = 64;

/// State shared by all programs of a script.
pub(crate) struct Shared {
    pub maps: Vec<ir::Map>,
    /// Maps of the script, by the checker's id.
    pub script_maps: Vec<ScriptMap>,
    pub rodata: Vec<ir::Rodata>,
    rodata_index: HashMap<Vec<u8>, RodataId>,
    pub params: Vec<plan::Param>,
    pub relocations: Vec<ir::Relocation>,
    /// What the machine is asked that loads the object; points have nothing but their keys.
    pub portable: Portable,
    pub events: Vec<plan::Event>,
    pub losses: Vec<plan::Loss>,
    /// Bytes of their counters.
    loss_bytes: u32,
    /// Maps of arguments so far.
    kept_maps: usize,
    /// The script has an iterator that goes on without rtrace.
    pub pinned: bool,
    /// Functions so far, and their ids by the checker's.
    pub functions: Vec<ir::Program>,
    pub foreign: Vec<ir::Foreign>,
    /// Functions that unwind user stacks, by the limit of frames.
    pub unwinders: Vec<(u32, ir::FunctionId)>,
    /// Functions that hash stacks, by the limit of frames.
    pub hashers: Vec<(u32, ir::FunctionId)>,
    function_ids: HashMap<tree::FunctionId, ir::FunctionId>,
    /// What they take.
    function_params: HashMap<tree::FunctionId, Vec<Type>>,
    /// Calls inside each other that a call of a function makes, itself included.
    function_depths: HashMap<tree::FunctionId, u32>,
    /// Functions, by the checker's id, that programs on packets cannot call.
    function_tasks: HashMap<tree::FunctionId, AboutTasks>,
    pub cdefs: Definitions,
    pub diags: Diagnostics,
}

/// The first thing in a function that only programs about tasks may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct AboutTasks {
    helper: ir::Helper,
    span: Span,
}

/// Working state of one program.
pub struct Lower<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) host: &'a Host,
    pub(crate) options: &'a Options,
    pub(crate) config: &'a Config,
    pub(crate) instance: &'a Instance,
    locals: Vec<ir::Local>,
    slots: Vec<ir::Slot>,
    stack: u32,
    /// Bytes of the stack that slots may take.
    stack_budget: u32,
    scratch: u32,
    /// Loops through callbacks around the statement at hand, and the most calls
    /// inside each other so far, of those and of functions.
    depth: u32,
    pub(super) deepest: u32,
    /// Slots whose statement is over.
    free: Vec<SlotId>,
    /// Slots of the statement at hand, to be freed after it.
    temps: Vec<SlotId>,
    ptrs: u32,
    /// Loops of the script around the statement at hand.
    loops: u32,
    /// Instructions, about, that copies of their bodies add.
    copies_size: usize,
    out: Vec<Stmt>,
    pub(crate) span: Span,
    vars: Vec<Home>,
    /// Context words already loaded, by offset and size.
    context: HashMap<(u32, u32), LocalId>,
    /// Arguments of markers already fetched from memory.
    operands: Vec<(Operand, LocalId)>,
    /// What a program gives that leaves early.
    left: i64,
    /// Words that were kept at the entry.
    kept: Vec<LocalId>,
    /// Statements that load them, before the body.
    prologue: Vec<Stmt>,
    /// Index of the probe's name among several, if it is in a local.
    probe_index: Option<LocalId>,
    /// Where a function puts its result, if that fits no register, and its type.
    result: Option<(Place, Type)>,
    /// It has been said that the program does what it cannot.
    fails: bool,
    /// What a function does that programs on packets cannot.
    about_tasks: Option<AboutTasks>,
    /// The value of the expression statement at hand is not used.
    pub(crate) discarded: bool,
}

/// Where a scratch variable lives.
#[derive(Debug, Clone)]
enum Home {
    Word(LocalId, Type),
    Memory(Place, Type),
}

/// A lowered value.
#[derive(Debug, Clone)]
pub(crate) enum Val {
    /// Extended according to its type.
    Word(Expr),
    /// In memory that the program may access.
    Memory(Place),
    /// At an address that has to be read by a helper.
    Remote(Remote),
    Void,
}

/// An address in kernel or user memory.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub base: Expr,
    pub offset: u32,
    pub space: Space,
}

/// Lowers a checked script.
pub(super) fn lower(
    mut checked: CheckedTree,
    cdefs: Definitions,
    sources: &Sources,
    host: &Host,
    options: &Options,
    config: &Config,
) -> Result<Checked, Diagnostics> {
    let named = checked.named.iter().map(|n| n.stored(options)).collect();
    let mut shared = Shared {
        maps: Vec::new(),
        script_maps: Vec::new(),
        rodata: Vec::new(),
        rodata_index: HashMap::new(),
        params: Vec::new(),
        relocations: Vec::new(),
        portable: Portable {
            options: named,
            lookups: std::mem::take(&mut checked.lookups),
            ..Portable::default()
        },
        events: Vec::new(),
        losses: Vec::new(),
        loss_bytes: 0,
        kept_maps: 0,
        pinned: checked.probes.iter().any(|p| iterate::is_pinned(&p.instance)),
        functions: Vec::new(),
        foreign: std::mem::take(&mut checked.foreign),
        unwinders: Vec::new(),
        hashers: Vec::new(),
        function_ids: HashMap::new(),
        function_params: HashMap::new(),
        function_depths: HashMap::new(),
        function_tasks: HashMap::new(),
        cdefs,
        diags: Diagnostics::default(),
    };
    shared.internal_maps(host, config);
    let atomic = aggregate::atomic_maps(&checked);
    shared.script_maps(&checked.maps, &atomic, host, config);
    let keep_up = unwind::prepare(&mut shared, &checked.unwinds, host, options, config);
    for (id, function) in &checked.functions {
        let (lowered, depth, about_tasks) =
            program::lower_function(&mut shared, function, host, options, config);
        shared.function_depths.insert(*id, depth + 1);
        shared.function_params.insert(*id, function.params.clone());
        shared.function_tasks.extend(about_tasks.map(|what| (*id, what)));
        shared.function_ids.insert(*id, ir::FunctionId(index(shared.functions.len())));
        shared.functions.push(lowered);
    }
    let mut lowered: Vec<(ir::Program, plan::Program)> = keep_up;
    for probe in &checked.probes {
        let kept = keep::prepare(&mut shared, probe, host, options, config);
        let pair = program::lower(&mut shared, probe, host, options, config, kept.as_ref());
        program::add(&mut lowered, pair);
        lowered.extend(kept.and_then(|kept| kept.program));
    }
    if options.scope.follow
        && let Some(program) = scope::follow(&mut shared, host, options, config)
    {
        // First, so that it misses nothing that others see.
        lowered.insert(0, program);
    }
    if lowered.len() as u64 > config.max_bpf_progs {
        shared.diags.push(
            Diagnostic::global(format!(
                "the script makes {} BPF programs, the limit is {}",
                lowered.len(),
                config.max_bpf_progs
            ))
            .help("narrow the wildcards, or raise `max_bpf_progs` in a config block"),
        );
    }
    if shared.diags.has_errors() {
        return Err(shared.diags);
    }
    let (programs, plans): (Vec<_>, Vec<_>) = lowered.into_iter().unzip();
    let mut maps: Vec<plan::Map> = shared.script_maps.iter().map(|m| m.plan.clone()).collect();
    maps.sort_by(|a, b| a.name.cmp(&b.name));
    let plan = Plan {
        version: plan::VERSION,
        arch: host.arch().name.to_string(),
        sources: sources.clone(),
        programs: plans,
        maps,
        events: shared.events,
        losses: shared.losses,
        params: shared.params.clone(),
        time_formats: checked.time_formats,
        cgroup_filters: checked.cgroup_filters,
        unwinds: !checked.unwinds.is_empty(),
        config: plan::Config {
            max_cat_bytes: config.max_cat_bytes,
            max_probes: config.max_probes,
            each_place: config.each_place,
            missing_probes: config.missing_probes,
            print_maps_on_exit: config.print_maps_on_exit,
            str_trunc_trailer: config.str_trunc_trailer.clone(),
            perf_rb_pages: config.perf_rb_pages,
            log_size: config.log_size,
            cpp_demangle: config.cpp_demangle,
            show_debug_info: config.show_debug_info,
        },
        portable: options.portable.then_some(shared.portable),
    };
    let module = ir::Module {
        programs,
        functions: shared.functions,
        foreign: shared.foreign,
        maps: shared.maps,
        rodata: shared.rodata,
        losses: shared.loss_bytes,
        params: shared.params,
        relocations: shared.relocations,
        license: config.license.clone(),
        arch: host.arch(),
    };
    Ok(Checked { module, plan, objects: Rc::clone(&options.objects) })
}

impl Shared {
    /// A constant; equal ones are stored once.
    pub(crate) fn constant(&mut self, bytes: Vec<u8>) -> RodataId {
        if let Some(id) = self.rodata_index.get(&bytes) {
            return *id;
        }
        let id = RodataId(index(self.rodata.len()));
        self.rodata.push(ir::Rodata {
            name: format!("const_{}", id.0),
            bytes: bytes.clone(),
            align: 8,
        });
        self.rodata_index.insert(bytes, id);
        id
    }

    /// The word of a parameter.
    pub(crate) fn param(&mut self, param: plan::Param) -> Expr {
        let known = self.params.iter().position(|p| *p == param);
        let at = known.unwrap_or_else(|| {
            self.params.push(param);
            self.params.len() - 1
        });
        Expr::Param(index(at))
    }
}

impl Lower<'_> {
    /// Cells of a table as the machine has numbers: their low bytes, in its order.
    pub(crate) fn cells(&self, cells: impl IntoIterator<Item = u64>, width: usize) -> Vec<u8> {
        let bytes = |cell: u64| match self.options.big_endian {
            true => cell.to_be_bytes().into_iter().skip(8 - width.min(8)).collect::<Vec<_>>(),
            false => cell.to_le_bytes().into_iter().take(width).collect(),
        };
        cells.into_iter().flat_map(bytes).collect()
    }

    // Statements.

    /// Appends a statement.
    pub(crate) fn emit(&mut self, kind: StmtKind) {
        self.out.push(Stmt { kind, span: self.span });
    }

    /// What `f` appends, as a block of its own.
    pub(crate) fn block(&mut self, f: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        let outer = std::mem::take(&mut self.out);
        f(self);
        std::mem::replace(&mut self.out, outer)
    }

    /// The same for the body of a loop of the script.
    fn repeated(&mut self, f: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.loops += 1;
        let body = self.block(f);
        self.loops -= 1;
        body
    }

    /// The same through a callback.
    fn repeated_by_callback(&mut self, f: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.loops += 1;
        let body = self.callback(f);
        self.loops -= 1;
        body
    }

    /// `if (cond) { then }`.
    pub(crate) fn when(&mut self, cond: Expr, then: impl FnOnce(&mut Self)) {
        let then = self.block(then);
        self.emit(StmtKind::If { cond, then, els: Vec::new() });
    }

    /// `if (cond) { then } else { els }`.
    pub(crate) fn either(
        &mut self,
        cond: Expr,
        then: impl FnOnce(&mut Self),
        els: impl FnOnce(&mut Self),
    ) {
        let then = self.block(then);
        let els = self.block(els);
        self.emit(StmtKind::If { cond, then, els });
    }

    /// Runs `f` as one statement: its temporaries are free afterwards.
    fn statement(&mut self, f: impl FnOnce(&mut Self)) {
        let mark = self.temps.len();
        f(self);
        let done = self.temps.split_off(mark);
        self.free.extend(done);
    }

    // Words.

    /// A new variable of one word, zero at first.
    pub(crate) fn local(&mut self, name: &str) -> LocalId {
        let id = self.lasting(name);
        // Otherwise it would keep its value, and need a place for it, from one
        // round to the next.
        if self.loops > 0 {
            self.set(id, Expr::Const(0));
        }
        id
    }

    /// The value that `f` gives, computed once, before anything else in the program.
    pub(crate) fn at_start(&mut self, name: &str, f: impl FnOnce(&mut Self) -> Expr) -> LocalId {
        let local = self.lasting(name);
        let outer = std::mem::take(&mut self.out);
        let value = f(self);
        self.set(local, value);
        let stmts = std::mem::replace(&mut self.out, outer);
        self.prologue.extend(stmts);
        local
    }

    fn lasting(&mut self, name: &str) -> LocalId {
        let id = LocalId(index(self.locals.len()));
        self.locals.push(ir::Local { name: name.to_string(), number: false });
        id
    }

    pub(crate) fn set(&mut self, local: LocalId, value: Expr) {
        self.emit(StmtKind::Set { local, value });
    }

    /// The value in a form that can be used twice, computed here and now.
    pub(crate) fn spill(&mut self, name: &str, value: Expr) -> Expr {
        if matches!(value, Expr::Const(_) | Expr::Param(_)) {
            return value;
        }
        let local = self.local(name);
        self.set(local, value);
        Expr::Local(local)
    }

    pub(crate) fn call(&mut self, helper: ir::Helper, args: Vec<ir::Arg>) -> Expr {
        if !helper.for_packets() {
            self.is_about_tasks(AboutTasks { helper, span: self.span });
        }
        Expr::Call { helper, args }
    }

    /// Something here, or in a function that is called here, is not for programs on packets.
    pub(super) fn is_about_tasks(&mut self, what: AboutTasks) {
        if matches!(self.kind(), ir::ProgramKind::Function { .. }) {
            self.about_tasks.get_or_insert(what);
        }
        if self.kind() != ir::ProgramKind::Packet || self.fails {
            return;
        }
        self.fails = true;
        let provider = self.instance.context.provider;
        let helper = what.helper.info().name;
        let mut d = Diagnostic::error(self.span, format!("`{provider}` probes cannot do this"));
        if what.span != self.span {
            d = d.label(what.span, "because of this");
        }
        self.fail(d.note(format!(
            "packets belong to no process: the kernel does not let such programs call `bpf_{helper}`"
        )));
    }

    // Memory.

    /// A temporary of that size, free again after the statement. Aligned to 8.
    pub(crate) fn temp(&mut self, name: &str, size: u32) -> Place {
        let bytes = size.max(1).next_multiple_of(8);
        let reuse = self
            .free
            .iter()
            .position(|s| self.slots.get(s.0 as usize).is_some_and(|slot| slot.size == bytes));
        let id = match reuse {
            Some(at) => self.free.swap_remove(at),
            None => self.slot(name, bytes),
        };
        self.temps.push(id);
        let place = Place::slot(id);
        // The verifier takes a word of which only a part is written for one
        // whose old value matters, and tells apart states that differ in it: a
        // long program would have too many.
        if !size.is_multiple_of(8) {
            self.clear_on_stack(&place.at(bytes - 8), 8);
        }
        place
    }

    /// Zeroes a place on the stack, so that old kernels may see it read whatever they think
    /// that a callee wrote; the rest of memory is always readable.
    fn clear_on_stack(&mut self, place: &Place, size: u32) {
        if let ir::Base::Slot(id) = place.base
            && self.slots.get(id.0 as usize).is_some_and(|slot| slot.home == ir::Home::Stack)
        {
            self.emit(StmtKind::Zero { to: place.clone(), size });
        }
    }

    /// Memory for the whole run of the program. Aligned to 8.
    fn slot(&mut self, name: &str, size: u32) -> SlotId {
        let size = size.max(1).next_multiple_of(8);
        let limit = u32::try_from(self.config.on_stack_limit).unwrap_or(u32::MAX).max(SMALL_SLOT);
        let home = if size <= limit && self.stack + size <= self.stack_budget {
            self.stack += size;
            ir::Home::Stack
        } else {
            let offset = self.scratch;
            self.scratch += size;
            ir::Home::Scratch { offset }
        };
        let id = SlotId(index(self.slots.len()));
        self.slots.push(ir::Slot { name: name.to_string(), size, align: 8, home });
        id
    }

    /// A place as the base of an index: the stack cannot be read at a variable
    /// offset on older kernels, so a slot that is indexed leaves it.
    pub(crate) fn indexable(&mut self, place: &Place) -> Place {
        if let ir::Base::Slot(id) = place.base
            && let Some(slot) = self.slots.get_mut(id.0 as usize)
            && slot.home == ir::Home::Stack
        {
            slot.home = ir::Home::Scratch { offset: self.scratch };
            self.scratch += slot.size;
            self.stack -= slot.size;
        }
        place.clone()
    }

    /// Whether there is room for another loop through a callback here.
    pub(super) fn has_room_for_callback(&self) -> bool {
        self.depth < CALLBACK_DEPTH
    }

    /// What `f` appends, as the body of a loop through a callback.
    pub(crate) fn callback(&mut self, f: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.calls(1);
        self.depth += 1;
        let body = self.block(f);
        self.depth -= 1;
        body
    }

    /// Notes that the statement at hand makes so many calls inside each other.
    pub(super) fn calls(&mut self, count: u32) {
        let depth = self.depth + count;
        if depth > CALLBACK_DEPTH && self.deepest <= CALLBACK_DEPTH {
            let d =
                Diagnostic::error(self.span, "loops and functions are too deep inside each other")
                    .note(format!("the kernel allows {CALLBACK_DEPTH} of them, each a call"))
                    .help("put part of it into another probe, or count two things in one loop");
            self.fail(d);
        }
        self.deepest = self.deepest.max(depth);
    }

    /// A pointer for a statement to bind.
    pub(crate) fn ptr(&mut self) -> PtrId {
        self.ptrs += 1;
        PtrId(self.ptrs - 1)
    }

    /// The alignment that a place is known to have.
    pub(crate) fn align_of(&self, place: &Place) -> u32 {
        let base = match place.base {
            // Records start 8 bytes behind an 8-aligned header; map values and
            // constants are aligned to 8.
            ir::Base::Slot(_)
            | ir::Base::Ptr(_)
            | ir::Base::Context
            | ir::Base::Rodata(_)
            | ir::Base::Losses
            | ir::Base::Params => 8,
        };
        let of = |n: u32| if n == 0 { 8 } else { 1 << n.trailing_zeros().min(3) };
        let index = place.index.as_ref().map_or(8, |i| of(i.stride));
        base.min(of(place.offset)).min(index)
    }

    /// Counts that something was lost or failed here. `error` is what the
    /// kernel returned, negative.
    pub(crate) fn loss(&mut self, cause: plan::Cause, error: Option<Expr>) {
        self.count_loss(cause, error.map(errno), false);
    }

    /// The same, for the table at the end only.
    pub(crate) fn quiet_loss(&mut self, cause: plan::Cause, error: Option<Expr>) {
        self.count_loss(cause, error.map(errno), true);
    }

    /// Counts an `exit()` that could not be told.
    pub(crate) fn lost_exit(&mut self, status: Expr) {
        let status = match status {
            Expr::Const(status) => Expr::Const(status & 0xff),
            status => Expr::binary(ir::BinaryOp::And, status, Expr::Const(0xff)),
        };
        self.count_loss(plan::Cause::Exit, Some(status), false);
    }

    /// Adds to one of a place's counters.
    fn count_loss(&mut self, cause: plan::Cause, which: Option<Expr>, quiet: bool) {
        let outcomes = cause.outcomes();
        let (shared, span) = (&mut *self.shared, self.span);
        let mut known = shared.losses.iter();
        let known = known.find(|l| l.span == span && l.cause == cause && l.quiet == quiet);
        let at = known.map(|l| l.at).unwrap_or_else(|| {
            let at = shared.loss_bytes;
            shared.loss_bytes += outcomes * 8;
            shared.losses.push(plan::Loss { span, cause, at, quiet });
            at
        });
        let counter = Place::losses(at);
        let counter = match which {
            Some(which) => counter.indexed(which, 8, outcomes),
            None => counter,
        };
        self.emit(StmtKind::AtomicAdd { to: counter, size: 8, value: Expr::Const(1) });
    }

    /// Reports an error that only lowering can see.
    pub(crate) fn fail(&mut self, diagnostic: Diagnostic) {
        self.shared.diags.push(diagnostic);
    }

    fn home(&self, var: VarId) -> &Home {
        self.vars.get(var).expect("bug: variable ids come from the tree")
    }

    /// The kind of the program at hand.
    pub(crate) fn kind(&self) -> ir::ProgramKind {
        self.instance.kind
    }

    /// The index of a map in the plan, whose maps are sorted by name.
    pub(crate) fn plan_map(&self, map: tree::MapId) -> u32 {
        let name = &self.script_map(map).plan.name;
        index(self.shared.script_maps.iter().filter(|m| m.plan.name < *name).count())
    }

    /// Lowers a typed argument to a word. For builtins.
    pub(crate) fn argument_word(&mut self, e: &tree::Expr) -> Expr {
        self.word(e)
    }
}

/// The number of an error, of what a helper gave: `-ENOENT` is 2.
fn errno(result: Expr) -> Expr {
    Expr::binary(ir::BinaryOp::Sub, Expr::Const(0), result)
}

/// An index as the IR keeps it.
pub(crate) fn index(n: usize) -> u32 {
    u32::try_from(n).expect("bug: more than 4 billion of anything")
}
