//! One program: its function, its memory, its way out.
//!
//! Large temporaries lie in the program's entry of a per-CPU map, looked up
//! where the first statement needs it. A program that can be preempted by
//! another task which runs the same program on the same CPU has several
//! entries and claims one: `lock; busy += 1`, and whoever reads 1 afterwards
//! owns it; everybody else takes its own 1 away again and tries the next
//! entry. That needs no atomic operation with a result, so every kernel can do
//! it. A run that finds no free entry does nothing.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use inkwell::AddressSpace;
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context;
use inkwell::module::{Linkage, Module};
use inkwell::types::BasicMetadataTypeEnum;
use inkwell::values::FunctionValue;

use super::builder::{Argument, Block, Builder, Effects, Pointer, Word};
use super::debug::{Debug, Meta, Scope};
use super::foreign::Declared;
use super::frame::Frame;
use super::numbers::numbers;
use super::relocation::Relocations;
use super::{Cpu, helpers};
use crate::ir::{self, BinaryOp, Helper, Home, LocalId, ProgramKind, Stmt, Use};
use crate::source::Span;

/// What every program of a module refers to.
pub(super) struct Shared<'a, 'c> {
    pub(super) context: &'c Context,
    pub(super) llvm: &'a Module<'c>,
    pub(super) builder: Builder<'a, 'c>,
    pub(super) debug: Debug<'c>,
    pub(super) maps: Vec<Pointer<'c>>,
    pub(super) rodata: Vec<Pointer<'c>>,
    pub(super) params: Option<Pointer<'c>>,
    pub(super) losses: Option<Pointer<'c>>,
    pub(super) scratch: Option<ScratchMap<'c>>,
    /// Names of the functions.
    pub(super) functions: Vec<String>,
    pub(super) foreign: Vec<Declared<'c>>,
    pub(super) relocations: Relocations<'c>,
    pub(super) cpu: Cpu,
}

/// The map of large temporaries.
pub(super) struct ScratchMap<'c> {
    pub(super) map: Pointer<'c>,
    /// Offset of the busy word in an entry.
    pub(super) busy: u32,
    /// First entry of each function and each program of the module.
    pub(super) first: Vec<u32>,
    /// Entries of each CPU, if the map has those of all of them one after the
    /// other; nothing for a map with values per CPU.
    pub(super) each_cpu: Option<u32>,
}

/// Entries of a program that can be preempted by itself.
pub(super) const CLAIMED_ENTRIES: u32 = 4;

/// The code of one program in the making.
pub(super) struct Emitter<'a, 'c> {
    pub(super) shared: &'a Shared<'a, 'c>,
    pub(super) program: &'a ir::Program,
    /// Its place in the module, functions counted first.
    number: usize,
    pub(super) frame: Frame,
    numbers: OnceCell<BTreeSet<LocalId>>,
    /// The function that is being filled: the program or a callback.
    pub(super) function: Function<'c>,
    /// Callbacks so far, and those of them for `bpf_loop`.
    pub(super) callbacks: usize,
    /// The callback that does nothing, once there is one.
    pub(super) nothing: Option<Pointer<'c>>,
    /// Loops through `bpf_loop` so far; those in copies of a loop's body are the same ones.
    pub(super) ranges: usize,
    /// Checked indices of the current statement, and the bytes that they add:
    /// `a[i] = a[i] + 1` checks once.
    pub(super) indices: Vec<(ir::Index, Word<'c>)>,
}

/// A function in the making.
pub(super) struct Function<'c> {
    pub(super) value: FunctionValue<'c>,
    pub(super) scope: Scope<'c>,
    /// Holds the allocations; ends in a jump to what follows.
    entry: Block<'c>,
    start: Block<'c>,
    pub(super) exit: Exit<'c>,
    pub(super) loops: Vec<Target<'c>>,
    /// Only in a program itself.
    pub(super) context: Option<Pointer<'c>>,
    pub(super) scratch: Option<Pointer<'c>>,
    pub(super) frame: Option<Pointer<'c>>,
    pub(super) locals: Vec<Option<Pointer<'c>>>,
    pub(super) slots: Vec<Option<Pointer<'c>>>,
    pub(super) ptrs: Vec<Option<Pointer<'c>>>,
}

