//! The providers: kinds of attach points, one row each.
//!
//! A provider parses its own attach points, expands them against the host,
//! types what programs find in their context, and says how to attach. Sema
//! sees only [`Instance`]s; the run side sees only [`plan::Attach`].
//!
//! Adding a provider: a file with its row, and the row in [`PROVIDERS`].

mod binaries;
mod cheapest;
mod fentry;
mod filter;
mod functions;
mod group;
mod iter;
mod join;
mod keep;
mod kprobe;
mod list;
mod operand;
mod packet;
mod parameters;
mod perf;
mod portable;
mod rawtracepoint;
mod source;
mod special;
mod text;
mod tracepoint;
mod uprobe;
mod usdt;
mod watchpoint;

use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::ir::ProgramKind;
use crate::parser::ast::AttachPoint;
use crate::plan::{self, MissingProbes};
use crate::source::Span;
use crate::types::{Space, Type};
use serde::{Deserialize, Serialize};

pub use cheapest::cheapest;
pub use filter::filter;
pub use join::join;
pub(crate) use keep::{COOKIE, IS_RETURN};
pub use list::{INDENT, ListOptions, details, list, list_each, written};
pub use packet::{End, Header, Packet};
pub use portable::resolve;
use text::Part;
pub use tracepoint::too_many_on_an_event;

/// A kind of attach points.
pub struct Provider {
    pub name: &'static str,
    /// Other names; they compare like the name, without case, except that `u`
    /// and `U` are different.
    pub aliases: &'static [&'static str],
    /// Forms of attach points.
    pub usage: &'static [&'static str],
    /// One sentence.
    pub doc: &'static str,
    side: Side,
    expand: fn(&Request<'_>, &mut Diagnostics) -> Expanded,
    list: fn(&list::Query<'_>) -> Result<Vec<list::Line>, String>,
}

/// Where a provider's events happen: decides when a pattern for providers and
/// a listing include it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Kernel,
    User,
    /// Only when it is named: timers, and the return of functions.
    Named,
}

/// Every provider, in the order of listings.
pub static PROVIDERS: &[&Provider] = &[
    &special::BEGIN,
    &special::END,
    &special::SELF,
    &special::TEST,
    &special::BENCH,
    &kprobe::KPROBE,
    &kprobe::KRETPROBE,
    &fentry::FENTRY,
    &fentry::FEXIT,
    &tracepoint::TRACEPOINT,
    &rawtracepoint::RAWTRACEPOINT,
    &uprobe::UPROBE,
    &uprobe::URETPROBE,
    &usdt::USDT,
    &iter::ITER,
    &perf::SOFTWARE,
    &perf::HARDWARE,
    &perf::PROFILE,
    &perf::INTERVAL,
    &watchpoint::WATCHPOINT,
    &packet::XDP,
    &packet::TC,
    &packet::CGROUP_SKB,
];

/// What the command line and the config block say about attach points.
#[derive(Debug, Clone)]
pub struct Options {
    /// `$1` and on.
    pub params: Vec<String>,
    /// `--unsafe`.
    pub unsafe_mode: bool,
    /// `-p`.
    pub pid: Option<u32>,
    pub missing_probes: MissingProbes,
    /// What `--no-feature` hides; besides features of the kernel, here
    /// `raw_syscalls`: tracepoints of system calls through one of all of them.
    pub no_feature: Vec<String>,
    /// For an object that is matched with the machine when it is loaded.
    pub portable: bool,
}

/// The instances of an attach point, or why there cannot be any.
type Expanded = Result<Vec<Instance>, Box<Diagnostic>>;

/// What a name means, or that it is not there, which may be allowed; else what
/// is wrong with it.
type Looked<T> = Result<Result<T, Box<Diagnostic>>, Box<Diagnostic>>;

/// An attach point to be expanded by its provider.
#[derive(Clone)]
struct Request<'a> {
    provider: &'static Provider,
    point: &'a AttachPoint,
    /// Without the provider.
    parts: Vec<Part>,
    /// The provider's name.
    head: Part,
    needs: &'a Needs,
    host: &'a Host,
    options: &'a Options,
}

