//! Entry and return of kernel functions, by breakpoints or ftrace.
//!
//! A name is one perf kprobe. A pattern is one `kprobe.multi` link if the
//! kernel has that, else many perf kprobes with the same program.
//!
//! Where a block cannot tell the difference, a trampoline takes the place of a
//! name's kprobe ([`super::cheapest`]).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::functions;
use super::group::{self, Match};
use super::keep;
use super::list::{Line, Query};
use super::text::{self, Part};
use super::{
    Access, Argument, Context, Expanded, Func, Instance, Looked, Provider, Request, Side,
    in_register,
};
use crate::diag::{Diagnostic, Diagnostics};
use crate::host::Host;
use crate::host::arch::Arch;
use crate::host::btf::Function;
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::parser::ast::TypeTag;
use crate::plan::{Attach, Mechanism, Names};
use crate::types::{Space, Type};

pub(super) static KPROBE: Provider = Provider {
    name: "kprobe",
    aliases: &["k"],
    usage: &["kprobe:vfs_read", "kprobe:module:function"],
    doc: "Fires when a kernel function is called.",
    side: Side::Kernel,
    expand,
    list,
};

pub(super) static KRETPROBE: Provider = Provider {
    name: "kretprobe",
    aliases: &["kr"],
    usage: &["kretprobe:vfs_read", "kretprobe:module:function"],
    doc: "Fires when a kernel function returns. Where `-v` says `perf kretprobe`, the kernel follows only as \
          many calls at a time as it has CPUs, and kernels before 6.7 do not tell how many others there \
          were. Where it says `trampoline`, or `kretprobe.multi` from Linux 6.14 on, it misses none.",
    side: Side::Named,
    expand,
    list,
};

/// A kernel function to attach to.
struct Target<'h> {
    module: Option<Cow<'h, str>>,
    function: Cow<'h, str>,
    offset: u64,
    /// Full name of the probe.
    name: String,
}

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let (module, function) = match request.parts.as_slice() {
        [function] => (None, function),
        [module, function] => (Some(module), function),
        _ => return Err(request.wrong_parts()),
    };
    if function.text.is_empty() {
        return Err(request.wrong_parts());
    }
    if !request.host.has(Feature::Kprobe) {
        return Err(Box::new(no_kprobes(request, &function.text)));
    }
    let pattern = function.is_wildcard() || module.is_some_and(Part::is_wildcard);
    if request.options.portable && !function.text.starts_with(|c: char| c.is_ascii_digit()) {
        return elsewhere(request, module, function, pattern);
    }
    let targets = if pattern {
        all_matching(request, module, function, diags)?
    } else {
        match one(request, module, function)? {
            Ok(target) => vec![target],
            Err(unknown) => return request.missing(unknown, diags),
        }
    };
    let plain = module.is_none() && pattern;
    Ok(instances(request, targets, plain && request.host.has(Feature::KprobeMulti)))
}

/// For a machine that is not this one: the functions are looked up there, this one only says what
/// their arguments are.
fn elsewhere(
    request: &Request<'_>,
    module: Option<&Part>,
    function: &Part,
    pattern: bool,
) -> Expanded {
    if pattern && request.needs.probe_name {
        let d =
            request.error_at(function, "which match of a pattern fired is not known everywhere");
        let d = d.note("`probe` has as many values as the kernel has such functions");
        return Err(Box::new(d.help("`func` tells it, or build with `--here` for this kernel")));
    }
    let (name, offset) = offset_of(request, function)?;
    let module = module.map(|m| m.text.as_str());
    let target = Target::new(request.provider, module, name, offset);
    Ok(instances(request, vec![target], false))
}

fn no_kprobes(request: &Request<'_>, function: &str) -> Diagnostic {
    let message = format!("this kernel has no {}s", request.provider.name);
    let d = Diagnostic::error(request.span(), message)
        .note("it was built without `CONFIG_KPROBES`, or they are not allowed here");
    match functions::instead(request.host, request.provider.name, function) {
        Some(help) => d.help(help),
        None => d,
    }
}

