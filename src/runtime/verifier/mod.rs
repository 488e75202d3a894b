//! What the kernel's verifier says, told as a sentence at the script's statement.
//!
//! In: libbpf's messages after a failed load, and the object. `log.rs` takes the verifier's log
//! apart, `known.rs` has a sentence for each reason, `place.rs` finds the statement, `story.rs`
//! tells where the value came from that the verifier does not trust.

mod known;
mod log;
mod place;
mod statistics;
mod story;

use crate::diag::Diagnostic;
use crate::source::{FileId, Sources, Span};

use known::{Facts, Fault, KNOWN, Known};
use log::{Log, Step};
pub(super) use statistics::Statistics;

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

/// What is said of a rejection.
#[derive(Debug, Clone)]
pub(super) struct Explained {
    pub diagnostic: Diagnostic,
    /// The register story, for `-v`; may be empty.
    pub story: Vec<String>,
}

/// Says what messages of libbpf mean, if they are about a program that was refused: the whole
/// way from text to message, for tests and fuzzing.
pub fn explain(
    messages: &[String],
    sources: &Sources,
    probe: Span,
    elf: &[u8],
) -> Option<(Diagnostic, Vec<String>)> {
    let rejection = find_rejection(messages)?;
    let Explained { diagnostic, story } = rejection.explain(sources, probe, elf);
    Some((diagnostic, story))
}

impl Rejection<'_> {
    /// Whether the kernel refused what the program is for, before it looked
    /// at a single instruction.
    pub(super) fn is_about_target(&self) -> bool {
        let log = Log::parse(self.log);
        log.steps.is_empty()
            && !log.reasons.iter().any(|r| instruction_named(r).is_some())
            && find_known(&log.reasons).is_none()
    }

    /// The line of the log that says why, if there is a log.
    pub(super) fn reason(&self) -> Option<&str> {
        Log::parse(self.log).reasons.last().copied()
    }

    /// The message for the user; `probe` is the place of the program's probe, `elf` what
    /// was loaded.
    pub(super) fn explain(&self, sources: &Sources, probe: Span, elf: &[u8]) -> Explained {
        let log = Log::parse(self.log);
        let span = self.place(&log, sources, probe.file, elf).unwrap_or(probe);
        let story = story::tell(&log);
        let Some((known, reason, rest)) = find_known(&log.reasons) else {
            let said = log.reasons.last().copied().unwrap_or(self.errno);
            let diagnostic = Diagnostic::error(span, "the kernel's verifier rejects this")
                .note(format!("it says: {said}"));
            return Explained { diagnostic: report(diagnostic), story };
        };
        let text = sources.slice(span);
        let subject = shown(text);
        let element = element(text).map(|e| format!("`{e}`"));
        let facts = Facts {
            rest,
            subject: &subject,
            element: element.as_deref(),
            callee: log.steps.last().and_then(callee),
        };
        let diagnostic = Diagnostic::error(span, (known.say)(&facts))
            .note(format!("the kernel's verifier says: {reason}"));
        let diagnostic = match known.fault {
            Fault::Limit if known.help.is_empty() => diagnostic,
            Fault::Limit => diagnostic.help(known.help),
            Fault::Ours => report(diagnostic),
        };
        Explained { diagnostic, story }
    }

    /// The statement that was refused: by the object's line information for the last
    /// instruction, or for the one that the reason names; else by the log's last comment.
    fn place(&self, log: &Log<'_>, sources: &Sources, file: FileId, elf: &[u8]) -> Option<Span> {
        let named = log.reasons.iter().find_map(|reason| instruction_named(reason));
        let last = log.steps.last();
        let comment = last.and_then(|step| step.comment);
        let by_comment = || match split_position(comment?) {
            Some((_, name, line)) => {
                place::line_span(sources, place::find_file(sources, name)?, line)
            }
            // The probe's own file first: lines such as `}` are in all of them.
            None => place::find_line(sources, file, comment?).or_else(|| {
                let files = 0..FileId::try_from(sources.files.len()).ok()?;
                files.into_iter().find_map(|other| place::find_line(sources, other, comment?))
            }),
        };
        let index = named.or(last.map(|step| step.index))?;
        let exact = place::of_instruction(elf, self.program, index);
        let exact = exact.and_then(|position| position.span(sources));
        match (exact, by_comment()) {
            // A function that the program calls has numbers of its own.
            (Some(exact), Some(line)) if named.is_none() => {
                let same = exact.file == line.file
                    && sources.line_col(exact).0 == sources.line_col(line).0;
                Some(if same { exact } else { line })
            }
            (exact, line) => exact.or(line),
        }
    }
}

fn report(diagnostic: Diagnostic) -> Diagnostic {
    diagnostic
        .note("this is a fault of rtrace: what passes its checks should load")
        .help("run again with `-v` for what led to this and the verifier's log, and report it")
}

