//! Formats of other tools: what comes out is opened by those that read it.

use crate::{Folder, rtrace, text};

const SCRIPT: &str = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ {
    @[comm] = count(); @[\"a;b\"] = count(); printf(\"seen\\n\"); @scalar = 1;
}";

fn workload() -> String {
    format!("{} getppid 5", env!("CARGO_BIN_EXE_rt-workload"))
}

#[test]
fn folded_stacks_are_all_that_is_on_standard_output() {
    let done = rtrace(&["-q", "-f", "folded", "-e", SCRIPT, "-c", &workload()]).done().code(0);
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a:b 5", "rt-getppid 5"]);
    assert_eq!(done.stderr, "seen\nseen\nseen\nseen\nseen\n@scalar: 1\n");
}

#[test]
fn graphs_are_drawn_of_folded_stacks_and_of_json() {
    let folder = Folder::new("flame");
    for (format, name) in [("folded", "x.folded"), ("json", "x.json")] {
        let (file, graph) = (folder.0.join(name), folder.0.join(format!("{name}.svg")));
        let flags = ["-q", "-f", format, "-o", text(&file)];
        // Of the process and of the kernel; the kernel's function is of the probe.
        let script = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ {
            @[comm, ustack] = count();
        }";
        rtrace(&[&flags[..], &["-e", script, "-c", &workload()]].concat()).done().code(0);
        rtrace(&["flame", text(&file), "-o", text(&graph), "--title", "parents"]).done().code(0);
        let svg = std::fs::read_to_string(&graph).unwrap();
        assert!(svg.contains("<title>rt-getppid (5 samples, 100.00%)</title>"), "{svg}");
        assert!(svg.contains("parents</text>"), "{svg}");
    }
    let empty = folder.file("empty", "");
    rtrace(&["flame", text(&empty)]).done().code(1).stderr_has("there are no stacks in it");
    rtrace(&["flame", "/no/such"]).done().code(1).stderr_has("cannot read `/no/such`");
}

#[test]
fn binary_formats_need_a_file() {
    let folder = Folder::new("binary");
    for (format, first) in [("pprof", &[0x1f, 0x8b][..]), ("perfetto", &[0x0a])] {
        let file = folder.0.join(format);
        let flags = ["-q", "-f", format, "-o", text(&file), "-e", SCRIPT, "-c", &workload()];
        let done = rtrace(&flags).done().code(0);
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(first), "{format}: {bytes:?}");
        // Events are part of a trace, not of a profile; a number is part of a trace.
        assert_eq!(done.stderr.contains("seen"), format == "pprof", "{}", done.stderr);
        assert_eq!(done.stderr.contains("@scalar: 1"), format == "pprof", "{}", done.stderr);
    }
}
