//! What reaches the user, and the end of the run.

use super::memory::{JOIN_COUNT, JOIN_LENGTH};
use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::diag::{Diagnostic, Warning};
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Place, StmtKind};
use crate::plan::{Action, Cause, Conversion, ConversionKind, Format, Piece};
use crate::sema::Checker;
use crate::sema::format;
use crate::sema::lower::{Lower, Remote};
use crate::sema::tree::{self, Detail, ExprKind};
use crate::source::Span;
use crate::types::{Aggregation, Type};

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "printf",
        usage: "printf(\"format\", values…)",
        doc: "Prints formatted text; no newline is added.",
        args: (1, 128),
        effects: true,
        check: |c, call| formatted(c, call),
        lower: Lowering::Action(|l, call| send_format(l, call, Action::Printf)),
        ..BASE
    },
    Builtin {
        name: "errorf",
        usage: "errorf(\"format\", values…)",
        doc: "Prints formatted text as an error, with the place in the script.",
        args: (1, 128),
        effects: true,
        check: |c, call| formatted(c, call),
        lower: Lowering::Action(|l, call| send_format(l, call, Action::Errorf)),
        ..BASE
    },
    Builtin {
        name: "warnf",
        usage: "warnf(\"format\", values…)",
        doc: "Prints formatted text as a warning, with the place in the script.",
        args: (1, 128),
        effects: true,
        check: |c, call| formatted(c, call),
        lower: Lowering::Action(|l, call| send_format(l, call, Action::Warnf)),
        ..BASE
    },
    Builtin {
        name: "debugf",
        usage: "debugf(\"format\", values…)",
        doc: "Writes formatted text to the kernel's trace buffer, for debugging of scripts; at most three values, `%d`, `%u`, `%x`, `%p` and `%s`.",
        args: (1, 4),
        effects: true,
        check: check_debugf,
        lower: Lowering::Action(lower_debugf),
        ..BASE
    },
    Builtin {
        name: "system",
        usage: "system(\"command\", values…)",
        doc: "Runs a formatted command by `sh -c` and prints its output.",
        args: (1, 128),
        needs_unsafe: true,
        effects: true,
        check: |c, call| formatted(c, call),
        lower: Lowering::Action(|l, call| send_format(l, call, Action::System)),
        ..BASE
    },
    Builtin {
        name: "cat",
        usage: "cat(\"/path\", values…)",
        doc: "Prints the file of a formatted name, at most `max_cat_bytes` of it.",
        args: (1, 128),
        effects: true,
        check: |c, call| formatted(c, call),
        lower: Lowering::Action(|l, call| send_format(l, call, Action::Cat)),
        ..BASE
    },
    Builtin {
        name: "print",
        usage: "print(value), print(@m[, top[, div]])",
        doc: "Prints a value or a map; of a map the `top` largest, divided by `div`.",
        args: (1, 3),
        effects: true,
        check: check_print,
        lower: Lowering::Action(lower_print),
        ..BASE
    },
    Builtin {
        name: "join",
        usage: "join(argv[, \" \"])",
        doc: "Prints the strings of a `char **`, up to 16 of 1024 bytes.",
        args: (1, 2),
        effects: true,
        check: |c, call| {
            let separator = match call.args.get(1) {
                Some(_) => match c.literal_text(call, 1) {
                    Some(text) => text,
                    None => return tree::Expr::error(call.span),
                },
                None => " ".to_string(),
            };
            let Some(list) = c.address_argument(call, 0) else {
                return tree::Expr::error(call.span);
            };
            c.typed_with(call, vec![list], Type::Void, Detail::Text(separator))
        },
        lower: Lowering::Action(lower_join),
        ..BASE
    },
    Builtin {
        name: "exit",
        usage: "exit([code])",
        doc: "Ends the run after pending output, and this probe at once.",
        args: (0, 1),
        effects: true,
        leaves: true,
        check: |c, call| {
            let code = match call.args.first() {
                Some(_) => match c.integer_argument(call, 0) {
                    Some(code) => vec![code],
                    None => return tree::Expr::error(call.span),
                },
                None => vec![],
            };
            c.typed_with(call, code, Type::Void, Detail::None)
        },
        lower: Lowering::Action(|l, call| {
            let code = match call.args.first() {
                Some(code) => l.word_as(code, &Type::INT64),
                None => Expr::Const(0),
            };
            let code = l.spill("code", code);
            l.event_word(Action::Exit, code, &Type::INT64);
            let result = l.instance.context.result;
            l.emit(StmtKind::Return(Expr::Const(result)));
        }),
        ..BASE
    },
];

