//! C definitions at the head of a script: text to a tree, and errors to
//! diagnostics. The only file that knows the parser generated from
//! `grammar/cdef.lalrpop`.
//!
//! Every entry of the section is parsed on its own, and inside a body the parser
//! goes on at the next `;`, so that one mistake costs little.

pub mod ast;
pub mod constant;

pub(crate) mod build;
mod preprocess;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use lalrpop_util::ParseError;

use self::ast::{Base, Context, Declaration, Parsed};
use self::preprocess::{Preprocessor, Unit};
use crate::diag::{Diagnostic, Diagnostics};
use crate::lexer::c::CToken;
use crate::source::{Span, Spanned};

lalrpop_util::lalrpop_mod!(
    #[allow(
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        unused,
        unreachable_pub,
        reason = "generated code"
    )]
    grammar,
    "/cdef.rs"
);

/// Levels of brackets and operators; later stages walk trees recursively.
const MAX_DEPTH: usize = 200;
/// More messages than this help nobody.
const MAX_ERRORS: usize = 50;

/// The C section of a script.
#[derive(Debug, Default)]
pub struct Section {
    pub declarations: Vec<Declaration>,
    /// Macros without parameters: what replaces them, as written.
    pub constants: HashMap<String, Spanned<String>>,
    /// Macros with parameters: where their values stand.
    pub functions: HashMap<String, Span>,
}

/// What the section may rely on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Macros with their values.
    pub predefined: &'a [(&'a str, &'a str)],
    /// Macros that any header that is not read brings along.
    pub included: &'a [(&'a str, i64)],
    /// The kernel describes its types, so that its headers are not needed.
    pub kernel_types: bool,
    /// What to say of headers that could not be read, if they are needed.
    pub refused: &'a [(String, Diagnostic)],
}

/// Parses the entries of a script's C section.
pub fn parse(entries: &[Spanned<String>], options: Options<'_>) -> (Section, Diagnostics) {
    let mut diags = Diagnostics::default();
    let mut section = Section::default();
    let mut names: HashSet<String> = HashSet::new();
    let mut preprocessor = Preprocessor::new(options, &mut diags);
    for entry in entries {
        if preprocessor.diags.list.len() >= MAX_ERRORS {
            break;
        }
        let unit = preprocessor.entry(entry);
        let is_type = |name: &str| names.contains(name) || looks_like_type(name);
        if let Some(Parsed::Declarations(list)) = self::unit(unit, &is_type, preprocessor.diags) {
            for declaration in list {
                let declared = declaration.declarators.iter().filter(|_| declaration.typedef);
                names.extend(declared.filter_map(|d| Some(d.name.as_ref()?.node.clone())));
                section.declarations.push(declaration);
            }
        }
    }
    preprocessor.finish();
    for (name, found) in std::mem::take(&mut preprocessor.macros) {
        if found.is_constant() {
            section.constants.insert(name, found.text);
        } else if found.is_function() {
            section.functions.insert(name, found.text.span);
        }
    }
    (section, diags)
}

/// Whether a header is satisfied without being read.
pub fn is_known_header(name: &str) -> bool {
    preprocess::is_known(name)
}

/// Names that the kernel and C's headers give to types, for casts in constant
/// expressions.
fn looks_like_type(name: &str) -> bool {
    let plain = name.trim_start_matches('_');
    let digits = plain.strip_prefix(['u', 's']).or_else(|| plain.strip_prefix("be"));
    let digits = digits.or_else(|| plain.strip_prefix("le"));
    name.ends_with("_t") || matches!(digits, Some("8" | "16" | "32" | "64")) || plain == "bool"
}

/// What a mark such as `__user` says about an address; empty for nothing.
pub(crate) fn mark(name: &str) -> Option<&'static str> {
    Some(match name {
        "user" | "__user" => "user",
        "percpu" | "__percpu" => "percpu",
        "rcu" | "__rcu" => "rcu",
        "__kernel"
        | "__iomem"
        | "__force"
        | "__bitwise"
        | "__nocast"
        | "__private"
        | "__safe"
        | "__must_check"
        | "__init"
        | "__read_mostly"
        | "__always_inline"
        | "__maybe_unused"
        | "__randomize_layout"
        | "__no_randomize_layout"
        | "__deprecated"
        | "__nonstring" => "",
        _ => return None,
    })
}

