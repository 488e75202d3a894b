//! The pipelines, each on one screen: run, build, list, emit.

mod list;
mod load;
mod lsp;
#[cfg_attr(not(feature = "bpf"), path = "absent.rs")]
mod machine;
mod messages;
mod needs;
mod objects;
mod options;
mod pages;
mod stages;
mod tool;
mod tools;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::builtins;
use crate::cli::{
    self, Build, ByteOrder, Cli, Completions, CpuVersion, DebugStage, Flame, Help, LoadStage,
    Pinned, Run, Running, Script, Stage,
};
use crate::codegen;
use crate::diag::{Diagnostic, Diagnostics};
use crate::flame;
use crate::help;
use crate::host::Host;
use crate::host::features::Feature;
use crate::info;
use crate::ir;
use crate::lexer;
use crate::parser;
use crate::sema::{self, Checked};
use crate::source::{FileId, Source, Sources};

use list::list;
use load::{Loaded, Search, load};
use machine::{Look, Setup, execute, live};
use messages::shown;
use options::{
    Named, cgroup, host, known_features, options, parameters, pid, pids, process_ids, unattached,
};
pub use tool::tool;

/// Exit status of wrong use and wrong scripts.
const USAGE: u8 = 1;

/// Exit status of wrong imports, wrong C and wrong settings in the environment.
const BESIDE: u8 = 2;

/// Why a pipeline ended early: its messages are shown already.
struct Failed(u8);

type Outcome = Result<u8, Failed>;

/// Runs or lists a script.
pub fn script(cli: &Cli) -> u8 {
    if let Err(Failed(status)) = messages::choose(&cli.messages) {
        return status;
    }
    if let Err(Failed(status)) = known_features(cli) {
        return status;
    }
    let outcome = if cli.version {
        say(&format!("rtrace v{}\n", env!("CARGO_PKG_VERSION")))
    } else if cli.info {
        say(&info::text(&host(cli)))
    } else if cli.fmt || cli.mode == Some(cli::Mode::Format) {
        format(cli)
    } else if cli.list {
        list(cli)
    } else if let Some(stage) = cli.emit {
        emit(cli, stage)
    } else if let Some(path) = &cli.aot {
        executable(cli, path)
    } else {
        run(cli)
    };
    outcome.unwrap_or_else(|Failed(status)| status)
}

/// Arguments that cannot be understood, or a question about them.
pub fn wrong_use(error: &clap::Error, args: &[String]) -> u8 {
    if !error.use_stderr() {
        // Help goes to standard output; a closed pipe is a quiet end.
        let _ = error.print();
        return 0;
    }
    messages::wrong_use(error, args);
    USAGE
}

/// Compiles a script and runs it.
fn run(cli: &Cli) -> Outcome {
    let (source, params) = read(&cli.script)?;
    if asks_for_help(cli, &source) {
        let (sources, file) = sources(source);
        return say(&builtins::usage(&sources, file));
    }
    machine::check_privileges()?;
    let host = host(cli);
    let options = options(cli, params)?;
    if cli.mode == Some(cli::Mode::CompilerBench) {
        return stages::measure(cli, &source, &host, &options);
    }
    let checked = check(cli, source, &host, &options)?;
    if checked.plan.programs.is_empty() {
        if !cli.quiet {
            say("No probes to attach\n")?;
        }
        return Ok(USAGE);
    }
    let elf = compile(&checked, &host)?;
    if let Some(path) = &cli.emit_elf {
        write(path, &elf)?;
    }
    if let Some(name) = &cli.emit_llvm {
        emit_llvm(name, &checked, &host)?;
    }
    if cli.mode == Some(cli::Mode::Codegen) {
        return Ok(0);
    }
    let many = options.scope.processes || options.scope.follow;
    let setup = Setup {
        pid: options.pid,
        processes: if many { pids(cli)? } else { Vec::new() },
        dwarf_pids: process_ids(&cli.dwarf_pid)?,
        follow: cli.follow,
        cgroup: cgroup(cli, &host)?,
        command: cli.command.clone(),
        quiet: cli.quiet,
        verbose: cli.verbose,
        show_libbpf: shows(cli, DebugStage::Libbpf),
        show_verifier: shows(cli, DebugStage::Verifier),
        strict: cli.strict,
        stats: cli.stats,
        max_overhead: cli.max_overhead,
        dry_run: cli.dry_run,
        named: Vec::new(),
        pin: cli.pin.clone(),
        mode: options.mode,
        on_stdout: cli.style.output.is_none(),
    };
    execute(elf, &setup, &host, &cli.style)
}

