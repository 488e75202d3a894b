//! What acts on the traced system, and on the run because of it.

use super::{BASE, Builtin, Call, Lowered, Lowering};
use crate::diag::{self, Diagnostic, Warning};
use crate::host::features::Feature;
use crate::ir::{Arg, BinaryOp as B, Expr, Helper, StmtKind};
use crate::plan::{Action, Cause, Format, Piece};
use crate::sema::Checker;
use crate::sema::format;
use crate::sema::lower::Lower;
use crate::sema::tree::{self, Detail, ExprKind};
use crate::types::Type;

/// The highest number of a signal (`SIGRTMAX`).
const LAST_SIGNAL: i64 = 64;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "signal",
        usage: "signal(\"SIGKILL\")",
        doc: "Sends a signal to the current process.",
        args: (1, 1),
        needs_unsafe: true,
        effects: true,
        check: |c, call| check_signal(c, call, Helper::SendSignal),
        lower: Lowering::Action(|l, call| send_signal(l, call, Helper::SendSignal)),
        ..BASE
    },
    Builtin {
        name: "signal_thread",
        usage: "signal_thread(\"SIGKILL\")",
        doc: "Sends a signal to the current thread.",
        args: (1, 1),
        needs_unsafe: true,
        effects: true,
        check: |c, call| check_signal(c, call, Helper::SendSignalThread),
        lower: Lowering::Action(|l, call| send_signal(l, call, Helper::SendSignalThread)),
        ..BASE
    },
    Builtin {
        name: "override",
        usage: "override(rc)",
        doc: "Makes the traced kernel function return `rc` without running.",
        args: (1, 1),
        needs_unsafe: true,
        effects: true,
        check: |c, call| {
            if c.instance.context.provider != "kprobe" {
                let reason = "only a kprobe can replace its function".to_string();
                return c.unavailable("override", reason, call.span);
            }
            if !c.has_feature(
                call,
                Feature::OverrideReturn,
                "the helper `bpf_override_return`, which needs CONFIG_BPF_KPROBE_OVERRIDE",
            ) {
                return tree::Expr::error(call.span);
            }
            match c.integer_argument(call, 0) {
                Some(code) => c.typed_with(call, vec![code], Type::Void, Detail::None),
                None => tree::Expr::error(call.span),
            }
        },
        lower: Lowering::Action(|l, call| {
            let Some(code) = call.args.first() else { return };
            let code = l.argument_word(code);
            l.checked_call(Helper::OverrideReturn, vec![Arg::Context, Arg::Value(code)]);
        }),
        ..BASE
    },
    Builtin {
        name: "write_user",
        usage: "write_user(to, from, n)",
        doc: "Writes n bytes to memory of the current process; true if that worked.",
        args: (3, 3),
        needs_unsafe: true,
        effects: true,
        check: check_write,
        lower: Lowering::Word(lower_write),
        ..BASE
    },
    Builtin {
        name: "skboutput",
        usage: "skboutput(\"out.pcap\", args.skb, length, offset)",
        doc: "Writes a packet to a file that tcpdump reads, from `offset` on, where its IP header is; 0 if it was sent, else an error number.",
        args: (4, 4),
        effects: true,
        check: |c, call| {
            let Some(file) = c.literal_text(call, 0) else { return tree::Expr::error(call.span) };
            if !c.may_call(call, Helper::SkbOutput) {
                return tree::Expr::error(call.span);
            }
            let Some(skb) = super::memory::struct_argument(c, call, 1, "sk_buff") else {
                return tree::Expr::error(call.span);
            };
            let both = c.integer_argument(call, 2).zip(c.integer_argument(call, 3));
            let Some((length, offset)) = both else { return tree::Expr::error(call.span) };
            let args = vec![skb, length, offset];
            c.typed_with(call, args, Type::int(4, false), Detail::Text(file))
        },
        lower: Lowering::Word(|l, call| {
            let ([skb, length, offset], Detail::Text(file)) = (call.args, call.detail) else {
                return Expr::Const(0);
            };
            let length = l.argument_word(length);
            let length = l.spill("length", length);
            let offset = l.argument_word(offset);
            let offset = l.spill("offset", offset);
            let skb = l.typed_address(skb);
            let result = l.packet(file, skb, length, offset);
            Expr::Extend { value: Box::new(result), bits: 32, signed: false }
        }),
        ..BASE
    },
    Builtin {
        name: "socket_cookie",
        usage: "socket_cookie(sk)",
        doc: "A number that no other socket has, for a `struct sock *` among the arguments of the probe.",
        args: (1, 1),
        check: |c, call| {
            if !c.may_call(call, Helper::GetSocketCookie)
                || !c.has_feature(
                    call,
                    Feature::SocketCookie,
                    "the helper `bpf_get_socket_cookie` for such programs",
                )
            {
                return tree::Expr::error(call.span);
            }
            match super::memory::struct_argument(c, call, 0, "sock") {
                Some(socket) => c.typed_with(call, vec![socket], Type::UINT64, Detail::None),
                None => tree::Expr::error(call.span),
            }
        },
        lower: Lowering::Word(|l, call| {
            let Some(socket) = call.args.first() else { return Expr::Const(0) };
            let socket = l.typed_address(socket);
            let cookie = l.call(Helper::GetSocketCookie, vec![Arg::Value(socket)]);
            l.spill("cookie", cookie)
        }),
        ..BASE
    },
    Builtin {
        name: "assert",
        usage: "assert(condition, \"message\")",
        doc: "Unless the condition holds, prints the message as an error and ends the run with status 1; the probe goes on.",
        args: (2, 2),
        effects: true,
        check: |c, call| {
            let Some(condition) = call.args.first() else { return tree::Expr::error(call.span) };
            let condition = c.condition(condition);
            let Some(text) = c.literal_text(call, 1) else { return tree::Expr::error(call.span) };
            if condition.is_error() {
                return condition;
            }
            c.typed_with(call, vec![condition], Type::Void, Detail::Text(text))
        },
        lower: Lowering::Action(|l, call| {
            let (Some(condition), Detail::Text(text)) = (call.args.first(), call.detail) else {
                return;
            };
            let holds = l.argument_word(condition);
            let fails = Expr::binary(B::Eq, holds, Expr::Const(0));
            l.when(fails, |l| {
                let format = Format { pieces: vec![Piece::Text(text.clone())] };
                l.event(Action::Errorf(format), &[]);
                l.event_word(Action::Exit, Expr::Const(1), &Type::INT64);
            });
        }),
        ..BASE
    },
    Builtin {
        name: "unwatch",
        usage: "unwatch(addr)",
        doc: "Does nothing; scripts of older releases have it.",
        args: (1, 1),
        effects: true,
        check: |c, call| match c.address_argument(call, 0) {
            Some(address) => {
                c.diags.push(Diagnostic::warning(
                    Warning::Deprecated,
                    call.span,
                    "`unwatch` does nothing",
                ));
                c.typed_with(call, vec![address], Type::Void, Detail::None)
            }
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Action(|l, call| {
            if let Some(address) = call.args.first() {
                let word = l.argument_word(address);
                l.emit(StmtKind::Eval(word));
            }
        }),
        ..BASE
    },
];

