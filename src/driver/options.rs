//! What the command line says of scripts and of the machine.

use std::path::Path;

use super::machine::live;
use super::{Failed, USAGE, fail, failed};
use crate::cli::{self, Cli};
use crate::diag::{self, Diagnostic};
use crate::host::Host;
use crate::host::cgroup::Cgroup;
use crate::host::features::Feature;
use crate::plan::Mode;
use crate::probes;
use crate::sema::{self, Scope};

/// The options of a script that is checked or stored, and not attached.
pub(super) fn unattached(params: Vec<String>, more: &[String], unsafe_mode: bool) -> sema::Options {
    let (params, named) = parameters(params, more);
    let environment = environment();
    sema::Options { params, named, unsafe_mode, environment, ..sema::Options::default() }
}

pub(super) fn options(cli: &Cli, params: Vec<String>) -> Result<sema::Options, Failed> {
    let pids = pids(cli)?;
    if !pids.is_empty() && cli.command.is_some() {
        return Err(fail("`-p` and `-c` exclude each other"));
    }
    if cli.follow && pids.is_empty() && cli.command.is_none() {
        return Err(fail("`--follow` needs processes to start from: give `-p` or `-c`"));
    }
    let scope = Scope {
        processes: pids.len() > 1,
        follow: cli.follow,
        cgroup: cli.cgroup.is_some() || cli.container.is_some(),
    };
    let alone = !scope.processes && !scope.follow;
    let (params, named) = parameters(params, &cli.script.more);
    Ok(sema::Options {
        params,
        named,
        unsafe_mode: cli.unsafe_mode,
        verbose_warnings: cli.warnings,
        pid: pids.first().copied().filter(|_| alone),
        scope,
        has_child: cli.command.is_some(),
        no_feature: cli.no_feature.clone(),
        environment: environment(),
        probe_filter: cli.probe_filter.clone(),
        stamped: cli.style.format == cli::OutputFormat::Perfetto,
        mode: match (cli.test, cli.bench, cli.mode) {
            (true, ..) | (_, _, Some(cli::Mode::Test)) => Mode::Test,
            (_, true, _) | (_, _, Some(cli::Mode::Bench)) => Mode::Bench,
            (
                false,
                false,
                None | Some(cli::Mode::Format | cli::Mode::Codegen | cli::Mode::CompilerBench),
            ) => Mode::Trace,
        },
        ..sema::Options::default()
    })
}

/// Named parameters: what they are called, and the value if there is one.
pub(super) type Named = Vec<(String, Option<String>)>;

/// Positional and named parameters. Named ones stand behind `--`.
pub(super) fn parameters(mut positional: Vec<String>, more: &[String]) -> (Vec<String>, Named) {
    let mut named = Named::new();
    for text in more {
        match text.strip_prefix("--") {
            Some(option) => named.push(match option.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.to_string())),
                None => (option.to_string(), None),
            }),
            None => positional.push(text.clone()),
        }
    }
    (positional, named)
}

fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect()
}

/// Largest process id (`PID_MAX_LIMIT` of linux/threads.h).
const MAX_PID: u32 = 0x40_0000;

/// The processes of `-p`, each once.
pub(super) fn pids(cli: &Cli) -> Result<Vec<u32>, Failed> {
    process_ids(&cli.pid)
}

/// Process ids as the command line has them, each once.
pub(super) fn process_ids(texts: &[String]) -> Result<Vec<u32>, Failed> {
    let mut pids = Vec::new();
    for text in texts {
        if let Some(pid) = pid(Some(text))?.filter(|pid| !pids.contains(pid)) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The cgroup of `--cgroup` or `--container`.
pub(super) fn cgroup(cli: &Cli, host: &Host) -> Result<Option<Cgroup>, Failed> {
    let found = match (&cli.cgroup, &cli.container) {
        (Some(path), _) => host.cgroup(path),
        (None, Some(start)) => host.container(start),
        (None, None) => return Ok(None),
    };
    found.map(Some).map_err(fail)
}

pub(super) fn pid(text: Option<&str>) -> Result<Option<u32>, Failed> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(pid) if (1..=MAX_PID).contains(&pid) => Ok(Some(pid)),
        _ => Err(fail(format!("`{text}` is no process id"))),
    }
}

/// `--no-feature` knows features of the kernel, and ways to attach.
pub(super) fn known_features(cli: &Cli) -> Result<(), Failed> {
    let names: Vec<&str> =
        Feature::ALL.iter().map(|f| f.info().name).chain(probes::WAYS.iter().copied()).collect();
    match cli.no_feature.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let d = Diagnostic::global(format!("there is no feature `{unknown}`"));
            let d = match diag::nearest(unknown, names) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None => d.help("`rtrace --info` lists the features"),
            };
            Err(failed(d, USAGE))
        }
    }
}

/// The traced machine: this one, or a recorded one.
pub(super) fn host(cli: &Cli) -> Host {
    let mut host = match &cli.host {
        Some(dir) => Host::at(dir),
        None => live(Path::new("/")),
    };
    if let Some(file) = &cli.traceable_functions {
        host = host.with_traceable_functions(file);
    }
    if !cli.no_feature.is_empty() {
        let hidden: Vec<Feature> = cli.no_feature.iter().filter_map(|n| Feature::find(n)).collect();
        host = host.hiding(&hidden);
        if cli.no_feature.iter().any(|name| name == probes::BY_ADDRESS) {
            host = host.without_addresses();
        }
    }
    host
}
