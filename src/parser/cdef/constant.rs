//! Constant expressions of C: 32 or 64 bits, signed or not, as the standard has
//! it for machines where `int` has 4 bytes and `long` has 8.

use super::ast::{Expr, ExprKind, TypeName, UnaryOp};
use crate::diag::Diagnostic;
use crate::lexer::c::Number;
use crate::parser::ast::BinaryOp;
use crate::source::{Span, Spanned};

/// Why something is no constant.
pub type Wrong = Box<Diagnostic>;

/// What names and types in an expression mean.
pub trait Names {
    /// The value of a bare name.
    ///
    /// # Errors
    /// Why it has none.
    fn name(&mut self, name: &str, span: Span) -> Result<Number, Wrong>;

    /// Size and alignment of a type, in bytes.
    ///
    /// # Errors
    /// Why they are not known.
    fn type_size(&mut self, ty: &TypeName) -> Result<(u64, u64), Wrong>;

    /// The integer type that a cast is to: its bytes, and whether it is signed.
    ///
    /// # Errors
    /// Why it is none.
    fn cast(&mut self, ty: &TypeName) -> Result<(u8, bool), Wrong>;

    /// Where a member lies, in bytes.
    ///
    /// # Errors
    /// Why that is not known.
    fn offset(&mut self, ty: &TypeName, path: &[Spanned<String>]) -> Result<u64, Wrong>;
}

const INT: Number = Number { value: 0, long: false, unsigned: false };
const SIZE: Number = Number { value: 0, long: true, unsigned: true };

impl Number {
    /// A number of this one's type: `value` as far as it fits.
    fn with(self, value: i128) -> Number {
        let bits = if self.long { 64 } else { 32 };
        let low = value & ((1 << bits) - 1);
        let negative = !self.unsigned && low >> (bits - 1) != 0;
        Number { value: if negative { low - (1 << bits) } else { low }, ..self }
    }

    /// The type that two operands are brought to.
    fn common(self, other: Number) -> Number {
        if self.long == other.long {
            Number { unsigned: self.unsigned || other.unsigned, ..self }
        } else if self.long {
            self
        } else {
            other
        }
    }

    fn truth(value: bool) -> Number {
        INT.with(value.into())
    }
}

/// The value of an expression.
///
/// # Errors
/// What in it is no constant.
pub fn evaluate(e: &Expr, names: &mut dyn Names) -> Result<Number, Wrong> {
    match &e.node {
        ExprKind::Number(n) => Ok(*n),
        ExprKind::Name(name) => names.name(name, e.span),
        ExprKind::Unary { op, value } => {
            let n = evaluate(value, names)?;
            Ok(match op {
                UnaryOp::Plus => n,
                UnaryOp::Neg => n.with(-n.value),
                UnaryOp::BitNot => n.with(!n.value),
                UnaryOp::Not => Number::truth(n.value == 0),
            })
        }
        ExprKind::Binary { op: op @ (BinaryOp::And | BinaryOp::Or), left, right } => {
            let decided = *op == BinaryOp::Or;
            let left = evaluate(left, names)?.value != 0;
            if left == decided {
                return Ok(Number::truth(decided));
            }
            Ok(Number::truth(evaluate(right, names)?.value != 0))
        }
        ExprKind::Binary { op, left, right } => {
            let (a, b) = (evaluate(left, names)?, evaluate(right, names)?);
            binary(*op, a, b, e.span)
        }
        ExprKind::Ternary { cond, then, els } => {
            let chosen = if evaluate(cond, names)?.value != 0 { then } else { els };
            evaluate(chosen, names)
        }
        ExprKind::Cast { ty, value } => {
            let n = evaluate(value, names)?;
            let (size, signed) = names.cast(ty)?;
            Ok(cast(n, size, signed))
        }
        ExprKind::SizeofType(ty) => Ok(SIZE.with(names.type_size(ty)?.0.into())),
        ExprKind::Alignof(ty) => Ok(SIZE.with(names.type_size(ty)?.1.into())),
        ExprKind::SizeofExpr(value) => {
            let n = evaluate(value, names)?;
            Ok(SIZE.with(if n.long { 8 } else { 4 }))
        }
        ExprKind::Offsetof { ty, path } => Ok(SIZE.with(names.offset(ty, path)?.into())),
    }
}

fn binary(op: BinaryOp, a: Number, b: Number, span: Span) -> Result<Number, Wrong> {
    let ty = a.common(b);
    let (x, y) = (ty.with(a.value).value, ty.with(b.value).value);
    Ok(match op {
        BinaryOp::Add => ty.with(x + y),
        BinaryOp::Sub => ty.with(x - y),
        // Two factors below 2^64 can be too large for an i128, whose low bits
        // are right all the same.
        BinaryOp::Mul => ty.with(x.wrapping_mul(y)),
        BinaryOp::Div | BinaryOp::Mod => {
            if y == 0 {
                return Err(Box::new(Diagnostic::error(span, "division by zero")));
            }
            ty.with(if op == BinaryOp::Div { x / y } else { x % y })
        }
        BinaryOp::BitAnd => ty.with(x & y),
        BinaryOp::BitOr => ty.with(x | y),
        BinaryOp::BitXor => ty.with(x ^ y),
        // A shift has the type of its left side.
        BinaryOp::Shl | BinaryOp::Shr => {
            let bits = if a.long { 64 } else { 32 };
            if !(0..bits).contains(&b.value) {
                let message = format!("cannot shift {bits} bits by {}", b.value);
                return Err(Box::new(Diagnostic::error(span, message)));
            }
            a.with(if op == BinaryOp::Shl { a.value << b.value } else { a.value >> b.value })
        }
        BinaryOp::Eq => Number::truth(x == y),
        BinaryOp::Ne => Number::truth(x != y),
        BinaryOp::Lt => Number::truth(x < y),
        BinaryOp::Le => Number::truth(x <= y),
        BinaryOp::Gt => Number::truth(x > y),
        BinaryOp::Ge => Number::truth(x >= y),
        BinaryOp::And | BinaryOp::Or => unreachable!("bug: `&&` and `||` evaluate one side first"),
    })
}

/// Types smaller than `int` become one.
fn cast(n: Number, size: u8, signed: bool) -> Number {
    if size >= 4 {
        return Number { value: 0, long: size == 8, unsigned: !signed }.with(n.value);
    }
    let bits = u32::from(size) * 8;
    let low = n.value & ((1 << bits) - 1);
    let negative = signed && low >> (bits - 1) != 0;
    INT.with(if negative { low - (1 << bits) } else { low })
}
