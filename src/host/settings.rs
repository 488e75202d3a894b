//! What the administrator of a machine has set, as far as it matters to
//! tracing: each setting is a row, with what to do where it is in the way.

use std::fs;

use super::Host;

/// A setting of the machine.
pub struct Setting {
    pub name: &'static str,
    /// Its value, in words; and what is in the way, with a remedy.
    read: fn(&Host) -> (String, Option<&'static str>),
}

/// Every setting.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "JIT compiler",
        read: |host| match number(host, "/proc/sys/net/core/bpf_jit_enable") {
            Some(0) => (
                "off".into(),
                Some(
                    "programs are interpreted, which is slow, and some cannot attach: `sysctl net.core.bpf_jit_enable=1`",
                ),
            ),
            Some(_) => ("on".into(), None),
            // Kernels that know nothing else have no such file.
            None => ("always on".into(), None),
        },
    },
    Setting {
        name: "JIT hardening",
        read: |host| match number(host, "/proc/sys/net/core/bpf_jit_harden") {
            Some(2) => (
                "for all".into(),
                Some("programs become larger and slower: `sysctl net.core.bpf_jit_harden=1`"),
            ),
            Some(1) => ("for the unprivileged".into(), None),
            Some(_) => ("off".into(), None),
            None => unknown(),
        },
    },
    Setting {
        name: "BPF without privileges",
        read: |host| match number(host, "/proc/sys/kernel/unprivileged_bpf_disabled") {
            Some(0) => ("allowed (of no use to tracing)".into(), None),
            Some(_) => ("forbidden".into(), None),
            None => unknown(),
        },
    },
    Setting {
        name: "lockdown",
        read: |host| {
            let text = text(host, "/sys/kernel/security/lockdown").unwrap_or_default();
            let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            match mode.map_or("none", |(mode, _)| mode) {
                "confidentiality" => (
                    "confidentiality".into(),
                    Some(
                        "no program may read the kernel's memory: disable Secure Boot, or boot with `lockdown=integrity`",
                    ),
                ),
                mode => (mode.into(), None),
            }
        },
    },
    Setting {
        name: "locked memory",
        read: |host| {
            let limits = text(host, "/proc/self/limits").unwrap_or_default();
            let line = limits.lines().find(|line| line.starts_with("Max locked memory"));
            let soft = line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("unknown");
            // Raised when a script is loaded; of interest to kernels before 5.11 only.
            let unit = if soft.bytes().all(|b| b.is_ascii_digit()) {
                " bytes (raised when needed)"
            } else {
                ""
            };
            (format!("{soft}{unit}"), None)
        },
    },
    Setting {
        name: "kernel addresses",
        read: |host| match number(host, "/proc/sys/kernel/kptr_restrict") {
            Some(2) => (
                "hidden from all".into(),
                Some("addresses of the kernel stay numbers: `sysctl kernel.kptr_restrict=1`"),
            ),
            Some(1) => ("for the privileged".into(), None),
            Some(_) => ("shown".into(), None),
            None => unknown(),
        },
    },
    Setting {
        name: "function tracing",
        read: |host| match number(host, "/proc/sys/kernel/ftrace_enabled") {
            Some(0) => (
                "off".into(),
                Some(
                    "kprobes and fentry probes of functions do not run: `sysctl kernel.ftrace_enabled=1`",
                ),
            ),
            Some(_) => ("on".into(), None),
            None => (
                "not in this kernel".into(),
                Some(
                    "fentry, fexit and kprobes with patterns need a kernel built with CONFIG_FUNCTION_TRACER=y",
                ),
            ),
        },
    },
    Setting {
        name: "frames of a stack",
        read: |host| match number(host, "/proc/sys/kernel/perf_event_max_stack") {
            Some(n) => (format!("at most {n}"), None),
            None => unknown(),
        },
    },
    Setting {
        name: "types of the kernel",
        read: |host| match host.btf() {
            Ok(_) => ("from BTF".into(), None),
            Err(_) => (
                "none".into(),
                Some(
                    "arguments and structs have no types: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, or name a file in BPFTRACE_BTF",
                ),
            ),
        },
    },
    Setting {
        name: "tracefs",
        read: |host| {
            let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
            let mounted = places.into_iter().find(|place| host.path(place).join("events").exists());
            match (mounted, host.tracefs()) {
                (_, Ok(tracefs)) if tracefs.absent().is_some() => (
                    "cannot be read".into(),
                    Some(
                        "tracepoints have no fields but those of system calls: `mount -t tracefs tracefs /sys/kernel/tracing`, as root, and let yourself read it",
                    ),
                ),
                (Some(place), Ok(_)) => (format!("mounted at {place}"), None),
                (None, Ok(_)) => ("not mounted (rtrace mounts one for itself)".into(), None),
                (_, Err(_)) => (
                    "cannot be read".into(),
                    Some(
                        "there are no tracepoints: `mount -t tracefs tracefs /sys/kernel/tracing`, as root",
                    ),
                ),
            }
        },
    },
    Setting {
        name: "BPF file system",
        read: |host| match mount(host, "bpf") {
            Some(place) => (format!("mounted at {place}"), None),
            None => (
                "not mounted".into(),
                Some("iterators cannot be pinned: `mount -t bpf bpf /sys/fs/bpf`"),
            ),
        },
    },
    Setting {
        name: "cgroup2",
        read: |host| match mount(host, "cgroup2") {
            Some(place) => (format!("mounted at {place}"), None),
            None => (
                "not mounted".into(),
                Some("cgroups have ids but no paths: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`"),
            ),
        },
    },
];

