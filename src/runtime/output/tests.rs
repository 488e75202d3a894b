//! Every example of output.md, byte for byte.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::sink::tests::Written;
use super::*;
use crate::plan::{
    Cause, Config, Conversion, ConversionKind, Field, Format, Layout, Loss, MissingProbes, Piece,
};
use crate::runtime::decode::Stack;
use crate::runtime::ledger::{Ledger, Tally};
use crate::runtime::maps::tests as maps;
use crate::runtime::symbols::{BuildId, Code, Inlined, Place, Symbol};
use crate::source::Source;
use crate::types::{Aggregation, StackMode};

const SECOND: i128 = 1_000_000_000;

/// Symbols at round addresses.
#[derive(Default)]
struct Table {
    symbols: HashMap<(Place, u64), Symbol>,
    build: Option<BuildId>,
    text: String,
}

impl Names for Table {
    fn prepare(&mut self, _: Place, _: &mut dyn Iterator<Item = u64>) {}

    fn symbol(&mut self, place: Place, address: u64) -> Option<&Symbol> {
        self.symbols.get(&(place, address))
    }

    fn build_id(&mut self, _: u32, address: u64) -> Option<&BuildId> {
        self.build.as_ref().filter(|_| address != 8)
    }

    fn user(&mut self, uid: u64) -> &str {
        if uid == 0 { "root" } else { "" }
    }

    fn cgroup(&mut self, id: u64, filter: &str) -> &str {
        self.text = format!("unified:/{id},{filter}:/x");
        &self.text
    }
}

fn table() -> Table {
    let plain = |name: &str, offset| Symbol {
        name: name.into(),
        offset,
        module: None,
        code: None,
        inlined: vec![],
    };
    let code = |path: &str, line| Some(Code { path: path.into(), line: Some(line) });
    let user = Place::User(42);
    let symbols = [
        ((Place::Kernel, 0x10), plain("vfs_read", 1)),
        ((Place::Kernel, 0x20), plain("ksys_read", 95)),
        ((user, 0x30), Symbol { module: Some("/usr/bin/cat".into()), ..plain("main", 16) }),
        (
            (user, 0x40),
            Symbol {
                module: Some("/usr/bin/cat".into()),
                code: code("src/cat.c", 7),
                inlined: vec![Inlined { name: "copy".into(), code: code("src/copy.h", 3) }],
                ..plain("simple_cat", 5)
            },
        ),
    ];
    Table {
        symbols: symbols.into_iter().collect(),
        build: Some(BuildId { id: vec![0xab; 20], offset: 0x1234 }),
        text: String::new(),
    }
}

/// A plan of nothing but its script.
pub(crate) fn plan(script: &str) -> Plan {
    let mut sources = Sources::default();
    sources.add(Source { name: "stdin".into(), text: script.into() });
    Plan {
        version: plan::VERSION,
        arch: "x86_64".into(),
        sources,
        programs: vec![],
        maps: vec![],
        events: vec![],
        losses: vec![],
        params: vec![],
        time_formats: vec!["%s.%f".into()],
        cgroup_filters: vec!["cpu".into()],
        config: Config {
            max_cat_bytes: 10,
            max_probes: 1024,
            missing_probes: MissingProbes::Error,
            print_maps_on_exit: true,
            str_trunc_trailer: "..".into(),
            perf_rb_pages: 0,
            log_size: 0,
            cpp_demangle: true,
            show_debug_info: true,
        },
    }
}

/// Where `text` stands in a script.
pub(crate) fn span(script: &str, text: &str) -> Span {
    let start = script.find(text).unwrap();
    Span::new(0, start, start + text.len())
}

pub(crate) fn context() -> Context {
    output("", Options::default()).0.cx
}

const JSON: Options = Options {
    json: true,
    buffering: Buffering::Line,
    terminal: false,
    color: false,
    warnings: true,
};

fn output(script: &str, options: Options) -> (Output, Written, Written) {
    let (out, errors) = (Written::default(), Written::default());
    let mut output = Output::with(
        &plan(script),
        Box::new(out.clone()),
        Box::new(errors.clone()),
        options,
        Box::new(table()),
        Clock { boot: 5 * SECOND, monotonic: 0, tai: 0 },
    );
    output.stacks(Made);
    (output, out, errors)
}

