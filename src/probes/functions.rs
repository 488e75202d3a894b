//! What providers of kernel functions share: which functions there are, which
//! must be left alone, and what else to try.

use super::Part;
use crate::diag::{self, Diagnostic};
use crate::host::Host;
use crate::host::features::Feature;

/// Whether tracing a function can bring the machine down or is known to fail,
/// although the kernel lists it (probes.md §6).
pub(super) fn is_unsafe(name: &str) -> bool {
    name.starts_with("rcu_")
        || name.starts_with("__ftrace_invalid_address__")
        || name.contains(".part.")
        || matches!(name, "arch_cpu_idle" | "default_idle" | "bpf_dispatcher_xdp_func")
}

/// Traceable functions that fit a pattern, sorted, without repeats; the module
/// is absent for the kernel itself.
///
/// # Errors
/// Why the kernel's list cannot be read.
pub(super) fn matching<'h>(
    host: &'h Host,
    module: Option<&Part>,
    accepts: &dyn Fn(&str) -> bool,
) -> Result<Vec<(Option<&'h str>, &'h str)>, String> {
    let mut found: Vec<(Option<&str>, &str)> = host
        .traceable_functions()?
        .filter(|f| module.is_none_or(|m| m.matches(f.module.unwrap_or("vmlinux"))))
        .filter(|f| accepts(f.name) && !is_unsafe(f.name))
        .map(|f| (f.module, f.name))
        .collect();
    found.sort_unstable_by_key(|f| (f.1, f.0));
    found.dedup();
    if !found.is_empty() {
        let mut forbidden = host.kprobe_blacklist();
        forbidden.sort_unstable();
        // Both are sorted.
        let mut forbidden = forbidden.iter().map(String::as_str).peekable();
        found.retain(|(_, name)| {
            while forbidden.next_if(|f| f < name).is_some() {}
            forbidden.peek() != Some(name)
        });
    }
    Ok(found)
}

/// The function whose name is closest: of those that can be traced or, if that
/// is not known, of those that the kernel's types describe.
pub(super) fn nearest(host: &Host, name: &str) -> Option<String> {
    let slack = (name.len() / 3).max(1);
    let close = |n: &&str| n.len().abs_diff(name.len()) <= slack && n.get(..1) == name.get(..1);
    let found = match host.traceable_functions() {
        Ok(list) => diag::nearest(name, list.map(|f| f.name).filter(close)),
        Err(_) => {
            let names = host.btf().map(|b| b.functions("vmlinux")).unwrap_or_default();
            diag::nearest(name, names.into_iter().filter(close))
        }
    };
    found.map(str::to_owned)
}

/// What to trace instead of a kernel function that cannot be traced by
/// `provider`, as a help text.
pub(super) fn instead(host: &Host, provider: &str, function: &str) -> Option<String> {
    if let Some((category, event)) = tracepoint(host, function) {
        return Some(format!("`tracepoint:{category}:{event}` fires at about the same place"));
    }
    let (other, feature) = match provider {
        "kprobe" => ("fentry", Feature::Fentry),
        "kretprobe" => ("fexit", Feature::Fentry),
        "fentry" => ("kprobe", Feature::Kprobe),
        _ => ("kretprobe", Feature::Kprobe),
    };
    if host.has(feature) {
        return Some(format!("`{other}:{function}` can do the same here"));
    }
    Some("`-l 'tracepoint:*'` lists the tracepoints of this kernel".into())
}

/// What there is to say of a function that is not there, and nothing like it.
pub(super) fn missing(d: Diagnostic, host: &Host, function: &str) -> Diagnostic {
    let d = d.note("it may be inlined everywhere, or not exist in this kernel");
    match tracepoint(host, function) {
        Some((category, event)) => {
            d.help(format!("`tracepoint:{category}:{event}` fires at about the same place"))
        }
        None => d,
    }
}

/// A tracepoint for what a function does: that of the system call which it
/// implements, or one that has the function's own name.
fn tracepoint(host: &Host, function: &str) -> Option<(String, String)> {
    let tracefs = host.tracefs().ok()?;
    let prefixes = ["__x64_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_", "do_sys_", "ksys_"];
    let prefixes = prefixes.into_iter().chain(["sys_", "vfs_", "do_"]);
    for call in prefixes.filter_map(|prefix| function.strip_prefix(prefix)) {
        // do_sys_openat2 serves openat.
        for call in [call, call.trim_end_matches(|c: char| c.is_ascii_digit())] {
            let event = format!("sys_enter_{call}");
            if tracefs.has_event(host, "syscalls", &event) {
                return Some(("syscalls".into(), event));
            }
        }
    }
    let found = tracefs.events(host).iter().find(|e| e.name == function)?;
    Some((found.category.clone(), found.name.clone()))
}
