//! Results of tests and benchmarks (output.md §13).

use std::time::Duration;

use super::*;
use crate::runtime::output::trial::{Benchmark, TestResult};

fn tests_shown(options: Options) -> (String, String) {
    streams("", options, |o| {
        o.tests_start(2)?;
        o.test_start("good")?;
        let good = TestResult {
            name: "good",
            duration: Duration::from_nanos(9_999),
            passed: true,
            output: b"unseen\n",
        };
        o.test_end(&good)?;
        o.test_start("bad")?;
        let bad = TestResult {
            name: "bad",
            duration: Duration::from_micros(10),
            passed: false,
            output: b"why\xff",
        };
        o.test_end(&bad)?;
        o.tests_end(2, Duration::from_millis(12), &["bad".into()])
    })
}

#[test]
fn a_transcript_of_tests() {
    let plain = "\
[==========] Running 2 tests.
[ RUN      ] good
[       OK ] good (9999 ns)
[ RUN      ] bad
why\u{fffd}
[  FAILED  ] bad (10 us)
[==========] 2 tests ran. (12 ms total)
[  PASSED  ] 1 test.
[  FAILED  ] 1 test, listed below:
[  FAILED  ] bad
";
    assert_eq!(tests_shown(Options::default()), (plain.into(), String::new()));
    let (colors, _) = tests_shown(Options { color: true, ..Options::default() });
    assert!(colors.contains("\x1b[32m[       OK ]\x1b[0m good (9999 ns)\n"), "{colors}");
    assert!(colors.contains("\x1b[31m[  FAILED  ]\x1b[0m bad (10 us)\n"), "{colors}");
}

#[test]
fn tests_in_json() {
    let json = "\
{\"type\": \"test_result\", \"data\": {\"good\": {\"duration\": 9999, \"passed\": true, \"output\": \"unseen\\n\"}}}
{\"type\": \"test_result\", \"data\": {\"bad\": {\"duration\": 10000, \"passed\": false, \"output\": \"why\\uefff\"}}}
";
    assert_eq!(tests_shown(JSON), (json.into(), String::new()));
}

#[test]
fn a_table_of_benchmarks() {
    let (text, json) = both(|o| {
        o.benchmarks_start(5)?;
        o.benchmark(&Benchmark { name: "short", average: 17, iterations: 1_000_000, width: 5 })
    });
    let expected = format!(
        "{:<41}{:<15}Iterations\n{}\n{:<41}{:<15}1000000\n",
        "Benchmark",
        "Time(ns)",
        "-".repeat(66),
        "short",
        17
    );
    assert_eq!(text, expected);
    assert_eq!(
        json,
        "{\"type\": \"benchmark_result\", \"data\": {\"short\": {\"average\": 17, \"iters\": 1000000}}}\n"
    );
    let long = "x".repeat(50);
    let (text, _) = both(|o| {
        o.benchmarks_start(50)?;
        o.benchmark(&Benchmark { name: &long, average: 1, iterations: 2, width: 50 })
    });
    assert!(text.contains(&format!("\n{long} 1              2\n")), "{text}");
}

#[test]
fn a_benchmark_that_failed_is_told_on_the_error_stream() {
    let shown = |options| streams("", options, |o| o.benchmark_failed("b", b"why\x1b[m\n"));
    let text = "ERROR: the benchmark `b` failed\nwhy\x1b[m\n";
    assert_eq!(shown(Options::default()), (String::new(), text.into()));
    let guarded = Options { guarded_errors: true, ..JSON };
    let text = "ERROR: the benchmark `b` failed\nwhy\\x1b[m\n";
    assert_eq!(shown(guarded), (String::new(), text.into()));
}

#[test]
fn pinned_iterators() {
    let (text, json) = both(|o| o.pinned("/sys/fs/bpf/it"));
    assert_eq!(text, "Program pinned to /sys/fs/bpf/it\n");
    assert_eq!(json, "{\"type\": \"pinned\", \"data\": \"/sys/fs/bpf/it\"}\n");
}
