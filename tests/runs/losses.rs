//! A producer of a known number of events at full speed: what is delivered and what is
//! said to be lost are that number.

use nix::sys::signal::Signal;
use regex::Regex;

use crate::{Run, alone, number, rtrace, workload, workload_text};

/// Events of a run, from two threads on a CPU each.
const EVENTS: u64 = 60_000;
const WORK: &str = "getppid 30000 --threads 2 --pin";

const SCRIPT: &str = "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ { \
     printf(\"event %d aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n\", tid); @all = count(); }";

/// The counts of a run by its output: delivered, lost by the total, lost by the table.
struct Counts {
    delivered: u64,
    total: u64,
    table: u64,
}

fn sum(text: &str, regex: &str) -> u64 {
    let regex = Regex::new(regex).unwrap();
    regex.captures_iter(text).map(|c| c[1].parse::<u64>().unwrap()).sum()
}

fn text_counts(out: &str, err: &str) -> Counts {
    let whole = Regex::new("(?m)^event \\d+ a{44}$").unwrap();
    let delivered = whole.find_iter(out).count() as u64;
    assert_eq!(out.matches("event").count() as u64, delivered, "a line is damaged");
    let table = sum(err, "(?m)^ *(\\d+)  stdin:1:\\d+  events: no room");
    assert_eq!(sum(err, "(?m)^Lost (\\d+) events$"), table, "{err}");
    Counts { delivered, total: sum(err, "Total lost event count: (\\d+)"), table }
}

fn json_counts(out: &str) -> Counts {
    Counts {
        delivered: out.matches("{\"type\": \"printf\", \"data\": \"event ").count() as u64,
        total: sum(out, "\"lost_events\", \"count\": (\\d+),"),
        table: sum(out, "\"cause\": \"ring_buffer_full\", \"count\": (\\d+),"),
    }
}

#[track_caller]
fn check(counts: &Counts, events: u64) {
    let Counts { delivered, total, table } = *counts;
    assert_eq!(total, table, "the sum of the losses and the table differ");
    assert_eq!(delivered + table, events, "{delivered} delivered, {table} lost");
}

/// Runs with a buffer of so many pages, or of the default size.
fn exact(pages: Option<&str>) {
    let _alone = alone();
    let work = workload_text(WORK);
    let all = format!("@all: {EVENTS}\n");
    let start = |flags: &[&str]| {
        let mut command = rtrace(flags, SCRIPT);
        command.envs(pages.map(|n| ("BPFTRACE_PERF_RB_PAGES", n)));
        command
    };
    for _ in 0..number("RTRACE_RUNS", 4) {
        let done = Run::read(start(&["-B", "full", "-c", &work])).done().code(0);
        let counts = text_counts(&done.out, &done.err);
        check(&counts, EVENTS);
        assert!(done.out.contains(&all), "the map: {}", done.err);
        // On a machine that does other things as well, the default size may lose some, too.
        assert!(pages.is_none() || counts.table > 0, "a tiny buffer loses something");

        let json = start(&["-f", "json", "--strict", "-c", &work]).output().unwrap();
        let counts = json_counts(&String::from_utf8(json.stdout).unwrap());
        check(&counts, EVENTS);
        assert_eq!(json.status.code(), Some(if counts.table > 0 { 3 } else { 0 }));
    }
}

#[test]
fn a_tiny_buffer_loses_exactly_what_is_told() {
    exact(Some("1"));
}

#[test]
fn the_default_buffer_loses_nothing_or_exactly_what_is_told() {
    exact(None);
}

#[test]
fn a_reader_that_stands_still_costs_nothing() {
    let _alone = alone();
    // 24 bytes each in a buffer of 1 MiB, which has room for 44,000.
    let mut run = Run::start(rtrace(&[], SCRIPT));
    let status = workload("getppid 120000 --pin").status().unwrap();
    assert!(status.success());
    run.read_output();
    run.signal(Signal::SIGINT);
    let done = run.done().code(0);
    let counts = text_counts(&done.out, &done.err);
    check(&counts, 120_000);
    assert!(counts.delivered > 80_000, "{} delivered", counts.delivered);
}
