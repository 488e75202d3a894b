//! Any text is a log of the verifier, and any bytes are the object that it is about: there is a
//! message that can be shown, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtrace::diag::{Diagnostics, Form};
use rtrace::runtime::verifier::explain;
use rtrace::source::{Source, Sources, Span};

const SCRIPT: &str = "begin {\n  $k = 7;\n  $v = @counts[$k];\n  print($a[$k & 7]);\n}\n";

fuzz_target!(|bytes: &[u8]| {
    // The log, and the object behind a byte that no text has.
    let mut parts = bytes.splitn(2, |byte| *byte == 0xff);
    let log = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let elf = parts.next().unwrap_or_default();
    let sources = Sources { files: vec![Source { name: "verr.bt".into(), text: SCRIPT.into() }] };
    let messages = [
        "libbpf: prog 'p0': BPF program load failed: -EACCES\n".to_owned(),
        format!("libbpf: prog 'p0': -- BEGIN PROG LOAD LOG --\n{log}-- END PROG LOAD LOG --\n"),
        log,
    ];
    for start in 0..messages.len() {
        let messages = messages.get(start..).unwrap_or_default();
        if let Some((diagnostic, _)) = explain(messages, &sources, Span::new(0, 0, 5), elf) {
            let shown = Diagnostics { list: vec![diagnostic] }.render(&sources, Form::Text);
            assert!(shown.starts_with("error"), "{shown}");
        }
    }
});
