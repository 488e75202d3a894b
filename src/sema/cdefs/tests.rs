//! What definitions mean, and which ones mean nothing. How structs lie in
//! memory is compared with the C compiler in `tests/layouts.rs`.

use std::path::Path;

use super::Definitions;
use crate::diag::Diagnostics;
use crate::host::Host;
use crate::parser::ast::TypeTag;
use crate::source::{Source, Sources};
use crate::types::Type;

/// A machine without BTF: only what C itself has is known.
fn read(text: &str) -> (Definitions, Diagnostics) {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "stdin".into(), text: text.into() });
    let (script, _) = crate::parser::parse(&sources, file, &|_| false);
    let mut diags = Diagnostics::default();
    let definitions =
        Definitions::read(&script.cdefs, &[], &Host::at(Path::new("/nowhere")), &mut diags);
    // Every message must be printable.
    diags.render(&sources, crate::diag::Form::Text);
    (definitions, diags)
}

fn reads(text: &str) -> Definitions {
    let (definitions, diags) = read(text);
    assert_eq!(diags, Diagnostics::default(), "{text}");
    definitions
}

/// Members as `name type offset`, with shift and width of bit fields.
fn members(definitions: &Definitions, name: &str) -> Vec<String> {
    let found = definitions.find_type(Some(TypeTag::Struct), name);
    let Some(Type::Struct(s)) = found else { panic!("no struct {name}") };
    let shown = |m: &crate::types::Member| {
        let bits = m.bits.map_or(String::new(), |b| format!(" >>{}:{}", b.shift, b.width));
        let tag = m.tag.as_ref().map_or(String::new(), |t| format!(" __{t}"));
        format!("{} {} {}{bits}{tag}", m.name, m.ty, m.offset)
    };
    definitions.members(s.id).iter().map(shown).collect()
}

#[test]
fn types_are_those_of_the_language() {
    let text = "typedef struct node node_t;
        typedef unsigned long long word;
        enum color { RED, GREEN = 5, BLUE };
        struct node {
            char c; signed char d; unsigned char e; _Bool f; short g; word h; long i;
            enum color j; node_t *k; void *l; char name[16]; u8 bytes[4]; bool flags[2];
            char lines[2][8]; int grid[2][3]; int (*call)(int); struct opaque *m;
            double n; struct { int o; union { int p; char q; }; }; word r : 7;
            char __user *s; int __percpu *t; char u[];
        };";
    let want = [
        "c int8 0",
        "d int8 1",
        "e uint8 2",
        "f bool 3",
        "g int16 4",
        "h uint64 8",
        "i int64 16",
        "j enum color 24",
        "k struct node * 32",
        "l void * 40",
        "name string[16] 48",
        "bytes string[4] 64",
        "flags bool[2] 68",
        "lines string[8][2] 70",
        "grid int32[3][2] 88",
        "call void * 112",
        "m struct opaque * 120",
        "n double 128",
        "o int32 136",
        "p int32 140",
        "q int8 140",
        "r uint64 144 >>0:7",
        "s int8 * 152 __user",
        "t int32 * 160 __percpu",
        "u int8[0] 168",
    ];
    let definitions = reads(text);
    assert_eq!(members(&definitions, "node"), want);
    let ty = |tag, name| definitions.find_type(tag, name).map(|t| (t.to_string(), t.size()));
    assert_eq!(ty(None, "node_t"), Some(("struct node".into(), 168)));
    assert_eq!(ty(None, "word"), Some(("uint64".into(), 8)));
    assert_eq!(ty(Some(TypeTag::Enum), "color"), Some(("enum color".into(), 4)));
    assert_eq!(ty(Some(TypeTag::Union), "node"), None);
    assert_eq!(ty(Some(TypeTag::Struct), "opaque"), None);
    let constant = definitions.enum_constant("BLUE").map(|(e, value)| (e.name, value));
    assert_eq!(constant, Some(("color".into(), 6)));
}

#[test]
fn typedefs_name_what_has_no_name() {
    let definitions = reads("typedef enum { A } e; typedef struct { int a; } s, *p;");
    let shown = |name| definitions.find_type(None, name).map(|t| t.to_string());
    assert_eq!(shown("e"), Some("enum e".into()));
    assert_eq!(shown("s"), Some("struct s".into()));
    assert_eq!(shown("p"), Some("struct s *".into()));
}

#[test]
fn enums_are_as_large_as_they_must_be() {
    for (text, size, signed) in [
        ("A", 4, false),
        ("A = -1", 4, true),
        ("A = 0xffffffff", 4, false),
        ("A = 0xffffffff, B = -1", 8, true),
        ("A = 1UL << 40", 8, false),
        ("A = ~0UL", 8, false),
        ("A = -0x80000000LL", 4, true),
        ("A = -0x80000001LL", 8, true),
    ] {
        let definitions = reads(&format!("enum e {{ {text} }};"));
        let found = definitions.find_type(Some(TypeTag::Enum), "e");
        let Some(Type::Enum(e)) = found else { panic!("{text}") };
        assert_eq!((e.size, e.signed), (size, signed), "{text}");
    }
    let stored = reads("enum e : unsigned short { A };").find_type(Some(TypeTag::Enum), "e");
    assert_eq!(stored.map(|t| t.size()), Some(2));
}

