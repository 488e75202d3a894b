//! The preprocessor: `#` lines are obeyed, macros replaced, and what `#if`
//! leaves out is gone.
//!
//! Headers of the kernel are not read: the kernel describes its types itself
//! (BTF), and what a script defines comes on top of that.

use std::collections::HashMap;

use super::Options;
use super::ast::{Parsed, TypeName};
use super::constant::{Names, Wrong, evaluate};
use crate::diag::{Diagnostic, Diagnostics, Warning};
use crate::lexer::c::{self, CToken, Number};
use crate::source::{Span, Spanned};

/// Macros that replace tokens by others, by name.
pub(super) type Macros = HashMap<String, Macro>;

/// One `#define`.
#[derive(Debug, Clone)]
pub(super) struct Macro {
    /// Of a macro that looks like a function.
    params: Option<Vec<String>>,
    /// What replaces it, and where that stands.
    pub(super) text: Spanned<String>,
    tokens: Vec<Spanned<CToken>>,
    /// Not of the script's making.
    predefined: bool,
}

impl Macro {
    fn predefined(text: &str) -> Macro {
        let text = Spanned::new(text.to_owned(), Span::default());
        let tokens = c::lex(&text.node, 0, 0);
        Macro { params: None, text, tokens, predefined: true }
    }
}

/// What is left of one entry of the C section.
pub(super) struct Unit {
    pub(super) tokens: Vec<Spanned<CToken>>,
    /// `#pragma pack` at its end.
    pub(super) pack: Option<u32>,
}

/// Tokens that macros may be replaced by, all in all.
const MAX_STEPS: usize = 1_000_000;
/// Macros in macros, and in arguments of macros, beyond this stay what they are.
const MAX_DEPTH: usize = 200;

/// Folders of headers whose types the kernel describes.
const KERNEL: [&str; 22] = [
    "linux/",
    "uapi/",
    "asm/",
    "asm-generic/",
    "net/",
    "bpf/",
    "crypto/",
    "drm/",
    "kvm/",
    "media/",
    "misc/",
    "rdma/",
    "scsi/",
    "soc/",
    "sound/",
    "target/",
    "trace/",
    "ufs/",
    "vdso/",
    "video/",
    "xen/",
    "acpi/",
];

/// Headers of which only types are known here, and those without a header.
const KNOWN: [&str; 22] = [
    "vmlinux.h",
    "stdint.h",
    "stddef.h",
    "stdbool.h",
    "stdarg.h",
    "limits.h",
    "float.h",
    "inttypes.h",
    "errno.h",
    "fcntl.h",
    "sched.h",
    "signal.h",
    "unistd.h",
    "arpa/inet.h",
    "netinet/in.h",
    "netinet/tcp.h",
    "sys/mman.h",
    "sys/resource.h",
    "sys/socket.h",
    "sys/stat.h",
    "sys/types.h",
    "sys/un.h",
];

/// Whether a header is known by its name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || KERNEL.iter().any(|dir| name.starts_with(dir))
}

/// The preprocessor, which goes through all entries in their order.
pub(super) struct Preprocessor<'d> {
    pub(super) macros: Macros,
    /// Macros that come with the first header.
    included: &'d [(&'d str, i64)],
    /// `#include` of a kernel header is allowed.
    pub(super) kernel_types: bool,
    refused: &'d [(String, Diagnostic)],
    pub(super) diags: &'d mut Diagnostics,
    open: Vec<Conditional>,
    pack: Vec<Option<u32>>,
    steps: usize,
    depth: usize,
}

/// An `#if` that is open.
struct Conditional {
    span: Span,
    /// The branch at hand counts.
    active: bool,
    /// No later branch can.
    decided: bool,
    has_else: bool,
}

