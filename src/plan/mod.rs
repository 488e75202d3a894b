//! The contract between the kernel side and the user side, defined once.
//!
//! A [`Plan`] is plain data: what to attach, which maps mean what, which
//! events the programs send and how to print them. Code generation stores it
//! in the ELF section [`SECTION`] beside the programs; the run side reads only
//! that. Codegen stores at the offsets that [`layout`] gives, and the run side
//! decodes with the same ones.

pub mod layout;
mod loss;
mod names;
pub mod portable;

use serde::{Deserialize, Serialize};

pub use layout::{Field, Layout};
pub use loss::{Cause, ERRORS, Loss, Unwound};
pub use names::Names;
pub use portable::Portable;

use crate::source::{Sources, Span};
use crate::types::Aggregation;

/// Section of the object file that holds the plan, as JSON.
pub const SECTION: &str = ".rtrace.plan";

/// Changes when an old object can no longer be read.
pub const VERSION: u32 = 3;

/// Name of the BPF ring buffer that carries events.
pub const EVENTS_MAP: &str = "rt_events";

/// Name of the per-CPU array of loss counters, one [`LossCell`] per [`Loss`].
pub const LOSSES_MAP: &str = ".data.losses";

/// Name of the map with the processes that a run is about, if they are not one: a process id as the
/// key. The run side fills it.
pub const SCOPE_MAP: &str = "rt_scope";

/// Name of the array of one `u64` that is not 0 while everything is attached, for programs on very many
/// functions: attaching them, the kernel runs into those that are attached already. The run side
/// writes it.
pub const READY_MAP: &str = "rt_ready";

/// Name of the per-CPU array of large temporaries, one entry per program.
pub const SCRATCH_MAP: &str = "rt_scratch";

/// Name of the BPF hash map with the frames of stacks of at most `limit`
/// frames: a `u64` as the key, `limit` addresses as the value, innermost first,
/// of which a stack says how many are its own.
pub fn stack_table(limit: u32) -> String {
    format!("{STACK_TABLES}{limit}")
}

/// The limit of the table of that name, if it is one.
pub fn stack_table_limit(name: &str) -> Option<u16> {
    name.strip_prefix(STACK_TABLES)?.parse().ok()
}

const STACK_TABLES: &str = "rt_stacks_";

/// How the names of programs begin that serve rtrace itself, at what happens to processes.
pub const SERVICE: &str = "rt_at_";

/// Names of the maps by which programs unwind user stacks; the run side fills the first three
/// ([`unwind`]).
///
/// Pages of rows: how to get from a frame to its caller's.
pub const UNWIND_ROWS_MAP: &str = "rt_unwind_rows";
/// Which rows are about which addresses of a process.
pub const UNWIND_RANGES_MAP: &str = "rt_unwind_code";
/// The processes that are known.
pub const UNWIND_PROCESSES_MAP: &str = "rt_unwind_pids";
/// Processes that should be, or that have code that is not known yet.
pub const UNWIND_WANTED_MAP: &str = "rt_unwind_want";

/// The layout of these maps.
pub mod unwind {
    /// Rows of a page (a power of two). A row has the `u32` distance of its first address from
    /// the start of the range's file, and a `u32` code (`Step` in `host::dwarf::frames`).
    pub const PAGE_ROWS: u32 = 1 << PAGE_ROWS_BITS;
    pub const PAGE_ROWS_BITS: u32 = 13;
    pub const ROW: u32 = 8;

    /// A key of the ranges: `u32` number of bits, `u32` number of the address space, and the
    /// address, as a `u64` of which the highest byte comes first.
    pub const RANGE_KEY: u32 = 16;
    /// Bits of such a key for a single address.
    pub const RANGE_KEY_BITS: u32 = 96;

    /// A range: the address (`u64`) from which its rows count; their page (`u32`), the first of
    /// them in it (`u16`), and how many there are (`u16`).
    pub const RANGE: u32 = 16;

    /// A process (its id is the key): the `u32` number of its address space, and a `u32` that
    /// is zero.
    pub const PROCESS: u32 = 8;

    /// Who is wanted: a process id is the key, the value is a `u64` that is zero.
    pub const WANTED: u32 = 8;

    /// In place of a frame's address: the frame's caller could not be found.
    pub const FAILED: u64 = u64::MAX;
}

