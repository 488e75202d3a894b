//! What the benchmarks ask of the kernel, and set in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::Result;

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Makes the kernel count the runs and the time of every BPF program. Dropping
/// it, also because of a signal, restores what was there before.
pub(crate) struct Statistics;

/// What was there before.
static BEFORE: std::sync::OnceLock<String> = std::sync::OnceLock::new();

impl Statistics {
    pub(crate) fn enable() -> Result<Statistics> {
        let before = fs::read_to_string(STATISTICS).map_err(|e| format!("{STATISTICS}: {e}"))?;
        if BEFORE.set(before).is_ok() {
            let restored = ctrlc::set_handler(|| {
                restore();
                std::process::exit(130);
            });
            restored.map_err(|e| format!("cannot catch signals: {e}"))?;
        }
        fs::write(STATISTICS, "1").map_err(|e| format!("{STATISTICS}: {e}"))?;
        Ok(Statistics)
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.get()
        && let Err(e) = fs::write(STATISTICS, before.trim())
    {
        eprintln!("bench: cannot restore {STATISTICS} to {}: {e}", before.trim());
    }
}

/// Gives this process and its children the tracing file systems, which
/// bpftrace needs. Nobody else sees the mounts.
pub(crate) fn mount_tracing() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("run this as root: {e}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| format!("cannot leave the mounts of others alone: {e}"))?;
    for (kind, at, there) in [
        ("tracefs", "/sys/kernel/tracing", "events"),
        ("debugfs", "/sys/kernel/debug", "tracing/events"),
    ] {
        if !Path::new(at).join(there).exists() {
            let _ = mount(Some(kind), at, Some(kind), MsFlags::empty(), none);
        }
    }
    Ok(())
}

/// Puts this process and its children before what else runs on the machine.
pub(crate) fn take_priority() {
    let pid = std::process::id().to_string();
    let done = Command::new("renice").args(["-n", "-20", "-p", &pid]).output();
    if !done.is_ok_and(|d| d.status.success()) {
        println!("note: no priority before other work on this machine");
    }
}

/// The machine, without its name.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cpus = info.lines().filter(|l| l.starts_with("processor")).count();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("");
    format!("Linux {}, {cpus} CPUs ({model}), load {load}", release.trim())
}

/// What the kernel counted of the BPF programs that a process holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) nanoseconds: u64,
    pub(crate) runs: u64,
}

impl Counted {
    /// Of all programs that a process holds.
    pub(crate) fn of(pid: u32) -> Counted {
        let mut seen = Vec::new();
        let mut all = Counted::default();
        let directory = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| -> Option<u64> {
                let line = text.lines().find_map(|l| l.strip_prefix(name))?;
                line.trim_start_matches(':').trim().parse().ok()
            };
            let (Some(id), Some(nanoseconds), Some(runs)) =
                (field("prog_id"), field("run_time_ns"), field("run_cnt"))
            else {
                continue;
            };
            if !seen.contains(&id) {
                seen.push(id);
                all.nanoseconds += nanoseconds;
                all.runs += runs;
            }
        }
        all
    }

    /// What came to it since.
    pub(crate) fn since(self, before: Counted) -> Counted {
        Counted {
            nanoseconds: self.nanoseconds - before.nanoseconds,
            runs: self.runs - before.runs,
        }
    }
}
