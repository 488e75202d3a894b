//! The run side: what a stored object does on a machine.
//!
//! An object is loaded ([`load`]), attached ([`attach`]) and polled ([`poll`])
//! until something ends it. Bytes from the kernel become values ([`decode`]),
//! maps are read and merged ([`maps`]), addresses get names ([`symbols`],
//! [`names`]), and everything is shown by [`output`]; what got lost is in the
//! [`ledger`].

mod accounts;
mod attach;
pub mod bpf_functions;
mod btf_target;
mod child;
pub mod decode;
pub mod error;
pub mod features;
mod jitted;
pub mod ledger;
pub mod linker;
mod links;
mod load;
pub mod mappings;
pub mod maps;
pub mod names;
pub mod output;
mod packets;
mod perf;
pub mod pin;
mod poll;
pub mod privileges;
mod refusal;
mod relay;
mod ring;
mod scope;
mod service;
mod signals;
pub mod stacks;
pub mod symbols;
mod sys;
mod trial;
mod unwind;
pub mod verifier;
pub mod watch;

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::AsFd;

use crate::diag::Diagnostic;
use crate::host::Host;
use crate::host::cgroup::Cgroup;
use crate::object::Object;
use crate::plan::{self, Mode, Plan};

use accounts::Accounts;
use attach::{Attached, Attaching};
use child::{Child, Target};
pub use error::Error;
use links::Links;
use load::{Loaded, Setup};
use mappings::Mappings;
use output::Output;
use poll::{End, Events, Opened, Own, Stop, Watched};
use scope::Scope;
use signals::{OwnSignal, Signals};
use unwind::Unwinding;

/// How to run an object.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `-p`: the process that user-space probes and counters are about.
    pub pid: Option<u32>,
    /// `-p` with several processes, or with `follow`; programs look them up.
    pub processes: Vec<u32>,
    /// `--follow`: the descendants of processes, too.
    pub follow: bool,
    /// `--cgroup`, `--container`: where whatever is traced runs.
    pub cgroup: Option<Cgroup>,
    /// `--dwarf-pid`: more processes whose user stacks are to be unwound by DWARF.
    pub dwarf_pids: Vec<u32>,
    /// `-c`: a command that becomes that process.
    pub command: Option<String>,
    /// `-q`: does not say how many probes are attached.
    pub quiet: bool,
    /// `-v`: says more.
    pub verbose: bool,
    /// `-d libbpf`: libbpf's messages go to the error stream.
    pub show_libbpf: bool,
    /// `-d verifier`: and so does the verifier's log of every program.
    pub show_verifier: bool,
    /// `--test`, `--bench`: what to do with the script.
    pub mode: Mode,
    /// `--stats`: what the programs cost is told at the end.
    pub stats: bool,
    /// `--max-overhead`: percent of one CPU that they may cost.
    pub max_overhead: Option<f64>,
    /// `--strict`: a run whose output lacks anything has failed.
    pub strict: bool,
    /// `--dry-run`: ends when everything is attached.
    pub dry_run: bool,
    /// `--pin`: everything stays attached, under this name.
    pub pin: Option<String>,
    /// Named parameters of the script, for objects that take them.
    pub named: Vec<(String, Option<String>)>,
    /// Output goes to standard output: the run ends when nobody reads it.
    pub on_stdout: bool,
}

/// Exit status of a run with `--strict` whose output lacks something.
const STATUS_LOSSES: u8 = 3;

/// Wrappers and test harnesses wait for a line with this name, if an
/// environment variable of this name is set.
const NOTIFY: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// Runs an object on this machine until it ends, and gives its exit status.
///
/// # Errors
/// The object cannot be loaded, attached or shown.
pub fn run(
    object: Object,
    options: &Options,
    host: &Host,
    output: &mut Output,
) -> Result<u8, Error> {
    match run_to_end(object, options, host, output) {
        Ok(status) => Ok(status),
        // Like other tools whose reader has seen enough.
        Err(Stop::Closed) => Ok(0),
        Err(Stop::Error(error)) => Err(error),
    }
}

