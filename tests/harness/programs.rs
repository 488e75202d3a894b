//! Random well-typed scripts: whatever passes rtrace's checks must load on every kernel.
//!
//! Every script is made from a seed, and from what the kernel can do. It has several probes of
//! different types, which share variables' and maps' types as they are declared in [`MAPS`] and
//! [`Body::declarations`].

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::feed::feed;
use super::live::{Machine, clean_environment};
use super::random::{Random, seeds};
use super::rtrace;

/// What a script may use here.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    kprobe: bool,
    fentry: bool,
    uprobe: bool,
    /// Iterating over maps, and counting their keys.
    for_each: bool,
    /// Loops of many rounds.
    callbacks: bool,
    /// Reading aggregations in programs.
    per_cpu: bool,
}

impl Kernel {
    fn of(machine: &Machine) -> Result<Kernel, String> {
        Ok(Kernel {
            kprobe: machine.has("kprobe")?,
            fentry: machine.has("fentry")?,
            uprobe: machine.has("uprobe")?,
            for_each: machine.has("for_each_map_elem")?,
            callbacks: machine.has("loop")?,
            per_cpu: machine.has("lookup_percpu_elem")?,
        })
    }
}

/// How many scripts, from which seed on: `RTRACE_PROGRAMS` and `RTRACE_SEED`.
pub(crate) fn wanted(default: u64) -> Result<Range<u64>, String> {
    seeds("RTRACE_PROGRAMS", default)
}

/// Refused scripts that are shown; `RTRACE_KEEP` names a folder for all of them.
const SHOWN: usize = 3;

/// Loads and attaches the scripts of these seeds.
///
/// # Errors
/// Those that were refused, with what was said.
pub(crate) fn load_all(seeds: Range<u64>, machine: &Machine) -> Result<(), String> {
    let kernel = Kernel::of(machine)?;
    judge(seeds, |seed| {
        let text = script(seed, kernel);
        let outcome = finish(Command::new(rtrace()).args(["--dry-run", "-q", "-"]), &text);
        (text, outcome)
    })
}

/// Compiles the scripts of these seeds for a recorded machine: `SEED.bt` becomes `SEED.o` in a
/// folder.
///
/// # Errors
/// Those that were refused, with what was said.
pub(crate) fn compile_all(seeds: Range<u64>, host: &Path, into: &Path) -> Result<(), String> {
    let kernel = Kernel::of(&Machine::at(host))?;
    judge(seeds, |seed| {
        let text = script(seed, kernel);
        let file = |extension: &str| into.join(format!("{seed}.{extension}"));
        let mut command = Command::new(rtrace());
        command.arg("--host").arg(host).args(["--emit", "obj", "-o"]).arg(file("o")).arg("-");
        let written = std::fs::write(file("bt"), &text).map_err(|why| why.to_string());
        let outcome = written.and_then(|()| finish(&mut command, &text));
        (text, outcome)
    })
}

/// Loads and attaches what [`compile_all`] has made of these seeds.
///
/// # Errors
/// Those that were refused, with what was said.
pub(crate) fn load_compiled(seeds: Range<u64>, from: &Path) -> Result<(), String> {
    judge(seeds, |seed| {
        let file = |extension: &str| from.join(format!("{seed}.{extension}"));
        let text = std::fs::read_to_string(file("bt")).unwrap_or_default();
        let mut command = Command::new(rtrace());
        command.args(["run", "--dry-run", "-q"]).arg(file("o"));
        let outcome = finish(&mut command, "");
        (text, outcome)
    })
}

/// Threads that go through scripts: a kernel mostly waits while it attaches and detaches.
const AT_ONCE: usize = 4;

