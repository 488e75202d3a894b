//! Kprobes by trampolines: what costs least and means the same.
//!
//! A trampoline is several times cheaper than a breakpoint, and knows at the
//! return what a function was called with. It has no registers, though, and
//! calls programs of one spot in another order than kprobes do: so it takes
//! the place of a kprobe if the block asks for nothing else, and no other
//! block keeps a kprobe on the function. A long list of functions stays one
//! program on many places, since every trampoline needs a program of its own.
//!
//! It also makes kretprobes reliable on kernels before `kprobe.multi`, which
//! drop calls in silence if too many have not returned yet (`maxactive`,
//! kernel/kprobes.c): there, the few functions of a pattern get one each, too.
//!
//! Where the kernel preempts programs on trampolines, it skips calls of other threads on that CPU
//! meanwhile: there, kprobes stay what they are, since they keep preemption off, and a kretprobe is
//! a `kprobe.multi` link (on kernels without that, a trampoline nevertheless).
//! `--no-feature fentry` does without all of this.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use super::{Access, Argument, Context, Instance, Needs, Options, fentry, in_register, keep};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::host::btf::Function;
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::plan::{Attach, Mechanism, Names};
use crate::types::{Space, Type};

/// Programs of one block that trampolines are made for.
const FEW: usize = 8;

/// Parameters that a trampoline of all kernels can pass on: as many as there are registers
/// (`MAX_BPF_FUNC_REG_ARGS`, arch/x86/net/bpf_jit_comp.c).
const PARAMS: usize = 6;

/// Functions that the kernel does not let trampolines be made for (`btf_id_deny`, kernel/bpf/verifier.c),
/// by parts of their names.
const DENIED: [&str; 5] =
    ["migrate_enable", "migrate_disable", "rcu_read_", "preempt_count_", "bpf_"];

/// Functions that do not return.
const ENDLESS: [&str; 10] = [
    "__module_put_and_kthread_exit",
    "__x64_sys_exit",
    "__x64_sys_exit_group",
    "do_exit",
    "do_group_exit",
    "kthread_complete_and_exit",
    "kthread_exit",
    "make_task_dead",
    "rewind_stack_and_make_dead",
    "stop_this_cpu",
];

/// The instances of all blocks, each with the key of its block and what the block needs, by what
/// costs least.
pub fn cheapest<K: Copy + Eq>(
    list: Vec<(K, Instance)>,
    needs: &dyn Fn(K) -> Needs,
    host: &Host,
    options: &Options,
    diags: &mut Diagnostics,
) -> Vec<(K, Instance)> {
    let list = with_trampolines(list, needs, host, options, diags);
    returns_by_multi(keep::by_sessions(list, host), host)
}

