//! The event ring buffer, read in place.
//!
//! The kernel shares three things with us (Documentation/bpf/ringbuf.rst):
//! a page with the position of the consumer, which we write; a page with the
//! position of the producers; and the data, mapped twice in a row so that a
//! record that wraps around is in one piece. Each record has a header of two
//! `u32`: its length, whose upper two bits are flags, and a page offset.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

/// Still being written.
const BUSY: u32 = 1 << 31;
/// Given up by the program that reserved it.
const DISCARDED: u32 = 1 << 30;
const HEADER: u64 = 8;

/// A reader of one ring buffer; there must be only one.
pub(super) struct Ring {
    /// Our own descriptor of it, so that a ring can move to another thread.
    map: OwnedFd,
    consumer: MmapRaw,
    /// The producers' page, then the data twice.
    shared: MmapRaw,
    page: usize,
    /// Bytes of data, a power of two.
    size: u64,
    /// Everything before it is read; counts on forever.
    position: u64,
}

impl Ring {
    /// Maps a ring buffer of `size` bytes (its map's `max_entries`).
    pub(super) fn open(map: BorrowedFd<'_>, size: u32) -> io::Result<Ring> {
        let map = map.try_clone_to_owned()?;
        let page = usize::try_from(super::load::page_size()).map_err(io::Error::other)?;
        let data = size as usize;
        let fd = map.as_raw_fd();
        let consumer = MmapOptions::new().len(page).map_raw(fd)?;
        let shared =
            MmapOptions::new().offset(page as u64).len(page + 2 * data).map_raw_read_only(fd)?;
        let mut ring = Ring { map, consumer, shared, page, size: u64::from(size), position: 0 };
        ring.position = ring.consumer_position().load(Ordering::Acquire);
        Ok(ring)
    }

    /// Bytes that it has room for.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Becomes readable when there are records.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Bytes that wait to be read.
    pub(super) fn backlog(&self) -> u64 {
        self.producer_position().load(Ordering::Acquire).saturating_sub(self.position)
    }

    /// The next record, which is gone when this is called again; `None` if
    /// there is none yet.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            self.release();
            if self.position == self.producer_position().load(Ordering::Acquire) {
                // A producer wakes us only if it sees that we have read all;
                // it must not look before our position is out.
                fence(Ordering::SeqCst);
                if self.position == self.producer_position().load(Ordering::Acquire) {
                    return None;
                }
            }
            let start = self.position;
            let header = self.length_at(start).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let length = u64::from(header & !DISCARDED);
            assert!(length + HEADER <= self.size, "bug: the kernel gives damaged records");
            self.position = start + (length + HEADER).next_multiple_of(8);
            if header & DISCARDED == 0 {
                return Some(self.data(start + HEADER, length));
            }
        }
    }

    /// Forgets all that is there now.
    pub(super) fn skip(&mut self) {
        while self.next().is_some() {}
    }

    /// Gives what was read back to the producers.
    fn release(&self) {
        self.consumer_position().store(self.position, Ordering::Release);
    }

    fn consumer_position(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped for reading and writing as long as
        // `self` lives, and the kernel accesses this word atomically.
        unsafe { AtomicU64::from_ptr(self.consumer.as_mut_ptr().cast()) }
    }

    fn producer_position(&self) -> &AtomicU64 {
        // SAFETY: mapped for reading as long as `self` lives, and we only load.
        unsafe { AtomicU64::from_ptr(self.shared.as_mut_ptr().cast()) }
    }

    /// The length word of the record at a position.
    fn length_at(&self, position: u64) -> &AtomicU32 {
        // SAFETY: inside of the mapping, since the offset is less than the
        // size; aligned, since records are; and we only load.
        unsafe { AtomicU32::from_ptr(self.address(position).cast_mut().cast()) }
    }

    /// `length` bytes of data from a position.
    fn data(&self, position: u64, length: u64) -> &[u8] {
        // SAFETY: the offset is less than the size and so is the length, and
        // the data is mapped twice. Producers do not write here before
        // `release` gives it back, which needs `&mut self` to have been free.
        unsafe { std::slice::from_raw_parts(self.address(position), length as usize) }
    }

    fn address(&self, position: u64) -> *const u8 {
        let offset = (position & (self.size - 1)) as usize;
        self.shared.as_ptr().wrapping_add(self.page + offset)
    }
}
