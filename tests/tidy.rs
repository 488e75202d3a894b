//! House rules, checked: walls around foreign libraries and between stages, file heads, nothing
//! left over, no expectation without a case. What clippy can check is in `Cargo.toml` instead.
//!
//! An exception is a row here, with its reason.

mod harness;

use std::path::PathBuf;
use std::sync::OnceLock;

use harness::live::Plan;
use harness::{files, relative, root};
use regex::{Captures, Regex};
use rtrace::probes::PROVIDERS;

/// A name that may stand in some places only, and why.
struct Wall {
    /// Found as a path (`name::`).
    name: &'static str,
    /// Below `src/`: a file, or a folder with its `/`. Nowhere else.
    only_in: &'static [&'static str],
    because: &'static str,
}

/// Every foreign library has one wall; so have the file system, processes and the environment.
const WALLS: [Wall; 29] = [
    wall("logos", &["lexer/"], "only the lexer knows how text becomes tokens"),
    wall("lalrpop_util", &["parser/"], "only the parser knows its generator"),
    wall("codespan_reporting", &["diag/"], "diagnostics are drawn in one place"),
    wall("clap", &["cli.rs", "driver/"], "flags are one struct, which the driver may explain"),
    wall("inkwell", &["codegen/"], "LLVM is the back end's"),
    wall("llvm_sys", &["codegen/"], "LLVM is the back end's"),
    wall("libbpf_rs", &["runtime/"], "BPF is loaded by the run side only"),
    wall("libbpf_sys", &["runtime/"], "BPF is loaded by the run side only"),
    wall("blazesym", &["runtime/"], "addresses become names when results are read"),
    wall("prost", &["runtime/"], "formats of other tools"),
    wall("flate2", &["runtime/"], "formats of other tools"),
    wall("inferno", &["flame.rs"], "flame graphs are drawn in one place"),
    wall("clap_mangen", &["driver/"], "the manual page is made from the flags"),
    wall("clap_complete", &["cli.rs", "driver/"], "completions are made from the flags"),
    wall("ctrlc", &["runtime/"], "signals end a session"),
    wall("lsp_server", &["driver/lsp/"], "editors are talked to in one place"),
    wall("lsp_types", &["driver/lsp/"], "editors are talked to in one place"),
    wall(
        "object",
        &["object.rs", "host/", "codegen/", "runtime/"],
        "ELF is read by the host and of our own making",
    ),
    wall(
        "clang_sys",
        &["host/headers.rs"],
        "headers that only a C compiler reads become plain C there",
    ),
    wall("iced_x86", &["host/code.rs"], "instructions become places there"),
    wall("gimli", &["host/dwarf/"], "debug information becomes types and places there"),
    wall("rustc_demangle", &["host/"], "names of user binaries"),
    wall("memmap2", &["host/", "runtime/"], "files are mapped where they are read"),
    wall("cpp_demangle", &["host/", "probes/", "runtime/"], "names of user binaries"),
    wall("std::fs", IO, "facts come from `Host::at(root)`"),
    wall("std::process", IO, "stages do no I/O of their own"),
    wall("std::env", IO, "stages do no I/O of their own"),
    wall(
        "nix",
        &["builtins/", "cli.rs", "driver/", "host/", "info.rs", "main.rs", "run.rs", "runtime/"],
        "stages do no I/O of their own; builtins have names of signals and errors from it",
    ),
    wall("libc", &["host/", "runtime/", "codegen/"], "system calls and their constants"),
];

/// Who may look at the world outside.
const IO: &[&str] =
    &["cli.rs", "config.rs", "driver/", "host/", "main.rs", "run.rs", "runtime/", "source.rs"];

