//! Programs that read a text from their input.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs a command with a text as its input, and gives what it wrote.
///
/// # Errors
/// The command cannot be started, or not be waited for.
pub(crate) fn feed(command: &mut Command, text: &str) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading: what it says then is judged, not this.
        stdin.write_all(text.as_bytes()).ok();
    }
    child.wait_with_output()
}
