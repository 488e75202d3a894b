//! Macros: expanded on the tree, before anything has a type (language.md §7).
//!
//! A call becomes a block (or just its value, if there is nothing else), so
//! that literals stay literals. Variables of a macro get names that no script
//! can write; what it may touch of its caller is what was passed.

use std::collections::HashMap;

use crate::diag::{Diagnostic, Diagnostics};
use crate::parser::ast::{
    Block, Expr, ExprKind, ForRange, Function, IfExpr, Item, Macro, MacroParam, Probe, Script,
    Stmt, StmtKind, TypeExpr, TypeExprKind, TypeOrExpr,
};
use crate::source::{Span, Spanned};

/// The calls of macros that were expanded, and the names of all macros.
#[derive(Debug, Default)]
pub(super) struct Expansions {
    pub(super) names: Vec<String>,
    /// By the place of the call, which is that of the expression made of it. Where that
    /// is nothing but another call, both are here, the inner one first.
    calls: HashMap<Span, Vec<Expansion>>,
}

/// A call of a macro.
#[derive(Debug, Clone)]
struct Expansion {
    name: String,
    call: Span,
    /// The whole definition.
    definition: Span,
}

impl Expansions {
    /// Whether something was written in a macro.
    pub(super) fn hold(&self, span: Span) -> bool {
        let mut all = self.calls.values().flatten();
        all.any(|e| e.call == span || inside(span, e.definition))
    }

    /// Whether there was a call at this place.
    pub(super) fn any_at(&self, call: Span) -> bool {
        self.calls.contains_key(&call)
    }

    /// Shows the call of the macro beside messages about what is written in it.
    pub(super) fn show_call(&self, call: Span, list: &mut [Diagnostic]) {
        for expansion in self.calls.get(&call).into_iter().flatten() {
            list.iter_mut().for_each(|d| expansion.show(d));
        }
    }
}

impl Expansion {
    fn show(&self, d: &mut Diagnostic) {
        let Some((primary, _)) = d.primary else { return };
        let mut places = std::iter::once(primary).chain(d.labels.iter().map(|l| l.0));
        if places.any(|span| inside(span, self.definition)) {
            let known = primary == self.call || d.labels.iter().any(|l| l.0 == self.call);
            if !known {
                d.labels.push((self.call, format!("in this call of macro `{}`", self.name)));
            }
        } else if inside(primary, self.call) && primary != self.call {
            let note = format!("macro `{}` takes it as an argument", self.name);
            if !d.notes.contains(&note) {
                d.notes.push(note);
            }
        }
    }
}

fn inside(span: Span, of: Span) -> bool {
    span.file == of.file && span.start >= of.start && span.end <= of.end
}

/// The script without macros and calls of them.
pub(super) fn expand(script: &Script, diags: &mut Diagnostics) -> (Script, Expansions) {
    let found = Expansions::default();
    let mut expander =
        Expander { macros: HashMap::new(), diags, open: Vec::new(), expansions: 0, found };
    for item in &script.items {
        if let Item::Macro(m) = item {
            expander.define(m);
        }
    }
    let outside = Scope::default();
    let items = script.items.iter().filter_map(|item| match item {
        Item::Macro(_) => None,
        Item::Probe(p) => Some(Item::Probe(Probe {
            attach_points: p.attach_points.clone(),
            predicate: p.predicate.as_ref().map(|e| expander.expr(e, &outside)),
            block: expander.block(&p.block, &outside),
            span: p.span,
        })),
        Item::Function(f) => {
            Some(Item::Function(Function { body: expander.block(&f.body, &outside), ..f.clone() }))
        }
        Item::MapDecl(_) => Some(item.clone()),
    });
    let items = items.collect();
    let mut found = expander.found;
    found.names = expander.macros.keys().map(|name| (*name).to_owned()).collect();
    (Script { items, ..script.clone() }, found)
}

