//! Runs the scripts of `tests/runtime` on other kernels: each case is a test of its own,
//! `6.1/topic/case`, but a kernel boots only once, and only if one of its cases is selected.
//!
//! `RTRACE_VM_KERNELS` names the kernels, with commas between them (default: 6.1,6.12).
//! `tests/vm/kernels.toml` has what there are.
//!
//! Inside, this same program runs the cases (`vm --report NAME…`) and writes one JSON object
//! for each to its standard output; outside, the tests wait for their line.

mod harness;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use harness::Case;
use harness::live::{self, Machine, Outcome, Plan};
use harness::programs;
use libtest_mimic::{Arguments, Trial};
use serde::{Deserialize, Serialize};

/// How much slower than this machine an emulated one is, at worst.
const SLOWNESS: u32 = 20;

/// Seconds for all the cases of a kernel together.
const LIMIT: &str = "6000";

/// Not a case: `rtrace --info` knows what this kernel is known to have and lack. Otherwise a
/// feature that is no longer recognised would turn off the cases that require it.
const FEATURES: &str = "features";

/// Nor this: random programs load.
const PROGRAMS: &str = "random-programs";

/// How many of them, if `RTRACE_PROGRAMS` does not say.
const PROGRAM_COUNT: u64 = 12;

/// The variable that says where they are, compiled. That is done outside, for the kernel as
/// it was recorded: an emulated machine would take a second for each.
const COMPILED: &str = "RTRACE_COMPILED";

/// Before the name of a case: it runs from an object, which is built outside, once for all kernels.
const OBJECTS: &str = "objects/";

/// The variable that says where those are.
const BUILT: &str = "RTRACE_BUILT";

/// Nor this: an executable runs where there is nothing else, neither rtrace nor LLVM.
const ALONE: &str = "executable-alone";

/// Not a case either: after all of them, no BPF program is left in the kernel.
const NOTHING_LEFT: &str = "nothing-left";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, names @ ..] = words.as_slice()
        && flag == "--report"
    {
        return report(names);
    }
    outside()
}

/// A line of what the inside tells the outside.
#[derive(Serialize, Deserialize)]
struct Report {
    name: String,
    outcome: Outcome,
}

// ---------------------------------------------------------------- inside

fn report(names: &[String]) -> ExitCode {
    let machine = Machine::this();
    let cases = harness::cases("runtime");
    for name in names {
        let outcome = match name.as_str() {
            FEATURES => features_as_known(&machine).into(),
            PROGRAMS => programs::wanted(PROGRAM_COUNT)
                .and_then(|seeds| programs::load_compiled(seeds, &compiled()?))
                .into(),
            ALONE => objects().and_then(|folder| alone(&folder.join(TOOL))).into(),
            NOTHING_LEFT => nothing_left().into(),
            _ => match cases.iter().find(|case| is_named(case, name)) {
                Some(case) if case.name != *name => match objects() {
                    Ok(folder) => live::run_object(case, &machine, &folder),
                    Err(why) => Outcome::Failed(why),
                },
                Some(case) => live::run(case, &machine),
                None => Outcome::Failed("there is no such case".into()),
            },
        };
        match serde_json::to_string(&Report { name: name.clone(), outcome }) {
            Ok(line) => println!("{line}"),
            Err(why) => eprintln!("{name}: {why}"),
        }
    }
    ExitCode::SUCCESS
}

/// A case by its name, or by that of its run from an object.
fn is_named(case: &Case, name: &str) -> bool {
    name.strip_prefix(OBJECTS).unwrap_or(name) == case.name
}

/// Where the outside has put objects.
fn objects() -> Result<PathBuf, String> {
    std::env::var_os(BUILT).map(PathBuf::from).ok_or_else(|| format!("{BUILT} is not set"))
}

/// The file name of an executable that is made of `scripts/opensnoop.bt`.
const TOOL: &str = "opensnoop";

