//! The verifier's log, line by line: comments with the script's text, instructions, what is
//! known of registers after them, and the reasons for the rejection.
//!
//! Kernels differ. From 6.9 on a comment ends in `@ FILE:LINE`; before 5.18 what is known
//! stands on lines of its own; some print the state again for each branch (`from 3 to 7:`).

/// What the log of one program says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log<'a> {
    /// Instructions in the order in which the verifier went through them.
    pub steps: Vec<Step<'a>>,
    /// Lines behind the last instruction that are no statistics, as they come: at least
    /// one of them says why.
    pub reasons: Vec<&'a str>,
}

/// An instruction that the verifier went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step<'a> {
    /// Number of the instruction in the program, from 0.
    pub index: usize,
    /// `r0 = *(u64 *)(r0 +0)`
    pub text: &'a str,
    /// What is known after it: `R0=scalar() R1=ctx()`, or nothing.
    pub state: &'a str,
    /// The last comment before it.
    pub comment: Option<&'a str>,
}

impl<'a> Log<'a> {
    pub(super) fn parse(text: &'a str) -> Log<'a> {
        let mut log = Log::default();
        let mut comment = None;
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || is_statistic(line) {
                continue;
            }
            if let Some(text) = line.strip_prefix("; ") {
                comment = Some(text);
                log.reasons.clear();
            } else if let Some((index, rest)) = instruction(line) {
                let (text, state) = rest.split_once(';').unwrap_or((rest, ""));
                log.steps.push(Step { index, text: text.trim(), state: state.trim(), comment });
                log.reasons.clear();
            } else if let Some(state) = state(line) {
                // Older kernels: what is known before the next instruction.
                match log.steps.last_mut() {
                    Some(last) if last.state.is_empty() && !line.starts_with("from ") => {
                        last.state = state;
                    }
                    _ => {}
                }
            } else {
                log.reasons.push(line);
            }
        }
        log
    }
}

/// `12: (b7) r1 = 0`
pub(super) fn instruction(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.split_once(": (")?;
    let (_, text) = rest.split_once(") ")?;
    Some((number.parse().ok()?, text))
}

/// `5: R0=inv(id=0) R10=fp0`, `from 3 to 7: R0=…`, `R1_w=…`
fn state(line: &str) -> Option<&str> {
    let behind = match line.split_once(": ") {
        Some((number, rest)) if number.parse::<usize>().is_ok() => rest,
        Some((branch, rest)) if branch.starts_with("from ") => rest,
        _ => line,
    };
    let register = behind.strip_prefix('R')?;
    let digits = register.bytes().take_while(u8::is_ascii_digit).count();
    let after = register.get(digits..)?.trim_start_matches(['_', 'w', 'r', 'D', 'P']);
    (digits > 0 && after.starts_with('=')).then_some(behind)
}

fn is_statistic(line: &str) -> bool {
    const STATISTICS: [&str; 16] = [
        "processed ",
        "verification time ",
        "stack depth ",
        "mark_precise",
        "last_idx ",
        "regs=",
        "parent ",
        "func#",
        "propagating ",
        "returning ",
        "returning from callee",
        "caller",
        "callee",
        "to caller",
        "Live regs",
        "insn_idx",
    ];
    // Said of every program whose context has no type.
    let untyped = line.starts_with("arg#") && line.contains("size cannot be determined");
    untyped || STATISTICS.iter().any(|prefix| line.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_and_older_logs_have_the_same_steps() {
        let new = "0: R1=ctx() R10=fp0\n; $k = 7; @ a.bt:3\n0: (b7) r1 = 7       ; R1_w=7\n\
                   1: (79) r0 = *(u64 *)(r0 +0)\nR0 !read_ok\nprocessed 2 insns\n";
        let old = "0: R1=ctx(id=0,off=0,imm=0) R10=fp0\n; $k = 7;\n0: (b7) r1 = 7\n\
                   1: R1_w=inv7\n1: (79) r0 = *(u64 *)(r0 +0)\nR0 !read_ok\n";
        let (new, old) = (Log::parse(new), Log::parse(old));
        assert_eq!((new.steps.len(), old.steps.len()), (2, 2));
        assert_eq!((new.reasons, old.reasons), (vec!["R0 !read_ok"], vec!["R0 !read_ok"]));
        assert_eq!(new.steps[0].state, "R1_w=7");
        assert_eq!(old.steps[0].state, "R1_w=inv7");
        assert_eq!(new.steps[1].comment, Some("$k = 7; @ a.bt:3"));
    }

    #[test]
    fn reasons_are_no_state() {
        assert_eq!(state("R7 max value is outside of the allowed memory range"), None);
        assert_eq!(state("R0 !read_ok"), None);
        assert_eq!(state("from 9 to 14: R0=inv(id=0)"), Some("R0=inv(id=0)"));
    }
}
