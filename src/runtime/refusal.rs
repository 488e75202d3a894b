//! What the kernel or libbpf refuses at loading without the verifier's having looked at an
//! instruction: privileges, memory, limits, functions that are not there. Each cause is told as
//! a sentence, with what can be done.

use crate::diag::Diagnostic;
use crate::plan::Plan;
use crate::source::{FileId, Span};

/// A cause behind an errno of bpf(2).
struct Cause {
    /// As libbpf writes it.
    errno: &'static str,
    /// A sentence about a program or map, behind its name.
    what: &'static str,
    notes: &'static [&'static str],
    help: &'static str,
}

/// Why the kernel takes no program, before it looks at its instructions.
const PROGRAM: &[Cause] = &[
    Cause {
        errno: "-EPERM",
        what: "the kernel does not let this process load this probe",
        notes: &["it has the capabilities, so something else forbids it: lockdown, a security \
                  module (`dmesg`), or the container (seccomp)"],
        help: "run rtrace outside of the container, or allow the bpf system call there",
    },
    Cause {
        errno: "-EACCES",
        what: "the kernel does not let this process load this probe",
        notes: &["a security module (SELinux, AppArmor, BPF LSM) may forbid it; `dmesg` tells"],
        help: "allow this process to load BPF programs",
    },
    Cause {
        errno: "-E2BIG",
        what: "this probe is too large for the kernel",
        notes: &["a program has up to a million instructions"],
        help: "do less in one block, or use several probes",
    },
    Cause {
        errno: "-ENOMEM",
        what: "the kernel has no memory for this probe",
        notes: &[],
        help: "do less in one block, or free memory",
    },
    Cause {
        errno: "-EMFILE",
        what: "this process may not open more files, and each probe is one",
        notes: &[],
        help: "raise the limit: `ulimit -n 65536`",
    },
    Cause {
        errno: "-ENFILE",
        what: "this machine may not open more files, and each probe is one",
        notes: &[],
        help: "raise the sysctl `fs.file-max`",
    },
    Cause {
        errno: "-ENOSPC",
        what: "the verifier's log has no room",
        notes: &[],
        help: "raise the config variable `log_size`",
    },
    Cause {
        errno: "-EINTR",
        what: "a signal came while the kernel looked at this probe",
        notes: &[],
        help: "start again",
    },
    Cause {
        errno: "-EAGAIN",
        what: "the kernel was too busy to look at this probe",
        notes: &[],
        help: "start again",
    },
    Cause {
        errno: "-EINVAL",
        what: "the kernel does not know something that this probe needs",
        notes: &["it does not say what"],
        help: "`rtrace --info` shows what this kernel can do; if that suffices, please report it",
    },
    Cause {
        errno: "-EOPNOTSUPP",
        what: "this kernel was built without something that this probe needs",
        notes: &[],
        help: "`rtrace --info` shows what it can do",
    },
];

/// Why the kernel makes no map; behind `the kernel does not make the map …: `.
const MAP: &[Cause] = &[
    Cause {
        errno: "-E2BIG",
        what: "it is too large",
        notes: &[],
        help: "make it smaller with the config variable `max_map_keys`, or declare it: \
               `let @m = hash(1000);`",
    },
    Cause {
        errno: "-ENOMEM",
        what: "there is not enough memory",
        notes: &[],
        help: "make it smaller with the config variable `max_map_keys`, or declare it: \
               `let @m = hash(1000);`",
    },
    Cause {
        errno: "-EPERM",
        what: "this process may not",
        notes: &["before Linux 5.11, maps count as locked memory, which `ulimit -l` limits"],
        help: "raise the limit (`ulimit -l unlimited`), or run as root",
    },
    Cause {
        errno: "-EMFILE",
        what: "this process may not open more files, and each map is one",
        notes: &[],
        help: "raise the limit: `ulimit -n 65536`",
    },
    Cause {
        errno: "-EINVAL",
        what: "this kernel has no such maps",
        notes: &[],
        help: "`rtrace --info` shows what it has",
    },
];

