//! Who is running: processes, threads, users, CPUs, cgroups.

use super::{BASE, Builtin, Call, Lowering};
use crate::diag::{Diagnostic, Warning};
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Kfunc, Place, StmtKind};
use crate::plan::portable::Lookup;
use crate::plan::{Cause, Param};
use crate::sema::Checker;
use crate::sema::lower::Lower;
use crate::sema::tree::{self, Detail, ExprKind, Object};
use crate::source::Spanned;
use crate::types::{Space, Type};

/// `TASK_COMM_LEN` of linux/sched.h.
const COMM: u32 = 16;

/// Bytes of the name of another process.
const COMM_OF: u32 = 64;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

const UINT32: Type = Type::Int { size: 4, signed: false, space: Space::None };

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "pid",
        usage: "pid, pid(init)",
        doc: "Process id, as seen in the pid namespace of rtrace; with `init` in the initial one.",
        bare: true,
        args: (0, 1),
        check: |c, call| namespaced(c, call),
        lower: Lowering::Word(|l, call| match call.detail {
            Detail::Number(1) => high(pid_tgid(l)),
            _ => current_pid(l),
        }),
        ..BASE
    },
    Builtin {
        name: "tid",
        usage: "tid, tid(init)",
        doc: "Thread id, as seen in the pid namespace of rtrace; with `init` in the initial one.",
        bare: true,
        args: (0, 1),
        check: |c, call| namespaced(c, call),
        lower: Lowering::Word(|l, call| match call.detail {
            Detail::Number(1) => low(pid_tgid(l)),
            _ => current_tid(l),
        }),
        ..BASE
    },
    Builtin {
        name: "comm",
        usage: "comm, comm(pid)",
        doc: "Name of the current thread, or of the one with that id in the initial pid namespace (in `fentry`, `fexit`, `iter` and most tracepoints of system calls); `N/A` if there is none.",
        bare: true,
        args: (0, 1),
        check: |c, call| match call.args.first() {
            None => c.typed(call, Type::Str(COMM), Detail::None),
            Some(_) => check_comm_of(c, call),
        },
        lower: Lowering::Memory(|l, call, to, full| {
            if let (Some(pid), Detail::Number(offset)) = (call.args.first(), call.detail) {
                return comm_of(l, pid, *offset, to, full);
            }
            // Some kernels (6.1) leave what is behind the name as it was.
            if full {
                l.emit(StmtKind::Zero { to: to.clone(), size: COMM });
            }
            let args = vec![Arg::Address(to.clone()), Arg::Value(Expr::Const(i64::from(COMM)))];
            // It fails only for sizes that this is not.
            let call = l.call(Helper::GetCurrentComm, args);
            l.emit(StmtKind::Eval(call));
        }),
        ..BASE
    },
    Builtin {
        name: "uid",
        usage: "uid",
        doc: "User id of the current thread, in the initial user namespace.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| low(l.call(Helper::GetCurrentUidGid, vec![]))),
        ..BASE
    },
    Builtin {
        name: "gid",
        usage: "gid",
        doc: "Group id of the current thread, in the initial user namespace.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| high(l.call(Helper::GetCurrentUidGid, vec![]))),
        ..BASE
    },
    Builtin {
        name: "username",
        usage: "username",
        doc: "Name of the current user; looked up when printed.",
        bare: true,
        check: |c, call| c.typed(call, Type::Username, Detail::None),
        lower: Lowering::Word(|l, _| low(l.call(Helper::GetCurrentUidGid, vec![]))),
        ..BASE
    },
    Builtin {
        name: "cpu",
        usage: "cpu",
        doc: "Number of the current CPU.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| l.call(Helper::GetSmpProcessorId, vec![])),
        ..BASE
    },
    Builtin {
        name: "ncpus",
        usage: "ncpus",
        doc: "Number of possible CPUs.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| l.shared.param(Param::CpuCount)),
        ..BASE
    },
    Builtin {
        name: "numaid",
        usage: "numaid",
        doc: "Number of the current NUMA node.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| l.call(Helper::GetNumaNodeId, vec![])),
        ..BASE
    },
    Builtin {
        name: "curtask",
        usage: "curtask",
        doc: "The current task, a `struct task_struct *`.",
        bare: true,
        check: |c, call| {
            let btf = c.host.btf();
            let task = btf.ok().and_then(|b| {
                b.find_type(Some(crate::parser::ast::TypeTag::Struct), "task_struct")
            });
            let ty = task.map_or(Type::Int { size: 8, signed: false, space: Space::Kernel }, |t| {
                Type::ptr(t, Space::Kernel)
            });
            c.typed(call, ty, Detail::Object(Object::CurrentTask))
        },
        lower: Lowering::Word(|l, _| l.call(Helper::GetCurrentTask, vec![])),
        ..BASE
    },
    Builtin {
        name: "ppid",
        usage: "ppid, ppid(task)",
        doc: "Process id of the parent of the current task, or of another one.",
        bare: true,
        args: (0, 1),
        check: |c, call| task_member(c, call, &["real_parent", "tgid"]),
        ..BASE
    },
    Builtin {
        name: "pcomm",
        usage: "pcomm, pcomm(task)",
        doc: "Name of the parent of the current task, or of another one.",
        bare: true,
        args: (0, 1),
        check: |c, call| task_member(c, call, &["real_parent", "comm"]),
        ..BASE
    },
    Builtin {
        name: "leader_tid",
        usage: "leader_tid, leader_tid(task)",
        doc: "Thread id of the first thread of the current task's process, or of another's.",
        bare: true,
        args: (0, 1),
        check: |c, call| task_member(c, call, &["group_leader", "pid"]),
        ..BASE
    },
    Builtin {
        name: "leader_comm",
        usage: "leader_comm, leader_comm(task)",
        doc: "Name of the first thread of the current task's process, or of another's.",
        bare: true,
        args: (0, 1),
        check: |c, call| task_member(c, call, &["group_leader", "comm"]),
        ..BASE
    },
    Builtin {
        name: "cgroup",
        usage: "cgroup",
        doc: "Id of the cgroup (version 2) of the current task.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| l.call(Helper::GetCurrentCgroupId, vec![])),
        ..BASE
    },
    Builtin {
        name: "cgroupid",
        usage: "cgroupid(\"/sys/fs/cgroup/x\")",
        doc: "Id of a cgroup directory, found when the script is compiled.",
        args: (1, 1),
        check: |c, call| {
            let Some(path) = c.literal_text(call, 0) else { return tree::Expr::error(call.span) };
            if c.options.portable {
                let at = call.span;
                return c.lookup(Lookup::Inode { path, span: at }, Type::UINT64, at);
            }
            match c.host.inode(&path) {
                Some(inode) => {
                    tree::Expr::new(ExprKind::Int(i128::from(inode)), Type::UINT64, call.span)
                }
                None => {
                    let d = Diagnostic::error(call.span, format!("there is no cgroup `{path}`"));
                    c.fail(d.help("name a directory below the cgroup2 mount, `/sys/fs/cgroup`"))
                }
            }
        },
        ..BASE
    },
    Builtin {
        name: "cgroup_path",
        usage: "cgroup_path(id[, \"filter\"])",
        doc: "Paths of a cgroup in the mounted hierarchies, looked up when printed.",
        args: (1, 2),
        check: |c, call| {
            let filter = match call.args.get(1) {
                Some(_) => match c.literal_text(call, 1) {
                    Some(text) => text,
                    None => return tree::Expr::error(call.span),
                },
                None => String::new(),
            };
            let index = Checker::intern(&mut c.cgroup_filters, &filter);
            let Some(id) = c.integer_argument(call, 0) else {
                return tree::Expr::error(call.span);
            };
            c.typed_with(call, vec![id], Type::CgroupPath, Detail::Number(index))
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let Some(id) = call.args.first() else { return };
            let word = l.argument_word(id);
            l.store(to, 8, word);
            let Detail::Number(filter) = call.detail else { return };
            l.store(&to.at(8), 8, Expr::Const(*filter));
        }),
        ..BASE
    },
    Builtin {
        name: "rand",
        usage: "rand",
        doc: "A pseudo random number of 32 bits.",
        bare: true,
        effects: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| {
            let call = l.call(Helper::GetPrandomU32, vec![]);
            let word = Expr::binary(B::And, call, Expr::Const(0xffff_ffff));
            l.spill("rand", word)
        }),
        ..BASE
    },
    Builtin {
        name: "cpid",
        usage: "cpid",
        doc: "Process id of the child of `-c`; 0 without one.",
        bare: true,
        check: |c, call| {
            // Whoever runs an object may start one.
            if !c.options.has_child && !c.options.portable {
                c.diags.push(
                    Diagnostic::warning(Warning::NoChild, call.span, "there is no child process")
                        .at("taken as 0")
                        .help("start one with `-c COMMAND`"),
                );
            }
            c.typed(call, Type::UINT64, Detail::None)
        },
        lower: Lowering::Word(|l, _| l.shared.param(Param::ChildPid)),
        ..BASE
    },
    Builtin {
        name: "has_cpid",
        usage: "has_cpid",
        doc: "Whether there is a child of `-c`.",
        bare: true,
        check: |c, call| {
            if c.options.portable {
                return c.typed(call, Type::Bool, Detail::None);
            }
            let value = i128::from(c.options.has_child);
            tree::Expr::new(ExprKind::Int(value), Type::Bool, call.span)
        },
        lower: Lowering::Word(|l, _| {
            let child = l.shared.param(Param::ChildPid);
            Expr::binary(B::Ne, child, Expr::Const(0))
        }),
        ..BASE
    },
];