/// Matches an attach point with the machine: one instance per program.
///
/// A pattern without a match gives a warning and no instance; whether its probe
/// can do without is for the caller, who sees all attach points. A name without
/// a match is an error unless `missing_probes` says otherwise.
///
/// # Errors
/// The attach point makes no sense, or names something that is not there.
pub fn expand(
    point: &AttachPoint,
    needs: &Needs,
    host: &Host,
    options: &Options,
    diags: &mut Diagnostics,
) -> Expanded {
    let mut parts = text::split(point, &options.params)?;
    let head = parts.remove(0);
    let request = |provider, parts: &[Part]| Request {
        provider,
        point,
        parts: parts.to_vec(),
        head: head.clone(),
        needs,
        host,
        options,
    };
    let mut instances = if head.is_wildcard() {
        let user = options.pid.is_some() || parts.first().is_some_and(|p| p.text.contains('/'));
        let side = if user { Side::User } else { Side::Kernel };
        let mut found = Vec::new();
        let fitting =
            PROVIDERS.iter().filter(|p| p.side == side && head.matches(&p.name.to_lowercase()));
        for provider in fitting {
            // Not every provider understands these parts; that is no error.
            let mut ignored = Diagnostics::default();
            let list = (provider.expand)(&request(provider, &parts), &mut ignored);
            found.extend(list.unwrap_or_default());
        }
        if found.is_empty() {
            nothing_matches(point, &format!("`{}` matches nothing", point.text), options, diags);
        }
        found
    } else {
        let provider = find(&head.text).ok_or_else(|| Box::new(unknown_provider(&head)))?;
        (provider.expand)(&request(provider, &parts), diags)?
    };
    if let Some(label) = &point.label {
        for attach in instances.iter_mut().flat_map(|i| &mut i.attach) {
            attach.probes = attach.probes.iter().map(|_| &label.node).collect();
        }
    }
    Ok(instances)
}

/// The provider of that name or alias.
pub fn find(name: &str) -> Option<&'static Provider> {
    let by_alias = |p: &&&Provider| p.aliases.contains(&name);
    let by_name = |p: &&&Provider| {
        // `u` and `U` are different things.
        p.name.eq_ignore_ascii_case(name)
            || name.len() > 1 && p.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
            || !name.eq_ignore_ascii_case("u")
                && p.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
    };
    PROVIDERS.iter().find(by_alias).or_else(|| PROVIDERS.iter().find(by_name)).copied()
}

/// Providers of older versions of the language, their aliases, and what to do
/// instead.
const ABSENT: &[(&str, &str, &str)] = &[(
    "asyncwatchpoint",
    "aw",
    "`watchpoint:ADDRESS:LENGTH:MODE` watches an address that is known",
)];

fn unknown_provider(head: &Part) -> Diagnostic {
    let absent = ABSENT
        .iter()
        .find(|(name, alias, _)| head.text.eq_ignore_ascii_case(name) || head.text == *alias);
    if let Some((name, _, instead)) = absent {
        return Diagnostic::error(head.span, format!("there are no `{name}` probes"))
            .note("they are gone from the language")
            .help(*instead);
    }
    let d = Diagnostic::error(head.span, format!("there is no provider `{}`", head.text));
    let names = PROVIDERS.iter().map(|p| p.name);
    let d = d.or_nearest(head.span, &head.text, names.clone());
    let names: Vec<&str> = names.collect();
    d.note(format!("the providers are {}", names.join(", ")))
}

/// What a pattern without a match means for the attach point.
fn nothing_matches(point: &AttachPoint, message: &str, options: &Options, diags: &mut Diagnostics) {
    if options.missing_probes != MissingProbes::Ignore {
        diags.push(Diagnostic::warning(Warning::MissingProbe, point.span, message));
    }
}

/// Ways to attach that `--no-feature` switches off, beside what kernels may lack.
pub const WAYS: &[&str] = &[RAW_SYSCALLS, BY_RECORD, BY_ADDRESS, TYPED];

/// System calls are traced by a tracepoint of all of them.
const RAW_SYSCALLS: &str = "raw_syscalls";

/// Where programs on raw tracepoints can be preempted, those on system calls are on the perf event
/// of all of them.
pub const BY_RECORD: &str = "raw_syscalls_event";

/// Links to very many kernel functions give the kernel their addresses, not their names.
pub const BY_ADDRESS: &str = "attach_by_address";

/// Raw tracepoints have typed arguments, which programs load directly.
const TYPED: &str = "tp_btf";

