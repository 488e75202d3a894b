//! Whole runs: what they deliver and what they say is missing are all that there was
//! ([`losses`]), whatever ends one leaves nothing in the kernel ([`endings`]), and a long
//! one stays as it is ([`soak`]); [`large`] has scripts of many probes. Needs root.
//!
//! `RTRACE_RUNS` is how often exact counts are checked, `RTRACE_SOAK_SECONDS` how long the
//! long run takes; `make soak` sets both.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod endings;
mod kernel;
mod large;
mod losses;
mod soak;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One run at a time: they compete for the CPUs, and count what happens on them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    assert!(nix::unistd::geteuid().is_root(), "tracing needs root");
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Fails instead of hanging: after so many looks, which is a minute where nothing else runs. On a busy
/// machine we come to look less often, and what we wait for gets as little time as we do.
struct Patience(u32);

impl Patience {
    fn new() -> Patience {
        Patience(12_000)
    }

    /// Waits a little.
    #[track_caller]
    fn wait(&mut self, what: &str) {
        self.0 = self.0.checked_sub(1).unwrap_or_else(|| panic!("{what}"));
        thread::sleep(Duration::from_millis(5));
    }
}

/// The name under which threads of ours call getppid(2): other tests on the machine do so, too.
fn comm() -> String {
    format!("rt-{}", std::process::id())
}

/// The workload as a command, to be started or to be written after `-c`.
fn workload(work: &str) -> Command {
    let text = workload_text(work);
    let mut words = text.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

fn workload_text(work: &str) -> String {
    let mut text = env!("CARGO_BIN_EXE_rt-workload").to_owned();
    let mut calls = false;
    for word in work.split(' ') {
        text = format!("{text} {word}");
        // After the number of calls.
        if calls {
            text = format!("{text} --comm {}", comm());
        }
        calls = word == "getppid";
    }
    text
}

/// rtrace at work; killed if a test gives up.
struct Run {
    child: Child,
    errors: Option<JoinHandle<String>>,
    /// Standard output, unless the test reads it itself.
    output: Option<JoinHandle<String>>,
}

/// What it said, and how it ended.
struct Done {
    out: String,
    err: String,
    status: ExitStatus,
}

/// rtrace with a script, not started. Threads that the script calls `rt-getppid` are ours only.
fn rtrace(flags: &[&str], script: &str) -> Command {
    // Under nohup(1), rtrace would leave SIGHUP ignored, as it should.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_rtrace")]);
    command.args(flags).args(["-e", &script.replace("rt-getppid", &comm())]);
    command.env("RTRACE_COLOR", "never");
    // Of its own, since a terminal cannot stop a group that nobody could continue.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Run {
    /// Starts it and waits until everything is attached. Standard output stays unread.
    fn start(command: Command) -> Run {
        Run::start_until(command, "Attached ")
    }

    /// Starts it and waits until standard error has a text.
    fn start_until(mut command: Command, text: &str) -> Run {
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(text) {
            assert!(errors.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        let errors = thread::spawn(move || rest(errors, said));
        Run { child, errors: Some(errors), output: None }
    }

    /// The same, and everything that it writes is read as it comes.
    fn read(command: Command) -> Run {
        let mut run = Run::start(command);
        run.read_output();
        run
    }

    fn read_output(&mut self) {
        let mut stdout = self.child.stdout.take().unwrap();
        self.output = Some(thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        }));
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    fn done(mut self) -> Done {
        let mut patience = Patience::new();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            patience.wait("it does not end");
        };
        let out = self.output.take().map_or(String::new(), |thread| thread.join().unwrap());
        let err = self.errors.take().unwrap().join().unwrap();
        Done { out, err, status }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Done {
    #[track_caller]
    fn code(self, code: i32) -> Done {
        assert_eq!(self.status.code(), Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

fn rest(mut errors: BufReader<ChildStderr>, mut said: String) -> String {
    errors.read_to_string(&mut said).unwrap();
    said
}

/// A folder of its own for a test, removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rtrace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
