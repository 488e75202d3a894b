//! How much stack a program takes together with what it calls.
//!
//! LLVM sees one function at a time, and gives each up to 512 bytes. The kernel
//! allows as much for a whole chain of calls: a program, its callbacks and the
//! functions that they call, each rounded up (`check_max_stack_depth`,
//! kernel/bpf/verifier.c). What they take in the end stands in the object only.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// `MAX_BPF_STACK` of linux/filter.h.
const MAX_STACK: u32 = 512;

/// What a function's stack is rounded up to, and the least that it counts. Newer
/// kernels round to 16.
const ROUND: u32 = 32;

/// Where a function begins: its section, and the offset there.
type At = (usize, u64);

/// A function as its instructions have it.
#[derive(Debug, Default)]
struct Function {
    name: String,
    stack: u32,
    calls: BTreeSet<At>,
}

/// The functions of all chains of calls that take too much stack. None if the
/// bytes are no object.
pub(super) fn crowded(elf: &[u8]) -> Vec<String> {
    let functions = functions(elf).unwrap_or_default();
    let mut names = Vec::new();
    for &at in functions.keys() {
        let mut chain = Vec::new();
        walk(&functions, at, 0, &mut chain, &mut names);
    }
    names
}

/// Follows calls; there is no recursion, which BPF does not have.
fn walk<'a>(
    functions: &'a BTreeMap<At, Function>,
    at: At,
    above: u32,
    chain: &mut Vec<&'a str>,
    names: &mut Vec<String>,
) {
    let Some(function) = functions.get(&at) else { return };
    if chain.contains(&function.name.as_str()) {
        return;
    }
    let stack = above + function.stack.max(1).next_multiple_of(ROUND);
    chain.push(&function.name);
    if stack > MAX_STACK && chain.len() > 1 {
        names.extend(chain.iter().map(|n| (*n).to_owned()));
    }
    for &callee in &function.calls {
        walk(functions, callee, stack, chain, names);
    }
    chain.pop();
}

fn functions(elf: &[u8]) -> Option<BTreeMap<At, Function>> {
    let file = object::File::parse(elf).ok()?;
    // Without functions and callbacks there are no calls.
    file.section_by_name(".text").filter(|s| s.size() > 0)?;
    let big = !file.is_little_endian();
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let section = file.section_by_index(symbol.section_index()?).ok()?;
        let name = symbol.name().ok()?.to_owned();
        let start = symbol.address();
        let code = section.data().ok()?;
        let code = code.get(start as usize..(start + symbol.size()) as usize)?;
        let stack = stack(code, big);
        let here = section.index().0;
        // Calls within a section need no relocation, and have the distance in it.
        let near = code.chunks_exact(8).enumerate().filter_map(|(n, word)| {
            let insn = Insn::new(word, big)?;
            let at = start + 8 * n as u64;
            let distance = i64::from(insn.imm).checked_add(1)?.checked_mul(8)?;
            insn.is_local_call().then_some((here, at.checked_add_signed(distance)?))
        });
        let mut calls: BTreeSet<At> = near.collect();
        for (offset, relocation) in section.relocations() {
            let Some(within) = offset.checked_sub(start).filter(|o| *o < symbol.size()) else {
                continue;
            };
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let Ok(target) = file.symbol_by_index(index) else { continue };
            let Some(to) = target.section_index() else { continue };
            let word = code.get(within as usize..)?.first_chunk::<8>()?;
            let insn = Insn::new(word, big)?;
            // A symbol of a section has the rest in the instruction.
            let rest = match (target.kind(), insn.is_local_call()) {
                (SymbolKind::Section, true) => (i64::from(insn.imm) + 1) * 8,
                (SymbolKind::Section, false) => i64::from(insn.imm),
                _ => 0,
            };
            calls.extend(target.address().checked_add_signed(rest).map(|at| (to.0, at)));
        }
        functions.insert((here, start), Function { name, stack, calls });
    }
    Some(functions)
}

