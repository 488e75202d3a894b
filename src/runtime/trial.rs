//! `--test` and `--bench`: programs that are run here, and how that went.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::attach;
use super::load::{self, Loaded};
use super::output::trial::{Benchmark, TestResult};
use super::poll::{Events, Stop};
use super::sys;
use crate::plan::{Attach, Mechanism};

/// A benchmark is repeated until its runs took so long together.
const ENOUGH: Duration = Duration::from_millis(1);

/// What a benchmark returns that is not to be measured.
const SKIP: u32 = 1;

/// Runs every test of the script. Gives the exit status.
///
/// # Errors
/// The kernel does not run one; see [`Stop`].
pub(super) fn tests(loaded: &Loaded, events: &mut Events<'_, '_>) -> Result<u8, Stop> {
    let programs = loaded.programs();
    let tests = attach::special(&programs, &loaded.plan, &Mechanism::Test)?;
    let start = Instant::now();
    events.output().tests_start(tests.len())?;
    let mut failed = Vec::new();
    let count = tests.len();
    for (program, attach) in tests {
        let name = short_name(attach, "test:");
        events.output().test_start(&name)?;
        let started = Instant::now();
        let trial = events.trial(|| attach::run_one(program, attach))?;
        let duration = started.elapsed();
        let passed = trial.result == 0 && !trial.complained;
        if !passed {
            failed.push(name.clone());
        }
        let result = TestResult { name: &name, duration, passed, output: &trial.output };
        events.output().test_end(&result)?;
    }
    events.output().tests_end(count, start.elapsed(), &failed)?;
    Ok(u8::from(!failed.is_empty()))
}

/// Measures every benchmark of the script. Gives the exit status.
///
/// # Errors
/// The kernel does not run one; see [`Stop`].
pub(super) fn benchmarks(loaded: &Loaded, events: &mut Events<'_, '_>) -> Result<u8, Stop> {
    let programs = loaded.programs();
    let list = attach::special(&programs, &loaded.plan, &Mechanism::Bench)?;
    let names: Vec<String> = list.iter().map(|(_, attach)| short_name(attach, "bench:")).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    events.output().benchmarks_start(width)?;
    // The kernel measures each run as long as this is open; without it, so do we, with the
    // system call around it.
    let statistics = sys::run_time_statistics().ok();
    let mut status = 0;
    for ((program, attach), name) in list.into_iter().zip(names) {
        let trial = events.trial(|| attach::run_one(program, attach))?;
        if trial.complained || trial.result > SKIP {
            events.output().benchmark_failed(&name, &trial.output)?;
            status = 1;
            continue;
        }
        if trial.result == SKIP {
            continue;
        }
        let (average, iterations) = measure(program, attach, statistics.is_some(), events)?;
        let result = Benchmark { name: &name, average, iterations, width };
        events.output().benchmark(&result)?;
    }
    Ok(status)
}

/// Nanoseconds of a run on average, and the number of runs.
fn measure(
    program: BorrowedFd<'_>,
    attach: &Attach,
    by_kernel: bool,
    events: &mut Events<'_, '_>,
) -> Result<(u64, u64), Stop> {
    let mut iterations = 1u64;
    loop {
        let before = load::run_time(program);
        let start = Instant::now();
        for _ in 0..iterations {
            attach::run_one(program, attach)?;
        }
        let took = match by_kernel {
            true => Duration::from_nanos(load::run_time(program).saturating_sub(before)),
            false => start.elapsed(),
        };
        // What it sends is not wanted, and must not fill the buffer.
        events.skip()?;
        if took >= ENOUGH || iterations >= 1 << 24 {
            return Ok((took.as_nanos() as u64 / iterations, iterations));
        }
        iterations *= 2;
    }
}

/// The name of a test without its kind; a label as it is.
fn short_name(attach: &Attach, kind: &str) -> String {
    let name = attach.probes.first().unwrap_or("");
    name.strip_prefix(kind).unwrap_or(name).to_owned()
}
