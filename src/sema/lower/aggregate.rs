//! Aggregations: `count()` and the like, each CPU on its own slot.

use super::map::ScriptMap;
use super::{CheckedTree, Lower};
use crate::ir::{BinaryOp as B, Expr, Helper, Place, ProgramKind, Rounds, StmtKind};
use crate::plan::{Mechanism, Param};
use crate::probes::Instance;
use crate::sema::tree::{self, ExprKind};
use crate::types::{Aggregation, Series, Type};

/// The interval of a time series in which something happens.
struct Interval {
    /// Since 1970.
    number: Expr,
    /// Nanoseconds.
    now: Expr,
}

/// Whether adding to a slot must be atomic.
///
/// A slot belongs to one CPU, so plain additions are exact unless a program is
/// interrupted by another one, or preempted, between load and store. Programs
/// on kprobes, tracepoints and perf events exclude each other on a CPU
/// (`bpf_prog_active`, kernel/trace/bpf_trace.c), and the others exclude
/// themselves (`prog->active`, kernel/bpf/trampoline.c). uprobe programs are
/// preemptible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Atomic {
    Yes,
    No,
}

/// Whether an instance is at tracepoints of single system calls.
fn of_one_call(instance: &Instance) -> bool {
    let one = |m: &Mechanism| matches!(m, Mechanism::Tracepoint { category, .. } if category == "syscalls");
    instance.attach.iter().any(|link| one(&link.mechanism))
}

/// Says for each map whether its aggregation must be updated atomically.
pub(super) fn atomic_maps(checked: &CheckedTree) -> Vec<Atomic> {
    let mut writers: Vec<Vec<usize>> = vec![Vec::new(); checked.maps.len()];
    let functions = checked.functions.iter().map(|f| &f.1.program);
    for (number, probe) in checked.probes.iter().chain(functions).enumerate() {
        // Programs of one class cannot interrupt one another on a CPU.
        let class = match probe.instance.kind {
            // Nothing else runs then.
            ProgramKind::Special => continue,
            // Two may read the file of a pinned iterator.
            ProgramKind::Uprobe
            | ProgramKind::Iter
            | ProgramKind::Packet
            | ProgramKind::Function { .. } => usize::MAX,
            // Those of one system call have `prog->active`, too, since Linux 7.2.
            ProgramKind::Tracepoint if of_one_call(&probe.instance) => number + 1,
            ProgramKind::Kprobe | ProgramKind::Tracepoint | ProgramKind::PerfEvent => 0,
            ProgramKind::Trampoline | ProgramKind::RawTracepoint | ProgramKind::BtfTracepoint => {
                number + 1
            }
        };
        block(&probe.body, &mut |map| {
            if let Some(list) = writers.get_mut(map)
                && !list.contains(&class)
            {
                list.push(class);
            }
        });
    }
    writers
        .iter()
        .map(|list| match list.as_slice() {
            [] => Atomic::No,
            [one] if *one != usize::MAX => Atomic::No,
            _ => Atomic::Yes,
        })
        .collect()
}

fn block(b: &tree::Block, writes: &mut impl FnMut(tree::MapId)) {
    for s in &b.stmts {
        match &s.kind {
            tree::StmtKind::Aggregate { map, .. } => writes(*map),
            tree::StmtKind::While { body, .. }
            | tree::StmtKind::ForMap { body, .. }
            | tree::StmtKind::ForRange { body, .. }
            | tree::StmtKind::Unroll { body, .. } => block(body, writes),
            tree::StmtKind::Expr(e) => nested(e, writes),
            tree::StmtKind::Declare(_)
            | tree::StmtKind::Assign { .. }
            | tree::StmtKind::Update { .. }
            | tree::StmtKind::Break
            | tree::StmtKind::Continue
            | tree::StmtKind::Return(_) => {}
        }
    }
    if let Some(value) = &b.value {
        nested(value, writes);
    }
}

fn nested(e: &tree::Expr, writes: &mut impl FnMut(tree::MapId)) {
    match &e.kind {
        ExprKind::If { then, els, .. } => {
            block(then, writes);
            if let Some(els) = els {
                block(els, writes);
            }
        }
        ExprKind::Block(b) => block(b, writes),
        _ => {}
    }
}

