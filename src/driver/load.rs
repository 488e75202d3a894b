//! All texts of a script: itself, the files that it imports, and the headers that
//! it includes from its own folder or those of `-I`.
//!
//! What comes out is one tree. Imported parts stand before those of the importer;
//! the definitions of a header stand where it is included. No file is read twice.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::objects;
use crate::builtins;
use crate::cli::Includes;
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::host::headers::{self, Wrong};
use crate::parser::{self, ast::Script, cdef};
use crate::sema::ObjectFile;
use crate::source::{FileId, Source, Sources, Span, Spanned};

/// Where other files are looked for, and what is included first.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// `-I`.
    pub(super) folders: Vec<PathBuf>,
    /// `--include`: names of headers.
    pub(super) headers: Vec<String>,
    /// Headers whose types the kernel describes are read too, for their constants.
    pub(super) thoroughly: bool,
}

impl Search {
    /// As the flags say.
    pub(super) fn of(includes: &Includes) -> Search {
        let Includes { folders, headers } = includes.clone();
        Search { folders, headers, thoroughly: false }
    }
}

/// A script with all that belongs to it.
pub(super) struct Loaded {
    pub(super) script: Script,
    pub(super) objects: Vec<ObjectFile>,
    /// A header was included that was not read, since the kernel describes its types.
    pub(super) unread: bool,
    /// Headers that could not be read, and what to say if they are needed.
    pub(super) refused: Vec<(String, Diagnostic)>,
    pub(super) diags: Diagnostics,
}

/// Parses the text `file` and everything that it names.
pub(super) fn load(sources: &mut Sources, file: FileId, search: &Search) -> Loaded {
    let mut loader = Loader {
        sources,
        search,
        seen: HashSet::new(),
        objects: Vec::new(),
        unread: false,
        defined: HashSet::new(),
        refused: Vec::new(),
        diags: Diagnostics::default(),
    };
    if let Ok(own) = fs::canonicalize(loader.sources.name(file)) {
        loader.seen.insert(own);
    }
    let mut script = loader.parse(file);
    let mut first = Vec::new();
    for name in &search.headers {
        let text = format!("#include \"{name}\"");
        let span = |file| Span::new(file, 0, text.len());
        let file = loader.sources.add(Source { name: "--include".into(), text: text.clone() });
        first.extend(loader.line(Spanned::new(text.clone(), span(file))));
    }
    script.cdefs.splice(0..0, first);
    let Loader { objects, unread, refused, diags, .. } = loader;
    Loaded { script, objects, unread, refused, diags }
}

struct Loader<'a> {
    sources: &'a mut Sources,
    search: &'a Search,
    /// Files that were read, by their canonical paths.
    seen: HashSet<PathBuf>,
    objects: Vec<ObjectFile>,
    unread: bool,
    /// What headers that only a C compiler can read have defined so far.
    defined: HashSet<String>,
    refused: Vec<(String, Diagnostic)>,
    diags: Diagnostics,
}

