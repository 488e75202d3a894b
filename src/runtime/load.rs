//! Object and plan into the kernel.
//!
//! Before loading: the parameter words are filled in, the event buffer gets
//! its size, tracing programs learn the BTF ids of their targets. After a
//! failure: what the kernel and libbpf said becomes a message at the script's
//! line. libbpf never writes to the terminal by itself.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use libbpf_rs::{MapCore, MapType, ObjectBuilder, OpenObject, PrintLevel, set_print};
use nix::time::ClockId;

use super::attach;
use super::btf_target::{self, Target, Wanted};
use super::error::Error;
use super::ledger::Shortfall;
use super::pin;
use super::refusal;
use super::stacks::Tables;
use super::verifier::{self, Explained, Statistics};
use crate::diag::Diagnostic;
use crate::host::cgroup::Cgroup;
use crate::object::Object;
use crate::plan::{self, Mechanism, MissingProbes, Param, Plan};
use crate::source::Span;

/// What loading depends on beside the object.
pub(super) struct Setup<'a> {
    /// Process id of the `-c` child.
    pub child: Option<u32>,
    /// `-p`.
    pub target: Option<u32>,
    /// `--cgroup`.
    pub cgroup: Option<&'a Cgroup>,
    /// `-d libbpf`: libbpf's messages as they come.
    pub show_libbpf: bool,
    /// `-d verifier`: the verifier's log of every program.
    pub show_verifier: bool,
    /// `-v`: what the verifier did is kept.
    pub statistics: bool,
    /// Number of CPUs that are online.
    pub cpus: usize,
    /// Pages of rows for unwinding user stacks.
    pub unwind_pages: u32,
    /// Finds what a tracing program is for, or says why it cannot.
    pub find_target: &'a dyn Fn(Wanted<'_>) -> Result<Target, String>,
}

/// An object whose programs and maps are in the kernel.
pub(super) struct Loaded {
    pub object: libbpf_rs::Object,
    pub plan: Plan,
    /// Why a program is not in the kernel (its target is missing, and the
    /// policy for missing probes allows that), by its index in the plan.
    pub left_out: HashMap<usize, Diagnostic>,
    /// What the verifier said at the end of each program's log, if that was asked for.
    pub verified: HashMap<String, Statistics>,
}

/// How often the kernel did not run a program because it was running already.
/// Zero where the kernel does not tell (before 5.12).
fn recursion_misses(program: BorrowedFd<'_>) -> u64 {
    info(program).map_or(0, |info| info.recursion_misses)
}

/// Nanoseconds that the program has run while the kernel measured.
pub(super) fn run_time(program: BorrowedFd<'_>) -> u64 {
    info(program).map_or(0, |info| info.run_time_ns)
}

/// What the kernel says of a program.
pub(super) fn info(program: BorrowedFd<'_>) -> Option<libbpf_sys::bpf_prog_info> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = u32::try_from(size_of::<libbpf_sys::bpf_prog_info>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to `info`, and all of its
    // pointers are null.
    let result = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size)
    };
    (result == 0).then_some(info)
}

impl Loaded {
    /// The descriptor of a map by its name in the object.
    pub(super) fn map(&self, name: &str) -> Option<libbpf_rs::Map<'_>> {
        self.object.maps().find(|m| m.name() == name)
    }

    /// The frames of the stacks that the programs take.
    ///
    /// # Errors
    /// No descriptor is left for a table.
    pub(super) fn stacks(&self) -> Result<Tables, Error> {
        let mut tables = Tables::default();
        for map in self.object.maps() {
            if let Some(limit) = map.name().to_str().and_then(plan::stack_table_limit) {
                tables.add(limit, map.as_fd()).map_err(|e| {
                    Error::run(Diagnostic::global(format!("cannot read stacks: {e}")))
                })?;
            }
        }
        Ok(tables)
    }

    /// What the kernel kept from programs: it does not run one while it still
    /// runs on the same CPU (`recursion_misses`, linux/bpf.h), which happens
    /// where one interrupts itself, or is preempted on newer kernels.
    pub(super) fn missed(&self) -> Vec<(Option<Span>, Shortfall, u64)> {
        let programs = self.programs();
        let count =
            |name: &str| programs.get(OsStr::new(name)).map(|p| recursion_misses(p.as_fd()));
        let about = |program: &plan::Program| {
            if program.name.starts_with(plan::SERVICE) {
                return Some((None, Shortfall::Processes));
            }
            // What other programs miss that serve probes, these count themselves.
            let own = program.attach.iter().find(|a| !a.probes.is_empty())?;
            let provider = own.probes.first().and_then(|name| name.split(':').next());
            let instead = own.mechanism.not_preempted().filter(|name| provider != Some(*name));
            Some((Some(program.span), Shortfall::Busy { instead }))
        };
        let missed = |program: &plan::Program| {
            let (span, what) = about(program)?;
            Some((span, what, count(&program.name)?))
        };
        self.plan.programs.iter().filter_map(missed).collect()
    }

    /// The programs that are in the kernel, by name.
    pub(super) fn programs(&self) -> HashMap<&OsStr, libbpf_rs::Program<'_>> {
        self.object.progs().map(|p| (p.name(), p)).collect()
    }
}

