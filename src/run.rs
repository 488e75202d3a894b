//! The run side of stand-alone executables: it runs the object that stands behind it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    ExitCode::from(rtrace::driver::tool(&args))
}