/// The lowest byte that instructions name below the frame pointer.
fn stack(code: &[u8], big: bool) -> u32 {
    let mut lowest = 0;
    let mut frame = None;
    for word in code.chunks_exact(8) {
        let Some(insn) = Insn::new(word, big) else { continue };
        let offset = match insn.opcode {
            ADD if frame == Some(insn.dst) => insn.imm,
            _ if insn.reaches_by() == Some(FP) => insn.offset.into(),
            _ => 0,
        };
        frame = (insn.opcode == MOV && insn.src == FP).then_some(insn.dst);
        lowest = lowest.min(offset);
    }
    lowest.unsigned_abs()
}

/// The frame pointer, `BPF_REG_10`.
const FP: u8 = 10;

/// `BPF_ALU64 | BPF_MOV | BPF_X` and `BPF_ALU64 | BPF_ADD | BPF_K` of linux/bpf.h.
const MOV: u8 = 0xbf;
const ADD: u8 = 0x07;

/// `BPF_JMP | BPF_CALL`, and the source that makes it a call within the program.
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;

/// The classes `BPF_LDX`, `BPF_ST` and `BPF_STX`.
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;

/// `struct bpf_insn` of linux/bpf.h.
struct Insn {
    opcode: u8,
    dst: u8,
    src: u8,
    offset: i16,
    imm: i32,
}

impl Insn {
    fn new(word: &[u8], big: bool) -> Option<Insn> {
        let [opcode, registers, offset @ .., i0, i1, i2, i3] = *word.first_chunk::<8>()?;
        let (low, high) = (registers & 15, registers >> 4);
        let imm = [i0, i1, i2, i3];
        let (dst, src, offset, imm) = match big {
            true => (high, low, i16::from_be_bytes(offset), i32::from_be_bytes(imm)),
            false => (low, high, i16::from_le_bytes(offset), i32::from_le_bytes(imm)),
        };
        Some(Insn { opcode, dst, src, offset, imm })
    }

    fn is_local_call(&self) -> bool {
        self.opcode == CALL && self.src == PSEUDO_CALL
    }

    /// The register with the address of memory that is read or written.
    fn reaches_by(&self) -> Option<u8> {
        match self.opcode & 7 {
            LDX => Some(self.src),
            ST | STX => Some(self.dst),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Vec<u8> {
        let (o, i) = (offset.to_le_bytes(), imm.to_le_bytes());
        [&[opcode, src << 4 | dst][..], &o[..], &i[..]].concat()
    }

    #[test]
    fn the_lowest_byte_counts_however_it_is_reached() {
        let store = insn(0x7b, FP, 1, -24, 0);
        assert_eq!(stack(&store, false), 24);
        let load = insn(0x79, 1, FP, -32, 0);
        assert_eq!(stack(&[store.clone(), load].concat(), false), 32);
        let address = [insn(MOV, 2, FP, 0, 0), insn(ADD, 2, 0, 0, -100)].concat();
        assert_eq!(stack(&address, false), 100);
        // An address of something else.
        let other = [insn(MOV, 2, 1, 0, 0), insn(ADD, 2, 0, 0, -100)].concat();
        assert_eq!(stack(&other, false), 0);
    }

    #[test]
    fn a_chain_counts_as_a_whole() {
        let function = |name: &str, stack, calls: &[u64]| Function {
            name: name.to_owned(),
            stack,
            calls: calls.iter().map(|at| (1, *at)).collect(),
        };
        let functions = BTreeMap::from([
            ((1, 0), function("probe", 300, &[8, 16])),
            ((1, 8), function("small", 20, &[])),
            ((1, 16), function("large", 170, &[8])),
        ]);
        let mut names = Vec::new();
        walk(&functions, (1, 0), 0, &mut Vec::new(), &mut names);
        assert_eq!(names, ["probe", "large", "small"]);
        names.clear();
        walk(&functions, (1, 16), 0, &mut Vec::new(), &mut names);
        assert!(names.is_empty());
    }
}
