//! Diagnostics: what is wrong with a script, where, why, and what to write
//! instead. The only file that knows codespan-reporting.
//!
//! A message is lower case, has no full stop and puts names in backticks; the
//! label is shorter than the message. A note states a fact, a help an action.

use codespan_reporting::diagnostic as cs;
use codespan_reporting::files::SimpleFiles;
use codespan_reporting::term;

use crate::guard;
use crate::source::{Sources, Span};

/// How bad it is. Only errors stop a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One message with its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// The characters that the message is about, and a short text under them.
    pub primary: Option<(Span, String)>,
    /// Other places that matter: an earlier assignment, the first type.
    pub labels: Vec<(Span, String)>,
    pub notes: Vec<String>,
    pub helps: Vec<String>,
}

/// All messages of the stages so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    pub list: Vec<Diagnostic>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, Some(span), message.into())
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, Some(span), message.into())
    }

    /// An error that belongs to no place in a script (a flag, the kernel).
    pub fn global(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, None, message.into())
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Diagnostic {
        let primary = span.map(|s| (s, String::new()));
        Diagnostic { severity, message, primary, labels: vec![], notes: vec![], helps: vec![] }
    }

    /// The short text under the characters that the message is about.
    #[must_use]
    pub fn at(mut self, text: impl Into<String>) -> Diagnostic {
        if let Some((_, label)) = &mut self.primary {
            *label = text.into();
        }
        self
    }

    /// Another place, with its own short text.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push((span, text.into()));
        self
    }

    /// A fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.notes.push(text.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.helps.push(text.into());
        self
    }
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        // A check that runs once per attach point must not repeat itself.
        if !self.list.contains(&diagnostic) {
            self.list.push(diagnostic);
        }
    }

    pub fn append(&mut self, other: Diagnostics) {
        for diagnostic in other.list {
            self.push(diagnostic);
        }
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// The messages as text, errors first, in the order of the script.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let mut files = SimpleFiles::new();
        for file in &sources.files {
            files.add(file.name.as_str(), file.text.as_str());
        }
        let mut list: Vec<&Diagnostic> = self.list.iter().collect();
        list.sort_by_key(|d| {
            (d.severity == Severity::Warning, d.primary.as_ref().map_or(Span::default(), |p| p.0))
        });
        let config = term::Config { tab_width: 4, ..term::Config::default() };
        let mut out = String::new();
        for diagnostic in list {
            let shown = to_codespan(diagnostic);
            let result = if color {
                let mut buffer = term::termcolor::Buffer::ansi();
                let done = term::emit_to_write_style(&mut buffer, &config, &files, &shown);
                out.push_str(&String::from_utf8_lossy(buffer.as_slice()));
                done
            } else {
                term::emit_to_string(&mut out, &config, &files, &shown)
            };
            result.expect("bug: spans lie inside their text");
        }
        out
    }
}

fn to_codespan(d: &Diagnostic) -> cs::Diagnostic<usize> {
    let range = |s: Span| (usize::from(s.file), s.start as usize..s.end as usize);
    let mut labels = Vec::new();
    if let Some((span, text)) = &d.primary {
        let (file, range) = range(*span);
        labels.push(cs::Label::primary(file, range).with_message(guard::text(text)));
    }
    for (span, text) in &d.labels {
        let (file, range) = range(*span);
        labels.push(cs::Label::secondary(file, range).with_message(guard::text(text)));
    }
    let notes = d.notes.iter().map(|n| format!("note: {}", guard::text(n)));
    let helps = d.helps.iter().map(|h| format!("help: {}", guard::text(h)));
    let base = match d.severity {
        Severity::Error => cs::Diagnostic::error(),
        Severity::Warning => cs::Diagnostic::warning(),
    };
    base.with_message(guard::text(&d.message))
        .with_labels(labels)
        .with_notes(notes.chain(helps).collect())
}

/// The candidate closest to `name`, if it is close enough to be a slip of the
/// hand: at most a third of the characters differ (Damerau-Levenshtein, the
/// optimal string alignment form).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (distance(name, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 8 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |r: usize, c: usize| rows.get(r).and_then(|r| r.get(c)).copied().unwrap_or(0);
            let last = row.last().copied().unwrap_or(0);
            let mut best = (at(i, j) + usize::from(x != y)).min(at(i, j + 1) + 1).min(last + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            if swapped {
                best = best.min(at(i - 1, j - 1) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|r| r.last()).copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips() {
        assert_eq!(nearest("fdd", ["fd", "buf", "count"]), Some("fd"));
        assert_eq!(nearest("cmom", ["comm", "cpu"]), Some("comm"));
        assert_eq!(nearest("xyz", ["comm", "cpu"]), None);
    }
}
