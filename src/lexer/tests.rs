//! What the lexer settles, shown as text: tokens separated by blanks, those that
//! the lexer decided about by names of their own.

use super::{Token, lex, lex_items, print};
use crate::source::{Source, Sources};

const VALUES: [&str; 6] = ["pid", "comm", "retval", "cpu", "has_key", "nsecs"];

fn is_value(name: &str) -> bool {
    VALUES.contains(&name)
}

/// The tokens; `<:` and `:>` delimit a block, `/:` and `:/` a predicate.
fn shown(text: &str) -> String {
    let tokens = lex(text, 0, &is_value);
    let words = tokens.iter().map(|t| match &t.node {
        Token::PredicateOpen => "/:".to_owned(),
        Token::PredicateClose => ":/".to_owned(),
        Token::AngleOpen => "<:".to_owned(),
        Token::AngleClose => ":>".to_owned(),
        Token::CastParen => "(cast".to_owned(),
        Token::TypeParen => "(type".to_owned(),
        Token::StmtIf => "IF".to_owned(),
        Token::StmtBrace => "BLOCK".to_owned(),
        Token::Attach(a) => match &a.label {
            Some(label) => format!("[{label}={}]", a.text),
            None => format!("[{}]", a.text),
        },
        Token::CDef(text) => format!("C<{}>", text.replace('\n', "\\n")),
        Token::Config => "CONFIG".to_owned(),
        Token::Macro => "MACRO".to_owned(),
        Token::Fn => "FN".to_owned(),
        Token::Bad(problem) => {
            let messages: Vec<_> = problem.iter().map(|d| d.message.as_str()).collect();
            format!("BAD<{}>", messages.join("; "))
        }
        Token::Unknown => "UNKNOWN".to_owned(),
        _ => text[t.span.start as usize..t.span.end as usize].to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn check(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        assert_eq!(shown(text), *want, "in {text:?}");
    }
}

#[test]
fn attach_points() {
    check(&[
        ("kprobe:vfs_read { }", "[kprobe:vfs_read] { }"),
        ("BEGIN{}END{}", "[BEGIN] { } [END] { }"),
        ("kprobe:a,kprobe:b,\nkprobe:c\n{}", "[kprobe:a] , [kprobe:b] , [kprobe:c] { }"),
        ("kprobe:a, {}", "[kprobe:a] , { }"),
        ("kprobe:vfs_* {}", "[kprobe:vfs_*] { }"),
        ("*:* {}", "[*:*] { }"),
        ("k*:a {}", "[k*:a] { }"),
        ("uprobe:/bin/*:foo+0x10 {}", "[uprobe:/bin/*:foo+0x10] { }"),
        ("uprobe:/a//b/*c:f {}", "[uprobe:/a//b/*c:f] { }"),
        ("usdt:./x:ns:p-q {}", "[usdt:./x:ns:p-q] { }"),
        ("kprobe:$1 {}", "[kprobe:$1] { }"),
        ("interval:s:1{}", "[interval:s:1] { }"),
        ("slow=kprobe:f {}", "[slow=kprobe:f] { }"),
        ("config=kprobe:f {}", "[config=kprobe:f] { }"),
        ("uprobe:/a/b=c:f {}", "[uprobe:/a/b=c:f] { }"),
        (r#"uprobe:"/a b,{}":"x::y<a, b>(int)" {}"#, r#"[uprobe:"/a b,{}":"x::y<a, b>(int)"] { }"#),
        (r#"uprobe:"a\"{b":f {}"#, r#"[uprobe:"a\"{b":f] { }"#),
        ("uprobe:/b:std::vector<int>::f {}", "[uprobe:/b:std::vector<int>::f] { }"),
        ("kprobe:f // c\n{}", "[kprobe:f] { }"),
        ("kprobe:f /* { */ {}", "[kprobe:f] { }"),
        ("BEGIN/* { */{}", "[BEGIN] { }"),
        ("#!/usr/bin/bpftrace\nBEGIN{}", "[BEGIN] { }"),
        ("#!/usr/bin/bpftrace", ""),
        ("\u{feff}BEGIN{}", "[BEGIN] { }"),
        ("f:vfs_read { }", "[f:vfs_read] { }"),
        ("fn:x { }", "[fn:x] { }"),
        ("a= {}", "BAD<the label has no probe> { }"),
        ("uprobe:\"a {}\nEND{}", "BAD<the string has no closing `\"`> [END] { }"),
    ]);
}

#[test]
fn predicates() {
    check(&[
        ("k:f /pid/ {}", "[k:f] /: pid :/ { }"),
        ("k:f/pid/ {}", "[k:f/pid/] { }"),
        ("BEGIN/pid/{}", "[BEGIN] /: pid :/ { }"),
        ("BEGIN /pid/{}", "[BEGIN] /: pid :/ { }"),
        ("k:f /arg0 / 2 > 10/ {}", "[k:f] /: arg0 / 2 > 10 :/ { }"),
        ("k:f /a/b/c/\n// x\n{}", "[k:f] /: a / b / c :/ { }"),
        ("k:f /1 / /* { */ {}", "[k:f] /: 1 :/ { }"),
        ("k:f\n/pid\n== 1/\n{}", "[k:f] /: pid == 1 :/ { }"),
        ("k:f /@x[1]/ < >", "[k:f] /: @x [ 1 ] :/ <: :>"),
        ("k:f /1 < 2/ < 1 < 2; >", "[k:f] /: 1 < 2 :/ <: 1 < 2 ; :>"),
        ("k:f /if 1 {2} else {3}/ {}", "[k:f] /: if 1 { 2 } else { 3 } :/ { }"),
        ("k:f /{ $x = 1; $x / 2 }/ {}", "[k:f] /: { $x = 1 ; $x / 2 } :/ { }"),
        (r#"k:f /comm == "/{"/ {}"#, r#"[k:f] /: comm == "/{" :/ { }"#),
        (
            "k:f /pid == 1 { } k:g { }",
            "[k:f] /: pid == 1 BAD<the predicate is not closed> { } [k:g] { }",
        ),
        ("k:f /pid == 1/", "[k:f] /: pid == 1 :/"),
        ("k:f /pid == 1/\nk:g { }", "[k:f] /: pid == 1 :/ [k:g] { }"),
    ]);
}

#[test]
fn angle_blocks() {
    check(&[
        (
            "kprobe:vfs_read < @[comm] = count(); >",
            "[kprobe:vfs_read] <: @ [ comm ] = count ( ) ; :>",
        ),
        ("kprobe:vfs_read < @[comm] = count() >", "[kprobe:vfs_read] <: @ [ comm ] = count ( ) :>"),
        ("BEGIN < >", "[BEGIN] <: :>"),
        ("BEGIN<>", "[BEGIN] <: :>"),
        ("BEGIN\n<\n>\n", "[BEGIN] <: :>"),
        ("BEGIN < ; >", "[BEGIN] <: ; :>"),
        (
            "BEGIN < if (@a > 1) { printf(\"x > y\"); } >",
            "[BEGIN] <: IF ( @a > 1 ) { printf ( \"x > y\" ) ; } :>",
        ),
        ("BEGIN < @x = @y > 3 ; >", "[BEGIN] <: @x = @y > 3 ; :>"),
        ("BEGIN < @x = @y > 3 >", "[BEGIN] <: @x = @y > 3 :>"),
        ("BEGIN < @x = a < b > c; >", "[BEGIN] <: @x = a < b > c ; :>"),
        ("BEGIN < f(a < b > c) >", "[BEGIN] <: f ( a < b > c ) :>"),
        ("BEGIN < $a->b >> 1; >", "[BEGIN] <: $a -> b >> 1 ; :>"),
        ("BEGIN < $a >= 1; >", "[BEGIN] <: $a >= 1 ; :>"),
        ("BEGIN < $x++>", "[BEGIN] <: $x ++ :>"),
        ("BEGIN < $x-->", "[BEGIN] <: $x -- :>"),
        ("BEGIN < $x = (1, 2).0 > 1; >", "[BEGIN] <: $x = ( 1 , 2 ) . 0 > 1 ; :>"),
        // Blocks inside, with braces.
        ("BEGIN < while (1) { } >", "[BEGIN] <: while ( 1 ) { } :>"),
        ("BEGIN < { 1 > 2 } >", "[BEGIN] <: BLOCK 1 > 2 } :>"),
        (
            "BEGIN < if 1 > 2 { } else if 2 > 1 { } else { } >",
            "[BEGIN] <: IF 1 > 2 { } else if 2 > 1 { } else { } :>",
        ),
        ("BEGIN < if $a > begin { } >", "[BEGIN] <: IF $a > begin { } :>"),
        ("BEGIN < while $a > pid { } >", "[BEGIN] <: while $a > pid { } :>"),
        ("BEGIN < for $i : 0..(1 > 2) { } >", "[BEGIN] <: for $i : 0 .. ( 1 > 2 ) { } :>"),
        // The brace of a value does not end a statement.
        (
            "BEGIN < $x = if 1 { 2 } else { 3 } > 1; >",
            "[BEGIN] <: $x = if 1 { 2 } else { 3 } > 1 ; :>",
        ),
        ("BEGIN < $x = if 1 { 2 } else { 3 } >", "[BEGIN] <: $x = if 1 { 2 } else { 3 } :>"),
        // Several probes.
        (
            "BEGIN < f() > k:f < g() > END < h() >",
            "[BEGIN] <: f ( ) :> [k:f] <: g ( ) :> [END] <: h ( ) :>",
        ),
        (
            "BEGIN < f(); > k:f,k:g /1 > 2/ < g() > END /1/ < h() >",
            "[BEGIN] <: f ( ) ; :> [k:f] , [k:g] /: 1 > 2 :/ <: g ( ) :> [END] /: 1 :/ <: h ( ) :>",
        ),
        ("BEGIN < f() > k:f { } ", "[BEGIN] <: f ( ) :> [k:f] { }"),
        ("BEGIN { } k:f < f() > END { }", "[BEGIN] { } [k:f] <: f ( ) :> [END] { }"),
        ("BEGIN < f() > a=k:f < >", "[BEGIN] <: f ( ) :> [a=k:f] <: :>"),
        ("BEGIN < f() > a=END < >", "[BEGIN] <: f ( ) :> [a=END] <: :>"),
        ("BEGIN < f() > k*:f < >", "[BEGIN] <: f ( ) :> [k*:f] <: :>"),
        ("BEGIN < f() > unknown { }", "[BEGIN] <: f ( ) :> [unknown] { }"),
        ("BEGIN < f() > macro m() { }", "[BEGIN] <: f ( ) :> MACRO m ( ) { }"),
        ("BEGIN < f() > fn g() : void { }", "[BEGIN] <: f ( ) :> FN g ( ) : void { }"),
        ("BEGIN < f() > let @x = hash(1);", "[BEGIN] <: f ( ) :> let @x = hash ( 1 ) ;"),
        ("BEGIN < f() > // x\n#define X\n", "[BEGIN] <: f ( ) :> C<#define X>"),
        // Not the head of a probe.
        ("BEGIN < @x = $a > b / c; >", "[BEGIN] <: @x = $a > b / c ; :>"),
        ("BEGIN < @x = $a > b / c >", "[BEGIN] <: @x = $a > b / c :>"),
        ("BEGIN < @x = 1 ? $a > b:c; >", "[BEGIN] <: @x = 1 ? $a > b : c ; :>"),
        ("BEGIN < @x = 1 ? $a > b:c >", "[BEGIN] <: @x = 1 ? $a > b : c :>"),
        ("BEGIN < @x = $a > b;\n{ } >", "[BEGIN] <: @x = $a > b ; BLOCK } :>"),
        ("BEGIN < @x = $a > comptime { 1 }; >", "[BEGIN] <: @x = $a > comptime { 1 } ; :>"),
        ("BEGIN < @x = $a > b; > k:f { }", "[BEGIN] <: @x = $a > b ; :> [k:f] { }"),
        ("BEGIN < @x = $a > b > k:f { }", "[BEGIN] <: @x = $a > b :> [k:f] { }"),
        // A mismatch ends the block.
        ("BEGIN < f(); } END { }", "[BEGIN] <: f ( ) ; } [END] { }"),
        ("BEGIN < f(1; > END { }", "[BEGIN] <: f ( 1 ; :> [END] { }"),
        // In a block with braces, `>` is an operator.
        ("BEGIN { 1; > }", "[BEGIN] { 1 ; > }"),
    ]);
}

#[test]
fn casts() {
    let body = |text: &str| {
        let all = shown(&format!("BEGIN {{ {text} }}"));
        let inner = all.strip_prefix("[BEGIN] { ").and_then(|t| t.strip_suffix(" }"));
        inner.expect("the block is whole").to_owned()
    };
    let cases = [
        ("(uint8)1", "(cast uint8 ) 1"),
        ("(uint8) -1", "(cast uint8 ) - 1"),
        ("(uint64)$x", "(cast uint64 ) $x"),
        ("(int32)++$x", "(cast int32 ) ++ $x"),
        ("(pid) * 2", "( pid ) * 2"),
        ("(retval) - 1", "( retval ) - 1"),
        ("(pid_t) - 1", "(cast pid_t ) - 1"),
        ("(pid_t)(1)", "(cast pid_t ) ( 1 )"),
        ("(arg0) & 1", "( arg0 ) & 1"),
        ("(argx) & 1", "(cast argx ) & 1"),
        ("(sarg1) * 1", "( sarg1 ) * 1"),
        ("(args) * 1", "( args ) * 1"),
        ("(__builtin_x) * 1", "( __builtin_x ) * 1"),
        ("(x) + 1", "( x ) + 1"),
        ("(x)", "( x )"),
        ("(x) == 1", "( x ) == 1"),
        ("(x, 1)", "( x , 1 )"),
        ("(x = 1)", "( x = 1 )"),
        ("(struct foo *)arg0", "(cast struct foo * ) arg0"),
        ("(struct foo)x", "(cast struct foo ) x"),
        ("(foo *)x", "(cast foo * ) x"),
        ("(foo **)x", "(cast foo * * ) x"),
        ("(pid * 2) * 3", "( pid * 2 ) * 3"),
        ("(int32*[4])x", "(cast int32 * [ 4 ] ) x"),
        ("(int32[4]*)x", "(cast int32 [ 4 ] * ) x"),
        ("(int8[])x", "(cast int8 [ ] ) x"),
        ("(comm[3]) - 1", "( comm [ 3 ] ) - 1"),
        ("(comm[$i]) - 1", "( comm [ $i ] ) - 1"),
        ("(typeof($x))1", "(cast typeof ( $x ) ) 1"),
        ("(typeof($x)*)1", "(cast typeof ( $x ) * ) 1"),
        ("f(uint8) * 2", "f ( uint8 ) * 2"),
        ("f (x) * 2", "f ( x ) * 2"),
        ("if (x) { }", "IF ( x ) { }"),
        ("if (uint8)$x { }", "IF (cast uint8 ) $x { }"),
        ("sizeof(x)", "sizeof ( x )"),
        ("sizeof(int32)", "sizeof ( int32 )"),
        ("sizeof(x*)", "sizeof (type x * )"),
        ("sizeof(x * y)", "sizeof ( x * y )"),
        ("sizeof(x[3])", "sizeof (type x [ 3 ] )"),
        ("sizeof(arg0[3])", "sizeof ( arg0 [ 3 ] )"),
        ("sizeof((x)[3])", "sizeof ( ( x ) [ 3 ] )"),
        ("sizeof(struct x)", "sizeof (type struct x )"),
        ("sizeof((struct x *)0)", "sizeof ( (cast struct x * ) 0 )"),
        ("offsetof(struct x, a.b)", "offsetof (type struct x , a . b )"),
        ("offsetof(x, let)", "offsetof ( x , let )"),
        ("typeof(x*)", "typeof (type x * )"),
        ("$x.if->for", "$x . if -> for"),
    ];
    for (text, want) in cases {
        assert_eq!(body(text), want, "in {text}");
    }
}

#[test]
fn names_that_the_script_defines_are_values() {
    let text = "#define N 3\nenum e { A, /* x */ B = 2 };\nmacro m() { 1 }\n\
                BEGIN { (N) * 1; (A) * 1; (B) * 1; (m) * 1; (C) * 1 }";
    let tokens = shown(text);
    assert!(
        tokens.contains("( N ) * 1 ; ( A ) * 1 ; ( B ) * 1 ; ( m ) * 1 ; (cast C ) * 1"),
        "{tokens}"
    );
}

#[test]
fn statements() {
    check(&[
        ("BEGIN { if 1 { } if 2 { } }", "[BEGIN] { IF 1 { } IF 2 { } }"),
        ("BEGIN { $x = if 1 { 2 } else if 3 { }; }", "[BEGIN] { $x = if 1 { 2 } else if 3 { } ; }"),
        ("BEGIN { { } { } }", "[BEGIN] { BLOCK } BLOCK } }"),
        ("BEGIN { while { 1 } { } }", "[BEGIN] { while { 1 } { } }"),
        ("BEGIN { $x = { 1 }; { } }", "[BEGIN] { $x = { 1 } ; BLOCK } }"),
        ("BEGIN { for $i : 0..3 { } { } }", "[BEGIN] { for $i : 0 .. 3 { } BLOCK } }"),
    ]);
}

#[test]
fn c_parts() {
    check(&[
        ("#include <a.h>\nBEGIN{}", "C<#include <a.h>> [BEGIN] { }"),
        ("  # define X 1 // c\nBEGIN{}", "C<# define X 1 // c> [BEGIN] { }"),
        ("#define X \\\n 1\nBEGIN{}", "C<#define X \\\\n 1> [BEGIN] { }"),
        ("#define X /* a\nb */ 1\nBEGIN{}", "C<#define X /* a\\nb */ 1> [BEGIN] { }"),
        ("struct x { int a; };\nBEGIN{}", "C<struct x { int a; };> [BEGIN] { }"),
        ("struct x { int a; }\nBEGIN{}", "C<struct x { int a; }> [BEGIN] { }"),
        (
            "struct x { struct { int a; } b; // }\n /* } */ } BEGIN{}",
            "C<struct x { struct { int a; } b; // }\\n /* } */ }> [BEGIN] { }",
        ),
        ("union x{char c;};BEGIN{}", "C<union x{char c;};> [BEGIN] { }"),
        ("enum { A, B };BEGIN{}", "C<enum { A, B };> [BEGIN] { }"),
        ("enum{ A, B };BEGIN{}", "C<enum{ A, B };> [BEGIN] { }"),
        ("enum e { A = '{' };BEGIN{}", "C<enum e { A = '{' };> [BEGIN] { }"),
        (
            "struct __attribute__((packed)) x { int a; }; BEGIN{}",
            "C<struct __attribute__((packed)) x { int a; };> [BEGIN] { }",
        ),
        (
            "struct x { int a; } __attribute__((packed)); BEGIN{}",
            "C<struct x { int a; } __attribute__((packed));> [BEGIN] { }",
        ),
        (
            "struct x; typedef int (*f)(int); int g(struct x *a); BEGIN{}",
            "C<struct x;> C<typedef int (*f)(int);> C<int g(struct x *a);> [BEGIN] { }",
        ),
        ("typedef struct { int a; } t; BEGIN{}", "C<typedef struct { int a; } t;> [BEGIN] { }"),
        ("BEGIN{}\n#define X 1", "[BEGIN] { } C<#define X 1>"),
        ("struct x { int a;\nBEGIN{}", "BAD<the `{` is not closed>"),
        ("BEGIN { # }", "[BEGIN] { UNKNOWN }"),
    ]);
}

#[test]
fn other_parts() {
    check(&[
        ("config = { a = 1; b = x }BEGIN{}", "CONFIG = { a = 1 ; b = x } [BEGIN] { }"),
        ("config={a=1}BEGIN{}", "CONFIG = { a = 1 } [BEGIN] { }"),
        ("import \"a\";BEGIN{}", "import \"a\" ; [BEGIN] { }"),
        ("import \"a\"BEGIN{}", "import \"a\" [BEGIN] { }"),
        ("let @ = hash(10);BEGIN{}", "let @ = hash ( 10 ) ; [BEGIN] { }"),
        ("let @x = hash(10)BEGIN{}", "let @x = hash ( 10 ) [BEGIN] { }"),
        ("let $x = 10;BEGIN{}", "let $x = 10 ; [BEGIN] { }"),
        ("macro m(@a, $b, c) { c }BEGIN{}", "MACRO m ( @a , $b , c ) { c } [BEGIN] { }"),
        (
            "fn f($a : struct x *) : int64 { return 1; }BEGIN{}",
            "FN f ( $a : struct x * ) : int64 { return 1 ; } [BEGIN] { }",
        ),
        ("kprobe:f\nmacro m() { }", "[kprobe:f] MACRO m ( ) { }"),
        ("BEGIN { } ; END { }", "[BEGIN] { } ; [END] { }"),
        ("} BEGIN { }", "} [BEGIN] { }"),
    ]);
}

#[test]
fn literals_and_bad_text() {
    check(&[
        (
            "BEGIN { 1_000 0x1fUL 1e6 10ms \"a\\\"b\" }",
            "[BEGIN] { 1_000 0x1fUL 1e6 10ms \"a\\\"b\" }",
        ),
        ("BEGIN { $1 $# $x @ @x @x_1 }", "[BEGIN] { $1 $# $x @ @x @x_1 }"),
        ("BEGIN { $t.0.1 0..5 }", "[BEGIN] { $t . 0 . 1 0 .. 5 }"),
        ("BEGIN { _ _a }", "[BEGIN] { _ _a }"),
        ("BEGIN { $ 1 }", "[BEGIN] { BAD<`$` is not followed by a name> 1 }"),
        ("BEGIN { $0 }", "[BEGIN] { BAD<there is no parameter `$0`; they count from `$1`> }"),
        ("BEGIN { 'a' }", "[BEGIN] { BAD<there are no character literals> }"),
        ("BEGIN { \u{201c} ` }", "[BEGIN] { UNKNOWN UNKNOWN }"),
        (
            "BEGIN { \"a }\nf(\"b\\",
            "[BEGIN] { BAD<the string has no closing `\"`> f ( BAD<the string has no closing `\"`>",
        ),
        ("BEGIN { \"\\q\\w\" }", "[BEGIN] { BAD<unknown escape `\\q`; unknown escape `\\w`> }"),
        ("BEGIN { /* x }", "[BEGIN] { BAD<the comment has no closing `*/`>"),
        ("BEGIN /* x", "[BEGIN] BAD<the comment has no closing `*/`>"),
        ("BEGIN { /*/ } */ }", "[BEGIN] { }"),
    ]);
}

#[test]
fn an_open_block_ends_at_the_next_head() {
    check(&[
        ("k:f { f();\nk:g { g(); }", "[k:f] { f ( ) ; [k:g] { g ( ) ; }"),
        ("k:f { f()\nk:g /1/ { g(); }", "[k:f] { f ( ) [k:g] /: 1 :/ { g ( ) ; }"),
        ("k:f { if (1) { f();\nEND { g(); }", "[k:f] { IF ( 1 ) { f ( ) ; [END] { g ( ) ; }"),
        ("k:f { f(1\nmacro m() { }", "[k:f] { f ( 1 MACRO m ( ) { }"),
        ("k:f <\nk:g < >", "[k:f] <: [k:g] <: :>"),
        // Not heads.
        ("k:f { $x = 1 ?\na:b; }", "[k:f] { $x = 1 ? a : b ; }"),
        ("k:f { $x = 1 ?\na:b,c { }", "[k:f] { $x = 1 ? a : b , c { }"),
        ("k:f { f();\nbegin(1); }", "[k:f] { f ( ) ; begin ( 1 ) ; }"),
        ("k:f { if $x ==\nend { } }", "[k:f] { IF $x == end { } }"),
    ]);
}

#[test]
fn printed_tokens() {
    let mut sources = Sources::default();
    let text = "#define A \\\n 1\nkprobe:f /1/ {\n  $\u{e9} < \"\u{e9}\"; }".to_owned();
    sources.add(Source { name: "stdin".to_owned(), text });
    let want = "1:1 c-definition #define A \\\\n 1\n3:1 attach-point kprobe:f\n\
                3:10 predicate-open /\n3:11 integer 1\n3:12 predicate-close /\n\
                3:14 punctuation {\n4:3 bad $\n4:4 unknown \u{e9}\n4:6 punctuation <\n\
                4:8 string \"\u{e9}\"\n4:11 punctuation ;\n4:13 punctuation }\n";
    assert_eq!(print(&sources, 0, &is_value), want);
}

#[test]
fn parts_start_where_they_should() {
    let text = "#define A 1\nconfig = { }\nBEGIN { } macro m() { 1 } k:a, k:b /1/ < >";
    let lexed = lex_items(text, 0, &is_value);
    let at = |i: &usize| lexed.tokens[*i].span.start as usize;
    let heads: Vec<&str> = lexed.starts.iter().map(|i| &text[at(i)..at(i) + 2]).collect();
    assert_eq!(heads, ["#d", "co", "BE", "ma", "k:"]);
}

/// Whatever the text, spans are ascending pieces of it.
#[test]
fn spans_are_in_order() {
    let text = "#define N 3\nstruct s { int a; };\nconfig = { a = \"b\" }\nimport \"x\";\n\
        kprobe:f, t:a:b /pid > 1 && (uint8)$1 / 2/ { @[comm, 1] = count(); $x->y.0[1]++; }\n\
        k:f < if (@a > 1) { printf(\"\\x41 \\q\"); } > END < @ = 1 > macro m($a, @b, c) { c }\n\
        BEGIN { for ($i : 0..10) { $x = $i ? 1ms : 'a'; } /* \u{e9} */ \u{2192} } let @a = hash(1)";
    crate::parser::mutate::each(text, 1000, |text| {
        let mut end = 0;
        for token in lex(text, 0, &is_value) {
            let range = token.span.start as usize..token.span.end as usize;
            assert!(range.start >= end && text.get(range.clone()).is_some(), "{text:?} {token:?}");
            end = range.end;
        }
    });
}
