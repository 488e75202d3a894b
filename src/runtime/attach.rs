//! Programs onto their probes: one arm per [`Mechanism`].
//!
//! Several probes on the same spot must run in the order of the script. The
//! kernel calls some kinds in the order in which they were attached and
//! others in reverse, so [`attach_order`] attaches the latter backwards.
//! Whatever fails, nothing stays attached: links live in [`Links`], which
//! detaches when it is dropped.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::error::Error;
use super::links::{Detached, Links};
use super::load::{Loaded, cannot_attach, damaged};
use super::perf::{self, Counter, FilePlace};
use super::sys::{self, Kprobes, Scope};
use crate::diag::{Diagnostic, Warning};
use crate::plan::{Attach, Cpus, Hook, Mechanism, MissingProbes, Names, Plan, Sample};

/// What attaching depends on beside the plan.
pub(super) struct Attaching<'a> {
    /// Process of `-p` or `-c`, for probes that the kernel filters.
    pub pid: Option<u32>,
    /// CPUs that are online; one at least.
    pub cpus: &'a [u32],
    /// Whether this kernel calls `kprobe.multi` programs for the return of a
    /// function last one first; asked only if there are several.
    pub returns_reversed: &'a dyn Fn() -> bool,
    /// Where the kernel traces functions, if it tells that of all of them.
    pub addresses: &'a dyn Fn(&Names) -> Option<Vec<u64>>,
    /// Finds the number of a tracepoint, or says why it cannot.
    pub tracepoint_id: &'a dyn Fn(&str, &str) -> Result<u64, String>,
    /// Whether to give up.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Takes warnings about probes that are left out.
    pub warn: &'a mut dyn FnMut(Diagnostic),
}

/// From so many functions on, the kernel is not asked to look up their names.
const MANY: usize = 200;

/// What became of the probes.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub links: Links,
    /// Probes that "Attached N probes" counts.
    pub probes: usize,
    /// Whether anything can happen from now on: `begin` and `end` do not count,
    /// nor do iterators.
    pub live: bool,
    /// Files of iterators, to be read to their ends.
    pub iterators: Vec<File>,
    /// Paths where iterators are pinned.
    pub pinned: Vec<String>,
}

/// Attaches all programs but those of `begin` and `end`, which only count.
///
/// # Errors
/// A probe does not attach and may not be missing, none does, there are too
/// many, or the user gave up.
pub(super) fn attach(loaded: &Loaded, attaching: &mut Attaching<'_>) -> Result<Attached, Error> {
    let plan = &loaded.plan;
    let programs = loaded.programs();
    check_count(plan)?;
    let mut attached = Attached { probes: special_count(plan), ..Attached::default() };
    let mut refused = 0;
    for (index, attach) in attach_order(plan, attaching.returns_reversed) {
        if (attaching.interrupted)() {
            return Err(Error::run(Diagnostic::global("interrupted while attaching probes")));
        }
        let result = match loaded.left_out.get(&index) {
            Some(diagnostic) => Err(Refused::of(diagnostic.clone())),
            None => {
                let name = plan.programs.get(index).map_or("", |p| p.name.as_str());
                let program = find(&programs, name)?;
                let done = attach_one(program, attach, attaching, &mut attached);
                if attach.probes.is_empty() {
                    attached.links.serve();
                }
                done
            }
        };
        attached.probes += match &result {
            Ok(()) => attach.probes.len(),
            Err(refusal) => refusal.probes,
        };
        if let Err(refusal) = result {
            refused += 1;
            refuse(plan, *refusal.diagnostic, attaching.warn)?;
        }
    }
    let some = attached.probes > special_count(plan);
    attached.live =
        wants_signal(plan) || some && attached.iterators.is_empty() && attached.pinned.is_empty();
    if refused > 0 && !some {
        return Err(Error::run(Diagnostic::global("none of the probes could be attached")));
    }
    Ok(attached)
}

/// Runs the `begin` probes, in the script's order.
///
/// # Errors
/// The kernel cannot run them.
pub(super) fn run_begin(loaded: &Loaded) -> Result<(), Error> {
    run_special(loaded, &Mechanism::Begin)
}

