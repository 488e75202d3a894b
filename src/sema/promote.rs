//! Which type two values have in common (language.md §13).

use crate::types::{Space, Type};

/// A type as inference knows it so far: `flexible` while only non-negative
/// integer literals were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub ty: Type,
    pub flexible: bool,
}

impl Joined {
    pub const UNKNOWN: Joined = Joined { ty: Type::Unknown, flexible: false };

    /// The common type with another value; `None` if there is none.
    pub fn join(&self, ty: &Type, flexible: bool) -> Option<Joined> {
        if self.ty == Type::Unknown {
            return Some(Joined { ty: ty.clone(), flexible });
        }
        if *ty == Type::Unknown {
            return Some(self.clone());
        }
        let both = self.flexible && flexible;
        promote(&self.ty, self.flexible, ty, flexible).map(|ty| Joined { ty, flexible: both })
    }
}

/// The common type of two values, or `None`. `*_flexible` marks a
/// non-negative integer literal, which takes the other's sign.
pub fn promote(a: &Type, a_flexible: bool, b: &Type, b_flexible: bool) -> Option<Type> {
    match (a, b) {
        (Type::Unknown, t) | (t, Type::Unknown) => Some(t.clone()),
        (Type::Int { .. }, Type::Int { .. }) => Some(integers(a, a_flexible, b, b_flexible)),
        (Type::Bool, Type::Bool) => Some(Type::Bool),
        (Type::Enum(x), Type::Enum(y)) if x.id == y.id => Some(a.clone()),
        // Bools and enums mixed with numbers become numbers.
        (x, y) if x.is_integer() && y.is_integer() => {
            Some(integers(&plain(x), a_flexible, &plain(y), b_flexible))
        }
        (Type::Str(m), Type::Str(n)) => Some(Type::Str(*m.max(n))),
        (Type::Buffer(m), Type::Buffer(n)) => Some(Type::Buffer(*m.max(n))),
        (Type::Ptr { to: x, space: s }, Type::Ptr { to: y, space: t }) => {
            let space = if s == t { *s } else { Space::None };
            let to = if x == y || **y == Type::Void {
                (**x).clone()
            } else if **x == Type::Void {
                (**y).clone()
            } else {
                promote(x, false, y, false)
                    .filter(|p| p.size() == x.size() && x.size() == y.size())?
            };
            Some(Type::ptr(to, space))
        }
        // A pointer and an address kept as a number.
        (Type::Ptr { space, .. }, Type::Int { .. }) if b_flexible => Some(with_space(a, *space)),
        (Type::Int { .. }, Type::Ptr { space, .. }) if a_flexible => Some(with_space(b, *space)),
        (Type::Tuple(x), Type::Tuple(y)) if x.len() == y.len() => {
            let list: Option<Vec<Type>> =
                x.iter().zip(y).map(|(x, y)| promote_element(x, y)).collect();
            list.map(Type::Tuple)
        }
        (Type::Record(x), Type::Record(y)) if x.len() == y.len() => {
            let list: Option<Vec<(String, Type)>> = x
                .iter()
                .map(|(name, t)| {
                    let other = y.iter().find(|f| f.0 == *name)?;
                    promote_element(t, &other.1).map(|t| (name.clone(), t))
                })
                .collect();
            list.map(Type::Record)
        }
        (Type::Stack { user: u, mode: m, limit: l }, Type::Stack { user, mode, limit })
            if u == user && m == mode =>
        {
            Some(Type::Stack { user: *u, mode: *m, limit: *l.max(limit) })
        }
        (x, y) if x == y => Some(x.clone()),
        _ => None,
    }
}

/// Elements of tuples that are literals have lost their flexibility; a signed
/// type no wider than an unsigned one is taken for one, as `(1, "a")` beside
/// `(pid, "b")` must agree.
fn promote_element(a: &Type, b: &Type) -> Option<Type> {
    promote(a, false, b, false)
}

/// A bool or enum as the number that carries it.
pub fn plain(ty: &Type) -> Type {
    match ty {
        Type::Bool => Type::int(1, false),
        Type::Enum(e) => Type::int(e.size, e.signed),
        other => other.clone(),
    }
}

fn with_space(ty: &Type, space: Space) -> Type {
    match ty {
        Type::Ptr { to, .. } => Type::Ptr { to: to.clone(), space },
        other => other.clone(),
    }
}

/// Language.md §13.3. Both are `Type::Int`.
fn integers(a: &Type, a_flexible: bool, b: &Type, b_flexible: bool) -> Type {
    let (Type::Int { size: m, signed: s, space: x }, Type::Int { size: n, signed: t, space: y }) =
        (a, b)
    else {
        unreachable!("bug: both types are integers");
    };
    let space = if x == y {
        *x
    } else if *x == Space::None && a_flexible {
        *y
    } else if *y == Space::None && b_flexible {
        *x
    } else {
        Space::None
    };
    let wide = *m.max(n);
    let (size, signed) = if s == t {
        (wide, *s)
    } else if a_flexible != b_flexible {
        (wide, if a_flexible { *t } else { *s })
    } else {
        let (signed_size, unsigned_size) = if *s { (*m, *n) } else { (*n, *m) };
        if signed_size > unsigned_size {
            (signed_size, true)
        } else if wide < 8 {
            (wide * 2, true)
        } else {
            (8, true)
        }
    };
    Type::Int { size, signed, space }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(size: u8, signed: bool) -> Type {
        Type::int(size, signed)
    }

    #[test]
    fn integers_follow_the_table() {
        let p = |a, af, b, bf| promote(&a, af, &b, bf);
        assert_eq!(p(int(1, true), false, int(4, true), false), Some(int(4, true)));
        assert_eq!(p(int(1, true), true, int(4, false), false), Some(int(4, false)));
        assert_eq!(p(int(8, true), false, int(4, false), false), Some(int(8, true)));
        assert_eq!(p(int(4, true), false, int(4, false), false), Some(int(8, true)));
        assert_eq!(p(int(1, true), false, int(8, false), false), Some(int(8, true)));
        assert_eq!(p(Type::Bool, false, int(2, true), true), Some(int(2, false)));
    }

    #[test]
    fn strings_take_the_longer() {
        assert_eq!(promote(&Type::Str(4), false, &Type::Str(16), false), Some(Type::Str(16)));
        assert_eq!(promote(&Type::Str(4), false, &int(8, true), false), None);
    }
}
