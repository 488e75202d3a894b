//! What programs are and what they cost, by the kernel's own accounts: `-v`, `--stats` and
//! `--max-overhead`.
//!
//! The kernel measures only while somebody asks it to (`BPF_ENABLE_STATS`, some 25 ns for each
//! run of a program), so nothing is measured without one of the two options.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::error::Error;
use super::load::{self, Loaded};
use super::sys;
use super::verifier::Statistics;
use crate::diag::{Diagnostic, Warning};
use crate::plan;

/// The shortest time that a share of a CPU is taken over.
const WINDOW: Duration = Duration::from_millis(500);

/// Bytes of an instruction.
const INSTRUCTION: u32 = 8;

/// A measurement under way.
pub(super) struct Accounts<'a> {
    loaded: &'a Loaded,
    /// The kernel measures while this is open.
    _measured: OwnedFd,
    start: Instant,
    /// Percent of one CPU.
    budget: Option<f64>,
    /// When the cost was looked at last, and what it was.
    last: Cell<(Instant, u64)>,
}

impl<'a> Accounts<'a> {
    /// Begins to measure.
    ///
    /// # Errors
    /// The kernel cannot (before 5.8), or this process may not ask it to.
    pub(super) fn start(loaded: &'a Loaded, budget: Option<f64>) -> Result<Accounts<'a>, Error> {
        let measured = measure("`--stats` and `--max-overhead`")?;
        let now = Instant::now();
        Ok(Accounts { loaded, _measured: measured, start: now, budget, last: Cell::new((now, 0)) })
    }

    /// What to say if the programs cost more than the budget since this was asked last.
    pub(super) fn exceeded(&self) -> Option<Diagnostic> {
        let budget = self.budget?;
        let (then, before) = self.last.get();
        let passed = then.elapsed();
        if passed < WINDOW {
            return None;
        }
        let all: u64 = self.rows().iter().map(|row| row.nanoseconds).sum();
        self.last.set((Instant::now(), all));
        let share = percent(all.saturating_sub(before), passed);
        if share <= budget {
            return None;
        }
        let message = format!("the programs cost {share:.2}% of a CPU, so they were detached");
        let d = Diagnostic::global(message).weaken(Warning::Overhead);
        let d = d.note(format!("`--max-overhead` allows {budget}%"));
        let rows = self.rows();
        let most = rows.iter().max_by_key(|row| row.nanoseconds);
        Some(match most {
            Some(most) if rows.len() > 1 => d.note(format!("most of it: {}", most.name)),
            _ => d,
        })
    }

    /// A line for each program, and their sum.
    pub(super) fn report(&self) -> Vec<String> {
        let passed = self.start.elapsed();
        let mut rows = self.rows();
        rows.sort_by_key(|row| std::cmp::Reverse(row.nanoseconds));
        let (runs, all) =
            rows.iter().fold((0, 0), |(runs, all), row| (runs + row.runs, all + row.nanoseconds));
        rows.push(Row { name: "in all".to_owned(), runs, nanoseconds: all });
        let mut lines = vec![format!("{:>12} {:>10} {:>8}  probe", "runs", "ns each", "of a CPU")];
        lines.extend(rows.iter().map(|row| {
            let each = row.nanoseconds.checked_div(row.runs).unwrap_or(0);
            let share = percent(row.nanoseconds, passed);
            format!("{:>12} {each:>10} {share:>7.3}%  {}", row.runs, row.name)
        }));
        lines
    }

    fn rows(&self) -> Vec<Row> {
        let programs = self.loaded.programs();
        let row = |plan: &plan::Program| {
            let program = programs.get(OsStr::new(&plan.name))?;
            let info = load::info(program.as_fd())?;
            Some(Row { name: name(plan), runs: info.run_cnt, nanoseconds: info.run_time_ns })
        };
        self.loaded.plan.programs.iter().filter_map(row).collect()
    }
}

/// Has the kernel measure until this is closed.
///
/// # Errors
/// It cannot (before 5.8), or this process may not ask it to.
pub(super) fn measure(who: &str) -> Result<OwnedFd, Error> {
    sys::run_time_statistics().map_err(|e| {
        let d = Diagnostic::global(format!("the kernel does not measure programs: {e}"));
        Error::run(d.note(format!("{who} needs Linux 5.8 and the capability CAP_SYS_ADMIN")))
    })
}

/// What a program did.
struct Row {
    name: String,
    runs: u64,
    nanoseconds: u64,
}

/// The share of one CPU.
pub(super) fn percent(nanoseconds: u64, of: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    let share = nanoseconds as f64 / of.as_nanos().max(1) as f64;
    share * 100.0
}

/// A program by its probes.
fn name(plan: &plan::Program) -> String {
    let mut probes = plan.attach.iter().flat_map(|attach| attach.probes.iter());
    match (probes.next(), probes.count()) {
        (None, _) => plan.name.clone(),
        (Some(first), 0) => first.to_owned(),
        (Some(first), more) => format!("{first} and {more} more"),
    }
}

/// What the kernel made of each program, a line each (`-v`).
pub(super) fn facts(loaded: &Loaded) -> Vec<String> {
    let programs = loaded.programs();
    let line = |plan: &plan::Program| {
        let program = programs.get(OsStr::new(&plan.name))?;
        let info = load::info(program.as_fd())?;
        let tag: String = info.tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut line = format!(
            "{}: id {}, tag {tag}, {} instructions ({} bytes), {} bytes of machine code",
            name(plan),
            info.id,
            info.xlated_prog_len / INSTRUCTION,
            info.xlated_prog_len,
            info.jited_prog_len,
        );
        if let Some(Statistics { instructions, states, microseconds, stack }) =
            loaded.verified.get(&plan.name)
        {
            line += &format!(
                ", {stack} bytes of stack; verified: {instructions} instructions, {states} states, \
                 {microseconds} µs"
            );
        }
        Some(line)
    };
    loaded.plan.programs.iter().filter_map(line).collect()
}