/// Sums up what becomes of the scripts of seeds: each is its text, and how it ended.
fn judge<F>(seeds: Range<u64>, script: F) -> Result<(), String>
where
    F: Fn(u64) -> (String, Result<(), String>) + Sync,
{
    let count = seeds.clone().count();
    let failed = |seed| match script(seed) {
        (text, Err(why)) => Some((seed, text, why)),
        (_, Ok(())) => None,
    };
    let left = Mutex::new(seeds);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).filter_map(failed).collect::<Vec<_>>();
    let mut failures: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("a thread of scripts panicked")).collect()
    });
    failures.sort_by_key(|f| f.0);
    let mut refused = Vec::new();
    for (seed, text, why) in failures {
        match std::env::var_os("RTRACE_KEEP") {
            Some(dir) => {
                std::fs::write(Path::new(&dir).join(format!("{seed}.bt")), text).ok();
                refused.push(format!("seed {seed}: {why}"));
            }
            None => refused.push(format!("seed {seed}: {why}\n{text}")),
        }
    }
    let shown: Vec<&str> = refused.iter().take(SHOWN).map(String::as_str).collect();
    match refused.len() {
        0 => Ok(()),
        n => Err(format!("{n} of {count} scripts are refused:\n{}", shown.join("\n"))),
    }
}

/// Runs rtrace with a script on its standard input.
fn finish(command: &mut Command, script: &str) -> Result<(), String> {
    clean_environment(command);
    let output = feed(command, script).map_err(|why| why.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).chars().take(1200).collect()),
    }
}

/// Maps of every kind, as first used in the script: this settles their types.
const MAPS: &str = "begin {
  @never = (int64)0;
  @word = (int64)0;
  @words[(int64)0] = (int64)0;
  @texts[(int64)0] = \"text\";
  @by_text[\"text\"] = (int64)0;
  @pairs[(int64)0, \"text\"] = ((int64)0, \"text\");
}
";

/// Functions that take numbers, memory and both, and use maps.
const FUNCTIONS: &str = "fn mix($a : int64, $b : uint64) : int64 {
  if ($a > (int64)$b) { return $a - (int64)$b; }
  return $a;
}
fn choose($s : string[32], $n : int64) : string[32] {
  if ($n == 3) { return \"three\"; }
  return $s;
}
fn remember($n : int64) : int64 {
  @words[$n] = $n + 1;
  return @words[$n];
}
fn both($n : int64, $s : string[32]) : typeof(((int64)1, (string[32])\"\")) {
  return ($n, choose($s, $n));
}
";

/// An aggregation by an integer key, and how it is fed.
const AGGREGATIONS: [(&str, &str); 8] = [
    ("@count", "count()"),
    ("@sum", "sum({})"),
    ("@avg", "avg({})"),
    ("@min", "min({})"),
    ("@max", "max({})"),
    ("@stats", "stats({})"),
    ("@hist", "hist({})"),
    ("@lhist", "lhist({}, 0, 1000, 50)"),
];

/// An attach point, and what only its programs have.
struct Place {
    point: &'static str,
    numbers: &'static [&'static str],
    texts: &'static [&'static str],
    /// Code was interrupted, so there are stacks.
    stacks: bool,
}

const PLACES: &[Place] = &[
    Place {
        point: "tracepoint:syscalls:sys_enter_openat",
        numbers: &["args.dfd", "args.flags", "args.mode"],
        texts: &["str(args.filename)", "str(args.filename, 20)"],
        stacks: true,
    },
    Place {
        point: "tracepoint:syscalls:sys_exit_read",
        numbers: &["args.ret"],
        texts: &[],
        stacks: true,
    },
    Place {
        point: "tracepoint:sched:sched_switch",
        numbers: &["args.prev_pid", "args.next_prio", "args.prev_state"],
        texts: &["args.next_comm", "args.prev_comm"],
        stacks: true,
    },
    Place {
        point: "rawtracepoint:sched_switch",
        numbers: &["arg0", "(int64)arg1"],
        texts: &[],
        stacks: true,
    },
    Place { point: "interval:s:100", numbers: &[], texts: &[], stacks: false },
    Place { point: "profile:hz:1", numbers: &[], texts: &[], stacks: true },
    Place { point: "software:cpu-clock:1000000000", numbers: &[], texts: &[], stacks: true },
    Place {
        point: "kprobe:vfs_read",
        numbers: &["arg0", "args.count", "args.file.f_flags", "args.pos"],
        texts: &[],
        stacks: true,
    },
    Place { point: "kretprobe:vfs_read", numbers: &["retval"], texts: &[], stacks: true },
    Place {
        point: "fentry:vfs_open",
        numbers: &["args.file.f_flags", "args.path.dentry.d_inode.i_ino"],
        texts: &["str(args.path.dentry.d_name.name)"],
        stacks: true,
    },
    Place {
        point: "fexit:vfs_read",
        numbers: &["args.count", "(int64)args.pos", "retval"],
        texts: &[],
        stacks: true,
    },
    Place {
        point: "uprobe:libc:getenv",
        numbers: &["arg0", "arg1"],
        texts: &["str(arg0)"],
        stacks: true,
    },
    Place { point: "uretprobe:libc:getenv", numbers: &["retval"], texts: &[], stacks: true },
];

