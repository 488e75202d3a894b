//! What the probe brings along: arguments, registers, functions, stacks.

use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::diag::{Diagnostic, Warning};
use crate::host::features::Feature;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Place, ProgramKind, StmtKind};
use crate::probes::Func;
use crate::sema::Checker;
use crate::sema::lower::Lower;
use crate::sema::lower::unwind::WALKED_FRAMES;
use crate::sema::tree::{self, Detail, ExprKind, Object};
use crate::types::{Space, StackMode, Type};

/// Frames of a stack when nothing is said.
const FRAMES: i64 = 127;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "retval",
        usage: "retval",
        doc: "Return value of the traced function.",
        bare: true,
        check: |c, call| match c.instance.context.retval.clone() {
            Ok(argument) => c.argument(argument, call.span),
            Err(reason) => c.unavailable("retval", reason, call.span),
        },
        ..BASE
    },
    Builtin {
        name: "ctx",
        usage: "ctx",
        doc: "The raw context of the program.",
        bare: true,
        check: |c, call| match c.instance.context.ctx.clone() {
            Ok(ty) => {
                let iterates = c.instance.kind == ProgramKind::Iter;
                let detail = if iterates { Detail::Object(Object::Iterator) } else { Detail::None };
                c.typed(call, ty, detail)
            }
            Err(reason) => c.unavailable("ctx", reason, call.span),
        },
        lower: Lowering::Word(|_, _| Expr::Address(Place::context(0))),
        ..BASE
    },
    Builtin {
        name: "func",
        usage: "func",
        doc: "Name of the traced function; looked up when printed.",
        bare: true,
        check: |c, call| match c.instance.context.func.clone() {
            Ok(func) => {
                let user = matches!(
                    func,
                    Func::InstructionPointer { user: true, .. } | Func::Helper { user: true }
                );
                let ty = if user { Type::Usym } else { Type::Ksym };
                c.typed(call, ty, Detail::None)
            }
            Err(reason) => c.unavailable("func", reason, call.span),
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let address = function_address(l);
            symbol(l, call.ty, address, to);
        }),
        ..BASE
    },
    Builtin {
        name: "reg",
        usage: "reg(\"ip\")",
        doc: "A register of the traced or interrupted code.",
        args: (1, 1),
        check: |c, call| match c.literal_text(call, 0) {
            Some(name) => c.register(&name, "reg", call.span),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Word(|l, call| {
            let Detail::Register(offset) = call.detail else { return Expr::Const(0) };
            l.context_word(*offset, 8, false)
        }),
        ..BASE
    },
    Builtin {
        name: "kptr",
        usage: "kptr(p)",
        doc: "The same address, taken for one in the kernel.",
        args: (1, 1),
        check: |c, call| with_space(c, call, Space::Kernel),
        ..BASE
    },
    Builtin {
        name: "uptr",
        usage: "uptr(p)",
        doc: "The same address, taken for one of the current process.",
        args: (1, 1),
        check: |c, call| with_space(c, call, Space::User),
        ..BASE
    },
    Builtin {
        name: "probe",
        usage: "probe",
        doc: "Full name of the probe that fired, or its label.",
        bare: true,
        check: |c, call| {
            let names = c.instance.attach.iter().flat_map(|a| a.probes.iter());
            let mut names: Vec<&str> = names.collect();
            if names.is_empty() {
                let reason = "a function belongs to no probe; pass it as a parameter".to_string();
                return c.unavailable("probe", reason, call.span);
            }
            // Copies of a marker have one name.
            names.dedup();
            let longest = names.iter().map(|n| n.len()).max().unwrap_or(0);
            match names.as_slice() {
                [only] => tree::Expr::new(
                    ExprKind::Str(only.as_bytes().to_vec()),
                    Type::Str(size(longest + 1)),
                    call.span,
                ),
                _ => {
                    // Room in steps of 8, so that copies are quick.
                    let room = (longest + 1).next_multiple_of(8);
                    c.typed(call, Type::Str(size(room)), Detail::None)
                }
            }
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let room = call.ty.size();
            let instance = l.instance;
            let mut table = Vec::new();
            let mut count = 0;
            for name in instance.attach.iter().flat_map(|a| a.probes.iter()) {
                let mut cell = name.as_bytes().to_vec();
                cell.resize(room as usize, 0);
                table.append(&mut cell);
                count += 1;
            }
            let table = Place::rodata(l.shared.constant(table));
            let number = l.probe_number();
            let from = table.indexed(number, room, count);
            l.emit(StmtKind::Copy { to: to.clone(), from, size: room });
        }),
        ..BASE
    },
    Builtin {
        name: "probetype",
        usage: "probetype",
        doc: "Kind of the probe that fired, such as `kprobe`.",
        bare: true,
        check: |c, call| {
            if c.instance.attach.is_empty() {
                let reason = "a function belongs to no probe".to_string();
                return c.unavailable("probetype", reason, call.span);
            }
            let name = match c.instance.context.provider {
                "begin" | "end" | "self" => "special",
                "bench" => "benchmark",
                other => other,
            };
            let text = name.as_bytes().to_vec();
            let ty = Type::Str(size(text.len() + 1));
            tree::Expr::new(ExprKind::Str(text), ty, call.span)
        },
        ..BASE
    },
    Builtin {
        name: "usermode",
        usage: "usermode",
        doc: "1 if user code was interrupted, 0 if kernel code; x86-64 only.",
        bare: true,
        check: |c, call| {
            let ty = Type::int(1, false);
            if c.instance.context.registers.is_none() {
                let user =
                    i128::from(matches!(c.instance.context.provider, "begin" | "end" | "self"));
                return tree::Expr::new(ExprKind::Int(user), ty, call.span);
            }
            let cs = c.register("cs", "usermode", call.span);
            if cs.is_error() {
                return cs;
            }
            c.typed_with(call, vec![cs], ty, Detail::None)
        },
        lower: Lowering::Word(|l, call| {
            let Some(cs) = call.args.first() else { return Expr::Const(0) };
            let cs = l.argument_word(cs);
            // The requested privilege level is the low two bits of `cs`.
            let ring = Expr::binary(B::And, cs, Expr::Const(3));
            Expr::binary(B::Eq, ring, Expr::Const(3))
        }),
        ..BASE
    },
    Builtin {
        name: "kstack",
        usage: "kstack, kstack(10), kstack(perf, 10)",
        doc: "The kernel stack, innermost function first.",
        bare: true,
        args: (0, 2),
        check: |c, call| stack(c, call, false),
        lower: Lowering::Memory(lower_stack),
        ..BASE
    },
    Builtin {
        name: "ustack",
        usage: "ustack, ustack(10), ustack(perf, 10), ustack(dwarf)",
        doc: "The user stack of the current thread, by frame pointers, or with `dwarf` by the tables \
              of its binaries, as `dw_ustack` has it.",
        bare: true,
        args: (0, 3),
        check: |c, call| stack(c, call, true),
        lower: Lowering::Memory(lower_stack),
        ..BASE
    },
    Builtin {
        name: "dw_ustack",
        usage: "dw_ustack, dw_ustack(10), dw_ustack(perf, 10)",
        doc: "The user stack of the current thread, unwound by the call frame information \
              (`.eh_frame`) of its binaries, for code without frame pointers; x86-64. Tables of \
              the processes of `-p`, `-c` and `--dwarf-pid` are made before tracing starts, those \
              of others when they are first met: until then, their stacks have no frames, and are \
              counted as lost.",
        bare: true,
        args: (0, 2),
        check: |c, call| stack_by(c, call, true, true),
        lower: Lowering::Memory(lower_stack),
        ..BASE
    },
    Builtin {
        name: "ksym",
        usage: "ksym(addr)",
        doc: "The kernel symbol of an address; looked up when printed.",
        args: (1, 1),
        check: |c, call| match c.address_argument(call, 0) {
            Some(address) => c.typed_with(call, vec![address], Type::Ksym, Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Memory(lower_symbol),
        ..BASE
    },
    Builtin {
        name: "usym",
        usage: "usym(addr)",
        doc: "The symbol of an address in the current process; looked up when printed.",
        args: (1, 1),
        check: |c, call| match c.address_argument(call, 0) {
            Some(address) => c.typed_with(call, vec![address], Type::Usym, Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Memory(lower_symbol),
        ..BASE
    },
    // Names of releases long past.
    Builtin {
        name: "stack",
        usage: "kstack",
        doc: "The old name of `kstack`.",
        bare: true,
        args: (0, 1),
        check: |c, call| stack(c, call, false),
        lower: Lowering::Memory(lower_stack),
        ..BASE
    },
    Builtin {
        name: "sym",
        usage: "ksym(addr)",
        doc: "The old name of `ksym`.",
        args: (1, 1),
        check: |c, call| match c.address_argument(call, 0) {
            Some(address) => c.typed_with(call, vec![address], Type::Ksym, Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Memory(lower_symbol),
        ..BASE
    },
];

fn size(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn with_space(c: &mut Checker<'_>, call: &Call<'_>, space: Space) -> tree::Expr {
    let Some(value) = c.address_argument(call, 0) else { return tree::Expr::error(call.span) };
    let ty = match &value.ty {
        Type::Ptr { to, .. } => Type::Ptr { to: to.clone(), space },
        Type::Int { size, signed, .. } => Type::Int { size: *size, signed: *signed, space },
        other => other.clone(),
    };
    tree::Expr::new(ExprKind::Cast(Box::new(value)), ty, call.span)
}

pub(super) fn function_address(l: &mut Lower<'_>) -> Expr {
    match l.instance.context.func {
        Ok(Func::Helper { .. }) => {
            let call = l.call(Helper::GetFuncIp, vec![Arg::Context]);
            l.spill("func", call)
        }
        Ok(Func::InstructionPointer { .. }) | Err(_) => {
            let arch = l.host.arch();
            let base = l.instance.context.registers.unwrap_or(0);
            let ip = arch.register(arch.instruction_pointer).unwrap_or(0);
            let ip = l.context_word(base + ip, 8, false);
            match l.instance.context.func {
                Ok(Func::InstructionPointer { distance: distance @ 1.., .. }) => {
                    Expr::binary(B::Sub, ip, Expr::Const(distance.cast_signed()))
                }
                _ => ip,
            }
        }
    }
}

fn lower_symbol(l: &mut Lower<'_>, call: &Lowered<'_>, to: &Place, _: bool) {
    let Some(address) = call.args.first() else { return };
    let word = l.argument_word(address);
    symbol(l, call.ty, word, to);
}

fn symbol(l: &mut Lower<'_>, ty: &Type, address: Expr, to: &Place) {
    l.store(to, 8, address);
    if *ty == Type::Usym {
        let pid = super::current_pid(l);
        l.store(&to.at(8), 8, pid);
    }
}

fn stack(c: &mut Checker<'_>, call: &Call<'_>, user: bool) -> tree::Expr {
    stack_by(c, call, user, false)
}

/// `kstack` and `ustack`: mode and limit in any order, both optional; and `dwarf`.
fn stack_by(c: &mut Checker<'_>, call: &Call<'_>, user: bool, mut dwarf: bool) -> tree::Expr {
    if !c.instance.context.stacks {
        let reason = "no code was interrupted here".to_string();
        return c.unavailable(call.builtin.name, reason, call.span);
    }
    let mut mode = c.config.stack_mode;
    let mut limit = FRAMES;
    for (n, arg) in call.args.iter().enumerate() {
        if let crate::parser::ast::ExprKind::Ident(name) = &arg.node
            && name == "dwarf"
        {
            if !user {
                let d = Diagnostic::error(arg.span, "kernel stacks are not unwound by DWARF")
                    .help("write `kstack`");
                return c.fail(d);
            }
            dwarf = true;
            continue;
        }
        if let crate::parser::ast::ExprKind::Ident(name) = &arg.node
            && let Some(named) = crate::config::stack_mode(name)
        {
            if named == StackMode::BuildId && !user {
                let d = Diagnostic::error(arg.span, "kernel stacks have no build ids")
                    .help("write `kstack(raw)`");
                return c.fail(d);
            }
            mode = named;
            continue;
        }
        let Some(value) = c.integer_argument(call, n) else { return tree::Expr::error(call.span) };
        let Some(count) = value.constant().and_then(|n| i64::try_from(n).ok()) else {
            let d = Diagnostic::error(value.span, "the number of frames must be a constant");
            return c.fail(d);
        };
        if !(1..=1024).contains(&count) {
            let d = Diagnostic::error(value.span, "a stack has from 1 to 1024 frames");
            return c.fail(d);
        }
        limit = count;
    }
    if mode == StackMode::BuildId && !user {
        c.diags.push(
            Diagnostic::warning(Warning::KernelLacks, call.span, "kernel stacks have no build ids")
                .at("shown as plain addresses"),
        );
        mode = StackMode::Raw;
    }
    let limit = u32::try_from(limit).unwrap_or(1024);
    if dwarf && !unwindable(c, call, limit) {
        return tree::Expr::error(call.span);
    }
    let detail = Detail::Stack { user, dwarf, mode, limit };
    c.typed_with(call, vec![], Type::Stack { user, mode, limit }, detail)
}

/// Whether a stack can be unwound by DWARF; says so if not.
fn unwindable(c: &mut Checker<'_>, call: &Call<'_>, limit: u32) -> bool {
    if c.host.arch().name != "x86_64" {
        let reason = "stacks can be unwound by DWARF on x86-64 only".to_string();
        c.unavailable(call.builtin.name, reason, call.span);
        return false;
    }
    if limit > WALKED_FRAMES && !c.host.has(Feature::Loop) {
        let d = Diagnostic::error(call.span, "too many frames for this kernel")
            .note(format!(
                "without `bpf_loop` (Linux {}) it unwinds at most {WALKED_FRAMES}",
                Feature::Loop.info().since
            ))
            .help(format!("write `{}({WALKED_FRAMES})`", call.builtin.name));
        c.fail(d);
        return false;
    }
    if !c.unwinds.contains(&limit) {
        c.unwinds.push(limit);
    }
    true
}

fn lower_stack(l: &mut Lower<'_>, call: &Lowered<'_>, to: &Place, _: bool) {
    let Detail::Stack { user, dwarf, limit, .. } = call.detail else { return };
    let taken = match dwarf {
        true => l.unwind_stack(*limit),
        false => l.take_stack(*user, *limit),
    };
    l.store(to, 2, taken.count);
    l.store(&to.at(2), 2, Expr::Const(i64::from(*limit)));
    let pid = if *user { super::current_pid(l) } else { Expr::Const(0) };
    l.store(&to.at(4), 4, pid);
    l.store(&to.at(8), 8, taken.id);
}