/// `printf` and its kin: the format and the values it takes.
pub(super) fn formatted(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let Some(format_at) = call.args.first() else { return tree::Expr::error(call.span) };
    let text = c.expression(format_at);
    let Some(bytes) = text.text() else {
        if text.is_error() {
            return text;
        }
        let d = Diagnostic::error(format_at.span, "the format must be a string literal")
            .help(format!("write `{}(\"%s\", …)`", call.builtin.name));
        return c.fail(d);
    };
    let format = match format::parse(bytes) {
        Ok(format) => format,
        Err(e) => {
            let d = Diagnostic::error(conversion_at(c, format_at.span, e.conversion), e.message);
            return c.fail(match e.help {
                Some(help) => d.help(help),
                None => d,
            });
        }
    };
    let values: Vec<tree::Expr> = call.args.iter().skip(1).map(|a| c.expression(a)).collect();
    if values.iter().any(tree::Expr::is_error) {
        return tree::Expr::error(call.span);
    }
    let wanted = format::conversions(&format).count();
    if wanted != values.len() {
        let (word, at, label) = if values.len() < wanted {
            let at = conversion_at(c, format_at.span, values.len());
            ("not enough", at, "no value is given for this")
        } else {
            let at = values.get(wanted).map_or(call.span, |v| v.span);
            ("too many", at, "nothing in the format shows this")
        };
        let d = Diagnostic::error(
            at,
            format!(
                "{word} arguments for format string ({} supplied, {wanted} expected)",
                values.len()
            ),
        );
        return c.fail(d.at(label));
    }
    for (n, (conversion, value)) in format::conversions(&format).zip(&values).enumerate() {
        let number = value.ty.is_integer()
            || matches!(value.ty, Type::Ptr { .. } | Type::Ksym | Type::Username | Type::Unknown);
        let buffer = matches!(value.ty, Type::Buffer(_) | Type::Unknown);
        let (fine, wants) = match conversion.kind {
            ConversionKind::Text => (value.ty != Type::Void, "a value"),
            ConversionKind::Bytes | ConversionKind::EscapedBytes | ConversionKind::HexBytes => {
                (buffer, "a buffer, as `buf()` gives it")
            }
            ConversionKind::Signed
            | ConversionKind::Unsigned
            | ConversionKind::Octal
            | ConversionKind::Hex
            | ConversionKind::UpperHex
            | ConversionKind::Char
            | ConversionKind::Pointer
            | ConversionKind::GfpFlags => (number, "a number"),
        };
        if !fine {
            let d = Diagnostic::error(value.span, format!("this conversion takes {wants}"))
                .at(format!("this is `{}`", value.ty))
                .label(conversion_at(c, format_at.span, n), "the conversion")
                .help("`%s` prints any value");
            return c.fail(d);
        }
    }
    c.typed_with(call, values, Type::Void, Detail::Format(format))
}

/// Where a conversion stands, or the whole format if it is no literal.
fn conversion_at(c: &Checker<'_>, format: Span, n: usize) -> Span {
    let start = format.start as usize;
    let place = format::place(c.text_at(format), n);
    place.map_or(format, |p| Span::new(format.file, start + p.start, start + p.end))
}

fn send_format(l: &mut Lower<'_>, call: &Lowered<'_>, action: fn(Format) -> Action) {
    let Detail::Format(format) = call.detail else { return };
    l.event(action(format.clone()), call.args);
}