/// What reached the output and the error stream.
fn streams(
    script: &str,
    options: Options,
    show: impl FnOnce(&mut Output) -> Result<(), Error>,
) -> (String, String) {
    let (mut output, out, errors) = output(script, options);
    show(&mut output).unwrap();
    output.flush().unwrap();
    let shown = out.0.take().concat();
    if options.json {
        for line in shown.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect(line);
        }
    }
    (shown, errors.0.take().concat())
}

/// What reached the output, as text and as JSON.
fn both(show: impl Fn(&mut Output) -> Result<(), Error>) -> (String, String) {
    (streams("", Options::default(), &show).0, streams("", JSON, &show).0)
}

fn value(layout: &Layout, bytes: &[u8]) -> (String, String) {
    let value = crate::runtime::decode::decode(layout, bytes);
    let (text, json) = both(|o| o.value(&value));
    let data = json.strip_prefix("{\"type\": \"value\", \"data\": ").unwrap();
    (text.strip_suffix('\n').unwrap().into(), data.strip_suffix("}\n").unwrap().into())
}

/// Checks the text and the JSON form of a value.
fn check(layout: &Layout, bytes: &[u8], text: &str, json: &str) {
    assert_eq!(value(layout, bytes), (text.into(), json.into()), "{layout:?}");
}

fn field(name: &str, offset: u32, layout: Layout) -> Field {
    Field { name: name.into(), offset, layout, bits: None }
}

const U64: Layout = Layout::Int { size: 8, signed: false };
const I32: Layout = Layout::Int { size: 4, signed: true };

fn words(words: &[u64]) -> Vec<u8> {
    maps::words(words)
}

#[test]
fn numbers() {
    check(&U64, &words(&[5]), "5", "5");
    check(&I32, &(-5i32).to_ne_bytes(), "-5", "-5");
    check(&U64, &words(&[u64::MAX]), "18446744073709551615", "\"18446744073709551615\"");
    check(&U64, &words(&[1 << 53]), "9007199254740992", "9007199254740992");
    check(&U64, &words(&[(1 << 53) + 1]), "9007199254740993", "\"9007199254740993\"");
    check(&Layout::Bool, &[1], "true", "true");
    check(&Layout::Bool, &[0], "false", "false");
    let names = vec![(1, "ONE".to_string())];
    let e = Layout::Enum { size: 4, signed: false, names };
    check(&e, &[1, 0, 0, 0], "ONE", "1");
    check(&e, &[2, 0, 0, 0], "2", "2");
    check(&Layout::Pointer, &words(&[0xab_cdef]), "0xabcdef", "11259375");
    check(&Layout::Pointer, &words(&[0]), "0x0", "0");
}

#[test]
fn strings_and_buffers() {
    check(&Layout::Str { size: 5 }, b"bash\0", "bash", "\"bash\"");
    check(&Layout::Str { size: 4 }, b"bash", "bash..", "\"bash..\"");
    check(&Layout::Buffer { size: 4 }, b"\x03\0\0\0a\n\xff", "a\\x0a\\xff", "[97,10,-1]");
    let odd = b"a\"\\\n\r\t\x01\xc3\xa9\xff\0";
    let json = "\"a\\\"\\\\\\n\\r\\t\\u0001\u{e9}\\u00ff\"";
    assert_eq!(value(&Layout::Str { size: 32 }, odd).1, json);
}

#[test]
fn composites() {
    let fields = vec![field("", 0, I32), field("", 4, Layout::Str { size: 4 })];
    let tuple = Layout::Tuple { fields, size: 8 };
    check(&tuple, b"\x01\0\0\0ab\0\0", "(1, ab)", "[1,\"ab\"]");
    let one = Layout::Tuple { fields: vec![field("", 0, I32)], size: 4 };
    check(&one, &[1, 0, 0, 0], "(1)", "[1]");
    check(&Layout::Tuple { fields: vec![], size: 0 }, &[], "()", "[]");
    let array = Layout::Array { of: Box::new(I32), stride: 4, len: 3 };
    check(&array, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0], "[1,2,3]", "[1,2,3]");
    let record = Layout::Record { fields: vec![field("x", 0, I32), field("y", 4, I32)], size: 8 };
    let bytes = [1, 0, 0, 0, 2, 0, 0, 0];
    check(&record, &bytes, "{ .x = 1, .y = 2 }", "{\"x\": 1, \"y\": 2}");
    check(&Layout::Record { fields: vec![], size: 0 }, &[], "{}", "{}");
    check(&Layout::Unsupported { size: 8 }, &[0; 8], "null", "null");
}

