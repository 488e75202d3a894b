//! The tree back to script text.
//!
//! What is printed parses to the same tree. [`print`] writes as few parentheses
//! as that needs; [`print_grouped`] puts them around every operator, which shows
//! how a script was read. Comments are not in the tree and get lost there; [`format`] takes
//! them, and the spelling of literals, from the text.

use crate::lexer::Token;
use crate::parser::ast::*;
use crate::parser::origin::Origin;
use crate::source::{Span, Spanned};

const INDENT: &str = "  ";

/// Columns of a line of formatted text, if it can be broken.
const WIDTH: usize = 100;

/// A script as `rtrace fmt` writes it: canonical, with the comments, the empty lines and the
/// literals of its text. `tokens` are those of the text.
pub fn format(script: &Script, text: &str, tokens: &[Spanned<Token>]) -> String {
    let origin = Some(Origin::of(text, tokens));
    let mut printer = Printer { out: String::new(), depth: 0, grouped: false, origin };
    printer.script(script);
    printer.out
}

/// A script in canonical form.
pub fn print(script: &Script) -> String {
    let mut printer = Printer { out: String::new(), depth: 0, grouped: false, origin: None };
    printer.script(script);
    printer.out
}

/// The same with parentheses around every operator.
pub fn print_grouped(script: &Script) -> String {
    let mut printer = Printer { out: String::new(), depth: 0, grouped: true, origin: None };
    printer.script(script);
    printer.out
}

/// One expression in canonical form.
pub fn print_expr(expr: &Expr) -> String {
    let mut printer = Printer { out: String::new(), depth: 0, grouped: false, origin: None };
    printer.expr(expr);
    printer.out
}

/// One type, such as `struct task_struct *`.
pub fn print_type(ty: &TypeExpr) -> String {
    let mut printer = Printer { out: String::new(), depth: 0, grouped: false, origin: None };
    printer.ty(ty);
    printer.out
}

/// How tightly an expression holds together, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// `if` and blocks, which are clearer in parentheses inside of others.
    Block,
    Ternary,
    Binary(u8),
    Unary,
    Postfix,
}

struct Printer<'a> {
    out: String,
    depth: usize,
    grouped: bool,
    /// Of a script that is formatted.
    origin: Option<Origin<'a>>,
}

