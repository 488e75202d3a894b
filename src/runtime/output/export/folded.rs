//! Folded stacks: what `flamegraph.pl`, inferno and speedscope read.

use std::collections::HashMap;
use std::io::{self, Write};

use super::Table;

/// Writes a line for each key: what labels it and its functions, outermost
/// first, separated by `;`, a blank, and the number. If several maps have
/// samples, each line begins with the name of its own.
pub(super) fn write(out: &mut dyn Write, tables: &[&Table]) -> io::Result<()> {
    let mut lines: Vec<(String, i64)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for table in tables {
        for sample in table.samples() {
            let map = (tables.len() > 1).then_some(table.name.as_str());
            let labels = sample.labels.iter().map(String::as_str);
            let frames = sample.frames.iter().map(|frame| frame.name.as_str());
            let parts: Vec<String> =
                map.into_iter().chain(labels).chain(frames).map(part).collect();
            let line = if parts.is_empty() { "[no frames]".into() } else { parts.join(";") };
            let at = *known.entry(line.clone()).or_insert(lines.len());
            match lines.get_mut(at) {
                Some((_, value)) => *value = value.saturating_add(sample.value),
                None => lines.push((line, sample.value)),
            }
        }
    }
    for (line, value) in lines.iter().filter(|(_, value)| *value > 0) {
        writeln!(out, "{line} {value}")?;
    }
    Ok(())
}

/// A name without what separates names.
fn part(name: &str) -> String {
    name.replace(';', ":")
}
