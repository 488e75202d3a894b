//! Binaries that user-space probes are in, whatever the kind of probe: which
//! files a target means, and links to places in them.
//!
//! Places are file offsets, so that the run side needs no symbol table. All
//! places of a binary are one `uprobe.multi` link if the kernel has that (also
//! a single one: it is removed much faster), else perf uprobes with the same
//! program.

use std::path::{Path, PathBuf};

use super::text::Part;
use super::{Looked, Request};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::elf::Binary;
use crate::host::features::Feature;
use crate::host::{Host, archive};
use crate::plan::{Attach, Mechanism};

/// A place in a binary.
pub(super) struct Place {
    /// Full name of the probe.
    pub(super) name: String,
    pub(super) symbol: String,
    /// Of the function that begins here, as the binary counts.
    pub(super) function: Option<u64>,
    /// In the file.
    pub(super) offset: u64,
    /// Where in the file the kernel counts who watches the place; 0 if nobody
    /// wants to know.
    pub(super) counter: u64,
    /// From the start of the function, where it returns.
    pub(super) distance: u64,
}

/// Places by binary.
pub(super) type Places = Vec<(PathBuf, Vec<Place>)>;

/// Adds a place to those of its binary.
pub(super) fn add(places: &mut Places, path: PathBuf, place: Place) {
    match places.iter_mut().find(|(known, _)| *known == path) {
        Some((_, of_it)) => of_it.push(place),
        None => places.push((path, vec![place])),
    }
}

/// The executable of `-p`.
pub(super) fn own_executable(request: &Request<'_>) -> Result<PathBuf, Box<Diagnostic>> {
    let pid = request.options.pid.unwrap_or(0);
    let path = request.host.executable(pid).map_err(|reason| {
        let message = format!("the executable of process {pid} is not known");
        Box::new(Diagnostic::error(request.span(), message).note(reason))
    })?;
    Ok(in_root(&request.host.root_of(Some(pid)), &path))
}

/// A binary that may be traced; any ELF file with `--unsafe`.
///
/// # Errors
/// Why it cannot be, as a phrase.
pub(super) fn open(request: &Request<'_>, path: &Path) -> Result<Binary, String> {
    let path = request.host.path(path);
    match request.options.unsafe_mode {
        true => Binary::open_any(&path),
        false => Binary::open(&path),
    }
}

