//! Facts about the kernel's types in expressions: numbers where the script is compiled for the
//! running kernel, and left to the loader in objects for others.
//!
//! A struct of the script that is called like one of the kernel with `___` and anything behind it is a
//! view of that one, as libbpf has it: its members are looked for in the kernel's, by their names. So a
//! script can name what only other kernels have, and ask whether it is there.

use super::Checker;
use super::access::Struct;
use super::lower::kernel::{root_of, step};
use super::tree::{Expr, ExprKind};
use crate::diag::Diagnostic;
use crate::host::Host;
use crate::ir::{Fact, Relocation, Root, Step, Tag};
use crate::parser::ast::TypeTag;
use crate::plan::Param;
use crate::plan::portable::Lookup;
use crate::source::{Span, Spanned};
use crate::types::{EnumRef, Member, StructRef, Type, TypeId};

/// What stands between a struct's name in the kernel and what a script adds.
const FLAVOR: &str = "___";

/// The kernel's name of a struct, if the script's is a view of it.
pub(crate) fn flavor_of(of: &StructRef) -> Option<&str> {
    let own = matches!(of.id, TypeId::Script(_));
    let (name, _) = of.name.split_once(FLAVOR).filter(|(name, _)| own && !name.is_empty())?;
    Some(name)
}

/// The struct of the kernel that a view of the script is of.
pub(crate) fn behind_flavor(host: &Host, of: &StructRef) -> Option<StructRef> {
    let tag = if of.union { TypeTag::Union } else { TypeTag::Struct };
    match host.btf().ok()?.find_type(Some(tag), flavor_of(of)?)? {
        Type::Struct(s) => Some(s),
        _ => None,
    }
}

/// A member of the kernel's struct, by the name that a view has.
pub(crate) fn member_behind(host: &Host, of: &StructRef, name: &str) -> Option<Member> {
    let kernel = behind_flavor(host, of)?;
    host.btf().ok()?.members(kernel.id).into_iter().find(|m| m.name == name)
}

