//! Addresses to names: the only file that knows blazesym.
//!
//! Nothing is opened before the first address is asked for. Symbols are kept
//! by address; those of a process are dropped when it runs another program,
//! and all of them when there are too many.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use blazesym::normalize::{Normalizer, UserMeta};
use blazesym::symbolize::source::{Elf, Kernel, Process, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use blazesym::{MaybeDefault, Pid};

use super::jitted::Jitted;
use super::mappings::Mappings;

/// Symbols that are kept.
const KEPT: usize = 100_000;

/// No symbol is larger; beyond, an address belongs to something unnamed.
const LARGEST: usize = 16 << 20;

/// Where distributions have separate debug files.
const DEBUG_FOLDERS: [&str; 2] = ["/usr/lib/debug", "/lib/debug"];

/// Kernel addresses have the highest bit set on every architecture we know.
const KERNEL: u64 = 1 << 63;

/// Whose addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Kernel,
    /// A process, by its id.
    User(u32),
}

/// What lies at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    /// Bytes from the symbol's start.
    pub offset: u64,
    /// Path of the binary or library; absent in the kernel.
    pub module: Option<String>,
    pub code: Option<Code>,
    /// Functions inlined at the address, innermost first.
    pub inlined: Vec<Inlined>,
}

/// A place in the source, from debug information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Directory and file.
    pub path: String,
    pub line: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inlined {
    pub name: String,
    pub code: Option<Code>,
}

/// An address as an offset in a file that its build id names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildId {
    pub id: Vec<u8>,
    pub offset: u64,
}

/// Names of addresses, looked up when they are first asked for.
#[derive(Debug)]
pub struct Symbols {
    demangle: bool,
    debug_info: bool,
    /// Folders with separate debug files, beside the usual ones.
    debug_folders: Vec<PathBuf>,
    symbolizer: Option<Symbolizer>,
    normalizer: Option<Normalizer>,
    kernel: HashMap<u64, Option<Symbol>>,
    processes: HashMap<u32, Known>,
    kept: usize,
    /// For processes that have exited.
    mappings: Mappings,
    jitted: Jitted,
}

/// What was found in one process.
#[derive(Debug, Default)]
struct Known {
    /// Device and inode of the program.
    program: Option<(u64, u64)>,
    symbols: HashMap<u64, Option<Symbol>>,
    builds: HashMap<u64, Option<BuildId>>,
}

impl Symbols {
    /// `demangle` and `debug_info` as in the script's configuration.
    pub fn new(demangle: bool, debug_info: bool) -> Symbols {
        Symbols {
            demangle,
            debug_info,
            debug_folders: Vec::new(),
            symbolizer: None,
            normalizer: None,
            kernel: HashMap::new(),
            processes: HashMap::new(),
            kept: 0,
            mappings: Mappings::default(),
            jitted: Jitted::default(),
        }
    }

    /// Looks for separate debug files in these folders, before the usual ones.
    pub fn search_debug_files(&mut self, folders: Vec<PathBuf>) {
        self.debug_folders = folders;
        self.symbolizer = None;
    }

    /// Remembers what processes map, so that those that exit keep their names.
    pub fn remember(&mut self, mappings: Mappings) {
        self.mappings = mappings;
    }

    /// Takes what the kernel says of mappings before it runs out of room.
    pub fn catch_up(&mut self) {
        self.mappings.catch_up();
        self.mappings.look_around();
    }

    /// Processes that mapped code since the last call, as far as that is recorded.
    pub fn changed_processes(&mut self) -> Vec<u32> {
        self.mappings.take_changed()
    }

    /// Looks up many addresses at once, which is much cheaper than one by one.
    pub fn prepare(&mut self, place: Place, addresses: &mut dyn Iterator<Item = u64>) {
        let known = match place {
            Place::Kernel => &self.kernel,
            Place::User(pid) => {
                if !self.meet(pid) {
                    let addresses: Vec<u64> = addresses.collect();
                    return self.prepare_dead(pid, &addresses);
                }
                &self.processes.entry(pid).or_default().symbols
            }
        };
        let mut missing: Vec<u64> = addresses.filter(|a| !known.contains_key(a)).collect();
        if missing.is_empty() {
            return;
        }
        missing.sort_unstable();
        missing.dedup();
        if self.kept + missing.len() > KEPT {
            self.kernel.clear();
            self.processes.clear();
            self.kept = 0;
        }
        match place {
            Place::Kernel => {
                let found = self.kernel_symbols(&missing);
                self.kept += missing.len();
                self.kernel.extend(missing.into_iter().zip(found));
            }
            Place::User(pid) => {
                let found = self.user_symbols(pid, &missing);
                let known = found.as_ref().is_some_and(|all| all.iter().all(Option::is_some));
                if !known && !is_alive(pid) {
                    // It exited while it was looked at.
                    return self.prepare_dead(pid, &missing);
                }
                if let Some(found) = found {
                    self.kept += missing.len();
                    let known = self.processes.entry(pid).or_default();
                    known.symbols.extend(missing.into_iter().zip(found));
                }
            }
        }
    }

