//! Time from exec to attached, to the end of a script that does nothing, and
//! peak memory; and the same for an executable that `rtrace build` made.

use std::process::Command;

use crate::Result;
use crate::child::{Tracer, Tracing};
use crate::numbers::{Samples, table};

/// A script in the words of both tracers.
struct Script {
    name: &'static str,
    rtrace: &'static str,
    bpftrace: &'static str,
    /// Ends by itself.
    ends: bool,
}

const SCRIPTS: [Script; 2] = [
    Script {
        name: "begin { exit(); }",
        rtrace: "begin { exit(); }",
        bpftrace: "BEGIN { exit(); }",
        ends: true,
    },
    Script {
        name: "tracepoint:syscalls:sys_enter_read { @[comm] = count(); }",
        rtrace: "tracepoint:syscalls:sys_enter_read { @[comm] = count(); }",
        bpftrace: "tracepoint:syscalls:sys_enter_read { @[comm] = count(); }",
        ends: false,
    },
];

#[derive(Default)]
struct Measured {
    attached: Samples,
    ended: Samples,
    memory: Samples,
}

/// Measures both tracers in turn, prints the table.
pub(crate) fn run(rtrace: &Tracer, bpftrace: Option<&Tracer>, rounds: usize) -> Result<()> {
    println!("\nStart-up ({rounds} rounds; milliseconds since exec, min / median)\n");
    let mut rows = vec![row(["script", "", "attached", "ended", "peak memory"])];
    for script in &SCRIPTS {
        let tracers = [Some((rtrace, script.rtrace)), bpftrace.map(|b| (b, script.bpftrace))];
        let tracers: Vec<_> = tracers.into_iter().flatten().collect();
        let mut measured: Vec<Measured> = tracers.iter().map(|_| Measured::default()).collect();
        for round in 0..rounds {
            for ((tracer, text), into) in tracers.iter().zip(&mut measured) {
                measure(tracer, text, script.ends, round < 3, into)?;
            }
        }
        for ((tracer, _), m) in tracers.iter().zip(&measured) {
            let times = |s: &Samples| format!("{:.1} / {:.1}", s.min(), s.median());
            let memory = format!("{:.1} MiB", m.memory.median() / f64::from(1 << 20));
            let ended = if script.ends { times(&m.ended) } else { String::new() };
            rows.push(row([script.name, tracer.name, &times(&m.attached), &ended, &memory]));
        }
        if let [ours, theirs] = measured.as_slice() {
            let part = |get: fn(&Measured) -> &Samples| {
                let (ours, theirs) = (get(ours), get(theirs));
                let of = |n: f64| format!("1/{:.1}", 1.0 / n);
                let median = ours.over(theirs).median();
                format!("{} / {}", of(ours.min() / theirs.min()), of(median))
            };
            let memory = format!("{:.2}", ours.memory.median() / theirs.memory.median());
            let ended = if script.ends { part(|m| &m.ended) } else { String::new() };
            rows.push(row(["", "ratio", &part(|m| &m.attached), &ended, &memory]));
        }
    }
    table(&rows);
    alone(rtrace, rounds)
}

/// The script that is made an executable.
const ALONE: &str = "scripts/opensnoop.bt";

/// Measures an executable that runs without rtrace, next to the script run by rtrace.
fn alone(rtrace: &Tracer, rounds: usize) -> Result<()> {
    println!("\nStand-alone executable of {ALONE} (milliseconds since exec, min / median)\n");
    let file = std::env::temp_dir().join(format!("rtrace-bench-opensnoop-{}", std::process::id()));
    let built = Command::new(&rtrace.path).args(["build", ALONE, "-o"]).arg(&file).status();
    if !built.map_err(|e| format!("cannot start {}: {e}", rtrace.path.display()))?.success() {
        return Err(format!("`rtrace build {ALONE}` failed; `make build` makes the run side"));
    }
    let script = || {
        let mut command = Command::new(&rtrace.path);
        command.arg(ALONE);
        command
    };
    let mut rows = vec![row(["", "", "attached", "", "size"])];
    let commands: [(&str, &std::path::Path, &dyn Fn() -> Command); 2] =
        [("rtrace", &rtrace.path, &script), ("executable", &file, &|| Command::new(&file))];
    let mut times = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        for ((.., command), times) in commands.iter().zip(&mut times) {
            let mut tracing = Tracing::of(command())?;
            times.add(milliseconds(tracing.wait_attached()?));
            tracing.interrupt()?;
        }
    }
    for ((name, path, _), times) in commands.iter().zip(&times) {
        let size = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len();
        let attached = format!("{:.1} / {:.1}", times.min(), times.median());
        let size = format!("{:.2} MB", size as f64 / 1e6);
        rows.push(row([name, "", &attached, "", &size]));
    }
    std::fs::remove_file(&file).ok();
    table(&rows);
    Ok(())
}

fn row(cells: [&str; 5]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn measure(
    tracer: &Tracer,
    script: &str,
    ends: bool,
    with_memory: bool,
    into: &mut Measured,
) -> Result<()> {
    let mut tracing = tracer.start(script)?;
    into.attached.add(milliseconds(tracing.wait_attached()?));
    into.ended.add(milliseconds(if ends { tracing.wait()? } else { tracing.interrupt()? }));
    // Being traced costs time, so this is a run of its own.
    if with_memory {
        into.memory.add(tracer.start(script)?.peak_memory(ends)? as f64);
    }
    Ok(())
}

pub(crate) fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