fn check_print(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    use crate::parser::ast::ExprKind as E;
    let Some(first) = call.args.first() else { return tree::Expr::error(call.span) };
    if let Some(map) = c.whole_map(call, 0) {
        if c.in_loop() {
            let name = c.map(map).name.clone();
            let d = Diagnostic::warning(
                Warning::MapPrintedInLoop,
                call.span,
                format!("all of `@{name}` is printed in each round"),
            );
            c.diags.push(
                d.help(format!("print it after the loop, or one element: `print(@{name}[key])`")),
            );
        }
        let mut numbers = Vec::new();
        for (n, what) in [(1, "`top`"), (2, "`div`")] {
            if let Some(e) = call.args.get(n) {
                let what = format!("{what} of `print`");
                match c.constant_in(e, 0, i64::MAX, &what) {
                    Some(n) => numbers.push(n),
                    None => return tree::Expr::error(call.span),
                }
            }
        }
        if let Some((Aggregation::Stats { .. }, _)) = &c.map(map).aggregation
            && !numbers.is_empty()
        {
            c.diags.push(Diagnostic::warning(
                Warning::IgnoredArgument,
                call.span,
                "`top` and `div` have no effect on `stats`",
            ));
        }
        return c.typed_with(call, vec![], Type::Void, Detail::Map { map, numbers });
    }
    if let E::Map { name, key: Some(key) } = &first.node {
        let map = c.map_of(name, first.span);
        if let Some((aggregation, at)) = c.map(map).aggregation.clone() {
            if matches!(
                aggregation,
                Aggregation::Hist { .. }
                    | Aggregation::Lhist { .. }
                    | Aggregation::Stats { .. }
                    | Aggregation::Tseries { .. }
            ) {
                let d = Diagnostic::error(
                    first.span,
                    format!("a single `{}` value cannot be printed", aggregation.function()),
                )
                .label(at, "assigned here")
                .help(format!("print the whole map: `print(@{name})`"));
                return c.fail(d);
            }
            // Read by the run side, so that it works on every kernel.
            let Some(Some(key)) = c.key_of(map, Some(key), first.span) else {
                return tree::Expr::error(call.span);
            };
            let detail = Detail::Map { map, numbers: vec![] };
            return c.typed_with(call, vec![key], Type::Void, detail);
        }
    }
    if call.args.len() > 1 {
        let d = Diagnostic::error(call.span, "`top` and `div` belong to whole maps")
            .help("write `print(@m, top, div)`");
        return c.fail(d);
    }
    let value = c.expression(first);
    if value.is_error() {
        return value;
    }
    if value.ty == Type::Void {
        let d = Diagnostic::error(value.span, "there is nothing to print").at("this has no value");
        return c.fail(d);
    }
    c.typed_with(call, vec![value], Type::Void, Detail::None)
}

fn lower_print(l: &mut Lower<'_>, call: &Lowered<'_>) {
    match (call.detail, call.args) {
        (Detail::Map { map, numbers }, []) => {
            let number =
                |n: usize| numbers.get(n).and_then(|n| u64::try_from(*n).ok()).unwrap_or(0);
            let map = l.plan_map(*map);
            let action = Action::PrintMap { map, top: number(0), div: number(1) };
            l.event(action, &[]);
        }
        (Detail::Map { map, .. }, [key]) => {
            // The run side looks the key up, so it must be complete.
            let script_map = l.script_map(*map);
            let place = l.key(&script_map, Some(key));
            let map = l.plan_map(*map);
            let ty = script_map.key.unwrap_or(Type::INT64);
            l.event_memory(Action::PrintMapElement { map }, place, &ty);
        }
        (_, args) => l.event(Action::Print, args),
    }
}

