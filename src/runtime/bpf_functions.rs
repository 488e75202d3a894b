//! The functions of the BPF programs in the kernel, by the types that came with
//! the programs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_sys as c;

use super::sys;
use crate::host::BpfFunction;
use crate::host::btf::Btf;
use crate::types::TypeId;

/// Every function of every program, as far as they are described; empty
/// without the privilege to see them.
pub fn live() -> Vec<BpfFunction> {
    let mut all = Vec::new();
    let mut id = 0;
    while let Ok(next) = sys::next_program(id) {
        id = next;
        if let Ok(program) = sys::program_by_id(id) {
            all.extend(of(id, program.as_fd()).into_iter().flatten());
        }
    }
    all
}

/// The whole name of a program, which the kernel itself cuts to 15 characters.
pub(super) fn name(program: u32, fd: BorrowedFd<'_>) -> Option<String> {
    Some(of(program, fd)?.into_iter().next()?.name)
}

fn of(program: u32, fd: BorrowedFd<'_>) -> Option<Vec<BpfFunction>> {
    let mut info = c::bpf_prog_info::default();
    read(fd, &mut info)?;
    let (count, size) = (info.nr_func_info as usize, info.func_info_rec_size as usize);
    if count == 0 || size < size_of::<c::bpf_func_info>() || info.btf_id == 0 {
        return None;
    }
    let mut records = vec![0u8; count * size];
    let mut info = c::bpf_prog_info {
        nr_func_info: info.nr_func_info,
        func_info_rec_size: info.func_info_rec_size,
        func_info: records.as_mut_ptr() as u64,
        btf_id: info.btf_id,
        ..Default::default()
    };
    read(fd, &mut info)?;
    let btf = Btf::from_bytes(sys::btf_bytes(info.btf_id).ok()?).ok()?;
    let names = btf.functions("vmlinux");
    let described = names.iter().filter_map(|name| Some((*name, btf.function(name)?)));
    let described: Vec<_> = described.collect();
    // struct bpf_func_info of linux/bpf.h: an offset, then the type.
    let types = records.chunks_exact(size).filter_map(|r| r.get(4..8)?.try_into().ok());
    let function = |type_id: u32| {
        let wanted = TypeId::Btf { module: 0, id: type_id };
        let (name, _) = described.iter().find(|(_, f)| f.id == wanted)?;
        Some(BpfFunction { program, name: (*name).to_owned(), type_id })
    };
    Some(types.map(u32::from_ne_bytes).filter_map(function).collect())
}

fn read(fd: BorrowedFd<'_>, info: &mut c::bpf_prog_info) -> Option<()> {
    let mut size = size_of::<c::bpf_prog_info>() as u32;
    // SAFETY: the kernel writes at most `size` bytes to `info`; the list that it
    // points to, if any, has the length that it says.
    let done = unsafe { c::bpf_prog_get_info_by_fd(fd.as_raw_fd(), info, &raw mut size) };
    (done == 0).then_some(())
}

/// A program, to be a target.
pub(super) fn program(id: u32) -> Result<OwnedFd, String> {
    sys::program_by_id(id).map_err(|_| format!("the BPF program {id} is gone"))
}
