//! Runtime cases: a script, run for real, with a workload whose events are known.
//!
//! The header says everything; `tests/runtime/README.md` lists the keys. No case sleeps or tries
//! twice: the workload starts when rtrace says that its probes are attached (or rtrace starts it,
//! as its `-c` child), and rtrace is stopped when the workload is over.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{Case, Header, difference, root, rtrace, schema, workload};

/// rtrace prints a line of this text, if the variable of this name is set.
const ATTACHED: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// How much slower this machine is than one of its own; time limits are multiplied by it.
pub(crate) const SLOWNESS: &str = "RTRACE_TIME_SCALE";

/// Seconds that a case may take, on a machine of its own, unless it says otherwise.
const SECONDS: u64 = 6;

/// Something that `cc` makes.
struct Made {
    /// What stands for its path in headers.
    word: &'static str,
    source: &'static str,
    name: &'static str,
    flags: &'static [&'static str],
}

const MADE: [Made; 2] = [
    // A shared library that has markers.
    Made {
        word: "{library}",
        source: "library.c",
        name: "librt-markers.so",
        flags: &["-O2", "-g", "-fPIC", "-shared"],
    },
    // A program without frame pointers.
    Made {
        word: "{frames}",
        source: "frames.c",
        name: "rt-frames",
        flags: &["-O2", "-fomit-frame-pointer", "-pthread", "-ldl"],
    },
];

/// Stands for the path of an archive that has the library in it, as it is.
const ARCHIVE: &str = "{archive}";

/// Stands for the path of the program of Go.
const GO: &str = "{go}";

/// How a case ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Ok,
    /// Why.
    Failed(String),
    /// What this machine lacks.
    Skipped(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Outcome {
        result.map_or_else(Outcome::Failed, |()| Outcome::Ok)
    }
}

impl Outcome {
    /// The same for the test runner.
    pub(crate) fn completion(self) -> Result<Completion, Failed> {
        match self {
            Outcome::Ok => Ok(Completion::Completed),
            Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
            Outcome::Failed(why) => Err(why.into()),
        }
    }
}

/// Runs a case with JSON output, and judges only that: each line is of the schema.
pub(crate) fn run_as_json(case: &Case, machine: &Machine) -> Outcome {
    run_changed(case, machine, Plan::with_json)
}

/// Runs a case from an object that was built of its script, and judges it in the same way.
pub(crate) fn run_object(case: &Case, machine: &Machine, folder: &Path) -> Outcome {
    let object = match Plan::of(case) {
        Ok(plan) => folder.join(plan.object_name(case)),
        Err(why) => return Outcome::Failed(why),
    };
    run_changed(case, machine, |plan| Plan { object: Some(object), ..plan })
}

/// Topics of cases that also run from objects.
pub(crate) const OF_OBJECTS: [&str; 2] = ["scripts/", "portable/"];

/// Builds an object of every script that these cases run, which are of [`OF_OBJECTS`].
pub(crate) fn build_objects(cases: &[Case], folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let mut built = std::collections::BTreeSet::new();
    for case in cases {
        let plan = Plan::of(case)?;
        let object = folder.join(plan.object_name(case));
        if !built.insert(object.clone()) {
            continue;
        }
        let script = match &plan.script {
            Some(name) => root().join("scripts").join(name),
            None => case.path.clone(),
        };
        let mut command = Command::new(rtrace());
        command.arg("build").arg(&script).arg("-o").arg(&object);
        clean_environment(&mut command);
        let output = command.output().map_err(|why| format!("{command:?}: {why}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{} is not built:\n{said}", script.display()));
        }
    }
    Ok(())
}

