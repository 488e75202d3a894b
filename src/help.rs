//! `rtrace help TOPIC` and `rtrace explain WORD`: entries of the reference, from the tables.
//! What editors show beside a word is made here, too.

use std::fmt::Write as _;

use crate::builtins::{self, Builtin};
use crate::config;
use crate::diag::{self, WARNINGS};
use crate::language::SECTIONS;
use crate::probes::PROVIDERS;

/// Columns of a page.
const WIDTH: usize = 80;

const STRING: &str = "bug: writing to a string";

/// What the tables say of a name: a builtin, a provider, a config key, a warning or
/// a section of the language; of each that has the name.
///
/// # Errors
/// Nothing has that name; what was probably meant.
pub fn topic(name: &str) -> Result<String, String> {
    let wanted = plain(name);
    let mut found = Vec::new();
    for (subject, rows) in builtins::SUBJECTS {
        found.extend(rows.iter().filter(|row| row.name == wanted).map(|row| builtin(subject, row)));
    }
    for provider in PROVIDERS {
        // `u` and `U` are different.
        let short = name.trim_end_matches("()");
        if provider.name == wanted || provider.aliases.contains(&short) {
            let mut text = format!("{} (probe)\n\n", provider.name);
            for usage in provider.usage {
                writeln!(text, "  {usage}").expect(STRING);
            }
            if !provider.aliases.is_empty() {
                writeln!(text, "  short: {}", provider.aliases.join(", ")).expect(STRING);
            }
            found.push(text + "\n" + &wrapped(provider.doc));
        }
    }
    let key = wanted.trim_start_matches("config.").trim_start_matches("bpftrace_");
    for key in config::KEYS.iter().filter(|k| k.name == key) {
        let default = if key.default.is_empty() { "none" } else { key.default };
        let head = format!("{} (config)\n\n  values: {}\n", key.name, key.values);
        let upper = key.name.to_uppercase();
        let rest =
            format!("  default: {default}\n  environment: RTRACE_{upper}, BPFTRACE_{upper}\n");
        found.push(head + &rest + "\n" + &wrapped(key.doc));
    }
    let warning = wanted.trim_start_matches("no-").trim_start_matches("error=");
    for row in WARNINGS.iter().filter(|row| row.name == wanted || row.name == warning) {
        let head = format!("{0} (warning)\n\n  -W no-{0}\n  -W error={0}\n\n", row.name);
        found.push(head + &wrapped(row.doc));
    }
    for section in SECTIONS.iter().filter(|s| s.title.to_lowercase() == wanted) {
        let mut text = format!("{}\n\n{}", section.title, wrapped(section.text));
        for example in section.examples {
            text += "\n";
            for line in example.script.lines() {
                writeln!(text, "  {line}").expect(STRING);
            }
            for (i, line) in example.prints.lines().enumerate() {
                let arrow = if i == 0 { "→" } else { " " };
                writeln!(text, "  {arrow} {line}").expect(STRING);
            }
        }
        found.push(text);
    }
    if !found.is_empty() {
        return Ok(found.join("\n"));
    }
    let names: Vec<String> = names().map(|(_, name)| name).collect();
    let lower: Vec<String> = names.iter().map(|name| plain(name)).collect();
    let meant = diag::nearest(&wanted, lower.iter().map(String::as_str))
        .and_then(|near| names.iter().find(|name| plain(name) == near))
        .or_else(|| names.iter().find(|n| wanted.len() > 2 && n.to_lowercase().contains(&wanted)));
    Err(match meant {
        Some(near) => format!("there is no topic `{name}`; did you mean `{near}`?"),
        None => format!("there is no topic `{name}`; `rtrace help` lists all"),
    })
}

/// All topics, by kind.
pub fn topics() -> String {
    let mut out = String::from(
        "`rtrace help TOPIC` tells about one of these; `rtrace --help` about flags.\n",
    );
    let mut kind = "";
    let mut line = String::new();
    for (of, name) in names() {
        if of != kind {
            flush(&mut out, &mut line);
            write!(out, "\n{of}\n").expect(STRING);
            kind = of;
        }
        if line.chars().count() + name.chars().count() + 4 > WIDTH {
            flush(&mut out, &mut line);
        }
        line += if line.is_empty() { "  " } else { ", " };
        line += &name;
    }
    flush(&mut out, &mut line);
    out
}

