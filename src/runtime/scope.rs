//! The processes that a run is about, for programs to look up.

use std::collections::{HashMap, HashSet};
use std::fs;

use libbpf_rs::{MapCore as _, MapFlags};

use super::Options;
use super::child::Child;
use super::error::Error;
use super::load::Loaded;
use crate::diag::Diagnostic;
use crate::plan;

/// The map of a scope, and who belongs to it from the start.
pub(super) struct Scope<'l> {
    map: Option<libbpf_rs::Map<'l>>,
    /// Says that everything is attached.
    ready: Option<libbpf_rs::Map<'l>>,
    processes: Vec<u32>,
    follow: bool,
}

impl<'l> Scope<'l> {
    /// What the programs ask for.
    pub(super) fn of(loaded: &'l Loaded, options: &Options, child: Option<&Child>) -> Scope<'l> {
        let child = child.filter(|_| options.follow).map(Child::pid);
        Scope {
            map: loaded.map(plan::SCOPE_MAP),
            ready: loaded.map(plan::READY_MAP),
            processes: options.processes.iter().copied().chain(child).collect(),
            follow: options.follow,
        }
    }

    /// Lets programs work that wait until everything is attached, or makes them stop before it is
    /// detached.
    ///
    /// # Errors
    /// The kernel does not take the word.
    pub(super) fn ready(&self, ready: bool) -> Result<(), Error> {
        let Some(map) = &self.ready else { return Ok(()) };
        let word = u64::from(ready).to_ne_bytes();
        map.update(&0u32.to_ne_bytes(), &word, MapFlags::ANY).map_err(|e| {
            Error::run(Diagnostic::global(format!("the programs cannot be told to work: {e}")))
        })
    }

    /// Adds the processes, and the descendants that they have by now.
    ///
    /// # Errors
    /// There are more than the map has room for.
    pub(super) fn fill(&self) -> Result<(), Error> {
        let Some(map) = &self.map else { return Ok(()) };
        let all = match self.follow {
            true => with_descendants(&self.processes),
            false => self.processes.clone(),
        };
        for pid in all {
            map.update(&pid.to_ne_bytes(), &1u32.to_ne_bytes(), MapFlags::ANY).map_err(|e| {
                let message = format!("process {pid} cannot be added to those traced: {e}");
                Error::run(Diagnostic::global(message))
            })?;
        }
        Ok(())
    }
}

/// Processes, their children, and so on.
fn with_descendants(processes: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found: Vec<u32> = processes.to_vec();
    let mut seen: HashSet<u32> = found.iter().copied().collect();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        next += 1;
        let more = children.get(pid).into_iter().flatten().filter(|p| seen.insert(**p));
        let more: Vec<u32> = more.copied().collect();
        found.extend(more);
    }
    found
}

/// The parent of a process: proc_pid_stat(5), the second field after the name.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
