//! Runs that go on without rtrace (`--pin NAME`): links, maps and programs in a folder of the BPF
//! file system, and what others need to know of them.
//!
//! The folder has `links`, `maps` and `progs`, and, last of all, `object`: an array of one entry that
//! keeps the plan and the object. So a folder without it was left by a tracer that did not come to the
//! end, and everything is gone when the folder is. Maps are opened again through the object, which
//! makes no new ones; nothing else on the run side has to know.

mod alone;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::error::Error;
use super::links::Links;
use super::load::{self, Loaded, Reopen};
use super::output::Output;
use super::poll::{Events, Opened, Stop, Watched};
use super::{attach, catch_signals, perf, privileges, sys};
use crate::diag::{Diagnostic, Diagnostics};
use crate::object::Object;
use crate::object::pinned::Pinned;
use crate::plan::{Mechanism, Plan};

/// Where the BPF file system is.
const ROOT: &str = "/sys/fs/bpf";

const LINKS: &str = "links";
const MAPS: &str = "maps";
const PROGRAMS: &str = "progs";
const OBJECT: &str = "object";

/// A pinned run.
struct Pin {
    name: String,
    folder: PathBuf,
}

impl Pin {
    /// # Errors
    /// It is no name.
    fn named(name: &str) -> Result<Pin, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            let d = Diagnostic::global(format!("`{name}` is no name for a pinned run"));
            return Err(Error::usage(d.help("use letters, digits, `_` and `-`")));
        }
        Ok(Pin { name: name.to_owned(), folder: Path::new(ROOT).join(name) })
    }

    fn path(&self, part: &str) -> PathBuf {
        self.folder.join(part)
    }

    /// Reads back what a pinned run is.
    ///
    /// # Errors
    /// There is none, or it is not whole.
    fn kept(&self) -> Result<Pinned, Error> {
        if !self.folder.is_dir() {
            let d = Diagnostic::global(format!("nothing is pinned as `{}`", self.name));
            return Err(Error::usage(d.help("`rtrace ps` shows what is")));
        }
        let bytes = stored(&self.path(OBJECT)).map_err(|why| {
            let message = format!("`{}` is not a pinned run, or not a whole one", self.name);
            let d = Diagnostic::global(message).note(why);
            Error::run(d.help(format!("`rtrace detach {}` removes what a tracer left", self.name)))
        })?;
        Pinned::from_bytes(&bytes).map_err(|why| {
            let d = Diagnostic::global(format!("`{}` cannot be read: {why}", self.name));
            Error::run(d.note("another version of rtrace may have made it"))
        })
    }

    /// Removes the folder and with it what nobody else holds.
    fn remove(&self) -> io::Result<()> {
        // Programs first come to rest.
        for part in [LINKS, PROGRAMS, MAPS] {
            remove_folder(&self.path(part))?;
        }
        match fs::remove_file(self.path(OBJECT)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::remove_dir(&self.folder)
    }

    fn cannot_remove(&self, e: &io::Error) -> Error {
        Error::run(Diagnostic::global(format!("cannot remove `{}`: {e}", self.folder.display())))
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(folder)
}

/// The bytes of the one entry of a pinned array.
fn stored(path: &Path) -> Result<Vec<u8>, String> {
    let map = MapHandle::from_pinned_path(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
    found.ok().flatten().ok_or_else(|| format!("{} has no content", path.display()))
}

/// A name in the BPF file system, which takes no dots.
pub(super) fn file_name(map: &str) -> String {
    map.replace('.', "_")
}

/// Fails early: what could not be pinned later.
///
/// # Errors
/// There is no BPF file system, the name is taken or none, or the script needs rtrace.
pub(super) fn check(name: &str, plan: &Plan) -> Result<(), Error> {
    let pin = Pin::named(name)?;
    let magic = nix::sys::statfs::statfs(ROOT).map(|s| s.filesystem_type());
    if magic != Ok(nix::sys::statfs::BPF_FS_MAGIC) {
        let d = Diagnostic::global(format!("there is no BPF file system at `{ROOT}`"));
        return Err(Error::run(d.help(format!("mount it: `mount -t bpf bpf {ROOT}`"))));
    }
    if pin.folder.exists() {
        let d = Diagnostic::global(format!("`{}` exists", pin.folder.display()));
        return Err(Error::usage(
            d.help(format!("choose another name, or remove it: `rtrace detach {name}`")),
        ));
    }
    alone::check(plan, name)
}

/// Keeps a run that is attached. If that fails, nothing is left.
///
/// # Errors
/// What cannot be kept, and why.
pub(super) fn keep(
    name: &str,
    loaded: &Loaded,
    elf: &[u8],
    links: &Links,
) -> Result<PathBuf, Error> {
    let pin = Pin::named(name)?;
    let kept = match links.pinnable() {
        Some(links) => keep_parts(&pin, loaded, elf, &links),
        None => {
            let d = Diagnostic::global("these probes cannot stay without rtrace");
            let d = d.note("this kernel has no links for perf events (Linux 5.15)");
            let help = "`tracepoint:syscalls`, `rawtracepoint`, `fentry` and `kprobe` on kernels with `kprobe_multi` can";
            return Err(Error::run(d.help(help)));
        }
    };
    kept.map_err(|e| {
        // Whatever else is wrong, this is what matters.
        let _ = pin.remove();
        Error::run(Diagnostic::global(format!("cannot pin `{name}`: {e}")))
    })?;
    Ok(pin.folder)
}

fn keep_parts(
    pin: &Pin,
    loaded: &Loaded,
    elf: &[u8],
    links: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<()> {
    fs::create_dir(&pin.folder)?;
    for part in [MAPS, PROGRAMS, LINKS] {
        fs::create_dir(pin.path(part))?;
    }
    let at = |part: &str, name: &str| perf::c_string(&pin.path(part).join(name).to_string_lossy());
    for map in loaded.object.maps() {
        let name = file_name(&map.name().to_string_lossy());
        sys::pin(map.as_fd(), &at(MAPS, &name)?)?;
    }
    for (name, program) in loaded.programs() {
        sys::pin(program.as_fd(), &at(PROGRAMS, &name.to_string_lossy())?)?;
    }
    for (number, link) in links.iter().enumerate() {
        sys::pin(*link, &at(LINKS, &number.to_string())?)?;
    }
    let bytes = Pinned::bytes(&loaded.plan, elf, links.len() as u64, SystemTime::now());
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let map = MapHandle::create(MapType::Array, Some("rt_object"), 4, size, 1, &options)
        .map_err(io::Error::other)?;
    map.update(&0u32.to_ne_bytes(), &bytes, MapFlags::ANY).map_err(io::Error::other)?;
    let path = perf::c_string(&pin.path(OBJECT).to_string_lossy())?;
    sys::pin(map.as_fd(), &path)
}

/// How many of a run's links are there.
fn links_left(pin: &Pin) -> u64 {
    let entries = fs::read_dir(pin.path(LINKS)).into_iter().flatten().flatten();
    entries.filter(|entry| sys::is_link(&entry.path())).count() as u64
}

/// A line for every pinned run.
///
/// # Errors
/// The BPF file system cannot be read.
pub fn list() -> Result<String, Error> {
    privileges::check()?;
    let entries = fs::read_dir(ROOT)
        .map_err(|e| Error::run(Diagnostic::global(format!("cannot read `{ROOT}`: {e}"))))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().join(LINKS).is_dir() && e.path().join(MAPS).is_dir())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut rows = vec![["NAME", "SINCE", "PROBES", "STATE"].map(str::to_owned)];
    for name in names {
        let Ok(pin) = Pin::named(&name) else { continue };
        let row = match pin.kept() {
            Ok(kept) => {
                let left = links_left(&pin);
                let state = match left == kept.links {
                    true => "attached".to_owned(),
                    false => format!(
                        "stale: {} of {} links are gone",
                        kept.links - left.min(kept.links),
                        kept.links
                    ),
                };
                let ago = SystemTime::now().duration_since(kept.since).unwrap_or_default();
                [name, age(ago), kept.object.plan.probe_count().to_string(), state]
            }
            Err(_) => [name, "-".into(), "-".into(), "stale: not a whole run".into()],
        };
        rows.push(row);
    }
    if rows.len() == 1 {
        return Ok("nothing is pinned\n".to_owned());
    }
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..4).map(|c| width(c).unwrap_or(0)).collect();
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    Ok(rows.iter().map(line).collect())
}

/// `3h`, `5m`, `12s`
fn age(time: Duration) -> String {
    match time.as_secs() {
        s if s >= 172_800 => format!("{}d", s / 86400),
        s if s >= 7200 => format!("{}h", s / 3600),
        s if s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// What to do with a pinned run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Show what it says until a signal comes, then its maps.
    Attach,
    /// Show its maps.
    Maps,
    /// Take it off, and end it as runs end.
    Detach,
}

/// The plan of a pinned run, for its output.
///
/// # Errors
/// There is none. For `Look::Detach`, what is not whole is removed, and that is all.
pub fn open(name: &str, look: Look) -> Result<Option<Object>, Error> {
    privileges::check()?;
    let pin = Pin::named(name)?;
    match pin.kept() {
        Ok(kept) => Ok(Some(kept.object)),
        // What others pinned has other parts.
        Err(_) if look == Look::Detach && pin.path(LINKS).is_dir() && pin.path(MAPS).is_dir() => {
            pin.remove().map_err(|e| pin.cannot_remove(&e))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Looks at a pinned run, or ends it; gives the exit status.
///
/// # Errors
/// It is not whole any more.
pub fn look(name: &str, object: Object, look: Look, output: &mut Output) -> Result<u8, Error> {
    match look_at(&Pin::named(name)?, object, look, output) {
        Ok(status) => Ok(status),
        Err(Stop::Closed) => Ok(0),
        Err(Stop::Error(error)) => Err(error),
    }
}

fn look_at(pin: &Pin, object: Object, look: Look, output: &mut Output) -> Result<u8, Stop> {
    let signals = catch_signals()?;
    let maps = pin.path(MAPS);
    let ending = look == Look::Detach;
    let with = |m: &Mechanism| ending && *m == Mechanism::End;
    let loaded = match load::reopen(object, &Reopen { maps: &maps, with: &with }) {
        Ok(loaded) => loaded,
        // What cannot be looked at can still be taken off.
        Err(error) if ending => {
            pin.remove().map_err(|e| pin.cannot_remove(&e))?;
            let list = error.diagnostics.list.into_iter();
            let list = list.map(|d| d.note("the run is taken off; what it counted is lost"));
            let diagnostics = Diagnostics { list: list.collect() };
            return Err(Stop::Error(Error { diagnostics, ..error }));
        }
        Err(error) => return Err(Stop::Error(error)),
    };
    let opened = Opened::of(&loaded)?;
    output.stacks(loaded.stacks()?);
    let mut events = Events::open(&loaded.plan, &opened, output)?;
    match look {
        Look::Maps => {}
        Look::Attach => {
            let watched = Watched {
                signals: signals.as_fd(),
                own: None,
                processes: Vec::new().into(),
                output: None,
                too_much: None,
                unwinding: None,
            };
            events.process(&watched)?;
        }
        Look::Detach => {
            remove_folder(&pin.path(LINKS)).map_err(|e| pin.cannot_remove(&e))?;
            events.drain()?;
            attach::run_end(&loaded, &Links::default().detach())?;
            events.drain()?;
        }
    }
    events.finish()?;
    let status = events.status();
    if ending {
        pin.remove().map_err(|e| pin.cannot_remove(&e))?;
    }
    Ok(status)
}
