//! Bytes of the kernel side to values, by their [`Layout`].
//!
//! A [`Value`] borrows from the bytes and from the plan: nothing is allocated,
//! and parts of a composite are decoded when they are asked for. Decoding is
//! total: bytes that are missing count as zero, lengths are cut to what is
//! there. Numbers are in the byte order of this machine.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::{Field, Layout};
use crate::types::{Bits, StackMode};

/// One value as the script's user sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Int(Number),
    Bool(bool),
    /// `name` is absent for values that are no constant of the enum.
    Enum {
        number: Number,
        name: Option<&'a str>,
    },
    Pointer(u64),
    /// The bytes before the NUL; `cut` if there was none.
    Str {
        bytes: &'a [u8],
        cut: bool,
    },
    Buffer(&'a [u8]),
    Array(Elements<'a>),
    Tuple(Members<'a>),
    Record(Members<'a>),
    Stack(Stack),
    /// A kernel address.
    Ksym(u64),
    Usym {
        address: u64,
        pid: u32,
    },
    /// Absent for an address family that is neither 2 nor 10.
    Inet(Option<IpAddr>),
    Mac([u8; 6]),
    /// A user id.
    Username(u64),
    Timestamp {
        nanoseconds: u64,
        /// Index into the plan's time formats.
        format: u32,
        clock: u32,
    },
    CgroupPath {
        id: u64,
        /// Index into the plan's cgroup filters.
        filter: u64,
    },
    Stats {
        count: u64,
        average: Number,
        total: Number,
    },
    /// What cannot be shown.
    None,
}

/// A 64-bit integer that knows its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Signed(i64),
    Unsigned(u64),
}

/// The elements of an array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elements<'a> {
    of: &'a Layout,
    stride: usize,
    len: usize,
    bytes: &'a [u8],
}

/// The values of a tuple, a record or an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Members<'a> {
    fields: &'a [Field],
    bytes: &'a [u8],
}

/// A captured stack; its frames are in a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stack {
    pub user: bool,
    pub mode: StackMode,
    /// 0 for the kernel.
    pub pid: u32,
    /// How many frames it has.
    pub count: u16,
    /// How many it can have: names the table.
    pub limit: u16,
    /// The key in the table.
    pub id: u64,
}