/// Loads an object.
///
/// # Errors
/// The kernel refuses a program or a map, or the object and its plan disagree.
pub(super) fn load(object: Object, setup: &Setup<'_>) -> Result<Loaded, Error> {
    let Object { elf, plan } = object;
    raise_file_limit(&plan, setup.cpus);
    btf_target::register();
    listen(setup.show_libbpf);
    let mut left_out = HashMap::new();
    loop {
        match load_once(&elf, &plan, setup, &mut left_out) {
            Ok((object, verified)) => return Ok(Loaded { object, plan, left_out, verified }),
            // Each round leaves one program more out, so this ends.
            Err(Failure::Target { program, diagnostic, .. })
                if plan.config.missing_probes != MissingProbes::Error =>
            {
                left_out.insert(program, *diagnostic);
            }
            Err(Failure::Target { diagnostic, log, .. }) => {
                return Err(Error::run(attach::with_policy(&plan, *diagnostic)).log(log));
            }
            Err(Failure::Other(error)) => return Err(*error),
        }
    }
}

/// A run that is in the kernel already, and what is wanted of it.
pub(super) struct Reopen<'a> {
    /// The folder of its maps in the BPF file system.
    pub maps: &'a Path,
    /// The programs that are loaded once more, to be run here.
    pub with: &'a dyn Fn(&Mechanism) -> bool,
}

/// Opens a pinned run through its object: the maps are those that are there.
///
/// # Errors
/// One of them is missing.
pub(super) fn reopen(object: Object, run: &Reopen<'_>) -> Result<Loaded, Error> {
    let Object { elf, plan } = object;
    listen(false);
    let mut opened = open(&elf)?;
    for mut map in opened.maps_mut() {
        let path = run.maps.join(pin::file_name(&map.name().to_string_lossy()));
        map.reuse_pinned_map(&path).map_err(|e| {
            let d = Diagnostic::global(format!("`{}` is missing: {e}", path.display()));
            Error::run(d.note("something else has removed a part of the pinned run"))
        })?;
    }
    let wanted = |p: &&plan::Program| p.attach.iter().any(|a| (run.with)(&a.mechanism));
    let wanted: HashSet<&OsStr> =
        plan.programs.iter().filter(wanted).map(|p| OsStr::new(&p.name)).collect();
    for mut program in opened.progs_mut() {
        if !wanted.contains(program.name()) {
            program.set_autoload(false);
        }
    }
    heard();
    let loaded = opened.load().map_err(|e| {
        let d = Diagnostic::global(format!("the pinned run cannot be opened: {e}"));
        Error::run(with_messages(d, &heard()))
    })?;
    Ok(Loaded { object: loaded, plan, left_out: HashMap::new(), verified: HashMap::new() })
}

/// Raises the limit of open files to what the plan needs, if it may be raised.
fn raise_file_limit(plan: &Plan, cpus: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let links = plan.programs.iter().flat_map(|p| &p.attach);
    let on_all_cpus = |m: &Mechanism| matches!(m, Mechanism::Perf { cpus: plan::Cpus::All, .. });
    // A link and its event, on each CPU or once; and some to spare.
    let files: usize = links
        .map(|attach| match on_all_cpus(&attach.mechanism) {
            true => 2 * cpus,
            false => 3,
        })
        .sum();
    let wanted = (files + plan.maps.len() + plan.programs.len() + 50) as u64;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if wanted > soft {
        // If it may not be raised, attaching says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard))
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    }
}

