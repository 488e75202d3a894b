//! Functions that are not the script's: those of the kernel (kfuncs), and those of
//! objects that are linked to the script's.

/// A function that programs call and that is defined elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub name: String,
    pub origin: Origin,
    pub prototype: Prototype,
}

/// Where a foreign function is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// libbpf looks for it when the object is loaded.
    Kernel,
    /// libbpf's linker joins it.
    Object,
}

/// What a function takes and gives, in the words of C. Whoever joins caller and
/// function compares these, so names and sizes are those of the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prototype {
    pub result: CType,
    /// Names and types.
    pub params: Vec<(String, CType)>,
}

/// A type as BTF describes it, without typedefs and qualifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CType {
    Void,
    /// Size in bytes.
    Int {
        name: String,
        size: u8,
        signed: bool,
        bool: bool,
    },
    Enum {
        name: String,
        size: u8,
        signed: bool,
    },
    Pointer(Box<CType>),
    /// A struct or union, by its name.
    Composite {
        union: bool,
        name: String,
    },
}

impl CType {
    /// Bytes and sign of what a register holds; nothing for `void`.
    pub fn register(&self) -> Option<(u8, bool)> {
        match self {
            CType::Int { size, signed, .. } | CType::Enum { size, signed, .. } => {
                Some((*size, *signed))
            }
            CType::Pointer(_) => Some((8, false)),
            CType::Void | CType::Composite { .. } => None,
        }
    }
}
