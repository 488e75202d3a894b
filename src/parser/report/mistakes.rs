//! Mistakes of people who know other languages: what stands there does not fit, and it is known what
//! was meant.

use super::Scene;
use crate::diag::Diagnostic;
use crate::lexer::Token;
use crate::source::{Span, Spanned};

/// Words that begin statements elsewhere, and what to write here.
const STATEMENTS: &[(&str, &str)] = &[
    ("elif", "write `else if`"),
    ("elsif", "write `else if`"),
    ("elseif", "write `else if`"),
    ("foreach", "write `for ($kv : @map) { … }`; `$kv.0` is the key, `$kv.1` the value"),
    ("do", "write `while (…) { … }`"),
    ("until", "write `while (!…) { … }`"),
    ("loop", "write `while (true) { … }`"),
    ("switch", "write `if (…) { … } else if (…) { … }`"),
    ("case", "write `if (…) { … } else if (…) { … }`"),
    ("match", "write `if (…) { … } else if (…) { … }`"),
    ("goto", "write a loop, or `return` to end the probe"),
];

/// Words that stand before a name where a variable is declared elsewhere.
const DECLARATIONS: &[&str] = &[
    "auto", "bool", "char", "const", "double", "float", "int", "int16_t", "int32_t", "int64_t",
    "int8_t", "local", "long", "mut", "my", "short", "signed", "size_t", "static", "string", "u16",
    "u32", "u64", "u8", "uint16", "uint16_t", "uint32", "uint32_t", "uint64", "uint64_t", "uint8",
    "uint8_t", "unsigned", "var",
];

