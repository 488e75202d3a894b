//! Links and names of files in the pages lead somewhere.

use libtest_mimic::{Failed, Trial};
use regex::Regex;

use crate::harness::root;
use crate::pages::{self, Page};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |page: Page| {
        Trial::test(format!("links/{}", page.name), move || match faults(&page) {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Failed::from(faults.join("\n"))),
        })
    };
    pages::all().into_iter().map(trial).collect()
}

/// Links to files that are not there, and names in backticks that look like files of this
/// repository and are not.
fn faults(page: &Page) -> Vec<String> {
    let folder = root().join(&page.name);
    let folder = folder.parent().unwrap_or(root());
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").expect("a pattern");
    let name = Regex::new(r"`((?:src|tests|grammar|tools|docs|benches|scripts|fuzz)/[\w./-]*)`");
    let name = name.expect("a pattern");
    let mut faults = Vec::new();
    for (line, text) in page.prose() {
        let linked = link.captures_iter(text).map(|found| folder.join(&found[1]));
        let named = name.captures_iter(text).map(|found| root().join(&found[1]));
        for path in linked.chain(named).filter(|path| !path.exists()) {
            faults.push(format!("{}:{line}: there is no `{}`", page.name, path.display()));
        }
    }
    faults
}
