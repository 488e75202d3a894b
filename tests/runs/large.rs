//! Scripts of many probes, which several threads compile in parts: they count as if one did.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::{alone, comm, rtrace, workload_text};

/// Enough for four parts.
const PROBES: usize = 96;
const CALLS: usize = 7;

/// A function, maps of several kinds, strings, loops, output and losses in every part.
fn script() -> String {
    let mut script = "config = { max_map_keys = 64; }\n\
         fn twice($n: int64): int64 { return $n * 2; }\n"
        .to_owned();
    for i in 0..PROBES {
        writeln!(
            script,
            "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ {{ \
             @calls[{i}] = count(); @all = count(); @twice = sum(twice({i})); $n = 0; \
             while ($n < 3) {{ @rounds = sum(comm == \"rt-getppid\" ? $n : 0); $n++; }} \
             if ({i} % 32 == 5) {{ printf(\"%s {i}\\n\", str(\"hit\")); }} }}"
        )
        .unwrap();
    }
    script + "end { print(@calls[57]); print(len(@calls)); clear(@calls); }"
}

/// Objects of several parts went through the linker, which drops the tables of debuggers.
fn in_parts(file: &Path) -> bool {
    !std::fs::read(file).unwrap().windows(11).any(|w| w == b".debug_line")
}

fn run(before: &[&str], flags: &[&str]) -> (String, String) {
    let traced = rtrace(flags, &script());
    let mut words: Vec<_> = before.iter().map(std::ffi::OsString::from).collect();
    words.push(traced.get_program().to_owned());
    words.extend(traced.get_args().map(ToOwned::to_owned));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("RTRACE_COLOR", "never");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{err}");
    (out, err)
}

#[test]
fn parts_count_like_a_whole() {
    let _alone = alone();
    let work = workload_text(&format!("getppid {CALLS}"));
    let (sum, calls) = (PROBES * (PROBES - 1) / 2, CALLS);
    let told = |err: &str| err.replace(&comm(), "rt-getppid");
    let mut seen = Vec::new();
    for before in [&["taskset", "-c", "0"][..], &["env"]] {
        let (out, err) = run(before, &["-q", "-c", &work]);
        for i in (5..PROBES).step_by(32) {
            assert_eq!(out.matches(&format!("hit {i}\n")).count(), calls, "{out}");
        }
        for line in [
            format!("{calls}\n64\n"),
            format!("@all: {}\n", PROBES * calls),
            format!("@twice: {}\n", 2 * sum * calls),
            format!("@rounds: {}\n", 3 * PROBES * calls),
        ] {
            assert!(out.contains(&line), "no {line:?} in {out}");
        }
        // The map has room for 64 of the 96: each place of the others is told.
        for line in 64..PROBES {
            assert!(err.contains(&format!("stdin:{}:", line + 3)), "{err}");
        }
        let (mut out, err) = (out.lines().map(str::to_owned).collect::<Vec<_>>(), told(&err));
        out.sort();
        seen.push((out, err));
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn large_scripts_are_compiled_in_parts() {
    let _alone = alone();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("large.o");
    let flags = ["--emit", "obj", "-o", file.to_str().unwrap()];
    run(&["taskset", "-c", "0"], &flags);
    assert!(!in_parts(&file), "one processor compiles alone");
    let threads = std::thread::available_parallelism().unwrap().get();
    run(&["env"], &flags);
    assert_eq!(in_parts(&file), threads > 1);
}
