//! What is done with types when all are read: constant expressions ask for
//! them, and members get those of the language.

use std::collections::HashMap;

use super::reader::{CType, DraftBody, DraftMember, MAX_MEMBERS, Reader};
use super::{Body, Definition, Definitions};
use crate::diag::{self, Diagnostic};
use crate::host::btf;
use crate::lexer::c::Number;
use crate::parser::ast::TypeTag;
use crate::parser::cdef::ast::TypeName;
use crate::parser::cdef::constant::{Names, Wrong};
use crate::source::{Span, Spanned};
use crate::types::{EnumRef, Member, Space, StructRef, Type, TypeId};

impl Reader<'_> {
    pub(super) fn finish(mut self) -> Definitions {
        let mut types = Vec::with_capacity(self.drafts.len());
        for draft in &self.drafts {
            let (size, body) = match &draft.body {
                DraftBody::Declared | DraftBody::Later | DraftBody::Open => (0, Body::Declared),
                DraftBody::Enum { size, signed, list } => {
                    (*size, Body::Constants { signed: *signed, list: list.clone() })
                }
                DraftBody::Record { members, size, .. } => {
                    let mut flat = Vec::new();
                    self.flatten(members, 0, *size, &mut flat);
                    (*size, Body::Members(flat))
                }
            };
            types.push(Definition {
                tag: draft.tag,
                name: draft.name.clone(),
                span: draft.span,
                size: u32::try_from(size).unwrap_or(u32::MAX),
                body,
            });
        }
        let typedefs = std::mem::take(&mut self.typedefs);
        let typedefs = typedefs.into_iter().map(|(name, ty)| (name, self.convert(&ty.node)));
        Definitions {
            constants: HashMap::new(),
            functions: HashMap::new(),
            typedefs: typedefs.collect(),
            types,
            tags: std::mem::take(&mut self.tags),
            enumerators: std::mem::take(&mut self.enumerators),
        }
    }

    /// Members with their types, as if those of anonymous members stood in the
    /// struct itself. `start` is where they lie in it, in bits.
    fn flatten(&self, members: &[DraftMember], start: u64, size: u64, out: &mut Vec<Member>) {
        for member in members {
            if out.len() >= MAX_MEMBERS {
                return;
            }
            let bit = start + member.start;
            let Some(name) = &member.name else {
                self.flatten(self.draft_members(&member.ty), bit, size, out);
                continue;
            };
            let mut ty = self.convert(&member.ty);
            let (offset, bits) = match member.bits {
                None => (bit / 8, None),
                Some(width) => match btf::cover(bit, width, size) {
                    Some((offset, bits)) => (offset, Some(bits)),
                    None => {
                        ty = Type::Unsupported(format!("bit field of {width} bits"));
                        (bit / 8, None)
                    }
                },
            };
            let tag = match &member.ty {
                CType::Pointer { mark, .. } => mark.map(str::to_owned),
                _ => None,
            };
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            out.push(Member { name: name.clone(), ty, offset, bits, tag });
        }
    }

    fn convert(&self, ty: &CType) -> Type {
        match ty {
            CType::Known(ty) => ty.clone(),
            CType::Own(id) => self.reference(*id),
            CType::Pointer { to, mark } => {
                let space = if *mark == Some("user") { Space::User } else { Space::None };
                Type::ptr(self.convert(to), space)
            }
            CType::Array { of, len } => match self.convert(of) {
                Type::Unsupported(name) => {
                    let len = len.map_or(String::new(), |n| n.to_string());
                    Type::Unsupported(format!("{name}[{len}]"))
                }
                of => btf::array(of, u32::try_from(len.unwrap_or(0)).unwrap_or(u32::MAX)),
            },
            CType::Aligned { of, .. } => self.convert(of),
            CType::Function | CType::Void => Type::Void,
            CType::Error => Type::Unknown,
        }
    }

    fn reference(&self, id: u32) -> Type {
        let Some(draft) = self.draft(id) else { return Type::Unknown };
        let (name, id) = (draft.name.clone(), TypeId::Script(id));
        match &draft.body {
            DraftBody::Enum { size, signed, .. } => {
                let size = u8::try_from(*size).unwrap_or(4);
                Type::Enum(EnumRef { name, size, signed: *signed, id })
            }
            body => {
                let size = match body {
                    DraftBody::Record { size, .. } => u32::try_from(*size).unwrap_or(u32::MAX),
                    _ => 0,
                };
                let union = draft.tag == TypeTag::Union;
                Type::Struct(StructRef { union, name, size, id })
            }
        }
    }
}

/// The names and types of constant expressions.
impl Names for Reader<'_> {
    fn name(&mut self, name: &str, span: Span) -> Result<Number, Wrong> {
        let kernel = || Some(i128::from(self.btf?.find_enum_constant(name)?.1));
        match self.enumerators.get(name).map(|e| e.value).or_else(kernel) {
            Some(value) => {
                let int = i128::from(i32::MIN)..=i128::from(i32::MAX);
                let long = !int.contains(&value) && !(0..1 << 32).contains(&value);
                let unsigned = value > if long { i64::MAX.into() } else { i32::MAX.into() };
                Ok(Number { value, long, unsigned })
            }
            None => {
                let error = Diagnostic::error(span, format!("`{name}` is no constant"));
                let names = self.enumerators.keys().chain(&self.macros).map(String::as_str);
                Err(Box::new(match diag::nearest(name, names) {
                    Some(near) => error.did_you_mean(span, near),
                    None => error.note("no macro or enum constant above has this name"),
                }))
            }
        }
    }

    fn type_size(&mut self, ty: &TypeName) -> Result<(u64, u64), Wrong> {
        let resolved = self.type_name(ty);
        let unknown = || Box::new(Diagnostic::error(ty.span, "this type is not known"));
        self.size(&resolved, ty.span).map_err(|e| e.unwrap_or_else(unknown))
    }

    fn cast(&mut self, ty: &TypeName) -> Result<(u8, bool), Wrong> {
        let resolved = self.type_name(ty);
        match &resolved {
            CType::Pointer { .. } => Ok((8, false)),
            other => self.integer(other).ok_or_else(|| {
                Box::new(Diagnostic::error(ty.span, "a constant can be cast to integers only"))
            }),
        }
    }

    fn offset(&mut self, ty: &TypeName, path: &[Spanned<String>]) -> Result<u64, Wrong> {
        let mut resolved = self.type_name(ty);
        let mut offset = 0;
        for name in path {
            let (bytes, next) = self.member_at(&resolved, &name.node).ok_or_else(|| {
                let message = format!("there is no member `{}`", name.node);
                Box::new(Diagnostic::error(name.span, message))
            })?;
            offset += bytes;
            resolved = next;
        }
        Ok(offset)
    }
}

impl Reader<'_> {
    fn type_name(&mut self, ty: &TypeName) -> CType {
        let base = self.base(&ty.specifiers, None, None);
        self.declared(base, None, &ty.declarator)
    }

    /// Where a member starts, in bytes, and its type.
    fn member_at(&self, ty: &CType, name: &str) -> Option<(u64, CType)> {
        if let CType::Known(Type::Struct(s)) = ty {
            let member = self.btf?.members(s.id).into_iter().find(|m| m.name == name)?;
            return Some((member.offset.into(), CType::Known(member.ty)));
        }
        self.draft_members(ty).iter().find_map(|member| {
            let start = member.start / 8;
            match &member.name {
                Some(own) => (own == name).then(|| (start, member.ty.clone())),
                None => {
                    let (inner, ty) = self.member_at(&member.ty, name)?;
                    Some((start + inner, ty))
                }
            }
        })
    }
}