impl Lower<'_> {
    /// `@m[k] = function(value)`.
    pub(super) fn aggregate(
        &mut self,
        id: tree::MapId,
        key: Option<&tree::Expr>,
        value: Option<&tree::Expr>,
    ) {
        let map = self.script_map(id);
        let aggregation = map.aggregation.clone().expect("bug: the map holds an aggregation");
        let value = value.map(|v| {
            let ty = Type::int(8, aggregation.signed() || v.ty.is_signed());
            let word = self.word_as(v, &ty);
            self.spill("sample", word)
        });
        let value = value.unwrap_or(Expr::Const(1));
        let value = match &aggregation {
            Aggregation::Hist { bits } => self.hist_bucket(value, *bits),
            Aggregation::Lhist { min, max, step } => self.lhist_bucket(&value, *min, *max, *step),
            _ => value,
        };
        let series = match &aggregation {
            Aggregation::Tseries { interval, .. } => Some(self.interval(*interval)),
            _ => None,
        };
        let key = self.key(&map, key);
        self.with_entry(id, &map, &key, |l, place| match (&aggregation, &series) {
            (Aggregation::Tseries { count, function, signed, .. }, Some(at)) => {
                let slot = Expr::binary(B::UMod, at.number.clone(), Expr::Const((*count).into()));
                let slot = l.spill("slot", slot);
                let part = |word: u32| place.at(8 * word).indexed(slot.clone(), 24, *count);
                l.add_to_series(part, *function, *signed, at, &value);
            }
            _ => l.add_sample(&map, &aggregation, place, &value),
        });
    }

    /// The interval that it is now.
    fn interval(&mut self, length: u64) -> Interval {
        let boot = self.call(Helper::KtimeGetBootNs, vec![]);
        let offset = self.shared.param(Param::TaiOffset);
        let now = self.spill("now", Expr::binary(B::Add, boot, offset));
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let number = Expr::binary(B::UDiv, now.clone(), Expr::Const(length));
        Interval { number: self.spill("interval", number), now }
    }

    /// Adds a sample to the interval at hand, whose words `part` gives; what
    /// is there may be of an earlier one.
    fn add_to_series(
        &mut self,
        part: impl Fn(u32) -> Place,
        function: Series,
        signed: bool,
        at: &Interval,
        value: &Expr,
    ) {
        let load = |word: u32| Expr::load(part(word), 8, false);
        let store = |l: &mut Lower<'_>, word: u32, value: Expr| {
            l.emit(StmtKind::Store { to: part(word), size: 8, value });
        };
        let third = || match function {
            Series::Last => at.now.clone(),
            Series::Avg | Series::Max | Series::Min | Series::Sum => Expr::Const(1),
        };
        let current = Expr::binary(B::Eq, load(0), at.number.clone());
        let add = |word: u32, n: Expr| Expr::binary(B::Add, load(word), n);
        let less = if signed { B::SLt } else { B::ULt };
        self.either(
            current,
            |l| match function {
                Series::Last => {
                    store(l, 1, value.clone());
                    store(l, 2, third());
                }
                Series::Avg | Series::Sum => {
                    store(l, 1, add(1, value.clone()));
                    store(l, 2, add(2, Expr::Const(1)));
                }
                Series::Max => {
                    let better = Expr::binary(less, load(1), value.clone());
                    l.when(better, |l| store(l, 1, value.clone()));
                }
                Series::Min => {
                    let better = Expr::binary(less, value.clone(), load(1));
                    l.when(better, |l| store(l, 1, value.clone()));
                }
            },
            |l| {
                store(l, 0, at.number.clone());
                store(l, 1, value.clone());
                store(l, 2, third());
            },
        );
    }

    fn add_sample(
        &mut self,
        map: &ScriptMap,
        aggregation: &Aggregation,
        place: &Place,
        value: &Expr,
    ) {
        match aggregation {
            Aggregation::Count => self.add(map, place, Expr::Const(1)),
            Aggregation::Sum { .. } => {
                self.add(map, place, value.clone());
                self.mark_set(map, place);
            }
            Aggregation::Avg { .. } | Aggregation::Stats { .. } => {
                self.add(map, place, value.clone());
                self.add(map, &place.at(8), Expr::Const(1));
            }
            Aggregation::Min { signed } | Aggregation::Max { signed } => {
                let less = if *signed { B::SLt } else { B::ULt };
                let held = Expr::load(place.clone(), 8, *signed);
                let better = match aggregation {
                    Aggregation::Min { .. } => Expr::binary(less, value.clone(), held),
                    _ => Expr::binary(less, held, value.clone()),
                };
                let set = Expr::load(place.at(8), 8, false);
                let unset = Expr::binary(B::Eq, set, Expr::Const(0));
                let cond = Expr::binary(B::Or, better, unset);
                self.when(cond, |l| {
                    let (to, value) = (place.clone(), value.clone());
                    l.emit(StmtKind::Store { to, size: 8, value });
                    let to = place.at(8);
                    l.emit(StmtKind::Store { to, size: 8, value: Expr::Const(1) });
                });
            }
            Aggregation::Hist { .. } | Aggregation::Lhist { .. } => {
                let bucket = place.indexed(value.clone(), 8, aggregation.words());
                self.add(map, &bucket, Expr::Const(1));
            }
            Aggregation::Tseries { .. } => unreachable!("bug: a series has no single place"),
        }
    }

    fn add(&mut self, map: &ScriptMap, to: &Place, value: Expr) {
        if map.atomic == Atomic::Yes {
            self.emit(StmtKind::AtomicAdd { to: to.clone(), size: 8, value });
        } else {
            let sum = Expr::binary(B::Add, Expr::load(to.clone(), 8, false), value);
            self.emit(StmtKind::Store { to: to.clone(), size: 8, value: sum });
        }
    }

    /// Bucket of a value (builtins.md §8): below zero, small values each on
    /// its own, then 2^bits buckets per power of two.
    fn hist_bucket(&mut self, value: Expr, bits: u8) -> Expr {
        let bits = i64::from(bits);
        let index = self.local("bucket");
        self.set(index, Expr::Const(0));
        let small = Expr::binary(B::ULt, value.clone(), Expr::Const(1 << (bits + 1)));
        let negative = Expr::binary(B::SLt, value.clone(), Expr::Const(0));
        let large = self.block(|l| {
            // The highest set bit, by halves.
            let rest = l.local("rest");
            l.set(rest, value.clone());
            let power = l.local("power");
            l.set(power, Expr::Const(0));
            for shift in [32i64, 16, 8, 4, 2, 1] {
                // The sign of the difference tells which is larger. A comparison would become
                // a branch, and for the verifier each of them doubles the ways to get here.
                let limit = Expr::Const((1i64 << shift) - 1);
                let left = Expr::binary(B::Sub, limit, Expr::Local(rest));
                let above = Expr::binary(B::LShr, left, Expr::Const(63));
                let step = shift.trailing_zeros();
                let by = Expr::binary(B::Shl, above, Expr::Const(i64::from(step)));
                let by = l.spill("by", by);
                l.set(rest, Expr::binary(B::LShr, Expr::Local(rest), by.clone()));
                l.set(power, Expr::binary(B::Or, Expr::Local(power), by));
            }
            let power = Expr::Local(power);
            let group = Expr::binary(B::Sub, power.clone(), Expr::Const(bits - 1));
            let first = Expr::binary(B::Shl, group, Expr::Const(bits));
            let mut bucket = Expr::binary(B::Add, first, Expr::Const(1));
            if bits > 0 {
                let down = Expr::binary(B::Sub, power, Expr::Const(bits));
                let top = Expr::binary(B::LShr, value.clone(), down);
                let sub = Expr::binary(B::And, top, Expr::Const((1 << bits) - 1));
                bucket = Expr::binary(B::Add, bucket, sub);
            }
            l.set(index, bucket);
        });
        let positive = self.block(|l| {
            let then = l.block(|l| {
                l.set(index, Expr::binary(B::Add, value.clone(), Expr::Const(1)));
            });
            l.emit(StmtKind::If { cond: small, then, els: large });
        });
        self.emit(StmtKind::If { cond: negative, then: Vec::new(), els: positive });
        Expr::Local(index)
    }

    /// Bucket of a value: underflow, the steps, overflow.
    fn lhist_bucket(&mut self, value: &Expr, min: i64, max: i64, step: i64) -> Expr {
        let index = self.local("bucket");
        self.set(index, Expr::Const(0));
        let over = Expr::binary(B::SGe, value.clone(), Expr::Const(max));
        let within = Expr::binary(B::SGe, value.clone(), Expr::Const(min));
        let last = (max - min) / step + 1;
        self.either(
            over,
            |l| l.set(index, Expr::Const(last)),
            |l| {
                l.when(within, |l| {
                    let distance = Expr::binary(B::Sub, value.clone(), Expr::Const(min));
                    let number = match step {
                        1 => distance,
                        _ => Expr::binary(B::UDiv, distance, Expr::Const(step)),
                    };
                    l.set(index, Expr::binary(B::Add, number, Expr::Const(1)));
                });
            },
        );
        Expr::Local(index)
    }

    /// The integer form of an aggregation: its slots on all CPUs, combined.
    pub(super) fn read_aggregate(
        &mut self,
        map: &ScriptMap,
        aggregation: &Aggregation,
        key: &Place,
    ) -> Expr {
        let total = self.local("total");
        self.set(total, Expr::Const(0));
        let second = self.local("count");
        self.set(second, Expr::Const(0));
        let cpu = self.local("cpu");
        let body = self.block(|l| {
            let value = l.ptr();
            let place = Place::ptr(value);
            let found = l.block(|l| {
                let word = Expr::load(place.clone(), 8, false);
                let flag = Expr::load(place.at(8), 8, false);
                match aggregation {
                    Aggregation::Min { signed } | Aggregation::Max { signed } => {
                        let less = if *signed { B::SLt } else { B::ULt };
                        let word = l.spill("slot", word);
                        let better = match aggregation {
                            Aggregation::Min { .. } => {
                                Expr::binary(less, word.clone(), Expr::Local(total))
                            }
                            _ => Expr::binary(less, Expr::Local(total), word.clone()),
                        };
                        let first = Expr::binary(B::Eq, Expr::Local(second), Expr::Const(0));
                        let take = Expr::binary(B::Or, first, better);
                        let is_set = Expr::binary(B::Ne, flag, Expr::Const(0));
                        l.when(Expr::binary(B::And, is_set, take), |l| {
                            l.set(total, word);
                            l.set(second, Expr::Const(1));
                        });
                    }
                    Aggregation::Avg { .. } | Aggregation::Stats { .. } => {
                        l.set(total, Expr::binary(B::Add, Expr::Local(total), word));
                        l.set(second, Expr::binary(B::Add, Expr::Local(second), flag));
                    }
                    _ => l.set(total, Expr::binary(B::Add, Expr::Local(total), word)),
                }
            });
            l.emit(StmtKind::Lookup {
                map: map.id,
                key: key.clone(),
                cpu: Some(Expr::Local(cpu)),
                value,
                found,
                missing: Vec::new(),
            });
        });
        let to = self.shared.param(Param::CpuCount);
        self.emit(StmtKind::ForRange {
            index: cpu,
            from: Expr::Const(0),
            to,
            how: Rounds::PLAIN,
            body,
        });
        match aggregation {
            Aggregation::Avg { signed } => {
                let result = self.local("average");
                self.set(result, Expr::Const(0));
                let some = Expr::binary(B::Ne, Expr::Local(second), Expr::Const(0));
                let op = if *signed { B::SDiv } else { B::UDiv };
                self.when(some, |l| {
                    let average = Expr::binary(op, Expr::Local(total), Expr::Local(second));
                    l.set(result, average);
                });
                Expr::Local(result)
            }
            _ => Expr::Local(total),
        }
    }
}
