//! printf conversions (output.md §7) over decoded values.

use std::io::Write as _;

use crate::plan::{Conversion, ConversionKind, Format, Piece};
use crate::runtime::decode::{Members, Number, Value};
use crate::runtime::output::text::{self, Context};

const MEMORY: &str = "bug: memory takes every write";

/// Names of kernel allocation flags (include/trace/events/mmflags.h): what
/// covers most bits comes first. Bits are those of Linux 5.10 and later.
const GFP: [(u64, &str); 37] = [
    (0x1c_24ca, "GFP_TRANSHUGE"),
    (0x1c_20ca, "GFP_TRANSHUGE_LIGHT"),
    (0x10_0cca, "GFP_HIGHUSER_MOVABLE"),
    (0x10_0cc2, "GFP_HIGHUSER"),
    (0x10_0cc0, "GFP_USER"),
    (0x40_0cc0, "GFP_KERNEL_ACCOUNT"),
    (0xcc0, "GFP_KERNEL"),
    (0xc40, "GFP_NOFS"),
    // With the bit that Linux 6.3 took away, and without.
    (0xa20, "GFP_ATOMIC"),
    (0x820, "GFP_ATOMIC"),
    (0xc00, "GFP_NOIO"),
    (0x800, "GFP_NOWAIT"),
    (0x1, "GFP_DMA"),
    (0x2, "__GFP_HIGHMEM"),
    (0x4, "GFP_DMA32"),
    (0x8, "__GFP_MOVABLE"),
    (0x10, "__GFP_RECLAIMABLE"),
    (0x20, "__GFP_HIGH"),
    (0x40, "__GFP_IO"),
    (0x80, "__GFP_FS"),
    (0x100, "__GFP_ZERO"),
    (0x200, "__GFP_ATOMIC"),
    (0x400, "__GFP_DIRECT_RECLAIM"),
    (0x1000, "__GFP_WRITE"),
    (0x2000, "__GFP_NOWARN"),
    (0x4000, "__GFP_RETRY_MAYFAIL"),
    (0x8000, "__GFP_NOFAIL"),
    (0x1_0000, "__GFP_NORETRY"),
    (0x2_0000, "__GFP_MEMALLOC"),
    (0x4_0000, "__GFP_COMP"),
    (0x8_0000, "__GFP_NOMEMALLOC"),
    (0x10_0000, "__GFP_HARDWALL"),
    (0x20_0000, "__GFP_THISNODE"),
    (0x40_0000, "__GFP_ACCOUNT"),
    (0x80_0000, "__GFP_ZEROTAGS"),
    (0x100_0000, "__GFP_SKIP_ZERO"),
    (0x200_0000, "__GFP_SKIP_KASAN"),
];

/// Appends a formatted text; conversions consume the values in order.
pub fn format(out: &mut Vec<u8>, format: &Format, values: Members<'_>, cx: &mut Context) {
    let mut values = values.iter();
    for piece in &format.pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Value(conversion) => match values.next() {
                Some((_, value)) => convert(out, conversion, &value, cx),
                None => out.extend_from_slice(b"!{no value}"),
            },
        }
    }
}

fn convert(out: &mut Vec<u8>, conversion: &Conversion, value: &Value<'_>, cx: &mut Context) {
    let start = out.len();
    let kind = conversion.kind;
    match (kind, bytes(value), bits(value)) {
        (ConversionKind::Text, _, _) => {
            let Some(precision) = conversion.precision else {
                text::value(out, value, 1, cx);
                return pad(out, start, conversion);
            };
            // Bytes of the value are cut, not of what stands for some of them.
            let guarded = std::mem::replace(&mut cx.guarded, false);
            text::value(out, value, 1, cx);
            cx.guarded = guarded;
            out.truncate(start.saturating_add(precision as usize));
            let cut = out.split_off(start.min(out.len()));
            text::foreign(out, &cut, guarded);
        }
        (ConversionKind::Bytes, Some(bytes), _) => text::escaped(out, bytes),
        (ConversionKind::EscapedBytes, Some(bytes), _) => {
            bytes.iter().for_each(|b| write!(out, "\\x{b:02x}").expect(MEMORY));
        }
        (ConversionKind::HexBytes, Some(bytes), _) => {
            for (i, byte) in bytes.iter().enumerate() {
                write!(out, "{}{byte:02x}", if i > 0 { " " } else { "" }).expect(MEMORY);
            }
        }
        (
            ConversionKind::Bytes | ConversionKind::EscapedBytes | ConversionKind::HexBytes,
            None,
            _,
        ) => out.extend_from_slice(b"!{not a buffer}"),
        (_, _, None) => out.extend_from_slice(b"!{not a number}"),
        (ConversionKind::Char, _, Some(bits)) => {
            let byte = u8::try_from(bits & 0xff).unwrap_or(0);
            text::foreign(out, &[byte], cx.guarded);
        }
        (ConversionKind::GfpFlags, _, Some(bits)) => gfp(out, bits),
        (_, _, Some(bits)) => return integer(out, conversion, bits),
    }
    pad(out, start, conversion);
}