struct Expander<'s, 'd> {
    /// Overloads by name.
    macros: HashMap<&'s str, Vec<&'s Macro>>,
    diags: &'d mut Diagnostics,
    /// Macros being expanded, outermost first.
    open: Vec<(&'s Macro, Span)>,
    expansions: usize,
    found: Expansions,
}

/// What names mean in the text at hand.
#[derive(Default)]
struct Scope {
    /// Number of the expansion; absent outside of macros.
    expansion: Option<usize>,
    /// The macro's name, for messages.
    name: String,
    vars: HashMap<String, String>,
    maps: HashMap<String, String>,
    /// Expanded already, in the scope of the caller.
    exprs: HashMap<String, Expr>,
}

impl<'s> Expander<'s, '_> {
    fn define(&mut self, m: &'s Macro) {
        let kinds = |m: &Macro| m.params.iter().map(|p| kind(&p.node)).collect::<Vec<_>>();
        let known = self.macros.entry(&m.name.node).or_default();
        if let Some(first) = known.iter().find(|k| kinds(k) == kinds(m)) {
            self.diags.push(
                Diagnostic::error(m.name.span, format!("macro `{}` is defined twice", m.name.node))
                    .label(first.name.span, "first here")
                    .help("overloads differ in the number or kinds of their parameters"),
            );
            return;
        }
        known.push(m);
        check_jumps(&m.body, 0, self.diags);
    }

    fn call(&mut self, name: &str, args: &[Expr], span: Span, scope: &Scope) -> Option<Expr> {
        let overloads = self.macros.get(name)?.clone();
        let args: Vec<Expr> = args.iter().map(|a| self.expr(a, scope)).collect();
        let best = overloads
            .iter()
            .filter(|m| m.params.len() == args.len())
            .filter(|m| m.params.iter().zip(&args).all(|(p, a)| accepts(&p.node, a)))
            .max_by_key(|m| {
                m.params.iter().filter(|p| !matches!(p.node, MacroParam::Ident(_))).count()
            });
        let Some(chosen) = best.copied() else {
            self.no_overload(name, &overloads, &args, span);
            return Some(Spanned::new(ExprKind::Error, span));
        };
        if self.open.iter().any(|(m, _)| std::ptr::eq(*m, chosen)) {
            let chain: Vec<&str> = self.open.iter().map(|o| o.0.name.node.as_str()).collect();
            self.diags.push(
                Diagnostic::error(span, format!("macro `{name}` calls itself"))
                    .note(format!("the calls are {} → {name}", chain.join(" → "))),
            );
            return Some(Spanned::new(ExprKind::Error, span));
        }
        self.expansions += 1;
        let mut inner =
            Scope { expansion: Some(self.expansions), name: name.to_owned(), ..Scope::default() };
        for (param, arg) in chosen.params.iter().zip(args) {
            match (&param.node, &arg.node) {
                (MacroParam::Var(p), ExprKind::Var(name)) => {
                    inner.vars.insert(p.clone(), name.clone());
                }
                (MacroParam::Map(p), ExprKind::Map { name, .. }) => {
                    inner.maps.insert(p.clone(), name.clone());
                }
                (MacroParam::Ident(p), _) => {
                    inner.exprs.insert(p.clone(), arg);
                }
                (MacroParam::Var(_) | MacroParam::Map(_), _) => {}
            }
        }
        let expansion = Expansion { name: name.to_owned(), call: span, definition: chosen.span };
        self.found.calls.insert(span, vec![expansion]);
        let before = self.diags.list.len();
        self.open.push((chosen, span));
        let body = self.block(&chosen.body, &inner);
        self.open.pop();
        self.found.show_call(span, self.diags.list.get_mut(before..).unwrap_or_default());
        Some(match body {
            Block { stmts, value: Some(value), .. } if stmts.is_empty() => {
                // The inner call's place gives way to that of this one.
                let mut inner = self.found.calls.get(&value.span).cloned().unwrap_or_default();
                if let Some(own) = self.found.calls.get_mut(&span) {
                    inner.append(own);
                    *own = inner;
                }
                Spanned::new(value.node, span)
            }
            body => Spanned::new(ExprKind::Block(Box::new(body)), span),
        })
    }

