//! A compiled script: a BPF object file with its plan inside.
//!
//! This is all that crosses from the compiler to the run side. It can be
//! stored and run later, or on another machine, by an rtrace that reads the
//! same plan version.

pub mod pinned;

use std::io::{Read, Seek, SeekFrom};

use object::{Architecture, BinaryFormat, Object as _, ObjectSection as _};

use crate::plan::{self, Plan};

/// An ELF file and what its plan section says.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The whole file.
    pub elf: Vec<u8>,
    pub plan: Plan,
}

impl Object {
    /// Reads a compiled script.
    ///
    /// # Errors
    /// Says in one sentence why the bytes are not one: not an ELF file, not
    /// for BPF, not made by rtrace, damaged, or of another version.
    pub fn from_bytes(elf: Vec<u8>) -> Result<Object, String> {
        let plan = Plan::from_bytes(&plan_section(&elf)?)?;
        Ok(Object { elf, plan })
    }
}

/// What the end of a stand-alone executable says: the object's length and checksum, and that it is one.
const TRAILER: usize = 24;
const MARK: &[u8; 8] = b"rt-tool1";

/// A stand-alone executable: a run side with an object behind it.
pub fn executable(run_side: &[u8], elf: &[u8]) -> Vec<u8> {
    let length = (elf.len() as u64).to_le_bytes();
    let sum = plan::checksum(elf).to_le_bytes();
    [run_side, elf, &length, &sum, MARK].concat()
}

/// The object at the end of an executable; nothing if there is none.
///
/// # Errors
/// It is damaged, or cannot be read.
pub fn behind(file: &mut (impl Read + Seek)) -> Result<Option<Vec<u8>>, String> {
    let cannot = |e: std::io::Error| format!("the executable cannot be read: {e}");
    let size = file.seek(SeekFrom::End(0)).map_err(cannot)?;
    let Some(end) = size.checked_sub(TRAILER as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER];
    file.seek(SeekFrom::Start(end)).map_err(cannot)?;
    file.read_exact(&mut trailer).map_err(cannot)?;
    let word = |at: usize| trailer.get(at..at + 8).and_then(|w| w.try_into().ok());
    let (length, sum) = (word(0).map(u64::from_le_bytes), word(8).map(u64::from_le_bytes));
    if !trailer.ends_with(MARK) {
        return Ok(None);
    }
    let damaged = || "the executable is damaged: its end is not what was written".to_owned();
    let length = length.filter(|l| *l <= end).ok_or_else(damaged)?;
    let mut elf = vec![0; usize::try_from(length).map_err(|_| damaged())?];
    file.seek(SeekFrom::Start(end - length)).map_err(cannot)?;
    file.read_exact(&mut elf).map_err(cannot)?;
    if sum != Some(plan::checksum(&elf)) {
        return Err(damaged());
    }
    Ok(Some(elf))
}

/// For fuzzing: reads any bytes in every way that there is, checksums put right, too.
///
/// # Panics
/// Something is wrong with the readers.
pub fn any_bytes(bytes: &[u8]) {
    let plan = |read: Result<Plan, String>| match read {
        Ok(plan) => {
            let again = Plan::from_bytes(&plan.to_bytes()).expect("a plan that was read is one");
            assert_eq!(again, plan);
            _ = (plan.names_user_code(), plan.names_kernel_code(), plan.probe_count());
        }
        Err(why) => assert!(!why.is_empty()),
    };
    plan(Object::from_bytes(bytes.to_vec()).map(|o| o.plan));
    plan(Plan::from_bytes(bytes));
    let sum = format!("\n{:016x}", plan::checksum(bytes));
    plan(Plan::from_bytes(&[bytes, sum.as_bytes()].concat()));
    _ = types(bytes);

    // The end of an executable: as it is, with a mark, and written properly.
    let read = |file: Vec<u8>| behind(&mut std::io::Cursor::new(file));
    _ = read(bytes.to_vec());
    _ = read([bytes, MARK].concat());
    let (side, elf) = bytes.split_at(bytes.len() / 3);
    assert_eq!(read(executable(side, elf)), Ok(Some(elf.to_vec())));

    // What is kept of a run: as it is, and with its sum put right.
    plan(pinned::Pinned::from_bytes(bytes).map(|p| p.object.plan));
    if let Some(mended) = pinned::mended(bytes) {
        plan(pinned::Pinned::from_bytes(&mended).map(|p| p.object.plan));
    }
}

/// The bytes of the plan section.
fn plan_section(elf: &[u8]) -> Result<Vec<u8>, String> {
    if !elf.starts_with(b"\x7fELF") {
        return Err("this is not a compiled script: not an ELF file".to_owned());
    }
    let file = object::File::parse(elf)
        .map_err(|e| format!("the ELF file is damaged: {}", lower(&e.to_string())))?;
    if file.format() != BinaryFormat::Elf || file.architecture() != Architecture::Bpf {
        return Err("this is an ELF file, but not a compiled script: not for BPF".to_owned());
    }
    let section = file.section_by_name(plan::SECTION).ok_or_else(|| {
        format!("this BPF object was not made by rtrace: it has no section `{}`", plan::SECTION)
    })?;
    let data = section
        .uncompressed_data()
        .map_err(|e| format!("the plan cannot be read: {}", lower(&e.to_string())))?;
    Ok(data.into_owned())
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// The section in which an object describes its types (BTF).
pub fn types(elf: &[u8]) -> Option<Vec<u8>> {
    use object::{Object as _, ObjectSection as _};
    let file = object::File::parse(elf).ok()?;
    Some(file.section_by_name(".BTF")?.uncompressed_data().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit little-endian ELF header without sections.
    fn header(machine: u16) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([1, 0]); // ET_REL
        elf.extend(machine.to_le_bytes());
        elf.extend(1u32.to_le_bytes());
        elf.extend([0; 28]);
        elf.extend(64u16.to_le_bytes());
        elf.extend([0; 10]);
        elf
    }

    #[test]
    fn executables_give_back_what_was_put_behind_them() {
        let file = executable(b"run side", b"object");
        let read = |bytes: &[u8]| behind(&mut std::io::Cursor::new(bytes.to_vec()));
        assert_eq!(read(&file), Ok(Some(b"object".to_vec())));
        assert_eq!(read(b"run side"), Ok(None));
        assert_eq!(read(b"a run side that is longer than the trailer"), Ok(None));
        for at in "run side".len()..file.len() - MARK.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x41;
            assert!(read(&damaged).unwrap_err().contains("damaged"), "byte {at}");
        }
    }

    #[test]
    fn foreign_files_are_named_for_what_they_are() {
        let error = |bytes: &[u8]| Object::from_bytes(bytes.to_vec()).expect_err("not a script");
        assert!(error(b"#!/bin/sh").contains("not an ELF file"));
        assert!(error(&header(62)).contains("not for BPF"));
        assert!(error(&header(247)).contains("not made by rtrace"));
        assert!(error(b"\x7fELF\x02\x01").contains("damaged"));
    }
}
