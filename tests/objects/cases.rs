//! The cases: an object, how to run it, what must come out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use rtrace::host::Host;
use rtrace::host::features::Feature;
use rtrace::plan::{Attach, Cpus, Mechanism, MissingProbes, Plan, Sample};
use rtrace::runtime::features;

use crate::compile::{compile, directory};
use crate::plans::{attach, many, plan};
use crate::{OBJECT, WORK, target_offset};

type Case = (&'static str, fn() -> Result<(), Failed>);

const CASES: &[Case] = &[
    ("begin_and_end_alone_end_by_themselves", begin_and_end),
    ("exit_in_begin_discards_what_follows", exit_in_begin),
    ("exit_processes_what_came_before_it", exit_in_the_middle),
    ("raw_tracepoints_count_exactly", raw_tracepoint),
    ("tp_btf_counts_exactly", tp_btf),
    ("tracepoints_count_exactly", tracepoint),
    ("uprobes_count_exactly", uprobe),
    ("uprobe_multi_tells_its_functions_apart", uprobe_multi),
    ("uprobes_filter_by_process", uprobe_of_other_process),
    ("profile_covers_the_child", profile),
    ("intervals_fire_on_one_cpu", interval),
    ("kprobes_count_exactly", kprobe),
    ("kprobe_multi_tells_its_functions_apart", kprobe_multi),
    ("trampolines_count_exactly", trampoline),
    ("functions_of_modules_can_be_traced", module_functions),
    ("probes_on_one_spot_run_in_script_order", script_order),
    ("lost_events_are_counted", lost_events),
    ("every_event_is_shown_or_counted_as_lost", every_event),
    ("a_missing_probe_is_an_error", missing_probe_error),
    ("a_missing_probe_is_a_warning", missing_probe_warning),
    ("a_missing_probe_is_ignored", missing_probe_ignored),
    ("without_any_probe_left_it_is_an_error", missing_all),
    ("one_bad_place_of_many_is_found", bad_place_of_many),
    ("a_missing_btf_target_is_left_out", missing_btf_target),
    ("kernels_without_kprobes_say_so", no_kprobes),
    ("the_verifier_can_be_heard", verifier_log),
    ("too_many_probes_are_refused", too_many_probes),
    ("objects_that_break_their_plan_are_damaged", damaged),
    ("a_signal_ends_a_run_with_its_maps", signal),
    ("a_closed_pipe_ends_a_run", closed_pipe),
    ("a_run_ends_with_the_process_of_p", target_ends),
    ("commands_that_cannot_run_are_errors", bad_commands),
    ("the_command_ends_with_the_run", command_outlives),
    ("harnesses_are_told_when_probes_are_attached", notify),
    ("a_dry_run_ends_when_attached", dry_run),
];

pub fn run() -> ExitCode {
    let trials = CASES.iter().map(|&(name, case)| Trial::test(name, case));
    let trials = trials.chain(crate::rejections::trials()).collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    let _ = std::fs::remove_dir_all(directory());
    conclusion.exit_code()
}

// What a case is made of.

/// What a run gave.
pub struct Ran {
    pub out: String,
    pub err: String,
    pub status: Option<i32>,
}

fn command(object: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(OBJECT, object).args(args).stdin(Stdio::null());
    command
}

fn ran(output: Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Ran { out, err: without_age(&err), status: output.status.code() }
}

/// Without the warning about old kernels.
fn without_age(err: &str) -> String {
    let rest =
        err.starts_with("warning[old-kernel]: Linux").then(|| err.split_once("\n\n")).flatten();
    rest.map_or(err, |(_, rest)| rest).to_owned()
}

pub fn run_object(source: &str, plan: &Plan, args: &[&str]) -> Ran {
    ran(command(&compile(source, plan), args).output().unwrap())
}

/// Runs with a child that does `rounds` rounds.
fn run_with_child(source: &str, plan: &Plan, rounds: u64) -> Ran {
    run_object(source, plan, &["-c", &child(rounds, 0)])
}

fn child(rounds: u64, milliseconds: u64) -> String {
    format!("'{}' {WORK} {rounds} {milliseconds}", exe())
}

fn exe() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

impl Ran {
    /// What the map counted, without zeroes.
    fn counts(&self) -> BTreeMap<u32, u64> {
        let line = |l: &str| {
            let (key, value) = l.strip_prefix("@[")?.split_once("]: ")?;
            Some((key.parse().ok()?, value.parse().ok()?))
        };
        self.out.lines().filter_map(line).filter(|&(_, n)| n != 0).collect()
    }

    /// The numbers that events printed.
    fn numbers(&self) -> Vec<u64> {
        self.out.lines().filter_map(|l| l.parse().ok()).collect()
    }

    fn expect_counts(&self, expected: &[(u32, u64)]) -> Result<(), Failed> {
        let expected = expected.iter().copied().collect::<BTreeMap<_, _>>();
        same(&self.counts(), &expected, &self.err)
    }

    fn expect_error(&self, status: i32, parts: &[&str]) -> Result<(), Failed> {
        same(&self.status, &Some(status), &self.err)?;
        for part in parts {
            if !self.err.contains(part) {
                return Err(format!("no `{part}` in: {}", self.err).into());
            }
        }
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(got: &T, wanted: &T, context: &str) -> Result<(), Failed> {
    if got == wanted {
        return Ok(());
    }
    Err(format!("got {got:?}, wanted {wanted:?}\n{context}").into())
}

/// The running kernel; asked once.
fn kernel() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::at(Path::new("/")).with_features(features::live()))
}

fn uprobe_at(symbol: &str) -> Mechanism {
    let offset = target_offset(symbol);
    Mechanism::Uprobe { path: exe(), symbol: symbol.into(), offset, counter: 0, ret: false }
}

fn single(program: &str, mechanism: Mechanism) -> Plan {
    plan(vec![(program, vec![attach(program, mechanism)])])
}

pub fn special(name: &'static str, mechanism: Mechanism) -> (&'static str, Vec<Attach>) {
    (name, vec![attach(name, mechanism)])
}

fn kprobe_on(function: &str) -> Mechanism {
    Mechanism::Kprobe { function: function.into(), module: None, offset: 0, ret: false }
}

// Events.

fn begin_and_end() -> Result<(), Failed> {
    let plan = plan(vec![special("end", Mechanism::End), special("begin", Mechanism::Begin)]);
    let ran = run_object("events", &plan, &[]);
    same(&ran.out, &format!("1\n2\n\n\n{}", zeroes()), &ran.err)?;
    same(&(ran.err.as_str(), ran.status), &("Attached 2 probes\n", Some(0)), "")
}

fn zeroes() -> String {
    (0..16).map(|i| format!("@[{i}]: 0\n")).collect()
}

fn exit_in_begin() -> Result<(), Failed> {
    let plan = plan(vec![special("begin_exit", Mechanism::Begin), special("end", Mechanism::End)]);
    let ran = run_object("events", &plan, &["-q"]);
    same(&ran.numbers(), &vec![2], &ran.out)?;
    same(&(ran.err.as_str(), ran.status), &("", Some(7)), "")
}

fn exit_in_the_middle() -> Result<(), Failed> {
    let mut plan = plan(vec![
        ("fifth", vec![attach("fifth", uprobe_at("rt_first"))]),
        special("end", Mechanism::End),
    ]);
    plan.maps.clear();
    let ran = run_with_child("events", &plan, 50);
    same(&ran.numbers(), &vec![30, 30, 30, 30, 2], &ran.err)?;
    same(&ran.status, &Some(3), &ran.err)
}

fn lost_events() -> Result<(), Failed> {
    let mut plan = single("flood", uprobe_at("rt_first"));
    plan.config.perf_rb_pages = 1;
    plan.maps.clear();
    let ran = run_with_child("events", &plan, 1);
    let shown = ran.numbers().len();
    // Records of 16 bytes and a header of 8 in one page.
    if shown < 170 || !ran.err.contains(&format!("Lost {} events", 300 - shown)) {
        return Err(format!("{shown} events shown: {}", ran.err).into());
    }
    Ok(())
}

fn every_event() -> Result<(), Failed> {
    const ROUNDS: u64 = 50_000;
    let mechanism = Mechanism::RawTracepoint { event: "sys_enter".into(), btf: false };
    let mut plan = single("numbered", mechanism);
    // Small enough to wrap around many times, and to overflow now and then.
    plan.config.perf_rb_pages = 16;
    plan.maps.clear();
    let ran = run_with_child("events", &plan, ROUNDS);
    let numbers = ran.numbers();
    let lost = ran.err.lines().find_map(|l| l.strip_prefix("WARNING: Total lost event count: "));
    let lost: u64 = lost.map_or(0, |n| n.parse().unwrap());
    same(&(numbers.len() as u64 + lost), &ROUNDS, &ran.err)?;
    let in_order = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    same(&in_order, &true, "numbers are out of order")
}

// One case for each way to attach.

fn raw_tracepoint() -> Result<(), Failed> {
    let mechanism = Mechanism::RawTracepoint { event: "sys_enter".into(), btf: false };
    run_with_child("probes", &single("raw_tp", mechanism), 1000).expect_counts(&[(1, 1000)])
}

fn tp_btf() -> Result<(), Failed> {
    let mechanism = Mechanism::RawTracepoint { event: "sys_enter".into(), btf: true };
    run_with_child("probes", &single("tp_btf", mechanism), 1000).expect_counts(&[(2, 1000)])
}

fn tracepoint() -> Result<(), Failed> {
    let mechanism =
        Mechanism::Tracepoint { category: "raw_syscalls".into(), event: "sys_enter".into() };
    let plan = plan(vec![
        ("tracepoint", vec![attach("t", mechanism)]),
        special("begin", Mechanism::Begin),
        special("end", Mechanism::End),
    ]);
    let ran = run_with_child("probes", &plan, 1000);
    ran.expect_counts(&[(0, 1), (3, 1000), (15, 1)])?;
    same(&ran.err.as_str(), &"Attached 3 probes\n", "")
}

fn uprobe() -> Result<(), Failed> {
    let plan = single("uprobe", uprobe_at("rt_first"));
    run_with_child("probes", &plan, 300).expect_counts(&[(4, 300)])
}

fn uprobe_multi() -> Result<(), Failed> {
    if !kernel().has(Feature::UprobeMulti) {
        return Ok(());
    }
    let mechanism = Mechanism::UprobeMulti {
        path: exe(),
        symbols: vec!["rt_first".into(), "rt_second".into()],
        offsets: vec![target_offset("rt_first"), target_offset("rt_second")],
        counters: vec![],
        ret: false,
    };
    let plan = plan(vec![("uprobe_multi", vec![many(&["a", "b"], mechanism, vec![5, 6])])]);
    let ran = run_with_child("probes", &plan, 300);
    ran.expect_counts(&[(5, 300), (6, 300)])?;
    same(&ran.err.as_str(), &"Attached 2 probes\n", "")
}

fn uprobe_of_other_process() -> Result<(), Failed> {
    // The child of the case above calls the same functions, but is not ours.
    let mut other = worker(400);
    let object = compile("probes", &single("uprobe", uprobe_at("rt_first")));
    let pid = std::process::id().to_string();
    let mut tool = start(&object, &["-p", &pid]);
    other.wait().unwrap();
    interrupt(&tool);
    let ran = finish(&mut tool);
    ran.expect_counts(&[])
}

fn profile() -> Result<(), Failed> {
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK.
    let mechanism =
        |cpus| Mechanism::Perf { kind: 1, config: 0, sample: Sample::Period(1_000_000), cpus };
    let plan = single("profile", mechanism(Cpus::All));
    let ran = run_object("probes", &plan, &["-c", &child(0, 300)]);
    match ran.counts().get(&7) {
        // One for each millisecond that the child was on a CPU; fewer where
        // the machine itself is not always on one.
        Some(20..=310) => Ok(()),
        _ => Err(format!("{:?} {}", ran.counts(), ran.err).into()),
    }
}

fn interval() -> Result<(), Failed> {
    let every = Sample::Period(10_000_000);
    let mechanism = Mechanism::Perf { kind: 1, config: 0, sample: every, cpus: Cpus::First };
    let mut plan = single("fifth", mechanism);
    plan.maps.clear();
    let ran = run_object("clock", &plan, &[]);
    same(&ran.numbers(), &vec![30, 30, 30, 30], &ran.err)
}

fn kprobe() -> Result<(), Failed> {
    if !kernel().has(Feature::Kprobe) {
        return Ok(());
    }
    let ran = run_with_child("probes", &single("kprobe", kprobe_on("__x64_sys_getppid")), 200);
    ran.expect_counts(&[(8, 200)])
}

fn kprobe_multi() -> Result<(), Failed> {
    if !kernel().has(Feature::KprobeMulti) {
        return Ok(());
    }
    let functions = vec!["__x64_sys_getppid", "no_such_function"];
    let mechanism = Mechanism::KprobeMulti { functions: functions.into(), ret: false };
    let mut plan = plan(vec![("kprobe_multi", vec![many(&["a", "b"], mechanism, vec![9, 10])])]);
    plan.config.missing_probes = MissingProbes::Warn;
    let ran = run_with_child("probes", &plan, 200);
    ran.expect_counts(&[(9, 200)])?;
    ran.expect_error(
        0,
        &["warning[missing-probe]: cannot attach `b`", "no_such_function", "Attached 1 probe\n"],
    )
}

fn trampoline() -> Result<(), Failed> {
    if !has_trampolines() {
        return Ok(());
    }
    let on = |exit| Mechanism::Trampoline {
        function: "__sys_socket".into(),
        module: "vmlinux".into(),
        exit,
    };
    let plan = plan(vec![
        ("fentry", vec![attach("fentry", on(false))]),
        ("fexit", vec![attach("fexit", on(true))]),
    ]);
    run_with_child("probes", &plan, 200).expect_counts(&[(11, 200), (12, 200)])
}

fn module_functions() -> Result<(), Failed> {
    // Where the root is an overlay and its file system is a module, as in the
    // machines of `tests/vm`, running the command opens files there.
    if !Path::new("/sys/kernel/btf/overlay").exists() {
        return Ok(());
    }
    let (function, module) = ("ovl_open".to_owned(), "overlay".to_owned());
    let kprobe = Mechanism::Kprobe {
        function: function.clone(),
        module: Some(module.clone()),
        offset: 0,
        ret: false,
    };
    let fentry = Mechanism::Trampoline { function, module, exit: false };
    let plan = plan(vec![
        ("kprobe", vec![attach("kprobe", kprobe)]),
        ("fentry", vec![attach("fentry", fentry)]),
    ]);
    let ran = run_with_child("probes", &plan, 1);
    let counts = ran.counts();
    match (counts.get(&8), counts.get(&11)) {
        (Some(kprobe), Some(fentry)) if kprobe == fentry => Ok(()),
        _ => Err(format!("{counts:?} {}", ran.err).into()),
    }
}

fn has_trampolines() -> bool {
    kernel().has(Feature::Fentry)
}

fn script_order() -> Result<(), Failed> {
    let kernel = kernel();
    let offset = target_offset("rt_first");
    let uprobe =
        |ret| Mechanism::Uprobe { path: exe(), symbol: "rt_first".into(), offset, counter: 0, ret };
    let uprobe_multi = |ret| Mechanism::UprobeMulti {
        path: exe(),
        symbols: vec!["rt_first".into()],
        offsets: vec![offset],
        counters: vec![],
        ret,
    };
    let kprobe =
        |ret| Mechanism::Kprobe { function: "__sys_socket".into(), module: None, offset: 0, ret };
    let kprobe_multi = |ret| Mechanism::KprobeMulti { functions: vec!["__sys_socket"].into(), ret };
    let trampoline = |exit| Mechanism::Trampoline {
        function: "__sys_socket".into(),
        module: "vmlinux".into(),
        exit,
    };
    let enter = |btf| Mechanism::RawTracepoint { event: "sys_enter".into(), btf };
    let tracepoint =
        Mechanism::Tracepoint { category: "syscalls".into(), event: "sys_enter_socket".into() };
    let mut pairs = vec![("kprobe", uprobe(false)), ("tracepoint", tracepoint)];
    pairs.extend([("raw_tp", enter(false)), ("tp_btf", enter(true))]);
    if kernel.has(Feature::UprobeMulti) {
        pairs.extend([false, true].map(|ret| ("uprobe_multi", uprobe_multi(ret))));
    }
    if kernel.has(Feature::Kprobe) {
        pairs.extend([("kprobe", kprobe(false)), ("kprobe", kprobe(true))]);
    }
    if kernel.has(Feature::KprobeMulti) {
        pairs.extend([false, true].map(|ret| ("kprobe_multi", kprobe_multi(ret))));
    }
    if has_trampolines() {
        pairs.extend([("fentry", trampoline(false)), ("fexit", trampoline(true))]);
    }
    pairs.push(("kprobe", uprobe(true)));
    let mut wrong = Vec::new();
    for (name, mechanism) in pairs {
        let (first, second) = (format!("first_{name}"), format!("second_{name}"));
        let mut plan = plan(vec![
            (&first, vec![attach("first", mechanism.clone())]),
            (&second, vec![attach("second", mechanism.clone())]),
        ]);
        plan.maps.clear();
        let ran = run_with_child("events", &plan, 20);
        let numbers = ran.numbers();
        // Raw tracepoints fire for every system call.
        if numbers.len() < 40 || !numbers.chunks(2).all(|pair| pair == [10, 20]) {
            wrong.push(format!("{mechanism:?}: {numbers:?} {}", ran.err));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

// What can go wrong.

fn nowhere() -> Mechanism {
    Mechanism::RawTracepoint { event: "no_such_event".into(), btf: false }
}

fn with_missing(policy: MissingProbes) -> Plan {
    let here = Mechanism::RawTracepoint { event: "sys_enter".into(), btf: false };
    let mut plan = plan(vec![(
        "raw_tp",
        vec![attach("rawtracepoint:no_such_event", nowhere()), attach("r", here)],
    )]);
    plan.config.missing_probes = policy;
    plan
}

fn missing_probe_error() -> Result<(), Failed> {
    let ran = run_with_child("probes", &with_missing(MissingProbes::Error), 10);
    ran.expect_error(
        255,
        &["error: cannot attach `rawtracepoint:no_such_event`", "test.bt:1:1", "missing_probes"],
    )?;
    same(&ran.out.as_str(), &"", "")
}

fn missing_probe_warning() -> Result<(), Failed> {
    let ran = run_with_child("probes", &with_missing(MissingProbes::Warn), 10);
    ran.expect_error(0, &["warning[missing-probe]: cannot attach `rawtra", "Attached 1 probe\n"])?;
    ran.expect_counts(&[(1, 10)])
}

fn missing_probe_ignored() -> Result<(), Failed> {
    let ran = run_with_child("probes", &with_missing(MissingProbes::Ignore), 10);
    same(&ran.err.as_str(), &"Attached 1 probe\n", "")?;
    ran.expect_counts(&[(1, 10)])
}

fn missing_all() -> Result<(), Failed> {
    let mut plan = single("raw_tp", nowhere());
    plan.config.missing_probes = MissingProbes::Ignore;
    run_with_child("probes", &plan, 10).expect_error(255, &["none of the probes"])
}

fn bad_place_of_many() -> Result<(), Failed> {
    if !kernel().has(Feature::UprobeMulti) {
        return Ok(());
    }
    let good = [target_offset("rt_first"), target_offset("rt_second")];
    let mechanism = Mechanism::UprobeMulti {
        path: exe(),
        symbols: vec!["rt_first".into(), "beyond".into(), "rt_second".into()],
        offsets: vec![good[0], 1 << 40, good[1]],
        counters: vec![],
        ret: false,
    };
    let link = many(&["a", "beyond", "b"], mechanism, vec![5, 9, 6]);
    let mut plan = plan(vec![("uprobe_multi", vec![link])]);
    let ran = run_with_child("probes", &plan, 30);
    ran.expect_error(255, &["error: cannot attach `beyond`", "offset 0x10000000000"])?;
    plan.config.missing_probes = MissingProbes::Warn;
    let ran = run_with_child("probes", &plan, 30);
    ran.expect_error(
        0,
        &["warning[missing-probe]: cannot attach `beyond`", "Attached 2 probes\n"],
    )?;
    ran.expect_counts(&[(5, 30), (6, 30)])
}

fn missing_btf_target() -> Result<(), Failed> {
    let here = Mechanism::RawTracepoint { event: "sys_enter".into(), btf: false };
    let gone = Mechanism::RawTracepoint { event: "no_such_event".into(), btf: true };
    let mut plan =
        plan(vec![("tp_btf", vec![attach("gone", gone)]), ("raw_tp", vec![attach("here", here)])]);
    let ran = run_with_child("probes", &plan, 10);
    ran.expect_error(255, &["error: cannot attach `gone`", "no raw tracepoint `no_such_event`"])?;
    plan.config.missing_probes = MissingProbes::Warn;
    let ran = run_with_child("probes", &plan, 10);
    ran.expect_error(0, &["warning[missing-probe]: cannot attach `gone`", "Attached 1 probe\n"])?;
    ran.expect_counts(&[(1, 10)])
}

fn no_kprobes() -> Result<(), Failed> {
    if kernel().has(Feature::Kprobe) {
        return Ok(());
    }
    let ran = run_object("probes", &single("kprobe", kprobe_on("vfs_read")), &[]);
    ran.expect_error(255, &["CONFIG_KPROBES", "use a tracepoint"])?;
    let functions = vec!["vfs_read", "vfs_write"];
    let multi = Mechanism::KprobeMulti { functions: functions.into(), ret: false };
    let plan = plan(vec![("kprobe_multi", vec![many(&["a", "b"], multi, vec![9, 10])])]);
    run_object("probes", &plan, &[]).expect_error(255, &["CONFIG_KPROBES"])
}

fn verifier_log() -> Result<(), Failed> {
    let plan = plan(vec![special("begin", Mechanism::Begin)]);
    let ran = run_object("events", &plan, &["-d"]);
    ran.expect_error(0, &["verifier log of p_begin:\n", "\nprocessed ", "Attached 1 probe\n"])
}

fn too_many_probes() -> Result<(), Failed> {
    let mut plan = single("raw_tp", nowhere());
    plan.config.max_probes = 0;
    run_object("probes", &plan, &[]).expect_error(1, &["1 link", "`max_probes`"])
}

fn damaged() -> Result<(), Failed> {
    let ran = run_object("events", &single("no_such_program", Mechanism::Begin), &[]);
    ran.expect_error(255, &["damaged: it has no program `p_no_such_program`"])?;
    let mut other_map = plan(vec![special("begin", Mechanism::Begin)]);
    other_map.maps[0].bpf_name = "nothing".into();
    let ran = run_object("events", &other_map, &[]);
    ran.expect_error(255, &["damaged: it has no map `nothing`"])?;
    let mut no_events = plan(vec![special("begin", Mechanism::Begin)]);
    no_events.events.truncate(1);
    no_events.events[0].action = rtrace::plan::Action::Exit;
    same(&run_object("events", &no_events, &[]).status, &Some(1), "")
}

// How a run ends.

fn worker(rounds: u64) -> Child {
    Command::new(exe()).args([WORK, &rounds.to_string()]).spawn().unwrap()
}

/// Starts a run and waits until its probes are attached.
fn start(object: &Path, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = command(object, args);
    command.env("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    if line != "__BPFTRACE_NOTIFY_PROBES_ATTACHED\n" {
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        panic!("first line is {line:?}; {err}");
    }
    (child, out)
}

fn interrupt((tool, _): &(Child, BufReader<std::process::ChildStdout>)) {
    // SAFETY: takes integers; the process is our child and not waited for yet.
    unsafe { libc::kill(tool.id().cast_signed(), libc::SIGINT) };
}

fn finish((tool, out): &mut (Child, BufReader<std::process::ChildStdout>)) -> Ran {
    let mut ran = Ran { out: String::new(), err: String::new(), status: None };
    out.read_to_string(&mut ran.out).unwrap();
    tool.stderr.take().unwrap().read_to_string(&mut ran.err).unwrap();
    ran.err = without_age(&ran.err);
    ran.status = tool.wait().unwrap().code();
    ran
}

fn signal() -> Result<(), Failed> {
    let plan = plan(vec![
        ("uprobe", vec![attach("u", uprobe_at("rt_first"))]),
        special("end", Mechanism::End),
    ]);
    let mut tool = start(&compile("probes", &plan), &[]);
    worker(20).wait().unwrap();
    interrupt(&tool);
    let asked = Instant::now();
    let ran = finish(&mut tool);
    ran.expect_counts(&[(4, 20), (15, 1)])?;
    same(&ran.numbers(), &vec![200], &ran.err)?;
    if asked.elapsed() > Duration::from_secs(5) {
        return Err("slow to end".into());
    }
    same(&ran.status, &Some(0), &ran.err)
}

fn closed_pipe() -> Result<(), Failed> {
    let (mut tool, out) = start(&compile("probes", &single("uprobe", uprobe_at("rt_first"))), &[]);
    drop(out);
    same(&tool.wait().unwrap().code(), &Some(0), "")
}

fn target_ends() -> Result<(), Failed> {
    let object = compile("probes", &single("uprobe", uprobe_at("rt_first")));
    let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = sleeper.id().to_string();
    let mut tool = start(&object, &["-p", &pid]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let ran = finish(&mut tool);
    same(&ran.status, &Some(0), &ran.err)?;
    let ran = self::ran(command(&object, &["-p", &pid]).output().unwrap());
    ran.expect_error(1, &["cannot trace process", "no such process"])
}

fn bad_commands() -> Result<(), Failed> {
    let plan = plan(vec![special("begin", Mechanism::Begin)]);
    let run = |command| run_object("events", &plan, &["-c", command]);
    run("no-such-command x").expect_error(1, &["cannot run `no-such-command x`", "$PATH"])?;
    run("/etc/passwd").expect_error(1, &["not an executable file"])?;
    let broken = directory().join("broken");
    std::fs::write(&broken, "\x7fELF").unwrap();
    Command::new("chmod").arg("+x").arg(&broken).status().unwrap();
    run(broken.to_str().unwrap()).expect_error(255, &["cannot run", "format error"])
}

fn command_outlives() -> Result<(), Failed> {
    let plan = plan(vec![("fifth", vec![attach("fifth", uprobe_at("rt_first"))])]);
    let started = Instant::now();
    let ran = run_object("events", &plan, &["-c", &child(100, 60_000)]);
    same(&ran.status, &Some(3), &ran.err)?;
    if started.elapsed() > Duration::from_secs(30) {
        return Err("waited for the command".into());
    }
    Ok(())
}

fn notify() -> Result<(), Failed> {
    let plan = plan(vec![special("begin", Mechanism::Begin)]);
    let mut tool = start(&compile("events", &plan), &[]);
    // The event of `begin` comes after the line.
    same(&finish(&mut tool).numbers(), &vec![1], "")
}

fn dry_run() -> Result<(), Failed> {
    let plan = single("uprobe", uprobe_at("rt_first"));
    let ran = run_object("probes", &plan, &["--dry-run"]);
    same(&(ran.out.as_str(), ran.status), &("", Some(0)), &ran.err)
}