    /// Looks up addresses of a process that has exited, in the files that it
    /// had mapped.
    fn prepare_dead(&mut self, pid: u32, addresses: &[u64]) {
        for &address in addresses {
            let known = self.processes.entry(pid).or_default();
            if known.symbols.contains_key(&address) {
                continue;
            }
            let Some(mapping) = self.mappings.find(pid, address) else {
                if let Some(found) = self.jitted.find(pid, address) {
                    self.kept += 1;
                    let known = self.processes.entry(pid).or_default();
                    known.symbols.insert(address, Some(found));
                }
                continue;
            };
            let offset = address - mapping.start + mapping.offset;
            let (mapping, path) = (mapping.clone(), mapping.path.clone());
            let Some(file) = self.mappings.reach(&mapping) else { continue };
            let elf = Source::Elf(Elf::new(&file));
            let answer = self.symbolizer().symbolize_single(&elf, Input::FileOffset(offset)).ok();
            let mut found = answer.and_then(symbol);
            if let Some(symbol) = &mut found {
                symbol.module = Some(path);
            }
            self.kept += 1;
            self.processes.entry(pid).or_default().symbols.insert(address, found);
        }
    }

    /// The symbol at an address.
    pub fn find(&mut self, place: Place, address: u64) -> Option<&Symbol> {
        let known = match place {
            Place::Kernel => self.kernel.contains_key(&address),
            Place::User(pid) => {
                self.processes.get(&pid).is_some_and(|p| p.symbols.contains_key(&address))
            }
        };
        if !known {
            self.prepare(place, &mut std::iter::once(address));
        }
        match place {
            Place::Kernel => self.kernel.get(&address),
            Place::User(pid) => self.processes.get(&pid).and_then(|p| p.symbols.get(&address)),
        }?
        .as_ref()
    }

    /// The build id of the file mapped at a user address, and the file offset.
    pub fn build_id(&mut self, pid: u32, address: u64) -> Option<&BuildId> {
        let alive = self.meet(pid);
        if !alive {
            return self.build_id_of_dead(pid, address);
        }
        let normalizer = self.normalizer.get_or_insert_with(Normalizer::new);
        let known = self.processes.entry(pid).or_default();
        if let Entry::Vacant(slot) = known.builds.entry(address) {
            let found = normalizer.normalize_user_addrs(Pid::from(pid), &[address]).ok()?;
            let build =
                found.outputs.first().and_then(|(offset, index)| match found.meta.get(*index)? {
                    UserMeta::Elf(elf) => {
                        let id = elf.build_id.as_ref()?.to_vec();
                        Some(BuildId { id, offset: *offset })
                    }
                    _ => None,
                });
            self.kept += 1;
            slot.insert(build);
        }
        known.builds.get(&address)?.as_ref()
    }

    /// The same of a process that has exited, from the file that it had mapped.
    fn build_id_of_dead(&mut self, pid: u32, address: u64) -> Option<&BuildId> {
        let known = self.processes.entry(pid).or_default();
        if let Entry::Vacant(slot) = known.builds.entry(address) {
            let mapping = self.mappings.find(pid, address)?.clone();
            let offset = address - mapping.start + mapping.offset;
            let file = self.mappings.reach(&mapping)?;
            let id = blazesym::helper::read_elf_build_id(&file).ok().flatten();
            self.kept += 1;
            slot.insert(id.map(|id| BuildId { id: id.to_vec(), offset }));
        }
        known.builds.get(&address)?.as_ref()
    }

