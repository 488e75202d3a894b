//! Checking of binary operators: what they work on, what they give, and their
//! value where both sides are constant (language.md §11.7, §13).

use super::access::cut;
use super::check::Checker;
use super::promote::{plain, promote};
use super::statement::shown;
use super::tree::{Expr, ExprKind};
use crate::diag::{Diagnostic, Warning};
use crate::parser::ast::BinaryOp;
use crate::source::Span;
use crate::types::{Space, Type};

impl Checker<'_> {
    /// A binary operator on checked operands.
    pub(super) fn binary(&mut self, op: BinaryOp, left: Expr, right: Expr, span: Span) -> Expr {
        if left.is_error() || right.is_error() {
            return Expr::error(span);
        }
        if matches!(op, BinaryOp::And | BinaryOp::Or) {
            return self.logical(op, left, right, span);
        }
        let comparison = matches!(
            op,
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge
        );
        if let (Some(a), Some(b)) = (left.constant(), right.constant()) {
            if left.is_exact() && right.is_exact() {
                return self.fold(op, a, b, comparison, span);
            }
            if left.ty.is_integer() && right.ty.is_integer() {
                return self.fold_words(op, &left, &right, comparison, span);
            }
        }
        if let (Some(a), Some(b)) = (left.text(), right.text()) {
            return self.fold_text(op, a.to_vec(), b.to_vec(), span);
        }
        if let (Some(text), Some(n), BinaryOp::Add) = (left.text(), right.constant(), op) {
            let rest = usize::try_from(n).ok().and_then(|n| text.get(n..)).unwrap_or_default();
            return self.string(rest, span);
        }
        let numeric = |t: &Type| t.is_integer() || *t == Type::Unknown;
        match (&left.ty, &right.ty) {
            (a, b) if numeric(a) && numeric(b) => {
                self.arithmetic(op, left, right, comparison, span)
            }
            (Type::Ptr { .. }, b) if numeric(b) => self.pointer(op, left, right, comparison, span),
            (a, Type::Ptr { .. }) if numeric(a) && (comparison || op == BinaryOp::Add) => {
                if comparison {
                    self.compare_words(op, left, right, false, span)
                } else {
                    self.pointer(op, right, left, comparison, span)
                }
            }
            (Type::Ptr { to: x, .. }, Type::Ptr { to: y, .. }) if comparison => {
                if x != y && **x != Type::Void && **y != Type::Void {
                    let d = Diagnostic::warning(
                        Warning::PointerComparison,
                        span,
                        "pointers to different types are compared",
                    )
                    .label(left.span, format!("this is `{}`", left.ty))
                    .label(right.span, format!("this is `{}`", right.ty));
                    self.diags.push(d.help("cast one of them if that is meant"));
                }
                self.compare_words(op, left, right, false, span)
            }
            (Type::Ksym | Type::Username, b) | (b, Type::Ksym | Type::Username)
                if comparison && (numeric(b) || left.ty == right.ty) =>
            {
                self.compare_words(op, left, right, false, span)
            }
            (a, b) if matches!(op, BinaryOp::Eq | BinaryOp::Ne) && comparable(a, b) => {
                let kind = ExprKind::CompareMemory {
                    equal: op == BinaryOp::Eq,
                    left: Box::new(left),
                    right: Box::new(right),
                };
                Expr::new(kind, Type::Bool, span)
            }
            _ => {
                let message = if comparison {
                    format!("these cannot be compared by `{}`", op.text())
                } else {
                    format!("`{}` does not work on these", op.text())
                };
                let mut d = Diagnostic::error(right.span, message)
                    .at(format!("this is {}", shown(&right)))
                    .label(left.span, format!("this is {}", shown(&left)));
                let equality = matches!(op, BinaryOp::Eq | BinaryOp::Ne);
                d = match (&left.ty, &right.ty) {
                    (Type::Str(_), Type::Str(_)) => {
                        d.help("strings know `==` and `!=`; see also `strncmp`")
                    }
                    (Type::Str(_), b) if equality && numeric(b) => match right.constant() {
                        Some(n) => d
                            .help(format!("a string is compared with a string: `\"{n}\"`"))
                            .replace(right.span, format!("\"{n}\"")),
                        None => d.help("a string is compared with a string"),
                    },
                    (a, Type::Str(_)) if equality && numeric(a) => d.help(
                        "a string is compared with a string; `str(p)` reads one at an address",
                    ),
                    (Type::Tuple(_), Type::Tuple(_)) if !equality => {
                        d.help("tuples know `==` and `!=`; compare their elements: `$t.0 < …`")
                    }
                    (Type::Tuple(a), Type::Tuple(b)) if a.len() != b.len() => {
                        d.note("one of them has more elements")
                    }
                    (Type::Ptr { .. }, _) | (_, Type::Ptr { .. }) => {
                        d.help("cast the pointer to a number: `(uint64)…`")
                    }
                    _ => d,
                };
                self.fail(d)
            }
        }
    }

    /// Two addresses of different address spaces in one computation.
    fn warn_spaces(&mut self, op: BinaryOp, left: &Expr, right: &Expr) {
        let of = |e: &Expr| match e.ty.space() {
            Space::User => "this comes from user memory",
            Space::Kernel | Space::None => "this comes from kernel memory",
        };
        let message = format!("`{}` mixes kernel and user addresses", op.text());
        let d = Diagnostic::warning(Warning::AddressSpaces, right.span, message)
            .at(of(right))
            .label(left.span, of(left))
            .note("the result is in no address space");
        self.diags.push(d.help("`kptr(…)` or `uptr(…)` around the result says which one it is in"));
    }

    fn logical(&mut self, op: BinaryOp, left: Expr, right: Expr, span: Span) -> Expr {
        for e in [&left, &right] {
            let fine = e.ty.is_integer()
                || matches!(e.ty, Type::Ptr { .. } | Type::Unknown)
                || e.text().is_some();
            if !fine {
                let d = Diagnostic::error(e.span, format!("`{}` needs conditions", op.text()))
                    .at(format!("this is {}", shown(e)))
                    .help("compare it with something");
                return self.fail(d);
            }
        }
        let truth = |e: &Expr| match (e.constant(), e.text()) {
            (Some(n), _) => Some(n != 0),
            (_, Some(t)) => Some(!t.is_empty()),
            _ => None,
        };
        let and = op == BinaryOp::And;
        if let (Some(a), Some(b)) = (truth(&left), truth(&right)) {
            let value = if and { a && b } else { a || b };
            return Expr::new(ExprKind::Int(i128::from(value)), Type::Bool, span);
        }
        let kind = ExprKind::Logical { and, left: Box::new(left), right: Box::new(right) };
        Expr::new(kind, Type::Bool, span)
    }

    /// Language.md §13.2.
    fn arithmetic(
        &mut self,
        op: BinaryOp,
        left: Expr,
        right: Expr,
        comparison: bool,
        span: Span,
    ) -> Expr {
        let signed = common_sign(&left, &right);
        if comparison {
            return self.compare_words(op, left, right, signed, span);
        }
        if matches!(op, BinaryOp::Div | BinaryOp::Mod) && right.constant() == Some(0) {
            return self.fail(Diagnostic::error(right.span, "division by zero").at("this is 0"));
        }
        let space = match (left.ty.space(), right.ty.space()) {
            (a, b) if a == b => a,
            (a, Space::None) => a,
            (Space::None, b) => b,
            _ => {
                // Smaller numbers are no addresses.
                if left.ty.size() == 8 && right.ty.size() == 8 {
                    self.warn_spaces(op, &left, &right);
                }
                Space::None
            }
        };
        let signed = signed || op == BinaryOp::Sub;
        let ty = Type::Int { size: 8, signed, space };
        let kind = ExprKind::Binary { op, left: Box::new(left), right: Box::new(right) };
        Expr::new(kind, ty, span)
    }

    /// A comparison of words. Signedness goes into the operands' types: both
    /// get the type that they are compared as.
    fn compare_words(
        &mut self,
        op: BinaryOp,
        left: Expr,
        right: Expr,
        signed: bool,
        span: Span,
    ) -> Expr {
        let as_type = |e: Expr| {
            let s = e.span;
            Expr::new(ExprKind::Cast(Box::new(e)), Type::int(8, signed), s)
        };
        let kind =
            ExprKind::Binary { op, left: Box::new(as_type(left)), right: Box::new(as_type(right)) };
        Expr::new(kind, Type::Bool, span)
    }

    fn pointer(
        &mut self,
        op: BinaryOp,
        pointer: Expr,
        number: Expr,
        comparison: bool,
        span: Span,
    ) -> Expr {
        if comparison {
            return self.compare_words(op, pointer, number, false, span);
        }
        if !matches!(op, BinaryOp::Add | BinaryOp::Sub) {
            let d = Diagnostic::error(span, format!("`{}` does not work on a pointer", op.text()))
                .label(pointer.span, format!("this is `{}`", pointer.ty))
                .help("cast it to a number: `(uint64)…`");
            return self.fail(d);
        }
        let Type::Ptr { to, .. } = &pointer.ty else {
            unreachable!("bug: the left operand is a pointer");
        };
        let size = self.size_of(to, number.span);
        let scale = size.constant().map(|n| n.max(1));
        let ty = pointer.ty.clone();
        let number_span = number.span;
        let scaled = match (number.constant(), scale) {
            (Some(n), Some(scale)) => Expr::literal(n * scale, number_span),
            (None, Some(1)) => number,
            _ => {
                let kind = ExprKind::Binary {
                    op: BinaryOp::Mul,
                    left: Box::new(number),
                    right: Box::new(scale.map_or(size, |n| Expr::literal(n, number_span))),
                };
                Expr::new(kind, Type::INT64, number_span)
            }
        };
        let kind = ExprKind::Binary { op, left: Box::new(pointer), right: Box::new(scaled) };
        Expr::new(kind, ty, span)
    }

    /// The value of an operator on constants that have a type: what a program
    /// would compute, in 64 bits.
    fn fold_words(
        &mut self,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        comparison: bool,
        span: Span,
    ) -> Expr {
        let signed = common_sign(left, right);
        let (Some(a), Some(b)) = (left.constant(), right.constant()) else {
            return Expr::error(span);
        };
        let as_word = |n: i128, signed: bool| cut(n, 8, signed);
        let (a, b) = match comparison {
            true => (as_word(a, signed), as_word(b, signed)),
            false => (a, b),
        };
        if comparison {
            return self.fold(op, a, b, comparison, span);
        }
        let (a, b) = match op {
            BinaryOp::Div | BinaryOp::Mod => {
                let signed = divides_signed(&left.ty, &right.ty, signed);
                (as_word(a, signed), as_word(b, signed))
            }
            BinaryOp::Shr => (as_word(a, left.ty.is_signed()), b),
            _ => (a, b),
        };
        let Some((value, _)) = compute(op, a, b) else {
            return self.fail(Diagnostic::error(span, "division by zero"));
        };
        word(value, signed || op == BinaryOp::Sub, span)
    }

    fn fold(&mut self, op: BinaryOp, a: i128, b: i128, comparison: bool, span: Span) -> Expr {
        if comparison {
            let value = match op {
                BinaryOp::Eq => a == b,
                BinaryOp::Ne => a != b,
                BinaryOp::Lt => a < b,
                BinaryOp::Le => a <= b,
                BinaryOp::Gt => a > b,
                _ => a >= b,
            };
            return Expr::new(ExprKind::Int(i128::from(value)), Type::Bool, span);
        }
        let Some((value, overflows)) = compute(op, a, b) else {
            return self.fail(Diagnostic::error(span, "division by zero"));
        };
        if overflows || value < i128::from(i64::MIN) || value > i128::from(u64::MAX) {
            return self.overflow(span);
        }
        Expr::literal(value, span)
    }

    fn fold_text(&mut self, op: BinaryOp, a: Vec<u8>, b: Vec<u8>, span: Span) -> Expr {
        let truth = match op {
            BinaryOp::Add => {
                let joined: Vec<u8> = a.into_iter().chain(b).collect();
                return self.string(&joined, span);
            }
            BinaryOp::Eq => a == b,
            BinaryOp::Ne => a != b,
            BinaryOp::Lt => a < b,
            BinaryOp::Le => a <= b,
            BinaryOp::Gt => a > b,
            BinaryOp::Ge => a >= b,
            _ => {
                let d =
                    Diagnostic::error(span, format!("`{}` does not work on strings", op.text()));
                return self.fail(d);
            }
        };
        Expr::new(ExprKind::Int(i128::from(truth)), Type::Bool, span)
    }
}

