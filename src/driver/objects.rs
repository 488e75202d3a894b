//! Compiled C that a script imports: `.bpf.o` as it is, `.bpf.c` through the clang
//! that is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::diag::Diagnostic;
use crate::host::btf::Btf;
use crate::sema::ObjectFile;
use crate::source::Span;

/// Reads an object, or compiles one; `folders` are those of `-I`.
pub(super) fn read(
    path: &Path,
    span: Span,
    folders: &[PathBuf],
) -> Result<ObjectFile, Box<Diagnostic>> {
    let name = path.display().to_string();
    let failed = |at: String| Diagnostic::error(span, format!("cannot import `{name}`")).at(at);
    let elf = if name.ends_with(".c") {
        compile(path, folders).map_err(|why| match why {
            NotCompiled::NoCompiler => failed(
                "C is compiled by clang, which is not installed".into(),
            )
            .help("install it (`apt install clang`), or import what it was compiled to: `.bpf.o`"),
            NotCompiled::Refused(said) => failed("clang refuses it".into()).note(said),
        })?
    } else {
        fs::read(path).map_err(|e| failed(e.to_string()))?
    };
    let types = Btf::of_object(&elf)
        .map_err(|why| failed(why).help("compile it with `clang -target bpf -g -O2 -c`"))?;
    Ok(ObjectFile { name, span, elf, types })
}

enum NotCompiled {
    NoCompiler,
    /// With what clang said.
    Refused(String),
}

/// Names under which Debian and others install clang; the first is enough.
const COMPILERS: [&str; 7] =
    ["clang", "clang-22", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17"];

fn compile(path: &Path, folders: &[PathBuf]) -> Result<Vec<u8>, NotCompiled> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86" };
    let named = std::env::var("CLANG").ok();
    let compilers = named.iter().map(String::as_str).chain(COMPILERS);
    for compiler in compilers {
        let mut command = Command::new(compiler);
        // v3 runs wherever programs of the script do that need it.
        command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-c", "-o", "-"]);
        command.arg(format!("-D__TARGET_ARCH_{arch}"));
        // Where Debian keeps headers of the architecture, such as asm/types.h.
        command.arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH));
        command.args(folders.iter().map(|f| format!("-I{}", f.display())));
        match command.arg(path).output() {
            Ok(output) if output.status.success() => return Ok(output.stdout),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(NotCompiled::Refused(said.trim_end().to_owned()));
            }
            Err(_) => {}
        }
    }
    Err(NotCompiled::NoCompiler)
}
