//! The processes that a run is about: the child of `-c`, and `-p`.
//!
//! The child is forked early, so that its process id is known when programs
//! are loaded, and waits until everything is attached before it becomes the
//! command.

use std::env;
use std::ffi::CString;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{AccessFlags, ForkResult, Pid, access, execv, fork};

use super::error::Error;
use super::{signals, sys};
use crate::diag::Diagnostic;

/// The largest process id (linux/threads.h, `PID_MAX_LIMIT`).
const MAX_PID: u32 = 4 << 20;

/// A process that the run ends with.
#[derive(Debug)]
pub(super) struct Target {
    /// Becomes readable when the process ends.
    end: OwnedFd,
}

impl Target {
    /// The process of `-p`.
    ///
    /// # Errors
    /// There is no such process.
    pub(super) fn of(pid: u32) -> Result<Target, Error> {
        let error = |why: String| {
            Error::usage(Diagnostic::global(format!("cannot trace process {pid}: {why}")))
        };
        if pid == 0 || pid > MAX_PID {
            return Err(error(format!("process ids go from 1 to {MAX_PID}")));
        }
        match sys::pidfd_open(pid) {
            Ok(end) => Ok(Target { end }),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                Err(error("there is no such process".to_owned()))
            }
            Err(_) if Path::new(&format!("/proc/{pid}")).exists() => {
                Err(error("it is a thread; give the id of its process".to_owned()))
            }
            Err(e) => Err(error(e.to_string())),
        }
    }
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// The command of `-c`. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Child {
    command: String,
    pid: Pid,
    end: OwnedFd,
    /// A byte in it lets the child go on; closing it ends the child.
    go: Option<PipeWriter>,
    /// Gives a byte when the child waits; then it is closed by a successful
    /// `execv`, or gives the errno of one that failed.
    report: PipeReader,
    /// Whether somebody waited for it, so that its id may be another's.
    reaped: bool,
    /// Whether it is stopped where its program begins.
    stopped: bool,
}

impl Child {
    /// Forks the child and holds it. Other threads must not exist yet.
    ///
    /// # Errors
    /// The command cannot be found or is not executable.
    pub(super) fn hold(command: &str) -> Result<Child, Error> {
        let cannot = |why: String| {
            Error::usage(Diagnostic::global(format!("cannot run `{command}`: {why}")))
        };
        let words = split_words(command).map_err(cannot)?;
        let program = words.first().ok_or_else(|| cannot("it is empty".to_owned()))?;
        let path = find_executable(program).map_err(cannot)?;
        let io_error = |e: io::Error| cannot(e.to_string());
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|e| cannot(e.to_string()))?;
        let words: Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
        let words = words.map_err(|e| cannot(e.to_string()))?;
        let (wait, go) = io::pipe().map_err(io_error)?;
        let (news, report) = io::pipe().map_err(io_error)?;
        let parent = std::process::id();
        // SAFETY: there are no other threads, so the child may do anything.
        match unsafe { fork() }.map_err(|e| cannot(e.to_string()))? {
            ForkResult::Child => {
                drop(go);
                become_command(&path, &words, wait, report, parent)
            }
            ForkResult::Parent { child } => {
                drop((wait, report));
                let end = sys::pidfd_open(child.as_raw().cast_unsigned()).map_err(io_error)?;
                let command = command.to_owned();
                Ok(Child {
                    command,
                    pid: child,
                    end,
                    go: Some(go),
                    report: news,
                    reaped: false,
                    stopped: false,
                })
            }
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Waits until the child does nothing but wait, so that probes on system
    /// calls do not see it getting ready.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), Error> {
        self.report.read_exact(&mut [0]).map_err(|_| {
            let message = format!("the process for `{}` is gone", self.command);
            Error::run(Diagnostic::global(message))
        })
    }

