//! What parses and how, what does not and why.

use super::{ast, mutate, parse, parse_expr, print};
use crate::diag::Diagnostics;
use crate::source::{Source, Sources};

const VALUES: [&str; 12] = [
    "pid", "tid", "comm", "cpu", "retval", "nsecs", "args", "uid", "count", "str", "has_key",
    "printf",
];

fn is_value(name: &str) -> bool {
    VALUES.contains(&name)
}

fn sources(text: &str) -> Sources {
    let mut sources = Sources::default();
    sources.add(Source { name: "stdin".to_owned(), text: text.to_owned() });
    sources
}

fn parsed(text: &str) -> (ast::Script, Diagnostics) {
    parse(&sources(text), 0, &is_value)
}

fn parses(text: &str) -> ast::Script {
    let (script, diagnostics) = parsed(text);
    let shown = diagnostics.render(&sources(text), crate::diag::Form::Text);
    assert!(diagnostics.list.is_empty(), "{text}\n{shown}");
    script
}

/// The body of a probe, grouped, on one line.
fn grouped(body: &str) -> String {
    let script = parses(&format!("BEGIN {{ {body} }}"));
    one_line(&print::print_grouped(&script))
}

fn one_line(printed: &str) -> String {
    let all = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    let inner = all.strip_prefix("BEGIN {").and_then(|t| t.strip_suffix("}"));
    inner.map_or_else(|| all.clone(), |t| t.trim().to_owned())
}

/// Messages and the text that they point at, in the order of the script.
fn errors(text: &str) -> Vec<(String, String)> {
    let (_, diagnostics) = parsed(text);
    // Every message must be printable.
    diagnostics.render(&sources(text), crate::diag::Form::Text);
    let mut list: Vec<_> = diagnostics
        .list
        .iter()
        .map(|d| {
            let span = d.primary.as_ref().expect("has a place").0;
            let at = &text[span.start as usize..span.end as usize];
            (span, d.message.clone(), at.to_owned())
        })
        .collect();
    list.sort();
    list.into_iter().map(|(_, message, at)| (message, at)).collect()
}

const PRECEDENCE: [(&str, &str); 45] = [
    ("$a + $b * $c", "($a + ($b * $c))"),
    ("$a * $b + $c", "(($a * $b) + $c)"),
    ("$a - $b - $c", "(($a - $b) - $c)"),
    ("$a / $b % $c * $d", "((($a / $b) % $c) * $d)"),
    ("$a << $b + $c", "($a << ($b + $c))"),
    ("$a < $b << $c", "($a < ($b << $c))"),
    ("$a == $b < $c", "($a == ($b < $c))"),
    ("$a & 1 == 0", "($a & (1 == 0))"),
    ("$a ^ $b & $c", "($a ^ ($b & $c))"),
    ("$a | $b ^ $c", "($a | ($b ^ $c))"),
    ("$a && $b | $c", "($a && ($b | $c))"),
    ("$a || $b && $c", "($a || ($b && $c))"),
    ("$a ? $b : $c ? $d : $e", "($a ? $b : ($c ? $d : $e))"),
    ("$a ? $b ? 1 : 2 : 3", "($a ? ($b ? 1 : 2) : 3)"),
    ("$a || $b ? 1 : 2", "(($a || $b) ? 1 : 2)"),
    ("$a ?: $b ?: $c", "($a ?: ($b ?: $c))"),
    ("$a ? : 1", "($a ?: 1)"),
    ("!$a == $b", "((!$a) == $b)"),
    ("-$a * $b", "((-$a) * $b)"),
    ("!~-$a", "(!(~(-$a)))"),
    ("- -$a", "(-(-$a))"),
    ("**$p", "(*(*$p))"),
    ("*$p.x", "(*$p.x)"),
    ("(*$p).x", "(*$p).x"),
    ("&$a", "(&$a)"),
    ("&@m", "(&@m)"),
    ("(uint8)$a + 1", "(((uint8)$a) + 1)"),
    ("(uint8)-$a.b[1]", "((uint8)(-$a.b[1]))"),
    ("(struct x *)arg0", "((struct x *)arg0)"),
    ("((struct x *)arg0)->y.z", "((struct x *)arg0).y.z"),
    ("(pid) * 2", "(pid * 2)"),
    ("(typeof($x)*[4])1", "((typeof($x) *[4])1)"),
    ("comptime 1 + 2", "((comptime 1) + 2)"),
    ("$a++ + ++$b", "($a++ + ++$b)"),
    ("-(--$a)", "(-(--$a))"),
    ("$a - --$b", "($a - --$b)"),
    ("$a.b->c.0[1].if", "$a.b.c.0[1].if"),
    ("@m[1, (2, 3)][4]", "@m[1, (2, 3)][4]"),
    ("@m[1].x", "@m[1].x"),
    ("@m.x", "@m.x"),
    ("(@m)[1]", "(@m)[1]"),
    ("f(1)(2)", "f(1)"),
    ("f (1, typeof(int32), typeof($x))", "f(1, typeof(int32), typeof($x))"),
    ("1 + if $a { 2 } else { 3 }", "(1 + (if ($a) { 2 } else { 3 }))"),
    ("if ($a) { 1 }.x", "if"),
];

