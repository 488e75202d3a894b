//! Numbers to the names that people know: addresses, users, cgroups.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::runtime::mappings::Mappings;
use crate::runtime::symbols::{BuildId, Place, Symbol, Symbols};

/// Where names come from. Output asks this; tests answer from tables.
pub trait Names {
    /// Announces addresses that will be asked for, so that they are looked up
    /// at once.
    fn prepare(&mut self, place: Place, addresses: &mut dyn Iterator<Item = u64>);

    /// What lies at an address.
    fn symbol(&mut self, place: Place, address: u64) -> Option<&Symbol>;

    /// The file at a user address, by its build id.
    fn build_id(&mut self, pid: u32, address: u64) -> Option<&BuildId>;

    /// Remembers what processes map from now on.
    fn remember(&mut self, _mappings: Mappings) {}

    /// Takes what was recorded meanwhile.
    fn catch_up(&mut self) {}

    /// Folders with separate debug files.
    fn search_debug_files(&mut self, _folders: Vec<PathBuf>) {}

    /// Notes that a frame of a stack has no name.
    fn note_unnamed(&mut self) {}

    /// Frames that were noted since the last call.
    fn take_unnamed(&mut self) -> u64 {
        0
    }

    /// Processes that mapped code since the last call, as far as that is recorded.
    fn changed_processes(&mut self) -> Vec<u32> {
        Vec::new()
    }

    /// The name of a user; empty if unknown.
    fn user(&mut self, uid: u64) -> &str;

    /// `hierarchy:path` of a cgroup in every hierarchy that matches `filter`,
    /// joined by commas.
    fn cgroup(&mut self, id: u64, filter: &str) -> &str;
}

/// The names of this machine.
#[derive(Debug)]
pub struct Machine {
    symbols: Symbols,
    users: HashMap<u64, String>,
    cgroups: Cgroups,
    /// Frames without a name.
    unnamed: u64,
}

/// The mounted hierarchies of cgroups, looked through when first asked.
#[derive(Debug)]
struct Cgroups {
    mounts: PathBuf,
    hierarchies: Vec<Hierarchy>,
    /// By cgroup and filter.
    shown: HashMap<(u64, String), String>,
}

#[derive(Debug, Default)]
struct Hierarchy {
    /// `unified` for cgroup2, else the name of its directory.
    name: String,
    root: PathBuf,
    /// By inode, which is the id.
    paths: HashMap<u64, String>,
}

impl Machine {
    pub fn new(symbols: Symbols) -> Machine {
        let cgroups = Cgroups::at("/proc/self/mountinfo".into());
        Machine { symbols, users: HashMap::new(), cgroups, unnamed: 0 }
    }
}

impl Names for Machine {
    fn prepare(&mut self, place: Place, addresses: &mut dyn Iterator<Item = u64>) {
        self.symbols.prepare(place, addresses);
    }

    fn symbol(&mut self, place: Place, address: u64) -> Option<&Symbol> {
        self.symbols.find(place, address)
    }

    fn build_id(&mut self, pid: u32, address: u64) -> Option<&BuildId> {
        self.symbols.build_id(pid, address)
    }

    fn remember(&mut self, mappings: Mappings) {
        self.symbols.remember(mappings);
    }

    fn catch_up(&mut self) {
        self.symbols.catch_up();
    }

    fn search_debug_files(&mut self, folders: Vec<PathBuf>) {
        self.symbols.search_debug_files(folders);
    }

    fn note_unnamed(&mut self) {
        self.unnamed += 1;
    }

    fn take_unnamed(&mut self) -> u64 {
        std::mem::take(&mut self.unnamed)
    }

    fn changed_processes(&mut self) -> Vec<u32> {
        self.symbols.changed_processes()
    }

    fn user(&mut self, uid: u64) -> &str {
        self.users.entry(uid).or_insert_with(|| {
            let uid = u32::try_from(uid).ok().map(Uid::from_raw);
            let user = uid.and_then(|uid| User::from_uid(uid).ok().flatten());
            user.map_or(String::new(), |user| user.name)
        })
    }

    fn cgroup(&mut self, id: u64, filter: &str) -> &str {
        self.cgroups.find(id, filter)
    }
}

impl Cgroups {
    fn at(mounts: PathBuf) -> Cgroups {
        Cgroups { mounts, hierarchies: Vec::new(), shown: HashMap::new() }
    }

