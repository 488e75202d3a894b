//! Formats of other tools: what comes out is opened by those that read it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::wire::Message;
use crate::{Folder, rtrace, text};

const SCRIPT: &str = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ {
    @[comm] = count(); @[\"a;b\"] = count(); printf(\"seen\\n\"); @scalar = 1;
}";

fn workload() -> String {
    format!("{} getppid 5", env!("CARGO_BIN_EXE_rt-workload"))
}

#[test]
fn folded_stacks_are_all_that_is_on_standard_output() {
    let done = rtrace(&["-q", "-f", "folded", "-e", SCRIPT, "-c", &workload()]).done().code(0);
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a:b 5", "rt-getppid 5"]);
    assert_eq!(done.stderr, "seen\nseen\nseen\nseen\nseen\n@scalar: 1\n");
}

#[test]
fn graphs_are_drawn_of_folded_stacks_and_of_json() {
    let folder = Folder::new("flame");
    for (format, name) in [("folded", "x.folded"), ("json", "x.json")] {
        let (file, graph) = (folder.0.join(name), folder.0.join(format!("{name}.svg")));
        let flags = ["-q", "-f", format, "-o", text(&file)];
        // Of the process and of the kernel; the kernel's function is of the probe.
        let script = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ {
            @[comm, ustack] = count();
        }";
        rtrace(&[&flags[..], &["-e", script, "-c", &workload()]].concat()).done().code(0);
        rtrace(&["flame", text(&file), "-o", text(&graph), "--title", "parents"]).done().code(0);
        let svg = std::fs::read_to_string(&graph).unwrap();
        assert!(svg.contains("<title>rt-getppid (5 samples, 100.00%)</title>"), "{svg}");
        assert!(svg.contains("parents</text>"), "{svg}");
    }
    let empty = folder.file("empty", "");
    rtrace(&["flame", text(&empty)]).done().code(1).stderr_has("there are no stacks in it");
    rtrace(&["flame", "/no/such"]).done().code(1).stderr_has("cannot read `/no/such`");
}

#[test]
fn binary_formats_need_a_file() {
    let folder = Folder::new("binary");
    for (format, first) in [("pprof", &[0x1f, 0x8b][..]), ("perfetto", &[0x0a])] {
        let file = folder.0.join(format);
        let flags = ["-q", "-f", format, "-o", text(&file), "-e", SCRIPT, "-c", &workload()];
        let done = rtrace(&flags).done().code(0);
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(first), "{format}: {bytes:?}");
        // Events are part of a trace, not of a profile; a number is part of a trace.
        assert_eq!(done.stderr.contains("seen"), format == "pprof", "{}", done.stderr);
        assert_eq!(done.stderr.contains("@scalar: 1"), format == "pprof", "{}", done.stderr);
    }
}

/// What our profiles say, read by the fields of `profile.proto`; and by pprof itself, where Go is.
#[test]
fn profiles_are_what_pprof_reads() {
    let folder = Folder::new("pprof");
    let file = folder.0.join("x.pb.gz");
    let script =
        "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { @calls[comm, ustack] = count(); }";
    let flags = ["-q", "-f", "pprof", "-o", text(&file), "-e", script, "-c", &workload()];
    rtrace(&flags).done().code(0);
    let unpacked = Command::new("gzip").args(["-dc", text(&file)]).output().unwrap();
    assert!(unpacked.status.success());
    let profile = Message::read(&unpacked.stdout);
    let strings = profile.texts(6);
    let name = |index: u64| strings[usize::try_from(index).unwrap()].as_str();
    assert_eq!(name(0), "");
    let kinds: Vec<(&str, &str)> =
        profile.messages(1).iter().map(|t| (name(t.number(1)), name(t.number(2)))).collect();
    assert_eq!(kinds, [("@calls", "count")]);
    let functions: BTreeMap<u64, String> =
        profile.messages(5).iter().map(|f| (f.number(1), name(f.number(2)).to_owned())).collect();
    let locations: BTreeMap<u64, Vec<String>> = profile
        .messages(4)
        .iter()
        .map(|l| {
            let lines = l.messages(4);
            (l.number(1), lines.iter().map(|line| functions[&line.number(1)].clone()).collect())
        })
        .collect();
    let samples = profile.messages(2);
    assert_eq!(samples.iter().flat_map(|s| s.numbers(2)).sum::<u64>(), 5);
    let stacks: Vec<String> =
        samples.iter().flat_map(|s| s.numbers(1)).flat_map(|id| locations[&id].clone()).collect();
    assert!(stacks.iter().any(|name| name.contains("syscall")), "{stacks:?}");
    let labels: Vec<(String, String)> = samples
        .iter()
        .flat_map(|s| s.messages(3))
        .map(|l| (name(l.number(1)).to_owned(), name(l.number(2)).to_owned()))
        .collect();
    assert!(labels.contains(&("key1".into(), "rt-getppid".into())), "{labels:?}");
    let Ok(said) = Command::new("go").args(["tool", "pprof", "-raw", text(&file)]).output() else {
        println!("there is no Go here, and no pprof");
        return;
    };
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("@calls/count") && said.contains("key1:[rt-getppid]"), "{said}");
}

