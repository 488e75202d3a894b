//! The life of a run after attaching: events come in, something ends it, what
//! is left is shown.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::error::Error;
use super::ledger::{self, Ledger, Notice, Shortfall, Sizes, Tally};
use super::load::{Loaded, damaged, page_size};
use super::maps::{KernelMap, MapData, Merged};
use super::output::{self, Maps, Output};
use super::packets::Packets;
use super::relay::{Chunk, Relay};
use super::ring::Ring;
use super::signals::OwnSignal;
use super::unwind::Unwinding;
use crate::diag::Diagnostic;
use crate::plan::{self, Action, Plan};
use crate::source::Span;

/// How long an event may wait if the kernel does not wake us.
const LATENCY: u16 = 100;

/// How often the loss counters are looked at.
const LEDGER_PERIOD: Duration = Duration::from_secs(1);

/// Objects that an iterator goes through at once. The events of all of them must
/// find room in the ring buffer.
const OBJECTS: usize = 256;

/// Records after which there is time for something else.
const BATCH: usize = 4096;

/// Records at once that are a burst: a thread reads the ring buffer from then on.
const BURST: usize = 256;

/// Bytes that a pipe takes without waiting, if it takes any (`PIPE_BUF`, pipe(7)).
const AT_ONCE: usize = 4096;

/// The part of the ring buffer that may be full before a thread reads it.
const BEHIND: u64 = 4;

/// Why events are no longer processed, or a run cannot go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody reads the output any more.
    Closed,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl From<output::Error> for Stop {
    fn from(error: output::Error) -> Stop {
        match error {
            output::Error::Closed => Stop::Closed,
            output::Error::Io(e, bytes) => {
                let mut diagnostic = Diagnostic::global(format!("cannot write the output: {e}"));
                if bytes > 0 {
                    let lost = format!("{bytes} bytes are lost, and all that would follow");
                    diagnostic = diagnostic.note(lost);
                }
                Stop::Error(Error::run(diagnostic))
            }
        }
    }
}

/// What ended the processing of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// `exit()`: what comes after it is thrown away.
    Exit,
    /// A signal, or the end of the traced process.
    Outside,
}

/// What can end a run from outside.
pub(super) struct Watched<'a> {
    /// Readable once a signal came.
    pub signals: BorrowedFd<'a>,
    pub own: Option<Own<'a>>,
    /// Readable once the process ended. The run ends with the last of them; those that ended are
    /// taken out.
    pub processes: RefCell<Vec<BorrowedFd<'a>>>,
    /// The output, if its other end may go away.
    pub output: Option<BorrowedFd<'a>>,
    /// The tables for unwinding user stacks.
    pub unwinding: Option<&'a RefCell<Unwinding>>,
    /// Asks whether the programs cost too much, and what to say then; the run ends.
    pub too_much: Option<&'a dyn Fn() -> Option<Diagnostic>>,
}

/// Probes that run when the tool gets a signal.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub signal: &'a OwnSignal,
    pub run: &'a dyn Fn() -> Result<(), Error>,
}

/// Events on their way from the ring buffer to the output.
pub(super) struct Events<'s, 'o> {
    plan: &'s Plan,
    ring: Option<Ring>,
    /// What reads the ring buffer in its place when events pile up.
    relay: Option<Relay>,
    /// What was read that way and is to be processed first.
    pending: VecDeque<Chunk>,
    /// Bytes of the ring buffer.
    room: u64,
    packets: Option<Packets<'s>>,
    maps: ScriptMaps<'s>,
    losses: Losses<'s>,
    output: &'o mut Output,
    /// The status that `exit()` gave.
    status: u8,
    /// Whether the table of losses has rows.
    lost: bool,
}

/// What came of something that was run on trial.
pub(super) struct Trial {
    /// What the program returned.
    pub result: u32,
    /// By `errorf()`, or `exit()` with a status.
    pub complained: bool,
    /// What it wrote.
    pub output: Vec<u8>,
}

/// The BPF maps behind a plan.
pub(super) struct Opened<'s> {
    events: Option<libbpf_rs::Map<'s>>,
    packets: Option<libbpf_rs::Map<'s>>,
    losses: Option<libbpf_rs::Map<'s>>,
    script: Vec<libbpf_rs::Map<'s>>,
}

