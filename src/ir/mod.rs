//! The typed, lowered form of a script: what the BPF programs do, with no name
//! left to look up and no type left to settle.
//!
//! Scalars are 64-bit words: [`Expr`] always gives one, already extended
//! according to its type. Everything larger lives in memory that a [`Place`]
//! names. Statements are structured (no jumps), so that code generation is one
//! walk. What a module promises is stated and checked in [`verify`].

mod foreign;
mod helper;
mod print;
mod relocation;
mod uses;
pub mod verify;

pub use foreign::{CType, Foreign, Origin, Prototype};
pub use helper::{Helper, HelperInfo, Kfunc};
pub use print::print;
pub use relocation::{Fact, Relocation, Root, Shape, Step, Tag};
pub use uses::{Use, taken_over, written};

use crate::plan;
use crate::source::Span;

/// A whole script, lowered.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    pub programs: Vec<Program>,
    /// What programs and later functions call. Their kind is `Function`, they
    /// have no section.
    pub functions: Vec<Program>,
    /// Functions that are defined elsewhere.
    pub foreign: Vec<Foreign>,
    pub maps: Vec<Map>,
    /// Constant bytes that programs read.
    pub rodata: Vec<Rodata>,
    /// Bytes of the counters of losses, which all programs share.
    pub losses: u32,
    /// What the run side computes before loading; [`Expr::Param`] indexes it.
    pub params: Vec<plan::Param>,
    /// What the loader fills in; [`Expr::Reloc`] indexes it.
    pub relocations: Vec<Relocation>,
    /// Value of the object's `license` section.
    pub license: String,
    /// The registers and calling convention to compile for.
    pub arch: &'static crate::host::arch::Arch,
}

impl Module {
    /// Functions and programs: everything with a body, callees first.
    pub fn bodies(&self) -> impl Iterator<Item = &Program> {
        self.functions.iter().chain(&self.programs)
    }

    /// [`Module::bodies`], to be changed.
    pub fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Program> {
        self.functions.iter_mut().chain(&mut self.programs)
    }
}

/// One BPF program.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// A C identifier, unique in the module; the kernel shows its first 15
    /// characters.
    pub name: String,
    pub kind: ProgramKind,
    /// Section name in the object, as libbpf spells it (`kprobe/vfs_read`).
    pub section: String,
    pub locals: Vec<Local>,
    pub slots: Vec<Slot>,
    /// Number of [`PtrId`]s in use.
    pub ptrs: u32,
    /// Parameters that are addresses of memory of the caller.
    pub lent: Vec<Lent>,
    pub body: Vec<Stmt>,
    /// The value when the body ends without `Return`.
    pub result: i64,
    pub span: Span,
}

/// Memory that a function's caller lends: its address is a parameter, by
/// [`Expr::Address`], and `ptr` is bound to it in the whole function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    pub param: u32,
    pub ptr: PtrId,
    pub size: u32,
    /// The kernel knows of it by its type only, and verifies the function once, whoever calls
    /// it; the memory is 8-aligned words that may hold anything. Else it verifies the
    /// function wherever it is called, with what is known there.
    pub typed: bool,
}

/// Parameters of a function at most: the registers `r1` to `r5`.
pub const MAX_PARAMETERS: usize = 5;

/// What the kernel takes a program for; decides context and helpers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// `begin` and `end`: a raw tracepoint program that is only test-run.
    Special,
    /// kprobe, uprobe and their return and multi forms: `struct pt_regs *`.
    Kprobe,
    Uprobe,
    /// fentry and fexit: an array of `u64` arguments (then the result).
    Trampoline,
    /// The event's record.
    Tracepoint,
    /// An array of `u64` arguments.
    RawTracepoint,
    /// The same, loaded as `tp_btf`: pointers in it may be followed.
    BtfTracepoint,
    /// `struct bpf_perf_event_data *`.
    PerfEvent,
    /// A packet, by `struct xdp_buff` or `struct sk_buff`.
    Packet,
    /// `struct bpf_iter__… *`.
    Iter,
    /// A function that programs of any kind call; no context. Its first locals
    /// are its parameters.
    Function {
        params: u32,
    },
}

