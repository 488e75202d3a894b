//! Values and maps as JSON (output.md §12).
//!
//! Written by hand since the separators are part of the contract.

use std::io::Write as _;

use crate::plan::{Map, MapValue};
use crate::runtime::decode::{Number, Value};
use crate::runtime::maps::{Entry, MapData, Merged};
use crate::runtime::output::text::{self, Context};
use crate::runtime::output::{histogram, series};
use crate::types::Aggregation;

const MEMORY: &str = "bug: memory takes every write";

/// Appends a value; integers in it are divided by `div` (0 and 1: not).
pub fn value(out: &mut Vec<u8>, value: &Value<'_>, div: u64, cx: &mut Context) {
    match *value {
        Value::Int(n) => number(out, n.divided(div)),
        Value::Enum { number: n, .. } => number(out, n.divided(div)),
        Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Value::Pointer(address) => number(out, Number::Unsigned(address)),
        Value::Buffer(bytes) => {
            let each = bytes.iter().map(|b| Value::Int(Number::Signed(b.cast_signed().into())));
            array(out, each, 1, cx);
        }
        Value::Array(elements) => array(out, elements.iter(), div, cx),
        Value::Tuple(members) => array(out, members.iter().map(|(_, m)| m), div, cx),
        Value::Record(members) => {
            out.push(b'{');
            for (i, (name, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                string(out, name.as_bytes());
                out.extend_from_slice(b": ");
                self::value(out, &member, div, cx);
            }
            out.push(b'}');
        }
        Value::Stats { count, average, total } => {
            out.extend_from_slice(b"{\"count\": ");
            number(out, Number::Unsigned(count));
            out.extend_from_slice(b", \"average\": ");
            number(out, average);
            out.extend_from_slice(b", \"total\": ");
            number(out, total);
            out.push(b'}');
        }
        Value::None => out.extend_from_slice(b"null"),
        Value::Str { bytes, cut: false } => string(out, bytes),
        Value::Str { .. }
        | Value::Stack(_)
        | Value::Ksym(_)
        | Value::Usym { .. }
        | Value::Inet(_)
        | Value::Mac(_)
        | Value::Username(_)
        | Value::Timestamp { .. }
        | Value::CgroupPath { .. } => {
            let mut raw = Vec::new();
            text::value(&mut raw, value, 1, cx);
            string(out, &raw);
        }
    }
}

/// Appends a whole map object and a newline; nothing for an empty map.
pub fn map(out: &mut Vec<u8>, data: &MapData<'_>, top: u64, div: u64, cx: &mut Context) {
    if data.is_empty() {
        return;
    }
    let (top, div) = text::limits(data.map, top, div);
    let kind = match &data.map.value {
        MapValue::Aggregate(Aggregation::Hist { .. } | Aggregation::Lhist { .. }) => "hist",
        MapValue::Aggregate(Aggregation::Tseries { .. }) => "tseries",
        MapValue::Aggregate(Aggregation::Avg { .. } | Aggregation::Stats { .. }) => "stats",
        MapValue::Aggregate(_) | MapValue::Plain(_) => "map",
    };
    write!(out, "{{\"type\": \"{kind}\", \"data\": {{").expect(MEMORY);
    string(out, data.map.name.as_bytes());
    out.extend_from_slice(b": ");
    let keyed = data.map.key.is_some();
    if keyed {
        out.push(b'{');
    }
    let mut raw = Vec::new();
    for (i, entry) in data.entries(top).iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        if keyed {
            raw.clear();
            text::key(&mut raw, entry, data.map, cx);
            raw.retain(|&b| b != b' ');
            string(out, &raw);
            out.extend_from_slice(b": ");
        }
        match (entry.merged(), &data.map.value) {
            (Merged::Series(points), MapValue::Aggregate(of)) => {
                series::intervals(out, of, points, data.newest(), &cx.clock);
            }
            _ => element(out, entry, data.map, div, cx),
        }
    }
    out.extend_from_slice(if keyed { b"}}}\n" } else { b"}}\n" });
}