/// `--emit-llvm`: before and after optimisation, in a file each.
fn emit_llvm(name: &Path, checked: &Checked, host: &Host) -> Result<(), Failed> {
    let (module, plan, cpu) = (&checked.module, &checked.plan, &cpu(host));
    for (ending, text) in [
        (".original.ll", codegen::llvm(module, plan, cpu)),
        (".optimized.ll", codegen::llvm_opt(module, plan, cpu)),
    ] {
        let mut path = name.as_os_str().to_owned();
        path.push(ending);
        write(Path::new(&path), text.map_err(bug)?.as_bytes())?;
    }
    Ok(())
}

/// Whether `-- --help` is given, and not for the script itself.
fn asks_for_help(cli: &Cli, source: &Source) -> bool {
    let (_, named) = parameters(Vec::new(), &cli.script.more);
    let own = ["getopt(\"help\"", "getopt( \"help\""].iter().any(|t| source.text.contains(t));
    named.iter().any(|(name, value)| name == "help" && value.is_none()) && !own
}

/// Runs a stored object.
pub fn run_object(run: &Run) -> u8 {
    let start = || {
        messages::choose(&run.how.messages)?;
        let elf = fs::read(&run.object)
            .map_err(|e| fail(format!("cannot read `{}`: {e}", run.object.display())))?;
        run_stored(elf, &run.how, parameters(Vec::new(), &run.more).1)
    };
    start().unwrap_or_else(|Failed(status)| status)
}

/// Loads an object and shows what it says.
fn run_stored(elf: Vec<u8>, how: &Running, named: Named) -> Outcome {
    let setup = Setup {
        pid: pid(how.pid.as_deref())?,
        command: how.command.clone(),
        quiet: how.quiet,
        verbose: how.verbose,
        show_libbpf: shows_load(how, LoadStage::Libbpf),
        show_verifier: shows_load(how, LoadStage::Verifier),
        strict: how.strict,
        stats: how.stats,
        max_overhead: how.max_overhead,
        dry_run: how.dry_run,
        on_stdout: how.style.output.is_none(),
        named,
        pin: how.pin.clone(),
        ..Setup::default()
    };
    execute(elf, &setup, &live(Path::new("/")), &how.style)
}

/// Shows what a pinned run says.
pub fn attach(pinned: &Pinned) -> u8 {
    look(pinned, Look::Attach)
}

/// Prints the maps of a pinned run.
pub fn pinned_maps(pinned: &Pinned) -> u8 {
    look(pinned, Look::Maps)
}

/// Takes a pinned run off and ends it.
pub fn detach(pinned: &Pinned) -> u8 {
    look(pinned, Look::Detach)
}

/// Lists pinned runs.
pub fn pins() -> u8 {
    machine::pins().unwrap_or_else(|Failed(status)| status)
}

fn look(pinned: &Pinned, how: Look) -> u8 {
    let outcome = messages::choose(&pinned.messages)
        .and_then(|()| machine::look(&pinned.name, how, &pinned.style));
    outcome.unwrap_or_else(|Failed(status)| status)
}

/// Compiles a script to an object file, or an executable.
pub fn build(build: &Build) -> u8 {
    let start = || {
        messages::choose(&build.messages)?;
        let (source, params) = read(&build.script)?;
        let mut host = live(Path::new("/"));
        if !build.here {
            host = host.for_all_since(build.kernel);
        }
        if let Some(arch) = build.arch {
            host = host.of_arch(arch);
        }
        if let Some(file) = &build.btf {
            host = host.with_types(file);
        }
        let options = unattached(params, &build.script.more, build.unsafe_mode);
        let big_endian = build.target == ByteOrder::Bpfeb;
        let options = sema::Options { portable: !build.here, big_endian, ..options };
        let (mut sources, file) = sources(source);
        let search = Search::of(&build.includes);
        let checked = checked(&mut sources, file, &search, &host, &options)?;
        let cpu = match build.cpu {
            None => cpu(&host).cpu,
            Some(CpuVersion::V1) => codegen::Cpu::V1,
            Some(CpuVersion::V2) => codegen::Cpu::V2,
            Some(CpuVersion::V3) => codegen::Cpu::V3,
            Some(CpuVersion::V4) => codegen::Cpu::V4,
        };
        let elf = compile_for(&checked, codegen::Options { cpu, big_endian, threads: 1 })?;
        if build.executable || build.output.extension().is_none_or(|e| e != "o") {
            tool::write(&build.output, &elf)?;
        } else {
            write(&build.output, &elf)?;
        }
        Ok(0)
    };
    let outcome: Outcome = start();
    outcome.unwrap_or_else(|Failed(status)| status)
}

