//! Attach points against the recorded machine.

use std::path::Path;

use super::*;
use crate::diag::Severity;
use crate::host::features::{Feature, Features};
use crate::source::{Source, Sources};

fn recorded() -> Host {
    Host::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/debian"))
}

fn without(hidden: &[Feature]) -> Host {
    let host = recorded();
    let kept = Feature::ALL.into_iter().filter(|f| host.has(*f) && !hidden.contains(f));
    let features = Features::recorded(kept.collect::<Vec<_>>());
    host.with_features(features)
}

fn options() -> Options {
    Options {
        params: vec!["vfs_read".into()],
        unsafe_mode: false,
        pid: None,
        missing_probes: MissingProbes::Error,
        no_feature: Vec::new(),
        portable: false,
    }
}

fn fields(names: &[&str]) -> Needs {
    Needs { args_fields: names.iter().map(|n| (*n).to_owned()).collect(), ..Needs::default() }
}

fn named() -> Needs {
    Needs { probe_name: true, ..Needs::default() }
}

/// Instances, or the first line of the error; warnings are dropped.
fn run(host: &Host, text: &str, needs: &Needs, options: &Options) -> Result<Vec<Instance>, String> {
    let point =
        AttachPoint { label: None, text: text.to_owned(), span: Span::new(0, 0, text.len()) };
    expand(&point, needs, host, options, &mut Diagnostics::default()).map_err(|d| d.message)
}

fn of(text: &str, needs: &Needs) -> Vec<Instance> {
    run(&recorded(), text, needs, &options()).unwrap()
}

fn one(text: &str, needs: &Needs) -> Instance {
    let mut list = of(text, needs);
    assert_eq!(list.len(), 1, "{text}");
    list.remove(0)
}

/// The whole message as it is shown.
fn message(text: &str) -> String {
    message_on(&recorded(), text, &options())
}

fn message_on(host: &Host, text: &str, options: &Options) -> String {
    let mut sources = Sources::default();
    sources.add(Source { name: "stdin".into(), text: text.to_owned() });
    let point =
        AttachPoint { label: None, text: text.to_owned(), span: Span::new(0, 0, text.len()) };
    let mut diags = Diagnostics::default();
    if let Err(d) = expand(&point, &Needs::default(), host, options, &mut diags) {
        diags.push(*d);
    }
    diags.render(&sources, crate::diag::Form::Text)
}

fn names(instances: &[Instance]) -> Vec<&str> {
    instances.iter().flat_map(|i| &i.attach).flat_map(|a| a.probes.iter()).collect()
}

fn shown(args: &Result<Vec<Argument>, String>) -> Vec<String> {
    let show = |a: &Argument| format!("{} {} {:?}", a.name, a.ty, a.access);
    args.as_ref().unwrap().iter().map(show).collect()
}

#[test]
fn providers_by_all_their_names() {
    let name = |text: &str| find(text).map(|p| p.name);
    assert_eq!(name("BEGIN"), Some("begin"));
    assert_eq!(name("Kprobe"), Some("kprobe"));
    assert_eq!(name("KR"), Some("kretprobe"));
    assert_eq!(name("u"), Some("uprobe"));
    assert_eq!(name("U"), Some("usdt"));
    assert_eq!(name("kfunc"), Some("fentry"));
    assert_eq!(name("x"), None);
    for (i, a) in PROVIDERS.iter().enumerate() {
        assert!(a.doc.ends_with('.'), "{}", a.name);
        assert!(a.usage.iter().all(|u| u.starts_with(a.name)), "{}", a.name);
        let mut others = PROVIDERS.iter().skip(i + 1).flat_map(|p| p.aliases);
        assert!(!others.any(|o| a.aliases.contains(o)), "{}", a.name);
    }
}

