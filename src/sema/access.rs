//! Checking of what reaches into values and types: members, elements,
//! pointers, casts, arguments of the probe, type names.

use super::check::Checker;
use super::needs::is_args;
use super::statement::shown;
use super::tree::{Detail, Expr, ExprKind};
use crate::diag::{self, Diagnostic, Warning};
use crate::host::btf;
use crate::parser::ast::{self, TypeExprKind, TypeSuffix};
use crate::probes::Argument;
use crate::source::{Span, Spanned};
use crate::types::{EnumRef, Member, Space, StructRef, Type, TypeId};

/// A struct or union whose members can be looked up.
pub(super) struct Struct {
    pub reference: StructRef,
}

impl Struct {
    /// The struct that a type is, or that it points to.
    pub(super) fn of(ty: &Type) -> Option<Struct> {
        match ty {
            Type::Struct(s) => Some(Struct { reference: s.clone() }),
            Type::Ptr { to, .. } => Struct::of(to),
            _ => None,
        }
    }
}

/// What a type is that cannot be read: a name of C, or some words.
fn unsupported(what: &str) -> String {
    match what.starts_with("a ") {
        true => format!("it is {what}"),
        false => format!("it is `{what}`"),
    }
}

fn without_floats(d: Diagnostic, what: &str) -> Diagnostic {
    match what.contains("float") || what.contains("double") {
        true => d.note("BPF programs cannot use floating-point numbers"),
        false => d,
    }
}

/// What is said of a value without fields.
const NO_FIELDS: &str = "this has no fields";

/// Names of types elsewhere, and what they are here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("str", "string"),
    ("text", "string"),
    ("integer", "int64"),
    ("number", "int64"),
    ("boolean", "bool"),
    ("byte", "uint8"),
];

