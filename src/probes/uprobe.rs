//! Entry and return of functions in user programs and libraries.
//!
//! Symbols become file offsets here; `binaries.rs` makes links of those.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::binaries::{
    self, Place, Places, files, in_root, link, listed_files, open, own_executable,
};
use super::group::{self, Match};
use super::keep;
use super::kprobe;
use super::list::{Line, Query, in_language};
use super::parameters;
use super::source::{expand_source, source};
use super::text::{self, Part};
use super::{Argument, Context, Expanded, Func, Instance, Looked, Provider, Request, Side};
use crate::diag::{self, Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::host::elf::{Binary, ElfFunction, Language, LanguageName};
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::plan::Mechanism;
use crate::types::Space;

pub(super) static UPROBE: Provider = Provider {
    name: "uprobe",
    aliases: &["u"],
    usage: &[
        "uprobe:/bin/bash:readline",
        "uprobe:libfoo:cpp:\"ns::f(int)\"",
        "uprobe:/usr/bin/app@main.c:42",
    ],
    doc: "Fires when a function of a program or library is called, or a line of it runs.",
    side: Side::User,
    expand,
    list,
};

pub(super) static URETPROBE: Provider = Provider {
    name: "uretprobe",
    aliases: &["ur"],
    usage: &[
        "uretprobe:/bin/bash:readline",
        "uretprobe:libfoo:cpp:\"ns::f(int)\"",
        "uretprobe:/usr/bin/app:go:main.f",
    ],
    doc: "Fires when a function of a program or library returns.",
    side: Side::Named,
    expand,
    list,
};

/// What an attach point wants of a binary.
enum Wanted<'p> {
    Symbol { name: &'p str, offset: u64 },
    Address(u64),
    Pattern,
    Mangled(LanguageName),
}

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    if let Some((target, source)) = source(request)? {
        return expand_source(request, &target, &source, diags);
    }
    let (target, language, function) = match request.parts.as_slice() {
        [function] if request.options.pid.is_some() => (None, None, function),
        [target, function] => (Some(target), None, function),
        [target, language, function] => (Some(target), Some(language), function),
        _ => return Err(request.wrong_parts()),
    };
    let language = match language {
        None => None,
        Some(part) => Some(Language::find(&part.text).ok_or_else(|| {
            let d = request.error_at(part, format!("unknown language `{}`", part.text));
            let d = d.note("there are `cpp`, `rust` and `go`");
            Box::new(d.help("if the function's name has colons, put it in quotes"))
        })?),
    };
    if function.text.is_empty() {
        return Err(request.wrong_parts());
    }
    let wanted = wanted(request, language, function)?;
    let files = match target {
        Some(target) => match files(request, target, diags)? {
            Ok(files) => files,
            Err(_) if request.elsewhere() => return Ok(vec![absent(request)]),
            Err(unknown) => return request.missing(unknown, diags),
        },
        None => vec![own_executable(request)?],
    };
    // A pattern for files takes in what cannot be traced; a name does not.
    let exact_file = target.is_none_or(|t| !t.text.contains(['*', '?', '[']));
    let mut found = Vec::new();
    for path in files {
        let binary = match open(request, &path) {
            Ok(binary) => binary,
            Err(_) if !exact_file => continue,
            Err(reason) => {
                let part = target.unwrap_or(function);
                let message = format!("`{}` cannot be traced", path.display());
                return Err(Box::new(Diagnostic::error(part.span, message).note(reason)));
            }
        };
        match places(request, &binary, &path, function, &wanted, diags)? {
            Ok(places) if places.is_empty() => {}
            Ok(places) => {
                let places = guarded(request, &binary, places, function, diags)?;
                if !places.is_empty() {
                    found.push((binary, path, places));
                }
            }
            Err(_) if !exact_file => {}
            Err(_) if request.elsewhere() => return Ok(vec![absent(request)]),
            Err(unknown) => return request.missing(unknown, diags),
        }
        if request.provider.name == URETPROBE.name
            && !at_instructions(request)
            && found.last().is_some_and(|(binary, ..)| binary.is_go())
            && !request.options.unsafe_mode
        {
            return Err(Box::new(go(request, function)));
        }
    }
    if found.is_empty() && request.elsewhere() {
        return Ok(vec![absent(request)]);
    }
    if found.is_empty() {
        let message = format!("`{}` matches no function", request.point.text);
        super::nothing_matches(request.point, &message, request.options, diags);
        return Ok(Vec::new());
    }
    Ok(instances(request, found))
}

