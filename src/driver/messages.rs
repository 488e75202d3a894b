//! How errors and warnings reach the user: which of them (`--no-warnings`, `-W`),
//! as text or JSON (`--message-format`), with colours or without.
//!
//! It is said once for the whole process, when the arguments are read: a
//! message may come from anywhere, also before there is a script.

use std::io::{self, IsTerminal, Write as _};
use std::sync::OnceLock;

use super::{BESIDE, Failed, USAGE, failed};
use crate::cli::{MessageFormat, Messages};
use crate::diag::{Diagnostic, Diagnostics, Form, Levels};
use crate::source::Sources;

static CHOSEN: OnceLock<(Form, Levels)> = OnceLock::new();

/// Takes over what the command line says about messages.
pub(super) fn choose(messages: &Messages) -> Result<(), Failed> {
    let form = match messages.message_format {
        MessageFormat::Json => Form::Json,
        MessageFormat::Text => text_form(),
    };
    let read = Levels::read(messages.no_warnings, &messages.warning_words);
    let levels = read.as_ref().map_or(Levels::default(), |levels| *levels);
    // A process has one command line; tests of the library may have more.
    let _ = CHOSEN.set((form, levels));
    read.map(|_| ()).map_err(|d| failed(*d, USAGE))
}

pub(super) fn form() -> Form {
    CHOSEN.get().map_or_else(text_form, |chosen| chosen.0)
}

pub(super) fn levels() -> Levels {
    CHOSEN.get().map_or(Levels::default(), |chosen| chosen.1)
}

/// Whether text may have colours.
pub(super) fn color() -> bool {
    let wish = ["RTRACE_COLOR", "BPFTRACE_COLOR"].into_iter().find_map(|n| std::env::var(n).ok());
    match wish.as_deref() {
        Some("always") => true,
        Some("never") => false,
        _ if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) => false,
        _ => io::stdout().is_terminal() && io::stderr().is_terminal(),
    }
}

fn text_form() -> Form {
    if color() { Form::Colored } else { Form::Text }
}

/// Shows messages; errors end the pipeline.
pub(super) fn shown(diags: &Diagnostics, sources: &Sources) -> Result<(), Failed> {
    match write(diags, sources) {
        true if diags.are_beside() => Err(Failed(BESIDE)),
        true => Err(Failed(USAGE)),
        false => Ok(()),
    }
}

/// Shows what is to be shown, and says whether there were errors.
pub(super) fn write(diags: &Diagnostics, sources: &Sources) -> bool {
    let list = levels().apply(diags);
    match form() {
        Form::Json => say(&list.render(sources, Form::Json)),
        form => {
            let (first, more) = list.first(MOST);
            say(&(first.render(sources, form) + &not_shown(more)));
        }
    }
    list.has_errors()
}

/// Errors, and warnings, that a person wants to see at a time.
const MOST: usize = 20;

/// A line about errors and warnings that are not shown, if there are some.
fn not_shown([errors, warnings]: [usize; 2]) -> String {
    let count = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("1 more {what}")),
        n => Some(format!("{n} more {what}s")),
    };
    let both = [count(errors, "error"), count(warnings, "warning")];
    let both: Vec<String> = both.into_iter().flatten().collect();
    if both.is_empty() {
        return String::new();
    }
    let verb = if errors + warnings == 1 { "is" } else { "are" };
    format!("{} {verb} not shown; `--message-format json` has all\n\n", both.join(" and "))
}

/// Text on the error stream. Where that is closed there is nobody to tell.
pub(super) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// What is wrong with the arguments. They could not be read, so whether JSON is
/// wanted is looked for in them.
pub(super) fn wrong_use(error: &clap::Error, args: &[String]) {
    let mut pairs = args.iter().zip(args.iter().skip(1));
    let json = args.iter().any(|a| a == "--message-format=json")
        || pairs.any(|(a, b)| a == "--message-format" && b == "json");
    if !json {
        // Nobody to tell if even that fails.
        let _ = error.print();
        return;
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut d = Diagnostic::global(first.strip_prefix("error: ").unwrap_or(first));
    for line in lines {
        d = match line.strip_prefix("tip: ") {
            Some(tip) => d.help(tip),
            None => d.note(line),
        };
    }
    say(&Diagnostics { list: vec![d] }.render(&Sources::default(), Form::Json));
}
