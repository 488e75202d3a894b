//! Names of functions where they are not easily had.

use crate::{Folder, rtrace, text};

#[test]
fn programs_in_other_mount_namespaces_have_names() {
    let folder = Folder::new("inside");
    let (place, program) = (text(&folder.0), env!("CARGO_BIN_EXE_rt-workload"));
    // A file that only the process sees, which lives on for a while.
    let command = format!(
        "unshare -m sh -c 'mount -t tmpfs none {place} && cp {program} {place}/inside && \
         exec {place}/inside stacks 1 + sleeps 1 --ms 600'"
    );
    let script =
        "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-stacks\"/ { print(ustack(perf, 2)); }";
    let done = rtrace(&["-q", "-e", script, "-c", &command]).done().code(0);
    assert!(!folder.0.join("inside").exists());
    assert!(done.stdout.contains(" rt_stack_leaf+"), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains(" rt_stack_second+"), "{}", done.stdout);
}

#[test]
fn programs_that_have_ended_in_other_mount_namespaces_have_names() {
    let folder = Folder::new("ended");
    let (place, program) = (text(&folder.0), env!("CARGO_BIN_EXE_rt-workload"));
    // A file that only the process sees; the stack is printed when both are gone.
    let command = format!(
        "unshare -m sh -c 'mount -t tmpfs none {place} && cp {program} {place}/inside && \
         exec {place}/inside stacks 3 + sleeps 1 --ms 400'"
    );
    let script = "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-stacks\"/ { @[ustack(perf, 2)] = count(); }";
    let done = rtrace(&["-q", "-e", script, "-c", &command]).done().code(0);
    assert!(done.stdout.contains(" rt_stack_leaf+"), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("]: 3"), "{}", done.stdout);
}

