//! What a run is about: processes (`-p`), their descendants (`--follow`), a cgroup (`--cgroup`,
//! `--container`). Programs leave at once in tasks that are not part of it.
//!
//! One process is compared with a word. Several are looked up in a map, which the run side fills,
//! and which a program of ours keeps up to date where descendants belong to it: on every fork, the
//! child is added if its parent is there, and taken out (as a number that was used before) if not.

use super::map::NO_PREALLOC;
use super::processes::{self, Moment, Tasks};
use super::{Lower, Shared, index};
use crate::config::Config;
use crate::diag::Diagnostic;
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir::{
    self, Arg, BinaryOp as B, Expr, Helper, MapId, MapKind, Place, ProgramKind, StmtKind,
};
use crate::plan::{self, Param, SERVICE};
use crate::sema::Options;
use crate::types::Type;

/// From so many functions of a program on, it waits until all are attached.
const VERY_MANY: usize = 2000;

/// Most processes of a scope.
const PROCESSES: u32 = 1 << 16;

/// And if all of the map's memory is taken at once.
const PROCESSES_IN_ADVANCE: u32 = 1 << 13;

impl Lower<'_> {
    /// `-p` for probes that the kernel does not filter (probes.md §21), and what goes beyond it.
    pub(super) fn scope_filter(&mut self) {
        let kernel = matches!(
            self.kind(),
            ProgramKind::Kprobe
                | ProgramKind::Trampoline
                | ProgramKind::Tracepoint
                | ProgramKind::RawTracepoint
                | ProgramKind::BtfTracepoint
        );
        if self.options.pid.is_some() && kernel {
            let pid = crate::builtins::current_pid(self);
            let wanted = self.shared.param(Param::TargetPid);
            self.leave(Expr::binary(B::Ne, pid, wanted));
        } else if self.options.portable && kernel {
            // `-p` may be given when the object is loaded.
            let wanted = self.shared.param(Param::TargetPid);
            let given = Expr::binary(B::Ne, wanted.clone(), Expr::Const(0));
            self.when(given, |l| {
                let pid = crate::builtins::current_pid(l);
                l.leave(Expr::binary(B::Ne, pid, wanted));
            });
        }
        let user = matches!(self.kind(), ProgramKind::Uprobe | ProgramKind::PerfEvent);
        // Intervals are not about anybody.
        if !kernel && !user || self.instance.context.provider == "interval" {
            return;
        }
        let scope = self.options.scope;
        if scope.cgroup {
            let level = self.shared.param(Param::ScopeLevel);
            let args = vec![Arg::Value(level)];
            let here = self.call(Helper::GetCurrentAncestorCgroupId, args);
            let wanted = self.shared.param(Param::ScopeCgroup);
            self.leave(Expr::binary(B::Ne, here, wanted));
        }
        if scope.processes || scope.follow {
            let pid = crate::builtins::current_pid(self);
            self.leave_unless_in_scope(pid);
        }
    }

    /// Ends the program for a process that is none of those that the run is about.
    pub(super) fn leave_unless_in_scope(&mut self, process: Expr) {
        let key = self.temp("process", 4);
        self.store(&key, 4, process);
        let (map, value) = (self.shared.scope_map(self.host), self.ptr());
        let missing = self.block(|l| l.leave(Expr::Const(1)));
        self.emit(StmtKind::Lookup { map, key, cpu: None, value, found: vec![], missing });
    }

    /// A program on very many functions does nothing while they are attached and detached: the kernel
    /// calls them by the million for that.
    pub(super) fn wait_until_ready(&mut self) {
        let functions = |link: &plan::Attach| match &link.mechanism {
            plan::Mechanism::KprobeMulti { functions, .. }
            | plan::Mechanism::KprobeSession { functions } => functions.len(),
            _ => 0,
        };
        if self.instance.attach.iter().map(functions).sum::<usize>() < VERY_MANY {
            return;
        }
        let key = self.temp("ready", 4);
        self.store(&key, 4, Expr::Const(0));
        let (map, value) = (self.shared.ready_map(), self.ptr());
        let found = self.block(|l| {
            let ready = l.load(&Place::ptr(value), &Type::UINT64);
            l.leave(Expr::binary(B::Eq, ready, Expr::Const(0)));
        });
        self.emit(StmtKind::Lookup { map, key, cpu: None, value, found, missing: vec![] });
    }
}

impl Shared {
    /// The map that says whether everything is attached.
    fn ready_map(&mut self) -> MapId {
        if let Some(at) = self.maps.iter().position(|m| m.name == plan::READY_MAP) {
            return MapId(index(at));
        }
        self.maps.push(ir::Map {
            name: plan::READY_MAP.into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
            flags: 0,
        });
        MapId(index(self.maps.len() - 1))
    }

    /// The map of processes that belong to the scope.
    fn scope_map(&mut self, host: &Host) -> MapId {
        if let Some(at) = self.maps.iter().position(|m| m.name == plan::SCOPE_MAP) {
            return MapId(index(at));
        }
        let dynamic = host.has(Feature::DynamicMaps);
        self.maps.push(ir::Map {
            name: plan::SCOPE_MAP.into(),
            kind: MapKind::Hash,
            key_size: 4,
            value_size: 4,
            max_entries: if dynamic { PROCESSES } else { PROCESSES_IN_ADVANCE },
            flags: if dynamic { NO_PREALLOC } else { 0 },
        });
        MapId(index(self.maps.len() - 1))
    }
}

/// The program that keeps the map of processes up to date.
pub(super) fn follow(
    shared: &mut Shared,
    host: &Host,
    options: &Options,
    config: &Config,
) -> Option<(ir::Program, plan::Program)> {
    let program = Tasks::of(host).and_then(|tasks| {
        let name = format!("{SERVICE}follow");
        processes::at(shared, host, options, config, Moment::Fork, name, |l| {
            l.keep_scope(&tasks);
        })
    });
    if program.is_none() {
        let d = Diagnostic::global("descendants cannot be followed on this kernel");
        shared.diags.push(d.note("it does not describe its types (CONFIG_DEBUG_INFO_BTF)"));
    }
    program
}

impl Lower<'_> {
    /// On a fork: the child belongs to the scope if its parent does.
    fn keep_scope(&mut self, tasks: &Tasks) {
        let map = self.shared.scope_map(self.host);
        let (parent, child) = self.parent_and_child(tasks);
        let (key, new) = (self.temp("parent", 4), self.temp("child", 4));
        let member = self.temp("member", 4);
        self.store(&key, 4, parent);
        self.store(&new, 4, child);
        self.store(&member, 4, Expr::Const(1));
        let value = self.ptr();
        let place = |place: &ir::Place| Arg::Address(place.clone());
        let found = self.block(|l| {
            let args = vec![Arg::Map(map), place(&new), place(&member), Arg::Value(Expr::Const(0))];
            let added = l.call(Helper::MapUpdateElem, args);
            l.emit(StmtKind::Eval(added));
        });
        let missing = self.block(|l| {
            let removed = l.call(Helper::MapDeleteElem, vec![Arg::Map(map), place(&new)]);
            l.emit(StmtKind::Eval(removed));
        });
        self.emit(StmtKind::Lookup { map, key, cpu: None, value, found, missing });
    }
}
