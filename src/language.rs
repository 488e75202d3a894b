//! The language, section by section: what the reference says of it, and which cases of the tests
//! exercise it. `docs/reference/language.md` is made of this table; tests run its examples.

/// A part of the language.
pub struct Section {
    pub title: &'static str,
    /// Sentences in Markdown.
    pub text: &'static str,
    pub examples: &'static [Example],
    /// Cases below `tests/` that exercise it, without `.bt`, and what is in them that does.
    pub cases: &'static [(&'static str, &'static str)],
}

/// A script, and what it prints.
pub struct Example {
    /// Without `'`, which ends it on a command line.
    pub script: &'static str,
    /// Empty for a script that is only checked.
    pub prints: &'static str,
    /// Features that it needs, as `--info` names them, with `_` for blanks.
    pub needs: &'static str,
}

/// An example that prints something on every kernel.
const fn prints(script: &'static str, prints: &'static str) -> Example {
    Example { script, prints, needs: "" }
}

/// An example for kernels that have a feature.
const fn with(needs: &'static str, script: &'static str, prints: &'static str) -> Example {
    Example { script, prints, needs }
}

/// An example that is checked and not run.
const fn checked(script: &'static str) -> Example {
    Example { script, prints: "", needs: "" }
}

/// Every part of the language, in the order of the reference.
pub static SECTIONS: &[Section] = &[
    Section {
        title: "Text",
        text: "Blanks and line ends separate words and mean nothing else. `// …` and `/* … */` are \
               comments. Names have letters, digits and `_`; `$name` is a variable, `@name` a map, \
               and `@` alone a map too.\n\n\
               Integers are decimal, hexadecimal (`0x1F`), octal (`017`) or binary (`0b101`); `_` may \
               stand between digits; `1e6` is a million. The suffixes of C change nothing. Times \
               (`5us`, `10ms`, `2s`, `1m`, `1h`, `1d`) are nanoseconds. There are no fractions.\n\n\
               Strings are in double quotes; `\\n`, `\\t`, `\\r`, `\\\"`, `\\\\`, `\\x41` and `\\101` are \
               escapes. `true` and `false` are words of their own.",
        examples: &[prints(
            "begin { print((1_000_000, 1e6, 0x1F, 017, 0b101, 10ull, 2ms, \"A\\x42\\103\")); }",
            "(1000000, 1000000, 31, 15, 5, 10, 2000000, ABC)\n",
        )],
        cases: &[
            ("golden/stages/literals", "0x"),
            ("golden/errors/number-octal", "08"),
            ("golden/errors/bad-escape", "\\"),
            ("golden/errors/character-literal", "'a'"),
        ],
    },
    Section {
        title: "The parts of a script",
        text: "In this order: C definitions; a config block and imports; then probes, macros, functions \
               and declarations of maps, mixed as you like. Each part may be left out. A first line \
               that starts with `#!` is for the shell. A `;` too many does no harm, and neither does a \
               comma at the end of a list.",
        examples: &[prints(
            "#define LIMIT 3\nconfig = { max_strlen = 64 }\nlet @seen = hash(100);\nmacro twice(x) { x * 2 }\nbegin { @seen[twice(LIMIT)] = 1; print(@seen); clear(@seen); }",
            "@seen[6]: 1\n",
        )],
        cases: &[
            ("golden/errors/section-order", "begin"),
            ("golden/errors/config-twice", "config"),
            ("golden/errors/root-let", "let $x"),
            ("golden/stages/statements", ";"),
        ],
    },
    Section {
        title: "C definitions",
        text: "At the head of a script stand C's `struct`, `union`, `enum`, `typedef`, prototypes, and \
               lines of the preprocessor: `#define` (also over several lines), `#undef`, `#if` and its \
               kin, `#include`, `#pragma pack`. The kernel's own types need no definition, since \
               they come from its BTF; a definition of the script comes first for the names that it \
               defines.\n\n\
               A macro without parameters is a constant of the language, its value any expression. \
               Constants of enums are known by name, those of the kernel too. Members of anonymous \
               members belong to what is around them; `char[N]` is a string.\n\n\
               `#include \"x.h\"` reads a file in the folder of the script or one of `-I`; headers \
               of the kernel (`<linux/…>`, `<net/…>` and others) are taken from BTF, and common \
               constants that are macros there (`AF_INET`, `TASK_RUNNING`, `PATH_MAX`, `EPERM`, …) are \
               known. Other headers in angle brackets, and further constants, are read by libclang, \
               if it is installed. `BPFTRACE_HAVE_BTF` is defined where the kernel has BTF. Macros with \
               parameters are for C definitions only.",
        examples: &[prints(
            "#include <linux/socket.h>\n#ifdef BPFTRACE_HAVE_BTF\n#define SIZES (1 << 2)\n#endif\nenum color { RED, GREEN = 5, BLUE };\nstruct box { union { int a; char b; }; char name[SIZES]; };\nbegin {\n  print((BLUE, SIZES, sizeof(struct box), offsetof(struct box, name), AF_INET6));\n}",
            "(BLUE, 4, 8, 4, 10)\n",
        )],
        cases: &[
            ("runtime/definitions/anonymous", "union"),
            ("runtime/definitions/enums", "enum"),
            ("runtime/definitions/conditions", "#if"),
            ("runtime/language/header-constants", "#include"),
            ("runtime/definitions/library-headers", "<netdb.h>"),
            ("runtime/language/imports", "#include \""),
            ("golden/errors/include-missing", "#include"),
            ("golden/errors/define-function", "TWICE"),
            ("golden/errors/struct-twice", "struct"),
        ],
    },
    Section {
        title: "Config block",
        text: "`config = { key = value; … }` sets the [config variables](config.md); values are numbers, \
               strings, words, `true` and `false`. Names may be in capitals and start with `BPFTRACE_`.",
        examples: &[prints(
            "config = { print_maps_on_exit = false; BPFTRACE_MAX_STRLEN = 32 }\nbegin { @x = 1; print(\"quiet\"); }",
            "quiet\n",
        )],
        cases: &[
            ("golden/stages/config", "config"),
            ("golden/errors/unknown-config", "config"),
            ("runtime/maps/not-at-exit", "print_maps_on_exit"),
        ],
    },
    Section {
        title: "Imports",
        text: "`import \"path\";` takes over the probes, macros, functions, declarations and C definitions \
               of a `.bt` script, the definitions of a `.h` header, the functions of a `.bpf.o` object \
               or of a `.bpf.c` file (which clang compiles, if it is installed), or all of them from every such \
               file in a folder. Paths start at the folder of the script, else at those of `-I`. What is \
               imported runs first; a file that is imported twice counts once. Folders in which \
               everybody may write are refused.",
        examples: &[checked("import \"stdlib\";\nbegin { }")],
        cases: &[
            ("runtime/language/imports", "import"),
            ("golden/errors/import-missing", "import"),
            ("golden/errors/import-config", "import"),
            ("golden/errors/import-suffix", "import"),
        ],
    },
    Section {
        title: "Declarations of maps",
        text: "`let @name = kind(N);` gives a map room for N keys and a kind: `hash`, or `lruhash`, which \
               drops what was not used for long instead of new keys; for aggregations `percpuhash` and \
               `percpulruhash`. Without a declaration there is room for `max_map_keys`.",
        examples: &[prints(
            "let @few = hash(2);\nbegin { @few[1] = 10; @few[2] = 20; print(@few[2]); clear(@few); }",
            "20\n",
        )],
        cases: &[
            ("runtime/maps/declared", "let @"),
            ("golden/errors/map-kind-values", "hash"),
            ("golden/errors/map-declared-twice", "let @m"),
        ],
    },
    Section {
        title: "Macros",
        text: "`macro name(parameters) { … }` is expanded where it is called, before types are known. A \
               parameter `$v` takes a variable and `@m` a map, which the macro may change; a plain \
               name takes any expression, evaluated wherever it stands, or a type (`typeof(…)`, `struct \
               x`). The last expression, without `;`, is the value. Variables of the macro are its \
               own. Macros of one name may differ in number and kinds of their parameters. One without \
               parameters is also called by its name alone.",
        examples: &[prints(
            "macro bump(@m, $last, by) { @m += by; $last = by; @m > 5 }\nmacro bump(@m) { @m++; }\nmacro size(t) { sizeof(t) }\nbegin {\n  @n = 0; $by = 0;\n  print(bump(@n, $by, 4));\n  bump(@n);\n  print(bump(@n, $by, 1));\n  print((@n, $by, size(typeof(int32))));\n  clear(@n);\n}",
            "false\ntrue\n(6, 1, 4)\n",
        )],
        cases: &[
            ("golden/stages/macros", "macro"),
            ("runtime/control/macros", "macro"),
            ("golden/errors/macro-recursion", "macro"),
            ("golden/errors/macro-circle", "macro"),
            ("golden/errors/macro-map-element", "macro"),
            ("golden/errors/macro-unhygienic", "macro"),
        ],
    },
    Section {
        title: "Functions",
        text: "`fn name($a : type, …) : type { … return value; }` is compiled once, to a BPF function, \
               and can be called from every probe, loop and other function. It takes up to five values \
               and gives one, or nothing: `void`. Numbers are converted; any pointer goes for any other; \
               strings, tuples and the like are copied, and a `string` without a size has the largest. Where \
               all are numbers and pointers, the kernel's verifier looks at the function once, else \
               wherever it is called; and a result that is neither takes the place of a parameter. A function belongs to no probe: \
               `args`, `retval`, stacks and the like are passed to it, if at all. It cannot call itself.\n\n\
               Functions of imported objects are called in the same way, if they are not `static`; they follow \
               no pointers but addresses of variables, `&$v`. So are functions of the kernel that it lets \
               programs call (kfuncs), by what its BTF says of them; `kfunc_allowed(\"name\")` tells whether \
               a probe may.",
        examples: &[prints(
            "fn clamp($n : int64, $most : int64) : int64 {\n  if ($n > $most) {\n    return $most;\n  }\n  return $n;\n}\nfn tell($n : int64) : void { printf(\"%d\\n\", clamp($n, 10)); }\nbegin { tell(7); for ($i : 9..12) { tell($i); } }",
            "7\n9\n10\n10\n",
        )],
        cases: &[
            ("runtime/functions/numbers", "fn "),
            ("runtime/functions/maps", "fn "),
            ("runtime/functions/values", "fn "),
            ("golden/errors/function-result-parameters", "fn "),
            ("golden/errors/function-text-too-long", "fn "),
            ("runtime/functions/memory", "fn "),
            ("runtime/functions/linked", "triple("),
            ("runtime/functions/of-the-kernel", "bpf_task_from_pid("),
            ("golden/errors/foreign-calls", "hidden"),
            ("runtime/functions/exit-and-return", "exit"),
            ("golden/errors/function-recursion", "fn f"),
            ("golden/errors/function-argument-range", "300"),
        ],
    },
    Section {
        title: "Probes",
        text: "Attach points with commas between them, a predicate between slashes if need be, and a block: \
               `kprobe:a, kprobe:b /pid == 1/ { … }`. All kinds are in [probes.md](probes.md). The block \
               is checked for each attach point on its own, so `args` may differ. A name and `=` before \
               an attach point is its label: that is what `probe` gives. Quotes take odd characters of a \
               path as they are, and `$1` is a parameter of the script. `return` ends the run of a \
               probe.",
        examples: &[
            prints(
                "first=begin /1 + 1 == 2/ { print(probe); }\nbegin /false/ { print(\"never\"); }",
                "first\n",
            ),
            checked(
                "tracepoint:syscalls:sys_enter_openat, tracepoint:syscalls:sys_enter_open\n/comm != \"rtrace\"/\n{\n  @[str(args.filename)] = count();\n}",
            ),
        ],
        cases: &[
            ("runtime/probes/labels", "="),
            ("runtime/probes/several-attach-points", ","),
            ("runtime/control/predicates", "/"),
            ("golden/stages/predicate-division", "/"),
            ("golden/errors/unclosed-predicate", "/"),
        ],
    },
    Section {
        title: "Statements",
        text: "Assignment (`=`, and `+= -= *= /= %= &= |= ^= <<= >>=`) to variables, maps and elements of \
               maps; `++` and `--` before or after them; `let $v : type = value;`; calls; `_ = value;` \
               for a value that is not wanted; `if`, `while`, `for`, `unroll`, `break`, `continue`, \
               `return`, and blocks. A `;` stands between statements, not needed before `}` and after \
               a block. Parentheses around conditions may be left out. Fields, elements of arrays and \
               memory cannot be assigned.",
        examples: &[prints(
            "begin {\n  $x = 7; $x <<= 2; $x ^= 1; $x %= 10;\n  @m[\"a\"] = 5; @m[\"a\"] *= 3; @m[\"a\"]--;\n  _ = $x++;\n  if $x == 10 { print((--$x, $x++, $x)) } else { print(\"no\") }\n  print(@m[\"a\"]);\n  clear(@m);\n}",
            "(9, 9, 10)\n14\n",
        )],
        cases: &[
            ("golden/stages/statements", "+="),
            ("runtime/control/increments", "++"),
            ("golden/errors/assign-through-pointer", "*$p"),
            ("golden/errors/assign-in-condition", "="),
            ("golden/errors/unused-value", "begin"),
        ],
    },
    Section {
        title: "Expressions",
        text: "Operators and their order are C's: postfix, prefix and casts, `* / %`, `+ -`, `<< >>`, \
               comparisons, `== !=`, `&`, `^`, `|`, `&&`, `||`, `c ? a : b`; `a ?: b` is `a` unless that \
               is zero. `&&` and `||` stop early. `.` and `->` mean the same and follow pointers. A \
               block, or an `if` with `else`, is a value if it ends in an expression without `;`. \
               Conditions are numbers, booleans and pointers.",
        examples: &[prints(
            "begin {\n  print((1 + 2 * 3, 1 << 2 + 1, 6 & 3 == 3, 0 ?: 5, -7 / 2, !0));\n  $x = { let $a = 4; $a * $a };\n  print(if ($x > 10) { \"large\" } else { \"small\" });\n}",
            "(7, 8, 0, 5, -3, true)\nlarge\n",
        )],
        cases: &[
            ("golden/stages/precedence", "&"),
            ("runtime/language/arithmetic", "begin"),
            ("runtime/control/short-circuit", "&&"),
            ("runtime/control/block-values", "{"),
            ("golden/errors/ternary-types", "?"),
            ("golden/errors/if-without-value", "if"),
        ],
    },
    Section {
        title: "Types",
        text: "`int8` to `int64`, `uint8` to `uint64`, `bool`, `string[N]`, `buffer[N]`, pointers (`T *`), \
               arrays (`T[N]`), `struct x`, `union x`, `enum x`, names of C and the kernel (`size_t`, `u32`, \
               `pid_t`), tuples, records, stacks, addresses with a name (`ksym`, `usym`), `inet`, \
               `macaddr_t`, `username_t`, `timestamp`, `cgroup_path_t`. They print as what they are. \
               All can be kept in variables and maps, and be keys. `let $v : string` takes its size \
               from what is assigned.",
        examples: &[prints(
            "begin {\n  let $a : uint16[3];\n  let $p : struct task_struct *;\n  let $n : size_t = 3;\n  print(($a, $p, $n, true, (int8)-1));\n}",
            "([0,0,0], 0x0, 3, true, -1)\n",
        )],
        cases: &[
            ("runtime/control/declared-types", "let"),
            ("runtime/language/bools", "true"),
            ("runtime/builtins/print-values", "print"),
            ("golden/errors/unknown-type", "begin"),
        ],
    },
    Section {
        title: "Integers",
        text: "A literal has the smallest signed type that holds it and adapts to the sign of the other \
               operand. Arithmetic gives 64 bits: signed if an operand is, and always for `-`. `/`, `%` \
               and `>>` of signed numbers are those of C. Dividing by zero gives 1 and a warning. \
               Comparisons are booleans, signed if an operand is. The type of a variable or map is the \
               common type of all that is assigned to it, whatever the order. A declared type stays: \
               numbers that do not fit are an error if they are literals, else cut, with a warning.",
        examples: &[prints(
            "begin {\n  print(((uint64)1 - (uint64)2, -8 >> 1, -7 % 3, (uint8)300, 0xffffffffffffffff));\n  $small = 1; $wide = 1; $wide = 70000;\n  print((sizeof($small), sizeof($wide), sizeof($small + 1)));\n}",
            "(-1, -4, -1, 44, 18446744073709551615)\n(1, 4, 8)\n",
        )],
        cases: &[
            ("runtime/control/integers", "int"),
            ("runtime/control/division-by-zero", "/"),
            ("golden/errors/let-overflow", "let"),
            ("golden/errors/let-lossy", "int32"),
            ("golden/errors/fold-overflow", "begin"),
        ],
    },
    Section {
        title: "Casts",
        text: "`(type)value` converts between numbers, pointers and booleans; takes the bytes of a number for \
               an array or back; makes a string longer; and says what a number points to: \
               `(struct task_struct *)arg0`. A number cast to an enum prints by name. A pointer keeps \
               the memory that its number came from. `(string)` of a text, `(bool)` of a string (whether \
               it is empty) and `typeof(…)` as a type work too.",
        examples: &[prints(
            "enum level { LOW = 1, HIGH };\nbegin {\n  $n = 0x01020304;\n  print(((uint8[4])(uint32)$n, (enum level)2, (int8)200, (bool)\"\", (typeof($n))5));\n  print((uint64)(int32 *)8 + 1);\n}",
            "([4,3,2,1], HIGH, -56, false, 5)\n9\n",
        )],
        cases: &[
            ("golden/stages/casts", "("),
            ("runtime/language/bools", "(bool)"),
            ("golden/errors/cast-array-size", "uint8[16]"),
            ("golden/errors/enum-constant", "enum color"),
            ("golden/errors/cast-to-struct", "struct"),
        ],
    },
    Section {
        title: "Strings and bytes",
        text: "A string has a size and ends at its first NUL; if there is none, it was cut, and prints with \
               `..` behind it. `str(p)` reads up to `max_strlen` bytes. `==` and `!=` compare text, `[i]` \
               gives a byte, `+` joins literals. `char[N]` of structs is a string, `buf(p, n)` is bytes.",
        examples: &[prints(
            "begin {\n  $s = \"abc\" + \"def\";\n  if ($s == \"abcdef\" && $s != \"abc\") { print(($s, $s[1], \"/\"[0])); }\n  print(buf(\"a\\x01b\", 3));\n}",
            "(abcdef, 98, 47)\na\\x01b\n",
        )],
        cases: &[
            ("runtime/language/strings", "\""),
            ("runtime/strings/compare", "=="),
            ("runtime/strings/max-strlen", "MAX_STRLEN"),
            ("runtime/printf/buffers", "buf"),
            ("golden/errors/string-too-long", "max_strlen"),
        ],
    },
    Section {
        title: "Arrays, tuples, records",
        text: "Arrays come from structs and casts; `a[i]` checks the index, also while the script runs. `(1, \
               \"x\")` is a tuple, `(1,)` has one element and `()` none; `.0` or `[0]` takes an element. \
               `(a=1, b=\"x\")` is a record, `.a` a field. They may be nested, compared with `==`, be keys, \
               and cannot be changed; elements of tuples that are assigned to one variable get their \
               common types.",
        examples: &[prints(
            "begin {\n  $t = (1, (2, \"x\"));\n  $r = (n=3, t=$t);\n  $a = (uint8[4])1;\n  print(($t.1.1, $t[0], $r.t.1.0, $r, $a[0]));\n  print($r == (t=$t, n=3));\n}",
            "(x, 1, 2, { .n = 3, .t = (1, (2, x)) }, 1)\ntrue\n",
        )],
        cases: &[
            ("runtime/structs/arrays", "["),
            ("runtime/maps/keys", "("),
            ("golden/errors/index-past-end", ".5"),
            ("golden/errors/tuple-element-past-end", ".2"),
            ("golden/errors/record-field-unknown", ".sise"),
            ("golden/errors/assign-record-field", ".a = 3"),
        ],
    },
    Section {
        title: "Structs and pointers",
        text: "`p->x`, `p.x`, `*p` and `p[i]` read memory of the kernel or the process, safely: a read that \
               fails gives zeroes, and is counted for the end. Each pointer on the way is followed. `p + 1` \
               and `p++` count by what is pointed to. Bit fields and members of anonymous structs and \
               unions are read by name; a whole struct can be kept and printed. `&$v` and `&@m` are the \
               addresses of a variable and a map.",
        examples: &[prints(
            "begin {\n  $t = curtask;\n  print(($t->pid == tid, $t.parent->parent.pid >= 0, ((int32 *)0)[3]));\n  $n = 5;\n  $p = &$n;\n  $n = 6;\n  print(*$p);\n  print((uint64)((int64 *)16 + 2));\n}",
            "(true, true, 0)\n6\n32\n\n\nWARNING: the output lacks something\n       1  stdin:3:3  reads: no address of the kernel\n",
        )],
        cases: &[
            ("runtime/structs/pointers", "*"),
            ("runtime/structs/bit-fields", "->"),
            ("runtime/structs/whole", "*"),
            ("runtime/language/addresses", "&$x"),
            ("runtime/language/pointers-in-maps", "@p++"),
            ("golden/errors/void-pointer", "void"),
            ("golden/errors/unknown-member", "."),
            ("golden/errors/address-of-value", "&5"),
        ],
    },
    Section {
        title: "Kernel and user memory",
        text: "A pointer belongs to the kernel or to the process, by where it came from: arguments of uprobes \
               and of `syscalls` tracepoints to the process, nearly all others to the kernel. It keeps \
               that in variables, maps and casts. `uptr(p)` and `kptr(p)` say otherwise.",
        examples: &[checked(
            "tracepoint:syscalls:sys_enter_openat { @name[tid] = args.filename; }\ntracepoint:syscalls:sys_exit_openat /@name[tid]/ {\n  printf(\"%s\\n\", str(@name[tid]));\n  delete(@name, tid);\n}",
        )],
        cases: &[
            ("runtime/strings/kept-for-the-return", "@"),
            ("runtime/structs/user-memory", "str"),
        ],
    },
    Section {
        title: "Variables",
        text: "`$v` lives for one run of a probe, from its first assignment or `let` to the end of the block. \
               A name is declared once. Declared and not assigned, it is zero or empty. Older scripts \
               that use a variable after the block that assigned it are understood, with a warning.",
        examples: &[prints(
            "begin {\n  let $sum;\n  if (1) { $part = 5; $sum = $part; }\n  { $part = \"another one\"; }\n  print($sum);\n}",
            "5\n",
        )],
        cases: &[
            ("runtime/control/scopes", "$"),
            ("runtime/language/never-assigned", "let $y"),
            ("runtime/language/outside-of-the-block", "$name"),
            ("golden/errors/shadowed-variable", "let"),
            ("golden/errors/variable-outside-block", "$x"),
            ("golden/errors/variable-type", "$"),
        ],
    },
    Section {
        title: "Maps",
        text: "`@m` keeps one value, `@m[k]` one for each key; `@m[a, b]` has the tuple as its key. What is \
               not there reads as zero. `delete(@m, k)`, `has_key(@m, k)`, `len(@m)`, `clear(@m)`, `zero(@m)` \
               and `print(@m)` are [builtins](builtins.md). A full map drops new keys, and says so. All \
               maps are printed at the end.",
        examples: &[with(
            "for_each_map_elem",
            "begin {\n  @n = 1; @n += 2;\n  @by[\"x\", 1] = 10; @by[\"longer\", 70000] = 20;\n  delete(@by, (\"x\", 1));\n  print((@n, @by[\"longer\", 70000], @by[\"none\", 1], has_key(@by, (\"x\", 1)), len(@by)));\n}",
            "(3, 20, 0, false, 1)\n\n@by[longer, 70000]: 20\n@n: 3\n",
        )],
        cases: &[
            ("runtime/maps/keys", "@"),
            ("runtime/maps/functions", "("),
            ("runtime/maps/full", "@"),
            ("golden/errors/map-scalar-keyed", "@"),
            ("golden/errors/map-key-type", "@"),
            ("golden/errors/map-value-type", "@"),
        ],
    },
    Section {
        title: "Aggregations",
        text: "`@m[k] = count()`, `sum(n)`, `min(n)`, `max(n)`, `avg(n)`, `stats(n)`, `hist(n)` and `lhist(n, \
               from, to, step)` add to what is there, on each CPU on its own, so that nothing gets lost and \
               nobody waits. They are put together when read. Counts, sums, extremes and averages can be \
               used as numbers.",
        examples: &[with(
            "lookup_percpu_elem",
            "begin {\n  for ($i : 1..4) { @sum = sum($i); @top[$i > 2] = max($i); }\n  if (@sum > 5) { print((int64)@sum + 1); }\n}",
            "7\n\n@sum: 6\n@top[false]: 2\n@top[true]: 3\n",
        )],
        cases: &[
            ("runtime/aggregations/read-in-kernel", "@"),
            ("runtime/aggregations/hist", "hist"),
            ("runtime/aggregations/lhist", "lhist"),
            ("golden/errors/aggregation-in-variable", "$"),
            ("golden/errors/map-two-aggregations", "@"),
            ("golden/errors/lhist-bounds", "lhist"),
        ],
    },
    Section {
        title: "Branches and loops",
        text: "`if`, `else if`, `else`. `while (c) { … }` and `for ($i : a..b) { … }` (without `b`) make up to \
               8388608 rounds where the kernel has `bpf_loop` (5.17); the verifier looks at the body \
               once. Without it, it must see the end of each loop. `for ($kv : @m) { … }` visits the keys \
               of a map in no order: `$kv.0` is the key, `$kv.1` the value. `unroll (n) { … }` repeats 1 \
               to 100 times. `break`, `continue` and `return` work in all of them. `exit()` ends \
               tracing and the run of the probe.",
        examples: &[
            with(
                "loop",
                "begin {\n  $n = 0; $sum = 0;\n  while (true) { $n++; if ($n > 100000) { break; } if ($n % 2) { continue; } $sum += $n; }\n  for ($i : 0..1000000) { $sum++; }\n  print($sum);\n}",
                "2501050000\n",
            ),
            with(
                "for_each_map_elem",
                "begin {\n  @price[\"tea\"] = 3;\n  for ($kv : @price) { printf(\"%s costs %d\\n\", $kv.0, $kv.1); }\n  unroll (2) { printf(\"-\"); }\n  printf(\"\\n\");\n  clear(@price);\n}",
                "tea costs 3\n--\n",
            ),
        ],
        cases: &[
            ("runtime/control/while", "while"),
            ("runtime/control/ranges", "for"),
            ("runtime/maps/nested-loops", "for"),
            ("runtime/language/long-loops", "while"),
            ("runtime/language/loop-limit", "while"),
            ("runtime/stacks/in-a-loop", "kstack"),
            ("golden/errors/range-without-loops", "for"),
            ("golden/errors/unroll-bounds", "unroll"),
            ("golden/errors/break-outside-loop", "break"),
        ],
    },
    Section {
        title: "Compile time",
        text: "Operators on literals are computed when the script is compiled. `sizeof(type or value)` and \
               `offsetof(type, a.b)` are numbers; of a map with keys, `sizeof(@m)` is that of the key. \
               `typeof(value)` stands where a type does. `typeinfo(value)` is a record: `.base_type` \
               and `.full_type` are its name. `comptime value` must be known by then; `if comptime \
               (…) { … } else { … }` looks at one of its blocks only.",
        examples: &[prints(
            "macro show(v) {\n  if comptime (typeinfo(v).base_type == \"string\") { printf(\"text %s\\n\", v); }\n  else { printf(\"%s %d\\n\", typeinfo(v).full_type, v); }\n}\nbegin {\n  show(\"abc\");\n  show((uint16)7);\n  $t = (1, 70000);\n  let $same : typeof($t) = (2, 3);\n  print((sizeof($same), sizeof(struct task_struct *)));\n}",
            "text abc\nuint16 7\n(8, 8)\n",
        )],
        cases: &[
            ("runtime/language/compile-time", "comptime"),
            ("runtime/structs/sizes", "sizeof"),
            ("golden/errors/comptime-unknown", "comptime"),
            ("golden/errors/offsetof-unknown", "offsetof"),
            ("golden/errors/division-by-zero", "/"),
        ],
    },
    Section {
        title: "Parameters",
        text: "Words behind the script are `$1`, `$2` and on, `$#` is their number. One that looks like a \
               number is one; `str($1)` is its text in any case. One that is not given is 0, or empty. \
               `getopt(\"name\", default)` is a named one, given behind `--` as `--name=value`.",
        examples: &[prints("begin { printf(\"%d %d\\n\", $#, getopt(\"size\", 5)); }", "0 5\n")],
        cases: &[
            ("runtime/params/positional", "$1"),
            ("runtime/params/as-bounds", "$1"),
            ("runtime/params/getopt", "getopt"),
            ("golden/errors/missing-parameter", "$"),
            ("golden/errors/parameter-zero", "$0"),
        ],
    },
    Section {
        title: "Limits",
        text: "Strings have up to `max_strlen` bytes; values too large for the kernel's stack live in memory \
               of the program that no other run of it touches. All large values of one probe together \
               have room for 32 KiB. A function takes five parameters, `printf` as many values as fit a \
               record, `lhist` makes up to 1000 buckets, a script up to `max_bpf_progs` programs. What \
               a kernel cannot do is told before anything is attached.",
        examples: &[prints(
            "config = { max_strlen = 4000 }\nbegin {\n  $a = str(curtask.mm.exe_file.f_path.dentry.d_name.name);\n  $b = ($a, \"next to it\", $a);\n  print((sizeof($b), $b.1));\n}",
            "(8011, next to it)\n",
        )],
        cases: &[
            ("runtime/strings/max-strlen", "MAX_STRLEN"),
            ("runtime/maps/long-keys", "@"),
            ("runtime/printf/many-values", "printf"),
            ("golden/errors/string-too-long", "max_strlen"),
            ("golden/errors/function-parameters", "fn f"),
        ],
    },
    Section {
        title: "Mistakes",
        text: "All mistakes that a stage finds are told, each at its place, with what to write instead. \
               Warnings are about what is probably not meant; `--no-warnings` silences them.",
        examples: &[],
        cases: &[
            ("golden/errors/several", "begin"),
            ("golden/errors/unknown-function", "begin"),
            ("golden/errors/argument-count", "begin"),
            ("golden/errors/format-type", "printf"),
            ("golden/errors/compare-types", "begin"),
            ("golden/errors/unsafe-function", "begin"),
        ],
    },
    Section {
        title: "Older scripts",
        text: "Spellings of all releases of bpftrace are understood: `BEGIN`, `END`, `kfunc`, `kretfunc`, \
               `args->x`, `stack`, `sym(x)`, `delete(@m[k])` with several elements, `sargN`, upper-case \
               suffixes, old names of config variables and of environment variables. `exit()` may stand in \
               a `for` loop.",
        examples: &[with(
            "for_each_map_elem",
            "BEGIN {\n  @m[1] = 10UL; @m[2] = 20; @m[3] = 30;\n  delete(@m[1], @m[2]);\n  for ($kv : @m) { print($kv.1); exit(); }\n}\nEND { clear(@m); }",
            "30\n",
        )],
        cases: &[
            ("runtime/language/old-spellings", "delete(@m[1], @m[2])"),
            ("runtime/language/outside-of-the-block", "$name"),
            ("runtime/probes/aliases", ":"),
        ],
    },
];
