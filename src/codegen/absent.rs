//! What stands for code generation in a build without the feature `llvm`:
//! stored objects run, and nothing is compiled.

mod options;

use crate::ir;
use crate::plan::Plan;
pub use options::{Compiled, Cpu, Options};

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
