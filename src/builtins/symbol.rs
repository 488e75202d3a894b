//! Addresses of symbols, of the kernel and of traced binaries.

use std::path::Path;

use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::diag::Diagnostic;
use crate::host::elf::{Binary, ElfKind};
use crate::ir::{BinaryOp as B, Expr, Helper, Place};
use crate::plan::portable::Lookup;
use crate::plan::{Mechanism, Param};
use crate::sema::Checker;
use crate::sema::lower::{Lower, Remote};
use crate::sema::tree::{self, Detail, ExprKind};
use crate::types::{Space, Type};

const KERNEL_WORD: Type = Type::Int { size: 8, signed: false, space: Space::Kernel };

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "kaddr",
        usage: "kaddr(\"jiffies\")",
        doc: "Address of a kernel symbol.",
        args: (1, 1),
        check: |c, call| {
            let Some(name) = c.literal_text(call, 0) else { return tree::Expr::error(call.span) };
            if c.options.portable {
                let span = call.span;
                return c.lookup(Lookup::KernelSymbol { name, span }, KERNEL_WORD, span);
            }
            match c.host.kernel_symbol(&name) {
                Some(symbol) => tree::Expr::new(
                    ExprKind::Int(i128::from(symbol.address)),
                    Type::Int { size: 8, signed: false, space: Space::Kernel },
                    call.span,
                ),
                None => {
                    let d = no_symbol(c, call, &name);
                    c.fail(d)
                }
            }
        },
        ..BASE
    },
    Builtin {
        name: "percpu_kaddr",
        usage: "percpu_kaddr(\"runqueues\"[, cpu])",
        doc: "Address of a kernel variable that every CPU has, on this CPU or another; 0 where there is no such CPU.",
        args: (1, 2),
        check: check_percpu,
        lower: Lowering::Word(lower_percpu),
        ..BASE
    },
    Builtin {
        name: "uaddr",
        usage: "uaddr(\"environ\")",
        doc: "Address of a symbol of the probed binary, in the current process; a pointer to as many bytes as the symbol has, of 1, 2 and 4, else 8.",
        args: (1, 1),
        check: check_uaddr,
        lower: Lowering::Word(lower_uaddr),
        ..BASE
    },
    Builtin {
        name: "elf_is_exe",
        usage: "elf_is_exe",
        doc: "Whether the probed binary is a program that is always loaded at the same address.",
        bare: true,
        check: |c, call| match binary(c, call) {
            Some((_, binary)) => {
                let fixed = i128::from(binary.kind() == ElfKind::Fixed);
                tree::Expr::new(ExprKind::Int(fixed), Type::Bool, call.span)
            }
            None => tree::Expr::error(call.span),
        },
        ..BASE
    },
    Builtin {
        name: "elf_info",
        usage: "elf_info",
        doc: "Inode number of the probed binary.",
        bare: true,
        check: |c, call| match binary(c, call) {
            Some((path, _)) => {
                let inode = c.host.inode(&path).unwrap_or(0);
                tree::Expr::new(ExprKind::Int(i128::from(inode)), Type::UINT64, call.span)
            }
            None => tree::Expr::error(call.span),
        },
        ..BASE
    },
];

/// The binary that the probe at hand is in; says so if there is none.
fn binary(c: &mut Checker<'_>, call: &Call<'_>) -> Option<(String, Binary)> {
    let mut paths: Vec<&str> =
        c.instance.attach.iter().filter_map(|a| a.mechanism.binary()).collect();
    paths.dedup();
    let path = match paths.as_slice() {
        [path] => (*path).to_owned(),
        [] => {
            let reason = "only probes in user code have a binary; use it in a `uprobe`".to_owned();
            c.unavailable(call.builtin.name, reason, call.span);
            return None;
        }
        [first, .., last] => {
            let reason = format!(
                "the probe is in several binaries, `{first}` and `{last}`; write a probe for each"
            );
            c.unavailable(call.builtin.name, reason, call.span);
            return None;
        }
    };
    match Binary::open(&c.host.path(Path::new(&path))) {
        Ok(binary) => Some((path, binary)),
        Err(reason) => {
            let d = Diagnostic::error(call.span, format!("`{path}` cannot be read")).note(reason);
            c.fail(d);
            None
        }
    }
}

