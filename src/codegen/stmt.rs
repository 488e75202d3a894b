//! Statements.

use inkwell::module::Linkage;

use super::builder::{Argument, Pointer, Word};
use super::foreign::Declared;
use super::frame::returns;
use super::helpers;
use super::program::{Emitter, Exit, Function, Shared, Target};
use crate::ir::{
    self, BinaryOp, Expr, Kfunc, LocalId, MapId, Place, PtrId, Rounds, Stmt, StmtKind,
};
use crate::plan::MAX_ROUNDS;
use crate::source::Span;

/// What a store changes a place by, if the new value is made of the old one:
/// the operation, its right side, and whether the old value is signed. The
/// place is then addressed, and its index checked, only once.
fn added<'e>(to: &Place, size: u8, value: &'e Expr) -> Option<(BinaryOp, &'e Expr, bool)> {
    let Expr::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), old, with) = value else { return None };
    match old.as_ref() {
        Expr::Load { from, size: loaded, signed } if from == to && *loaded == size => {
            Some((*op, with, *signed))
        }
        _ => None,
    }
}

impl<'c> Emitter<'_, 'c> {
    /// A block of statements.
    pub(super) fn block(&mut self, block: &[Stmt]) {
        let point = self.scratch_point(block);
        let mut bound = None;
        for (number, stmt) in block.iter().enumerate() {
            if point == Some(number) {
                self.locate(stmt.span);
                bound = Some(self.bind_scratch());
            }
            self.stmt(stmt);
        }
        if let Some(bound) = bound {
            self.release_scratch(&bound);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        self.locate(stmt.span);
        self.indices.clear();
        let b = &self.shared.builder;
        match &stmt.kind {
            StmtKind::Set { local, value } => {
                let value = self.word(value);
                let place = self.local(*local);
                b.store(place, 8, value, 8);
                let in_callback = matches!(self.function.exit, Exit::Callback);
                if in_callback && self.frame.local(*local).is_some() {
                    b.forget(place);
                }
            }
            StmtKind::Store { to, size, value } => {
                let sum = added(to, *size, value).map(|(op, with, signed)| {
                    let with = self.word(with);
                    let to = self.address(to);
                    let old = b.load(to.pointer, *size, signed, to.claim(*size));
                    (to, b.binary(op, old, with))
                });
                let (to, value) = sum.unwrap_or_else(|| {
                    let value = self.word(value);
                    (self.address(to), value)
                });
                b.store(to.pointer, *size, value, to.claim(*size));
            }
            StmtKind::Copy { to, from, size } => self.copy(to, from, *size),
            StmtKind::Zero { to, size } => self.zero(to, *size),
            StmtKind::AtomicAdd { to, size, value } => {
                let value = self.word(value);
                let to = self.address(to);
                b.atomic_add(to.pointer, *size, value);
            }
            StmtKind::Eval(value) => {
                self.word(value);
            }
            StmtKind::If { cond, then, els } => self.branch(cond, then, els),
            StmtKind::Loop { copies, body } => self.forever(*copies, body),
            StmtKind::ForRange { index, from, to, how, body } => match how {
                Rounds::Plain { copies } => self.count(*index, from, to, *copies, body),
                Rounds::Callback => self.count_in_callback(*index, from, to, body, stmt.span),
            },
            StmtKind::ForMap { map, key, value, body } => {
                self.each(*map, [*key, *value], body, stmt.span);
            }
            StmtKind::Break => self.leave_round(true),
            StmtKind::Continue => self.leave_round(false),
            StmtKind::Return(value) => {
                let value = self.word(value);
                self.leave(value);
            }
            StmtKind::Lookup { map, key, cpu, value, found, missing } => {
                self.lookup(*map, key, cpu.as_ref(), *value, [found, missing]);
            }
            StmtKind::Acquire { kfunc, arg, value, found, missing } => {
                let arg = self.word(arg);
                let [acquire, release] = self.kernel_functions(*kfunc);
                let b = &self.shared.builder;
                let pointer = b.to_pointer(acquire.call(b, &[arg]));
                self.unless_null(pointer, missing, |e, pointer| {
                    e.bind(*value, pointer);
                    e.block(found);
                    let b = &e.shared.builder;
                    release.call(b, &[b.to_word(pointer)]);
                });
            }
            StmtKind::Borrow { function, args, value, body, .. } => {
                let call = Expr::CallForeign { function: *function, args: args.clone() };
                let pointer = self.word(&call);
                self.bind(*value, self.shared.builder.to_pointer(pointer));
                self.block(body);
            }
            StmtKind::Event { map, size, record, body, lost } => {
                self.event(*map, *size, *record, body, lost);
            }
        }
    }

    fn branch(&mut self, cond: &Expr, then: &[Stmt], els: &[Stmt]) {
        let b = &self.shared.builder;
        let cond = self.truth(cond);
        let join = b.block(self.function.value, "join");
        let arm = |list: &[Stmt], name| match list {
            [] => join,
            _ => b.block(self.function.value, name),
        };
        let (yes, no) = (arm(then, "then"), arm(els, "else"));
        b.branch(cond, yes, no);
        for (block, list) in [(yes, then), (no, els)] {
            if block != join {
                b.continue_in(block);
                self.block(list);
                b.jump(join);
            }
        }
        b.continue_in(join);
    }

    /// Continues after a jump away: what follows in the block is dead, and
    /// LLVM drops it.
    fn after_jump(&self) {
        let b = &self.shared.builder;
        b.continue_in(b.block(self.function.value, "dead"));
    }

    /// A loop that only its body ends.
    ///
    /// The jump back is a conditional one that is always taken: older kernels
    /// (seen on 5.10 and 6.1) refuse a loop that is closed by falling through,
    /// and LLVM lays out blocks so that an unconditional jump becomes that.
    fn forever(&mut self, copies: u32, body: &[Stmt]) {
        let b = &self.shared.builder;
        let [head, done] = ["loop", "done"].map(|n| b.block(self.function.value, n));
        b.jump(head);
        b.continue_in(head);
        let ranges = self.ranges;
        for _ in 0..copies {
            self.ranges = ranges;
            let next = b.block(self.function.value, "next");
            self.hide_written(body);
            self.round(body, Target::Blocks { next, done });
            b.jump(next);
            b.continue_in(next);
        }
        let zero = b.hide(b.constant(0));
        b.branch(b.truth(zero), done, head);
        b.continue_in(done);
    }

    fn round(&mut self, body: &[Stmt], target: Target<'c>) {
        self.function.loops.push(target);
        self.block(body);
        self.function.loops.pop();
    }

    /// Hides from LLVM how the locals that a loop writes change from round to
    /// round. Otherwise it would rewrite the loop: count something else than
    /// the script does, compare addresses, or compute a final value in 128
    /// bits. The verifier then could not see that the loop ends, and BPF has
    /// no 128-bit multiplication.
    fn hide_written(&mut self, body: &[Stmt]) {
        // What a round sets before it reads does not come from the round before.
        for local in ir::written(body).intersection(&ir::taken_over(body)).copied() {
            if self.frame.local(local).is_none() {
                let place = self.local(local);
                let b = &self.shared.builder;
                b.store(place, 8, b.hide(b.load(place, 8, false, 8)), 8);
            }
        }
    }

    /// A plain counting loop, with the check at its end; see
    /// [`Emitter::forever`].
    fn count(&mut self, index: LocalId, from: &Expr, to: &Expr, copies: u32, body: &[Stmt]) {
        let b = &self.shared.builder;
        let from = self.word(from);
        let to = self.word(to);
        let counter = self.allocate_word("counter");
        b.store(counter, 8, from, 8);
        let [first, done] = ["round", "done"].map(|n| b.block(self.function.value, n));
        b.branch(self.less(from, to), first, done);
        let mut round = first;
        let ranges = self.ranges;
        for left in (0..copies).rev() {
            self.ranges = ranges;
            b.continue_in(round);
            self.hide_written(body);
            let at = b.hide(b.load(counter, 8, false, 8));
            let place = self.local(index);
            b.store(place, 8, at, 8);
            let next = b.block(self.function.value, "next");
            self.round(body, Target::Blocks { next, done });
            b.jump(next);
            b.continue_in(next);
            let following = b.binary(BinaryOp::Add, at, b.constant(1));
            b.store(counter, 8, following, 8);
            round = if left == 0 { first } else { b.block(self.function.value, "round") };
            b.branch(self.less(following, to), round, done);
        }
        b.continue_in(done);
    }

    fn less(&self, left: Word<'c>, right: Word<'c>) -> super::builder::Truth<'c> {
        let less = self.shared.builder.compare(BinaryOp::SLt, left, right);
        less.expect("bug: it is a comparison")
    }

    /// A counting loop through `bpf_loop`.
    fn count_in_callback(
        &mut self,
        index: LocalId,
        from: &Expr,
        to: &Expr,
        body: &[Stmt],
        span: Span,
    ) {
        let b = &self.shared.builder;
        let start = self.word(from);
        let to = self.word(to);
        let number = self.ranges;
        self.ranges += 1;
        let start_at = self.frame.start(number);
        if let Some(offset) = start_at {
            b.store(self.in_frame(offset), 8, start, 8);
        }
        let count = b.binary(BinaryOp::Sub, to, start);
        let rounds = b.select(self.less(start, to), count, b.constant(0));
        let rounds = b.hide(b.unsigned_min(rounds, b.constant(MAX_ROUNDS)));
        let word = self.shared.debug.int(8, false);
        let pointer = self.shared.debug.pointer(None);
        let parameters = [("index", word, false), ("frame", pointer, true)];
        let callback = self.callback(&parameters, span, |e| {
            let round = e.function.value.get_nth_param(0).expect("bug: a callback's index");
            let start = match (start_at, from) {
                (Some(offset), _) => b.load(e.in_frame(offset), 8, false, 8),
                (None, Expr::Const(start)) => b.constant(*start),
                (None, _) => panic!("bug: a loop's start is not kept"),
            };
            let place = e.local(index);
            b.store(place, 8, b.binary(BinaryOp::Add, start, round.into_int_value()), 8);
            e.block(body);
        });
        // Never called for no rounds: where the verifier sees that, it would drop the callback
        // but not what refers to it, and fail.
        let [some, done] = ["rounds", "done"].map(|n| b.block(self.function.value, n));
        b.branch(b.truth(rounds), some, done);
        b.continue_in(some);
        let args = [
            Argument::Word(rounds),
            Argument::Pointer(callback),
            Argument::Pointer(self.frame_argument()),
            Argument::Word(b.constant(0)),
        ];
        self.forget();
        b.call(helpers::LOOP, &args, super::builder::Effects::Any);
        self.leave_if_noted(body);
        b.jump(done);
        b.continue_in(done);
    }

    /// A loop over the elements of a map.
    fn each(&mut self, map: MapId, ptrs: [PtrId; 2], body: &[Stmt], span: Span) {
        let b = &self.shared.builder;
        let pointer = self.shared.debug.pointer(None);
        let parameters = ["map", "key", "value", "frame"].map(|n| (n, pointer, true));
        let callback = self.callback(&parameters, span, |e| {
            for (number, ptr) in (1..).zip(ptrs) {
                let bound = e.parameter(number);
                e.bind(ptr, bound);
            }
            e.block(body);
        });
        let args = [
            Argument::Pointer(self.map(map)),
            Argument::Pointer(callback),
            Argument::Pointer(self.frame_argument()),
            Argument::Word(b.constant(0)),
        ];
        self.forget();
        b.call(helpers::FOR_EACH_MAP_ELEM, &args, super::builder::Effects::Any);
        // There may have been no element, which the verifier does not think of either.
        self.forget();
        self.leave_if_noted(body);
    }

    /// The number of elements of a map: the helper tells how often it called, so
    /// that the callback has nothing to do.
    pub(super) fn length(&mut self, map: MapId) -> Word<'c> {
        let callback = match self.nothing {
            Some(known) => known,
            None => {
                let pointer = self.shared.debug.pointer(None);
                let parameters = ["map", "key", "value", "frame"].map(|n| (n, pointer, true));
                self.callback(&parameters, self.program.span, |_| {})
            }
        };
        self.nothing = Some(callback);
        let b = &self.shared.builder;
        let args = [
            Argument::Pointer(self.map(map)),
            Argument::Pointer(callback),
            Argument::Pointer(b.null()),
            Argument::Word(b.constant(0)),
        ];
        b.call(helpers::FOR_EACH_MAP_ELEM, &args, super::builder::Effects::Any)
    }

    /// A function for the body of a loop. Its last parameter is the frame.
    fn callback(
        &mut self,
        parameters: &[(&str, super::debug::Meta<'c>, bool)],
        span: Span,
        body: impl FnOnce(&mut Self),
    ) -> Pointer<'c> {
        let b = &self.shared.builder;
        let here = b.position();
        self.callbacks += 1;
        let name = format!("{}_loop{}", self.program.name, self.callbacks);
        let inner =
            Function::new(self.shared, self.program, &name, Linkage::Internal, parameters, span);
        let outer = std::mem::replace(&mut self.function, inner);
        let last = u32::try_from(parameters.len()).expect("bug: at most five parameters") - 1;
        self.function.frame = Some(self.parameter(last));
        self.function.loops.push(Target::Callback);
        body(self);
        self.locate(span);
        b.give(b.constant(0));
        self.finish_function();
        let inner = std::mem::replace(&mut self.function, outer);
        b.move_to(here);
        self.locate(span);
        inner.value.as_global_value().as_pointer_value()
    }

    fn frame_argument(&self) -> Pointer<'c> {
        match self.frame.size {
            0 => self.shared.builder.null(),
            _ => self.in_frame(0),
        }
    }

    /// After a loop in a callback: leaves the program if its body did.
    fn leave_if_noted(&mut self, body: &[Stmt]) {
        if !returns(body) {
            return;
        }
        let b = &self.shared.builder;
        let offset = self.frame.leave.expect("bug: a frame without a note");
        let noted = b.truth(b.load(self.in_frame(offset), 8, false, 8));
        let [leaves, stays] = ["leaves", "stays"].map(|n| b.block(self.function.value, n));
        b.branch(noted, leaves, stays);
        b.continue_in(leaves);
        match self.function.exit {
            Exit::Program { result, block } => {
                b.store(result, 8, b.load(self.in_frame(offset + 8), 8, false, 8), 8);
                b.jump(block);
            }
            Exit::Callback => b.give(b.constant(1)),
        }
        b.continue_in(stays);
    }

    fn leave(&mut self, value: Word<'c>) {
        let b = &self.shared.builder;
        match self.function.exit {
            Exit::Program { result, block } => {
                b.store(result, 8, value, 8);
                b.jump(block);
            }
            Exit::Callback => {
                let offset = self.frame.leave.expect("bug: a frame without a note");
                b.store(self.in_frame(offset + 8), 8, value, 8);
                b.store(self.in_frame(offset), 8, b.constant(1), 8);
                b.give(b.constant(1));
            }
        }
        self.after_jump();
    }

    fn leave_round(&mut self, last: bool) {
        let b = &self.shared.builder;
        let target = *self.function.loops.last().expect("bug: not in a loop");
        match target {
            Target::Blocks { done, .. } if last => b.jump(done),
            Target::Blocks { next, .. } => b.jump(next),
            Target::Callback => b.give(b.constant(i64::from(last))),
        }
        self.after_jump();
    }

    /// Binds a pointer for the statements that follow, and for callbacks.
    pub(super) fn bind(&mut self, ptr: PtrId, pointer: Pointer<'c>) {
        if let Some(offset) = self.frame.ptr(ptr) {
            self.shared.builder.store_pointer(self.in_frame(offset), pointer);
        }
        let known = self.function.ptrs.get_mut(ptr.0 as usize);
        *known.expect("bug: an unknown pointer") = Some(pointer);
    }

    fn lookup(
        &mut self,
        map: MapId,
        key: &Place,
        cpu: Option<&Expr>,
        value: PtrId,
        [found, missing]: [&[Stmt]; 2],
    ) {
        let cpu = cpu.map(|c| self.word(c));
        let key = self.address(key);
        let mut args = vec![Argument::Pointer(self.map(map)), Argument::Pointer(key.pointer)];
        args.extend(cpu.map(Argument::Word));
        let id = match cpu {
            Some(_) => helpers::MAP_LOOKUP_PERCPU_ELEM,
            None => helpers::MAP_LOOKUP_ELEM,
        };
        let pointer = self.shared.builder.call_pointer(id, &args);
        self.unless_null(pointer, missing, |e, pointer| {
            e.bind(value, pointer);
            e.block(found);
        });
    }

    /// The functions of the kernel that get hold of an object and give it back.
    fn kernel_functions(&self, kfunc: Kfunc) -> [Declared<'c>; 2] {
        let Shared { llvm, context, debug, .. } = self.shared;
        kfunc.functions().map(|f| Declared::new(context, llvm, debug, &f))
    }

    fn event(&mut self, map: MapId, size: u32, record: PtrId, body: &[Stmt], lost: &[Stmt]) {
        let b = &self.shared.builder;
        let args = [
            Argument::Pointer(self.map(map)),
            Argument::Word(b.constant(size.into())),
            Argument::Word(b.constant(0)),
        ];
        let pointer = b.call_pointer(helpers::RINGBUF_RESERVE, &args);
        self.unless_null(pointer, lost, |e, pointer| {
            e.bind(record, pointer);
            e.block(body);
            let args = [Argument::Pointer(pointer), Argument::Word(b.constant(0))];
            b.call(helpers::RINGBUF_SUBMIT, &args, super::builder::Effects::Any);
        });
    }

    /// Runs `there` with the pointer, or `null` if it is null.
    fn unless_null(
        &mut self,
        pointer: Pointer<'c>,
        null: &[Stmt],
        there: impl FnOnce(&mut Self, Pointer<'c>),
    ) {
        let b = &self.shared.builder;
        let [some, none, join] = ["some", "none", "join"].map(|n| b.block(self.function.value, n));
        b.branch(b.is_null(pointer), none, some);
        b.continue_in(some);
        there(self, b.hide_pointer(pointer));
        b.jump(join);
        b.continue_in(none);
        self.block(null);
        b.jump(join);
        b.continue_in(join);
    }
}