/// Places without those where a probe would break the program, which is told; or, if there are no
/// others, an error.
pub(super) fn guarded(
    request: &Request<'_>,
    binary: &Binary,
    mut places: Vec<Place>,
    part: &Part,
    diags: &mut Diagnostics,
) -> Result<Vec<Place>, Box<Diagnostic>> {
    if request.options.unsafe_mode {
        return Ok(places);
    }
    let mistaken = binary.mistaken(places.iter().map(|place| place.offset));
    if mistaken.is_empty() {
        return Ok(places);
    }
    let is_mistaken = |place: &Place| mistaken.contains(&place.offset);
    let names: Vec<&str> =
        places.iter().filter(|p| is_mistaken(p)).map(|place| place.symbol.as_str()).collect();
    let (count, all) = (names.len(), places.len());
    let shown: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    let more = if count > 3 { format!(" and {} others", count - 3) } else { String::new() };
    let note = "the kernel takes the instruction there, one of AVX, for another one, and programs that \
                run it go wrong";
    if count == all && !part.is_wildcard() {
        let message = format!("a probe on `{}` would break programs", part.text);
        let d = request.error_at(part, message).note(note);
        return Err(Box::new(d.help("`--unsafe` probes it all the same")));
    }
    let message = format!("{count} of {all} functions are left out: {}{more}", shown.join(", "));
    diags.push(Diagnostic::warning(Warning::MissingProbe, part.span, message).note(note));
    places.retain(|place| !is_mistaken(place));
    Ok(places)
}

/// Of a binary that only the machine has where the object runs.
fn absent(request: &Request<'_>) -> Instance {
    let name = request.point.text.clone();
    let mechanism = Mechanism::Uprobe {
        path: String::new(),
        symbol: String::new(),
        offset: 0,
        counter: 0,
        ret: request.provider.name == URETPROBE.name,
    };
    let no_names = "the binary is not here to say what its arguments are called; use `arg0` and on";
    Instance {
        kind: ProgramKind::Uprobe,
        section: request.provider.name.to_owned(),
        context: context(request, false, &Err(no_names.into()), 0),
        attach: vec![request.attach(vec![name], mechanism)],
        syscalls: None,
        keeper: None,
    }
}

/// # Errors
/// A bad number, an offset where none can be.
fn wanted<'p>(
    request: &Request<'_>,
    language: Option<Language>,
    function: &'p Part,
) -> Result<Wanted<'p>, Box<Diagnostic>> {
    let text = function.text.as_str();
    if let Some(language) = language {
        return Ok(Wanted::Mangled(LanguageName::new(language, text)));
    }
    if function.is_wildcard() {
        return Ok(Wanted::Pattern);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && !function.quoted {
        let address = text::number(text);
        return Ok(Wanted::Address(
            address
                .ok_or_else(|| request.error_at(function, format!("`{text}` is not an address")))?,
        ));
    }
    let Some((name, offset)) = text.split_once('+').filter(|_| !function.quoted) else {
        return Ok(Wanted::Symbol { name: text, offset: 0 });
    };
    if request.provider.name == URETPROBE.name {
        let d = request.error_at(function, "a return probe cannot have an offset");
        return Err(Box::new(d.help(format!("write `{name}` alone"))));
    }
    let offset = text::number(offset)
        .ok_or_else(|| request.error_at(function, format!("`{offset}` is not a number")))?;
    Ok(Wanted::Symbol { name, offset })
}