/// Runs an executable in a root of its own, with the workload and the libraries that the two need (the
/// executable has none if its run side is static).
fn alone(tool: &Path) -> Result<(), String> {
    const SCRIPT: &str = r#"
        set -e
        root=$(mktemp -d)
        mount -t tmpfs none $root
        mkdir $root/proc $root/sys $root/dev
        for folder in proc sys dev; do mount --rbind /$folder $root/$folder; done
        cp "$1" $root/opensnoop
        cp "$2" $root/rt-workload
        for library in $(ldd "$1" "$2" | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do
            mkdir -p $root$(dirname $library)
            cp $library $root$library
        done
        cd $root
        chroot . /opensnoop -q --failed -c '/rt-workload opens 5 --path /not/there'
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(tool).arg(harness::workload());
    let done = command.output().map_err(|why| format!("sh: {why}"))?;
    let out = String::from_utf8_lossy(&done.stdout);
    let count =
        out.lines().filter(|line| line.ends_with("rt-opens           -1    2  /not/there")).count();
    if done.status.success() && count == 5 {
        return Ok(());
    }
    let err = String::from_utf8_lossy(&done.stderr);
    Err(format!("{}: {count} lines of 5\n{out}\n{err}", done.status))
}

/// Where the outside has put compiled programs.
fn compiled() -> Result<PathBuf, String> {
    std::env::var_os(COMPILED).map(PathBuf::from).ok_or_else(|| format!("{COMPILED} is not set"))
}

fn features_as_known(machine: &Machine) -> Result<(), String> {
    let mut faults = Vec::new();
    for (variable, answer) in [("RTRACE_VM_HAS", true), ("RTRACE_VM_LACKS", false)] {
        let names = std::env::var(variable).map_err(|why| format!("{variable}: {why}"))?;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            if machine.has(name)? != answer {
                let word = if answer { "yes" } else { "no" };
                faults.push(format!("`rtrace --info` should say `{name}: {word}`"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The kernel frees programs a little after their last user is gone.
fn nothing_left() -> Result<(), String> {
    let mut left = String::new();
    for _ in 0..50 {
        let done = Command::new("bpftool").args(["prog", "show"]).output();
        let done = done.map_err(|why| format!("bpftool: {why}"))?;
        if !done.status.success() {
            return Err(format!("bpftool: {}", String::from_utf8_lossy(&done.stderr)));
        }
        left = String::from_utf8_lossy(&done.stdout).into_owned();
        if left.trim().is_empty() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Err(format!("programs are left in the kernel:\n{left}"))
}

// ---------------------------------------------------------------- outside

fn outside() -> ExitCode {
    let args = Arguments::from_args();
    let versions = std::env::var("RTRACE_VM_KERNELS").unwrap_or_else(|_| "6.1,6.12".into());
    let cases: Vec<Case> = harness::cases("runtime").into_iter().filter(is_for_vm).collect();
    let of_objects = |case: &&Case| live::OF_OBJECTS.iter().any(|t| case.name.starts_with(t));
    let from_objects: Vec<Case> = cases.iter().filter(of_objects).cloned().collect();
    let object_names: Vec<String> =
        from_objects.iter().map(|case| format!("{OBJECTS}{}", case.name)).collect();
    let names = || {
        [FEATURES]
            .into_iter()
            .chain(cases.iter().map(|case| &*case.name))
            .chain(object_names.iter().map(String::as_str))
            .chain([ALONE, PROGRAMS, NOTHING_LEFT])
    };

    let mut trials = Vec::new();
    let mut boots = Vec::new();
    for version in versions.split(',') {
        let results = Arc::new(Results::default());
        let mut selected = Vec::new();
        for name in names() {
            let trial = trial(format!("{version}/{name}"), name.to_owned(), Arc::clone(&results));
            if !args.is_filtered_out(&trial) {
                selected.push(name.to_owned());
            }
            trials.push(trial);
        }
        if !selected.is_empty() {
            boots.push((version.to_owned(), selected, results));
        }
    }
    if !args.list && !args.ignored {
        // A kernel keeps about one processor busy, so as many run as there are processors.
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let built = match boots
            .iter()
            .any(|(_, names, _)| names.iter().any(|n| n.starts_with(OBJECTS) || n == ALONE))
        {
            true => live::build_objects(&from_objects, &built_here())
                .and_then(|()| live::build_executable("opensnoop.bt", &built_here().join(TOOL))),
            false => Ok(()),
        };
        let queue = Arc::new(Mutex::new(boots.into_iter()));
        for _ in 0..at_once {
            let (queue, built) = (Arc::clone(&queue), built.clone());
            std::thread::spawn(move || {
                while let Some((version, selected, results)) = next(&queue) {
                    let end = built.clone().and_then(|()| boot(&version, &selected, &results));
                    results.end(end.err().unwrap_or_else(|| "the kernel did not report it".into()));
                }
            });
        }
    }
    libtest_mimic::run(&args, trials).exit_code()
}

/// Where objects are built.
fn built_here() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("objects")
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Cases with a bad header are run too: that is where they fail.
fn is_for_vm(case: &Case) -> bool {
    Plan::of(case).map_or(true, |plan| plan.for_vm())
}

fn trial(title: String, name: String, results: Arc<Results>) -> Trial {
    Trial::ignorable_test(title, move || results.wait_for(&name).completion())
}

/// A variable of the environment, as an option that sets it inside too.
fn passed_on(name: &&str) -> Vec<String> {
    let value = std::env::var(name);
    value.map(|value| vec!["--env".into(), format!("{name}={value}")]).unwrap_or_default()
}

fn trouble(what: &Path) -> impl Fn(std::io::Error) -> String {
    move |why| format!("{}: {why}", what.display())
}

/// Records a kernel and compiles programs for it; gives the folder of those.
fn compile(version: &str) -> Result<PathBuf, String> {
    let seeds = programs::wanted(PROGRAM_COUNT)?;
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("programs-{version}"));
    let (host, objects) = (base.join("host"), base.join("objects"));
    if base.exists() {
        std::fs::remove_dir_all(&base).map_err(trouble(&base))?;
    }
    for folder in [&host, &objects] {
        std::fs::create_dir_all(folder).map_err(trouble(folder))?;
    }
    let mut record = Command::new(harness::root().join("tests/vm/run"));
    record.args(["--kernel", version, "--", "/usr/bin/python3", "tools/record-host", "--whole"]);
    record.arg("--rtrace").arg(harness::rtrace()).current_dir(harness::root());
    let recorded = record.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let recorded = recorded.map_err(|why| format!("tests/vm/run: {why}"))?;
    if !recorded.status.success() {
        return Err(format!("recording the kernel: {}", recorded.status));
    }
    let archive = base.join("host.tar");
    std::fs::write(&archive, &recorded.stdout).map_err(trouble(&archive))?;
    let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&host).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        return Err(format!("{} cannot be unpacked", archive.display()));
    }
    // The booted kernel sees this machine's files, so libraries are those.
    for name in ["usr", "lib", "lib64", "etc"] {
        let link = host.join(name);
        std::os::unix::fs::symlink(Path::new("/").join(name), &link).map_err(trouble(&link))?;
    }
    programs::compile_all(seeds, &host, &objects)?;
    Ok(objects)
}

/// Runs cases on a kernel and hands in what each of them came to.
fn boot(version: &str, names: &[String], results: &Results) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|why| why.to_string())?;
    let mut names = names.to_vec();
    let mut compiled = None;
    if names.iter().any(|name| name == PROGRAMS) {
        match compile(version) {
            Ok(folder) => compiled = Some(format!("{COMPILED}={}", folder.display())),
            Err(why) => {
                names.retain(|name| name != PROGRAMS);
                results.hand_in(Report { name: PROGRAMS.into(), outcome: Outcome::Failed(why) });
            }
        }
    }
    let mut command = Command::new(harness::root().join("tests/vm/run"));
    command.args(["--kernel", version, "--timeout", LIMIT, "--env"]);
    command
        .arg(format!("{}={SLOWNESS}", live::SLOWNESS))
        .args(["RTRACE_PROGRAMS", "RTRACE_SEED"].iter().flat_map(passed_on))
        .arg("--env")
        .arg(format!("{BUILT}={}", built_here().display()))
        .args(compiled.iter().flat_map(|setting| ["--env", setting]))
        .arg("--")
        .arg(this)
        .arg("--report")
        .args(names);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| format!("tests/vm/run: {why}"))?;
    let errors = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).ok();
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str::<Report>(&line) {
                Ok(report) => results.hand_in(report),
                Err(why) => eprintln!("{version}: {why}: {line}"),
            }
        }
    }
    let status = child.wait().map_err(|why| why.to_string())?;
    let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    if status.success() { Ok(()) } else { Err(format!("tests/vm/run: {status}\n{errors}")) }
}

/// What a kernel has reported so far.
#[derive(Default)]
struct Results {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    told: HashMap<String, Outcome>,
    /// Set when no more is to come: what to say of those that are missing.
    ended: Option<String>,
}

impl Results {
    fn hand_in(&self, report: Report) {
        self.change(|state| _ = state.told.insert(report.name, report.outcome));
    }

    fn end(&self, why: String) {
        self.change(|state| state.ended = Some(why));
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait_for(&self, name: &str) -> Outcome {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut State| !state.told.contains_key(name) && state.ended.is_none();
        let mut state =
            self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        let told = state.told.remove(name);
        told.unwrap_or_else(|| Outcome::Failed(state.ended.clone().unwrap_or_default()))
    }
}
