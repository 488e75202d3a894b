//! Lines of source as places of a binary: `uprobe:PATH@FILE:LINE[:COLUMN]`.

use std::collections::BTreeMap;
use std::path::Path;

use super::binaries::{Place, files, open};
use super::text::{Part, number};
use super::uprobe::{URETPROBE, guarded, instances};
use super::{Expanded, Request};
use crate::diag::{Diagnostic, Diagnostics};
use crate::host::dwarf::Line;
use crate::host::elf::Binary;
use crate::source::Span;

/// A line of source.
pub(super) struct Source {
    file: Part,
    line: u64,
    line_span: Span,
    column: Option<u64>,
}

/// The binary and the line that an attach point names, if it names a line.
///
/// # Errors
/// It does, and not rightly.
pub(super) fn source(request: &Request<'_>) -> Result<Option<(Part, Source)>, Box<Diagnostic>> {
    let Some((first, rest)) = request.parts.split_first() else { return Ok(None) };
    let Some(at) = first.ats.last() else { return Ok(None) };
    if request.provider.name == URETPROBE.name {
        let d = request.error_at(first, "a line does not return");
        return Err(Box::new(
            d.help("name a function; if the `@` belongs to a name, put it in quotes"),
        ));
    }
    let (binary, file) = first.text.split_at(*at);
    let file = file.strip_prefix('@').unwrap_or(file);
    let (line, column) = match rest {
        [line] => (line, None),
        [line, column] => (line, Some(column)),
        _ => {
            let d = request.error_at(first, "a place in source is a file and a line");
            return Err(Box::new(d.help("write `uprobe:PATH@FILE:LINE` or `…:LINE:COLUMN`")));
        }
    };
    if file.is_empty() {
        let d = request.error_at(first, "there is no file after the `@`");
        return Err(Box::new(d.help("write `uprobe:PATH@FILE:LINE`")));
    }
    let positive = |part: &Part| match number(&part.text) {
        Some(n) if n > 0 => Ok(n),
        _ => {
            let d = request.error_at(part, format!("`{}` is no line or column", part.text));
            Err(Box::new(d.help("if the `@` belongs to a name, put it in quotes")))
        }
    };
    let source = Source {
        file: Part { text: file.to_owned(), ats: Vec::new(), ..first.clone() },
        line: positive(line)?,
        line_span: line.span,
        column: column.map(positive).transpose()?,
    };
    let binary = Part { text: binary.to_owned(), ats: Vec::new(), ..first.clone() };
    Ok(Some((binary, source)))
}

/// The programs for a line of source.
pub(super) fn expand_source(
    request: &Request<'_>,
    target: &Part,
    source: &Source,
    diags: &mut Diagnostics,
) -> Expanded {
    if target.is_wildcard() || source.file.is_wildcard() {
        let d = request.error_at(target, "a place in source is no pattern");
        return Err(Box::new(d.help("write the paths in full")));
    }
    let paths = match files(request, target, diags)? {
        Ok(paths) => paths,
        Err(unknown) => return request.missing(unknown, diags),
    };
    let mut found = Vec::new();
    for path in paths {
        let binary = open(request, &path).map_err(|reason| {
            let message = format!("`{}` cannot be traced", path.display());
            Box::new(Diagnostic::error(target.span, message).note(reason))
        })?;
        match places(request, &binary, &path, source) {
            Ok(places) => {
                let places = guarded(request, &binary, places, &source.file, diags)?;
                found.push((binary, path, places));
            }
            Err(unknown) => return request.missing(unknown, diags),
        }
    }
    Ok(instances(request, found))
}

/// Where the line begins: once in each function that has it.
fn places(
    request: &Request<'_>,
    binary: &Binary,
    path: &Path,
    source: &Source,
) -> Result<Vec<Place>, Box<Diagnostic>> {
    let info = request.host.user_types().debug_info(binary).map_err(|reason| {
        let message = format!("`{}` knows no lines of source", path.display());
        let d = Diagnostic::error(source.file.span, message).note(reason);
        Box::new(d.help("build it with debug information (`-g`), or probe a function"))
    })?;
    let Some(lines) = info.lines(Path::new(&source.file.text)) else {
        let message = format!("`{}` has no code of `{}`", path.display(), source.file.text);
        let d = Diagnostic::error(source.file.span, message);
        return Err(Box::new(
            d.note("that is what its debug information says")
                .help("name a file that it was compiled from"),
        ));
    };
    let fits = |l: &&Line| l.line == source.line && source.column.is_none_or(|c| c == l.column);
    let mut functions = binary.functions(&|_| true);
    functions.sort_unstable_by_key(|f| f.address);
    let function_of = |address: u64| {
        let next = functions.partition_point(|f| f.address <= address);
        let function = functions.get(next.checked_sub(1)?)?;
        (address - function.address < function.size.max(1)).then_some(function)
    };
    let mut chosen: BTreeMap<u64, u64> = BTreeMap::new();
    for line in lines.iter().filter(fits) {
        // A compiler may cut a line in pieces; the first is where it begins.
        let function = function_of(line.address).map_or(line.address, |f| f.address);
        let first = chosen.entry(function).or_insert(line.address);
        *first = line.address.min(*first);
    }
    if chosen.is_empty() {
        return Err(Box::new(no_code(source, &lines)));
    }
    let name = match source.column {
        Some(column) => format!("{}:{}:{column}", source.file.text, source.line),
        None => format!("{}:{}", source.file.text, source.line),
    };
    let name = format!("{}:{}@{name}", request.provider.name, path.display());
    let place = |address: &u64| {
        Some(Place {
            name: name.clone(),
            symbol: function_of(*address).map(|f| f.name.clone()).unwrap_or_default(),
            function: function_of(*address).map(|f| f.address).filter(|a| a == address),
            offset: binary.file_offset(*address)?,
            counter: 0,
            distance: 0,
        })
    };
    Ok(chosen.values().filter_map(place).collect())
}

fn no_code(source: &Source, lines: &[Line]) -> Diagnostic {
    let message = match source.column {
        Some(column) => format!("line {} has no code at column {column}", source.line),
        None => format!("line {} has no code", source.line),
    };
    let d = Diagnostic::error(source.line_span, message);
    let mut columns: Vec<u64> =
        lines.iter().filter(|l| l.line == source.line).map(|l| l.column).collect();
    columns.sort_unstable();
    columns.dedup();
    if !columns.is_empty() {
        let list: Vec<String> = columns.iter().map(u64::to_string).collect();
        return d.note(format!("it has some at column {}", list.join(", ")));
    }
    match lines.iter().map(|l| l.line).filter(|l| *l > source.line).min() {
        Some(next) => d.note(format!("the next line that has is {next}")),
        None => d.note("no line after it has any, either"),
    }
}
