//! Settings of a run: one table of keys, from which the config block, the
//! environment and the help text are read (cli.md §5).

use crate::diag::{self, Diagnostic, Diagnostics, Warning};
use crate::parser::ast::{ConfigEntry, ConfigValue};
use crate::plan::MissingProbes;
use crate::source::Span;
use crate::types::StackMode;

/// The settings, after defaults, config block and environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub cpp_demangle: bool,
    pub license: String,
    pub log_size: u64,
    pub max_bpf_progs: u64,
    pub max_cat_bytes: u64,
    pub max_map_keys: u64,
    pub max_probes: u64,
    /// `max_probes` was set: it is about places, and not only about links.
    pub each_place: bool,
    pub max_strlen: u64,
    pub missing_probes: MissingProbes,
    pub on_stack_limit: u64,
    /// Pages of the event buffer; 0: from free memory.
    pub perf_rb_pages: u64,
    pub print_maps_on_exit: bool,
    pub show_debug_info: bool,
    pub stack_mode: StackMode,
    pub str_trunc_trailer: String,
    pub unstable_tseries: Gate,
    pub unstable_dw_ustack: Gate,
    pub unstable_typeinfo: Gate,
}

/// Whether a feature may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gate {
    #[default]
    Enable,
    Warn,
    Error,
}

impl Config {
    /// What the config says of a feature: `tseries` for `unstable_tseries`.
    pub fn gate(&self, feature: &str) -> Gate {
        match feature {
            "tseries" => self.unstable_tseries,
            "dw_ustack" => self.unstable_dw_ustack,
            "typeinfo" => self.unstable_typeinfo,
            _ => Gate::Enable,
        }
    }
}

impl Gate {
    fn name(self) -> &'static str {
        match self {
            Gate::Enable => "enable",
            Gate::Warn => "warn",
            Gate::Error => "error",
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            cpp_demangle: true,
            license: "GPL".into(),
            log_size: 1_000_000,
            max_bpf_progs: 1024,
            max_cat_bytes: 10240,
            max_map_keys: 4096,
            max_probes: 1024,
            each_place: false,
            max_strlen: 1024,
            missing_probes: MissingProbes::Error,
            on_stack_limit: 32,
            perf_rb_pages: 0,
            print_maps_on_exit: true,
            show_debug_info: true,
            stack_mode: StackMode::Bpftrace,
            str_trunc_trailer: "..".into(),
            unstable_tseries: Gate::default(),
            unstable_dw_ustack: Gate::default(),
            unstable_typeinfo: Gate::default(),
        }
    }
}

/// A setting as scripts see it (`config.max_strlen`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    Bool(bool),
    Int(u64),
    Text(String),
}

/// A key: its name, what its values may be, and where the value goes.
pub struct Key {
    pub name: &'static str,
    /// Its value if nothing is said; empty for keys without effect.
    pub default: &'static str,
    /// For messages: what a value looks like.
    pub values: &'static str,
    pub doc: &'static str,
    set: fn(&mut Config, &str) -> Option<()>,
}