/// Places in a binary, or that it has no such function.
fn places(
    request: &Request<'_>,
    binary: &Binary,
    path: &Path,
    part: &Part,
    wanted: &Wanted<'_>,
    diags: &mut Diagnostics,
) -> Looked<Vec<Place>> {
    let prefix = format!("{}:{}", request.provider.name, path.display());
    match wanted {
        Wanted::Address(address) => {
            address_place(request, binary, path, part, *address).map(|p| Ok(vec![p]))
        }
        Wanted::Symbol { name, offset } => {
            let mut found = binary.functions(&|n| n == *name);
            found.dedup_by_key(|f| f.address);
            if found.is_empty() {
                return Ok(Err(Box::new(unknown(request.host, binary, path, part, name))));
            }
            for function in &found {
                check_offset(request, binary, part, function, *offset)?;
            }
            if found.iter().any(|f| f.chooser) {
                let message = format!("`{name}` runs only once in a process");
                diags.push(Diagnostic::warning(Warning::Uncertain, part.span, message).note(
                    "it chooses one of several functions when the program starts (an ifunc)",
                ));
            }
            let place = |f: ElfFunction| Place {
                name: match offset {
                    0 => format!("{prefix}:{}", f.name),
                    offset => format!("{prefix}:{}+{offset}", f.name),
                },
                offset: f.offset + offset,
                symbol: f.name,
                function: (*offset == 0).then_some(f.address),
                counter: 0,
                distance: 0,
            };
            Ok(Ok(found.into_iter().map(place).collect()))
        }
        Wanted::Pattern => {
            let found = binary.functions(&|name| part.matches(name));
            Ok(Ok(distinct(found)
                .map(|f| Place {
                    name: format!("{prefix}:{}", f.name),
                    offset: f.offset,
                    symbol: f.name,
                    function: Some(f.address),
                    counter: 0,
                    distance: 0,
                })
                .collect()))
        }
        Wanted::Mangled(wanted) => {
            if wanted.language() == Language::Go && !binary.is_go() {
                let message = format!("`{}` was not made by Go", path.display());
                return Ok(Err(Box::new(Diagnostic::error(part.span, message))));
            }
            let found = binary.functions(&|name| wanted.matches(name, &text::matches));
            if found.is_empty() && !part.is_wildcard() {
                let title = wanted.language().title();
                let message =
                    format!("`{}` has no {title} function `{}`", path.display(), part.text);
                return Ok(Err(Box::new(Diagnostic::error(part.span, message))));
            }
            let language = wanted.language();
            let mut places = Vec::new();
            for f in distinct(found) {
                let name = language.demangle(&f.name, true).unwrap_or_else(|| f.name.clone());
                let place = Place {
                    name: format!("{prefix}:{}:{name}", language.word()),
                    offset: f.offset,
                    symbol: f.name.clone(),
                    function: Some(f.address),
                    counter: 0,
                    distance: 0,
                };
                if at_instructions(request) {
                    places.extend(return_places(binary, &f, &place, part)?);
                } else {
                    places.push(place);
                }
            }
            Ok(Ok(places))
        }
    }
}

/// Where a function returns.
fn return_places(
    binary: &Binary,
    function: &ElfFunction,
    start: &Place,
    part: &Part,
) -> Result<Vec<Place>, Box<Diagnostic>> {
    let not = |why: String| {
        let message = format!("the return of `{}` cannot be traced", function.name);
        Box::new(Diagnostic::error(part.span, message).note(why))
    };
    let returns = binary.returns(function).map_err(not)?;
    if returns.is_empty() && !part.is_wildcard() {
        return Err(not("it has no instruction that returns".into()));
    }
    let place = |distance: u64| Place {
        offset: start.offset + distance,
        function: None,
        name: start.name.clone(),
        symbol: start.symbol.clone(),
        counter: 0,
        distance,
    };
    Ok(returns.into_iter().map(place).collect())
}

/// Whether returns are found by their instructions, since the return address must stay as it is.
fn at_instructions(request: &Request<'_>) -> bool {
    let language = match request.parts.as_slice() {
        [_, language, _] => Language::find(&language.text),
        _ => None,
    };
    request.provider.name == URETPROBE.name && language == Some(Language::Go)
}

/// Functions of a pattern: each address once, and only whole functions.
fn distinct(found: Vec<ElfFunction>) -> impl Iterator<Item = ElfFunction> {
    let mut seen = std::collections::HashSet::new();
    found.into_iter().filter(move |f| f.size > 0 && !f.chooser && seen.insert(f.address))
}

