//! `--info`: what this kernel and this rtrace can do, in labels that scripts
//! grep for (cli.md §11).

use std::fmt::Write as _;

use crate::host::Host;
use crate::host::features::{Feature, Group};
use crate::host::settings::SETTINGS;

/// Width of the first of two entries on a line.
const COLUMN: usize = 35;

/// The report.
pub fn text(host: &Host) -> String {
    let mut out = String::new();
    let names = nix::sys::utsname::uname().ok();
    let part = |f: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names.as_ref().map(|n| f(n).to_string_lossy().into_owned()).unwrap_or_default()
    };
    let system = [
        format!("  OS: Linux {} {}", part(|n| n.release()), part(|n| n.version())),
        format!("  Arch: {}", part(|n| n.machine())),
    ];
    section(&mut out, "System", &system);
    let build = [
        format!("  version: v{}", env!("CARGO_PKG_VERSION")),
        format!("  LLVM: {}", option_env!("RTRACE_LLVM_VERSION").unwrap_or("none")),
        "  bfd: no".to_string(),
        "  libdw (DWARF support): yes".to_string(),
        "  libsystemd (systemd notify support): yes".to_string(),
        "  blazesym (advanced symbolization): yes".to_string(),
        "  dwunwind (DWARF stack unwinding): yes".to_string(),
    ];
    section(&mut out, "Build", &build);
    for (title, group) in [
        ("Kernel helpers", Group::Helper),
        ("Kernel features", Group::Kernel),
        ("Probe types", Group::ProbeType),
    ] {
        let entries: Vec<String> = Feature::ALL
            .iter()
            .filter(|f| f.info().group == group)
            .map(|f| {
                let has = host.has(*f);
                let yes = if has { "yes" } else { "no" };
                match f {
                    // As bpftrace calls them.
                    Feature::LargePrograms => {
                        format!("  Instruction limit: {}", if has { 1_000_000 } else { 4096 })
                    }
                    Feature::ModuleBtf => format!("  module btf: {yes}"),
                    _ => format!("  {}: {yes}", f.info().name),
                }
            })
            .collect();
        let lines: Vec<String> = entries
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => format!("{a:COLUMN$}{}", b.trim_start()),
                _ => pair.concat(),
            })
            .collect();
        section(&mut out, title, &lines);
    }
    let mut lines = Vec::new();
    for setting in SETTINGS {
        let (value, remedy) = setting.read(host);
        lines.push(format!("  {}: {value}", setting.name));
        lines.extend(remedy.map(|remedy| format!("    {remedy}")));
    }
    section(&mut out, "Settings of this machine", &lines);
    out.pop();
    out
}

fn section(out: &mut String, title: &str, lines: &[String]) {
    writeln!(out, "{title}").expect("bug: writing to a string");
    for line in lines {
        writeln!(out, "{line}").expect("bug: writing to a string");
    }
    out.push('\n');
}