/// A kernel symbol that is not there.
fn no_symbol(c: &Checker<'_>, call: &Call<'_>, name: &str) -> Diagnostic {
    let at = call.args.first().map_or(call.span, |a| a.span);
    let d = Diagnostic::error(at, format!("the kernel has no symbol `{name}`"));
    match c.host.nearest_kernel_symbol(name) {
        Some(near) => d.did_you_mean(at, &format!("\"{near}\"")),
        None => d.note(
            "as listed in /proc/kallsyms; addresses there may be hidden by the sysctl \
             kernel.kptr_restrict",
        ),
    }
}

fn check_uaddr(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let Some(name) = c.literal_text(call, 0) else { return tree::Expr::error(call.span) };
    let Some((path, binary)) = binary(c, call) else { return tree::Expr::error(call.span) };
    let Some((address, size)) = binary.symbol(&name) else {
        let at = call.args.first().map_or(call.span, |a| a.span);
        let d = Diagnostic::error(at, format!("`{path}` has no symbol `{name}`"))
            .note("neither in its own tables nor in a file of debug symbols");
        return c.fail(d);
    };
    let width = match size {
        1 | 2 | 4 => u8::try_from(size).unwrap_or(8),
        _ => 8,
    };
    let space = Space::User;
    let to = Type::Int { size: width, signed: false, space };
    let ty = Type::ptr(to, space);
    let word = Type::Int { size: 8, signed: false, space };
    let at = tree::Expr::new(ExprKind::Int(i128::from(address)), word, call.span);
    let numbers = match binary.kind() {
        ElfKind::Fixed => {
            return tree::Expr::new(ExprKind::Cast(Box::new(at)), ty, call.span);
        }
        // Its code starts where the kernel says that of the process does.
        ElfKind::Program if c.host.btf().is_ok() => {
            let mut start = c.current_task(call);
            for name in ["mm", "start_code"] {
                start = c.named_member(start, name, call.span);
            }
            if start.is_error() {
                return start;
            }
            let distance = i64::try_from(address).unwrap_or(0)
                - i64::try_from(binary.code_start()).unwrap_or(0);
            return c.typed_with(call, vec![start], ty, Detail::Number(distance));
        }
        // The probe's own address tells where the binary is.
        ElfKind::Program | ElfKind::Library => {
            if let Err(reason) = &c.instance.context.func {
                let reason = reason.clone();
                return c.unavailable("uaddr", reason, call.span);
            }
            let offsets = c.instance.attach.iter().flat_map(|a| match &a.mechanism {
                Mechanism::Uprobe { offset, .. } => vec![*offset],
                Mechanism::UprobeMulti { offsets, .. } => offsets.clone(),
                _ => Vec::new(),
            });
            let places: Option<Vec<u64>> = offsets.map(|o| binary.address_of(o)).collect();
            let Some(places) = places.filter(|p| !p.is_empty()) else {
                let reason = "the address of the probe is not known".to_owned();
                return c.unavailable("uaddr", reason, call.span);
            };
            let distance = |p: u64| i64::try_from(address.wrapping_sub(p)).ok();
            let signed = |p: u64| distance(p).unwrap_or(address.wrapping_sub(p).cast_signed());
            places.into_iter().map(signed).collect()
        }
    };
    c.typed_with(call, vec![], ty, Detail::Numbers(numbers))
}

