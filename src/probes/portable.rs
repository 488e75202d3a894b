//! Attach points of stored objects, matched with the machine that loads them: the same expansion
//! that scripts go through when they are compiled, and a check that what it finds is what the
//! programs were compiled for.

use super::{Access, Instance, Needs, Options, expand, join};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::host::features::Feature;
use crate::parser::ast::AttachPoint;
use crate::plan::portable::{Lookup, Part, Point, Portable};
use crate::plan::{self, Attach, Mechanism, MissingProbes, Param, Plan};

/// What is said when an object is resolved.
struct Resolver<'a> {
    portable: &'a Portable,
    host: &'a Host,
    options: Options,
    /// What was done without for each point, to get what its program was built for.
    built: Vec<Vec<String>>,
    diags: Diagnostics,
}

/// Fills in what an object for several kernels leaves open: links, words, and whether the kernel
/// has what the programs need. `named` has the words of each named parameter.
pub fn resolve(plan: &mut Plan, host: &Host, pid: Option<u32>, named: &[Vec<u64>]) -> Diagnostics {
    let Some(portable) = plan.portable.take() else { return Diagnostics::default() };
    let options = Options {
        params: portable.params.clone(),
        unsafe_mode: portable.unsafe_mode,
        pid,
        missing_probes: plan.config.missing_probes,
        no_feature: Vec::new(),
        portable: false,
    };
    let built = vec![Vec::new(); portable.points.len()];
    let mut resolver =
        Resolver { portable: &portable, host, options, built, diags: Diagnostics::default() };
    resolver.check_features();
    let mut programs = std::mem::take(&mut plan.programs);
    let mut found: Vec<Vec<Instance>> = Vec::new();
    for program in &mut programs {
        found.push(resolver.program(program));
    }
    // The ones whose points are not there at all.
    let mut instances = found.into_iter();
    programs.retain(|program| {
        let here = instances.next().unwrap_or_default();
        program.points.is_empty() || !here.is_empty() || !program.attach.is_empty()
    });
    plan.programs = programs;
    let mut params = std::mem::take(&mut plan.params);
    for param in &mut params {
        *param = resolver.param(*param, named);
    }
    plan.params = params;
    let diags = resolver.diags;
    plan.portable = Some(portable);
    diags
}