#[test]
fn system_calls_share_one_raw_tracepoint() {
    let all = one("tracepoint:syscalls:sys_enter_*", &named());
    let calls = all.syscalls.unwrap();
    assert_eq!(all.kind, ProgramKind::BtfTracepoint);
    assert_eq!(all.section, "tp_btf/sys_enter");
    assert_eq!(all.attach.len(), 1);
    assert_eq!(calls.numbers.len(), all.attach[0].probes.len());
    assert!(calls.numbers.is_sorted());
    let name_of = |n: u32| {
        let (_, index) = calls.numbers.iter().find(|c| c.0 == n).unwrap();
        all.attach[0].probes.get(*index as usize).unwrap()
    };
    assert_eq!(name_of(0), "tracepoint:syscalls:sys_enter_read");
    assert_eq!(name_of(5), "tracepoint:syscalls:sys_enter_newfstat");
    assert_eq!(name_of(166), "tracepoint:syscalls:sys_enter_umount");
    assert_eq!(calls.number, Access::Context { offset: 8, size: 8 });
    assert_eq!(calls.compat, Compat { offset: 16, size: 4, mask: 2, field: "status" });
    assert!(all.attach[0].cookies.is_empty());
}

#[test]
fn arguments_of_system_calls_are_registers() {
    let openat = one("tracepoint:syscalls:sys_enter_openat", &fields(&["filename"]));
    assert_eq!(openat.kind, ProgramKind::BtfTracepoint);
    assert_eq!(openat.context.space, Space::User);
    assert_eq!(
        shown(&openat.context.args),
        [
            "__syscall_nr int32 Context { offset: 8, size: 8 }",
            "dfd int64 SyscallRegister { offset: 112 }",
            "filename int8 * SyscallRegister { offset: 104 }",
            "flags int64 SyscallRegister { offset: 96 }",
            "mode uint64 SyscallRegister { offset: 56 }",
        ]
    );
    let filename = &openat.context.args.unwrap()[2].ty;
    assert_eq!(filename.space(), Space::User);

    let exit = one("tracepoint:syscalls:sys_exit_read", &fields(&["ret"]));
    assert_eq!(exit.section, "tp_btf/sys_exit");
    assert_eq!(exit.syscalls.unwrap().number, Access::SyscallRegister { offset: 120 });
    assert_eq!(shown(&exit.context.args)[1], "ret int64 Context { offset: 8, size: 8 }");
}

#[test]
fn arguments_of_system_calls_are_in_a_record_where_programs_are_preempted() {
    let host = without(&[Feature::NopreemptTracepoints]);
    let one = |text: &str, field: &str, options: &Options| {
        let mut list = run(&host, text, &fields(&[field]), options).unwrap();
        assert_eq!(list.len(), 1, "{text}");
        list.remove(0)
    };
    let openat = one("tracepoint:syscalls:sys_enter_openat", "filename", &options());
    assert_eq!((openat.kind, openat.context.result), (ProgramKind::Tracepoint, 1));
    assert_eq!(openat.section, "tracepoint/raw_syscalls/sys_enter");
    assert_eq!(
        shown(&openat.context.args),
        [
            "__syscall_nr int32 Context { offset: 8, size: 8 }",
            "dfd int64 Context { offset: 16, size: 8 }",
            "filename int8 * Context { offset: 24, size: 8 }",
            "flags int64 Context { offset: 32, size: 8 }",
            "mode uint64 Context { offset: 40, size: 8 }",
        ]
    );
    let event = |name: &str| plan::Mechanism::Tracepoint {
        category: "raw_syscalls".into(),
        event: name.into(),
    };
    assert_eq!(openat.attach[0].mechanism, event("sys_enter"));

    let exit = one("tracepoint:syscalls:sys_exit_read", "ret", &options());
    assert_eq!(exit.attach[0].mechanism, event("sys_exit"));
    assert_eq!(shown(&exit.context.args)[1], "ret int64 Context { offset: 16, size: 8 }");
    assert_eq!(exit.syscalls.unwrap().number, Access::Context { offset: 8, size: 8 });

    let escape = Options { no_feature: vec!["raw_syscalls_event".into()], ..options() };
    let exit = one("tracepoint:syscalls:sys_exit_read", "ret", &escape);
    assert_eq!(exit.kind, ProgramKind::BtfTracepoint);
}

