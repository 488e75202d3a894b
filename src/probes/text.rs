//! The text of attach points: parts, parameters, numbers, patterns.

use crate::diag::Diagnostic;
use crate::parser::ast::AttachPoint;
use crate::source::Span;

/// A part of an attach point, between colons; quotes and escapes are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) text: String,
    /// Some of it was in quotes.
    pub(super) quoted: bool,
    /// Byte offsets of unquoted `@`s in `text`.
    pub(super) ats: Vec<usize>,
    pub(super) span: Span,
}

impl Part {
    /// Whether the part is a pattern for names.
    pub(super) fn is_wildcard(&self) -> bool {
        is_wildcard(&self.text)
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        matches(&self.text, name)
    }
}

/// Whether a text is a pattern for names.
pub(super) fn is_wildcard(text: &str) -> bool {
    text.contains(['*', '['])
}

/// Whether a name fits a pattern, in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece).and_then(|at| rest.get(at + piece.len()..)) {
            Some(tail) => rest = tail,
            None => return false,
        }
    }
    true
}

/// Splits an attach point at the colons outside quotes, after putting in
/// positional parameters.
///
/// # Errors
/// A parameter that is not given, a `$` without a number, an open quote.
pub(super) fn split(point: &AttachPoint, params: &[String]) -> Result<Vec<Part>, Box<Diagnostic>> {
    let base = point.span.start as usize;
    let place = |start: usize, end: usize| Span::new(point.span.file, base + start, base + end);
    let fail = |d: Diagnostic| Err(Box::new(d));
    let new = |at: usize| Part {
        text: String::new(),
        quoted: false,
        ats: Vec::new(),
        span: place(at, at),
    };
    let text = point.text.as_str();
    let mut parts = Vec::new();
    let mut part = new(0);
    let mut chars = text.char_indices().peekable();
    let mut quote = None;
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        match (c, quote) {
            ('"', None) => {
                quote = Some(at);
                part.quoted = true;
            }
            ('"', Some(_)) => quote = None,
            ('\\', Some(_)) => part.text.extend(chars.next().map(|(_, c)| c)),
            (c, Some(_)) => part.text.push(c),
            (':', None) => {
                parts.push(std::mem::replace(&mut part, new(end)));
                continue;
            }
            ('$', None) => {
                let mut digits = String::new();
                while let Some((_, d)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
                    digits.push(d);
                }
                let span = place(at, end + digits.len());
                let Ok(number) = digits.parse::<usize>() else {
                    return fail(
                        Diagnostic::error(span, "`$` must be followed by a number here")
                            .at("no number")
                            .help("put the part in quotes if the `$` belongs to a name"),
                    );
                };
                let Some(value) = number.checked_sub(1).and_then(|i| params.get(i)) else {
                    return fail(
                        Diagnostic::error(span, format!("parameter `${number}` is not given"))
                            .help("give parameters after the script"),
                    );
                };
                // A parameter may hold several parts.
                let mut pieces = value.split(':');
                part.text.push_str(pieces.next().unwrap_or(""));
                for piece in pieces {
                    part.span = span;
                    let next = Part { text: piece.to_owned(), ..new(at) };
                    parts.push(std::mem::replace(&mut part, next));
                }
                part.span.end = span.end;
                continue;
            }
            ('@', None) => {
                part.ats.push(part.text.len());
                part.text.push(c);
            }
            (c, None) => part.text.push(c),
        }
        part.span.end = place(end, end).end;
    }
    if let Some(at) = quote {
        return fail(Diagnostic::error(place(at, at + 1), "this quote is never closed"));
    }
    parts.push(part);
    Ok(parts)
}

