//! The IR as text.

use super::Module;

/// The module as `--emit ir` shows it.
pub fn print(module: &Module) -> String {
    format!("{module:#?}")
}