/// `signal` and `signal_thread`: one by name, or a number.
fn check_signal(c: &mut Checker<'_>, call: &Call<'_>, helper: Helper) -> tree::Expr {
    if !c.may_call(call, helper) {
        return tree::Expr::error(call.span);
    }
    let Some(first) = call.args.first() else { return tree::Expr::error(call.span) };
    let value = c.expression(first);
    if value.is_error() {
        return value;
    }
    if let Some(text) = value.text() {
        let name = String::from_utf8_lossy(text).to_ascii_uppercase();
        let full = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
        return match full.parse::<nix::sys::signal::Signal>() {
            Ok(signal) => {
                #[allow(clippy::as_conversions, reason = "a C enum's number")]
                let number = i128::from(signal as i32);
                let number = tree::Expr::literal(number, call.span);
                c.typed_with(call, vec![number], Type::Void, Detail::None)
            }
            Err(_) => {
                let signals = nix::sys::signal::Signal::iterator().map(|s| s.as_str());
                let near = diag::nearest(&full, signals).map(|near| format!("\"{near}\""));
                let d = Diagnostic::error(value.span, format!("there is no signal `{name}`"));
                let d = match near {
                    Some(near) => d.did_you_mean(value.span, &near),
                    None => d,
                };
                let d = d.help("write a name like `\"SIGKILL\"` or a number from 1 to 64");
                c.fail(d)
            }
        };
    }
    if let Some(n) = value.constant()
        && !(1..=64).contains(&n)
    {
        return c.fail(Diagnostic::error(value.span, "a signal is a number from 1 to 64"));
    }
    if !value.ty.is_integer() {
        let d = Diagnostic::error(value.span, "`signal` takes a name or a number")
            .at(format!("this is `{}`", value.ty));
        return c.fail(d);
    }
    let number =
        tree::Expr { kind: ExprKind::Cast(Box::new(value)), ..tree::Expr::literal(0, call.span) };
    let number = tree::Expr { ty: Type::INT64, flexible: false, ..number };
    c.typed_with(call, vec![number], Type::Void, Detail::None)
}

