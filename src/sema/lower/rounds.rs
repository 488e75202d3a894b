//! Loops that the kernel's verifier follows round by round: those of few rounds, and all of
//! them where there is no `bpf_loop`.
//!
//! Verifiers leave out what they have seen before, but not well in loops (`is_state_visited`
//! and `stacksafe`, kernel/bpf/verifier.c):
//!
//! - They keep few states of instructions that they come to again and again, and drop those
//!   that did not help a few times in a row, as those of other rounds never do. The ways
//!   through a body then multiply with every round. So the body stands in the code more than
//!   once: each copy has states of its own.
//! - Those of the time before `bpf_loop` hold two states for different if a variable on the
//!   stack is a known number in one of them and any number in the other. What a round hands on,
//!   to the next or to what comes after the loop, is therefore made unknown to them, unless it
//!   decides how often a loop runs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Home, Lower};
use crate::host::features::Feature;
use crate::ir::{Expr, LocalId, Rounds, Stmt, StmtKind, Use, taken_over, written};

/// Instructions that the copies in a program add, about. A jump reaches 32,767.
const MOST_INSTRUCTIONS: usize = 12_000;

/// Rounds of a loop that is worth no callback.
pub(super) const FEW_ROUNDS: i128 = 8;

/// Copies where nobody knows the number of rounds.
const SOME_COPIES: usize = 8;

impl Lower<'_> {
    /// How often the body of a plain loop of the script is to stand in the code.
    pub(super) fn copies(&mut self, rounds: Option<i128>, body: &[Stmt]) -> u32 {
        if !body.iter().any(|stmt| stmt.blocks().iter().any(|b| !b.is_empty())) {
            return 1;
        }
        let rounds = rounds.map_or(SOME_COPIES, |n| usize::try_from(n).unwrap_or(1));
        let size = size(body).max(1);
        let fit = MOST_INSTRUCTIONS.saturating_sub(self.copies_size) / size + 1;
        let copies = rounds.min(fit).max(1);
        self.copies_size += size * (copies - 1);
        super::index(copies)
    }

    /// Makes variables unknown at the start of every round of the script's loops.
    pub(super) fn forget_between_rounds(&self, body: &mut [Stmt]) {
        if self.host.has(Feature::Loop) {
            return;
        }
        // Words of the library have bounds that it relies on, and pointers have types.
        let integers = self.vars.iter().filter_map(|home| match home {
            Home::Word(local, ty) if ty.is_integer() => Some(*local),
            Home::Word(..) | Home::Memory(..) => None,
        });
        let mut may = integers.collect::<BTreeSet<_>>();
        for steers in steering(body) {
            may.remove(&steers);
        }
        if !may.is_empty() {
            let reads = reads(body);
            insert(body, &may, &reads);
        }
    }
}

/// Instructions of a block, about, with all copies of those inside.
fn size(block: &[Stmt]) -> usize {
    let stmt = |stmt: &Stmt| {
        let own = match &stmt.kind {
            StmtKind::Copy { size, .. } | StmtKind::Zero { size, .. } => *size as usize / 4,
            StmtKind::Event { .. } | StmtKind::Lookup { .. } => 12,
            _ => 0,
        };
        let copies = stmt.copies().unwrap_or(1) as usize;
        let inside: usize = stmt.blocks().into_iter().map(size).sum();
        own + 2 + copies.saturating_mul(inside)
    };
    block.iter().map(stmt).sum()
}

/// How often each local is read.
fn reads(block: &[Stmt]) -> BTreeMap<LocalId, usize> {
    let mut reads = BTreeMap::new();
    for stmt in block {
        stmt.all_uses(&mut |used| {
            if let Use::Read(local) = used {
                *reads.entry(local).or_default() += 1;
            }
        });
    }
    reads
}

/// `may` are the locals that may be forgotten, `all` the reads in the whole program.
fn insert(block: &mut [Stmt], may: &BTreeSet<LocalId>, all: &BTreeMap<LocalId, usize>) {
    for stmt in block {
        let span = stmt.span;
        let (StmtKind::Loop { body, .. }
        | StmtKind::ForRange { how: Rounds::Plain { .. }, body, .. }) = &mut stmt.kind
        else {
            for inner in stmt.blocks_mut() {
                insert(inner, may, all);
            }
            continue;
        };
        let (handed_on, inside) = (taken_over(body), reads(body));
        let lives = |l: &LocalId| handed_on.contains(l) || all.get(l) > inside.get(l);
        let written = written(body);
        let forgotten = written.iter().filter(|l| may.contains(l) && lives(l));
        let forget = |&local: &LocalId| {
            let value = Expr::Unknown(Box::new(Expr::Local(local)));
            Stmt { kind: StmtKind::Set { local, value }, span }
        };
        let mut whole: Vec<Stmt> = forgotten.map(forget).collect();
        whole.append(body);
        insert(&mut whole, may, all);
        *body = whole;
    }
}

