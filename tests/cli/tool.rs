//! Executables that `rtrace build` makes behave as `rtrace FILE` does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Folder, RUN_SIDE, rtrace, text};

/// The program that causes events.
const WORKLOAD: &str = env!("CARGO_BIN_EXE_rt-workload");

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(format!("{name}.bt"))
}

/// A script, as a file and as an executable.
struct Both {
    folder: Folder,
    script: PathBuf,
    tool: PathBuf,
}

impl Both {
    fn of(name: &str, script: &str) -> Both {
        let folder = Folder::new(&format!("tool-{name}"));
        let file = folder.0.join(format!("{name}.bt"));
        std::fs::write(&file, script).unwrap();
        Both::build(folder, file, name)
    }

    fn shipped(name: &str) -> Both {
        let folder = Folder::new(&format!("tool-{name}"));
        Both::build(folder, shipped(name), name)
    }

    fn build(folder: Folder, script: PathBuf, name: &str) -> Both {
        let tool = folder.0.join(name);
        let build = ["build", "--unsafe", text(&script), "-o", text(&tool)];
        rtrace(&build).env("RTRACE_RUN_SIDE", RUN_SIDE).done().code(0).stderr("");
        assert_eq!(std::fs::metadata(&tool).unwrap().permissions().mode() & 0o777, 0o755);
        Both { folder, script, tool }
    }

    /// Both ways to run it, with flags, and parameters of the script.
    fn commands(&self, flags: &[&str], params: &[&str]) -> [Command; 2] {
        let mut file = Command::new(env!("CARGO_BIN_EXE_rtrace"));
        file.arg("--unsafe").args(flags).arg(&self.script).arg("--").args(params);
        let mut tool = Command::new(&self.tool);
        tool.args(flags).args(params);
        for command in [&mut file, &mut tool] {
            command.env("BPFTRACE_COLOR", "never").current_dir(&self.folder.0);
        }
        [file, tool]
    }

    /// What both print must be the same; gives it, with the exit status.
    fn same(&self, flags: &[&str], params: &[&str]) -> (i32, String, String) {
        let [file, tool] = self.commands(flags, params).map(|mut command| {
            let done = command.stdin(Stdio::null()).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
        });
        assert_eq!(file, tool, "{flags:?} {params:?}");
        tool
    }
}

#[test]
fn executables_take_parameters_as_scripts_do() {
    let both = Both::of(
        "params",
        "begin { printf(\"%d %s %d\\n\", getopt(\"count\", -1), getopt(\"name\", \"nobody\", \"who it is\"), \
         getopt(\"loud\")); @ = getopt(\"size\", 1); exit(getopt(\"status\", 0)); }",
    );
    assert_eq!(both.same(&["-q"], &[]), (0, "-1 nobody 0\n\n\n@: 1\n".into(), String::new()));
    let all = ["--count=0x10", "--name=a b", "--loud", "--size=3", "--status=9"];
    assert_eq!(both.same(&["-q"], &all), (9, "16 a b 1\n\n\n@: 3\n".into(), String::new()));
    assert_eq!(both.same(&["-q"], &["--loud=off", "--name="]).1, "-1  0\n\n\n@: 1\n");
    assert_eq!(both.same(&[], &[]).2, "Attached 1 probe\n");
    let json = both.same(&["-f", "json"], &["--count=2"]).1;
    assert!(json.contains("{\"type\": \"map\", \"data\": {\"@\": 1}}"), "{json}");
    let (_, out, _) = both.same(&["-q", "-o", "out.txt"], &["--count=5"]);
    let written = std::fs::read_to_string(both.folder.0.join("out.txt")).unwrap();
    assert_eq!((out.as_str(), written.as_str()), ("", "5 nobody 0\n\n\n@: 1\n"));

    // What is wrong with them is an error that names the flag.
    for (param, why) in [
        ("--count=many", "`--count` expects an integer"),
        ("--size=-1", "`--size` expects"),
        ("--loud=perhaps", "`--loud` expects"),
    ] {
        for mut command in both.commands(&["-q"], &[param]) {
            let done = command.output().unwrap();
            let err = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.code() == Some(1) && err.contains(why), "{param}: {err}");
        }
    }
    let tool = |args: &[&str]| Command::new(&both.tool).args(args).output().unwrap();
    let unknown = tool(&["--nmae=x"]);
    let err = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(1) && err.contains("--nmae"), "{err}");
    assert!(err.contains("--name") && err.contains("Usage: params"), "{err}");
    let help = tool(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("Usage: params [OPTIONS]") && help.contains("who it is"), "{help}");
    assert!(help.contains("--count <count>") && help.contains("[default: -1]"), "{help}");
    let version = String::from_utf8(tool(&["-V"]).stdout).unwrap();
    assert_eq!(version, format!("params, made by rtrace v{}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn executables_trace_processes_and_commands() {
    let both = Both::of(
        "calls",
        "tracepoint:syscalls:sys_enter_getppid /comm == \"rt-getppid\"/ { @[comm] = count(); } \
         interval:s:5 { exit(3); } end { printf(\"ended\\n\"); }",
    );
    let work = format!("{} getppid 12", WORKLOAD);
    let expected = "ended\n\n\n@[rt-getppid]: 12\n";
    assert_eq!(both.same(&["-q", "-c", &work], &[]), (0, expected.into(), String::new()));
    for mut command in both.commands(&["-c", "/no/such/command"], &[]) {
        let done = command.output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(1) && err.contains("/no/such/command"), "{err}");
    }
    assert_eq!(both.same(&["-p", "x"], &[]).0, 1);
    assert_eq!(both.same(&["-p", "4194303"], &[]).0, 1);
    // It ends with the process that it is about.
    for way in 0..2 {
        let mut target = Command::new("sleep").arg("0.3").spawn().unwrap();
        let pid = target.id().to_string();
        let done = both.commands(&["-q", "-p", &pid], &[])[way].output().unwrap();
        assert_eq!(done.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&done.stdout), "ended\n\n\n");
        target.wait().unwrap();
    }
    assert_eq!(both.same(&["--dry-run"], &[]).0, 0);
    let wrong = Command::new(&both.tool).arg("--no-such-flag").output().unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(1) && said.contains("Usage: calls [OPTIONS]"), "{said}");
    let verifier = Command::new(&both.tool).args(["--dry-run", "-d", "verifier"]).output().unwrap();
    let said = String::from_utf8_lossy(&verifier.stderr).into_owned();
    assert!(said.contains("processed") && said.contains("insns"), "{said}");
}

