//! Functions on strings: their length, parts and order, and texts for numbers.

use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::diag::Diagnostic;
use crate::host::features::Feature;
use crate::ir::{BinaryOp as B, Expr, Place, StmtKind};
use crate::sema::Checker;
use crate::sema::lower::Lower;
use crate::sema::tree::{self, Detail, ExprKind};
use crate::types::Type;

/// Size of the texts that `strerror` and the like give.
const TEXT: u32 = 64;

/// What signals 1 to 31 mean (signal(7)), as strsignal(3) says it.
const SIGNALS: [&str; 31] = [
    "Hangup",
    "Interrupt",
    "Quit",
    "Illegal instruction",
    "Trace/breakpoint trap",
    "Aborted",
    "Bus error",
    "Floating point exception",
    "Killed",
    "User defined signal 1",
    "Segmentation fault",
    "User defined signal 2",
    "Broken pipe",
    "Alarm clock",
    "Terminated",
    "Stack fault",
    "Child exited",
    "Continued",
    "Stopped (signal)",
    "Stopped",
    "Stopped (tty input)",
    "Stopped (tty output)",
    "Urgent I/O condition",
    "CPU time limit exceeded",
    "File size limit exceeded",
    "Virtual timer expired",
    "Profiling timer expired",
    "Window changed",
    "I/O possible",
    "Power failure",
    "Bad system call",
];

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "strlen",
        usage: "strlen(s)",
        doc: "Number of bytes of a string before its NUL.",
        args: (1, 1),
        check: |c, call| match c.text_argument(call, 0) {
            Some(text) => match text.text() {
                Some(bytes) => constant(length(bytes), Type::UINT64, call),
                None => c.typed_with(call, vec![text], Type::UINT64, Detail::None),
            },
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Word(|l, call| match call.args.first() {
            Some(text) => l.text_length(text),
            None => Expr::Const(0),
        }),
        ..BASE
    },
    Builtin {
        name: "strcap",
        usage: "strcap(s)",
        doc: "Bytes that a string or array has room for; of a pointer, the length of the string there.",
        args: (1, 1),
        check: |c, call| {
            let value = match call.args.first() {
                Some(a) => c.expression(a).stored(),
                None => return tree::Expr::error(call.span),
            };
            match &value.ty {
                Type::Str(_) | Type::Array { .. } => {
                    constant(i128::from(value.ty.size()), Type::UINT64, call)
                }
                _ if value.is_error() => value,
                _ => {
                    let strlen = super::find("strlen").expect("bug: `strlen` is a builtin");
                    (strlen.check)(c, &Call { builtin: strlen, ..*call })
                }
            }
        },
        ..BASE
    },
    Builtin {
        name: "strstr",
        usage: "strstr(text, part)",
        doc: "Where a string first occurs in another, from 0; -1 if it does not.",
        args: (2, 2),
        check: |c, call| search(c, call, Type::int(4, true), |at| at),
        lower: Lowering::Word(|l, call| match call.args {
            [text, part] => l.find_text(text, part),
            _ => Expr::Const(-1),
        }),
        ..BASE
    },
    Builtin {
        name: "strcontains",
        usage: "strcontains(text, part)",
        doc: "Whether a string occurs in another.",
        args: (2, 2),
        check: |c, call| search(c, call, Type::Bool, |at| i128::from(at >= 0)),
        lower: Lowering::Word(|l, call| match call.args {
            [text, part] => l.contains_text(text, part),
            _ => Expr::Const(0),
        }),
        ..BASE
    },
    Builtin {
        name: "str_concat",
        usage: "str_concat(a, b)",
        doc: "Two strings, one behind the other.",
        args: (2, 2),
        check: |c, call| {
            let both = c.text_argument(call, 0).zip(c.text_argument(call, 1));
            let Some((a, b)) = both else { return tree::Expr::error(call.span) };
            let limit = u32::try_from(c.config.max_strlen).unwrap_or(u32::MAX);
            if let (Some(x), Some(y)) = (a.text(), b.text()) {
                let bytes = [x, y].concat();
                return c.string(&bytes, call.span);
            }
            // One NUL is enough for both.
            let size = (a.ty.size() + b.ty.size()).saturating_sub(1).clamp(1, limit);
            c.typed_with(call, vec![a, b], Type::Str(size), Detail::None)
        },
        lower: Lowering::Memory(|l, call, to, full| {
            if let [a, b] = call.args {
                l.concatenate(a, b, to, call.ty.size(), full);
            }
        }),
        ..BASE
    },
    Builtin {
        name: "strncmp",
        usage: "strncmp(a, b, n)",
        doc: "0 if the first n bytes of two strings are equal, else 1.",
        args: (3, 3),
        check: |c, call| {
            let list: Vec<tree::Expr> = call.args.iter().take(2).map(|a| c.expression(a)).collect();
            for value in &list {
                if value.is_error() {
                    return tree::Expr::error(call.span);
                }
                if !matches!(value.ty, Type::Str(_) | Type::Unknown) {
                    let d = Diagnostic::error(value.span, "`strncmp` compares strings")
                        .at(format!("this is `{}`", value.ty))
                        .help("read the string first: `str(…)`");
                    return c.fail(d);
                }
            }
            let Some(n) = c.literal_number(call, 2) else { return tree::Expr::error(call.span) };
            if let [a, b] = list.as_slice()
                && let (Some(a), Some(b)) = (a.text(), b.text())
            {
                let n = usize::try_from(n).unwrap_or(0);
                let head = |t: &[u8]| t.iter().copied().take(n).collect::<Vec<u8>>();
                let value = i128::from(head(a) != head(b));
                return tree::Expr::literal(value, call.span);
            }
            c.typed_with(call, list, Type::UINT64, Detail::Number(n))
        },
        lower: Lowering::Word(|l, call| {
            let ([a, b], Detail::Number(n)) = (call.args, call.detail) else {
                return Expr::Const(0);
            };
            let size = a.ty.size().min(b.ty.size()).min(u32::try_from(*n).unwrap_or(u32::MAX));
            if size == 0 {
                return Expr::Const(0);
            }
            let same = l.compare_strings(a, b, size);
            Expr::binary(B::Eq, same, Expr::Const(0))
        }),
        ..BASE
    },
    Builtin {
        name: "memcmp",
        usage: "memcmp(a, b, n)",
        doc: "0 if n bytes are equal, else the difference of the first two that are not.",
        args: (3, 3),
        check: check_memcmp,
        lower: Lowering::Word(lower_memcmp),
        ..BASE
    },
    Builtin {
        name: "strerror",
        usage: "strerror(errno)",
        doc: "Text of an error number.",
        args: (1, 1),
        check: |c, call| match c.integer_argument(call, 0) {
            Some(number) => c.typed_with(call, vec![number], Type::Str(TEXT), Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let texts: Vec<String> = (0..134).map(error_text).collect();
            text_table(l, call, &texts, to);
        }),
        ..BASE
    },
    Builtin {
        name: "syscall_name",
        usage: "syscall_name(nr)",
        doc: "Name of a system call number; empty if there is none.",
        args: (1, 1),
        check: |c, call| match c.integer_argument(call, 0) {
            Some(number) => c.typed_with(call, vec![number], Type::Str(TEXT), Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let calls: Vec<(&str, u32)> = crate::host::syscalls::all(l.host.arch()).collect();
            let count = calls.iter().map(|c| c.1).max().unwrap_or(0) as usize + 1;
            let mut texts = vec![String::new(); count];
            for (name, number) in calls {
                if let Some(text) = texts.get_mut(number as usize) {
                    *text = name.to_string();
                }
            }
            text_table(l, call, &texts, to);
        }),
        ..BASE
    },
    Builtin {
        name: "signal_name",
        usage: "signal_name(n)",
        doc: "What a signal means, such as `Killed`; empty for other numbers.",
        args: (1, 1),
        check: |c, call| match c.integer_argument(call, 0) {
            Some(number) => c.typed_with(call, vec![number], Type::Str(TEXT), Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let texts: Vec<String> =
                std::iter::once("").chain(SIGNALS).map(str::to_owned).collect();
            text_table(l, call, &texts, to);
        }),
        ..BASE
    },
    Builtin {
        name: "default_str_length",
        usage: "default_str_length",
        bare: true,
        doc: "Bytes of a string that `str()` gives without a length: `max_strlen`.",
        check: |c, call| tree::Expr::literal(i128::from(c.config.max_strlen), call.span),
        ..BASE
    },
];