fn send_signal(l: &mut Lower<'_>, call: &Lowered<'_>, helper: Helper) {
    let Some(signal) = call.args.first() else { return };
    let constant = signal.constant().is_some();
    let number = l.argument_word(signal);
    let number = l.spill("signal", number);
    let send = |l: &mut Lower<'_>| {
        let result = l.call(helper, vec![Arg::Value(number.clone())]);
        let result = l.spill("error", result);
        let failed = Expr::binary(B::SLt, result.clone(), Expr::Const(0));
        l.when(failed, |l| {
            let cause = Cause::Helper { name: helper.info().name.to_string() };
            l.loss(cause, Some(result));
        });
    };
    if constant {
        return send(l);
    }
    let place = Expr::binary(B::Sub, number.clone(), Expr::Const(1));
    let valid = Expr::binary(B::ULt, place, Expr::Const(LAST_SIGNAL));
    l.either(valid, send, |l| {
        let text = b"a signal is a number from 1 to 64, not %lld";
        let format = format::parse(text).expect("bug: the format is ours");
        l.event_word(Action::Errorf(format), number.clone(), &Type::INT64);
    });
}

fn check_write(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    if !c.host.has(Feature::ProbeWriteUser) {
        let d = Diagnostic::error(call.span, "this kernel lets no program write to processes")
            .note("it does not offer `bpf_probe_write_user`: it is locked down, or `CAP_SYS_ADMIN` is missing")
            .help("`cat /sys/kernel/security/lockdown` says so; boot without Secure Boot or `lockdown=`");
        return c.fail(d);
    }
    let Some(to) = c.address_argument(call, 0) else { return tree::Expr::error(call.span) };
    let from = match call.args.get(1) {
        Some(e) => c.expression(e).stored(),
        None => return tree::Expr::error(call.span),
    };
    let Some(n) = c.integer_argument(call, 2) else { return tree::Expr::error(call.span) };
    let own = match &from.ty {
        _ if from.is_error() => return from,
        Type::Str(_) | Type::Array { .. } | Type::Struct(_) | Type::Tuple(_) | Type::Record(_) => {
            Some(from.ty.size())
        }
        Type::Ptr { .. } | Type::Unknown => None,
        t if t.is_integer() => None,
        t => {
            let d =
                Diagnostic::error(from.span, "`write_user` takes what to write, or its address")
                    .at(format!("this is `{t}`"));
            return c.fail(d);
        }
    };
    let limit = u32::try_from(c.config.max_strlen).unwrap_or(u32::MAX);
    let most = own.unwrap_or(limit);
    if let Some(k) = n.constant()
        && !(1..=i128::from(most)).contains(&k)
    {
        let d = Diagnostic::error(n.span, format!("from 1 to {most} bytes can be written here"));
        return c.fail(d);
    }
    c.typed_with(call, vec![to, from, n], Type::Bool, Detail::Number(i64::from(most)))
}

fn lower_write(l: &mut Lower<'_>, call: &Lowered<'_>) -> Expr {
    let ([to, from, n], Detail::Number(most)) = (call.args, call.detail) else {
        return Expr::Const(0);
    };
    let most = n.constant().and_then(|k| i64::try_from(k).ok()).unwrap_or(*most);
    let Ok(size @ 1..) = u32::try_from(most) else { return Expr::Const(0) };
    let to = l.argument_word(to);
    let to = l.spill("to", to);
    let length = l.argument_word(n);
    let length = l.spill("length", length);
    let bytes = l.temp("bytes", size);
    // What is copied is what is written: a length that varies only cuts it.
    super::memory::bytes_into(l, from, &bytes, size);
    let result = l.local("written");
    let write = |l: &mut Lower<'_>| {
        let args = vec![
            Arg::Value(to.clone()),
            Arg::Address(bytes.clone()),
            Arg::size(length.clone(), size),
        ];
        let error = l.checked_result(Helper::ProbeWriteUser, args);
        l.set(result, Expr::binary(B::Eq, error, Expr::Const(0)));
    };
    if n.constant().is_some() {
        write(l);
        return Expr::Local(result);
    }
    let place = Expr::binary(B::Sub, length.clone(), Expr::Const(1));
    let fits = Expr::binary(B::ULt, place, Expr::Const(i64::from(size)));
    l.when(fits, write);
    Expr::Local(result)
}
