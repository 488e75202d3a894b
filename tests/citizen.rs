//! Objects among other tools: bpftool loads them, prints their maps by type and makes skeletons of
//! them, libbpf opens them, LLVM's tools read them. Needs root, bpftool and LLVM's tools.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{root, rtrace};
use object::{Object as _, ObjectSection as _};
use rtrace::object::Object;

const SCRIPT: &str = "#define LIMIT 3\n\
    tracepoint:syscalls:sys_enter_getppid /curtask->tgid > LIMIT/ {\n  \
      @calls[comm, tid] = count();\n  \
      @last = nsecs;\n}\n";

/// The command's output; it must go well.
#[track_caller]
fn output(program: &str, args: &[&str]) -> String {
    let done =
        Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {err}");
    String::from_utf8(done.stdout).unwrap()
}

fn tool(name: &str) -> String {
    let own = Path::new("/usr/lib/llvm-22/bin").join(name);
    if own.exists() { own.to_string_lossy().into_owned() } else { format!("{name}-22") }
}

/// An object of the script, built with some flags.
#[track_caller]
fn build(name: &str, flags: &[&str]) -> PathBuf {
    build_of(SCRIPT, name, flags)
}

#[track_caller]
fn build_of(text: &str, name: &str, flags: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("citizen");
    std::fs::create_dir_all(&folder).unwrap();
    let (script, object) =
        (folder.join(format!("{name}.bt")), folder.join(format!("{name}.bpf.o")));
    std::fs::write(&script, text).unwrap();
    let mut args = vec!["build", script.to_str().unwrap(), "-o", object.to_str().unwrap()];
    args.extend(flags);
    output(rtrace().to_str().unwrap(), &args);
    object
}

/// A folder of the BPF file system that is gone afterwards.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn bpftool_loads_an_object_and_prints_its_maps_by_type() {
    let object = build("loaded", &[]);
    let pins = Pins("/sys/fs/bpf/rt-test-citizen".into());
    std::fs::remove_dir_all(&pins.0).ok();
    let folder = pins.0.to_str().unwrap();
    let maps = format!("{folder}/maps");
    output("bpftool", &["prog", "loadall", object.to_str().unwrap(), folder, "pinmaps", &maps]);
    let programs = output(
        "bpftool",
        &["prog", "show", "pinned", &format!("{folder}/tracepoint_syscalls_sys_enter_getppid")],
    );
    assert!(programs.contains("gpl") && programs.contains("btf_id"), "{programs}");
    let last = format!("{maps}/AT_last");
    let value = "value hex 2a 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0";
    let mut update = vec!["map", "update", "pinned", &last, "key", "hex", "0", "0", "0", "0"];
    update.extend(value.split(' '));
    output("bpftool", &update);
    let shown = output("bpftool", &["map", "dump", "pinned", &last]);
    assert!(shown.contains("42"), "{shown}");
    let described =
        output("bpftool", &["btf", "dump", "map", "pinned", &format!("{maps}/AT_calls")]);
    assert!(described.contains("STRUCT") && described.contains("'_0'"), "{described}");
}

#[test]
fn bpftool_makes_a_skeleton() {
    let object = build("skeleton", &[]);
    let skeleton = output("bpftool", &["gen", "skeleton", object.to_str().unwrap()]);
    for part in ["struct skeleton_bpf", "*AT_calls;", "*tracepoint_syscalls_sys_enter_getppid;"] {
        assert!(skeleton.contains(part), "{part} is not in the skeleton");
    }
}

#[test]
fn libbpf_loads_it_with_its_relocations() {
    let object = build("libbpf", &[]);
    let loaded = libbpf_rs::ObjectBuilder::default().open_file(&object).unwrap().load().unwrap();
    let names: Vec<_> = loaded.progs().map(|p| p.name().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["tracepoint_syscalls_sys_enter_getppid"]);
    assert!(loaded.maps().any(|m| libbpf_rs::MapCore::name(&m) == "AT_calls"));
}

