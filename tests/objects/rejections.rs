//! Programs that the kernel refuses, and what is said of each: `rejected/NAME.c` with the golden
//! `rejected/NAME.stderr` beside it. The C file stands for the script; the line with `// here` is
//! the one that a message must point at.
//!
//! `RTRACE_BLESS=1` writes the goldens. What the kernel itself says differs from one to the next
//! and is left out of them. A kernel without functions for programs (before 5.13) says so and no more.

use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};
use regex::Regex;
use rtrace::plan::{Mechanism, Plan};
use rtrace::source::{Source, Sources, Span};

use crate::cases::{run_object, special};
use crate::plans::plan;

pub fn trials() -> Vec<Trial> {
    let trial = |name: String| {
        Trial::test(format!("rejected/{name}"), move || check(&name).map_err(Failed::from))
    };
    names().into_iter().map(trial).collect()
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let cases = files.filter(|path| path.extension().is_some_and(|e| e == "c"));
    let mut names: Vec<String> =
        cases.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/rejected")
}

/// The plan of one program, whose script is the C text.
fn plan_of(name: &str, text: &str) -> Plan {
    let mut plan = plan(vec![special("begin", Mechanism::Begin)]);
    let source = Source { name: format!("{name}.c"), text: text.to_owned() };
    plan.sources = Sources { files: vec![source] };
    let start = text.find("SEC(\"raw_tp\")").unwrap();
    let span = Span::new(0, start, start + text[start..].find('\n').unwrap());
    plan.programs[0].span = span;
    plan.programs[0].attach[0].span = span;
    plan.events.iter_mut().for_each(|e| e.span = span);
    plan.losses.iter_mut().for_each(|l| l.span = span);
    plan
}

fn check(name: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(folder().join(name).with_extension("c")).unwrap();
    let plan = plan_of(name, &text);
    let ran = run_object(&format!("rejected/{name}"), &plan, &["-v"]);
    let story = format!("status {:?}, said:\n{}", ran.status, ran.err);
    if ran.status != Some(255) {
        return Err(story);
    }
    if let Some(kept) = std::env::var_os("RTRACE_KEEP_LOGS") {
        std::fs::write(Path::new(&kept).join(format!("{name}.log")), &ran.err).unwrap();
    }
    if ran.err.starts_with("error: this kernel has no function `") && name != "kfunc-unknown" {
        return Ok(());
    }
    // Newer kernels take it, and a begin program gets no such context.
    if ran.err.starts_with("error: cannot run `begin`") && name == "context-moved" {
        return Ok(());
    }
    let here = text.lines().position(|line| line.contains("// here")).unwrap() + 1;
    if !ran.err.contains(&format!("{name}.c:{here}:")) {
        return Err(format!("does not point at line {here}: {story}"));
    }
    // The kernel's own words, and the log that follows on `-v`.
    let kernels =
        |line: &&str| !line.trim_start().starts_with("= note: the kernel's verifier says: ");
    let message = ran.err.split("\n\n").next().unwrap_or_default();
    let said: String = message.lines().filter(kernels).map(|line| format!("{line}\n")).collect();
    // Numbers of types are each kernel's own.
    let said =
        Regex::new(r"vmlinux \[\d+\]").unwrap().replace_all(&said, "vmlinux [N]").into_owned();
    let golden = folder().join(name).with_extension("stderr");
    if std::env::var_os("RTRACE_BLESS").is_some() {
        return std::fs::write(golden, said).map_err(|why| why.to_string());
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    // What another kernel refuses for another reason.
    let other = golden.with_extension("other.stderr");
    if said != expected && std::fs::read_to_string(other).ok().as_ref() != Some(&said) {
        return Err(format!("expected:\n{expected}\nsaid:\n{said}\n{story}"));
    }
    Ok(())
}
