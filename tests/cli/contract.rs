//! What people know of the command line of such tools: one test for each kind of promise, with
//! all that belongs to it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use super::{Folder, rtrace, text};

#[test]
fn statuses_tell_what_was_wrong() {
    let wrong = |args: &[&str], status, message: &str| {
        rtrace(args).done().code(status).stderr_has(message);
    };
    // Wrong use, and wrong scripts.
    wrong(&[], 1, "Usage: rtrace");
    wrong(&["--no-such"], 1, "--no-such");
    wrong(&["/no/such.bt"], 1, "cannot read the script `/no/such.bt`");
    wrong(&["-e", "begin { $x }"], 1, "error");
    wrong(&["-e", "kprobe { }"], 1, "error");
    wrong(&["-f", "yaml", "-e", "begin { }"], 1, "possible values: text, json");
    wrong(&["-d", "no-such", "-e", "begin { }"], 1, "possible values: parse, ast");
    wrong(&["-k", "-k", "-e", "begin { }"], 1, "multiple times");
    wrong(&["-k", "--no-warnings", "-e", "begin { }"], 1, "cannot be used with");
    wrong(&["-p", "1", "-c", "true", "-e", "begin { }"], 1, "exclude each other");
    wrong(&["-p", "one", "-e", "begin { }"], 1, "`one` is no process id");
    wrong(&["-p", "4194305", "-e", "begin { }"], 1, "`4194305` is no process id");
    wrong(&["-p", "4194303", "-e", "begin { }"], 1, "there is no such process");
    wrong(&["-l", "a", "b"], 1, "takes one pattern");
    wrong(&["-e", "begin { print($1) }", "--n=5"], 1, "--n");
    for modes in [["--test", "--bench"], ["--test", "--fmt"], ["--bench", "--mode=test"]] {
        wrong(&[modes[0], modes[1], "-e", "begin { }"], 1, "cannot be used with");
    }
    // What belongs to a script beside its text.
    wrong(&["-e", "import \"no-such.bt\"; begin { }"], 2, "cannot import `no-such.bt`");
    wrong(&["-e", "struct A { int a b; }; begin { }"], 2, "expected `;`");
    wrong(&["-e", "#include \"no-such.h\"\nbegin { }"], 2, "cannot include `no-such.h`");
    wrong(&["--include", "no-such.h", "-e", "begin { }"], 2, "cannot include `no-such.h`");
    for name in ["BPFTRACE_MAX_STRLEN", "RTRACE_MAX_STRLEN", "BPFTRACE_STRLEN"] {
        let done = rtrace(&["-e", "begin { }"]).env(name, "long").done().code(2);
        done.stderr_has(&format!("`long` is no value of the variable `{name}`"));
    }
    // A mistake in the script itself comes first.
    wrong(&["-e", "import \"no-such.bt\"; begin { print(1 }"], 1, "expected");
}

