//! Facts about the kernel that the loader fills in, as CO-RE relocations.
//!
//! LLVM's BPF back end makes the records of `.BTF.ext` from intrinsics and from local types, which
//! have the members that the module asks about, and no others. It insists on a chain of intrinsics
//! from the type to the member, and on the pipeline that [`super::object`] runs.

use std::collections::HashMap;

use super::builder::{Builder, Word};
use super::debug::{Debug, Meta};
use crate::ir::{Fact, Relocation, Root, Shape, Step, Tag};

/// The local types of a module, and how its relocations refer to them.
pub(super) struct Relocations<'c> {
    rows: Vec<Row<'c>>,
}

/// A relocation in the terms of local types.
struct Row<'c> {
    fact: Fact,
    /// What the intrinsics of the way to the member carry, from the outside in: the struct or union,
    /// and the number of the member in it. For facts about a type: only the type.
    way: Vec<(Meta<'c>, Tag, u32)>,
    here: i64,
    ty: Meta<'c>,
}

/// Members of a local type.
#[derive(Default)]
struct Members<'r> {
    list: Vec<(&'r Step, Members<'r>)>,
}

impl<'r> Members<'r> {
    fn add(&mut self, path: &'r [Step]) {
        let [first, rest @ ..] = path else { return };
        let at = self.position(first).unwrap_or_else(|| {
            self.list.push((first, Members::default()));
            self.list.len() - 1
        });
        if let Some((_, inner)) = self.list.get_mut(at) {
            inner.add(rest);
        }
    }

    fn position(&self, step: &Step) -> Option<usize> {
        self.list.iter().position(|(known, _)| known.name == step.name)
    }
}

/// A local type with those of its unnamed members, which only it refers to.
struct Described<'c> {
    ty: Meta<'c>,
    tag: Tag,
    inner: HashMap<String, (u32, Option<Described<'c>>)>,
}

impl<'c> Relocations<'c> {
    /// Describes the types that the rows are about.
    pub(super) fn new(debug: &Debug<'c>, rows: &[Relocation]) -> Relocations<'c> {
        let mut roots: Vec<(&Root, Members<'_>)> = Vec::new();
        let mut constants: HashMap<&Root, Vec<(&str, i64)>> = HashMap::new();
        for row in rows {
            match roots.iter_mut().find(|(root, _)| *root == &row.root) {
                Some((_, members)) => members.add(&row.path),
                None => {
                    let mut members = Members::default();
                    members.add(&row.path);
                    roots.push((&row.root, members));
                }
            }
            if let Fact::Value(name) | Fact::ValueExists(name) = &row.fact {
                let list = constants.entry(&row.root).or_default();
                if !list.iter().any(|(known, _)| known == name) {
                    list.push((name, row.here));
                }
            }
        }
        let types: Vec<(&Root, Described<'c>)> = roots
            .iter()
            .map(|(root, members)| {
                let described = match root.tag {
                    Tag::Enum => {
                        let list = constants.get(root).map_or(&[][..], Vec::as_slice);
                        let ty = debug.enumeration(&root.name, root.size, list);
                        Described { ty, tag: root.tag, inner: HashMap::new() }
                    }
                    Tag::Struct | Tag::Union if root.alias => {
                        let inner = describe(debug, None, root.tag, root.size, members);
                        Described { ty: debug.alias(&root.name, inner.ty), ..inner }
                    }
                    Tag::Struct | Tag::Union => {
                        describe(debug, Some(&root.name), root.tag, root.size, members)
                    }
                };
                (*root, described)
            })
            .collect();
        let rows = rows.iter().map(|row| {
            let mut here = types.iter().find(|(root, _)| *root == &row.root).map(|(_, d)| d);
            let ty = here.expect("bug: the types are those of the rows").ty;
            let mut way = Vec::new();
            for step in &row.path {
                let outer = here.expect("bug: a path goes through structs");
                let (number, inner) =
                    outer.inner.get(&step.name).expect("bug: the types have what the rows need");
                way.push((outer.ty, outer.tag, *number));
                here = inner.as_ref();
            }
            Row { fact: row.fact.clone(), way, here: row.here, ty }
        });
        Relocations { rows: rows.collect() }
    }

    /// The value of a row.
    pub(super) fn word(&self, builder: &Builder<'_, 'c>, number: u32) -> Word<'c> {
        let row = self.rows.get(number as usize).expect("bug: an unknown relocation");
        // Numbers of `enum bpf_core_relo_kind` (linux/bpf.h), as the intrinsics take them.
        let info = |kind| builder.field_info(&row.way, kind);
        match &row.fact {
            Fact::Offset => info(0),
            Fact::Size => info(1),
            Fact::Exists => info(2),
            Fact::ShiftLeft => info(4),
            Fact::ShiftRight => info(5),
            Fact::TypeExists => builder.type_info(row.ty, 0),
            Fact::TypeSize => builder.type_info(row.ty, 1),
            Fact::ValueExists(name) => builder.enum_value(row.ty, name, row.here, 0),
            Fact::Value(name) => builder.enum_value(row.ty, name, row.here, 1),
        }
    }
}

fn describe<'c>(
    debug: &Debug<'c>,
    name: Option<&str>,
    tag: Tag,
    size: u32,
    members: &Members<'_>,
) -> Described<'c> {
    let mut inner = HashMap::new();
    let mut list = Vec::new();
    for (number, (step, below)) in (0u32..).zip(&members.list) {
        let described = match (&step.shape, below.list.is_empty()) {
            (Shape::Composite { union, size }, false) => {
                let tag = if *union { Tag::Union } else { Tag::Struct };
                Some(describe(debug, None, tag, *size, below))
            }
            _ => None,
        };
        let ty = described.as_ref().map_or_else(|| shape(debug, &step.shape), |d| d.ty);
        list.push((*step, ty));
        inner.insert(step.name.clone(), (number, described));
    }
    Described { ty: debug.composite(name, tag, size, &list), tag, inner }
}

fn shape<'c>(debug: &Debug<'c>, of: &Shape) -> Meta<'c> {
    match of {
        Shape::Int { size, signed } => debug.int(*size, *signed),
        Shape::Enum { name, size } => debug.enumeration(name, u32::from(*size), &[]),
        Shape::Pointer => debug.pointer(None),
        Shape::Composite { union, size } => {
            let tag = if *union { Tag::Union } else { Tag::Struct };
            debug.composite(None, tag, *size, &[])
        }
        Shape::Array { of, len } => debug.array(shape(debug, of), of.size(), u64::from(*len)),
    }
}
