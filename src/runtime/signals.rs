//! SIGINT, SIGTERM and SIGHUP: the first asks the run to end, the second ends
//! the process.

use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigHandler, Signal, raise, signal};

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
