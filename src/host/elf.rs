//! User binaries: functions and where they lie in the file.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::{
    Object, ObjectKind, ObjectSection, ObjectSegment, ObjectSymbol, SymbolFlags, SymbolKind,
};

use super::archive;

/// An executable or shared library.
pub struct Binary {
    /// Empty for bytes from elsewhere.
    path: PathBuf,
    bytes: Bytes,
}

/// The bytes of a file.
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a file.
    ///
    /// # Errors
    /// It cannot be, and why: a phrase for a diagnostic.
    pub(super) fn map(path: &Path) -> Result<Bytes, String> {
        let (path, range) = match archive::place(path).transpose()? {
            Some((archive, range)) => (archive, Some(range)),
            None => (path.to_owned(), None),
        };
        let file = File::open(&path).map_err(|e| e.to_string())?;
        let metadata = file.metadata().map_err(|e| e.to_string())?;
        if metadata.len() == 0 || !metadata.is_file() {
            return Err("it is not an ELF file".into());
        }
        let mut options = memmap2::MmapOptions::new();
        if let Some(range) = range {
            if range.is_empty() || range.end > metadata.len() {
                return Err("it is not an ELF file".into());
            }
            let size = usize::try_from(range.end - range.start).map_err(|e| e.to_string())?;
            options.offset(range.start).len(size);
        }
        // SAFETY: the map is private and only read. Another process that cuts the
        // file while it is parsed could end this one; debuggers and symbolisers
        // live with the same.
        let map = unsafe { options.map_copy_read_only(&file) };
        map.map(Bytes::Mapped).map_err(|e| e.to_string())
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// A function of a binary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElfFunction {
    /// As in the symbol table: C++ names are mangled.
    pub name: String,
    /// As the binary counts them, before it is moved by the loader.
    pub address: u64,
    /// In bytes; 0 if the table does not say.
    pub size: u64,
    /// In the file.
    pub offset: u64,
    /// The function only chooses the real one when the program starts (type
    /// `STT_GNU_IFUNC`).
    pub chooser: bool,
}

/// How a binary gets to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfKind {
    /// A program for one fixed address.
    Fixed,
    /// A program that is loaded anywhere (PIE).
    Program,
    Library,
}

/// Languages whose compilers mangle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Cpp,
    Rust,
    Go,
}

impl Language {
    const ALL: [Language; 3] = [Language::Cpp, Language::Rust, Language::Go];

    /// As attach points name it.
    pub fn word(self) -> &'static str {
        match self {
            Language::Cpp => "cpp",
            Language::Rust => "rust",
            Language::Go => "go",
        }
    }

    /// As its users name it.
    pub fn title(self) -> &'static str {
        match self {
            Language::Cpp => "C++",
            Language::Rust => "Rust",
            Language::Go => "Go",
        }
    }

    /// The language that attach points name so.
    pub fn find(word: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|l| l.word() == word)
    }

    /// The name behind a mangled one; with or without its parameters (of C++).
    pub fn demangle(self, mangled: &str, parameters: bool) -> Option<String> {
        match self {
            Language::Cpp => demangle(mangled, parameters),
            // Without the hash at the end.
            Language::Rust => {
                rustc_demangle::try_demangle(mangled).ok().map(|name| format!("{name:#}"))
            }
            Language::Go => Some(go_name(mangled)),
        }
    }
}

/// A name in a language as an attach point gives it.
pub struct LanguageName {
    language: Language,
    text: String,
    /// With a parameter list (of C++) only that overload is meant.
    exact: bool,
    /// The last part of the name, which the mangled name has in it as it is.
    word: String,
}

impl Binary {
    /// Opens a file that can be traced: an executable or a shared library.
    ///
    /// # Errors
    /// Why it cannot be, as a phrase for a diagnostic.
    pub fn open(path: &Path) -> Result<Binary, String> {
        let binary = Binary::open_any(path)?;
        binary.check()?;
        Ok(binary)
    }

    /// Opens any ELF file, whether or not it looks as if it could be run.
    ///
    /// # Errors
    /// It is not one, as a phrase for a diagnostic.
    pub fn open_any(path: &Path) -> Result<Binary, String> {
        let binary = Binary { path: path.to_owned(), bytes: Bytes::map(path)? };
        binary.parse()?;
        Ok(binary)
    }

