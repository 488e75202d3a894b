//! Strings, bytes and addresses in memory.

use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::config::Config;
use crate::diag::Diagnostic;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Place, StmtKind};
use crate::sema::Checker;
use crate::sema::lower::{Lower, Remote, Val};
use crate::sema::tree::{self, Detail, ExprKind};
use crate::types::{Space, Type};

/// Size of the texts that `strerror` and the like give.
const TEXT: u32 = 64;

/// Longest argument of `join`, and how many there are.
pub(super) const JOIN_LENGTH: u32 = 1024;
pub(super) const JOIN_COUNT: u32 = 16;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "str",
        usage: "str(p[, n])",
        doc: "The string at an address, at most n bytes with its NUL.",
        args: (1, 2),
        check: check_str,
        lower: Lowering::Memory(|l, call, to, full| {
            let Some(pointer) = call.args.first() else { return };
            let size = call.ty.size();
            let remote = address_of(l, pointer);
            if full {
                l.emit(StmtKind::Zero { to: to.clone(), size });
            }
            let length = match call.args.get(1) {
                None => Expr::Const(i64::from(size)),
                Some(n) => {
                    let n = l.argument_word(n);
                    let n = l.spill("length", n);
                    if !full {
                        // Nothing is written for a length of zero.
                        l.emit(StmtKind::Store { to: to.clone(), size: 1, value: Expr::Const(0) });
                    }
                    l.clamp(n, size)
                }
            };
            let helper = match remote.space {
                Space::User => Helper::ProbeReadUserStr,
                Space::Kernel | Space::None => Helper::ProbeReadKernelStr,
            };
            let marks = call.args.len() == 1 && marks_cut(l.config, size);
            let address = match Lower::address(&remote) {
                address if marks => l.spill("from", address),
                address => address,
            };
            let args = vec![
                Arg::Address(to.clone()),
                Arg::size(length, size),
                Arg::Value(address.clone()),
            ];
            if !marks {
                l.checked_call(helper, args);
                return;
            }
            // The helper puts its NUL even where it cuts. Overwritten by what the string has
            // there, it marks the cut; where the string just fits, that is a NUL too.
            let read = l.checked_result(helper, args);
            let whole = Expr::binary(B::Eq, read, Expr::Const(i64::from(size)));
            l.when(whole, |l| {
                let last = Expr::binary(B::Add, address, Expr::Const(i64::from(size) - 1));
                let helper = match remote.space {
                    Space::User => Helper::ProbeReadUser,
                    Space::Kernel | Space::None => Helper::ProbeReadKernel,
                };
                let args = vec![
                    Arg::Address(to.clone().at(size - 1)),
                    Arg::Value(Expr::Const(1)),
                    Arg::Value(last),
                ];
                l.checked_call(helper, args);
            });
        }),
        ..BASE
    },
    Builtin {
        name: "buf",
        usage: "buf(p, n)",
        doc: "n bytes at an address; of an array all of it.",
        args: (1, 2),
        check: check_buf,
        lower: Lowering::Memory(lower_buf),
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
        name: "bswap",
        usage: "bswap(n)",
        doc: "The same number with its bytes in reverse order.",
        args: (1, 1),
        check: |c, call| {
            let Some(value) = c.integer_argument(call, 0) else {
                return tree::Expr::error(call.span);
            };
            let size = u8::try_from(value.ty.size()).unwrap_or(8);
            let ty = Type::int(size, false);
            if let Some(n) = value.constant() {
                let bytes = n.to_le_bytes();
                let swapped = bytes
                    .iter()
                    .take(usize::from(size))
                    .fold(0i128, |sum, b| (sum << 8) | i128::from(*b));
                return tree::Expr::new(ExprKind::Int(swapped), ty, call.span);
            }
            c.typed_with(call, vec![value], ty, Detail::None)
        },
        lower: Lowering::Word(|l, call| {
            let Some(value) = call.args.first() else { return Expr::Const(0) };
            let word = l.word_as(value, call.ty);
            match call.ty.size() {
                1 => word,
                n => {
                    let bits = u8::try_from(n * 8).unwrap_or(64);
                    Expr::ByteSwap { value: Box::new(word), bits }
                }
            }
        }),
        ..BASE
    },
    Builtin {
        name: "ntop",
        usage: "ntop([af, ]addr)",
        doc: "An IPv4 or IPv6 address as text, made when printed.",
        args: (1, 2),
        check: check_ntop,
        lower: Lowering::Memory(lower_ntop),
        ..BASE
    },
    Builtin {
        name: "pton",
        usage: "pton(\"127.0.0.1\")",
        doc: "The bytes of an IPv4 or IPv6 address in text.",
        args: (1, 1),
        check: |c, call| {
            let Some(text) = c.literal_text(call, 0) else { return tree::Expr::error(call.span) };
            let bytes = match text.parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(a)) => a.octets().to_vec(),
                Ok(std::net::IpAddr::V6(a)) => a.octets().to_vec(),
                Err(_) => {
                    let d = Diagnostic::error(call.span, format!("`{text}` is no address"))
                        .help("write one like `127.0.0.1` or `::1`");
                    return c.fail(d);
                }
            };
            let len = u32::try_from(bytes.len()).unwrap_or(16);
            let text = tree::Expr::new(ExprKind::Str(bytes), Type::Str(len), call.span);
            let ty = Type::Array { of: Box::new(Type::int(1, false)), len };
            tree::Expr::new(ExprKind::Cast(Box::new(text)), ty, call.span)
        },
        ..BASE
    },
    Builtin {
        name: "macaddr",
        usage: "macaddr(p)",
        doc: "Six bytes as a hardware address.",
        args: (1, 1),
        check: |c, call| {
            let value = match call.args.first() {
                Some(a) => c.expression(a),
                None => return tree::Expr::error(call.span),
            };
            let fine = match &value.ty {
                Type::Str(n) => *n >= 6 && value.text().is_none(),
                Type::Array { .. } => value.ty.size() >= 6,
                Type::Ptr { .. } | Type::Unknown => true,
                t => t.is_integer(),
            };
            if value.is_error() || !fine {
                if !value.is_error() {
                    let d = Diagnostic::error(value.span, "`macaddr` takes six bytes")
                        .at(format!("this is `{}`", value.ty));
                    c.fail(d);
                }
                return tree::Expr::error(call.span);
            }
            c.typed_with(call, vec![value], Type::Mac, Detail::None)
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let Some(value) = call.args.first() else { return };
            bytes_into(l, value, to, 6);
        }),
        ..BASE
    },
];

