//! User stacks without frame pointers: the program goes from frame to frame by
//! tables that the run side made of the call frame information of the traced
//! binaries (`host::dwarf::frames`, `plan::unwind`).
//!
//! That is a function of its own, which the kernel verifies once, whoever calls
//! it: one for each limit of frames. It gives the stack's key in the table of
//! stacks, whose low bits are the number of frames and what went wrong.

use super::map::NO_PREALLOC;
use super::processes::{self, Moment, Tasks};
use super::program::add_function;
use super::stack::Taken;
use super::{Lower, Remote, Shared, index};
use crate::config::Config;
use crate::diag::Diagnostic;
use crate::host::Host;
use crate::host::dwarf::frames::{
    CODE_KEPT, CODE_OUTERMOST, CODE_POINTED, CODE_RSP, CODE_SIGNAL, SIGNAL_RBP, SIGNAL_RIP,
    SIGNAL_RSP,
};
use crate::host::features::Feature;
use crate::ir::{
    self, Arg, BinaryOp as B, Expr, Helper, LocalId, MapId, MapKind, Place, ProgramKind, Rounds,
    StmtKind,
};
use crate::parser::ast::TypeTag;
use crate::plan::unwind::{
    FAILED, PAGE_ROWS, PAGE_ROWS_BITS, PROCESS, RANGE, RANGE_KEY, RANGE_KEY_BITS, ROW, WANTED,
};
use crate::plan::{self, Action, Cause, SERVICE, Unwound};
use crate::sema::Options;
use crate::types::{Space, Type};

/// Frames that a kernel without `bpf_loop` can go through: its verifier follows each.
pub(crate) const WALKED_FRAMES: u32 = 127;

/// Bits of a stack's key, behind those of its number of frames, that say what became of it.
const HOW_BITS: u32 = 3;

/// Processes that are known at a time; and if all of the map's memory is taken at once.
const PROCESSES: u32 = 1 << 16;
const PROCESSES_IN_ADVANCE: u32 = 1 << 13;

/// Ranges of code at a time, of all processes.
const RANGES: u32 = 1 << 18;

/// Processes that are wanted at a time.
const WANTED_PROCESSES: u32 = 1 << 10;

/// `BPF_NOEXIST` of linux/bpf.h.
const NOEXIST: i64 = 1;

/// `THREAD_SIZE` of x86-64 without `KASAN` (arch/x86/include/asm/page_64_types.h): the
/// registers of user code are at the end of the task's stack in the kernel.
const THREAD_SIZE: i64 = 16 << 10;
const REGISTERS_SIZE: u32 = 168;

/// `__USER_CS` of arch/x86/include/asm/segment.h: 64-bit user code.
const USER_CS: i64 = 0x33;

/// What becomes of a stack.
const DONE: i64 = 0;
const CUT: i64 = 1;
const FAILS: i64 = 2;
const UNKNOWN_CODE: i64 = 3;
const NO_TABLES: i64 = 4;
const NOT_KEPT: i64 = 5;

/// The words of a function while it unwinds.
struct Words {
    ip: LocalId,
    sp: LocalId,
    bp: LocalId,
    count: LocalId,
    hash: LocalId,
    /// 1 if `ip` is behind the call that is going on.
    back: LocalId,
    /// What becomes of it.
    how: LocalId,
    space: LocalId,
    /// The code of the row that was found.
    code: LocalId,
}

/// Bits of a stack's key that say how many frames it has.
fn count_bits(limit: u32) -> u32 {
    limit.max(1).ilog2() + 1
}

fn mask(bits: u32) -> i64 {
    (1 << bits) - 1
}

/// Makes the functions for these limits, and the programs that keep what is known of processes
/// up to date.
pub(super) fn prepare(
    shared: &mut Shared,
    limits: &[u32],
    host: &Host,
    options: &Options,
    config: &Config,
) -> Vec<(ir::Program, plan::Program)> {
    if limits.is_empty() {
        return Vec::new();
    }
    if options.big_endian {
        let d = Diagnostic::global("stacks are not unwound by DWARF on machines of `bpfeb`");
        shared
            .diags
            .push(d.note("the tables for it are known of x86_64 and aarch64").help("use `ustack`"));
        return Vec::new();
    }
    for limit in limits {
        let name = format!("rt_unwind_{limit}");
        let function = add_function(shared, host, options, config, name, 3, |l| {
            let [ip, sp, bp] = ["ip", "sp", "bp"].map(|name| l.local(name));
            let [count, hash, back, how, space, code] =
                ["count", "hash", "back", "how", "space", "code"].map(|name| l.local(name));
            let words = Words { ip, sp, bp, count, hash, back, how, space, code };
            (l.block(|l| l.unwind(&words, *limit)), Vec::new())
        });
        shared.unwinders.push((*limit, function));
    }
    keep_up(shared, host, options, config)
}

