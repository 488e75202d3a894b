//! The table of losses as text and as JSON.

use std::io::Write as _;

use super::json;
use crate::diag::{Diagnostic, Warning};
use crate::runtime::ledger::Row;
use crate::source::{Sources, Span};

const MEMORY: &str = "bug: memory takes every write";

/// The table as lines: a head, a line for each row, and what to write, once each.
pub fn text(rows: &[Row], sources: &Sources, tag: &str) -> String {
    let places: Vec<String> = rows.iter().map(|row| place(sources, row.span)).collect();
    let counts: Vec<String> = rows.iter().map(|row| row.count.to_string()).collect();
    let widest = |texts: &[String]| texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    let (wide, long) = (widest(&counts).max(8), widest(&places));
    let mut text = format!("{tag}: the output lacks something\n");
    for ((row, place), count) in rows.iter().zip(&places).zip(&counts) {
        text += &format!("{count:>wide$}  {place:long$}  {}\n", row.message);
    }
    let mut helps: Vec<&str> = Vec::new();
    for help in rows.iter().filter(|row| !row.told).filter_map(|row| row.help.as_deref()) {
        if !helps.contains(&help) {
            helps.push(help);
        }
    }
    for help in helps {
        text += &format!("{:wide$}  help: {help}\n", "");
    }
    text
}

/// A row as a message, where messages are objects.
pub fn diagnostic(row: &Row) -> Diagnostic {
    let message = format!("the output lacks {} {}", row.count, row.message);
    let d = match row.span {
        Some(span) => Diagnostic::warning(Warning::Losses, span, message),
        None => Diagnostic::global(message).weaken(Warning::Losses),
    };
    match &row.help {
        Some(help) => d.help(help.as_str()),
        None => d,
    }
}

/// The table as an object.
pub fn json(out: &mut Vec<u8>, rows: &[Row], sources: &Sources) {
    out.extend_from_slice(b"{\"type\": \"losses\", \"data\": [");
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write!(out, "{{\"cause\": \"{}\", \"count\": {}, \"msg\": ", row.cause, row.count)
            .expect(MEMORY);
        json::string(out, row.message.as_bytes());
        if let Some((map, room)) = &row.map {
            out.extend_from_slice(b", \"map\": ");
            json::string(out, map.as_bytes());
            write!(out, ", \"max_entries\": {room}").expect(MEMORY);
        }
        if let Some(error) = row.error {
            write!(out, ", \"retcode\": {error}").expect(MEMORY);
        }
        if let Some(help) = &row.help {
            out.extend_from_slice(b", \"help\": ");
            json::string(out, help.as_bytes());
        }
        if let Some(span) = row.span {
            let (line, column) = sources.line_col(span);
            out.extend_from_slice(b", \"filename\": ");
            json::string(out, sources.name(span.file).as_bytes());
            write!(out, ", \"line\": {line}, \"col\": {column}").expect(MEMORY);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

/// `file:line:column`; an object from elsewhere may come without its script.
fn place(sources: &Sources, span: Option<Span>) -> String {
    match span {
        Some(span) if sources.holds(span) => {
            let (line, column) = sources.line_col(span);
            format!("{}:{line}:{column}", sources.name(span.file))
        }
        _ => "-".to_owned(),
    }
}