fn constant(value: i128, ty: Type, call: &Call<'_>) -> tree::Expr {
    tree::Expr::new(ExprKind::Int(value), ty, call.span)
}

fn length(bytes: &[u8]) -> i128 {
    i128::try_from(bytes.len()).unwrap_or(0)
}

/// `strstr` and `strcontains`: what `result` makes of the place where one text
/// is in the other.
fn search(c: &mut Checker<'_>, call: &Call<'_>, ty: Type, result: fn(i128) -> i128) -> tree::Expr {
    let both = c.text_argument(call, 0).zip(c.text_argument(call, 1));
    let Some((text, part)) = both else { return tree::Expr::error(call.span) };
    match (text.text(), part.text()) {
        (_, Some([])) => return constant(result(0), ty, call),
        (Some(text), Some(part)) => {
            let at = text.windows(part.len()).position(|w| w == part);
            let at = at.and_then(|n| i128::try_from(n).ok()).unwrap_or(-1);
            return constant(result(at), ty, call);
        }
        _ => {}
    }
    if part.text().is_none() && !c.host.has(Feature::Loop) {
        let d = Diagnostic::error(part.span, "this kernel can only search for a literal")
            .at("this is known only when the probe runs")
            .note("it lacks the helper `bpf_loop` (Linux 5.17)");
        return c.fail(d);
    }
    c.typed_with(call, vec![text, part], ty, Detail::None)
}

