//! Flame graphs of results: JSON output or folded stacks in, SVG out.

use std::fmt;
use std::io::Write;
use std::marker::PhantomData;

use inferno::flamegraph::{self, Direction};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// How to draw.
#[derive(Debug, Clone)]
pub struct Options {
    /// Above the graph.
    pub title: String,
    /// Of JSON, this map only (`@name`).
    pub map: Option<String>,
    /// The outermost functions on top.
    pub icicle: bool,
}

/// Draws what `rtrace -f json` or `rtrace -f folded` wrote.
///
/// # Errors
/// Why there is nothing to draw, or what is wrong with the text.
pub fn draw(text: &str, options: &Options, out: &mut dyn Write) -> Result<(), String> {
    let json = text.trim_start().starts_with('{');
    let lines = if json { of_json(text, options.map.as_deref())? } else { folded(text)? };
    if lines.is_empty() {
        return Err(match json {
            true => "no map in it has keys and numbers".into(),
            false => "there are no stacks in it".into(),
        });
    }
    let mut style = flamegraph::Options::default();
    style.title.clone_from(&options.title);
    style.deterministic = true;
    style.direction = if options.icicle { Direction::Inverted } else { Direction::Straight };
    flamegraph::from_lines(&mut style, lines.iter().map(String::as_str), out)
        .map_err(|why| format!("cannot draw it: {why}"))
}

/// Lines of folded stacks, each with its number.
fn folded(text: &str) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = line.rsplit_once(' ').and_then(|(_, n)| n.parse::<f64>().ok());
        if number.is_none() {
            return Err(format!(
                "line {} is no folded stack: it does not end with a number",
                i + 1
            ));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// Folded stacks of the maps in JSON output. A map that was printed several
/// times counts as it was last.
///
/// # Errors
/// A line is not JSON, or there are frames that cannot be told apart.
pub fn of_json(text: &str, wanted: Option<&str>) -> Result<Vec<String>, String> {
    let mut maps: Vec<(String, Vec<(String, i64)>)> = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let not_json = |why| format!("line {} is not JSON: {why}", i + 1);
        let kind: Kind = serde_json::from_str(line).map_err(not_json)?;
        if !matches!(kind.r#type.as_deref(), Some("map" | "stats" | "hist")) {
            continue;
        }
        let object: Object = serde_json::from_str(line).map_err(not_json)?;
        for (name, keys) in &object.data.0 {
            if wanted.is_some_and(|w| w.trim_start_matches('@') != name.trim_start_matches('@')) {
                continue;
            }
            let Ok(keys) = serde_json::from_str::<Members<Value>>(keys.get()) else { continue };
            let rows: Option<Vec<(String, i64)>> =
                keys.0.iter().map(|(key, value)| Some((stack(key)?, number(value)?))).collect();
            let Some(rows) = rows else { continue };
            maps.retain(|(known, _)| known != name);
            maps.push((name.clone(), rows));
        }
    }
    let several = maps.len() > 1;
    let lines = maps.into_iter().flat_map(|(name, rows)| {
        rows.into_iter().filter(|(_, n)| *n > 0).map(move |(stack, number)| match several {
            true => format!("{name};{stack} {number}"),
            false => format!("{stack} {number}"),
        })
    });
    Ok(lines.collect())
}

/// What a line is.
#[derive(Deserialize)]
struct Kind {
    r#type: Option<String>,
}

/// A line with maps.
#[derive(Deserialize)]
struct Object {
    data: Members<Box<RawValue>>,
}

/// The members of an object, in order. Of two with the same name both: keys
/// that differ in their blanks only are the same in JSON output.
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members<T>, D::Error> {
        struct All<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for All<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        from.deserialize_map(All(PhantomData))
    }
}

/// How much an element counts: a number, a total, or all of a histogram.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(digits) => digits.parse().ok(),
        Value::Object(stats) => number(stats.get("total")?),
        Value::Array(buckets) => buckets.iter().map(|b| number(b.get("count")?)).sum(),
        _ => None,
    }
}

