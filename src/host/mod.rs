//! Facts about the traced machine, read when asked for.
//!
//! Everything comes from files below a root: `/` for the machine itself, or a
//! recorded machine (`tests/host/<name>`), which has the same files at the
//! same places and `features.json` for what cannot be read from files. No
//! other stage does I/O to learn about the machine.

pub mod arch;
pub mod archive;
pub mod btf;
pub mod cgroup;
mod code;
pub mod dwarf;
pub mod elf;
mod event_types;
pub mod features;
pub mod headers;
mod libraries;
pub mod markers;
mod mount;
mod paths;
pub mod settings;
pub mod syscalls;
pub mod tracefs;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arch::Arch;
use btf::Btf;
use dwarf::UserTypes;
use features::{Feature, Features};
use tracefs::Tracefs;

use crate::diag;
use crate::ir::ProgramKind;

/// A machine whose events can be traced.
pub struct Host {
    root: PathBuf,
    features: Features,
    arch: OnceLock<&'static Arch>,
    btf: OnceLock<Result<Btf, String>>,
    tracefs: OnceLock<Result<Tracefs, String>>,
    traceable: OnceLock<Result<TraceableText, String>>,
    traceable_file: Option<PathBuf>,
    /// Traceable functions have no addresses.
    names_only: bool,
    symbols: OnceLock<String>,
    user_types: UserTypes,
    bpf_functions: fn() -> Vec<BpfFunction>,
    /// Types in another place than `/sys/kernel/btf/vmlinux`.
    types: Option<PathBuf>,
}

/// A function of a BPF program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpfFunction {
    /// Id of the program.
    pub program: u32,
    pub name: String,
    /// Of the function, in the program's own BTF.
    pub type_id: u32,
}

/// A symbol of the running kernel (`/proc/kallsyms`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSymbol {
    /// Zero without the privilege to see it.
    pub address: u64,
    /// As `nm` says: `t`, `T`, `d`, …
    pub kind: char,
    /// Absent for the kernel itself.
    pub module: Option<String>,
}

/// A function that the kernel can trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Traceable<'a> {
    pub name: &'a str,
    /// Absent for the kernel itself.
    pub module: Option<&'a str>,
    /// Where the kernel traces it, if it tells.
    pub address: Option<u64>,
}

/// The kernel's list of functions that it can trace.
struct TraceableText {
    text: String,
    /// Lines begin with addresses.
    addresses: bool,
}

impl Host {
    /// The machine whose files lie below `root`. Its features are those of
    /// `features.json` there, a list of names; without that file, none.
    pub fn at(root: &Path) -> Host {
        let listed = fs::read(root.join("features.json")).ok();
        let names: Vec<String> =
            listed.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        Host {
            root: root.to_owned(),
            features: Features::recorded(names.iter().filter_map(|n| Feature::find(n)))
                .with_kfuncs(recorded_kfuncs(names)),
            arch: OnceLock::new(),
            btf: OnceLock::new(),
            tracefs: OnceLock::new(),
            traceable: OnceLock::new(),
            traceable_file: None,
            names_only: false,
            symbols: OnceLock::new(),
            user_types: UserTypes::default(),
            bpf_functions: Vec::new,
            types: None,
        }
    }

    /// A machine of which nothing is known but the types of its kernel.
    ///
    /// # Errors
    /// The file cannot be read, or has no types.
    pub fn of_types(file: &Path) -> Result<Host, String> {
        Btf::open(file).map_err(|e| e.to_string())?;
        let host = Host { types: Some(file.to_owned()), ..Host::at(Path::new("/nonexistent")) };
        Ok(host.with_features_of_types())
    }

    /// The same machine with the features that its kernel's types show.
    #[must_use]
    pub fn with_features_of_types(self) -> Host {
        let features = match self.btf() {
            Ok(btf) => Features::recorded(Feature::ALL.into_iter().filter(|f| f.is_in(btf))),
            Err(_) => Features::recorded([]),
        };
        Host { features, ..self }
    }

    /// The same machine with other features: probed ones for the real machine.
    #[must_use]
    pub fn with_features(self, features: Features) -> Host {
        Host { features, ..self }
    }

