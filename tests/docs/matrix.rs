//! What each provider can do, kernel by kernel: made from the runtime cases that show it, by what
//! they require and what `tests/vm/kernels.toml` says of each kernel.

use std::collections::BTreeMap;

use rtrace::probes::PROVIDERS;

use crate::harness::{headers, root};

/// What is asked of a provider.
const ASPECTS: [&str; 5] = ["list", "attach", "arguments", "wildcard", "`-p`"];

/// What stands in for a case, in one aspect of one provider.
enum Shown {
    /// A runtime case.
    By(&'static str),
    /// Why there is nothing to show.
    Not(&'static str),
}

use Shown::{By, Not};

const NONE: Shown = Not("it has none");
const OWN: Shown = Not("it runs in rtrace itself");
const NO_COUNTERS: Shown = Not("virtual machines have no such counters");
const NOBODY: Shown = Not("packets belong to no process");
const ONE: Shown = Not("its parts are numbers or a fixed name");

/// A row for each provider: a cell for each of [`ASPECTS`].
const ROWS: [(&str, [Shown; 5]); 23] = [
    ("begin", [OWN, By("probes/begin-end"), NONE, ONE, OWN]),
    ("end", [OWN, By("probes/begin-end"), NONE, ONE, OWN]),
    ("self", [OWN, By("probes/self-signal"), NONE, ONE, OWN]),
    ("test", [OWN, By("probes/test-results"), NONE, ONE, OWN]),
    ("bench", [OWN, By("probes/bench-results"), NONE, ONE, OWN]),
    (
        "kprobe",
        [
            By("providers/list-kprobe"),
            By("probes/kprobe"),
            By("probes/kprobe-arguments"),
            By("probes/kprobe-wildcard"),
            By("providers/pid-kprobe"),
        ],
    ),
    (
        "kretprobe",
        [
            By("providers/list-kretprobe"),
            By("probes/kretprobe"),
            By("probes/kretprobe-args"),
            By("providers/wildcard-kretprobe"),
            By("providers/pid-kretprobe"),
        ],
    ),
    (
        "fentry",
        [
            By("providers/list-fentry"),
            By("probes/fentry"),
            By("probes/fentry"),
            By("providers/wildcard-fentry"),
            By("providers/pid-fentry"),
        ],
    ),
    (
        "fexit",
        [
            By("providers/list-fexit"),
            By("probes/fexit"),
            By("probes/fexit"),
            By("providers/wildcard-fexit"),
            By("providers/pid-fexit"),
        ],
    ),
    (
        "tracepoint",
        [
            By("providers/list-tracepoint"),
            By("probes/every-syscall"),
            By("probes/tracepoint-fields"),
            By("probes/tracepoint-wildcard"),
            By("probes/pid-filter"),
        ],
    ),
    (
        "rawtracepoint",
        [
            By("providers/list-rawtracepoint"),
            By("probes/rawtracepoint"),
            By("probes/rawtracepoint-arguments"),
            By("providers/wildcard-rawtracepoint"),
            By("probes/pid-filter"),
        ],
    ),
    (
        "uprobe",
        [
            By("providers/list-uprobe"),
            By("probes/uprobe"),
            By("probes/uprobe-args"),
            By("probes/uprobe-wildcard"),
            By("probes/pid-of-uprobe"),
        ],
    ),
    (
        "uretprobe",
        [
            By("providers/list-uretprobe"),
            By("probes/uretprobe"),
            By("probes/uretprobe-args"),
            By("providers/wildcard-uretprobe"),
            By("providers/pid-uretprobe"),
        ],
    ),
    (
        "usdt",
        [
            By("providers/list-usdt"),
            By("probes/usdt-copies"),
            By("probes/usdt-arguments"),
            By("probes/usdt-wildcard"),
            By("probes/usdt-of-a-process"),
        ],
    ),
    (
        "iter",
        [
            By("providers/list-iter"),
            By("probes/iter-task"),
            By("probes/iter-task"),
            Not("an iterator is the only probe of a script"),
            By("providers/pid-iter"),
        ],
    ),
    (
        "software",
        [
            By("providers/list-software"),
            By("probes/software-events"),
            NONE,
            ONE,
            By("providers/pid-software"),
        ],
    ),
    ("hardware", [By("providers/list-hardware"), NO_COUNTERS, NONE, ONE, NO_COUNTERS]),
    (
        "profile",
        [
            By("providers/list-profile"),
            By("probes/profile"),
            NONE,
            ONE,
            By("providers/pid-profile"),
        ],
    ),
    (
        "interval",
        [
            By("providers/list-interval"),
            By("probes/interval"),
            NONE,
            ONE,
            Not("it is about no process"),
        ],
    ),
    (
        "watchpoint",
        [
            By("providers/list-watchpoint"),
            By("probes/watchpoint-write"),
            NONE,
            ONE,
            By("probes/watchpoint-of-a-process"),
        ],
    ),
    (
        "xdp",
        [
            By("providers/list-xdp"),
            By("packets/xdp"),
            By("packets/xdp"),
            By("packets/wildcard-devices"),
            NOBODY,
        ],
    ),
    (
        "tc",
        [By("packets/list"), By("packets/tc"), By("packets/tc"), By("packets/wildcard"), NOBODY],
    ),
    (
        "cgroup_skb",
        [By("providers/list-cgroup_skb"), By("packets/cgroup"), By("packets/cgroup"), ONE, NOBODY],
    ),
];

/// Cases of what is said where a kernel or a machine lacks something.
const REFUSED: [(&str, &str); 4] = [
    ("kprobe", "errors/no-kprobes"),
    ("fentry", "errors/no-fentry"),
    ("hardware", "errors/no-counter"),
    ("tc", "errors/no-tcx"),
];

/// A kernel of the matrix, and what it says that it has.
struct Kernel {
    name: String,
    /// By the name in `requires`.
    features: BTreeMap<String, bool>,
}

/// The section of the page.
///
/// # Errors
/// A provider without a row, a case that is not there or does not use its provider.
pub(crate) fn section() -> Result<String, String> {
    let kernels = kernels()?;
    let mut page = String::from(
        "\n## What has been shown, by kernel\n\n\
         Each cell is a runtime case with exact counts; the cell says on which kernels it runs. Every \
         attach point in the first table is parsed by a test. Where a kernel lacks something, rtrace \
         says so before it attaches.\n\n| Provider |",
    );
    for aspect in ASPECTS {
        page += &format!(" {aspect} |");
    }
    page += "\n| --- |";
    page += &" --- |".repeat(ASPECTS.len());
    page.push('\n');
    let (mut cases, mut reasons) = (String::new(), Vec::new());
    for provider in PROVIDERS {
        let row = ROWS.iter().find(|(name, _)| *name == provider.name);
        let (name, cells) = row.ok_or_else(|| format!("`{}` has no row", provider.name))?;
        page += &format!("| `{name}` |");
        let mut shown = Vec::new();
        for (aspect, cell) in ASPECTS.iter().zip(cells) {
            match cell {
                By(case) => {
                    page += &format!(" {} |", on(&kernels, case, provider.name)?);
                    shown.push(format!("{aspect} `{case}`"));
                }
                Not(reason) => {
                    let number = number(&mut reasons, reason);
                    page += &format!(" –<sup>{number}</sup> |");
                }
            }
        }
        page.push('\n');
        if !shown.is_empty() {
            cases += &format!("- `{name}`: {}.\n", shown.join(", "));
        }
    }
    page.push('\n');
    for (number, reason) in (1..).zip(&reasons) {
        page += &format!("{number}. {reason}\n");
    }
    page += &format!("\nThe cases, below `tests/runtime`:\n\n{cases}");
    page += "\nWhat is said where something is missing, on a machine that lacks it: ";
    let mut refused = Vec::new();
    for (provider, case) in REFUSED {
        let path = root().join("tests/runtime").join(format!("{case}.bt"));
        let text = std::fs::read_to_string(&path).map_err(|why| format!("{case}: {why}"))?;
        if !text.contains(&format!("\n{provider}:")) {
            return Err(format!("{case} has no `{provider}`"));
        }
        refused.push(format!("`{provider}` `{case}`"));
    }
    page += &format!("{}.\n", refused.join(", "));
    Ok(page)
}

fn number(reasons: &mut Vec<&'static str>, reason: &'static str) -> usize {
    let known = reasons.iter().position(|r| *r == reason);
    1 + known.unwrap_or_else(|| {
        reasons.push(reason);
        reasons.len() - 1
    })
}

/// On which kernels a case runs, in words.
fn on(kernels: &[Kernel], case: &str, provider: &str) -> Result<String, String> {
    let path = root().join("tests/runtime").join(format!("{case}.bt"));
    let text = std::fs::read_to_string(&path).map_err(|why| format!("{case}: {why}"))?;
    let code = text.lines().filter(|l| !l.starts_with("//")).collect::<Vec<_>>().join("\n");
    let aliases = rtrace::probes::find(provider).map(|p| p.aliases).unwrap_or_default();
    let names = aliases.iter().chain([&provider]);
    if !names.into_iter().any(|name| code.contains(name)) {
        return Err(format!("{case} has no `{provider}`"));
    }
    let required: Vec<String> = headers(&text)
        .into_iter()
        .filter(|h| h.key == "requires")
        .flat_map(|h| h.value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let runs = |kernel: &&Kernel| {
        required.iter().all(|name| match name.strip_prefix('!') {
            Some(name) => !kernel.features.get(name).copied().unwrap_or(true),
            None => kernel.features.get(name).copied().unwrap_or(true),
        })
    };
    let some: Vec<&str> = kernels.iter().filter(runs).map(|k| k.name.as_str()).collect();
    let last = kernels.last().map(|k| k.name.as_str());
    Ok(match some.as_slice() {
        [] => return Err(format!("{case} runs on none of the kernels")),
        all if all.len() == kernels.len() => "all".into(),
        // The same from some kernel on.
        [first, .., end]
            if Some(*end) == last
                && kernels.iter().skip_while(|k| k.name != *first).count() == some.len() =>
        {
            format!("{first} and later")
        }
        list => list.join(", "),
    })
}

/// The kernels of `tests/vm/kernels.toml`, oldest first.
fn kernels() -> Result<Vec<Kernel>, String> {
    let text = std::fs::read_to_string(root().join("tests/vm/kernels.toml"))
        .map_err(|why| why.to_string())?;
    let mut kernels: Vec<Kernel> = Vec::new();
    for part in text.split("\n[kernels.\"").skip(1) {
        let (name, rest) = part.split_once('"').ok_or("a kernel without a name")?;
        let mut features = BTreeMap::new();
        for (key, has) in [("\nhas = [", true), ("\nlacks = [", false)] {
            let list = rest.split_once(key).and_then(|(_, list)| list.split_once(']'));
            let names = list.map(|(list, _)| list).unwrap_or_default().split('"').skip(1);
            features.extend(names.step_by(2).map(|n| (n.replace(' ', "_"), has)));
        }
        kernels.push(Kernel { name: name.to_owned(), features });
    }
    match kernels.is_empty() {
        true => Err("tests/vm/kernels.toml has no kernels".into()),
        false => Ok(kernels),
    }
}
