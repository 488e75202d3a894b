//! From the tree of C definitions to types: names are resolved, lengths
//! computed, members placed.
//!
//! Declarations are read in their order, as C does. What a pointer points to may
//! be defined later, so members get their types at the end.

use std::collections::HashMap;

use super::{Definitions, Enumerator};
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::host::Host;
use crate::host::btf::{self, Btf};
use crate::lexer::c::Number;
use crate::parser::ast::TypeTag;
use crate::parser::cdef::Section;
use crate::parser::cdef::ast::{
    Attribute, Base, Declaration, Declarator, Derived, Expr, Specifiers,
};
use crate::parser::cdef::constant::{Wrong, evaluate};
use crate::source::{Span, Spanned};
use crate::types::Type;

/// Pointers to pointers, arrays of arrays and so on beyond this are a mistake.
const MAX_DEPTH: usize = 60;
/// Members of one struct, those of anonymous members included.
pub(super) const MAX_MEMBERS: usize = 20_000;
/// Alignment that no type exceeds: `__BIGGEST_ALIGNMENT__` of x86-64 and arm64.
const BIGGEST_ALIGNMENT: u64 = 16;
/// Types that C has and scripts cannot read: name, bytes, which is also how
/// they are aligned.
const UNREADABLE: [(&str, u64); 5] =
    [("float", 4), ("double", 8), ("long double", 16), ("__int128", 16), ("unsigned __int128", 16)];

/// A type while definitions are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CType {
    /// A base type or a type of the kernel.
    Known(Type),
    /// Of the script, by its number.
    Own(u32),
    Pointer {
        to: Box<CType>,
        mark: Option<&'static str>,
    },
    /// Without a length it takes no room.
    Array {
        of: Box<CType>,
        len: Option<u64>,
    },
    /// A typedef with its own alignment.
    Aligned {
        of: Box<CType>,
        align: u64,
    },
    Function,
    Void,
    /// A diagnostic exists.
    Error,
}

/// A struct, union or enum that is being read.
pub(super) struct Draft {
    pub(super) tag: TypeTag,
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) body: DraftBody,
}

pub(super) enum DraftBody {
    /// Only its name was seen.
    Declared,
    /// Its definition follows.
    Later,
    /// Its members are being read.
    Open,
    Record {
        members: Vec<DraftMember>,
        size: u64,
        align: u64,
    },
    Enum {
        size: u64,
        signed: bool,
        list: Vec<(String, i128)>,
    },
}

#[derive(Clone)]
pub(super) struct DraftMember {
    /// None for an anonymous struct or union.
    pub(super) name: Option<String>,
    pub(super) span: Span,
    pub(super) ty: CType,
    /// In bits, from the start of the struct.
    pub(super) start: u64,
    pub(super) bits: Option<u32>,
}

/// What the attributes at one place ask for.
#[derive(Default, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) packed: bool,
    pub(super) aligned: Option<u64>,
    pub(super) mark: Option<&'static str>,
}

pub(super) struct Reader<'a> {
    pub(super) host: &'a Host,
    pub(super) btf: Option<&'a Btf>,
    pub(super) diags: &'a mut Diagnostics,
    pub(super) drafts: Vec<Draft>,
    pub(super) tags: HashMap<String, u32>,
    pub(super) typedefs: HashMap<String, Spanned<CType>>,
    pub(super) enumerators: HashMap<String, Enumerator>,
    /// Names of macros, for suggestions: where they stood, their values do.
    pub(super) macros: Vec<String>,
    /// Of the kernel; looking one up takes a walk over all.
    pub(super) kernel: HashMap<(Option<TypeTag>, String), CType>,
}

/// Resolves what was parsed.
pub(super) fn read(section: Section, host: &Host, diags: &mut Diagnostics) -> Definitions {
    let mut reader = Reader {
        host,
        btf: host.btf().ok(),
        diags,
        drafts: Vec::new(),
        tags: HashMap::new(),
        typedefs: HashMap::new(),
        enumerators: HashMap::new(),
        macros: section.constants.keys().cloned().collect(),
        kernel: HashMap::new(),
    };
    for declaration in &section.declarations {
        reader.announce(&declaration.specifiers);
    }
    for declaration in &section.declarations {
        reader.declaration(declaration);
    }
    let mut definitions = reader.finish();
    definitions.constants = section.constants;
    definitions.functions = section.functions;
    if !diags.has_errors() {
        definitions.compare(host, diags);
    }
    definitions
}

