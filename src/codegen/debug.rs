//! Debug information: script lines for the verifier's log, and the types that
//! become BTF.
//!
//! LLVM's BPF back end makes `.BTF` and `.BTF.ext` from it. inkwell wraps only
//! a part of what is needed (no embedded source text, no handles for what it
//! returns), so this file talks to LLVM's C interface and gives out [`Meta`].

use std::marker::PhantomData;

use inkwell::context::Context;
use inkwell::module::{FlagBehavior, Module};
use inkwell::values::{AsValueRef, FunctionValue, GlobalValue};
use llvm_sys::debuginfo as di;
use llvm_sys::prelude::{LLVMContextRef, LLVMDIBuilderRef, LLVMMetadataRef};

use crate::ir::{CType, Foreign, Origin, Step, Tag};
use crate::plan::{Field, Layout};
use crate::source::{Sources, Span};

/// A node of debug information. Lives as long as the LLVM context.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta<'c>(LLVMMetadataRef, PhantomData<&'c Context>);

impl Meta<'_> {
    /// For the builder, which attaches locations to instructions.
    pub(super) fn raw(self) -> LLVMMetadataRef {
        self.0
    }
}

/// Where the instructions of one function come from.
#[derive(Debug, Clone)]
pub(super) struct Scope<'c> {
    /// The function, then per text of the script the scope for its lines.
    files: Vec<Meta<'c>>,
}

/// The debug information of one module.
pub(super) struct Debug<'c> {
    context: LLVMContextRef,
    builder: LLVMDIBuilderRef,
    /// One per text of the script; at least one.
    files: Vec<Meta<'c>>,
    /// Start of each line, per text.
    lines: Vec<Vec<usize>>,
    texts: Vec<&'c str>,
}

/// What a function is to the module.
#[derive(Clone, Copy)]
struct Own {
    /// Nothing else may call it.
    local: bool,
    /// It is here, not somewhere else.
    defined: bool,
}

/// DWARF encodings of basic types (`DW_ATE_*`).
const BOOLEAN: u32 = 2;
const SIGNED: u32 = 5;
const UNSIGNED: u32 = 7;
const CHARACTER: u32 = 6;

impl<'c> Debug<'c> {
    /// Starts the debug information of a module; [`Debug::finish`] ends it.
    pub(super) fn new(context: &'c Context, module: &Module<'c>, sources: &'c Sources) -> Self {
        let word = context.i32_type();
        module.add_basic_value_flag(
            "Debug Info Version",
            FlagBehavior::Warning,
            word.const_int(3, false),
        );
        module.add_basic_value_flag(
            "Dwarf Version",
            FlagBehavior::Warning,
            word.const_int(5, false),
        );
        // SAFETY: the module is alive, and `finish` disposes of the builder.
        let builder = unsafe { di::LLVMCreateDIBuilder(module.as_mut_ptr()) };
        let mut debug = Debug {
            context: context.raw(),
            builder,
            files: Vec::new(),
            lines: Vec::new(),
            texts: Vec::new(),
        };
        for source in &sources.files {
            debug.add_file(&source.name, &source.text);
        }
        if debug.files.is_empty() {
            debug.add_file("script", "");
        }
        debug.add_unit();
        debug
    }

    /// A text with its content, so that lines can be shown where no file is.
    fn add_file(&mut self, name: &str, text: &'c str) {
        // The C interface wants a checksum with the source; nothing reads it.
        let checksum = "00000000000000000000000000000000";
        // SAFETY: every pointer comes with its length and is read in the call only.
        let file = unsafe {
            di::LLVMDIBuilderCreateFileWithChecksum(
                self.builder,
                name.as_ptr().cast(),
                name.len(),
                "".as_ptr().cast(),
                0,
                di::LLVMChecksumKind::CSK_MD5,
                checksum.as_ptr().cast(),
                checksum.len(),
                text.as_ptr().cast(),
                text.len(),
            )
        };
        self.files.push(Meta(file, PhantomData));
        let starts = text.bytes().enumerate().filter(|b| b.1 == b'\n').map(|b| b.0 + 1);
        self.lines.push(std::iter::once(0).chain(starts).collect());
        self.texts.push(text);
    }

