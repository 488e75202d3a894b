//! Grammar errors in the words of the language.

mod mistakes;

use crate::diag::Diagnostic;
use crate::lexer::Token;
use crate::lexer::token::{UNTERMINATED_COMMENT, UNTERMINATED_STRING};
use crate::source::{Span, Spanned};

/// An error of the parser in one part of a script.
pub(super) struct Fault {
    /// Index of the token that does not fit; `None` for the end of the part.
    pub(super) index: Option<usize>,
    /// Names of terminals, as the grammar spells them, with quotes.
    pub(super) expected: Vec<String>,
}

impl Fault {
    /// The byte where it is; past all others for the end.
    pub(super) fn start(&self, tokens: &[Spanned<Token>]) -> u32 {
        self.index.and_then(|i| tokens.get(i)).map_or(u32::MAX - 1, |t| t.span.start)
    }
}

/// The `)` that closes the innermost parenthesis around byte `at`, if there is
/// one around it that is closed.
pub(super) fn enclosing_paren(tokens: &[Spanned<Token>], at: u32) -> Option<Span> {
    let mut open = Vec::new();
    for token in tokens {
        match token.node {
            Token::LParen | Token::CastParen | Token::TypeParen => open.push(Some(token)),
            Token::LBrace | Token::StmtBrace => open.push(None),
            Token::RParen => {
                let opened = open.last().copied().flatten().map(|_| open.pop());
                let opened = opened.flatten().flatten();
                if opened.is_some_and(|o| o.span.start < at) && token.span.start >= at {
                    return Some(token.span);
                }
            }
            Token::RBrace => while let Some(Some(_)) = open.pop() {},
            _ => {}
        }
    }
    None
}

/// The part of a script that an error is in.
struct Scene<'a> {
    text: &'a str,
    tokens: &'a [Spanned<Token>],
    expected: Vec<&'a str>,
}

/// The message for a grammar error; `None` if it only follows from text that
/// has been complained about.
pub(super) fn explain(text: &str, tokens: &[Spanned<Token>], fault: &Fault) -> Option<Diagnostic> {
    let expected = fault.expected.iter().map(|e| e.trim_matches('"')).collect();
    let scene = Scene { text, tokens, expected };
    let at = fault.index.unwrap_or(tokens.len());
    if tokens.get(..at)?.iter().any(|t| swallows(&t.node)) {
        return None;
    }
    match fault.index.and_then(|i| tokens.get(i)) {
        None => scene.end(),
        Some(found) => scene.token(at, found),
    }
}

/// The message for a character that the language does not know.
pub(super) fn unknown(text: &str, span: Span) -> Diagnostic {
    let shown = text.get(span.start as usize..span.end as usize).unwrap_or("");
    let error = Diagnostic::error(span, format!("unexpected `{}`", shown.escape_debug()));
    match shown {
        "#" => error
            .note("preprocessor lines stand at the head of a script")
            .help("comments start with `//`"),
        "\\" => error.note("a backslash is known in strings and preprocessor lines only"),
        "\u{201c}" | "\u{201d}" | "\u{201e}" => error.help("write `\"`"),
        "\u{2018}" | "\u{2019}" => error.help("write `\"` around strings"),
        _ => error,
    }
}

/// Whether a token has swallowed text that belongs to others.
fn swallows(token: &Token) -> bool {
    let Token::Bad(problem) = token else { return false };
    problem.iter().any(|d| d.message == UNTERMINATED_STRING || d.message == UNTERMINATED_COMMENT)
}