    fn no_overload(&mut self, name: &str, overloads: &[&Macro], args: &[Expr], span: Span) {
        let mut d = Diagnostic::error(span, format!("no form of macro `{name}` takes these"));
        if let Some(near) = overloads.iter().min_by_key(|m| m.params.len().abs_diff(args.len())) {
            let params: Vec<String> = near
                .params
                .iter()
                .map(|p| match &p.node {
                    MacroParam::Var(n) => format!("${n}"),
                    MacroParam::Map(n) => format!("@{n}"),
                    MacroParam::Ident(n) => n.clone(),
                })
                .collect();
            d = d
                .label(near.name.span, format!("this one takes ({})", params.join(", ")))
                .note("a parameter `$x` takes a variable, `@m` a map without its key");
        }
        self.diags.push(d);
    }

    fn block(&mut self, b: &Block, scope: &Scope) -> Block {
        Block {
            stmts: b.stmts.iter().map(|s| self.stmt(s, scope)).collect(),
            value: b.value.as_ref().map(|v| Box::new(self.expr(v, scope))),
            span: b.span,
        }
    }

    fn stmt(&mut self, s: &Stmt, scope: &Scope) -> Stmt {
        let node = match &s.node {
            StmtKind::Let { name, ty, init } => {
                if scope.vars.contains_key(&name.node) {
                    self.diags.push(
                        Diagnostic::error(name.span, format!("`${}` is a parameter", name.node))
                            .help("give the variable another name"),
                    );
                }
                StmtKind::Let {
                    name: Spanned::new(variable(&name.node, scope), name.span),
                    ty: ty.as_ref().map(|t| self.ty(t, scope)),
                    init: init.as_ref().map(|e| self.expr(e, scope)),
                }
            }
            StmtKind::Assign { target, op, value } => StmtKind::Assign {
                target: self.expr(target, scope),
                op: *op,
                value: self.expr(value, scope),
            },
            StmtKind::Discard(e) => StmtKind::Discard(self.expr(e, scope)),
            StmtKind::Expr(e) => StmtKind::Expr(self.expr(e, scope)),
            StmtKind::While { cond, body } => {
                StmtKind::While { cond: self.expr(cond, scope), body: self.block(body, scope) }
            }
            StmtKind::For { var, range, body } => StmtKind::For {
                var: Spanned::new(variable(&var.node, scope), var.span),
                range: match range {
                    ForRange::Map(e) => ForRange::Map(self.expr(e, scope)),
                    ForRange::Range(a, b) => {
                        ForRange::Range(self.expr(a, scope), self.expr(b, scope))
                    }
                },
                body: self.block(body, scope),
            },
            StmtKind::Unroll { count, body } => {
                StmtKind::Unroll { count: self.expr(count, scope), body: self.block(body, scope) }
            }
            StmtKind::Return(e) => StmtKind::Return(e.as_ref().map(|e| self.expr(e, scope))),
            StmtKind::Break | StmtKind::Continue | StmtKind::Import(_) | StmtKind::Error => {
                s.node.clone()
            }
        };
        Spanned::new(node, s.span)
    }