/// Whether a string that is cut at this size says so when it is printed. At the limit that
/// holds without a setting none does: that is how other tracers of this language print.
fn marks_cut(config: &Config, size: u32) -> bool {
    u64::from(size) == config.max_strlen && config.max_strlen < Config::default().max_strlen
}

/// Where the bytes lie that an argument is or points to.
fn address_of(l: &mut Lower<'_>, e: &tree::Expr) -> Remote {
    if e.ty.is_scalar() {
        let base = l.argument_word(e);
        return Remote { base, offset: 0, space: e.ty.space() };
    }
    match l.value(e) {
        Val::Remote(remote) => remote,
        // Our own memory is kernel memory.
        Val::Memory(place) => {
            Remote { base: Expr::Address(place), offset: 0, space: Space::Kernel }
        }
        Val::Word(_) | Val::Void => unreachable!("bug: the type lives in memory"),
    }
}

/// Copies a fixed number of bytes that an argument is or points to.
fn bytes_into(l: &mut Lower<'_>, e: &tree::Expr, to: &Place, size: u32) {
    if e.ty.is_scalar() {
        let base = l.argument_word(e);
        let remote = Remote { base, offset: 0, space: e.ty.space() };
        return l.read(&remote, to, size);
    }
    match l.value(e) {
        Val::Remote(remote) => l.read(&remote, to, size),
        Val::Memory(from) => l.emit(StmtKind::Copy { to: to.clone(), from, size }),
        Val::Word(_) | Val::Void => unreachable!("bug: the type lives in memory"),
    }
}

fn check_str(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    use crate::parser::ast::{BinaryOp, ExprKind as E};
    // `str($1)`, `str($1, n)` and `str($1 + n)` are the parameter's text.
    let param = call.args.first().and_then(|a| match &a.node {
        E::Param(n) => Some((*n, 0)),
        E::Binary { op: BinaryOp::Add, left, right } => match (&left.node, &right.node) {
            (E::Param(n), E::Int(skip)) => Some((*n, usize::try_from(*skip).unwrap_or(0))),
            _ => None,
        },
        _ => None,
    });
    if let Some((n, skip)) = param {
        let text = c.param_text(n, call.span);
        let mut bytes: Vec<u8> = text.into_bytes().into_iter().skip(skip).collect();
        if call.args.len() > 1 {
            let Some(n) = c.literal_number(call, 1) else { return tree::Expr::error(call.span) };
            bytes.truncate(usize::try_from(n).unwrap_or(0));
        }
        let size = u32::try_from(bytes.len() + 1).unwrap_or(u32::MAX);
        return tree::Expr::new(ExprKind::Str(bytes), Type::Str(size), call.span);
    }
    let value = match call.args.first() {
        Some(a) => c.expression(a),
        None => return tree::Expr::error(call.span),
    };
    if value.is_error() {
        return tree::Expr::error(call.span);
    }
    let fine = match &value.ty {
        Type::Str(_) | Type::Array { .. } | Type::Ptr { .. } | Type::Unknown => true,
        t => t.is_integer(),
    };
    if !fine {
        let d = Diagnostic::error(value.span, "`str` takes an address")
            .at(format!("this is `{}`", value.ty));
        return c.fail(d);
    }
    let most = c.config.max_strlen;
    let limit = u32::try_from(most).unwrap_or(1024);
    let own = match &value.ty {
        Type::Str(n) => (*n).min(limit),
        Type::Array { .. } => value.ty.size().saturating_add(1).min(limit),
        _ => limit,
    };
    if call.args.len() < 2 {
        return c.typed_with(call, vec![value], Type::Str(own.max(1)), Detail::None);
    }
    let Some(n) = c.integer_argument(call, 1) else { return tree::Expr::error(call.span) };
    match n.constant() {
        Some(k) if k < 0 => {
            let d = Diagnostic::error(n.span, "a length is not negative");
            c.fail(d)
        }
        Some(k) => {
            let room = i128::from(limit) - 1;
            if k > room {
                c.diags.push(
                    Diagnostic::warning(n.span, format!("a string has at most {room} bytes here"))
                        .at("cut to that")
                        .help("raise `max_strlen` in a config block"),
                );
            }
            let k = u32::try_from(k.min(room)).unwrap_or(0);
            // n bytes are read, the NUL included; one more marks a cut.
            let kept = tree::Expr::literal(i128::from(k), n.span);
            c.typed_with(call, vec![value, kept], Type::Str(k + 1), Detail::None)
        }
        None => c.typed_with(call, vec![value, n], Type::Str(limit), Detail::None),
    }
}