fn unknown(host: &Host, binary: &Binary, path: &Path, part: &Part, name: &str) -> Diagnostic {
    let message = format!("`{}` has no function `{name}`", path.display());
    let d = Diagnostic::error(part.span, message);
    let inlined = host.user_types().debug_info(binary).ok().and_then(|info| info.inlined(name));
    if let Some(count) = inlined {
        let places = if count == 1 { "one place".into() } else { format!("{count} places") };
        return d
            .note(format!("its code stands in place of its calls (it was inlined in {places})"))
            .help("a line of it can be probed: `uprobe:PATH@FILE:LINE`");
    }
    let close = |n: &str| n.len().abs_diff(name.len()) <= (name.len() / 3).max(1);
    let near = binary.functions(&close);
    if let Some(near) = diag::nearest(name, near.iter().map(|f| f.name.as_str())) {
        return d.did_you_mean(part.span, near);
    }
    if name.contains("::") {
        return d.help("for a name of C++ or Rust, write `cpp:` or `rust:` before it");
    }
    if binary.functions(&|_| true).is_empty() {
        return d.note("it has no symbols at all; debug symbols may be had as a package");
    }
    d
}

fn check_offset(
    request: &Request<'_>,
    binary: &Binary,
    part: &Part,
    function: &ElfFunction,
    offset: u64,
) -> Result<(), Box<Diagnostic>> {
    if request.options.unsafe_mode {
        return Ok(());
    }
    let name = &function.name;
    if function.size == 0 {
        let d = request.error_at(part, format!("the size of `{name}` is not known"));
        return Err(Box::new(
            d.note("it may not be a function").help("`--unsafe` probes it all the same"),
        ));
    }
    if offset >= function.size {
        let message = format!("the offset {offset} is outside of `{name}`");
        let d = request.error_at(part, message);
        return Err(Box::new(d.note(format!("the function has {} bytes", function.size))));
    }
    if offset > 0 && binary.is_instruction(function, offset) == Some(false) {
        let message = format!("no instruction begins at the offset {offset} of `{name}`");
        let d = request.error_at(part, message);
        return Err(Box::new(d.note("a probe in the middle of one would break the program")));
    }
    Ok(())
}

fn address_place(
    request: &Request<'_>,
    binary: &Binary,
    path: &Path,
    part: &Part,
    address: u64,
) -> Result<Place, Box<Diagnostic>> {
    let Some(offset) = binary.file_offset(address) else {
        let message = format!("there is no code at `{}` in `{}`", part.text, path.display());
        return Err(request.error_at(part, message));
    };
    let inside = |f: &ElfFunction| address.checked_sub(f.address).is_some_and(|d| d < f.size);
    let symbol = binary.functions(&|_| true).into_iter().find(inside);
    if symbol.is_none() && !request.options.unsafe_mode {
        let d = request.error_at(part, format!("`{}` is in no function", part.text));
        return Err(Box::new(d.help("`--unsafe` probes it all the same")));
    }
    Ok(Place {
        name: format!("{}:{}:{address}", request.provider.name, path.display()),
        function: symbol.as_ref().map(|f| f.address).filter(|a| *a == address),
        symbol: symbol.map(|f| f.name).unwrap_or_default(),
        offset,
        counter: 0,
        distance: 0,
    })
}

/// Go moves the stacks of its threads when they grow, and with them the return
/// address that the kernel has put there.
fn go(request: &Request<'_>, function: &Part) -> Diagnostic {
    let name = match function.text.contains(['(', ' ', '/']) {
        true => format!("\"{}\"", function.text),
        false => function.text.clone(),
    };
    Diagnostic::error(request.span(), "the return of Go functions cannot be traced in this way")
        .note("Go moves stacks while functions run, and the program would crash")
        .help(format!("write `uretprobe:PATH:go:{name}`: it fires where the function returns"))
}

/// A binary, its path, and places in it.
pub(super) type Found = (Binary, PathBuf, Vec<Place>);

