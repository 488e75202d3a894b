//! Stacks: captured, named by a hash of their frames, and the frames kept once
//! in a table beside the script's maps.
//!
//! A key or an event then has 16 bytes instead of a thousand: less to hash, to
//! compare and to copy, and no trouble with kernels that limit keys to 512
//! bytes. `bpf_get_stackid` does the same with 32 bits, and drops a stack whose
//! bucket is taken; 64 bits need no answer to that (docs/notes/stacks.md).

use super::Lower;
use super::map::NO_PREALLOC;
use super::program::add_function;
use crate::host::features::Feature;
use crate::ir::{
    self, Arg, BinaryOp as B, Expr, FunctionId, Helper, MapId, MapKind, Place, Rounds, StmtKind,
};
use crate::plan::{self, Cause};

/// `BPF_F_USER_STACK` of linux/bpf.h.
const USER_STACK: i64 = 1 << 8;

/// Room of a table that takes memory as it fills.
const STACKS: u32 = 1 << 17;

/// Room of one that takes all of it at once, and the most bytes of it.
const STACKS_IN_ADVANCE: u32 = 1 << 13;
const BYTES_IN_ADVANCE: u32 = 1 << 24;

/// Larger values are not taken as the table fills: the kernel has few of them
/// ready (`bpf_mem_alloc_init`, kernel/bpf/memalloc.c).
const SMALL_STACK: u32 = 2048;

/// An odd number with its bits well spread: 2^64 divided by the golden ratio.
const SPREAD: i64 = 0x9e37_79b9_7f4a_7c15_u64.cast_signed();

/// Frames that kernels take at most, unless told otherwise
/// (`PERF_MAX_STACK_DEPTH`, linux/perf_event.h).
pub(super) const MOST_FRAMES: u32 = 127;

/// A stack as its value holds it.
pub(crate) struct Taken {
    /// How many frames.
    pub count: Expr,
    /// The key in the table.
    pub id: Expr,
}

/// All bits above those that a word differs in.
pub(super) fn mixed(word: Expr) -> Expr {
    Expr::binary(B::Mul, word, Expr::Const(SPREAD))
}