#[test]
fn precedence() {
    for (text, want) in PRECEDENCE {
        if matches!(text, "f(1)(2)" | "if ($a) { 1 }.x") {
            assert!(!errors(&format!("BEGIN {{ {text} }}")).is_empty(), "{text}");
            continue;
        }
        assert_eq!(grouped(text), want, "{text}");
    }
}

#[test]
fn statements() {
    let cases = [
        ("$x = 1;", "$x = 1;"),
        ("@ = 1; @x[1,2,] = 2", "@ = 1; @x[1, 2] = 2;"),
        ("$x *= 1 + 2;", "$x *= (1 + 2);"),
        (
            "$x += 1; $x -= 1; $x /= 1; $x %= 1; $x &= 1; $x |= 1; $x ^= 1; $x <<= 1; $x >>= 1",
            "$x += 1; $x -= 1; $x /= 1; $x %= 1; $x &= 1; $x |= 1; $x ^= 1; $x <<= 1; $x >>= 1;",
        ),
        ("$x++; ++$x; @m[1]--; --@", "$x++; ++$x; @m[1]--; --@"),
        (
            "let $x; let $y : int32; let $z = 1; let $w : struct a * = 0;",
            "let $x; let $y : int32; let $z = 1; let $w : struct a * = 0;",
        ),
        ("let $x : string[64] = \"a\"", "let $x : string[64] = \"a\";"),
        ("_ = f();", "_ = f();"),
        ("if ($a) { f(); }", "if ($a) { f(); }"),
        (
            "if $a == 1 { f() } else if ($b) { g() } else { h() }",
            "if ($a == 1) { f() } else if ($b) { g() } else { h() }",
        ),
        ("if (1) { } f(); if (1) { }; f()", "if (1) { } f(); if (1) { } f()"),
        ("if (1) { };", "if (1) { };"),
        ("if ($a) { } *$p", "if ($a) { } (*$p)"),
        (
            "if has_key(@m, 1) { } if !$x { } if comptime (1) { }",
            "if (has_key(@m, 1)) { } if (!$x) { } if (comptime 1) { }",
        ),
        ("if (1) && (2) { }", "if (1 && 2) { }"),
        ("while (1) { break; continue; }", "while (1) { break; continue; }"),
        ("while $x < 5 { } f()", "while ($x < 5) { } f()"),
        ("for ($kv : @m) { f($kv.0) }", "for ($kv : @m) { f($kv.0) }"),
        ("for $kv : @m { }", "for ($kv : @m) { }"),
        ("for ($i : 0..10) { }", "for ($i : 0..10) { }"),
        ("for $i : -1..($n + 1) { };", "for ($i : (-1)..($n + 1)) { }"),
        ("for $i : $a..f(1) { }", "for ($i : $a..f(1)) { }"),
        ("for ($i : @m[1]..2) { }", "for ($i : @m[1]..2) { }"),
        ("unroll(5) { } unroll $1 { }", "unroll (5) { } unroll ($1) { }"),
        ("return; return 1; return", "return; return 1; return;"),
        ("{ $x = 1; } { f() }", "{ $x = 1; } { f() }"),
        ("import \"stdlib\";", "import \"stdlib\";"),
        (";;f();;", "f();"),
        ("$x = if (1) { 2 } else { 3 };", "$x = if (1) { 2 } else { 3 };"),
        ("$x = { let $y = 1; $y };", "$x = { let $y = 1; $y };"),
        ("f({ 1 }, if 1 { 2 })", "f({ 1 }, if (1) { 2 })"),
        ("$x = (1,); $y = (); $z = (1, \"a\",)", "$x = (1,); $y = (); $z = (1, \"a\");"),
        ("$x = (a=1, b=2,); $y = (a = 1)", "$x = (a = 1, b = 2); $y = (a = 1);"),
        ("f(1, 2,); g()", "f(1, 2); g()"),
        ("$x = $1 + $#; str($1)", "$x = ($1 + $#); str($1)"),
        ("delete(@m[1]); delete(@m, 1)", "delete(@m[1]); delete(@m, 1)"),
        ("printf(\"\\033[31m\\\"\\\\ \\xff\\n\")", "printf(\"\\x1b[31m\\\"\\\\ \\xff\\n\")"),
        (
            "$x = sizeof(struct a) + sizeof(int32) + sizeof($x) + sizeof(x[3]) + sizeof((x[3]))",
            "$x = ((((sizeof(struct a) + sizeof(int32)) + sizeof($x)) + sizeof(x[3])) + sizeof((x[3])));",
        ),
        (
            "$x = offsetof(struct a, b.c) + offsetof(*$x, for)",
            "$x = (offsetof(struct a, b.c) + offsetof((*$x), for));",
        ),
        (
            "$x = typeinfo(1); $y = true ? false : true",
            "$x = typeinfo(1); $y = (true ? false : true);",
        ),
        ("$x = pid(); $y = pid; $z = nsecs(sw_tai)", "$x = pid(); $y = pid; $z = nsecs(sw_tai);"),
        ("$a = \"/\"[0] == 47", "$a = (\"/\"[0] == 47);"),
        ("@[comm] = count()", "@[comm] = count();"),
        ("$x = delete(@m, $k);", "$x = delete(@m, $k);"),
        ("(nsecs - @start[tid]) / 1e6", "((nsecs - @start[tid]) / 1000000)"),
    ];
    for (text, want) in cases {
        assert_eq!(grouped(text), want, "{text}");
    }
}