/// What `Return` does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Exit<'c> {
    /// Stores the result and jumps.
    Program { result: Pointer<'c>, block: Block<'c> },
    /// Leaves a note in the frame and stops the loop.
    Callback,
}

/// Where `Break` and `Continue` go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'c> {
    Blocks {
        next: Block<'c>,
        done: Block<'c>,
    },
    /// Out of the callback, with 1 or 0.
    Callback,
}

/// Whether the same program can run on a CPU while it is preempted there. The
/// kernel disables preemption or refuses nested runs for all other kinds
/// (`bpf_prog_active`, `bpf_prog::active`); uprobes run in the task's context, iterators in that of whoever reads.
pub(super) fn preemptible(kind: ProgramKind) -> bool {
    match kind {
        // A function may be called by any of them.
        ProgramKind::Uprobe
        | ProgramKind::Iter
        | ProgramKind::Packet
        | ProgramKind::Function { .. } => true,
        ProgramKind::Special
        | ProgramKind::Kprobe
        | ProgramKind::Trampoline
        | ProgramKind::Tracepoint
        | ProgramKind::RawTracepoint
        | ProgramKind::BtfTracepoint
        | ProgramKind::PerfEvent => false,
    }
}

/// Adds a program or function to the LLVM module.
pub(super) fn emit(shared: &Shared<'_, '_>, number: usize, program: &ir::Program) {
    let b = &shared.builder;
    let params = program.kind.params();
    let pointer = shared.debug.pointer(None);
    let word = shared.debug.int(8, false);
    let names: Vec<String> = (0..params.unwrap_or(0)).map(|n| format!("p{n}")).collect();
    // A pointer is a word for LLVM, which else would drop the check that the kernel asks for.
    let typed = |number| {
        let lent = program.lent.iter().find(|l| l.typed && l.param == number)?;
        let words = shared.debug.array(word, 8, u64::from(lent.size) / 8);
        Some(shared.debug.pointer(Some(words)))
    };
    let parameters: Vec<_> = match params {
        Some(_) => (0..)
            .zip(&names)
            .map(|(number, name)| (name.as_str(), typed(number).unwrap_or(word), false))
            .collect(),
        None => vec![("ctx", pointer, true)],
    };
    // The kernel verifies a function with external linkage once, one without wherever it
    // is called. Only the latter takes memory on all kernels, and knows what of it was written.
    let once = program.lent.iter().all(|l| l.typed);
    let linkage = if once { Linkage::External } else { Linkage::Internal };
    let function =
        Function::new(shared, program, &program.name, linkage, &parameters, program.span);
    match params {
        // Else it would be a part of its callers.
        Some(_) => {
            let id = inkwell::attributes::Attribute::get_named_enum_kind_id("noinline");
            let attribute = shared.context.create_enum_attribute(id, 0);
            function.value.add_attribute(AttributeLoc::Function, attribute);
        }
        None => function.value.as_global_value().set_section(Some(&program.section)),
    }
    let mut emitter = Emitter {
        shared,
        program,
        number,
        frame: Frame::of(program),
        numbers: OnceCell::new(),
        function,
        callbacks: 0,
        nothing: None,
        ranges: 0,
        indices: Vec::new(),
    };
    let result = emitter.allocate_word("result");
    b.store(result, 8, b.constant(program.result), 8);
    let exit = b.block(emitter.function.value, "exit");
    emitter.function.exit = Exit::Program { result, block: exit };
    if params.is_none() {
        emitter.function.context = Some(emitter.parameter(0));
    }
    emitter.make_frame();
    for number in 0..params.unwrap_or(0) {
        let value = emitter.function.value.get_nth_param(number);
        let value = value.expect("bug: a function lacks a parameter").into_int_value();
        if let Some(lent) = program.lent.iter().find(|l| l.param == number) {
            let pointer = b.to_pointer(value);
            if lent.typed {
                let there = b.block(emitter.function.value, "there");
                b.branch(b.is_null(pointer), exit, there);
                b.continue_in(there);
            }
            emitter.bind(lent.ptr, pointer);
            continue;
        }
        let place = emitter.local(LocalId(number));
        b.store(place, 8, value, 8);
    }
    emitter.block(&program.body);
    b.jump(exit);
    b.continue_in(exit);
    emitter.locate(program.span);
    b.give(b.load(result, 8, false, 8));
    emitter.finish_function();
}

