//! Places in memory: addresses, copies, zeros.

use super::builder::{Fixed, Pointer, Word};
use super::frame::slot_align;
use super::program::Emitter;
use crate::ir::{Base, BinaryOp, Expr, Home, Index, Place, SlotId};

/// Words that are copied or zeroed by instructions of their own; more take a
/// loop. Measured: from here on, both are equally fast, and
/// `bpf_probe_read_kernel` takes twice as long at any size.
const INLINE_WORDS: u32 = 32;

/// Words that one round of such a loop moves.
const ROUND_WORDS: u32 = 8;

/// An address and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address<'c> {
    pub(super) pointer: Pointer<'c>,
    /// A power of two, at most 8.
    align: u32,
    /// Whether the verifier insists on alignment, as it does for the stack
    /// and for contexts; elsewhere the processor does not mind.
    strict: bool,
}

impl Address<'_> {
    /// The alignment to claim for an access of `size` bytes. BPF's LLVM would
    /// split every access whose alignment it cannot prove; so where unaligned
    /// accesses are fine, it is not told.
    pub(super) fn claim(self, size: u8) -> u32 {
        match self.strict {
            true => self.align.min(u32::from(size)),
            false => u32::from(size),
        }
    }

    /// The widest access to use here, in bytes.
    fn step(self) -> u32 {
        match self.strict {
            true => self.align,
            false => 8,
        }
    }
}

/// Alignment of a multiple of `offset` from something aligned to `align`.
fn align_at(align: u32, offset: u32) -> u32 {
    match offset {
        0 => align,
        n => align.min(1 << n.trailing_zeros()),
    }
}