/// A variable of one word. Starts as zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// For `--emit ir` and debug info; need not be unique.
    pub name: String,
    /// It holds nothing but numbers, though its value does not show that.
    pub number: bool,
}

/// Memory that lives as long as one run of the program. Its contents are
/// unknown until written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    pub size: u32,
    pub align: u32,
    pub home: Home,
}

/// Where a slot lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// On the BPF stack.
    Stack,
    /// At this offset in the program's entry of the per-CPU scratch map.
    Scratch { offset: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalId(pub u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);
/// A pointer that a statement binds for its inner statements: a map value, a
/// ring buffer record, the key and value of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PtrId(pub u32);
/// Index into [`Module::maps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapId(pub u32);
/// Index into [`Module::functions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);
/// Index into [`Module::foreign`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForeignId(pub u32);
/// Index into [`Module::rodata`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RodataId(pub u32);

/// A BPF map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// At most 15 characters, a C identifier.
    pub name: String,
    pub kind: MapKind,
    /// 0 for a ring buffer.
    pub key_size: u32,
    pub value_size: u32,
    /// Bytes for a ring buffer.
    pub max_entries: u32,
    /// `BPF_F_*` of linux/bpf.h.
    pub flags: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapKind {
    Hash,
    LruHash,
    PerCpuHash,
    LruPerCpuHash,
    Array,
    PerCpuArray,
    /// Keys are a `u32` number of bits, and bytes: the entry with most of these bits counts.
    LpmTrie,
    RingBuffer,
    /// A perf buffer for every CPU; what is in the map is the run side's.
    PerfEventArray,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rodata {
    pub name: String,
    pub bytes: Vec<u8>,
    pub align: u32,
}

/// A place in memory that programs may access directly: `base + offset`, plus
/// `index * stride` if there is an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub base: Base,
    pub offset: u32,
    pub index: Option<Box<Index>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Slot(SlotId),
    Ptr(PtrId),
    /// The program's context. Only constant offsets.
    Context,
    Rodata(RodataId),
    /// The counters of losses.
    Losses,
    /// The words of [`Module::params`].
    Params,
}

/// A variable part of an address. Code generation makes `value` less than
/// `count` ([`Index::bound`]), so that the verifier sees a bound; lowering decides
/// what an index out of bounds means before it comes to this.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    pub value: Expr,
    pub stride: u32,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
}

/// How a counting loop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Through `bpf_loop`.
    Callback,
    /// As a plain loop whose trip count the verifier can see. The body stands `copies` times
    /// in the code, one after the other.
    Plain { copies: u32 },
}

impl Rounds {
    /// A plain loop with one copy of its body.
    pub const PLAIN: Rounds = Rounds::Plain { copies: 1 };

