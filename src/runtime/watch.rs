//! `rtrace stats`: what the programs of other rtrace processes cost, as they run.
//!
//! Programs belong to the processes that have descriptors of them, which `/proc/PID/fdinfo`
//! tells. The kernel measures while this runs, as it does for `--stats`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::accounts::{measure, percent};
use super::{Error, bpf_functions, load, sys};
use crate::diag::Diagnostic;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only programs of this process, whatever it is.
    pub pid: Option<u32>,
    /// All BPF programs, those of other tools too.
    pub all: bool,
    pub interval: Duration,
    /// How many tables; without end if absent.
    pub times: Option<u64>,
}

/// A program, and what it had cost when it was looked at last.
struct Watched {
    program: OwnedFd,
    name: String,
    pid: Option<u32>,
    runs: u64,
    nanoseconds: u64,
}

/// Writes a table of the programs' costs after each interval.
///
/// # Errors
/// The kernel does not measure, or nobody may ask it. A closed output is a quiet end.
pub fn watch(options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    let _measured = measure("rtrace stats")?;
    let mut known: BTreeMap<u32, Watched> = BTreeMap::new();
    look(options, &mut known)?;
    let mut rounds = 0;
    while options.times.is_none_or(|times| rounds < times) {
        let start = Instant::now();
        thread::sleep(options.interval);
        let text = table(&mut known, start.elapsed());
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        look(options, &mut known)?;
        rounds += 1;
    }
    Ok(())
}

/// Takes in programs that have come and forgets those that are gone.
fn look(options: &Options, known: &mut BTreeMap<u32, Watched>) -> Result<(), Error> {
    let owners = owners(options);
    let mut ids: Vec<u32> = owners.keys().copied().collect();
    if options.all && options.pid.is_none() {
        let mut id = 0;
        while let Ok(next) = sys::next_program(id) {
            id = next;
            ids.push(id);
        }
    }
    known.retain(|id, _| ids.contains(id));
    for id in ids {
        if known.contains_key(&id) {
            continue;
        }
        let program = match sys::program_by_id(id) {
            Ok(program) => program,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                let d = Diagnostic::global("programs of other processes cannot be looked at");
                return Err(Error::usage(
                    d.help("`rtrace stats` needs the capability CAP_SYS_ADMIN"),
                ));
            }
            // It has gone meanwhile.
            Err(_) => continue,
        };
        let Some(info) = load::info(program.as_fd()) else { continue };
        let name = bpf_functions::name(id, program.as_fd()).unwrap_or_else(|| short_name(&info));
        let (runs, nanoseconds) = (info.run_cnt, info.run_time_ns);
        let pid = owners.get(&id).copied();
        known.insert(id, Watched { program, name, pid, runs, nanoseconds });
    }
    Ok(())
}

/// The kernel's name of a program, of 15 characters at most.
fn short_name(info: &libbpf_sys::bpf_prog_info) -> String {
    let bytes = info.name.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// Programs by their ids, and a process that has a descriptor of each.
fn owners(options: &Options) -> BTreeMap<u32, u32> {
    let mut owners = BTreeMap::new();
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let wanted = match options.pid {
            Some(only) => pid == only,
            None => pid != own && (options.all || is_rtrace(&process.path())),
        };
        if !wanted {
            continue;
        }
        for file in fs::read_dir(process.path().join("fdinfo")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let id =
                text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
            if let Some(id) = id {
                owners.entry(id).or_insert(pid);
            }
        }
    }
    owners
}

fn is_rtrace(process: &Path) -> bool {
    let program = fs::read_link(process.join("exe")).unwrap_or_default();
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // As the kernel shows a binary that has been replaced.
    name.trim_end_matches(" (deleted)") == "rtrace"
}

/// A row for each program, the most expensive first, and their sum.
fn table(known: &mut BTreeMap<u32, Watched>, passed: Duration) -> String {
    let mut rows: Vec<(u64, u64, String, String)> = Vec::new();
    for watched in known.values_mut() {
        let Some(info) = load::info(watched.program.as_fd()) else { continue };
        let runs = info.run_cnt.saturating_sub(watched.runs);
        let nanoseconds = info.run_time_ns.saturating_sub(watched.nanoseconds);
        (watched.runs, watched.nanoseconds) = (info.run_cnt, info.run_time_ns);
        let pid = watched.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        rows.push((nanoseconds, runs, pid, watched.name.clone()));
    }
    rows.sort_by(|a, b| b.cmp(a));
    let (nanoseconds, runs) = rows.iter().fold((0, 0), |(n, r), row| (n + row.0, r + row.1));
    rows.push((nanoseconds, runs, String::new(), "in all".to_owned()));
    let head = ("process", "runs/s", "ns each", "of a CPU");
    let mut text = format!("{:>8} {:>10} {:>10} {:>9}  program\n", head.0, head.1, head.2, head.3);
    for (nanoseconds, runs, pid, name) in rows {
        let rate = u128::from(runs) * 1_000_000_000 / passed.as_nanos().max(1);
        let each = nanoseconds.checked_div(runs).unwrap_or(0);
        let share = percent(nanoseconds, passed);
        text += &format!("{pid:>8} {rate:>10} {each:>10} {share:>8.3}%  {name}\n");
    }
    text.push('\n');
    text
}