/// `comm(pid)`: by a function of the kernel, which not every kernel has and not
/// every program may call.
fn check_comm_of(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let name = Kfunc::TaskFromPid.name();
    let Some(pid) = c.integer_argument(call, 0) else { return tree::Expr::error(call.span) };
    if c.options.portable {
        let reason = "not every kernel can tell; build with `--here` for this one".to_owned();
        return c.unavailable("comm(pid)", reason, call.span);
    }
    let known = c.host.btf().is_ok_and(|b| b.function(name).is_some());
    if !known {
        c.diags.push(
            Diagnostic::warning(
                Warning::KernelLacks,
                call.span,
                "this kernel does not find processes by their ids",
            )
            .at("taken as `[unknown]`")
            .note(format!("it lacks the function `{name}` (Linux 6.2)")),
        );
        let text = b"[unknown]".to_vec();
        return tree::Expr::new(ExprKind::Str(text), Type::Str(COMM_OF), call.span);
    }
    if !c.host.kfunc(name, c.instance.kind) {
        let reason = format!(
            "the kernel does not let such programs call `{name}`; \
             use it in a probe such as `fentry` or `rawtracepoint`"
        );
        return c.unavailable("comm(pid)", reason, call.span);
    }
    let task = c.current_task(call);
    let offset = match &task.ty {
        Type::Ptr { to, .. } => {
            let comm = Spanned::new("comm".to_owned(), call.span);
            c.member_offset(&to.clone(), &[comm], call.span).and_then(|e| e.constant())
        }
        _ => None,
    };
    let Some(offset) = offset else { return tree::Expr::error(call.span) };
    let offset = i64::try_from(offset).unwrap_or(0);
    c.typed_with(call, vec![pid], Type::Str(COMM_OF), Detail::Number(offset))
}

