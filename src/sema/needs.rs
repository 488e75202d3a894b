//! What a probe's block asks of its context, found by walking the tree before
//! attach points are expanded.

use crate::parser::ast::{
    Block, Expr, ExprKind, ForRange, Probe, Stmt, StmtKind, TypeExprKind, TypeOrExpr,
};
use crate::probes::Needs;

/// The needs of a probe.
pub(super) fn of(probe: &Probe) -> Needs {
    let mut needs = Needs::default();
    if let Some(predicate) = &probe.predicate {
        expr(predicate, &mut needs);
    }
    block(&probe.block, &mut needs);
    needs
}

fn block(b: &Block, needs: &mut Needs) {
    for s in &b.stmts {
        stmt(s, needs);
    }
    if let Some(value) = &b.value {
        expr(value, needs);
    }
}

fn stmt(s: &Stmt, needs: &mut Needs) {
    match &s.node {
        StmtKind::Let { init, .. } => init.iter().for_each(|e| expr(e, needs)),
        StmtKind::Assign { target, value, .. } => {
            expr(target, needs);
            expr(value, needs);
        }
        StmtKind::Discard(e) | StmtKind::Expr(e) => expr(e, needs),
        StmtKind::While { cond, body } => {
            expr(cond, needs);
            block(body, needs);
        }
        StmtKind::For { range, body, .. } => {
            match range {
                ForRange::Map(e) => expr(e, needs),
                ForRange::Range(a, b) => {
                    expr(a, needs);
                    expr(b, needs);
                }
            }
            block(body, needs);
        }
        StmtKind::Unroll { count, body } => {
            expr(count, needs);
            block(body, needs);
        }
        StmtKind::Return(e) => e.iter().for_each(|e| expr(e, needs)),
        StmtKind::Break | StmtKind::Continue | StmtKind::Import(_) | StmtKind::Error => {}
    }
}

fn word(name: &str, needs: &mut Needs) {
    match name {
        "args" => needs.whole_args = true,
        "probe" => needs.probe_name = true,
        "retval" => needs.retval = true,
        "func" => needs.func = true,
        // It starts from the address of the probe.
        "uaddr" => {
            needs.func = true;
            needs.probe_name = true;
        }
        "ctx" | "reg" | "kstack" | "ustack" | "dw_ustack" | "override" => needs.raw_context = true,
        "path" | "skboutput" | "socket_cookie" => needs.typed_pointers = true,
        _ => {
            let digits = name.strip_prefix("arg").unwrap_or("");
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
                let number = digits.parse().unwrap_or(usize::MAX);
                if let Err(at) = needs.numbered.binary_search(&number) {
                    needs.numbered.insert(at, number);
                }
            }
        }
    }
}

fn expr(e: &Expr, needs: &mut Needs) {
    let mut all = |list: &[Expr]| list.iter().for_each(|e| expr(e, needs));
    match &e.node {
        ExprKind::Ident(name) => word(name, needs),
        ExprKind::Call { name, args } => {
            all(args);
            word(&name.node, needs);
        }
        ExprKind::Field { base, name } if is_args(base) => {
            if !needs.args_fields.contains(&name.node) {
                needs.args_fields.push(name.node.clone());
            }
        }
        ExprKind::Map { key, .. } => key.iter().for_each(|k| all(k)),
        ExprKind::Tuple(list) => all(list),
        ExprKind::Record(list) => list.iter().for_each(|f| expr(&f.1, needs)),
        ExprKind::Cast { ty, value } => {
            if let TypeExprKind::Typeof { of, .. } = &ty.node {
                type_or_expr(of, needs);
            }
            expr(value, needs);
        }
        ExprKind::Unary { value, .. } | ExprKind::Comptime(value) => expr(value, needs),
        ExprKind::Binary { left, right, .. } => {
            expr(left, needs);
            expr(right, needs);
        }
        ExprKind::Ternary { cond, then, els } => {
            expr(cond, needs);
            then.iter().for_each(|e| expr(e, needs));
            expr(els, needs);
        }
        ExprKind::Field { base, .. } | ExprKind::TupleField { base, .. } => expr(base, needs),
        ExprKind::Index { base, index } => {
            expr(base, needs);
            expr(index, needs);
        }
        ExprKind::IncDec { target, .. } => expr(target, needs),
        ExprKind::If(i) => {
            expr(&i.cond, needs);
            block(&i.then, needs);
            i.els.iter().for_each(|b| block(b, needs));
        }
        ExprKind::Block(b) => block(b, needs),
        ExprKind::Sizeof(of) | ExprKind::Typeinfo(of) | ExprKind::TypeArg(of) => {
            type_or_expr(of, needs);
        }
        ExprKind::Offsetof { of, .. } => type_or_expr(of, needs),
        ExprKind::Int(_)
        | ExprKind::Str(_)
        | ExprKind::Bool(_)
        | ExprKind::Var(_)
        | ExprKind::Param(_)
        | ExprKind::ParamCount
        | ExprKind::Error => {}
    }
}

/// `args` or `*args`.
pub(super) fn is_args(e: &Expr) -> bool {
    match &e.node {
        ExprKind::Ident(name) => name == "args",
        ExprKind::Unary { op: crate::parser::ast::UnaryOp::Deref, value } => is_args(value),
        _ => false,
    }
}

fn type_or_expr(t: &TypeOrExpr, needs: &mut Needs) {
    if let TypeOrExpr::Expr(e) = t {
        expr(e, needs);
    }
}
