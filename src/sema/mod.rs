//! Meaning: from the tree of what was written to the lowered module.
//!
//! The passes in order: macros, settings, C definitions, expansion of attach
//! points, type checking (repeated until the types of variables and maps have
//! settled), lowering. Names end here: later stages look nothing up.

mod access;
mod arguments;
pub mod cdefs;
mod check;
mod expand;
mod expr;
mod foreign;
pub(crate) mod format;
mod function;
mod kernel;
pub mod layout;
pub(crate) mod lower;
mod needs;
mod operator;
mod portable;
pub(crate) mod promote;
mod scope;
mod statement;
pub(crate) mod tree;

pub use check::{Checker, MapState};
pub use foreign::ObjectFile;

use std::rc::Rc;

use crate::config::Config;
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir;
use crate::parser::ast::{self, Item};
use crate::plan::{Mechanism, MissingProbes, Mode, Plan};
use crate::probes::{self, Instance};
use crate::source::{Sources, Span};

/// Bytes of `str()` on kernels whose map keys are small (before 5.13), unless
/// the script says otherwise. Longer strings are marked as cut.
const SHORT_STRINGS: u64 = 200;

/// What the command line adds to a script.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `$1` and on.
    pub params: Vec<String>,
    /// `--name` and `--name=value` behind `--`.
    pub named: Vec<(String, Option<String>)>,
    /// `--unsafe`.
    pub unsafe_mode: bool,
    /// `-k`: count failed reads and lookups too.
    pub verbose_warnings: bool,
    /// `-p`.
    pub pid: Option<u32>,
    /// `-c` is given.
    pub has_child: bool,
    /// What else the run is about.
    pub scope: Scope,
    /// Features that `--no-feature` hides.
    pub no_feature: Vec<String>,
    /// Environment variables, for config keys.
    pub environment: Vec<(String, String)>,
    /// `--probe-filter`.
    pub probe_filter: Option<String>,
    /// For an object that runs on other kernels, too.
    pub portable: bool,
    /// For a machine whose numbers begin with their highest byte.
    pub big_endian: bool,
    /// Events say when and for whom they were sent.
    pub stamped: bool,
    /// `--test`, `--bench`.
    pub mode: Mode,
    /// Headers that could not be read, and what to say if they are needed.
    pub refused_headers: Vec<(String, Diagnostic)>,
    /// Objects whose functions the script may call.
    pub objects: Rc<[ObjectFile]>,
}

/// What a run is about, beyond one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// `-p` with several processes.
    pub processes: bool,
    /// `--follow`: the descendants of processes, too.
    pub follow: bool,
    /// `--cgroup` or `--container`.
    pub cgroup: bool,
}

/// A checked script, ready for code generation.
#[derive(Debug)]
pub struct Checked {
    pub module: ir::Module,
    pub plan: Plan,
    /// To be linked to what the module becomes.
    pub objects: Rc<[ObjectFile]>,
}

/// Checks and lowers a script. Without a result, the diagnostics hold errors.
pub fn check(
    script: &ast::Script,
    sources: &Sources,
    host: &Host,
    options: &Options,
) -> (Option<Checked>, Diagnostics) {
    let mut diags = Diagnostics::default();
    let (script, expansions) = &expand::expand(script, &mut diags);
    let mut config = Config::read(&script.config, &options.environment, &mut diags);
    if config.max_strlen == Config::default().max_strlen && !host.has(Feature::LargeKeys) {
        // A string must fit a map key (512 bytes), beside others.
        config.max_strlen = SHORT_STRINGS;
    }
    let cdefs = definitions(script, host, options, &mut diags);
    let probes = attach_points(script, host, options, &config, &mut diags);
    let probes = of_mode(probes, options.mode, &mut diags);
    scope::check(&probes, host, options, &mut diags);
    let probes = match options.portable {
        // What is cheapest is for the machine to say that loads it.
        true => joined(probes, host),
        false => joined(cheapest(probes, host, options, &config, &mut diags), host),
    };
    if diags.has_errors() {
        return (None, diags);
    }
    let outside = function::instance();
    let (checked, found) = check::check(
        script,
        (sources, expansions),
        (&probes, &outside),
        host,
        options,
        &config,
        &cdefs,
    );
    diags.append(found);
    if diags.has_errors() {
        return (None, diags);
    }
    let result = lower::lower(checked, cdefs, sources, host, options, &config);
    match result {
        Ok(mut checked) => {
            if options.portable {
                portable::complete(&mut checked, &script.items, options);
            }
            (Some(checked), diags)
        }
        Err(found) => {
            diags.append(found);
            (None, diags)
        }
    }
}

