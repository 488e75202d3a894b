//! Entry and return of functions in user programs and libraries.
//!
//! Symbols become file offsets here; `binaries.rs` makes links of those.

use std::path::{Path, PathBuf};

use super::binaries::{Place, files, in_root, link, listed_files, own_executable};
use super::kprobe;
use super::list::{Line, Query};
use super::text::{self, Part};
use super::{Context, Expanded, Func, Instance, Looked, Provider, Request, Side};
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::host::elf::{self, Binary, CppName, ElfFunction};
use crate::host::features::Feature;
use crate::ir::ProgramKind;
use crate::types::Space;

pub(super) static UPROBE: Provider = Provider {
    name: "uprobe",
    aliases: &["u"],
    usage: &["uprobe:/bin/bash:readline", "uprobe:libfoo:cpp:\"ns::f(int)\""],
    doc: "Fires when a function of a program or library is called.",
    side: Side::User,
    expand,
    list,
};

pub(super) static URETPROBE: Provider = Provider {
    name: "uretprobe",
    aliases: &["ur"],
    usage: &["uretprobe:/bin/bash:readline", "uretprobe:libfoo:cpp:\"ns::f(int)\""],
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
    Cpp(CppName),
}

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let (target, language, function) = match request.parts.as_slice() {
        [function] if request.options.pid.is_some() => (None, None, function),
        [target, function] => (Some(target), None, function),
        [target, language, function] => (Some(target), Some(language), function),
        _ => return Err(request.wrong_parts()),
    };
    if let Some(part) = request.parts.iter().take(2).find(|p| !p.ats.is_empty()) {
        let d = request.error_at(part, "source lines cannot be probed");
        return Err(Box::new(
            d.help("name a function; if the `@` belongs to a name, put it in quotes"),
        ));
    }
    if let Some(language) = language.filter(|l| l.text != "cpp") {
        let message = format!("unknown language `{}`", language.text);
        let d = request.error_at(language, message);
        return Err(Box::new(
            d.note("the only one is `cpp`")
                .help("if the function's name has colons, put it in quotes"),
        ));
    }
    if function.text.is_empty() {
        return Err(request.wrong_parts());
    }
    let wanted = wanted(request, language.is_some(), function)?;
    let files = match target {
        Some(target) => match files(request, target, diags)? {
            Ok(files) => files,
            Err(unknown) => return request.missing(unknown, diags),
        },
        None => vec![own_executable(request)?],
    };
    // A pattern for files takes in what cannot be traced; a name does not.
    let exact_file = target.is_none_or(|t| !t.text.contains(['*', '?', '[']));
    let mut binaries = Vec::new();
    for path in files {
        let binary = match Binary::open(&request.host.path(&path)) {
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
            Ok(places) => binaries.push((path, places)),
            Err(_) if !exact_file => {}
            Err(unknown) => return request.missing(unknown, diags),
        }
    }
    if binaries.is_empty() {
        let message = format!("`{}` matches no function", request.point.text);
        super::nothing_matches(request.point, &message, request.options, diags);
        return Ok(Vec::new());
    }
    Ok(instances(request, binaries))
}

/// # Errors
/// A bad number, an offset where none can be.
fn wanted<'p>(
    request: &Request<'_>,
    cpp: bool,
    function: &'p Part,
) -> Result<Wanted<'p>, Box<Diagnostic>> {
    let text = function.text.as_str();
    if cpp {
        return Ok(Wanted::Cpp(CppName::new(text)));
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
                return Ok(Err(Box::new(unknown(binary, path, part, name))));
            }
            for function in &found {
                check_offset(request, part, function, *offset)?;
            }
            if found.iter().any(|f| f.chooser) {
                let message = format!("`{name}` runs only once in a process");
                diags.push(Diagnostic::warning(part.span, message).note(
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
                counter: 0,
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
                    counter: 0,
                })
                .collect()))
        }
        Wanted::Cpp(cpp) => {
            let found = binary.functions(&|name| cpp.matches(name, &text::matches));
            if found.is_empty() && !part.is_wildcard() {
                let message = format!("`{}` has no C++ function `{}`", path.display(), part.text);
                return Ok(Err(Box::new(Diagnostic::error(part.span, message))));
            }
            Ok(Ok(distinct(found)
                .map(|f| Place {
                    name: format!("{prefix}:cpp:{}", part.text),
                    offset: f.offset,
                    symbol: f.name,
                    counter: 0,
                })
                .collect()))
        }
    }
}