fn all_matching<'h>(
    request: &Request<'h>,
    module: Option<&Part>,
    function: &Part,
    diags: &mut Diagnostics,
) -> Result<Vec<Target<'h>>, Box<Diagnostic>> {
    let found = functions::matching(request.host, module, &|name| function.matches(name));
    let mut found = found.map_err(|reason| {
        let message = "the functions of the kernel cannot be looked up";
        Box::new(Diagnostic::error(function.span, message).note(reason))
    })?;
    if found.is_empty() {
        let message = format!("no kernel function matches `{}`", function.text);
        super::nothing_matches(request.point, &message, request.options, diags);
    }
    if module.is_none() {
        // A name then stands for whatever the kernel finds first.
        found.dedup_by_key(|f| f.1);
    }
    let target = |(in_module, name): (Option<&'h str>, &'h str)| {
        let named = module.is_some().then(|| in_module.unwrap_or("vmlinux"));
        Target::new(request.provider, named, name, 0)
    };
    Ok(found.into_iter().map(target).collect())
}

impl<'h> Target<'h> {
    fn new(
        provider: &Provider,
        module: Option<&'h str>,
        function: &'h str,
        offset: u64,
    ) -> Target<'h> {
        let parts = module.into_iter().chain([function]);
        let length = provider.name.len() + parts.clone().map(|p| p.len() + 1).sum::<usize>();
        let mut name = String::with_capacity(length);
        name.push_str(provider.name);
        for part in parts {
            name.push(':');
            name.push_str(part);
        }
        if offset > 0 {
            name = format!("{name}+{offset}");
        }
        let module = module.filter(|m| *m != "vmlinux").map(Cow::Borrowed);
        Target { module, function: Cow::Borrowed(function), offset, name }
    }

    /// Its module and name, to be kept.
    fn key(&self) -> (Option<String>, String) {
        (self.module.clone().map(Cow::into_owned), self.function.clone().into_owned())
    }
}

/// The target of an attach point without a pattern, or what is wrong with its
/// name.
fn one<'r>(request: &Request<'r>, module: Option<&'r Part>, part: &'r Part) -> Looked<Target<'r>> {
    let host = request.host;
    if part.text.starts_with(|c: char| c.is_ascii_digit()) && module.is_none() {
        return by_address(request, part).map(Ok);
    }
    let (function, offset) = offset_of(request, part)?;
    if request.provider.name == KRETPROBE.name && part.text.contains('+') {
        let d = request.error_at(part, "a return probe cannot have an offset");
        return Err(Box::new(d.help(format!("write `kretprobe:{function}`"))));
    }
    let module_name = module.map(|m| m.text.as_str());
    if let Some(m) = module.filter(|m| m.text != "vmlinux" && !host.modules().contains(&m.text)) {
        let message = format!("there is no module `{}`", m.text);
        let d = Diagnostic::error(m.span, message).note("a module must be loaded to be traced");
        return Ok(Err(Box::new(d)));
    }
    let target = Target::new(request.provider, module_name, function, offset);
    if request.options.unsafe_mode {
        return Ok(Ok(target));
    }
    let why_not = if functions::is_unsafe(function) {
        "tracing it is known to go wrong".to_owned()
    } else if is_blacklisted(host, function) {
        "the kernel forbids probes on it".to_owned()
    } else {
        match exists(host, module_name, function) {
            true => return Ok(Ok(target)),
            false => String::new(),
        }
    };
    if !why_not.is_empty() {
        let d = Diagnostic::error(part.span, format!("`{function}` cannot be traced"));
        let d = d.note(why_not).help("`--unsafe` tries it all the same");
        return Ok(Err(Box::new(d)));
    }
    let d = Diagnostic::error(part.span, format!("there is no kernel function `{function}`"));
    let d = match functions::nearest(host, function) {
        Some(near) => d.did_you_mean(part.span, &near),
        None => functions::missing(d, host, function),
    };
    Ok(Err(Box::new(d)))
}

fn is_blacklisted(host: &Host, function: &str) -> bool {
    host.kprobe_blacklist().iter().any(|name| name == function)
}

/// Whether there is such a function. The kernel's types know most of them, and
/// are quicker to ask than the list of traceable functions.
fn exists(host: &Host, module: Option<&str>, function: &str) -> bool {
    let in_types =
        host.btf().is_ok_and(|b| b.function_in(module.unwrap_or("vmlinux"), function).is_some());
    if in_types {
        return true;
    }
    match host.traceable_functions() {
        Ok(mut list) => {
            let here = |m: Option<&str>| module.is_none_or(|p| p == m.unwrap_or("vmlinux"));
            list.any(|f| f.name == function && here(f.module))
        }
        // Nobody knows: the kernel will say.
        Err(_) => host.kernel_symbol(function).is_some() || host.is_live(),
    }
}

