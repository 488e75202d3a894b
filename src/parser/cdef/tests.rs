//! What parses as C, what does not and why.

use super::ast::{Base, Declaration};
use super::{Options, Section, parse};
use crate::diag::Diagnostics;
use crate::parser::mutate;
use crate::source::{Source, Sources, Spanned};

/// The C section of a script, as its own parser cuts it.
fn entries(text: &str) -> (Sources, Vec<Spanned<String>>) {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "stdin".into(), text: text.into() });
    let (script, _) = crate::parser::parse(&sources, file, &|_| false);
    (sources, script.cdefs)
}

fn section(text: &str) -> (Section, Diagnostics) {
    let predefined = [("HAVE", "1"), ("VALUE", "3 + 4")];
    let options = Options { predefined: &predefined, kernel_types: true, ..Options::default() };
    let (sources, entries) = entries(text);
    let (section, diags) = parse(&entries, options);
    // Every message must be printable.
    diags.render(&sources, crate::diag::Form::Text);
    (section, diags)
}

/// Messages and the text that they point at, in the order of the script.
fn errors(text: &str) -> Vec<(String, String)> {
    let (_, diags) = section(text);
    let mut list: Vec<_> = diags
        .list
        .iter()
        .map(|d| {
            let span = d.primary.as_ref().map_or_else(Default::default, |p| p.0);
            let at = text.get(span.start as usize..span.end as usize).expect("inside the text");
            (span, d.message.clone(), at.to_owned())
        })
        .collect();
    list.sort();
    list.into_iter().map(|(_, message, at)| (message, at)).collect()
}

const ACCEPTED: [&str; 48] = [
    "struct a { int b; };",
    "struct a { int b; }",
    "struct a;",
    "struct a { };",
    "union a { int b; struct { int c, d; }; struct e { int f; } g; };",
    "struct a { int b, *c, d[2], (*e)[3], *(*f)(int, struct x *), : 3, g : 4; };",
    "struct a { const volatile unsigned long long int *const restrict b; };",
    "struct __attribute__((packed)) a { int b; };",
    "struct a { int b; } __attribute__((packed, aligned(8), preserve_access_index));",
    "struct a { int b __attribute__((aligned(4))), c : 3 __attribute__((unused)); };",
    "struct a { int b; } __packed;",
    "struct a { int b __aligned(8); char __user *c; struct x __rcu *d; };",
    "struct a { __attribute__((aligned(4))) int b; _Alignas(8) int c; _Alignas(long) int d; };",
    "struct a { int b __attribute__((deprecated(\"say \" \"why\"), format(printf, 1, 2))); };",
    "struct a { struct list_head *b; struct rb_node c; u32 d; size_t e; };",
    "enum a { B, C = 3, D = C + 1, };",
    "enum { B = -1 << 3, C = ~0u, D = 'x', E = 1 ? 2 : 3 };",
    "enum a : unsigned char { B };",
    "enum : u8 { B };",
    "struct x { enum a b : 3; enum a { B } c : 4; };",
    "enum a { B __attribute__((deprecated)) = 1 };",
    "typedef int a;",
    "typedef struct { int b; } a, *c;",
    "typedef struct a a;",
    "typedef int (*f)(int, char *), g[3][4];",
    "typedef void (*const volatile f)(void);",
    "typedef unsigned u32;",
    "int f(int a, struct b *c, ...);",
    "extern int a;",
    "static inline int f(int a) { if (a > 1) { return g(a)->b; } return \"x\"[0]; }",
    "void f(void) __attribute__((noreturn));",
    "struct a { int b[sizeof(int)], c[sizeof(struct x *)], d[sizeof(int (*)[3])]; };",
    "struct a { int b[(int)3], c[(u32)-1 > 0 ? 1 : 2], d[(struct x *)0 ? 1 : 2], e[(N) - 1]; };",
    "struct a { int b[offsetof(struct x, y.z)], c[sizeof(t)], d[sizeof (3 + 4)]; };",
    "struct a { int b[_Alignof(int)]; };",
    "#define N 3\nstruct a { int b[N * 2]; };",
    "#define N \\\n  3\nstruct a { int b[N]; };",
    "#define PACKED __attribute__((packed))\n#define T unsigned\nstruct a { T int b; } PACKED;",
    "#define MEMBERS(t, n) t n; t *p ## n\n",
    "#define MEMBERS(t, n) t n; t *q\nstruct a { MEMBERS(int, b); };",
    "#define EMPTY\nstruct EMPTY a { int b EMPTY; };",
    "#define A B\n#define B A\nstruct a { A c; };",
    "#include <linux/sched.h>\n#include \"vmlinux.h\"\n#include <stdint.h>\n",
    "#pragma once\n#pragma pack(push, 1)\nstruct a { int b; };\n#pragma pack(pop)\n",
    "#if 0\nstruct a { what ever; ' };\n#error no\n#endif\n",
    "struct a {\n#ifdef HAVE\n int b;\n#else\n what ever\n#endif\n};",
    "/* c */ struct /* d */ a { // e\n int b; /* f\n g */ }; // h",
    "#line 3 \"x\"\n# 3 \"y\"\n#\n",
];

