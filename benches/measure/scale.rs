//! Many probes: time until attached, time from the wish to end to the end of the process, and
//! what that takes. Functions of the kernel, where it has `kprobe.multi`, next to the bare link.

use std::fs;
use std::process::Command;
use std::time::Instant;

use libbpf_rs::Object;

use crate::child::Tracer;
use crate::numbers::{Samples, table};
use crate::startup::milliseconds;
use crate::{Result, clang};

const SCRIPT: &str = "tracepoint:syscalls:sys_enter_* { @[probe] = count(); }";

/// The reference gets fewer of them: it takes 80 ms for each to detach.
const FEW: &str = "tracepoint:syscalls:sys_enter_re* { @[probe] = count(); }";

/// Kernel functions, by the pattern that the kernel's own link gets, too.
const FUNCTIONS: [(&str, &str); 3] = [
    ("kprobe:tcp_*", "kprobe:tcp_* { @[func] = count(); }"),
    ("fentry:vfs_*", "fentry:vfs_* { @[func] = count(); }"),
    ("kprobe:*", "kprobe:* { @[func] = count(); }"),
];

/// Functions of the C library in the list.
const LIST: usize = 500;

/// Measures, prints the tables.
pub(crate) fn run(rtrace: &Tracer, bpftrace: Option<&Tracer>, rounds: usize) -> Result<()> {
    println!("\nMany probes ({rounds} rounds; milliseconds, min / median)\n");
    let head = ["probes", "", "exec to attached", "Ctrl-C to end", "peak memory", "files"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut add = |tracer: &Tracer, script: &str, name: &str, rounds: usize| -> Result<()> {
        let times = measure(tracer, script, rounds)?;
        let shown = |s: &Samples| format!("{:.1} / {:.1}", s.min(), s.median());
        rows.push(vec![
            name.to_owned(),
            tracer.name.to_owned(),
            shown(&times.attached),
            shown(&times.ended),
            times.memory,
            times.files.to_string(),
        ]);
        Ok(())
    };
    add(rtrace, SCRIPT, "tracepoint:syscalls:sys_enter_*", rounds)?;
    add(rtrace, FEW, "tracepoint:syscalls:sys_enter_re*", rounds)?;
    if let Some(bpftrace) = bpftrace {
        add(bpftrace, FEW, "tracepoint:syscalls:sys_enter_re*", 1)?;
    }
    let everything = format!(
        "tracepoint:syscalls:*, tracepoint:sched:* {{ @t[probe] = count(); }} {} {{ @u[probe] = count(); }}",
        functions(rtrace, "uprobe:libc:*")?.join(",")
    );
    add(rtrace, &everything, "all of syscalls and sched, 500 of libc by name", rounds)?;
    table(&rows);
    match fs::exists("/sys/kernel/tracing/kprobe_events") {
        Ok(true) => kernel_functions(rtrace, rounds.min(3)),
        _ => {
            println!("note: this kernel has no kprobes; kernel functions are left out");
            Ok(())
        }
    }
}

#[derive(Default)]
struct Times {
    attached: Samples,
    ended: Samples,
    memory: String,
    /// Descriptors.
    files: usize,
}

fn measure(tracer: &Tracer, script: &str, rounds: usize) -> Result<Times> {
    let mut times = Times::default();
    for _ in 0..rounds {
        let mut tracing = tracer.start(script)?;
        times.attached.add(milliseconds(tracing.wait_attached()?));
        let process = format!("/proc/{}", tracing.pid());
        times.files = fs::read_dir(format!("{process}/fd")).map_or(0, Iterator::count);
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
        peak.trim().clone_into(&mut times.memory);
        let asked = tracing.elapsed();
        times.ended.add(milliseconds(tracing.interrupt()? - asked));
    }
    Ok(times)
}

/// What rtrace lists for a pattern.
fn functions(rtrace: &Tracer, pattern: &str) -> Result<Vec<String>> {
    let done = Command::new(&rtrace.path).args(["-l", pattern]).output();
    let done = done.map_err(|e| format!("cannot start rtrace: {e}"))?;
    let text = String::from_utf8_lossy(&done.stdout);
    let user = pattern.starts_with("uprobe");
    let most = if user { LIST } else { usize::MAX };
    let names = text.lines().filter(|l| !user || l.matches(':').count() == 2);
    Ok(names.take(most).map(str::to_owned).collect())
}

fn kernel_functions(rtrace: &Tracer, rounds: usize) -> Result<()> {
    let mut object = clang::load()?;
    println!("\nKernel functions ({rounds} rounds; milliseconds, min)\n");
    println!("The bare link: of a program that does nothing, and of one that counts by function\n");
    let head = [
        "probes",
        "functions",
        "link",
        "close",
        "counting",
        "close",
        "exec to attached",
        "Ctrl-C to end",
        "beyond",
        "counting",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (pattern, script) in FUNCTIONS {
        let names = functions(rtrace, pattern)?;
        let names: Vec<&str> = names.iter().filter_map(|n| n.rsplit(':').next()).collect();
        let mut times = Vec::new();
        for program in ["functions", "functions_counted"] {
            let (mut linked, mut closed) = (Samples::default(), Samples::default());
            for _ in 0..rounds {
                let (link, close) = bare_link(&mut object, program, &names)?;
                linked.add(link);
                closed.add(close);
            }
            times.extend([linked.min(), closed.min()]);
        }
        let ours = measure(rtrace, script, rounds)?;
        let whole = ours.attached.min() + ours.ended.min();
        let beyond: Vec<f64> =
            times.chunks(2).map(|bare| whole - bare.iter().sum::<f64>()).collect();
        times.extend([ours.attached.min(), ours.ended.min()]);
        times.extend(beyond);
        let mut row = vec![pattern.to_owned(), names.len().to_string()];
        row.extend(times.iter().map(|t| format!("{t:.0}")));
        rows.push(row);
    }
    table(&rows);
    Ok(())
}

/// Milliseconds that the kernel takes to link a program to functions, and to take it off.
fn bare_link(object: &mut Object, name: &str, names: &[&str]) -> Result<(f64, f64)> {
    let mut programs = object.progs_mut();
    let program = programs.find(|p| p.name() == name).ok_or("the C lacks a program")?;
    let start = Instant::now();
    let link = program.attach_kprobe_multi(false, names.to_vec());
    let link = link.map_err(|e| format!("cannot attach to {} functions: {e}", names.len()))?;
    let linked = start.elapsed();
    let start = Instant::now();
    drop(link);
    Ok((milliseconds(linked), milliseconds(start.elapsed())))
}
