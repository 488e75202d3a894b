//! One probe instance becomes one BPF program.

use std::collections::HashMap;

use super::keep::Kept;
use super::{AboutTasks, CALL_BUDGET, Home, Lower, STACK_BUDGET, Shared};
use crate::config::Config;
use crate::host::Host;
use crate::host::arch::Sign;
use crate::ir::verify::SCRATCH;
use crate::ir::{self, BinaryOp as B, Expr, Place, ProgramKind, StmtKind};
use crate::plan;
use crate::probes::{Compat, Instance, Syscalls};
use crate::sema::Options;
use crate::sema::tree;
use crate::source::Span;
use crate::types::{Space, Type};

/// A program of which nothing is lowered yet.
pub(super) fn start<'a>(
    shared: &'a mut Shared,
    probe: &'a tree::Probe,
    host: &'a Host,
    options: &'a Options,
    config: &'a Config,
) -> Lower<'a> {
    let linked = shared.foreign.iter().any(|f| f.origin == ir::Origin::Object);
    let calls = linked || !shared.function_ids.is_empty() || !shared.unwinders.is_empty();
    let in_function = probe.instance.kind.params().is_some();
    Lower {
        shared,
        host,
        options,
        config,
        instance: &probe.instance,
        locals: Vec::new(),
        slots: Vec::new(),
        stack: 0,
        stack_budget: if calls || in_function { CALL_BUDGET } else { STACK_BUDGET },
        scratch: 0,
        depth: 0,
        deepest: 0,
        free: Vec::new(),
        temps: Vec::new(),
        ptrs: 0,
        loops: 0,
        copies_size: 0,
        out: Vec::new(),
        span: probe.span,
        vars: Vec::new(),
        context: HashMap::new(),
        operands: Vec::new(),
        left: probe.instance.context.result,
        kept: Vec::new(),
        prologue: Vec::new(),
        probe_index: None,
        result: None,
        fails: false,
        about_tasks: None,
        discarded: false,
    }
}

/// Adds a function that is not the script's: `make` gives its body, and what of its parameters,
/// its first locals, is memory of its callers.
pub(super) fn add_function(
    shared: &mut Shared,
    host: &Host,
    options: &Options,
    config: &Config,
    name: String,
    params: u32,
    make: impl FnOnce(&mut Lower<'_>) -> (Vec<ir::Stmt>, Vec<ir::Lent>),
) -> ir::FunctionId {
    let kind = ProgramKind::Function { params };
    let probe = without_body(Instance { kind, ..crate::sema::function::instance() });
    let mut l = start(shared, &probe, host, options, config);
    let (body, lent) = make(&mut l);
    let function = ir::Program {
        name,
        kind,
        section: String::new(),
        locals: l.locals,
        slots: l.slots,
        ptrs: l.ptrs,
        lent,
        body,
        result: 0,
        span: probe.span,
    };
    let id = ir::FunctionId(super::index(shared.functions.len()));
    shared.functions.push(function);
    id
}

/// A probe of ours, to be lowered by hand.
pub(super) fn without_body(instance: Instance) -> tree::Probe {
    let body = tree::Block { stmts: Vec::new(), value: None };
    tree::Probe { instance, vars: Vec::new(), predicate: None, body, span: Span::default() }
}

/// Lowers a function of the script; also gives how many calls it makes inside
/// each other, and what programs on packets cannot do of it.
pub(super) fn lower_function(
    shared: &mut Shared,
    function: &tree::Function,
    host: &Host,
    options: &Options,
    config: &Config,
) -> (ir::Program, u32, Option<AboutTasks>) {
    let probe = &function.program;
    let params = probe.instance.kind.params().expect("bug: a probe is no function");
    let mut l = start(shared, probe, host, options, config);
    let params: Vec<_> = (0..params).map(|n| l.local(&format!("param_{n}"))).collect();
    l.make_homes(&probe.vars);
    let mut lent = Vec::new();
    let mut body = l.block(|l| {
        let mut borrow = |l: &mut Lower<'_>, param: usize, size| {
            let ptr = l.ptr();
            lent.push(ir::Lent { param: super::index(param), ptr, size, typed: false });
            Place::ptr(ptr)
        };
        for (var, (local, ty)) in params.iter().zip(&function.params).enumerate() {
            match l.home(var).clone() {
                Home::Word(home, _) => l.set(home, Expr::Local(*local)),
                Home::Memory(place, _) if ty.is_scalar() => {
                    l.store(&place, super::expr::cut_size(ty.size()), Expr::Local(*local));
                }
                // The parameter is the function's own, to be changed.
                Home::Memory(place, _) => {
                    let (from, size) = (borrow(l, var, ty.size()), ty.size());
                    l.emit(StmtKind::Copy { to: place, from, size });
                }
            }
        }
        if function.result.is_memory() {
            let place = borrow(l, function.params.len(), function.result.size());
            l.result = Some((place, function.result.clone()));
        }
        l.tree_block(&probe.body);
    });
    l.check_size();
    l.forget_between_rounds(&mut body);
    let (depth, about_tasks) = (l.deepest, l.about_tasks);
    let lowered = ir::Program {
        name: program_name(&format!("fn_{}", function.name)),
        kind: probe.instance.kind,
        section: String::new(),
        locals: l.locals,
        slots: l.slots,
        ptrs: l.ptrs,
        lent,
        body,
        result: 0,
        span: probe.span,
    };
    (lowered, depth, about_tasks)
}

