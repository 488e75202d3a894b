//! The reference pages, made from the tables of the source; and what every row must have.

use libtest_mimic::{Failed, Trial};
use rtrace::builtins::{self, Builtin};
use rtrace::config;
use rtrace::diag::WARNINGS;
use rtrace::host::Host;
use rtrace::language::SECTIONS;
use rtrace::parser::ast::{Item, Script};
use rtrace::parser::parse;
use rtrace::probes::{self, Context, Needs, PROVIDERS, Provider};
use rtrace::source::{Source, Sources};

use crate::harness::{difference, files, root};
use crate::{matrix, ways};

/// Says where a page comes from.
const MADE: &str = "<!-- Made from the source by `RTRACE_BLESS=1 cargo test --test docs`. -->";

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn() -> Result<(), String>| {
        Trial::test(format!("reference/{name}"), move || run().map_err(Failed::from))
    };
    vec![
        test("builtins.md", || compare("builtins.md", &builtins_page())),
        test("probes.md", || {
            compare("probes.md", &(probes_page() + &ways::section()? + &matrix::section()?))
        }),
        test("config.md", || compare("config.md", &config_page())),
        test("language.md", || compare("language.md", &language_page())),
        test("messages.md", || compare("messages.md", &messages_page())),
        test("warnings have cases", warning_cases),
        test("language cases", language_cases),
        test("rows", rows),
        test("cases", cases),
    ]
}

/// Compares a page with the file, or writes it.
fn compare(name: &str, page: &str) -> Result<(), String> {
    let path = root().join("docs/reference").join(name);
    let difference = difference(&std::fs::read_to_string(&path).unwrap_or_default(), page);
    if difference.is_empty() {
        return Ok(());
    }
    if std::env::var_os("RTRACE_BLESS").is_some() {
        return std::fs::write(&path, page).map_err(|why| why.to_string());
    }
    Err(format!("{difference}\n`RTRACE_BLESS=1 cargo test --test docs` accepts it"))
}

// ----------------------------------------------------------------- the pages

fn builtins_page() -> String {
    let mut page = format!(
        "{MADE}\n\n# Builtins\n\n\
         The variables and functions of the language. A builtin without parentheses is a variable; \
         `[…]` may be left out; `unsafe` ones need `--unsafe`. Arguments of the probe (`args.x`, \
         `argN`) are in [probes.md](probes.md). Script parameters are `$1`, `$2` and on, and `$#` \
         is their number. `sizeof(type)` and `offsetof(type, member)` are part of the grammar.\n"
    );
    for (subject, rows) in builtins::SUBJECTS {
        page += &format!("\n## {subject}\n\n| Name | Use | What it is |\n| --- | --- | --- |\n");
        for row in *rows {
            let mark = if row.needs_unsafe { " (unsafe)" } else { "" };
            let Builtin { name, usage, doc, .. } = row;
            page += &format!("| `{name}`{mark} | `{}` | {} |\n", cell(usage), cell(doc));
        }
    }
    page
}

fn language_page() -> String {
    let mut page = format!(
        "{MADE}\n\n# The language\n\n\
         Section by section; [GUIDE.md](../../GUIDE.md) is the introduction. What a section says is \
         exercised by the tests that its row in `src/language.rs` names.\n"
    );
    for section in SECTIONS {
        page += &format!("\n## {}\n\n{}\n", section.title, section.text);
        for example in section.examples {
            let needs = match example.needs {
                "" => String::new(),
                needs => format!(" needs={needs}"),
            };
            page += &match example.prints {
                "" => format!("\n```bt\n{}\n```\n", example.script),
                prints => {
                    let command = format!("# rtrace -q -e '{}'", example.script);
                    format!("\n```console exact{needs}\n{command}\n{prints}```\n")
                }
            };
        }
    }
    page
}