impl Checker<'_> {
    // Arguments of the probe.

    /// `args` as a value.
    pub(super) fn whole_args(&mut self, span: Span) -> Expr {
        match &self.instance.context.args {
            Ok(args) => {
                let fields = args.iter().map(|a| (a.name.clone(), a.ty.clone())).collect();
                Expr::new(ExprKind::Args(args.clone()), Type::Record(fields), span)
            }
            Err(reason) => self.unavailable("args", reason.clone(), span),
        }
    }

    /// `args.name`.
    /// Whether the probe has an argument of that name.
    pub(super) fn has_argument(&self, name: &str) -> bool {
        self.instance.context.args.iter().flatten().any(|a| a.name == name)
    }

    fn args_field(&mut self, name: &Spanned<String>, span: Span) -> Expr {
        let args = match &self.instance.context.args {
            Ok(args) => args,
            Err(reason) => return self.unavailable("args", reason.clone(), span),
        };
        let found = args.iter().find(|a| a.name == name.node).or_else(|| {
            // Renamed long ago: `args->data_loc_x` is `args.x` now.
            let old = name.node.strip_prefix("data_loc_")?;
            args.iter().find(|a| a.name == old)
        });
        if let Some(argument) = found {
            return self.argument(argument.clone(), span);
        }
        let probe = self.probe_name();
        let mut d =
            Diagnostic::error(name.span, format!("`{probe}` has no argument `{}`", name.node));
        d = d.or_nearest(name.span, &name.node, args.iter().map(|a| a.name.as_str()));
        d = d.choices(args.iter().map(|a| a.name.clone()));
        d = if args.is_empty() {
            d.note("it has no arguments at all")
        } else {
            let names: Vec<&str> = args.iter().map(|a| a.name.as_str()).collect();
            d.note(format!("its arguments are {}", names.join(", ")))
        };
        self.fail(d)
    }

    /// A value of the context.
    pub(crate) fn argument(&mut self, argument: Argument, span: Span) -> Expr {
        if let Type::Unsupported(what) = &argument.ty {
            let d = Diagnostic::error(span, format!("`{}` cannot be read", argument.name))
                .at(unsupported(what));
            return self.fail(without_floats(d, what));
        }
        let ty = argument.ty.clone();
        Expr::new(ExprKind::Argument(argument), ty, span)
    }

    pub(super) fn numbered_argument(&mut self, n: usize, span: Span) -> Expr {
        match &self.instance.context.numbered {
            Ok(list) => match list.get(n).cloned() {
                Some(argument) => self.argument(argument, span),
                None => {
                    let count = list.len();
                    let d = Diagnostic::error(span, format!("there is no `arg{n}` here"));
                    let context = &self.instance.context;
                    let d = if context.registers.is_some() && context.func.is_ok() {
                        d.note(format!(
                            "`{}` has {count} arguments in registers, `arg0` and on",
                            context.provider
                        ))
                        .help("arguments on the stack are read as `*(uint64*)(reg(\"sp\") + …)`")
                    } else {
                        let arguments = match count {
                            0 => "no arguments".to_owned(),
                            1 => "one argument, `arg0`".to_owned(),
                            n => format!("{n} arguments, `arg0` and on"),
                        };
                        d.note(format!("`{}` has {arguments}", self.probe_name()))
                    };
                    self.fail(d)
                }
            },
            Err(reason) => self.unavailable(&format!("arg{n}"), reason.clone(), span),
        }
    }

    /// `sargN`, the old name for the N-th argument on the stack.
    pub(super) fn stack_argument(&mut self, n: usize, span: Span) -> Expr {
        let arch = self.host.arch();
        let sp = self.instance.context.registers.zip(arch.register(arch.stack_pointer));
        let Some((base, sp)) = sp else {
            let reason = "it needs the registers of a function call".to_string();
            return self.unavailable(&format!("sarg{n}"), reason, span);
        };
        self.diags.push(
            Diagnostic::warning(Warning::Deprecated, span, format!("`sarg{n}` is an old spelling"))
                .help("write `*(uint64*)(reg(\"sp\") + …)`"),
        );
        let space = self.instance.context.space;
        let word = Type::Int { size: 8, signed: false, space };
        let register = Argument {
            name: "sp".into(),
            ty: word.clone(),
            access: crate::probes::Access::Context { offset: base + sp, size: 8 },
        };
        let offset = i128::from(arch.stack_argument_offset) + 8 * i128::try_from(n).unwrap_or(0);
        let address = Expr::new(
            ExprKind::Binary {
                op: ast::BinaryOp::Add,
                left: Box::new(self.argument(register, span)),
                right: Box::new(Expr::literal(offset, span)),
            },
            Type::ptr(word.clone(), space),
            span,
        );
        Expr::new(ExprKind::Deref(Box::new(address)), word, span)
    }

    /// A builtin that this probe does not have.
    pub(crate) fn unavailable(&mut self, what: &str, reason: String, span: Span) -> Expr {
        let probe = self.probe_name();
        let d = Diagnostic::error(span, format!("`{what}` is not available in `{probe}`"));
        let (reason, help) = match reason.split_once("; ") {
            Some((reason, help)) => (reason.to_string(), Some(help.to_string())),
            None => (reason, None),
        };
        let d = d.note(reason);
        self.fail(match help {
            Some(help) => d.help(help),
            None => d,
        })
    }

    /// The full name of the probe at hand (of its first match).
    pub(crate) fn probe_name(&self) -> String {
        self.instance
            .attach
            .first()
            .and_then(|a| a.probes.first())
            .map(str::to_owned)
            .unwrap_or_else(|| self.instance.context.provider.to_string())
    }

    // Members and elements.

    pub(super) fn field(&mut self, base: &ast::Expr, name: &Spanned<String>, span: Span) -> Expr {
        if is_args(base) {
            return self.args_field(name, span);
        }
        let mut base = self.expression(base);
        if base.is_error() {
            return Expr::error(span);
        }
        // Pointers of any depth are followed.
        while let Type::Ptr { to, .. } = &base.ty
            && let Type::Ptr { .. } = **to
        {
            let at = base.span;
            base = self.deref(base, at);
        }
        match &base.ty {
            Type::Unknown => Expr::new(ExprKind::Error, Type::Unknown, span),
            Type::Record(fields) => {
                let found = fields.iter().position(|f| f.0 == name.node);
                match found {
                    Some(index) => self.element_at(base, index, span),
                    None => {
                        let names: Vec<String> = fields.iter().map(|f| f.0.clone()).collect();
                        let ty = base.ty.clone();
                        self.no_field(&ty, name, &names)
                    }
                }
            }
            ty => match Struct::of(ty) {
                Some(of) => match self.member(&of, name) {
                    Some(member) => self.member_of(base, member, span),
                    None => Expr::error(span),
                },
                None => {
                    let d = Diagnostic::error(name.span, NO_FIELDS)
                        .label(base.span, format!("it is {}", shown(&base)));
                    let d = if let (true, Err(reason)) = (base.ty.is_integer(), self.host.btf()) {
                        d.note(format!("{reason}, so that fields are not known"))
                    } else if base.ty.is_integer() {
                        d.help("cast it to what it points to: `((struct NAME *)…).field`")
                    } else if let Type::Tuple(_) = base.ty {
                        d.help("its elements are `.0`, `.1`, …")
                    } else {
                        d
                    };
                    self.fail(d)
                }
            },
        }
    }

    /// A member of a struct by name.
    pub(super) fn member(&mut self, of: &Struct, name: &Spanned<String>) -> Option<Member> {
        let members = self.members(&of.reference);
        if let Some(member) = members.iter().find(|m| m.name == name.node) {
            return Some(member.clone());
        }
        let names: Vec<String> = members.into_iter().map(|m| m.name).collect();
        self.no_field(&Type::Struct(of.reference.clone()), name, &names);
        None
    }

    fn members(&self, of: &StructRef) -> Vec<Member> {
        super::layout::members(self.host, self.cdefs, of)
    }

    fn no_field(&mut self, ty: &Type, name: &Spanned<String>, names: &[String]) -> Expr {
        let record = matches!(ty, Type::Record(_));
        let what = if record { "this record".to_owned() } else { format!("`{ty}`") };
        let mut d = Diagnostic::error(name.span, format!("{what} has no field `{}`", name.node));
        d = d.or_nearest(name.span, &name.node, names.iter().map(String::as_str));
        d = d.choices(names.iter().cloned());
        let own = match ty {
            Type::Struct(s) => self.cdefs.span(s.id),
            _ => None,
        };
        if let Some(span) = own {
            d = d.label(span, if names.is_empty() { "without fields" } else { "defined here" });
        }
        d = match names.len() {
            0 if own.is_some() => d.note("the script declares it, and nothing defines it"),
            0 if matches!(ty, Type::Struct(s) if matches!(s.id, TypeId::User(_))) => {
                d.note("the program's debug information does not describe its fields")
            }
            0 => d.note("this kernel's BTF does not describe its fields"),
            _ if own.is_some() => d,
            n if n <= 12 || record => d.note(format!("its fields are {}", names.join(", "))),
            _ if matches!(ty, Type::Struct(s) if matches!(s.id, TypeId::User(_))) => d,
            _ => d.help(format!("`rtrace -lv '{ty}'` shows its fields")),
        };
        self.fail(d)
    }

    pub(super) fn member_of(&mut self, base: Expr, mut member: Member, span: Span) -> Expr {
        match member.tag.as_deref() {
            None | Some("rcu" | "user") => {}
            Some(tag) => {
                let d = Diagnostic::error(span, format!("`{}` is `__{tag}` memory", member.name))
                    .note("such an address cannot be followed directly");
                return self.fail(d);
            }
        }
        let space = base.ty.space();
        member.ty = inherit(&member.ty, if space == Space::None { Space::Kernel } else { space });
        if let Type::Unsupported(what) = &member.ty {
            let d = Diagnostic::error(span, format!("`{}` cannot be read", member.name))
                .at(unsupported(what));
            return self.fail(without_floats(d, what));
        }
        let ty = match (&member.ty, Struct::of(&base.ty).map(|s| s.reference.id)) {
            // All of the array may be text, which then is not cut off.
            (Type::Str(n), Some(TypeId::Script(_) | TypeId::User(_))) => {
                Type::Str(n.saturating_add(1))
            }
            (ty, _) => ty.clone(),
        };
        Expr::new(ExprKind::Member { base: Box::new(base), member }, ty, span)
    }

    pub(super) fn deref(&mut self, value: Expr, span: Span) -> Expr {
        match value.ty.clone() {
            Type::Unknown => Expr::new(ExprKind::Error, Type::Unknown, span),
            Type::Ptr { to, space } => {
                if matches!(*to, Type::Void) {
                    let d = Diagnostic::error(span, "cannot follow a `void *`")
                        .help("cast it to what it points to: `*(uint64 *)…`");
                    return self.fail(d);
                }
                let ty = inherit(&to, space);
                Expr::new(ExprKind::Deref(Box::new(value)), ty, span)
            }
            ty if ty.is_integer() => {
                // The number is an address of 8 bytes.
                let space = ty.space();
                let word = Type::Int { size: 8, signed: false, space };
                let at = value.span;
                let pointer =
                    Expr::new(ExprKind::Cast(Box::new(value)), Type::ptr(word.clone(), space), at);
                Expr::new(ExprKind::Deref(Box::new(pointer)), word, span)
            }
            ty => {
                let d =
                    Diagnostic::error(span, "`*` needs a pointer").at(format!("this is `{ty}`"));
                let d = match ty {
                    Type::Str(_) | Type::Array { .. } => {
                        d.help("write `…[0]` for its first element")
                    }
                    _ => d.help("cast an address to what it points to: `*(uint64 *)…`"),
                };
                self.fail(d)
            }
        }
    }

    pub(super) fn index(&mut self, base: &ast::Expr, index: &ast::Expr, span: Span) -> Expr {
        let base = self.expression(base).stored();
        let Some(index_value) = self.integer(index) else { return Expr::error(span) };
        if base.is_error() {
            return Expr::error(span);
        }
        if let Some(n) = index_value.constant()
            && n < 0
        {
            let d = Diagnostic::error(index.span, "an index cannot be negative");
            return self.fail(d.note("elements are counted from 0"));
        }
        let (element, len) = match &base.ty {
            Type::Unknown => return Expr::new(ExprKind::Error, Type::Unknown, span),
            Type::Tuple(_) | Type::Record(_) => {
                return match index_value.constant() {
                    Some(n) => self.element(base, n, index.span, span),
                    None => {
                        let d = Diagnostic::error(index.span, "a tuple is indexed by a constant")
                            .note("its elements have types of their own")
                            .help("write `.0`, `.1`, …, or keep the values in a map");
                        self.fail(d)
                    }
                };
            }
            Type::Array { of, len } => ((**of).clone(), Some(*len)),
            Type::Str(len) => {
                if let (Some(text), Some(n)) = (base.text(), index_value.constant()) {
                    let byte = usize::try_from(n).ok().and_then(|n| text.get(n)).copied();
                    return Expr::literal(i128::from(byte.unwrap_or(0)), span);
                }
                (Type::int(1, true), Some(*len))
            }
            Type::Ptr { to, space } => {
                if matches!(**to, Type::Void) {
                    let d = Diagnostic::error(span, "cannot index a `void *`")
                        .help("cast it to what it points to: `((uint64 *)…)[i]`");
                    return self.fail(d);
                }
                (inherit(to, *space), None)
            }
            ty => {
                let d =
                    Diagnostic::error(span, "this cannot be indexed").at(format!("it is `{ty}`"));
                return self.fail(match ty.is_integer() {
                    true => d.help("cast it to what it points to: `((uint64 *)…)[i]`"),
                    false => d.note("arrays, tuples, strings and pointers can be indexed"),
                });
            }
        };
        if let (Some(n), Some(len)) = (index_value.constant(), len)
            && n >= i128::from(len)
            && len > 0
        {
            let d = Diagnostic::error(index.span, format!("index {n} is past the end"))
                .note(format!("there are {len} elements, counted from 0"));
            return self.fail(d);
        }
        let kind = ExprKind::Index { base: Box::new(base), index: Box::new(index_value) };
        Expr::new(kind, element, span)
    }

    /// `.N` or `[N]` of a tuple.
    pub(super) fn element(&mut self, base: Expr, n: i128, n_span: Span, span: Span) -> Expr {
        let count = match &base.ty {
            Type::Tuple(list) => list.len(),
            Type::Record(list) => list.len(),
            Type::Unknown => return Expr::new(ExprKind::Error, Type::Unknown, span),
            ty => {
                let d = Diagnostic::error(n_span, "this is no tuple")
                    .label(base.span, format!("it is `{ty}`"));
                return self.fail(d);
            }
        };
        match usize::try_from(n).ok().filter(|n| *n < count) {
            Some(index) => self.element_at(base, index, span),
            None => {
                let d = Diagnostic::error(n_span, format!("the tuple has no element {n}"))
                    .note(format!("it has {count} elements, counted from 0"));
                self.fail(d)
            }
        }
    }

    fn element_at(&mut self, base: Expr, index: usize, span: Span) -> Expr {
        let ty = match &base.ty {
            Type::Tuple(list) => list.get(index).cloned(),
            Type::Record(list) => list.get(index).map(|f| f.1.clone()),
            _ => None,
        };
        let ty = ty.expect("bug: the index was checked");
        // What is written out needs no memory.
        let written = match &base.kind {
            ExprKind::Tuple(list) if !base.has_effects() => list.get(index),
            ExprKind::Record(list) if !base.has_effects() => list.get(index).map(|f| &f.1),
            _ => None,
        };
        if let Some(written) = written.filter(|e| e.is_literal()) {
            return Expr { span, ..written.clone() };
        }
        Expr::new(ExprKind::Element { base: Box::new(base), index }, ty, span)
    }

    // Types.

    /// A type in a script.
    pub(super) fn type_expr(&mut self, t: &ast::TypeExpr) -> Option<Type> {
        let (mut ty, suffixes) = match &t.node {
            TypeExprKind::Named { tag, name, suffixes } => match self.named_type(*tag, name) {
                Some(ty) => (ty, suffixes),
                None => {
                    let shown = match tag {
                        Some(tag) => format!("{} {name}", tag.word()),
                        None => name.clone(),
                    };
                    let mut d = Diagnostic::error(t.span, format!("unknown type `{shown}`"));
                    d = match self.host.btf() {
                        Ok(_) if self.cdefs.declares(name) => {
                            d.note("the script declares it, and nothing defines it")
                        }
                        Ok(btf) => match self.nearest_type(btf, *tag, name) {
                            Some(near) => d.did_you_mean(t.span, &near),
                            None => d
                                .note("neither the language nor this kernel's BTF knows it")
                                .help("define it in the script; `rtrace -l 'struct *'` lists those of the kernel"),
                        },
                        Err(e) => d.note(e.to_string()),
                    };
                    self.fail(d);
                    return None;
                }
            },
            TypeExprKind::Typeof { of, suffixes } => (self.type_of(of)?, suffixes),
        };
        for suffix in suffixes {
            ty = match (suffix, &ty) {
                (TypeSuffix::Pointer, _) => Type::ptr(ty, Space::None),
                (TypeSuffix::Array(n), Type::Str(_)) => Type::Str(array_len(*n)),
                (TypeSuffix::Array(n), Type::Buffer(_)) => Type::Buffer(array_len(*n)),
                (TypeSuffix::Array(n), _) => Type::Array { of: Box::new(ty), len: array_len(*n) },
            };
        }
        Some(ty)
    }

    /// A lone word in a place where a type or an expression may stand.
    pub(super) fn as_type(&mut self, e: &ast::Expr) -> Option<Type> {
        match &e.node {
            ast::ExprKind::Ident(name) if !crate::builtins::is_value(name) => {
                self.named_type(None, name)
            }
            _ => None,
        }
    }

    /// The name closest to that of a type that is not there: with a tag, of the kernel's
    /// and the script's types; without, of the language's, or the same with its tag.
    fn nearest_type(
        &self,
        btf: &btf::Btf,
        tag: Option<ast::TypeTag>,
        name: &str,
    ) -> Option<String> {
        let Some(tag) = tag else {
            let near = || diag::nearest(name, crate::lexer::TYPES).map(str::to_owned);
            let elsewhere = || ELSEWHERE.iter().find(|(other, _)| *other == name);
            let elsewhere = || elsewhere().map(|(_, here)| (*here).to_owned());
            return self.with_tag(name).or_else(elsewhere).or_else(near);
        };
        let limit = (name.len() / 3).max(1);
        let close = |n: &str| n.len().abs_diff(name.len()) <= limit;
        let mut names = btf.type_names(tag, &close);
        names.extend(self.cdefs.names().filter(|n| close(n)).map(str::to_owned));
        let near = diag::nearest(name, names.iter().map(String::as_str))?;
        Some(format!("{} {near}", tag.word()))
    }

    /// `struct name`, or what it is, if there is such a type.
    pub(super) fn with_tag(&self, name: &str) -> Option<String> {
        use ast::TypeTag::{Enum, Struct, Union};
        let btf = self.host.btf().ok();
        let known = [Struct, Union, Enum].into_iter().find(|tag| {
            self.cdefs.find_type(Some(*tag), name).is_some()
                || btf.is_some_and(|btf| btf.find_type(Some(*tag), name).is_some())
        })?;
        Some(format!("{} {name}", known.word()))
    }

    fn named_type(&mut self, tag: Option<ast::TypeTag>, name: &str) -> Option<Type> {
        let plain: Vec<_> =
            name.split(' ').filter(|word| !matches!(*word, "const" | "volatile")).collect();
        let name = plain.join(" ");
        let name = name.as_str();
        if tag.is_none() {
            let own = match name {
                "int8" => Type::int(1, true),
                "int16" => Type::int(2, true),
                "int32" => Type::int(4, true),
                "int64" => Type::int(8, true),
                "uint8" => Type::int(1, false),
                "uint16" => Type::int(2, false),
                "uint32" => Type::int(4, false),
                "uint64" => Type::int(8, false),
                "bool" => Type::Bool,
                "void" => Type::Void,
                "string" => Type::Str(0),
                "buffer" => Type::Buffer(0),
                "inet" => Type::Inet,
                "macaddr_t" => Type::Mac,
                "username_t" => Type::Username,
                "timestamp" => Type::Timestamp,
                "cgroup_path_t" => Type::CgroupPath,
                _ => Type::Unknown,
            };
            if own != Type::Unknown {
                return Some(own);
            }
        }
        let own = self.cdefs.find_type(tag, name);
        // Of C's names, some need no BTF.
        let own = own.or_else(|| btf::base_type(name).filter(|_| tag.is_none()));
        own.or_else(|| self.host.btf().ok()?.find_type(tag, name))
    }

    pub(super) fn cast(&mut self, ty: &ast::TypeExpr, value: &ast::Expr, span: Span) -> Expr {
        let wanted = self.type_expr(ty);
        let told = self.diags.list.len();
        let written = value;
        let value = self.expression(value);
        // `(struct file *)arg0->f_mode`
        if let (true, ast::ExprKind::Field { base, name, .. }) = (value.is_error(), &written.node)
            && let text =
                format!("(({}){})->{}", self.text_at(ty.span), self.text_at(base.span), name.node)
            && let Some(d) = self.diags.list.get_mut(told).filter(|d| d.message == NO_FIELDS)
        {
            d.helps = vec![format!("`->` comes before the cast: write `{text}`")];
        }
        let Some(wanted) = wanted else { return Expr::error(span) };
        if value.is_error() {
            return Expr::error(span);
        }
        // `(string)` keeps the room for a NUL.
        let value = if wanted == Type::Str(0) { value } else { value.stored() };
        let impossible = |c: &mut Self, value: &Expr| {
            let d = Diagnostic::error(span, format!("cannot cast this to `{wanted}`"))
                .label(value.span, format!("it is {}", shown(value)));
            let (has, needs) = (value.ty.size(), wanted.size());
            c.fail(match has != needs && has > 0 && needs > 0 {
                true => {
                    let d = d.note(format!("it has {has} bytes, `{wanted}` has {needs}"));
                    match (&wanted, &value.ty) {
                        (Type::Str(_), _) => d.help(format!("write `(string[{has}])…`")),
                        (Type::Array { of, .. }, _) if of.size() > 0 && has % of.size() == 0 => {
                            d.help(format!("write `({of}[{}])…`", has / of.size()))
                        }
                        (_, Type::Tuple(_)) => d.help("cast an element of it: `.0`, `.1`, …"),
                        _ => d,
                    }
                }
                false => d.note("numbers, pointers, and what has the same size can be cast"),
            })
        };
        let space = match value.ty.space() {
            Space::None => self.instance.context.space,
            space => space,
        };
        let from = value.ty.clone();
        let ty = match (&wanted, &from) {
            (_, Type::Unknown) => inherit(&wanted, space),
            (Type::Int { size, signed, .. }, t)
                if t.is_integer()
                    || matches!(t, Type::Ptr { .. } | Type::Ksym | Type::Username) =>
            {
                if let Some(n) = value.constant() {
                    let cut = cut(n, *size, *signed);
                    let ty = Type::int(*size, *signed);
                    return Expr::new(ExprKind::Int(cut), ty, span);
                }
                Type::Int { size: *size, signed: *signed, space: value.ty.space() }
            }
            (Type::Int { size, .. }, Type::Array { .. } | Type::Str(_))
                if from.size() == u32::from(*size) =>
            {
                wanted.clone()
            }
            (Type::Int { .. }, Type::Usym) => wanted.clone(),
            (Type::Bool, t) if t.is_integer() || matches!(t, Type::Ptr { .. }) => Type::Bool,
            // Whether there is text: its first byte.
            (Type::Bool, Type::Str(_)) => {
                if let Some(text) = value.text() {
                    let truth = ExprKind::Int(i128::from(!text.is_empty()));
                    return Expr::new(truth, Type::Bool, span);
                }
                let index = Box::new(Expr::literal(0, span));
                let kind = ExprKind::Index { base: Box::new(value), index };
                let first = Expr::new(kind, Type::int(1, true), span);
                return Expr::new(ExprKind::Cast(Box::new(first)), Type::Bool, span);
            }
            (Type::Ptr { to, .. }, t)
                if t.is_integer() || matches!(t, Type::Ptr { .. } | Type::Ksym) =>
            {
                Type::Ptr { to: to.clone(), space }
            }
            (Type::Ptr { to, .. }, Type::Array { .. } | Type::Str(_)) if from.size() == 8 => {
                Type::Ptr { to: to.clone(), space }
            }
            (Type::Enum(e), t) if t.is_integer() => {
                let names = super::layout::enum_names(self.host, self.cdefs, e.id);
                if let Some(n) = value.constant()
                    && !names.iter().any(|c| i128::from(c.0) == n)
                {
                    let d = Diagnostic::error(span, format!("no constant of `{wanted}` is {n}"));
                    let list: Vec<String> =
                        names.iter().take(8).map(|(n, name)| format!("{name} ({n})")).collect();
                    let more = if names.len() > list.len() { ", …" } else { "" };
                    return self
                        .fail(d.note(format!("its constants are {}{more}", list.join(", "))));
                }
                Type::Enum(EnumRef { size: 8, ..e.clone() })
            }
            (Type::Username, t) if t.is_integer() => Type::Username,
            (Type::Array { of, len: 0 }, t) if t.size() > 0 && of.size() > 0 => {
                Type::Array { of: of.clone(), len: t.size() / of.size() }
            }
            (Type::Array { .. }, t) if wanted.size() == t.size() => wanted.clone(),
            (Type::Array { .. }, t) if t.is_integer() && wanted.size() <= 8 => wanted.clone(),
            (Type::Str(0), Type::Str(_)) => from.clone(),
            (Type::Str(n), Type::Str(m)) if n >= m => wanted.clone(),
            (Type::Struct(_), _) => {
                let d = Diagnostic::error(span, "cannot cast to a struct")
                    .help(format!("cast to a pointer and follow it: `*({wanted} *)…`"));
                return self.fail(d);
            }
            (a, b) if a == b => wanted.clone(),
            _ => return impossible(self, &value),
        };
        self.unnecessary(&value, &ty, span);
        Expr::new(ExprKind::Cast(Box::new(value)), ty, span)
    }

    /// Notes a cast that changes nothing. What macros hold is not judged by one call.
    fn unnecessary(&mut self, value: &Expr, ty: &Type, span: Span) {
        // An element of an aggregation is a number only where it is used as one.
        let number =
            matches!(value.kind, ExprKind::Map { map, .. } if self.map(map).aggregation.is_some());
        if value.ty != *ty || number || self.expansions.hold(span) {
            self.casts.insert(span, None);
            return;
        }
        let text = self.text_at(Span { end: value.span.start.max(span.start), ..span });
        let length = text.find(')').map_or(text.len(), |at| at + 1);
        let cast = Span::new(span.file, span.start as usize, span.start as usize + length);
        let d = Diagnostic::warning(Warning::UnnecessaryCast, cast, "this cast changes nothing")
            .at("take it out")
            .replace(cast, "")
            .label(value.span, format!("this is {} already", shown(value)));
        self.casts.entry(span).or_insert(Some(d));
    }

    /// A register of the interrupted or traced code.
    pub(crate) fn register(&mut self, name: &str, what: &str, span: Span) -> Expr {
        let arch = self.host.arch();
        let Some(base) = self.instance.context.registers else {
            let reason = "this kind of probe has no registers".to_string();
            return self.unavailable(what, reason, span);
        };
        let Some(offset) = arch.register(name) else {
            let mut d = Diagnostic::error(span, format!("unknown register `{name}`"));
            if let Some(near) = diag::nearest(name, arch.registers.iter().map(|r| r.0)) {
                d = d.did_you_mean(span, &format!("\"{near}\""));
            }
            let names: Vec<&str> = arch.registers.iter().map(|r| r.0).collect();
            d = d.note(format!("the registers of {} are {}", arch.name, names.join(", ")));
            return self.fail(d);
        };
        let ty = Type::Int { size: 8, signed: false, space: self.instance.context.space };
        let builtin = crate::builtins::find("reg").expect("bug: `reg` is a builtin");
        let kind =
            ExprKind::Call { builtin, args: vec![], detail: Detail::Register(base + offset) };
        Expr::new(kind, ty, span)
    }
}

/// A type as found in memory of `space`: pointers in it point there too, save
/// those that the kernel tags as user pointers.
pub(super) fn inherit(ty: &Type, space: Space) -> Type {
    match ty {
        Type::Ptr { to, space: Space::User } => Type::Ptr { to: to.clone(), space: Space::User },
        Type::Ptr { to, .. } => Type::Ptr { to: to.clone(), space },
        Type::Array { of, len } => Type::Array { of: Box::new(inherit(of, space)), len: *len },
        other => other.clone(),
    }
}

fn array_len(n: Option<u64>) -> u32 {
    u32::try_from(n.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The value of the low `size` bytes.
pub(super) fn cut(value: i128, size: u8, signed: bool) -> i128 {
    let bits = u32::from(size) * 8;
    let low = value & ((1i128 << bits) - 1);
    if signed && low >> (bits - 1) != 0 { low - (1i128 << bits) } else { low }
}
