//! Members of structs and unions, with those of anonymous members as if they
//! stood in the parent.

use super::raw::{Entry, Kind};
use super::{Btf, COMPOSITES, Ref};
use crate::types::{Bits, Member, Type, TypeId};

/// Members of one struct beyond this are damage.
const MEMBERS: usize = 20_000;

/// The struct whose members are collected.
struct Outer {
    /// In bytes.
    size: u64,
    /// Members that may still be looked at.
    room: usize,
}

impl Btf {
    /// Members of a struct or union, those of anonymous members included, by
    /// their place in it; empty for other types.
    pub fn members(&self, id: TypeId) -> Vec<Member> {
        let mut members = Vec::new();
        if let Some((at, entry)) = self.composite(id) {
            let outer = Outer { size: u64::from(entry.size_or_type), room: MEMBERS };
            self.flatten(at, &entry, 0, 0, &mut { outer }, &mut members);
        }
        members
    }

    /// Where a member lies, through named and anonymous structs: `a.b.c`.
    /// Gives its offset and type.
    pub fn member_at(&self, id: TypeId, path: &str) -> Option<(u32, Type)> {
        let (head, rest) = path.split_once('.').unwrap_or((path, ""));
        let member = self.members(id).into_iter().find(|m| m.name == head)?;
        match (&member.ty, rest) {
            (_, "") => Some((member.offset, member.ty)),
            (Type::Struct(s), rest) => {
                let (offset, ty) = self.member_at(s.id, rest)?;
                Some((member.offset.checked_add(offset)?, ty))
            }
            _ => None,
        }
    }

    /// `start` is where the struct lies in the outermost one, in bits.
    fn flatten(
        &self,
        at: Ref,
        entry: &Entry,
        start: u64,
        depth: u32,
        outer: &mut Outer,
        out: &mut Vec<Member>,
    ) {
        for i in 0..entry.vlen as usize {
            let words = [0, 1, 2].map(|n| self.word(at, entry, 3 * i + n));
            let [Some(name), Some(ty), Some(offset)] = words else { return };
            let Some(room) = outer.room.checked_sub(1) else { return };
            outer.room = room;
            let (mut width, offset) =
                if entry.kind_flag { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
            let mut bit = start + u64::from(offset);
            let member = self.reference(at.module, ty);
            let name = self.string(at, name);
            let target = self.resolve(member);
            if name.is_empty() {
                if let Some((inner, e)) = target.filter(|(_, e)| COMPOSITES.has(e.kind))
                    && depth < 16
                {
                    self.flatten(inner, &e, bit, depth + 1, outer, out);
                }
                continue;
            }
            // Old BTF says it in the integer's own type.
            if let Some((int, e)) = target.filter(|(_, e)| e.kind == Kind::Int && width == 0) {
                let word = self.word(int, &e, 0).unwrap_or(0);
                if word & 0xff != 0 && word & 0xff != e.size_or_type.saturating_mul(8) {
                    width = word & 0xff;
                    bit += u64::from(word >> 16 & 0xff);
                }
            }
            let tag = target
                .filter(|(_, e)| e.kind == Kind::Ptr)
                .and_then(|(p, e)| self.tag(self.reference(p.module, e.size_or_type)));
            let mut ty = self.convert(member);
            let (offset, bits) = match width {
                0 => (bit / 8, None),
                width => match cover(bit, width, outer.size) {
                    Some((offset, bits)) => (offset, Some(bits)),
                    None => {
                        ty = Type::Unsupported(format!("bit field of {width} bits"));
                        (bit / 8, None)
                    }
                },
            };
            let Ok(offset) = u32::try_from(offset) else { continue };
            let tag = tag.map(str::to_owned);
            out.push(Member { name: name.to_owned(), ty, offset, bits, tag });
        }
    }
}

/// The bytes to read for a bit field: preferably aligned, never past the end
/// of the struct.
pub(crate) fn cover(bit: u64, width: u32, struct_size: u64) -> Option<(u64, Bits)> {
    let end = bit + u64::from(width);
    let bits = |start: u64, size: u8| {
        let shift = u8::try_from(bit - start * 8).ok()?;
        Some((start, Bits { size, shift, width: u8::try_from(width).ok()? }))
    };
    for size in [1, 2, 4, 8] {
        let start = bit / 8 / u64::from(size) * u64::from(size);
        let stop = start + u64::from(size);
        if end <= stop * 8 && stop <= struct_size {
            return bits(start, size);
        }
    }
    for size in [1, 2, 4, 8] {
        let start = (bit / 8).min(struct_size.saturating_sub(u64::from(size)));
        if end <= (start + u64::from(size)) * 8 && start + u64::from(size) <= struct_size {
            return bits(start, size);
        }
    }
    None
}
