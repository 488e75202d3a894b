//! What raw text ahead can only be. Header mode uses it to tell the parts of a
//! script apart, body mode to tell where a block or predicate must have ended.

use super::layout::{byte, is_word, rest, skip, starts_line, word};
use super::scanner::Scanner;
use super::token::Token;

/// Words that start a C declaration where an attach point could stand.
const C_WORDS: [&str; 12] = [
    "typedef", "extern", "static", "inline", "const", "void", "char", "short", "int", "long",
    "signed", "unsigned",
];

/// What the text between two blocks says about the `>` before it.
#[derive(PartialEq, Eq)]
pub(super) enum Follows {
    End,
    Item,
    Other,
}

impl Scanner<'_> {
    /// Whether a preprocessor line or C declaration starts at `at`.
    pub(super) fn at_c_part(&self, at: usize) -> bool {
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
    pub(super) fn at_config(&self, end: usize) -> bool {
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
    pub(super) fn at_item(&self, at: usize) -> bool {
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
    pub(super) fn at_probe(&self, at: usize, bare: impl Fn(&str, u8) -> bool) -> bool {
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
    pub(super) fn follows(&self) -> Follows {
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
    pub(super) fn ends_without_block(&self) -> bool {
        let at = skip(self.text, self.pos);
        at >= self.text.len() || starts_line(self.text, at) && self.follows() == Follows::Item
    }

    /// Whether the next token is on a new line and can only be the start of
    /// the next part of the script, so that the current one is not closed.
    /// `questions` counts the `?` whose `:` is still to come.
    pub(super) fn breaks_off(&self, questions: u32) -> bool {
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
}

fn is_begin_or_end(name: &str) -> bool {
    name.eq_ignore_ascii_case("begin") || name.eq_ignore_ascii_case("end")
}
