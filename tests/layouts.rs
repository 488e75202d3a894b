//! Structs of scripts lie in memory as the C compiler has it: the same definitions go to both,
//! written by hand for what is known to be hard, and many more at random (the same ones every
//! time).

use std::process::Command;

use rtrace::diag::Diagnostics;
use rtrace::host::Host;
use rtrace::host::headers;
use rtrace::parser::ast::TypeTag;
use rtrace::sema::cdefs::Definitions;
use rtrace::source::{Source, Sources};
use rtrace::types::Type;

const BY_HAND: &str = r"
#define LEN 3
#define ROWS (LEN * 2)
#define __tight __attribute__((packed))
#define BIT(n) (1UL << (n))
typedef unsigned char byte_t;
typedef struct { int a; char b; } pair_t;
typedef int odd_t __attribute__((aligned(2)));
typedef long strict_t __attribute__((aligned(32)));
typedef char name_t[LEN + 4];
typedef int (*callback_t)(int, const char *, struct unknown *);
enum small { S_A, S_B = 200 } __attribute__((packed));
enum plain { P_A = -1, P_B = BIT(3), P_C, P_D = sizeof(pair_t) };
enum large { L_A = 1, L_B = 0x100000000 };
struct forward;

struct t1 { char a; int b; char c; long long d; char e; };
struct t2 { char a; int b; char c; long long d; short e; } __attribute__((packed));
struct t3 { int a : 3; int b : 5; int c : 25; int d : 7; char e; };
struct t4 { int a : 3; long long b : 40; char c : 2; short d : 9; unsigned : 0; int e : 1; };
struct t5 { char a; int : 0; char b; short : 0; char c; long : 3; char d; };
struct t6 { char a; int b : 5; int c : 30; long d : 33; char e : 7; } __attribute__((packed));
struct t7 { char a; int b __attribute__((packed)); short c __attribute__((aligned(16))); char d; };
struct __attribute__((aligned(64))) t8 { int a; char b; };
struct t9 { char a; struct { short b; union { int c; char d[3]; struct { char e; long f; }; }; }; char g; };
union t10 { char a[5]; int b; struct { short c, d; } e; long long f : 35; int g : 9; };
struct t11 { pair_t a[LEN]; char b[ROWS][LEN]; byte_t c[2][3][4]; name_t d; name_t e[2]; pair_t *f; };
struct t12 { char a; odd_t b; char c; strict_t d; char e; };
struct t13 { char a; odd_t b; char c; strict_t d; char e; } __tight;
struct t14 { callback_t a; int (*b)(void); void (*c[2])(int); int (*d)[4]; char *(*(*e)(int))[3]; };
struct t15 { enum small a; enum plain b; enum large c; enum small d : 4; enum plain e : 3; };
struct t16 { char a; struct t1 b; struct t2 c; struct t6 d; struct t12 e; char f; };
struct t17 { char a; struct t1 b; struct t2 c; struct t7 d; char e; } __attribute__((packed, aligned(4)));
struct t18 { char a; _Bool b : 1; _Bool c : 1; _Bool d; unsigned char e : 3; unsigned short f : 11; };
struct t19 { int a; char b[0]; };
struct t20 { char a; struct forward *b; struct t20 *c; const char *const *volatile d; };
struct t21 { char a; long double b; char c; float d; double e; __int128 f; char g; };
struct t22 { short a; struct {} b; char c; int d[0]; };
struct t23 { long a : 64; int b : 32; char c : 8; int d : 17; int e : 17; };
struct t24 { char a : 1; char b : 8; char c : 7; short d : 12; short e : 5; };
struct t25 { int a : 4; char b; int c : 28; long d : 28; short e; long f : 60; };
struct t26 { char a; int b : 12 __attribute__((aligned(8))); int c : 3; char d; };
struct t27 { char a; long b : 3 __attribute__((packed)); int c : 30; char d : 6 __attribute__((packed)); };
struct t28 { unsigned long int long a; long unsigned b; short int unsigned c; signed d; char signed e; };
struct t29 { int x[sizeof(struct t1)], y[sizeof(int) * 2 > 8 ? 1 : 5], z['a' - 95]; };
struct t30 { int x[(int)sizeof(long) - 3]; char y[~0u >> 29], z[-1 < 0u ? 9 : 4]; };
struct t31 { char a[__builtin_offsetof(struct t1, d)], b[_Alignof(struct t12)], c[P_B]; };
struct t32 { char a; struct __attribute__((packed)) { char b; int c; } d; union { char e; long f; } *g; };
#pragma pack(push, 2)
struct t33 { char a; int b; long c; char d; long long e : 40; int f : 9; };
#pragma pack(1)
struct t34 { char a; int b : 4; int c : 30; long d; short e : 3; long f : 60; struct t33 g; };
#pragma pack(pop)
struct t35 { char a; struct t34 b; long c; };
struct t36 { struct { int a : 3; }; struct { int b : 3; char : 5; char c : 2; } __attribute__((packed)); };
struct t37 { char a; _Alignas(8) char b; _Alignas(long) short c; char d __attribute__((__aligned__)); };
union t38 { char a; int b __attribute__((aligned(16))); struct { char c[17]; }; } __attribute__((packed));
struct t39 { char a; union { char b; int c : 20; } d; union { long e : 3; char f; } g; char h; };
";