/// Runs the `end` probes, in the script's order, when nothing else runs.
///
/// # Errors
/// The kernel cannot run them.
pub(super) fn run_end(loaded: &Loaded, _: &Detached) -> Result<(), Error> {
    run_special(loaded, &Mechanism::End)
}

/// Runs the probes of SIGUSR1, in the script's order.
///
/// # Errors
/// The kernel cannot run them.
pub(super) fn run_signal(loaded: &Loaded) -> Result<(), Error> {
    run_special(loaded, &Mechanism::Signal)
}

/// Whether a script has probes of SIGUSR1.
pub(super) fn wants_signal(plan: &Plan) -> bool {
    let mut all = plan.programs.iter().flat_map(|p| &p.attach);
    all.any(|a| a.mechanism == Mechanism::Signal)
}

fn run_special(loaded: &Loaded, which: &Mechanism) -> Result<(), Error> {
    let programs = loaded.programs();
    for (program, attach) in special(&programs, &loaded.plan, which)? {
        run_one(program, attach)?;
    }
    Ok(())
}

/// Runs a program here and now; gives what it returns.
///
/// # Errors
/// The kernel cannot run it.
pub(super) fn run_one(program: BorrowedFd<'_>, attach: &Attach) -> Result<u32, Error> {
    sys::test_run(program).map_err(|e| {
        let name = attach.probes.first().unwrap_or("begin");
        Error::run(Diagnostic::error(attach.span, format!("cannot run `{name}`: {e}")))
    })
}

/// Programs that are run here rather than attached, in the script's order.
///
/// # Errors
/// One that the plan names is not there.
pub(super) fn special<'p>(
    programs: &'p Programs<'_>,
    plan: &'p Plan,
    which: &Mechanism,
) -> Result<Vec<(BorrowedFd<'p>, &'p Attach)>, Error> {
    let all = plan.programs.iter().flat_map(|p| p.attach.iter().map(move |a| (p, a)));
    let chosen = all.filter(|(_, a)| a.mechanism == *which);
    chosen.map(|(p, a)| Ok((find(programs, &p.name)?, a))).collect()
}

/// Loaded programs by name.
pub(super) type Programs<'l> = HashMap<&'l OsStr, libbpf_rs::Program<'l>>;

fn find<'p>(programs: &'p Programs<'_>, name: &str) -> Result<BorrowedFd<'p>, Error> {
    let program = programs.get(OsStr::new(name));
    program.map(AsFd::as_fd).ok_or_else(|| damaged(&format!("it has no program `{name}`")))
}

/// Number of probes that are run here rather than attached.
fn special_count(plan: &Plan) -> usize {
    let all = plan.programs.iter().flat_map(|p| &p.attach);
    all.filter(|a| a.mechanism.is_run()).map(|a| a.probes.len()).sum()
}

fn check_count(plan: &Plan) -> Result<(), Error> {
    let links = || plan.programs.iter().flat_map(|p| &p.attach);
    // What takes time and descriptors are links, not the places of one; but who sets a limit means
    // places.
    let (count, what) = match plan.config.each_place {
        true => (links().map(|a| a.probes.len()).sum::<usize>(), "place"),
        false => (links().count(), "link"),
    };
    let (count, limit) = (count as u64, plan.config.max_probes);
    if count <= limit {
        return Ok(());
    }
    let s = if count == 1 { "" } else { "s" };
    let message = match what {
        "place" => format!("the script attaches to {count} place{s}, more than {limit}"),
        _ => format!("the script takes {count} link{s} to attach, more than {limit}"),
    };
    Err(Error::usage(
        Diagnostic::global(message)
            .help("raise the config variable `max_probes`, or make patterns narrower"),
    ))
}