#[test]
fn the_command_of_c_is_found_and_runs_or_the_reason_is_told() {
    let folder = Folder::new("contract-command");
    let damaged = folder.file("damaged", "\u{1}\u{2}");
    std::fs::set_permissions(&damaged, std::fs::Permissions::from_mode(0o755)).unwrap();
    let plain = folder.file("plain", "");
    let run = |command: &str| rtrace(&["-q", "-e", "begin { }", "-c", command]);
    run("no-such-command").done().code(1).stderr_has("no executable file `no-such-command`");
    run(text(&plain)).done().code(1).stderr_has("is not an executable file");
    run("").done().code(1).stderr_has("it is empty");
    run("echo 'open").done().code(1).stderr_has("is not closed");
    run(text(&damaged)).done().code(255).stderr_has("Exec format error");
    // As in a shell, but without one.
    let done = run(r#"printf %s,%s. 'a b' c\ "d e" $HOME"#).done().code(0);
    assert!(done.stdout.contains("a b,c d e.$HOME,"), "{}", done.stdout);
    // What becomes of it is its own matter.
    run("false").done().code(0);
}

#[test]
fn settings_are_known_in_scripts_and_in_the_environment() {
    for (key, value) in [
        ("cache_user_symbols", "PER_PROGRAM"),
        ("cpp_demangle", "no"),
        ("lazy_symbolication", "off"),
        ("license", "Dual MIT/GPL"),
        ("log_size", "2000000"),
        ("max_bpf_progs", "10"),
        ("max_cat_bytes", "1k"),
        ("max_map_keys", "0x10"),
        ("max_probes", "1e3"),
        ("max_strlen", "64"),
        ("missing_probes", "warn"),
        ("on_stack_limit", "64"),
        ("perf_rb_pages", "64"),
        ("print_maps_on_exit", "0"),
        ("show_debug_info", "false"),
        ("stack_mode", "perf"),
        ("str_trunc_trailer", ""),
        ("use_blazesym", "1"),
        ("unstable_tseries", "enable"),
        ("unstable_dw_ustack", "warn"),
        ("unstable_typeinfo", "error"),
        ("unstable_import_statement", "enable"),
    ] {
        let value = if key == "max_cat_bytes" { "1024" } else { value };
        for name in [key.to_owned(), key.to_uppercase(), format!("BPFTRACE_{}", key.to_uppercase())]
        {
            let script = format!("config = {{ {name} = \"{value}\" }} begin {{ }}");
            let done = rtrace(&["-e", &script, "--emit=plan"]).done().code(0);
            done.stderr("");
        }
        for prefix in ["BPFTRACE_", "RTRACE_"] {
            let name = prefix.to_owned() + &key.to_uppercase();
            rtrace(&["-e", "begin { }", "--emit=plan"]).env(&name, value).done().code(0).stderr("");
        }
    }
    for key in ["btf", "kernel_source", "kernel_build", "vmlinux"] {
        let script = format!("config = {{ {key} = \"x\" }} begin {{ }}");
        let done = rtrace(&["-e", &script, "--emit=plan"]).done().code(1);
        done.stderr_has(&format!("set the environment variable `BPFTRACE_{}`", key.to_uppercase()));
    }
    // The environment wins, by new names and by old ones.
    let script = "config = { max_strlen = 64 } begin { print(sizeof(str(0))); }";
    for (name, value, size) in [
        ("BPFTRACE_MAX_STRLEN", "32", "32"),
        ("BPFTRACE_STRLEN", "16", "16"),
        ("RTRACE_MAX_STRLEN", "8", "8"),
        ("NO_SUCH_MAX_STRLEN", "8", "64"),
    ] {
        rtrace(&["-q", "-e", script]).env(name, value).done().stdout(&format!("{size}\n\n\n"));
    }
}

#[test]
fn stages_are_shown_and_the_run_goes_on() {
    let folder = Folder::new("contract-stages");
    let script = "begin { print(7); }";
    for (stage, out, err) in [
        ("parse", "", "begin"),
        ("ast", "", "begin"),
        ("types", "program", ""),
        ("codegen", "define", ""),
        ("codegen-opt", "define", ""),
        ("dis", "exit", ""),
        ("libbpf", "", "libbpf: "),
        ("verifier", "", "processed"),
        ("all", "define", "processed"),
        ("ast,types", "program", "begin"),
    ] {
        let done = rtrace(&["-q", "-d", stage, "-e", script]).done().code(0);
        assert!(done.stdout.contains("7\n\n\n"), "{stage}: {}", done.stdout);
        assert!(done.stdout.contains(out) && done.stderr.contains(err), "{stage}: {}", done.stderr);
    }
    let done = rtrace(&["--mode", "codegen", "-d", "types", "-e", script]).done().code(0);
    assert!(!done.stdout.contains("7\n\n\n"));
    let (name, object) = (folder.0.join("name"), folder.0.join("object.o"));
    let files = ["--emit-llvm", text(&name), "--emit-elf", text(&object), "--verify-llvm-ir"];
    let done = rtrace(&[&files[..], &["-q", "-e", script]].concat()).done().code(0);
    done.stdout("7\n\n\n");
    for file in ["name.original.ll", "name.optimized.ll"] {
        let llvm = std::fs::read_to_string(folder.0.join(file)).unwrap();
        assert!(llvm.contains("define"), "{llvm}");
    }
    assert!(std::fs::read(&object).unwrap().starts_with(b"\x7fELF"));
    // `begin` runs, `end` does not, and nothing is printed.
    let script = "begin { printf(\"begin\"); @ = 1; } end { printf(\"end\"); }";
    rtrace(&["--dry-run", "-e", script]).done().code(0).stdout("").stderr("Attached 2 probes\n");
}

#[test]
fn options_stand_anywhere_and_parameters_behind_them() {
    let folder = Folder::new("contract-order");
    let file = folder.file(
        "a.bt",
        "begin { printf(\"%s %d %s %d\\n\", str($1), $#, str($2), getopt(\"n\", 1)); }",
    );
    let file = text(&file);
    let says = "p1 2 p2 5\n\n\n";
    rtrace(&["-q", file, "p1", "--", "--n=5", "p2"]).done().code(0).stdout(says);
    rtrace(&[file, "-q", "p1", "--", "p2", "--n=5"]).done().code(0).stdout(says);
    rtrace(&[file, "p1", "-q", "p2", "--", "--n", "5"]).done().code(1).stderr_has("n");
    let script = "begin { print(str($1)); }";
    // A file beside `-e` is a parameter.
    rtrace(&["-q", "-e", script, file]).done().code(0).stdout(&format!("{file}\n\n\n"));
    // Long options may be cut.
    rtrace(&["--qui", "--form", "json", "-e", "begin { print(1) }"])
        .done()
        .code(0)
        .stdout("{\"type\": \"value\", \"data\": 1}\n{\"type\": \"losses\", \"data\": []}\n");
    rtrace(&["-q", "-", "x"]).input(script).done().code(0).stdout("x\n\n\n");
    rtrace(&["-e", ""]).done().code(1).stdout("No probes to attach\n");
    rtrace(&["-q", "-e", ""]).done().code(1).stdout("");
    for help in ["-h", "--help"] {
        let done = rtrace(&[help]).done().code(0).stderr("");
        assert!(done.stdout.contains("Usage: rtrace"));
    }
    let (short, long) = (rtrace(&["-h"]).done().stdout, rtrace(&["--help"]).done().stdout);
    assert_eq!(short, long);
}

#[test]
fn a_closed_error_stream_is_no_fault() {
    for args in [&[][..], &["-e", "begin { $x }"], &["-d", "ast", "-e", "begin { }"], &["--nope"]] {
        let mut run = rtrace(args);
        let mut child = run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 1)), "{args:?}: {code:?}");
    }
}