/// `function+offset`.
fn offset_of<'p>(request: &Request<'_>, part: &'p Part) -> Result<(&'p str, u64), Box<Diagnostic>> {
    let Some((function, offset)) = part.text.split_once('+') else { return Ok((&part.text, 0)) };
    match text::number(offset) {
        Some(offset) => Ok((function.trim(), offset)),
        None => Err(Box::new(
            request
                .error_at(
                    part,
                    match offset.trim() {
                        "" => "the offset is missing".to_owned(),
                        _ => format!("`{offset}` is not a number"),
                    },
                )
                .help("an offset is a number of bytes, as in `kprobe:vfs_read+4`"),
        )),
    }
}

/// An address, as its symbol and the distance from it.
fn by_address<'h>(request: &Request<'h>, part: &Part) -> Result<Target<'h>, Box<Diagnostic>> {
    let address = text::number(&part.text)
        .ok_or_else(|| request.error_at(part, format!("`{}` is not an address", part.text)))?;
    if !request.options.unsafe_mode {
        let d = request.error_at(part, "probing a bare address needs `--unsafe`");
        return Err(Box::new(d.note("in the middle of an instruction it would break the kernel")));
    }
    let Some((function, offset)) = request.host.kernel_symbol_at(address) else {
        let d = request.error_at(part, format!("no kernel function is at `{}`", part.text));
        return Err(Box::new(d.note("`/proc/kallsyms` says where functions are")));
    };
    let name = format!("{}:{address}", request.provider.name);
    Ok(Target { module: None, function: Cow::Owned(function), offset, name })
}

/// Whether the block of a pattern of `fentry` or `fexit` gets all that it asks for from kprobes, too.
pub(super) fn can_stand_for_trampolines(request: &Request<'_>) -> bool {
    let Request { needs, host, .. } = request;
    let entry = request.provider.name == "fentry";
    host.has(Feature::KprobeMulti)
        && (host.has(Feature::AttachCookie) || !needs.probe_name)
        && (entry || !needs.retval && !needs.args())
        && !needs.typed_pointers
        && !needs.raw_context
}

/// Programs of kprobes for functions of the kernel itself that were asked for as `fentry` or `fexit`.
pub(super) fn for_trampolines(request: &Request<'_>, functions: &[&str]) -> Vec<Instance> {
    let provider = request.provider.name;
    let (own, ret) = match provider {
        "fentry" => (&KPROBE, false),
        _ => (&KRETPROBE, true),
    };
    let targets = functions.iter().map(|function| {
        let name = format!("{provider}:vmlinux:{function}");
        Target { module: None, function: Cow::Borrowed(function), offset: 0, name }
    });
    let stand_in = Request { provider: own, ..request.clone() };
    let named = "arguments have names here; use `args.<name>`";
    let mut instances = instances(&stand_in, targets.collect(), true);
    for Instance { context, .. } in &mut instances {
        context.provider = provider;
        context.numbered = Err(named.into());
        context.ctx = Err(named.into());
        context.registers = None;
        if !ret {
            context.retval = Err("the function has not run yet; use `fexit`".into());
        }
    }
    instances
}

fn instances(request: &Request<'_>, targets: Vec<Target<'_>>, multi: bool) -> Vec<Instance> {
    let mut args = arguments(request, &targets);
    let matches = targets
        .into_iter()
        .map(|target| {
            let args = match args.is_empty() {
                true => None,
                false => args.remove(&target.key()),
            };
            Match { args: args.unwrap_or_else(|| Ok(Vec::new())), target }
        })
        .collect();
    let cookies = request.host.has(Feature::AttachCookie);
    // Trampolines have the arguments of a return, one function each.
    let alone = request.needs.probe_name && !cookies
        || request.provider.name == KRETPROBE.name && request.needs.args();
    let mut instances = Vec::new();
    for group in group::by_arguments(matches, request.needs) {
        if alone {
            instances.extend(group.into_iter().map(|m| instance(request, vec![m], false)));
        } else {
            instances.push(instance(request, group, multi));
        }
    }
    instances
}

