//! Patterns for files: `*` and `?` in a path component, `[…]` for one character.

use std::fs;
use std::path::{Path, PathBuf};

use super::Host;

/// Files that fit an absolute pattern, sorted.
pub(super) fn glob(host: &Host, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.split('/').filter(|c| !c.is_empty()) {
        let next = |dir: PathBuf| -> Vec<PathBuf> {
            if !component.contains(['*', '?', '[']) {
                let path = dir.join(component);
                return if host.path(&path).exists() { vec![path] } else { Vec::new() };
            }
            let Ok(entries) = fs::read_dir(host.path(&dir)) else { return Vec::new() };
            let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            // As in a shell: hidden files only if asked for.
            let visible = |n: &String| !n.starts_with('.') || component.starts_with('.');
            let fits = |n: &String| matches(component.as_bytes(), n.as_bytes());
            names.filter(visible).filter(fits).map(|name| dir.join(name)).collect()
        };
        found = found.into_iter().flat_map(next).collect();
    }
    found.retain(|path| host.path(Path::new(path)).is_file());
    found.sort_unstable();
    found
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on after the last `*`: a greedy match needs no other way back.
    let (mut p, mut n, mut back) = (0, 0, None);
    loop {
        match (pattern.get(p), name.get(n)) {
            (Some(b'*'), _) => {
                back = Some((p, n));
                p += 1;
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(_)) => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            (Some(b'['), Some(&c)) => {
                if let Some((hit, len)) = set(pattern.get(p..).unwrap_or_default(), c)
                    && hit
                {
                    (p, n) = (p + len, n + 1);
                    continue;
                }
            }
            (Some(a), Some(b)) if a == b => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            _ => {}
        }
        match back {
            Some((star, at)) if at < name.len() => {
                back = Some((star, at + 1));
                (p, n) = (star + 1, at + 1);
            }
            _ => return false,
        }
    }
}

/// Whether a character is in the set that the pattern starts with, and how long
/// the set is; `None` if it is not closed.
fn set(pattern: &[u8], c: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = 1 + usize::from(negated);
    // A `]` that comes first is a member.
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|&b| b == b']')?;
    let members = pattern.get(start..end)?;
    let mut hit = members.contains(&c);
    for window in members.windows(3) {
        if let [low, b'-', high] = window {
            hit |= (low..=high).contains(&&c);
        }
    }
    Some((hit != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let fits = |p: &str, n: &str| matches(p.as_bytes(), n.as_bytes());
        assert!(fits("lib*.so.?", "libc.so.6"));
        assert!(fits("*", ""));
        assert!(fits("a*b*c", "a_b_b_c"));
        assert!(!fits("a*b*c", "a_c_b"));
        assert!(fits("[a-c]x", "bx") && !fits("[a-c]x", "dx") && fits("[!a-c]x", "dx"));
        assert!(fits("[]]", "]"));
        assert!(!fits("[a", "a"));
    }
}