fn run_to_end(
    object: Object,
    options: &Options,
    host: &Host,
    output: &mut Output,
) -> Result<u8, Stop> {
    privileges::check()?;
    if let Some(warning) = privileges::check_release(&host.release()) {
        output.diagnostic(&warning)?;
    }
    options.pin.as_deref().map(|name| pin::check(name, &object.plan)).transpose()?;
    let elf = if options.pin.is_some() { object.elf.clone() } else { Vec::new() };
    // First, since it forks: there must be no threads yet.
    let mut child = options.command.as_deref().map(Child::hold).transpose()?;
    let targets = options.pid.iter().chain(&options.processes);
    let targets: Vec<Target> = targets.map(|pid| Target::of(*pid)).collect::<Result<_, _>>()?;
    // Before there are threads, and after the child, which needs it as it was.
    let own = attach::wants_signal(&object.plan).then(own_signal).transpose()?;
    let signals = catch_signals()?;
    let mut unwinding =
        object.plan.unwinds.then(|| unwinding(options, child.as_mut())).transpose()?;
    let pages = unwinding.as_ref().map_or(0, Unwinding::pages);
    let loaded = load(object, options, host, child.as_ref(), pages)?;
    if let Some(unwinding) = &mut unwinding {
        unwinding.open(&loaded)?;
    }
    let unwinding = unwinding.map(RefCell::new);
    let opened = Opened::of(&loaded)?;
    if loaded.plan.names_user_code() {
        let mut mappings = Mappings::record(options.pid, &host.online_cpus());
        // One that has become its command already.
        for pid in child.iter().filter(|_| unwinding.is_some()).map(Child::pid) {
            mappings.read(pid);
        }
        for pid in options.processes.iter().chain(&options.dwarf_pids) {
            mappings.read(*pid);
        }
        output.remember(mappings);
    }
    output.stacks(loaded.stacks()?);
    let mut events = Events::open(&loaded.plan, &opened, output)?;

    if options.verbose {
        let count = loaded.plan.probe_count();
        let s = if count == 1 { "" } else { "s" };
        events.output().remark(&format!("attaching {count} probe{s}"))?;
        for line in ways(&loaded.plan).into_iter().chain(accounts::facts(&loaded)) {
            events.output().remark(&line)?;
        }
    }
    let scope = Scope::of(&loaded, options, child.as_ref());
    scope.fill()?;
    attach::run_begin(&loaded)?;
    match options.mode {
        Mode::Trace => {}
        Mode::Test => return on_trial(&loaded, &mut events, trial::tests),
        Mode::Bench => return on_trial(&loaded, &mut events, trial::benchmarks),
    }
    if let Some(child) = child.as_mut().filter(|_| unwinding.is_none()) {
        child.wait_until_ready()?;
    }
    let measured = options.stats || options.max_overhead.is_some();
    let accounts = measured.then(|| Accounts::start(&loaded, options.max_overhead)).transpose()?;
    let attached = attach(&loaded, options, host, child.as_ref(), signals, events.output())?;
    // Again, for those that started meanwhile.
    scope.fill()?;
    scope.ready(true)?;
    privileges::give_up(&loaded.plan);
    if let Some(child) = &mut child {
        child.release()?;
    }
    if let Some(name) = &options.pin {
        let folder = pin::keep(name, &loaded, &elf, &attached.links)?;
        announce(&attached, options, events.output())?;
        events.drain()?;
        events.output().pinned(&folder.to_string_lossy())?;
        events.output().flush()?;
        return Ok(events.status());
    }
    announce(&attached, options, events.output())?;
    service::tell(service::State::Ready);
    if options.dry_run {
        return Ok(0);
    }

    let stdout = io::stdout();
    let processes = child.iter().map(AsFd::as_fd).chain(targets.iter().map(AsFd::as_fd));
    let run_own = || attach::run_signal(&loaded);
    let too_much = || accounts.as_ref().and_then(Accounts::exceeded);
    let watched = Watched {
        signals: signals.as_fd(),
        own: own.as_ref().map(|signal| Own { signal, run: &run_own }),
        processes: processes.collect::<Vec<_>>().into(),
        output: options.on_stdout.then(|| stdout.as_fd()),
        too_much: options.max_overhead.is_some().then_some(&too_much),
        unwinding: unwinding.as_ref(),
    };
    // A child is awaited even if nothing else can happen.
    let live = attached.live || child.is_some() && attached.iterators.is_empty();
    let mut end = if live { events.process(&watched)? } else { events.drain()? };
    for file in &attached.iterators {
        if end != End::Exit {
            end = events.iterate(file, &|| signals.asked())?;
        }
    }
    for path in &attached.pinned {
        events.output().pinned(path)?;
    }
    service::tell(service::State::Stopping);
    let report = accounts.as_ref().filter(|_| options.stats).map(Accounts::report);
    let missed = attached.links.missed();
    scope.ready(false)?;
    let detached = attached.links.detach();
    if end == End::Exit || events.drain()? == End::Exit {
        events.skip()?;
    }
    attach::run_end(&loaded, &detached)?;
    // `exit()` in one `end` probe does not silence the others.
    while events.drain()? == End::Exit {}
    events.missed(&missed);
    events.missed(&loaded.missed());
    events.finish()?;
    for line in report.into_iter().flatten() {
        events.output().remark(&line)?;
    }
    let status = if options.strict && events.lost() { STATUS_LOSSES } else { events.status() };
    drop(watched);
    if let Some(child) = child {
        let ended = child.finish();
        if options.verbose {
            events.output().remark(&format!("the command {ended}"))?;
        }
    }
    Ok(status)
}

