//! Integers, durations and strings: a value, or a diagnostic that points at
//! the characters which are wrong.
//!
//! The rules are more lenient than bpftrace's: suffixes in any case and on
//! every base, `0b` literals, and any coefficient before an exponent.

use std::ops::Range;

use crate::diag::Diagnostic;
use crate::source::{FileId, Span};

/// Where a piece of text starts: byte `offset` of text `file`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub file: FileId,
    pub offset: usize,
}

impl Place {
    /// The span of a byte range of the piece.
    pub fn span(self, range: Range<usize>) -> Span {
        Span::new(self.file, self.offset + range.start, self.offset + range.end)
    }
}

/// Units of duration literals, in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The value of an integer literal without sign, also of a positional
/// parameter or a number in an attach point; `None` if it is not one.
pub fn value(text: &str) -> Option<u64> {
    text.starts_with(|c: char| c.is_ascii_digit())
        .then(|| int(text, Place::default()).ok())
        .flatten()
}

/// The value of an integer literal; durations are in nanoseconds.
///
/// `text` starts with a digit and holds digits, letters and `_` only.
///
/// # Errors
/// A diagnostic at the digit, the suffix or the whole literal.
pub fn int(text: &str, at: Place) -> Result<u64, Vec<Diagnostic>> {
    let (radix, start) = radix(text);
    let digits = run(text, start, |b| b == b'_' || is_digit(b, radix.max(10)));
    let end = start + digits.len();
    let number = digits_value(digits, radix).map_err(|problem| {
        vec![match problem {
            BadDigits::None => error(at, 0..text.len(), format!("`{text}` has no digits")),
            BadDigits::LastIsSeparator => {
                error(at, end - 1..end, "a number cannot end with `_`".to_owned())
            }
            BadDigits::Digit(i) => bad_digit(text, start + i, radix, at),
            BadDigits::TooLarge => too_large(text, at),
        }]
    })?;
    let (number, end) = match text.as_bytes().get(end) {
        Some(b'e' | b'E') if radix == 10 => scientific(text, number, end, at)?,
        _ => (number, end),
    };
    let suffix = text.get(end..).unwrap_or("");
    if let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == suffix && radix == 10) {
        return number.checked_mul(*scale).ok_or_else(|| {
            let error = error(at, 0..text.len(), "the duration is too long".to_owned());
            vec![error.at("more than 2^64 nanoseconds")]
        });
    }
    let largest = match suffix.to_ascii_lowercase().as_str() {
        "" | "ul" | "ull" | "lu" | "llu" => u64::MAX,
        "u" => u64::from(u32::MAX),
        "l" | "ll" => i64::MAX.unsigned_abs(),
        _ => {
            let message = format!("unknown suffix `{suffix}` on a number");
            return Err(vec![
                error(at, end..text.len(), message)
                    .help("suffixes are u, l, ul, ll, ull, and for times ns, us, ms, s, m, h, d"),
            ]);
        }
    };
    if number > largest {
        let error = error(at, 0..text.len(), "the number does not fit its suffix".to_owned());
        return Err(vec![error.at(format!("the largest with `{suffix}` is {largest}"))]);
    }
    Ok(number)
}

fn error(at: Place, range: Range<usize>, message: String) -> Diagnostic {
    Diagnostic::error(at.span(range), message)
}

/// The value of `number` with the exponent whose `e` is at `end`, and where the
/// exponent ends.
fn scientific(
    text: &str,
    number: u64,
    end: usize,
    at: Place,
) -> Result<(u64, usize), Vec<Diagnostic>> {
    let exponent = run(text, end + 1, |b| b.is_ascii_digit());
    if exponent.is_empty() {
        let error = error(at, end..text.len(), format!("`{text}` has no exponent"));
        let error = error.at("digits must follow");
        return Err(vec![error.note("numbers are whole, so an exponent has no sign")]);
    }
    // Ten to the twentieth does not fit, so longer exponents need not be read.
    let power = exponent.parse().ok().and_then(|e| 10u64.checked_pow(e));
    let value = if number == 0 { Some(0) } else { power.and_then(|p| number.checked_mul(p)) };
    match value {
        Some(value) => Ok((value, end + 1 + exponent.len())),
        None => Err(vec![too_large(text, at)]),
    }
}

/// The base of a literal, and where its digits start.
fn radix(text: &str) -> (u32, usize) {
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, 2),
        [b'0', b'b' | b'B', ..] => (2, 2),
        [b'0', b'0'..=b'9' | b'_', ..] => (8, 0),
        _ => (10, 0),
    }
}

