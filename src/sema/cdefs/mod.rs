//! What the C section of a script defines: types, enum constants, macros.
//!
//! Types of the kernel need no definition. What a script defines comes first for
//! the names that it defines; all other names, also inside its definitions, are
//! the kernel's.

mod body;
mod finish;
mod place;
mod reader;
#[cfg(test)]
mod tests;
pub(crate) mod well_known;

use std::collections::HashMap;

use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::Host;
use crate::parser::ast::TypeTag;
use crate::parser::cdef;
use crate::source::{Span, Spanned};
use crate::types::{EnumRef, Member, StructRef, Type, TypeId};

/// The C section of a script, resolved.
#[derive(Debug, Default)]
pub struct Definitions {
    constants: HashMap<String, Spanned<String>>,
    functions: HashMap<String, Span>,
    /// By the number in [`TypeId::Script`].
    types: Vec<Definition>,
    tags: HashMap<String, u32>,
    typedefs: HashMap<String, Type>,
    enumerators: HashMap<String, Enumerator>,
}

/// A struct, union or enum of the script.
#[derive(Debug)]
struct Definition {
    tag: TypeTag,
    /// Empty if it has none.
    name: String,
    span: Span,
    size: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Only its name is known.
    Declared,
    Members(Vec<Member>),
    Constants {
        signed: bool,
        list: Vec<(String, i128)>,
    },
}

#[derive(Debug)]
struct Enumerator {
    /// Number of its enum.
    of: u32,
    value: i128,
    span: Span,
}

impl Definitions {
    /// Reads the entries of a script's C section.
    /// `refused` has what to say of headers that could not be read, if they are needed.
    pub fn read(
        entries: &[Spanned<String>],
        refused: &[(String, Diagnostic)],
        host: &Host,
        diags: &mut Diagnostics,
    ) -> Definitions {
        // Reading the kernel's types takes a moment that most scripts can save.
        if entries.is_empty() {
            return Definitions::default();
        }
        let kernel_types = host.btf().is_ok();
        let mut predefined = vec![
            ("__BPF_TRACING__", "1"),
            ("KBUILD_MODNAME", "\"rtrace\""),
            ("__linux__", "1"),
            ("__LP64__", "1"),
            ("__LITTLE_ENDIAN_BITFIELD", "1"),
            ("__LITTLE_ENDIAN", "1234"),
            ("__BIG_ENDIAN", "4321"),
            ("__BYTE_ORDER", "1234"),
            ("__ORDER_LITTLE_ENDIAN__", "1234"),
            ("__ORDER_BIG_ENDIAN__", "4321"),
            ("__BYTE_ORDER__", "1234"),
            match host.arch().name {
                "x86_64" => ("__x86_64__", "1"),
                _ => ("__aarch64__", "1"),
            },
        ];
        if kernel_types {
            predefined.extend([("BPFTRACE_HAVE_BTF", "1"), ("_LINUX_TYPES_H", "1")]);
        }
        let constants = well_known::CONSTANTS;
        let options =
            cdef::Options { predefined: &predefined, included: constants, kernel_types, refused };
        let (section, found) = cdef::parse(entries, options);
        let broken = found.has_errors();
        diags.append(found);
        if broken {
            // What does not parse would be missed by what does.
            return Definitions {
                constants: section.constants,
                functions: section.functions,
                ..Definitions::default()
            };
        }
        reader::read(section, host, diags)
    }

    /// The text that a `#define` gives a name, and where it stands.
    pub fn constant(&self, name: &str) -> Option<&Spanned<String>> {
        self.constants.get(name)
    }

    /// Where a macro with parameters is defined.
    pub fn function_macro(&self, name: &str) -> Option<Span> {
        self.functions.get(name).copied()
    }

    /// The enum that declares a constant, and its value.
    pub fn enum_constant(&self, name: &str) -> Option<(EnumRef, i128)> {
        let found = self.enumerators.get(name)?;
        match self.reference(found.of)? {
            Type::Enum(of) => Some((of, found.value)),
            _ => None,
        }
    }

