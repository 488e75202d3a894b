//! Attach points of one block that it does not tell apart: they share a program, and places in
//! the same file share a link. A list of names is then as cheap as a pattern.

use std::collections::HashSet;

use super::group;
use super::{Instance, Keeper, Needs};
use crate::host::Host;
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::plan::{self, Attach, Mechanism};

/// Joins the instances of one block, in their order.
pub fn join(instances: Vec<Instance>, needs: &Needs, host: &Host) -> Vec<Instance> {
    if needs.probe_name && !host.has(Feature::AttachCookie) {
        return instances;
    }
    let mut joined: Vec<Instance> = Vec::new();
    for mut instance in instances {
        match joined.iter_mut().find(|known| fit(known, &instance, needs)) {
            Some(known) => {
                if let (Some(all), Some(more)) = (&mut known.syscalls, &instance.syscalls) {
                    let before = known.attach.iter().map(|a| a.probes.len() as u32).sum::<u32>();
                    all.numbers.extend(more.numbers.iter().map(|(n, name)| (*n, name + before)));
                    all.numbers.sort_unstable();
                }
                if let (Some(all), Some(more)) = (
                    known.keeper.as_mut().and_then(Keeper::links_mut),
                    instance.keeper.as_mut().and_then(Keeper::links_mut),
                ) {
                    all.append(more);
                }
                known.section = section(known);
                known.attach.extend(instance.attach);
            }
            None => joined.push(instance),
        }
    }
    for instance in &mut joined {
        let keepers = instance.keeper.as_mut().and_then(Keeper::links_mut);
        for all in keepers.into_iter().chain([&mut instance.attach]) {
            let links = std::mem::take(all);
            let calls = instance.syscalls.is_some();
            for link in links {
                let same = all.iter_mut().find_map(|known| extend(known, &link, calls));
                if same.is_none() {
                    all.push(link);
                }
            }
        }
        if needs.probe_name && instance.syscalls.is_none() {
            number(&mut instance.attach);
        }
    }
    joined
}

/// Whether one program can be that of both.
fn fit(a: &Instance, b: &Instance, needs: &Needs) -> bool {
    let attaches_often = match (&a.syscalls, &b.syscalls) {
        // All of them are about one tracepoint.
        (Some(x), Some(y)) => {
            let distinct = |n: &(u32, u32)| x.numbers.iter().all(|other| other.0 != n.0);
            x.enter == y.enter
                && x.number == y.number
                && x.compat == y.compat
                && y.numbers.iter().all(distinct)
        }
        (None, None) => match a.kind {
            ProgramKind::Kprobe | ProgramKind::Uprobe => true,
            ProgramKind::Tracepoint => !plan::share_event(&a.attach, &b.attach),
            _ => false,
        },
        _ => false,
    };
    // A program that keeps arguments must learn which function it is for to be that of several; and what
    // it keeps of a call is taken once.
    let keepers = match (&a.keeper, &b.keeper) {
        (None, None) => true,
        (Some(x), Some(y)) => {
            x.func.is_some() && x.func == y.func && x.registers == y.registers && !share_place(a, b)
        }
        _ => false,
    };
    let context = |i: &Instance| super::Context { args: Ok(Vec::new()), ..i.context.clone() };
    attaches_often
        && keepers
        && a.kind == b.kind
        && section(a) == section(b)
        && context(a) == context(b)
        && group::shape(&a.context.args, needs) == group::shape(&b.context.args, needs)
}

/// Whether two instances are at the return of the same function.
fn share_place(a: &Instance, b: &Instance) -> bool {
    let places = |i: &Instance| -> HashSet<(String, u64)> {
        let of_link = |link: &Attach| -> Vec<(String, u64)> {
            match &link.mechanism {
                Mechanism::Kprobe { function, .. } => vec![(function.clone(), 0)],
                Mechanism::KprobeMulti { functions, .. }
                | Mechanism::KprobeSession { functions } => {
                    functions.iter().map(|f| (f.to_owned(), 0)).collect()
                }
                Mechanism::Uprobe { path, offset, .. } => vec![(path.clone(), *offset)],
                Mechanism::UprobeMulti { path, offsets, .. } => {
                    offsets.iter().map(|offset| (path.clone(), *offset)).collect()
                }
                _ => Vec::new(),
            }
        };
        i.attach.iter().flat_map(of_link).collect()
    };
    !places(a).is_disjoint(&places(b))
}

/// The section of a program that attaches to more than the place that it may name, as `uprobe` of
/// `uprobe/main`; raw tracepoints are what they name.
fn section(instance: &Instance) -> String {
    let text = instance.section.as_str();
    match instance.kind {
        ProgramKind::BtfTracepoint => text.to_owned(),
        _ => text.split('/').next().unwrap_or(text).to_owned(),
    }
}

/// Takes the places of another link into one, if a link can have both. `calls`: they are those of
/// system calls that the program tells apart by itself.
fn extend(known: &mut Attach, other: &Attach, calls: bool) -> Option<()> {
    match (&mut known.mechanism, &other.mechanism) {
        (
            Mechanism::UprobeMulti { path, symbols, offsets, counters, ret },
            Mechanism::UprobeMulti {
                path: other_path,
                symbols: more_symbols,
                offsets: more_offsets,
                counters: more_counters,
                ret: other_ret,
            },
        ) if path == other_path && ret == other_ret => {
            if !(counters.is_empty() && more_counters.is_empty()) {
                counters.resize(offsets.len(), 0);
                counters.extend(more_counters);
                counters.resize(offsets.len() + more_offsets.len(), 0);
            }
            symbols.extend(more_symbols.iter().cloned());
            offsets.extend(more_offsets);
        }
        (Mechanism::KprobeSession { functions }, Mechanism::KprobeSession { functions: more }) => {
            functions.extend(more.iter())
        }
        (known, other) if calls && known == other => {}
        _ => return None,
    }
    known.probes.extend(other.probes.iter());
    known.cookies.extend(&other.cookies);
    Some(())
}

/// Tells the probes of a program apart by their numbers, if there are several.
fn number(links: &mut [Attach]) {
    let count: usize = links.iter().map(|a| a.probes.len()).sum();
    let mut next = 0u64;
    for link in links {
        let first = next;
        next += link.probes.len() as u64;
        link.cookies = if count > 1 { (first..next).collect() } else { Vec::new() };
    }
}
