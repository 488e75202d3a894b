//! Places: do they exist, and does an access stay inside.

use super::{Checker, Place, ensure};
use crate::ir::{Base, Home};

/// What a place starts from.
struct Extent {
    /// Nothing for the context, whose size depends on where it is attached.
    size: Option<u32>,
    writable: bool,
    /// Whether the processor's rules on alignment and the kernel's on variable
    /// offsets apply as to the stack.
    stack: bool,
}

impl Checker<'_> {
    /// Checks that `size` bytes at a place may be read.
    pub(super) fn read(&self, place: &Place, size: u32) -> Result<(), String> {
        self.access(place, size).map(|_| ())
    }

    /// Checks that `size` bytes at a place may be written.
    pub(super) fn write(&self, place: &Place, size: u32) -> Result<(), String> {
        let extent = self.access(place, size)?;
        ensure(extent.writable, || format!("a write to {:?}", place.base))
    }

    fn access(&self, place: &Place, size: u32) -> Result<Extent, String> {
        let extent = self.extent(place.base)?;
        let mut end = u64::from(place.offset) + u64::from(size);
        if let Some(index) = &place.index {
            self.expr(&index.value)?;
            ensure(index.count > 0, || "an index into nothing".to_owned())?;
            ensure(!extent.stack, || format!("an index into {:?}", place.base))?;
            end += u64::from(index.count - 1) * u64::from(index.stride);
        }
        if let Some(limit) = extent.size {
            ensure(end <= limit.into(), || {
                format!("an access to {:?} ends at {end}, beyond {limit}", place.base)
            })?;
        }
        Ok(extent)
    }

    fn extent(&self, base: Base) -> Result<Extent, String> {
        match base {
            Base::Slot(id) => {
                let slot = self.program.slots.get(id.0 as usize);
                let slot = slot.ok_or_else(|| format!("there is no slot {}", id.0))?;
                let stack = slot.home == Home::Stack;
                Ok(Extent { size: Some(slot.size), writable: true, stack })
            }
            Base::Ptr(id) => {
                let bound = self.bound.get(id.0 as usize).copied().flatten();
                let bound = bound.ok_or_else(|| format!("pointer {} is not bound", id.0))?;
                Ok(Extent { size: Some(bound.size), writable: bound.writable, stack: false })
            }
            Base::Context => {
                self.context()?;
                Ok(Extent { size: None, writable: false, stack: true })
            }
            Base::Rodata(id) => {
                let rodata = self.module.rodata.get(id.0 as usize);
                let rodata = rodata.ok_or_else(|| format!("there is no constant {}", id.0))?;
                let size = u32::try_from(rodata.bytes.len()).ok();
                Ok(Extent { size, writable: false, stack: false })
            }
            Base::Losses => {
                Ok(Extent { size: Some(self.module.losses), writable: true, stack: false })
            }
            Base::Params => {
                let size = u32::try_from(8 * self.module.params.len()).ok();
                Ok(Extent { size, writable: false, stack: false })
            }
        }
    }

    /// Alignment of a place, at most 8.
    pub(super) fn align(&self, place: &Place) -> u32 {
        let base = match place.base {
            Base::Slot(id) => self.program.slots.get(id.0 as usize).map_or(1, |s| match s.home {
                Home::Stack if s.size >= 8 => 8,
                Home::Stack => s.align,
                Home::Scratch { offset } => at(8, offset),
            }),
            Base::Ptr(_) | Base::Context | Base::Rodata(_) | Base::Losses | Base::Params => 8,
        };
        let stride = place.index.as_ref().map_or(0, |i| i.stride);
        at(at(base, stride), place.offset)
    }
}

/// Alignment of a multiple of `offset` from something aligned to `align`.
fn at(align: u32, offset: u32) -> u32 {
    match offset {
        0 => align,
        n => align.min(1 << n.trailing_zeros()),
    }
}