/// Decodes one value at the start of `bytes`.
pub fn decode<'a>(layout: &'a Layout, bytes: &'a [u8]) -> Value<'a> {
    match layout {
        Layout::Int { size, signed } => {
            Value::Int(Number::of(word(bytes, 0, *size), *size, *signed))
        }
        Layout::Bool => Value::Bool(word(bytes, 0, 1) != 0),
        Layout::Enum { size, signed, names } => {
            enum_value(Number::of(word(bytes, 0, *size), *size, *signed), names)
        }
        Layout::Pointer => Value::Pointer(word(bytes, 0, 8)),
        Layout::Str { size } | Layout::Chars { size } => {
            let bytes = head(bytes, *size);
            let end = bytes.iter().position(|&b| b == 0);
            let cut = end.is_none() && matches!(layout, Layout::Str { .. });
            Value::Str { bytes: head(bytes, end.unwrap_or(bytes.len())), cut }
        }
        Layout::Buffer { size } => {
            let len = word(bytes, 0, 4).min(u64::from(*size));
            Value::Buffer(head(tail(bytes, 4), usize::try_from(len).unwrap_or(usize::MAX)))
        }
        Layout::Array { of, stride, len } => {
            let stride = *stride as usize;
            // An element of no bytes would let a length of 2^32 through.
            let there = bytes.len().checked_div(stride).unwrap_or(0);
            Value::Array(Elements { of, stride, len: there.min(*len as usize), bytes })
        }
        Layout::Tuple { fields, size } => {
            Value::Tuple(Members { fields, bytes: head(bytes, *size) })
        }
        Layout::Record { fields, size } => {
            Value::Record(Members { fields, bytes: head(bytes, *size) })
        }
        Layout::Stack { user, mode } => Value::Stack(Stack {
            user: *user,
            mode: *mode,
            pid: u32::try_from(word(bytes, 4, 4)).unwrap_or(0),
            count: u16::try_from(word(bytes, 0, 2)).unwrap_or(0),
            limit: u16::try_from(word(bytes, 2, 2)).unwrap_or(0),
            id: word(bytes, 8, 8),
        }),
        Layout::Ksym => Value::Ksym(word(bytes, 0, 8)),
        Layout::Usym => Value::Usym {
            address: word(bytes, 0, 8),
            pid: u32::try_from(word(bytes, 8, 4)).unwrap_or(0),
        },
        Layout::Inet => Value::Inet(match word(bytes, 0, 8) {
            2 => Some(IpAddr::V4(Ipv4Addr::from(copy(tail(bytes, 8))))),
            10 => Some(IpAddr::V6(Ipv6Addr::from(copy::<16>(tail(bytes, 8))))),
            _ => None,
        }),
        Layout::Mac => Value::Mac(copy(bytes)),
        Layout::Username => Value::Username(word(bytes, 0, 8)),
        Layout::Timestamp => Value::Timestamp {
            nanoseconds: word(bytes, 0, 8),
            format: u32::try_from(word(bytes, 8, 4)).unwrap_or(0),
            clock: u32::try_from(word(bytes, 12, 4)).unwrap_or(0),
        },
        Layout::CgroupPath => {
            Value::CgroupPath { id: word(bytes, 0, 8), filter: word(bytes, 8, 8) }
        }
        Layout::Unsupported { .. } => Value::None,
    }
}

/// Orders two keys of a map: numbers as signed 64-bit ones, text bytewise,
/// composites by their first different part, everything else by its bytes.
pub fn compare(layout: &Layout, a: &[u8], b: &[u8]) -> Ordering {
    match (decode(layout, a), decode(layout, b)) {
        (Value::Int(a), Value::Int(b))
        | (Value::Enum { number: a, .. }, Value::Enum { number: b, .. }) => {
            a.as_i64().cmp(&b.as_i64())
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(&b),
        (Value::Pointer(a), Value::Pointer(b))
        | (Value::Ksym(a), Value::Ksym(b))
        | (Value::Username(a), Value::Username(b)) => a.cmp(&b),
        (Value::Str { bytes: a, .. }, Value::Str { bytes: b, .. })
        | (Value::Buffer(a), Value::Buffer(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let parts = a.raw().zip(b.raw()).map(|(x, y)| compare(a.of, x, y));
            first_difference(parts).then(a.len.cmp(&b.len))
        }
        (Value::Tuple(a), Value::Tuple(b)) | (Value::Record(a), Value::Record(b)) => {
            first_difference(a.fields.iter().map(|f| compare_field(f, a.bytes, b.bytes)))
        }
        _ => head(a, layout.size()).cmp(head(b, layout.size())),
    }
}

impl Number {
    /// The lowest `size` bytes of `word`, read as a signed or unsigned number.
    pub fn of(word: u64, size: u8, signed: bool) -> Number {
        let unused = 64 - 8 * u32::from(size.clamp(1, 8));
        let high = word << unused;
        match signed {
            true => Number::Signed(high.cast_signed() >> unused),
            false => Number::Unsigned(high >> unused),
        }
    }

    /// The 64 bits.
    pub fn bits(self) -> u64 {
        match self {
            Number::Signed(n) => n.cast_unsigned(),
            Number::Unsigned(n) => n,
        }
    }

    /// The 64 bits as a signed number.
    pub fn as_i64(self) -> i64 {
        self.bits().cast_signed()
    }

    /// Integer division toward zero; by zero gives the number itself.
    #[must_use]
    pub fn divided(self, by: u64) -> Number {
        match self {
            // A divisor beyond i64 leaves nothing of any signed number.
            Number::Signed(n) if by != 0 => {
                Number::Signed(i64::try_from(by).map_or(0, |by| n.wrapping_div(by)))
            }
            Number::Unsigned(n) => Number::Unsigned(n.checked_div(by).unwrap_or(n)),
            Number::Signed(_) => self,
        }
    }

    /// Whether a double holds the number exactly.
    pub fn fits_double(self) -> bool {
        let magnitude = match self {
            Number::Signed(n) => n.unsigned_abs(),
            Number::Unsigned(n) => n,
        };
        64 - magnitude.leading_zeros() <= 53 + magnitude.trailing_zeros()
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        let wide = |n: &Number| match *n {
            Number::Signed(n) => i128::from(n),
            Number::Unsigned(n) => i128::from(n),
        };
        wide(self).cmp(&wide(other))
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Signed(n) => n.fmt(f),
            Number::Unsigned(n) => n.fmt(f),
        }
    }
}

impl<'a> Elements<'a> {
    /// The elements in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let of = self.of;
        self.raw().map(move |bytes| decode(of, bytes))
    }

    fn raw(self) -> impl Iterator<Item = &'a [u8]> {
        // A stride of zero never gets here with elements: `len` is zero then.
        self.bytes.chunks_exact(self.stride.max(1)).take(self.len)
    }
}