fn check_memcmp(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let list: Vec<tree::Expr> = call.args.iter().take(2).map(|a| c.expression(a)).collect();
    let Some(n) = c.integer_argument(call, 2) else { return tree::Expr::error(call.span) };
    // Longer ranges behind pointers are of no use to a probe.
    let mut most = u32::try_from(c.config.max_strlen).unwrap_or(u32::MAX);
    for value in &list {
        match &value.ty {
            _ if value.is_error() => return tree::Expr::error(call.span),
            Type::Ptr { .. } | Type::Unknown => {}
            Type::Str(_) | Type::Array { .. } | Type::Struct(_) => {
                most = most.min(value.ty.size());
            }
            t if t.is_integer() && value.constant().is_none() => {}
            t => {
                let d = Diagnostic::error(value.span, "`memcmp` compares memory")
                    .at(format!("this is `{t}`"))
                    .help("give strings, arrays or pointers");
                return c.fail(d);
            }
        }
    }
    if let Some(k) = n.constant()
        && !(0..=i128::from(most)).contains(&k)
    {
        let d = Diagnostic::error(n.span, format!("`memcmp` compares from 0 to {most} bytes here"));
        return c.fail(d);
    }
    let mut args = list;
    args.push(n);
    c.typed_with(call, args, Type::int(4, true), Detail::Number(i64::from(most)))
}

fn lower_memcmp(l: &mut Lower<'_>, call: &Lowered<'_>) -> Expr {
    let ([a, b, n], Detail::Number(most)) = (call.args, call.detail) else {
        return Expr::Const(0);
    };
    let most = n.constant().and_then(|k| i64::try_from(k).ok()).unwrap_or(*most);
    let Ok(size @ 1..) = u32::try_from(most) else { return Expr::Const(0) };
    let n = l.argument_word(n);
    let n = l.clamp(n, size);
    let (x, y) = (l.temp("left", size), l.temp("right", size));
    super::memory::bytes_into(l, a, &x, size);
    super::memory::bytes_into(l, b, &y, size);
    l.difference(&x, &y, size, n)
}

/// Text of a Linux error number.
fn error_text(number: i32) -> String {
    match number {
        0 => "Success".to_string(),
        n => nix::errno::Errno::from_raw(n).desc().to_string(),
    }
}

/// Picks a text by a number; the empty text for others.
fn text_table(l: &mut Lower<'_>, call: &Lowered<'_>, texts: &[String], to: &Place) {
    let Some(number) = call.args.first() else { return };
    let mut table = Vec::new();
    // One empty text at the end, for numbers that have none.
    for text in texts.iter().map(String::as_str).chain([""]) {
        let mut cell: Vec<u8> = text.bytes().take(TEXT as usize - 1).collect();
        cell.resize(TEXT as usize, 0);
        table.append(&mut cell);
    }
    let count = u32::try_from(texts.len()).unwrap_or(u32::MAX - 1);
    let table = Place::rodata(l.shared.constant(table));
    let number = l.argument_word(number);
    let number = l.spill("number", number);
    let known = Expr::binary(B::ULt, number.clone(), Expr::Const(i64::from(count)));
    let index = Expr::Select {
        cond: Box::new(known),
        then: Box::new(number),
        els: Box::new(Expr::Const(i64::from(count))),
    };
    let from = table.indexed(index, TEXT, count + 1);
    l.emit(StmtKind::Copy { to: to.clone(), from, size: TEXT });
}
