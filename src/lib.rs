//! rtrace.
pub mod diag;
pub mod parser;
pub mod plan;
pub mod source;
pub mod types;
