//! Formats of other tools. Protocol buffers are read by their wire format, not by our own
//! messages: the numbers of fields below are those of profile.proto and perfetto's trace.proto.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::map_forms::{key32, named};
use super::*;
use crate::runtime::output::export;

/// Maps: stacks of process and kernel with a name, counted; and another one.
fn exported(format: export::Format, show: impl FnOnce(&mut Output, &plan::Map)) -> Vec<u8> {
    let fields = vec![
        field("", 0, kstack(StackMode::Raw)),
        field("", 16, Layout::Str { size: 8 }),
        field("", 24, Layout::Stack { user: true, mode: StackMode::Bpftrace }),
    ];
    let key = Layout::Tuple { fields, size: 40 };
    let map = named("@", maps::map(Some(key), maps::aggregate(Aggregation::Count)));
    let mut plan = plan("");
    plan.maps = vec![map.clone()];
    let (mut output, out, _) = output("", Options::default());
    output.export(&plan, format, Box::new(Bytes(Rc::clone(&BYTES.with(Rc::clone)))));
    show(&mut output, &map);
    output.finish().unwrap();
    assert_eq!(out.0.take().concat(), "");
    BYTES.with(|bytes| bytes.take())
}

thread_local! {
    static BYTES: Rc<RefCell<Vec<u8>>> = Rc::default();
}

/// Keeps what is written, which is no text.
struct Bytes(Rc<RefCell<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn key(kernel: &[u64], comm: &[u8; 8], user: &[u64]) -> Vec<u8> {
    [stack_bytes(0, kernel), comm.to_vec(), stack_bytes(42, user)].concat()
}

fn show_map(output: &mut Output, map: &plan::Map, entries: &[(Vec<u8>, u64)]) {
    let entries = entries.iter().map(|(key, n)| (key.clone(), words(&[*n, 0]))).collect();
    let data = MapData::read(map, &mut maps::Written(entries)).unwrap();
    output.map(&data, 0, 0).unwrap();
}

#[test]
fn folded_stacks_have_names_then_the_process_then_the_kernel() {
    let shown = exported(export::Format::Folded, |output, map| {
        let two = key(&[0x10, 0x20], b"a;b\0\0\0\0\0", &[0x40, 0x30]);
        let unknown = key(&[], b"cat\n\0\0\0\0", &[0x77]);
        show_map(output, map, &[(two, 7), (unknown, 2)]);
    });
    assert_eq!(
        String::from_utf8(shown).unwrap(),
        "cat ;[unknown] 2\na:b;main;simple_cat;copy;ksys_read;vfs_read 7\n"
    );
}

#[test]
fn what_was_seen_of_a_map_counts_once() {
    let clear = Event {
        span: Span::default(),
        action: Action::Clear { map: 0 },
        fields: vec![],
        size: 8,
        stamp: None,
        run: false,
    };
    struct Clears;
    impl Maps for Clears {
        fn read(&mut self, _: u32) -> io::Result<MapData<'_>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn find(&mut self, _: u32, _: &[u8]) -> io::Result<Option<(&plan::Map, Merged)>> {
            Ok(None)
        }
        fn clear(&mut self, _: u32) -> io::Result<()> {
            Ok(())
        }
        fn zero(&mut self, _: u32) -> io::Result<()> {
            Ok(())
        }
    }
    let shown = exported(export::Format::Folded, |output, map| {
        let one = || key(&[0x10], b"cat\0\0\0\0\0", &[]);
        // Printed twice while it grows, then cleared; then as it is at the end.
        show_map(output, map, &[(one(), 3)]);
        show_map(output, map, &[(one(), 5)]);
        output.event(&clear, &[0; 8], &mut Clears).unwrap();
        show_map(output, map, &[(one(), 1)]);
    });
    assert_eq!(String::from_utf8(shown).unwrap(), "cat;vfs_read 6\n");
}

#[test]
fn what_has_no_place_in_the_format_is_text() {
    let (mut output, out, _) = output("", Options::default());
    let scalar = named("@x", maps::map(None, MapValue::Plain(U64)));
    let mut plan = plan("");
    plan.maps = vec![scalar.clone()];
    output.export(&plan, export::Format::Folded, Box::new(Written::default()));
    let data = [(key32(0), words(&[7, 1]))];
    let data = MapData::read(&scalar, &mut maps::Written(data.to_vec())).unwrap();
    output.map(&data, 0, 0).unwrap();
    output.value(&Value::Bool(true)).unwrap();
    output.finish().unwrap();
    assert_eq!(out.0.take().concat(), "@x: 7\ntrue\n");
}

