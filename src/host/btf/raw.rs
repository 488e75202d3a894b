//! The bytes of one BTF section (Documentation/bpf/btf.rst): access to types
//! and strings by number.
//!
//! Types have different sizes and no table. One pass, which every script pays
//! that asks about kernel types, notes where each [`STRIDE`]th is; the others
//! are found from there.
//!
//! Nothing here trusts the bytes: what does not fit is `None` or an error.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// `BTF_KIND_*` of linux/btf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A kind newer than this reader, stepped over with the section's own
    /// description of its size.
    Other,
}

/// A set of kinds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kinds(u32);

/// `struct btf_type`, and where its data starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Offset in the string section.
    pub(super) name: u32,
    pub(super) vlen: u32,
    pub(super) kind_flag: bool,
    /// Size in bytes, or the id of another type.
    pub(super) size_or_type: u32,
    /// Offset of what follows the head, in the bytes of the section.
    data: usize,
}

enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

/// One BTF section: the kernel's, or that of one module.
pub(super) struct Raw {
    bytes: Bytes,
    strings: Range<usize>,
    types: Range<usize>,
    /// Offset of every [`STRIDE`]th type in the bytes.
    offsets: Vec<u32>,
    /// Number of types.
    count: u32,
    sizes: Sizes,
    /// Number of the first type here: 1, or what a module's base ends with.
    first_id: u32,
    /// Offset of the first string here: 0, or the size of the base's strings.
    first_string: u32,
}

/// Bytes after the head of each kind of type: fixed, and per element; nothing
/// for kinds that are not known.
type Sizes = [Option<(u8, u8)>; 32];

/// One pass over the types of a section.
#[derive(Clone, Copy)]
struct Walk<'r> {
    bytes: &'r [u8],
    sizes: &'r Sizes,
    at: usize,
    end: usize,
}

const HEAD: usize = 12;

/// A power of two.
const STRIDE: u32 = 16;

impl Kinds {
    pub(super) const fn of(kind: Kind) -> Kinds {
        Kinds(1 << kind as u32)
    }

    pub(super) const fn or(self, kind: Kind) -> Kinds {
        Kinds(self.0 | 1 << kind as u32)
    }

    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }
}

impl Kind {
    fn of(number: u32) -> Kind {
        match number {
            1 => Kind::Int,
            2 => Kind::Ptr,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Fwd,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Func,
            13 => Kind::FuncProto,
            14 => Kind::Var,
            15 => Kind::DataSec,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            _ => Kind::Other,
        }
    }

    /// Bytes after the head: fixed, and per element.
    fn data_size(self) -> Option<(u8, u8)> {
        Some(match self {
            Kind::Int | Kind::Var | Kind::DeclTag => (4, 0),
            Kind::Array => (12, 0),
            Kind::Struct | Kind::Union | Kind::DataSec | Kind::Enum64 => (0, 12),
            Kind::Enum | Kind::FuncProto => (0, 8),
            Kind::Ptr
            | Kind::Fwd
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Func
            | Kind::Float
            | Kind::TypeTag => (0, 0),
            Kind::Other => return None,
        })
    }
}

impl<'r> Iterator for Walk<'r> {
    /// Offset of a type, and its head.
    type Item = (usize, &'r [u8; HEAD]);

    /// Ends at the end, and at what is damaged.
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let head: &[u8; HEAD] = self.bytes.get(at..self.end)?.first_chunk()?;
        let [_, _, _, _, low, high, _, kind, ..] = *head;
        let (fixed, each) = (*self.sizes.get(usize::from(kind & 0x1f))?)?;
        let elements = usize::from(u16::from_le_bytes([low, high]));
        self.at = at + HEAD + usize::from(fixed) + usize::from(each) * elements;
        Some((at, head))
    }
}

/// The kind of a type by its head.
fn kind_of(head: &[u8; HEAD]) -> Kind {
    let [_, _, _, _, _, _, _, kind, ..] = *head;
    Kind::of(u32::from(kind & 0x1f))
}