/// The programs that keep up with processes: a copy of a known one is known, too; one that runs
/// another program, or ends, is not known any more, since its addresses mean something else then.
fn keep_up(
    shared: &mut Shared,
    host: &Host,
    options: &Options,
    config: &Config,
) -> Vec<(ir::Program, plan::Program)> {
    let leader = |l: &mut Lower<'_>| {
        let call = l.call(Helper::GetCurrentPidTgid, vec![]);
        let call = l.spill("task", call);
        let process = Expr::binary(B::LShr, call.clone(), Expr::Const(32));
        let thread = Expr::binary(B::And, call, Expr::Const(0xffff_ffff));
        l.leave(Expr::binary(B::Ne, process, thread));
    };
    let forget = |l: &mut Lower<'_>| {
        let key = l.process_key();
        l.forget_process(&key);
    };
    let mut programs = Vec::new();
    let mut add = |moment: Moment, name: &str, body: &mut dyn FnMut(&mut Lower<'_>)| {
        let name = format!("{SERVICE}unwind_{name}");
        let program = processes::at(shared, host, options, config, moment, name, body);
        if program.is_none() {
            let d = Diagnostic::global("user stacks cannot be unwound on this kernel");
            let note = "it has no tracepoints of what happens to processes";
            shared.diags.push(d.note(note));
        }
        programs.extend(program);
    };
    add(Moment::Exec, "exec", &mut |l| forget(l));
    add(Moment::Exit, "exit", &mut |l| {
        leader(l);
        forget(l);
    });
    if let Some(tasks) = Tasks::of(host) {
        add(Moment::Fork, "fork", &mut |l| l.copy_process(&tasks));
    }
    programs
}

impl Shared {
    /// One of the maps that unwinding needs.
    fn unwind_map(&mut self, name: &str, host: &Host) -> MapId {
        if let Some(at) = self.maps.iter().position(|m| m.name == name) {
            return MapId(index(at));
        }
        let dynamic = host.has(Feature::DynamicMaps);
        let map = |kind, key_size, value_size, max_entries, flags| ir::Map {
            name: name.to_owned(),
            kind,
            key_size,
            value_size,
            max_entries,
            flags,
        };
        self.maps.push(match name {
            // The run side says how many pages there are.
            plan::UNWIND_ROWS_MAP => map(MapKind::Array, 4, PAGE_ROWS * ROW, 1, 0),
            plan::UNWIND_RANGES_MAP => map(MapKind::LpmTrie, RANGE_KEY, RANGE, RANGES, NO_PREALLOC),
            plan::UNWIND_PROCESSES_MAP if dynamic => {
                map(MapKind::Hash, 4, PROCESS, PROCESSES, NO_PREALLOC)
            }
            plan::UNWIND_PROCESSES_MAP => map(MapKind::Hash, 4, PROCESS, PROCESSES_IN_ADVANCE, 0),
            _ => map(MapKind::LruHash, 4, WANTED, WANTED_PROCESSES, 0),
        });
        MapId(index(self.maps.len() - 1))
    }
}

