//! What events ask for, and maps: everything that goes to the output itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use super::export::perfetto::Stamp;
use super::sink::Error;
use super::time::Wall;
use super::{Output, format, histogram, json, text, time};
use crate::plan::{self, MapValue};
use crate::runtime::decode::{self, Members, Value};
use crate::runtime::ledger::Shortfall;
use crate::runtime::maps::{MapData, Merged};
use crate::source::Span;

/// Entries of a map that become text before that is handed on.
const PART: usize = 4096;

impl Output {
    /// A packet with its header (`plan::PACKET_HEADER`), to be kept in a file.
    pub(super) fn packet(&mut self, file: &str, record: &[u8]) -> Result<(), Error> {
        let word = |at, size| usize::try_from(decode::word(record, at, size)).unwrap_or(0);
        let (length, offset) = (word(4, 4), word(16, 4));
        let start = plan::PACKET_HEADER as usize;
        // The kernel pads what it sends.
        let all = record.get(start..).unwrap_or(&[]);
        let packet = all.get(..length).unwrap_or(all).get(offset..).unwrap_or(&[]);
        let now = self.cx.clock.wall(decode::word(record, 8, 8), 0).unwrap_or(Wall::now());
        match self.packets.append(file, now, packet) {
            Ok(()) => Ok(()),
            Err(e) => self.failure(&format!("cannot write the packets to `{file}`: {e}")),
        }
    }

    /// # Errors
    /// If output cannot be written.
    pub fn printf(&mut self, format: &plan::Format, values: Members<'_>) -> Result<(), Error> {
        if self.options.json {
            self.render(format, values);
            return self.message("printf");
        }
        format::format(&mut self.out.buffer, format, values, &mut self.cx);
        self.out.piece_done()
    }

    /// `print(value)`
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn value(&mut self, value: &Value<'_>) -> Result<(), Error> {
        let out = &mut self.out.buffer;
        if self.options.json {
            out.extend_from_slice(b"{\"type\": \"value\", \"data\": ");
            json::value(out, value, 1, &mut self.cx);
            out.extend_from_slice(b"}\n");
        } else {
            text::value(out, value, 1, &mut self.cx);
            out.push(b'\n');
        }
        self.out.piece_done()
    }