/// Perfetto's own schema of what we write (`tools/perfetto-schema`).
const PERFETTO: &[u8] = include_bytes!("../schemas/perfetto.desc");

/// Every field of our traces is one of the schema, with its type, and every enum value has a name.
fn by_schema(bytes: &[u8]) -> BTreeSet<String> {
    use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage, Value};
    fn walk(message: &DynamicMessage, names: &mut BTreeSet<String>) {
        let whole = message.descriptor();
        let unknown: Vec<u32> = message.unknown_fields().map(|f| f.number()).collect();
        assert!(unknown.is_empty(), "{} has no fields {unknown:?}", whole.full_name());
        for (field, value) in message.fields() {
            names.insert(format!("{}.{}", whole.name(), field.name()));
            let values = match value {
                Value::List(list) => list.iter().collect(),
                value => vec![value],
            };
            for value in values {
                match (value, field.kind()) {
                    (Value::Message(inner), _) => walk(inner, names),
                    (Value::EnumNumber(n), Kind::Enum(of)) => {
                        assert!(of.get_value(*n).is_some(), "{} has no {n}", of.full_name());
                    }
                    _ => {}
                }
            }
        }
    }
    let pool = DescriptorPool::decode(PERFETTO).unwrap();
    let trace = pool.get_message_by_name("perfetto.protos.Trace").unwrap();
    let mut names = BTreeSet::new();
    walk(&DynamicMessage::decode(trace, bytes).unwrap(), &mut names);
    names
}

/// What our traces say, read by the fields of `perfetto_trace.proto`.
#[test]
fn traces_are_what_perfetto_reads() {
    let folder = Folder::new("perfetto");
    let file = folder.0.join("x.pftrace");
    let flags = ["-q", "-f", "perfetto", "-o", text(&file), "-e", SCRIPT, "-c", &workload()];
    rtrace(&flags).done().code(0);
    let bytes = std::fs::read(&file).unwrap();
    let names = by_schema(&bytes);
    for name in [
        "Trace.packet",
        "TracePacket.clock_snapshot",
        "TracePacket.timestamp",
        "TracePacket.timestamp_clock_id",
        "TracePacket.track_descriptor",
        "TracePacket.track_event",
        "TracePacket.trusted_packet_sequence_id",
        "ClockSnapshot.primary_trace_clock",
        "Clock.timestamp",
        "ProcessDescriptor.pid",
        "ThreadDescriptor.thread_name",
        "TrackDescriptor.counter",
        "TrackEvent.counter_value",
        "TrackEvent.name",
        "TrackEvent.track_uuid",
        "TrackEvent.type",
    ] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    let trace = Message::read(&bytes);
    assert_eq!(trace.fields(), [1]);
    let (mut tracks, mut events, mut counters, mut clocks) = (BTreeMap::new(), 0, Vec::new(), 0);
    let mut last = 0;
    for packet in trace.messages(1) {
        // trusted_packet_sequence_id
        assert_ne!(packet.number(10), 0);
        for track in packet.messages(60) {
            let threads = track.messages(4);
            let thread = threads.first().map(|t| (t.number(1), t.number(2), t.texts(5)));
            let (counter, name) = (track.fields().contains(&8), track.texts(2));
            tracks.insert(track.number(1), (thread, counter, name));
        }
        for event in packet.messages(11) {
            // timestamp_clock_id: BUILTIN_CLOCK_BOOTTIME; timestamp.
            assert_eq!(packet.number(58), 6);
            let (thread, counter, name) = &tracks[&event.number(11)];
            match event.number(9) {
                3 => {
                    let (_, _, comm) = thread.as_ref().expect("an event has a thread");
                    assert_eq!(comm, &["rt-getppid"]);
                    assert_eq!(event.texts(23), ["seen"]);
                    assert!(packet.number(8) >= last);
                    last = packet.number(8);
                    events += 1;
                }
                4 => {
                    assert!(*counter && thread.is_none());
                    counters.push((name.join(""), event.number(30)));
                }
                kind => panic!("an event of type {kind}"),
            }
        }
        for snapshot in packet.messages(6) {
            let ids: Vec<u64> = snapshot.messages(1).iter().map(|clock| clock.number(1)).collect();
            assert_eq!((ids, snapshot.number(2)), (vec![6, 1], 6));
            clocks += 1;
        }
    }
    counters.sort();
    assert_eq!((events, clocks), (5, 1));
    let counter = |name: &str, value| (name.to_owned(), value);
    assert_eq!(
        counters,
        [counter("@[a;b]", 5), counter("@[rt-getppid]", 5), counter("@scalar", 1)]
    );
}