/// The tables for unwinding user stacks of the processes that are known before the start.
fn unwinding(options: &Options, child: Option<&mut Child>) -> Result<Unwinding, Error> {
    let mut processes: Vec<u32> = options.pid.into_iter().collect();
    processes.extend(&options.processes);
    let all = processes.is_empty() && child.is_none();
    processes.extend(&options.dwarf_pids);
    if let Some(child) = child {
        child.wait_until_ready()?;
        // Its libraries are there when it begins to run itself.
        child.run_to_entry()?;
        processes.push(child.pid());
    }
    Ok(Unwinding::of(&processes, all))
}

/// What happens between `begin` and `end` probes if nothing is attached.
fn on_trial(
    loaded: &Loaded,
    events: &mut Events<'_, '_>,
    trial: fn(&Loaded, &mut Events<'_, '_>) -> Result<u8, Stop>,
) -> Result<u8, Stop> {
    if events.drain()? == End::Exit {
        return Ok(events.status());
    }
    let status = trial(loaded, events)?;
    attach::run_end(loaded, &Links::default().detach())?;
    while events.drain()? == End::Exit {}
    events.output().flush()?;
    Ok(status)
}

fn own_signal() -> Result<OwnSignal, Error> {
    OwnSignal::take()
        .map_err(|e| Error::run(Diagnostic::global(format!("cannot take SIGUSR1: {e}"))))
}

fn catch_signals() -> Result<&'static Signals, Error> {
    Signals::catch()
        .map_err(|e| Error::run(Diagnostic::global(format!("cannot catch signals: {e}"))))
}

fn load(
    object: Object,
    options: &Options,
    host: &Host,
    child: Option<&Child>,
    unwind_pages: u32,
) -> Result<Loaded, Error> {
    let setup = Setup {
        child: child.map(Child::pid),
        target: options.pid,
        cgroup: options.cgroup.as_ref(),
        show_libbpf: options.show_libbpf,
        show_verifier: options.show_verifier,
        statistics: options.verbose,
        cpus: host.online_cpus().len(),
        unwind_pages,
        find_target: &|wanted| btf_target::find(host, wanted),
    };
    load::load(object, &setup)
}

