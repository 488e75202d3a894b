//! The kernel's interfaces that neither libbpf-rs nor nix wraps: one safe
//! function per call, nothing else.
//!
//! libbpf's low-level functions return a file descriptor or a negative errno
//! (bpf/bpf.h); here that is an `io::Result`.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libbpf_sys as c;

use crate::plan::Sample;

/// A perf event to open (linux/perf_event.h, `struct perf_event_attr`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PerfEvent<'a> {
    /// `PERF_TYPE_*`, or the type of a dynamic PMU.
    pub kind: u32,
    pub config: u64,
    pub sample: Option<Sample>,
    /// Function or path of a kprobe or uprobe.
    pub name: Option<&'a CStr>,
    /// Offset (or file offset) of a kprobe or uprobe.
    pub offset: u64,
    pub breakpoint: Option<Breakpoint>,
    pub inherit: Inherit,
}

/// What a breakpoint watches (linux/hw_breakpoint.h).
#[derive(Debug, Clone, Copy)]
pub(super) struct Breakpoint {
    pub address: u64,
    /// In bytes.
    pub length: u8,
    /// Bits of `HW_BREAKPOINT_*`.
    pub kind: u32,
}

/// Whether an event on a thread goes on to the threads that it creates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Inherit {
    #[default]
    No,
    Threads,
    /// And to child processes; all that kernels before 5.13 can do.
    All,
}

/// Which threads and CPUs a perf event covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything that runs on this CPU.
    Cpu(u32),
    /// A thread, wherever it runs.
    Thread(u32),
}

/// `perf_event_open(2)`.
pub(super) fn perf_event_open(event: &PerfEvent<'_>, scope: Scope) -> io::Result<OwnedFd> {
    // SAFETY: a plain C struct, for which all zeroes is a valid value.
    let mut attr: c::perf_event_attr = unsafe { mem::zeroed() };
    attr.type_ = event.kind;
    attr.size = size_of::<c::perf_event_attr>() as u32;
    attr.config = event.config;
    match event.sample {
        Some(Sample::Period(period)) => attr.__bindgen_anon_1.sample_period = period,
        Some(Sample::Frequency(hertz)) => {
            attr.set_freq(1);
            attr.__bindgen_anon_1.sample_freq = hertz;
        }
        None => {}
    }
    if let Some(name) = event.name {
        attr.__bindgen_anon_3.config1 = name.as_ptr() as u64;
    }
    attr.__bindgen_anon_4.config2 = event.offset;
    if let Some(Breakpoint { address, length, kind }) = event.breakpoint {
        attr.bp_type = kind;
        attr.__bindgen_anon_3.bp_addr = address;
        attr.__bindgen_anon_4.bp_len = length.into();
    }
    attr.set_inherit(u64::from(event.inherit != Inherit::No));
    attr.set_inherit_thread(u64::from(event.inherit == Inherit::Threads));
    let (pid, cpu) = match scope {
        Scope::Cpu(cpu) => (-1, cpu.cast_signed()),
        Scope::Thread(tid) => (tid.cast_signed(), -1),
    };
    let flags = c_ulong::from(c::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: `attr` and the name that it points to live until the call returns.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, pid, cpu, -1, flags) };
    owned_from_errno(fd)
}

/// Links a program to a perf event.
pub(super) fn perf_link(
    program: BorrowedFd<'_>,
    event: BorrowedFd<'_>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let mut options = link_options();
    options.__bindgen_anon_1.perf_event.bpf_cookie = cookie;
    link_create(program, event.as_raw_fd(), c::BPF_PERF_EVENT, &options)
}

/// The way of kernels before 5.15, which have no links for perf events: the
/// program stays until the event is closed.
pub(super) fn perf_set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open; the argument is an integer.
    let done = unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_BPF, program.as_raw_fd()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `PERF_EVENT_IOC_SET_BPF`, `_IOW('$', 8, __u32)`; the same on all