impl<'a> Members<'a> {
    /// The values of an event's record, header included in `record`.
    pub fn of(fields: &'a [Field], record: &'a [u8]) -> Members<'a> {
        Members { fields, bytes: record }
    }

    /// Each name (empty in tuples and events) and value in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.fields.iter().map(move |f| (f.name.as_str(), field(f, self.bytes)))
    }

    /// The first value, if there is one.
    pub fn first(self) -> Option<Value<'a>> {
        self.fields.first().map(|f| field(f, self.bytes))
    }
}

/// Decodes a member, bit fields included.
fn field<'a>(field: &'a Field, bytes: &'a [u8]) -> Value<'a> {
    let bytes = tail(bytes, field.offset as usize);
    match (&field.bits, &field.layout) {
        (Some(bits), Layout::Int { size, signed }) => {
            Value::Int(Number::of(bit_field(*bits, bytes), *size, *signed))
        }
        (Some(bits), Layout::Enum { size, signed, names }) => {
            enum_value(Number::of(bit_field(*bits, bytes), *size, *signed), names)
        }
        (Some(bits), Layout::Bool) => Value::Bool(bit_field(*bits, bytes) != 0),
        (_, layout) => decode(layout, bytes),
    }
}

fn compare_field(field: &Field, a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (tail(a, field.offset as usize), tail(b, field.offset as usize));
    match field.bits {
        Some(bits) => bit_field(bits, a).cmp(&bit_field(bits, b)),
        None => compare(&field.layout, a, b),
    }
}

fn first_difference(mut parts: impl Iterator<Item = Ordering>) -> Ordering {
    parts.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

fn bit_field(bits: Bits, bytes: &[u8]) -> u64 {
    let shifted = word(bytes, 0, bits.size).checked_shr(u32::from(bits.shift)).unwrap_or(0);
    match bits.width {
        0 => 0,
        width => shifted & (u64::MAX >> (64 - u32::from(width.min(64)))),
    }
}

fn enum_value(number: Number, names: &[(i64, String)]) -> Value<'_> {
    let wanted = number.as_i64();
    let name = names.iter().find(|(n, _)| *n == wanted).map(|(_, name)| name.as_str());
    Value::Enum { number, name }
}

/// Up to eight bytes at `offset` as a number; missing bytes are zero.
pub(crate) fn word(bytes: &[u8], offset: usize, size: u8) -> u64 {
    let mut all = [0; 8];
    let there = head(tail(bytes, offset), usize::from(size.min(8)));
    for (to, from) in all.iter_mut().zip(there) {
        *to = *from;
    }
    // The traced machines are little endian, and so must this one be.
    u64::from_le_bytes(all)
}

