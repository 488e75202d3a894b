//! Iterators: the program runs for everything of a kind that the kernel has at
//! the moment (tasks, open files, sockets, …).

use std::path::PathBuf;

use super::list::{Line, Query};
use super::{Context, Expanded, Instance, Provider, Request, Side};
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::host::btf::{Btf, Param};
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::parser::ast::TypeTag;
use crate::plan::Mechanism;
use crate::types::{Space, Type};

pub(super) static ITER: Provider = Provider {
    name: "iter",
    aliases: &["it"],
    usage: &["iter:task", "iter:task:name"],
    doc: "Runs once for each object of a kind that the kernel has: tasks, files, sockets.",
    side: Side::Kernel,
    expand,
    list,
};

/// The kernel's names: `struct bpf_iter__task` is the context of programs that
/// are loaded for `bpf_iter_task()`.
const CONTEXT: &str = "bpf_iter__";
const FUNCTION: &str = "bpf_iter_";

/// Where links are pinned unless the path says otherwise.
const PINS: &str = "/sys/fs/bpf";

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let (name, pin) = match request.parts.as_slice() {
        [name] => (name, None),
        [name, pin] if !pin.text.is_empty() => (name, Some(pin)),
        _ => return Err(request.wrong_parts()),
    };
    if name.is_wildcard() {
        let d = request.error_at(name, "an iterator has one name, and no pattern");
        return Err(Box::new(d.help("`rtrace -l 'iter:*'` lists them")));
    }
    let unavailable = |reason: String| {
        let d = Diagnostic::error(request.span(), "this kernel has no iterators");
        Box::new(d.note(reason))
    };
    let btf = request.host.btf().map_err(unavailable)?;
    if !request.host.has(Feature::Iter) {
        return Err(unavailable(
            "its BPF is too old for them, or they are not allowed here".into(),
        ));
    }
    let context = btf.find_type(Some(TypeTag::Struct), &format!("{CONTEXT}{}", name.text));
    let function = btf.function_in("vmlinux", &format!("{FUNCTION}{}", name.text));
    let (Some(context), Some(_)) = (context, function) else {
        let message = format!("there is no iterator `{}`", name.text);
        let d = Diagnostic::error(name.span, message);
        let all = names(btf);
        let d = match diag::nearest(&name.text, all.iter().map(String::as_str)) {
            Some(near) => d.did_you_mean(name.span, near),
            None => d.note(format!("this kernel has {}", all.join(", "))),
        };
        return request.missing(Box::new(d), diags);
    };
    let full_name = match pin {
        Some(pin) => format!("iter:{}:{}", name.text, pin.text),
        None => format!("iter:{}", name.text),
    };
    let pin = pin.map(|pin| PathBuf::from(PINS).join(&pin.text).to_string_lossy().into_owned());
    let mechanism = Mechanism::Iter { name: name.text.clone(), pin };
    Ok(vec![Instance {
        kind: ProgramKind::Iter,
        section: format!("iter/{}", name.text),
        context: Context {
            args: Err("what an iterator gives is in `ctx`; use `ctx.<field>`".into()),
            ctx: Ok(Type::ptr(context, Space::Kernel)),
            ..Context::none(request.provider, Space::Kernel)
        },
        attach: vec![request.attach(vec![full_name], mechanism)],
        syscalls: None,
        keeper: None,
    }])
}

/// The iterators of the kernel, sorted.
fn names(btf: &Btf) -> Vec<String> {
    let functions: std::collections::HashSet<&str> =
        btf.functions("vmlinux").into_iter().filter_map(|f| f.strip_prefix(FUNCTION)).collect();
    let contexts = btf.type_names(TypeTag::Struct, &|name| name.starts_with(CONTEXT));
    let names = contexts.iter().filter_map(|name| name.strip_prefix(CONTEXT));
    names.filter(|name| functions.contains(name)).map(str::to_owned).collect()
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let btf = query.host.btf()?;
    let wanted = names(btf).into_iter().filter(|name| query.accepts(&[name]));
    let line = |name: String| {
        let function = match query.verbose {
            true => btf.function_in("vmlinux", &format!("{FUNCTION}{name}")),
            false => None,
        };
        let fields = function.iter().flat_map(|f| &f.params).filter(|p| p.name != "meta");
        let details = fields.map(Param::shown).collect();
        Line { name: format!("iter:{name}"), details }
    };
    Ok(wanted.map(line).collect())
}
