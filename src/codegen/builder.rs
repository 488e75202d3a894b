//! Instructions. The only caller of inkwell's instruction builder: plain
//! values in and out, and no result that could fail.
//!
//! It also keeps what LLVM may know within what the verifier can follow; see
//! [`Builder::hide`] and [`Builder::load_fixed`].

use std::cell::Cell;

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::basic_block::BasicBlock;
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::types::{BasicMetadataTypeEnum, BasicTypeEnum, FunctionType, IntType, PointerType};
use inkwell::values::{
    AsValueRef, BasicMetadataValueEnum, BasicValue, BasicValueEnum, CallSiteValue, FunctionValue,
    IntValue, PointerValue,
};
use inkwell::{AddressSpace, AtomicOrdering, AtomicRMWBinOp, IntPredicate};

use super::debug::Meta;
use crate::ir::{BinaryOp, Tag};

/// A 64-bit value.
pub(super) type Word<'c> = IntValue<'c>;
/// The outcome of a comparison: one bit.
pub(super) type Truth<'c> = IntValue<'c>;
pub(super) type Pointer<'c> = PointerValue<'c>;
pub(super) type Block<'c> = BasicBlock<'c>;

/// Why inkwell's builder cannot fail here: it is positioned, and types agree.
const BUILDS: &str = "bug: an instruction that LLVM refuses";

/// What a call may do to memory, as far as LLVM needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effects {
    /// The same result for the whole run of a program; calls can be merged.
    None,
    /// Every call counts, but no memory of the program changes.
    Hidden,
    Any,
}

/// An argument of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument<'c> {
    Word(Word<'c>),
    Pointer(Pointer<'c>),
}

/// What kind of pointer [`Builder::load_fixed`] loads through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixed {
    Context,
    Typed,
}

/// Appends instructions to a block.
pub(super) struct Builder<'a, 'c> {
    context: &'c Context,
    module: &'a Module<'c>,
    inner: inkwell::builder::Builder<'c>,
    word: IntType<'c>,
    pointer: PointerType<'c>,
    /// Assembly of no instruction: what goes in comes out, and LLVM does not
    /// know. For words, for pointers.
    hide_word: (FunctionType<'c>, PointerValue<'c>),
    hide_pointer: (FunctionType<'c>, PointerValue<'c>),
    /// The same for words, with a constant beside it.
    tag_word: (FunctionType<'c>, PointerValue<'c>),
    /// `memory(none)`, `memory(inaccessiblemem: readwrite)`, `nounwind`, `willreturn`.
    attributes: [Attribute; 4],
    /// Calls that must not be taken for one another, so far.
    calls: Cell<u64>,
}