/// Parses what the preprocessor left of one entry.
fn unit(unit: Unit, is_type: &dyn Fn(&str) -> bool, diags: &mut Diagnostics) -> Option<Parsed> {
    let Unit { mut tokens, pack } = unit;
    if tokens.is_empty() {
        return None;
    }
    // A definition needs no `;`, and neither does the body of a function.
    let condition = tokens.first().is_some_and(|t| t.node == CToken::Condition);
    if let Some(last) = tokens.last().filter(|t| !condition && ends_definition(&t.node)) {
        let span = Span { start: last.span.end, ..last.span };
        tokens.push(Spanned::new(CToken::Semi, span));
    }
    settle(&mut tokens, is_type);
    let bad = report_bad(&tokens, diags);
    if let Some(span) = too_deep(&tokens) {
        diags.push(Diagnostic::error(span, "this is nested too deeply"));
        return None;
    }
    let spans: Vec<Span> = tokens.iter().map(|t| t.span).collect();
    let mut cx = Context { spans: &spans, pack, recovered: Vec::new(), refused: Vec::new() };
    let input = tokens.iter().enumerate().map(|(i, t)| Ok((i, t.node.clone(), i + 1)));
    let result = grammar::TextParser::new().parse(&mut cx, input);
    let Context { recovered, refused, .. } = cx;
    if bad {
        return None;
    }
    for diagnostic in refused {
        diags.push(diagnostic);
    }
    for error in recovered {
        diags.push(explain(&tokens, &error.error));
        // Out of step with the braces, what else is wrong means nothing.
        let depth = |open: i32, t: &(usize, CToken, usize)| match t.1 {
            CToken::LBrace => open + 1,
            CToken::RBrace => open - 1,
            _ => open,
        };
        if error.dropped_tokens.iter().fold(0, depth) != 0 {
            return None;
        }
    }
    match result {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            diags.push(explain(&tokens, &error));
            None
        }
    }
}

fn ends_definition(token: &CToken) -> bool {
    matches!(token, CToken::RBrace | CToken::RParen | CToken::Name(_))
}

/// Adds what the lexer found; whether there was anything.
fn report_bad(tokens: &[Spanned<CToken>], diags: &mut Diagnostics) -> bool {
    let mut found = false;
    for token in tokens {
        match &token.node {
            CToken::Bad(problem) if problem.is_empty() => {
                diags.push(Diagnostic::error(token.span, "C does not know this character"));
            }
            CToken::Bad(problem) => problem.iter().for_each(|d| diags.push(d.clone())),
            CToken::Directive(_) => {
                let error = Diagnostic::error(token.span, "unexpected `#`")
                    .note("macros that build text or names are not supported");
                diags.push(error);
            }
            _ => continue,
        }
        found = true;
    }
    found
}

/// Makes tokens of what one token of lookahead cannot tell.
fn settle(tokens: &mut [Spanned<CToken>], is_type: &dyn Fn(&str) -> bool) {
    for i in 0..tokens.len() {
        let at = |i: usize| tokens.get(i).map(|t| &t.node);
        let before = i.checked_sub(1).and_then(at);
        let settled = match at(i) {
            Some(CToken::Name(name)) => match name.as_str() {
                "__packed" => Some(CToken::Packed),
                "__aligned" if at(i + 1) == Some(&CToken::LParen) => Some(CToken::Aligned),
                name if name.starts_with("__") => mark(name).map(CToken::Mark),
                _ => None,
            },
            Some(CToken::LParen) => {
                let keyword = matches!(
                    before,
                    Some(CToken::Sizeof | CToken::Alignof | CToken::Offsetof | CToken::Alignas)
                );
                let kind = type_at(tokens, i + 1);
                if keyword && kind != Kind::No || before == Some(&CToken::Offsetof) {
                    Some(CToken::TypeParen)
                } else if !starts_operand(before) {
                    None
                } else {
                    match kind {
                        Kind::Type => Some(CToken::CastParen),
                        // `(x) 3` can only be a cast, `(x) - 3` is one of a type.
                        Kind::Name => {
                            let sure = matches!(
                                at(i + 3),
                                Some(
                                    CToken::Name(_)
                                        | CToken::Number(_)
                                        | CToken::LParen
                                        | CToken::Tilde
                                        | CToken::Bang
                                        | CToken::Sizeof
                                )
                            );
                            let sign = matches!(at(i + 3), Some(CToken::Minus | CToken::Plus));
                            let name = match at(i + 1) {
                                Some(CToken::Name(name)) => name.as_str(),
                                _ => "",
                            };
                            (sure || sign && is_type(name)).then_some(CToken::CastParen)
                        }
                        Kind::No => None,
                    }
                }
            }
            Some(CToken::Colon) => {
                let named = i.checked_sub(2).and_then(at);
                let stores = before == Some(&CToken::Enum)
                    || named == Some(&CToken::Enum) && matches!(before, Some(CToken::Name(_)));
                let words = |t: &&Spanned<CToken>| {
                    matches!(t.node, CToken::Name(_) | CToken::TypeWord(_) | CToken::Qualifier)
                };
                let mut rest = tokens.iter().skip(i + 1).skip_while(words);
                let body = rest.next().is_some_and(|t| t.node == CToken::LBrace);
                (stores && body).then_some(CToken::EnumColon)
            }
            _ => None,
        };
        if let (Some(settled), Some(token)) = (settled, tokens.get_mut(i)) {
            token.node = settled;
        }
    }
}

