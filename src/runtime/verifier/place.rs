//! Where in the script an instruction comes from.
//!
//! The log names lines; our object knows columns as well (`.BTF.ext`, line_info of linux/btf.h),
//! so that the statement itself is found, also where the log has no comment at all.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use crate::source::{FileId, Sources, Span};

/// Bytes of an instruction.
const INSTRUCTION: u64 = 8;

/// A line and a column of a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub file: String,
    pub line: usize,
    pub column: usize,
}

/// The place of instruction `index` of a program, as the object has it; `None` if the
/// object does not say, or the instruction is one of another function.
pub(super) fn of_instruction(elf: &[u8], program: &str, index: usize) -> Option<Position> {
    let file = object::File::parse(elf).ok()?;
    let symbol = file.symbols().find(|s| s.name() == Ok(program))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let offset = u64::try_from(index).ok()?.checked_mul(INSTRUCTION)?;
    if symbol.size() > 0 && offset >= symbol.size() {
        return None;
    }
    let offset = symbol.address().checked_add(offset)?;
    let types = file.section_by_name(".BTF")?.uncompressed_data().ok()?;
    let lines = file.section_by_name(".BTF.ext")?.uncompressed_data().ok()?;
    let strings = Strings::of(&types)?;
    // hdr_len, line_info_off and line_info_len of struct btf_ext_header.
    let header = word(&lines, 4)? as usize;
    let start = header.checked_add(word(&lines, 16)? as usize)?;
    let info = lines.get(start..start.checked_add(word(&lines, 20)? as usize)?)?;
    let size = word(info, 0)? as usize;
    let name = section.name().ok()?;
    let mut at = 4usize;
    while let Some(section_name) = word(info, at) {
        let count = word(info, at.checked_add(4)?)? as usize;
        let records = info.get(at.checked_add(8)?..)?;
        let length = count.checked_mul(size)?;
        if strings.get(section_name) == Some(name) {
            let records = records.get(..length)?.chunks_exact(size.max(16));
            let place = records
                .take_while(|r| word(r, 0).is_some_and(|at| u64::from(at) <= offset))
                .last()?;
            let position = word(place, 12)?;
            return Some(Position {
                file: strings.get(word(place, 4)?)?.to_owned(),
                line: (position >> 10) as usize,
                column: (position & 0x3ff) as usize,
            });
        }
        at = at.checked_add(8)?.checked_add(length)?;
    }
    None
}

/// The strings of `.BTF`.
struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    fn of(types: &'a [u8]) -> Option<Strings<'a>> {
        // hdr_len, str_off and str_len of struct btf_header.
        let start = (word(types, 4)? as usize).checked_add(word(types, 16)? as usize)?;
        Some(Strings(types.get(start..start.checked_add(word(types, 20)? as usize)?)?))
    }

    fn get(&self, offset: u32) -> Option<&'a str> {
        let text = self.0.get(offset as usize..)?.split(|b| *b == 0).next()?;
        std::str::from_utf8(text).ok()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

impl Position {
    /// The statement, or the expression, that begins here.
    pub(super) fn span(&self, sources: &Sources) -> Option<Span> {
        let file = find_file(sources, &self.file)?;
        let line = line_span(sources, file, self.line)?;
        let text = sources.text(file);
        let first = text.get(..line.start as usize)?.rfind('\n').map_or(0, |at| at + 1);
        let start = first.checked_add(self.column.checked_sub(1)?)?;
        if !text.is_char_boundary(start) || start < line.start as usize {
            return Some(line);
        }
        let rest = text.get(start..)?;
        // Compilers of C point at operators.
        let operator = rest.starts_with(|c| "=/+-%|^<>?:.)]".contains(c));
        let length = if operator { 0 } else { extent(rest) };
        Some(if length == 0 { line } else { Span::new(file, start, start + length) })
    }
}

/// How far a statement goes: to the `;` or the closing bracket that ends it, or to the
/// block that follows it.
fn extent(text: &str) -> usize {
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => quoted = true,
            '(' | '[' => depth += 1,
            ')' | ']' if depth > 0 => depth -= 1,
            ')' | ']' | '}' | '{' | ';' | ',' if depth == 0 => {
                return text.get(..at).map_or(0, |t| t.trim_end().len());
            }
            '\n' if depth == 0 => return text.get(..at).map_or(0, |t| t.trim_end().len()),
            _ => {}
        }
    }
    text.trim_end().len()
}

/// The kernel cuts directories off.
pub(super) fn find_file(sources: &Sources, name: &str) -> Option<FileId> {
    let base = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let position = sources.files.iter().position(|f| base(&f.name) == base(name))?;
    FileId::try_from(position).ok()
}

/// The place of a line (counted from 1) without its indentation.
pub(super) fn line_span(sources: &Sources, file: FileId, line: usize) -> Option<Span> {
    let text = sources.text(file);
    let content = text.lines().nth(line.checked_sub(1)?)?;
    // Both are slices of one text, so their distance is the line's offset.
    let start = content.as_ptr() as usize - text.as_ptr() as usize;
    let trimmed = content.trim();
    let indent = content.len() - content.trim_start().len();
    Some(Span::new(file, start + indent, start + indent + trimmed.len()))
}

/// The first line of a file with this text.
pub(super) fn find_line(sources: &Sources, file: FileId, text: &str) -> Option<Span> {
    let line = sources.text(file).lines().position(|l| l.trim() == text.trim())?;
    line_span(sources, file, line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_its_semicolon() {
        for (text, statement) in [
            ("@x[1, 2] = f(3); y", "@x[1, 2] = f(3)"),
            ("print(\"a;b\\\"\"); c", "print(\"a;b\\\"\")"),
            ("$a[$i] }", "$a[$i]"),
            ("for ($i : 0..3) { }", "for ($i : 0..3)"),
            ("last", "last"),
        ] {
            assert_eq!(&text[..extent(text)], statement);
        }
    }
}
