//! Functions on maps.

use super::{BASE, Builtin, Call, Lowering};
use crate::diag::Diagnostic;
use crate::host::features::Feature;
use crate::ir::Expr;
use crate::plan::Action;
use crate::sema::Checker;
use crate::sema::tree::{self, Detail, ExprKind};
use crate::source::Spanned;
use crate::types::Type;

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "delete",
        usage: "delete(@m, key)",
        doc: "Removes a key, or the value of a scalar map; true if it was there.",
        args: (1, usize::MAX),
        effects: true,
        check: check_delete,
        lower: Lowering::Word(|l, call| {
            let Detail::Map { map, .. } = call.detail else { return Expr::Const(0) };
            let discarded = l.discarded;
            let mut result = Expr::Const(0);
            if call.args.is_empty() {
                result = l.delete(*map, None);
            }
            for key in call.args {
                l.discarded = discarded;
                result = l.delete(*map, Some(key));
            }
            result
        }),
        ..BASE
    },
    Builtin {
        name: "has_key",
        usage: "has_key(@m, key)",
        doc: "Whether a key is in a map.",
        args: (2, 2),
        check: |c, call| {
            let Some((map, key)) = c.map_and_key(call) else { return tree::Expr::error(call.span) };
            let detail = Detail::Map { map, numbers: vec![] };
            c.typed_with(call, vec![key], Type::Bool, detail)
        },
        lower: Lowering::Word(|l, call| {
            let (Detail::Map { map, .. }, Some(key)) = (call.detail, call.args.first()) else {
                return Expr::Const(0);
            };
            l.has_key(*map, key)
        }),
        ..BASE
    },
    Builtin {
        name: "find",
        usage: "find(@m, key, $v)",
        doc: "Whether a key is in a map; if so, its value is put into a variable.",
        args: (3, 3),
        effects: true,
        check: check_find,
        lower: Lowering::Word(|l, call| {
            let (Detail::Find { map, var }, [key, value]) = (call.detail, call.args) else {
                return Expr::Const(0);
            };
            l.find(*map, key, *var, value)
        }),
        ..BASE
    },
    Builtin {
        name: "len",
        usage: "len(@m), len(kstack)",
        doc: "Number of keys in a map, or of frames in a stack.",
        args: (1, 1),
        check: |c, call| {
            if let Some(map) = c.whole_map(call, 0) {
                if let Some((false, first)) = c.map(map).keyed {
                    let d = Diagnostic::error(call.span, "a map without keys has no length")
                        .label(first, "used without a key here");
                    return c.fail(d);
                }
                if !c.host.has(Feature::ForEachMapElem) {
                    let d =
                        Diagnostic::error(call.span, "this kernel cannot count the keys of a map")
                            .note("it lacks the helper `bpf_for_each_map_elem` (Linux 5.13)");
                    return c.fail(d);
                }
                let detail = Detail::Map { map, numbers: vec![] };
                return c.typed_with(call, vec![], Type::INT64, detail);
            }
            let value = match call.args.first() {
                Some(a) => c.expression(a),
                None => return tree::Expr::error(call.span),
            };
            if !matches!(value.ty, Type::Stack { .. } | Type::Unknown) {
                if value.is_error() {
                    return value;
                }
                let d = Diagnostic::error(value.span, "`len` takes a map or a stack")
                    .at(format!("this is `{}`", value.ty));
                let d = match value.ty {
                    Type::Str(_) => d.help("`strlen` counts the characters of a string"),
                    _ => d,
                };
                return c.fail(d);
            }
            c.typed_with(call, vec![value], Type::INT64, Detail::None)
        },
        lower: Lowering::Word(|l, call| match (call.detail, call.args.first()) {
            (Detail::Map { map, .. }, _) => l.map_len(*map),
            (_, Some(stack)) => {
                let place = l.place(stack);
                Expr::load(place, 2, false)
            }
            _ => Expr::Const(0),
        }),
        ..BASE
    },
    Builtin {
        name: "clear",
        usage: "clear(@m)",
        doc: "Removes all keys of a map, soon.",
        args: (1, 1),
        effects: true,
        check: check_whole,
        lower: Lowering::Action(|l, call| {
            let Detail::Map { map, .. } = call.detail else { return };
            l.event(Action::Clear { map: l.plan_map(*map) }, &[]);
        }),
        ..BASE
    },
    Builtin {
        name: "zero",
        usage: "zero(@m)",
        doc: "Sets all values of a map to zero, soon; the keys stay.",
        args: (1, 1),
        effects: true,
        check: check_whole,
        lower: Lowering::Action(|l, call| {
            let Detail::Map { map, .. } = call.detail else { return };
            l.event(Action::Zero { map: l.plan_map(*map) }, &[]);
        }),
        ..BASE
    },
    Builtin {
        name: "is_scalar",
        usage: "is_scalar(@m)",
        doc: "Whether a map has no keys; known when the script is compiled.",
        args: (1, 1),
        check: |c, call| {
            let Some(map) = c.whole_map(call, 0) else {
                let d = Diagnostic::error(call.span, "`is_scalar` takes a whole map")
                    .help("write `is_scalar(@m)`");
                return c.fail(d);
            };
            let scalar = matches!(c.map(map).keyed, Some((false, _)));
            tree::Expr::new(ExprKind::Int(i128::from(scalar)), Type::Bool, call.span)
        },
        ..BASE
    },
];

