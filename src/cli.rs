//! The command line: every flag, and nothing that has effects.
//!
//! Two shapes: `rtrace [options] SCRIPT [params…]` with bpftrace's spellings,
//! and commands: `build` and `run` for stored objects, `check`, `fmt` and `explain`
//! for those who write scripts.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::Styles;
use clap::{Args, Parser, ValueEnum};
use clap_complete::Shell;

use crate::host::arch::{ARCHES, Arch};

/// Flags about what happens while rtrace is there, which a pinned run (`--pin`) goes on without.
const ALIVE: [&str; 5] = ["command", "stats", "max_overhead", "strict", "dry_run"];

/// `rtrace [options] SCRIPT [params…]`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace",
    about = "Trace Linux with a small language: counts, histograms, stacks, lines",
    override_usage = "rtrace [OPTIONS] FILE [PARAMS...]\n       \
                      rtrace [OPTIONS] -e 'PROGRAM' [PARAMS...]\n       \
                      rtrace -l [PATTERN | FILE]\n       \
                      rtrace build [OPTIONS] FILE -o OBJECT | EXECUTABLE\n       \
                      rtrace run [OPTIONS] OBJECT\n       \
                      rtrace attach | maps | detach NAME\n       \
                      rtrace ps\n       \
                      rtrace flame [OPTIONS] FILE -o GRAPH\n       \
                      rtrace help [TOPIC]\n       \
                      rtrace completions bash | zsh | fish\n       \
                      rtrace man\n       \
                      rtrace check [OPTIONS] FILE...\n       \
                      rtrace fmt [--check] [FILE...]\n       \
                      rtrace explain WORD\n       \
                      rtrace stats [OPTIONS]\n       \
                      rtrace lsp",
    after_help = EXAMPLES,
    infer_long_args = true,
    disable_version_flag = true,
    styles = Styles::plain(),
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub script: Script,

    /// List probes that match a pattern, or those of a script
    #[arg(short = 'l', long)]
    pub list: bool,

    /// Say more; with -l, show arguments
    #[arg(short = 'v', long)]
    pub verbose: bool,

    /// Trace these processes
    #[arg(short = 'p', long, value_name = "PID[,PID…]", value_delimiter = ',')]
    pub pid: Vec<String>,

    /// Make DWARF tables of this process, too, for `dw_ustack` (may be repeated)
    #[arg(long, value_name = "PID")]
    pub dwarf_pid: Vec<String>,

    /// Trace the descendants of the processes of `-p` or `-c`, too
    #[arg(long)]
    pub follow: bool,

    /// Trace only what runs in this cgroup and below
    #[arg(long, value_name = "PATH", conflicts_with = "container")]
    pub cgroup: Option<String>,

    /// Trace only this container, by the start of its id or name
    #[arg(long, value_name = "ID")]
    pub container: Option<String>,

    /// Run this command and trace it
    #[arg(short = 'c', long = "cmd", value_name = "COMMAND")]
    pub command: Option<String>,

    #[command(flatten)]
    pub style: Style,

    /// Leave everything attached under this name; `attach`, `ps`, `maps` and `detach` look after it
    #[arg(long, value_name = "NAME", conflicts_with_all = ALIVE)]
    #[arg(conflicts_with_all = ["dwarf_pid", "test", "bench", "mode"])]
    pub pin: Option<String>,

    /// Tell at the end how often programs ran, and what they cost
    #[arg(long)]
    pub stats: bool,

    /// Detach, and say so, if the programs cost more than this share of a CPU
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub max_overhead: Option<f64>,

    /// Do not say how many probes are attached
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// Warn about failed reads and lookups too
    #[arg(short = 'k', long, conflicts_with = "no_warnings")]
    pub warnings: bool,

    #[command(flatten)]
    pub messages: Messages,

    /// Exit with status 3 if anything got lost
    #[arg(long)]
    pub strict: bool,

    /// Allow functions that change the traced system
    #[arg(long = "unsafe")]
    pub unsafe_mode: bool,

    #[command(flatten)]
    pub includes: Includes,

    /// Show a stage and go on: parse, ast, types, codegen, codegen-opt, dis, libbpf, verifier, all
    #[arg(
        short = 'd',
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub debug: Vec<DebugStage>,

    /// Show the result of a stage and stop: tokens, ast, ir, plan, llvm, llvm-opt, asm, obj, btf
    /// (the object's types, for `bpftool btf dump file`)
    #[arg(long, value_name = "STAGE", hide_possible_values = true)]
    pub emit: Option<Stage>,

    /// Write the BPF object to a file as well
    #[arg(long, value_name = "FILE")]
    pub emit_elf: Option<PathBuf>,

    /// Write a stand-alone executable (`rtrace build` has more to choose from)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "warnings"])]
    pub aot: Option<PathBuf>,

    /// Write LLVM's form to NAME.original.ll and NAME.optimized.ll as well
    #[arg(long, value_name = "NAME")]
    pub emit_llvm: Option<PathBuf>,

    /// End as soon as everything is attached
    #[arg(long)]
    pub dry_run: bool,

    /// Show what this kernel and this rtrace can do
    #[arg(long)]
    pub info: bool,

    /// Print the script in canonical form; with -o, to a file
    #[arg(long, group = "modes")]
    pub fmt: bool,

    /// Run the script's `test` probes
    #[arg(long, group = "modes")]
    pub test: bool,

    /// Measure the script's `bench` probes
    #[arg(long, group = "modes")]
    pub bench: bool,

    /// The same: test, bench, format; or stop before loading: codegen, compiler-bench (measures it)
    #[arg(long, value_name = "MODE", group = "modes", hide_possible_values = true)]
    pub mode: Option<Mode>,

    /// Pretend that the kernel lacks these features
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub no_feature: Vec<String>,

    /// Keep only probes whose name matches
    #[arg(long, value_name = "REGEX")]
    pub probe_filter: Option<String>,

    /// A list of traceable functions, instead of the kernel's
    #[arg(long, value_name = "FILE")]
    pub traceable_functions: Option<PathBuf>,

    /// Compile for a recorded machine (for --emit and tests)
    #[arg(long, value_name = "DIR")]
    pub host: Option<PathBuf>,

    /// Show the version
    #[arg(short = 'V', long)]
    pub version: bool,

    /// Accepted for old scripts, without effect
    #[arg(short = 'b', long, hide = true)]
    pub btf: bool,

    /// Accepted for old scripts, without effect
    #[arg(long, hide = true)]
    pub usdt_file_activation: bool,

    /// Accepted for old scripts: what LLVM gets is always checked
    #[arg(long, hide = true)]
    pub verify_llvm_ir: bool,
}