/// `--aot`: a script as an executable.
fn executable(cli: &Cli, path: &Path) -> Outcome {
    let (source, params) = read(&cli.script)?;
    let host = host(cli).for_all_since(OLDEST);
    let options = sema::Options { portable: true, ..options(cli, params)? };
    let (mut sources, file) = sources(source);
    let checked = checked(&mut sources, file, &Search::of(&cli.includes), &host, &options)?;
    tool::write(path, &compile_for(&checked, codegen::Options { threads: 1, ..cpu(&host) })?)?;
    Ok(0)
}

/// The oldest kernel that there are objects for.
const OLDEST: (u32, u32) = (5, 10);

/// Draws a flame graph.
pub fn flame(flame: &Flame) -> u8 {
    let start = || {
        let name = flame.file.display();
        let mut text = String::new();
        let read = match flame.file.as_os_str() == "-" {
            true => io::stdin().read_to_string(&mut text),
            false => fs::File::open(&flame.file).and_then(|mut f| f.read_to_string(&mut text)),
        };
        read.map_err(|e| fail(format!("cannot read `{name}`: {e}")))?;
        let options = flame::Options {
            title: flame.title.clone(),
            map: flame.map.clone(),
            icicle: flame.icicle,
        };
        let mut svg = Vec::new();
        flame::draw(&text, &options, &mut svg).map_err(|e| fail(format!("`{name}`: {e}")))?;
        if flame.output.as_os_str() == "-" {
            return io::stdout().write_all(&svg).map(|()| 0).map_err(|_| Failed(0));
        }
        write(&flame.output, &svg)?;
        Ok(0)
    };
    let outcome: Outcome = start();
    outcome.unwrap_or_else(|Failed(status)| status)
}

/// Writes a shell's completions.
pub fn completions(completions: &Completions) -> u8 {
    pages::completions(completions.shell).unwrap_or_else(|Failed(status)| status)
}

/// Writes the manual page.
pub fn manual() -> u8 {
    pages::manual().unwrap_or_else(|Failed(status)| status)
}

/// Tells about a topic of the reference.
pub fn help(help: &Help) -> u8 {
    let text = match help.topic.as_slice() {
        [] => Ok(help::topics()),
        words => help::topic(&words.join(" ")).map_err(fail),
    };
    text.and_then(|text| say(&text)).unwrap_or_else(|Failed(status)| status)
}

/// `rtrace check`: 1 if a script is wrong.
pub fn check_scripts(check: &cli::Check) -> u8 {
    tools::check(check).unwrap_or_else(|Failed(status)| status)
}

/// `rtrace fmt`: with `--check`, 1 if a script is not formatted.
pub fn format_scripts(fmt: &cli::Fmt) -> u8 {
    tools::fmt(fmt).unwrap_or_else(|Failed(status)| status)
}

/// `rtrace lsp`.
pub fn serve_editor(lsp: &cli::Lsp) -> u8 {
    lsp::serve(lsp).unwrap_or_else(|Failed(status)| status)
}

/// `rtrace stats`.
pub fn watch(stats: &cli::Stats) -> u8 {
    let chosen = messages::choose(&stats.messages);
    chosen.and_then(|()| machine::watch(stats)).unwrap_or_else(|Failed(status)| status)
}

/// `rtrace explain`.
pub fn explain(explain: &cli::Explain) -> u8 {
    tools::explain(explain).unwrap_or_else(|Failed(status)| status)
}