/// Locals that decide how often loops run: those in bounds and in conditions of jumps, and
/// those that these are made of.
fn steering(body: &[Stmt]) -> BTreeSet<LocalId> {
    let mut found = Found::default();
    found.block(body, false, &mut Vec::new());
    let mut steers = BTreeSet::new();
    while let Some(local) = found.seeds.pop() {
        if steers.insert(local) {
            let into = found.flows.iter().filter(|f| f.0 == local);
            found.seeds.extend(into.flat_map(|f| f.1.iter().copied()));
        }
    }
    steers
}

#[derive(Default)]
struct Found {
    seeds: Vec<LocalId>,
    /// A local, and what its value depends on.
    flows: Vec<(LocalId, Vec<LocalId>)>,
}

impl Found {
    /// `conditions` are the locals that decide whether the block runs.
    fn block(&mut self, block: &[Stmt], in_loop: bool, conditions: &mut Vec<LocalId>) {
        for stmt in block {
            let (mut reads, mut writes) = (Vec::new(), Vec::new());
            stmt.uses(&mut |used| match used {
                Use::Read(local) => reads.push(local),
                Use::Write(local) => writes.push(local),
                _ => {}
            });
            let repeats = matches!(
                stmt.kind,
                StmtKind::Loop { .. } | StmtKind::ForRange { .. } | StmtKind::ForMap { .. }
            );
            let decides = match &stmt.kind {
                StmtKind::Loop { .. } | StmtKind::ForRange { .. } => true,
                _ => in_loop && stmt.blocks().into_iter().any(jumps),
            };
            if decides {
                self.seeds.extend(&reads);
            }
            let before = conditions.len();
            conditions.extend(&reads);
            for local in writes {
                self.flows.push((local, conditions.clone()));
            }
            for inner in stmt.blocks() {
                self.block(inner, in_loop || repeats, conditions);
            }
            conditions.truncate(before);
        }
    }
}

/// Whether a block leaves a loop, or a round of it.
fn jumps(block: &[Stmt]) -> bool {
    block.iter().any(|stmt| {
        matches!(stmt.kind, StmtKind::Break | StmtKind::Continue | StmtKind::Return(_))
            || stmt.blocks().into_iter().any(jumps)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::BinaryOp;

    fn stmt(kind: StmtKind) -> Stmt {
        Stmt { kind, span: crate::source::Span::default() }
    }

    fn local(number: u32) -> Expr {
        Expr::Local(LocalId(number))
    }

    fn set(number: u32, value: Expr) -> Stmt {
        stmt(StmtKind::Set { local: LocalId(number), value })
    }

    /// `while (l0 < 10) { l0 = l0 + l1; l2 = l2 + l3; if (l3) { l1 = 2 } }`
    fn body() -> Vec<Stmt> {
        let cond = Expr::binary(BinaryOp::SLt, Expr::Const(9), local(0));
        let then = vec![stmt(StmtKind::Break)];
        let add = |a, b| Expr::binary(BinaryOp::Add, local(a), local(b));
        let two = vec![set(1, Expr::Const(2))];
        let inner = vec![
            stmt(StmtKind::If { cond, then, els: Vec::new() }),
            set(0, add(0, 1)),
            set(2, add(2, 3)),
            stmt(StmtKind::If { cond: local(3), then: two, els: Vec::new() }),
        ];
        vec![stmt(StmtKind::Loop { copies: 1, body: inner })]
    }

    #[test]
    fn what_decides_about_rounds_stays_known() {
        let steers: Vec<u32> = steering(&body()).into_iter().map(|l| l.0).collect();
        assert_eq!(steers, [0, 1, 3]);
    }

    #[test]
    fn what_is_handed_on_is_forgotten() {
        let mut body = body();
        let reads = reads(&body);
        insert(&mut body, &BTreeSet::from([LocalId(2), LocalId(3)]), &reads);
        let StmtKind::Loop { body, .. } = &body.remove(0).kind else { panic!("it was a loop") };
        // Nothing writes the third.
        assert_eq!(body.len(), 5);
        assert_eq!(body.first(), Some(&set(2, Expr::Unknown(Box::new(local(2))))));
    }
}