    /// The machine as objects may take it that are for all kernels from one on: what this one has to
    /// offer by names, and what all of them can do.
    #[must_use]
    pub fn for_all_since(self, oldest: (u32, u32)) -> Host {
        Host { features: Features::portable(oldest), ..self }
    }

    /// The same machine as if it were of another architecture, whose kernel has the same types.
    #[must_use]
    pub fn of_arch(self, arch: &'static Arch) -> Host {
        Host { arch: OnceLock::from(arch), ..self }
    }

    /// The same machine with the types in a file.
    #[must_use]
    pub fn with_types(self, file: &Path) -> Host {
        Host { types: Some(file.to_owned()), btf: OnceLock::new(), ..self }
    }

    /// The same machine, where BPF programs are found by asking the kernel.
    #[must_use]
    pub fn with_bpf_functions(self, find: fn() -> Vec<BpfFunction>) -> Host {
        Host { bpf_functions: find, ..self }
    }

    /// Functions of the BPF programs that are in the kernel now.
    pub fn bpf_functions(&self) -> Vec<BpfFunction> {
        (self.bpf_functions)()
    }

    /// The same machine as if it lacked some features (`--no-feature`).
    #[must_use]
    pub fn hiding(self, hidden: &[Feature]) -> Host {
        let features = hidden.iter().fold(self.features, |all, f| all.without(*f));
        Host { features, ..self }
    }

    /// The same machine, whose traceable functions have no addresses.
    #[must_use]
    pub fn without_addresses(self) -> Host {
        Host { names_only: true, traceable: OnceLock::new(), ..self }
    }

    /// The same machine, its traceable functions listed in another file
    /// (`--traceable-functions`; lines of `symbol` or `symbol [module]`).
    #[must_use]
    pub fn with_traceable_functions(self, file: &Path) -> Host {
        Host { traceable_file: Some(file.to_owned()), traceable: OnceLock::new(), ..self }
    }

