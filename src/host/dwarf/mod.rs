//! Debug information of user binaries (DWARF): parameters of functions, types,
//! lines. Read when asked for, and only the part that is asked for. The only
//! files that know gimli.

pub mod frames;
mod functions;
mod lines;
mod types;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::{
    AttributeValue, DebugInfoOffset, DwarfSections, EndianSlice, LittleEndian, UnitOffset,
};
use object::{Object, ObjectSection};

pub use functions::{Function, Parameter};
pub use lines::Line;

use super::elf::{Binary, Bytes};
use crate::types::{Member, TypeId};

type Reader<'a> = EndianSlice<'a, LittleEndian>;
type Unit<'a> = gimli::Unit<Reader<'a>>;
type Entry<'a> = gimli::DebuggingInformationEntry<Reader<'a>>;

/// The debug information of a binary.
pub struct DebugInfo {
    bytes: Bytes,
    sections: DwarfSections<Part>,
    /// Where units start in `.debug_info`, sorted.
    units: OnceLock<Vec<usize>>,
}

/// A section's bytes.
#[derive(Default)]
enum Part {
    #[default]
    Missing,
    /// Of the file.
    Mapped(Range<usize>),
    /// Was compressed.
    Owned(Vec<u8>),
}

impl DebugInfo {
    /// The debug information of a binary, its own or that of a separate file.
    ///
    /// # Errors
    /// There is none, as a phrase for a diagnostic.
    pub fn of(binary: &Binary) -> Result<DebugInfo, String> {
        let own = Bytes::map(binary.path())?;
        let found = DebugInfo::read(own);
        let found = found.or_else(|| DebugInfo::read(Bytes::map(&binary.debug_path()?).ok()?));
        found.ok_or_else(|| "it has no debug information".into())
    }

    /// `None` if the file has none.
    fn read(bytes: Bytes) -> Option<DebugInfo> {
        let elf = object::File::parse(&*bytes).ok()?;
        elf.section_by_name(".debug_info").filter(|s| s.size() > 0)?;
        let start = bytes.as_ptr().addr();
        let load = |id: gimli::SectionId| -> Result<Part, ()> {
            let Some(section) = elf.section_by_name(id.name()) else { return Ok(Part::Missing) };
            Ok(match section.uncompressed_data().map_err(drop)? {
                Cow::Borrowed(data) => {
                    let at = data.as_ptr().addr().saturating_sub(start);
                    Part::Mapped(at..at + data.len())
                }
                Cow::Owned(data) => Part::Owned(data),
            })
        };
        let sections = DwarfSections::load(load).ok()?;
        drop(elf);
        Some(DebugInfo { bytes, sections, units: OnceLock::new() })
    }

    /// A look into it.
    fn session(&self) -> Session<'_> {
        let dwarf = self.sections.borrow(|part| {
            let bytes = match part {
                Part::Missing => &[],
                Part::Mapped(range) => self.bytes.get(range.clone()).unwrap_or_default(),
                Part::Owned(bytes) => bytes,
            };
            EndianSlice::new(bytes, LittleEndian)
        });
        let starts = self.units.get_or_init(|| {
            let headers = dwarf.units().filter_map(Result::ok);
            headers.filter_map(|h| Some(h.debug_info_offset()?.0)).collect()
        });
        Session { dwarf, starts, units: RefCell::default() }
    }
}

/// Debug information being read. Entries are named by their offsets in
/// `.debug_info`.
struct Session<'a> {
    dwarf: gimli::Dwarf<Reader<'a>>,
    starts: &'a [usize],
    /// Units already read, by where they start.
    units: RefCell<HashMap<usize, Option<Rc<Unit<'a>>>>>,
}

