//! Values and maps as text (output.md §3, §4, §8).

use std::io::Write as _;
use std::net::IpAddr;

use crate::guard;
use crate::plan::{Map, MapValue, unwind};
use crate::runtime::decode::{Number, Stack, Value};
use crate::runtime::maps::{Entry, MapData, Merged};
use crate::runtime::names::Names;
use crate::runtime::output::time::{self, Clock};
use crate::runtime::output::{histogram, series};
use crate::runtime::stacks::Stacks;
use crate::runtime::symbols::{Code, Place, Symbol};
use crate::types::StackMode;

/// Memory never refuses a write.
const MEMORY: &str = "bug: memory takes every write";

/// What text needs to know beside the values.
pub struct Context {
    pub names: Box<dyn Names>,
    pub stacks: Box<dyn Stacks>,
    pub clock: Clock,
    pub time_formats: Vec<String>,
    pub cgroup_filters: Vec<String>,
    /// Appended to strings that were cut.
    pub trailer: String,
    /// Show control bytes in what comes from traced programs as `\x1b`: the
    /// reader is a terminal, and they could make it do things.
    pub guarded: bool,
}

/// Appends a value; integers in it are divided by `div` (0 and 1: not).
pub fn value(out: &mut Vec<u8>, value: &Value<'_>, div: u64, cx: &mut Context) {
    match *value {
        Value::Int(n) | Value::Enum { number: n, name: None } => number(out, n.divided(div)),
        Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Value::Enum { name: Some(name), .. } => foreign(out, name.as_bytes(), cx.guarded),
        Value::Pointer(address) => hex(out, address),
        Value::Str { bytes, cut } => {
            foreign(out, bytes, cx.guarded);
            if cut {
                out.extend_from_slice(cx.trailer.as_bytes());
            }
        }
        Value::Buffer(bytes) => escaped(out, bytes),
        Value::Array(elements) => {
            out.push(b'[');
            for (i, element) in elements.iter().enumerate() {
                separate(out, i, b",");
                self::value(out, &element, div, cx);
            }
            out.push(b']');
        }
        Value::Tuple(members) => {
            out.push(b'(');
            for (i, (_, member)) in members.iter().enumerate() {
                separate(out, i, b", ");
                self::value(out, &member, div, cx);
            }
            out.push(b')');
        }
        Value::Record(members) => {
            out.push(b'{');
            let mut empty = true;
            for (i, (name, member)) in members.iter().enumerate() {
                separate(out, i, b",");
                out.extend_from_slice(b" .");
                foreign(out, name.as_bytes(), cx.guarded);
                out.extend_from_slice(b" = ");
                self::value(out, &member, div, cx);
                empty = false;
            }
            out.extend_from_slice(if empty { b"}" } else { b" }" });
        }
        Value::Stack(frames) => stack(out, frames, cx),
        Value::Ksym(address) => symbol_name(out, Place::Kernel, address, cx),
        Value::Usym { address, pid } => symbol_name(out, Place::User(pid), address, cx),
        Value::Inet(address) => inet(out, address),
        Value::Mac([a, b, c, d, e, f]) => {
            write!(out, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{f:02X}").expect(MEMORY);
        }
        Value::Username(uid) => foreign(out, cx.names.user(uid).as_bytes(), cx.guarded),
        Value::Timestamp { nanoseconds, format, clock } => {
            let format = cx.time_formats.get(format as usize).map_or("", String::as_str);
            time::timestamp(out, format, cx.clock.wall(nanoseconds, clock));
        }
        Value::CgroupPath { id, filter } => {
            let filter = usize::try_from(filter).ok().and_then(|i| cx.cgroup_filters.get(i));
            let path = cx.names.cgroup(id, filter.map_or("", String::as_str));
            foreign(out, path.as_bytes(), cx.guarded);
        }
        Value::Stats { count, average, total } => {
            write!(out, "{{ .count = {count}, .average = {average}, .total = {total} }}")
                .expect(MEMORY);
        }
        Value::None => out.extend_from_slice(b"null"),
    }
}

/// Appends some entries of a map, each on its line.
pub fn entries(
    out: &mut Vec<u8>,
    data: &MapData<'_>,
    entries: &[Entry],
    div: u64,
    cx: &mut Context,
) {
    for entry in entries {
        out.extend_from_slice(data.map.name.as_bytes());
        if data.map.key.is_some() {
            out.push(b'[');
            key(out, entry, data.map, cx);
            out.push(b']');
        }
        match (entry.merged(), &data.map.value) {
            (Merged::Buckets(counts), MapValue::Aggregate(aggregation)) => {
                out.extend_from_slice(b":\n");
                histogram::rows(out, aggregation, counts, div);
            }
            (Merged::Series(points), MapValue::Aggregate(aggregation)) => {
                out.extend_from_slice(b":\n");
                series::graph(out, aggregation, points, data.newest(), &cx.clock);
            }
            _ => {
                out.extend_from_slice(b": ");
                value(out, &entry.value(data.map), div, cx);
            }
        }
        out.push(b'\n');
    }
}

/// `top` and `div` as far as they apply to a map.
pub(crate) fn limits(map: &Map, top: u64, div: u64) -> (u64, u64) {
    use crate::types::Aggregation;
    match map.value {
        MapValue::Aggregate(Aggregation::Stats { .. }) => (0, 1),
        MapValue::Aggregate(Aggregation::Lhist { .. } | Aggregation::Tseries { .. }) => (top, 1),
        MapValue::Aggregate(_) | MapValue::Plain(_) => (top, div),
    }
}

/// Appends a key as it stands between the brackets: a tuple without its own.
pub(crate) fn key(out: &mut Vec<u8>, entry: &Entry, map: &Map, cx: &mut Context) {
    match entry.key(map) {
        Some(Value::Tuple(members)) => {
            for (i, (_, member)) in members.iter().enumerate() {
                separate(out, i, b", ");
                value(out, &member, 1, cx);
            }
        }
        Some(key) => value(out, &key, 1, cx),
        None => {}
    }
}

/// Appends printable bytes as they are and others as `\xhh`.
pub(crate) fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b' '..=b'~' => out.push(byte),
            _ => write!(out, "\\x{byte:02x}").expect(MEMORY),
        }
    }
}