/// Name of the perf event array that carries packets, if a script has some.
pub const PACKETS_MAP: &str = "rt_packets";

/// Bytes before a packet: a `u32` index into [`Plan::events`], the packet's
/// length (`u32`), the boot clock (`u64`), how many of its bytes are left out
/// at the start (`u32`), and a `u32` that is zero.
pub const PACKET_HEADER: u32 = 24;

/// Section of the read-only words that the run side fills in before loading:
/// one `u64` per entry of [`Plan::params`], in that order.
pub const PARAMS_SECTION: &str = ".rodata.params";

/// Bytes of an event record before its fields: a `u32` index into
/// [`Plan::events`] and a `u32` that is zero.
pub const EVENT_HEADER: u32 = 8;

/// Bytes of a stamp: the boot clock (`u64`), process and thread as
/// `bpf_get_current_pid_tgid` has them (`u64`), and the thread's name.
pub const STAMP: u32 = 32;

/// What the run side needs to know about an object file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// The script, for messages that point into it.
    pub sources: Sources,
    pub programs: Vec<Program>,
    /// Maps of the script, in the order in which they are printed at the end.
    pub maps: Vec<Map>,
    /// An event record starts with an index into this list.
    pub events: Vec<Event>,
    /// What the words of [`LOSSES_MAP`] count.
    pub losses: Vec<Loss>,
    /// What the words of [`PARAMS_SECTION`] hold.
    pub params: Vec<Param>,
    /// `strftime` formats; a timestamp value holds an index.
    pub time_formats: Vec<String>,
    /// `cgroup_path` filters; a cgroup path value holds an index.
    pub cgroup_filters: Vec<String>,
    /// Programs unwind user stacks by DWARF ([`unwind`]).
    #[serde(default, skip_serializing_if = "is_false")]
    pub unwinds: bool,
    pub config: Config,
    /// Absent if the object is for one kernel only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portable: Option<Portable>,
}

/// Settings that matter after compilation; the rest is used up by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub max_cat_bytes: u64,
    pub max_probes: u64,
    /// `max_probes` is about each place, and not only about links.
    #[serde(default, skip_serializing_if = "is_false")]
    pub each_place: bool,
    pub missing_probes: MissingProbes,
    pub print_maps_on_exit: bool,
    pub str_trunc_trailer: String,
    /// Size of the event ring buffer in pages; 0: from free memory.
    pub perf_rb_pages: u64,
    pub log_size: u64,
    pub cpp_demangle: bool,
    pub show_debug_info: bool,
}

/// What happens when a probe does not exist or does not attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingProbes {
    Error,
    Warn,
    Ignore,
}

/// Name of the BPF hash map with the arguments of calls under way: that of the block with this
/// number.
pub fn kept_map(number: usize) -> String {
    format!("rt_kept_{number}")
}

/// What the names of programs begin with that keep arguments for others.
pub const KEEPER: &str = "rt_keep_";

/// One BPF program and where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Symbol of the function in the object.
    pub name: String,
    /// The probe's block in the script.
    pub span: Span,
    pub attach: Vec<Attach>,
    /// Where the links come from when the object is loaded: indices into [`Portable::points`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<u32>,
}

/// What a script is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Its probes are attached.
    #[default]
    Trace,
    /// Its tests are run.
    Test,
    /// Its benchmarks are run.
    Bench,
}

/// One link, or one run for `begin` and `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// Full names of the probes that this link stands for, as `probe` gives
    /// them; their number is what "Attached N probes" counts. Without any, the program is
    /// not one of the script's, but serves them: it is attached first, and detached last.
    pub probes: Names,
    /// The attach point in the script.
    pub span: Span,
    pub mechanism: Mechanism,
    /// BPF cookie of each probe (its index in the program's table of probe
    /// names); empty if the program does not ask.
    pub cookies: Vec<u64>,
}