#[test]
fn system_calls_in_a_record_share_one_event() {
    let host = without(&[Feature::NopreemptTracepoints]);
    let names = ["tracepoint:syscalls:sys_enter_read", "tracepoint:syscalls:sys_enter_write"];
    let list = names.map(|n| run(&host, n, &named(), &options()).unwrap());
    let joined = join(list.concat(), &named(), &host);
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].attach.len(), 1);
    assert_eq!(joined[0].attach[0].probes.iter().collect::<Vec<_>>(), names);
    assert_eq!(joined[0].syscalls.as_ref().unwrap().numbers, [(0, 0), (1, 1)]);
}

#[test]
fn calls_with_the_same_argument_elsewhere_are_apart() {
    // fd is the first argument of both; buf the second; count the third.
    let same = of("tracepoint:syscalls:sys_enter_*", &fields(&["fd"]));
    let with_read = same
        .iter()
        .find(|i| names(std::slice::from_ref(i)).contains(&"tracepoint:syscalls:sys_enter_read"));
    let with_read = with_read.unwrap();
    assert!(
        names(std::slice::from_ref(with_read)).contains(&"tracepoint:syscalls:sys_enter_write")
    );
    // open_how is openat2's alone: the rest has none.
    let how = of("tracepoint:syscalls:sys_enter_open*", &fields(&["how"]));
    assert_eq!(how.len(), 2);
}

#[test]
fn system_calls_by_perf_events() {
    let options = Options { no_feature: vec!["raw_syscalls".into()], ..options() };
    let list = run(&recorded(), "tracepoint:syscalls:sys_enter_open*", &named(), &options).unwrap();
    assert_eq!(list.len(), 1);
    let instance = &list[0];
    assert_eq!((instance.kind, instance.context.result), (ProgramKind::Tracepoint, 1));
    assert_eq!(instance.attach.len(), 3);
    assert_eq!(instance.attach[2].cookies, [2]);
    assert!(instance.syscalls.is_none());
}

#[test]
fn fields_of_tracepoint_records() {
    let switch = one("tracepoint:sched:sched_switch", &fields(&["prev_comm", "next_pid"]));
    assert_eq!(switch.section, "tracepoint/sched/sched_switch");
    assert_eq!(
        shown(&switch.context.args)[..3],
        [
            "prev_comm string[16] Context { offset: 8, size: 16 }",
            "prev_pid int32 Context { offset: 24, size: 4 }",
            "prev_prio int32 Context { offset: 28, size: 4 }",
        ]
    );
    let exec = one("tracepoint:sched:sched_process_exec", &fields(&["filename"]));
    assert_eq!(
        shown(&exec.context.args)[0],
        "filename int8 * DataLocation { offset: 8, relative: false }"
    );
}

#[test]
fn tracepoints_with_the_same_fields_share_a_program() {
    let both = one("t:sched:sched_wakeup*", &fields(&["comm"]));
    assert_eq!(both.attach.len(), 2);
    assert_eq!(both.section, "tracepoint");
    assert!(both.attach.iter().all(|a| a.cookies.is_empty()));
    // comm is at another place, or missing.
    let fork = of("t:sched:sched_*", &fields(&["comm"]));
    assert!(fork.len() > 1);
    // Any category.
    let any = of("tracepoint:*_fork", &Needs::default());
    assert_eq!(names(&any), ["tracepoint:sched:sched_process_fork"]);
}

#[test]
fn without_cookies_a_program_has_one_name() {
    let old = without(&[Feature::AttachCookie, Feature::KprobeMulti, Feature::UprobeMulti]);
    for text in ["t:sched:sched_wakeup*", "kprobe:vfs_read*", "u:libshop:shop_*"] {
        let list = run(&old, text, &named(), &options()).unwrap();
        assert!(list.len() > 1, "{text}");
        assert!(list.iter().all(|i| i.attach.len() == 1 && i.attach[0].cookies.is_empty()));
        assert_eq!(run(&old, text, &Needs::default(), &options()).unwrap().len(), 1, "{text}");
    }
}

