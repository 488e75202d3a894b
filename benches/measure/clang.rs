//! The hand-written programs, compiled and loaded.

use std::path::Path;
use std::process::Command;

use libbpf_rs::{Object, ObjectBuilder};

use crate::Result;

/// Compiles `programs.bpf.c` and loads all of its programs.
pub(crate) fn load() -> Result<Object> {
    let object = std::env::temp_dir().join(format!("rtrace-bench-{}.o", std::process::id()));
    let loaded = compile(&object).and_then(|()| {
        let open = ObjectBuilder::default().open_file(&object);
        open.and_then(libbpf_rs::OpenObject::load).map_err(|e| format!("cannot load the C: {e}"))
    });
    let _ = std::fs::remove_file(&object);
    loaded
}

fn compile(object: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/measure/programs.bpf.c");
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