/// Appends text of a traced program, or of files that it names.
pub(crate) fn foreign(out: &mut Vec<u8>, bytes: &[u8], guarded: bool) {
    if !guarded {
        out.extend_from_slice(bytes);
        return;
    }
    guard::append(out, bytes);
}

fn number(out: &mut Vec<u8>, number: Number) {
    write!(out, "{number}").expect(MEMORY);
}

fn hex(out: &mut Vec<u8>, address: u64) {
    write!(out, "{address:#x}").expect(MEMORY);
}

fn separate(out: &mut Vec<u8>, index: usize, separator: &[u8]) {
    if index > 0 {
        out.extend_from_slice(separator);
    }
}

/// As inet_ntop(3).
fn inet(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => {}
        Some(IpAddr::V4(v4)) => write!(out, "{v4}").expect(MEMORY),
        Some(IpAddr::V6(v6)) => match v6.segments() {
            // An IPv4 address behind zeros keeps its dots.
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                write!(out, "::{a}.{b}.{c}.{d}").expect(MEMORY);
            }
            _ => write!(out, "{v6}").expect(MEMORY),
        },
    }
}

fn symbol_name(out: &mut Vec<u8>, place: Place, address: u64, cx: &mut Context) {
    match cx.names.symbol(place, address) {
        Some(symbol) => foreign(out, symbol.name.as_bytes(), cx.guarded),
        None => hex(out, address),
    }
}