/// A key as a folded stack. In JSON it is text without blanks: parts separated
/// by commas, and stacks, of which each frame is a line, innermost first.
/// None for stacks whose mode has no names.
fn stack(key: &str) -> Option<String> {
    let (mut labels, mut stacks) = (Vec::new(), Vec::new());
    let mut open: Option<Vec<String>> = None;
    // A stack begins and ends with a newline.
    for line in key.split('\n') {
        let part = line.trim_start_matches(',');
        if open.is_none() || line.is_empty() || line.starts_with(',') {
            stacks.extend(open.take());
            let names = part.split(',').filter(|name| !name.is_empty());
            labels.extend(names.map(|name| name.replace(';', ":")));
            open = Some(Vec::new());
        } else if let Some(frames) = &mut open {
            frames.push(frame(line)?);
        }
    }
    stacks.extend(open);
    let frames = stacks.iter().flat_map(|frames| frames.iter().rev());
    let all: Vec<&str> = labels.iter().chain(frames).map(String::as_str).collect();
    if all.is_empty() { Some("[no frames]".into()) } else { Some(all.join(";")) }
}

/// The name of a frame: `name+offset@file:line`, or `[inlined]name@file:line`.
fn frame(line: &str) -> Option<String> {
    if line.starts_with('\t') {
        // Mode `perf`: without its blank, the address runs into the name.
        return None;
    }
    let line = line.strip_prefix("[inlined]").unwrap_or(line);
    let code = line.rfind('@').filter(|at| line.get(at + 1..).is_some_and(|c| c.contains(':')));
    let name = code.and_then(|at| line.get(..at)).unwrap_or(line);
    let name = match name.rsplit_once('+') {
        Some((name, offset)) if offset.parse::<u64>().is_ok() => name,
        _ => name,
    };
    Some(name.replace(';', ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_folded_stacks() {
        for (key, expected) in [
            ("cat", "cat"),
            ("bash,42", "bash;42"),
            ("\nvfs_read+1\nksys_read+95\n", "ksys_read;vfs_read"),
            ("\nvfs_read+1\n,cat", "cat;vfs_read"),
            ("cat,\nb+1\na+2\n,\nd+3\nc+4\n", "cat;a;b;c;d"),
            (
                "\n[inlined]copy@src/copy.h:3\nsimple_cat+5@src/cat.c:7\n0x50\n",
                "0x50;simple_cat;copy",
            ),
            ("\nstd::map<int,int>::find(int,char)+5\n", "std::map<int,int>::find(int,char)"),
            ("\n", "[no frames]"),
        ] {
            assert_eq!(stack(key).as_deref(), Some(expected), "{key:?}");
        }
        assert_eq!(stack("\n\t10vfs_read+1\n"), None);
    }

    #[test]
    fn maps_of_json_become_lines() {
        let text = "{\"type\": \"attached_probes\", \"count\": 1, \"data\": {\"probes\": 1}}\n\
                    {\"type\": \"map\", \"data\": {\"@\": {\"\\na+1\\n\": 1}}}\n\
                    {\"type\": \"map\", \"data\": {\"@\": {\"\\na+1\\n\": 3, \"x\": \"9007199254740993\"}}}\n\
                    {\"type\": \"map\", \"data\": {\"@scalar\": 4}}\n";
        let lines = of_json(text, None).expect("JSON");
        assert_eq!(lines, ["a 3", "x 9007199254740993"]);
        let twice = "{\"type\": \"map\", \"data\": {\"@\": {\"ab\": 1, \"ab\": 2}}}";
        assert_eq!(of_json(twice, None).expect("JSON"), ["ab 1", "ab 2"]);
        let more = "{\"type\": \"stats\", \"data\": {\"@s\": {\"k\": {\"count\": 2, \"average\": 3, \"total\": 6}}}}\n\
                    {\"type\": \"hist\", \"data\": {\"@h\": {\"k\": [{\"min\": 0, \"max\": 0, \"count\": 2}, {\"min\": 1, \"count\": 5}]}}}\n";
        assert_eq!(of_json(more, None).expect("JSON"), ["@s;k 6", "@h;k 7"]);
        assert_eq!(of_json(more, Some("h")).expect("JSON"), ["k 7"]);
        assert!(of_json("{", None).expect_err("no").contains("line 1 is not JSON"));
    }

    #[test]
    fn a_graph_has_every_function_and_its_share() {
        let options = Options { title: "reads".into(), map: None, icicle: false };
        let drawn = |text| {
            let mut out = Vec::new();
            draw(text, &options, &mut out).map(|()| String::from_utf8(out).expect("SVG is text"))
        };
        let svg = drawn("main;read 3\nmain;write 1\n").expect("stacks");
        assert!(svg.contains("<title>read (3 samples, 75.00%)</title>"), "{svg}");
        assert!(svg.contains("reads</text>"), "{svg}");
        assert!(drawn("").expect_err("nothing").contains("no stacks"));
        assert!(drawn("main;read\n").expect_err("no number").contains("line 1"));
        assert!(drawn("{}\n").expect_err("no map").contains("no map"));
    }
}
