//! Expressions: every one gives a word.

use super::Cpu;
use super::builder::{Argument, Effects, Fixed, Pointer, Truth, Word};
use super::program::Emitter;
use crate::ir::{Arg, Base, BinaryOp, Expr, Helper, MapId, Place};

impl<'c> Emitter<'_, 'c> {
    /// The value of an expression.
    pub(super) fn word(&mut self, expr: &Expr) -> Word<'c> {
        let b = &self.shared.builder;
        match expr {
            Expr::Const(value) => b.constant(*value),
            Expr::Local(local) => {
                let place = self.local(*local);
                b.load(place, 8, false, 8)
            }
            Expr::Binary(op, left, right) => {
                let sign = (op, &**right) == (&BinaryOp::LShr, &Expr::Const(63));
                let (left, right) = match is_comparison(*op) {
                    true => (self.compared(left), self.compared(right)),
                    false => (self.word(left), self.word(right)),
                };
                // LLVM would make a comparison of it, and a branch of that.
                let left = if sign { b.hide(left) } else { left };
                match op {
                    BinaryOp::SDiv | BinaryOp::SMod => self.divide(*op, left, right),
                    BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::Mul
                    | BinaryOp::UDiv
                    | BinaryOp::UMod
                    | BinaryOp::And
                    | BinaryOp::Or
                    | BinaryOp::Xor
                    | BinaryOp::Shl
                    | BinaryOp::LShr
                    | BinaryOp::AShr
                    | BinaryOp::Eq
                    | BinaryOp::Ne
                    | BinaryOp::ULt
                    | BinaryOp::ULe
                    | BinaryOp::UGt
                    | BinaryOp::UGe
                    | BinaryOp::SLt
                    | BinaryOp::SLe
                    | BinaryOp::SGt
                    | BinaryOp::SGe => b.binary(*op, left, right),
                }
            }
            Expr::Unknown(value) => {
                let value = self.word(value);
                self.unknown(value)
            }
            Expr::Extend { value, bits, signed } => {
                let value = self.word(value);
                b.extend(value, *bits, *signed)
            }
            Expr::ByteSwap { value, bits } => {
                let value = self.word(value);
                b.swap_bytes(value, *bits)
            }
            Expr::Select { cond, then, els } => {
                let cond = self.truth(cond);
                let (then, els) = (self.word(then), self.word(els));
                b.select(cond, then, els)
            }
            Expr::Load { from, size, signed } => self.load(from, *size, *signed),
            Expr::LoadTyped { pointer, offset, size, signed } => {
                let pointer = self.word(pointer);
                b.load_fixed(b.to_pointer(pointer), *offset, *size, *signed, Fixed::Typed)
            }
            Expr::Address(place) => {
                let place = self.address(place);
                b.to_word(place.pointer)
            }
            Expr::MapAddress(map) => b.to_word(self.map(*map)),
            Expr::MapLength(map) => self.length(*map),
            Expr::Call { helper, args } => self.call(*helper, args),
            Expr::CallFunction { function, args } => {
                let args: Vec<_> = args.iter().map(|a| self.word(a)).collect();
                let name = self.shared.functions.get(function.0 as usize);
                let name = name.expect("bug: an unknown function");
                let callee = self.shared.llvm.get_function(name);
                let callee = callee.expect("bug: functions come before their callers");
                // What LLVM learns of the result, the verifier does not.
                let b = &self.shared.builder;
                b.hide(b.call_function(callee, &args))
            }
            Expr::CallForeign { function, args } => {
                let args: Vec<_> = args.iter().map(|a| self.word(a)).collect();
                let callee = self.shared.foreign.get(function.0 as usize);
                let callee = callee.expect("bug: an unknown foreign function");
                callee.call(b, &args)
            }
            Expr::Param(number) => {
                let params = self.shared.params.expect("bug: a module without parameters");
                b.load(b.offset(params, number * 8), 8, false, 8)
            }
            Expr::Reloc(number) => self.shared.relocations.word(b, *number),
        }
    }

    /// Whether an expression is not zero.
    pub(super) fn truth(&mut self, expr: &Expr) -> Truth<'c> {
        let b = &self.shared.builder;
        if let Expr::Binary(op, left, right) = expr
            && is_comparison(*op)
        {
            let (left, right) = (self.compared(left), self.compared(right));
            let b = &self.shared.builder;
            return b.compare(*op, left, right).expect("bug: it is a comparison");
        }
        let word = self.word(expr);
        b.truth(word)
    }

    /// A word to be compared. In a loop the verifier does not learn from that what the variable
    /// holds, since it would follow each round once more for each outcome in those before.
    fn compared(&mut self, expr: &Expr) -> Word<'c> {
        let word = self.word(expr);
        let learns = !self.function.loops.is_empty();
        match expr {
            Expr::Local(local) if learns && self.numbers().contains(local) => {
                self.shared.builder.copied(word)
            }
            _ => word,
        }
    }

    fn load(&mut self, from: &Place, size: u8, signed: bool) -> Word<'c> {
        let b = &self.shared.builder;
        if from.base == Base::Context {
            return b.load_fixed(self.context(), from.offset, size, signed, Fixed::Context);
        }
        let from = self.address(from);
        b.load(from.pointer, size, signed, from.claim(size))
    }

    /// Signed division or remainder, towards zero. The smallest number divided
    /// by -1 gives itself, remainder 0.
    ///
    /// BPF has a signed division since cpu v4, but LLVM's has no result for
    /// that one case; so constants, for which LLVM would reason about it, take
    /// the long way, too: the division of absolute values, and the sign.
    fn divide(&self, op: BinaryOp, left: Word<'c>, right: Word<'c>) -> Word<'c> {
        let b = &self.shared.builder;
        let remainder = op == BinaryOp::SMod;
        if self.shared.cpu == Cpu::V4 && !left.is_const() && !right.is_const() {
            return b.binary(op, left, right);
        }
        // The sign as 0 or -1; `(x ^ sign) - sign` changes it.
        let sign = |x| b.binary(BinaryOp::AShr, x, b.constant(63));
        let flip = |x, s| b.binary(BinaryOp::Sub, b.binary(BinaryOp::Xor, x, s), s);
        let (left_sign, right_sign) = (sign(left), sign(right));
        let (left, right) = (flip(left, left_sign), flip(right, right_sign));
        match remainder {
            true => flip(b.binary(BinaryOp::UMod, left, right), left_sign),
            false => {
                let sign = b.binary(BinaryOp::Xor, left_sign, right_sign);
                flip(b.binary(BinaryOp::UDiv, left, right), sign)
            }
        }
    }

    /// A word, at most `most` (unsigned), as the verifier sees it, too. It is
    /// hidden on both sides: the check is not dropped because of what LLVM
    /// knows, and the result is used as checked, not computed beside it.
    pub(super) fn bounded(&self, value: Word<'c>, most: i64) -> Word<'c> {
        let b = &self.shared.builder;
        b.hide(b.unsigned_min(b.hide(value), b.constant(most)))
    }

    /// A map, as an argument.
    pub(super) fn map(&self, map: MapId) -> Pointer<'c> {
        *self.shared.maps.get(map.0 as usize).expect("bug: an unknown map")
    }

    fn call(&mut self, helper: Helper, args: &[Arg]) -> Word<'c> {
        let args: Vec<_> = args
            .iter()
            .map(|arg| match arg {
                Arg::Value(value) => Argument::Word(self.word(value)),
                Arg::Address(place) => Argument::Pointer(self.address(place).pointer),
                Arg::Size { value, max } => {
                    let value = self.word(value);
                    Argument::Word(self.bounded(value, (*max).into()))
                }
                Arg::Map(map) => Argument::Pointer(self.map(*map)),
                Arg::Context => Argument::Pointer(self.context()),
            })
            .collect();
        let b = &self.shared.builder;
        let result = b.call(helper.info().id, &args, effects(helper));
        // Calls of these go straight to the function of the map's kind. Before Linux 6.4 it
        // gives an `int`, and nobody extends that: an error would be a large number.
        match matches!(helper, Helper::MapUpdateElem | Helper::MapDeleteElem) {
            true => b.extend(result, 32, true),
            false => result,
        }
    }
}