#[test]
fn llvm_reads_it_with_the_lines_of_the_script() {
    let object = build("read", &["--cpu", "v3"]);
    let object = object.to_str().unwrap();
    let text = output(&tool("llvm-objdump"), &["-S", "-d", object]);
    assert!(text.contains("@calls[comm, tid] = count();"), "{text}");
    let sections = output(&tool("llvm-readelf"), &["-S", object]);
    for section in ["tp_btf/sys_enter", "license", ".maps", ".BTF", ".BTF.ext", ".rtrace.plan"] {
        assert!(sections.contains(section), "{section} is not in {sections}");
    }
    // Of the kernel's structs, what is used.
    let types = output("bpftool", &["btf", "dump", "file", object]);
    let task = types.split("STRUCT 'task_struct'").nth(1).unwrap();
    let task = task.split("\n[").next().unwrap();
    assert_eq!(task.matches("type_id").count(), 2, "{task}");
    assert!(task.contains("'tgid'") && task.contains("'thread_info'"), "{task}");
}

#[test]
fn objects_for_other_processors() {
    for cpu in ["v1", "v2", "v3"] {
        let object = build(&format!("cpu-{cpu}"), &["--cpu", cpu]);
        output(rtrace().to_str().unwrap(), &["run", "-q", "--dry-run", object.to_str().unwrap()]);
    }
    let text = |flags: &[&str], name: &str| {
        let object = build(name, flags);
        output(&tool("llvm-objdump"), &["-d", object.to_str().unwrap()])
    };
    // 32-bit registers came with v3.
    assert!(!text(&["--cpu", "v2"], "narrow").contains(" w1 "));
    assert!(text(&["--cpu", "v3"], "wide").contains(" w1 "));
    let big = build("big", &["--target", "bpfeb"]);
    let header = output(&tool("llvm-readelf"), &["-h", big.to_str().unwrap()]);
    assert!(header.contains("big endian"), "{header}");
    output(&tool("llvm-objdump"), &["-d", big.to_str().unwrap()]);
}

/// Tables and text in constants are as the machine has numbers.
#[test]
fn numbers_begin_with_their_highest_byte_on_other_machines() {
    // A table of system calls of two bytes each: number 110 is the second, getppid.
    let script = "tracepoint:syscalls:sys_enter_getpid, tracepoint:syscalls:sys_enter_getppid \
                  /comm == \"abcdefg\"/ { printf(\"%s\", probe); }";
    let [little, big] = ["bpfel", "bpfeb"].map(|target| {
        let file = build_of(script, &format!("order-{target}"), &["--target", target]);
        let bytes = std::fs::read(&file).unwrap();
        assert!(Object::from_bytes(bytes.clone()).is_ok());
        let text = output(&tool("llvm-objdump"), &["-d", file.to_str().unwrap()]);
        (bytes, text)
    });
    // "abcdefg" and its NUL, as one number.
    let has = |text: &str, number: u64| text.contains(&format!("{number:#x} ll"));
    assert!(has(&little.1, 0x0067_6665_6463_6261), "{}", little.1);
    assert!(has(&big.1, 0x6162_6364_6566_6700), "{}", big.1);
    // The plan is marked as text in both, so that libbpf passes over it.
    for (bytes, _) in [little, big] {
        let file = object::File::parse(&*bytes).unwrap();
        let section = file.section_by_name(rtrace::plan::SECTION).unwrap();
        let object::SectionFlags::Elf { .. } = section.flags() else { panic!("an ELF file") };
        assert_eq!(section.kind(), object::SectionKind::Metadata);
    }
}

#[test]
fn objects_for_other_machines() {
    // The first argument of a function is in the register at 112 of those of x86-64, at 0 on arm64.
    let place = |arch: &str| {
        let script = "kprobe:do_exit { @ = arg0; }";
        let object = build_of(script, arch, &["--arch", arch]);
        let text = output(&tool("llvm-objdump"), &["-d", object.to_str().unwrap()]);
        text.contains(" + 0x70)")
    };
    assert!(place("x86_64") && !place("aarch64"));
    let object = build("elsewhere", &["--arch", "aarch64"]);
    if cfg!(target_arch = "x86_64") {
        let done = Command::new(rtrace()).args(["run", object.to_str().unwrap()]).output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(err.contains("the object is for aarch64, and this machine is x86_64"), "{err}");
    }
    let types = root().join("tests/host/debian/sys/kernel/btf/vmlinux");
    if types.exists() {
        build("types", &["--btf", types.to_str().unwrap()]);
    }
}