impl<'s> Opened<'s> {
    /// Finds the maps of a loaded object.
    ///
    /// # Errors
    /// One that the plan names is not there.
    pub(super) fn of(loaded: &'s Loaded) -> Result<Opened<'s>, Error> {
        let missing = |name: &str| damaged(&format!("it has no map `{name}`"));
        let find = |name: &str| loaded.map(name).ok_or_else(|| missing(name));
        let plan = &loaded.plan;
        Ok(Opened {
            events: if plan.events.is_empty() { None } else { Some(find(plan::EVENTS_MAP)?) },
            packets: loaded.map(plan::PACKETS_MAP),
            losses: if plan.losses.is_empty() { None } else { Some(find(plan::LOSSES_MAP)?) },
            script: plan.maps.iter().map(|m| find(&m.bpf_name)).collect::<Result<_, _>>()?,
        })
    }
}

impl<'s, 'o> Events<'s, 'o> {
    /// Gets ready to read events.
    ///
    /// # Errors
    /// The ring buffer cannot be mapped.
    pub(super) fn open(
        plan: &'s Plan,
        opened: &'s Opened<'s>,
        output: &'o mut Output,
    ) -> Result<Events<'s, 'o>, Error> {
        let ring = opened.events.as_ref().map(|map| Ring::open(map.as_fd(), map.max_entries()));
        let ring = ring.transpose().map_err(|e| {
            Error::run(Diagnostic::global(format!("cannot map the event buffer: {e}")))
        })?;
        let packets = opened.packets.as_ref().map(Packets::open).transpose()?;
        let maps = ScriptMaps { plan, maps: &opened.script };
        let losses = Losses::of(plan, opened.losses.as_ref());
        let room = ring.as_ref().map_or(0, Ring::size);
        let (relay, pending) = (None, VecDeque::new());
        Ok(Events {
            plan,
            ring,
            relay,
            pending,
            room,
            packets,
            maps,
            losses,
            output,
            status: 0,
            lost: false,
        })
    }

    /// The output, between events.
    pub(super) fn output(&mut self) -> &mut Output {
        self.output
    }

    /// Processes events until something ends that.
    ///
    /// # Errors
    /// See [`Stop`].
    pub(super) fn process(&mut self, watched: &Watched<'_>) -> Result<End, Stop> {
        let end = self.process_on(watched);
        if let Some(relay) = self.relay.take() {
            let (ring, chunks) = relay.end();
            self.ring = Some(ring);
            self.pending.extend(chunks);
        }
        end
    }

    fn process_on(&mut self, watched: &Watched<'_>) -> Result<End, Stop> {
        let mut seen = Seen::default();
        let mut next_look = Instant::now() + LEDGER_PERIOD;
        loop {
            if let Some(own) = watched.own
                && own.signal.came()
            {
                (own.run)()?;
            }
            if self.is_behind() {
                self.start_relay();
            }
            let taken = self.take(if self.relay.is_some() { BATCH } else { BURST })?;
            if taken == Taken::Some {
                self.start_relay();
            }
            if let Some(unwinding) = watched.unwinding {
                let changed = self.output.changed_processes();
                if let Some(warning) = unwinding.borrow_mut().serve(&changed) {
                    self.output.diagnostic(&warning)?;
                }
            }
            if taken == Taken::Exit {
                return Ok(End::Exit);
            }
            if Instant::now() >= next_look {
                self.look_at_losses()?;
                if let Some(status) = self.losses.ledger.exit_asked() {
                    self.status = exit_status(status);
                    // The buffer was full of what came before, so nothing is thrown away.
                    return Ok(End::Outside);
                }
                if let Some(diagnostic) = watched.too_much.and_then(|ask| ask()) {
                    self.output.diagnostic(&diagnostic)?;
                    return Ok(End::Outside);
                }
                next_look = Instant::now() + LEDGER_PERIOD;
            }
            if taken == Taken::All {
                if self.may_stall(watched) {
                    self.start_relay();
                }
                self.output.settle()?;
                // All that happened before the end has been processed now, or is in the ring
                // buffer, which is drained once more.
                if seen.end {
                    return Ok(End::Outside);
                }
            }
            if seen.signal {
                return Ok(End::Outside);
            }
            if seen.closed {
                return Err(Stop::Closed);
            }
            let now = self.wait(watched, if taken == Taken::All { LATENCY } else { 0 })?;
            // An end is told once; there may be many events before it.
            seen = Seen { end: seen.end || now.end, ..now };
        }
    }