impl<'a> Session<'a> {
    /// The unit that starts there.
    fn unit(&self, start: usize) -> Option<Rc<Unit<'a>>> {
        if let Some(known) = self.units.borrow().get(&start) {
            return known.clone();
        }
        let header = self.dwarf.unit_header(DebugInfoOffset(start)).ok();
        let unit = header.and_then(|h| self.dwarf.unit(h).ok()).map(Rc::new);
        self.units.borrow_mut().insert(start, unit.clone());
        unit
    }

    /// An entry and its unit.
    fn entry(&self, at: usize) -> Option<(Rc<Unit<'a>>, Entry<'a>)> {
        let next = self.starts.partition_point(|start| *start <= at);
        let start = *self.starts.get(next.checked_sub(1)?)?;
        let unit = self.unit(start)?;
        let entry = unit.entry(UnitOffset(at - start)).ok()?;
        Some((unit, entry))
    }

    /// The offset of an entry.
    fn offset(unit: &Unit<'_>, entry: &Entry<'_>) -> Option<usize> {
        Some(unit.header.debug_info_offset()?.0 + entry.offset().0)
    }

    /// The entry that an attribute refers to.
    fn refers(unit: &Unit<'_>, entry: &Entry<'_>, name: gimli::DwAt) -> Option<usize> {
        match entry.attr_value(name)? {
            AttributeValue::UnitRef(at) => Some(unit.header.debug_info_offset()?.0 + at.0),
            AttributeValue::DebugInfoRef(at) => Some(at.0),
            _ => None,
        }
    }

    /// An attribute's text.
    fn text(&self, unit: &Unit<'a>, entry: &Entry<'a>, name: gimli::DwAt) -> Option<String> {
        let value = entry.attr_value(name)?;
        let text = self.dwarf.attr_string(unit, value).ok()?;
        Some(text.to_string_lossy().into_owned())
    }

    /// The name of an entry, also if it only says what it is a copy of.
    fn name(&self, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<String> {
        if let Some(name) = self.text(unit, entry, gimli::DW_AT_name) {
            return Some(name);
        }
        let (unit, origin) = self.origin(unit, entry)?;
        self.text(&unit, &origin, gimli::DW_AT_name).or_else(|| {
            self.origin(&unit, &origin).and_then(|(u, e)| self.text(&u, &e, gimli::DW_AT_name))
        })
    }

    /// What an entry is a copy or the definition of.
    fn origin(&self, unit: &Unit<'_>, entry: &Entry<'_>) -> Option<(Rc<Unit<'a>>, Entry<'a>)> {
        let at = Self::refers(unit, entry, gimli::DW_AT_abstract_origin)
            .or_else(|| Self::refers(unit, entry, gimli::DW_AT_specification))?;
        self.entry(at)
    }

    /// The type of an entry, also if only its origin says it.
    fn type_of(&self, unit: &Unit<'_>, entry: &Entry<'_>) -> Option<usize> {
        Self::refers(unit, entry, gimli::DW_AT_type).or_else(|| {
            let (unit, origin) = self.origin(unit, entry)?;
            Self::refers(&unit, &origin, gimli::DW_AT_type).or_else(|| {
                let (unit, origin) = self.origin(&unit, &origin)?;
                Self::refers(&unit, &origin, gimli::DW_AT_type)
            })
        })
    }

    /// The children of an entry.
    fn children(&self, at: usize) -> Vec<(Rc<Unit<'a>>, Entry<'a>)> {
        let Some((unit, entry)) = self.entry(at) else { return Vec::new() };
        let mut found = Vec::new();
        if !entry.has_children() {
            return found;
        }
        let Ok(mut cursor) = unit.entries_at_offset(entry.offset()) else { return found };
        // To the entry itself, then to its first child.
        if !matches!(cursor.next_dfs(), Ok(Some(_))) || !matches!(cursor.next_dfs(), Ok(Some(_))) {
            return found;
        }
        while let Some(child) = cursor.current() {
            found.push((Rc::clone(&unit), child.clone()));
            if found.len() > CHILDREN || !matches!(cursor.next_sibling(), Ok(Some(_))) {
                break;
            }
        }
        found
    }
}

/// More children than that are damage.
const CHILDREN: usize = 100_000;

/// Types of user binaries, as far as scripts use them.
#[derive(Default)]
pub struct UserTypes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: Vec<(PathBuf, Result<Arc<DebugInfo>, String>)>,
    /// File and place of each type, by the number in [`TypeId::User`].
    types: Vec<(usize, usize)>,
}