impl<'c> Emitter<'_, 'c> {
    /// The address of a place.
    pub(super) fn address(&mut self, place: &Place) -> Address<'c> {
        let base = self.base(place.base);
        let b = &self.shared.builder;
        let (mut pointer, mut align) = (base.pointer, base.align);
        if let Some(index) = &place.index {
            let offset = self.index(index);
            pointer = b.element(pointer, offset);
            align = align_at(align, index.stride);
        }
        pointer = b.offset(pointer, place.offset);
        Address { pointer, align: align_at(align, place.offset), strict: base.strict }
    }

    fn base(&mut self, base: Base) -> Address<'c> {
        let loose = |pointer| Address { pointer, align: 8, strict: false };
        match base {
            Base::Slot(slot) => self.slot(slot),
            Base::Ptr(ptr) => {
                let bound = self.function.ptrs.get(ptr.0 as usize).copied().flatten();
                loose(bound.unwrap_or_else(|| {
                    let offset = self.frame.ptr(ptr).expect("bug: an unbound pointer");
                    self.shared.builder.load_pointer(self.in_frame(offset))
                }))
            }
            Base::Context => Address { pointer: self.context(), align: 8, strict: true },
            Base::Rodata(rodata) => {
                let known = self.shared.rodata.get(rodata.0 as usize);
                loose(*known.expect("bug: unknown constant bytes"))
            }
            Base::Losses => loose(self.shared.losses.expect("bug: no room for losses")),
            Base::Params => loose(self.shared.params.expect("bug: a module without parameters")),
        }
    }

    fn slot(&mut self, id: SlotId) -> Address<'c> {
        let number = id.0 as usize;
        let slot = self.program.slots.get(number).expect("bug: an unknown slot");
        let b = &self.shared.builder;
        let stack = |pointer| Address { pointer, align: slot_align(slot).min(8), strict: true };
        match slot.home {
            Home::Scratch { offset } => {
                let pointer = b.offset(self.scratch(), offset);
                Address { pointer, align: align_at(8, offset), strict: false }
            }
            Home::Stack => {
                if let Some(offset) = self.frame.slot(id) {
                    return stack(self.in_frame(offset));
                }
                if let Some(Some(pointer)) = self.function.slots.get(number) {
                    return stack(*pointer);
                }
                let pointer =
                    self.at_entry(|b| b.allocate(slot.size, slot_align(slot), &slot.name));
                if let Some(known) = self.function.slots.get_mut(number) {
                    *known = Some(pointer);
                }
                stack(pointer)
            }
        }
    }

    /// The bytes that an index adds, at most `(count - 1) * stride`.
    fn index(&mut self, index: &Index) -> Word<'c> {
        let b = &self.shared.builder;
        let last = i64::from(index.count.saturating_sub(1));
        let stride = b.constant(index.stride.into());
        if let Expr::Const(value) = index.value {
            let value = index.bound(value.cast_unsigned());
            return b.binary(BinaryOp::Mul, b.constant(value.cast_signed()), stride);
        }
        if let Some((_, known)) = self.indices.iter().find(|i| i.0 == *index) {
            return *known;
        }
        let value = self.word(&index.value);
        let value = match index.count.is_power_of_two() {
            // Hidden, so that LLVM does not find the bits clear already, and drops this.
            true => b.binary(BinaryOp::And, b.hide(value), b.constant(last)),
            false => self.bounded(value, last),
        };
        let offset = b.binary(BinaryOp::Mul, value, stride);
        self.indices.push((index.clone(), offset));
        offset
    }

    /// Copies `size` bytes.
    pub(super) fn copy(&mut self, to: &Place, from: &Place, size: u32) {
        let context = (from.base == Base::Context).then_some(from.offset);
        let to = self.address(to);
        let from = self.address(from);
        let b = &self.shared.builder;
        let step = to.step().min(from.step());
        let whole = self.rounds(size, to.strict || from.strict, |at| {
            for word in 0..ROUND_WORDS {
                let [to, from] = [to, from].map(|a| b.offset(b.element(a.pointer, at), word * 8));
                b.store(to, 8, b.load(from, 8, false, 8), 8);
            }
        });
        for (offset, bytes) in pieces(whole, size, step) {
            let value = match context {
                Some(start) => {
                    b.load_fixed(self.context(), start + offset, bytes, false, Fixed::Context)
                }
                None => b.load(b.offset(from.pointer, offset), bytes, false, bytes.into()),
            };
            b.store(b.offset(to.pointer, offset), bytes, value, bytes.into());
        }
    }

    /// Zeroes `size` bytes.
    pub(super) fn zero(&mut self, to: &Place, size: u32) {
        let to = self.address(to);
        let b = &self.shared.builder;
        let zero = b.constant(0);
        let whole = self.rounds(size, to.strict, |at| {
            for word in 0..ROUND_WORDS {
                b.store(b.offset(b.element(to.pointer, at), word * 8), 8, zero, 8);
            }
        });
        for (offset, bytes) in pieces(whole, size, to.step()) {
            b.store(b.offset(to.pointer, offset), bytes, zero, bytes.into());
        }
    }

    /// For more than [`INLINE_WORDS`]: a loop that makes one round for every
    /// [`ROUND_WORDS`] words. Gives the bytes that it has done. What lies on
    /// the stack is never that large.
    fn rounds(&self, size: u32, strict: bool, round: impl FnOnce(Word<'c>)) -> u32 {
        let bytes = ROUND_WORDS * 8;
        if size <= INLINE_WORDS * 8 || strict {
            return 0;
        }
        let b = &self.shared.builder;
        let whole = size / bytes * bytes;
        let counter = self.allocate_word("at");
        b.store(counter, 8, b.constant(0), 8);
        let [head, done] = ["copy", "done"].map(|n| b.block(self.function.value, n));
        b.jump(head);
        b.continue_in(head);
        let at = b.hide(b.load(counter, 8, false, 8));
        round(at);
        let next = b.binary(BinaryOp::Add, at, b.constant(bytes.into()));
        b.store(counter, 8, next, 8);
        let more = b.compare(BinaryOp::ULt, next, b.constant(whole.into()));
        b.branch(more.expect("bug: it is a comparison"), head, done);
        b.continue_in(done);
        whole
    }
}

/// Offsets and sizes of the accesses that cover `start..end`, the widest
/// first.
fn pieces(start: u32, end: u32, step: u32) -> impl Iterator<Item = (u32, u8)> {
    let mut at = start;
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|&n| n > 0)?;
        let size = [8u8, 4, 2, 1].into_iter().find(|&s| {
            let s = u32::from(s);
            s <= step && s <= left
        })?;
        let piece = (at, size);
        at += u32::from(size);
        Some(piece)
    })
}
