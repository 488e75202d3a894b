//! Perf events: what kprobes, uprobes, tracepoints, timers and counters have
//! in common when they are attached one by one.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::sys::{self, Breakpoint, Inherit, PerfEvent, Scope};
use crate::plan::Sample;

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
    cpu: u32,
    cookie: u64,
) -> io::Result<PerfLink> {
    let event = PerfEvent {
        kind: pmu_type("kprobe")?,
        config: retprobe_bit("kprobe", ret)?,
        name: function,
        offset,
        ..PerfEvent::default()
    };
    link(program, &event, Scope::Cpu(cpu), cookie)
}

/// A place in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilePlace<'a> {
    pub path: &'a CStr,
    pub offset: u64,
    /// Where in the file the kernel counts who watches, or 0.
    pub counter: u64,
}

/// Attaches a uprobe to a place, in one process or everywhere.
pub(super) fn uprobe(
    program: BorrowedFd<'_>,
    place: FilePlace<'_>,
    ret: bool,
    scope: Scope,
    cookie: u64,
) -> io::Result<PerfLink> {
    let FilePlace { path, offset, counter } = place;
    let event = PerfEvent {
        kind: pmu_type("uprobe")?,
        config: retprobe_bit("uprobe", ret)? | counter_bits(counter)?,
        name: Some(path),
        offset,
        ..PerfEvent::default()
    };
    link(program, &event, scope, cookie)
}

/// Attaches to a tracepoint by the number that tracefs gives for it.
pub(super) fn tracepoint(
    program: BorrowedFd<'_>,
    id: u64,
    cpu: u32,
    cookie: u64,
) -> io::Result<PerfLink> {
    let kind = libbpf_sys::PERF_TYPE_TRACEPOINT;
    let event = PerfEvent { kind, config: id, ..PerfEvent::default() };
    link(program, &event, Scope::Cpu(cpu), cookie)
}

/// A timer, counter or breakpoint (linux/perf_event.h), and how often it fires.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter(PerfEvent<'static>);

/// Attaches to a counter on each of some CPUs.
pub(super) fn counter_on_cpus(
    program: BorrowedFd<'_>,
    counter: Counter,
    cpus: &[u32],
    cookie: u64,
) -> io::Result<Vec<PerfLink>> {
    let event = counter.0;
    let on = |&cpu| link(program, &event, Scope::Cpu(cpu), cookie);
    // A CPU may go offline at any time.
    available(cpus.iter().map(on), libc::ENODEV)
}

/// Attaches to a counter on every thread of a process and the threads that
/// these create.
pub(super) fn counter_on_process(
    program: BorrowedFd<'_>,
    counter: Counter,
    pid: u32,
    cookie: u64,
) -> io::Result<Vec<PerfLink>> {
    let threads = threads_of(pid)?;
    let on = |inherit| {
        let event = PerfEvent { inherit, ..counter.0 };
        let on = |&tid| link(program, &event, Scope::Thread(tid), cookie);
        // A thread may end at any time.
        available(threads.iter().map(on), libc::ESRCH)
    };
    match on(Inherit::Threads) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => on(Inherit::All),
        result => result,
    }
}

impl Counter {
    /// A timer or counter.
    pub(super) fn of(kind: u32, config: u64, sample: Sample) -> Counter {
        Counter(PerfEvent { kind, config, sample: Some(sample), ..PerfEvent::default() })
    }

    /// A breakpoint that fires every time; `kind` has bits of `HW_BREAKPOINT_*`.
    pub(super) fn breakpoint(address: u64, length: u8, kind: u32) -> Counter {
        Counter(PerfEvent {
            kind: libbpf_sys::PERF_TYPE_BREAKPOINT,
            sample: Some(Sample::Period(1)),
            breakpoint: Some(Breakpoint { address, length, kind }),
            ..PerfEvent::default()
        })
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

/// The bits in `config` that say where a counter is; their file says
/// `config:32-63`.
fn counter_bits(counter: u64) -> io::Result<u64> {
    if counter == 0 {
        return Ok(0);
    }
    let text = fs::read_to_string(Path::new(PMUS).join("uprobe/format/ref_ctr_offset"))?;
    let first = text.trim().strip_prefix("config:").and_then(|bits| bits.split('-').next());
    let first: u32 = number(first.unwrap_or_default())?;
    let shifted = counter.checked_shl(first).filter(|bits| bits >> first == counter);
    shifted.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::ErrorKind::InvalidData.into())
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
