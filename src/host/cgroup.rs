//! Cgroups as scopes of a run: by path, or by a container that runs in them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Host;

/// A cgroup of the unified hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Inode of its directory.
    pub id: u64,
    /// Levels below the root, which is 0.
    pub level: u32,
    pub path: PathBuf,
}

/// What engines write before the ids and names of their containers.
const PREFIXES: [&str; 8] = [
    "docker-",
    "libpod-conmon-",
    "libpod-",
    "cri-containerd-",
    "crio-",
    "lxc.payload.",
    "machine-",
    "nerdctl-",
];

/// Levels at which containers are looked for.
const DEEPEST: u32 = 12;

/// Hexadecimal digits that make a directory's whole name an id.
const ID: usize = 32;

impl Host {
    /// A cgroup by its path: from the root of the file system, or below the hierarchy's.
    ///
    /// # Errors
    /// There is no unified hierarchy, or no such directory in it.
    pub fn cgroup(&self, path: &str) -> Result<Cgroup, String> {
        let root = self.cgroup_root()?;
        let below = root.join(path.trim_start_matches('/'));
        let given = Path::new(path);
        let found = match given.starts_with(&root) && given.is_dir() {
            true => given.to_owned(),
            false if below.is_dir() => below,
            false => return Err(format!("there is no cgroup `{path}` below `{}`", root.display())),
        };
        of(&root, &found)
    }

    /// The cgroup of a container, by the start of its id or of its name as its engine puts it into
    /// the cgroup's path.
    ///
    /// # Errors
    /// None, or several containers.
    pub fn container(&self, start: &str) -> Result<Cgroup, String> {
        let root = self.cgroup_root()?;
        let mut found = Vec::new();
        if !start.is_empty() {
            search(&root, start, DEEPEST, &mut found);
        }
        match found.as_slice() {
            [] => Err(format!(
                "no cgroup below `{}` is that of a container `{start}`",
                root.display()
            )),
            [only] => of(&root, only),
            many => {
                let names: Vec<String> = many.iter().map(|p| p.display().to_string()).collect();
                Err(format!("`{start}` fits several containers: {}", names.join(", ")))
            }
        }
    }

    /// Every cgroup, by its path below the root, which is `/`; sorted.
    ///
    /// # Errors
    /// There is no unified hierarchy.
    pub fn cgroups(&self) -> Result<Vec<String>, String> {
        let root = self.cgroup_root()?;
        let mut found = vec![root.clone()];
        let mut next = 0;
        while let Some(folder) = found.get(next) {
            next += 1;
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            let folders: Vec<PathBuf> = folders.map(|e| e.path()).collect();
            found.extend(folders);
        }
        let below =
            |path: PathBuf| Some(format!("/{}", path.strip_prefix(&root).ok()?.to_string_lossy()));
        let mut names: Vec<String> = found.into_iter().filter_map(below).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Where the unified hierarchy is mounted.
    fn cgroup_root(&self) -> Result<PathBuf, String> {
        let mounts = self.read("/proc/self/mountinfo")?;
        let mut lines = mounts.lines().filter(|l| l.contains(" - cgroup2 "));
        let path = lines.find_map(|l| l.split(' ').nth(4));
        let path = path.ok_or("the unified hierarchy of cgroups (cgroup2) is not mounted")?;
        Ok(self.path(path))
    }
}

fn of(root: &Path, path: &Path) -> Result<Cgroup, String> {
    let wrong = |e: std::io::Error| format!("`{}`: {e}", path.display());
    let path = path.canonicalize().map_err(wrong)?;
    let below = path.strip_prefix(root).map_err(|_| {
        format!("`{}` is not below `{}`, where cgroups are", path.display(), root.display())
    })?;
    let level = u32::try_from(below.components().count()).unwrap_or(u32::MAX);
    let id = fs::metadata(&path).map_err(wrong)?.ino();
    Ok(Cgroup { id, level, path })
}

/// Adds the directories of containers; those inside a container belong to it.
fn search(folder: &Path, start: &str, levels: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let folders = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    for entry in folders {
        let name = entry.file_name();
        match container_name(&name.to_string_lossy()) {
            Some(id) if id.starts_with(start) => found.push(entry.path()),
            _ if levels > 0 => search(&entry.path(), start, levels - 1, found),
            _ => {}
        }
    }
}

/// The id or name of a container in the name of its cgroup.
fn container_name(folder: &str) -> Option<&str> {
    let name = folder.strip_suffix(".scope").or(folder.strip_suffix(".service")).unwrap_or(folder);
    let named = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let id = |n: &&str| n.len() >= ID && n.bytes().all(|b| b.is_ascii_hexdigit());
    named.or(Some(name).filter(id))
}

#[cfg(test)]
mod tests {
    use super::container_name;

    #[test]
    fn names_of_containers_are_what_engines_make_of_them() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (folder, name) in [
            (format!("docker-{id}.scope"), Some(id)),
            (format!("cri-containerd-{id}.scope"), Some(id)),
            (format!("libpod-{id}.scope"), Some(id)),
            (id.to_owned(), Some(id)),
            ("lxc.payload.web".to_owned(), Some("web")),
            ("machine-web.scope".to_owned(), Some("web")),
            ("system.slice".to_owned(), None),
            ("init.scope".to_owned(), None),
        ] {
            assert_eq!(container_name(&folder), name, "{folder}");
        }
    }
}
