//! One pass over the tokens for what LR(1) cannot see.
//!
//! - `(` opens a **cast** if a type and `)` follow. A lone name counts as a type
//!   if the token after `)` can start an operand and the caller does not know
//!   the name as a value: `(uint8) -1` converts, `(pid) - 1` subtracts. Types
//!   with a tag, with a `*` or `[]`, and `typeof(…)` are always types.
//! - `(` after `sizeof`, `offsetof`, `typeof`, `typeinfo` opens a **type** if
//!   what follows is more than a lone name, which may be either.
//! - `if` and `{` where a statement can start become tokens of their own: such
//!   a statement ends at its last brace, so `if $x { } *$p` are two.
//! - A keyword after `.` or `->`, or as the member of an `offsetof`, is a name.

use crate::lexer::token::Token;
use crate::source::Spanned;

/// Names that are types wherever a type can stand.
pub const TYPES: [&str; 22] = [
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "string",
    "buffer",
    "inet",
    "macaddr_t",
    "username_t",
    "timestamp",
    "cgroup_path_t",
    "void",
    "char",
    "short",
    "int",
    "long",
    "usym_t",
];

/// Words that make up a type together.
const C_WORDS: [&str; 9] =
    ["unsigned", "signed", "long", "short", "int", "char", "const", "volatile", "void"];

/// Builtins that are never types, whatever the caller says.
fn is_parser_builtin(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    matches!(name, "args" | "ctx" | "kstack" | "nsecs" | "pid" | "tid" | "ustack")
        || numbered("arg")
        || numbered("sarg")
        || name.starts_with("__builtin_")
}

/// Settles all tokens; `starts` has the index of the first of each item.
pub(super) fn settle(
    tokens: &mut [Spanned<Token>],
    starts: &[usize],
    is_value: &dyn Fn(&str) -> bool,
) {
    let partners = partners(tokens);
    let mut starts = starts.iter().copied().peekable();
    // Per open bracket: `if` and loops that lack their block.
    let mut headers = vec![0_u32];
    for i in 0..tokens.len() {
        let fresh = starts.next_if_eq(&i).is_some();
        if fresh {
            headers = vec![0];
        }
        let before = i.checked_sub(1).filter(|_| !fresh);
        let before = before.and_then(|b| tokens.get(b)).map_or(&Token::Comma, |t| &t.node);
        let starts_statement = matches!(
            before,
            Token::LBrace | Token::StmtBrace | Token::RBrace | Token::Semi | Token::AngleOpen
        );
        let after_keyword =
            matches!(before, Token::If | Token::StmtIf | Token::While | Token::Unroll);
        let Some(token) = tokens.get(i).map(|t| &t.node) else { continue };
        let settled = match token {
            Token::LParen => {
                headers.push(0);
                View { tokens, partners: &partners }.paren(i, before, is_value)
            }
            Token::LBracket => {
                headers.push(0);
                None
            }
            Token::LBrace => {
                let waiting = headers.last_mut().filter(|n| **n > 0 && !after_keyword);
                let body = waiting.map(|n| *n -= 1).is_some();
                headers.push(0);
                (starts_statement && !body).then_some(Token::StmtBrace)
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if headers.len() > 1 {
                    headers.pop();
                }
                None
            }
            Token::Semi => {
                set(&mut headers, |_| 0);
                None
            }
            word if matches!(before, Token::Dot | Token::Arrow) => {
                word.word().map(|name| Token::Ident(name.to_owned()))
            }
            Token::If | Token::While | Token::For | Token::Unroll => {
                set(&mut headers, |n| n + 1);
                (*token == Token::If && starts_statement).then_some(Token::StmtIf)
            }
            Token::Offsetof => {
                member_name(tokens, &partners, i);
                None
            }
            _ => None,
        };
        if let (Some(settled), Some(token)) = (settled, tokens.get_mut(i)) {
            token.node = settled;
        }
    }
}

fn set(headers: &mut [u32], count: impl Fn(u32) -> u32) {
    if let Some(last) = headers.last_mut() {
        *last = count(*last);
    }
}

/// For every opening bracket the index of its closing one, else 0.
fn partners(tokens: &[Spanned<Token>]) -> Vec<usize> {
    let mut partners = vec![0; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.node {
            Token::LParen | Token::LBracket | Token::LBrace => open.push(i),
            Token::RParen | Token::RBracket | Token::RBrace => {
                if let Some(partner) = open.pop().and_then(|o| partners.get_mut(o)) {
                    *partner = i;
                }
            }
            _ => {}
        }
    }
    partners
}