#[test]
fn addresses_and_names() {
    let v4 = [2, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7];
    check(&Layout::Inet, &v4, "10.0.0.7", "\"10.0.0.7\"");
    let v6 = |tail: [u8; 16]| [&[10, 0, 0, 0, 0, 0, 0, 0], &tail[..]].concat();
    let mut bytes = [0; 16];
    bytes[15] = 1;
    check(&Layout::Inet, &v6(bytes), "::1", "\"::1\"");
    bytes[12] = 127;
    check(&Layout::Inet, &v6(bytes), "::127.0.0.1", "\"::127.0.0.1\"");
    (bytes[10], bytes[11]) = (255, 255);
    check(&Layout::Inet, &v6(bytes), "::ffff:127.0.0.1", "\"::ffff:127.0.0.1\"");
    check(&Layout::Inet, &v6([0; 16]), "::", "\"::\"");
    let mac = [0xaa, 0xbb, 0xcc, 0xdd, 0x0e, 0xff];
    check(&Layout::Mac, &mac, "AA:BB:CC:DD:0E:FF", "\"AA:BB:CC:DD:0E:FF\"");
    check(&Layout::Username, &words(&[0]), "root", "\"root\"");
    check(&Layout::Username, &words(&[77]), "", "\"\"");
    check(&Layout::Ksym, &words(&[0x10]), "vfs_read", "\"vfs_read\"");
    let unknown = words(&[0xffff_ffff_0000_0000]);
    check(&Layout::Ksym, &unknown, "0xffffffff00000000", "\"0xffffffff00000000\"");
    check(&Layout::Usym, &words(&[0x30, 42]), "main", "\"main\"");
    check(&Layout::Usym, &words(&[0x31, 42]), "0x31", "\"0x31\"");
    check(&Layout::CgroupPath, &words(&[7, 0]), "unified:/7,cpu:/x", "\"unified:/7,cpu:/x\"");
}

#[test]
fn timestamps() {
    check(&Layout::Timestamp, &words(&[1_000_002_000, 0]), "6.000002", "\"6.000002\"");
    // A clock that does not exist.
    check(&Layout::Timestamp, &words(&[1, 9 << 32]), "(?)", "\"(?)\"");
}

thread_local! {
    /// The frames of stacks that a test made.
    static FRAMES: RefCell<HashMap<u64, Rc<[u64]>>> = RefCell::default();
}

/// Looks into [`FRAMES`].
struct Made;

impl Stacks for Made {
    fn frames(&mut self, stack: &Stack) -> Option<Rc<[u64]>> {
        FRAMES.with_borrow(|all| all.get(&stack.id).cloned())
    }
}

fn stack_bytes(pid: u32, frames: &[u64]) -> Vec<u8> {
    let id = FRAMES.with_borrow_mut(|all| {
        let id = u64::try_from(all.len()).unwrap();
        all.insert(id, frames.into());
        id
    });
    let count = u32::try_from(frames.len()).unwrap();
    words(&[u64::from(count) | u64::from(pid) << 32, id])
}

fn kstack(mode: StackMode) -> Layout {
    Layout::Stack { user: false, mode }
}

#[test]
fn kernel_stacks() {
    let unknown = 0xffff_ffff_0000_0008;
    let bytes = stack_bytes(0, &[0x10, 0x20, unknown]);
    check(
        &kstack(StackMode::Bpftrace),
        &bytes,
        "\n        vfs_read+1\n        ksys_read+95\n        0xffffffff00000008\n",
        "\"\\n        vfs_read+1\\n        ksys_read+95\\n        0xffffffff00000008\\n\"",
    );
    assert_eq!(
        value(&kstack(StackMode::Perf), &bytes).0,
        "\n\t10 vfs_read+1\n\t20 ksys_read+95\n\tffffffff00000008 0xffffffff00000008\n"
    );
    assert_eq!(value(&kstack(StackMode::Raw), &bytes).0, "\n10\n20\nffffffff00000008\n");
    assert_eq!(value(&kstack(StackMode::Bpftrace), &stack_bytes(0, &[])).0, "\n");
    let lost = words(&[2, 1 << 63]);
    assert_eq!(value(&kstack(StackMode::Bpftrace), &lost).0, "\n[frames lost]\n");
}

