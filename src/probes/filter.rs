//! Probes by their names (`--probe-filter`): links lose the places that are not wanted.

use super::{Instance, Keeper};
use crate::plan::{Attach, Mechanism, Names};

/// Drops the probes of an instance whose names are not wanted.
pub fn filter(instance: &mut Instance, wanted: &dyn Fn(&str) -> bool) {
    let all = instance.attach.iter().map(|link| link.probes.iter().map(wanted).collect());
    let chosen: Vec<Vec<bool>> = all.collect();
    if let Some(syscalls) = &mut instance.syscalls {
        // They count the names of all links.
        let flat: Vec<bool> = chosen.concat();
        let is_chosen = |name: u32| flat.get(name as usize).copied().unwrap_or(false);
        let before = |name: u32| (0..name).filter(|n| is_chosen(*n)).count();
        let kept = syscalls.numbers.iter().filter(|(_, name)| is_chosen(*name));
        let kept = kept.map(|(n, name)| (*n, u32::try_from(before(*name)).unwrap_or(*name)));
        syscalls.numbers = kept.collect();
    }
    let keeper = instance.keeper.as_mut().and_then(Keeper::links_mut);
    // The links of a keeper stand for those of the instance, one for each.
    for links in keeper.into_iter().chain([&mut instance.attach]) {
        let mut number = 0..;
        links.retain_mut(|link| {
            let chosen = number.next().and_then(|n: usize| chosen.get(n));
            chosen.is_some_and(|chosen| thin(link, chosen))
        });
    }
}

/// Leaves a link the chosen places; whether there are any.
fn thin(link: &mut Attach, chosen: &[bool]) -> bool {
    if chosen.iter().all(|c| *c) {
        return true;
    }
    names(&mut link.probes, chosen);
    pick(&mut link.cookies, chosen);
    match &mut link.mechanism {
        Mechanism::KprobeMulti { functions, .. } | Mechanism::KprobeSession { functions } => {
            names(functions, chosen);
        }
        Mechanism::UprobeMulti { symbols, offsets, counters, .. } => {
            pick(symbols, chosen);
            pick(offsets, chosen);
            pick(counters, chosen);
        }
        // One place, which all of the names are about.
        _ => {}
    }
    chosen.contains(&true)
}

fn names(list: &mut Names, chosen: &[bool]) {
    *list = list.iter().zip(chosen).filter(|(_, c)| **c).map(|(name, _)| name).collect();
}

fn pick<T>(list: &mut Vec<T>, chosen: &[bool]) {
    let mut chosen = chosen.iter();
    list.retain(|_| chosen.next().copied().unwrap_or(true));
}
