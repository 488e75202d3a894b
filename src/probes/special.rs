//! What the tool itself runs: before and after tracing (`begin`, `end`), when it
//! gets a signal (`self`), and on request (`test`, `bench`).

use super::list::{Line, Query};
use super::{Context, Expanded, Instance, Provider, Request, Side};
use crate::diag::{Diagnostic, Diagnostics};
use crate::ir::ProgramKind;
use crate::plan::Mechanism;
use crate::types::Space;

pub(super) static BEGIN: Provider = Provider {
    name: "begin",
    aliases: &[],
    usage: &["begin"],
    doc: "Runs once before anything is attached.",
    side: Side::Named,
    expand: expand_alone,
    list,
};

pub(super) static END: Provider = Provider {
    name: "end",
    aliases: &[],
    usage: &["end"],
    doc: "Runs once after everything is detached.",
    side: Side::Named,
    expand: expand_alone,
    list,
};

pub(super) static SELF: Provider = Provider {
    name: "self",
    aliases: &[],
    usage: &["self:signal:SIGUSR1"],
    doc: "Runs whenever rtrace itself gets the signal.",
    side: Side::Named,
    expand: expand_signal,
    list,
};

pub(super) static TEST: Provider = Provider {
    name: "test",
    aliases: &[],
    usage: &["test:name"],
    doc: "Runs once with `--test`; passes if it returns 0 and complains of nothing.",
    side: Side::Named,
    expand: expand_named,
    list,
};

pub(super) static BENCH: Provider = Provider {
    name: "bench",
    aliases: &[],
    usage: &["bench:name"],
    doc: "Runs many times with `--bench`, which tells how long a run takes.",
    side: Side::Named,
    expand: expand_named,
    list,
};

/// The only signal of `self:signal:…`.
const SIGNAL: &str = "SIGUSR1";

fn expand_alone(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    // `BEGIN:*` is what listings of old gave.
    if !request.parts.iter().all(|p| matches!(p.text.as_str(), "" | "*")) || request.parts.len() > 1
    {
        return Err(request.wrong_parts());
    }
    let name = request.provider.name;
    let mechanism = if name == BEGIN.name { Mechanism::Begin } else { Mechanism::End };
    Ok(vec![instance(request, name.to_owned(), mechanism)])
}

fn expand_signal(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    let [trigger, signal] = request.parts.as_slice() else { return Err(request.wrong_parts()) };
    let known = |what: &str| format!("write `self:signal:{SIGNAL}`, the only {what} there is");
    if trigger.text != "signal" {
        let d = request.error_at(trigger, format!("`self` knows no `{}`", trigger.text));
        return Err(Box::new(d.help(known("one"))));
    }
    if signal.text != SIGNAL {
        let message = format!("`self` does not run for the signal `{}`", signal.text);
        return Err(Box::new(request.error_at(signal, message).help(known("signal"))));
    }
    let name = format!("self:signal:{SIGNAL}");
    Ok(vec![instance(request, name, Mechanism::Signal)])
}

fn expand_named(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    let [name] = request.parts.as_slice() else { return Err(request.wrong_parts()) };
    if name.text.is_empty() || name.is_wildcard() {
        let kind = request.provider.name;
        let d = Diagnostic::error(request.span(), format!("a `{kind}` probe needs a name"));
        return Err(Box::new(d.help(format!("write `{kind}:name`"))));
    }
    let mechanism = match request.provider.name == TEST.name {
        true => Mechanism::Test,
        false => Mechanism::Bench,
    };
    let full_name = format!("{}:{}", request.provider.name, name.text);
    Ok(vec![instance(request, full_name, mechanism)])
}

fn instance(request: &Request<'_>, name: String, mechanism: Mechanism) -> Instance {
    Instance {
        kind: ProgramKind::Special,
        section: format!("raw_tp/{}", request.provider.name),
        context: Context::none(request.provider, Space::None),
        attach: vec![request.attach(vec![name], mechanism)],
        syscalls: None,
        keeper: None,
    }
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let provider = query.provider.name;
    Ok(match provider {
        "self" if query.accepts(&["signal", SIGNAL]) => {
            vec![Line::of(format!("{provider}:signal:{SIGNAL}"))]
        }
        // They are what a script says.
        "self" | "test" | "bench" => Vec::new(),
        _ => vec![Line::of(provider.to_owned())],
    })
}