/// Programs for places.
pub(super) fn instances(request: &Request<'_>, found: Vec<Found>) -> Vec<Instance> {
    if at_instructions(request) || !request.needs.args() {
        let no_names = "arguments by name are in `args`".to_owned();
        let binaries = found.into_iter().map(|(_, path, places)| (path, places)).collect();
        return by_distance(request, binaries)
            .into_iter()
            .flat_map(|(distance, binaries)| {
                linked(request, binaries, &Err(no_names.clone()), distance)
            })
            .collect();
    }
    let otherwise = match request.provider.name == UPROBE.name {
        true => "use `arg0` and on",
        false => KEEP,
    };
    let mut matches = Vec::new();
    for (binary, path, places) in found {
        let addresses = places.iter().filter_map(|p| p.function).collect();
        let functions = parameters::described(request.host, &binary, &addresses);
        for place in places {
            let args = match (&functions, place.function) {
                (_, None) => Err("arguments may be gone inside a function; use `reg()`".into()),
                (Err(reason), _) => {
                    Err(format!("`{}` cannot tell: {reason}; {otherwise}", path.display()))
                }
                (Ok(functions), Some(address)) => match functions.get(&address) {
                    Some(function) => Ok(parameters::arguments(function, request.host)),
                    None => Err(format!(
                        "the debug information does not describe `{}`; {otherwise}",
                        place.symbol
                    )),
                },
            };
            matches.push(Match { target: (path.clone(), place), args });
        }
    }
    let mut instances = Vec::new();
    for group in group::by_arguments(matches, request.needs) {
        let args = group.first().map_or(Ok(Vec::new()), |m| m.args.clone());
        let keeps = request.provider.name == URETPROBE.name && args.is_ok();
        let groups = match keeps && !knows_function(request) {
            // A program that is about one function does not have to know which it is.
            true => group.into_iter().map(|m| vec![m]).collect(),
            false => vec![group],
        };
        for group in groups {
            let mut places = Places::new();
            for Match { target: (path, place), .. } in group {
                binaries::add(&mut places, path, place);
            }
            instances.extend(linked(request, places, &args, 0));
        }
    }
    instances
}

/// What to do where nothing else keeps the arguments of a call.
const KEEP: &str = "keep them in a map at its `uprobe`, by `tid`";

/// Whether programs on user functions learn which it is: the kernels that know it are those
/// with `uprobe.multi`.
fn knows_function(request: &Request<'_>) -> bool {
    request.host.has(Feature::FuncIp) && request.host.has(Feature::UprobeMulti)
}

/// Places where functions return, by how far behind the start of the function they are, if the block
/// wants to know the function: a program for each then.
fn by_distance(request: &Request<'_>, binaries: Places) -> Vec<(u64, Places)> {
    if !(at_instructions(request) && request.needs.func) {
        return vec![(0, binaries)];
    }
    let mut found: BTreeMap<u64, Places> = BTreeMap::new();
    for (path, places) in binaries {
        for place in places {
            binaries::add(found.entry(place.distance).or_default(), path.clone(), place);
        }
    }
    found.into_iter().collect()
}

fn linked(
    request: &Request<'_>,
    binaries: Places,
    args: &Result<Vec<Argument>, String>,
    distance: u64,
) -> Vec<Instance> {
    let ret = request.provider.name == URETPROBE.name && !at_instructions(request);
    let linked = link(request, binaries, ret);
    let section = |name: &str| match linked.multi {
        true => format!("{name}.multi"),
        false => name.to_owned(),
    };
    let mut args = args.clone();
    let mut kept = None;
    if let (Ok(list), true) = (&mut args, ret && request.needs.args()) {
        let (at_return, registers) = keep::kept(list, request.needs);
        *list = at_return;
        kept = Some(registers);
    }
    let instance = |attach| {
        let context = context(request, linked.multi, &args, distance);
        let instance = Instance {
            kind: ProgramKind::Uprobe,
            section: section(if ret { URETPROBE.name } else { UPROBE.name }),
            context,
            attach,
            syscalls: None,
            keeper: None,
        };
        let func = knows_function(request).then_some(Func::Helper { user: true });
        match kept.clone() {
            Some(kept) => keep::with_keeper(instance, kept, &section(UPROBE.name), func),
            None => instance,
        }
    };
    linked.programs.into_iter().map(instance).collect()
}

