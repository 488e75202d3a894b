//! Markers that programs were built with (USDT): notes of the section
//! `.note.stapsdt`, as systemtap's `sys/sdt.h` writes them (format 3).

use std::ops::Range;

use object::{Object, ObjectSection, ObjectSegment};

use super::elf::Binary;

/// A copy of a marker in the code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marker {
    pub provider: String,
    pub name: String,
    /// Of the instruction, as the binary counts before it is moved.
    pub address: u64,
    /// Of the instruction in the file.
    pub offset: u64,
    /// In the file, where the kernel counts who watches; 0 if the program does
    /// not ask.
    pub counter: u64,
    /// The counter's page of the file is mapped twice for writing, so that the
    /// kernel may count in the copy that the program does not look at.
    pub doubtful: bool,
    /// Where the arguments are, in the words of the assembler
    /// (`-4@%eax 8@-8(%rbp)`).
    pub arguments: String,
}

/// What is mapped at once, at least.
const PAGE: u64 = 4096;

/// Type of the notes.
const NOTE: u32 = 3;

/// `SHT_NOTE` data: words of a name's length, a description's length and a type
/// (elf.h, `Elf64_Nhdr`).
const NOTE_HEAD: usize = 12;

impl Binary {
    /// The markers that are wanted, by provider and name; sorted, one for each
    /// place in the code.
    pub fn markers(&self, wanted: &dyn Fn(&str, &str) -> bool) -> Vec<Marker> {
        let Ok(elf) = self.parse() else { return Vec::new() };
        let Some(notes) = elf.section_by_name(".note.stapsdt") else { return Vec::new() };
        let Ok(notes) = notes.uncompressed_data() else { return Vec::new() };
        let word = if elf.is_64() { 8 } else { 4 };
        // Addresses in notes are off by as much as this section has moved since
        // (by prelink).
        let base = elf.section_by_name(".stapsdt.base").map(|s| s.address());
        let all: Vec<(u64, u64, u64)> =
            elf.segments().map(|s| (s.address(), s.size(), s.file_range().0)).collect();
        let code = super::elf::executable_segments(&elf);
        // PF_W of elf.h.
        let writes = |s: &object::Segment<'_, '_>| match s.flags() {
            object::SegmentFlags::Elf { p_flags } => p_flags & 2 != 0,
            _ => false,
        };
        let pages = |s: object::Segment<'_, '_>| {
            let (start, size) = s.file_range();
            start / PAGE * PAGE..start.saturating_add(size).next_multiple_of(PAGE)
        };
        let writable: Vec<Range<u64>> = elf.segments().filter(writes).map(pages).collect();
        let mut found = Vec::new();
        for note in descriptions(&notes) {
            let Some(note) = Description::read(note, word) else { continue };
            if !wanted(&note.provider, &note.name) {
                continue;
            }
            let moved = match base {
                Some(base) if note.base != 0 => base.wrapping_sub(note.base),
                _ => 0,
            };
            let address = note.address.wrapping_add(moved);
            let Some(offset) = super::elf::offset_in(&code, address) else { continue };
            let counter = match note.counter {
                0 => Some(0),
                counter => super::elf::offset_in(&all, counter.wrapping_add(moved)),
            };
            let Some(counter) = counter else { continue };
            let doubtful =
                counter != 0 && writable.iter().filter(|r| r.contains(&counter)).count() > 1;
            let Description { provider, name, arguments, .. } = note;
            found.push(Marker { provider, name, address, offset, counter, doubtful, arguments });
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// What a note says.
struct Description {
    address: u64,
    base: u64,
    counter: u64,
    provider: String,
    name: String,
    arguments: String,
}

impl Description {
    fn read(bytes: &[u8], word: usize) -> Option<Description> {
        let number = |at: usize| -> Option<u64> {
            let bytes = bytes.get(at * word..(at + 1) * word)?;
            let mut wide = [0; 8];
            wide.get_mut(..word)?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(wide))
        };
        let mut texts = bytes.get(3 * word..)?.split(|b| *b == 0);
        let mut text = || Some(String::from_utf8_lossy(texts.next()?).into_owned());
        Some(Description {
            address: number(0)?,
            base: number(1)?,
            counter: number(2)?,
            provider: text()?,
            name: text()?,
            arguments: text()?,
        })
    }
}

/// The descriptions of all notes of our kind.
fn descriptions(mut notes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((head, rest)) = notes.split_at_checked(NOTE_HEAD) {
        let word = |at: usize| {
            let bytes = head.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        let (name_size, size, kind) = (word(0) as usize, word(4) as usize, word(8));
        let Some((name, rest)) = rest.split_at_checked(name_size.next_multiple_of(4)) else {
            break;
        };
        let Some(note) = rest.get(..size) else { break };
        if kind == NOTE && name.starts_with(b"stapsdt\0") {
            found.push(note);
        }
        notes = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_and_damage_is_survived() {
        let mut note = Vec::new();
        for word in [8u32, 42, 3] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"stapsdt\0");
        for word in [0x1000u64, 0x2000, 0x3000] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"shop\0sell\0-4@%eax\0");
        note.resize(note.len().next_multiple_of(4), 0);
        let mut twice = note.clone();
        twice.extend(&note);
        // Three words, and 18 bytes of text.
        let found = descriptions(&twice);
        assert_eq!(found.len(), 2);
        let first = Description::read(found[0], 8).unwrap();
        assert_eq!((first.address, first.base, first.counter), (0x1000, 0x2000, 0x3000));
        assert_eq!((first.provider.as_str(), first.name.as_str()), ("shop", "sell"));
        assert_eq!(first.arguments, "-4@%eax");
        for at in 0..twice.len() {
            for note in descriptions(&twice[..at]) {
                Description::read(note, 8);
            }
            let mut damaged = twice.clone();
            damaged[at] ^= 0xff;
            for note in descriptions(&damaged) {
                Description::read(note, 8);
                Description::read(note, 4);
            }
        }
    }
}
