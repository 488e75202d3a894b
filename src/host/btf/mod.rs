//! Kernel types: BTF to [`Type`].
//!
//! In: the kernel's `/sys/kernel/btf/vmlinux` and, beside it, one file per
//! module that continues its numbering. Out: types, members, functions, enum
//! constants and C text. Nothing is indexed ahead: a script looks up a handful
//! of names, and one pass over the table of types is a fraction of what a hash
//! of all names would cost. Damaged BTF gives errors and missing names, never a
//! panic.

mod members;
mod names;
mod prototype;
mod raw;
mod text;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object::{Architecture, Object as _, ObjectSection as _};

use crate::parser::ast::TypeTag;
use crate::types::{EnumRef, Space, StructRef, Type, TypeId};

pub(crate) use members::cover;
pub(crate) use names::array;
pub use names::{base_type, parse_type};
use raw::{Entry, Kind, Kinds, Raw};

/// The types of the kernel and of its modules.
pub struct Btf {
    base: Raw,
    /// Files of modules lie here.
    dir: Option<PathBuf>,
    /// Names, sorted, and what was read; `TypeId::Btf { module }` is one more
    /// than the index.
    modules: OnceLock<Vec<Module>>,
    enum_signs: OnceLock<bool>,
}

struct Module {
    name: String,
    raw: OnceLock<Option<Raw>>,
}

/// A function that BTF describes.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Of the function itself, not of its prototype.
    pub id: TypeId,
    /// `vmlinux` or the name of a module.
    pub module: String,
    pub params: Vec<Param>,
    pub result: Type,
    /// C text of the result's type.
    pub result_text: String,
}

/// A parameter of a function or raw tracepoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Empty if BTF does not say.
    pub name: String,
    pub ty: Type,
    /// C text of the type (`const char *`).
    pub text: String,
}

impl Param {
    /// As listings show it: `struct file * file`.
    pub fn shown(&self) -> String {
        format!("{} {}", self.text, self.name)
    }
}

/// A number of a type, and the table that it counts in: 0 is vmlinux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ref {
    module: u16,
    id: u32,
}

impl Ref {
    fn public(self) -> TypeId {
        TypeId::Btf { module: self.module, id: self.id }
    }
}

const COMPOSITES: Kinds = Kinds::of(Kind::Struct).or(Kind::Union);
const TYPEDEF: Kinds = Kinds::of(Kind::Typedef);
const ENUMS: Kinds = Kinds::of(Kind::Enum).or(Kind::Enum64);
/// Chains of types (typedefs, qualifiers, pointers) longer than this are damage.
const DEPTH: u32 = 32;

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf").finish_non_exhaustive()
    }
}