#[test]
fn accepted() {
    for text in ACCEPTED {
        assert_eq!(errors(text), [], "{text}");
    }
}

const REJECTED: [(&str, &[(&str, &str)]); 37] = [
    ("struct a { int b }", &[("expected `;`", "")]),
    ("struct a { int b\n int c; };", &[("expected `;`", "")]),
    ("struct a { int; what ever };", &[("expected `;`", "")]),
    ("struct a { int b c; int d e; };", &[("expected `;`", ""), ("expected `;`", "")]),
    ("struct a { int 3; };", &[("unexpected `3`", "3")]),
    ("struct a { int b[:]; };", &[("unexpected `:`", ":")]),
    ("struct a { int b[f(3)]; };", &[("unexpected `(`", "(")]),
    ("struct a { int b = 3; };", &[("unexpected `=`", "=")]),
    ("struct a { int b : ; };", &[("unexpected `;`", ";")]),
    ("struct a { * b; };", &[("unexpected `*`", "*")]),
    ("struct a { short double b; };", &[("`short double` is no type", "short double")]),
    ("struct a { unsigned signed b; };", &[("`unsigned signed` is no type", "unsigned signed")]),
    ("struct a { long long long b; };", &[("`long long long` is no type", "long long long")]),
    ("struct 3 { };", &[("unexpected `3`", "3")]),
    ("enum a { };", &[("unexpected `}`", "}")]),
    ("enum a { B C };", &[("unexpected `C`", "C")]),
    ("enum a { B = };", &[("unexpected `}`", "}")]),
    ("int a = 3;", &[("unexpected `=`", "=")]),
    ("typedef int;", &[("unexpected `;`", ";")]),
    ("struct a { int b @ 3; };", &[("C does not know this character", "@")]),
    ("struct a { float b[1.5]; };", &[("`1.5` is no whole number", "1.5")]),
    ("struct a { char b[08]; };", &[("`08` is no number of C", "08")]),
    (
        "struct a { int b __attribute__((vector_size(16))); };",
        &[("the attribute `vector_size` is not supported", "vector_size")],
    ),
    ("#if 1\nstruct a { int b; };", &[("this `#if` has no `#endif`", "#if 1")]),
    ("#endif\n", &[("`#endif` without `#if`", "#endif")]),
    ("#else\n", &[("`#else` without `#if`", "#else")]),
    ("#if 1\n#else\n#elif 1\n#endif\n", &[("`#elif` after `#else`", "#elif 1")]),
    ("#ifdef\n#endif\n", &[("`#ifdef` needs a name", "#ifdef")]),
    ("#if\n#endif\n", &[("this has no condition", "#if")]),
    ("#if 1 +\n#endif\n", &[("expected a number", "")]),
    ("#if 1 / 0\n#endif\n", &[("division by zero", "1 / 0")]),
    ("#if sizeof(int)\n#endif\n", &[("types are not known in `#if`", "int")]),
    ("#what ever\n", &[("unknown directive `#what`", "#what ever")]),
    ("#error not here\n", &[("`#error`: not here", "#error not here")]),
    ("#include <stdio.h>\n", &[("cannot include `stdio.h`", "#include <stdio.h>")]),
    ("#define N(a) a\nstruct a { int b[N(1, 2)]; };", &[("`N` takes 1 argument, not 2", "N")]),
    ("#define N 1\n#define N 2\n", &[("`N` is defined twice", "#define N 2")]),
];

#[test]
fn rejected() {
    for (text, want) in REJECTED {
        let found = errors(text);
        let found: Vec<_> = found.iter().map(|(m, at)| (m.as_str(), at.as_str())).collect();
        assert_eq!(found, want, "{text}");
    }
}

fn names(section: &Section) -> Vec<String> {
    let name = |d: &Declaration| match &d.specifiers.base {
        Base::Tag { .. } => String::new(),
        base => base.shown(),
    };
    section.declarations.iter().map(name).collect()
}

