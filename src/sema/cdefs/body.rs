//! Bodies of structs, unions and enums.

use super::Enumerator;
use super::place::{self, Field, Rules};
use super::reader::{CType, DraftBody, DraftMember, Reader};
use crate::diag::Diagnostic;
use crate::parser::ast::TypeTag;
use crate::parser::cdef::ast::{Base, Enum, Expr, MemberDeclarator, Record, Specifiers};
use crate::source::{Span, Spanned};
use crate::types::Type;

impl Reader<'_> {
    pub(super) fn record(
        &mut self,
        record: &Record,
        pack: Option<u32>,
        alias: Option<&Spanned<String>>,
    ) -> CType {
        let tag = if record.union { TypeTag::Union } else { TypeTag::Struct };
        let id = self.open(tag, record.name.as_ref(), alias, record.span);
        let wishes = self.wishes(&record.attributes, &[]);
        let mut members = Vec::new();
        let mut fields = Vec::new();
        for member in &record.members {
            let base = self.base(&member.specifiers, pack, None);
            let anonymous = MemberDeclarator { declarator: None, bits: None, span: member.span };
            let is_anonymous =
                matches!(&member.specifiers.base, Base::Record(r) if r.name.is_none());
            if member.declarators.is_empty() && !is_anonymous {
                if !matches!(member.specifiers.base, Base::Record(_) | Base::Enum(_)) {
                    let error = Diagnostic::error(member.span, "this declares nothing")
                        .help("a member needs a name");
                    self.diags.push(error);
                }
                continue;
            }
            let whole = [anonymous];
            let list = if member.declarators.is_empty() { &whole } else { &member.declarators[..] };
            for one in list {
                let of = (&member.specifiers, base.clone());
                if let Some((draft, field)) = self.member(of, one, wishes.packed) {
                    members.push(draft);
                    fields.push(field);
                }
            }
        }
        let rules = Rules {
            union: record.union,
            aligned: wishes.aligned,
            pack: pack.map(u64::from),
            nameless_align: self.host.arch().name == "aarch64",
        };
        let Some(placed) = place::place(&fields, rules) else {
            let error = Diagnostic::error(record.span, "this is too large");
            return self.error(error);
        };
        for (member, start) in members.iter_mut().zip(&placed.starts) {
            member.start = *start;
        }
        // What only takes room has done so.
        members.retain(|m| m.name.is_some() || m.bits.is_none());
        self.check_names(&members);
        let body = DraftBody::Record { members, size: placed.size, align: placed.align };
        if let Some(draft) = self.drafts.get_mut(id as usize) {
            draft.body = body;
        }
        CType::Own(id)
    }

    /// One member, and what matters for its place.
    fn member(
        &mut self,
        (specifiers, base): (&Specifiers, CType),
        member: &MemberDeclarator,
        packed: bool,
    ) -> Option<(DraftMember, Field)> {
        let attributes = member.declarator.as_ref().map_or(&[][..], |d| &d.attributes);
        let wishes = self.wishes(&specifiers.attributes, attributes);
        let ty = match &member.declarator {
            Some(declarator) => self.declared(base, wishes.mark, declarator),
            None => base,
        };
        let plain = member.declarator.as_ref().is_none_or(|d| d.derived.is_empty());
        let span = if plain { specifiers.span } else { member.span };
        let (size, align) = match self.size(&ty, span) {
            Ok(size) => size,
            Err(error) => {
                self.diags.list.extend(error.map(|e| *e));
                return None;
            }
        };
        let name = member.declarator.as_ref().and_then(|d| d.name.as_ref());
        let bits = match &member.bits {
            Some(width) => Some(self.width(&ty, size, width, name.is_some())?),
            None => None,
        };
        let draft = DraftMember {
            name: name.map(|n| n.node.clone()),
            span: name.map_or(span, |n| n.span),
            ty,
            start: 0,
            bits,
        };
        let field = Field {
            size,
            align,
            bits,
            packed: packed || wishes.packed,
            aligned: wishes.aligned,
            named: name.is_some(),
        };
        Some((draft, field))
    }

    /// The width of a bit field of a type with `size` bytes.
    fn width(&mut self, ty: &CType, size: u64, width: &Expr, named: bool) -> Option<u32> {
        if self.integer(ty).is_none() {
            let error = Diagnostic::error(width.span, "only integers can be bit fields");
            self.diags.push(error);
            return None;
        }
        let value = self.value(width)?.value;
        let most = match ty {
            CType::Known(Type::Bool) => 1,
            _ => i128::from(size * 8),
        };
        let least = i128::from(named);
        if value < least || value > most {
            let message = format!("a bit field of this type has {least} to {most} bits");
            self.diags.push(Diagnostic::error(width.span, message).at(format!("not {value}")));
            return None;
        }
        u32::try_from(value).ok()
    }

    fn check_names(&mut self, members: &[DraftMember]) {
        let mut names = Vec::new();
        self.names(members, &mut names);
        names.sort();
        let twice = names.windows(2).find_map(|pair| match pair {
            [a, b] if a.0 == b.0 => Some((a.clone(), b.1)),
            _ => None,
        });
        if let Some(((name, first), second)) = twice {
            self.diags.push(
                Diagnostic::error(second, format!("two members are called `{name}`"))
                    .label(first, "first here"),
            );
        }
    }

    fn names(&self, members: &[DraftMember], out: &mut Vec<(String, Span)>) {
        for member in members {
            match &member.name {
                Some(name) => out.push((name.clone(), member.span)),
                None => self.names(self.draft_members(&member.ty), out),
            }
        }
    }

    /// Members of a struct of the script; none of other types.
    pub(super) fn draft_members(&self, ty: &CType) -> &[DraftMember] {
        match ty {
            CType::Own(id) => match self.draft(*id).map(|d| &d.body) {
                Some(DraftBody::Record { members, .. }) => members,
                _ => &[],
            },
            CType::Aligned { of, .. } => self.draft_members(of),
            _ => &[],
        }
    }

    // Enums.

    pub(super) fn enumeration(&mut self, e: &Enum, alias: Option<&Spanned<String>>) -> CType {
        let id = self.open(TypeTag::Enum, e.name.as_ref(), alias, e.span);
        let wishes = self.wishes(&e.attributes, &[]);
        let mut list: Vec<(String, i128)> = Vec::new();
        let mut next = 0;
        for constant in &e.constants {
            let value = match &constant.value {
                Some(value) => self.value(value).map_or(next, |n| n.value),
                None => next,
            };
            if value > u64::MAX.into() {
                let error = Diagnostic::error(constant.name.span, "this constant is too large");
                self.diags.push(error.note("it does not fit 64 bits"));
            }
            next = value + 1;
            let name = constant.name.node.clone();
            list.push((name.clone(), value));
            let own = Enumerator { of: id, value, span: constant.name.span };
            if let Some(first) = self.enumerators.insert(name, own) {
                let message = format!("`{}` is defined twice", constant.name.node);
                self.diags.push(
                    Diagnostic::error(constant.name.span, message)
                        .label(first.span, "first here")
                        .help("the constants of all enums share their names; rename one"),
                );
            }
        }
        let least = list.iter().map(|c| c.1).min().unwrap_or(0);
        let most = list.iter().map(|c| c.1).max().unwrap_or(0);
        let signed = least < 0;
        // As `int` or `unsigned int` unless that is too small, or packed.
        let fits = |bytes: &u64| {
            let bits = 8 * *bytes - u64::from(signed);
            most < 1 << bits && least >= -(1 << bits)
        };
        let sizes: &[u64] = if wishes.packed { &[1, 2, 4, 8] } else { &[4, 8] };
        let mut kind = (sizes.iter().copied().find(fits).unwrap_or(8), signed);
        if let Some(stored_as) = &e.stored_as {
            let ty = self.base(stored_as, None, None);
            match self.integer(&ty) {
                Some((size, signed)) => kind = (size.into(), signed),
                None if ty == CType::Error => {}
                None => {
                    let error =
                        Diagnostic::error(stored_as.span, "an enum is stored as an integer");
                    self.diags.push(error);
                }
            }
        }
        if let Some(draft) = self.drafts.get_mut(id as usize) {
            draft.body = DraftBody::Enum { size: kind.0, signed: kind.1, list };
        }
        CType::Own(id)
    }

    /// Bytes and sign of an integer type.
    pub(super) fn integer(&self, ty: &CType) -> Option<(u8, bool)> {
        match ty {
            CType::Known(ty) if ty.is_integer() => {
                Some((u8::try_from(ty.size()).ok()?, ty.is_signed()))
            }
            CType::Own(id) => match self.draft(*id)?.body {
                DraftBody::Enum { size, signed, .. } => Some((u8::try_from(size).ok()?, signed)),
                _ => None,
            },
            CType::Aligned { of, .. } => self.integer(of),
            _ => None,
        }
    }
}
