//! C to an object with a plan inside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rtrace::plan::Plan;

/// Compiles `NAME.c` with a plan; gives the path of the object.
pub fn compile(name: &str, plan: &Plan) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let stem = directory().join(format!("{}-{number}", name.replace('/', "-")));
    let (json, object) = (stem.with_extension("json"), stem.with_extension("o"));
    std::fs::write(&json, plan.to_bytes()).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects").join(name);
    let done = Command::new(clang())
        .args(["-g", "-O2", "--target=bpf", "-mcpu=v3", "-fdebug-compilation-dir=."])
        .arg(format!("-DNR_GETPPID={}", libc::SYS_getppid))
        .arg(format!("-DPLAN=\"{}\"", json.display()))
        .arg("-c")
        .arg(source.with_extension("c"))
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    object
}

/// A directory for this run of the tests.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("rtrace-objects-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    })
}

/// Whichever clang there is.
fn clang() -> &'static str {
    static CLANG: OnceLock<&str> = OnceLock::new();
    CLANG.get_or_init(|| {
        let names = ["clang", "clang-22", "clang-21", "clang-20", "clang-19"];
        let runs = |name: &&&str| Command::new(**name).arg("--version").output().is_ok();
        names.iter().find(runs).expect("clang is installed")
    })
}
