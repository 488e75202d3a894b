//! Tokens of C: what stands in the definitions at the head of a script.
//!
//! Preprocessor lines are one token each, wherever they stand; comments and
//! joined lines are layout. Lexing never fails: odd text is a `Bad` token.

use logos::{Lexer, Logos, Skip};

use super::layout;
use super::literal::Place;
use crate::diag::Diagnostic;
use crate::source::{FileId, Span, Spanned};

/// A number with its C type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// In the range of its type.
    pub value: i128,
    /// 64 bits rather than 32.
    pub long: bool,
    pub unsigned: bool,
}

#[derive(Logos, Debug, Clone, PartialEq)]
#[logos(error = Vec<Diagnostic>, extras = Place)]
#[logos(skip(r"[ \t\r\n\x0b\x0c]+"))]
#[logos(skip(r"\\\r?\n"))]
#[logos(skip(r"//[^\n]*", allow_greedy = true))]
#[logos(skip("/\\*", comment))]
pub enum CToken {
    #[regex("[A-Za-z_][0-9A-Za-z_]*", |l| l.slice().to_owned())]
    Name(String),
    #[regex("[0-9][0-9A-Za-z_.]*", number)]
    #[regex(r"'([^'\\\n]|\\[^\n])[^'\n]*'", character)]
    Number(Number),
    /// With its quotes.
    #[regex(r#""([^"\\\n]|\\[^\n])*""#, |l| l.slice().to_owned())]
    Text(String),
    /// A preprocessor line without its `#`.
    #[token("#", directive)]
    Directive(String),

    // Words of types.
    #[token("struct")]
    Struct,
    #[token("union")]
    Union,
    #[token("enum")]
    Enum,
    #[token("typedef")]
    Typedef,
    /// A word that type names are made of.
    #[token("void", |l| l.slice().to_owned())]
    #[token("char", |l| l.slice().to_owned())]
    #[token("short", |l| l.slice().to_owned())]
    #[token("int", |l| l.slice().to_owned())]
    #[token("long", |l| l.slice().to_owned())]
    #[token("float", |l| l.slice().to_owned())]
    #[token("double", |l| l.slice().to_owned())]
    #[token("unsigned", |l| l.slice().to_owned())]
    #[token("signed", |l| l.slice().to_owned())]
    #[token("__signed", |_| "signed".to_owned())]
    #[token("__signed__", |_| "signed".to_owned())]
    #[token("__int128", |l| l.slice().to_owned())]
    TypeWord(String),
    /// What changes neither size nor place of anything: `const`, `static`, ….
    #[token("const")]
    #[token("__const")]
    #[token("__const__")]
    #[token("volatile")]
    #[token("__volatile__")]
    #[token("restrict")]
    #[token("__restrict")]
    #[token("__restrict__")]
    #[token("static")]
    #[token("extern")]
    #[token("register")]
    #[token("inline")]
    #[token("__inline")]
    #[token("__inline__")]
    #[token("_Noreturn")]
    #[token("__extension__")]
    Qualifier,
    #[token("__attribute__")]
    #[token("__attribute")]
    Attribute,
    #[token("_Alignas")]
    Alignas,
    #[token("sizeof")]
    Sizeof,
    #[token("_Alignof")]
    #[token("__alignof")]
    #[token("__alignof__")]
    Alignof,
    #[token("offsetof")]
    #[token("__builtin_offsetof")]
    Offsetof,

