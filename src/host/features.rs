//! What BPF on the traced machine can do: asked when needed, remembered.
//!
//! A feature is probed and never derived from the kernel's version, since
//! distributions backport. The kernel side of the question lives in
//! `runtime::features`; a recorded machine answers from a list of names.
//! Adding a feature: a variant, its row in [`Feature::info`], its place in
//! [`Feature::ALL`], and its probe in `runtime/features.rs`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Host;
use super::btf::Btf;
use crate::ir::ProgramKind;
use crate::parser::ast::TypeTag;
use crate::types::Type;

/// Something that a kernel may or may not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Helper `bpf_d_path`.
    DPath,
    /// Helper `bpf_ktime_get_tai_ns`.
    KtimeTai,
    /// Helper `bpf_ktime_get_boot_ns`.
    KtimeBoot,
    /// Helper `bpf_get_func_ip`.
    FuncIp,
    /// Helper `bpf_get_func_arg`.
    FuncArg,
    /// Helper `bpf_get_attach_cookie`.
    AttachCookie,
    /// Helper `bpf_map_lookup_percpu_elem`.
    LookupPercpu,
    /// Helper `bpf_loop`.
    Loop,
    /// Helper `bpf_for_each_map_elem`.
    ForEachMapElem,
    /// Helper `bpf_get_current_task_btf`.
    CurrentTaskBtf,
    /// Helper `bpf_task_pt_regs`.
    TaskPtRegs,
    /// Helper `bpf_get_ns_current_pid_tgid`.
    NsPidTgid,
    /// Helper `bpf_jiffies64`.
    Jiffies64,
    /// Helper `bpf_send_signal`.
    SendSignal,
    /// Helper `bpf_send_signal_thread`.
    SendSignalThread,
    /// Helper `bpf_override_return`.
    OverrideReturn,
    /// Helper `bpf_probe_write_user`, which lockdown can forbid.
    ProbeWriteUser,
    /// Helper `bpf_get_socket_cookie` for tracing programs.
    SocketCookie,
    /// Programs of up to a million instructions instead of 4096.
    LargePrograms,
    /// The kernel describes its own types.
    Btf,
    /// And those of its modules.
    ModuleBtf,
    /// Map type `BPF_MAP_TYPE_RINGBUF`.
    RingBuffer,
    /// Keys of hash maps may be longer than 512 bytes.
    LargeKeys,
    /// Hash maps may take their memory as they fill, whatever kind of program
    /// uses them.
    DynamicMaps,
    /// Programs with typed arguments may load those that point to numbers.
    ScalarPointers,
    /// BPF instruction set v3: 32-bit arithmetic and jumps, atomics.
    CpuV3,
    /// BPF instruction set v4: signed division, sign extension, byte swaps.
    CpuV4,
    /// Perf events (and so kprobes, uprobes, tracepoints) can have a BPF link
    /// and with it a cookie.
    PerfLink,
    /// Raw tracepoints can have a cookie.
    RawTracepointCookie,
    /// The perf PMU `kprobe`.
    Kprobe,
    /// `kprobe.multi` links.
    KprobeMulti,
    /// `kprobe.session` links.
    KprobeSession,
    /// The perf PMU `uprobe`.
    Uprobe,
    /// Reference counters (USDT semaphores) of uprobes.
    UprobeRefCount,
    /// `uprobe.multi` links.
    UprobeMulti,
    /// `uprobe.multi` links filter by process (the first kernels with them
    /// filtered by thread).
    UprobeMultiPid,
    /// fentry and fexit: BTF and trampolines.
    Fentry,
    /// Programs on raw tracepoints are not preempted. Where they are, the kernel skips a program
    /// that another thread has not left yet on that CPU.
    NopreemptTracepoints,
    /// The same of programs on trampolines.
    NopreemptTrampolines,
    /// BPF iterators.
    Iter,
    /// Hardware breakpoints as perf events.
    Watchpoint,
    /// Links of programs to the traffic of a device.
    Tcx,
}

/// Under which heading `--info` shows a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Helper,
    Kernel,
    ProbeType,
}

/// What is known about a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureInfo {
    /// As `--no-feature` and recorded machines spell it; `--info` writes blanks
    /// for the underscores of the group `Kernel`.
    pub name: &'static str,
    pub group: Group,
    /// The first Linux release that has it; only for messages.
    pub since: &'static str,
}

