//! The typed tree: every name resolved, every type settled, constants folded.
//!
//! Made by the checker for each [`crate::probes::Instance`] of a probe, used
//! up by lowering.

use crate::builtins::Builtin;
use crate::ir::Relocation;
use crate::parser::ast::BinaryOp;
use crate::plan::{self, Param};
use crate::probes::{Argument, Instance};
use crate::source::Span;
use crate::types::{Aggregation, Member, StackMode, Type};

/// A block of a script for one instance of an attach point.
#[derive(Debug, Clone)]
pub struct Probe {
    pub instance: Instance,
    pub vars: Vec<Var>,
    pub predicate: Option<Expr>,
    pub body: Block,
    /// The whole probe.
    pub span: Span,
}

/// A function of the script. Its first variables are its parameters.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    /// Types of its parameters, its first variables.
    pub params: Vec<Type>,
    pub result: Type,
    /// The rest of it, as of a probe without attach points.
    pub program: Probe,
}

/// A scratch variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Var {
    pub name: String,
    pub ty: Type,
    /// Declared with its type, which no assignment changes.
    pub declared: bool,
    /// Its address is taken, so it lives in memory.
    pub addressed: bool,
    pub span: Span,
}

/// Index into [`Probe::vars`].
pub type VarId = usize;
/// Index into the checker's map table.
pub type MapId = usize;
/// Number of a function among those of the script.
pub type FunctionId = usize;

/// A function that is defined elsewhere: index into those that the script calls.
pub type ForeignId = usize;

#[derive(Debug, Clone)]
pub struct Block {
    pub stmts: Vec<Stmt>,
    pub value: Option<Box<Expr>>,
}

#[derive(Debug, Clone)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
}

