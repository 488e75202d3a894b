//! Traces for [Perfetto](https://ui.perfetto.dev): packets of
//! [trace.proto](https://perfetto.dev/docs/reference/trace-packet-proto).
//!
//! What a script prints is an instant on the track of the thread that it was
//! printed for, at the time that the kernel gave it. Numbers of maps are
//! counters: a time series with all its times, any other map with the times of
//! its prints.

use std::collections::HashMap;
use std::io::{self, Write};

use nix::time::{ClockId, clock_gettime};
use prost::Message;

use super::{Context, label, number, printable};
use crate::plan;
use crate::runtime::decode::{self, Number};
use crate::runtime::maps::{Entry, MapData, Merged};
use crate::types::Aggregation;

/// `BUILTIN_CLOCK_BOOTTIME` and `BUILTIN_CLOCK_REALTIME`.
const BOOTTIME: u32 = 6;
const REALTIME: u32 = 1;

/// `TrackEvent.Type`.
const INSTANT: i32 = 3;
const COUNTER: i32 = 4;

/// Of all our packets: they have no state in common with others.
const SEQUENCE: u32 = 1;

/// Tracks of processes and counters are told from those of threads by a bit.
const PROCESS: u64 = 1 << 32;
const COUNTERS: u64 = 1 << 33;

/// The track of events of which the thread is not known.
const NOBODY: u64 = 1 << 34;

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(message, optional, tag = "6")]
    clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint32, tag = "10")]
    trusted_packet_sequence_id: u32,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(uint32, optional, tag = "58")]
    timestamp_clock_id: Option<u32>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    clocks: Vec<Clock>,
    #[prost(uint32, tag = "2")]
    primary_trace_clock: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Clock {
    #[prost(uint32, tag = "1")]
    clock_id: u32,
    #[prost(uint64, tag = "2")]
    timestamp: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(int32, tag = "9")]
    r#type: i32,
    #[prost(uint64, tag = "11")]
    track_uuid: u64,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, tag = "23")]
    name: String,
    #[prost(int64, optional, tag = "30")]
    counter_value: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, tag = "1")]
    uuid: u64,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    thread: Option<ThreadDescriptor>,
    #[prost(message, optional, tag = "8")]
    counter: Option<CounterDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(string, tag = "6")]
    process_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ThreadDescriptor {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(int32, tag = "2")]
    tid: i32,
    #[prost(string, tag = "5")]
    thread_name: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct CounterDescriptor {}

/// `perfetto.protos.Trace`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

/// When and for whom something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime::output) struct Stamp {
    /// Of the boot clock, in nanoseconds.
    pub(in crate::runtime::output) time: u64,
    /// Process and thread; 0 if unknown.
    pub(in crate::runtime::output) pid: u32,
    pub(in crate::runtime::output) tid: u32,
    pub(in crate::runtime::output) comm: String,
}

/// A trace that grows.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Encoded packets.
    bytes: Vec<u8>,
    threads: HashMap<u32, String>,
    processes: HashMap<u32, ()>,
    counters: HashMap<String, u64>,
    /// Whether the head of the file is written.
    begun: bool,
}

impl Stamp {
    /// What the kernel wrote into a record ([`plan::Event::stamp`]); now, and for
    /// nobody, if it wrote nothing.
    pub(in crate::runtime::output) fn of(event: &plan::Event, record: &[u8]) -> Stamp {
        let Some(at) = event.stamp else { return Stamp::now() };
        let at = at as usize;
        let both = decode::word(record, at + 8, 8);
        let comm = record.get(at + 16..at + plan::STAMP as usize).unwrap_or(&[]);
        let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
        Stamp {
            time: decode::word(record, at, 8),
            pid: u32::try_from(both >> 32).unwrap_or(0),
            tid: u32::try_from(both & 0xffff_ffff).unwrap_or(0),
            comm: printable(comm.get(..end).unwrap_or(&[])),
        }
    }

    pub(in crate::runtime::output) fn now() -> Stamp {
        Stamp { time: clock(ClockId::CLOCK_BOOTTIME), pid: 0, tid: 0, comm: String::new() }
    }
}

impl Trace {
    /// An instant with a text for its name.
    pub(super) fn event(&mut self, stamp: &Stamp, text: &[u8]) {
        let name = printable(text.trim_ascii_end());
        let track = self.thread(stamp);
        let event = TrackEvent {
            r#type: INSTANT,
            track_uuid: track,
            categories: vec!["rtrace".into()],
            name,
            counter_value: None,
        };
        self.at(stamp.time, event);
    }

