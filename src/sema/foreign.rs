//! Calls of functions that are not the script's: of objects that it imports, and
//! of the kernel (kfuncs).
//!
//! What they take and give is what BTF says. A pointer goes for any other, but
//! the kernel checks each function of an object by itself and lets it follow only
//! memory of the program, `&$v`.

use super::check::Checker;
use super::tree::{Expr, ExprKind, ForeignId};
use crate::diag::Diagnostic;
use crate::host::btf::{Btf, Function};
use crate::ir::{CType, Foreign, Origin, Prototype};
use crate::parser::ast::{self, TypeTag};
use crate::source::{Span, Spanned};
use crate::types::{Space, Type};

/// An object file that a script imports.
#[derive(Debug)]
pub struct ObjectFile {
    /// As it is shown.
    pub name: String,
    /// The `import`.
    pub span: Span,
    pub elf: Vec<u8>,
    /// What its `.BTF` section says.
    pub types: Btf,
}

impl Checker<'_> {
    /// Whether an imported object or the kernel has a function of that name.
    pub(super) fn is_foreign(&self, name: &str) -> bool {
        self.options.objects.iter().any(|o| o.types.function(name).is_some())
            || self.host.btf().is_ok_and(|kernel| kernel.function(name).is_some())
    }

    /// A call of a function that is defined elsewhere; nothing after an error.
    pub(super) fn foreign_call(
        &mut self,
        name: &Spanned<String>,
        args: &[ast::Expr],
        span: Span,
    ) -> Option<Expr> {
        match self.options.objects.iter().find(|o| o.types.function(&name.node).is_some()) {
            Some(object) => {
                let declared = Some(object.span);
                let found = object.types.function(&name.node)?;
                if !object.types.is_global(&name.node) {
                    let d = Diagnostic::error(name.span, format!("`{}` is static", name.node))
                        .label(object.span, "only this object can call it")
                        .help("remove `static` from its definition");
                    return Some(self.fail(d));
                }
                let prototype = object.types.prototype(&name.node);
                self.call_of(name, Origin::Object, (found, prototype), declared, args, span)
            }
            None => {
                let kernel = self.host.btf().ok()?;
                let found = kernel.function(&name.node)?;
                let prototype = kernel.prototype(&name.node);
                if !self.host.kfunc(&name.node, self.instance.kind) {
                    let message = format!("`{}` cannot be called here", name.node);
                    let d = Diagnostic::error(name.span, message)
                        .note("it is a function of the kernel, which does not let such programs call it")
                        .help("`kfunc_allowed(\"…\")` tells whether a probe may call a function");
                    return Some(self.fail(d));
                }
                self.call_of(name, Origin::Kernel, (found, prototype), None, args, span)
            }
        }
    }

    fn call_of(
        &mut self,
        name: &Spanned<String>,
        origin: Origin,
        (found, prototype): (Function, Option<Prototype>),
        declared: Option<Span>,
        args: &[ast::Expr],
        span: Span,
    ) -> Option<Expr> {
        let Some(prototype) = prototype.filter(|p| p.params.len() <= crate::ir::MAX_PARAMETERS)
        else {
            let message = format!("`{}` cannot be called", name.node);
            let d = Diagnostic::error(name.span, message)
                .note("numbers and pointers fit a register, other values do not");
            return Some(self.fail(d));
        };
        let names: Vec<String> = found.params.iter().map(|p| p.name.clone()).collect();
        self.check_count(name, args.len(), &names, declared, span)?;
        let mut list = Vec::new();
        for (arg, (param, (_, c_type))) in
            args.iter().zip(found.params.iter().zip(&prototype.params))
        {
            let value = self.expression(arg);
            if origin == Origin::Object && matches!(c_type, CType::Pointer(_)) {
                list.push(self.own_memory(value, &param.ty, &param.text)?);
                continue;
            }
            let what = format!("`{}` of `{}`", param.name, name.node);
            list.push(self.passed(value, &register_type(&param.ty), declared, &what)?);
        }
        let result = self.here(&found.result);
        let function = self.foreign_id(Foreign { name: name.node.clone(), origin, prototype });
        Some(Expr::new(ExprKind::CallForeign { function, args: list }, result, span))
    }

    /// An argument that a function of an object follows.
    fn own_memory(&mut self, value: Expr, to: &Type, text: &str) -> Option<Expr> {
        if value.is_error() {
            return None;
        }
        if !self.host.functions_take_pointers() {
            let d = Diagnostic::error(value.span, "this kernel lets no function follow a pointer")
                .at(format!("passed as `{text}`"))
                .note("functions of objects take addresses from Linux 5.13 on")
                .help("let the function take and give numbers");
            self.diags.push(d);
            return None;
        }
        let needed = if let Type::Ptr { to, .. } = to { to.size() } else { 0 };
        let given = match (&value.kind, &value.ty) {
            (ExprKind::AddressOfVar(_), Type::Ptr { to, .. }) => Some(to.size()),
            _ => None,
        };
        match given {
            Some(given) if given >= needed => return Some(value),
            Some(given) => {
                let d = Diagnostic::error(value.span, "the variable is too small")
                    .at(format!("{given} bytes, and `{text}` has {needed}"))
                    .help("declare it with the type that the function expects");
                self.diags.push(d);
            }
            None => {
                let d = Diagnostic::error(value.span, "a function of an object cannot follow this")
                    .at(format!("passed as `{text}`"))
                    .note("the kernel lets such functions follow only addresses of variables, `&$v`")
                    .help("declare the parameter as `__u64`, and read by `bpf_probe_read_kernel` there");
                self.diags.push(d);
            }
        }
        None
    }

    /// A type of an object in terms of this kernel's.
    fn here(&self, ty: &Type) -> Type {
        match ty {
            Type::Ptr { to, space } => {
                let to = match &**to {
                    Type::Struct(s) => {
                        let tag = if s.union { TypeTag::Union } else { TypeTag::Struct };
                        let kernel = self.host.btf().ok();
                        kernel.and_then(|b| b.find_type(Some(tag), &s.name)).unwrap_or(Type::Void)
                    }
                    other => self.here(other),
                };
                let space = if *space == Space::None { Space::Kernel } else { *space };
                Type::ptr(to, space)
            }
            other => register_type(other),
        }
    }

    fn foreign_id(&mut self, function: Foreign) -> ForeignId {
        if let Some(id) = self.foreign.iter().position(|f| f.name == function.name) {
            return id;
        }
        self.foreign.push(function);
        self.foreign.len() - 1
    }
}

/// Enums of other tables go as their numbers.
fn register_type(ty: &Type) -> Type {
    match ty {
        Type::Enum(e) => Type::int(e.size, e.signed),
        other => other.clone(),
    }
}
