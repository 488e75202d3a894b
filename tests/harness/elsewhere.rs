//! Running a test program on other kernels, in QEMU.

use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs this test program, with its arguments, on each of the kernels that `RTRACE_VM_KERNELS` names;
/// nothing if it names none, or if this is one of them already.
pub(crate) fn run() -> Option<ExitCode> {
    let kernels = std::env::var("RTRACE_VM_KERNELS").ok()?;
    if std::env::var_os("RTRACE_VM").is_some() {
        return None;
    }
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(why) => {
            eprintln!("{why}");
            return Some(ExitCode::FAILURE);
        }
    };
    let vm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/run");
    let mut command = Command::new(vm);
    command.args(["--kernel", &kernels, "--timeout", "3000", "--"]).arg(this);
    command.args(std::env::args_os().skip(1));
    Some(match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("tests/vm/run: {why}");
            ExitCode::FAILURE
        }
    })
}