/// What the tokens after a `(` are.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Type,
    /// A lone name and `)`, which may be a type.
    Name,
    No,
}

fn type_at(tokens: &[Spanned<CToken>], at: usize) -> Kind {
    let token = |i: usize| tokens.get(i).map(|t| &t.node);
    match token(at) {
        Some(
            CToken::Struct
            | CToken::Union
            | CToken::Enum
            | CToken::TypeWord(_)
            | CToken::Qualifier
            | CToken::Mark(_),
        ) => Kind::Type,
        Some(CToken::Name(_)) => {
            let stars = tokens.iter().skip(at + 1).take_while(|t| t.node == CToken::Star).count();
            match (stars, token(at + 1 + stars)) {
                (0, Some(CToken::RParen)) => Kind::Name,
                (_, Some(CToken::RParen)) => Kind::Type,
                (0, Some(CToken::LBracket)) => Kind::Type,
                _ => Kind::No,
            }
        }
        _ => Kind::No,
    }
}

/// Whether an operand of an expression can follow the token.
fn starts_operand(before: Option<&CToken>) -> bool {
    !matches!(
        before,
        None | Some(
            CToken::Name(_)
                | CToken::Number(_)
                | CToken::Text(_)
                | CToken::TypeWord(_)
                | CToken::Qualifier
                | CToken::Mark(_)
                | CToken::Packed
                | CToken::Aligned
                | CToken::Attribute
                | CToken::RParen
                | CToken::RBracket
                | CToken::RBrace
                | CToken::Semi
        )
    )
}

/// The token at which a tree gets too deep, if it does: open brackets, and what
/// stands side by side since the last `;` or `,` in each.
fn too_deep(tokens: &[Spanned<CToken>]) -> Option<Span> {
    let mut levels = vec![0_usize];
    let mut depth = 0;
    for token in tokens {
        match token.node {
            CToken::Semi | CToken::Comma => {
                let level = levels.last_mut()?;
                depth -= *level;
                *level = 0;
            }
            CToken::RParen | CToken::RBracket | CToken::RBrace => {
                depth -= levels.pop()?;
                if levels.is_empty() {
                    levels.push(0);
                }
            }
            CToken::Name(_) | CToken::Number(_) | CToken::TypeWord(_) => {}
            ref other => {
                *levels.last_mut()? += 1;
                depth += 1;
                if matches!(
                    other,
                    CToken::LParen
                        | CToken::CastParen
                        | CToken::TypeParen
                        | CToken::LBracket
                        | CToken::LBrace
                ) {
                    levels.push(0);
                }
            }
        }
        if depth > MAX_DEPTH {
            return Some(token.span);
        }
    }
    None
}

/// The message for a grammar error.
fn explain(tokens: &[Spanned<CToken>], error: &ParseError<usize, CToken, ()>) -> Diagnostic {
    let (index, expected) = match error {
        ParseError::UnrecognizedToken { token, expected } => (token.0, expected.as_slice()),
        ParseError::UnrecognizedEof { expected, .. } => (tokens.len(), expected.as_slice()),
        ParseError::ExtraToken { token } => (token.0, &[][..]),
        ParseError::InvalidToken { location } => (*location, &[][..]),
        ParseError::User { .. } => (tokens.len(), &[][..]),
    };
    let expects = |terminal: &str| expected.iter().any(|e| e.trim_matches('"') == terminal);
    let wanted = fold(&expects);
    let before = index.checked_sub(1).and_then(|i| tokens.get(i));
    let after = before.map(|t| Span { start: t.span.end, ..t.span });
    let Some(token) = tokens.get(index) else {
        let span = after.unwrap_or_default();
        return Diagnostic::error(span, format!("expected {wanted}")).at("nothing follows");
    };
    // Only a `;` can be missing where the next line starts a declaration.
    let declares = matches!(
        token.node,
        CToken::Name(_)
            | CToken::TypeWord(_)
            | CToken::Struct
            | CToken::Union
            | CToken::Enum
            | CToken::Qualifier
            | CToken::RBrace
    );
    if let (Some(after), true, true) = (after, declares, expects(";"))
        && after.start < token.span.start
    {
        return Diagnostic::error(after, "expected `;`").label(token.span, "before this");
    }
    let error = Diagnostic::error(token.span, format!("unexpected {}", shown(&token.node)));
    if token.node == CToken::Assign && expects(";") {
        return error
            .note("C definitions of a script are types, prototypes and constants")
            .help("write `#define NAME value` for a constant");
    }
    if token.node == CToken::LParen && matches!(before.map(|b| &b.node), Some(CToken::Name(_))) {
        return error.note("constant expressions call nothing");
    }
    if wanted.is_empty() { error } else { error.at(format!("expected {wanted}")) }
}