/// Appends an integer with sign, prefix, width and zeros.
fn integer(out: &mut Vec<u8>, c: &Conversion, bits: u64) {
    let number = Number::of(bits, c.bytes, c.kind == ConversionKind::Signed);
    let (negative, magnitude) = match number {
        Number::Signed(n) => (n < 0, n.unsigned_abs()),
        Number::Unsigned(n) => (false, n),
    };
    let start = out.len();
    // Base prefixes, like C's, are left away for zero.
    let prefix: &[u8] = match c.kind {
        _ if magnitude == 0 => b"",
        ConversionKind::Hex if c.alternate => b"0x",
        ConversionKind::UpperHex if c.alternate => b"0X",
        ConversionKind::Octal if c.alternate => b"0",
        ConversionKind::Pointer => b"0x",
        _ => b"",
    };
    match (negative, c.plus) {
        (true, _) => out.push(b'-'),
        (false, true) => out.push(b'+'),
        (false, false) => {}
    }
    out.extend_from_slice(prefix);
    let digits = out.len();
    match c.kind {
        ConversionKind::Octal => write!(out, "{magnitude:o}"),
        ConversionKind::Hex | ConversionKind::Pointer => write!(out, "{magnitude:x}"),
        ConversionKind::UpperHex => write!(out, "{magnitude:X}"),
        _ => write!(out, "{magnitude}"),
    }
    .expect(MEMORY);
    if c.zero && !c.left {
        insert(out, digits, missing(out, start, c), b'0');
    }
    pad(out, start, c);
}

/// Fills what was appended since `start` up to the width with blanks.
fn pad(out: &mut Vec<u8>, start: usize, c: &Conversion) {
    let count = missing(out, start, c);
    match c.left {
        true => out.resize(out.len() + count, b' '),
        false => insert(out, start, count, b' '),
    }
}

fn missing(out: &[u8], start: usize, c: &Conversion) -> usize {
    (c.width as usize).saturating_sub(out.len() - start)
}

fn insert(out: &mut Vec<u8>, at: usize, count: usize, byte: u8) {
    if count > 0 {
        out.resize(out.len() + count, byte);
        if let Some(tail) = out.get_mut(at..) {
            tail.rotate_right(count);
        }
    }
}

/// What integer conversions take: the 64 bits of a number or an address.
fn bits(value: &Value<'_>) -> Option<u64> {
    match *value {
        Value::Int(n) | Value::Enum { number: n, .. } => Some(n.bits()),
        Value::Bool(b) => Some(u64::from(b)),
        Value::Pointer(n)
        | Value::Ksym(n)
        | Value::Usym { address: n, .. }
        | Value::Username(n) => Some(n),
        Value::Str { .. }
        | Value::Buffer(_)
        | Value::Array(_)
        | Value::Tuple(_)
        | Value::Record(_)
        | Value::Stack(_)
        | Value::Inet(_)
        | Value::Mac(_)
        | Value::Timestamp { .. }
        | Value::CgroupPath { .. }
        | Value::Stats { .. }
        | Value::None => None,
    }
}

fn bytes<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    match *value {
        Value::Buffer(bytes) | Value::Str { bytes, .. } => Some(bytes),
        _ => None,
    }
}

