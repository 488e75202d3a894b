//! Named parameters of a script: `rtrace script.bt -- --name=value`.

use super::{BASE, Builtin, Call};
use crate::config::Setting;
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::lexer::{self, Token};
use crate::plan::Param;
use crate::plan::portable::{NamedOption, OptionValue, TEXT_WORDS};
use crate::sema::tree::{Expr, ExprKind};
use crate::sema::{Checker, Options};
use crate::source::{FileId, Sources, Span, Spanned};
use crate::types::Type;

/// A parameter that the script declares by asking for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub name: String,
    default: Default,
    help: String,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
enum Default {
    Bool(bool),
    Int(i128),
    Text(Vec<u8>),
}

pub(super) const ROWS: &[Builtin] = &[
    Builtin {
        name: "config",
        usage: "config.max_strlen",
        doc: "The settings of this run, as the config block and the environment have them.",
        bare: true,
        check: |c, call| {
            let fields = c.config.settings().into_iter().map(|(name, setting)| {
                let value = match setting {
                    Setting::Bool(b) => Default::Bool(b),
                    Setting::Int(n) => Default::Int(i128::from(n)),
                    Setting::Text(text) => Default::Text(text.into_bytes()),
                };
                (name.to_owned(), literal(&value, &value, call.span))
            });
            let fields: Vec<(String, Expr)> = fields.collect();
            let types = fields.iter().map(|(n, e)| (n.clone(), e.ty.clone())).collect();
            Expr::new(ExprKind::Record(fields), Type::Record(types), call.span)
        },
        ..BASE
    },
    Builtin {
        name: "getopt",
        usage: "getopt(\"name\"[, default[, \"help\"]])",
        doc: "A named parameter, given behind `--` as `--name` or `--name=value`; `-- --help` lists those of a script.",
        args: (1, 3),
        check: getopt,
        ..BASE
    },
];

fn getopt(c: &mut Checker<'_>, call: &Call<'_>) -> Expr {
    let Some(name) = c.literal_text(call, 0) else { return Expr::error(call.span) };
    let default = match call.args.get(1) {
        None => Default::Bool(false),
        Some(e) => {
            let value = c.expression(e);
            match (&value.ty, value.constant(), value.text()) {
                (Type::Bool, Some(n), _) => Default::Bool(n != 0),
                (_, Some(n), _) => Default::Int(n),
                (_, _, Some(text)) => Default::Text(text.to_vec()),
                _ if value.is_error() => return value,
                _ => {
                    let d = Diagnostic::error(e.span, "the default must be a literal");
                    return c.fail(d);
                }
            }
        }
    };
    let help = match call.args.get(2) {
        None => String::new(),
        Some(_) => match c.literal_text(call, 2) {
            Some(text) => text,
            None => return Expr::error(call.span),
        },
    };
    let named = Named { name, default, help, span: call.span };
    if let Some(first) = c.named.iter().find(|n| n.name == named.name) {
        if first.default != named.default || first.help != named.help {
            let d =
                Diagnostic::error(call.span, format!("`{}` is declared in two ways", named.name))
                    .label(first.span, "first here")
                    .help("give the same default and the same help everywhere");
            return c.fail(d);
        }
    } else {
        c.named.push(named.clone());
    }
    let given = c.options.named.iter().rfind(|n| n.0 == named.name).map(|n| n.1.clone());
    match value_of(&named.default, given) {
        Ok(_) if c.options.portable => open(c, &named, call.span),
        Ok(value) => literal(&value, &named.default, call.span),
        Err(expected) => {
            let d = Diagnostic::error(call.span, format!("`--{}` expects {expected}", named.name))
                .help(format!("write `-- --{}=VALUE` behind the script", named.name));
            c.fail(d)
        }
    }
}

