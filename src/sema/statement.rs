//! Checking of statements, variables and maps.

use std::collections::HashMap;

use super::check::{Checker, var_key};
use super::expand::written;
use super::promote::Joined;
use super::tree::{Block, Expr, ExprKind, MapId, Stmt, StmtKind, Target, Var, VarId};
use crate::builtins;
use crate::diag::{self, Diagnostic, Warning};
use crate::host::features::Feature;
use crate::parser::ast::{self, BinaryOp, ForRange};
use crate::source::{Span, Spanned};
use crate::types::{Aggregation, Type};

impl Checker<'_> {
    /// The outermost block. Variables that may be used where nothing was assigned
    /// to them start as zero.
    pub(super) fn body(&mut self, block: &ast::Block) -> Block {
        let mut body = self.block_statement(block);
        let cleared = std::mem::take(&mut self.cleared).into_iter();
        let clear = |var| Stmt { kind: StmtKind::Declare(var), span: self.local(var).span };
        body.stmts.splice(0..0, cleared.map(clear));
        body
    }

    /// A block whose trailing expression is a statement like the others.
    pub(super) fn block_statement(&mut self, block: &ast::Block) -> Block {
        let mut checked = self.block(block);
        if let Some(value) = checked.value.take() {
            let span = value.span;
            self.discarded(&value);
            checked.stmts.push(Stmt { kind: StmtKind::Expr(*value), span });
        }
        checked
    }

    /// A block in a scope of its own.
    pub(super) fn block(&mut self, block: &ast::Block) -> Block {
        self.scopes.push(HashMap::new());
        let mut stmts = Vec::new();
        let mut left = None;
        for stmt in &block.stmts {
            self.unreachable(&mut left, stmt.span);
            let checked = self.statement(stmt);
            left = left.or(checked.as_ref().filter(|s| s.leaves()).map(|s| s.span));
            stmts.extend(checked);
        }
        let value = block.value.as_ref().map(|v| {
            self.unreachable(&mut left, v.span);
            // A trailing `if` or block without a value of its own is a statement.
            Box::new(self.expression_statement(v))
        });
        self.scopes.pop();
        Block { stmts, value }
    }

    /// Warns, once, about a statement after one that leaves the block.
    fn unreachable(&mut self, left: &mut Option<Span>, at: Span) {
        if let Some(left) = left.take() {
            let d = Diagnostic::warning(Warning::Unreachable, at, "this is never reached")
                .label(left, "the block is left here");
            self.diags.push(d.help("take it out, or make what leaves depend on something"));
        }
    }

    fn statement(&mut self, stmt: &ast::Stmt) -> Option<Stmt> {
        use ast::StmtKind as S;
        let kind = match &stmt.node {
            S::Let { name, ty, init } => return self.declaration(name, ty.as_ref(), init.as_ref()),
            S::Assign { target, op, value } => self.assignment(target, *op, value, stmt.span)?,
            S::Discard(e) => StmtKind::Expr(self.expression(e)),
            S::Expr(e) => {
                let value = self.expression_statement(e);
                self.discarded(&value);
                StmtKind::Expr(value)
            }
            S::While { cond, body } => {
                let cond = self.condition(cond);
                self.loops += 1;
                let body = self.block_statement(body);
                self.loops -= 1;
                StmtKind::While { cond, body }
            }
            S::For { var, range: ForRange::Map(map), body } => {
                return self.for_map(var, map, body, stmt.span);
            }
            S::For { var, range: ForRange::Range(from, to), body } => {
                let (from, to) = (self.integer(from)?, self.integer(to)?);
                let joined = Joined { ty: from.ty.clone(), flexible: from.flexible }
                    .join(&to.ty, to.flexible)?;
                let (var, body) = self.loop_body(var, &joined.ty, body);
                StmtKind::ForRange { var: var?, from, to, body }
            }
            S::Unroll { count, body } => {
                let count_span = count.span;
                let count = self.expression(count);
                let Some(n) = count.constant().filter(|n| (1..=100).contains(n)) else {
                    if !count.is_error() {
                        let d = Diagnostic::error(
                            count_span,
                            "`unroll` takes a constant from 1 to 100",
                        );
                        self.diags.push(d.help("write `for ($i : 0..n)` for other counts"));
                    }
                    return None;
                };
                self.loops += 1;
                let body = self.block_statement(body);
                self.loops -= 1;
                StmtKind::Unroll { count: u64::try_from(n).unwrap_or(1), body }
            }
            S::Break | S::Continue => {
                if self.loops == 0 {
                    let word = if matches!(stmt.node, S::Break) { "break" } else { "continue" };
                    let d = Diagnostic::error(stmt.span, format!("`{word}` outside of a loop"));
                    self.diags.push(d.help("write `return` to leave the probe"));
                    return None;
                }
                if matches!(stmt.node, S::Break) { StmtKind::Break } else { StmtKind::Continue }
            }
            S::Return(value) if self.function.is_some() => {
                let id = self.function?;
                self.function_return(id, value.as_ref(), stmt.span)?
            }
            S::Return(value) => {
                let value = match value {
                    Some(e) => Some(self.integer(e)?),
                    None => None,
                };
                StmtKind::Return(value)
            }
            S::Import(_) => {
                let d = Diagnostic::error(stmt.span, "`import` belongs to the head of a script")
                    .help("move it before the first probe");
                self.diags.push(d);
                return None;
            }
            S::Error => return None,
        };
        Some(Stmt { kind, span: stmt.span })
    }

    /// Warns about a value that is computed and thrown away.
    fn discarded(&mut self, value: &Expr) {
        let harmless = matches!(value.ty, Type::Void | Type::Unknown) || value.has_effects();
        if !harmless {
            let d = Diagnostic::warning(Warning::UnusedValue, value.span, "this value is not used");
            self.diags.push(d.help("write `_ = …` if that is meant"));
        }
    }

    fn declaration(
        &mut self,
        name: &Spanned<String>,
        ty: Option<&ast::TypeExpr>,
        init: Option<&ast::Expr>,
    ) -> Option<Stmt> {
        let wanted = ty.map(|t| self.type_expr(t));
        let value = init.map(|e| self.expression(e));
        if let Some(first) = self.find_var(&name.node) {
            let d =
                Diagnostic::error(name.span, format!("`${}` exists already", written(&name.node)))
                    .label(self.local(first).span, "declared here")
                    .help("give it another name, or assign to it without `let`");
            self.diags.push(d);
            return None;
        }
        let var = self.new_var(name);
        let span = value.as_ref().map_or(name.span, |v| name.span.to(v.span));
        if let Some(wanted) = wanted {
            let wanted = wanted?;
            // A size that is left open comes from what is assigned.
            let open = matches!(wanted, Type::Str(0) | Type::Buffer(0));
            if !open {
                self.declare_var(var, wanted.clone());
            }
            if let Some(v) = &value {
                self.fits(v, &wanted, var)?;
            }
        }
        match value {
            Some(value) => {
                self.join_var(var, &value);
                Some(Stmt { kind: StmtKind::Assign { target: Target::Var(var), value }, span })
            }
            None => Some(Stmt { kind: StmtKind::Declare(var), span }),
        }
    }

    /// Whether a value may be put into a variable of a declared type.
    fn fits(&mut self, value: &Expr, wanted: &Type, var: VarId) -> Option<()> {
        let ok = match (wanted, &value.ty) {
            (_, Type::Unknown) => true,
            (Type::Int { .. }, t) if t.is_integer() => {
                value.constant().is_none_or(|n| in_range(n, wanted))
            }
            (Type::Str(0), Type::Str(_)) | (Type::Buffer(0), Type::Buffer(_)) => true,
            (Type::Str(n), Type::Str(m)) => m <= n,
            (a, b) => super::promote::promote(a, false, b, value.flexible).is_some(),
        };
        let Var { name, span, .. } = self.local(var).clone();
        if ok {
            // `$x += 1` stays what `$x` is, as in C.
            let own = matches!(&value.kind, ExprKind::Binary { left, right, .. }
                if matches!(left.kind, ExprKind::Var(v) if v == var)
                    && right.ty.size() <= wanted.size()
                    && right.constant().is_none_or(|n| in_range(n, wanted)));
            let cut = wanted.is_integer() && value.constant().is_none() && !own;
            if cut && value.ty.size() > wanted.size() {
                let d = Diagnostic::warning(
                    Warning::LossyAssignment,
                    value.span,
                    format!("this may not fit `${}`", written(&name)),
                )
                .at(format!("it is {}, of which the low bits are kept", shown(value)))
                .label(span, format!("declared as `{wanted}`"));
                self.diags.push(d.help(format!("write a cast if that is meant: `({wanted})…`")));
            }
            return Some(());
        }
        let what = match value.constant() {
            Some(n) if wanted.is_integer() => format!("{n} does not fit"),
            _ => match (wanted, &value.ty) {
                (Type::Str(n), Type::Str(m)) if m > n => {
                    format!("this takes {m} bytes with its NUL")
                }
                _ => format!("this is {}", shown(value)),
            },
        };
        let d = Diagnostic::error(value.span, format!("type mismatch for `${}`", written(&name)))
            .at(what)
            .label(span, format!("declared as `{wanted}`"));
        let castable = wanted.is_integer() && value.ty.is_integer();
        self.diags.push(match castable {
            true => d.help(format!("write a cast: `({wanted})…`")),
            false => d,
        });
        None
    }

    fn assignment(
        &mut self,
        target: &ast::Expr,
        op: Option<BinaryOp>,
        value: &ast::Expr,
        span: Span,
    ) -> Option<StmtKind> {
        match &target.node {
            ast::ExprKind::Var(name) => {
                let name = Spanned::new(name.clone(), target.span);
                if let Some(op) = op {
                    let left = self.expression(target);
                    let right = self.expression(value);
                    let value = self.binary(op, left, right, span);
                    let var = self.find_var(&name.node)?;
                    self.assign_var(var, &value, &name)?;
                    return Some(StmtKind::Assign { target: Target::Var(var), value });
                }
                if let Some(call) = self.aggregation_call(value) {
                    let d = Diagnostic::error(
                        value.span,
                        format!("`{call}()` must be assigned directly to a map"),
                    );
                    self.diags.push(d.help(format!("write `@{} = {call}(…)`", name.node)));
                    return None;
                }
                let value = self.expression(value);
                let var = match self.find_var(&name.node) {
                    Some(var) => var,
                    None => self.assigned_var(&name),
                };
                self.assign_var(var, &value, &name)?;
                Some(StmtKind::Assign { target: Target::Var(var), value })
            }
            ast::ExprKind::Map { name, key } => {
                let map = self.map_id(name, target.span);
                self.map_mut(map).assigned = true;
                let key = self.map_key(map, key.as_deref(), target.span)?;
                if let Some(op) = op {
                    return self.update(map, key, op, value, target.span, span);
                }
                if let Some(function) = self.aggregation_call(value) {
                    return self.aggregate(map, key, function, value);
                }
                let value = self.expression(value);
                self.assign_map(map, &value)?;
                Some(StmtKind::Assign { target: Target::Map { map, key }, value })
            }
            _ => {
                let d = Diagnostic::error(target.span, "cannot assign to this")
                    .note("only variables, maps and map elements can be assigned; tuples, records and memory cannot be changed");
                self.diags.push(d);
                None
            }
        }
    }

    /// `@m[k] op= value`.
    fn update(
        &mut self,
        map: MapId,
        key: Option<Expr>,
        op: BinaryOp,
        value: &ast::Expr,
        target: Span,
        span: Span,
    ) -> Option<StmtKind> {
        let value = self.expression(value);
        let mut ty = self.map(map).value.ty.clone();
        if ty == Type::Unknown {
            ty = Type::INT64;
        }
        let left =
            Expr::new(ExprKind::Map { map, key: key.clone().map(Box::new) }, ty.clone(), target);
        if ty.is_integer() && value.ty.is_integer() {
            let result = self.binary(op, left, value.clone(), span);
            self.assign_map(map, &result)?;
            return Some(StmtKind::Update { target: Target::Map { map, key }, op, value });
        }
        let result = self.binary(op, left, value, span);
        self.assign_map(map, &result)?;
        Some(StmtKind::Assign { target: Target::Map { map, key }, value: result })
    }

    /// The name of the aggregation that an expression calls.
    fn aggregation_call(&self, value: &ast::Expr) -> Option<&'static str> {
        let name = match &value.node {
            ast::ExprKind::Call { name, .. } => &name.node,
            ast::ExprKind::Ident(name) => name,
            _ => return None,
        };
        builtins::aggregation(name)
    }

    fn aggregate(
        &mut self,
        map: MapId,
        key: Option<Expr>,
        name: &'static str,
        value: &ast::Expr,
    ) -> Option<StmtKind> {
        let args: &[ast::Expr] = match &value.node {
            ast::ExprKind::Call { args, .. } => args,
            _ => &[],
        };
        if !self.may_use(name, value.span) {
            return None;
        }
        let (function, argument) = self.aggregation_arguments(name, args, value.span)?;
        let state = self.map_mut(map);
        state.assigned = true;
        match state.aggregation.clone() {
            None => {
                if state.value.ty != Type::Unknown {
                    let (first, ty) = (state.value_span, state.value.ty.clone());
                    let name = state.name.clone();
                    let d = Diagnostic::error(value.span, format!("type mismatch for `@{name}`"))
                        .at(format!("this makes it a `{}` map", function.function()))
                        .label(first, format!("here it holds `{ty}`"))
                        .help("use another map");
                    self.diags.push(d);
                    return None;
                }
                state.aggregation = Some((function.clone(), value.span));
                state.value_span = value.span;
                self.changed = true;
            }
            Some((first, first_span)) => {
                let merged = merge(&first, &function);
                let Some(merged) = merged else {
                    let name = state.name.clone();
                    let same = first.function() == function.function();
                    let d = Diagnostic::error(value.span, format!("type mismatch for `@{name}`"))
                        .at(if same {
                            "the bounds differ".to_string()
                        } else {
                            format!("this is `{}`", function.function())
                        })
                        .label(first_span, format!("here it is `{}`", first.function()))
                        .help("use another map");
                    self.diags.push(d);
                    return None;
                };
                if merged != first {
                    state.aggregation = Some((merged, first_span));
                    self.changed = true;
                }
            }
        }
        Some(StmtKind::Aggregate { map, key, function, value: argument })
    }

    fn for_map(
        &mut self,
        var: &Spanned<String>,
        map: &ast::Expr,
        body: &ast::Block,
        span: Span,
    ) -> Option<Stmt> {
        let ast::ExprKind::Map { name, key: None } = &map.node else {
            let d = Diagnostic::error(map.span, "`for` iterates over a whole map or a range");
            self.diags.push(d.help("write `for ($kv : @m)` or `for ($i : 0..10)`"));
            return None;
        };
        let id = self.map_id(name, map.span);
        let state = self.map(id).clone();
        if let Some((false, first)) = state.keyed {
            let d = Diagnostic::error(map.span, format!("`@{name}` has no keys to iterate over"))
                .label(first, "used without a key here")
                .help(format!("read its value: `@{name}`"));
            self.diags.push(d);
            return None;
        }
        if !self.host.has(Feature::ForEachMapElem) {
            let d = Diagnostic::error(span, "this kernel cannot iterate over maps")
                .note("it lacks the helper `bpf_for_each_map_elem` (Linux 5.13)")
                .help("print the map with `print(@m)` instead");
            self.diags.push(d);
            return None;
        }
        let value = match &state.aggregation {
            None => state.value.ty.clone(),
            Some((a, _)) if a.castable() => Type::int(8, a.signed()),
            Some((a, at)) => {
                let d = Diagnostic::error(
                    map.span,
                    format!("cannot iterate over `@{name}`, which holds `{}`", a.function()),
                )
                .label(*at, "assigned here")
                .help(format!("print the whole map: `print(@{name})`"));
                self.diags.push(d);
                return None;
            }
        };
        let known = |t: &Type| if *t == Type::Unknown { Type::INT64 } else { t.clone() };
        let pair = Type::Tuple(vec![known(&state.key.ty), known(&value)]);
        let (var, body) = self.loop_body(var, &pair, body);
        Some(Stmt { kind: StmtKind::ForMap { var: var?, map: id, body }, span })
    }

    /// The body of a `for`, with its variable in a scope around it.
    fn loop_body(
        &mut self,
        var: &Spanned<String>,
        ty: &Type,
        body: &ast::Block,
    ) -> (Option<VarId>, Block) {
        let mut id = None;
        self.scopes.push(HashMap::new());
        if let Some(first) = self.find_var(&var.node) {
            let d =
                Diagnostic::error(var.span, format!("`${}` exists already", written(&var.node)))
                    .label(self.local(first).span, "declared here")
                    .help("give the loop variable another name");
            self.diags.push(d);
        } else {
            let new = self.new_var(var);
            self.join_var_type(new, ty, false);
            id = Some(new);
        }
        self.loops += 1;
        let body = self.block_statement(body);
        self.loops -= 1;
        self.scopes.pop();
        (id, body)
    }

    // Variables.

    pub(super) fn find_var(&self, name: &str) -> Option<VarId> {
        self.scopes.iter().rev().find_map(|s| s.get(name)).copied()
    }

    pub(super) fn local(&self, id: VarId) -> &Var {
        self.locals.get(id).expect("bug: variable ids come from the table")
    }

    pub(super) fn new_var(&mut self, name: &Spanned<String>) -> VarId {
        let id = self.locals.len();
        let (name, span) = (name.node.clone(), name.span);
        let var =
            Var { name: name.clone(), ty: Type::Unknown, declared: false, addressed: false, span };
        self.locals.push(var);
        let scope = self.scopes.last_mut().expect("bug: a scope is open");
        scope.insert(name, id);
        id
    }

    /// A variable that its first assignment makes. It lives to the end of the
    /// block; where older scripts use it afterwards, to the end of the probe.
    pub(super) fn assigned_var(&mut self, name: &Spanned<String>) -> VarId {
        self.assigned.insert(name.node.clone());
        let var = self.new_var(name);
        let Some(used) = self.hoisted.get(&(self.probe, name.node.clone())) else { return var };
        let name_written = written(&name.node);
        let message = format!("`${name_written}` is used outside of the block that assigns it");
        self.diags.push(
            Diagnostic::warning(Warning::OutsideBlock, *used, message)
                .label(name.span, "first assigned here")
                .help(format!("declare it before the block: `let ${name_written};`")),
        );
        if let Some(outermost) = self.scopes.first_mut() {
            outermost.insert(name.node.clone(), var);
        }
        self.cleared.push(var);
        var
    }

    pub(super) fn var_type(&self, id: VarId) -> Type {
        let key = var_key(self.probe, self.local(id));
        self.variables.get(&key).map_or(Type::Unknown, |j| j.ty.clone())
    }

    /// Fixes the type of a variable.
    pub(super) fn declare_var(&mut self, id: VarId, ty: Type) {
        if let Some(var) = self.locals.get_mut(id) {
            var.declared = true;
        }
        let joined = Joined { ty, flexible: false };
        let key = var_key(self.probe, self.local(id));
        let old = self.variables.insert(key, joined.clone());
        if old.as_ref() != Some(&joined) {
            self.changed = true;
        }
    }

    pub(super) fn assign_var(
        &mut self,
        var: VarId,
        value: &Expr,
        name: &Spanned<String>,
    ) -> Option<()> {
        if value.is_error() {
            return None;
        }
        if matches!(value.ty, Type::Void | Type::Aggregate(_)) {
            let d = Diagnostic::error(
                value.span,
                format!("cannot store this in `${}`", written(&name.node)),
            )
            .at("it has no value".to_string())
            .help("write it as a statement of its own");
            self.diags.push(d);
            return None;
        }
        if self.local(var).declared {
            return self.fits(value, &self.var_type(var), var);
        }
        if self.join_var(var, value) {
            return Some(());
        }
        let first = self.local(var).span;
        let d =
            Diagnostic::error(value.span, format!("type mismatch for `${}`", written(&name.node)))
                .at(format!("this is {}", shown(value)))
                .label(first, format!("`${}` is `{}`", written(&name.node), self.var_type(var)))
                .help("use another variable");
        self.diags.push(d);
        None
    }

    /// Adds a value to what a variable may hold; false if it does not fit.
    fn join_var(&mut self, var: VarId, value: &Expr) -> bool {
        self.local(var).declared || self.join_var_type(var, &value.ty, value.flexible)
    }

    pub(super) fn join_var_type(&mut self, var: VarId, ty: &Type, flexible: bool) -> bool {
        let key = var_key(self.probe, self.local(var));
        let old = self.variables.get(&key).cloned().unwrap_or(Joined::UNKNOWN);
        let Some(new) = old.join(ty, flexible) else { return false };
        if new != old {
            self.variables.insert(key, new);
            self.changed = true;
        }
        true
    }

    // Maps.

    /// Checks the keys of a use of a map. `None` for an error; the inner
    /// option is the key of a keyed map.
    #[allow(clippy::option_option, reason = "an error and a scalar map are different things")]
    pub(super) fn map_key(
        &mut self,
        map: MapId,
        keys: Option<&[ast::Expr]>,
        span: Span,
    ) -> Option<Option<Expr>> {
        let keyed = keys.is_some();
        let state = self.map_mut(map);
        match state.keyed {
            None => {
                state.keyed = Some((keyed, span));
                self.changed = true;
            }
            Some((first, first_span)) if first != keyed => {
                let name = state.name.clone();
                let (here, there) = if keyed {
                    ("used with a key", "used without a key here")
                } else {
                    ("used without a key", "used with a key here")
                };
                let d = Diagnostic::error(span, format!("`@{name}` is {here}"))
                    .label(first_span, there)
                    .help("a map either has keys everywhere or nowhere; use two maps");
                self.diags.push(d);
                return None;
            }
            Some(_) => {}
        }
        let Some(keys) = keys else { return Some(None) };
        let mut list: Vec<Expr> = keys.iter().map(|k| self.expression(k)).collect();
        if list.iter().any(Expr::is_error) {
            return None;
        }
        let key = if list.len() == 1 {
            list.remove(0)
        } else {
            let ty = Type::Tuple(list.iter().map(|k| k.ty.clone()).collect());
            Expr::new(ExprKind::Tuple(list), ty, span)
        };
        if matches!(key.ty, Type::Void | Type::Aggregate(_) | Type::Unsupported(_)) {
            let d = Diagnostic::error(key.span, format!("`{}` cannot be a map key", key.ty))
                .help("a key is a number, a string, a pointer, a stack, or a tuple of them");
            self.diags.push(d);
            return None;
        }
        let state = self.map_mut(map);
        let Some(joined) = state.key.join(&key.ty, key.flexible) else {
            let (name, first, ty) = (state.name.clone(), state.key_span, state.key.ty.clone());
            let d = Diagnostic::error(key.span, format!("type mismatch for the key of `@{name}`"))
                .at(format!("this is {}", shown(&key)))
                .label(first, format!("here the key is `{ty}`"))
                .help("use another map, or make the keys alike by a cast");
            self.diags.push(d);
            return None;
        };
        if joined != state.key {
            if state.key.ty == Type::Unknown {
                state.key_span = key.span;
            }
            state.key = joined;
            self.changed = true;
        }
        Some(Some(key))
    }

    /// Adds a value to what a map may hold.
    pub(super) fn assign_map(&mut self, map: MapId, value: &Expr) -> Option<()> {
        if value.is_error() {
            return None;
        }
        let state = self.map_mut(map);
        let name = state.name.clone();
        state.assigned = true;
        if let Some((function, first)) = &state.aggregation {
            let d = Diagnostic::error(value.span, format!("type mismatch for `@{name}`"))
                .at(format!("this is {}", shown(value)))
                .label(*first, format!("here it is assigned by `{}`", function.function()))
                .help("use another map");
            self.diags.push(d);
            return None;
        }
        if matches!(value.ty, Type::Void | Type::Unsupported(_)) {
            let d = Diagnostic::error(value.span, format!("cannot store this in `@{name}`"))
                .at(format!("it is `{}`", value.ty));
            self.diags.push(match value.ty {
                Type::Void => d.help("write it as a statement of its own"),
                _ => d,
            });
            return None;
        }
        let Some(joined) = state.value.join(&value.ty, value.flexible) else {
            let (first, ty) = (state.value_span, state.value.ty.clone());
            let d = Diagnostic::error(value.span, format!("type mismatch for `@{name}`"))
                .at(format!("this is {}", shown(value)))
                .label(first, format!("here it holds `{ty}`"))
                .help("use another map");
            self.diags.push(d);
            return None;
        };
        if joined != state.value {
            if state.value.ty == Type::Unknown {
                state.value_span = value.span;
            }
            state.value = joined;
            self.changed = true;
        }
        Some(())
    }

    /// The candidate closest to a variable's name, for "did you mean".
    pub(super) fn nearest_var(&self, name: &str) -> Option<String> {
        let names = self.scopes.iter().flat_map(HashMap::keys).map(String::as_str);
        diag::nearest(name, names).map(String::from)
    }
}

