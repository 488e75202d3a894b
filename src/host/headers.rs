//! Headers that only a C compiler can read: those of libraries.
//!
//! libclang is loaded when the first of them is asked for, and only if it is
//! installed. What comes out is C again, but plain: each type with its members
//! spelled out, each constant with its text, so that the rest of rtrace reads
//! headers as it reads the C section of a script.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::ptr;

use clang_sys as c;

/// Why a header cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// libclang is not installed.
    NoLibrary,
    /// What it says, a line for each error.
    Refused(Vec<String>),
}

/// What a header defines that can be named in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As it is named: `struct x`, `union x`, `enum x`, or one word.
    pub names: Vec<String>,
    /// Lines of C, each a declaration or for the preprocessor.
    pub text: String,
}

/// The file that includes the header.
const MAIN: &CStr = c"header.c";

/// Reads a header, in angle brackets.
///
/// # Errors
/// There is no libclang, or it refuses the header.
pub fn read(header: &str, folders: &[PathBuf]) -> Result<Vec<Definition>, Wrong> {
    if !c::is_loaded() {
        c::load().map_err(|_| Wrong::NoLibrary)?;
    }
    let unit = Unit::parse(header, folders)?;
    let mut reader = Reader { definitions: Vec::new(), unit: unit.unit };
    // SAFETY: the unit lives, and the reader outlives the walk.
    unsafe {
        let whole = c::clang_getTranslationUnitCursor(unit.unit);
        c::clang_visitChildren(whole, visit, (&raw mut reader).cast());
    }
    Ok(reader.definitions)
}

/// Those of the definitions that a text names, and what these need, in order.
pub fn named_in(definitions: Vec<Definition>, text: &str) -> Vec<Definition> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (number, definition) in definitions.iter().enumerate() {
        for name in &definition.names {
            let word = name.rsplit(' ').next().unwrap_or(name);
            by_name.entry(word.to_owned()).or_default().push(number);
        }
    }
    let mut wanted = BTreeSet::new();
    let mut texts = vec![text];
    while let Some(text) = texts.pop() {
        for word in words(text) {
            for &number in by_name.get(word).into_iter().flatten() {
                if wanted.insert(number) {
                    texts.extend(definitions.get(number).map(|d| d.text.as_str()));
                }
            }
        }
    }
    let numbered = definitions.iter().enumerate();
    numbered.filter(|(n, _)| wanted.contains(n)).map(|(_, d)| d.clone()).collect()
}

/// Identifiers, in a rough sense.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty())
}

/// A header, parsed.
struct Unit {
    index: c::CXIndex,
    unit: c::CXTranslationUnit,
}

impl Unit {
    fn parse(header: &str, folders: &[PathBuf]) -> Result<Unit, Wrong> {
        let text = format!("#include <{header}>\n");
        let mut args = vec![CString::from(c"-xc"), CString::from(c"-D_GNU_SOURCE")];
        let folders = folders.iter().map(|f| format!("-I{}", f.display()));
        args.extend(folders.filter_map(|f| CString::new(f).ok()));
        let args: Vec<_> = args.iter().map(|a| a.as_ptr()).collect();
        let mut file = c::CXUnsavedFile {
            Filename: MAIN.as_ptr(),
            Contents: text.as_ptr().cast(),
            Length: text.len().try_into().unwrap_or_default(),
        };
        // SAFETY: every pointer comes with its length, or ends with a NUL, and lives for the
        // calls. A unit that could not be made is null.
        let (code, unit) = unsafe {
            let index = c::clang_createIndex(0, 0);
            let mut unit = Unit { index, unit: ptr::null_mut() };
            let code = c::clang_parseTranslationUnit2(
                index,
                MAIN.as_ptr(),
                args.as_ptr(),
                c_int::try_from(args.len()).unwrap_or(0),
                &raw mut file,
                1,
                c::CXTranslationUnit_DetailedPreprocessingRecord
                    | c::CXTranslationUnit_SkipFunctionBodies,
                &raw mut unit.unit,
            );
            (code, unit)
        };
        if code != c::CXError_Success || unit.unit.is_null() {
            return Err(Wrong::Refused(vec![format!("libclang fails with code {code}")]));
        }
        match unit.errors() {
            errors if errors.is_empty() => Ok(unit),
            errors => Err(Wrong::Refused(errors)),
        }
    }

    fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        // SAFETY: the unit lives; each diagnostic and text is disposed of once.
        unsafe {
            for number in 0..c::clang_getNumDiagnostics(self.unit) {
                let diagnostic = c::clang_getDiagnostic(self.unit, number);
                if c::clang_getDiagnosticSeverity(diagnostic) >= c::CXDiagnostic_Error {
                    errors.push(owned(c::clang_getDiagnosticSpelling(diagnostic)));
                }
                c::clang_disposeDiagnostic(diagnostic);
            }
        }
        errors
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: both are ours and not used again; a unit may be null.
        unsafe {
            if !self.unit.is_null() {
                c::clang_disposeTranslationUnit(self.unit);
            }
            c::clang_disposeIndex(self.index);
        }
    }
}

/// A text of libclang's, copied and given back.
///
/// # Safety
/// The text was not given back before.
unsafe fn owned(text: c::CXString) -> String {
    // SAFETY: libclang's texts end with a NUL, or are null.
    unsafe {
        let start = c::clang_getCString(text);
        let copy = if start.is_null() {
            String::new()
        } else {
            CStr::from_ptr(start).to_string_lossy().into_owned()
        };
        c::clang_disposeString(text);
        copy
    }
}

struct Reader {
    definitions: Vec<Definition>,
    unit: c::CXTranslationUnit,
}

extern "C" fn visit(
    cursor: c::CXCursor,
    _: c::CXCursor,
    reader: c::CXClientData,
) -> c::CXChildVisitResult {
    // SAFETY: `read` passes a reader that nothing else refers to during the walk.
    let reader = unsafe { &mut *reader.cast::<Reader>() };
    reader.definition(cursor);
    c::CXChildVisit_Continue
}

impl Reader {
    fn definition(&mut self, cursor: c::CXCursor) {
        // SAFETY: the cursor is one of a living unit, here and below.
        let (kind, name) = unsafe { (c::clang_getCursorKind(cursor), spelling(cursor)) };
        let found = match kind {
            c::CXCursor_MacroDefinition => self.constant(cursor, name),
            c::CXCursor_StructDecl | c::CXCursor_UnionDecl | c::CXCursor_EnumDecl => tagged(cursor),
            c::CXCursor_TypedefDecl => {
                // SAFETY: as above.
                let ty = unsafe { c::clang_getTypedefDeclUnderlyingType(cursor) };
                let text = format!("typedef {};", declare(ty, &name, 0));
                Some(Definition { names: vec![name], text })
            }
            _ => None,
        };
        self.definitions.extend(found);
    }

    /// `#define NAME text`.
    fn constant(&self, cursor: c::CXCursor, name: String) -> Option<Definition> {
        let mut parts = Vec::new();
        // SAFETY: the cursor is one of this unit, and tokens are disposed of with their number.
        unsafe {
            let function = c::clang_Cursor_isMacroFunctionLike(cursor) != 0;
            if function || c::clang_Cursor_isMacroBuiltin(cursor) != 0 {
                return None;
            }
            let (mut tokens, mut count): (*mut c::CXToken, c_uint) = (ptr::null_mut(), 0);
            let extent = c::clang_getCursorExtent(cursor);
            c::clang_tokenize(self.unit, extent, &raw mut tokens, &raw mut count);
            for number in 1..count as usize {
                parts.push(owned(c::clang_getTokenSpelling(self.unit, *tokens.add(number))));
            }
            c::clang_disposeTokens(self.unit, tokens, count);
        }
        // `#define X X` says that there is an enum constant of that name.
        if parts.is_empty() || parts == [name.as_str()] {
            return None;
        }
        let text = format!("#define {name} {}", parts.join(" "));
        Some(Definition { names: vec![name], text })
    }
}

/// # Safety
/// The cursor is one of a living unit.
unsafe fn spelling(cursor: c::CXCursor) -> String {
    // SAFETY: as the caller promises; the text is new.
    unsafe { owned(c::clang_getCursorSpelling(cursor)) }
}

/// Whether a struct, union or enum has no tag. libclang gives it the name of a
/// typedef, but without the word that a tag has before it.
fn is_anonymous(declaration: c::CXCursor) -> bool {
    // SAFETY: the cursor is one of a living unit, and the texts are new.
    let (word, name) = unsafe {
        let ty = c::clang_getCursorType(declaration);
        (word(c::clang_getCursorKind(declaration)), owned(c::clang_getTypeSpelling(ty)))
    };
    !name.starts_with(word) || name.contains('(')
}

