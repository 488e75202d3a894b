//! What a formatted script keeps of the text that it came from: comments, empty lines, and
//! how literals are spelled.
//!
//! A comment belongs to what follows it, unless something ends on its line before it: then it
//! stays behind that. Comments inside of a statement move behind it.

use crate::lexer::Token;
use crate::source::{Span, Spanned};

/// The text of a script, with its comments.
pub(super) struct Origin<'a> {
    text: &'a str,
    comments: Vec<Comment<'a>>,
    /// The first comment that is not printed yet.
    next: usize,
    /// Where what was printed last ends in the text.
    pub(super) last: usize,
}

#[derive(Clone, Copy)]
struct Comment<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Origin<'a> {
    /// Comments stand between tokens; `tokens` are all of the text.
    pub(super) fn of(text: &'a str, tokens: &[Spanned<Token>]) -> Origin<'a> {
        let mut comments = Vec::new();
        let mut end = 0;
        for token in tokens {
            find_comments(text, end, token.span.start as usize, &mut comments);
            end = end.max(token.span.end as usize);
        }
        find_comments(text, end, text.len(), &mut comments);
        Origin { text, comments, next: 0, last: 0 }
    }

    /// The characters of a place.
    pub(super) fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// What stands directly before a place.
    pub(super) fn before(&self, span: Span) -> &'a str {
        self.text.get(..span.start as usize).unwrap_or_default().trim_end()
    }

    /// The next comment, if it begins before `end`, and whether an empty line stands before it.
    pub(super) fn comment_before(&mut self, end: usize) -> Option<(&'a str, bool)> {
        let comment = *self.comments.get(self.next).filter(|c| c.start < end)?;
        let gap = self.gap_before(comment.start);
        self.next += 1;
        self.last = comment.end;
        Some((comment.text, gap))
    }

    /// The next comment, if it stands on the line where what was printed last ends, before
    /// anything else.
    pub(super) fn comment_behind(&mut self) -> Option<&'a str> {
        let comment = *self.comments.get(self.next)?;
        let between = self.text.get(self.last..comment.start)?;
        let behind = between.chars().all(|c| matches!(c, ' ' | '\t' | ';' | ')'));
        if !behind {
            return None;
        }
        self.next += 1;
        self.last = comment.end;
        Some(comment.text)
    }

    /// Whether an empty line stands between what was printed last and `start`.
    pub(super) fn gap_before(&self, start: usize) -> bool {
        let between = self.text.get(self.last..start).unwrap_or_default();
        // Neither the end of the line before nor the beginning of the line at `start`.
        let lines: Vec<&str> = between.split('\n').collect();
        let whole = lines.get(1..lines.len().saturating_sub(1)).unwrap_or_default();
        whole.iter().any(|line| line.trim().is_empty())
    }

    /// Whether a place is on one line and has no comment in it.
    pub(super) fn is_simple(&self, span: Span) -> bool {
        let (start, end) = (span.start as usize, span.end as usize);
        let commented = self.comments.iter().any(|c| c.start < end && c.end > start);
        !commented && !self.slice(span).contains('\n')
    }

    /// Whether comments are left that begin before `end`.
    pub(super) fn has_comment_before(&self, end: usize) -> bool {
        self.comments.get(self.next).is_some_and(|c| c.start < end)
    }
}

fn find_comments<'a>(text: &'a str, start: usize, end: usize, found: &mut Vec<Comment<'a>>) {
    let mut at = start;
    while at < end {
        let Some(rest) = text.get(at..end) else { return };
        let length = if rest.starts_with("//") || (at == 0 && rest.starts_with("#!")) {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |close| close + 2)
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let comment = rest.get(..length).unwrap_or_default();
        found.push(Comment { text: comment.trim_end(), start: at, end: at + length });
        at += length;
    }
}