/// architectures that we know (asm-generic/ioctl.h).
const IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// One link for many kernel functions; `cookies` is empty or has one for each.
pub(super) fn kprobe_multi(
    program: BorrowedFd<'_>,
    functions: Functions<'_>,
    cookies: &[u64],
    kind: Kprobes,
) -> io::Result<OwnedFd> {
    let mut names: Vec<*const c_char> = Vec::new();
    let mut addresses: Vec<c_ulong> = Vec::new();
    match functions {
        Functions::Named(list) => names.extend(list.iter().map(|f| f.as_ptr())),
        Functions::At(list) => addresses.extend(list.iter().map(|&a| a as c_ulong)),
    }
    let mut options = link_options();
    options.__bindgen_anon_1.kprobe_multi = c::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_2 {
        flags: if kind == Kprobes::Returns { c::BPF_F_KPROBE_MULTI_RETURN } else { 0 },
        cnt: names.len().max(addresses.len()) as u32,
        syms: if names.is_empty() { ptr::null_mut() } else { names.as_mut_ptr() },
        addrs: or_null(&addresses),
        cookies: or_null(cookies),
    };
    let attach_type = match kind {
        Kprobes::Entries | Kprobes::Returns => c::BPF_TRACE_KPROBE_MULTI,
        Kprobes::Sessions => c::BPF_TRACE_KPROBE_SESSION,
    };
    link_create(program, 0, attach_type, &options)
}

/// When a program on many kernel functions runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kprobes {
    Entries,
    Returns,
    /// At both.
    Sessions,
}

/// Functions of the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Functions<'a> {
    Named(&'a [&'a CStr]),
    At(&'a [u64]),
}

/// A `kprobe.multi` link for a list of functions at a wrong address: never
/// succeeds, but the error tells whether the kernel knows such links.
pub(super) fn kprobe_multi_nowhere(
    program: BorrowedFd<'_>,
    attach_type: c::bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut options = link_options();
    options.__bindgen_anon_1.kprobe_multi = c::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_2 {
        cnt: 1,
        addrs: ptr::without_provenance(1),
        ..Default::default()
    };
    link_create(program, 0, attach_type, &options)
}

/// Places in one file for a link, as file offsets; the other lists are empty or
/// have one for each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Places<'a> {
    pub offsets: &'a [u64],
    /// Where the kernel counts who watches.
    pub counters: &'a [u64],
    pub cookies: &'a [u64],
}

/// One link for many places in one file.
pub(super) fn uprobe_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    places: Places<'_>,
    pid: Option<u32>,
    ret: bool,
) -> io::Result<OwnedFd> {
    let long = |list: &[u64]| list.iter().map(|&o| o as c_ulong).collect::<Vec<_>>();
    let (offsets, counters) = (long(places.offsets), long(places.counters));
    let mut options = link_options();
    options.__bindgen_anon_1.uprobe_multi = c::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_3 {
        flags: if ret { c::BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        cnt: offsets.len() as u32,
        path: path.as_ptr(),
        offsets: offsets.as_ptr(),
        ref_ctr_offsets: or_null(&counters),
        cookies: or_null(places.cookies),
        pid: pid.unwrap_or(0),
        ..Default::default()
    };
    link_create(program, 0, c::BPF_TRACE_UPROBE_MULTI, &options)
}

/// Attaches to a raw tracepoint by name, or (without a name) a tracing
/// program to what it was loaded for.
pub(super) fn raw_tracepoint(
    program: BorrowedFd<'_>,
    name: Option<&CStr>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let mut options = c::bpf_raw_tp_opts {
        sz: size_of::<c::bpf_raw_tp_opts>() as c::size_t,
        tp_name: name.map_or(ptr::null(), CStr::as_ptr),
        cookie,
    };
    // SAFETY: the options and the name live until the call returns.
    let fd = unsafe { c::bpf_raw_tracepoint_open_opts(program.as_raw_fd(), &raw mut options) };
    owned(fd)
}

/// Attaches a tracing program to what it was loaded for, with a cookie.
pub(super) fn tracing_link(
    program: BorrowedFd<'_>,
    attach_type: c::bpf_attach_type,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let mut options = link_options();
    options.__bindgen_anon_1.tracing.cookie = cookie;
    link_create(program, 0, attach_type, &options)
}

/// Links an iterator's program. One over control groups goes through all of
/// them, parents first.
pub(super) fn iter_link(program: BorrowedFd<'_>, cgroups: bool) -> io::Result<OwnedFd> {
    let mut info = c::bpf_iter_link_info::default();
    let mut options = link_options();
    if cgroups {
        info.cgroup.order = c::BPF_CGROUP_ITER_DESCENDANTS_PRE;
        options.iter_info = &raw mut info;
        options.iter_info_len = size_of::<c::bpf_iter_link_info>() as u32;
    }
    link_create(program, 0, c::BPF_TRACE_ITER, &options)
}

/// Links a program to a network device (by its number) or a cgroup (by its descriptor).
pub(super) fn packet_link(
    program: BorrowedFd<'_>,
    target: c_int,
    attach_type: c::bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let options = c::bpf_link_create_opts { flags, ..link_options() };
    link_create(program, target, attach_type, &options)
}

/// The number of a network device.
pub(super) fn device(name: &CStr) -> io::Result<c_int> {
    // SAFETY: the name lives until the call returns.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        number => Ok(number.cast_signed()),
    }
}

