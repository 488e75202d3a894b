//! A limit on the depth of trees: later stages walk them recursively, and no
//! script may exhaust the stack.

use crate::lexer::Token;
use crate::source::{Span, Spanned};

/// Levels of expressions and blocks; the largest scripts known need about 30.
const MAX_DEPTH: u32 = 500;

/// The token at which the tree gets too deep, if it does.
///
/// Counts, as an upper bound, the open brackets and the operators since the last
/// token that starts afresh: `a + b + c` is a tree of depth 3.
pub(super) fn too_deep(tokens: &[Spanned<Token>]) -> Option<Span> {
    // Every level adds to the depth, so a short part needs no count.
    if tokens.len() <= MAX_DEPTH as usize {
        return None;
    }
    // Operators in each open bracket, and whether it counts only while open.
    let mut levels = vec![(0_u32, false)];
    let mut depth = 0_u32;
    let mut before = &Token::Semi;
    for token in tokens {
        let (operators, _) = levels.last_mut()?;
        let ends_statement = *before == Token::RBrace && starts_statement(&token.node);
        if ends_statement || matches!(token.node, Token::Semi | Token::Comma) {
            depth -= *operators;
            *operators = 0;
        }
        match token.node {
            Token::RParen | Token::RBracket | Token::RBrace | Token::AngleClose => {
                let (operators, passing) = levels.pop()?;
                depth -= operators;
                match levels.last_mut() {
                    Some((outer, _)) if passing => {
                        *outer -= 1;
                        depth -= 1;
                    }
                    Some(_) => {}
                    // One bracket too many.
                    None => levels.push((0, false)),
                }
            }
            _ if adds_level(&token.node) => {
                *operators += 1;
                depth += 1;
                if opens(&token.node) {
                    // `(a)(b)c` casts twice, and `a[1][2]` looks up twice.
                    let stays = matches!(token.node, Token::LBracket | Token::CastParen);
                    levels.push((0, !stays));
                }
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(token.span);
        }
        before = &token.node;
    }
    None
}

fn opens(token: &Token) -> bool {
    matches!(
        token,
        Token::LParen
            | Token::CastParen
            | Token::TypeParen
            | Token::LBracket
            | Token::LBrace
            | Token::StmtBrace
            | Token::AngleOpen
    )
}

/// Whether a new statement starts with it after a `}`.
fn starts_statement(token: &Token) -> bool {
    matches!(
        token,
        Token::StmtIf
            | Token::StmtBrace
            | Token::While
            | Token::For
            | Token::Unroll
            | Token::Let
            | Token::Return
            | Token::Break
            | Token::Continue
            | Token::Var(_)
            | Token::Map(_)
            | Token::Ident(_)
            | Token::Underscore
    )
}

fn adds_level(token: &Token) -> bool {
    opens(token)
        || matches!(
            token,
            Token::Plus
                | Token::Minus
                | Token::Star
                | Token::Slash
                | Token::Percent
                | Token::Amp
                | Token::Pipe
                | Token::Caret
                | Token::Bang
                | Token::Tilde
                | Token::AmpAmp
                | Token::PipePipe
                | Token::EqEq
                | Token::NotEq
                | Token::Lt
                | Token::LtEq
                | Token::Gt
                | Token::GtEq
                | Token::Shl
                | Token::Shr
                | Token::Question
                | Token::Dot
                | Token::Arrow
                | Token::PlusPlus
                | Token::MinusMinus
                | Token::Comptime
                | Token::Else
        )
}

#[cfg(test)]
mod tests {
    use super::too_deep;
    use crate::lexer::lex;

    #[test]
    fn counts_depth_not_length() {
        let deep = |text: String| too_deep(&lex(&text, 0, &|_| true)).is_some();
        assert!(!deep(format!("BEGIN {{ {} }}", "$x = 1 + 2; ".repeat(1000))));
        assert!(!deep(format!("BEGIN {{ {} }}", "if ($x) { f(1 + 2) } ".repeat(1000))));
        assert!(!deep(format!("BEGIN {{ f({}) }}", "a[1] + 1, ".repeat(1000))));
        assert!(!deep(format!("BEGIN {{ $x = {}1 }}", "1 + ".repeat(400))));
        assert!(deep(format!("BEGIN {{ $x = {}1 }}", "1 + ".repeat(1000))));
        assert!(deep(format!("BEGIN {{ {}1 }}", "!".repeat(1000))));
        assert!(deep(format!("BEGIN {{ {}1 }}", "(".repeat(1000))));
        assert!(deep(format!("BEGIN {{ {}1 }}", "{".repeat(1000))));
        assert!(deep(format!("BEGIN {{ if 1 {{ }} {}", "else if 1 { } ".repeat(1000))));
        assert!(deep(format!("BEGIN {{ $x = a{} }}", ".b[1]".repeat(1000))));
    }
}