fn check_whole(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    match c.whole_map(call, 0) {
        Some(map) => {
            let detail = Detail::Map { map, numbers: vec![] };
            c.typed_with(call, vec![], Type::Void, detail)
        }
        None => {
            let d =
                Diagnostic::error(call.span, format!("`{}` takes a whole map", call.builtin.name))
                    .help(format!("write {}", call.builtin.forms()));
            c.fail(d)
        }
    }
}

fn check_find(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    use crate::parser::ast::ExprKind as E;
    let [map, key, variable] = call.args else { return tree::Expr::error(call.span) };
    let E::Var(name) = &variable.node else {
        let d = Diagnostic::error(variable.span, "`find` puts the value into a variable")
            .help(format!("write {}", call.builtin.forms()));
        return c.fail(d);
    };
    let Some((id, key)) = c.map_and_key(&Call { args: &[map.clone(), key.clone()], ..*call })
    else {
        return tree::Expr::error(call.span);
    };
    let value = c.map_value(id, &key, map.span);
    if value.is_error() {
        return value;
    }
    let name = Spanned::new(name.clone(), variable.span);
    match c.var_for(&name, &value) {
        Some(var) => {
            let detail = Detail::Find { map: id, var };
            c.typed_with(call, vec![key, value], Type::Bool, detail)
        }
        None => tree::Expr::error(call.span),
    }
}

fn check_delete(c: &mut Checker<'_>, call: &Call<'_>) -> tree::Expr {
    use crate::parser::ast::ExprKind as E;
    // `delete(@m, key)`.
    if let [map, _] = call.args
        && matches!(&map.node, E::Map { key: None, .. })
    {
        let Some((map, key)) = c.map_and_key(call) else { return tree::Expr::error(call.span) };
        let detail = Detail::Map { map, numbers: vec![] };
        return c.typed_with(call, vec![key], Type::Bool, detail);
    }
    // `delete(@m[key])`, once also with several of them; `delete(@scalar)`.
    let mut keys = Vec::new();
    let mut of = None;
    for arg in call.args {
        let E::Map { name, key } = &arg.node else {
            let d = Diagnostic::error(arg.span, "`delete` takes a map and a key")
                .help("write `delete(@m, key)`");
            return c.fail(d);
        };
        let map = c.map_of(name, arg.span);
        if of.is_some_and(|first| first != map) {
            let d = Diagnostic::error(arg.span, "one `delete` removes from one map")
                .help("write a `delete` for each map");
            return c.fail(d);
        }
        of = Some(map);
        if key.is_none() && matches!(c.map(map).keyed, Some((true, _))) {
            let d =
                Diagnostic::error(arg.span, format!("`@{name}` has keys; say which one to delete"))
                    .help(format!("write `delete(@{name}, key)`, or `clear(@{name})` for all"));
            return c.fail(d);
        }
        match c.key_of(map, key.as_deref(), arg.span) {
            Some(Some(key)) => keys.push(key),
            Some(None) => {}
            None => return tree::Expr::error(call.span),
        }
    }
    let Some(map) = of else { return tree::Expr::error(call.span) };
    c.typed_with(call, keys, Type::Bool, Detail::Map { map, numbers: vec![] })
}