/// A file whose reading runs an iterator's program.
pub(super) fn iter_create(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    owned(unsafe { c::bpf_iter_create(link.as_raw_fd()) })
}

/// Gives a link a name in a BPF file system, by which it lives on.
pub(super) fn pin(link: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: the path lives until the call returns.
    let done = unsafe { c::bpf_obj_pin(link.as_raw_fd(), path.as_ptr()) };
    if done < 0 { Err(io::Error::from_raw_os_error(-done)) } else { Ok(()) }
}

/// Whether something in the BPF file system is a link that is still there.
pub(super) fn is_link(path: &std::path::Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else {
        return false;
    };
    // SAFETY: the path lives until the call returns.
    let fd = unsafe { c::bpf_obj_get(path.as_ptr()) };
    if fd < 0 {
        return false;
    }
    // SAFETY: it is new and nobody else's.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = c::bpf_link_info::default();
    let mut size = u32::try_from(size_of::<c::bpf_link_info>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to `info`, all of whose pointers are null.
    let done =
        unsafe { c::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut size) };
    done == 0 && info.prog_id != 0
}

/// Runs a program once, here and now (`BPF_PROG_TEST_RUN`); gives what it
/// returns.
pub(super) fn test_run(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut options = c::bpf_test_run_opts {
        sz: size_of::<c::bpf_test_run_opts>() as c::size_t,
        ..Default::default()
    };
    // SAFETY: the options live until the call returns and hold no buffers.
    let done = unsafe { c::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    if done < 0 { Err(io::Error::from_raw_os_error(-done)) } else { Ok(options.retval) }
}

/// As long as this is open, the kernel measures the runs of all programs.
pub(super) fn run_time_statistics() -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    owned(unsafe { c::bpf_enable_stats(c::BPF_STATS_RUN_TIME) })
}

/// A BTF object in the kernel: types of the kernel, of a module or of programs.
pub(super) struct BtfObject {
    pub fd: OwnedFd,
    /// `vmlinux` or a module's name; empty for types of programs, and on
    /// kernels without module BTF.
    pub name: String,
    /// Whether this kernel describes modules at all.
    pub named: bool,
}

/// The BTF object after the one with id `after` (0 for the first), and its id.
///
/// # Errors
/// ENOENT after the last one.
pub(super) fn next_btf_object(after: u32) -> io::Result<(u32, BtfObject)> {
    let mut id = 0;
    // SAFETY: `id` lives until the call returns.
    let done = unsafe { c::bpf_btf_get_next_id(after, &raw mut id) };
    if done < 0 {
        return Err(io::Error::from_raw_os_error(-done));
    }
    // SAFETY: takes an integer.
    let fd = owned(unsafe { c::bpf_btf_get_fd_by_id(id) })?;
    let mut name = [0u8; 64];
    let mut info = c::bpf_btf_info {
        name: name.as_mut_ptr() as u64,
        name_len: name.len() as u32,
        ..Default::default()
    };
    let mut size = size_of::<c::bpf_btf_info>() as u32;
    // SAFETY: all of it lives until the call returns; the sizes are right.
    let done =
        unsafe { c::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut size) };
    if done < 0 {
        return Err(io::Error::from_raw_os_error(-done));
    }
    // Older kernels fill in less and say so.
    let named = size as usize > mem::offset_of!(c::bpf_btf_info, kernel_btf);
    let text = name.split(|&b| b == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(text).into_owned();
    Ok((id, BtfObject { fd, name, named }))
}

/// The id of the program after that one (0: of the first).
///
/// # Errors
/// ENOENT after the last one.
pub(super) fn next_program(after: u32) -> io::Result<u32> {
    let mut id = 0;
    // SAFETY: `id` lives until the call returns.
    let done = unsafe { c::bpf_prog_get_next_id(after, &raw mut id) };
    if done < 0 { Err(io::Error::from_raw_os_error(-done)) } else { Ok(id) }
}

/// A program by its id.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    owned(unsafe { c::bpf_prog_get_fd_by_id(id) })
}