/// A parameter that is known when the object is loaded.
fn open(c: &mut Checker<'_>, named: &Named, span: Span) -> Expr {
    let at = c.named.iter().position(|n| n.name == named.name).unwrap_or(0);
    let option = u32::try_from(at).unwrap_or(u32::MAX);
    let number = ExprKind::Param(Param::Option { option, word: 0 });
    match &named.default {
        Default::Bool(_) => Expr::new(number, Type::Bool, span),
        Default::Int(n) => Expr::new(number, Type::int(8, *n < 0), span),
        Default::Text(_) => {
            Expr::new(ExprKind::OptionText(option), Type::Str(8 * TEXT_WORDS), span)
        }
    }
}

impl Named {
    /// As the plan has it; what is given now is the default later.
    pub(crate) fn stored(&self, options: &Options) -> NamedOption {
        let given = options.named.iter().rfind(|n| n.0 == self.name).map(|n| n.1.clone());
        let value = value_of(&self.default, given).unwrap_or_else(|_| self.default.clone());
        let signed = matches!(self.default, Default::Int(n) if n < 0);
        let default = match value {
            Default::Bool(b) => OptionValue::Bool(b),
            // The bits of 64.
            #[allow(clippy::cast_possible_truncation, reason = "it was checked to fit")]
            Default::Int(n) => OptionValue::Int { value: n as i64, signed },
            Default::Text(text) => OptionValue::Text(text),
        };
        let (name, help, span) = (self.name.clone(), self.help.clone(), self.span);
        NamedOption { name, default, help, span }
    }
}

/// The words of a parameter of an object, from what is given for it: absent, a flag, or a text.
///
/// # Errors
/// What is expected instead.
pub fn words_of(option: &NamedOption, given: Option<Option<String>>) -> Result<Vec<u64>, String> {
    let default = match &option.default {
        OptionValue::Bool(b) => Default::Bool(*b),
        OptionValue::Int { value, signed: true } => Default::Int(i128::from(*value).min(-1)),
        OptionValue::Int { value, signed: false } => {
            Default::Int(i128::from(value.cast_unsigned()))
        }
        OptionValue::Text(text) => Default::Text(text.clone()),
    };
    let value = match (&option.default, &given) {
        (OptionValue::Int { value, .. }, None) => Default::Int(i128::from(*value)),
        _ => value_of(&default, given)?,
    };
    Ok(match value {
        Default::Bool(b) => vec![u64::from(b)],
        #[allow(clippy::cast_possible_truncation, reason = "it was checked to fit")]
        #[allow(clippy::cast_sign_loss, reason = "the bits count")]
        Default::Int(n) => vec![n as u64],
        Default::Text(text) => {
            let room = 8 * TEXT_WORDS as usize;
            if text.len() >= room {
                return Err(format!("at most {} characters", room - 1));
            }
            let mut bytes = text;
            bytes.resize(room, 0);
            let words = bytes.chunks_exact(8);
            // This is the machine that the programs run on.
            words.map(|w| u64::from_ne_bytes(w.try_into().expect("bug: chunks of 8"))).collect()
        }
    })
}

/// The value of a parameter; `given` is absent, a flag, or a text.
fn value_of(default: &Default, given: Option<Option<String>>) -> Result<Default, &'static str> {
    let Some(given) = given else { return Ok(default.clone()) };
    match (default, given) {
        (Default::Bool(_), None) => Ok(Default::Bool(true)),
        (Default::Bool(_), Some(text)) => {
            crate::config::boolean(&text).map(Default::Bool).ok_or("true or false")
        }
        (Default::Int(default), Some(text)) => {
            let (digits, negative) = match text.strip_prefix('-') {
                Some(rest) => (rest, true),
                None => (text.as_str(), false),
            };
            let value = crate::lexer::literal::value(digits).map(i128::from);
            let value = value.map(|n| if negative { -n } else { n });
            let signed = *default < 0;
            let fits = |n: &i128| {
                if signed { i64::try_from(*n).is_ok() } else { u64::try_from(*n).is_ok() }
            };
            let expected = if signed { "an integer" } else { "an integer that is not negative" };
            value.filter(fits).map(Default::Int).ok_or(expected)
        }
        (Default::Int(_), None) => Err("an integer"),
        (Default::Text(_), Some(text)) => Ok(Default::Text(text.into_bytes())),
        (Default::Text(_), None) => Err("a string"),
    }
}