/// Every key that has an effect.
pub static KEYS: &[Key] = &[
    Key {
        name: "cpp_demangle",
        default: "true",
        values: BOOL,
        doc: "Demangle C++ and Rust names in user stacks.",
        set: |c, v| set(&mut c.cpp_demangle, boolean(v)),
    },
    Key {
        name: "license",
        default: "GPL",
        values: "a licence compatible with the GPL",
        doc: "Licence of the BPF programs.",
        set: |c, v| set(&mut c.license, LICENSES.contains(&v).then(|| v.to_string())),
    },
    Key {
        name: "log_size",
        default: "1000000",
        values: INT,
        doc: "Bytes of the verifier's log.",
        set: |c, v| set(&mut c.log_size, integer(v)),
    },
    Key {
        name: "max_bpf_progs",
        default: "1024",
        values: INT,
        doc: "Most BPF programs that a script may make.",
        set: |c, v| set(&mut c.max_bpf_progs, integer(v)),
    },
    Key {
        name: "max_cat_bytes",
        default: "10240",
        values: INT,
        doc: "Most bytes that `cat()` prints.",
        set: |c, v| set(&mut c.max_cat_bytes, integer(v)),
    },
    Key {
        name: "max_map_keys",
        default: "4096",
        values: "an integer from 1",
        doc: "Entries of a map that is not declared.",
        set: |c, v| set(&mut c.max_map_keys, integer(v).filter(|n| (1..=1 << 31).contains(n))),
    },
    Key {
        name: "max_probes",
        default: "1024",
        values: INT,
        doc: "Most places that a script may attach to, if it is set. If it is not, links are limited to as many, and one with many places, as of a pattern of kernel functions, counts once.",
        set: |c, v| {
            c.each_place = true;
            set(&mut c.max_probes, integer(v))
        },
    },
    Key {
        name: "max_strlen",
        default: "1024",
        values: "an integer from 1 to 16384",
        doc: "Bytes of `str()`, `buf()` and the longest literal.",
        set: |c, v| set(&mut c.max_strlen, integer(v).filter(|n| (1..=16384).contains(n))),
    },
    Key {
        name: "missing_probes",
        default: "error",
        values: "error, warn or ignore",
        doc: "What happens when a probe does not exist.",
        set: |c, v| {
            let value = match v {
                "error" => MissingProbes::Error,
                "warn" => MissingProbes::Warn,
                "ignore" => MissingProbes::Ignore,
                _ => return None,
            };
            set(&mut c.missing_probes, Some(value))
        },
    },
    Key {
        name: "on_stack_limit",
        default: "32",
        values: INT,
        doc: "Values larger than this go to per-CPU scratch memory.",
        set: |c, v| set(&mut c.on_stack_limit, integer(v)),
    },
    Key {
        name: "perf_rb_pages",
        default: "0",
        values: INT,
        doc: "Pages of the event buffer; 0: by the size of events, 1 to 16 MiB.",
        set: |c, v| set(&mut c.perf_rb_pages, integer(v)),
    },
    Key {
        name: "print_maps_on_exit",
        default: "true",
        values: BOOL,
        doc: "Print all maps when the script ends.",
        set: |c, v| set(&mut c.print_maps_on_exit, boolean(v)),
    },
    Key {
        name: "show_debug_info",
        default: "true",
        values: BOOL,
        doc: "File and line in stacks.",
        set: |c, v| set(&mut c.show_debug_info, boolean(v)),
    },
    Key {
        name: "stack_mode",
        default: "bpftrace",
        values: "bpftrace, perf, raw or build_id",
        doc: "How stacks are written.",
        set: |c, v| set(&mut c.stack_mode, stack_mode(v)),
    },
    Key {
        name: "str_trunc_trailer",
        default: "..",
        values: "a string",
        doc: "Put behind strings that were cut.",
        set: |c, v| set(&mut c.str_trunc_trailer, Some(v.to_string())),
    },
    // Accepted for scripts that carry them; symbols are always looked up when printed.
    Key {
        name: "cache_user_symbols",
        default: "",
        values: "PER_PID, PER_PROGRAM or NONE",
        doc: "Accepted; symbols are cached per process.",
        set: |_, v| {
            let known = ["PER_PID", "PER_PROGRAM", "NONE", "0", "1"];
            known.contains(&v.to_ascii_uppercase().as_str()).then_some(())
        },
    },
    Key {
        name: "lazy_symbolication",
        default: "",
        values: BOOL,
        doc: "Accepted; symbols are looked up when printed.",
        set: |_, v| boolean(v).map(|_| ()),
    },
    Key {
        name: "use_blazesym",
        default: "",
        values: BOOL,
        doc: "Accepted; blazesym is always used.",
        set: |_, v| boolean(v).map(|_| ()),
    },
    Key {
        name: "unstable_tseries",
        default: "enable",
        values: FEATURE,
        doc: "Whether `tseries` may be used, or is warned of; bpftrace has it as unstable.",
        set: |c, v| set(&mut c.unstable_tseries, feature(v)),
    },
    Key {
        name: "unstable_dw_ustack",
        default: "enable",
        values: FEATURE,
        doc: "Whether `dw_ustack` may be used, or is warned of; bpftrace has it as unstable.",
        set: |c, v| set(&mut c.unstable_dw_ustack, feature(v)),
    },
    Key {
        name: "unstable_typeinfo",
        default: "enable",
        values: FEATURE,
        doc: "Whether `typeinfo` may be used, or is warned of; bpftrace has it as unstable.",
        set: |c, v| set(&mut c.unstable_typeinfo, feature(v)),
    },
    Key {
        name: "unstable_import_statement",
        default: "",
        values: FEATURE,
        doc: "Accepted; `import` stands at the head of scripts only.",
        set: |_, v| feature(v).map(|_| ()),
    },
];