impl Request<'_> {
    fn span(&self) -> Span {
        self.point.span
    }

    /// An error about one part.
    fn error_at(&self, part: &Part, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(part.span, message))
    }

    /// The attach point has the wrong number of parts.
    fn wrong_parts(&self) -> Box<Diagnostic> {
        let found = self.parts.len();
        let count = |n: usize| format!("{n} part{}", if n == 1 { "" } else { "s" });
        // Colons in quotes separate nothing.
        let parts = |form: &&str| form.split('"').step_by(2).flat_map(|t| t.matches(':')).count();
        let forms: Vec<usize> = self.provider.usage.iter().map(parts).collect();
        let (least, most) = (
            forms.iter().min().copied().unwrap_or_default(),
            forms.iter().max().copied().unwrap_or_default(),
        );
        let expected = match (least, most) {
            (a, b) if a == b => count(a),
            (a, b) => format!("{a} to {}", count(b)),
        };
        let name = self.provider.name;
        let empty = (least..=most).contains(&found) && self.parts.iter().any(|p| p.text.is_empty());
        let message = match most {
            _ if empty => format!("a part of `{}` is empty", self.point.text),
            0 => format!("`{name}` stands alone, but {} found after it", was(&count(found), found)),
            _ => format!(
                "`{name}` takes {expected} after its name, but {} found",
                was(&count(found), found)
            ),
        };
        let d = Diagnostic::error(self.span(), message);
        let usage: Vec<String> = self.provider.usage.iter().map(|u| format!("`{u}`")).collect();
        let d = d.help(format!("write {}", usage.join(" or ")));
        let no_path = self.provider.side == Side::User && self.options.pid.is_none();
        let d = match no_path && (empty || found < least) {
            true => d.help("with `-p PID` the path may be left out: it is that of the process"),
            false => d,
        };
        Box::new(d)
    }

    /// A name that is not there: an error, a warning, or nothing.
    fn missing(&self, diagnostic: Box<Diagnostic>, diags: &mut Diagnostics) -> Expanded {
        match self.options.missing_probes {
            MissingProbes::Error => Err(diagnostic),
            MissingProbes::Warn => {
                diags.push(diagnostic.weaken(Warning::MissingProbe));
                Ok(Vec::new())
            }
            MissingProbes::Ignore => Ok(Vec::new()),
        }
    }

    /// Whether a place may be missing here, since the object runs elsewhere, and the block asks
    /// nothing of it.
    fn elsewhere(&self) -> bool {
        self.options.portable && !self.needs.args()
    }

    fn without_feature(&self, name: &str) -> bool {
        self.options.no_feature.iter().any(|f| f == name)
    }

    /// One link for some probes.
    fn attach(&self, probes: impl Into<plan::Names>, mechanism: plan::Mechanism) -> plan::Attach {
        plan::Attach { probes: probes.into(), span: self.span(), mechanism, cookies: Vec::new() }
    }
}

fn was(text: &str, count: usize) -> String {
    format!("{text} {}", if count == 1 { "was" } else { "were" })
}

impl Needs {
    /// Whether any argument is used by name.
    fn args(&self) -> bool {
        self.whole_args || !self.args_fields.is_empty()
    }
}

impl Context {
    /// A context that offers nothing; providers fill in what they have. The
    /// reasons are phrases, what to do instead after a `; `.
    fn none(provider: &'static Provider, space: Space) -> Context {
        let no = |what: &str| format!("`{}` probes have no {what}", provider.name);
        Context {
            provider: provider.name,
            space,
            args: Err(no("arguments")),
            numbered: Err(no("arguments")),
            retval: Err(no("return value")),
            ctx: Err(no("context that can be used directly")),
            registers: None,
            func: Err(no("function")),
            stacks: false,
            result: 0,
        }
    }
}

/// What a probe's block needs to know at expansion, so that matches that do
/// not differ for it can share one program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The raw context is used: `ctx`, `reg()`, `kstack`, `ustack`, `dw_ustack`,
    /// `override()`.
    pub raw_context: bool,
    /// Something wants pointers whose type the verifier knows: `path()` and the like.
    pub typed_pointers: bool,
    /// Numbers N of `argN`, sorted.
    pub numbered: Vec<usize>,
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
    /// For programs on all system calls: which ones are meant.
    pub syscalls: Option<Syscalls>,
    /// The program that keeps arguments for this one.
    pub keeper: Option<Keeper>,
}

