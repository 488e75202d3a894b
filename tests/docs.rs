//! Checks what the documentation says: its examples, its links, and the reference pages, which are
//! made from the tables of the source.
//!
//! An example is a fenced block in `README.md`, `GUIDE.md` or any other page, whose info string is
//! `bt` (a script) or `console` (commands after `# `, and what they print), and then words that
//! say how it is checked: see `docs/examples.rs`.
//!
//! `RTRACE_BLESS=1 cargo test --test docs` writes the reference pages, and the output of examples
//! that must be exact.

mod harness;

#[path = "docs/examples.rs"]
mod examples;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/matrix.rs"]
mod matrix;
#[path = "docs/missing.rs"]
mod missing;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/reference.rs"]
mod reference;
#[path = "docs/ways.rs"]
mod ways;

use libtest_mimic::Arguments;

fn main() {
    let mut args = Arguments::from_args();
    // One after the other: blessing writes to the pages that others read.
    args.test_threads.get_or_insert(1);
    let mut trials = examples::trials();
    trials.extend(links::trials());
    trials.extend(missing::trials());
    trials.extend(reference::trials());
    libtest_mimic::run(&args, trials).exit();
}