fn lower_uaddr(l: &mut Lower<'_>, call: &Lowered<'_>) -> Expr {
    match (call.detail, call.args) {
        (Detail::Number(distance), [start]) => {
            let start = l.argument_word(start);
            Expr::binary(B::Add, start, Expr::Const(*distance))
        }
        (Detail::Numbers(distances), _) => {
            let here = super::context::function_address(l);
            let distance = match distances.as_slice() {
                [only] => Expr::Const(*only),
                list => {
                    let table = l.cells(list.iter().map(|d| d.cast_unsigned()), 8);
                    let table = Place::rodata(l.shared.constant(table));
                    let number = l.probe_number();
                    let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
                    Expr::load(table.indexed(number, 8, count), 8, true)
                }
            };
            Expr::binary(B::Add, here, distance)
        }
        _ => Expr::Const(0),
    }
}

fn check_percpu(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let Some(name) = c.literal_text(call, 0) else { return tree::Expr::error(call.span) };
    let cpu = match call.args.get(1) {
        Some(_) => match c.integer_argument(call, 1) {
            Some(cpu) => vec![cpu],
            None => return tree::Expr::error(call.span),
        },
        None => vec![],
    };
    if c.options.portable {
        let mut words = Vec::new();
        for name in [name.as_str(), "__per_cpu_offset"] {
            let lookup = Lookup::KernelSymbol { name: name.to_owned(), span: call.span };
            words.push(c.lookup(lookup, KERNEL_WORD, call.span));
        }
        words.extend(cpu);
        return c.typed_with(call, words, KERNEL_WORD, Detail::None);
    }
    let address = |name: &str| c.host.kernel_symbol(name).map(|s| s.address);
    let Some(at) = address(&name) else {
        let d = no_symbol(c, call, &name);
        return c.fail(d);
    };
    let section = address("__per_cpu_start").zip(address("__per_cpu_end"));
    if section.is_some_and(|(start, end)| !(start..end).contains(&at)) {
        let d = Diagnostic::error(call.span, format!("`{name}` is not a variable of every CPU"))
            .help(format!("write `kaddr(\"{name}\")`"));
        return c.fail(d);
    }
    let Some(offsets) = address("__per_cpu_offset").zip(section) else {
        let d =
            Diagnostic::error(call.span, "this kernel does not say where variables of CPUs are")
                .note("/proc/kallsyms lacks `__per_cpu_offset`");
        return c.fail(d);
    };
    let numbers = vec![at.cast_signed(), offsets.0.cast_signed()];
    c.typed_with(call, cpu, KERNEL_WORD, Detail::Numbers(numbers))
}

fn lower_percpu(l: &mut Lower<'_>, call: &Lowered<'_>) -> Expr {
    let (symbol, offsets, cpu) = match (call.detail, call.args) {
        (Detail::Numbers(numbers), cpu) => {
            let [symbol, offsets] = numbers.as_slice() else { return Expr::Const(0) };
            (Expr::Const(*symbol), Expr::Const(*offsets), cpu.first())
        }
        // Of an object for several kernels.
        (_, [symbol, offsets, cpu @ ..]) => {
            (l.argument_word(symbol), l.argument_word(offsets), cpu.first())
        }
        _ => return Expr::Const(0),
    };
    let address = |l: &mut Lower<'_>, cpu: Expr| {
        let distance = Expr::binary(B::Shl, cpu, Expr::Const(3));
        let base = Expr::binary(B::Add, offsets.clone(), distance);
        let remote = Remote { base, offset: 0, space: Space::Kernel };
        let offset = l.read_word(&remote, &Type::UINT64);
        Expr::binary(B::Add, symbol.clone(), offset)
    };
    let Some(cpu) = cpu else {
        let cpu = l.call(Helper::GetSmpProcessorId, vec![]);
        return address(l, cpu);
    };
    let cpu = l.argument_word(cpu);
    let cpu = l.spill("cpu", cpu);
    let result = l.local("address");
    l.set(result, Expr::Const(0));
    let count = l.shared.param(Param::CpuCount);
    let there = Expr::binary(B::ULt, cpu.clone(), count);
    l.when(there, |l| {
        let word = address(l, cpu);
        l.set(result, word);
    });
    Expr::Local(result)
}
