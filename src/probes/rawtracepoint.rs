//! Raw tracepoints: the same places as tracepoints, with the arguments that
//! the kernel's code passes instead of a record.

use std::collections::HashMap;

use super::list::{Line, Query};
use super::{Access, Argument, Context, Expanded, Instance, Provider, Request, Side, TYPED};
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::host::btf::{Btf, Param};
use crate::ir::ProgramKind;
use crate::plan::Mechanism;
use crate::types::{Space, Type};

pub(super) static RAWTRACEPOINT: Provider = Provider {
    name: "rawtracepoint",
    aliases: &["rt"],
    usage: &["rawtracepoint:sched_switch", "rawtracepoint:vmlinux:sched_switch"],
    doc: "Fires at a tracepoint, with the kernel's own arguments.",
    side: Side::Kernel,
    expand,
    list,
};

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let (module, event) = match request.parts.as_slice() {
        [event] => (None, event),
        [module, event] => (Some(module), event),
        _ => return Err(request.wrong_parts()),
    };
    let btf = request.host.btf().map_err(|reason| {
        let d = Diagnostic::error(request.span(), "raw tracepoints cannot be looked up");
        Box::new(d.note(reason).help("a `tracepoint` of the same place does not need that"))
    })?;
    if !event.is_wildcard() && module.is_none_or(|m| !m.is_wildcard()) {
        let found = match module {
            None => btf.raw_tracepoint(&event.text),
            Some(module) => btf.raw_tracepoint_in(&module.text, &event.text),
        };
        return match found {
            Some((module, params)) => Ok(vec![instance(request, &module, &event.text, params)]),
            None => {
                let wanted = match module {
                    Some(module) => format!("{}:{}", module.text, event.text),
                    None => event.text.clone(),
                };
                let message = format!("there is no raw tracepoint `{wanted}`");
                let d = Diagnostic::error(event.span, message);
                let d = match diag::nearest(&event.text, all(btf).into_iter().map(|e| e.1)) {
                    Some(near) => d.did_you_mean(event.span, near),
                    None => d.help("`-l 'rawtracepoint:*'` lists all raw tracepoints"),
                };
                request.missing(Box::new(d), diags)
            }
        };
    }
    let mut names = all(btf);
    names.retain(|(m, e)| module.is_none_or(|p| p.matches(m)) && event.matches(e));
    if names.is_empty() {
        let message = format!("no raw tracepoint matches `{}`", event.text);
        super::nothing_matches(request.point, &message, request.options, diags);
    }
    let mut instances = Vec::new();
    for (module, events) in by_module(names) {
        let mut params = btf.raw_tracepoints_in(module, &events);
        let known = events.iter().filter_map(|e| Some((*e, params.remove(*e)?)));
        instances.extend(known.map(|(event, params)| instance(request, module, event, params)));
    }
    Ok(instances)
}

/// Events of each module; the list is sorted.
fn by_module<'n>(names: Vec<(&'n str, &'n str)>) -> Vec<(&'n str, Vec<&'n str>)> {
    let mut modules: Vec<(&str, Vec<&str>)> = Vec::new();
    for (module, event) in names {
        match modules.last_mut() {
            Some((last, events)) if *last == module => events.push(event),
            _ => modules.push((module, vec![event])),
        }
    }
    modules
}

/// Modules and events, sorted.
fn all(btf: &Btf) -> Vec<(&str, &str)> {
    let modules = std::iter::once("vmlinux").chain(btf.modules());
    let mut all: Vec<(&str, &str)> = modules
        .flat_map(|module| btf.raw_tracepoints(module).into_iter().map(move |e| (module, e)))
        .collect();
    all.sort_unstable();
    all
}

fn instance(request: &Request<'_>, module: &str, event: &str, params: Vec<Param>) -> Instance {
    let places = (0..).step_by(8).map(|offset| Access::Context { offset, size: 8 });
    let arguments = params.into_iter().zip(places).map(|(p, access)| Argument {
        name: p.name,
        ty: super::in_register(p.ty, Space::Kernel),
        access,
    });
    let args: Vec<Argument> = arguments.collect();
    let word = Type::Int { size: 8, signed: false, space: Space::Kernel };
    let numbered = args.iter().enumerate().map(|(i, a)| Argument {
        name: format!("arg{i}"),
        ty: word.clone(),
        access: a.access,
    });
    let context = Context {
        numbered: Ok(numbered.collect()),
        args: Ok(args),
        ctx: Err("the context of a raw tracepoint is its arguments; use `args`".into()),
        stacks: true,
        ..Context::none(request.provider, Space::Kernel)
    };
    // Typed arguments cost time at loading: only where they are used.
    let needs = request.needs;
    let btf = needs.args() && (needs.typed_pointers || !request.without_feature(TYPED));
    let (kind, prefix) = match btf {
        true => (ProgramKind::BtfTracepoint, "tp_btf"),
        false => (ProgramKind::RawTracepoint, "raw_tp"),
    };
    let mechanism = Mechanism::RawTracepoint { event: event.to_owned(), btf };
    Instance {
        kind,
        section: format!("{prefix}/{event}"),
        context,
        attach: vec![request.attach(vec![format!("rawtracepoint:{module}:{event}")], mechanism)],
        syscalls: None,
        keeper: None,
    }
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let btf = query.host.btf()?;
    let mut names = all(btf);
    names.retain(|(module, event)| query.accepts(&[module, event]));
    let mut lines = Vec::new();
    for (module, events) in by_module(names) {
        let params = match query.verbose {
            true => btf.raw_tracepoints_in(module, &events),
            false => HashMap::new(),
        };
        lines.extend(events.iter().map(|event| {
            let details = params.get(*event).into_iter().flatten().map(Param::shown).collect();
            Line { name: format!("rawtracepoint:{module}:{event}"), details }
        }));
    }
    Ok(lines)
}
