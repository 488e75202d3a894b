//! The providers: kinds of attach points, one row each.
//!
//! A provider parses its own attach points, expands them against the host,
//! types what programs find in their context, and says how to attach. Sema
//! sees only [`Instance`]s; the run side sees only [`plan::Attach`].

use crate::ir::ProgramKind;
use crate::plan;
use crate::types::{Space, Type};

/// What a probe's block needs to know at expansion, so that matches that do
/// not differ for it can share one program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Names `x` of `args.x` in the block and predicate.
    pub args_fields: Vec<String>,
    /// `args` as a whole (`print(args)`).
    pub whole_args: bool,
    /// `probe` is used: each match must know its name.
    pub probe_name: bool,
    /// `retval` is used.
    pub retval: bool,
    /// `func` is used.
    pub func: bool,
    /// The raw context is used: `ctx`, `reg()`, `argN`, `kstack`, `ustack`.
    pub raw_context: bool,
}

/// Matches of one attach point that share a context, and so a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub kind: ProgramKind,
    /// Section name in the object.
    pub section: String,
    pub context: Context,
    /// Links; every probe name in them is a full name.
    pub attach: Vec<plan::Attach>,
    /// For programs on `raw_syscalls`-like raw tracepoints: which system calls.
    pub syscalls: Option<Syscalls>,
}

/// A raw tracepoint on `sys_enter` or `sys_exit` that stands for tracepoints
/// of single system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syscalls {
    pub enter: bool,
    /// Number of the call, and index of its probe name among the names of
    /// `Instance::attach`, sorted by number.
    pub numbers: Vec<(u32, u32)>,
}

/// What a program finds when it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Name of the provider (`kprobe`); `probetype` derives from it.
    pub provider: &'static str,
    /// Address space of arguments and registers.
    pub space: Space,
    /// `args.x`, or why there is none.
    pub args: Result<Vec<Argument>, String>,
    /// `argN` by number, or why there is none.
    pub numbered: Result<Vec<Argument>, String>,
    /// `retval`, or why there is none.
    pub retval: Result<Argument, String>,
    /// The type of `ctx` (a pointer), or why it cannot be used.
    pub ctx: Result<Type, String>,
    /// Where `struct pt_regs` lies in the context, for `reg()` and `usermode`.
    pub registers: Option<u32>,
    /// How `func` is had.
    pub func: Result<Func, String>,
    /// Whether stacks can be taken (`kstack`, `ustack`).
    pub stacks: bool,
    /// Value of a program that ends without `return`.
    pub result: i64,
}

/// A value in a program's context.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    pub name: String,
    pub ty: Type,
    pub access: Access,
}

/// How to get at an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// At this offset of the context; `size` bytes are loaded (or copied, if
    /// the type is not a scalar) and a scalar is then cut to its type.
    Context { offset: u32, size: u32 },
    /// `__data_loc` (or, relative to its own end, `__rel_loc`): a `u32` at the
    /// offset whose low half is the distance of the data from the context.
    DataLocation { offset: u32, relative: bool },
    /// At this offset of the `struct pt_regs` that the first word of the
    /// context points to (raw `sys_enter` and `sys_exit`).
    SyscallRegister { offset: u32 },
}

/// How a program learns the function that it traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Func {
    /// The instruction pointer is the function (entry probes).
    InstructionPointer { user: bool },
    /// `bpf_get_func_ip`.
    Helper { user: bool },
}
