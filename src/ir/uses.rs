//! What a statement touches: the walks over statements, expressions and
//! places that code generation and the verifier share.

use std::collections::BTreeSet;

use super::{
    Arg, Base, Expr, LocalId, MapId, Place, PtrId, RodataId, Rounds, SlotId, Stmt, StmtKind,
};

/// One use, by the statement itself or in its expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Read(LocalId),
    Write(LocalId),
    Slot(SlotId),
    Ptr(PtrId),
    /// The statement binds the pointer for its inner statements.
    Bind(PtrId),
    Rodata(RodataId),
    Map(MapId),
    Context,
}

impl Stmt {
    /// The blocks inside a statement, in the order in which they stand.
    pub fn blocks(&self) -> [&[Stmt]; 2] {
        match &self.kind {
            StmtKind::If { then, els, .. } => [then, els],
            StmtKind::Loop { body, .. }
            | StmtKind::ForRange { body, .. }
            | StmtKind::ForMap { body, .. }
            | StmtKind::Borrow { body, .. } => [body, &[]],
            StmtKind::Lookup { found, missing, .. } | StmtKind::Acquire { found, missing, .. } => {
                [found, missing]
            }
            StmtKind::Event { body, lost, .. } => [body, lost],
            StmtKind::Set { .. }
            | StmtKind::Store { .. }
            | StmtKind::Copy { .. }
            | StmtKind::Zero { .. }
            | StmtKind::AtomicAdd { .. }
            | StmtKind::Eval(_)
            | StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Return(_) => [&[], &[]],
        }
    }

    /// How often the body of a plain loop stands in the code; of anything else, nothing.
    pub fn copies(&self) -> Option<u32> {
        match self.kind {
            StmtKind::Loop { copies, .. }
            | StmtKind::ForRange { how: Rounds::Plain { copies }, .. } => Some(copies),
            _ => None,
        }
    }

    /// Uses by the statement, without those in its [`Stmt::blocks`]; reads
    /// come before the writes that they lead to.
    pub fn uses(&self, each: &mut dyn FnMut(Use)) {
        match &self.kind {
            StmtKind::Set { local, value } => {
                value.uses(each);
                each(Use::Write(*local));
            }
            StmtKind::Store { to, value, .. } | StmtKind::AtomicAdd { to, value, .. } => {
                value.uses(each);
                to.uses(each);
            }
            StmtKind::Copy { to, from, .. } => {
                from.uses(each);
                to.uses(each);
            }
            StmtKind::Zero { to, .. } => to.uses(each),
            StmtKind::Eval(value) | StmtKind::Return(value) => value.uses(each),
            StmtKind::If { cond, .. } => cond.uses(each),
            StmtKind::ForRange { index, from, to, .. } => {
                from.uses(each);
                to.uses(each);
                each(Use::Write(*index));
            }
            StmtKind::ForMap { map, key, value, .. } => {
                each(Use::Map(*map));
                each(Use::Bind(*key));
                each(Use::Bind(*value));
            }
            StmtKind::Lookup { map, key, cpu, value, .. } => {
                each(Use::Map(*map));
                key.uses(each);
                if let Some(cpu) = cpu {
                    cpu.uses(each);
                }
                each(Use::Bind(*value));
            }
            StmtKind::Acquire { arg, value, .. } => {
                arg.uses(each);
                each(Use::Bind(*value));
            }
            StmtKind::Borrow { args, value, .. } => {
                args.iter().for_each(|arg| arg.uses(each));
                each(Use::Bind(*value));
            }
            StmtKind::Event { map, record, .. } => {
                each(Use::Map(*map));
                each(Use::Bind(*record));
            }
            StmtKind::Loop { .. } | StmtKind::Break | StmtKind::Continue => {}
        }
    }

    /// Uses by the statement and everything inside it.
    pub fn all_uses(&self, each: &mut dyn FnMut(Use)) {
        self.uses(each);
        for block in self.blocks() {
            for stmt in block {
                stmt.all_uses(each);
            }
        }
    }
}

impl Stmt {
    /// The statement and everything inside it, outer ones first.
    pub fn each_stmt(&mut self, each: &mut dyn FnMut(&mut Stmt)) {
        each(self);
        for block in self.blocks_mut() {
            for stmt in block {
                stmt.each_stmt(each);
            }
        }
    }