/// A struct, union or enum with a name and a body.
fn tagged(cursor: c::CXCursor) -> Option<Definition> {
    // SAFETY: the cursor is one of a living unit.
    let (defines, ty) =
        unsafe { (c::clang_isCursorDefinition(cursor) != 0, c::clang_getCursorType(cursor)) };
    if !defines {
        return None;
    }
    let anonymous = is_anonymous(cursor);
    // SAFETY: as above.
    let kind = unsafe { c::clang_getCursorKind(cursor) };
    let mut names = Vec::new();
    if !anonymous {
        // SAFETY: as above.
        names.push(format!("{} {}", word(kind), unsafe { spelling(cursor) }));
    }
    let text = if kind == c::CXCursor_EnumDecl {
        let constants = constants(cursor);
        names.extend(constants.iter().map(|k| k.0.clone()));
        // A macro of the same name would take its place.
        let freed: String = constants.iter().map(|(name, _)| format!("#undef {name}\n")).collect();
        freed + &enumeration(cursor, &constants)
    } else if anonymous {
        return None;
    } else {
        composite(cursor, ty, 0)
    };
    Some(Definition { names, text: format!("{text};") })
}

fn word(kind: c::CXCursorKind) -> &'static str {
    match kind {
        c::CXCursor_UnionDecl => "union",
        c::CXCursor_EnumDecl => "enum",
        _ => "struct",
    }
}

/// The tag and its name, if it has one.
fn head(cursor: c::CXCursor) -> String {
    // SAFETY: the cursor is one of a living unit.
    let (kind, name) = unsafe { (c::clang_getCursorKind(cursor), spelling(cursor)) };
    match is_anonymous(cursor) {
        true => word(kind).to_owned(),
        false => format!("{} {name}", word(kind)),
    }
}

fn constants(cursor: c::CXCursor) -> Vec<(String, i64)> {
    let mut list = Vec::new();
    for child in children(cursor) {
        // SAFETY: the child is a cursor of the same unit.
        unsafe {
            if c::clang_getCursorKind(child) == c::CXCursor_EnumConstantDecl {
                list.push((spelling(child), c::clang_getEnumConstantDeclValue(child)));
            }
        }
    }
    list
}

fn enumeration(cursor: c::CXCursor, constants: &[(String, i64)]) -> String {
    let list: Vec<_> = constants.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{} {{ {} }}", head(cursor), list.join(", "))
}

/// Bodies inside of bodies beyond this are left out.
const DEPTH: u32 = 20;

/// A struct or union with its members.
fn composite(cursor: c::CXCursor, ty: c::CXType, depth: u32) -> String {
    // SAFETY: the type is one of a living unit.
    let align = unsafe { c::clang_Type_getAlignOf(ty) }.max(1);
    let mut members = String::new();
    for field in fields(ty) {
        members.push_str(&member(field, align, depth + 1));
        members.push_str("; ");
    }
    let packed = if has(cursor, c::CXCursor_PackedAttr) { "packed, " } else { "" };
    format!("{} {{ {members}}} __attribute__(({packed}aligned({align})))", head(cursor))
}

/// A member of what is aligned to `most` bytes.
fn member(field: c::CXCursor, most: i64, depth: u32) -> String {
    // SAFETY: the field is a cursor of a living unit.
    let (name, ty, bits, offset) = unsafe {
        let bits = match c::clang_Cursor_isBitField(field) {
            0 => None,
            _ => Some(c::clang_getFieldDeclBitWidth(field)),
        };
        (
            spelling(field),
            c::clang_getCursorType(field),
            bits,
            c::clang_Cursor_getOffsetOfField(field),
        )
    };
    // Some releases describe a member that has no name.
    let name = if name.contains('(') { "" } else { &name };
    let text = declare(ty, name, depth);
    match bits {
        Some(bits) => format!("{text} : {bits}"),
        // Its place tells what a member of its own alignment is aligned to.
        None if has(field, c::CXCursor_AlignedAttr) && offset > 0 => {
            let align = most.min(1 << (offset / 8).trailing_zeros().min(12));
            format!("{text} __attribute__((aligned({align})))")
        }
        None => text,
    }
}

fn has(cursor: c::CXCursor, kind: c::CXCursorKind) -> bool {
    // SAFETY: children are cursors of the same unit.
    children(cursor).into_iter().any(|child| unsafe { c::clang_getCursorKind(child) } == kind)
}

fn children(cursor: c::CXCursor) -> Vec<c::CXCursor> {
    extern "C" fn keep(
        child: c::CXCursor,
        _: c::CXCursor,
        list: c::CXClientData,
    ) -> c::CXChildVisitResult {
        // SAFETY: the function around passes a list that nothing else refers to meanwhile.
        unsafe { &mut *list.cast::<Vec<c::CXCursor>>() }.push(child);
        c::CXChildVisit_Continue
    }
    let mut list: Vec<c::CXCursor> = Vec::new();
    // SAFETY: the cursor is one of a living unit, and the list outlives the walk.
    unsafe { c::clang_visitChildren(cursor, keep, (&raw mut list).cast()) };
    list
}

