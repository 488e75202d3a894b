//! What programs need to unwind user stacks by DWARF (`plan::unwind`): which processes have
//! which code where, and how to get from a frame of that code to its caller's.
//!
//! The rows of a file are made once, whoever maps it. The processes that a run names are read
//! before it starts; others when a program met them and said so, and those that map something
//! new again. Everything has bounds: what finds no room is told, and its stacks are counted as
//! cut or without frames.

mod rows;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::load::Loaded;
use crate::diag::Diagnostic;
use crate::host::dwarf::frames::Frames;
use crate::plan;
use crate::plan::unwind::{PAGE_ROWS, ROW};
use rows::{Chunk, Pages, prefixes};

/// Pages beyond those of the processes that are named: for what they map later, and for others
/// if all are traced. A page has 64 KiB.
const SPARE_PAGES: u32 = 32;
const PAGES_FOR_ALL: u32 = 256;

/// Files that are kept though no process maps them.
const KEPT_FILES: usize = 1024;

/// Executable mappings of a process that are looked at.
const MOST_MAPPINGS: usize = 4096;

/// A process that has code which is not known, and which nothing can be learned of, is not asked
/// about again for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a process is read that changes all the time.
const ATTEMPTS: usize = 4;

/// How often processes that are gone are forgotten.
const CARE: Duration = Duration::from_secs(1);

/// Bytes of the page that the kernel maps into every process.
const MOST_VDSO: u64 = 1 << 16;

/// What names a file, however it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    File {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
    },
    Vdso,
    /// Code that was made at run time, or that has no tables: taken to keep frame pointers.
    Unnamed,
}

/// The rows of a file, in the kernel.
#[derive(Debug)]
struct File {
    /// What addresses in rows are relative to.
    base: u64,
    /// Without rows: where its code is in the file.
    shape: Frames,
    chunks: Vec<Chunk>,
}

/// An executable mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Of `start` in the file.
    offset: u64,
    device: String,
    inode: u64,
    path: String,
}

/// A process that is known.
#[derive(Debug)]
struct Process {
    mappings: Vec<Mapping>,
    files: Vec<Key>,
    /// Its entries among the ranges.
    keys: Vec<[u8; 16]>,
}

/// A range as the kernel has it: key and value.
type Range = ([u8; 16], [u8; 16]);

/// The maps of the programs.
struct Maps {
    rows: OwnedFd,
    ranges: OwnedFd,
    processes: OwnedFd,
    wanted: OwnedFd,
}

/// The tables of a run.
pub(super) struct Unwinding {
    maps: Option<Maps>,
    pages: Pages,
    /// How many pages there are; until the maps exist, as many as are wanted.
    count: u32,
    /// Rows that wait for the maps.
    waiting: Vec<(Chunk, Vec<u8>)>,
    files: HashMap<Key, Rc<File>>,
    processes: HashMap<u32, Process>,
    spaces: u32,
    /// Processes that were asked about in vain, and when.
    vain: HashMap<u32, Instant>,
    cared: Instant,
    /// Something found no room, and that is to be told.
    full: Option<Diagnostic>,
    told: bool,
}

impl Unwinding {
    /// Reads the tables of some processes, before the maps for them exist.
    pub(super) fn of(processes: &[u32], all: bool) -> Unwinding {
        let mut unwinding = Unwinding {
            maps: None,
            pages: Pages::new(0),
            count: 0,
            waiting: Vec::new(),
            files: HashMap::new(),
            processes: HashMap::new(),
            spaces: 0,
            vain: HashMap::new(),
            cared: Instant::now(),
            full: None,
            told: false,
        };
        for pid in processes {
            unwinding.learn(*pid);
        }
        let more = if all { PAGES_FOR_ALL } else { SPARE_PAGES.max(unwinding.count / 4) };
        unwinding.more_pages(more);
        unwinding
    }

    fn more_pages(&mut self, more: u32) {
        self.pages.grow(self.count, self.count + more);
        self.count += more;
    }

