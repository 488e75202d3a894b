//! What an editor asks about a script.

use std::path::PathBuf;

use lsp_types::{
    CompletionItem, CompletionItemKind, DiagnosticRelatedInformation, DiagnosticSeverity,
    Documentation, Hover, HoverContents, Location, MarkupContent, MarkupKind, NumberOrString,
    Position, Range, TextEdit, Uri,
};

use super::text;
use crate::builtins;
use crate::diag::{self, Diagnostics, Severity};
use crate::driver::load::{Loaded, Search, load};
use crate::help;
use crate::host::Host;
use crate::lexer;
use crate::parser::ast::{Item, Script};
use crate::parser::{self, print};
use crate::probes::{self, ListOptions, PROVIDERS};
use crate::sema::{self, Outlined};
use crate::source::{FileId, Source, Sources, Span};

/// A name that no script has, to ask what could stand at a place.
const WANTED: &str = "rtrace_wants_to_know";

/// Probes that are offered at a time.
const MOST: usize = 200;

/// A script in the editor.
pub(super) struct Document<'a> {
    host: &'a Host,
    name: String,
    text: &'a str,
}

/// A text with what belongs to it, parsed.
struct Parsed {
    sources: Sources,
    file: FileId,
    loaded: Loaded,
}

impl<'a> Document<'a> {
    pub(super) fn new(host: &'a Host, name: String, text: &'a str) -> Document<'a> {
        Document { host, name, text }
    }

    fn parse(&self, text: &str) -> Parsed {
        let mut sources = Sources::default();
        let file = sources.add(Source { name: self.name.clone(), text: text.to_owned() });
        let search = Search { folders: Vec::<PathBuf>::new(), headers: vec![], thoroughly: false };
        let loaded = load(&mut sources, file, &search);
        Parsed { sources, file, loaded }
    }

    /// The messages about a text, and the texts that they are about.
    fn check(&self, text: &str) -> (Diagnostics, Sources) {
        let Parsed { sources, loaded, .. } = self.parse(text);
        let mut diags = loaded.diags;
        if !diags.has_errors() {
            diags.append(sema::check(&loaded.script, &sources, self.host, &options()).1);
        }
        (diags, sources)
    }

    pub(super) fn diagnostics(&self, uri: &Uri) -> Vec<lsp_types::Diagnostic> {
        let (diags, _) = self.check(self.text);
        diags.list.iter().map(|d| self.diagnostic(d, uri)).collect()
    }

    fn diagnostic(&self, d: &diag::Diagnostic, uri: &Uri) -> lsp_types::Diagnostic {
        // Messages about other files stand at the head of this one.
        let place = |span: Span| match span.file {
            0 => text::range(self.text, span.start as usize, span.end as usize),
            _ => Range::default(),
        };
        let (range, label) = match &d.primary {
            Some((span, label)) => (place(*span), label.as_str()),
            None => (Range::default(), ""),
        };
        let mut message = d.message.clone();
        let label = Some(label).filter(|label| !label.is_empty());
        let notes = d.notes.iter().map(|note| format!("note: {note}"));
        let helps = d.helps.iter().map(|help| format!("help: {help}"));
        for line in label.map(str::to_owned).into_iter().chain(notes).chain(helps) {
            message += &format!("\n{line}");
        }
        let related = d.labels.iter().filter(|label| label.0.file == 0);
        let related = related.map(|(span, message)| DiagnosticRelatedInformation {
            location: Location { uri: uri.clone(), range: place(*span) },
            message: message.clone(),
        });
        lsp_types::Diagnostic {
            range,
            severity: Some(match d.severity {
                Severity::Error => DiagnosticSeverity::ERROR,
                Severity::Warning => DiagnosticSeverity::WARNING,
            }),
            code: d.name.map(|name| NumberOrString::String(name.name().to_owned())),
            source: Some("rtrace".to_owned()),
            message,
            related_information: Some(related.collect()),
            ..lsp_types::Diagnostic::default()
        }
    }

    // Completion.

    pub(super) fn completions(&self, at: Position) -> Vec<CompletionItem> {
        let offset = text::offset(self.text, at);
        let (start, word) = text::word(self.text, offset);
        let before = self.text.get(..start).unwrap_or_default();
        if before.ends_with('.') || before.ends_with("->") {
            return self.members(start, word);
        }
        match word.chars().next() {
            Some(sigil @ ('$' | '@')) => self.named(start, sigil),
            _ if self.is_header(start) => self.probes(start, offset),
            _ => self.words(),
        }
    }

    /// Fields of what stands before the dot: what the checker says could be there.
    fn members(&self, start: usize, word: &str) -> Vec<CompletionItem> {
        let mut text = self.text.to_owned();
        text.replace_range(start..start + word.len(), WANTED);
        let names = |text: &str| {
            let (diags, _) = self.check(text);
            let about = |d: &&diag::Diagnostic| {
                d.primary.as_ref().is_some_and(|p| p.0.file == 0 && p.0.start as usize == start)
            };
            diags.list.iter().find(about).map(|d| d.choices.clone())
        };
        // The line is likely not finished.
        let found = names(&text).filter(|list| !list.is_empty()).or_else(|| {
            text.insert_str(start + WANTED.len(), ");}");
            names(&text).filter(|list| !list.is_empty())
        });
        let found = found.or_else(|| {
            text.replace_range(start + WANTED.len()..start + WANTED.len() + 3, ";}");
            names(&text)
        });
        let field = |name: String| item(name, CompletionItemKind::FIELD, None);
        found.unwrap_or_default().into_iter().map(field).collect()
    }

    /// Variables or maps. The one that is being typed is none yet.
    fn named(&self, start: usize, sigil: char) -> Vec<CompletionItem> {
        let mut items: Vec<CompletionItem> = Vec::new();
        for outlined in self.outline() {
            let typed = outlined.span.file == 0 && outlined.span.start as usize == start;
            let known = items.iter().any(|item| item.label == outlined.name);
            if outlined.name.starts_with(sigil) && !typed && !known {
                let kind = CompletionItemKind::VARIABLE;
                items.push(item(outlined.name, kind, Some(outlined.ty)));
            }
        }
        items
    }

    fn outline(&self) -> Vec<Outlined> {
        let parsed = self.parse(self.text);
        sema::outline(&parsed.loaded.script, &parsed.sources, self.host, &options())
    }

    /// Whether an attach point could stand here: outside of all blocks.
    fn is_header(&self, offset: usize) -> bool {
        let tokens = lexer::lex(self.text, 0, &builtins::is_value);
        let mut depth = 0usize;
        for token in tokens.iter().filter(|t| (t.span.end as usize) <= offset) {
            match token.node {
                lexer::Token::LBrace | lexer::Token::StmtBrace | lexer::Token::AngleOpen => {
                    depth += 1;
                }
                lexer::Token::RBrace | lexer::Token::AngleClose => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        depth == 0
    }

    fn probes(&self, start: usize, offset: usize) -> Vec<CompletionItem> {
        let head = self.text.get(..offset).unwrap_or_default();
        let edge = head.rfind(|c: char| c.is_whitespace() || c == ',' || c == '}' || c == '>');
        let typed = head.get(edge.map_or(0, |at| at + 1)..).unwrap_or_default();
        let kind = CompletionItemKind::EVENT;
        if !typed.contains(':') {
            let names = PROVIDERS.iter().map(|p| {
                let mut item = item(p.name.to_owned(), kind, p.usage.first().map(|u| (*u).into()));
                item.documentation = Some(Documentation::String(p.doc.to_owned()));
                item
            });
            return names.collect();
        }
        let mut diags = Diagnostics::default();
        let options = ListOptions { verbose: false, pid: None };
        let pattern = format!("{typed}*");
        let mut lines = probes::list(self.host, Some(&pattern), options, &mut diags);
        lines.truncate(MOST);
        // What is replaced is the word at hand; the label has all of it.
        let kept = start - (offset - typed.len());
        let offered = |line: String| {
            let mut item = item(line.clone(), kind, None);
            item.insert_text = line.get(kept..).map(str::to_owned);
            item
        };
        lines.into_iter().map(offered).collect()
    }

    fn words(&self) -> Vec<CompletionItem> {
        let function = CompletionItemKind::FUNCTION;
        let builtins = builtins::all().map(|row| {
            let kind = if row.bare { CompletionItemKind::VARIABLE } else { function };
            let mut item = item(row.name.to_owned(), kind, Some(row.usage.to_owned()));
            item.documentation = Some(Documentation::String(row.doc.to_owned()));
            item
        });
        let own = self.parse(self.text).loaded.script;
        let own = own.items.iter().filter_map(|part| match part {
            Item::Macro(m) => Some(item(m.name.node.clone(), function, Some("macro".to_owned()))),
            Item::Function(f) => Some(item(f.name.node.clone(), function, Some("fn".to_owned()))),
            Item::Probe(_) | Item::MapDecl(_) => None,
        });
        let mut all: Vec<CompletionItem> = builtins.chain(own).collect();
        all.extend(
            ["if", "else", "while", "for", "unroll", "let", "return", "break", "continue"]
                .map(|word| item(word.to_owned(), CompletionItemKind::KEYWORD, None)),
        );
        all
    }

    // Hover and definitions.

    pub(super) fn hover(&self, at: Position) -> Option<Hover> {
        let offset = text::offset(self.text, at);
        let (start, word) = text::word(self.text, offset);
        let said = match word.chars().next()? {
            '$' | '@' => {
                let found = self.named_at(start, word)?;
                format!("{} : {}", found.name, found.ty)
            }
            _ => help::topic(word).ok()?,
        };
        let value = format!("```text\n{}\n```", said.trim_end());
        Some(Hover {
            contents: HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value }),
            range: Some(text::range(self.text, start, start + word.len())),
        })
    }

    pub(super) fn definition(&self, at: Position) -> Option<Range> {
        let offset = text::offset(self.text, at);
        let (start, word) = text::word(self.text, offset);
        let span = match word.chars().next()? {
            '$' | '@' => self.named_at(start, word)?.span,
            _ => {
                let parsed = self.parse(self.text);
                defined(&parsed.loaded.script, word).filter(|span| span.file == parsed.file)?
            }
        };
        let end = (span.end as usize).min(span.start as usize + word.len());
        (span.file == 0).then(|| text::range(self.text, span.start as usize, end))
    }

    /// A map, or the variable of the probe around a place.
    fn named_at(&self, start: usize, word: &str) -> Option<Outlined> {
        let all = self.outline().into_iter().filter(|o| o.name == word);
        let around = |o: &Outlined| match o.owner {
            Some(owner) => (owner.start as usize..owner.end as usize).contains(&start),
            None => true,
        };
        // The last one that was declared before the place.
        let mut found: Vec<Outlined> = all.filter(around).collect();
        found.sort_by_key(|o| (o.span.start as usize > start, u32::MAX - o.span.start));
        found.into_iter().next()
    }

    pub(super) fn formatted(&self) -> Option<Vec<TextEdit>> {
        let mut sources = Sources::default();
        let file = sources.add(Source { name: self.name.clone(), text: self.text.to_owned() });
        let (tree, diags) = parser::parse(&sources, file, &builtins::is_value);
        if diags.has_errors() {
            return None;
        }
        let tokens = lexer::lex(self.text, file, &builtins::is_value);
        let new_text = print::format(&tree, self.text, &tokens);
        let range = text::range(self.text, 0, self.text.len());
        Some(vec![TextEdit { range, new_text }])
    }
}

fn options() -> sema::Options {
    // Whether a function is allowed is a matter of the command line.
    sema::Options { unsafe_mode: true, ..sema::Options::default() }
}

/// Where a macro or a function is defined.
fn defined(script: &Script, name: &str) -> Option<Span> {
    script.items.iter().find_map(|item| match item {
        Item::Macro(m) if m.name.node == name => Some(m.name.span),
        Item::Function(f) if f.name.node == name => Some(f.name.span),
        Item::Macro(_) | Item::Function(_) | Item::Probe(_) | Item::MapDecl(_) => None,
    })
}

fn item(label: String, kind: CompletionItemKind, detail: Option<String>) -> CompletionItem {
    CompletionItem { label, kind: Some(kind), detail, ..CompletionItem::default() }
}
