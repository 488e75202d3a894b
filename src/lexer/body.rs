//! Body mode: what stands in blocks, predicates and other bracketed parts.

use logos::{Lexer, Logos};

use super::ahead::Follows;
use super::layout::{byte, rest, skip};
use super::literal::Place;
use super::scanner::Scanner;
use super::token::Token;
use crate::diag::Diagnostic;
use crate::source::{Span, Spanned};

/// What opened a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    Brace,
    Angle,
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
pub(super) struct Body<'a> {
    lexer: Lexer<'a, Token>,
    base: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn body(&self) -> Body<'a> {
        let place = Place { file: self.file, offset: self.pos };
        let lexer = Token::lexer_with_extras(rest(self.text, self.pos), place);
        Body { lexer, base: self.pos }
    }

    /// Takes one token of the body; false at the end of the text.
    pub(super) fn next(&mut self, body: &mut Body<'a>) -> bool {
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
    pub(super) fn one_token(&mut self) {
        let mut body = self.body();
        self.next(&mut body);
    }

    /// From `/` to the end of the block that follows it.
    pub(super) fn predicate(&mut self) {
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
    pub(super) fn close_predicate(&mut self) {
        let slash = self.out.len().checked_sub(2).and_then(|i| self.out.get_mut(i));
        if let Some(slash) = slash {
            slash.node = Token::PredicateClose;
        }
    }

    /// Puts an error where the `/` before a block should be.
    pub(super) fn insert_missing_close(&mut self) {
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
    pub(super) fn block(&mut self, delimiter: Delimiter) {
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
    pub(super) fn braced(&mut self) {
        let mut body = self.body();
        while !self.breaks_off(0) && self.next(&mut body) {
            if self.last_is(&Token::LBrace) {
                return self.block(Delimiter::Brace);
            }
        }
    }

    /// To the `;`, or to where it should be.
    pub(super) fn line(&mut self) {
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
}
