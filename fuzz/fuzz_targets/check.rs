//! A script that parses is checked against the recorded machine: it gets diagnostics, or a module
//! that keeps the IR's promises.
#![no_main]

use std::cell::OnceCell;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rtrace::host::Host;
use rtrace::source::{Source, Sources};

thread_local! {
    static HOST: OnceCell<Host> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "fuzz".into(), text: text.into() });
    let (tree, diagnostics) = rtrace::parser::parse(&sources, file, &rtrace::builtins::is_value);
    if diagnostics.has_errors() {
        return;
    }
    HOST.with(|host| {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/host/debian"));
        let host = host.get_or_init(|| Host::at(root));
        let (checked, diagnostics) = rtrace::sema::check(&tree, &sources, host, &Default::default());
        match checked {
            None => assert!(diagnostics.has_errors(), "neither a module nor an error"),
            Some(checked) => rtrace::ir::verify::verify(&checked.module).expect("a promise is broken"),
        }
    });
});
