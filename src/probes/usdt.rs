//! Markers that programs were built with (USDT).
//!
//! A marker can be in the code several times (its function was inlined), with
//! its arguments in other places each time. Copies whose arguments are where
//! the others' are, as far as the block uses them, share a program.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::binaries::{self, Place, Places};
use super::kprobe;
use super::list::{Line, Query};
use super::operand;
use super::text::Part;
use super::{Access, Argument, Context, Expanded, Instance, Needs, Provider, Request, Side};
use crate::diag::{self, Diagnostic, Diagnostics, Warning};
use crate::host::elf::{Binary, ElfKind};
use crate::host::markers::Marker;
use crate::ir::ProgramKind;
use crate::types::{Space, Type};

pub(super) static USDT: Provider = Provider {
    name: "usdt",
    aliases: &["U"],
    usage: &["usdt:/usr/bin/python3:python:gc__start", "usdt:/usr/bin/python3:gc__start"],
    doc: "Fires at a marker that a program or library was built with.",
    side: Side::User,
    expand,
    list,
};

/// A copy of a marker and what it passes.
struct Copy {
    path: PathBuf,
    marker: Marker,
    arguments: Vec<Argument>,
}

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let with_pid = request.options.pid.is_some();
    let (target, provider, name) = match request.parts.as_slice() {
        [name] if with_pid => (None, None, name),
        [target, name] => (Some(target), None, name),
        [target, provider, name] => (Some(target), Some(provider), name),
        _ => return Err(request.wrong_parts()),
    };
    let provider = provider.filter(|p| !p.text.is_empty());
    let target = target.filter(|t| !with_pid || !t.text.is_empty());
    if name.text.is_empty() {
        return Err(request.wrong_parts());
    }
    let files = match target {
        Some(target) => match binaries::files(request, target, diags)? {
            Ok(files) => files,
            Err(unknown) => return request.missing(unknown, diags),
        },
        None => request.host.mapped_files(request.options.pid),
    };
    // A pattern for files takes in what has no markers; a name does not.
    let exact = target.filter(|t| !t.text.contains(['*', '?', '[']));
    let wanted = |p: &str, n: &str| provider.is_none_or(|part| part.matches(p)) && name.matches(n);
    let mut copies = Vec::new();
    for path in files {
        let binary = match (binaries::open(request, &path), exact) {
            (Ok(binary), _) => binary,
            (Err(_), None) => continue,
            (Err(reason), Some(part)) => {
                let message = format!("`{}` cannot be traced", path.display());
                return Err(Box::new(Diagnostic::error(part.span, message).note(reason)));
            }
        };
        let markers = binary.markers(&wanted);
        let pattern = name.is_wildcard() || provider.is_some_and(Part::is_wildcard);
        if markers.is_empty() && exact.is_some() && !pattern {
            let unknown = unknown(&binary, &path, provider, name);
            return request.missing(Box::new(unknown), diags);
        }
        if let Some(marker) = markers.iter().find(|m| m.doubtful) {
            let message = format!("`{}` may not notice that it is watched", marker.name);
            diags.push(
                Diagnostic::warning(Warning::Uncertain, request.span(), message)
                    .note("the kernel may count in another copy of the page that says so")
                    .help("a process that runs already, given by `-p`, notices"),
            );
        }
        copies.extend(copies_of(request, &binary, &path, markers));
    }
    if copies.is_empty() {
        let message = format!("`{}` matches no marker", request.point.text);
        let missing = Diagnostic::error(request.span(), &message);
        if target.is_none() && !name.is_wildcard() {
            return request.missing(Box::new(missing), diags);
        }
        super::nothing_matches(request.point, &message, request.options, diags);
    }
    Ok(by_arguments(copies, request.needs)
        .into_iter()
        .flat_map(|group| instances(request, group))
        .collect())
}

fn unknown(binary: &Binary, path: &Path, provider: Option<&Part>, name: &Part) -> Diagnostic {
    let wanted = match provider {
        Some(provider) => format!("{}:{}", provider.text, name.text),
        None => name.text.clone(),
    };
    let message = format!("`{}` has no marker `{wanted}`", path.display());
    let d = Diagnostic::error(name.span, message);
    let all = binary.markers(&|_, _| true);
    if all.is_empty() {
        return d
            .note("it was built without markers (its section `.note.stapsdt` is missing)")
            .help("a `uprobe` on the function around the place may do");
    }
    if let Some(same) = all.iter().find(|m| m.name == name.text) {
        return d.help(format!("write `{}:{}`", same.provider, same.name));
    }
    match diag::nearest(&name.text, all.iter().map(|m| m.name.as_str())) {
        Some(near) => d.did_you_mean(name.span, near),
        None => d.help(format!("`rtrace -l 'usdt:{}:*'` lists its markers", path.display())),
    }
}

