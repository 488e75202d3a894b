//! Lines of source in debug information.

use std::path::Path;

use gimli::ColumnType;

use super::{Session, Unit, UserBinary, join};

/// A place where a line begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub address: u64,
    pub line: u64,
    /// 0 if it is not known.
    pub column: u64,
}

impl UserBinary<'_> {
    /// Statements of a source file, whose path may be only the end of what the
    /// binary has; `None` if it has no such file.
    pub fn lines(&self, file: &Path) -> Option<Vec<Line>> {
        let session = self.info.session();
        let mut known = false;
        let mut found = Vec::new();
        for start in session.starts {
            let Some(unit) = session.unit(*start) else { continue };
            let Some(program) = unit.line_program.clone() else { continue };
            let wanted = files(&session, &unit, file);
            if wanted.is_empty() {
                continue;
            }
            known = true;
            let mut rows = program.rows();
            while let Ok(Some((_, row))) = rows.next_row() {
                let Some(line) = row.line().filter(|_| row.is_stmt() && !row.end_sequence()) else {
                    continue;
                };
                if wanted.contains(&row.file_index()) {
                    let column = match row.column() {
                        ColumnType::LeftEdge => 0,
                        ColumnType::Column(column) => column.get(),
                    };
                    found.push(Line { address: row.address(), line: line.get(), column });
                }
            }
        }
        known.then_some(found)
    }
}

/// Numbers in a unit's line program of the files that fit a path.
fn files(session: &Session<'_>, unit: &Unit<'_>, wanted: &Path) -> Vec<u64> {
    let Some(program) = &unit.line_program else { return Vec::new() };
    let header = program.header();
    let text = |value| {
        let text = session.dwarf.attr_string(unit, value).ok()?;
        Some(text.to_string_lossy().into_owned())
    };
    let directory = unit.comp_dir.map(|dir| dir.to_string_lossy().into_owned());
    let count = header.file_names().len() as u64;
    // Numbers start with 0 in DWARF 5, and with 1 before.
    (0..=count)
        .filter(|number| {
            let Some(entry) = header.file(*number) else { return false };
            let Some(name) = text(entry.path_name()) else { return false };
            let parent = entry.directory(header).and_then(text);
            let path = join(directory.clone().into_iter().chain(parent).chain([name]));
            match wanted.is_absolute() {
                true => path == wanted,
                false => path.ends_with(wanted),
            }
        })
        .collect()
}
