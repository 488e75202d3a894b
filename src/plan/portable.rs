//! What an object that runs on several kernels asks of the one that it is loaded on.

use serde::{Deserialize, Serialize};

use crate::probes::Needs;
use crate::source::Span;

/// Words of the text of a named parameter, its NUL included.
pub const TEXT_WORDS: u32 = 8;

/// What is not known before the object is loaded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Portable {
    /// Names of the features that the programs rely on, beyond what Linux 5.10 has.
    pub requires: Vec<String>,
    /// The script may attach where it does harm (`--unsafe`).
    pub unsafe_mode: bool,
    /// Positional parameters, which attach points may use.
    pub params: Vec<String>,
    /// Attach points, to be matched with the machine. [`super::Program::points`] has indices.
    pub points: Vec<Point>,
    /// What [`super::Param::Lookup`] stands for.
    pub lookups: Vec<Lookup>,
    /// Parameters that the script takes, given as `--name=value`.
    pub options: Vec<NamedOption>,
}

/// An attach point of the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The name that the script gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// As written, or the name of one of its matches.
    pub text: String,
    pub span: Span,
    /// What its block asks of a match.
    pub needs: Needs,
    /// Arguments that the block uses by name.
    pub arguments: Vec<PointArgument>,
}

/// An argument of an attach point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointArgument {
    pub name: String,
    /// Where the program expects it; empty if the program asks ([`super::Param::Argument`]).
    pub place: String,
}

/// Something to look up on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lookup {
    /// Address of a symbol of the kernel.
    KernelSymbol { name: String, span: Span },
    /// Inode of a file, which is the id of a cgroup.
    Inode { path: String, span: Span },
}

/// A parameter of the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedOption {
    pub name: String,
    pub default: OptionValue,
    pub help: String,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionValue {
    Bool(bool),
    Int { value: i64, signed: bool },
    Text(Vec<u8>),
}

/// What is asked about an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Distance from the start of the event's record.
    Offset,
    /// In bytes.
    Size,
}