impl<'d> Preprocessor<'d> {
    /// `predefined` names are known without a `#define`.
    pub(super) fn new(options: Options<'d>, diags: &'d mut Diagnostics) -> Preprocessor<'d> {
        let define = |(name, text): &(&str, &str)| ((*name).to_owned(), Macro::predefined(text));
        let macros = options.predefined.iter().map(define).collect();
        Preprocessor {
            macros,
            included: options.included,
            kernel_types: options.kernel_types,
            refused: options.refused,
            diags,
            open: Vec::new(),
            pack: vec![None],
            steps: 0,
            depth: 0,
        }
    }

    /// Obeys the lines of one entry and gives its other tokens.
    pub(super) fn entry(&mut self, entry: &Spanned<String>) -> Unit {
        let mut tokens = Vec::new();
        let mut piece = Vec::new();
        for token in c::lex(&entry.node, entry.span.file, entry.span.start as usize) {
            if let CToken::Directive(text) = &token.node {
                self.replace(&std::mem::take(&mut piece), &mut Vec::new(), &mut tokens);
                self.line(text, token.span);
            } else if self.active() {
                piece.push(token);
            }
        }
        self.replace(&piece, &mut Vec::new(), &mut tokens);
        Unit { tokens, pack: self.pack.last().copied().flatten() }
    }

    /// Complains about what is still open at the end.
    pub(super) fn finish(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.diags.push(Diagnostic::error(open.span, "this `#if` has no `#endif`"));
        }
        if self.steps > MAX_STEPS {
            let error = Diagnostic::global("the macros of this script never end")
                .note(format!("they were replaced by more than {MAX_STEPS} tokens"));
            self.diags.push(error);
        }
    }

    fn active(&self) -> bool {
        self.open.iter().all(|o| o.active)
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diags.push(Diagnostic::error(span, message));
    }

    // Lines.

    /// One line; `text` is what follows the `#`.
    fn line(&mut self, text: &str, span: Span) {
        // Joined lines keep their length, so that places stay right.
        let text = text.replace("\\\r\n", "   ").replace("\\\n", "  ");
        let blank = text.len() - text.trim_start().len();
        let line = text.trim_start();
        let name = c::word(line);
        let rest = line.get(name.len()..).unwrap_or("");
        let offset = span.start as usize + 1 + blank + name.len();
        let rest = Rest { text: rest, file: span.file, offset };
        // The line itself, for messages: the first of several.
        let shown = text.find('\n').map_or(text.len(), |n| n).min(line.trim_end().len() + blank);
        let span = Span::new(span.file, span.start as usize, span.start as usize + 1 + shown);
        match name {
            "if" | "ifdef" | "ifndef" => {
                // What is not looked at may say anything.
                let active = self.active() && self.holds(name, &rest, span);
                let decided = active || !self.active();
                self.open.push(Conditional { span, active, decided, has_else: false });
            }
            "elif" | "elifdef" | "elifndef" | "else" => self.other_branch(name, &rest, span),
            "endif" => {
                if self.open.pop().is_none() {
                    self.error(span, "`#endif` without `#if`");
                }
            }
            _ if !self.active() => {}
            "define" => self.define(&rest, span),
            "undef" => {
                self.macros.remove(c::word(rest.text.trim_start()));
            }
            "include" | "include_next" | "import" => self.include(&rest, span),
            "pragma" => self.pragma(rest.text, span),
            "error" => self.error(span, format!("`#error`: {}", rest.text.trim())),
            "warning" => {
                let text = format!("`#warning`: {}", rest.text.trim());
                self.diags.push(Diagnostic::warning(Warning::Preprocessor, span, text));
            }
            // `#` alone is allowed, and `# 12 "file"` is what compilers write.
            "" | "line" | "ident" => {}
            other => self.error(span, format!("unknown directive `#{other}`")),
        }
    }

    /// Whether the branch of an `#if`, `#ifdef` or `#ifndef` counts.
    fn holds(&mut self, name: &str, rest: &Rest<'_>, span: Span) -> bool {
        if name.ends_with("if") {
            return self.condition(rest, span);
        }
        let word = c::word(rest.text.trim_start());
        if word.is_empty() {
            self.error(span, format!("`#{name}` needs a name"));
            return false;
        }
        self.macros.contains_key(word) != name.ends_with("ndef")
    }

    fn other_branch(&mut self, name: &str, rest: &Rest<'_>, span: Span) {
        let Some(mut open) = self.open.pop() else {
            return self.error(span, format!("`#{name}` without `#if`"));
        };
        if open.has_else {
            let error = Diagnostic::error(span, format!("`#{name}` after `#else`"));
            self.diags.push(error.label(open.span, "of this"));
        }
        open.has_else |= name == "else";
        // Without the popped one, this says whether the whole `#if` counts.
        open.active = !open.decided && (name == "else" || self.holds(name, rest, span));
        open.decided |= open.active;
        self.open.push(open);
    }

    /// The condition of `#if`.
    fn condition(&mut self, rest: &Rest<'_>, span: Span) -> bool {
        let mut tokens = rest.lex().into_iter().peekable();
        let mut known = Vec::new();
        while let Some(token) = tokens.next() {
            let answer = |value| {
                let number = Number { value: i128::from(value), long: true, unsigned: false };
                Spanned::new(CToken::Number(number), token.span)
            };
            match &token.node {
                CToken::Name(name) if name == "defined" => {
                    let paren = tokens.next_if(|t| t.node == CToken::LParen).is_some();
                    let name = tokens.next().and_then(|t| match t.node {
                        CToken::Name(name) => Some(name),
                        _ => None,
                    });
                    let closed = !paren || tokens.next().is_some_and(|t| t.node == CToken::RParen);
                    let (Some(name), true) = (name, closed) else {
                        self.error(span, "`defined` needs a name");
                        return false;
                    };
                    known.push(answer(self.macros.contains_key(&name)));
                }
                _ => known.push(token),
            }
        }
        let mut replaced = vec![Spanned::new(CToken::Condition, span)];
        self.replace(&known, &mut Vec::new(), &mut replaced);
        for token in &mut replaced {
            // Every number of `#if` has 64 bits.
            if let CToken::Number(number) = &mut token.node {
                number.long = true;
            }
        }
        if replaced.len() == 1 {
            self.error(span, "this has no condition");
            return false;
        }
        let unit = Unit { tokens: replaced, pack: None };
        let Some(Parsed::Condition(condition)) = super::unit(unit, &|_| false, self.diags) else {
            return false;
        };
        match evaluate(&condition, &mut Nothing) {
            Ok(number) => number.value != 0,
            Err(error) => {
                self.diags.push(*error);
                false
            }
        }
    }

    fn define(&mut self, rest: &Rest<'_>, span: Span) {
        let blank = rest.text.len() - rest.text.trim_start().len();
        let name = c::word(rest.text.trim_start());
        if name.is_empty() {
            return self.error(span, "`#define` needs a name");
        }
        let mut value = rest.from(blank + name.len());
        let mut params = None;
        if value.text.starts_with('(') {
            let Some((list, _)) = value.text.split_once(')') else {
                return self.error(span, "the parameters have no `)`");
            };
            let names = list.trim_start_matches('(').split(',');
            params = Some(names.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect());
            value = value.from(list.len() + 1);
        }
        let value = value.trim();
        let tokens = value.lex();
        let at = Span::new(value.file, value.offset, value.offset + value.text.len());
        let text = Spanned::new(value.text.to_owned(), at);
        let new = Macro { params, text, tokens, predefined: false };
        let old = self.macros.insert(name.to_owned(), new);
        if let Some(old) = old.filter(|o| !o.predefined && o.text.node != value.text) {
            let warning =
                Diagnostic::warning(Warning::Redefined, span, format!("`{name}` is defined twice"))
                    .at("this one counts")
                    .label(old.text.span, "not this one");
            self.diags.push(warning);
        }
    }

    fn include(&mut self, rest: &Rest<'_>, span: Span) {
        let text = rest.text.trim();
        let name = match text.as_bytes().first() {
            Some(b'<') => text.get(1..).and_then(|t| t.split_once('>')),
            Some(b'"') => text.get(1..).and_then(|t| t.split_once('"')),
            _ => None,
        };
        let Some((name, _)) = name else {
            return self.error(span, "`#include` needs a name in `<>` or quotes");
        };
        let kernel = KERNEL.iter().any(|dir| name.starts_with(dir));
        if KNOWN.contains(&name) || kernel && self.kernel_types {
            for (name, value) in std::mem::take(&mut self.included) {
                let text = if *value < 0 { format!("({value})") } else { value.to_string() };
                let known = self.macros.entry((*name).to_owned());
                known.or_insert_with(|| Macro::predefined(&text));
            }
            return;
        }
        if let Some((_, said)) = self.refused.iter().find(|(refused, _)| refused == name) {
            return self.diags.push(said.clone());
        }
        let error = Diagnostic::error(span, format!("cannot include `{name}`"));
        self.diags.push(if kernel {
            error
                .note("headers of the kernel are not read, and this kernel does not describe its types (BTF)")
                .help("define the types that you need in the script")
        } else {
            error
                .note("it is neither beside the script nor in a folder of `-I`")
                .help("write the types and constants that you need in the script")
        });
    }

    /// `#pragma pack`; others say nothing about layouts.
    fn pragma(&mut self, text: &str, span: Span) {
        let Some(rest) = text.trim().strip_prefix("pack") else { return };
        let inner = rest.trim().strip_prefix('(').and_then(|r| r.split_once(')'));
        let Some((inner, _)) = inner else {
            return self.error(span, "`#pragma pack` needs parentheses");
        };
        for part in inner.split(',').map(str::trim) {
            match part {
                "push" => self.pack.push(self.pack.last().copied().flatten()),
                "pop" if self.pack.len() > 1 => {
                    self.pack.pop();
                }
                "" => self.set_pack(None),
                number => match number.parse() {
                    Ok(n @ (1 | 2 | 4 | 8 | 16)) => self.set_pack(Some(n)),
                    _ => self.error(span, "`#pragma pack` takes 1, 2, 4, 8, 16, `push` or `pop`"),
                },
            }
        }
    }

    fn set_pack(&mut self, pack: Option<u32>) {
        if let Some(last) = self.pack.last_mut() {
            *last = pack;
        }
    }

    // Macros.

    /// Copies tokens, macros replaced. Those in `open` stand for themselves.
    fn replace(
        &mut self,
        tokens: &[Spanned<CToken>],
        open: &mut Vec<String>,
        out: &mut Vec<Spanned<CToken>>,
    ) {
        if self.depth >= MAX_DEPTH {
            return out.extend_from_slice(tokens);
        }
        self.depth += 1;
        self.replace_here(tokens, open, out);
        self.depth -= 1;
    }

    fn replace_here(
        &mut self,
        tokens: &[Spanned<CToken>],
        open: &mut Vec<String>,
        out: &mut Vec<Spanned<CToken>>,
    ) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return;
            }
            let CToken::Name(name) = &token.node else {
                out.push(token.clone());
                continue;
            };
            let found = self.macros.get(name).filter(|_| !open.contains(name)).cloned();
            let Some(found) = found else {
                out.push(token.clone());
                continue;
            };
            let mut body = found.tokens;
            if let Some(params) = &found.params {
                let Some((args, end)) = arguments(tokens, at) else {
                    // Without arguments it is no call.
                    out.push(token.clone());
                    continue;
                };
                at = end;
                let mut expanded = Vec::new();
                for arg in args {
                    let mut one = Vec::new();
                    self.replace(arg, open, &mut one);
                    expanded.push(one);
                }
                body = self.substitute(name, &body, params, &expanded, token.span);
            }
            for token_of_body in &mut body {
                token_of_body.span = token.span;
            }
            open.push(name.clone());
            self.replace(&body, open, out);
            open.pop();
        }
    }

    fn substitute(
        &mut self,
        name: &str,
        body: &[Spanned<CToken>],
        params: &[String],
        args: &[Vec<Spanned<CToken>>],
        span: Span,
    ) -> Vec<Spanned<CToken>> {
        let given =
            if params.is_empty() && args.iter().all(Vec::is_empty) { 0 } else { args.len() };
        if given != params.len() {
            let plural = if params.len() == 1 { "" } else { "s" };
            let message = format!("`{name}` takes {} argument{plural}, not {given}", params.len());
            self.diags.push(Diagnostic::error(span, message));
            return Vec::new();
        }
        let mut out = Vec::new();
        for token in body {
            let at = match &token.node {
                CToken::Name(word) => params.iter().position(|p| p == word),
                _ => None,
            };
            match at.and_then(|at| args.get(at)) {
                Some(arg) => out.extend(arg.iter().cloned()),
                None => out.push(token.clone()),
            }
            self.steps += 1;
        }
        out
    }
}

