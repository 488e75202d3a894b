//! How to compile, and what comes of it; the same for builds without a compiler.

/// How to compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub cpu: Cpu,
    /// For machines whose numbers begin with their high bytes.
    pub big_endian: bool,
    /// Threads that may share the work; 0 is one.
    pub threads: usize,
}

/// Version of the BPF instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cpu {
    /// The first one: fewer jumps.
    V1,
    /// Linux 4.14: 64-bit arithmetic only.
    V2,
    /// Linux 5.1: 32-bit arithmetic and jumps.
    #[default]
    V3,
    /// Linux 6.6: signed division, sign-extending loads and moves.
    V4,
}

/// What compilation gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// An object file for libbpf, with the plan in [`crate::plan::SECTION`].
    pub elf: Vec<u8>,
    /// Objects with more of the programs, which belong to it: to be linked, in this order.
    pub more: Vec<Vec<u8>>,
}
