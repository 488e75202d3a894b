//! `begin` and `end`: run by the tool itself, before and after tracing.

use super::list::{Line, Query};
use super::{Context, Expanded, Instance, Provider, Request, Side};
use crate::diag::Diagnostics;
use crate::ir::ProgramKind;
use crate::plan::Mechanism;
use crate::types::Space;

pub(super) static BEGIN: Provider = Provider {
    name: "begin",
    aliases: &[],
    usage: &["begin"],
    doc: "Runs once before anything is attached.",
    side: Side::Named,
    expand,
    list,
};

pub(super) static END: Provider = Provider {
    name: "end",
    aliases: &[],
    usage: &["end"],
    doc: "Runs once after everything is detached.",
    side: Side::Named,
    expand,
    list,
};

fn expand(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    // `BEGIN:*` is what listings of old gave.
    if !request.parts.iter().all(|p| matches!(p.text.as_str(), "" | "*")) || request.parts.len() > 1
    {
        return Err(request.wrong_parts());
    }
    let name = request.provider.name;
    let mechanism = if name == BEGIN.name { Mechanism::Begin } else { Mechanism::End };
    Ok(vec![Instance {
        kind: ProgramKind::Special,
        section: format!("raw_tp/{name}"),
        context: Context::none(request.provider, Space::None),
        attach: vec![request.attach(vec![name.to_owned()], mechanism)],
        syscalls: None,
    }])
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    Ok(vec![Line::of(query.provider.name.to_owned())])
}