fn stack(out: &mut Vec<u8>, stack: Stack, cx: &mut Context) {
    out.push(b'\n');
    let place = if stack.user { Place::User(stack.pid) } else { Place::Kernel };
    let Some(frames) = cx.stacks.frames(&stack) else {
        out.extend_from_slice(b"[frames lost]\n");
        return;
    };
    if matches!(stack.mode, StackMode::Bpftrace | StackMode::Perf) {
        let mut known = frames.iter().copied().filter(|address| *address != unwind::FAILED);
        cx.names.prepare(place, &mut known);
    }
    for address in frames.iter().copied() {
        if stack.user && address == unwind::FAILED {
            unwind_failure(out, stack.mode);
            continue;
        }
        match stack.mode {
            StackMode::Bpftrace => frame(out, place, address, cx),
            StackMode::Perf => perf_frame(out, place, address, cx),
            StackMode::Raw => writeln!(out, "{address:x}").expect(MEMORY),
            StackMode::BuildId => {
                match cx.names.build_id(stack.pid, address) {
                    Some(build) if stack.user => {
                        // Ids shorter than a SHA-1 are padded with zeros.
                        for i in 0..build.id.len().max(20) {
                            let byte = build.id.get(i).copied().unwrap_or(0);
                            write!(out, "{byte:02x}").expect(MEMORY);
                        }
                        writeln!(out, " {:#x}", build.offset).expect(MEMORY);
                    }
                    _ => writeln!(out, "{address:x}").expect(MEMORY),
                }
            }
        }
    }
}

/// Where the caller of a frame could not be found.
fn unwind_failure(out: &mut Vec<u8>, mode: StackMode) {
    out.extend_from_slice(match mode {
        StackMode::Bpftrace => b"        ",
        StackMode::Perf => b"\t",
        StackMode::Raw | StackMode::BuildId => b"",
    });
    out.extend_from_slice(b"<unwind failure>\n");
}

fn frame(out: &mut Vec<u8>, place: Place, address: u64, cx: &mut Context) {
    const INDENT: &[u8] = b"        ";
    let Some(symbol) = cx.names.symbol(place, address) else {
        cx.names.note_unnamed();
        out.extend_from_slice(INDENT);
        hex(out, address);
        out.push(b'\n');
        return;
    };
    for inlined in &symbol.inlined {
        out.extend_from_slice(INDENT);
        out.extend_from_slice(b"[inlined] ");
        foreign(out, inlined.name.as_bytes(), cx.guarded);
        code(out, inlined.code.as_ref(), cx.guarded);
        out.push(b'\n');
    }
    out.extend_from_slice(INDENT);
    with_offset(out, symbol, cx.guarded);
    code(out, symbol.code.as_ref(), cx.guarded);
    out.push(b'\n');
}

fn perf_frame(out: &mut Vec<u8>, place: Place, address: u64, cx: &mut Context) {
    let user = matches!(place, Place::User(_));
    let Some(symbol) = cx.names.symbol(place, address) else {
        cx.names.note_unnamed();
        write!(out, "\t{address:x} {address:#x}").expect(MEMORY);
        out.extend_from_slice(if user { b" ([unknown])\n" } else { b"\n" });
        return;
    };
    for inlined in &symbol.inlined {
        write!(out, "\t{address:x} ").expect(MEMORY);
        foreign(out, inlined.name.as_bytes(), cx.guarded);
        out.extend_from_slice(b" (inlined)\n");
    }
    write!(out, "\t{address:x} ").expect(MEMORY);
    with_offset(out, symbol, cx.guarded);
    if user {
        out.extend_from_slice(b" (");
        let module = symbol.module.as_deref().unwrap_or("[unknown]");
        foreign(out, module.as_bytes(), cx.guarded);
        out.push(b')');
    }
    out.push(b'\n');
}

fn with_offset(out: &mut Vec<u8>, symbol: &Symbol, guarded: bool) {
    foreign(out, symbol.name.as_bytes(), guarded);
    write!(out, "+{}", symbol.offset).expect(MEMORY);
}

fn code(out: &mut Vec<u8>, code: Option<&Code>, guarded: bool) {
    let Some(code) = code else { return };
    out.push(b'@');
    foreign(out, code.path.as_bytes(), guarded);
    if let Some(line) = code.line {
        write!(out, ":{line}").expect(MEMORY);
    }
}
