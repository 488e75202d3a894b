//! Fields of the kernel's structs.
//!
//! For the running kernel, where a field lies is a constant. An object that runs on other kernels asks
//! the loader: the field's place, its size and the shifts that take it out of the bytes there are rows
//! of [`ir::Module::relocations`]. Numbers are read as the kernel has them, whatever their size, and
//! then are what the kernel has of them in the size that the script was checked with.

use super::expr::convert;
use super::{Lower, Remote, Shared, Val, index};
use crate::diag::Diagnostic;
use crate::host::Host;
use crate::ir::{self, Arg, BinaryOp as B, Expr, Fact, Helper, Relocation, Root, Shape, Step, Tag};
use crate::parser::ast::TypeTag;
use crate::plan::Param;
use crate::plan::portable::{Part, Point, TEXT_WORDS};
use crate::probes::{Access, Argument, Needs};
use crate::sema::kernel::{flavor_of, member_behind};
use crate::sema::portable::asked;
use crate::sema::tree::{self, ExprKind};
use crate::source::Span;
use crate::types::{Member, Space, StructRef, Type, TypeId};

/// A member of the kernel, by its way from a named type.
pub(crate) struct Field {
    pub root: Root,
    pub path: Vec<Step>,
    /// Of the whole way, in the kernel that the script is compiled for.
    pub offset: u32,
}

impl Shared {
    /// The word of a fact about the kernel.
    pub(crate) fn fact(&mut self, row: Relocation) -> Expr {
        let known = self.relocations.iter().position(|r| *r == row);
        let at = known.unwrap_or_else(|| {
            self.relocations.push(row);
            self.relocations.len() - 1
        });
        Expr::Reloc(index(at))
    }

    /// The numbers of an attach point and of its argument of that name. The point is known by a match.
    fn argument(&mut self, span: Span, probe: &str, name: &str) -> (u32, u32) {
        let points = &mut self.portable.points;
        let same = |p: &Point| p.span == span && p.text == probe;
        let at = points.iter().position(same).unwrap_or_else(|| {
            points.push(Point {
                label: None,
                text: probe.to_owned(),
                span,
                needs: Needs::default(),
                arguments: Vec::new(),
            });
            points.len() - 1
        });
        let arguments = points.get_mut(at).map(|p| &mut p.arguments);
        let arguments = arguments.expect("bug: the point is there");
        let number = arguments.iter().position(|a| a.name == name).unwrap_or_else(|| {
            arguments.push(asked(name));
            arguments.len() - 1
        });
        (index(at), index(number))
    }

    /// Where the text of a named parameter is.
    pub(super) fn option_text(&mut self, option: u32) -> ir::Place {
        let word = |word| Param::Option { option, word };
        let known = self.params.iter().position(|p| *p == word(0));
        let first = known.unwrap_or_else(|| {
            let first = self.params.len();
            self.params.extend((0..TEXT_WORDS).map(word));
            first
        });
        ir::Place { base: ir::Base::Params, offset: 8 * index(first), index: None }
    }

    /// A fact about a field.
    pub(crate) fn field(&mut self, field: &Field, fact: Fact, here: i64) -> Expr {
        self.fact(Relocation { root: field.root.clone(), path: field.path.clone(), fact, here })
    }
}

/// The name under which the kernel knows a struct, if it is one of the kernel's.
pub(crate) fn root_of(host: &Host, of: &StructRef) -> Option<Root> {
    if !matches!(of.id, TypeId::Btf { .. }) || of.name.is_empty() {
        return None;
    }
    let (tag, written) = match of.union {
        true => (Tag::Union, TypeTag::Union),
        false => (Tag::Struct, TypeTag::Struct),
    };
    let named = host.btf().ok()?.find_type(Some(written), &of.name);
    // A module may have one of its own.
    let alias = !matches!(named, Some(Type::Struct(_)));
    Some(Root { tag, name: of.name.clone(), alias, size: of.size })
}

