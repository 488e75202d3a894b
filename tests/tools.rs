//! Commands for those who write scripts: `fmt` changes neither what a script means nor what it
//! says to its readers; `check` says what loading would say; `explain` finds words; `-v`, `--stats`
//! and `--max-overhead` know what programs cost. Needs root.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod harness;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{files, root};
use rtrace::builtins::is_value;
use rtrace::lexer::lex;
use rtrace::parser::{parse, print};
use rtrace::source::{Source, Sources};

/// Every script that parses: goldens, runtime cases, and those that we ship.
fn scripts() -> Vec<(PathBuf, String)> {
    let folders = ["scripts", "tests/golden", "tests/runtime", "tests/parts"];
    let all = folders.iter().flat_map(|folder| files(&root().join(folder)));
    let scripts = all.filter(|path| path.extension().is_some_and(|e| e == "bt"));
    let read = |path: PathBuf| Some((path.clone(), std::fs::read_to_string(path).ok()?));
    scripts.filter_map(read).filter(|(_, text)| tree(text).is_some()).collect()
}

/// The tree of a text, printed with every grouping; `None` if it does not parse.
fn tree(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "stdin".into(), text: text.into() });
    let (tree, diags) = parse(&sources, file, &is_value);
    (!diags.has_errors()).then(|| print::print_grouped(&tree))
}

fn format(text: &str) -> String {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "stdin".into(), text: text.into() });
    let (tree, _) = parse(&sources, file, &is_value);
    print::format(&tree, text, &lex(text, file, &is_value))
}

/// The comments of a text, blanks apart, in order of their words.
fn comments(text: &str) -> Vec<String> {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "stdin".into(), text: text.into() });
    let tokens = lex(text, file, &is_value);
    let mut rest = String::new();
    let mut at = 0;
    for token in &tokens {
        let (start, end) = (token.span.start as usize, token.span.end as usize);
        rest += text.get(at..start).unwrap_or_default();
        rest += "\n";
        at = at.max(end);
    }
    rest += &text[at..];
    let mut words: Vec<String> = rest
        .split_whitespace()
        .map(|word| word.trim_matches(';').to_owned())
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .collect();
    words.sort();
    words
}