impl Checker<'_> {
    fn fact(&self, row: Relocation, ty: Type, span: Span) -> Expr {
        match self.options.portable {
            true => Expr::new(ExprKind::Kernel(Box::new(row)), ty, span),
            false => Expr::new(ExprKind::Int(i128::from(row.here)), ty, span),
        }
    }

    /// Something that the machine is asked which loads the object.
    pub(crate) fn lookup(&mut self, what: Lookup, ty: Type, span: Span) -> Expr {
        let at = self.lookups.iter().position(|l| *l == what).unwrap_or_else(|| {
            self.lookups.push(what);
            self.lookups.len() - 1
        });
        let number = super::lower::index(at);
        Expr::new(ExprKind::Param(Param::Lookup(number)), ty, span)
    }

    /// The size of a type; of the kernel's structs, as the kernel that loads the object has it.
    pub(super) fn size_of(&self, ty: &Type, span: Span) -> Expr {
        let root = match ty {
            Type::Struct(s) if self.options.portable => root_of(self.host, s),
            _ => None,
        };
        let Some(root) = root else { return Expr::literal(i128::from(ty.size()), span) };
        let here = i64::from(root.size);
        let row = Relocation { root, path: Vec::new(), fact: Fact::TypeSize, here };
        self.fact(row, Type::INT64, span)
    }

    /// Where a member of a member … lies in a struct.
    pub(crate) fn member_offset(
        &mut self,
        of: &Type,
        path: &[Spanned<String>],
        span: Span,
    ) -> Option<Expr> {
        let (offset, steps) = self.way(of, path)?;
        let root = match of {
            Type::Struct(s) if self.options.portable => root_of(self.host, s),
            _ => None,
        };
        let Some(root) = root else { return Some(Expr::literal(i128::from(offset), span)) };
        let row = Relocation { root, path: steps, fact: Fact::Offset, here: i64::from(offset) };
        Some(self.fact(row, Type::INT64, span))
    }

    /// Members on the way through structs, and the offset of the last.
    fn way(&mut self, of: &Type, path: &[Spanned<String>]) -> Option<(u32, Vec<Step>)> {
        let mut ty = of.clone();
        let mut offset = 0u32;
        let mut steps = Vec::new();
        for name in path {
            let of = match &ty {
                Type::Struct(_) => Struct::of(&ty),
                _ => None,
            };
            let Some(of) = of else {
                let d = Diagnostic::error(name.span, format!("`{ty}` has no members"));
                self.fail(d);
                return None;
            };
            let member = self.member(&of, name)?;
            offset += member.offset;
            steps.push(step(&member));
            ty = member.ty;
        }
        Some((offset, steps))
    }

    /// A constant of an enum of the kernel.
    pub(super) fn enum_constant(&self, name: &str, of: EnumRef, value: i64, span: Span) -> Expr {
        let (tag, size) = (Tag::Enum, u32::from(of.size));
        let root = Root { tag, name: of.name.clone(), alias: false, size };
        let ty = Type::Enum(EnumRef { size: 8, ..of });
        // What has no name is found by none; such enums are C's way to write constants.
        if root.name.is_empty() {
            return Expr::new(ExprKind::Int(i128::from(value)), ty, span);
        }
        let fact = Fact::Value(name.to_owned());
        self.fact(Relocation { root, path: Vec::new(), fact, here: value }, ty, span)
    }

    /// `has_field`: whether the kernel has a member.
    pub(crate) fn has_field(&mut self, of: &Type, path: &[Spanned<String>], span: Span) -> Expr {
        let Type::Struct(s) = of else {
            let d = Diagnostic::error(span, format!("`{of}` has no members"));
            return self.fail(d);
        };
        if flavor_of(s).is_none() {
            let found = self.exists(s, path);
            if let (true, Some(root), None) = (self.options.portable, root_of(self.host, s), &found)
            {
                let name = path.last().map_or("", |n| n.node.as_str());
                let whole = format!("struct {}___other", root.name);
                let d = Diagnostic::error(
                    span,
                    format!("what `{name}` would be is not known here"),
                )
                .note(format!("this kernel's `struct {}` does not have it", root.name))
                .help(format!(
                    "define `{whole} {{ TYPE {name}; }}`, and ask `has_field({whole}, {name})`"
                ));
                return self.fail(d);
            }
            let (Some(root), Some(steps), true) =
                (root_of(self.host, s), found.clone(), self.options.portable)
            else {
                let truth = i128::from(found.is_some());
                return Expr::new(ExprKind::Int(truth), Type::Bool, span);
            };
            let row = Relocation { root, path: steps, fact: Fact::Exists, here: 1 };
            return self.fact(row, Type::Bool, span);
        }
        let Some((_, steps)) = self.way(of, path) else { return Expr::error(span) };
        let here = behind_flavor(self.host, s).and_then(|kernel| self.exists(&kernel, path));
        let tag = if s.union { Tag::Union } else { Tag::Struct };
        let root = Root { tag, name: s.name.clone(), alias: false, size: s.size };
        let here = i64::from(here.is_some());
        self.fact(Relocation { root, path: steps, fact: Fact::Exists, here }, Type::Bool, span)
    }

    fn exists(&self, of: &StructRef, path: &[Spanned<String>]) -> Option<Vec<Step>> {
        let mut of = of.clone();
        let mut steps = Vec::new();
        for (n, name) in path.iter().enumerate() {
            let members = super::layout::members(self.host, self.cdefs, &of);
            let member = members.into_iter().find(|m| m.name == name.node)?;
            steps.push(step(&member));
            match member.ty {
                Type::Struct(inner) => of = inner,
                _ if n + 1 == path.len() => {}
                _ => return None,
            }
        }
        Some(steps)
    }
}
