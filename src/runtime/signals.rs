//! SIGINT, SIGTERM and SIGHUP: the first asks the run to end, the second ends
//! the process.

use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::sys;

/// Signals of this process, caught from the first [`Signals::catch`] on.
#[derive(Debug)]
pub(super) struct Signals {
    /// Becomes readable with the first signal, and stays so.
    wake: PipeReader,
}

static ASKED: AtomicBool = AtomicBool::new(false);

impl Signals {
    /// Catches signals; a second call gives what the first made.
    pub(super) fn catch() -> io::Result<&'static Signals> {
        static SIGNALS: OnceLock<Signals> = OnceLock::new();
        if let Some(signals) = SIGNALS.get() {
            return Ok(signals);
        }
        let (wake, mut waker) = io::pipe()?;
        let hangup_ignored = sys::is_ignored(libc::SIGHUP);
        ctrlc::set_handler(move || {
            if ASKED.swap(true, Ordering::Relaxed) {
                default_action(Signal::SIGINT);
                let _ = raise(Signal::SIGINT);
            }
            // One byte is enough, and there is always room for one.
            let _ = waker.write_all(&[0]);
        })
        .map_err(io::Error::other)?;
        if hangup_ignored {
            // As nohup(1) asks.
            // SAFETY: ignoring a signal runs no code.
            let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
        }
        Ok(SIGNALS.get_or_init(|| Signals { wake }))
    }

    /// Whether a signal came.
    pub(super) fn asked(&self) -> bool {
        ASKED.load(Ordering::Relaxed)
    }
}

/// SIGUSR1, by which a script's own probes run.
#[derive(Debug)]
pub(super) struct OwnSignal(SignalFd);

impl OwnSignal {
    /// Takes the signal from now on. Threads inherit that, so there must be no
    /// others yet; child processes must not exist yet only if they should, too.
    pub(super) fn take() -> io::Result<OwnSignal> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGUSR1);
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(OwnSignal(SignalFd::with_flags(&set, flags)?))
    }

    /// Whether it came since this was asked last.
    pub(super) fn came(&self) -> bool {
        self.0.read_signal().is_ok_and(|signal| signal.is_some())
    }
}

impl AsFd for OwnSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Gives a signal its default action back.
pub(super) fn default_action(which: Signal) {
    // SAFETY: the default action runs no code of this process.
    let _ = unsafe { signal(which, SigHandler::SigDfl) };
}
