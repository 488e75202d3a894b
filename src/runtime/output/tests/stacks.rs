//! Stacks in every mode (output.md §8).

use super::*;

#[test]
fn kernel_stacks() {
    let unknown = 0xffff_ffff_0000_0008;
    let bytes = stack_bytes(0, &[0x10, 0x20, unknown]);
    check(
        &kstack(StackMode::Bpftrace),
        &bytes,
        "\n        vfs_read+1\n        ksys_read+95\n        0xffffffff00000008\n",
        "\"\\n        vfs_read+1\\n        ksys_read+95\\n        0xffffffff00000008\\n\"",
    );
    assert_eq!(
        value(&kstack(StackMode::Perf), &bytes).0,
        "\n\t10 vfs_read+1\n\t20 ksys_read+95\n\tffffffff00000008 0xffffffff00000008\n"
    );
    assert_eq!(value(&kstack(StackMode::Raw), &bytes).0, "\n10\n20\nffffffff00000008\n");
    assert_eq!(value(&kstack(StackMode::Bpftrace), &stack_bytes(0, &[])).0, "\n");
    let lost = words(&[2, 1 << 63]);
    assert_eq!(value(&kstack(StackMode::Bpftrace), &lost).0, "\n[frames lost]\n");
}

#[test]
fn user_stacks() {
    let bytes = stack_bytes(42, &[0x30, 0x40, 0x50]);
    let ustack = |mode| Layout::Stack { user: true, mode };
    assert_eq!(
        value(&ustack(StackMode::Bpftrace), &bytes).0,
        "\n        main+16\n        [inlined] copy@src/copy.h:3\n        simple_cat+5@src/cat.c:7\n        0x50\n"
    );
    assert_eq!(
        value(&ustack(StackMode::Perf), &bytes).0,
        "\n\t30 main+16 (/usr/bin/cat)\n\t40 copy (inlined)\n\t40 simple_cat+5 (/usr/bin/cat)\n\t50 0x50 ([unknown])\n"
    );
    assert_eq!(value(&ustack(StackMode::Raw), &bytes).0, "\n30\n40\n50\n");
    assert_eq!(
        value(&ustack(StackMode::BuildId), &stack_bytes(42, &[0x30, 8])).0,
        format!("\n{} 0x1234\n8\n", "ab".repeat(20))
    );
}
