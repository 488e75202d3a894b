//! Tokens as text, for `--emit tokens`.

use super::{Token, lex};
use crate::source::{FileId, Sources};

/// The tokens of a script, one per line: `line:column kind text`, both numbers
/// from 1, columns in characters. Line ends in a token are shown as `\n`.
pub fn print(sources: &Sources, file: FileId, is_value: &dyn Fn(&str) -> bool) -> String {
    let text = sources.text(file);
    let mut out = String::new();
    let (mut line, mut column, mut at) = (1, 1, 0);
    for token in lex(text, file, is_value) {
        let start = token.span.start as usize;
        for c in text.get(at..start).unwrap_or("").chars() {
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        at = start;
        let shown = text.get(start..token.span.end as usize).unwrap_or("");
        let shown = shown.replace('\r', "\\r").replace('\n', "\\n");
        out.push_str(&format!("{line}:{column} {} {shown}\n", Token::kind(&token.node)));
    }
    out
}