impl Scene<'_> {
    /// Words of other languages.
    pub(super) fn foreign_word(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let before = |n: usize| at.checked_sub(n).and_then(|i| self.tokens.get(i));
        let last = before(1)?;
        if let (Token::Ident(word), true) = (&found.node, last.node.ends_operand()) {
            let operator = match word.as_str() {
                "and" => "&&",
                "or" => "||",
                _ => "",
            };
            if !operator.is_empty() {
                let error = Diagnostic::error(found.span, format!("unexpected `{word}`"));
                let error = error.at("expected an operator").help(format!("write `{operator}`"));
                return Some(error.replace(found.span, operator));
            }
        }
        if matches!(&last.node, Token::Ident(word) if word == "not") {
            let error = Diagnostic::error(last.span, "unexpected `not`");
            return Some(error.help("write `!`").replace(last.span, "!"));
        }
        let (first, place) = self.statement(at)?;
        let Token::Ident(word) = &first.node else { return None };
        if let Some((_, instead)) = STATEMENTS.iter().find(|(name, _)| name == word) {
            let error = Diagnostic::error(first.span, format!("there is no `{word}`"));
            return Some(error.help(*instead));
        }
        let named =
            self.tokens.get(place..at)?.iter().chain([found]).skip(1).find_map(|t| match &t.node {
                Token::Ident(name) if !DECLARATIONS.contains(&name.as_str()) => Some(name.as_str()),
                Token::Var(name) => Some(name.trim_start_matches('$')),
                _ => None,
            });
        let plain = self
            .tokens
            .get(place..at)?
            .iter()
            .all(|t| matches!(t.node, Token::Ident(_) | Token::Star | Token::Var(_)));
        if let (true, Some(name), true) = (DECLARATIONS.contains(&word.as_str()), named, plain) {
            let error = Diagnostic::error(first.span, format!("unexpected `{word}`"));
            let error = error.at("variables have the type of their first value");
            return Some(error.help(format!("write `${name} = …;`, or `let ${name} : uint64;`")));
        }
        None
    }

    /// A call whose arguments stand without parentheses.
    pub(super) fn bare_call(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let (first, place) = self.statement(at)?;
        let Token::Ident(word) = &first.node else { return None };
        let argument = matches!(
            found.node,
            Token::Str(_) | Token::Var(_) | Token::Map(_) | Token::Int(_) | Token::Ident(_)
        );
        if place + 1 != at || !argument {
            return None;
        }
        let error = Diagnostic::error(found.span, format!("unexpected {}", self.shown(found)));
        let error = error.label(first.span, "a call, or a name by itself");
        Some(error.at("expected `(`").help(format!("write `{word}(…)`")))
    }

    /// Signs that stand for something else elsewhere.
    pub(super) fn foreign_sign(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let before = |n: usize| at.checked_sub(n).and_then(|i| self.at(i));
        let error = |message: &str| Diagnostic::error(found.span, message);
        let next = self.tokens.get(at + 1);
        let joined = next.filter(|n| n.span.start == found.span.end);
        let head = |of: usize| {
            before(of) == Some(&Token::For)
                || (before(of) == Some(&Token::LParen) && before(of + 1) == Some(&Token::For))
        };
        match (&found.node, before(1)?) {
            (Token::Eq, last)
                if last.ends_operand() && joined.is_some_and(|n| n.node == Token::Tilde) =>
            {
                let help = "compare with `==`, or look for a part of it: `strcontains(text, part)`";
                Some(error("there are no regular expressions").help(help))
            }
            (Token::Colon, Token::Var(_) | Token::Map(_))
                if joined.is_some_and(|n| n.node == Token::Eq) =>
            {
                let whole = Span { end: found.span.end + 1, ..found.span };
                let error = Diagnostic::error(whole, "unexpected `:=`");
                Some(error.at("expected `=`").replace(whole, "="))
            }
            (Token::LBrace | Token::StmtBrace | Token::LParen, Token::Map(map)) => {
                let close = if found.node == Token::LParen { ")" } else { "}" };
                let map = map.trim_start_matches('@');
                let open = self.shown(found);
                let open = open.trim_matches('`');
                let help = format!("write `@{map}[…]`, not `@{map}{open}…{close}`");
                Some(error("keys of maps stand in brackets").help(help))
            }
            (Token::Map(_), _) if head(1) => {
                let help = "write `for ($kv : @map) { … }`; `$kv.0` is the key, `$kv.1` the value";
                Some(error("unexpected map").at("expected a variable").help(help))
            }
            (Token::Comma, Token::Var(_)) if head(2) => {
                let help = "write `for ($kv : @map) { … }`; `$kv.0` is the key, `$kv.1` the value";
                Some(error("a loop over a map has one variable").at("expected `:`").help(help))
            }
            (Token::Comma, _) if self.expects(";") && self.open_brace(at) => {
                if self.is_value_brace(at) {
                    let error = error("braces do not make a list").at("expected `;` or `}`");
                    return Some(error.help("write a tuple: `(…, …)`"));
                }
                let error = error("unexpected `,`").at("expected `;`");
                Some(error.replace(found.span, ";"))
            }
            (_, Token::RParen) if self.expects("{") && !self.expects(";") => {
                let word = match self.statement(at)?.0.node {
                    Token::If | Token::StmtIf => "if",
                    Token::While => "while",
                    Token::For => "for",
                    Token::Unroll => "unroll",
                    _ => return None,
                };
                let error = error(&format!("unexpected {}", self.shown(found)));
                let help =
                    format!("braces stand around even a single statement: `{word} (…) {{ …; }}`");
                Some(error.at("expected `{`").help(help))
            }
            _ => None,
        }
    }

    /// Whether the innermost open bracket is a brace.
    fn open_brace(&self, at: usize) -> bool {
        let open = self.open_bracket(at);
        open.is_some_and(|o| matches!(o.node, Token::LBrace | Token::StmtBrace))
    }

    /// Whether it stands where a value does: `$x = {1, 2}`.
    fn is_value_brace(&self, at: usize) -> bool {
        let open = self.open_bracket(at).map(|open| open.span);
        let place = self.tokens.iter().position(|t| Some(t.span) == open);
        let before = place.and_then(|p| p.checked_sub(1)).and_then(|p| self.at(p));
        before == Some(&Token::Eq) && self.at(0) != Some(&Token::Config)
    }

    /// The first token of the statement that token `at` is in, or follows, and its place.
    fn statement(&self, at: usize) -> Option<(&Spanned<Token>, usize)> {
        let mut depth = 0_usize;
        let mut place = at;
        while let Some(before) = place.checked_sub(1) {
            match self.at(before)? {
                Token::RParen | Token::RBracket => depth += 1,
                Token::LParen | Token::CastParen | Token::TypeParen | Token::LBracket
                    if depth > 0 =>
                {
                    depth -= 1;
                }
                Token::Semi
                | Token::LBrace
                | Token::StmtBrace
                | Token::RBrace
                | Token::AngleOpen
                    if depth == 0 =>
                {
                    break;
                }
                _ => {}
            }
            place = before;
        }
        Some((self.tokens.get(place).filter(|_| place < at)?, place))
    }
}
