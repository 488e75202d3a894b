//! Lowering of statements.

use super::expr::convert;
use super::rounds::FEW_ROUNDS;
use super::{Home, Lower};
use crate::host::features::Feature;
use crate::ir::{BinaryOp as B, Expr, Place, Rounds, StmtKind as S};
use crate::parser::ast::BinaryOp;
use crate::plan::{Cause, MAX_ROUNDS};
use crate::sema::tree::{self, StmtKind, Target};
use crate::types::Type;

impl Lower<'_> {
    /// The statements of a block, its value included.
    pub(super) fn tree_block(&mut self, block: &tree::Block) {
        for stmt in &block.stmts {
            self.tree_statement(stmt);
        }
        if let Some(value) = &block.value {
            self.statement(|l| {
                l.value(value);
            });
        }
    }

    pub(super) fn tree_statement(&mut self, stmt: &tree::Stmt) {
        let outer = std::mem::replace(&mut self.span, stmt.span);
        self.statement(|l| l.one(&stmt.kind));
        self.span = outer;
    }

    fn one(&mut self, kind: &StmtKind) {
        match kind {
            StmtKind::Declare(var) => match self.home(*var).clone() {
                Home::Word(local, _) => self.set(local, Expr::Const(0)),
                Home::Memory(place, ty) => self.emit(S::Zero { to: place, size: ty.size() }),
            },
            StmtKind::Assign { target: Target::Var(var), value } => self.assign_var(*var, value),
            StmtKind::Assign { target: Target::Map { map, key }, value } => {
                self.map_assign(*map, key.as_ref(), value);
            }
            StmtKind::Aggregate { map, key, value, .. } => {
                self.aggregate(*map, key.as_ref(), value.as_ref());
            }
            StmtKind::Update { target: Target::Map { map, key }, op, value } => {
                let ty = self.script_map(*map).value;
                let word = self.word_as(value, &Type::int(8, value.ty.is_signed()));
                let word = self.spill("operand", word);
                match op {
                    BinaryOp::Add => {
                        self.map_add(*map, key.as_ref(), word);
                    }
                    BinaryOp::Sub => {
                        let negative = Expr::binary(B::Sub, Expr::Const(0), word);
                        self.map_add(*map, key.as_ref(), negative);
                    }
                    _ => self.map_update(*map, key.as_ref(), |l, old| {
                        let signed = ty.is_signed();
                        l.operate(*op, old, word.clone(), signed)
                    }),
                }
            }
            StmtKind::Update { target: Target::Var(_), .. } => {
                unreachable!("bug: variables are assigned")
            }
            StmtKind::Expr(e) => {
                // What gives nothing uses its arguments.
                self.discarded = e.ty != Type::Void;
                let value = self.value(e);
                self.discarded = false;
                // A read may fail, and that may be counted; the value is dropped.
                if let super::Val::Word(word @ Expr::Call { .. }) = value {
                    self.emit(S::Eval(word));
                }
            }
            StmtKind::While { cond, body } => self.while_loop(cond, body),
            StmtKind::Unroll { count, body } => {
                let index = self.local("round");
                let body = self.repeated(|l| l.tree_block(body));
                let to = Expr::Const(i64::try_from(*count).unwrap_or(0));
                let from = Expr::Const(0);
                let copies = self.copies(Some((*count).into()), &body);
                self.emit(S::ForRange { index, from, to, how: Rounds::Plain { copies }, body });
            }
            StmtKind::ForRange { var, from, to, body } => self.for_range(*var, from, to, body),
            StmtKind::ForMap { var, map, body } => self.for_map(*var, *map, body),
            StmtKind::Break => self.emit(S::Break),
            StmtKind::Continue => self.emit(S::Continue),
            StmtKind::Return(value) => {
                let value = match value {
                    Some(e) if let Some((place, ty)) = self.result.clone() => {
                        self.into(e, &ty, &place, false);
                        Expr::Const(0)
                    }
                    Some(e) => self.word(e),
                    None => Expr::Const(self.instance.context.result),
                };
                // The verifier wants 0 from fentry and fexit programs, and iterators that
                // give 1 are run again for the same object.
                use crate::ir::ProgramKind as K;
                let fixed = matches!(self.kind(), K::Trampoline | K::Iter);
                let packet = self.kind() == K::Packet;
                self.emit(S::Return(match (fixed, packet) {
                    (true, _) => Expr::Const(0),
                    // Every packet goes on.
                    (_, true) => Expr::Const(self.instance.context.result),
                    _ => value,
                }));
            }
        }
    }

    fn operate(&mut self, op: BinaryOp, old: Expr, operand: Expr, signed: bool) -> Expr {
        let op = match op {
            BinaryOp::Mul => B::Mul,
            BinaryOp::Div => {
                let op = if signed { B::SDiv } else { B::UDiv };
                return self.divide(op, old, operand);
            }
            BinaryOp::Mod => {
                let op = if signed { B::SMod } else { B::UMod };
                return self.divide(op, old, operand);
            }
            BinaryOp::BitAnd => B::And,
            BinaryOp::BitOr => B::Or,
            BinaryOp::BitXor => B::Xor,
            BinaryOp::Shl => B::Shl,
            BinaryOp::Shr if signed => B::AShr,
            BinaryOp::Shr => B::LShr,
            _ => unreachable!("bug: no assignment operator"),
        };
        Expr::binary(op, old, operand)
    }

    /// Through `bpf_loop` where the kernel has it: the verifier then looks at the
    /// body once, however often it runs. Else the verifier follows every round.
    fn while_loop(&mut self, cond: &tree::Expr, body: &tree::Block) {
        let callback = self.host.has(Feature::Loop);
        let index = callback.then(|| self.local("round"));
        let round = |l: &mut Self| {
            l.statement(|l| {
                let cond = l.word(cond);
                let done = Expr::binary(B::Eq, cond, Expr::Const(0));
                l.when(done, |l| l.emit(S::Break));
            });
            if let Some(index) = index {
                let last = Expr::Const(MAX_ROUNDS - 1);
                let last = Expr::binary(B::Eq, Expr::Local(index), last);
                l.statement(|l| l.when(last, |l| l.loss(Cause::LoopLimit, None)));
            }
            l.tree_block(body);
        };
        let body = if callback { self.repeated_by_callback(round) } else { self.repeated(round) };
        let stmt = match index {
            Some(index) => {
                let (from, to) = (Expr::Const(0), Expr::Const(MAX_ROUNDS));
                S::ForRange { index, from, to, how: Rounds::Callback, body }
            }
            None => S::Loop { copies: self.copies(None, &body), body },
        };
        self.emit(stmt);
    }

    fn for_range(
        &mut self,
        var: tree::VarId,
        from: &tree::Expr,
        to: &tree::Expr,
        body: &tree::Block,
    ) {
        let home = self.home(var).clone();
        let constant = from.constant().zip(to.constant()).map(|(a, b)| b - a);
        let callback = constant.is_none_or(|n| n > FEW_ROUNDS);
        if callback && !self.host.has(Feature::Loop) && constant.is_none_or(|n| n > 4096) {
            let d = crate::diag::Diagnostic::error(self.span, "this kernel cannot run a loop of so many rounds")
                .note("it lacks the helper `bpf_loop` (Linux 5.17); without it the verifier must see a constant bound")
                .help("give constant bounds of at most 4096 rounds");
            self.fail(d);
            return;
        }
        let callback = callback
            && self.host.has(Feature::Loop)
            && (self.has_room_for_callback() || constant.is_none_or(|n| n > 4096));
        let from = self.word_as(from, &Type::INT64);
        let from = self.spill("from", from);
        let to = self.word_as(to, &Type::INT64);
        let to = self.spill("to", to);
        if callback && constant.is_none_or(|n| n > i128::from(MAX_ROUNDS)) {
            let rounds = Expr::binary(B::Sub, to.clone(), from.clone());
            let most = Expr::Const(MAX_ROUNDS);
            let many = Expr::binary(B::SGt, rounds, most);
            self.when(many, |l| l.loss(Cause::LoopLimit, None));
        }
        let index = self.local("index");
        let round = |l: &mut Self| {
            // Assigning to the variable does not change the loop.
            match &home {
                Home::Word(local, ty) => {
                    l.set(*local, convert(Expr::Local(index), &Type::INT64, ty));
                }
                Home::Memory(place, ty) => {
                    let size = super::expr::cut_size(ty.size());
                    l.store(place, size, Expr::Local(index));
                }
            }
            l.tree_block(body);
        };
        let body = if callback { self.repeated_by_callback(round) } else { self.repeated(round) };
        let how = match callback {
            true => Rounds::Callback,
            false => Rounds::Plain { copies: self.copies(constant, &body) },
        };
        self.emit(S::ForRange { index, from, to, how, body });
    }

    fn for_map(&mut self, var: tree::VarId, id: tree::MapId, body: &tree::Block) {
        let map = self.script_map(id);
        let Home::Memory(pair, ty) = self.home(var).clone() else {
            unreachable!("bug: the loop variable is a tuple");
        };
        let offsets = ty.offsets();
        let at = |n: usize| offsets.get(n).copied().unwrap_or(0);
        let Type::Tuple(types) = &ty else {
            unreachable!("bug: the loop variable is a tuple");
        };
        let (key, value) = (self.ptr(), self.ptr());
        let body = self.repeated_by_callback(|l| {
            let key_type = map.key.clone().unwrap_or(Type::INT64);
            if let Some(wanted) = types.first() {
                l.part_copy(&Place::ptr(key), &key_type, wanted, &pair.at(at(0)));
            }
            match (&map.aggregation, types.get(1)) {
                (Some(aggregation), _) => {
                    // The callback sees one CPU's slot only.
                    let copy = l.temp("key", key_type.size());
                    let size = key_type.size();
                    l.emit(S::Copy { to: copy.clone(), from: Place::ptr(key), size });
                    let word = l.read_aggregate(&map, aggregation, &copy);
                    l.store(&pair.at(at(1)), 8, word);
                }
                (None, Some(wanted)) => {
                    l.part_copy(&Place::ptr(value), &map.value, wanted, &pair.at(at(1)));
                }
                (None, None) => {}
            }
            l.tree_block(body);
        });
        self.emit(S::ForMap { map: map.id, key, value, body });
    }

    fn part_copy(&mut self, from: &Place, a: &Type, b: &Type, to: &Place) {
        if a.is_scalar() {
            let word = self.load(from, a);
            let word = convert(word, a, b);
            self.store(to, super::expr::cut_size(b.size()), word);
        } else {
            self.copy_into(super::Val::Memory(from.clone()), a, b, to, false);
        }
    }
}