/// Lowers a probe, with what is kept for it.
pub(super) fn lower(
    shared: &mut Shared,
    probe: &tree::Probe,
    host: &Host,
    options: &Options,
    config: &Config,
    kept: Option<&Kept>,
) -> (ir::Program, plan::Program) {
    let instance = &probe.instance;
    let mut l = start(shared, probe, host, options, config);
    l.make_homes(&probe.vars);
    // What decides whether the program runs at all comes first; then the
    // context is read; then the body runs.
    let filters = l.block(|l| {
        if l.kind() == ProgramKind::Iter {
            l.begin_iteration();
            l.iteration_filter();
        }
        if let Some(syscalls) = &instance.syscalls {
            l.syscall_filter(syscalls);
        }
        if let Some(kept) = kept {
            l.begin_session(kept);
        }
        l.wait_until_ready();
        l.scope_filter();
        if let Some(kept) = kept {
            l.take_kept(kept);
        }
    });
    let filter_loads = std::mem::take(&mut l.prologue);
    let body = l.block(|l| {
        if let Some(predicate) = &probe.predicate {
            l.statement(|l| {
                l.span = predicate.span;
                let cond = l.word(predicate);
                let fails = Expr::binary(B::Eq, cond, Expr::Const(0));
                l.leave(fails);
            });
            l.span = probe.span;
        }
        l.tree_block(&probe.body);
    });
    l.check_size();
    let mut stmts = filter_loads;
    stmts.extend(filters);
    stmts.append(&mut l.prologue);
    stmts.extend(body);
    let first = instance.attach.first().and_then(|a| a.probes.first());
    let name = program_name(first.unwrap_or(instance.context.provider));
    finish(l, name, stmts, probe)
}

/// A program whose body is done, and its links.
pub(super) fn finish(
    l: Lower<'_>,
    name: String,
    mut body: Vec<ir::Stmt>,
    probe: &tree::Probe,
) -> (ir::Program, plan::Program) {
    let instance = &probe.instance;
    l.forget_between_rounds(&mut body);
    let program = ir::Program {
        name: name.clone(),
        kind: instance.kind,
        section: instance.section.clone(),
        locals: l.locals,
        slots: l.slots,
        ptrs: l.ptrs,
        lent: Vec::new(),
        body,
        result: instance.context.result,
        span: probe.span,
    };
    let attach = instance.attach.clone();
    let plan = plan::Program { name, span: probe.span, attach, points: Vec::new() };
    (program, plan)
}

