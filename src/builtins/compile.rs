//! What is known when the script is compiled: about types, values, and the
//! script itself.

use super::{BASE, Builtin, Call, Lowering};
use crate::diag::Diagnostic;
use crate::ir::{BinaryOp as B, Expr};
use crate::parser::ast;
use crate::plan::{ConversionKind, Piece};
use crate::sema::Checker;
use crate::sema::tree::{self, Detail, ExprKind};
use crate::types::Type;

/// The smallest number that is an error in place of a pointer (`MAX_ERRNO`,
/// linux/err.h).
const FIRST_ERROR: i64 = -4095;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "is_literal",
        usage: "is_literal(e)",
        doc: "Whether a value is known when the script is compiled.",
        args: (1, 1),
        check: |c, call| about(c, call, |e| e.constant().is_some() || e.text().is_some()),
        ..BASE
    },
    Builtin {
        name: "is_str",
        usage: "is_str(e)",
        doc: "Whether a value is a string.",
        args: (1, 1),
        check: |c, call| about(c, call, |e| matches!(e.ty, Type::Str(_))),
        ..BASE
    },
    Builtin {
        name: "is_ptr",
        usage: "is_ptr(e)",
        doc: "Whether a value is a pointer.",
        args: (1, 1),
        check: |c, call| about(c, call, |e| matches!(e.ty, Type::Ptr { .. })),
        ..BASE
    },
    Builtin {
        name: "is_array",
        usage: "is_array(e)",
        doc: "Whether a value is an array.",
        args: (1, 1),
        check: |c, call| about(c, call, |e| matches!(e.ty, Type::Array { .. })),
        ..BASE
    },
    Builtin {
        name: "is_integer",
        usage: "is_integer(e)",
        doc: "Whether a value is an integer.",
        args: (1, 1),
        check: |c, call| about(c, call, |e| matches!(e.ty, Type::Int { .. })),
        ..BASE
    },
    Builtin {
        name: "is_unsigned_integer",
        usage: "is_unsigned_integer(e)",
        doc: "Whether a value is an integer without a sign.",
        args: (1, 1),
        check: |c, call| about(c, call, |e| matches!(e.ty, Type::Int { signed: false, .. })),
        ..BASE
    },
    Builtin {
        name: "is_err",
        usage: "is_err(p)",
        doc: "Whether a pointer of the kernel is an error number in disguise.",
        args: (1, 1),
        check: |c, call| match c.address_argument(call, 0) {
            Some(pointer) => c.typed_with(call, vec![pointer], Type::Bool, Detail::None),
            None => tree::Expr::error(call.span),
        },
        lower: Lowering::Word(|l, call| {
            let Some(pointer) = call.args.first() else { return Expr::Const(0) };
            let word = l.argument_word(pointer);
            Expr::binary(B::UGe, word, Expr::Const(FIRST_ERROR))
        }),
        ..BASE
    },
    Builtin {
        name: "container_of",
        usage: "container_of(p, struct_name, member)",
        doc: "The struct of that type that has what a pointer points to as its member.",
        args: (3, 3),
        check: check_container,
        ..BASE
    },
    Builtin {
        name: "has_field",
        usage: "has_field(struct task_struct, __state)",
        doc: "Whether the kernel's struct has a member; objects for several kernels ask the one that loads them.",
        args: (2, 2),
        check: |c, call| {
            let [of, path] = call.args else { return tree::Expr::error(call.span) };
            let Some(of) = c.type_argument(of) else { return tree::Expr::error(call.span) };
            let Some(names) = path_of(path) else {
                let d = Diagnostic::error(path.span, "this is no member")
                    .help(format!("write {}", call.builtin.forms()));
                return c.fail(d);
            };
            c.has_field(&of, &names, call.span)
        },
        ..BASE
    },
    Builtin {
        name: "kfunc_exist",
        usage: "kfunc_exist(\"bpf_task_from_pid\")",
        doc: "Whether the kernel has a function of that name.",
        args: (1, 1),
        check: |c, call| match c.literal_text(call, 0) {
            Some(name) => {
                let found = c.host.btf().is_ok_and(|b| b.function(&name).is_some());
                tree::Expr::new(ExprKind::Int(i128::from(found)), Type::Bool, call.span)
            }
            None => tree::Expr::error(call.span),
        },
        ..BASE
    },
    Builtin {
        name: "kfunc_allowed",
        usage: "kfunc_allowed(\"bpf_task_from_pid\")",
        doc: "Whether the kernel lets a program of this kind call a function.",
        args: (1, 1),
        check: |c, call| match c.literal_text(call, 0) {
            Some(name) => {
                let allowed = c.host.kfunc(&name, c.instance.kind);
                tree::Expr::new(ExprKind::Int(i128::from(allowed)), Type::Bool, call.span)
            }
            None => tree::Expr::error(call.span),
        },
        ..BASE
    },
    Builtin {
        name: "static_assert",
        usage: "static_assert(condition, \"message\")",
        doc: "An error with that message unless the condition holds, which must be known when the script is compiled.",
        args: (2, 2),
        effects: true,
        check: |c, call| {
            let Some(given) = call.args.first() else { return tree::Expr::error(call.span) };
            let condition = c.condition(given);
            let Some(text) = c.literal_text(call, 1) else { return tree::Expr::error(call.span) };
            match condition.constant() {
                _ if condition.is_error() => condition,
                Some(0) => c.fail(Diagnostic::error(call.span, text).at("this does not hold")),
                Some(_) => c.nothing(call.span),
                None => {
                    let d = Diagnostic::error(
                        given.span,
                        "this is not known when the script is compiled",
                    )
                    .help("write `assert(…)` for what is known when it runs");
                    c.fail(d)
                }
            }
        },
        ..BASE
    },
    Builtin {
        name: "fail",
        usage: "fail(\"format\", literals…)",
        doc: "An error with that message, unless it stands where a condition that is known when the script is compiled does not lead.",
        args: (1, 128),
        effects: true,
        check: check_fail,
        lower: Lowering::Action(|l, call| {
            if let Detail::Text(text) = call.detail {
                l.fail(Diagnostic::error(call.span, text.clone()));
            }
        }),
        ..BASE
    },
];