    /// How many pages of rows the programs need.
    pub(super) fn pages(&self) -> u32 {
        self.count
    }

    /// Fills the maps.
    ///
    /// # Errors
    /// The object lacks one, or the kernel does not take something.
    pub(super) fn open(&mut self, loaded: &Loaded) -> Result<(), Error> {
        let map = |name: &str| {
            let map = loaded.map(name);
            let fd = map.and_then(|map| map.as_fd().try_clone_to_owned().ok());
            fd.ok_or_else(|| super::load::damaged(&format!("it has no map `{name}`")))
        };
        self.maps = Some(Maps {
            rows: map(plan::UNWIND_ROWS_MAP)?,
            ranges: map(plan::UNWIND_RANGES_MAP)?,
            processes: map(plan::UNWIND_PROCESSES_MAP)?,
            wanted: map(plan::UNWIND_WANTED_MAP)?,
        });
        let waiting = std::mem::take(&mut self.waiting);
        self.store(&waiting);
        let known: Vec<u32> = self.processes.keys().copied().collect();
        for pid in known {
            // Their files are known by now; programs are not told of them yet.
            self.learn(pid);
        }
        Ok(())
    }

    /// Learns of the processes that programs ask for, and forgets those that are gone. Gives a
    /// warning if there is one.
    pub(super) fn serve(&mut self, changed: &[u32]) -> Option<Diagnostic> {
        let now = Instant::now();
        for pid in changed {
            if self.processes.contains_key(pid) {
                self.learn(*pid);
            }
        }
        for pid in self.wanted() {
            if self.vain.get(&pid).is_some_and(|since| now.duration_since(*since) < PATIENCE) {
                continue;
            }
            if self.learn(pid) {
                self.vain.remove(&pid);
                self.unwant(pid);
            } else {
                // As long as it is wanted, programs do not ask again.
                self.vain.insert(pid, now);
            }
        }
        let due = |since: &Instant| now.duration_since(*since) >= PATIENCE;
        let again: Vec<u32> = self.vain.iter().filter(|v| due(v.1)).map(|v| *v.0).collect();
        for pid in again {
            self.vain.remove(&pid);
            self.unwant(pid);
        }
        if now.duration_since(self.cared) >= CARE {
            self.cared = now;
            let gone = |pid: &&u32| fs::symlink_metadata(format!("/proc/{pid}")).is_err();
            let gone: Vec<u32> = self.processes.keys().filter(gone).copied().collect();
            for pid in gone {
                self.forget(pid);
            }
        }
        self.full.take().filter(|_| !std::mem::replace(&mut self.told, true))
    }

    /// Processes that programs ask for.
    fn wanted(&self) -> Vec<u32> {
        let Some(maps) = &self.maps else { return Vec::new() };
        let mut list = Vec::new();
        let mut last: Option<[u8; 4]> = None;
        while let Some(next) = next_key(&maps.wanted, last.as_ref()) {
            list.push(u32::from_ne_bytes(next));
            last = Some(next);
            if list.len() >= 1 << 16 {
                break;
            }
        }
        list
    }

    fn unwant(&self, pid: u32) {
        if let Some(maps) = &self.maps {
            delete(&maps.wanted, &pid.to_ne_bytes());
        }
    }

    /// Reads what a process maps. Gives whether that told anything new.
    fn learn(&mut self, pid: u32) -> bool {
        let mut new = false;
        // Again, in case that it ran another program meanwhile, for which programs forget it.
        for _ in 0..ATTEMPTS {
            let Some(mappings) = mappings(pid) else { break };
            if !self.take_over(pid, mappings) {
                break;
            }
            new = true;
        }
        new
    }