    fn expr(&mut self, e: &Expr, scope: &Scope) -> Expr {
        use ExprKind as E;
        let node = match &e.node {
            E::Ident(name) => {
                if let Some(arg) = scope.exprs.get(name) {
                    return arg.clone();
                }
                if let Some(expanded) = self.call(name, &[], e.span, scope) {
                    return expanded;
                }
                return e.clone();
            }
            E::Call { name, args } => {
                if let Some(expanded) = self.call(&name.node, args, e.span, scope) {
                    return expanded;
                }
                E::Call { name: name.clone(), args: self.exprs(args, scope) }
            }
            E::Var(name) => E::Var(variable(name, scope)),
            E::Map { name, key } => E::Map {
                name: self.map(name, e.span, scope),
                key: key.as_ref().map(|k| self.exprs(k, scope)),
            },
            E::Tuple(list) => E::Tuple(self.exprs(list, scope)),
            E::Record(list) => E::Record(
                list.iter().map(|(name, e)| (name.clone(), self.expr(e, scope))).collect(),
            ),
            E::Cast { ty, value } => {
                E::Cast { ty: self.ty(ty, scope), value: self.boxed(value, scope) }
            }
            E::Unary { op, value } => E::Unary { op: *op, value: self.boxed(value, scope) },
            E::Binary { op, left, right } => E::Binary {
                op: *op,
                left: self.boxed(left, scope),
                right: self.boxed(right, scope),
            },
            E::Ternary { cond, then, els } => E::Ternary {
                cond: self.boxed(cond, scope),
                then: then.as_ref().map(|t| self.boxed(t, scope)),
                els: self.boxed(els, scope),
            },
            E::Field { base, name } => {
                E::Field { base: self.boxed(base, scope), name: name.clone() }
            }
            E::TupleField { base, index } => {
                E::TupleField { base: self.boxed(base, scope), index: index.clone() }
            }
            E::Index { base, index } => {
                E::Index { base: self.boxed(base, scope), index: self.boxed(index, scope) }
            }
            E::IncDec { target, increment, prefix } => E::IncDec {
                target: self.boxed(target, scope),
                increment: *increment,
                prefix: *prefix,
            },
            E::If(i) => E::If(Box::new(IfExpr {
                cond: self.expr(&i.cond, scope),
                then: self.block(&i.then, scope),
                els: i.els.as_ref().map(|b| self.block(b, scope)),
            })),
            E::Block(b) => E::Block(Box::new(self.block(b, scope))),
            E::Sizeof(of) => E::Sizeof(Box::new(self.type_or_expr(of, scope))),
            E::Typeinfo(of) => E::Typeinfo(Box::new(self.type_or_expr(of, scope))),
            E::TypeArg(of) => E::TypeArg(Box::new(self.type_or_expr(of, scope))),
            E::Offsetof { of, path } => E::Offsetof {
                of: Box::new(self.type_or_expr(of, scope)),
                path: path.iter().flat_map(|p| field_path(p, scope)).collect(),
            },
            E::Comptime(value) => E::Comptime(self.boxed(value, scope)),
            E::Int(_) | E::Str(_) | E::Bool(_) | E::Param(_) | E::ParamCount | E::Error => {
                e.node.clone()
            }
        };
        Spanned::new(node, e.span)
    }

    fn exprs(&mut self, list: &[Expr], scope: &Scope) -> Vec<Expr> {
        list.iter().map(|e| self.expr(e, scope)).collect()
    }

    fn boxed(&mut self, e: &Expr, scope: &Scope) -> Box<Expr> {
        Box::new(self.expr(e, scope))
    }

    fn map(&mut self, name: &str, span: Span, scope: &Scope) -> String {
        if scope.expansion.is_none() {
            return name.to_owned();
        }
        if let Some(passed) = scope.maps.get(name) {
            return passed.clone();
        }
        self.diags.push(
            Diagnostic::error(span, format!("macro `{}` does not know `@{name}`", scope.name))
                .note("a macro touches only maps that are passed to it")
                .help(format!("write `macro {}(@{name}, …)` and pass the map", scope.name)),
        );
        name.to_owned()
    }

    fn type_or_expr(&mut self, t: &TypeOrExpr, scope: &Scope) -> TypeOrExpr {
        match t {
            TypeOrExpr::Type(t) => TypeOrExpr::Type(self.ty(t, scope)),
            TypeOrExpr::Expr(e) => {
                let e = self.expr(e, scope);
                match e.node {
                    ExprKind::TypeArg(of) => *of,
                    _ => TypeOrExpr::Expr(e),
                }
            }
        }
    }