impl Printer<'_> {
    fn text(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn line(&mut self) {
        self.text("\n");
        for _ in 0..self.depth {
            self.text(INDENT);
        }
    }

    // What a formatted script keeps of its text.

    /// Comments before byte `end` of the text, on lines of their own. The cursor is at the
    /// start of a line, and is so again afterwards.
    fn comments_before(&mut self, end: usize, first: bool) {
        let mut first = first;
        while let Some((text, gap)) = self.origin.as_mut().and_then(|o| o.comment_before(end)) {
            if gap && !first {
                self.empty_line();
            }
            first = false;
            self.text(text);
            self.line();
        }
    }

    /// An empty line where the text has some before byte `start`.
    fn gap_before(&mut self, start: usize) {
        if self.origin.as_ref().is_some_and(|o| o.gap_before(start)) {
            self.empty_line();
        }
    }

    /// The line at hand, which is empty so far, becomes an empty one.
    fn empty_line(&mut self) {
        let end = self.out.trim_end_matches(' ').len();
        self.out.truncate(end);
        self.line();
    }

    /// What was printed ends at byte `end` of the text: a comment behind it stays there.
    fn printed_to(&mut self, end: u32) {
        let Some(origin) = &mut self.origin else { return };
        origin.last = origin.last.max(end as usize);
        while let Some(text) = self.origin.as_mut().and_then(Origin::comment_behind) {
            self.text("  ");
            self.text(text);
        }
    }

    /// A literal: as it is spelled, or in canonical form.
    fn literal(&mut self, span: Span, canonical: impl FnOnce(&mut Self)) {
        let spelled = self.origin.as_ref().map(|o| o.slice(span));
        match spelled.filter(|t| t.starts_with(|c: char| c == '"' || c.is_ascii_digit())) {
            Some(text) => {
                let text = text.to_owned();
                self.text(&text);
            }
            None => canonical(self),
        }
    }

    fn column(&self) -> usize {
        self.out.rsplit('\n').next().unwrap_or_default().chars().count()
    }

    /// Arguments, with breaks between them where a line would be too long.
    fn arguments(&mut self, args: &[Expr]) {
        let start = self.out.len();
        let column = self.column();
        self.list(args, ", ", Printer::expr);
        let whole = self.out.get(start..).unwrap_or_default();
        if self.origin.is_none() || whole.contains('\n') || self.column() < WIDTH {
            return;
        }
        self.out.truncate(start);
        let indent = INDENT.len() * (self.depth + 2);
        let mut column = column;
        for (i, arg) in args.iter().enumerate() {
            let before = self.out.len();
            self.expr(arg);
            let text = self.out.split_off(before);
            let last = i + 1 == args.len();
            let width = text.chars().count() + usize::from(!last);
            if i > 0 {
                if column + 1 + width >= WIDTH {
                    self.out.push('\n');
                    self.out.push_str(&" ".repeat(indent));
                    column = indent;
                } else {
                    self.text(" ");
                    column += 1;
                }
            }
            self.text(&text);
            if !last {
                self.text(",");
            }
            column += width;
        }
    }

    /// Items with `separator` between them.
    fn list<T>(&mut self, items: &[T], separator: &str, mut print: impl FnMut(&mut Self, &T)) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text(separator);
            }
            print(self, item);
        }
    }

    // Parts of a script.

    fn script(&mut self, script: &Script) {
        for (i, cdef) in script.cdefs.iter().enumerate() {
            let start = cdef.span.start as usize;
            self.comments_before(start, i == 0);
            if i > 0 {
                self.gap_before(start);
            }
            self.text(cdef.node.trim_end());
            self.printed_to(cdef.span.end);
            self.text("\n");
        }
        if let Some(first) = script.config.first() {
            // Comments before the block are before its first entry, too.
            self.gap();
            let head = self.origin.as_ref().and_then(|o| o.before(first.key.span).rfind("config"));
            self.comments_before(head.unwrap_or(0), true);
            self.text("config = {\n");
            for entry in &script.config {
                self.text(INDENT);
                self.depth += 1;
                self.comments_before(entry.key.span.start as usize, true);
                self.depth -= 1;
                self.config_entry(entry);
                self.printed_to(entry.value.span.end);
                self.text("\n");
            }
            self.text("}\n");
        }
        if !script.imports.is_empty() {
            self.gap();
        }
        for (i, import) in script.imports.iter().enumerate() {
            self.comments_before(import.span.start as usize, i == 0);
            self.text("import ");
            self.literal(import.span, |p| p.string(&import.node));
            self.text(";");
            self.printed_to(import.span.end);
            self.text("\n");
        }
        let mut after_decl = false;
        for item in &script.items {
            let is_decl = matches!(item, Item::MapDecl(_));
            let span = span_of(item);
            let start = span.start as usize;
            let commented = self.origin.as_ref().is_some_and(|o| o.has_comment_before(start));
            if !(is_decl && after_decl && !commented) {
                self.gap();
            }
            after_decl = is_decl;
            if commented {
                self.comments_before(start, true);
                self.gap_before(start);
            }
            self.item(item);
            self.printed_to(span.end);
            self.text("\n");
        }
        let rest = self.origin.as_ref().is_some_and(|o| o.has_comment_before(usize::MAX));
        if rest {
            self.gap();
            self.comments_before(usize::MAX, true);
        }
    }

    /// An empty line, but not at the start.
    fn gap(&mut self) {
        if !self.out.is_empty() {
            self.text("\n");
        }
    }

    fn config_entry(&mut self, entry: &ConfigEntry) {
        self.text(&entry.key.node);
        self.text(" = ");
        let spelled = self.origin.as_ref().map(|o| o.slice(entry.value.span).to_owned());
        if let Some(spelled) = spelled {
            self.text(&spelled);
            return self.text(";");
        }
        match &entry.value.node {
            ConfigValue::Int(n) => self.text(&n.to_string()),
            ConfigValue::Bool(b) => self.text(&b.to_string()),
            ConfigValue::Text(text) => self.string(text.as_bytes()),
        }
        self.text(";");
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Probe(probe) => self.probe(probe),
            Item::Macro(m) => {
                self.text(&format!("macro {}(", m.name.node));
                self.list(&m.params, ", ", |p, param| match &param.node {
                    MacroParam::Var(name) => p.text(&format!("${name}")),
                    MacroParam::Map(name) => p.text(&format!("@{name}")),
                    MacroParam::Ident(name) => p.text(name),
                });
                self.text(") ");
                self.block(&m.body);
            }
            Item::Function(f) => {
                self.text(&format!("fn {}(", f.name.node));
                self.list(&f.params, ", ", |p, (name, ty)| {
                    p.text(&format!("${} : ", name.node));
                    p.ty(ty);
                });
                self.text(") : ");
                self.ty(&f.result);
                self.text(" ");
                self.block(&f.body);
            }
            Item::MapDecl(m) => {
                self.text(&format!("let @{} = {}(", m.name.node, m.kind.node));
                let max = m.max_entries.node;
                self.literal(m.max_entries.span, |p| p.text(&max.to_string()));
                self.text(");");
            }
        }
    }

    fn probe(&mut self, probe: &Probe) {
        self.list(&probe.attach_points, ",\n", |p, point| {
            p.comments_before(point.span.start as usize, true);
            if let Some(label) = &point.label {
                p.text(&format!("{}=", label.node));
            }
            p.text(&point.text);
        });
        if let Some(predicate) = &probe.predicate {
            self.text(" /");
            let start = self.out.len();
            self.expr(predicate);
            // `/*` would start a comment.
            if self.out.get(start..).is_some_and(|t| t.starts_with('*')) {
                self.out.insert(start, ' ');
            }
            self.text("/");
        }
        self.text(" ");
        self.block(&probe.block);
    }

    // Statements.

    fn block(&mut self, block: &Block) {
        let angles = self.origin.as_ref().is_some_and(|o| o.slice(block.span).starts_with('<'));
        let (open, close) = if angles { ("<", ">") } else { ("{", "}") };
        let end = (block.span.end as usize).saturating_sub(1);
        if block.stmts.is_empty() && block.value.is_none() {
            if !self.origin.as_ref().is_some_and(|o| o.has_comment_before(end)) {
                return self.text(&format!("{open} {close}"));
            }
            self.text(open);
            self.depth += 1;
            self.line();
            self.comments_before(end, true);
            self.depth -= 1;
            return self.close(close, block.span.end);
        }
        if self.on_one_line(block, open, close) {
            return;
        }
        self.text(open);
        self.depth += 1;
        let mut first = true;
        for (i, stmt) in block.stmts.iter().enumerate() {
            self.line();
            self.part(stmt.span, first);
            first = false;
            self.stmt(stmt);
            // Without it, the statement would become the value of the block.
            let last = i + 1 == block.stmts.len() && block.value.is_none();
            if last && matches!(&stmt.node, StmtKind::Expr(e) if is_block(e)) {
                self.text(";");
            }
            self.printed_to(stmt.span.end);
        }
        if let Some(value) = &block.value {
            self.line();
            self.part(value.span, first);
            self.expr(value);
            self.printed_to(value.span.end);
        }
        self.line();
        self.comments_before(end, false);
        self.depth -= 1;
        self.close(close, block.span.end);
    }

    /// The comments and the empty line before a statement.
    fn part(&mut self, span: Span, first: bool) {
        let start = span.start as usize;
        self.comments_before(start, first);
        if !first || self.origin.as_ref().is_some_and(|o| o.last > 0) && !self.at_block_start() {
            self.gap_before(start);
        }
    }

    fn at_block_start(&self) -> bool {
        self.out.trim_end().ends_with(['{', '<'])
    }

    /// The end of a block. The cursor is at the start of an indented line.
    fn close(&mut self, close: &str, end: u32) {
        let kept = self.out.trim_end_matches([' ', '\n']).len();
        self.out.truncate(kept);
        self.line();
        self.text(close);
        if let Some(origin) = &mut self.origin {
            origin.last = origin.last.max(end as usize);
        }
    }

    /// A block with a single short statement that stands on one line stays there.
    fn on_one_line(&mut self, block: &Block, open: &str, close: &str) -> bool {
        let simple = self.origin.as_ref().is_some_and(|o| o.is_simple(block.span));
        if !simple || block.stmts.len() + usize::from(block.value.is_some()) != 1 {
            return false;
        }
        let start = self.out.len();
        self.text(&format!("{open} "));
        for stmt in &block.stmts {
            self.stmt(stmt);
            if block.value.is_none() && matches!(&stmt.node, StmtKind::Expr(e) if is_block(e)) {
                self.text(";");
            }
        }
        if let Some(value) = &block.value {
            self.expr(value);
        }
        self.text(&format!(" {close}"));
        let text = self.out.get(start..).unwrap_or_default();
        if text.contains('\n') || self.column() > WIDTH {
            self.out.truncate(start);
            return false;
        }
        if let Some(origin) = &mut self.origin {
            origin.last = origin.last.max(block.span.end as usize);
        }
        true
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match &stmt.node {
            StmtKind::Let { name, ty, init } => {
                self.text(&format!("let ${}", name.node));
                if let Some(ty) = ty {
                    self.text(" : ");
                    self.ty(ty);
                }
                if let Some(init) = init {
                    self.text(" = ");
                    self.expr(init);
                }
            }
            StmtKind::Assign { target, op, value } => {
                self.expr(target);
                self.text(&format!(" {}= ", op.map_or("", BinaryOp::text)));
                self.expr(value);
            }
            StmtKind::Discard(value) => {
                self.text("_ = ");
                self.expr(value);
            }
            StmtKind::Expr(expr) => {
                self.expr(expr);
                if is_block(expr) {
                    return;
                }
            }
            StmtKind::While { cond, body } => return self.headed("while ", cond, body),
            StmtKind::Unroll { count, body } => return self.headed("unroll ", count, body),
            StmtKind::For { var, range, body } => {
                self.text(&format!("for (${} : ", var.node));
                match range {
                    ForRange::Map(map) => self.expr(map),
                    ForRange::Range(from, to) => {
                        self.at_least(Tier::Postfix, from);
                        self.text("..");
                        self.at_least(Tier::Postfix, to);
                    }
                }
                self.text(") ");
                return self.block(body);
            }
            StmtKind::Break => self.text("break"),
            StmtKind::Continue => self.text("continue"),
            StmtKind::Return(None) => self.text("return"),
            StmtKind::Return(Some(value)) => {
                self.text("return ");
                self.expr(value);
            }
            StmtKind::Import(path) => {
                self.text("import ");
                self.string(path);
            }
            StmtKind::Error => self.text("/* error */"),
        }
        self.text(";");
    }

    fn headed(&mut self, word: &str, cond: &Expr, body: &Block) {
        self.text(word);
        self.parenthesised(cond);
        self.text(" ");
        self.block(body);
    }

    /// The expression in parentheses, once.
    fn parenthesised(&mut self, expr: &Expr) {
        if self.grouped && is_operator(expr) {
            return self.expr(expr);
        }
        self.text("(");
        self.expr(expr);
        self.text(")");
    }

    // Expressions.

    /// The expression as an operand that must hold together at least so tightly.
    fn at_least(&mut self, tier: Tier, expr: &Expr) {
        if tier_of(expr) < tier { self.parenthesised(expr) } else { self.expr(expr) }
    }

    fn expr(&mut self, expr: &Expr) {
        let group = self.grouped && is_operator(expr);
        if group {
            self.text("(");
        }
        match &expr.node {
            ExprKind::Int(_) | ExprKind::Str(_) => {
                self.literal(expr.span, |p| p.kind(&expr.node));
            }
            kind => self.kind(kind),
        }
        if group {
            self.text(")");
        }
    }

    fn kind(&mut self, kind: &ExprKind) {
        match kind {
            ExprKind::Int(n) => self.text(&n.to_string()),
            ExprKind::Str(bytes) => self.string(bytes),
            ExprKind::Bool(b) => self.text(&b.to_string()),
            ExprKind::Var(name) => self.text(&format!("${name}")),
            ExprKind::Param(n) => self.text(&format!("${n}")),
            ExprKind::ParamCount => self.text("$#"),
            ExprKind::Map { name, key } => {
                self.text(&format!("@{name}"));
                if let Some(key) = key {
                    self.text("[");
                    self.list(key, ", ", Printer::expr);
                    self.text("]");
                }
            }
            ExprKind::Ident(name) => self.text(name),
            ExprKind::Call { name, args } => {
                self.text(&format!("{}(", name.node));
                self.arguments(args);
                self.text(")");
            }
            ExprKind::Tuple(elements) => {
                self.text("(");
                self.list(elements, ", ", Printer::expr);
                self.text(if elements.len() == 1 { ",)" } else { ")" });
            }
            ExprKind::Record(fields) => {
                self.text("(");
                self.list(fields, ", ", |p, (name, value)| {
                    p.text(&format!("{} = ", name.node));
                    p.expr(value);
                });
                self.text(")");
            }
            ExprKind::Cast { ty, value } => {
                self.text("(");
                self.ty(ty);
                self.text(")");
                self.at_least(Tier::Unary, value);
            }
            ExprKind::Unary { op, value } => {
                self.text(op.text());
                // `--$x` would be a decrement.
                let decrement = matches!(
                    &value.node,
                    ExprKind::Unary { op: UnaryOp::Neg, .. }
                        | ExprKind::IncDec { increment: false, prefix: true, .. }
                );
                if *op == UnaryOp::Neg && decrement {
                    self.parenthesised(value);
                } else {
                    self.at_least(Tier::Unary, value);
                }
            }
            ExprKind::Binary { op, left, right } => {
                let tier = tier_of_op(*op);
                self.at_least(Tier::Binary(tier), left);
                self.text(&format!(" {} ", op.text()));
                self.at_least(Tier::Binary(tier + 1), right);
            }
            ExprKind::Ternary { cond, then, els } => {
                self.at_least(Tier::Binary(0), cond);
                match then {
                    Some(then) => {
                        self.text(" ? ");
                        self.at_least(Tier::Ternary, then);
                        self.text(" : ");
                    }
                    None => self.text(" ?: "),
                }
                self.at_least(Tier::Ternary, els);
            }
            ExprKind::Field { base, name } => {
                self.at_least(Tier::Postfix, base);
                let arrow =
                    self.origin.as_ref().is_some_and(|o| o.before(name.span).ends_with("->"));
                self.text(if arrow { "->" } else { "." });
                self.text(&name.node);
            }
            ExprKind::TupleField { base, index } => {
                self.at_least(Tier::Postfix, base);
                self.text(&format!(".{}", index.node));
            }
            ExprKind::Index { base, index } => {
                // The `[` after a bare map would start its key.
                if matches!(base.node, ExprKind::Map { key: None, .. }) {
                    self.parenthesised(base);
                } else {
                    self.at_least(Tier::Postfix, base);
                }
                self.text("[");
                self.expr(index);
                self.text("]");
            }
            ExprKind::IncDec { target, increment, prefix } => {
                let op = if *increment { "++" } else { "--" };
                if *prefix {
                    self.text(op);
                }
                self.at_least(Tier::Postfix, target);
                if !*prefix {
                    self.text(op);
                }
            }
            ExprKind::If(branches) => self.if_expr(branches),
            ExprKind::Block(block) => self.block(block),
            ExprKind::Sizeof(of) => self.of("sizeof", of),
            ExprKind::Typeinfo(of) => self.of("typeinfo", of),
            ExprKind::TypeArg(of) => self.of("typeof", of),
            ExprKind::Offsetof { of, path } => {
                self.text("offsetof(");
                self.type_or_expr(of);
                self.text(", ");
                self.list(path, ".", |p, name: &Spanned<String>| p.text(&name.node));
                self.text(")");
            }
            ExprKind::Comptime(value) => {
                self.text("comptime ");
                self.at_least(Tier::Unary, value);
            }
            ExprKind::Error => self.text("/* error */"),
        }
    }

    fn if_expr(&mut self, branches: &IfExpr) {
        self.text("if ");
        self.parenthesised(&branches.cond);
        self.text(" ");
        self.block(&branches.then);
        let Some(els) = &branches.els else { return };
        self.text(" else ");
        match els.value.as_deref() {
            Some(Spanned { node: ExprKind::If(next), .. }) if els.stmts.is_empty() => {
                self.if_expr(next);
            }
            _ => self.block(els),
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        self.text("\"");
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => self.text("\\n"),
                    '\t' => self.text("\\t"),
                    '\r' => self.text("\\r"),
                    '"' => self.text("\\\""),
                    '\\' => self.text("\\\\"),
                    c if c.is_ascii_control() => self.text(&format!("\\x{:02x}", u32::from(c))),
                    c => self.out.push(c),
                }
            }
            for byte in chunk.invalid() {
                self.text(&format!("\\x{byte:02x}"));
            }
        }
        self.text("\"");
    }

    // Types.

    fn of(&mut self, word: &str, of: &TypeOrExpr) {
        self.text(word);
        self.text("(");
        self.type_or_expr(of);
        self.text(")");
    }

    fn type_or_expr(&mut self, of: &TypeOrExpr) {
        match of {
            TypeOrExpr::Type(ty) => self.ty(ty),
            // `x[3]` would be an array type.
            TypeOrExpr::Expr(expr) if is_indexed_name(expr) => {
                self.text("(");
                self.expr(expr);
                self.text(")");
            }
            TypeOrExpr::Expr(expr) => self.expr(expr),
        }
    }

    fn ty(&mut self, ty: &TypeExpr) {
        let suffixes = match &ty.node {
            TypeExprKind::Named { tag, name, suffixes } => {
                self.text(match tag {
                    Some(TypeTag::Struct) => "struct ",
                    Some(TypeTag::Union) => "union ",
                    Some(TypeTag::Enum) => "enum ",
                    None => "",
                });
                self.text(name);
                suffixes
            }
            TypeExprKind::Typeof { of, suffixes } => {
                self.of("typeof", of);
                suffixes
            }
        };
        if suffixes.first() == Some(&TypeSuffix::Pointer) {
            self.text(" ");
        }
        for suffix in suffixes {
            match suffix {
                TypeSuffix::Pointer => self.text("*"),
                TypeSuffix::Array(None) => self.text("[]"),
                TypeSuffix::Array(Some(n)) => self.text(&format!("[{n}]")),
            }
        }
    }
}