/// A folder, what it must not refer to, and why.
const LAYERS: [(&str, &[&str], &str); 6] = [
    (
        "lexer/",
        &["sema", "builtins", "probes", "host", "ir", "plan", "codegen", "runtime"],
        "text has no meaning yet",
    ),
    (
        "parser/",
        &["sema", "builtins", "probes", "host", "ir", "plan", "codegen", "runtime"],
        "a tree has no meaning yet",
    ),
    (
        "ir/",
        &["lexer", "parser", "sema", "builtins", "codegen", "runtime"],
        "the IR knows neither names nor back ends",
    ),
    (
        "plan/",
        &["lexer", "parser", "sema", "builtins", "codegen", "runtime"],
        "the plan is plain data",
    ),
    (
        "codegen/",
        &["lexer", "parser", "sema", "builtins", "probes", "runtime"],
        "names end in sema",
    ),
    (
        "runtime/",
        &["lexer", "parser", "sema", "builtins", "codegen"],
        "a stored object runs without the compiler",
    ),
];

/// What must not stay in the source, where it is allowed all the same, and why not.
const LEFT_OVERS: [(&str, &[&str], &str); 8] = [
    ("dbg!(", &[], "left over"),
    ("todo!(", &[], "not done"),
    ("unimplemented!(", &[], "not done"),
    ("#[ignore", &[], "a test that should fail asserts the wrong result and says so"),
    ("println!(", PRINTS, "output goes through `runtime/output`"),
    ("print!(", PRINTS, "output goes through `runtime/output`"),
    ("eprintln!(", PRINTS, "messages go through `diag`"),
    ("eprint!(", PRINTS, "messages go through `diag`"),
];

const PRINTS: &[&str] = &["driver/", "main.rs"];

/// Where unsafe code may be. Clippy sees to it that each block says why it is sound.
const UNSAFE: &[&str] = &["codegen/", "host/", "runtime/"];

/// Lines in a file. From 600 on, a file is likely to have a second subject.
const LONGEST: usize = 1000;

const fn wall(name: &'static str, only_in: &'static [&'static str], because: &'static str) -> Wall {
    Wall { name, only_in, because }
}

// ---------------------------------------------------------------- the source

/// A file with its code: comments, texts and unit tests are blanked out, lines stay where they
/// are.
struct Code {
    /// Below `src/`.
    name: String,
    code: String,
}

impl Code {
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.name == *place || place.ends_with('/') && self.name.starts_with(place)
        })
    }

    /// Numbers of the lines that a pattern is found on.
    fn lines_with(&self, pattern: &Regex) -> Vec<usize> {
        let line = |at| self.code.get(..at).map_or(0, |before| before.matches('\n').count() + 1);
        pattern.find_iter(&self.code).map(|found| line(found.end() - 1)).collect()
    }
}

/// Finds a text where it is not a part of a longer name.
fn whole(text: &str) -> Regex {
    let edge = |byte: Option<u8>| {
        if byte.is_some_and(|b| b.is_ascii_alphanumeric()) { r"\b" } else { "" }
    };
    let (first, last) = (edge(text.bytes().next()), edge(text.bytes().last()));
    regex(&format!("{first}{}{last}", regex::escape(text)))
}

/// Finds what refers to something in `path`, a crate or a module of one: `path::…`, but not
/// `crate::path::…`; and `use std::{…, path, …}`, over several lines.
fn uses(path: &str) -> Regex {
    let (base, last) = path.rsplit_once("::").unwrap_or(("", path));
    let grouped = format!(r"(?s)\buse {base}::\{{[^;]*\b{last}\b");
    let direct = format!(r"(?m)(?:^|[^\w:])(?:::)?{path}::");
    regex(&if base.is_empty() { direct } else { format!("{direct}|{grouped}") })
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

/// Every file of `src/` but those that only test.
fn source() -> &'static [Code] {
    static SOURCE: OnceLock<Vec<Code>> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let base = root().join("src");
        let is_code = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
                && !path.iter().any(|part| part == "tests")
        };
        let paths = files(&base).into_iter().filter(is_code);
        paths.map(|path| Code { name: relative(&path, &base), code: code(&read(&path)) }).collect()
    })
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Rust text with its comments, strings and characters blanked out.
fn code(text: &str) -> String {
    let pattern = concat!(
        r"//[^\n]*",
        r"|(?s:/\*.*?\*/)",
        r##"|r#"(?s:.*?)"#"##,
        r#"|r"[^"]*""#,
        r#"|"(?:[^"\\]|\\(?s:.))*""#,
        r"|'(?:[^'\\\n]|\\[^\n]{1,10}?)'",
    );
    static BLANK: OnceLock<Regex> = OnceLock::new();
    static TESTS: OnceLock<Regex> = OnceLock::new();
    // Unit tests are the last thing in a file.
    let tests = TESTS.get_or_init(|| regex(r"\n#\[cfg\(test\)\]\n[a-z() ]*mod \w+ \{"));
    let text = tests.split(text).next().unwrap_or(text);
    let lines = |found: &Captures| found[0].chars().filter(|c| *c == '\n').collect::<String>();
    BLANK.get_or_init(|| regex(pattern)).replace_all(text, lines).into_owned()
}