fn fields(ty: c::CXType) -> Vec<c::CXCursor> {
    extern "C" fn keep(field: c::CXCursor, list: *mut c_void) -> c::CXVisitorResult {
        // SAFETY: the function around passes a list that nothing else refers to meanwhile.
        unsafe { &mut *list.cast::<Vec<c::CXCursor>>() }.push(field);
        c::CXVisit_Continue
    }
    let mut list: Vec<c::CXCursor> = Vec::new();
    // SAFETY: the type is one of a living unit, and the list outlives the walk.
    unsafe { c::clang_Type_visitFields(ty, keep, (&raw mut list).cast()) };
    list
}

/// The declaration of something of a type: `unsigned char name[6]`.
fn declare(ty: c::CXType, name: &str, depth: u32) -> String {
    // SAFETY: the type is one of a living unit, here and below.
    let ty = unsafe { c::clang_getCanonicalType(ty) };
    match ty.kind {
        c::CXType_Pointer => {
            // SAFETY: as above.
            let to = unsafe { c::clang_getCanonicalType(c::clang_getPointeeType(ty)) };
            match to.kind {
                c::CXType_FunctionProto | c::CXType_FunctionNoProto => format!("void *{name}"),
                c::CXType_ConstantArray | c::CXType_IncompleteArray => {
                    declare(to, &format!("(*{name})"), depth)
                }
                _ => declare(to, &format!("*{name}"), depth),
            }
        }
        c::CXType_ConstantArray | c::CXType_IncompleteArray => {
            // SAFETY: as above.
            let (of, len) =
                unsafe { (c::clang_getArrayElementType(ty), c::clang_getArraySize(ty)) };
            let len = if len < 0 { String::new() } else { len.to_string() };
            declare(of, &format!("{name}[{len}]"), depth)
        }
        c::CXType_Record | c::CXType_Enum => {
            // SAFETY: as above.
            let cursor = unsafe { c::clang_getTypeDeclaration(ty) };
            let head = match (ty.kind, is_anonymous(cursor)) {
                (_, false) => head(cursor),
                (c::CXType_Enum, true) => "unsigned int".to_owned(),
                (_, true) if depth < DEPTH => composite(cursor, ty, depth),
                (_, true) => "void *".to_owned(),
            };
            format!("{head} {name}")
        }
        c::CXType_FunctionProto | c::CXType_FunctionNoProto => format!("void {name}()"),
        kind if (c::CXType_Void..=c::CXType_LongDouble).contains(&kind) => plain(ty, name),
        _ => {
            // What has no name in the language is bytes.
            // SAFETY: as above.
            let (size, align) =
                unsafe { (c::clang_Type_getSizeOf(ty), c::clang_Type_getAlignOf(ty)) };
            let (size, align) = (size.max(1), align.max(1));
            format!("unsigned char {name}[{size}] __attribute__((aligned({align})))")
        }
    }
}

/// A type by its own name, without qualifiers.
fn plain(ty: c::CXType, name: &str) -> String {
    // SAFETY: the type is one of a living unit, and the text is new.
    let spelled = unsafe { owned(c::clang_getTypeSpelling(ty)) };
    let words = spelled.split(' ').filter(|w| !matches!(*w, "const" | "volatile" | "restrict"));
    format!("{} {name}", words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn define(names: &[&str], text: &str) -> Definition {
        Definition { names: names.iter().map(|n| (*n).to_owned()).collect(), text: text.to_owned() }
    }

    #[test]
    fn what_is_named_comes_with_what_it_needs() {
        let all = vec![
            define(&["A"], "#define A 1"),
            define(&["struct inner"], "struct inner { int x; };"),
            define(&["B"], "#define B (A + 1)"),
            define(&["struct outer"], "struct outer { struct inner i; };"),
            define(&["C"], "#define C 3"),
        ];
        let names = |text: &str| -> Vec<String> {
            named_in(all.clone(), text).into_iter().flat_map(|d| d.names).collect()
        };
        assert_eq!(names("begin { print(B); }"), ["A", "B"]);
        assert_eq!(names("(struct outer *)arg0"), ["struct inner", "struct outer"]);
        assert!(names("begin { }").is_empty());
    }
}
