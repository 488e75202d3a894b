//! Any text has tokens, and they lie in it, one after the other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtrace::source::{Source, Sources};

fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "fuzz".into(), text: text.into() });
    let mut end = 0;
    for token in rtrace::lexer::lex(text, file, &rtrace::builtins::is_value) {
        let span = token.span;
        assert!(end <= span.start && span.start <= span.end, "{token:?} overlaps");
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{token:?} is not in the text");
        end = span.end;
    }
});