/// How arguments are kept from the entry of functions for the program at their return
/// ([`Access::Kept`]): for each call under way, by its frame on the stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Keeper {
    /// What is kept: registers, by their offsets in the context at the entry.
    pub registers: Vec<u32>,
    /// How the function is learned; nothing if it is always the same.
    pub func: Option<Func>,
    pub way: Keeping,
}

impl Keeper {
    /// The links of the program that keeps arguments, if it is one of its own.
    fn links_mut(&mut self) -> Option<&mut Vec<plan::Attach>> {
        match &mut self.way {
            Keeping::Program { attach, .. } => Some(attach),
            Keeping::Session => None,
        }
    }
}

/// Who keeps arguments.
#[derive(Debug, Clone, PartialEq)]
pub enum Keeping {
    /// Another program, at the entry. Its links have no names, since they are none of the
    /// script's probes.
    Program { section: String, attach: Vec<plan::Attach> },
    /// The program itself, which runs at the entry, too (`kprobe.session`).
    Session,
}

/// A raw tracepoint on `sys_enter` or `sys_exit` that stands for tracepoints
/// of single system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syscalls {
    pub enter: bool,
    /// Number of the call, and index of its probe name among the names of
    /// `Instance::attach`, sorted by number.
    pub numbers: Vec<(u32, u32)>,
    /// Where the program finds the number of the call.
    pub number: Access,
    /// How to tell calls of 32-bit programs, whose numbers mean other calls.
    pub compat: Compat,
}

/// The running task executes a 32-bit system call if any bit of `mask` is set
/// in the `size` bytes at `offset` of its `struct task_struct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compat {
    pub offset: u32,
    pub size: u8,
    pub mask: u32,
    /// The name of those bytes, in the task's `thread_info`.
    pub field: &'static str,
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
    /// A word at this offset of the context as a plain number, whatever the verifier knows of it.
    Number { offset: u32 },
    /// `__data_loc` (or, relative to its own end, `__rel_loc`): a `u32` at the
    /// offset whose low half is the distance of the data from the context.
    DataLocation { offset: u32, relative: bool },
    /// At this offset of the `struct pt_regs` that the first word of the
    /// context points to (raw `sys_enter` and `sys_exit`).
    SyscallRegister { offset: u32 },
    /// A word that was kept when the function was called ([`Keeper::registers`]).
    Kept { word: u32 },
    /// What the function gave, as the kernel tells (`bpf_get_func_ret`).
    Returned,
    /// A header of a packet.
    Packet { header: Header, packet: Packet },
    /// Where the note of a marker says.
    Operand(Operand),
}

/// Where the argument of a marker is, as its note has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// 1, 2, 4 or 8 bytes.
    pub size: u8,
    pub signed: bool,
    pub source: Source,
}

/// Registers are byte offsets in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Constant(i64),
    /// The low bytes of the register, shifted right before.
    Register {
        offset: u32,
        shift: u8,
    },
    /// Memory of the process at `base + index + distance`.
    Memory {
        base: Option<u32>,
        index: Option<Scaled>,
        distance: i64,
    },
}

/// A register in an address: its low 32 or 64 `bits`, extended, then shifted left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    pub offset: u32,
    pub bits: u8,
    pub signed: bool,
    pub shift: u8,
}

/// How a program learns the function that it traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Func {
    /// The instruction pointer is so far behind the function's start (entry probes: not at all).
    InstructionPointer { user: bool, distance: u64 },
    /// `bpf_get_func_ip`.
    Helper { user: bool },
}

/// A parameter as a program finds it in a word: numbers and pointers belong to
/// an address space; what does not fit a word cannot be had.
fn in_register(ty: Type, space: Space) -> Type {
    match ty {
        Type::Int { size, signed, .. } => Type::Int { size, signed, space },
        Type::Ptr { to, space: Space::User } => Type::Ptr { to, space: Space::User },
        Type::Ptr { to, .. } => Type::Ptr { to, space },
        Type::Struct(s) => Type::Unsupported(format!("struct {} by value", s.name)),
        Type::Array { of, .. } => Type::ptr(*of, space),
        ty => ty,
    }
}

#[cfg(test)]
mod tests;
