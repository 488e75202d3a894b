//! Format strings: parsed once here, run by the run side.

use crate::plan::{Conversion, ConversionKind, Format, Piece};

/// What is wrong with a format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatError {
    /// Which conversion, counted from 0.
    pub conversion: usize,
    pub message: String,
    pub help: Option<String>,
}

/// A conversion without flags, width and precision.
pub const PLAIN: Conversion = Conversion {
    left: false,
    zero: false,
    plus: false,
    alternate: false,
    width: 0,
    precision: None,
    bytes: 4,
    kind: ConversionKind::Text,
};

/// Parses a format string (output.md §7).
///
/// # Errors
/// An unknown or unfinished conversion.
pub fn parse(text: &[u8]) -> Result<Format, FormatError> {
    let mut pieces = Vec::new();
    let mut plain: Vec<u8> = Vec::new();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        if let Some(tail) = rest.strip_prefix(b"%") {
            plain.push(b'%');
            rest = tail;
            continue;
        }
        let before = pieces.iter().filter(|p| matches!(p, Piece::Value(_))).count();
        let (conversion, tail) = conversion(rest).map_err(|(message, help)| FormatError {
            conversion: before,
            message,
            help,
        })?;
        rest = tail;
        push_text(&mut pieces, &mut plain);
        pieces.push(Piece::Value(conversion));
    }
    push_text(&mut pieces, &mut plain);
    Ok(Format { pieces })
}

/// The conversions in their order.
pub fn conversions(format: &Format) -> impl Iterator<Item = &Conversion> {
    format.pieces.iter().filter_map(|p| match p {
        Piece::Value(c) => Some(c),
        Piece::Text(_) => None,
    })
}

fn push_text(pieces: &mut Vec<Piece>, plain: &mut Vec<u8>) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(String::from_utf8_lossy(plain).into_owned()));
        plain.clear();
    }
}

/// Where conversion `wanted` stands in a string literal as it is written, quotes
/// included: bytes from its start.
pub fn place(literal: &str, wanted: usize) -> Option<std::ops::Range<usize>> {
    let inside = literal.strip_prefix('"')?;
    let mut bytes = inside.bytes().enumerate().peekable();
    let mut seen = 0;
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => _ = bytes.next(),
            b'%' if bytes.next_if(|(_, b)| *b == b'%').is_some() => {}
            b'%' if seen < wanted => seen += 1,
            b'%' => {
                let text = inside.get(at + 1..)?;
                let rest = match conversion(text.as_bytes()) {
                    Ok((_, rest)) => rest.len(),
                    // Up to the letter that is wrong.
                    Err(_) => {
                        let end = text.find(|c: char| c.is_alphabetic() || c == '"');
                        let end = end.map_or(text.len(), |end| match text.get(end..) {
                            Some(tail) if tail.starts_with('"') => end,
                            Some(tail) => end + tail.chars().next().map_or(0, char::len_utf8),
                            None => end,
                        });
                        text.len() - end
                    }
                };
                return Some(1 + at..1 + inside.len() - rest);
            }
            _ => {}
        }
    }
    None
}

/// What is wrong, and what to do.
type Wrong = (String, Option<String>);

fn conversion(text: &[u8]) -> Result<(Conversion, &[u8]), Wrong> {
    let mut c = PLAIN;
    let mut rest = text;
    loop {
        match rest.first() {
            Some(b'-') => c.left = true,
            Some(b'0') => c.zero = true,
            Some(b'+') => c.plus = true,
            Some(b'#') => c.alternate = true,
            Some(b' ') => {}
            _ => break,
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    if let Some(tail) = rest.strip_prefix(b"*") {
        rest = tail;
    } else {
        (c.width, rest) = number(rest);
    }
    if let Some(tail) = rest.strip_prefix(b".") {
        let (n, tail) = number(tail);
        c.precision = Some(n);
        rest = tail;
    }
    let lengths: [(&[u8], u8); 8] =
        [(b"hh", 1), (b"h", 2), (b"ll", 8), (b"l", 8), (b"j", 8), (b"z", 8), (b"t", 8), (b"L", 8)];
    for (prefix, bytes) in lengths {
        if let Some(tail) = rest.strip_prefix(prefix) {
            c.bytes = bytes;
            rest = tail;
            break;
        }
    }
    let kinds: [(&[u8], ConversionKind); 15] = [
        (b"rx", ConversionKind::EscapedBytes),
        (b"rh", ConversionKind::HexBytes),
        (b"r", ConversionKind::Bytes),
        (b"gr", ConversionKind::GfpFlags),
        (b"d", ConversionKind::Signed),
        (b"i", ConversionKind::Signed),
        (b"u", ConversionKind::Unsigned),
        (b"o", ConversionKind::Octal),
        (b"x", ConversionKind::Hex),
        (b"X", ConversionKind::UpperHex),
        (b"c", ConversionKind::Char),
        (b"p", ConversionKind::Pointer),
        (b"s", ConversionKind::Text),
        (b"S", ConversionKind::Text),
        (b"", ConversionKind::Text),
    ];
    for (prefix, kind) in kinds {
        if prefix.is_empty() {
            break;
        }
        if let Some(tail) = rest.strip_prefix(prefix) {
            c.kind = kind;
            return Ok((c, tail));
        }
    }
    let shown = match rest.first() {
        None => {
            return Err((
                "the format string ends inside a conversion".into(),
                Some("write `%%` for a percent sign".into()),
            ));
        }
        Some(&byte) => char::from(byte),
    };
    let help = match shown {
        'f' | 'e' | 'g' | 'a' | 'F' | 'E' | 'G' | 'A' => {
            Some("there are no floating point numbers; scale and use `%d`".to_string())
        }
        c if c.is_ascii_alphabetic() => {
            Some("the conversions are d i u o x X c p s r rx rh gr".to_string())
        }
        _ => Some("write `%%` for a percent sign".to_string()),
    };
    Err((format!("unsupported conversion `%{}`", shown.escape_default()), help))
}

fn number(text: &[u8]) -> (u32, &[u8]) {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (head, rest) = text.split_at(digits);
    let value = std::str::from_utf8(head).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_flags() {
        let f = parse(b"a%-10.10s%5lld%%%hhx").expect("parses");
        let list: Vec<_> = conversions(&f).collect();
        assert_eq!(list.len(), 3);
        assert!(list[0].left && list[0].width == 10 && list[0].precision == Some(10));
        assert_eq!((list[1].bytes, list[1].width), (8, 5));
        assert_eq!(list[2].bytes, 1);
        assert_eq!(f.pieces[0], Piece::Text("a".into()));
    }

    #[test]
    fn conversions_are_found_in_the_literal() {
        let literal = r#""a\"%%%-10s\n%5lld %q %""#;
        let at = |n| place(literal, n).and_then(|range| literal.get(range));
        assert_eq!([at(0), at(1), at(2)], [Some("%-10s"), Some("%5lld"), Some("%q")]);
        assert_eq!([at(3), at(4)], [Some("%"), None]);
        assert_eq!(place("NAME", 0), None);
    }

    #[test]
    fn floats_are_refused() {
        assert!(parse(b"%f").unwrap_err().help.unwrap().contains("floating"));
        assert!(parse(b"100%").is_err());
    }
}