impl Feature {
    /// Every feature, in the order of their declaration.
    pub const ALL: [Feature; 42] = [
        Feature::DPath,
        Feature::KtimeTai,
        Feature::KtimeBoot,
        Feature::FuncIp,
        Feature::FuncArg,
        Feature::AttachCookie,
        Feature::LookupPercpu,
        Feature::Loop,
        Feature::ForEachMapElem,
        Feature::CurrentTaskBtf,
        Feature::TaskPtRegs,
        Feature::NsPidTgid,
        Feature::Jiffies64,
        Feature::SendSignal,
        Feature::SendSignalThread,
        Feature::OverrideReturn,
        Feature::ProbeWriteUser,
        Feature::SocketCookie,
        Feature::LargePrograms,
        Feature::Btf,
        Feature::ModuleBtf,
        Feature::RingBuffer,
        Feature::LargeKeys,
        Feature::DynamicMaps,
        Feature::ScalarPointers,
        Feature::CpuV3,
        Feature::CpuV4,
        Feature::PerfLink,
        Feature::RawTracepointCookie,
        Feature::Kprobe,
        Feature::KprobeMulti,
        Feature::KprobeSession,
        Feature::Uprobe,
        Feature::UprobeRefCount,
        Feature::UprobeMulti,
        Feature::UprobeMultiPid,
        Feature::Fentry,
        Feature::NopreemptTracepoints,
        Feature::NopreemptTrampolines,
        Feature::Iter,
        Feature::Watchpoint,
        Feature::Tcx,
    ];

    /// The feature's row.
    pub const fn info(self) -> FeatureInfo {
        use Group::{Helper, Kernel, ProbeType};
        let (name, group, since) = match self {
            Feature::DPath => ("dpath", Helper, "5.10"),
            Feature::KtimeTai => ("get_tai_ns", Helper, "6.1"),
            Feature::KtimeBoot => ("get_boot_ns", Helper, "5.8"),
            Feature::FuncIp => ("get_func_ip", Helper, "5.15"),
            Feature::FuncArg => ("get_func_arg", Helper, "5.17"),
            Feature::AttachCookie => ("get_attach_cookie", Helper, "5.15"),
            Feature::LookupPercpu => ("lookup_percpu_elem", Helper, "5.19"),
            Feature::Loop => ("loop", Helper, "5.17"),
            Feature::ForEachMapElem => ("for_each_map_elem", Helper, "5.13"),
            Feature::CurrentTaskBtf => ("get_current_task_btf", Helper, "5.11"),
            Feature::TaskPtRegs => ("task_pt_regs", Helper, "5.15"),
            Feature::NsPidTgid => ("get_ns_current_pid_tgid", Helper, "5.7"),
            Feature::Jiffies64 => ("jiffies64", Helper, "5.5"),
            Feature::SendSignal => ("send_signal", Helper, "5.3"),
            Feature::SendSignalThread => ("send_signal_thread", Helper, "5.5"),
            Feature::OverrideReturn => ("override_return", Helper, "4.16"),
            Feature::ProbeWriteUser => ("probe_write_user", Helper, "4.8"),
            Feature::SocketCookie => ("get_socket_cookie", Helper, "5.12"),
            Feature::LargePrograms => ("large_programs", Kernel, "5.2"),
            Feature::Btf => ("btf", Kernel, "5.4"),
            Feature::ModuleBtf => ("module_btf", Kernel, "5.11"),
            Feature::RingBuffer => ("ring_buffer", Kernel, "5.8"),
            Feature::LargeKeys => ("large_keys", Kernel, "5.13"),
            Feature::DynamicMaps => ("dynamic_maps", Kernel, "6.1"),
            Feature::ScalarPointers => ("scalar_pointers", Kernel, "5.15"),
            Feature::CpuV3 => ("cpu_v3", Kernel, "5.12"),
            Feature::CpuV4 => ("cpu_v4", Kernel, "6.6"),
            Feature::PerfLink => ("perf_link", Kernel, "5.15"),
            Feature::RawTracepointCookie => ("raw_tracepoint_cookie", Kernel, "6.10"),
            Feature::Kprobe => ("kprobe", ProbeType, "4.17"),
            Feature::KprobeMulti => ("kprobe_multi", ProbeType, "5.18"),
            Feature::KprobeSession => ("kprobe_session", ProbeType, "6.10"),
            Feature::Uprobe => ("uprobe", ProbeType, "4.17"),
            Feature::UprobeRefCount => ("uprobe_refcount", ProbeType, "4.20"),
            Feature::UprobeMulti => ("uprobe_multi", ProbeType, "6.6"),
            Feature::UprobeMultiPid => ("uprobe_multi_pid", ProbeType, "6.10"),
            Feature::Fentry => ("fentry", ProbeType, "5.5"),
            // Linux 7.0 took it away.
            Feature::NopreemptTracepoints => ("nopreempt_tracepoints", Kernel, "4.17"),
            // A matter of how the kernel is configured and started.
            Feature::NopreemptTrampolines => ("nopreempt_trampolines", Kernel, "5.5"),
            Feature::Iter => ("iter", ProbeType, "5.8"),
            Feature::Watchpoint => ("watchpoint", ProbeType, "4.9"),
            Feature::Tcx => ("tcx", ProbeType, "6.6"),
        };
        FeatureInfo { name, group, since }
    }

