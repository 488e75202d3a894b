//! Asks the running kernel what it can do.
//!
//! Each probe is as cheap as it can be: a program of two instructions, a link
//! whose arguments are wrong on purpose (the kernel says *what* is wrong only
//! if it knows the link type), or a look into sysfs. Nothing stays behind.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use libbpf_sys as c;

use super::sys;
use crate::host::Host;
use crate::host::features::{Feature, Features};
use crate::ir::ProgramKind;
use crate::types::TypeId;

/// The features of the running kernel.
pub fn live() -> Features {
    Features::new(probe).with_kfuncs(kfunc_allowed)
}

/// The BTF id of a kernel function.
fn find_function(host: &Host, name: &str) -> Option<u32> {
    match host.btf().ok()?.function(name)?.id {
        TypeId::Btf { module: 0, id } => Some(id),
        _ => None,
    }
}

/// Whether programs of a kind may call a function of the kernel.
fn kfunc_allowed(host: &Host, name: &str, kind: ProgramKind) -> bool {
    let Some(id) = find_function(host, name) else { return false };
    let tracing = |attach| {
        let target = traced_function(host).unwrap_or(0);
        (c::BPF_PROG_TYPE_TRACING, attach, target)
    };
    let (kind, attach, target) = match kind {
        ProgramKind::Kprobe | ProgramKind::Uprobe => (c::BPF_PROG_TYPE_KPROBE, 0, 0),
        ProgramKind::Tracepoint => (c::BPF_PROG_TYPE_TRACEPOINT, 0, 0),
        ProgramKind::PerfEvent => (c::BPF_PROG_TYPE_PERF_EVENT, 0, 0),
        ProgramKind::Special | ProgramKind::RawTracepoint => {
            (c::BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0)
        }
        ProgramKind::Packet => (c::BPF_PROG_TYPE_SCHED_CLS, 0, 0),
        // Its callers may be of any kind.
        ProgramKind::Function { .. } => return false,
        // All of these are tracing programs to the kernel.
        ProgramKind::Trampoline | ProgramKind::BtfTracepoint | ProgramKind::Iter => {
            tracing(c::BPF_TRACE_FENTRY)
        }
    };
    let mut log = [0; 1024];
    // BPF_PSEUDO_KFUNC_CALL of linux/bpf.h is 2, in the half of the source register.
    let call = Insn { code: 0x85, registers: 2 << 4, offset: 0, imm: id.cast_signed() };
    let program = [Insn::mov(1, 0), call, Insn::mov(0, 0), Insn::EXIT];
    match load_with_log(kind, attach, target, &program, &mut log) {
        Ok(_) => true,
        Err(_) => {
            // Anything else that is wrong comes after the question whether it may be called.
            let log = String::from_utf8_lossy(&log);
            // Kernels before 5.13 see reserved fields in such a call.
            let refused = ["is not allowed", "reserved fields", "not support", "JIT is required"];
            log.contains(": (85) call ") && !refused.iter().any(|r| log.contains(r))
        }
    }
}