/// The instances with trampolines where they do.
fn with_trampolines<K: Copy + Eq>(
    list: Vec<(K, Instance)>,
    needs: &dyn Fn(K) -> Needs,
    host: &Host,
    options: &Options,
    diags: &mut Diagnostics,
) -> Vec<(K, Instance)> {
    let kprobes = |i: &Instance| i.attach.iter().any(|link| functions(link).next().is_some());
    let candidates = list.iter().any(|(_, i)| kprobes(i));
    if !candidates {
        return list;
    }
    let trampolines = host.has(Feature::Fentry) && !options.unsafe_mode;
    let multi = host.has(Feature::KprobeMulti);
    let steady = trampolines && host.has(Feature::NopreemptTrampolines);
    let list: Vec<(K, Instance)> = match trampolines && !multi {
        false => list,
        true => list
            .into_iter()
            .flat_map(|(key, i)| {
                let known = LazyCell::new(|| Known::of([&i].into_iter(), host));
                apart(&i, &needs(key), host, &known).into_iter().map(move |i| (key, i))
            })
            .collect(),
    };
    let known = LazyCell::new(|| Known::of(list.iter().map(|(_, i)| i), host));
    let of_block = |key: K| list.iter().filter(|(k, _)| *k == key).count();
    let instead: Vec<Option<Instance>> = list
        .iter()
        .map(|(key, instance)| {
            let (.., ret) = kprobe(instance)?;
            if !(steady || trampolines && ret && !multi) {
                return None;
            }
            let needs = needs(*key);
            // One program in a session is cheaper than many on trampolines.
            let kept = kept_arguments(instance, &needs) && !host.has(Feature::KprobeSession);
            let few = of_block(*key) <= FEW || kept;
            if few { by_trampoline(instance, &needs, host, &known) } else { None }
        })
        .collect();
    let mut kept: HashSet<&str> = HashSet::new();
    for ((_, instance), instead) in list.iter().zip(&instead) {
        if instead.is_none() {
            kept.extend(instance.attach.iter().flat_map(functions));
        }
    }
    let stays = |key: K, instance: &Instance| {
        !kept_arguments(instance, &needs(key))
            && instance.attach.iter().flat_map(functions).any(|f| kept.contains(f))
    };
    let stays: Vec<bool> = list.iter().map(|(key, i)| stays(*key, i)).collect();
    // Of a pattern, those that have no arguments at their return are left out.
    let has_them: Vec<bool> = list
        .iter()
        .zip(&instead)
        .zip(&stays)
        .map(|(((_, i), instead), stays)| instead.is_some() && !stays || i.keeper.is_some())
        .collect();
    let some = |key: K| list.iter().zip(&has_them).any(|((k, _), has)| *k == key && *has);
    let left_out: Vec<bool> = list
        .iter()
        .zip(&has_them)
        .map(|((key, i), has)| !has && kept_arguments(i, &needs(*key)) && some(*key))
        .collect();
    tell(list.iter().map(|(key, i)| (*key, i)).zip(left_out.iter().copied()), diags);
    let chosen = list.into_iter().zip(instead).zip(stays.into_iter().zip(left_out));
    chosen
        .filter_map(|(((key, instance), instead), (stays, left_out))| match instead {
            Some(instead) if !stays => Some((key, instead)),
            _ => (!left_out).then_some((key, instance)),
        })
        .collect()
}

/// The instances whose one kretprobe would be a trampoline, if it were not for preemption, by a link
/// that does not drop returns.
fn returns_by_multi<K>(list: Vec<(K, Instance)>, host: &Host) -> Vec<(K, Instance)> {
    let wanted: HashSet<&str> = list.iter().filter_map(|(_, i)| lone_return(i)).collect();
    let possible = host.has(Feature::Fentry) && host.has(Feature::KprobeMulti);
    if wanted.is_empty() || !possible || host.has(Feature::NopreemptTrampolines) {
        return list;
    }
    let Ok(all) = host.traceable_functions() else { return list };
    let traced: HashSet<String> =
        all.map(|f| f.name).filter(|n| wanted.contains(n)).map(str::to_owned).collect();
    let by_multi = |mut instance: Instance| {
        let function = lone_return(&instance).filter(|f| traced.contains(*f)).map(str::to_owned);
        if let (Some(function), Some(link)) = (function, instance.attach.first_mut()) {
            link.mechanism = Mechanism::KprobeMulti { functions: vec![function].into(), ret: true };
            "kretprobe.multi".clone_into(&mut instance.section);
        }
        instance
    };
    list.into_iter().map(|(key, instance)| (key, by_multi(instance))).collect()
}

/// The function of the kernel itself at whose return an instance is, and nowhere else.
fn lone_return(instance: &Instance) -> Option<&str> {
    let alone = instance.keeper.is_none();
    kprobe(instance).filter(|(module, _, ret)| alone && *ret && *module == "vmlinux").map(|k| k.1)
}

/// What the kernel says of the functions that trampolines may be made for, by module and name; looked
/// up at once, since each look goes through all functions.
#[derive(Default)]
struct Known {
    functions: HashMap<String, HashMap<String, Function>>,
    traced: HashMap<String, HashSet<String>>,
}