    /// Reads an iterator's file to its end, which runs its program for one object
    /// after the other, and processes the events in between.
    ///
    /// # Errors
    /// The kernel does not go on; and see [`Stop`].
    pub(super) fn iterate(
        &mut self,
        mut file: &File,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<End, Stop> {
        // The program writes a byte for each object.
        let mut bytes = [0; OBJECTS];
        while !interrupted() {
            match file.read(&mut bytes) {
                Ok(0) => return self.drain(),
                Ok(_) => {
                    if self.drain()? == End::Exit {
                        return Ok(End::Exit);
                    }
                }
                // A long way without an object.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => {
                    let message = format!("the kernel does not go on with the iteration: {e}");
                    return Err(Error::run(Diagnostic::global(message)).into());
                }
            }
        }
        Ok(End::Outside)
    }

    /// Runs something whose events are shown nowhere, and says what came of it.
    ///
    /// # Errors
    /// It cannot be run; see [`Stop`].
    pub(super) fn trial(
        &mut self,
        run: impl FnOnce() -> Result<u32, Error>,
    ) -> Result<Trial, Stop> {
        self.pending.clear();
        if let Some(ring) = &mut self.ring {
            ring.skip();
        }
        let mut trial = Trial { result: run()?, complained: false, output: Vec::new() };
        let Some(ring) = &mut self.ring else { return Ok(trial) };
        let (plan, maps) = (self.plan, &mut self.maps);
        let (done, output) = self.output.captured(|output| -> Result<(), Stop> {
            while let Some(record) = ring.next() {
                let event = event_of(plan, record)?;
                trial.complained |= matches!(event.action, Action::Errorf(_));
                if let Some(status) = output.event(event, record, maps)? {
                    trial.complained |= status != 0;
                    ring.skip();
                }
            }
            Ok(())
        });
        done?;
        Ok(Trial { output, ..trial })
    }

    /// Throws away all events that are there, since `exit()` was called; they are counted.
    ///
    /// # Errors
    /// An event is not one of the plan.
    pub(super) fn skip(&mut self) -> Result<(), Stop> {
        let (plan, ledger) = (self.plan, &mut self.losses.ledger);
        let mut count = |record: &[u8]| -> Result<(), Error> {
            let event = event_of(plan, record)?;
            if event.action != Action::Exit {
                ledger.add(Some(event.span), Shortfall::AfterExit, 1);
            }
            Ok(())
        };
        for mut chunk in std::mem::take(&mut self.pending) {
            while let Some(record) = chunk.next() {
                count(record)?;
            }
        }
        while let Some(record) = self.ring.as_mut().and_then(Ring::next) {
            count(record)?;
        }
        Ok(())
    }

    /// Processes the events that are there. Gives whether one was `exit()`,
    /// which ends that.
    ///
    /// # Errors
    /// See [`Stop`].
    pub(super) fn drain(&mut self) -> Result<End, Stop> {
        match self.take(usize::MAX)? {
            Taken::Exit => Ok(End::Exit),
            Taken::Some | Taken::All => Ok(End::Outside),
        }
    }

    /// The status that the script asked for; 0 if it did not.
    pub(super) fn status(&self) -> u8 {
        self.status
    }

    /// The last words: losses, and the maps if they are wanted.
    ///
    /// # Errors
    /// See [`Stop`].
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        for notice in self.losses.last_look(self.output.has_table()) {
            self.output.notice(&notice)?;
        }
        self.output.end_of_events()?;
        if self.plan.config.print_maps_on_exit {
            for (index, map) in self.plan.maps.iter().enumerate() {
                match self.maps.read(u32::try_from(index).unwrap_or(u32::MAX)) {
                    Ok(data) => self.output.last_map(&data)?,
                    Err(e) => self.output.failure(&format!("cannot read `{}`: {e}", map.name))?,
                }
            }
        }
        match self.output.take_unnamed() {
            0 => {}
            count => self.losses.ledger.add(None, Shortfall::Unnamed, count),
        }
        for (span, shortfall, count) in self.output.take_shortfalls() {
            self.losses.ledger.add(Some(span), shortfall, count);
        }
        for notice in self.losses.ledger.finish() {
            self.output.notice(&notice)?;
        }
        let table = self.losses.ledger.table(Sizes { buffer: self.room, page: page_size() });
        self.lost = table.iter().any(|row| !row.wanted);
        self.output.losses(&table)?;
        self.output.flush()?;
        Ok(())
    }