#[test]
fn user_stacks() {
    let bytes = stack_bytes(42, &[0x30, 0x40, 0x50]);
    let ustack = |mode| Layout::Stack { user: true, mode };
    assert_eq!(
        value(&ustack(StackMode::Bpftrace), &bytes).0,
        "\n        main+16\n        [inlined] copy@src/copy.h:3\n        simple_cat+5@src/cat.c:7\n        0x50\n"
    );
    assert_eq!(
        value(&ustack(StackMode::Perf), &bytes).0,
        "\n\t30 main+16 (/usr/bin/cat)\n\t40 copy (inlined)\n\t40 simple_cat+5 (/usr/bin/cat)\n\t50 0x50 ([unknown])\n"
    );
    assert_eq!(value(&ustack(StackMode::Raw), &bytes).0, "\n30\n40\n50\n");
    assert_eq!(
        value(&ustack(StackMode::BuildId), &stack_bytes(42, &[0x30, 8])).0,
        format!("\n{} 0x1234\n8\n", "ab".repeat(20))
    );
}

/// A map's text and JSON when it is printed.
fn map_shown(
    map: &plan::Map,
    entries: &[(Vec<u8>, Vec<u8>)],
    top: u64,
    div: u64,
) -> (String, String) {
    let data = MapData::read(map, &mut maps::Written(entries.to_vec())).unwrap();
    both(|o| o.map(&data, top, div))
}

fn named(name: &str, map: plan::Map) -> plan::Map {
    plan::Map { name: name.into(), ..map }
}

