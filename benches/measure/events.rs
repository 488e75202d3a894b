//! Nanoseconds per event, as the kernel counts them (`run_time_ns` and
//! `run_cnt` of a program), of typical scripts and of C that does the same.
//!
//! Both are attached in turn, to the same raw tracepoints, while one thread
//! that stays on its CPU makes system calls. The kernel's clock is in every
//! figure, so the table starts with a program that does nothing, and has a
//! second ratio without what that takes.
//!
//! Programs that send events do so while nobody reads them, so that no round
//! pays for waking a reader: rtrace stands still meanwhile, and the buffers
//! have room for all events of a round.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use libbpf_rs::{Link, MapCore, Object, RingBuffer, RingBufferBuilder};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::child::Tracer;
use crate::kernel::{Counted, Statistics};
use crate::numbers::{Samples, table};
use crate::{Result, clang};

/// What the pinned thread does.
#[derive(Clone, Copy)]
enum Work {
    /// getppid(2).
    Getppid,
    /// read(2) of /dev/zero, of sizes from 0 to 4095 bytes.
    Read,
    /// openat(2) of a path that does not exist.
    Open,
}

/// A script and its equal in C.
struct Case {
    /// What it does, for the table.
    name: &'static str,
    script: &'static str,
    /// Programs of `programs.bpf.c`.
    programs: &'static [&'static str],
    work: Work,
    /// System calls in a round.
    calls: u32,
    sends: bool,
}

const MANY: u32 = 200_000;

const CASES: [Case; 13] = [
    Case::new("nothing", "rawtracepoint:sys_enter { }", &["nothing"], Work::Getppid, MANY),
    Case::new(
        "@ = count()",
        "tracepoint:syscalls:sys_enter_getppid { @ = count(); }",
        &["counts"],
        Work::Getppid,
        MANY,
    ),
    Case::new(
        "@[comm] = count()",
        "tracepoint:syscalls:sys_enter_getppid { @[comm] = count(); }",
        &["by_comm"],
        Work::Getppid,
        MANY,
    ),
    Case::new(
        "@[pid] = count()",
        "tracepoint:syscalls:sys_enter_getppid { @[pid] = count(); }",
        &["by_pid"],
        Work::Getppid,
        MANY,
    ),
    Case::new(
        "/pid == N/ { @ = count() }",
        "tracepoint:syscalls:sys_enter_getppid /pid == PID/ { @ = count(); }",
        &["predicate"],
        Work::Getppid,
        MANY,
    ),
    Case::new(
        "@[comm, args.fd] = count()",
        "tracepoint:syscalls:sys_enter_read { @[comm, args.fd] = count(); }",
        &["two_keys"],
        Work::Read,
        MANY,
    ),
    Case::new(
        "@[comm] = sum(args.count)",
        "tracepoint:syscalls:sys_enter_read { @[comm] = sum(args.count); }",
        &["sums"],
        Work::Read,
        MANY,
    ),
    Case::new(
        "@ = hist(args.count)",
        "tracepoint:syscalls:sys_enter_read { @ = hist(args.count); }",
        &["histogram"],
        Work::Read,
        MANY,
    ),
    Case::new(
        "@ = lhist(args.count, 0, 4096, 64)",
        "tracepoint:syscalls:sys_enter_read { @ = lhist(args.count, 0, 4096, 64); }",
        &["linear"],
        Work::Read,
        MANY,
    ),
    Case::new(
        "latency: @start[tid], hist, delete",
        "tracepoint:syscalls:sys_enter_read { @start[tid] = nsecs; } \
         tracepoint:syscalls:sys_exit_read /@start[tid]/ { \
         @ = hist(nsecs - @start[tid]); delete(@start, tid); }",
        &["latency_enter", "latency_exit"],
        Work::Read,
        MANY,
    ),
    Case::new(
        "@[kstack] = count()",
        "tracepoint:syscalls:sys_enter_getppid { @[kstack] = count(); }",
        &["stacks"],
        Work::Getppid,
        MANY / 4,
    ),
    Case {
        sends: true,
        ..Case::new(
            "printf(comm, pid)",
            "tracepoint:syscalls:sys_enter_getppid { printf(\"%s %d\\n\", comm, pid); }",
            &["prints"],
            Work::Getppid,
            20_000,
        )
    },
    Case {
        sends: true,
        ..Case::new(
            "printf(comm, str(args.filename))",
            "tracepoint:syscalls:sys_enter_openat { printf(\"%s %s\\n\", comm, str(args.filename)); }",
            &["paths"],
            Work::Open,
            10_000,
        )
    },
];

impl Case {
    const fn new(
        name: &'static str,
        script: &'static str,
        programs: &'static [&'static str],
        work: Work,
        calls: u32,
    ) -> Case {
        Case { name, script, programs, work, calls, sends: false }
    }
}

