//! Everything that a run shows: values as text or JSON, to the output or to
//! the error stream (output.md).
//!
//! Text is written straight into the buffer of a [`Sink`]. Complete lines wait
//! there until [`Output::settle`], which the poll loop calls when the ring
//! buffer is empty, so that a burst of events costs one write.

pub mod export;
pub mod format;
pub mod histogram;
pub mod json;
pub mod losses;
pub mod pcap;
pub mod series;
pub mod sink;
pub mod text;
pub mod time;
pub mod trial;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::rc::Rc;

use crate::diag::{self, Diagnostic, Diagnostics, Form, Levels};
use crate::guard;
use crate::plan::{self, Action, Event, MapValue, Plan};
use crate::runtime::decode::{Members, Value};
use crate::runtime::ledger::{Notice, Row, Shortfall, Warning, WarningKind};
use crate::runtime::mappings::Mappings;
use crate::runtime::maps::{MapData, Merged};
use crate::runtime::names::{Machine, Names};
use crate::runtime::stacks::{NoStacks, Stacks};
use crate::runtime::symbols::Symbols;
use crate::source::{Sources, Span};

use export::perfetto::Stamp;
pub use sink::{Buffering, Error, Sink};
use text::Context;
use time::{Clock, Wall};

const MEMORY: &str = "bug: memory takes every write";

/// Entries of a map that become text before that is handed on.
const PART: usize = 4096;

/// How to show things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub json: bool,
    pub buffering: Buffering,
    /// The output goes to a terminal: what traced programs wrote is guarded
    /// ([`guard`]).
    pub guarded: bool,
    /// So does the error stream.
    pub guarded_errors: bool,
    /// Colours on the error stream.
    pub color: bool,
    /// How messages are written on the error stream.
    pub messages: Form,
    /// Which warnings are shown; `warnf` is one of [`diag::Warning::Runtime`].
    pub levels: Levels,
}

/// Where a run shows what it found.
pub struct Output {
    out: Sink,
    errors: Sink,
    options: Options,
    cx: Context,
    sources: Sources,
    max_cat_bytes: u64,
    /// For texts on their way into JSON, a file name or a command.
    scratch: Vec<u8>,
    packets: pcap::Files,
    /// Where results go that have another program's format.
    export: Option<export::Export>,
    /// Of the event at hand.
    now: u64,
    /// What was left out here, by statement.
    shortfalls: Vec<(Span, Shortfall, u64)>,
}

/// Text that is kept.
#[derive(Clone, Default)]
struct Captured(Rc<RefCell<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Access to the script's maps, by their index in the plan.
pub trait Maps {
    /// # Errors
    /// What the kernel answers.
    fn read(&mut self, map: u32) -> io::Result<MapData<'_>>;

    /// The same of the `top` largest entries, as far as that applies to the map; all for 0.
    ///
    /// # Errors
    /// What the kernel answers.
    fn read_top(&mut self, map: u32, top: u64) -> io::Result<MapData<'_>> {
        let _ = top;
        self.read(map)
    }

    /// The merged value of one key, if it is there.
    ///
    /// # Errors
    /// What the kernel answers.
    fn find(&mut self, map: u32, key: &[u8]) -> io::Result<Option<(&plan::Map, Merged)>>;

    /// # Errors
    /// What the kernel answers.
    fn clear(&mut self, map: u32) -> io::Result<()>;

    /// # Errors
    /// What the kernel answers.
    fn zero(&mut self, map: u32) -> io::Result<()>;
}

impl Default for Options {
    fn default() -> Options {
        Options {
            json: false,
            buffering: Buffering::Line,
            guarded: false,
            guarded_errors: false,
            color: false,
            messages: Form::Text,
            levels: Levels::default(),
        }
    }
}