/// A program that was refused with an errno and no log.
pub(super) fn program(span: Span, errno: &str, messages: &[String]) -> Diagnostic {
    if let Some(limit) = locked_memory(messages) {
        return Diagnostic::error(span, "this process may not lock enough memory for this probe")
            .note(format!("the limit is {limit}"))
            .help("raise it: `ulimit -l unlimited`");
    }
    match PROGRAM.iter().find(|cause| cause.errno == errno) {
        Some(cause) => {
            let d = Diagnostic::error(span, cause.what).at(format!("it says {errno}"));
            cause.notes.iter().fold(d, |d, note| d.note(*note)).help(cause.help)
        }
        None => Diagnostic::error(span, format!("the kernel does not load this probe: {errno}"))
            .help("`rtrace --info` shows what this kernel can do"),
    }
}

/// A map that was refused; `bpf_name` is its name in the object.
pub(super) fn map(plan: &Plan, bpf_name: &str, errno: &str, messages: &[String]) -> Diagnostic {
    let map = plan.maps.iter().find(|m| m.bpf_name == bpf_name);
    let name = map.map_or(bpf_name, |m| &m.name);
    let cause = MAP.iter().find(|cause| cause.errno == errno);
    let why = cause.map_or(errno.to_owned(), |cause| format!("{} ({errno})", cause.what));
    let message = format!("the kernel does not make the map `{name}`: {why}");
    let mut d = match map.and_then(|m| first_use(plan, &m.name)) {
        Some(span) => Diagnostic::error(span, message),
        None => Diagnostic::global(message),
    };
    if let Some(map) = map {
        d = d.note(format!(
            "it has {} entries with {} bytes of key and {} bytes of value{}",
            map.max_entries,
            map.key_size,
            map.value_size,
            if map.per_cpu { " for each CPU" } else { "" },
        ));
        // PCPU_MIN_UNIT_SIZE in linux/percpu.h; KMALLOC_MAX_SIZE for the others.
        if map.per_cpu && map.value_size > 32 << 10 {
            return d.note("a value of a per-CPU map can be 32 KiB long at most");
        }
    }
    if let Some(limit) = locked_memory(messages) {
        d = d.note(format!("the limit of locked memory is {limit}"));
    }
    match cause {
        Some(cause) => cause.notes.iter().fold(d, |d, note| d.note(*note)).help(cause.help),
        None => d,
    }
}

/// `libbpf: map 'NAME': failed to create: ERRNO`
pub(super) fn find_failed_map(messages: &[String]) -> Option<(&str, &str)> {
    messages.iter().find_map(|m| {
        let (name, errno) = m.strip_prefix("libbpf: map '")?.split_once("': failed to create: ")?;
        Some((name, errno.trim_end()))
    })
}

/// What libbpf itself cannot do: functions and types of the kernel that are not there.
pub(super) fn library(plan: &Plan, messages: &[String]) -> Option<Diagnostic> {
    messages.iter().find_map(|message| {
        let said = message.trim_end().strip_prefix("libbpf: ")?;
        let quoted = || said.split('\'').nth(1);
        let (text, help) = if said.starts_with("extern (func ksym)") {
            let name = quoted()?;
            if said.contains("not found") {
                (
                    format!("this kernel has no function `{name}` that programs could call"),
                    "`kfunc_exist(\"…\")` in a condition asks whether it is there",
                )
            } else {
                (
                    format!("the kernel's function `{name}` takes other arguments than here"),
                    "it was changed in this kernel; compile the imported C against its types",
                )
            }
        } else if said.starts_with("extern ") {
            (format!("this kernel has no `{}`", quoted()?), "it may be a module that is not loaded")
        } else if said.contains("kernel BTF is missing") || said.contains("valid kernel BTF") {
            (
                "the kernel does not describe its types, which this probe needs".to_owned(),
                "use a kernel that was built with `CONFIG_DEBUG_INFO_BTF`",
            )
        } else {
            return None;
        };
        let place = quoted().and_then(|name| first_use(plan, &format!("{name}(")));
        let d = match place {
            Some(span) => {
                // The parenthesis is not part of the name.
                Diagnostic::error(Span { end: span.end - 1, ..span }, text)
            }
            None => Diagnostic::global(text),
        };
        Some(d.note(format!("libbpf says: {said}")).help(help))
    })
}

