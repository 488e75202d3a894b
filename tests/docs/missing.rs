//! What the README says is not there yet is really not there: who adds it is told to say so.

use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::harness::{self, live, root};

/// As the README names it, and a script that must not pass the check.
const SCRIPTS: &[(&str, &str)] = &[];

/// Flags that there must not be.
const FLAGS: &[&str] = &["--aot"];

/// The heading of the README's list.
const HEADING: &str = "## What is not there yet";

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, args: Vec<&'static str>| {
        Trial::test(format!("missing/{name}"), move || missing(name, &args).map_err(Failed::from))
    };
    let script =
        |(name, text): &(&'static str, &'static str)| trial(name, vec!["--emit=plan", "-e", text]);
    let scripts = SCRIPTS.iter().map(script);
    scripts.chain(FLAGS.iter().map(|flag| trial(flag, vec![flag, "x"]))).collect()
}

fn missing(name: &str, args: &[&str]) -> Result<(), String> {
    let readme =
        std::fs::read_to_string(root().join("README.md")).map_err(|why| why.to_string())?;
    let list = readme.split(HEADING).nth(1).unwrap_or_default();
    let list = list.split("\n## ").next().unwrap_or_default();
    // A name may go on in the next line.
    let words = list.split_whitespace().collect::<Vec<_>>().join(" ");
    if !words.contains(name) {
        return Err(format!("README.md does not say that {name} is not there yet"));
    }
    let mut command = Command::new(harness::rtrace());
    live::clean_environment(&mut command);
    command.arg("--host").arg(root().join("tests/host/debian")).args(args).stdin(Stdio::null());
    let done = command.output().map_err(|why| why.to_string())?;
    match done.status.success() {
        false => Ok(()),
        true => Err(format!(
            "{name} is there now: take it from the list in README.md and from tests/docs/missing.rs"
        )),
    }
}