/// Measures all cases, prints the table.
pub(crate) fn run(rtrace: &Tracer, rounds: usize) -> Result<()> {
    let mut object = clang::load()?;
    let cpu = pin()?;
    let _statistics = Statistics::enable()?;
    println!("\nPer event ({rounds} rounds on CPU {cpu}; nanoseconds, min / median)\n");
    let head = ["what a program does", "rtrace", "C", "ratio", "without the clock"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut nothing = (0.0, 0.0);
    for case in &CASES {
        let script = case.script.replace("PID", &std::process::id().to_string());
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for _ in 0..rounds {
            ours.add(run_rtrace(rtrace, &script, case)?);
            theirs.add(run_c(&mut object, case)?);
        }
        let is_nothing = rows.len() == 1;
        if is_nothing {
            nothing = (ours.min(), theirs.min());
        }
        let net = (ours.min() - nothing.0) / (theirs.min() - nothing.1);
        rows.push(vec![
            case.name.to_owned(),
            format!("{:.1} / {:.1}", ours.min(), ours.median()),
            format!("{:.1} / {:.1}", theirs.min(), theirs.median()),
            format!("{:.3} / {:.3}", ours.min() / theirs.min(), ours.over(&theirs).median()),
            if is_nothing { String::new() } else { format!("{net:.3}") },
        ]);
    }
    table(&rows);
    Ok(())
}

fn run_rtrace(rtrace: &Tracer, script: &str, case: &Case) -> Result<f64> {
    let mut tracing = rtrace.start(script)?;
    tracing.wait_attached()?;
    work(case.work, case.calls / 10)?;
    if case.sends {
        // It reads what was sent so far, then no more.
        std::thread::sleep(Duration::from_millis(20));
        tracing.stop()?;
    }
    let counted = measure(case, tracing.pid())?;
    if case.sends {
        tracing.signal(Signal::SIGCONT)?;
    }
    tracing.interrupt()?;
    Ok(counted)
}

fn run_c(object: &mut Object, case: &Case) -> Result<f64> {
    let links = attach(object, case)?;
    work(case.work, case.calls / 10)?;
    let mut ring = ring(object)?;
    consume(&mut ring)?;
    let counted = measure(case, std::process::id())?;
    drop(links);
    consume(&mut ring)?;
    Ok(counted)
}

fn attach(object: &mut Object, case: &Case) -> Result<Vec<Link>> {
    let programs = object.progs_mut();
    let chosen = programs.filter(|p| case.programs.iter().any(|name| p.name() == *name));
    let links: std::result::Result<Vec<Link>, _> = chosen.map(|p| p.attach()).collect();
    match links {
        Ok(links) if links.len() == case.programs.len() => Ok(links),
        Ok(_) => Err(format!("the C lacks one of {:?}", case.programs)),
        Err(e) => Err(format!("cannot attach {:?}: {e}", case.programs)),
    }
}

fn ring(object: &mut Object) -> Result<RingBuffer<'static>> {
    let map = object.maps().find(|m| m.name() == "events").ok_or("the C lacks its buffer")?;
    let mut builder = RingBufferBuilder::new();
    builder.add(&map, |_| 0).map_err(|e| e.to_string())?;
    builder.build().map_err(|e| e.to_string())
}

fn consume(ring: &mut RingBuffer<'static>) -> Result<()> {
    ring.consume().map_err(|e| format!("cannot read the C's buffer: {e}"))
}

/// Nanoseconds per run of the programs that a process holds.
fn measure(case: &Case, pid: u32) -> Result<f64> {
    let before = Counted::of(pid);
    work(case.work, case.calls)?;
    let counted = Counted::of(pid).since(before);
    if counted.runs < u64::from(case.calls) {
        return Err(format!("`{}` ran only {} times", case.script, counted.runs));
    }
    Ok(counted.nanoseconds as f64 / counted.runs as f64)
}

fn work(work: Work, calls: u32) -> Result<()> {
    let mut zero = File::open("/dev/zero").map_err(|e| format!("/dev/zero: {e}"))?;
    let mut buffer = [0; 4096];
    for i in 0..calls {
        match work {
            Work::Getppid => {
                std::hint::black_box(nix::unistd::getppid());
            }
            Work::Read => {
                // Sizes as if by chance, the same in every round.
                let size = (i.wrapping_mul(0x9e37_79b1) >> 16) as usize % buffer.len();
                zero.read(&mut buffer[..size]).map_err(|e| e.to_string())?;
            }
            Work::Open => {
                std::hint::black_box(File::open("/usr/share/nothing/is/here.txt").is_ok());
            }
        }
    }
    Ok(())
}

/// Keeps this thread on the last of its CPUs; the first often serve devices.
pub(crate) fn pin() -> Result<usize> {
    let wrong = |e: nix::Error| format!("cannot stay on one CPU: {e}");
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this).map_err(wrong)?;
    let last = (0..CpuSet::count()).rev().find(|&cpu| all.is_set(cpu).unwrap_or(false));
    let cpu = last.ok_or("there is no CPU to stay on")?;
    let mut one = CpuSet::new();
    one.set(cpu).map_err(wrong)?;
    sched_setaffinity(this, &one).map_err(wrong)?;
    Ok(cpu)
}