fn instance(request: &Request<'_>, group: Vec<Match<Target<'_>>>, multi: bool) -> Instance {
    let ret = request.provider.name == KRETPROBE.name;
    let wants_cookies = request.needs.probe_name && group.len() > 1;
    let section = match (group.as_slice(), multi) {
        (_, true) => format!("{}.multi", request.provider.name),
        ([only], false) => format!("{}/{}", request.provider.name, only.target.function),
        (_, false) => request.provider.name.to_owned(),
    };
    let mut args = Ok(Vec::new());
    let mut targets = Vec::new();
    for (i, found) in group.into_iter().enumerate() {
        if i == 0 {
            args = found.args;
        }
        targets.push(found.target);
    }
    let at_entries = targets.iter().all(|t| t.offset == 0);
    let cookies = |range: std::ops::Range<usize>| -> Vec<u64> {
        if wants_cookies { range.map(|i| i as u64).collect() } else { Vec::new() }
    };
    let attach = if multi {
        let count = targets.len();
        let names: Names = targets.iter().map(|t| &t.name).collect();
        let functions = targets.iter().map(|t| &t.function).collect();
        let link = request.attach(names, Mechanism::KprobeMulti { functions, ret });
        vec![Attach { cookies: cookies(0..count), ..link }]
    } else {
        let link = |(i, target): (usize, Target<'_>)| {
            let (module, function) = target.key();
            let Target { offset, name, .. } = target;
            let mechanism = Mechanism::Kprobe { function, module, offset, ret };
            Attach { cookies: cookies(i..i + 1), ..request.attach(vec![name], mechanism) }
        };
        targets.into_iter().enumerate().map(link).collect()
    };
    let mut kept = Vec::new();
    if ret && let Ok(list) = &mut args {
        (*list, kept) = keep::kept(list, request.needs);
    }
    let mut context = context(request, args);
    if at_entries && request.host.has(Feature::FuncIp) {
        // The instruction pointer is behind the breakpoint, or the call of the tracer.
        context.func = super::fentry::func(request.host);
    }
    let keeps = ret && request.needs.args() && context.args.is_ok();
    let func = context.func.clone().ok();
    let instance = Instance {
        kind: ProgramKind::Kprobe,
        section,
        context,
        attach,
        syscalls: None,
        keeper: None,
    };
    if keeps { keep::with_keeper(instance, kept, KPROBE.name, func) } else { instance }
}

/// What to do where nothing else keeps the arguments of a call.
const KEEP: &str = "keep them in a map at its `kprobe`, by `tid`";

fn context(request: &Request<'_>, args: Result<Vec<Argument>, String>) -> Context {
    let host = request.host;
    let arch = host.arch();
    let none = Context::none(request.provider, Space::Kernel);
    let base = Context {
        ctx: Ok(registers_type(host, request.needs.raw_context)),
        registers: Some(0),
        stacks: true,
        ..none.clone()
    };
    if request.provider.name == KPROBE.name {
        return Context {
            args,
            numbered: Ok(numbered(arch, Space::Kernel)),
            retval: Err("the function has not run yet; use a `kretprobe`".into()),
            func: Ok(Func::InstructionPointer { user: false, distance: 0 }),
            ..base
        };
    }
    let gone = "arguments are gone when a function returns";
    Context {
        args: match request.options.portable {
            // What keeps them best is for each kernel to say.
            true => Err(format!(
                "{gone}, and an object for several kernels does not keep them; use `fexit`, or \
                 build it with `--here`, or {KEEP}"
            )),
            false => args,
        },
        numbered: Err(format!("{gone}; `args` has them by name")),
        retval: result(arch, Space::Kernel).ok_or("the register is not known".into()),
        func: super::fentry::func(host),
        ..base
    }
}

/// `struct pt_regs *`; its name is looked up only if it matters.
pub(super) fn registers_type(host: &Host, used: bool) -> Type {
    let found = match used {
        true => host.btf().ok(),
        false => None,
    };
    let found = found.and_then(|b| b.find_type(Some(TypeTag::Struct), "pt_regs"));
    Type::ptr(found.unwrap_or(Type::Void), Space::Kernel)
}

/// Arguments in registers at the entry of a function.
pub(super) fn numbered(arch: &Arch, space: Space) -> Vec<Argument> {
    let argument = |(i, register): (usize, &&str)| {
        Some(Argument {
            name: format!("arg{i}"),
            ty: Type::Int { size: 8, signed: false, space },
            access: Access::Context { offset: arch.register(register)?, size: 8 },
        })
    };
    arch.arguments.iter().enumerate().filter_map(argument).collect()
}