/// `--fmt`: a script in canonical form, to standard output or into a file.
fn format(cli: &Cli) -> Outcome {
    let (source, _) = read(&cli.script)?;
    let text = tools::formatted(source)?;
    match &cli.style.output {
        Some(path) => tools::replace(path, &text).map(|()| 0),
        None => say(&text),
    }
}

/// `--emit`: a stage's result, for reading.
fn emit(cli: &Cli, stage: Stage) -> Outcome {
    let bytes = stage_bytes(cli, stage)?;
    match &cli.style.output {
        Some(path) => write(path, &bytes).map(|()| 0),
        None => io::stdout().write_all(&bytes).map(|()| 0).map_err(|_| Failed(0)),
    }
}

/// What a stage makes of the script, as text or as a file would have it.
fn stage_bytes(cli: &Cli, stage: Stage) -> Result<Vec<u8>, Failed> {
    let (source, params) = read(&cli.script)?;
    let (mut sources, file) = sources(source.clone());
    if stage == Stage::Tokens {
        return Ok(lexer::print(&sources, file, &builtins::is_value).into());
    }
    if stage == Stage::Ast {
        let (tree, diags) = parser::parse(&sources, file, &builtins::is_value);
        shown(&diags, &sources)?;
        return Ok(parser::print::print_grouped(&tree).into());
    }
    let host = host(cli);
    let options = options(cli, params)?;
    let checked = checked(&mut sources, file, &Search::of(&cli.includes), &host, &options)?;
    let (module, plan, cpu) = (&checked.module, &checked.plan, &cpu(&host));
    let text = match stage {
        Stage::Tokens | Stage::Ast => Ok(String::new()),
        Stage::Ir => Ok(ir::print(module)),
        Stage::Plan => {
            let json = serde_json::to_string_pretty(plan);
            Ok(json.expect("bug: a plan is plain data") + "\n")
        }
        Stage::Llvm => codegen::llvm(module, plan, cpu),
        Stage::LlvmOpt => codegen::llvm_opt(module, plan, cpu),
        Stage::Asm => codegen::asm(module, plan, cpu),
        Stage::Obj => return compile(&checked, &host),
        Stage::Btf => {
            return crate::object::types(&compile(&checked, &host)?)
                .ok_or_else(|| bug("the object does not describe its types".to_owned()));
        }
    };
    text.map(String::into_bytes).map_err(bug)
}

/// Parses and checks; shows the stages that `-d` asks for.
fn check(
    cli: &Cli,
    source: Source,
    host: &Host,
    options: &sema::Options,
) -> Result<Checked, Failed> {
    let (mut sources, file) = sources(source);
    if shows(cli, DebugStage::Parse) {
        messages::say(&lexer::print(&sources, file, &builtins::is_value));
    }
    if shows(cli, DebugStage::Ast) {
        let (tree, _) = parser::parse(&sources, file, &builtins::is_value);
        messages::say(&parser::print::print_grouped(&tree));
    }
    let search = Search::of(&cli.includes);
    let checked = checked(&mut sources, file, &search, host, options)?;
    if shows(cli, DebugStage::Types) {
        say(&ir::print(&checked.module))?;
    }
    let cpu = cpu(host);
    if shows(cli, DebugStage::Codegen) {
        say(&codegen::llvm(&checked.module, &checked.plan, &cpu).map_err(bug)?)?;
    }
    if shows(cli, DebugStage::CodegenOpt) {
        say(&codegen::llvm_opt(&checked.module, &checked.plan, &cpu).map_err(bug)?)?;
    }
    if shows(cli, DebugStage::Dis) {
        say(&codegen::asm(&checked.module, &checked.plan, &cpu).map_err(bug)?)?;
    }
    Ok(checked)
}

/// Parses and checks a script with all that belongs to it; also tells whether headers
/// were left unread.
fn examine(
    sources: &mut Sources,
    file: FileId,
    search: &Search,
    host: &Host,
    options: &sema::Options,
) -> (Option<Checked>, Diagnostics, bool) {
    let Loaded { script, objects, unread, refused, mut diags } = load(sources, file, search);
    if diags.has_errors() {
        return (None, diags, unread);
    }
    let options =
        &sema::Options { objects: objects.into(), refused_headers: refused, ..options.clone() };
    let (checked, found) = sema::check(&script, sources, host, options);
    diags.append(found);
    (checked, diags, unread)
}

