//! Whatever ends a run: nothing of it stays in the kernel, maps are printed where there is
//! still somebody to read them, and the exit status says what happened.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kernel::Held;
use crate::{Done, Folder, Patience, Run, alone, rtrace, workload, workload_text};

/// Probes of several kinds, whose links differ.
fn script() -> String {
    format!(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ {{ @calls = count(); }} \
         uprobe:{}:rt_target_add {{ @adds = count(); }} \
         tracepoint:sched:sched_process_exit /comm == \"nobody\"/ {{ @exits = count(); }} \
         interval:s:100 {{ @never = 1; }} \
         end {{ printf(\"the end\\n\"); }}",
        env!("CARGO_BIN_EXE_rt-workload")
    )
}

/// A run that has counted 100 calls, and what it holds.
fn counting(flags: &[&str]) -> (Run, Held) {
    let run = Run::read(rtrace(flags, &script()));
    assert!(workload("getppid 100").status().unwrap().success());
    let held = Held::by(run.pid());
    (run, held)
}

#[track_caller]
fn printed(done: &Done) {
    assert!(done.out.contains("the end\n\n\n"), "{}", done.out);
    assert!(done.out.contains("\n@calls: 100\n"), "{}", done.out);
}

#[test]
fn signals_that_ask() {
    let _alone = alone();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (run, held) = counting(&[]);
        run.signal(signal);
        printed(&run.done().code(0));
        held.is_gone();
    }
}

/// Thousands of links, one by one, take many seconds. Who does not want to wait need not.
#[test]
fn a_slow_attach_that_is_interrupted() {
    let _alone = alone();
    let flags = ["-v", "--no-feature", "uprobe_multi"];
    // A program of ours, so that nobody else runs into thousands of probes.
    let script = format!("uprobe:{}:* {{ @ = count(); }}", env!("CARGO_BIN_EXE_rt-workload"));
    let mut command = rtrace(&flags, &script);
    command.envs([("RTRACE_MAX_PROBES", "100000"), ("RTRACE_MISSING_PROBES", "ignore")]);
    let run = Run::start_until(command, "attaching ");
    let links = || {
        let all = fs::read_dir(format!("/proc/{}/fd", run.pid())).map_or(0, Iterator::count);
        all.saturating_sub(50)
    };
    let mut patience = Patience::new();
    while links() < 200 {
        patience.wait("it does not attach");
    }
    let held = Held::by(run.pid());
    let asked = Instant::now();
    run.signal(Signal::SIGINT);
    let done = run.done().code(255);
    let took = asked.elapsed();
    assert!(done.err.contains("interrupted while attaching probes"), "{}", done.err);
    assert!(!done.err.contains("Attached "), "it was over already: {}", done.err);
    // A second, on a machine of its own.
    assert!(took < Duration::from_secs(2), "{took:?}");
    held.is_gone();
}

#[test]
fn signals_that_kill() {
    let _alone = alone();
    for signal in [Signal::SIGKILL, Signal::SIGQUIT] {
        let (run, held) = counting(&[]);
        run.signal(signal);
        let done = run.done();
        assert_eq!(done.status.signal(), Some(signal as i32));
        assert_eq!(done.out, "");
        held.is_gone();
    }
}

#[test]
fn a_child_goes_with_a_killed_run() {
    let _alone = alone();
    let sleeper = workload_text("sleeps 1 --ms 100000");
    let run = Run::read(rtrace(&["-c", &sleeper], &script()));
    let held = Held::by(run.pid());
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let child: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    run.signal(Signal::SIGKILL);
    run.done();
    held.is_gone();
    let mut patience = Patience::new();
    while kill(Pid::from_raw(child), None).is_ok() && !is_zombie(child) {
        patience.wait("the child goes on");
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn a_closed_pipe() {
    let _alone = alone();
    // Closed while nothing is written, and while something is.
    for events in [false, true] {
        let script = format!(
            "{} tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ {{ \
             printf(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n\"); }}",
            script()
        );
        let mut run = Run::start(rtrace(&[], &script));
        let held = Held::by(run.pid());
        drop(run.child.stdout.take());
        if events {
            assert!(workload("getppid 20000").status().unwrap().success());
        }
        let done = run.done().code(0);
        assert!(!done.err.contains("rror"), "{}", done.err);
        held.is_gone();
    }
}

#[test]
fn a_full_disk() {
    let _alone = alone();
    let folder = Folder::new("full");
    let none: Option<&str> = None;
    mount(none, &folder.0, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let unmounted = Unmount(&folder);
    let file = folder.0.join("out");
    let script = "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ { \
                  printf(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n\"); @ = count(); }";
    let run = Run::read(rtrace(&["-o", file.to_str().unwrap()], script));
    let held = Held::by(run.pid());
    assert!(workload("getppid 20000").status().unwrap().success());
    let done = run.done().code(255);
    assert!(done.err.contains("cannot write the output: No space left on device"), "{}", done.err);
    assert!(done.err.contains(" bytes are lost, and all that would follow"), "{}", done.err);
    held.is_gone();
    // What there was room for is there, in whole lines but the last.
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written.len(), 64 << 10);
    assert!(written.lines().rev().skip(1).all(|line| line.len() == 42), "lines are damaged");
    drop(unmounted);
}

struct Unmount<'a>(&'a Folder);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = umount2(&self.0.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn children_that_end_or_die() {
    let _alone = alone();
    let run = Run::read(rtrace(&["-c", &workload_text("getppid 100")], &script()));
    printed(&run.done().code(0));

    let sleeper = workload_text("getppid 100 + sleeps 1 --ms 100000");
    let run = Run::read(rtrace(&["-c", &sleeper], &script()));
    let held = Held::by(run.pid());
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let child: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let mut patience = Patience::new();
    // It has called when it sleeps.
    while !has_thread(child, "rt-sleeps") {
        patience.wait("the child does not get there");
    }
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    printed(&run.done().code(0));
    held.is_gone();
}

/// Whether a process has a thread of that name.
fn has_thread(pid: i32, name: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

#[test]
fn a_traced_process_that_ends() {
    let _alone = alone();
    let mut target =
        workload("--hold getppid 100").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let run = Run::read(rtrace(&["-p", &target.id().to_string()], &script()));
    let held = Held::by(run.pid());
    drop(target.stdin.take());
    assert!(target.wait().unwrap().success());
    printed(&run.done().code(0));
    held.is_gone();

    let mut target =
        workload("--hold getppid 100").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let run = Run::read(rtrace(&["-p", &target.id().to_string()], &script()));
    target.kill().unwrap();
    target.wait().unwrap();
    let done = run.done().code(0);
    assert!(done.out.contains("the end"), "{}", done.out);
}

#[test]
fn a_stopped_terminal() {
    let _alone = alone();
    let script = "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ { \
                  printf(\"event\\n\"); @ = count(); }";
    let run = Run::read(rtrace(&[], script));
    let held = Held::by(run.pid());
    for _ in 0..2 {
        run.signal(Signal::SIGTSTP);
        let mut patience = Patience::new();
        while !is_stopped(run.pid()) {
            patience.wait("it does not stop");
        }
        assert!(workload("getppid 1000").status().unwrap().success());
        run.signal(Signal::SIGCONT);
        assert!(workload("getppid 1000").status().unwrap().success());
    }
    run.signal(Signal::SIGINT);
    let done = run.done().code(0);
    assert_eq!(done.out.matches("event\n").count(), 4000, "{}", done.err);
    assert!(done.out.contains("\n@: 4000\n"));
    held.is_gone();
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}
