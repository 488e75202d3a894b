//! Text of others on its way to a terminal: what could make it do things is
//! shown, not sent.
//!
//! Strings, names of functions and of files come from traced programs, which
//! may be anybody's. An escape sequence in one could rename the terminal's
//! window, or type for the user.

use std::borrow::Cow;
use std::io::Write as _;

const MEMORY: &str = "bug: memory takes every write";

/// Appends bytes as a terminal may have them: control characters but newline
/// and tab, characters that change the direction of text, and bytes that are
/// no UTF-8 become `\xhh`.
pub fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut bytes = [0; 4];
            match character {
                '\n' | '\t' => out.push(character as u8),
                // C0, DEL, and C1, which is how a terminal may read 0x80 to 0x9f.
                c if c.is_control() => hex(out, u8::try_from(u32::from(c)).unwrap_or(0)),
                c if turns(c) => c.encode_utf8(&mut bytes).bytes().for_each(|b| hex(out, b)),
                c => out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes()),
            }
        }
        chunk.invalid().iter().for_each(|b| hex(out, *b));
    }
}

/// The same for text that is one piece already.
pub fn text(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !c.is_control() && !turns(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::new();
    append(&mut out, text.as_bytes());
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Marks, embeddings, overrides and isolates of the Unicode bidirectional
/// algorithm: with them a line reads as another.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    write!(out, "\\x{byte:02x}").expect(MEMORY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let shown = |bytes: &[u8]| {
            let mut out = Vec::new();
            append(&mut out, bytes);
            String::from_utf8(out).expect("what is shown is UTF-8")
        };
        assert_eq!(shown(b"a\x1b]0;x\x07\r\x7f\0"), "a\\x1b]0;x\\x07\\x0d\\x7f\\x00");
        assert_eq!(shown("\u{9b}1m".as_bytes()), "\\x9b1m");
        assert_eq!(shown(b"\x9b\xff\xc3("), "\\x9b\\xff\\xc3(");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
        assert_eq!(shown("line\n\tcaf\u{e9} \u{1f600}".as_bytes()), "line\n\tcaf\u{e9} \u{1f600}");
        assert_eq!(text("plain\n"), Cow::Borrowed("plain\n"));
        assert_eq!(text("\x1b[m"), "\\x1b[m");
    }
}