fn checked(
    sources: &mut Sources,
    file: FileId,
    search: &Search,
    host: &Host,
    options: &sema::Options,
) -> Result<Checked, Failed> {
    let mut again = sources.clone();
    let (mut result, mut diags, unread) = examine(sources, file, search, host, options);
    if result.is_none() && unread {
        // What is missing may be a constant of a header that was not read.
        let search = &Search { thoroughly: true, ..search.clone() };
        let (found, said, _) = examine(&mut again, file, search, host, options);
        if found.is_some() {
            (result, diags, *sources) = (found, said, again);
        }
    }
    shown(&diags, sources)?;
    let checked = result.ok_or(Failed(USAGE))?;
    if cfg!(debug_assertions)
        && let Err(broken) = ir::verify::verify(&checked.module)
    {
        return Err(bug(broken));
    }
    Ok(checked)
}

fn compile(checked: &Checked, host: &Host) -> Result<Vec<u8>, Failed> {
    compile_for(checked, cpu(host))
}

fn compile_for(checked: &Checked, how: codegen::Options) -> Result<Vec<u8>, Failed> {
    if !codegen::AVAILABLE {
        return Err(fail("this rtrace was built without its compiler; `rtrace run` runs objects"));
    }
    let compiled = codegen::compile(&checked.module, &checked.plan, &how).map_err(bug)?;
    let elf = machine::join(compiled.elf, &compiled.more)?;
    let mut elf = machine::link(elf, &checked.objects)?;
    codegen::seal(&mut elf);
    Ok(elf)
}

/// The newest instruction set that the kernel runs, as quickly as this machine can.
fn cpu(host: &Host) -> codegen::Options {
    let cpu = if host.has(Feature::CpuV4) {
        codegen::Cpu::V4
    } else if host.has(Feature::CpuV3) {
        codegen::Cpu::V3
    } else {
        codegen::Cpu::V2
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(machine::THREADS);
    codegen::Options { cpu, big_endian: false, threads }
}

/// The script and what follows it on the command line.
fn read(script: &Script) -> Result<(Source, Vec<String>), Failed> {
    if let Some(text) = &script.program {
        let source = Source { name: "stdin".into(), text: text.clone() };
        return Ok((source, script.args.clone()));
    }
    let Some((file, params)) = script.args.split_first() else {
        let help = <Cli as clap::CommandFactory>::command().render_help();
        messages::say(&format!("{help}\n"));
        return Err(Failed(USAGE));
    };
    Ok((script_text(file)?, params.to_vec()))
}

/// The text of a file, or of standard input.
fn script_text(file: &str) -> Result<Source, Failed> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|e| fail(format!("cannot read the script `{file}`: {e}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| fail(format!("the script `{file}` is not UTF-8 text")))?;
    let name = if file == "-" { "stdin" } else { file };
    Ok(Source { name: name.to_owned(), text })
}

fn sources(source: Source) -> (Sources, FileId) {
    let mut sources = Sources::default();
    let file = sources.add(source);
    (sources, file)
}

fn shows(cli: &Cli, stage: DebugStage) -> bool {
    cli.debug.contains(&stage) || cli.debug.contains(&DebugStage::All)
}

fn shows_load(how: &Running, stage: LoadStage) -> bool {
    how.debug.contains(&stage) || how.debug.contains(&LoadStage::All)
}

/// Text on standard output. A closed pipe is a quiet end.
fn say(text: &str) -> Outcome {
    io::stdout().write_all(text.as_bytes()).map(|()| 0).map_err(|_| Failed(0))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    fs::write(path, bytes).map_err(|e| fail(format!("cannot write `{}`: {e}", path.display())))
}

/// Something about the world or the arguments is wrong.
fn fail(message: impl Into<String>) -> Failed {
    failed(Diagnostic::global(message), USAGE)
}

/// We are wrong.
fn bug(message: String) -> Failed {
    let d = Diagnostic::global(format!("bug: {message}"));
    failed(d.help("this is a fault of rtrace, not of the script; please report it"), 255)
}

fn failed(diagnostic: Diagnostic, status: u8) -> Failed {
    messages::write(&Diagnostics { list: vec![diagnostic] }, &Sources::default());
    Failed(status)
}
