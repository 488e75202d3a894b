//! Bytes and addresses in memory, and strings there.

use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::config::Config;
use crate::diag::{Diagnostic, Warning};
use crate::host::features::Feature;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, Place, StmtKind};
use crate::sema::Checker;
use crate::sema::lower::{Lower, Remote, Val, typed};
use crate::sema::tree::{self, Detail, ExprKind};
use crate::types::{Space, Type};

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
            let address = Lower::address(&remote);
            if call.args.len() == 1 {
                let marked = marks_cut(l.config, size);
                return l.read_text(remote.space, address, to, size, marked);
            }
            // A length that was asked for cuts nothing.
            let helper = match remote.space {
                Space::User => Helper::ProbeReadUserStr,
                Space::Kernel | Space::None => Helper::ProbeReadKernelStr,
            };
            let args = vec![Arg::Address(to.clone()), Arg::size(length, size), Arg::Value(address)];
            l.checked_call(helper, args);
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
        name: "path",
        usage: "path(args.file.f_path[, size])",
        doc: "The full path behind a `struct path`; in `fentry` and `fexit` of the functions where the kernel allows that.",
        args: (1, 2),
        check: check_path,
        lower: Lowering::Memory(lower_path),
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
pub(super) fn bytes_into(l: &mut Lower<'_>, e: &tree::Expr, to: &Place, size: u32) {
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
            .at(format!("this is `{}`", value.ty))
            .help("write `str(p)`, with a pointer or a number");
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
                    Diagnostic::warning(
                        Warning::CutString,
                        n.span,
                        format!("a string has at most {room} bytes here"),
                    )
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

/// An argument that must be a kernel struct of that name, from the arguments
/// of the probe.
pub(super) fn struct_argument(
    c: &mut Checker<'_>,
    call: &Call<'_>,
    n: usize,
    name: &str,
) -> Option<tree::Expr> {
    let given = call.args.get(n)?;
    let value = c.expression(given);
    if value.is_error() {
        return None;
    }
    let named = |ty: &Type| match ty {
        Type::Struct(s) => s.name == name,
        Type::Ptr { to, .. } => matches!(&**to, Type::Struct(s) if s.name == name),
        _ => false,
    };
    if !named(&value.ty) {
        let builtin = call.builtin.name;
        let d = Diagnostic::error(value.span, format!("`{builtin}` takes a `struct {name} *`"))
            .at(format!("this is `{}`", value.ty));
        c.fail(d);
        return None;
    }
    if typed::struct_of(&value).is_none() {
        let builtin = call.builtin.name;
        let d =
            Diagnostic::error(value.span, format!("`{builtin}` cannot be sure of this pointer"))
                .at("the kernel does not know where it comes from")
                .help(
                    "write it as a member of an argument: `args.x.y`, without casts and variables",
                );
        c.fail(d);
        return None;
    }
    let what = "the helper `bpf_get_current_task_btf`";
    if typed::starts_at_task(&value) && !c.has_feature(call, Feature::CurrentTaskBtf, what) {
        return None;
    }
    Some(value)
}

fn check_path(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let limit = u32::try_from(c.config.max_strlen).unwrap_or(1024);
    let size = match call.args.get(1) {
        None => limit,
        Some(e) => match c.constant_in(e, 1, i64::from(limit), "the size of `path`") {
            Some(n) => u32::try_from(n).unwrap_or(limit),
            None => return tree::Expr::error(call.span),
        },
    };
    if !c.may_call(call, Helper::DPath) {
        return tree::Expr::error(call.span);
    }
    if !c.has_feature(call, Feature::DPath, "the helper `bpf_d_path`") {
        return tree::Expr::error(call.span);
    }
    match struct_argument(c, call, 0, "path") {
        Some(path) => c.typed_with(call, vec![path], Type::Str(size), Detail::None),
        None => tree::Expr::error(call.span),
    }
}

fn lower_path(l: &mut Lower<'_>, call: &Lowered<'_>, to: &Place, full: bool) {
    let Some(path) = call.args.first() else { return };
    let size = call.ty.size();
    if full {
        l.emit(StmtKind::Zero { to: to.clone(), size });
    }
    let path = l.typed_address(path);
    let args =
        vec![Arg::Value(path), Arg::Address(to.clone()), Arg::Value(Expr::Const(i64::from(size)))];
    let length = l.checked_result(Helper::DPath, args);
    let failed = Expr::binary(B::SLt, length.clone(), Expr::Const(0));
    l.when(failed, |l| {
        l.emit(StmtKind::Store { to: to.clone(), size: 1, value: Expr::Const(0) });
    });
    if full {
        // The kernel builds the path at the end, then moves it.
        l.clear_behind(to, length, size);
    }
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