#[test]
fn executables_end_by_signals_as_scripts_do() {
    use nix::sys::signal::{Signal, kill};
    use std::io::{BufRead, BufReader, Read};
    let both = Both::of(
        "signals",
        "begin { printf(\"ready\\n\"); @ = 7; } interval:s:60 { } end { printf(\"end\\n\"); }",
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for mut command in both.commands(&["-q"], &[]) {
            let mut child = command
                .env("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            while line != "__BPFTRACE_NOTIFY_PROBES_ATTACHED\n" {
                line.clear();
                assert!(out.read_line(&mut line).unwrap() > 0);
            }
            kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            let mut rest = String::new();
            out.read_to_string(&mut rest).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(0));
            assert!(rest.ends_with("end\n\n\n@: 7\n"), "{signal}: {rest}");
        }
    }
}

/// Every script that we ship becomes an executable, and is attached and ended again.
#[test]
fn shipped_scripts_run_as_executables() {
    for name in ["opensnoop", "execsnoop", "runqlat", "syscount", "killsnoop", "tcpconnect"] {
        let script = shipped(name);
        // What this kernel cannot run is not run.
        let checked = rtrace(&["check", "--unsafe", text(&script)]).done();
        if checked.code != Some(0) {
            continue;
        }
        let both = Both::shipped(name);
        let [mut file, mut tool] = both.commands(&["--dry-run"], &[]);
        let done = [file.output().unwrap(), tool.output().unwrap()];
        let [file, tool] = done.map(|d| (d.status.code(), String::from_utf8(d.stderr).unwrap()));
        assert_eq!(file, tool, "{name}");
        assert_eq!(tool.0, Some(0), "{name}");
        let help = Command::new(&both.tool).arg("--help").output().unwrap();
        assert!(String::from_utf8_lossy(&help.stdout).contains(&format!("Usage: {name}")));
    }
}

/// Whether there is a child is known when it runs, not when it is built.
#[test]
fn executables_know_their_child() {
    let script = "begin { printf(\"%d %d\\n\", has_cpid, cpid != 0); exit(); }";
    let both = Both::of("child", script);
    let run = |args: &[&str]| {
        let done = Command::new(&both.tool).arg("-q").args(args).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(run(&["-c", "true"]), "1 1\n\n\n");
    assert_eq!(run(&[]), "0 0\n\n\n");
}
