//! Probes that `-p`, `--follow` and `--cgroup` cannot restrict: that is said, since they would seem
//! to.

use super::{Options, Scope};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::ir::ProgramKind;
use crate::parser::ast;
use crate::probes::Instance;
use crate::types::Type;

/// Warns of probes that are not about processes, and refuses what cannot be.
pub(super) fn check(
    list: &[(&ast::Probe, Instance)],
    host: &Host,
    options: &Options,
    diags: &mut Diagnostics,
) {
    if options.pid.is_none() && options.scope == Scope::default() {
        return;
    }
    for (_, instance) in list {
        let Some(link) = instance.attach.first() else { continue };
        let name = link.probes.iter().next().unwrap_or_default();
        let why = match instance.kind {
            ProgramKind::Iter if options.scope.cgroup => {
                let message = format!("`{name}` cannot be restricted to a cgroup");
                diags.push(
                    Diagnostic::error(link.span, message)
                        .note("an iterator runs in rtrace, whatever it comes to")
                        .help("take out `--cgroup` or `--container`, and compare fields of `ctx`"),
                );
                continue;
            }
            ProgramKind::Iter if !is_about_tasks(instance, host) => {
                "it goes through other things than tasks"
            }
            ProgramKind::Packet => "packets belong to no process",
            _ => continue,
        };
        let message = format!("`{name}` is not restricted to processes");
        diags.push(Diagnostic::warning(Warning::IgnoredArgument, link.span, message).note(why));
    }
}

/// Whether an iterator comes to tasks, or to things that belong to one.
fn is_about_tasks(instance: &Instance, host: &Host) -> bool {
    let (Ok(Type::Ptr { to, .. }), Ok(btf)) = (&instance.context.ctx, host.btf()) else {
        return false;
    };
    matches!(&**to, Type::Struct(context) if btf.member_at(context.id, "task").is_some())
}
