//! Reasons of the verifier, and sentences for them.
//!
//! What passes our checks should load, so most of these are our fault; the sentence still says
//! what the kernel could not be sure of, at which statement. Some are limits of the kernel that
//! a script can keep to, and have a help.

/// What a sentence can be made of.
pub(super) struct Facts<'a> {
    /// What follows the needle in the reason.
    pub rest: &'a str,
    /// The statement in backticks, or `this`.
    pub subject: &'a str,
    /// An element in it: `` `$a[$i]` ``.
    pub element: Option<&'a str>,
    /// The helper or kernel function that is called there, without `bpf_`.
    pub callee: Option<&'a str>,
}

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The kernel has less than the script asks for, or the script is too large for it.
    Limit,
    Ours,
}

pub(super) struct Known {
    /// In one of the log's reasons.
    pub needle: &'static str,
    pub say: fn(&Facts<'_>) -> String,
    pub help: &'static str,
    pub fault: Fault,
}

const fn limit(needle: &'static str, say: fn(&Facts<'_>) -> String, help: &'static str) -> Known {
    Known { needle, say, help, fault: Fault::Limit }
}

const fn ours(needle: &'static str, say: fn(&Facts<'_>) -> String) -> Known {
    Known { needle, say, help: "", fault: Fault::Ours }
}

