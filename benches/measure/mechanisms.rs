//! Nanoseconds per event by the kind of probe, with the same body everywhere: the sum of one
//! argument. Next to C that does the same at the same place ([`crate::clang`]).
//!
//! Two figures for each: what the kernel accounts to the program, and what the traced call takes
//! longer, way into the program included. Kinds that the kernel lacks are left out, and said.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use libbpf_rs::{Link, Object, ObjectBuilder, ProgramMut};

use crate::child::Tracer;
use crate::events::pin;
use crate::kernel::{Counted, Statistics};
use crate::numbers::{Samples, table};
use crate::{Result, clang};

/// What is traced.
#[derive(Clone, Copy)]
enum Work {
    /// read(2) of /dev/zero, of sizes from 0 to 4095 bytes.
    Read,
    /// A function of this program.
    Function,
    /// A marker of this program.
    Marker,
}

/// A kind of probe: a script, and a program of `mechanisms.bpf.c`.
struct Case {
    name: &'static str,
    /// `BENCH` stands for the path of this program.
    script: &'static str,
    flags: &'static [&'static str],
    program: &'static str,
    work: Work,
}

const CASES: [Case; 10] = [
    Case {
        name: "kprobe",
        script: "kprobe:vfs_read { @ = sum(arg2); }",
        flags: &["--no-feature", "fentry"],
        program: "by_kprobe",
        work: Work::Read,
    },
    Case {
        name: "kprobe, by a trampoline",
        script: "kprobe:vfs_read { @ = sum(arg2); }",
        flags: &[],
        program: "by_fentry",
        work: Work::Read,
    },
    Case {
        name: "fentry",
        script: "fentry:vfs_read { @ = sum(args.count); }",
        flags: &[],
        program: "by_fentry",
        work: Work::Read,
    },
    Case {
        name: "fexit",
        script: "fexit:vfs_read { @ = sum((uint64)retval); }",
        flags: &[],
        program: "by_fexit",
        work: Work::Read,
    },
    Case {
        name: "kretprobe, by a trampoline",
        script: "kretprobe:vfs_read { @ = sum(retval); }",
        flags: &[],
        program: "by_fexit",
        work: Work::Read,
    },
    Case {
        name: "tracepoint",
        script: "tracepoint:syscalls:sys_enter_read { @ = sum(args.count); }",
        flags: &["--no-feature", "raw_syscalls"],
        program: "by_tracepoint",
        work: Work::Read,
    },
    Case {
        name: "tracepoint of a system call",
        script: "tracepoint:syscalls:sys_enter_read { @ = sum(args.count); }",
        flags: &[],
        program: "by_tracepoint",
        work: Work::Read,
    },
    Case {
        name: "tp_btf",
        script: "rawtracepoint:sys_enter { @ = sum((uint64)args.id); }",
        flags: &[],
        program: "by_tp_btf",
        work: Work::Read,
    },
    Case {
        name: "uprobe",
        script: "uprobe:BENCH:rtrace_bench_function { @ = sum(arg0); }",
        flags: &[],
        program: "by_uprobe",
        work: Work::Function,
    },
    Case {
        name: "usdt",
        script: "usdt:BENCH:rtrace_bench:marker { @ = sum((uint64)arg0); }",
        flags: &[],
        program: "by_usdt",
        work: Work::Marker,
    },
];

const CALLS: u32 = 100_000;

unsafe extern "C" {
    fn rtrace_bench_marker(n: u64) -> u64;
}

/// What uprobes are on.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn rtrace_bench_function(n: u64) -> u64 {
    std::hint::black_box(n).wrapping_add(1)
}

// A marker in a function of its own, as `sys/sdt.h` would write it.
macro_rules! marker {
    ($argument:literal) => {
        std::arch::global_asm!(
            ".globl rtrace_bench_marker",
            ".type rtrace_bench_marker, %function",
            "rtrace_bench_marker:",
            "7801: nop",
            "ret",
            ".size rtrace_bench_marker, . - rtrace_bench_marker",
            ".pushsection .note.stapsdt, \"\", %note",
            ".balign 4",
            ".4byte 8, 7803f - 7802f, 3",
            ".asciz \"stapsdt\"",
            "7802: .8byte 7801b, 0, 0",
            ".asciz \"rtrace_bench\"",
            ".asciz \"marker\"",
            concat!(".asciz \"", $argument, "\""),
            "7803: .balign 4",
            ".popsection",
        );
    };
}

#[cfg(target_arch = "x86_64")]
marker!("8@%rdi");
#[cfg(target_arch = "aarch64")]
marker!("8@x0");

/// What a round gave, in nanoseconds for each call.
struct Round {
    program: f64,
    call: f64,
}

#[derive(Default)]
struct Rounds {
    program: Samples,
    call: Samples,
}