fn attach(
    loaded: &Loaded,
    options: &Options,
    host: &Host,
    child: Option<&Child>,
    signals: &Signals,
    output: &mut Output,
) -> Result<Attached, Stop> {
    let mut shown = Ok(());
    let mut attaching = Attaching {
        // One that descendants share would hide them.
        pid: options.pid.or(child.map(Child::pid)).filter(|_| !options.follow),
        cpus: &host.online_cpus(),
        returns_reversed: &|| returns_reversed(host),
        addresses: &|names| host.traceable_addresses(&mut names.iter()),
        tracepoint_id: &|category, event| tracepoint_id(host, category, event),
        interrupted: &|| signals.asked(),
        warn: &mut |diagnostic| {
            if shown.is_ok() {
                shown = output.diagnostic(&diagnostic);
            }
        },
    };
    let attached = attach::attach(loaded, &mut attaching)?;
    shown?;
    Ok(attached)
}

/// Since `kprobe.multi` is built on the function graph tracer (Linux 6.14),
/// the kernel calls its programs for the return of a function in reverse.
fn returns_reversed(host: &Host) -> bool {
    let marker = "fprobe_return";
    host.btf().is_ok_and(|btf| btf.function_in("vmlinux", marker).is_some())
}

/// The number by which perf knows a tracepoint.
fn tracepoint_id(host: &Host, category: &str, event: &str) -> Result<u64, String> {
    let tracefs = host.tracefs()?;
    if !tracefs.has_event(host, category, event) {
        return Err(format!("the kernel has no tracepoint `{category}:{event}`"));
    }
    let text = tracefs.read(&format!("events/{category}/{event}/id"))?;
    text.trim().parse().map_err(|_| format!("the tracepoint's id `{}` is odd", text.trim()))
}

/// Says that everything is attached.
/// How each program is attached, a line for each way of it.
fn ways(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for program in &plan.programs {
        let mut ways: Vec<(&str, &str, usize)> = Vec::new();
        // What serves others has no names.
        for attach in program.attach.iter().filter(|a| !a.probes.is_empty()) {
            let Some(way) = attach.mechanism.way() else { continue };
            match ways.iter_mut().find(|(known, ..)| *known == way) {
                Some((.., count)) => *count += attach.probes.len(),
                None => {
                    let first = attach.probes.first().unwrap_or("");
                    ways.push((way, first, attach.probes.len()));
                }
            }
        }
        let keeper = program.attach.first().filter(|_| program.name.starts_with(plan::KEEPER));
        let keeps = keeper.and_then(|link| link.mechanism.way());
        lines.extend(keeps.map(|way| format!("{}, which keeps arguments: {way}", program.name)));
        lines.extend(ways.into_iter().map(|(way, first, count)| match count {
            0 | 1 => format!("{first}: {way}"),
            2 => format!("{first} and another: {way}"),
            n => format!("{first} and {} others: {way}", n - 1),
        }));
    }
    lines
}

fn announce(attached: &Attached, options: &Options, output: &mut Output) -> Result<(), Stop> {
    if std::env::var_os(NOTIFY).is_some() {
        let mut stdout = io::stdout();
        writeln!(stdout, "{NOTIFY}").and_then(|()| stdout.flush()).map_err(output::Error::from)?;
    }
    if !options.quiet {
        output.attached_probes(attached.probes)?;
    }
    output.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::plan::{self, Action, Config, Event, MissingProbes, Plan};
    use crate::source::{Sources, Span};

    /// A plan of a script that does nothing.
    pub(super) fn empty_plan() -> Plan {
        Plan {
            version: plan::VERSION,
            arch: "x86_64".to_owned(),
            sources: Sources::default(),
            programs: vec![],
            maps: vec![],
            events: vec![],
            losses: vec![],
            params: vec![],
            time_formats: vec![],
            portable: None,
            cgroup_filters: vec![],
            unwinds: false,
            config: Config {
                max_cat_bytes: 10240,
                max_probes: 1024,
                each_place: false,
                missing_probes: MissingProbes::Error,
                print_maps_on_exit: true,
                str_trunc_trailer: "..".to_owned(),
                perf_rb_pages: 0,
                log_size: 1_000_000,
                cpp_demangle: true,
                show_debug_info: true,
            },
        }
    }

    /// The event of an `exit()`.
    pub(super) fn exit_event() -> Event {
        Event {
            span: Span::default(),
            action: Action::Exit,
            fields: vec![],
            size: 16,
            stamp: None,
            run: false,
        }
    }
}