#[test]
fn few_returns_of_a_pattern_get_trampolines() {
    let mechanisms = |hidden: &[Feature], text: &str| -> Vec<plan::Mechanism> {
        let host = without(hidden);
        let list = run(&host, text, &Needs::default(), &options()).unwrap();
        let list = list.into_iter().map(|i| ((), i)).collect();
        let needs = |()| Needs::default();
        let list = cheapest(list, &needs, &host, &options(), &mut Diagnostics::default());
        list.into_iter().flat_map(|(_, i)| i.attach).map(|link| link.mechanism).collect()
    };
    let trampolines = |list: &[plan::Mechanism]| {
        list.iter().filter(|m| matches!(m, plan::Mechanism::Trampoline { exit: true, .. })).count()
    };
    let old = mechanisms(&[Feature::KprobeMulti], "kretprobe:vfs_read*");
    assert!(old.len() > 1);
    assert_eq!(trampolines(&old), old.len());
    for (hidden, text) in [
        (&[][..], "kretprobe:vfs_read*"),
        (&[Feature::KprobeMulti, Feature::Fentry], "kretprobe:vfs_read*"),
        (&[Feature::KprobeMulti], "kprobe:vfs_read*"),
    ] {
        assert_eq!(trampolines(&mechanisms(hidden, text)), 0, "{text} without {hidden:?}");
    }
}

#[test]
fn raw_tracepoints_have_the_kernels_arguments() {
    let switch = one("rawtracepoint:sched_switch", &fields(&["next"]));
    assert_eq!(switch.kind, ProgramKind::BtfTracepoint);
    assert_eq!(names(std::slice::from_ref(&switch)), ["rawtracepoint:vmlinux:sched_switch"]);
    assert_eq!(
        shown(&switch.context.args),
        [
            "preempt bool Context { offset: 0, size: 8 }",
            "prev struct task_struct * Context { offset: 8, size: 8 }",
            "next struct task_struct * Context { offset: 16, size: 8 }",
            "prev_state uint32 Context { offset: 24, size: 8 }",
        ]
    );
    assert_eq!(one("rt:vmlinux:sched_switch", &named()).kind, ProgramKind::RawTracepoint);
    assert_eq!(of("rt:sched_wakeup*", &named()).len(), 2);
}

#[test]
fn kprobes() {
    let read = one("kprobe:$1", &fields(&["count"]));
    assert_eq!(read.section, "kprobe/vfs_read");
    assert_eq!(shown(&read.context.args)[2], "count uint64 Context { offset: 96, size: 8 }");
    assert_eq!(read.context.numbered.unwrap().len(), 6);
    let mechanism = |text: &str| one(text, &Needs::default()).attach.remove(0).mechanism;
    let single = |function: &str, offset, ret| plan::Mechanism::Kprobe {
        function: function.into(),
        module: None,
        offset,
        ret,
    };
    assert_eq!(mechanism("kprobe:vfs_read"), single("vfs_read", 0, false));
    assert_eq!(mechanism("kprobe:vmlinux:vfs_read"), single("vfs_read", 0, false));
    assert_eq!(mechanism("kprobe:vfs_read+0x10"), single("vfs_read", 16, false));
    assert_eq!(mechanism("kr:vfs_read"), single("vfs_read", 0, true));
    let module = plan::Mechanism::Kprobe {
        function: "ovl_open".into(),
        module: Some("overlay".into()),
        offset: 0,
        ret: false,
    };
    assert_eq!(mechanism("k:overlay:ovl_open"), module);
    let offset = one("kprobe:vfs_read+16", &Needs::default());
    assert_eq!(names(&[offset]), ["kprobe:vfs_read+16"]);
}

