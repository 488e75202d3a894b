//! What rtrace writes for shells and for `man`, and what it tells of itself.

use std::path::Path;
use std::process::Command;

use crate::rtrace;

/// What bash offers when a line is completed at its end.
fn completed(line: &str) -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_rtrace")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let script = r#"
        source <(rtrace completions bash) || exit
        COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        complete -p rtrace >&2
        _rtrace_or_probes rtrace "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let done = Command::new("bash")
        .args(["--norc", "-c", script, "bash", line])
        .env("PATH", path)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(errors.contains("-F _rtrace_or_probes"), "{errors}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn bash_completes_flags_commands_and_probes() {
    assert_eq!(completed("rtrace --no-w"), "--no-warnings\n");
    assert_eq!(completed("rtrace flame --ic"), "--icicle\n");
    assert_eq!(completed("rtrace -f per"), "perfetto\n");
    assert_eq!(completed("rtrace help max_st"), "max_strlen\n");
    assert_eq!(completed("rtrace -l tracep"), "tracepoint:\n");
    // What stands before the last colon is not repeated.
    assert_eq!(completed("rtrace -l tracepoint:syscalls:sys_enter_getpp"), "sys_enter_getppid\n");
    assert_eq!(completed("rtrace -l 'tracepoint:syscalls:sys_enter_getpp"), "sys_enter_getppid\n");
    assert_eq!(completed("rtrace -l software:cpu-cl"), "cpu-clock:\n");
}

#[test]
fn other_shells_get_scripts_of_their_own() {
    for (shell, sign) in
        [("zsh", "#compdef rtrace"), ("fish", "complete -c rtrace -n '__fish_seen_argument -s l")]
    {
        let done = rtrace(&["completions", shell]).done().code(0).stderr("");
        assert!(done.stdout.contains(sign), "{}", done.stdout);
        assert!(done.stdout.contains("no-warnings"), "{}", done.stdout);
    }
    rtrace(&["completions", "tcsh"]).done().code(1).stdout("").stderr_has("tcsh");
    rtrace(&["completions", "elvish"]).done().code(1).stdout("").stderr_has("no completions for");
}

#[test]
fn the_manual_page_has_every_flag_command_and_setting() {
    let page = rtrace(&["man"]).done().code(0).stderr("").stdout;
    let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    for part in [
        ".TH rtrace 1",
        "--no-warnings",
        "rtrace flame",
        "--icicle",
        "RTRACE_MAX_STRLEN, BPFTRACE_MAX_STRLEN",
        "NO_COLOR",
        ".SH \"EXIT STATUS\"",
    ] {
        assert!(plain.contains(part), "{part} is not in {plain}");
    }
}

#[test]
fn topics_are_told_from_the_tables() {
    let done = rtrace(&["help", "max_map_keys"]).done().code(0).stderr("");
    assert!(done.stdout.starts_with("max_map_keys (config)\n\n  values: "), "{}", done.stdout);
    rtrace(&["help", "kprob"])
        .done()
        .code(1)
        .stdout("")
        .stderr("error: there is no topic `kprob`; did you mean `kprobe`?\n\n");
    let all = rtrace(&["help"]).done().code(0).stderr("").stdout;
    for kind in ["\nBuiltins\n", "\nProbes\n", "\nConfig\n", "\nLanguage\n"] {
        assert!(all.contains(kind), "{all}");
    }
}

#[test]
fn info_tells_how_the_machine_is_set() {
    let info = rtrace(&["--info"]).done().code(0).stderr("").stdout;
    let (_, settings) = info.split_once("\nSettings of this machine\n").unwrap();
    for name in ["JIT compiler", "lockdown", "locked memory", "types of the kernel", "tracefs"] {
        assert!(settings.contains(&format!("  {name}: ")), "{settings}");
    }
}
