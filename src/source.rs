//! Script text and places in it.
//!
//! A run may read several texts (the script, imported files, the prelude);
//! each is a [`Source`] in the [`Sources`] list, and a [`Span`] names one of
//! them and a byte range in it.

use serde::{Deserialize, Serialize};

/// One text, with the name under which messages show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `stdin` for `-e` and standard input, else the path as given.
    pub name: String,
    pub text: String,
}

/// Every text of a run; a [`FileId`] is an index into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    pub files: Vec<Source>,
}

/// Index of a text in [`Sources`].
pub type FileId = u16;

/// A byte range in one text; `end` is exclusive.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Span {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

/// A value and the place where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    pub node: T,
    pub span: Span,
}

impl Span {
    /// The place of bytes `start..end` of text `file`.
    pub fn new(file: FileId, start: usize, end: usize) -> Span {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { file, start: clamp(start), end: clamp(end) }
    }

    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start, end: other.end.max(self.end) }
    }
}

impl<T> Spanned<T> {
    pub fn new(node: T, span: Span) -> Spanned<T> {
        Spanned { node, span }
    }
}

impl Sources {
    /// Adds a text and gives its id.
    pub fn add(&mut self, source: Source) -> FileId {
        let id = FileId::try_from(self.files.len()).unwrap_or(FileId::MAX);
        self.files.push(source);
        id
    }

    /// The text of a file; empty for an id that is not ours.
    pub fn text(&self, file: FileId) -> &str {
        self.files.get(usize::from(file)).map_or("", |f| f.text.as_str())
    }

    /// The name of a file.
    pub fn name(&self, file: FileId) -> &str {
        self.files.get(usize::from(file)).map_or("", |f| f.name.as_str())
    }

    /// The characters of a span.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Whether a span lies inside one of the texts.
    pub fn holds(&self, span: Span) -> bool {
        let text = self.files.get(usize::from(span.file)).map(|f| f.text.as_str());
        text.is_some_and(|t| t.get(span.start as usize..span.end as usize).is_some())
    }

    /// Line and column of a span's start, both from 1; columns count characters.
    pub fn line_col(&self, span: Span) -> (u32, u32) {
        let text = self.text(span.file);
        let head = text.get(..span.start as usize).unwrap_or(text);
        let line = head.bytes().filter(|&b| b == b'\n').count() + 1;
        let start = head.rfind('\n').map_or(0, |i| i + 1);
        let column = head.get(start..).unwrap_or("").chars().count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}