/// Why an object did not load.
enum Failure {
    /// What a program is for does not exist or cannot be traced.
    Target {
        program: usize,
        diagnostic: Box<Diagnostic>,
        log: String,
    },
    Other(Box<Error>),
}

impl Failure {
    fn other(error: Error) -> Failure {
        Failure::Other(Box::new(error))
    }
}

fn load_once(
    elf: &[u8],
    plan: &Plan,
    setup: &Setup<'_>,
    left_out: &mut HashMap<usize, Diagnostic>,
) -> Result<(libbpf_rs::Object, HashMap<String, Statistics>), Failure> {
    let targets = find_targets(plan, setup, left_out)?;
    let mut object = open(elf).map_err(Failure::other)?;
    set_params(&mut object, plan, setup).map_err(Failure::other)?;
    set_kinds(&mut object, plan);
    set_buffer_size(&mut object, plan).map_err(Failure::other)?;
    set_scratch_size(&mut object).map_err(Failure::other)?;
    set_unwind_pages(&mut object, setup.unwind_pages).map_err(Failure::other)?;
    choose_programs(&mut object, plan, left_out);
    let logs = match (setup.show_verifier, setup.statistics) {
        (true, _) => {
            let size = usize::try_from(plan.config.log_size).unwrap_or(0);
            ask_for_logs(&mut object, BRANCHES | STATISTICS, size.clamp(64 << 10, 1 << 30))
        }
        (false, true) => ask_for_logs(&mut object, STATISTICS, 4 << 10),
        (false, false) => vec![],
    };
    heard();
    let loaded = btf_target::with_targets(targets, || object.load());
    if setup.show_verifier {
        for (name, log) in &logs {
            show(&format!("verifier log of {name}:\n{}", until_nul(log)));
        }
    }
    let statistics =
        |(name, log): &(String, Vec<u8>)| Some((name.clone(), Statistics::read(&until_nul(log))?));
    match loaded {
        Ok(object) => Ok((object, logs.iter().filter_map(statistics).collect())),
        // Where we keep the logs, libbpf does not, and says less.
        Err(_) if !logs.is_empty() => {
            let plainly = Setup { show_verifier: false, statistics: false, ..*setup };
            load_once(elf, plan, &plainly, left_out)
        }
        Err(e) => Err(explain(plan, elf, &e, &heard())),
    }
}

fn open(elf: &[u8]) -> Result<OpenObject, Error> {
    let mut builder = ObjectBuilder::default();
    let opened = builder.name("rtrace").and_then(|b| b.open_memory(elf));
    opened.map_err(|e| {
        let log = heard();
        let diagnostic = Diagnostic::global(format!("the compiled script cannot be read: {e}"));
        Error::run(with_messages(diagnostic, &log)).log(log.concat())
    })
}

/// Looks up what tracing programs are for. A target that is missing leaves
/// its program out.
fn find_targets(
    plan: &Plan,
    setup: &Setup<'_>,
    left_out: &mut HashMap<usize, Diagnostic>,
) -> Result<HashMap<CString, Target>, Failure> {
    let mut targets = HashMap::new();
    for (index, program) in plan.programs.iter().enumerate() {
        let Some(attach) = program.attach.first() else { continue };
        if left_out.contains_key(&index) {
            continue;
        }
        let Some(wanted) = Wanted::of(&attach.mechanism) else { continue };
        match (setup.find_target)(wanted) {
            Ok(target) => {
                let name = CString::new(program.name.as_str())
                    .expect("bug: the name of a program is a C identifier");
                targets.insert(name, target);
            }
            Err(reason) => {
                let diagnostic = Box::new(cannot_attach(attach).note(reason));
                return Err(Failure::Target { program: index, diagnostic, log: String::new() });
            }
        }
    }
    Ok(targets)
}

/// The start of every message about a probe that the kernel does not take.
pub(super) fn cannot_attach(attach: &plan::Attach) -> Diagnostic {
    let message = match (attach.probes.first(), attach.probes.len()) {
        (None, _) => "cannot attach a probe without a name".to_owned(),
        (Some(only), 1) => format!("cannot attach `{only}`"),
        (Some(first), all) => format!("cannot attach `{first}` and {} more", all - 1),
    };
    Diagnostic::error(attach.span, message)
}