/// Makes the first word after the comma in `offsetof(…, word)` a name.
fn member_name(tokens: &mut [Spanned<Token>], partners: &[usize], offsetof: usize) {
    let end = partners.get(offsetof + 1).copied().unwrap_or(0);
    let comma =
        (offsetof + 1..end).rev().find(|&i| tokens.get(i).is_some_and(|t| t.node == Token::Comma));
    let member = comma.and_then(|c| tokens.get_mut(c + 1));
    if let Some((name, member)) = member.and_then(|m| Some((m.node.word()?, m))) {
        member.node = Token::Ident(name.to_owned());
    }
}

struct View<'a> {
    tokens: &'a [Spanned<Token>],
    partners: &'a [usize],
}

/// A type without tag found in the tokens.
struct Found {
    /// Index of the token after it.
    end: usize,
    certainty: Certainty,
}

#[derive(PartialEq, Eq)]
enum Certainty {
    /// `x *`, `x[]`, `typeof(x)`.
    Type,
    /// `x[3]`
    Array,
    /// `x`
    Name,
}

impl View<'_> {
    fn at(&self, i: usize) -> Option<&Token> {
        self.tokens.get(i).map(|t| &t.node)
    }

    /// What the `(` at `i` opens, if it is not a plain one.
    fn paren(&self, i: usize, before: &Token, is_value: &dyn Fn(&str) -> bool) -> Option<Token> {
        let after_keyword =
            matches!(before, Token::Sizeof | Token::Offsetof | Token::Typeof | Token::Typeinfo);
        if matches!(before, Token::Ident(_)) {
            return None;
        }
        // With a tag it is a type even if what follows is wrong.
        let tagged = matches!(self.at(i + 1)?, Token::Struct | Token::Union | Token::Enum);
        if tagged {
            return Some(if after_keyword { Token::TypeParen } else { Token::CastParen });
        }
        let found = self.type_at(i + 1)?;
        let name = match self.at(i + 1) {
            Some(Token::Ident(name)) => name.as_str(),
            _ => "",
        };
        let end = self.at(found.end)?;
        if after_keyword {
            let closed = matches!(end, Token::RParen | Token::Comma);
            let is_type = match found.certainty {
                Certainty::Type => true,
                Certainty::Array => !is_parser_builtin(name),
                Certainty::Name => false,
            };
            return (closed && is_type).then_some(Token::TypeParen);
        }
        if *end != Token::RParen {
            return None;
        }
        let is_type = found.certainty == Certainty::Type
            || self.at(found.end + 1).is_some_and(Token::follows_cast)
                && !is_parser_builtin(name)
                && (TYPES.contains(&name) || !is_value(name));
        is_type.then_some(Token::CastParen)
    }

    /// The type that starts at `i`, if one can.
    fn type_at(&self, i: usize) -> Option<Found> {
        let (mut end, mut certainty) = match (self.at(i)?, self.at(i + 1)) {
            (Token::Typeof, Some(Token::LParen)) => {
                let close = self.partners.get(i + 1).copied().filter(|&c| c > 0)?;
                (close + 1, Certainty::Type)
            }
            // `unsigned long`, `const char`: words of C.
            (Token::Ident(first), Some(Token::Ident(_))) => {
                let c_word = |i: usize| matches!(self.at(i), Some(Token::Ident(w)) if C_WORDS.contains(&w.as_str()));
                let more = (i + 1..).take_while(|&at| c_word(at)).count();
                match C_WORDS.contains(&first.as_str()) && more > 0 {
                    true => (i + 1 + more, Certainty::Type),
                    false => (i + 1, Certainty::Name),
                }
            }
            (Token::Ident(_), _) => (i + 1, Certainty::Name),
            _ => return None,
        };
        loop {
            match (self.at(end), self.at(end + 1), self.at(end + 2)) {
                // `x * )` multiplies nothing, but `x * y` does.
                (Some(Token::Star), Some(next), _)
                    if certainty == Certainty::Type
                        || matches!(
                            next,
                            Token::RParen | Token::Comma | Token::Star | Token::LBracket
                        ) =>
                {
                    certainty = Certainty::Type;
                    end += 1;
                }
                (Some(Token::LBracket), Some(Token::RBracket), _) => {
                    certainty = Certainty::Type;
                    end += 2;
                }
                (Some(Token::LBracket), Some(Token::Int(_)), Some(Token::RBracket)) => {
                    if certainty == Certainty::Name {
                        certainty = Certainty::Array;
                    }
                    end += 3;
                }
                _ => return Some(Found { end, certainty }),
            }
        }
    }
}