/// Names of the flags joined by `|`, what is left as hex, 0 for none.
fn gfp(out: &mut Vec<u8>, flags: u64) {
    let mut left = flags;
    let mut separator = "";
    for (mask, name) in GFP {
        if left & mask == mask {
            left &= !mask;
            write!(out, "{separator}{name}").expect(MEMORY);
            separator = "|";
        }
    }
    match left {
        0 if flags != 0 => Ok(()),
        0 => write!(out, "0"),
        left => write!(out, "{separator}{left:#x}"),
    }
    .expect(MEMORY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Field, Layout};
    use crate::runtime::output::tests::context;

    /// A conversion as it is written in a script, without the percent sign.
    fn conversion(spec: &str) -> Conversion {
        let flags: String = spec.chars().take_while(|c| "-0+#".contains(*c)).collect();
        let rest = &spec[flags.len()..];
        let letters = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let (width, precision) = match rest[..rest.len() - letters.len()].split_once('.') {
            Some((w, p)) => (w, Some(p.parse().unwrap())),
            None => (&rest[..rest.len() - letters.len()], None),
        };
        let (bytes, letters) = match letters {
            l if l.starts_with("hh") => (1, &l[2..]),
            l if l.starts_with('h') => (2, &l[1..]),
            l if l.starts_with("ll") => (8, &l[2..]),
            l if l.starts_with('l') => (8, &l[1..]),
            "p" => (8, letters),
            l => (4, l),
        };
        let kind = match letters {
            "d" => ConversionKind::Signed,
            "u" => ConversionKind::Unsigned,
            "o" => ConversionKind::Octal,
            "x" => ConversionKind::Hex,
            "X" => ConversionKind::UpperHex,
            "c" => ConversionKind::Char,
            "p" => ConversionKind::Pointer,
            "s" => ConversionKind::Text,
            "r" => ConversionKind::Bytes,
            "rx" => ConversionKind::EscapedBytes,
            "rh" => ConversionKind::HexBytes,
            "gr" => ConversionKind::GfpFlags,
            other => panic!("{other}"),
        };
        Conversion {
            left: flags.contains('-'),
            zero: flags.contains('0'),
            plus: flags.contains('+'),
            alternate: flags.contains('#'),
            width: width.parse().unwrap_or(0),
            precision,
            bytes,
            kind,
        }
    }

    fn shown(spec: &str, layout: Layout, bytes: &[u8]) -> String {
        let field = [Field { name: String::new(), offset: 0, layout, bits: None }];
        let pieces = vec![Piece::Value(conversion(spec)), Piece::Text("|".into())];
        let mut out = b">".to_vec();
        format(&mut out, &Format { pieces }, Members::of(&field, bytes), &mut context());
        String::from_utf8(out).unwrap().strip_prefix('>').unwrap().strip_suffix('|').unwrap().into()
    }

    fn int(spec: &str, n: i64) -> String {
        shown(spec, Layout::Int { size: 8, signed: true }, &n.to_ne_bytes())
    }

    fn str(spec: &str, text: &str) -> String {
        shown(spec, Layout::Str { size: 16 }, format!("{text}\0").as_bytes())
    }

    #[test]
    fn integers_are_cut_to_the_length() {
        assert_eq!(int("d", 0x1_0000_0005), "5");
        assert_eq!(int("d", 0xffff_ffff), "-1");
        assert_eq!(int("u", -1), "4294967295");
        assert_eq!(int("lu", -1), "18446744073709551615");
        assert_eq!(int("lld", -1), "-1");
        assert_eq!(int("hhd", 255), "-1");
        assert_eq!(int("hu", -1), "65535");
        assert_eq!(int("x", -1), "ffffffff");
        assert_eq!(int("llx", 0xdead_beef_1234), "deadbeef1234");
        assert_eq!(int("o", 8), "10");
        assert_eq!(int("X", 0xab), "AB");
    }

    #[test]
    fn flags_and_widths() {
        assert_eq!(int("5d", 42), "   42");
        assert_eq!(int("-5d", 42), "42   ");
        assert_eq!(int("05d", -42), "-0042");
        assert_eq!(int("-05d", 42), "42   ");
        assert_eq!(int("+d", 42), "+42");
        assert_eq!(int("+u", 42), "+42");
        assert_eq!(int("+d", -42), "-42");
        assert_eq!(int("#x", 255), "0xff");
        assert_eq!(int("#X", 255), "0XFF");
        assert_eq!(int("#o", 8), "010");
        assert_eq!(int("#x", 0), "0");
        assert_eq!(int("#08x", 255), "0x0000ff");
        assert_eq!(int("08x", 255), "000000ff");
        assert_eq!(int("2d", 12345), "12345");
        // Without effect on integers.
        assert_eq!(int(".3d", 5), "5");
    }

    #[test]
    fn characters_and_pointers() {
        assert_eq!(int("c", 65), "A");
        assert_eq!(int("3c", 65), "  A");
        assert_eq!(int("p", 0), "0");
        assert_eq!(int("p", -1), "0xffffffffffffffff");
        assert_eq!(int("10p", 0x12), "      0x12");
    }

    #[test]
    fn texts_are_padded_and_cut() {
        assert_eq!(str("s", "bash"), "bash");
        assert_eq!(str("6s", "bash"), "  bash");
        assert_eq!(str("-6s", "bash"), "bash  ");
        assert_eq!(str("06s", "bash"), "  bash");
        assert_eq!(str(".2s", "bash"), "ba");
        assert_eq!(str("-4.2s", "bash"), "ba  ");
        assert_eq!(str("-10.10s", "a long command"), "a long com");
        assert_eq!(str(".0s", "bash"), "");
        assert_eq!(int("s", -3), "-3");
        assert_eq!(int("4s", 7), "   7");
    }

    #[test]
    fn buffers_in_three_ways() {
        let buffer = |spec| shown(spec, Layout::Buffer { size: 8 }, b"\x04\0\0\0ab\0\xff");
        assert_eq!(buffer("r"), "ab\\x00\\xff");
        assert_eq!(buffer("rx"), "\\x61\\x62\\x00\\xff");
        assert_eq!(buffer("rh"), "61 62 00 ff");
        assert_eq!(buffer("s"), "ab\\x00\\xff");
    }

    #[test]
    fn what_cannot_be_converted_says_so() {
        assert_eq!(str("d", "bash"), "!{not a number}");
        assert_eq!(int("r", 5), "!{not a buffer}");
        let mut out = Vec::new();
        let pieces = vec![Piece::Value(conversion("d"))];
        format(&mut out, &Format { pieces }, Members::of(&[], &[]), &mut context());
        assert_eq!(out, b"!{no value}");
    }

    #[test]
    fn enums_are_names_as_text_and_numbers_else() {
        let layout = || Layout::Enum { size: 4, signed: false, names: vec![(2, "TWO".into())] };
        assert_eq!(shown("s", layout(), &[2, 0, 0, 0]), "TWO");
        assert_eq!(shown("d", layout(), &[2, 0, 0, 0]), "2");
        assert_eq!(shown("s", layout(), &[3, 0, 0, 0]), "3");
        assert_eq!(shown("d", Layout::Bool, &[1]), "1");
        assert_eq!(shown("s", Layout::Bool, &[1]), "true");
    }

    #[test]
    fn allocation_flags_as_the_kernel_names_them() {
        for (flags, expected) in [
            (0, "0"),
            (0xcc0, "GFP_KERNEL"),
            (0xdc0, "GFP_KERNEL|__GFP_ZERO"),
            (0x820, "GFP_ATOMIC"),
            (0xa20, "GFP_ATOMIC"),
            (0x10_0cca, "GFP_HIGHUSER_MOVABLE"),
            (0x14_0cca, "GFP_HIGHUSER_MOVABLE|__GFP_COMP"),
            (0x1c_24ca, "GFP_TRANSHUGE"),
            (0x40_0dc0, "GFP_KERNEL_ACCOUNT|__GFP_ZERO"),
            (0x2c00, "GFP_NOIO|__GFP_NOWARN"),
            (0x400, "__GFP_DIRECT_RECLAIM"),
            (0x8000_0cc0, "GFP_KERNEL|0x80000000"),
            (0x8000_0000, "0x80000000"),
        ] {
            assert_eq!(int("gr", flags), expected);
        }
    }
}
