//! User stacks by DWARF, frame for frame as backtrace(3) in the traced program has them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Folder, rtrace, text};

/// Fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// rtrace prints a line of this text, if the variable of this name is set.
const ATTACHED: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// In place of a frame that could not be found.
const FAILED: &str = "<unwind failure>";

/// Compiles a source of the workloads.
fn compile(folder: &Folder, source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workload/");
    let program = folder.0.join(name);
    let mut command = Command::new("cc");
    command.args(flags).arg("-o").arg(&program).arg(format!("{root}{source}"));
    assert!(command.status().unwrap().success(), "{command:?}");
    program
}

fn frames(folder: &Folder) -> PathBuf {
    let flags = ["-O2", "-fomit-frame-pointer", "-pthread", "-ldl"];
    compile(folder, "frames.c", "rt-frames", &flags)
}

/// Stacks after lines that say `stack`.
fn stacks(out: &str) -> Vec<Vec<String>> {
    let mut list: Vec<Vec<String>> = Vec::new();
    for line in out.lines() {
        match line {
            "stack" => list.push(Vec::new()),
            "" => {}
            frame => list.last_mut().unwrap().push(frame.to_owned()),
        }
    }
    list
}

/// Whether a stack is what the program said, as far as it goes; the innermost function is at its
/// first instruction here and further on there.
fn same(ours: &[String], theirs: &[String], limit: usize) -> bool {
    ours.len() == theirs.len().min(limit) && ours.iter().zip(theirs).skip(1).all(|(a, b)| a == b)
}

fn script(program: &std::path::Path, stack: &str) -> String {
    format!("uprobe:{}:rt_leaf {{ printf(\"stack%s\", {stack}); }}", program.display())
}

fn backtraces(file: &std::path::Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn every_frame_is_that_of_backtrace() {
    let folder = Folder::new("unwind");
    let program = frames(&folder);
    let file = folder.0.join("backtraces");
    let works = "chain=3 sort signal variable aligned deep deepest thread=2 chain";
    let command = format!("{} {works}", text(&program));
    for (stack, limit) in [("dw_ustack(raw)", 127), ("ustack(dwarf, raw, 5)", 5)] {
        std::fs::remove_file(&file).ok();
        let done = rtrace(&["-q", "-e", &script(&program, stack), "-c", &command])
            .env("RT_FRAMES_OUT", text(&file))
            .done()
            .code(0);
        let (ours, theirs) = (stacks(&done.stdout), backtraces(&file));
        assert_eq!(ours.len(), 12, "{}{}", done.stdout, done.stderr);
        assert_eq!(theirs.len(), 12);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(same(ours, theirs, limit), "{ours:?}\n{theirs:?}\n{}", done.stderr);
        }
    }
}

#[test]
fn kernel_probes_find_the_registers_of_user_code() {
    let folder = Folder::new("unwind-kernel");
    let program = frames(&folder);
    let file = folder.0.join("backtraces");
    let command = format!("{} signal=4", text(&program));
    let script = "tracepoint:syscalls:sys_enter_tgkill /pid == cpid/ {
        printf(\"stack%s\", dw_ustack(raw));
    }";
    let done = rtrace(&["-q", "-e", script, "-c", &command])
        .env("RT_FRAMES_OUT", text(&file))
        .done()
        .code(0);
    let (ours, theirs) = (stacks(&done.stdout), backtraces(&file));
    assert_eq!((ours.len(), theirs.len()), (4, 4), "{}{}", done.stdout, done.stderr);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        // The innermost frames of the other are those of the handler, and the signal's.
        assert_eq!(ours.get(1..), theirs.get(4..), "{ours:?}\n{theirs:?}");
    }
}

/// A program that works when it is told to, and an rtrace that shows the stacks.
struct Session {
    program: Child,
    input: ChildStdin,
    file: PathBuf,
    rtrace: Child,
    lines: Receiver<String>,
    seen: Vec<Vec<String>>,
}