/// Every link of the plan with the index of its program, in the order in
/// which to attach.
fn attach_order<'p>(
    plan: &'p Plan,
    returns_reversed: &dyn Fn() -> bool,
) -> Vec<(usize, &'p Attach)> {
    let numbered = plan.programs.iter().enumerate();
    let all: Vec<(usize, &Attach)> = numbered
        .flat_map(|(i, p)| p.attach.iter().map(move |a| (i, a)))
        .filter(|(_, a)| !a.mechanism.is_run())
        .collect();
    let many_returns = |a: &Attach| {
        let kind = kprobes(&a.mechanism).map(|(_, kind)| kind);
        kind.is_some_and(|kind| kind != Kprobes::Entries)
    };
    let several = all.iter().filter(|(_, a)| many_returns(a)).count() > 1;
    let reversed = several && returns_reversed();
    let (mut ordered, mut backward): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(_, a)| called_in_order(&a.mechanism) && !(reversed && many_returns(a)));
    backward.reverse();
    ordered.append(&mut backward);
    // What serves others is there before them.
    ordered.sort_by_key(|(_, a)| !a.probes.is_empty());
    ordered
}

/// Whether the kernel calls programs of this kind in the order in which they
/// were attached, rather than the last one first. For the returns of
/// `kprobe.multi` that is so before Linux 6.14.
fn called_in_order(mechanism: &Mechanism) -> bool {
    match mechanism {
        Mechanism::Kprobe { ret, .. } | Mechanism::KprobeMulti { ret, .. } => *ret,
        Mechanism::KprobeSession { .. }
        | Mechanism::Tracepoint { .. }
        | Mechanism::RawTracepoint { .. }
        | Mechanism::Perf { .. }
        | Mechanism::Iter { .. }
        | Mechanism::Packets { .. }
        | Mechanism::Watchpoint { .. }
        | Mechanism::Begin
        | Mechanism::End
        | Mechanism::Signal
        | Mechanism::Test
        | Mechanism::Bench => true,
        Mechanism::Uprobe { .. }
        | Mechanism::UprobeMulti { .. }
        | Mechanism::Trampoline { .. }
        | Mechanism::BpfTrampoline { .. } => false,
    }
}

/// An attachment that failed, wholly or in part.
struct Refused {
    diagnostic: Box<Diagnostic>,
    /// Probes of it that are attached nevertheless.
    probes: usize,
}

impl Refused {
    fn of(diagnostic: Diagnostic) -> Refused {
        Refused { diagnostic: Box::new(diagnostic), probes: 0 }
    }
}

/// What the policy for missing probes makes of a failure.
fn refuse(
    plan: &Plan,
    diagnostic: Diagnostic,
    warn: &mut dyn FnMut(Diagnostic),
) -> Result<(), Error> {
    match plan.config.missing_probes {
        MissingProbes::Error => return Err(Error::run(with_policy(plan, diagnostic))),
        MissingProbes::Warn => {
            warn(diagnostic.weaken(Warning::MissingProbe));
        }
        MissingProbes::Ignore => {}
    }
    Ok(())
}

/// Tells how to run without a probe, if there are others.
pub(super) fn with_policy(plan: &Plan, diagnostic: Diagnostic) -> Diagnostic {
    let links = plan.programs.iter().flat_map(|p| &p.attach);
    if links.filter(|a| !a.mechanism.is_run()).count() < 2 {
        return diagnostic;
    }
    diagnostic.help("to run without it, set the config variable `missing_probes` to `warn`")
}