fn probe(host: &Host, feature: Feature) -> bool {
    match feature {
        Feature::DPath => helper_exists(c::BPF_FUNC_d_path),
        Feature::KtimeTai => helper_exists(c::BPF_FUNC_ktime_get_tai_ns),
        Feature::KtimeBoot => helper_exists(c::BPF_FUNC_ktime_get_boot_ns),
        Feature::FuncIp => helper_exists(c::BPF_FUNC_get_func_ip),
        Feature::FuncArg => helper_exists(c::BPF_FUNC_get_func_arg),
        Feature::AttachCookie => helper_exists(c::BPF_FUNC_get_attach_cookie),
        Feature::LookupPercpu => helper_exists(c::BPF_FUNC_map_lookup_percpu_elem),
        Feature::Loop => helper_exists(c::BPF_FUNC_loop),
        Feature::ForEachMapElem => helper_exists(c::BPF_FUNC_for_each_map_elem),
        Feature::CurrentTaskBtf => helper_exists(c::BPF_FUNC_get_current_task_btf),
        Feature::TaskPtRegs => helper_exists(c::BPF_FUNC_task_pt_regs),
        Feature::NsPidTgid => helper_exists(c::BPF_FUNC_get_ns_current_pid_tgid),
        Feature::Jiffies64 => helper_exists(c::BPF_FUNC_jiffies64),
        Feature::SendSignal => helper_exists(c::BPF_FUNC_send_signal),
        Feature::SendSignalThread => helper_exists(c::BPF_FUNC_send_signal_thread),
        // Known to every kernel, but built in only where errors can be injected.
        Feature::OverrideReturn => helper_allowed(c::BPF_FUNC_override_return),
        Feature::ProbeWriteUser => helper_allowed(c::BPF_FUNC_probe_write_user),
        Feature::SocketCookie => traced_function(host)
            .is_some_and(|id| tracing_allows(c::BPF_FUNC_get_socket_cookie, id)),
        Feature::LargePrograms => {
            let mut program = vec![Insn::mov(0, 0); 5000];
            program.push(Insn::EXIT);
            load(c::BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, &program).is_ok()
        }
        Feature::Btf => Path::new("/sys/kernel/btf/vmlinux").exists(),
        // They came together with names for BTF objects.
        Feature::ModuleBtf => sys::next_btf_object(0).is_ok_and(|(_, object)| object.named),
        // SAFETY: makes and closes a map; no pointers.
        Feature::RingBuffer => unsafe {
            c::libbpf_probe_bpf_map_type(c::BPF_MAP_TYPE_RINGBUF, ptr::null()) == 1
        },
        Feature::LargeKeys => hash_map_exists(520),
        Feature::DynamicMaps => dynamic_maps(),
        // int bpf_modify_return_test(int a, int *b)
        Feature::ScalarPointers => {
            find_function(host, "bpf_modify_return_test").is_some_and(|id| {
                let second = Insn { code: 0x79, registers: 0x10, offset: 8, imm: 0 };
                let program = [second, Insn::mov(0, 0), Insn::EXIT];
                load(c::BPF_PROG_TYPE_TRACING, c::BPF_TRACE_FENTRY, id, &program).is_ok()
            })
        }
        // if w0 == 0 goto +0: a 32-bit jump. Atomic fetch-and-add came
        // later, so that is what is asked for.
        Feature::CpuV3 => {
            let program = [
                Insn::mov(0, 0),
                Insn::store_zero(-8),
                Insn { code: 0xdb, registers: 10, offset: -8, imm: 0x01 },
                Insn { code: 0x16, registers: 0, offset: 0, imm: 0 },
                Insn::EXIT,
            ];
            load(c::BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, &program).is_ok()
        }
        // r0 s/= 2: signed division is division with offset 1.
        Feature::CpuV4 => {
            let signed_division = Insn { code: 0x37, registers: 0, offset: 1, imm: 2 };
            let program = [Insn::mov(0, 4), signed_division, Insn::EXIT];
            load(c::BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, &program).is_ok()
        }
        Feature::PerfLink => perf_link(),
        Feature::RawTracepointCookie => raw_tracepoint_cookie(),
        Feature::Kprobe => Path::new("/sys/bus/event_source/devices/kprobe").exists(),
        Feature::KprobeMulti => kprobe_multi(c::BPF_TRACE_KPROBE_MULTI),
        Feature::KprobeSession => kprobe_multi(c::BPF_TRACE_KPROBE_SESSION),
        Feature::Uprobe => Path::new("/sys/bus/event_source/devices/uprobe").exists(),
        Feature::UprobeRefCount => {
            Path::new("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset").exists()
        }
        Feature::UprobeMulti => uprobe_multi(None) == Some(libc::EBADF),
        Feature::UprobeMultiPid => {
            uprobe_multi(None) == Some(libc::EBADF)
                && uprobe_multi(Some(u32::MAX)) == Some(libc::EINVAL)
        }
        Feature::Fentry => traced_function(host).is_some_and(trampoline),
        Feature::NopreemptTracepoints => host.btf().is_ok_and(|btf| feature.is_in(btf)),
        Feature::NopreemptTrampolines => !preemption(host).unwrap_or(true),
        Feature::Tcx => load(c::BPF_PROG_TYPE_SCHED_CLS, 0, 0, &NOTHING).is_ok_and(|program| {
            // No device has this number; kernels without such links do not look for it.
            let made = sys::packet_link(program.as_fd(), i32::MAX, c::BPF_TCX_INGRESS, 0);
            made.is_err_and(|e| e.raw_os_error() == Some(libc::ENODEV))
        }),
        Feature::Watchpoint => Path::new("/sys/bus/event_source/devices/breakpoint").exists(),
        Feature::Iter => find_function(host, "bpf_iter_task").is_some_and(|id| {
            load(c::BPF_PROG_TYPE_TRACING, c::BPF_TRACE_ITER, id, &NOTHING).is_ok()
        }),
    }
}

/// Whether the kernel makes hash maps with keys of that size.
fn hash_map_exists(key_size: u32) -> bool {
    // SAFETY: the kernel reads nothing through the two null pointers, which
    // stand for "no name" and "no options".
    let fd = unsafe {
        c::bpf_map_create(c::BPF_MAP_TYPE_HASH, ptr::null(), key_size, 8, 1, ptr::null())
    };
    if fd < 0 {
        return false;
    }
    // SAFETY: the call succeeded, so the descriptor is open and ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    true
}

