//! What a run cannot do when rtrace is gone, told before anything is attached.
//!
//! Programs go on to count, and to send events, which wait for `rtrace attach`. What an event asks of
//! the run side would be done much later, or never; so a script that is pinned may only ask to print
//! what the event has with it. `begin` and `end` run while rtrace is there, and may ask for anything.

use crate::diag::{Diagnostic, Diagnostics};
use crate::plan::{Action, Mechanism, Plan};
use crate::runtime::error::{Error, STATUS_USAGE};

/// # Errors
/// Everything in the script that needs rtrace, at its place.
pub(super) fn check(plan: &Plan, name: &str) -> Result<(), Error> {
    let mut list = Vec::new();
    for event in plan.events.iter().filter(|event| !event.run) {
        if let Some((what, instead)) = needs(&event.action, name) {
            let d = Diagnostic::error(event.span, format!("{what}, which is gone after `--pin`"));
            list.push(d.at("sent when rtrace is gone").help(instead));
        }
    }
    for attach in plan.programs.iter().flat_map(|program| &program.attach) {
        let (what, instead) = match &attach.mechanism {
            Mechanism::Signal => ("is run by rtrace", "an `interval` goes on without it"),
            Mechanism::Iter { pin: None, .. } => {
                ("is read by rtrace", "`iter:NAME:PIN` pins it by itself, without `--pin`")
            }
            Mechanism::Iter { pin: Some(_), .. } => ("is pinned by itself", "leave `--pin` out"),
            _ => continue,
        };
        let probe = attach.probes.first().map_or("this probe", |probe| probe);
        let message = format!("`{probe}` {what}, and cannot be part of a pinned run");
        list.push(Diagnostic::error(attach.span, message).at("attached here").help(instead));
    }
    if plan.unwinds {
        let d = Diagnostic::global(
            "stacks that are unwound by DWARF need rtrace, which is gone after `--pin`",
        );
        let d = d.note("it makes the tables of processes as they start and load libraries");
        list.push(d.help("use `ustack` without `dwarf`, or run without `--pin`"));
    }
    // Several attach points of a block, and copies of a block, say the same.
    let mut told: Vec<Diagnostic> = Vec::new();
    for d in list {
        if !told.iter().any(|t| t.message == d.message && t.labels == d.labels) {
            told.push(d);
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    Err(Error { diagnostics: Diagnostics { list: told }, status: STATUS_USAGE, log: None })
}

/// Why an event needs rtrace when it is sent, and what to do instead.
fn needs(action: &Action, name: &str) -> Option<(&'static str, String)> {
    Some(match action {
        Action::Printf(_)
        | Action::Errorf(_)
        | Action::Warnf(_)
        | Action::Print
        | Action::Join { .. }
        | Action::Packet { .. }
        // Told by the plan as a whole.
        | Action::Unwind => return None,
        Action::System(_) => (
            "`system` runs a command in rtrace",
            format!("`printf` the command, and run what `rtrace attach {name}` prints"),
        ),
        Action::Cat(_) => (
            "`cat` reads the file in rtrace",
            "print the file's name, or run without `--pin`".to_owned(),
        ),
        Action::PrintMap { .. } | Action::PrintMapElement { .. } => (
            "maps are printed by rtrace",
            format!("leave this out: `rtrace maps {name}` prints them at any time"),
        ),
        Action::Clear { .. } | Action::Zero { .. } => (
            "maps are cleared by rtrace",
            "delete the keys in the program: `for ($kv : @map) { delete(@map, $kv.0); }`".to_owned(),
        ),
        Action::Time { .. } => (
            "`time` takes the time when rtrace prints it",
            "use the time of the event: `printf(\"%s\", strftime(\"%H:%M:%S\", nsecs))`".to_owned(),
        ),
        Action::Exit => (
            "`exit` ends rtrace",
            format!("leave this out: `rtrace detach {name}` ends the run"),
        ),
    })
}