/// `rtrace build FILE -o OBJECT`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace build",
    about = "Compile a script to a BPF object, or to a stand-alone executable",
    styles = Styles::plain()
)]
pub struct Build {
    /// Where the object goes (`NAME.o`), or an executable that needs neither rtrace nor LLVM
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: PathBuf,

    /// Make an executable, whatever its name
    #[arg(long)]
    pub executable: bool,

    #[command(flatten)]
    pub script: Script,

    /// For the running kernel only
    #[arg(long)]
    pub here: bool,

    /// The oldest kernel that the object is for
    #[arg(long, value_name = "RELEASE", default_value = "5.10", value_parser = release, conflicts_with = "here")]
    pub kernel: (u32, u32),

    /// Instruction set: v1 to v4; else what the oldest kernel has
    #[arg(long, value_name = "VERSION", hide_possible_values = true)]
    pub cpu: Option<CpuVersion>,

    /// Byte order: bpfel or bpfeb
    #[arg(long, value_name = "TARGET", default_value = "bpfel", hide_possible_values = true)]
    pub target: ByteOrder,

    /// Architecture: x86_64 or aarch64; else that of this machine
    #[arg(long, value_name = "ARCH", value_parser = arch, conflicts_with = "here")]
    pub arch: Option<&'static Arch>,

    /// A kernel's types in a file (its `/sys/kernel/btf/vmlinux`), instead of this machine's
    #[arg(long, value_name = "FILE", conflicts_with = "here")]
    pub btf: Option<PathBuf>,

    /// Allow functions that change the traced system
    #[arg(long = "unsafe")]
    pub unsafe_mode: bool,

    #[command(flatten)]
    pub messages: Messages,

    #[command(flatten)]
    pub includes: Includes,
}

/// `rtrace flame FILE -o GRAPH`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace flame",
    about = "Draw a flame graph of what `rtrace -f json` or `rtrace -f folded` wrote",
    styles = Styles::plain()
)]
pub struct Flame {
    /// Where the graph goes, an SVG (`-` for standard output)
    #[arg(short = 'o', long, value_name = "GRAPH", default_value = "-")]
    pub output: PathBuf,

