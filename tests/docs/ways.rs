//! The ways in which rtrace attaches of its own accord, each with the one that it takes without: both are
//! runtime cases of one script that expect the same output.

use crate::harness::{Header, headers, root};

/// What one way is for, and what takes its place.
struct Way {
    what: &'static str,
    /// As `-v` tells it.
    way: &'static str,
    case: &'static str,
    /// What `--no-feature` takes away.
    without: &'static str,
    instead: &'static str,
    other: &'static str,
}

macro_rules! ways {
    ($([$what:literal, $way:literal, $case:literal, $without:literal, $instead:literal, $other:literal],)*) => {
        /// Every way that has another one.
        const WAYS: &[Way] = &[$(Way {
            what: $what,
            way: $way,
            case: $case,
            without: $without,
            instead: $instead,
            other: $other,
        },)*];
    };
}

#[rustfmt::skip]
ways! {
    ["a `kprobe` that needs no registers", "trampoline (fentry)", "probes/kprobe-by-trampoline",
     "fentry", "perf kprobe", "probes/kprobe-by-breakpoint"],
    ["a `kprobe`, by a program that the kernel does not preempt", "trampoline (fentry)", "probes/kprobe-by-trampoline",
     "nopreempt_trampolines", "perf kprobe", "ways/kprobe-not-preempted"],
    ["a `kretprobe`", "trampoline (fexit)", "ways/kretprobe-by-trampoline",
     "fentry", "perf kretprobe", "ways/kretprobe-by-breakpoint"],
    ["a `kretprobe`, by a program that the kernel does not preempt", "trampoline (fexit)", "ways/kretprobe-by-trampoline",
     "nopreempt_trampolines", "kretprobe.multi", "ways/kretprobe-not-preempted"],
    ["`args` at a `kretprobe`", "trampoline (fexit)", "ways/kretprobe-args-by-trampoline",
     "fentry", "perf kretprobe", "ways/kretprobe-args-by-breakpoint"],
    ["`args` at a `kretprobe`, without trampolines", "kprobe.session", "ways/kretprobe-args-session",
     "kprobe_session", "which keeps arguments: perf kprobe", "ways/kretprobe-args-kept"],
    ["`args` at many `kretprobe`s", "kprobe.session", "ways/kretprobe-args-of-many",
     "kprobe_session", "which keeps arguments: perf kprobe", "ways/kretprobe-args-of-many-kept"],
    ["many `kprobe`s", "kprobe.multi", "ways/kprobes-by-one-link",
     "kprobe_multi", "perf kprobe", "ways/kprobes-one-by-one"],
    ["many `kretprobe`s", "kretprobe.multi", "ways/kretprobes-by-one-link",
     "kprobe_multi", "perf kretprobe", "ways/kretprobes-one-by-one"],
    ["very many `kprobe`s, by their addresses", "kprobe.multi", "ways/kprobes-by-address",
     "attach_by_address", "kprobe.multi", "ways/kprobes-by-name"],
    ["many `fentry`s", "kprobe.multi", "probes/fentry-many",
     "kprobe_multi", "trampoline (fentry)", "ways/fentries-one-by-one"],
    ["`probe` of many `kprobe`s", "and 2 more: id", "ways/kprobes-with-cookies",
     "get_attach_cookie", "kprobe:vfs_read: id", "ways/kprobes-without-cookies"],
    ["`uprobe`s in one file", "uprobe.multi", "ways/uprobes-by-one-link",
     "uprobe_multi", "perf uprobe", "ways/uprobes-one-by-one"],
    ["`uretprobe`s in one file", "uretprobe.multi", "ways/uretprobes-by-one-link",
     "uprobe_multi", "perf uretprobe", "ways/uretprobes-one-by-one"],
    ["`uprobe`s of a process", "uprobe.multi", "ways/uprobe-pid-by-one-link",
     "uprobe_multi_pid", "perf uprobe", "ways/uprobe-pid-one-by-one"],
    ["`args` at `uretprobe`s", "which keeps arguments: uprobe.multi", "ways/uretprobe-args-by-one",
     "uprobe_multi", "which keeps arguments: perf uprobe", "ways/uretprobe-args-one-by-one"],
    ["copies of a marker", "uprobe.multi", "ways/usdt-by-one-link",
     "uprobe_multi", "perf uprobe", "ways/usdt-one-by-one"],
    ["tracepoints of system calls", "raw tracepoint (tp_btf)", "ways/syscalls-by-one",
     "raw_syscalls", "perf tracepoint", "ways/syscalls-one-by-one"],
    ["the same, by programs that the kernel does not preempt", "raw tracepoint (tp_btf)", "ways/syscalls-by-one",
     "nopreempt_tracepoints", "perf tracepoint (raw_syscalls)", "ways/syscalls-by-record"],
    ["the same, where it does", "perf tracepoint (raw_syscalls)", "ways/syscalls-by-record",
     "raw_syscalls_event", "raw tracepoint (tp_btf)", "ways/syscalls-by-registers"],
    ["a `rawtracepoint`", "raw tracepoint (tp_btf)", "ways/rawtracepoint-typed",
     "tp_btf", "raw tracepoint", "ways/rawtracepoint-plain"],
}