/// The value of an operator on integers that fit a word, and whether it does not fit 128 bits, of
/// which the lower ones are given then; nothing for a division by zero.
fn compute(op: BinaryOp, a: i128, b: i128) -> Option<(i128, bool)> {
    let shift = u32::try_from(b & 63).unwrap_or(0);
    let value = match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => return Some(a.overflowing_mul(b)),
        BinaryOp::Div => a.checked_div(b)?,
        BinaryOp::Mod => a.checked_rem(b)?,
        BinaryOp::BitAnd => a & b,
        BinaryOp::BitOr => a | b,
        BinaryOp::BitXor => a ^ b,
        BinaryOp::Shl => a << shift,
        BinaryOp::Shr => a >> shift,
        _ => a,
    };
    Some((value, false))
}

/// Whether an operator's result is signed: a literal takes the other's sign
/// (language.md §13.2).
fn common_sign(left: &Expr, right: &Expr) -> bool {
    match (left.flexible, right.flexible) {
        (true, false) => plain(&right.ty).is_signed(),
        (false, true) => plain(&left.ty).is_signed(),
        _ => left.ty.is_signed() || right.ty.is_signed(),
    }
}

/// Whether a division is one of signed numbers. A dividend of 64 unsigned bits
/// stays unsigned, as in C; narrower ones fit a signed word.
pub(in crate::sema) fn divides_signed(left: &Type, right: &Type, signed: bool) -> bool {
    signed && (left.is_signed() || right.is_signed() && plain(left).size() < 8)
}

/// A constant of 64 bits that has a type.
pub(super) fn word(value: i128, signed: bool, span: Span) -> Expr {
    Expr::new(ExprKind::Int(cut(value, 8, signed)), Type::int(8, signed), span)
}

/// Whether `==` can compare two values in memory.
fn comparable(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Str(_), Type::Str(_)) => true,
        (Type::Array { .. }, Type::Array { .. }) => a == b,
        (
            Type::Buffer(_)
            | Type::Tuple(_)
            | Type::Record(_)
            | Type::Inet
            | Type::Mac
            | Type::Usym
            | Type::Stack { .. },
            _,
        ) => promote(a, false, b, false).is_some(),
        _ => false,
    }
}
