//! What stands for the running kernel in a build without the feature `bpf`:
//! scripts are checked and compiled, and nothing is loaded.

use std::path::Path;

use super::{Failed, Outcome, fail};
use crate::cli;
use crate::host::Host;
use crate::sema::ObjectFile;

/// How to run an object, if we could.
#[derive(Debug, Clone, Default)]
#[allow(dead_code, reason = "there is no run side to read it")]
pub(super) struct Setup {
    pub pid: Option<u32>,
    pub processes: Vec<u32>,
    pub dwarf_pids: Vec<u32>,
    pub follow: bool,
    pub cgroup: Option<crate::host::cgroup::Cgroup>,
    pub command: Option<String>,
    pub quiet: bool,
    pub verbose: bool,
    pub show_libbpf: bool,
    pub show_verifier: bool,
    pub dry_run: bool,
    pub pin: Option<String>,
    pub named: Vec<(String, Option<String>)>,
    pub mode: crate::plan::Mode,
    pub on_stdout: bool,
    pub strict: bool,
    pub stats: bool,
    pub max_overhead: Option<f64>,
}

/// Nothing is run, so nothing is needed.
pub(super) fn check_privileges() -> Result<(), Failed> {
    Ok(())
}

/// Says why nothing runs.
pub(super) fn execute(_: Vec<u8>, _: &Setup, _: &Host, _: &cli::Style) -> Outcome {
    let failed: Failed = fail("this rtrace was built without its run side; it only compiles");
    Err(failed)
}

/// Nothing is pinned by a build that runs nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    Attach,
    Maps,
    Detach,
}

pub(super) fn look(_: &str, _: Look, _: &cli::Style) -> Outcome {
    Err(fail("this rtrace was built without its run side; it only compiles"))
}

pub(super) fn pins() -> Outcome {
    Err(fail("this rtrace was built without its run side; it only compiles"))
}

/// What shows benchmarks belongs to the run side.
pub(super) fn benchmarks(
    _: crate::object::Object,
    _: &cli::Style,
    _: &[(&str, u64)],
    _: u64,
) -> Outcome {
    Err(fail("this rtrace was built without its run side; it only compiles"))
}

/// There is nothing to look at programs with.
pub(super) fn watch(_: &cli::Stats) -> Outcome {
    Err(fail("this rtrace was built without its run side; it only compiles"))
}

/// Parts would have to be linked.
pub(super) const THREADS: usize = 1;

/// One thread makes no parts.
pub(super) fn join(elf: Vec<u8>, _: &[Vec<u8>]) -> Result<Vec<u8>, Failed> {
    Ok(elf)
}

/// Without objects there is nothing to link.
pub(super) fn link(elf: Vec<u8>, objects: &[ObjectFile]) -> Result<Vec<u8>, Failed> {
    if objects.is_empty() {
        return Ok(elf);
    }
    Err(fail("this rtrace was built without libbpf, which links imported objects"))
}

/// The machine that we run on, by what its types say.
pub(super) fn seen() -> Host {
    Host::at(Path::new("/")).with_features_of_types()
}

/// The machine that we run on; what its BPF can do is not asked.
pub(super) fn live(root: &Path) -> Host {
    Host::at(root)
}
