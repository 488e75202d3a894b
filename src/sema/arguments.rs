//! What the checkers of builtins have in common: taking arguments.

use super::check::Checker;
use super::tree::{Detail, Expr, ExprKind, MapId, VarId};
use crate::builtins::{self, Call};
use crate::diag::Diagnostic;
use crate::host::features::Feature;
use crate::ir;
use crate::parser::ast;
use crate::source::{Span, Spanned};
use crate::types::Type;

impl Checker<'_> {
    /// A use of a builtin without arguments.
    pub(crate) fn typed(&mut self, call: &Call<'_>, ty: Type, detail: Detail) -> Expr {
        self.typed_with(call, Vec::new(), ty, detail)
    }

    /// A use of a builtin with checked arguments.
    #[allow(clippy::unused_self, reason = "reads as a step of the checker")]
    pub(crate) fn typed_with(
        &mut self,
        call: &Call<'_>,
        args: Vec<Expr>,
        ty: Type,
        detail: Detail,
    ) -> Expr {
        Expr::new(ExprKind::Call { builtin: call.builtin, args, detail }, ty, call.span)
    }

    fn nth<'c>(&mut self, call: &Call<'c>, n: usize) -> Option<&'c ast::Expr> {
        call.args.get(n)
    }

    /// Argument `n` as a number.
    pub(crate) fn integer_argument(&mut self, call: &Call<'_>, n: usize) -> Option<Expr> {
        let e = self.nth(call, n)?;
        self.integer(e)
    }

    /// Argument `n` as a constant that is not negative.
    pub(crate) fn literal_number(&mut self, call: &Call<'_>, n: usize) -> Option<i64> {
        let e = self.nth(call, n)?;
        let what = format!("argument {} of `{}`", n + 1, call.builtin.name);
        self.constant_in(e, 0, i64::MAX, &what)
    }

    /// Argument `n` as a string literal.
    pub(crate) fn literal_text(&mut self, call: &Call<'_>, n: usize) -> Option<String> {
        let e = self.nth(call, n)?;
        let value = self.expression(e);
        if let Some(text) = value.text() {
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        if !value.is_error() {
            let mut d = Diagnostic::error(
                e.span,
                format!("argument {} of `{}` must be a string literal", n + 1, call.builtin.name),
            )
            .help(format!("write {}", call.builtin.forms()));
            if let ast::ExprKind::Param(n) = e.node {
                d = d.help(format!("write `str(${n})` for the text of the parameter"));
            }
            self.fail(d);
        }
        None
    }

    /// Argument `n` as an address: a number or a pointer.
    pub(crate) fn address_argument(&mut self, call: &Call<'_>, n: usize) -> Option<Expr> {
        let e = self.nth(call, n)?;
        let value = self.expression(e);
        if value.is_error() {
            return None;
        }
        if value.ty.is_integer()
            || matches!(value.ty, Type::Ptr { .. } | Type::Ksym | Type::Unknown)
        {
            return Some(value);
        }
        let d = Diagnostic::error(e.span, format!("`{}` takes an address", call.builtin.name))
            .at(format!("this is `{}`", value.ty))
            .help(format!("write `{}`, with a pointer or a number", call.builtin.usage));
        self.fail(d);
        None
    }

    /// Argument `n` as a string; one at an address is read by `str()`.
    pub(crate) fn text_argument(&mut self, call: &Call<'_>, n: usize) -> Option<Expr> {
        let e = self.nth(call, n)?;
        let value = self.expression(e);
        let bytes = |ty: &Type| ty.size() == 1 && ty.is_integer();
        match &value.ty {
            _ if value.is_error() => None,
            Type::Str(_) | Type::Unknown => Some(value),
            Type::Ptr { to: of, .. } | Type::Array { of, .. } if bytes(of) => {
                let str = builtins::find("str").expect("bug: `str` is a builtin");
                let args = std::slice::from_ref(e);
                let read = (str.check)(self, &Call { builtin: str, args, ..*call });
                (!read.is_error()).then_some(read)
            }
            ty => {
                let d =
                    Diagnostic::error(e.span, format!("`{}` takes a string", call.builtin.name))
                        .at(format!("this is `{ty}`"));
                let address = ty.is_integer() || matches!(ty, Type::Ptr { .. });
                self.fail(match address {
                    true => d.help("read the string at an address by `str(…)`"),
                    false => d,
                });
                None
            }
        }
    }

    /// Whether programs here may call a helper, and the kernel has it; else
    /// says so.
    pub(crate) fn may_call(&mut self, call: &Call<'_>, helper: ir::Helper) -> bool {
        let info = helper.info();
        let name = call.builtin.name;
        if !info.only.is_empty() && !info.only.contains(&self.instance.kind) {
            let reason = match self.instance.kind {
                ir::ProgramKind::Function { .. } => {
                    "a function may run in any kind of program; call it in the probe".to_owned()
                }
                _ => {
                    let mut probes: Vec<String> = info
                        .only
                        .iter()
                        .filter_map(|k| Some(format!("`{}`", probe_of(*k)?)))
                        .collect();
                    probes.sort_unstable();
                    probes.dedup();
                    format!(
                        "the kernel does not let such programs call `bpf_{}`; call it in probes of the \
                         kinds {}",
                        info.name,
                        probes.join(", ")
                    )
                }
            };
            self.unavailable(name, reason, call.span);
            return false;
        }
        true
    }

    /// Whether the kernel has what a builtin needs; else says so.
    pub(crate) fn has_feature(&mut self, call: &Call<'_>, feature: Feature, what: &str) -> bool {
        if self.host.has(feature) {
            return true;
        }
        let since = feature.info().since;
        let d = Diagnostic::error(
            call.span,
            format!("`{}` does not work on this kernel", call.builtin.name),
        )
        .note(format!("it lacks {what} (Linux {since})"));
        self.fail(d);
        false
    }

    /// Argument `n` as one of some bare words, by its index.
    pub(crate) fn bare_word(&mut self, call: &Call<'_>, n: usize, words: &[&str]) -> Option<usize> {
        let e = self.nth(call, n)?;
        let given = match &e.node {
            ast::ExprKind::Ident(name) => name.as_str(),
            _ => "",
        };
        if let Some(index) = words.iter().position(|w| *w == given) {
            return Some(index);
        }
        let list: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
        let d = Diagnostic::error(e.span, format!("unknown mode of `{}`", call.builtin.name))
            .note(format!("it is one of {}", list.join(", ")))
            .or_nearest(e.span, given, words.iter().copied());
        self.fail(d);
        None
    }

    /// Argument `n` if it is a whole map.
    pub(crate) fn whole_map(&mut self, call: &Call<'_>, n: usize) -> Option<MapId> {
        let e = self.nth(call, n)?;
        match &e.node {
            ast::ExprKind::Map { name, key: None } => Some(self.map_id(name, e.span)),
            _ => None,
        }
    }

    /// Arguments `@m, key`.
    pub(crate) fn map_and_key(&mut self, call: &Call<'_>) -> Option<(MapId, Expr)> {
        let Some(map) = self.whole_map(call, 0) else {
            let d = Diagnostic::error(
                call.span,
                format!("`{}` takes a map and a key", call.builtin.name),
            )
            .help(format!("write {}", call.builtin.forms()));
            self.fail(d);
            return None;
        };
        let key = self.nth(call, 1)?;
        // `(a, b)` is the key of a map with two.
        let keys: Vec<ast::Expr> = match &key.node {
            ast::ExprKind::Tuple(list) if list.len() > 1 => list.clone(),
            _ => vec![key.clone()],
        };
        let span = call.span;
        self.map_key(map, Some(&keys), span)?.map(|key| (map, key))
    }

    /// The value of a map for a key that was checked.
    pub(crate) fn map_value(&mut self, map: MapId, key: &Expr, span: Span) -> Expr {
        self.map_element(map, Some(key.clone()), span)
    }

    /// The variable of that name, made if need be, to which a value of that
    /// type may be assigned.
    pub(crate) fn var_for(&mut self, name: &Spanned<String>, value: &Expr) -> Option<VarId> {
        let var = match self.find_var(&name.node) {
            Some(var) => var,
            None => self.assigned_var(name),
        };
        self.assign_var(var, value, name)?;
        Some(var)
    }

    /// The id of a map by name.
    pub(crate) fn map_of(&mut self, name: &str, span: Span) -> MapId {
        self.map_id(name, span)
    }

    /// Checks the key of a use of a map.
    #[allow(clippy::option_option, reason = "an error and a scalar map are different things")]
    pub(crate) fn key_of(
        &mut self,
        map: MapId,
        key: Option<&[ast::Expr]>,
        span: Span,
    ) -> Option<Option<Expr>> {
        self.map_key(map, key, span)
    }

    /// `curtask`, as a part of another builtin.
    pub(crate) fn current_task(&mut self, call: &Call<'_>) -> Expr {
        let task = builtins::find("curtask").expect("bug: `curtask` is a builtin");
        (task.check)(self, &Call { builtin: task, args: &[], ..*call })
    }

    /// An expression that does nothing.
    #[allow(clippy::unused_self, reason = "reads as a step of the checker")]
    pub(crate) fn nothing(&mut self, span: Span) -> Expr {
        let block = super::tree::Block { stmts: Vec::new(), value: None };
        Expr::new(ExprKind::Block(block), Type::Void, span)
    }

    /// An argument that is a type: `typeof(struct x)`, or the name of one.
    pub(crate) fn type_argument(&mut self, e: &ast::Expr) -> Option<Type> {
        let found = match &e.node {
            ast::ExprKind::TypeArg(of) => match &**of {
                ast::TypeOrExpr::Type(t) => return self.type_expr(t),
                ast::TypeOrExpr::Expr(e) => match self.as_type(e) {
                    Some(ty) => Some(ty),
                    None => return Some(self.expression(e).ty),
                },
            },
            ast::ExprKind::Ident(name) => {
                let tagged = |tag| ast::TypeExprKind::Named {
                    tag,
                    name: name.clone(),
                    suffixes: Vec::new(),
                };
                // `task_struct` for `struct task_struct`, where that is no other type.
                self.as_type(e).or_else(|| {
                    self.type_expr(&Spanned::new(tagged(Some(ast::TypeTag::Struct)), e.span))
                })
            }
            _ => None,
        };
        if found.is_none() && !self.diags.has_errors() {
            let d = Diagnostic::error(e.span, "this is no type")
                .help("write `typeof(struct NAME)`, or the name of a struct");
            self.fail(d);
        }
        found
    }

    /// A member of what a value points to, by name.
    pub(crate) fn named_member(&mut self, value: Expr, name: &str, span: Span) -> Expr {
        let Some(of) = super::access::Struct::of(&value.ty) else {
            if value.is_error() {
                return value;
            }
            let d = Diagnostic::error(span, "the kernel's types are not known")
                .note("BTF is missing: the kernel was built without CONFIG_DEBUG_INFO_BTF");
            return self.fail(d);
        };
        let name = Spanned::new(name.to_string(), span);
        match self.member(&of, &name) {
            Some(member) => self.member_of(value, member, span),
            None => Expr::error(span),
        }
    }
}

/// A kind of probe whose programs are of that kind.
fn probe_of(kind: ir::ProgramKind) -> Option<&'static str> {
    Some(match kind {
        ir::ProgramKind::Kprobe => "kprobe",
        ir::ProgramKind::Uprobe => "uprobe",
        ir::ProgramKind::Trampoline => "fentry",
        ir::ProgramKind::Tracepoint => "tracepoint",
        ir::ProgramKind::RawTracepoint | ir::ProgramKind::BtfTracepoint => "rawtracepoint",
        ir::ProgramKind::PerfEvent => "profile",
        ir::ProgramKind::Iter => "iter",
        ir::ProgramKind::Packet => "tc",
        ir::ProgramKind::Special | ir::ProgramKind::Function { .. } => return None,
    })
}