fn comm_of(l: &mut Lower<'_>, pid: &tree::Expr, offset: i64, to: &Place, full: bool) {
    let pid = l.argument_word(pid);
    let pid = l.spill("pid", pid);
    if full {
        l.emit(StmtKind::Zero { to: to.clone(), size: COMM_OF });
    }
    let value = l.ptr();
    let found = l.block(|l| {
        let name = Place::ptr(value).at(u32::try_from(offset).unwrap_or(0));
        let args = vec![
            Arg::Address(to.clone()),
            Arg::Value(Expr::Const(i64::from(COMM))),
            Arg::Value(Expr::Address(name)),
        ];
        let call = l.call(Helper::ProbeReadKernelStr, args);
        l.emit(StmtKind::Eval(call));
    });
    let missing = l.block(|l| {
        let text = Place::rodata(l.shared.constant(b"N/A\0".to_vec()));
        l.emit(StmtKind::Copy { to: to.clone(), from: text, size: 4 });
        let name = Kfunc::TaskFromPid.name().trim_start_matches("bpf_").to_owned();
        l.loss(Cause::Helper { name }, None);
    });
    l.emit(StmtKind::Acquire { kfunc: Kfunc::TaskFromPid, arg: pid, value, found, missing });
}

/// `pid` and `tid` with their optional namespace.
fn namespaced(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let init = match call.args.first() {
        None => 0,
        Some(_) => match c.bare_word(call, 0, &["curr_ns", "init"]) {
            Some(index) => i64::try_from(index).unwrap_or(0),
            None => return tree::Expr::error(call.span),
        },
    };
    c.typed_with(call, vec![], UINT32, Detail::Number(init))
}