/// What a function returned.
pub(super) fn result(arch: &Arch, space: Space) -> Option<Argument> {
    Some(Argument {
        name: "retval".into(),
        ty: Type::Int { size: 8, signed: false, space },
        access: Access::Context { offset: arch.register(arch.result)?, size: 8 },
    })
}

type Arguments = HashMap<(Option<String>, String), Result<Vec<Argument>, String>>;

/// Typed arguments of the targets, if the block uses any.
fn arguments(request: &Request<'_>, targets: &[Target<'_>]) -> Arguments {
    let host = request.host;
    let mut found = Arguments::new();
    if !request.needs.args() || request.options.portable && request.provider.name != KPROBE.name {
        return found;
    }
    let mut by_module: HashMap<&str, HashSet<&str>> = HashMap::new();
    for target in targets {
        let module = target.module.as_deref().unwrap_or("vmlinux");
        by_module.entry(module).or_default().insert(&target.function);
    }
    let mut functions: HashMap<&str, HashMap<String, Function>> = HashMap::new();
    let btf = host.btf();
    for (module, names) in &by_module {
        if let Ok(btf) = &btf {
            functions.insert(module, btf.functions_in(module, names));
        }
    }
    let otherwise = match request.provider.name == KPROBE.name {
        true => "use `arg0` and on",
        false => KEEP,
    };
    for target in targets {
        let module = target.module.as_deref().unwrap_or("vmlinux");
        let key = target.key();
        let args = if target.offset > 0 {
            Err("arguments may be gone inside a function; use `reg()`".into())
        } else if let Err(reason) = &btf {
            Err(format!("{reason}; {otherwise}"))
        } else {
            match functions.get(module).and_then(|f| f.get(&*target.function)) {
                Some(function) => Ok(in_registers(function, host.arch())),
                None => Err(format!(
                    "the kernel's types do not describe `{}`; {otherwise}",
                    target.function
                )),
            }
        };
        found.insert(key, args);
    }
    found
}

/// Parameters of a function as far as they are passed in registers.
fn in_registers(function: &Function, arch: &Arch) -> Vec<Argument> {
    let mut registers = arch.arguments.iter();
    let mut list = Vec::new();
    for param in &function.params {
        match &param.ty {
            // Floats have registers of their own.
            Type::Unsupported(_) => {}
            // Large ones are on the stack; small ones take the registers they fill.
            Type::Struct(s) if s.size > 16 => {}
            Type::Struct(s) => {
                let words = s.size.div_ceil(8) as usize;
                if registers.len() >= words {
                    registers.nth(words.saturating_sub(1));
                }
            }
            ty => {
                let Some(offset) = registers.next().and_then(|r| arch.register(r)) else { break };
                list.push(Argument {
                    name: param.name.clone(),
                    ty: in_register(ty.clone(), Space::Kernel),
                    access: Access::Context { offset, size: 8 },
                });
            }
        }
    }
    list
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let host = query.host;
    let provider = query.provider.name;
    // Modules are shown if they are asked for.
    let with_module = query.parts().len() > 1;
    let mut found = functions::matching(host, None, &|_| true)?;
    found.retain(|(module, name)| match with_module {
        true => query.accepts(&[module.unwrap_or("vmlinux"), name]),
        false => query.accepts(&[name]),
    });
    let mut types: HashMap<&str, HashMap<String, Function>> = HashMap::new();
    if query.verbose
        && let Ok(btf) = host.btf()
    {
        let mut by_module: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (module, name) in &found {
            by_module.entry(module.unwrap_or("vmlinux")).or_default().insert(name);
        }
        types.extend(by_module.into_iter().map(|(m, names)| (m, btf.functions_in(m, &names))));
    }
    let line = |(module, name): (Option<&str>, &str)| {
        let module = module.unwrap_or("vmlinux");
        let mut line = Line::of(match with_module {
            true => format!("{provider}:{module}:{name}"),
            false => format!("{provider}:{name}"),
        });
        if let Some(function) = types.get(module).and_then(|t| t.get(name)) {
            line.details = match provider == KPROBE.name {
                true => function
                    .params
                    .iter()
                    .take(host.arch().arguments.len())
                    .enumerate()
                    .map(|(i, p)| format!("{} arg{i}", p.text))
                    .collect(),
                false if function.result == Type::Void => vec!["void".into()],
                false => vec![format!("{} retval", function.result_text)],
            };
        }
        line
    };
    Ok(found.into_iter().map(line).collect())
}