#[test]
fn conditions_choose() {
    for (condition, holds) in [
        ("#if 1", true),
        ("#if HAVE", true),
        ("#if WHO_KNOWS", false),
        ("#if !WHO_KNOWS", true),
        ("#ifdef HAVE", true),
        ("#ifndef HAVE", false),
        ("#if defined(HAVE) && !defined WHO", true),
        ("#if VALUE * 2 == 11", true),
        ("#if (VALUE) * 2 == 14 && -1 > 0u", true),
        ("#if 0x10 == 020 || 1 / 0", true),
        ("#if 'a' == 97 ? 0 : 1", false),
        ("#if 1 << 40 > 1", true),
        ("#if /* c */ 1 // d", true),
        ("#if \\\n 1 \\\n && 0", false),
        ("#if 0\n#elif 1", true),
        ("#if 0\n#elif 0\n#elif HAVE", true),
        ("#if 0\n#elifdef HAVE", true),
        ("#if 0\n#elifndef HAVE", false),
        ("#ifdef HAVE\n#undef HAVE\n#endif\n#ifdef HAVE", false),
        ("#define X HAVE\n#if X == 1", true),
        ("#define F(a, b) ((a) < (b))\n#if F(1, (2, 3) 4)", false),
        ("#define F(a, b) ((a) < (b))\n#if F(1, 2) && F(F(2, 1), 1)", true),
    ] {
        let text = format!("{condition}\nstruct yes {{ }};\n#else\nstruct no {{ }};\n#endif\n");
        let (section, _) = section(&text);
        let want = if holds { "struct yes" } else { "struct no" };
        assert_eq!(names(&section), [want], "{condition}");
    }
}

#[test]
fn what_is_left_out_is_gone() {
    let text = "#if 0\nstruct a { };\n#if 1\nstruct b { };\n#else\nstruct c { };\n#endif\n\
                #elif 1\nstruct d { };\n#define N 1\n#else\nstruct e { };\n#define N 2\n#endif\n\
                struct f { };\n#define M 3 /* c */\n#define F(x) x\n#define O\n#undef M\n";
    let (section, diags) = section(text);
    assert_eq!(diags, Diagnostics::default());
    assert_eq!(names(&section), ["struct d", "struct f"]);
    let mut constants: Vec<_> =
        section.constants.iter().map(|(n, t)| (n.as_str(), t.node.as_str())).collect();
    constants.sort_unstable();
    assert_eq!(constants, [("N", "1"), ("O", "")]);
    let value = section.constants.get("N").map(|n| n.span).expect("is defined");
    assert_eq!(text.get(value.start as usize..value.end as usize), Some("1"));
}

#[test]
fn constants_keep_their_place_over_joined_lines() {
    let text = "  #  define N \\\n   (1 + \\\n  2)\nbegin { }";
    let (section, _) = section(text);
    let value = section.constants.get("N").expect("is defined");
    assert_eq!(value.node.split_whitespace().collect::<String>(), "(1+2)");
    let at = text.get(value.span.start as usize..value.span.end as usize);
    assert_eq!(at, Some("(1 + \\\n  2)"));
}

#[test]
fn several_mistakes_are_found_at_once() {
    let text =
        "struct a { int b c; int d; int : ; };\nstruct e { int f; };\nenum g { H I };\n#what\n";
    let found: Vec<String> = errors(text).into_iter().map(|e| e.0).collect();
    let want = ["expected `;`", "unexpected `;`", "unexpected `I`", "unknown directive `#what`"];
    assert_eq!(found, want);
}

#[test]
fn depth_and_growth_have_limits() {
    let deep = |open: &str, close: &str| {
        format!("struct a {{ int b[{}1{}]; }};", open.repeat(5000), close.repeat(5000))
    };
    for text in [deep("(", ")"), deep("-", ""), deep("1+", ""), deep("sizeof(int[", "])")] {
        assert_eq!(errors(&text)[0].0, "this is nested too deeply");
    }
    let nested = format!("{}int a;{}", "struct { ".repeat(5000), "} ".repeat(5000));
    assert!(!errors(&nested).is_empty());
    let stars = format!("struct a {{ int {}b; }};", "*".repeat(5000));
    assert!(!errors(&stars).is_empty());
    let mut laughs = String::from("#define A0 x x x x x x x x\n");
    for n in 1..40 {
        let before = n - 1;
        laughs.push_str(&format!("#define A{n} A{before} A{before} A{before} A{before}\n"));
    }
    let error = "the macros of this script never end";
    let (_, diags) = section(&format!("{laughs}struct a {{ A39 }};"));
    assert!(diags.list.iter().any(|d| d.message == error));
    let chain: String = (0..3000).map(|n| format!("#define B{n} B{}\n", n + 1)).collect();
    section(&format!("{chain}struct a {{ int b[B0]; }};"));
    let calls =
        format!("#define F(x) x\nstruct a {{ int {}b{}; }};", "F(".repeat(3000), ")".repeat(3000));
    section(&calls);
}

#[test]
fn nothing_panics() {
    for text in ACCEPTED.iter().chain(REJECTED.iter().map(|r| &r.0)) {
        mutate::each(text, 50, |text| {
            section(text);
        });
    }
}
