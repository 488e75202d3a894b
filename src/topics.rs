//! What one can ask about: every builtin, aggregation, kind of probe, config variable, warning
//! and section of the language, found by its name. `rtrace explain`, hover texts of editors and
//! help pages are made of it, so that they say the same as the reference.

use crate::builtins;
use crate::config;
use crate::diag::{self, WARNINGS};
use crate::language::SECTIONS;
use crate::probes::{PROVIDERS, Provider};

/// Which table an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Builtin,
    Probe,
    Config,
    Warning,
    Section,
}

/// One thing that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub name: &'static str,
    /// How it is written, one form each; may be empty.
    pub usage: Vec<String>,
    /// Sentences, and examples for sections, as plain text.
    pub text: String,
}

impl Kind {
    /// In a heading.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Builtin => "builtin",
            Kind::Probe => "probe",
            Kind::Config => "config variable",
            Kind::Warning => "warning",
            Kind::Section => "language",
        }
    }
}

/// Every entry, in the order of the reference.
pub fn all() -> impl Iterator<Item = Entry> {
    let builtins = builtins::all().map(|row| Entry {
        kind: Kind::Builtin,
        name: row.name,
        usage: row.forms().trim_matches('`').split("` or `").map(str::to_owned).collect(),
        text: match row.needs_unsafe {
            true => format!("{} Needs `--unsafe`.", row.doc),
            false => row.doc.to_owned(),
        },
    });
    let probes = PROVIDERS.iter().map(|provider| probe(provider));
    let config = config::KEYS.iter().map(|key| Entry {
        kind: Kind::Config,
        name: key.name,
        usage: vec![format!("config = {{ {} = {} }}", key.name, key.default)],
        text: match key.default {
            "" => format!("{} Values: {}.", key.doc, key.values),
            default => format!("{} Values: {}; default: {default}.", key.doc, key.values),
        },
    });
    let warnings = WARNINGS.iter().map(|row| Entry {
        kind: Kind::Warning,
        name: row.name,
        usage: vec![format!("-W no-{}", row.name), format!("-W error={}", row.name)],
        text: row.doc.to_owned(),
    });
    let sections = SECTIONS.iter().map(|section| {
        let examples = section.examples.iter().map(|e| format!("\n\n{}", indented(e.script)));
        Entry {
            kind: Kind::Section,
            name: section.title,
            usage: Vec::new(),
            text: section.text.to_owned() + &examples.collect::<String>(),
        }
    });
    builtins.chain(probes).chain(config).chain(warnings).chain(sections)
}

fn probe(provider: &'static Provider) -> Entry {
    let text = match provider.aliases {
        [] => provider.doc.to_owned(),
        aliases => format!("{} Also written {}.", provider.doc, quoted(aliases)),
    };
    let usage = provider.usage.iter().map(|usage| (*usage).to_owned()).collect();
    Entry { kind: Kind::Probe, name: provider.name, usage, text }
}

/// The entries that a word means: by their names, without regard to case; short names of
/// probes; a section by a word of its title.
pub fn find(word: &str) -> Vec<Entry> {
    let word = word.trim();
    let plain = word.trim_end_matches("()").trim_start_matches("-W").trim();
    let plain = plain.strip_prefix("no-").unwrap_or(plain);
    let same = |name: &str| name.eq_ignore_ascii_case(plain);
    let alias = PROVIDERS.iter().find(|p| p.aliases.iter().any(|a| same(a)));
    let means = |entry: &Entry| match entry.kind {
        Kind::Probe => same(entry.name) || alias.is_some_and(|p| p.name == entry.name),
        Kind::Section => same(entry.name) || entry.name.split(' ').any(same),
        Kind::Builtin | Kind::Config | Kind::Warning => same(entry.name),
    };
    all().filter(means).collect()
}

/// The name closest to a word that means nothing.
pub fn nearest(word: &str) -> Option<&'static str> {
    diag::nearest(word, all().map(|entry| entry.name))
}

/// An entry as text for terminals.
pub fn print(entry: &Entry) -> String {
    let mut text = format!("{} ({})\n", entry.name, entry.kind.word());
    for usage in &entry.usage {
        text += &format!("\n    {}", usage.replace('\n', "\n    "));
    }
    if !entry.usage.is_empty() {
        text.push('\n');
    }
    text += &format!("\n{}\n", entry.text);
    text
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn indented(script: &str) -> String {
    script.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(word: &str) -> Vec<Kind> {
        find(word).iter().map(|e| e.kind).collect()
    }

    #[test]
    fn words_are_found_in_every_table() {
        assert_eq!(kinds("pid"), [Kind::Builtin]);
        assert_eq!(kinds("printf()"), [Kind::Builtin]);
        assert_eq!(kinds("hist"), [Kind::Builtin]);
        assert_eq!(kinds("k"), [Kind::Probe]);
        assert_eq!(kinds("max_strlen"), [Kind::Config]);
        assert_eq!(kinds("no-unused-value"), [Kind::Warning]);
        assert_eq!(kinds("macros"), [Kind::Section]);
        assert_eq!(kinds("nonesuch"), []);
        assert_eq!(nearest("unusd-value"), Some("unused-value"));
    }

    #[test]
    fn entries_say_how_things_are_written() {
        let kstack = find("kstack").remove(0);
        assert_eq!(kstack.usage, ["kstack", "kstack(10)", "kstack(perf, 10)"]);
        for entry in all() {
            assert!(!entry.text.is_empty(), "{}", entry.name);
        }
    }
}
