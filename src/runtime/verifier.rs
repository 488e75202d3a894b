//! What the kernel's verifier says, told as a message at the script's line.
//!
//! In: libbpf's messages after a failed load. The verifier's log in them has
//! a comment `; SOURCE TEXT @ FILE:LINE` before the instructions of a line
//! (kernels before 6.9: only the text), then the instructions, the reason of
//! the rejection, and statistics.

use crate::diag::Diagnostic;
use crate::source::{FileId, Sources, Span};

/// A program that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejection<'a> {
    /// Name of the program in the object.
    pub program: &'a str,
    /// As libbpf writes it: `-EACCES`.
    pub errno: &'a str,
    /// Empty if the kernel refused without running the verifier.
    pub log: &'a str,
}

/// The first program that libbpf says the kernel refused.
pub(super) fn find_rejection(messages: &[String]) -> Option<Rejection<'_>> {
    let (program, errno) = messages.iter().find_map(|m| {
        let (program, rest) = m.split_once("prog '")?.1.split_once("': ")?;
        Some((program, rest.strip_prefix("BPF program load failed: ")?.trim_end()))
    })?;
    let log = messages.iter().find_map(|m| {
        let log = m.split_once("-- BEGIN PROG LOAD LOG --\n")?.1;
        Some(log.split_once("-- END PROG LOAD LOG --").map_or(log, |l| l.0))
    });
    Some(Rejection { program, errno, log: log.unwrap_or("") })
}

impl Rejection<'_> {
    /// Whether the kernel refused what the program is for, before it looked
    /// at a single instruction.
    pub(super) fn is_about_target(&self) -> bool {
        !self.log.lines().any(is_instruction)
    }

    /// The line of the log that says why, if there is a log.
    pub(super) fn reason(&self) -> Option<&str> {
        self.log.lines().map(str::trim).rfind(|line| !line.is_empty() && !is_statistic(line))
    }

    /// The message for the user; `probe` is the place of the program's probe.
    pub(super) fn diagnose(&self, sources: &Sources, probe: Span) -> Diagnostic {
        let reason = self.reason().unwrap_or(self.errno);
        let span = self.place(sources, probe.file).unwrap_or(probe);
        for known in KNOWN {
            if let Some((_, rest)) = reason.split_once(known.needle) {
                let mut diagnostic = Diagnostic::error(span, (known.message)(rest))
                    .note(format!("the kernel's verifier says: {reason}"));
                if !known.help.is_empty() {
                    diagnostic = diagnostic.help(known.help);
                }
                return diagnostic;
            }
        }
        Diagnostic::error(span, "the kernel's verifier rejects this")
            .note(format!("it says: {reason}"))
            .note("this is a bug in rtrace: what passes its checks should load")
            .help("run again with `-v` for the verifier's log, and report it")
    }

    /// The place that the last comment in the log names.
    fn place(&self, sources: &Sources, file: FileId) -> Option<Span> {
        let comment = self.log.lines().rev().find_map(|line| line.strip_prefix("; "))?;
        match split_position(comment) {
            Some((_, name, line)) => line_span(sources, find_file(sources, name)?, line),
            // The probe's own file first: lines such as `}` are in all of them.
            None => find_line(sources, file, comment).or_else(|| {
                let files = 0..FileId::try_from(sources.files.len()).ok()?;
                files.into_iter().find_map(|other| find_line(sources, other, comment))
            }),
        }
    }
}

/// A reason that says something about the script or the kernel, not about us.
struct Known {
    needle: &'static str,
    /// From what follows the needle.
    message: fn(&str) -> String,
    help: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        needle: "helper call is not allowed in probe",
        message: |_| "the kernel does not allow this in the function that is traced".to_owned(),
        help: "`path` works in `security_file_open`, `vfs_getattr`, `vfs_truncate`, \
               `vfs_fallocate`, `dentry_open` and `filp_close`, where the kernel has them",
    },
    Known {
        needle: "cannot use helper bpf_",
        message: helper_refused,
        help: "call it in another kind of probe",
    },
    Known {
        needle: "unknown func bpf_",
        message: helper_refused,
        help: "call it in another kind of probe",
    },
    Known {
        needle: "invalid func unknown#",
        message: |number| format!("this kernel is too old: it has no BPF helper number {number}"),
        help: "",
    },
    Known {
        needle: "BPF program is too large",
        message: |_| "the program is too large for the kernel's verifier".to_owned(),
        help: "loop fewer times, or do less in one block",
    },
    Known {
        needle: "jumps is too complex",
        message: |_| "the program is too complex for the kernel's verifier".to_owned(),
        help: "loop fewer times, or do less in one block",
    },
    Known {
        needle: "combined stack size of",
        message: |_| "the program needs more stack than the kernel gives".to_owned(),
        help: "lower the config variable `on_stack_limit`: larger values then live in maps",
    },
    Known {
        needle: "infinite loop detected",
        message: |_| "the kernel's verifier finds a loop that does not end".to_owned(),
        help: "loop over a range: `for ($i : 0..10) { … }`",
    },
];