/// The kind of type that the loader looks for.
pub(crate) fn shape_of(ty: &Type) -> Shape {
    match ty {
        Type::Int { size, signed, .. } => Shape::Int { size: *size, signed: *signed },
        Type::Enum(e) => Shape::Enum { name: e.name.clone(), size: e.size },
        Type::Ptr { .. } => Shape::Pointer,
        Type::Struct(s) => Shape::Composite { union: s.union, size: s.size },
        Type::Array { of, len } => Shape::Array { of: Box::new(shape_of(of)), len: *len },
        Type::Str(len) => {
            let of = Box::new(Shape::Int { size: 1, signed: true });
            Shape::Array { of, len: *len }
        }
        // Nothing else is in the kernel's structs.
        _ => Shape::Int { size: 1, signed: false },
    }
}

/// A member as a step of a way.
pub(crate) fn step(member: &Member) -> Step {
    let (bit, width) = match member.bits {
        Some(bits) => (u64::from(bits.shift), Some(bits.width)),
        None => (0, None),
    };
    Step {
        name: member.name.clone(),
        bit: u64::from(member.offset) * 8 + bit,
        width,
        shape: shape_of(&member.ty),
    }
}

/// The struct that an expression is or points to.
fn struct_of(ty: &Type) -> Option<&StructRef> {
    match ty {
        Type::Struct(s) => Some(s),
        Type::Ptr { to, .. } => match &**to {
            Type::Struct(s) => Some(s),
            _ => None,
        },
        _ => None,
    }
}