/// Adds a program, or only its links if an equal one is there already: a block
/// with several attach points that it does not tell apart is compiled once.
pub(super) fn add(
    list: &mut Vec<(ir::Program, plan::Program)>,
    (mut program, mut made): (ir::Program, plan::Program),
) {
    let shareable = matches!(
        program.kind,
        ProgramKind::Kprobe
            | ProgramKind::Uprobe
            | ProgramKind::Tracepoint
            | ProgramKind::PerfEvent
    );
    if shareable {
        let family = |section: &str| section.split('/').next().unwrap_or("").to_string();
        let same = list.iter_mut().find(|(p, known)| {
            p.kind == program.kind
                && !plan::share_event(&known.attach, &made.attach)
                && p.span == program.span
                && family(&p.section) == family(&program.section)
                && p.body == program.body
                && p.slots == program.slots
                && p.result == program.result
        });
        if let Some((_, known)) = same {
            known.attach.extend(made.attach);
            return;
        }
    }
    let taken = |name: &str| list.iter().any(|(p, _)| p.name == name);
    if taken(&program.name) {
        let stem = program.name.clone();
        let name = (2..).map(|i| format!("{stem}_{i}")).find(|n| !taken(n));
        program.name = name.expect("bug: some number is free");
        made.name.clone_from(&program.name);
    }
    list.push((program, made));
}

/// A C identifier from a probe's name.
fn program_name(probe: &str) -> String {
    let plain: String =
        probe.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    plain.chars().take(100).collect()
}