    // Punctuation.
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token("(")]
    LParen,
    #[token(")")]
    RParen,
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token(";")]
    Semi,
    #[token(",")]
    Comma,
    #[token(":")]
    Colon,
    #[token("?")]
    Question,
    #[token("=")]
    Assign,
    #[token("*")]
    Star,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("<<")]
    Shl,
    #[token(">>")]
    Shr,
    #[token("<")]
    Lt,
    #[token("<=")]
    LtEq,
    #[token(">")]
    Gt,
    #[token(">=")]
    GtEq,
    #[token("==")]
    EqEq,
    #[token("!=")]
    NotEq,
    #[token("&")]
    Amp,
    #[token("^")]
    Caret,
    #[token("|")]
    Pipe,
    #[token("&&")]
    AmpAmp,
    #[token("||")]
    PipePipe,
    #[token("~")]
    Tilde,
    #[token("!")]
    Bang,
    #[token(".")]
    Dot,
    /// Punctuation that only the bodies of functions have.
    #[token("->")]
    #[token("...")]
    #[token("##")]
    Other,

    // Made by the parser, which knows more than one character ahead.
    /// `(` before the type of a cast.
    CastParen,
    /// `(` before a type after `sizeof` and the like.
    TypeParen,
    /// `:` before the type that an enum is stored as.
    EnumColon,
    /// `__packed`
    Packed,
    /// `__aligned`, before its `(`.
    Aligned,
    /// What an address is for: `user` of `__user`, `percpu`, `rcu`; empty for
    /// marks without meaning here.
    Mark(&'static str),
    /// In front of the condition of `#if`.
    Condition,
    /// Wrong text, and why; empty for a character that C does not know.
    Bad(Vec<Diagnostic>),
}

/// Cuts C text into tokens; it starts at byte `offset` of its file.
pub fn lex(text: &str, file: FileId, offset: usize) -> Vec<Spanned<CToken>> {
    let mut lexer = CToken::lexer_with_extras(text, Place { file, offset });
    let mut tokens = Vec::new();
    while let Some(result) = lexer.next() {
        let span = lexer.extras.span(lexer.span());
        let token = result.unwrap_or_else(CToken::Bad);
        tokens.push(Spanned::new(token, span));
    }
    tokens
}

/// The identifier at the start of a text, or nothing.
pub fn word(text: &str) -> &str {
    layout::word(text, 0)
}

fn here(lex: &Lexer<'_, CToken>) -> Span {
    lex.extras.span(lex.span())
}

fn comment(lex: &mut Lexer<'_, CToken>) -> Result<Skip, Vec<Diagnostic>> {
    match lex.remainder().find("*/") {
        Some(len) => {
            lex.bump(len + 2);
            Ok(Skip)
        }
        None => {
            let error = Diagnostic::error(here(lex), "the comment does not end");
            lex.bump(lex.remainder().len());
            Err(vec![error])
        }
    }
}

fn directive(lex: &mut Lexer<'_, CToken>) -> Result<String, Vec<Diagnostic>> {
    let start = lex.span().start;
    if !layout::starts_line(lex.source(), start) {
        let error = Diagnostic::error(here(lex), "unexpected `#`")
            .help("preprocessor lines stand on a line of their own");
        return Err(vec![error]);
    }
    let end = layout::line_end(lex.source(), start);
    lex.bump(end.saturating_sub(lex.span().end));
    Ok(lex.slice().get(1..).unwrap_or("").to_owned())
}

fn number(lex: &mut Lexer<'_, CToken>) -> Result<Number, Vec<Diagnostic>> {
    let text = lex.slice();
    let bad = |message: String| vec![Diagnostic::error(here(lex), message)];
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..).unwrap_or("")),
        [b'0', b'b', ..] => (2, lower.get(2..).unwrap_or("")),
        [b'0', ..] => (8, lower.as_str()),
        _ => (10, lower.as_str()),
    };
    if text.contains('.') {
        return Err(bad(format!("`{text}` is no whole number")));
    }
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, suffix) = digits.split_at(end);
    let (unsigned, long) = match suffix {
        "" => (false, false),
        "u" => (true, false),
        "l" | "ll" => (false, true),
        "ul" | "ull" | "lu" | "llu" => (true, true),
        _ => {
            let error = bad(format!("`{text}` is no number of C"));
            return Err(error);
        }
    };
    let Ok(value) = u64::from_str_radix(digits, radix) else {
        return Err(bad(format!("`{text}` does not fit 64 bits")));
    };
    // The first type that holds it; without a suffix, decimal numbers are signed.
    let signs: &[bool] = match (unsigned, radix) {
        (true, _) => &[true],
        (false, 10) => &[false],
        (false, _) => &[false, true],
    };
    for long in if long { &[true][..] } else { &[false, true][..] } {
        for &unsigned in signs {
            let bits = if *long { 64 } else { 32 } - u32::from(!unsigned);
            if u128::from(value) >> bits == 0 {
                return Ok(Number { value: value.into(), long: *long, unsigned });
            }
        }
    }
    Ok(Number { value: value.into(), long: true, unsigned: true })
}

