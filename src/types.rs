//! What the language can say about a value: its type.
//!
//! Sizes and alignments are in bytes. Types of kernel structs are references
//! ([`StructRef`]); their members are read from [`crate::host`] when needed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which memory an address points into; part of the static type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Space {
    /// Not known: a number that came from nowhere in particular.
    #[default]
    None,
    Kernel,
    User,
}

/// A type of the language.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// Not settled yet, or the result of an error; silences what follows.
    Unknown,
    Void,
    /// 1, 2, 4 or 8 bytes.
    Int {
        size: u8,
        signed: bool,
        space: Space,
    },
    Bool,
    Enum(EnumRef),
    /// NUL-padded bytes, the NUL included in the size.
    Str(u32),
    /// A 4-byte length, then that many bytes of room.
    Buffer(u32),
    Ptr {
        to: Box<Type>,
        space: Space,
    },
    Array {
        of: Box<Type>,
        len: u32,
    },
    /// A struct or union.
    Struct(StructRef),
    Tuple(Vec<Type>),
    /// A tuple with names.
    Record(Vec<(String, Type)>),
    Stack {
        user: bool,
        mode: StackMode,
        limit: u32,
    },
    Ksym,
    Usym,
    /// Address family (8 bytes), then up to 16 bytes of address.
    Inet,
    Mac,
    Username,
    Timestamp,
    CgroupPath,
    /// The value of a map that is assigned by `count()` and the like.
    Aggregate(Aggregation),
    /// What C can declare and we cannot read (floats); the name is shown.
    Unsupported(String),
}

/// A named enum of the kernel or the script. `id` finds its constants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnumRef {
    pub name: String,
    pub size: u8,
    pub signed: bool,
    pub id: TypeId,
}

/// A struct or union by reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StructRef {
    pub union: bool,
    pub name: String,
    pub size: u32,
    pub id: TypeId,
}

/// Where a type is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TypeId {
    /// A type of kernel BTF; `module` 0 is vmlinux.
    Btf { module: u16, id: u32 },
    /// A definition in the script, by its index.
    Script(u32),
    /// A type of a user binary, by its number in `host::dwarf::UserTypes`.
    User(u32),
}

/// A member of a struct or union; members of anonymous members are listed as
/// if they stood in the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub ty: Type,
    /// From the start of the struct.
    pub offset: u32,
    /// Set for bit fields: read `size` bytes at `offset`, shift right, mask.
    pub bits: Option<Bits>,
    /// The BTF type tag of a pointer member (`user`, `percpu`, `rcu`), if any.
    pub tag: Option<String>,
}

/// How to take a bit field out of the bytes that cover it (little endian; `Lower::bits` has the other way).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits {
    /// 1, 2, 4 or 8 bytes to read.
    pub size: u8,
    pub shift: u8,
    pub width: u8,
}

/// How a stack is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackMode {
    #[default]
    Bpftrace,
    Perf,
    Raw,
    BuildId,
}

/// What a map accumulates; per CPU, merged when read.
///
/// The value is an array of 64-bit words; [`Aggregation::words`] says how many
/// and each variant what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// `[count]`
    Count,
    /// `[sum]`
    Sum { signed: bool },
    /// `[value, is set]`
    Min { signed: bool },
    /// `[value, is set]`
    Max { signed: bool },
    /// `[total, count]`
    Avg { signed: bool },
    /// `[total, count]`
    Stats { signed: bool },
    /// One word per bucket: below zero, then 2^bits buckets per power of two.
    Hist { bits: u8 },
    /// One word per bucket: underflow, the steps, overflow.
    Lhist { min: i64, max: i64, step: i64 },
    /// [`SERIES_WORDS`] per interval, reused in turn: the interval's number
    /// since 1970 by the TAI clock (0: unused), the value, and how many samples
    /// it has (`last`: when it came). `interval` is in nanoseconds.
    Tseries { interval: u64, count: u32, function: Series, signed: bool },
}

/// What becomes of the samples of an interval of a time series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// The most recent one counts.
    Last,
    Avg,
    Max,
    Min,
    Sum,
}

/// Words of an interval of a time series.
pub const SERIES_WORDS: u32 = 3;

impl Aggregation {
    /// 64-bit words of a value on one CPU.
    pub fn words(&self) -> u32 {
        match self {
            Aggregation::Count | Aggregation::Sum { .. } => 1,
            Aggregation::Min { .. }
            | Aggregation::Max { .. }
            | Aggregation::Avg { .. }
            | Aggregation::Stats { .. } => 2,
            // Index of the largest value, 2^63 - 1, plus one. See builtins.md §8:
            // ((62 - k + 1) << k) + (2^k - 1) + 1 is the highest index.
            Aggregation::Hist { bits } => ((64 - u32::from(*bits)) << bits) + 1,
            Aggregation::Lhist { min, max, step } => {
                u32::try_from((max - min) / step).unwrap_or(1000) + 2
            }
            Aggregation::Tseries { count, .. } => count.saturating_mul(SERIES_WORDS),
        }
    }