/// A variable or a map, with its type, for editors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlined {
    /// With its sigil.
    pub name: String,
    /// Where it is first assigned or declared.
    pub span: Span,
    /// As the language writes it.
    pub ty: String,
    /// The probe or function that a variable belongs to; absent for maps.
    pub owner: Option<Span>,
}

/// The variables and maps of a script with their types, as far as they can be known: a
/// script that is wrong has them, too.
pub fn outline(
    script: &ast::Script,
    sources: &Sources,
    host: &Host,
    options: &Options,
) -> Vec<Outlined> {
    let mut diags = Diagnostics::default();
    let (script, expansions) = &expand::expand(script, &mut diags);
    let config = Config::read(&script.config, &options.environment, &mut diags);
    let cdefs = definitions(script, host, options, &mut diags);
    let probes = attach_points(script, host, options, &config, &mut diags);
    let outside = function::instance();
    let texts = (sources, expansions);
    let (checked, _) =
        check::check(script, texts, (&probes, &outside), host, options, &config, &cdefs);
    let functions = checked.functions.iter().map(|(_, f)| &f.program);
    let mut list = Vec::new();
    for program in checked.probes.iter().chain(functions) {
        list.extend(program.vars.iter().map(|var| Outlined {
            name: format!("${}", expand::written(&var.name)),
            span: var.span,
            ty: var.ty.to_string(),
            owner: Some(program.span),
        }));
    }
    list.extend(checked.maps.iter().map(|map| {
        let value = match &map.aggregation {
            Some((aggregation, _)) => format!("{}()", aggregation.function()),
            None => map.value.ty.to_string(),
        };
        let ty = match map.keyed {
            Some((true, _)) => format!("[{}] → {value}", map.key.ty),
            _ => value,
        };
        Outlined { name: format!("@{}", map.name), span: map.span, ty, owner: None }
    }));
    list
}

/// What the C of a script defines. Mistakes in it are not in the script's own language.
fn definitions(
    script: &ast::Script,
    host: &Host,
    options: &Options,
    diags: &mut Diagnostics,
) -> cdefs::Definitions {
    let mut found = Diagnostics::default();
    let refused = &options.refused_headers;
    let definitions = cdefs::Definitions::read(&script.cdefs, refused, host, &mut found);
    found.list.iter_mut().for_each(|d| d.beside = true);
    diags.append(found);
    definitions
}

/// The attach points of a script after expansion, for `-l`.
pub fn expand_names(
    script: &ast::Script,
    host: &Host,
    options: &Options,
) -> (Vec<String>, Diagnostics) {
    let mut diags = Diagnostics::default();
    let (script, _) = &expand::expand(script, &mut diags);
    let config = Config::read(&script.config, &options.environment, &mut diags);
    let probes = attach_points(script, host, options, &config, &mut diags);
    let mut names: Vec<String> = probes
        .iter()
        .filter(|(_, i)| !matches!(i.context.provider, "begin" | "end" | "self"))
        .flat_map(|(_, i)| &i.attach)
        .flat_map(|a| a.probes.iter().map(str::to_owned))
        .collect();
    // Copies of a marker have one name.
    names.dedup();
    (names, diags)
}

/// What the flags and the configuration say of attach points.
fn expansion(options: &Options, config: &Config) -> probes::Options {
    probes::Options {
        params: options.params.clone(),
        unsafe_mode: options.unsafe_mode,
        pid: options.pid,
        missing_probes: config.missing_probes,
        no_feature: options.no_feature.clone(),
        portable: options.portable,
    }
}

