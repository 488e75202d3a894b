//! Lowering of expressions.

use super::{Home, Lower, Remote, Val};
use crate::builtins::{Lowered, Lowering};
use crate::ir::{self, Arg, BinaryOp as B, Expr, Helper, Place, StmtKind};
use crate::parser::ast::BinaryOp;
use crate::plan::Cause;
use crate::sema::operator::divides_signed;
use crate::sema::tree::{self, ExprKind, Target};
use crate::types::{Bits, Type};

impl Lower<'_> {
    /// A scalar as a word, extended according to the expression's type.
    pub(crate) fn word(&mut self, e: &tree::Expr) -> Expr {
        match self.value(e) {
            Val::Word(word) => word,
            Val::Void => Expr::Const(0),
            Val::Memory(place) => self.load(&place, &e.ty),
            Val::Remote(remote) => self.read_word(&remote, &e.ty),
        }
    }

    /// A call, and what it gives, here and now.
    fn call_function(
        &mut self,
        function: tree::FunctionId,
        args: &[tree::Expr],
        result: &Type,
    ) -> Val {
        let params = self.shared.function_params.get(&function).cloned().unwrap_or_default();
        // In programs of these kinds the verifier knows some words to be pointers,
        // which functions do not take.
        let typed =
            matches!(self.kind(), ir::ProgramKind::Trampoline | ir::ProgramKind::BtfTracepoint);
        let mut words = Vec::new();
        for (arg, ty) in args.iter().zip(&params) {
            if ty.is_memory() {
                let place = self.temp("argument", ty.size());
                self.into(arg, ty, &place, false);
                words.push(Expr::Address(place));
                continue;
            }
            let word = self.word(arg);
            let plain = !typed || arg.ty.size() < 8 || matches!(word, Expr::Const(_));
            let word = if plain { word } else { self.number_of(word) };
            words.push(self.spill("argument", word));
        }
        let depth = self.shared.function_depths.get(&function).copied();
        self.calls(depth.unwrap_or(1));
        if let Some(what) = self.shared.function_tasks.get(&function).copied() {
            self.is_about_tasks(what);
        }
        let id = self.shared.function_ids.get(&function).copied();
        let function = id.expect("bug: a function is lowered after its caller");
        if result.is_memory() {
            let place = self.temp("result", result.size());
            self.clear_on_stack(&place, result.size());
            words.push(Expr::Address(place.clone()));
            self.emit(StmtKind::Eval(Expr::CallFunction { function, args: words }));
            return Val::Memory(place);
        }
        let call = Expr::CallFunction { function, args: words };
        Val::Word(self.spill("result", call))
    }

    /// A call of a function that is defined elsewhere. Pointers go as they are.
    fn call_foreign(&mut self, function: tree::ForeignId, args: &[tree::Expr], ty: &Type) -> Val {
        let args = args.iter().map(|arg| match &arg.kind {
            ExprKind::AddressOfVar(var) => match self.home(*var).clone() {
                Home::Memory(place, _) => Expr::Address(place),
                Home::Word(..) => unreachable!("bug: an addressed variable lives in memory"),
            },
            _ => {
                let word = self.word(arg);
                self.spill("argument", word)
            }
        });
        let args = args.collect();
        self.calls(1);
        let call = Expr::CallForeign { function: ir::ForeignId(super::index(function)), args };
        match ty {
            Type::Void => {
                self.emit(StmtKind::Eval(call));
                Val::Void
            }
            _ => Val::Word(self.spill("result", call)),
        }
    }

    /// An address as a plain number. What the verifier knows to be a pointer cannot
    /// be computed with, so the kernel copies it.
    pub(super) fn number_of(&mut self, address: Expr) -> Expr {
        let (pointer, number) = (self.temp("pointer", 8), self.temp("number", 8));
        // A callback may not store a pointer to the stack on its caller's stack.
        let pointer = self.indexable(&pointer);
        self.emit(StmtKind::Store { to: pointer.clone(), size: 8, value: address });
        let copied = self.copied(number, pointer);
        self.spill("address", copied)
    }

    /// A word that the kernel copied `to` a place, without what the verifier knows about it.
    pub(super) fn copied(&mut self, to: Place, from: Place) -> Expr {
        let args = vec![
            Arg::Address(to.clone()),
            Arg::Value(Expr::Const(8)),
            Arg::Value(Expr::Address(from)),
        ];
        let call = self.call(Helper::ProbeReadKernel, args);
        self.emit(StmtKind::Eval(call));
        Expr::load(to, 8, false)
    }

    /// A scalar converted to another scalar type.
    pub(crate) fn word_as(&mut self, e: &tree::Expr, ty: &Type) -> Expr {
        let word = self.word(e);
        convert(word, &e.ty, ty)
    }

    /// Loads a scalar of a type (or the first word of anything else).
    pub(crate) fn load(&mut self, place: &Place, ty: &Type) -> Expr {
        let size = match ty.size() {
            n @ (1 | 2 | 4 | 8) => u8::try_from(n).unwrap_or(8),
            _ => 8,
        };
        let align = self.align_of(place);
        if align >= u32::from(size) {
            return Expr::load(place.clone(), size, ty.is_signed());
        }
        // Bytes of an unaligned scalar, put together.
        let mut word = Expr::Const(0);
        for i in 0..u32::from(size) {
            let byte = Expr::load(place.at(i), 1, false);
            let shifted = Expr::binary(B::Shl, byte, Expr::Const(i64::from(8 * i)));
            word = if i == 0 { shifted } else { Expr::binary(B::Or, word, shifted) };
        }
        match size {
            8 => word,
            _ => extend(word, size, ty.is_signed()),
        }
    }

    /// Whatever an expression gives, where it already is.
    pub(crate) fn value(&mut self, e: &tree::Expr) -> Val {
        let outer = self.span;
        let value = self.value_here(e);
        self.span = outer;
        value
    }

    fn value_here(&mut self, e: &tree::Expr) -> Val {
        match &e.kind {
            ExprKind::Error => unreachable!("bug: a script with errors is not lowered"),
            #[allow(clippy::cast_possible_truncation, reason = "the bits of a 64-bit constant")]
            ExprKind::Int(n) => Val::Word(Expr::Const(*n as i64)),
            ExprKind::Var(var) => match self.home(*var).clone() {
                Home::Word(local, ty) => Val::Word(convert(Expr::Local(local), &ty, &e.ty)),
                Home::Memory(place, ty) if ty.is_scalar() => {
                    let word = self.load(&place, &ty);
                    Val::Word(convert(word, &ty, &e.ty))
                }
                Home::Memory(place, _) => Val::Memory(place),
            },
            ExprKind::Argument(argument)
                if self.options.portable && self.kind() == ir::ProgramKind::Tracepoint =>
            {
                self.record_value(argument, &e.ty)
            }
            ExprKind::Argument(argument) => self.context_value(argument.access, &e.ty),
            ExprKind::Kernel(row) => Val::Word(self.shared.fact((**row).clone())),
            ExprKind::Param(param) => Val::Word(self.shared.param(*param)),
            ExprKind::OptionText(option) => Val::Memory(self.shared.option_text(*option)),
            ExprKind::Map { map, key } if e.ty.is_scalar() => {
                Val::Word(self.map_word(*map, key.as_deref(), &e.ty))
            }
            ExprKind::MapName(_) => Val::Void,
            ExprKind::AddressOfVar(var) => match self.home(*var).clone() {
                Home::Memory(place, _) => Val::Word(self.number_of(Expr::Address(place))),
                Home::Word(..) => unreachable!("bug: an addressed variable lives in memory"),
            },
            ExprKind::AddressOfMap(map) => {
                let id = self.script_map(*map).id;
                Val::Word(self.number_of(Expr::MapAddress(id)))
            }
            ExprKind::Neg(value) => {
                let value = self.word(value);
                Val::Word(Expr::binary(B::Sub, Expr::Const(0), value))
            }
            ExprKind::BitNot(value) => {
                let value = self.word(value);
                Val::Word(Expr::binary(B::Xor, value, Expr::Const(-1)))
            }
            ExprKind::Not(value) => {
                let value = self.word(value);
                Val::Word(Expr::binary(B::Eq, value, Expr::Const(0)))
            }
            ExprKind::Binary { op, left, right } => self.binary(*op, left, right, e),
            ExprKind::CompareMemory { equal, left, right } => {
                Val::Word(self.compare_memory(*equal, left, right))
            }
            ExprKind::Logical { and, left, right } => {
                let result = self.local("logical");
                let left = self.word(left);
                let left = Expr::binary(B::Ne, left, Expr::Const(0));
                self.set(result, left);
                let go_on = if *and { B::Ne } else { B::Eq };
                let cond = Expr::binary(go_on, Expr::Local(result), Expr::Const(0));
                self.when(cond, |l| {
                    let right = l.word(right);
                    l.set(result, Expr::binary(B::Ne, right, Expr::Const(0)));
                });
                Val::Word(Expr::Local(result))
            }
            ExprKind::Ternary { cond, then, els } if e.ty.is_scalar() => {
                let result = self.local("choice");
                let cond = self.word(cond);
                self.either(
                    cond,
                    |l| {
                        let word = l.word_as(then, &e.ty);
                        l.set(result, word);
                    },
                    |l| {
                        let word = l.word_as(els, &e.ty);
                        l.set(result, word);
                    },
                );
                Val::Word(Expr::Local(result))
            }
            ExprKind::Ternary { cond, then, els } if e.ty == Type::Void => {
                let cond = self.word(cond);
                self.either(
                    cond,
                    |l| {
                        l.value(then);
                    },
                    |l| {
                        l.value(els);
                    },
                );
                Val::Void
            }
            ExprKind::Cast(value) => self.cast(value, e),
            ExprKind::Member { base, member } => {
                let value = match self.field(base, member) {
                    Some((start, field)) => self.field_value(start, &field, member),
                    None => {
                        let behind = self.behind(base, member);
                        let found = behind.as_ref().unwrap_or(member);
                        let inner = self.reach(base);
                        let value = self.at(inner, found.offset, found.bits, &found.ty);
                        match value {
                            Val::Word(word) if behind.is_some() => {
                                Val::Word(convert(word, &found.ty, &member.ty))
                            }
                            value => value,
                        }
                    }
                };
                if e.ty.size() <= member.ty.size() {
                    return value;
                }
                let place = self.temp("text", e.ty.size());
                self.copy_into(value, &member.ty, &e.ty, &place, false);
                Val::Memory(place)
            }
            ExprKind::Deref(pointer) => {
                let base = self.word(pointer);
                let remote = Remote { base, offset: 0, space: pointer.ty.space() };
                self.at(Val::Remote(remote), 0, None, &e.ty)
            }
            ExprKind::Index { base, index } => self.index(base, index, e),
            ExprKind::Element { base, index } => {
                let offset = base.ty.offsets().get(*index).copied().unwrap_or(0);
                let place = self.place(base);
                self.at(Val::Memory(place), offset, None, &e.ty)
            }
            ExprKind::IncDec { target, increment, prefix } => {
                Val::Word(self.inc_dec(target, *increment, *prefix, &e.ty))
            }
            ExprKind::If { cond, then, els } if e.ty == Type::Void && cond.constant().is_some() => {
                // What cannot happen is not lowered, nor `fail` in it.
                let taken = if cond.constant() == Some(0) { els.as_ref() } else { Some(then) };
                if let Some(block) = taken {
                    self.tree_block(block);
                }
                Val::Void
            }
            ExprKind::If { cond, then, els } if e.ty == Type::Void => {
                let cond = self.word(cond);
                let then = self.block(|l| l.tree_block(then));
                let els = els.as_ref().map(|b| self.block(|l| l.tree_block(b))).unwrap_or_default();
                self.emit(StmtKind::If { cond, then, els });
                Val::Void
            }
            ExprKind::If { cond, then, els } if e.ty.is_scalar() => {
                let result = self.local("choice");
                let cond = self.word(cond);
                let then = self.block(|l| l.block_word(then, result, &e.ty));
                let els = self.block(|l| {
                    if let Some(els) = els {
                        l.block_word(els, result, &e.ty);
                    }
                });
                self.emit(StmtKind::If { cond, then, els });
                Val::Word(Expr::Local(result))
            }
            ExprKind::Block(block) if e.ty == Type::Void => {
                self.tree_block(block);
                Val::Void
            }
            ExprKind::Block(block) if e.ty.is_scalar() => {
                let result = self.local("value");
                self.block_word(block, result, &e.ty);
                Val::Word(Expr::Local(result))
            }
            ExprKind::CallFunction { function, args } => self.call_function(*function, args, &e.ty),
            ExprKind::CallForeign { function, args } => self.call_foreign(*function, args, &e.ty),
            ExprKind::Call { builtin, args, detail } => {
                let call = Lowered { args, detail, ty: &e.ty, span: e.span };
                self.span = e.span;
                match &builtin.lower {
                    Lowering::Word(f) => Val::Word(f(self, &call)),
                    Lowering::Action(f) => {
                        f(self, &call);
                        Val::Void
                    }
                    Lowering::Memory(f) => {
                        let place = self.temp("value", e.ty.size());
                        f(self, &call, &place, false);
                        if e.ty.is_scalar() {
                            return Val::Word(self.load(&place, &e.ty));
                        }
                        Val::Memory(place)
                    }
                    Lowering::Folded => {
                        unreachable!("bug: `{}` reached lowering", builtin.name)
                    }
                }
            }
            // All that is built in memory.
            ExprKind::Str(_)
            | ExprKind::Args(_)
            | ExprKind::Tuple(_)
            | ExprKind::Record(_)
            | ExprKind::Map { .. }
            | ExprKind::Ternary { .. }
            | ExprKind::If { .. }
            | ExprKind::Block(_) => self.in_temp(e),
        }
    }

    fn in_temp(&mut self, e: &tree::Expr) -> Val {
        if let Some(text) = e.text() {
            let mut bytes = text.to_vec();
            bytes.resize(e.ty.size() as usize, 0);
            return Val::Memory(Place::rodata(self.shared.constant(bytes)));
        }
        let place = self.temp("value", e.ty.size());
        self.into(e, &e.ty, &place, false);
        Val::Memory(place)
    }

    /// Statements of a block, then its value into a local.
    fn block_word(&mut self, block: &tree::Block, result: ir::LocalId, ty: &Type) {
        for stmt in &block.stmts {
            self.tree_statement(stmt);
        }
        if let Some(value) = &block.value {
            let word = self.word_as(value, ty);
            self.set(result, word);
        }
    }

    fn binary(
        &mut self,
        op: BinaryOp,
        left: &tree::Expr,
        right: &tree::Expr,
        e: &tree::Expr,
    ) -> Val {
        let a = self.word(left);
        // The right side may change what the left side read.
        let a = if right.has_effects() { self.spill("left", a) } else { a };
        let b = self.word(right);
        let comparison_signed = left.ty.is_signed() || right.ty.is_signed();
        let signed = e.ty.is_signed();
        let op = match op {
            BinaryOp::Add => B::Add,
            BinaryOp::Sub => B::Sub,
            BinaryOp::Mul => B::Mul,
            BinaryOp::Div | BinaryOp::Mod => {
                let division = divides_signed(&left.ty, &right.ty, signed);
                let op = match (op == BinaryOp::Div, division) {
                    (true, true) => B::SDiv,
                    (true, false) => B::UDiv,
                    (false, true) => B::SMod,
                    (false, false) => B::UMod,
                };
                return Val::Word(self.divide(op, a, b));
            }
            BinaryOp::BitAnd => B::And,
            BinaryOp::BitOr => B::Or,
            BinaryOp::BitXor => B::Xor,
            BinaryOp::Shl => B::Shl,
            BinaryOp::Shr if left.ty.is_signed() => B::AShr,
            BinaryOp::Shr => B::LShr,
            BinaryOp::Eq => B::Eq,
            BinaryOp::Ne => B::Ne,
            BinaryOp::Lt => {
                if comparison_signed {
                    B::SLt
                } else {
                    B::ULt
                }
            }
            BinaryOp::Le => {
                if comparison_signed {
                    B::SLe
                } else {
                    B::ULe
                }
            }
            BinaryOp::Gt => {
                if comparison_signed {
                    B::SGt
                } else {
                    B::UGt
                }
            }
            BinaryOp::Ge => {
                if comparison_signed {
                    B::SGe
                } else {
                    B::UGe
                }
            }
            BinaryOp::And | BinaryOp::Or => unreachable!("bug: `&&` and `||` are `Logical`"),
        };
        Val::Word(Expr::binary(op, a, b))
    }

    /// Division or modulo; by zero it gives 1 and is counted.
    pub(crate) fn divide(&mut self, op: B, a: Expr, b: Expr) -> Expr {
        if matches!(b, Expr::Const(n) if n != 0) {
            return Expr::binary(op, a, b);
        }
        let a = self.spill("dividend", a);
        let b = self.spill("divisor", b);
        let result = self.local("quotient");
        self.either(
            Expr::binary(B::Eq, b.clone(), Expr::Const(0)),
            |l| {
                l.loss(Cause::DivisionByZero, None);
                l.set(result, Expr::Const(1));
            },
            |l| l.set(result, Expr::binary(op, a, b)),
        );
        Expr::Local(result)
    }

    fn cast(&mut self, value: &tree::Expr, e: &tree::Expr) -> Val {
        match (value.ty.is_scalar(), e.ty.is_scalar()) {
            (true, true) => {
                let word = self.word(value);
                Val::Word(convert(word, &value.ty, &e.ty))
            }
            (false, true) if value.ty == Type::Usym => {
                let place = self.place(value);
                Val::Word(self.load(&place, &Type::UINT64))
            }
            (false, true) => {
                let place = self.place(value);
                Val::Word(self.load(&place, &e.ty))
            }
            // Memory read as another type.
            (false, false) if value.ty.size() >= e.ty.size() => self.value(value),
            _ => {
                let place = self.temp("cast", e.ty.size().max(8));
                self.emit(StmtKind::Zero { to: place.clone(), size: e.ty.size().max(8) });
                if value.ty.is_scalar() {
                    let word = self.word(value);
                    let size = cut_size(e.ty.size().next_power_of_two());
                    self.emit(StmtKind::Store { to: place.clone(), size, value: word });
                } else {
                    self.into(value, &value.ty, &place, false);
                }
                Val::Memory(place)
            }
        }
    }

    /// Where the struct lies that an expression is or points to.
    pub(super) fn reach(&mut self, base: &tree::Expr) -> Val {
        if let Type::Ptr { space, .. } = &base.ty {
            let word = self.word(base);
            return Val::Remote(Remote { base: word, offset: 0, space: *space });
        }
        self.value(base)
    }

    /// Bits as they are counted from the lowest one: members start at the other end where numbers do.
    fn bits(&self, bits: Bits) -> Bits {
        match self.options.big_endian {
            true => Bits { shift: 8 * bits.size - bits.shift - bits.width, ..bits },
            false => bits,
        }
    }

    /// The part of a value at an offset.
    fn at(&mut self, value: Val, offset: u32, bits: Option<Bits>, ty: &Type) -> Val {
        match value {
            Val::Memory(place) => {
                let place = place.at(offset);
                match bits {
                    Some(bits) => {
                        let word = self.load(&place, &Type::int(bits.size, false));
                        Val::Word(take_bits(word, self.bits(bits), ty))
                    }
                    None if ty.is_scalar() => Val::Word(self.load(&place, ty)),
                    None => Val::Memory(place),
                }
            }
            Val::Remote(remote) => {
                let remote = Remote { offset: remote.offset + offset, ..remote };
                match bits {
                    Some(bits) => {
                        let word = self.read_word(&remote, &Type::int(bits.size, false));
                        Val::Word(take_bits(word, self.bits(bits), ty))
                    }
                    None if ty.is_scalar() => Val::Word(self.read_word(&remote, ty)),
                    None => Val::Remote(remote),
                }
            }
            Val::Word(_) | Val::Void => unreachable!("bug: a word has no parts"),
        }
    }

    fn index(&mut self, base: &tree::Expr, index: &tree::Expr, e: &tree::Expr) -> Val {
        let stride = e.ty.size();
        if self.differs(&e.ty) {
            return self.kernel_element(base, index, e);
        }
        if let Type::Ptr { space, .. } = &base.ty {
            let pointer = self.word(base);
            let index = self.word(index);
            let distance = Expr::binary(B::Mul, index, Expr::Const(i64::from(stride)));
            let base = Expr::binary(B::Add, pointer, distance);
            let remote = Remote { base, offset: 0, space: *space };
            return self.at(Val::Remote(remote), 0, None, &e.ty);
        }
        let count = match &base.ty {
            Type::Array { len, .. } | Type::Str(len) => *len,
            _ => 0,
        };
        if let Some(n) = index.constant() {
            let offset = u32::try_from(n).unwrap_or(0) * stride;
            let inner = self.value(base);
            return self.at(inner, offset, None, &e.ty);
        }
        let index = self.word(index);
        let index = self.spill("index", index);
        match self.value(base) {
            Val::Remote(remote) => {
                let index = self.checked_index(index, count);
                let distance = Expr::binary(B::Mul, index, Expr::Const(i64::from(stride)));
                let base = Expr::binary(B::Add, remote.base, distance);
                let remote = Remote { base, ..remote };
                self.at(Val::Remote(remote), 0, None, &e.ty)
            }
            Val::Memory(place) => {
                let index = self.checked_index(index, count);
                let place = if place.index.is_some() || place.base == ir::Base::Context {
                    // One index at a time: copy the inner array out.
                    let copy = self.temp("array", base.ty.size());
                    let copied =
                        StmtKind::Copy { to: copy.clone(), from: place, size: base.ty.size() };
                    self.emit(copied);
                    copy
                } else {
                    place
                };
                let place = self.indexable(&place).indexed(index, stride, count.max(1));
                self.at(Val::Memory(place), 0, None, &e.ty)
            }
            Val::Word(_) | Val::Void => unreachable!("bug: a word has no elements"),
        }
    }

    /// An index, or the first element's if it is out of bounds (and counted).
    fn checked_index(&mut self, index: Expr, count: u32) -> Expr {
        if count == 0 {
            return index;
        }
        let result = self.local("index");
        self.set(result, index.clone());
        let out = Expr::binary(B::UGe, index, Expr::Const(i64::from(count)));
        self.when(out, |l| {
            l.loss(Cause::IndexOutOfBounds, None);
            l.set(result, Expr::Const(0));
        });
        Expr::Local(result)
    }

    fn inc_dec(&mut self, target: &Target, increment: bool, prefix: bool, ty: &Type) -> Expr {
        let step = |ty: &Type| match ty {
            Type::Ptr { to, .. } => i64::from(to.size().max(1)),
            _ => 1,
        };
        let step = if increment { step(ty) } else { -step(ty) };
        match target {
            Target::Var(var) => {
                let home = self.home(*var).clone();
                let (old, var_type) = match &home {
                    Home::Word(local, var_type) => (Expr::Local(*local), var_type),
                    Home::Memory(place, var_type) => (self.load(place, var_type), var_type),
                };
                let old = self.spill("old", old);
                let new = Expr::binary(B::Add, old.clone(), Expr::Const(step));
                // A declared variable may be narrower than the result.
                let new = self.spill("new", convert(new, ty, var_type));
                match &home {
                    Home::Word(local, _) => self.set(*local, new.clone()),
                    Home::Memory(place, var_type) => {
                        self.store(place, cut_size(var_type.size()), new.clone());
                    }
                }
                if prefix { new } else { old }
            }
            Target::Map { map, key } => {
                let old = self.map_add(*map, key.as_ref(), Expr::Const(step));
                if prefix { Expr::binary(B::Add, old, Expr::Const(step)) } else { old }
            }
        }
    }
}