fn key32(n: u32) -> Vec<u8> {
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

fn hist_words(counts: &[(usize, u64)]) -> Vec<u8> {
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

fn text_piece(text: &str) -> Piece {
    Piece::Text(text.into())
}

fn string_conversion() -> Piece {
    Piece::Value(Conversion {
        left: false,
        zero: false,
        plus: false,
        alternate: false,
        width: 0,
        precision: None,
        bytes: 4,
        kind: ConversionKind::Text,
    })
}

/// An event of one string, and its record.
fn string_event(action: Action, text: &str) -> (Event, Vec<u8>) {
    let size = u32::try_from(text.len() + 1).unwrap();
    let fields = vec![field("", plan::EVENT_HEADER, Layout::Str { size })];
    let mut record = vec![0; 8];
    record.extend(text.as_bytes());
    record.push(0);
    (Event { span: Span::default(), action, fields, size: 8 + size }, record)
}

/// No script has maps here.
struct NoMaps;

impl Maps for NoMaps {
    fn read(&mut self, _: u32) -> io::Result<MapData<'_>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn find(&mut self, _: u32, _: &[u8]) -> io::Result<Option<(&plan::Map, Merged)>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn clear(&mut self, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn zero(&mut self, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn event(action: Action, text: &str, options: Options) -> (String, String) {
    let (mut event, record) = string_event(action, text);
    let script = "begin { errorf(\"x\"); }";
    event.span = span(script, "errorf(\"x\")");
    streams(script, options, |o| {
        assert_eq!(o.event(&event, &record, &mut NoMaps).unwrap(), None);
        Ok(())
    })
}

fn hello(end: &str) -> Format {
    Format { pieces: vec![text_piece("hi \x1b[31m"), string_conversion(), text_piece(end)] }
}

#[test]
fn printf_in_both_forms() {
    let action = || Action::Printf(hello("\n"));
    assert_eq!(event(action(), "you", Options::default()).0, "hi \x1b[31myou\n");
    assert_eq!(
        event(action(), "\"you\"", JSON).0,
        "{\"type\": \"printf\", \"data\": \"hi \\u001b[31m\\\"you\\\"\\n\"}\n"
    );
}

#[test]
fn terminals_are_guarded_against_traced_programs() {
    let terminal = Options { terminal: true, ..Options::default() };
    let evil = "a\x1b]0;x\x07\r\u{9b}b\tc";
    let action = || Action::Printf(hello("\n"));
    // The script's own colours pass, what it prints of others does not.
    assert_eq!(event(action(), evil, terminal).0, "hi \x1b[31ma\\x1b]0;x\\x07\\x0d\\x9bb\tc\n");
    assert_eq!(event(action(), evil, Options::default()).0, format!("hi \x1b[31m{evil}\n"));
    assert_eq!(event(Action::Print, "\x7f", terminal).0, "\\x7f\n");
    let (mut output, out, _) = output("", terminal);
    output.value(&Value::Str { bytes: b"\x9b\xffx\xc3\xa9", cut: false }).unwrap();
    output.flush().unwrap();
    assert_eq!(out.0.take().concat(), "\\x9b\\xffx\u{e9}\n");
}

#[test]
fn errorf_and_warnf() {
    let shown = |action, options| event(action, "you", options);
    assert_eq!(
        shown(Action::Errorf(hello("")), Options::default()),
        (String::new(), "stdin:1:9-20: ERROR: hi \x1b[31myou\n".into())
    );
    assert_eq!(
        shown(Action::Warnf(hello("\n")), Options::default()).1,
        "stdin:1:9-20: WARNING: hi \x1b[31myou\n"
    );
    assert_eq!(
        shown(Action::Errorf(Format { pieces: vec![string_conversion()] }), JSON).0,
        "{\"type\": \"errorf\", \"msg\": \"you\", \"filename\": \"stdin\", \"line\": 1, \"col\": 9}\n"
    );
    let quiet = Options { warnings: false, ..Options::default() };
    assert_eq!(shown(Action::Warnf(hello("")), quiet).1, "");
    assert_ne!(shown(Action::Errorf(hello("")), quiet).1, "");
    let colors = Options { color: true, ..Options::default() };
    assert!(
        shown(Action::Errorf(hello("")), colors)
            .1
            .starts_with("stdin:1:9-20: \x1b[31mERROR\x1b[0m: hi")
    );
}

#[test]
fn joined_strings_end_at_the_first_empty_one() {
    let fields: Vec<Field> =
        (0..4).map(|i| field("", 8 + 4 * i, Layout::Str { size: 4 })).collect();
    let record = b"12345678ls\0\0-l\0\0\0\0\0\0x\0\0\0";
    let join = |o: &mut Output| o.join(" ", Members::of(&fields, record));
    assert_eq!(
        both(join),
        ("ls -l\n".into(), "{\"type\": \"join\", \"data\": \"ls -l\"}\n".into())
    );
}

#[test]
fn time_is_a_plain_strftime() {
    let (text, json) = both(|o| o.time("%% 1\n"));
    assert_eq!(text, "% 1\n");
    assert_eq!(json, "{\"type\": \"time\", \"data\": \"% 1\\n\"}\n");
}

#[test]
fn cat_shows_the_beginning_of_a_file() {
    let path = std::env::temp_dir().join(format!("rtrace-cat-{}", std::process::id()));
    std::fs::write(&path, "0123456789abc").unwrap();
    let name = path.to_str().unwrap();
    let action = || Action::Cat(Format { pieces: vec![string_conversion()] });
    assert_eq!(event(action(), name, Options::default()).0, "0123456789");
    assert_eq!(event(action(), name, JSON).0, "{\"type\": \"cat\", \"data\": \"0123456789\"}\n");
    std::fs::remove_file(&path).unwrap();
    let (out, errors) = event(action(), name, Options::default());
    assert_eq!(out, "");
    assert!(errors.starts_with(&format!("ERROR: cannot read `{name}` for cat(): No such file")));
}

#[test]
fn system_shows_what_the_command_wrote() {
    let action =
        || Action::System(Format { pieces: vec![text_piece("echo "), string_conversion()] });
    assert_eq!(event(action(), "hi", Options::default()).0, "hi\n\n");
    assert_eq!(event(action(), "hi", JSON).0, "{\"type\": \"syscall\", \"data\": \"hi\\n\"}\n");
}

#[test]
fn exit_gives_a_status_of_one_byte() {
    let event = Event {
        span: Span::default(),
        action: Action::Exit,
        fields: vec![field("", 8, I32)],
        size: 12,
    };
    let (mut output, ..) = output("", Options::default());
    let mut status = |n: i32| {
        let record = [&[0; 8][..], &n.to_ne_bytes()].concat();
        output.event(&event, &record, &mut NoMaps).unwrap()
    };
    assert_eq!(status(3), Some(3));
    assert_eq!(status(257), Some(1));
    assert_eq!(status(-1), Some(255));
}

#[test]
fn map_actions_that_fail_are_told() {
    let (_, errors) = event(Action::Clear { map: 0 }, "", Options::default());
    assert_eq!(errors, "ERROR: cannot clear a map: entity not found\n");
}

#[test]
fn start_and_end() {
    assert_eq!(
        streams("", Options::default(), |o| o.attached_probes(1)),
        (String::new(), "Attached 1 probe\n".into())
    );
    assert_eq!(streams("", Options::default(), |o| o.attached_probes(7)).1, "Attached 7 probes\n");
    assert_eq!(
        streams("", JSON, |o| o.attached_probes(2)).0,
        "{\"type\": \"attached_probes\", \"count\": 2, \"data\": {\"probes\": 2}}\n"
    );
    assert_eq!(both(Output::end_of_events), ("\n\n".into(), String::new()));
}

/// Notices of one place that failed so often, and what they show.
fn noticed(
    script: &str,
    at: &str,
    cause: Cause,
    tally: Tally,
    options: Options,
) -> (String, String) {
    let mut plan = plan(script);
    plan.losses = vec![Loss { span: span(script, at), cause }];
    plan.maps = vec![named("@m", maps::map(Some(maps::U32), maps::aggregate(Aggregation::Count)))];
    let mut ledger = Ledger::of(&plan);
    streams(script, options, |o| {
        for notice in ledger.update(&[tally]).iter().chain(&ledger.finish()) {
            o.notice(notice)?;
        }
        Ok(())
    })
}

#[test]
fn lost_events() {
    let shown = |options| {
        let tally = Tally { count: 3, error: 0 };
        noticed("print(1)", "print(1)", Cause::RingBufferFull, tally, options)
    };
    let total = "WARNING: Total lost event count: 3\n";
    assert_eq!(shown(Options::default()), (String::new(), format!("Lost 3 events\n{total}")));
    assert_eq!(
        shown(JSON),
        (
            "{\"type\": \"lost_events\", \"count\": 3, \"data\": {\"events\": 3}}\n".into(),
            total.into()
        )
    );
}

#[test]
fn helpers_that_failed() {
    let script = "begin {\n  print(*$p);\n}";
    let shown = |options| {
        let cause = Cause::Helper { name: "probe_read_user".into() };
        noticed(script, "*$p", cause, Tally { count: 1, error: -14 }, options)
    };
    assert_eq!(
        shown(Options::default()).1,
        "\
warning: Bad address
  ┌─ stdin:2:9
  │
2 │   print(*$p);
  │         ^^^ once
  │
  = note: helper: probe_read_user, retcode: -14

"
    );
    assert_eq!(
        shown(JSON),
        (
            "{\"type\": \"helper_error\", \"msg\": \"Bad address\", \
             \"helper\": \"probe_read_user\", \"retcode\": -14, \"count\": 1, \
             \"filename\": \"stdin\", \"line\": 2, \"col\": 9}\n"
                .into(),
            String::new()
        )
    );
    assert_eq!(shown(Options { warnings: false, ..Options::default() }).1, "");
}

#[test]
fn full_maps() {
    let script = "begin { @m[$i] = count(); }";
    let cause = Cause::MapUpdate { map: 0 };
    let tally = Tally { count: 904, error: -7 };
    assert_eq!(
        noticed(script, "@m[$i] = count()", cause, tally, Options::default()).1,
        "\
warning: map `@m` is full
  ┌─ stdin:1:9
  │
1 │ begin { @m[$i] = count(); }
  │         ^^^^^^^^^^^^^^^^ 904 times
  │
  = note: helper: map_update_elem, retcode: -7
  = note: it has room for 4096 keys; updates of other keys are dropped
  = help: raise `max_map_keys`, or declare the map: `let @m = percpuhash(8192);`

"
    );
}

#[test]
fn other_warnings() {
    let shown = |cause, error, options| {
        noticed("begin { 1 / @z }", "1 / @z", cause, Tally { count: 2, error }, options)
    };
    let place = "\"count\": 2, \"filename\": \"stdin\", \"line\": 1, \"col\": 9}\n";
    for (cause, error, kind, rest) in [
        (
            Cause::DivisionByZero,
            0,
            "runtime_error",
            "division by zero, 1 is used as the result\", ",
        ),
        (Cause::IndexOutOfBounds, 0, "runtime_error", "array index out of bounds\", "),
        (Cause::LoopLimit, 0, "runtime_error", "the loop ended after 8388608 rounds\", "),
        (Cause::Stack { user: false }, -14, "runtime_error", "Error reading kstack.\", "),
        (Cause::Stack { user: true }, -14, "runtime_error", "Error reading ustack.\", "),
        (
            Cause::DeleteMissing { map: 0 },
            -2,
            "helper_error",
            "Can't delete map element because it does not exist.\", \
             \"helper\": \"map_delete_elem\", \"retcode\": -2, ",
        ),
        (
            Cause::LookupMissing { map: 0 },
            0,
            "helper_error",
            "Can't lookup map element because it does not exist.\", \
             \"helper\": \"map_lookup_elem\", \"retcode\": 0, ",
        ),
        (Cause::NoChild, 0, "runtime_error", "`cpid` is 0: there is no child process\", "),
    ] {
        assert_eq!(
            shown(cause, error, JSON).0,
            format!("{{\"type\": \"{kind}\", \"msg\": \"{rest}{place}")
        );
    }
    assert_eq!(
        shown(Cause::DivisionByZero, 0, Options::default()).1,
        "\
warning: division by zero, 1 is used as the result
  ┌─ stdin:1:9
  │
1 │ begin { 1 / @z }
  │         ^^^^^^ 2 times

"
    );
}

#[test]
fn warnings_without_their_script_are_one_line() {
    let mut plan = plan("x");
    plan.losses = vec![Loss { span: Span::new(3, 5, 900), cause: Cause::IndexOutOfBounds }];
    let mut ledger = Ledger::of(&plan);
    let notices = ledger.update(&[Tally { count: 1, error: 0 }]);
    let (_, errors) = streams("x", Options::default(), |o| o.notice(&notices[0]));
    assert_eq!(errors, "WARNING: array index out of bounds\n");
}

#[test]
fn the_output_comes_before_a_later_error() {
    // One stream for both, as on a terminal.
    let both = Written::default();
    let mut output = Output::with(
        &plan(""),
        Box::new(both.clone()),
        Box::new(both.clone()),
        Options::default(),
        Box::new(table()),
        Clock { boot: 0, monotonic: 0, tai: 0 },
    );
    output.value(&Value::Bool(true)).unwrap();
    output.failure("it failed").unwrap();
    output.value(&Value::Bool(false)).unwrap();
    output.settle().unwrap();
    assert_eq!(Rc::unwrap_or_clone(both.0).take(), ["true\n", "ERROR: it failed\n", "false\n"]);
}

#[test]
fn any_bytes_can_be_shown() {
    let part = |offset, layout| field("x", offset, layout);
    let names = vec![(1, "ONE".to_string())];
    let layouts = [
        Layout::Int { size: 2, signed: true },
        Layout::Enum { size: 1, signed: false, names },
        Layout::Pointer,
        Layout::Str { size: 24 },
        Layout::Buffer { size: 24 },
        Layout::Array { of: Box::new(U64), stride: 8, len: 3 },
        Layout::Inet,
        Layout::Mac,
        Layout::Usym,
        Layout::Timestamp,
        Layout::CgroupPath,
        kstack(StackMode::Perf),
    ];
    let record =
        Layout::Record { fields: layouts.iter().cloned().map(|l| part(1, l)).collect(), size: 32 };
    let mut state = 1u64;
    for round in 0..400 {
        let bytes: Vec<u8> = (0..round % 40)
            .map(|_| {
                // The constants of Knuth's MMIX generator.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                u8::try_from(state >> 56).unwrap()
            })
            .collect();
        let value = crate::runtime::decode::decode(&record, &bytes);
        both(|o| o.value(&value));
    }
}
