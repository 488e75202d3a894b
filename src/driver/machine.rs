//! The side of the pipelines that needs the running kernel.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use super::{Failed, Outcome, USAGE, fail, failed, messages};
use crate::builtins;
use crate::cli;
use crate::diag::{self, Diagnostic};
use crate::host::Host;
use crate::object::Object;
use crate::plan::Plan;
use crate::probes;
pub(super) use crate::runtime::Options as Setup;
use crate::runtime::output::trial::Benchmark;
use crate::runtime::output::{self, Output, export};
use crate::runtime::pin;
pub(super) use crate::runtime::pin::Look;
use crate::runtime::{self, Error, features};
use crate::sema::ObjectFile;
use crate::source::Sources;

/// Fails early, and with the reason, where nothing could be loaded anyway.
pub(super) fn check_privileges() -> Result<(), Failed> {
    runtime::privileges::check().map_err(|error| {
        messages::write(&error.diagnostics, &Sources::default());
        Failed(error.status)
    })
}

/// Threads that compile a large script: others on the machine want some, too.
pub(super) const THREADS: usize = 8;

/// Joins the parts of a script that was compiled in several.
pub(super) fn join(elf: Vec<u8>, more: &[Vec<u8>]) -> Result<Vec<u8>, Failed> {
    if more.is_empty() {
        return Ok(elf);
    }
    let list: Vec<(&str, &[u8])> = more.iter().map(|part| ("", part.as_slice())).collect();
    runtime::linker::link(&elf, &list).map_err(|(_, why)| super::bug(why))
}

/// Joins the objects that a script imports to its own.
pub(super) fn link(elf: Vec<u8>, objects: &[ObjectFile]) -> Result<Vec<u8>, Failed> {
    if objects.is_empty() {
        return Ok(elf);
    }
    let list: Vec<(&str, &[u8])> =
        objects.iter().map(|o| (o.name.as_str(), o.elf.as_slice())).collect();
    runtime::linker::link(&elf, &list).map_err(|(which, why)| {
        let message = match which {
            Some(name) => format!("cannot link `{name}`"),
            None => "cannot link the imported objects".to_owned(),
        };
        failed(Diagnostic::global(message).note(why), USAGE)
    })
}

/// Loads an object, attaches it and shows what it says.
pub(super) fn execute(
    elf: Vec<u8>,
    setup: &runtime::Options,
    host: &Host,
    style: &cli::Style,
) -> Outcome {
    let mut object = Object::from_bytes(elf).map_err(fail)?;
    let child = setup.command.is_some();
    placed(&mut object.plan, host, setup.pid.filter(|_| !child), &setup.named)?;
    shown_by(object, style, setup.verbose, |object, output| {
        runtime::run(object, setup, host, output)
    })
}

/// Looks at a pinned run.
pub(super) fn look(name: &str, look: Look, style: &cli::Style) -> Outcome {
    let told = |error: Error| {
        messages::write(&error.diagnostics, &Sources::default());
        Failed(error.status)
    };
    match pin::open(name, look).map_err(told)? {
        Some(object) => {
            shown_by(object, style, false, |object, output| pin::look(name, object, look, output))
        }
        None => super::say(&format!("removed `{name}`, which was not whole\n")),
    }
}

/// Shows benchmarks that were made elsewhere: their names and the nanoseconds of a round.
pub(super) fn benchmarks(
    object: Object,
    style: &cli::Style,
    rows: &[(&str, u64)],
    iterations: u64,
) -> Outcome {
    shown_by(object, style, false, |_, output| {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let shown = output.benchmarks_start(width).and_then(|()| {
            rows.iter().try_for_each(|&(name, average)| {
                output.benchmark(&Benchmark { name, average, iterations, width })
            })
        });
        match shown {
            Ok(()) | Err(output::Error::Closed) => Ok(0),
            Err(error) => Err(Error::run(Diagnostic::global(error.to_string()))),
        }
    })
}

/// Shows what is pinned.
pub(super) fn pins() -> Outcome {
    let list = pin::list().map_err(|error| {
        messages::write(&error.diagnostics, &Sources::default());
        Failed(error.status)
    })?;
    super::say(&list)
}

