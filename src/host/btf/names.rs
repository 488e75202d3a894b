//! C type text to [`Type`]: names that mean the same everywhere, pointers and
//! arrays; all other names are the caller's to resolve.

use crate::parser::ast::TypeTag;
use crate::types::{Space, Type};

/// Arrays of single bytes are strings (language.md §15.3); one without a length
/// is an array of nothing, of which only the address matters.
pub(crate) fn array(of: Type, len: u32) -> Type {
    match of {
        Type::Int { size: 1, .. } if len > 0 => Type::Str(len),
        of => Type::Array { of: Box::new(of), len },
    }
}

/// Types that are the same everywhere, so that no BTF is needed for them.
pub fn base_type(name: &str) -> Option<Type> {
    let (size, signed) = match name {
        "void" => return Some(Type::Void),
        "bool" | "_Bool" => return Some(Type::Bool),
        "float" | "double" | "long double" => return Some(Type::Unsupported(name.into())),
        "u8" | "__u8" | "uint8_t" | "u_int8_t" => (1, false),
        "u16" | "__u16" | "uint16_t" | "u_int16_t" | "__be16" | "__le16" => (2, false),
        "u32" | "__u32" | "uint32_t" | "u_int32_t" | "__be32" | "__le32" => (4, false),
        "u64" | "__u64" | "uint64_t" | "u_int64_t" | "__be64" | "__le64" => (8, false),
        "s8" | "__s8" | "int8_t" => (1, true),
        "s16" | "__s16" | "int16_t" => (2, true),
        "s32" | "__s32" | "int32_t" => (4, true),
        "s64" | "__s64" | "int64_t" => (8, true),
        "size_t" | "uintptr_t" => (8, false),
        "ssize_t" | "intptr_t" => (8, true),
        _ => return c_integer(name),
    };
    Some(Type::int(size, signed))
}

/// `unsigned long`, `long unsigned int`, `char` and so on; 64-bit Linux.
fn c_integer(name: &str) -> Option<Type> {
    let (mut sign, mut long, mut size) = (None, 0, None);
    for word in name.split_ascii_whitespace() {
        match word {
            "unsigned" => sign = Some(false),
            "signed" => sign = Some(true),
            "long" => long += 1,
            "short" => size = Some(2),
            "char" => size = Some(1),
            "int" => size = size.or(Some(4)),
            _ => return None,
        }
    }
    match (size, long, sign) {
        (None, 0, None) => None,
        (_, 1 | 2, _) => Some(Type::int(8, sign.unwrap_or(true))),
        (_, 0, _) => Some(Type::int(size.unwrap_or(4), sign.unwrap_or(true))),
        _ => None,
    }
}

/// Reads C type text: words, `*`s, `[N]`s, with names resolved by `find`.
pub fn parse_type(
    text: &str,
    find: impl Fn(Option<TypeTag>, &str) -> Option<Type>,
) -> Option<Type> {
    let end = text.find(['*', '[', '(']).unwrap_or(text.len());
    let (words, mut rest) = text.split_at_checked(end)?;
    let qualifier = |w: &&str| !matches!(*w, "const" | "volatile" | "restrict");
    let words: Vec<&str> = words.split_ascii_whitespace().filter(qualifier).collect();
    let mut ty = match words.as_slice() {
        ["struct", name] => find(Some(TypeTag::Struct), name)?,
        ["union", name] => find(Some(TypeTag::Union), name)?,
        ["enum", name] => find(Some(TypeTag::Enum), name)?,
        words => find(None, &words.join(" "))?,
    };
    let mut dimensions = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(tail) = rest.strip_prefix('*') {
            ty = Type::ptr(ty, Space::Kernel);
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('[') {
            let (len, tail) = tail.split_once(']')?;
            dimensions.push(if len.trim().is_empty() { 0 } else { len.trim().parse().ok()? });
            rest = tail;
        } else if let Some(tail) = ["const", "volatile", "restrict", "__restrict"]
            .iter()
            .find_map(|q| rest.strip_prefix(q))
        {
            rest = tail;
        } else if rest.is_empty() {
            return Some(dimensions.into_iter().rev().fold(ty, array));
        } else {
            return None;
        }
    }
}