/// Builds an executable of a script below `scripts/`, with the run side that `RTRACE_RUN_SIDE` names
/// or else the one that was built with this program.
pub(crate) fn build_executable(script: &str, tool: &Path) -> Result<(), String> {
    let own = env!("CARGO_BIN_EXE_rtrace-run").into();
    let side = std::env::var_os("RTRACE_RUN_SIDE").unwrap_or(own);
    let mut command = Command::new(rtrace());
    command.arg("build").arg(root().join("scripts").join(script)).arg("-o").arg(tool);
    let output = command.env("RTRACE_RUN_SIDE", side).output();
    let output = output.map_err(|why| format!("{command:?}: {why}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs a case and judges it.
pub(crate) fn run(case: &Case, machine: &Machine) -> Outcome {
    run_changed(case, machine, |plan| plan)
}

fn run_changed(case: &Case, machine: &Machine, change: impl FnOnce(Plan) -> Plan) -> Outcome {
    let plan = match Plan::of(case) {
        Ok(plan) => change(plan),
        Err(why) => return Outcome::Failed(why),
    };
    if let Some(reason) = plan.not_here() {
        return Outcome::Skipped(reason);
    }
    match machine.lacks(&plan.requires) {
        Ok(None) => {}
        Ok(Some(reason)) => return Outcome::Skipped(reason),
        Err(why) => return Outcome::Failed(why),
    }
    match plan.execute(case) {
        Ok(end) => match plan.judge(case, &end) {
            faults if faults.is_empty() => Outcome::Ok,
            faults => Outcome::Failed(format!("{}\n\n{}", faults.join("\n"), end.story())),
        },
        Err(why) => Outcome::Failed(why),
    }
}

// ---------------------------------------------------------------- what is to happen

/// The header of a case, understood.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Runs as rtrace's child, by `-c`.
    child: Option<String>,
    /// The same, of any program.
    command: Option<String>,
    /// Starts when the probes are attached.
    beside: Option<String>,
    /// Starts before rtrace and goes on when the probes are attached.
    held: Option<String>,
    /// rtrace, and what it starts, are in a pid namespace of their own.
    in_namespace: bool,
    /// The text of a script that another rtrace runs all the while.
    tracer: Option<String>,
    flags: Vec<String>,
    /// Parameters of the script.
    args: Vec<String>,
    environment: Vec<(String, String)>,
    /// A pattern that is listed, in place of running the case's own text.
    list: Option<String>,
    /// Below `scripts/`: runs in place of the case's own text.
    script: Option<String>,
    /// Runs in place of the script that it was built of.
    object: Option<PathBuf>,
    stop: Option<Signal>,
    requires: Vec<String>,
    /// Whether only inside (true) or only outside (false) of the test kernels.
    in_vm: Option<bool>,
    limit: Duration,
    status: i32,
    /// Judged by the schema of JSON output only.
    only_form: bool,
    expectations: Vec<Expectation>,
}

#[derive(Debug)]
enum Expectation {
    /// A line of standard output; as often as it is expected.
    Line(String),
    /// Matches in a line of standard output.
    LineLike(Regex),
    /// Matches in exactly so many lines of standard output.
    LinesLike(usize, Regex),
    /// In neither output.
    Reject(String),
    /// Is in standard error.
    Error(String),
    /// Matches in a line of standard error.
    ErrorLike(Regex),
    /// So many events: lines of standard output that begin with `event`, and what standard
    /// error says was lost.
    Events(u64),
    /// So many events: the numbers that the expression finds in standard output, and what
    /// standard error says was missed.
    Counted(u64, Regex),
}

impl Plan {
    pub(crate) fn of(case: &Case) -> Result<Plan, String> {
        let mut plan = Plan {
            limit: Duration::from_secs(SECONDS),
            stop: Some(Signal::SIGINT),
            ..Plan::default()
        };
        let mut stop = None;
        for Header { key, mut value } in case.headers()? {
            for made in &MADE {
                if value.contains(made.word) {
                    value = value.replace(made.word, &self::made(made)?);
                }
            }
            if value.contains(ARCHIVE) {
                value = value.replace(ARCHIVE, &archive()?);
            }
            if value.contains(GO) {
                value = value.replace(GO, go()?);
            }
            let words = || value.split_whitespace().map(str::to_owned);
            match key.as_str() {
                "workload" => plan.child = Some(value),
                "command" => plan.command = Some(value),
                "beside" => plan.beside = Some(value),
                "held" => plan.held = Some(value),
                "tracer" => plan.tracer = Some(value),
                "namespace" if value == "pid" => plan.in_namespace = true,
                "run" => plan.flags.extend(words()),
                "args" => plan.args.extend(words()),
                "env" => {
                    let (name, value) = value.split_once('=').ok_or("`env` is not NAME=VALUE")?;
                    plan.environment.push((name.into(), value.into()));
                }
                "list" => plan.list = Some(value),
                "script" => plan.script = Some(value),
                "stop" => stop = Some(value),
                "requires" => plan.requires.extend(words()),
                "kernels" if value == "vm" => plan.in_vm = Some(true),
                "kernels" if value == "host" => plan.in_vm = Some(false),
                "timeout" => plan.limit = Duration::from_secs(number(&value)?),
                "exit" => plan.status = number(&value)?,
                "expect" => plan.expectations.push(Expectation::Line(value)),
                "expect-re" => plan.expectations.push(Expectation::LineLike(regex(&value)?)),
                "lines" => {
                    let (count, like) = value.split_once(' ').ok_or("`lines` is COUNT REGEX")?;
                    let like = Expectation::LinesLike(number(count)?, regex(like)?);
                    plan.expectations.push(like);
                }
                "reject" => plan.expectations.push(Expectation::Reject(value)),
                "stderr" => plan.expectations.push(Expectation::Error(value)),
                "stderr-re" => plan.expectations.push(Expectation::ErrorLike(regex(&value)?)),
                "counted" => {
                    let (count, like) = value.split_once(' ').ok_or("`counted` is COUNT REGEX")?;
                    let counted = Expectation::Counted(number(count)?, regex(like)?);
                    plan.expectations.push(counted);
                }
                "events" => plan.expectations.push(Expectation::Events(number(&value)?)),
                _ => {
                    return Err(format!(
                        "no header `{key}: {value}`; tests/runtime/README.md lists them"
                    ));
                }
            }
        }
        // A run that has a process to follow ends with it.
        let follows = plan.flags.iter().any(|flag| flag == "-p");
        plan.stop = match stop.as_deref() {
            None if follows => None,
            None | Some("INT") => Some(Signal::SIGINT),
            Some("TERM") => Some(Signal::SIGTERM),
            Some("none") => None,
            Some(other) => return Err(format!("`stop` is INT, TERM or none, not `{other}`")),
        };
        let workloads = [&plan.child, &plan.command, &plan.beside, &plan.held];
        if workloads.into_iter().flatten().count() > 1 {
            return Err("a case has one of `workload`, `command`, `beside` and `held`".into());
        }
        if plan.expectations.is_empty() && plan.status == 0 && !case.beside("out").exists() {
            return Err("the case expects nothing".into());
        }
        Ok(plan)
    }

    /// The same with JSON output, of which nothing is expected but its form.
    fn with_json(mut self) -> Plan {
        self.flags.extend(["-f".into(), "json".into()]);
        self.expectations.clear();
        self.only_form = true;
        self
    }

    /// Whether the script is run: names of probes are no JSON.
    pub(crate) fn runs(&self) -> bool {
        let lists = |flag: &String| flag.starts_with("-l") || flag.starts_with("--list");
        self.list.is_none() && !self.flags.iter().any(lists)
    }

    /// Whether standard output is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.flags.iter().any(|flag| flag == "json")
    }

    /// Whether the case can run in the test kernels at all.
    pub(crate) fn for_vm(&self) -> bool {
        self.in_vm != Some(false)
    }

    fn not_here(&self) -> Option<String> {
        match (self.in_vm, std::env::var_os("RTRACE_VM").is_some()) {
            (Some(true), false) => Some("only in the test kernels".into()),
            (Some(false), true) => Some("not in the test kernels".into()),
            _ => None,
        }
    }

    /// The file name of the object of the case's script.
    fn object_name(&self, case: &Case) -> String {
        let script = self.script.clone().unwrap_or_else(|| case.name.replace('/', "-"));
        format!("{}.bpf.o", script.trim_end_matches(".bt"))
    }

    // ------------------------------------------------------------ doing it

    fn execute(&self, case: &Case) -> Result<End, String> {
        let deadline = Instant::now() + self.limit * slowness().unwrap_or(1);
        let _tracer =
            self.tracer.as_deref().map(|text| start_tracer(text, deadline)).transpose()?;
        let held = self.held.as_deref().map(|work| start_workload(work, true)).transpose()?;
        let pid = held.as_ref().map(|child| child.id().to_string()).unwrap_or_default();

        let mut command = match self.in_namespace {
            true => {
                let mut command = Command::new("unshare");
                command.args(["--pid", "--fork", "--mount-proc"]).arg(rtrace());
                command
            }
            false => Command::new(rtrace()),
        };
        command.args(self.object.iter().map(|_| "run"));
        command.args(self.flags.iter().map(|flag| flag.replace("{pid}", &pid)));
        if let Some(work) = &self.child {
            command.arg("-c").arg(format!("rt-workload {work}"));
        }
        if let Some(program) = &self.command {
            command.arg("-c").arg(program);
        }
        match (&self.list, &self.script, &self.object) {
            (Some(pattern), ..) => command.arg("-l").arg(pattern),
            (None, _, Some(object)) => command.arg(object),
            (None, Some(name), None) => command.arg(root().join("scripts").join(name)),
            (None, None, None) => command.arg(case.file_name()),
        };
        command.args(self.args.iter().map(|arg| arg.replace("{pid}", &pid)));
        clean_environment(&mut command);
        // `-c` and uprobes find the workload by its name.
        let mut path = vec![workload().parent().unwrap_or(Path::new(".")).to_path_buf()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).map_err(|why| why.to_string())?);
        command.env(ATTACHED, "1").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(case.folder());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());

        let shown = format!("{command:?}");
        let child = command.spawn().map_err(|why| format!("{shown}: {why}"))?;
        let mut running = Running {
            child: Guard(child),
            held: held.map(Guard),
            output: Output::default(),
            shown,
        };
        let news = running.listen();
        let ended = self.conduct(&mut running, &news, deadline);
        match ended {
            Ok(status) => Ok(End { status, output: running.output, shown: running.shown }),
            Err(why) => {
                // Gone first, so that what it had said is complete.
                running.child.end();
                running.drain(&news, Instant::now() + Duration::from_secs(1)).ok();
                Err(format!("{why}\n\n{}", running.output.story(&running.shown)))
            }
        }
    }

    /// Starts the workload when the probes are attached, stops rtrace when it is over.
    fn conduct(
        &self,
        running: &mut Running,
        news: &Receiver<News>,
        deadline: Instant,
    ) -> Result<ExitStatus, String> {
        if self.beside.is_some() || self.held.is_some() {
            running.until_attached(news, deadline)?;
            let mut work = match (&self.beside, running.held.take()) {
                (Some(work), _) => Guard(start_workload(work, false)?),
                (None, Some(held)) => held,
                (None, None) => return Err("bug: no workload".into()),
            };
            drop(work.0.stdin.take());
            let status = work.wait(deadline).ok_or("the workload does not end")?;
            if !status.success() {
                return Err(format!("the workload failed: {status}"));
            }
            if let Some(signal) = self.stop {
                let pid = Pid::from_raw(running.child.0.id().cast_signed());
                // It may have ended by itself: its status and output say whether that is right.
                kill(pid, signal).ok();
            }
        }
        running.drain(news, deadline)?;
        running.child.wait(deadline).ok_or_else(|| "closed its output and does not end".into())
    }

    // ------------------------------------------------------------ judging it

    fn judge(&self, case: &Case, end: &End) -> Vec<String> {
        let mut faults = Vec::new();
        match end.status.code() {
            Some(code) if code == self.status => {}
            Some(code) => faults.push(format!("exit status {code}, not {}", self.status)),
            None => faults.push(format!("ended by a {}", end.status)),
        }
        let (out, err) = (end.output.out(), end.output.err());
        if let Some(line) = err.lines().find(|line| line.starts_with("rt-workload: ")) {
            faults.push(format!("the workload failed: {line}"));
        }
        let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
        for expectation in &self.expectations {
            match expectation {
                Expectation::Line(line) => *wanted.entry(line).or_default() += 1,
                Expectation::LineLike(regex) if !out.lines().any(|line| regex.is_match(line)) => {
                    faults.push(format!("no line like `{regex}`"));
                }
                Expectation::LinesLike(count, regex) => {
                    let found = out.lines().filter(|line| regex.is_match(line)).count();
                    if found != *count {
                        faults.push(format!("{found} lines like `{regex}`, not {count}"));
                    }
                }
                Expectation::Reject(text) if out.contains(text) || err.contains(text) => {
                    faults.push(format!("there is `{text}`, which must not be"));
                }
                Expectation::Error(text) if !err.contains(text) => {
                    faults.push(format!("standard error has no `{text}`"));
                }
                Expectation::ErrorLike(regex) if !err.lines().any(|line| regex.is_match(line)) => {
                    faults.push(format!("standard error has no line like `{regex}`"));
                }
                Expectation::Counted(count, regex) => {
                    faults.extend(judge_counted(*count, regex, &out, &err));
                }
                Expectation::Events(count) => faults.extend(judge_events(*count, &out, &err)),
                _ => {}
            }
        }
        for (line, count) in wanted {
            let found = out.lines().filter(|other| *other == line).count();
            if found < count {
                let times =
                    if count > 1 { format!(" {count} times, but {found}") } else { String::new() };
                faults.push(format!("no line `{line}`{times}"));
            }
        }
        if !self.only_form {
            faults.extend(judge_whole(&case.beside("out"), &out));
        }
        if self.is_json() {
            // A command writes to the same output.
            let own = |line: &&str| self.command.is_none() || line.starts_with("{\"type\": ");
            faults.extend(out.lines().filter(own).find_map(|line| schema::check(line).err()));
        }
        faults
    }
}