fn attach_one(
    program: BorrowedFd<'_>,
    attach: &Attach,
    attaching: &Attaching<'_>,
    attached: &mut Attached,
) -> Result<(), Refused> {
    let links = &mut attached.links;
    let cookie = attach.cookies.first().copied().unwrap_or(0);
    let cpu = attaching.cpus.first().copied().unwrap_or(0);
    let done = match &attach.mechanism {
        Mechanism::Begin
        | Mechanism::End
        | Mechanism::Signal
        | Mechanism::Test
        | Mechanism::Bench => Ok(()),
        Mechanism::Kprobe { function, module, offset, ret } => {
            let name = module.as_ref().filter(|m| *m != "vmlinux");
            let name = name.map_or_else(|| function.clone(), |m| format!("{m}:{function}"));
            // Without a function the offset is an address.
            let name = (!function.is_empty()).then(|| perf::c_string(&name)).transpose();
            name.and_then(|name| perf::kprobe(program, name.as_deref(), *offset, *ret, cpu, cookie))
                .map(|link| links.add_kprobe(attach.span, link))
        }
        Mechanism::KprobeMulti { .. } | Mechanism::KprobeSession { .. } => {
            let (functions, kind) = kprobes(&attach.mechanism).expect("bug: these are many");
            // The kernel looks for a cookie by the address where the function begins, which is
            // not quite where it is traced.
            let by_address = functions.len() >= MANY && attach.cookies.is_empty();
            let addresses = match by_address {
                true => (attaching.addresses)(functions),
                false => None,
            };
            return attach_many(attach, functions.len(), links, &mut |chosen| {
                let cookies = cookies(attach, chosen);
                if let Some(addresses) = &addresses {
                    let at = sys::Functions::At(&pick(addresses, chosen));
                    return sys::kprobe_multi(program, at, &cookies, kind);
                }
                let names = strings(functions.iter().zip(chosen))?;
                let names: Vec<&CStr> = names.iter().map(CString::as_c_str).collect();
                sys::kprobe_multi(program, sys::Functions::Named(&names), &cookies, kind)
            });
        }
        Mechanism::UprobeMulti { path, offsets, counters, ret, .. } => {
            return attach_many(attach, offsets.len(), links, &mut |chosen| {
                let path = perf::c_string(path)?;
                let places = sys::Places {
                    offsets: &pick(offsets, chosen),
                    counters: &pick(counters, chosen),
                    cookies: &cookies(attach, chosen),
                };
                sys::uprobe_multi(program, &path, places, attaching.pid, *ret)
            });
        }
        Mechanism::Uprobe { path, offset, counter, ret, .. } => perf::c_string(path)
            .and_then(|path| {
                let scope = attaching.pid.map_or(Scope::Cpu(cpu), Scope::Thread);
                let place = FilePlace { path: &path, offset: *offset, counter: *counter };
                perf::uprobe(program, place, *ret, scope, cookie)
            })
            .map(|link| links.add_perf(link)),
        Mechanism::Trampoline { exit, .. } | Mechanism::BpfTrampoline { exit, .. } => {
            let kind =
                if *exit { libbpf_sys::BPF_TRACE_FEXIT } else { libbpf_sys::BPF_TRACE_FENTRY };
            tracing(program, kind, cookie).map(|link| links.add_slow(link))
        }
        Mechanism::RawTracepoint { btf: true, .. } => {
            tracing(program, libbpf_sys::BPF_TRACE_RAW_TP, cookie).map(|link| links.add_fast(link))
        }
        Mechanism::RawTracepoint { event, btf: false } => perf::c_string(event)
            .and_then(|event| sys::raw_tracepoint(program, Some(&event), cookie))
            .map(|link| links.add_fast(link)),
        Mechanism::Tracepoint { category, event } => {
            let id = (attaching.tracepoint_id)(category, event)
                .map_err(|reason| Refused::of(cannot_attach(attach).note(reason)))?;
            perf::tracepoint(program, id, cpu, cookie).map(|link| links.add_perf(link))
        }
        Mechanism::Iter { name, pin } => {
            iterate(program, name, pin.as_deref()).map(|(link, file)| {
                links.add_fast(link);
                attached.iterators.extend(file);
                attached.pinned.extend(pin.clone());
            })
        }
        Mechanism::Perf { kind, config, sample, cpus } => {
            let counter = Counter::of(*kind, *config, *sample);
            let made = match (cpus, attaching.pid) {
                // Intervals are not about a process.
                (Cpus::First, _) => perf::counter_on_cpus(program, counter, &[cpu], cookie),
                (Cpus::All, None) => {
                    perf::counter_on_cpus(program, counter, attaching.cpus, cookie)
                }
                (Cpus::All, Some(pid)) => perf::counter_on_process(program, counter, pid, cookie),
            };
            made.map(|made| made.into_iter().for_each(|link| links.add_counter(link)))
        }
        Mechanism::Packets { hook, place } => {
            packets(program, *hook, place).map(|link| links.add_slow(link))
        }
        Mechanism::Watchpoint { address, length, kind } => {
            let counter = Counter::breakpoint(*address, *length, *kind);
            let made = match attaching.pid {
                None => perf::counter_on_cpus(program, counter, attaching.cpus, cookie),
                Some(pid) => perf::counter_on_process(program, counter, pid, cookie),
            };
            made.map(|made| made.into_iter().for_each(|link| links.add_counter(link)))
        }
    };
    done.map_err(|e| Refused::of(explain(cannot_attach(attach), &attach.mechanism, 0, &e)))
}

