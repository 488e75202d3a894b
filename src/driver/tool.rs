//! Stand-alone executables: a script's object behind a run side that needs no compiler.
//!
//! The run side is `rtrace-run`, which lies beside `rtrace`, or where `RTRACE_RUN_SIDE` says.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::{Failed, Named, Outcome, USAGE, fail, failed, messages, run_stored, say};
use crate::cli::Tool;
use crate::diag::Diagnostic;
use crate::object::{Object, behind, executable};
use crate::plan::portable::{NamedOption, OptionValue};

/// The file name of the run side.
const RUN_SIDE: &str = "rtrace-run";

/// The variable that says where it is.
const WHERE: &str = "RTRACE_RUN_SIDE";

/// Writes an executable that runs an object.
pub(super) fn write(path: &Path, elf: &[u8]) -> Result<(), Failed> {
    let side = run_side()?;
    let bytes = fs::read(&side)
        .map_err(|e| fail(format!("cannot read the run side `{}`: {e}", side.display())))?;
    super::write(path, &executable(&bytes, elf))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|e| fail(format!("cannot make `{}` executable: {e}", path.display())))
}

fn run_side() -> Result<PathBuf, Failed> {
    let named = std::env::var_os(WHERE).map(PathBuf::from);
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(RUN_SIDE));
    let found = named.clone().or(beside).filter(|path| path.is_file());
    found.ok_or_else(|| {
        let d = match named {
            Some(path) => Diagnostic::global(format!("there is no run side `{}`", path.display()))
                .note(format!("the variable `{WHERE}` names it")),
            None => Diagnostic::global(format!("there is no `{RUN_SIDE}` beside rtrace"))
                .note("executables consist of it and of the script's object"),
        };
        let d =
            d.help("`make build` makes it; or give `-o NAME.bpf.o`, for `rtrace run NAME.bpf.o`");
        failed(d, USAGE)
    })
}

/// Runs the object behind this program, with the parameters of its script as flags.
pub fn tool(args: &[String]) -> u8 {
    run(args).unwrap_or_else(|Failed(status)| status)
}

fn run(args: &[String]) -> Outcome {
    let mut own = File::open("/proc/self/exe")
        .map_err(|e| fail(format!("the executable cannot be read: {e}; is /proc mounted?")))?;
    let Some(elf) = behind(&mut own).map_err(fail)? else {
        let d = Diagnostic::global("there is no script in this executable");
        return Err(failed(d.help("`rtrace build SCRIPT -o NAME` puts one into it"), USAGE));
    };
    drop(own);
    let object = Object::from_bytes(elf).map_err(fail)?;
    let options = object.plan.portable.map(|p| p.options).unwrap_or_default();
    let name = args.first().and_then(|a| Path::new(a).file_name()?.to_str()).unwrap_or("tool");
    let command = command(name, &options);
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return Ok(super::wrong_use(&error, args)),
    };
    let tool = Tool::from_arg_matches(&matches).map_err(|e| fail(e.to_string()))?;
    if tool.version {
        return say(&format!("{name}, made by rtrace v{}\n", env!("CARGO_PKG_VERSION")));
    }
    messages::choose(&tool.how.messages)?;
    run_stored(object.elf, &tool.how, given(&matches, &options))
}

/// The flags of every tool, and those of its script that are not called like one of them.
fn command(name: &str, options: &[NamedOption]) -> clap::Command {
    let mut command = Tool::command().name(name.to_owned()).bin_name(name.to_owned());
    command = command.about("A script of rtrace").disable_version_flag(true);
    let taken: Vec<String> =
        command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect();
    for option in options.iter().filter(|o| !taken.contains(&o.name)) {
        let default = match &option.default {
            OptionValue::Bool(_) => None,
            OptionValue::Int { value, signed: true } => Some(value.to_string()),
            OptionValue::Int { value, signed: false } => Some(value.cast_unsigned().to_string()),
            OptionValue::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        };
        let help = match (&default, option.help.is_empty()) {
            (Some(default), true) => format!("[default: {default}]"),
            (Some(default), false) => format!("{} [default: {default}]", option.help),
            (None, _) => option.help.clone(),
        };
        let mut arg = Arg::new(option.name.clone())
            .long(option.name.clone())
            .help(help)
            .help_heading("Parameters of the script")
            .require_equals(default.is_none())
            .action(ArgAction::Append);
        if default.is_none() {
            arg = arg.num_args(0..=1).default_missing_value(FLAG).hide_default_value(true);
        } else {
            arg = arg.num_args(1).allow_hyphen_values(true);
        }
        command = command.arg(arg);
    }
    command
}

/// What stands for a flag without a value; nobody can write it.
const FLAG: &str = "\u{0}";

fn given(matches: &ArgMatches, options: &[NamedOption]) -> Named {
    let mut named = Named::new();
    for option in options {
        let Ok(Some(values)) = matches.try_get_many::<String>(&option.name) else { continue };
        named.extend(values.map(|value| {
            let value = (value != FLAG).then(|| value.clone());
            (option.name.clone(), value)
        }));
    }
    named
}
