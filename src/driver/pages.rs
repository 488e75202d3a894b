//! What is made from the flags and the tables for the shell and for `man`.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Outcome, fail, say};
use crate::cli::{Build, Check, Cli, Completions, Explain, Flame, Fmt, Lsp, Run, Stats};
use crate::config;
use crate::help;
use crate::probes::PROVIDERS;

/// All of the command line as one tree, which it is not for the parser: a
/// script may have any name.
fn command() -> clap::Command {
    let topics = clap::Command::new("help")
        .about("Tell about a builtin, a probe, a config key or a part of the language")
        .arg(clap::Arg::new("topic").value_parser(PossibleValuesParser::new(help::words())));
    Cli::command()
        .disable_help_subcommand(true)
        .subcommand(Build::command().name("build"))
        .subcommand(Run::command().name("run"))
        .subcommand(Flame::command().name("flame"))
        .subcommand(Check::command().name("check"))
        .subcommand(Fmt::command().name("fmt"))
        .subcommand(Explain::command().name("explain"))
        .subcommand(Lsp::command().name("lsp"))
        .subcommand(Stats::command().name("stats"))
        .subcommand(Completions::command().name("completions"))
        .subcommand(clap::Command::new("man").about("Show the manual page, in roff"))
        .subcommand(topics)
}

/// The completion script of a shell: flags and commands, and names of probes,
/// which `rtrace -l` gives when they are asked for.
pub(super) fn completions(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rtrace", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    let providers: Vec<&str> = PROVIDERS.iter().map(|p| p.name).collect();
    let providers = providers.join(" ");
    match shell {
        Shell::Bash => script += &BASH.replace("{providers}", &providers),
        Shell::Zsh => {
            // The last lines register or run the function.
            let end = script.rfind("if [ \"$funcstack[1]\"").unwrap_or(script.len());
            script.truncate(end);
            script = script.replacen("\n_rtrace() {", "\n_rtrace_flags() {", 1);
            script += &ZSH.replace("{providers}", &providers);
        }
        Shell::Fish => script += FISH,
        other => return Err(fail(format!("there are no completions for `{other}`"))),
    }
    say(&script)
}

/// Behind `-l`, words are probes. `COMP_WORDS` is of no use: bash takes colons
/// for the ends of words.
const BASH: &str = r#"
_rtrace_or_probes() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:blank:]]}
    if [[ $line =~ [[:blank:]](-l|--list|-lv)[[:blank:]] && $word != -* ]]; then
        local names plain=${word#[\"\']}
        if [[ $plain == *:* ]]; then
            names=$(rtrace -l "$plain*" 2>/dev/null; [[ $plain == *:*:* ]] || rtrace -l "$plain*:*" 2>/dev/null)
        else
            local provider
            for provider in {providers}; do names+="$provider: "; done
            compopt -o nospace 2>/dev/null
        fi
        # What is before the last colon stands there already.
        local before=
        [[ $COMP_WORDBREAKS == *:* && $plain == *:* ]] && before=${plain%"${plain##*:}"}
        COMPREPLY=($(compgen -W "$names" -- "$plain"))
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
        return
    fi
    _rtrace "$@"
}
complete -F _rtrace_or_probes -o nosort -o bashdefault -o default rtrace 2>/dev/null ||
    complete -F _rtrace_or_probes -o bashdefault -o default rtrace
"#;

/// The function keeps its name, since zsh calls what the file is named for.
const ZSH: &str = r#"
_rtrace() {
    if (( ${words[(I)(-l|-lv|--list)]} )) && [[ $PREFIX != -* ]]; then
        local -a names
        if [[ $PREFIX == *:* ]]; then
            names=(${(f)"$(rtrace -l "$PREFIX*" 2>/dev/null; rtrace -l "$PREFIX*:*" 2>/dev/null)"})
            compadd -- $names
        else
            names=({providers})
            compadd -S : -- $names
        fi
        return
    fi
    _rtrace_flags "$@"
}

if [ "$funcstack[1]" = "_rtrace" ]; then
    _rtrace "$@"
else
    compdef _rtrace rtrace
fi
"#;

const FISH: &str = r#"
function __rtrace_probes
    set -l word (commandline -ct)
    rtrace -l "$word*" 2>/dev/null
    string match -q '*:*:*' -- $word; or rtrace -l "$word*:*" 2>/dev/null
end
complete -c rtrace -n '__fish_seen_argument -s l -l list' -f -a '(__rtrace_probes)'
"#;

/// The manual page.
pub(super) fn manual() -> Outcome {
    let mut page = Vec::new();
    let done = render(&mut page);
    done.map_err(|e| fail(format!("cannot write the manual page: {e}")))?;
    io::stdout().write_all(&page).map(|()| 0).map_err(|_| super::Failed(0))
}

fn render(out: &mut Vec<u8>) -> io::Result<()> {
    let whole = command();
    let man = Man::new(whole.clone().version(env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for usage in [
        "[OPTIONS] FILE [PARAMS...]",
        "[OPTIONS] -e 'PROGRAM' [PARAMS...]",
        "-l [PATTERN | FILE]",
        "COMMAND ...",
    ] {
        roff.text([bold("rtrace"), roman(format!(" {usage}"))]).control("br", []);
    }
    roff.to_writer(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for sub in whole.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", [])
            .text([bold(format!("rtrace {}", sub.get_name()))])
            .text([roman(about)]);
        for arg in sub.get_arguments().filter(|arg| arg.get_help().is_some()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            roff.control("RS", []).control("TP", []);
            roff.text([bold(spelling(arg))]).text([roman(help)]).control("RE", []);
        }
    }
    roff.control("SH", ["ENVIRONMENT"]);
    let colors = "When messages have colours: auto, always or never";
    let entry = |roff: &mut Roff, name: &str, text: &str| {
        roff.control("TP", []).text([bold(name.to_owned())]).text([roman(text.to_owned())]);
    };
    entry(&mut roff, "RTRACE_COLOR, BPFTRACE_COLOR", colors);
    entry(&mut roff, "NO_COLOR", "If not empty, messages have no colours");
    for key in config::KEYS {
        let upper = key.name.to_uppercase();
        let text = format!("{} ({}; default {})", key.doc, key.values, key.default);
        entry(&mut roff, &format!("RTRACE_{upper}, BPFTRACE_{upper}"), &text);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (status, when) in [
        ("0", "The run ended; or what exit() in the script says."),
        ("1", "Wrong use, a wrong script, a missing privilege, a test that failed."),
        ("2", "A wrong import, wrong C, a wrong setting in the environment."),
        ("3", "With --strict: something got lost."),
        ("255", "The script could not be loaded or attached."),
    ] {
        entry(&mut roff, status, when);
    }
    roff.to_writer(out)
}

/// How an argument is written.
fn spelling(arg: &clap::Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let takes = arg.get_action().takes_values();
    let short = arg.get_short().map(|c| format!("-{c}"));
    let long = arg.get_long().map(|name| format!("--{name}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    match (flags.is_empty(), value.filter(|_| takes)) {
        (true, value) => value.unwrap_or_default(),
        (false, None) => flags.join(", "),
        (false, Some(value)) => format!("{} {value}", flags.join(", ")),
    }
}
