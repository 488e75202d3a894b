//! What there is to say about a run: warnings, losses, messages. On the error stream for people,
//! among the other objects in JSON.

use std::borrow::Cow;
use std::io::Write as _;

use super::sink::Error;
use super::{MEMORY, Output, format, json, losses};
use crate::diag::{self, Diagnostic, Diagnostics, Form};
use crate::guard;
use crate::plan;
use crate::runtime::decode::Members;
use crate::runtime::ledger::{Notice, Row, Warning, WarningKind};
use crate::source::{Sources, Span};

impl Output {
    /// `Attached N probes`.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn attached_probes(&mut self, count: usize) -> Result<(), Error> {
        if self.options.json {
            writeln!(
                self.out.buffer,
                "{{\"type\": \"attached_probes\", \"count\": {count}, \
                 \"data\": {{\"probes\": {count}}}}}"
            )
            .expect(MEMORY);
            return self.out.piece_done();
        }
        let s = if count == 1 { "" } else { "s" };
        self.error_text(&format!("Attached {count} probe{s}\n"))
    }

    /// # Errors
    /// If output cannot be written.
    pub fn errorf(
        &mut self,
        span: Span,
        format: &plan::Format,
        values: Members<'_>,
    ) -> Result<(), Error> {
        self.complaint("errorf", span, format, values)
    }

    /// Nothing if warnings are off.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn warnf(
        &mut self,
        span: Span,
        format: &plan::Format,
        values: Members<'_>,
    ) -> Result<(), Error> {
        match self.options.levels.shows(diag::Warning::Runtime) {
            true => self.complaint("warnf", span, format, values),
            false => Ok(()),
        }
    }

    /// A loss or a run-time warning from the ledger.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn notice(&mut self, notice: &Notice) -> Result<(), Error> {
        match notice {
            Notice::Lost { events } if self.options.json => {
                writeln!(
                    self.out.buffer,
                    "{{\"type\": \"lost_events\", \"count\": {events}, \
                     \"data\": {{\"events\": {events}}}}}"
                )
                .expect(MEMORY);
                self.out.piece_done()
            }
            Notice::Lost { events } => self.error_text(&format!("Lost {events} events\n")),
            Notice::LostInAll { events } => {
                self.error_text(&format!("WARNING: Total lost event count: {events}\n"))
            }
            Notice::Warning(_) if !self.options.levels.shows(diag::Warning::Runtime) => Ok(()),
            Notice::Warning(warning) if self.options.json => self.json_warning(warning),
            // An object from elsewhere may come without its script.
            Notice::Warning(warning)
                if !self.sources.holds(warning.span) && self.options.messages != Form::Json =>
            {
                let tag = self.tag("WARNING");
                self.error_text(&format!("{tag}: {}\n", warning.message))
            }
            Notice::Warning(warning) => self.diagnostic(&warning.diagnostic),
        }
    }

    /// Whether losses are told as a table for people.
    pub fn has_table(&self) -> bool {
        !self.options.json && self.options.levels.shows(diag::Warning::Losses)
    }

    /// The table of what the output lacks. In JSON, it is the last object, and always there.
    /// For people it is lines on the error stream, if the output lacks anything, unless
    /// warnings are off.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn losses(&mut self, rows: &[Row]) -> Result<(), Error> {
        if self.options.json {
            losses::json(&mut self.out.buffer, rows, &self.sources);
            return self.out.piece_done();
        }
        if !self.has_table() || rows.iter().all(|row| row.wanted) {
            return Ok(());
        }
        if self.options.messages == Form::Json {
            let list = Diagnostics { list: rows.iter().map(losses::diagnostic).collect() };
            let text = list.render(&self.sources, Form::Json);
            return self.error_text(&text);
        }
        self.error_text(&losses::text(rows, &self.sources, &self.tag("WARNING")))
    }

    /// A message about the run itself, such as a probe that is left out. On
    /// the error stream in both formats.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn diagnostic(&mut self, diagnostic: &Diagnostic) -> Result<(), Error> {
        // The run is under way: a warning ends it no more.
        if diagnostic.name.is_some_and(|name| !self.options.levels.shows(name)) {
            return Ok(());
        }
        let list = Diagnostics { list: vec![diagnostic.clone()] };
        let text = list.render(&self.sources, self.options.messages);
        self.error_text(&text)
    }

    /// A line about how the run goes (`-v`), on the error stream.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn remark(&mut self, text: &str) -> Result<(), Error> {
        let text = self.for_errors(text);
        self.error_text(&format!("{text}\n"))
    }

    /// A failure outside the script, as a line on the error stream.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn failure(&mut self, message: &str) -> Result<(), Error> {
        let tag = self.tag("ERROR");
        let message = self.for_errors(message);
        self.error_text(&format!("{tag}: {message}\n"))
    }

    pub(super) fn complaint(
        &mut self,
        kind: &str,
        span: Span,
        format: &plan::Format,
        values: Members<'_>,
    ) -> Result<(), Error> {
        if self.options.json {
            self.render(format, values);
            let out = &mut self.out.buffer;
            write!(out, "{{\"type\": \"{kind}\", \"msg\": ").expect(MEMORY);
            json::string(out, &self.scratch);
            self.json_place(span);
            return self.out.piece_done();
        }
        let tag = self.tag(if kind == "errorf" { "ERROR" } else { "WARNING" });
        self.out.settle()?;
        let out = &mut self.errors.buffer;
        write!(out, "{}: {tag}: ", place(&self.sources, span)).expect(MEMORY);
        let guarded = std::mem::replace(&mut self.cx.guarded, self.options.guarded_errors);
        format::format(out, format, values, &mut self.cx);
        self.cx.guarded = guarded;
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        self.errors_done();
        Ok(())
    }

    pub(super) fn json_warning(&mut self, warning: &Warning) -> Result<(), Error> {
        let out = &mut self.out.buffer;
        let kind = match warning.kind {
            WarningKind::Helper { .. } => "helper_error",
            WarningKind::Other => "runtime_error",
        };
        write!(out, "{{\"type\": \"{kind}\", \"msg\": ").expect(MEMORY);
        json::string(out, warning.message.as_bytes());
        if let WarningKind::Helper { name, code } = &warning.kind {
            out.extend_from_slice(b", \"helper\": ");
            json::string(out, name.as_bytes());
            write!(out, ", \"retcode\": {code}").expect(MEMORY);
        }
        write!(out, ", \"count\": {}", warning.count).expect(MEMORY);
        self.json_place(warning.span);
        self.out.piece_done()
    }

    /// The end of an object that points into the script.
    pub(super) fn json_place(&mut self, span: Span) {
        let (line, column) = self.sources.line_col(span);
        let out = &mut self.out.buffer;
        out.extend_from_slice(b", \"filename\": ");
        json::string(out, self.sources.name(span.file).as_bytes());
        writeln!(out, ", \"line\": {line}, \"col\": {column}}}").expect(MEMORY);
    }

    /// Text for the error stream, after what the output already has.
    pub(super) fn error_text(&mut self, text: &str) -> Result<(), Error> {
        self.out.settle()?;
        self.errors.buffer.extend_from_slice(text.as_bytes());
        self.errors_done();
        Ok(())
    }

    /// A message as the error stream may have it.
    pub(super) fn for_errors<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.options.guarded_errors { guard::text(text) } else { Cow::Borrowed(text) }
    }

    /// A closed error stream is no reason to stop: there is nowhere to say so.
    pub(super) fn errors_done(&mut self) {
        drop(self.errors.flush());
    }

    pub(super) fn tag(&self, tag: &str) -> String {
        match (self.options.color, tag) {
            (false, _) => tag.into(),
            (true, "ERROR") => format!("\x1b[31m{tag}\x1b[0m"),
            (true, _) => format!("\x1b[33m{tag}\x1b[0m"),
        }
    }
}

/// `file:line:column-column`, or `file:line-line` for several lines.
fn place(sources: &Sources, span: Span) -> String {
    let name = sources.name(span.file);
    let (line, column) = sources.line_col(span);
    let (last, end) = sources.line_col(Span { start: span.end, ..span });
    match line == last {
        true => format!("{name}:{line}:{column}-{end}"),
        false => format!("{name}:{line}-{last}"),
    }
}
