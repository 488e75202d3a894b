//! Which locals hold numbers, as the kernel's verifier sees it, and which may hold
//! pointers that it knows: those allow few operations, and lose their type by others.

use std::collections::BTreeSet;

use crate::ir::{
    Base, BinaryOp, Expr, Helper, LocalId, Place, Program, ProgramKind, Stmt, StmtKind,
};

/// The locals of a program that hold nothing but numbers.
pub(super) fn numbers(program: &Program) -> BTreeSet<LocalId> {
    let mut values = Vec::new();
    for stmt in &program.body {
        values_of(stmt, &mut values);
    }
    let mut numbers: BTreeSet<LocalId> = (0..).map(LocalId).take(program.locals.len()).collect();
    let known = |local: &LocalId| program.locals.get(local.0 as usize).is_some_and(|l| l.number);
    values.retain(|(local, _)| !known(local));
    loop {
        let before = numbers.len();
        for (local, value) in &values {
            if may_be_pointer(value, program, &numbers) {
                numbers.remove(local);
            }
        }
        if numbers.len() == before {
            return numbers;
        }
    }
}

fn values_of<'p>(stmt: &'p Stmt, into: &mut Vec<(LocalId, &'p Expr)>) {
    if let StmtKind::Set { local, value } = &stmt.kind {
        into.push((*local, value));
    }
    for block in stmt.blocks() {
        for stmt in block {
            values_of(stmt, into);
        }
    }
}

fn may_be_pointer(expr: &Expr, program: &Program, numbers: &BTreeSet<LocalId>) -> bool {
    let may = |expr: &Expr| may_be_pointer(expr, program, numbers);
    match expr {
        Expr::Local(local) => !numbers.contains(local),
        Expr::Binary(BinaryOp::Add | BinaryOp::Sub, left, right) => may(left) || may(right),
        Expr::Select { then, els, .. } => may(then) || may(els),
        Expr::Load { from: Place { base, .. }, size: 8, .. } => match base {
            Base::Slot(_) => true,
            Base::Context => has_typed_context(program.kind),
            Base::Ptr(_) | Base::Rodata(_) | Base::Losses | Base::Params => false,
        },
        Expr::LoadTyped { size: 8, .. } => true,
        Expr::Address(_) | Expr::MapAddress(_) | Expr::CallForeign { .. } => true,
        Expr::Call { helper: Helper::GetCurrentTaskBtf | Helper::TaskPtRegs, .. } => true,
        Expr::Const(_)
        | Expr::Binary(..)
        | Expr::Extend { .. }
        | Expr::Unknown(_)
        | Expr::ByteSwap { .. }
        | Expr::Load { .. }
        | Expr::LoadTyped { .. }
        | Expr::Call { .. }
        | Expr::MapLength(_)
        | Expr::CallFunction { .. }
        | Expr::Param(_)
        | Expr::Reloc(_) => false,
    }
}

/// Whether words of the context of such programs can be pointers.
fn has_typed_context(kind: ProgramKind) -> bool {
    match kind {
        ProgramKind::Trampoline
        | ProgramKind::BtfTracepoint
        | ProgramKind::Packet
        | ProgramKind::Iter => true,
        ProgramKind::Special
        | ProgramKind::Kprobe
        | ProgramKind::Uprobe
        | ProgramKind::Tracepoint
        | ProgramKind::RawTracepoint
        | ProgramKind::PerfEvent
        | ProgramKind::Function { .. } => false,
    }
}