    fn add_unit(&mut self) {
        let producer = "rtrace";
        // SAFETY: every pointer comes with its length and is read in the call only.
        unsafe {
            di::LLVMDIBuilderCreateCompileUnit(
                self.builder,
                di::LLVMDWARFSourceLanguage::LLVMDWARFSourceLanguageC,
                self.file(0),
                producer.as_ptr().cast(),
                producer.len(),
                1,
                std::ptr::null(),
                0,
                0,
                std::ptr::null(),
                0,
                // LLVM 22's BPF back end crashes on "line tables only".
                di::LLVMDWARFEmissionKind::LLVMDWARFEmissionKindFull,
                0,
                0,
                0,
                std::ptr::null(),
                0,
                std::ptr::null(),
                0,
            );
        }
    }

    fn file(&self, file: usize) -> LLVMMetadataRef {
        self.files.get(file).or(self.files.first()).expect("bug: there is a file").0
    }

    /// Resolves what is still open. To be called before the module is used.
    pub(super) fn finish(self) {
        // SAFETY: the builder is ours and is not used again.
        unsafe {
            di::LLVMDIBuilderFinalize(self.builder);
            di::LLVMDisposeDIBuilder(self.builder);
        }
    }

    /// Describes a function, so that it gets a BTF entry: a name, parameters
    /// (name and type) and a 64-bit result.
    pub(super) fn function(
        &self,
        function: FunctionValue<'c>,
        parameters: &[(&str, Meta<'c>)],
        global: bool,
        span: Span,
    ) -> Scope<'c> {
        let file = self.file(usize::from(span.file));
        let (line, _) = self.line_col(span);
        let types = std::iter::once(self.int(8, true)).chain(parameters.iter().map(|p| p.1));
        let own = Own { local: !global, defined: true };
        let subprogram = self.subprogram(function, types.map(|t| t.0).collect(), file, line, own);
        for (number, (name, ty)) in (1..).zip(parameters) {
            // SAFETY: every node belongs to this context; the name comes with its length and
            // is read in the call only.
            unsafe {
                di::LLVMDIBuilderCreateParameterVariable(
                    self.builder,
                    subprogram,
                    name.as_ptr().cast(),
                    name.len(),
                    number,
                    file,
                    line,
                    ty.0,
                    1,
                    0,
                );
            }
        }
        let files = (0..self.files.len()).map(|other| {
            if other == usize::from(span.file) {
                return Meta(subprogram, PhantomData);
            }
            // SAFETY: builder, function and file belong to this context.
            let block = unsafe {
                di::LLVMDIBuilderCreateLexicalBlockFile(
                    self.builder,
                    subprogram,
                    self.file(other),
                    0,
                )
            };
            Meta(block, PhantomData)
        });
        Scope { files: files.collect() }
    }

    /// Describes a function that is defined elsewhere.
    pub(super) fn declaration(&self, function: FunctionValue<'c>, foreign: &Foreign) {
        let Foreign { origin, prototype, .. } = foreign;
        let types = std::iter::once(&prototype.result).chain(prototype.params.iter().map(|p| &p.1));
        let null = std::ptr::null_mut();
        let types = types.map(|t| self.c_type(t, *origin).map_or(null, |t| t.0)).collect();
        let own = Own { local: false, defined: false };
        self.subprogram(function, types, self.file(0), 1, own);
    }

    /// Describes a function: its types (the result's first, null for `void`), and where it is.
    fn subprogram(
        &self,
        function: FunctionValue<'c>,
        mut types: Vec<LLVMMetadataRef>,
        file: LLVMMetadataRef,
        line: u32,
        own: Own,
    ) -> LLVMMetadataRef {
        let name = function.get_name().to_bytes();
        // SAFETY: the function and every node belong to this context; pointers come with
        // their lengths and are read in the calls only. A result may be null.
        unsafe {
            let ty = di::LLVMDIBuilderCreateSubroutineType(
                self.builder,
                file,
                types.as_mut_ptr(),
                len32(&types),
                0,
            );
            let subprogram = di::LLVMDIBuilderCreateFunction(
                self.builder,
                file,
                name.as_ptr().cast(),
                name.len(),
                std::ptr::null(),
                0,
                file,
                line,
                ty,
                i32::from(own.local),
                i32::from(own.defined),
                line,
                0,
                1,
            );
            di::LLVMSetSubprogram(function.as_value_ref(), subprogram);
            subprogram
        }
    }

    /// A type under its own name; nothing for `void`.
    fn c_type(&self, ty: &CType, origin: Origin) -> Option<Meta<'c>> {
        Some(match ty {
            CType::Void => return None,
            CType::Int { name, size, bool: true, .. } => {
                self.basic(name, u64::from(*size), BOOLEAN)
            }
            CType::Int { name, size, signed, .. } => {
                let encoding = if *signed { SIGNED } else { UNSIGNED };
                self.basic(name, u64::from(*size), encoding)
            }
            CType::Enum { name, size, signed: _ } => self.enumeration(name, u32::from(*size), &[]),
            CType::Pointer(to) => self.pointer(self.c_type(to, origin)),
            // The linker compares names, and takes a declaration for a definition. Who looks
            // for functions of the kernel wants a definition, by whatever name.
            CType::Composite { union, name } => match origin {
                Origin::Object => self.forward(name, *union),
                Origin::Kernel => self.structure(0, &[]),
            },
        })
    }

