//! Perf events: timers (`interval`, `profile`) and counters (`software`,
//! `hardware`).

use super::list::{Line, Query};
use super::text::{Part, number};
use super::{Context, Expanded, Instance, Provider, Request, Side};
use crate::diag::{Diagnostic, Diagnostics};
use crate::host::Host;
use crate::ir::ProgramKind;
use crate::parser::ast::TypeTag;
use crate::plan::{Cpus, Mechanism, Sample};
use crate::types::{Space, Type};

pub(super) static INTERVAL: Provider = Provider {
    name: "interval",
    aliases: &["i"],
    usage: &["interval:1s", "interval:s:1"],
    doc: "Fires on one CPU at a fixed interval.",
    side: Side::Named,
    expand: expand_timer,
    list: list_timer,
};

pub(super) static PROFILE: Provider = Provider {
    name: "profile",
    aliases: &["p"],
    usage: &["profile:10ms", "profile:hz:99"],
    doc: "Fires on every CPU at a fixed interval or rate.",
    side: Side::Named,
    expand: expand_timer,
    list: list_timer,
};

pub(super) static SOFTWARE: Provider = Provider {
    name: "software",
    aliases: &["s"],
    usage: &["software:page-faults", "software:page-faults:100"],
    doc: "Fires every so many events that the kernel counts.",
    side: Side::Kernel,
    expand: expand_counter,
    list: list_counter,
};

pub(super) static HARDWARE: Provider = Provider {
    name: "hardware",
    aliases: &["h"],
    usage: &["hardware:cache-misses", "hardware:cache-misses:1000000"],
    doc: "Fires every so many events that the CPU counts.",
    side: Side::Kernel,
    expand: expand_counter,
    list: list_counter,
};

/// A counter of `perf_event_open(2)`.
struct Counter {
    name: &'static str,
    alias: Option<&'static str>,
    config: u64,
    /// Events between two firings if the attach point does not say.
    count: u64,
}

const fn counter(
    name: &'static str,
    alias: Option<&'static str>,
    config: u64,
    count: u64,
) -> Counter {
    Counter { name, alias, config, count }
}

/// `PERF_TYPE_HARDWARE`, `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_CPU_CLOCK` of
/// linux/perf_event.h.
const TYPE_HARDWARE: u32 = 0;
const TYPE_SOFTWARE: u32 = 1;
const CPU_CLOCK: u64 = 0;

/// `PERF_COUNT_SW_*`, sorted by name.
const SOFTWARE_COUNTERS: &[Counter] = &[
    counter("alignment-faults", None, 7, 1),
    counter("bpf-output", None, 10, 1),
    counter("context-switches", Some("cs"), 3, 1000),
    counter("cpu-clock", Some("cpu"), CPU_CLOCK, 1_000_000),
    counter("cpu-migrations", None, 4, 1),
    counter("dummy", None, 9, 1),
    counter("emulation-faults", None, 8, 1),
    counter("major-faults", None, 6, 1),
    counter("minor-faults", None, 5, 100),
    counter("page-faults", Some("faults"), 2, 100),
    counter("task-clock", None, 1, 1),
];

/// `PERF_COUNT_HW_*`, sorted by name.
const HARDWARE_COUNTERS: &[Counter] = &[
    counter("backend-stalls", None, 8, 1_000_000),
    counter("branch-instructions", Some("branches"), 4, 100_000),
    counter("branch-misses", None, 5, 100_000),
    counter("bus-cycles", None, 6, 100_000),
    counter("cache-misses", None, 3, 1_000_000),
    counter("cache-references", None, 2, 1_000_000),
    counter("cpu-cycles", Some("cycles"), 0, 1_000_000),
    counter("frontend-stalls", None, 7, 1_000_000),
    counter("instructions", None, 1, 1_000_000),
    counter("ref-cycles", None, 9, 1_000_000),
];

/// Units of timers; what one is in nanoseconds.
const UNITS: [(&str, u64); 3] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];

fn expand_timer(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    let provider = request.provider.name;
    let (sample, name) = match request.parts.as_slice() {
        [duration] => {
            let ns = positive(request, duration)?;
            let us = ns / 1000;
            if us == 0 {
                let message = format!("`{}` is too short", duration.text);
                let d = Diagnostic::error(duration.span, message)
                    .note("the number is in nanoseconds, and 1000 is the least")
                    .help(format!("give it a unit, as in `{provider}:10ms`"));
                return Err(Box::new(d));
            }
            (Sample::Period(us * 1000), format!("{provider}:us:{us}"))
        }
        [unit, count] => {
            let n = positive(request, count)?;
            let name = format!("{provider}:{}:{n}", unit.text);
            if unit.text == "hz" {
                (Sample::Frequency(n), name)
            } else {
                let Some((_, scale)) = UNITS.iter().find(|u| u.0 == unit.text) else {
                    let units = ["s", "ms", "us", "hz"];
                    let d = Diagnostic::error(unit.span, format!("unknown unit `{}`", unit.text));
                    let d = d.or_nearest(unit.span, &unit.text, units);
                    return Err(Box::new(d.note("the units are s, ms, us and hz")));
                };
                // The kernel takes a signed number.
                let period = n.checked_mul(*scale).filter(|p| i64::try_from(*p).is_ok());
                let too_long =
                    || request.error_at(count, format!("{n} {} are too long a time", unit.text));
                (Sample::Period(period.ok_or_else(too_long)?), name)
            }
        }
        _ => return Err(request.wrong_parts()),
    };
    let cpus = if provider == INTERVAL.name { Cpus::First } else { Cpus::All };
    let mechanism = Mechanism::Perf { kind: TYPE_SOFTWARE, config: CPU_CLOCK, sample, cpus };
    Ok(vec![instance(request, name, mechanism)])
}

