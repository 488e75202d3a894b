//! Examples in the pages.
//!
//! Fenced blocks of two languages are examples:
//!
//! - `bt`: a script
//! - `console`: after `# `, commands, which may go on until their quotes are closed; after each,
//!   what it prints. The commands are `rtrace …`, or `./NAME.bt` for a script of the page
//!
//! All of them are checked against the recorded machine, without privileges: scripts up to the
//! plan, listings whether they list something. More words in the info string say more:
//!
//! - `NAME.bt`: the script is a file of this name for the commands of the page
//! - `here`: checked against this machine instead, whose programs it names
//! - `run`: also run for a moment, as root; a script that does not end by itself gets SIGINT
//! - `exact`: run, and what it prints must be what is shown, but for blank lines
//! - `error`: the check must fail, with the message that is shown
//! - `status=N`: a run ends with that exit status
//! - `args=A,B`: parameters of a script
//! - `unsafe`: a script that needs `--unsafe`
//! - `needs=A,B`: run only where `rtrace --info` says `yes` to these

use std::io::{PipeReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{self, difference, live, live::Machine, root};
use crate::pages::{self, Fence, Page};

/// The recorded machine that examples are checked against.
const HOST: &str = "tests/host/debian";

/// Stops after everything that can be wrong with a script.
const PLAN: &str = "--emit=plan";

/// rtrace prints a line of this text, if the variable of this name is set.
const ATTACHED: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// How long a run that does not end by itself goes on.
const MOMENT: Duration = Duration::from_millis(300);

/// How long anything may take, on a machine of its own.
const LIMIT: Duration = Duration::from_secs(20);

/// An example in a page.
struct Example {
    page: Page,
    fence: Fence,
    commands: Vec<Shown>,
}

/// A command and what the page says that it prints.
struct Shown {
    /// `NAME=VALUE` before the command.
    environment: Vec<(String, String)>,
    words: Vec<String>,
    output: String,
}

/// What a command did.
struct Said {
    text: String,
    status: Option<i32>,
}

pub(crate) fn trials() -> Vec<Trial> {
    let machine = Arc::new(OnceLock::new());
    let mut trials = Vec::new();
    for page in pages::all() {
        for fence in page.fences() {
            if fence.language != "bt" && fence.language != "console" {
                continue;
            }
            let name = format!("{}:{}", page.name, fence.line);
            let example = match Example::of(&page, fence) {
                Ok(example) => Arc::new(example),
                Err(why) => {
                    trials.push(Trial::test(name, || Err(Failed::from(why))));
                    continue;
                }
            };
            let same = Arc::clone(&example);
            trials.push(Trial::test(format!("check/{name}"), move || {
                same.check().map_err(Failed::from)
            }));
            if example.has("run") || example.has("exact") {
                let machine = Arc::clone(&machine);
                trials.push(Trial::ignorable_test(format!("run/{name}"), move || {
                    example.run_here(machine.get_or_init(Machine::this))
                }));
            }
        }
    }
    trials
}

impl Example {
    fn of(page: &Page, fence: Fence) -> Result<Example, String> {
        for word in &fence.words {
            let known = ["here", "run", "exact", "error", "unsafe"].contains(&word.as_str())
                || ["args=", "status=", "needs="].iter().any(|key| word.starts_with(key))
                || word.ends_with(".bt") && fence.language == "bt";
            if !known {
                return Err(format!("no word `{word}`; the head of this test lists them"));
            }
        }
        let commands = match fence.language.as_str() {
            "console" => commands(&fence.text)?,
            _ => {
                let unsafe_flag = fence.words.iter().any(|w| w == "unsafe").then_some("--unsafe");
                let args = fence.words.iter().find_map(|word| word.strip_prefix("args="));
                let args = args.into_iter().flat_map(|args| args.split(','));
                let words = ["rtrace"].into_iter().chain(unsafe_flag).chain(["-e", &fence.text]);
                let words = words.chain(args);
                let words = words.map(str::to_owned).collect();
                vec![Shown { environment: Vec::new(), words, output: String::new() }]
            }
        };
        if commands.is_empty() {
            return Err("no command; they follow `# `".into());
        }
        Ok(Example { page: page.clone(), fence, commands })
    }

    fn has(&self, word: &str) -> bool {
        self.fence.words.iter().any(|other| other == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.fence.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    // ------------------------------------------------------------ checking

    fn check(&self) -> Result<(), String> {
        let folder = Folder::of(&self.page)?;
        for shown in &self.commands {
            let Some(args) = checked(&shown.words)? else { continue };
            let mut command = self.command(shown, &harness::rtrace(), &folder);
            if !self.has("here") {
                command.arg("--host").arg(root().join(HOST));
            }
            command.args(&args);
            let mut said = merged(command, |_, _| Ok(()))?;
            if args.iter().any(|arg| arg == PLAN) {
                // What was said of the script; the plan itself tells nothing here.
                let lines = said.text.lines().take_while(|line| *line != "{");
                said.text = lines.map(|line| format!("{line}\n")).collect();
            }
            if self.has("error") {
                if said.status != Some(1) {
                    return Err(said.story());
                }
                self.compare(shown, &said.text)?;
                continue;
            }
            let listing = args.iter().any(|arg| arg.starts_with("-l"));
            let warns = said.text.lines().any(|line| line.starts_with("warning"));
            if said.status != Some(0) || warns || listing && said.text.is_empty() {
                return Err(said.story());
            }
        }
        Ok(())
    }

    // ------------------------------------------------------------- running

    fn run_here(&self, machine: &Machine) -> Result<Completion, Failed> {
        match live::not_root() {
            Some(why) if std::env::var_os("RTRACE_ALLOW_UNPRIVILEGED_SKIP").is_some() => {
                return Ok(Completion::ignored_with(why));
            }
            Some(why) => return Err(why.into()),
            None => {}
        }
        for feature in self.value("needs").into_iter().flat_map(|list| list.split(',')) {
            if !machine.has(feature)? {
                return Ok(Completion::ignored_with(format!("this kernel has no `{feature}`")));
            }
        }
        self.run()?;
        Ok(Completion::Completed)
    }

    fn run(&self) -> Result<(), String> {
        let status = self.value("status").map_or(Ok(0), str::parse);
        let status = status.map_err(|_| "`status=` is no number")?;
        let folder = Folder::of(&self.page)?;
        for shown in &self.commands {
            let program = match shown.words.first() {
                Some(script) if script.starts_with("./") => folder.0.join(script),
                _ => harness::rtrace(),
            };
            let mut command = self.command(shown, &program, &folder);
            command.args(shown.words.iter().skip(1)).env(ATTACHED, "1");
            let ends = shown.words.iter().any(|word| word.contains("exit("));
            let said = merged(command, |news, pid| watch(news, pid, !ends))?;
            let wrong = said.text.lines().any(|line| line.starts_with("error"));
            if said.status != Some(status) || wrong {
                return Err(said.story());
            }
            if self.has("exact") {
                self.compare(shown, &said.text.replacen(&format!("{ATTACHED}\n"), "", 1))?;
            }
        }
        Ok(())
    }

    /// A command that needs only its arguments.
    fn command(&self, shown: &Shown, program: &Path, folder: &Folder) -> Command {
        let mut command = Command::new(program);
        live::clean_environment(&mut command);
        // Scripts find rtrace by its name.
        let mut path = vec![harness::rtrace().parent().unwrap_or(Path::new(".")).to_path_buf()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).unwrap_or_default());
        command.envs(shown.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&folder.0).stdin(Stdio::null());
        command
    }

    // ----------------------------------------------------------- comparing

    fn compare(&self, shown: &Shown, actual: &str) -> Result<(), String> {
        let actual = tidy(actual);
        let difference = difference(&tidy(&shown.output), &actual);
        if difference.is_empty() {
            return Ok(());
        }
        if std::env::var_os("RTRACE_BLESS").is_some() {
            return self.bless(shown, &actual);
        }
        Err(format!("{difference}\n`RTRACE_BLESS=1 cargo test --test docs` accepts it"))
    }

    /// Puts what was really printed into the page.
    fn bless(&self, shown: &Shown, actual: &str) -> Result<(), String> {
        let path = root().join(&self.page.name);
        let page = std::fs::read_to_string(&path).map_err(|why| why.to_string())?;
        let before = &self.fence.text;
        let after = match before.rsplit_once(&shown.output) {
            Some((head, tail)) if !shown.output.is_empty() => format!("{head}{actual}{tail}"),
            _ if self.commands.len() == 1 => format!("{before}{actual}"),
            _ => return Err("write something below the command, to be replaced".into()),
        };
        if !page.contains(before.as_str()) {
            return Err("the page has changed; bless again".into());
        }
        std::fs::write(&path, page.replacen(before, &after, 1)).map_err(|why| why.to_string())
    }
}

/// The arguments that check a command instead of running it; nothing if there is nothing to
/// check.
fn checked(words: &[String]) -> Result<Option<Vec<String>>, String> {
    let (first, rest) = words.split_first().ok_or("an empty command")?;
    let mut args: Vec<String> = rest.to_vec();
    if first.starts_with("./") {
        args.insert(0, first.clone());
    } else if first != "rtrace" {
        return Err(format!("`{first}` is not rtrace"));
    }
    let asks = |flags: &[&str]| rest.iter().any(|arg| flags.contains(&arg.as_str()));
    match args.first().map(String::as_str) {
        // No scripts.
        Some(
            "run" | "stats" | "attach" | "ps" | "maps" | "detach" | "flame" | "completions" | "man"
            | "help",
        ) => return Ok(None),
        Some("build") => {
            args.remove(0);
            if let Some(at) = args.iter().position(|arg| arg == "-o") {
                args.drain(at..(at + 2).min(args.len()));
            }
        }
        _ => {}
    }
    let emits = rest.iter().any(|arg| arg.starts_with("--emit"));
    if !emits && !asks(&["-l", "-lv", "-h", "-V", "--info"]) {
        args.insert(0, PLAN.into());
    }
    Ok(Some(args))
}

/// The text without what differs for no reason: blanks at the end of lines, and blank lines
/// beyond the first in a row.
fn tidy(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.dedup_by(|a, b| a.is_empty() && b.is_empty());
    let text = lines.join("\n");
    let text = text.trim_matches('\n');
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

// ------------------------------------------------------------- the commands

/// The commands of a console block.
fn commands(text: &str) -> Result<Vec<Shown>, String> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        if open.is_empty() {
            match (line.strip_prefix("# "), shown.last_mut()) {
                (Some(command), _) => open = command.into(),
                (None, Some(last)) => {
                    last.output += &format!("{line}\n");
                    continue;
                }
                (None, None) => return Err("output before the first command".into()),
            }
        } else {
            open += &format!("\n{line}");
        }
        if let Some(words) = split(&open)? {
            let is_variable = |word: &&String| {
                word.split_once('=').is_some_and(|(name, _)| {
                    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                })
            };
            let variables = words.iter().take_while(is_variable).count();
            let environment = words.iter().take(variables);
            let environment = environment.filter_map(|word| word.split_once('='));
            let environment = environment.map(|(name, value)| (name.into(), value.into()));
            shown.push(Shown {
                environment: environment.collect(),
                words: words.iter().skip(variables).cloned().collect(),
                output: String::new(),
            });
            open.clear();
        }
    }
    if open.is_empty() { Ok(shown) } else { Err(format!("a quote is not closed: {open}")) }
}

/// The words of a command as a shell sees them; nothing if a quote is still open.
fn split(command: &str) -> Result<Option<Vec<String>>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\n' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Ok(None),
                        Some(end) if end == c => break,
                        Some('\\' | '$' | '`') if c == '"' => {
                            return Err("only plain text in double quotes".into());
                        }
                        Some(other) => word.push(other),
                    }
                }
            }
            '|' | '&' | ';' | '<' | '>' | '$' | '`' | '\\' | '(' | ')' => {
                return Err(format!("`{c}` needs a shell; there is none here"));
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(Some(words))
}