impl Setting {
    /// Its value, in words; and what is in the way, with a remedy.
    pub fn read(&self, host: &Host) -> (String, Option<&'static str>) {
        (self.read)(host)
    }
}

fn unknown() -> (String, Option<&'static str>) {
    ("unknown".into(), None)
}

fn text(host: &Host, path: &str) -> Option<String> {
    fs::read_to_string(host.path(path)).ok()
}

fn number(host: &Host, path: &str) -> Option<i64> {
    text(host, path)?.trim().parse().ok()
}

/// Where a file system of that type is mounted (proc(5), mounts).
fn mount(host: &Host, kind: &str) -> Option<String> {
    let mounts = text(host, "/proc/self/mounts")?;
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.find(|words| words.get(2) == Some(&kind))?;
    found.get(1).map(|place| (*place).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a machine with these files.
    fn of(files: &[(&str, &str)], name: &str) -> (String, Option<&'static str>) {
        let base =
            std::env::temp_dir().join(format!("rtrace-settings-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = base.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        fs::create_dir_all(&base).expect("made");
        let setting = SETTINGS.iter().find(|s| s.name == name).expect("a row");
        let said = setting.read(&Host::at(&base));
        fs::remove_dir_all(base).expect("removed");
        said
    }

    #[test]
    fn what_is_in_the_way_has_a_remedy() {
        for (name, path, bad, good) in [
            ("JIT compiler", "proc/sys/net/core/bpf_jit_enable", "0\n", "1\n"),
            ("JIT hardening", "proc/sys/net/core/bpf_jit_harden", "2\n", "1\n"),
            ("kernel addresses", "proc/sys/kernel/kptr_restrict", "2\n", "0\n"),
            ("function tracing", "proc/sys/kernel/ftrace_enabled", "0\n", "1\n"),
            (
                "lockdown",
                "sys/kernel/security/lockdown",
                "none integrity [confidentiality]\n",
                "none [integrity] confidentiality\n",
            ),
            (
                "BPF file system",
                "proc/self/mounts",
                "proc /proc proc rw 0 0\n",
                "bpf /sys/fs/bpf bpf rw 0 0\n",
            ),
            ("cgroup2", "proc/self/mounts", "", "none /sys/fs/cgroup cgroup2 rw 0 0\n"),
        ] {
            let remedy = of(&[(path, bad)], name).1.expect(name);
            assert!(remedy.contains(": "), "{remedy}");
            assert_eq!(of(&[(path, good)], name).1, None, "{name}");
        }
        assert_eq!(
            of(&[("proc/self/mounts", "b /x/y bpf rw 0 0\n")], "BPF file system").0,
            "mounted at /x/y"
        );
        let limits = "Max locked memory         8388608              8388608              bytes\n";
        assert_eq!(
            of(&[("proc/self/limits", limits)], "locked memory").0,
            "8388608 bytes (raised when needed)"
        );
    }

    #[test]
    fn an_empty_machine_has_no_types_and_no_mounts() {
        for name in ["types of the kernel", "tracefs", "BPF file system", "cgroup2"] {
            assert!(of(&[], name).1.is_some(), "{name}");
        }
    }
}
