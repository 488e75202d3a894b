//! What the actions of the grammar call: nodes from parts.
//!
//! Shapes that the grammar accepts for the sake of a better message than
//! "unexpected `=`" are refused here, with an `Error` node in their place.

use lalrpop_util::ErrorRecovery;

use crate::diag::Diagnostic;
use crate::lexer::Token;
use crate::lexer::token::AttachText;
use crate::parser::ast::*;
use crate::source::{FileId, Span, Spanned};

/// What the actions of one parse share.
pub(crate) struct Context {
    file: FileId,
    /// Grammar errors after which the parser went on.
    pub(crate) recovered: Vec<ErrorRecovery<usize, Token, ()>>,
    /// Shapes that parse and mean nothing.
    pub(crate) refused: Vec<Diagnostic>,
}

/// One part of a script.
#[derive(Debug)]
pub(crate) enum Part {
    CDef(Spanned<String>),
    Config(Vec<ConfigEntry>),
    Import(Spanned<Vec<u8>>),
    Item(Item),
    /// The whole text is one expression.
    Expr(Expr),
    /// A stray `;`.
    Nothing,
}

/// One statement of a block.
pub(crate) enum Entry {
    Empty,
    /// With its `;`.
    Ended(Stmt),
    /// Ends at a brace.
    Compound(Stmt),
}

impl Context {
    pub(crate) fn new(file: FileId) -> Context {
        Context { file, recovered: Vec::new(), refused: Vec::new() }
    }

    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    /// The span from byte `start` to the end of `last`.
    fn up_to(&self, start: usize, last: Span) -> Span {
        self.span(start, last.end as usize)
    }

    /// The span from the start of `first` to byte `end`.
    fn from(&self, first: Span, end: usize) -> Span {
        self.span(first.start as usize, end)
    }
}

// Parts of a script.

pub(crate) fn config(list: Vec<Option<ConfigEntry>>, last: Option<ConfigEntry>) -> Part {
    Part::Config(list.into_iter().flatten().chain(last).collect())
}