    /// What stands above it
    #[arg(long, value_name = "TEXT", default_value = "Flame graph")]
    pub title: String,

    /// Of JSON, the stacks of this map only
    #[arg(long, value_name = "NAME")]
    pub map: Option<String>,

    /// The outermost functions on top
    #[arg(long)]
    pub icicle: bool,

    /// What to draw (`-` for standard input)
    pub file: PathBuf,
}

/// `rtrace completions SHELL`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace completions",
    about = "Write the script with which a shell completes rtrace's flags and names of probes",
    styles = Styles::plain()
)]
pub struct Completions {
    /// bash, zsh or fish
    #[arg(hide_possible_values = true)]
    pub shell: Shell,
}

/// `rtrace help [TOPIC]`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace help",
    about = "Tell about a builtin, a probe, a config key or a part of the language",
    styles = Styles::plain()
)]
pub struct Help {
    /// What to tell about; without it, what there is to tell about
    pub topic: Vec<String>,
}

/// `rtrace check FILE…`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace check",
    about = "Check scripts without running them; the exit status is 1 if one is wrong",
    styles = Styles::plain()
)]
pub struct Check {
    #[command(flatten)]
    pub messages: Messages,

    /// For a recorded machine
    #[arg(long, value_name = "DIR", conflicts_with = "btf")]
    pub host: Option<PathBuf>,

    /// Tell which capabilities each script needs here, and what for
    #[arg(long, conflicts_with_all = ["host", "btf"])]
    pub caps: bool,

    /// For the kernel whose types (BTF) are in this file
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// Allow functions that change the traced system
    #[arg(long = "unsafe")]
    pub unsafe_mode: bool,

    #[command(flatten)]
    pub includes: Includes,

    /// Script files (`-` for standard input)
    #[arg(value_name = "FILE")]
    pub files: Vec<String>,

    /// Parameters of the scripts
    #[arg(last = true, value_name = "PARAMS")]
    pub more: Vec<String>,
}

/// `rtrace fmt [FILE…]`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace fmt",
    about = "Format scripts: files in place, standard input to standard output",
    styles = Styles::plain()
)]
pub struct Fmt {
    #[command(flatten)]
    pub messages: Messages,

    /// Change nothing; name files that are not formatted, and exit with status 1
    #[arg(long)]
    pub check: bool,

    /// Script files (`-`, or none, for standard input)
    #[arg(value_name = "FILE")]
    pub files: Vec<String>,
}

/// `rtrace lsp`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace lsp",
    about = "Serve editors with the language server protocol, on standard input and output",
    styles = Styles::plain()
)]
pub struct Lsp {
    /// For a recorded machine
    #[arg(long, value_name = "DIR")]
    pub host: Option<PathBuf>,

    /// Accepted for editors that pass it; there is no other way
    #[arg(long)]
    pub stdio: bool,
}

/// `rtrace stats`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace stats",
    about = "Show what the programs of other rtrace processes cost, while they run",
    styles = Styles::plain()
)]
pub struct Stats {
    #[command(flatten)]
    pub messages: Messages,

    /// Programs of this process, whatever it is
    #[arg(short = 'p', long, value_name = "PID")]
    pub pid: Option<u32>,

    /// All BPF programs, those of other tools too
    #[arg(long)]
    pub all: bool,

    /// Seconds from one table to the next
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,

    /// End after so many tables
    #[arg(long, value_name = "NUMBER")]
    pub times: Option<u64>,
}

/// `rtrace explain WORD`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace explain",
    about = "Say what the reference says: of a builtin, a probe, a config variable, a warning",
    styles = Styles::plain()
)]
pub struct Explain {
    #[command(flatten)]
    pub messages: Messages,

    /// What to explain
    #[arg(value_name = "WORD", required = true)]
    pub words: Vec<String>,
}

/// `rtrace run OBJECT`.
#[derive(Debug, Parser)]
#[command(name = "rtrace run", about = "Run a compiled script", styles = Styles::plain())]
pub struct Run {
    #[command(flatten)]
    pub how: Running,

    /// The compiled script
    pub object: PathBuf,

    /// Parameters of the script, `--name=value`
    #[arg(last = true, value_name = "PARAMS")]
    pub more: Vec<String>,
}