    /// Takes into account what the kernel kept from probes.
    pub(super) fn missed(&mut self, missed: &[(Option<Span>, Shortfall, u64)]) {
        for (span, shortfall, count) in missed {
            self.losses.ledger.add(*span, *shortfall, *count);
        }
    }

    /// Whether the output lacks anything. Known at the end.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// Processes up to `limit` records.
    fn take(&mut self, limit: usize) -> Result<Taken, Stop> {
        self.take_packets()?;
        let taken = self.take_pending(limit)?;
        if taken != Taken::All {
            return Ok(taken);
        }
        let Some(ring) = &mut self.ring else { return Ok(Taken::All) };
        for _ in 0..limit {
            let Some(record) = ring.next() else { return Ok(Taken::All) };
            let event = event_of(self.plan, record)?;
            if let Some(status) = self.output.event(event, record, &mut self.maps)? {
                self.status = status;
                return Ok(Taken::Exit);
            }
        }
        Ok(Taken::Some)
    }

    /// The same of what was read from the ring buffer already.
    fn take_pending(&mut self, limit: usize) -> Result<Taken, Stop> {
        let mut left = limit;
        loop {
            let mut read = Chunk::default();
            if let Some(chunk) = self.pending.front_mut() {
                while let Some(record) = chunk.next() {
                    let event = event_of(self.plan, record)?;
                    if let Some(status) = self.output.event(event, record, &mut self.maps)? {
                        self.status = status;
                        return Ok(Taken::Exit);
                    }
                    left -= 1;
                    if left == 0 {
                        return Ok(Taken::Some);
                    }
                }
                read = self.pending.pop_front().unwrap_or_default();
            }
            if self.pending.is_empty() {
                let next = self.relay.as_mut().and_then(|relay| relay.next(read));
                let Some(next) = next else { return Ok(Taken::All) };
                self.pending.push_back(next);
            }
        }
    }

    /// Whether events pile up in the ring buffer.
    fn is_behind(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.backlog() > ring.size() / BEHIND)
    }

    /// Whether writing what there is may take long.
    fn may_stall(&self, watched: &Watched<'_>) -> bool {
        let Some(fd) = watched.output.filter(|_| self.relay.is_none()) else { return false };
        let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
        match self.output.buffered() {
            0 => false,
            bytes if bytes > AT_ONCE => true,
            _ => matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(0)),
        }
    }

    /// Has the ring buffer read by a thread from now on.
    fn start_relay(&mut self) {
        match self.ring.take().map(Relay::start) {
            Some(Ok(relay)) => self.relay = Some(relay),
            Some(Err(ring)) => self.ring = Some(ring),
            None => {}
        }
    }

    fn take_packets(&mut self) -> Result<(), Stop> {
        let Some(packets) = &mut self.packets else { return Ok(()) };
        let arrived = packets.take();
        for record in arrived.records {
            let event = event_of(self.plan, &record)?;
            self.output.event(event, &record, &mut self.maps)?;
        }
        if arrived.lost > 0 {
            let packet = |e: &&plan::Event| matches!(e.action, Action::Packet { .. });
            let span = self.plan.events.iter().find(packet).map(|e| e.span);
            let notice = self.losses.ledger.lost_packets(span, arrived.lost);
            self.output.notice(&notice)?;
        }
        Ok(())
    }

    /// Waits for events or an end, but not longer than so many milliseconds.
    fn wait(&self, watched: &Watched<'_>, milliseconds: u16) -> Result<Seen, Stop> {
        let mut fds = vec![PollFd::new(watched.signals, PollFlags::POLLIN)];
        let mut running = watched.processes.borrow_mut();
        fds.extend(running.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        fds.extend(self.ring.as_ref().map(|r| PollFd::new(r.fd(), PollFlags::POLLIN)));
        fds.extend(self.relay.as_ref().map(|r| PollFd::new(r.fd(), PollFlags::POLLIN)));
        fds.extend(self.packets.as_ref().map(|p| PollFd::new(p.fd(), PollFlags::POLLIN)));
        fds.extend(watched.own.map(|own| PollFd::new(own.signal.as_fd(), PollFlags::POLLIN)));
        let before_output = fds.len();
        // Errors are always reported.
        fds.extend(watched.output.map(|fd| PollFd::new(fd, PollFlags::empty())));
        match nix::poll::poll(&mut fds, PollTimeout::from(milliseconds)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => {
                let message = format!("cannot wait for events: {e}");
                return Err(Error::run(Diagnostic::global(message)).into());
            }
        }
        let happened = |i: usize| fds.get(i).is_some_and(|fd| fd.any().unwrap_or(false));
        let mut number = 0;
        let before = running.len();
        running.retain(|_| {
            number += 1;
            !happened(number)
        });
        let closed = fds.get(before_output).and_then(PollFd::revents);
        Ok(Seen {
            signal: happened(0),
            end: before > 0 && running.is_empty(),
            closed: closed.is_some_and(|r| r.contains(PollFlags::POLLERR)),
        })
    }

    fn look_at_losses(&mut self) -> Result<(), Stop> {
        for notice in self.losses.look() {
            self.output.notice(&notice)?;
        }
        Ok(())
    }
}