fn check_buf(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let value = match call.args.first() {
        Some(a) => c.expression(a),
        None => return tree::Expr::error(call.span),
    };
    if value.is_error() {
        return tree::Expr::error(call.span);
    }
    let limit = u32::try_from(c.config.max_strlen).unwrap_or(1024).saturating_sub(4).max(1);
    let own = match &value.ty {
        Type::Array { .. } | Type::Str(_) => Some(value.ty.size()),
        Type::Ptr { .. } | Type::Unknown => None,
        t if t.is_integer() => None,
        t => {
            let d = Diagnostic::error(value.span, "`buf` takes an address or an array")
                .at(format!("this is `{t}`"));
            return c.fail(d);
        }
    };
    if call.args.len() < 2 {
        return match own {
            Some(n) => {
                let n = n.min(limit);
                let length = tree::Expr::literal(i128::from(n), call.span);
                c.typed_with(call, vec![value, length], Type::Buffer(n), Detail::None)
            }
            None => {
                let d = Diagnostic::error(call.span, "`buf` needs a length for a pointer")
                    .help("write `buf(p, n)`");
                c.fail(d)
            }
        };
    }
    let Some(n) = c.integer_argument(call, 1) else { return tree::Expr::error(call.span) };
    let room = match n.constant() {
        Some(k) if k < 0 => {
            return c.fail(Diagnostic::error(n.span, "a length is not negative"));
        }
        Some(k) => u32::try_from(k).unwrap_or(u32::MAX).min(limit),
        None => limit,
    };
    let room = own.map_or(room, |own| room.min(own)).max(1);
    c.typed_with(call, vec![value, n], Type::Buffer(room), Detail::None)
}

fn lower_buf(l: &mut Lower<'_>, call: &Lowered<'_>, to: &Place, full: bool) {
    let [value, n] = call.args else { return };
    let Type::Buffer(room) = call.ty else { return };
    if full {
        l.emit(StmtKind::Zero { to: to.clone(), size: call.ty.size() });
    }
    let remote = address_of(l, value);
    let n = l.argument_word(n);
    let n = l.spill("length", n);
    let n = l.clamp(n, *room);
    l.store(to, 4, n.clone());
    let helper = match remote.space {
        Space::User => Helper::ProbeReadUser,
        Space::Kernel | Space::None => Helper::ProbeReadKernel,
    };
    let args =
        vec![Arg::Address(to.at(4)), Arg::size(n, *room), Arg::Value(Lower::address(&remote))];
    l.checked_call(helper, args);
}

fn check_ntop(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let list: Vec<tree::Expr> = call.args.iter().map(|a| c.expression(a)).collect();
    if list.iter().any(tree::Expr::is_error) {
        return tree::Expr::error(call.span);
    }
    let Some(address) = list.last() else { return tree::Expr::error(call.span) };
    let fine = match &address.ty {
        Type::Array { .. } | Type::Str(_) => matches!(address.ty.size(), 4 | 16),
        Type::Struct(s) => matches!(s.size, 4 | 16),
        Type::Unknown => true,
        t => t.is_integer(),
    };
    if !fine {
        let d = Diagnostic::error(address.span, "`ntop` takes 4 or 16 bytes of address")
            .at(format!("this is `{}`, {} bytes", address.ty, address.ty.size()));
        return c.fail(d);
    }
    c.typed_with(call, list, Type::Inet, Detail::None)
}

/// `AF_INET` and `AF_INET6` of linux/socket.h.
const INET: i64 = 2;
const INET6: i64 = 10;

fn lower_ntop(l: &mut Lower<'_>, call: &Lowered<'_>, to: &Place, _: bool) {
    let Some(address) = call.args.last() else { return };
    let wide = address.ty.size() == 16;
    let family = match call.args {
        [family, _] => l.argument_word(family),
        _ if wide => Expr::Const(INET6),
        _ => Expr::Const(INET),
    };
    l.store(to, 8, family);
    if !wide {
        l.emit(StmtKind::Zero { to: to.at(8), size: 16 });
    }
    if address.ty.is_scalar() {
        let word = l.argument_word(address);
        l.store(&to.at(8), 4, word);
    } else {
        bytes_into(l, address, &to.at(8), address.ty.size());
    }
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