impl Loader<'_> {
    /// A text with its imports and includes.
    fn parse(&mut self, file: FileId) -> Script {
        let (mut script, found) = parser::parse(self.sources, file, &builtins::is_value);
        self.diags.append(found);
        let lines = std::mem::take(&mut script.cdefs);
        script.cdefs = lines.into_iter().flat_map(|line| self.line(line)).collect();
        let mut whole = Script::default();
        for import in std::mem::take(&mut script.imports) {
            self.import(&import, &mut whole);
        }
        whole.cdefs.append(&mut script.cdefs);
        whole.items.append(&mut script.items);
        Script { cdefs: whole.cdefs, items: whole.items, ..script }
    }

    /// A line of the C section: of an `#include` of a file that is there, what
    /// stands in that file.
    fn line(&mut self, line: Spanned<String>) -> Vec<Spanned<String>> {
        let Some((name, quoted)) = included(&line.node) else { return vec![line] };
        if !quoted && cdef::is_known_header(name) {
            let read = self.search.thoroughly.then(|| self.constants_of(name)).flatten();
            self.unread |= read.is_none();
            return std::iter::once(line).chain(read.into_iter().flatten()).collect();
        }
        let beside = quoted.then(|| self.folder(line.span.file));
        let folders = beside.iter().chain(&self.search.folders);
        let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
        let Some(path) = found else { return self.library_header(name, &line) };
        let Some(file) = self.read(&path, line.span) else { return Vec::new() };
        let header = self.parse(file);
        self.only_c(&header, &path, line.span);
        header.cdefs
    }

    /// What the script names of a header that only a C compiler can read.
    fn library_header(&mut self, name: &str, line: &Spanned<String>) -> Vec<Spanned<String>> {
        let failed = Diagnostic::error(line.span, format!("cannot include `{name}`"));
        let d = match headers::read(name, &self.search.folders) {
            Ok(all) => {
                let named = self.named(all);
                return self.definitions(name, named);
            }
            Err(Wrong::NoLibrary) => failed
                .note("it is neither beside the script nor in a folder of `-I`; headers of libraries are read by libclang, which is not installed")
                .help("install it (`apt install libclang-dev`), or write the types and constants that you need in the script"),
            Err(Wrong::Refused(said)) => {
                let failed = failed.at("libclang cannot read it");
                let d = said.iter().take(3).fold(failed, |d, line| d.note(line.clone()));
                d.help("give its folder by `-I`, or write the types and constants that you need in the script")
            }
        };
        // It may stand where no condition leads.
        self.refused.push((name.to_owned(), d));
        vec![line.clone()]
    }

    /// Constants that the script names, of a header whose types the kernel describes.
    fn constants_of(&mut self, name: &str) -> Option<Vec<Spanned<String>>> {
        let all = headers::read(name, &self.search.folders).ok()?;
        let mut named = self.named(all);
        named.retain(|d| d.text.starts_with(['#', 'e']));
        Some(self.definitions(name, named))
    }

    fn named(&self, all: Vec<headers::Definition>) -> Vec<headers::Definition> {
        let texts: Vec<_> = self.sources.files.iter().map(|f| f.text.as_str()).collect();
        headers::named_in(all, &texts.join("\n"))
    }

    /// Definitions as a text of their own.
    fn definitions(
        &mut self,
        header: &str,
        list: Vec<headers::Definition>,
    ) -> Vec<Spanned<String>> {
        let mut text = String::new();
        let mut places = Vec::new();
        // Headers include each other.
        let new = list.into_iter().filter(|d| self.defined.insert(d.text.clone()));
        let new: Vec<_> = new.collect();
        for line in new.iter().flat_map(|d| d.text.lines()) {
            places.push(text.len()..text.len() + line.len());
            text.push_str(line);
            text.push('\n');
        }
        let file = self.sources.add(Source { name: format!("<{header}>"), text: text.clone() });
        let entry = |place: std::ops::Range<usize>| {
            let text = text.get(place.clone()).unwrap_or_default().to_owned();
            Spanned::new(text, Span::new(file, place.start, place.end))
        };
        places.into_iter().map(entry).collect()
    }

    fn import(&mut self, import: &Spanned<Vec<u8>>, into: &mut Script) {
        let name = String::from_utf8_lossy(&import.node).into_owned();
        // The builtins are there without it.
        if name == "stdlib" || name.starts_with("stdlib/") {
            return;
        }
        let own = self.folder(import.span.file);
        let folders = std::iter::once(&own).chain(&self.search.folders);
        let Some(path) = folders.map(|folder| folder.join(&name)).find(|path| path.exists()) else {
            let d = Diagnostic::error(import.span, format!("cannot import `{name}`"))
                .at("there is no such file")
                .help("paths start at the folder of the script, or at one given by `-I`");
            self.diags.push(d.beside());
            return;
        };
        if !path.is_dir() {
            self.import_file(&path, import.span, into);
            return;
        }
        let anybody = fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o002 != 0);
        if anybody {
            let d = Diagnostic::error(import.span, format!("everybody may write to `{name}`"))
                .note("anybody could add a script to it, which would run as root")
                .help("take the permission away: `chmod o-w`");
            self.diags.push(d.beside());
            return;
        }
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> =
            entries.map(|e| e.path()).filter(|p| kind(p).is_some()).collect();
        files.sort();
        if files.is_empty() {
            let d = Diagnostic::warning(Warning::EmptyImport, import.span, "nothing is imported")
                .at("no `.bt`, `.h`, `.bpf.c` or `.bpf.o` file is in this folder");
            self.diags.push(d.beside());
        }
        for file in files {
            self.import_file(&file, import.span, into);
        }
    }

    fn import_file(&mut self, path: &Path, span: Span, into: &mut Script) {
        let shown = path.display();
        match kind(path) {
            Some(Kind::Script | Kind::Header) => {}
            Some(Kind::Object) => {
                if self.is_new(path) {
                    match objects::read(path, span, &self.search.folders) {
                        Ok(object) => self.objects.push(object),
                        Err(d) => self.diags.push(d.beside()),
                    }
                }
                return;
            }
            None => {
                let d = Diagnostic::error(span, format!("cannot import `{shown}`"))
                    .at("the name ends in none of `.bt`, `.h`, `.bpf.c` and `.bpf.o`");
                self.diags.push(d.beside());
                return;
            }
        }
        let Some(file) = self.read(path, span) else { return };
        let mut script = self.parse(file);
        if kind(path) == Some(Kind::Header) {
            self.only_c(&script, path, span);
        }
        if let Some(entry) = script.config.first() {
            let d = Diagnostic::error(entry.key.span, "an imported script has no config block")
                .label(span, "imported here")
                .help("write it in the script that imports this one");
            self.diags.push(d.beside());
        }
        into.cdefs.append(&mut script.cdefs);
        into.items.append(&mut script.items);
    }

    fn only_c(&mut self, script: &Script, path: &Path, span: Span) {
        if !script.items.is_empty() {
            let shown = path.display();
            let d = Diagnostic::error(span, format!("`{shown}` is no header"))
                .at("it holds more than C definitions")
                .help("rename it to end in `.bt` and import it");
            self.diags.push(d.beside());
        }
    }

    /// Reads a file, unless it was read already.
    fn read(&mut self, path: &Path, span: Span) -> Option<FileId> {
        if !self.is_new(path) {
            return None;
        }
        match fs::read_to_string(path) {
            Ok(text) => Some(self.sources.add(Source { name: path.display().to_string(), text })),
            Err(why) => {
                let shown = path.display();
                let d =
                    Diagnostic::error(span, format!("cannot read `{shown}`")).note(why.to_string());
                self.diags.push(d.beside());
                None
            }
        }
    }

    /// Whether a file comes for the first time.
    fn is_new(&mut self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|whole| self.seen.insert(whole))
    }

    /// The folder of a text; the current one for texts that are in no file.
    fn folder(&self, file: FileId) -> PathBuf {
        Path::new(self.sources.name(file)).parent().unwrap_or(Path::new("")).to_path_buf()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Script,
    Header,
    /// C for BPF, or what it was compiled to.
    Object,
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    match () {
        () if name.ends_with(".bpf.c") || name.ends_with(".bpf.o") => Some(Kind::Object),
        () if name.ends_with(".bt") => Some(Kind::Script),
        () if name.ends_with(".h") => Some(Kind::Header),
        () => None,
    }
}

/// The name in an `#include` line, and whether it is in quotes.
fn included(line: &str) -> Option<(&str, bool)> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?;
    let rest = rest.trim_start();
    match rest.strip_prefix('"') {
        Some(quoted) => Some((quoted.split_once('"')?.0, true)),
        None => Some((rest.strip_prefix('<')?.split_once('>')?.0, false)),
    }
}