    /// Through `bpf_loop` or as a plain loop.
    pub const fn by(callback: bool) -> Rounds {
        if callback { Rounds::Callback } else { Rounds::PLAIN }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    Set {
        local: LocalId,
        value: Expr,
    },
    /// Stores the low `size` (1, 2, 4, 8) bytes.
    Store {
        to: Place,
        size: u8,
        value: Expr,
    },
    /// Copies between places that do not overlap.
    Copy {
        to: Place,
        from: Place,
        size: u32,
    },
    Zero {
        to: Place,
        size: u32,
    },
    /// `lock; *(u32 or u64 *)to += value`. `size` is 4 or 8.
    AtomicAdd {
        to: Place,
        size: u8,
        value: Expr,
    },
    /// For its side effects.
    Eval(Expr),
    If {
        cond: Expr,
        then: Vec<Stmt>,
        els: Vec<Stmt>,
    },
    /// Until `Break`; the verifier must be able to see that it ends.
    /// The body stands `copies` times in the code, one after the other.
    Loop {
        copies: u32,
        body: Vec<Stmt>,
    },
    /// `for index in from..to` (signed).
    ForRange {
        index: LocalId,
        from: Expr,
        to: Expr,
        how: Rounds,
        body: Vec<Stmt>,
    },
    /// Through `bpf_for_each_map_elem`; binds pointers to key and value.
    ForMap {
        map: MapId,
        key: PtrId,
        value: PtrId,
        body: Vec<Stmt>,
    },
    /// Leaves the innermost loop.
    Break,
    /// Next round of the innermost loop.
    Continue,
    /// Ends the program.
    Return(Expr),
    /// Binds `value` to the map's value for the key (for arrays: a `u32`
    /// index) in `found`. With `cpu`, looks at that CPU's value.
    Lookup {
        map: MapId,
        key: Place,
        cpu: Option<Expr>,
        value: PtrId,
        found: Vec<Stmt>,
        missing: Vec<Stmt>,
    },
    /// Gets hold of an object of the kernel by a function that takes a number;
    /// binds `value` to it in `found`, which must not leave, and gives it back.
    Acquire {
        kfunc: Kfunc,
        arg: Expr,
        value: PtrId,
        found: Vec<Stmt>,
        missing: Vec<Stmt>,
    },
    /// Binds `value` to `size` bytes that a function of the kernel lends.
    Borrow {
        function: ForeignId,
        args: Vec<Expr>,
        size: u32,
        value: PtrId,
        body: Vec<Stmt>,
    },
    /// Reserves `size` bytes in a ring buffer, runs `body` with `record` bound
    /// and submits; runs `lost` if there is no room. `body` must not leave.
    Event {
        map: MapId,
        size: u32,
        record: PtrId,
        body: Vec<Stmt>,
        lost: Vec<Stmt>,
    },
}

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Const(i64),
    Local(LocalId),
    /// On 64-bit words; comparisons give 0 or 1.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// Cuts to `bits` (8, 16, 32) and extends again.
    Extend {
        value: Box<Expr>,
        bits: u8,
        signed: bool,
    },
    /// The value, of which the kernel's verifier knows nothing.
    Unknown(Box<Expr>),
    /// Swaps the low `bits` (16, 32, 64) bits' bytes; the rest becomes zero.
    ByteSwap {
        value: Box<Expr>,
        bits: u8,
    },
    /// Both arms are evaluated.
    Select {
        cond: Box<Expr>,
        then: Box<Expr>,
        els: Box<Expr>,
    },
    /// Loads 1, 2, 4 or 8 bytes and extends.
    Load {
        from: Place,
        size: u8,
        signed: bool,
    },
    /// Loads through a kernel pointer that the verifier knows the type of
    /// (an argument of a BTF program, `bpf_get_current_task_btf`). A fault
    /// reads as zero.
    LoadTyped {
        pointer: Box<Expr>,
        offset: u32,
        size: u8,
        signed: bool,
    },
    /// The address of a place as a number.
    Address(Place),
    /// The address of a map; the verifier lets it be stored, and no more.
    MapAddress(MapId),
    /// The number of elements of a map, which are gone through.
    MapLength(MapId),
    /// A BPF helper; its result as a word.
    Call {
        helper: Helper,
        args: Vec<Arg>,
    },
    /// A function of the module; its result as a word. Where it wants memory
    /// ([`Program::lent`]), the argument is an [`Expr::Address`].
    CallFunction {
        function: FunctionId,
        args: Vec<Expr>,
    },
    /// A function that is defined elsewhere; its result as a word.
    CallForeign {
        function: ForeignId,
        args: Vec<Expr>,
    },
    /// A word of [`Module::params`], by its index.
    Param(u32),
    /// A fact of [`Module::relocations`], by its index.
    Reloc(u32),
}

