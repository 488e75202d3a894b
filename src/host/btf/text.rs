//! BTF types as C text, for listings.

use super::{Btf, COMPOSITES, ENUMS, Kind, Kinds, Ref, TypeTag};

/// Nesting beyond this is damage.
const DEPTH: u32 = 24;
/// Text beyond this many bytes is damage.
const LENGTH: usize = 1 << 20;

impl Btf {
    /// Every definition of a struct, union or enum of this name: the module
    /// that it is in and its C text without the final semicolon.
    pub fn definitions(&self, tag: TypeTag, name: &str) -> Vec<(String, String)> {
        let kinds = match tag {
            TypeTag::Struct => Kinds::of(Kind::Struct),
            TypeTag::Union => Kinds::of(Kind::Union),
            TypeTag::Enum => ENUMS,
        };
        self.tables()
            .filter_map(|(module, raw)| {
                let base = (module != 0).then_some(&self.base);
                let at = Ref { module, id: raw.find(base, kinds, name)? };
                Some((
                    self.module_name(module).to_owned(),
                    self.definition(at, 0, &mut LENGTH.clone()),
                ))
            })
            .collect()
    }

    /// A type as C spells it without a name: `const char *`, `int [4]`.
    pub(super) fn type_text(&self, at: Ref) -> String {
        self.declare(at, String::new(), 0, &mut LENGTH.clone())
    }

    /// A declaration of `inner`, which grows from the inside out.
    fn declare(&self, at: Ref, inner: String, depth: u32, room: &mut usize) -> String {
        let join = |base: &str, inner: &str| match inner {
            "" => base.to_owned(),
            inner => format!("{base} {inner}"),
        };
        *room = room.saturating_sub(1 + inner.len());
        if at.id == 0 {
            return join("void", &inner);
        }
        let Some(entry) = self.entry(at).filter(|_| depth < DEPTH && *room > 0) else {
            return join("?", &inner);
        };
        let name = self.string(at, entry.name);
        let next = self.reference(at.module, entry.size_or_type);
        match entry.kind {
            Kind::Int | Kind::Float | Kind::Typedef => join(name, &inner),
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 if name.is_empty() => {
                join(&self.definition(at, depth + 1, room), &inner)
            }
            Kind::Struct => join(&format!("struct {name}"), &inner),
            Kind::Union => join(&format!("union {name}"), &inner),
            Kind::Enum | Kind::Enum64 => join(&format!("enum {name}"), &inner),
            Kind::Fwd => {
                let word = if entry.kind_flag { "union" } else { "struct" };
                join(&format!("{word} {name}"), &inner)
            }
            Kind::Ptr => {
                let wraps = |e: super::Entry| matches!(e.kind, Kind::Array | Kind::FuncProto);
                let inner = if self.untagged(next).is_some_and(wraps) {
                    format!("(*{inner})")
                } else {
                    format!("*{inner}")
                };
                self.declare(next, inner, depth + 1, room)
            }
            Kind::Volatile | Kind::Const | Kind::Restrict => {
                let word = match entry.kind {
                    Kind::Volatile => "volatile",
                    Kind::Const => "const",
                    _ => "restrict",
                };
                if self.untagged(next).is_some_and(|e| e.kind == Kind::Ptr) {
                    self.declare(next, join(word, &inner), depth + 1, room)
                } else {
                    format!("{word} {}", self.declare(next, inner, depth + 1, room))
                }
            }
            Kind::TypeTag => self.declare(next, inner, depth + 1, room),
            Kind::Array => {
                let element = self.word(at, &entry, 0).unwrap_or(0);
                let len = self.word(at, &entry, 2).unwrap_or(0);
                let inner = match len {
                    0 => format!("{inner}[]"),
                    len => format!("{inner}[{len}]"),
                };
                self.declare(self.reference(at.module, element), inner, depth + 1, room)
            }
            Kind::FuncProto => {
                let params: Vec<String> = (0..entry.vlen as usize)
                    .filter_map(|i| {
                        let name = self.string(at, self.word(at, &entry, 2 * i)?).to_owned();
                        let ty = self.word(at, &entry, 2 * i + 1)?;
                        if ty == 0 && name.is_empty() {
                            return Some("...".into());
                        }
                        Some(self.declare(self.reference(at.module, ty), name, depth + 1, room))
                    })
                    .collect();
                let params = if params.is_empty() { "void".into() } else { params.join(", ") };
                self.declare(next, format!("{inner}({params})"), depth + 1, room)
            }
            Kind::Func | Kind::Var | Kind::DataSec | Kind::DeclTag | Kind::Other => {
                join("?", &inner)
            }
        }
    }

    fn untagged(&self, mut at: Ref) -> Option<super::Entry> {
        for _ in 0..DEPTH {
            let entry = self.entry(at)?;
            if entry.kind != Kind::TypeTag {
                return Some(entry);
            }
            at = self.reference(at.module, entry.size_or_type);
        }
        None
    }

    fn definition(&self, at: Ref, depth: u32, room: &mut usize) -> String {
        let Some(entry) = self.entry(at).filter(|_| depth < DEPTH && *room > 0) else {
            return "?".into();
        };
        let name = self.string(at, entry.name);
        let word = match entry.kind {
            Kind::Struct => "struct",
            Kind::Union => "union",
            _ => "enum",
        };
        let mut text = String::from(word);
        if !name.is_empty() {
            text = text + " " + name;
        }
        text.push_str(" {\n");
        // A nested definition is indented as a whole where it is put in.
        if ENUMS.has(entry.kind) {
            for (name, value) in self.constants(at, entry) {
                text += &format!("\t{} = {value},\n", self.string(at, name));
            }
        }
        let members = if COMPOSITES.has(entry.kind) { entry.vlen as usize } else { 0 };
        for i in 0..members {
            let words = [0, 1, 2].map(|n| self.word(at, &entry, 3 * i + n));
            let [Some(name), Some(ty), Some(offset)] = words else { break };
            let member = self.declare(
                self.reference(at.module, ty),
                self.string(at, name).to_owned(),
                depth + 1,
                room,
            );
            let width = if entry.kind_flag { offset >> 24 } else { 0 };
            text.push('\t');
            text += &member.replace('\n', "\n\t");
            if width > 0 {
                text += &format!(": {width}");
            }
            text.push_str(";\n");
            *room = room.saturating_sub(member.len());
            if *room == 0 {
                break;
            }
        }
        text.push('}');
        text
    }
}