/// The fields of a message: numbers, and what is in each. What has no place of its own in a
/// message is bytes.
fn fields(bytes: &[u8]) -> Vec<(u64, Wire)> {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let head = varint(&mut rest);
        let wire = match head & 7 {
            0 => Wire::Number(varint(&mut rest)),
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                let (bytes, after) = rest.split_at(length);
                rest = after;
                Wire::Bytes(bytes.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        found.push((head >> 3, wire));
    }
    found
}

#[derive(Debug, Clone, PartialEq)]
enum Wire {
    Number(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// All messages in a field.
fn messages(of: &[(u64, Wire)], number: u64) -> Vec<Vec<(u64, Wire)>> {
    of.iter()
        .filter(|(n, _)| *n == number)
        .map(|(_, wire)| match wire {
            Wire::Bytes(bytes) => fields(bytes),
            Wire::Number(_) => panic!("field {number} is no message"),
        })
        .collect()
}

fn numbers(of: &[(u64, Wire)], number: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for (_, wire) in of.iter().filter(|(n, _)| *n == number) {
        match wire {
            Wire::Number(n) => all.push(*n),
            // Packed.
            Wire::Bytes(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    all.push(varint(&mut rest));
                }
            }
        }
    }
    all
}

fn texts(of: &[(u64, Wire)], number: u64) -> Vec<String> {
    let text = |wire: &Wire| match wire {
        Wire::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Wire::Number(_) => panic!("field {number} is no text"),
    };
    of.iter().filter(|(n, _)| *n == number).map(|(_, wire)| text(wire)).collect()
}

fn one<T>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1);
    list.remove(0)
}

#[test]
fn profiles_for_pprof() {
    let packed = exported(export::Format::Pprof, |output, map| {
        let two = key(&[0x10], b"cat\0\0\0\0\0", &[0x40, 0x30]);
        let again = key(&[0x10], b"dd\0\0\0\0\0\0", &[0x40]);
        show_map(output, map, &[(two, 7), (again, 2)]);
    });
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    let profile = fields(&bytes);
    let strings = texts(&profile, 6);
    assert_eq!(strings[0], "");
    let string = |of: &[(u64, Wire)], number| {
        let index = numbers(of, number).first().copied().unwrap_or(0);
        strings[usize::try_from(index).unwrap()].as_str()
    };
    let of = one(messages(&profile, 1));
    assert_eq!((string(&of, 1), string(&of, 2)), ("@", "count"));
    let by_id = |number: u64, id: u64| {
        let all = messages(&profile, number);
        one(all.into_iter().filter(|m| numbers(m, 1) == [id]).collect())
    };
    // Functions, innermost first, those of a location joined by `<`; with file and line.
    let stack = |sample: &[(u64, Wire)]| -> Vec<String> {
        let locations = numbers(sample, 1).into_iter().map(|id| {
            let location = by_id(4, id);
            let mapping = by_id(3, one(numbers(&location, 2)));
            let lines = messages(&location, 4).into_iter().map(|line| {
                let function = by_id(5, one(numbers(&line, 1)));
                let (name, file) = (string(&function, 2), string(&function, 4));
                format!("{name}@{file}:{}", numbers(&line, 2).first().unwrap_or(&0))
            });
            let lines: Vec<String> = lines.collect();
            let address = one(numbers(&location, 3));
            format!("{address:x} {} {}", lines.join("<"), string(&mapping, 5))
        });
        locations.collect()
    };
    let samples = messages(&profile, 2);
    assert_eq!(samples.len(), 2);
    let values: Vec<Vec<u64>> = samples.iter().map(|s| numbers(s, 2)).collect();
    assert_eq!(values, [[2], [7]]);
    let label = one(messages(&samples[1], 3));
    assert_eq!((string(&label, 1), string(&label, 2)), ("key1", "cat"));
    assert_eq!(
        stack(&samples[1]),
        [
            "10 vfs_read@:0 [kernel.kallsyms]",
            "40 copy@src/copy.h:3<simple_cat@src/cat.c:7 /usr/bin/cat",
            "30 main@:0 /usr/bin/cat",
        ]
    );
    // The two samples share two of three locations.
    assert_eq!(messages(&profile, 4).len(), 3);
    assert_eq!(stack(&samples[0]), stack(&samples[1])[..2]);
    assert!(one(numbers(&profile, 9)) > 1_600_000_000_000_000_000);
}

