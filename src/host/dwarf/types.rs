//! Types in debug information, as the language has them.

use gimli::{AttributeValue, DwAt};

use super::{Entry, Session, Unit, UserBinary};
use crate::host::btf::{array, cover};
use crate::types::{EnumRef, Member, Space, StructRef, Type};

/// Chains of types (typedefs, pointers) longer than this are damage.
const DEPTH: u32 = 32;

/// Members of one struct beyond this are damage.
const MEMBERS: usize = 20_000;

/// A type, and its text in the words of C.
pub(super) struct Described {
    pub(super) ty: Type,
    pub(super) text: String,
}

impl UserBinary<'_> {
    pub(super) fn void(&self) -> Described {
        Described { ty: Type::Void, text: "void".into() }
    }

    /// The type at a place.
    pub(super) fn describe(&self, session: &Session<'_>, at: usize, depth: u32) -> Described {
        let unknown = |what: &str| Described {
            ty: Type::Unsupported(what.to_owned()),
            text: what.to_owned(),
        };
        if depth > DEPTH {
            return unknown("?");
        }
        let Some((unit, entry)) = session.entry(at) else { return unknown("?") };
        let name = session.text(&unit, &entry, gimli::DW_AT_name);
        let size = number(&entry, gimli::DW_AT_byte_size).unwrap_or(0);
        let inner = || match Session::refers(&unit, &entry, gimli::DW_AT_type) {
            Some(at) => self.describe(session, at, depth + 1),
            None => self.void(),
        };
        let tagged = |tag: &str| match &name {
            Some(name) => format!("{tag} {name}"),
            None => format!("{tag} (anonymous)"),
        };
        let plain = name.clone().unwrap_or_default();
        let small = u32::try_from(size).unwrap_or(u32::MAX);
        match entry.tag() {
            gimli::DW_TAG_base_type => {
                let name = name.unwrap_or_default();
                let ty = base(&entry, size).unwrap_or_else(|| Type::Unsupported(name.clone()));
                Described { ty, text: name }
            }
            gimli::DW_TAG_const_type => {
                let inner = inner();
                let text = match inner.text.ends_with('*') {
                    true => format!("{}const", inner.text),
                    false => format!("const {}", inner.text),
                };
                Described { ty: inner.ty, text }
            }
            gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type => inner(),
            gimli::DW_TAG_typedef => Described { ty: inner().ty, text: plain },
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_reference_type
            | gimli::DW_TAG_rvalue_reference_type => {
                let inner = inner();
                let sign = if entry.tag() == gimli::DW_TAG_pointer_type { "*" } else { "&" };
                let blank = if inner.text.ends_with(['*', '&']) { "" } else { " " };
                let text = format!("{}{blank}{sign}", inner.text);
                Described { ty: Type::ptr(inner.ty, Space::User), text }
            }
            tag @ (gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type) => {
                let union = tag == gimli::DW_TAG_union_type;
                let text = tagged(if union { "union" } else { "struct" });
                let id = self.types.id(self.file, at);
                let ty = Type::Struct(StructRef { union, name: plain, size: small, id });
                Described { ty, text }
            }
            gimli::DW_TAG_enumeration_type => {
                let signed = self.constants(session, at).iter().any(|(value, _)| *value < 0);
                let size = u8::try_from(size).unwrap_or(4);
                let id = self.types.id(self.file, at);
                let text = tagged("enum");
                Described { ty: Type::Enum(EnumRef { name: plain, size, signed, id }), text }
            }
            gimli::DW_TAG_array_type => {
                let inner = inner();
                let lengths: Vec<u32> = session
                    .children(at)
                    .iter()
                    .filter(|(_, child)| child.tag() == gimli::DW_TAG_subrange_type)
                    .map(|(_, child)| length(child))
                    .collect();
                let text = lengths.iter().fold(inner.text, |t, n| format!("{t}[{n}]"));
                let ty = lengths.iter().rev().fold(inner.ty, |ty, n| array(ty, *n));
                Described { ty, text }
            }
            gimli::DW_TAG_subroutine_type => Described { ty: Type::Void, text: "function".into() },
            gimli::DW_TAG_unspecified_type => Described { ty: Type::Void, text: plain },
            _ => unknown(if plain.is_empty() { "?" } else { &plain }),
        }
    }

    /// Members of a struct or union, those of anonymous members and of base
    /// classes as if they stood in it.
    pub(super) fn members(&self, at: usize) -> Vec<Member> {
        let session = self.info.session();
        let mut members = Vec::new();
        let size = session.entry(at).and_then(|(_, e)| number(&e, gimli::DW_AT_byte_size));
        self.flatten(&session, at, 0, size.unwrap_or(0), 0, &mut members);
        members
    }

    fn flatten(
        &self,
        session: &Session<'_>,
        at: usize,
        start: u64,
        size: u64,
        depth: u32,
        out: &mut Vec<Member>,
    ) {
        if depth > DEPTH {
            return;
        }
        for (unit, entry) in session.children(at) {
            let base_class = entry.tag() == gimli::DW_TAG_inheritance;
            if !base_class && entry.tag() != gimli::DW_TAG_member
                || entry.has_attr(gimli::DW_AT_external)
                || out.len() >= MEMBERS
            {
                continue;
            }
            let Some(type_at) = Session::refers(&unit, &entry, gimli::DW_AT_type) else { continue };
            let offset = start + location(&unit, &entry);
            let described = self.describe(session, type_at, 0);
            let name = session.text(&unit, &entry, gimli::DW_AT_name);
            let Some(name) = name.filter(|n| !n.is_empty()) else {
                if let Type::Struct(s) = &described.ty
                    && let Some((_, inner)) = self.types.place(s.id)
                {
                    self.flatten(session, inner, offset, size, depth + 1, out);
                }
                continue;
            };
            let ty_size = u64::from(described.ty.size());
            let bits = match number(&entry, gimli::DW_AT_bit_size) {
                None | Some(0) => None,
                Some(width) => {
                    let bit = first_bit(&entry, start, offset, ty_size, width);
                    let width = u32::try_from(width).unwrap_or(u32::MAX);
                    match cover(bit, width, size) {
                        Some(bits) => Some(bits),
                        None => continue,
                    }
                }
            };
            let offset = bits.map_or(offset, |(offset, _)| offset);
            out.push(Member {
                name,
                ty: described.ty,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                bits: bits.map(|(_, bits)| bits),
                tag: None,
            });
        }
    }

    /// Constants of an enum.
    pub(super) fn enum_constants(&self, at: usize) -> Vec<(i64, String)> {
        self.constants(&self.info.session(), at)
    }

    fn constants(&self, session: &Session<'_>, at: usize) -> Vec<(i64, String)> {
        let children = session.children(at).into_iter();
        children
            .filter(|(_, child)| child.tag() == gimli::DW_TAG_enumerator)
            .filter_map(|(unit, child)| {
                let name = session.text(&unit, &child, gimli::DW_AT_name)?;
                let value = child.attr(gimli::DW_AT_const_value)?;
                let value =
                    value.sdata_value().or_else(|| value.udata_value().map(u64::cast_signed));
                Some((value?, name))
            })
            .collect()
    }
}