impl Output {
    /// Shows a run of `plan` on `out` and `errors`, with this machine's names
    /// and clocks.
    pub fn new(
        plan: &Plan,
        out: Box<dyn Write>,
        errors: Box<dyn Write>,
        options: Options,
    ) -> Output {
        let symbols = Symbols::new(plan.config.cpp_demangle, plan.config.show_debug_info);
        let names = Box::new(Machine::new(symbols));
        Output::with(plan, out, errors, options, names, Clock::measure())
    }

    /// The same with other names and clocks.
    pub fn with(
        plan: &Plan,
        out: Box<dyn Write>,
        errors: Box<dyn Write>,
        options: Options,
        names: Box<dyn Names>,
        clock: Clock,
    ) -> Output {
        Output {
            out: Sink::new(out, options.buffering),
            errors: Sink::new(errors, Buffering::Line),
            options,
            cx: Context {
                names,
                stacks: Box::new(NoStacks),
                clock,
                time_formats: plan.time_formats.clone(),
                cgroup_filters: plan.cgroup_filters.clone(),
                trailer: plan.config.str_trunc_trailer.clone(),
                guarded: options.guarded && !options.json,
            },
            sources: plan.sources.clone(),
            max_cat_bytes: plan.config.max_cat_bytes,
            scratch: Vec::new(),
            packets: pcap::Files::default(),
            export: None,
            now: 0,
            shortfalls: Vec::new(),
        }
    }

    /// Writes results to `out` in another program's format, when the run has
    /// ended. What has no place in it is shown as before.
    pub fn export(&mut self, plan: &Plan, format: export::Format, out: Box<dyn Write>) {
        self.export = Some(export::Export::new(format, out, plan));
    }

