//! "did you mean": one way to find what was probably meant, for everything
//! that has a name.

use super::Diagnostic;
use crate::source::Span;

/// What to write in place of some characters of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub span: Span,
    pub replacement: String,
}

impl Diagnostic {
    /// Suggests the candidate closest to `given`, the characters at `span`, if
    /// one is close enough.
    #[must_use]
    pub fn or_nearest<'a>(
        self,
        span: Span,
        given: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Diagnostic {
        match nearest(given, candidates) {
            Some(near) => self.did_you_mean(span, near),
            None => self,
        }
    }

    /// Asks whether `near` was meant instead of the characters at `span`.
    #[must_use]
    pub fn did_you_mean(self, span: Span, near: &str) -> Diagnostic {
        let text = format!("did you mean `{near}`?");
        let asked = match &self.primary {
            Some((at, label)) if *at == span && label.is_empty() => self.at(text),
            _ => self.help(text),
        };
        asked.replace(span, near)
    }

    /// What to write in place of the characters at `span`, for tools that
    /// change scripts. A label or a help says it to people.
    #[must_use]
    pub fn replace(mut self, span: Span, replacement: impl Into<String>) -> Diagnostic {
        self.suggestion = Some(Suggestion { span, replacement: replacement.into() });
        self
    }
}

/// The candidate closest to `name`, if it is close enough to be a slip of the
/// hand: at most a third of the characters differ (Damerau-Levenshtein, the
/// optimal string alignment form), where case does not count.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    let folded = name.to_ascii_lowercase();
    let cost = |c: &str| {
        let exact = distance(name, c);
        (exact.min(distance(&folded, &c.to_ascii_lowercase())), exact)
    };
    candidates
        .into_iter()
        .map(|c| (cost(c), c))
        .filter(|((d, _), c)| *d <= limit && *d < c.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 8 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |r: usize, c: usize| rows.get(r).and_then(|r| r.get(c)).copied().unwrap_or(0);
            let last = row.last().copied().unwrap_or(0);
            let mut best = (at(i, j) + usize::from(x != y)).min(at(i, j + 1) + 1).min(last + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            if swapped {
                best = best.min(at(i - 1, j - 1) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|r| r.last()).copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips() {
        assert_eq!(nearest("fdd", ["fd", "buf", "count"]), Some("fd"));
        assert_eq!(nearest("cmom", ["comm", "cpu"]), Some("comm"));
        assert_eq!(nearest("xyz", ["comm", "cpu"]), None);
        assert_eq!(nearest("FLAGS", ["mode", "flags"]), Some("flags"));
        assert_eq!(nearest("BEGN", ["end", "begin"]), Some("begin"));
        // Every letter differs: that is no slip.
        assert_eq!(nearest("x", ["a", "b"]), None);
    }

    #[test]
    fn a_suggestion_is_a_label_where_there_is_room_for_one() {
        let span = Span::new(0, 3, 6);
        let d = Diagnostic::error(span, "no").or_nearest(span, "fdd", ["fd"]);
        assert_eq!(d.primary, Some((span, "did you mean `fd`?".to_owned())));
        assert_eq!(d.suggestion.map(|s| s.replacement).as_deref(), Some("fd"));
        let d = Diagnostic::error(span, "no").at("here").did_you_mean(span, "fd");
        assert_eq!(d.helps, ["did you mean `fd`?"]);
    }
}