const BOOL: &str = "true or false";
const INT: &str = "an integer";
const FEATURE: &str = "enable, warn or error";
const LICENSES: &[&str] =
    &["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// Old names and what they are now; the flag says that the value is negated.
pub const RENAMED: &[(&str, &str, bool)] = &[
    ("strlen", "max_strlen", false),
    ("map_keys_max", "max_map_keys", false),
    ("cat_bytes_max", "max_cat_bytes", false),
    ("no_cpp_demangle", "cpp_demangle", true),
];

/// Keys that had an effect once.
const RETIRED: &[&str] = &[
    "symbol_source",
    "max_type_res_iterations",
    "unstable_addr",
    "unstable_import",
    "unstable_macro",
    "unstable_map_decl",
];

/// Keys that are read from the environment only (cli.md §6).
/// Variables of bpftrace that change nothing here, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("kernel_source", "headers of the kernel are not read: its types are taken from its BTF"),
    ("kernel_build", "headers of the kernel are not read: its types are taken from its BTF"),
    (
        "vmlinux",
        "no image of the kernel is read: what it would say is asked of the kernel that runs",
    ),
];

/// Variables of old versions of bpftrace, which later ones ignore in silence.
const IGNORED: &[&str] = &["debug_output", "no_user_symbols"];

const ENVIRONMENT_ONLY: &[&str] = &["btf", "color", "kernel_build", "kernel_source", "vmlinux"];

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

/// A truth value in one of its spellings.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Some(true),
        "0" | "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<u64> {
    crate::lexer::literal::value(text)
}

fn feature(text: &str) -> Option<Gate> {
    match text {
        "enable" => Some(Gate::Enable),
        "warn" => Some(Gate::Warn),
        "error" => Some(Gate::Error),
        _ => boolean(text).map(|yes| if yes { Gate::Enable } else { Gate::Error }),
    }
}

/// A stack mode by name.
pub fn stack_mode(text: &str) -> Option<StackMode> {
    match text {
        "bpftrace" => Some(StackMode::Bpftrace),
        "perf" => Some(StackMode::Perf),
        "raw" => Some(StackMode::Raw),
        "build_id" => Some(StackMode::BuildId),
        _ => None,
    }
}

impl Config {
    /// Every setting, in the order of [`KEYS`].
    pub fn settings(&self) -> Vec<(&'static str, Setting)> {
        use Setting::{Bool, Int, Text};
        let missing = match self.missing_probes {
            MissingProbes::Error => "error",
            MissingProbes::Warn => "warn",
            MissingProbes::Ignore => "ignore",
        };
        let stacks = match self.stack_mode {
            StackMode::Bpftrace => "bpftrace",
            StackMode::Perf => "perf",
            StackMode::Raw => "raw",
            StackMode::BuildId => "build_id",
        };
        vec![
            ("cpp_demangle", Bool(self.cpp_demangle)),
            ("license", Text(self.license.clone())),
            ("log_size", Int(self.log_size)),
            ("max_bpf_progs", Int(self.max_bpf_progs)),
            ("max_cat_bytes", Int(self.max_cat_bytes)),
            ("max_map_keys", Int(self.max_map_keys)),
            ("max_probes", Int(self.max_probes)),
            ("max_strlen", Int(self.max_strlen)),
            ("missing_probes", Text(missing.into())),
            ("on_stack_limit", Int(self.on_stack_limit)),
            ("perf_rb_pages", Int(self.perf_rb_pages)),
            ("print_maps_on_exit", Bool(self.print_maps_on_exit)),
            ("show_debug_info", Bool(self.show_debug_info)),
            ("stack_mode", Text(stacks.into())),
            ("str_trunc_trailer", Text(self.str_trunc_trailer.clone())),
            ("unstable_tseries", Text(self.unstable_tseries.name().into())),
            ("unstable_dw_ustack", Text(self.unstable_dw_ustack.name().into())),
            ("unstable_typeinfo", Text(self.unstable_typeinfo.name().into())),
        ]
    }