/// Functions of a pattern: each address once, and only whole functions.
fn distinct(found: Vec<ElfFunction>) -> impl Iterator<Item = ElfFunction> {
    let mut seen = std::collections::HashSet::new();
    found.into_iter().filter(move |f| f.size > 0 && !f.chooser && seen.insert(f.address))
}

fn unknown(binary: &Binary, path: &Path, part: &Part, name: &str) -> Diagnostic {
    let message = format!("`{}` has no function `{name}`", path.display());
    let d = Diagnostic::error(part.span, message);
    let close = |n: &str| n.len().abs_diff(name.len()) <= (name.len() / 3).max(1);
    let near = binary.functions(&close);
    if let Some(near) = diag::nearest(name, near.iter().map(|f| f.name.as_str())) {
        return d.at(format!("did you mean `{near}`?"));
    }
    if name.contains("::") {
        return d.help("for a C++ name, write `cpp:` before it");
    }
    if binary.functions(&|_| true).is_empty() {
        return d.note("it has no symbols at all; debug symbols may be had as a package");
    }
    d
}

fn check_offset(
    request: &Request<'_>,
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
        symbol: symbol.map(|f| f.name).unwrap_or_default(),
        offset,
        counter: 0,
    })
}

fn instances(request: &Request<'_>, binaries: Vec<(PathBuf, Vec<Place>)>) -> Vec<Instance> {
    let linked = link(request, binaries, request.provider.name == URETPROBE.name);
    let section = match linked.multi {
        true => format!("{}.multi", request.provider.name),
        false => request.provider.name.to_owned(),
    };
    let instance = |attach| Instance {
        kind: ProgramKind::Uprobe,
        section: section.clone(),
        context: context(request, linked.multi),
        attach,
        syscalls: None,
    };
    linked.programs.into_iter().map(instance).collect()
}

fn context(request: &Request<'_>, multi: bool) -> Context {
    let host = request.host;
    let base = Context {
        ctx: Ok(kprobe::registers_type(host, request.needs.raw_context)),
        registers: Some(0),
        stacks: true,
        ..Context::none(request.provider, Space::User)
    };
    if request.provider.name == UPROBE.name {
        return Context {
            args: Err("arguments of user functions have no names; use `arg0` and on".into()),
            numbered: Ok(kprobe::numbered(host.arch(), Space::User)),
            retval: Err("the function has not run yet; use a `uretprobe`".into()),
            func: Ok(Func::InstructionPointer { user: true }),
            ..base
        };
    }
    let gone = "arguments are gone when a function returns; \
                keep them in a map at its `uprobe`, by `tid`";
    let result = kprobe::result(host.arch(), Space::User);
    Context {
        args: Err(gone.into()),
        numbered: Err(gone.into()),
        retval: result.ok_or("the register is not known".into()),
        // The kernels that know it for uprobes are those with uprobe.multi.
        func: match host.has(Feature::FuncIp) && (multi || host.has(Feature::UprobeMulti)) {
            true => Ok(Func::Helper { user: true }),
            false => Err("this kernel does not tell (it lacks `get_func_ip`); use `probe`".into()),
        },
        ..base
    }
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let host = query.host;
    let provider = query.provider.name;
    let (target, cpp, function) = match query.parts() {
        [] => (None, false, None),
        [target] => (Some(target), false, None),
        [target, function] => (Some(target), false, Some(function)),
        [target, language, function] => (Some(target), language.text == "cpp", Some(function)),
        _ => return Ok(Vec::new()),
    };
    let own = |pid| Ok(vec![in_root(&host.root_of(Some(pid)), &host.executable(pid)?)]);
    let mut lines = Vec::new();
    for path in listed_files(host, target, query.pid, &own)? {
        let Ok(binary) = Binary::open(&host.path(&path)) else { continue };
        let path = path.display();
        let name = |f: &ElfFunction| match cpp.then(|| elf::demangle(&f.name, true)).flatten() {
            Some(name) => format!("{provider}:{path}:cpp:\"{name}\""),
            None => format!("{provider}:{path}:{}", f.name),
        };
        let accepts = |name: &str| match (function, cpp) {
            (None, _) => query.accepts(&[name]),
            (Some(f), _) if f.text.is_empty() => true,
            (Some(f), true) => CppName::new(&f.text).matches(name, &text::matches),
            (Some(f), false) => f.matches(name),
        };
        lines.extend(binary.functions(&accepts).iter().map(|f| Line::of(name(f))));
    }
    Ok(lines)
}