/// Compiles a text.
fn compile(folder: &Folder, name: &str, source: &str, command: &str) {
    let file = folder.file(name, source);
    let words: Vec<&str> = command.split_whitespace().collect();
    let mut compiler = std::process::Command::new(words[0]);
    let done = compiler.current_dir(&folder.0).args(&words[1..]).arg(&file).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn run(folder: &Folder, command: &[&str]) {
    let mut made = std::process::Command::new(command[0]);
    assert!(made.current_dir(&folder.0).args(&command[1..]).status().unwrap().success());
}

const NESTED: &str = "static volatile int sink;
__attribute__((noinline)) void rt_innermost(int n) { sink += n; __asm__ volatile(\"\"); }
static inline __attribute__((always_inline)) void rt_inlined(int n) { rt_innermost(n); sink += n; }
__attribute__((noinline)) void rt_host(int n) { rt_inlined(n); sink += n; }
int main(void) { for (int i = 0; i < 4; i++) rt_host(i); return 0; }
";

/// What a stack of `nested` must show that has its debug information.
fn shows_source(shown: &str) -> bool {
    let inlined = shown.contains("[inlined] rt_inlined@") && shown.contains("nested.c:3");
    inlined && shown.contains("rt_host+") && shown.contains("nested.c:4") && shown.contains("]: 4")
}

#[test]
fn inlined_functions_and_lines_come_from_separate_files_too() {
    let folder = Folder::new("separate");
    compile(
        &folder,
        "nested.c",
        NESTED,
        "cc -O2 -g -fno-omit-frame-pointer -Wl,--build-id -o whole",
    );
    let program = folder.0.join("whole");
    let script = |name: &str| {
        format!("uprobe:{}/{name}:rt_innermost {{ @[dw_ustack(2)] = count(); }}", text(&folder.0))
    };
    let done = rtrace(&["-q", "-e", &script("whole"), "-c", text(&program)]).done().code(0);
    assert!(shows_source(&done.stdout), "{}{}", done.stdout, done.stderr);
    // The debug information is somewhere else, and then nowhere.
    std::fs::create_dir(folder.0.join("elsewhere")).unwrap();
    run(&folder, &["objcopy", "--only-keep-debug", "whole", "elsewhere/cut.debug"]);
    run(
        &folder,
        &["objcopy", "--strip-debug", "--add-gnu-debuglink=elsewhere/cut.debug", "whole", "cut"],
    );
    let (elsewhere, program) = (folder.0.join("elsewhere"), folder.0.join("cut"));
    for dirs in [text(&elsewhere).to_owned(), format!("/no/such:+{}", text(&elsewhere))] {
        let flags = ["-q", "--debuginfo", &dirs, "-e", &script("cut"), "-c", text(&program)];
        let done = rtrace(&flags).done().code(0);
        assert!(shows_source(&done.stdout), "{}{}", done.stdout, done.stderr);
    }
    let done = rtrace(&["-q", "-e", &script("cut"), "-c", text(&program)]).done().code(0);
    assert!(!done.stdout.contains("nested.c"), "{}", done.stdout);
    assert!(done.stdout.contains("rt_host+"), "{}", done.stdout);
    // Beside the program, as the link says.
    std::fs::copy(elsewhere.join("cut.debug"), folder.0.join("cut.debug")).unwrap();
    let done = rtrace(&["-q", "-e", &script("cut"), "-c", text(&program)]).done().code(0);
    assert!(shows_source(&done.stdout), "{}{}", done.stdout, done.stderr);
    // By the build id, which comes first.
    std::fs::remove_file(folder.0.join("cut.debug")).unwrap();
    let notes =
        std::process::Command::new("readelf").args(["-n", text(&program)]).output().unwrap();
    let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
    let id = notes.split("Build ID: ").nth(1).unwrap().split_whitespace().next().unwrap();
    let (first, rest) = id.split_at(2);
    let place = folder.0.join(format!("ids/.build-id/{first}"));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::rename(elsewhere.join("cut.debug"), place.join(format!("{rest}.debug"))).unwrap();
    let ids = folder.0.join("ids");
    let flags = ["-q", "--debuginfo", text(&ids), "-e", &script("cut"), "-c", text(&program)];
    let done = rtrace(&flags).done().code(0);
    assert!(shows_source(&done.stdout), "{}{}", done.stdout, done.stderr);
}

#[test]
fn names_of_cpp_and_rust_are_those_of_the_source() {
    let folder = Folder::new("mangled");
    let cpp = "namespace zoo { template <class T> struct Cage { __attribute__((noinline)) T feed(T n) {
        __asm__ volatile(\"\" ::: \"memory\"); return n + 1; } }; }
        extern \"C\" __attribute__((noinline)) int visit(int n) { return zoo::Cage<int>().feed(n) + 1; }
        int main() { return visit(1) == 3 ? 0 : 1; }";
    compile(&folder, "zoo.cpp", cpp, "c++ -O1 -fno-omit-frame-pointer -o zoo");
    let rust =
        "mod zoo { #[inline(never)] pub fn feed<T: Copy>(n: T) -> T { std::hint::black_box(n) } }
        fn main() { assert!(zoo::feed(7u8) == 7); }";
    compile(&folder, "shop.rs", rust, "rustc -O -C symbol-mangling-version=v0 -o shop");
    for (name, function, wanted) in [
        ("zoo", "cpp:\"zoo::Cage<int>::feed\"", "zoo::Cage<int>::feed(int)+0"),
        ("shop", "rust:\"shop::zoo::feed*\"", "shop::zoo::feed::<u8>+0"),
    ] {
        let program = folder.0.join(name);
        let script =
            format!("uprobe:{}:{function} {{ @[dw_ustack(1)] = count(); }}", text(&program));
        let done = rtrace(&["-q", "-e", &script, "-c", text(&program)]).done();
        assert!(done.stdout.contains(wanted), "{}{}", done.stdout, done.stderr);
        let script = format!("config = {{ cpp_demangle = false }} {script}");
        let done = rtrace(&["-q", "-e", &script, "-c", text(&program)]).done();
        assert!(!done.stdout.contains(wanted) && done.stdout.contains("]: 1"), "{}", done.stdout);
    }
}

#[test]
fn frames_without_a_name_are_told() {
    let folder = Folder::new("unnamed");
    // Code that is nowhere but in memory, and keeps a frame pointer: it calls back.
    let source = "#include <string.h>
        #include <sys/mman.h>
        __attribute__((noinline)) void rt_called(void) { __asm__ volatile(\"\"); }
        int main(void) {
            unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
            void *page = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memcpy(page, code, sizeof code);
            for (int i = 0; i < 3; i++) ((void (*)(void (*)(void)))page)(rt_called);
            return 0;
        }";
    compile(&folder, "made.c", source, "cc -O1 -o made");
    let program = folder.0.join("made");
    let script = format!("uprobe:{}:rt_called {{ print(dw_ustack(3)); }}", text(&program));
    let done = rtrace(&["-q", "-e", &script, "-c", text(&program)]).done().code(0);
    // It is mapped when the program runs already, so the first stacks may end before it.
    assert!(done.stdout.contains("rt_called+0\n"), "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("frames without a name: shown as addresses"), "{}", done.stderr);
}
