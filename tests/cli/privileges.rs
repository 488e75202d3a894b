//! As few privileges as possible: what suffices to start, what is left once probes are attached.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::Folder;

/// Runs a script as another user, with these capabilities only.
fn with(capabilities: &str, args: &[&str]) -> Output {
    let folder = Folder::new(&format!("caps-{}", capabilities.len() + args.len()));
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The folder of the build may not be readable for others.
    let program = folder.0.join("rtrace");
    std::fs::copy(env!("CARGO_BIN_EXE_rtrace"), &program).unwrap();
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(format!("--inh-caps=-all{capabilities}"))
        .arg(format!("--ambient-caps=-all{capabilities}"))
        .arg(format!("--bounding-set=-all{capabilities}"))
        .arg(&program)
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn bpf_and_perfmon_suffice() {
    let script = "begin { @begun = 1; } rawtracepoint:sys_enter { @calls = 1; } \
                  profile:hz:999 { @stacks[kstack(2)] = 1; } software:cpu-clock:1000000 { @clock = 1; } \
                  interval:ms:50 { exit(); }";
    let done = with(",+bpf,+perfmon", &["-q", "-e", script]);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    for line in ["@begun: 1\n", "@calls: 1\n"] {
        assert!(out.contains(line), "{out}{err}");
    }
}

#[test]
fn what_is_missing_is_named_before_anything_is_loaded() {
    let done = with("", &["-e", "begin { }"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("CAP_BPF and CAP_PERFMON"), "{}", text(&done.stderr));
    let done = with(",+bpf", &["-e", "begin { exit(); }"]);
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
