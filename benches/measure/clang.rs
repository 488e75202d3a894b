//! The hand-written programs, compiled and loaded.

use std::path::Path;
use std::process::Command;

use libbpf_rs::{Object, ObjectBuilder};

use crate::Result;

/// Compiles `programs.bpf.c` and loads all of its programs.
pub(crate) fn load() -> Result<Object> {
    with_compiled("programs.bpf.c", |object| {
        let open = ObjectBuilder::default().open_file(object);
        open.and_then(libbpf_rs::OpenObject::load).map_err(|e| format!("cannot load the C: {e}"))
    })
}

/// Compiles a file here and shows the object.
pub(crate) fn with_compiled<T>(source: &str, use_it: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let object = std::env::temp_dir().join(format!("rtrace-bench-{}.o", std::process::id()));
    let done = compile(source, &object).and_then(|()| use_it(&object));
    let _ = std::fs::remove_file(&object);
    done
}

fn compile(source: &str, object: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/measure").join(source);
    let names = ["clang", "clang-22", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17"];
    let runs = |name: &&&str| Command::new(**name).arg("--version").output().is_ok();
    let clang = names.iter().find(runs).ok_or("there is no clang; `tools/setup bench`")?;
    let done = Command::new(clang)
        .args(["-O2", "-g", "-Wall", "-Werror", "--target=bpf", "-mcpu=v3", "-c"])
        .arg(format!("-D__TARGET_ARCH_{}", architecture()))
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(format!("-DWANTED_PID={}", std::process::id()))
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|e| format!("cannot run {clang}: {e}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{clang}: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// As libbpf's headers call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => other,
    }
}
