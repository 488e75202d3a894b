//! The command line: flags, streams, exit status, pipes, signals. Tests that
//! load programs need root and fail without it.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

#[path = "cli/contract.rs"]
mod contract;
#[path = "cli/exports.rs"]
mod exports;
#[path = "harness/feed.rs"]
mod feed;
#[path = "cli/privileges.rs"]
mod privileges;
#[path = "cli/shell.rs"]
mod shell;
#[path = "cli/symbols.rs"]
mod symbols;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/tool.rs"]
mod tool;
#[path = "cli/unwind.rs"]
mod unwind;
#[path = "cli/wire.rs"]
mod wire;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use feed::feed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A run of rtrace, to be described and then made.
struct Run {
    command: Command,
    input: Option<String>,
}

/// What a run gave.
struct Done {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

fn rtrace(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtrace"));
    command.args(args).env("RTRACE_COLOR", "never").stdin(Stdio::null());
    Run { command, input: None }
}

impl Run {
    fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    fn input(mut self, text: &str) -> Run {
        self.input = Some(text.to_owned());
        self
    }

    #[track_caller]
    fn done(mut self) -> Done {
        let output = match &self.input {
            Some(text) => feed(&mut self.command, text),
            None => self.command.output(),
        };
        let output = output.unwrap();
        Done {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

impl Done {
    #[track_caller]
    fn code(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn stdout(self, text: &str) -> Done {
        assert_eq!(self.stdout, text, "stderr: {}", self.stderr);
        self
    }

    #[track_caller]
    fn stderr(self, text: &str) -> Done {
        assert_eq!(self.stderr, text, "stdout: {}", self.stdout);
        self
    }

    #[track_caller]
    fn stderr_has(self, text: &str) -> Done {
        assert!(self.stderr.contains(text), "{text:?} is not in {}", self.stderr);
        self
    }
}

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rtrace-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn version_and_help_go_to_standard_output() {
    rtrace(&["-V"]).done().code(0).stdout("rtrace v0.1.0\n").stderr("");
    let help = rtrace(&["--help"]).done().code(0).stderr("");
    assert!(help.stdout.contains("Usage: rtrace [OPTIONS] FILE [PARAMS...]"));
    for part in ["build", "run"] {
        assert!(rtrace(&[part, "--help"]).done().code(0).stdout.contains("Usage:"));
    }
}

#[test]
fn wrong_use_ends_with_status_1() {
    rtrace(&[]).done().code(1).stdout("").stderr_has("Usage:");
    rtrace(&["--bogus"]).done().code(1).stdout("").stderr_has("unexpected argument '--bogus'");
    rtrace(&["-f", "xml", "-e", "begin { }"]).done().code(1).stderr_has("xml");
    rtrace(&["/no/such/script.bt"]).done().code(1).stderr_has("cannot read the script");
    rtrace(&["-p", "1", "-c", "true", "-e", "begin { }"])
        .done()
        .code(1)
        .stderr_has("`-p` and `-c` exclude each other");
    rtrace(&["-p", "x", "-e", "begin { }"]).done().code(1).stderr_has("`x` is no process id");
    rtrace(&["-k", "--no-warnings", "-e", "begin { }"]).done().code(1).stderr_has("--no-warnings");
    rtrace(&["-l", "a", "b"]).done().code(1).stderr_has("one pattern");
}

#[test]
fn script_errors_end_with_status_1_and_attach_nothing() {
    rtrace(&["-e", "begin { print(cmom); }"])
        .done()
        .code(1)
        .stdout("")
        .stderr_has("unknown name `cmom`");
}

#[test]
fn scripts_come_from_text_files_and_standard_input() {
    let print = "begin { printf(\"%s %d %d\\n\", str($1), $2, $#); }";
    let folder = Folder::new("sources");
    let script = folder.file("s.bt", print);
    let wanted = "one 2 2\n\n\n";
    rtrace(&["-q", "-e", print, "one", "2"]).done().code(0).stdout(wanted);
    rtrace(&["-q", text(&script), "one", "2"]).done().code(0).stdout(wanted);
    // Options may follow the file.
    rtrace(&[text(&script), "-q", "one", "2"]).done().code(0).stdout(wanted);
    rtrace(&["-q", "-", "one", "2"]).input(print).done().code(0).stdout(wanted);
}

#[test]
fn a_script_with_a_first_line_runs_by_itself() {
    let folder = Folder::new("shebang");
    let interpreter = env!("CARGO_BIN_EXE_rtrace");
    let script =
        folder.file("s.bt", &format!("#!{interpreter}\nbegin {{ printf(\"%d\\n\", $1); }}\n"));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&script).arg("7").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n\n\n");
}

#[test]
fn named_parameters_stand_behind_two_dashes() {
    let script = "begin { print((getopt(\"n\", 5), getopt(\"v\"), getopt(\"s\", \"x\"), $1)); }";
    rtrace(&["-q", "-e", script, "--", "--n=0x10", "--v", "--s=y", "p"])
        .done()
        .code(0)
        .stdout("(16, true, y, p)\n\n\n")
        .stderr("");
    rtrace(&["-q", "-e", "begin { print(getopt(\"n\", 5)); }", "--", "--m=1"])
        .done()
        .code(1)
        .stderr_has("the script has no parameter `--m`");
}

#[test]
fn named_parameters_are_listed_without_looking_at_probes() {
    let script = "kprobe:no_such_function { print((getopt(\"n\", 5, \"how many\"), \
                  getopt(\"flag\"), getopt(\"on\", true), getopt(\"s\", \"a, b\", \"text\"))); }";
    let expected = "Parameters of stdin, to be given behind `--`:\n  --n=5      how many\n  \
                    --flag\n  --on=true\n  --s=a, b   text\n";
    rtrace(&["-e", script, "--", "--help"]).done().code(0).stdout(expected);
    rtrace(&["-e", "begin { exit(); }", "--", "--help"])
        .done()
        .code(0)
        .stdout("stdin has no named parameters\n");
    // A script may have a parameter of that name.
    let own = "begin { printf(\"%d\\n\", getopt(\"help\")); exit(); }";
    rtrace(&["-q", "-e", own, "--", "--help"]).done().code(0).stdout("1\n\n\n");
}

#[test]
fn exit_gives_the_status() {
    rtrace(&["-q", "-e", "begin { exit(7); printf(\"not reached\"); }"])
        .done()
        .code(7)
        .stdout("\n\n");
    rtrace(&["-q", "-e", "begin { exit(); }"]).done().code(0);
    rtrace(&["-q", "-e", "begin { exit(257); }"]).done().code(1);
}

#[test]
fn attached_probes_are_counted_on_standard_error() {
    rtrace(&["-e", "begin { }"]).done().code(0).stdout("\n\n").stderr("Attached 1 probe\n");
    rtrace(&["-e", "begin { } interval:ms:1 { exit(); } end { }"])
        .done()
        .code(0)
        .stderr("Attached 3 probes\n");
    rtrace(&["-q", "-e", "begin { }"]).done().stderr("");
}

#[test]
fn harnesses_are_told_when_all_is_attached() {
    rtrace(&["-q", "-e", "interval:ms:1 { exit(); }"])
        .env("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1")
        .done()
        .code(0)
        .stdout("__BPFTRACE_NOTIFY_PROBES_ATTACHED\n\n\n");
}

#[test]
fn output_goes_to_a_file() {
    let folder = Folder::new("output");
    let file = folder.0.join("out.txt");
    rtrace(&["-o", text(&file), "-e", "begin { @x = 5; printf(\"hi\\n\"); }"])
        .done()
        .code(0)
        .stdout("")
        .stderr("Attached 1 probe\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hi\n\n\n@x: 5\n");
    rtrace(&["-o", "/no/such/dir/x", "-e", "begin { }"]).done().code(1).stderr_has("cannot write");
}

#[test]
fn json_is_one_object_a_line() {
    let script =
        "begin { @a[1, \"x y\"] = 2; @h = hist(5); print((1, \"a\")); printf(\"%d\", 3); }";
    rtrace(&["-f", "json", "-e", script]).done().code(0).stderr("").stdout(concat!(
        "{\"type\": \"attached_probes\", \"count\": 1, \"data\": {\"probes\": 1}}\n",
        "{\"type\": \"value\", \"data\": [1,\"a\"]}\n",
        "{\"type\": \"printf\", \"data\": \"3\"}\n",
        "{\"type\": \"map\", \"data\": {\"@a\": {\"1,xy\": 2}}}\n",
        "{\"type\": \"hist\", \"data\": {\"@h\": [{\"min\": 4, \"max\": 7, \"count\": 1}]}}\n",
        "{\"type\": \"losses\", \"data\": []}\n",
    ));
}

#[test]
fn a_dry_run_attaches_and_ends() {
    rtrace(&["--dry-run", "-e", "begin { printf(\"b\\n\"); } interval:s:100 { }"])
        .done()
        .code(0)
        .stderr("Attached 2 probes\n");
}

#[test]
fn settings_come_from_the_environment() {
    rtrace(&["-q", "-e", "begin { @x = 1; }"])
        .env("BPFTRACE_PRINT_MAPS_ON_EXIT", "false")
        .done()
        .stdout("\n\n");
    rtrace(&["-q", "-e", "begin { @x[1] = 1; @x[2] = 1; }"])
        .env("BPFTRACE_MAX_MAP_KEYS", "1")
        .done()
        .stdout("\n\n@x[1]: 1\n")
        .stderr_has("`@x` has room for 1 keys");
}

#[test]
fn warnings_can_be_silenced() {
    let script = "begin { delete(@x, 1); @x[2] = 1; }";
    rtrace(&["-q", "-e", script]).done().stderr_has("Can't delete map element");
    rtrace(&["-q", "--no-warnings", "-e", script]).done().code(0).stderr("");
}

#[test]
fn unsafe_functions_need_the_flag() {
    let script = "begin { system(\"echo %d\", 5); }";
    rtrace(&["-e", script]).done().code(1).stderr_has("run with `--unsafe`");
    let done = rtrace(&["-q", "--unsafe", "-e", script]).done().code(0);
    assert!(done.stdout.starts_with("5\n"), "{}", done.stdout);
}

#[test]
fn a_child_is_run_and_its_end_ends_the_run() {
    rtrace(&["-q", "-e", "end { printf(\"%d\\n\", cpid > 0); }", "-c", "/bin/echo child"])
        .done()
        .code(0)
        .stdout("child\n1\n\n\n");
    rtrace(&["-e", "begin { } interval:s:1 { }", "-c", "/no/such/program"])
        .done()
        .code(1)
        .stderr_has("/no/such/program");
}

#[test]
fn an_interrupt_ends_the_run_with_its_maps() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rtrace"))
            .args(["-q", "-e", "begin { @x = 1; } interval:s:100 { } end { printf(\"end\\n\"); }"])
            .env("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "end\n\n\n@x: 1\n", "{signal}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rtrace"))
        .args(["-q", "-e", "interval:ms:1 { printf(\"line\\n\"); }"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "line\n");
    drop(out);
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "it noticed after {:?}", start.elapsed());
    // A listing ends quietly too.
    let mut list = Command::new(env!("CARGO_BIN_EXE_rtrace"))
        .args(["-l", "tracepoint:*"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(list.stdout.take());
    let output = list.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn without_privileges_the_reason_is_told() {
    // A copy that another user can reach.
    let folder = Folder::new("user");
    let copy = folder.0.join("rtrace");
    std::fs::copy(env!("CARGO_BIN_EXE_rtrace"), &copy).unwrap();
    for path in [&folder.0, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = 65534;
    let output =
        Command::new(&copy).args(["-e", "begin { }"]).uid(nobody).gid(nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("CAP_BPF"), "{stderr}");
    assert!(stderr.contains("sudo"), "{stderr}");
    // Help needs none.
    let output = Command::new(&copy).arg("--help").uid(nobody).gid(nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn listing_is_what_the_kernel_has() {
    let listed = rtrace(&["-l", "tracepoint:syscalls:*"]).done().code(0);
    let mut lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(lines.len() > 500, "{} lines", lines.len());
    assert!(lines.contains(&"tracepoint:syscalls:sys_enter_read"));
    let count = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), count);
    if let Ok(events) = std::fs::read_dir("/sys/kernel/tracing/events/syscalls") {
        let folders = events.flatten().filter(|e| e.path().is_dir()).count();
        assert_eq!(folders, count);
    }
    rtrace(&["-l", "-e", "begin { } interval:s:1, software:faults:1 { }"])
        .done()
        .code(0)
        .stdout("interval:s:1\nsoftware:faults:1\n");
}

#[test]
fn arguments_are_listed_with_their_types() {
    let listed = rtrace(&["-lv", "tracepoint:syscalls:sys_enter_openat"]).done().code(0);
    assert!(
        listed.stdout.starts_with("tracepoint:syscalls:sys_enter_openat\n"),
        "{}",
        listed.stdout
    );
    assert!(listed.stdout.contains("\n    const char * filename\n"), "{}", listed.stdout);
}

/// Names by regular expressions, those of a script with their arguments, and what is no file.
#[test]
fn listings_of_scripts_and_by_regular_expressions() {
    let host = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/debian");
    let listed = |args: &[&str]| rtrace(&[&["--host", host, "-l"], args].concat()).done().code(0);
    let list = "tracepoint:sched:sched_process_exec\ntracepoint:sched:sched_process_exit\n";
    listed(&["tracepoint:sched:/process_ex(ec|it)$/"]).stdout(list);
    listed(&["tracepoint:/^sched:.*_ex(ec|it)$/"]).stdout(list);
    listed(&["/^software:(page-)?faults/"]).stdout("software:faults:\nsoftware:page-faults:\n");
    let shop = "usr/lib/x86_64-linux-gnu/libshop.so.1";
    let script = "u:libshop:cpp:\"shop::price\" { } u:/usr/bin/stall:stall_weigh { }";
    listed(&["-v", "-e", script]).stdout(&format!(
        "uprobe:/{shop}:cpp:\"shop::price(double)\"\nuprobe:/{shop}:cpp:\"shop::price(int)\"\n\
         uprobe:/usr/bin/stall:stall_weigh\n    const fruit_t * fruit\n    int count\n    \
         signed char sign\n"
    ));
    listed(&["no.such"]).stdout("").stderr_has("there is no file `no.such`");
    rtrace(&["-l", "/(/"]).done().code(1).stderr_has("`/(/` is no regular expression");
}

#[test]
fn info_has_the_labels_that_scripts_look_for() {
    let info = rtrace(&["--info"]).done().code(0).stdout;
    for label in ["System\n", "Build\n", "Kernel helpers\n", "Probe types\n", "btf: ", "kprobe: "] {
        assert!(info.contains(label), "{label:?} is not in {info}");
    }
    let limit = "\nKernel features\n  Instruction limit: 1000000       btf: ";
    assert!(info.contains(limit) && info.contains("\n  module btf: "), "{info}");
}

#[test]
fn objects_are_stored_and_run() {
    let folder = Folder::new("objects");
    let object = folder.0.join("x.bpf.o");
    let script = "begin { @x[\"a\", 1] = 5; printf(\"%s %d\\n\", \"hi\", 3); exit(4); }";
    let args = ["build", "--here", "-e", script, "-o", text(&object)];
    rtrace(&args).done().code(0).stdout("").stderr("");
    rtrace(&["run", "-q", text(&object)]).done().code(4).stdout("hi 3\n\n\n@x[a, 1]: 5\n");
    // The same bytes as `--emit obj` gives, which go through the same loader.
    let direct = Command::new(env!("CARGO_BIN_EXE_rtrace"))
        .args(["--emit", "obj", "-e", script])
        .output()
        .unwrap();
    assert_eq!(direct.stdout, std::fs::read(&object).unwrap());
}

/// What an executable consists of besides its object.
const RUN_SIDE: &str = env!("CARGO_BIN_EXE_rtrace-run");

#[test]
fn executables_run_by_themselves() {
    let folder = Folder::new("executable");
    let tool = folder.0.join("count");
    let script = "begin { printf(\"%d %s\\n\", 2 * getopt(\"factor\", 4, \"by how much\"), getopt(\"name\", \"nobody\")); exit(3); }";
    let build = ["build", "-e", script, "-o", text(&tool)];
    rtrace(&build).env("RTRACE_RUN_SIDE", RUN_SIDE).done().code(0).stdout("").stderr("");
    let run = |args: &[&str]| {
        let done = Command::new(&tool).args(args).output().unwrap();
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code().unwrap(), out, err)
    };
    assert_eq!(run(&["-q"]).1, "8 nobody\n\n\n");
    let (code, out, _) = run(&["-q", "--factor=21", "--name", "somebody"]);
    assert_eq!((code, out.as_str()), (3, "42 somebody\n\n\n"));
    let help = run(&["--help"]).1;
    assert!(help.contains("--factor <factor>") && help.contains("by how much"), "{help}");
    let (code, _, err) = run(&["--factor=many"]);
    assert!(code == 1 && err.contains("`--factor` expects"), "{err}");
    let (code, _, err) = run(&["--factors=2"]);
    assert!(code == 1 && err.contains("--factor"), "{err}");

    let bytes = std::fs::read(&tool).unwrap();
    let end = bytes.len() - 40;
    let damaged = [&bytes[..end], b"?", &bytes[end + 1..]].concat();
    std::fs::write(&tool, damaged).unwrap();
    let (code, _, err) = run(&[]);
    assert!(code == 1 && err.contains("the executable is damaged"), "{err}");
    let done = Command::new(RUN_SIDE).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("no script in this executable"));
    rtrace(&build)
        .env("RTRACE_RUN_SIDE", "/nowhere/rtrace-run")
        .done()
        .code(1)
        .stderr_has("there is no run side `/nowhere/rtrace-run`");
}

#[test]
fn what_other_kernels_cannot_do_is_not_built() {
    let object = Folder::new("not-portable").0.join("x.bpf.o");
    let build = |script: &str| rtrace(&["build", "-e", script, "-o", text(&object)]).done().code(1);
    build("begin { @ = *curtask; }").stderr_has("a whole struct of the kernel is not the same");
    build("kprobe:vfs_* { @[probe] = count(); }").stderr_has("which match of a pattern fired");
    build("kretprobe:vfs_read { @ = sum(args.count); }")
        .stderr_has("an object for several kernels does not keep them")
        .stderr_has("use `fexit`, or build it with `--here`");
    build("begin { @ = has_field(struct task_struct, no_such); }")
        .stderr_has("struct task_struct___other");
    build("begin { while (@a < 100000) { @a++; } for $i : 0..1000000 { @b++; } }")
        .stderr_has("loop");
}

#[test]
fn a_field_that_is_nowhere_is_told_when_the_object_is_loaded() {
    let folder = Folder::new("no-field");
    let object = folder.0.join("x.bpf.o");
    let script = "struct task_struct___other { int nowhere; };
                  begin { print(((struct task_struct___other *)curtask)->nowhere); }";
    rtrace(&["build", "-e", script, "-o", text(&object)]).done().code(0);
    rtrace(&["run", text(&object)])
        .done()
        .code(255)
        .stderr_has("this kernel has no `task_struct___other.nowhere`")
        .stderr_has("if has_field(");
}

#[test]
fn without_libclang_its_package_is_named() {
    let script = "#include <netdb.h>\nbegin { print(EAI_NONAME); }";
    rtrace(&["-q", "-e", script]).done().code(0).stdout("-2\n\n\n");
    // Where it is looked for first; there is nothing.
    rtrace(&["-q", "-e", script])
        .env("LIBCLANG_PATH", "/nowhere")
        .done()
        .code(2)
        .stderr_has("apt install libclang-dev");
}

/// The compiler is needed where the C is, and not where it runs.
#[test]
fn compiled_c_is_linked_into_objects() {
    let folder = Folder::new("linked");
    let c = "int twice(int n) { return 2 * n; }\n";
    folder.file("twice.bpf.c", c);
    let script = folder.file("s.bt", "import \"twice.bpf.c\";\nbegin { print(twice(21)); }\n");
    let object = folder.0.join("s.bpf.o");
    rtrace(&["build", text(&script), "-o", text(&object)]).done().code(0).stderr("");
    rtrace(&["run", "-q", text(&object)]).env("PATH", "/nowhere").done().stdout("42\n\n\n");
    rtrace(&[text(&script)])
        .env("PATH", "/nowhere")
        .done()
        .code(2)
        .stderr_has("clang, which is not installed");
    folder.file("twice.bpf.c", "int twice(int n) { return 2 * m; }\n");
    rtrace(&[text(&script)]).done().code(2).stderr_has("undeclared identifier 'm'");
}

#[test]
fn damaged_and_foreign_objects_are_refused() {
    let folder = Folder::new("damaged");
    let object = folder.0.join("x.bpf.o");
    rtrace(&["build", "-e", "begin { @ = 1; }", "-o", text(&object)]).done().code(0);
    let bytes = std::fs::read(&object).unwrap();
    let cut = folder.0.join("cut.o");
    for end in [0, 3, 64, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&cut, &bytes[..end]).unwrap();
        rtrace(&["run", text(&cut)]).done().code(1).stderr_has("error: ");
    }
    rtrace(&["run", env!("CARGO_BIN_EXE_rtrace")])
        .done()
        .code(1)
        .stderr_has("not a compiled script");
    rtrace(&["run", "/no/such/file"]).done().code(1).stderr_has("cannot read");
}

#[test]
fn stages_can_be_looked_at() {
    let script = "begin { @x = count(); }";
    for (stage, part) in [
        ("tokens", "begin"),
        ("ast", "@x = count();"),
        ("ir", "program begin"),
        ("plan", "\"programs\""),
        ("llvm", "define i64 @begin"),
        ("llvm-opt", "define"),
        ("asm", "exit"),
    ] {
        let done = rtrace(&["--emit", stage, "-e", script]).done().code(0);
        assert!(done.stdout.contains(part), "{stage}: {}", done.stdout);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stage-{stage}"));
        let path = file.to_str().unwrap();
        rtrace(&["--emit", stage, "-o", path, "-e", script]).done().code(0).stdout("");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), done.stdout);
    }
    for stage in ["ast", "types", "codegen", "codegen-opt", "libbpf", "verifier", "all"] {
        rtrace(&["-q", "-d", stage, "-e", script]).done().code(0);
    }
}

/// A cgroup of one test with a container in it, gone with it.
struct Groups {
    root: PathBuf,
    container: PathBuf,
}

impl Groups {
    /// Nothing if the unified hierarchy is not mounted.
    fn new() -> Option<Groups> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|l| l.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let root = Path::new(mount).join(format!("rtrace-cli-{}", std::process::id()));
        let id = "fedcba9876543210".repeat(4);
        let container = root.join(format!("docker-{id}.scope"));
        std::fs::create_dir_all(&container).unwrap();
        Some(Groups { root, container })
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.container).ok();
        std::fs::remove_dir(&self.root).ok();
    }
}

#[test]
fn a_cgroup_or_a_container_limits_what_is_traced() {
    let Some(groups) = Groups::new() else { return };
    let folder = Folder::new("cgroup");
    // Five calls outside, seven in the cgroup, eleven in the container.
    let workload = env!("CARGO_BIN_EXE_rt-workload");
    let part = |group: &Path, calls: u32| {
        let group = group.display();
        format!("(echo 0 > {group}/cgroup.procs; exec {workload} getppid {calls} --comm rt-x)\n")
    };
    let work = format!(
        "{workload} getppid 5 --comm rt-x\n{}{}",
        part(&groups.root, 7),
        part(&groups.container, 11)
    );
    let command = format!("sh {}", text(&folder.file("work.sh", &work)));
    let script = "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-x\"/ { @ = count(); }";
    let run = |flags: &[&str]| {
        let args = [&["-q", "-c", &command, "-e", script], flags].concat();
        rtrace(&args).done().code(0).stdout
    };
    let name = groups.root.file_name().unwrap().to_str().unwrap();
    assert_eq!(run(&[]), "\n\n@: 23\n");
    assert_eq!(run(&["--cgroup", name]), "\n\n@: 18\n");
    assert_eq!(run(&["--cgroup", groups.container.to_str().unwrap()]), "\n\n@: 11\n");
    assert_eq!(run(&["--container", "fedcba98"]), "\n\n@: 11\n");
    rtrace(&["--container", "nothing-like-it", "-e", script])
        .done()
        .code(1)
        .stderr_has("is that of a container `nothing-like-it`");
    rtrace(&["--cgroup", "nothing-like-it", "-e", script])
        .done()
        .code(1)
        .stderr_has("there is no cgroup `nothing-like-it`");
}

#[test]
fn descendants_need_somebody_to_descend_from() {
    rtrace(&["--follow", "-e", "begin { exit(); }"])
        .done()
        .code(1)
        .stderr_has("`--follow` needs processes to start from");
}

/// Packets that go through a pair of devices in a namespace of their own: what one end sends, the
/// other receives, and every program on their way sees it.
#[test]
fn packets_of_a_veth_pair_are_seen_and_go_on() {
    let folder = Folder::new("veth");
    let send = folder
        .file("send.sh", "for i in 1 2 3; do printf '%0100d' 0 > /dev/udp/192.0.2.2/4242; done\n");
    let wanted = "args.udp != 0 && args.udp.dest == bswap((uint16)4242)";
    let script = format!(
        "tc:left:egress /{wanted}/ {{ @sent[args.len] = count(); }} \
         xdp:right /{wanted}/ {{ @first[args.len, ntop(args.ip.saddr)] = count(); return 1; }} \
         tc:right:ingress /{wanted}/ {{ @then[args.len, args.skb.dev.name] = count(); }}"
    );
    let script = folder.file("packets.bt", &script);
    let setup = format!(
        "set -e\n\
         ip link add left type veth peer name right\n\
         ip link set right address 02:00:00:00:00:02\n\
         ip link set left up\n\
         ip link set right up\n\
         ip addr add 192.0.2.1/24 dev left\n\
         ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev left\n\
         exec {} -q -c 'bash {}' {}\n",
        env!("CARGO_BIN_EXE_rtrace"),
        text(&send),
        text(&script)
    );
    let setup = folder.file("setup.sh", &setup);
    let mut command = Command::new("unshare");
    command.args(["--net", "bash", text(&setup)]).env("RTRACE_COLOR", "never");
    let done = command.output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    let shown = format!("{out}{}", String::from_utf8_lossy(&done.stderr));
    if shown.contains("tcx, Linux 6.6") {
        return;
    }
    for line in ["@sent[142]: 3", "@first[142, 192.0.2.1]: 3", "@then[142, right]: 3"] {
        assert!(out.lines().any(|l| l == line), "no {line}\n{shown}");
    }
}
