//! Packets on their way from the kernel: a perf buffer per CPU, which is what
//! the helper that copies them can write to.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use libbpf_rs::{PerfBuffer, PerfBufferBuilder};

use super::error::Error;
use crate::diag::Diagnostic;

/// Pages of the buffer of each CPU.
const PAGES: usize = 256;

/// A reader of all CPUs' buffers.
pub(super) struct Packets<'m> {
    buffer: PerfBuffer<'m>,
    arrived: Rc<RefCell<Arrived>>,
}

/// What came since it was last asked for.
#[derive(Default)]
pub(super) struct Arrived {
    pub records: Vec<Vec<u8>>,
    pub lost: u64,
}

impl<'m> Packets<'m> {
    /// Opens the buffers behind a perf event array.
    ///
    /// # Errors
    /// What the kernel answers.
    pub(super) fn open(map: &libbpf_rs::Map<'m>) -> Result<Packets<'m>, Error> {
        let arrived = Rc::new(RefCell::new(Arrived::default()));
        let (samples, losses) = (Rc::clone(&arrived), Rc::clone(&arrived));
        let buffer = PerfBufferBuilder::new(map)
            .pages(PAGES)
            .sample_cb(move |_, record: &[u8]| samples.borrow_mut().records.push(record.to_vec()))
            .lost_cb(move |_, count| losses.borrow_mut().lost += count)
            .build();
        let buffer = buffer.map_err(|e| {
            Error::run(Diagnostic::global(format!("cannot map the packet buffers: {e}")))
        })?;
        Ok(Packets { buffer, arrived })
    }

    /// Becomes readable when there are packets.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the buffer, which lives as long as
        // the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.buffer.epoll_fd()) }
    }

    /// All packets that are there.
    pub(super) fn take(&mut self) -> Arrived {
        // A failure leaves packets where they are, to be read the next time.
        let _ = self.buffer.consume();
        self.arrived.take()
    }
}
