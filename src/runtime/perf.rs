//! Perf events: what kprobes, uprobes, tracepoints, timers and counters have
//! in common when they are attached one by one.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::sys::{self, Inherit, PerfEvent, Scope};
use crate::plan::{Cpus, Sample};

/// A program on a perf event.
#[derive(Debug)]
pub(super) struct PerfLink {
    /// Closing it takes the program off. Kernels before 5.15 have no such
    /// link; there the program stays until the event is closed.
    pub link: Option<OwnedFd>,
    pub event: OwnedFd,
}

/// Where the kernel lists its dynamic PMUs.
const PMUS: &str = "/sys/bus/event_source/devices";

/// Attaches a kprobe; `function` may be `MODULE:FUNCTION`, and without it
/// `offset` is an address.
///
/// # Errors
/// `Unsupported`: the kernel has no kprobes. Else what the kernel says.
pub(super) fn kprobe(
    program: BorrowedFd<'_>,
    function: Option<&CStr>,
    offset: u64,
    ret: bool,
    cookie: u64,
) -> io::Result<PerfLink> {
    let event = PerfEvent {
        kind: pmu_type("kprobe")?,
        config: retprobe_bit("kprobe", ret)?,
        name: function,
        offset,
        ..PerfEvent::default()
    };
    link(program, &event, Scope::Cpu(first_cpu()?), cookie)
}

/// Attaches a uprobe at an offset of a file, in one process or everywhere.
pub(super) fn uprobe(
    program: BorrowedFd<'_>,
    path: &CStr,
    offset: u64,
    ret: bool,
    pid: Option<u32>,
    cookie: u64,
) -> io::Result<PerfLink> {
    let event = PerfEvent {
        kind: pmu_type("uprobe")?,
        config: retprobe_bit("uprobe", ret)?,
        name: Some(path),
        offset,
        ..PerfEvent::default()
    };
    let scope = match pid {
        Some(pid) => Scope::Thread(pid),
        None => Scope::Cpu(first_cpu()?),
    };
    link(program, &event, scope, cookie)
}

/// Attaches to a tracepoint by the number that tracefs gives for it.
pub(super) fn tracepoint(program: BorrowedFd<'_>, id: u64, cookie: u64) -> io::Result<PerfLink> {
    let kind = libbpf_sys::PERF_TYPE_TRACEPOINT;
    let event = PerfEvent { kind, config: id, ..PerfEvent::default() };
    link(program, &event, Scope::Cpu(first_cpu()?), cookie)
}

/// Attaches to a timer or counter: on the first or on every CPU, or on every
/// thread of a process (and the threads that these create).
pub(super) fn counter(
    program: BorrowedFd<'_>,
    kind: u32,
    config: u64,
    sample: Sample,
    cpus: Cpus,
    pid: Option<u32>,
    cookie: u64,
) -> io::Result<Vec<PerfLink>> {
    let event = PerfEvent { kind, config, sample: Some(sample), ..PerfEvent::default() };
    match (cpus, pid) {
        (Cpus::First, _) => Ok(vec![link(program, &event, Scope::Cpu(first_cpu()?), cookie)?]),
        (Cpus::All, Some(pid)) => on_process(program, event, pid, cookie),
        (Cpus::All, None) => {
            let on = |cpu| link(program, &event, Scope::Cpu(cpu), cookie);
            // A CPU may go offline at any time.
            available(online_cpus()?.into_iter().map(on), libc::ENODEV)
        }
    }
}

fn on_process(
    program: BorrowedFd<'_>,
    mut event: PerfEvent<'_>,
    pid: u32,
    cookie: u64,
) -> io::Result<Vec<PerfLink>> {
    event.inherit = Inherit::Threads;
    let threads = threads_of(pid)?;
    let on = |event: &PerfEvent<'_>| {
        let links = threads.iter().map(|&tid| link(program, event, Scope::Thread(tid), cookie));
        // A thread may end at any time.
        available(links, libc::ESRCH)
    };
    match on(&event) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            event.inherit = Inherit::All;
            on(&event)
        }
        result => result,
    }
}

/// The links that could be made, if at least one could; `gone` is the error
/// of those that may fail.
fn available(
    links: impl Iterator<Item = io::Result<PerfLink>>,
    gone: i32,
) -> io::Result<Vec<PerfLink>> {
    let mut made = Vec::new();
    let mut last = io::Error::from_raw_os_error(gone);
    for link in links {
        match link {
            Ok(link) => made.push(link),
            Err(e) if e.raw_os_error() == Some(gone) => last = e,
            Err(e) => return Err(e),
        }
    }
    if made.is_empty() { Err(last) } else { Ok(made) }
}

fn link(
    program: BorrowedFd<'_>,
    event: &PerfEvent<'_>,
    scope: Scope,
    cookie: u64,
) -> io::Result<PerfLink> {
    let event = sys::perf_event_open(event, scope)?;
    match sys::perf_link(program, event.as_fd(), cookie) {
        Ok(link) => Ok(PerfLink { link: Some(link), event }),
        // The kernel does not know such links.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) && cookie == 0 => {
            sys::perf_set_program(event.as_fd(), program)?;
            Ok(PerfLink { link: None, event })
        }
        Err(e) => Err(e),
    }
}

/// The number of a dynamic PMU.
fn pmu_type(pmu: &str) -> io::Result<u32> {
    match fs::read_to_string(Path::new(PMUS).join(pmu).join("type")) {
        Ok(text) => number(text.trim()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::Unsupported.into()),
        Err(e) => Err(e),
    }
}

/// The bit in `config` that asks for the return of a function; its file says
/// `config:0`.
fn retprobe_bit(pmu: &str, ret: bool) -> io::Result<u64> {
    if !ret {
        return Ok(0);
    }
    let text = fs::read_to_string(Path::new(PMUS).join(pmu).join("format/retprobe"))?;
    let bit: u32 = number(text.trim().strip_prefix("config:").unwrap_or_default())?;
    1u64.checked_shl(bit).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn first_cpu() -> io::Result<u32> {
    online_cpus()?.first().copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Numbers of the CPUs that are online, ascending.
pub(super) fn online_cpus() -> io::Result<Vec<u32>> {
    parse_cpu_list(fs::read_to_string("/sys/devices/system/cpu/online")?.trim())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `0-3,6`
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(cpus)
}

/// Ids of the threads of a process.
fn threads_of(pid: u32) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// A C string, or an error for text with a NUL inside.
pub(super) fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_have_ranges_and_single_cpus() {
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_cpu_list(""), None);
    }
}
