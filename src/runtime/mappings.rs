//! Which files were mapped where, also in processes that are gone by now.
//!
//! A dummy perf event on every CPU makes the kernel write a record for every
//! executable mapping, `exec`, fork and exit (perf_event_open(2),
//! `PERF_RECORD_MMAP2` and kin), as `perf record` has it. That is cheap, needs
//! no look at processes while they run, and leaves nothing to symbolise late. Processes that
//! were there before are read from /proc, a few at a time, when there is nothing else to do.
//! Files that only processes in other mount namespaces can reach are opened while these live.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_sys as c;
use memmap2::{MmapOptions, MmapRaw};

use super::load::page_size;

/// Bytes of records that a CPU can keep until we look; a power of two of pages.
const RING: usize = 256 << 10;

/// Processes that have exited and are remembered.
const DEAD_KEPT: usize = 2048;

/// Processes that are remembered because they mapped code.
const CHANGED_KEPT: usize = 1024;

/// Mappings of a process that are remembered.
const MAPPINGS_KEPT: usize = 1024;

/// Types of records, `enum perf_event_type` of linux/perf_event.h.
const COMM: u32 = 3;
const EXIT: u32 = 4;
const FORK: u32 = 7;
const MMAP2: u32 = 10;

/// `PERF_RECORD_MISC_COMM_EXEC`.
const MISC_EXEC: u16 = 1 << 13;

/// Files of other mount namespaces that are kept open.
const FILES_KEPT: usize = 256;

/// Processes that are read at a time of those that were there before.
const READ_AT_ONCE: usize = 16;

/// An executable mapping of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Of `start` in the file.
    pub offset: u64,
    pub path: String,
    pub file: FileId,
}

/// What a file is to the kernel: major and minor number of its device, and its inode; zeroes if
/// that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileId {
    pub device: (u32, u32),
    pub inode: u64,
}

/// What is known of a process.
#[derive(Debug, Clone, Default)]
struct Process {
    mappings: Vec<Mapping>,
    /// Whether it is in another mount namespace; once somebody asked.
    elsewhere: Option<bool>,
}

/// What is known of the processes of this machine.
#[derive(Debug, Default)]
pub struct Mappings {
    rings: Vec<Ring>,
    processes: HashMap<u32, Process>,
    /// Processes that were there before, and are not read yet; nothing before the first look.
    before: Option<Vec<u32>>,
    /// Files that we cannot reach by their names, by their order.
    files: HashMap<FileId, OwnedFd>,
    opened: VecDeque<FileId>,
    /// Our mount namespace.
    here: Option<PathBuf>,
    /// Processes that have exited, oldest first.
    dead: VecDeque<u32>,
    /// Processes that mapped code since somebody asked.
    changed: HashSet<u32>,
}

#[derive(Debug)]
struct Ring {
    _event: OwnedFd,
    memory: MmapRaw,
}

/// Something that happened to a process, in the order of time.
#[derive(Debug, PartialEq, Eq)]
struct Happened {
    time: u64,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Mapped { pid: u32, mapping: Mapping },
    Executed { pid: u32 },
    Forked { pid: u32, parent: u32 },
    Exited { pid: u32 },
}

impl Mappings {
    /// Starts to record on these CPUs: for a process and those that it makes,
    /// or for all. Without the privilege or the memory for it, nothing is
    /// recorded.
    pub fn record(pid: Option<u32>, cpus: &[u32]) -> Mappings {
        let rings = cpus.iter().filter_map(|&cpu| Ring::open(pid, cpu).ok()).collect();
        let here = fs::read_link("/proc/self/ns/mnt").ok();
        let mut mappings = Mappings { rings, here, ..Mappings::default() };
        if let Some(pid) = pid {
            mappings.read(pid);
            mappings.before = Some(Vec::new());
        }
        mappings
    }

    /// The mapping at an address of a process, as last known.
    pub fn find(&mut self, pid: u32, address: u64) -> Option<&Mapping> {
        self.catch_up();
        let list = &self.processes.get(&pid)?.mappings;
        list.iter().rev().find(|m| (m.start..m.end).contains(&address))
    }