/// A word of one scalar type as another. Words are always extended according
/// to their type, so only narrowing and a change of sign need work.
pub(crate) fn convert(word: Expr, from: &Type, to: &Type) -> Expr {
    if matches!(to, Type::Bool) {
        return match from {
            Type::Bool => word,
            _ => Expr::binary(B::Ne, word, Expr::Const(0)),
        };
    }
    let (m, n) = (from.size(), to.size());
    let fits = n >= 8
        || m < n && (to.is_signed() || !from.is_signed())
        || m == n && from.is_signed() == to.is_signed();
    if fits { word } else { extend(word, cut_size(n), to.is_signed()) }
}

/// The low bytes of a word, extended.
pub(crate) fn extend(word: Expr, size: u8, signed: bool) -> Expr {
    if size >= 8 {
        return word;
    }
    Expr::Extend { value: Box::new(word), bits: size * 8, signed }
}

/// A size of 1, 2, 4 or 8 bytes.
pub(crate) fn cut_size(size: u32) -> u8 {
    match size {
        0 | 1 => 1,
        2 => 2,
        3 | 4 => 4,
        _ => 8,
    }
}

fn take_bits(word: Expr, bits: Bits, ty: &Type) -> Expr {
    let (shift, width) = (i64::from(bits.shift), i64::from(bits.width));
    if ty.is_signed() {
        let left = Expr::binary(B::Shl, word, Expr::Const(64 - width - shift));
        return Expr::binary(B::AShr, left, Expr::Const(64 - width));
    }
    let low = Expr::binary(B::LShr, word, Expr::Const(shift));
    let mask = if width >= 64 { -1 } else { (1i64 << width) - 1 };
    Expr::binary(B::And, low, Expr::Const(mask))
}
