//! Why a run could not start or had to end.

use std::fmt;

use crate::diag::{Diagnostic, Diagnostics};

/// Exit status of wrong input, missing privileges and the like (cli.md §4).
pub const STATUS_USAGE: u8 = 1;

/// Exit status of a run that the kernel refused.
pub const STATUS_RUN: u8 = 255;

/// What went wrong, as messages that may point into the script, and the exit
/// status that goes with it.
#[derive(Debug, Clone)]
pub struct Error {
    pub diagnostics: Diagnostics,
    pub status: u8,
    /// What the kernel's verifier and libbpf wrote; for `-v`.
    pub log: Option<String>,
}

impl Error {
    /// The kernel refused, or something broke on the way.
    pub fn run(diagnostic: Diagnostic) -> Error {
        Error::with_status(diagnostic, STATUS_RUN)
    }

    /// What was asked for cannot be done here.
    pub fn usage(diagnostic: Diagnostic) -> Error {
        Error::with_status(diagnostic, STATUS_USAGE)
    }

    fn with_status(diagnostic: Diagnostic, status: u8) -> Error {
        Error { diagnostics: Diagnostics { list: vec![diagnostic] }, status, log: None }
    }

    /// The same with the kernel's own words.
    #[must_use]
    pub(super) fn log(mut self, log: String) -> Error {
        self.log = (!log.is_empty()).then_some(log);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.list.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "; " } else { "" }, diagnostic.message)?;
            for note in diagnostic.notes.iter().chain(&diagnostic.helps) {
                write!(f, "; {note}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
