//! Compiling long scripts: the time must grow as they do, and no faster.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Result;
use crate::child::Tracer;
use crate::numbers::{Samples, table};
use crate::startup::milliseconds;

/// Numbers of probes; each has five lines.
const PROBES: [usize; 4] = [50, 100, 200, 400];

/// Measures, prints the table.
pub(crate) fn run(rtrace: &Tracer, rounds: usize) -> Result<()> {
    println!("\nCompiling ({rounds} rounds; text to object, milliseconds, min / median)\n");
    let titles = ["probes", "lines", "time", "per probe"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    let file = std::env::temp_dir().join(format!("rtrace-bench-{}.bt", std::process::id()));
    for probes in PROBES {
        let script = script(probes);
        std::fs::write(&file, &script).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut times = Samples::default();
        for _ in 0..rounds {
            times.add(compile(rtrace, &file)?);
        }
        rows.push(vec![
            probes.to_string(),
            script.lines().count().to_string(),
            format!("{:.0} / {:.0}", times.min(), times.median()),
            format!("{:.2}", times.min() / probes as f64),
        ]);
    }
    std::fs::remove_file(&file).ok();
    table(&rows);
    Ok(())
}

fn compile(rtrace: &Tracer, file: &std::path::Path) -> Result<f64> {
    let started = Instant::now();
    let status = Command::new(&rtrace.path)
        // What a script that is run at once compiles to.
        .args(["--emit", "obj", "-o", "/dev/null"])
        .arg(file)
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("cannot start {}: {e}", rtrace.path.display()))?;
    match status.success() {
        true => Ok(milliseconds(started.elapsed())),
        false => Err(format!("`rtrace --emit obj` failed: {status}")),
    }
}

/// Probes as people write them: a predicate, a string, two maps, a branch.
fn script(probes: usize) -> String {
    let mut script = String::new();
    for i in 0..probes {
        write!(
            script,
            "tracepoint:syscalls:sys_enter_openat /pid == {i} && args.flags != {i}/ {{\n  \
             @count[comm, {i}] = count();\n  \
             if (strncmp(str(args.filename), \"/etc\", 4) == 0) {{ @etc[pid] = nsecs - {i}; }}\n  \
             printf(\"%s opens %s as {i}\\n\", comm, str(args.filename));\n}}\n"
        )
        .ok();
    }
    script
}