#[test]
fn patterns_of_kprobes() {
    let all = one("kprobe:vfs_read*", &named());
    assert_eq!(all.section, "kprobe.multi");
    assert_eq!(
        names(std::slice::from_ref(&all)),
        ["kprobe:vfs_read", "kprobe:vfs_readlink", "kprobe:vfs_readv"]
    );
    assert_eq!(all.attach[0].cookies, [0, 1, 2]);
    // Two have `pos` at the same place, one has none.
    assert_eq!(of("kprobe:vfs_read*", &fields(&["pos"])).len(), 2);
    assert_eq!(of("kprobe:vfs_read*", &fields(&["file"])).len(), 2);
    let with_module = one("kprobe:vmlinux:vfs_read*", &named());
    assert_eq!(with_module.section, "kprobe");
    assert_eq!(with_module.attach.len(), 3);
    assert_eq!(with_module.attach[2].cookies, [2]);
    let single = without(&[Feature::KprobeMulti]);
    let list = run(&single, "kprobe:vfs_read*", &Needs::default(), &options()).unwrap();
    assert_eq!((list.len(), list[0].attach.len()), (1, 3));
}

#[test]
fn fentry_and_fexit_are_typed() {
    let read = one("fexit:vfs_read", &fields(&["count"]));
    assert_eq!(read.section, "fexit/vfs_read");
    assert_eq!(names(std::slice::from_ref(&read)), ["fexit:vmlinux:vfs_read"]);
    assert_eq!(shown(&read.context.args)[3], "pos int64 * Context { offset: 24, size: 8 }");
    let retval = read.context.retval.unwrap();
    assert_eq!(retval.ty, Type::Int { size: 8, signed: true, space: Space::Kernel });
    assert_eq!(retval.access, Access::Context { offset: 32, size: 8 });
    assert_eq!(of("f:vfs_read*", &Needs::default()).len(), 3);
}

#[test]
fn uprobes_are_resolved_to_file_offsets() {
    let open = one("uprobe:/usr/bin/shop:shop_open", &Needs::default());
    assert_eq!(open.section, "uprobe.multi");
    let plan::Mechanism::UprobeMulti { path, symbols, offsets, counters: _, ret: false } =
        &open.attach[0].mechanism
    else {
        panic!()
    };
    assert_eq!((path.as_str(), symbols.len(), offsets.len()), ("/usr/bin/shop", 1, 1));
    let library = "/usr/lib/x86_64-linux-gnu/libshop.so.1";
    let all = one("uprobe:libshop:shop_*", &named());
    let expected: Vec<String> = ["shop_close", "shop_open", "shop_sell"]
        .iter()
        .map(|f| format!("uprobe:{library}:{f}"))
        .collect();
    assert_eq!(names(std::slice::from_ref(&all)), expected);
    assert_eq!(all.attach[0].cookies, [0, 1, 2]);
    let cpp = |text: &str| {
        of(text, &Needs::default())
            .iter()
            .flat_map(|i| &i.attach)
            .map(|a| a.probes.len())
            .sum::<usize>()
    };
    assert_eq!(cpp("u:libshop:cpp:\"shop::price\""), 2);
    assert_eq!(cpp("u:libshop:cpp:\"shop::price(int)\""), 1);
    assert_eq!(cpp("u:libshop:cpp:\"shop::Cart::put\""), 1);
    assert_eq!(cpp("u:/usr/bin/sh*:main"), 1);
}