/// Every probe of the script with every instance of its attach points.
fn attach_points<'s>(
    script: &'s ast::Script,
    host: &Host,
    options: &Options,
    config: &Config,
    diags: &mut Diagnostics,
) -> Vec<(&'s ast::Probe, Instance)> {
    let filter = match options.probe_filter.as_deref().map(regex::Regex::new).transpose() {
        Ok(filter) => filter,
        Err(e) => {
            diags.push(
                Diagnostic::global("`--probe-filter` is no regular expression").note(e.to_string()),
            );
            None
        }
    };
    let mut expansion = expansion(options, config);
    let mut found = Diagnostics::default();
    let mut list = expanded(script, host, &expansion, config, filter.as_ref(), &mut found);
    if probes::too_many_on_an_event(list.iter().map(|(_, instance)| instance)) {
        expansion.no_feature.push(probes::BY_RECORD.to_owned());
        found = Diagnostics::default();
        list = expanded(script, host, &expansion, config, filter.as_ref(), &mut found);
    }
    diags.append(found);
    check_iterators(&list, diags);
    list
}

/// The same as the options of attach points have it.
fn expanded<'s>(
    script: &'s ast::Script,
    host: &Host,
    expansion: &probes::Options,
    config: &Config,
    filter: Option<&regex::Regex>,
    diags: &mut Diagnostics,
) -> Vec<(&'s ast::Probe, Instance)> {
    let mut list: Vec<(&ast::Probe, Instance)> = Vec::new();
    for item in &script.items {
        let Item::Probe(probe) = item else { continue };
        let needs = needs::of(probe);
        let before = list.len();
        for point in &probe.attach_points {
            match probes::expand(point, &needs, host, expansion, diags) {
                Ok(instances) => list.extend(instances.into_iter().map(|i| (probe, i))),
                Err(diagnostic) => diags.push(*diagnostic),
            }
        }
        if list.len() == before && !diags.has_errors() {
            no_attach_point(probe, config, diags);
        }
        if let Some(filter) = filter {
            for (_, instance) in list.iter_mut().skip(before) {
                filter_probes(instance, filter);
            }
            list.retain(|(_, i)| !i.attach.is_empty());
        }
    }
    list
}

/// Probes by the mechanisms that cost least.
fn cheapest<'s>(
    list: Vec<(&'s ast::Probe, Instance)>,
    host: &Host,
    options: &Options,
    config: &Config,
    diags: &mut Diagnostics,
) -> Vec<(&'s ast::Probe, Instance)> {
    let blocks: Vec<&ast::Probe> = list.iter().map(|(probe, _)| *probe).collect();
    let first = |probe: &ast::Probe| blocks.iter().position(|b| std::ptr::eq(*b, probe));
    let keyed = list.into_iter().map(|(p, i)| (first(p).unwrap_or_default(), i)).collect();
    let block = |key: usize| blocks.get(key).copied().expect("bug: a block that was not there");
    let expansion = expansion(options, config);
    let chosen = probes::cheapest(keyed, &|key| needs::of(block(key)), host, &expansion, diags);
    chosen.into_iter().map(|(key, instance)| (block(key), instance)).collect()
}

/// Probes with as few instances as they need.
fn joined<'s>(
    list: Vec<(&'s ast::Probe, Instance)>,
    host: &Host,
) -> Vec<(&'s ast::Probe, Instance)> {
    let mut list = list.into_iter().peekable();
    let mut joined = Vec::new();
    while let Some((probe, first)) = list.next() {
        let mut instances = vec![first];
        while let Some((_, more)) = list.next_if(|(next, _)| std::ptr::eq(*next, probe)) {
            instances.push(more);
        }
        let needs = needs::of(probe);
        instances = probes::join(instances, &needs, host);
        joined.extend(instances.into_iter().map(|instance| (probe, instance)));
    }
    joined
}

