//! What a program is given: words of its context, registers, arguments of markers.

use super::expr::{convert, cut_size, extend};
use super::{Lower, Remote, Val};
use crate::host::features::Feature;
use crate::ir::{self, Arg, BinaryOp as B, Expr, Helper, Place, StmtKind};
use crate::probes::{Access, Operand, Source};
use crate::types::{Space, Type};

impl Lower<'_> {
    /// A value of the program's context.
    pub(super) fn context_value(&mut self, access: Access, ty: &Type) -> Val {
        match access {
            Access::Context { offset, size: 8 } if self.must_copy(ty) => {
                Val::Word(self.context_copy(offset))
            }
            Access::Number { offset } => {
                let word = self.context_copy(offset);
                Val::Word(convert(word, &Type::UINT64, ty))
            }
            Access::Context { offset, size } if ty.is_scalar() => {
                let word = self.context_word(offset, size, ty.is_signed());
                Val::Word(convert(word, &Type::int(cut_size(size), ty.is_signed()), ty))
            }
            Access::Context { offset, .. } => Val::Memory(Place::context(offset)),
            Access::DataLocation { offset, relative } => {
                let word = self.context_word(offset, 4, false);
                let distance = Expr::binary(B::And, word, Expr::Const(0xffff));
                let start = if relative { offset + 4 } else { 0 };
                let base = Expr::Address(Place::context(0));
                let address = Expr::binary(B::Add, base, distance);
                let address = Expr::binary(B::Add, address, Expr::Const(i64::from(start)));
                Val::Word(address)
            }
            Access::SyscallRegister { offset } => {
                let word = self.syscall_register(offset);
                Val::Word(convert(word, &Type::UINT64, ty))
            }
            Access::Kept { word } => {
                let local = self.kept.get(word as usize);
                let local = local.expect("bug: the keeper keeps what the block uses");
                Val::Word(convert(Expr::Local(*local), &Type::UINT64, ty))
            }
            Access::Returned => {
                let local = self.at_start("retval", |l| {
                    let slot = l.temp("retval", 8);
                    l.emit(StmtKind::Zero { to: slot.clone(), size: 8 });
                    let args = vec![Arg::Context, Arg::Address(slot.clone())];
                    let call = l.call(Helper::GetFuncRet, args);
                    l.emit(StmtKind::Eval(call));
                    Expr::load(slot, 8, false)
                });
                Val::Word(convert(Expr::Local(local), &Type::UINT64, ty))
            }
            Access::Packet { header, packet } => {
                let word = self.header(header, packet);
                Val::Word(convert(word, &Type::UINT64, ty))
            }
            Access::Operand(operand) => Val::Word(self.operand(operand)),
        }
    }

    /// An argument of a marker, extended to a word; fetched once, at the start of
    /// the program.
    fn operand(&mut self, operand: Operand) -> Expr {
        let ty = Type::Int { size: operand.size, signed: operand.signed, space: Space::User };
        let (base, index, distance) = match operand.source {
            Source::Constant(n) => return extend(Expr::Const(n), operand.size, operand.signed),
            Source::Register { offset, shift } => {
                let word = self.context_word(offset, 8, false);
                let word = match shift {
                    0 => word,
                    shift => Expr::binary(B::LShr, word, Expr::Const(i64::from(shift))),
                };
                return extend(word, operand.size, operand.signed);
            }
            Source::Memory { base, index, distance } => (base, index, distance),
        };
        if let Some((_, local)) = self.operands.iter().find(|(o, _)| *o == operand) {
            return Expr::Local(*local);
        }
        let mut address = Expr::Const(distance);
        if let Some(base) = base {
            let base = self.context_word(base, 8, false);
            address = Expr::binary(B::Add, base, address);
        }
        if let Some(index) = index {
            let word = self.context_word(index.offset, 8, false);
            let word = extend(word, index.bits / 8, index.signed);
            let word = Expr::binary(B::Shl, word, Expr::Const(i64::from(index.shift)));
            address = Expr::binary(B::Add, address, word);
        }
        let remote = Remote { base: address, offset: 0, space: Space::User };
        let local = self.at_start("argument", |l| l.read_word(&remote, &ty));
        self.operands.push((operand, local));
        Expr::Local(local)
    }

    /// A scalar of the context.
    pub(crate) fn context_access(&mut self, access: Access, ty: &Type) -> Expr {
        match self.context_value(access, ty) {
            Val::Word(word) => word,
            _ => unreachable!("bug: a scalar is a word"),
        }
    }

    /// A word of the context, loaded once at the start of the program.
    pub(crate) fn context_word(&mut self, offset: u32, size: u32, signed: bool) -> Expr {
        if let Some(local) = self.context.get(&(offset, size)) {
            return Self::resign(Expr::Local(*local), size, signed);
        }
        let local = self.at_start(&format!("ctx_{offset}"), |_| {
            Expr::load(Place::context(offset), cut_size(size), false)
        });
        self.context.insert((offset, size), local);
        Self::resign(Expr::Local(local), size, signed)
    }

    /// Whether the kernel would not let a program load an argument of that type
    /// directly: a pointer to something else than a struct.
    fn must_copy(&self, ty: &Type) -> bool {
        let typed = [ir::ProgramKind::Trampoline, ir::ProgramKind::BtfTracepoint];
        let Type::Ptr { to, .. } = ty else { return false };
        typed.contains(&self.kind())
            && !matches!(**to, Type::Struct(_) | Type::Void)
            && !self.host.has(Feature::ScalarPointers)
    }

    /// A word of the context, read as memory that has no type.
    fn context_copy(&mut self, offset: u32) -> Expr {
        // Beside the word itself, which the verifier may know to be a pointer.
        let cached = (0x2_0000 + offset, 8);
        if let Some(local) = self.context.get(&cached) {
            return Expr::Local(*local);
        }
        let local = self.at_start(&format!("ctx_{offset}"), |l| {
            let slot = l.temp("argument", 8);
            l.copied(slot, Place::context(offset))
        });
        self.context.insert(cached, local);
        Expr::Local(local)
    }

    fn resign(word: Expr, size: u32, signed: bool) -> Expr {
        if signed && size < 8 { extend(word, cut_size(size), true) } else { word }
    }

    /// A register of the system call, through the pointer in context word 0.
    pub(crate) fn syscall_register(&mut self, offset: u32) -> Expr {
        // Keyed beside context words; no context is that large.
        let cached = (0x1_0000 + offset, 8);
        if let Some(local) = self.context.get(&cached) {
            return Expr::Local(*local);
        }
        let regs = self.context_word(0, 8, false);
        let local = self.at_start(&format!("reg_{offset}"), |l| {
            if l.kind() == ir::ProgramKind::BtfTracepoint {
                return Expr::LoadTyped { pointer: Box::new(regs), offset, size: 8, signed: false };
            }
            let remote = Remote { base: regs, offset, space: Space::Kernel };
            l.read_word(&remote, &Type::UINT64)
        });
        self.context.insert(cached, local);
        if let Some(known) = self.locals.get_mut(local.0 as usize) {
            known.number = true;
        }
        Expr::Local(local)
    }
}
