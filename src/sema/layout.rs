//! From types to the layouts that cross to the run side.

use crate::host::Host;
use crate::plan::{Field, Layout};
use crate::sema::cdefs::Definitions;
use crate::types::{Bits, Member, StructRef, Type, TypeId};

/// Structs inside structs are shown to this depth.
const MAX_DEPTH: u32 = 8;

/// How the run side reads a value of a type.
pub fn of(ty: &Type, host: &Host, cdefs: &Definitions) -> Layout {
    Reader { host, cdefs }.nested(ty, 0)
}

/// Members of a struct or union; none if nothing describes it.
pub fn members(host: &Host, cdefs: &Definitions, of: &StructRef) -> Vec<Member> {
    match of.id {
        TypeId::Btf { .. } => host.btf().map(|b| b.members(of.id)).unwrap_or_default(),
        TypeId::Script(_) => cdefs.members(of.id).to_vec(),
        TypeId::User(_) => host.user_types().members(of.id),
    }
}

/// Values of an enum with their names.
pub fn enum_names(host: &Host, cdefs: &Definitions, id: TypeId) -> Vec<(i64, String)> {
    match id {
        TypeId::Btf { .. } => {
            let constants = host.btf().map(|b| b.enum_constants(id)).unwrap_or_default();
            constants.into_iter().map(|(name, value)| (value, name)).collect()
        }
        TypeId::User(_) => host.user_types().enum_constants(id),
        TypeId::Script(_) => {
            #[allow(clippy::cast_possible_truncation, reason = "the bits of a 64-bit constant")]
            let pair = |(name, value): &(String, i128)| (*value as i64, name.clone());
            cdefs.enum_constants(id).iter().map(pair).collect()
        }
    }
}

struct Reader<'a> {
    host: &'a Host,
    cdefs: &'a Definitions,
}

impl Reader<'_> {
    fn nested(&self, ty: &Type, depth: u32) -> Layout {
        match ty {
            Type::Unknown | Type::Void | Type::Unsupported(_) => Layout::Unsupported { size: 0 },
            Type::Int { size, signed, .. } => Layout::Int { size: *size, signed: *signed },
            Type::Bool => Layout::Bool,
            Type::Enum(e) => Layout::Enum {
                size: e.size,
                signed: e.signed,
                names: enum_names(self.host, self.cdefs, e.id),
            },
            Type::Ptr { .. } => Layout::Pointer,
            Type::Str(size) => Layout::Str { size: *size },
            Type::Buffer(size) => Layout::Buffer { size: *size },
            Type::Array { of, len } => Layout::Array {
                of: Box::new(self.nested(of, depth + 1)),
                stride: of.size(),
                len: *len,
            },
            Type::Struct(s) => self.structure(s, depth),
            Type::Tuple(types) => Layout::Tuple {
                fields: types
                    .iter()
                    .zip(ty.offsets())
                    .map(|(t, offset)| field("", offset, self.nested(t, depth + 1)))
                    .collect(),
                size: ty.size(),
            },
            Type::Record(list) => Layout::Record {
                fields: list
                    .iter()
                    .zip(ty.offsets())
                    .map(|((name, t), offset)| field(name, offset, self.nested(t, depth + 1)))
                    .collect(),
                size: ty.size(),
            },
            Type::Stack { user, mode, .. } => Layout::Stack { user: *user, mode: *mode },
            Type::Ksym => Layout::Ksym,
            Type::Usym => Layout::Usym,
            Type::Inet => Layout::Inet,
            Type::Mac => Layout::Mac,
            Type::Username => Layout::Username,
            Type::Timestamp => Layout::Timestamp,
            Type::CgroupPath => Layout::CgroupPath,
            Type::Aggregate(a) => Layout::Int { size: 8, signed: a.signed() },
        }
    }

    fn structure(&self, s: &StructRef, depth: u32) -> Layout {
        if depth > MAX_DEPTH {
            return Layout::Unsupported { size: s.size };
        }
        let fields = members(self.host, self.cdefs, s)
            .iter()
            .map(|m| Field {
                name: m.name.clone(),
                offset: m.offset,
                layout: match m.bits {
                    Some(Bits { size, .. }) => Layout::Int { size, signed: m.ty.is_signed() },
                    None => match (self.nested(&m.ty, depth + 1), s.id) {
                        (layout, TypeId::Btf { .. }) => layout,
                        (layout, TypeId::Script(_) | TypeId::User(_)) => whole_text(layout),
                    },
                },
                bits: m.bits,
            })
            .collect();
        Layout::Record { fields, size: s.size }
    }
}

/// Arrays of characters in a definition of the script, or in a user program, may
/// be full of text.
fn whole_text(layout: Layout) -> Layout {
    match layout {
        Layout::Str { size } => Layout::Chars { size },
        Layout::Array { of, stride, len } => {
            Layout::Array { of: Box::new(whole_text(*of)), stride, len }
        }
        other => other,
    }
}

/// A field without bits.
pub fn field(name: &str, offset: u32, layout: Layout) -> Field {
    Field { name: name.to_string(), offset, layout, bits: None }
}
