//! Results in the formats of other tools: folded stacks, pprof, Perfetto.
//!
//! Maps whose values are numbers become samples when the run ends; what such
//! a format has no place for is shown as text on the error stream.

pub mod folded;
pub mod perfetto;
pub mod pprof;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use super::text::{self, Context};
use super::{Error, guard};
use crate::plan::{MapValue, Plan, unwind};
use crate::runtime::decode::{Number, Stack, Value};
use crate::runtime::maps::{Entry, MapData, Merged};
use crate::runtime::symbols::{Code, Place};

/// Bytes of a trace that are written at once.
const PIECE: usize = 64 << 10;

/// Whose format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for each stack, functions separated by `;`, and its number.
    Folded,
    /// What `pprof` reads: a compressed protocol buffer.
    Pprof,
    /// What Perfetto reads: packets of events, which have a time.
    Perfetto,
}

/// What is exported, and where it goes.
pub(super) struct Export {
    format: Format,
    out: Box<dyn Write>,
    /// By the map's index in the plan.
    tables: BTreeMap<usize, Table>,
    trace: perfetto::Trace,
    started: Instant,
}

/// A map as samples.
#[derive(Debug, Default)]
pub struct Table {
    pub name: String,
    /// As the map was when it was last looked at.
    now: Vec<Sample>,
    /// What was seen of it before the script cleared it.
    before: Vec<Sample>,
}

/// An element of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The parts of the key that are no stacks, as text.
    pub labels: Vec<String>,
    /// Outermost first: those of the process, then those of the kernel.
    pub frames: Vec<Frame>,
    pub value: i64,
}

/// A function on a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub name: String,
    pub address: u64,
    /// The file that has it; absent in the kernel, and if unknown.
    pub module: Option<String>,
    pub code: Option<Code>,
    /// Inlined into the frame before it.
    pub inlined: bool,
    pub kernel: bool,
}

impl Export {
    pub(super) fn new(format: Format, out: Box<dyn Write>, plan: &Plan) -> Export {
        let table = |(i, map): (usize, &crate::plan::Map)| {
            (i, Table { name: map.name.clone(), ..Table::default() })
        };
        Export {
            format,
            out,
            tables: plan.maps.iter().enumerate().map(table).collect(),
            trace: perfetto::Trace::default(),
            started: Instant::now(),
        }
    }

    /// Takes what a map holds now. Whether the format has a place for it.
    pub(super) fn map(&mut self, data: &MapData<'_>, at: u64, cx: &mut Context) -> bool {
        if self.format == Format::Perfetto {
            return self.trace.map(data, at, cx);
        }
        if data.map.key.is_none() {
            return false;
        }
        let samples: Option<Vec<Sample>> =
            data.entries(0).iter().map(|entry| sample(entry, data, cx)).collect();
        let (Some(now), Some(table)) = (samples, self.table(&data.map.name)) else { return false };
        table.now = now;
        true
    }

    /// The script clears a map: what was seen of it counts all the same.
    pub(super) fn cleared(&mut self, map: u32) {
        if let Some(table) = self.tables.get_mut(&(map as usize)) {
            table.before.append(&mut table.now);
        }
    }

    /// Whether events become part of the result.
    pub(super) fn takes_events(&self) -> bool {
        self.format == Format::Perfetto
    }

    /// Something that happened.
    pub(super) fn event(&mut self, stamp: &perfetto::Stamp, text: &[u8]) -> Result<(), Error> {
        self.trace.event(stamp, text);
        if self.trace.waiting() > PIECE {
            self.trace.write(&mut self.out)?;
        }
        Ok(())
    }

    /// Writes everything.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let tables: Vec<&Table> = self.tables.values().filter(|t| !t.is_empty()).collect();
        match self.format {
            Format::Folded => folded::write(&mut self.out, &tables)?,
            Format::Pprof => pprof::write(&mut self.out, &tables, self.started.elapsed())?,
            Format::Perfetto => self.trace.write(&mut self.out)?,
        }
        self.out.flush()?;
        Ok(())
    }

    fn table(&mut self, name: &str) -> Option<&mut Table> {
        self.tables.values_mut().find(|table| table.name == name)
    }
}

