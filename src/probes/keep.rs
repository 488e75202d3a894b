//! Arguments at the return of a function, where nothing else has them any more.
//!
//! A program at the entry keeps what the block uses, one at the return takes
//! it. Both find the frame of the call by its place on the stack, where no two
//! calls are at a time, and tell functions apart that share one (by a jump in
//! place of a last call).

use std::collections::HashSet;

use super::{Access, Argument, Func, Instance, Keeper, Keeping, Needs};
use crate::host::Host;
use crate::host::features::Feature;
use crate::plan::{Attach, Mechanism};

/// The arguments of a function as its return finds them, and the registers to keep for that.
pub(super) fn kept(args: &[Argument], needs: &Needs) -> (Vec<Argument>, Vec<u32>) {
    let mut registers: Vec<u32> = Vec::new();
    let at_return = |argument: &Argument| {
        let used = needs.whole_args || needs.args_fields.contains(&argument.name);
        let word = match argument.access {
            Access::Context { offset, size: 8 } if used => {
                let known = registers.iter().position(|r| *r == offset);
                known.unwrap_or_else(|| {
                    registers.push(offset);
                    registers.len() - 1
                })
            }
            _ => 0,
        };
        let word = u32::try_from(word).unwrap_or(0);
        Argument { access: Access::Kept { word }, ..argument.clone() }
    };
    (args.iter().map(at_return).collect(), registers)
}

/// A program at the return of functions with the one at their entry; `section` is that of
/// such programs, `func` how both learn the function.
pub(super) fn with_keeper(
    instance: Instance,
    registers: Vec<u32>,
    section: &str,
    func: Option<Func>,
) -> Instance {
    let entry = |link: &Attach| {
        let mechanism = at_entry(&link.mechanism)?;
        let probes = Vec::<String>::new();
        Some(Attach { probes: probes.into(), cookies: Vec::new(), mechanism, span: link.span })
    };
    let attach = instance.attach.iter().filter_map(entry).collect();
    let way = Keeping::Program { section: section.to_owned(), attach };
    let keeper = Keeper { registers, func, way };
    Instance { keeper: Some(keeper), ..instance }
}

/// The same place when a function is called; nothing for what is no return.
fn at_entry(mechanism: &Mechanism) -> Option<Mechanism> {
    let mut entry = mechanism.clone();
    match &mut entry {
        Mechanism::Kprobe { ret, .. }
        | Mechanism::KprobeMulti { ret, .. }
        | Mechanism::Uprobe { ret, .. }
        | Mechanism::UprobeMulti { ret, .. } => *ret = false,
        _ => return None,
    }
    Some(entry)
}

/// Instances whose arguments a program at the entry keeps by one program that runs at both ends,
/// where the kernel has that.
pub(super) fn by_sessions<K>(list: Vec<(K, Instance)>, host: &Host) -> Vec<(K, Instance)> {
    let wanted: HashSet<&str> = list.iter().flat_map(|(_, i)| functions(i)).collect();
    if wanted.is_empty() || !has_sessions(host) {
        return list;
    }
    let Ok(all) = host.traceable_functions() else { return list };
    let traced: HashSet<&str> = all.map(|f| f.name).filter(|name| wanted.contains(name)).collect();
    let possible =
        |i: &Instance| functions(i).next().is_some() && functions(i).all(|f| traced.contains(f));
    let possible: Vec<bool> = list.iter().map(|(_, i)| possible(i)).collect();
    let chosen = list.into_iter().zip(possible);
    chosen.map(|((key, i), possible)| (key, if possible { by_session(i) } else { i })).collect()
}

/// The functions at whose return an instance gets kept arguments, if all of them are the kernel's
/// own.
fn functions(instance: &Instance) -> impl Iterator<Item = &str> {
    let links = instance.keeper.as_ref().map_or(&[][..], |_| &instance.attach);
    let all = links.iter().all(|link| function(link).is_some());
    links.iter().filter(move |_| all).filter_map(function)
}

fn function(link: &Attach) -> Option<&str> {
    match &link.mechanism {
        Mechanism::Kprobe { function, module: None, offset: 0, ret: true } => Some(function),
        _ => None,
    }
}

fn by_session(instance: Instance) -> Instance {
    let session = |link: Attach| match &link.mechanism {
        Mechanism::Kprobe { function, .. } => {
            let functions = vec![function].into();
            Attach { mechanism: Mechanism::KprobeSession { functions }, ..link }
        }
        _ => link,
    };
    Instance {
        section: SECTION.to_owned(),
        attach: instance.attach.into_iter().map(session).collect(),
        keeper: instance.keeper.map(|keeper| Keeper { way: Keeping::Session, ..keeper }),
        ..instance
    }
}

/// Whether programs can run at both ends of a call, and be told which it is.
fn has_sessions(host: &Host) -> bool {
    let told = |name: &&str| host.btf().is_ok_and(|btf| btf.prototype(name).is_some());
    host.has(Feature::KprobeSession)
        && host.has(Feature::FuncIp)
        && [IS_RETURN, COOKIE].iter().all(told)
}

const SECTION: &str = "kprobe.session";

/// Functions of the kernel that tell a program in a session where it is, and give it a word for
/// each call.
pub(crate) const IS_RETURN: &str = "bpf_session_is_return";
pub(crate) const COOKIE: &str = "bpf_session_cookie";