/// Appends an object of one text and a newline.
pub fn message(out: &mut Vec<u8>, kind: &str, data: &[u8]) {
    write!(out, "{{\"type\": \"{kind}\", \"data\": ").expect(MEMORY);
    string(out, data);
    out.extend_from_slice(b"}\n");
}

/// Where bytes that are no UTF-8 stand in the text: byte `b` is the character
/// `RAW + b`, U+EF80 to U+EFFF, of a private use area.
const RAW: u32 = 0xef00;

/// Appends a quoted string. Bytes that are no UTF-8 become characters of a
/// private use area ([`RAW`]), and so do the bytes of those characters
/// themselves: nothing is lost, and every reader of JSON takes it.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        // What needs no escape is copied in runs.
        let valid = chunk.valid();
        let mut copied = 0;
        let mut rest = valid.as_bytes().iter().enumerate();
        while let Some((i, &byte)) = rest.next() {
            // Nearly everything; the others are the first bytes of what is looked for.
            if byte >= b' ' && !matches!(byte, b'"' | b'\\' | 0x7f | 0xc2 | 0xee) {
                continue;
            }
            let Some(character) = valid.get(i..).and_then(|v| v.chars().next()) else { continue };
            let escape =
                character.is_control() || matches!(character, '"' | '\\' | '\u{ef80}'..='\u{efff}');
            if !escape {
                continue;
            }
            let end = i + character.len_utf8();
            out.extend_from_slice(valid.as_bytes().get(copied..i).unwrap_or(&[]));
            copied = end;
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{ef80}'..='\u{efff}' => raw(out, valid.as_bytes().get(i..end).unwrap_or(&[])),
                other => write!(out, "\\u{:04x}", u32::from(other)).expect(MEMORY),
            }
            for _ in 1..character.len_utf8() {
                rest.next();
            }
        }
        out.extend_from_slice(valid.as_bytes().get(copied..).unwrap_or(&[]));
        raw(out, chunk.invalid());
    }
    out.push(b'"');
}

fn raw(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        write!(out, "\\u{:04x}", RAW + u32::from(byte)).expect(MEMORY);
    }
}

/// The bytes that [`string`] wrote, of the text that a reader of JSON got.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{ef80}'..='\u{efff}' => {
                out.push(u8::try_from(u32::from(character) - RAW).unwrap_or(0));
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// Appends a number; a string of its digits if a double cannot hold it.
pub fn number(out: &mut Vec<u8>, number: Number) {
    match number.fits_double() {
        true => write!(out, "{number}"),
        false => write!(out, "\"{number}\""),
    }
    .expect(MEMORY);
}

fn element(out: &mut Vec<u8>, entry: &Entry, map: &Map, div: u64, cx: &mut Context) {
    match (entry.merged(), &map.value) {
        (Merged::Buckets(counts), MapValue::Aggregate(aggregation)) => {
            buckets(out, aggregation, counts, div);
        }
        _ => value(out, &entry.value(map), div, cx),
    }
}

pub(crate) fn buckets(out: &mut Vec<u8>, of: &Aggregation, counts: &[u64], div: u64) {
    let wide = |n: i128| match (i64::try_from(n), u64::try_from(n)) {
        (Ok(n), _) => Number::Signed(n),
        (_, Ok(n)) => Number::Unsigned(n),
        // Only the underflow below the smallest number gets here.
        _ => Number::Signed(i64::MIN),
    };
    out.push(b'[');
    for (i, bucket) in histogram::buckets(counts).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'{');
        let bounds = histogram::bounds(of, bucket.index);
        for (name, bound) in [("min", bounds.min), ("max", bounds.max)] {
            if let Some(bound) = bound {
                write!(out, "\"{name}\": ").expect(MEMORY);
                number(out, wide(bound));
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(b"\"count\": ");
        number(out, Number::Unsigned(bucket.count).divided(div));
        out.push(b'}');
    }
    out.push(b']');
}

fn array<'a>(
    out: &mut Vec<u8>,
    elements: impl Iterator<Item = Value<'a>>,
    div: u64,
    cx: &mut Context,
) {
    out.push(b'[');
    for (i, element) in elements.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        value(out, &element, div, cx);
    }
    out.push(b']');
}
