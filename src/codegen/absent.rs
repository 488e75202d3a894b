//! What stands for code generation in a build without the feature `llvm`:
//! stored objects run, and nothing is compiled.

use crate::ir;
use crate::plan::Plan;

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
    V1,
    V2,
    #[default]
    V3,
    V4,
}

/// What compilation would give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub elf: Vec<u8>,
    pub more: Vec<Vec<u8>>,
}

/// Whether this build can compile.
pub const AVAILABLE: bool = false;

/// # Errors
/// Always: there is no compiler in this build.
pub fn compile(_: &ir::Module, _: &Plan, _: &Options) -> Result<Compiled, String> {
    Err("built without a compiler".to_owned())
}

/// # Errors
/// Always: there is no compiler in this build.
pub fn llvm(_: &ir::Module, _: &Plan, _: &Options) -> Result<String, String> {
    Err("built without a compiler".to_owned())
}

/// # Errors
/// Always: there is no compiler in this build.
pub fn llvm_opt(_: &ir::Module, _: &Plan, _: &Options) -> Result<String, String> {
    Err("built without a compiler".to_owned())
}

/// # Errors
/// Always: there is no compiler in this build.
pub fn asm(_: &ir::Module, _: &Plan, _: &Options) -> Result<String, String> {
    Err("built without a compiler".to_owned())
}

/// There is nothing to seal.
pub fn seal(_: &mut [u8]) {}
