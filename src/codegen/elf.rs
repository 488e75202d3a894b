//! A last touch to the object file.

use crate::plan;

/// `SHT_STRTAB` of elf.h.
const STRINGS: [u8; 4] = 3u32.to_le_bytes();

/// Bytes of an ELF64 section header.
const HEADER: usize = 64;

/// Makes the plan's section one of strings, which is what JSON is: libbpf
/// passes over such sections, while it says of data that it does not know that
/// it skips them. LLVM cannot be told the type of a section.
///
/// An object that is not as expected stays as it is; it loads all the same.
pub(super) fn mark_plan(elf: &mut [u8]) {
    if let Some(at) = plan_header(elf)
        && let Some(kind) = elf.get_mut(at + 4..at + 8)
    {
        kind.copy_from_slice(&STRINGS);
    }
}

/// Where the header of the plan's section lies.
fn plan_header(elf: &[u8]) -> Option<usize> {
    // e_shoff, e_shnum and e_shstrndx of Elf64_Ehdr.
    let headers = number(elf, 0x28, 8)?;
    let count = number(elf, 0x3c, 2)?;
    let names = headers.checked_add(number(elf, 0x3e, 2)?.checked_mul(HEADER)?)?;
    // sh_offset of Elf64_Shdr.
    let names = number(elf, names.checked_add(0x18)?, 8)?;
    (0..count).map(|n| headers + n * HEADER).find(|&header| {
        let name = number(elf, header, 4).and_then(|n| elf.get(names.checked_add(n)?..));
        let rest = name.and_then(|n| n.strip_prefix(plan::SECTION.as_bytes()));
        rest.is_some_and(|r| r.first() == Some(&0))
    })
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let mut word = [0; 8];
    word.get_mut(..size)?.copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
    usize::try_from(u64::from_le_bytes(word)).ok()
}