fn copy<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    all
}

fn head(bytes: &[u8], len: impl TryInto<usize>) -> &[u8] {
    bytes.get(..len.try_into().unwrap_or(usize::MAX)).unwrap_or(bytes)
}

fn tail(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(size: u8, signed: bool) -> Layout {
        Layout::Int { size, signed }
    }

    fn at(offset: u32, layout: Layout) -> Field {
        Field { name: String::new(), offset, layout, bits: None }
    }

    #[test]
    fn integers_know_their_size_and_sign() {
        let minus = (-2i64).to_ne_bytes();
        assert_eq!(decode(&int(8, true), &minus), Value::Int(Number::Signed(-2)));
        assert_eq!(decode(&int(4, true), &minus), Value::Int(Number::Signed(-2)));
        assert_eq!(decode(&int(1, false), &minus), Value::Int(Number::Unsigned(254)));
        assert_eq!(decode(&int(2, false), &minus), Value::Int(Number::Unsigned(65534)));
    }

    #[test]
    fn strings_end_at_the_first_nul_or_are_cut() {
        let layout = Layout::Str { size: 4 };
        assert_eq!(decode(&layout, b"ab\0d"), Value::Str { bytes: b"ab", cut: false });
        assert_eq!(decode(&layout, b"abcd"), Value::Str { bytes: b"abcd", cut: true });
        let layout = Layout::Chars { size: 4 };
        assert_eq!(decode(&layout, b"ab\0d"), Value::Str { bytes: b"ab", cut: false });
        assert_eq!(decode(&layout, b"abcd"), Value::Str { bytes: b"abcd", cut: false });
    }

    #[test]
    fn buffers_are_as_long_as_they_say_but_not_longer_than_their_room() {
        let layout = Layout::Buffer { size: 4 };
        assert_eq!(decode(&layout, b"\x02\0\0\0abcd"), Value::Buffer(b"ab"));
        assert_eq!(decode(&layout, b"\xff\xff\xff\xffabcdef"), Value::Buffer(b"abcd"));
    }

    #[test]
    fn bit_fields_are_shifted_and_masked() {
        let bits = |shift, width| Some(Bits { size: 4, shift, width });
        let fields = vec![
            Field { name: "a".into(), offset: 0, layout: int(4, false), bits: bits(0, 3) },
            Field { name: "b".into(), offset: 0, layout: int(4, false), bits: bits(3, 5) },
            Field { name: "c".into(), offset: 0, layout: int(4, true), bits: bits(0, 32) },
            Field { name: "d".into(), offset: 0, layout: Layout::Bool, bits: bits(31, 1) },
        ];
        let layout = Layout::Record { fields, size: 4 };
        let bytes = 0x8000_00fdu32.to_ne_bytes();
        let Value::Record(members) = decode(&layout, &bytes) else { panic!("a record") };
        let values: Vec<_> = members.iter().collect();
        assert_eq!(
            values,
            [
                ("a", Value::Int(Number::Unsigned(5))),
                ("b", Value::Int(Number::Unsigned(31))),
                ("c", Value::Int(Number::Signed(-2_147_483_395))),
                ("d", Value::Bool(true)),
            ]
        );
    }

    #[test]
    fn enums_have_names() {
        let layout = Layout::Enum { size: 4, signed: true, names: vec![(-1, "NO".into())] };
        let value = decode(&layout, &[0xff; 4]);
        assert_eq!(value, Value::Enum { number: Number::Signed(-1), name: Some("NO") });
        let value = decode(&layout, &[2, 0, 0, 0]);
        assert_eq!(value, Value::Enum { number: Number::Signed(2), name: None });
    }

    #[test]
    fn stacks_say_where_their_frames_are() {
        let layout = Layout::Stack { user: true, mode: StackMode::Perf };
        let bytes = [2, 0, 127, 0, 7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let stack = Stack {
            user: true,
            mode: StackMode::Perf,
            pid: 7,
            count: 2,
            limit: 127,
            id: u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]),
        };
        assert_eq!(decode(&layout, &bytes), Value::Stack(stack));
    }

    #[test]
    fn addresses_of_both_families() {
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1];
        assert_eq!(decode(&Layout::Inet, &bytes), Value::Inet("127.0.0.1".parse().ok()));
        bytes = vec![10, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0; 15]);
        bytes.push(1);
        assert_eq!(decode(&Layout::Inet, &bytes), Value::Inet("::1".parse().ok()));
        assert_eq!(decode(&Layout::Inet, &[1, 0]), Value::Inet(None));
    }

    #[test]
    fn short_and_hostile_bytes_never_panic() {
        let layouts = [
            int(8, true),
            Layout::Bool,
            Layout::Pointer,
            Layout::Str { size: 1024 },
            Layout::Buffer { size: u32::MAX },
            Layout::Array { of: Box::new(int(8, true)), stride: 8, len: u32::MAX },
            Layout::Array { of: Box::new(int(8, true)), stride: 0, len: u32::MAX },
            Layout::Tuple { fields: vec![at(4, Layout::Inet), at(900, Layout::Mac)], size: 8 },
            Layout::Stack { user: false, mode: StackMode::Raw },
            Layout::Usym,
            Layout::Inet,
            Layout::Mac,
            Layout::Timestamp,
            Layout::CgroupPath,
            Layout::Unsupported { size: 9 },
        ];
        for layout in &layouts {
            for len in 0..40 {
                let bytes = vec![0xff; len];
                match decode(layout, &bytes) {
                    Value::Array(elements) => assert!(elements.iter().count() <= 5),
                    Value::Tuple(members) => assert_eq!(members.iter().count(), 2),
                    _ => {}
                }
                assert_eq!(compare(layout, &bytes, &bytes), Ordering::Equal);
            }
        }
    }

    #[test]
    fn keys_are_ordered_part_by_part() {
        let layout = Layout::Tuple {
            fields: vec![at(0, Layout::Str { size: 4 }), at(4, int(4, true))],
            size: 8,
        };
        let key = |text: &[u8; 4], n: i32| [&text[..], &n.to_ne_bytes()[..]].concat();
        let order = |a: &[u8], b: &[u8]| compare(&layout, a, b);
        assert_eq!(order(&key(b"ab\0\0", 9), &key(b"b\0\0\0", 1)), Ordering::Less);
        assert_eq!(order(&key(b"ab\0\0", 9), &key(b"ab\0\0", -1)), Ordering::Greater);
        // What follows the NUL is not text.
        assert_eq!(order(&key(b"ab\0x", 9), &key(b"ab\0y", 9)), Ordering::Equal);
        assert_eq!(compare(&int(2, true), &[0xff, 0xff], &[1, 0]), Ordering::Less);
        assert_eq!(compare(&int(2, false), &[0xff, 0xff], &[1, 0]), Ordering::Greater);
    }

    #[test]
    fn division_keeps_the_sign() {
        assert_eq!(Number::Signed(-7).divided(2), Number::Signed(-3));
        assert_eq!(Number::Signed(-7).divided(u64::MAX), Number::Signed(0));
        assert_eq!(Number::Unsigned(7).divided(0), Number::Unsigned(7));
        assert_eq!(Number::Signed(i64::MIN).divided(1), Number::Signed(i64::MIN));
    }

    #[test]
    fn doubles_hold_53_bits() {
        assert!(Number::Unsigned(1 << 53).fits_double());
        assert!(!Number::Unsigned((1 << 53) + 1).fits_double());
        assert!(Number::Unsigned(1 << 63).fits_double());
        assert!(!Number::Unsigned(u64::MAX).fits_double());
        assert!(Number::Signed(i64::MIN).fits_double());
        assert!(Number::Signed(0).fits_double());
    }
}