    /// Whether a process is still there. Forgets what was known of it if it
    /// runs another program by now.
    fn meet(&mut self, pid: u32) -> bool {
        let Ok(program) = fs::metadata(format!("/proc/{pid}/exe")) else { return false };
        let program = Some((program.dev(), program.ino()));
        let known = self.processes.entry(pid).or_default();
        if known.program != program {
            self.kept -= (known.symbols.len() + known.builds.len()).min(self.kept);
            *known = Known { program, ..Known::default() };
        }
        true
    }

    fn symbolizer(&mut self) -> &Symbolizer {
        let (demangle, debug_info) = (self.demangle, self.debug_info);
        let folders = &self.debug_folders;
        self.symbolizer.get_or_insert_with(|| {
            let usual = DEBUG_FOLDERS.map(Path::new);
            let folders = folders.iter().map(PathBuf::as_path).chain(usual);
            Symbolizer::builder()
                .set_debug_dirs(Some(folders))
                .enable_demangling(demangle)
                .enable_code_info(debug_info)
                .enable_inlined_fns(debug_info)
                .build()
        })
    }

    fn kernel_symbols(&mut self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let debug_info = self.debug_info;
        let symbolizer = self.symbolizer();
        let names = Source::Kernel(Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        });
        let image = Source::Kernel(Kernel { debug_syms: true, ..Kernel::default() });
        let mut found: Vec<Option<Symbol>> = vec![None; addresses.len()];
        // The kernel's image has line numbers but lacks names (of BPF programs,
        // of modules without a file), so the list of names comes second.
        for source in debug_info.then_some(&image).into_iter().chain([&names]) {
            let open: Vec<usize> = addresses
                .iter()
                .zip(&found)
                .enumerate()
                .filter(|(_, (address, symbol))| symbol.is_none() && **address >= KERNEL)
                .map(|(i, _)| i)
                .collect();
            let wanted: Vec<u64> = open.iter().filter_map(|&i| addresses.get(i).copied()).collect();
            if wanted.is_empty() {
                break;
            }
            let Ok(answers) = symbolizer.symbolize(source, Input::AbsAddr(&wanted)) else {
                continue;
            };
            for (index, answer) in open.into_iter().zip(answers) {
                if let Some(slot) = found.get_mut(index) {
                    *slot = symbol(answer);
                }
            }
        }
        found
    }

    /// Nothing if the process cannot be looked at.
    fn user_symbols(&mut self, pid: u32, addresses: &[u64]) -> Option<Vec<Option<Symbol>>> {
        if pid == 0 {
            return None;
        }
        let debug_info = self.debug_info;
        let symbolizer = self.symbolizer();
        // Through the process's own view of its files if we may; else by their paths.
        let answers = [true, false].into_iter().find_map(|map_files| {
            let process =
                Process { debug_syms: debug_info, map_files, ..Process::new(Pid::from(pid)) };
            symbolizer.symbolize(&Source::Process(process), Input::AbsAddr(addresses)).ok()
        })?;
        Some(answers.into_iter().map(symbol).collect())
    }
}

/// Whether a process has memory: one that exited is not alive any more, even if it is still there.
fn is_alive(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/exe")).is_ok()
}

fn symbol(answer: Symbolized<'_>) -> Option<Symbol> {
    let Sym { name, module, offset, code_info, inlined, .. } = answer.into_sym()?;
    if offset > LARGEST {
        return None;
    }
    let inlined = inlined
        .iter()
        .rev()
        .map(|i| Inlined { name: i.name.to_string(), code: i.code_info.as_ref().map(code) })
        .collect();
    Some(Symbol {
        name: name.into_owned(),
        offset: offset as u64,
        module: module.map(|m| m.to_string_lossy().into_owned()),
        code: code_info.map(|c| code(&c)),
        inlined,
    })
}