/// The script of a seed.
fn script(seed: u64, kernel: Kernel) -> String {
    let mut random = Random::of(seed);
    let mut script = format!("{FUNCTIONS}{MAPS}");
    let here = |place: &&Place| match place.point.split(':').next() {
        Some("kprobe" | "kretprobe") => kernel.kprobe,
        Some("fentry" | "fexit") => kernel.fentry,
        Some("uprobe" | "uretprobe") => kernel.uprobe,
        _ => true,
    };
    let places: Vec<&Place> = PLACES.iter().filter(here).collect();
    for _ in 0..1 + random.below(4) {
        let Some(place) = places.get(random.below(places.len())) else { continue };
        let mut body = Body { random: &mut random, kernel, place, text: String::new(), loops: 0 };
        body.probe();
        script.push_str(&body.text);
    }
    script
}

struct Body<'a> {
    random: &'a mut Random,
    kernel: Kernel,
    place: &'a Place,
    text: String,
    /// Loops around the statement at hand.
    loops: u32,
}

impl Body<'_> {
    fn probe(&mut self) {
        let predicate = match self.random.below(3) {
            0 => format!(" /{}/", self.before_variables()),
            _ => String::new(),
        };
        let point = self.place.point;
        writeln!(self.text, "{point}{predicate} {{").ok();
        self.declarations();
        // It is about loading: the loops of a probe that fires all the time would keep a slow
        // machine from everything else.
        self.line(1, "if (@never == 0) { return; }");
        let statements = 1 + self.random.below(10);
        for _ in 0..statements {
            self.statement(3, 1);
        }
        self.text.push_str("}\n");
    }

    /// A predicate; it comes before any variable.
    fn before_variables(&mut self) -> String {
        loop {
            let condition = self.condition(2);
            if !condition.contains('$') {
                return condition;
            }
        }
    }

    /// Variables that every block has, with types that stay.
    fn declarations(&mut self) {
        self.text.push_str(
            "  let $i : int64 = 1;\n  let $u : uint64 = 2;\n  let $s : string[32] = \"s\";\n  \
             $w = (int32)3;\n  $p = ((int64)1, \"pair\");\n",
        );
    }

    fn line(&mut self, indent: usize, text: &str) {
        writeln!(self.text, "{}{text}", "  ".repeat(indent)).ok();
    }

    fn block(&mut self, depth: u32, indent: usize) {
        for _ in 0..1 + self.random.below(3) {
            self.statement(depth, indent + 1);
        }
    }

    fn statement(&mut self, depth: u32, indent: usize) {
        let choice = match depth {
            0 => self.random.below(12),
            _ => self.random.below(18),
        };
        match choice {
            0 => {
                let value = self.number(3);
                self.line(indent, &format!("$i = (int64)({value});"));
            }
            1 => {
                let value = self.number(3);
                self.line(indent, &format!("$u = (uint64)({value});"));
            }
            2 => {
                let value = self.number(2);
                self.line(indent, &format!("$w = (int32)({value});"));
            }
            3 => {
                let value = self.short_text();
                self.line(indent, &format!("$s = {value};"));
            }
            4 => {
                let (key, value) = (self.number(2), self.number(2));
                self.line(indent, &format!("@words[(int64)({key})] = (int64)({value});"));
            }
            5 => {
                let (key, value) = (self.text(), self.number(2));
                self.line(indent, &format!("@by_text[{key}] = (int64)({value});"));
            }
            6 => {
                let (key, text) = (self.number(2), self.text());
                let (value, other) = (self.number(1), self.text());
                let line = format!("@pairs[(int64)({key}), {text}] = ((int64)({value}), {other});");
                self.line(indent, &line);
            }
            7 | 8 => self.aggregate(indent),
            9 => {
                let op =
                    self.random.pick(&["@word++;", "@word--;", "$i++;", "--$w;", "@word += $i;"]);
                self.line(indent, op);
            }
            10 => self.show(indent),
            11 => {
                let key = self.number(1);
                let line = self.random.pick(&[
                    "delete(@words, (int64)(KEY));",
                    "if (has_key(@words, (int64)(KEY))) { @word = 1; }",
                    "@texts[(int64)(KEY)] = $s;",
                    "$p = ((int64)(KEY), $s);",
                    "@words[(int64)(KEY)]++;",
                ]);
                self.line(indent, &line.replace("KEY", &key));
            }
            12 | 13 => {
                let condition = self.condition(3);
                self.line(indent, &format!("if ({condition}) {{"));
                self.block(depth - 1, indent);
                if self.random.chance(50) {
                    self.line(indent, "} else {");
                    self.block(depth - 1, indent);
                }
                self.line(indent, "}");
            }
            14 => {
                let rounds = 1 + self.random.below(3);
                self.line(indent, &format!("unroll({rounds}) {{"));
                self.block(depth - 1, indent);
                self.line(indent, "}");
            }
            15 if self.loops < 2 => {
                let n = self.loops;
                let top = match self.kernel.callbacks {
                    true => self.number(1),
                    false => "3".into(),
                };
                self.line(indent, &format!("for ($r{n} : 0..((int64)({top}) & 7)) {{"));
                self.inside_loop(depth, indent);
                self.line(indent, "}");
            }
            16 if self.loops < 2 => {
                let n = self.loops;
                self.line(indent, &format!("$n{n} = 0;"));
                let rounds = 1 + self.random.below(6);
                self.line(indent, &format!("while ($n{n} < {rounds}) {{"));
                self.line(indent + 1, &format!("$n{n}++;"));
                self.inside_loop(depth, indent);
                self.line(indent, "}");
            }
            17 if self.loops < 1 && self.kernel.for_each => {
                let map = self.random.pick(&["@words", "@by_text", "@pairs"]);
                self.line(indent, &format!("for ($kv : {map}) {{"));
                self.line(indent + 1, "print($kv.0);");
                self.inside_loop(depth, indent);
                self.line(indent, "}");
            }
            _ => self.aggregate(indent),
        }
    }

    fn inside_loop(&mut self, depth: u32, indent: usize) {
        self.loops += 1;
        self.block(depth - 1, indent);
        if self.random.chance(25) {
            let condition = self.condition(1);
            let leave = self.random.pick(&["break", "continue"]);
            self.line(indent + 1, &format!("if ({condition}) {{ {leave}; }}"));
        }
        self.loops -= 1;
    }

    fn aggregate(&mut self, indent: usize) {
        let at = self.random.below(AGGREGATIONS.len());
        let Some((map, call)) = AGGREGATIONS.get(at) else { return };
        let value = self.number(2);
        let call = call.replace("{}", &format!("(int64)({value})"));
        let key = self.number(1);
        let (map, key) = match self.random.below(3) {
            0 => (format!("{map}_all"), String::new()),
            1 => (format!("{map}_by_text"), format!("[{}]", self.text())),
            _ => ((*map).to_owned(), format!("[(int64)({key})]")),
        };
        // Stacks are taken outside of loops only.
        if self.place.stacks && self.loops == 0 && self.random.chance(20) {
            let line = self.random.pick(&[
                "@by_kstack[kstack, comm] = count();",
                "@by_ustack[ustack] = count();",
                "@by_both[kstack(5), ustack(9)] = count();",
                "print(ustack(perf, 9));",
            ]);
            self.line(indent, line);
        }
        self.line(indent, &format!("{map}{key} = {call};"));
    }

    fn show(&mut self, indent: usize) {
        let (a, b, t) = (self.number(2), self.number(1), self.text());
        let line = match self.random.below(7) {
            0 => format!("printf(\"%d %s\\n\", {a}, {t});"),
            5 => format!("$p = both((int64)({a}), $s);"),
            1 => format!("printf(\"%x %c %10s|%-5d\\n\", {a}, (int64)({b}), {t}, {b});"),
            2 => format!("print(({a}, {t}));"),
            3 => format!("print({t});"),
            4 => "print($p);".into(),
            _ => format!("print((1, ({b}, $s), $p.1));"),
        };
        self.line(indent, &line);
    }

    /// An integer.
    fn number(&mut self, depth: u32) -> String {
        if depth == 0 || self.random.chance(25) {
            return self.simple_number();
        }
        let a = self.number(depth - 1);
        let b = self.number(depth - 1);
        match self.random.below(11) {
            0 => format!("(int64)({a}) - (int64)({b})"),
            8 => format!("mix((int64)({a}), (uint64)({b}))"),
            9 => format!("remember((int64)({a}))"),
            // A divisor that is known to be zero is an error.
            1 => format!("({a}) / (({b}) ^ cpu)"),
            2 => format!("({a}) % (({b}) ^ cpu)"),
            3 => format!("({a}) << (({b}) & 31)"),
            4 => format!("({a}) >> (({b}) & 31)"),
            5 => {
                let condition = self.condition(depth - 1);
                format!("({condition}) ? (int64)({a}) : (int64)({b})")
            }
            6 => format!("(uint64)(({a}) & ({b}))"),
            7 => format!("(int64)({a}) * (int16)({b})"),
            _ => format!("({a}) + ({b})"),
        }
    }

    fn simple_number(&mut self) -> String {
        let general = [
            "pid",
            "tid",
            "uid",
            "cpu",
            "nsecs",
            "rand",
            "elapsed",
            "$i",
            "$u",
            "$w",
            "$p.0",
            "@word",
            "sizeof($p)",
            "(uint8)$u",
            "curtask.pid",
            "curtask.real_parent.tgid",
        ];
        match self.random.below(10) {
            0 => ["1", "2", "7", "255", "65536", "1000000007"]
                .get(self.random.below(6))
                .copied()
                .unwrap_or("1")
                .to_owned(),
            1 => "@words[1]".into(),
            2 => format!("@by_text[{}]", self.text()),
            3 | 4 if !self.place.numbers.is_empty() => {
                format!("(int64)({})", self.random.pick(self.place.numbers))
            }
            5 if self.kernel.per_cpu => "(int64)@count_all".into(),
            6 if self.kernel.for_each => "len(@words)".into(),
            _ => self.random.pick(&general).to_owned(),
        }
    }

    fn condition(&mut self, depth: u32) -> String {
        let (a, b) = (self.number(depth.min(2)), self.number(depth.saturating_sub(1)));
        match self.random.below(7) {
            0 => format!("{} == {}", self.text(), self.text()),
            1 => format!("strncmp({}, \"rtr\", 3) != 0", self.text()),
            2 if depth > 0 => {
                format!("({}) && ({})", self.condition(depth - 1), self.condition(depth - 1))
            }
            3 if depth > 0 => format!("!({})", self.condition(depth - 1)),
            4 => format!("(int64)({a}) > (int64)({b})"),
            5 => format!("(int64)({a}) != 3"),
            _ => format!("(uint64)({a}) <= 100"),
        }
    }

    /// A string of any length.
    fn text(&mut self) -> String {
        if !self.place.texts.is_empty() && self.random.chance(30) {
            return self.random.pick(self.place.texts).to_owned();
        }
        self.short_text()
    }

    /// A string that fits 32 bytes.
    fn short_text(&mut self) -> String {
        let general = ["comm", "$s", "\"text\"", "\"\"", "str($u, 16)"];
        match self.random.below(8) {
            0 => {
                let condition = self.condition(0);
                format!("(({condition}) ? comm : \"none\")")
            }
            1 => format!("choose({}, {})", self.short_text(), self.simple_number()),
            _ => self.random.pick(&general).to_owned(),
        }
    }
}