/// Deterministic numbers (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let n = self.below(list.len() as u64);
        list[usize::try_from(n).expect("a small number")]
    }
}

const INTEGERS: [(&str, u64); 10] = [
    ("char", 8),
    ("unsigned char", 8),
    ("short", 16),
    ("unsigned short", 16),
    ("int", 32),
    ("unsigned", 32),
    ("long", 64),
    ("unsigned long long", 64),
    ("_Bool", 1),
    ("enum plain", 32),
];

/// The body of struct `number`; `count` numbers its members.
fn body(dice: &mut Dice, number: u64, depth: u32, count: &mut u64) -> String {
    let mut out = String::from("{ ");
    for _ in 0..=dice.below(6) {
        *count += 1;
        let name = format!("m{count}");
        let (ty, bits) = INTEGERS[usize::try_from(dice.below(10)).expect("a small number")];
        match dice.below(12) {
            0..=4 => {
                let width = 1 + dice.below(bits);
                out.push_str(&format!("{ty} {name} : {width}"));
            }
            5 => match dice.below(3) {
                0 => out.push_str(&format!("{ty} : 0")),
                _ => out.push_str(&format!("{ty} : {}", 1 + dice.below(bits))),
            },
            6 => out.push_str(&format!("{ty} {name}[{}]", 1 + dice.below(5))),
            7 => out.push_str(&format!("void *{name}")),
            8 if number > 0 => out.push_str(&format!("struct r{} {name}", dice.below(number))),
            9 if depth < 3 => {
                let word = dice.of(&["struct", "union"]);
                let body = body(dice, number, depth + 1, count);
                let name = if dice.one_in(2) { name } else { String::new() };
                out.push_str(&format!("{word} {body} {name}"));
            }
            _ => out.push_str(&format!("{ty} {name}")),
        }
        let named =
            !out.ends_with(": 0") && out.rsplit(';').next().is_some_and(|last| last.contains(" m"));
        if named && dice.one_in(9) {
            let attribute = dice.of(&["packed", "aligned(2)", "aligned(8)", "aligned(16)"]);
            out.push_str(&format!(" __attribute__(({attribute}))"));
        }
        out.push_str("; ");
    }
    out.push('}');
    if dice.one_in(4) {
        let attribute = dice.of(&["packed", "packed, aligned(2)", "aligned(4)", "aligned(32)"]);
        out.push_str(&format!(" __attribute__(({attribute}))"));
    }
    out
}