/// Offset of the name of a type by its head.
fn name_of(head: &[u8; HEAD]) -> u32 {
    let [a, b, c, d, ..] = *head;
    u32::from_le_bytes([a, b, c, d])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(vec) => vec,
        }
    }
}

impl Raw {
    /// Reads a file, mapping it where the kernel allows that (since 6.16 it
    /// does for its own BTF; that saves copying megabytes).
    ///
    /// # Errors
    /// What the operating system says, or what is wrong with the bytes.
    pub(super) fn open(path: &Path, base: Option<&Raw>) -> Result<Raw, String> {
        let mut file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let of_kernel = path == Path::new("/sys/kernel/btf/vmlinux");
        let bytes = match of_kernel.then(|| map(&file)).flatten() {
            Some(map) => Bytes::Mapped(map),
            None => {
                let mut vec = Vec::new();
                file.read_to_end(&mut vec).map_err(|e| format!("{}: {e}", path.display()))?;
                Bytes::Owned(vec)
            }
        };
        Raw::index(bytes, base).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// The same for bytes in memory.
    pub(super) fn of(bytes: Vec<u8>, base: Option<&Raw>) -> Result<Raw, String> {
        Raw::index(Bytes::Owned(bytes), base)
    }

    fn index(bytes: Bytes, base: Option<&Raw>) -> Result<Raw, String> {
        let b = bytes.get();
        let damaged = || "the BTF is damaged".to_string();
        match b.get(..2) {
            Some([0x9f, 0xeb]) => {}
            Some([0xeb, 0x9f]) => return Err("the BTF is of a big-endian machine".into()),
            _ => return Err("this is no BTF".into()),
        }
        let head = |at: usize| u32_at(b, at).map(|n| n as usize).ok_or_else(damaged);
        let head_size = head(4)?;
        let part = |at: usize| -> Result<Range<usize>, String> {
            let start = head(at)?.checked_add(head_size).ok_or_else(damaged)?;
            let end = start.checked_add(head(at + 4)?).ok_or_else(damaged)?;
            // Offsets are kept in 32 bits.
            if end > b.len() || u32::try_from(end).is_err() {
                Err(damaged())
            } else {
                Ok(start..end)
            }
        };
        let (types, strings) = (part(8)?, part(16)?);
        // Sizes of the kinds, from Linux 7.1: how to step over unknown ones.
        let layouts = if head_size >= 32 { part(24).unwrap_or(0..0) } else { 0..0 };
        let layouts = b.get(layouts).unwrap_or_default();
        let mut sizes: Sizes = [None; 32];
        for (number, size) in (0..).zip(&mut sizes) {
            let layout = layouts.get(4 * number..4 * number + 4);
            let described = layout.and_then(|l| Some((*l.first()?, *l.get(1)?)));
            *size = Kind::of(number as u32).data_size().or(described);
        }

        let mut offsets = Vec::with_capacity(types.len() / 24 / STRIDE as usize);
        let mut count: u32 = 0;
        let mut walk = Walk { bytes: b, sizes: &sizes, at: types.start, end: types.end };
        for (at, _) in walk.by_ref() {
            if count.is_multiple_of(STRIDE) {
                offsets.push(u32::try_from(at).map_err(|_| damaged())?);
            }
            count += 1;
        }
        if walk.at != types.end {
            let kind = b.get(walk.at + 7).map(|k| k & 0x1f);
            return Err(match kind.filter(|k| sizes.get(usize::from(*k)) == Some(&None)) {
                Some(kind) => format!("BTF kind {kind} is not known"),
                None => damaged(),
            });
        }
        let (first_id, first_string) = match base {
            Some(base) => (base.end_id(), base.end_string()),
            None => (1, 0),
        };
        Ok(Raw { bytes, strings, types, offsets, count, sizes, first_id, first_string })
    }

    /// The number after the last type.
    pub(super) fn end_id(&self) -> u32 {
        self.first_id.saturating_add(self.count)
    }

    pub(super) fn first_id(&self) -> u32 {
        self.first_id
    }

    fn end_string(&self) -> u32 {
        let len = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        self.first_string.saturating_add(len)
    }

    /// A type by its number.
    pub(super) fn entry(&self, id: u32) -> Option<Entry> {
        let number = id.checked_sub(self.first_id)?;
        let from = *self.offsets.get((number / STRIDE) as usize)? as usize;
        let (at, head) = self.walk(from).nth((number % STRIDE) as usize)?;
        let b = self.bytes.get();
        let info = u32_at(b, at + 4)?;
        Some(Entry {
            kind: kind_of(head),
            name: name_of(head),
            vlen: info & 0xffff,
            kind_flag: info >> 31 != 0,
            size_or_type: u32_at(b, at + 8)?,
            data: at + HEAD,
        })
    }

    /// The types from one at an offset on.
    fn walk(&self, at: usize) -> Walk<'_> {
        Walk { bytes: self.bytes.get(), sizes: &self.sizes, at, end: self.types.end }
    }

