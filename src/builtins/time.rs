//! Clocks.

use super::{BASE, Builtin, Lowering};
use crate::diag::Diagnostic;
use crate::host::features::Feature;
use crate::ir::{BinaryOp as B, Expr, Helper};
use crate::plan::{Action, Param};
use crate::sema::Checker;
use crate::sema::tree::{self, Clock, Detail, ExprKind};
use crate::types::Type;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "nsecs",
        usage: "nsecs, nsecs(boot), nsecs(monotonic), nsecs(tai), nsecs(sw_tai)",
        doc: "Nanoseconds since boot, sleep included; with `monotonic` without sleep, with `tai` since 1970 by atomic time; `sw_tai` is that as it was when rtrace started, moved by the clock since boot.",
        bare: true,
        args: (0, 1),
        check: |c, call| {
            let clock = match call.args.first() {
                None => Clock::Boot,
                Some(_) => match c.bare_word(call, 0, &["boot", "monotonic", "tai", "sw_tai"]) {
                    Some(0) => Clock::Boot,
                    Some(1) => Clock::Monotonic,
                    Some(2) => Clock::Tai,
                    Some(_) => Clock::SoftwareTai,
                    None => return tree::Expr::error(call.span),
                },
            };
            if clock == Clock::Tai && !c.host.has(Feature::KtimeTai) {
                let d = Diagnostic::error(
                    call.span,
                    "this kernel does not give programs the TAI clock",
                )
                .note("it lacks the helper `bpf_ktime_get_tai_ns` (Linux 6.1)")
                .help("use `nsecs(sw_tai)`, or `nsecs`, and `strftime` for wall-clock time");
                return c.fail(d);
            }
            c.typed_with(call, vec![], Type::UINT64, Detail::Clock(clock))
        },
        lower: Lowering::Word(|l, call| {
            if *call.detail == Detail::Clock(Clock::SoftwareTai) {
                let boot = l.call(Helper::KtimeGetBootNs, vec![]);
                let offset = l.shared.param(Param::TaiOffset);
                return l.spill("now", Expr::binary(B::Add, boot, offset));
            }
            let helper = match call.detail {
                Detail::Clock(Clock::Monotonic) => Helper::KtimeGetNs,
                Detail::Clock(Clock::Tai) => Helper::KtimeGetTaiNs,
                _ => Helper::KtimeGetBootNs,
            };
            let call = l.call(helper, vec![]);
            l.spill("now", call)
        }),
        ..BASE
    },
    Builtin {
        name: "elapsed",
        usage: "elapsed",
        doc: "Nanoseconds since rtrace started tracing.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| {
            let now = l.call(Helper::KtimeGetBootNs, vec![]);
            let start = l.shared.param(Param::StartTime);
            let word = Expr::binary(B::Sub, now, start);
            l.spill("elapsed", word)
        }),
        ..BASE
    },
    Builtin {
        name: "jiffies",
        usage: "jiffies",
        doc: "Ticks of the kernel's timer, 64 bits.",
        bare: true,
        check: |c, call| c.typed(call, Type::UINT64, Detail::None),
        lower: Lowering::Word(|l, _| l.call(Helper::Jiffies64, vec![])),
        ..BASE
    },
    Builtin {
        name: "time",
        usage: "time([\"%H:%M:%S\\n\"])",
        doc: "Prints the time of day, formatted by strftime(3); no newline is added.",
        args: (0, 1),
        effects: true,
        check: |c, call| {
            let format = match call.args.first() {
                None => "%H:%M:%S\n".to_string(),
                Some(_) => match c.literal_text(call, 0) {
                    Some(text) => text,
                    None => return tree::Expr::error(call.span),
                },
            };
            c.typed_with(call, vec![], Type::Void, Detail::Text(format))
        },
        lower: Lowering::Action(|l, call| {
            let Detail::Text(format) = call.detail else { return };
            l.event(Action::Time { format: format.clone() }, &[]);
        }),
        ..BASE
    },
    Builtin {
        name: "strftime",
        usage: "strftime(\"%H:%M:%S\", nsecs)",
        doc: "A time stamp as wall-clock time, formatted when printed. `%f` gives microseconds, `%l` milliseconds, `%k` nanoseconds.",
        args: (2, 2),
        check: |c, call| {
            let Some(format) = c.literal_text(call, 0) else {
                return tree::Expr::error(call.span);
            };
            let Some(stamp) = c.integer_argument(call, 1) else {
                return tree::Expr::error(call.span);
            };
            let clock = match &stamp.kind {
                ExprKind::Call { detail: Detail::Clock(Clock::Monotonic), .. } => {
                    let d = Diagnostic::error(
                        stamp.span,
                        "the monotonic clock cannot be shown as a date",
                    )
                    .help("use `nsecs`");
                    return c.fail(d);
                }
                ExprKind::Call {
                    detail: Detail::Clock(Clock::Tai | Clock::SoftwareTai), ..
                } => 2,
                _ => 0,
            };
            if stamp.constant().is_some_and(|n| n < 0) {
                let d = Diagnostic::error(stamp.span, "a time stamp is not negative");
                return c.fail(d);
            }
            let format = Checker::intern(&mut c.time_formats, &format);
            let detail = Detail::Numbers(vec![format, clock]);
            c.typed_with(call, vec![stamp], Type::Timestamp, detail)
        },
        lower: Lowering::Memory(|l, call, to, _| {
            let (Some(stamp), Detail::Numbers(numbers)) = (call.args.first(), call.detail) else {
                return;
            };
            let word = l.argument_word(stamp);
            l.store(to, 8, word);
            for (number, offset) in numbers.iter().zip([8, 12]) {
                l.store(&to.at(offset), 4, Expr::Const(*number));
            }
        }),
        ..BASE
    },
];