    /// A binary in memory; any ELF file will do.
    ///
    /// # Errors
    /// It is not an ELF file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Binary, String> {
        let binary = Binary { path: PathBuf::new(), bytes: Bytes::Owned(bytes) };
        binary.parse()?;
        Ok(binary)
    }

    fn check(&self) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt;
        let elf = self.parse()?;
        match elf.kind() {
            ObjectKind::Dynamic => Ok(()),
            ObjectKind::Executable => {
                let mode = self.path.metadata().map(|m| m.permissions().mode()).unwrap_or(0);
                if mode & 0o111 == 0 { Err("it is not executable".into()) } else { Ok(()) }
            }
            ObjectKind::Relocatable => Err("it is an object file that is not linked yet".into()),
            _ => Err("it is no executable or shared library".into()),
        }
    }

    pub(super) fn parse(&self) -> Result<object::File<'_>, String> {
        object::File::parse(&*self.bytes).map_err(|_| "it is not an ELF file".into())
    }

    /// Functions whose names are wanted, sorted by name and address, without
    /// repeats; from a separate file of debug symbols too if there is one.
    pub fn functions(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<ElfFunction> {
        let Ok(elf) = self.parse() else { return Vec::new() };
        let segments = executable_segments(&elf);
        let mut found = Vec::new();
        self.with_symbols(&mut |symbols| collect(symbols, &segments, wanted, &mut found));
        found.sort_unstable();
        found.dedup_by(|a, b| a.name == b.name && a.address == b.address);
        found
    }

    /// Shows the tables of symbols that there are: the binary's own, and those of
    /// a separate file of debug symbols.
    pub(super) fn with_symbols(&self, show: &mut dyn FnMut(&object::File<'_>)) {
        let Ok(elf) = self.parse() else { return };
        show(&elf);
        // A stripped binary has only what the loader needs.
        if elf.symbols().next().is_none()
            && !self.path.as_os_str().is_empty()
            && let Some(path) = self.debug_file(&elf)
            && let Ok(bytes) = Bytes::map(&path)
            && let Ok(symbols) = object::File::parse(&*bytes)
        {
            show(&symbols);
        }
    }

    /// The file offset of an address in the program's code.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        offset_in(&executable_segments(&self.parse().ok()?), address)
    }

    /// Address and size of a symbol of any kind, as the binary counts addresses.
    pub fn symbol(&self, name: &str) -> Option<(u64, u64)> {
        let elf = self.parse().ok()?;
        let find = |elf: &object::File<'_>| {
            let named = |s: &object::Symbol<'_, '_>| {
                let own = s.name().ok().and_then(|n| n.split('@').next()) == Some(name);
                own && !s.is_undefined() && s.kind() != SymbolKind::Tls
            };
            let found = elf.dynamic_symbols().chain(elf.symbols()).find(named);
            found.map(|s| (s.address(), s.size()))
        };
        find(&elf).or_else(|| {
            let bytes = Bytes::map(&self.debug_file(&elf)?).ok()?;
            find(&object::File::parse(&*bytes).ok()?)
        })
    }

    /// How it gets to its address.
    pub fn kind(&self) -> ElfKind {
        let Ok(elf) = self.parse() else { return ElfKind::Library };
        match elf.kind() {
            ObjectKind::Executable => ElfKind::Fixed,
            // A library may be started, too (the C library is), but has a name.
            _ if elf.entry() != 0 && !has_name(&elf) => ElfKind::Program,
            _ => ElfKind::Library,
        }
    }

    /// The lowest address of its code.
    pub fn code_start(&self) -> u64 {
        let Ok(elf) = self.parse() else { return 0 };
        executable_segments(&elf).iter().map(|s| s.0).min().unwrap_or(0)
    }

    /// The address of a place in the file.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        executable_segments(&self.parse().ok()?).iter().find_map(|(start, size, from)| {
            let distance = offset.checked_sub(*from).filter(|d| d < size)?;
            start.checked_add(distance)
        })
    }

    /// All of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file that it was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of separate debug symbols, if there is one.
    pub(super) fn debug_path(&self) -> Option<PathBuf> {
        self.debug_file(&self.parse().ok()?)
    }

    /// Whether the program was made by Go's own compiler.
    pub fn is_go(&self) -> bool {
        let elf = self.parse();
        let has = |name| elf.as_ref().is_ok_and(|e| e.section_by_name(name).is_some());
        has(".note.go.buildid") || has(".go.buildinfo")
    }

    /// Where separate debug symbols are by convention (the build id, or a link
    /// by name; GDB's manual, "Debugging Information in Separate Files").
    fn debug_file(&self, elf: &object::File<'_>) -> Option<PathBuf> {
        let mut places = Vec::new();
        if let Ok(Some([first, rest @ ..])) = elf.build_id() {
            let rest: String = rest.iter().map(|b| format!("{b:02x}")).collect();
            let name = format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug");
            places.push(PathBuf::from(name));
        }
        if let Ok(Some((name, _))) = elf.gnu_debuglink()
            && let (Ok(name), Some(dir)) = (std::str::from_utf8(name), self.path.parent())
        {
            let global = Path::new("/usr/lib/debug").join(dir.strip_prefix("/").unwrap_or(dir));
            places.extend([dir.join(name), dir.join(".debug").join(name), global.join(name)]);
        }
        places.into_iter().find(|p| p.is_file() && *p != self.path)
    }
}

