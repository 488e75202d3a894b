//! Tokens, and how the body of a block is cut into them.
//!
//! logos cuts what stands inside blocks, predicates and the other bracketed
//! parts of a script. The variants without a pattern are made elsewhere: the
//! header variants by the scanner (`mod.rs`), and those that LR(1) cannot tell
//! from a plain `/`, `<`, `(`, `{` or `if` by the scanner and by `settle.rs`.

use logos::{Lexer, Logos, Skip};

use crate::diag::Diagnostic;
use crate::lexer::literal::{self, Place};

/// What is wrong with a piece of text; empty for a character that the language
/// does not know.
pub type Problem = Vec<Diagnostic>;

/// One attach point in raw text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachText {
    /// `name` of a `name=` before it.
    pub label: Option<String>,
    /// What follows the label, quotes included.
    pub text: String,
}

#[derive(Logos, Debug, Clone, PartialEq)]
#[logos(error = Problem, extras = Place)]
#[logos(skip(r"[ \t\r\n]+"))]
#[logos(skip(r"//[^\n]*", allow_greedy = true))]
#[logos(skip("/\\*", comment))]
pub enum Token {
    // Literals and names.
    #[regex("[0-9][0-9A-Za-z_]*", int)]
    Int(u64),
    /// The bytes that the literal stands for.
    #[token("\"", string)]
    Str(Vec<u8>),
    /// Without the `$`.
    #[regex(r"\$[A-Za-z_][0-9A-Za-z_]*", |l| l.slice().get(1..).map(str::to_owned))]
    Var(String),
    #[regex(r"\$[0-9]+", param)]
    Param(u64),
    #[token("$#")]
    ParamCount,
    /// Without the `@`; the anonymous map has an empty name.
    #[regex(r"@([A-Za-z_][0-9A-Za-z_]*)?", |l| l.slice().get(1..).map(str::to_owned))]
    Map(String),
    #[regex("[A-Za-z_][0-9A-Za-z_]*", |l| l.slice().to_owned())]
    Ident(String),
    #[token("_", priority = 3)]
    Underscore,

    // Keywords.
    #[token("let")]
    Let,
    #[token("if")]
    If,
    #[token("else")]
    Else,
    #[token("while")]
    While,
    #[token("for")]
    For,
    #[token("unroll")]
    Unroll,
    #[token("break")]
    Break,
    #[token("continue")]
    Continue,
    #[token("return")]
    Return,
    #[token("import")]
    Import,
    #[token("sizeof")]
    Sizeof,
    #[token("offsetof")]
    Offsetof,
    #[token("typeof")]
    Typeof,
    #[token("typeinfo")]
    Typeinfo,
    #[token("comptime")]
    Comptime,
    #[token("true")]
    True,
    #[token("false")]
    False,
    #[token("struct")]
    Struct,
    #[token("union")]
    Union,
    #[token("enum")]
    Enum,

