//! The builtins: variables and functions that the language provides.
//!
//! One row each. Checking, lowering, `rtrace help`, the reference and
//! completion all derive from it; no stage compares a builtin's name.

mod action;
mod aggregate;
mod compile;
mod context;
mod map;
mod memory;
mod output;
mod param;
mod symbol;
mod task;
mod text;
mod time;

use crate::ir;
use crate::parser::ast;
use crate::sema::Checker;
use crate::sema::lower::Lower;
use crate::sema::tree::{self, Detail};
use crate::source::Span;
use crate::types::Type;

pub(crate) use aggregate::{aggregation, aggregations};
pub use param::words_of;
pub(crate) use param::{Named, check_named, usage};
pub(crate) use task::{current_pid, is_in_namespace};

/// One builtin.
pub struct Builtin {
    pub name: &'static str,
    /// How it is written, for messages and the reference.
    pub usage: &'static str,
    /// One or more sentences for the reference.
    pub doc: &'static str,
    /// Whether the bare word means it (`pid`); a call then works as well.
    pub bare: bool,
    /// Fewest and most arguments of a call.
    pub args: (usize, usize),
    /// Needs `--unsafe`.
    pub needs_unsafe: bool,
    /// Does something besides giving a value.
    pub effects: bool,
    /// Ends the run of the probe.
    pub leaves: bool,
    /// Types a use of it.
    pub check: fn(&mut Checker<'_>, &Call<'_>) -> tree::Expr,
    pub lower: Lowering,
}

/// A use of a builtin in a script.
pub struct Call<'a> {
    pub builtin: &'static Builtin,
    pub args: &'a [ast::Expr],
    pub name_span: Span,
    /// Name and arguments.
    pub span: Span,
}

/// A typed use of a builtin, to be lowered.
pub struct Lowered<'a> {
    pub args: &'a [tree::Expr],
    pub detail: &'a Detail,
    pub ty: &'a Type,
    pub span: Span,
}

/// How a builtin becomes IR.
pub enum Lowering {
    /// Gives a word.
    Word(fn(&mut Lower<'_>, &Lowered<'_>) -> ir::Expr),
    /// Writes a value of its type to a place. The flag asks for every byte of
    /// the place to be set, also those behind the end of a string.
    Memory(fn(&mut Lower<'_>, &Lowered<'_>, &ir::Place, bool)),
    /// Gives nothing.
    Action(fn(&mut Lower<'_>, &Lowered<'_>)),
    /// The checker makes something else of it; it never reaches lowering.
    Folded,
}

impl PartialEq for Builtin {
    fn eq(&self, other: &Builtin) -> bool {
        self.name == other.name
    }
}

impl Builtin {
    /// Its forms as one writes them, for messages: "`pid` or `pid(init)`".
    pub(crate) fn forms(&self) -> String {
        let mut forms = vec![String::new()];
        let mut depth = 0usize;
        let mut rest = self.usage;
        while let Some(c) = rest.chars().next() {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if let (0, Some(next)) = (depth, rest.strip_prefix(", ")) {
                forms.push(String::new());
                rest = next;
                continue;
            }
            if let Some(last) = forms.last_mut() {
                last.push(c);
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        forms.iter().map(|f| format!("`{f}`")).collect::<Vec<_>>().join(" or ")
    }
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What most rows have in common.
pub(crate) const BASE: Builtin = Builtin {
    name: "",
    usage: "",
    doc: "",
    bare: false,
    args: (0, 0),
    needs_unsafe: false,
    effects: false,
    leaves: false,
    check: |c, call| c.bug(call),
    lower: Lowering::Folded,
};

/// Every builtin, by subject, as the reference has them.
pub static SUBJECTS: &[(&str, &[Builtin])] = &[
    ("Who and where", task::ROWS),
    ("Clocks", time::ROWS),
    ("What the probe brings along", context::ROWS),
    ("Addresses of symbols", symbol::ROWS),
    ("Bytes and addresses", memory::ROWS),
    ("Text", text::ROWS),
    ("Maps", map::ROWS),
    ("Aggregations", aggregate::ROWS),
    ("Output", output::ROWS),
    ("Actions", action::ROWS),
    ("Known when the script is compiled", compile::ROWS),
    ("Parameters and settings", param::ROWS),
];

/// Every builtin.
pub fn all() -> impl Iterator<Item = &'static Builtin> {
    SUBJECTS.iter().flat_map(|(_, rows)| *rows)
}

/// The builtin of that name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    all().find(|b| b.name == name)
}

/// Whether a bare word is a value, for the lexer's cast rule.
pub fn is_value(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    name == "args" || numbered("arg") || numbered("sarg") || find(name).is_some_and(|b| b.bare)
}
