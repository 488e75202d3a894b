//! What the test programs share: finding cases, reading their headers, showing differences.
//!
//! A case is a script below `tests/golden` or `tests/runtime`, in a folder that is its topic.
//! Its name is `topic/case`, so one word on the command line selects one of them:
//! `cargo test --test golden maps/count`.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub(crate) mod elsewhere;
pub(crate) mod feed;
pub(crate) mod live;
pub(crate) mod programs;
pub(crate) mod random;
pub(crate) mod schema;

use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test: the one that was built with this program, or `RTRACE_BINARY`.
pub(crate) fn rtrace() -> PathBuf {
    std::env::var_os("RTRACE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_rtrace").into()).into()
}

/// The program that causes events, `tests/workload`.
pub(crate) fn workload() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rt-workload"))
}

/// A script with expectations.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// `topic/case`.
    pub(crate) name: String,
    /// `…/topic/case.bt`.
    pub(crate) path: PathBuf,
}

impl Case {
    /// The file beside the script that has another extension.
    pub(crate) fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    /// The folder that the script lies in.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// `case.bt`: what messages call the script when it is run from its folder.
    pub(crate) fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The header lines of the script: see [`headers`].
    pub(crate) fn headers(&self) -> Result<Vec<Header>, String> {
        let text =
            std::fs::read(&self.path).map_err(|why| format!("{}: {why}", self.path.display()))?;
        Ok(headers(&String::from_utf8_lossy(&text)))
    }
}

/// Every script below a folder of `tests/`, sorted by name.
pub(crate) fn cases(folder: &str) -> Vec<Case> {
    let base = root().join("tests").join(folder);
    let mut cases: Vec<Case> = files(&base)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "bt"))
        .map(|path| Case { name: relative(&path.with_extension(""), &base), path })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Every file below a folder, in no order; none if there is no such folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A path below a base, with `/` between its parts.
pub(crate) fn relative(path: &Path, base: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned()
}

/// `// key: value` at the top of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: String,
    /// As written, without the blank after the colon: blanks further on count.
    pub(crate) value: String,
}

/// The headers of a script: among the comments that stand before its first line of code,
/// those with a lower-case key. Other comments are prose.
pub(crate) fn headers(script: &str) -> Vec<Header> {
    let is_top =
        |line: &&str| line.trim().is_empty() || line.starts_with("//") || line.starts_with("#!");
    script.lines().take_while(is_top).filter_map(header).collect()
}

fn header(line: &str) -> Option<Header> {
    let (key, value) = line.strip_prefix("// ")?.split_once(':')?;
    let is_key =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let value = value.strip_prefix(' ').unwrap_or(value);
    is_key.then(|| Header { key: key.into(), value: value.into() })
}

/// What has to change in `expected` to make it `actual`: lines with `-` and `+`, and a little of
/// what is around them. Empty if they are equal.
pub(crate) fn difference(expected: &str, actual: &str) -> String {
    const AROUND: usize = 3;
    // Split, not `lines`: a missing newline at the end is a difference.
    let old: Vec<&str> = expected.split('\n').collect();
    let new: Vec<&str> = actual.split('\n').collect();
    let same_before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    if same_before == old.len() && same_before == new.len() {
        return String::new();
    }
    let longest = old.len().min(new.len()) - same_before;
    let same_after =
        old.iter().rev().zip(new.iter().rev()).take(longest).take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (old.len() - same_after, new.len() - same_after);
    let from = same_before.saturating_sub(AROUND);
    let to = (old_end + AROUND).min(old.len());
    let parts = [
        (' ', old.get(from..same_before)),
        ('-', old.get(same_before..old_end)),
        ('+', new.get(same_before..new_end)),
        (' ', old.get(old_end..to)),
    ];
    let mut text = format!("@ line {}\n", same_before + 1);
    for (sign, lines) in parts {
        for line in lines.unwrap_or_default() {
            text += &format!("{sign} {line}\n");
        }
    }
    text
}