impl Lower<'_> {
    /// Gives every variable its place.
    fn make_homes(&mut self, vars: &[tree::Var]) {
        for var in vars {
            let home = if var.ty.is_scalar() && !var.addressed {
                Home::Word(self.local(&format!("${}", var.name)), var.ty.clone())
            } else {
                let slot = self.slot(&format!("${}", var.name), var.ty.size());
                Home::Memory(Place::slot(slot), var.ty.clone())
            };
            self.vars.push(home);
        }
    }

    /// Reports values that are too large together.
    fn check_size(&mut self) {
        if self.scratch <= SCRATCH {
            return;
        }
        let message = "the values of this block are too large together";
        let kib = |bytes: u32| bytes.div_ceil(1024);
        let d = crate::diag::Diagnostic::error(self.span, message)
            .at(format!("{} KiB", kib(self.scratch)))
            .note(format!("a program has room for {} KiB", kib(SCRATCH)))
            .help("lower `max_strlen`, read less (`str(p, 100)`), or use several probes");
        self.fail(d);
    }

    /// Ends the program if a condition holds.
    pub(super) fn leave(&mut self, cond: Expr) {
        let result = self.left;
        self.when(cond, |l| l.emit(StmtKind::Return(Expr::Const(result))));
    }

    /// Ends the program for system calls that are not asked for.
    fn syscall_filter(&mut self, syscalls: &Syscalls) {
        // 32 bits count; arm64 keeps other things behind them.
        let number = self.context_access(syscalls.number, &Type::int(4, false));
        let number = self.spill("number", number);
        match syscalls.numbers.as_slice() {
            [(only, _)] => {
                let wanted = Expr::Const(i64::from(*only));
                self.leave(Expr::binary(B::Ne, number, wanted));
            }
            list => {
                let count = list.iter().map(|n| n.0).max().unwrap_or(0) + 1;
                // Index of the probe's name plus one, by number.
                let mut table = vec![0; count as usize];
                for (number, name) in list {
                    if let Some(cell) = table.get_mut(*number as usize) {
                        *cell = u64::from(u16::try_from(name + 1).unwrap_or(u16::MAX));
                    }
                }
                let table = self.cells(table, 2);
                let table = Place::rodata(self.shared.constant(table));
                let limit = Expr::Const(i64::from(count));
                self.leave(Expr::binary(B::UGe, number.clone(), limit));
                let entry = Expr::load(table.indexed(number, 2, count), 2, false);
                let index = self.local("probe");
                self.set(index, entry);
                self.leave(Expr::binary(B::Eq, Expr::Local(index), Expr::Const(0)));
                self.set(index, Expr::binary(B::Sub, Expr::Local(index), Expr::Const(1)));
                self.probe_index = Some(index);
            }
        }
        self.compat_filter(syscalls);
    }

    /// Tracepoints of single system calls do not fire for 32-bit ones
    /// (`arch_trace_is_compat_syscall`), whose numbers mean other calls. Mostly
    /// the registers show what it is, and spare the call of a helper.
    fn compat_filter(&mut self, syscalls: &Syscalls) {
        let readable = self.kind() == ProgramKind::BtfTracepoint;
        let signs = if readable { self.host.arch().native_call } else { &[] };
        let signs: Vec<Expr> = signs.iter().map(|sign| self.sign(*sign)).collect();
        match signs.into_iter().reduce(|all, sign| Expr::binary(B::And, all, sign)) {
            Some(native) => {
                let unclear = Expr::binary(B::Eq, native, Expr::Const(0));
                self.when(unclear, |l| l.compat_filter_by_task(syscalls.compat));
            }
            None => self.compat_filter_by_task(syscalls.compat),
        }
    }

    /// 1 if the registers of the system call have the sign.
    fn sign(&mut self, sign: Sign) -> Expr {
        match sign {
            Sign::Equal(left, right) => {
                let (left, right) = (self.raw_register(left, 8), self.raw_register(right, 8));
                Expr::binary(B::Eq, left, right)
            }
            Sign::Bits { register, size, mask, value } => {
                let mask = Expr::Const(i64::from(mask));
                let bits = Expr::binary(B::And, self.raw_register(register, size), mask);
                Expr::binary(B::Eq, bits, Expr::Const(i64::from(value)))
            }
        }
    }

    /// The low bytes of a register of the system call; loaded here, not before
    /// the body.
    fn raw_register(&mut self, name: &str, size: u8) -> Expr {
        let offset = self.host.arch().register(name).expect("bug: a sign of an unknown register");
        let pointer = Box::new(self.context_word(0, 8, false));
        let high = if self.options.big_endian { 8 - u32::from(size.min(8)) } else { 0 };
        Expr::LoadTyped { pointer, offset: offset + high, size, signed: false }
    }

    fn compat_filter_by_task(&mut self, compat: Compat) {
        if self.options.portable {
            return self.compat_filter_elsewhere(compat);
        }
        let typed = self.host.has(crate::host::features::Feature::CurrentTaskBtf);
        let helper = if typed { ir::Helper::GetCurrentTaskBtf } else { ir::Helper::GetCurrentTask };
        let task = self.call(helper, Vec::new());
        let status = if typed {
            Expr::LoadTyped {
                pointer: Box::new(task),
                offset: compat.offset,
                size: compat.size,
                signed: false,
            }
        } else {
            let remote = super::Remote { base: task, offset: compat.offset, space: Space::Kernel };
            self.read_word(&remote, &Type::int(compat.size, false))
        };
        let mask = Expr::Const(i64::from(compat.mask));
        let compat = Expr::binary(B::And, status, mask);
        self.leave(Expr::binary(B::Ne, compat, Expr::Const(0)));
    }

    /// The same in whatever kernel it is.
    fn compat_filter_elsewhere(&mut self, compat: Compat) {
        let Some(field) = self.kernel_field("task_struct", &["thread_info", compat.field]) else {
            return;
        };
        let task = self.call(ir::Helper::GetCurrentTask, Vec::new());
        let task = super::Remote { base: task, offset: 0, space: Space::Kernel };
        let status = self.moved(&task, &field);
        let status = self.read_word(&status, &Type::int(compat.size, false));
        let mask = Expr::Const(i64::from(compat.mask));
        let compat = Expr::binary(B::And, status, mask);
        self.leave(Expr::binary(B::Ne, compat, Expr::Const(0)));
    }

    /// Index of the probe that fired, among the names of this program.
    pub(crate) fn probe_number(&mut self) -> Expr {
        match self.probe_index {
            Some(local) => Expr::Local(local),
            None => {
                let local = self.at_start("probe", |l| {
                    l.call(ir::Helper::GetAttachCookie, vec![ir::Arg::Context])
                });
                self.probe_index = Some(local);
                Expr::Local(local)
            }
        }
    }
}