impl Session {
    /// `flags` of rtrace, in which `{pid}` is the program.
    fn start(folder: &Folder, program: &std::path::Path, flags: &[&str], library: &str) -> Session {
        let file = folder.0.join("backtraces");
        let mut child = Command::new(program)
            .arg("-")
            .env("RT_FRAMES_OUT", &file)
            .env("RT_FRAMES_LIBRARY", library)
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let pid = child.id().to_string();
        let script = script(program, "dw_ustack(raw)");
        let mut rtrace = Command::new(env!("CARGO_BIN_EXE_rtrace"))
            .args(["-e", &script])
            .env(ATTACHED, "1")
            .args(flags.iter().map(|f| f.replace("{pid}", &pid)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(rtrace.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        let mut session = Session { program: child, input, file, rtrace, lines, seen: vec![] };
        while session.line() != ATTACHED {}
        session
    }

    fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("rtrace says something")
    }

    /// Has it work once, and gives both views of the stack.
    fn work(&mut self, work: &str) -> (Vec<String>, Vec<String>) {
        writeln!(self.input, "{work}").unwrap();
        let number = self.seen.len();
        let end = Instant::now() + PATIENCE;
        let theirs = loop {
            if let Some(theirs) = backtraces(&self.file).get(number) {
                break theirs.clone();
            }
            assert!(Instant::now() < end, "the program does not work");
            std::thread::yield_now();
        };
        while self.line() != "stack" {}
        let mut ours = Vec::new();
        // The next one is announced by the next line; so ask for what is there.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
            if !line.is_empty() {
                ours.push(line);
            }
        }
        self.seen.push(ours.clone());
        (ours, theirs)
    }

    /// Has it work until the stack is known; until then it must be empty or marked.
    fn work_until_known(&mut self, work: &str) -> usize {
        for round in 0..100 {
            let (ours, theirs) = self.work(work);
            if same(&ours, &theirs, 127) {
                return round;
            }
            let marked = ours.last().is_some_and(|frame| frame == FAILED);
            assert!(ours.is_empty() || marked, "{ours:?}\n{theirs:?}");
            let good = ours.iter().zip(&theirs).skip(1).take(ours.len().saturating_sub(2));
            assert!(good.into_iter().all(|(a, b)| a == b), "{ours:?}\n{theirs:?}");
        }
        panic!("the tables are never made");
    }

    /// What rtrace said to the end.
    fn end(mut self) -> String {
        drop(self.input);
        self.program.wait().unwrap();
        kill(Pid::from_raw(self.rtrace.id().cast_signed()), Signal::SIGINT).unwrap();
        let output = self.rtrace.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn tables_of_other_processes_are_made_when_they_are_met() {
    let folder = Folder::new("unwind-any");
    let program = frames(&folder);
    let mut session = Session::start(&folder, &program, &[], "");
    let unknown = session.work_until_known("chain");
    assert!(unknown > 0, "nobody named it");
    for work in ["sort", "signal", "aligned", "thread", "chain"] {
        assert_eq!(session.work_until_known(work), 0, "{work}");
    }
    let lost = session.seen.iter().filter(|stack| stack.is_empty()).count();
    let said = session.end();
    let row = format!("{lost}  ");
    let told = said.lines().find(|line| {
        line.contains("no DWARF tables for the process") && line.trim_start().starts_with(&row)
    });
    assert!(told.is_some(), "{lost}: {said}");
}

#[test]
fn named_processes_are_known_from_the_start_and_their_new_libraries_soon() {
    let folder = Folder::new("unwind-named");
    let program = frames(&folder);
    let library = compile(
        &folder,
        "library.c",
        "librt.so",
        &["-O2", "-fomit-frame-pointer", "-fPIC", "-shared"],
    );
    for flags in [["-p", "{pid}"], ["--dwarf-pid", "{pid}"]] {
        let mut session = Session::start(&folder, &program, &flags, text(&library));
        assert_eq!(session.work_until_known("chain"), 0);
        session.work_until_known("library");
        assert_eq!(session.work_until_known("library"), 0);
        if flags == ["--dwarf-pid", "{pid}"] {
            // A copy of it is another process, with the same code.
            assert_eq!(session.work_until_known("child"), 0);
        }
        session.end();
        std::fs::remove_file(folder.0.join("backtraces")).unwrap();
    }
}

#[test]
fn a_process_that_runs_another_program_has_no_stacks_of_the_old_one() {
    let folder = Folder::new("unwind-exec");
    let program = frames(&folder);
    let file = folder.0.join("backtraces");
    // The shell is known from the start, and becomes the program.
    let command = format!("sh -c 'exec {} chain=200'", text(&program));
    let done = rtrace(&["-q", "-e", &script(&program, "dw_ustack(raw)"), "-c", &command])
        .env("RT_FRAMES_OUT", text(&file))
        .done()
        .code(0);
    let (ours, theirs) = (stacks(&done.stdout), backtraces(&file));
    assert_eq!((ours.len(), theirs.len()), (200, 200), "{}", done.stderr);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let good = ours.is_empty() || same(ours, theirs, 127);
        assert!(good || ours.last().is_some_and(|f| f == FAILED), "{ours:?}\n{theirs:?}");
    }
    assert!(ours.first().is_some_and(Vec::is_empty), "it is another program");
}