/// What could have stood there, in few words.
fn fold(expects: &dyn Fn(&str) -> bool) -> String {
    let mut words = Vec::new();
    if expects("type") && expects("struct") {
        words.push("a type");
    } else if expects("name") {
        words.push(if expects("number") { "a number" } else { "a name" });
    } else if expects("number") {
        words.push("a number");
    }
    if expects(",") && expects("}") {
        words.push("`,`");
    }
    for (terminal, shown) in
        [("{", "`{`"), ("}", "`}`"), ("(", "`(`"), (")", "`)`"), ("]", "`]`"), (";", "`;`")]
    {
        // A type or number can start with a bracket; that helps nobody.
        if expects(terminal) && (words.is_empty() || !matches!(terminal, "(" | "{")) {
            words.push(shown);
        }
    }
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn shown(token: &CToken) -> String {
    let text = match token {
        CToken::Name(text) | CToken::Text(text) | CToken::TypeWord(text) => text.as_str(),
        CToken::Number(n) => return format!("`{}`", n.value),
        CToken::Struct => "struct",
        CToken::Union => "union",
        CToken::Enum => "enum",
        CToken::Typedef => "typedef",
        CToken::Attribute => "__attribute__",
        CToken::Alignas => "_Alignas",
        CToken::Sizeof => "sizeof",
        CToken::Alignof => "_Alignof",
        CToken::Offsetof => "offsetof",
        CToken::LBrace => "{",
        CToken::RBrace => "}",
        CToken::LParen | CToken::CastParen | CToken::TypeParen => "(",
        CToken::RParen => ")",
        CToken::LBracket => "[",
        CToken::RBracket => "]",
        CToken::Semi => ";",
        CToken::Comma => ",",
        CToken::Colon | CToken::EnumColon => ":",
        CToken::Question => "?",
        CToken::Assign => "=",
        CToken::Star => "*",
        CToken::Plus => "+",
        CToken::Minus => "-",
        CToken::Slash => "/",
        CToken::Percent => "%",
        CToken::Shl => "<<",
        CToken::Shr => ">>",
        CToken::Lt => "<",
        CToken::LtEq => "<=",
        CToken::Gt => ">",
        CToken::GtEq => ">=",
        CToken::EqEq => "==",
        CToken::NotEq => "!=",
        CToken::Amp => "&",
        CToken::Caret => "^",
        CToken::Pipe => "|",
        CToken::AmpAmp => "&&",
        CToken::PipePipe => "||",
        CToken::Tilde => "~",
        CToken::Bang => "!",
        CToken::Dot => ".",
        CToken::Packed => "__packed",
        CToken::Aligned => "__aligned",
        CToken::Qualifier => return "qualifier".into(),
        CToken::Directive(_) => "#",
        CToken::Mark(_) | CToken::Other | CToken::Condition | CToken::Bad(_) => {
            return "text".into();
        }
    };
    format!("`{text}`")
}

impl Base {
    /// The word and name of a type that has one, as C writes it.
    pub fn shown(&self) -> String {
        let named = |word: &str, name: &Option<Spanned<String>>| match name {
            Some(name) => format!("{word} {}", name.node),
            None => word.to_owned(),
        };
        match self {
            Base::Name(name) => name.clone(),
            Base::Tag { tag, name } => format!("{} {name}", tag.word()),
            Base::Record(r) => named(if r.union { "union" } else { "struct" }, &r.name),
            Base::Enum(e) => named("enum", &e.name),
            Base::Error => "unknown".into(),
        }
    }
}
