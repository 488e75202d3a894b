//! Objects that a script imports, joined to its own by libbpf's linker.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::load;

/// libbpf's linker, whose output is a file without a name.
struct Linker {
    linker: NonNull<libbpf_sys::bpf_linker>,
}

impl Linker {
    fn new(output: &File) -> Result<Linker, String> {
        // SAFETY: the descriptor is open, and options may be null.
        let linker = unsafe { libbpf_sys::bpf_linker__new_fd(output.as_raw_fd(), ptr::null_mut()) };
        let linker =
            NonNull::new(linker).ok_or_else(|| std::io::Error::last_os_error().to_string())?;
        Ok(Linker { linker })
    }

    fn add(&mut self, object: &[u8]) -> Result<(), String> {
        let size = object.len().try_into().map_err(|_| "it is too large".to_owned())?;
        // SAFETY: the linker lives; it reads `size` bytes and does not write to them.
        let result = unsafe {
            libbpf_sys::bpf_linker__add_buf(
                self.linker.as_ptr(),
                object.as_ptr().cast_mut().cast(),
                size,
                ptr::null(),
            )
        };
        said(result)
    }

    fn finish(self) -> Result<(), String> {
        // SAFETY: the linker lives until the end of this function.
        said(unsafe { libbpf_sys::bpf_linker__finalize(self.linker.as_ptr()) })
    }
}

impl Drop for Linker {
    fn drop(&mut self) {
        // SAFETY: the linker is ours and is not used again.
        unsafe { libbpf_sys::bpf_linker__free(self.linker.as_ptr()) }
    }
}

/// The result of a call, with what libbpf complained about.
fn said(result: i32) -> Result<(), String> {
    if result == 0 {
        return Ok(());
    }
    let messages = load::heard().concat();
    let error = std::io::Error::from_raw_os_error(-result).to_string();
    Err(if messages.is_empty() { error } else { messages.trim_end().to_owned() })
}

/// Joins objects to the one of a script.
///
/// # Errors
/// Which one does not fit (nothing for the whole), and what libbpf said.
pub fn link(elf: &[u8], objects: &[(&str, &[u8])]) -> Result<Vec<u8>, (Option<String>, String)> {
    let whole = |why: String| (None, why);
    load::listen(false);
    load::heard();
    let flags = MFdFlags::MFD_CLOEXEC;
    let output = memfd_create(c"rtrace-link", flags).map_err(|e| whole(e.to_string()))?;
    let mut output = File::from(output);
    let mut linker = Linker::new(&output).map_err(whole)?;
    linker.add(elf).map_err(whole)?;
    for (name, object) in objects {
        linker.add(object).map_err(|why| (Some((*name).to_owned()), why))?;
    }
    linker.finish().map_err(whole)?;
    let mut linked = Vec::new();
    let read = output.rewind().and_then(|()| output.read_to_end(&mut linked));
    read.map_err(|e| whole(e.to_string()))?;
    Ok(linked)
}
