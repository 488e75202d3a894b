//! Header mode: what stands between blocks.

use std::collections::HashSet;
use std::ops::Range;

use super::body::Delimiter;
use super::layout::{self, byte, is_word, rest, skip, starts_line, word};
use super::token::{self, AttachText, Token, UNTERMINATED_COMMENT};
use crate::diag::Diagnostic;
use crate::source::{FileId, Span, Spanned};

/// The state of cutting one text. Header mode takes raw text from `pos` on;
/// `body.rs` takes over for what stands in brackets.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) file: FileId,
    pub(super) pos: usize,
    pub(super) out: Vec<Spanned<Token>>,
    pub(super) starts: Vec<usize>,
    /// Names of macros and constants that the text defines.
    pub(super) values: HashSet<String>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, file: FileId) -> Scanner<'a> {
        let out = Vec::with_capacity(text.len() / 4);
        Scanner { text, file, pos: 0, out, starts: Vec::new(), values: HashSet::new() }
    }

    // Header mode.

    pub(super) fn script(&mut self) {
        if self.text.starts_with('\u{feff}') {
            self.pos = '\u{feff}'.len_utf8();
        }
        if rest(self.text, self.pos).starts_with("#!") {
            self.pos += rest(self.text, self.pos).find('\n').unwrap_or(self.text.len());
            self.pos = self.pos.min(self.text.len());
        }
        while self.layout() {
            self.starts.push(self.out.len());
            let before = self.pos;
            self.item();
            if self.pos == before {
                self.one_token();
            }
        }
    }

    /// Skips layout; whether text is left.
    fn layout(&mut self) -> bool {
        self.pos = skip(self.text, self.pos);
        if rest(self.text, self.pos).starts_with("/*") {
            let at = self.span(self.pos..self.pos + 2);
            let error = Diagnostic::error(at, UNTERMINATED_COMMENT);
            self.emit(Token::Bad(vec![error]), self.text.len());
        }
        self.pos < self.text.len()
    }

    fn item(&mut self) {
        let name = word(self.text, self.pos);
        let end = self.pos + name.len();
        let bare = !matches!(byte(self.text, end), b':' | b'=' | b'*' | b'/' | b'-');
        match name {
            _ if self.at_c_part(self.pos) => self.c_part(),
            "config" if self.at_config(end) => {
                self.emit(Token::Config, end);
                self.braced();
            }
            "macro" if bare => {
                let name = word(self.text, skip(self.text, end));
                self.values.insert(name.to_owned());
                self.emit(Token::Macro, end);
                self.braced();
            }
            "fn" if bare => {
                self.emit(Token::Fn, end);
                self.braced();
            }
            "let" if bare => {
                self.emit(Token::Let, end);
                self.line();
            }
            "import" if bare => {
                self.emit(Token::Import, end);
                self.line();
            }
            _ => self.probe(),
        }
    }

    /// Attach points, predicate and block, as far as they are there.
    fn probe(&mut self) {
        let first = self.out.len();
        while self.layout() {
            let fresh = self.out.len() == first;
            match byte(self.text, self.pos) {
                b',' => self.emit(Token::Comma, self.pos + 1),
                b'{' => {
                    self.emit(Token::LBrace, self.pos + 1);
                    return self.block(Delimiter::Brace);
                }
                b'<' => {
                    self.emit(Token::AngleOpen, self.pos + 1);
                    return self.block(Delimiter::Angle);
                }
                b'/' if !fresh => {
                    self.emit(Token::PredicateOpen, self.pos + 1);
                    return self.predicate();
                }
                b'#' if !starts_line(self.text, self.pos) => self.stray_hash(),
                b if is_word(b) || !b.is_ascii() || b"*\"$?.[!~-".contains(&b) => {
                    if !fresh && self.at_item(self.pos) {
                        return;
                    }
                    self.attach_point();
                }
                _ => return,
            }
        }
    }

    /// A `#` in the middle of a line, probably meant as a comment.
    fn stray_hash(&mut self) {
        let line = rest(self.text, self.pos);
        let end = self.pos + line.find('\n').unwrap_or(line.len());
        let error = Diagnostic::error(self.span(self.pos..self.pos + 1), "unexpected `#`")
            .help("comments start with `//`, and preprocessor lines on a line of their own");
        self.emit(Token::Bad(vec![error]), end);
    }

    fn attach_point(&mut self) {
        let mut end = self.pos;
        let mut colon = false;
        let open_quote = loop {
            match byte(self.text, end) {
                b'"' => match layout::quoted_end(self.text, end) {
                    last if last == end => break Some(end),
                    last => end = last,
                },
                b':' => colon = true,
                b'/' | b'<' if !colon => break None,
                b'{' | b',' => break None,
                b if b.is_ascii_whitespace() || end >= self.text.len() => break None,
                _ => {}
            }
            end += 1;
        };
        if let Some(quote) = open_quote {
            let line = rest(self.text, quote);
            let end = quote + line.find('\n').unwrap_or(line.len());
            let error = Diagnostic::error(self.span(quote..end), token::UNTERMINATED_STRING);
            return self.emit(Token::Bad(vec![error]), end);
        }
        let attach = |label: Option<&str>, text: &str| {
            Token::Attach(AttachText { label: label.map(str::to_owned), text: text.to_owned() })
        };
        let text = self.text.get(self.pos..end).unwrap_or("");
        let label = word(text, 0);
        match rest(text, label.len()).strip_prefix('=') {
            Some("") if !label.is_empty() => {
                let error = Diagnostic::error(self.span(self.pos..end), "the label has no probe")
                    .help(format!("write the attach point directly after `{text}`"));
                self.emit(Token::Bad(vec![error]), end);
            }
            Some(text) if !label.is_empty() => {
                self.emit(attach(Some(label), text), end);
            }
            _ => self.emit(attach(None, text), end),
        }
    }

    fn c_part(&mut self) {
        let start = self.pos;
        if byte(self.text, start) == b'#' {
            let end = layout::line_end(self.text, start);
            return self.emit_c(end);
        }
        match layout::declaration_end(self.text, start) {
            Ok(end) => self.emit_c(end),
            Err(open) => {
                let error = if byte(self.text, open) == b'{' {
                    Diagnostic::error(self.span(open..open + 1), "the `{` is not closed")
                } else {
                    let name = word(self.text, start).len();
                    let at = self.span(start..start + name.max(1));
                    Diagnostic::error(at, "the C declaration does not end").help("add a `;`")
                };
                self.emit(Token::Bad(vec![error]), self.text.len());
            }
        }
    }

    fn emit_c(&mut self, end: usize) {
        let text = self.text.get(self.pos..end).unwrap_or("").trim_end();
        self.values.extend(layout::c_names(text));
        let end = self.pos + text.len();
        self.emit(Token::CDef(text.to_owned()), end);
    }

    // Output.

    pub(super) fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.file, range.start, range.end)
    }

    /// Adds the token from the current position to `end`.
    pub(super) fn emit(&mut self, token: Token, end: usize) {
        let span = self.span(self.pos..end);
        self.pos = end;
        self.out.push(Spanned::new(token, span));
    }

    pub(super) fn replace_last(&mut self, token: Token) {
        if let Some(last) = self.out.last_mut() {
            last.node = token;
        }
    }

    pub(super) fn last_is(&self, token: &Token) -> bool {
        self.out.last().is_some_and(|t| t.node == *token)
    }
}