impl Stmt {
    /// Whether nothing behind it in the block can run.
    pub fn leaves(&self) -> bool {
        match &self.kind {
            StmtKind::Break | StmtKind::Continue | StmtKind::Return(_) => true,
            StmtKind::Expr(Expr { kind: ExprKind::Call { builtin, .. }, .. }) => builtin.leaves,
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
pub enum StmtKind {
    /// Sets a variable to zero.
    Declare(VarId),
    Assign {
        target: Target,
        value: Expr,
    },
    /// `@m[k] = count()` and the like.
    Aggregate {
        map: MapId,
        key: Option<Expr>,
        function: Aggregation,
        value: Option<Expr>,
    },
    /// `target = target op value`, the target read once. Only integers.
    Update {
        target: Target,
        op: BinaryOp,
        value: Expr,
    },
    Expr(Expr),
    While {
        cond: Expr,
        body: Block,
    },
    ForMap {
        var: VarId,
        map: MapId,
        body: Block,
    },
    ForRange {
        var: VarId,
        from: Expr,
        to: Expr,
        body: Block,
    },
    Unroll {
        count: u64,
        body: Block,
    },
    Break,
    Continue,
    Return(Option<Expr>),
}

#[derive(Debug, Clone)]
pub enum Target {
    Var(VarId),
    Map { map: MapId, key: Option<Expr> },
}

#[derive(Debug, Clone)]
pub struct Expr {
    pub kind: ExprKind,
    pub ty: Type,
    pub span: Span,
    /// A non-negative integer literal: takes the other operand's sign.
    pub flexible: bool,
    /// An integer literal, or made of literals alone: computed exactly, while
    /// values of a type are computed in 64 bits.
    pub exact: bool,
}

#[derive(Debug, Clone)]
pub enum ExprKind {
    /// An error stood here; a diagnostic exists.
    Error,
    /// Value of an integer, bool, enum or null pointer constant.
    Int(i128),
    Str(Vec<u8>),
    Var(VarId),
    /// The value of a scalar map or map element; of aggregations, the element
    /// as an integer if the type of the expression is one.
    Map {
        map: MapId,
        key: Option<Box<Expr>>,
    },
    /// A map as a whole, as an argument of `print`, `clear`, ….
    MapName(MapId),
    /// `&$v` and `&@m`.
    AddressOfVar(VarId),
    AddressOfMap(MapId),
    /// `args.x`, `argN`, `retval`.
    Argument(Argument),
    /// A fact about the kernel, which the loader fills in.
    Kernel(Box<Relocation>),
    /// A word that the run side fills in.
    Param(Param),
    /// The text of a named parameter, by its number.
    OptionText(u32),
    /// `args` as a value: every field.
    Args(Vec<Argument>),
    /// A type as an argument (`sizeof`-like functions fold; this stays for macros).
    Call {
        builtin: &'static Builtin,
        args: Vec<Expr>,
        detail: Detail,
    },
    /// A call of a function of the script, its arguments converted.
    CallFunction {
        function: FunctionId,
        args: Vec<Expr>,
    },
    /// A call of a function that is defined elsewhere, its arguments converted.
    CallForeign {
        function: ForeignId,
        args: Vec<Expr>,
    },
    /// Negation, complement and not, on words.
    Neg(Box<Expr>),
    BitNot(Box<Expr>),
    Not(Box<Expr>),
    /// Arithmetic and comparison of integers and pointers (already scaled).
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `==` and `!=` of strings, arrays, buffers, tuples and records.
    CompareMemory {
        equal: bool,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `&&` and `||`.
    Logical {
        and: bool,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Ternary {
        cond: Box<Expr>,
        then: Box<Expr>,
        els: Box<Expr>,
    },
    /// Between scalars, or of memory read as another type of the same size.
    Cast(Box<Expr>),
    /// A member of a struct, or of what a pointer points to. Text of a struct
    /// of the script has room for a NUL behind the member's own bytes.
    Member {
        base: Box<Expr>,
        member: Member,
    },
    /// What a pointer points to.
    Deref(Box<Expr>),
    Index {
        base: Box<Expr>,
        index: Box<Expr>,
    },
    Tuple(Vec<Expr>),
    Record(Vec<(String, Expr)>),
    /// Element of a tuple or field of a record, by number.
    Element {
        base: Box<Expr>,
        index: usize,
    },
    IncDec {
        target: Box<Target>,
        increment: bool,
        prefix: bool,
    },
    If {
        cond: Box<Expr>,
        then: Block,
        els: Option<Block>,
    },
    Block(Block),
}

/// What a call's checker found out besides the arguments.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    None,
    Format(plan::Format),
    Text(String),
    Number(i64),
    Numbers(Vec<i64>),
    Stack {
        user: bool,
        /// By DWARF instead of frame pointers.
        dwarf: bool,
        mode: StackMode,
        limit: u32,
    },
    Clock(Clock),
    Map {
        map: MapId,
        numbers: Vec<i64>,
    },
    /// `find`: the map, and where its value goes.
    Find {
        map: MapId,
        var: VarId,
    },
    /// Something whose type the verifier knows.
    Object(Object),
    /// Load a context word at this offset (registers).
    Register(u32),
}

/// Where pointers come from whose types the kernel's verifier knows, besides
/// the arguments of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    CurrentTask,
    /// The context of an iterator: its members are pointers, which may be null.
    Iterator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Boot,
    Monotonic,
    Tai,
    /// The boot clock, moved to where the TAI clock was at the start.
    SoftwareTai,
}

impl Expr {
    pub fn new(kind: ExprKind, ty: Type, span: Span) -> Expr {
        Expr { kind, ty, span, flexible: false, exact: false }
    }

    /// Of a member that gives one byte more than it has, so that text without a
    /// NUL gets one: the member as it is stored. Else the expression itself.
    #[must_use]
    pub fn stored(mut self) -> Expr {
        if let ExprKind::Member { member, .. } = &self.kind
            && matches!(self.ty, Type::Str(_))
        {
            self.ty = member.ty.clone();
        }
        self
    }

    /// The stand-in for an expression with an error.
    pub fn error(span: Span) -> Expr {
        Expr::new(ExprKind::Error, Type::Unknown, span)
    }

    /// An integer literal: the smallest signed type that holds it.
    pub fn literal(value: i128, span: Span) -> Expr {
        let size = [1u8, 2, 4, 8].into_iter().find(|s| {
            let bits = u32::from(*s) * 8 - 1;
            value >= -(1i128 << bits) && value < (1i128 << bits)
        });
        let ty = size.map_or(Type::UINT64, |s| Type::int(s, true));
        Expr { kind: ExprKind::Int(value), ty, span, flexible: value >= 0, exact: true }
    }

    /// Its value, if it is a constant number.
    pub fn constant(&self) -> Option<i128> {
        match &self.kind {
            ExprKind::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether it is a constant that is computed exactly: literals, and the
    /// names of enums and truth values, which stand for them.
    pub fn is_exact(&self) -> bool {
        let named = matches!(self.ty, Type::Enum(_) | Type::Bool);
        matches!(self.kind, ExprKind::Int(_)) && (self.exact || named)
    }

    /// Its bytes, if it is a string literal.
    pub fn text(&self) -> Option<&[u8]> {
        match &self.kind {
            ExprKind::Str(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether it is known at compile time: a number, a string, or a tuple or
    /// record of them.
    pub fn is_literal(&self) -> bool {
        match &self.kind {
            ExprKind::Int(_) | ExprKind::Str(_) => true,
            ExprKind::Tuple(list) => list.iter().all(Expr::is_literal),
            ExprKind::Record(list) => list.iter().all(|f| f.1.is_literal()),
            _ => false,
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self.kind, ExprKind::Error)
    }

    /// Whether evaluating it twice, or not at all, makes a difference.
    pub fn has_effects(&self) -> bool {
        match &self.kind {
            ExprKind::IncDec { .. }
            | ExprKind::If { .. }
            | ExprKind::Block(_)
            | ExprKind::CallFunction { .. }
            | ExprKind::CallForeign { .. } => true,
            ExprKind::Call { builtin, args, .. } => {
                builtin.effects || args.iter().any(Expr::has_effects)
            }
            ExprKind::Error
            | ExprKind::Int(_)
            | ExprKind::Str(_)
            | ExprKind::Var(_)
            | ExprKind::MapName(_)
            | ExprKind::AddressOfVar(_)
            | ExprKind::AddressOfMap(_)
            | ExprKind::Argument(_)
            | ExprKind::Kernel(_)
            | ExprKind::Param(_)
            | ExprKind::OptionText(_)
            | ExprKind::Args(_) => false,
            ExprKind::Map { key, .. } => key.as_ref().is_some_and(|k| k.has_effects()),
            ExprKind::Neg(e)
            | ExprKind::BitNot(e)
            | ExprKind::Not(e)
            | ExprKind::Cast(e)
            | ExprKind::Deref(e)
            | ExprKind::Member { base: e, .. }
            | ExprKind::Element { base: e, .. } => e.has_effects(),
            ExprKind::Binary { left, right, .. }
            | ExprKind::CompareMemory { left, right, .. }
            | ExprKind::Logical { left, right, .. }
            | ExprKind::Index { base: left, index: right } => {
                left.has_effects() || right.has_effects()
            }
            ExprKind::Ternary { cond, then, els } => {
                cond.has_effects() || then.has_effects() || els.has_effects()
            }
            ExprKind::Tuple(list) => list.iter().any(Expr::has_effects),
            ExprKind::Record(list) => list.iter().any(|f| f.1.has_effects()),
        }
    }
}