impl UserTypes {
    /// The debug information of a binary, read once.
    ///
    /// # Errors
    /// There is none.
    pub fn debug_info(&self, binary: &Binary) -> Result<UserBinary<'_>, String> {
        let mut state = self.state();
        let known = state.files.iter().position(|(path, _)| path == binary.path());
        let file = known.unwrap_or_else(|| {
            let info = DebugInfo::of(binary).map(Arc::new);
            state.files.push((binary.path().to_owned(), info));
            state.files.len() - 1
        });
        let info = state.files.get(file).map(|(_, info)| info.clone());
        let info = info.expect("bug: the file was just added")?;
        Ok(UserBinary { types: self, file, info })
    }

    /// Members of a struct or union.
    pub fn members(&self, id: TypeId) -> Vec<Member> {
        self.with(id, |binary, at| binary.members(at)).unwrap_or_default()
    }

    /// Constants of an enum.
    pub fn enum_constants(&self, id: TypeId) -> Vec<(i64, String)> {
        self.with(id, |binary, at| binary.enum_constants(at)).unwrap_or_default()
    }

    fn with<T>(&self, id: TypeId, f: impl FnOnce(&UserBinary<'_>, usize) -> T) -> Option<T> {
        let TypeId::User(number) = id else { return None };
        let state = self.state();
        let (file, at) = *state.types.get(number as usize)?;
        let info = state.files.get(file)?.1.clone().ok()?;
        drop(state);
        Some(f(&UserBinary { types: self, file, info }, at))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// File and place of a type.
    fn place(&self, id: TypeId) -> Option<(usize, usize)> {
        let TypeId::User(number) = id else { return None };
        self.state().types.get(number as usize).copied()
    }

    /// The number of a type.
    fn id(&self, file: usize, at: usize) -> TypeId {
        let mut state = self.state();
        let known = state.types.iter().position(|t| *t == (file, at));
        let number = known.unwrap_or_else(|| {
            state.types.push((file, at));
            state.types.len() - 1
        });
        TypeId::User(u32::try_from(number).unwrap_or(u32::MAX))
    }
}

/// The debug information of one binary, and where its types get their numbers.
pub struct UserBinary<'t> {
    types: &'t UserTypes,
    file: usize,
    info: Arc<DebugInfo>,
}

/// A path in debug information, made of parts that may each be absolute.
fn join(parts: impl IntoIterator<Item = String>) -> PathBuf {
    parts.into_iter().fold(PathBuf::new(), |all, part| all.join(Path::new(&part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Type;

    const STALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/debian/usr/bin/stall");

    /// Everything that can be asked, of bytes that may be damaged.
    fn ask(bytes: Vec<u8>) -> usize {
        let Some(info) = DebugInfo::read(Bytes::Owned(bytes)) else { return 0 };
        let types = UserTypes::default();
        types.state().files.push((PathBuf::new(), Ok(Arc::new(info))));
        let info = types.state().files[0].1.clone().unwrap();
        let binary = UserBinary { types: &types, file: 0, info };
        let functions = binary.functions(&(0x40_0000..0x40_0400).collect());
        let mut found = functions.values().map(|f| f.parameters.len()).sum();
        found += binary.inlined("stall_ring").unwrap_or(0);
        found += binary.lines(Path::new("stall.c")).map_or(0, |lines| lines.len());
        for number in 0..20 {
            found += types.members(TypeId::User(number)).len();
            found += types.enum_constants(TypeId::User(number)).len();
        }
        found
    }

    #[test]
    fn types_of_a_program_are_read() {
        let types = UserTypes::default();
        let binary = Binary::open(Path::new(STALL)).unwrap();
        let stall = types.debug_info(&binary).unwrap();
        let weigh = binary.functions(&|name| name == "stall_weigh")[0].address;
        let functions = stall.functions(&[weigh].into());
        let shown = |p: &Parameter| format!("{} {}: {}", p.text, p.name, p.ty);
        let parameters: Vec<String> = functions[&weigh].parameters.iter().map(shown).collect();
        assert_eq!(
            parameters,
            ["const fruit_t * fruit: struct fruit *", "int count: int32", "signed char sign: int8"]
        );
        let Type::Ptr { to, .. } = &functions[&weigh].parameters[0].ty else { panic!() };
        let Type::Struct(fruit) = &**to else { panic!() };
        let member = |m: Member| (m.name, m.ty.to_string(), m.offset, m.bits.map(|b| b.shift));
        let members: Vec<_> = types.members(fruit.id).into_iter().map(member).collect();
        let expected = [
            ("name", "int8 *", 0, None),
            ("weight", "uint32", 8, None),
            ("bruised", "uint32", 12, Some(0)),
            ("shelf", "uint32", 12, Some(1)),
            ("ripeness", "enum ripeness", 16, None),
            ("next", "struct fruit *", 24, None),
            ("label", "string[8]", 32, None),
            ("price", "int32", 40, None),
            ("bytes", "string[4]", 40, None),
        ];
        let expected = expected.map(|(n, t, o, b)| (n.to_owned(), t.to_owned(), o, b));
        assert_eq!(members, expected);
        assert_eq!(stall.inlined("stall_ring"), Some(1));
        assert_eq!(stall.inlined("no such function"), None);
    }

    #[test]
    fn damage_is_survived() {
        let good = std::fs::read(STALL).unwrap();
        assert!(ask(good.clone()) > 20);
        for at in (0..good.len()).step_by(23) {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            ask(bytes);
        }
        for end in (0..good.len()).step_by(97) {
            ask(good[..end].to_vec());
        }
    }
}
