//! The frames of stacks, which programs keep in tables of their own.

use std::collections::HashMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::runtime::decode::Stack;

/// Stacks that are remembered at a time.
const REMEMBERED: usize = 1 << 14;

/// Finds the frames of stacks.
pub trait Stacks {
    /// Addresses, innermost first; none if they were not kept.
    fn frames(&mut self, stack: &Stack) -> Option<Rc<[u64]>>;
}

/// Knows no stack but the empty one.
#[derive(Debug, Clone, Copy)]
pub struct NoStacks;

impl Stacks for NoStacks {
    fn frames(&mut self, stack: &Stack) -> Option<Rc<[u64]>> {
        (stack.count == 0).then(Rc::default)
    }
}

/// The tables in the kernel, by the number of frames that stacks in them can
/// have.
#[derive(Debug, Default)]
pub struct Tables {
    maps: HashMap<u16, OwnedFd>,
    /// Entries never change, so they need to be asked for only once.
    known: HashMap<(u16, u64), Rc<[u64]>>,
}

impl Tables {
    /// Adds the BPF map for stacks of at most `limit` frames.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub fn add(&mut self, limit: u16, map: BorrowedFd<'_>) -> io::Result<()> {
        self.maps.insert(limit, map.try_clone_to_owned()?);
        Ok(())
    }

    fn look_up(&self, stack: &Stack) -> Option<Rc<[u64]>> {
        let map = self.maps.get(&stack.limit)?;
        let mut frames = vec![0u64; usize::from(stack.limit)];
        let key = stack.id;
        // SAFETY: the map has keys of 8 bytes and values of `limit` words, and
        // both live until the call returns.
        let status = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                map.as_raw_fd(),
                (&raw const key).cast::<c_void>(),
                frames.as_mut_ptr().cast::<c_void>(),
            )
        };
        if status < 0 {
            return None;
        }
        frames.truncate(usize::from(stack.count));
        Some(frames.into())
    }
}

impl Stacks for Tables {
    fn frames(&mut self, stack: &Stack) -> Option<Rc<[u64]>> {
        if stack.count == 0 {
            return Some(Rc::default());
        }
        let key = (stack.limit, stack.id);
        if let Some(frames) = self.known.get(&key) {
            return Some(Rc::clone(frames));
        }
        let frames = self.look_up(stack)?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, Rc::clone(&frames));
        Some(frames)
    }
}