#[test]
fn copies_of_a_marker_share_a_program_if_its_arguments_are_alike() {
    let numbered = |list: &[usize]| Needs { numbered: list.to_vec(), ..Needs::default() };
    let sites = |instance: &Instance| match &instance.attach[0].mechanism {
        plan::Mechanism::UprobeMulti { offsets, counters, .. } => (offsets.len(), counters.len()),
        other => panic!("{other:?}"),
    };
    // 0x400150 and 0x400170 in the program; their counter is at 0x401234.
    let both = one("usdt:/usr/bin/stall:ring", &numbered(&[1]));
    assert_eq!(sites(&both), (2, 2));
    assert_eq!(names(std::slice::from_ref(&both)), ["usdt:/usr/bin/stall:stall:ring"; 2]);
    let apart = of("U:/usr/bin/stall:stall:ring", &numbered(&[0]));
    assert_eq!(apart.iter().map(sites).collect::<Vec<_>>(), [(1, 1), (1, 1)]);
    let args = shown(&apart[1].context.numbered);
    assert!(args[0].ends_with("source: Constant(2) })"), "{args:?}");
    // Without a counter there is no list; one name needs no cookies.
    let all = one("usdt:/usr/bin/stall:*", &named());
    assert_eq!(sites(&all), (3, 3));
    assert_eq!(all.attach[0].cookies, [0, 1, 2]);
    assert_eq!(sites(&one("usdt:/usr/bin/stall:sell", &named())), (1, 0));
    assert!(one("usdt:/usr/bin/stall:ring", &named()).attach[0].cookies.is_empty());
    // One link for each place where the kernel has no others.
    let old = without(&[Feature::UprobeMulti, Feature::UprobeMultiPid]);
    let old = run(&old, "usdt:/usr/bin/stall:ring", &numbered(&[1]), &options()).unwrap();
    let plan::Mechanism::Uprobe { counter, .. } = &old[0].attach[1].mechanism else { panic!() };
    assert_eq!((old.len(), old[0].attach.len(), *counter > 0), (1, 2, true));
}

#[test]
fn timers_and_counters() {
    let mechanism = |text: &str| {
        let mut instance = one(text, &Needs::default());
        let link = instance.attach.remove(0);
        (link.probes.first().unwrap().to_owned(), link.mechanism)
    };
    let clock = |sample, cpus| plan::Mechanism::Perf { kind: 1, config: 0, sample, cpus };
    let (period, hz) = (plan::Sample::Period, plan::Sample::Frequency);
    let (first, all) = (plan::Cpus::First, plan::Cpus::All);
    assert_eq!(
        mechanism("interval:s:1"),
        ("interval:s:1".into(), clock(period(1_000_000_000), first))
    );
    assert_eq!(
        mechanism("i:1500ms"),
        ("interval:us:1500000".into(), clock(period(1_500_000_000), first))
    );
    assert_eq!(mechanism("profile:hz:99"), ("profile:hz:99".into(), clock(hz(99), all)));
    let faults = plan::Mechanism::Perf { kind: 1, config: 2, sample: period(100), cpus: all };
    assert_eq!(mechanism("software:faults:"), ("software:faults".into(), faults));
    let misses = plan::Mechanism::Perf { kind: 0, config: 3, sample: period(7), cpus: all };
    assert_eq!(mechanism("h:cache-misses:7"), ("hardware:cache-misses:7".into(), misses));
}

#[test]
fn labels_replace_names() {
    let label = crate::source::Spanned::new("slow".to_owned(), Span::default());
    let point =
        AttachPoint { label: Some(label), text: "kprobe:vfs_read".into(), span: Span::default() };
    let list =
        expand(&point, &named(), &recorded(), &options(), &mut Diagnostics::default()).unwrap();
    assert_eq!(names(&list), ["slow"]);
}

#[test]
fn patterns_of_providers() {
    let both = of("*:sched_switch", &Needs::default());
    assert_eq!(names(&both), ["rawtracepoint:vmlinux:sched_switch"]);
    let kernel = of("*:vfs_read", &Needs::default());
    assert_eq!(names(&kernel), ["kprobe:vfs_read", "fentry:vmlinux:vfs_read"]);
    let user = of("u*:/usr/bin/shop:main", &Needs::default());
    assert_eq!(names(&user), ["uprobe:/usr/bin/shop:main"]);
}

