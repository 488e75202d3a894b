//! `==` and `!=` of values in memory.

use super::{Lower, Val};
use crate::host::features::Feature;
use crate::ir::{BinaryOp as B, Expr, Place, Rounds, StmtKind};
use crate::sema::promote::promote;
use crate::sema::tree;
use crate::types::Type;

/// Comparisons of up to this many bytes are written out.
const UNROLLED: u32 = 64;

impl Lower<'_> {
    pub(super) fn compare_memory(
        &mut self,
        equal: bool,
        left: &tree::Expr,
        right: &tree::Expr,
    ) -> Expr {
        let same = match (&left.ty, &right.ty) {
            (Type::Str(m), Type::Str(n)) => {
                let size = *m.min(n);
                self.compare_strings(left, right, size)
            }
            (a, b) => {
                let ty = promote(a, false, b, false).expect("bug: the types are comparable");
                let x = self.temp("left", ty.size());
                self.into(left, &ty, &x, true);
                let y = self.temp("right", ty.size());
                self.into(right, &ty, &y, true);
                self.equal_bytes(&x, &y, ty.size())
            }
        };
        if equal { same } else { Expr::binary(B::Eq, same, Expr::Const(0)) }
    }

    /// 1 if the first `size` bytes of two strings are equal up to a NUL.
    pub(crate) fn compare_strings(
        &mut self,
        left: &tree::Expr,
        right: &tree::Expr,
        size: u32,
    ) -> Expr {
        let (value, literal) = match (left.text(), right.text()) {
            (Some(text), _) => (right, Some(text.to_vec())),
            (_, Some(text)) => (left, Some(text.to_vec())),
            _ => (left, None),
        };
        let place = match self.value(value) {
            Val::Memory(place) => place,
            Val::Remote(remote) => {
                let copy = self.temp("text", value.ty.size());
                self.read(&remote, &copy, value.ty.size());
                copy
            }
            Val::Word(_) | Val::Void => unreachable!("bug: strings live in memory"),
        };
        if let Some(mut text) = literal {
            // The literal's NUL is the last byte compared, so that nothing
            // behind the end of the other string counts.
            text.push(0);
            let end = text.iter().position(|b| *b == 0).map_or(text.len(), |i| i + 1);
            text.truncate(end.min(size as usize));
            return self.equal_constant(&place, &text);
        }
        let other = self.place(right);
        self.equal_text(&place, &other, size)
    }

    /// 1 if memory starts with these bytes.
    fn equal_constant(&mut self, place: &Place, bytes: &[u8]) -> Expr {
        let mut difference = Expr::Const(0);
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.len() - at;
            let offset = super::index(at);
            let align = self.align_of(&place.at(offset)) as usize;
            let size =
                [8usize, 4, 2, 1].into_iter().find(|n| *n <= rest && *n <= align).unwrap_or(1);
            // The number that the machine makes of these bytes.
            let chunk = bytes.iter().skip(at).take(size).map(|byte| u64::from(*byte));
            let join = |word: u64, byte: u64| word << 8 | byte;
            let word = match self.options.big_endian {
                true => chunk.fold(0, join),
                false => chunk.rev().fold(0, join),
            };
            let wanted = Expr::Const(word.cast_signed());
            let chunk = u8::try_from(size).unwrap_or(8);
            let found = Expr::load(place.at(offset), chunk, false);
            let xor = Expr::binary(B::Xor, found, wanted);
            difference = match difference {
                Expr::Const(0) => xor,
                other => Expr::binary(B::Or, other, xor),
            };
            at += size;
        }
        Expr::binary(B::Eq, difference, Expr::Const(0))
    }

    /// 1 if two strings are equal up to a NUL or `size` bytes.
    fn equal_text(&mut self, x: &Place, y: &Place, size: u32) -> Expr {
        let result = self.local("equal");
        self.set(result, Expr::Const(1));
        if size <= UNROLLED {
            // A loop that is left at the first difference or end, and in any
            // case after its first round.
            let body = self.block(|l| {
                for at in 0..size {
                    let a = Expr::load(x.at(at), 1, false);
                    let a = l.spill("a", a);
                    let b = Expr::load(y.at(at), 1, false);
                    l.when(Expr::binary(B::Ne, a.clone(), b), |l| {
                        l.set(result, Expr::Const(0));
                        l.emit(StmtKind::Break);
                    });
                    let end = Expr::binary(B::Eq, a, Expr::Const(0));
                    l.when(end, |l| l.emit(StmtKind::Break));
                }
                l.emit(StmtKind::Break);
            });
            self.emit(StmtKind::Loop { copies: 1, body });
            return Expr::Local(result);
        }
        let (x, y) = (&self.indexable(x), &self.indexable(y));
        let i = self.local("i");
        let body = self.block(|l| {
            let a = l.byte(x, i, size);
            let a = l.spill("a", a);
            let b = l.byte(y, i, size);
            let differ = Expr::binary(B::Ne, a.clone(), b);
            let unequal = l.block(|l| {
                l.set(result, Expr::Const(0));
                l.emit(StmtKind::Break);
            });
            l.emit(StmtKind::If { cond: differ, then: unequal, els: vec![] });
            let end = Expr::binary(B::Eq, a, Expr::Const(0));
            l.when(end, |l| l.emit(StmtKind::Break));
        });
        self.bounded(i, size, body);
        Expr::Local(result)
    }

    /// 1 if two pieces of memory are equal. Both are aligned to 8.
    pub(crate) fn equal_bytes(&mut self, x: &Place, y: &Place, size: u32) -> Expr {
        if size <= UNROLLED {
            let mut difference = Expr::Const(0);
            let mut at = 0;
            while at < size {
                let step = [8u32, 4, 2, 1].into_iter().find(|n| at + n <= size).unwrap_or(1);
                let chunk = super::expr::cut_size(step);
                let a = Expr::load(x.at(at), chunk, false);
                let b = Expr::load(y.at(at), chunk, false);
                let xor = Expr::binary(B::Xor, a, b);
                difference = match difference {
                    Expr::Const(0) => xor,
                    other => Expr::binary(B::Or, other, xor),
                };
                at += step;
            }
            return Expr::binary(B::Eq, difference, Expr::Const(0));
        }
        let result = self.local("equal");
        self.set(result, Expr::Const(1));
        let (x, y) = (&self.indexable(x), &self.indexable(y));
        let i = self.local("i");
        let body = self.block(|l| {
            let a = l.byte(x, i, size);
            let b = l.byte(y, i, size);
            let unequal = l.block(|l| {
                l.set(result, Expr::Const(0));
                l.emit(StmtKind::Break);
            });
            let cond = Expr::binary(B::Ne, a, b);
            l.emit(StmtKind::If { cond, then: unequal, els: vec![] });
        });
        self.bounded(i, size, body);
        Expr::Local(result)
    }

    fn byte(&mut self, place: &Place, i: crate::ir::LocalId, size: u32) -> Expr {
        Expr::load(place.indexed(Expr::Local(i), 1, size), 1, false)
    }

    /// A loop over `0..size`; through a callback where it is long.
    pub(crate) fn bounded(&mut self, i: crate::ir::LocalId, size: u32, body: Vec<crate::ir::Stmt>) {
        let callback = size > 256 && self.host.has(Feature::Loop);
        self.emit(StmtKind::ForRange {
            index: i,
            from: Expr::Const(0),
            to: Expr::Const(i64::from(size)),
            how: Rounds::by(callback),
            body,
        });
    }
}
