//! Whether this process may trace at all: asked before anything is compiled
//! or loaded, so that the answer is a sentence and not an errno.

use std::fs;

use super::error::Error;
use super::sys;
use crate::diag::{Diagnostic, Warning};
use crate::plan::{self, Action, Plan};

/// A capability (linux/capability.h).
struct Capability {
    bit: u32,
    name: &'static str,
}

const SYS_ADMIN: Capability = Capability { bit: 21, name: "CAP_SYS_ADMIN" };
const BPF: Capability = Capability { bit: 39, name: "CAP_BPF" };
const PERFMON: Capability = Capability { bit: 38, name: "CAP_PERFMON" };

/// What a run may need when everything is attached: to read maps and run `end`
/// programs; to read symbols of the kernel, and mappings and files of traced
/// processes; to end a command; to be in time.
const KEPT: [u32; 8] = [
    BPF.bit,
    PERFMON.bit,
    // CAP_SYSLOG: /proc/kallsyms has addresses.
    34,
    // CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE: /proc/PID/maps and map_files of others.
    19,
    40,
    // CAP_DAC_READ_SEARCH: their binaries.
    2,
    // CAP_KILL
    5,
    // CAP_SYS_NICE
    23,
];

/// Gives up what is not needed once everything is attached. What reads strings
/// and binaries of others from then on cannot do much for them.
///
/// Commands of `system()` and files of packets are made later, with what the
/// user has: then nothing is given up. Nor is it if `CAP_SYS_ADMIN` stands in
/// for those that tracing has of its own.
pub(super) fn give_up(plan: &Plan) {
    let acts =
        |event: &plan::Event| matches!(event.action, Action::System(_) | Action::Packet { .. });
    let Ok(have) = sys::effective_capabilities() else { return };
    let own = [BPF, PERFMON].iter().all(|c| have & (1 << c.bit) != 0);
    if own && !plan.events.iter().any(acts) {
        // A kernel that refuses leaves us as we were.
        drop(sys::keep_capabilities(KEPT.iter().fold(0, |mask, bit| mask | 1 << bit)));
    }
}

/// Checks the privileges of this process and the lockdown of the kernel.
///
/// # Errors
/// Says which privilege is missing and how to get it.
pub fn check() -> Result<(), Error> {
    // If it cannot be asked, the kernel itself will have to say no.
    if let Some(missing) = sys::effective_capabilities().ok().and_then(missing) {
        let diagnostic = Diagnostic::global(format!("tracing needs {missing}"))
            .note("this process does not have it")
            .help("run rtrace as root, for example with `sudo`");
        return Err(Error::usage(diagnostic));
    }
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        let diagnostic =
            Diagnostic::global("the kernel is locked down: programs may not read its memory")
                .note("its lockdown mode is `confidentiality`, often a result of Secure Boot")
                .help("disable Secure Boot, or boot with `lockdown=integrity`");
        return Err(Error::usage(diagnostic));
    }
    Ok(())
}

/// Warns about kernels that we do not test on. Upstream warns below 5.15; what a
/// kernel from 5.10 on lacks is told where a script needs it.
pub(super) fn check_release(release: &str) -> Option<Diagnostic> {
    const OLDEST: (u32, u32) = (5, 10);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    if (major, minor) >= OLDEST {
        return None;
    }
    let message = format!("Linux {major}.{minor} is older than rtrace is made for");
    let diagnostic = Diagnostic::global(message)
        .note(format!("some scripts need what came with Linux {}.{}", OLDEST.0, OLDEST.1));
    Some(diagnostic.weaken(Warning::OldKernel))
}

/// The capabilities that tracing needs and `mask` lacks.
fn missing(mask: u64) -> Option<String> {
    let has = |c: &Capability| mask & (1 << c.bit) != 0;
    if has(&SYS_ADMIN) || (has(&BPF) && has(&PERFMON)) {
        return None;
    }
    let lacking: Vec<&str> = [BPF, PERFMON].iter().filter(|c| !has(c)).map(|c| c.name).collect();
    let plural = if lacking.len() > 1 { "ies" } else { "y" };
    Some(format!("the capabilit{plural} {} (or {})", lacking.join(" and "), SYS_ADMIN.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_warned_about() {
        assert!(check_release("5.4.0-32-generic").is_some());
        assert!(check_release("4.18.0").is_some());
        assert!(check_release("5.10.0-32-amd64").is_none());
        assert!(check_release("6.1-rc1").is_none());
        assert!(check_release("").is_none());
    }

    #[test]
    fn either_one_or_two_capabilities_suffice() {
        assert_eq!(missing(1 << 21), None);
        assert_eq!(missing(1 << 38 | 1 << 39), None);
        assert!(missing(1 << 39).expect("lacks one").contains("CAP_PERFMON"));
        assert!(missing(0).expect("lacks both").contains("CAP_BPF and CAP_PERFMON"));
    }
}