fn copies_of(
    request: &Request<'_>,
    binary: &Binary,
    path: &Path,
    markers: Vec<Marker>,
) -> Vec<Copy> {
    let used = !request.needs.numbered.is_empty();
    let names: HashSet<&str> = match used {
        true => markers.iter().flat_map(|m| operand::variables(&m.arguments)).collect(),
        false => HashSet::new(),
    };
    let address = |name: &str| Some((name.to_owned(), binary.symbol(name)?.0));
    let variables: HashMap<String, u64> = names.into_iter().filter_map(address).collect();
    let arguments = |marker: &Marker| {
        let place = operand::Place {
            arch: request.host.arch(),
            address: marker.address,
            fixed: binary.kind() == ElfKind::Fixed,
            variables: &variables,
        };
        let argument = |(n, text): (usize, &String)| {
            let name = format!("arg{n}");
            match operand::parse(text, &place) {
                Ok(operand) => Argument {
                    name,
                    ty: Type::Int { size: 8, signed: true, space: Space::User },
                    access: Access::Operand(operand),
                },
                Err(what) => Argument {
                    name,
                    ty: Type::Unsupported(what),
                    access: Access::Context { offset: 0, size: 8 },
                },
            }
        };
        operand::split(&marker.arguments).iter().enumerate().map(argument).collect()
    };
    let copy = |marker: Marker| {
        let arguments = arguments(&marker);
        Copy { path: path.to_owned(), marker, arguments }
    };
    markers.into_iter().map(copy).collect()
}

/// Splits copies into groups in which every argument that the block uses is in
/// the same place.
fn by_arguments(copies: Vec<Copy>, needs: &Needs) -> Vec<Vec<Copy>> {
    let mut groups: Vec<Vec<Copy>> = Vec::new();
    let alike = |a: &Copy, b: &Copy| {
        needs.numbered.iter().all(|n| a.arguments.get(*n) == b.arguments.get(*n))
    };
    for copy in copies {
        match groups.iter_mut().find(|group| group.first().is_some_and(|g| alike(g, &copy))) {
            Some(group) => group.push(copy),
            None => groups.push(vec![copy]),
        }
    }
    groups
}

fn instances(request: &Request<'_>, group: Vec<Copy>) -> Vec<Instance> {
    let arguments = group.first().map(|c| c.arguments.clone()).unwrap_or_default();
    let context = Context {
        args: Err("arguments of markers have no names; use `arg0` and on".into()),
        numbered: Ok(arguments),
        ctx: Ok(kprobe::registers_type(request.host, request.needs.raw_context)),
        registers: Some(0),
        stacks: true,
        ..Context::none(request.provider, Space::User)
    };
    let mut by_file = Places::new();
    for Copy { path, marker, .. } in group {
        let place = Place {
            name: full_name(&path, &marker),
            symbol: marker.name,
            function: None,
            offset: marker.offset,
            counter: marker.counter,
            distance: 0,
        };
        binaries::add(&mut by_file, path, place);
    }
    let linked = binaries::link(request, by_file, false);
    let section = if linked.multi { "uprobe.multi" } else { "uprobe" };
    let instance = |attach| Instance {
        kind: ProgramKind::Uprobe,
        section: section.to_owned(),
        context: context.clone(),
        attach,
        syscalls: None,
        keeper: None,
    };
    linked.programs.into_iter().map(instance).collect()
}

fn full_name(path: &Path, marker: &Marker) -> String {
    format!("{}:{}:{}:{}", USDT.name, path.display(), marker.provider, marker.name)
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let host = query.host;
    let (target, provider, name) = match query.parts() {
        [] => (None, None, None),
        [target] => (Some(target), None, None),
        [target, name] => (Some(target), None, Some(name)),
        [target, provider, name] => (Some(target), Some(provider), Some(name)),
        _ => return Ok(Vec::new()),
    };
    let accepts = |part: Option<&Part>, text: &str| {
        part.is_none_or(|part| part.text.is_empty() || part.matches(text))
    };
    let wanted = |p: &str, n: &str| match target {
        Some(_) => accepts(provider, p) && accepts(name, n),
        None => query.accepts(&[p, n]),
    };
    let own = |pid| Ok(host.mapped_files(Some(pid)));
    for path in binaries::listed_files(host, target, query.pid, &own)? {
        let Ok(binary) = Binary::open(&host.path(&path)) else { continue };
        let line = |marker: &Marker| Line {
            name: full_name(&path, marker),
            details: match query.verbose {
                true => details(marker),
                false => Vec::new(),
            },
        };
        if !query.tell(binary.markers(&wanted).iter().map(line).collect()) {
            break;
        }
    }
    Ok(Vec::new())
}

/// `int32 arg0` for each argument.
fn details(marker: &Marker) -> Vec<String> {
    let shown = |(n, text): (usize, &String)| match operand::size(text) {
        Ok((size, signed, _)) => format!("{} arg{n}", Type::int(size, signed)),
        Err(_) => format!("? arg{n}"),
    };
    operand::split(&marker.arguments).iter().enumerate().map(shown).collect()
}
