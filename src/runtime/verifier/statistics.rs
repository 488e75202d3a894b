//! What the verifier's log ends with if it is asked for statistics.

/// What it took to verify a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Instructions that the verifier went through, some of them several times.
    pub instructions: u64,
    /// States that it had in mind, in all.
    pub states: u64,
    pub microseconds: u64,
    /// Bytes of stack, those of the functions that the program calls included.
    pub stack: u64,
}

impl Statistics {
    /// Reads the last lines of a log:
    ///
    /// ```text
    /// verification time 85 usec
    /// stack depth 16+8
    /// processed 12 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
    /// ```
    pub(crate) fn read(log: &str) -> Option<Statistics> {
        let after =
            |start: &str| log.lines().rev().find_map(|line| line.trim().strip_prefix(start));
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        let processed = after("processed ")?;
        let (_, states) = processed.split_once("total_states ")?;
        let depths = after("stack depth ").unwrap_or_default().trim().split('+');
        Some(Statistics {
            instructions: number(processed)?,
            states: number(states)?,
            microseconds: after("verification time ").and_then(number)?,
            stack: depths.filter_map(|depth| depth.parse::<u64>().ok()).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log() {
        let log = "0: (b7) r0 = 0\nverification time 85 usec\nstack depth 16+8\nprocessed 12 insns \
                   (limit 1000000) max_states_per_insn 0 total_states 3 peak_states 1 mark_read 1\n";
        let wanted = Statistics { instructions: 12, states: 3, microseconds: 85, stack: 24 };
        assert_eq!(Statistics::read(log), Some(wanted));
        assert_eq!(Statistics::read("processed many"), None);
        assert_eq!(Statistics::read(""), None);
    }
}