    /// The numbers of a map. Whether it has any.
    pub(super) fn map(&mut self, data: &MapData<'_>, at: u64, cx: &mut Context) -> bool {
        let mut all = true;
        for entry in data.entries(0) {
            let name = counter_name(entry, data, cx);
            if let (Merged::Series(points), plan::MapValue::Aggregate(of)) =
                (entry.merged(), &data.map.value)
            {
                let Aggregation::Tseries { interval, .. } = of else { continue };
                for (index, value) in points {
                    let value = match value {
                        Number::Signed(n) => *n,
                        Number::Unsigned(n) => i64::try_from(*n).unwrap_or(i64::MAX),
                    };
                    self.count(&name, index.saturating_mul(*interval), value);
                }
                continue;
            }
            match number(entry, data) {
                Some(value) => self.count(&name, at, value),
                None => all = false,
            }
        }
        all
    }

    /// Bytes that are not written yet.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// Writes what is new.
    pub(super) fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            out.write_all(&head())?;
        }
        out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    fn count(&mut self, name: &str, at: u64, value: i64) {
        let new = COUNTERS + self.counters.len() as u64;
        let track = match self.counters.get(name) {
            Some(track) => *track,
            None => {
                self.counters.insert(name.into(), new);
                self.describe(TrackDescriptor {
                    uuid: new,
                    name: Some(name.into()),
                    counter: Some(CounterDescriptor {}),
                    ..TrackDescriptor::default()
                });
                new
            }
        };
        let event = TrackEvent {
            r#type: COUNTER,
            track_uuid: track,
            counter_value: Some(value),
            ..TrackEvent::default()
        };
        self.at(at, event);
    }

    /// The track of a thread. It is described again when its name changes.
    fn thread(&mut self, stamp: &Stamp) -> u64 {
        let Stamp { pid, tid, comm, .. } = stamp;
        if *tid == 0 && comm.is_empty() {
            if self.threads.insert(0, String::new()).is_none() {
                let name = Some("events".into());
                self.describe(TrackDescriptor { uuid: NOBODY, name, ..TrackDescriptor::default() });
            }
            return NOBODY;
        }
        let number = |n: u32| i32::try_from(n).unwrap_or(0);
        if self.threads.get(tid) != Some(comm) {
            self.threads.insert(*tid, comm.clone());
            if self.processes.insert(*pid, ()).is_none() {
                let name = if pid == tid { comm.clone() } else { String::new() };
                self.describe(TrackDescriptor {
                    uuid: PROCESS + u64::from(*pid),
                    process: Some(ProcessDescriptor { pid: number(*pid), process_name: name }),
                    ..TrackDescriptor::default()
                });
            }
            self.describe(TrackDescriptor {
                uuid: u64::from(*tid) + 1,
                thread: Some(ThreadDescriptor {
                    pid: number(*pid),
                    tid: number(*tid),
                    thread_name: comm.clone(),
                }),
                ..TrackDescriptor::default()
            });
        }
        u64::from(*tid) + 1
    }

    fn describe(&mut self, descriptor: TrackDescriptor) {
        let packet = Packet { track_descriptor: Some(descriptor), ..Packet::default() };
        encode(&mut self.bytes, packet);
    }

    fn at(&mut self, time: u64, event: TrackEvent) {
        let packet = Packet {
            timestamp: Some(time),
            timestamp_clock_id: Some(BOOTTIME),
            track_event: Some(event),
            ..Packet::default()
        };
        encode(&mut self.bytes, packet);
    }
}

/// How the clocks of the file go together.
fn head() -> Vec<u8> {
    let clocks = vec![
        Clock { clock_id: BOOTTIME, timestamp: clock(ClockId::CLOCK_BOOTTIME) },
        Clock { clock_id: REALTIME, timestamp: clock(ClockId::CLOCK_REALTIME) },
    ];
    let snapshot = ClockSnapshot { clocks, primary_trace_clock: BOOTTIME };
    let mut head = Vec::new();
    encode(&mut head, Packet { clock_snapshot: Some(snapshot), ..Packet::default() });
    head
}

/// `@name` or `@name[key]`.
fn counter_name(entry: &Entry, data: &MapData<'_>, cx: &mut Context) -> String {
    match entry.key(data.map) {
        Some(key) => format!("{}[{}]", data.map.name, label(&key, cx)),
        None => data.map.name.clone(),
    }
}

/// A file with one packet: files may be put one behind the other.
fn encode(out: &mut Vec<u8>, packet: Packet) {
    let packet = Packet { trusted_packet_sequence_id: SEQUENCE, ..packet };
    File { packet: vec![packet] }.encode(out).expect("bug: memory takes every write");
}

/// A clock, in nanoseconds.
fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