/// A fact about a value, which is not computed for it.
fn about(c: &mut Checker<'_>, call: &Call<'_>, fact: fn(&tree::Expr) -> bool) -> tree::Expr {
    let Some(e) = call.args.first() else { return tree::Expr::error(call.span) };
    let value = c.expression(e);
    if value.is_error() {
        return value;
    }
    tree::Expr::new(ExprKind::Int(i128::from(fact(&value))), Type::Bool, call.span)
}

fn check_container(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let [_, of, path] = call.args else { return tree::Expr::error(call.span) };
    let Some(pointer) = c.address_argument(call, 0) else { return tree::Expr::error(call.span) };
    let Some(of) = c.type_argument(of) else { return tree::Expr::error(call.span) };
    let Some(names) = path_of(path) else {
        let d = Diagnostic::error(path.span, "this is no member")
            .help(format!("write {}", call.builtin.forms()));
        return c.fail(d);
    };
    let Some(offset) = c.member_offset(&of, &names, call.span) else {
        return tree::Expr::error(call.span);
    };
    let space = pointer.ty.space();
    let word = Type::Int { size: 8, signed: false, space };
    let address = tree::Expr::new(ExprKind::Cast(Box::new(pointer)), word.clone(), call.span);
    let kind = ExprKind::Binary {
        op: ast::BinaryOp::Sub,
        left: Box::new(address),
        right: Box::new(offset),
    };
    let start = tree::Expr::new(kind, word, call.span);
    tree::Expr::new(ExprKind::Cast(Box::new(start)), Type::ptr(of, space), call.span)
}

/// `a.b.c` as names.
fn path_of(e: &ast::Expr) -> Option<Vec<crate::source::Spanned<String>>> {
    match &e.node {
        ast::ExprKind::Ident(name) => Some(vec![crate::source::Spanned::new(name.clone(), e.span)]),
        ast::ExprKind::Field { base, name } => {
            let mut names = path_of(base)?;
            names.push(name.clone());
            Some(names)
        }
        _ => None,
    }
}

/// `fail`: the text, made of literals.
fn check_fail(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    let checked = super::output::formatted(c, call);
    let ExprKind::Call { args, detail: Detail::Format(format), .. } = &checked.kind else {
        return checked;
    };
    let mut text = String::new();
    let mut values = args.iter();
    for piece in &format.pieces {
        let Piece::Value(conversion) = piece else {
            if let Piece::Text(plain) = piece {
                text += plain;
            }
            continue;
        };
        let Some(value) = values.next() else { break };
        match (value.constant(), value.text(), conversion.kind) {
            (Some(n), _, ConversionKind::Hex) => text += &format!("{n:x}"),
            (Some(n), _, _) if value.ty == Type::Bool => {
                text += if n != 0 { "true" } else { "false" };
            }
            (Some(n), _, _) => text += &n.to_string(),
            (_, Some(bytes), _) => text += &String::from_utf8_lossy(bytes),
            _ => {
                let d = Diagnostic::error(value.span, "`fail` takes literals only")
                    .at("this is known only when the probe runs");
                return c.fail(d);
            }
        }
    }
    c.typed_with(call, vec![], Type::Void, Detail::Text(text))
}
