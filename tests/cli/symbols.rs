//! Names of functions where they are not easily had.

use crate::{Folder, rtrace, text};

#[test]
fn programs_in_other_mount_namespaces_have_names() {
    let folder = Folder::new("inside");
    let (place, program) = (text(&folder.0), env!("CARGO_BIN_EXE_rt-workload"));
    // A file that only the process sees, which lives on for a while.
    let command = format!(
        "unshare -m sh -c 'mount -t tmpfs none {place} && cp {program} {place}/inside && \
         exec {place}/inside stacks 1 + sleeps 1 --ms 600'"
    );
    let script =
        "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-stacks\"/ { print(ustack(perf, 2)); }";
    let done = rtrace(&["-q", "-e", script, "-c", &command]).done().code(0);
    assert!(!folder.0.join("inside").exists());
    assert!(done.stdout.contains(" rt_stack_leaf+"), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains(" rt_stack_second+"), "{}", done.stdout);
}