#[test]
fn constant_expressions_are_those_of_c() {
    for (text, want) in [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 / -2", -3),
        ("7 % -2", 1),
        ("-7 >> 1", -4),
        ("~0u", 0xffff_ffff),
        ("0u - 1", 0xffff_ffff),
        ("0ul - 1", 0xffff_ffff_ffff_ffff),
        ("2147483647 + 1", -2_147_483_648),
        ("2147483648 + 1", 2_147_483_649),
        ("-1 < 0u", 0),
        ("-1 < 0ul", 0),
        ("(char)200", -56),
        ("(unsigned char)-1", 255),
        ("(u16)-1 + 1", 65_536),
        ("(long)-1 < 0", 1),
        ("1 ? 2 : 1 / 0", 2),
        ("0 && 1 / 0", 0),
        ("1 || 1 / 0", 1),
        ("!3 + !0", 1),
        ("1 << 3 | 1 & 3 ^ 2", 11),
        ("3 == 3 != 0", 1),
        ("sizeof(int)", 4),
        ("sizeof(long[3]) + sizeof(char *)", 32),
        ("sizeof(struct { char a; int b; })", 8),
        ("sizeof 1L", 8),
        ("_Alignof(short)", 2),
        ("offsetof(struct s, d.b)", 8),
        ("offsetof(struct s, e)", 12),
        ("'\\n' + FIRST", 15),
    ] {
        let head = "enum { FIRST = 5 }; struct s { int a; struct { char c; int b; } d; union { int e; }; };";
        let definitions = reads(&format!("{head} enum e {{ A = {text} }};"));
        let value = definitions.enum_constant("A").map(|c| c.1);
        assert_eq!(value, Some(want), "{text}");
    }
}

const REJECTED: [(&str, &str); 34] = [
    ("struct a { b c; };", "unknown type `b`"),
    ("struct a { int b; }; struct a { int c; };", "`a` is defined twice"),
    ("struct a { int b; }; union a { int c; };", "`a` is defined twice"),
    ("typedef int a; typedef long a;", "`a` is defined twice"),
    ("enum a { B }; enum c { B };", "`B` is defined twice"),
    ("struct a { int b; }; struct c { union a *d; };", "`a` is no union"),
    ("struct a { int b; char b; };", "two members are called `b`"),
    ("struct a { int b; struct { char b; }; };", "two members are called `b`"),
    ("struct a { struct a b; };", "`struct a` contains itself"),
    ("struct a { struct a b[3]; };", "`struct a` contains itself"),
    ("struct a { struct b c; }; struct b { int d; };", "`struct b` is used before its definition"),
    ("struct a { struct b c; };", "`struct b` is declared, not defined"),
    ("struct a { enum b c; };", "`enum b` is declared, not defined"),
    ("struct a { void b; };", "`void` has no size"),
    ("struct a { int b(void); };", "a function has no size"),
    ("struct a { int; };", "this declares nothing"),
    ("struct a { int b[-1]; };", "this is no length of an array"),
    ("struct a { int b[c]; };", "`c` is no constant"),
    ("struct a { int b[1 / 0]; };", "division by zero"),
    ("struct a { int b[1 << 40]; };", "cannot shift 32 bits by 40"),
    ("struct a { int b[1 << 20][1 << 20]; };", "the array is too large"),
    ("struct a { long b[1 << 28]; };", "the array is too large"),
    ("struct a { char b[1 << 30]; char c; };", "this is too large"),
    ("struct a { int b : 33; };", "a bit field of this type has 1 to 32 bits"),
    ("struct a { int b : 0; };", "a bit field of this type has 1 to 32 bits"),
    ("struct a { _Bool b : 2; };", "a bit field of this type has 1 to 1 bits"),
    ("struct a { int *b : 3; };", "only integers can be bit fields"),
    ("struct a { float b : 3; };", "only integers can be bit fields"),
    ("struct a { int b __attribute__((aligned(3))); };", "this is no alignment"),
    ("struct a { int * __attribute__((packed)) b; };", "this cannot stand here"),
    ("struct a { int b[(struct a)3]; };", "a constant can be cast to integers only"),
    ("struct a { int b[sizeof(struct c)]; };", "`struct c` is declared, not defined"),
    ("struct a { int b[offsetof(struct a, c)]; };", "there is no member `c`"),
    ("enum a { B = 0xffffffffffffffff, C };", "this constant is too large"),
];

#[test]
fn rejected() {
    for (text, want) in REJECTED {
        let (_, diags) = read(text);
        let found: Vec<&str> = diags.list.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(found, [want], "{text}");
    }
}

#[test]
fn suggestions() {
    let help = |text: &str| {
        let first = read(text).1.list.into_iter().next().expect("an error");
        let at = first.primary.map(|p| p.1).filter(|t| !t.is_empty());
        at.into_iter().chain(first.helps).collect::<Vec<_>>()
    };
    assert_eq!(help("typedef int word_t; struct a { wrod_t b; };"), ["did you mean `word_t`?"]);
    assert_eq!(help("struct b { int c; }; struct a { b d; };"), ["write `struct b`"]);
    assert_eq!(help("enum { LEN = 3 }; struct a { int b[LNE]; };"), ["did you mean `LEN`?"]);
}

#[test]
fn types_do_not_nest_without_end() {
    let mut text = String::from("typedef int t0;");
    for n in 1..2000 {
        text.push_str(&format!("typedef t{} *t{n};", n - 1));
    }
    let (_, diags) = read(&text);
    assert_eq!(
        diags.list.first().map(|d| d.message.as_str()),
        Some("this type is nested too deeply")
    );
    let mut text = String::from("struct s0 { int a; };");
    for n in 1..1500 {
        text.push_str(&format!("struct s{n} {{ struct {{ struct s{} b; }}; }};", n - 1));
    }
    assert!(!read(&text).1.has_errors());
}

#[test]
fn nothing_panics() {
    let texts = REJECTED.iter().map(|r| r.0);
    for text in
        texts.chain(["struct a { int b : 3, c; struct { char d[4]; } e; }; typedef struct a f;"])
    {
        crate::parser::mutate::each(text, 50, |text| {
            read(text);
        });
    }
}