fn lower_join(l: &mut Lower<'_>, call: &Lowered<'_>) {
    let (Some(list), Detail::Text(separator)) = (call.args.first(), call.detail) else { return };
    let base = l.argument_word(list);
    let base = l.spill("argv", base);
    let space = list.ty.space();
    // Too large for one event on a small buffer, but simple: a string each,
    // read until the pointer is null.
    let mut fields = Vec::new();
    let mut pointers = Vec::new();
    let going = l.local("going");
    l.set(going, Expr::Const(1));
    for n in 0..JOIN_COUNT {
        let remote = Remote { base: base.clone(), offset: n * 8, space };
        let pointer = l.local("arg");
        let cond = Expr::binary(B::Ne, Expr::Local(going), Expr::Const(0));
        l.when(cond, |l| {
            let word = l.read_word(&remote, &Type::UINT64);
            l.set(pointer, word);
            l.set(going, Expr::binary(B::Ne, Expr::Local(pointer), Expr::Const(0)));
        });
        pointers.push(pointer);
        fields.push(Type::Str(JOIN_LENGTH));
    }
    l.when(Expr::binary(B::Ne, Expr::Local(going), Expr::Const(0)), |l| {
        let next = Remote { base: base.clone(), offset: JOIN_COUNT * 8, space };
        let next = l.read_word(&next, &Type::UINT64);
        l.when(Expr::binary(B::Ne, next, Expr::Const(0)), |l| {
            l.quiet_loss(Cause::ArgumentsCut { limit: JOIN_COUNT }, None);
        });
    });
    let action = Action::Join { separator: separator.clone() };
    l.event_strings(action, &pointers, JOIN_LENGTH, space);
}

fn check_debugf(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let checked = formatted(c, call);
    let ExprKind::Call { args, detail: Detail::Format(format), .. } = checked.kind.clone() else {
        return checked;
    };
    for (n, conversion) in format::conversions(&format).enumerate() {
        let plain = *conversion
            == (Conversion { bytes: conversion.bytes, kind: conversion.kind, ..format::PLAIN });
        let known = matches!(
            conversion.kind,
            ConversionKind::Signed
                | ConversionKind::Unsigned
                | ConversionKind::Hex
                | ConversionKind::Pointer
                | ConversionKind::Text
        );
        if !plain || !known {
            let at = call.args.first().map_or(call.span, |a| conversion_at(c, a.span, n));
            let d = Diagnostic::error(at, "`debugf` cannot format this")
                .note("the kernel knows `%d`, `%u`, `%x`, `%p` and `%s`, without width and flags")
                .help("use `printf`");
            return c.fail(d);
        }
    }
    let mut texts = format::conversions(&format).zip(&args);
    if let Some((_, value)) = texts.find(|(conversion, value)| {
        conversion.kind == ConversionKind::Text && !matches!(value.ty, Type::Str(_) | Type::Unknown)
    }) {
        let d = Diagnostic::error(value.span, "`%s` of `debugf` takes a string")
            .at(format!("this is `{}`", value.ty));
        return c.fail(d);
    }
    c.diags.push(
        Diagnostic::warning(Warning::Debugf, call.span, "`debugf` is for debugging only")
            .note("it is slow, and all of the system writes to the same buffer")
            .help("use `printf`"),
    );
    checked
}

fn lower_debugf(l: &mut Lower<'_>, call: &Lowered<'_>) {
    let Detail::Format(format) = call.detail else { return };
    let mut text = String::new();
    let mut values = Vec::new();
    let mut given = call.args.iter();
    for piece in &format.pieces {
        let conversion = match piece {
            Piece::Text(plain) => {
                text += &plain.replace('%', "%%");
                continue;
            }
            Piece::Value(conversion) => conversion,
        };
        let Some(value) = given.next() else { break };
        let long = if conversion.bytes == 8 { "ll" } else { "" };
        text += &match conversion.kind {
            ConversionKind::Text => "%s".to_owned(),
            ConversionKind::Unsigned => format!("%{long}u"),
            // The kernel's own `%p` would hide the address.
            ConversionKind::Pointer => "0x%llx".to_owned(),
            ConversionKind::Hex => format!("%{long}x"),
            _ => format!("%{long}d"),
        };
        values.push(match conversion.kind {
            ConversionKind::Text => Expr::Address(l.place(value)),
            _ => {
                let signed = conversion.kind == ConversionKind::Signed;
                let bytes =
                    if conversion.kind == ConversionKind::Pointer { 8 } else { conversion.bytes };
                let word = l.word_as(value, &Type::int(bytes, signed));
                l.spill("value", word)
            }
        });
    }
    values.resize(3, Expr::Const(0));
    let mut bytes = text.into_bytes();
    bytes.push(0);
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let format = Place::rodata(l.shared.constant(bytes));
    let mut args = vec![Arg::Address(format), Arg::Value(Expr::Const(size))];
    args.extend(values.into_iter().map(Arg::Value));
    l.checked_call(Helper::TracePrintk, args);
}