/// Events that were counted and events that were missed, together: none is forgotten. Events of
/// other processes, which a predicate would have dropped, may be among the missed ones.
fn judge_counted(count: u64, regex: &Regex, out: &str, err: &str) -> Option<String> {
    let missed = Regex::new(r"^ *(\d+)  \S+ +runs: ").ok()?;
    let sum = |regex: &Regex, text: &str| -> u64 {
        let of_line = |line| regex.captures(line)?.get(1)?.as_str().parse::<u64>().ok();
        text.lines().filter_map(of_line).sum()
    };
    let (counted, missed) = (sum(regex, out), sum(&missed, err));
    let text = format!("{counted} events and {missed} missed ones are not {count}");
    (counted > count || counted + missed < count).then_some(text)
}

/// Events that came and events that were lost, together: none is forgotten.
fn judge_events(count: u64, out: &str, err: &str) -> Option<String> {
    const TOTAL: &str = "WARNING: Total lost event count: ";
    let came = out.lines().filter(|line| line.starts_with("event")).count();
    let lost = err.lines().find_map(|line| line.strip_prefix(TOTAL)?.parse().ok()).unwrap_or(0);
    let all = u64::try_from(came).unwrap_or(u64::MAX).saturating_add(lost);
    (all != count).then(|| format!("{came} events and {lost} lost ones are not {count}"))
}