/// An argument of a helper.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    Value(Expr),
    Address(Place),
    /// A size that varies, of the place in the argument before; cut to `max`
    /// so that the verifier sees a bound.
    Size {
        value: Expr,
        max: u32,
    },
    Map(MapId),
    Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// The divisor is not zero; lowering has seen to it.
    UDiv,
    UMod,
    /// C semantics: towards zero, the sign of the dividend.
    SDiv,
    SMod,
    And,
    Or,
    Xor,
    /// Shift counts are taken modulo 64.
    Shl,
    /// Logical.
    LShr,
    /// Arithmetic.
    AShr,
    Eq,
    Ne,
    ULt,
    ULe,
    UGt,
    UGe,
    SLt,
    SLe,
    SGt,
    SGe,
}

impl ProgramKind {
    /// The number of parameters, of a function.
    pub fn params(self) -> Option<u32> {
        if let ProgramKind::Function { params } = self { Some(params) } else { None }
    }
}

impl Index {
    /// What is taken for an index: its low bits if the count is a power of two, which
    /// costs no branch; else the last one for all that are out of bounds.
    pub fn bound(&self, value: u64) -> u64 {
        let last = u64::from(self.count.saturating_sub(1));
        if self.count.is_power_of_two() { value & last } else { value.min(last) }
    }
}

impl Place {
    /// The start of a slot.
    pub fn slot(id: SlotId) -> Place {
        Place { base: Base::Slot(id), offset: 0, index: None }
    }

    /// What a bound pointer points to.
    pub fn ptr(id: PtrId) -> Place {
        Place { base: Base::Ptr(id), offset: 0, index: None }
    }

    /// A constant offset in the context.
    pub fn context(offset: u32) -> Place {
        Place { base: Base::Context, offset, index: None }
    }

    /// The start of a constant.
    pub fn rodata(id: RodataId) -> Place {
        Place { base: Base::Rodata(id), offset: 0, index: None }
    }

    /// A byte of the counters of losses.
    pub fn losses(offset: u32) -> Place {
        Place { base: Base::Losses, offset, index: None }
    }

    /// `offset` bytes further on.
    #[must_use]
    pub fn at(&self, offset: u32) -> Place {
        Place { offset: self.offset + offset, ..self.clone() }
    }

    /// Element `value` of an array of `count` elements of `stride` bytes here.
    #[must_use]
    pub fn indexed(&self, value: Expr, stride: u32, count: u32) -> Place {
        assert!(self.index.is_none(), "bug: a place has one index");
        Place { index: Some(Box::new(Index { value, stride, count })), ..self.clone() }
    }
}

impl Expr {
    pub fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
        Expr::Binary(op, Box::new(left), Box::new(right))
    }

    pub fn load(from: Place, size: u8, signed: bool) -> Expr {
        Expr::Load { from, size, signed }
    }
}

impl Arg {
    /// The size of the place before, at most `max`.
    pub fn size(value: Expr, max: u32) -> Arg {
        match value {
            Expr::Const(n) => Arg::Value(Expr::Const(n.clamp(0, i64::from(max)))),
            value => Arg::Size { value, max },
        }
    }
}

impl MapKind {
    /// `BPF_MAP_TYPE_*` of linux/bpf.h.
    pub fn number(self) -> u32 {
        match self {
            MapKind::Hash => 1,
            MapKind::Array => 2,
            MapKind::PerCpuHash => 5,
            MapKind::PerCpuArray => 6,
            MapKind::LruHash => 9,
            MapKind::LruPerCpuHash => 10,
            MapKind::LpmTrie => 11,
            MapKind::PerfEventArray => 4,
            MapKind::RingBuffer => 27,
        }
    }

    /// Whether every CPU has its own value.
    pub fn per_cpu(self) -> bool {
        matches!(self, MapKind::PerCpuHash | MapKind::LruPerCpuHash | MapKind::PerCpuArray)
    }
}