    /// `print(@m, top, div)`: a scalar map without a value shows zero.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn map(&mut self, data: &MapData<'_>, top: u64, div: u64) -> Result<(), Error> {
        if data.is_empty() && data.map.key.is_none() {
            let zero = MapData::zero(data.map);
            let histogram = zero
                .entries(0)
                .iter()
                .any(|e| matches!(e.merged(), Merged::Buckets(_) | Merged::Series(_)));
            return if histogram { Ok(()) } else { self.filled_map(&zero, top, div) };
        }
        self.filled_map(data, top, div)
    }

    /// A map when the run ends: one without a value shows nothing.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn last_map(&mut self, data: &MapData<'_>) -> Result<(), Error> {
        self.filled_map(data, 0, 0)
    }

    /// The value of one element of an aggregation.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn element(&mut self, map: &plan::Map, value: &Merged) -> Result<(), Error> {
        let (Merged::Buckets(counts), MapValue::Aggregate(aggregation)) = (value, &map.value)
        else {
            return self.value(&value.value(map));
        };
        let out = &mut self.out.buffer;
        if self.options.json {
            out.extend_from_slice(b"{\"type\": \"value\", \"data\": ");
            json::buckets(out, aggregation, counts, 1);
            out.extend_from_slice(b"}\n");
        } else {
            histogram::rows(out, aggregation, counts, 1);
            out.push(b'\n');
        }
        self.out.piece_done()
    }

    /// `time(format)`: the time now.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn time(&mut self, format: &str) -> Result<(), Error> {
        if self.options.json {
            self.scratch.clear();
            time::time(&mut self.scratch, format, Wall::now());
            return self.message("time");
        }
        time::time(&mut self.out.buffer, format, Wall::now());
        self.out.piece_done()
    }

    /// Strings up to the first empty one, and a newline.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn join(&mut self, separator: &str, values: Members<'_>) -> Result<(), Error> {
        let out = match self.options.json {
            true => &mut self.scratch,
            false => &mut self.out.buffer,
        };
        if self.options.json {
            out.clear();
        }
        for (i, (_, value)) in values.iter().enumerate() {
            if matches!(value, Value::Str { bytes: [], .. }) {
                break;
            }
            if i > 0 {
                out.extend_from_slice(separator.as_bytes());
            }
            text::value(out, &value, 1, &mut self.cx);
        }
        if self.options.json {
            return self.message("join");
        }
        out.push(b'\n');
        self.out.piece_done()
    }

    /// The beginning of the file of that name.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn cat(
        &mut self,
        span: Span,
        format: &plan::Format,
        values: Members<'_>,
    ) -> Result<(), Error> {
        self.render(format, values);
        let name = OsStr::from_bytes(&self.scratch).to_os_string();
        let mut content = Vec::new();
        let limit = self.max_cat_bytes;
        // One byte more tells whether there is more.
        let read = File::open(&name)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content));
        if let Err(e) = read {
            return self.failure(&format!("cannot read `{}` for cat(): {e}", name.display()));
        }
        if content.len() as u64 > limit {
            content.pop();
            self.left_out(span, Shortfall::CatCut { limit });
        }
        if self.options.json {
            self.scratch = content;
            return self.message("cat");
        }
        text::foreign(&mut self.out.buffer, &content, self.cx.guarded);
        self.out.piece_done()
    }

    /// Runs the text by `sh -c`; shows its standard output and a newline.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn system(&mut self, format: &plan::Format, values: Members<'_>) -> Result<(), Error> {
        self.render(format, values);
        // What the command writes to the terminal itself must not overtake us.
        self.flush()?;
        let command = OsStr::from_bytes(&self.scratch).to_os_string();
        let run = Command::new("/bin/sh")
            .arg("-c")
            .arg(&command)
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output();
        let output = match run {
            Ok(output) => output,
            Err(e) => {
                return self.failure(&format!("cannot run `{}`: {e}", command.display()));
            }
        };
        if self.options.json {
            self.scratch = output.stdout;
            return self.message("syscall");
        }
        text::foreign(&mut self.out.buffer, &output.stdout, self.cx.guarded);
        self.out.buffer.push(b'\n');
        self.out.piece_done()
    }

    pub(super) fn left_out(&mut self, span: Span, what: Shortfall) {
        match self.shortfalls.iter_mut().find(|(s, w, _)| (*s, *w) == (span, what)) {
            Some((.., count)) => *count += 1,
            None => self.shortfalls.push((span, what, 1)),
        }
    }

    /// What was left out since this was asked last, by statement.
    pub fn take_shortfalls(&mut self) -> Vec<(Span, Shortfall, u64)> {
        std::mem::take(&mut self.shortfalls)
    }

    pub(super) fn filled_map(
        &mut self,
        data: &MapData<'_>,
        top: u64,
        div: u64,
    ) -> Result<(), Error> {
        if let Some(export) = &mut self.export {
            let at = if self.now == 0 { Stamp::now().time } else { self.now };
            if export.map(data, at, &mut self.cx) {
                return Ok(());
            }
        }
        let (top, div) = text::limits(data.map, top, div);
        if self.options.json {
            json::map(&mut self.out.buffer, data, top, div, &mut self.cx);
            return self.out.piece_done();
        }
        // A part of a large map at a time.
        for part in data.entries(top).chunks(PART) {
            text::entries(&mut self.out.buffer, data, part, div, &mut self.cx);
            self.out.piece_done()?;
        }
        Ok(())
    }

    /// Formats into the scratch buffer, for JSON, a file name or a command:
    /// nothing of it is for a terminal as it is.
    pub(super) fn render(&mut self, format: &plan::Format, values: Members<'_>) {
        let guarded = std::mem::replace(&mut self.cx.guarded, false);
        self.scratch.clear();
        format::format(&mut self.scratch, format, values, &mut self.cx);
        self.cx.guarded = guarded;
    }

    /// The scratch buffer as a JSON object.
    pub(super) fn message(&mut self, kind: &str) -> Result<(), Error> {
        json::message(&mut self.out.buffer, kind, &self.scratch);
        self.out.piece_done()
    }
}