impl Known {
    fn of<'i>(instances: impl Iterator<Item = &'i Instance>, host: &Host) -> Known {
        let mut known = Known::default();
        let mut wanted: HashMap<&str, HashSet<&str>> = HashMap::new();
        for link in instances.flat_map(|i| &i.attach) {
            if let Mechanism::Kprobe { function, module, offset: 0, .. } = &link.mechanism {
                let module = module.as_deref().unwrap_or("vmlinux");
                wanted.entry(module).or_default().insert(function);
            }
        }
        if wanted.is_empty() {
            return known;
        }
        let (Ok(btf), Ok(traceable)) = (host.btf(), host.traceable_functions()) else {
            return known;
        };
        for (module, names) in &wanted {
            known.functions.insert((*module).to_owned(), btf.functions_in(module, names));
        }
        for found in traceable {
            let module = found.module.unwrap_or("vmlinux");
            if wanted.get(module).is_some_and(|names| names.contains(found.name)) {
                let names = known.traced.entry(module.to_owned()).or_default();
                names.insert(found.name.to_owned());
            }
        }
        known
    }
}

/// A pattern's few functions by themselves, if each return gets a trampoline.
fn apart(
    instance: &Instance,
    needs: &Needs,
    host: &Host,
    known: &dyn Deref<Target = Known>,
) -> Vec<Instance> {
    if !(2..=FEW).contains(&instance.attach.len()) {
        return vec![instance.clone()];
    }
    let alone = |link: &Attach| Instance {
        attach: vec![Attach { cookies: Vec::new(), ..link.clone() }],
        ..instance.clone()
    };
    let returns = |i: &Instance| {
        kprobe(i).is_some_and(|(.., ret)| ret) && by_trampoline(i, needs, host, known).is_some()
    };
    let all: Vec<Instance> = instance.attach.iter().map(alone).collect();
    if all.iter().all(returns) { all } else { vec![instance.clone()] }
}

/// How many names a warning about functions that are left out has.
const SHOWN: usize = 5;

