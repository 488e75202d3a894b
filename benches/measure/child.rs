//! The tracers under test, as processes.

use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Result;

/// Both tracers print a line with this name once everything is attached, if a
/// variable of this name is set; one to its output, the other to its errors.
const NOTIFY: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// A tracer that takes scripts with `-e`.
pub(crate) struct Tracer {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
}

/// A tracer at work.
pub(crate) struct Tracing {
    child: Child,
    output: BufReader<PipeReader>,
    started: Instant,
}

impl Tracer {
    pub(crate) fn rtrace(path: PathBuf) -> Tracer {
        Tracer { name: "rtrace", path }
    }

    /// The installed bpftrace; says so if there is none.
    pub(crate) fn bpftrace() -> Option<Tracer> {
        let done = Command::new("bpftrace").arg("--version").output();
        let Ok(done) = done else {
            println!("note: bpftrace is not installed, so there is nothing to compare with");
            return None;
        };
        println!("reference: {}", String::from_utf8_lossy(&done.stdout).trim());
        Some(Tracer { name: "bpftrace", path: "bpftrace".into() })
    }

    /// Starts it on a script; time counts from here.
    pub(crate) fn start(&self, script: &str) -> Result<Tracing> {
        self.start_with(script, &[], &[])
    }

    /// The same with flags, and variables in its environment.
    pub(crate) fn start_with(
        &self,
        script: &str,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Tracing> {
        let mut command = Command::new(&self.path);
        command.args(flags).args(["-e", script]);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Tracing::of(command)
    }
}

/// What became of a tracer whose lines were counted.
pub(crate) struct Ended {
    /// Lines that begin as wanted.
    pub(crate) lines: u64,
    /// The sum of `Lost N events`.
    pub(crate) lost: u64,
    /// How long the work took.
    pub(crate) work: Duration,
    /// From SIGINT to the end.
    pub(crate) ending: Duration,
    /// Time on a CPU until shortly after the work.
    pub(crate) cpu: Duration,
    /// Bytes, the most that was seen while it printed.
    pub(crate) memory: u64,
}

impl Tracing {
    /// Starts a tracer; time counts from here.
    pub(crate) fn of(mut command: Command) -> Result<Tracing> {
        let pipe = || {
            let (reader, writer) = io::pipe()?;
            Ok((reader, writer.try_clone()?, writer))
        };
        let (output, out, err) = pipe().map_err(|e: io::Error| format!("no pipe: {e}"))?;
        command.env(NOTIFY, "1").stdin(Stdio::null()).stdout(out).stderr(err);
        let started = Instant::now();
        let child = command.spawn();
        let child =
            child.map_err(|e| format!("cannot start {}: {e}", command.get_program().display()))?;
        Ok(Tracing { child, output: BufReader::new(output), started })
    }

    /// Does some work, ends the tracer, and counts its lines that begin so meanwhile.
    pub(crate) fn count(mut self, prefix: &str, work: impl FnOnce()) -> Result<Ended> {
        let process = self.process();
        let output = &mut self.output;
        let read = || -> Result<(u64, u64, u64)> {
            let (mut lines, mut lost, mut memory) = (0, 0, 0);
            let mut line = Vec::new();
            for number in 0u64.. {
                line.clear();
                if output.read_until(b'\n', &mut line).map_err(|e| e.to_string())? == 0 {
                    break;
                }
                if line.starts_with(prefix.as_bytes()) {
                    lines += 1;
                } else if let Some(rest) = line.strip_prefix(b"Lost ") {
                    let text = String::from_utf8_lossy(rest);
                    lost += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
                }
                if number % 65536 == 0 {
                    memory = vm_hwm(process).unwrap_or(0).max(memory);
                }
            }
            Ok((lines, lost, memory))
        };
        let (counted, work, cpu, asked) = std::thread::scope(|scope| {
            let reader = scope.spawn(read);
            let started = Instant::now();
            work();
            let work = started.elapsed();
            std::thread::sleep(Duration::from_millis(100));
            let cpu = cpu_time(process);
            let asked = Instant::now();
            let _ = kill(process, Signal::SIGINT);
            (reader.join(), work, cpu, asked)
        });
        let (lines, lost, memory) = counted.map_err(|_| "a reader panicked")??;
        self.child.wait().map_err(|e| e.to_string())?;
        Ok(Ended { lines, lost, work, ending: asked.elapsed(), cpu, memory })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn process(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until a line contains `text`; gives the time since the start.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<Duration> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.output.read_until(b'\n', &mut line);
            if read.map_err(|e| e.to_string())? == 0 {
                return Err(format!("a tracer ended without saying `{text}`"));
            }
            if String::from_utf8_lossy(&line).contains(text) {
                return Ok(self.started.elapsed());
            }
        }
    }