fn is_comparison(op: BinaryOp) -> bool {
    match op {
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::ULt
        | BinaryOp::ULe
        | BinaryOp::UGt
        | BinaryOp::UGe
        | BinaryOp::SLt
        | BinaryOp::SLe
        | BinaryOp::SGt
        | BinaryOp::SGe => true,
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::UDiv
        | BinaryOp::UMod
        | BinaryOp::SDiv
        | BinaryOp::SMod
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::LShr
        | BinaryOp::AShr => false,
    }
}

/// What LLVM may assume of a helper, so that it merges calls that give the
/// same and moves memory accesses across those that touch none.
fn effects(helper: Helper) -> Effects {
    match helper {
        // A program stays on its task and CPU.
        Helper::GetCurrentPidTgid
        | Helper::GetCurrentTask
        | Helper::GetCurrentTaskBtf
        | Helper::TaskPtRegs
        | Helper::GetCurrentCgroupId
        | Helper::GetCurrentAncestorCgroupId
        | Helper::GetSmpProcessorId
        | Helper::GetNumaNodeId
        | Helper::GetFuncIp
        | Helper::GetAttachCookie => Effects::None,
        Helper::KtimeGetNs
        | Helper::KtimeGetBootNs
        | Helper::KtimeGetTaiNs
        | Helper::Jiffies64
        | Helper::GetPrandomU32
        | Helper::GetCurrentUidGid => Effects::Hidden,
        Helper::GetNsCurrentPidTgid
        | Helper::GetCurrentComm
        | Helper::GetFuncRet
        | Helper::ProbeReadKernel
        | Helper::ProbeReadUser
        | Helper::ProbeReadKernelStr
        | Helper::ProbeReadUserStr
        | Helper::MapUpdateElem
        | Helper::MapDeleteElem
        | Helper::GetStack
        | Helper::SendSignal
        | Helper::SendSignalThread
        | Helper::OverrideReturn
        | Helper::DPath
        | Helper::RingbufOutput
        | Helper::SeqPrintf
        | Helper::SeqWrite
        | Helper::TracePrintk
        | Helper::ProbeWriteUser
        | Helper::SkbOutput
        | Helper::GetSocketCookie => Effects::Any,
    }
}
