//! The BTF reader, on types that are written by hand.

use super::*;

/// BTF written by hand: `struct pair { int a : 3; int b : 7; union { char *name;
/// long id; }; char text[8]; int grid[2][3]; }` and an enum.
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn new() -> Writer {
        Writer { types: Vec::new(), strings: vec![0] }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len();
        self.strings.extend(name.bytes());
        self.strings.push(0);
        u32::try_from(at).unwrap()
    }

    fn put(&mut self, name: &str, info: u32, size: u32, rest: &[u32]) {
        let name = self.name(name);
        for word in [name, info, size].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut out = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            out.extend(u32::to_le_bytes(word));
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        out
    }
}

fn sample() -> Vec<u8> {
    let mut w = Writer::new();
    let (a, b, text, grid, name, id) =
        (w.name("a"), w.name("b"), w.name("text"), w.name("grid"), w.name("name"), w.name("id"));
    w.put("int", 1 << 24, 4, &[1 << 24 | 32]); // 1
    w.put("char", 1 << 24, 1, &[8]); // 2
    w.put("long", 1 << 24, 8, &[1 << 24 | 64]); // 3
    w.put("", 2 << 24, 5, &[]); // 4: char tagged user *
    w.put("user", 18 << 24, 2, &[]); // 5
    w.put("", 3 << 24, 0, &[2, 1, 8]); // 6: char[8]
    w.put("", 3 << 24, 0, &[1, 1, 3]); // 7: int[3]
    w.put("", 3 << 24, 0, &[7, 1, 2]); // 8: int[2][3]
    w.put("", 5 << 24 | 2, 8, &[name, 4, 0, id, 3, 0]); // 9: union
    let members = [a, 1, 3 << 24, b, 1, 7 << 24 | 3, 0, 9, 64, text, 6, 128, grid, 8, 192];
    w.put("pair", 1 << 31 | 4 << 24 | 5, 48, &members); // 10
    let (red, blue) = (w.name("RED"), w.name("BLUE"));
    w.put("colour", 1 << 31 | 6 << 24 | 2, 4, &[red, 1, blue, u32::MAX]); // 11
    let (p, n) = (w.name("p"), w.name("n"));
    w.put("", 2 << 24, 10, &[]); // 12: struct pair *
    w.put("", 13 << 24 | 2, 3, &[p, 12, n, 11]); // 13
    w.put("frob", 12 << 24, 13, &[]); // 14
    w.put("loop", 8 << 24, 15, &[]); // 15: a typedef of itself
    w.put("current", 14 << 24, 12, &[0]); // 16: variables
    w.put("counts", 14 << 24, 3, &[0]); // 17
    w.put(".data..percpu", 15 << 24 | 2, 16, &[16, 0, 8, 17, 8, 8]); // 18
    w.put("", 17 << 24, 14, &[u32::MAX]); // 19: a tag
    w.bytes()
}

#[test]
fn members_of_anonymous_members_and_bit_fields() {
    let btf = Btf::from_bytes(sample()).unwrap();
    let Some(Type::Struct(pair)) = btf.find_type(Some(TypeTag::Struct), "pair") else { panic!() };
    let members: Vec<String> = btf
        .members(pair.id)
        .iter()
        .map(|m| format!("{} {} @{} {:?} {:?}", m.name, m.ty, m.offset, m.bits, m.tag))
        .collect();
    assert_eq!(
        members,
        [
            "a int32 @0 Some(Bits { size: 1, shift: 0, width: 3 }) None",
            "b int32 @0 Some(Bits { size: 2, shift: 3, width: 7 }) None",
            "name int8 * @8 None Some(\"user\")",
            "id int64 @8 None None",
            "text string[8] @16 None None",
            "grid int32[3][2] @24 None None",
        ]
    );
    assert_eq!(btf.member_at(pair.id, "text"), Some((16, Type::Str(8))));
}