fn span_of(item: &Item) -> Span {
    match item {
        Item::Probe(p) => p.span,
        Item::Macro(m) => m.span,
        Item::Function(f) => f.span,
        Item::MapDecl(m) => m.span,
    }
}

fn is_block(expr: &Expr) -> bool {
    matches!(expr.node, ExprKind::If(_) | ExprKind::Block(_))
}

/// Whether the expression is an operator with operands.
fn is_operator(expr: &Expr) -> bool {
    matches!(
        expr.node,
        ExprKind::Binary { .. }
            | ExprKind::Unary { .. }
            | ExprKind::Ternary { .. }
            | ExprKind::Cast { .. }
            | ExprKind::Comptime(_)
    )
}

fn is_indexed_name(expr: &Expr) -> bool {
    let ExprKind::Index { base, index } = &expr.node else { return false };
    let name = matches!(base.node, ExprKind::Ident(_)) || is_indexed_name(base);
    name && matches!(index.node, ExprKind::Int(_))
}

fn tier_of(expr: &Expr) -> Tier {
    match &expr.node {
        ExprKind::If(_) | ExprKind::Block(_) => Tier::Block,
        ExprKind::Ternary { .. } => Tier::Ternary,
        ExprKind::Binary { op, .. } => Tier::Binary(tier_of_op(*op)),
        ExprKind::Unary { .. } | ExprKind::Cast { .. } | ExprKind::Comptime(_) => Tier::Unary,
        ExprKind::IncDec { prefix: true, .. } => Tier::Unary,
        _ => Tier::Postfix,
    }
}

fn tier_of_op(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 0,
        BinaryOp::And => 1,
        BinaryOp::BitOr => 2,
        BinaryOp::BitXor => 3,
        BinaryOp::BitAnd => 4,
        BinaryOp::Eq | BinaryOp::Ne => 5,
        BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => 6,
        BinaryOp::Shl | BinaryOp::Shr => 7,
        BinaryOp::Add | BinaryOp::Sub => 8,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 9,
    }
}