fn at_random(count: u64) -> String {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut out = String::from("enum plain { P_A = -1, P_B };\n");
    for number in 0..count {
        let word = if dice.one_in(8) { "union" } else { "struct" };
        let pack = dice.one_in(10).then(|| dice.of(&["1", "2", "4", "8"]));
        if let Some(pack) = pack {
            out.push_str(&format!("#pragma pack({pack})\n"));
        }
        let body = body(&mut dice, number, 0, &mut 0);
        // Members refer to it as a struct.
        match word {
            "union" => out.push_str(&format!("struct r{number} {{ union {body}; }};\n")),
            _ => out.push_str(&format!("struct r{number} {body};\n")),
        }
        if pack.is_some() {
            out.push_str("#pragma pack()\n");
        }
    }
    out
}

/// What rtrace makes of a text, as lines of C that check it; `c` is what C gets in its place.
fn checks(text: &str, c: &str, names: &[(TypeTag, String)]) -> String {
    // A struct after a byte shows its alignment.
    let mut shown = String::new();
    for (tag, name) in names {
        let word = tag.word();
        shown.push_str(&format!("struct at_{name} {{ char first; {word} {name} it; }};\n"));
    }
    let text = format!("{text}\n{shown}");
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "script".into(), text: format!("{text}\nbegin {{ }}") });
    let (script, mut diags) = rtrace::parser::parse(&sources, file, &|_| false);
    let host = Host::at(std::path::Path::new("/nowhere"));
    let definitions = Definitions::read(&script.cdefs, &[], &host, &mut diags);
    assert_eq!(
        diags,
        Diagnostics::default(),
        "{}",
        diags.render(&sources, rtrace::diag::Form::Text)
    );

    let mut checks = String::new();
    for (tag, name) in names {
        let word = tag.word();
        let Some(Type::Struct(own)) = definitions.find_type(Some(*tag), name) else {
            panic!("{name} is not defined");
        };
        let at = definitions.find_type(Some(TypeTag::Struct), &format!("at_{name}"));
        let Some(Type::Struct(at)) = at else { panic!("at_{name} is not defined") };
        let align =
            definitions.members(at.id).iter().find(|m| m.name == "it").map_or(0, |m| m.offset);
        checks.push_str(&format!("  SIZE({word} {name}, {}, {align});\n", own.size));
        for member in definitions.members(own.id) {
            let name = format!("{word} {name}, {}", member.name);
            match member.bits {
                Some(bits) => {
                    let start = member.offset * 8 + u32::from(bits.shift);
                    checks.push_str(&format!("  BITS({name}, {start}, {});\n", bits.width));
                }
                // Too wide to be read at once, from where it lies.
                None if member.ty.to_string().starts_with("bit field") => {}
                None => {
                    let offset = member.offset;
                    checks.push_str(&match &member.ty {
                        Type::Unsupported(_) => format!("  PLACE({name}, {offset});\n"),
                        // C has no size for `x[]`.
                        ty if ty.size() == 0 => format!("  PLACE({name}, {offset});\n"),
                        ty => format!("  MEMBER({name}, {offset}, {});\n", ty.size()),
                    });
                }
            }
        }
    }
    let head = r#"#include <stddef.h>