fn expand_counter(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    let provider = request.provider.name;
    let (event, count) = match request.parts.as_slice() {
        [event] => (event, None),
        [event, count] if count.text.is_empty() => (event, None),
        [event, count] => (event, Some(positive(request, count)?)),
        _ => return Err(request.wrong_parts()),
    };
    let (kind, table) = counters(request.provider);
    let row = table.iter().find(|c| c.name == event.text || c.alias == Some(event.text.as_str()));
    let Some(row) = row else {
        let d =
            Diagnostic::error(event.span, format!("there is no {provider} event `{}`", event.text));
        let names = table.iter().flat_map(|c| std::iter::once(c.name).chain(c.alias));
        let d = d.or_nearest(event.span, &event.text, names);
        let names: Vec<&str> = table.iter().map(|c| c.name).collect();
        return Err(Box::new(d.note(format!("the events are {}", names.join(", ")))));
    };
    let name = match count {
        Some(count) => format!("{provider}:{}:{count}", event.text),
        None => format!("{provider}:{}", event.text),
    };
    let sample = Sample::Period(count.unwrap_or(row.count));
    let mechanism = Mechanism::Perf { kind, config: row.config, sample, cpus: Cpus::All };
    Ok(vec![instance(request, name, mechanism)])
}

fn counters(provider: &Provider) -> (u32, &'static [Counter]) {
    match provider.name == HARDWARE.name {
        true => (TYPE_HARDWARE, HARDWARE_COUNTERS),
        false => (TYPE_SOFTWARE, SOFTWARE_COUNTERS),
    }
}

fn positive(request: &Request<'_>, part: &Part) -> Result<u64, Box<Diagnostic>> {
    match number(&part.text) {
        Some(0) => Err(request.error_at(part, "this must be more than 0")),
        Some(n) => Ok(n),
        None => {
            let d = Diagnostic::error(part.span, format!("`{}` is not a number", part.text));
            let name = request.provider.name;
            let units = ["hz", "ms", "s", "us"];
            let help = match request.parts.as_slice() {
                // `profile:hz`
                [only] if units.contains(&only.text.as_str()) => {
                    format!("a number follows the unit: `{name}:{}:10`", only.text)
                }
                [unit, _] if units.contains(&unit.text.as_str()) => {
                    format!("write a whole number: `{name}:{}:10`", unit.text)
                }
                _ => "write a whole number, or a duration such as `10ms`".to_owned(),
            };
            Err(Box::new(d.help(help)))
        }
    }
}

/// A program on perf events.
pub(super) fn instance(request: &Request<'_>, name: String, mechanism: Mechanism) -> Instance {
    let context = Context {
        ctx: Ok(context_type(request.host, request.needs.raw_context)),
        registers: Some(0),
        stacks: true,
        ..Context::none(request.provider, Space::None)
    };
    Instance {
        kind: ProgramKind::PerfEvent,
        section: "perf_event".into(),
        context,
        attach: vec![request.attach(vec![name], mechanism)],
        syscalls: None,
        keeper: None,
    }
}

/// `struct bpf_perf_event_data *`; its name is looked up only if it matters.
fn context_type(host: &Host, used: bool) -> Type {
    let found = match used {
        true => host.btf().ok(),
        false => None,
    };
    let found = found.and_then(|b| b.find_type(Some(TypeTag::Struct), "bpf_perf_event_data"));
    Type::ptr(found.unwrap_or(Type::Void), Space::Kernel)
}

fn list_timer(query: &Query<'_>) -> Result<Vec<Line>, String> {
    Ok(listed(query, ["hz", "ms", "s", "us"]))
}

fn list_counter(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let (_, table) = counters(query.provider);
    Ok(listed(query, table.iter().flat_map(|c| std::iter::once(c.name).chain(c.alias))))
}

/// The number after the last colon is for the reader to fill in.
fn listed<'n>(query: &Query<'_>, names: impl IntoIterator<Item = &'n str>) -> Vec<Line> {
    let provider = query.provider.name;
    let wanted = names.into_iter().filter(|name| query.accepts(&[name]));
    wanted.map(|name| Line::of(format!("{provider}:{name}:"))).collect()
}
