//! Facts about the traced machine.

pub mod arch;
pub mod features;