/// `rtrace attach NAME`, `rtrace maps NAME`, `rtrace detach NAME`.
#[derive(Debug, Parser)]
#[command(
    name = "rtrace attach | maps | detach",
    about = "Show what a pinned run says, print its maps, or take it off and end it",
    styles = Styles::plain()
)]
pub struct Pinned {
    #[command(flatten)]
    pub style: Style,

    #[command(flatten)]
    pub messages: Messages,

    /// What `--pin` called it
    pub name: String,
}

/// A stand-alone executable that was made of a script.
#[derive(Debug, Parser)]
#[command(styles = Styles::plain(), max_term_width = 100)]
pub struct Tool {
    #[command(flatten)]
    pub how: Running,

    /// Show the version of rtrace that made it
    #[arg(short = 'V', long)]
    pub version: bool,
}

/// How to run a stored object.
#[derive(Debug, Args)]
pub struct Running {
    /// Leave everything attached under this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ALIVE)]
    pub pin: Option<String>,

    /// Trace this process
    #[arg(short = 'p', long, value_name = "PID")]
    pub pid: Option<String>,

    /// Run this command and trace it
    #[arg(short = 'c', long = "cmd", value_name = "COMMAND")]
    pub command: Option<String>,

    #[command(flatten)]
    pub style: Style,

    /// Do not say how many probes are attached
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// Say more
    #[arg(short = 'v', long)]
    pub verbose: bool,

    #[command(flatten)]
    pub messages: Messages,

    /// Exit with status 3 if anything got lost
    #[arg(long)]
    pub strict: bool,

    /// End as soon as everything is attached
    #[arg(long)]
    pub dry_run: bool,

    /// Tell at the end how often programs ran, and what they cost
    #[arg(long)]
    pub stats: bool,

    /// Detach, and say so, if the programs cost more than this share of a CPU
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub max_overhead: Option<f64>,

    /// Show what the kernel says of the programs, and go on: libbpf, verifier, all
    #[arg(
        short = 'd',
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub debug: Vec<LoadStage>,
}

/// A script and its parameters.
#[derive(Debug, Clone, Args)]
pub struct Script {
    /// Program text
    #[arg(short = 'e', value_name = "PROGRAM", display_order = 0)]
    pub program: Option<String>,

    /// Script file (`-` for standard input), then its parameters
    #[arg(value_name = "FILE | PARAMS")]
    pub args: Vec<String>,

    /// More parameters; `--name=value` gives a named one
    #[arg(last = true, value_name = "PARAMS")]
    pub more: Vec<String>,
}

/// What a script takes from elsewhere.
#[derive(Debug, Clone, Args)]
pub struct Includes {
    /// Where to look for included and imported files (may be repeated)
    #[arg(short = 'I', value_name = "DIR")]
    pub folders: Vec<PathBuf>,

    /// Include a header before everything else (may be repeated)
    #[arg(long = "include", value_name = "FILE")]
    pub headers: Vec<String>,
}

/// How the output looks and where it goes.
#[derive(Debug, Clone, Args)]
pub struct Style {
    /// Write the output to a file
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Format of the output: text, json (an object for each line and map), folded (stacks for
    /// flame graphs), pprof (stacks), perfetto (events and counters)
    #[arg(
        short = 'f',
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub format: OutputFormat,

    /// When the output is flushed: line (at ends of lines), full (when a buffer is), none (always)
    #[arg(short = 'B', value_name = "MODE", default_value = "line", hide_possible_values = true)]
    pub buffering: Buffering,

    /// Let bytes of traced programs reach a terminal as they are
    #[arg(long)]
    pub raw: bool,

    /// Where separate debug files of programs are looked for first (may be repeated)
    #[arg(long, value_name = "DIR[:DIR…]", value_delimiter = ':')]
    pub debuginfo: Vec<String>,
}

/// Which messages are shown, and how.
#[derive(Debug, Clone, Args)]
pub struct Messages {
    /// Suppress all warnings
    #[arg(long)]
    pub no_warnings: bool,

    /// Show a warning, hide it (no-NAME), or end with it (error, error=NAME); may be repeated
    #[arg(short = 'W', value_name = "NAME", value_delimiter = ',')]
    pub warning_words: Vec<String>,