    /// Makes the tables for what a process maps. Gives whether there was anything new.
    fn take_over(&mut self, pid: u32, mappings: Vec<Mapping>) -> bool {
        if let Some(known) = self.processes.get(&pid)
            && known.mappings == mappings
            && self.is_published(pid)
        {
            return false;
        }
        let mut files = HashMap::new();
        let mut used: HashSet<Key> = HashSet::new();
        let mut ranges = Vec::new();
        self.spaces += 1;
        let space = self.spaces;
        for mapping in &mappings {
            let name = (mapping.device.clone(), mapping.inode, mapping.path.clone());
            let file: &Option<(Key, Rc<File>)> =
                files.entry(name).or_insert_with(|| self.file(pid, mapping));
            let Some((key, file)) = file else { continue };
            ranges.extend(file.ranges(space, mapping));
            used.insert(key.clone());
        }
        let old = self.processes.remove(&pid);
        let (files, keys) = (used.into_iter().collect(), ranges.iter().map(|r| r.0).collect());
        self.processes.insert(pid, Process { mappings, files, keys });
        let mut complete = true;
        if let Some(maps) = &self.maps {
            complete = ranges.iter().all(|(key, value)| update(&maps.ranges, key, value));
            let space = u64::from(space).to_ne_bytes();
            complete &= update(&maps.processes, &pid.to_ne_bytes(), &space);
            for key in old.iter().flat_map(|process| &process.keys) {
                delete(&maps.ranges, key);
            }
        }
        if !complete {
            self.no_room("the table of code is full");
        }
        self.drop_files();
        true
    }

    /// Whether programs know of a process: they forget it when it runs another program.
    fn is_published(&self, pid: u32) -> bool {
        self.maps.as_ref().is_none_or(|maps| exists(&maps.processes, &pid.to_ne_bytes()))
    }

    fn forget(&mut self, pid: u32) {
        let Some(process) = self.processes.remove(&pid) else { return };
        if let Some(maps) = &self.maps {
            delete(&maps.processes, &pid.to_ne_bytes());
            for key in &process.keys {
                delete(&maps.ranges, key);
            }
        }
    }

    /// The file that is mapped, with its rows in their place.
    fn file(&mut self, pid: u32, mapping: &Mapping) -> Option<(Key, Rc<File>)> {
        let special = mapping.path.starts_with('[');
        let (key, path) = match mapping.path.as_str() {
            "[vdso]" => (Key::Vdso, None),
            path if path.is_empty() || path.starts_with("[anon") || path == "[heap]" => {
                (Key::Unnamed, None)
            }
            // Of the kernel: where returns of functions are caught.
            _ if special => return None,
            _ => match reach(pid, mapping) {
                Some((key, path)) => (key, Some(path)),
                None => (Key::Unnamed, None),
            },
        };
        if let Some(known) = self.files.get(&key) {
            return Some((key, Rc::clone(known)));
        }
        let frames = match (&key, path) {
            (Key::Vdso, _) => vdso().and_then(|bytes| Frames::of_bytes(&bytes).ok()),
            (_, Some(path)) => Frames::of_file(&path).ok(),
            (_, None) => None,
        };
        let (key, frames) = match frames {
            Some(frames) => (key, frames),
            None => (Key::Unnamed, Frames::by_pointers()),
        };
        if let Some(known) = self.files.get(&key) {
            return Some((key, Rc::clone(known)));
        }
        let placed = self.place(&frames);
        let Some(placed) = placed else {
            self.no_room("the tables of binaries are full");
            return None;
        };
        let chunks = placed.iter().map(|(chunk, _)| *chunk).collect();
        let base = frames.base;
        let file = Rc::new(File { base, shape: frames.without_rows(), chunks });
        match self.maps {
            Some(_) => self.store(&placed),
            None => self.waiting.extend(placed),
        }
        self.files.insert(key.clone(), Rc::clone(&file));
        Some((key, file))
    }

    /// Finds room for rows; as long as there are no maps, there can be more.
    fn place(&mut self, frames: &Frames) -> Option<Vec<(Chunk, Vec<u8>)>> {
        if let Some(placed) = self.pages.place(frames) {
            return Some(placed);
        }
        if self.maps.is_none() {
            let rows = u32::try_from(frames.rows.len()).unwrap_or(u32::MAX);
            self.more_pages(rows / PAGE_ROWS + 2);
        } else {
            self.drop_unused(0);
        }
        self.pages.place(frames)
    }

