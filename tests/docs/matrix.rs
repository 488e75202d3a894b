//! What each provider can do, kernel by kernel: made from the runtime cases that show it, by what
//! they require and what `tests/vm/kernels.toml` says of each kernel. A cell without a case fails the
//! test, and so does one whose case leaves out a kernel that no case of a refusal is for.

use std::collections::BTreeMap;

use rtrace::probes::PROVIDERS;
use rtrace::source::{Source, Sources};

use crate::harness::{headers, root};

/// What is asked of a provider.
const ASPECTS: [&str; 6] = ["list", "list of a script", "attach", "arguments", "wildcard", "`-p`"];

/// What stands in for a case, in one aspect of one provider.
enum Shown {
    /// A runtime case.
    By(&'static str),
    /// Why there is nothing, and the runtime case of what is said or done then.
    Not(&'static str, &'static str),
}

use Shown::{By, Not};

const NONE: Shown = Not("it has none", "errors/no-arguments");
const OWN: Shown = Not("it runs in rtrace itself", "providers/pid-special");
const UNLISTED: Shown = Not("it runs in rtrace itself", "providers/list-special");
const NO_COUNTERS: Shown = Not("virtual machines have no such counters", "errors/no-counter");
const NOBODY: Shown = Not("packets belong to no process, which a warning says", "packets/pid");
const ONE: Shown = Not("its parts are numbers or a fixed name", "errors/no-patterns");
const ANY: Shown =
    Not("it stands alone, and `:*` behind it changes nothing", "probes/begin-with-a-star");

/// A row for each provider: a cell for each of [`ASPECTS`].
const ROWS: [(&str, [Shown; 6]); 23] = [
    ("begin", [By("providers/listed-begin"), UNLISTED, By("probes/begin-end"), NONE, ANY, OWN]),
    ("end", [By("providers/listed-end"), UNLISTED, By("probes/begin-end"), NONE, ANY, OWN]),
    ("self", [By("providers/listed-self"), UNLISTED, By("probes/self-signal"), NONE, ONE, OWN]),
    (
        "test",
        [
            Not("its names are the script's own", "providers/listed-tests"),
            By("providers/list-tests"),
            By("probes/test-results"),
            Not("it has none", "errors/no-arguments-of-tests"),
            ONE,
            Not("it runs in rtrace itself", "providers/pid-tests"),
        ],
    ),
    (
        "bench",
        [
            Not("its names are the script's own", "providers/listed-tests"),
            By("providers/list-benchmarks"),
            By("probes/bench-results"),
            Not("it has none", "errors/no-arguments-of-benchmarks"),
            ONE,
            Not("it runs in rtrace itself", "providers/pid-benchmarks"),
        ],
    ),
    (
        "kprobe",
        [
            By("providers/listed-kprobe"),
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
            By("providers/listed-kretprobe"),
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
            By("providers/listed-fentry"),
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
            By("providers/listed-fexit"),
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
            By("providers/listed-tracepoint"),
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
            By("providers/listed-rawtracepoint"),
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
            By("providers/listed-uprobe"),
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
            By("providers/listed-uretprobe"),
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
            By("providers/listed-usdt"),
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
            By("providers/listed-iter"),
            By("providers/list-iter"),
            By("probes/iter-task"),
            By("probes/iter-task"),
            Not("an iterator is the only probe of a script", "errors/no-patterns"),
            By("providers/pid-iter"),
        ],
    ),
    (
        "software",
        [
            By("providers/listed-software"),
            By("providers/list-software"),
            By("probes/software-events"),
            NONE,
            ONE,
            By("providers/pid-software"),
        ],
    ),
    (
        "hardware",
        [
            By("providers/listed-hardware"),
            By("providers/list-hardware"),
            NO_COUNTERS,
            NONE,
            ONE,
            Not("virtual machines have no such counters", "errors/no-counter-of-a-process"),
        ],
    ),
    (
        "profile",
        [
            By("providers/listed-profile"),
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
            By("providers/listed-interval"),
            By("providers/list-interval"),
            By("probes/interval"),
            NONE,
            ONE,
            Not("it is about no process", "providers/pid-special"),
        ],
    ),
    (
        "watchpoint",
        [
            Not("addresses are the script's own", "providers/listed-watchpoint"),
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
            By("providers/listed-xdp"),
            By("providers/list-xdp"),
            By("packets/xdp"),
            By("packets/xdp"),
            By("packets/wildcard-devices"),
            NOBODY,
        ],
    ),
    (
        "tc",
        [
            By("providers/listed-tc"),
            By("providers/list-tc"),
            By("packets/tc"),
            By("packets/tc"),
            By("packets/wildcard"),
            Not("packets belong to no process, which a warning says", "packets/pid-of-tc"),
        ],
    ),
    (
        "cgroup_skb",
        [
            By("providers/listed-cgroup_skb"),
            By("providers/list-cgroup_skb"),
            By("packets/cgroup"),
            By("packets/cgroup"),
            ONE,
            NOBODY,
        ],
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
         Each cell is a runtime case with exact counts; the cell says on which kernels it runs. Where \
         there is nothing to show, a case shows what is said or done instead. Where a kernel lacks \
         something, rtrace says so before it attaches. (Parsing asks no kernel: the attach points of \
         the first table are parsed when this page is made.)\n\n| Provider | parse |",
    );
    for aspect in ASPECTS {
        page += &format!(" {aspect} |");
    }
    page += "\n| --- |";
    page += &" --- |".repeat(ASPECTS.len() + 1);
    page.push('\n');
    let (mut cases, mut reasons) = (String::new(), Vec::new());
    for provider in PROVIDERS {
        let row = ROWS.iter().find(|(name, _)| *name == provider.name);
        let (name, cells) = row.ok_or_else(|| format!("`{}` has no row", provider.name))?;
        for usage in provider.usage {
            parsed(usage)?;
        }
        page += &format!("| `{name}` | all |");
        let mut shown = Vec::new();
        for (aspect, cell) in ASPECTS.iter().zip(cells) {
            match cell {
                By(case) => {
                    let some = on(&kernels, case, provider.name)?;
                    told_elsewhere(&kernels, provider.name, &some)?;
                    page += &format!(" {} |", words(&kernels, &some));
                    shown.push(format!("{aspect} `{case}`"));
                }
                Not(reason, case) => {
                    on(&kernels, case, provider.name)?;
                    let number = number(&mut reasons, reason);
                    page += &format!(" –<sup>{number}</sup> |");
                    shown.push(format!("no {aspect} `{case}`"));
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

/// An attach point is understood.
fn parsed(usage: &str) -> Result<(), String> {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "usage".into(), text: format!("{usage} {{ }}") });
    let (script, diags) = rtrace::parser::parse(&sources, file, &|_| false);
    match diags.has_errors() || script.items.len() != 1 {
        true => Err(format!("`{usage}` is not parsed")),
        false => Ok(()),
    }
}

/// The kernels on which a case runs, which must use the provider.
fn on<'k>(kernels: &'k [Kernel], case: &str, provider: &str) -> Result<Vec<&'k str>, String> {
    let path = root().join("tests/runtime").join(format!("{case}.bt"));
    let text = std::fs::read_to_string(&path).map_err(|why| format!("{case}: {why}"))?;
    let all = headers(&text);
    let mut code: String = text.lines().filter(|l| !l.starts_with("//")).collect();
    code.extend(all.iter().filter(|h| h.key == "list").map(|h| h.value.as_str()));
    let aliases = rtrace::probes::find(provider).map(|p| p.aliases).unwrap_or_default();
    let names = aliases.iter().chain([&provider]);
    if !names.into_iter().any(|name| code.contains(name)) {
        return Err(format!("{case} has no `{provider}`"));
    }
    let required = all.iter().filter(|h| h.key == "requires");
    let required: Vec<&str> = required.flat_map(|h| h.value.split_whitespace()).collect();
    let runs = |kernel: &&Kernel| {
        required.iter().all(|name| match name.strip_prefix('!') {
            Some(name) => !kernel.features.get(name).copied().unwrap_or(true),
            None => kernel.features.get(*name).copied().unwrap_or(true),
        })
    };
    let some: Vec<&str> = kernels.iter().filter(runs).map(|k| k.name.as_str()).collect();
    // What every kernel of ours has is refused on the machine at hand, if anywhere.
    let refused = required.iter().any(|name| name.starts_with('!'));
    match some.is_empty() && !refused {
        true => Err(format!("{case} runs on none of the kernels")),
        false => Ok(some),
    }
}

/// On the kernels on which a cell's case does not run, another one has the refusal.
fn told_elsewhere(kernels: &[Kernel], provider: &str, some: &[&str]) -> Result<(), String> {
    let refusals = REFUSED.iter().filter(|(refused, _)| *refused == provider);
    let mut told: Vec<&str> = some.to_vec();
    for (_, case) in refusals {
        told.extend(on(kernels, case, provider)?);
    }
    match kernels.iter().find(|k| !told.contains(&k.name.as_str())) {
        Some(kernel) => Err(format!("`{provider}` has no case for {}", kernel.name)),
        None => Ok(()),
    }
}

/// Kernels in words.
fn words(kernels: &[Kernel], some: &[&str]) -> String {
    let last = kernels.last().map(|k| k.name.as_str());
    match some {
        all if all.len() == kernels.len() => "all".into(),
        // The same from some kernel on.
        [first, .., end]
            if Some(*end) == last
                && kernels.iter().skip_while(|k| k.name != *first).count() == some.len() =>
        {
            format!("{first} and later")
        }
        list => list.join(", "),
    }
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
