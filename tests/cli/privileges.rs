//! As few privileges as possible: what suffices to start, what is left once probes are attached.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::Folder;

/// A copy of rtrace that any user may run.
struct Copy {
    program: PathBuf,
    _folder: Folder,
}

impl Copy {
    fn new(name: &str) -> Copy {
        let folder = Folder::new(&format!("caps-{name}"));
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o755)).unwrap();
        // The folder of the build may not be readable for others.
        let program = folder.0.join("rtrace");
        // By another process: a child that some other test forks meanwhile would keep the copy open
        // for writing, and then nobody may run it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_rtrace")).arg(&program).status();
        assert!(copied.unwrap().success());
        Copy { program, _folder: folder }
    }

    /// Runs it as another user, with these capabilities only.
    fn with(&self, capabilities: &str, args: &[&str]) -> Output {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(format!("--inh-caps=-all{capabilities}"))
            .arg(format!("--ambient-caps=-all{capabilities}"))
            .arg(format!("--bounding-set=-all{capabilities}"))
            .arg(&self.program)
            .args(args)
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn bpf_and_perfmon_suffice() {
    let copy = Copy::new("least");
    let script = "begin { @begun = 1; } rawtracepoint:sys_enter { @calls = 1; } \
                  profile:hz:999 { @stacks[kstack(2)] = 1; } software:cpu-clock:1000000 { @clock = 1; } \
                  interval:ms:50 { exit(); }";
    let done = copy.with(",+bpf,+perfmon", &["-q", "-e", script]);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    for line in ["@begun: 1\n", "@calls: 1\n"] {
        assert!(out.contains(line), "{out}{err}");
    }
}

#[test]
fn what_is_missing_is_named_before_anything_is_loaded() {
    let copy = Copy::new("missing");
    let done = copy.with("", &["-e", "begin { }"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("CAP_BPF and CAP_PERFMON"), "{}", text(&done.stderr));
    let done = copy.with(",+bpf", &["-e", "begin { exit(); }"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("CAP_PERFMON"), "{}", text(&done.stderr));
}

/// The capabilities that rtrace has while it traces, as its child sees them.
fn left(script: &str) -> u64 {
    let child = "sh -c 'grep CapEff /proc/$PPID/status'";
    let done = crate::rtrace(&["-q", "--unsafe", "-e", script, "-c", child]).done().code(0);
    let line = done.stdout.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    u64::from_str_radix(line, 16).unwrap()
}

#[test]
fn what_is_not_needed_is_given_up_before_the_command_starts() {
    // KILL, DAC_READ_SEARCH, SYS_PTRACE, SYS_NICE, SYSLOG, PERFMON, BPF, CHECKPOINT_RESTORE.
    let kept = [5, 2, 19, 23, 34, 38, 39, 40].iter().fold(0, |mask, bit| mask | 1u64 << bit);
    let script = "tracepoint:syscalls:sys_enter_getppid { @ = count(); } end { @e = 1; }";
    assert_eq!(left(script) & !kept, 0);
    assert_ne!(left(script) & 1 << 39, 0);
    // Commands are run with what the user has.
    let system = "tracepoint:syscalls:sys_enter_getppid { @ = count(); } end { system(\"true\"); }";
    assert_ne!(left(system) & !kept, 0);
}

/// The capabilities that `rtrace check --caps` names: those without which nothing works, and
/// those without which less is shown.
fn named(script: &str) -> (Vec<String>, Vec<String>) {
    let done = crate::rtrace(&["check", "--unsafe", "--caps", "-"]).input(script).done().code(0);
    let lines = done.stdout.lines().skip(1).map(|line| {
        let name = line.split_whitespace().next().unwrap().strip_prefix("CAP_").unwrap();
        (format!(",+{}", name.to_lowercase()), line.ends_with("(works without)"))
    });
    let (wished, needed): (Vec<_>, Vec<_>) = lines.partition(|(_, optional)| *optional);
    let names = |list: Vec<(String, bool)>| list.into_iter().map(|(name, _)| name).collect();
    (names(needed), names(wished))
}

#[test]
fn the_capabilities_that_check_names_suffice_and_are_needed() {
    let copy = Copy::new("named");
    let base = [",+bpf", ",+perfmon"];
    for (script, more, wished) in [
        ("begin { @ = 1; }", &[][..], &[][..]),
        ("tracepoint:syscalls:sys_enter_openat { @[str(args.filename)] = count(); }", &[], &[]),
        ("tracepoint:syscalls:sys_exit_* { @[probe, args.ret] = count(); }", &[], &[]),
        ("tracepoint:sched:sched_switch { @ = count(); }", &[], &[]),
        ("rawtracepoint:sched_switch { @ = count(); }", &[], &[]),
        ("iter:task { @[ctx.task.pid] = 1; }", &[], &[]),
        ("interval:ms:10 { @ = count(); }", &[], &[]),
        ("profile:hz:99 { @[kstack] = count(); }", &[], &[",+syslog"]),
        (
            "software:page-faults:100 { @[ustack] = count(); }",
            &[],
            &[",+sys_ptrace", ",+dac_read_search"],
        ),
        ("xdp:lo { @ = count(); }", &[",+net_admin"], &[]),
    ] {
        let (needed, optional) = named(script);
        assert_eq!(needed, [&base[..], more].concat(), "{script}");
        assert_eq!(optional, wished, "{script}");
        let run = |capabilities: &[String]| {
            copy.with(&capabilities.concat(), &["-q", "--unsafe", "--dry-run", "-e", script])
        };
        let done = run(&needed);
        assert!(done.status.success(), "{script}: {}", text(&done.stderr));
        for missing in 0..needed.len() {
            let mut less = needed.clone();
            less.remove(missing);
            let done = run(&less);
            assert!(!done.status.success(), "{script}: works without {}", needed[missing]);
            assert!(!text(&done.stderr).is_empty());
        }
    }
}

#[test]
fn without_the_tracing_file_system_types_stand_in_for_it() {
    let copy = Copy::new("types");
    let some = ",+bpf,+perfmon";
    let script = "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @[str(args.filename)] = count(); } \
                  tracepoint:syscalls:sys_exit_openat /pid == cpid/ { @ret[args.ret > 0] = 1; } \
                  tracepoint:sched:sched_process_exec /pid == cpid/ { @exec = count(); }";
    let done = copy.with(some, &["-q", "-e", script, "-c", "cat /etc/hostname"]);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{err}");
    for line in ["@[/etc/hostname]: 1\n", "@ret[true]: 1\n", "@exec: 1\n"] {
        assert!(out.contains(line), "{out}{err}");
    }
    for (script, said) in [
        ("tracepoint:sched:sched_switch { print(args.prev_pid); }", "the tracing file system"),
        ("tracepoint:sched:sched_switch { print(args.prev_pid); }", "`rawtracepoint:sched_switch`"),
        ("tracepoint:sched:* { @ = count(); }", "cannot be looked up by a pattern"),
        ("tracepoint:sched:sched_swich { }", "did you mean `sched_switch`?"),
        ("tracepoint:syscalls:sys_enter_opena { }", "did you mean"),
        ("tracepoint:syscalls:sys_enter_openat { print(args.nme); }", "filename"),
    ] {
        let done = copy.with(some, &["-e", script]);
        assert_eq!(done.status.code(), Some(1), "{script}");
        assert!(text(&done.stderr).contains(said), "{script}: {}", text(&done.stderr));
    }
    let listed = copy.with(some, &["-lv", "tracepoint:syscalls:sys_enter_openat"]);
    assert!(text(&listed.stdout).contains("    const char * filename\n"));
    // What may be mounted for the process itself has all.
    let all = ",+bpf,+perfmon,+sys_admin,+dac_read_search";
    let script = "tracepoint:sched:sched_switch { @[args.prev_pid >= 0] = 1; exit(); }";
    let done = copy.with(all, &["-q", "-e", script]);
    assert!(text(&done.stdout).contains("@[true]: 1\n"), "{}", text(&done.stderr));
}
