//! What the callbacks of a program share with it.
//!
//! The body of a loop that runs through `bpf_loop` or `bpf_for_each_map_elem`
//! is a function of its own, which gets one pointer. It points to the frame:
//! a struct on the program's stack with everything that more than one of these
//! functions use. All callbacks of a program, nested ones too, get the same
//! frame. A program without callbacks has none, and its locals stay in
//! registers.
//!
//! Kernels before 6.7 verify a callback as if it ran once, from what is known
//! where the loop starts: they would take a counter that starts as zero for
//! zero in every round. So what callbacks may change lies together, at the end
//! of the frame, and is made unknown before every loop; what they only read
//! comes first, and pointers, since unknown ones would be useless.

use std::collections::{BTreeMap, BTreeSet};

use super::spill::typed_locals;
use crate::ir::{
    Expr, Home, LocalId, Program, PtrId, Rounds, Slot, SlotId, Stmt, StmtKind, Use, taken_over,
};

/// Offsets of the shared things; [`Frame::size`] is zero if there are none.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) size: u32,
    locals: BTreeMap<LocalId, u32>,
    slots: BTreeMap<SlotId, u32>,
    ptrs: BTreeMap<PtrId, u32>,
    /// The context pointer.
    pub(super) context: Option<u32>,
    /// The pointer to the program's scratch memory.
    pub(super) scratch: Option<u32>,
    /// A word that is set by `Return` in a callback, then the result.
    pub(super) leave: Option<u32>,
    /// Where each `bpf_loop` starts counting, in the order of the loops; nothing
    /// for a constant.
    starts: Vec<Option<u32>>,
    /// Where the part begins that callbacks may change.
    pub(super) numbers: u32,
}

/// A function that the program becomes: 0 is the program, the others its
/// callbacks in the order in which they stand.
type Function = usize;

/// Who uses what.
#[derive(Default)]
struct Usage {
    functions: Function,
    /// Whether each `bpf_loop` starts at something that is not constant.
    starts: Vec<bool>,
    locals: BTreeMap<LocalId, BTreeSet<Function>>,
    slots: BTreeMap<SlotId, BTreeSet<Function>>,
    ptrs: BTreeMap<PtrId, BTreeSet<Function>>,
    /// Locals that a callback may read before it has written them in the same
    /// round, so that their values live across rounds.
    kept: BTreeSet<LocalId>,
    /// Locals that a callback writes.
    changed: BTreeSet<LocalId>,
    context: bool,
    leave: bool,
}

impl Frame {
    /// The frame of a program.
    pub(super) fn of(program: &Program) -> Frame {
        let mut usage = Usage::default();
        usage.block(&program.body, 0);
        if usage.functions == 0 {
            return Frame::default();
        }
        let callback = |users: &BTreeSet<Function>| users.iter().any(|&f| f != 0);
        let mut frame = Frame::default();
        for (&ptr, users) in &usage.ptrs {
            if users.len() > 1 {
                let offset = frame.add(8, 8);
                frame.ptrs.insert(ptr, offset);
            }
        }
        for &variable in &usage.starts {
            let offset = variable.then(|| frame.add(8, 8));
            frame.starts.push(offset);
        }
        if usage.context {
            frame.context = Some(frame.add(8, 8));
        }
        let shared_slots = || {
            let slots = usage.slots.iter().filter(|s| callback(s.1));
            slots.filter_map(|(&id, _)| Some((id, program.slots.get(id.0 as usize)?)))
        };
        if shared_slots().any(|(_, slot)| slot.home != Home::Stack) {
            frame.scratch = Some(frame.add(8, 8));
        }
        let typed = typed_locals(program);
        let shared_locals = usage.locals.iter().filter(|(local, users)| {
            callback(users) && (users.len() > 1 || usage.kept.contains(local))
        });
        let (stable, numbers): (Vec<_>, Vec<_>) = shared_locals
            .map(|(&local, _)| local)
            .partition(|l| typed.contains(l) || !usage.changed.contains(l));
        for local in stable {
            let offset = frame.add(8, 8);
            frame.locals.insert(local, offset);
        }
        frame.numbers = frame.size;
        if usage.leave {
            frame.leave = Some(frame.add(16, 8));
        }
        for local in numbers {
            let offset = frame.add(8, 8);
            frame.locals.insert(local, offset);
        }
        for (id, slot) in shared_slots().filter(|(_, slot)| slot.home == Home::Stack) {
            let offset = frame.add(slot.size, slot_align(slot));
            frame.slots.insert(id, offset);
        }
        frame.size = frame.size.next_multiple_of(8);
        frame
    }

    /// Bytes of stack that the frame of a program and the slots beside it take;
    /// nothing without callbacks.
    pub(super) fn stack(program: &Program) -> u32 {
        let frame = Frame::of(program);
        let beside = (0..)
            .zip(&program.slots)
            .filter(|(id, slot)| slot.home == Home::Stack && frame.slot(SlotId(*id)).is_none());
        match frame.size {
            0 => 0,
            size => beside.fold(size, |size, (_, slot)| {
                size.next_multiple_of(slot_align(slot)).saturating_add(slot.size)
            }),
        }
    }