impl Scene<'_> {
    fn at(&self, i: usize) -> Option<&Token> {
        self.tokens.get(i).map(|t| &t.node)
    }

    fn shown(&self, token: &Spanned<Token>) -> String {
        let text = self.text.get(token.span.start as usize..token.span.end as usize).unwrap_or("");
        let line = text.lines().next().unwrap_or("");
        match line.char_indices().nth(30) {
            Some((cut, _)) => format!("`{}…`", line.get(..cut).unwrap_or("")),
            None => format!("`{line}`"),
        }
    }

    fn expects(&self, terminal: &str) -> bool {
        self.expected.contains(&terminal)
    }

    /// The place right after a token.
    fn after(token: &Spanned<Token>) -> Span {
        Span { start: token.span.end, ..token.span }
    }

    /// The innermost bracket that is open before token `at`.
    fn open_bracket(&self, at: usize) -> Option<&Spanned<Token>> {
        let mut open: Vec<&Spanned<Token>> = Vec::new();
        for token in self.tokens.get(..at)? {
            match token.node {
                Token::LParen
                | Token::CastParen
                | Token::TypeParen
                | Token::LBracket
                | Token::LBrace
                | Token::StmtBrace
                | Token::AngleOpen => open.push(token),
                // A brace closes what was left open inside of it.
                Token::RBrace | Token::AngleClose => {
                    while let Some(last) = open.pop() {
                        if closer(&last.node) == "}" || last.node == Token::AngleOpen {
                            break;
                        }
                    }
                }
                Token::RParen | Token::RBracket => {
                    let close = if token.node == Token::RParen { ")" } else { "]" };
                    if open.last().is_some_and(|o| closer(&o.node) == close) {
                        open.pop();
                    }
                }
                _ => {}
            }
        }
        open.last().copied()
    }

    // The end of the part.

    fn end(&self) -> Option<Diagnostic> {
        let last = self.tokens.last()?;
        let after = Scene::after(last);
        if matches!(last.node, Token::Bad(_) | Token::Unknown) {
            return None;
        }
        if let Some(open) = self.open_bracket(self.tokens.len()) {
            let close = closer(&open.node);
            let shown = self.shown(open);
            let error = Diagnostic::error(open.span, format!("the {shown} is not closed"));
            return Some(error.at("opened here").label(after, format!("expected `{close}`")));
        }
        let predicate = self.tokens.iter().find(|t| t.node == Token::PredicateOpen);
        let closed = self.tokens.iter().any(|t| t.node == Token::PredicateClose);
        if let (Some(open), false) = (predicate, closed) {
            let error = Diagnostic::error(open.span, "the predicate is not closed");
            let error = error.at("opened here").label(after, "expected `/` and a block");
            return Some(error);
        }
        match last.node {
            // No provider has such names without quotes.
            Token::Attach(ref point) if point.text.contains('(') && !point.text.contains(':') => {
                let shown = self.shown(last);
                let error = Diagnostic::error(last.span, format!("{shown} is not an attach point"));
                Some(error.help("statements stand in the block of a probe"))
            }
            Token::Attach(_) | Token::PredicateClose | Token::Comma if self.expects("{") => {
                let rest = self.text.get(after.start as usize..).unwrap_or("");
                let blanks = rest.len() - rest.trim_start().len();
                let rest = rest.trim_start();
                let sign = ["||", "|", "&&", "&", "+"].into_iter().find(|s| rest.starts_with(s));
                if let Some(sign) = sign {
                    let start = after.start as usize + blanks;
                    let span = Span::new(after.file, start, start + sign.len());
                    let error = Diagnostic::error(span, format!("unexpected `{sign}`"));
                    let error = error.at("attach points have `,` between them");
                    return Some(error.replace(span, ","));
                }
                let error = Diagnostic::error(last.span, "the probe has no block");
                Some(error.at("expected `{` after this").help("write `{ }` to do nothing"))
            }
            Token::ExprOnly => Some(Diagnostic::error(after, "there is no expression")),
            _ => {
                let error = Diagnostic::error(after, format!("expected {}", self.fold()));
                Some(error.at("nothing follows"))
            }
        }
    }

    // A token.

    fn token(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let before = at.checked_sub(1).and_then(|i| self.tokens.get(i));
        if matches!(found.node, Token::Bad(_) | Token::Unknown)
            || before.is_some_and(|b| matches!(b.node, Token::Bad(_) | Token::Unknown))
        {
            return None;
        }
        let error = self
            .outside(at, found)
            .or_else(|| self.foreign_word(at, found))
            .or_else(|| self.foreign_sign(at, found))
            .or_else(|| self.known_mistake(at, found))
            .or_else(|| self.missing_bracket(at, found))
            .or_else(|| self.bare_call(at, found))
            .or_else(|| self.missing_end(at, found));
        if error.is_some() {
            return error;
        }
        let error = Diagnostic::error(found.span, format!("unexpected {}", self.shown(found)));
        if self.expected.is_empty() {
            return Some(error);
        }
        let error = error.at(format!("expected {}", self.fold()));
        // `fn f($a : int64) {`
        let result = self.at(0) == Some(&Token::Fn) && self.expects(":");
        if result && before.is_some_and(|b| b.node == Token::RParen) {
            return Some(
                error.help("write the type of its result, or `void`: `fn f(…) : void { … }`"),
            );
        }
        Some(error)
    }

    /// Mistakes at the top level of a script.
    fn outside(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let first = self.at(0)?;
        let error = |message: &str| Some(Diagnostic::error(found.span, message));
        match (first, &found.node) {
            (_, Token::LBrace | Token::AngleOpen) if at == 0 => {
                Some(error("the block has no attach point")?.help("write one, such as `BEGIN`"))
            }
            (_, Token::RBrace | Token::AngleClose) if at == 0 => error("this closes nothing"),
            (Token::ExprOnly, _) => None,
            _ if at == 0 => {
                let shown = self.shown(found);
                let error = Diagnostic::error(found.span, format!("unexpected {shown}"));
                Some(error.at("expected a probe"))
            }
            (Token::Let, _) if at == 1 => Some(
                error("only maps are declared outside of blocks")?
                    .help("write `let @name = hash(100);`"),
            ),
            (Token::Attach(_), Token::Attach(point)) => {
                let before = self.tokens.get(at.checked_sub(1)?)?;
                if point.text.ends_with(';') || point.text.contains('(') || point.text == "if" {
                    let after = Scene::after(before);
                    let error = Diagnostic::error(after, "the block of the probe is not opened");
                    return Some(error.at("expected `{`").replace(after, " {"));
                }
                let error = error("an attach point follows another")?
                    .at("expected `,`, a predicate or a block");
                let text = |t: &Spanned<Token>| self.shown(t).trim_matches('`').to_owned();
                Some(match text(before) {
                    head if head.ends_with(':') => {
                        let whole = Span { end: found.span.end, ..before.span };
                        let joined = head + &text(found);
                        error.help(format!("write `{joined}`")).replace(whole, joined)
                    }
                    _ => error.note("blanks in attach points stand in double quotes"),
                })
            }
            _ => None,
        }
    }

    fn known_mistake(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let before = |n: usize| at.checked_sub(n).and_then(|i| self.at(i));
        let error = |message: &str| Diagnostic::error(found.span, message);
        match (&found.node, before(1)?) {
            (Token::Else, _) => Some(error("this `else` has no `if`")),
            (Token::Map(_), Token::Let) => Some(
                error("maps are not declared in blocks")
                    .help("move this to the top level, or assign to the map"),
            ),
            (Token::Str(_), Token::Str(_)) => Some(
                error("strings that follow each other are not joined")
                    .help("write `+` between them"),
            ),
            (Token::Ident(_), Token::For) => Some(self.c_loop(error("unexpected name"))),
            (Token::Ident(_), Token::LParen) if before(2) == Some(&Token::For) => {
                Some(self.c_loop(error("unexpected name")))
            }
            (Token::Eq, Token::Var(_)) if self.in_loop_head(at) => {
                Some(self.c_loop(error("unexpected `=`")))
            }
            (Token::Ident(_), _) if self.expects("variable") && !self.expects("integer") => {
                let found = self.shown(found);
                let error = error(&format!("unexpected {found}")).at("expected a variable");
                Some(error.help("names of variables start with `$`"))
            }
            (token, before) if is_assignment(token) && before.ends_operand() => Some(
                error("an assignment is a statement, not an expression")
                    .help("to compare, write `==`")
                    .replace(found.span, "=="),
            ),
            _ => None,
        }
    }

    fn in_loop_head(&self, at: usize) -> bool {
        let token = |n: usize| at.checked_sub(n).and_then(|i| self.at(i));
        token(2) == Some(&Token::For)
            || (token(2) == Some(&Token::LParen) && token(3) == Some(&Token::For))
    }

    fn c_loop(&self, error: Diagnostic) -> Diagnostic {
        error.at("expected a loop over a map or range").help("write `for ($i : 0..10) { }`")
    }

    /// A bracket that is not closed, or closed by one of another kind.
    fn missing_bracket(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let open = self.open_bracket(at)?;
        let close = closer(&open.node);
        let wrong = match (&open.node, &found.node) {
            (Token::AngleOpen, Token::RBrace) => true,
            (Token::LBrace | Token::StmtBrace, Token::RParen | Token::RBracket) => {
                let error = Diagnostic::error(found.span, "this closes nothing");
                return Some(error.label(open.span, "the innermost open bracket"));
            }
            (Token::LBrace | Token::StmtBrace | Token::AngleOpen, _) => false,
            (_, Token::Semi | Token::LBrace | Token::RBrace | Token::StmtBrace) => true,
            (_, Token::AngleClose | Token::RParen | Token::RBracket) => true,
            _ => false,
        };
        let complete = self.expects(close) || close == "}" || close == ">";
        // `(1, )` lacks an element rather than a bracket.
        let same = matches!(
            (close, &found.node),
            (")", Token::RParen) | ("]", Token::RBracket) | ("}", Token::RBrace)
        );
        if !wrong || !complete || same {
            return None;
        }
        let shown = self.shown(open);
        Some(
            Diagnostic::error(found.span, format!("the {shown} is not closed"))
                .at(format!("expected `{close}` before this"))
                .label(open.span, "opened here"),
        )
    }

    /// A `;` that is missing between two statements.
    fn missing_end(&self, at: usize, found: &Spanned<Token>) -> Option<Diagnostic> {
        let before = self.tokens.get(at.checked_sub(1)?)?;
        let new_statement = found.node.starts_only_operand()
            || matches!(
                found.node,
                Token::If
                    | Token::StmtIf
                    | Token::While
                    | Token::For
                    | Token::Unroll
                    | Token::Let
                    | Token::Return
                    | Token::Break
                    | Token::Continue
                    | Token::Import
                    | Token::Underscore
                    | Token::StmtBrace
            );
        let statement_may_start = self.expects("let");
        if !self.expects(";") || !new_statement || statement_may_start {
            return None;
        }
        let error = Diagnostic::error(Scene::after(before), "expected `;`");
        Some(error.at("a statement ends here").replace(Scene::after(before), ";"))
    }

    /// What was expected, in words.
    fn fold(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut rest = self.expected.clone();
        let mut take = |if_all: &[&str], group: &[&[&str]], word: &str| {
            if if_all.iter().all(|t| rest.contains(t)) {
                rest.retain(|t| !group.iter().any(|g| g.contains(t)));
                words.push(word.to_owned());
            }
        };
        take(&["attach point", "macro"], &[PARTS], "a probe");
        take(&["let", "return"], &[EXPRESSION, STATEMENT], "a statement");
        take(&["integer", "string", "("], &[EXPRESSION], "an expression");
        take(&["&&", "||"], &[OPERATOR], "an operator");
        take(&["+=", "="], &[ASSIGNMENT], "`=`");
        take(&["struct", "typeof"], &[TYPE], "a type");
        take(&["< (opens)", "{"], &[&["< (opens)", "{"]], "a block");
        for terminal in rest {
            let word = match terminal {
                "bad" | "unknown" | "expression only" => continue,
                "integer" => "a number".to_owned(),
                "string" => "a string".to_owned(),
                "variable" => "a variable".to_owned(),
                "parameter" => "a parameter".to_owned(),
                "map" => "a map".to_owned(),
                "name" => "a name".to_owned(),
                "attach point" => "an attach point".to_owned(),
                "C definition" => "a C definition".to_owned(),
                "/ (opens)" => "a predicate".to_owned(),
                other => format!("`{}`", other.split(' ').next().unwrap_or(other)),
            };
            if !words.contains(&word) {
                words.push(word);
            }
        }
        match words.split_last() {
            None => "something else".to_owned(),
            Some((last, [])) => last.clone(),
            Some((last, init)) => format!("{} or {last}", init.join(", ")),
        }
    }
}

