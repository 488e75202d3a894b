//! What a run is about: processes (`-p`), their descendants (`--follow`), a cgroup (`--cgroup`,
//! `--container`). Programs leave at once in tasks that are not part of it.
//!
//! One process is compared with a word. Several are looked up in a map, which the run side fills,
//! and which a program of ours keeps up to date where descendants belong to it: on every fork, the
//! child is added if its parent is there, and taken out (as a number that was used before) if not.

use super::Lower;
use super::map::NO_PREALLOC;
use super::program::{finish, start, without_body};
use super::{Remote, Shared, index};
use crate::builtins::is_in_namespace;
use crate::config::Config;
use crate::diag::{Diagnostic, Diagnostics};
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir::{
    self, Arg, BinaryOp as B, Expr, Helper, MapId, MapKind, Place, ProgramKind, Rounds, StmtKind,
};
use crate::parser::ast::{AttachPoint, TypeTag};
use crate::plan::{self, Param};
use crate::probes::{self, Needs};
use crate::sema::Options;
use crate::source::Span;
use crate::types::{Space, StructRef, Type};

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

    /// The process id of a task, as the tool's pid namespace counts; 0 if it has none there.
    pub(super) fn process_of(&mut self, task: Expr, tasks: &Tasks) -> Expr {
        let word = Type::UINT64;
        let half = Type::int(4, false);
        let read = |l: &mut Self, base: Expr, offset: u32, ty: &Type, name: &str| {
            let value = l.read_word(&Remote { base, offset, space: Space::Kernel }, ty);
            l.spill(name, value)
        };
        let Some(numbers) = tasks.numbers.as_ref().filter(|_| is_in_namespace(self.host)) else {
            return read(self, task, tasks.tgid, &half, "process");
        };
        let leader = read(self, task, numbers.leader, &word, "leader");
        let pid = read(self, leader, numbers.pid, &word, "pid");
        let levels = read(self, pid.clone(), numbers.level, &half, "levels");
        let wanted = self.shared.param(Param::PidNamespaceInode);
        let process = self.local("process");
        self.set(process, Expr::Const(0));
        let index = self.local("level");
        let body = self.repeated(|l| {
            let beyond = Expr::binary(B::SLt, levels, Expr::Local(index));
            l.when(beyond, |l| l.emit(StmtKind::Break));
            let distance = Expr::binary(B::Mul, Expr::Local(index), Expr::Const(numbers.size));
            let number = Expr::binary(B::Add, pid, distance);
            let number = l.spill("number", number);
            let space = read(l, number.clone(), numbers.list + numbers.space, &word, "space");
            let inode = read(l, space, numbers.inode, &half, "inode");
            let same = Expr::binary(B::Eq, inode, wanted);
            l.when(same, |l| {
                let found = read(l, number, numbers.list + numbers.number, &half, "found");
                l.set(process, found);
                l.emit(StmtKind::Break);
            });
        });
        let (from, to) = (Expr::Const(0), Expr::Const(LEVELS));
        self.emit(StmtKind::ForRange { index, from, to, how: Rounds::PLAIN, body });
        Expr::Local(process)
    }
}

/// Where tasks have the numbers of their processes.
pub(super) struct Tasks {
    /// In the initial pid namespace (`struct task_struct`).
    tgid: u32,
    /// In others, if the kernel describes that.
    numbers: Option<Numbers>,
}

/// The way from a task to its numbers in pid namespaces: a `struct upid` for each of them.
struct Numbers {
    leader: u32,
    pid: u32,
    level: u32,
    list: u32,
    number: u32,
    space: u32,
    inode: u32,
    /// Of a `struct upid`.
    size: i64,
}

/// Most pid namespaces inside of each other, with the initial one (`MAX_PID_NS_LEVEL`).
const LEVELS: i64 = 33;

impl Tasks {
    /// As the kernel describes its types.
    pub(super) fn of(host: &Host) -> Option<Tasks> {
        let btf = host.btf().ok()?;
        let find = |name: &str| match btf.find_type(Some(TypeTag::Struct), name) {
            Some(Type::Struct(found)) => Some(found),
            _ => None,
        };
        let at = |of: &StructRef, path: &str| Some(btf.member_at(of.id, path)?.0);
        let task = find("task_struct")?;
        let numbers = || {
            let (pid, upid) = (find("pid")?, find("upid")?);
            Some(Numbers {
                leader: at(&task, "group_leader")?,
                pid: at(&task, "thread_pid")?,
                level: at(&pid, "level")?,
                list: at(&pid, "numbers")?,
                number: at(&upid, "nr")?,
                space: at(&upid, "ns")?,
                inode: at(&find("pid_namespace")?, "ns.inum")?,
                size: i64::from(upid.size),
            })
        };
        Some(Tasks { tgid: at(&task, "tgid")?, numbers: numbers() })
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
    let text = "rawtracepoint:sched_process_fork".to_owned();
    let point = AttachPoint { label: None, text, span: Span::default() };
    let expansion = crate::sema::expansion(options, config);
    let mut ignored = Diagnostics::default();
    let found = probes::expand(&point, &Needs::default(), host, &expansion, &mut ignored);
    let (Some(mut instance), Some(tasks)) = (found.ok().and_then(|mut l| l.pop()), Tasks::of(host))
    else {
        let d = Diagnostic::global("descendants cannot be followed on this kernel");
        shared.diags.push(d.note("it does not describe its types (CONFIG_DEBUG_INFO_BTF)"));
        return None;
    };
    for link in &mut instance.attach {
        // It is none of the script's probes.
        link.probes.clear();
    }
    let probe = without_body(instance);
    let mut l = start(shared, &probe, host, options, config);
    let body = l.block(|l| {
        let map = l.shared.scope_map(l.host);
        let (parent, child) = (l.context_word(0, 8, false), l.context_word(8, 8, false));
        let (parent, child) = (l.process_of(parent, &tasks), l.process_of(child, &tasks));
        let (key, new, member) = (l.temp("parent", 4), l.temp("child", 4), l.temp("member", 4));
        l.store(&key, 4, parent);
        l.store(&new, 4, child);
        l.store(&member, 4, Expr::Const(1));
        let value = l.ptr();
        let place = |place: &ir::Place| Arg::Address(place.clone());
        let found = l.block(|l| {
            let args = vec![Arg::Map(map), place(&new), place(&member), Arg::Value(Expr::Const(0))];
            let added = l.call(Helper::MapUpdateElem, args);
            l.emit(StmtKind::Eval(added));
        });
        let missing = l.block(|l| {
            let removed = l.call(Helper::MapDeleteElem, vec![Arg::Map(map), place(&new)]);
            l.emit(StmtKind::Eval(removed));
        });
        l.emit(StmtKind::Lookup { map, key, cpu: None, value, found, missing });
    });
    let mut stmts = std::mem::take(&mut l.prologue);
    stmts.extend(body);
    Some(finish(l, "rt_follow".to_owned(), stmts, &probe))
}