/// Standard output in full, byte for byte, where there is a file with what it should be.
fn judge_whole(expected: &Path, out: &str) -> Option<String> {
    let text = std::fs::read_to_string(expected).ok()?;
    let difference = difference(&text, out);
    if difference.is_empty() {
        return None;
    }
    if std::env::var_os("RTRACE_BLESS").is_some() && std::fs::write(expected, out).is_ok() {
        return None;
    }
    let name = expected.file_name().unwrap_or_default().to_string_lossy();
    Some(format!("standard output is not what `{name}` says:\n{difference}"))
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|why| why.to_string())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is not a number"))
}

/// What [`SLOWNESS`] is set to, if it is.
pub(crate) fn slowness() -> Option<u32> {
    std::env::var(SLOWNESS).ok()?.parse().ok()
}

/// Removes what would make rtrace say the same thing in another way.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("BPFTRACE_") || text.starts_with("LC_") || text == ATTACHED {
            command.env_remove(&name);
        }
    }
    command
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .env("BPFTRACE_COLOR", "never")
        .env("RUST_BACKTRACE", "1");
}

/// What `cc` makes of a source in `tests/workload`; cargo builds none of that kind for tests.
fn made(made: &Made) -> Result<String, String> {
    // Of several tests that ask at the same time, one builds.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut compiler = Command::new("cc");
    compiler.args(made.flags);
    built(&format!("tests/workload/{}", made.source), made.name, compiler)
}