    /// A type; a parameter that was given a type stands for it.
    fn ty(&mut self, t: &TypeExpr, scope: &Scope) -> TypeExpr {
        let node = match &t.node {
            TypeExprKind::Named { tag, name, suffixes } => match scope.exprs.get(name) {
                Some(Spanned { node: ExprKind::TypeArg(of), .. }) => {
                    TypeExprKind::Typeof { of: of.clone(), suffixes: suffixes.clone() }
                }
                // `struct ident` of a macro, and plain names of types.
                Some(Spanned { node: ExprKind::Ident(given), .. }) => TypeExprKind::Named {
                    tag: *tag,
                    name: given.clone(),
                    suffixes: suffixes.clone(),
                },
                _ => t.node.clone(),
            },
            TypeExprKind::Typeof { of, suffixes } => TypeExprKind::Typeof {
                of: Box::new(self.type_or_expr(of, scope)),
                suffixes: suffixes.clone(),
            },
        };
        Spanned::new(node, t.span)
    }
}

/// What stands behind a macro's own variables, to tell expansions apart.
const EXPANSION: char = '#';

/// The name of a variable as the script has it, for messages.
pub(super) fn written(name: &str) -> &str {
    name.split(EXPANSION).next().unwrap_or(name)
}

/// The name of a variable where it is used: what was passed for a parameter,
/// and in macros a name of its own for the rest.
fn variable(name: &str, scope: &Scope) -> String {
    match (scope.vars.get(name), scope.expansion) {
        (Some(passed), _) => passed.clone(),
        (None, Some(number)) => format!("{name}{EXPANSION}{number}"),
        (None, None) => name.to_owned(),
    }
}

/// A part of `offsetof`'s path: a parameter may stand for a whole path.
fn field_path(part: &Spanned<String>, scope: &Scope) -> Vec<Spanned<String>> {
    fn names(e: &Expr, list: &mut Vec<Spanned<String>>) -> bool {
        match &e.node {
            ExprKind::Ident(name) => {
                list.push(Spanned::new(name.clone(), e.span));
                true
            }
            ExprKind::Field { base, name } => {
                let known = names(base, list);
                list.push(name.clone());
                known
            }
            _ => false,
        }
    }
    let mut list = Vec::new();
    match scope.exprs.get(&part.node) {
        Some(arg) if names(arg, &mut list) => list,
        _ => vec![part.clone()],
    }
}

/// What tells overloads apart.
fn kind(param: &MacroParam) -> u8 {
    match param {
        MacroParam::Var(_) => 0,
        MacroParam::Map(_) => 1,
        MacroParam::Ident(_) => 2,
    }
}

fn accepts(param: &MacroParam, arg: &Expr) -> bool {
    match param {
        MacroParam::Var(_) => matches!(arg.node, ExprKind::Var(_)),
        MacroParam::Map(_) => matches!(arg.node, ExprKind::Map { key: None, .. }),
        MacroParam::Ident(_) => true,
    }
}

/// `return` has no place in a macro, `break` and `continue` only in its loops.
fn check_jumps(b: &Block, loops: u32, diags: &mut Diagnostics) {
    let block_of = |e: &Expr, diags: &mut Diagnostics| match &e.node {
        ExprKind::If(i) => {
            check_jumps(&i.then, loops, diags);
            if let Some(els) = &i.els {
                check_jumps(els, loops, diags);
            }
        }
        ExprKind::Block(b) => check_jumps(b, loops, diags),
        _ => {}
    };
    for s in &b.stmts {
        match &s.node {
            StmtKind::Return(_) => diags.push(
                Diagnostic::error(s.span, "`return` in a macro")
                    .note("a macro is part of the block that calls it")
                    .help("end the macro with its value, without `;`"),
            ),
            StmtKind::Break | StmtKind::Continue if loops == 0 => {
                diags.push(
                    Diagnostic::error(s.span, "this leaves a loop outside of the macro")
                        .help("give the decision as the macro's value: `if (m()) { break; }`"),
                );
            }
            StmtKind::While { body, .. }
            | StmtKind::For { body, .. }
            | StmtKind::Unroll { body, .. } => check_jumps(body, loops + 1, diags),
            StmtKind::Expr(e) => block_of(e, diags),
            _ => {}
        }
    }
    if let Some(value) = &b.value {
        block_of(value, diags);
    }
}
