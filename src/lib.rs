//! rtrace.
pub mod builtins;
#[cfg(feature = "llvm")]
pub mod codegen;
pub mod config;
pub mod diag;
pub mod host;
pub mod ir;
pub mod lexer;
pub mod object;
pub mod parser;
pub mod plan;
pub mod probes;
#[cfg(feature = "bpf")]
pub mod runtime;
pub mod sema;
pub mod source;
pub mod types;
