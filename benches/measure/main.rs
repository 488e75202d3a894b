//! What rtrace costs, next to what others cost in the same run: `make bench`.
//!
//! - `startup`: time until everything is attached and peak memory, against the
//!   bpftrace that is installed (skipped if there is none)
//! - `events`: nanoseconds per event as the kernel counts them, against
//!   programs in C that do the same ([`events`])
//! - `mechanisms`: nanoseconds per event for each kind of probe with the same body, against C again;
//!   kprobes and trampolines where the kernel has them, as for `scale`
//! - `compile`: how the time to compile grows with the script
//! - `output`: events per second that are printed, and a map with a million
//!   keys, against bpftrace again; and a thousand user stacks
//! - `scale`: many probes: time until attached, time to end, memory and files; kernel functions
//!   next to the bare link that they need, where the kernel has them: in an emulated machine by
//!   `tests/vm/run --kernel 6.12 -- env RTRACE=BINARY target/debug/deps/measure-* scale`
//!
//! `cargo bench -- startup events` runs two of them; `--rounds N` is how often
//! everything is measured. Nothing is asserted: machines differ, and other
//! work on them shows in the medians. Ratios are what to look at. Needs root
//! and clang; measures `target/release/rtrace`, or what `RTRACE` names.

mod child;
mod clang;
mod compile;
mod events;
mod kernel;
mod mechanisms;
mod numbers;
mod output;
mod scale;
mod startup;

use std::path::PathBuf;
use std::process::ExitCode;

use child::Tracer;

/// Why a benchmark cannot run, as a sentence.
type Result<T> = std::result::Result<T, String>;

/// What to run.
struct Wanted {
    sections: Vec<String>,
    rounds: Option<usize>,
}

const SECTIONS: [&str; 6] = ["output", "startup", "compile", "events", "mechanisms", "scale"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let wanted = Wanted::parse()?;
    let rtrace = Tracer::rtrace(find_rtrace()?);
    kernel::mount_tracing()?;
    kernel::take_priority();
    let bpftrace = Tracer::bpftrace();
    println!("{}", kernel::describe());
    println!("rtrace is {}", rtrace.path.display());
    let runs =
        |section: &str| wanted.sections.is_empty() || wanted.sections.iter().any(|s| s == section);
    if runs("startup") {
        startup::run(&rtrace, bpftrace.as_ref(), wanted.rounds.unwrap_or(15))?;
    }
    if runs("compile") {
        compile::run(&rtrace, wanted.rounds.unwrap_or(5))?;
    }
    if runs("events") {
        events::run(&rtrace, wanted.rounds.unwrap_or(11))?;
    }
    if runs("mechanisms") {
        mechanisms::run(&rtrace, wanted.rounds.unwrap_or(11))?;
    }
    if runs("output") {
        output::run(&rtrace, bpftrace.as_ref(), wanted.rounds.unwrap_or(5))?;
    }
    if runs("scale") {
        scale::run(&rtrace, bpftrace.as_ref(), wanted.rounds.unwrap_or(5))?;
    }
    Ok(())
}

impl Wanted {
    fn parse() -> Result<Wanted> {
        let mut wanted = Wanted { sections: vec![], rounds: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--rounds" => {
                    let number = args.next().and_then(|n| n.parse().ok()).filter(|&n| n > 0);
                    wanted.rounds = Some(number.ok_or("`--rounds` needs a number")?);
                }
                name if SECTIONS.contains(&name) => wanted.sections.push(arg),
                _ => {
                    let sections = SECTIONS.join(", ");
                    return Err(format!("there is no `{arg}`; there are {sections}, --rounds"));
                }
            }
        }
        Ok(wanted)
    }
}

/// The binary to measure: a release build, which is not what cargo builds for
/// this program.
fn find_rtrace() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RTRACE") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    // target/PROFILE/deps/measure-HASH
    let target = own.ancestors().nth(3).ok_or("cannot find the target directory")?;
    let path = target.join("release/rtrace");
    match path.exists() {
        true => Ok(path),
        false => Err(format!("there is no {}; `make bench` builds it", path.display())),
    }
}