/// An event with a stamp, and its record.
fn stamped(text: &str, time: u64, pid: u32, tid: u32, comm: &[u8]) -> (Event, Vec<u8>) {
    let fields = vec![field("", plan::EVENT_HEADER, Layout::Str { size: 8 })];
    let format = Format { pieces: vec![events::string_conversion()] };
    let event = Event {
        span: Span::default(),
        action: Action::Printf(format),
        fields,
        size: 16 + plan::STAMP,
        stamp: Some(16),
        run: false,
    };
    let padded = |bytes: &[u8], size| {
        let mut bytes = bytes.to_vec();
        bytes.resize(size, 0);
        bytes
    };
    let ids = u64::from(pid) << 32 | u64::from(tid);
    let record =
        [vec![0; 8], padded(text.as_bytes(), 8), words(&[time, ids]), padded(comm, 16)].concat();
    (event, record)
}

#[test]
fn traces_for_perfetto() {
    let bytes = exported(export::Format::Perfetto, |output, _| {
        for (text, time, tid, comm) in [
            ("one\n", 1000, 43, &b"worker"[..]),
            ("two\n", 2000, 43, b"worker"),
            ("three", 3000, 42, b"main"),
        ] {
            let (event, record) = stamped(text, time, 42, tid, comm);
            output.event(&event, &record, &mut events::NoMaps).unwrap();
        }
        let series = Aggregation::Tseries {
            interval: 100,
            count: 4,
            function: crate::types::Series::Last,
            signed: true,
        };
        let map = named("@t", maps::map(Some(maps::U32), maps::aggregate(series)));
        let value = words(&[7, 5, 1, 8, (-6i64).cast_unsigned(), 2, 0, 0, 0, 0, 0, 0]);
        let data = MapData::read(&map, &mut maps::Written(vec![(key32(3), value)])).unwrap();
        output.last_map(&data).unwrap();
    });
    let packets = messages(&fields(&bytes), 1);
    // The clocks: boot time is the trace's.
    let snapshot = one(messages(&packets[0], 6));
    assert_eq!(numbers(&snapshot, 2), [6]);
    let clocks: Vec<u64> = messages(&snapshot, 1).iter().map(|c| one(numbers(c, 1))).collect();
    assert_eq!(clocks, [6, 1]);
    let mut said = Vec::new();
    for packet in &packets[1..] {
        assert_eq!(numbers(packet, 10), [1]);
        for track in messages(packet, 60) {
            let uuid = one(numbers(&track, 1));
            let process = messages(&track, 3).iter().map(|p| numbers(p, 1)[0]).collect::<Vec<_>>();
            let thread = messages(&track, 4);
            let thread: Vec<_> =
                thread.iter().map(|t| (numbers(t, 1)[0], numbers(t, 2)[0], texts(t, 5))).collect();
            let counter = messages(&track, 8).len();
            said.push(format!(
                "track {uuid} {process:?} {thread:?} {counter} {:?}",
                texts(&track, 2)
            ));
        }
        for event in messages(packet, 11) {
            assert_eq!(numbers(packet, 58), [6]);
            let (time, track) = (one(numbers(packet, 8)), one(numbers(&event, 11)));
            let (kind, value) = (one(numbers(&event, 9)), numbers(&event, 30));
            let value: Vec<i64> = value.iter().map(|n| n.cast_signed()).collect();
            said.push(format!("{time} on {track}: {kind} {:?} {value:?}", texts(&event, 23)));
        }
    }
    assert_eq!(
        said,
        [
            "track 4294967338 [42] [] 0 []",
            "track 44 [] [(42, 43, [\"worker\"])] 0 []",
            "1000 on 44: 3 [\"one\"] []",
            "2000 on 44: 3 [\"two\"] []",
            "track 43 [] [(42, 42, [\"main\"])] 0 []",
            "3000 on 43: 3 [\"three\"] []",
            "track 8589934592 [] [] 1 [\"@t[3]\"]",
            "700 on 8589934592: 4 [] [5]",
            "800 on 8589934592: 4 [] [-6]",
        ]
    );
}
