//! Where every byte lies that crosses from the kernel to user space: the
//! shape of map keys, map values and event fields.
//!
//! Numbers are in the byte order of the traced machine.

use serde::{Deserialize, Serialize};

use crate::types::{Bits, StackMode};

/// The shape of one value. Scalars take `size` bytes at their offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    Int {
        size: u8,
        signed: bool,
    },
    Bool,
    /// `names` gives the constants; other values print as numbers.
    Enum {
        size: u8,
        signed: bool,
        names: Vec<(i64, String)>,
    },
    /// 8 bytes.
    Pointer,
    /// Text up to the first NUL; without one it was cut.
    Str {
        size: u32,
    },
    /// Text up to the first NUL, or all of it.
    Chars {
        size: u32,
    },
    /// A `u32` length, then up to `size` bytes.
    Buffer {
        size: u32,
    },
    Array {
        of: Box<Layout>,
        stride: u32,
        len: u32,
    },
    Tuple {
        fields: Vec<Field>,
        size: u32,
    },
    /// Records, structs and unions; every field is named.
    Record {
        fields: Vec<Field>,
        size: u32,
    },
    /// A `u16` count of frames, a `u16` limit of frames, a `u32` process id (0:
    /// kernel), and as a `u64` the key of the frames in the table for that
    /// limit ([`super::stack_table`]); 16 in all.
    Stack {
        user: bool,
        mode: StackMode,
    },
    /// A kernel address (8 bytes).
    Ksym,
    /// A user address (8 bytes), a `u32` process id, 4 bytes of zero.
    Usym,
    /// A `u64` address family (2 or 10), then 4 or 16 bytes of address; 24 in all.
    Inet,
    /// 6 bytes.
    Mac,
    /// A user id (8 bytes).
    Username,
    /// A `u64` clock value in nanoseconds, a `u32` index into the plan's
    /// time formats, a `u32` clock (0: boot, 1: monotonic, 2: TAI).
    Timestamp,
    /// A `u64` cgroup id, a `u64` index into the plan's cgroup filters.
    CgroupPath,
    /// Cannot be shown (a float in a struct); prints as `null`.
    Unsupported {
        size: u32,
    },
}

/// A value at an offset from the start of what contains it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Empty in tuples and events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub offset: u32,
    pub layout: Layout,
    /// Set for bit fields: which bits of the bytes at `offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<Bits>,
}

impl Layout {
    /// Whether it holds an address in user code that is to be named.
    pub fn names_user_code(&self) -> bool {
        match self {
            Layout::Stack { user, .. } => *user,
            Layout::Usym => true,
            Layout::Array { of, .. } => of.names_user_code(),
            Layout::Tuple { fields, .. } | Layout::Record { fields, .. } => {
                fields.iter().any(|f| f.layout.names_user_code())
            }
            _ => false,
        }
    }

    /// Whether its text has names of functions of the kernel.
    pub fn names_kernel_code(&self) -> bool {
        match self {
            Layout::Stack { user, .. } => !*user,
            Layout::Ksym => true,
            Layout::Array { of, .. } => of.names_kernel_code(),
            Layout::Tuple { fields, .. } | Layout::Record { fields, .. } => {
                fields.iter().any(|f| f.layout.names_kernel_code())
            }
            _ => false,
        }
    }

    /// Bytes that the value takes.
    pub fn size(&self) -> u32 {
        match self {
            Layout::Int { size, .. } | Layout::Enum { size, .. } => u32::from(*size),
            Layout::Bool => 1,
            Layout::Pointer | Layout::Ksym | Layout::Username => 8,
            Layout::Str { size }
            | Layout::Chars { size }
            | Layout::Tuple { size, .. }
            | Layout::Record { size, .. }
            | Layout::Unsupported { size } => *size,
            Layout::Buffer { size } => size.saturating_add(4),
            Layout::Array { stride, len, .. } => stride.saturating_mul(*len),
            Layout::Stack { .. } | Layout::Usym | Layout::Timestamp | Layout::CgroupPath => 16,
            Layout::Inet => 24,
            Layout::Mac => 6,
        }
    }
}
