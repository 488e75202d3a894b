//! Maps, histograms and statistics (output.md §4 to §6).

use super::*;

/// A map's text and JSON when it is printed.
pub(super) fn map_shown(
    map: &plan::Map,
    entries: &[(Vec<u8>, Vec<u8>)],
    top: u64,
    div: u64,
) -> (String, String) {
    let data = MapData::read(map, &mut maps::Written(entries.to_vec())).unwrap();
    both(|o| o.map(&data, top, div))
}

pub(super) fn named(name: &str, map: plan::Map) -> plan::Map {
    plan::Map { name: name.into(), ..map }
}

pub(super) fn key32(n: u32) -> Vec<u8> {
    n.to_ne_bytes().to_vec()
}

#[test]
fn scalar_maps() {
    let m = named("@x", maps::map(None, MapValue::Plain(U64)));
    let set = [(key32(0), words(&[7, 1]))];
    let json = "{\"type\": \"map\", \"data\": {\"@x\": 7}}\n";
    assert_eq!(map_shown(&m, &set, 0, 0), ("@x: 7\n".into(), json.into()));
    // Without a value: zero when printed, nothing at the end.
    let unset = [(key32(0), words(&[0, 0]))];
    let json = "{\"type\": \"map\", \"data\": {\"@x\": 0}}\n";
    assert_eq!(map_shown(&m, &unset, 0, 0), ("@x: 0\n".into(), json.into()));
    let data = MapData::read(&m, &mut maps::Written(unset.to_vec())).unwrap();
    assert_eq!(both(|o| o.last_map(&data)), (String::new(), String::new()));
}

#[test]
fn keyed_maps() {
    let m = named("@ops", maps::map(Some(maps::U32), MapValue::Plain(I32)));
    let entries = [
        (key32(7), 100i32.to_ne_bytes().to_vec()),
        (key32(3), (-20i32).to_ne_bytes().to_vec()),
        (key32(5), 100i32.to_ne_bytes().to_vec()),
    ];
    assert_eq!(
        map_shown(&m, &entries, 0, 0),
        (
            "@ops[3]: -20\n@ops[5]: 100\n@ops[7]: 100\n".into(),
            "{\"type\": \"map\", \"data\": {\"@ops\": {\"3\": -20, \"5\": 100, \"7\": 100}}}\n"
                .into()
        )
    );
    assert_eq!(map_shown(&m, &entries, 1, 7).0, "@ops[7]: 14\n");
    assert_eq!(map_shown(&m, &entries, 0, 7).0, "@ops[3]: -2\n@ops[5]: 14\n@ops[7]: 14\n");
    assert_eq!(map_shown(&m, &[], 0, 0), (String::new(), String::new()));
}

#[test]
fn tuple_keys_lose_their_parentheses() {
    let comm = Layout::Str { size: 8 };
    let fields = vec![field("", 0, comm.clone()), field("", 8, maps::U32)];
    let pair = Layout::Tuple { fields, size: 12 };
    let m = named("@name", maps::map(Some(pair.clone()), maps::aggregate(Aggregation::Count)));
    let key = [&b"bash\0\0\0\0"[..], &key32(42)].concat();
    assert_eq!(
        map_shown(&m, &[(key, words(&[3, 4]))], 0, 0),
        (
            "@name[bash, 42]: 7\n".into(),
            "{\"type\": \"map\", \"data\": {\"@name\": {\"bash,42\": 7}}}\n".into()
        )
    );
    // As the contract shows it.
    let m = named("@ops", maps::map(Some(pair.clone()), maps::aggregate(Aggregation::Count)));
    let key = [&b"read\0\0\0\0"[..], &key32(3)].concat();
    assert_eq!(map_shown(&m, &[(key, words(&[12, 0]))], 0, 0).0, "@ops[read, 3]: 12\n");
    let nested =
        Layout::Tuple { fields: vec![field("", 0, maps::U32), field("", 4, pair)], size: 16 };
    let m = named("@m", maps::map(Some(nested), MapValue::Plain(I32)));
    let key = [&key32(1)[..], b"a b\0\0\0\0\0", &key32(2)].concat();
    let shown = map_shown(&m, &[(key, key32(9))], 0, 0);
    assert_eq!(shown.0, "@m[1, (a b, 2)]: 9\n");
    assert_eq!(shown.1, "{\"type\": \"map\", \"data\": {\"@m\": {\"1,(ab,2)\": 9}}}\n");
    let single = Layout::Tuple { fields: vec![field("", 0, maps::U32)], size: 4 };
    let m = named("@m", maps::map(Some(single), MapValue::Plain(I32)));
    assert_eq!(map_shown(&m, &[(key32(5), key32(9))], 0, 0).0, "@m[5]: 9\n");
}

#[test]
fn stack_keys() {
    let m = maps::map(Some(kstack(StackMode::Bpftrace)), maps::aggregate(Aggregation::Count));
    let key = stack_bytes(0, &[0x10, 0x20]);
    assert_eq!(
        map_shown(&m, &[(key, words(&[4, 0]))], 0, 0),
        (
            "@[\n        vfs_read+1\n        ksys_read+95\n]: 4\n".into(),
            "{\"type\": \"map\", \"data\": {\"@\": {\"\\nvfs_read+1\\nksys_read+95\\n\": 4}}}\n"
                .into()
        )
    );
    let stack = kstack(StackMode::Bpftrace);
    let fields = vec![field("", 0, stack), field("", 16, Layout::Str { size: 8 })];
    let pair = Layout::Tuple { fields, size: 24 };
    let m = named("@where", maps::map(Some(pair), maps::aggregate(Aggregation::Count)));
    let key = [stack_bytes(0, &[0x10]), b"cat\0\0\0\0\0".to_vec()].concat();
    assert_eq!(
        map_shown(&m, &[(key, words(&[2, 0]))], 0, 0).0,
        "@where[\n        vfs_read+1\n, cat]: 2\n"
    );
}