    /// A way to the file of a mapping: the one that we kept open, or by its name if that is still
    /// the same file.
    pub fn reach(&self, mapping: &Mapping) -> Option<PathBuf> {
        if let Some(file) = self.files.get(&mapping.file) {
            return Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into());
        }
        let path = PathBuf::from(&mapping.path);
        let data = fs::metadata(&path).ok()?;
        // Overlays of file systems put something of their own into the high bits.
        let low = |inode: u64| inode & 0xffff_ffff;
        let same = mapping.file.inode == 0 || low(data.ino()) == low(mapping.file.inode);
        same.then_some(path)
    }

    /// Reads some of the processes that were there before.
    pub fn look_around(&mut self) {
        let before = self.before.get_or_insert_with(|| {
            let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
            entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
        });
        let at = before.len().saturating_sub(READ_AT_ONCE);
        for pid in before.split_off(at) {
            if !self.processes.contains_key(&pid) {
                self.read(pid);
            }
        }
    }

    /// Keeps a file open that we cannot reach by its name.
    fn keep(&mut self, pid: u32, mapping: &Mapping) {
        let here = &self.here;
        let process = self.processes.entry(pid).or_default();
        let elsewhere = process.elsewhere.get_or_insert_with(|| {
            let there = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            there.is_some() && there != *here
        });
        if !*elsewhere || mapping.file.inode == 0 || self.files.contains_key(&mapping.file) {
            return;
        }
        let (Mapping { start, end, path, .. }, file) = (mapping, mapping.file);
        let places =
            [format!("/proc/{pid}/map_files/{start:x}-{end:x}"), format!("/proc/{pid}/root{path}")];
        let Some(opened) = places.iter().find_map(|place| fs::File::open(place).ok()) else {
            return;
        };
        if self.opened.len() >= FILES_KEPT
            && let Some(oldest) = self.opened.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.opened.push_back(file);
        self.files.insert(file, opened.into());
    }

    /// Processes that mapped code since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        self.catch_up();
        self.changed.drain().collect()
    }

    /// Takes what the kernel wrote since the last look.
    pub fn catch_up(&mut self) {
        let mut happened = Vec::new();
        for ring in &mut self.rings {
            ring.take(&mut happened);
        }
        // A process may have run on several CPUs.
        happened.sort_by_key(|h| h.time);
        for Happened { what, .. } in happened {
            self.note(what);
        }
    }

    fn note(&mut self, what: What) {
        match what {
            What::Mapped { pid, mapping } => {
                if self.changed.len() < CHANGED_KEPT {
                    self.changed.insert(pid);
                }
                self.keep(pid, &mapping);
                let list = &mut self.processes.entry(pid).or_default().mappings;
                if list.len() < MAPPINGS_KEPT {
                    list.push(mapping);
                }
            }
            What::Executed { pid } => {
                self.processes.remove(&pid);
            }
            What::Forked { pid, parent } => {
                if let Some(list) = self.processes.get(&parent).cloned() {
                    self.processes.insert(pid, list);
                }
            }
            What::Exited { pid } => {
                self.dead.push_back(pid);
                if self.dead.len() > DEAD_KEPT
                    && let Some(oldest) = self.dead.pop_front()
                {
                    self.processes.remove(&oldest);
                }
            }
        }
    }

    /// A process that had this mapped.
    #[cfg(test)]
    pub(super) fn of(pid: u32, list: Vec<Mapping>) -> Mappings {
        let process = Process { mappings: list, elsewhere: None };
        Mappings { processes: HashMap::from([(pid, process)]), ..Mappings::default() }
    }

    /// What a process has mapped already.
    pub(super) fn read(&mut self, pid: u32) {
        let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mut list = Mapping::of_lines(&text);
        list.truncate(MAPPINGS_KEPT);
        for mapping in &list {
            self.keep(pid, mapping);
        }
        if !list.is_empty() {
            self.processes.entry(pid).or_default().mappings = list;
        }
    }
}

impl Mapping {
    /// Of the text of /proc/PID/maps.
    pub(super) fn of_lines(text: &str) -> Vec<Mapping> {
        text.lines().filter_map(line).collect()
    }
}

/// A line of /proc/PID/maps (proc(5)), if it is an executable mapping of a file.
fn line(text: &str) -> Option<Mapping> {
    let mut words = text.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let executable = words.next()?.contains('x');
    let offset = words.next()?;
    let device = words.next()?.split_once(':')?;
    let inode = words.next()?.parse().ok()?;
    let path = words.next()?;
    let half = |text| u32::from_str_radix(text, 16).ok();
    let number = |text| u64::from_str_radix(text, 16).ok();
    let mapping = Mapping {
        start: number(start)?,
        end: number(end)?,
        offset: number(offset)?,
        path: path.to_owned(),
        file: FileId { device: (half(device.0)?, half(device.1)?), inode },
    };
    (executable && path.starts_with('/')).then_some(mapping)
}

impl Ring {
    fn open(pid: Option<u32>, cpu: u32) -> io::Result<Ring> {
        let mut attr = c::perf_event_attr {
            type_: c::PERF_TYPE_SOFTWARE,
            size: u32::try_from(size_of::<c::perf_event_attr>()).unwrap_or(0),
            config: u64::from(c::PERF_COUNT_SW_DUMMY),
            sample_type: u64::from(c::PERF_SAMPLE_TIME),
            ..c::perf_event_attr::default()
        };
        attr.set_mmap(1);
        attr.set_mmap2(1);
        attr.set_comm(1);
        attr.set_comm_exec(1);
        attr.set_task(1);
        attr.set_sample_id_all(1);
        attr.set_inherit(u64::from(pid.is_some()));
        let pid = pid.map_or(-1, |p| i32::try_from(p).unwrap_or(-1));
        let cpu = i32::try_from(cpu).unwrap_or(0);
        let flags = c::PERF_FLAG_FD_CLOEXEC;
        // SAFETY: the kernel reads `attr`, whose size is in it, and no more.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attr, pid, cpu, -1, flags)
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call succeeded, so the descriptor is open and ours.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        let memory = MmapOptions::new().len(page_bytes() + RING).map_raw(event.as_raw_fd())?;
        Ok(Ring { _event: event, memory })
    }