impl Lower<'_> {
    /// The way to a member of one of the kernel's structs and the expression that it starts from, if
    /// it is up to the loader. What has no name is reached from the outside.
    pub(super) fn field<'e>(
        &mut self,
        base: &'e tree::Expr,
        member: &Member,
    ) -> Option<(&'e tree::Expr, Field)> {
        if !self.options.portable {
            return None;
        }
        let of = struct_of(&base.ty)?;
        if flavor_of(of).is_some() {
            let tag = if of.union { Tag::Union } else { Tag::Struct };
            let root = Root { tag, name: of.name.clone(), alias: false, size: of.size };
            return Some((base, Field { root, path: vec![step(member)], offset: member.offset }));
        }
        if !matches!(of.id, TypeId::Btf { .. }) {
            return None;
        }
        if let Some(root) = root_of(self.host, of) {
            return Some((base, Field { root, path: vec![step(member)], offset: member.offset }));
        }
        if let (ExprKind::Member { base: outer, member: through }, Type::Struct(_)) =
            (&base.kind, &base.ty)
        {
            let (start, mut field) = self.field(outer, through)?;
            field.path.push(step(member));
            field.offset += member.offset;
            return Some((start, field));
        }
        let d = Diagnostic::error(
            base.span,
            format!("where `{}` is cannot be told to other kernels", member.name),
        )
        .note("the struct has no name by which to find it there")
        .help("start from a struct that has a name and holds this one, or build with `--here`");
        self.fail(d);
        None
    }

    /// The way to a member of a struct, if the kernel that the script is compiled for has it.
    pub(super) fn kernel_field(&self, name: &str, path: &[&str]) -> Option<Field> {
        let btf = self.host.btf().ok()?;
        let Type::Struct(of) = btf.find_type(Some(TypeTag::Struct), name)? else { return None };
        let root = root_of(self.host, &of)?;
        let mut field = Field { root, path: Vec::new(), offset: 0 };
        let mut here = of;
        for name in path {
            let member = btf.members(here.id).into_iter().find(|m| m.name == *name)?;
            field.path.push(step(&member));
            field.offset += member.offset;
            if let Type::Struct(inner) = member.ty {
                here = inner;
            }
        }
        Some(field)
    }

    /// The member of the running kernel's struct of which the script has a view.
    pub(super) fn behind(&mut self, base: &tree::Expr, member: &Member) -> Option<Member> {
        let of = struct_of(&base.ty)?;
        let name = flavor_of(of)?;
        let found = member_behind(self.host, of, &member.name);
        if found.is_none() {
            let message = format!("the kernel's `struct {name}` has no `{}`", member.name);
            let d = Diagnostic::error(self.span, message);
            self.fail(d.help(format!(
                "read it only where it is: `if has_field(struct {}, {}) {{ … }}`",
                of.name, member.name
            )));
        }
        found
    }

    /// The member of what an expression is or points to.
    pub(super) fn field_value(
        &mut self,
        start: &tree::Expr,
        field: &Field,
        member: &Member,
    ) -> Val {
        let remote = match self.reach(start) {
            Val::Remote(remote) => remote,
            Val::Memory(_) | Val::Word(_) | Val::Void => {
                self.no_whole_struct(&start.ty, start.span);
                return Val::Word(Expr::Const(0));
            }
        };
        let remote = self.moved(&remote, field);
        match &member.ty {
            Type::Int { .. } | Type::Bool | Type::Enum(_) => {
                Val::Word(self.number(&remote, field, member))
            }
            ty if ty.is_scalar() => Val::Word(self.read_word(&remote, ty)),
            _ => Val::Remote(remote),
        }
    }

    /// The address of a field.
    pub(super) fn moved(&mut self, remote: &Remote, field: &Field) -> Remote {
        let offset = self.shared.field(field, Fact::Offset, i64::from(field.offset));
        let base = Expr::binary(B::Add, remote.base.clone(), offset);
        Remote { base, offset: remote.offset, space: remote.space }
    }

    /// A number in a field, of whatever size it is.
    pub(super) fn number(&mut self, remote: &Remote, field: &Field, member: &Member) -> Expr {
        let bytes = u32::from(member.bits.map_or(0, |b| b.size)).max(member.ty.size());
        let (left, right) = match member.bits {
            Some(bits) => (64 - bits.shift - bits.width, 64 - bits.width),
            None => (64 - 8 * narrow(member.ty.size()), 64 - 8 * narrow(member.ty.size())),
        };
        let size = self.shared.field(field, Fact::Size, i64::from(bytes));
        let left = self.shared.field(field, Fact::ShiftLeft, i64::from(left));
        let right = self.shared.field(field, Fact::ShiftRight, i64::from(right));
        let signed = member.ty.is_signed();
        let word = self.read_sized(remote, size, left, right, signed);
        // In the kernel it may have more bits than the script knows.
        let whole = Type::int(8, signed);
        convert(word, &whole, &member.ty)
    }

    /// Reads a number of a size of which only the loader knows, and shifts it into its place.
    pub(super) fn read_sized(
        &mut self,
        remote: &Remote,
        size: Expr,
        left: Expr,
        right: Expr,
        signed: bool,
    ) -> Expr {
        let slot = self.temp("read", 8);
        self.emit(ir::StmtKind::Zero { to: slot.clone(), size: 8 });
        let helper = match remote.space {
            Space::User => Helper::ProbeReadUser,
            Space::Kernel | Space::None => Helper::ProbeReadKernel,
        };
        let args = vec![
            Arg::Address(slot.clone()),
            Arg::Size { value: size, max: 8 },
            Arg::Value(Self::address(remote)),
        ];
        self.checked_call(helper, args);
        let word = Expr::binary(B::Shl, Expr::load(slot, 8, false), left);
        let op = if signed { B::AShr } else { B::LShr };
        self.spill("word", Expr::binary(op, word, right))
    }

    /// Says that a struct as a whole is not the same everywhere.
    fn no_whole_struct(&mut self, ty: &Type, span: Span) {
        let d = Diagnostic::error(span, "a whole struct of the kernel is not the same everywhere")
            .at(format!("this is a `{ty}`"))
            .help("read the fields that are needed, one by one, or build with `--here`");
        self.fail(d);
    }

    /// Says so of a value that is, or has, a struct of the kernel.
    pub(super) fn must_be_the_same(&mut self, ty: &Type, span: Span) {
        if self.differs(ty) {
            self.no_whole_struct(ty, span);
        }
    }

    /// Whether a type is, or has, a struct of the kernel that may be another elsewhere.
    pub(super) fn differs(&self, ty: &Type) -> bool {
        let kernel = match ty {
            Type::Struct(s) => matches!(s.id, TypeId::Btf { .. }),
            Type::Array { of, .. } => return self.differs(of),
            _ => false,
        };
        kernel && self.options.portable
    }

    /// An element of an array of structs of the kernel.
    pub(super) fn kernel_element(
        &mut self,
        base: &tree::Expr,
        at: &tree::Expr,
        e: &tree::Expr,
    ) -> Val {
        let root = match &e.ty {
            Type::Struct(s) => root_of(self.host, s),
            _ => None,
        };
        let Some(root) = root else {
            self.no_whole_struct(&e.ty, e.span);
            return Val::Word(Expr::Const(0));
        };
        let remote = match self.reach(base) {
            Val::Remote(remote) => remote,
            Val::Memory(_) | Val::Word(_) | Val::Void => {
                self.no_whole_struct(&base.ty, base.span);
                return Val::Word(Expr::Const(0));
            }
        };
        let here = i64::from(root.size);
        let size = Relocation { root, path: Vec::new(), fact: Fact::TypeSize, here };
        let stride = self.shared.fact(size);
        let number = self.word(at);
        let distance = Expr::binary(B::Mul, number, stride);
        let start = Expr::binary(B::Add, remote.base, distance);
        Val::Remote(Remote { base: start, ..remote })
    }

    /// A field of an event's record, which lies where the machine says.
    pub(super) fn record_value(&mut self, argument: &Argument, ty: &Type) -> Val {
        let link = self.instance.attach.first();
        let span = link.map_or(self.span, |a| a.span);
        let name = link.and_then(|a| a.probes.first()).unwrap_or("");
        let (point, number) = self.shared.argument(span, name, &argument.name);
        let part = |part| Param::Argument { point, argument: number, part };
        let offset = self.shared.param(part(Part::Offset));
        // The verifier sees that it is not far.
        let offset = Expr::binary(B::And, offset, Expr::Const(0xffff));
        let record = Expr::Address(ir::Place::context(0));
        let base = Expr::binary(B::Add, record.clone(), offset.clone());
        let remote = Remote { base, offset: 0, space: Space::Kernel };
        match argument.access {
            Access::DataLocation { relative, .. } => {
                let word = self.read_word(&remote, &Type::int(4, false));
                let distance = Expr::binary(B::And, word, Expr::Const(0xffff));
                let start = match relative {
                    true => Expr::binary(B::Add, offset, Expr::Const(4)),
                    false => Expr::Const(0),
                };
                let start = Expr::binary(B::Add, record, start);
                Val::Word(Expr::binary(B::Add, start, distance))
            }
            _ if matches!(ty, Type::Ptr { .. }) => Val::Word(self.read_word(&remote, ty)),
            _ if ty.is_scalar() => {
                let size = self.shared.param(part(Part::Size));
                let bits = Expr::binary(B::Mul, size.clone(), Expr::Const(8));
                let shift = Expr::binary(B::Sub, Expr::Const(64), bits);
                let signed = ty.is_signed();
                let word = self.read_sized(&remote, size, shift.clone(), shift, signed);
                Val::Word(convert(word, &Type::int(8, signed), ty))
            }
            _ => Val::Remote(remote),
        }
    }
}

/// Bytes of a number, as a shift counts.
fn narrow(size: u32) -> u8 {
    u8::try_from(size.clamp(1, 8)).unwrap_or(8)
}
