//! rtrace.
pub mod diag;
pub mod parser;
pub mod source;