/// Whether a program that may run at any time, as on perf events, may use a
/// hash map that is not allocated in advance.
fn dynamic_maps() -> bool {
    let options = c::bpf_map_create_opts {
        sz: size_of::<c::bpf_map_create_opts>() as c::size_t,
        map_flags: c::BPF_F_NO_PREALLOC,
        ..Default::default()
    };
    // SAFETY: the options live until the call returns; a null pointer stands
    // for "no name".
    let fd = unsafe {
        c::bpf_map_create(c::BPF_MAP_TYPE_HASH, ptr::null(), 8, 8, 1, &raw const options)
    };
    if fd < 0 {
        return false;
    }
    // SAFETY: the call succeeded, so the descriptor is open and ours.
    let map = unsafe { OwnedFd::from_raw_fd(fd) };
    let [first, second] = Insn::map_address(map.as_raw_fd());
    let program = [first, second, Insn::mov(0, 0), Insn::EXIT];
    load(c::BPF_PROG_TYPE_PERF_EVENT, 0, 0, &program).is_ok()
}

/// One BPF instruction (linux/bpf.h, `struct bpf_insn`); `registers` holds
/// the source in its high and the destination in its low half.
#[repr(C)]
#[derive(Clone, Copy)]
struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    imm: i32,
}

impl Insn {
    const EXIT: Insn = Insn { code: 0x95, registers: 0, offset: 0, imm: 0 };

    const fn mov(register: u8, imm: i32) -> Insn {
        Insn { code: 0xb7, registers: register, offset: 0, imm }
    }

    const fn call(helper: c::bpf_func_id) -> Insn {
        Insn { code: 0x85, registers: 0, offset: 0, imm: helper.cast_signed() }
    }

    /// The address of a map (`BPF_PSEUDO_MAP_FD`), which takes two instructions.
    const fn map_address(fd: i32) -> [Insn; 2] {
        [
            Insn { code: 0x18, registers: 0x11, offset: 0, imm: fd },
            Insn { code: 0, registers: 0, offset: 0, imm: 0 },
        ]
    }

    /// Eight bytes of zero below the frame pointer.
    const fn store_zero(offset: i16) -> Insn {
        Insn { code: 0x7a, registers: 10, offset, imm: 0 }
    }
}

/// `return 0`.
const NOTHING: [Insn; 2] = [Insn::mov(0, 0), Insn::EXIT];

fn load(
    kind: c::bpf_prog_type,
    attach: c::bpf_attach_type,
    btf_id: u32,
    program: &[Insn],
) -> io::Result<OwnedFd> {
    load_with_log(kind, attach, btf_id, program, &mut [])
}