    /// Whether the types of a kernel show that it has the feature: its helper, its kind of
    /// link, or what came with it. For those who cannot ask the kernel.
    pub fn is_in(self, btf: &Btf) -> bool {
        let constant = |name: &str| btf.find_enum_constant(name).is_some();
        let function = |name: &str| btf.function(name).is_some();
        let helper = |name: &str| constant(&format!("BPF_FUNC_{name}"));
        match self {
            Feature::DPath => helper("d_path"),
            Feature::KtimeTai => helper("ktime_get_tai_ns"),
            Feature::KtimeBoot => helper("ktime_get_boot_ns"),
            Feature::FuncIp => helper("get_func_ip"),
            Feature::FuncArg => helper("get_func_arg"),
            Feature::AttachCookie => helper("get_attach_cookie"),
            Feature::LookupPercpu => helper("map_lookup_percpu_elem"),
            Feature::Loop => helper("loop"),
            // Both came with Linux 5.13.
            Feature::ForEachMapElem | Feature::LargeKeys => helper("for_each_map_elem"),
            Feature::CurrentTaskBtf => helper("get_current_task_btf"),
            Feature::TaskPtRegs => helper("task_pt_regs"),
            Feature::NsPidTgid => helper("get_ns_current_pid_tgid"),
            Feature::Jiffies64 => helper("jiffies64"),
            Feature::SendSignal => helper("send_signal"),
            Feature::SendSignalThread => helper("send_signal_thread"),
            Feature::OverrideReturn => function("bpf_override_return"),
            Feature::ProbeWriteUser => helper("probe_write_user"),
            Feature::SocketCookie => helper("get_socket_cookie"),
            // Whoever describes its types has these, too.
            Feature::LargePrograms | Feature::Btf | Feature::Uprobe | Feature::UprobeRefCount => {
                true
            }
            Feature::ModuleBtf => helper("get_current_task_btf"),
            Feature::RingBuffer => constant("BPF_MAP_TYPE_RINGBUF"),
            Feature::DynamicMaps => constant("BPF_MAP_TYPE_USER_RINGBUF"),
            Feature::PerfLink | Feature::ScalarPointers => constant("BPF_LINK_TYPE_PERF_EVENT"),
            Feature::CpuV3 => helper("for_each_map_elem"),
            Feature::CpuV4 | Feature::UprobeMulti => constant("BPF_LINK_TYPE_UPROBE_MULTI"),
            Feature::RawTracepointCookie | Feature::KprobeSession | Feature::UprobeMultiPid => {
                constant("BPF_TRACE_KPROBE_SESSION")
            }
            Feature::Kprobe => function("register_kprobe"),
            Feature::KprobeMulti => {
                constant("BPF_LINK_TYPE_KPROBE_MULTI") && function("register_fprobe")
            }
            Feature::Fentry => {
                function("bpf_trampoline_link_prog") && function("register_ftrace_direct")
            }
            // Callbacks under SRCU, and of the kind that is not slower than preemption off: the two
            // were in no kernel before that together.
            Feature::NopreemptTracepoints => {
                let fast = || match btf.find_type(Some(TypeTag::Struct), "srcu_data") {
                    Some(Type::Struct(data)) => {
                        btf.member_at(data.id, "srcu_reader_flavor").is_some()
                    }
                    _ => false,
                };
                !(btf.has_percpu_variable("tracepoint_srcu_srcu_data") && fast())
            }
            // Types do not tell.
            Feature::NopreemptTrampolines => false,
            Feature::Iter => constant("BPF_TRACE_ITER"),
            Feature::Watchpoint => function("register_user_hw_breakpoint"),
            Feature::Tcx => constant("BPF_TCX_INGRESS"),
        }
    }