/// The functions of a link of many kprobes, and what it is.
fn kprobes(mechanism: &Mechanism) -> Option<(&Names, Kprobes)> {
    match mechanism {
        Mechanism::KprobeMulti { functions, ret: false } => Some((functions, Kprobes::Entries)),
        Mechanism::KprobeMulti { functions, ret: true } => Some((functions, Kprobes::Returns)),
        Mechanism::KprobeSession { functions } => Some((functions, Kprobes::Sessions)),
        _ => None,
    }
}

/// Links an iterator; and pins it, or gives the file whose reading runs it.
fn iterate(
    program: BorrowedFd<'_>,
    name: &str,
    pin: Option<&str>,
) -> io::Result<(OwnedFd, Option<File>)> {
    let link = sys::iter_link(program, name == "cgroup")?;
    let file = match pin {
        Some(path) => {
            sys::pin(link.as_fd(), &perf::c_string(path)?)?;
            None
        }
        None => Some(File::from(sys::iter_create(link.as_fd())?)),
    };
    Ok((link, file))
}

/// Links a program to where packets pass.
fn packets(program: BorrowedFd<'_>, hook: Hook, place: &str) -> io::Result<OwnedFd> {
    // The drivers' own mode would reset some devices; this one sees the same packets.
    const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
    let (kind, flags) = match hook {
        Hook::Xdp => (libbpf_sys::BPF_XDP, XDP_FLAGS_SKB_MODE),
        Hook::TcIngress => (libbpf_sys::BPF_TCX_INGRESS, 0),
        Hook::TcEgress => (libbpf_sys::BPF_TCX_EGRESS, 0),
        Hook::CgroupIngress => (libbpf_sys::BPF_CGROUP_INET_INGRESS, 0),
        Hook::CgroupEgress => (libbpf_sys::BPF_CGROUP_INET_EGRESS, 0),
    };
    match hook {
        Hook::Xdp | Hook::TcIngress | Hook::TcEgress => {
            let device = sys::device(&perf::c_string(place)?)?;
            sys::packet_link(program, device, kind, flags)
        }
        Hook::CgroupIngress | Hook::CgroupEgress => {
            let group = File::open(place)?;
            sys::packet_link(program, group.as_raw_fd(), kind, flags)
        }
    }
}

fn tracing(
    program: BorrowedFd<'_>,
    kind: libbpf_sys::bpf_attach_type,
    cookie: u64,
) -> io::Result<OwnedFd> {
    if cookie == 0 {
        return sys::raw_tracepoint(program, None, 0);
    }
    sys::tracing_link(program, kind, cookie)
}

