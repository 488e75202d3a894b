//! The LLVM module as a whole: what it consists of, optimising it, and the
//! ELF object (or text) that comes out.

use std::cell::RefCell;
use std::ffi::{CStr, c_void};

use inkwell::context::Context;
use inkwell::module::{Linkage, Module};
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple,
};
use inkwell::values::{FunctionValue, GlobalValue};
use inkwell::{AddressSpace, OptimizationLevel};
use llvm_sys::LLVMDiagnosticSeverity;
use llvm_sys::prelude::LLVMDiagnosticInfoRef;

use super::builder::{Builder, Pointer};
use super::debug::Debug;
use super::program::Shared;
use super::relocation::Relocations;
use super::{Cpu, Options, foreign, map, program};
use crate::ir;
use crate::plan::{self, Plan};

thread_local! {
    /// What LLVM complained about since [`Object::new`].
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A module on its way to an object file.
pub(super) struct Object<'c> {
    llvm: Module<'c>,
    machine: TargetMachine,
}

/// Some of the programs of a module, compiled by themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) number: usize,
    pub(super) of: usize,
}

impl Part {
    pub(super) const WHOLE: Part = Part { number: 0, of: 1 };

    /// Whether what all parts share is defined here, or only declared.
    pub(super) fn defines(self) -> bool {
        self.number == 0
    }

    /// Of so many programs, those of this part.
    fn programs(self, count: usize) -> std::ops::Range<usize> {
        count * self.number / self.of..count * (self.number + 1) / self.of
    }
}

/// Keeps an error; without a handler LLVM would print it and exit.
extern "C" fn note(info: LLVMDiagnosticInfoRef, _: *mut c_void) {
    // SAFETY: LLVM gives a valid diagnostic; the text is ours to dispose of.
    let (severity, text) = unsafe {
        let text = llvm_sys::core::LLVMGetDiagInfoDescription(info);
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        llvm_sys::core::LLVMDisposeMessage(text);
        (llvm_sys::core::LLVMGetDiagInfoSeverity(info), copy)
    };
    if severity == LLVMDiagnosticSeverity::LLVMDSError {
        ERRORS.with_borrow_mut(|errors| {
            if errors.last() != Some(&text) {
                errors.push(text);
            }
        });
    }
}

/// What of LLVM's optimisations pays for programs as lowering writes them: straight words,
/// few loops. Measured on the scripts of the tests: code as short as `default<O2>` makes it, in
/// less than half of the time. Only a `default` pipeline runs the BPF target's own passes.
const PASSES: &str = "default<O0>,function(sroa,early-cse<memssa>,simplifycfg,\
    instcombine<no-verify-fixpoint>,gvn,dse,adce,simplifycfg,instcombine<no-verify-fixpoint>),globaldce";

impl<'c> Object<'c> {
    /// Translates a module; nothing is optimised yet.
    ///
    /// # Errors
    /// LLVM's, which would be a bug of ours.
    pub(super) fn new(
        context: &'c Context,
        module: &ir::Module,
        plan: &'c Plan,
        options: &Options,
        part: Part,
    ) -> Result<Object<'c>, String> {
        ERRORS.with_borrow_mut(Vec::clear);
        // SAFETY: the handler needs no data and lives as long as the program.
        unsafe {
            llvm_sys::core::LLVMContextSetDiagnosticHandler(
                context.raw(),
                Some(note),
                std::ptr::null_mut(),
            );
        }
        let triple = if options.big_endian { "bpfeb" } else { module.arch.triple };
        let machine = machine(triple, options.cpu)?;
        let llvm = context.create_module("rtrace");
        llvm.set_source_file_name("");
        llvm.set_triple(&machine.get_triple());
        llvm.set_data_layout(&machine.get_target_data().get_data_layout());
        translate(context, &llvm, module, plan, options.cpu, part);
        if cfg!(debug_assertions) {
            llvm.verify().map_err(|e| e.to_string())?;
        }
        Ok(Object { llvm, machine })
    }

    /// Runs LLVM's passes.
    ///
    /// # Errors
    /// LLVM's, which would be a bug of ours.
    pub(super) fn optimise(&self) -> Result<(), String> {
        let options = PassBuilderOptions::create();
        self.llvm.run_passes(PASSES, &self.machine, options).map_err(|e| e.to_string())?;
        check()
    }

    /// Instructions of the longest function.
    pub(super) fn longest(&self) -> usize {
        let count = |f: FunctionValue<'_>| {
            f.get_basic_block_iter().map(|block| block.get_instructions().count()).sum()
        };
        self.llvm.get_functions().map(count).max().unwrap_or(0)
    }

    /// The module as LLVM's text.
    pub(super) fn text(&self) -> String {
        self.llvm.print_to_string().to_string()
    }

    /// The object file, or BPF assembly.
    ///
    /// # Errors
    /// LLVM's, which would be a bug of ours.
    pub(super) fn emit(&self, file: FileType) -> Result<Vec<u8>, String> {
        let buffer =
            self.machine.write_to_memory_buffer(&self.llvm, file).map_err(|e| e.to_string())?;
        // LLVM says Ok even after errors.
        check()?;
        Ok(match file {
            // inkwell counts a NUL after the text.
            FileType::Assembly => buffer.as_slice().strip_suffix(b"\0"),
            FileType::Object => None,
        }
        .unwrap_or(buffer.as_slice())
        .to_vec())
    }
}

