//! A reader of the ring buffer beside the one who formats.
//!
//! Formatting and writing can stall: a slow terminal, a full pipe, a disk. The
//! ring buffer is small, since making it is a good part of a start. So when events
//! begin to pile up, a thread takes over the ring buffer and moves records to
//! memory as they come, and the formatter takes them from there. What a run needs
//! that keeps up is no thread at all.
//!
//! Records travel in chunks that are used again, so that nothing is allocated per
//! event. Where memory for them runs out the thread waits, the ring buffer fills,
//! and the kernel counts what it has no room for: nothing is lost uncounted.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::ring::Ring;

/// Bytes of a chunk, unless a single record is longer.
const CHUNK: usize = 256 << 10;

/// Bytes that may wait for the formatter: so much of the memory that is free, within limits.
const SHARE: u64 = 32;
const LEAST: usize = 4 << 20;
const MOST: usize = 64 << 20;

/// How long a record may wait if the kernel does not wake us, in milliseconds.
const LATENCY: u16 = 100;

/// Higher than everything that is traced: what it does is short, and cannot wait.
const PRIORITY: libc::c_int = -20;

/// Records one behind the other, each with its length before it, padded to 8 bytes.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// Where the next record begins.
    at: usize,
}

/// The thread and what it moved.
pub(super) struct Relay {
    shared: Arc<Shared>,
    /// Becomes readable when there are chunks.
    ready: PipeReader,
    /// Closed to ask the thread to end.
    stop: PipeWriter,
    thread: JoinHandle<Ring>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is room again, or nobody wants more.
    room: Condvar,
    /// Bytes that may wait.
    limit: usize,
}

#[derive(Default)]
struct Queue {
    full: VecDeque<Chunk>,
    empty: Vec<Chunk>,
    /// Bytes in `full`.
    waiting: usize,
    ended: bool,
}

impl Chunk {
    fn push(&mut self, record: &[u8]) {
        let length = u64::try_from(record.len()).unwrap_or(u64::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(record);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let length = self.bytes.get(self.at..)?.first_chunk().map(|n| u64::from_ne_bytes(*n))?;
        let start = self.at + 8;
        let end = start + usize::try_from(length).ok()?;
        self.at = end.next_multiple_of(8);
        self.bytes.get(start..end)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }
}

impl Relay {
    /// Hands the ring buffer to a thread.
    ///
    /// # Errors
    /// There is no thread to be had; the ring buffer comes back.
    pub(super) fn start(ring: Ring) -> Result<Relay, Ring> {
        let (Ok((ready, wake)), Ok((stopped, stop))) = (io::pipe(), io::pipe()) else {
            return Err(ring);
        };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            room: Condvar::new(),
            limit: limit(nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |info| info.ram_unused())),
        });
        // Comes back if the thread is not made.
        let lent = Arc::new(Mutex::new(Some(ring)));
        let (to, taken) = (Arc::clone(&shared), Arc::clone(&lent));
        let thread = thread::Builder::new().name("rtrace-reader".into()).spawn(move || {
            let ring = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut ring = ring.expect("bug: the ring buffer was lent");
            hurry();
            to.read(&mut ring, stopped.as_fd(), wake);
            ring
        });
        match thread {
            Ok(thread) => Ok(Relay { shared, ready, stop, thread }),
            Err(_) => {
                let ring = lent.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(ring.expect("bug: nobody else took it"))
            }
        }
    }

    /// Becomes readable when there are chunks.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// The next chunk, in exchange for one that is read; `None` if there is none yet.
    pub(super) fn next(&mut self, mut read: Chunk) -> Option<Chunk> {
        read.clear();
        let mut queue = self.shared.lock();
        if read.bytes.capacity() > 0 && queue.empty.len() < 8 {
            queue.empty.push(read);
        }
        let next = queue.full.pop_front();
        if let Some(chunk) = &next {
            queue.waiting -= chunk.bytes.len();
            if queue.full.is_empty() {
                // The byte that said that there is something.
                let _ = self.ready.read(&mut [0]);
            }
        }
        drop(queue);
        self.shared.room.notify_one();
        next
    }

    /// Ends the thread. Gives the ring buffer back, and what was moved but not read.
    pub(super) fn end(self) -> (Ring, VecDeque<Chunk>) {
        let Relay { shared, ready, stop, thread } = self;
        shared.lock().ended = true;
        shared.room.notify_one();
        drop(stop);
        let ring = thread.join().expect("bug: the reader does not panic");
        drop(ready);
        let chunks = std::mem::take(&mut shared.lock().full);
        (ring, chunks)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves records until `stopped` is closed at its other end.
    fn read(&self, ring: &mut Ring, stopped: BorrowedFd<'_>, mut wake: PipeWriter) {
        let mut chunk = Chunk::default();
        loop {
            while let Some(record) = ring.next() {
                chunk.push(record);
                if chunk.bytes.len() >= CHUNK {
                    match self.send(chunk, &mut wake) {
                        Some(empty) => chunk = empty,
                        None => return,
                    }
                }
            }
            if !chunk.bytes.is_empty() {
                match self.send(chunk, &mut wake) {
                    Some(empty) => chunk = empty,
                    None => return,
                }
            }
            let mut fds = [
                PollFd::new(stopped, PollFlags::POLLIN),
                PollFd::new(ring.fd(), PollFlags::POLLIN),
            ];
            // An error is tried again; it is not one that lasts.
            let _ = nix::poll::poll(&mut fds, PollTimeout::from(LATENCY));
            if fds.first().is_some_and(|fd| fd.any().unwrap_or(false)) {
                return;
            }
        }
    }

    /// Queues a chunk and gives an empty one; `None` if nobody wants more, which keeps it.
    fn send(&self, chunk: Chunk, wake: &mut PipeWriter) -> Option<Chunk> {
        let mut queue = self.lock();
        while queue.waiting > self.limit && !queue.ended {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.waiting += chunk.bytes.len();
        queue.full.push_back(chunk);
        if queue.full.len() == 1 {
            // One byte while there is something; the pipe has room for it.
            let _ = wake.write_all(&[0]);
        }
        let next = queue.empty.pop().unwrap_or_default();
        (!queue.ended).then_some(next)
    }
}

/// Bytes that may wait, with so much memory free.
fn limit(free: u64) -> usize {
    usize::try_from(free / SHARE).unwrap_or(MOST).clamp(LEAST, MOST)
}

/// Gives the calling thread a higher priority, where that is allowed.
fn hurry() {
    // SAFETY: takes integers; 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, PRIORITY) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_give_records_as_they_came() {
        let mut chunk = Chunk::default();
        let records: [&[u8]; 4] = [b"12345678", b"", b"123", b"123456789"];
        records.iter().for_each(|r| chunk.push(r));
        for record in records {
            assert_eq!(chunk.next(), Some(record));
        }
        assert_eq!(chunk.next(), None);
        assert_eq!(chunk.next(), None);
    }

    #[test]
    fn memory_for_waiting_records_has_limits() {
        assert_eq!(limit(0), LEAST);
        assert_eq!(limit(1 << 30), 32 << 20);
        assert_eq!(limit(u64::MAX), MOST);
    }
}