/// Fails with all faults, a line each.
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Fails if one of the patterns is found in a file where it must not be: `rules` has a
/// pattern, whether it holds for a file, and what to say.
fn nowhere(rules: impl IntoIterator<Item = (Regex, impl Fn(&Code) -> bool, String)>) {
    let mut faults = Vec::new();
    for (pattern, holds, because) in rules {
        for file in source().iter().filter(|file| holds(file)) {
            for line in file.lines_with(&pattern) {
                faults.push(format!("src/{}:{line}: {because}", file.name));
            }
        }
    }
    none(faults);
}

#[test]
fn walls_stand() {
    nowhere(WALLS.iter().map(|Wall { name, only_in, because }| {
        let says = format!("`{name}` has no place here: {because}");
        (uses(name), move |file: &Code| !file.is_in(only_in), says)
    }));
}

#[test]
fn stages_know_only_what_comes_before() {
    nowhere(LAYERS.iter().flat_map(|(folder, others, because)| {
        others.iter().map(move |other| {
            let says = format!("`{folder}` must not know `{other}`: {because}");
            (whole(&format!("crate::{other}")), move |file: &Code| file.is_in(&[*folder]), says)
        })
    }));
}

#[test]
fn nothing_is_left_over() {
    nowhere(LEFT_OVERS.iter().map(|(text, places, because)| {
        (whole(text), move |file: &Code| !file.is_in(places), format!("`{text}…`: {because}"))
    }));
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    let says = format!("unsafe code is for {UNSAFE:?}");
    nowhere([(whole("unsafe"), |file: &Code| !file.is_in(UNSAFE), says)]);
}

#[test]
fn files_say_what_they_are_for() {
    let mut faults = Vec::new();
    for folder in ["src", "grammar", "tests", "benches", "fuzz/fuzz_targets"] {
        for path in files(&root().join(folder)) {
            let head = match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => "//! ",
                Some("lalrpop") => "// ",
                _ => continue,
            };
            if !read(&path).starts_with(head) {
                faults.push(format!("{}: begins without `{head}…`", relative(&path, root())));
            }
        }
    }
    none(faults);
}

#[test]
fn files_are_not_too_long() {
    let all =
        ["src", "grammar", "tests"].into_iter().flat_map(|folder| files(&root().join(folder)));
    let code = all.filter(|path| {
        path.extension().is_some_and(|extension| extension == "rs" || extension == "lalrpop")
    });
    none(
        code.filter_map(|path| {
            let lines = read(&path).lines().count();
            (lines > LONGEST).then(|| {
                format!(
                    "{}: {lines} lines; is there a second subject in it?",
                    relative(&path, root())
                )
            })
        })
        .collect(),
    );
}