    /// Every expression in the statement and inside it, inner ones first.
    pub fn each_expr(&mut self, each: &mut dyn FnMut(&mut Expr)) {
        match &mut self.kind {
            StmtKind::Set { value, .. } | StmtKind::Eval(value) | StmtKind::Return(value) => {
                value.each_expr(each);
            }
            StmtKind::Store { to, value, .. } | StmtKind::AtomicAdd { to, value, .. } => {
                value.each_expr(each);
                to.each_expr(each);
            }
            StmtKind::Copy { to, from, .. } => {
                from.each_expr(each);
                to.each_expr(each);
            }
            StmtKind::Zero { to, .. } => to.each_expr(each),
            StmtKind::If { cond, .. } => cond.each_expr(each),
            StmtKind::ForRange { from, to, .. } => {
                from.each_expr(each);
                to.each_expr(each);
            }
            StmtKind::Lookup { key, cpu, .. } => {
                key.each_expr(each);
                if let Some(cpu) = cpu {
                    cpu.each_expr(each);
                }
            }
            StmtKind::Acquire { arg, .. } => arg.each_expr(each),
            StmtKind::Borrow { args, .. } => args.iter_mut().for_each(|arg| arg.each_expr(each)),
            StmtKind::ForMap { .. }
            | StmtKind::Event { .. }
            | StmtKind::Loop { .. }
            | StmtKind::Break
            | StmtKind::Continue => {}
        }
        for block in self.blocks_mut() {
            for stmt in block {
                stmt.each_expr(each);
            }
        }
    }

    /// [`Stmt::blocks`], to be changed.
    pub fn blocks_mut(&mut self) -> [&mut [Stmt]; 2] {
        match &mut self.kind {
            StmtKind::If { then, els, .. } => [then, els],
            StmtKind::Loop { body, .. }
            | StmtKind::ForRange { body, .. }
            | StmtKind::ForMap { body, .. }
            | StmtKind::Borrow { body, .. } => [body, &mut []],
            StmtKind::Lookup { found, missing, .. } | StmtKind::Acquire { found, missing, .. } => {
                [found, missing]
            }
            StmtKind::Event { body, lost, .. } => [body, lost],
            StmtKind::Set { .. }
            | StmtKind::Store { .. }
            | StmtKind::Copy { .. }
            | StmtKind::Zero { .. }
            | StmtKind::AtomicAdd { .. }
            | StmtKind::Eval(_)
            | StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Return(_) => [&mut [], &mut []],
        }
    }
}

impl Place {
    fn each_expr(&mut self, each: &mut dyn FnMut(&mut Expr)) {
        if let Some(index) = &mut self.index {
            index.value.each_expr(each);
        }
    }

    /// Uses of the base and in the index.
    pub fn uses(&self, each: &mut dyn FnMut(Use)) {
        match self.base {
            Base::Slot(slot) => each(Use::Slot(slot)),
            Base::Ptr(ptr) => each(Use::Ptr(ptr)),
            Base::Context => each(Use::Context),
            Base::Rodata(rodata) => each(Use::Rodata(rodata)),
            Base::Losses | Base::Params => {}
        }
        if let Some(index) = &self.index {
            index.value.uses(each);
        }
    }
}

impl Expr {
    fn each_expr(&mut self, each: &mut dyn FnMut(&mut Expr)) {
        match self {
            Expr::Const(_) | Expr::Param(_) | Expr::Reloc(_) | Expr::Local(_) => {}
            Expr::MapAddress(_) | Expr::MapLength(_) => {}
            Expr::Binary(_, left, right) => {
                left.each_expr(each);
                right.each_expr(each);
            }
            Expr::Extend { value, .. } | Expr::ByteSwap { value, .. } | Expr::Unknown(value) => {
                value.each_expr(each);
            }
            Expr::Select { cond, then, els } => {
                cond.each_expr(each);
                then.each_expr(each);
                els.each_expr(each);
            }
            Expr::Load { from, .. } | Expr::Address(from) => from.each_expr(each),
            Expr::LoadTyped { pointer, .. } => pointer.each_expr(each),
            Expr::CallFunction { args, .. } | Expr::CallForeign { args, .. } => {
                for arg in args {
                    arg.each_expr(each);
                }
            }
            Expr::Call { args, .. } => {
                for arg in args {
                    match arg {
                        Arg::Value(value) | Arg::Size { value, .. } => value.each_expr(each),
                        Arg::Address(place) => place.each_expr(each),
                        Arg::Map(_) | Arg::Context => {}
                    }
                }
            }
        }
        each(self);
    }