impl Table {
    /// All samples, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.before.iter().chain(&self.now)
    }

    fn is_empty(&self) -> bool {
        self.samples().next().is_none()
    }
}

/// An element as a sample; none if its value is no number.
fn sample(entry: &Entry, data: &MapData<'_>, cx: &mut Context) -> Option<Sample> {
    let value = number(entry, data)?;
    let (mut labels, mut user, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    let mut part = |value: &Value<'_>| match value {
        Value::Stack(stack) if stack.user => user.extend(frames(*stack, cx)),
        Value::Stack(stack) => kernel.extend(frames(*stack, cx)),
        other => labels.push(label(other, cx)),
    };
    match entry.key(data.map)? {
        Value::Tuple(members) => members.iter().for_each(|(_, member)| part(&member)),
        key => part(&key),
    }
    user.extend(kernel);
    Some(Sample { labels, frames: user, value })
}

/// A value as text of one line.
fn label(value: &Value<'_>, cx: &mut Context) -> String {
    let mut text = Vec::new();
    text::value(&mut text, value, 1, cx);
    printable(&text)
}

/// Text that other tools may show as it is.
fn printable(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    guard::append(&mut out, bytes);
    String::from_utf8_lossy(&out).replace(['\n', '\t'], " ")
}

/// How much an element counts: numbers as they are, statistics by their total,
/// histograms by how many values they have.
fn number(entry: &Entry, data: &MapData<'_>) -> Option<i64> {
    let whole = |n: Number| match n {
        Number::Signed(n) => n,
        Number::Unsigned(n) => i64::try_from(n).unwrap_or(i64::MAX),
    };
    match (entry.merged(), &data.map.value) {
        (Merged::Buckets(counts), _) => {
            let all = counts.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
            Some(whole(Number::Unsigned(all)))
        }
        (Merged::Series(_), _) | (_, MapValue::Plain(crate::plan::Layout::Enum { .. })) => None,
        _ => match entry.value(data.map) {
            Value::Int(n) | Value::Stats { total: n, .. } => Some(whole(n)),
            _ => None,
        },
    }
}

/// The frames of a stack, outermost first.
fn frames(stack: Stack, cx: &mut Context) -> Vec<Frame> {
    let place = if stack.user { Place::User(stack.pid) } else { Place::Kernel };
    let plain = |name: String, address| Frame {
        name,
        address,
        module: None,
        code: None,
        inlined: false,
        kernel: !stack.user,
    };
    let Some(addresses) = cx.stacks.frames(&stack) else {
        return vec![plain("[frames lost]".into(), 0)];
    };
    let failed = |address: u64| stack.user && address == unwind::FAILED;
    cx.names.prepare(place, &mut addresses.iter().copied().filter(|a| !failed(*a)));
    let mut found = Vec::new();
    for address in addresses.iter().copied() {
        if failed(address) {
            found.push(plain("<unwind failure>".into(), 0));
            continue;
        }
        let Some(symbol) = cx.names.symbol(place, address) else {
            cx.names.note_unnamed();
            found.push(plain("[unknown]".into(), address));
            continue;
        };
        let module = symbol.module.as_deref().map(|m| printable(m.as_bytes()));
        let frame = |name: &str, code: Option<&Code>, inlined| Frame {
            name: printable(name.as_bytes()),
            module: module.clone(),
            code: code.cloned(),
            inlined,
            ..plain(String::new(), address)
        };
        let inlined = symbol.inlined.iter();
        found.extend(inlined.map(|i| frame(&i.name, i.code.as_ref(), true)));
        found.push(frame(&symbol.name, symbol.code.as_ref(), false));
    }
    found.reverse();
    found
}
