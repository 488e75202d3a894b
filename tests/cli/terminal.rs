//! What traced programs wrote, on a terminal and elsewhere.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::pty::openpty;

/// A program opens a file whose name has escape sequences.
const SCRIPT: &str = "tracepoint:syscalls:sys_enter_openat /pid == cpid/ {
    $f = str(args.filename);
    if (strncmp($f, \"/no/\", 4) == 0) { printf(\"\\033[1m%s|\", $f); print($f); @[$f] = 1; }
}";

const EVIL: &str = "/no/\x1b]0;owned\x07";

/// What a run with these flags sends to a terminal.
fn on_a_terminal(flags: &[&str]) -> String {
    let pty = openpty(None, None).unwrap();
    let command = format!("cat '{EVIL}'");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rtrace"))
        .args(flags)
        .args(["-q", "-e", SCRIPT, "-c", &command])
        .env("RTRACE_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::from(pty.slave))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let text = read(pty.master);
    assert!(child.wait().unwrap().success());
    text.replace("\r\n", "\n")
}

/// All that comes from a terminal whose other side has been closed.
fn read(master: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // The end is an error (EIO) of a pseudo terminal.
    let _ = File::from(master).read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_terminal_sees_escape_sequences_and_does_not_obey_them() {
    let shown = "/no/\\x1b]0;owned\\x07";
    let expected = format!("\x1b[1m{shown}|{shown}\n\n\n@[{shown}]: 1\n");
    assert_eq!(on_a_terminal(&[]), expected);
}

#[test]
fn a_terminal_gets_bytes_as_they_are_if_asked() {
    let expected = format!("\x1b[1m{EVIL}|{EVIL}\n\n\n@[{EVIL}]: 1\n");
    assert_eq!(on_a_terminal(&["--raw"]), expected);
    // Control characters in JSON are escaped anyway.
    assert!(!on_a_terminal(&["--raw", "-f", "json"]).contains('\x1b'));
}

#[test]
fn a_pipe_gets_bytes_as_they_are() {
    let command = format!("cat '{EVIL}'");
    let expected = format!("\x1b[1m{EVIL}|{EVIL}\n\n\n@[{EVIL}]: 1\n");
    let run = crate::rtrace(&["-q", "-e", SCRIPT, "-c", &command]).done().code(0);
    run.stdout(&expected);
}

#[test]
fn the_error_stream_of_a_terminal_is_guarded() {
    let pty = openpty(None, None).unwrap();
    let script = "tracepoint:syscalls:sys_enter_openat /comm == \"cat\"/ {
        $f = str(args.filename);
        if (strncmp($f, \"/no/\", 4) == 0) { warnf(\"%s\", $f); cat(\"%s\", $f); }
    }";
    let status = Command::new(env!("CARGO_BIN_EXE_rtrace"))
        // The command's own message would come between.
        .args(["-q", "-e", script, "-c", &format!("sh -c 'cat \"$0\" 2>/dev/null' '{EVIL}'")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(pty.slave.as_fd().try_clone_to_owned().unwrap()))
        .status()
        .unwrap();
    drop(pty.slave);
    let text = read(pty.master);
    assert!(status.success());
    assert!(text.contains("WARNING: /no/\\x1b]0;owned\\x07"), "{text:?}");
    assert!(text.contains("cannot read `/no/\\x1b]0;owned\\x07`"), "{text:?}");
    assert!(!text.contains("\x1b]"), "{text:?}");
}

#[test]
fn listed_names_are_guarded() {
    let folder = crate::Folder::new("evil");
    let program = folder.0.join("x\x1b[2Jy");
    std::fs::copy(env!("CARGO_BIN_EXE_rt-workload"), &program).unwrap();
    let pty = openpty(None, None).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_rtrace"))
        .args(["-l", &format!("uprobe:{}:rt_target_add", program.display())])
        .stdin(Stdio::null())
        .stdout(Stdio::from(pty.slave))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let text = read(pty.master);
    assert!(status.success());
    assert!(text.contains("x\\x1b[2Jy:rt_target_add"), "{text:?}");
    assert!(!text.contains('\x1b'), "{text:?}");
}