enum BadDigits {
    None,
    LastIsSeparator,
    /// Index of a digit that the base does not have.
    Digit(usize),
    TooLarge,
}

fn digits_value(digits: &str, radix: u32) -> Result<u64, BadDigits> {
    if digits.bytes().all(|b| b == b'_') {
        return Err(BadDigits::None);
    }
    let mut number: Option<u64> = Some(0);
    for (i, b) in digits.bytes().enumerate().filter(|(_, b)| *b != b'_') {
        let digit = char::from(b).to_digit(radix).ok_or(BadDigits::Digit(i))?;
        number = number
            .and_then(|n| n.checked_mul(u64::from(radix)))
            .and_then(|n| n.checked_add(u64::from(digit)));
    }
    if digits.ends_with('_') {
        return Err(BadDigits::LastIsSeparator);
    }
    number.ok_or(BadDigits::TooLarge)
}

fn bad_digit(text: &str, index: usize, radix: u32, at: Place) -> Diagnostic {
    let digit = text.get(index..=index).unwrap_or("");
    let range = index..index + 1;
    if radix == 2 {
        return error(at, range, format!("`{digit}` is not a digit of a binary number"));
    }
    let error = error(at, range, format!("`{digit}` is not a digit of an octal number"));
    error.note("a leading `0` makes a number octal")
}

fn too_large(text: &str, at: Place) -> Diagnostic {
    Diagnostic::error(at.span(0..text.len()), "the number is too large")
        .at(format!("the largest is {}", u64::MAX))
}

fn is_digit(byte: u8, radix: u32) -> bool {
    char::from(byte).is_digit(radix)
}

/// The longest piece of `text` from `start` whose bytes all pass.
fn run(text: &str, start: usize, pass: impl Fn(u8) -> bool) -> &str {
    let rest = text.get(start..).unwrap_or("");
    let len = rest.bytes().take_while(|&b| pass(b)).count();
    rest.get(..len).unwrap_or("")
}

/// The bytes that a string literal stands for. `text` includes the quotes.
///
/// # Errors
/// One diagnostic per bad escape, at that escape.
pub fn string(text: &str, at: Place) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let body = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(body.len());
    let mut errors = Vec::new();
    let mut rest = body;
    while let Some(slash) = rest.find('\\') {
        bytes.extend_from_slice(rest.get(..slash).unwrap_or("").as_bytes());
        let escape = rest.get(slash..).unwrap_or("");
        let (len, value) = escaped(escape);
        match value {
            Ok(byte) => bytes.push(byte),
            Err(message) => {
                // One for the opening quote.
                let start = 1 + body.len() - escape.len();
                errors.push(Diagnostic::error(at.span(start..start + len), message).note(
                    "escapes are \\n, \\t, \\r, \\\", \\\\, \\x and 1 to 2 hexadecimal digits, \
                     or 1 to 3 octal digits",
                ));
            }
        }
        rest = escape.get(len..).unwrap_or("");
    }
    bytes.extend_from_slice(rest.as_bytes());
    if errors.is_empty() { Ok(bytes) } else { Err(errors) }
}

