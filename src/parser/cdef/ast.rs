//! The tree of C definitions: what was declared, with spans, without meaning.

use crate::diag::Diagnostic;
use crate::lexer::c::Number;
use crate::parser::ast::TypeTag;
use crate::source::{Span, Spanned};

/// One declaration: `struct x { … };`, `typedef …;`, or a prototype, of which
/// only the types that it defines matter.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    pub typedef: bool,
    pub specifiers: Specifiers,
    pub declarators: Vec<Declarator>,
    /// Alignment of members that `#pragma pack` allows at most.
    pub pack: Option<u32>,
    pub span: Span,
}

/// The part of a declaration that its declarators share.
#[derive(Debug, Clone, PartialEq)]
pub struct Specifiers {
    pub base: Base,
    pub attributes: Vec<Spanned<Attribute>>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// A typedef, or words such as `unsigned long`, in the order of C's books.
    Name(String),
    /// `struct x` without a body.
    Tag {
        tag: TypeTag,
        name: String,
    },
    Record(Box<Record>),
    Enum(Box<Enum>),
    /// Words that make no type; a diagnostic exists.
    Error,
}

/// A struct or union with its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub union: bool,
    pub name: Option<Spanned<String>>,
    pub members: Vec<Member>,
    pub attributes: Vec<Spanned<Attribute>>,
    /// From the keyword to the brace that ends it.
    pub span: Span,
}

/// One line of a struct's body: `int a, *b, c : 3;`.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub specifiers: Specifiers,
    /// None for an anonymous struct or union.
    pub declarators: Vec<MemberDeclarator>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MemberDeclarator {
    /// None in `: 3`, which only takes room.
    pub declarator: Option<Declarator>,
    pub bits: Option<Expr>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Enum {
    pub name: Option<Spanned<String>>,
    /// The type that C23 lets one write after a `:`.
    pub stored_as: Option<Specifiers>,
    pub constants: Vec<Constant>,
    pub attributes: Vec<Spanned<Attribute>>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub name: Spanned<String>,
    /// Without it, one more than the constant before.
    pub value: Option<Expr>,
}

/// A name and what it is in terms of the specifiers.
#[derive(Debug, Clone, PartialEq)]
pub struct Declarator {
    /// Absent in the type of a cast or `sizeof`.
    pub name: Option<Spanned<String>>,
    /// From the name outward: `*a[3]` is an array, then a pointer.
    pub derived: Vec<Derived>,
    pub attributes: Vec<Spanned<Attribute>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Derived {
    /// With the marks behind its `*`.
    Pointer(Vec<Spanned<Attribute>>),
    /// `[]` has no length.
    Array(Option<Expr>, Span),
    Function,
}

/// What changes a layout or says what an address is for; others are dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    Packed,
    /// Without a number, the largest alignment of the machine.
    Aligned(Option<Expr>),
    /// `user`, `percpu` or `rcu`.
    Mark(&'static str),
}

/// Specifiers and a declarator without name, as in `sizeof(struct x *)`.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeName {
    pub specifiers: Specifiers,
    pub declarator: Declarator,
    pub span: Span,
}

pub type Expr = Spanned<ExprKind>;

/// A constant expression.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Number(Number),
    Name(String),
    Unary { op: UnaryOp, value: Box<Expr> },
    Binary { op: crate::parser::ast::BinaryOp, left: Box<Expr>, right: Box<Expr> },
    Ternary { cond: Box<Expr>, then: Box<Expr>, els: Box<Expr> },
    Cast { ty: Box<TypeName>, value: Box<Expr> },
    SizeofType(Box<TypeName>),
    SizeofExpr(Box<Expr>),
    Alignof(Box<TypeName>),
    Offsetof { ty: Box<TypeName>, path: Vec<Spanned<String>> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    Plus,
    Neg,
    BitNot,
    Not,
}

/// What one parse gives.
#[derive(Debug)]
pub(crate) enum Parsed {
    Declarations(Vec<Declaration>),
    Condition(Expr),
}

/// An attribute as written, before it is known whether it matters.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) name: Spanned<String>,
    pub(crate) args: Vec<AttributeArg>,
}

#[derive(Debug)]
pub(crate) enum AttributeArg {
    Expr(Expr),
    Text(String),
}

/// What the actions of one parse share.
pub(crate) struct Context<'t> {
    /// Locations of the grammar are indices into these.
    pub(crate) spans: &'t [Span],
    pub(crate) pack: Option<u32>,
    pub(crate) recovered: Vec<lalrpop_util::ErrorRecovery<usize, crate::lexer::c::CToken, ()>>,
    pub(crate) refused: Vec<Diagnostic>,
}
