//! Diagnostics: what is wrong with a script, where, why, and what to write
//! instead. The only place that knows codespan-reporting.
//!
//! A message is lower case, has no full stop and puts names in backticks; the
//! label is shorter than the message. A note states a fact, a help an action.

mod json;
mod suggest;
mod warning;

pub use suggest::{Suggestion, nearest};
pub use warning::{Levels, WARNINGS, Warning};

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
    /// The name of a warning, also where `-W` made an error of it.
    pub name: Option<Warning>,
    /// Whether it is about what belongs to a script beside its text: imports, C, the
    /// environment. The exit status tells.
    pub beside: bool,
    pub message: String,
    /// The characters that the message is about, and a short text under them.
    pub primary: Option<(Span, String)>,
    /// Other places that matter: an earlier assignment, the first type.
    pub labels: Vec<(Span, String)>,
    pub notes: Vec<String>,
    pub helps: Vec<String>,
    /// What a tool could write instead.
    pub suggestion: Option<Suggestion>,
    /// All names that could stand at the place, for editors.
    pub choices: Vec<String>,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    /// With escape sequences of terminals.
    Colored,
    /// An object per line.
    Json,
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
    pub fn warning(name: Warning, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, Some(span), message.into()).weaken(name)
    }

    /// An error that belongs to no place in a script (a flag, the kernel).
    pub fn global(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, None, message.into())
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Diagnostic {
        let primary = span.map(|s| (s, String::new()));
        Diagnostic {
            severity,
            name: None,
            beside: false,
            message,
            primary,
            labels: vec![],
            notes: vec![],
            helps: vec![],
            suggestion: None,
            choices: vec![],
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn weaken(mut self, name: Warning) -> Diagnostic {
        self.severity = Severity::Warning;
        self.name = Some(name);
        self
    }

    /// About an import, C, or the environment.
    #[must_use]
    pub fn beside(mut self) -> Diagnostic {
        self.beside = true;
        self
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

    /// The names that could stand at the place.
    #[must_use]
    pub fn choices(mut self, names: impl IntoIterator<Item = String>) -> Diagnostic {
        self.choices = names.into_iter().collect();
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

    /// Whether there are errors, and all of them are about what belongs to a script beside its
    /// text.
    pub fn are_beside(&self) -> bool {
        let mut errors = self.list.iter().filter(|d| d.severity == Severity::Error).peekable();
        errors.peek().is_some() && errors.all(|d| d.beside)
    }

    /// The messages, errors first, in the order of the script.
    pub fn render(&self, sources: &Sources, form: Form) -> String {
        let list = self.sorted();
        if form == Form::Json {
            return list.into_iter().map(|d| json::line(d, sources)).collect();
        }
        let mut files = SimpleFiles::new();
        for file in &sources.files {
            files.add(file.name.as_str(), file.text.as_str());
        }
        let config = term::Config { tab_width: 4, ..term::Config::default() };
        let mut out = String::new();
        for diagnostic in list {
            let shown = to_codespan(diagnostic);
            let result = if form == Form::Colored {
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

    /// At most so many errors and so many warnings, in their order, and how many of both are not
    /// among them.
    pub fn first(&self, most: usize) -> (Diagnostics, [usize; 2]) {
        let mut seen = [0, 0];
        let list: Vec<Diagnostic> = self
            .sorted()
            .into_iter()
            .filter(|d| {
                let [errors, warnings] = &mut seen;
                let count = if d.severity == Severity::Error { errors } else { warnings };
                *count += 1;
                *count <= most
            })
            .cloned()
            .collect();
        (Diagnostics { list }, seen.map(|count| count.saturating_sub(most)))
    }

    fn sorted(&self) -> Vec<&Diagnostic> {
        let mut list: Vec<&Diagnostic> = self.list.iter().collect();
        list.sort_by_key(|d| {
            (d.severity == Severity::Warning, d.primary.as_ref().map_or(Span::default(), |p| p.0))
        });
        list
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
    let base = match d.name {
        Some(name) => base.with_code(name.name()),
        None => base,
    };
    base.with_message(guard::text(&d.message))
        .with_labels(labels)
        .with_notes(notes.chain(helps).collect())
}
