//! `-l`: names of probes, and of kernel types, told as they are found: after each provider, and
//! after each file of those that are about files.

use std::cell::RefCell;

use super::text::{self, Part};
use super::{PROVIDERS, Provider, Side};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::parser::ast::{AttachPoint, TypeTag};
use crate::source::Span;

/// What `-l` was given beside the pattern.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListOptions {
    /// `-v`: arguments and definitions too.
    pub verbose: bool,
    /// `-p`.
    pub pid: Option<u32>,
}

/// A probe in a listing.
pub(super) struct Line {
    /// Its full name.
    pub(super) name: String,
    /// `type name` of its arguments, with `-v`.
    pub(super) details: Vec<String>,
}

/// What a provider is asked for.
pub(super) struct Query<'a> {
    pub(super) provider: &'static Provider,
    pub(super) host: &'a Host,
    pub(super) verbose: bool,
    pub(super) pid: Option<u32>,
    pub(super) pattern: &'a Pattern,
    /// Takes what is found; whether more is wanted.
    take: &'a Take<'a>,
}

/// Takes texts of a listing; whether more is wanted.
type Take<'a> = dyn Fn(Vec<String>) -> bool + 'a;

/// Which probes a listing is about.
pub(super) enum Pattern {
    All,
    /// A pattern without a provider.
    Bare(String),
    /// The parts after the provider.
    Parts(Vec<Part>),
}

impl Line {
    pub(super) fn of(name: String) -> Line {
        Line { name, details: Vec::new() }
    }
}

impl Query<'_> {
    /// Tells what was found so far, before the rest is looked for; whether that is wanted.
    pub(super) fn tell(&self, mut found: Vec<Line>) -> bool {
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        let mut lines = Vec::with_capacity(found.len());
        for line in found {
            lines.push(line.name);
            lines.extend(line.details.into_iter().map(|d| format!("    {d}")));
        }
        lines.is_empty() || (self.take)(lines)
    }

    /// Whether the parts of a probe's name, without the provider, are wanted.
    /// A single part also stands for the whole name or its last part.
    pub(super) fn accepts(&self, name: &[&str]) -> bool {
        let single = |pattern: &str| {
            text::matches(pattern, &name.join(":"))
                || name.last().is_some_and(|last| text::matches(pattern, last))
        };
        match self.pattern {
            Pattern::All => true,
            Pattern::Bare(pattern) => single(pattern),
            Pattern::Parts(parts) => {
                let keep = parts.iter().rposition(|p| !p.text.is_empty()).map_or(0, |i| i + 1);
                match parts.get(..keep).unwrap_or_default() {
                    [] => true,
                    [part] => single(&part.text),
                    parts => {
                        parts.len() == name.len()
                            && parts
                                .iter()
                                .zip(name)
                                .all(|(p, n)| p.text.is_empty() || p.matches(n))
                    }
                }
            }
        }
    }

    /// The parts of the pattern after the provider, if it names one.
    pub(super) fn parts(&self) -> &[Part] {
        match self.pattern {
            Pattern::Parts(parts) => parts,
            Pattern::All | Pattern::Bare(_) => &[],
        }
    }
}

/// Probes whose names match, one text per line (of a type's definition: per
/// definition). Without a pattern, or with `*`, everything of the kernel;
/// patterns may be separated by commas. What cannot be listed becomes a
/// diagnostic: a warning if it was not asked for by name.
pub fn list(
    host: &Host,
    pattern: Option<&str>,
    options: ListOptions,
    diags: &mut Diagnostics,
) -> Vec<String> {
    let mut lines = Vec::new();
    list_each(host, pattern, options, diags, &mut |found| {
        lines.extend(found);
        true
    });
    lines
}

/// The same piece by piece, as it is found, until `take` says that no more is wanted.
pub fn list_each(
    host: &Host,
    pattern: Option<&str>,
    options: ListOptions,
    diags: &mut Diagnostics,
    take: &mut dyn FnMut(Vec<String>) -> bool,
) {
    let take = RefCell::new(take);
    let take = |found| (take.borrow_mut())(found);
    let pattern = pattern.map(str::trim).filter(|p| !p.is_empty()).unwrap_or("*");
    for pattern in split_commas(pattern) {
        let more = match types(host, pattern, options.verbose) {
            Some(Ok(found)) => take(found),
            Some(Err(reason)) => {
                diags.push(Diagnostic::global(reason));
                true
            }
            None => list_one(host, pattern, options, diags, &take),
        };
        if !more {
            return;
        }
    }
}