const SCRIPTS: [&str; 31] = [
    "",
    "#!/usr/bin/env bpftrace\n",
    "BEGIN{}END{}",
    "kprobe:vfs_read /pid > 1/ { @[comm] = count(); }",
    "kprobe:vfs_read < @[comm] = count(); >",
    "kprobe:f /pid > 1/ < @x = @y > 3 >",
    "BEGIN < if (@a > 1) { printf(\"x > y\"); } > END < f() > k:f < >",
    "kprobe:a,\nt:b:c, /1/ { }",
    "slow=kprobe:f, x=BEGIN { }",
    "uprobe:\"/a b\":\"f<a, b>\" < @ = 1 > uprobe:/b:g<int> { }",
    "#include <linux/x.h>\n#ifndef X\n#define X 1\n#endif\nstruct a {\n  int b;\n};\n\nBEGIN { }",
    "config = { a = 1; b = \"x\"; c = y; d = true }\nimport \"a.bt\";\nimport \"b.h\";\nBEGIN { }",
    "config = { }",
    "config = { ; a = 1;; }",
    "import \"x\"; config = { a = 1 } import \"y\"",
    "let @a = hash(10);\nlet @ = lruhash(1e3)\nBEGIN { }",
    "macro m(@m, $d, e,) { @m += e; $d = e; $d > 10 } macro n() { n() }",
    "macro m(x) { if (x) { 1 } else if 2 { 3 } else { 4 } }",
    "macro t(T) { (T)1; sizeof(T); let $x : T *; (struct T)2 }",
    "macro one { 1 } BEGIN { f(struct x, union y *, typeof(1)); }",
    "fn f($a : int64, $b : struct foo*,) : int64 { return $a; } fn g() : void { }",
    "fn f($a : typeof(1)) : string[4] { return \"a\"; }",
    "BEGIN { { { } } };;",
    "tracepoint:syscalls:sys_enter_open,\ntracepoint:syscalls:sys_enter_openat\n{\n  \
     @name[tid] = args->filename;\n}\n\n// The end.\nEND\n{\n  clear(@name);\n}",
    "kretprobe:f\n/@start[tid] && (retval != 0)/\n{ @ns[comm, kstack(3)] = hist((nsecs - @start[tid]) / 1e3); }",
    "kprobe:f { $s = (struct sock *)arg0; $p = ($s->port >> 8) | (($s->port << 8) & 0x00FF00); }",
    "kprobe:f { $v = (uint64)*(uint32*)($p + 4); @ = lhist($v, -10, 10, 1); return }",
    "interval:s:1 { print(@, 5, 1000); printf(\"%-6d %s\\n\", pid, str(args.name, 16)) }",
    "watchpoint:0x1000:8:rw { } hardware:cache-misses:1e6 { } usdt:./x:\"a b\":* { } iter:task { }",
    "BEGIN /*$p/ { }\n*/ { }",
    "BEGIN / *$p / { } END /-1/{ f(/*x*/) // }\n}",
];

