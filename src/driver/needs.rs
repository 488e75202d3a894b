//! `rtrace check --caps`: the capabilities that a script needs, and what for.

use crate::host::Host;
use crate::ir::{Expr, Helper, Module};
use crate::plan::{Mechanism, Plan};

/// A capability (capabilities(7)), and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) capability: &'static str,
    pub(super) reason: &'static str,
    /// Whether a run works without it, and shows less.
    pub(super) optional: bool,
}

/// What a script needs that was checked for a machine; `files` if that read the tracing file
/// system and could not do without.
pub(super) fn of(module: &mut Module, plan: &Plan, files: bool, host: &Host) -> Vec<Need> {
    let mut needs = vec![
        need("CAP_BPF", "to load programs and to make maps"),
        need("CAP_PERFMON", "to attach them, and to read the kernel's memory"),
    ];
    if files && host.mounts_tracefs() {
        needs.push(need("CAP_SYS_ADMIN", "to mount the tracing file system for itself"));
    } else if files {
        needs.push(need("CAP_DAC_READ_SEARCH", "to read the tracing file system"));
    }
    let mechanisms = || plan.programs.iter().flat_map(|p| &p.attach).map(|a| &a.mechanism);
    if mechanisms().any(|m| matches!(m, Mechanism::Packets { .. })) {
        needs.push(need("CAP_NET_ADMIN", "to attach to network devices and cgroups"));
    }
    let elsewhere = |m: &Mechanism| match m {
        Mechanism::Trampoline { module, .. } => module != "vmlinux",
        Mechanism::BpfTrampoline { .. } => true,
        _ => false,
    };
    if mechanisms().any(elsewhere) {
        needs.push(need("CAP_SYS_ADMIN", "to look up the types of modules and BPF programs"));
    }
    if calls(module, Helper::ProbeWriteUser) {
        needs.push(need("CAP_SYS_ADMIN", "to write to the memory of processes"));
    }
    if plan.names_kernel_code() {
        needs.push(wish("CAP_SYSLOG", "to name functions of the kernel"));
    }
    if plan.names_user_code() {
        needs.push(wish("CAP_SYS_PTRACE", "to name functions of other users' processes"));
        needs.push(wish("CAP_DAC_READ_SEARCH", "to read their binaries"));
    }
    needs
}

fn need(capability: &'static str, reason: &'static str) -> Need {
    Need { capability, reason, optional: false }
}

fn wish(capability: &'static str, reason: &'static str) -> Need {
    Need { optional: true, ..need(capability, reason) }
}

/// Whether a program calls a helper.
fn calls(module: &mut Module, wanted: Helper) -> bool {
    let mut found = false;
    let mut look = |e: &mut Expr| {
        found |= matches!(e, Expr::Call { helper, .. } if *helper == wanted);
    };
    for stmt in module.bodies_mut().flat_map(|program| &mut program.body) {
        stmt.each_stmt(&mut |stmt| stmt.each_expr(&mut look));
    }
    found
}

/// A line for each.
pub(super) fn text(name: &str, needs: &[Need]) -> String {
    let mut text = format!("{name}\n");
    for Need { capability, reason, optional } in needs {
        let without = if *optional { " (works without)" } else { "" };
        text += &format!("  {capability:<20} {reason}{without}\n");
    }
    text
}