/// How often a link of kprobes did not run its program since the CPU was busy with
/// another one; zero where the kernel does not tell (before 6.7).
pub(super) fn missed(link: BorrowedFd<'_>) -> u64 {
    let mut info = c::bpf_link_info::default();
    let mut size = size_of::<c::bpf_link_info>() as u32;
    // SAFETY: the kernel writes at most `size` bytes to `info`, whose pointers are null.
    let done = unsafe {
        c::bpf_obj_get_info_by_fd(link.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    };
    if done < 0 {
        return 0;
    }
    // SAFETY: all members of the unions are integers, and what the kernel left out is zero.
    unsafe {
        let of = info.__bindgen_anon_1;
        match info.type_ {
            c::BPF_LINK_TYPE_KPROBE_MULTI => of.kprobe_multi.missed,
            c::BPF_LINK_TYPE_PERF_EVENT
                if matches!(
                    of.perf_event.type_,
                    c::BPF_PERF_EVENT_KPROBE | c::BPF_PERF_EVENT_KRETPROBE
                ) =>
            {
                of.perf_event.__bindgen_anon_1.kprobe.missed
            }
            _ => 0,
        }
    }
}

/// The types of a BTF object.
pub(super) fn btf_bytes(id: u32) -> io::Result<Vec<u8>> {
    // SAFETY: takes an integer.
    let fd = owned(unsafe { c::bpf_btf_get_fd_by_id(id) })?;
    let mut bytes = Vec::new();
    // First its size, then its bytes.
    for _ in 0..2 {
        let mut info = c::bpf_btf_info {
            btf: if bytes.is_empty() { 0 } else { bytes.as_mut_ptr() as u64 },
            btf_size: bytes.len() as u32,
            ..Default::default()
        };
        let mut size = size_of::<c::bpf_btf_info>() as u32;
        // SAFETY: all of it lives until the call returns; the sizes are right.
        let done = unsafe {
            c::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
        };
        if done < 0 {
            return Err(io::Error::from_raw_os_error(-done));
        }
        bytes.resize(info.btf_size as usize, 0u8);
    }
    Ok(bytes)
}

/// A descriptor that becomes readable when the process ends.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    owned_from_errno(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// The effective capabilities of this process, bit by bit as in
/// linux/capability.h.
pub(super) fn effective_capabilities() -> io::Result<u64> {
    // struct __user_cap_header_struct: _LINUX_CAPABILITY_VERSION_3, this process.
    let mut header = [0x2008_0522u32, 0];
    // struct __user_cap_data_struct, twice: effective, permitted, inheritable.
    let mut data = [[0u32; 3]; 2];
    // SAFETY: both have the kernel's layout and live until the call returns.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let [[low, ..], [high, ..]] = data;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// Gives up all capabilities of this thread but those of `mask`, for good.
/// Threads that it starts later have no more.
///
/// # Errors
/// What the kernel answers.
pub(super) fn keep_capabilities(mask: u64) -> io::Result<()> {
    let mut header = [0x2008_0522u32, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: as in `effective_capabilities`.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let halves = [mask as u32, (mask >> 32) as u32];
    for (sets, half) in data.iter_mut().zip(halves) {
        sets.iter_mut().for_each(|set| *set &= half);
    }
    // SAFETY: the same, and the kernel only reads.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process ignores a signal.
pub(super) fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a plain C struct, for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only asks, and `action` lives until the call returns.
    let done = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    done == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Options with nothing set.
fn link_options() -> c::bpf_link_create_opts {
    c::bpf_link_create_opts {
        sz: size_of::<c::bpf_link_create_opts>() as c::size_t,
        ..Default::default()
    }
}

/// `options` may point to memory of the caller's, which outlives the call.
fn link_create(
    program: BorrowedFd<'_>,
    target: c_int,
    attach_type: c::bpf_attach_type,
    options: &c::bpf_link_create_opts,
) -> io::Result<OwnedFd> {
    // SAFETY: the callers in this file keep what `options` points to alive.
    owned(unsafe { c::bpf_link_create(program.as_raw_fd(), target, attach_type, options) })
}

fn or_null<T>(list: &[T]) -> *const T {
    if list.is_empty() { ptr::null() } else { list.as_ptr() }
}

/// A result as libbpf gives it.
fn owned(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the call just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A result as system calls give it.
fn owned_from_errno(fd: c_long) -> io::Result<OwnedFd> {
    match c_int::try_from(fd) {
        Ok(fd) if fd >= 0 => owned(fd),
        _ => Err(io::Error::last_os_error()),
    }
}