impl Btf {
    /// Reads the kernel's BTF; files beside it are those of modules.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Btf, String> {
        Ok(Btf::of(Raw::open(path, None)?, path.parent().map(Path::to_owned)))
    }

    /// BTF from memory, without modules.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Btf, String> {
        Ok(Btf::of(Raw::of(bytes, None)?, None))
    }

    /// The BTF of a BPF object file.
    ///
    /// # Errors
    /// Why it has none.
    pub fn of_object(elf: &[u8]) -> Result<Btf, String> {
        let file = object::File::parse(elf).map_err(|_| "this is no object file".to_owned())?;
        if file.architecture() != Architecture::Bpf {
            return Err("this is not for BPF".to_owned());
        }
        let section = file.section_by_name(".BTF").ok_or("it says nothing of its types")?;
        let bytes = section.uncompressed_data().map_err(|e| e.to_string())?;
        let btf = Btf::from_bytes(bytes.into_owned());
        btf.map_err(|e| format!("its types cannot be read: {e}"))
    }

    fn of(base: Raw, dir: Option<PathBuf>) -> Btf {
        Btf { base, dir, modules: OnceLock::new(), enum_signs: OnceLock::new() }
    }

    /// Names of the modules that have BTF, sorted.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.module_list().iter().map(|m| m.name.as_str())
    }

    /// The type that a script names: `struct x`, `union x`, `enum x`, or
    /// without a word before it a typedef or base type (`size_t`, `unsigned
    /// long`, `u32`).
    pub fn find_type(&self, tag: Option<TypeTag>, name: &str) -> Option<Type> {
        let kinds = match tag {
            Some(TypeTag::Struct) => Kinds::of(Kind::Struct),
            Some(TypeTag::Union) => Kinds::of(Kind::Union),
            Some(TypeTag::Enum) => ENUMS,
            None => match base_type(name) {
                Some(ty) => return Some(ty),
                None => Kinds::of(Kind::Typedef).or(Kind::Int).or(Kind::Float),
            },
        };
        Some(self.convert(self.find(kinds, name)?))
    }

    /// Constants of an enum, in the order of their declaration.
    pub fn enum_constants(&self, id: TypeId) -> Vec<(String, i64)> {
        let Some(at) = self.own(id) else { return Vec::new() };
        let Some((at, entry)) = self.resolve(at) else { return Vec::new() };
        let constants = self.constants(at, entry);
        constants.map(|(name, value)| (self.string(at, name).to_owned(), value)).collect()
    }

    /// The enum that declares a constant, and its value.
    pub fn find_enum_constant(&self, name: &str) -> Option<(EnumRef, i64)> {
        self.tables().find_map(|(module, raw)| {
            raw.ids(ENUMS).find_map(|id| {
                let at = Ref { module, id };
                let entry = raw.entry(id)?;
                let (_, value) =
                    self.constants(at, entry).find(|(n, _)| self.string(at, *n) == name)?;
                Some((self.enum_ref(at, &entry, None), value))
            })
        })
    }

    /// A function of the kernel or, failing that, of a module.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.function_at(self.find(Kinds::of(Kind::Func), name)?)
    }

    /// Whether the kernel itself has a variable of that name for each CPU. The section that lists
    /// them is among the last of its types.
    pub fn has_percpu_variable(&self, name: &str) -> bool {
        let raw = &self.base;
        let Some(section) = raw.last(Kind::DataSec, ".data..percpu").and_then(|id| raw.entry(id))
        else {
            return false;
        };
        // struct btf_var_secinfo: type, offset, size.
        let variables =
            (0..section.vlen as usize).filter_map(|n| raw.entry(raw.word(&section, 3 * n)?));
        variables.into_iter().any(|v| raw.string(v.name) == Some(name))
    }

    /// A function of one module (`vmlinux` for the kernel itself).
    pub fn function_in(&self, module: &str, name: &str) -> Option<Function> {
        let (module, raw) = self.table(module)?;
        let base = (module != 0).then_some(&self.base);
        let id = raw.find(base, Kinds::of(Kind::Func), name)?;
        self.function_at(Ref { module, id })
    }

    /// Many functions of a module by name, in one pass; unknown ones are absent.
    pub fn functions_in(&self, module: &str, names: &HashSet<&str>) -> HashMap<String, Function> {
        let Some((module, raw)) = self.table(module) else { return HashMap::new() };
        let known = raw.ids(Kinds::of(Kind::Func)).filter_map(|id| {
            let at = Ref { module, id };
            let name = self.string(at, raw.entry(id)?.name);
            names.contains(name).then(|| Some((name.to_owned(), self.function_at(at)?)))?
        });
        let mut found = HashMap::new();
        for (name, function) in known {
            found.entry(name).or_insert(function);
        }
        found
    }

    /// The modules (`vmlinux` included) that have a function of this name.
    pub fn modules_of_function(&self, name: &str) -> Vec<String> {
        self.tables()
            .filter(|(module, raw)| {
                let base = (*module != 0).then_some(&self.base);
                raw.find(base, Kinds::of(Kind::Func), name).is_some()
            })
            .map(|(module, _)| self.module_name(module).to_owned())
            .collect()
    }

    /// Names of all functions of a module, in the order of the table.
    pub fn functions(&self, module: &str) -> Vec<&str> {
        self.names_of(module, Kinds::of(Kind::Func))
    }

    /// Events of raw tracepoints of a module: the `x` of `btf_trace_x`.
    pub fn raw_tracepoints(&self, module: &str) -> Vec<&str> {
        let names = self.names_of(module, TYPEDEF);
        names.into_iter().filter_map(|n| n.strip_prefix("btf_trace_")).collect()
    }

    /// The module that has a raw tracepoint, and its arguments; the internal
    /// first argument is left out.
    pub fn raw_tracepoint(&self, event: &str) -> Option<(String, Vec<Param>)> {
        self.raw_tracepoint_at(self.find(TYPEDEF, &format!("btf_trace_{event}"))?, event)
    }

    /// The same for a raw tracepoint of one module.
    pub fn raw_tracepoint_in(&self, module: &str, event: &str) -> Option<(String, Vec<Param>)> {
        let (module, raw) = self.table(module)?;
        let base = (module != 0).then_some(&self.base);
        let id = raw.find(base, TYPEDEF, &format!("btf_trace_{event}"))?;
        self.raw_tracepoint_at(Ref { module, id }, event)
    }

    /// Arguments of many raw tracepoints of a module, in one pass.
    pub fn raw_tracepoints_in(&self, module: &str, events: &[&str]) -> HashMap<String, Vec<Param>> {
        let names: Vec<String> = events.iter().map(|e| format!("__traceiter_{e}")).collect();
        let mut found = self.functions_in(module, &names.iter().map(String::as_str).collect());
        let params = |(event, name): (&&str, &String)| {
            let params = match found.remove(name).and_then(named_arguments) {
                Some(params) => params,
                None => self.raw_tracepoint_in(module, event)?.1,
            };
            Some(((*event).to_owned(), params))
        };
        events.iter().zip(&names).filter_map(params).collect()
    }

    fn raw_tracepoint_at(&self, typedef: Ref, event: &str) -> Option<(String, Vec<Param>)> {
        let module = self.module_name(typedef.module);
        // The typedef's prototype has no names; these functions take the same
        // arguments and do.
        let params = ["__traceiter_", "__probestub_", "__bpf_trace_"]
            .iter()
            .filter_map(|prefix| self.function_in(module, &format!("{prefix}{event}")))
            .find_map(named_arguments);
        let params = match params {
            Some(params) => params,
            None => {
                let (_, pointer) = self.resolve(typedef)?;
                let proto = self.reference(typedef.module, pointer.size_or_type);
                let params = self.params(self.resolve(proto)?.0).into_iter().skip(1).enumerate();
                params.map(|(i, p)| Param { name: format!("arg{i}"), ..p }).collect()
            }
        };
        Some((module.to_owned(), params))
    }

    /// The typedef `btf_trace_<event>`, by which the kernel knows what a
    /// program on a raw tracepoint is for.
    pub fn raw_tracepoint_id(&self, event: &str) -> Option<TypeId> {
        Some(self.find(TYPEDEF, &format!("btf_trace_{event}"))?.public())
    }

    /// Structs, unions or enums whose names match, sorted and without repeats.
    pub fn type_names(&self, tag: TypeTag, matches: &dyn Fn(&str) -> bool) -> Vec<String> {
        let kinds = match tag {
            TypeTag::Struct => Kinds::of(Kind::Struct),
            TypeTag::Union => Kinds::of(Kind::Union),
            TypeTag::Enum => ENUMS,
        };
        let mut names: Vec<String> = self
            .tables()
            .flat_map(|(module, raw)| {
                raw.ids(kinds).filter_map(move |id| {
                    let name = self.string(Ref { module, id }, raw.entry(id)?.name);
                    (!name.is_empty() && matches(name)).then(|| name.to_owned())
                })
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The type that C text such as `const char *` or `struct file *[2]` names.
    pub fn parse_type(&self, text: &str) -> Option<Type> {
        parse_type(text, |tag, name| self.find_type(tag, name))
    }

    /// The name of the module that a type is in.
    pub fn module_of(&self, id: TypeId) -> &str {
        match id {
            TypeId::Btf { module, .. } => self.module_name(module),
            TypeId::Script(_) | TypeId::User(_) => "",
        }
    }

    fn module_list(&self) -> &[Module] {
        self.modules.get_or_init(|| {
            let Some(dir) = &self.dir else { return Vec::new() };
            let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
            let mut names: Vec<String> = entries
                .filter_map(|e| e.ok()?.file_name().into_string().ok())
                .filter(|name| name != "vmlinux")
                .collect();
            names.sort_unstable();
            names.truncate(usize::from(u16::MAX) - 1);
            names.into_iter().map(|name| Module { name, raw: OnceLock::new() }).collect()
        })
    }

    fn module_raw(&self, module: u16) -> Option<&Raw> {
        let Some(index) = module.checked_sub(1) else { return Some(&self.base) };
        let module = self.module_list().get(usize::from(index))?;
        let read = || Raw::open(&self.dir.as_ref()?.join(&module.name), Some(&self.base)).ok();
        module.raw.get_or_init(read).as_ref()
    }

    fn module_name(&self, module: u16) -> &str {
        match module.checked_sub(1) {
            None => "vmlinux",
            Some(index) => {
                self.module_list().get(usize::from(index)).map_or("", |m| m.name.as_str())
            }
        }
    }

    fn table(&self, module: &str) -> Option<(u16, &Raw)> {
        if module == "vmlinux" {
            return Some((0, &self.base));
        }
        let index = self.module_list().binary_search_by(|m| m.name.as_str().cmp(module)).ok()?;
        let number = u16::try_from(index + 1).ok()?;
        Some((number, self.module_raw(number)?))
    }

    /// The kernel's table, then those of the modules, which are read only when
    /// the iterator gets there.
    fn tables(&self) -> impl Iterator<Item = (u16, &Raw)> {
        let modules = std::iter::once(()).flat_map(|()| 1..=self.module_list().len());
        std::iter::once((0, &self.base)).chain(modules.filter_map(|i| {
            let module = u16::try_from(i).ok()?;
            Some((module, self.module_raw(module)?))
        }))
    }

    fn find(&self, kinds: Kinds, name: &str) -> Option<Ref> {
        self.tables().find_map(|(module, raw)| {
            let base = (module != 0).then_some(&self.base);
            Some(Ref { module, id: raw.find(base, kinds, name)? })
        })
    }

    fn names_of(&self, module: &str, kinds: Kinds) -> Vec<&str> {
        let Some((module, raw)) = self.table(module) else { return Vec::new() };
        raw.ids(kinds)
            .filter_map(|id| Some(self.string(Ref { module, id }, raw.entry(id)?.name)))
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// A number found in a table: those below the table's first are the base's.
    fn reference(&self, module: u16, id: u32) -> Ref {
        let own = module != 0 && self.module_raw(module).is_some_and(|r| id >= r.first_id());
        Ref { module: if own { module } else { 0 }, id }
    }

    fn own(&self, id: TypeId) -> Option<Ref> {
        match id {
            TypeId::Btf { module, id } => Some(self.reference(module, id)),
            TypeId::Script(_) | TypeId::User(_) => None,
        }
    }

    fn entry(&self, at: Ref) -> Option<Entry> {
        self.module_raw(at.module)?.entry(at.id)
    }

    fn word(&self, at: Ref, entry: &Entry, n: usize) -> Option<u32> {
        self.module_raw(at.module)?.word(entry, n)
    }

    fn string(&self, at: Ref, offset: u32) -> &str {
        let own = self.module_raw(at.module).and_then(|raw| raw.string(offset));
        own.or_else(|| self.base.string(offset)).unwrap_or("")
    }

    /// Through typedefs, qualifiers and tags to a type of its own.
    fn resolve(&self, mut at: Ref) -> Option<(Ref, Entry)> {
        for _ in 0..DEPTH {
            let entry = self.entry(at)?;
            match entry.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    at = self.reference(at.module, entry.size_or_type);
                }
                _ => return Some((at, entry)),
            }
        }
        None
    }

    fn composite(&self, id: TypeId) -> Option<(Ref, Entry)> {
        let (at, entry) = self.resolve(self.own(id)?)?;
        if entry.kind == Kind::Fwd {
            let kind = if entry.kind_flag { Kind::Union } else { Kind::Struct };
            let found = self.find(Kinds::of(kind), self.string(at, entry.name))?;
            return Some((found, self.entry(found)?));
        }
        COMPOSITES.has(entry.kind).then_some((at, entry))
    }

    fn convert(&self, at: Ref) -> Type {
        self.convert_deep(at, None, 0)
    }

    /// `alias` is the typedef that led here: the name of what has no other.
    fn convert_deep(&self, at: Ref, alias: Option<&str>, depth: u32) -> Type {
        if at.id == 0 {
            return Type::Void;
        }
        let Some(entry) = self.entry(at).filter(|_| depth < DEPTH) else {
            return Type::Unsupported("damaged type".into());
        };
        let next = self.reference(at.module, entry.size_or_type);
        let name = self.string(at, entry.name);
        match entry.kind {
            Kind::Int => self.int(at, &entry, name),
            Kind::Ptr => {
                let space = match self.tag(next) {
                    Some("user") => Space::User,
                    _ => Space::Kernel,
                };
                Type::ptr(self.convert_deep(next, None, depth + 1), space)
            }
            Kind::Array => {
                let element = self.word(at, &entry, 0).unwrap_or(0);
                let len = self.word(at, &entry, 2).unwrap_or(0);
                let of = self.convert_deep(self.reference(at.module, element), None, depth + 1);
                names::array(of, len)
            }
            Kind::Struct | Kind::Union => self.struct_ref(at, &entry, alias),
            // Its definition is looked for when its members are asked for.
            Kind::Fwd => Type::Struct(StructRef {
                union: entry.kind_flag,
                name: name.to_owned(),
                size: 0,
                id: at.public(),
            }),
            Kind::Enum | Kind::Enum64 => {
                let e = self.enum_ref(at, &entry, alias);
                if e.name.is_empty() { Type::int(e.size, e.signed) } else { Type::Enum(e) }
            }
            Kind::Typedef => {
                let known = matches!(name, "bool" | "_Bool").then_some(Type::Bool);
                known.unwrap_or_else(|| self.convert_deep(next, Some(name), depth + 1))
            }
            Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                self.convert_deep(next, alias, depth + 1)
            }
            // Only as what a pointer points to.
            Kind::Func | Kind::FuncProto => Type::Void,
            Kind::Float => Type::Unsupported(name.to_owned()),
            Kind::Var | Kind::DataSec | Kind::DeclTag | Kind::Other => {
                Type::Unsupported("unknown type".into())
            }
        }
    }

    fn int(&self, at: Ref, entry: &Entry, name: &str) -> Type {
        let encoding = self.word(at, entry, 0).unwrap_or(0) >> 24 & 0xf;
        match (entry.size_or_type, encoding) {
            (1, encoding) if encoding & 4 != 0 => Type::Bool,
            // As in scripts, whatever the kernel was compiled with.
            (1, _) if name == "char" => Type::int(1, true),
            (size @ (1 | 2 | 4 | 8), encoding) => {
                Type::int(u8::try_from(size).unwrap_or(8), encoding & 1 != 0)
            }
            _ => Type::Unsupported(name.to_owned()),
        }
    }

    fn struct_ref(&self, at: Ref, entry: &Entry, alias: Option<&str>) -> Type {
        let name = match self.string(at, entry.name) {
            "" => alias.unwrap_or(""),
            name => name,
        };
        Type::Struct(StructRef {
            union: entry.kind == Kind::Union,
            name: name.to_owned(),
            size: entry.size_or_type,
            id: at.public(),
        })
    }

    fn enum_ref(&self, at: Ref, entry: &Entry, alias: Option<&str>) -> EnumRef {
        let name = match self.string(at, entry.name) {
            "" => alias.unwrap_or(""),
            name => name,
        };
        let size = match entry.size_or_type {
            size @ (1 | 2 | 8) => u8::try_from(size).unwrap_or(4),
            _ => 4,
        };
        let negative = |i| self.word(at, entry, 2 * i + 1).is_some_and(|value| value >> 31 != 0);
        let signed = entry.kind_flag
            || entry.kind == Kind::Enum
                && (0..entry.vlen as usize).any(negative)
                && !self.records_enum_signs();
        EnumRef { name: name.to_owned(), size, signed, id: at.public() }
    }

    /// Whether this BTF is new enough (pahole 1.24) to say which enums are
    /// signed. In older BTF a constant with the top bit counts as negative.
    fn records_enum_signs(&self) -> bool {
        let flagged = |id| self.base.entry(id).is_some_and(|e| e.kind_flag);
        *self.enum_signs.get_or_init(|| self.base.ids(Kinds::of(Kind::Enum)).any(flagged))
    }

    fn constants(&self, at: Ref, entry: Entry) -> impl Iterator<Item = (u32, i64)> + '_ {
        let count = if ENUMS.has(entry.kind) { entry.vlen as usize } else { 0 };
        let signed = entry.kind == Kind::Enum && self.enum_ref(at, &entry, None).signed;
        (0..count).filter_map(move |i| {
            if entry.kind == Kind::Enum64 {
                let low = self.word(at, &entry, 3 * i + 1)?;
                let high = self.word(at, &entry, 3 * i + 2)?;
                let value = u64::from(high) << 32 | u64::from(low);
                Some((self.word(at, &entry, 3 * i)?, value.cast_signed()))
            } else {
                let value = self.word(at, &entry, 2 * i + 1)?;
                let wide = if signed { i64::from(value.cast_signed()) } else { i64::from(value) };
                Some((self.word(at, &entry, 2 * i)?, wide))
            }
        })
    }

    /// The first type tag on what a pointer points to.
    fn tag(&self, mut at: Ref) -> Option<&str> {
        for _ in 0..DEPTH {
            let entry = self.entry(at)?;
            match entry.kind {
                Kind::TypeTag => return Some(self.string(at, entry.name)),
                Kind::Volatile | Kind::Const | Kind::Restrict => {
                    at = self.reference(at.module, entry.size_or_type);
                }
                _ => return None,
            }
        }
        None
    }

    fn function_at(&self, at: Ref) -> Option<Function> {
        let entry = self.entry(at)?;
        let proto = self.reference(at.module, entry.size_or_type);
        let result = self.entry(proto).filter(|p| p.kind == Kind::FuncProto)?.size_or_type;
        let result = self.reference(proto.module, result);
        Some(Function {
            id: at.public(),
            module: self.module_name(at.module).to_owned(),
            params: self.params(proto),
            result: self.convert(result),
            result_text: self.type_text(result),
        })
    }

    /// Parameters of a prototype. One of type void without a name stands for
    /// variable arguments and is left out.
    fn params(&self, proto: Ref) -> Vec<Param> {
        let Some(entry) = self.entry(proto).filter(|e| e.kind == Kind::FuncProto) else {
            return Vec::new();
        };
        (0..entry.vlen as usize)
            .filter_map(|i| {
                let name = self.word(proto, &entry, 2 * i)?;
                let ty = self.reference(proto.module, self.word(proto, &entry, 2 * i + 1)?);
                let name = self.string(proto, name).to_owned();
                (ty.id != 0).then(|| Param { name, ty: self.convert(ty), text: self.type_text(ty) })
            })
            .collect()
    }
}

/// Arguments of a raw tracepoint by a function that is called with them and, as
/// the first, an internal one. `None` if they have no names.
fn named_arguments(mut function: Function) -> Option<Vec<Param>> {
    if function.params.is_empty() || function.params.iter().any(|p| p.name.is_empty()) {
        return None;
    }
    function.params.remove(0);
    Some(function.params)
}

#[cfg(test)]
mod tests;