/// Whether a number is a value of an integer type.
pub(super) fn in_range(n: i128, ty: &Type) -> bool {
    let Type::Int { size, signed, .. } = ty else { return true };
    let bits = u32::from(*size) * 8;
    let (low, high) = if *signed {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        (0, (1i128 << bits) - 1)
    };
    (low..=high).contains(&n)
}

/// A value's type for a message; strings without their size.
pub(super) fn shown(value: &Expr) -> String {
    match &value.ty {
        Type::Str(_) => "a string".to_string(),
        ty => format!("`{ty}`"),
    }
}

/// The aggregation that serves both uses, if there is one.
fn merge(a: &Aggregation, b: &Aggregation) -> Option<Aggregation> {
    use Aggregation as A;
    let signed = a.signed() || b.signed();
    Some(match (a, b) {
        (A::Sum { .. }, A::Sum { .. }) => A::Sum { signed },
        (A::Min { .. }, A::Min { .. }) => A::Min { signed },
        (A::Max { .. }, A::Max { .. }) => A::Max { signed },
        (A::Avg { .. }, A::Avg { .. }) => A::Avg { signed },
        (A::Stats { .. }, A::Stats { .. }) => A::Stats { signed },
        (
            A::Tseries { interval, count, function, .. },
            A::Tseries { interval: i, count: c, function: f, .. },
        ) if (interval, count, function) == (i, c, f) => {
            A::Tseries { interval: *interval, count: *count, function: *function, signed }
        }
        (x, y) if x == y => x.clone(),
        _ => return None,
    })
}