    /// The function that makes it.
    pub fn function(&self) -> &'static str {
        match self {
            Aggregation::Count => "count",
            Aggregation::Sum { .. } => "sum",
            Aggregation::Min { .. } => "min",
            Aggregation::Max { .. } => "max",
            Aggregation::Avg { .. } => "avg",
            Aggregation::Stats { .. } => "stats",
            Aggregation::Hist { .. } => "hist",
            Aggregation::Lhist { .. } => "lhist",
            Aggregation::Tseries { .. } => "tseries",
        }
    }

    /// Whether an element can be read as an integer.
    pub fn castable(&self) -> bool {
        match self {
            Aggregation::Count
            | Aggregation::Sum { .. }
            | Aggregation::Min { .. }
            | Aggregation::Max { .. }
            | Aggregation::Avg { .. } => true,
            Aggregation::Stats { .. }
            | Aggregation::Hist { .. }
            | Aggregation::Lhist { .. }
            | Aggregation::Tseries { .. } => false,
        }
    }

    /// Whether its integer form is signed.
    pub fn signed(&self) -> bool {
        match self {
            Aggregation::Sum { signed }
            | Aggregation::Min { signed }
            | Aggregation::Max { signed }
            | Aggregation::Avg { signed }
            | Aggregation::Stats { signed }
            | Aggregation::Tseries { signed, .. } => *signed,
            Aggregation::Count | Aggregation::Hist { .. } | Aggregation::Lhist { .. } => false,
        }
    }
}

impl Type {
    pub const INT64: Type = Type::Int { size: 8, signed: true, space: Space::None };
    pub const UINT64: Type = Type::Int { size: 8, signed: false, space: Space::None };

    /// An integer that points nowhere in particular.
    pub fn int(size: u8, signed: bool) -> Type {
        Type::Int { size, signed, space: Space::None }
    }

    /// A pointer.
    pub fn ptr(to: Type, space: Space) -> Type {
        Type::Ptr { to: Box::new(to), space }
    }

    /// Bytes that a value takes in memory.
    pub fn size(&self) -> u32 {
        match self {
            Type::Unknown | Type::Void | Type::Unsupported(_) => 0,
            Type::Int { size, .. } => u32::from(*size),
            Type::Bool => 1,
            Type::Enum(e) => u32::from(e.size),
            Type::Str(n) => *n,
            Type::Buffer(n) => 4 + n,
            Type::Ptr { .. } | Type::Ksym | Type::Username => 8,
            Type::Array { of, len } => of.size().saturating_mul(*len),
            Type::Struct(s) => s.size,
            Type::Tuple(types) => layout_of(types.iter()).1,
            Type::Record(fields) => layout_of(fields.iter().map(|f| &f.1)).1,
            Type::Stack { .. } | Type::Usym | Type::Timestamp | Type::CgroupPath => 16,
            Type::Inet => 24,
            Type::Mac => 6,
            Type::Aggregate(a) => 8 * a.words(),
        }
    }

    /// Alignment inside a tuple (language.md §12.3).
    pub fn align(&self) -> u32 {
        match self {
            Type::Unknown | Type::Void | Type::Unsupported(_) | Type::Bool => 1,
            Type::Str(_)
            | Type::Inet
            | Type::Mac
            | Type::Timestamp
            | Type::Usym
            | Type::CgroupPath => 1,
            Type::Int { size, .. } => u32::from(*size),
            Type::Enum(e) => u32::from(e.size),
            Type::Buffer(_) => 1,
            Type::Ptr { .. } | Type::Ksym | Type::Username | Type::Stack { .. } => 8,
            Type::Array { of, .. } => of.align(),
            Type::Struct(_) | Type::Aggregate(_) => 8,
            Type::Tuple(types) => types.iter().map(Type::align).max().unwrap_or(1),
            Type::Record(fields) => fields.iter().map(|f| f.1.align()).max().unwrap_or(1),
        }
    }

    /// Offsets of the elements of a tuple or record; empty for other types.
    pub fn offsets(&self) -> Vec<u32> {
        match self {
            Type::Tuple(types) => layout_of(types.iter()).0,
            Type::Record(fields) => layout_of(fields.iter().map(|f| &f.1)).0,
            _ => Vec::new(),
        }
    }

    /// Whether a value fits a register (all others live in memory).
    pub fn is_scalar(&self) -> bool {
        matches!(
            self,
            Type::Int { .. }
                | Type::Bool
                | Type::Enum(_)
                | Type::Ptr { .. }
                | Type::Ksym
                | Type::Username
        )
    }

    /// Whether there are values that live in memory.
    pub fn is_memory(&self) -> bool {
        match self {
            Type::Str(_)
            | Type::Buffer(_)
            | Type::Array { .. }
            | Type::Struct(_)
            | Type::Tuple(_)
            | Type::Record(_)
            | Type::Stack { .. }
            | Type::Usym
            | Type::Inet
            | Type::Mac
            | Type::Timestamp
            | Type::CgroupPath => true,
            Type::Unknown
            | Type::Void
            | Type::Int { .. }
            | Type::Bool
            | Type::Enum(_)
            | Type::Ptr { .. }
            | Type::Ksym
            | Type::Username
            | Type::Aggregate(_)
            | Type::Unsupported(_) => false,
        }
    }

