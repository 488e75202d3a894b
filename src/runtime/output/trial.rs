//! Results of tests and benchmarks (output.md §13).

use std::io::Write as _;
use std::time::Duration;

use super::{Error, MEMORY, Output, json};

/// How a test went.
pub struct TestResult<'a> {
    pub name: &'a str,
    pub duration: Duration,
    pub passed: bool,
    /// What it wrote.
    pub output: &'a [u8],
}

/// How long a benchmark takes.
pub struct Benchmark<'a> {
    pub name: &'a str,
    /// Of a run, in nanoseconds.
    pub average: u64,
    pub iterations: u64,
    /// Characters of the longest name.
    pub width: usize,
}

/// Columns of the table of benchmarks, at least.
const NAME: usize = 40;
const TIME: usize = 15;
const ITERATIONS: usize = 10;

impl Output {
    /// The head of the transcript.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn tests_start(&mut self, count: usize) -> Result<(), Error> {
        self.step("==========", true, &format!("Running {}.", tests(count)))
    }

    /// # Errors
    /// If output cannot be written.
    pub fn test_start(&mut self, name: &str) -> Result<(), Error> {
        self.step(" RUN      ", true, name)
    }

    /// A test that failed shows what it wrote.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn test_end(&mut self, test: &TestResult<'_>) -> Result<(), Error> {
        if self.options.json {
            let out = &mut self.out.buffer;
            out.extend_from_slice(b"{\"type\": \"test_result\", \"data\": {");
            json::string(out, test.name.as_bytes());
            let (duration, passed) = (test.duration.as_nanos(), test.passed);
            write!(out, ": {{\"duration\": {duration}, \"passed\": {passed}, \"output\": ")
                .expect(MEMORY);
            json::string(out, test.output);
            out.extend_from_slice(b"}}}\n");
            return self.out.piece_done();
        }
        let end = format!("{} ({})", test.name, amount(test.duration));
        if test.passed {
            return self.step("       OK ", true, &end);
        }
        self.out.buffer.extend_from_slice(test.output);
        if !test.output.is_empty() && !test.output.ends_with(b"\n") {
            self.out.buffer.push(b'\n');
        }
        self.step("  FAILED  ", false, &end)
    }

    /// The end of the transcript: how many there were, and which failed.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn tests_end(
        &mut self,
        count: usize,
        duration: Duration,
        failed: &[String],
    ) -> Result<(), Error> {
        let end = format!("{} ran. ({} total)", tests(count), amount(duration));
        self.step("==========", true, &end)?;
        self.step("  PASSED  ", true, &format!("{}.", tests(count - failed.len())))?;
        if !failed.is_empty() {
            let list = format!("{}, listed below:", tests(failed.len()));
            self.step("  FAILED  ", false, &list)?;
        }
        for name in failed {
            self.step("  FAILED  ", false, name)?;
        }
        self.out.flush()
    }

    /// The head of the table.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn benchmarks_start(&mut self, longest: usize) -> Result<(), Error> {
        if self.options.json {
            return Ok(());
        }
        let name = name_column(longest);
        let out = &mut self.out.buffer;
        writeln!(out, "{:name$}{:TIME$}{:ITERATIONS$}", "Benchmark", "Time(ns)", "Iterations")
            .expect(MEMORY);
        writeln!(out, "{}", "-".repeat(name + TIME + ITERATIONS)).expect(MEMORY);
        self.out.piece_done()
    }

    /// A row of the table.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn benchmark(&mut self, result: &Benchmark<'_>) -> Result<(), Error> {
        let Benchmark { name, average, iterations, width } = result;
        let out = &mut self.out.buffer;
        if self.options.json {
            out.extend_from_slice(b"{\"type\": \"benchmark_result\", \"data\": {");
            json::string(out, name.as_bytes());
            writeln!(out, ": {{\"average\": {average}, \"iters\": {iterations}}}}}}}")
        } else {
            let column = name_column(*width);
            writeln!(out, "{name:column$}{average:<TIME$}{iterations}")
        }
        .expect(MEMORY);
        self.out.piece_done()?;
        self.out.settle()
    }

    /// A benchmark that complained, with what it wrote.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn benchmark_failed(&mut self, name: &str, output: &[u8]) -> Result<(), Error> {
        let text = String::from_utf8_lossy(output);
        self.failure(&format!("the benchmark `{name}` failed"))?;
        if text.is_empty() { Ok(()) } else { self.remark(text.trim_end()) }
    }

    /// A line of the transcript.
    fn step(&mut self, tag: &str, good: bool, text: &str) -> Result<(), Error> {
        if self.options.json {
            return Ok(());
        }
        let out = &mut self.out.buffer;
        match (self.options.color, good) {
            (false, _) => writeln!(out, "[{tag}] {text}"),
            (true, true) => writeln!(out, "\x1b[32m[{tag}]\x1b[0m {text}"),
            (true, false) => writeln!(out, "\x1b[31m[{tag}]\x1b[0m {text}"),
        }
        .expect(MEMORY);
        self.out.piece_done()?;
        self.out.settle()
    }
}

fn name_column(longest: usize) -> usize {
    longest.max(NAME) + 1
}

fn tests(count: usize) -> String {
    format!("{count} test{}", if count == 1 { "" } else { "s" })
}

/// A duration in the largest unit that leaves a whole number.
fn amount(duration: Duration) -> String {
    match duration.as_nanos() {
        n @ 0..10_000 => format!("{n} ns"),
        n @ 10_000..10_000_000 => format!("{} us", n / 1000),
        n => format!("{} ms", n / 1_000_000),
    }
}
