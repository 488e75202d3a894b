//! What can get lost or fail where, and the counters of it.

use serde::{Deserialize, Serialize};

use super::is_false;
use crate::source::Span;

/// Errors that loss counters tell apart: errno 0 (a null pointer) to 126, and
/// all others.
pub const ERRORS: u32 = 128;

/// A place where something can get lost or fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    pub span: Span,
    pub cause: Cause,
    /// Byte in the map where its counters start, [`Cause::outcomes`] words.
    pub at: u32,
    /// Whether only the table at the end tells it: a failed read is no warning
    /// without `-k`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub quiet: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The ring buffer had no room for an event.
    RingBufferFull,
    /// An update failed; index into [`super::Plan::maps`].
    MapUpdate {
        map: u32,
    },
    /// `delete` of a key that is not there, its result unused.
    DeleteMissing {
        map: u32,
    },
    /// Only with `-k`.
    LookupMissing {
        map: u32,
    },
    /// A failed helper, by its name.
    Helper {
        name: String,
    },
    /// A string was longer than the room for it, `room` bytes with its NUL.
    StringCut {
        room: u32,
    },
    /// `join()` takes so many strings, and there are more.
    ArgumentsCut {
        limit: u32,
    },
    DivisionByZero,
    IndexOutOfBounds,
    /// A loop wanted more rounds than the kernel makes.
    LoopLimit,
    /// A stack could not be captured.
    Stack {
        user: bool,
    },
    /// A stack had as many frames as are taken at most, and perhaps more.
    StackCut {
        user: bool,
        limit: u32,
    },
    /// A stack could not be unwound to its end.
    Unwind {
        why: Unwound,
    },
    /// The frames of a stack could not be kept for the user side.
    StackTable {
        user: bool,
    },
    /// `exit()` when the ring buffer had no room: it still ends the run. Its
    /// counters are those of the statuses.
    Exit,
    /// A function returned whose arguments were not kept when it was called.
    ArgumentsGone,
    /// The builtin `cpid` without `-c`.
    NoChild,
}

impl Cause {
    /// How many counters (`u64`) there are: one for each error that is told apart.
    pub fn outcomes(&self) -> u32 {
        match self {
            Cause::MapUpdate { .. }
            | Cause::DeleteMissing { .. }
            | Cause::LookupMissing { .. }
            | Cause::Helper { .. }
            | Cause::Stack { .. }
            | Cause::StackTable { .. } => ERRORS,
            Cause::Exit => 256,
            Cause::RingBufferFull
            | Cause::StringCut { .. }
            | Cause::ArgumentsCut { .. }
            | Cause::DivisionByZero
            | Cause::IndexOutOfBounds
            | Cause::LoopLimit
            | Cause::StackCut { .. }
            | Cause::Unwind { .. }
            | Cause::ArgumentsGone
            | Cause::NoChild => 1,
        }
    }
}

/// Why a stack was not unwound to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unwound {
    /// Nothing is known of the process, so there are no frames.
    NoTables,
    /// There is code that nothing is known of.
    UnknownCode,
    /// The tables do not say how to go on, or memory could not be read.
    Failed,
}
