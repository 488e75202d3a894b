//! Tokens to tree, and grammar errors to diagnostics. The only file that knows
//! the generated parser.
//!
//! A script is parsed one part (probe, macro, C definition, …) at a time: the
//! lexer knows where each starts, so that a broken part costs no other. Inside
//! a part the parser goes on at the next `;` or `}` after an error.

pub mod ast;
pub mod cdef;
mod origin;
pub mod print;

mod build;
#[cfg(test)]
pub(crate) mod mutate;
mod nesting;
mod report;
#[cfg(test)]
mod tests;

use std::ops::Range;

use lalrpop_util::{ErrorRecovery, ParseError};

use self::build::{Context, Part};
use self::report::Fault;
use crate::diag::{Diagnostic, Diagnostics};
use crate::lexer::{self, Lexed, Token};
use crate::source::{FileId, Sources, Span, Spanned};

lalrpop_util::lalrpop_mod!(
    #[allow(
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        unused,
        unreachable_pub,
        reason = "generated code"
    )]
    grammar,
    "/rtrace.rs"
);

/// More messages than this help nobody.
const MAX_ERRORS: usize = 50;

/// Parses a script. What could not be parsed is an `Error` node or is left out;
/// there is a diagnostic for each.
///
/// `is_value` is explained at [`lexer::lex`].
pub fn parse(
    sources: &Sources,
    file: FileId,
    is_value: &dyn Fn(&str) -> bool,
) -> (ast::Script, Diagnostics) {
    let text = sources.text(file);
    let lexed = lexer::lex_items(text, file, is_value);
    let mut parser = Parser {
        again: Again { text, file, is_value, lexed: None },
        diagnostics: Diagnostics::default(),
    };
    let script = parser.script(lexed);
    (script, parser.diagnostics)
}

/// Parses a text that is one expression, such as the value of a C macro;
/// `Error` if it is not.
pub fn parse_expr(
    sources: &Sources,
    file: FileId,
    is_value: &dyn Fn(&str) -> bool,
) -> (ast::Expr, Diagnostics) {
    let text = sources.text(file);
    let mut tokens = lexer::lex_expr(text, file, is_value);
    let whole = Span::new(file, 0, text.len());
    tokens.insert(0, Spanned::new(Token::ExprOnly, Span::new(file, 0, 0)));
    let lexed = Lexed { tokens: tokens.clone(), starts: vec![0] };
    let mut parser = Parser {
        again: Again { text, file, is_value, lexed: Some(lexed) },
        diagnostics: Diagnostics::default(),
    };
    let range = 0..tokens.len();
    let expr = match parser.part(tokens, range) {
        Some(Part::Expr(expr)) => expr,
        _ => Spanned::new(ast::ExprKind::Error, whole),
    };
    (expr, parser.diagnostics)
}

struct Parser<'a> {
    again: Again<'a>,
    diagnostics: Diagnostics,
}

/// The tokens once more, for messages: the parser consumes the first ones.
struct Again<'a> {
    text: &'a str,
    file: FileId,
    is_value: &'a dyn Fn(&str) -> bool,
    lexed: Option<Lexed>,
}

impl Again<'_> {
    fn tokens(&mut self, range: Range<usize>) -> &[Spanned<Token>] {
        let (text, file, is_value) = (self.text, self.file, self.is_value);
        let lexed = self.lexed.get_or_insert_with(|| lexer::lex_items(text, file, is_value));
        lexed.tokens.get(range).unwrap_or(&[])
    }
}

/// Where the sections of a script that have a fixed order were first seen.
#[derive(Default)]
struct Sections {
    config: Option<Span>,
    /// A config block or import, which C definitions must precede.
    settings: Option<Span>,
    /// A probe, macro, function or map declaration.
    item: Option<Span>,
}

