//! Arguments in, exit status out.

use std::process::ExitCode;

use rtrace::cli::Invocation;
use rtrace::driver;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let status = match Invocation::parse(&args) {
        Ok(Invocation::Script(cli)) => driver::script(&cli),
        Ok(Invocation::Build(build)) => driver::build(&build),
        Ok(Invocation::Flame(flame)) => driver::flame(&flame),
        Ok(Invocation::Completions(completions)) => driver::completions(&completions),
        Ok(Invocation::Help(help)) => driver::help(&help),
        Ok(Invocation::Man) => driver::manual(),
        Ok(Invocation::Run(run)) => driver::run_object(&run),
        Ok(Invocation::Check(check)) => driver::check_scripts(&check),
        Ok(Invocation::Fmt(fmt)) => driver::format_scripts(&fmt),
        Ok(Invocation::Lsp(lsp)) => driver::serve_editor(&lsp),
        Ok(Invocation::Stats(stats)) => driver::watch(&stats),
        Ok(Invocation::Attach(pinned)) => driver::attach(&pinned),
        Ok(Invocation::Maps(pinned)) => driver::pinned_maps(&pinned),
        Ok(Invocation::Detach(pinned)) => driver::detach(&pinned),
        Ok(Invocation::Pins) => driver::pins(),
        Ok(Invocation::Explain(explain)) => driver::explain(&explain),
        Err(error) => driver::wrong_use(&error, &args),
    };
    ExitCode::from(status)
}