    /// Settings from a script's config block, then the environment (pairs of
    /// name and value; only `BPFTRACE_…` and `RTRACE_…` are looked at).
    pub fn read(
        block: &[ConfigEntry],
        environment: &[(String, String)],
        diags: &mut Diagnostics,
    ) -> Config {
        let mut config = Config::default();
        for entry in block {
            let value = match &entry.value.node {
                ConfigValue::Int(n) => n.to_string(),
                ConfigValue::Bool(b) => b.to_string(),
                ConfigValue::Text(t) => t.clone(),
            };
            config.entry(&entry.key.node, entry.key.span, &value, entry.value.span, diags);
        }
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("BPFTRACE_").or(name.strip_prefix("RTRACE_")) else {
                continue;
            };
            let lower = key.to_ascii_lowercase();
            let (lower, value) = renamed(&lower, value).unwrap_or((lower.as_str(), value.clone()));
            if let Some(key) = KEYS.iter().find(|k| k.name == lower)
                && (key.set)(&mut config, &value).is_none()
            {
                diags.push(
                    Diagnostic::global(format!("`{value}` is no value of the variable `{name}`"))
                        .beside()
                        .help(format!("write {}", key.values)),
                );
            }
            let known = || KEYS.iter().map(|key| key.name);
            let ignored = ENVIRONMENT_ONLY.contains(&lower) || IGNORED.contains(&lower);
            if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(name, _)| *name == lower) {
                let message = format!("the variable `{name}` has no effect");
                diags.push(Diagnostic::global(message).weaken(Warning::Deprecated).note(*why));
            } else if !ignored
                && known().all(|key| key != lower)
                && let Some(near) = diag::nearest(lower, known())
            {
                let (prefix, _) = name.split_at(name.len() - key.len());
                let near = format!("{prefix}{}", near.to_ascii_uppercase());
                let message = format!("there is no variable `{name}`");
                let d = Diagnostic::global(message).weaken(Warning::UnknownVariable);
                diags.push(d.help(format!("did you mean `{near}`?")));
            }
        }
        config
    }

    fn entry(&mut self, key: &str, at: Span, value: &str, value_at: Span, diags: &mut Diagnostics) {
        let lower = key.to_ascii_lowercase();
        let name = lower.strip_prefix("bpftrace_").unwrap_or(&lower);
        if RETIRED.contains(&name) {
            diags.push(Diagnostic::warning(
                Warning::Deprecated,
                at,
                format!("`{key}` has no effect any more"),
            ));
            return;
        }
        let (name, value) = match renamed(name, value) {
            Some((now, value)) => {
                diags.push(Diagnostic::warning(
                    Warning::Deprecated,
                    at,
                    format!("`{key}` is called `{now}` now"),
                ));
                (now, value)
            }
            None => (name, value.to_string()),
        };
        match KEYS.iter().find(|k| k.name == name) {
            Some(known) => {
                if (known.set)(self, &value).is_none() {
                    let words = known.values.split([' ', ',']).filter(|w| *w != "or");
                    diags.push(
                        Diagnostic::error(value_at, format!("wrong value for `{key}`"))
                            .or_nearest(value_at, &value, words)
                            .help(format!("write {}", known.values)),
                    );
                }
            }
            None if ENVIRONMENT_ONLY.contains(&name) => {
                diags.push(
                    Diagnostic::error(at, format!("`{key}` cannot be set in a script")).help(
                        format!(
                            "set the environment variable `BPFTRACE_{}`",
                            name.to_ascii_uppercase()
                        ),
                    ),
                );
            }
            None => {
                let d = Diagnostic::error(at, format!("unknown config key `{key}`"));
                let d = d.or_nearest(at, name, KEYS.iter().map(|k| k.name));
                diags.push(d.choices(KEYS.iter().map(|k| k.name.to_owned())));
            }
        }
    }
}

/// The present name and value of an old key.
fn renamed(name: &str, value: &str) -> Option<(&'static str, String)> {
    let (_, now, negated) = RENAMED.iter().find(|r| r.0 == name)?;
    let value = match boolean(value) {
        Some(b) if *negated => (!b).to_string(),
        _ => value.to_string(),
    };
    Some((now, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_see_every_setting() {
        let seen: Vec<&str> = Config::default().settings().into_iter().map(|s| s.0).collect();
        let keys = KEYS.iter().filter(|key| !key.default.is_empty());
        assert_eq!(seen, keys.map(|key| key.name).collect::<Vec<_>>());
    }

    #[test]
    fn keys_know_their_defaults() {
        let mut config = Config::default();
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            assert!((key.set)(&mut config, key.default).is_some(), "{}", key.name);
            // Only that it was set makes a difference.
            config.each_place = false;
            assert_eq!(config, Config::default(), "{}", key.name);
        }
    }
}