    /// How errors and warnings are written: text, json (an object per line)
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub message_format: MessageFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
    Folded,
    Pprof,
    Perfetto,
}

impl OutputFormat {
    /// Not for people to read.
    pub fn is_binary(self) -> bool {
        matches!(self, OutputFormat::Pprof | OutputFormat::Perfetto)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Buffering {
    Line,
    Full,
    None,
}

/// What `--mode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Test,
    Bench,
    Format,
    Codegen,
    CompilerBench,
}

/// What `-d` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DebugStage {
    Parse,
    Ast,
    Types,
    Codegen,
    CodegenOpt,
    Dis,
    Libbpf,
    Verifier,
    All,
}

/// What `-d` shows of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadStage {
    Libbpf,
    Verifier,
    All,
}

/// What `--emit` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    Tokens,
    Ast,
    Ir,
    Plan,
    Llvm,
    LlvmOpt,
    Asm,
    Obj,
    Btf,
}

const EXAMPLES: &str = "\
Examples:
  rtrace -e 'tracepoint:syscalls:sys_enter_read { @[comm] = count(); }'
      count reads by program
  rtrace -e 'kprobe:vfs_read < @bytes = hist(arg2); >'
      a histogram of read sizes
  rtrace -l 'tracepoint:syscalls:*'
      list probes
  rtrace scripts/opensnoop.bt
      show files as they are opened";

/// `1`, `0.5`
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    number
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "write a number of seconds, such as `0.5`".to_owned())
}

/// `1`, `1%`, `0.5%`
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim();
    match number.parse::<f64>() {
        Ok(share) if share.is_finite() && share > 0.0 => Ok(share),
        _ => Err("write a share of a CPU, such as `1%`".to_owned()),
    }
}

/// Versions of the instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CpuVersion {
    V1,
    V2,
    V3,
    V4,
}

/// Which bytes of a number come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ByteOrder {
    Bpfel,
    Bpfeb,
}

/// `x86_64`
fn arch(text: &str) -> Result<&'static Arch, String> {
    Arch::find(text).ok_or_else(|| {
        let names: Vec<&str> = ARCHES.iter().map(|a| a.name).collect();
        format!("rtrace knows {}", names.join(" and "))
    })
}

/// `5.10`
fn release(text: &str) -> Result<(u32, u32), String> {
    let release = crate::host::features::release(text);
    release.ok_or_else(|| "write a release of Linux, such as `6.1`".to_owned())
}

/// What the arguments ask for.
#[derive(Debug)]
pub enum Invocation {
    Script(Box<Cli>),
    Build(Build),
    Run(Run),
    Flame(Flame),
    Completions(Completions),
    Help(Help),
    Man,
    Check(Check),
    Fmt(Fmt),
    Explain(Explain),
    Lsp(Lsp),
    Stats(Stats),
    Attach(Pinned),
    Maps(Pinned),
    Detach(Pinned),
    Pins,
}

impl Invocation {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// What to print, and whether it goes to standard output (help) with
    /// status 0 or to standard error with status 1.
    pub fn parse(args: &[String]) -> Result<Invocation, clap::Error> {
        let rest = || args.iter().take(1).chain(args.iter().skip(2));
        match args.get(1).map(String::as_str) {
            Some("build") => Build::try_parse_from(rest()).map(Invocation::Build),
            Some("completions") => Completions::try_parse_from(rest()).map(Invocation::Completions),
            Some("help") => Help::try_parse_from(rest()).map(Invocation::Help),
            Some("man") if args.len() == 2 => Ok(Invocation::Man),
            Some("flame") => Flame::try_parse_from(rest()).map(Invocation::Flame),
            Some("run") => Run::try_parse_from(rest()).map(Invocation::Run),
            Some("check") => Check::try_parse_from(rest()).map(Invocation::Check),
            Some("fmt") => Fmt::try_parse_from(rest()).map(Invocation::Fmt),
            Some("lsp") => Lsp::try_parse_from(rest()).map(Invocation::Lsp),
            Some("attach") => Pinned::try_parse_from(rest()).map(Invocation::Attach),
            Some("maps") => Pinned::try_parse_from(rest()).map(Invocation::Maps),
            Some("detach") => Pinned::try_parse_from(rest()).map(Invocation::Detach),
            Some("ps") if args.len() == 2 => Ok(Invocation::Pins),
            Some("stats") => Stats::try_parse_from(rest()).map(Invocation::Stats),
            Some("explain") => Explain::try_parse_from(rest()).map(Invocation::Explain),
            _ => Cli::try_parse_from(args).map(|c| Invocation::Script(Box::new(c))),
        }
    }
}
