//! The run side, tested with BPF objects that clang makes from the C files
//! here, so that no other stage takes part: loading, attaching, events, and
//! every way for a run to fail or end. Needs root and clang.
//!
//! This binary has three faces. Without variables in its environment it is
//! the test. With `OBJECT` set it runs that object as rtrace would, so that
//! each run has a process of its own. As `-c` child (`WORK` as its first
//! argument) it does a known number of things.
//!
//! `RTRACE_VM_KERNELS` names other kernels to run on: what programs are rejected for reads
//! differently there.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod cases;
mod compile;
#[path = "../harness/elsewhere.rs"]
mod elsewhere;
mod plans;
mod rejections;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rtrace::diag::Diagnostics;
use rtrace::host::Host;
use rtrace::object::Object;
use rtrace::runtime::output::{Options as OutputOptions, Output};
use rtrace::runtime::{self, Options};

/// Name of the variable that holds the path of the object to run.
pub const OBJECT: &str = "RTRACE_TEST_OBJECT";

/// First argument of the child.
pub const WORK: &str = "--work";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(WORK) {
        work(&args.collect::<Vec<_>>());
        return ExitCode::SUCCESS;
    }
    match std::env::var(OBJECT) {
        Ok(path) => run_object(Path::new(&path)),
        Err(_) => elsewhere::run().unwrap_or_else(cases::run),
    }
}

/// Does `ROUNDS` rounds: one `getppid`, one `socket` and one call of each target.
fn work(args: &[String]) {
    let rounds: u64 = args[0].parse().unwrap();
    for i in 0..rounds {
        // SAFETY: take and give integers.
        unsafe {
            libc::syscall(libc::SYS_getppid);
            libc::socket(-1, 0, 0);
        }
        std::hint::black_box(rt_first(i) + rt_second(i));
    }
    // So long on a CPU, whatever else that CPU does.
    let milliseconds: u64 = args.get(1).map_or(0, |arg| arg.parse().unwrap());
    while cpu_time() < Duration::from_millis(milliseconds) {
        std::hint::black_box(rt_first as fn(u64) -> u64);
    }
}

fn cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().into()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn rt_first(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

#[unsafe(no_mangle)]
#[inline(never)]
fn rt_second(n: u64) -> u64 {
    std::hint::black_box(n) + 2
}

/// Offsets in this binary of the functions that the child calls.
pub fn target_offset(name: &str) -> u64 {
    use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let address = file.symbols().find(|s| s.name() == Ok(name)).unwrap().address();
    let holds =
        |s: &object::Segment<'_, '_>| (s.address()..s.address() + s.size()).contains(&address);
    let segment = file.segments().find(holds).unwrap();
    address - segment.address() + segment.file_range().0
}

/// What `rtrace` does with a stored object; options as plain words.
fn run_object(path: &Path) -> ExitCode {
    mount_tracefs();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = words.iter().position(|w| w == name)?;
        words.get(at + 1).cloned()
    };
    let has = |name: &str| words.iter().any(|w| w == name);
    let options = Options {
        pid: value("-p").map(|p| p.parse().unwrap()),
        command: value("-c"),
        quiet: has("-q"),
        show_verifier: has("-d"),
        dry_run: has("--dry-run"),
        on_stdout: true,
        ..Options::default()
    };
    let object = match Object::from_bytes(std::fs::read(path).unwrap()) {
        Ok(object) => object,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let plan = object.plan.clone();
    let mut output = Output::new(
        &plan,
        Box::new(io::stdout()),
        Box::new(io::stderr()),
        OutputOptions::default(),
    );
    let host = Host::at(Path::new("/"));
    match runtime::run(object, &options, &host, &mut output) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let list: &Diagnostics = &error.diagnostics;
            eprint!("{}", list.render(&plan.sources, rtrace::diag::Form::Text));
            if has("-v") {
                eprint!("{}", error.log.unwrap_or_default());
            }
            ExitCode::from(error.status)
        }
    }
}

/// Mounts the tracing file system where only this process sees it.
fn mount_tracefs() {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return;
    }
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: the strings are constants, the other pointers are null.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS);
        libc::mount(none, c"/".as_ptr(), none, flags, none.cast());
        let kind = c"tracefs".as_ptr();
        libc::mount(kind, c"/sys/kernel/tracing".as_ptr(), kind, 0, none.cast());
    }
}