    /// Whether the value counts as a number: integer, bool or enum.
    pub fn is_integer(&self) -> bool {
        matches!(self, Type::Int { .. } | Type::Bool | Type::Enum(_))
    }

    /// Signedness of a number; false for everything else.
    pub fn is_signed(&self) -> bool {
        match self {
            Type::Int { signed, .. } => *signed,
            Type::Enum(e) => e.signed,
            _ => false,
        }
    }

    /// What kind of type it is, in a word (`base_type` of `typeinfo`).
    pub fn family(&self) -> &'static str {
        match self {
            Type::Unknown | Type::Unsupported(_) => "none",
            Type::Void => "void",
            Type::Int { .. } => "int",
            Type::Bool => "bool",
            Type::Enum(_) => "enum",
            Type::Str(_) => "string",
            Type::Buffer(_) => "buffer",
            Type::Ptr { .. } => "pointer",
            Type::Array { .. } => "array",
            Type::Struct(_) => "c_type",
            Type::Tuple(_) => "tuple",
            Type::Record(_) => "record",
            Type::Stack { user: true, .. } => "ustack",
            Type::Stack { user: false, .. } => "kstack",
            Type::Ksym => "ksym_t",
            Type::Usym => "usym_t",
            Type::Inet => "inet",
            Type::Mac => "mac_address",
            Type::Username => "username_t",
            Type::Timestamp => "timestamp",
            Type::CgroupPath => "cgroup_path_t",
            Type::Aggregate(a) => a.function(),
        }
    }

    /// The address space of a pointer or of an integer that may be one.
    pub fn space(&self) -> Space {
        match self {
            Type::Int { space, .. } | Type::Ptr { space, .. } => *space,
            _ => Space::None,
        }
    }
}

/// Offsets and total size of values one after the other, as C lays out a struct.
fn layout_of<'a>(types: impl Iterator<Item = &'a Type>) -> (Vec<u32>, u32) {
    let (mut offsets, mut end, mut max) = (Vec::new(), 0u32, 1);
    for ty in types {
        let align = ty.align().max(1);
        max = max.max(align);
        end = end.next_multiple_of(align);
        offsets.push(end);
        end = end.saturating_add(ty.size());
    }
    (offsets, end.next_multiple_of(max))
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Unknown => f.write_str("unknown"),
            Type::Void => f.write_str("void"),
            Type::Int { size, signed, .. } => {
                write!(f, "{}int{}", if *signed { "" } else { "u" }, u32::from(*size) * 8)
            }
            Type::Bool => f.write_str("bool"),
            Type::Enum(e) => write!(f, "enum {}", e.name),
            // Of any size.
            Type::Str(0) => f.write_str("string"),
            Type::Buffer(0) => f.write_str("buffer"),
            Type::Str(n) => write!(f, "string[{n}]"),
            Type::Buffer(n) => write!(f, "buffer[{n}]"),
            Type::Ptr { to, .. } => write!(f, "{to} *"),
            Type::Array { of, len } => write!(f, "{of}[{len}]"),
            Type::Struct(s) => {
                write!(f, "{} {}", if s.union { "union" } else { "struct" }, s.name)
            }
            Type::Tuple(types) => {
                f.write_str("(")?;
                for (i, t) in types.iter().enumerate() {
                    write!(f, "{}{t}", if i > 0 { "," } else { "" })?;
                }
                f.write_str(")")
            }
            Type::Record(fields) => {
                f.write_str("record { ")?;
                for (i, (name, t)) in fields.iter().enumerate() {
                    write!(f, "{}.{name} = {t}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(" }")
            }
            Type::Stack { user, .. } => f.write_str(if *user { "ustack" } else { "kstack" }),
            Type::Ksym => f.write_str("ksym_t"),
            Type::Usym => f.write_str("usym_t"),
            Type::Inet => f.write_str("inet"),
            Type::Mac => f.write_str("mac_address"),
            Type::Username => f.write_str("username_t"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::CgroupPath => f.write_str("cgroup_path_t"),
            Type::Aggregate(a) => write!(f, "{}_t", a.function()),
            Type::Unsupported(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_laid_out_like_c_structs() {
        let t = Type::Tuple(vec![Type::int(1, true), Type::INT64, Type::Str(5)]);
        assert_eq!(t.offsets(), [0, 8, 16]);
        assert_eq!(t.size(), 24);
    }

    #[test]
    fn hist_has_room_for_the_largest_value() {
        // n = 2^63 - 1: p = 62.
        for k in 0..=5u8 {
            let (p, n) = (62u32, i64::MAX as u64);
            let index = ((p - u32::from(k) + 1) << k) as u64
                + ((n >> (p - u32::from(k))) & ((1 << k) - 1))
                + 1;
            assert_eq!(u64::from(Aggregation::Hist { bits: k }.words()), index + 1, "bits {k}");
        }
    }
}