fn literal(value: &Default, default: &Default, span: Span) -> Expr {
    match value {
        Default::Bool(b) => Expr::new(ExprKind::Int(i128::from(*b)), Type::Bool, span),
        Default::Int(n) => {
            let signed = matches!(default, Default::Int(d) if *d < 0);
            Expr::new(ExprKind::Int(*n), Type::int(8, signed), span)
        }
        Default::Text(text) => {
            let size = u32::try_from(text.len() + 1).unwrap_or(u32::MAX);
            Expr::new(ExprKind::Str(text.clone()), Type::Str(size), span)
        }
    }
}

/// Complains about parameters that the script does not know.
pub(crate) fn check_named(known: &[Named], options: &Options, diags: &mut Diagnostics) {
    for (name, _) in &options.named {
        if known.iter().any(|k| k.name == *name) {
            continue;
        }
        let mut d = Diagnostic::global(format!("the script has no parameter `--{name}`"));
        if let Some(near) = diag::nearest(name, known.iter().map(|k| k.name.as_str())) {
            d = d.help(format!("did you mean `--{near}`?"));
        }
        for k in known {
            let value = match &k.default {
                Default::Bool(_) => String::new(),
                Default::Int(n) => format!("={n}"),
                Default::Text(text) => format!("={}", String::from_utf8_lossy(text)),
            };
            let help = if k.help.is_empty() { String::new() } else { format!("  {}", k.help) };
            d = d.note(format!("it has `--{}{value}`{help}", k.name));
        }
        diags.push(d);
    }
}

/// Help on the parameters of a script, from its text alone, so that it needs
/// neither privileges nor the probes to be there.
pub(crate) fn usage(sources: &Sources, file: FileId) -> String {
    let tokens = lexer::lex(sources.text(file), file, &super::is_value);
    let mut rows: Vec<(String, String)> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if !matches!(&token.node, Token::Ident(name) if name == "getopt") {
            continue;
        }
        let rest = tokens.get(at + 1..).unwrap_or(&[]);
        let [
            Spanned { node: Token::LParen, .. },
            Spanned { node: Token::Str(name), .. },
            rest @ ..,
        ] = rest
        else {
            continue;
        };
        let mut row = format!("--{}", String::from_utf8_lossy(name));
        let mut help = String::new();
        if let [Spanned { node: Token::Comma, .. }, rest @ ..] = rest {
            // The default is all up to the next comma, or the end of the call.
            let end = rest.iter().position(|t| matches!(t.node, Token::Comma | Token::RParen));
            let (default, rest) = rest.split_at_checked(end.unwrap_or(0)).unwrap_or((&[], rest));
            let text = match default {
                [Spanned { node: Token::Str(text), .. }] => {
                    String::from_utf8_lossy(text).into_owned()
                }
                [first, .., last] => sources.slice(first.span.to(last.span)).to_owned(),
                [only] => sources.slice(only.span).to_owned(),
                [] => String::new(),
            };
            if !matches!(text.as_str(), "false" | "true") {
                row += &format!("={text}");
            } else if text == "true" {
                row += "=true";
            }
            if let [
                Spanned { node: Token::Comma, .. },
                Spanned { node: Token::Str(text), .. },
                ..,
            ] = rest
            {
                help = String::from_utf8_lossy(text).into_owned();
            }
        }
        if !rows.iter().any(|r| r.0 == row) {
            rows.push((row, help));
        }
    }
    let name = sources.name(file);
    if rows.is_empty() {
        return format!("{name} has no named parameters\n");
    }
    let width = rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0);
    let mut text = format!("Parameters of {name}, to be given behind `--`:\n");
    for (row, help) in rows {
        text += format!("  {row:width$}  {help}").trim_end();
        text.push('\n');
    }
    text
}
