//! Raw text between tokens, read where logos does not: whitespace, comments,
//! words, and the C parts at the head of a script.
//!
//! All positions are byte offsets on character boundaries.

/// The byte at `at`, or 0 past the end.
pub(super) fn byte(text: &str, at: usize) -> u8 {
    text.as_bytes().get(at).copied().unwrap_or(0)
}

/// The text from `at` on.
pub(super) fn rest(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or("")
}

/// Where the next token starts: past whitespace and comments. A comment that
/// does not end is not skipped.
pub(super) fn skip(text: &str, mut at: usize) -> usize {
    loop {
        at += rest(text, at).bytes().take_while(u8::is_ascii_whitespace).count();
        let here = rest(text, at);
        if here.starts_with("//") {
            at += here.find('\n').unwrap_or(here.len());
        } else if here.starts_with("/*") {
            match rest(here, 2).find("*/") {
                Some(len) => at += len + 4,
                None => return at,
            }
        } else {
            return at;
        }
    }
}

/// The identifier at `at`, or nothing.
pub(super) fn word(text: &str, at: usize) -> &str {
    let here = rest(text, at);
    let len = here.bytes().take_while(|&b| is_word(b)).count();
    if byte(here, 0).is_ascii_digit() { "" } else { here.get(..len).unwrap_or("") }
}

/// Whether a byte can stand in an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether only blanks stand between the start of the line and `at`.
pub(super) fn starts_line(text: &str, at: usize) -> bool {
    let head = text.get(..at).unwrap_or("");
    head.trim_end_matches([' ', '\t', '\r']).ends_with('\n')
        || head.trim_matches([' ', '\t', '\r', '\u{feff}']).is_empty()
}

/// The end of the preprocessor line at `at`: the first line end that neither a
/// backslash nor a comment carries over.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut i = at;
    while let Some(&b) = bytes.get(i) {
        match (b, bytes.get(i + 1)) {
            (b'\\', Some(b'\n')) => i += 2,
            (b'\\', Some(b'\r')) if bytes.get(i + 2) == Some(&b'\n') => i += 3,
            (b'/', Some(b'*')) => match rest(text, i + 2).find("*/") {
                Some(len) => i += len + 4,
                None => return text.len(),
            },
            (b'/', Some(b'/')) => {
                return i + rest(text, i).find('\n').unwrap_or(text.len() - i);
            }
            (b'\n', _) => return i,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The end of a C declaration at `at`: after the `;` or, but for a `typedef`,
/// after the brace that closes its body, attributes and an optional `;`. `Err`
/// with the offset of the open brace, or of the start, if it does not end.
pub(super) fn declaration_end(text: &str, at: usize) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let typedef = word(text, at) == "typedef";
    let mut open: Vec<usize> = Vec::new();
    let mut body = false;
    let mut i = at;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'/' if matches!(byte(text, i + 1), b'/' | b'*') => {
                let next = skip(text, i);
                if next == i {
                    break;
                }
                i = next;
                continue;
            }
            b'"' | b'\'' => i = quoted_end(text, i),
            b'{' | b'(' | b'[' => {
                body |= b == b'{' && open.is_empty() && !typedef;
                open.push(i);
            }
            b'}' | b')' | b']' => {
                open.pop();
                if b == b'}' && body && open.is_empty() {
                    return Ok(after_body(text, i + 1));
                }
            }
            b';' if open.is_empty() => return Ok(i + 1),
            _ => {}
        }
        i += 1;
    }
    Err(open.first().copied().unwrap_or(at))
}

/// Past attributes and a `;` after the body of a struct. Words that a `;` ends,
/// such as a macro, may be attributes too.
fn after_body(text: &str, end: usize) -> usize {
    let mut at = end;
    loop {
        at = skip(text, at);
        match byte(text, at) {
            b';' => return at + 1,
            b'(' => at = paren_end(text, at),
            _ if word(text, at).is_empty() => break,
            _ => at += word(text, at).len(),
        }
    }
    let mut end = end;
    loop {
        let next = skip(text, end);
        let name = word(text, next);
        if byte(text, next) == b';' {
            return next + 1;
        } else if name.starts_with("__") {
            end = next + name.len();
            let paren = skip(text, end);
            if byte(text, paren) == b'(' {
                end = paren_end(text, paren);
            }
        } else {
            return end;
        }
    }
}

fn paren_end(text: &str, at: usize) -> usize {
    let mut depth = 0;
    for (i, b) in rest(text, at).bytes().enumerate() {
        match b {
            b'(' => depth += 1,
            b')' if depth == 1 => return at + i + 1,
            b')' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The last byte of a quoted piece that starts at `at`, on the same line.
pub(super) fn quoted_end(text: &str, at: usize) -> usize {
    let quote = byte(text, at);
    let mut i = at + 1;
    while i < text.len() && byte(text, i) != b'\n' {
        match byte(text, i) {
            b'\\' => i += 1,
            b if b == quote => return i,
            _ => {}
        }
        i += 1;
    }
    at
}

/// The names that a C part gives to values: enum constants, macros.
pub(super) fn c_names(text: &str) -> Vec<String> {
    if let Some(line) = text.strip_prefix('#') {
        let line = line.trim_start();
        let name = line.strip_prefix("define").map(str::trim_start);
        return name.map(|n| word(n, 0).to_owned()).into_iter().collect();
    }
    let mut names = Vec::new();
    for (at, _) in text.match_indices("enum") {
        let end = at + "enum".len();
        let alone = !is_word(byte(text, end)) && (at == 0 || !is_word(byte(text, at - 1)));
        let body = rest(text, end).find(['{', '}', ';']).map_or(text.len(), |i| end + i);
        if !alone || byte(text, body) != b'{' {
            continue;
        }
        let close = rest(text, body).find('}').map_or(text.len(), |i| body + i);
        // A constant follows `{` or `,`.
        for (i, _) in text.get(body..close).unwrap_or("").match_indices(['{', ',']) {
            names.push(word(text, skip(text, body + i + 1)).to_owned());
        }
    }
    names
}
