//! Places as editors count them: lines from 0, and columns in units of UTF-16.

use lsp_types::{Position, Range, Uri};

/// The byte of a position; the end of the line or text if it is beyond.
pub(super) fn offset(text: &str, position: Position) -> usize {
    let mut start = 0;
    for _ in 0..position.line {
        match text.get(start..).and_then(|rest| rest.find('\n')) {
            Some(end) => start += end + 1,
            None => return text.len(),
        }
    }
    let line = text.get(start..).and_then(|rest| rest.split('\n').next()).unwrap_or_default();
    let mut units = 0;
    for (at, c) in line.char_indices() {
        if units >= position.character as usize {
            return start + at;
        }
        units += c.len_utf16();
    }
    start + line.len()
}

/// The position of a byte.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let head = text.get(..offset).unwrap_or(text);
    let line = head.matches('\n').count();
    let start = head.rfind('\n').map_or(0, |at| at + 1);
    let units = head.get(start..).unwrap_or_default().encode_utf16().count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: number(line), character: number(units) }
}

pub(super) fn range(text: &str, start: usize, end: usize) -> Range {
    Range { start: position(text, start), end: position(text, end) }
}

/// The word around a byte, sigil included: where it starts, and its characters.
pub(super) fn word(text: &str, offset: usize) -> (usize, &str) {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let head = text.get(..offset).unwrap_or_default();
    let mut start = head.rfind(|c| !part(c)).map_or(0, |at| {
        at + head.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8)
    });
    let tail = text.get(offset..).unwrap_or_default();
    let mut end = offset + tail.find(|c| !part(c)).unwrap_or(tail.len());
    if head.get(..start).is_some_and(|t| t.ends_with(['$', '@'])) {
        start -= 1;
    } else if start == offset && tail.starts_with(['$', '@']) {
        let name = tail.get(1..).unwrap_or_default();
        end = offset + 1 + name.find(|c| !part(c)).unwrap_or(name.len());
    }
    (start, text.get(start..end).unwrap_or_default())
}

/// The file of a document, for what it imports; its name for messages if it is in none.
pub(super) fn path(uri: &Uri) -> String {
    let text = uri.as_str();
    let Some(path) = text.strip_prefix("file://") else { return text.to_owned() };
    // `%20` is a blank.
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let code = (byte == b'%').then(|| rest.clone().take(2).collect::<Vec<u8>>());
        let digits = code.as_deref().and_then(|c| std::str::from_utf8(c).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest.nth(1);
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_units_of_utf16() {
        let text = "a\nä😀b\n";
        let at = Position { line: 1, character: 3 };
        assert_eq!(text.get(offset(text, at)..), Some("b\n"));
        assert_eq!(position(text, text.find('b').unwrap_or(0)), at);
        assert_eq!(offset(text, Position { line: 9, character: 9 }), text.len());
        assert_eq!(offset(text, Position { line: 0, character: 9 }), 1);
    }

    #[test]
    fn words_have_their_sigil() {
        let text = "print($size, @m[pid]);";
        assert_eq!(word(text, 8), (6, "$size"));
        assert_eq!(word(text, 6), (6, "$size"));
        assert_eq!(word(text, 13), (13, "@m"));
        assert_eq!(word(text, 17), (16, "pid"));
        assert_eq!(word(text, text.len()), (22, ""));
    }

    #[test]
    fn paths_are_decoded() {
        let uri = "file:///tmp/a%20b.bt".parse().expect("a uri");
        assert_eq!(path(&uri), "/tmp/a b.bt");
    }
}