    // Punctuation.
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token("(")]
    LParen,
    #[token(")")]
    RParen,
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token(";")]
    Semi,
    #[token(",")]
    Comma,
    #[token(":")]
    Colon,
    #[token("?")]
    Question,
    #[token(".")]
    Dot,
    #[token("->")]
    Arrow,
    #[token("..")]
    DotDot,
    #[token("=")]
    Eq,
    #[token("+=")]
    PlusEq,
    #[token("-=")]
    MinusEq,
    #[token("*=")]
    StarEq,
    #[token("/=")]
    SlashEq,
    #[token("%=")]
    PercentEq,
    #[token("&=")]
    AmpEq,
    #[token("|=")]
    PipeEq,
    #[token("^=")]
    CaretEq,
    #[token("<<=")]
    ShlEq,
    #[token(">>=")]
    ShrEq,
    #[token("++")]
    PlusPlus,
    #[token("--")]
    MinusMinus,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("&")]
    Amp,
    #[token("|")]
    Pipe,
    #[token("^")]
    Caret,
    #[token("!")]
    Bang,
    #[token("~")]
    Tilde,
    #[token("&&")]
    AmpAmp,
    #[token("||")]
    PipePipe,
    #[token("==")]
    EqEq,
    #[token("!=")]
    NotEq,
    #[token("<")]
    Lt,
    #[token("<=")]
    LtEq,
    #[token(">")]
    Gt,
    #[token(">=")]
    GtEq,
    #[token("<<")]
    Shl,
    #[token(">>")]
    Shr,

    // Settled by what stands around them.
    /// The `/` that opens a predicate.
    PredicateOpen,
    /// The `/` that closes it.
    PredicateClose,
    /// The `<` that opens the block of a probe.
    AngleOpen,
    /// The `>` that closes it.
    AngleClose,
    /// A `(` before the type of a cast.
    CastParen,
    /// A `(` before a type after `sizeof`, `offsetof`, `typeof`, `typeinfo`.
    TypeParen,
    /// An `if` that starts a statement, which ends at its last brace.
    StmtIf,
    /// A `{` that starts a statement, which ends at its `}`.
    StmtBrace,

    // Found outside of blocks only.
    Attach(AttachText),
    /// A preprocessor line or a C declaration, verbatim.
    CDef(String),
    Config,
    Macro,
    Fn,

    /// Text that a diagnostic explains.
    Bad(Problem),
    /// A character that the language does not know.
    #[token("$", lone_dollar)]
    #[regex(r"'[^'\n]*'", character)]
    Unknown,
    /// No text: tells the grammar that a lone expression follows.
    ExprOnly,
}

impl Token {
    /// What `--emit tokens` calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Token::Int(_) => "integer",
            Token::Str(_) => "string",
            Token::Var(_) => "variable",
            Token::Param(_) | Token::ParamCount => "parameter",
            Token::Map(_) => "map",
            Token::Ident(_) | Token::Underscore => "name",
            Token::PredicateOpen => "predicate-open",
            Token::PredicateClose => "predicate-close",
            Token::AngleOpen => "block-open",
            Token::AngleClose => "block-close",
            Token::CastParen => "cast-open",
            Token::TypeParen => "type-open",
            Token::StmtIf => "statement-if",
            Token::StmtBrace => "statement-block",
            Token::Attach(_) => "attach-point",
            Token::CDef(_) => "c-definition",
            Token::Bad(_) => "bad",
            Token::Unknown => "unknown",
            Token::ExprOnly => "expression-only",
            token if token.word().is_some() => "keyword",
            _ => "punctuation",
        }
    }

    /// The word of a keyword, which is a plain name in other places.
    pub fn word(&self) -> Option<&'static str> {
        let word = match self {
            Token::Let => "let",
            Token::If | Token::StmtIf => "if",
            Token::Else => "else",
            Token::While => "while",
            Token::For => "for",
            Token::Unroll => "unroll",
            Token::Break => "break",
            Token::Continue => "continue",
            Token::Return => "return",
            Token::Import => "import",
            Token::Sizeof => "sizeof",
            Token::Offsetof => "offsetof",
            Token::Typeof => "typeof",
            Token::Typeinfo => "typeinfo",
            Token::Comptime => "comptime",
            Token::True => "true",
            Token::False => "false",
            Token::Struct => "struct",
            Token::Union => "union",
            Token::Enum => "enum",
            Token::Config => "config",
            Token::Macro => "macro",
            Token::Fn => "fn",
            Token::Underscore => "_",
            _ => return None,
        };
        Some(word)
    }

    /// Whether an operand can end with it, so that an operator may follow.
    pub fn ends_operand(&self) -> bool {
        matches!(
            self,
            Token::Int(_)
                | Token::Str(_)
                | Token::Var(_)
                | Token::Param(_)
                | Token::ParamCount
                | Token::Map(_)
                | Token::Ident(_)
                | Token::Underscore
                | Token::True
                | Token::False
                | Token::RParen
                | Token::RBracket
                | Token::RBrace
                | Token::PlusPlus
                | Token::MinusMinus
                | Token::Bad(_)
        )
    }

    /// Whether bpftrace takes a parenthesised name before it for a cast.
    pub fn follows_cast(&self) -> bool {
        self.starts_only_operand()
            || matches!(
                self,
                Token::LParen
                    | Token::Minus
                    | Token::MinusMinus
                    | Token::PlusPlus
                    | Token::Star
                    | Token::Amp
            )
    }

    /// Whether it starts an operand and cannot be an operator.
    pub fn starts_only_operand(&self) -> bool {
        matches!(
            self,
            Token::Int(_)
                | Token::Str(_)
                | Token::Var(_)
                | Token::Param(_)
                | Token::ParamCount
                | Token::Map(_)
                | Token::Ident(_)
                | Token::Bang
                | Token::Tilde
                | Token::True
                | Token::False
                | Token::Sizeof
                | Token::Offsetof
                | Token::Typeinfo
                | Token::Comptime
                | Token::Bad(_)
        )
    }
}