#[test]
fn formatting_keeps_the_tree_and_the_comments_and_is_done_once() {
    let all = scripts();
    assert!(all.len() > 500, "{}", all.len());
    let mut faults = Vec::new();
    for (path, text) in all {
        let once = format(&text);
        let name = path.strip_prefix(root()).unwrap().display();
        if tree(&once) != tree(&text) {
            faults.push(format!("{name}: another tree:\n{once}"));
        } else if format(&once) != once {
            let again = harness::difference(&once, &format(&once));
            faults.push(format!("{name}: not the same again:\n{again}"));
        } else if comments(&once) != comments(&text) {
            faults.push(format!("{name}: other comments:\n{once}"));
        } else if once.lines().any(|line| line.ends_with(' ')) {
            faults.push(format!("{name}: blanks at the end of a line:\n{once}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_script_is_formatted_like_this() {
    let text = "#!/usr/bin/env rtrace\n// What it is.\n\nbegin{ @a[1]=0x10;// sixteen\n\n\n\
                /* two */ if(pid>1){printf( \"%d\\x41\\n\" ,1e3 )}   }\n\
                kprobe:vfs_read,kprobe:vfs_write /pid==1&&tid>2/ { @=count() }\n// The end.\n";
    let wanted = "#!/usr/bin/env rtrace\n// What it is.\n\nbegin {\n  @a[1] = 0x10;  // sixteen\n\n  \
                  /* two */\n  if (pid > 1) { printf(\"%d\\x41\\n\", 1e3) }\n}\n\n\
                  kprobe:vfs_read,\nkprobe:vfs_write /pid == 1 && tid > 2/ { @ = count(); }\n\n\
                  // The end.\n";
    assert_eq!(format(text), wanted);
}

fn rtrace(args: &[&str], input: &str) -> (String, String, Option<i32>) {
    let mut command = Command::new(harness::rtrace());
    harness::live::clean_environment(&mut command);
    command.args(args).current_dir(root());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(done.stdout), text(done.stderr), done.status.code())
}

#[test]
fn files_are_formatted_in_place() {
    let folder = std::env::temp_dir().join(format!("rtrace-fmt-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a.bt");
    let name = path.to_str().unwrap();
    std::fs::write(&path, "begin{ exit() }").unwrap();
    assert_eq!(
        rtrace(&["fmt", "--check", name], ""),
        (format!("{name}\n"), String::new(), Some(1))
    );
    assert_eq!(rtrace(&["fmt", name], ""), (String::new(), String::new(), Some(0)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "begin { exit() }\n");
    assert_eq!(rtrace(&["fmt", "--check", name], "").2, Some(0));
    assert_eq!(rtrace(&["--fmt", name], "").0, "begin { exit() }\n");
    std::fs::write(&path, "begin {").unwrap();
    let (_, said, status) = rtrace(&["fmt", name], "");
    assert!(said.contains("not closed") && status == Some(1), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "begin {");
    assert_eq!(rtrace(&["fmt"], "begin{}").0, "begin { }\n");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn our_own_scripts_are_formatted() {
    for path in files(&root().join("scripts")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let difference = harness::difference(&text, &format(&text));
        if !difference.is_empty() && std::env::var_os("RTRACE_BLESS").is_some() {
            std::fs::write(&path, format(&text)).unwrap();
            continue;
        }
        assert!(difference.is_empty(), "{}:\n{difference}", path.display());
    }
}

#[test]
fn check_needs_neither_the_machine_nor_privileges() {
    let recorded = root().join("tests/host/debian");
    let host = format!("--host={}", recorded.display());
    let good = "tracepoint:syscalls:sys_enter_openat { print(args.filename); }";
    assert_eq!(rtrace(&["check", &host, "-"], good), (String::new(), String::new(), Some(0)));
    let (_, said, status) = rtrace(&["check", &host, "-"], &good.replace("filename", "filenam"));
    assert!(said.contains("did you mean `filename`?") && status == Some(1), "{said}");
    let types = format!("--btf={}", recorded.join("sys/kernel/btf/vmlinux").display());
    let script = "fentry:vfs_read { print(args.file.f_flags); }";
    let (_, said, _) = rtrace(&["check", &types, "-"], &script.replace("f_flags", "f_falgs"));
    assert!(said.contains("did you mean `f_flags`?") || said.contains("fentry"), "{said}");
    // Types name tracepoints, and tell the fields of some; what system calls take is known.
    for (script, wanted) in [
        (good, None),
        ("tracepoint:syscalls:sys_exit_openat { print(args.ret); }", None),
        ("tracepoint:sched:sched_switch { @ = count(); }", None),
        ("tracepoint:syscalls:sys_enter_openat { print(args.filenam); }", Some("`filename`?")),
        ("tracepoint:syscalls:sys_enter_opennat { }", Some("`sys_enter_openat`?")),
        ("tracepoint:sched:sched_swich { }", Some("`sched_switch`?")),
        ("tracepoint:sched:* { }", Some("only the kernel's types are given")),
    ] {
        let (_, said, status) = rtrace(&["check", &types, "-"], script);
        assert_eq!(status, Some(wanted.is_some().into()), "{said}");
        assert!(said.contains(wanted.unwrap_or_default()), "{said}");
    }
    let (_, said, status) = rtrace(&["check", "--btf=/etc/passwd", "-"], script);
    assert!(said.contains("cannot read types") && status == Some(1), "{said}");
    let (_, said, status) = rtrace(&["check", &host, "-W", "error", "-"], "begin { 1 + pid; }");
    assert!(said.contains("error[unused-value]") && status == Some(1), "{said}");
    let (_, said, status) = rtrace(&["check", &host, "no-such.bt", "scripts/syscount.bt"], "");
    assert!(said.contains("no-such.bt") && status == Some(1), "{said}");
}

/// Cases whose dry run would do more than load.
const NOT_RUN: &[&str] = &["system", "pinned", "iter:", "interval:s:0", "exit(", "test:", "bench:"];

/// What passes the check loads; what does not pass it is not loaded.
#[test]
fn check_agrees_with_loading() {
    let mut both = 0;
    let goldens = files(&root().join("tests/golden"));
    for path in goldens.into_iter().filter(|path| path.extension().is_some_and(|e| e == "bt")) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.contains("// ") && text.contains("flags:") || text.contains("args:") {
            continue;
        }
        if NOT_RUN.iter().any(|word| text.contains(word)) || text.contains("uprobe:/usr/bin") {
            continue;
        }
        let folder = path.parent().unwrap();
        let run = |args: &[&str]| {
            let mut command = Command::new(harness::rtrace());
            harness::live::clean_environment(&mut command);
            let output = command.args(args).arg(&path).current_dir(folder).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (checked, why) = run(&["check"]);
        let (loaded, said) = run(&["--dry-run", "-q"]);
        let name = shown(&path);
        match checked {
            Some(0) => {
                // This kernel may know a probe and not attach it: that is not for a check to say.
                let attach = said.contains("cannot attach");
                assert!(loaded == Some(0) || attach, "{name}: checks, but: {said}");
                both += 1;
            }
            _ => assert!(loaded != Some(0), "{name}: loads, but: {why}"),
        }
    }
    assert!(both > 20, "{both}");
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn words_are_explained() {
    let (said, _, status) = rtrace(&["explain", "kstack"], "");
    assert!(said.starts_with("kstack (builtin") && status == Some(0), "{said}");
    let (said, _, _) = rtrace(&["explain", "uprobe"], "");
    assert!(said.contains("uprobe (probe)"), "{said}");
    let (said, _, _) = rtrace(&["explain", "no-unused-value"], "");
    assert!(said.contains("unused-value (warning)"), "{said}");
    assert_eq!(rtrace(&["help", "unused-value"], "").0, said);
    let (_, said, status) = rtrace(&["explain", "kstak"], "");
    assert!(said.contains("did you mean `kstack") && status == Some(1), "{said}");
}

#[test]
fn what_programs_are_and_cost_is_told() {
    let script = "profile:hz:999 { @ = count(); } interval:ms:300 { exit(); }";
    let (_, said, status) = rtrace(&["-v", "--stats", "-e", script], "");
    assert_eq!(status, Some(0), "{said}");
    let line =
        |sign: &str| said.lines().find(|l| l.contains(sign)).unwrap_or_else(|| panic!("{said}"));
    let fact = line("bytes of machine code");
    assert!(fact.contains("profile:hz:999: id ") && fact.contains(" instructions ("), "{said}");
    assert!(fact.contains(" bytes of stack; verified: ") && fact.ends_with(" µs"), "{said}");
    assert!(line("ns each").contains("of a CPU"), "{said}");
    let row: Vec<&str> = line("profile:hz:999").split_whitespace().collect();
    assert!(!row.is_empty(), "{said}");
    let costs = said.lines().find(|l| l.ends_with("%  profile:hz:999")).expect("a row");
    let runs: u64 = costs.split_whitespace().next().unwrap().parse().unwrap();
    assert!(runs > 10, "{said}");
    assert!(line("in all").contains('%'), "{said}");
}

/// Another rtrace, looked at while it runs.
#[test]
fn what_others_cost_is_shown_while_they_run() {
    let script = "profile:hz:999 { @ = count(); } rawtracepoint:sys_enter { @n = count(); }";
    let mut other = Command::new(harness::rtrace())
        .args(["-e", script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut attached = [0; 8];
    other.stderr.as_mut().unwrap().read_exact(&mut attached).unwrap();
    let pid = other.id().to_string();
    let flags = ["stats", "--interval", "0.5", "--times"];
    let (own, err, status) = rtrace(&[&flags[..], &["2", "-p", &pid]].concat(), "");
    let (all, ..) = rtrace(&[&flags[..], &["1", "--all"]].concat(), "");
    let (rtraces, ..) = rtrace(&[&flags[..], &["1"]].concat(), "");
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(own.matches("of a CPU").count(), 2, "{own}");
    for table in [&own, &all, &rtraces] {
        let row = |name: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.ends_with(name) && line.contains(&pid));
            let line = line.unwrap_or_else(|| panic!("no {name}: {table}"));
            line.split_whitespace().map(str::to_owned).collect()
        };
        let profile = row("profile_hz_999");
        assert_eq!(profile[0], pid);
        // On each CPU, 999 times a second; late under load.
        assert!(profile[1].parse::<u64>().unwrap() > 100, "{table}");
        assert!(profile[2].parse::<u64>().unwrap() > 0 && profile[3].ends_with('%'), "{table}");
        row("rawtracepoint_vmlinux_sys_enter");
        assert!(table.contains("  in all\n"), "{table}");
    }
}

#[test]
fn programs_that_cost_too_much_are_detached() {
    let busy = "profile:hz:4999 { @ = count(); } interval:s:60 { exit(); }";
    let (out, said, status) = rtrace(&["--max-overhead", "0.0001%", "-e", busy], "");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("warning[overhead]: the programs cost "), "{said}");
    assert!(said.contains("`--max-overhead` allows 0.0001%"), "{said}");
    assert!(out.contains("@: "), "{out}");
    let idle = "interval:ms:1500 { exit(); }";
    let (_, said, status) = rtrace(&["-q", "--max-overhead=90%", "-e", idle], "");
    assert_eq!((said.as_str(), status), ("", Some(0)));
    let (_, said, status) = rtrace(&["--max-overhead", "much", "-e", idle], "");
    assert!(said.contains("such as `1%`") && status == Some(1), "{said}");
}

#[test]
fn the_types_of_an_object_can_be_had() {
    let path = std::env::temp_dir().join(format!("rtrace-types-{}", std::process::id()));
    let name = path.to_str().unwrap();
    let args = ["--emit=btf", "-o", name, "-e", "begin { @[pid] = count(); }"];
    let (_, said, status) = rtrace(&args, "");
    assert_eq!(status, Some(0), "{said}");
    let types = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // The magic number of linux/btf.h.
    assert_eq!(types.get(..2), Some(&0xeb9fu16.to_le_bytes()[..]));
}

/// A short run of the fuzz target `object`, with the same inputs every time.
#[test]
fn damaged_objects_executables_and_pinned_runs_are_errors() {
    let folder = std::env::temp_dir().join(format!("rtrace-objects-{}", std::process::id()));
    let seeds = Command::new(root().join("fuzz/seed-objects"))
        .arg(harness::rtrace())
        .arg(&folder)
        .output()
        .unwrap();
    assert!(seeds.status.success(), "{}", String::from_utf8_lossy(&seeds.stderr));
    let mut seeds = files(&folder);
    seeds.sort();
    assert!(seeds.len() > 5, "{seeds:?}");
    for (number, seed) in seeds.iter().enumerate() {
        let bytes = std::fs::read(seed).unwrap();
        rtrace::object::any_bytes(&bytes);
        let mut random = harness::random::Random::of(number as u64);
        for _ in 0..60 {
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(4_usize) {
                let at = random.below(bytes.len());
                match random.below(4_usize) {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << random.below(8_u32),
                    2 => bytes[at..].iter_mut().take(8).for_each(|b| *b = 0xff),
                    _ => bytes[at] = random.pick(b"0\"{}[],:-e9\n\0"),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            rtrace::object::any_bytes(&bytes);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