    /// An enum with some of its constants; with one of no meaning if they do not matter.
    pub(super) fn enumeration(&self, name: &str, size: u32, constants: &[(&str, i64)]) -> Meta<'c> {
        let file = self.file(0);
        let signed = constants.iter().any(|(_, value)| *value < 0);
        let constants = if constants.is_empty() { &[("0", 0)] } else { constants };
        let width = u8::try_from(size).unwrap_or(4);
        // SAFETY: names come with their lengths, the constants with their number; all are
        // read in the calls only.
        let ty = unsafe {
            let constant = |(name, value): &(&str, i64)| {
                di::LLVMDIBuilderCreateEnumerator(
                    self.builder,
                    name.as_ptr().cast(),
                    name.len(),
                    *value,
                    i32::from(!signed),
                )
            };
            let mut list: Vec<_> = constants.iter().map(constant).collect();
            di::LLVMDIBuilderCreateEnumerationType(
                self.builder,
                file,
                name.as_ptr().cast(),
                name.len(),
                file,
                1,
                u64::from(size) * 8,
                0,
                list.as_mut_ptr(),
                len32(&list),
                self.int(width, signed).0,
            )
        };
        Meta(ty, PhantomData)
    }

    /// A struct or union that is only named.
    fn forward(&self, name: &str, union: bool) -> Meta<'c> {
        // DW_TAG_union_type and DW_TAG_structure_type.
        let tag = if union { 0x17 } else { 0x13 };
        let file = self.file(0);
        // SAFETY: the name comes with its length and is read in the call only.
        let ty = unsafe {
            di::LLVMDIBuilderCreateForwardDecl(
                self.builder,
                tag,
                name.as_ptr().cast(),
                name.len(),
                file,
                file,
                1,
                0,
                0,
                0,
                std::ptr::null(),
                0,
            )
        };
        Meta(ty, PhantomData)
    }

    /// The location of a span inside a function.
    pub(super) fn location(&self, scope: &Scope<'c>, span: Span) -> Meta<'c> {
        let (line, column) = self.line_col(span);
        let scope = scope.files.get(usize::from(span.file)).or(scope.files.first());
        let scope = scope.expect("bug: there is a file").0;
        // SAFETY: context and scope are alive; the last argument may be null.
        let location = unsafe {
            di::LLVMDIBuilderCreateDebugLocation(
                self.context,
                line,
                column,
                scope,
                std::ptr::null_mut(),
            )
        };
        Meta(location, PhantomData)
    }

    /// Line and column from 1. Like [`Sources::line_col`], but with an index
    /// of lines, because every statement asks.
    fn line_col(&self, span: Span) -> (u32, u32) {
        let file = usize::from(span.file);
        let (Some(lines), Some(text)) = (self.lines.get(file), self.texts.get(file)) else {
            return (1, 1);
        };
        let start = span.start as usize;
        let line = lines.partition_point(|&l| l <= start);
        let line_start = lines.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let column = text.get(line_start..start).map_or(0, |t| t.chars().count()) + 1;
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (clamp(line), clamp(column))
    }

    /// Says what a global is, so that it gets a BTF entry.
    pub(super) fn global(&self, global: GlobalValue<'c>, ty: Meta<'c>) {
        let name = global.get_name().to_bytes();
        // SAFETY: the global and every node belong to this context; pointers come with
        // their lengths and are read in the calls only. Metadata kind 0 is `dbg`.
        unsafe {
            let empty = di::LLVMDIBuilderCreateExpression(self.builder, std::ptr::null_mut(), 0);
            let expression = di::LLVMDIBuilderCreateGlobalVariableExpression(
                self.builder,
                self.file(0),
                name.as_ptr().cast(),
                name.len(),
                std::ptr::null(),
                0,
                self.file(0),
                1,
                ty.0,
                0,
                empty,
                std::ptr::null_mut(),
                64,
            );
            llvm_sys::core::LLVMGlobalSetMetadata(global.as_value_ref(), 0, expression);
        }
    }

    /// An integer of 1, 2, 4 or 8 bytes under its C name.
    pub(super) fn int(&self, size: u8, signed: bool) -> Meta<'c> {
        let (name, encoding) = match (size, signed) {
            (1, true) => ("signed char", CHARACTER),
            (1, false) => ("unsigned char", UNSIGNED),
            (2, true) => ("short", SIGNED),
            (2, false) => ("unsigned short", UNSIGNED),
            (4, true) => ("int", SIGNED),
            (4, false) => ("unsigned int", UNSIGNED),
            (_, true) => ("long", SIGNED),
            (_, false) => ("unsigned long", UNSIGNED),
        };
        self.basic(name, u64::from(size), encoding)
    }

    fn basic(&self, name: &str, size: u64, encoding: u32) -> Meta<'c> {
        // SAFETY: the name comes with its length and is read in the call only.
        let ty = unsafe {
            di::LLVMDIBuilderCreateBasicType(
                self.builder,
                name.as_ptr().cast(),
                name.len(),
                size * 8,
                encoding,
                0,
            )
        };
        Meta(ty, PhantomData)
    }

    /// `void *`, or a pointer to a type.
    pub(super) fn pointer(&self, to: Option<Meta<'c>>) -> Meta<'c> {
        let to = to.map_or(std::ptr::null_mut(), |t| t.0);
        // SAFETY: a null pointee is `void`; the name is empty.
        let ty = unsafe {
            di::LLVMDIBuilderCreatePointerType(self.builder, to, 64, 0, 0, std::ptr::null(), 0)
        };
        Meta(ty, PhantomData)
    }

    /// `of[len]`; `size` is that of one element in bytes.
    pub(super) fn array(&self, of: Meta<'c>, size: u64, len: u64) -> Meta<'c> {
        // SAFETY: builder and type are alive; the one subscript is read in the call only.
        let ty = unsafe {
            let len = i64::try_from(len).expect("bug: an array fits memory");
            let mut subscript = di::LLVMDIBuilderGetOrCreateSubrange(self.builder, 0, len);
            let bits = size.saturating_mul(8).saturating_mul(len.unsigned_abs());
            di::LLVMDIBuilderCreateArrayType(self.builder, bits, 0, of.0, &raw mut subscript, 1)
        };
        Meta(ty, PhantomData)
    }

    /// An anonymous struct; members are name, offset, size (bytes) and type.
    pub(super) fn structure(
        &self,
        size: u64,
        members: &[(String, u64, u64, Meta<'c>)],
    ) -> Meta<'c> {
        let file = self.file(0);
        let mut elements: Vec<_> = members
            .iter()
            .map(|(name, offset, size, ty)| {
                // SAFETY: the name comes with its length and is read in the call only.
                unsafe {
                    di::LLVMDIBuilderCreateMemberType(
                        self.builder,
                        file,
                        name.as_ptr().cast(),
                        name.len(),
                        file,
                        1,
                        size * 8,
                        0,
                        offset * 8,
                        0,
                        ty.0,
                    )
                }
            })
            .collect();
        // SAFETY: the elements come with their number and are read in the call only.
        let ty = unsafe {
            di::LLVMDIBuilderCreateStructType(
                self.builder,
                file,
                std::ptr::null(),
                0,
                file,
                1,
                size * 8,
                0,
                0,
                std::ptr::null_mut(),
                elements.as_mut_ptr(),
                len32(&elements),
                0,
                std::ptr::null_mut(),
                std::ptr::null(),
                0,
            )
        };
        Meta(ty, PhantomData)
    }

    /// A struct or union of the kernel, with some of its members where they are in the kernel that
    /// the script is compiled for.
    pub(super) fn composite(
        &self,
        name: Option<&str>,
        tag: Tag,
        size: u32,
        members: &[(&Step, Meta<'c>)],
    ) -> Meta<'c> {
        let file = self.file(0);
        let name = name.unwrap_or_default();
        let end = |step: &Step| step.bit + step.width.map_or(step.shape.size() * 8, u64::from);
        // The kernel takes no types whose members end beyond them.
        let ends = members.iter().map(|(step, _)| end(step));
        let size = ends.chain([u64::from(size) * 8]).max().unwrap_or(0).next_multiple_of(64);
        // SAFETY: names come with their lengths, the members with their number; all are read in
        // the calls only. No type derives from another.
        let ty = unsafe {
            let member = |(step, ty): &(&Step, Meta<'c>)| match step.width {
                Some(width) => di::LLVMDIBuilderCreateBitFieldMemberType(
                    self.builder,
                    file,
                    step.name.as_ptr().cast(),
                    step.name.len(),
                    file,
                    1,
                    u64::from(width),
                    step.bit,
                    step.bit / 64 * 64,
                    // The flag of bit fields.
                    1 << 19,
                    ty.0,
                ),
                None => di::LLVMDIBuilderCreateMemberType(
                    self.builder,
                    file,
                    step.name.as_ptr().cast(),
                    step.name.len(),
                    file,
                    1,
                    step.shape.size() * 8,
                    0,
                    step.bit,
                    0,
                    ty.0,
                ),
            };
            let mut list: Vec<_> = members.iter().map(member).collect();
            match tag {
                Tag::Union => di::LLVMDIBuilderCreateUnionType(
                    self.builder,
                    file,
                    name.as_ptr().cast(),
                    name.len(),
                    file,
                    1,
                    size,
                    0,
                    0,
                    list.as_mut_ptr(),
                    len32(&list),
                    0,
                    std::ptr::null(),
                    0,
                ),
                Tag::Struct | Tag::Enum => di::LLVMDIBuilderCreateStructType(
                    self.builder,
                    file,
                    name.as_ptr().cast(),
                    name.len(),
                    file,
                    1,
                    size,
                    0,
                    0,
                    std::ptr::null_mut(),
                    list.as_mut_ptr(),
                    len32(&list),
                    0,
                    std::ptr::null_mut(),
                    std::ptr::null(),
                    0,
                ),
            }
        };
        Meta(ty, PhantomData)
    }

    /// A type under another name.
    pub(super) fn alias(&self, name: &str, ty: Meta<'c>) -> Meta<'c> {
        let file = self.file(0);
        // SAFETY: the name comes with its length and is read in the call only.
        let ty = unsafe {
            di::LLVMDIBuilderCreateTypedef(
                self.builder,
                ty.0,
                name.as_ptr().cast(),
                name.len(),
                file,
                1,
                file,
                0,
            )
        };
        Meta(ty, PhantomData)
    }

    /// Plain bytes, or an integer if the size is one's.
    pub(super) fn bytes(&self, size: u32) -> Meta<'c> {
        match size {
            1 | 2 | 4 | 8 => self.int(size.to_le_bytes()[0], false),
            n if n % 8 == 0 => self.array(self.int(8, false), 8, u64::from(n / 8)),
            n => self.array(self.int(1, false), 1, u64::from(n)),
        }
    }

    /// The C type that comes closest to a layout, so that other tools (bpftool)
    /// show something sensible.
    pub(super) fn layout(&self, layout: &Layout) -> Meta<'c> {
        let text = |size: u32| self.array(self.basic("char", 1, CHARACTER), 1, u64::from(size));
        let member = |name: &str, offset: u64, size: u64, ty| (name.to_owned(), offset, size, ty);
        let word = self.int(8, false);
        let half = self.int(4, false);
        match layout {
            Layout::Int { size, signed } | Layout::Enum { size, signed, .. } => {
                self.int(*size, *signed)
            }
            Layout::Bool => self.basic("bool", 1, BOOLEAN),
            Layout::Pointer | Layout::Ksym | Layout::Username => word,
            Layout::Str { size } | Layout::Chars { size } => text(*size),
            Layout::Buffer { size } => self.structure(
                u64::from(layout.size()),
                &[member("len", 0, 4, half), member("data", 4, u64::from(*size), text(*size))],
            ),
            Layout::Array { of, stride, len } if *stride == of.size() => {
                self.array(self.layout(of), u64::from(*stride), u64::from(*len))
            }
            Layout::Tuple { fields, size } | Layout::Record { fields, size }
                if fields.iter().all(|f| f.bits.is_none()) =>
            {
                self.fields(fields, *size)
            }
            Layout::Stack { .. } => self.structure(
                16,
                &[
                    // The lower half counts frames, the upper one is their limit.
                    member("frames", 0, 4, half),
                    member("pid", 4, 4, half),
                    member("id", 8, 8, word),
                ],
            ),
            Layout::Usym => {
                self.structure(16, &[member("address", 0, 8, word), member("pid", 8, 4, half)])
            }
            Layout::Timestamp => self.structure(
                16,
                &[
                    member("ns", 0, 8, word),
                    member("format", 8, 4, half),
                    member("clock", 12, 4, half),
                ],
            ),
            Layout::CgroupPath => {
                self.structure(16, &[member("id", 0, 8, word), member("filter", 8, 8, word)])
            }
            Layout::Inet => self.structure(
                24,
                &[
                    member("family", 0, 8, word),
                    member("address", 8, 16, self.array(self.int(1, false), 1, 16)),
                ],
            ),
            Layout::Array { .. }
            | Layout::Tuple { .. }
            | Layout::Record { .. }
            | Layout::Mac
            | Layout::Unsupported { .. } => {
                self.array(self.int(1, false), 1, u64::from(layout.size()))
            }
        }
    }

    fn fields(&self, fields: &[Field], size: u32) -> Meta<'c> {
        let members: Vec<_> = fields
            .iter()
            .enumerate()
            .map(|(number, field)| {
                let identifier =
                    field.name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
                        && field.name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
                let name = if identifier { field.name.clone() } else { format!("_{number}") };
                let size = u64::from(field.layout.size());
                (name, u64::from(field.offset), size, self.layout(&field.layout))
            })
            .collect();
        self.structure(u64::from(size), &members)
    }
}

fn len32<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("bug: more than 2^32 nodes")
}
