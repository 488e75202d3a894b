//! From the IR to one BPF ELF object, through LLVM.
//!
//! Every program becomes a function, every map a global with BTF, and the
//! plan a section beside them. The object loads with libbpf on every kernel
//! since 5.10 (loops through callbacks need 5.17). A verified module always
//! compiles: an error that comes from here is a bug, either ours or LLVM's.
//!
//! LLVM optimises for processors, while the kernel's verifier wants to follow
//! every step. What keeps the two together is in [`builder`] (what LLVM may
//! know), in `stmt` (loops) and in `memory` (indices).

mod builder;
mod debug;
mod depth;
mod elf;
mod expr;
mod foreign;
mod frame;
mod helpers;
mod map;
mod memory;
mod numbers;
mod object;
mod options;
mod program;
mod relocation;
mod spill;
mod stmt;

use inkwell::context::Context;
use inkwell::targets::FileType;

use crate::ir;
use crate::plan::Plan;
use object::{Object, Part};
pub use options::{Compiled, Cpu, Options};

/// Whether this build can compile.
pub const AVAILABLE: bool = true;

/// Compiles a verified module, in parts if it is large and threads may share the work.
///
/// # Errors
/// What LLVM says; always a bug.
pub fn compile(module: &ir::Module, plan: &Plan, options: &Options) -> Result<Compiled, String> {
    let count = options.threads.min(module.programs.len() / PART);
    // Functions of the kernel and of imported objects are declared where they are called.
    if count > 1
        && module.foreign.is_empty()
        && let Ok(mut parts) = emit_parts(module, plan, options, count)
    {
        let more = parts.split_off(1);
        return Ok(Compiled { elf: parts.concat(), more });
    }
    Ok(Compiled { elf: emit(module, plan, options)?.0, more: Vec::new() })
}

/// Programs that are worth a thread and an LLVM context.
const PART: usize = 24;

/// Bytes of a thread's stack: as much as the main thread has, which LLVM expects.
const STACK: usize = 8 << 20;

/// Compiles a module in parts, at the same time. The maps and the plan are in the first.
///
/// # Errors
/// LLVM's, also of programs that take too much stack: those change the maps of all parts.
fn emit_parts(
    module: &ir::Module,
    plan: &Plan,
    options: &Options,
    count: usize,
) -> Result<Vec<Vec<u8>>, String> {
    let relieved = spill::make_room(module);
    let module = relieved.as_ref().unwrap_or(module);
    std::thread::scope(|scope| {
        let compile = |number| {
            let part = Part { number, of: count };
            let thread = std::thread::Builder::new().stack_size(STACK);
            let all = move || {
                let elf = emit_as_is(module, plan, options, part, FileType::Object)?;
                match depth::crowded(&elf).first() {
                    Some(name) => Err(format!("{name} takes too much stack")),
                    None => Ok(elf),
                }
            };
            thread.spawn_scoped(scope, all).map_err(|e| e.to_string())
        };
        let threads: Vec<_> = (0..count).map(compile).collect();
        let end = |thread: Result<std::thread::ScopedJoinHandle<'_, _>, String>| {
            thread?.join().map_err(|_| "bug: a thread panicked".to_owned())?
        };
        threads.into_iter().map(end).collect()
    })
}

/// The last step, after objects were linked, which do not take a sealed one: makes
/// the plan something that libbpf passes over without a word.
pub fn seal(elf: &mut [u8]) {
    elf::mark_plan(elf);
}

/// LLVM's text of the module as it is translated (`--emit llvm`).
///
/// # Errors
/// What LLVM says; always a bug.
pub fn llvm(module: &ir::Module, plan: &Plan, options: &Options) -> Result<String, String> {
    let context = Context::create();
    Ok(Object::new(&context, module, plan, options, Part::WHOLE)?.text())
}

/// The same after optimisation (`--emit llvm-opt`).
///
/// # Errors
/// What LLVM says; always a bug.
pub fn llvm_opt(module: &ir::Module, plan: &Plan, options: &Options) -> Result<String, String> {
    let context = Context::create();
    let object = Object::new(&context, module, plan, options, Part::WHOLE)?;
    object.optimise()?;
    Ok(object.text())
}

/// BPF assembly (`--emit asm`).
///
/// # Errors
/// What LLVM says; always a bug.
pub fn asm(module: &ir::Module, plan: &Plan, options: &Options) -> Result<String, String> {
    let (_, relieved) = emit(module, plan, options)?;
    let module = relieved.as_ref().unwrap_or(module);
    let text = emit_as_is(module, plan, options, Part::WHOLE, FileType::Assembly)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Compiles, again and otherwise if a program takes too much stack; also gives what the
/// module became.
fn emit(
    module: &ir::Module,
    plan: &Plan,
    options: &Options,
) -> Result<(Vec<u8>, Option<ir::Module>), String> {
    let compile =
        |module: &ir::Module| emit_as_is(module, plan, options, Part::WHOLE, FileType::Object);
    let mut relieved = spill::make_room(module);
    let mut result = compile(relieved.as_ref().unwrap_or(module));
    if result.as_ref().is_err_and(|why| why == TOO_LONG) {
        let relieved = relieved.get_or_insert_with(|| module.clone());
        spill::without_copies(relieved);
        result = compile(relieved);
    }
    for step in 0..spill::STEPS {
        let crowded = match &result {
            Ok(elf) => depth::crowded(elf),
            Err(errors) => spill::too_large(errors),
        };
        if crowded.is_empty() {
            break;
        }
        let relieved = relieved.get_or_insert_with(|| module.clone());
        if !spill::relieve(relieved, &crowded, step) {
            break;
        }
        result = compile(relieved);
    }
    Ok((result?, relieved))
}

fn emit_as_is(
    module: &ir::Module,
    plan: &Plan,
    options: &Options,
    part: Part,
    file: FileType,
) -> Result<Vec<u8>, String> {
    let context = Context::create();
    let object = Object::new(&context, module, plan, options, part)?;
    object.optimise()?;
    if spill::has_copies(module) && object.longest() > LONG {
        return Err(TOO_LONG.to_owned());
    }
    object.emit(file)
}

/// Instructions of LLVM that make a function long. Jumps of BPF reach 32,767 of its own, and LLVM
/// does not survive one that has to go further.
const LONG: usize = 18_000;

/// A function is long, and has copies of loops' bodies.
const TOO_LONG: &str = "copies make a function too long";

impl Cpu {
    /// As LLVM calls it.
    pub fn name(self) -> &'static str {
        match self {
            Cpu::V1 => "v1",
            Cpu::V2 => "v2",
            Cpu::V3 => "v3",
            Cpu::V4 => "v4",
        }
    }
}
