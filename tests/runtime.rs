//! Runs every script of `tests/runtime` on this machine's kernel and compares what it prints
//! with what its header expects. `tests/runtime/README.md` says how to write one.
//!
//! Needs root. A missing privilege is a failure; with `RTRACE_ALLOW_UNPRIVILEGED_SKIP` set, for
//! somebody who works on the front end, it is a skip.

mod harness;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use harness::live::{self, Machine, Outcome, Plan};
use harness::programs;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Random scripts that must load, if `RTRACE_PROGRAMS` does not say.
const PROGRAMS: u64 = 50;

fn main() {
    let mut args = Arguments::from_args();
    // One after the other: a script that counts everything would count its neighbour.
    args.test_threads.get_or_insert(1);
    let machine = Arc::new(OnceLock::new());
    let random = {
        let machine = Arc::clone(&machine);
        Trial::ignorable_test("random-programs", move || {
            let seeds = programs::wanted(PROGRAMS)?;
            let done = programs::load_all(seeds, machine.get_or_init(Machine::this));
            done.map(|()| Completion::Completed).map_err(Failed::from)
        })
    };
    let trials = harness::cases("runtime").into_iter().map(|case| {
        let machine = Arc::clone(&machine);
        Trial::ignorable_test(case.name.clone(), move || {
            as_root(|| live::run(&case, machine.get_or_init(Machine::this))).completion()
        })
    });
    // Again as JSON, unless they are that already.
    let again = harness::cases("runtime").into_iter();
    let again =
        again.filter(|case| Plan::of(case).is_ok_and(|plan| plan.runs() && !plan.is_json()));
    let as_json = again.map(|case| {
        let machine = Arc::clone(&machine);
        Trial::ignorable_test(format!("json/{}", case.name), move || {
            as_root(|| live::run_as_json(&case, machine.get_or_init(Machine::this))).completion()
        })
    });
    // And from objects, as other kernels would run them.
    let of_objects =
        |case: &harness::Case| live::OF_OBJECTS.iter().any(|t| case.name.starts_with(t));
    let from_objects: Vec<_> = harness::cases("runtime").into_iter().filter(of_objects).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("objects-here");
    let built: Arc<OnceLock<Result<(), String>>> = Arc::default();
    let all = Arc::new(from_objects.clone());
    let objects = from_objects.into_iter().map(|case| {
        let (machine, folder) = (Arc::clone(&machine), folder.clone());
        let (built, all) = (Arc::clone(&built), Arc::clone(&all));
        Trial::ignorable_test(format!("objects/{}", case.name), move || {
            built.get_or_init(|| live::build_objects(&all, &folder)).clone()?;
            let machine = machine.get_or_init(Machine::this);
            as_root(|| live::run_object(&case, machine, &folder)).completion()
        })
    });
    let objects: Vec<Trial> = objects.collect();
    libtest_mimic::run(&args, trials.chain(as_json).chain(objects).chain([random]).collect())
        .exit();
}

/// Runs something that needs root, or says that it cannot.
fn as_root(run: impl FnOnce() -> Outcome) -> Outcome {
    match live::not_root() {
        None => run(),
        Some(why) if std::env::var_os("RTRACE_ALLOW_UNPRIVILEGED_SKIP").is_some() => {
            Outcome::Skipped(why.into())
        }
        Some(why) => Outcome::Failed(why.into()),
    }
}
