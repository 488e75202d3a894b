//! Facts about the kernel's types that the loader fills in, since they differ from kernel to
//! kernel: the one place behind sema where names of the kernel remain.
//!
//! A row of [`super::Module::relocations`] is one such fact; [`super::Expr::Reloc`] is its value as
//! a word. Code generation makes CO-RE relocations of the rows. Modules for the running kernel
//! have none: their facts are constants.

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relocation {
    /// The type that it is about.
    pub root: Root,
    /// The members from there, for facts about a member.
    pub path: Vec<Step>,
    pub fact: Fact,
    /// What holds for the kernel that the script was compiled for.
    pub here: i64,
}

/// A named type of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Root {
    pub tag: Tag,
    pub name: String,
    /// It has only a `typedef` for a name.
    pub alias: bool,
    /// In bytes.
    pub size: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    Struct,
    Union,
    Enum,
}

/// A member of a struct or union; members of anonymous members count as the outer type's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    pub name: String,
    /// From the start of the struct, in bits.
    pub bit: u64,
    /// Of a bit field.
    pub width: Option<u8>,
    pub shape: Shape,
}

/// What the loader compares of a member's type: its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shape {
    Int { size: u8, signed: bool },
    Enum { name: String, size: u8 },
    Pointer,
    Composite { union: bool, size: u32 },
    Array { of: Box<Shape>, len: u32 },
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Where the member lies; of a bit field, the bytes that cover it.
    Offset,
    /// How many bytes that are.
    Size,
    Exists,
    /// A word of so many bytes, shifted left by this and then right by that, is the member.
    ShiftLeft,
    ShiftRight,
    TypeExists,
    TypeSize,
    /// The value of an enum's constant of that name.
    Value(String),
    ValueExists(String),
}

impl Shape {
    /// In bytes.
    pub fn size(&self) -> u64 {
        match self {
            Shape::Int { size, .. } | Shape::Enum { size, .. } => u64::from(*size),
            Shape::Pointer => 8,
            Shape::Composite { size, .. } => u64::from(*size),
            Shape::Array { of, len } => of.size().saturating_mul(u64::from(*len)),
        }
    }
}

impl std::fmt::Display for Relocation {
    /// As `--emit=ir` shows it: `offset of struct task_struct.pid`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tag = match self.root.tag {
            _ if self.root.alias => "typedef",
            Tag::Struct => "struct",
            Tag::Union => "union",
            Tag::Enum => "enum",
        };
        let what = match &self.fact {
            Fact::Offset => "offset of",
            Fact::Size => "size of",
            Fact::Exists | Fact::TypeExists => "there is",
            Fact::ShiftLeft => "left shift of",
            Fact::ShiftRight => "right shift of",
            Fact::TypeSize => "size of",
            Fact::Value(_) => "value of",
            Fact::ValueExists(_) => "there is",
        };
        write!(f, "{what} {tag} {}", self.root.name)?;
        for step in &self.path {
            write!(f, ".{}", step.name)?;
        }
        match &self.fact {
            Fact::Value(name) | Fact::ValueExists(name) => write!(f, ".{name}")?,
            _ => {}
        }
        write!(f, " (here {})", self.here)
    }
}
