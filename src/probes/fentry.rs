//! Entry and exit of kernel functions through trampolines: typed arguments,
//! and the lowest cost. A program is loaded for one function, so every match is
//! an instance of its own; many of them are one `kprobe.multi` link instead, if
//! the block cannot tell the difference.

use std::collections::HashSet;

use super::functions;
use super::kprobe;
use super::list::{Line, Query};
use super::text::Part;
use super::{
    Access, Argument, Context, Expanded, Func, Instance, Provider, Request, Side, in_register,
};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::btf::{Btf, Function, Param};
use crate::host::features::Feature;
use crate::host::{BpfFunction, Host};
use crate::ir::ProgramKind;
use crate::plan::Mechanism;
use crate::types::{Space, Type};

pub(super) static FENTRY: Provider = Provider {
    name: "fentry",
    aliases: &["f", "kfunc"],
    usage: &["fentry:vfs_read", "fentry:module:function", "fentry:bpf:id:function"],
    doc: "Fires when a kernel function is called, with typed arguments.",
    side: Side::Kernel,
    expand,
    list,
};

pub(super) static FEXIT: Provider = Provider {
    name: "fexit",
    aliases: &["fr", "kretfunc"],
    usage: &["fexit:vfs_read", "fexit:module:function", "fexit:bpf:id:function"],
    doc: "Fires when a kernel function returns, with its arguments and result.",
    side: Side::Named,
    expand,
    list,
};

/// Functions of a pattern for which trampolines, each with a program of its own, cost more than they
/// save, if one link for all of them does as well.
const MANY: usize = 10;

/// Functions that our own programs may run into while they use maps.
const LOCKS: [&str; 4] = [
    "_raw_spin_lock",
    "_raw_spin_lock_irqsave",
    "_raw_spin_unlock_irqrestore",
    "queued_spin_lock_slowpath",
];

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    if let [first, rest @ ..] = request.parts.as_slice()
        && first.text == "bpf"
        && !rest.is_empty()
    {
        return expand_bpf(request, rest, diags);
    }
    let (module, function) = match request.parts.as_slice() {
        [function] => (None, function),
        [module, function] => (Some(module), function),
        [first, _, _] => {
            let message = format!("`{}` has no functions by ids", first.text);
            let d = request.error_at(first, message);
            let name = request.provider.name;
            return Err(Box::new(d.help(format!("write `{name}:bpf:id:function`"))));
        }
        _ => return Err(request.wrong_parts()),
    };
    if function.text.is_empty() {
        return Err(request.wrong_parts());
    }
    let provider = request.provider.name;
    let unavailable = |reason: String| {
        let d = Diagnostic::error(request.span(), format!("this kernel has no {provider} probes"))
            .note(reason);
        Box::new(match functions::instead(request.host, provider, &function.text) {
            Some(help) => d.help(help),
            None => d,
        })
    };
    let btf = request.host.btf().map_err(unavailable)?;
    if !request.host.has(Feature::Fentry) {
        let reason = "its BPF has no trampolines (they need `CONFIG_FUNCTION_TRACER` and \
                      `CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS`)";
        return Err(unavailable(reason.into()));
    }
    if function.is_wildcard() || module.is_some_and(Part::is_wildcard) {
        return all_matching(request, btf, module, function, diags);
    }
    let found = match module {
        Some(module) => btf.function_in(&module.text, &function.text),
        None => match btf.function_in("vmlinux", &function.text) {
            Some(found) => Some(found),
            None => only_module(btf, function)?,
        },
    };
    match found {
        Some(found) => {
            if takes_lock(&function.text) {
                let message = format!("tracing `{}` may go wrong", function.text);
                diags.push(
                    Diagnostic::warning(Warning::Uncertain, function.span, message)
                        .note("the program itself takes such locks when it uses maps"),
                );
            }
            Ok(vec![instance(request, &function.text, found)])
        }
        None => request.missing(Box::new(unknown(request.host, btf, module, function)), diags),
    }
}

/// Functions of BPF programs: `bpf:NAME`, `bpf:ID:NAME`, both of them patterns.
fn expand_bpf(request: &Request<'_>, parts: &[Part], diags: &mut Diagnostics) -> Expanded {
    let (id, name) = match parts {
        [name] => (None, name),
        [id, name] => (Some(id), name),
        _ => return Err(request.wrong_parts()),
    };
    if name.text.is_empty() {
        return Err(request.wrong_parts());
    }
    let mut found = request.host.bpf_functions();
    found.retain(|f| {
        name.matches(&f.name) && id.is_none_or(|id| id.matches(&f.program.to_string()))
    });
    if found.is_empty() {
        let message = format!("no BPF program has a function `{}`", name.text);
        if name.is_wildcard() {
            super::nothing_matches(request.point, &message, request.options, diags);
        } else {
            let d = request.error_at(name, message);
            let d = d.note("programs must be loaded, and describe their types, to be traced");
            return request.missing(Box::new(d), diags);
        }
    }
    if !found.is_empty() && !request.host.has(Feature::Fentry) {
        let message = format!("this kernel has no {} probes", request.provider.name);
        return Err(Box::new(Diagnostic::error(request.span(), message)));
    }
    Ok(found.into_iter().map(|function| bpf_instance(request, function)).collect())
}