    /// Lets the child become the command.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        let cannot = |why: io::Error| {
            let message = format!("cannot run `{}`: {why}", self.command);
            Error::run(Diagnostic::global(message))
        };
        if std::mem::take(&mut self.stopped) {
            let gone = |e: nix::Error| cannot(e.into());
            return ptrace::detach(self.pid, None).map_err(gone);
        }
        let Some(mut go) = self.go.take() else { return Ok(()) };
        go.write_all(&[GO]).map_err(cannot)?;
        drop(go);
        self.executed()
    }

    /// Waits until the command has taken the child's place.
    fn executed(&mut self) -> Result<(), Error> {
        let mut errno = [0; 4];
        let failure = match self.report.read(&mut errno) {
            Ok(0) => return Ok(()),
            Ok(_) => io::Error::from_raw_os_error(i32::from_ne_bytes(errno)),
            Err(e) => e,
        };
        let message = format!("cannot run `{}`: {failure}", self.command);
        Err(Error::run(Diagnostic::global(message)))
    }

    /// Lets the child become the command, and stops it where that begins to run: its libraries
    /// are there then. [`Child::release`] lets it go on.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn run_to_entry(&mut self) -> Result<(), Error> {
        let Some(mut go) = self.go.take() else { return Ok(()) };
        let stopped = go.write_all(&[GO_STOPPED]);
        drop(go);
        self.executed()?;
        let pid = self.pid;
        stopped.and_then(|()| stop_at_entry(pid)).map_err(|e| {
            let message = format!("cannot stop `{}` where it begins: {e}", self.command);
            Error::run(Diagnostic::global(message))
        })?;
        self.stopped = true;
        Ok(())
    }

    /// Ends the child if it still runs, waits for it, and says how it ended.
    pub(super) fn finish(mut self) -> String {
        match self.stop() {
            Ok(WaitStatus::Exited(_, status)) => format!("exited with status {status}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            Ok(other) => format!("ended as {other:?}"),
            Err(e) => format!("is gone: {e}"),
        }
    }

    fn stop(&mut self) -> nix::Result<WaitStatus> {
        if self.reaped {
            return Err(nix::Error::ECHILD);
        }
        // A child that still waits ends when its pipe closes.
        self.go = None;
        // It is not reaped yet, so the id is still its own.
        let _ = kill(self.pid, Signal::SIGTERM);
        if std::mem::take(&mut self.stopped) {
            // It gets the signal when it goes on.
            let _ = ptrace::detach(self.pid, None);
        }
        self.reaped = true;
        waitpid(self.pid, None)
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// What the child is told when it may go on: just that, or to stop where its program begins.
const GO: u8 = 1;
const GO_STOPPED: u8 = 2;

/// Where the program begins, in the auxiliary vector (`AT_ENTRY` of elf.h).
const AT_ENTRY: u64 = 9;

/// `int3`.
const BREAKPOINT: i64 = 0xcc;

/// Has a process that just became another program, and is traced, run to where that begins.
fn stop_at_entry(pid: Pid) -> io::Result<()> {
    let gone = || io::Error::other("it ended");
    let trapped = |status| match status {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(()),
        _ => Err(gone()),
    };
    trapped(waitpid(pid, None)?)?;
    if !cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    let vector = std::fs::read(format!("/proc/{pid}/auxv"))?;
    let word = |bytes: &[u8]| bytes.first_chunk().map(|w| u64::from_ne_bytes(*w));
    let mut pairs = vector.chunks_exact(16);
    let entry = pairs.find(|pair| word(pair) == Some(AT_ENTRY));
    let entry = entry.and_then(|pair| word(pair.get(8..)?));
    // A program of another size of words has none that we find; it is not unwound anyway.
    let Some(entry) = entry.filter(|entry| *entry != 0) else { return Ok(()) };
    let at = entry as ptrace::AddressType;
    let Ok(code) = ptrace::read(pid, at) else { return Ok(()) };
    ptrace::write(pid, at, code & !0xff | BREAKPOINT)?;
    let mut signal = None;
    loop {
        ptrace::cont(pid, signal)?;
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => break,
            WaitStatus::Stopped(_, other) => signal = Some(other),
            _ => return Err(gone()),
        }
    }
    ptrace::write(pid, at, code)?;
    rewind(pid, entry)
}

/// Sets where a stopped process goes on.
#[cfg(target_arch = "x86_64")]
fn rewind(pid: Pid, to: u64) -> io::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rip = to;
    Ok(ptrace::setregs(pid, registers)?)
}

#[cfg(not(target_arch = "x86_64"))]
fn rewind(_: Pid, _: u64) -> io::Result<()> {
    Ok(())
}

/// The child's side of [`Child::hold`].
fn become_command(
    path: &CString,
    words: &[CString],
    mut wait: PipeReader,
    mut report: PipeWriter,
    parent: u32,
) -> ! {
    // If the tool dies, so does the command; but it may have died already.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    let orphan = std::os::unix::process::parent_id() != parent;
    // Rust programs ignore SIGPIPE, and commands would inherit that.
    signals::default_action(Signal::SIGPIPE);
    let ready = !orphan && report.write_all(&[0]).is_ok();
    let mut how = [0];
    if ready && matches!(wait.read(&mut how), Ok(1)) {
        if how == [GO_STOPPED] {
            // If it may not be traced, the tool says so.
            let _ = ptrace::traceme();
        }
        let Err(errno) = execv(path, words);
        let _ = report.write_all(&(errno as i32).to_ne_bytes());
    }
    // SAFETY: ends the process without running the tool's destructors.
    unsafe { libc::_exit(127) }
}

/// The file that a command's first word names: a path, or the first match in
/// `$PATH`.
fn find_executable(name: &str) -> Result<PathBuf, String> {
    let is_executable = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match (path.exists(), is_executable(&path)) {
            (_, true) => Ok(path),
            (true, false) => Err(format!("`{name}` is not an executable file")),
            (false, false) => Err(format!("there is no file `{name}`")),
        };
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let candidates = env::split_paths(&path).map(|dir| dir.join(name));
    candidates
        .into_iter()
        .find(|path| is_executable(path))
        .ok_or_else(|| format!("there is no executable file `{name}` in `$PATH`"))
}

/// Splits at blanks, and knows quotes and backslashes as a shell does; nothing
/// is expanded.
fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a `'` is not closed".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err("a `\"` is not closed".to_owned()),
                        },
                        Some(c) => word.push(c),
                        None => return Err("a `\"` is not closed".to_owned()),
                    }
                }
            }
            '\\' => {
                let next = chars.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_like_a_shell_would() {
        let split = |text| split_words(text).expect("well formed");
        assert_eq!(split("  ls  -l /tmp "), ["ls", "-l", "/tmp"]);
        assert_eq!(split(r#"sh -c 'echo "a b"' x"#), ["sh", "-c", "echo \"a b\"", "x"]);
        assert_eq!(split(r#"a\ b "c\"d\n" ''"#), ["a b", "c\"d\\n", ""]);
        assert!(split_words("sh -c 'oops").is_err());
    }

    #[test]
    fn executables_are_found_or_it_is_said_why_not() {
        assert!(find_executable("sh").is_ok());
        assert!(find_executable("/bin/sh").is_ok());
        assert!(find_executable("/etc/passwd").expect_err("no").contains("not an executable"));
        assert!(find_executable("no-such-command").expect_err("no").contains("$PATH"));
    }
}