impl Parser<'_> {
    fn script(&mut self, lexed: Lexed) -> ast::Script {
        let mut script = ast::Script::default();
        let mut sections = Sections::default();
        let mut after_error = false;
        let ends = lexed.starts.iter().skip(1).copied().chain([lexed.tokens.len()]);
        let ranges: Vec<_> = lexed.starts.iter().zip(ends).map(|(&s, e)| s..e).collect();
        let mut tokens = lexed.tokens.into_iter();
        for range in ranges {
            let part: Vec<_> = tokens.by_ref().take(range.len()).collect();
            let Some(first) = part.first() else { continue };
            // Remains of a part that has already been complained about.
            if after_error && !starts_part(&first.node) {
                continue;
            }
            if self.diagnostics.list.len() >= MAX_ERRORS {
                break;
            }
            self.check_order(first, &mut sections);
            let errors = self.diagnostics.list.len();
            match self.part(part, range) {
                Some(Part::CDef(text)) => script.cdefs.push(text),
                Some(Part::Config(entries)) => script.config.extend(entries),
                Some(Part::Import(path)) => script.imports.push(path),
                Some(Part::Item(item)) => script.items.push(item),
                Some(Part::Expr(_) | Part::Nothing) | None => {}
            }
            after_error = self.diagnostics.list.len() > errors;
        }
        script
    }

    fn check_order(&mut self, first: &Spanned<Token>, sections: &mut Sections) {
        let span = first.span;
        let what = match first.node {
            Token::CDef(_) => "C definitions",
            Token::Config => "the config block",
            Token::Import => "imports",
            Token::Semi => return,
            _ => {
                sections.item.get_or_insert(span);
                return;
            }
        };
        let is_c = matches!(first.node, Token::CDef(_));
        if first.node == Token::Config {
            if let Some(earlier) = sections.config {
                let error = Diagnostic::error(span, "there is a second config block")
                    .at("merge it into the first")
                    .label(earlier, "the first");
                return self.diagnostics.push(error);
            }
            sections.config = Some(span);
        }
        if !is_c {
            sections.settings.get_or_insert(span);
        }
        let (later, blocker) = match (sections.item, sections.settings) {
            (Some(item), _) => (item, "probes, macros, functions and map declarations"),
            (None, Some(settings)) if is_c => (settings, "the config block and imports"),
            _ => return,
        };
        // A definition of many lines is named by its first.
        let text = self.again.text.get(span.start as usize..span.end as usize).unwrap_or("");
        let line = text.lines().next().map_or(0, str::len);
        let span = Span { end: span.start + u32::try_from(line).unwrap_or(0), ..span };
        let error = Diagnostic::error(span, format!("{what} must come before {blocker}"))
            .at("move this up")
            .label(later, "before this");
        self.diagnostics.push(error);
    }

    /// Parses one part; `range` is its place among all tokens.
    fn part(&mut self, tokens: Vec<Spanned<Token>>, range: Range<usize>) -> Option<Part> {
        self.report_bad(&tokens);
        if let Some(span) = nesting::too_deep(&tokens) {
            let error = Diagnostic::error(span, "this is nested too deeply")
                .help("store a part of it in a variable");
            self.diagnostics.push(error);
            return None;
        }
        let mut cx = Context::new(self.again.file);
        let input =
            tokens.into_iter().map(|t| Ok((t.span.start as usize, t.node, t.span.end as usize)));
        let result = grammar::RootParser::new().parse(&mut cx, input);
        let Context { recovered, refused, .. } = cx;
        if recovered.is_empty() && result.is_ok() {
            for diagnostic in refused.into_iter().take(MAX_ERRORS) {
                self.diagnostics.push(diagnostic);
            }
            return result.ok();
        }
        let text = self.again.text;
        let tokens = self.again.tokens(range);
        let mut found = Vec::new();
        let mut mute = Mute::default();
        for error in recovered.into_iter().take(MAX_ERRORS) {
            let fault = fault(&error.error, tokens);
            if !mute.covers(fault.start(tokens)) {
                found.extend(report::explain(text, tokens, &fault));
            }
            mute.after(&error, tokens);
        }
        let part = match result {
            Ok(part) => Some(part),
            Err(error) => {
                let fault = fault(&error, tokens);
                if !mute.covers(fault.start(tokens)) {
                    found.extend(report::explain(text, tokens, &fault));
                }
                None
            }
        };
        let start = |d: &Diagnostic| d.primary.as_ref().map_or(0, |p| p.0.start);
        let refused = refused.into_iter().take(MAX_ERRORS);
        found.extend(refused.filter(|d| !mute.covers(start(d))));
        for diagnostic in found {
            self.diagnostics.push(diagnostic);
        }
        part
    }

    /// Adds the diagnostics that the lexer left in the tokens.
    fn report_bad(&mut self, tokens: &[Spanned<Token>]) {
        for token in tokens {
            match &token.node {
                Token::Bad(problem) => {
                    for diagnostic in problem {
                        self.diagnostics.push(diagnostic.clone());
                    }
                }
                Token::Unknown => {
                    let error = report::unknown(self.again.text, token.span);
                    self.diagnostics.push(error);
                }
                _ => {}
            }
            if self.diagnostics.list.len() >= MAX_ERRORS {
                return;
            }
        }
    }
}

