//! `-l`: listings, of what there is and of what scripts use.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::path::Path;

use super::load::{Loaded, Search, load};
use super::messages::shown;
use super::options::{host, options, pids};
use super::{Outcome, fail, read, say, sources};
use crate::cli::Cli;
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::guard;
use crate::host::Host;
use crate::parser::ast::{AttachPoint, Item};
use crate::probes::{self, ListOptions};
use crate::sema;
use crate::source::Sources;

/// `-l`: probes by pattern, or those of a script.
pub(super) fn list(cli: &Cli) -> Outcome {
    let host = host(cli);
    let params = cli.script.args.clone();
    let script = match (&cli.script.program, params.first()) {
        (Some(_), _) => true,
        (None, Some(first)) => Path::new(first).is_file(),
        (None, None) => false,
    };
    match script {
        true => of_script(cli, &host),
        false => by_pattern(cli, &host, params),
    }
}

/// The probes of a script.
fn of_script(cli: &Cli, host: &Host) -> Outcome {
    let (source, params) = read(&cli.script)?;
    let (mut sources, file) = sources(source);
    let Loaded { script: tree, mut diags, .. } =
        load(&mut sources, file, &Search::of(&cli.includes));
    let options = options(cli, params)?;
    if !diags.has_errors() {
        let (names, found) = sema::expand_names(&tree, host, &options);
        diags.append(found);
        let points = tree.items.iter().filter_map(|item| match item {
            Item::Probe(probe) => Some(&probe.attach_points),
            _ => None,
        });
        let points: Vec<&AttachPoint> = points.flatten().collect();
        let asked = ListOptions { verbose: true, pid: options.pid };
        let details = match cli.verbose {
            true => probes::details(host, &points, &options.params, asked),
            false => HashMap::new(),
        };
        for name in names {
            let name = probes::written(&name);
            let more = details.get(&name).into_iter().flatten();
            let more: String = more.map(|d| format!("{}{d}\n", probes::INDENT)).collect();
            say(&listed(cli, &format!("{name}\n{more}")))?;
        }
    }
    shown(&diags, &sources).map(|()| 0)
}

/// The probes that a pattern means.
fn by_pattern(cli: &Cli, host: &Host, mut params: Vec<String>) -> Outcome {
    if params.len() > 1 {
        return Err(fail("`-l` takes one pattern; quote it, so that the shell leaves it alone"));
    }
    let pattern = params.pop();
    let options = ListOptions { verbose: cli.verbose, pid: pids(cli)?.first().copied() };
    let mut diags = Diagnostics::default();
    if let Some(pattern) = pattern.as_deref().filter(|p| p.contains('.') && !p.contains([':', '*']))
    {
        let message = format!("there is no file `{pattern}`");
        let d = Diagnostic::global(message).weaken(Warning::MissingProbe);
        diags.push(d.note("it is taken as a pattern for names"));
    }
    let mut told = Ok(0);
    probes::list_each(host, pattern.as_deref(), options, &mut diags, &mut |lines| {
        told = say(&listed(cli, &(lines.join("\n") + "\n")));
        told.is_ok()
    });
    told?;
    shown(&diags, &Sources::default()).map(|()| 0)
}

/// Names of probes as a terminal may have them: symbols of binaries are anybody's.
fn listed<'t>(cli: &Cli, text: &'t str) -> Cow<'t, str> {
    if io::stdout().is_terminal() && !cli.style.raw {
        guard::text(text)
    } else {
        Cow::Borrowed(text)
    }
}
