//! Functions of the script: `fn name($a : type) : type { … }`.
//!
//! They become BPF functions of their own. What fits a register (numbers, pointers) crosses in
//! one, and the kernel verifies the function once; other values are copied, to memory that the
//! caller lends, and the kernel verifies the function where it is called.

use std::collections::HashMap;

use super::check::Checker;
use super::promote::promote;
use super::statement::{in_range, shown};
use super::tree::{self, Expr, ExprKind, FunctionId};
use crate::builtins;
use crate::diag::Diagnostic;
use crate::ir::{MAX_PARAMETERS, ProgramKind};
use crate::parser::ast::{self, Item};
use crate::probes::{Context, Instance};
use crate::source::{Span, Spanned};
use crate::types::{Space, Type};

/// What a call needs to know.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub name: Spanned<String>,
    /// With the names, without the `$`.
    pub params: Vec<(Spanned<String>, Type)>,
    /// `Void` if it gives nothing.
    pub result: Type,
}

/// What a function has of a probe: nothing.
pub(super) fn instance() -> Instance {
    let no = |what: &str| format!("a function has no {what}; pass what it needs as a parameter");
    Instance {
        kind: ProgramKind::Function { params: 0 },
        section: String::new(),
        context: Context {
            provider: "fn",
            space: Space::Kernel,
            args: Err(no("arguments of a probe")),
            numbered: Err(no("arguments of a probe")),
            retval: Err(no("return value of a probe")),
            ctx: Err(no("context")),
            registers: None,
            func: Err(no("traced function")),
            stacks: false,
            result: 0,
        },
        attach: Vec::new(),
        syscalls: None,
        keeper: None,
    }
}