/// Pieces between commas outside quotes.
fn split_commas(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|piece| !piece.is_empty())
    .collect()
}

/// Whether more is wanted.
fn list_one(
    host: &Host,
    pattern: &str,
    options: ListOptions,
    diags: &mut Diagnostics,
    take: &Take<'_>,
) -> bool {
    let point = AttachPoint { label: None, text: pattern.to_owned(), span: Span::default() };
    let mut parts = match text::split(&point, &[]) {
        Ok(parts) => parts,
        Err(diagnostic) => {
            diags.push(Diagnostic::global(diagnostic.message));
            return true;
        }
    };
    let head = parts.remove(0);
    let user_file = parts.first().is_some_and(|p| p.text.contains('/'));
    let (providers, pattern): (Vec<&'static Provider>, Pattern) = if parts.is_empty() {
        let wanted = |p: &&&Provider| match p.side {
            Side::Kernel => true,
            Side::User => options.pid.is_some(),
            Side::Named => false,
        };
        let pattern = match head.text.as_str() {
            "*" => Pattern::All,
            text => Pattern::Bare(text.to_owned()),
        };
        match super::find(&head.text) {
            // `-l kprobe`: everything of a provider.
            Some(provider) => (vec![provider], Pattern::Parts(Vec::new())),
            None => (PROVIDERS.iter().filter(wanted).copied().collect(), pattern),
        }
    } else if head.is_wildcard() {
        let wanted = |p: &&&Provider| match p.side {
            Side::Kernel => !user_file,
            Side::User => user_file || options.pid.is_some(),
            Side::Named => false,
        };
        let named = PROVIDERS.iter().filter(wanted).filter(|p| head.matches(p.name));
        (named.copied().collect(), Pattern::Parts(parts))
    } else {
        match super::find(&head.text) {
            Some(provider) => (vec![provider], Pattern::Parts(parts)),
            None => {
                let unknown = super::unknown_provider(&head);
                diags.push(Diagnostic { primary: None, ..unknown });
                return true;
            }
        }
    };
    let asked = providers.len() == 1;
    for provider in providers {
        let (verbose, pid) = (options.verbose, options.pid);
        let query = Query { provider, host, verbose, pid, pattern: &pattern, take };
        match (provider.list)(&query) {
            Ok(found) => {
                if !query.tell(found) {
                    return false;
                }
            }
            Err(reason) => {
                let d = Diagnostic::global(format!("{} probes cannot be listed", provider.name));
                let d = if asked { d } else { d.weaken(Warning::KernelLacks) };
                diags.push(d.note(reason));
            }
        }
    }
    true
}

/// Kernel types whose names match `struct x*`, `union …`, `enum …`; `None` if
/// the pattern is not of that form.
fn types(host: &Host, pattern: &str, verbose: bool) -> Option<Result<Vec<String>, String>> {
    let (word, name) = pattern.split_once(char::is_whitespace)?;
    let tag = match word {
        "struct" => TypeTag::Struct,
        "union" => TypeTag::Union,
        "enum" => TypeTag::Enum,
        _ => return None,
    };
    let name = name.trim();
    let btf = match host.btf() {
        Ok(btf) => btf,
        Err(reason) => return Some(Err(reason)),
    };
    let names = btf.type_names(tag, &|candidate| text::matches(name, candidate));
    if !verbose {
        return Some(Ok(names.iter().map(|n| format!("{word} {n}")).collect()));
    }
    let definition = |name: &String| {
        let (module, text) = btf.definitions(tag, name).into_iter().next()?;
        Some(format!("{module}: {text};"))
    };
    Some(Ok(names.iter().filter_map(definition).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_outside_quotes_separate_patterns() {
        assert_eq!(split_commas("a:b, \"c,d\":e,"), ["a:b", "\"c,d\":e"]);
    }
}