impl Reader<'_> {
    pub(super) fn error(&mut self, error: Diagnostic) -> CType {
        self.diags.push(error);
        CType::Error
    }

    // Declarations.

    /// Gives numbers to all types that have a name, so that pointers can point
    /// to those that come later.
    fn announce(&mut self, specifiers: &Specifiers) {
        let (tag, name) = match &specifiers.base {
            Base::Record(r) if r.union => (TypeTag::Union, &r.name),
            Base::Record(r) => (TypeTag::Struct, &r.name),
            Base::Enum(e) => (TypeTag::Enum, &e.name),
            Base::Name(_) | Base::Tag { .. } | Base::Error => return,
        };
        if let Some(name) = name {
            if let Some(first) = self.tags.get(&name.node).and_then(|n| self.draft(*n)) {
                let error =
                    Diagnostic::error(name.span, format!("`{}` is defined twice", name.node))
                        .label(first.span, "first here")
                        .help("take one of them out, or rename it");
                self.diags.push(error);
            } else {
                let id = self.add(tag, name.node.clone(), name.span, DraftBody::Later);
                self.tags.insert(name.node.clone(), id);
            }
        }
        if let Base::Record(record) = &specifiers.base {
            for member in &record.members {
                self.announce(&member.specifiers);
            }
        }
    }

    fn declaration(&mut self, d: &Declaration) {
        if !d.typedef {
            // Prototypes and variables; a definition may stand before them.
            if matches!(d.specifiers.base, Base::Record(_) | Base::Enum(_)) {
                self.base(&d.specifiers, d.pack, None);
            }
            return;
        }
        let alias = d.declarators.first().filter(|d| d.derived.is_empty());
        let alias = alias.and_then(|d| d.name.as_ref());
        let base = self.base(&d.specifiers, d.pack, alias);
        for declarator in &d.declarators {
            let Some(name) = &declarator.name else { continue };
            let wishes = self.wishes(&d.specifiers.attributes, &declarator.attributes);
            let mut ty = self.declared(base.clone(), wishes.mark, declarator);
            if let Some(align) = wishes.aligned {
                ty = CType::Aligned { of: Box::new(ty), align };
            }
            if depth(&ty) > MAX_DEPTH {
                ty = self.error(Diagnostic::error(name.span, "this type is nested too deeply"));
            }
            // The same twice is allowed.
            if let Some(first) = self.typedefs.get(&name.node).filter(|f| f.node != ty) {
                let error =
                    Diagnostic::error(name.span, format!("`{}` is defined twice", name.node))
                        .label(first.span, "first here")
                        .help("take one of them out, or rename it");
                self.diags.push(error);
                continue;
            }
            self.typedefs.insert(name.node.clone(), Spanned::new(ty, name.span));
        }
    }

    /// What attributes at two places ask for together.
    pub(super) fn wishes(
        &mut self,
        first: &[Spanned<Attribute>],
        second: &[Spanned<Attribute>],
    ) -> Wishes {
        let mut wishes = Wishes::default();
        for attribute in first.iter().chain(second) {
            match &attribute.node {
                Attribute::Packed => wishes.packed = true,
                Attribute::Mark(mark) => wishes.mark = Some(mark),
                Attribute::Aligned(None) => {
                    wishes.aligned = Some(wishes.aligned.unwrap_or(1).max(BIGGEST_ALIGNMENT));
                }
                Attribute::Aligned(Some(n)) => {
                    let Some(value) = self.value(n) else { continue };
                    let bytes = u64::try_from(value.value).ok();
                    match bytes.filter(|n| n.is_power_of_two() && *n <= 1 << 28) {
                        Some(n) => wishes.aligned = Some(wishes.aligned.unwrap_or(1).max(n)),
                        None => {
                            let error = Diagnostic::error(n.span, "this is no alignment")
                                .at("not a power of two");
                            self.diags.push(error);
                        }
                    }
                }
            }
        }
        wishes
    }

    pub(super) fn value(&mut self, e: &Expr) -> Option<Number> {
        evaluate(e, self).map_err(|error| self.diags.push(*error)).ok()
    }

    // Types.

    pub(super) fn base(
        &mut self,
        specifiers: &Specifiers,
        pack: Option<u32>,
        alias: Option<&Spanned<String>>,
    ) -> CType {
        match &specifiers.base {
            Base::Name(name) => self.named(name, specifiers.span),
            Base::Tag { tag, name } => self.tagged(*tag, name, specifiers.span),
            Base::Record(record) => self.record(record, pack, alias),
            Base::Enum(e) => self.enumeration(e, alias),
            Base::Error => CType::Error,
        }
    }

    /// A type of one word, or of several such as `unsigned long`.
    fn named(&mut self, name: &str, span: Span) -> CType {
        if let Some(own) = self.typedefs.get(name) {
            return own.node.clone();
        }
        let known = self.of_kernel(None, name);
        if known != CType::Error {
            return known;
        }
        let mut error = Diagnostic::error(span, format!("unknown type `{name}`"));
        let names = self.typedefs.keys().map(String::as_str);
        if let Some(tag) = self.tags.get(name).and_then(|n| self.draft(*n)) {
            let whole = format!("{} {name}", tag.tag.word());
            error = error.help(format!("write `{whole}`")).replace(span, whole);
        } else if let Some(near) = diag::nearest(name, names) {
            error = error.did_you_mean(span, near);
        } else {
            error = error.note(match self.host.btf() {
                Ok(_) => "neither the script nor this kernel's BTF defines it".to_owned(),
                Err(why) => why,
            });
        }
        self.error(error)
    }

    /// `struct x` and the like, without a body.
    fn tagged(&mut self, tag: TypeTag, name: &str, span: Span) -> CType {
        if let Some(id) = self.tags.get(name).copied() {
            let Some(own) = self.draft(id) else { return CType::Error };
            if own.tag == tag {
                return CType::Own(id);
            }
            let error = Diagnostic::error(span, format!("`{name}` is no {}", tag.word()))
                .label(own.span, format!("it is defined as {} here", own.tag.word()));
            return self.error(error);
        }
        let known = self.of_kernel(Some(tag), name);
        if known != CType::Error {
            return known;
        }
        // Nothing is known of it; pointers to it are fine.
        let id = self.add(tag, name.to_owned(), span, DraftBody::Declared);
        self.tags.insert(name.to_owned(), id);
        CType::Own(id)
    }

    /// `Error`, without a diagnostic, if the kernel does not know it either.
    fn of_kernel(&mut self, tag: Option<TypeTag>, name: &str) -> CType {
        let key = (tag, name.to_owned());
        if let Some(known) = self.kernel.get(&key) {
            return known.clone();
        }
        let own = UNREADABLE.iter().find(|u| tag.is_none() && u.0 == name);
        let own = own.map(|(name, _)| Type::Unsupported((*name).to_owned()));
        let base = || btf::base_type(name).filter(|_| tag.is_none());
        let found = own.or_else(base).or_else(|| self.btf?.find_type(tag, name));
        let ty = match found {
            None => CType::Error,
            Some(Type::Void) => CType::Void,
            Some(ty) => CType::Known(ty),
        };
        self.kernel.insert(key, ty.clone());
        ty
    }

    pub(super) fn size_of_known(&self, ty: &Type) -> Option<(u64, u64)> {
        match ty {
            Type::Unsupported(name) => {
                let (_, size) = UNREADABLE.iter().find(|u| u.0 == name)?;
                Some((*size, *size))
            }
            _ => Some((ty.size().into(), self.align_of_known(ty, 0))),
        }
    }

    /// BTF does not say how a struct is aligned, but its members do. One whose
    /// members do not fit their alignment is packed.
    fn align_of_known(&self, ty: &Type, depth: usize) -> u64 {
        match ty {
            Type::Array { of, .. } => self.align_of_known(of, depth),
            Type::Struct(s) => {
                let Some(btf) = self.btf.filter(|_| depth < MAX_DEPTH) else { return 1 };
                let mut align = 1;
                for member in btf.members(s.id) {
                    let own = self.align_of_known(&member.ty, depth + 1);
                    if member.bits.is_none() && u64::from(member.offset) % own != 0 {
                        return 1;
                    }
                    align = align.max(own);
                }
                if u64::from(s.size) % align == 0 { align } else { 1 }
            }
            Type::Unsupported(name) => UNREADABLE.iter().find(|u| u.0 == name).map_or(1, |u| u.1),
            Type::Bool | Type::Int { .. } | Type::Enum(_) | Type::Ptr { .. } => ty.size().into(),
            _ => 1,
        }
    }

    /// The type that a declarator makes of its base.
    pub(super) fn declared(
        &mut self,
        base: CType,
        mut mark: Option<&'static str>,
        declarator: &Declarator,
    ) -> CType {
        let mut ty = base;
        for derived in declarator.derived.iter().rev() {
            ty = match derived {
                Derived::Pointer(attributes) => {
                    let refused = attributes.iter().find(|a| !matches!(a.node, Attribute::Mark(_)));
                    if let Some(refused) = refused {
                        let error = Diagnostic::error(refused.span, "this cannot stand here")
                            .help("put the attribute behind the name");
                        self.diags.push(error);
                    }
                    CType::Pointer { to: Box::new(ty), mark: mark.take() }
                }
                Derived::Array(len, span) => self.array(ty, len.as_ref(), *span),
                Derived::Function => CType::Function,
            };
        }
        ty
    }

    fn array(&mut self, of: CType, len: Option<&Expr>, span: Span) -> CType {
        let element = self.size(&of, span);
        if let Err(error) = element {
            return error.map_or(CType::Error, |error| self.error(*error));
        }
        let Some(len) = len else { return CType::Array { of: Box::new(of), len: None } };
        let Some(value) = self.value(len) else { return CType::Error };
        match u64::try_from(value.value).ok().filter(|n| *n <= 1 << 30) {
            Some(n) => CType::Array { of: Box::new(of), len: Some(n) },
            None => {
                let error = Diagnostic::error(len.span, "this is no length of an array");
                self.error(error.at(format!("it is {}", value.value)))
            }
        }
    }

    /// Size and alignment in bytes.
    ///
    /// # Errors
    /// Why they are not known; `None` if that was said before.
    pub(super) fn size(&self, ty: &CType, span: Span) -> Result<(u64, u64), Option<Wrong>> {
        match ty {
            CType::Known(ty) => self.size_of_known(ty).ok_or_else(|| {
                let message = format!("the size of `{ty}` is not known");
                Some(Box::new(Diagnostic::error(span, message).note("the kernel does not tell it")))
            }),
            CType::Own(id) => match self.draft(*id) {
                Some(Draft { body: DraftBody::Record { size, align, .. }, .. }) => {
                    Ok((*size, *align))
                }
                Some(Draft { body: DraftBody::Enum { size, .. }, .. }) => Ok((*size, *size)),
                Some(draft) => Err(Some(Box::new(incomplete(draft, span)))),
                None => Err(None),
            },
            CType::Pointer { .. } => Ok((8, 8)),
            CType::Array { of, len } => {
                let (size, align) = self.size(of, span)?;
                let total = size.checked_mul(len.unwrap_or(0)).filter(|n| *n <= 1 << 30);
                match total {
                    Some(total) => Ok((total, align)),
                    None => Err(Some(Box::new(Diagnostic::error(span, "the array is too large")))),
                }
            }
            CType::Aligned { of, align } => Ok((self.size(of, span)?.0, *align)),
            CType::Function => {
                Err(Some(Box::new(Diagnostic::error(span, "a function has no size"))))
            }
            CType::Void => {
                let error = Diagnostic::error(span, "`void` has no size");
                Err(Some(Box::new(error.help("write `void *` for an address"))))
            }
            CType::Error => Err(None),
        }
    }

    // Numbers of types.

    pub(super) fn draft(&self, id: u32) -> Option<&Draft> {
        self.drafts.get(id as usize)
    }

    pub(super) fn add(&mut self, tag: TypeTag, name: String, span: Span, body: DraftBody) -> u32 {
        let id = u32::try_from(self.drafts.len()).unwrap_or(u32::MAX);
        self.drafts.push(Draft { tag, name, span, body });
        id
    }

    /// The number of a definition whose body comes now.
    pub(super) fn open(
        &mut self,
        tag: TypeTag,
        name: Option<&Spanned<String>>,
        alias: Option<&Spanned<String>>,
        span: Span,
    ) -> u32 {
        let id = name.and_then(|n| {
            let id = *self.tags.get(&n.node)?;
            let draft = self.draft(id)?;
            (draft.span == n.span).then_some(id)
        });
        let id = id.unwrap_or_else(|| {
            // Without a name, its typedef is how messages call it.
            let name = name.or(alias).map_or(String::new(), |n| n.node.clone());
            self.add(tag, name, alias.map_or(span, |a| a.span), DraftBody::Open)
        });
        if let Some(draft) = self.drafts.get_mut(id as usize) {
            draft.body = DraftBody::Open;
        }
        id
    }
}

/// Levels of pointers and arrays.
fn depth(ty: &CType) -> usize {
    let (mut levels, mut at) = (0, ty);
    while let CType::Pointer { to: of, .. } | CType::Array { of, .. } | CType::Aligned { of, .. } =
        at
    {
        levels += 1;
        at = of;
    }
    levels
}

fn incomplete(draft: &Draft, span: Span) -> Diagnostic {
    let shown = format!("`{} {}`", draft.tag.word(), draft.name);
    match draft.body {
        DraftBody::Open => Diagnostic::error(span, format!("{shown} contains itself"))
            .help("a struct can hold a pointer to its own type"),
        DraftBody::Later => {
            Diagnostic::error(span, format!("{shown} is used before its definition"))
                .label(draft.span, "defined here")
                .help("put the definition above, or use a pointer to it")
        }
        _ => Diagnostic::error(span, format!("{shown} is declared, not defined"))
            .note("neither the script nor this kernel's BTF defines it"),
    }
}