#[test]
fn scripts() {
    for text in SCRIPTS {
        parses(text);
    }
    let script = parses("a=kprobe:f,\"x\":y /1/ { }");
    let ast::Item::Probe(probe) = &script.items[0] else { panic!("not a probe") };
    let (first, second) = (&probe.attach_points[0], &probe.attach_points[1]);
    assert_eq!(first.label.as_ref().map(|l| l.node.as_str()), Some("a"));
    assert_eq!((first.text.as_str(), first.span.start, first.span.end), ("kprobe:f", 2, 10));
    assert_eq!((second.text.as_str(), second.span.start), ("\"x\":y", 11));
}

/// What is printed parses to what was printed.
#[test]
fn printing_is_stable() {
    let bodies = PRECEDENCE.iter().map(|(text, _)| format!("BEGIN {{ {text} }}"));
    let scripts = SCRIPTS.iter().map(|s| (*s).to_owned()).chain(bodies);
    for text in scripts {
        let (script, diagnostics) = parsed(&text);
        if diagnostics.has_errors() {
            continue;
        }
        let plain = print::print(&script);
        let again = parses(&plain);
        assert_eq!(print::print(&again), plain, "{text}");
        let grouped = print::print_grouped(&script);
        assert_eq!(print::print_grouped(&again), grouped, "{text}");
        assert_eq!(print::print_grouped(&parses(&grouped)), grouped, "{text}");
        assert_eq!(print::print(&parses(&grouped)), plain, "{text}");
    }
}

#[test]
fn printed_scripts_look_like_this() {
    let text = "#define X 1\nconfig={a=1}import \"b\";let @a=hash(1);let @b=hash(2);\
                kprobe:f,kprobe:g/pid/{}t:a:b /pid>1&&!$x/{if($a){f()}else{$x=1}@=count()}";
    let want = "#define X 1\n\nconfig = {\n  a = 1;\n}\n\nimport \"b\";\n\n\
                let @a = hash(1);\nlet @b = hash(2);\n\nkprobe:f,\nkprobe:g/pid/ { }\n\n\
                t:a:b /pid > 1 && !$x/ {\n  if ($a) {\n    f()\n  } else {\n    $x = 1;\n  }\n  \
                @ = count();\n}\n";
    assert_eq!(print::print(&parses(text)), want);
}

#[test]
fn expressions_alone() {
    let one = |text: &str| parse_expr(&sources(text), 0, &is_value);
    let (expr, diagnostics) = one(" (1 + (uint8)X) * 2 ");
    assert!(diagnostics.list.is_empty());
    assert_eq!(print::print_expr(&expr), "(1 + (uint8)X) * 2");
    for text in
        ["", "1 +", "1; 2", "1 2", "{", "$x = 1", "}", "do { } while (0)", "__attribute__((x))("]
    {
        let (expr, diagnostics) = one(text);
        assert!(diagnostics.has_errors(), "{text}");
        assert_eq!(expr.node, ast::ExprKind::Error, "{text}");
    }
}

