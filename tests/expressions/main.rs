//! Random expressions: what the kernel computes, and what the compiler folds, against an evaluator
//! of our own (`value.rs`), which knows nothing of the compiler's.
//!
//! Every expression is made from a seed. It is tried twice: with values that come from a map, so
//! that a program has to compute it, and with the same values as literals, so that it is folded.
//! `RTRACE_EXPRESSIONS` says how many there are (default 1000), `RTRACE_SEED` which comes first.

mod expression;
#[path = "../harness/feed.rs"]
mod feed;
#[path = "../harness/random.rs"]
mod random;
mod value;

use std::collections::HashMap;
use std::process::Command;

use expression::{Expression, Generator};
use feed::feed;

/// Expressions in a script.
const BATCH: usize = 40;

#[test]
fn the_kernel_and_the_compiler_compute_what_the_language_says() {
    let seeds: Vec<u64> =
        random::seeds("RTRACE_EXPRESSIONS", 1000).unwrap_or_else(|why| panic!("{why}")).collect();
    let mut wrong = Vec::new();
    for batch in seeds.chunks(BATCH) {
        let expressions: Vec<(u64, Expression)> =
            batch.iter().map(|seed| (*seed, Generator::of(*seed).expression())).collect();
        for folded in [false, true] {
            wrong.extend(compare(&expressions, folded));
        }
    }
    let shown: Vec<&str> = wrong.iter().take(20).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), shown.join("\n"));
}

/// Runs the expressions in one script, and gives the differences.
fn compare(expressions: &[(u64, Expression)], folded: bool) -> Vec<String> {
    // Folding a division by zero is an error.
    let usable = |e: &&(u64, Expression)| !folded || !e.1.divides_by_zero;
    let usable: Vec<&(u64, Expression)> = expressions.iter().filter(usable).collect();
    let mut script = String::new();
    if !folded {
        script.push_str("begin {\n");
        for (seed, e) in &usable {
            for (i, value) in e.inputs.iter().enumerate() {
                script.push_str(&format!("  @in[{seed}, {i}] = (int64){value:#x};\n"));
            }
        }
        script.push_str("}\n");
    }
    script.push_str("begin {\n");
    for (seed, e) in &usable {
        let text = if folded { e.folded() } else { e.computed(*seed) };
        script.push_str(&format!("  print(({seed}, {text}));\n"));
    }
    script.push_str("  exit();\n}\nend { clear(@in); }\n");
    if folded {
        script = script.replace("end { clear(@in); }\n", "");
    }
    if let Some(dir) = std::env::var_os("RTRACE_KEEP") {
        let name = format!("{}-{folded}.bt", usable.first().map_or(0, |e| e.0));
        std::fs::write(std::path::Path::new(&dir).join(name), &script).expect("it can be kept");
    }
    let (out, err, fine) = run(&script);
    let mut wrong = Vec::new();
    if !fine {
        let about: String = err.chars().take(1500).collect();
        wrong.push(format!(
            "seeds {:?}, folded: {folded}, does not run:\n{about}",
            usable.first().map(|e| e.0)
        ));
        return wrong;
    }
    let results: HashMap<u64, &str> = out.lines().filter_map(result).collect();
    for (seed, e) in usable {
        let expected = e.value.to_string();
        match results.get(seed) {
            Some(text) if *text == expected => {}
            found => {
                let text = if folded { e.folded() } else { e.computed(*seed) };
                let way = if folded { "folded" } else { "computed" };
                wrong.push(format!(
                    "seed {seed}, {way}: {text}\n  is {expected}, but comes out as {}\n  inputs {:?}",
                    found.unwrap_or(&"nothing"),
                    e.inputs
                ));
            }
        }
    }
    wrong
}

/// `(seed, value)`
fn result(line: &str) -> Option<(u64, &str)> {
    let (seed, value) = line.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
    Some((seed.parse().ok()?, value))
}

fn run(script: &str) -> (String, String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtrace"));
    command.args(["-q", "-"]).env("RTRACE_COLOR", "never").env("BPFTRACE_MAX_MAP_KEYS", "65536");
    let output = feed(&mut command, script).expect("rtrace runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}