#[test]
fn what_is_not_there_is_an_error_a_warning_or_nothing() {
    let host = recorded();
    let under = |policy, text: &str| {
        let options = Options { missing_probes: policy, ..options() };
        let mut diags = Diagnostics::default();
        let point =
            AttachPoint { label: None, text: text.to_owned(), span: Span::new(0, 0, text.len()) };
        let list = expand(&point, &Needs::default(), &host, &options, &mut diags);
        let severities: Vec<Severity> = diags.list.iter().map(|d| d.severity).collect();
        (list.map(|l| l.len()).map_err(|_| ()), severities)
    };
    let missing = [
        "kprobe:nope",
        "t:sched:nope",
        "fentry:nope",
        "rt:nope",
        "u:/usr/bin/shop:nope",
        "u:/nope:f",
    ];
    for text in missing {
        assert_eq!(under(MissingProbes::Error, text), (Err(()), vec![]), "{text}");
        assert_eq!(under(MissingProbes::Warn, text), (Ok(0), vec![Severity::Warning]), "{text}");
        assert_eq!(under(MissingProbes::Ignore, text), (Ok(0), vec![]), "{text}");
    }
    for text in
        ["kprobe:nope*", "t:sched:nope*", "fentry:nope*", "rt:nope*", "u:/usr/bin/shop:nope*"]
    {
        assert_eq!(under(MissingProbes::Error, text), (Ok(0), vec![Severity::Warning]), "{text}");
        assert_eq!(under(MissingProbes::Ignore, text), (Ok(0), vec![]), "{text}");
    }
}

#[test]
fn messages_say_why_and_what_instead() {
    assert!(message("kprobe:vfs_raed").contains("did you mean `vfs_read`?"));
    assert!(message("t:sched:sched_swich").contains("did you mean `sched_switch`?"));
    assert!(message("t:shed:sched_switch").contains("did you mean `sched:sched_switch`?"));
    assert!(message("rt:sched_swich").contains("did you mean `sched_switch`?"));
    assert!(message("fentry:tcp_conect").contains("did you mean `tcp_connect`?"));
    assert!(message("u:libshop:shop_opn").contains("did you mean `shop_open`?"));
    assert!(message("kprob:x").contains("did you mean `kprobe`?"));
    assert!(message("hardware:cyles").contains("did you mean `cycles`?"));
    assert!(message("kprobe:rcu_read_unlock").contains("cannot be traced"));
    assert!(message("kretprobe:vfs_read+4").contains("cannot have an offset"));
    assert!(message("interval:5").contains("too short"));
    assert!(message("t:sched_switch").contains("takes 2 parts after its name, but 1 part was"));
    let bare = without(&[Feature::Kprobe, Feature::Fentry]);
    let shown = message_on(&bare, "kprobe:vfs_read", &options());
    assert!(shown.contains("CONFIG_KPROBES"), "{shown}");
    assert!(shown.contains("`tracepoint:syscalls:sys_enter_read`"), "{shown}");
    let traced = without(&[Feature::Kprobe]);
    let shown = message_on(&traced, "kprobe:tcp_connect", &options());
    assert!(shown.contains("`fentry:tcp_connect`"), "{shown}");
    assert!(message_on(&bare, "fentry:vfs_read", &options()).contains("no fentry probes"));
}

#[test]
fn a_listing_ends_when_nobody_wants_more() {
    let host = recorded();
    let (mut pieces, mut diags) = (0, Diagnostics::default());
    list_each(&host, Some("*"), ListOptions::default(), &mut diags, &mut |found| {
        assert!(!found.is_empty());
        pieces += 1;
        pieces < 2
    });
    assert_eq!(pieces, 2);
}