    /// All types, with their numbers.
    fn all(&self) -> impl Iterator<Item = (u32, &[u8; HEAD])> {
        (self.first_id..).zip(self.walk(self.types.start).map(|(_, head)| head))
    }

    /// Word `n` of what follows a type's head.
    pub(super) fn word(&self, entry: &Entry, n: usize) -> Option<u32> {
        u32_at(self.bytes.get(), entry.data.checked_add(n.checked_mul(4)?)?)
    }

    /// A string by its offset; `None` if it is the base's, or damaged.
    pub(super) fn string(&self, offset: u32) -> Option<&str> {
        let tail = self.tail(offset)?;
        let end = tail.iter().position(|&b| b == 0)?;
        std::str::from_utf8(tail.get(..end)?).ok()
    }

    fn tail(&self, offset: u32) -> Option<&[u8]> {
        let offset = offset.checked_sub(self.first_string)? as usize;
        self.bytes.get().get(self.strings.clone())?.get(offset..)
    }

    /// Numbers of the types of these kinds, in order.
    pub(super) fn ids(&self, kinds: Kinds) -> impl Iterator<Item = u32> + '_ {
        self.all().filter_map(move |(id, head)| kinds.has(kind_of(head)).then_some(id))
    }

    /// The last type of a kind with this name.
    pub(super) fn last(&self, kind: Kind, name: &str) -> Option<u32> {
        (0..self.offsets.len()).rev().find_map(|chunk| {
            let at = *self.offsets.get(chunk)? as usize;
            let first = self.first_id + chunk as u32 * STRIDE;
            let types = (first..).zip(self.walk(at).take(STRIDE as usize));
            let wanted = |head| kind_of(head) == kind && self.string(name_of(head)) == Some(name);
            types.filter(|(_, (_, head))| wanted(head)).last().map(|(id, _)| id)
        })
    }

    /// The first type of these kinds with this name. Looks at every type: about
    /// as long as it takes to make an index of names only for a few of them.
    pub(super) fn find(&self, base: Option<&Raw>, kinds: Kinds, name: &str) -> Option<u32> {
        let strings = self.bytes.get().get(self.strings.clone())?;
        self.all().find_map(|(id, head)| {
            if !kinds.has(kind_of(head)) {
                return None;
            }
            let offset = name_of(head);
            let tail = match offset.checked_sub(self.first_string) {
                Some(own) => strings.get(own as usize..)?,
                None => base?.tail(offset)?,
            };
            let rest = tail.strip_prefix(name.as_bytes())?;
            (rest.first() == Some(&0)).then_some(id)
        })
    }
}

fn map(file: &File) -> Option<memmap2::Mmap> {
    let length = file.metadata().ok()?.len();
    if length == 0 {
        return None;
    }
    // SAFETY: only kernel BTF is read through a map (see `open`), and the
    // kernel never changes or shortens it while it runs.
    unsafe { memmap2::MmapOptions::new().map_copy_read_only(file).ok() }
}