    /// Waits until everything is attached; gives the time since the start.
    pub(crate) fn wait_attached(&mut self) -> Result<Duration> {
        self.wait_for(NOTIFY)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Makes it stand still.
    pub(crate) fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        while !state() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.process(), signal).map_err(|e| format!("cannot signal a tracer: {e}"))
    }

    /// Reads what it still says and waits for its end; gives the time since
    /// the start.
    pub(crate) fn wait(self) -> Result<Duration> {
        self.drain(|| Ok(()))
    }

    /// Asks it to end; again if it did not listen.
    pub(crate) fn interrupt(self) -> Result<Duration> {
        let process = self.process();
        let ask = || kill(process, Signal::SIGINT).map_err(|e| format!("a tracer is gone: {e}"));
        ask()?;
        self.drain(ask)
    }

    /// Reads until the end; `remind` is called for every second of silence.
    fn drain(mut self, remind: impl Fn() -> Result<()>) -> Result<Duration> {
        // A reader that is slow would make the tracer wait.
        let mut rest = [0; 1 << 16];
        loop {
            let mut readable = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)];
            let ready = self.output.buffer().is_empty().then(|| poll(&mut readable, 1000u16));
            match ready {
                Some(Ok(0)) => remind()?,
                _ if self.output.read(&mut rest).map_err(|e| e.to_string())? == 0 => break,
                _ => {}
            }
        }
        self.child.wait().map_err(|e| e.to_string())?;
        Ok(self.started.elapsed())
    }

    /// The most memory that it ever used, in bytes (`VmHWM`; the `ru_maxrss` of
    /// wait4(2) would count what we used when we forked): up to its end if the
    /// script ends by itself, otherwise up to when everything is attached.
    pub(crate) fn peak_memory(mut self, ends: bool) -> Result<u64> {
        if !ends {
            self.wait_attached()?;
            let peak = vm_hwm(self.process());
            self.interrupt()?;
            return peak;
        }
        let pid = self.process();
        let wrong = |e: nix::Error| format!("cannot follow a tracer to its end: {e}");
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT).map_err(wrong)?;
        let mut peak = Err("a tracer ended unseen".to_owned());
        loop {
            match waitpid(pid, None).map_err(wrong)? {
                WaitStatus::PtraceEvent(..) => {
                    peak = vm_hwm(pid);
                    ptrace::cont(pid, None).map_err(wrong)?;
                }
                WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).map_err(wrong)?,
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return peak,
                WaitStatus::PtraceSyscall(_)
                | WaitStatus::Continued(_)
                | WaitStatus::StillAlive => {}
            }
        }
    }
}

/// User and system time out of `/proc/PID/stat`, in ticks of 10 ms.
fn cpu_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * fields.filter_map(|n| n.parse::<u64>().ok()).sum::<u64>())
}

/// Bytes out of `/proc/PID/status`.
fn vm_hwm(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|n| n * 1024).ok_or_else(|| "a tracer ended before it was measured".to_owned())
}