impl Rounds {
    fn add(&mut self, round: &Round) {
        self.program.add(round.program);
        self.call.add(round.call);
    }
}

/// Measures all cases, prints the table.
pub(crate) fn run(rtrace: &Tracer, rounds: usize) -> Result<()> {
    let cpu = pin()?;
    let _statistics = Statistics::enable()?;
    let own = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    println!(
        "\nPer event, by the kind of probe ({rounds} rounds on CPU {cpu}; nanoseconds, min)\n"
    );
    let head = ["probe", "program", "C", "ratio", "whole call", "C", "ratio"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut lacking = Vec::new();
    for case in &CASES {
        let script = case.script.replace("BENCH", &own.to_string_lossy());
        let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
        let mut why = None;
        for _ in 0..rounds {
            match run_c(case, &own) {
                Ok(round) => theirs.add(&round),
                Err(reason) => {
                    why = Some(reason);
                    break;
                }
            }
            ours.add(&run_rtrace(rtrace, &script, case)?);
        }
        if let Some(why) = why {
            lacking.push(format!("note: no {} on this kernel: {why}", case.name));
            continue;
        }
        let ratio = |a: &Samples, b: &Samples| format!("{:.3}", a.min() / b.min());
        rows.push(vec![
            case.name.to_owned(),
            format!("{:.1}", ours.program.min()),
            format!("{:.1}", theirs.program.min()),
            ratio(&ours.program, &theirs.program),
            format!("{:.1}", ours.call.min()),
            format!("{:.1}", theirs.call.min()),
            ratio(&ours.call, &theirs.call),
        ]);
    }
    table(&rows);
    for line in lacking {
        println!("{line}");
    }
    Ok(())
}

fn run_rtrace(rtrace: &Tracer, script: &str, case: &Case) -> Result<Round> {
    let mut tracing = rtrace.start_with(script, case.flags, &[])?;
    tracing.wait_attached()?;
    let round = measure(case, tracing.pid())?;
    tracing.interrupt()?;
    Ok(round)
}

fn run_c(case: &Case, own: &std::path::Path) -> Result<Round> {
    let object = load(case.program)?;
    let program = object.progs_mut().find(|p| p.name() == case.program);
    let link = attach(&program.ok_or("the C lacks it")?, case, own)?;
    let round = measure(case, std::process::id())?;
    drop(link);
    Ok(round)
}

/// Loads one program.
fn load(wanted: &str) -> Result<Object> {
    clang::with_compiled("mechanisms.bpf.c", |path| {
        let mut open = ObjectBuilder::default().open_file(path).map_err(|e| e.to_string())?;
        for mut program in open.progs_mut() {
            let load = program.name() == wanted;
            program.set_autoload(load);
        }
        open.load().map_err(|e| e.to_string())
    })
}

fn attach(program: &ProgramMut<'_>, case: &Case, own: &std::path::Path) -> Result<Link> {
    let link = match (case.program, case.work) {
        (_, Work::Function) => {
            program.attach_uprobe_multi(-1, own, "rtrace_bench_function", false, false)
        }
        (_, Work::Marker) => program.attach_usdt(-1, own, "rtrace_bench", "marker"),
        ("by_kprobe", Work::Read) => program.attach_kprobe(false, "vfs_read"),
        (_, Work::Read) => program.attach(),
    };
    link.map_err(|e| e.to_string())
}

/// Nanoseconds of the programs that a process holds, and of calls.
fn measure(case: &Case, pid: u32) -> Result<Round> {
    work(case.work, CALLS / 10)?;
    let before = Counted::of(pid);
    let started = Instant::now();
    work(case.work, CALLS)?;
    let elapsed = started.elapsed();
    let counted = Counted::of(pid).since(before);
    if counted.runs < u64::from(CALLS) {
        return Err(format!("`{}` ran only {} times", case.script, counted.runs));
    }
    Ok(Round {
        program: counted.nanoseconds as f64 / counted.runs as f64,
        call: elapsed.as_nanos() as f64 / f64::from(CALLS),
    })
}

fn work(work: Work, calls: u32) -> Result<()> {
    let mut zero = File::open("/dev/zero").map_err(|e| format!("/dev/zero: {e}"))?;
    let mut buffer = [0; 4096];
    for i in 0..calls {
        match work {
            Work::Read => {
                // Sizes as if by chance, the same in every round.
                let size = (i.wrapping_mul(0x9e37_79b1) >> 16) as usize % buffer.len();
                zero.read(&mut buffer[..size]).map_err(|e| e.to_string())?;
            }
            Work::Function => {
                std::hint::black_box(rtrace_bench_function(u64::from(i)));
            }
            Work::Marker => {
                // SAFETY: it takes a number and does nothing.
                std::hint::black_box(unsafe { rtrace_bench_marker(u64::from(i)) });
            }
        }
    }
    Ok(())
}