    fn add(&mut self, size: u32, align: u32) -> u32 {
        let offset = self.size.next_multiple_of(align);
        self.size = offset + size;
        offset
    }

    /// Where a local lies, if it is shared.
    pub(super) fn local(&self, local: LocalId) -> Option<u32> {
        self.locals.get(&local).copied()
    }

    /// Words that must have a value from the start: locals are zero, and what
    /// is made unknown is read for that.
    pub(super) fn zeros(&self) -> impl Iterator<Item = u32> {
        let locals = self.locals.values().copied().filter(|&at| at < self.numbers);
        locals.chain(self.changing())
    }

    /// The words that callbacks may change.
    pub(super) fn changing(&self) -> impl Iterator<Item = u32> + use<> {
        (self.numbers..self.size).step_by(8)
    }

    /// The words of these locals, if callbacks only read them.
    pub(super) fn read(&self, locals: &BTreeSet<LocalId>) -> impl Iterator<Item = u32> {
        let before = self.numbers;
        let places = self.locals.iter().filter(|(local, _)| locals.contains(local));
        places.map(|(_, &at)| at).filter(move |&at| at < before)
    }

    /// Where a slot lies, if it is shared.
    pub(super) fn slot(&self, slot: SlotId) -> Option<u32> {
        self.slots.get(&slot).copied()
    }

    /// Where a bound pointer lies, if it is shared.
    pub(super) fn ptr(&self, ptr: PtrId) -> Option<u32> {
        self.ptrs.get(&ptr).copied()
    }

    /// Where the start of the `number`th `bpf_loop` lies, if it is not constant.
    pub(super) fn start(&self, number: usize) -> Option<u32> {
        *self.starts.get(number).expect("bug: a loop that the frame does not know")
    }
}

/// Alignment of a slot on the stack: as asked, and enough for words if it has
/// any, since stack accesses must be aligned.
pub(super) fn slot_align(slot: &Slot) -> u32 {
    let natural = match slot.size {
        0 | 1 => 1,
        2 | 3 => 2,
        4..=7 => 4,
        _ => 8,
    };
    slot.align.max(natural)
}

/// Whether a block ends the program somewhere inside.
pub(super) fn returns(block: &[Stmt]) -> bool {
    block
        .iter()
        .any(|s| matches!(s.kind, StmtKind::Return(_)) || s.blocks().into_iter().any(returns))
}

impl Usage {
    /// Notes the uses of a block in `function`.
    fn block(&mut self, block: &[Stmt], function: Function) {
        for stmt in block {
            self.stmt(stmt, function);
        }
    }

    fn stmt(&mut self, stmt: &Stmt, function: Function) {
        let callback = match &stmt.kind {
            StmtKind::ForRange { how, .. } => *how == Rounds::Callback,
            StmtKind::ForMap { .. } => true,
            StmtKind::Set { .. }
            | StmtKind::Store { .. }
            | StmtKind::Copy { .. }
            | StmtKind::Zero { .. }
            | StmtKind::AtomicAdd { .. }
            | StmtKind::Eval(_)
            | StmtKind::If { .. }
            | StmtKind::Loop { .. }
            | StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Return(_)
            | StmtKind::Lookup { .. }
            | StmtKind::Acquire { .. }
            | StmtKind::Borrow { .. }
            | StmtKind::Event { .. } => false,
        };
        if callback {
            self.callback(stmt, function);
            return;
        }
        stmt.uses(&mut |u| self.note(u, function));
        if matches!(stmt.kind, StmtKind::Return(_)) && function != 0 {
            self.leave = true;
        }
        for block in stmt.blocks() {
            self.block(block, function);
        }
    }

    /// A loop whose body is a function of its own.
    fn callback(&mut self, stmt: &Stmt, function: Function) {
        self.functions += 1;
        let inner = self.functions;
        let [body, _] = stmt.blocks();
        let mut kept = taken_over(body);
        if let StmtKind::ForRange { index, from, .. } = &stmt.kind {
            self.starts.push(!matches!(from, Expr::Const(_)));
            kept.remove(index);
        }
        self.kept.append(&mut kept);
        // What the loop binds and writes, it does in the callback.
        stmt.uses(&mut |u| match u {
            Use::Write(_) | Use::Bind(_) => self.note(u, inner),
            Use::Read(_)
            | Use::Slot(_)
            | Use::Ptr(_)
            | Use::Rodata(_)
            | Use::Map(_)
            | Use::Context => self.note(u, function),
        });
        self.block(body, inner);
    }

    fn note(&mut self, used: Use, function: Function) {
        match used {
            Use::Read(local) => {
                self.locals.entry(local).or_default().insert(function);
            }
            Use::Write(local) => {
                if function != 0 {
                    self.changed.insert(local);
                }
                self.locals.entry(local).or_default().insert(function);
            }
            Use::Slot(slot) => {
                self.slots.entry(slot).or_default().insert(function);
            }
            Use::Ptr(ptr) | Use::Bind(ptr) => {
                self.ptrs.entry(ptr).or_default().insert(function);
            }
            Use::Context => self.context |= function != 0,
            Use::Rodata(_) | Use::Map(_) => {}
        }
    }
}