#[test]
fn comments_and_texts_are_not_code() {
    let text = "a(\"b\\\"c\", 'd', '\\n', &'e f); // g\n/* h\nh */ r#\"i\"j\"# k r\"l\\\" m";
    assert_eq!(code(text).split_whitespace().collect::<String>(), "a(,,,&'ef);km");
    assert_eq!(code(text).lines().count(), text.lines().count());
    let text = "xlogos::y\nlogos::z\nunsafely\nunsafe {";
    let file = Code { name: "a/b.rs".into(), code: text.into() };
    assert_eq!(file.lines_with(&uses("logos")), [2]);
    assert_eq!(file.lines_with(&whole("unsafe")), [4]);
    let text = "use std::{\n    fs,\n};\nuse crate::logos::a;\nuse std::{io};\nstd::fs::read(fs)";
    let grouped = Code { name: String::new(), code: text.into() };
    assert_eq!(grouped.lines_with(&uses("std::fs")), [2, 6]);
    assert_eq!(grouped.lines_with(&uses("logos")), [0; 0]);
    assert!(file.is_in(&["a/"]) && file.is_in(&["a/b.rs"]) && !file.is_in(&["a", "b.rs"]));
}

// ---------------------------------------------------------------- scripts

#[test]
fn scripts_say_how_to_use_them() {
    let mut faults = Vec::new();
    for path in files(&root().join("scripts")) {
        let name = relative(&path, root());
        let text = read(&path);
        let Some(head) = text.strip_prefix("#!/usr/bin/env rtrace\n") else {
            faults.push(format!("{name}: begins without `#!/usr/bin/env rtrace`"));
            continue;
        };
        let usage = head
            .lines()
            .take_while(|line| line.starts_with("//"))
            .any(|line| line.contains("sage:"));
        if !usage {
            faults.push(format!("{name}: its head has no `Usage:`"));
        }
    }
    none(faults);
}

#[test]
fn golden_cases_and_files_belong_together() {
    let mut faults = Vec::new();
    for path in files(&root().join("tests/golden")) {
        let is_case = path.extension().is_some_and(|extension| extension == "bt");
        let name = relative(&path, root());
        if is_case
            && !["tokens", "ast", "ir", "plan", "stderr"]
                .iter()
                .any(|stage| path.with_extension(stage).exists())
        {
            faults.push(format!(
                "{name}: nothing is expected of it; `touch` a file beside it and `make bless`"
            ));
        }
        if !is_case && !path.with_extension("bt").exists() {
            faults.push(format!("{name}: expected of no script"));
        }
    }
    none(faults);
}

#[test]
fn runtime_cases_can_be_read() {
    let faults = harness::cases("runtime").into_iter().filter_map(|case| {
        Plan::of(&case).err().map(|why| format!("tests/runtime/{}.bt: {why}", case.name))
    });
    none(faults.collect());
}

#[test]
fn every_provider_has_a_runtime_case() {
    let cases: Vec<String> = files(&root().join("tests/runtime"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "bt"))
        .map(read)
        .collect();
    let missing = PROVIDERS.iter().filter(|provider| {
        let names: Vec<&str> = provider.aliases.iter().copied().chain([provider.name]).collect();
        let used = regex(&format!(r"(?m)^\s*(?:{})(?::|\s*[{{</,])", names.join("|")));
        !cases.iter().any(|case| used.is_match(case))
    });
    none(missing.map(|p| format!("`{}` has no case", p.name)).collect());
}

#[test]
fn differences_are_shown() {
    assert_eq!(harness::difference("a\nb\n", "a\nb\n"), "");
    assert_eq!(harness::difference("a\nb\nc\n", "a\nx\nc\n"), "@ line 2\n  a\n- b\n+ x\n  c\n  \n");
    assert_eq!(harness::difference("a\n", "a"), "@ line 2\n  a\n- \n");
    let header = |key: &str, value: &str| harness::Header { key: key.into(), value: value.into() };
    let script =
        "#!/x\n// Prose: is not a header.\n// expect:  a: b\n\n// exit: 3\nbegin { }\n// run: -v\n";
    assert_eq!(harness::headers(script), [header("expect", " a: b"), header("exit", "3")]);
}