/// Tells the kernel which programs are for links of many places; their sections do not say so in an
/// object that is for kernels without such links, too.
fn set_kinds(object: &mut OpenObject, plan: &Plan) {
    let mut kinds: HashMap<&OsStr, libbpf_sys::bpf_attach_type> = HashMap::new();
    for program in plan.programs.iter().filter(|p| !p.points.is_empty()) {
        let kind = program.attach.iter().find_map(|a| match a.mechanism {
            Mechanism::KprobeMulti { .. } => Some(libbpf_sys::BPF_TRACE_KPROBE_MULTI),
            Mechanism::UprobeMulti { .. } => Some(libbpf_sys::BPF_TRACE_UPROBE_MULTI),
            _ => None,
        });
        kinds.extend(kind.map(|kind| (OsStr::new(&program.name), kind)));
    }
    for program in object.progs_mut() {
        if let Some(kind) = kinds.get(program.name()).copied() {
            let raw = libbpf_rs::AsRawLibbpf::as_libbpf_object(&program).as_ptr();
            // SAFETY: the program belongs to an object that is open and not yet loaded, when this
            // cannot fail.
            unsafe { libbpf_sys::bpf_program__set_expected_attach_type(raw, kind) };
        }
    }
}

/// Fills in the words that programs read as constants.
fn set_params(object: &mut OpenObject, plan: &Plan, setup: &Setup<'_>) -> Result<(), Error> {
    if plan.params.is_empty() {
        return Ok(());
    }
    let mut words = Vec::with_capacity(plan.params.len() * 8);
    for param in &plan.params {
        let value = param_value(*param, setup).map_err(|e| {
            Error::run(Diagnostic::global(format!("cannot find out the {param:?} parameter: {e}")))
        })?;
        words.extend(value.to_ne_bytes());
    }
    let mut map = object
        .maps_mut()
        .find(|m| m.name() == plan::PARAMS_SECTION)
        .ok_or_else(|| damaged(&format!("it has no section `{}`", plan::PARAMS_SECTION)))?;
    let bytes = map.initial_value_mut().unwrap_or_default();
    let bytes = bytes
        .get_mut(..words.len())
        .ok_or_else(|| damaged("its parameters take more room than it has"))?;
    bytes.copy_from_slice(&words);
    Ok(())
}

fn param_value(param: Param, setup: &Setup<'_>) -> io::Result<u64> {
    Ok(match param {
        Param::StartTime => nanoseconds(ClockId::CLOCK_BOOTTIME)?,
        Param::TaiOffset => {
            let boot = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
            nanoseconds(ClockId::CLOCK_TAI)?.wrapping_sub(boot)
        }
        Param::ChildPid => setup.child.map_or(0, u64::from),
        Param::TargetPid => setup.target.map_or(0, u64::from),
        Param::PidNamespaceDevice => {
            // The helper compares with the kernel's own form of the number.
            let device = nix::sys::stat::stat("/proc/self/ns/pid")?.st_dev;
            (u64::from(libc::major(device)) << 20) | u64::from(libc::minor(device))
        }
        Param::PidNamespaceInode => nix::sys::stat::stat("/proc/self/ns/pid")?.st_ino,
        Param::OwnPid => u64::from(std::process::id()),
        Param::ScopeCgroup => setup.cgroup.map_or(0, |c| c.id),
        Param::ScopeLevel => setup.cgroup.map_or(0, |c| c.level.into()),
        Param::Known(word) => word,
        // An object that nobody has matched with the machine.
        Param::Argument { .. } | Param::Lookup(_) | Param::Option { .. } => 0,
        Param::CpuCount => libbpf_rs::num_possible_cpus().map_err(io::Error::other)? as u64,
    })
}

