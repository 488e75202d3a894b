//! Instructions of user binaries: where they begin, and which of them return. The only file that
//! knows the disassembler.

use std::collections::HashSet;

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

    /// Of places in the file, those whose instruction the kernel takes for another one when a probe is
    /// there, and so breaks the program.
    ///
    /// What it emulates, or steps over in a special way, it tells by the byte of the opcode
    /// (`branch_setup_xol_ops`, `push_setup_xol_ops`, `arch_uprobe_analyze_insn`,
    /// arch/x86/kernel/uprobes.c), also of instructions with a VEX or EVEX prefix, where the byte means
    /// something else: to it, `vpbroadcastb` is a jump.
    pub fn mistaken(&self, offsets: impl Iterator<Item = u64>) -> HashSet<u64> {
        let Ok(elf) = self.parse() else { return HashSet::new() };
        if elf.architecture() != Architecture::X86_64 {
            return HashSet::new();
        }
        let bytes = self.bytes();
        let is_mistaken = |offset: &u64| {
            let from = usize::try_from(*offset).ok();
            from.and_then(|from| bytes.get(from..)).is_some_and(is_mistaken)
        };
        offsets.filter(is_mistaken).collect()
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

fn is_mistaken(code: &[u8]) -> bool {
    // Prefixes that may stand before VEX and EVEX: segments, and the size of addresses.
    let before =
        code.iter().take_while(|b| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x65 | 0x67));
    let code = code.get(before.count()..).unwrap_or_default();
    let opcode = match code.first() {
        Some(0xc5) => code.get(2),
        Some(0xc4) => code.get(3),
        Some(0x62) => code.get(4),
        _ => None,
    };
    // push; jumps; nop; popf; calls, jumps and returns.
    matches!(
        opcode,
        Some(
            0x50..=0x57
            | 0x70..=0x7f
            | 0x90
            | 0x9a
            | 0x9d
            | 0xc2
            | 0xc3
            | 0xca
            | 0xcb
            | 0xe8..=0xeb,
        )
    )
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

    #[test]
    fn instructions_that_the_kernel_mistakes() {
        // vpbroadcastb %esi, %ymm17; vzeroupper; vcmpeqps; with an address of 32 bits.
        for code in [
            &[0x62, 0xe2, 0x7d, 0x28, 0x7a, 0xce][..],
            &[0xc5, 0xf8, 0x77],
            &[0xc5, 0xf8, 0xc2, 0xc1, 0x00],
            &[0x67, 0xc4, 0xe2, 0x7d, 0x78, 0x00],
        ] {
            assert!(is_mistaken(code), "{code:x?}");
        }
        // vmovd %esi, %xmm0; push; jp; cut off.
        for code in [&[0xc5, 0xf9, 0x6e, 0xc6][..], &[0x55], &[0x7a, 0xce], &[0x62], &[]] {
            assert!(!is_mistaken(code), "{code:x?}");
        }
    }

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