/// Every error: message and the characters that it points at.
#[test]
fn mistakes() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        // Ends of statements.
        ("BEGIN { $x = 1 $y = 2; }", &[("expected `;`", "")]),
        ("BEGIN { f()\n g() }", &[("expected `;`", "")]),
        ("BEGIN { f()\n if (1) { } }", &[("expected `;`", "")]),
        (
            "BEGIN { 1 2; 3 4; 5 6 }",
            &[("expected `;`", ""), ("expected `;`", ""), ("expected `;`", "")],
        ),
        // Brackets.
        ("BEGIN { f();", &[("the `{` is not closed", "{")]),
        ("BEGIN < f();", &[("the `<` is not closed", "<")]),
        ("BEGIN { f(); }\nk:f { if (1) { f(); }\nEND { }", &[("the `{` is not closed", "{")]),
        ("BEGIN { f(1; g(); }", &[("the `(` is not closed", ";")]),
        ("BEGIN { if ($x == 1 { f(); } g(); }", &[("the `(` is not closed", "{")]),
        ("BEGIN { @x[1 = 2; }", &[("an assignment is a statement, not an expression", "=")]),
        ("BEGIN { @x[1; }", &[("the `[` is not closed", ";")]),
        ("BEGIN { f(1]; }", &[("the `(` is not closed", "]")]),
        ("BEGIN { f()); }", &[("this closes nothing", ")")]),
        ("BEGIN { } }", &[("this closes nothing", "}")]),
        ("BEGIN < f(); }", &[("the `<` is not closed", "}")]),
        ("BEGIN { f(); >", &[("unexpected `>`", ">")]),
        // Probes.
        ("kprobe:f", &[("the probe has no block", "kprobe:f")]),
        ("kprobe:f,", &[("the probe has no block", ",")]),
        ("kprobe:f /1/", &[("the probe has no block", "/")]),
        ("kprobe:f\nmacro m() { }", &[("the probe has no block", "kprobe:f")]),
        ("kprobe:f kprobe:g { }", &[("an attach point follows another", "kprobe:g")]),
        ("kprobe:f /pid == 1 { f(); }", &[("the predicate is not closed", "{")]),
        ("kprobe:f /pid == 1", &[("the predicate is not closed", "/")]),
        ("kprobe:f /pid = 1/ { }", &[("an assignment is a statement, not an expression", "=")]),
        ("kprobe:f // { }", &[("the probe has no block", "kprobe:f")]),
        ("{ f(); }", &[("the block has no attach point", "{")]),
        ("; ) BEGIN { }", &[("unexpected `)`", ")")]),
        ("kprobe:f f(); ", &[("the block of the probe is not opened", "")]),
        ("kprobe:f kprobe:g { }", &[("an attach point follows another", "kprobe:g")]),
        // Sections.
        (
            "BEGIN { }\nstruct x { int a; };\n",
            &[(
                "C definitions must come before probes, macros, functions and map declarations",
                "struct x { int a; };",
            )],
        ),
        (
            "BEGIN { }\n#define X \\\n 1\n",
            &[(
                "C definitions must come before probes, macros, functions and map declarations",
                "#define X \\",
            )],
        ),
        (
            "BEGIN { } config = { }",
            &[(
                "the config block must come before probes, macros, functions and map declarations",
                "config",
            )],
        ),
        (
            "let @x = hash(1); import \"a\";",
            &[(
                "imports must come before probes, macros, functions and map declarations",
                "import",
            )],
        ),
        ("import \"a\"; #define X", &[("unexpected `#`", "#")]),
        ("kprobe:f # comment\n{ f( }", &[("unexpected `#`", "#")]),
        (
            "import \"a\";\n#define X",
            &[("C definitions must come before the config block and imports", "#define X")],
        ),
        ("config = { } config = { }", &[("there is a second config block", "config")]),
        ("let $x = 1;", &[("only maps are declared outside of blocks", "$x")]),
        ("let x = 1; BEGIN { }", &[("only maps are declared outside of blocks", "x")]),
        ("let @x = hash;", &[("unexpected `;`", ";")]),
        ("config = { a 1 }", &[("unexpected `1`", "1")]),
        ("macro m [ { }", &[("unexpected `[`", "[")]),
        ("fn f() { }", &[("unexpected `{`", "{")]),
        // Statements and expressions.
        ("BEGIN { let @x = 1; }", &[("maps are not declared in blocks", "@x")]),
        ("BEGIN { x = 1; }", &[("this cannot be assigned", "x")]),
        (
            "BEGIN { $t.0 = 1; $r.f = 1; *$p = 1; $a[0] = 1; @m[1][2] = 1; f() = 1 }",
            &[
                ("this cannot be assigned", "$t.0"),
                ("this cannot be assigned", "$r.f"),
                ("this cannot be assigned", "*$p"),
                ("this cannot be assigned", "$a[0]"),
                ("this cannot be assigned", "@m[1][2]"),
                ("this cannot be assigned", "f()"),
            ],
        ),
        ("BEGIN { if ($x = 1) { } }", &[("an assignment is a statement, not an expression", "=")]),
        ("BEGIN { $x = $y = 1; }", &[("an assignment is a statement, not an expression", "=")]),
        (
            "BEGIN { f()++; --1; &f(); &@m[1] }",
            &[
                ("`++` cannot change this", "f()++"),
                ("`--` cannot change this", "--1"),
                ("the address of this cannot be taken", "&f()"),
                ("the address of this cannot be taken", "&@m[1]"),
            ],
        ),
        ("BEGIN { $x = ; }", &[("unexpected `;`", ";")]),
        ("BEGIN { $x = 1 + ; $y = * ; }", &[("unexpected `;`", ";"), ("unexpected `;`", ";")]),
        ("BEGIN { else { } }", &[("this `else` has no `if`", "else")]),
        (
            "BEGIN { f(\"a\" \"b\"); }",
            &[("strings that follow each other are not joined", "\"b\"")],
        ),
        ("BEGIN { for (i = 0; i < 1; i++) { } }", &[("unexpected name", "i")]),
        ("BEGIN { for ($i = 0; $i < 1; $i++) { } }", &[("unexpected `=`", "=")]),
        ("BEGIN { for ($i : 5) { } }", &[("a `for` loop cannot run over this", "5")]),
        ("BEGIN { 1.5 }", &[("there are no floating-point numbers", "1.5")]),
        ("BEGIN { $x = (int32; }", &[("the `(` is not closed", ";")]),
        ("BEGIN { while (1) f(); }", &[("unexpected `f`", "f")]),
        ("BEGIN { f(a b); g(c d); }", &[("unexpected `b`", "b"), ("unexpected `d`", "d")]),
        // Bad text is said once.
        (
            "BEGIN { f(08, \"\\q\", 1); 2 3 }",
            &[
                ("`8` is not a digit of an octal number", "8"),
                ("unknown escape `\\q`", "\\q"),
                ("expected `;`", ""),
            ],
        ),
        ("BEGIN { printf(\"abc); }\nEND { }", &[("the string has no closing `\"`", "\"abc); }")]),
        ("BEGIN { f() # g(); }", &[("unexpected `#`", "#")]),
        ("BEGIN { $ = 1; }", &[("`$` is not followed by a name", "$")]),
        ("BEGIN { /* }", &[("the comment has no closing `*/`", "/*")]),
        ("BEGIN { $x = 'a'; }", &[("there are no character literals", "'a'")]),
        // A broken part costs no other.
        (
            "BEGIN { ( } k:f { ) } END { f() }",
            &[("the `(` is not closed", "}"), ("this closes nothing", ")")],
        ),
    ];
    for (text, want) in cases {
        let want: Vec<_> = want.iter().map(|(m, at)| ((*m).to_owned(), (*at).to_owned())).collect();
        assert_eq!(errors(text), want, "{text}");
    }
}

