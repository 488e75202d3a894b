//! A last touch to the object file.

use crate::plan;

/// `SHT_STRTAB` of elf.h.
const STRINGS: u32 = 3;

/// Bytes of an ELF64 section header.
const HEADER: usize = 64;

/// Makes the plan's section one of strings, which is what JSON is: libbpf
/// passes over such sections, while it says of data that it does not know that
/// it skips them. LLVM cannot be told the type of a section.
///
/// An object that is not as expected stays as it is; it loads all the same.
pub(super) fn mark_plan(elf: &mut [u8]) {
    let big = is_big(elf);
    if let Some(at) = plan_header(elf)
        && let Some(kind) = elf.get_mut(at + 4..at + 8)
    {
        kind.copy_from_slice(&if big { STRINGS.to_be_bytes() } else { STRINGS.to_le_bytes() });
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

/// A number of up to 8 bytes, in the order of the file.
fn number(elf: &[u8], at: usize, size: usize) -> Option<usize> {
    let bytes = elf.get(at..at.checked_add(size)?)?.iter().map(|byte| usize::from(*byte));
    let join = |number: usize, byte: usize| number << 8 | byte;
    Some(if is_big(elf) { bytes.fold(0, join) } else { bytes.rev().fold(0, join) })
}

/// `ELFDATA2MSB` of elf.h.
fn is_big(elf: &[u8]) -> bool {
    elf.get(5) == Some(&2)
}