#[test]
fn a_service_manager_is_told() {
    let folder = Folder::new("contract-service");
    let path = folder.0.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    rtrace(&["-q", "-e", "begin { }"]).env("NOTIFY_SOCKET", text(&path)).done().code(0);
    let mut told = [0; 64];
    for expected in ["READY=1", "STOPPING=1"] {
        let length = socket.recv(&mut told).unwrap();
        assert_eq!(told[..length], *expected.as_bytes());
    }
    // Nobody listens.
    rtrace(&["-q", "-e", "begin { }"]).env("NOTIFY_SOCKET", "/no/such").done().code(0);
}

#[test]
fn an_output_file_is_truncated_and_has_the_output_only() {
    let folder = Folder::new("contract-output");
    let file = folder.file("out", &"x".repeat(1000));
    let script = "begin { print(1); errorf(\"bad\"); }";
    let done = rtrace(&["-o", text(&file), "-e", script]).done().code(0).stdout("");
    done.stderr_has("bad");
    let mut written = String::new();
    std::fs::File::open(&file).unwrap().read_to_string(&mut written).unwrap();
    assert_eq!(written, "1\n\n\n");
    rtrace(&["-o", "/no/such/folder", "-e", script]).done().code(1).stderr_has("cannot write");
}

#[test]
fn variables_that_change_nothing_are_told() {
    let run = |name: &str, value: &str| {
        rtrace(&["-q", "-e", "begin { exit(); }"]).env(name, value).done().code(0).stdout("\n\n")
    };
    for name in ["BPFTRACE_KERNEL_SOURCE", "BPFTRACE_KERNEL_BUILD", "BPFTRACE_VMLINUX"] {
        run(name, "/usr/src").stderr_has(&format!("the variable `{name}` has no effect"));
    }
    run("BPFTRACE_MAX_STRLN", "5")
        .stderr_has("warning[unknown-variable]: there is no variable `BPFTRACE_MAX_STRLN`")
        .stderr_has("did you mean `BPFTRACE_MAX_STRLEN`?");
    run("RTRACE_MAX_STRLN", "5").stderr_has("did you mean `RTRACE_MAX_STRLEN`?");
    for name in ["BPFTRACE_DEBUG_OUTPUT", "BPFTRACE_NO_USER_SYMBOLS", "BPFTRACE_COLOR"] {
        run(name, "never").stderr("");
    }
    rtrace(&["-e", "begin { print(curtask.pid); }"])
        .env("BPFTRACE_BTF", "/no/such/types")
        .done()
        .code(1)
        .stderr_has("there is no file `/no/such/types`, which `BPFTRACE_BTF` names");
}

#[test]
fn the_compiler_is_measured_by_its_stages() {
    let script = "begin { @ = count(); }";
    let table = rtrace(&["--mode", "compiler-bench", "-e", script]).done().code(0).stderr("");
    let rows: Vec<Vec<&str>> =
        table.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["Benchmark", "Time(ns)", "Iterations"]);
    let names: Vec<&str> = rows[2..].iter().map(|row| row[0]).collect();
    assert_eq!(names, ["lex", "parse", "check", "compile"]);
    assert!(rows[2..].iter().all(|row| row[1].parse::<u64>().unwrap() > 0 && row[2] == "10"));
    let json = rtrace(&["--mode", "compiler-bench", "-f", "json", "-e", script]).done().code(0);
    assert_eq!(json.stdout.matches("{\"type\": \"benchmark_result\"").count(), 4);
}