    /// The feature of that name.
    pub fn find(name: &str) -> Option<Feature> {
        Feature::ALL.into_iter().find(|f| f.info().name == name)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

/// The features of one machine. Each is asked for at most once.
pub struct Features {
    known: [OnceLock<bool>; Feature::ALL.len()],
    probe: Box<Probe>,
    kfuncs: Box<Kfuncs>,
}

/// `5.10` and `5.10.0-8` as two numbers.
pub fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Says whether a machine has a feature.
type Probe = dyn Fn(&Host, Feature) -> bool + Send + Sync;

/// Says whether programs of a kind may call a function of the kernel.
type Kfuncs = dyn Fn(&Host, &str, ProgramKind) -> bool + Send + Sync;

impl Features {
    /// Features that `probe` answers for.
    pub fn new(probe: impl Fn(&Host, Feature) -> bool + Send + Sync + 'static) -> Features {
        Features {
            known: [const { OnceLock::new() }; Feature::ALL.len()],
            probe: Box::new(probe),
            kfuncs: Box::new(|_, _, _| false),
        }
    }

    /// The same features, and functions of the kernel that `kfuncs` answers for.
    #[must_use]
    pub fn with_kfuncs(
        self,
        kfuncs: impl Fn(&Host, &str, ProgramKind) -> bool + Send + Sync + 'static,
    ) -> Features {
        // An answer costs a program that the kernel looks at, and every round of the check asks.
        let answers = Mutex::new(HashMap::new());
        let kfuncs = move |host: &Host, name: &str, kind| {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers.entry((name.to_owned(), kind)).or_insert_with(|| kfuncs(host, name, kind))
        };
        Features { kfuncs: Box::new(kfuncs), ..self }
    }

    /// Whether programs of a kind may call a function of the kernel.
    pub(super) fn kfunc(&self, host: &Host, name: &str, kind: ProgramKind) -> bool {
        (self.kfuncs)(host, name, kind)
    }

    /// The features of a recorded machine: these, and no others.
    pub fn recorded(present: impl IntoIterator<Item = Feature>) -> Features {
        let present: Vec<Feature> = present.into_iter().collect();
        Features::new(move |_, feature| present.contains(&feature))
    }

    /// The features that objects may rely on which are for all kernels from one on. Where there is
    /// more than one way to do something, that is the kernel that decides; what can be done in one
    /// way only is there, and asked of the kernel that loads the object.
    pub fn portable(oldest: (u32, u32)) -> Features {
        const ONLY_WAY: [Feature; 5] = [
            Feature::KtimeTai,
            Feature::LookupPercpu,
            Feature::ForEachMapElem,
            Feature::SocketCookie,
            Feature::Tcx,
        ];
        Features::new(move |_, feature| {
            let since = release(feature.info().since);
            ONLY_WAY.contains(&feature) || since.is_some_and(|since| since <= oldest)
        })
    }

    /// The same machine as if it lacked a feature (`--no-feature`).
    #[must_use]
    pub fn without(self, feature: Feature) -> Features {
        let Features { known, probe, kfuncs } = self;
        let rest = Features { known, probe, kfuncs: Box::new(|_, _, _| false) };
        Features { kfuncs, ..Features::new(move |host, f| f != feature && rest.has(host, f)) }
    }

    /// Whether the machine has a feature.
    pub(super) fn has(&self, host: &Host, feature: Feature) -> bool {
        match self.known.get(feature as usize) {
            Some(cell) => *cell.get_or_init(|| (self.probe)(host, feature)),
            None => false,
        }
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = Feature::ALL.iter().zip(&self.known).filter_map(|(f, k)| Some((f, k.get()?)));
        f.debug_map().entries(asked).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_feature_is_found_by_its_name_and_has_its_own_cell() {
        for (i, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(Feature::find(feature.info().name), Some(feature));
            assert_eq!(feature as usize, i);
        }
    }

    #[test]
    fn a_feature_is_probed_once() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let host = Host::at(Path::new("/nonexistent"));
        let features = Features::new(|_, f| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            f == Feature::Loop
        });
        assert!(features.has(&host, Feature::Loop) && features.has(&host, Feature::Loop));
        assert!(!features.has(&host, Feature::Fentry));
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn features_can_be_taken_away() {
        let features = Features::recorded([Feature::KprobeMulti, Feature::Kprobe]);
        let host = Host::at(Path::new("/nonexistent")).with_features(features);
        let host = host.hiding(&[Feature::KprobeMulti]);
        assert!(!host.has(Feature::KprobeMulti));
        assert!(host.has(Feature::Kprobe));
    }
}