/// Addresses, sizes and file offsets of what is loaded as code.
pub(super) fn executable_segments(elf: &object::File<'_>) -> Vec<(u64, u64, u64)> {
    let code = |s: &object::Segment<'_, '_>| match s.flags() {
        // PF_X of elf.h.
        object::SegmentFlags::Elf { p_flags } => p_flags & 1 != 0,
        _ => false,
    };
    elf.segments().filter(code).map(|s| (s.address(), s.size(), s.file_range().0)).collect()
}

/// Whether other binaries ask for it by a name (`DT_SONAME`).
fn has_name(elf: &object::File<'_>) -> bool {
    // DT_SONAME of elf.h; entries are pairs of words.
    let soname = |data: &[u8]| {
        let word = |bytes: &[u8]| bytes.first_chunk().map(|w| u64::from_le_bytes(*w));
        data.chunks_exact(16).any(|entry| word(entry) == Some(14))
    };
    elf.section_by_name(".dynamic").and_then(|s| s.data().ok()).is_some_and(soname)
}

/// The place in the file of an address in one of some segments.
pub(super) fn offset_in(segments: &[(u64, u64, u64)], address: u64) -> Option<u64> {
    segments.iter().find_map(|(start, size, offset)| {
        let distance = address.checked_sub(*start).filter(|d| d < size)?;
        offset.checked_add(distance)
    })
}

fn collect(
    elf: &object::File<'_>,
    segments: &[(u64, u64, u64)],
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Vec<ElfFunction>,
) {
    for symbol in elf.dynamic_symbols().chain(elf.symbols()) {
        if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
            continue;
        }
        // `fopen@@GLIBC_2.2.5`: some tables have the version in the name.
        let name = symbol.name().ok().and_then(|n| n.split('@').next()).unwrap_or("");
        if name.is_empty() || !wanted(name) {
            continue;
        }
        let Some(offset) = offset_in(segments, symbol.address()) else { continue };
        let chooser = match symbol.flags() {
            // STT_GNU_IFUNC of elf.h.
            SymbolFlags::Elf { st_info, .. } => st_info & 0xf == 10,
            _ => false,
        };
        found.push(ElfFunction {
            name: name.to_owned(),
            address: symbol.address(),
            size: symbol.size(),
            offset,
            chooser,
        });
    }
}

impl LanguageName {
    /// Prepares the comparison with a name such as `ns::f` or `ns::f(int)`.
    pub fn new(language: Language, text: &str) -> LanguageName {
        if language == Language::Go {
            // Its parentheses are part of names: `main.(*T).Get`.
            let text = text.to_owned();
            return LanguageName { language, text, exact: true, word: String::new() };
        }
        let base = text.split('(').next().unwrap_or("");
        let word = base.rsplit("::").next().unwrap_or("");
        // Not part of the mangled name as written.
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'*');
        let word = if plain && !word.starts_with("operator") { word } else { "" };
        let exact = text.contains('(');
        LanguageName { language, text: text.to_owned(), exact, word: word.to_owned() }
    }

    /// Its language.
    pub fn language(&self) -> Language {
        self.language
    }

    /// Whether a mangled name is that of a function meant here; `*` in the name
    /// stands for anything.
    pub fn matches(&self, mangled: &str, fits: &dyn Fn(&str, &str) -> bool) -> bool {
        if !self.word.split('*').all(|w| mangled.contains(w)) {
            return false;
        }
        let name = self.language.demangle(mangled, self.exact);
        name.is_some_and(|name| fits(&self.text, &name))
    }
}