/// Units of durations, in nanoseconds; longer names first.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The value of an integer in any form that the language has, durations in
/// nanoseconds, and `0b…`.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.ends_with('_') || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = text.replace('_', "").to_ascii_lowercase();
    let plain = |digits: &str, radix: u32| {
        let valid = digits.chars().all(|c| c.is_digit(radix));
        valid.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
    };
    let unsuffixed = |t: &str| t.trim_end_matches(['u', 'l']).to_owned();
    if let Some(hex) = text.strip_prefix("0x") {
        return plain(&unsuffixed(hex), 16);
    }
    if let Some(binary) = text.strip_prefix("0b") {
        return plain(&unsuffixed(binary), 2);
    }
    for (unit, scale) in UNITS {
        if let Some(count) =
            text.strip_suffix(unit).filter(|c| c.bytes().all(|b| b.is_ascii_digit()))
        {
            return plain(count, 10)?.checked_mul(scale);
        }
    }
    if let Some((coefficient, exponent)) = text.split_once('e') {
        let power = 10u64.checked_pow(exponent.parse().ok()?)?;
        return plain(coefficient, 10)?.checked_mul(power);
    }
    let digits = unsuffixed(&text);
    match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => plain(octal, 8),
        _ => plain(&digits, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, params: &[&str]) -> Result<Vec<String>, String> {
        let span = Span::new(0, 10, 10 + text.len());
        let point = AttachPoint { label: None, text: text.into(), span };
        let params: Vec<String> = params.iter().map(|p| (*p).to_owned()).collect();
        match split(&point, &params) {
            Ok(parts) => Ok(parts.into_iter().map(|p| p.text).collect()),
            Err(d) => Err(d.message),
        }
    }

    #[test]
    fn splitting() {
        let ok = |text: &str, params: &[&str]| parts(text, params).unwrap().join("|");
        assert_eq!(ok("kprobe:vfs_read", &[]), "kprobe|vfs_read");
        assert_eq!(ok("hardware:cache-misses:", &[]), "hardware|cache-misses|");
        assert_eq!(ok("uprobe:/x:cpp:\"a::b(int)\"", &[]), "uprobe|/x|cpp|a::b(int)");
        assert_eq!(ok("u:\"/a \\\"b\\\"\":f", &[]), "u|/a \"b\"|f");
        assert_eq!(ok("u:$1:f$2", &["/x", "9"]), "u|/x|f9");
        assert_eq!(ok("$1", &["tracepoint:a:b"]), "tracepoint|a|b");
        assert_eq!(ok("u:\"$1\":f", &[]), "u|$1|f");
        assert_eq!(parts("u:$1", &[]), Err("parameter `$1` is not given".into()));
        assert_eq!(parts("u:$x", &[]), Err("`$` must be followed by a number here".into()));
        assert_eq!(parts("u:\"x", &[]), Err("this quote is never closed".into()));
    }

    #[test]
    fn spans_are_those_of_the_parts() {
        let span = Span::new(0, 10, 30);
        let point = AttachPoint { label: None, text: "kprobe:vfs_read".into(), span };
        let parts = split(&point, &[]).unwrap();
        assert_eq!(parts[1].span, Span::new(0, 17, 25));
    }

    #[test]
    fn patterns() {
        assert!(matches("vfs_*", "vfs_read"));
        assert!(matches("*", ""));
        assert!(matches("*sleep*", "nanosleep"));
        assert!(matches("a*b*c", "aXbYc"));
        assert!(!matches("a*b*c", "acb"));
        assert!(!matches("vfs_read", "vfs_readv"));
        assert!(!matches("*ab", "abx"));
        assert!(matches("aa*aa", "aaaa") && !matches("aa*aa", "aaa"));
    }

    #[test]
    fn numbers() {
        let list = [
            ("42", 42),
            ("0x1F", 31),
            ("017", 15),
            ("0", 0),
            ("1_000", 1000),
            ("1e6", 1_000_000),
            ("10UL", 10),
            ("0b101", 5),
            ("5us", 5000),
            ("1m", 60_000_000_000),
        ];
        for (text, value) in list {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", "x", "1x", "08", "-1", "1e99", "99999999999999999999", "1_", "0x", "e6"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