/// Attaches many places with one link. If the kernel refuses, the list is cut
/// in halves until what it refuses is found; the rest is attached with as
/// many links as that takes.
fn attach_many(
    attach: &Attach,
    places: usize,
    links: &mut Links,
    link: &mut dyn FnMut(&[bool]) -> io::Result<OwnedFd>,
) -> Result<(), Refused> {
    let mut made = Links::default();
    let mut refused: Vec<(usize, io::Error)> = Vec::new();
    // A pattern that matched nothing is a range without places.
    let mut todo: Vec<Range<usize>> = (places > 0).then_some(0..places).into_iter().collect();
    while let Some(range) = todo.pop() {
        let chosen: Vec<bool> = (0..places).map(|i| range.contains(&i)).collect();
        match link(&chosen) {
            Ok(fd) if kprobes(&attach.mechanism).is_some() => {
                made.add_kprobes(attach.span, fd);
            }
            Ok(fd) => made.add_slow(fd),
            Err(e) if range.len() <= 1 || !is_about_a_place(&e) => refused.push((range.start, e)),
            Err(_) => {
                let middle = range.start + range.len() / 2;
                todo.push(middle..range.end);
                todo.push(range.start..middle);
            }
        }
    }
    links.append(&mut made);
    let Some((first, error)) = refused.first() else { return Ok(()) };
    let names = refused.iter().filter_map(|(i, _)| attach.probes.get(*i)).collect();
    let message = cannot_attach(&Attach { probes: names, ..attach.clone() });
    Err(Refused {
        diagnostic: Box::new(explain(message, &attach.mechanism, *first, error)),
        probes: places - refused.len(),
    })
}

/// Whether leaving some places out can help.
fn is_about_a_place(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOENT
                | libc::ESRCH
                | libc::EINVAL
                | libc::EADDRNOTAVAIL
                | libc::EIO
                | libc::EILSEQ
                | ENOTSUPP
        )
    )
}

/// The kernel's own "not supported", which it should not show (linux/errno.h).
const ENOTSUPP: i32 = 524;

fn pick<T: Copy>(list: &[T], chosen: &[bool]) -> Vec<T> {
    list.iter().zip(chosen).filter(|(_, c)| **c).map(|(x, _)| *x).collect()
}

fn cookies(attach: &Attach, chosen: &[bool]) -> Vec<u64> {
    pick(&attach.cookies, chosen)
}

fn strings<'a>(list: impl Iterator<Item = (&'a str, &'a bool)>) -> io::Result<Vec<CString>> {
    list.filter(|(_, chosen)| **chosen).map(|(text, _)| perf::c_string(text)).collect()
}