fn helper_refused(rest: &str) -> String {
    let name = rest.split('#').next().unwrap_or(rest);
    format!("the BPF helper `{name}` cannot be called in this kind of probe")
}

/// `12: (b7) r1 = 0`
fn is_instruction(line: &str) -> bool {
    line.split_once(": (").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

fn is_statistic(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth ", "mark_precise: "]
        .iter()
        .any(|prefix| line.starts_with(prefix))
}

/// `TEXT @ FILE:LINE`
fn split_position(comment: &str) -> Option<(&str, &str, usize)> {
    let (text, place) = comment.rsplit_once(" @ ")?;
    let (name, line) = place.rsplit_once(':')?;
    Some((text, name, line.trim().parse().ok()?))
}

/// The kernel cuts directories off.
fn find_file(sources: &Sources, name: &str) -> Option<FileId> {
    let base = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let position = sources.files.iter().position(|f| base(&f.name) == base(name))?;
    FileId::try_from(position).ok()
}

/// The place of a line (counted from 1) without its indentation.
fn line_span(sources: &Sources, file: FileId, line: usize) -> Option<Span> {
    let text = sources.text(file);
    let content = text.lines().nth(line.checked_sub(1)?)?;
    // Both are slices of one text, so their distance is the line's offset.
    let start = content.as_ptr() as usize - text.as_ptr() as usize;
    let trimmed = content.trim();
    let indent = content.len() - content.trim_start().len();
    Some(Span::new(file, start + indent, start + indent + trimmed.len()))
}

/// The first line of a file with this text.
fn find_line(sources: &Sources, file: FileId, text: &str) -> Option<Span> {
    let line = sources.text(file).lines().position(|l| l.trim() == text.trim())?;
    line_span(sources, file, line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    const NEW: &str = "0: R1=ctx() R10=fp0\n; $k = 7; @ verr.bt:3\n0: (b7) r1 = 7\n\
        ; $v = @counts[$k]; @ verr.bt:4\n7: (79) r0 = *(u64 *)(r0 +0)\n\
        R0 invalid mem access 'map_value_or_null'\n\
        processed 8 insns (limit 1000000) max_states_per_insn 0\n";

    fn sources() -> Sources {
        let text = "begin\n{\n  $k = 7;\n  $v = @counts[$k];\n}\n".to_owned();
        Sources { files: vec![Source { name: "dir/verr.bt".to_owned(), text }] }
    }

    fn messages(log: &str) -> Vec<String> {
        vec![
            "libbpf: prog 'p0': BPF program load failed: -EACCES\n".to_owned(),
            format!("libbpf: prog 'p0': -- BEGIN PROG LOAD LOG --\n{log}-- END PROG LOAD LOG --\n"),
        ]
    }

    #[test]
    fn a_rejection_points_at_the_line_of_the_script() {
        let messages = messages(NEW);
        let rejection = find_rejection(&messages).expect("rejected");
        assert_eq!((rejection.program, rejection.errno), ("p0", "-EACCES"));
        assert!(!rejection.is_about_target());
        let diagnostic = rejection.diagnose(&sources(), Span::new(0, 0, 5));
        let span = diagnostic.primary.as_ref().expect("has a place").0;
        assert_eq!(sources().slice(span), "$v = @counts[$k];");
        assert!(diagnostic.notes.iter().any(|n| n.contains("map_value_or_null")));
    }

    #[test]
    fn old_kernels_give_the_text_of_the_line_only() {
        let log = NEW.replace(" @ verr.bt:3", "").replace(" @ verr.bt:4", "");
        let messages = messages(&log);
        let rejection = find_rejection(&messages).expect("rejected");
        let diagnostic = rejection.diagnose(&sources(), Span::new(0, 0, 5));
        let span = diagnostic.primary.expect("has a place").0;
        assert_eq!(sources().slice(span), "$v = @counts[$k];");
    }

    #[test]
    fn a_refused_helper_is_named() {
        let log = "0: (85) call bpf_d_path#147\n\
            program of this type cannot use helper bpf_d_path#147\nprocessed 1 insns\n";
        let messages = messages(log);
        let rejection = find_rejection(&messages).expect("rejected");
        let diagnostic = rejection.diagnose(&sources(), Span::default());
        assert!(diagnostic.message.contains("`d_path`"), "{}", diagnostic.message);
    }

    #[test]
    fn a_refused_target_has_no_instructions_in_its_log() {
        let messages = messages("vfs_nope is not a function\nprocessed 0 insns\n");
        let rejection = find_rejection(&messages).expect("rejected");
        assert!(rejection.is_about_target());
        assert_eq!(rejection.reason(), Some("vfs_nope is not a function"));
    }
}