/// Every section has cases, and they have in them what they are named for.
fn language_cases() -> Result<(), String> {
    let mut faults = Vec::new();
    for section in SECTIONS {
        if section.cases.is_empty() {
            faults.push(format!("`{}`: no case exercises it", section.title));
        }
        for (case, sign) in section.cases {
            let path = root().join("tests").join(format!("{case}.bt"));
            match std::fs::read_to_string(&path) {
                Ok(text) if text.contains(sign) => {}
                Ok(_) => faults.push(format!("`{}`: `{sign}` is not in {case}", section.title)),
                Err(why) => faults.push(format!("`{}`: {case}: {why}", section.title)),
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn config_page() -> String {
    let mut page = format!(
        "{MADE}\n\n# Config variables\n\n\
         Set at the head of a script, `config = {{ max_strlen = 200; stack_mode = perf }}`, or by \
         environment variables, `RTRACE_MAX_STRLEN=200` (or `BPFTRACE_MAX_STRLEN`). The environment \
         wins.\n\n\
         | Key | Values | Default | What it does |\n| --- | --- | --- | --- |\n"
    );
    for key in config::KEYS {
        let default = match key.default {
            "" => "".into(),
            text => format!("`{text}`"),
        };
        page += &format!("| `{}` | {} | {default} | {} |\n", key.name, key.values, key.doc);
    }
    page += "\nOld names still work, with a warning: ";
    let old = config::RENAMED.iter().map(|(old, now, negated)| {
        format!("`{old}` is {}`{now}`", if *negated { "the opposite of " } else { "" })
    });
    page += &old.collect::<Vec<_>>().join(", ");
    page += ".\n\n`RTRACE_COLOR` (or `BPFTRACE_COLOR`) is `always`, `never` or `auto`; `NO_COLOR` is \
             heeded too. They are for the environment only.\n";
    page
}

fn messages_page() -> String {
    let mut page = format!(
        "{MADE}\n\n# Errors and warnings\n\n\
         Messages go to standard error. Errors end the run, and all errors of a script are told at \
         once (as text the first 20, as JSON every one); warnings do not end it. The name of a warning stands in brackets behind the word.\n\n\
         | Option | What it does |\n| --- | --- |\n\
         | `--no-warnings` | no warnings |\n\
         | `-W no-NAME` | not this warning |\n\
         | `-W NAME` | this one all the same (after `--no-warnings`, or `-W no-all`) |\n\
         | `-W error=NAME` | this warning is an error: the script does not run |\n\
         | `-W error` | every warning is an error |\n\
         | `--message-format json` | an object per line, for editors and scripts |\n\n\
         `-W` may be repeated, or take several names with commas between them; the last word about a \
         warning counts. What happens while a script runs is told as a warning in any case.\n\n\
         ## Warnings\n\n| Name | What it means |\n| --- | --- |\n"
    );
    for row in WARNINGS {
        page += &format!("| `{}` | {} |\n", row.name, cell(row.doc));
    }
    page += "\n## As JSON\n\n\
             With `--message-format json`, each message is one line with one object:\n\n\
             | Field | What it is |\n| --- | --- |\n\
             | `type` | `\"diagnostic\"` |\n\
             | `severity` | `\"error\"` or `\"warning\"` |\n\
             | `name` | name of the warning; `null` for errors |\n\
             | `message` | what is wrong |\n\
             | `span` | the characters that it is about; `null` if it is about none |\n\
             | `labels` | all places that matter: `span`, `text`, and whether it is the `primary` one |\n\
             | `notes`, `helps` | facts, and what to do, as texts |\n\
             | `suggestion` | `span` and `replacement`: a text that could stand there instead; `null` if \
             there is none |\n\n\
             A span has `file`, and `start` and `end` (exclusive), each with `byte` (from 0), `line` and \
             `column` (from 1; columns count characters). The file of `-e` and of standard input is \
             `stdin`.\n";
    page
}

/// Warnings that no case can cause, and why.
const UNCAUSED: [(&str, &str); 1] = [("losses", "it is a table, with cases of its own")];

/// Every warning is seen by a test.
fn warning_cases() -> Result<(), String> {
    let texts: Vec<String> = ["tests", "src"]
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .filter(|path| !path.ends_with("warning.rs"))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let seen = |name: &str| {
        let shown = [format!("warning[{name}]"), format!("warning\\[{name}\\]")];
        texts.iter().any(|text| shown.iter().any(|s| text.contains(s)))
    };
    let excused = |name: &str| UNCAUSED.iter().any(|(excused, _)| *excused == name);
    let faults: Vec<&str> =
        WARNINGS.iter().map(|row| row.name).filter(|name| seen(name) == excused(name)).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("no case causes these, or an excuse too many: {}", faults.join(", ")))
}

fn probes_page() -> String {
    let mut page = format!(
        "{MADE}\n\n# Probes\n\n\
         A probe is one or more attach points, with commas between them, an optional predicate, and \
         a block. An attach point names its provider and its target; a `*` in a target stands for \
         any characters. `rtrace -l 'PATTERN'` lists what a pattern matches on this machine, and \
         `-lv` shows the arguments too.\n\n\
         | Provider | Short | Attach points | What it is |\n| --- | --- | --- | --- |\n"
    );
    for provider in PROVIDERS {
        let short = provider.aliases.iter().map(|alias| format!("`{alias}`"));
        let usage = provider.usage.iter().map(|usage| format!("`{}`", cell(usage)));
        let (short, usage) = (list(short), list(usage));
        page += &format!("| `{}` | {short} | {usage} | {} |\n", provider.name, provider.doc);
    }
    page += "\n## What a probe gives\n\n\
             The column `stack` is for `kstack` and `ustack`, `reg` for `reg()`. `override()` is for \
             kprobes. All else in [builtins.md](builtins.md) can be used in any probe, but what is about a \
             process not in `xdp`, `tc` and `cgroup_skb`, since packets belong to none.\n\n\
             | Provider | `args.x` | `argN` | `retval` | `func` | `ctx` | `reg` | `stack` |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    // What to use instead, and where.
    let mut hints: Vec<(String, Vec<String>)> = Vec::new();
    for provider in PROVIDERS {
        let context = context(provider);
        let yes = |has: bool| if has { "yes" } else { "" };
        let cells = [
            yes(context.args.as_ref().is_ok_and(|args| !args.is_empty())),
            yes(context.numbered.as_ref().is_ok_and(|args| !args.is_empty())),
            yes(context.retval.is_ok()),
            yes(context.func.is_ok()),
            yes(context.ctx.is_ok()),
            yes(context.registers.is_some()),
            yes(context.stacks),
        ];
        page += &format!("| `{}` | {} |\n", provider.name, cells.join(" | "));
        let missing = [
            ("args", context.args.err()),
            ("argN", context.numbered.err()),
            ("retval", context.retval.err()),
        ];
        for (name, reason) in missing {
            let Some(reason) = reason.filter(|reason| reason.contains("; ")) else { continue };
            let place = format!("`{name}` in `{}`", provider.name);
            match hints.iter_mut().find(|hint| hint.0 == reason) {
                Some((_, places)) => places.push(place),
                None => hints.push((reason, vec![place])),
            }
        }
    }
    page += "\n";
    for (reason, places) in hints {
        page += &format!("- {}: {reason}.\n", places.join(", "));
    }
    page
}

/// The context of a provider's probes, on the recorded machine.
fn context(provider: &Provider) -> Context {
    // What the recorded machine has, where it is not what the usage names.
    let points = match provider.name {
        "uprobe" => &["uprobe:/usr/bin/stall:stall_weigh"],
        "usdt" => &["usdt:/usr/bin/stall:ring"],
        "uretprobe" => &["uretprobe:/usr/bin/shop:shop_open"],
        _ => provider.usage,
    };
    let (script, _) = script(&format!("{} {{ }}", points.first().expect("a usage")));
    let Some(Item::Probe(probe)) = script.items.first() else { panic!("{points:?} is no probe") };
    let host = Host::at(&root().join("tests/host/debian"));
    let options = probes::Options {
        params: Vec::new(),
        unsafe_mode: false,
        pid: None,
        missing_probes: rtrace::plan::MissingProbes::Error,
        no_feature: Vec::new(),
        portable: false,
    };
    let needs = Needs { whole_args: true, ..Needs::default() };
    let point = probe.attach_points.first().expect("a usage");
    let mut diags = rtrace::diag::Diagnostics::default();
    let instances = probes::expand(point, &needs, &host, &options, &mut diags);
    instances.unwrap_or_else(|why| panic!("{points:?}: {why:?}")).remove(0).context
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', "\\n")
}

// ------------------------------------------------------------------ the rows

/// Every builtin is used by a case that runs, or by a golden.
fn cases() -> Result<(), String> {
    let scripts: Vec<String> = ["tests/runtime", "tests/golden"]
        .iter()
        .flat_map(|topic| files(&root().join(topic)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "bt"))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let uses = |name: &str| {
        let word = regex::Regex::new(&format!(r"\b{name}\b")).expect("a name");
        let mut lines = scripts.iter().flat_map(|s| s.lines()).filter(|l| !l.starts_with("//"));
        lines.any(|line| word.is_match(line))
    };
    let missing: Vec<&str> = builtins::all().map(|b| b.name).filter(|name| !uses(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("no case in tests/runtime or tests/golden uses {}", missing.join(", ")))
}

/// Every row has a sentence, and a usage that parses.
fn rows() -> Result<(), String> {
    let mut faults = Vec::new();
    let mut sentence = |name: &str, doc: &str| {
        if !doc.ends_with('.') {
            faults.push(format!("`{name}`: its doc does not end with a full stop: {doc}"));
        }
    };
    builtins::all().for_each(|row| sentence(row.name, row.doc));
    PROVIDERS.iter().for_each(|provider| sentence(provider.name, provider.doc));
    config::KEYS.iter().for_each(|key| sentence(key.name, key.doc));
    for row in builtins::all() {
        for usage in forms(row.usage) {
            let text = usage.replace("values…", "values").replace("literals…", "1");
            if let (_, Some(why)) = script(&format!("begin {{ {text}; }}")) {
                faults.push(format!("`{}`: its usage `{usage}` does not parse:\n{why}", row.name));
            }
        }
    }
    for provider in PROVIDERS {
        for usage in provider.usage {
            let name = usage.split(':').next().unwrap_or_default();
            if probes::find(name).is_none_or(|found| found.name != provider.name) {
                faults.push(format!("`{usage}` is not a usage of `{}`", provider.name));
            }
            if let (_, Some(why)) = script(&format!("{usage} {{ }}")) {
                faults.push(format!("`{usage}` does not parse:\n{why}"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The tree of a script, and what is wrong with it.
fn script(text: &str) -> (Script, Option<String>) {
    let mut sources = Sources::default();
    let file = sources.add(Source { name: "usage".into(), text: text.into() });
    let (script, diags) = parse(&sources, file, &builtins::is_value);
    let wrong = diags.has_errors().then(|| diags.render(&sources, rtrace::diag::Form::Text));
    (script, wrong)
}

/// The forms of a usage: those with `, ` between them, each with and without what is in brackets
/// that may be left out. Those brackets are next to the comma of what they hold, or hold all
/// arguments.
fn forms(usage: &str) -> Vec<String> {
    let mut forms = vec![String::new()];
    let mut depth = 0;
    for c in usage.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        match forms.last_mut() {
            Some(_) if c == ',' && depth == 0 => forms.push(String::new()),
            Some(form) => form.push(c),
            None => {}
        }
    }
    forms.iter().flat_map(|form| [leave_out(form, false), leave_out(form, true)]).collect()
}

/// A form with, or without, its optional parts.
fn leave_out(form: &str, without: bool) -> String {
    let chars: Vec<char> = form.trim().chars().collect();
    let mut result = String::new();
    // Per open bracket: whether it is optional.
    let mut open = Vec::new();
    for (i, c) in chars.iter().enumerate() {
        let left_out = without && open.contains(&true);
        match c {
            '[' => {
                let before = i.checked_sub(1).and_then(|i| chars.get(i));
                let optional = before == Some(&'(') || chars.get(i + 1) == Some(&',');
                open.push(optional);
                if !optional && !left_out {
                    result.push('[');
                }
            }
            ']' => {
                let brackets = open.pop() == Some(false) && !left_out;
                result.extend(brackets.then_some(']'));
            }
            c if !left_out => result.push(*c),
            _ => {}
        }
    }
    result
}
