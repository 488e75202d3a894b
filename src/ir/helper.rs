//! The BPF helpers that programs call: one row each.
//!
//! Numbers are those of `enum bpf_func_id` in linux/bpf.h.

use super::{CType, Foreign, Origin, ProgramKind, Prototype};

/// A BPF helper function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Helper {
    KtimeGetNs,
    KtimeGetBootNs,
    KtimeGetTaiNs,
    Jiffies64,
    GetCurrentPidTgid,
    GetNsCurrentPidTgid,
    GetCurrentUidGid,
    GetCurrentComm,
    GetCurrentTask,
    GetCurrentTaskBtf,
    TaskPtRegs,
    GetCurrentCgroupId,
    GetCurrentAncestorCgroupId,
    GetSmpProcessorId,
    GetNumaNodeId,
    GetPrandomU32,
    ProbeReadKernel,
    ProbeReadUser,
    ProbeReadKernelStr,
    ProbeReadUserStr,
    MapUpdateElem,
    MapDeleteElem,
    GetStack,
    GetFuncIp,
    GetFuncRet,
    GetAttachCookie,
    SendSignal,
    SendSignalThread,
    OverrideReturn,
    DPath,
    RingbufOutput,
    SeqPrintf,
    SeqWrite,
    TracePrintk,
    ProbeWriteUser,
    GetSocketCookie,
    SkbOutput,
}

/// A kernel function that programs call to get hold of an object, and the one
/// that gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kfunc {
    /// `struct task_struct *bpf_task_from_pid(s32 pid)`
    TaskFromPid,
}

impl Kfunc {
    pub const fn name(self) -> &'static str {
        match self {
            Kfunc::TaskFromPid => "bpf_task_from_pid",
        }
    }

    /// The function, and the one that gives back what it gave.
    pub fn functions(self) -> [Foreign; 2] {
        let pointer = |to: &str| {
            CType::Pointer(Box::new(CType::Composite { union: false, name: to.to_owned() }))
        };
        let int = CType::Int { name: "int".to_owned(), size: 4, signed: true, bool: false };
        let foreign = |name: &str, result, param| Foreign {
            name: name.to_owned(),
            origin: Origin::Kernel,
            prototype: Prototype { result, params: vec![param] },
        };
        match self {
            Kfunc::TaskFromPid => [
                foreign(self.name(), pointer("task_struct"), ("pid".to_owned(), int)),
                foreign("bpf_task_release", CType::Void, ("p".to_owned(), pointer("task_struct"))),
            ],
        }
    }
}

/// What is known about a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperInfo {
    /// Number in `enum bpf_func_id`.
    pub id: u32,
    /// Without the `bpf_` prefix, as warnings show it.
    pub name: &'static str,
    /// Number of arguments.
    pub args: usize,
    /// Program kinds that may call it; empty means all.
    pub only: &'static [ProgramKind],
}

impl Helper {
    /// Whether programs on packets may call it: what is not about a process
    /// (`bpf_base_func_proto`, kernel/bpf/helpers.c).
    pub const fn for_packets(self) -> bool {
        matches!(
            self,
            Helper::MapUpdateElem
                | Helper::MapDeleteElem
                | Helper::KtimeGetNs
                | Helper::KtimeGetBootNs
                | Helper::KtimeGetTaiNs
                | Helper::Jiffies64
                | Helper::TracePrintk
                | Helper::GetPrandomU32
                | Helper::GetSmpProcessorId
                | Helper::GetNumaNodeId
                | Helper::ProbeReadKernel
                | Helper::ProbeReadKernelStr
                | Helper::RingbufOutput
        )
    }