    /// Gives back what nobody maps any more, if that is much.
    fn drop_files(&mut self) {
        if self.files.len() > KEPT_FILES {
            self.drop_unused(KEPT_FILES / 2);
        }
    }

    fn drop_unused(&mut self, keep: usize) {
        let used: HashSet<&Key> = self.processes.values().flat_map(|p| &p.files).collect();
        let unused = self.files.keys().filter(|key| !used.contains(key)).cloned();
        let unused: Vec<Key> = unused.collect();
        for key in unused {
            if self.files.len() <= keep {
                break;
            }
            for chunk in self.files.remove(&key).iter().flat_map(|file| &file.chunks) {
                self.pages.release(chunk.place);
            }
        }
    }

    fn no_room(&mut self, what: &str) {
        let d = Diagnostic::warning(crate::diag::Warning::Runtime, Default::default(), what);
        self.full = Some(d.note("stacks of other processes are cut, or have no frames").help(
            "trace fewer processes at a time (`-p`), or use `ustack` where code keeps frame pointers",
        ));
    }

    /// Writes rows to their pages.
    fn store(&self, chunks: &[(Chunk, Vec<u8>)]) {
        let Some(maps) = &self.maps else { return };
        let mut page: Option<(u32, Vec<u8>)> = None;
        for (Chunk { place, .. }, bytes) in chunks {
            if page.as_ref().is_none_or(|(number, _)| *number != place.page) {
                if let Some((number, bytes)) = page.take() {
                    update(&maps.rows, &number.to_ne_bytes(), &bytes);
                }
                let mut current = vec![0; (PAGE_ROWS * ROW) as usize];
                lookup(&maps.rows, &place.page.to_ne_bytes(), &mut current);
                page = Some((place.page, current));
            }
            let at = (place.first * ROW) as usize;
            if let Some((_, current)) = &mut page
                && let Some(to) = current.get_mut(at..at + bytes.len())
            {
                to.copy_from_slice(bytes);
            }
        }
        if let Some((number, bytes)) = page {
            update(&maps.rows, &number.to_ne_bytes(), &bytes);
        }
    }
}

impl File {
    /// The ranges of a mapping.
    fn ranges(&self, space: u32, mapping: &Mapping) -> Vec<Range> {
        let address = match self.shape.address_of(mapping.offset) {
            Some(address) => address,
            // Not of an ELF file.
            None if self.base == 0 => 0,
            None => return Vec::new(),
        };
        // Wraps for programs that are loaded below where they were linked.
        let moved = mapping.start.wrapping_sub(address);
        let last = address.saturating_add(mapping.end - mapping.start);
        let mut list = Vec::new();
        for chunk in &self.chunks {
            let (start, end) = (chunk.start.max(address), chunk.end.min(last));
            if start >= end {
                continue;
            }
            let base = moved.wrapping_add(self.base);
            let mut value = [0; 16];
            let place = chunk.place;
            let parts: [&[u8]; 4] = [
                &base.to_ne_bytes(),
                &place.page.to_ne_bytes(),
                &u16::try_from(place.first).unwrap_or(0).to_ne_bytes(),
                &u16::try_from(place.count).unwrap_or(0).to_ne_bytes(),
            ];
            for (to, byte) in value.iter_mut().zip(parts.concat()) {
                *to = byte;
            }
            for (at, bits) in prefixes(start.wrapping_add(moved), end.wrapping_add(moved)) {
                let mut key = [0; 16];
                let parts: [&[u8]; 3] =
                    [&(32 + bits).to_ne_bytes(), &space.to_ne_bytes(), &at.to_be_bytes()];
                for (to, byte) in key.iter_mut().zip(parts.concat()) {
                    *to = byte;
                }
                list.push((key, value));
            }
        }
        list
    }
}

