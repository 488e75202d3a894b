//! Maps: their definitions, keys, reading and writing.

use super::aggregate::Atomic;
use super::expr::{convert, cut_size};
use super::{Home, Lower, Shared};
use crate::config::Config;
use crate::diag::Diagnostic;
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir::{self, Arg, BinaryOp as B, Expr, Helper, MapId, MapKind, Place, StmtKind};
use crate::plan::{self, Cause, MapValue};
use crate::sema::MapState;
use crate::sema::layout;
use crate::sema::tree;
use crate::types::{Aggregation, Type};

/// The ring buffer and the loss counters come first in every module.
pub(crate) const EVENTS: MapId = MapId(0);

/// `BPF_NOEXIST` of linux/bpf.h: only insert.
const NOEXIST: i64 = 1;

/// `MAX_BPF_STACK` of linux/filter.h: the longest key on kernels before 5.13.
const SMALL_KEY: u32 = 512;

/// `BPF_F_NO_PREALLOC` of linux/bpf.h.
pub(super) const NO_PREALLOC: u32 = 1;

/// Values of per-CPU maps that would take more than this for every entry are
/// allocated when they are first used.
const PREALLOCATED_VALUE: u32 = 2048;

/// A map of the script.
#[derive(Debug, Clone)]
pub(crate) struct ScriptMap {
    pub id: MapId,
    pub key: Option<Type>,
    pub value: Type,
    pub aggregation: Option<Aggregation>,
    /// How values are added to.
    pub atomic: Atomic,
    pub plan: plan::Map,
}

impl Shared {
    pub(super) fn internal_maps(&mut self, _host: &Host, _config: &Config) {
        // Its size is settled later, by the run side.
        self.maps.push(ir::Map {
            name: plan::EVENTS_MAP.into(),
            kind: MapKind::RingBuffer,
            key_size: 0,
            value_size: 0,
            max_entries: 1 << 18,
            flags: 0,
        });
    }

    pub(super) fn script_maps(
        &mut self,
        maps: &[MapState],
        atomic: &[Atomic],
        host: &Host,
        config: &Config,
    ) {
        for (number, state) in maps.iter().enumerate() {
            let atomic = atomic.get(number).copied().unwrap_or(Atomic::Yes);
            let map = self.script_map(state, atomic, host, config);
            self.script_maps.push(map);
        }
    }

    fn script_map(
        &mut self,
        state: &MapState,
        atomic: Atomic,
        host: &Host,
        config: &Config,
    ) -> ScriptMap {
        let keyed = matches!(state.keyed, Some((true, _)) | None);
        let aggregation = state.aggregation.as_ref().map(|a| a.0.clone());
        let value = match &aggregation {
            Some(a) => Type::Aggregate(a.clone()),
            None => state.value.ty.clone(),
        };
        let payload = value.size().max(1).next_multiple_of(8);
        let value_size = if keyed { value.size().max(1) } else { payload + 8 };
        let value_size = if aggregation.is_some() || keyed && value.size() > 8 {
            value_size.next_multiple_of(8)
        } else {
            value_size
        };
        let lru = state.declared.as_ref().is_some_and(|d| d.lru);
        let kind = match (keyed, aggregation.is_some(), lru) {
            (false, false, _) => MapKind::Array,
            (false, true, _) => MapKind::PerCpuArray,
            (true, false, false) => MapKind::Hash,
            (true, false, true) => MapKind::LruHash,
            (true, true, false) => MapKind::PerCpuHash,
            (true, true, true) => MapKind::LruPerCpuHash,
        };
        let declared = state.declared.as_ref().map(|d| d.max_entries);
        let max_entries = match keyed {
            true => declared.unwrap_or(config.max_map_keys),
            false => 1,
        };
        let max_entries = u32::try_from(max_entries).unwrap_or(u32::MAX);
        let key_size = if keyed { state.key.ty.size().max(1) } else { 4 };
        if key_size > SMALL_KEY && !host.has(Feature::LargeKeys) {
            self.diags.push(
                Diagnostic::error(
                    state.key_span,
                    format!("the key of `@{}` is too long", state.name),
                )
                .at(format!("{key_size} bytes"))
                .note(format!("this kernel's map keys have at most {SMALL_KEY} bytes"))
                .help("shorten strings, as in `str(p, 200)`"),
            );
        }
        let large = kind == MapKind::PerCpuHash && value_size > PREALLOCATED_VALUE;
        let id = MapId(super::index(self.maps.len()));
        let bpf_name = self.map_name(&state.name);
        self.maps.push(ir::Map {
            name: bpf_name.clone(),
            kind,
            key_size,
            value_size,
            max_entries,
            flags: if large { NO_PREALLOC } else { 0 },
        });
        let plan = plan::Map {
            name: format!("@{}", state.name),
            bpf_name,
            key: keyed.then(|| layout::of(&state.key.ty, host, &self.cdefs)),
            key_size,
            value: match &aggregation {
                Some(a) => MapValue::Aggregate(a.clone()),
                None => MapValue::Plain(layout::of(&value, host, &self.cdefs)),
            },
            value_size,
            per_cpu: kind.per_cpu(),
            max_entries,
        };
        let key = keyed.then(|| state.key.ty.clone());
        ScriptMap { id, key, value, aggregation, atomic, plan }
    }

