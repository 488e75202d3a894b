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

pub mod c;
pub mod literal;
pub mod token;

mod ahead;
mod body;
mod layout;
mod print;
mod scanner;
mod settle;
#[cfg(test)]
mod tests;

pub use self::literal::Place;
pub use self::print::print;
pub use self::token::Token;
pub use settle::TYPES;

use self::scanner::Scanner;
use crate::source::{FileId, Spanned};

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
