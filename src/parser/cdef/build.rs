//! What the actions of the C grammar call: nodes from parts.

use super::ast::*;
use crate::diag::Diagnostic;
use crate::parser::ast::{BinaryOp, TypeTag};
use crate::source::{Span, Spanned};

/// A word after the first of a type such as `unsigned long`.
pub(crate) enum Word {
    Type(String),
    Modifier(Vec<Spanned<Attribute>>),
}

/// Attributes that change how something lies in memory, in ways that are not
/// worked out here.
const REFUSED: [&str; 6] =
    ["mode", "vector_size", "ext_vector_type", "scalar_storage_order", "ms_struct", "gcc_struct"];

impl Context<'_> {
    /// The place of tokens `start..end`.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = self.spans.get(start).or(self.spans.last()).copied().unwrap_or_default();
        match end.checked_sub(1).filter(|last| *last >= start).and_then(|l| self.spans.get(l)) {
            Some(last) => first.to(*last),
            None => first,
        }
    }
}

pub(crate) fn declaration(
    cx: &mut Context<'_>,
    l: usize,
    typedef: bool,
    specifiers: Specifiers,
    declarators: Vec<Declarator>,
    r: usize,
) -> Declaration {
    Declaration { typedef, specifiers, declarators, pack: cx.pack, span: cx.span(l, r) }
}

pub(crate) fn specifiers(
    cx: &mut Context<'_>,
    l: usize,
    before: Vec<Vec<Spanned<Attribute>>>,
    mut base: Base,
    after: Vec<Vec<Spanned<Attribute>>>,
    r: usize,
) -> Specifiers {
    let mut attributes: Vec<_> = before.into_iter().flatten().collect();
    let after = after.into_iter().flatten();
    // Behind the brace they belong to the type, else to what is declared.
    match &mut base {
        Base::Record(record) => record.attributes.extend(after),
        Base::Enum(e) => e.attributes.extend(after),
        Base::Name(_) | Base::Tag { .. } | Base::Error => attributes.extend(after),
    }
    Specifiers { base, attributes, span: cx.span(l, r) }
}

/// A type of several words.
pub(crate) fn words(
    cx: &mut Context<'_>,
    l: usize,
    before: Vec<Vec<Spanned<Attribute>>>,
    first: String,
    rest: Vec<Word>,
    r: usize,
) -> Specifiers {
    let mut attributes: Vec<_> = before.into_iter().flatten().collect();
    let mut words = vec![first];
    for word in rest {
        match word {
            Word::Type(word) => words.push(word),
            Word::Modifier(list) => attributes.extend(list),
        }
    }
    let span = cx.span(l, r);
    let base = match name_of(&words) {
        Some(name) => Base::Name(name),
        None => {
            let shown = words.join(" ");
            cx.refused.push(Diagnostic::error(span, format!("`{shown}` is no type")));
            Base::Error
        }
    };
    Specifiers { base, attributes, span }
}

/// The usual spelling of a type, whatever the order of its words.
fn name_of(words: &[String]) -> Option<String> {
    let count = |word: &str| words.iter().filter(|w| *w == word).count();
    let (unsigned, signed) = (count("unsigned"), count("signed"));
    let mut main: Vec<&str> =
        words.iter().map(String::as_str).filter(|w| !w.ends_with("signed")).collect();
    // `long` and `short` may have an `int` that says nothing.
    if main.len() > 1 && count("int") == 1 && (count("long") > 0 || count("short") > 0) {
        main.retain(|w| *w != "int");
    }
    if main.is_empty() {
        main.push("int");
    }
    main.sort_unstable_by_key(|w| *w != "long");
    let main = main.join(" ");
    let integer =
        matches!(main.as_str(), "char" | "short" | "int" | "long" | "long long" | "__int128");
    match (unsigned, signed) {
        (0, 0) if integer => Some(main),
        (0, 1) if main == "char" => Some("signed char".into()),
        (0, 1) if integer => Some(main),
        (1, 0) if integer => Some(format!("unsigned {main}")),
        (0, 0) => {
            let other = matches!(main.as_str(), "void" | "float" | "double" | "long double");
            other.then_some(main)
        }
        _ => None,
    }
}

pub(crate) fn mark(
    cx: &mut Context<'_>,
    l: usize,
    mark: &'static str,
    r: usize,
) -> Vec<Spanned<Attribute>> {
    match mark {
        "" => Vec::new(),
        mark => vec![Spanned::new(Attribute::Mark(mark), cx.span(l, r))],
    }
}