impl Resolver<'_> {
    fn check_features(&mut self) {
        for name in &self.portable.requires {
            let Some(feature) = Feature::find(name) else {
                let message = format!("the script needs `{name}`, which this rtrace does not know");
                self.diags.push(Diagnostic::global(message));
                continue;
            };
            if !self.host.has(feature) {
                let since = feature.info().since;
                self.diags.push(
                    Diagnostic::global(format!(
                        "this kernel lacks `{name}`, which the script needs"
                    ))
                    .note(format!("it came with Linux {since}")),
                );
            }
        }
    }

    /// Where a program goes; the instances that it is for.
    fn program(&mut self, program: &mut plan::Program) -> Vec<Instance> {
        let points: Vec<&Point> =
            program.points.iter().filter_map(|at| self.portable.points.get(*at as usize)).collect();
        let Some(first) = points.first() else { return Vec::new() };
        let needs = first.needs.clone();
        let built = program.attach.first().map(|a| a.mechanism.clone());
        // System calls are traced as the program was built to.
        self.options.no_feature =
            built.as_ref().map(super::tracepoint::as_built).unwrap_or_default();
        for point in &program.points {
            if let Some(built) = self.built.get_mut(*point as usize) {
                built.clone_from(&self.options.no_feature);
            }
        }
        let mut instances = self.instances(&points, &needs, self.host);
        let same = |i: &Instance| {
            i.attach.iter().all(|a| built.as_ref().is_none_or(|b| alike(b, &a.mechanism)))
        };
        if let Some(other) = instances.iter().find(|i| !same(i)) {
            let name = other.attach.first().and_then(|a| a.probes.first());
            let message = format!(
                "`{}` needs another kind of program on this kernel",
                name.unwrap_or(first.text.as_str())
            );
            let d =
                Diagnostic::error(first.span, message).note("the object was built for another one");
            self.diags.push(d.help("build it again for this kernel, or run the script itself"));
            return Vec::new();
        }
        let links = instances.iter().flat_map(|i| &i.attach);
        let (many, single) =
            links.fold((false, false), |(many, single), link| match link.mechanism {
                Mechanism::KprobeMulti { .. } | Mechanism::UprobeMulti { .. } => (true, single),
                _ => (many, true),
            });
        // The kernel does not let a program be both.
        if many && single {
            for instance in &mut instances {
                instance.attach = instance.attach.iter().flat_map(singles).collect();
            }
        }
        // Which call has which name is in the program's own table.
        if instances.iter().any(|i| i.syscalls.is_some()) {
            return instances;
        }
        program.attach = instances.iter().flat_map(|i| i.attach.clone()).collect();
        instances
    }

    fn instances(&mut self, points: &[&Point], needs: &Needs, host: &Host) -> Vec<Instance> {
        let mut all = Vec::new();
        for point in points {
            let label =
                point.label.as_ref().map(|l| crate::source::Spanned::new(l.clone(), point.span));
            let parsed = AttachPoint { label, text: point.text.clone(), span: point.span };
            match expand(&parsed, needs, host, &self.options, &mut self.diags) {
                Ok(found) => {
                    for instance in found {
                        if self.fits(point, &instance) {
                            all.push(instance);
                        }
                    }
                }
                Err(diagnostic) => self.diags.push(*diagnostic),
            }
        }
        join(all, needs, host)
    }

    /// Whether a match has its arguments where the program looks for them.
    fn fits(&mut self, point: &Point, instance: &Instance) -> bool {
        for argument in &point.arguments {
            let found = instance.context.args.as_ref().ok();
            let found = found.and_then(|args| args.iter().find(|a| a.name == argument.name));
            let reason = match found {
                None => format!("`{}` has no `{}` on this kernel", point.text, argument.name),
                Some(found)
                    if argument.place.is_empty() || argument.place == place(found.access) =>
                {
                    continue;
                }
                Some(_) => {
                    format!("`{}` of `{}` is elsewhere on this kernel", argument.name, point.text)
                }
            };
            let d =
                Diagnostic::error(point.span, reason).note("the object was built for another one");
            match self.options.missing_probes {
                MissingProbes::Error => {
                    self.diags
                        .push(d.help("build it again for this kernel, or run the script itself"));
                }
                MissingProbes::Warn => self.diags.push(d.weaken(Warning::MissingProbe)),
                MissingProbes::Ignore => {}
            }
            return false;
        }
        true
    }

    /// A word, as far as the machine or the user says what it is.
    fn param(&mut self, param: Param, named: &[Vec<u64>]) -> Param {
        match param {
            Param::Argument { point, argument, part } => {
                Param::Known(self.argument(point, argument, part).unwrap_or(0))
            }
            Param::Lookup(number) => Param::Known(self.lookup(number).unwrap_or(0)),
            Param::Option { option, word } => {
                let words = named.get(option as usize);
                Param::Known(words.and_then(|w| w.get(word as usize)).copied().unwrap_or(0))
            }
            other => other,
        }
    }

    fn argument(&mut self, at: u32, argument: u32, part: Part) -> Option<u64> {
        let point = self.portable.points.get(at as usize)?;
        let name = &point.arguments.get(argument as usize)?.name;
        let parsed = AttachPoint { label: None, text: point.text.clone(), span: point.span };
        self.options.no_feature = self.built.get(at as usize).cloned().unwrap_or_default();
        // What is wrong with the point has been said.
        let mut said = Diagnostics::default();
        let found = expand(&parsed, &point.needs, self.host, &self.options, &mut said).ok()?;
        let context = &found.first()?.context;
        let found = context.args.as_ref().ok()?.iter().find(|a| a.name == *name)?;
        match (found.access, part) {
            (
                Access::Context { offset, .. } | Access::DataLocation { offset, .. },
                Part::Offset,
            ) => Some(u64::from(offset)),
            (Access::Context { size, .. }, Part::Size) => Some(u64::from(size)),
            _ => None,
        }
    }

    fn lookup(&mut self, number: u32) -> Option<u64> {
        match self.portable.lookups.get(number as usize)? {
            Lookup::KernelSymbol { name, span } => {
                let symbol = self.host.kernel_symbol(name);
                if symbol.is_none() {
                    let d = Diagnostic::error(*span, format!("the kernel has no symbol `{name}`"));
                    self.diags.push(d.note(
                        "as listed in /proc/kallsyms; addresses there may be hidden by the sysctl \
                         kernel.kptr_restrict",
                    ));
                }
                symbol.map(|s| s.address)
            }
            Lookup::Inode { path, span } => {
                let inode = self.host.inode(path);
                if inode.is_none() {
                    let d = Diagnostic::error(*span, format!("there is no cgroup `{path}`"));
                    self.diags.push(
                        d.help("make it, below the cgroup2 mount, before the object is loaded"),
                    );
                }
                inode
            }
        }
    }
}

/// Whether one program can be attached in both ways.
fn alike(built: &Mechanism, found: &Mechanism) -> bool {
    let kind = |m: &Mechanism| match m {
        Mechanism::KprobeMulti { functions, ret } => {
            let function = functions.first().unwrap_or_default().to_owned();
            let (module, offset, ret) = (None, 0, *ret);
            std::mem::discriminant(&Mechanism::Kprobe { function, module, offset, ret })
        }
        Mechanism::UprobeMulti { path, ret, .. } => std::mem::discriminant(&Mechanism::Uprobe {
            path: path.clone(),
            symbol: String::new(),
            offset: 0,
            counter: 0,
            ret: *ret,
        }),
        other => std::mem::discriminant(other),
    };
    kind(built) == kind(found)
}

/// How a plan writes where an argument is.
pub(crate) fn place(access: Access) -> String {
    format!("{access:?}")
}

/// A link of many places as links of one each.
fn singles(link: &Attach) -> Vec<Attach> {
    let one = |n: usize, mechanism: Mechanism| Attach {
        probes: link.probes.get(n).into_iter().collect(),
        span: link.span,
        mechanism,
        cookies: link.cookies.get(n).copied().into_iter().collect(),
    };
    match &link.mechanism {
        Mechanism::KprobeMulti { functions, ret } => functions
            .iter()
            .enumerate()
            .map(|(n, function)| {
                let (function, ret) = (function.to_owned(), *ret);
                one(n, Mechanism::Kprobe { function, module: None, offset: 0, ret })
            })
            .collect(),
        Mechanism::UprobeMulti { path, symbols, offsets, counters, ret } => offsets
            .iter()
            .enumerate()
            .map(|(n, offset)| {
                let mechanism = Mechanism::Uprobe {
                    path: path.clone(),
                    symbol: symbols.get(n).cloned().unwrap_or_default(),
                    offset: *offset,
                    counter: counters.get(n).copied().unwrap_or(0),
                    ret: *ret,
                };
                one(n, mechanism)
            })
            .collect(),
        _ => vec![link.clone()],
    }
}
