//! The C part of a script, as far as it gives constants: `#define NAME value`,
//! with `#if` and friends obeyed. Kernel BTF is always in use, so
//! `BPFTRACE_HAVE_BTF` is defined and headers behind `#ifndef` of it are not
//! needed.

use std::collections::{HashMap, HashSet};

use crate::diag::{Diagnostic, Diagnostics};
use crate::source::{Span, Spanned};

/// Object-like macros: name to replacement text and where it stands.
pub type Constants = HashMap<String, Spanned<String>>;

/// Reads the C lines at the head of a script.
pub(super) fn read(lines: &[Spanned<String>], diags: &mut Diagnostics) -> Constants {
    let mut reader = Reader {
        constants: Constants::new(),
        defined: ["BPFTRACE_HAVE_BTF", "_LINUX_TYPES_H", "__BPF_TRACING__"]
            .into_iter()
            .map(String::from)
            .collect(),
        open: Vec::new(),
    };
    for line in lines {
        reader.line(line, diags);
    }
    if let Some((_, span)) = reader.open.last() {
        diags.push(Diagnostic::error(*span, "this `#if` has no `#endif`"));
    }
    reader.constants
}

struct Reader {
    constants: Constants,
    defined: HashSet<String>,
    /// Open conditionals: whether their lines count.
    open: Vec<(bool, Span)>,
}

impl Reader {
    fn active(&self) -> bool {
        self.open.iter().all(|o| o.0)
    }

    fn line(&mut self, line: &Spanned<String>, diags: &mut Diagnostics) {
        let joined = line.node.replace("\\\n", " ");
        let Some(text) = joined.trim().strip_prefix('#') else {
            if self.active() {
                diags.push(
                    Diagnostic::error(line.span, "own C types are not supported yet")
                        .note("types of the kernel are known by BTF and need no definition"),
                );
            }
            return;
        };
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "ifdef" => self.open.push((self.defined.contains(rest), line.span)),
            "ifndef" => self.open.push((!self.defined.contains(rest), line.span)),
            "if" => self.open.push((self.condition(rest, line.span, diags), line.span)),
            "else" => match self.open.last_mut() {
                Some(open) => open.0 = !open.0,
                None => diags.push(Diagnostic::error(line.span, "`#else` without `#if`")),
            },
            "endif" => {
                if self.open.pop().is_none() {
                    diags.push(Diagnostic::error(line.span, "`#endif` without `#if`"));
                }
            }
            _ if !self.active() => {}
            "define" => self.define(rest, &line.node, line.span),
            "undef" => {
                self.defined.remove(rest);
                self.constants.remove(rest);
            }
            "include" => {
                let name = rest.trim_matches(['<', '>', '"']);
                let kernel = name.starts_with("linux/")
                    || name.starts_with("net/")
                    || name.starts_with("asm/")
                    || name.starts_with("uapi/");
                if !kernel {
                    diags.push(
                        Diagnostic::error(line.span, format!("cannot include `{name}`"))
                            .note("only kernel headers are known, and those by BTF")
                            .help("write the constants that you need as `#define NAME value`"),
                    );
                }
            }
            "pragma" | "error" | "warning" => {}
            other => {
                diags.push(Diagnostic::error(line.span, format!("unknown directive `#{other}`")))
            }
        }
    }

    fn define(&mut self, rest: &str, line: &str, span: Span) {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, value) = rest.split_at(end);
        self.defined.insert(name.to_string());
        // Function-like macros give nothing to the script (language.md §3).
        if !value.starts_with('(') {
            let value = value.trim().to_string();
            let at = line.find(value.as_str()).unwrap_or(0);
            let start = span.start as usize + at;
            let place = Span::new(span.file, start, start + value.len());
            self.constants.insert(name.to_string(), Spanned::new(value, place));
        }
    }

    /// `defined(X)`, `!defined(X)` and plain numbers.
    fn condition(&self, text: &str, span: Span, diags: &mut Diagnostics) -> bool {
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        let value = if let Some(name) = text.strip_prefix("defined") {
            self.defined.contains(name.trim().trim_matches(['(', ')']).trim())
        } else if let Ok(n) = text.parse::<i64>() {
            n != 0
        } else {
            diags.push(
                Diagnostic::error(span, "this condition is too much for us")
                    .help("write `#ifdef`, `#ifndef`, `#if defined(X)` or `#if 0`"),
            );
            false
        };
        value != negated
    }
}
