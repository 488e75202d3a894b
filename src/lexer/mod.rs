//! Text to tokens.
//!
//! # Two modes
//!
//! *Header mode* reads what stands between blocks. An attach point is one
//! token, so that paths and globs never meet the grammar; providers parse it
//! later. Its text runs to the first `{`, `,` or blank outside of double quotes.
//! As long as no `:` has been read, `/` and `<` end it too: `BEGIN/pid/{ }` has
//! a predicate, `uprobe:/bin/sh:f` has none. `name=` before it is a label.
//! Preprocessor lines and C declarations are one token each as well.
//!
//! *Body mode* reads what stands in blocks, predicates, and the other bracketed
//! parts; [`token`] has the patterns.
//!
//! # What the lexer settles for the grammar
//!
//! - The `/` that **closes a predicate** is one followed (after layout) by `{`
//!   or `<`; any other is a division.
//! - `<` after an attach point, a comma or a predicate **opens a block** in
//!   place of `{`. Inside it, `<`, `>`, `>>`, `->` and `>=` are operators. A `>`
//!   **closes the block** if no bracket of the block is open and either
//!   - it stands where a statement could start: first in the block, after a
//!     `;`, or after the `}` of a statement (not of a value, as in
//!     `$x = if $y { 1 } else { 2 }`); or
//!   - nothing but the next part of the script, or its end, follows: an attach
//!     point and its `,`, `/`, `{` or `<`; a word with a `:` directly after it;
//!     `macro name`, `fn name`, `let @`, `config =`, `import "`, a C part. This
//!     does not hold while the statement still lacks the `:` of a `?`, or the
//!     block of an `if` or a loop. The end of the script always closes it.
//!
//!   So `< @x = @y > 3; >` compares once and `< @[comm] = count() >` needs no
//!   `;`.
//! - `(` before the type of a **cast**, and `(` before a **type** after `sizeof`
//!   and its like (see `settle.rs`).
//! - `if` and `{` that start a **statement**, which ends at its brace.
//! - Keywords after `.` and `->` are names.
//!
//! # Text that is wrong
//!
//! Lexing never fails. What is wrong becomes [`Token::Bad`] with its diagnostics
//! or [`Token::Unknown`]. A block that is not closed ends at a line that can only
//! be the head of the next probe, so one missing brace does not cost the rest of
//! the script.

pub mod literal;
pub mod token;

mod layout;
mod print;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;

use logos::{Lexer, Logos};

pub use self::literal::Place;
pub use self::print::print;
pub use self::token::Token;

use self::layout::{byte, is_word, rest, skip, starts_line, word};
use self::token::{AttachText, UNTERMINATED_COMMENT};
use crate::diag::Diagnostic;
use crate::source::{FileId, Span, Spanned};

/// Words that start a C declaration where an attach point could stand.
const C_WORDS: [&str; 12] = [
    "typedef", "extern", "static", "inline", "const", "void", "char", "short", "int", "long",
    "signed", "unsigned",
];

/// Cuts a script into tokens.
///
/// `is_value` says whether a bare name (a builtin, a macro, a constant) is an
/// expression rather than a type where only the name can tell, as in
/// `(name) * 2`. Names of types, and macros and constants that the text itself
/// defines, need no answer.
pub fn lex(text: &str, file: FileId, is_value: &dyn Fn(&str) -> bool) -> Vec<Spanned<Token>> {
    lex_items(text, file, is_value).tokens
}

/// The tokens of a script, and where each of its parts starts.
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Spanned<Token>>,
    /// Index of the first token of every probe, macro, C definition, …
    pub(crate) starts: Vec<usize>,
}

pub(crate) fn lex_items(text: &str, file: FileId, is_value: &dyn Fn(&str) -> bool) -> Lexed {
    let mut scanner = Scanner::new(text, file);
    scanner.script();
    let Scanner { mut out, starts, values, .. } = scanner;
    let is_value = |name: &str| values.contains(name) || is_value(name);
    settle::settle(&mut out, &starts, &is_value);
    Lexed { tokens: out, starts }
}

/// Cuts a lone expression into tokens, as it may stand in a block.
pub(crate) fn lex_expr(
    text: &str,
    file: FileId,
    is_value: &dyn Fn(&str) -> bool,
) -> Vec<Spanned<Token>> {
    let mut scanner = Scanner::new(text, file);
    let mut body = scanner.body();
    while scanner.next(&mut body) {}
    settle::settle(&mut scanner.out, &[0], is_value);
    scanner.out
}

/// What opened a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    Brace,
    Angle,
}

