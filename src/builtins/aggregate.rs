//! Aggregations: functions that only make sense as `@m = f(…)`. The statement
//! checker takes them; the rows are for the reference and for messages.

use super::{BASE, Builtin};
use crate::diag::Diagnostic;
use crate::parser::ast;
use crate::sema::Checker;
use crate::sema::tree;
use crate::source::Span;
use crate::types::{Aggregation, Series};

/// Most buckets of an `lhist` (language.md §26).
const MAX_BUCKETS: i128 = 1000;

/// Most intervals of a `tseries`: what a value per CPU has room for.
const MAX_INTERVALS: i64 = 1364;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "count",
        usage: "@m = count()",
        doc: "Counts how often it is reached.",
        ..BASE
    },
    Builtin { name: "sum", usage: "@m = sum(n)", doc: "Adds up a number.", args: (1, 1), ..BASE },
    Builtin {
        name: "avg",
        usage: "@m = avg(n)",
        doc: "Average of a number.",
        args: (1, 1),
        ..BASE
    },
    Builtin {
        name: "min",
        usage: "@m = min(n)",
        doc: "Smallest number seen.",
        args: (1, 1),
        ..BASE
    },
    Builtin {
        name: "max",
        usage: "@m = max(n)",
        doc: "Largest number seen.",
        args: (1, 1),
        ..BASE
    },
    Builtin {
        name: "stats",
        usage: "@m = stats(n)",
        doc: "Count, average and total of a number.",
        args: (1, 1),
        ..BASE
    },
    Builtin {
        name: "hist",
        usage: "@m = hist(n[, bits])",
        doc: "Histogram with 2^bits buckets per power of two.",
        args: (1, 2),
        ..BASE
    },
    Builtin {
        name: "lhist",
        usage: "@m = lhist(n, min, max, step)",
        doc: "Histogram with buckets of one size.",
        args: (4, 4),
        ..BASE
    },
    Builtin {
        name: "tseries",
        usage: "@m = tseries(n, 1s, 60[, \"avg\"])",
        doc: "Time series: a number for each of the last so many intervals; the last one seen, or `avg`, `max`, `min` or `sum`.",
        args: (3, 4),
        ..BASE
    },
];

/// The names of all aggregations.
pub(crate) fn aggregations() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}

/// The name, if it is an aggregation's.
pub(crate) fn aggregation(name: &str) -> Option<&'static str> {
    ROWS.iter().find(|r| r.name == name).map(|r| r.name)
}

impl Checker<'_> {
    /// Checks the arguments of an aggregation: what it is, and its sample.
    pub(crate) fn aggregation_arguments(
        &mut self,
        name: &'static str,
        args: &[ast::Expr],
        span: Span,
    ) -> Option<(Aggregation, Option<tree::Expr>)> {
        let row = ROWS.iter().find(|r| r.name == name)?;
        let (least, most) = row.args;
        if args.len() < least || args.len() > most {
            let d = Diagnostic::error(span, format!("wrong number of arguments for `{name}`"))
                .at(format!("{} given", args.len()))
                .help(format!("write `{}`", row.usage));
            self.fail(d);
            return None;
        }
        let sample = match args.first() {
            Some(e) => Some(self.integer(e)?),
            None => None,
        };
        let signed = sample.as_ref().is_some_and(|s| s.ty.is_signed() && !s.flexible);
        let function = match name {
            "count" => Aggregation::Count,
            "sum" => Aggregation::Sum { signed },
            "avg" => Aggregation::Avg { signed },
            "min" => Aggregation::Min { signed },
            "max" => Aggregation::Max { signed },
            "stats" => Aggregation::Stats { signed },
            "hist" => {
                let bits = match args.get(1) {
                    Some(e) => self.constant_in(e, 0, 5, "the sub-bucket bits of `hist`")?,
                    None => 0,
                };
                Aggregation::Hist { bits: u8::try_from(bits).unwrap_or(0) }
            }
            "lhist" => self.lhist(args, span)?,
            "tseries" => self.tseries(args, signed)?,
            _ => unreachable!("bug: `{name}` is no aggregation"),
        };
        Some((function, sample))
    }

    fn lhist(&mut self, args: &[ast::Expr], span: Span) -> Option<Aggregation> {
        let mut bounds = [0i64; 3];
        for (to, e) in bounds.iter_mut().zip(args.iter().skip(1)) {
            let what = "a bound of `lhist`";
            *to = self.constant_in(e, i64::MIN, i64::MAX, what)?;
        }
        let [min, max, step] = bounds;
        let (wide_min, wide_max) = (i128::from(min), i128::from(max));
        let problem = if min >= max {
            Some(("min must be less than max", format!("min is {min}, max is {max}")))
        } else if step < 1 {
            Some(("the step must be at least 1", format!("it is {step}")))
        } else if i128::from(step) > wide_max - wide_min {
            Some(("the step is larger than the range", format!("max - min is {}", max - min)))
        } else if (wide_max - wide_min) / i128::from(step) > MAX_BUCKETS {
            let buckets = (wide_max - wide_min) / i128::from(step);
            Some(("too many buckets", format!("{buckets}; the most is {MAX_BUCKETS}")))
        } else {
            None
        };
        if let Some((message, label)) = problem {
            self.fail(
                Diagnostic::error(span, format!("{message} in `lhist`"))
                    .at(label)
                    .help("write `lhist(n, min, max, step)`"),
            );
            return None;
        }
        Some(Aggregation::Lhist { min, max, step })
    }

    fn tseries(&mut self, args: &[ast::Expr], signed: bool) -> Option<Aggregation> {
        let [_, interval, count, rest @ ..] = args else { return None };
        let interval = self.constant_in(interval, 1, i64::MAX, "the interval of `tseries`")?;
        let count = self.constant_in(count, 1, MAX_INTERVALS, "the number of intervals")?;
        let function = match rest.first() {
            None => Series::Last,
            Some(e) => {
                let value = self.expression(e);
                match value.text() {
                    Some(b"avg") => Series::Avg,
                    Some(b"max") => Series::Max,
                    Some(b"min") => Series::Min,
                    Some(b"sum") => Series::Sum,
                    _ => {
                        if !value.is_error() {
                            let d = Diagnostic::error(e.span, "unknown function of `tseries`");
                            self.fail(d.help("write `\"avg\"`, `\"max\"`, `\"min\"` or `\"sum\"`"));
                        }
                        return None;
                    }
                }
            }
        };
        Some(Aggregation::Tseries {
            interval: interval.unsigned_abs(),
            count: u32::try_from(count).unwrap_or(1),
            function,
            signed,
        })
    }

    /// A constant number within bounds.
    pub(crate) fn constant_in(
        &mut self,
        e: &ast::Expr,
        low: i64,
        high: i64,
        what: &str,
    ) -> Option<i64> {
        let value = self.integer(e)?;
        let Some(n) = value.constant() else {
            self.fail(
                Diagnostic::error(e.span, format!("{what} must be a constant"))
                    .help("write a number, a `#define` or a parameter like `$1`"),
            );
            return None;
        };
        match i64::try_from(n).ok().filter(|n| (low..=high).contains(n)) {
            Some(n) => Some(n),
            None => {
                let text = format!("{what} must be from {low} to {high}");
                self.fail(Diagnostic::error(e.span, text));
                None
            }
        }
    }
}
