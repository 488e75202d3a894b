//! Live attachments, and how to be rid of them quickly.
//!
//! Taking a program off a perf event waits for a grace period of the kernel
//! (25-35 ms each, all of which can be waited for at once), and closing the
//! event itself waits again (45-90 ms each, under a lock). So [`Links`]
//! detaches all programs at the same time, and leaves the events, which do
//! nothing any more, to a process in the background: the prompt comes back
//! at once.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;

use super::ledger::Shortfall;
use super::perf::PerfLink;
use super::sys;
use crate::source::Span;

/// What is attached. Dropping it detaches.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Closing one takes a program off, in next to no time.
    fast: Vec<OwnedFd>,
    /// The same, but the kernel waits.
    slow: Vec<OwnedFd>,
    /// Those of programs that serve others, and are taken off after them.
    serving: Vec<OwnedFd>,
    /// Perf events whose programs hang on a link of their own.
    events: Vec<OwnedFd>,
    /// Links, all of them among the slow ones, that count what they miss.
    counting: Vec<(Span, RawFd)>,
    /// Those that can be kept without us, all of them among the others.
    keepable: Vec<RawFd>,
    /// Programs that hang on their events, and go with them.
    bound: usize,
}

/// Threads that close links; more would only wait for the same grace period.
const CLOSERS: usize = 32;

impl Links {
    /// Adds a link whose closing is cheap.
    pub(super) fn add_fast(&mut self, link: OwnedFd) {
        self.keepable.push(link.as_raw_fd());
        self.fast.push(link);
    }

    /// Adds a link for whose closing the kernel waits.
    pub(super) fn add_slow(&mut self, link: OwnedFd) {
        self.keepable.push(link.as_raw_fd());
        self.slow.push(link);
    }

    /// Adds a link of many kprobes, of the attach point there.
    pub(super) fn add_kprobes(&mut self, span: Span, link: OwnedFd) {
        self.counting.push((span, link.as_raw_fd()));
        self.add_slow(link);
    }

    /// Adds a kprobe, of the attach point there.
    pub(super) fn add_kprobe(&mut self, span: Span, perf: PerfLink) {
        self.counting.extend(perf.link.as_ref().map(|link| (span, link.as_raw_fd())));
        self.add_perf(perf);
    }

    /// Says that the links so far are of programs that serve those to come: what is missed there
    /// is none of the script's runs.
    pub(super) fn serve(&mut self) {
        self.counting.clear();
        self.serving.append(&mut self.fast);
        self.serving.append(&mut self.slow);
    }

    /// What kprobes did not run for, as far as the kernel tells (from 6.7 on).
    pub(super) fn missed(&self) -> Vec<(Option<Span>, Shortfall, u64)> {
        let here = |fd: RawFd| self.slow.iter().find(|link| link.as_raw_fd() == fd);
        let count = |fd| here(fd).map_or(0, |link| sys::missed(link.as_fd()));
        self.counting.iter().map(|&(span, fd)| (Some(span), Shortfall::Nested, count(fd))).collect()
    }

    /// Adds a program on a uprobe or tracepoint.
    pub(super) fn add_perf(&mut self, perf: PerfLink) {
        match perf.link {
            Some(link) => {
                self.add_slow(link);
                self.events.push(perf.event);
            }
            None => {
                self.bound += 1;
                self.slow.push(perf.event);
            }
        }
    }

    /// Adds a program on a timer or counter, which are cheap to close.
    pub(super) fn add_counter(&mut self, perf: PerfLink) {
        match perf.link {
            Some(link) => self.add_fast(link),
            None => self.bound += 1,
        }
        self.fast.push(perf.event);
    }

    /// The links, if all of them can be kept without us.
    pub(super) fn pinnable(&self) -> Option<Vec<BorrowedFd<'_>>> {
        let all = self.fast.iter().chain(&self.slow).chain(&self.serving);
        let kept = all.filter(|fd| self.keepable.contains(&fd.as_raw_fd()));
        (self.bound == 0).then(|| kept.map(AsFd::as_fd).collect())
    }

    /// Takes over what another attachment made.
    pub(super) fn append(&mut self, other: &mut Links) {
        self.fast.append(&mut other.fast);
        self.slow.append(&mut other.slow);
        self.serving.append(&mut other.serving);
        self.events.append(&mut other.events);
        self.counting.append(&mut other.counting);
        self.keepable.append(&mut other.keepable);
        self.bound += std::mem::take(&mut other.bound);
    }

    /// Takes all programs off. When this returns none of them runs any more.
    pub(super) fn detach(mut self) -> Detached {
        self.take_off();
        Detached { events: std::mem::take(&mut self.events) }
    }

    fn take_off(&mut self) {
        self.fast.clear();
        close_together(std::mem::take(&mut self.slow));
        close_together(std::mem::take(&mut self.serving));
    }
}

/// Closes links for which the kernel waits, by threads that wait at the same time.
fn close_together(mut links: Vec<OwnedFd>) {
    let share = links.len().div_ceil(CLOSERS).max(1);
    thread::scope(|scope| {
        while links.len() > share {
            let part = links.split_off(links.len() - share);
            scope.spawn(move || drop(part));
        }
        drop(links);
    });
}

impl Drop for Links {
    fn drop(&mut self) {
        self.take_off();
        close_in_background(std::mem::take(&mut self.events));
    }
}

/// What is left when no program is attached any more. Dropping it leaves the
/// rest to a process in the background.
#[derive(Debug)]
pub(super) struct Detached {
    events: Vec<OwnedFd>,
}

impl Drop for Detached {
    fn drop(&mut self) {
        close_in_background(std::mem::take(&mut self.events));
    }
}

/// Closes descriptors in a process of their own, since the kernel takes its
/// time. That process holds nothing else: no terminal, no pipes.
fn close_in_background(events: Vec<OwnedFd>) {
    if events.is_empty() {
        return;
    }
    let Ok((mut parent_is_done, parent)) = io::pipe() else { return };
    let mut keep: Vec<RawFd> = events.iter().map(AsRawFd::as_raw_fd).collect();
    keep.push(parent_is_done.as_raw_fd());
    keep.sort_unstable();
    // SAFETY: there may be other threads, so until it exits the child makes
    // only system calls and touches no lock or allocator.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: as above.
            unsafe { libc::setsid() };
            close_all_but(&keep);
            // The last to close an event is the one who waits: that is us
            // only if our parent has closed it before.
            let _ = parent_is_done.read(&mut [0]);
            // SAFETY: as above; runs no destructors.
            unsafe { libc::_exit(0) }
        }
        // Without a process to leave them to, we wait.
        _ => {
            drop(events);
            drop(parent);
        }
    }
}

/// Closes every descriptor but those in the sorted list `keep`.
fn close_all_but(keep: &[RawFd]) {
    let mut from: libc::c_uint = 0;
    let close = |from: libc::c_uint, to: libc::c_uint| {
        if from <= to {
            // SAFETY: nothing of this process uses them any more.
            unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        }
    };
    for &fd in keep {
        let fd = fd.cast_unsigned();
        if fd > 0 {
            close(from, fd - 1);
        }
        from = fd + 1;
    }
    close(from, libc::c_uint::MAX);
}
