//! Any text parses, to a tree or to diagnostics that can be shown; and what a tree without
//! errors prints as is a script that prints as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtrace::builtins::is_value;
use rtrace::parser::{parse, print};
use rtrace::source::{Source, Sources};

fn printed(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "fuzz".into(), text: text.into() });
    let (tree, diagnostics) = parse(&sources, file, &is_value);
    if diagnostics.has_errors() {
        assert!(!diagnostics.render(&sources, rtrace::diag::Form::Text).is_empty());
        return None;
    }
    Some(print::print_grouped(&tree))
}

fuzz_target!(|text: &str| {
    if let Some(once) = printed(text) {
        let twice = printed(&once);
        assert_eq!(Some(&once), twice.as_ref(), "not the same again");
    }
});