/// A name of Go as programs write it: in symbols, some bytes of the import path are `%2e` and the
/// like, and what a generic function was made for is in brackets.
fn go_name(symbol: &str) -> String {
    let mut name = Vec::with_capacity(symbol.len());
    let mut rest = symbol.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        name.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    let name = String::from_utf8_lossy(&name).into_owned();
    match (name.find('['), name.rfind(']')) {
        (Some(from), Some(to)) if from < to => {
            let (before, after) = (name.get(..from), name.get(to + 1..));
            format!("{}{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => name,
    }
}

/// The C++ name behind a mangled one; with or without its parameters.
pub fn demangle(mangled: &str, parameters: bool) -> Option<String> {
    if !mangled.starts_with("_Z") {
        return None;
    }
    let options = cpp_demangle::DemangleOptions::new().no_return_type().recursion_limit(160);
    let options = if parameters { options } else { options.no_params() };
    cpp_demangle::Symbol::new(mangled).ok()?.demangle(&options).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_functions_are_found_where_they_are() {
        let path = std::env::current_exe().unwrap();
        let binary = Binary::open(&path).unwrap();
        let found = binary.functions(&|name| name == "main");
        assert_eq!(found.len(), 1);
        assert_eq!(binary.file_offset(found[0].address), Some(found[0].offset));
        assert!(found[0].size > 0);
        assert!(binary.functions(&|n| n == "no such function").is_empty());
    }

    #[test]
    fn damage_is_survived() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/debian/usr/bin/shop");
        let good = std::fs::read(path).unwrap();
        let found = Binary::from_bytes(good.clone()).unwrap().functions(&|_| true);
        assert!(found.iter().any(|f| f.name == "shop_sell"));
        for at in (0..good.len()).step_by(7) {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            for bytes in [bytes, good[..at].to_vec()] {
                if let Ok(binary) = Binary::from_bytes(bytes) {
                    binary.functions(&|_| true);
                    binary.file_offset(0x1000);
                }
            }
        }
    }

    #[test]
    fn what_is_no_binary_is_refused() {
        let reason = |path: &str| Binary::open(Path::new(path)).err().unwrap();
        assert_eq!(reason("Cargo.toml"), "it is not an ELF file");
        assert_eq!(reason("/dev/null"), "it is not an ELF file");
        assert!(reason("/no/such").contains("No such file"));
    }

    #[test]
    fn cpp_names() {
        let equal = |a: &str, b: &str| a == b;
        let (int, double) = ("_ZN2ns1fEi", "_ZN2ns1fEd");
        assert!(LanguageName::new(Language::Cpp, "ns::f").matches(int, &equal));
        assert!(LanguageName::new(Language::Cpp, "ns::f").matches(double, &equal));
        assert!(LanguageName::new(Language::Cpp, "ns::f(int)").matches(int, &equal));
        assert!(!LanguageName::new(Language::Cpp, "ns::f(int)").matches(double, &equal));
        assert!(!LanguageName::new(Language::Cpp, "f").matches(int, &equal));
        assert!(!LanguageName::new(Language::Cpp, "ns::f").matches("ns::f", &equal));
    }

    #[test]
    fn go_names() {
        let equal = |a: &str, b: &str| a == b;
        let name = LanguageName::new(Language::Go, "main.(*Shop).Sell");
        assert!(name.matches("main.(*Shop).Sell", &equal));
        assert!(!name.matches("main.Shop.Sell", &equal));
        let name = LanguageName::new(Language::Go, "gopkg.in/yaml.v3.Marshal");
        assert!(name.matches("gopkg.in/yaml%2ev3.Marshal", &equal));
        let name = LanguageName::new(Language::Go, "main.Max");
        assert!(name.matches("main.Max[go.shape.int_0]", &equal));
        assert_eq!(go_name("100%"), "100%");
        assert_eq!(go_name("a%zz"), "a%zz");
    }

    #[test]
    fn rust_names() {
        let equal = |a: &str, b: &str| a == b;
        let name = LanguageName::new(Language::Rust, "shop::sell");
        assert!(name.matches("_ZN4shop4sell17h0123456789abcdefE", &equal));
        assert!(name.matches("_RNvCs1234_4shop4sell", &equal));
        assert!(!name.matches("_ZN4shop3buy17h0123456789abcdefE", &equal));
        assert!(!name.matches("shop::sell", &equal));
    }
}
