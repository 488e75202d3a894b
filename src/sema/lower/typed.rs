//! Pointers whose type the kernel's verifier knows: helpers that take a
//! `struct path` or a socket want one that comes straight from the arguments
//! of a traced function, not a number that happens to be an address.

use super::Lower;
use crate::host::features::Feature;
use crate::ir::{BinaryOp as B, Expr, Fact, Helper, Stmt, StmtKind};
use crate::probes::Access;
use crate::sema::tree::{self, Detail, ExprKind, Object};
use crate::types::{Member, StructRef, Type};

/// The struct that an expression is or points to, if the verifier can see
/// that: an argument of the probe, and members of what it points to.
pub(crate) fn struct_of(e: &tree::Expr) -> Option<&StructRef> {
    let of = match &e.ty {
        Type::Struct(s) => s,
        Type::Ptr { to, .. } => match &**to {
            Type::Struct(s) => s,
            _ => return None,
        },
        _ => return None,
    };
    let known = match &e.kind {
        ExprKind::Argument(argument) => matches!(argument.access, Access::Context { size: 8, .. }),
        ExprKind::Member { base, .. } => struct_of(base).is_some(),
        ExprKind::Deref(pointer) => struct_of(pointer).is_some(),
        ExprKind::Call { detail, .. } => matches!(detail, Detail::Object(_)),
        _ => false,
    };
    known.then_some(of)
}

/// Whether such an expression starts from the current task.
pub(crate) fn starts_at_task(e: &tree::Expr) -> bool {
    match &e.kind {
        ExprKind::Member { base, .. } | ExprKind::Deref(base) => starts_at_task(base),
        ExprKind::Call { detail, .. } => *detail == Detail::Object(Object::CurrentTask),
        _ => false,
    }
}

impl Lower<'_> {
    /// The address of the struct that an expression is or points to, as the
    /// verifier knows it; for those that [`struct_of`] accepts.
    pub(crate) fn typed_address(&mut self, e: &tree::Expr) -> Expr {
        match &e.kind {
            ExprKind::Member { base, member } if is_iterator(base) => self.iterated(member.offset),
            ExprKind::Member { base, member } if self.options.portable => {
                self.typed_field(base, member)
            }
            ExprKind::Member { base, member } => {
                let base = self.typed_address(base);
                match member.ty {
                    Type::Ptr { .. } => Expr::LoadTyped {
                        pointer: Box::new(base),
                        offset: member.offset,
                        size: 8,
                        signed: false,
                    },
                    _ => match member.offset {
                        0 => base,
                        n => Expr::binary(B::Add, base, Expr::Const(i64::from(n))),
                    },
                }
            }
            ExprKind::Deref(pointer) => self.typed_address(pointer),
            ExprKind::Call { detail: Detail::Object(Object::CurrentTask), .. }
                if self.host.has(Feature::CurrentTaskBtf) =>
            {
                self.call(Helper::GetCurrentTaskBtf, vec![])
            }
            _ => self.argument_word(e),
        }
    }

    /// The same for a member, where the loader says that it is.
    fn typed_field(&mut self, base: &tree::Expr, member: &Member) -> Expr {
        let Some((start, field)) = self.field(base, member) else { return Expr::Const(0) };
        let start = self.typed_address(start);
        let offset = self.shared.field(&field, Fact::Offset, i64::from(field.offset));
        let address = Expr::binary(B::Add, start, offset);
        match member.ty {
            Type::Ptr { .. } => {
                let pointer = Box::new(address);
                Expr::LoadTyped { pointer, offset: 0, size: 8, signed: false }
            }
            _ => address,
        }
    }

    /// A pointer of an iterator's context. It is null where there is nothing
    /// more, for which the program does not run.
    fn iterated(&mut self, offset: u32) -> Expr {
        let word = self.context_word(offset, 8, false);
        let cond = Expr::binary(B::Eq, word.clone(), Expr::Const(0));
        let result = Expr::Const(self.instance.context.result);
        let then = vec![Stmt { kind: StmtKind::Return(result), span: self.span }];
        let kind = StmtKind::If { cond, then, els: Vec::new() };
        self.prologue.push(Stmt { kind, span: self.span });
        word
    }
}

/// Whether an expression is the context of an iterator.
fn is_iterator(e: &tree::Expr) -> bool {
    matches!(&e.kind, ExprKind::Call { detail: Detail::Object(Object::Iterator), .. })
}