/// Loads a program; a failure leaves the verifier's words in `log`.
fn load_with_log(
    kind: c::bpf_prog_type,
    attach: c::bpf_attach_type,
    btf_id: u32,
    program: &[Insn],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut options = c::bpf_prog_load_opts {
        sz: size_of::<c::bpf_prog_load_opts>() as c::size_t,
        expected_attach_type: attach,
        attach_btf_id: btf_id,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { ptr::null_mut() } else { log.as_mut_ptr().cast() },
        ..Default::default()
    };
    // SAFETY: the instructions have the kernel's layout, and they, the log and
    // the options live until the call returns.
    let fd = unsafe {
        c::bpf_prog_load(
            kind,
            c"rtrace_probe".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr().cast(),
            program.len() as c::size_t,
            &raw mut options,
        )
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the call just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The BTF id of a function that every kernel with BTF has.
fn traced_function(host: &Host) -> Option<u32> {
    ["bpf_fentry_test1", "vfs_fsync"].into_iter().find_map(|name| find_function(host, name))
}

/// What the verifier says to a program that only calls a helper.
fn helper_log(helper: c::bpf_func_id) -> String {
    helper_log_of(c::BPF_PROG_TYPE_KPROBE, 0, 0, helper)
}

fn helper_log_of(
    kind: c::bpf_prog_type,
    attach: c::bpf_attach_type,
    btf_id: u32,
    helper: c::bpf_func_id,
) -> String {
    let mut log = [0; 512];
    let program = [Insn::call(helper), Insn::EXIT];
    match load_with_log(kind, attach, btf_id, &program, &mut log) {
        Ok(_) => String::new(),
        Err(_) => String::from_utf8_lossy(&log).into_owned(),
    }
}

/// Whether the kernel knows a helper, for whatever kind of program: unknown
/// helpers have no name in its table.
fn helper_exists(helper: c::bpf_func_id) -> bool {
    !helper_log(helper).contains("invalid func unknown#")
}

/// Whether kprobe programs may call a helper.
fn helper_allowed(helper: c::bpf_func_id) -> bool {
    allows(&helper_log(helper))
}

/// Whether a program at the start of a kernel function may call a helper.
fn tracing_allows(helper: c::bpf_func_id, btf_id: u32) -> bool {
    allows(&helper_log_of(c::BPF_PROG_TYPE_TRACING, c::BPF_TRACE_FENTRY, btf_id, helper))
}

/// Whether the verifier's words are about anything but the helper itself.
fn allows(log: &str) -> bool {
    // "unknown func" until 6.8, "program of this type cannot use helper" since.
    !["invalid func", "unknown func", "cannot use helper"].iter().any(|s| log.contains(s))
}

/// Whether perf events take links: a link to what is not a perf event is
/// EBADF where the link type is known, EINVAL elsewhere.
fn perf_link() -> bool {
    let Ok(program) = load(c::BPF_PROG_TYPE_TRACEPOINT, 0, 0, &NOTHING) else { return false };
    errno(sys::perf_link(program.as_fd(), program.as_fd(), 0)) == Some(libc::EBADF)
}

/// Whether raw tracepoints take cookies. The event does not exist, which the
/// kernel says (ENOENT) only if it knows all of the arguments.
fn raw_tracepoint_cookie() -> bool {
    let Ok(program) = load(c::BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0, &NOTHING) else { return false };
    errno(sys::raw_tracepoint(program.as_fd(), Some(c"rtrace:none"), 1)) == Some(libc::ENOENT)
}

/// Whether the kernel knows a `kprobe.multi` kind of link: the address of the
/// function list is wrong, which it notices (EFAULT) only if it does.
fn kprobe_multi(attach: c::bpf_attach_type) -> bool {
    let Ok(program) = load(c::BPF_PROG_TYPE_KPROBE, attach, 0, &NOTHING) else { return false };
    errno(sys::kprobe_multi_nowhere(program.as_fd(), attach)) == Some(libc::EFAULT)
}

/// How the kernel refuses a uprobe in `/`, which is not a regular file. A
/// kernel that filters by process refuses a wrong pid (EINVAL) before that.
fn uprobe_multi(pid: Option<u32>) -> Option<i32> {
    let attach = c::BPF_TRACE_UPROBE_MULTI;
    let program = load(c::BPF_PROG_TYPE_KPROBE, attach, 0, &NOTHING).ok()?;
    let places = sys::Places { offsets: &[0], ..sys::Places::default() };
    errno(sys::uprobe_multi(program.as_fd(), c"/", places, pid, false))
}

/// Whether the kernel preempts its own code; nothing if it cannot be found out.
///
/// The kernel's name says how it was built (`UTS_VERSION`, init/Makefile); if that can be changed
/// when it starts, a file has the choices, the one that is taken in parentheses
/// (`sched_dynamic_show`, kernel/sched/debug.c).
fn preemption(host: &Host) -> Option<bool> {
    let built = host.read("/proc/sys/kernel/version").ok()?;
    if !built.contains("PREEMPT") {
        return Some(false);
    }
    if !built.contains("PREEMPT_DYNAMIC") {
        return Some(true);
    }
    let choices = host.read("/sys/kernel/debug/sched/preempt").ok()?;
    let taken = choices.split_whitespace().find_map(|c| c.strip_prefix('(')?.strip_suffix(')'))?;
    Some(!["none", "voluntary"].contains(&taken))
}

/// Whether a kernel function can be traced by a trampoline; on some kernels
/// and architectures the program loads and cannot be attached.
fn trampoline(btf_id: u32) -> bool {
    let attach = c::BPF_TRACE_FENTRY;
    let Ok(program) = load(c::BPF_PROG_TYPE_TRACING, attach, btf_id, &NOTHING) else {
        return false;
    };
    sys::raw_tracepoint(program.as_fd(), None, 0).is_ok()
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_answers_consistently() {
        let features = Host::at(Path::new("/")).with_features(live());
        // What rtrace requires of every kernel.
        assert!(features.has(Feature::RingBuffer));
        assert!(features.has(Feature::CpuV3));
        assert!(features.has(Feature::KtimeBoot));
        // Each implies the other.
        assert!(features.has(Feature::UprobeMulti) || !features.has(Feature::UprobeMultiPid));
        assert!(features.has(Feature::KprobeMulti) || !features.has(Feature::KprobeSession));
        assert!(!helper_exists(100_000), "a helper that no kernel has");
    }
}