/// How to attach a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// `BPF_PROG_TEST_RUN` of a raw tracepoint program before attaching.
    Begin,
    /// The same after detaching.
    End,
    /// The same whenever the tool gets SIGUSR1.
    Signal,
    /// The same once, as a test.
    Test,
    /// The same many times, to be measured.
    Bench,
    /// One perf kprobe; without a function (an empty string) `offset` is an
    /// address.
    Kprobe { function: String, module: Option<String>, offset: u64, ret: bool },
    /// One `kprobe.multi` link for all functions.
    KprobeMulti { functions: Names, ret: bool },
    /// One `kprobe.session` link for all functions: the program runs at the entry and at
    /// the return of each.
    KprobeSession { functions: Names },
    /// fentry or fexit. `module` is `vmlinux` or a module's name.
    Trampoline { function: String, module: String, exit: bool },
    /// The same for a function of a BPF program in the kernel, by the program's id
    /// and the type in its BTF.
    BpfTrampoline { program: u32, function: String, type_id: u32, exit: bool },
    /// One perf tracepoint.
    Tracepoint { category: String, event: String },
    /// `bpf_raw_tracepoint_open`; with `btf` the program is a `tp_btf` one.
    RawTracepoint { event: String, btf: bool },
    /// One perf uprobe; `offset` is a file offset, `symbol` only for messages.
    /// At the file offset `counter`, unless that is 0, the kernel counts who
    /// watches (a USDT semaphore).
    Uprobe {
        path: String,
        symbol: String,
        offset: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        counter: u64,
        ret: bool,
    },
    /// One `uprobe.multi` link; file offsets. `counters` is empty or has one for
    /// each offset.
    UprobeMulti {
        path: String,
        symbols: Vec<String>,
        offsets: Vec<u64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        counters: Vec<u64>,
        ret: bool,
    },
    /// An iterator, read to its end; or pinned at a path for others to read.
    Iter { name: String, pin: Option<String> },
    /// A hardware breakpoint at an address; `kind` has bits of `HW_BREAKPOINT_*`
    /// (linux/hw_breakpoint.h).
    Watchpoint { address: u64, length: u8, kind: u32 },
    /// A hook for packets; `place` is a network device, or the path of a cgroup.
    Packets { hook: Hook, place: String },
    /// A perf event per CPU (`PERF_TYPE_*`, config; linux/perf_event.h).
    Perf { kind: u32, config: u64, sample: Sample, cpus: Cpus },
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Whether some of the links of two programs are to the same tracepoint, which takes a program only
/// once.
pub fn share_event(a: &[Attach], b: &[Attach]) -> bool {
    let event = |link: &Attach| matches!(link.mechanism, Mechanism::Tracepoint { .. });
    a.iter().filter(|x| event(x)).any(|x| b.iter().any(|y| x.mechanism == y.mechanism))
}

impl Mechanism {
    /// Whether the run side runs the program itself.
    pub fn is_run(&self) -> bool {
        self.way().is_none()
    }

    /// The binary in which it attaches, if that is user code.
    pub fn binary(&self) -> Option<&str> {
        match self {
            Mechanism::Uprobe { path, .. } | Mechanism::UprobeMulti { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The provider for much the same whose programs no kernel preempts, if those may be preempted.
    pub fn not_preempted(&self) -> Option<&'static str> {
        match self {
            Mechanism::Trampoline { exit: false, .. } => Some("kprobe"),
            Mechanism::Trampoline { exit: true, .. } => Some("kretprobe"),
            Mechanism::RawTracepoint { .. } => Some("tracepoint"),
            _ => None,
        }
    }

    /// How the kernel attaches, as `-v` tells; nothing for what is run rather than attached.
    pub fn way(&self) -> Option<&'static str> {
        Some(match self {
            Mechanism::Begin
            | Mechanism::End
            | Mechanism::Signal
            | Mechanism::Test
            | Mechanism::Bench => return None,
            Mechanism::Kprobe { ret: false, .. } => "perf kprobe",
            Mechanism::Kprobe { ret: true, .. } => "perf kretprobe",
            Mechanism::KprobeMulti { ret: false, .. } => "kprobe.multi",
            Mechanism::KprobeMulti { ret: true, .. } => "kretprobe.multi",
            Mechanism::KprobeSession { .. } => "kprobe.session",
            Mechanism::Trampoline { exit: false, .. }
            | Mechanism::BpfTrampoline { exit: false, .. } => "trampoline (fentry)",
            Mechanism::Trampoline { exit: true, .. }
            | Mechanism::BpfTrampoline { exit: true, .. } => "trampoline (fexit)",
            Mechanism::Tracepoint { category, .. } if category == "raw_syscalls" => {
                "perf tracepoint (raw_syscalls)"
            }
            Mechanism::Tracepoint { .. } => "perf tracepoint",
            Mechanism::RawTracepoint { btf: true, .. } => "raw tracepoint (tp_btf)",
            Mechanism::RawTracepoint { btf: false, .. } => "raw tracepoint",
            Mechanism::Uprobe { ret: false, .. } => "perf uprobe",
            Mechanism::Uprobe { ret: true, .. } => "perf uretprobe",
            Mechanism::UprobeMulti { ret: false, .. } => "uprobe.multi",
            Mechanism::UprobeMulti { ret: true, .. } => "uretprobe.multi",
            Mechanism::Iter { .. } => "iterator",
            Mechanism::Watchpoint { .. } => "hardware breakpoint",
            Mechanism::Perf { .. } => "perf event",
            Mechanism::Packets { hook: Hook::Xdp, .. } => "xdp (generic)",
            Mechanism::Packets { hook: Hook::TcIngress | Hook::TcEgress, .. } => "tcx",
            Mechanism::Packets { .. } => "cgroup_skb",
        })
    }
}

/// Where packets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    Xdp,
    TcIngress,
    TcEgress,
    CgroupIngress,
    CgroupEgress,
}

