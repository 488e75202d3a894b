//! Functions that are defined elsewhere: declared here, called with words.

use inkwell::context::Context;
use inkwell::module::{Linkage, Module};
use inkwell::types::BasicMetadataTypeEnum;
use inkwell::values::FunctionValue;

use super::builder::{Builder, Word};
use super::debug::Debug;
use crate::ir::{Foreign, Origin};

/// libbpf looks for what stands in this section in the kernel's BTF.
const KERNEL: &str = ".ksyms";

/// A function that the module may call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'c> {
    function: FunctionValue<'c>,
    /// Bytes and sign of what it gives.
    result: Option<(u8, bool)>,
}

impl<'c> Declared<'c> {
    /// Declares a function, unless it is declared already.
    pub(super) fn new(
        context: &'c Context,
        llvm: &Module<'c>,
        debug: &Debug<'c>,
        foreign: &Foreign,
    ) -> Declared<'c> {
        let function = llvm.get_function(&foreign.name).unwrap_or_else(|| {
            let word = context.i64_type();
            let params: Vec<BasicMetadataTypeEnum<'c>> =
                foreign.prototype.params.iter().map(|_| word.into()).collect();
            // A function that gives nothing leaves a word that nobody reads.
            let ty = word.fn_type(&params, false);
            let function = llvm.add_function(&foreign.name, ty, Some(Linkage::External));
            if foreign.origin == Origin::Kernel {
                function.as_global_value().set_section(Some(KERNEL));
            }
            debug.declaration(function, foreign);
            function
        });
        Declared { function, result: foreign.prototype.result.register() }
    }

    /// Calls it; its result, extended as its type says, or zero.
    pub(super) fn call(&self, b: &Builder<'_, 'c>, args: &[Word<'c>]) -> Word<'c> {
        let word = b.call_function(self.function, args);
        match self.result {
            Some((size, signed)) => b.extend(b.hide(word), size * 8, signed),
            None => b.constant(0),
        }
    }
}

/// Declares the foreign functions of a module.
pub(super) fn declare<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    debug: &Debug<'c>,
    list: &[Foreign],
) -> Vec<Declared<'c>> {
    list.iter().map(|f| Declared::new(context, llvm, debug, f)).collect()
}