fn context(
    request: &Request<'_>,
    multi: bool,
    args: &Result<Vec<Argument>, String>,
    distance: u64,
) -> Context {
    let host = request.host;
    let base = Context {
        ctx: Ok(kprobe::registers_type(host, request.needs.raw_context)),
        registers: Some(0),
        stacks: true,
        ..Context::none(request.provider, Space::User)
    };
    if request.provider.name == UPROBE.name {
        return Context {
            args: args.clone(),
            numbered: Ok(kprobe::numbered(host.arch(), Space::User)),
            retval: Err("the function has not run yet; use a `uretprobe`".into()),
            func: Ok(Func::InstructionPointer { user: true, distance: 0 }),
            ..base
        };
    }
    let gone = "arguments are gone when a function returns";
    let result = kprobe::result(host.arch(), Space::User);
    let kept = !at_instructions(request);
    Context {
        args: if kept { args.clone() } else { Err(format!("{gone}; {KEEP}")) },
        numbered: match kept {
            true => Err(format!("{gone}; `args` has them by name")),
            false => Err(format!("{gone}; {KEEP}")),
        },
        retval: result.ok_or("the register is not known".into()),
        // The kernels that know it for uprobes are those with uprobe.multi.
        func: match !at_instructions(request)
            && host.has(Feature::FuncIp)
            && (multi || host.has(Feature::UprobeMulti))
        {
            true => Ok(Func::Helper { user: true }),
            false if at_instructions(request) => {
                Ok(Func::InstructionPointer { user: true, distance })
            }
            false => Err("this kernel does not tell (it lacks `get_func_ip`); use `probe`".into()),
        },
        ..base
    }
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let host = query.host;
    let provider = query.provider.name;
    let (target, language, function) = match query.parts() {
        [] => (None, None, None),
        // Of the program of `-p`.
        [function] if query.pid.is_some() && !function.text.contains('/') => {
            (None, None, Some(function))
        }
        [target] => (Some(target), None, None),
        [target, function] => (Some(target), None, Some(function)),
        [target, language, function] => {
            (Some(target), Language::find(&language.text), Some(function))
        }
        _ => return Ok(Vec::new()),
    };
    let own = |pid| Ok(vec![in_root(&host.root_of(Some(pid)), &host.executable(pid)?)]);
    for path in listed_files(host, target, query.pid, &own)? {
        let Ok(binary) = Binary::open(&host.path(&path)) else { continue };
        let path = path.display();
        let name = |f: &ElfFunction| {
            let demangled = language.and_then(|l| Some((l, l.demangle(&f.name, true)?)));
            match demangled {
                Some((l, name)) => format!("{provider}:{path}:{}", in_language(l, &name)),
                None => format!("{provider}:{path}:{}", f.name),
            }
        };
        let accepts = |name: &str| match (function, language) {
            (None, _) => target.is_some() || query.accepts(&[name]),
            (Some(f), _) if f.text.is_empty() => true,
            (Some(f), Some(language)) => {
                LanguageName::new(language, &f.text).matches(name, &text::matches)
            }
            (Some(f), None) => f.matches(name),
        };
        let functions = binary.functions(&accepts);
        let described = match query.verbose && !functions.is_empty() {
            true => {
                let addresses = functions.iter().map(|f| f.address).collect();
                let described = parameters::described(host, &binary, &addresses);
                described.unwrap_or_else(|reason| {
                    query.warn(format!("the arguments of `{path}` are not known"), reason);
                    HashMap::new()
                })
            }
            false => HashMap::new(),
        };
        let line = |f: &ElfFunction| {
            let parameters = described.get(&f.address).into_iter().flat_map(|d| &d.parameters);
            let details = parameters.map(|p| format!("{} {}", p.text, p.name)).collect();
            Line { name: name(f), details }
        };
        if !query.tell(functions.iter().map(line).collect()) {
            break;
        }
    }
    Ok(Vec::new())
}