#include <stdio.h>
#include <string.h>
static int bad;
static void same(const char *what, long is, long want) {
  if (is != want) { bad++; printf("%s is %ld, not %ld\n", what, is, want); }
}
#define SIZE(T, size, align) \
  same("sizeof " #T, sizeof(T), size); same("align of " #T, _Alignof(T), align)
#define PLACE(T, m, offset) same("offset of " #T " " #m, offsetof(T, m), offset)
#define MEMBER(T, m, offset, size) PLACE(T, m, offset); \
  same("size of " #T " " #m, sizeof(((T *)0)->m), size)
#define BITS(T, m, start, width) do { \
    T it; memset(&it, 0, sizeof it); it.m = ~0ull; \
    int first = -1, count = 0; \
    for (unsigned i = 0; i < sizeof it * 8; i++) \
      if (((unsigned char *)&it)[i / 8] >> i % 8 & 1) { if (!count++) first = i; } \
    same("start of " #T " " #m, first, start); same("bits of " #T " " #m, count, width); \
  } while (0)
"#;
    // One function each: gcc is slow with large ones.
    let mut functions = String::new();
    let lines: Vec<&str> = checks.lines().collect();
    for (i, part) in lines.chunks(50).enumerate() {
        functions.push_str(&format!("static void part{i}(void) {{\n{}\n}}\n", part.join("\n")));
    }
    let calls: String = (0..lines.chunks(50).len()).map(|i| format!("part{i}(); ")).collect();
    format!("{c}\n{head}{shown}\n{functions}int main(void) {{ {calls}return bad != 0; }}\n")
}

fn compare(what: &str, program: &str) {
    let base = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(what);
    let source = base.with_extension("c");
    std::fs::write(&source, program).expect("the test has a folder");
    let compiled = Command::new("cc")
        .args(["-w", "-O0", "-o"])
        .arg(&base)
        .arg(&source)
        .output()
        .expect("there is a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&base).output().expect("cc made it");
    assert!(ran.status.success(), "C says:\n{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn hard_cases_lie_as_c_has_it() {
    let names = (1..40).map(|n| {
        let union = BY_HAND.contains(&format!("union t{n} {{"));
        (if union { TypeTag::Union } else { TypeTag::Struct }, format!("t{n}"))
    });
    compare("by-hand", &checks(BY_HAND, BY_HAND, &names.collect::<Vec<_>>()));
}

#[test]
fn random_structs_lie_as_c_has_it() {
    let names: Vec<_> = (0..400).map(|n| (TypeTag::Struct, format!("r{n}"))).collect();
    let text = at_random(400);
    compare("at-random", &checks(&text, &text, &names));
}

/// Headers that define much and odd things.
const HEADERS: &[&str] = &[
    "linux/inet_diag.h",
    "netdb.h",
    "net/if.h",
    "netinet/icmp6.h",
    "netinet/ip.h",
    "netinet/tcp.h",
    "netpacket/packet.h",
    "signal.h",
    "sys/epoll.h",
    "sys/socket.h",
    "sys/stat.h",
    "sys/statvfs.h",
    "sys/sysinfo.h",
    "sys/timex.h",
    "sys/ucontext.h",
    "sys/user.h",
    "termios.h",
    "utmpx.h",
    "linux/bpf.h",
    "linux/perf_event.h",
    "linux/can/bcm.h",
    "linux/videodev2.h",
];

#[test]
fn structs_of_headers_lie_as_c_has_it() {
    for header in HEADERS {
        let all = headers::read(header, &[]).unwrap_or_else(|why| panic!("{header}: {why:?}"));
        let named = |d: &headers::Definition| {
            let first = d.names.first()?;
            let name = first.strip_prefix("struct ").map(|n| (TypeTag::Struct, n));
            let name = name.or_else(|| Some((TypeTag::Union, first.strip_prefix("union ")?)));
            name.map(|(tag, name)| (tag, name.to_owned()))
        };
        let names: Vec<_> = all.iter().filter_map(named).collect();
        assert!(!names.is_empty(), "{header} defines {names:?}");
        let text: Vec<_> = all.iter().map(|d| d.text.as_str()).collect();
        let types: Vec<_> = text.into_iter().filter(|t| !t.starts_with("#define")).collect();
        let c = format!("#define _GNU_SOURCE\n#include <{header}>\n");
        let what = format!("header-{}", header.replace(['/', '.'], "-"));
        compare(&what, &checks(&types.join("\n"), &c, &names));
    }
}
