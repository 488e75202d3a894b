//! What printing costs: events as fast as one thread causes them, delivered to
//! a pipe; and a map with a million keys, and one with a thousand user stacks, from the end of
//! the run to that of its output.

use std::time::Duration;

use crate::Result;
use crate::child::{Ended, Tracer};
use crate::numbers::{Samples, table};

/// Events of a burst.
const EVENTS: u32 = 1_000_000;

/// Keys of the large map.
const KEYS: u32 = 1_000_000;

const PRINT: &str = "tracepoint:syscalls:sys_enter_getppid /pid == PID/ { \
                     printf(\"event %d %s\\n\", pid, comm); }";

const MAP: &str = "tracepoint:syscalls:sys_enter_getppid /pid == PID/ { \
                   @[@n * 7919 % 1000003] = count(); @n++; }";

/// Different stacks: one for each way through so many functions.
const STACKS: u32 = 1000;
const DEPTH: u32 = 10;

const BY_STACK: &str = "tracepoint:syscalls:sys_enter_getppid /pid == PID/ { \
                        @[dw_ustack] = count(); }";

/// Measures all, for every tracer that is there.
pub(crate) fn run(rtrace: &Tracer, bpftrace: Option<&Tracer>, rounds: usize) -> Result<()> {
    let pid = std::process::id().to_string();
    println!("\nA million events, printed ({rounds} rounds, min / median)\n");
    let head = ["tracer", "events a second", "lost", "ns of CPU per event", "peak memory"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for tracer in [Some(rtrace), bpftrace].into_iter().flatten() {
        let mut m = Measured::default();
        for _ in 0..rounds {
            let mut tracing = tracer.start(&PRINT.replace("PID", &pid))?;
            tracing.wait_attached()?;
            let ended = tracing.count("event ", || calls(EVENTS))?;
            if ended.lines + ended.lost != u64::from(EVENTS) {
                println!(
                    "{}: {} printed and {} lost are not {EVENTS}",
                    tracer.name, ended.lines, ended.lost
                );
            }
            m.add(&ended);
        }
        rows.push(vec![
            tracer.name.to_owned(),
            format!("{:.0} / {:.0}", m.rate.max(), m.rate.median()),
            format!("{:.0} / {:.0}", m.lost.min(), m.lost.median()),
            format!("{:.0} / {:.0}", m.cpu.min(), m.cpu.median()),
            format!("{:.1} MiB", m.memory.median()),
        ]);
    }
    table(&rows);

    println!("\nA map of a million keys, printed ({rounds} rounds, min / median)\n");
    let head = ["tracer", "keys printed", "seconds", "peak memory"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for tracer in [Some(rtrace), bpftrace].into_iter().flatten() {
        let (mut seconds, mut memory, mut keys) = <(Samples, Samples, Samples)>::default();
        for _ in 0..rounds {
            let room = [("BPFTRACE_MAP_KEYS_MAX", KEYS.to_string())];
            let mut tracing = tracer.start_with(&MAP.replace("PID", &pid), &[], &room)?;
            tracing.wait_attached()?;
            let ended = tracing.count("@[", || calls(KEYS))?;
            seconds.add(ended.ending.as_secs_f64());
            memory.add(ended.memory as f64 / f64::from(1 << 20));
            keys.add(ended.lines as f64);
        }
        rows.push(vec![
            tracer.name.to_owned(),
            format!("{:.0}", keys.min()),
            format!("{:.2} / {:.2}", seconds.min(), seconds.median()),
            format!("{:.1} MiB", memory.median()),
        ]);
    }
    table(&rows);

    println!(
        "\nA map of {STACKS} user stacks, printed with names ({rounds} rounds, min / median)\n"
    );
    let mut rows =
        vec![["tracer", "stacks printed", "seconds", "peak memory"].map(str::to_owned).to_vec()];
    let (mut seconds, mut memory, mut keys) = <(Samples, Samples, Samples)>::default();
    for _ in 0..rounds {
        let mut tracing = rtrace.start(&BY_STACK.replace("PID", &pid))?;
        tracing.wait_attached()?;
        // Its first stack has no frames: then the tables are made.
        calls(1);
        std::thread::sleep(Duration::from_secs(1));
        let ended = tracing.count("@[", stacks)?;
        seconds.add(ended.ending.as_secs_f64());
        memory.add(ended.memory as f64 / f64::from(1 << 20));
        keys.add(ended.lines as f64);
    }
    rows.push(vec![
        rtrace.name.to_owned(),
        format!("{:.0}", keys.min()),
        format!("{:.3} / {:.3}", seconds.min(), seconds.median()),
        format!("{:.1} MiB", memory.median()),
    ]);
    table(&rows);
    Ok(())
}

/// A call from each of the stacks.
fn stacks() {
    for number in 0..STACKS {
        left(number, DEPTH);
    }
}

/// Goes on by a bit of the number. What follows the call keeps it from being a jump.
fn on(number: u32, depth: u32) -> u32 {
    match depth {
        0 => calls(1),
        _ if number >> (depth - 1) & 1 == 0 => return left(number, depth - 1) + 1,
        _ => return right(number, depth - 1) + 2,
    }
    0
}

#[inline(never)]
fn left(number: u32, depth: u32) -> u32 {
    std::hint::black_box(on(number, depth)) + 1
}

#[inline(never)]
fn right(number: u32, depth: u32) -> u32 {
    std::hint::black_box(on(number, depth)) ^ 2
}

#[derive(Default)]
struct Measured {
    rate: Samples,
    lost: Samples,
    cpu: Samples,
    memory: Samples,
}

impl Measured {
    fn add(&mut self, ended: &Ended) {
        self.rate.add(ended.lines as f64 / ended.work.as_secs_f64());
        self.lost.add(ended.lost as f64);
        self.cpu.add(ended.cpu.as_secs_f64() * 1e9 / f64::from(EVENTS));
        self.memory.add(ended.memory as f64 / f64::from(1 << 20));
    }
}

fn calls(count: u32) {
    for _ in 0..count {
        std::hint::black_box(nix::unistd::getppid());
    }
}
