//! Everything that a run shows: values as text or JSON, to the output or to
//! the error stream (output.md).
//!
//! Text is written straight into the buffer of a [`Sink`]. Complete lines wait
//! there until [`Output::settle`], which the poll loop calls when the ring
//! buffer is empty, so that a burst of events costs one write.

mod actions;
pub mod export;
pub mod format;
pub mod histogram;
pub mod json;
pub mod losses;
pub mod pcap;
mod reports;
pub mod series;
pub mod sink;
pub mod text;
pub mod time;
pub mod trial;

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use crate::diag::{Form, Levels};
use crate::guard;
use crate::plan::{self, Action, Event, Plan};
use crate::runtime::decode::{Members, Value};
use crate::runtime::ledger::Shortfall;
use crate::runtime::mappings::Mappings;
use crate::runtime::maps::{MapData, Merged};
use crate::runtime::names::{Machine, Names};
use crate::runtime::stacks::{NoStacks, Stacks};
use crate::runtime::symbols::Symbols;
use crate::source::{Sources, Span};

use export::perfetto::Stamp;
pub use sink::{Buffering, Error, Sink};
use text::Context;
use time::Clock;

const MEMORY: &str = "bug: memory takes every write";

/// How to show things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub json: bool,
    pub buffering: Buffering,
    /// The output goes to a terminal: what traced programs wrote is guarded
    /// ([`crate::guard`]).
    pub guarded: bool,
    /// So does the error stream.
    pub guarded_errors: bool,
    /// Colours on the error stream.
    pub color: bool,
    /// How messages are written on the error stream.
    pub messages: Form,
    /// Which warnings are shown; `warnf` is one of [`crate::diag::Warning::Runtime`].
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
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