/// The archive, made of the library where it is newer.
fn archive() -> Result<String, String> {
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let library = made(&MADE[0])?;
    let product = workload().with_file_name("rt-archive.zip");
    let time = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if time(&product) <= time(Path::new(&library)) {
        let make = || -> zip::result::ZipResult<()> {
            let new = product.with_extension(std::process::id().to_string());
            let mut zip = zip::ZipWriter::new(std::fs::File::create(&new)?);
            let plain = SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored)
                .with_alignment(4096);
            zip.start_file("readme", plain)?;
            zip.write_all(b"What lies before the library.")?;
            zip.start_file("lib/libmarkers.so", plain)?;
            zip.write_all(&std::fs::read(&library)?)?;
            zip.finish()?;
            Ok(std::fs::rename(&new, &product)?)
        };
        make().map_err(|why| format!("{}: {why}", product.display()))?;
    }
    Ok(product.to_string_lossy().into_owned())
}

/// The program of Go, `tests/workload/returns.go`, built when it is first asked for.
fn go() -> Result<&'static str, String> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    let compiler = || {
        let mut command = Command::new("go");
        let cache = workload().with_file_name("rt-go-cache");
        command.arg("build").env("GOCACHE", cache).env("CGO_ENABLED", "0").env("GOFLAGS", "");
        command
    };
    BUILT
        .get_or_init(|| built("tests/workload/returns.go", "rt-go", compiler()))
        .as_deref()
        .map_err(Clone::clone)
}

