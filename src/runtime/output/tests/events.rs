//! What scripts print, and what a run says of itself (output.md §2, §7, §10, §14).

use super::*;

fn text_piece(text: &str) -> Piece {
    Piece::Text(text.into())
}

pub(super) fn string_conversion() -> Piece {
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
    (
        Event { span: Span::default(), action, fields, size: 8 + size, stamp: None, run: false },
        record,
    )
}

/// No script has maps here.
pub(super) struct NoMaps;

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
    let terminal = Options { guarded: true, ..Options::default() };
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
fn the_error_stream_is_guarded_by_itself() {
    let terminal = Options { guarded_errors: true, ..Options::default() };
    let complain = |options| {
        event(Action::Warnf(Format { pieces: vec![string_conversion()] }), "\x1b[2J", options)
    };
    assert_eq!(complain(terminal).1, "stdin:1:9-20: WARNING: \\x1b[2J\n");
    assert_eq!(complain(Options::default()).1, "stdin:1:9-20: WARNING: \x1b[2J\n");
    let cat = Action::Cat(Format { pieces: vec![string_conversion()] });
    let errors = event(cat, "/no/\x1b[2J", terminal).1;
    assert!(errors.starts_with("ERROR: cannot read `/no/\\x1b[2J` for cat()"), "{errors}");
    let (_, errors) = streams("", terminal, |o| o.remark("\x1b[2J"));
    assert_eq!(errors, "\\x1b[2J\n");
}

#[test]
fn what_a_command_writes_is_guarded() {
    let shell = "printf '\\033[2J'";
    let terminal = Options { guarded: true, ..Options::default() };
    let action = || Action::System(Format { pieces: vec![string_conversion()] });
    assert_eq!(event(action(), shell, terminal).0, "\\x1b[2J\n");
    assert_eq!(event(action(), shell, Options::default()).0, "\x1b[2J\n");
}

#[test]
fn a_precision_cuts_the_value_and_not_what_is_shown_for_it() {
    let Piece::Value(plain) = string_conversion() else { unreachable!() };
    let cut = Piece::Value(Conversion { precision: Some(2), ..plain });
    let action = || Action::Printf(Format { pieces: vec![cut.clone()] });
    let terminal = Options { guarded: true, ..Options::default() };
    assert_eq!(event(action(), "\x1b[2J", terminal).0, "\\x1b[");
    assert_eq!(event(action(), "\x1b[2J", Options::default()).0, "\x1b[");
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
    let quiet = Options { levels: Levels::SILENT, ..Options::default() };
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
        stamp: None,
        run: false,
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