#[test]
fn functions_enums_and_text() {
    let btf = Btf::from_bytes(sample()).unwrap();
    let frob = btf.function("frob").unwrap();
    let params: Vec<_> = frob.params.iter().map(|p| format!("{} {}", p.text, p.name)).collect();
    assert_eq!(params, ["struct pair * p", "enum colour n"]);
    assert_eq!(frob.result, Type::INT64);
    let (colour, value) = btf.find_enum_constant("BLUE").unwrap();
    assert_eq!((colour.name.as_str(), value), ("colour", -1));
    assert_eq!(btf.enum_constants(colour.id), [("RED".into(), 1), ("BLUE".into(), -1)]);
    let (module, text) = btf.definitions(TypeTag::Struct, "pair").remove(0);
    assert_eq!(module, "vmlinux");
    assert_eq!(
        text,
        "struct pair {\n\tint a: 3;\n\tint b: 7;\n\tunion {\n\t\tchar *name;\n\t\tlong id;\n\t};\n\
         \tchar text[8];\n\tint grid[2][3];\n}"
    );
}

#[test]
fn variables_of_each_cpu() {
    let btf = Btf::from_bytes(sample()).unwrap();
    assert!(btf.has_percpu_variable("current") && btf.has_percpu_variable("counts"));
    assert!(!btf.has_percpu_variable("count") && !btf.has_percpu_variable("pair"));
}

#[test]
fn c_type_text_is_read() {
    let btf = Btf::from_bytes(sample()).unwrap();
    let read = |text: &str| btf.parse_type(text).map(|t| t.to_string());
    assert_eq!(read("const unsigned char"), Some("uint8".into()));
    assert_eq!(read("long unsigned int"), Some("uint64".into()));
    assert_eq!(read("struct pair *"), Some("struct pair *".into()));
    assert_eq!(read("const char *const *"), Some("int8 * *".into()));
    assert_eq!(read("unsigned long[6]"), Some("uint64[6]".into()));
    assert_eq!(read("char[16]"), Some("string[16]".into()));
    assert_eq!(read("struct nothing"), None);
    assert_eq!(read("loop"), Some("damaged type".into()));
}

#[test]
fn damage_is_an_error_or_a_gap_but_no_panic() {
    let good = sample();
    let touch = |bytes: Vec<u8>| {
        let Ok(btf) = Btf::from_bytes(bytes) else { return };
        for id in 0..20 {
            let id = TypeId::Btf { module: 0, id };
            btf.members(id);
            btf.enum_constants(id);
        }
        btf.function("frob");
        btf.find_enum_constant("BLUE");
        btf.definitions(TypeTag::Struct, "pair");
        btf.raw_tracepoint("x");
    };
    for end in 0..good.len() {
        touch(good[..end].to_vec());
    }
    for at in 0..good.len() {
        for value in [0, 1, 4, 0x7f, 0x84, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            touch(bytes);
        }
    }
}

#[test]
fn a_struct_of_itself_ends() {
    let mut w = Writer::new();
    let members: Vec<u32> = (0..600).flat_map(|_| [0, 1, 0]).collect();
    w.put("x", 4 << 24 | 600, 8, &members);
    let btf = Btf::from_bytes(w.bytes()).unwrap();
    let Some(Type::Struct(x)) = btf.find_type(Some(TypeTag::Struct), "x") else { panic!() };
    assert!(btf.members(x.id).is_empty());
    assert!(btf.definitions(TypeTag::Struct, "x").len() == 1);
}

#[test]
fn the_live_kernel_is_understood() {
    let Ok(btf) = Btf::open(Path::new("/sys/kernel/btf/vmlinux")) else { return };
    let Some(Type::Struct(task)) = btf.find_type(Some(TypeTag::Struct), "task_struct") else {
        panic!("no task_struct")
    };
    let members = btf.members(task.id);
    assert!(members.len() > 100);
    assert!(members.iter().all(|m| m.offset + m.ty.size() <= task.size || m.ty.size() == 0));
    let pid = members.iter().find(|m| m.name == "pid").unwrap();
    assert_eq!(pid.ty, Type::int(4, true));
    let comm = members.iter().find(|m| m.name == "comm").unwrap();
    assert_eq!(comm.ty, Type::Str(16));
    let exit = btf.function("do_exit").unwrap();
    assert_eq!((exit.params.len(), exit.result), (1, Type::Void));
    for name in btf.type_names(TypeTag::Struct, &|n| n.starts_with("sk_")) {
        let Some(Type::Struct(s)) = btf.find_type(Some(TypeTag::Struct), &name) else {
            panic!("{name}")
        };
        for m in btf.members(s.id) {
            assert!(u64::from(m.offset) <= u64::from(s.size), "{name}.{}", m.name);
            let bits = m.bits.map_or(0, |b| u32::from(b.size));
            assert!(m.offset + bits <= s.size, "{name}.{}", m.name);
        }
    }
}