fn here(lex: &Lexer<'_, Token>) -> Place {
    Place { file: lex.extras.file, offset: lex.extras.offset + lex.span().start }
}

fn int(lex: &mut Lexer<'_, Token>) -> Result<u64, Problem> {
    literal::int(lex.slice(), here(lex))
}

fn param(lex: &mut Lexer<'_, Token>) -> Result<u64, Problem> {
    let text = lex.slice();
    let error = |m: &str| vec![Diagnostic::error(here(lex).span(0..text.len()), m)];
    match text.get(1..).unwrap_or("").parse::<i64>() {
        Ok(0) => Err(error("there is no parameter `$0`; they count from `$1`")),
        Ok(n) => Ok(n.unsigned_abs()),
        Err(_) => Err(error("the number of the parameter is too large")),
    }
}

fn lone_dollar(lex: &mut Lexer<'_, Token>) -> Result<Token, Problem> {
    let error = Diagnostic::error(here(lex).span(0..1), "`$` is not followed by a name");
    Err(vec![error.help("write `$name`, `$1` for a parameter, or `$#` for their number")])
}

fn character(lex: &mut Lexer<'_, Token>) -> Result<Token, Problem> {
    let text = lex.slice();
    let error = Diagnostic::error(here(lex).span(0..text.len()), "there are no character literals");
    let inner = text.trim_matches('\'');
    Err(vec![error.help(format!("write `\"{inner}\"`, or `\"{inner}\"[0]` for its number"))])
}

/// From an opening quote to the closing one, or to the end of the line.
fn string(lex: &mut Lexer<'_, Token>) -> Result<Vec<u8>, Problem> {
    let rest = lex.remainder().as_bytes();
    let mut len = 0;
    let closed = loop {
        match rest.get(len) {
            Some(b'"') => break true,
            // A backslash before the end of the line does not continue it.
            Some(b'\\') if !matches!(rest.get(len + 1), None | Some(b'\n')) => {
                // The rest of a longer character holds none of these bytes.
                len += 2;
            }
            None | Some(b'\n') => break false,
            Some(_) => len += 1,
        }
    };
    if closed {
        lex.bump(len + 1);
        return literal::string(lex.slice(), here(lex));
    }
    lex.bump(len);
    let shown = lex.slice().trim_end().len();
    Err(vec![
        Diagnostic::error(here(lex).span(0..shown), UNTERMINATED_STRING)
            .at("a string ends on the line where it starts"),
    ])
}

/// The message for a string without closing quote; what follows it in the
/// script has been swallowed, so errors after it mean nothing.
pub(crate) const UNTERMINATED_STRING: &str = "the string has no closing `\"`";
/// The same for a comment.
pub(crate) const UNTERMINATED_COMMENT: &str = "the comment has no closing `*/`";

fn comment(lex: &mut Lexer<'_, Token>) -> Result<Skip, Problem> {
    match lex.remainder().find("*/") {
        Some(len) => {
            lex.bump(len + 2);
            Ok(Skip)
        }
        None => {
            lex.bump(lex.remainder().len());
            Err(vec![Diagnostic::error(here(lex).span(0..2), UNTERMINATED_COMMENT)])
        }
    }
}
