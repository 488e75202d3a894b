//! House rules, checked: walls around foreign libraries and between stages, file heads, nothing
//! left over, no expectation without a case. What clippy can check is in `Cargo.toml` instead.
//!
//! An exception is a row here, with its reason.

mod harness;

use std::path::PathBuf;

use harness::live::Plan;
use harness::{files, relative, root};

/// A name that may stand in some places only, and why.
struct Wall {
    /// Found as a path (`name::`).
    name: &'static str,
    /// Below `src/`: a file, or a folder with its `/`. Nowhere else.
    only_in: &'static [&'static str],
    because: &'static str,
}

/// Every foreign library has one wall; so have the file system, processes and the environment.
const WALLS: [Wall; 19] = [
    wall("logos", &["lexer/"], "only the lexer knows how text becomes tokens"),
    wall("lalrpop_util", &["parser/"], "only the parser knows its generator"),
    wall("codespan_reporting", &["diag.rs"], "diagnostics are drawn in one place"),
    wall("clap", &["cli.rs"], "flags are one struct"),
    wall("inkwell", &["codegen/"], "LLVM is the back end's"),
    wall("llvm_sys", &["codegen/"], "LLVM is the back end's"),
    wall("libbpf_rs", &["runtime/"], "BPF is loaded by the run side only"),
    wall("libbpf_sys", &["runtime/"], "BPF is loaded by the run side only"),
    wall("blazesym", &["runtime/"], "addresses become names when results are read"),
    wall("ctrlc", &["runtime/"], "signals end a session"),
    wall(
        "object",
        &["object.rs", "host/", "codegen/", "runtime/"],
        "ELF is read by the host and of our own making",
    ),
    wall("memmap2", &["host/"], "files are mapped where they are read"),
    wall("cpp_demangle", &["host/", "probes/", "runtime/"], "names of user binaries"),
    wall("std::fs", IO, "facts come from `Host::at(root)`"),
    wall("std::process", IO, "stages do no I/O of their own"),
    wall("std::env", IO, "stages do no I/O of their own"),
    wall("std::net", &["runtime/", "host/"], "stages do no I/O of their own"),
    wall(
        "nix",
        &["cli.rs", "driver.rs", "host/", "main.rs", "runtime/"],
        "stages do no I/O of their own",
    ),
    wall("libc", &["host/", "runtime/", "codegen/"], "system calls and their constants"),
];

/// Who may look at the world outside.
const IO: &[&str] =
    &["cli.rs", "config.rs", "driver.rs", "host/", "main.rs", "runtime/", "source.rs"];

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

const PRINTS: &[&str] = &["driver.rs", "main.rs"];

/// Where unsafe code may be. Clippy sees to it that each block says why it is sound.
const UNSAFE: &[&str] = &["codegen/", "host/", "runtime/"];

/// Lines in a file. From 600 on, a file is likely to have a second subject.
const LONGEST: usize = 1000;

const fn wall(name: &'static str, only_in: &'static [&'static str], because: &'static str) -> Wall {
    Wall { name, only_in, because }
}

// ---------------------------------------------------------------- the source

/// A file with its code: comments and texts are blanked out, lines stay where they are.
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

    /// Numbers of the lines that have `word`, not as a part of a longer one.
    fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        let is_whole = move |(at, _): &(usize, &str), line: &str| {
            let before = line.get(..*at).and_then(|text| text.chars().next_back());
            let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
            let ends_in_name = word.chars().next_back().is_some_and(joins);
            !before.is_some_and(joins) && !(ends_in_name && after.is_some_and(joins))
        };
        let has = move |line: &str| line.match_indices(word).any(|found| is_whole(&found, line));
        self.code
            .lines()
            .enumerate()
            .filter(move |(_, line)| has(line))
            .map(|(number, _)| number + 1)
    }
}