/// A clock of this machine.
fn nanoseconds(clock: ClockId) -> io::Result<u64> {
    let now = nix::time::clock_gettime(clock)?;
    Ok(now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}

/// Events that the ring buffer has room for, unless its size is given.
const EVENTS_ROOM: u64 = 32 << 10;

/// Making and mapping a ring buffer costs 0.4 ms per MiB, a good part of the
/// time of a whole start, so small events get a small buffer.
const MIN_BUFFER: u64 = 1 << 20;
const MAX_BUFFER: u64 = 16 << 20;

/// Gives a map of large values that is not kept per CPU its entries for every CPU.
fn set_scratch_size(object: &mut OpenObject) -> Result<(), Error> {
    let Some(mut map) = object.maps_mut().find(|m| m.name() == plan::SCRATCH_MAP) else {
        return Ok(());
    };
    if map.map_type() != MapType::Array {
        return Ok(());
    }
    let failed = |e: libbpf_rs::Error| {
        Error::run(Diagnostic::global(format!("cannot make room for large values: {e}")))
    };
    let cpus = libbpf_rs::num_possible_cpus().map_err(failed)?;
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let entries = map.max_entries().saturating_mul(cpus);
    map.set_max_entries(entries).map_err(failed)
}

/// Gives the map of rows for unwinding its pages.
fn set_unwind_pages(object: &mut OpenObject, pages: u32) -> Result<(), Error> {
    let Some(mut map) = object.maps_mut().find(|m| m.name() == plan::UNWIND_ROWS_MAP) else {
        return Ok(());
    };
    map.set_max_entries(pages.max(1)).map_err(|e| {
        Error::run(Diagnostic::global(format!("cannot make room for unwinding user stacks: {e}")))
    })
}

/// Gives the event buffer its size.
fn set_buffer_size(object: &mut OpenObject, plan: &Plan) -> Result<(), Error> {
    let Some(mut map) = object.maps_mut().find(|m| m.name() == plan::EVENTS_MAP) else {
        return Ok(());
    };
    let free = nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |info| info.ram_unused());
    let bytes = buffer_size(plan, page_size(), free);
    let bytes = u32::try_from(bytes).unwrap_or(1 << 31);
    map.set_max_entries(bytes)
        .map_err(|e| Error::run(Diagnostic::global(format!("cannot size the event buffer: {e}"))))
}

/// Bytes for the event buffer: a power of two and at least one page.
fn buffer_size(plan: &Plan, page: u64, free: u64) -> u64 {
    let pages = plan.config.perf_rb_pages;
    if pages > 0 {
        return page.saturating_mul(pages).min(1 << 31).next_power_of_two();
    }
    // Each record has a header of 8 bytes and is padded to 8.
    let Some(largest) = plan.events.iter().map(|e| u64::from(e.size).next_multiple_of(8) + 8).max()
    else {
        return page;
    };
    let wanted = (largest * EVENTS_ROOM).next_power_of_two().clamp(MIN_BUFFER, MAX_BUFFER);
    while_larger(wanted, free).max(256 << 10).max(page)
}

/// `size` halved until it fits.
fn while_larger(mut size: u64, limit: u64) -> u64 {
    while size > limit {
        size /= 2;
    }
    size
}

pub(super) fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(4096)
}

/// Leaves out what the plan does not name, or what cannot be attached anyway.
fn choose_programs(object: &mut OpenObject, plan: &Plan, left_out: &HashMap<usize, Diagnostic>) {
    let numbered = plan.programs.iter().enumerate();
    let chosen: HashSet<&OsStr> = numbered
        .filter(|(index, _)| !left_out.contains_key(index))
        .map(|(_, program)| OsStr::new(&program.name))
        .collect();
    for mut program in object.progs_mut() {
        let wanted = chosen.contains(program.name());
        if !wanted {
            program.set_autoload(false);
        }
    }
}

/// An object that does not keep what its plan says.
pub(super) fn damaged(how: &str) -> Error {
    Error::run(Diagnostic::global(format!("the compiled script is damaged: {how}")))
}

/// What the verifier's log has (`BPF_LOG_LEVEL1` and `BPF_LOG_STATS`, linux/bpf_verifier.h).
const BRANCHES: u32 = 1;
const STATISTICS: u32 = 4;

/// Has the verifier's log of every program kept.
fn ask_for_logs(object: &mut OpenObject, level: u32, size: usize) -> Vec<(String, Vec<u8>)> {
    object
        .progs_mut()
        .map(|mut program| {
            let mut log = vec![0u8; size];
            program.set_log_level(level);
            let raw = libbpf_rs::AsRawLibbpf::as_libbpf_object(&program).as_ptr();
            // SAFETY: the buffer is on the heap and outlives the object's
            // loading, after which libbpf does not touch it any more.
            unsafe {
                libbpf_sys::bpf_program__set_log_buf(
                    raw,
                    log.as_mut_ptr().cast(),
                    log.len() as libbpf_sys::size_t,
                );
            }
            (program.name().to_string_lossy().into_owned(), log)
        })
        .collect()
}

