//! A program that causes a known number of events, for tests that trace it.
//!
//!     rt-workload [--hold] WORK [+ WORK]...
//!     WORK = NAME COUNT [--comm NAME] [--threads T] [--pin] [--bytes SIZES] [--path FILE] [--ms MS]
//!
//! Every one of T threads (1 without `--threads`) does COUNT times what NAME says; `+` joins
//! works that run one after the other. While a thread works, its comm is NAME of `--comm`
//! (without it `rt-` and the work's name); before and after, it is `rt-workload`. So what the
//! loader, the runtime and the preparations do never counts, and `@[comm]` is exact.
//!
//! - `--hold` waits, without a read(2), until standard input has data or ends
//! - `--pin` keeps thread number t on CPU t, counted modulo the CPUs there are
//! - `--bytes` is a size, a list (`1,2,900`) or a range (`1-64`): the i-th call takes the i-th, and
//!   starts again after the last
//!
//! `list` prints the works. Nothing else is ever written to standard output.

mod markers;
mod targets;
mod works;

use std::ffi::{CStr, CString};
use std::process::ExitCode;
use std::sync::Barrier;

/// The comm outside the counted loops.
const IDLE: &CStr = c"rt-workload";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["list"] {
        for (name, doc) in works::WORKS {
            println!("{name:10} {doc}");
        }
        return ExitCode::SUCCESS;
    }
    let hold = args.iter().position(|arg| arg == "--hold").map(|at| args.remove(at)).is_some();
    let jobs: Result<Vec<Job>, String> = args.split(|arg| arg == "+").map(Job::parse).collect();
    let ended = jobs.and_then(|jobs| {
        set_comm(IDLE)?;
        if hold {
            wait_for_input()?;
        }
        jobs.iter().try_for_each(Job::run)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("rt-workload: {why}");
            ExitCode::FAILURE
        }
    }
}

/// One WORK of the command line.
struct Job {
    work: works::Work,
    options: works::Options,
    comm: CString,
    threads: usize,
    pin: bool,
}

impl Job {
    fn parse(words: &[String]) -> Result<Job, String> {
        let [name, count, rest @ ..] = words else {
            return Err("a work is a name and a count; `rt-workload list` has the names".into());
        };
        let work = works::find(name).ok_or_else(|| format!("no work `{name}`"))?;
        let mut options = works::Options { count: number(count)?, ..works::Options::default() };
        let mut job = Job {
            work,
            comm: comm(&format!("rt-{name}"))?,
            threads: 1,
            pin: false,
            options: works::Options::default(),
        };
        let mut rest = rest.iter();
        while let Some(flag) = rest.next() {
            if flag == "--pin" {
                job.pin = true;
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
            match flag.as_str() {
                "--comm" => job.comm = comm(value)?,
                "--threads" => job.threads = number(value)?,
                "--bytes" => options.sizes = sizes(value)?,
                "--path" => options.path.clone_from(value),
                "--ms" => options.ms = number(value)?,
                _ => return Err(format!("no option `{flag}`")),
            }
        }
        job.options = options;
        Ok(job)
    }

    fn run(&self) -> Result<(), String> {
        // Nobody starts before everybody is there, and nobody leaves before everybody is done:
        // threads are created and end under the idle name.
        let barrier = Barrier::new(self.threads);
        std::thread::scope(|scope| {
            let start = |number| {
                scope.spawn({
                    let barrier = &barrier;
                    move || self.one_thread(number, barrier)
                })
            };
            let threads: Vec<_> = (0..self.threads).map(start).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
        })
    }

    fn one_thread(&self, number: usize, barrier: &Barrier) -> Result<(), String> {
        let prepared = (|| {
            if self.pin {
                pin(number)?;
            }
            (self.work)(&self.options)
        })();
        barrier.wait();
        let ended = prepared.and_then(|mut round| {
            set_comm(&self.comm)?;
            let ended = (0..self.options.count).try_for_each(&mut *round);
            set_comm(IDLE)?;
            ended
        });
        barrier.wait();
        ended
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number that fits here"))
}

fn sizes(text: &str) -> Result<Vec<usize>, String> {
    match text.split_once('-') {
        Some((first, last)) => Ok((number(first)?..=number(last)?).collect()),
        None => text.split(',').map(number).collect(),
    }
}

fn comm(name: &str) -> Result<CString, String> {
    if name.len() > 15 {
        return Err(format!("`{name}` is longer than the 15 bytes that the kernel keeps"));
    }
    CString::new(name).map_err(|_| "a name has a NUL byte".into())
}

/// Names the calling thread. That is all it does: it is called under the name that counts.
fn set_comm(name: &CStr) -> Result<(), String> {
    // SAFETY: PR_SET_NAME reads a NUL-terminated string, which `name` is.
    works::checked("prctl", unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }.into())
        .map(drop)
}

fn pin(number: usize) -> Result<(), String> {
    let cpus = std::thread::available_parallelism().map_err(|why| why.to_string())?.get();
    // SAFETY: an all-zero set is valid, CPU_SET stays inside it for any CPU number, and the
    // kernel reads as many bytes as it is told the set has.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(number % cpus, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    works::checked("sched_setaffinity", status.into()).map(drop)
}

fn wait_for_input() -> Result<(), String> {
    let mut input = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, as the count says.
    works::checked("poll", unsafe { libc::poll(&mut input, 1, -1) }.into()).map(drop)
}
