//! Whether this process may trace at all: asked before anything is compiled
//! or loaded, so that the answer is a sentence and not an errno.

use std::fs;

use super::error::Error;
use crate::diag::Diagnostic;

/// A capability (linux/capability.h).
struct Capability {
    bit: u32,
    name: &'static str,
}

const SYS_ADMIN: Capability = Capability { bit: 21, name: "CAP_SYS_ADMIN" };
const BPF: Capability = Capability { bit: 39, name: "CAP_BPF" };
const PERFMON: Capability = Capability { bit: 38, name: "CAP_PERFMON" };

/// Checks the privileges of this process and the lockdown of the kernel.
///
/// # Errors
/// Says which privilege is missing and how to get it.
pub fn check() -> Result<(), Error> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Without /proc the kernel itself will have to say no.
    if let Some(missing) = effective(&status).and_then(missing) {
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

/// The effective capabilities, from `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// The capabilities that tracing needs and `mask` lacks.
fn missing(mask: u64) -> Option<String> {
    let has = |c: &Capability| mask & (1 << c.bit) != 0;
    if has(&SYS_ADMIN) || (has(&BPF) && has(&PERFMON)) {
        return None;
    }
    let lacking: Vec<&str> = [BPF, PERFMON].iter().filter(|c| !has(c)).map(|c| c.name).collect();
    Some(format!("the capability {} (or {} instead)", lacking.join(" and "), SYS_ADMIN.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_one_or_two_capabilities_suffice() {
        assert_eq!(missing(1 << 21), None);
        assert_eq!(missing(1 << 38 | 1 << 39), None);
        assert!(missing(1 << 39).expect("lacks one").contains("CAP_PERFMON"));
        assert!(missing(0).expect("lacks both").contains("CAP_BPF and CAP_PERFMON"));
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000200000\n"), Some(1 << 21));
    }
}