    /// A name for the kernel: unique, a C identifier of at most 15 characters.
    fn map_name(&self, name: &str) -> String {
        let plain: String = format!("AT_{name}").chars().take(15).collect();
        let taken = |n: &str| self.maps.iter().any(|m| m.name == n);
        if !taken(&plain) {
            return plain;
        }
        let stem: String = plain.chars().take(11).collect();
        (0..)
            .map(|i| format!("{stem}_{i}"))
            .find(|n| !taken(n))
            .expect("bug: there are fewer than 1000 maps")
    }
}

impl Lower<'_> {
    /// A map of the script.
    pub(crate) fn script_map(&self, map: tree::MapId) -> ScriptMap {
        self.shared.script_maps.get(map).expect("bug: map ids come from the tree").clone()
    }

    /// The key of an access, in memory and complete.
    pub(crate) fn key(&mut self, map: &ScriptMap, key: Option<&tree::Expr>) -> Place {
        match (&map.key, key) {
            (Some(ty), Some(key)) => {
                let place = self.temp("key", ty.size());
                self.into(key, ty, &place, true);
                place
            }
            _ => {
                let place = self.temp("key", 4);
                self.emit(StmtKind::Store { to: place.clone(), size: 4, value: Expr::Const(0) });
                place
            }
        }
    }

    /// Runs `found` or `missing` depending on whether the key is there. A
    /// scalar map is there once it was set.
    pub(crate) fn lookup(
        &mut self,
        map: &ScriptMap,
        key: &Place,
        found: impl FnOnce(&mut Self, Place),
        missing: impl FnOnce(&mut Self),
    ) {
        let value = self.ptr();
        let found = self.block(|l| found(l, Place::ptr(value)));
        let missing = self.block(missing);
        self.emit(StmtKind::Lookup {
            map: map.id,
            key: key.clone(),
            cpu: None,
            value,
            found,
            missing,
        });
    }

    fn missing(&mut self, map: tree::MapId) {
        if self.options.verbose_warnings {
            self.loss(Cause::LookupMissing { map: self.plan_map(map) }, None);
        }
    }

    /// A scalar out of a map; zero if it is not there.
    pub(super) fn map_word(
        &mut self,
        id: tree::MapId,
        key: Option<&tree::Expr>,
        ty: &Type,
    ) -> Expr {
        let map = self.script_map(id);
        let key = self.key(&map, key);
        if let Some(aggregation) = &map.aggregation {
            return self.read_aggregate(&map, aggregation, &key);
        }
        let result = self.local("found");
        self.set(result, Expr::Const(0));
        self.lookup(
            &map,
            &key,
            |l, place| {
                let word = l.load(&place, &map.value);
                l.set(result, convert(word, &map.value, ty));
            },
            |l| l.missing(id),
        );
        Expr::Local(result)
    }

    /// A value out of a map, in memory; zeroes if it is not there.
    pub(super) fn map_into(
        &mut self,
        id: tree::MapId,
        key: Option<&tree::Expr>,
        ty: &Type,
        to: &Place,
        full: bool,
    ) {
        let map = self.script_map(id);
        let key = self.key(&map, key);
        self.lookup(
            &map,
            &key,
            |l, place| {
                let value = super::Val::Memory(place);
                l.copy_into(value, &map.value, ty, to, full);
            },
            |l| {
                l.emit(StmtKind::Zero { to: to.clone(), size: ty.size() });
                l.missing(id);
            },
        );
    }

    /// `@m[k] = value`.
    pub(super) fn map_assign(
        &mut self,
        id: tree::MapId,
        key: Option<&tree::Expr>,
        value: &tree::Expr,
    ) {
        let map = self.script_map(id);
        let ty = map.value.clone();
        if map.key.is_none() {
            if ty.is_scalar() {
                let word = self.word_as(value, &ty);
                let word = self.spill("value", word);
                let key = self.key(&map, None);
                self.lookup(
                    &map,
                    &key,
                    |l, place| {
                        l.store(&place, cut_size(ty.size()), word);
                        l.mark_set(&map, &place);
                    },
                    |_| {},
                );
            } else {
                let temp = self.temp("value", ty.size());
                self.into(value, &ty, &temp, true);
                let key = self.key(&map, None);
                self.lookup(
                    &map,
                    &key,
                    |l, place| {
                        let size = ty.size();
                        l.emit(StmtKind::Copy { to: place.clone(), from: temp, size });
                        l.mark_set(&map, &place);
                    },
                    |_| {},
                );
            }
            return;
        }
        let place = self.temp("value", map.plan.value_size);
        if map.plan.value_size > ty.size() && ty.size() > 8 {
            let rest = map.plan.value_size - ty.size();
            self.emit(StmtKind::Zero { to: place.at(ty.size()), size: rest });
        }
        self.into(value, &ty, &place, true);
        let key = self.key(&map, key);
        self.update(id, &map, &key, &place, 0);
    }

    /// `bpf_map_update_elem`; a failure is counted.
    fn update(&mut self, id: tree::MapId, map: &ScriptMap, key: &Place, value: &Place, flags: i64) {
        self.update_or(Cause::MapUpdate { map: self.plan_map(id) }, map.id, [key, value], flags);
    }

    /// `bpf_map_update_elem` with a key and a value; a failure is counted as this.
    pub(super) fn update_or(&mut self, cause: Cause, map: MapId, entry: [&Place; 2], flags: i64) {
        let mut args = vec![Arg::Map(map)];
        args.extend(entry.map(|place| Arg::Address(place.clone())));
        args.push(Arg::Value(Expr::Const(flags)));
        let call = self.call(Helper::MapUpdateElem, args);
        let error = self.spill("error", call);
        let failed = Expr::binary(B::SLt, error.clone(), Expr::Const(0));
        self.when(failed, |l| l.loss(cause, Some(error)));
    }

    /// Notes that a scalar map has a value.
    pub(super) fn mark_set(&mut self, map: &ScriptMap, value: &Place) {
        if let Some(offset) = map.plan.set_offset() {
            let to = value.at(offset);
            self.emit(StmtKind::Store { to, size: 8, value: Expr::Const(1) });
        }
    }

    /// Runs `f` on the value for a key, which is made (as zeroes) if it is not
    /// there. Another CPU may make it at the same time; nothing is lost then.
    pub(super) fn with_entry(
        &mut self,
        id: tree::MapId,
        map: &ScriptMap,
        key: &Place,
        f: impl Fn(&mut Self, &Place),
    ) {
        if map.key.is_none() {
            self.lookup(map, key, |l, place| f(l, &place), |_| {});
            return;
        }
        self.lookup(
            map,
            key,
            |l, place| f(l, &place),
            |l| {
                let zeroes = vec![0; map.plan.value_size as usize];
                let zero = Place::rodata(l.shared.constant(zeroes));
                let args = vec![
                    Arg::Map(map.id),
                    Arg::Address(key.clone()),
                    Arg::Address(zero),
                    Arg::Value(Expr::Const(NOEXIST)),
                ];
                let call = l.call(Helper::MapUpdateElem, args);
                let error = l.spill("error", call);
                l.lookup(
                    map,
                    key,
                    |l, place| f(l, &place),
                    |l| l.loss(Cause::MapUpdate { map: l.plan_map(id) }, Some(error)),
                );
            },
        );
    }

    /// Adds to an integer in a map and gives what was there before.
    pub(super) fn map_add(
        &mut self,
        id: tree::MapId,
        key: Option<&tree::Expr>,
        step: Expr,
    ) -> Expr {
        let map = self.script_map(id);
        let key = self.key(&map, key);
        let step = self.spill("step", step);
        let old = self.local("old");
        self.set(old, Expr::Const(0));
        let size = cut_size(map.value.size());
        self.with_entry(id, &map, &key, |l, place| {
            let before = l.load(place, &map.value);
            l.set(old, before);
            if size >= 4 {
                let to = place.clone();
                l.emit(StmtKind::AtomicAdd { to, size, value: step.clone() });
            } else {
                let sum = Expr::binary(B::Add, Expr::Local(old), step.clone());
                l.store(place, size, sum);
            }
            l.mark_set(&map, place);
        });
        Expr::Local(old)
    }

    /// `@m[k] op= value` for integers other than by addition.
    pub(super) fn map_update(
        &mut self,
        id: tree::MapId,
        key: Option<&tree::Expr>,
        operation: impl Fn(&mut Self, Expr) -> Expr,
    ) {
        let map = self.script_map(id);
        let key = self.key(&map, key);
        let size = cut_size(map.value.size());
        self.with_entry(id, &map, &key, |l, place| {
            let old = l.load(place, &map.value);
            let old = l.spill("old", old);
            let new = operation(l, old);
            l.store(place, size, new);
            l.mark_set(&map, place);
        });
    }

    /// 1 if the key is there.
    pub(crate) fn has_key(&mut self, id: tree::MapId, key: &tree::Expr) -> Expr {
        let map = self.script_map(id);
        let key = self.key(&map, Some(key));
        let result = self.local("has");
        self.set(result, Expr::Const(0));
        self.lookup(&map, &key, |l, _| l.set(result, Expr::Const(1)), |_| {});
        Expr::Local(result)
    }

    /// 1 if the key is there; its value goes to a variable then.
    pub(crate) fn find(
        &mut self,
        id: tree::MapId,
        key: &tree::Expr,
        var: tree::VarId,
        value: &tree::Expr,
    ) -> Expr {
        let value_ty = &value.ty;
        let map = self.script_map(id);
        let key = self.key(&map, Some(key));
        let result = self.local("has");
        self.set(result, Expr::Const(0));
        let home = self.home(var).clone();
        self.lookup(
            &map,
            &key,
            |l, place| {
                l.set(result, Expr::Const(1));
                let value = match &map.aggregation {
                    Some(aggregation) => {
                        super::Val::Word(l.read_aggregate(&map, aggregation, &key))
                    }
                    None if map.value.is_scalar() => super::Val::Word(l.load(&place, &map.value)),
                    None => super::Val::Memory(place),
                };
                match (home, value) {
                    (Home::Word(local, ty), super::Val::Word(word)) => {
                        l.set(local, convert(word, value_ty, &ty));
                    }
                    (Home::Memory(to, ty), value) => {
                        l.copy_into(value, value_ty, &ty, &to, false);
                    }
                    _ => unreachable!("bug: words have homes in registers"),
                }
            },
            |_| {},
        );
        Expr::Local(result)
    }

    /// Removes a key (or a scalar map's value); 1 if it was there.
    pub(crate) fn delete(&mut self, id: tree::MapId, key: Option<&tree::Expr>) -> Expr {
        let map = self.script_map(id);
        let discarded = std::mem::take(&mut self.discarded);
        let place = self.key(&map, key);
        let result = self.local("deleted");
        if let Some(offset) = map.plan.set_offset() {
            self.set(result, Expr::Const(0));
            self.lookup(
                &map,
                &place,
                |l, value| {
                    l.set(result, Expr::load(value.at(offset), 8, false));
                    l.emit(StmtKind::Zero { to: value, size: map.plan.value_size });
                },
                |_| {},
            );
            return Expr::Local(result);
        }
        let args = vec![Arg::Map(map.id), Arg::Address(place)];
        let call = self.call(Helper::MapDeleteElem, args);
        self.set(result, call);
        if discarded {
            self.when(Expr::Local(result), |l| {
                l.loss(Cause::DeleteMissing { map: l.plan_map(id) }, Some(Expr::Local(result)));
            });
        }
        Expr::binary(B::Eq, Expr::Local(result), Expr::Const(0))
    }

    /// The number of keys.
    pub(crate) fn map_len(&mut self, id: tree::MapId) -> Expr {
        let map = self.script_map(id);
        self.spill("len", Expr::MapLength(map.id))
    }
}