impl Lower<'_> {
    /// Unwinds the user stack of the current thread and keeps it in its table. What goes wrong
    /// is counted, and leaves a stack with fewer frames, or none.
    pub(crate) fn unwind_stack(&mut self, limit: u32) -> Taken {
        let function = self.shared.unwinders.iter().find(|u| u.0 == limit);
        let function = function.expect("bug: the checker has noted all limits").1;
        let depth = if self.host.has(Feature::Loop) { 2 } else { 1 };
        self.calls(depth);
        let [ip, sp, bp] = self.user_registers();
        let args = vec![ip, sp, bp];
        let taken = self.spill("taken", Expr::CallFunction { function, args });
        let count = Expr::binary(B::And, taken.clone(), Expr::Const(mask(count_bits(limit))));
        let count = self.spill("count", count);
        let how = Expr::binary(B::LShr, taken.clone(), Expr::Const(count_bits(limit).into()));
        let how = Expr::binary(B::And, how, Expr::Const(mask(HOW_BITS)));
        let how = self.spill("how", how);
        let lost = Expr::binary(B::Ne, how.clone(), Expr::Const(DONE));
        let nothing = Expr::binary(B::Eq, taken.clone(), Expr::Const(0));
        self.either(
            lost,
            |l| l.count_unwound(&how, limit),
            // No room for its frames while it worked.
            |l| l.when(nothing, |l| l.loss(Cause::Stack { user: true }, None)),
        );
        // All stacks without frames are the same.
        let some = Expr::binary(B::Ne, count.clone(), Expr::Const(0));
        let id = Expr::Select {
            cond: Box::new(some),
            then: Box::new(taken),
            els: Box::new(Expr::Const(0)),
        };
        let id = self.spill("stack", id);
        Taken { count, id }
    }

    /// Counts what became of a stack that lacks something.
    fn count_unwound(&mut self, how: &Expr, limit: u32) {
        let unwound = |why| Cause::Unwind { why };
        for (code, cause, quiet) in [
            (CUT, Cause::StackCut { user: true, limit }, true),
            (FAILS, unwound(Unwound::Failed), true),
            (UNKNOWN_CODE, unwound(Unwound::UnknownCode), true),
            (NO_TABLES, unwound(Unwound::NoTables), false),
            (NOT_KEPT, Cause::StackTable { user: true }, false),
        ] {
            let is = Expr::binary(B::Eq, how.clone(), Expr::Const(code));
            self.when(is, |l| match quiet {
                true => l.quiet_loss(cause, None),
                false => l.loss(cause, None),
            });
        }
    }

    /// Where the user code of the current thread is: `ip`, `sp` and `bp`; zeroes if there is none.
    fn user_registers(&mut self) -> [Expr; 3] {
        const NAMES: [&str; 3] = ["ip", "sp", "bp"];
        let register = |l: &Self, name: &str| l.host.arch().register(name).unwrap_or(0);
        let base = self.instance.context.registers;
        match (self.kind(), base) {
            (ProgramKind::Uprobe, Some(base)) => NAMES.map(|name| {
                let at = base + register(self, name);
                self.context_word(at, 8, false)
            }),
            (ProgramKind::PerfEvent, Some(base)) => {
                let at = base + register(self, "cs");
                let cs = self.context_word(at, 8, false);
                let own = NAMES.map(|name| {
                    let at = base + register(self, name);
                    self.context_word(at, 8, false)
                });
                let found = NAMES.map(|name| self.local(name));
                let in_user = Expr::binary(B::Eq, cs, Expr::Const(USER_CS));
                self.either(
                    in_user,
                    |l| {
                        for (local, value) in found.iter().zip(own) {
                            l.set(*local, value);
                        }
                    },
                    |l| {
                        let registers = l.task_registers();
                        for (local, value) in found.iter().zip(registers) {
                            l.set(*local, value);
                        }
                    },
                );
                found.map(Expr::Local)
            }
            _ => self.task_registers(),
        }
    }

    /// What the kernel kept when user code was left.
    fn task_registers(&mut self) -> [Expr; 3] {
        let names = ["ip", "sp", "bp", "cs"];
        let [ip, sp, bp, cs] = if self.host.has(Feature::TaskPtRegs) {
            let task = self.call(Helper::GetCurrentTaskBtf, vec![]);
            let registers = self.call(Helper::TaskPtRegs, vec![Arg::Value(task)]);
            let registers = self.spill("registers", registers);
            names.map(|name| {
                let offset = self.host.arch().register(name).unwrap_or(0);
                let pointer = Box::new(registers.clone());
                let word = Expr::LoadTyped { pointer, offset, size: 8, signed: false };
                self.spill(name, word)
            })
        } else {
            let task = self.call(Helper::GetCurrentTask, vec![]);
            let offset = self.host.btf().ok().and_then(|btf| {
                match btf.find_type(Some(TypeTag::Struct), "task_struct") {
                    Some(Type::Struct(task)) => Some(btf.member_at(task.id, "stack")?.0),
                    _ => None,
                }
            });
            let Some(offset) = offset else {
                let d = Diagnostic::error(
                    self.span,
                    "`dw_ustack` cannot find the registers of user code on this kernel",
                );
                self.fail(d.note("it does not describe its types (CONFIG_DEBUG_INFO_BTF)"));
                return [const { Expr::Const(0) }; 3];
            };
            let stack = Remote { base: task, offset, space: Space::Kernel };
            let stack = self.read_word(&stack, &Type::UINT64);
            let end = Expr::Const(THREAD_SIZE - i64::from(REGISTERS_SIZE));
            let base = Expr::binary(B::Add, stack, end);
            let place = self.temp("registers", REGISTERS_SIZE);
            self.read(&Remote { base, offset: 0, space: Space::Kernel }, &place, REGISTERS_SIZE);
            names.map(|name| {
                let offset = self.host.arch().register(name).unwrap_or(0);
                self.spill(name, Expr::load(place.at(offset), 8, false))
            })
        };
        // Threads of the kernel have none.
        let user = Expr::binary(B::Eq, cs, Expr::Const(USER_CS));
        let user = self.spill("user", user);
        [ip, sp, bp].map(|word| {
            let mask = Expr::binary(B::Sub, Expr::Const(0), user.clone());
            let word = Expr::binary(B::And, word, mask);
            self.spill("word", word)
        })
    }

    fn forget_process(&mut self, key: &Place) {
        let map = self.shared.unwind_map(plan::UNWIND_PROCESSES_MAP, self.host);
        let args = vec![Arg::Map(map), Arg::Address(key.clone())];
        let removed = self.call(Helper::MapDeleteElem, args);
        self.emit(StmtKind::Eval(removed));
    }

    /// On a fork: the child has its parent's addresses; or, if the child is a thread, its own.
    fn copy_process(&mut self, tasks: &Tasks) {
        let (parent, child) = self.parent_and_child(tasks);
        self.leave(Expr::binary(B::Eq, parent.clone(), child.clone()));
        let (key, new) = (self.temp("parent", 4), self.temp("child", 4));
        self.store(&key, 4, parent);
        self.store(&new, 4, child);
        let map = self.shared.unwind_map(plan::UNWIND_PROCESSES_MAP, self.host);
        let space = self.temp("space", PROCESS);
        let value = self.ptr();
        let found = self.block(|l| {
            l.store(&space, 8, Expr::load(Place::ptr(value), 8, false));
            let args = vec![
                Arg::Map(map),
                Arg::Address(new.clone()),
                Arg::Address(space.clone()),
                Arg::Value(Expr::Const(0)),
            ];
            let added = l.call(Helper::MapUpdateElem, args);
            l.emit(StmtKind::Eval(added));
        });
        let missing = self.block(|l| l.forget_process(&new));
        self.emit(StmtKind::Lookup { map, key, cpu: None, value, found, missing });
    }

    /// The current process as a key.
    fn process_key(&mut self) -> Place {
        let key = self.temp("process", 4);
        let process = crate::builtins::current_pid(self);
        self.store(&key, 4, process);
        key
    }

    /// The body of an unwinder.
    fn unwind(&mut self, w: &Words, limit: u32) {
        let frames = self.temp("frames", limit * 8);
        let frames = self.indexable(&frames);
        self.set(w.how, Expr::Const(NO_TABLES));
        let key = self.process_key();
        let map = self.shared.unwind_map(plan::UNWIND_PROCESSES_MAP, self.host);
        let value = self.ptr();
        let found = self.block(|l| l.set(w.space, Expr::load(Place::ptr(value), 4, false)));
        self.emit(StmtKind::Lookup {
            map,
            key: key.clone(),
            cpu: None,
            value,
            found,
            missing: vec![],
        });
        let known = Expr::binary(B::Ne, Expr::Local(w.space), Expr::Const(0));
        self.when(known, |l| {
            l.set(w.how, Expr::Const(CUT));
            let index = l.local("i");
            let callback = l.host.has(Feature::Loop);
            let body = match callback {
                true => l.repeated_by_callback(|l| l.unwind_frame(w, index, &frames, limit)),
                false => l.repeated(|l| l.unwind_frame(w, index, &frames, limit)),
            };
            let (from, to) = (Expr::Const(0), Expr::Const(i64::from(limit)));
            l.emit(StmtKind::ForRange { index, from, to, how: Rounds::by(callback), body });
            // Where it ends too early, that is to be seen.
            let fails = Expr::binary(B::Eq, Expr::Local(w.how), Expr::Const(FAILS));
            let unknown = Expr::binary(B::Eq, Expr::Local(w.how), Expr::Const(UNKNOWN_CODE));
            let room = Expr::binary(B::ULt, Expr::Local(w.count), Expr::Const(i64::from(limit)));
            let marked = Expr::binary(B::And, Expr::binary(B::Or, fails, unknown), room);
            l.when(marked, |l| {
                l.add_frame(w, &frames, limit, Expr::Const(FAILED.cast_signed()));
            });
        });
        if limit < super::stack::MOST_FRAMES {
            // Who asks for fewer frames does not miss the others.
            let cut = Expr::binary(B::Eq, Expr::Local(w.how), Expr::Const(CUT));
            self.when(cut, |l| l.set(w.how, Expr::Const(DONE)));
        }
        self.want(w, &key);
        self.keep_unwound(w, &frames, limit);
    }

    fn add_frame(&mut self, w: &Words, frames: &Place, limit: u32, address: Expr) {
        let to = frames.indexed(Expr::Local(w.count), 8, limit);
        self.emit(StmtKind::Store { to, size: 8, value: address.clone() });
        let next = Expr::binary(B::Add, Expr::Local(w.count), Expr::Const(1));
        self.set(w.count, next);
        let mixed = Expr::binary(B::Xor, Expr::Local(w.hash), address);
        self.set(w.hash, super::stack::mixed(mixed));
        let high = Expr::binary(B::LShr, Expr::Local(w.hash), Expr::Const(29));
        self.set(w.hash, Expr::binary(B::Xor, Expr::Local(w.hash), high));
    }

    /// Leaves the loop over frames.
    fn end_with(&mut self, w: &Words, how: i64) {
        self.set(w.how, Expr::Const(how));
        self.emit(StmtKind::Break);
    }

    /// Adds the frame at hand and goes to its caller's.
    fn unwind_frame(&mut self, w: &Words, index: LocalId, frames: &Place, limit: u32) {
        let at = Expr::Local(index);
        self.set(w.count, at);
        self.add_frame(w, frames, limit, Expr::Local(w.ip));
        self.find_row(w);
        let kind = Expr::binary(B::And, Expr::Local(w.code), Expr::Const(7));
        let kind = self.spill("kind", kind);
        let is = |code: u32| Expr::binary(B::Eq, kind.clone(), Expr::Const(i64::from(code)));
        self.when(is(CODE_OUTERMOST), |l| l.end_with(w, DONE));
        let other = Expr::binary(B::UGt, kind.clone(), Expr::Const(i64::from(CODE_SIGNAL)));
        self.when(other, |l| l.end_with(w, FAILS));
        self.either(is(CODE_SIGNAL), |l| l.leave_signal(w), |l| l.leave_function(w, &kind));
        let none = Expr::binary(B::Eq, Expr::Local(w.ip), Expr::Const(0));
        self.when(none, |l| l.end_with(w, DONE));
    }

    /// Finds the row for the frame at hand; leaves the loop if there is none.
    fn find_row(&mut self, w: &Words) {
        let at = Expr::binary(B::Sub, Expr::Local(w.ip), Expr::Local(w.back));
        let at = self.spill("at", at);
        let key = self.temp("code", RANGE_KEY);
        self.store(&key, 4, Expr::Const(i64::from(RANGE_KEY_BITS)));
        self.store(&key.at(4), 4, Expr::Local(w.space));
        let swapped = Expr::ByteSwap { value: Box::new(at.clone()), bits: 64 };
        self.store(&key.at(8), 8, swapped);
        let [distance, page, first, end] =
            ["distance", "page", "first", "end"].map(|name| self.local(name));
        let map = self.shared.unwind_map(plan::UNWIND_RANGES_MAP, self.host);
        let value = self.ptr();
        let found = self.block(|l| {
            let part = |at, size| Expr::load(Place::ptr(value).at(at), size, false);
            l.set(distance, Expr::binary(B::Sub, at.clone(), part(0, 8)));
            l.set(page, part(8, 4));
            l.set(first, part(12, 2));
            let count = part(14, 2);
            l.set(end, Expr::binary(B::Add, Expr::Local(first), count));
        });
        let missing = self.block(|l| l.end_with(w, UNKNOWN_CODE));
        self.emit(StmtKind::Lookup { map, key, cpu: None, value, found, missing });
        let key = self.temp("page", 4);
        self.store(&key, 4, Expr::Local(page));
        let map = self.shared.unwind_map(plan::UNWIND_ROWS_MAP, self.host);
        let rows = self.ptr();
        let found = self.block(|l| l.find_code(w, &Place::ptr(rows), distance, first, end));
        let missing = self.block(|l| l.end_with(w, FAILS));
        self.emit(StmtKind::Lookup { map, key, cpu: None, value: rows, found, missing });
    }

    /// The code of the last row that starts at the distance or before. Without a branch: old
    /// verifiers follow every way through all rounds.
    fn find_code(
        &mut self,
        w: &Words,
        rows: &Place,
        distance: LocalId,
        first: LocalId,
        end: LocalId,
    ) {
        let row = |number: Expr, at: u32| {
            let mask = Expr::Const(i64::from(PAGE_ROWS - 1));
            let number = Expr::binary(B::And, number, mask);
            Expr::load(rows.at(at).indexed(number, ROW, PAGE_ROWS), 4, false)
        };
        // All ones for a negative number.
        let negative = |word: Expr| {
            let sign = Expr::binary(B::LShr, word, Expr::Const(63));
            Expr::binary(B::Sub, Expr::Const(0), sign)
        };
        for bit in (0..PAGE_ROWS_BITS).rev() {
            let step = Expr::Const(1 << bit);
            let probe = Expr::binary(B::Add, Expr::Local(first), step.clone());
            let probe = self.spill("probe", probe);
            let inside = negative(Expr::binary(B::Sub, probe.clone(), Expr::Local(end)));
            let after = Expr::binary(B::Sub, Expr::Local(distance), row(probe, 0));
            let after = negative(after);
            let not_after = Expr::binary(B::Xor, after, Expr::Const(-1));
            let taken = Expr::binary(B::And, inside, not_after);
            let step = Expr::binary(B::And, taken, step);
            self.set(first, Expr::binary(B::Add, Expr::Local(first), step));
        }
        self.set(w.code, row(Expr::Local(first), 4));
    }

    /// From the frame that the kernel made for a signal to the code that was interrupted.
    fn leave_signal(&mut self, w: &Words) {
        let size = u32::try_from(SIGNAL_RIP + 8 - SIGNAL_RBP).unwrap_or(0);
        let record = self.temp("signal", size);
        let from = Expr::binary(B::Add, Expr::Local(w.sp), Expr::Const(SIGNAL_RBP));
        self.read_user(w, &record, size, from);
        for (word, at) in [(w.bp, SIGNAL_RBP), (w.sp, SIGNAL_RSP), (w.ip, SIGNAL_RIP)] {
            let at = u32::try_from(at - SIGNAL_RBP).unwrap_or(0);
            self.set(word, Expr::load(record.at(at), 8, false));
        }
        self.set(w.back, Expr::Const(0));
    }

    /// From a function's frame to its caller's.
    fn leave_function(&mut self, w: &Words, kind: &Expr) {
        let is = |code: u32| Expr::binary(B::Eq, kind.clone(), Expr::Const(i64::from(code)));
        let code = || Box::new(Expr::Local(w.code));
        let words = Expr::Extend { value: code(), bits: 32, signed: true };
        let words = Expr::binary(B::AShr, words, Expr::Const(11));
        let offset = Expr::binary(B::Shl, words, Expr::Const(3));
        let base = Expr::Select {
            cond: Box::new(is(CODE_RSP)),
            then: Box::new(Expr::Local(w.sp)),
            els: Box::new(Expr::Local(w.bp)),
        };
        let cfa = self.local("cfa");
        self.set(cfa, Expr::binary(B::Add, base, offset));
        let word = self.temp("word", 8);
        self.when(is(CODE_KEPT), |l| {
            l.read_user(w, &word, 8, Expr::Local(cfa));
            l.set(cfa, Expr::load(word.clone(), 8, false));
        });
        // The stack grows downwards, so this ends.
        let odd = Expr::binary(B::ULe, Expr::Local(cfa), Expr::Local(w.sp));
        self.when(odd, |l| l.end_with(w, FAILS));
        let place = Expr::binary(B::LShr, Expr::Local(w.code), Expr::Const(3));
        let place = Expr::binary(B::And, place, Expr::Const(i64::from(CODE_POINTED)));
        let place = self.spill("place", place);
        let kept = Expr::binary(B::Ne, place.clone(), Expr::Const(0));
        self.when(kept, |l| {
            let below = Expr::binary(B::Shl, place.clone(), Expr::Const(3));
            let below = Expr::binary(B::Sub, Expr::Local(cfa), below);
            let pointed = Expr::binary(B::Eq, place, Expr::Const(i64::from(CODE_POINTED)));
            let from = Expr::Select {
                cond: Box::new(pointed),
                then: Box::new(Expr::Local(w.bp)),
                els: Box::new(below),
            };
            l.read_user(w, &word, 8, from);
            l.set(w.bp, Expr::load(word.clone(), 8, false));
        });
        let from = Expr::binary(B::Sub, Expr::Local(cfa), Expr::Const(8));
        self.read_user(w, &word, 8, from);
        self.set(w.ip, Expr::load(word, 8, false));
        self.set(w.sp, Expr::Local(cfa));
        self.set(w.back, Expr::Const(1));
    }

    /// Reads user memory; leaves the loop if that fails.
    fn read_user(&mut self, w: &Words, to: &Place, size: u32, from: Expr) {
        let args = vec![
            Arg::Address(to.clone()),
            Arg::Value(Expr::Const(i64::from(size))),
            Arg::Value(from),
        ];
        let error = self.call(Helper::ProbeReadUser, args);
        let failed = Expr::binary(B::Ne, error, Expr::Const(0));
        self.when(failed, |l| l.end_with(w, FAILS));
    }

    /// Asks the run side for what is not known, once for each process.
    fn want(&mut self, w: &Words, process: &Place) {
        let how = |how| Expr::binary(B::Eq, Expr::Local(w.how), Expr::Const(how));
        let unknown = Expr::binary(B::Or, how(NO_TABLES), how(UNKNOWN_CODE));
        self.when(unknown, |l| {
            let map = l.shared.unwind_map(plan::UNWIND_WANTED_MAP, l.host);
            let value = l.temp("wanted", WANTED);
            l.store(&value, 8, Expr::Const(0));
            let args = vec![
                Arg::Map(map),
                Arg::Address(process.clone()),
                Arg::Address(value),
                Arg::Value(Expr::Const(NOEXIST)),
            ];
            let error = l.call(Helper::MapUpdateElem, args);
            let first = Expr::binary(B::Eq, error, Expr::Const(0));
            l.when(first, |l| {
                l.wake(Action::Unwind, |l| {
                    let args = vec![Arg::Map(map), Arg::Address(process.clone())];
                    let removed = l.call(Helper::MapDeleteElem, args);
                    l.emit(StmtKind::Eval(removed));
                });
            });
        });
    }

    /// Keeps the frames for the user side, and gives the key.
    fn keep_unwound(&mut self, w: &Words, frames: &Place, limit: u32) {
        let bits = count_bits(limit);
        let low = |how: Expr, w: &Words| {
            let how = Expr::binary(B::Shl, how, Expr::Const(bits.into()));
            Expr::binary(B::Or, how, Expr::Local(w.count))
        };
        let nothing = Expr::binary(B::Eq, Expr::Local(w.count), Expr::Const(0));
        let ended = low(Expr::Local(w.how), w);
        self.when(nothing, |l| l.emit(StmtKind::Return(ended)));
        let high = Expr::Const((bits + HOW_BITS).into());
        let high = Expr::binary(B::Shl, Expr::Local(w.hash), high);
        let id = Expr::binary(B::Or, high.clone(), low(Expr::Local(w.how), w));
        let id = self.spill("id", id);
        let key = self.temp("stack", 8);
        self.store(&key, 8, id.clone());
        let map = self.stack_table(limit);
        let value = self.ptr();
        let missing = self.block(|l| {
            let args = vec![
                Arg::Map(map),
                Arg::Address(key.clone()),
                Arg::Address(frames.clone()),
                Arg::Value(Expr::Const(0)),
            ];
            let error = l.call(Helper::MapUpdateElem, args);
            let failed = Expr::binary(B::SLt, error, Expr::Const(0));
            let lost = Expr::binary(B::Or, high, low(Expr::Const(NOT_KEPT), w));
            l.when(failed, |l| l.emit(StmtKind::Return(lost)));
        });
        let found = Vec::new();
        self.emit(StmtKind::Lookup { map, key, cpu: None, value, found, missing });
        self.emit(StmtKind::Return(id));
    }
}
