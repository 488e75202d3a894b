//! Messages as JSON, an object per line (`--message-format json`), for editors
//! and other tools.
//!
//! Places have byte offsets into the text, and lines and columns, which count
//! from 1; columns count characters. The end of a place is exclusive.

use serde_json::{Value, json};

use super::{Diagnostic, Severity};
use crate::source::{Sources, Span};

/// One line of JSON, newline included.
pub(super) fn line(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let mut text = value(diagnostic, sources).to_string();
    text.push('\n');
    text
}

fn value(d: &Diagnostic, sources: &Sources) -> Value {
    let primary = d.primary.iter().map(|(span, text)| (true, span, text));
    let others = d.labels.iter().map(|(span, text)| (false, span, text));
    let labels: Vec<Value> = primary
        .chain(others)
        .map(|(primary, span, text)| {
            json!({ "primary": primary, "text": text, "span": place(*span, sources) })
        })
        .collect();
    json!({
        "type": "diagnostic",
        "severity": match d.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "name": d.name.map(|name| name.name()),
        "message": d.message,
        "span": d.primary.as_ref().map(|(span, _)| place(*span, sources)),
        "labels": labels,
        "notes": d.notes,
        "helps": d.helps,
        "suggestion": d.suggestion.as_ref().map(|s| json!({
            "span": place(s.span, sources),
            "replacement": s.replacement,
        })),
    })
}

fn place(span: Span, sources: &Sources) -> Value {
    let point = |offset: u32| {
        let (line, column) = sources.line_col(Span { start: offset, end: offset, ..span });
        json!({ "byte": offset, "line": line, "column": column })
    };
    json!({ "file": sources.name(span.file), "start": point(span.start), "end": point(span.end) })
}