impl Lower<'_> {
    /// Captures a stack of at most `limit` frames and keeps it in its table. A
    /// failure is counted, and leaves a stack without frames.
    pub(crate) fn take_stack(&mut self, user: bool, limit: u32) -> Taken {
        let bytes = limit * 8;
        let frames = self.temp("frames", bytes);
        let frames = self.indexable(&frames);
        let flags = if user { USER_STACK } else { 0 };
        let args = vec![
            Arg::Context,
            Arg::Address(frames.clone()),
            Arg::Value(Expr::Const(i64::from(bytes))),
            Arg::Value(Expr::Const(flags)),
        ];
        let taken = self.call(Helper::GetStack, args);
        let taken = self.spill("taken", taken);
        let count = self.local("count");
        let id = self.local("stack");
        // Once more, since this may be in a loop.
        self.set(count, Expr::Const(0));
        self.set(id, Expr::Const(0));
        let failed = Expr::binary(B::SLt, taken.clone(), Expr::Const(0));
        self.either(
            failed,
            |l| l.loss(Cause::Stack { user }, Some(taken.clone())),
            |l| {
                l.set(count, Expr::binary(B::LShr, taken.clone(), Expr::Const(3)));
                // A smaller limit was asked for.
                if limit >= MOST_FRAMES {
                    let all = Expr::Const(i64::from(bytes));
                    let cut = Expr::binary(B::Eq, taken.clone(), all);
                    l.when(cut, |l| l.quiet_loss(Cause::StackCut { user, limit }, None));
                }
                match l.hasher(limit) {
                    Some(function) => {
                        l.calls(1);
                        let args = vec![Expr::Address(frames.clone()), Expr::Local(count)];
                        l.set(id, Expr::CallFunction { function, args });
                    }
                    None => l.hash_frames(&frames, limit, count, id),
                }
                l.keep_frames(&frames, limit, id, user);
            },
        );
        Taken { count: Expr::Local(count), id: Expr::Local(id) }
    }

    /// Multiplies and folds, frame by frame: a frame changes all bits above
    /// its own, and the fold brings them down again.
    fn hash_frames(&mut self, frames: &Place, limit: u32, count: ir::LocalId, id: ir::LocalId) {
        self.set(id, Expr::Local(count));
        let i = self.local("i");
        let body = self.block(|l| {
            let done = Expr::binary(B::ULe, Expr::Local(count), Expr::Local(i));
            l.when(done, |l| l.emit(StmtKind::Break));
            let frame = frames.indexed(Expr::Local(i), 8, limit);
            let mixed = Expr::binary(B::Xor, Expr::Local(id), Expr::load(frame, 8, false));
            l.set(id, self::mixed(mixed));
            let high = Expr::binary(B::LShr, Expr::Local(id), Expr::Const(29));
            l.set(id, Expr::binary(B::Xor, Expr::Local(id), high));
        });
        self.emit(StmtKind::ForRange {
            index: i,
            from: Expr::Const(0),
            to: Expr::Const(i64::from(limit)),
            how: Rounds::PLAIN,
            body,
        });
    }

    /// The function that hashes stacks of at most `limit` frames. The kernel verifies its rounds
    /// once, instead of wherever a stack is taken, once more for each way there (3,800
    /// instructions each time). Kernels that cannot have it get the rounds.
    fn hasher(&mut self, limit: u32) -> Option<FunctionId> {
        if !self.host.functions_take_pointers() {
            return None;
        }
        if let Some(known) = self.shared.hashers.iter().find(|h| h.0 == limit) {
            return Some(known.1);
        }
        let (host, options, config) = (self.host, self.options, self.config);
        let name = format!("rt_hash_{limit}");
        let id = add_function(self.shared, host, options, config, name, 2, |l| {
            let [_, count, id] = ["frames", "count", "stack"].map(|name| l.local(name));
            let ptr = l.ptr();
            let body = l.block(|l| {
                l.hash_frames(&Place::ptr(ptr), limit, count, id);
                l.emit(StmtKind::Return(Expr::Local(id)));
            });
            (body, vec![ir::Lent { param: 0, ptr, size: limit * 8, typed: true }])
        });
        self.shared.hashers.push((limit, id));
        Some(id)
    }

    fn keep_frames(&mut self, frames: &Place, limit: u32, id: ir::LocalId, user: bool) {
        let map = self.stack_table(limit);
        let key = self.temp("stack", 8);
        self.store(&key, 8, Expr::Local(id));
        let value = self.ptr();
        let missing =
            self.block(|l| l.update_or(Cause::StackTable { user }, map, [&key, frames], 0));
        let lookup = StmtKind::Lookup { map, key, cpu: None, value, found: Vec::new(), missing };
        self.emit(lookup);
    }

    /// The table for stacks of at most `limit` frames.
    pub(super) fn stack_table(&mut self, limit: u32) -> MapId {
        let name = plan::stack_table(limit);
        if let Some(at) = self.shared.maps.iter().position(|m| m.name == name) {
            return MapId(super::index(at));
        }
        let bytes = limit * 8;
        let dynamic = bytes <= SMALL_STACK && self.host.has(Feature::DynamicMaps);
        let in_advance = STACKS_IN_ADVANCE.min(BYTES_IN_ADVANCE / bytes.max(1));
        self.shared.maps.push(ir::Map {
            name,
            kind: MapKind::Hash,
            key_size: 8,
            value_size: bytes,
            max_entries: if dynamic { STACKS } else { in_advance },
            flags: if dynamic { NO_PREALLOC } else { 0 },
        });
        MapId(super::index(self.shared.maps.len() - 1))
    }
}