/// Adds to a message why the kernel refused a mechanism (or the place with
/// this index of its many), and what to do instead.
fn explain(
    message: Diagnostic,
    mechanism: &Mechanism,
    index: usize,
    error: &io::Error,
) -> Diagnostic {
    let errno = error.raw_os_error().unwrap_or(0);
    if errno == libc::EPERM || errno == libc::EACCES {
        return message
            .note(format!("the kernel does not permit it: {error}"))
            .help("run as root, or with the capabilities CAP_BPF and CAP_PERFMON");
    }
    if errno == libc::EMFILE || errno == libc::ENFILE {
        return message
            .note("too many files are open: every probe takes up to three")
            .help("raise the limit with `ulimit -n`, or make patterns narrower");
    }
    let named = |text: String| message.clone().note(text);
    let missing = matches!(errno, libc::ENOENT | libc::ESRCH);
    match mechanism {
        Mechanism::Kprobe { .. }
        | Mechanism::KprobeMulti { .. }
        | Mechanism::KprobeSession { .. }
            if error.kind() == io::ErrorKind::Unsupported || errno == ENOTSUPP =>
        {
            named("this kernel was built without kprobes (CONFIG_KPROBES)".to_owned())
                .help("use a tracepoint, or `fentry` if the kernel can trace functions with it")
        }
        Mechanism::Kprobe { function, module, .. } if missing => match module {
            Some(module) => named(format!("module `{module}` has no function `{function}`")),
            None => named(format!("the kernel has no function `{function}`")),
        },
        Mechanism::KprobeMulti { functions, .. } | Mechanism::KprobeSession { functions }
            if missing =>
        {
            let name = functions.get(index).unwrap_or("");
            named(format!("the kernel cannot trace a function `{name}`"))
        }
        Mechanism::Kprobe { function, .. } if errno == libc::EADDRNOTAVAIL => {
            named(format!("the kernel has several functions called `{function}`"))
                .help("name one by its address, or by its module")
        }
        Mechanism::Kprobe { offset, .. } if errno == libc::EILSEQ => {
            named(format!("at offset {offset} no instruction begins"))
        }
        Mechanism::Kprobe { function, .. } if errno == libc::EINVAL => {
            named(format!("the kernel does not allow probes in `{function}`"))
                .note("functions that kprobes themselves use cannot be traced")
        }
        Mechanism::Uprobe { path, .. } | Mechanism::UprobeMulti { path, .. } if missing => {
            named(format!("`{path}` does not exist, or the process is gone"))
        }
        Mechanism::Uprobe { path, offset, .. } if is_about_a_place(error) => {
            named(format!("there is no instruction to probe at offset {offset:#x} of `{path}`"))
        }
        Mechanism::UprobeMulti { path, offsets, .. } if is_about_a_place(error) => {
            let offset = offsets.get(index).copied().unwrap_or(0);
            named(format!("there is no instruction to probe at offset {offset:#x} of `{path}`"))
        }
        Mechanism::Tracepoint { category, event } if errno == libc::E2BIG => named(format!(
            "the kernel takes 64 programs on `{category}:{event}`, of all tools together"
        ))
        .help("trace less of it at once, or put several blocks into one"),
        Mechanism::Tracepoint { category, event } if missing => {
            named(format!("the kernel has no tracepoint `{category}:{event}`"))
        }
        Mechanism::RawTracepoint { event, .. } if missing => {
            named(format!("the kernel has no raw tracepoint `{event}`"))
        }
        Mechanism::Perf { kind, .. }
            if *kind == libbpf_sys::PERF_TYPE_HARDWARE
                && (missing || errno == libc::EOPNOTSUPP || errno == libc::EINVAL) =>
        {
            named(
                "this machine does not have that counter; virtual machines often have none".into(),
            )
            .help("use a software event, such as `software:cpu-clock`")
        }
        Mechanism::Perf { sample: Sample::Frequency(rate), .. } if errno == libc::EINVAL => {
            named(format!("the kernel does not sample {rate} times a second"))
                .help("take a lower rate, or raise the sysctl `kernel.perf_event_max_sample_rate`")
        }
        Mechanism::Perf { .. } | Mechanism::Watchpoint { .. } if missing => {
            named("the process has ended".to_owned())
        }
        Mechanism::Watchpoint { .. } if errno == libc::ENOSPC => {
            named("the CPU's debug registers are all in use; most CPUs have four".to_owned())
        }
        Mechanism::Watchpoint { .. } if errno == libc::EINVAL => {
            named("the CPU cannot watch this address in this way".to_owned())
        }
        Mechanism::Packets { place, .. } if missing || errno == libc::ENODEV => {
            named(format!("`{place}` is not there any more"))
        }
        Mechanism::Packets { hook: Hook::Xdp, place } if errno == libc::EBUSY => {
            named(format!("another XDP program is on `{place}`, which takes one"))
                .help("`tc` takes several")
        }
        Mechanism::Iter { .. } if errno == libc::EBADF => {
            named("this iterator goes through one map, and there is no way to name it".to_owned())
        }
        Mechanism::Iter { pin: Some(path), .. } if errno == libc::EEXIST => {
            named(format!("`{path}` exists")).help("remove it, or choose another name")
        }
        Mechanism::Iter { pin: Some(path), .. } if missing || errno == libc::EINVAL => {
            named(format!("`{path}` cannot be made: {error}"))
                .help("its directory must be in a BPF file system, such as /sys/fs/bpf")
        }
        Mechanism::Begin
        | Mechanism::End
        | Mechanism::Signal
        | Mechanism::Test
        | Mechanism::Bench
        | Mechanism::Watchpoint { .. }
        | Mechanism::Kprobe { .. }
        | Mechanism::KprobeMulti { .. }
        | Mechanism::KprobeSession { .. }
        | Mechanism::BpfTrampoline { .. }
        | Mechanism::Trampoline { .. }
        | Mechanism::Tracepoint { .. }
        | Mechanism::RawTracepoint { .. }
        | Mechanism::Uprobe { .. }
        | Mechanism::UprobeMulti { .. }
        | Mechanism::Iter { .. }
        | Mechanism::Packets { .. }
        | Mechanism::Perf { .. } => named(format!("the kernel says: {error}")),
    }
}