/// How often a perf event fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// Every so many events (nanoseconds for clocks).
    Period(u64),
    /// So many times a second.
    Frequency(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cpus {
    /// The first online CPU.
    First,
    /// Every online CPU.
    All,
}

/// A map of the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// With the `@`.
    pub name: String,
    /// Name of the BPF map in the object.
    pub bpf_name: String,
    /// Absent for a scalar map, which is an array of one entry.
    pub key: Option<Layout>,
    /// Bytes of a key in the BPF map (4 for a scalar map).
    pub key_size: u32,
    pub value: MapValue,
    /// Bytes of a value in the BPF map.
    pub value_size: u32,
    /// Whether there is a value per CPU, to be merged when read.
    pub per_cpu: bool,
    pub max_entries: u32,
}

/// What a map's value holds. For a scalar map one more 64-bit word follows the
/// value (at [`Map::set_offset`]): not zero once a value was stored. `count`,
/// `avg`, `stats`, `hist` and `lhist` leave that word alone in the kernel: they
/// are set when they counted something, or when `zero()` wrote the word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapValue {
    Plain(Layout),
    Aggregate(Aggregation),
}

impl Map {
    /// Where the "is set" word of a scalar map lies in its value.
    pub fn set_offset(&self) -> Option<u32> {
        self.key.is_none().then(|| self.value_size - 8)
    }
}

/// A record in the ring buffer, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The call in the script.
    pub span: Span,
    pub action: Action,
    /// The values after the header; offsets count from the record's start.
    pub fields: Vec<Field>,
    /// Bytes of the whole record.
    pub size: u32,
    /// Where the record says when and for whom it was sent ([`STAMP`]), if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<u32>,
    /// Only programs send it that the run side runs itself (`begin`, `end`), so that it is there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub run: bool,
}

/// What the run side does with an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Printf(Format),
    /// `errorf`: to the error stream.
    Errorf(Format),
    /// `warnf`: to the error stream unless warnings are off.
    Warnf(Format),
    /// Run the text by `sh -c` and print its output.
    System(Format),
    /// Print the file of that name.
    Cat(Format),
    /// `print(value)`: one field.
    Print,
    /// `print(@m, top, div)`; indices into [`Plan::maps`].
    PrintMap {
        map: u32,
        top: u64,
        div: u64,
    },
    /// `print(@m[k])` of an aggregation: one field, the key.
    PrintMapElement {
        map: u32,
    },
    Clear {
        map: u32,
    },
    Zero {
        map: u32,
    },
    /// `time(format)`: the time of processing.
    Time {
        format: String,
    },
    /// Fields are strings; printed up to the first empty one.
    Join {
        separator: String,
    },
    /// `skboutput`: a packet, appended to a file of that name.
    Packet {
        file: String,
    },
    /// One integer field: the exit status.
    Exit,
    /// Processes are wanted in [`UNWIND_WANTED_MAP`].
    Unwind,
}

/// A parsed format string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    pub pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    Text(String),
    /// Consumes the next field.
    Value(Conversion),
}