/// A directory with the scripts of a page, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn of(page: &Page) -> Result<Folder, String> {
        let name = format!("rtrace-docs-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        let fault = |why: std::io::Error| format!("{}: {why}", folder.0.display());
        std::fs::create_dir_all(&folder.0).map_err(fault)?;
        for fence in page.fences() {
            if let Some(name) = fence.words.iter().find(|word| word.ends_with(".bt")) {
                let path = folder.0.join(name);
                std::fs::write(&path, &fence.text).map_err(fault)?;
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&path, mode).map_err(fault)?;
            }
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

// ------------------------------------------------------------- the processes

/// Runs a command with both outputs in one, as a terminal shows them. `conduct` gets what it
/// prints, in pieces, and its process id; it may return before the end.
fn merged(
    mut command: Command,
    conduct: impl FnOnce(&mut News, Pid) -> Result<(), String>,
) -> Result<Said, String> {
    let shown = format!("{command:?}");
    let fault = |why: std::io::Error| format!("{shown}: {why}");
    let (reader, writer) = std::io::pipe().map_err(fault)?;
    command.stdout(writer.try_clone().map_err(fault)?).stderr(writer);
    let mut child = command.spawn().map_err(fault)?;
    // Its ends of the pipe must not stay open here.
    drop(command);
    let limit = LIMIT * live::slowness().unwrap_or(1);
    let mut news =
        News { from: listen(reader), text: Vec::new(), deadline: Instant::now() + limit };
    let pid = Pid::from_raw(child.id().cast_signed());
    let ended = conduct(&mut news, pid).and_then(|()| match news.until(news.deadline, |_| false) {
        Waited::Ended => Ok(()),
        Waited::Found | Waited::TimeUp => Err("does not end in time".to_owned()),
    });
    if ended.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(fault)?;
    let said =
        Said { text: String::from_utf8_lossy(&news.text).into_owned(), status: status.code() };
    match ended {
        Ok(()) => Ok(said),
        Err(why) => Err(format!("{shown}: {why}\n{}", said.story())),
    }
}

/// Waits until the probes are attached; ends a run that would go on.
fn watch(news: &mut News, pid: Pid, interrupt: bool) -> Result<(), String> {
    let line = format!("{ATTACHED}\n");
    let attached = |text: &[u8]| text.windows(line.len()).any(|part| part == line.as_bytes());
    match news.until(news.deadline, attached) {
        Waited::Found if interrupt => {}
        // What never attaches has its reason in what it says.
        Waited::Found | Waited::Ended => return Ok(()),
        Waited::TimeUp => return Err("does not say that its probes are attached".into()),
    }
    if let Waited::TimeUp = news.until(Instant::now() + MOMENT, |_| false) {
        kill(pid, Signal::SIGINT).ok();
    }
    Ok(())
}

/// What a command prints, as it comes.
struct News {
    from: Receiver<Vec<u8>>,
    text: Vec<u8>,
    deadline: Instant,
}

enum Waited {
    Found,
    Ended,
    TimeUp,
}

impl News {
    fn until(&mut self, deadline: Instant, found: impl Fn(&[u8]) -> bool) -> Waited {
        loop {
            if found(&self.text) {
                return Waited::Found;
            }
            match self.from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.text.extend(bytes),
                Err(RecvTimeoutError::Timeout) => return Waited::TimeUp,
                Err(RecvTimeoutError::Disconnected) => return Waited::Ended,
            }
        }
    }
}

fn listen(mut reader: PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send(bytes).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Said {
    fn story(&self) -> String {
        let status = self.status.map_or("none".into(), |status| status.to_string());
        format!("exit status {status}\n---\n{}---", self.text)
    }
}
