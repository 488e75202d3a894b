//! From types to the layouts that cross to the run side.

use crate::host::Host;
use crate::plan::{Field, Layout};
use crate::types::{Bits, Member, StructRef, Type, TypeId};

/// Structs inside structs are shown to this depth.
const MAX_DEPTH: u32 = 8;

/// How the run side reads a value of a type.
pub fn of(ty: &Type, host: &Host) -> Layout {
    nested(ty, host, 0)
}

/// Members of a struct or union; none if nothing describes it.
pub fn members(host: &Host, of: &StructRef) -> Vec<Member> {
    match of.id {
        TypeId::Btf { .. } => host.btf().map(|b| b.members(of.id)).unwrap_or_default(),
        TypeId::Script(_) => Vec::new(),
    }
}

fn nested(ty: &Type, host: &Host, depth: u32) -> Layout {
    match ty {
        Type::Unknown | Type::Void | Type::Unsupported(_) => Layout::Unsupported { size: 0 },
        Type::Int { size, signed, .. } => Layout::Int { size: *size, signed: *signed },
        Type::Bool => Layout::Bool,
        Type::Enum(e) => {
            let constants = host.btf().map(|b| b.enum_constants(e.id)).unwrap_or_default();
            let names = constants.into_iter().map(|(name, value)| (value, name)).collect();
            Layout::Enum { size: e.size, signed: e.signed, names }
        }
        Type::Ptr { .. } => Layout::Pointer,
        Type::Str(size) => Layout::Str { size: *size },
        Type::Buffer(size) => Layout::Buffer { size: *size },
        Type::Array { of, len } => Layout::Array {
            of: Box::new(nested(of, host, depth + 1)),
            stride: of.size(),
            len: *len,
        },
        Type::Struct(s) => structure(s, host, depth),
        Type::Tuple(types) => Layout::Tuple {
            fields: types
                .iter()
                .zip(ty.offsets())
                .map(|(t, offset)| field("", offset, nested(t, host, depth + 1)))
                .collect(),
            size: ty.size(),
        },
        Type::Record(list) => Layout::Record {
            fields: list
                .iter()
                .zip(ty.offsets())
                .map(|((name, t), offset)| field(name, offset, nested(t, host, depth + 1)))
                .collect(),
            size: ty.size(),
        },
        Type::Stack { user, mode, limit } => {
            Layout::Stack { user: *user, mode: *mode, limit: *limit }
        }
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

fn structure(s: &StructRef, host: &Host, depth: u32) -> Layout {
    if depth > MAX_DEPTH {
        return Layout::Unsupported { size: s.size };
    }
    let fields = members(host, s)
        .iter()
        .map(|m| Field {
            name: m.name.clone(),
            offset: m.offset,
            layout: match m.bits {
                Some(Bits { size, .. }) => Layout::Int { size, signed: m.ty.is_signed() },
                None => nested(&m.ty, host, depth + 1),
            },
            bits: m.bits,
        })
        .collect();
    Layout::Record { fields, size: s.size }
}

/// A field without bits.
pub fn field(name: &str, offset: u32, layout: Layout) -> Field {
    Field { name: name.to_string(), offset, layout, bits: None }
}
