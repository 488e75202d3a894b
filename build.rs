//! Builds the parser from `grammar/` and links LLVM statically.
//!
//! inkwell's own linking would pull in every LLVM component and the shared
//! libstdc++; naming the components that the BPF back end needs keeps the
//! binary small and its start-up short.

use std::path::PathBuf;
use std::process::Command;

/// The LLVM release that `inkwell`'s feature in `Cargo.toml` selects.
const LLVM: &str = "22";

/// Components that the BPF back end needs. `executionengine` is only there
/// because dropping an inkwell module refers to it.
const COMPONENTS: [&str; 6] =
    ["bpf", "passes", "irreader", "executionengine", "linker", "bitwriter"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The folder, since LALRPOP names only the files that it has already seen.
    println!("cargo:rerun-if-changed=grammar");
    println!("cargo:rerun-if-env-changed=LLVM_CONFIG");
    lalrpop::Configuration::new()
        .set_in_dir("grammar")
        .set_out_dir(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"))
        .emit_rerun_directives(true)
        .process()
        .expect("the grammar must be LR(1)");
    if std::env::var_os("CARGO_FEATURE_LLVM").is_some() {
        link_llvm();
        start_quickly();
    }
}

/// Most of the time before `main` goes into pages that are touched for the
/// first time. A program at a fixed address needs no relocation, of which LLVM
/// has fifty thousand; and what runs only at the start can lie together.
fn start_quickly() {
    println!("cargo:rerun-if-changed=link.ld");
    let script = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    for flag in [
        "-no-pie".to_owned(),
        "-Wl,-z,keep-text-section-prefix".to_owned(),
        format!("-Wl,-T,{}", script.join("link.ld").display()),
    ] {
        println!("cargo:rustc-link-arg-bin=rtrace={flag}");
    }
}

fn link_llvm() {
    let config = std::env::var("LLVM_CONFIG").unwrap_or_else(|_| format!("llvm-config-{LLVM}"));
    let llvm = |args: &[&str]| -> String {
        let output =
            Command::new(&config).arg("--link-static").args(args).output().unwrap_or_else(|e| {
                panic!("cannot run {config}: {e}; install llvm-{LLVM}-dev, or run `make setup`")
            });
        assert!(output.status.success(), "{config} {args:?} failed");
        String::from_utf8(output.stdout).expect("llvm-config prints text")
    };
    println!("cargo:rustc-env=RTRACE_LLVM_VERSION={}", llvm(&["--version"]).trim());
    println!("cargo:rustc-link-search=native={}", llvm(&["--libdir"]).trim());
    let mut names = vec!["--libnames"];
    names.extend(COMPONENTS);
    for archive in llvm(&names).split_whitespace() {
        let name = archive.trim_start_matches("lib").trim_end_matches(".a");
        println!("cargo:rustc-link-lib=static={name}");
    }
    // libstdc++.a lies in gcc's own directory, which only gcc knows.
    let gcc = Command::new("gcc")
        .arg("-print-file-name=libstdc++.a")
        .output()
        .expect("cannot run gcc; run `make setup`");
    let path = PathBuf::from(String::from_utf8_lossy(&gcc.stdout).trim());
    if let Some(dir) = path.parent() {
        println!("cargo:rustc-link-search=native={}", dir.display());
    }
    println!("cargo:rustc-link-lib=static=stdc++");
    println!("cargo:rustc-link-lib=static=zstd");
    println!("cargo:rustc-link-lib=static=z");
}