/// What the text between two blocks says about the `>` before it.
#[derive(PartialEq, Eq)]
enum Follows {
    End,
    Item,
    Other,
}

/// A bracket of a block that is open, and the `?` in it that lack their `:`.
struct Open {
    brace: bool,
    questions: u32,
}

/// What is known of the statement at the outermost level of a block.
#[derive(Default)]
struct Statement {
    /// It has a token.
    started: bool,
    /// It ends at a brace.
    compound: bool,
    /// `if` and loops that lack their block.
    headers: u32,
}

/// A logos lexer, and where its text starts.
struct Body<'a> {
    lexer: Lexer<'a, Token>,
    base: usize,
}

struct Scanner<'a> {
    text: &'a str,
    file: FileId,
    pos: usize,
    out: Vec<Spanned<Token>>,
    starts: Vec<usize>,
    /// Names of macros and constants that the text defines.
    values: HashSet<String>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, file: FileId) -> Scanner<'a> {
        let out = Vec::with_capacity(text.len() / 4);
        Scanner { text, file, pos: 0, out, starts: Vec::new(), values: HashSet::new() }
    }

    // Header mode.

    fn script(&mut self) {
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

    /// Whether a preprocessor line or C declaration starts at `at`.
    fn at_c_part(&self, at: usize) -> bool {
        if byte(self.text, at) == b'#' {
            return starts_line(self.text, at);
        }
        let name = word(self.text, at);
        let next = skip(self.text, at + name.len());
        let more = byte(self.text, next);
        match name {
            "struct" | "union" | "enum" => next > at + name.len() || more == b'{',
            _ if C_WORDS.contains(&name) => {
                next > at + name.len() && (is_word(more) || more == b'*')
            }
            _ => false,
        }
    }

    /// Whether the word `config` that ends at `end` starts a config block.
    fn at_config(&self, end: usize) -> bool {
        let next = skip(self.text, end);
        match byte(self.text, next) {
            b'{' => true,
            b'=' => {
                let value = skip(self.text, next + 1);
                // `config=kprobe:f` is an attach point with a label.
                next > end || value > next + 1 || byte(self.text, value) == b'{'
            }
            _ => false,
        }
    }

    /// Whether a part of the script other than a probe starts at `at`.
    fn at_item(&self, at: usize) -> bool {
        let name = word(self.text, at);
        let next = skip(self.text, at + name.len());
        match name {
            "macro" | "fn" => next > at + name.len() && !word(self.text, next).is_empty(),
            "let" => byte(self.text, next) == b'@',
            "import" => byte(self.text, next) == b'"',
            "config" => self.at_config(at + name.len()),
            _ => self.at_c_part(at),
        }
    }

    /// Whether a probe starts at `at`. A word without `:` is taken for an
    /// attach point if `bare` allows the byte after it.
    fn at_probe(&self, at: usize, bare: impl Fn(&str, u8) -> bool) -> bool {
        let provider = |at: usize| {
            let len = rest(self.text, at).bytes().take_while(|&b| is_word(b) || b == b'*').count();
            self.text.get(at..at + len).unwrap_or("")
        };
        let mut name = provider(at);
        let mut end = at + name.len();
        let labelled = byte(self.text, end) == b'=' && !matches!(byte(self.text, end + 1), b'=');
        if labelled && !word(self.text, end + 1).is_empty() {
            name = provider(end + 1);
            end += 1 + name.len();
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '*') {
            return false;
        }
        if byte(self.text, end) == b':' {
            let more = byte(self.text, end + 1);
            return !more.is_ascii_whitespace() && more != 0;
        }
        !name.contains('*') && bare(name, byte(self.text, skip(self.text, end)))
    }

    /// What the text after an operator at the outermost level shows it to be.
    fn follows(&self) -> Follows {
        let at = skip(self.text, self.pos);
        // No operand starts with a name that a brace or a comma follows, but
        // that of `comptime { … }`.
        let bare = |name: &str, next: u8| match next {
            b'{' | b',' => !matches!(name, "comptime" | "if"),
            b'/' | b'<' => is_begin_or_end(name),
            _ => false,
        };
        if at >= self.text.len() {
            Follows::End
        } else if self.at_item(at) || self.at_probe(at, bare) {
            Follows::Item
        } else {
            Follows::Other
        }
    }

    /// Whether the script ends or a new part of it starts on the next line.
    fn ends_without_block(&self) -> bool {
        let at = skip(self.text, self.pos);
        at >= self.text.len() || starts_line(self.text, at) && self.follows() == Follows::Item
    }

    // Body mode.

    fn body(&self) -> Body<'a> {
        let place = Place { file: self.file, offset: self.pos };
        let lexer = Token::lexer_with_extras(rest(self.text, self.pos), place);
        Body { lexer, base: self.pos }
    }

    /// Takes one token of the body; false at the end of the text.
    fn next(&mut self, body: &mut Body<'a>) -> bool {
        let Some(result) = body.lexer.next() else {
            self.pos = self.text.len();
            return false;
        };
        let range = body.lexer.span();
        let token = match result {
            Ok(token) => token,
            Err(problem) if problem.is_empty() => Token::Unknown,
            Err(problem) => Token::Bad(problem),
        };
        self.pos = body.base + range.end;
        self.out.push(Spanned::new(token, self.span(body.base + range.start..self.pos)));
        true
    }

    /// Takes a token that has no place in header mode.
    fn one_token(&mut self) {
        let mut body = self.body();
        self.next(&mut body);
    }

    /// From `/` to the end of the block that follows it.
    fn predicate(&mut self) {
        let mut body = self.body();
        let mut braces = 0_u32;
        let mut headers = 0_u32;
        let mut questions = 0_u32;
        loop {
            if self.breaks_off(questions) || !self.next(&mut body) {
                break;
            }
            let before = self.out.len().checked_sub(2).and_then(|i| self.out.get(i));
            let (Some(last), Some(before)) = (self.out.last(), before) else { continue };
            let after_slash = braces == 0 && before.node == Token::Slash;
            match last.node {
                Token::LBrace if after_slash => {
                    self.close_predicate();
                    return self.block(Delimiter::Brace);
                }
                Token::Lt if after_slash => {
                    self.close_predicate();
                    self.replace_last(Token::AngleOpen);
                    return self.block(Delimiter::Angle);
                }
                Token::LBrace if braces == 0 && headers == 0 && before.node.ends_operand() => {
                    self.insert_missing_close();
                    return self.block(Delimiter::Brace);
                }
                Token::LBrace => {
                    braces += 1;
                    headers = headers.saturating_sub(1);
                }
                Token::RBrace => braces = braces.saturating_sub(1),
                Token::If | Token::While | Token::For | Token::Unroll => headers += 1,
                Token::Question => questions += 1,
                Token::Colon => questions = questions.saturating_sub(1),
                // A `/` before the next probe: the block is missing, not the slash.
                Token::Slash if questions == 0 && self.ends_without_block() => {
                    return self.replace_last(Token::PredicateClose);
                }
                _ => {}
            }
        }
    }

    /// Makes the slash before the last token the end of the predicate.
    fn close_predicate(&mut self) {
        let slash = self.out.len().checked_sub(2).and_then(|i| self.out.get_mut(i));
        if let Some(slash) = slash {
            slash.node = Token::PredicateClose;
        }
    }

    /// Puts an error where the `/` before a block should be.
    fn insert_missing_close(&mut self) {
        let Some(brace) = self.out.pop() else { return };
        let opening = self.out.iter().rev().find(|t| t.node == Token::PredicateOpen);
        let at = Span { end: brace.span.start, ..brace.span };
        let mut error = Diagnostic::error(brace.span, "the predicate is not closed")
            .at("expected `/` before this");
        if let Some(opening) = opening {
            error = error.label(opening.span, "opened here");
        }
        self.out.push(Spanned::new(Token::Bad(vec![error]), at));
        self.out.push(brace);
    }

    /// From after the opening delimiter to the closing one.
    fn block(&mut self, delimiter: Delimiter) {
        let mut body = self.body();
        let mut open: Vec<Open> = Vec::new();
        let mut questions = 0_u32;
        let mut statement = Statement::default();
        loop {
            let pending = open.last().map_or(questions, |o| o.questions);
            if self.breaks_off(pending) || !self.next(&mut body) {
                return;
            }
            let Some(token) = self.out.last().map(|t| &t.node) else { return };
            let outermost = open.is_empty();
            match token {
                Token::Gt if outermost && delimiter == Delimiter::Angle => {
                    let waits = questions > 0 || statement.headers > 0;
                    let closes = !statement.started
                        || match self.follows() {
                            Follows::End => true,
                            Follows::Item => !waits,
                            Follows::Other => false,
                        };
                    if closes {
                        return self.replace_last(Token::AngleClose);
                    }
                }
                Token::LBrace => {
                    if outermost {
                        statement.compound |= !statement.started;
                        statement.started = true;
                        statement.headers = statement.headers.saturating_sub(1);
                    }
                    open.push(Open { brace: true, questions: 0 });
                }
                Token::LParen | Token::LBracket => {
                    statement.started = true;
                    open.push(Open { brace: false, questions: 0 });
                }
                Token::RParen | Token::RBracket => {
                    if open.last().is_some_and(|o| !o.brace) {
                        open.pop();
                    }
                }
                Token::RBrace => {
                    // A `(` that is still open is a mistake, and ends here.
                    while open.last().is_some_and(|o| !o.brace) {
                        open.pop();
                    }
                    if open.pop().is_none() {
                        return;
                    }
                    if open.is_empty() && statement.compound && statement.headers == 0 {
                        statement = Statement::default();
                        questions = 0;
                    }
                }
                Token::Semi => {
                    while open.last().is_some_and(|o| !o.brace) {
                        open.pop();
                    }
                    if open.is_empty() {
                        statement = Statement::default();
                        questions = 0;
                    }
                }
                Token::Question => {
                    *open.last_mut().map_or(&mut questions, |o| &mut o.questions) += 1
                }
                Token::Colon => {
                    let waiting = open.last_mut().map_or(&mut questions, |o| &mut o.questions);
                    *waiting = waiting.saturating_sub(1);
                }
                Token::If | Token::While | Token::For | Token::Unroll if outermost => {
                    statement.compound |= !statement.started;
                    statement.started = true;
                    statement.headers += 1;
                }
                // `else` goes on with the `if` whose brace has just ended it.
                Token::Else if outermost => {
                    statement.compound |= !statement.started;
                    statement.started = true;
                }
                _ => statement.started = true,
            }
        }
    }

    /// What comes before a block, and the block.
    fn braced(&mut self) {
        let mut body = self.body();
        while !self.breaks_off(0) && self.next(&mut body) {
            if self.last_is(&Token::LBrace) {
                return self.block(Delimiter::Brace);
            }
        }
    }

    /// To the `;`, or to where it should be.
    fn line(&mut self) {
        let mut body = self.body();
        while !self.breaks_off(0) && self.next(&mut body) {
            let next = skip(self.text, self.pos);
            let semi = byte(self.text, next) == b';';
            match self.out.last().map(|t| &t.node) {
                Some(Token::Semi | Token::RBrace) => return,
                Some(Token::LBrace) => return self.block(Delimiter::Brace),
                Some(Token::RParen | Token::Str(_)) if !semi => return,
                _ => {}
            }
        }
    }

    /// Whether the next token is on a new line and can only be the start of
    /// the next part of the script, so that the current one is not closed.
    /// `questions` counts the `?` whose `:` is still to come.
    fn breaks_off(&self, questions: u32) -> bool {
        let at = skip(self.text, self.pos);
        let between = self.text.get(self.pos..at).unwrap_or("");
        if questions > 0 || !between.contains('\n') || at >= self.text.len() {
            return false;
        }
        let name = word(self.text, at);
        if matches!(name, "macro" | "fn" | "config") {
            return self.at_item(at);
        }
        // `END {` after an operand or between statements.
        let boundary = self.out.last().is_none_or(|t| {
            t.node.ends_operand()
                || matches!(t.node, Token::Semi | Token::LBrace | Token::AngleOpen)
        });
        let bare = |name: &str, next: u8| {
            boundary && is_begin_or_end(name) && matches!(next, b'{' | b'/' | b'<' | b',')
        };
        if byte(self.text, at) == b'*' || !self.at_probe(at, bare) {
            return false;
        }
        let line = rest(self.text, at);
        let text = line.bytes().take_while(|b| !b.is_ascii_whitespace() && !b"{,;".contains(b));
        let next = byte(self.text, skip(self.text, at + text.count()));
        matches!(next, b'{' | b'/' | b'<' | b',')
    }

    // Output.

    fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.file, range.start, range.end)
    }

    /// Adds the token from the current position to `end`.
    fn emit(&mut self, token: Token, end: usize) {
        let span = self.span(self.pos..end);
        self.pos = end;
        self.out.push(Spanned::new(token, span));
    }

    fn replace_last(&mut self, token: Token) {
        if let Some(last) = self.out.last_mut() {
            last.node = token;
        }
    }

    fn last_is(&self, token: &Token) -> bool {
        self.out.last().is_some_and(|t| t.node == *token)
    }
}

fn is_begin_or_end(name: &str) -> bool {
    name.eq_ignore_ascii_case("begin") || name.eq_ignore_ascii_case("end")
}