/// What a compiler makes of a source, if that is not there yet, beside the workload; its path.
fn built(source: &str, name: &str, mut compiler: Command) -> Result<String, String> {
    let (source, product) = (root().join(source), workload().with_file_name(name));
    let time = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if time(&product) <= time(&source) {
        // In one step, since another test program may be about to do the same.
        let new = product.with_extension(std::process::id().to_string());
        compiler.arg("-o").arg(&new).arg(&source);
        let status = compiler.status().map_err(|why| format!("{compiler:?}: {why}"))?;
        if !status.success() {
            return Err(format!("{compiler:?}: {status}"));
        }
        std::fs::rename(&new, &product).map_err(|why| why.to_string())?;
    }
    Ok(product.to_string_lossy().into_owned())
}

/// Another rtrace, when its probes are attached.
fn start_tracer(text: &str, deadline: Instant) -> Result<Running, String> {
    let mut command = Command::new(rtrace());
    command.args(["-q", "-e", text]);
    clean_environment(&mut command);
    command.env(ATTACHED, "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let child = command.spawn().map_err(|why| format!("{shown}: {why}"))?;
    let mut running = Running { child: Guard(child), held: None, output: Output::default(), shown };
    let news = running.listen();
    running.until_attached(&news, deadline)?;
    Ok(running)
}

fn start_workload(work: &str, hold: bool) -> Result<Child, String> {
    let mut command = Command::new(workload());
    if hold {
        command.arg("--hold");
    }
    command.args(work.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().map_err(|why| format!("{}: {why}", workload().display()))
}

// ---------------------------------------------------------------- processes

/// A process that does not outlive the test.
struct Guard(Child);

impl Guard {
    /// The status, or nothing if it is still running at the deadline.
    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Bytes of an output, or its end.
struct News {
    from_err: bool,
    bytes: Vec<u8>,
}

struct Running {
    child: Guard,
    held: Option<Guard>,
    output: Output,
    shown: String,
}

impl Running {
    /// Threads that read both outputs, so that neither ever fills up.
    fn listen(&mut self) -> Receiver<News> {
        let (sender, receiver) = channel();
        if let Some(out) = self.child.0.stdout.take() {
            forward(out, false, sender.clone());
        }
        if let Some(err) = self.child.0.stderr.take() {
            forward(err, true, sender);
        }
        receiver
    }

    /// Returns when rtrace has said that its probes are attached.
    fn until_attached(&mut self, news: &Receiver<News>, deadline: Instant) -> Result<(), String> {
        while !self.output.has_line(ATTACHED) {
            match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(news) => self.output.take(news),
                Err(RecvTimeoutError::Timeout) => {
                    return Err("does not say that its probes are attached".into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("ended before its probes were attached".into());
                }
            }
        }
        Ok(())
    }

    /// Returns when both outputs have ended.
    fn drain(&mut self, news: &Receiver<News>, deadline: Instant) -> Result<(), String> {
        loop {
            match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(news) => self.output.take(news),
                Err(RecvTimeoutError::Timeout) => return Err("does not end in time".into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

fn forward(mut from: impl Read + Send + 'static, from_err: bool, to: Sender<News>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            if to.send(News { from_err, bytes }).is_err() {
                break;
            }
        }
    });
}

/// What was said so far.
#[derive(Default)]
struct Output {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Output {
    fn take(&mut self, news: News) {
        if news.from_err { &mut self.err } else { &mut self.out }.extend(news.bytes);
    }

    /// Whether that line is complete, in either output: older tracers of this language write
    /// it to standard error.
    fn has_line(&self, line: &str) -> bool {
        let lines = |bytes: &[u8]| {
            bytes.split(|byte| *byte == b'\n').rev().skip(1).any(|other| other == line.as_bytes())
        };
        lines(&self.out) || lines(&self.err)
    }

    /// Standard output without the line for this harness.
    fn out(&self) -> String {
        Output::text(&self.out)
    }

    /// Standard error, likewise.
    fn err(&self) -> String {
        Output::text(&self.err)
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).replacen(&format!("{ATTACHED}\n"), "", 1)
    }

    fn story(&self, shown: &str) -> String {
        format!("{shown}\n--- standard output\n{}--- standard error\n{}---", self.out(), self.err())
    }
}

/// How a run of rtrace ended.
struct End {
    status: ExitStatus,
    output: Output,
    shown: String,
}

impl End {
    fn story(&self) -> String {
        self.output.story(&self.shown)
    }
}

// ---------------------------------------------------------------- the machine

/// What `rtrace --info` says of this machine, or why it says nothing.
pub(crate) struct Machine(Result<BTreeMap<String, bool>, String>);

impl Machine {
    /// Asks rtrace.
    pub(crate) fn this() -> Machine {
        Machine::of(&[])
    }

    /// The same of a recorded machine.
    pub(crate) fn at(folder: &Path) -> Machine {
        Machine::of(&["--host".as_ref(), folder.as_os_str()])
    }

    fn of(flags: &[&OsStr]) -> Machine {
        let mut command = Command::new(rtrace());
        command.args(flags).arg("--info").stdin(Stdio::null());
        clean_environment(&mut command);
        let answer = match command.output() {
            Ok(done) if done.status.success() => {
                Ok(features(&String::from_utf8_lossy(&done.stdout)))
            }
            Ok(done) => Err(format!(
                "`rtrace --info` failed: {}\n{}",
                done.status,
                String::from_utf8_lossy(&done.stderr)
            )),
            Err(why) => Err(format!("`rtrace --info`: {why}")),
        };
        Machine(answer)
    }

    /// The first thing that is required and not there, or (after `!`) there and not wanted.
    fn lacks(&self, requires: &[String]) -> Result<Option<String>, String> {
        for name in requires {
            let (name, wanted) = match name.strip_prefix('!') {
                Some(name) => (name, false),
                None => (name.as_str(), true),
            };
            if self.has(name)? != wanted {
                let verb = if wanted { "has no" } else { "has" };
                return Ok(Some(format!("this kernel {verb} `{name}`")));
            }
        }
        Ok(None)
    }

    /// What `--info` says of a feature; not knowing it is an error, lest a misspelt name turn a
    /// case off for good.
    pub(crate) fn has(&self, name: &str) -> Result<bool, String> {
        let known = self.0.as_ref().map_err(Clone::clone)?;
        let name = name.replace(' ', "_");
        known
            .get(&name)
            .copied()
            .ok_or_else(|| format!("`rtrace --info` has no line `{name}: yes` or `no`"))
    }
}

/// The `name: yes` and `name: no` of a text that has two of them in a line; blanks in names
/// become `_`.
fn features(info: &str) -> BTreeMap<String, bool> {
    let entries = info.lines().flat_map(|line| line.split("  ")).filter_map(|entry| {
        let (name, answer) = entry.trim().split_once(": ")?;
        let answer = match answer.split_whitespace().next()? {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        Some((name.replace(' ', "_"), answer))
    });
    entries.collect()
}

/// Why live tests cannot run for this user.
pub(crate) fn not_root() -> Option<&'static str> {
    let why = "tracing needs root: run `make test`, or `sudo -E` this program";
    (!nix::unistd::geteuid().is_root()).then_some(why)
}