    /// Moves the records that are there to a list.
    fn take(&mut self, list: &mut Vec<Happened>) {
        let page = page_bytes();
        let head = std::mem::offset_of!(c::perf_event_mmap_page, data_head);
        let tail = std::mem::offset_of!(c::perf_event_mmap_page, data_tail);
        let base = self.memory.as_mut_ptr();
        // SAFETY: the first page is a `struct perf_event_mmap_page`, in which the
        // kernel writes the head and we write the tail; both are aligned words.
        let (head, tail) =
            unsafe { (&*base.add(head).cast::<AtomicU64>(), &*base.add(tail).cast::<AtomicU64>()) };
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        let mut record = Vec::new();
        while at < end {
            let copy = |at: u64, len: usize, record: &mut Vec<u8>| {
                record.clear();
                for i in 0..len as u64 {
                    let offset = usize::try_from((at + i) % RING as u64).unwrap_or(0);
                    // SAFETY: `offset` lies in the ring behind the first page, and the
                    // kernel does not write between tail and head.
                    record.push(unsafe { base.add(page + offset).read_volatile() });
                }
            };
            copy(at, 8, &mut record);
            let size = usize::from(half(&record, 6));
            if size < 8 {
                at = end;
                break;
            }
            copy(at, size, &mut record);
            list.extend(happened(&record));
            at += size as u64;
        }
        tail.store(at, Ordering::Release);
    }
}

/// Reads a record: a header (`u32` type, `u16` flags, `u16` size), its fields,
/// and its time at the end.
fn happened(record: &[u8]) -> Option<Happened> {
    let time = word(record, record.len().checked_sub(8)?);
    let pid = int(record, 8);
    let what = match int(record, 0) {
        MMAP2 => {
            let name = record.get(72..record.len() - 8)?;
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            let path = String::from_utf8_lossy(name.get(..end)?).into_owned();
            if !path.starts_with('/') {
                return None;
            }
            let start = word(record, 16);
            let mapping = Mapping {
                start,
                end: start.saturating_add(word(record, 24)),
                offset: word(record, 32),
                path,
                file: FileId {
                    device: (int(record, 40), int(record, 44)),
                    inode: word(record, 48),
                },
            };
            What::Mapped { pid, mapping }
        }
        COMM if half(record, 4) & MISC_EXEC != 0 => What::Executed { pid },
        // Threads share their process's memory.
        FORK if int(record, 12) != pid => What::Forked { pid, parent: int(record, 12) },
        EXIT if int(record, 16) == pid => What::Exited { pid },
        _ => return None,
    };
    Some(Happened { time, what })
}

fn page_bytes() -> usize {
    usize::try_from(page_size()).unwrap_or(4096)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b))
}

fn int(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let text = "7f0000001000-7f0000002000 r-xp 00003000 08:01 42    /usr/lib/libx.so";
        let mapping = line(text).expect("an executable mapping of a file");
        assert_eq!((mapping.start, mapping.offset), (0x7f00_0000_1000, 0x3000));
        assert_eq!(mapping.path, "/usr/lib/libx.so");
        assert_eq!(line("7f00-7f10 rw-p 0 08:01 42 /x"), None);
        assert_eq!(line("7f00-7f10 r-xp 0 00:00 0 [vdso]"), None);
        assert_eq!(line("nonsense"), None);
    }

    #[test]
    fn records_of_any_bytes_are_survived() {
        for len in 0..100 {
            for fill in [0u8, 3, 10, 0xff] {
                let _ = happened(&vec![fill; len]);
            }
        }
    }

    #[test]
    fn a_program_that_has_exited_is_known() {
        let host = crate::host::Host::at(std::path::Path::new("/"));
        let mut mappings = Mappings::record(None, &host.online_cpus());
        assert!(!mappings.rings.is_empty(), "perf events need root");
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        mappings.catch_up();
        let list = mappings.processes.get(&pid).expect("the child was seen");
        let list = &list.mappings;
        assert!(list.iter().any(|m| m.path.ends_with("/true")), "{list:?}");
        let start = list.first().map_or(0, |m| m.start);
        assert!(mappings.find(pid, start).is_some());
        assert!(mappings.find(pid, 1).is_none());
    }
}
