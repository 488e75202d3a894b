//! What happens to processes: programs that serve rtrace itself, and are none of the script's
//! probes.

use super::program::{finish, start, without_body};
use super::{Lower, Remote, Shared};
use crate::builtins::is_in_namespace;
use crate::config::Config;
use crate::diag::Diagnostics;
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir::{self, BinaryOp as B, Expr, Helper, ProgramKind, Rounds, StmtKind};
use crate::parser::ast::{AttachPoint, TypeTag};
use crate::plan::{self, Param};
use crate::probes::{self, Needs};
use crate::sema::Options;
use crate::source::Span;
use crate::types::{Space, StructRef, Type};

/// When such a program runs, in the task that it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Exec,
    Exit,
    /// In the parent.
    Fork,
}

impl Moment {
    /// Where its program may be attached, the best place first. On raw tracepoints, calls are lost
    /// where programs can be preempted.
    fn places(self, host: &Host, options: &Options) -> impl Iterator<Item = &'static str> {
        let (raw, unpreempted) = match self {
            Moment::Exec => {
                ("rawtracepoint:sched_process_exec", "tracepoint:sched:sched_process_exec")
            }
            Moment::Exit => {
                ("rawtracepoint:sched_process_exit", "tracepoint:sched:sched_process_exit")
            }
            // The record of the tracepoint does not have the tasks. The kernel calls this function next
            // (`kernel_clone`, kernel/fork.c).
            Moment::Fork => ("rawtracepoint:sched_process_fork", "kprobe:wake_up_new_task"),
        };
        let feature = Feature::NopreemptTracepoints;
        let hidden = options.no_feature.iter().any(|name| name == feature.info().name);
        let preempted = hidden || !host.has(feature);
        preempted.then_some(unpreempted).into_iter().chain([raw])
    }
}

/// A program for a moment; nothing on kernels that have none.
pub(super) fn at(
    shared: &mut Shared,
    host: &Host,
    options: &Options,
    config: &Config,
    moment: Moment,
    name: String,
    body: impl FnOnce(&mut Lower<'_>),
) -> Option<(ir::Program, plan::Program)> {
    let expansion = crate::sema::expansion(options, config);
    let mut instance = moment.places(host, options).find_map(|text| {
        let point = AttachPoint { label: None, text: text.to_owned(), span: Span::default() };
        let mut ignored = Diagnostics::default();
        probes::expand(&point, &Needs::default(), host, &expansion, &mut ignored).ok()?.pop()
    })?;
    for link in &mut instance.attach {
        link.probes.clear();
    }
    let probe = without_body(instance);
    let mut l = start(shared, &probe, host, options, config);
    let mut stmts = l.block(|l| body(l));
    let mut all = std::mem::take(&mut l.prologue);
    all.append(&mut stmts);
    Some(finish(l, name, all, &probe))
}

impl Lower<'_> {
    /// The processes of [`Moment::Fork`]; the same one if a thread was made.
    pub(super) fn parent_and_child(&mut self, tasks: &Tasks) -> (Expr, Expr) {
        let (parent, child) = match self.kind() {
            ProgramKind::Kprobe => {
                let first = self.instance.context.numbered.iter().flatten().next();
                let first = first.expect("bug: a kprobe has arguments").access;
                let parent = self.call(Helper::GetCurrentTask, vec![]);
                (parent, self.context_access(first, &Type::UINT64))
            }
            _ => (self.context_word(0, 8, false), self.context_word(8, 8, false)),
        };
        (self.process_of(parent, tasks), self.process_of(child, tasks))
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
