//! Values of the language, and what operators do with them: integers of all widths, truth values
//! and texts. The rules are those of C, but that every result is 64 bits wide.

use std::fmt;

/// A type of integers, or of truth values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// In bytes.
    pub size: u32,
    pub signed: bool,
    /// Takes the other operand's sign.
    pub flexible: bool,
    pub truth: bool,
}

impl Kind {
    pub const TRUTH: Kind = Kind { size: 1, signed: false, flexible: false, truth: true };

    pub fn int(size: u32, signed: bool) -> Kind {
        Kind { size, signed, flexible: false, truth: false }
    }

    pub fn name(self) -> String {
        format!("{}int{}", if self.signed { "" } else { "u" }, self.size * 8)
    }
}

/// A value: bits that are already extended to 64 according to the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    pub kind: Kind,
    pub bits: u64,
    /// A literal, or computed from literals alone: exact, whatever its type.
    pub literal: bool,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind { truth: true, .. } => write!(f, "{}", self.bits != 0),
            Kind { signed: true, .. } => write!(f, "{}", self.bits as i64),
            _ => write!(f, "{}", self.bits),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

impl Op {
    pub const ALL: [Op; 16] = [
        Op::Add,
        Op::Sub,
        Op::Mul,
        Op::Div,
        Op::Mod,
        Op::And,
        Op::Or,
        Op::Xor,
        Op::Shl,
        Op::Shr,
        Op::Lt,
        Op::Le,
        Op::Gt,
        Op::Ge,
        Op::Eq,
        Op::Ne,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Sub => "-",
            Op::Mul => "*",
            Op::Div => "/",
            Op::Mod => "%",
            Op::And => "&",
            Op::Or => "|",
            Op::Xor => "^",
            Op::Shl => "<<",
            Op::Shr => ">>",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
            Op::Eq => "==",
            Op::Ne => "!=",
        }
    }

    fn compares(self) -> bool {
        matches!(self, Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne)
    }
}

impl Value {
    pub fn truth(value: bool) -> Value {
        Value { kind: Kind::TRUTH, bits: u64::from(value), literal: false }
    }

    /// The smallest signed type that holds it; beyond these, `uint64`.
    pub fn literal(value: i128) -> Option<Value> {
        let holds = |size: &u32| {
            let half = 1i128 << (size * 8 - 1);
            (-half..half).contains(&value)
        };
        let (size, signed) = match [1, 2, 4, 8].into_iter().find(|s| holds(s)) {
            Some(size) => (size, true),
            None if u64::try_from(value).is_ok() => (8, false),
            None => return None,
        };
        let kind = Kind { size, signed, flexible: value >= 0, truth: false };
        Some(Value { kind, bits: value as u64, literal: true })
    }

    fn exact(self) -> i128 {
        match self.kind.signed {
            true => i128::from(self.bits as i64),
            false => i128::from(self.bits),
        }
    }

    /// Cut to a type's width and extended again.
    pub fn cast(self, to: Kind) -> Value {
        let shift = 64 - to.size * 8;
        let bits = match (to.truth, to.signed) {
            (true, _) => u64::from(self.bits != 0),
            (_, true) => (((self.bits << shift) as i64) >> shift) as u64,
            (_, false) => (self.bits << shift) >> shift,
        };
        Value { kind: Kind { flexible: false, ..to }, bits, literal: false }
    }

    pub fn negate(self) -> Option<Value> {
        if self.literal {
            return Value::literal(-self.exact());
        }
        Some(self.wide(self.kind.signed, self.bits.wrapping_neg()))
    }

    pub fn complement(self) -> Option<Value> {
        if self.literal && self.kind.signed {
            return Value::literal(!self.exact());
        }
        Some(self.wide(self.kind.signed, !self.bits))
    }

    fn wide(self, signed: bool, bits: u64) -> Value {
        Value { kind: Kind::int(8, signed), bits, literal: false }
    }

    /// `None` for literals whose result no type holds.
    pub fn binary(op: Op, a: Value, b: Value) -> Option<Value> {
        if a.literal && b.literal {
            return Value::exactly(op, a.exact(), b.exact());
        }
        let signed = match (a.kind.flexible, b.kind.flexible) {
            (true, false) => b.kind.signed,
            (false, true) => a.kind.signed,
            _ => a.kind.signed || b.kind.signed,
        };
        let (x, y) = (a.bits, b.bits);
        let (sx, sy) = (x as i64, y as i64);
        if op.compares() {
            let order = if signed { sx.cmp(&sy) } else { x.cmp(&y) };
            return Some(Value::truth(match op {
                Op::Lt => order.is_lt(),
                Op::Le => order.is_le(),
                Op::Gt => order.is_gt(),
                Op::Ge => order.is_ge(),
                Op::Eq => order.is_eq(),
                _ => order.is_ne(),
            }));
        }
        // As in C, 64 unsigned bits are divided as such.
        let division = signed && (a.kind.signed || b.kind.signed && a.kind.size < 8);
        let bits = match op {
            Op::Add => x.wrapping_add(y),
            Op::Sub => x.wrapping_sub(y),
            Op::Mul => x.wrapping_mul(y),
            Op::Div | Op::Mod if y == 0 => 1,
            Op::Div if division => sx.wrapping_div(sy) as u64,
            Op::Mod if division => sx.wrapping_rem(sy) as u64,
            Op::Div => x / y,
            Op::Mod => x % y,
            Op::And => x & y,
            Op::Or => x | y,
            Op::Xor => x ^ y,
            Op::Shl => x << (y & 63),
            Op::Shr if a.kind.signed => (sx >> (y & 63)) as u64,
            _ => x >> (y & 63),
        };
        Some(a.wide(signed || op == Op::Sub, bits))
    }

    fn exactly(op: Op, a: i128, b: i128) -> Option<Value> {
        let shift = (b & 63) as u32;
        Value::literal(match op {
            Op::Lt => return Some(Value::truth(a < b)),
            Op::Le => return Some(Value::truth(a <= b)),
            Op::Gt => return Some(Value::truth(a > b)),
            Op::Ge => return Some(Value::truth(a >= b)),
            Op::Eq => return Some(Value::truth(a == b)),
            Op::Ne => return Some(Value::truth(a != b)),
            Op::Add => a + b,
            Op::Sub => a - b,
            Op::Mul => a.checked_mul(b)?,
            Op::Div => a.checked_div(b)?,
            Op::Mod => a.checked_rem(b)?,
            Op::And => a & b,
            Op::Or => a | b,
            Op::Xor => a ^ b,
            Op::Shl => a << shift,
            Op::Shr => a >> shift,
        })
    }

    /// The value of `c ? a : b` for the one that is taken.
    pub fn promoted(self, other: Value) -> Option<Value> {
        if self.kind.truth && other.kind.truth {
            return Some(self);
        }
        let kind = promote(self.kind, other.kind);
        Some(Value { literal: false, ..self.cast(kind) })
    }
}

/// The type that both types convert to.
fn promote(a: Kind, b: Kind) -> Kind {
    let size = a.size.max(b.size);
    if a.signed == b.signed {
        return Kind { flexible: a.flexible && b.flexible, ..Kind::int(size, a.signed) };
    }
    match (a.flexible, b.flexible) {
        (true, false) => return Kind::int(size, b.signed),
        (false, true) => return Kind::int(size, a.signed),
        _ => {}
    }
    let (signed, unsigned) = if a.signed { (a, b) } else { (b, a) };
    if signed.size > unsigned.size {
        Kind::int(signed.size, true)
    } else {
        Kind::int((size * 2).min(8), true)
    }
}