fn closer(open: &Token) -> &'static str {
    match open {
        Token::LBrace | Token::StmtBrace => "}",
        Token::LBracket => "]",
        Token::AngleOpen => ">",
        _ => ")",
    }
}

fn is_assignment(token: &Token) -> bool {
    matches!(
        token,
        Token::Eq
            | Token::PlusEq
            | Token::MinusEq
            | Token::StarEq
            | Token::SlashEq
            | Token::PercentEq
            | Token::AmpEq
            | Token::PipeEq
            | Token::CaretEq
            | Token::ShlEq
            | Token::ShrEq
    )
}

// Groups of terminals.

const EXPRESSION: &[&str] = &[
    "integer",
    "string",
    "variable",
    "parameter",
    "$#",
    "map",
    "name",
    "true",
    "false",
    "sizeof",
    "offsetof",
    "typeinfo",
    "comptime",
    "if",
    "{",
    "(",
    "( (cast)",
    "-",
    "!",
    "~",
    "*",
    "&",
    "++",
    "--",
    "typeof",
];

const STATEMENT: &[&str] = &[
    "let",
    "_",
    "while",
    "for",
    "unroll",
    "break",
    "continue",
    "return",
    "import",
    "if (statement)",
    "{ (statement)",
    ";",
];

const OPERATOR: &[&str] = &[
    "+", "-", "*", "/", "%", "<<", ">>", "<", "<=", ">", ">=", "==", "!=", "&", "^", "|", "&&",
    "||", "?", ".", "->", "[", "(", "++", "--",
];

const ASSIGNMENT: &[&str] = &["=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="];

const TYPE: &[&str] = &["struct", "union", "enum", "typeof", "name"];

const PARTS: &[&str] =
    &["attach point", "C definition", "config", "macro", "fn", "let", "import", ";"];
