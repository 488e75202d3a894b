//! What happens when a program needs more stack than there is.
//!
//! Values that are alive at the same time take registers and then stack, 512
//! bytes of it. Only LLVM knows how much that is in the end (and `depth`, with
//! what the program calls). If it is too much, the program is rewritten, step
//! by step: its slots move from the stack to scratch memory, then its variables
//! do. That costs a little time per run, in programs that hardly anyone writes.

use std::collections::BTreeSet;

use super::frame::Frame;
use crate::ir::{
    Arg, Expr, Helper, Home, LocalId, Module, Place, Program, Rounds, Slot, SlotId, Stmt, StmtKind,
    Use,
};

/// How often a module can be relieved.
pub(super) const STEPS: usize = 2;

/// Stack that slots and the frame may take in a program with callbacks. A
/// callback's own values come on top of that, which the kernel adds up and
/// LLVM does not see.
const BESIDE_CALLBACKS: u32 = 256;

/// Relieves the programs whose callbacks would have too little stack. Gives
/// nothing if there are none.
pub(super) fn make_room(module: &Module) -> Option<Module> {
    let crowded = |program: &Program| Frame::stack(program) > BESIDE_CALLBACKS;
    if !module.bodies().any(crowded) {
        return None;
    }
    let mut module = module.clone();
    for step in 0..STEPS {
        let all = module.bodies_mut();
        for program in all.filter(|p| crowded(p)) {
            relieve_program(program, step);
        }
    }
    Some(module)
}

/// Whether bodies of loops stand in the code more than once.
pub(super) fn has_copies(module: &Module) -> bool {
    fn any(block: &[Stmt]) -> bool {
        let copied = |stmt: &Stmt| stmt.copies().is_some_and(|n| n > 1);
        block.iter().any(|stmt| copied(stmt) || stmt.blocks().into_iter().any(any))
    }
    module.bodies().any(|program| any(&program.body))
}

/// Lets bodies of loops stand in the code once.
pub(super) fn without_copies(module: &mut Module) {
    let once = &mut |stmt: &mut Stmt| {
        if let StmtKind::Loop { copies, .. }
        | StmtKind::ForRange { how: Rounds::Plain { copies }, .. } = &mut stmt.kind
        {
            *copies = 1;
        }
    };
    for program in module.bodies_mut() {
        program.body.iter_mut().for_each(|stmt| stmt.each_stmt(once));
    }
}

/// The functions that LLVM's errors say take more stack than one may.
pub(super) fn too_large(errors: &str) -> Vec<String> {
    let lines = errors.lines().filter(|l| l.contains("stack limit"));
    let name = |line: &str| line.split_once("in function ")?.1.split(' ').next().map(str::to_owned);
    lines.filter_map(name).collect()
}

/// Takes the next step for the programs that these functions are, or are callbacks of. Gives
/// false if there are none.
pub(super) fn relieve(module: &mut Module, functions: &[String], step: usize) -> bool {
    let mut found = false;
    for program in module.bodies_mut() {
        let callbacks = format!("{}_loop", program.name);
        if functions.iter().any(|f| *f == program.name || f.starts_with(&callbacks)) {
            found = true;
            relieve_program(program, step);
        }
    }
    found
}

fn relieve_program(program: &mut Program, step: usize) {
    match step {
        0 => move_slots(program),
        _ => move_locals(program),
    }
}

/// The first free offset in the program's scratch memory.
fn scratch_end(program: &Program) -> u32 {
    let ends = program.slots.iter().filter_map(|slot| match slot.home {
        Home::Scratch { offset } => Some(offset + slot.size),
        Home::Stack => None,
    });
    ends.max().unwrap_or(0).next_multiple_of(8)
}

fn move_slots(program: &mut Program) {
    let mut offset = scratch_end(program);
    for slot in program.slots.iter_mut().filter(|s| s.home == Home::Stack) {
        slot.home = Home::Scratch { offset };
        offset = (offset + slot.size).next_multiple_of(8);
    }
}

/// Moves variables to a slot of their own, where that is possible: not those
/// on which a plain loop may depend, since the verifier does not know what is
/// in scratch memory, and not typed pointers, which would lose their type.
fn move_locals(program: &mut Program) {
    let mut stay = typed_locals(program);
    loops(&program.body, false, &mut stay);
    let count = u32::try_from(program.locals.len()).expect("bug: more than 2^32 variables");
    let id = SlotId(u32::try_from(program.slots.len()).expect("bug: more than 2^32 slots"));
    let size = (8 * count).max(8);
    let home = Home::Scratch { offset: scratch_end(program) };
    program.slots.push(Slot { name: "locals".into(), size, align: 8, home });
    let place = |local: LocalId| Place::slot(id).at(8 * local.0);
    for stmt in &mut program.body {
        stmt.each_expr(&mut |expr| {
            if let Expr::Local(local) = expr
                && !stay.contains(local)
            {
                *expr = Expr::load(place(*local), 8, false);
            }
        });
        stmt.each_stmt(&mut |stmt| {
            if let StmtKind::Set { local, value } = &mut stmt.kind
                && !stay.contains(local)
            {
                let value = std::mem::replace(value, Expr::Const(0));
                stmt.kind = StmtKind::Store { to: place(*local), size: 8, value };
            }
        });
    }
    let kind = StmtKind::Zero { to: Place::slot(id), size };
    program.body.insert(0, Stmt { kind, span: program.span });
}

/// Variables that plain loops write, and those that count.
fn loops(block: &[Stmt], inside: bool, stay: &mut BTreeSet<LocalId>) {
    for stmt in block {
        let counts = matches!(stmt.kind, StmtKind::ForRange { .. });
        let plain = stmt.copies().is_some();
        stmt.uses(&mut |used| {
            if let Use::Write(local) = used
                && (inside || counts)
            {
                stay.insert(local);
            }
        });
        for block in stmt.blocks() {
            loops(block, inside || plain, stay);
        }
    }
}

/// Variables that hold typed pointers: those that are loaded through or given
/// to a helper that wants one, and those that flow into such a variable.
pub(super) fn typed_locals(program: &Program) -> BTreeSet<LocalId> {
    // The walk over expressions changes them; this is for few programs.
    let mut body = program.body.clone();
    let mut pointers = Vec::new();
    let mut flows = Vec::new();
    for stmt in &mut body {
        stmt.each_expr(&mut |expr| match expr {
            Expr::LoadTyped { pointer, .. } => reads(pointer, &mut pointers),
            Expr::Call {
                helper: Helper::DPath | Helper::GetSocketCookie | Helper::TaskPtRegs,
                args,
            } => {
                if let Some(Arg::Value(pointer)) = args.first() {
                    reads(pointer, &mut pointers);
                }
            }
            _ => {}
        });
        stmt.each_stmt(&mut |stmt| {
            if let StmtKind::Set { local, value } = &stmt.kind {
                let mut from = Vec::new();
                reads(value, &mut from);
                flows.push((*local, from));
            }
        });
    }
    let mut typed = BTreeSet::new();
    while let Some(local) = pointers.pop() {
        if typed.insert(local) {
            let into = flows.iter().filter(|f| f.0 == local);
            pointers.extend(into.flat_map(|f| f.1.iter().copied()));
        }
    }
    typed
}

fn reads(expr: &Expr, into: &mut Vec<LocalId>) {
    expr.uses(&mut |used| {
        if let Use::Read(local) = used {
            into.push(local);
        }
    });
}