#[test]
fn a_missing_semicolon_is_after_the_statement() {
    let text = "BEGIN { $x = 1   \n  $y = 2; }";
    let (_, diagnostics) = parsed(text);
    let span = diagnostics.list[0].primary.as_ref().expect("has a place").0;
    assert_eq!((span.start, span.end), (14, 14));
}

/// The deepest trees that are allowed fit on the stack of a test thread.
#[test]
fn deep_trees() {
    let deep = [
        format!("BEGIN {{ $x = {}1 }}", "!".repeat(490)),
        format!("BEGIN {{ $x = {}1{} }}", "f(".repeat(490), ")".repeat(490)),
        format!("BEGIN {{ $x = 1{} }}", " + 1".repeat(490)),
        format!("BEGIN {}{}", "{ ".repeat(490), "} ".repeat(490)),
        format!("BEGIN {{ if 1 {{ }} {} }}", "else if 1 { } ".repeat(490)),
    ];
    for text in deep {
        let script = parses(&text);
        let plain = print::print(&script);
        assert_eq!(print::print(&parses(&plain)), plain);
    }
    let text = format!("BEGIN {{ $x = {}1 }} END {{ 1 2 }}", "!".repeat(600));
    let messages: Vec<_> = errors(&text).into_iter().map(|e| e.0).collect();
    assert_eq!(messages, ["this is nested too deeply", "expected `;`"]);
}

#[test]
fn nothing_panics() {
    let bodies = PRECEDENCE.iter().map(|(text, _)| format!("BEGIN {{ {text}; }}"));
    for text in SCRIPTS.iter().map(|s| (*s).to_owned()).chain(bodies) {
        mutate::each(&text, 30, |text| drop(errors(text)));
    }
    for piece in [
        "(", "{", "[", "!", "1+", "if 1 ", "else ", "<", ">", "/", "k:f{", "\"", "a.b[", "(int8)",
        "@x[", "$x?", "#\n", "$x=1;", "struct ", ",", ";",
    ] {
        errors(&piece.repeat(3000));
        errors(&format!("BEGIN {{ {}", piece.repeat(3000)));
        errors(&format!("BEGIN < {}", piece.repeat(3000)));
        errors(&format!("BEGIN /{}", piece.repeat(3000)));
    }
}