/// Topics that are a word.
pub fn words() -> impl Iterator<Item = &'static str> {
    let builtins = builtins::SUBJECTS.iter().flat_map(|(_, rows)| rows.iter()).map(|row| row.name);
    let probes = PROVIDERS.iter().map(|provider| provider.name);
    let keys = config::KEYS.iter().map(|key| key.name);
    builtins.chain(probes).chain(keys).chain(WARNINGS.iter().map(|row| row.name))
}

/// Names of topics with their kind, in the order of the tables.
pub fn names() -> impl Iterator<Item = (&'static str, String)> {
    let builtins = builtins::SUBJECTS.iter().flat_map(|(_, rows)| rows.iter());
    let builtins = builtins.map(|row| match row.bare {
        true => row.name.to_string(),
        false => format!("{}()", row.name),
    });
    let probes = PROVIDERS.iter().map(|provider| provider.name.to_string());
    let keys = config::KEYS.iter().map(|key| key.name.to_string());
    let warnings = WARNINGS.iter().map(|row| row.name.to_string());
    let sections = SECTIONS.iter().map(|section| section.title.to_string());
    let of = |kind| move |name| (kind, name);
    builtins
        .map(of("Builtins"))
        .chain(probes.map(of("Probes")))
        .chain(keys.map(of("Config")))
        .chain(warnings.map(of("Warnings")))
        .chain(sections.map(of("Language")))
}

fn builtin(subject: &str, row: &Builtin) -> String {
    let mut text =
        format!("{} (builtin, {})\n\n  {}\n\n", row.name, subject.to_lowercase(), row.usage);
    text += &wrapped(row.doc);
    if row.needs_unsafe {
        text += "\nIt needs `--unsafe`.\n";
    }
    text
}

/// A name without capitals and parentheses.
fn plain(name: &str) -> String {
    name.trim_end_matches("()").to_lowercase()
}

fn flush(out: &mut String, line: &mut String) {
    if !line.is_empty() {
        writeln!(out, "{line}").expect(STRING);
        line.clear();
    }
}

/// Text in lines of at most [`WIDTH`] columns; what is indented or in a list
/// keeps its lines.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with([' ', '|', '-', '`']) || line.len() <= WIDTH {
            writeln!(out, "{line}").expect(STRING);
            continue;
        }
        let mut filled = String::new();
        for word in line.split(' ') {
            if !filled.is_empty() && filled.chars().count() + word.chars().count() + 1 > WIDTH {
                flush(&mut out, &mut filled);
            }
            if !filled.is_empty() {
                filled.push(' ');
            }
            filled += word;
        }
        flush(&mut out, &mut filled);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_table_is_a_topic() {
        for (kind, name) in names() {
            let text = topic(&name).unwrap_or_else(|why| panic!("{kind} {name}: {why}"));
            assert!(text.len() > name.len() + 10, "{text}");
            assert!(topics().contains(&name), "{name}");
        }
        assert!(topics().lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn names_are_found_as_they_are_written() {
        let count = topic("count").expect("a builtin");
        assert!(count.starts_with("count (builtin, aggregations)\n\n  @m = count()\n"), "{count}");
        assert_eq!(topic("count()"), Ok(count));
        assert!(topic("k").expect("an alias").starts_with("kprobe (probe)\n"));
        let key = topic("BPFTRACE_MAX_STRLEN").expect("a key");
        assert!(key.contains("  default: 1024\n"), "{key}");
    }

    #[test]
    fn unknown_topics_are_asked_back() {
        assert_eq!(
            topic("cuont"),
            Err("there is no topic `cuont`; did you mean `count()`?".into())
        );
        assert_eq!(
            topic("zzzzzz"),
            Err("there is no topic `zzzzzz`; `rtrace help` lists all".into())
        );
    }
}
