//! A private view of the tracing file system, for machines that do not mount
//! it: a mount that hangs on a file descriptor only (fsmount(2), Linux 5.2) and
//! is gone with it. Nothing changes for anybody else.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

/// `FSCONFIG_CMD_CREATE` of linux/mount.h.
const CREATE: libc::c_uint = 6;

/// A file system of a kind, mounted on a descriptor, and a path that leads to
/// its root as long as the descriptor is open. `None` without the privilege or
/// the file system.
pub(super) fn detached(kind: &CStr) -> Option<(OwnedFd, PathBuf)> {
    // SAFETY: fsopen takes a NUL-terminated name and flags.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 0) })?;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: the command takes no key, value or auxiliary number.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, nothing, nothing, 0)
    };
    if created != 0 {
        return None;
    }
    // SAFETY: fsmount takes the context's descriptor and flags.
    let mount = descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0) })?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Some((mount, path))
}

/// A new descriptor as a system call gave it.
fn descriptor(result: libc::c_long) -> Option<OwnedFd> {
    let fd = i32::try_from(result).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the call succeeded, so the descriptor is open and ours.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_file_system_gives_nothing() {
        assert!(super::detached(c"no_such_filesystem").is_none());
    }
}