#[test]
fn stats_and_averages() {
    let stats = |key| maps::map(key, maps::aggregate(Aggregation::Stats { signed: true }));
    assert_eq!(
        map_shown(&stats(None), &[(key32(0), words(&[12, 2, 0]))], 0, 0),
        (
            "@: { .count = 2, .average = 6, .total = 12 }\n".into(),
            "{\"type\": \"stats\", \"data\": {\"@\": {\"count\": 2, \"average\": 6, \"total\": 12}}}\n".into()
        )
    );
    // top and div are not for stats.
    let entries = [(key32(1), words(&[12, 2])), (key32(2), words(&[1, 1]))];
    assert_eq!(
        map_shown(&stats(Some(maps::U32)), &entries, 1, 2).0,
        "@[2]: { .count = 1, .average = 1, .total = 1 }\n\
         @[1]: { .count = 2, .average = 6, .total = 12 }\n"
    );
    let avg = maps::map(Some(maps::U32), maps::aggregate(Aggregation::Avg { signed: true }));
    let minus = (-7i64).cast_unsigned();
    assert_eq!(
        map_shown(&avg, &[(key32(1), words(&[minus, 2]))], 0, 0),
        ("@[1]: -3\n".into(), "{\"type\": \"stats\", \"data\": {\"@\": {\"1\": -3}}}\n".into())
    );
}

pub(super) fn hist_words(counts: &[(usize, u64)]) -> Vec<u8> {
    let mut all = vec![0; Aggregation::Hist { bits: 0 }.words() as usize];
    for (index, count) in counts {
        all[*index] = *count;
    }
    words(&all)
}

#[test]
fn histograms() {
    let m = maps::map(None, maps::aggregate(Aggregation::Hist { bits: 0 }));
    let value = [hist_words(&[(1, 1), (2, 1), (3, 4), (5, 3)]), words(&[0])].concat();
    let (text, json) = map_shown(&m, &[(key32(0), value)], 0, 0);
    assert_eq!(
        text,
        "\
@:
[0]                    1 |@@@@@@@@@@@@@                                       |
[1]                    1 |@@@@@@@@@@@@@                                       |
[2, 4)                 4 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[4, 8)                 0 |                                                    |
[8, 16)                3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@             |

"
    );
    assert_eq!(
        json,
        "{\"type\": \"hist\", \"data\": {\"@\": [\
         {\"min\": 0, \"max\": 0, \"count\": 1},\
         {\"min\": 1, \"max\": 1, \"count\": 1},\
         {\"min\": 2, \"max\": 3, \"count\": 4},\
         {\"min\": 4, \"max\": 7, \"count\": 0},\
         {\"min\": 8, \"max\": 15, \"count\": 3}]}}\n"
    );
    // Zeroed: only the header and the empty line.
    let zeroed = [hist_words(&[]), words(&[1])].concat();
    assert_eq!(
        map_shown(&m, &[(key32(0), zeroed)], 0, 0),
        ("@:\n\n".into(), "{\"type\": \"hist\", \"data\": {\"@\": []}}\n".into())
    );
    // Never filled: nothing.
    let unset = [hist_words(&[]), words(&[0])].concat();
    assert_eq!(map_shown(&m, &[(key32(0), unset)], 0, 0), (String::new(), String::new()));
}

#[test]
fn keyed_histograms() {
    let lhist = Aggregation::Lhist { min: 0, max: 100, step: 25 };
    let m = named("@b", maps::map(Some(maps::U32), maps::aggregate(lhist)));
    let entries = [(key32(2), words(&[2, 9, 4, 0, 0, 1])), (key32(1), words(&[0, 0, 0, 0, 0, 1]))];
    let (text, json) = map_shown(&m, &entries, 0, 5);
    assert_eq!(
        text,
        "\
@b[1]:
[100, ...)             1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

@b[2]:
(..., 0)               2 |@@@@@@@@@@@                                         |
[0, 25)                9 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[25, 50)               4 |@@@@@@@@@@@@@@@@@@@@@@@                             |
[50, 75)               0 |                                                    |
[75, 100)              0 |                                                    |
[100, ...)             1 |@@@@@                                               |

"
    );
    assert_eq!(
        json,
        "{\"type\": \"hist\", \"data\": {\"@b\": {\
         \"1\": [{\"min\": 100, \"count\": 1}], \
         \"2\": [{\"max\": -1, \"count\": 2},\
         {\"min\": 0, \"max\": 24, \"count\": 9},\
         {\"min\": 25, \"max\": 49, \"count\": 4},\
         {\"min\": 50, \"max\": 74, \"count\": 0},\
         {\"min\": 75, \"max\": 99, \"count\": 0},\
         {\"min\": 100, \"count\": 1}]}}}\n"
    );
}

#[test]
fn divided_tuples() {
    let fields = vec![field("", 0, I32), field("", 4, I32)];
    let pair = Layout::Tuple { fields, size: 8 };
    let m = maps::map(Some(maps::U32), MapValue::Plain(pair));
    let value = [key32(100), key32(7)].concat();
    assert_eq!(map_shown(&m, &[(key32(64), value)], 0, 10).0, "@[64]: (10, 0)\n");
}
