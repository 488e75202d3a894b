//! Compares what each stage makes of a script with the file beside it.
//!
//! `tests/golden/<topic>/<case>.bt` is the script. Which files stand beside it says what is
//! compared, each as a test of its own name:
//!
//! - `case.tokens`, `.ast`, `.ir`, `.plan`: `rtrace --host HOST --emit=STAGE case.bt`, which must
//!   succeed and say nothing else
//! - `case.stderr`: the diagnostics of the same with `--emit=plan`; the exit status must be 1 or 2
//!   if one of them is an error
//!
//! An `.ast` that is fed to rtrace as a script must give itself again; that is tested too.
//!
//! To add one: write the script, `touch` the files, `make bless`, read the difference. The head
//! of a script may say `// flags: --unsafe`, `// args: one two` (parameters of the script)
//! and `// host: NAME` (of `tests/host`). Nothing depends on the machine that runs the test.

mod harness;

use std::path::PathBuf;
use std::process::Command;

use harness::Case;
use libtest_mimic::{Arguments, Failed, Trial};

/// The recorded machine that scripts are checked against unless they name another.
const HOST: &str = "debian";

/// Files beside a script, and what makes them.
const STAGES: [&str; 4] = ["tokens", "ast", "ir", "plan"];

fn main() {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    for case in harness::cases("golden") {
        let mut add = |name: &str, check: fn(&Golden) -> Result<(), String>| {
            let golden = Golden { case: case.clone(), extension: name.into() };
            trials.push(Trial::test(format!("{}.{name}", case.name), move || {
                check(&golden).map_err(Failed::from)
            }));
        };
        for stage in STAGES.into_iter().filter(|stage| case.beside(stage).exists()) {
            add(stage, Golden::stage);
        }
        if case.beside("stderr").exists() {
            add("stderr", Golden::diagnostics);
        }
        if case.beside("ast").exists() {
            add("again", Golden::again);
        }
    }
    libtest_mimic::run(&args, trials).exit();
}

/// One expected file.
struct Golden {
    case: Case,
    extension: String,
}

/// What a run of rtrace said.
struct Said {
    out: String,
    err: String,
    status: Option<i32>,
    shown: String,
}

impl Golden {
    fn stage(&self) -> Result<(), String> {
        let said = self.rtrace(&self.extension, None)?;
        if said.status != Some(0) || !(said.err.is_empty() || self.case.beside("stderr").exists()) {
            return Err(said.story());
        }
        self.compare(&said.out, &said.shown)
    }

    fn diagnostics(&self) -> Result<(), String> {
        let said = self.rtrace("plan", None)?;
        let is_error = said.err.lines().any(|line| line.starts_with("error"));
        // 2 where the error is in what a script imports or includes.
        let expected = if is_error { 1..=2 } else { 0..=0 };
        if said.status.is_none_or(|status| !expected.contains(&status)) {
            return Err(said.story());
        }
        self.compare(&said.err, &said.shown)
    }

    /// What the printed tree prints as.
    fn again(&self) -> Result<(), String> {
        let tree = self.read("ast")?;
        let said = self.rtrace("ast", Some(&tree))?;
        match harness::difference(&tree, &said.out) {
            same if same.is_empty() && said.status == Some(0) => Ok(()),
            difference => Err(format!(
                "the printed tree does not print as itself:\n{difference}\n{}",
                said.story()
            )),
        }
    }

    /// Runs the script, or another text in its place, up to a stage.
    fn rtrace(&self, stage: &str, text: Option<&str>) -> Result<Said, String> {
        let (mut flags, mut parameters, mut host) = (Vec::new(), Vec::new(), HOST.to_owned());
        for header in self.case.headers()? {
            let words = header.value.split_whitespace().map(str::to_owned);
            match header.key.as_str() {
                "flags" => flags.extend(words),
                "args" => parameters.extend(words),
                "host" => host = header.value,
                key => {
                    return Err(format!("no header `{key}`; there are `flags`, `args` and `host`"));
                }
            }
        }
        let mut command = Command::new(harness::rtrace());
        harness::live::clean_environment(&mut command);
        command.arg("--host").arg(harness::root().join("tests/host").join(host));
        command.arg(format!("--emit={stage}")).args(flags);
        command.arg(text.map_or(self.case.file_name(), |_| "-")).args(parameters);
        command.current_dir(self.case.folder());
        let done = harness::feed::feed(&mut command, text.unwrap_or_default())
            .map_err(|why| format!("{command:?}: {why}"))?;
        let shown = format!("{command:?}");
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        Ok(Said { out, err, status: done.status.code(), shown })
    }

    fn path(&self) -> PathBuf {
        self.case.beside(&self.extension)
    }

    fn read(&self, extension: &str) -> Result<String, String> {
        let path = self.case.beside(extension);
        std::fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn compare(&self, actual: &str, shown: &str) -> Result<(), String> {
        let difference = harness::difference(&self.read(&self.extension)?, actual);
        if difference.is_empty() {
            return Ok(());
        }
        if std::env::var_os("RTRACE_BLESS").is_some() {
            return std::fs::write(self.path(), actual).map_err(|why| why.to_string());
        }
        Err(format!("{shown}\n{difference}\n`make bless` accepts it"))
    }
}

impl Said {
    fn story(&self) -> String {
        let status = self.status.map_or("none".into(), |status| status.to_string());
        format!("{}\nexit status {status}\n--- standard error\n{}---", self.shown, self.err)
    }
}
