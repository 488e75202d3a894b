//! The tree of what was written: spans, no types, no meaning.
//!
//! Names are plain text here; whether `comm` is a builtin and what `foo(1)`
//! calls is settled in `sema`. A place that could not be parsed is an
//! `Error` node, and a diagnostic exists for it.

use crate::source::{Span, Spanned};

/// A whole script, its sections in the order that the language demands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Script {
    /// C lines and definitions at the head, verbatim, one per entry.
    pub cdefs: Vec<Spanned<String>>,
    pub config: Vec<ConfigEntry>,
    /// Root-level `import "…";`.
    pub imports: Vec<Spanned<Vec<u8>>>,
    pub items: Vec<Item>,
}

/// `key = value` in a config block.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigEntry {
    pub key: Spanned<String>,
    pub value: Spanned<ConfigValue>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConfigValue {
    Int(u64),
    Bool(bool),
    /// A string literal or a bare word.
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Probe(Probe),
    Macro(Macro),
    Function(Function),
    MapDecl(MapDecl),
}

/// Attach points, predicate and block.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub attach_points: Vec<AttachPoint>,
    pub predicate: Option<Expr>,
    pub block: Block,
    pub span: Span,
}

/// One event source in text; providers parse it later.
#[derive(Debug, Clone, PartialEq)]
pub struct AttachPoint {
    /// `name=` before the attach point.
    pub label: Option<Spanned<String>>,
    /// As written, quotes included, label excluded.
    pub text: String,
    /// The span of `text`.
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Macro {
    pub name: Spanned<String>,
    pub params: Vec<Spanned<MacroParam>>,
    pub body: Block,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MacroParam {
    Var(String),
    Map(String),
    Ident(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub name: Spanned<String>,
    pub params: Vec<(Spanned<String>, TypeExpr)>,
    pub result: TypeExpr,
    pub body: Block,
    pub span: Span,
}

/// `let @name = kind(N);`
#[derive(Debug, Clone, PartialEq)]
pub struct MapDecl {
    /// Without the `@`.
    pub name: Spanned<String>,
    pub kind: Spanned<String>,
    pub max_entries: Spanned<u64>,
    pub span: Span,
}

/// Statements, and the trailing expression without `;` if there is one. In
/// value positions that is the block's value, elsewhere it is a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub stmts: Vec<Stmt>,
    pub value: Option<Box<Expr>>,
    pub span: Span,
}

pub type Stmt = Spanned<StmtKind>;
pub type Expr = Spanned<ExprKind>;
pub type TypeExpr = Spanned<TypeExprKind>;

#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    /// `let $name : ty = init;`; `name` without the `$`.
    Let {
        name: Spanned<String>,
        ty: Option<TypeExpr>,
        init: Option<Expr>,
    },
    /// `target op= value;`; the target is a variable, map or map element.
    Assign {
        target: Expr,
        op: Option<BinaryOp>,
        value: Expr,
    },
    /// `_ = e;`
    Discard(Expr),
    Expr(Expr),
    While {
        cond: Expr,
        body: Block,
    },
    For {
        var: Spanned<String>,
        range: ForRange,
        body: Block,
    },
    Unroll {
        count: Expr,
        body: Block,
    },
    Break,
    Continue,
    Return(Option<Expr>),
    Import(Vec<u8>),
    /// Did not parse; a diagnostic says why.
    Error,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ForRange {
    /// `for ($kv : @m)`: an `ExprKind::Map` without key.
    Map(Expr),
    /// `for ($i : a..b)`: `b` is exclusive.
    Range(Expr, Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Int(u64),
    /// Bytes after escapes; not necessarily UTF-8.
    Str(Vec<u8>),
    Bool(bool),
    /// `$name`, without the `$`.
    Var(String),
    /// `$N`, from 1.
    Param(u64),
    /// `$#`
    ParamCount,
    /// `@name` or `@name[k1, k2]`; the anonymous map has an empty name.
    Map {
        name: String,
        key: Option<Vec<Expr>>,
    },
    /// A bare word: builtin, macro, enum constant, C constant.
    Ident(String),
    Call {
        name: Spanned<String>,
        args: Vec<Expr>,
    },
    Tuple(Vec<Expr>),
    Record(Vec<(Spanned<String>, Expr)>),
    Cast {
        ty: TypeExpr,
        value: Box<Expr>,
    },
    Unary {
        op: UnaryOp,
        value: Box<Expr>,
    },
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `cond ? then : els`; `then` is absent in `cond ?: els`.
    Ternary {
        cond: Box<Expr>,
        then: Option<Box<Expr>>,
        els: Box<Expr>,
    },
    /// `.name` or `->name`.
    Field {
        base: Box<Expr>,
        name: Spanned<String>,
    },
    /// `.N`
    TupleField {
        base: Box<Expr>,
        index: Spanned<u64>,
    },
    Index {
        base: Box<Expr>,
        index: Box<Expr>,
    },
    /// `++`/`--` on a variable, map or map element.
    IncDec {
        target: Box<Expr>,
        increment: bool,
        prefix: bool,
    },
    If(Box<IfExpr>),
    Block(Box<Block>),
    Sizeof(Box<TypeOrExpr>),
    Offsetof {
        of: Box<TypeOrExpr>,
        path: Vec<Spanned<String>>,
    },
    Typeinfo(Box<TypeOrExpr>),
    Comptime(Box<Expr>),
    /// `typeof(…)` as a macro argument.
    TypeArg(Box<TypeOrExpr>),
    /// Did not parse; a diagnostic says why.
    Error,
}

#[derive(Debug, Clone, PartialEq)]
pub struct IfExpr {
    pub cond: Expr,
    pub then: Block,
    /// `else if` is a block whose only content is another `If` as its value.
    pub els: Option<Block>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TypeOrExpr {
    Type(TypeExpr),
    /// A lone word stays an expression here; sema tries it as a type first.
    Expr(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub enum TypeExprKind {
    Named { tag: Option<TypeTag>, name: String, suffixes: Vec<TypeSuffix> },
    Typeof { of: Box<TypeOrExpr>, suffixes: Vec<TypeSuffix> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TypeTag {
    Struct,
    Union,
    Enum,
}

impl TypeTag {
    /// The word as written.
    pub fn word(self) -> &'static str {
        match self {
            TypeTag::Struct => "struct",
            TypeTag::Union => "union",
            TypeTag::Enum => "enum",
        }
    }
}

/// Read left to right: `int32*[4]` is an array of four pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeSuffix {
    Pointer,
    Array(Option<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `!`
    Not,
    /// `~`
    BitNot,
    /// `-`
    Neg,
    /// `*`
    Deref,
    /// `&`, on a variable or a whole map.
    AddrOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    BitAnd,
    BitOr,
    BitXor,
    Shl,
    Shr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

impl BinaryOp {
    /// The operator as written.
    pub fn text(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::Shl => "<<",
            BinaryOp::Shr => ">>",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::And => "&&",
            BinaryOp::Or => "||",
        }
    }
}

impl UnaryOp {
    /// The operator as written.
    pub fn text(self) -> &'static str {
        match self {
            UnaryOp::Not => "!",
            UnaryOp::BitNot => "~",
            UnaryOp::Neg => "-",
            UnaryOp::Deref => "*",
            UnaryOp::AddrOf => "&",
        }
    }
}