/// The executable mappings of a process; `None` if it is gone or of another architecture.
fn mappings(pid: u32) -> Option<Vec<Mapping>> {
    use std::io::Read as _;
    let mut head = [0; 5];
    let mut program = fs::File::open(format!("/proc/{pid}/exe")).ok()?;
    program.read_exact(&mut head).ok()?;
    // 64-bit, of elf.h.
    if head != *b"\x7fELF\x02" {
        return None;
    }
    let text = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let list: Vec<Mapping> = text.lines().filter_map(mapping).take(MOST_MAPPINGS).collect();
    (!list.is_empty()).then_some(list)
}

/// A line of /proc/PID/maps (proc(5)), if it is an executable mapping.
fn mapping(text: &str) -> Option<Mapping> {
    let mut words = text.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let executable = words.next()?.contains('x');
    let offset = words.next()?;
    let device = words.next()?.to_owned();
    let inode = words.next()?.parse().ok()?;
    let path = words.next().unwrap_or_default().trim_start().to_owned();
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
    let usable = executable && start < end && path != "[vsyscall]";
    usable.then_some(Mapping { start, end, offset, device, inode, path })
}

/// A way to the file that a process maps, through its own view of files, and its name.
fn reach(pid: u32, mapping: &Mapping) -> Option<(Key, PathBuf)> {
    let Mapping { start, end, path, .. } = mapping;
    let places = [
        // Also for files that are deleted, but it takes privileges.
        PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}")),
        PathBuf::from(format!("/proc/{pid}/root{path}")),
    ];
    places.into_iter().find_map(|place| {
        let data = fs::metadata(&place).ok().filter(fs::Metadata::is_file)?;
        let key = Key::File {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
        };
        Some((key, place))
    })
}

/// The code that the kernel maps into every process; ours is that of others.
fn vdso() -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let vdso = maps.lines().filter_map(mapping).find(|m| m.path == "[vdso]")?;
    let size = usize::try_from((vdso.end - vdso.start).min(MOST_VDSO)).ok()?;
    let mut bytes = vec![0; size];
    fs::File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, vdso.start).ok()?;
    Some(bytes)
}

/// Sets an entry of a map. Gives whether that went well.
fn update(map: &OwnedFd, key: &[u8], value: &[u8]) -> bool {
    // SAFETY: key and value have the sizes of the map, which the plan names, and live until the
    // call returns.
    let status = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_raw_fd(),
            key.as_ptr().cast(),
            value.as_ptr().cast(),
            0,
        )
    };
    status == 0
}

/// Reads an entry of a map.
fn lookup(map: &OwnedFd, key: &[u8], value: &mut [u8]) -> bool {
    // SAFETY: as for `update`; the kernel writes the whole value and no more.
    let status = unsafe {
        libbpf_sys::bpf_map_lookup_elem(
            map.as_raw_fd(),
            key.as_ptr().cast(),
            value.as_mut_ptr().cast(),
        )
    };
    status == 0
}

fn exists(map: &OwnedFd, key: &[u8; 4]) -> bool {
    lookup(map, key, &mut [0; plan::unwind::PROCESS as usize])
}

fn delete(map: &OwnedFd, key: &[u8]) {
    // It may be gone already.
    // SAFETY: the key has the map's size and lives until the call returns.
    unsafe { libbpf_sys::bpf_map_delete_elem(map.as_raw_fd(), key.as_ptr().cast()) };
}

fn next_key(map: &OwnedFd, after: Option<&[u8; 4]>) -> Option<[u8; 4]> {
    let mut next = [0; 4];
    let after = after.map_or(std::ptr::null(), |key| key.as_ptr());
    // SAFETY: keys have 4 bytes, and both live until the call returns; null asks for the first.
    let status = unsafe {
        libbpf_sys::bpf_map_get_next_key(map.as_raw_fd(), after.cast(), next.as_mut_ptr().cast())
    };
    (status == 0).then_some(next)
}
