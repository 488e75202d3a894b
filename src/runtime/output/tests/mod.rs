//! Every example of output.md, byte for byte, by subject; here is what they share.

mod events;
mod exports;
mod losses;
mod map_forms;
mod stacks;
mod trials;
mod values;

#[path = "../../../../tests/harness/schema.rs"]
mod schema;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::sink::tests::Written;
use super::*;
use crate::diag::{Form, Levels};
use crate::plan::{
    Cause, Config, Conversion, ConversionKind, Field, Format, Layout, Loss, MapValue,
    MissingProbes, Piece,
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
        portable: None,
        cgroup_filters: vec!["cpu".into()],
        unwinds: false,
        config: Config {
            max_cat_bytes: 10,
            max_probes: 1024,
            each_place: false,
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
    guarded: false,
    guarded_errors: false,
    color: false,
    messages: Form::Text,
    levels: Levels::SHOWN,
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
        schema::check(&shown).unwrap();
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
