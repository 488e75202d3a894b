//! Runs that go on without rtrace: what they count is exact, they are looked at and ended from other
//! processes, and nothing half is left. Needs root. `RTRACE_VM_KERNELS` names other kernels to run on.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use harness::{rtrace, workload};
use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CASES: [(&str, fn()); 8] = [
    ("what_nobody_reads_is_kept_or_counted", what_nobody_reads_is_kept_or_counted),
    ("a_run_goes_on_and_is_ended_elsewhere", a_run_goes_on_and_is_ended_elsewhere),
    ("what_it_says_is_read_from_another_process", what_it_says_is_read_from_another_process),
    (
        "stored_objects_are_pinned_with_their_parameters",
        stored_objects_are_pinned_with_their_parameters,
    ),
    ("what_is_not_whole_is_recognised_and_removed", what_is_not_whole_is_recognised_and_removed),
    ("what_fails_leaves_nothing", what_fails_leaves_nothing),
    ("what_needs_rtrace_is_refused", what_needs_rtrace_is_refused),
    ("every_way_to_attach_stays_or_says_why_not", every_way_to_attach_stays_or_says_why_not),
];

fn main() -> ExitCode {
    if let Some(status) = harness::elsewhere::run() {
        return status;
    }
    // The list of all runs is one thing.
    let args = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let trials = CASES
        .iter()
        .map(|(name, case)| {
            Trial::test(*name, || {
                case();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}

const SCRIPT: &str = "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ \
                      { @ = count(); @by[comm] = count(); printf(\"call %d\\n\", 6 * 7); } \
                      end { printf(\"ended\\n\"); }";

fn run(args: &[&str]) -> Output {
    Command::new(rtrace()).args(args).env("BPFTRACE_COLOR", "never").output().unwrap()
}

/// Standard output of what must go well.
#[track_caller]
fn done(args: &[&str]) -> String {
    let output = run(args);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of what must fail.
#[track_caller]
fn fails(args: &[&str]) -> String {
    let output = run(args);
    assert!(!output.status.success(), "{args:?} went well");
    String::from_utf8(output.stderr).unwrap()
}

fn calls(count: u32) {
    let count = count.to_string();
    let status = Command::new(workload()).args(["getppid", &count]).status().unwrap();
    assert!(status.success());
}

fn folder(name: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(name)
}

/// A name of this test, which is not left behind by an earlier one.
fn fresh(name: &str) -> String {
    let name = format!("rt-test-{name}");
    if folder(&name).exists() {
        run(&["detach", &name]);
    }
    name
}

fn a_run_goes_on_and_is_ended_elsewhere() {
    let name = fresh("goes-on");
    let said = done(&["--pin", &name, "-q", "-e", SCRIPT]);
    assert_eq!(said, format!("Program pinned to {}\n", folder(&name).display()));
    calls(7);
    assert_eq!(done(&["maps", &name]), "\n\n@: 7\n@by[rt-getppid]: 7\n");
    let listed = done(&["ps"]);
    let row = listed.lines().find(|l| l.starts_with(&name)).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[2..], ["2", "attached"], "{listed}");
    assert!(fails(&["--pin", &name, "-q", "-e", SCRIPT]).contains("exists"));
    calls(5);
    let ended = done(&["detach", &name]);
    let expected = "call 42\n".repeat(12) + "ended\n\n\n@: 12\n@by[rt-getppid]: 12\n";
    assert_eq!(ended, expected);
    assert!(!folder(&name).exists());
    assert!(!done(&["ps"]).contains(&name));
    assert!(fails(&["maps", &name]).contains("nothing is pinned as"));
}

fn what_it_says_is_read_from_another_process() {
    let name = fresh("says");
    done(&["--pin", &name, "-q", "-e", SCRIPT]);
    let mut reader =
        Command::new(rtrace()).args(["attach", &name]).stdout(Stdio::piped()).spawn().unwrap();
    calls(3);
    let mut lines = BufReader::new(reader.stdout.take().unwrap());
    for _ in 0..3 {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "call 42\n");
    }
    kill(Pid::from_raw(reader.id().cast_signed()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(reader.wait().unwrap().success());
    assert_eq!(rest, "\n\n@: 3\n@by[rt-getppid]: 3\n");
    // Whoever looked on has ended nothing.
    calls(2);
    assert!(done(&["detach", &name]).ends_with("\n@: 5\n@by[rt-getppid]: 5\n"));
}

fn stored_objects_are_pinned_with_their_parameters() {
    let name = fresh("object");
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pinned.bpf.o");
    let object = object.to_str().unwrap();
    let script = "tracepoint:syscalls:sys_enter_getppid /comm == getopt(\"name\", \"\")/ { @ += getopt(\"step\", 1); }";
    done(&["build", "-e", script, "-o", object]);
    done(&["run", "-q", "--pin", &name, object, "--", "--name=rt-getppid", "--step=10"]);
    calls(4);
    assert_eq!(done(&["detach", &name]), "\n\n@: 40\n");
}

fn what_is_not_whole_is_recognised_and_removed() {
    // A tracer that was killed while it pinned.
    let name = fresh("half");
    for part in ["", "maps", "progs", "links"] {
        std::fs::create_dir(folder(&name).join(part)).unwrap();
    }
    let listed = done(&["ps"]);
    assert!(listed.lines().any(|l| l.starts_with(&name) && l.ends_with("stale: not a whole run")));
    assert!(fails(&["maps", &name]).contains("not a whole one"));
    assert!(done(&["detach", &name]).contains("removed"));
    assert!(!folder(&name).exists());

    // Somebody has removed a link.
    done(&["--pin", &name, "-q", "-e", SCRIPT]);
    std::fs::remove_file(folder(&name).join("links/0")).unwrap();
    let listed = done(&["ps"]);
    assert!(listed.contains("stale: 1 of 1 links are gone"), "{listed}");
    assert!(done(&["detach", &name]).starts_with("ended\n"));
    assert!(!folder(&name).exists());

    // And a map.
    done(&["--pin", &name, "-q", "-e", SCRIPT]);
    for entry in std::fs::read_dir(folder(&name).join("maps")).into_iter().flatten().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    assert!(fails(&["maps", &name]).contains("is missing"));
    assert!(fails(&["detach", &name]).contains("the run is taken off"));
    assert!(!folder(&name).exists());
}

fn what_fails_leaves_nothing() {
    let name = fresh("fails");
    let missing = "tracepoint:syscalls:sys_enter_getppid { @ = count(); } hardware:no_such:1 { }";
    fails(&["--pin", &name, "-q", "-e", missing]);
    assert!(!folder(&name).exists());
    for wrong in ["a/b", "", "..", "a.b"] {
        assert!(fails(&["--pin", wrong, "-q", "-e", SCRIPT]).contains("no name for a pinned run"));
    }
    assert!(fails(&["--pin", &name, "-c", "true", "-e", SCRIPT]).contains("cannot be used with"));
    assert!(!folder(&name).exists());
}

fn what_needs_rtrace_is_refused() {
    let name = fresh("refused");
    for (script, why) in [
        ("interval:s:1 { system(\"true\"); }", "`system` runs a command in rtrace"),
        ("interval:s:1 { cat(\"/etc/hostname\"); }", "`cat` reads the file in rtrace"),
        ("interval:s:1 { time(); }", "`time` takes the time when rtrace prints it"),
        ("interval:s:1 { exit(); }", "`exit` ends rtrace"),
        ("interval:s:1 { @++; print(@); }", "maps are printed by rtrace"),
        ("interval:s:1 { @[1] = count(); clear(@); }", "maps are cleared by rtrace"),
        ("fn f() : void { exit(); } interval:s:1 { f(); }", "`exit` ends rtrace"),
        ("self:signal:SIGUSR1 { @++; }", "is run by rtrace"),
        ("iter:task { @++; }", "is read by rtrace"),
        ("interval:s:1 { @[ustack(dwarf)] = count(); }", "unwound by DWARF need rtrace"),
    ] {
        let args = ["--pin", &name, "--unsafe", "-q", "-e", script];
        let output = run(&args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && err.contains(why), "{script}: {err}");
        assert!(!folder(&name).exists(), "{script}");
    }
    for flag in ["--strict", "--stats", "--max-overhead=1%", "--dry-run", "--test"] {
        assert!(fails(&["--pin", &name, flag, "-e", SCRIPT]).contains("cannot be used with"));
    }
    // `begin` and `end` run while rtrace is there, and the rest waits for it.
    let script = "begin { @b[1] = 1; @a[1] = 1; clear(@b); print(@a); } \
                  end { print(@a); clear(@a); exit(7); }";
    assert!(done(&["--pin", &name, "-q", "-e", script]).starts_with("@a[1]: 1\n"));
    let ended = run(&["detach", &name]);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "@a[1]: 1\n\n\n");
    assert_eq!(ended.status.code(), Some(7));
}

/// What a kernel cannot keep is told; the rest counts on, without a link that is gone.
fn every_way_to_attach_stays_or_says_why_not() {
    let name = fresh("ways");
    let target = format!("uprobe:{}:rt_target_add", workload().display());
    for probe in [
        "tracepoint:sched:sched_switch",
        "rawtracepoint:sched_switch",
        "kprobe:vfs_read",
        "kretprobe:vfs_read",
        "fentry:vfs_read",
        "profile:hz:99",
        "interval:ms:10",
        "software:context-switches:1",
        target.as_str(),
    ] {
        let script = format!("{probe} {{ @ = count(); }}");
        let output = run(&["--pin", &name, "-q", "-e", &script]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let known = [
                "this kernel has no",
                "these probes cannot stay",
                "there is no",
                "has no function",
            ];
            assert!(known.iter().any(|why| err.contains(why)), "{probe}: {err}");
            assert!(!folder(&name).exists(), "{probe}");
            continue;
        }
        calls(20);
        let adds = Command::new(workload()).args(["adds", "3"]).status().unwrap();
        assert!(adds.success());
        let status = Command::new("sleep").arg("0.1").status().unwrap();
        assert!(status.success());
        let listed = done(&["ps"]);
        let row = listed.lines().find(|l| l.starts_with(&name)).unwrap();
        assert!(row.ends_with("attached"), "{probe}: {row}");
        let counted = done(&["detach", &name]);
        let count = counted.trim().strip_prefix("@: ").and_then(|n| n.parse::<u64>().ok());
        assert!(
            count.is_some_and(|n| if probe == target { n == 3 } else { n > 0 }),
            "{probe}: {counted}"
        );
    }
}

/// What waited for a reader, and what found no room meanwhile, is all that there was.
fn what_nobody_reads_is_kept_or_counted() {
    let name = fresh("unread");
    let script = "config = { perf_rb_pages = 64 } \
                  tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ { \
                  printf(\"%s is not read by anybody so far\\n\", comm); @ = count(); }";
    done(&["--pin", &name, "-q", "-e", script]);
    calls(20000);
    let ended = run(&["detach", &name]);
    let (out, err) =
        (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert!(out.ends_with("\n\n@: 20000\n"), "{out}");
    let read = out.lines().filter(|line| line.ends_with(" so far")).count();
    let total = "WARNING: Total lost event count: ";
    let lost = err.lines().find_map(|line| line.strip_prefix(total)?.parse::<usize>().ok());
    assert!(
        read > 1000 && lost.is_some_and(|lost| lost > 0 && read + lost == 20000),
        "{read}: {err}"
    );
}