fn check() -> Result<(), String> {
    ERRORS.with_borrow(|errors| match errors.as_slice() {
        [] => Ok(()),
        all => Err(all.join("\n")),
    })
}

fn machine(triple: &str, cpu: Cpu) -> Result<TargetMachine, String> {
    Target::initialize_bpf(&InitializationConfig::default());
    let triple = TargetTriple::create(triple);
    let target = Target::from_triple(&triple).map_err(|e| e.to_string())?;
    target
        .create_target_machine(
            &triple,
            cpu.name(),
            "",
            OptimizationLevel::Default,
            RelocMode::Default,
            CodeModel::Default,
        )
        .ok_or_else(|| "LLVM has no BPF target".to_owned())
}

fn translate<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    module: &ir::Module,
    plan: &'c Plan,
    cpu: Cpu,
    part: Part,
) {
    let debug = Debug::new(context, llvm, &plan.sources);
    let maps =
        module.maps.iter().map(|m| map::emit(context, llvm, &debug, m, plan, part)).collect();
    let scratch = map::emit_scratch(context, llvm, &debug, module, plan, part);
    let params = params(context, llvm, &debug, module.params.len(), part);
    let losses = losses(context, llvm, &debug, module.losses, part);
    let rodata = module
        .rodata
        .iter()
        .map(|r| bytes(context, llvm, &r.name, &r.bytes, ".rodata", r.align).as_pointer_value())
        .collect();
    license(context, llvm, &debug, &module.license);
    if part.defines() {
        let plan = bytes(context, llvm, "rt_plan", &plan.to_bytes(), plan::SECTION, 1);
        keep(context, llvm, plan);
    }
    let relocations = Relocations::new(&debug, &module.relocations);
    let foreign = foreign::declare(context, llvm, &debug, &module.foreign);
    let shared = Shared {
        context,
        llvm,
        builder: Builder::new(context, llvm),
        debug,
        maps,
        rodata,
        params,
        losses,
        scratch,
        functions: module.functions.iter().map(|f| f.name.clone()).collect(),
        foreign,
        relocations,
        cpu,
    };
    let functions = module.functions.len();
    let mine = part.programs(module.programs.len());
    for (number, program) in module.bodies().enumerate() {
        if number < functions || mine.contains(&(number - functions)) {
            program::emit(&shared, number, program);
        }
        // Every part has the functions; the linker keeps those of the first.
        if number < functions
            && !part.defines()
            && let Some(function) = llvm.get_function(&program.name)
            && function.get_linkage() == Linkage::External
        {
            function.set_linkage(Linkage::WeakAny);
        }
    }
    shared.debug.finish();
}

/// Constant bytes in a section, unknown outside.
fn bytes<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    name: &str,
    bytes: &[u8],
    section: &str,
    align: u32,
) -> GlobalValue<'c> {
    let value = context.const_string(bytes, false);
    let global = llvm.add_global(value.get_type(), None, name);
    global.set_initializer(&value);
    global.set_constant(true);
    global.set_section(Some(section));
    global.set_alignment(align);
    global.set_linkage(Linkage::Internal);
    global
}

fn license<'c>(context: &'c Context, llvm: &Module<'c>, debug: &Debug<'c>, license: &str) {
    let text = [license.as_bytes(), b"\0"].concat();
    let global = bytes(context, llvm, "_license", &text, "license", 1);
    global.set_linkage(Linkage::External);
    // As in C, since the linker compares the flags of the section.
    global.set_constant(false);
    debug.global(global, debug.array(debug.int(1, true), 1, text.len() as u64));
}

/// Tells LLVM not to drop a global that nothing refers to.
fn keep<'c>(context: &'c Context, llvm: &Module<'c>, global: GlobalValue<'c>) {
    let pointer = context.ptr_type(AddressSpace::default());
    let list = pointer.const_array(&[global.as_pointer_value()]);
    let used = llvm.add_global(list.get_type(), None, "llvm.compiler.used");
    used.set_initializer(&list);
    used.set_linkage(Linkage::Appending);
    used.set_section(Some("llvm.metadata"));
}

/// The counters of losses: memory that programs reach without a lookup.
fn losses<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    debug: &Debug<'c>,
    bytes: u32,
    part: Part,
) -> Option<Pointer<'c>> {
    let global = words(context, llvm, debug, "rt_losses", bytes / 8, part)?;
    global.set_section(Some(plan::LOSSES_MAP));
    Some(global.as_pointer_value())
}

/// The words that the run side fills in: constant for programs, but not yet
/// known to LLVM.
fn params<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    debug: &Debug<'c>,
    count: usize,
    part: Part,
) -> Option<Pointer<'c>> {
    let global = words(context, llvm, debug, "rt_params", u32::try_from(count).ok()?, part)?;
    global.set_constant(true);
    global.set_externally_initialized(part.defines());
    global.set_section(Some(plan::PARAMS_SECTION));
    Some(global.as_pointer_value())
}

/// So many words, zero at first; nothing for none.
fn words<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    debug: &Debug<'c>,
    name: &str,
    count: u32,
    part: Part,
) -> Option<GlobalValue<'c>> {
    let ty = context.i64_type().array_type(Some(count).filter(|&n| n > 0)?);
    let global = llvm.add_global(ty, None, name);
    if part.defines() {
        global.set_initializer(&ty.const_zero());
    }
    global.set_alignment(8);
    debug.global(global, debug.array(debug.int(8, false), 8, count.into()));
    Some(global)
}