/// What is wanted of a script: its tests, its benchmarks, or all but these. What
/// runs before and after goes with each.
fn of_mode<'s>(
    mut list: Vec<(&'s ast::Probe, Instance)>,
    mode: Mode,
    diags: &mut Diagnostics,
) -> Vec<(&'s ast::Probe, Instance)> {
    let around = |i: &Instance| matches!(mechanism(i), Some(Mechanism::Begin | Mechanism::End));
    let fits = |i: &Instance| match (mechanism(i), mode) {
        (Some(Mechanism::Test), mode) => mode == Mode::Test,
        (Some(Mechanism::Bench), mode) => mode == Mode::Bench,
        (_, mode) => mode == Mode::Trace,
    };
    for which in [Mechanism::Test, Mechanism::Bench] {
        unique_names(&list, &which, diags);
    }
    let first = list.first().map(|(probe, _)| probe.span);
    let any = list.iter().any(|(_, i)| fits(i));
    list.retain(|(_, i)| fits(i) || around(i));
    match mode {
        Mode::Trace => {
            if let (Some(span), false) = (first, any) {
                diags.push(
                    Diagnostic::error(span, "the script has nothing but tests and benchmarks")
                        .help("start it with `--test` or `--bench`"),
                );
            }
        }
        Mode::Test | Mode::Bench if any => {}
        Mode::Test => diags.push(Diagnostic::global("the script has no `test` probes")),
        Mode::Bench => diags.push(Diagnostic::global("the script has no `bench` probes")),
    }
    list
}

fn mechanism(instance: &Instance) -> Option<&Mechanism> {
    instance.attach.first().map(|a| &a.mechanism)
}

/// Tests are told apart by their names.
fn unique_names(list: &[(&ast::Probe, Instance)], which: &Mechanism, diags: &mut Diagnostics) {
    let mut seen: Vec<&crate::plan::Attach> = Vec::new();
    for attach in list.iter().flat_map(|(_, i)| &i.attach).filter(|a| a.mechanism == *which) {
        match seen.iter().find(|other| other.probes == attach.probes) {
            Some(first) => {
                let name = attach.probes.first().unwrap_or("");
                diags.push(
                    Diagnostic::error(attach.span, format!("`{name}` is there twice"))
                        .label(first.span, "first here")
                        .help("give one of them another name"),
                );
            }
            None => seen.push(attach),
        }
    }
}

/// A script that iterates does nothing else (probes.md §15), except before and
/// after.
fn check_iterators(list: &[(&ast::Probe, Instance)], diags: &mut Diagnostics) {
    let mut others = list.iter().filter(|(_, i)| i.kind != ir::ProgramKind::Special);
    let Some(first) = others.next() else { return };
    for (_, other) in others {
        let both = [&first.1, other];
        let Some(iterator) = both.iter().find(|i| i.kind == ir::ProgramKind::Iter) else {
            continue;
        };
        let Some(span) = iterator.attach.first().map(|a| a.span) else { continue };
        diags.push(
            Diagnostic::error(span, "an iterator must be the only probe of a script")
                .note("the run ends when it has gone through everything")
                .help("`begin` and `end` probes may stand beside it"),
        );
        return;
    }
}

/// What is said of a probe whose attach points all match nothing (probes.md §19).
fn no_attach_point(probe: &ast::Probe, config: &Config, diags: &mut Diagnostics) {
    let span = probe.attach_points.first().map_or(probe.span, |p| p.span);
    let message = "the probe matches nothing on this machine";
    match config.missing_probes {
        MissingProbes::Error => diags.push(
            Diagnostic::error(span, message)
                .help("write `config = { missing_probes = \"warn\" }` to go on without it"),
        ),
        MissingProbes::Warn => {
            diags.push(Diagnostic::warning(Warning::MissingProbe, span, message).at("left out"));
        }
        MissingProbes::Ignore => {}
    }
}

/// Drops the probes that fail to match `--probe-filter`.
fn filter_probes(instance: &mut Instance, filter: &regex::Regex) {
    if matches!(instance.context.provider, "begin" | "end") {
        return;
    }
    probes::filter(instance, &|probe| filter.is_match(probe));
}