/// The first row that knows one of the reasons, the reason, and what follows the needle.
fn find_known<'a>(reasons: &[&'a str]) -> Option<(&'static Known, &'a str, &'a str)> {
    KNOWN.iter().find_map(|known| {
        let (reason, (_, rest)) =
            reasons.iter().find_map(|r| Some((*r, r.split_once(known.needle)?)))?;
        Some((known, reason, rest))
    })
}

/// `unreachable insn 2`, `back-edge from insn 3 to 1`, `infinite loop detected at insn 4`
fn instruction_named(reason: &str) -> Option<usize> {
    let (_, rest) = reason.split_once(" insn ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// `call bpf_map_lookup_elem#1`: the name without `bpf_`.
fn callee<'a>(step: &Step<'a>) -> Option<&'a str> {
    let name = step.text.strip_prefix("call ")?.split('#').next()?;
    Some(name.strip_prefix("bpf_").unwrap_or(name))
}

/// A statement in a sentence: the first line of it, not too long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 50;
    let line = text.lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(LONGEST) {
        _ if line.is_empty() => "this".to_owned(),
        Some((cut, _)) => format!("`{}…`", line.get(..cut).unwrap_or_default()),
        None => format!("`{line}`"),
    }
}

/// The first element of an array in a statement: `$a[$i]`; maps have keys, not indices.
fn element(text: &str) -> Option<&str> {
    let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '.' | '>' | '-');
    for (open, _) in text.match_indices('[') {
        let before = text.get(..open)?;
        let start = before.rfind(|c| !name(c)).map_or(0, |at| {
            at + before.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8)
        });
        let word = before.get(start..)?;
        if word.is_empty() || word.starts_with('@') {
            continue;
        }
        let mut depth = 0usize;
        for (at, c) in text.get(open..)?.char_indices() {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return text.get(start..=open + at);
            }
        }
    }
    None
}

/// `TEXT @ FILE:LINE`
fn split_position(comment: &str) -> Option<(&str, &str, usize)> {
    let (text, place) = comment.rsplit_once(" @ ")?;
    let (name, line) = place.rsplit_once(':')?;
    Some((text, name, line.trim().parse().ok()?))
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
        let diagnostic = rejection.explain(&sources(), Span::new(0, 0, 5), &[]).diagnostic;
        let span = diagnostic.primary.as_ref().expect("has a place").0;
        assert_eq!(sources().slice(span), "$v = @counts[$k];");
        assert!(diagnostic.notes.iter().any(|n| n.contains("map_value_or_null")));
    }

    #[test]
    fn old_kernels_give_the_text_of_the_line_only() {
        let log = NEW.replace(" @ verr.bt:3", "").replace(" @ verr.bt:4", "");
        let messages = messages(&log);
        let rejection = find_rejection(&messages).expect("rejected");
        let diagnostic = rejection.explain(&sources(), Span::new(0, 0, 5), &[]).diagnostic;
        let span = diagnostic.primary.expect("has a place").0;
        assert_eq!(sources().slice(span), "$v = @counts[$k];");
    }

    #[test]
    fn a_refused_helper_is_named() {
        let log = "0: (85) call bpf_d_path#147\n\
            program of this type cannot use helper bpf_d_path#147\nprocessed 1 insns\n";
        let messages = messages(log);
        let rejection = find_rejection(&messages).expect("rejected");
        let diagnostic = rejection.explain(&sources(), Span::default(), &[]).diagnostic;
        assert!(diagnostic.message.contains("`d_path`"), "{}", diagnostic.message);
    }

    #[test]
    fn a_refused_target_has_no_instructions_in_its_log() {
        let messages = messages("vfs_nope is not a function\nprocessed 0 insns\n");
        let rejection = find_rejection(&messages).expect("rejected");
        assert!(rejection.is_about_target());
        assert_eq!(rejection.reason(), Some("vfs_nope is not a function"));
    }

    #[test]
    fn too_much_stack_is_not_about_the_target() {
        let said = "combined stack size of 3 calls is 528. Too large\nprocessed 0 insns\n";
        let messages = messages(said);
        let rejection = find_rejection(&messages).expect("rejected");
        assert!(!rejection.is_about_target());
        let diagnostic = rejection.explain(&sources(), Span::default(), &[]).diagnostic;
        assert!(diagnostic.message.contains("needs more stack"), "{}", diagnostic.message);
    }

    #[test]
    fn elements_of_arrays_are_named() {
        assert_eq!(element("@m[1] = $a[$i] + 2"), Some("$a[$i]"));
        assert_eq!(element("args.list[$b[0]]"), Some("args.list[$b[0]]"));
        assert_eq!((element("@m[1]"), element("(1)[0"), element("[")), (None, None, None));
    }
}