fn bpf_instance(request: &Request<'_>, function: BpfFunction) -> Instance {
    let exit = request.provider.name == FEXIT.name;
    let BpfFunction { program, name, type_id } = function;
    // Where the kernel puts them depends on whether its verifier trusts the
    // types that came with the program, which it does not tell.
    let not_described = "the arguments of BPF programs are not described";
    let retval = match (exit, request.host.has(Feature::FuncArg)) {
        (false, _) => Err("the function has not run yet; use `fexit`".into()),
        (true, true) => {
            Ok(Argument { name: "retval".into(), ty: Type::INT64, access: Access::Returned })
        }
        (true, false) => Err("this kernel does not tell what it was (`get_func_ret`)".into()),
    };
    let full_name = format!("{}:bpf:{program}:{name}", request.provider.name);
    let section = format!("{}/{name}", request.provider.name);
    let mechanism = Mechanism::BpfTrampoline { program, function: name, type_id, exit };
    Instance {
        kind: ProgramKind::Trampoline,
        section,
        context: Context {
            args: Err(not_described.into()),
            numbered: Err(not_described.into()),
            retval,
            stacks: true,
            ..Context::none(request.provider, Space::Kernel)
        },
        attach: vec![request.attach(vec![full_name], mechanism)],
        syscalls: None,
        keeper: None,
    }
}

/// The function of that name in a module, if only one has it.
fn only_module(btf: &Btf, function: &Part) -> Result<Option<Function>, Box<Diagnostic>> {
    let modules = btf.modules_of_function(&function.text);
    if modules.len() > 1 {
        let message = format!("several modules have a function `{}`", function.text);
        let list = modules.join(", ");
        let d = Diagnostic::error(function.span, message).note(format!("they are {list}"));
        return Err(Box::new(d.help("write the module's name before the function's")));
    }
    Ok(modules.first().and_then(|module| btf.function_in(module, &function.text)))
}

fn unknown(host: &Host, btf: &Btf, module: Option<&Part>, function: &Part) -> Diagnostic {
    if let Some(module) =
        module.filter(|m| m.text != "vmlinux" && !btf.modules().any(|name| name == m.text))
    {
        let message = format!("there is no module `{}`", module.text);
        return Diagnostic::error(module.span, message)
            .note("a module must be loaded, and describe its types, to be traced");
    }
    let message = format!("there is no kernel function `{}`", function.text);
    let d = Diagnostic::error(function.span, message);
    match functions::nearest(host, &function.text) {
        Some(same) if same == function.text => {
            let message = format!("the types of `{same}` are not known");
            Diagnostic::error(function.span, message)
                .note("the kernel does not describe this function")
                .help(format!("`kprobe:{same}` can trace it, if this kernel has kprobes"))
        }
        Some(near) => d.did_you_mean(function.span, &near),
        None => functions::missing(d, host, &function.text),
    }
}

fn all_matching(
    request: &Request<'_>,
    btf: &Btf,
    module: Option<&Part>,
    function: &Part,
    diags: &mut Diagnostics,
) -> Expanded {
    let found = candidates(request.host, btf, module, &|name| function.matches(name));
    if found.is_empty() {
        let message = format!("no kernel function matches `{}`", function.text);
        super::nothing_matches(request.point, &message, request.options, diags);
    }
    let mut instances = Vec::new();
    let count: usize = found.iter().map(|(_, names)| names.len()).sum();
    let many = count > MANY && kprobe::can_stand_for_trampolines(request);
    for (module, names) in found {
        if many && module == "vmlinux" {
            instances.extend(kprobe::for_trampolines(request, &names));
            continue;
        }
        let set: HashSet<&str> = names.iter().copied().collect();
        let mut described = btf.functions_in(module, &set);
        let known = names.iter().filter_map(|n| Some((*n, described.remove(*n)?)));
        instances.extend(known.map(|(name, function)| instance(request, name, function)));
    }
    Ok(instances)
}

