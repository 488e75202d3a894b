//! Values that live in memory: strings, tuples, structs and the like, written
//! straight to where they are wanted.

use super::expr::{convert, cut_size};
use super::{Home, Lower, Val};
use crate::builtins::{Lowered, Lowering};
use crate::ir::{Arg, Base, Expr, Helper, Place, StmtKind};
use crate::probes::Argument;
use crate::sema::tree::{self, ExprKind};
use crate::types::Type;

impl Lower<'_> {
    /// A value of any type in memory that the program may access.
    pub(crate) fn place(&mut self, e: &tree::Expr) -> Place {
        match self.value(e) {
            Val::Memory(place) => place,
            Val::Remote(remote) => {
                self.must_be_the_same(&e.ty, e.span);
                let place = self.temp("copy", e.ty.size());
                self.read(&remote, &place, e.ty.size());
                place
            }
            Val::Word(word) => {
                let place = self.temp("word", 8);
                let size = cut_size(e.ty.size());
                self.emit(StmtKind::Store { to: place.clone(), size, value: word });
                place
            }
            Val::Void => unreachable!("bug: a value is expected"),
        }
    }

    /// Writes a value, converted to `ty`, to a place. With `full`, every byte
    /// of the place is set, also behind the end of a string and between the
    /// elements of a tuple, so that equal values are equal bytes.
    pub(crate) fn into(&mut self, e: &tree::Expr, ty: &Type, to: &Place, full: bool) {
        if ty.is_scalar() {
            let word = self.word(e);
            let word = convert(word, &e.ty, ty);
            self.store(to, cut_size(ty.size()), word);
            return;
        }
        match (&e.kind, ty) {
            (ExprKind::Str(bytes), Type::Str(size)) => {
                let mut bytes = bytes.clone();
                bytes.resize(*size as usize, 0);
                let from = Place::rodata(self.shared.constant(bytes));
                self.emit(StmtKind::Copy { to: to.clone(), from, size: *size });
            }
            (ExprKind::Tuple(list), Type::Tuple(types)) => {
                self.zero_padding(ty, to, full);
                for ((e, t), offset) in list.iter().zip(types).zip(ty.offsets()) {
                    self.into(e, t, &to.at(offset), full);
                }
            }
            (ExprKind::Record(list), Type::Record(fields)) => {
                self.zero_padding(ty, to, full);
                // Evaluated as written, stored where the type says.
                for (name, value) in list {
                    let at = fields.iter().position(|f| f.0 == *name);
                    let at = at.expect("bug: records of one type have the same fields");
                    let offset = ty.offsets().get(at).copied().unwrap_or(0);
                    if let Some((_, field)) = fields.get(at) {
                        self.into(value, field, &to.at(offset), full);
                    }
                }
            }
            (ExprKind::Member { member, .. }, Type::Str(_)) if e.ty != member.ty => {
                let value = self.value(&e.clone().stored());
                self.copy_into(value, &member.ty, ty, to, full);
            }
            (ExprKind::Args(args), Type::Record(fields)) => {
                self.zero_padding(ty, to, full);
                for ((argument, (_, t)), offset) in args.iter().zip(fields).zip(ty.offsets()) {
                    self.argument_into(argument, t, &to.at(offset), full, e);
                }
            }
            (ExprKind::Ternary { cond, then, els }, _) => {
                let cond = self.word(cond);
                self.either(cond, |l| l.into(then, ty, to, full), |l| l.into(els, ty, to, full));
            }
            (ExprKind::If { cond, then, els: Some(els) }, _) => {
                let cond = self.word(cond);
                let then = self.block(|l| l.block_into(then, ty, to, full));
                let els = self.block(|l| l.block_into(els, ty, to, full));
                self.emit(StmtKind::If { cond, then, els });
            }
            (ExprKind::Block(block), _) => self.block_into(block, ty, to, full),
            (ExprKind::Map { map, key }, _) => {
                self.map_into(*map, key.as_deref(), ty, to, full);
            }
            (ExprKind::Call { builtin, args, detail }, _)
                if matches!(builtin.lower, Lowering::Memory(_)) =>
            {
                let Lowering::Memory(f) = &builtin.lower else { return };
                let call = Lowered { args, detail, ty: &e.ty, span: e.span };
                let outer = std::mem::replace(&mut self.span, e.span);
                f(self, &call, to, full);
                self.span = outer;
                self.grow(&e.ty, ty, to);
            }
            _ => {
                let value = self.value(e);
                self.copy_into(value, &e.ty, ty, to, full);
            }
        }
    }

    fn block_into(&mut self, block: &tree::Block, ty: &Type, to: &Place, full: bool) {
        for stmt in &block.stmts {
            self.tree_statement(stmt);
        }
        if let Some(value) = &block.value {
            self.into(value, ty, to, full);
        }
    }

    fn argument_into(
        &mut self,
        argument: &Argument,
        ty: &Type,
        to: &Place,
        full: bool,
        e: &tree::Expr,
    ) {
        let value =
            tree::Expr::new(ExprKind::Argument(argument.clone()), argument.ty.clone(), e.span);
        self.into(&value, ty, to, full);
    }

    /// Copies a value that exists somewhere, converting it.
    pub(crate) fn copy_into(&mut self, value: Val, from: &Type, ty: &Type, to: &Place, full: bool) {
        match value {
            Val::Word(word) => {
                let word = convert(word, from, ty);
                self.store(to, cut_size(ty.size()), word);
            }
            Val::Memory(place) => self.copy_memory(&place, from, ty, to, full),
            Val::Remote(remote) => {
                self.must_be_the_same(from, self.span);
                // Structs and arrays have one shape; strings may grow.
                self.read(&remote, to, from.size());
                if full && matches!(from, Type::Str(_)) {
                    let source = to.clone();
                    self.clean_tail(&source, from.size());
                }
                self.grow(from, ty, to);
            }
            Val::Void => unreachable!("bug: a value is expected"),
        }
    }

    /// Copies memory of one type to memory of another that it promotes to.
    fn copy_memory(&mut self, place: &Place, from: &Type, ty: &Type, to: &Place, full: bool) {
        match (from, ty) {
            (Type::Tuple(x), Type::Tuple(y)) if from != ty || full => {
                self.zero_padding(ty, to, full);
                let pairs = x.iter().zip(from.offsets()).zip(y.iter().zip(ty.offsets()));
                for ((a, at), (b, bt)) in pairs {
                    self.part_into(place, a, at, b, &to.at(bt), full);
                }
            }
            (Type::Record(x), Type::Record(y)) if from != ty || full => {
                self.zero_padding(ty, to, full);
                for ((name, b), bt) in y.iter().zip(ty.offsets()) {
                    let at = x.iter().position(|f| f.0 == *name);
                    let at = at.expect("bug: records of one type have the same fields");
                    let offset = from.offsets().get(at).copied().unwrap_or(0);
                    if let Some((_, a)) = x.get(at) {
                        self.part_into(place, a, offset, b, &to.at(bt), full);
                    }
                }
            }
            (Type::Str(m), Type::Str(_)) if full && !self.is_clean(place) => {
                // Only what is up to the NUL counts; behind it is anything.
                self.emit(StmtKind::Zero { to: to.clone(), size: ty.size() });
                let args = vec![
                    Arg::Address(to.clone()),
                    Arg::Value(Expr::Const(i64::from(*m))),
                    Arg::Value(Expr::Address(place.clone())),
                ];
                let call = self.call(Helper::ProbeReadKernelStr, args);
                self.emit(StmtKind::Eval(call));
            }
            _ => {
                let size = from.size().min(ty.size());
                self.emit(StmtKind::Copy { to: to.clone(), from: place.clone(), size });
                self.grow(from, ty, to);
            }
        }
    }

    fn part_into(&mut self, place: &Place, a: &Type, at: u32, b: &Type, to: &Place, full: bool) {
        let part = place.at(at);
        if a.is_scalar() {
            let word = self.load(&part, a);
            let word = convert(word, a, b);
            self.store(to, cut_size(b.size()), word);
        } else {
            self.copy_memory(&part, a, b, to, full);
        }
    }

    /// Whether the bytes behind the NUL of a string there are known to be zero.
    fn is_clean(&self, place: &Place) -> bool {
        match place.base {
            // Constants are padded; what maps hold was written in full.
            Base::Rodata(_) | Base::Params | Base::Ptr(_) => true,
            Base::Slot(_) | Base::Context | Base::Losses => false,
        }
    }

    /// Zeroes what lies behind the NUL of a fixed array of characters. All of
    /// it may be text, to which the helper would add a NUL in place of the last
    /// character; so it works with one byte more.
    fn clean_tail(&mut self, place: &Place, size: u32) {
        let (copy, clean) = (self.temp("text", size + 1), self.temp("clean", size + 1));
        self.emit(StmtKind::Copy { to: copy.clone(), from: place.clone(), size });
        self.emit(StmtKind::Store { to: copy.at(size), size: 1, value: Expr::Const(0) });
        self.emit(StmtKind::Zero { to: clean.clone(), size: size + 1 });
        let args = vec![
            Arg::Address(clean.clone()),
            Arg::Value(Expr::Const(i64::from(size + 1))),
            Arg::Value(Expr::Address(copy)),
        ];
        let call = self.call(Helper::ProbeReadKernelStr, args);
        self.emit(StmtKind::Eval(call));
        self.emit(StmtKind::Copy { to: place.clone(), from: clean, size });
    }

    /// Zeroes the room that a longer type has.
    fn grow(&mut self, from: &Type, ty: &Type, to: &Place) {
        if ty.size() > from.size() {
            let rest = ty.size() - from.size();
            self.emit(StmtKind::Zero { to: to.at(from.size()), size: rest });
        }
    }

    fn zero_padding(&mut self, ty: &Type, to: &Place, full: bool) {
        let sizes: u32 = match ty {
            Type::Tuple(list) => list.iter().map(Type::size).sum(),
            Type::Record(list) => list.iter().map(|f| f.1.size()).sum(),
            _ => return,
        };
        if full && sizes != ty.size() {
            self.emit(StmtKind::Zero { to: to.clone(), size: ty.size() });
        }
    }

    /// Stores a scalar, by bytes where the place is not aligned.
    pub(crate) fn store(&mut self, to: &Place, size: u8, value: Expr) {
        if self.align_of(to) >= u32::from(size) {
            self.emit(StmtKind::Store { to: to.clone(), size, value });
            return;
        }
        let value = self.spill("bytes", value);
        for i in 0..u32::from(size) {
            let shift = Expr::Const(i64::from(8 * i));
            let byte = Expr::binary(crate::ir::BinaryOp::LShr, value.clone(), shift);
            self.emit(StmtKind::Store { to: to.at(i), size: 1, value: byte });
        }
    }

    /// Stores into a variable.
    pub(super) fn assign_var(&mut self, var: tree::VarId, value: &tree::Expr) {
        match self.home(var).clone() {
            Home::Word(local, ty) => {
                let word = self.word_as(value, &ty);
                self.set(local, word);
            }
            Home::Memory(place, ty) => {
                // The value may read the variable itself.
                if matches!(
                    value.kind,
                    ExprKind::Str(_) | ExprKind::Call { .. } | ExprKind::Map { .. }
                ) {
                    self.into(value, &ty, &place, false);
                } else {
                    let temp = self.temp("assigned", ty.size());
                    self.into(value, &ty, &temp, false);
                    self.emit(StmtKind::Copy { to: place, from: temp, size: ty.size() });
                }
            }
        }
    }
}