/// Whether a part of a script can start with the token.
fn starts_part(token: &Token) -> bool {
    matches!(
        token,
        Token::CDef(_)
            | Token::Config
            | Token::Import
            | Token::Let
            | Token::Macro
            | Token::Fn
            | Token::Attach(_)
            | Token::LBrace
            | Token::AngleOpen
            | Token::Bad(_)
    )
}

/// Text where the parser, after an error, is out of step with the brackets, so
/// that whatever it complains about there means nothing.
#[derive(Default)]
struct Mute {
    ranges: Vec<Range<u32>>,
}

impl Mute {
    fn covers(&self, at: u32) -> bool {
        self.ranges.iter().any(|r| r.contains(&at))
    }

    /// Takes note of where the parser went on after an error.
    fn after(&mut self, error: &ErrorRecovery<usize, Token, ()>, tokens: &[Spanned<Token>]) {
        let dropped = error.dropped_tokens.iter();
        let Some(end) = dropped.clone().map(|t| t.2).max() else { return };
        let from = u32::try_from(end).unwrap_or(u32::MAX);
        if !balanced(dropped.map(|t| &t.1)) {
            self.ranges.push(from..u32::MAX);
        } else if let Some(close) = report::enclosing_paren(tokens, from) {
            // At a `;` in a head such as `for (i = 0; i < 5; i++)`.
            self.ranges.push(from..close.end);
        }
    }
}

/// Whether the braces among the tokens are closed.
fn balanced<'a>(tokens: impl Iterator<Item = &'a Token>) -> bool {
    let mut depth = 0_i32;
    for token in tokens {
        match token {
            Token::LBrace | Token::StmtBrace => depth += 1,
            Token::RBrace => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

/// Where a grammar error is among the tokens, and what could have stood there.
fn fault(error: &ParseError<usize, Token, ()>, tokens: &[Spanned<Token>]) -> Fault {
    let index = |at: usize| tokens.iter().position(|t| t.span.start as usize == at);
    match error {
        ParseError::UnrecognizedToken { token, expected } => {
            // Two tokens start at one place only if the first has no text.
            let same = |t: &Spanned<Token>| {
                t.span.start as usize == token.0 && t.span.end as usize == token.2
            };
            Fault { index: tokens.iter().position(same), expected: expected.clone() }
        }
        ParseError::ExtraToken { token } => Fault { index: index(token.0), expected: vec![] },
        ParseError::UnrecognizedEof { expected, .. } => {
            Fault { index: None, expected: expected.clone() }
        }
        ParseError::InvalidToken { .. } | ParseError::User { .. } => {
            Fault { index: None, expected: vec![] }
        }
    }
}