/// Says, for each block, which functions of its patterns are left out.
fn tell<'i, K: Copy + Eq>(
    list: impl Iterator<Item = ((K, &'i Instance), bool)>,
    diags: &mut Diagnostics,
) {
    let mut blocks: Vec<(K, usize, Vec<&Attach>)> = Vec::new();
    for ((key, instance), left_out) in list {
        if !blocks.iter().any(|(known, ..)| *known == key) {
            blocks.push((key, 0, Vec::new()));
        }
        if let Some((_, all, out)) = blocks.iter_mut().find(|(known, ..)| *known == key) {
            *all += instance.attach.len();
            out.extend(instance.attach.iter().filter(|_| left_out));
        }
    }
    for (_, all, out) in blocks {
        let Some(first) = out.first() else { continue };
        let count = out.len();
        let message = format!("{count} of {all} functions are left out");
        let names = out.iter().take(SHOWN).flat_map(|link| functions(link));
        let mut names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        if count > SHOWN {
            names.push(format!("{} others", count - SHOWN));
        }
        diags.push(
            Diagnostic::warning(Warning::MissingProbe, first.span, message)
                .note(format!("`args` are gone when they return: {}", names.join(", ")))
                .help("a probe without `args` gets them all"),
        );
    }
}

/// Arguments are wanted when the function returns, which a trampoline has without more ado.
fn kept_arguments(instance: &Instance, needs: &Needs) -> bool {
    instance.context.provider == "kretprobe" && needs.args()
}

/// Kernel functions that a link attaches to by kprobes.
fn functions(link: &Attach) -> impl Iterator<Item = &str> {
    let (one, many) = match &link.mechanism {
        Mechanism::Kprobe { function, .. } => (Some(function), None),
        Mechanism::KprobeMulti { functions, .. } => (None, Some(functions)),
        _ => (None, None),
    };
    let many = many.into_iter().flat_map(Names::iter);
    one.into_iter().map(String::as_str).chain(many)
}

/// The one kprobe of an instance: module, function, whether at the return.
fn kprobe(instance: &Instance) -> Option<(&str, &str, bool)> {
    let [link] = instance.attach.as_slice() else { return None };
    match &link.mechanism {
        Mechanism::Kprobe { function, module, offset: 0, ret } if !function.is_empty() => {
            Some((module.as_deref().unwrap_or("vmlinux"), function, *ret))
        }
        _ => None,
    }
}

/// The same by a trampoline, if the block cannot tell.
fn by_trampoline(
    instance: &Instance,
    needs: &Needs,
    host: &Host,
    known: &dyn Deref<Target = Known>,
) -> Option<Instance> {
    let (module, name, exit) = kprobe(instance)?;
    if needs.raw_context
        || needs.typed_pointers
        || needs.func && !host.has(Feature::FuncIp)
        || DENIED.iter().any(|part| name.contains(part))
        || exit && ENDLESS.contains(&name)
        || fentry::takes_lock(name)
    {
        return None;
    }
    let function = known.functions.get(module)?.get(name)?;
    let in_word = |ty: &Type| !matches!(ty, Type::Struct(_) | Type::Unsupported(_));
    let fits = function.params.len() <= PARAMS
        && function.params.iter().all(|p| in_word(&p.ty))
        && (function.result != Type::Void || !needs.retval);
    if !fits {
        return None;
    }
    let numbered = numbered(function, needs)?;
    if !known.traced.get(module).is_some_and(|names| names.contains(name)) {
        return None;
    }
    let (args, end) = fentry::arguments(function);
    let args = match args.is_empty() {
        true => Err(format!("`{name}` has no parameters")),
        false => Ok(args),
    };
    let mut context = instance.context.clone();
    if let Ok(Argument { access, .. }) = &mut context.retval {
        *access = match function.result {
            Type::Ptr { .. } => Access::Number { offset: end },
            _ => Access::Context { offset: end, size: 8 },
        };
    }
    let provider = if exit { "fexit" } else { "fentry" };
    let mechanism =
        Mechanism::Trampoline { function: name.to_owned(), module: module.to_owned(), exit };
    Some(Instance {
        kind: ProgramKind::Trampoline,
        section: fentry::section(provider, module, name),
        context: Context {
            args,
            numbered: if exit { context.numbered } else { Ok(numbered) },
            ctx: Err("nothing here needs registers".into()),
            registers: None,
            func: fentry::func(host),
            ..context
        },
        attach: instance
            .attach
            .iter()
            .map(|link| Attach {
                mechanism: mechanism.clone(),
                cookies: Vec::new(),
                ..link.clone()
            })
            .collect(),
        syscalls: None,
        keeper: None,
    })
}

/// `argN`, the words in registers, as far as a trampoline has them whole; nothing if the block uses
/// another.
fn numbered(function: &Function, needs: &Needs) -> Option<Vec<Argument>> {
    let whole = |n: usize| {
        let param = function.params.get(n)?;
        let offset = u32::try_from(8 * n).ok()?;
        let access = match &param.ty {
            Type::Ptr { .. } | Type::Array { .. } => Access::Number { offset },
            ty if ty.size() == 8 => Access::Context { offset, size: 8 },
            _ => return None,
        };
        let ty = in_register(Type::UINT64, Space::Kernel);
        Some(Argument { name: format!("arg{n}"), ty, access })
    };
    if !needs.numbered.iter().all(|n| whole(*n).is_some()) {
        return None;
    }
    // Those that are not used, and not whole, are only counted.
    let none = |n: usize| Argument {
        name: format!("arg{n}"),
        ty: Type::UINT64,
        access: Access::Number { offset: 0 },
    };
    Some((0..function.params.len()).map(|n| whole(n).unwrap_or_else(|| none(n))).collect())
}