/// What may differ between the two cases of a way.
const MAY_DIFFER: [&str; 6] = ["requires", "run", "stderr", "stderr-re", "reject", "timeout"];

/// The section of the page.
///
/// # Errors
/// A case that is not there, or does not show what it should; two that differ in what they expect.
pub(crate) fn section() -> Result<String, String> {
    let mut page = String::from(
        "\n## How probes are attached\n\n\
         The cheapest way is chosen that means the same; `-v` tells which, and `--emit=plan` has it as data. \
         `--no-feature NAME` does without one, as kernels do that lack it. In each row, two runtime cases \
         of the same script expect the same output.\n\n\
         | What | Way | Without | Instead | Cases |\n| --- | --- | --- | --- | --- |\n",
    );
    for way in WAYS {
        let (code, headers) = read(way.case)?;
        let (other_code, other_headers) = read(way.other)?;
        let fault = |what: &str| Err(format!("{} and {}: {what}", way.case, way.other));
        if code != other_code {
            return fault("the scripts differ");
        }
        let same = |all: &[Header]| -> Vec<(String, String)> {
            let kept = all.iter().filter(|h| !MAY_DIFFER.contains(&h.key.as_str()));
            let mut kept: Vec<_> = kept.map(|h| (h.key.clone(), h.value.clone())).collect();
            kept.sort_unstable();
            kept
        };
        if same(&headers) != same(&other_headers) {
            return fault("they expect different things");
        }
        let told = |all: &[Header], way: &str| {
            all.iter().any(|h| h.key.starts_with("stderr") && h.value.contains(way))
        };
        if !told(&headers, way.way) || !told(&other_headers, way.instead) {
            return fault("they do not show how they attach");
        }
        let hides = |all: &[Header]| {
            let flags =
                all.iter().filter(|h| h.key == "run").flat_map(|h| h.value.split([' ', ',']));
            flags.into_iter().any(|word| word == way.without)
        };
        if hides(&headers) || !hides(&other_headers) {
            return fault("the second does not do without, or the first does");
        }
        let Way { what, way, case, without, instead, other } = way;
        page += &format!("| {what} | {way} | `{without}` | {instead} | `{case}`, `{other}` |\n");
    }
    Ok(page)
}

/// The script of a case, without its comments, and its headers.
fn read(case: &str) -> Result<(String, Vec<Header>), String> {
    let path = root().join("tests/runtime").join(format!("{case}.bt"));
    let text = std::fs::read_to_string(&path).map_err(|why| format!("{case}: {why}"))?;
    let code: Vec<&str> = text.lines().filter(|l| !l.starts_with("//")).collect();
    Ok((code.join("\n"), headers(&text)))
}
