//! What the callbacks of a program share with it.
//!
//! The body of a loop that runs through `bpf_loop` or `bpf_for_each_map_elem`
//! is a function of its own, which gets one pointer. It points to the frame:
//! a struct on the program's stack with everything that more than one of these
//! functions use. All callbacks of a program, nested ones too, get the same
//! frame. A program without callbacks has none, and its locals stay in
//! registers.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Expr, Home, LocalId, Program, PtrId, Slot, SlotId, Stmt, StmtKind, Use};

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
    context: bool,
    leave: bool,
}

impl Frame {
    /// The frame of a program.
    pub(super) fn of(program: &Program) -> Frame {
        let mut usage = Usage::default();
        usage.block(&program.body, 0, &mut BTreeSet::new());
        if usage.functions == 0 {
            return Frame::default();
        }
        let callback = |users: &BTreeSet<Function>| users.iter().any(|&f| f != 0);
        let mut frame = Frame::default();
        if usage.leave {
            frame.leave = Some(frame.add(16, 8));
        }
        for (&local, users) in &usage.locals {
            if callback(users) && (users.len() > 1 || usage.kept.contains(&local)) {
                let offset = frame.add(8, 8);
                frame.locals.insert(local, offset);
            }
        }
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
        for (&id, users) in &usage.slots {
            let Some(slot) = program.slots.get(id.0 as usize) else { continue };
            match slot.home {
                Home::Stack if callback(users) => {
                    let offset = frame.add(slot.size, slot_align(slot));
                    frame.slots.insert(id, offset);
                }
                Home::Scratch { .. } if callback(users) && frame.scratch.is_none() => {
                    frame.scratch = Some(frame.add(8, 8));
                }
                Home::Stack | Home::Scratch { .. } => {}
            }
        }
        frame.size = frame.size.next_multiple_of(8);
        frame
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

    /// Shared locals; they start as zero.
    pub(super) fn locals(&self) -> impl Iterator<Item = u32> {
        self.locals.values().copied()
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
    /// Notes the uses of a block in `function`; `written` are the locals that
    /// this round has surely written.
    fn block(&mut self, block: &[Stmt], function: Function, written: &mut BTreeSet<LocalId>) {
        for stmt in block {
            self.stmt(stmt, function, written);
        }
    }

    fn stmt(&mut self, stmt: &Stmt, function: Function, written: &mut BTreeSet<LocalId>) {
        let callback = match &stmt.kind {
            StmtKind::ForRange { callback, .. } => *callback,
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
            | StmtKind::Event { .. } => false,
        };
        if callback {
            self.callback(stmt, function, written);
            return;
        }
        stmt.uses(&mut |u| self.note(u, function, written));
        if matches!(stmt.kind, StmtKind::Return(_)) && function != 0 {
            self.leave = true;
        }
        let [first, second] = stmt.blocks();
        let (mut one, mut two) = (written.clone(), written.clone());
        self.block(first, function, &mut one);
        self.block(second, function, &mut two);
        // A loop's body may not run at all; of two arms, one does.
        if matches!(
            stmt.kind,
            StmtKind::If { .. } | StmtKind::Lookup { .. } | StmtKind::Event { .. }
        ) {
            *written = one.intersection(&two).copied().collect();
        }
    }

    /// A loop whose body is a function of its own.
    fn callback(&mut self, stmt: &Stmt, function: Function, written: &mut BTreeSet<LocalId>) {
        self.functions += 1;
        let inner = self.functions;
        let mut fresh = BTreeSet::new();
        if let StmtKind::ForRange { from, .. } = &stmt.kind {
            self.starts.push(!matches!(from, Expr::Const(_)));
        }
        // What the loop binds and writes, it does in the callback.
        stmt.uses(&mut |u| match u {
            Use::Write(_) | Use::Bind(_) => self.note(u, inner, &mut fresh),
            Use::Read(_)
            | Use::Slot(_)
            | Use::Ptr(_)
            | Use::Rodata(_)
            | Use::Map(_)
            | Use::Context => self.note(u, function, written),
        });
        let [body, _] = stmt.blocks();
        self.block(body, inner, &mut fresh);
    }

    fn note(&mut self, used: Use, function: Function, written: &mut BTreeSet<LocalId>) {
        match used {
            Use::Read(local) => {
                if !written.contains(&local) {
                    self.kept.insert(local);
                }
                self.locals.entry(local).or_default().insert(function);
            }
            Use::Write(local) => {
                written.insert(local);
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