pub(super) fn in_root(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The files that a target means, or that there is none.
pub(super) fn files(
    request: &Request<'_>,
    target: &Part,
    diags: &mut Diagnostics,
) -> Looked<Vec<PathBuf>> {
    let (host, text) = (request.host, target.text.as_str());
    let root = host.root_of(request.options.pid);
    if text == "*" {
        return Ok(Ok(host.mapped_files(request.options.pid)));
    }
    if text.is_empty() {
        return Err(request.wrong_parts());
    }
    if text.contains('/') {
        let absolute = match text.starts_with('/') {
            true => in_root(&root, Path::new(text)),
            false => host.from_here(text),
        };
        let shown = absolute.to_string_lossy().into_owned();
        if text.contains(['*', '?', '[']) && !target.quoted {
            return Ok(Ok(host.glob(&shown)));
        }
        if let Some(found) = archive::place(&host.path(&absolute)) {
            let d = Diagnostic::error(target.span, format!("there is no file `{text}`"));
            return Ok(found.map(|_| vec![absolute]).map_err(|reason| Box::new(d.note(reason))));
        }
        if !host.path(&absolute).exists() {
            let d = Diagnostic::error(target.span, format!("there is no file `{text}`"));
            return Ok(Err(Box::new(d)));
        }
        return Ok(Ok(vec![absolute]));
    }
    if target.is_wildcard() {
        let d = request.error_at(target, format!("`{text}` is no path"));
        return Err(Box::new(d.help("a pattern for files must be a path, as in `/usr/bin/py*`")));
    }
    if text.starts_with("lib")
        && let Some(path) = host.library(text)
    {
        return Ok(Ok(vec![in_root(&root, &path)]));
    }
    let mut programs = host.programs(text);
    if programs.len() > 1 {
        let shown: Vec<String> = programs.iter().map(|p| format!("`{}`", p.display())).collect();
        diags.push(
            Diagnostic::warning(
                Warning::Ambiguous,
                target.span,
                format!("there are several programs `{text}`"),
            )
            .note(format!("the first of {} is meant", shown.join(", ")))
            .help("write the whole path"),
        );
        programs.truncate(1);
    }
    if programs.is_empty() {
        let what = if text.starts_with("lib") { "library or program" } else { "program" };
        let d = Diagnostic::error(target.span, format!("there is no {what} `{text}`"))
            .note("neither the loader's libraries nor the directories of `$PATH` have it");
        return Ok(Err(Box::new(d)));
    }
    Ok(Ok(programs.iter().map(|p| in_root(&root, p)).collect()))
}

/// Links to places in some binaries.
pub(super) struct Linked {
    /// The links of each program: one program, unless the kernel cannot tell it
    /// which probe fired and it asks.
    pub(super) programs: Vec<Vec<Attach>>,
    /// They are `uprobe.multi` links.
    pub(super) multi: bool,
}

/// Links to places, by binary.
pub(super) fn link(request: &Request<'_>, binaries: Places, ret: bool) -> Linked {
    let host = request.host;
    let whole_process = request.options.pid.is_none() || host.has(Feature::UprobeMultiPid);
    let multi = host.has(Feature::UprobeMulti) && whole_process;
    let mut names = binaries.iter().flat_map(|(_, places)| places).map(|p| p.name.as_str());
    let first = names.next();
    let wants_cookies = request.needs.probe_name && names.any(|name| Some(name) != first);
    let mut next = 0u64;
    let mut cookies = |count: usize| -> Vec<u64> {
        let first = next;
        next += count as u64;
        if wants_cookies { (first..next).collect() } else { Vec::new() }
    };
    let mut attach: Vec<Attach> = Vec::new();
    for (path, places) in binaries {
        // In an archive, the kernel counts from the archive's start.
        let inside = archive::place(&host.path(&path)).and_then(Result::ok);
        let start = inside.map_or(0, |(_, range)| range.start);
        let path = archive::split(&path).map_or(path.clone(), |(archive, _)| archive);
        let path = path.to_string_lossy().into_owned();
        let moved = |place: Place| Place {
            offset: place.offset + start,
            counter: if place.counter == 0 { 0 } else { place.counter + start },
            ..place
        };
        let places = places.into_iter().map(moved);
        if multi {
            let cookies = cookies(places.len());
            let (mut names, mut symbols, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
            let mut counters = Vec::new();
            for place in places {
                names.push(place.name);
                symbols.push(place.symbol);
                offsets.push(place.offset);
                counters.push(place.counter);
            }
            if counters.iter().all(|c| *c == 0) {
                counters.clear();
            }
            let mechanism = Mechanism::UprobeMulti { path, symbols, offsets, counters, ret };
            attach.push(Attach { cookies, ..request.attach(names, mechanism) });
        } else {
            attach.extend(places.map(|place| {
                let Place { name, symbol, offset, counter, .. } = place;
                let path = path.clone();
                let mechanism = Mechanism::Uprobe { path, symbol, offset, counter, ret };
                Attach { cookies: cookies(1), ..request.attach(vec![name], mechanism) }
            }));
        }
    }
    if wants_cookies && !host.has(Feature::AttachCookie) {
        let alone = |a| vec![Attach { cookies: Vec::new(), ..a }];
        return Linked { programs: attach.into_iter().map(alone).collect(), multi };
    }
    Linked { programs: vec![attach], multi }
}

/// The files that a listing is about. Without a target: those of the process, as
/// `own` gives them.
pub(super) fn listed_files(
    host: &Host,
    target: Option<&Part>,
    pid: Option<u32>,
    own: &dyn Fn(u32) -> Result<Vec<PathBuf>, String>,
) -> Result<Vec<PathBuf>, String> {
    let text = target.map_or("", |t| t.text.as_str());
    let root = host.root_of(pid);
    Ok(match text {
        "" => match pid {
            Some(pid) => own(pid)?,
            None => return Err("name a file, as in `/bin/bash`".into()),
        },
        "*" => host.mapped_files(pid),
        _ if text.contains('/') => {
            let path = match text.starts_with('/') {
                true => in_root(&root, Path::new(text)),
                false => host.from_here(text),
            };
            match host.path(&path).exists() || archive::split(&path).is_some() {
                true => vec![path],
                false => host.glob(&path.to_string_lossy()),
            }
        }
        _ => host.library(text).into_iter().chain(host.programs(text)).take(1).collect(),
    })
}
