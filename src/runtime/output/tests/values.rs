//! Values, byte for byte (output.md §3).

use super::*;

#[test]
fn numbers() {
    check(&U64, &words(&[5]), "5", "5");
    check(&I32, &(-5i32).to_ne_bytes(), "-5", "-5");
    check(&U64, &words(&[u64::MAX]), "18446744073709551615", "\"18446744073709551615\"");
    check(&U64, &words(&[1 << 53]), "9007199254740992", "9007199254740992");
    check(&U64, &words(&[(1 << 53) + 1]), "9007199254740993", "\"9007199254740993\"");
    check(&Layout::Bool, &[1], "true", "true");
    check(&Layout::Bool, &[0], "false", "false");
    let names = vec![(1, "ONE".to_string())];
    let e = Layout::Enum { size: 4, signed: false, names };
    check(&e, &[1, 0, 0, 0], "ONE", "1");
    check(&e, &[2, 0, 0, 0], "2", "2");
    check(&Layout::Pointer, &words(&[0xab_cdef]), "0xabcdef", "11259375");
    check(&Layout::Pointer, &words(&[0]), "0x0", "0");
}

#[test]
fn strings_and_buffers() {
    check(&Layout::Str { size: 5 }, b"bash\0", "bash", "\"bash\"");
    check(&Layout::Str { size: 4 }, b"bash", "bash..", "\"bash..\"");
    check(&Layout::Buffer { size: 4 }, b"\x03\0\0\0a\n\xff", "a\\x0a\\xff", "[97,10,-1]");
    let odd = b"a\"\\\n\r\t\x01\xc3\xa9\xff\x7f\xc2\x9b\0";
    let json = "\"a\\\"\\\\\\n\\r\\t\\u0001\u{e9}\\uefff\\u007f\\u009b\"";
    assert_eq!(value(&Layout::Str { size: 32 }, odd).1, json);
}

#[test]
fn json_keeps_every_byte() {
    let all: Vec<u8> = (0..=255).collect();
    let private = "\u{ef7f}\u{ef80}\u{efff}\u{f000}".as_bytes().to_vec();
    let split = "caf\u{e9}".as_bytes()[..4].to_vec();
    for bytes in [all, private, split, b"\xee\xbe".to_vec(), vec![]] {
        let mut out = Vec::new();
        json::string(&mut out, &bytes);
        let text = String::from_utf8(out).expect("JSON is UTF-8");
        let read: String = serde_json::from_str(&text).expect(&text);
        assert_eq!(json::bytes(&read), bytes, "{text}");
    }
}

#[test]
fn composites() {
    let fields = vec![field("", 0, I32), field("", 4, Layout::Str { size: 4 })];
    let tuple = Layout::Tuple { fields, size: 8 };
    check(&tuple, b"\x01\0\0\0ab\0\0", "(1, ab)", "[1,\"ab\"]");
    let one = Layout::Tuple { fields: vec![field("", 0, I32)], size: 4 };
    check(&one, &[1, 0, 0, 0], "(1)", "[1]");
    check(&Layout::Tuple { fields: vec![], size: 0 }, &[], "()", "[]");
    let array = Layout::Array { of: Box::new(I32), stride: 4, len: 3 };
    check(&array, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0], "[1,2,3]", "[1,2,3]");
    let record = Layout::Record { fields: vec![field("x", 0, I32), field("y", 4, I32)], size: 8 };
    let bytes = [1, 0, 0, 0, 2, 0, 0, 0];
    check(&record, &bytes, "{ .x = 1, .y = 2 }", "{\"x\": 1, \"y\": 2}");
    check(&Layout::Record { fields: vec![], size: 0 }, &[], "{}", "{}");
    check(&Layout::Unsupported { size: 8 }, &[0; 8], "null", "null");
}

#[test]
fn addresses_and_names() {
    let v4 = [2, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7];
    check(&Layout::Inet, &v4, "10.0.0.7", "\"10.0.0.7\"");
    let v6 = |tail: [u8; 16]| [&[10, 0, 0, 0, 0, 0, 0, 0], &tail[..]].concat();
    let mut bytes = [0; 16];
    bytes[15] = 1;
    check(&Layout::Inet, &v6(bytes), "::1", "\"::1\"");
    bytes[12] = 127;
    check(&Layout::Inet, &v6(bytes), "::127.0.0.1", "\"::127.0.0.1\"");
    (bytes[10], bytes[11]) = (255, 255);
    check(&Layout::Inet, &v6(bytes), "::ffff:127.0.0.1", "\"::ffff:127.0.0.1\"");
    check(&Layout::Inet, &v6([0; 16]), "::", "\"::\"");
    let mac = [0xaa, 0xbb, 0xcc, 0xdd, 0x0e, 0xff];
    check(&Layout::Mac, &mac, "AA:BB:CC:DD:0E:FF", "\"AA:BB:CC:DD:0E:FF\"");
    check(&Layout::Username, &words(&[0]), "root", "\"root\"");
    check(&Layout::Username, &words(&[77]), "", "\"\"");
    check(&Layout::Ksym, &words(&[0x10]), "vfs_read", "\"vfs_read\"");
    let unknown = words(&[0xffff_ffff_0000_0000]);
    check(&Layout::Ksym, &unknown, "0xffffffff00000000", "\"0xffffffff00000000\"");
    check(&Layout::Usym, &words(&[0x30, 42]), "main", "\"main\"");
    check(&Layout::Usym, &words(&[0x31, 42]), "0x31", "\"0x31\"");
    check(&Layout::CgroupPath, &words(&[7, 0]), "unified:/7,cpu:/x", "\"unified:/7,cpu:/x\"");
}

#[test]
fn timestamps() {
    check(&Layout::Timestamp, &words(&[1_000_002_000, 0]), "6.000002", "\"6.000002\"");
    // A clock that does not exist.
    check(&Layout::Timestamp, &words(&[1, 9 << 32]), "(?)", "\"(?)\"");
}

#[test]
fn any_bytes_can_be_shown() {
    let part = |offset, layout| field("x", offset, layout);
    let names = vec![(1, "ONE".to_string())];
    let layouts = [
        Layout::Int { size: 2, signed: true },
        Layout::Enum { size: 1, signed: false, names },
        Layout::Pointer,
        Layout::Str { size: 24 },
        Layout::Buffer { size: 24 },
        Layout::Array { of: Box::new(U64), stride: 8, len: 3 },
        Layout::Inet,
        Layout::Mac,
        Layout::Usym,
        Layout::Timestamp,
        Layout::CgroupPath,
        kstack(StackMode::Perf),
    ];
    let record =
        Layout::Record { fields: layouts.iter().cloned().map(|l| part(1, l)).collect(), size: 32 };
    let mut state = 1u64;
    for round in 0..400 {
        let bytes: Vec<u8> = (0..round % 40)
            .map(|_| {
                // The constants of Knuth's MMIX generator.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                u8::try_from(state >> 56).unwrap()
            })
            .collect();
        let value = crate::runtime::decode::decode(&record, &bytes);
        both(|o| o.value(&value));
    }
}