fn until_nul(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|&b| b == 0).next().unwrap_or_default())
}

/// Turns a failure into a message.
fn explain(plan: &Plan, elf: &[u8], error: &libbpf_rs::Error, messages: &[String]) -> Failure {
    let log = messages.concat();
    if let Some(rejection) = verifier::find_rejection(messages) {
        let found = plan.programs.iter().position(|p| p.name == rejection.program);
        let program = found.and_then(|index| Some((index, plan.programs.get(index)?)));
        if let Some((index, program)) = program {
            if let Some(attach) = program.attach.first()
                && Wanted::of(&attach.mechanism).is_some()
                && rejection.is_about_target()
            {
                // It is not about privileges: those were checked at the start.
                let reason = match rejection.reason().unwrap_or(rejection.errno) {
                    "-EPERM" => "this kernel was built without the tracing of functions",
                    reason => reason,
                };
                let diagnostic = cannot_attach(attach)
                    .note(format!("the kernel refuses it: {reason}"))
                    .help("use `kprobe` or a tracepoint instead");
                let diagnostic = Box::new(diagnostic);
                return Failure::Target { program: index, diagnostic, log };
            }
            if rejection.log.is_empty() {
                let diagnostic = refusal::program(program.span, rejection.errno, messages);
                return Failure::other(Error::run(diagnostic).log(log));
            }
            let Explained { diagnostic, story } =
                rejection.explain(&plan.sources, program.span, elf);
            let log = match story.is_empty() {
                true => log,
                false => format!("how it came to this:\n{}\n\n{log}", story.join("\n")),
            };
            return Failure::other(Error::run(diagnostic).log(log));
        }
    }
    let refused = refusal::find_failed_map(messages)
        .map(|(name, errno)| refusal::map(plan, name, errno, messages));
    let diagnostic = match refused.or_else(|| refusal::library(plan, messages)) {
        Some(diagnostic) => diagnostic,
        None => with_messages(
            Diagnostic::global(format!("the compiled script does not load: {error}")),
            messages,
        ),
    };
    Failure::other(Error::run(diagnostic).log(log))
}

/// Adds what libbpf said.
fn with_messages(mut diagnostic: Diagnostic, messages: &[String]) -> Diagnostic {
    for message in messages {
        diagnostic = diagnostic.note(message.trim_end().to_owned());
    }
    diagnostic
}

/// What libbpf said since the last call of [`heard`].
static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps libbpf's warnings from the terminal; or shows all that it says.
pub(super) fn listen(show: bool) {
    set_print(Some(if show {
        (PrintLevel::Debug, show_message)
    } else {
        (PrintLevel::Warn, keep)
    }));
}

fn keep(_: PrintLevel, message: String) {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).push(message);
}

fn show_message(level: PrintLevel, message: String) {
    let tag = match level {
        PrintLevel::Debug => "DEBUG",
        PrintLevel::Info => "INFO",
        PrintLevel::Warn => "WARN",
    };
    show(&format!("[{tag}] {message}"));
    if level == PrintLevel::Warn {
        keep(level, message);
    }
}

/// Debug output, which is no part of the script's.
fn show(text: &str) {
    use std::io::Write;
    // Nobody to tell if even that fails.
    let _ = io::stderr().write_all(text.as_bytes());
}

pub(super) fn heard() -> Vec<String> {
    std::mem::take(&mut *MESSAGES.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_buffer_fits_the_events_and_the_machine() {
        let mut plan = super::super::tests::empty_plan();
        assert_eq!(buffer_size(&plan, 4096, u64::MAX), 4096);
        plan.events.push(super::super::tests::exit_event());
        assert_eq!(buffer_size(&plan, 4096, u64::MAX), MIN_BUFFER);
        assert_eq!(buffer_size(&plan, 4096, 600 << 10), 512 << 10);
        assert_eq!(buffer_size(&plan, 4096, 0), 256 << 10);
        plan.events.iter_mut().for_each(|e| e.size = 2000);
        assert_eq!(buffer_size(&plan, 4096, u64::MAX), MAX_BUFFER);
        plan.config.perf_rb_pages = 3;
        assert_eq!(buffer_size(&plan, 4096, 0), 16 << 10);
    }
}