/// Functions that BTF describes and ftrace can trace, by module; sorted.
fn candidates<'h>(
    host: &'h Host,
    btf: &'h Btf,
    module: Option<&Part>,
    accepts: &dyn Fn(&str) -> bool,
) -> Vec<(&'h str, Vec<&'h str>)> {
    let traceable: Option<HashSet<(Option<&str>, &str)>> =
        functions::matching(host, None, accepts).ok().map(|list| list.into_iter().collect());
    let modules = std::iter::once("vmlinux").chain(btf.modules());
    let modules = modules.filter(|m| module.is_none_or(|p| p.matches(m)));
    let of_module = |name: &'h str| {
        let key = (name != "vmlinux").then_some(name);
        let usable = |f: &&str| match &traceable {
            Some(list) => list.contains(&(key, *f)),
            None => accepts(f) && !functions::is_unsafe(f),
        };
        let mut functions: Vec<&str> = btf.functions(name).into_iter().filter(usable).collect();
        functions.sort_unstable();
        functions.dedup();
        (!functions.is_empty()).then_some((name, functions))
    };
    modules.filter_map(of_module).collect()
}

fn instance(request: &Request<'_>, name: &str, function: Function) -> Instance {
    let exit = request.provider.name == FEXIT.name;
    let module = function.module.clone();
    let (args, end) = arguments(&function);
    let args = match args.is_empty() {
        true => Err(format!("`{name}` has no parameters")),
        false => Ok(args),
    };
    let named = "arguments have names here; use `args.<name>`";
    let retval = if !exit {
        Err("the function has not run yet; use `fexit`".into())
    } else {
        match in_register(function.result, Space::Kernel) {
            Type::Void => Err(format!("`{name}` returns nothing")),
            ty => Ok(Argument {
                name: "retval".into(),
                ty,
                access: Access::Context { offset: end, size: 8 },
            }),
        }
    };
    let context = Context {
        args,
        numbered: Err(named.into()),
        retval,
        ctx: Err(named.into()),
        func: func(request.host),
        stacks: true,
        ..Context::none(request.provider, Space::Kernel)
    };
    let section = section(request.provider.name, &module, name);
    let full_name = format!("{}:{module}:{name}", request.provider.name);
    let mechanism = Mechanism::Trampoline { function: name.to_owned(), module, exit };
    Instance {
        kind: ProgramKind::Trampoline,
        section,
        context,
        attach: vec![request.attach(vec![full_name], mechanism)],
        syscalls: None,
        keeper: None,
    }
}

/// How a trampoline's program learns its function.
pub(super) fn func(host: &Host) -> Result<Func, String> {
    match host.has(Feature::FuncIp) {
        true => Ok(Func::Helper { user: false }),
        false => Err("this kernel does not tell (it lacks `get_func_ip`); use `probe`".into()),
    }
}

/// Whether programs themselves may run into a function while they use maps.
pub(super) fn takes_lock(function: &str) -> bool {
    LOCKS.contains(&function)
}

/// The section of a program for a function, as libbpf spells it.
pub(super) fn section(provider: &str, module: &str, function: &str) -> String {
    match module {
        "vmlinux" => format!("{provider}/{function}"),
        module => format!("{provider}/{module}:{function}"),
    }
}

/// Parameters, and where the result follows them. Small structs by value take
/// the words that they fill.
pub(super) fn arguments(function: &Function) -> (Vec<Argument>, u32) {
    let mut offset = 0;
    let mut list = Vec::new();
    for param in &function.params {
        let words = match &param.ty {
            Type::Struct(s) => s.size.div_ceil(8).max(1),
            _ => 1,
        };
        list.push(Argument {
            name: param.name.clone(),
            ty: in_register(param.ty.clone(), Space::Kernel),
            access: Access::Context { offset, size: 8 },
        });
        offset += 8 * words;
    }
    (list, offset)
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let provider = query.provider.name;
    if query.parts().first().is_some_and(|p| p.text == "bpf") {
        let mut found = query.host.bpf_functions();
        found.retain(|f| {
            let id = f.program.to_string();
            query.accepts(&["bpf", &id, &f.name]) || query.accepts(&["bpf", &f.name])
        });
        let line = |f: BpfFunction| Line::of(format!("{provider}:bpf:{}:{}", f.program, f.name));
        return Ok(found.into_iter().map(line).collect());
    }
    let btf = query.host.btf()?;
    let mut lines = Vec::new();
    for (module, names) in candidates(query.host, btf, None, &|_| true) {
        let names: Vec<&str> =
            names.into_iter().filter(|name| query.accepts(&[module, name])).collect();
        let described = match query.verbose {
            true => btf.functions_in(module, &names.iter().copied().collect()),
            false => Default::default(),
        };
        for name in names {
            let mut line = Line::of(format!("{provider}:{module}:{name}"));
            if let Some(function) = described.get(name) {
                line.details = function.params.iter().map(Param::shown).collect();
                if provider == FEXIT.name {
                    line.details.push(format!("{} retval", function.result_text));
                }
            }
            lines.push(line);
        }
    }
    Ok(lines)
}