impl Code {
    /// Numbers of the lines that refer to something in `path`, a crate or a module of one.
    fn lines_that_use(&self, path: &str) -> Vec<usize> {
        // `path::…`, but not `crate::path::…`; and `use std::{…, path, …}`, over several lines.
        let (base, last) = path.rsplit_once("::").unwrap_or(("", path));
        let grouped = format!(r"(?s)\buse {base}::\{{[^;]*\b{last}\b");
        let direct = format!(r"(?m)(?:^|[^\w:])(?:::)?{path}::");
        let pattern = if base.is_empty() { direct } else { format!("{direct}|{grouped}") };
        let uses = regex::Regex::new(&pattern).unwrap();
        let line = |at| self.code.get(..at).map_or(0, |before| before.matches('\n').count() + 1);
        uses.find_iter(&self.code).map(|found| line(found.end() - 1)).collect()
    }
}

fn source() -> Vec<Code> {
    let base = root().join("src");
    let rust = files(&base)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| Code { name: relative(&path, &base), code: code(&read(&path)) }).collect()
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
    let blank = regex::Regex::new(pattern).unwrap();
    let blanks =
        |found: &regex::Captures| found[0].chars().filter(|c| *c == '\n').collect::<String>();
    blank.replace_all(text, blanks).into_owned()
}

/// Fails with all faults, a line each.
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn walls_stand() {
    let mut faults = Vec::new();
    for file in source() {
        for wall in WALLS.iter().filter(|wall| !file.is_in(wall.only_in)) {
            for line in file.lines_that_use(wall.name) {
                let Wall { name, because, .. } = wall;
                faults.push(format!(
                    "src/{}:{line}: `{name}` has no place here: {because}",
                    file.name
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn stages_know_only_what_comes_before() {
    let mut faults = Vec::new();
    for file in source() {
        for (folder, others, because) in LAYERS.iter().filter(|(folder, ..)| file.is_in(&[*folder]))
        {
            for other in *others {
                for line in file.lines_with(&format!("crate::{other}")) {
                    faults.push(format!(
                        "src/{}:{line}: `{folder}` must not know `{other}`: {because}",
                        file.name
                    ));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn nothing_is_left_over() {
    let mut faults = Vec::new();
    for file in source() {
        for (text, places, because) in
            LEFT_OVERS.iter().filter(|(_, places, _)| !file.is_in(places))
        {
            for line in file.lines_with(text) {
                faults.push(format!("src/{}:{line}: `{text}…)`: {because}", file.name));
            }
        }
    }
    none(faults);
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    let elsewhere = source().into_iter().filter(|file| !file.is_in(UNSAFE));
    none(
        elsewhere
            .flat_map(|file| {
                let lines: Vec<usize> = file.lines_with("unsafe").collect();
                lines.into_iter().map(move |line| {
                    format!("src/{}:{line}: unsafe code is for {UNSAFE:?}", file.name)
                })
            })
            .collect(),
    );
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
    let file = Code {
        name: "a/b.rs".into(),
        code: "xlogos::y\nlogos::z logos\nunsafely\nunsafe {".into(),
    };
    assert_eq!(file.lines_with("logos::").collect::<Vec<_>>(), [2]);
    assert_eq!(file.lines_with("unsafe").collect::<Vec<_>>(), [4]);
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
fn differences_are_shown() {
    assert_eq!(harness::difference("a\nb\n", "a\nb\n"), "");
    assert_eq!(harness::difference("a\nb\nc\n", "a\nx\nc\n"), "@ line 2\n  a\n- b\n+ x\n  c\n  \n");
    assert_eq!(harness::difference("a\n", "a"), "@ line 2\n  a\n- \n");
    let header = |key: &str, value: &str| harness::Header { key: key.into(), value: value.into() };
    let script =
        "#!/x\n// Prose: is not a header.\n// expect:  a: b\n\n// exit: 3\nbegin { }\n// run: -v\n";
    assert_eq!(harness::headers(script), [header("expect", " a: b"), header("exit", "3")]);
}