    /// The helper's row.
    pub const fn info(self) -> HelperInfo {
        use ProgramKind as P;
        const ALL: &[ProgramKind] = &[];
        const SIGNAL: &[ProgramKind] = &[
            P::Kprobe,
            P::Uprobe,
            P::Trampoline,
            P::Tracepoint,
            P::RawTracepoint,
            P::BtfTracepoint,
            P::PerfEvent,
        ];
        const COOKIE: &[ProgramKind] = &[
            P::Kprobe,
            P::Uprobe,
            P::Trampoline,
            P::Tracepoint,
            P::RawTracepoint,
            P::BtfTracepoint,
            P::PerfEvent,
        ];
        const FUNC_IP: &[ProgramKind] = &[P::Kprobe, P::Uprobe, P::Trampoline];
        let (id, name, args, only): (u32, &str, usize, &[ProgramKind]) = match self {
            Helper::MapUpdateElem => (2, "map_update_elem", 4, ALL),
            Helper::MapDeleteElem => (3, "map_delete_elem", 2, ALL),
            Helper::KtimeGetNs => (5, "ktime_get_ns", 0, ALL),
            Helper::TracePrintk => (6, "trace_printk", 5, ALL),
            Helper::GetPrandomU32 => (7, "get_prandom_u32", 0, ALL),
            Helper::GetSmpProcessorId => (8, "get_smp_processor_id", 0, ALL),
            Helper::GetCurrentPidTgid => (14, "get_current_pid_tgid", 0, ALL),
            Helper::GetCurrentUidGid => (15, "get_current_uid_gid", 0, ALL),
            Helper::GetCurrentComm => (16, "get_current_comm", 2, ALL),
            Helper::GetCurrentTask => (35, "get_current_task", 0, ALL),
            Helper::ProbeWriteUser => (36, "probe_write_user", 3, ALL),
            Helper::GetNumaNodeId => (42, "get_numa_node_id", 0, ALL),
            Helper::GetSocketCookie => {
                (46, "get_socket_cookie", 1, &[P::Trampoline, P::BtfTracepoint, P::Iter])
            }
            Helper::OverrideReturn => (58, "override_return", 2, &[P::Kprobe]),
            Helper::GetStack => (67, "get_stack", 4, ALL),
            Helper::GetCurrentCgroupId => (80, "get_current_cgroup_id", 0, ALL),
            Helper::GetCurrentAncestorCgroupId => (123, "get_current_ancestor_cgroup_id", 1, ALL),
            Helper::SendSignal => (109, "send_signal", 1, SIGNAL),
            Helper::SkbOutput => {
                (111, "skb_output", 5, &[P::Trampoline, P::BtfTracepoint, P::Iter])
            }
            Helper::ProbeReadUser => (112, "probe_read_user", 3, ALL),
            Helper::ProbeReadKernel => (113, "probe_read_kernel", 3, ALL),
            Helper::ProbeReadUserStr => (114, "probe_read_user_str", 3, ALL),
            Helper::ProbeReadKernelStr => (115, "probe_read_kernel_str", 3, ALL),
            Helper::SendSignalThread => (117, "send_signal_thread", 1, SIGNAL),
            Helper::Jiffies64 => (118, "jiffies64", 0, ALL),
            Helper::GetNsCurrentPidTgid => (120, "get_ns_current_pid_tgid", 4, ALL),
            Helper::KtimeGetBootNs => (125, "ktime_get_boot_ns", 0, ALL),
            Helper::SeqPrintf => (126, "seq_printf", 5, &[P::Iter]),
            Helper::SeqWrite => (127, "seq_write", 3, &[P::Iter]),
            Helper::RingbufOutput => (130, "ringbuf_output", 4, ALL),
            Helper::DPath => (147, "d_path", 3, &[P::Trampoline, P::Iter]),
            Helper::GetCurrentTaskBtf => (158, "get_current_task_btf", 0, ALL),
            Helper::TaskPtRegs => (175, "task_pt_regs", 1, SIGNAL),
            Helper::GetFuncRet => (184, "get_func_ret", 2, &[P::Trampoline]),
            Helper::GetFuncIp => (173, "get_func_ip", 1, FUNC_IP),
            Helper::GetAttachCookie => (174, "get_attach_cookie", 1, COOKIE),
            Helper::KtimeGetTaiNs => (208, "ktime_get_tai_ns", 0, ALL),
        };
        HelperInfo { id, name, args, only }
    }
}
