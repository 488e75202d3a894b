//! Checking of expressions: names, constants, calls, conditions.

use super::access::cut;
use super::cdefs::well_known;
use super::check::Checker;
use super::expand::written;
use super::operator::word;
use super::promote::promote;
use super::statement::shown;
use super::tree::{Expr, ExprKind, MapId, Target};
use crate::builtins::{self, Call};
use crate::config::Gate;
use crate::diag::{self, Diagnostic, Warning};
use crate::host::features::Feature;
use crate::parser::ast::{self, TypeOrExpr, UnaryOp};
use crate::source::{Span, Spanned};
use crate::types::{Space, Type};

impl Checker<'_> {
    /// An expression whose value may be of any type.
    pub(crate) fn expression(&mut self, e: &ast::Expr) -> Expr {
        self.expanded(e.span, |c| c.any_expression(e))
    }

    /// Checks what may have been made of a call of a macro.
    fn expanded(&mut self, span: Span, check: impl FnOnce(&mut Self) -> Expr) -> Expr {
        let expansions = self.expansions;
        if !expansions.any_at(span) {
            return check(self);
        }
        let earlier = std::mem::take(&mut self.diags);
        let checked = check(self);
        let mut found = std::mem::replace(&mut self.diags, earlier);
        expansions.show_call(span, &mut found.list);
        self.diags.append(found);
        checked
    }

    fn any_expression(&mut self, e: &ast::Expr) -> Expr {
        use ast::ExprKind as E;
        let span = e.span;
        match &e.node {
            E::Int(n) => Expr::literal(i128::from(*n), span),
            E::Str(bytes) => self.string(bytes, span),
            E::Bool(b) => Expr::new(ExprKind::Int(i128::from(*b)), Type::Bool, span),
            E::Var(name) => self.variable(name, span),
            E::Param(n) => self.param(*n, span),
            E::ParamCount => {
                let count = i128::try_from(self.options.params.len()).unwrap_or(0);
                Expr::literal(count, span)
            }
            E::Map { name, key } => self.map_read(name, key.as_deref(), span),
            E::Ident(name) => self.word(name, span),
            E::Call { name, args } => self.call(name, args, span),
            E::Tuple(list) => {
                let list: Vec<Expr> = list.iter().map(|e| self.expression(e)).collect();
                if list.iter().any(Expr::is_error) {
                    return Expr::error(span);
                }
                let ty = Type::Tuple(list.iter().map(|e| e.ty.clone()).collect());
                Expr::new(ExprKind::Tuple(list), ty, span)
            }
            E::Record(list) => self.record(list, span),
            E::Cast { ty, value } => self.cast(ty, value, span),
            E::Unary { op, value } => self.unary(*op, value, span),
            E::Binary { op, left, right } => {
                let left = self.expression(left);
                let right = self.expression(right);
                self.binary(*op, left, right, span)
            }
            E::Ternary { cond, then: Some(then), els } if matches!(cond.node, E::Comptime(_)) => {
                match self.condition(cond).constant() {
                    Some(0) => self.expression(els),
                    Some(_) => self.expression(then),
                    None => Expr::error(span),
                }
            }
            E::Ternary { cond, then, els } => {
                let checked = self.condition(cond);
                let then = match then {
                    Some(then) => self.expression(then),
                    None => self.expression(cond),
                };
                let els = self.expression(els);
                self.ternary(checked, then, els, span)
            }
            E::Field { base, name } => self.field(base, name, span),
            E::TupleField { base, index } => {
                let base = self.expression(base);
                self.element(base, i128::from(index.node), index.span, span)
            }
            E::Index { base, index } => self.index(base, index, span),
            E::IncDec { target, increment, prefix } => {
                self.inc_dec(target, *increment, *prefix, span)
            }
            E::If(_) | E::Block(_) => self.value_block(e),
            E::Sizeof(of) => self.sizeof(of, span),
            E::Offsetof { of, path } => self.offsetof(of, path, span),
            E::Comptime(value) => {
                let value = self.expression(value);
                if !value.is_literal() && !value.is_error() {
                    let d =
                        Diagnostic::error(span, "this is not known when the script is compiled")
                            .note("literals, `$1`, `sizeof`, `typeinfo` and what is computed of them are known");
                    return self.fail(d);
                }
                value
            }
            E::Typeinfo(of) => self.typeinfo(of, span),
            E::TypeArg(_) => self.fail(
                Diagnostic::error(span, "a type is no value")
                    .help("`sizeof(…)` gives its size, `(type)value` is a cast"),
            ),
            E::Error => Expr::error(span),
        }
    }

    /// An expression in statement position, where `if` and blocks need no value.
    pub(super) fn expression_statement(&mut self, e: &ast::Expr) -> Expr {
        self.expanded(e.span, |c| c.any_expression_statement(e))
    }

    fn any_expression_statement(&mut self, e: &ast::Expr) -> Expr {
        match &e.node {
            ast::ExprKind::If(i) if matches!(i.cond.node, ast::ExprKind::Comptime(_)) => {
                self.chosen_block(i, e.span)
            }
            ast::ExprKind::If(i) => {
                let cond = self.condition(&i.cond);
                let then = self.block(&i.then);
                let els = i.els.as_ref().map(|b| self.block(b));
                self.if_value(cond, then, els, e.span)
            }
            ast::ExprKind::Block(b) => {
                let block = self.block(b);
                let ty = block.value.as_ref().map_or(Type::Void, |v| v.ty.clone());
                Expr::new(ExprKind::Block(block), ty, e.span)
            }
            _ => self.expression(e),
        }
    }

    /// `if comptime (…)`: one block; the other one is not looked at.
    fn chosen_block(&mut self, i: &ast::IfExpr, span: Span) -> Expr {
        let cond = self.condition(&i.cond);
        let block = match cond.constant() {
            Some(0) => i.els.as_ref().map(|els| self.block(els)),
            Some(_) => Some(self.block(&i.then)),
            None => return Expr::error(span),
        };
        let block = block.unwrap_or(super::tree::Block { stmts: Vec::new(), value: None });
        let ty = block.value.as_ref().map_or(Type::Void, |v| v.ty.clone());
        Expr::new(ExprKind::Block(block), ty, span)
    }

    fn value_block(&mut self, e: &ast::Expr) -> Expr {
        let value = self.expression_statement(e);
        if value.ty == Type::Void {
            let d = Diagnostic::error(e.span, "this has no value")
                .help("end the block with an expression without `;`");
            return self.fail(d);
        }
        value
    }

    fn if_value(
        &mut self,
        cond: Expr,
        then: super::tree::Block,
        els: Option<super::tree::Block>,
        span: Span,
    ) -> Expr {
        let ty = match (&then.value, els.as_ref().and_then(|b| b.value.as_ref())) {
            (Some(a), Some(b)) => {
                promote(&a.ty, a.flexible, &b.ty, b.flexible).unwrap_or(Type::Void)
            }
            _ => Type::Void,
        };
        Expr::new(ExprKind::If { cond: Box::new(cond), then, els }, ty, span)
    }

    pub(crate) fn string(&mut self, bytes: &[u8], span: Span) -> Expr {
        let limit = self.config.max_strlen;
        if bytes.len() as u64 >= limit {
            let d =
                Diagnostic::error(span, format!("this string is longer than {} bytes", limit - 1))
                    .help("raise `max_strlen` in a config block");
            return self.fail(d);
        }
        Expr::new(ExprKind::Str(bytes.to_vec()), Type::Str(length(bytes) + 1), span)
    }

    fn variable(&mut self, name: &str, span: Span) -> Expr {
        match self.find_var(name) {
            Some(var) => Expr::new(ExprKind::Var(var), self.var_type(var), span),
            // Another round will know where to declare it.
            None if self.assigned.contains(name) => {
                let known = self.hoisted.insert((self.probe, name.to_string()), span);
                self.changed |= known.is_none();
                Expr::error(span)
            }
            None => {
                let mut d =
                    Diagnostic::error(span, format!("undefined variable `${}`", written(name)));
                d = match self.nearest_var(name) {
                    Some(near) => d.did_you_mean(span, &format!("${}", written(&near))),
                    // `$args.x`, `$pid`
                    None if name == "args" || builtins::is_value(name) => {
                        return self.fail(d.did_you_mean(span, name));
                    }
                    None => {
                        d.at("nothing was assigned to it in this block or around it".to_string())
                    }
                };
                self.fail(d.note(
                    "a variable lives to the end of the block of its first assignment; `let` before the block declares it",
                ))
            }
        }
    }

    fn param(&mut self, n: u64, span: Span) -> Expr {
        let text = usize::try_from(n).ok().and_then(|n| self.options.params.get(n - 1)).cloned();
        let Some(text) = text else {
            self.diags.push(
                Diagnostic::warning(
                    Warning::MissingParameter,
                    span,
                    format!("parameter `${n}` is not given"),
                )
                .at("taken as 0")
                .help("give it behind the script: `rtrace FILE VALUE`"),
            );
            return Expr::literal(0, span);
        };
        match number(&text) {
            Some(value) => Expr::literal(value, span),
            None => self.string(text.as_bytes(), span),
        }
    }

    /// The text of a positional parameter, for `str($1)`.
    pub(crate) fn param_text(&mut self, n: u64, span: Span) -> String {
        let text = usize::try_from(n).ok().and_then(|n| self.options.params.get(n - 1)).cloned();
        text.unwrap_or_else(|| {
            self.diags.push(
                Diagnostic::warning(
                    Warning::MissingParameter,
                    span,
                    format!("parameter `${n}` is not given"),
                )
                .at("taken as an empty string")
                .help("give it behind the script: `rtrace FILE TEXT`"),
            );
            String::new()
        })
    }

    /// Reading a map or map element.
    fn map_read(&mut self, name: &str, key: Option<&[ast::Expr]>, span: Span) -> Expr {
        let map = self.map_id(name, span);
        let Some(key) = self.map_key(map, key, span) else { return Expr::error(span) };
        self.map_element(map, key, span)
    }

    /// The value of a map for its key.
    pub(super) fn map_element(&mut self, map: MapId, key: Option<Expr>, span: Span) -> Expr {
        self.map_mut(map).read = true;
        let state = self.map(map);
        let ty = match &state.aggregation {
            Some((a, _)) if a.castable() => {
                if !self.host.has(Feature::LookupPercpu) {
                    let d = Diagnostic::error(
                        span,
                        format!("this kernel cannot read `{}` values in a probe", a.function()),
                    )
                    .note("it lacks the helper `bpf_map_lookup_percpu_elem` (Linux 5.19)")
                    .help("print the map instead, or keep a plain counter: `@n++`");
                    return self.fail(d);
                }
                Type::int(8, a.signed())
            }
            Some((a, at)) => {
                let d =
                    Diagnostic::error(span, format!("a `{}` value cannot be read", a.function()))
                        .label(*at, "assigned here")
                        .help(format!("print the whole map: `print(@{})`", state.name));
                return self.fail(d);
            }
            None => state.value.ty.clone(),
        };
        Expr::new(ExprKind::Map { map, key: key.map(Box::new) }, ty, span)
    }

    /// A bare word.
    fn word(&mut self, name: &str, span: Span) -> Expr {
        if name == "args" {
            return self.whole_args(span);
        }
        if let Some(n) = numbered(name, "arg") {
            return self.numbered_argument(n, span);
        }
        if let Some(n) = numbered(name, "sarg") {
            return self.stack_argument(n, span);
        }
        if let Some(builtin) = builtins::find(name) {
            if !builtin.bare {
                let d = Diagnostic::error(span, format!("`{name}` is a function"))
                    .at("called without parentheses")
                    .help(format!("write {}", builtin.forms()));
                return self.fail(d);
            }
            return self.call_builtin(builtin, &[], span, span);
        }
        if let Some(text) = self.cdefs.constant(name).cloned() {
            return self.constant(name, &text, span);
        }
        if let Some((of, value)) = self.cdefs.enum_constant(name) {
            let ty = Type::Enum(crate::types::EnumRef { size: 8, ..of });
            return Expr::new(ExprKind::Int(value), ty, span);
        }
        if let Ok(btf) = self.host.btf()
            && let Some((of, value)) = btf.find_enum_constant(name)
        {
            return self.enum_constant(name, of, value, span);
        }
        if let Some(value) = well_known::find(name) {
            return Expr::literal(i128::from(value), span);
        }
        let mut d = Diagnostic::error(span, format!("unknown name `{name}`"));
        let names = builtins::all().filter(|b| b.bare).map(|b| b.name);
        let names = names.chain(["args"]).chain(self.cdefs.names());
        d = match diag::nearest(name, names) {
            Some(near) => d.did_you_mean(span, near),
            None => match self.with_tag(name) {
                Some(whole) => d.did_you_mean(span, &whole),
                None if self.has_argument(name) => d.did_you_mean(span, &format!("args.{name}")),
                None if name.eq_ignore_ascii_case("null") || name == "nil" => {
                    d.help("the null pointer is `0`").replace(span, "0")
                }
                None => d.at("no builtin, constant or enum value has this name".to_string()).help(
                    format!(
                        "write `${name}` for a variable, `@{name}` for a map, `\"{name}\"` for text"
                    ),
                ),
            },
        };
        self.fail(d)
    }

    /// A `#define` constant: its text, parsed as an expression of the language.
    fn constant(&mut self, name: &str, text: &Spanned<String>, span: Span) -> Expr {
        if self.expanding.iter().any(|n| n == name) {
            let d = Diagnostic::error(span, format!("`{name}` is defined by itself"))
                .label(text.span, "here");
            return self.fail(d);
        }
        let cdefs = self.cdefs;
        let is_value = |name: &str| builtins::is_value(name) || cdefs.is_value(name);
        let Some(parsed) = parse_constant(text, &is_value) else {
            let d = Diagnostic::error(span, format!("the value of `{name}` is no expression"))
                .label(text.span, "defined here");
            return self.fail(d);
        };
        self.expanding.push(name.to_string());
        let mut value = self.expression(&parsed);
        self.expanding.pop();
        value.span = span;
        value
    }

    fn call(&mut self, name: &Spanned<String>, args: &[ast::Expr], span: Span) -> Expr {
        if let Some(aggregation) = builtins::aggregation(&name.node) {
            let d = Diagnostic::error(
                span,
                format!("`{aggregation}()` must be assigned directly to a map"),
            )
            .help(format!("write `@name = {aggregation}(…);`"));
            return self.fail(d);
        }
        match builtins::find(&name.node) {
            Some(builtin) => self.call_builtin(builtin, args, name.span, span),
            None => {
                if let Some(call) = self.function_call(name, args, span) {
                    return call;
                }
                if self.is_foreign(&name.node) {
                    let call = self.foreign_call(name, args, span);
                    return call.unwrap_or_else(|| Expr::error(span));
                }
                let mut d =
                    Diagnostic::error(name.span, format!("unknown function `{}`", name.node));
                let builtins = builtins::all().map(|b| b.name).chain(builtins::aggregations());
                let own = self.functions.iter().map(|f| f.name.node.clone());
                let objects = self.options.objects.iter();
                let foreign = objects.flat_map(|o| o.types.functions("vmlinux"));
                let names: Vec<String> = builtins
                    .map(str::to_owned)
                    .chain(own)
                    .chain(self.expansions.names.iter().cloned())
                    .chain(foreign.map(str::to_owned))
                    .collect();
                if let Some(defined) = self.cdefs.function_macro(&name.node) {
                    d = d.label(defined, "defined here, for C definitions only").help(format!(
                        "write a macro of the language: `macro {}(x) {{ … }}`",
                        name.node
                    ));
                } else {
                    d = d.or_nearest(name.span, &name.node, names.iter().map(String::as_str));
                }
                self.fail(d)
            }
        }
    }

    fn call_builtin(
        &mut self,
        builtin: &'static builtins::Builtin,
        args: &[ast::Expr],
        name_span: Span,
        span: Span,
    ) -> Expr {
        let (least, most) = builtin.args;
        if args.len() < least || args.len() > most {
            let expected = match (least, most) {
                (a, b) if a == b => format!("{a}"),
                (a, usize::MAX) => format!("at least {a}"),
                (0, b) => format!("up to {b}"),
                (a, b) => format!("{a} to {b}"),
            };
            let plural = if expected == "1" || expected.ends_with(" 1") { "" } else { "s" };
            let d = Diagnostic::error(
                span,
                format!("`{}` takes {expected} argument{plural}, not {}", builtin.name, args.len()),
            )
            .help(format!("write {}", builtin.forms()));
            return self.fail(d);
        }
        if builtin.needs_unsafe && !self.options.unsafe_mode {
            let d =
                Diagnostic::error(span, format!("`{}` can change the traced system", builtin.name))
                    .at("unsafe")
                    .help("run with `--unsafe` if that is meant");
            return self.fail(d);
        }
        if !self.may_use(builtin.name, span) {
            return Expr::error(span);
        }
        (builtin.check)(self, &Call { builtin, args, name_span, span })
    }

    /// Whether the config lets a feature be used; says so if not, or if it is to be warned of.
    pub(super) fn may_use(&mut self, feature: &str, span: Span) -> bool {
        let message = format!("`{feature}` is an unstable feature of the language");
        let key = format!("`unstable_{feature}`");
        match self.config.gate(feature) {
            Gate::Enable => true,
            Gate::Warn => {
                let d = Diagnostic::warning(Warning::Unstable, span, message);
                self.diags.push(d.help(format!("{key} is set to `warn`; `enable` is silent")));
                true
            }
            Gate::Error => {
                let d = Diagnostic::error(span, message);
                let d = d.note(format!("the config variable {key} is set to `error`"));
                self.diags.push(d.help(format!("do without it, or set {key} to `enable`")));
                false
            }
        }
    }

    fn record(&mut self, list: &[(Spanned<String>, ast::Expr)], span: Span) -> Expr {
        let mut fields: Vec<(String, Expr)> = Vec::new();
        for (name, value) in list {
            if fields.iter().any(|f| f.0 == name.node) {
                let d =
                    Diagnostic::error(name.span, format!("the field `{}` stands twice", name.node))
                        .help("give one of them another name");
                return self.fail(d);
            }
            let value = self.expression(value);
            if value.is_error() {
                return Expr::error(span);
            }
            fields.push((name.node.clone(), value));
        }
        let ty = Type::Record(fields.iter().map(|(n, e)| (n.clone(), e.ty.clone())).collect());
        Expr::new(ExprKind::Record(fields), ty, span)
    }

    /// An expression that decides: integer, bool or pointer.
    pub(crate) fn condition(&mut self, e: &ast::Expr) -> Expr {
        let value = self.expression(e);
        match &value.ty {
            Type::Unknown | Type::Ptr { .. } => value,
            t if t.is_integer() => value,
            Type::Str(_) if value.text().is_some() => {
                let truth = value.text().is_some_and(|t| !t.is_empty());
                Expr::new(ExprKind::Int(i128::from(truth)), Type::Bool, e.span)
            }
            _ => {
                let d = Diagnostic::error(e.span, "this cannot be a condition")
                    .at(format!("it is {}", shown(&value)));
                // `(pid = 1)`
                let d = match &value.ty {
                    Type::Record(fields) if fields.len() == 1 => {
                        d.note("`(name = value)` makes a record").help("to compare, write `==`")
                    }
                    _ => d.help("compare it with something"),
                };
                self.fail(d)
            }
        }
    }

    /// An expression that must be a number.
    pub(crate) fn integer(&mut self, e: &ast::Expr) -> Option<Expr> {
        let value = self.expression(e);
        if value.is_error() {
            return None;
        }
        if value.ty.is_integer() || value.ty == Type::Unknown {
            return Some(value);
        }
        let d = Diagnostic::error(e.span, "a number is expected here")
            .at(format!("this is {}", shown(&value)));
        let text = match &e.node {
            ast::ExprKind::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        self.fail(match (text.filter(|text| number(text).is_some()), &value.ty) {
            (Some(text), _) => {
                d.help(format!("write it without quotes: `{text}`")).replace(e.span, text)
            }
            (None, Type::Str(_)) => d.note("strings have no value as numbers"),
            (None, Type::Tuple(_)) => d.help("take an element of it: `.0`, `.1`, …"),
            (None, _) => d,
        });
        None
    }

    pub(super) fn ternary(&mut self, cond: Expr, then: Expr, els: Expr, span: Span) -> Expr {
        if then.is_error() || els.is_error() {
            return Expr::error(span);
        }
        let ty = if then.ty == Type::Void && els.ty == Type::Void {
            Type::Void
        } else {
            match promote(&then.ty, then.flexible, &els.ty, els.flexible) {
                Some(ty) => ty,
                None => {
                    let d = Diagnostic::error(els.span, "the two values have different types")
                        .at(format!("this is {}", shown(&els)))
                        .label(then.span, format!("this is {}", shown(&then)))
                        .help("make them alike: both numbers, or both strings");
                    return self.fail(d);
                }
            }
        };
        let flexible = then.flexible && els.flexible;
        if let Some(n) = cond.constant() {
            let chosen = if n != 0 { &then } else { &els };
            if let (Some(n), Type::Int { size, signed, .. }) = (chosen.constant(), &ty) {
                let kind = ExprKind::Int(cut(n, *size, *signed));
                let exact = then.exact && els.exact;
                return Expr { kind, ty, span, flexible, exact };
            }
            if chosen.constant().is_some() || chosen.text().is_some() {
                return Expr { span, ..chosen.clone() };
            }
        }
        let kind =
            ExprKind::Ternary { cond: Box::new(cond), then: Box::new(then), els: Box::new(els) };
        Expr { kind, ty, span, flexible, exact: false }
    }

    fn unary(&mut self, op: UnaryOp, value: &ast::Expr, span: Span) -> Expr {
        if op == UnaryOp::Deref && super::needs::is_args(value) {
            return self.whole_args(span);
        }
        if op == UnaryOp::AddrOf {
            return self.address_of(value, span);
        }
        if op == UnaryOp::Deref
            && let ast::ExprKind::Unary { op: UnaryOp::AddrOf, value } = &value.node
            && matches!(value.node, ast::ExprKind::Var(_))
        {
            return self.expression(value);
        }
        let value = self.expression(value);
        if value.is_error() {
            return Expr::error(span);
        }
        let wrong = |c: &mut Self, value: &Expr| {
            let d = Diagnostic::error(span, format!("`{}` does not work on this", op.text()))
                .at(format!("it is {}", shown(value)));
            c.fail(match (op, &value.ty) {
                (UnaryOp::Not, Type::Str(_)) => d.help("compare it: `… == \"\"`"),
                _ => d.note(format!("`{}` is for numbers", op.text())),
            })
        };
        match op {
            UnaryOp::Not => match (&value.ty, value.constant()) {
                (_, Some(n)) => Expr::new(ExprKind::Int(i128::from(n == 0)), Type::Bool, span),
                (t, None) if t.is_integer() || matches!(t, Type::Ptr { .. } | Type::Unknown) => {
                    Expr::new(ExprKind::Not(Box::new(value)), Type::Bool, span)
                }
                _ => wrong(self, &value),
            },
            UnaryOp::Neg => match (&value.ty, value.constant()) {
                (_, Some(n)) if value.is_exact() => {
                    if -n < i128::from(i64::MIN) {
                        return self.overflow(span);
                    }
                    Expr::literal(-n, span)
                }
                (t, Some(n)) => word(-n, t.is_signed(), span),
                (t, None) if t.is_integer() || *t == Type::Unknown => {
                    let ty = Type::int(8, t.is_signed());
                    Expr::new(ExprKind::Neg(Box::new(value)), ty, span)
                }
                _ => wrong(self, &value),
            },
            UnaryOp::BitNot => match (&value.ty, value.constant()) {
                (_, Some(n)) if value.is_exact() && i64::try_from(n).is_ok() => {
                    Expr::literal(!n, span)
                }
                (t, Some(n)) => word(!n, t.is_signed(), span),
                (t, None) if t.is_integer() || *t == Type::Unknown => {
                    let ty = Type::int(8, t.is_signed());
                    Expr::new(ExprKind::BitNot(Box::new(value)), ty, span)
                }
                _ => wrong(self, &value),
            },
            UnaryOp::Deref => self.deref(value, span),
            UnaryOp::AddrOf => unreachable!("bug: handled above"),
        }
    }

    pub(super) fn overflow(&mut self, span: Span) -> Expr {
        let d = Diagnostic::error(span, "the result does not fit 64 bits");
        self.fail(d.note("no number is wider: the largest is 18446744073709551615"))
    }

    fn inc_dec(&mut self, target: &ast::Expr, increment: bool, prefix: bool, span: Span) -> Expr {
        let op = if increment { "++" } else { "--" };
        match &target.node {
            ast::ExprKind::Var(name) => {
                let Some(var) = self.find_var(name) else {
                    return self.variable(name, target.span);
                };
                let old = self.var_type(var);
                let ty = if let Type::Ptr { .. } = old {
                    old
                } else if old.is_integer() || old == Type::Unknown {
                    let ty = Type::int(8, !increment || old.is_signed() || old == Type::Unknown);
                    let value = Expr::new(ExprKind::Var(var), ty.clone(), span);
                    let name = Spanned::new(name.clone(), target.span);
                    if !self.local(var).declared && self.assign_var(var, &value, &name).is_none() {
                        return Expr::error(span);
                    }
                    ty
                } else {
                    let d = Diagnostic::error(span, format!("`{op}` does not work on this"))
                        .at(format!("it is `{old}`"))
                        .note(format!("`{op}` is for numbers and pointers"));
                    return self.fail(d);
                };
                let target = Box::new(Target::Var(var));
                Expr::new(ExprKind::IncDec { target, increment, prefix }, ty, span)
            }
            ast::ExprKind::Map { name, key } => {
                let map = self.map_id(name, target.span);
                let Some(key) = self.map_key(map, key.as_deref(), target.span) else {
                    return Expr::error(span);
                };
                let old = self.map(map).value.ty.clone();
                if let Type::Ptr { .. } = old {
                    let target = Box::new(Target::Map { map, key });
                    return Expr::new(ExprKind::IncDec { target, increment, prefix }, old, span);
                }
                if !(old.is_integer() || old == Type::Unknown) {
                    let d = Diagnostic::error(span, format!("`{op}` does not work on this"))
                        .at(format!("it is `{old}`"))
                        .note(format!("`{op}` is for numbers and pointers"));
                    return self.fail(d);
                }
                let signed = !increment || old.is_signed() || old == Type::Unknown;
                let ty = Type::int(8, signed);
                let value = Expr::new(ExprKind::Int(0), ty.clone(), span);
                if self.assign_map(map, &value).is_none() {
                    return Expr::error(span);
                }
                let target = Box::new(Target::Map { map, key });
                Expr::new(ExprKind::IncDec { target, increment, prefix }, ty, span)
            }
            _ => {
                let d = Diagnostic::error(span, format!("`{op}` works on variables and maps only"));
                self.fail(d)
            }
        }
    }

    fn sizeof(&mut self, of: &TypeOrExpr, span: Span) -> Expr {
        match self.type_of(of) {
            Some(ty) => self.size_of(&ty, span),
            None => Expr::error(span),
        }
    }

    /// The type of what stands in `sizeof`, `typeof` and the like. Of a whole map
    /// with keys it is that of the key.
    pub(super) fn type_of(&mut self, of: &TypeOrExpr) -> Option<Type> {
        let e = match of {
            TypeOrExpr::Type(t) => return self.type_expr(t),
            TypeOrExpr::Expr(e) => e,
        };
        if let Some(ty) = self.as_type(e) {
            return Some(ty);
        }
        if let ast::ExprKind::Map { name, key: None } = &e.node {
            let map = self.map_id(name, e.span);
            if matches!(self.map(map).keyed, Some((true, _))) {
                return Some(self.map(map).key.ty.clone()).filter(|ty| *ty != Type::Unknown);
            }
        }
        let value = self.expression(e).stored();
        // Not settled yet, or an error that is told already.
        (value.ty != Type::Unknown).then_some(value.ty)
    }

    /// `typeinfo(…)`: a record of literals.
    fn typeinfo(&mut self, of: &TypeOrExpr, span: Span) -> Expr {
        if !self.may_use("typeinfo", span) {
            return Expr::error(span);
        }
        let Some(ty) = self.type_of(of) else { return Expr::error(span) };
        let text = |text: &str| {
            let ty = Type::Str(length(text.as_bytes()) + 1);
            Expr::new(ExprKind::Str(text.as_bytes().to_vec()), ty, span)
        };
        let fields = vec![
            ("btf_id".to_string(), Expr::literal(0, span)),
            ("base_type".to_string(), text(ty.family())),
            ("full_type".to_string(), text(&ty.to_string())),
        ];
        let ty = Type::Record(fields.iter().map(|(n, e)| (n.clone(), e.ty.clone())).collect());
        Expr::new(ExprKind::Record(fields), ty, span)
    }

    /// `&$v` and `&@m`.
    fn address_of(&mut self, of: &ast::Expr, span: Span) -> Expr {
        match &of.node {
            ast::ExprKind::Var(name) => {
                let Some(var) = self.find_var(name) else { return self.variable(name, of.span) };
                if let Some(var) = self.locals.get_mut(var) {
                    var.addressed = true;
                }
                // A number of its final size, so that the type of the pointer settles.
                let old = self.var_type(var);
                if let Type::Int { signed, .. } = old
                    && !self.local(var).declared
                {
                    self.join_var_type(var, &Type::int(8, signed), false);
                }
                let ty = Type::ptr(self.var_type(var), Space::Kernel);
                Expr::new(ExprKind::AddressOfVar(var), ty, span)
            }
            ast::ExprKind::Map { name, key: None } => {
                let map = self.map_id(name, of.span);
                let kernel = self.host.btf().ok();
                let to = kernel.and_then(|b| b.find_type(Some(ast::TypeTag::Struct), "bpf_map"));
                let ty = Type::ptr(to.unwrap_or(Type::Void), Space::Kernel);
                Expr::new(ExprKind::AddressOfMap(map), ty, span)
            }
            _ => {
                let d = Diagnostic::error(span, "this has no address")
                    .at("`&` takes a variable or a whole map")
                    .help("put the value into a variable first");
                self.fail(d)
            }
        }
    }

    fn offsetof(&mut self, of: &TypeOrExpr, path: &[Spanned<String>], span: Span) -> Expr {
        let Some(mut ty) = self.type_of(of) else { return Expr::error(span) };
        while let Type::Ptr { to, .. } = ty {
            ty = *to;
        }
        self.member_offset(&ty, path, span).unwrap_or_else(|| Expr::error(span))
    }
}

/// `N` of a name like `arg3`.
fn numbered(name: &str, prefix: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().unwrap_or(usize::MAX))
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1)
}

/// The value of a parameter that is a number, with or without a sign.
fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = i128::from(crate::lexer::literal::value(digits)?);
    Some(if negative { -value } else { value })
}

/// Parses the value of a `#define`. The text is put where it stands in its
/// file, so that messages point there.
fn parse_constant(text: &Spanned<String>, is_value: &dyn Fn(&str) -> bool) -> Option<ast::Expr> {
    let mut padded = " ".repeat(text.span.start as usize);
    padded.push_str(&text.node);
    let empty = crate::source::Source { name: String::new(), text: String::new() };
    let mut files = vec![empty; usize::from(text.span.file)];
    files.push(crate::source::Source { name: String::new(), text: padded });
    let sources = crate::source::Sources { files };
    let (parsed, diags) = crate::parser::parse_expr(&sources, text.span.file, is_value);
    (!diags.has_errors()).then_some(parsed)
}