impl Checker<'_> {
    /// Takes down what the functions of a script take and give.
    pub(super) fn declare_functions(&mut self, script: &ast::Script) {
        for item in &script.items {
            let Item::Function(f) = item else { continue };
            let name = &f.name.node;
            if let Some(first) = self.functions.iter().find(|s| s.name.node == *name) {
                let d =
                    Diagnostic::error(f.name.span, format!("function `{name}` is defined twice"))
                        .label(first.name.span, "first here")
                        .help("give one of them another name");
                self.diags.push(d);
            } else if builtins::find(name).is_some() || builtins::aggregation(name).is_some() {
                let d = Diagnostic::error(f.name.span, format!("`{name}` is a builtin"))
                    .help("give the function another name");
                self.diags.push(d);
            }
            if let Some((extra, _)) = f.params.get(MAX_PARAMETERS) {
                let d = Diagnostic::error(extra.span, "too many parameters")
                    .note(format!("a function takes up to {MAX_PARAMETERS}, in registers"))
                    .help("write a macro, or pass a pointer");
                self.diags.push(d);
            }
            let mut params = Vec::new();
            for (name, ty) in &f.params {
                let wanted = self.passed_type(ty, false).unwrap_or(Type::Unknown);
                params.push((name.clone(), wanted));
            }
            let result = self.passed_type(&f.result, true).unwrap_or(Type::Unknown);
            if let Some((last, _)) = f.params.get(MAX_PARAMETERS - 1)
                && f.params.len() == MAX_PARAMETERS
                && result.is_memory()
            {
                let d = Diagnostic::error(last.span, "too many parameters")
                    .label(f.result.span, format!("`{result}` fits no register"))
                    .note("registers take up to 5 parameters, one of which is for this result")
                    .help("write a macro, or pass a pointer");
                self.diags.push(d);
            }
            self.functions.push(Signature { name: f.name.clone(), params, result });
        }
    }

    /// A type whose values a function takes or gives.
    fn passed_type(&mut self, ty: &ast::TypeExpr, result: bool) -> Option<Type> {
        let longest = u32::try_from(self.config.max_strlen).unwrap_or(u32::MAX);
        match self.type_expr(ty)? {
            Type::Void if result => Some(Type::Void),
            // Without a known space it is the kernel's.
            Type::Ptr { to, space: Space::None } => Some(Type::ptr(*to, Space::Kernel)),
            // A size that is left open is the largest.
            Type::Str(0) => Some(Type::Str(longest)),
            Type::Buffer(0) => Some(Type::Buffer(longest.saturating_add(4))),
            found if found.is_scalar() || found.is_memory() => Some(found),
            found => {
                let what = if result { "give" } else { "take" };
                let d = Diagnostic::error(ty.span, format!("a function cannot {what} `{found}`"))
                    .note("it has no value that could be passed")
                    .help("write a macro, or pass a pointer");
                self.diags.push(d);
                None
            }
        }
    }

    /// The body of a function.
    pub(super) fn check_function(&mut self, id: FunctionId, f: &ast::Function) -> tree::Function {
        let signature = self.signature(id).clone();
        self.function = Some(id);
        self.locals = Vec::new();
        self.scopes = vec![HashMap::new()];
        self.assigned.clear();
        self.loops = 0;
        for (name, ty) in &signature.params {
            if let Some(first) = self.find_var(&name.node) {
                let d = Diagnostic::error(name.span, format!("`${}` exists already", name.node))
                    .label(self.local(first).span, "declared here")
                    .help("give the parameter another name");
                self.diags.push(d);
                continue;
            }
            let var = self.new_var(name);
            self.declare_var(var, ty.clone());
        }
        let body = self.body(&f.body);
        if !matches!(signature.result, Type::Void | Type::Unknown) && !ends(&f.body) {
            let result = &signature.result;
            let d = Diagnostic::error(
                f.name.span,
                format!("`{}` may end without a value", f.name.node),
            )
            .label(f.result.span, format!("it gives `{result}`"))
            .help("end it with `return …;`, or declare it as `void`");
            self.diags.push(d);
        }
        self.function = None;
        let vars = self.settled_variables();
        // The address of a result that fits no register is one more.
        let params = signature.params.len() + usize::from(signature.result.is_memory());
        let instance = Instance {
            kind: ProgramKind::Function { params: super::lower::index(params) },
            ..self.instance.clone()
        };
        let name = signature.name.node;
        let params = signature.params.into_iter().map(|(_, ty)| ty).collect();
        tree::Function {
            name,
            params,
            result: signature.result,
            program: tree::Probe { instance, vars, predicate: None, body, span: f.span },
        }
    }

    /// `return` in a function.
    pub(super) fn function_return(
        &mut self,
        id: FunctionId,
        value: Option<&ast::Expr>,
        span: Span,
    ) -> Option<tree::StmtKind> {
        let Signature { name, result, .. } = self.signature(id).clone();
        let (function, declared) = (&name.node, name.span);
        let checked = value.map(|e| self.expression(e));
        match (checked, &result) {
            (None, Type::Void) => Some(tree::StmtKind::Return(None)),
            (None, _) => {
                let d = Diagnostic::error(span, format!("`{function}` gives `{result}`"))
                    .label(declared, "declared here")
                    .help("write what it gives: `return …;`");
                self.diags.push(d);
                None
            }
            (Some(value), Type::Void) => {
                let d = Diagnostic::error(value.span, format!("`{function}` gives nothing"))
                    .label(declared, "declared as `void`")
                    .help("write `return;`, or declare what it gives");
                self.diags.push(d);
                None
            }
            (Some(value), result) => {
                let value = self.passed(value, result, Some(declared), "the result")?;
                Some(tree::StmtKind::Return(Some(value)))
            }
        }
    }

    /// A call of a function of the script, if there is one of that name.
    pub(super) fn function_call(
        &mut self,
        name: &Spanned<String>,
        args: &[ast::Expr],
        span: Span,
    ) -> Option<Expr> {
        let id = self.functions.iter().position(|f| f.name.node == name.node)?;
        let Signature { name: declared, params, result } = self.signature(id).clone();
        if let Some(caller) = self.function {
            self.calls.push((caller, id, span));
        }
        let declared = Some(declared.span);
        let list: Vec<String> = params.iter().map(|p| format!("${}", p.0.node)).collect();
        if self.check_count(name, args.len(), &list, declared, span).is_none() {
            return Some(Expr::error(span));
        }
        let mut list = Vec::new();
        for (arg, (param, ty)) in args.iter().zip(&params) {
            let value = self.expression(arg);
            let what = format!("`${}`", param.node);
            match self.passed(value, ty, Some(param.span), &what) {
                Some(value) => list.push(value),
                None => return Some(Expr::error(span)),
            }
        }
        Some(Expr::new(ExprKind::CallFunction { function: id, args: list }, result, span))
    }

    /// An error, unless a function gets as many arguments as it takes.
    pub(super) fn check_count(
        &mut self,
        name: &Spanned<String>,
        given: usize,
        params: &[String],
        declared: Option<Span>,
        span: Span,
    ) -> Option<()> {
        let takes = params.len();
        if given == takes {
            return Some(());
        }
        let plural = if takes == 1 { "" } else { "s" };
        let message = format!("`{}` takes {takes} argument{plural}, not {given}", name.node);
        let d = Diagnostic::error(span, message).help(format!(
            "write `{}({})`",
            name.node,
            params.join(", ")
        ));
        self.diags.push(match declared {
            Some(declared) => d.label(declared, "defined here"),
            None => d,
        });
        None
    }

    /// A value as it is handed over: numbers are converted, any pointer goes for
    /// any other.
    pub(super) fn passed(
        &mut self,
        value: Expr,
        to: &Type,
        declared: Option<Span>,
        what: &str,
    ) -> Option<Expr> {
        if value.is_error() || *to == Type::Unknown {
            return None;
        }
        let from = &value.ty;
        let pointers = matches!((from, to), (Type::Ptr { .. }, Type::Ptr { .. }));
        let null = matches!(to, Type::Ptr { .. }) && value.constant() == Some(0);
        let numbers = to.is_integer()
            && from.is_integer()
            && value.constant().is_none_or(|n| in_range(n, to));
        if to.is_memory() && from.is_memory() && holds(to, &value) {
            return Some(value);
        }
        if *from == Type::Unknown || from == to && to.is_scalar() || pointers || null || numbers {
            let span = value.span;
            return Some(Expr::new(ExprKind::Cast(Box::new(value)), to.clone(), span));
        }
        let at = match (value.constant(), from, to) {
            (Some(n), _, to) if to.is_integer() => format!("{n} does not fit"),
            (_, Type::Str(m), Type::Str(_)) => format!("this takes {m} bytes with its NUL"),
            _ => format!("this is {}", shown(&value)),
        };
        let d = Diagnostic::error(value.span, format!("type mismatch for {what}")).at(at);
        let d = match declared {
            Some(declared) => d.label(declared, format!("declared as `{to}`")),
            None => d.note(format!("declared as `{to}`")),
        };
        self.diags.push(match (from, to) {
            (Type::Str(m), Type::Str(_)) => d.help(format!("declare it as `string[{m}]`")),
            (from, to) if from.is_scalar() && to.is_scalar() => {
                d.help(format!("write a cast: `({to})…`"))
            }
            _ => d,
        });
        None
    }

    fn signature(&self, id: FunctionId) -> &Signature {
        self.functions.get(id).expect("bug: function ids come from the table")
    }

    /// Functions in an order in which each comes after those that it calls.
    /// Calls in a circle are errors: the kernel has room for a few calls only.
    pub(super) fn call_order(&mut self) -> Vec<FunctionId> {
        let calls = std::mem::take(&mut self.calls);
        let mut order: Vec<FunctionId> = Vec::new();
        while order.len() < self.functions.len() {
            let ready = (0..self.functions.len()).find(|f| {
                !order.contains(f) && calls.iter().all(|c| c.0 != *f || order.contains(&c.1))
            });
            if let Some(ready) = ready {
                order.push(ready);
                continue;
            }
            let circle = calls.iter().find(|c| !order.contains(&c.0) && !order.contains(&c.1));
            let Some((caller, callee, span)) = circle else { break };
            let (caller, callee) = (self.signature(*caller), self.signature(*callee));
            let own = caller.name == callee.name;
            let message = match own {
                true => format!("function `{}` calls itself", caller.name.node),
                false => {
                    format!("`{}` and `{}` call each other", caller.name.node, callee.name.node)
                }
            };
            let d = Diagnostic::error(*span, message)
                .label(callee.name.span, "defined here")
                .help("write a loop");
            self.diags.push(d);
            break;
        }
        order
    }
}

/// Whether a block surely ends in `return`.
fn ends(block: &ast::Block) -> bool {
    let branches = |e: &ast::Expr| match &e.node {
        ast::ExprKind::If(i) => ends(&i.then) && i.els.as_ref().is_some_and(ends),
        ast::ExprKind::Block(b) => ends(b),
        _ => false,
    };
    if let Some(value) = &block.value {
        return branches(value);
    }
    match block.stmts.last().map(|s| &s.node) {
        Some(ast::StmtKind::Return(_)) => true,
        Some(ast::StmtKind::Expr(e)) => branches(e),
        _ => false,
    }
}

/// Whether memory of a type takes all of a value: a string may be shorter, the numbers of a
/// tuple narrower.
fn holds(ty: &Type, value: &Expr) -> bool {
    promote(ty, false, &value.ty, value.flexible).is_some_and(|both| both == *ty)
}