/// A number of an entry.
fn number(entry: &Entry<'_>, name: DwAt) -> Option<u64> {
    entry.attr(name)?.udata_value()
}

/// A type that is a number; `None` if we have nothing like it.
fn base(entry: &Entry<'_>, size: u64) -> Option<Type> {
    let Some(AttributeValue::Encoding(encoding)) = entry.attr_value(gimli::DW_AT_encoding) else {
        return None;
    };
    let size = u8::try_from(size).ok().filter(|s| matches!(s, 1 | 2 | 4 | 8))?;
    match encoding {
        gimli::DW_ATE_boolean if size == 1 => Some(Type::Bool),
        gimli::DW_ATE_signed | gimli::DW_ATE_signed_char => Some(Type::int(size, true)),
        gimli::DW_ATE_unsigned
        | gimli::DW_ATE_unsigned_char
        | gimli::DW_ATE_boolean
        | gimli::DW_ATE_address
        | gimli::DW_ATE_UTF => Some(Type::int(size, false)),
        _ => None,
    }
}

/// Elements of an array in one direction; 0 if that is not known.
fn length(entry: &Entry<'_>) -> u32 {
    let count = number(entry, gimli::DW_AT_count);
    let last = || number(entry, gimli::DW_AT_upper_bound)?.checked_add(1);
    u32::try_from(count.or_else(last).unwrap_or(0)).unwrap_or(0)
}

/// Where a member lies in its struct, in bytes.
fn location(unit: &Unit<'_>, entry: &Entry<'_>) -> u64 {
    let Some(attribute) = entry.attr(gimli::DW_AT_data_member_location) else { return 0 };
    if let Some(offset) = attribute.udata_value() {
        return offset;
    }
    let AttributeValue::Exprloc(expression) = attribute.value() else { return 0 };
    match expression.operations(unit.encoding()).next() {
        Ok(Some(gimli::Operation::PlusConstant { value })) => value,
        _ => 0,
    }
}

/// The first bit of a bit field in the outermost struct.
fn first_bit(entry: &Entry<'_>, start: u64, offset: u64, ty_size: u64, width: u64) -> u64 {
    if let Some(bit) = number(entry, gimli::DW_AT_data_bit_offset) {
        return start * 8 + bit;
    }
    // DWARF 3: from the other end of the integer that holds it.
    match number(entry, gimli::DW_AT_bit_offset) {
        Some(from_left) => {
            let holder = number(entry, gimli::DW_AT_byte_size).unwrap_or(ty_size) * 8;
            offset * 8 + holder.saturating_sub(from_left).saturating_sub(width)
        }
        None => offset * 8,
    }
}
