//! The bytes of one BTF section (Documentation/bpf/btf.rst): a table of type
//! offsets, made in one pass, and access to types and strings by number.
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
    /// Offset of each type in the bytes.
    offsets: Vec<u32>,
    /// Number of the first type here: 1, or what a module's base ends with.
    first_id: u32,
    /// Offset of the first string here: 0, or the size of the base's strings.
    first_string: u32,
}

const HEAD: usize = 12;

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
    fn data_size(self) -> Option<(usize, usize)> {
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

        let mut offsets = Vec::with_capacity(types.len() / 24);
        let mut at = types.start;
        while at < types.end {
            let info = u32_at(b, at + 4).ok_or_else(damaged)?;
            let number = info >> 24 & 0x1f;
            let (fixed, each) = match Kind::of(number).data_size() {
                Some(sizes) => sizes,
                None => {
                    let row = layouts.start + 4 * number as usize;
                    match b.get(row..row + 2) {
                        Some(&[fixed, each]) if row + 4 <= layouts.end => {
                            (usize::from(fixed), usize::from(each))
                        }
                        _ => return Err(format!("BTF kind {number} is not known")),
                    }
                }
            };
            offsets.push(u32::try_from(at).map_err(|_| damaged())?);
            at += HEAD + fixed + each * (info & 0xffff) as usize;
        }
        if at != types.end {
            return Err(damaged());
        }
        let (first_id, first_string) = match base {
            Some(base) => (base.end_id(), base.end_string()),
            None => (1, 0),
        };
        Ok(Raw { bytes, strings, offsets, first_id, first_string })
    }

    /// The number after the last type.
    pub(super) fn end_id(&self) -> u32 {
        self.first_id.saturating_add(u32::try_from(self.offsets.len()).unwrap_or(u32::MAX))
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
        let at = *self.offsets.get(id.checked_sub(self.first_id)? as usize)? as usize;
        let b = self.bytes.get();
        let info = u32_at(b, at + 4)?;
        Some(Entry {
            kind: Kind::of(info >> 24 & 0x1f),
            name: u32_at(b, at)?,
            vlen: info & 0xffff,
            kind_flag: info >> 31 != 0,
            size_or_type: u32_at(b, at + 8)?,
            data: at + HEAD,
        })
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
        let b = self.bytes.get();
        (self.first_id..).zip(&self.offsets).filter_map(move |(id, &at)| {
            let info = u32_at(b, at as usize + 4)?;
            kinds.has(Kind::of(info >> 24 & 0x1f)).then_some(id)
        })
    }

    /// The first type of these kinds with this name. Looks at every type: about
    /// as long as it takes to make an index of names only for a few of them.
    pub(super) fn find(&self, base: Option<&Raw>, kinds: Kinds, name: &str) -> Option<u32> {
        let b = self.bytes.get();
        let strings = b.get(self.strings.clone())?;
        (self.first_id..).zip(&self.offsets).find_map(|(id, &at)| {
            let head = b.get(at as usize..at as usize + 8)?;
            let (offset, info) = head.split_at(4);
            let info = u32::from_le_bytes(info.try_into().ok()?);
            if !kinds.has(Kind::of(info >> 24 & 0x1f)) {
                return None;
            }
            let offset = u32::from_le_bytes(offset.try_into().ok()?);
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
