//! Commands that look at scripts and run nothing: `check`, `fmt`, `explain`. None needs
//! privileges.

use std::fs;
use std::path::Path;

use super::load::Search;
use super::{Failed, Outcome, USAGE, fail, messages, needs, say, script_text, write};
use crate::builtins;
use crate::cli::{Check, Explain, Fmt};
use crate::help;
use crate::host::Host;
use crate::lexer;
use crate::parser::{self, print};
use crate::source::{Source, Sources};

/// Checks scripts for this machine, a recorded one, or a kernel of which only the types
/// are known.
pub(super) fn check(check: &Check) -> Outcome {
    messages::choose(&check.messages)?;
    if check.files.is_empty() {
        return Err(fail("there is nothing to check; `-` checks standard input"));
    }
    let mut status = 0;
    for file in &check.files {
        // Each script asks the machine anew: what one finds out is no matter of the next.
        let host = host(check)?;
        let source = match script_text(file) {
            Ok(source) => source,
            Err(Failed(wrong)) => {
                status = wrong;
                continue;
            }
        };
        let options = super::unattached(Vec::new(), &check.more, check.unsafe_mode);
        let mut sources = Sources::default();
        let id = sources.add(source);
        let search = Search::of(&check.includes);
        let mut bare = sources.clone();
        match super::checked(&mut sources, id, &search, &host, &options) {
            Ok(checked) if check.caps => {
                // Perhaps it can do without what only root may read.
                let without = super::machine::seen().without_tracefs();
                let found = super::examine(&mut bare, id, &search, &without, &options).0;
                let files = found.is_none();
                let mut checked = found.unwrap_or(checked);
                let needs = needs::of(&mut checked.module, &checked.plan, files, &host);
                say(&needs::text(file, &needs))?;
            }
            Ok(_) => {}
            Err(Failed(wrong)) => status = wrong,
        }
    }
    Ok(status)
}

/// The machine that scripts are checked for.
fn host(check: &Check) -> Result<Host, Failed> {
    match (&check.host, &check.btf) {
        (Some(dir), _) => Ok(Host::at(dir)),
        (None, Some(file)) => Host::of_types(file)
            .map_err(|why| fail(format!("cannot read types from `{}`: {why}", file.display()))),
        (None, None) => Ok(super::machine::seen()),
    }
}

/// Writes scripts in canonical form: files in place, standard input to standard output.
pub(super) fn fmt(fmt: &Fmt) -> Outcome {
    messages::choose(&fmt.messages)?;
    let stdin = [String::from("-")];
    let files = if fmt.files.is_empty() { &stdin } else { fmt.files.as_slice() };
    let mut status = 0;
    for file in files {
        match one(file, fmt) {
            Ok(done) => status = status.max(done),
            Err(Failed(wrong)) => status = status.max(wrong),
        }
    }
    Ok(status)
}

fn one(file: &str, fmt: &Fmt) -> Outcome {
    let source = script_text(file)?;
    let text = source.text.clone();
    let formatted = formatted(source)?;
    match (fmt.check, file) {
        (true, _) if formatted == text => Ok(0),
        (true, _) => {
            say(&format!("{file}\n"))?;
            Ok(USAGE)
        }
        (false, "-") => say(&formatted),
        (false, _) if formatted == text => Ok(0),
        (false, _) => replace(Path::new(file), &formatted).map(|()| 0),
    }
}

/// A script in canonical form.
///
/// # Errors
/// It does not parse; the messages are shown.
pub(super) fn formatted(source: Source) -> Result<String, Failed> {
    let text = source.text.clone();
    let mut sources = Sources::default();
    let file = sources.add(source);
    let (tree, diags) = parser::parse(&sources, file, &builtins::is_value);
    messages::shown(&diags, &sources)?;
    let tokens = lexer::lex(&text, file, &builtins::is_value);
    Ok(print::format(&tree, &text, &tokens))
}

/// Puts a text in place of a file in one step, so that no half of it is ever there.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failed> {
    // What a link points to, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".rtrace-fmt");
    let beside = path.with_file_name(name);
    write(&beside, text.as_bytes())?;
    let kept = fs::metadata(&path).and_then(|m| fs::set_permissions(&beside, m.permissions()));
    // A new file has no permissions to keep.
    let _ = kept;
    fs::rename(&beside, &path)
        .map_err(|e| fail(format!("cannot replace `{}`: {e}", path.display())))
}

/// Says what the reference says about a word.
pub(super) fn explain(explain: &Explain) -> Outcome {
    messages::choose(&explain.messages)?;
    let text = help::topic(&explain.words.join(" ")).map_err(fail)?;
    say(&text)
}