/// The length of the escape at the start of `text`, and its byte.
fn escaped(text: &str) -> (usize, Result<u8, String>) {
    let simple = |byte| (2, Ok(byte));
    match text.as_bytes().get(1).copied() {
        Some(b'n') => simple(b'\n'),
        Some(b't') => simple(b'\t'),
        Some(b'r') => simple(b'\r'),
        Some(b @ (b'"' | b'\\')) => simple(b),
        Some(b'x' | b'X') => {
            let digits = run(text, 2, |b| b.is_ascii_hexdigit());
            let digits = digits.get(..2).unwrap_or(digits);
            let value = u8::from_str_radix(digits, 16);
            (2 + digits.len(), value.map_err(|_| "`\\x` needs hexadecimal digits".to_owned()))
        }
        Some(b'0'..=b'7') => {
            let digits = run(text, 1, |b| is_digit(b, 8));
            let digits = digits.get(..3).unwrap_or(digits);
            let value = u8::from_str_radix(digits, 8);
            (1 + digits.len(), value.map_err(|_| format!("`\\{digits}` is more than a byte")))
        }
        _ => {
            let shown: String = text.chars().take(2).collect();
            (shown.len(), Err(format!("unknown escape `{shown}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn err(text: &str) -> (String, &str) {
        let d = int(text, Place::default()).expect_err(text).remove(0);
        let span = d.primary.expect("has a place").0;
        (d.message, &text[span.start as usize..span.end as usize])
    }

    #[test]
    fn integers() {
        let cases: [(&str, u64); 36] = [
            ("0", 0),
            ("42", 42),
            ("18446744073709551615", u64::MAX),
            ("0x1F", 31),
            ("0X1f", 31),
            ("0xffffffffffffffff", u64::MAX),
            ("017", 15),
            ("00", 0),
            ("0b101", 5),
            ("0B1_0", 2),
            ("1_000_000", 1_000_000),
            ("1__0", 10),
            ("1e6", 1_000_000),
            ("5E3", 5000),
            ("12e4", 120_000),
            ("1e0", 1),
            ("0e5", 0),
            ("0e99999999999", 0),
            ("1e19", 10_000_000_000_000_000_000),
            ("10u", 10),
            ("10ul", 10),
            ("10ull", 10),
            ("10l", 10),
            ("10ll", 10),
            ("10U", 10),
            ("10LL", 10),
            ("10ULL", 10),
            ("0x10UL", 16),
            ("017u", 15),
            ("10ns", 10),
            ("5us", 5000),
            ("3ms", 3_000_000),
            ("2s", 2_000_000_000),
            ("1m", 60_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
        ];
        for (text, want) in cases {
            assert_eq!(int(text, Place::default()), Ok(want), "{text}");
            assert_eq!(value(text), Some(want), "{text}");
        }
        assert_eq!(value(""), None);
        assert_eq!(value("abc"), None);
        assert_eq!(value("-1"), None);
    }

    #[test]
    fn bad_integers_point_at_the_characters() {
        let is = |text, message: &str, at| assert_eq!(err(text), (message.to_owned(), at));
        is("08", "`8` is not a digit of an octal number", "8");
        is("0b12", "`2` is not a digit of a binary number", "2");
        is("0x", "`0x` has no digits", "0x");
        is("0b", "`0b` has no digits", "0b");
        is("0x_", "`0x_` has no digits", "0x_");
        is("1_", "a number cannot end with `_`", "_");
        is("1_000_u", "a number cannot end with `_`", "_");
        is("12abc", "unknown suffix `abc` on a number", "abc");
        is("0xfg", "unknown suffix `g` on a number", "g");
        is("10S", "unknown suffix `S` on a number", "S");
        is("0x10ms", "unknown suffix `ms` on a number", "ms");
        is("1e", "`1e` has no exponent", "e");
        is("1e6e6", "unknown suffix `e6` on a number", "e6");
        is("18446744073709551616", "the number is too large", "18446744073709551616");
        is("1e20", "the number is too large", "1e20");
        is("2e19", "the number is too large", "2e19");
        is("1e99999999999", "the number is too large", "1e99999999999");
        is("4294967296u", "the number does not fit its suffix", "4294967296u");
        is("9223372036854775808l", "the number does not fit its suffix", "9223372036854775808l");
        is("99999999d", "the duration is too long", "99999999d");
    }

    #[test]
    fn strings() {
        let ok = |text: &str, want: &[u8]| {
            assert_eq!(string(text, Place::default()), Ok(want.to_vec()), "{text}");
        };
        ok(r#""""#, b"");
        ok(r#""abc""#, b"abc");
        ok(r#""\n\t\r\"\\""#, b"\n\t\r\"\\");
        ok(r#""\033[31m""#, b"\x1b[31m");
        ok(r#""\0""#, b"\0");
        ok(r#""\3777""#, b"\xff7");
        ok(r#""\x41\X4aa""#, b"AJa");
        ok(r#""\xfz""#, b"\x0fz");
        ok("\"\u{e9}\"", "\u{e9}".as_bytes());
    }

    #[test]
    fn bad_escapes_point_at_the_escape() {
        let errors = |text: &str| -> Vec<(String, String)> {
            let list = string(text, Place::default()).expect_err(text);
            let at = |d: &Diagnostic| d.primary.as_ref().expect("has a place").0;
            let cut = |s: Span| text[s.start as usize..s.end as usize].to_owned();
            list.iter().map(|d| (d.message.clone(), cut(at(d)))).collect()
        };
        let one = |m: &str, at: &str| (m.to_owned(), at.to_owned());
        assert_eq!(errors(r#""a\qb""#), [one("unknown escape `\\q`", "\\q")]);
        assert_eq!(errors("\"\\\u{e9}\""), [one("unknown escape `\\\u{e9}`", "\\\u{e9}")]);
        assert_eq!(
            errors(r#""\8 \xg \400""#),
            [
                one("unknown escape `\\8`", "\\8"),
                one("`\\x` needs hexadecimal digits", "\\x"),
                one("`\\400` is more than a byte", "\\400"),
            ]
        );
    }
}