/// The first row whose needle is in a reason counts.
pub(super) const KNOWN: &[Known] = &[
    limit(
        "helper call is not allowed in probe",
        |_| "the kernel does not allow this in the function that is traced".to_owned(),
        "`path` works in `security_file_open`, `vfs_getattr`, `vfs_truncate`, \
         `vfs_fallocate`, `dentry_open` and `filp_close`, where the kernel has them",
    ),
    limit("cannot use helper bpf_", helper_refused, "call it in another kind of probe"),
    limit("unknown func bpf_", helper_refused, "call it in another kind of probe"),
    // What libbpf puts into the log where a program comes to a field that is not there.
    limit(
        "failed to resolve CO-RE relocation ",
        |f| match f.rest.split(" struct ").nth(1).and_then(|field| field.split(' ').next()) {
            Some(field) => format!("this kernel has no `{field}`"),
            None => "this kernel lacks a field that the object was built for".to_owned(),
        },
        "ask first, `if has_field(struct …, …) { … }`; see `rtrace help has_field`",
    ),
    limit(
        "invalid func unknown#",
        |f| format!("this kernel is too old: it has no BPF helper number {}", f.rest),
        "`rtrace --info` shows what this kernel has",
    ),
    limit(
        "calling kernel function ",
        |f| {
            let name = f.rest.split(' ').next().unwrap_or(f.rest);
            format!("the kernel function `{name}` cannot be called in this kind of probe")
        },
        "call it in another kind of probe; `kfunc_allowed(\"…\")` asks whether it may be called",
    ),
    limit(
        "BPF program is too large",
        |f| format!("the kernel's verifier gave up at {}: there is too much to follow", f.subject),
        "loop fewer times, or do less in one block",
    ),
    limit(
        "jumps is too complex",
        |f| format!("the kernel's verifier gave up at {}: too many branches", f.subject),
        "loop fewer times, or do less in one block",
    ),
    limit(
        "combined stack size of",
        |_| "the program needs more stack than the kernel gives".to_owned(),
        "lower the config variable `on_stack_limit`: larger values then live in maps",
    ),
    limit(
        "infinite loop detected",
        |f| format!("the kernel's verifier sees no end of the loop at {}", f.subject),
        "loop over a range: `for ($i : 0..10) { … }`",
    ),
    limit(
        "back-edge from insn",
        |f| format!("this kernel knows no loops, and there is one at {}", f.subject),
        "use `unroll (10) { … }`",
    ),
    ours("invalid mem access 'map_value_or_null'", |f| {
        format!("{} uses an element of a map that may not be there", f.subject)
    }),
    ours("_or_null'", |f| format!("{} uses memory that may be missing", f.subject)),
    ours("pointer arithmetic on map_value_or_null prohibited", |f| {
        format!("{} computes with an element of a map that may not be there", f.subject)
    }),
    ours("invalid mem access 'scalar'", |f| {
        format!("{} follows a number as if it were an address", f.subject)
    }),
    ours("invalid mem access 'inv'", |f| {
        format!("{} follows a number as if it were an address", f.subject)
    }),
    ours("with unbounded min value is not allowed", |f| {
        format!("{} may be before the start or past the end", index(f))
    }),
    ours("unbounded min value", |f| format!("{} may be before the start", index(f))),
    ours("makes map_value pointer be out of bounds", |f| {
        format!("{} is past the end of the value", index(f))
    }),
    ours("min value is outside of the allowed memory range", past_end),
    ours("max value is outside of the allowed memory range", |f| {
        format!("{} may be past the end", index(f))
    }),
    ours("min value is negative", |f| format!("{} may be below zero", length_or_index(f))),
    ours("unbounded memory access", |f| {
        format!("{} has no upper bound that the kernel could see", length_or_index(f))
    }),
    ours("invalid zero-sized read", |f| {
        format!("a length in {} may be zero, which {} does not take", f.subject, callee(f))
    }),
    ours("write into map forbidden", |f| format!("{} writes to a constant", f.subject)),
    ours("cannot write into rdonly_", |f| format!("{} writes to a constant", f.subject)),
    ours("invalid access to map value", past_end),
    ours("invalid indirect read from stack", |f| {
        format!("{} reads memory that nothing was stored in", f.subject)
    }),
    ours("invalid read from stack", |f| {
        format!("{} reads memory that nothing was stored in", f.subject)
    }),
    ours("invalid write to stack", past_memory),
    // Before 5.12, of reads and writes.
    ours("invalid indirect access to stack", past_memory),
    ours("invalid stack ", |f| format!("{} uses memory outside of its stack", f.subject)),
    ours("variable-offset", |f| format!("{} may be past the end", index(f))),
    ours("misaligned ", |f| format!("{} uses a word that does not lie on its boundary", f.subject)),
    ours("!read_ok", |f| format!("{} uses a value that was never computed", f.subject)),
    ours("invalid bpf_context access", |f| {
        format!("{} reads what this kind of probe does not have", f.subject)
    }),
    ours("dereference of modified ctx", |f| {
        format!("{} reads the probe's arguments by a computed address", f.subject)
    }),
    ours("variable ctx access", |f| {
        format!("{} reads the probe's arguments by a computed address", f.subject)
    }),
    ours("access beyond struct", |f| format!("{} reads past the end of a struct", f.subject)),
    ours(" expected=", |f| {
        format!("{} hands {} another kind of value than it takes", f.subject, callee(f))
    }),
    ours("pointer arithmetic with", |f| {
        format!("{} computes with an address what cannot be computed", f.subject)
    }),
    ours("prohibited", |f| {
        format!("{} computes with an address what cannot be computed", f.subject)
    }),
    ours("math between ", |f| format!("{} is too far away", index(f))),
    // Functions of the kernel are called by scripts; what we take we give back.
    limit(
        "Unreleased reference",
        |f| format!("{} leaves without giving back what it took", f.subject),
        "pass what a function of the kernel gives to the one that releases it, such as `bpf_task_release`, on every way out",
    ),
    limit(
        "must point to scalar",
        |f| format!("{} passes a number, and the kernel takes only its own pointers", f.subject),
        "pass what another function of the kernel gave, after a test that it is not 0",
    ),
    limit(
        "must be referenced or trusted",
        |f| format!("{} passes a pointer that may be stale", f.subject),
        "pass what another function of the kernel gave, after a test that it is not 0",
    ),
    limit(
        "expects referenced",
        |f| format!("{} gives back what it did not take", f.subject),
        "pass what another function of the kernel gave, such as `bpf_task_from_pid`, once",
    ),
    limit(
        "Possibly NULL pointer passed",
        |f| format!("{} passes a pointer that may be 0", f.subject),
        "test it first: `if ($p != 0) { … }`",
    ),
    ours("div by zero", |f| format!("{} divides by a constant zero", f.subject)),
    ours("invalid shift", |f| format!("{} shifts by more bits than a number has", f.subject)),
    ours("unreachable insn", |f| format!("nothing ever gets to {}", f.subject)),
    ours("jump out of range", |f| format!("{} jumps to nowhere", f.subject)),
    ours("leaks addr", |f| format!("{} gives away an address of the kernel", f.subject)),
    ours("At program exit", |f| {
        format!("{} gives a result that this kind of probe may not give", f.subject)
    }),
];

fn past_memory(f: &Facts<'_>) -> String {
    format!("{} reaches past the memory that it has", f.subject)
}

fn helper_refused(f: &Facts<'_>) -> String {
    let name = f.rest.split('#').next().unwrap_or(f.rest);
    format!("the BPF helper `{name}` cannot be called in this kind of probe")
}

fn past_end(f: &Facts<'_>) -> String {
    match f.element {
        Some(element) => format!("the index in {element} may be past the end"),
        None => format!("{} reads or writes past the end of a value", f.subject),
    }
}

fn index(f: &Facts<'_>) -> String {
    match f.element {
        Some(element) => format!("the index in {element}"),
        None => format!("the address that {} computes", f.subject),
    }
}

fn length_or_index(f: &Facts<'_>) -> String {
    match (f.callee, f.element) {
        (Some(callee), _) => format!("a length that {} gives `{callee}`", f.subject),
        (None, Some(element)) => format!("the index in {element}"),
        (None, None) => format!("an index or a length in {}", f.subject),
    }
}

fn callee(f: &Facts<'_>) -> String {
    f.callee.map_or_else(|| "what it calls".to_owned(), |name| format!("`{name}`"))
}