pub(crate) fn config_text(bytes: Vec<u8>) -> ConfigValue {
    ConfigValue::Text(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn map_decl(
    span: Span,
    name: Spanned<String>,
    kind: Spanned<String>,
    max_entries: Spanned<u64>,
) -> Part {
    Part::Item(Item::MapDecl(MapDecl { name, kind, max_entries, span }))
}

pub(crate) fn attach_point(span: Span, AttachText { label, text }: AttachText) -> AttachPoint {
    let start = span.end as usize - text.len();
    let label = label.map(|name| {
        let end = span.start as usize + name.len();
        Spanned::new(name, Span::new(span.file, span.start as usize, end))
    });
    AttachPoint { label, text, span: Span::new(span.file, start, span.end as usize) }
}

// Statements.

/// A block; what stands last in it without `;` is its value.
pub(crate) fn block(span: Span, entries: Vec<Entry>, last: Option<Stmt>) -> Block {
    let mut value = None;
    let mut stmts = Vec::with_capacity(entries.len() + 1);
    let trailing = if last.is_some() { 0 } else { 1 };
    let count = entries.len();
    for (i, entry) in entries.into_iter().enumerate() {
        match entry {
            Entry::Empty => {}
            Entry::Compound(Spanned { node: StmtKind::Expr(expr), .. })
                if i + trailing == count =>
            {
                value = Some(Box::new(expr));
            }
            Entry::Ended(stmt) | Entry::Compound(stmt) => stmts.push(stmt),
        }
    }
    match last {
        Some(Spanned { node: StmtKind::Expr(expr), .. }) => value = Some(Box::new(expr)),
        Some(stmt) => stmts.push(stmt),
        None => {}
    }
    Block { stmts, value, span }
}

pub(crate) fn assign(
    cx: &mut Context,
    target: Expr,
    op: Option<BinaryOp>,
    value: Expr,
) -> StmtKind {
    let why = match &target.node {
        ExprKind::Var(_) | ExprKind::Map { .. } => {
            return StmtKind::Assign { target, op, value };
        }
        // Something else is wrong with it already.
        ExprKind::Error => return StmtKind::Error,
        ExprKind::TupleField { .. } => "tuples cannot be changed; build a new one",
        ExprKind::Field { .. } => {
            "fields of records and structs cannot be changed; build a new record"
        }
        ExprKind::Unary { op: UnaryOp::Deref, .. } => {
            "memory behind a pointer cannot be changed; `write_user(to, from, n)` writes into processes"
        }
        ExprKind::Index { base, .. } if is_map(base) => {
            "an element of a map's value cannot be changed; several keys are written `@m[a, b]`"
        }
        ExprKind::Index { .. } => {
            "elements of arrays and tuples cannot be changed; keep the values in a map: `@a[i] = …`"
        }
        ExprKind::Ident(_) => "names of variables start with `$`, names of maps with `@`",
        _ => "only variables, maps and map elements can be assigned",
    };
    let d = Diagnostic::error(target.span, "this cannot be assigned").at("not a variable or map");
    let d = match why.split_once("; ") {
        Some((why, help)) => d.note(why).help(help),
        None => d.note(why),
    };
    cx.refused.push(d);
    StmtKind::Error
}

fn is_map(expr: &Expr) -> bool {
    matches!(expr.node, ExprKind::Map { .. })
}

pub(crate) fn recover(cx: &mut Context, error: ErrorRecovery<usize, Token, ()>) -> StmtKind {
    cx.recovered.push(error);
    StmtKind::Error
}

pub(crate) fn for_loop((var, range): (Spanned<String>, ForRange), body: Block) -> StmtKind {
    StmtKind::For { var, range, body }
}

pub(crate) fn for_map(cx: &mut Context, over: Expr) -> ForRange {
    if !matches!(over.node, ExprKind::Map { key: None, .. } | ExprKind::Error) {
        cx.refused.push(
            Diagnostic::error(over.span, "a `for` loop cannot run over this")
                .at("neither a map nor a range")
                .help("write `for ($kv : @map)`, or `for ($i : 0..10)`"),
        );
    }
    ForRange::Map(over)
}

/// The block for `else if`.
pub(crate) fn else_if(expr: Expr) -> Block {
    Block { stmts: Vec::new(), span: expr.span, value: Some(Box::new(expr)) }
}

// Expressions.

pub(crate) fn block_expr(block: Spanned<Block>) -> Expr {
    Spanned::new(ExprKind::Block(Box::new(block.node)), block.span)
}

pub(crate) fn ternary(cond: Expr, then: Option<Expr>, els: Expr) -> Expr {
    let span = cond.span.to(els.span);
    let (cond, els) = (Box::new(cond), Box::new(els));
    Spanned::new(ExprKind::Ternary { cond, then: then.map(Box::new), els }, span)
}

pub(crate) fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    let span = left.span.to(right.span);
    let (left, right) = (Box::new(left), Box::new(right));
    Spanned::new(ExprKind::Binary { op, left, right }, span)
}

pub(crate) fn unary(cx: &mut Context, start: usize, op: UnaryOp, value: Expr) -> Expr {
    let span = cx.up_to(start, value.span);
    let has_address = matches!(value.node, ExprKind::Var(_) | ExprKind::Map { key: None, .. });
    if op == UnaryOp::AddrOf && !has_address && value.node != ExprKind::Error {
        cx.refused.push(
            Diagnostic::error(span, "the address of this cannot be taken")
                .at("not a variable or a whole map")
                .help("put it into a variable first: `$x = …`, then `&$x`"),
        );
        return Spanned::new(ExprKind::Error, span);
    }
    Spanned::new(ExprKind::Unary { op, value: Box::new(value) }, span)
}

pub(crate) fn cast(cx: &mut Context, start: usize, ty: TypeExpr, value: Expr) -> Expr {
    let span = cx.up_to(start, value.span);
    Spanned::new(ExprKind::Cast { ty, value: Box::new(value) }, span)
}

pub(crate) fn comptime(cx: &mut Context, start: usize, value: Expr) -> Expr {
    let span = cx.up_to(start, value.span);
    Spanned::new(ExprKind::Comptime(Box::new(value)), span)
}

pub(crate) fn prefix(cx: &mut Context, start: usize, increment: bool, target: Expr) -> Expr {
    let span = cx.up_to(start, target.span);
    inc_dec(cx, span, increment, true, target)
}

pub(crate) fn postfix(cx: &mut Context, target: Expr, increment: bool, end: usize) -> Expr {
    let span = cx.from(target.span, end);
    inc_dec(cx, span, increment, false, target)
}

fn inc_dec(cx: &mut Context, span: Span, increment: bool, prefix: bool, target: Expr) -> Expr {
    match target.node {
        ExprKind::Var(_) | ExprKind::Map { .. } => {}
        ExprKind::Error => return target,
        _ => {
            let op = if increment { "++" } else { "--" };
            cx.refused.push(
                Diagnostic::error(span, format!("`{op}` cannot change this"))
                    .at("not a variable or map")
                    .note(format!("`{op}` is for variables, maps and map elements")),
            );
            return Spanned::new(ExprKind::Error, span);
        }
    }
    let target = Box::new(target);
    Spanned::new(ExprKind::IncDec { target, increment, prefix }, span)
}

pub(crate) fn element(cx: &mut Context, name: Spanned<String>, key: Vec<Expr>, end: usize) -> Expr {
    let span = cx.from(name.span, end);
    Spanned::new(ExprKind::Map { name: name.node, key: Some(key) }, span)
}

pub(crate) fn index(cx: &mut Context, base: Expr, index: Expr, end: usize) -> Expr {
    let span = cx.from(base.span, end);
    Spanned::new(ExprKind::Index { base: Box::new(base), index: Box::new(index) }, span)
}

pub(crate) fn field(base: Expr, name: Spanned<String>) -> Expr {
    let span = base.span.to(name.span);
    Spanned::new(ExprKind::Field { base: Box::new(base), name }, span)
}

pub(crate) fn tuple_field(cx: &mut Context, base: Expr, index: Spanned<u64>) -> Expr {
    let span = base.span.to(index.span);
    if matches!(base.node, ExprKind::Int(_)) {
        cx.refused.push(
            Diagnostic::error(span, "there are no floating-point numbers")
                .help("scale the numbers, and divide when printing"),
        );
        return Spanned::new(ExprKind::Error, span);
    }
    Spanned::new(ExprKind::TupleField { base: Box::new(base), index }, span)
}

pub(crate) fn tuple(first: Expr, rest: Vec<Expr>) -> ExprKind {
    let mut elements = Vec::with_capacity(rest.len() + 1);
    elements.push(first);
    elements.extend(rest);
    ExprKind::Tuple(elements)
}