fn code(info: &CodeInfo<'_>) -> Code {
    Code { path: info.to_path().to_string_lossy().into_owned(), line: info.line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn landmark() -> u64 {
        landmark as *const () as u64
    }

    #[test]
    fn own_functions_are_found_and_demangled() {
        let mut symbols = Symbols::new(true, false);
        let own = Place::User(std::process::id());
        let address = landmark() + 1;
        let found = symbols.find(own, address).expect("the test binary has symbols");
        assert!(found.name.ends_with("symbols::tests::landmark"), "{}", found.name);
        assert_eq!(found.offset, 1);
        assert!(found.module.as_ref().is_some_and(|m| m.contains("rtrace")), "{found:?}");
        assert!(symbols.find(own, 8).is_none());
        assert!(symbols.find(Place::User(0), address).is_none());
        // Ids of processes end below this.
        assert!(symbols.find(Place::User(u32::MAX - 1), address).is_none());
        let mut mangled = Symbols::new(false, false);
        let found = mangled.find(own, address).expect("the test binary has symbols");
        assert!(found.name.starts_with("_ZN") || found.name.starts_with("_R"), "{}", found.name);
    }

    #[test]
    fn code_that_a_compiler_made_at_run_time_has_the_names_that_it_wrote_down() {
        let code =
            memmap2::MmapMut::map_anon(4096).and_then(|map| map.make_exec()).expect("mapped");
        let (start, pid) = (code.as_ptr() as u64, std::process::id());
        let path = format!("/tmp/perf-{pid}.map");
        fs::write(&path, format!("{start:x} 40 LazyCompile:~main app.js:1\n")).expect("written");
        let found = Symbols::new(true, true).find(Place::User(pid), start + 0x11).cloned();
        fs::remove_file(path).expect("removed");
        let found = found.expect("it is in the list");
        assert_eq!((found.name.as_str(), found.offset), ("LazyCompile:~main app.js:1", 0x11));
    }

    #[test]
    fn processes_that_have_exited_have_names_and_build_ids() {
        let mut child = std::process::Command::new("/bin/true").spawn().expect("started");
        let pid = child.id();
        child.wait().expect("ended");
        let own = fs::read_link("/proc/self/exe").expect("a path").to_string_lossy().into_owned();
        let maps = fs::read_to_string("/proc/self/maps").expect("a list");
        let mapped = super::super::mappings::Mapping::of_lines(&maps);
        let mut symbols = Symbols::new(true, false);
        symbols.remember(Mappings::of(pid, mapped));
        let found = symbols.find(Place::User(pid), landmark() + 1).expect("it was mapped");
        assert!(found.name.ends_with("symbols::tests::landmark"), "{found:?}");
        assert_eq!(found.module.as_deref(), Some(own.as_str()));
        let library = libc::getppid as *const () as u64;
        let dead = symbols.build_id(pid, library).cloned().expect("libc has a build id");
        let alive = Symbols::new(true, false).build_id(std::process::id(), library).cloned();
        assert_eq!(Some(dead), alive);
        // What it made at run time.
        let path = format!("/tmp/perf-{pid}.map");
        fs::write(&path, "10000 20 jit:one\n").expect("written");
        let found = symbols.find(Place::User(pid), 0x1001f).cloned();
        fs::remove_file(path).expect("removed");
        assert_eq!(found.map(|s| (s.name, s.offset)), Some(("jit:one".into(), 0x1f)));
        assert_eq!(symbols.find(Place::User(pid), 0x10020), None);
    }

    #[test]
    fn debug_information_gives_lines() {
        let mut symbols = Symbols::new(true, true);
        let found = symbols.find(Place::User(std::process::id()), landmark()).expect("found");
        let code = found.code.as_ref().expect("tests are built with line tables");
        assert!(code.path.ends_with("src/runtime/symbols.rs"), "{}", code.path);
        assert!(code.line.is_some_and(|l| l > 100), "{code:?}");
    }

    #[test]
    fn kernel_names_as_the_kernel_lists_them() {
        let list = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let named = list.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            (words.next()? == "T" && words.next()? == "vfs_read" && address != 0).then_some(address)
        });
        let mut symbols = Symbols::new(true, true);
        let Some(address) = named else {
            // Hidden from us: then every address stays an address.
            assert_eq!(symbols.find(Place::Kernel, 0xffff_ffff_8100_0000), None);
            return;
        };
        let found = symbols.find(Place::Kernel, address + 5).expect("it is listed");
        assert_eq!((found.name.as_str(), found.offset), ("vfs_read", 5));
        assert_eq!(symbols.find(Place::Kernel, 5), None);
        assert_eq!(symbols.find(Place::Kernel, u64::MAX), None);
    }

    #[test]
    fn build_ids_of_own_libraries() {
        let mut symbols = Symbols::new(true, false);
        let pid = std::process::id();
        let library = libc::getppid as *const () as u64;
        let found = symbols.build_id(pid, library).expect("libc has a build id");
        assert_eq!(found.id.len(), 20);
        assert!(symbols.build_id(pid, 8).is_none());
    }
}