/// Does something with an object that has an output.
fn shown_by(
    object: Object,
    style: &cli::Style,
    verbose: bool,
    run: impl FnOnce(Object, &mut Output) -> Result<u8, Error>,
) -> Outcome {
    let (out, terminal): (Box<dyn Write>, bool) = match &style.output {
        Some(path) => {
            let file = fs::File::create(path)
                .map_err(|e| fail(format!("cannot write `{}`: {e}", path.display())))?;
            let terminal = file.is_terminal();
            (Box::new(file), terminal)
        }
        None => (Box::new(io::stdout()), io::stdout().is_terminal()),
    };
    if terminal && style.format.is_binary() {
        return Err(fail("this format is not for a terminal; give a file with `-o`"));
    }
    let exported = match style.format {
        cli::OutputFormat::Text | cli::OutputFormat::Json => None,
        cli::OutputFormat::Folded => Some(export::Format::Folded),
        cli::OutputFormat::Pprof => Some(export::Format::Pprof),
        cli::OutputFormat::Perfetto => Some(export::Format::Perfetto),
    };
    let looks = runtime::output::Options {
        json: style.format == cli::OutputFormat::Json,
        buffering: match style.buffering {
            cli::Buffering::Line => runtime::output::Buffering::Line,
            cli::Buffering::Full => runtime::output::Buffering::Full,
            cli::Buffering::None => runtime::output::Buffering::None,
        },
        guarded: !style.raw
            && if exported.is_some() { io::stderr().is_terminal() } else { terminal },
        guarded_errors: io::stderr().is_terminal() && !style.raw,
        color: messages::color(),
        messages: messages::form(),
        levels: messages::levels(),
    };
    let sources = object.plan.sources.clone();
    // What is exported has the output for itself; everything else is shown beside it.
    let (shown, file): (Box<dyn Write>, _) = match exported {
        Some(format) => (Box::new(io::stderr()), Some((format, out))),
        None => (out, None),
    };
    let mut output = Output::new(&object.plan, shown, Box::new(io::stderr()), looks);
    output.search_debug_files(&style.debuginfo);
    if let Some((format, out)) = file {
        output.export(&object.plan, format, out);
    }
    let status = run(object, &mut output).map_err(|error| {
        messages::write(&error.diagnostics, &sources);
        if let (Some(log), true) = (&error.log, verbose) {
            messages::say(&format!("{log}\n"));
        }
        Failed(error.status)
    })?;
    match output.finish() {
        Ok(()) | Err(output::Error::Closed) => Ok(status),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// Shows what programs cost.
pub(super) fn watch(stats: &cli::Stats) -> Outcome {
    check_privileges()?;
    let cli::Stats { pid, all, interval, times, .. } = *stats;
    let options = runtime::watch::Options { pid, all, interval, times };
    runtime::watch::watch(&options, &mut io::stdout()).map(|()| 0).map_err(|error| {
        messages::write(&error.diagnostics, &Sources::default());
        Failed(error.status)
    })
}

/// Matches a plan that is for several kernels with this one, and gives the script its parameters.
fn placed(
    plan: &mut Plan,
    host: &Host,
    pid: Option<u32>,
    named: &[(String, Option<String>)],
) -> Result<(), Failed> {
    let here = host.arch().name;
    if plan.arch != here {
        let message = format!("the object is for {}, and this machine is {here}", plan.arch);
        let d = Diagnostic::global(message);
        return Err(failed(d.help(format!("build it again, with `--arch {here}`")), USAGE));
    }
    let options = plan.portable.iter().flat_map(|p| &p.options);
    let given = |name: &str| named.iter().rfind(|n| n.0 == name).map(|n| n.1.clone());
    let words: Result<Vec<_>, _> = options
        .clone()
        .map(|o| builtins::words_of(o, given(&o.name)).map_err(|e| (o, e)))
        .collect();
    let words = words.map_err(|(option, expected)| {
        let d = Diagnostic::global(format!("`--{}` expects {expected}", option.name));
        failed(d.help(format!("write `-- --{}=VALUE`", option.name)), USAGE)
    })?;
    if let Some((unknown, _)) = named.iter().find(|n| !options.clone().any(|o| o.name == n.0)) {
        let d = Diagnostic::global(format!("the script has no parameter `--{unknown}`"));
        let known = options.clone().map(|o| o.name.as_str());
        let d = match diag::nearest(unknown, known.clone()) {
            Some(near) => d.help(format!("did you mean `--{near}`?")),
            None => known.fold(d, |d, name| d.note(format!("it has `--{name}`"))),
        };
        return Err(failed(d, USAGE));
    }
    let diags = probes::resolve(plan, host, pid, &words);
    messages::shown(&diags, &plan.sources)
}

/// The machine that we run on, as far as this process may look at it: the kernel answers
/// questions about its BPF only to those who may trace.
pub(super) fn seen() -> Host {
    match runtime::privileges::check() {
        Ok(()) => live(Path::new("/")),
        Err(_) => Host::at(Path::new("/")).with_features_of_types(),
    }
}

/// The machine that we run on.
pub(super) fn live(root: &Path) -> Host {
    Host::at(root).with_features(features::live()).with_bpf_functions(runtime::bpf_functions::live)
}
