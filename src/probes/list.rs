//! `-l`: names of probes, and of kernel types, told as they are found: after each provider, and
//! after each file of those that are about files.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

use super::text::{self, Part};
use super::{PROVIDERS, Provider, Side};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::host::elf::Language;
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
    filter: Option<&'a Filter>,
    warnings: &'a RefCell<Vec<Diagnostic>>,
    /// Takes what is found; whether more is wanted.
    take: &'a Take<'a>,
}

/// Takes texts of a listing; whether more is wanted.
type Take<'a> = dyn Fn(Vec<String>) -> bool + 'a;

/// A regular expression for what stands behind so many colons of a name.
struct Filter {
    regex: Regex,
    after: usize,
}

impl Filter {
    fn accepts(&self, name: &str) -> bool {
        name.splitn(self.after + 1, ':').nth(self.after).is_some_and(|n| self.regex.is_match(n))
    }
}

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
        found.retain(|line| self.filter.is_none_or(|f| f.accepts(&line.name)));
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        let mut lines = Vec::with_capacity(found.len());
        for line in found {
            lines.push(line.name);
            lines.extend(line.details.into_iter().map(|d| format!("{INDENT}{d}")));
        }
        lines.is_empty() || (self.take)(lines)
    }

    /// Warns of what a listing lacks.
    pub(super) fn warn(&self, message: String, note: String) {
        let d = Diagnostic::global(message).weaken(Warning::Uncertain);
        self.warnings.borrow_mut().push(d.note(note));
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
            None => {
                let point = whole(pattern);
                list_one(host, &point, &[], options, diags, &take)
            }
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

/// What `-lv` says below the names of the probes that attach points stand for.
pub fn details(
    host: &Host,
    points: &[&AttachPoint],
    params: &[String],
    options: ListOptions,
) -> HashMap<String, Vec<String>> {
    let found: RefCell<HashMap<String, Vec<String>>> = RefCell::default();
    let take = |lines: Vec<String>| {
        let mut name = String::new();
        for line in lines {
            match line.strip_prefix(INDENT) {
                Some(detail) => {
                    found.borrow_mut().entry(name.clone()).or_default().push(detail.to_owned());
                }
                None => name = line,
            }
        }
        true
    };
    for point in points {
        // What is wrong with them has been told.
        list_one(host, point, params, options, &mut Diagnostics::default(), &take);
    }
    found.into_inner()
}

/// What details have before them.
pub const INDENT: &str = "    ";

/// The name of a probe as listings have it, and as it can be written: in quotes, what another
/// language calls a function.
pub fn written(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    let (provider, path, language) = (parts.next(), parts.next(), parts.next());
    match (provider, path, language.and_then(Language::find), parts.next()) {
        (Some(provider @ ("uprobe" | "uretprobe")), Some(path), Some(language), Some(name)) => {
            let name = in_language(language, name);
            format!("{provider}:{path}:{name}")
        }
        _ => name.to_owned(),
    }
}

/// The part of an attach point that names a function in a language.
pub(super) fn in_language(language: Language, name: &str) -> String {
    match language {
        Language::Go if !name.contains(['(', ' ']) => format!("{}:{name}", language.word()),
        _ => format!("{}:\"{name}\"", language.word()),
    }
}

fn whole(pattern: &str) -> AttachPoint {
    AttachPoint { label: None, text: pattern.to_owned(), span: Span::default() }
}

/// A pattern whose last part is a regular expression, as in `tracepoint:/wak(e|ing)/`: the pattern
/// without, and the expression.
///
/// # Errors
/// The expression is none.
fn regular(point: &AttachPoint) -> Result<Option<(AttachPoint, Filter)>, Box<Diagnostic>> {
    let text = point.text.as_str();
    let Some(inner) = text.strip_suffix('/').filter(|t| !t.is_empty()) else { return Ok(None) };
    let (before, regex) = match (inner.rsplit_once(":/"), inner.strip_prefix('/')) {
        (Some((before, regex)), _) => (before, regex),
        (None, Some(regex)) => ("", regex),
        (None, None) => return Ok(None),
    };
    let after = if before.is_empty() { 0 } else { before.matches(':').count() + 1 };
    let regex = Regex::new(regex).map_err(|e| {
        let d = Diagnostic::global(format!("`/{regex}/` is no regular expression"));
        Box::new(d.note(e.to_string()))
    })?;
    let text = match after {
        0 => "*".to_owned(),
        1 => format!("{before}:"),
        _ => format!("{before}:*"),
    };
    Ok(Some((AttachPoint { text, ..point.clone() }, Filter { regex, after })))
}

/// Whether more is wanted.
fn list_one(
    host: &Host,
    point: &AttachPoint,
    params: &[String],
    options: ListOptions,
    diags: &mut Diagnostics,
    take: &Take<'_>,
) -> bool {
    let (point, filter) = match regular(point) {
        Ok(Some((point, filter))) => (point, Some(filter)),
        Ok(None) => (point.clone(), None),
        Err(diagnostic) => {
            diags.push(*diagnostic);
            return true;
        }
    };
    let mut parts = match text::split(&point, params) {
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
    let warnings = RefCell::default();
    for provider in providers {
        let (verbose, pid) = (options.verbose, options.pid);
        let (filter, warnings) = (filter.as_ref(), &warnings);
        let query =
            Query { provider, host, verbose, pid, pattern: &pattern, filter, warnings, take };
        let found = (provider.list)(&query);
        for warning in warnings.take() {
            diags.push(warning);
        }
        match found {
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
    fn regular_expressions() {
        let parts = |text: &str| {
            let found = regular(&whole(text)).ok()??;
            Some((found.0.text, found.1.regex.as_str().to_owned(), found.1.after))
        };
        let is = |text: &str, regex: &str, after: usize| {
            Some((text.to_owned(), regex.to_owned(), after))
        };
        assert_eq!(parts("/a|b/"), is("*", "a|b", 0));
        assert_eq!(parts("kprobe:/^vfs/"), is("kprobe:", "^vfs", 1));
        assert_eq!(parts("uprobe:/bin/sh:/^x/"), is("uprobe:/bin/sh:*", "^x", 2));
        assert_eq!(parts("uprobe:/bin/sh:x"), None);
        assert!(regular(&whole("/(/")).is_err());
    }

    #[test]
    fn names_as_they_are_written() {
        let same = "uprobe:/bin/sh:main";
        assert_eq!(written(same), same);
        assert_eq!(written("uprobe:/x:cpp:n::f(int)"), "uprobe:/x:cpp:\"n::f(int)\"");
        assert_eq!(written("uretprobe:/x:go:main.f"), "uretprobe:/x:go:main.f");
        assert_eq!(written("usdt:/x:cpp:f"), "usdt:/x:cpp:f");
    }

    #[test]
    fn commas_outside_quotes_separate_patterns() {
        assert_eq!(split_commas("a:b, \"c,d\":e,"), ["a:b", "\"c,d\":e"]);
    }
}