    /// Whether it has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.has(self, feature)
    }

    /// Whether programs of a kind may call a function of its kernel.
    pub fn kfunc(&self, name: &str, kind: ProgramKind) -> bool {
        self.features.kfunc(self, name, kind)
    }

    /// Whether functions that the kernel verifies once may follow pointers that they get. It came
    /// with longer keys (Linux 5.13), and to ask for it takes a program with types.
    pub fn functions_take_pointers(&self) -> bool {
        self.has(Feature::LargeKeys)
    }

    /// A path of the machine as a path to open here.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Inode of a file, which for a cgroup directory is the cgroup's id and for
    /// a link in `/proc/PID/ns` the namespace's.
    pub fn inode(&self, path: &str) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        Some(fs::metadata(self.path(path)).ok()?.ino())
    }

    /// Network devices and what went through them, as `/proc/net/dev` has it; nothing on recorded
    /// machines.
    pub fn network_devices(&self) -> String {
        self.read("/proc/self/net/dev").unwrap_or_default()
    }

    /// Whether this is the machine that we run on.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    pub fn read(&self, path: &str) -> Result<String, String> {
        let bytes = fs::read(self.path(path)).map_err(|e| format!("`{path}`: {e}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The machine's architecture: that of this binary, unless a recorded
    /// machine says otherwise.
    pub fn arch(&self) -> &'static Arch {
        let find = || {
            let recorded = self.read("/proc/sys/kernel/arch").unwrap_or_default();
            let name = if self.is_live() { "" } else { recorded.trim() };
            Arch::find(name)
                .or_else(|| Arch::find(std::env::consts::ARCH))
                .expect("bug: built for an architecture without a row")
        };
        self.arch.get_or_init(find)
    }

    /// The kernel's release, as `uname -r` says; empty if it cannot be read.
    pub fn release(&self) -> String {
        self.read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
    }

    /// Types of the kernel.
    ///
    /// # Errors
    /// Why there are none, as a phrase for a diagnostic.
    pub fn btf(&self) -> Result<&Btf, String> {
        let open = || {
            let variable = std::env::var_os("BPFTRACE_BTF");
            let named = variable.is_some() && self.types.is_none() && self.is_live();
            let path = match variable {
                _ if self.types.is_some() => self.types.clone().unwrap_or_default(),
                Some(path) if self.is_live() => PathBuf::from(path),
                _ => self.path("/sys/kernel/btf/vmlinux"),
            };
            if !path.exists() && named {
                return Err(format!(
                    "there is no file `{}`, which `BPFTRACE_BTF` names",
                    path.display()
                ));
            }
            if !path.exists() {
                return Err("the kernel does not describe its types (it was built without \
                            `CONFIG_DEBUG_INFO_BTF`)"
                    .to_owned());
            }
            Btf::open(&path).map_err(|e| format!("the kernel's types cannot be read: {e}"))
        };
        self.btf.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// Types of user binaries.
    pub fn user_types(&self) -> &UserTypes {
        &self.user_types
    }

    /// The tracing file system; where it cannot be read, what the kernel's types tell of it
    /// ([`Tracefs::absent`]).
    ///
    /// # Errors
    /// Why it is not there and what to do, as a phrase for a diagnostic.
    pub fn tracefs(&self) -> Result<&Tracefs, String> {
        let find = || match Tracefs::find(self) {
            Err(_) if self.types.is_some() => Ok(Tracefs::of_types(
                "only the kernel's types are given (`--host` takes all of a recorded machine)"
                    .into(),
            )),
            Err(why) if self.btf().is_ok() => Ok(Tracefs::of_types(why)),
            found => found,
        };
        self.tracefs.get_or_init(find).as_ref().map_err(Clone::clone)
    }

    /// The same machine as those see it who may not read the tracing file system.
    #[must_use]
    pub fn without_tracefs(self) -> Host {
        let absent = Tracefs::of_types("the tracing file system cannot be read".into());
        Host { tracefs: OnceLock::from(Ok(absent)), ..self }
    }

    /// Whether the tracing file system is not there, and is mounted by who may do that.
    pub fn mounts_tracefs(&self) -> bool {
        self.tracefs().is_ok_and(Tracefs::is_private)
    }

    /// Every function that the kernel can trace, in the kernel's order.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn traceable_functions(&self) -> Result<impl Iterator<Item = Traceable<'_>>, String> {
        let read = || {
            let plain = |text| TraceableText { text, addresses: false };
            if let Some(file) = &self.traceable_file {
                let text = fs::read_to_string(file);
                return text.map(plain).map_err(|e| format!("`{}`: {e}", file.display()));
            }
            let tracefs = self.tracefs()?;
            if self.names_only {
                return tracefs.read("available_filter_functions").map(plain);
            }
            // From Linux 6.5 on; to read both would take twice as long.
            match tracefs.read("available_filter_functions_addrs") {
                Ok(text) => Ok(TraceableText { text, addresses: true }),
                Err(_) => tracefs.read("available_filter_functions").map(plain),
            }
        };
        let TraceableText { text, addresses } =
            self.traceable.get_or_init(read).as_ref().map_err(Clone::clone)?;
        Ok(text.lines().filter_map(|line| {
            let (address, line) = match line.split_once(' ') {
                Some((address, line)) if *addresses => {
                    (u64::from_str_radix(address, 16).ok(), line)
                }
                _ => (None, line),
            };
            let (name, module) = match line.split_once([' ', '\t']) {
                Some((name, module)) => (name, module.trim().trim_matches(['[', ']'])),
                None => (line, ""),
            };
            let module = (!module.is_empty()).then_some(module);
            (!name.is_empty()).then_some(Traceable { name, module, address })
        }))
    }

    /// Where the kernel traces functions of these names, each the first of its name; nothing if it
    /// does not tell all of them.
    pub fn traceable_addresses(&self, names: &mut dyn Iterator<Item = &str>) -> Option<Vec<u64>> {
        let mut all: HashMap<&str, (bool, u64)> = HashMap::new();
        for Traceable { name, module, address } in self.traceable_functions().ok()? {
            // Of the kernel itself first, and the lowest address.
            let found = (module.is_some(), address?);
            all.entry(name).and_modify(|known| *known = found.min(*known)).or_insert(found);
        }
        names.map(|name| all.get(name).map(|(_, address)| *address)).collect()
    }

    /// Functions that must not carry a kprobe; empty if debugfs is not mounted.
    pub fn kprobe_blacklist(&self) -> Vec<String> {
        let text = self.read("/sys/kernel/debug/kprobes/blacklist").unwrap_or_default();
        text.lines().filter_map(|l| Some(l.split_once('\t')?.1.trim().to_owned())).collect()
    }

    /// The number of a system call by the name in its tracepoint
    /// (`sys_enter_<name>`).
    pub fn syscall_number(&self, name: &str) -> Option<u32> {
        syscalls::number(self.arch(), name)
    }

    /// Numbers of the CPUs that are online; CPU 0 if that cannot be read.
    pub fn online_cpus(&self) -> Vec<u32> {
        let text = self.read("/sys/devices/system/cpu/online").unwrap_or_default();
        let cpus = parse_ranges(text.trim());
        if cpus.is_empty() { vec![0] } else { cpus }
    }

    /// A symbol of the running kernel.
    pub fn kernel_symbol(&self, name: &str) -> Option<KernelSymbol> {
        let text = self.symbols.get_or_init(|| self.read("/proc/kallsyms").unwrap_or_default());
        if name.is_empty() {
            return None;
        }
        // A search for the name first: there are some hundred thousand lines.
        text.match_indices(name).find_map(|(at, _)| {
            let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
            let line = text.get(start..)?.lines().next()?;
            let mut words = line.split_ascii_whitespace();
            let (address, kind, symbol) = (words.next()?, words.next()?, words.next()?);
            if symbol != name {
                return None;
            }
            Some(KernelSymbol {
                address: u64::from_str_radix(address, 16).ok()?,
                kind: kind.chars().next()?,
                module: words.next().map(|m| m.trim_matches(['[', ']']).to_owned()),
            })
        })
    }

    /// The kernel symbol whose name is closest to one that is not there.
    pub fn nearest_kernel_symbol(&self, name: &str) -> Option<String> {
        let text = self.symbols.get_or_init(|| self.read("/proc/kallsyms").unwrap_or_default());
        let names = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
        let close = names.filter(|n| n.len().abs_diff(name.len()) <= (name.len() / 3).max(1));
        diag::nearest(name, close).map(str::to_owned)
    }

    /// The function of the kernel that an address lies in, and the distance from
    /// its start.
    pub fn kernel_symbol_at(&self, address: u64) -> Option<(String, u64)> {
        let text = self.symbols.get_or_init(|| self.read("/proc/kallsyms").unwrap_or_default());
        let symbol = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let start = u64::from_str_radix(words.next()?, 16).ok()?;
            let code = words.next()?.eq_ignore_ascii_case("t");
            (code && start != 0).then_some((start, words.next()?.to_owned()))
        };
        let below = text.lines().filter_map(symbol).filter(|(start, _)| *start <= address);
        // The first of several names at the same place.
        let (start, name) = below.reduce(|a, b| if b.0 > a.0 { b } else { a })?;
        Some((name, address - start))
    }

    /// The value of a kernel build option (`CONFIG_KPROBES` → `y`), `n` if it
    /// is off; `None` if the kernel's configuration is not readable.
    pub fn kernel_config(&self, option: &str) -> Option<String> {
        let release = self.release();
        let text = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")]
            .iter()
            .find_map(|path| self.read(path).ok())?;
        let value = |line: &str| Some(line.strip_prefix(option)?.strip_prefix('=')?.to_owned());
        Some(text.lines().find_map(value).unwrap_or_else(|| "n".into()))
    }

    /// Names of the loaded modules, sorted, as the kernel lists them.
    pub fn modules(&self) -> Vec<String> {
        let text = self.read("/proc/modules").unwrap_or_default();
        let mut names: Vec<String> =
            text.lines().filter_map(|l| Some(l.split_once(' ')?.0.to_owned())).collect();
        names.sort_unstable();
        names
    }

    /// The executable of a process.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn executable(&self, pid: u32) -> Result<PathBuf, String> {
        let link = format!("/proc/{pid}/exe");
        fs::read_link(self.path(&link)).map_err(|e| format!("`{link}`: {e}"))
    }

    /// Executable files that a process, or any process, has mapped; sorted. Those
    /// of another mount namespace are named through the process's root.
    pub fn mapped_files(&self, pid: Option<u32>) -> Vec<PathBuf> {
        let pids: Vec<u32> = match pid {
            Some(pid) => vec![pid],
            None => fs::read_dir(self.path("/proc"))
                .map(|dir| dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
                .unwrap_or_default(),
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for pid in pids {
            let maps = self.read(&format!("/proc/{pid}/maps")).unwrap_or_default();
            let code = maps.lines().filter_map(|line| {
                let mut words = line.splitn(6, ' ');
                let mode = words.nth(1)?;
                let path = words.nth(3)?.trim_start();
                let there = path.starts_with('/') && !path.ends_with(" (deleted)");
                (mode.contains('x') && there).then_some(path)
            });
            let mut code = code.peekable();
            if code.peek().is_some() {
                let root = self.root_of(Some(pid));
                files.extend(code.map(|path| root.join(path.trim_start_matches('/'))));
            }
        }
        files.sort_unstable();
        files.dedup();
        files
    }

    /// A shared library by its short name (`libc`, `libssl.so.3`), through the
    /// loader's cache or, without one, its standard directories.
    pub fn library(&self, name: &str) -> Option<PathBuf> {
        libraries::find(self, name)
    }

    /// Files that fit an absolute path with `*`, `?` or `[…]`, sorted.
    pub fn glob(&self, pattern: &str) -> Vec<PathBuf> {
        paths::glob(self, pattern)
    }

    /// Where the files of a process are to be looked for: `/`, or the root of
    /// its mount namespace if that is not ours.
    pub fn root_of(&self, pid: Option<u32>) -> PathBuf {
        let namespace = |pid: &str| fs::read_link(self.path(format!("/proc/{pid}/ns/mnt"))).ok();
        match pid.map(|p| p.to_string()) {
            Some(pid) if namespace(&pid).is_some() && namespace(&pid) != namespace("self") => {
                PathBuf::from(format!("/proc/{pid}/root"))
            }
            _ => PathBuf::from("/"),
        }
    }

    /// A relative path, seen from the directory that the tool was started in.
    pub fn from_here(&self, path: &str) -> PathBuf {
        std::env::current_dir().unwrap_or_default().join(path)
    }

    /// Programs of that name in the directories of `$PATH`, in its order.
    pub fn programs(&self, name: &str) -> Vec<PathBuf> {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = if path.is_empty() { "/usr/local/bin:/usr/bin:/bin".to_owned() } else { path };
        let mut found: Vec<PathBuf> = Vec::new();
        for dir in path.split(':').filter(|d| d.starts_with('/')) {
            let file = Path::new(dir).join(name);
            // /bin is often a link to /usr/bin: one program, not two.
            let same = |f: &PathBuf| {
                let real = |p: &Path| fs::canonicalize(self.path(p)).ok();
                real(f).is_some() && real(f) == real(&file)
            };
            if self.path(&file).is_file() && !found.iter().any(same) {
                found.push(file);
            }
        }
        found
    }
}

/// Functions of the kernel that a recorded machine lists as `kfunc:NAME`; they
/// are for tracing programs.
fn recorded_kfuncs(names: Vec<String>) -> impl Fn(&Host, &str, ProgramKind) -> bool + Send + Sync {
    move |_, name, kind| {
        let tracing = [ProgramKind::Trampoline, ProgramKind::BtfTracepoint, ProgramKind::Iter]
            .contains(&kind);
        tracing && names.iter().any(|n| n.strip_prefix("kfunc:") == Some(name))
    }
}

/// `0-3,7` to 0, 1, 2, 3, 7.
fn parse_ranges(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            // More CPUs than Linux can have are damage.
            numbers.extend((first..=last).take(8192));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_ranges("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_ranges(""), [] as [u32; 0]);
        assert_eq!(parse_ranges("x,3-1"), [] as [u32; 0]);
    }
}