impl<'c> Function<'c> {
    /// Adds a function and leaves the builder at its start. Parameters are
    /// name, type for BTF, and whether they are pointers.
    pub(super) fn new(
        shared: &Shared<'_, 'c>,
        program: &ir::Program,
        name: &str,
        linkage: Linkage,
        parameters: &[(&str, Meta<'c>, bool)],
        span: Span,
    ) -> Function<'c> {
        let word = shared.context.i64_type();
        let pointer = shared.context.ptr_type(AddressSpace::default());
        let types: Vec<BasicMetadataTypeEnum<'c>> =
            parameters.iter().map(|p| if p.2 { pointer.into() } else { word.into() }).collect();
        let value = shared.llvm.add_function(name, word.fn_type(&types, false), Some(linkage));
        // No calls of memset and the like, which BPF does not have; no jump tables, which
        // only the newest kernels load; and no unwinding.
        let attribute = |key: &str, text: &str| shared.context.create_string_attribute(key, text);
        let nounwind = inkwell::attributes::Attribute::get_named_enum_kind_id("nounwind");
        for attribute in [
            attribute("no-builtins", ""),
            attribute("no-jump-tables", "true"),
            shared.context.create_enum_attribute(nounwind, 0),
        ] {
            value.add_attribute(AttributeLoc::Function, attribute);
        }
        let described: Vec<_> = parameters.iter().map(|p| (p.0, p.1)).collect();
        let global = linkage == Linkage::External;
        let scope = shared.debug.function(value, &described, global, span);
        let entry = shared.builder.block(value, "entry");
        let start = shared.builder.block(value, "start");
        shared.builder.move_to(start);
        shared.builder.set_location(shared.debug.location(&scope, span));
        Function {
            value,
            scope,
            entry,
            start,
            exit: Exit::Callback,
            loops: Vec::new(),
            context: None,
            scratch: None,
            frame: None,
            locals: vec![None; program.locals.len()],
            slots: vec![None; program.slots.len()],
            ptrs: vec![None; program.ptrs as usize],
        }
    }
}

impl<'c> Emitter<'_, 'c> {
    /// The current function's pointer parameter.
    pub(super) fn parameter(&self, number: u32) -> Pointer<'c> {
        let value = self.function.value.get_nth_param(number);
        value.expect("bug: a function lacks a parameter").into_pointer_value()
    }

    /// Instructions that follow belong to this place in the script.
    pub(super) fn locate(&self, span: Span) {
        let location = self.shared.debug.location(&self.function.scope, span);
        self.shared.builder.set_location(location);
    }

    /// Runs `make` at the start of the current function.
    pub(super) fn at_entry<T>(&self, make: impl FnOnce(&Builder<'_, 'c>) -> T) -> T {
        let b = &self.shared.builder;
        let here = b.position();
        b.move_to(self.function.entry);
        let made = make(b);
        b.move_to(here);
        made
    }

    pub(super) fn allocate_word(&self, name: &str) -> Pointer<'c> {
        self.at_entry(|b| b.allocate_word(name))
    }

    /// Ends the current function: what `entry` collected leads to the rest.
    pub(super) fn finish_function(&self) {
        let b = &self.shared.builder;
        b.move_to(self.function.entry);
        b.jump(self.function.start);
    }

    /// Allocates what callbacks share and fills in what is known.
    fn make_frame(&mut self) {
        if self.frame.size == 0 {
            return;
        }
        let b = &self.shared.builder;
        let frame = self.at_entry(|b| b.allocate(self.frame.size, 8, "frame"));
        let zero = b.constant(0);
        for offset in self.frame.zeros() {
            b.store(b.offset(frame, offset), 8, zero, 8);
        }
        if let Some(offset) = self.frame.context {
            b.store_pointer(b.offset(frame, offset), self.parameter(0));
        }
        self.function.frame = Some(frame);
    }

    /// Makes the verifier forget what numbers callbacks may change, and what they read, without
    /// changing any. Newer kernels follow callbacks by themselves; there it keeps the states apart
    /// that they go through from growing with everything that ran before (from 3 to 180
    /// thousand instructions, in an ordinary block on Linux 7.2).
    pub(super) fn forget(&self) {
        let words: Vec<u32> =
            self.frame.changing().chain(self.frame.read(self.numbers())).collect();
        if words.is_empty() {
            return;
        }
        let b = &self.shared.builder;
        let unknown = self.unknown_word();
        for offset in words {
            let place = self.in_frame(offset);
            let mixed = b.binary(BinaryOp::Xor, b.load(place, 8, false, 8), unknown);
            b.store(place, 8, b.binary(BinaryOp::Xor, b.hide(mixed), unknown), 8);
        }
    }

    /// The locals that hold numbers.
    pub(super) fn numbers(&self) -> &BTreeSet<LocalId> {
        self.numbers.get_or_init(|| numbers(self.program))
    }

    /// The same word, of which the verifier knows nothing.
    pub(super) fn unknown(&self, word: Word<'c>) -> Word<'c> {
        let b = &self.shared.builder;
        let unknown = self.unknown_word();
        b.binary(BinaryOp::Xor, b.hide(b.binary(BinaryOp::Xor, word, unknown)), unknown)
    }

    /// A cheap word of which the verifier knows nothing.
    fn unknown_word(&self) -> Word<'c> {
        let b = &self.shared.builder;
        match self.shared.losses {
            // Hidden, so that nobody reads it twice: it changes.
            Some(losses) => b.hide(b.load(losses, 8, false, 8)),
            None => b.call(Helper::GetCurrentTask.info().id, &[], Effects::None),
        }
    }

    /// The address of something in the frame.
    pub(super) fn in_frame(&self, offset: u32) -> Pointer<'c> {
        let frame = self.function.frame.expect("bug: a program without a frame");
        self.shared.builder.offset(frame, offset)
    }

    /// Where a local lies.
    pub(super) fn local(&mut self, id: LocalId) -> Pointer<'c> {
        if let Some(offset) = self.frame.local(id) {
            return self.in_frame(offset);
        }
        let number = id.0 as usize;
        if let Some(Some(place)) = self.function.locals.get(number) {
            return *place;
        }
        let name = self.program.locals.get(number).map_or("", |l| l.name.as_str());
        let place = self.at_entry(|b| {
            let place = b.allocate_word(name);
            b.store(place, 8, b.constant(0), 8);
            place
        });
        if let Some(known) = self.function.locals.get_mut(number) {
            *known = Some(place);
        }
        place
    }

    /// The context, untouched.
    pub(super) fn context(&self) -> Pointer<'c> {
        match (self.function.context, self.frame.context) {
            (Some(context), _) => context,
            (None, Some(offset)) => self.shared.builder.load_pointer(self.in_frame(offset)),
            (None, None) => panic!("bug: a callback without a context"),
        }
    }

    /// The program's large temporaries.
    pub(super) fn scratch(&self) -> Pointer<'c> {
        match (self.function.scratch, self.frame.scratch) {
            (Some(scratch), _) => scratch,
            (None, Some(offset)) => self.shared.builder.load_pointer(self.in_frame(offset)),
            (None, None) => panic!("bug: scratch memory is not bound"),
        }
    }

    /// Whether a statement, or one inside it, uses scratch memory.
    fn uses_scratch(&self, stmt: &Stmt) -> bool {
        let mut found = false;
        stmt.all_uses(&mut |u| found |= self.is_scratch(u));
        found
    }

    fn is_scratch(&self, used: Use) -> bool {
        let Use::Slot(slot) = used else { return false };
        let slot = self.program.slots.get(slot.0 as usize);
        slot.is_some_and(|s| matches!(s.home, Home::Scratch { .. }))
    }

    /// Where in a block scratch memory is to be bound: before the first
    /// statement that needs it, unless one arm of a single `If` needs it all,
    /// which then binds it itself. So runs that a predicate ends do not pay.
    pub(super) fn scratch_point(&self, block: &[Stmt]) -> Option<usize> {
        let callback = matches!(self.function.exit, Exit::Callback);
        if callback || self.function.scratch.is_some() {
            return None;
        }
        let mut users = block.iter().enumerate().filter(|s| self.uses_scratch(s.1));
        let (first, stmt) = users.next()?;
        let alone = users.next().is_none();
        let mut own = false;
        stmt.uses(&mut |u| own |= self.is_scratch(u));
        let arms = stmt.blocks().into_iter().filter(|b| b.iter().any(|s| self.uses_scratch(s)));
        // Not in an event's body, which must not be left.
        let branches = matches!(stmt.kind, ir::StmtKind::If { .. } | ir::StmtKind::Lookup { .. });
        let inside = alone && branches && !own && arms.count() == 1;
        (!inside).then_some(first)
    }

    /// Looks up the scratch memory, and claims it if need be. Gives how to
    /// release it: the pointer to the busy word, and the way out from before.
    pub(super) fn bind_scratch(&mut self) -> Bound<'c> {
        let b = &self.shared.builder;
        let scratch = self.shared.scratch.as_ref().expect("bug: no scratch map");
        let first = *scratch.first.get(self.number).expect("bug: a program without scratch");
        let Exit::Program { result, block: exit } = self.function.exit else {
            panic!("bug: scratch memory is bound in a callback");
        };
        let index = self.at_entry(|b| b.allocate(4, 4, "scratch_index"));
        let own = scratch.each_cpu.map(|entries| {
            let cpu = b.call(Helper::GetSmpProcessorId.info().id, &[], Effects::None);
            b.binary(BinaryOp::Mul, cpu, b.constant(entries.into()))
        });
        let entry = |number: u32| match own {
            Some(own) => b.binary(BinaryOp::Add, own, b.constant(number.into())),
            None => b.constant(number.into()),
        };
        let lookup = || {
            let args = [Argument::Pointer(scratch.map), Argument::Pointer(index)];
            let entry = b.call_pointer(helpers::MAP_LOOKUP_ELEM, &args);
            let found = b.block(self.function.value, "scratch");
            b.branch(b.is_null(entry), exit, found);
            b.continue_in(found);
            b.hide_pointer(entry)
        };
        b.store(index, 4, entry(first), 4);
        let mut bound = Bound { release: None };
        let bound_entry = match preemptible(self.program.kind) {
            false => lookup(),
            true => {
                let owned = self.allocate_word("scratch_entry");
                let ready = b.block(self.function.value, "claimed");
                for number in 0..CLAIMED_ENTRIES {
                    if number > 0 {
                        b.store(index, 4, entry(first + number), 4);
                    }
                    let found = lookup();
                    let busy = b.offset(found, scratch.busy);
                    b.atomic_add(busy, 8, b.constant(1));
                    let claims = b.load(busy, 8, false, 8);
                    let alone = b.compare(BinaryOp::Eq, claims, b.constant(1));
                    let mine = b.block(self.function.value, "mine");
                    let taken = b.block(self.function.value, "taken");
                    b.branch(alone.expect("bug: it is a comparison"), mine, taken);
                    b.continue_in(mine);
                    b.store_pointer(owned, found);
                    b.jump(ready);
                    b.continue_in(taken);
                    b.atomic_add(busy, 8, b.constant(-1));
                }
                b.jump(exit);
                b.continue_in(ready);
                let claimed = b.load_pointer(owned);
                let busy = b.offset(claimed, scratch.busy);
                let release = b.block(self.function.value, "release");
                let here = b.position();
                b.continue_in(release);
                b.atomic_add(busy, 8, b.constant(-1));
                b.jump(exit);
                b.continue_in(here);
                bound.release = Some((busy, self.function.exit));
                self.function.exit = Exit::Program { result, block: release };
                claimed
            }
        };
        self.function.scratch = Some(bound_entry);
        if let Some(offset) = self.frame.scratch {
            b.store_pointer(self.in_frame(offset), bound_entry);
        }
        bound
    }

    /// Ends what [`Emitter::bind_scratch`] began, where the block ends.
    pub(super) fn release_scratch(&mut self, bound: &Bound<'c>) {
        self.function.scratch = None;
        if let Some((busy, exit)) = bound.release {
            let b = &self.shared.builder;
            b.atomic_add(busy, 8, b.constant(-1));
            self.function.exit = exit;
        }
    }
}

/// How to give scratch memory back.
pub(super) struct Bound<'c> {
    release: Option<(Pointer<'c>, Exit<'c>)>,
}
