//! Instructions of user binaries: where they begin, and which of them return. The only file that
//! knows the disassembler.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use object::{Architecture, Object, ObjectSection};

use super::elf::{Binary, ElfFunction};

/// `ret` of arm64, which has the address to go to in `x30` (Arm Architecture Reference Manual).
const RET_ARM64: [u8; 4] = [0xc0, 0x03, 0x5f, 0xd6];

impl Binary {
    /// The distances from a function's start at which it returns, in order; none if it never does.
    ///
    /// # Errors
    /// Why its instructions are not known, as a phrase for a diagnostic.
    pub fn returns(&self, function: &ElfFunction) -> Result<Vec<u64>, String> {
        self.instructions(function, &|instruction| match instruction {
            Instruction::X86(instruction) => instruction.mnemonic() == Mnemonic::Ret,
            Instruction::Arm64(word) => *word == RET_ARM64,
        })
    }

    /// Whether an instruction begins at a distance from a function's start; nothing if that is not
    /// known.
    pub fn is_instruction(&self, function: &ElfFunction, offset: u64) -> Option<bool> {
        let all = self.instructions(function, &|_| true).ok()?;
        Some(all.contains(&offset))
    }

    /// Where the wanted instructions of a function begin.
    fn instructions(
        &self,
        function: &ElfFunction,
        wanted: &dyn Fn(&Instruction<'_>) -> bool,
    ) -> Result<Vec<u64>, String> {
        let elf = self.parse()?;
        let code = code(&elf, function).ok_or("its code is not in the file")?;
        let mut found = Vec::new();
        match elf.architecture() {
            Architecture::X86_64 => {
                let mut decoder =
                    Decoder::with_ip(64, code, function.address, DecoderOptions::NONE);
                while decoder.can_decode() {
                    let instruction = decoder.decode();
                    if instruction.is_invalid() {
                        return Err("it has bytes that are no instructions".into());
                    }
                    if wanted(&Instruction::X86(&instruction)) {
                        found.push(instruction.ip() - function.address);
                    }
                }
            }
            Architecture::Aarch64 => {
                let words = code.chunks_exact(4).zip((0u64..).step_by(4));
                let chosen = words.filter(|(word, _)| wanted(&Instruction::Arm64(word)));
                found.extend(chosen.map(|(_, offset)| offset));
            }
            _ => return Err("its instructions are not known to rtrace".into()),
        }
        Ok(found)
    }
}

enum Instruction<'c> {
    X86(&'c iced_x86::Instruction),
    Arm64(&'c [u8]),
}

/// The bytes of a function.
fn code<'e>(elf: &object::File<'e>, function: &ElfFunction) -> Option<&'e [u8]> {
    let holds = |s: &object::Section<'e, '_>| {
        let distance = function.address.checked_sub(s.address());
        distance.is_some_and(|d| d < s.size())
    };
    let section = elf.sections().find(holds)?;
    section.data_range(function.address, function.size).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Binary {
        Binary::open(&std::env::current_exe().unwrap()).unwrap()
    }

    #[inline(never)]
    #[unsafe(no_mangle)]
    extern "C" fn rtrace_twice(n: u64) -> u64 {
        std::hint::black_box(n) * 2
    }

    #[test]
    fn a_function_returns_at_its_last_instruction() {
        assert_eq!(rtrace_twice(2), 4);
        let binary = own();
        let function = binary.functions(&|name| name == "rtrace_twice").remove(0);
        let returns = binary.returns(&function).unwrap();
        assert!(!returns.is_empty());
        for offset in &returns {
            assert_eq!(binary.is_instruction(&function, *offset), Some(true));
        }
        assert_eq!(binary.is_instruction(&function, 0), Some(true));
        assert_eq!(binary.is_instruction(&function, function.size), Some(false));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let binary = own();
        let mut function = binary.functions(&|name| name == "rtrace_twice").remove(0);
        function.size = u64::MAX;
        assert_eq!(binary.returns(&function).unwrap_err(), "its code is not in the file");
        assert_eq!(binary.is_instruction(&function, 0), None);
    }
}