#[test]
fn a_filter_leaves_links_what_matches() {
    let filtered = |text: &str, hidden: &[Feature], names: &[&str]| {
        let host = without(hidden);
        let mut list = run(&host, text, &Needs::default(), &options()).unwrap();
        for instance in &mut list {
            super::filter(instance, &|name| names.iter().any(|n| name.ends_with(n)));
        }
        list.into_iter().filter(|i| !i.attach.is_empty()).collect::<Vec<_>>()
    };
    let many = filtered("kprobe:vfs_read*", &[], &["vfs_readv"]);
    let link = &many[0].attach[0];
    assert_eq!(link.probes.iter().collect::<Vec<_>>(), ["kprobe:vfs_readv"]);
    let plan::Mechanism::KprobeMulti { functions, .. } = &link.mechanism else { panic!() };
    assert_eq!(functions.iter().collect::<Vec<_>>(), ["vfs_readv"]);
    let each = filtered("kprobe:vfs_read*", &[Feature::KprobeMulti], &["vfs_readv"]);
    assert_eq!(each.iter().map(|i| i.attach.len()).sum::<usize>(), 1);
    let calls = filtered("tracepoint:syscalls:sys_enter_*", &[], &["_openat", "_read"]);
    let numbers = &calls[0].syscalls.as_ref().unwrap().numbers;
    let names: Vec<&str> = calls[0].attach[0].probes.iter().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(numbers.iter().map(|n| n.0).collect::<Vec<_>>(), [0, 257]);
    for (number, name) in numbers {
        assert_eq!(names[*name as usize].ends_with("_read"), *number == 0);
    }
    assert!(filtered("kprobe:vfs_read*", &[], &["nothing"]).is_empty());
}

#[test]
fn listing() {
    let host = recorded();
    let lines = |pattern: &str, verbose: bool| {
        let mut diags = Diagnostics::default();
        let options = ListOptions { verbose, pid: None };
        let lines = list(&host, Some(pattern), options, &mut diags);
        assert!(diags.list.is_empty(), "{pattern}");
        lines
    };
    assert_eq!(
        lines("kprobe:vfs_read*", false),
        ["kprobe:vfs_read", "kprobe:vfs_readlink", "kprobe:vfs_readv"]
    );
    assert_eq!(lines("kprobe:vmlinux:vfs_read", false), ["kprobe:vmlinux:vfs_read"]);
    assert_eq!(
        lines("fexit:vfs_read", true),
        [
            "fexit:vmlinux:vfs_read",
            "    struct file * file",
            "    char * buf",
            "    size_t count",
            "    loff_t * pos",
            "    ssize_t retval"
        ]
    );
    assert_eq!(
        lines("kprobe:vfs_fsync", true),
        ["kprobe:vfs_fsync", "    struct file * arg0", "    int arg1"]
    );
    assert_eq!(
        lines("t:syscalls:sys_enter_close", true),
        ["tracepoint:syscalls:sys_enter_close", "    int __syscall_nr", "    unsigned int fd"]
    );
    assert_eq!(
        lines("*process_fork*", false),
        ["tracepoint:sched:sched_process_fork", "rawtracepoint:vmlinux:sched_process_fork"]
    );
    assert_eq!(lines("software:c*", false).len(), 5);
    assert_eq!(lines("interval", false).len(), 4);
    assert_eq!(lines("struct qst*, enum pid_ty*", false), ["struct qstr", "enum pid_type"]);
    assert!(lines("struct qstr", true)[0].starts_with("vmlinux: struct qstr {\n\tunion {"));
    assert_eq!(
        lines("u:libshop:cpp:\"shop::price\"", false),
        [
            "uprobe:/usr/lib/x86_64-linux-gnu/libshop.so.1:cpp:\"shop::price(double)\"",
            "uprobe:/usr/lib/x86_64-linux-gnu/libshop.so.1:cpp:\"shop::price(int)\""
        ]
    );
    let everything = lines("*", false);
    assert!(everything.iter().all(|l| !l.starts_with("kretprobe") && !l.starts_with("uprobe")));
    assert!(everything.contains(&"fentry:vmlinux:tcp_connect".to_owned()));
}

#[test]
fn every_system_call_here_has_its_number() {
    let host = Host::at(Path::new("/"));
    let Ok(tracefs) = host.tracefs() else { return };
    let calls: Vec<&str> = tracefs
        .events(&host)
        .iter()
        .filter(|e| e.category == "syscalls")
        .filter_map(|e| e.name.strip_prefix("sys_enter_"))
        .collect();
    let unknown: Vec<&&str> =
        calls.iter().filter(|call| host.syscall_number(call).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let mut numbers: Vec<u32> = calls.iter().filter_map(|c| host.syscall_number(c)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), calls.len(), "two calls with one number");
}