    /// Whether a name is that of a constant, of either kind.
    pub fn is_value(&self, name: &str) -> bool {
        self.constants.contains_key(name) || self.enumerators.contains_key(name)
    }

    /// Names of constants, for suggestions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.constants.keys().chain(self.enumerators.keys()).map(String::as_str)
    }

    /// The type that a name stands for: `struct x`, `union x`, `enum x`, or
    /// without a word before it a typedef.
    pub fn find_type(&self, tag: Option<TypeTag>, name: &str) -> Option<Type> {
        let Some(tag) = tag else { return self.typedefs.get(name).cloned() };
        let id = *self.tags.get(name)?;
        let found = self.types.get(id as usize)?;
        // A lone declaration says nothing about the kernel's type.
        let usable = found.tag == tag && !matches!(found.body, Body::Declared);
        usable.then(|| self.reference(id)).flatten()
    }

    /// Whether a tag of that name is declared, with a body or without.
    pub fn declares(&self, name: &str) -> bool {
        self.tags.contains_key(name)
    }

    /// Members of a struct or union, those of anonymous members included.
    pub fn members(&self, id: TypeId) -> &[Member] {
        match self.definition(id).map(|d| &d.body) {
            Some(Body::Members(members)) => members,
            _ => &[],
        }
    }

    /// Constants of an enum, in the order of their declaration.
    pub fn enum_constants(&self, id: TypeId) -> &[(String, i128)] {
        match self.definition(id).map(|d| &d.body) {
            Some(Body::Constants { list, .. }) => list,
            _ => &[],
        }
    }

    /// Where a type of the script is defined.
    pub fn span(&self, id: TypeId) -> Option<Span> {
        self.definition(id).map(|d| d.span)
    }

    fn definition(&self, id: TypeId) -> Option<&Definition> {
        match id {
            TypeId::Script(n) => self.types.get(n as usize),
            TypeId::Btf { .. } | TypeId::User(_) => None,
        }
    }

    fn reference(&self, id: u32) -> Option<Type> {
        let found = self.types.get(id as usize)?;
        let (name, id) = (found.name.clone(), TypeId::Script(id));
        Some(match &found.body {
            Body::Constants { signed, .. } => {
                let size = u8::try_from(found.size).unwrap_or(4);
                Type::Enum(EnumRef { name, size, signed: *signed, id })
            }
            Body::Declared | Body::Members(_) => {
                let union = found.tag == TypeTag::Union;
                Type::Struct(StructRef { union, name, size: found.size, id })
            }
        })
    }

    /// Warns about types that the kernel has too, with another shape.
    fn compare(&self, host: &Host, diags: &mut Diagnostics) {
        let Ok(btf) = host.btf() else { return };
        for (name, id) in &self.tags {
            let Some(own) = self.types.get(*id as usize) else { continue };
            let kernel = match &own.body {
                Body::Declared => continue,
                Body::Members(_) | Body::Constants { .. } => btf.find_type(Some(own.tag), name),
            };
            let differs = match (&kernel, &own.body) {
                (Some(Type::Struct(s)), Body::Members(own_members)) => {
                    let place = |m: &Member| (m.name.clone(), m.offset, m.bits);
                    let kernel: Vec<_> = btf.members(s.id).iter().map(place).collect();
                    s.size != own.size
                        || kernel != own_members.iter().map(place).collect::<Vec<_>>()
                }
                (Some(Type::Enum(e)), Body::Constants { list, .. }) => {
                    let kernel = btf.enum_constants(e.id);
                    let value = |(name, value): &(String, i64)| (name.clone(), i128::from(*value));
                    kernel.iter().map(value).collect::<Vec<_>>() != *list
                }
                _ => false,
            };
            if differs {
                let shown = format!("{} {name}", own.tag.word());
                let warning = format!("`{shown}` is another one than the kernel's");
                diags.push(
                    Diagnostic::warning(Warning::TypeReplaced, own.span, warning)
                        .note(format!("in this script, `{shown}` is the one defined here"))
                        .note("arguments and members that the kernel describes keep its own"),
                );
            }
        }
    }
}
