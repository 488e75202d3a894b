//! `--mode compiler-bench`: how long the stages of compiling a script take.

use std::time::Instant;

use super::{Failed, Outcome, Search, checked, compile, machine, sources};
use crate::builtins;
use crate::cli::Cli;
use crate::host::Host;
use crate::lexer;
use crate::object::Object;
use crate::parser;
use crate::sema;
use crate::source::Source;

/// How often each is measured.
const ROUNDS: u64 = 10;

/// Compiles a script several times over, and shows what a round of each stage took on average.
pub(super) fn measure(cli: &Cli, source: &Source, host: &Host, options: &sema::Options) -> Outcome {
    let search = Search::of(&cli.includes);
    // Once for what is read only once: the kernel's types, and the script's mistakes.
    let (mut read, file) = sources(source.clone());
    let known = checked(&mut read, file, &search, host, options)?;
    let elf = compile(&known, host)?;
    let timed = |stage: &dyn Fn() -> Result<(), Failed>| {
        let start = Instant::now();
        (0..ROUNDS).try_for_each(|_| stage())?;
        Ok(start.elapsed().as_nanos() as u64 / ROUNDS)
    };
    let rows = [
        (
            "lex",
            timed(&|| {
                drop(lexer::lex(&source.text, file, &builtins::is_value));
                Ok(())
            })?,
        ),
        (
            "parse",
            timed(&|| {
                drop(parser::parse(&read, file, &builtins::is_value));
                Ok(())
            })?,
        ),
        // From the text: what lexing and parsing took is part of it.
        (
            "check",
            timed(&|| {
                let (mut read, file) = sources(source.clone());
                checked(&mut read, file, &search, host, options).map(drop)
            })?,
        ),
        ("compile", timed(&|| compile(&known, host).map(drop))?),
    ];
    machine::benchmarks(Object { elf, plan: known.plan }, &cli.style, &rows, ROUNDS)
}
