//! A long run under load: memory stays as it is, and nothing is lost unreported.

use std::fs;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use regex::Regex;

use crate::{Run, alone, number, rtrace, workload};

/// Events, maps that fill up, histograms, stacks, strings, and maps that are printed and
/// cleared meanwhile.
const SCRIPT: &str = "\
config = { max_map_keys = 2000 }
tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ {
	@all = count();
	printf(\"event %d %s\\n\", tid, comm);
	@keys[@n % 3000] = count();
	@n++;
	@where[kstack, ustack] = count();
	@time = hist(nsecs % 1000000);
	@text[str(curtask.comm), tid % 10] = max(nsecs);
}
tracepoint:syscalls:sys_enter_read { @reads[comm, args.fd] = count(); }
tracepoint:sched:sched_process_exit { @exits[comm, pid] = nsecs; }
interval:ms:200 { print(@reads, 5); clear(@reads); clear(@exits); clear(@where); print(@time); }
end { clear(@exits); clear(@where); clear(@reads); clear(@text); clear(@n); }
";

/// Calls of one workload.
const CALLS: u64 = 40_000;

/// How much memory may grow once everything has been seen, KiB. Blocks that the allocator
/// keeps vary by so much.
const GROWTH: u64 = 8 << 10;

/// `VmRSS` of a process in KiB (proc(5)).
fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_stays_flat_and_no_loss_is_unreported() {
    let _alone = alone();
    let length = Duration::from_secs(number("RTRACE_SOAK_SECONDS", 4));
    let mut run = Run::start(rtrace(&["-B", "full"], SCRIPT));
    let stdout = BufReader::new(run.child.stdout.take().unwrap());
    // What came, without keeping it: events, and the last words.
    let reader = thread::spawn(move || {
        let (mut events, mut last) = (0u64, Vec::new());
        for line in stdout.split(b'\n').map(Result::unwrap) {
            match line.starts_with(b"event ") {
                true => events += 1,
                false => last.push(String::from_utf8(line).unwrap()),
            }
            if last.len() > 100_000 {
                last.drain(..50_000);
            }
        }
        (events, last)
    });
    let started = Instant::now();
    let (mut calls, mut warm, mut most) = (0, None, 0);
    while started.elapsed() < length {
        let work = format!("getppid {} --threads 2 --pin", CALLS / 2);
        assert!(workload(&work).status().unwrap().success());
        calls += CALLS;
        let now = memory(run.pid());
        if started.elapsed() > length / 4 {
            most = most.max(now);
            warm.get_or_insert(now);
        }
    }
    run.signal(Signal::SIGINT);
    let done = run.done().code(0);
    let (events, last) = reader.join().unwrap();

    let warm = warm.unwrap_or(most);
    println!("{calls} calls, {events} events printed; {warm} KiB, at most {most} KiB");
    assert!(most <= warm + GROWTH, "memory grew from {warm} to {most} KiB\n{}", done.err);

    let find = |text: &str, regex: &str| -> u64 {
        let regex = Regex::new(regex).unwrap();
        regex.captures_iter(text).map(|c| c[1].parse::<u64>().unwrap()).sum()
    };
    let last = last.join("\n");
    let lost = find(&done.err, "(?m)^ *(\\d+)  stdin:4:\\d+ +events: no room");
    let full = find(&done.err, "(?m)^ *(\\d+)  stdin:5:\\d+ +updates: `@keys`");
    assert_eq!(find(&last, "(?m)^@all: (\\d+)$"), calls);
    assert_eq!(events + lost, calls, "{events} printed, {lost} lost\n{}", done.err);
    let kept = find(&last, "(?m)^@keys\\[\\d+\\]: (\\d+)$");
    assert_eq!(kept + full, calls, "{kept} in the map, {full} lost\n{}", done.err);
}