/// `%[flags][width][.precision][length]conv` (output.md §7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    pub left: bool,
    pub zero: bool,
    pub plus: bool,
    pub alternate: bool,
    pub width: u32,
    pub precision: Option<u32>,
    /// Bytes that the integer is cut to: 1, 2, 4 or 8.
    pub bytes: u8,
    pub kind: ConversionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversionKind {
    /// `d i`
    Signed,
    /// `u`
    Unsigned,
    /// `o`
    Octal,
    /// `x`
    Hex,
    /// `X`
    UpperHex,
    /// `c`
    Char,
    /// `p`
    Pointer,
    /// `s`: any value as `print` shows it.
    Text,
    /// `r`: printable bytes as they are.
    Bytes,
    /// `rx`: every byte as `\xhh`.
    EscapedBytes,
    /// `rh`: every byte as `hh`, separated by blanks.
    HexBytes,
    /// `gr`: kernel allocation flags.
    GfpFlags,
}

/// Rounds that one `bpf_loop` makes at most (`BPF_MAX_LOOPS`, kernel/bpf/verifier.c).
pub const MAX_ROUNDS: i64 = 1 << 23;

/// A word that the run side computes before loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Param {
    /// Boot clock when tracing started, nanoseconds.
    StartTime,
    /// The TAI clock minus the boot clock when tracing started, nanoseconds.
    TaiOffset,
    /// Process id of the `-c` child, 0 without one.
    ChildPid,
    /// Process id of `-p`, 0 without one.
    TargetPid,
    /// Device number and inode of the tool's pid namespace.
    PidNamespaceDevice,
    PidNamespaceInode,
    /// Process id of the tool itself.
    OwnPid,
    /// Number of possible CPUs.
    CpuCount,
    /// Id of the cgroup of `--cgroup`, and its level below the root.
    ScopeCgroup,
    ScopeLevel,
    /// A number, once it is known.
    Known(u64),
    /// About an argument of an attach point: indices into [`Portable::points`] and its arguments.
    Argument {
        point: u32,
        argument: u32,
        part: portable::Part,
    },
    /// Index into [`Portable::lookups`].
    Lookup(u32),
    /// A number that is a named parameter, or a word of its text; index into [`Portable::options`].
    Option {
        option: u32,
        word: u32,
    },
}

/// A checksum against damage (FNV-1a), not against malice.
pub fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Plan {
    /// Bytes of the plan's section.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("bug: a plan is plain data");
        let sum = format!("\n{:016x}", checksum(&bytes));
        bytes.extend(sum.bytes());
        bytes
    }

    /// Reads a plan section.
    ///
    /// # Errors
    /// Says what is wrong with it: not a plan, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Plan, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        // Old plans end without a checksum.
        let (json, sum) = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(end) => (bytes.get(..end).unwrap_or(bytes), bytes.get(end + 1..)),
            None => (bytes, None),
        };
        let head: Head =
            serde_json::from_slice(json).map_err(|e| format!("the plan is damaged: {e}"))?;
        if head.version != VERSION {
            return Err(format!(
                "the plan has version {}, this rtrace reads version {VERSION}",
                head.version
            ));
        }
        if sum != Some(format!("{:016x}", checksum(json)).as_bytes()) {
            return Err("the plan is damaged: its checksum is another".to_owned());
        }
        serde_json::from_slice(json).map_err(|e| format!("the plan is damaged: {e}"))
    }

    /// Whether user stacks or symbols may be printed.
    pub fn names_user_code(&self) -> bool {
        self.layouts().any(Layout::names_user_code)
    }

    /// Whether kernel stacks or symbols may be printed.
    pub fn names_kernel_code(&self) -> bool {
        self.layouts().any(Layout::names_kernel_code)
    }

    /// Everything that is printed, by its layout.
    fn layouts(&self) -> impl Iterator<Item = &Layout> {
        let fields = self.events.iter().flat_map(|e| &e.fields).map(|f| &f.layout);
        let keys = self.maps.iter().filter_map(|m| m.key.as_ref());
        let values = self.maps.iter().filter_map(|m| match &m.value {
            MapValue::Plain(layout) => Some(layout),
            MapValue::Aggregate(_) => None,
        });
        fields.chain(keys).chain(values)
    }

    /// What is left open until the object is loaded.
    pub fn open(&mut self) -> &mut Portable {
        self.portable.get_or_insert_default()
    }

    /// Number of probes that "Attached N probes" counts.
    pub fn probe_count(&self) -> usize {
        self.programs.iter().flat_map(|p| &p.attach).map(|a| a.probes.len()).sum()
    }
}