impl<'a, 'c> Builder<'a, 'c> {
    pub(super) fn new(context: &'c Context, module: &'a Module<'c>) -> Builder<'a, 'c> {
        let word = context.i64_type();
        let pointer = context.ptr_type(AddressSpace::default());
        let assembly = |ty: FunctionType<'c>, constraints: &str, keep: bool| {
            let (text, constraints) = (String::new(), constraints.to_owned());
            (ty, context.create_inline_asm(ty, text, constraints, keep, false, None, false))
        };
        let attribute = |name: &str, value: u64| {
            context.create_enum_attribute(Attribute::get_named_enum_kind_id(name), value)
        };
        Builder {
            context,
            module,
            inner: context.create_builder(),
            word,
            pointer,
            hide_word: assembly(word.fn_type(&[word.into()], false), "=r,0", true),
            hide_pointer: assembly(pointer.fn_type(&[pointer.into()], false), "=r,0", true),
            tag_word: assembly(word.fn_type(&[word.into(); 2], false), "=r,0,i", false),
            attributes: [
                attribute("memory", 0),
                // Two bits per kind of memory (llvm/Support/ModRef.h): arguments, inaccessible.
                attribute("memory", 0b11 << 2),
                attribute("nounwind", 0),
                attribute("willreturn", 0),
            ],
            calls: Cell::new(0),
        }
    }

    // Blocks and jumps.

    pub(super) fn block(&self, function: FunctionValue<'c>, name: &str) -> Block<'c> {
        self.context.append_basic_block(function, name)
    }

    /// The block that instructions go to.
    pub(super) fn position(&self) -> Block<'c> {
        self.inner.get_insert_block().expect("bug: the builder is not positioned")
    }

    pub(super) fn move_to(&self, block: Block<'c>) {
        self.inner.position_at_end(block);
    }

    /// Goes on in a block, which takes its place after all that has been
    /// written, so that jumps lead forwards.
    pub(super) fn continue_in(&self, block: Block<'c>) {
        let function = block.get_parent().expect("bug: a block without a function");
        let last = function.get_last_basic_block().filter(|l| *l != block);
        if let Some(last) = last {
            block.move_after(last).expect(BUILDS);
        }
        self.inner.position_at_end(block);
    }

    /// The place in the script of the instructions that follow.
    pub(super) fn set_location(&self, location: Meta<'c>) {
        // SAFETY: builder and location belong to the same context, which is alive.
        unsafe {
            llvm_sys::core::LLVMSetCurrentDebugLocation2(self.inner.as_mut_ptr(), location.raw());
        }
    }

    pub(super) fn jump(&self, to: Block<'c>) {
        self.inner.build_unconditional_branch(to).expect(BUILDS);
    }

    pub(super) fn branch(&self, cond: Truth<'c>, then: Block<'c>, els: Block<'c>) {
        self.inner.build_conditional_branch(cond, then, els).expect(BUILDS);
    }

    pub(super) fn give(&self, value: Word<'c>) {
        self.inner.build_return(Some(&value)).expect(BUILDS);
    }

    // Words.

    pub(super) fn constant(&self, value: i64) -> Word<'c> {
        self.word.const_int(value.cast_unsigned(), true)
    }

    /// `left op right` for an operation that is not a comparison. Divisions
    /// are LLVM's: the caller keeps away zero and, for signed ones, cpu < v4.
    pub(super) fn binary(&self, op: BinaryOp, left: Word<'c>, right: Word<'c>) -> Word<'c> {
        let b = &self.inner;
        let count = |b: &inkwell::builder::Builder<'c>| {
            b.build_and(right, self.constant(63), "").expect(BUILDS)
        };
        let built = match op {
            BinaryOp::Add => b.build_int_add(left, right, ""),
            BinaryOp::Sub => b.build_int_sub(left, right, ""),
            BinaryOp::Mul => b.build_int_mul(left, right, ""),
            BinaryOp::UDiv => b.build_int_unsigned_div(left, right, ""),
            BinaryOp::UMod => b.build_int_unsigned_rem(left, right, ""),
            BinaryOp::SDiv => b.build_int_signed_div(left, right, ""),
            BinaryOp::SMod => b.build_int_signed_rem(left, right, ""),
            BinaryOp::And => b.build_and(left, right, ""),
            BinaryOp::Or => b.build_or(left, right, ""),
            BinaryOp::Xor => b.build_xor(left, right, ""),
            BinaryOp::Shl => b.build_left_shift(left, count(b), ""),
            BinaryOp::LShr => b.build_right_shift(left, count(b), false, ""),
            BinaryOp::AShr => b.build_right_shift(left, count(b), true, ""),
            BinaryOp::Eq
            | BinaryOp::Ne
            | BinaryOp::ULt
            | BinaryOp::ULe
            | BinaryOp::UGt
            | BinaryOp::UGe
            | BinaryOp::SLt
            | BinaryOp::SLe
            | BinaryOp::SGt
            | BinaryOp::SGe => {
                let truth = self.compare(op, left, right).expect("bug: it is a comparison");
                b.build_int_z_extend(truth, self.word, "")
            }
        };
        built.expect(BUILDS)
    }

    /// The outcome of a comparison; nothing for other operations.
    pub(super) fn compare(
        &self,
        op: BinaryOp,
        left: Word<'c>,
        right: Word<'c>,
    ) -> Option<Truth<'c>> {
        let predicate = match op {
            BinaryOp::Eq => IntPredicate::EQ,
            BinaryOp::Ne => IntPredicate::NE,
            BinaryOp::ULt => IntPredicate::ULT,
            BinaryOp::ULe => IntPredicate::ULE,
            BinaryOp::UGt => IntPredicate::UGT,
            BinaryOp::UGe => IntPredicate::UGE,
            BinaryOp::SLt => IntPredicate::SLT,
            BinaryOp::SLe => IntPredicate::SLE,
            BinaryOp::SGt => IntPredicate::SGT,
            BinaryOp::SGe => IntPredicate::SGE,
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::UDiv
            | BinaryOp::UMod
            | BinaryOp::SDiv
            | BinaryOp::SMod
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor
            | BinaryOp::Shl
            | BinaryOp::LShr
            | BinaryOp::AShr => return None,
        };
        Some(self.inner.build_int_compare(predicate, left, right, "").expect(BUILDS))
    }

    /// Whether a word is not zero.
    pub(super) fn truth(&self, word: Word<'c>) -> Truth<'c> {
        self.compare(BinaryOp::Ne, word, self.constant(0)).expect("bug: it is a comparison")
    }

    pub(super) fn is_null(&self, pointer: Pointer<'c>) -> Truth<'c> {
        self.inner.build_is_null(pointer, "").expect(BUILDS)
    }

    pub(super) fn select(&self, cond: Truth<'c>, then: Word<'c>, els: Word<'c>) -> Word<'c> {
        self.inner.build_select(cond, then, els, "").expect(BUILDS).into_int_value()
    }

    /// The low `bits`, extended again.
    pub(super) fn extend(&self, value: Word<'c>, bits: u8, signed: bool) -> Word<'c> {
        match self.int(bits / 8) {
            ty if ty == self.word => value,
            ty => {
                let cut = self.inner.build_int_truncate(value, ty, "").expect(BUILDS);
                self.widen(cut, signed)
            }
        }
    }

    fn widen(&self, value: IntValue<'c>, signed: bool) -> Word<'c> {
        if value.get_type() == self.word {
            return value;
        }
        let built = match signed {
            true => self.inner.build_int_s_extend(value, self.word, ""),
            false => self.inner.build_int_z_extend(value, self.word, ""),
        };
        built.expect(BUILDS)
    }

    /// The low `bits` with their bytes in the opposite order.
    pub(super) fn swap_bytes(&self, value: Word<'c>, bits: u8) -> Word<'c> {
        let ty = self.int(bits / 8);
        let cut = match ty == self.word {
            true => value,
            false => self.inner.build_int_truncate(value, ty, "").expect(BUILDS),
        };
        let swapped = self.intrinsic("llvm.bswap", &[ty.into()], &[cut.into()]).into_int_value();
        self.widen(swapped, false)
    }

    pub(super) fn unsigned_min(&self, left: Word<'c>, right: Word<'c>) -> Word<'c> {
        self.intrinsic("llvm.umin", &[self.word.into()], &[left.into(), right.into()])
            .into_int_value()
    }

    /// The same value, about which LLVM knows nothing. What is computed from
    /// it stays after this point and is not simplified by earlier knowledge,
    /// so the verifier sees a check and its use as they are written.
    pub(super) fn hide(&self, value: Word<'c>) -> Word<'c> {
        self.assembly(self.hide_word, &[value.into()]).into_int_value()
    }

    /// The same number, which the verifier does not know to be the same: what it learns of one
    /// (`sync_linked_regs`, kernel/bpf/verifier.c) it does not take over to the other.
    pub(super) fn copied(&self, value: Word<'c>) -> Word<'c> {
        self.binary(BinaryOp::Or, value, self.hide(self.constant(0)))
    }

    /// The same for a pointer: no arithmetic on it moves above its null check.
    pub(super) fn hide_pointer(&self, pointer: Pointer<'c>) -> Pointer<'c> {
        self.assembly(self.hide_pointer, &[pointer.into()]).into_pointer_value()
    }

    fn assembly(
        &self,
        (ty, text): (FunctionType<'c>, PointerValue<'c>),
        values: &[BasicMetadataValueEnum<'c>],
    ) -> BasicValueEnum<'c> {
        let call = self.inner.build_indirect_call(ty, text, values, "").expect(BUILDS);
        call.add_attribute(AttributeLoc::Function, self.attributes[2]);
        call.try_as_basic_value().expect_basic("bug: it has a result")
    }

    // Memory.

    /// Room on the stack.
    pub(super) fn allocate(&self, size: u32, align: u32, name: &str) -> Pointer<'c> {
        let ty = self.context.i8_type().array_type(size);
        let pointer = self.inner.build_alloca(ty, name).expect(BUILDS);
        let instruction = pointer.as_instruction().expect("bug: an alloca is an instruction");
        instruction.set_alignment(align).expect("bug: an alignment is a power of two");
        pointer
    }

    /// A word on the stack, which LLVM turns into registers if it can.
    pub(super) fn allocate_word(&self, name: &str) -> Pointer<'c> {
        self.inner.build_alloca(self.word, name).expect(BUILDS)
    }

    /// `pointer + offset` bytes.
    pub(super) fn offset(&self, pointer: Pointer<'c>, offset: u32) -> Pointer<'c> {
        match offset {
            0 => pointer,
            n => self.element(pointer, self.constant(i64::from(n))),
        }
    }

    /// `pointer + offset` bytes.
    pub(super) fn element(&self, pointer: Pointer<'c>, offset: Word<'c>) -> Pointer<'c> {
        // SAFETY: this only builds an address; that it lies in the object is for `ir::verify`
        // and, in the end, for the kernel's verifier to check.
        let built = unsafe {
            self.inner.build_in_bounds_gep(self.context.i8_type(), pointer, &[offset], "")
        };
        built.expect(BUILDS)
    }

    /// Loads 1, 2, 4 or 8 bytes and extends them.
    pub(super) fn load(&self, from: Pointer<'c>, size: u8, signed: bool, align: u32) -> Word<'c> {
        let value = self.inner.build_load(self.int(size), from, "").expect(BUILDS);
        align_access(value.as_instruction_value(), align);
        self.widen(value.into_int_value(), signed)
    }

    /// Makes the kernel's verifier forget which value a word on the stack has, by writing one
    /// of its bytes anew.
    ///
    /// Otherwise a word that each round of a callback changes (a count, say) is another known
    /// number after every round, and as soon as the program compares it, the verifier has to
    /// walk through every round there may be.
    pub(super) fn forget(&self, place: Pointer<'c>) {
        let byte = self.context.i8_type();
        let load = self.inner.build_load(byte, place, "").expect(BUILDS);
        let store = self.inner.build_store(place, load).expect(BUILDS);
        for access in [load.as_instruction_value(), Some(store)].into_iter().flatten() {
            access.set_volatile(true).expect("bug: loads and stores can be volatile");
        }
    }

    /// Loads from a pointer that must reach the verifier as it is, with the
    /// offset in the load instruction.
    ///
    /// The verifier takes no computed addresses for contexts, and no
    /// instruction that loads now from a context, now from something else.
    /// LLVM likes both: it merges two loads, in branches or in the arms of a
    /// selection, into one from a chosen address. So the address is made by an
    /// intrinsic that keeps its offset; the result goes through assembly of no
    /// instruction, tagged with the kind of pointer, which keeps a load from
    /// merging with others down to the last pass.
    pub(super) fn load_fixed(
        &self,
        base: Pointer<'c>,
        offset: u32,
        size: u8,
        signed: bool,
        kind: Fixed,
    ) -> Word<'c> {
        let base = self.intrinsic("llvm.preserve.static.offset", &[], &[base.into()]);
        let tag = match kind {
            Fixed::Context => 1,
            Fixed::Typed => 2,
        };
        // SAFETY: this only builds an address, as in `element`.
        let address = unsafe {
            self.inner.build_in_bounds_gep(
                self.context.i8_type(),
                base.into_pointer_value(),
                &[self.constant(offset.into())],
                "",
            )
        };
        let value = self.load(address.expect(BUILDS), size, signed, size.into());
        let tagged = [value.into(), self.constant(tag).into()];
        self.assembly(self.tag_word, &tagged).into_int_value()
    }

    /// Stores the low `size` bytes.
    pub(super) fn store(&self, to: Pointer<'c>, size: u8, value: Word<'c>, align: u32) {
        let ty = self.int(size);
        let value = match ty == self.word {
            true => value,
            false => self.inner.build_int_truncate(value, ty, "").expect(BUILDS),
        };
        let instruction = self.inner.build_store(to, value).expect(BUILDS);
        align_access(Some(instruction), align);
    }

    pub(super) fn load_pointer(&self, from: Pointer<'c>) -> Pointer<'c> {
        let value = self.inner.build_load(self.pointer, from, "").expect(BUILDS);
        align_access(value.as_instruction_value(), 8);
        value.into_pointer_value()
    }

    pub(super) fn store_pointer(&self, to: Pointer<'c>, value: Pointer<'c>) {
        let instruction = self.inner.build_store(to, value).expect(BUILDS);
        align_access(Some(instruction), 8);
    }

    /// `lock; *(u32 or u64 *)to += value`.
    pub(super) fn atomic_add(&self, to: Pointer<'c>, size: u8, value: Word<'c>) {
        let ty = self.int(size);
        // LLVM would turn the addition of a zero into an `or`, which old kernels lack.
        let value = self.hide(value);
        let value = match ty == self.word {
            true => value,
            false => self.inner.build_int_truncate(value, ty, "").expect(BUILDS),
        };
        // Monotonic and without a use of the result: the one form that Linux 5.10 knows.
        self.inner
            .build_atomicrmw(AtomicRMWBinOp::Add, to, value, AtomicOrdering::Monotonic)
            .expect(BUILDS);
    }

    pub(super) fn to_word(&self, pointer: Pointer<'c>) -> Word<'c> {
        self.inner.build_ptr_to_int(pointer, self.word, "").expect(BUILDS)
    }

    pub(super) fn to_pointer(&self, word: Word<'c>) -> Pointer<'c> {
        self.inner.build_int_to_ptr(word, self.pointer, "").expect(BUILDS)
    }

    pub(super) fn null(&self) -> Pointer<'c> {
        self.pointer.const_null()
    }

    // Calls.

    /// Calls helper `id` for its word.
    pub(super) fn call(&self, id: u32, args: &[Argument<'c>], effects: Effects) -> Word<'c> {
        self.helper(id, args, effects, self.word.into()).into_int_value()
    }

    /// Calls a function with words for a word.
    pub(super) fn call_function(&self, callee: FunctionValue<'c>, args: &[Word<'c>]) -> Word<'c> {
        let args: Vec<_> = args.iter().map(|a| (*a).into()).collect();
        let call = self.inner.build_call(callee, &args, "").expect(BUILDS);
        call.try_as_basic_value().expect_basic("bug: it has a result").into_int_value()
    }

    /// Calls a helper that gives a pointer.
    pub(super) fn call_pointer(&self, id: u32, args: &[Argument<'c>]) -> Pointer<'c> {
        self.helper(id, args, Effects::Any, self.pointer.into()).into_pointer_value()
    }

    fn helper(
        &self,
        id: u32,
        args: &[Argument<'c>],
        effects: Effects,
        result: BasicTypeEnum<'c>,
    ) -> BasicValueEnum<'c> {
        let types: Vec<BasicMetadataTypeEnum<'c>> = args
            .iter()
            .map(|a| match a {
                Argument::Word(_) => self.word.into(),
                Argument::Pointer(_) => self.pointer.into(),
            })
            .collect();
        let values: Vec<BasicMetadataValueEnum<'c>> = args
            .iter()
            .map(|a| match a {
                Argument::Word(w) => (*w).into(),
                Argument::Pointer(p) => (*p).into(),
            })
            .collect();
        let ty = match result {
            BasicTypeEnum::PointerType(p) => p.fn_type(&types, false),
            _ => self.word.fn_type(&types, false),
        };
        // The back end turns a call to a constant address into a call of that helper.
        let address = self.word.const_int(id.into(), false).const_to_pointer(self.pointer);
        let call = self.inner.build_indirect_call(ty, address, &values, "").expect(BUILDS);
        let [none, hidden, nounwind, willreturn] = self.attributes;
        let memory = match effects {
            Effects::None => Some(none),
            Effects::Hidden => Some(hidden),
            Effects::Any => None,
        };
        for attribute in memory.into_iter().chain([nounwind, willreturn]) {
            call.add_attribute(AttributeLoc::Function, attribute);
        }
        call.try_as_basic_value().expect_basic("bug: a helper has a result")
    }

    fn intrinsic(
        &self,
        name: &str,
        types: &[BasicTypeEnum<'c>],
        args: &[BasicMetadataValueEnum<'c>],
    ) -> BasicValueEnum<'c> {
        let call = self.intrinsic_call(name, types, args);
        call.try_as_basic_value().expect_basic("bug: the intrinsic has a result")
    }

    fn intrinsic_call(
        &self,
        name: &str,
        types: &[BasicTypeEnum<'c>],
        args: &[BasicMetadataValueEnum<'c>],
    ) -> CallSiteValue<'c> {
        let declaration = Intrinsic::find(name)
            .and_then(|i| i.get_declaration(self.module, types))
            .expect("bug: LLVM does not know the intrinsic");
        self.inner.build_call(declaration, args, "").expect(BUILDS)
    }

    // Facts about the kernel's types; LLVM makes relocations of these intrinsics.

    /// A fact about the member to which a way leads, by its number in `enum bpf_core_relo_kind`.
    pub(super) fn field_info(&self, way: &[(Meta<'c>, Tag, u32)], kind: u64) -> Word<'c> {
        let mut place = self.pointer.const_null();
        for (ty, tag, number) in way {
            let member = self.context.i32_type().const_int(u64::from(*number), false);
            let call = match tag {
                Tag::Union => {
                    let name = "llvm.preserve.union.access.index";
                    self.intrinsic_call(
                        name,
                        &[self.pointer.into(); 2],
                        &[place.into(), member.into()],
                    )
                }
                Tag::Struct | Tag::Enum => {
                    let name = "llvm.preserve.struct.access.index";
                    let args = [place.into(), member.into(), member.into()];
                    let call = self.intrinsic_call(name, &[self.pointer.into(); 2], &args);
                    // LLVM looks at its alignment only; where members are, is in the other type.
                    let fields = vec![self.word.into(); *number as usize + 1];
                    let layout = self.context.struct_type(&fields, false);
                    let element = Attribute::get_named_enum_kind_id("elementtype");
                    let element = self.context.create_type_attribute(element, layout.into());
                    call.add_attribute(AttributeLoc::Param(0), element);
                    call
                }
            };
            self.describe(call, *ty);
            let result = call.try_as_basic_value().expect_basic("bug: the intrinsic has a result");
            place = result.into_pointer_value();
        }
        let kind = self.word.const_int(kind, false);
        let name = "llvm.bpf.preserve.field.info";
        let call = self.intrinsic_call(name, &[self.pointer.into()], &[place.into(), kind.into()]);
        self.widened(call)
    }

    /// Whether there is a type (0), or its size (1).
    pub(super) fn type_info(&self, ty: Meta<'c>, kind: u64) -> Word<'c> {
        let args = [self.numbered(), self.word.const_int(kind, false).into()];
        let call = self.intrinsic_call("llvm.bpf.preserve.type.info", &[], &args);
        self.describe(call, ty);
        self.widened(call)
    }

    /// Whether there is a constant of an enum (0), or its value (1).
    pub(super) fn enum_value(&self, ty: Meta<'c>, name: &str, here: i64, kind: u64) -> Word<'c> {
        let text = format!("{name}:{here}");
        let text = self.inner.build_global_string_ptr(&text, "constant").expect(BUILDS);
        let args = [
            self.numbered(),
            text.as_pointer_value().into(),
            self.word.const_int(kind, false).into(),
        ];
        let call = self.intrinsic_call("llvm.bpf.preserve.enum.value", &[], &args);
        self.describe(call, ty);
        let result = call.try_as_basic_value().expect_basic("bug: the intrinsic has a result");
        result.into_int_value()
    }

    /// A number that keeps two calls apart.
    fn numbered(&self) -> BasicMetadataValueEnum<'c> {
        self.calls.set(self.calls.get() + 1);
        self.context.i32_type().const_int(self.calls.get(), false).into()
    }

    fn describe(&self, call: CallSiteValue<'c>, ty: Meta<'c>) {
        let kind = self.context.get_kind_id("llvm.preserve.access.index");
        // SAFETY: the call and the type belong to one living context.
        unsafe {
            let value = llvm_sys::core::LLVMMetadataAsValue(self.context.raw(), ty.raw());
            llvm_sys::core::LLVMSetMetadata(call.as_value_ref(), kind, value);
        }
    }

    fn widened(&self, call: CallSiteValue<'c>) -> Word<'c> {
        let result = call.try_as_basic_value().expect_basic("bug: the intrinsic has a result");
        self.inner.build_int_z_extend(result.into_int_value(), self.word, "").expect(BUILDS)
    }

    /// The integer type of 1, 2, 4 or 8 bytes.
    fn int(&self, size: u8) -> IntType<'c> {
        match size {
            1 => self.context.i8_type(),
            2 => self.context.i16_type(),
            4 => self.context.i32_type(),
            _ => self.word,
        }
    }
}

fn align_access(instruction: Option<inkwell::values::InstructionValue<'_>>, align: u32) {
    instruction
        .expect("bug: a memory access is an instruction")
        .set_alignment(align)
        .expect("bug: an alignment is a power of two");
}