    /// Writes what is to be exported.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.out.flush()?;
        self.export.as_mut().map_or(Ok(()), export::Export::finish)
    }

    /// Where the frames of stacks are found; without it stacks have none.
    pub fn stacks(&mut self, stacks: impl Stacks + 'static) {
        self.cx.stacks = Box::new(stacks);
    }

    /// Names functions of processes also after they have exited.
    pub fn remember(&mut self, mappings: Mappings) {
        self.cx.names.remember(mappings);
    }

    /// Processes that mapped code since the last call, as far as that is recorded.
    pub fn changed_processes(&mut self) -> Vec<u32> {
        self.cx.names.changed_processes()
    }

    /// Where separate debug files are looked for before the usual places. A `+` in front, by which
    /// other tools are told to compare checksums, changes nothing: that is always done.
    pub fn search_debug_files(&mut self, folders: &[String]) {
        let folders = folders.iter().map(|f| f.strip_prefix('+').unwrap_or(f));
        let folders = folders.filter(|f| !f.is_empty()).map(std::path::PathBuf::from);
        self.cx.names.search_debug_files(folders.collect());
    }

    /// Frames of stacks that had no name since this was asked last.
    pub fn take_unnamed(&mut self) -> u64 {
        self.cx.names.take_unnamed()
    }

    /// Does what an event record asks for. Gives the exit status if it asks
    /// to end the run.
    ///
    /// # Errors
    /// If output cannot be written; failures of the action itself (a missing
    /// file, a map that cannot be read) are shown on the error stream.
    pub fn event(
        &mut self,
        event: &Event,
        record: &[u8],
        maps: &mut dyn Maps,
    ) -> Result<Option<u8>, Error> {
        if self.export.is_some() {
            self.export_event(event, record, maps)
        } else {
            self.act(event, record, maps)
        }
    }

    /// The same if there is an export.
    fn export_event(
        &mut self,
        event: &Event,
        record: &[u8],
        maps: &mut dyn Maps,
    ) -> Result<Option<u8>, Error> {
        let stamp = Stamp::of(event, record);
        self.now = stamp.time;
        let takes = self.export.as_ref().is_some_and(export::Export::takes_events);
        let status = match &event.action {
            Action::Printf(_)
            | Action::Print
            | Action::Time { .. }
            | Action::Join { .. }
            | Action::Cat(_)
            | Action::System(_)
                if takes =>
            {
                let (done, text) = self.captured(|output| output.act(event, record, maps));
                if let Some(export) = &mut self.export {
                    export.event(&stamp, &text)?;
                }
                done?
            }
            _ => self.act(event, record, maps)?,
        };
        if let (Action::Clear { map } | Action::Zero { map }, Some(export)) =
            (&event.action, &mut self.export)
        {
            export.cleared(*map);
        }
        self.now = 0;
        Ok(status)
    }

    fn act(
        &mut self,
        event: &Event,
        record: &[u8],
        maps: &mut dyn Maps,
    ) -> Result<Option<u8>, Error> {
        let values = Members::of(&event.fields, record);
        match &event.action {
            Action::Printf(format) => self.printf(format, values)?,
            Action::Errorf(format) => self.errorf(event.span, format, values)?,
            Action::Warnf(format) => self.warnf(event.span, format, values)?,
            Action::System(format) => self.system(format, values)?,
            Action::Cat(format) => self.cat(event.span, format, values)?,
            Action::Print => self.value(&values.first().unwrap_or(Value::None))?,
            Action::PrintMap { map, top, div } => match maps.read_top(*map, *top) {
                Ok(data) => self.map(&data, *top, *div)?,
                Err(e) => self.failure(&format!("cannot read a map: {e}"))?,
            },
            Action::PrintMapElement { map } => {
                let offset = event.fields.first().map_or(0, |f| f.offset as usize);
                match maps.find(*map, record.get(offset..).unwrap_or(&[])) {
                    Ok(Some((map, value))) => self.element(map, &value)?,
                    Ok(None) => self.value(&Value::Int(super::decode::Number::Unsigned(0)))?,
                    Err(e) => self.failure(&format!("cannot read a map: {e}"))?,
                }
            }
            Action::Clear { map } => {
                if let Err(e) = maps.clear(*map) {
                    self.failure(&format!("cannot clear a map: {e}"))?;
                }
            }
            Action::Zero { map } => {
                if let Err(e) = maps.zero(*map) {
                    self.failure(&format!("cannot set a map to zero: {e}"))?;
                }
            }
            Action::Time { format } => self.time(format)?,
            Action::Join { separator } => self.join(separator, values)?,
            Action::Packet { file } => self.packet(file, record)?,
            // The run side is awake now, which is all.
            Action::Unwind => {}
            Action::Exit => {
                let status = match values.first() {
                    Some(Value::Int(n)) => n.bits(),
                    _ => 0,
                };
                return Ok(Some(u8::try_from(status % 256).unwrap_or(0)));
            }
        }
        Ok(None)
    }

    /// A packet with its header (`plan::PACKET_HEADER`), to be kept in a file.
    fn packet(&mut self, file: &str, record: &[u8]) -> Result<(), Error> {
        let word = |at, size| usize::try_from(super::decode::word(record, at, size)).unwrap_or(0);
        let (length, offset) = (word(4, 4), word(16, 4));
        let start = plan::PACKET_HEADER as usize;
        // The kernel pads what it sends.
        let all = record.get(start..).unwrap_or(&[]);
        let packet = all.get(..length).unwrap_or(all).get(offset..).unwrap_or(&[]);
        let now = self.cx.clock.wall(super::decode::word(record, 8, 8), 0).unwrap_or(Wall::now());
        match self.packets.append(file, now, packet) {
            Ok(()) => Ok(()),
            Err(e) => self.failure(&format!("cannot write the packets to `{file}`: {e}")),
        }
    }

    /// Collects what `f` shows, on whichever stream, as text.
    pub fn captured<T>(&mut self, f: impl FnOnce(&mut Output) -> T) -> (T, Vec<u8>) {
        let text = Captured::default();
        let sink = || Sink::new(Box::new(text.clone()), Buffering::None);
        let out = std::mem::replace(&mut self.out, sink());
        let errors = std::mem::replace(&mut self.errors, sink());
        let options = Options { json: false, color: false, messages: Form::Text, ..self.options };
        let options = std::mem::replace(&mut self.options, options);
        let result = f(self);
        (self.out, self.errors, self.options) = (out, errors, options);
        (result, text.0.take())
    }

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

    /// `Program pinned to PATH`.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn pinned(&mut self, path: &str) -> Result<(), Error> {
        if !self.options.json {
            writeln!(self.out.buffer, "Program pinned to {path}").expect(MEMORY);
            return self.out.piece_done();
        }
        self.out.buffer.extend_from_slice(b"{\"type\": \"pinned\", \"data\": ");
        json::string(&mut self.out.buffer, path.as_bytes());
        self.out.buffer.extend_from_slice(b"}\n");
        self.out.piece_done()
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

    /// What stands between the events and the maps at the end.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn end_of_events(&mut self) -> Result<(), Error> {
        if !self.options.json && self.export.is_none() {
            self.out.buffer.extend_from_slice(b"\n\n");
        }
        self.out.piece_done()
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

    fn left_out(&mut self, span: Span, what: Shortfall) {
        match self.shortfalls.iter_mut().find(|(s, w, _)| (*s, *w) == (span, what)) {
            Some((.., count)) => *count += 1,
            None => self.shortfalls.push((span, what, 1)),
        }
    }

    /// What was left out since this was asked last, by statement.
    pub fn take_shortfalls(&mut self) -> Vec<(Span, Shortfall, u64)> {
        std::mem::take(&mut self.shortfalls)
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

    /// To be called when nothing more is coming for now: complete lines are
    /// handed on.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn settle(&mut self) -> Result<(), Error> {
        self.cx.names.catch_up();
        self.out.settle()
    }

    /// Bytes that wait to be handed on.
    pub fn buffered(&self) -> usize {
        self.out.buffer.len()
    }

    /// Hands on everything.
    ///
    /// # Errors
    /// If output cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush()
    }

    fn filled_map(&mut self, data: &MapData<'_>, top: u64, div: u64) -> Result<(), Error> {
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
    fn render(&mut self, format: &plan::Format, values: Members<'_>) {
        let guarded = std::mem::replace(&mut self.cx.guarded, false);
        self.scratch.clear();
        format::format(&mut self.scratch, format, values, &mut self.cx);
        self.cx.guarded = guarded;
    }

    /// The scratch buffer as a JSON object.
    fn message(&mut self, kind: &str) -> Result<(), Error> {
        json::message(&mut self.out.buffer, kind, &self.scratch);
        self.out.piece_done()
    }

    fn complaint(
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

    fn json_warning(&mut self, warning: &Warning) -> Result<(), Error> {
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
    fn json_place(&mut self, span: Span) {
        let (line, column) = self.sources.line_col(span);
        let out = &mut self.out.buffer;
        out.extend_from_slice(b", \"filename\": ");
        json::string(out, self.sources.name(span.file).as_bytes());
        writeln!(out, ", \"line\": {line}, \"col\": {column}}}").expect(MEMORY);
    }

    /// Text for the error stream, after what the output already has.
    fn error_text(&mut self, text: &str) -> Result<(), Error> {
        self.out.settle()?;
        self.errors.buffer.extend_from_slice(text.as_bytes());
        self.errors_done();
        Ok(())
    }

    /// A message as the error stream may have it.
    fn for_errors<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.options.guarded_errors { guard::text(text) } else { Cow::Borrowed(text) }
    }

    /// A closed error stream is no reason to stop: there is nowhere to say so.
    fn errors_done(&mut self) {
        drop(self.errors.flush());
    }

    fn tag(&self, tag: &str) -> String {
        match (self.options.color, tag) {
            (false, _) => tag.into(),
            (true, "ERROR") => format!("\x1b[31m{tag}\x1b[0m"),
            (true, _) => format!("\x1b[33m{tag}\x1b[0m"),
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("options", &self.options).finish_non_exhaustive()
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

#[cfg(test)]
pub(crate) mod tests;