pub(crate) fn aligned(
    cx: &mut Context<'_>,
    l: usize,
    n: Expr,
    r: usize,
) -> Vec<Spanned<Attribute>> {
    vec![Spanned::new(Attribute::Aligned(Some(n)), cx.span(l, r))]
}

/// As strict as another type.
pub(crate) fn alignas(
    cx: &mut Context<'_>,
    l: usize,
    ty: TypeName,
    r: usize,
) -> Vec<Spanned<Attribute>> {
    let align = Spanned::new(ExprKind::Alignof(Box::new(ty)), cx.span(l, r));
    aligned(cx, l, align, r)
}

/// The attributes among `__attribute__((…))` that matter.
pub(crate) fn attributes(
    cx: &mut Context<'_>,
    list: Vec<Option<Written>>,
) -> Vec<Spanned<Attribute>> {
    let mut found = Vec::new();
    for Written { name, args } in list.into_iter().flatten() {
        let plain = name.node.trim_matches('_');
        let attribute = match (plain, args.into_iter().next()) {
            ("packed", _) => Attribute::Packed,
            ("aligned", Some(AttributeArg::Expr(n))) => Attribute::Aligned(Some(n)),
            ("aligned", None) => Attribute::Aligned(None),
            ("btf_type_tag", Some(AttributeArg::Text(tag))) => {
                match super::mark(tag.trim_matches('"')) {
                    Some(mark) => Attribute::Mark(mark),
                    None => continue,
                }
            }
            _ if REFUSED.contains(&plain) => {
                let message = format!("the attribute `{plain}` is not supported");
                let error = Diagnostic::error(name.span, message)
                    .note("it changes how values lie in memory");
                cx.refused.push(error);
                continue;
            }
            _ => continue,
        };
        found.push(Spanned::new(attribute, name.span));
    }
    found
}

pub(crate) fn record(
    cx: &mut Context<'_>,
    l: usize,
    tag: TypeTag,
    attributes: Vec<Spanned<Attribute>>,
    name: Option<Spanned<String>>,
    members: Vec<Option<Member>>,
    r: usize,
) -> Base {
    let members = members.into_iter().flatten().collect();
    let union = tag == TypeTag::Union;
    Base::Record(Box::new(Record { union, name, members, attributes, span: cx.span(l, r) }))
}

pub(crate) fn enumeration(
    cx: &mut Context<'_>,
    l: usize,
    attributes: Vec<Spanned<Attribute>>,
    name: Option<Spanned<String>>,
    stored_as: Option<Specifiers>,
    constants: Vec<Constant>,
    r: usize,
) -> Base {
    Base::Enum(Box::new(Enum { name, stored_as, constants, attributes, span: cx.span(l, r) }))
}

pub(crate) fn bit_field(
    cx: &mut Context<'_>,
    l: usize,
    declarator: Option<Declarator>,
    bits: Expr,
    attributes: Vec<Spanned<Attribute>>,
    r: usize,
) -> MemberDeclarator {
    let declarator = declarator.map(|d| with_attributes(d, attributes));
    MemberDeclarator { declarator, bits: Some(bits), span: cx.span(l, r) }
}

pub(crate) fn nameless() -> Declarator {
    Declarator { name: None, derived: Vec::new(), attributes: Vec::new() }
}

pub(crate) fn with_attributes(
    mut declarator: Declarator,
    attributes: Vec<Spanned<Attribute>>,
) -> Declarator {
    declarator.attributes.extend(attributes);
    declarator
}

/// The `*`s in front of a declarator, which bind less than what is behind it.
pub(crate) fn pointers(pointers: Vec<Derived>, mut declarator: Declarator) -> Declarator {
    declarator.derived.extend(pointers.into_iter().rev());
    declarator
}

pub(crate) fn suffix(mut declarator: Declarator, suffix: Derived) -> Declarator {
    declarator.derived.push(suffix);
    declarator
}

pub(crate) fn ternary(
    cx: &mut Context<'_>,
    l: usize,
    cond: Expr,
    then: Expr,
    els: Expr,
    r: usize,
) -> Expr {
    let kind = ExprKind::Ternary { cond: Box::new(cond), then: Box::new(then), els: Box::new(els) };
    Spanned::new(kind, cx.span(l, r))
}

pub(crate) fn binary(
    cx: &mut Context<'_>,
    l: usize,
    op: BinaryOp,
    left: Expr,
    right: Expr,
    r: usize,
) -> Expr {
    let kind = ExprKind::Binary { op, left: Box::new(left), right: Box::new(right) };
    Spanned::new(kind, cx.span(l, r))
}