/// The status that `exit(code)` asks for: its low byte.
fn exit_status(code: i64) -> u8 {
    code.to_le_bytes()[0]
}

/// What became of a batch of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// There are more.
    Some,
    All,
    Exit,
}

/// What happened while waiting.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    signal: bool,
    end: bool,
    closed: bool,
}

fn event_of<'p>(plan: &'p Plan, record: &[u8]) -> Result<&'p plan::Event, Error> {
    let index = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let event = index.and_then(|i| plan.events.get(usize::try_from(i).ok()?));
    event.ok_or_else(|| damaged("it sends an event that its plan does not know"))
}

/// The script's maps, for the output.
struct ScriptMaps<'s> {
    plan: &'s Plan,
    maps: &'s [libbpf_rs::Map<'s>],
}

impl<'s> ScriptMaps<'s> {
    fn kernel(&self, index: u32) -> io::Result<(&'s plan::Map, KernelMap<'s>)> {
        let index = index as usize;
        let both = self.plan.maps.get(index).zip(self.maps.get(index));
        let (map, opened) = both.ok_or(io::ErrorKind::NotFound)?;
        Ok((map, KernelMap::of(opened.as_fd(), map)?))
    }
}

impl Maps for ScriptMaps<'_> {
    fn read(&mut self, map: u32) -> io::Result<MapData<'_>> {
        let (map, mut kernel) = self.kernel(map)?;
        MapData::read(map, &mut kernel)
    }

    fn read_top(&mut self, map: u32, top: u64) -> io::Result<MapData<'_>> {
        let (map, mut kernel) = self.kernel(map)?;
        let (top, _) = output::text::limits(map, top, 1);
        MapData::read_top(map, &mut kernel, top)
    }

    fn find(&mut self, map: u32, key: &[u8]) -> io::Result<Option<(&plan::Map, Merged)>> {
        let (map, kernel) = self.kernel(map)?;
        Ok(kernel.find(key)?.map(|values| (map, Merged::of(map, &values))))
    }

    fn clear(&mut self, map: u32) -> io::Result<()> {
        self.kernel(map)?.1.clear()
    }

    fn zero(&mut self, map: u32) -> io::Result<()> {
        self.kernel(map)?.1.zero()
    }
}

/// The loss counters, and what was said about them.
struct Losses<'s> {
    plan: &'s Plan,
    map: Option<&'s libbpf_rs::Map<'s>>,
    ledger: Ledger,
}

impl<'s> Losses<'s> {
    fn of(plan: &'s Plan, map: Option<&'s libbpf_rs::Map<'s>>) -> Losses<'s> {
        Losses { plan, map, ledger: Ledger::of(plan) }
    }

    /// What there is to say about losses since the last look. A failure to
    /// read them is no reason to end a run.
    fn look(&mut self) -> Vec<Notice> {
        self.tallies().map(|tallies| self.ledger.update(&tallies)).unwrap_or_default()
    }

    /// The same at the end, where a table may follow.
    fn last_look(&mut self, table: bool) -> Vec<Notice> {
        match self.tallies() {
            Some(tallies) if table => self.ledger.last_update(&tallies),
            Some(tallies) => self.ledger.update(&tallies),
            None => vec![],
        }
    }

    /// The counters as they are now.
    fn tallies(&self) -> Option<Vec<Tally>> {
        let counters = self.map?.lookup(&[0; 4], MapFlags::ANY).ok().flatten()?;
        Some(ledger::tallies(self.plan, &counters))
    }
}