/// `permission error while running as root; try raising 'ulimit -l'? current value: 64.0 KiB`
fn locked_memory(messages: &[String]) -> Option<&str> {
    messages.iter().find_map(|m| {
        let (_, limit) = m.split_once("try raising 'ulimit -l'? current value: ")?;
        Some(limit.trim_end()).filter(|limit| *limit != "unlimited")
    })
}

/// Where a text first stands in the script, as a whole word.
fn first_use(plan: &Plan, text: &str) -> Option<Span> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    (0..).zip(&plan.sources.files).find_map(|(file, source): (FileId, _)| {
        let at = source.text.match_indices(text).map(|m| m.0).find(|at| {
            let before = source.text.get(..*at).and_then(|t| t.chars().last());
            let after = source.text.get(at + text.len()..).and_then(|t| t.chars().next());
            !(before.is_some_and(word) || text.ends_with(word) && after.is_some_and(word))
        })?;
        Some(Span::new(file, at, at + text.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Diagnostics, Form};
    use crate::runtime::output::tests::plan;

    const SCRIPT: &str = "begin { @m[pid] = 1; @m2 = bpf_gone(5); }";

    fn shown(diagnostic: Diagnostic) -> String {
        Diagnostics { list: vec![diagnostic] }.render(&plan(SCRIPT).sources, Form::Text)
    }

    fn messages(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| format!("libbpf: {text}\n")).collect()
    }

    #[test]
    fn each_errno_of_a_program_has_a_sentence_and_a_way_out() {
        for cause in PROGRAM.iter().chain(MAP) {
            assert!(!cause.what.is_empty() && !cause.help.is_empty(), "{}", cause.errno);
        }
        let span = Span::new(0, 0, 5);
        let text = shown(program(span, "-E2BIG", &[]));
        assert!(text.contains("too large") && text.contains("do less in one block"), "{text}");
        let text = shown(program(span, "-EACCES", &[]));
        assert!(text.contains("security module"), "{text}");
        let text = shown(program(span, "-EWHATEVER", &[]));
        assert!(text.contains("-EWHATEVER") && text.contains("--info"), "{text}");
    }

    #[test]
    fn locked_memory_is_told() {
        let said = messages(&[
            "permission error while running as root; try raising 'ulimit -l'? current value: 64.0 KiB",
        ]);
        let text = shown(program(Span::new(0, 0, 5), "-EPERM", &said));
        assert!(text.contains("the limit is 64.0 KiB") && text.contains("ulimit -l"), "{text}");
        let text = shown(map(&plan(SCRIPT), "gone", "-EPERM", &said));
        assert!(text.contains("64.0 KiB"), "{text}");
    }

    #[test]
    fn a_map_that_cannot_be_made_is_named() {
        let said = messages(&["map 'm_a': failed to create: -E2BIG"]);
        assert_eq!(find_failed_map(&said), Some(("m_a", "-E2BIG")));
    }

    #[test]
    fn functions_that_are_not_there_are_shown_where_they_are_called() {
        let said = messages(&["extern (func ksym) 'bpf_gone': not found in kernel or module BTFs"]);
        let text = shown(library(&plan(SCRIPT), &said).expect("known"));
        assert!(text.contains("no function `bpf_gone`"), "{text}");
        assert!(text.contains("stdin:1:28"), "{text}");
        let said = messages(&[
            "extern (func ksym) 'bpf_gone': func_proto [32] incompatible with vmlinux [4]",
        ]);
        let text = shown(library(&plan(SCRIPT), &said).expect("known"));
        assert!(text.contains("takes other arguments"), "{text}");
        assert_eq!(library(&plan(SCRIPT), &messages(&["something else"])), None);
    }

    #[test]
    fn maps_are_found_as_whole_words() {
        assert_eq!(first_use(&plan(SCRIPT), "@m"), Some(Span::new(0, 8, 10)));
        assert_eq!(first_use(&plan(SCRIPT), "@m2"), Some(Span::new(0, 21, 24)));
        assert_eq!(first_use(&plan(SCRIPT), "@m3"), None);
    }
}