    fn find(&mut self, id: u64, filter: &str) -> &str {
        let asked = (id, filter.to_string());
        if !self.shown.contains_key(&asked) {
            if self.hierarchies.is_empty() {
                let mounts = fs::read_to_string(&self.mounts).unwrap_or_default();
                self.hierarchies = hierarchies(&mounts);
            }
            // An id that nobody knows may be of a cgroup that is new.
            if !self.hierarchies.iter().any(|h| h.paths.contains_key(&id)) {
                self.hierarchies.iter_mut().for_each(Hierarchy::walk);
            }
            let parts: Vec<String> = self
                .hierarchies
                .iter()
                .filter(|h| matches(filter, &h.name))
                .filter_map(|h| Some(format!("{}:{}", h.name, h.paths.get(&id)?)))
                .collect();
            self.shown.insert(asked.clone(), parts.join(","));
        }
        self.shown.get(&asked).map_or("", String::as_str)
    }
}

impl Hierarchy {
    fn walk(&mut self) {
        self.paths.clear();
        if let Ok(root) = fs::metadata(&self.root) {
            self.paths.insert(root.ino(), "/".into());
        }
        let mut open = vec![(self.root.clone(), String::new())];
        while let Some((directory, path)) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                let path = format!("{path}/{}", entry.file_name().to_string_lossy());
                self.paths.insert(entry.ino(), path.clone());
                open.push((entry.path(), path));
            }
        }
    }
}

/// The cgroup lines of a mountinfo file (proc(5)); the first mount of each.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let Some(root) = mount.split(' ').nth(4).map(|p| PathBuf::from(unescaped(p))) else {
            continue;
        };
        let name = match source.split(' ').next() {
            Some("cgroup2") => "unified".to_string(),
            Some("cgroup") => file_name(&root),
            _ => continue,
        };
        if !found.iter().any(|h| h.name == name) {
            found.push(Hierarchy { name, root, paths: HashMap::new() });
        }
    }
    found
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned())
}

/// Mount points have blanks and the like as three octal digits.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut out = parts.next().unwrap_or("").to_string();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                out.push(char::from(code));
                out.push_str(rest);
            }
            _ => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// Whether a name matches a pattern with `*`; an empty pattern matches all.
fn matches(pattern: &str, name: &str) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece).and_then(|at| rest.get(at + piece.len()..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_number() {
        let mut machine = Machine::new(Symbols::new(true, false));
        assert_eq!(machine.user(0), "root");
        assert_eq!(machine.user(4_000_000_001), "");
        assert_eq!(machine.user(u64::MAX), "");
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("", "unified", true),
            ("*", "unified", true),
            ("unified", "unified", true),
            ("unified", "unified2", false),
            ("u*d", "unified", true),
            ("*fi*", "unified", true),
            ("u*d*d", "unified", false),
            ("cpu", "unified", false),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn cgroups_are_found_by_inode() {
        let base = std::env::temp_dir().join(format!("rtrace cgroups {}", std::process::id()));
        let inner = base.join("all/a.slice/b.scope");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir_all(base.join("cpu,cpuacct/a.slice")).unwrap();
        let escaped = base.to_string_lossy().replace(' ', "\\040");
        let mounts = format!(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             33 22 0:30 / {escaped}/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             34 22 0:31 / {escaped}/all rw,nosuid shared:8 - cgroup2 cgroup2 rw\n\
             35 22 0:31 / {escaped}/elsewhere rw - cgroup2 cgroup2 rw\n"
        );
        fs::write(base.join("mountinfo"), mounts).unwrap();
        let mut cgroups = Cgroups::at(base.join("mountinfo"));
        let id = |path: &str| fs::metadata(base.join(path)).unwrap().ino();
        assert_eq!(cgroups.find(id("all/a.slice/b.scope"), ""), "unified:/a.slice/b.scope");
        assert_eq!(cgroups.find(id("all"), "uni*"), "unified:/");
        assert_eq!(cgroups.find(id("cpu,cpuacct/a.slice"), ""), "cpu,cpuacct:/a.slice");
        assert_eq!(cgroups.find(id("cpu,cpuacct/a.slice"), "unified"), "");
        // One that came later.
        fs::create_dir(base.join("all/new")).unwrap();
        assert_eq!(cgroups.find(id("all/new"), ""), "unified:/new");
        assert_eq!(cgroups.find(1, ""), "");
        fs::remove_dir_all(base).unwrap();
    }
}
