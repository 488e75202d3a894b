//! What a process holds in the kernel, and whether it is still there.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::Patience;

/// Kernel objects by their kind (`prog`, `map`, `link`) and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held(BTreeSet<(&'static str, u32)>);

impl Held {
    /// What a process has descriptors of (fdinfo in proc(5)).
    pub(crate) fn by(pid: u32) -> Held {
        let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
        let texts = folder.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        let id = |line: &str| {
            let (name, id) = line.split_once(":\t")?;
            let kind = ["prog", "map", "link"].into_iter().find(|k| name == format!("{k}_id"))?;
            Some((kind, id.trim().parse().ok()?))
        };
        let held: BTreeSet<_> =
            texts.flat_map(|text| text.lines().filter_map(id).collect::<Vec<_>>()).collect();
        assert!(held.iter().any(|(kind, _)| *kind == "prog"), "no program is loaded");
        assert!(held.iter().any(|(kind, _)| *kind == "link"), "nothing is attached by a link");
        Held(held)
    }

    /// Fails if any of it stays in the kernel. The kernel frees things a little later.
    #[track_caller]
    pub(crate) fn is_gone(&self) {
        let mut patience = Patience::new();
        let mut left = self.0.clone();
        loop {
            left.retain(|(kind, id)| is_there(kind, *id));
            if left.is_empty() {
                break;
            }
            // Not by running all the time: who frees them needs the processor.
            patience.wait(&format!("these stay in the kernel: {left:?}"));
        }
    }
}

fn is_there(kind: &str, id: u32) -> bool {
    // SAFETY: these take an integer.
    let fd = unsafe {
        match kind {
            "prog" => libbpf_sys::bpf_prog_get_fd_by_id(id),
            "map" => libbpf_sys::bpf_map_get_fd_by_id(id),
            _ => libbpf_sys::bpf_link_get_fd_by_id(id),
        }
    };
    if fd >= 0 {
        // SAFETY: it was made just now and belongs to nobody else.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    // -EAGAIN: a link that is being freed.
    fd >= 0 || fd == -libc::EAGAIN
}