fn character(lex: &mut Lexer<'_, CToken>) -> Result<Number, Vec<Diagnostic>> {
    let inner = lex.slice().trim_matches('\'');
    let value = match inner.strip_prefix('\\') {
        None => {
            let mut bytes = inner.bytes();
            bytes.next().filter(|_| bytes.next().is_none())
        }
        Some("n") => Some(b'\n'),
        Some("t") => Some(b'\t'),
        Some("r") => Some(b'\r'),
        Some("a") => Some(7),
        Some("b") => Some(8),
        Some("f") => Some(12),
        Some("v") => Some(11),
        Some("\\") => Some(b'\\'),
        Some("\"") => Some(b'"'),
        // `'\''`, from which all quotes are gone.
        Some("") => Some(b'\''),
        Some(digits) => match digits.strip_prefix('x') {
            Some(hex) => u8::from_str_radix(hex, 16).ok(),
            None => u8::from_str_radix(digits, 8).ok(),
        },
    };
    match value {
        // `char` is signed on every host.
        Some(byte) => Ok(Number { value: byte.cast_signed().into(), long: false, unsigned: false }),
        None => Err(vec![Diagnostic::error(here(lex), "this is not one character")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<(i128, bool, bool)> {
        let tokens = lex(text, 0, 0);
        let number = |t: Spanned<CToken>| match t.node {
            CToken::Number(n) => (n.value, n.long, n.unsigned),
            other => panic!("{text}: {other:?}"),
        };
        tokens.into_iter().map(number).collect()
    }

    #[test]
    fn numbers_have_the_types_of_c() {
        let list = numbers("1 2147483648 0x80000000 0xffffffffffffffff 1u 4294967296u 1L 0UL 010");
        let (int, uint, long, ulong) = ((false, false), (false, true), (true, false), (true, true));
        let want = [
            (1, int),
            (1 << 31, long),
            (1 << 31, uint),
            (u64::MAX.into(), ulong),
            (1, uint),
            (1 << 32, ulong),
            (1, long),
            (0, ulong),
            (8, int),
        ];
        assert_eq!(list, want.map(|(value, (long, unsigned))| (value, long, unsigned)));
        let chars = numbers(r"'a' '\n' '\0' '\'' '\\' '\x7f' '\377' '\x41'");
        let values: Vec<i128> = chars.into_iter().map(|c| c.0).collect();
        assert_eq!(values, [97, 10, 0, 39, 92, 127, -1, 65]);
    }

    #[test]
    fn wrong_text_is_said_to_be_wrong() {
        for text in ["08", "1.5", "1e3", "0x", "12ab", "99999999999999999999", "'ab'", "\"a", "/*"]
        {
            let tokens = lex(text, 0, 0);
            assert!(tokens.iter().any(|t| matches!(t.node, CToken::Bad(_))), "{text}: {tokens:?}");
        }
    }

    #[test]
    fn preprocessor_lines_are_one_token() {
        let text = "struct a { // x\n  #if A /* b\n c */ \\\n d\n int x; };";
        let tokens = lex(text, 0, 100);
        let line = tokens.iter().find(|t| matches!(t.node, CToken::Directive(_)));
        let line = line.map(|t| (t.node.clone(), t.span.start, t.span.end));
        let want = "if A /* b\n c */ \\\n d";
        let start = 100 + u32::try_from(text.find('#').unwrap()).unwrap();
        let end = start + 1 + u32::try_from(want.len()).unwrap();
        assert_eq!(line, Some((CToken::Directive(want.into()), start, end)));
        assert!(matches!(lex("int # x", 0, 0)[1].node, CToken::Bad(_)));
    }
}