/// A chain of members of the current task, or of the one that is given.
fn task_member(c: &mut Checker<'_>, call: &Call<'_>, path: &[&str]) -> tree::Expr {
    let mut value = match call.args.first() {
        Some(task) => c.expression(task),
        None => c.current_task(call),
    };
    let is_task = match &value.ty {
        Type::Ptr { to, .. } => matches!(&**to, Type::Struct(s) if s.name == "task_struct"),
        Type::Unknown => true,
        _ => call.args.is_empty(),
    };
    if !is_task {
        let d = Diagnostic::error(
            value.span,
            format!("`{}` takes a `struct task_struct *`", call.builtin.name),
        )
        .at(format!("this is `{}`", value.ty))
        .help(format!("write `{}((struct task_struct *)…)`", call.builtin.name));
        return c.fail(d);
    }
    for name in path {
        value = c.named_member(value, name, call.span);
    }
    value
}

fn pid_tgid(l: &mut Lower<'_>) -> Expr {
    l.call(Helper::GetCurrentPidTgid, vec![])
}

fn high(word: Expr) -> Expr {
    Expr::binary(B::LShr, word, Expr::Const(32))
}

fn low(word: Expr) -> Expr {
    Expr::binary(B::And, word, Expr::Const(0xffff_ffff))
}

/// The process id in the tool's pid namespace.
pub(crate) fn current_pid(l: &mut Lower<'_>) -> Expr {
    match namespace_ids(l) {
        Some(place) => Expr::load(place.at(4), 4, false),
        None => high(pid_tgid(l)),
    }
}

/// The thread id in the tool's pid namespace.
fn current_tid(l: &mut Lower<'_>) -> Expr {
    match namespace_ids(l) {
        Some(place) => Expr::load(place, 4, false),
        None => low(pid_tgid(l)),
    }
}

/// Whether the tool has a pid namespace that is not the initial one.
pub(crate) fn is_in_namespace(host: &Host) -> bool {
    host.inode("/proc/self/ns/pid").is_some_and(|inode| inode != INITIAL_PID_NAMESPACE)
}

/// Ids by `bpf_get_ns_current_pid_tgid`, if the tool is not in the initial
/// namespace: `struct bpf_pidns_info { u32 pid; u32 tgid; }`.
fn namespace_ids(l: &mut Lower<'_>) -> Option<Place> {
    let here = || is_in_namespace(l.host) && l.host.has(Feature::NsPidTgid);
    if !(l.options.portable || here()) {
        return None;
    }
    let place = l.temp("ids", 8);
    l.emit(StmtKind::Zero { to: place.clone(), size: 8 });
    let device = l.shared.param(Param::PidNamespaceDevice);
    let inode = l.shared.param(Param::PidNamespaceInode);
    let args = vec![
        Arg::Value(device),
        Arg::Value(inode),
        Arg::Address(place.clone()),
        Arg::Value(Expr::Const(8)),
    ];
    let call = l.call(Helper::GetNsCurrentPidTgid, args);
    l.emit(StmtKind::Eval(call));
    Some(place)
}
