//! rtrace.
pub mod builtins;
pub mod cli;
#[cfg_attr(not(feature = "llvm"), path = "codegen/absent.rs")]
pub mod codegen;
pub mod config;
pub mod diag;
pub mod driver;
pub mod flame;
pub mod guard;
pub mod help;
pub mod host;
pub mod info;
pub mod ir;
pub mod language;
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