    /// Uses in the expression.
    pub fn uses(&self, each: &mut dyn FnMut(Use)) {
        match self {
            Expr::Const(_) | Expr::Param(_) | Expr::Reloc(_) => {}
            Expr::MapAddress(map) | Expr::MapLength(map) => each(Use::Map(*map)),
            Expr::Local(local) => each(Use::Read(*local)),
            Expr::Binary(_, left, right) => {
                left.uses(each);
                right.uses(each);
            }
            Expr::Extend { value, .. } | Expr::ByteSwap { value, .. } | Expr::Unknown(value) => {
                value.uses(each);
            }
            Expr::Select { cond, then, els } => {
                cond.uses(each);
                then.uses(each);
                els.uses(each);
            }
            Expr::Load { from, .. } => from.uses(each),
            Expr::LoadTyped { pointer, .. } => pointer.uses(each),
            Expr::Address(place) => place.uses(each),
            Expr::CallFunction { args, .. } | Expr::CallForeign { args, .. } => {
                for arg in args {
                    arg.uses(each);
                }
            }
            Expr::Call { args, .. } => {
                for arg in args {
                    match arg {
                        Arg::Value(value) | Arg::Size { value, .. } => value.uses(each),
                        Arg::Address(place) => place.uses(each),
                        Arg::Map(map) => each(Use::Map(*map)),
                        Arg::Context => each(Use::Context),
                    }
                }
            }
        }
    }
}

/// Locals that a block writes.
pub fn written(block: &[Stmt]) -> BTreeSet<LocalId> {
    let mut written = BTreeSet::new();
    for stmt in block {
        stmt.all_uses(&mut |used| {
            if let Use::Write(local) = used {
                written.insert(local);
            }
        });
    }
    written
}

/// Locals that a block may read before it writes them: what it takes over from
/// what ran before, and a loop from one round to the next.
pub fn taken_over(block: &[Stmt]) -> BTreeSet<LocalId> {
    let mut taken = BTreeSet::new();
    walk(block, BTreeSet::new(), &mut taken);
    taken
}

/// Adds what a block takes over; gives the locals that are written where it
/// ends, or nothing if it does not end there.
fn walk(
    block: &[Stmt],
    mut written: BTreeSet<LocalId>,
    taken: &mut BTreeSet<LocalId>,
) -> Option<BTreeSet<LocalId>> {
    for stmt in block {
        let mut set = Vec::new();
        stmt.uses(&mut |used| match used {
            Use::Read(local) if !written.contains(&local) => {
                taken.insert(local);
            }
            Use::Write(local) => set.push(local),
            _ => {}
        });
        match &stmt.kind {
            StmtKind::Break | StmtKind::Continue | StmtKind::Return(_) => return None,
            StmtKind::If { .. }
            | StmtKind::Lookup { .. }
            | StmtKind::Acquire { .. }
            | StmtKind::Event { .. } => {
                let [one, other] = stmt.blocks().map(|b| walk(b, written.clone(), taken));
                written = match (one, other) {
                    (Some(one), Some(other)) => one.intersection(&other).copied().collect(),
                    (Some(only), None) | (None, Some(only)) => only,
                    (None, None) => return None,
                };
            }
            StmtKind::Borrow { body, .. } => written = walk(body, written, taken)?,
            StmtKind::Loop { .. } | StmtKind::ForRange { .. } | StmtKind::ForMap { .. } => {
                // A loop may not run at all; its own variable is set for its body.
                let mut inside = written.clone();
                inside.extend(set.iter().copied());
                for body in stmt.blocks() {
                    walk(body, inside.clone(), taken);
                }
                continue;
            }
            StmtKind::Set { .. }
            | StmtKind::Store { .. }
            | StmtKind::Copy { .. }
            | StmtKind::Zero { .. }
            | StmtKind::AtomicAdd { .. }
            | StmtKind::Eval(_) => {}
        }
        written.extend(set);
    }
    Some(written)
}