/// The arguments in the parentheses at `at`, and where what follows starts.
fn arguments(tokens: &[Spanned<CToken>], at: usize) -> Option<(Vec<&[Spanned<CToken>]>, usize)> {
    tokens.get(at).filter(|t| t.node == CToken::LParen)?;
    let (mut depth, mut start, mut args) = (0_u32, at + 1, Vec::new());
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.node {
            CToken::LParen | CToken::LBrace | CToken::LBracket => depth += 1,
            CToken::RParen | CToken::RBrace | CToken::RBracket => depth -= 1,
            CToken::Comma if depth == 1 => {
                args.push(tokens.get(start..i)?);
                start = i + 1;
            }
            _ => {}
        }
        if depth == 0 {
            args.push(tokens.get(start..i)?);
            return Some((args, i + 1));
        }
    }
    None
}

/// The rest of a line, and where it starts.
struct Rest<'t> {
    text: &'t str,
    file: crate::source::FileId,
    offset: usize,
}

impl<'t> Rest<'t> {
    fn from(&self, at: usize) -> Rest<'t> {
        let text = self.text.get(at..).unwrap_or("");
        Rest { text, file: self.file, offset: self.offset + at }
    }

    fn trim(&self) -> Rest<'t> {
        let blank = self.text.len() - self.text.trim_start().len();
        let mut rest = self.from(blank);
        rest.text = rest.text.trim_end();
        rest
    }

    fn lex(&self) -> Vec<Spanned<CToken>> {
        // A `#` in a macro is an operator that is not supported, not a line.
        c::lex(self.text, self.file, self.offset)
    }
}

/// In an `#if`, names that are no macros are 0 and types are unknown.
struct Nothing;

impl Names for Nothing {
    fn name(&mut self, _: &str, _: Span) -> Result<Number, Wrong> {
        Ok(Number { value: 0, long: true, unsigned: false })
    }

    fn type_size(&mut self, ty: &TypeName) -> Result<(u64, u64), Wrong> {
        Err(Box::new(Diagnostic::error(ty.span, "types are not known in `#if`")))
    }

    fn cast(&mut self, ty: &TypeName) -> Result<(u8, bool), Wrong> {
        Err(Box::new(Diagnostic::error(ty.span, "types are not known in `#if`")))
    }

    fn offset(&mut self, ty: &TypeName, _: &[Spanned<String>]) -> Result<u64, Wrong> {
        Err(Box::new(Diagnostic::error(ty.span, "types are not known in `#if`")))
    }
}

impl Macro {
    /// Whether the script can use it as a constant.
    pub(super) fn is_constant(&self) -> bool {
        self.params.is_none() && !self.predefined
    }

    /// Whether it takes parameters.
    pub(super) fn is_function(&self) -> bool {
        self.params.is_some()
    }
}
