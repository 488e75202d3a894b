//! Random programs: what the kernel computes against an interpreter of the IR.
//!
//! Every program is made from a seed, so a failure can be had again. Loops are
//! short and everything else is free, also across loops through callbacks.
//! Lookups go to an array of two elements; those beyond are missing.

use rtrace::ir::*;

use crate::case::*;
use crate::numbers::{Random, seeds};

const PROGRAMS: u64 = 60;
const OUT_WORDS: u32 = 40;
/// Words of the scratch slot.
const SCRATCH_WORDS: u32 = 40;
const SCRATCH: SlotId = SlotId(1);
/// Stack slots of 16 bytes.
const SLOTS: [SlotId; 2] = [SlotId(2), SlotId(3)];
const BYTES: RodataId = RodataId(0);
const CELLS: MapId = MapId(1);
/// Words of an element.
const CELL_WORDS: u32 = 6;

struct Generator {
    random: Random,
    case: Case,
    /// Locals that statements may set.
    locals: Vec<LocalId>,
    callbacks: bool,
    /// Elements that are bound around the current statement.
    bound: Vec<PtrId>,
    /// Nesting of loops around the current statement.
    loops: u32,
    /// Plain loops and branches cost the kernel's verifier time.
    budget: u32,
}

impl Generator {
    fn program(seed: u64, callbacks: bool) -> Case {
        let mut generator = Generator {
            random: Random::of(seed),
            case: Case::new(OUT_WORDS),
            locals: Vec::new(),
            bound: Vec::new(),
            callbacks,
            loops: 0,
            budget: 40,
        };
        let scratch = generator.case.slot(8 * SCRATCH_WORDS, 8, Home::Scratch { offset: 16 });
        assert_eq!(scratch, SCRATCH);
        for _ in SLOTS {
            generator.case.slot(16, 8, Home::Stack);
        }
        let bytes: Vec<u8> = (0..64u8).map(|n| n.wrapping_mul(37)).collect();
        generator.case.rodata(&bytes);
        generator.case.map("cells", MapKind::Array, [4, 8 * CELL_WORDS, 2]);
        let locals = generator.random.pick(&[14, 14, 14, 14, 40, 150]);
        for n in 0..2 + generator.random.below(locals) {
            let local = generator.case.local(&format!("v{n}"));
            generator.locals.push(local);
        }
        let mut body = vec![
            zero(Place::ptr(OUT), 8 * OUT_WORDS),
            zero(Place::slot(SCRATCH), 8 * SCRATCH_WORDS),
            zero(Place::slot(SLOTS[0]), 16),
            zero(Place::slot(SLOTS[1]), 16),
        ];
        let cell = generator.case.ptr();
        for n in 0..2 {
            let found = vec![zero(Place::ptr(cell), 8 * CELL_WORDS)];
            body.push(generator.lookup(constant(n), cell, found, vec![]));
        }
        body.extend(generator.block(3, 12));
        for (n, local) in generator.locals.iter().enumerate() {
            let word = Place::ptr(OUT).at(8 * (n as u32 % 20));
            let sum =
                binary(BinaryOp::Xor, Expr::load(word.clone(), 8, false), Expr::Local(*local));
            body.push(store(word, 8, sum));
        }
        for (n, word) in (20..).zip([0, 3, 17, 39]) {
            let place = Place::slot(SCRATCH).at(8 * word);
            body.push(give(n, Expr::load(place, 8, false)));
        }
        for (n, slot) in (24..).zip(SLOTS) {
            body.push(give(n, Expr::load(Place::slot(slot).at(8), 8, false)));
        }
        generator.case.body(body);
        generator.case
    }

    fn block(&mut self, depth: u32, most: u32) -> Vec<Stmt> {
        let count = 1 + self.random.below(most);
        (0..count).map(|_| self.stmt(depth)).collect()
    }

    fn stmt(&mut self, depth: u32) -> Stmt {
        let nested = depth > 0 && self.budget > 0;
        match self.random.below(if nested { 18 } else { 9 }) {
            0..=3 => set(self.random.pick(&self.locals.clone()), self.expr(3)),
            4 | 5 => {
                let (place, size) = self.place(true);
                store(place, size, self.expr(3))
            }
            6 => {
                let to = Place::slot(SCRATCH).at(8 * self.random.below(10));
                let from = match self.random.below(3) {
                    0 => Place::rodata(BYTES).at(self.random.below(20)),
                    1 => Place::slot(self.random.pick(&SLOTS)),
                    _ => Place::ptr(OUT).at(8 * self.random.below(20)),
                };
                let size = 1 + self.random.below(16);
                stmt(StmtKind::Copy { to, from, size })
            }
            7 => {
                let to = Place::slot(SCRATCH).at(8 * self.random.below(30));
                stmt(StmtKind::AtomicAdd {
                    to,
                    size: self.random.pick(&[4, 8]),
                    value: self.expr(2),
                })
            }
            8 => {
                let size = 1 + self.random.below(16);
                zero(Place::slot(self.random.pick(&SLOTS)), size)
            }
            9 | 10 => {
                self.budget = self.budget.saturating_sub(1);
                let cond = self.expr(3);
                let then = self.arm(depth - 1);
                let els = if self.random.chance(50) { self.arm(depth - 1) } else { vec![] };
                when(cond, then, els)
            }
            11 | 12 => {
                self.budget = self.budget.saturating_sub(2);
                let cell = self.case.ptr();
                let key = binary(BinaryOp::And, self.expr(2), constant(3));
                self.bound.push(cell);
                let found = self.arm(depth - 1);
                self.bound.pop();
                let missing = self.arm(depth - 1);
                self.lookup(key, cell, found, missing)
            }
            13 => self.while_loop(depth - 1),
            _ => self.looped(depth - 1),
        }
    }

    /// Looks up an element; the key goes through a slot of its own.
    fn lookup(&mut self, key: Expr, cell: PtrId, found: Vec<Stmt>, missing: Vec<Stmt>) -> Stmt {
        let slot = Place::slot(SLOTS[0]);
        let lookup = stmt(StmtKind::Lookup {
            map: CELLS,
            key: slot.clone(),
            cpu: None,
            value: cell,
            found,
            missing,
        });
        when(constant(1), vec![store(slot, 4, key), lookup], vec![])
    }

    /// A loop that counts by itself.
    fn while_loop(&mut self, depth: u32) -> Stmt {
        self.budget = self.budget.saturating_sub(5);
        let count = self.case.local("count");
        let rounds = constant(1 + i64::from(self.random.below(4)));
        let out =
            when(binary(BinaryOp::SGe, local(count), rounds), vec![stmt(StmtKind::Break)], vec![]);
        let step = set(count, add(local(count), constant(1)));
        self.loops += 1;
        let body = [vec![out, step], self.block(depth, 3)].concat();
        self.loops -= 1;
        when(
            constant(1),
            vec![
                set(count, constant(0)),
                stmt(StmtKind::Loop { copies: self.random.below(3) + 1, body }),
            ],
            vec![],
        )
    }

    /// A block that may end in a way out.
    fn arm(&mut self, depth: u32) -> Vec<Stmt> {
        let mut block = self.block(depth, 3);
        if self.loops > 0 && self.random.chance(30) {
            let out = self.random.chance(50);
            block.push(stmt(if out { StmtKind::Break } else { StmtKind::Continue }));
        } else if self.random.chance(8) {
            block.push(stmt(StmtKind::Return(self.expr(2))));
        }
        block
    }

    fn looped(&mut self, depth: u32) -> Stmt {
        self.budget = self.budget.saturating_sub(5);
        let index = self.case.local("i");
        self.loops += 1;
        let callback = self.callbacks && self.random.chance(60);
        let (from, to) = match callback {
            true => {
                let small = |e| binary(BinaryOp::And, e, constant(7));
                (small(self.expr(2)), small(self.expr(2)))
            }
            false => (constant(0), constant(1 + i64::from(self.random.below(4)))),
        };
        let mut body = vec![set(self.random.pick(&self.locals.clone()), local(index))];
        body.extend(self.block(depth, 4));
        self.loops -= 1;
        let copies = self.random.below(3) + 1;
        let how = if callback { Rounds::Callback } else { Rounds::Plain { copies } };
        stmt(StmtKind::ForRange { index, from, to, how, body })
    }

    /// A place for an access, and the size of that access.
    fn place(&mut self, write: bool) -> (Place, u8) {
        let size = self.random.pick(&[1u8, 2, 4, 8]);
        let wide = u32::from(size);
        let place = match self.random.below(if write { 5 } else { 6 }) {
            3 if !self.bound.is_empty() => {
                let cell = Place::ptr(self.random.pick(&self.bound.clone()));
                match self.random.chance(50) {
                    true => cell.indexed(self.expr(2), 8, CELL_WORDS),
                    false => cell.at(8 * self.random.below(CELL_WORDS)),
                }
            }
            0 => {
                let slot = self.random.pick(&SLOTS);
                Place::slot(slot).at(wide * self.random.below(16 / wide))
            }
            1 => Place::ptr(OUT).at(8 * 20 + self.random.below(100)),
            2 => Place::slot(SCRATCH).indexed(self.expr(2), 8, SCRATCH_WORDS),
            3 | 4 => Place::ptr(OUT).at(8 * 20).indexed(self.expr(2), 4, 10),
            _ => Place::rodata(BYTES).at(4).indexed(self.expr(2), wide, 5),
        };
        (place, size)
    }

    fn expr(&mut self, depth: u32) -> Expr {
        let boxed = Box::new;
        if depth == 0 || self.random.chance(25) {
            return match self.random.below(4) {
                0 => constant(self.random.next() as i64),
                1 => constant(i64::from(self.random.below(20)) - 5),
                2 => argument(self.random.below(4)),
                _ => local(self.random.pick(&self.locals.clone())),
            };
        }
        match self.random.below(10) {
            0 => Expr::Extend {
                value: boxed(self.expr(depth - 1)),
                bits: self.random.pick(&[8, 16, 32]),
                signed: self.random.chance(50),
            },
            1 => Expr::ByteSwap {
                value: boxed(self.expr(depth - 1)),
                bits: self.random.pick(&[16, 32, 64]),
            },
            2 => Expr::Select {
                cond: boxed(self.expr(depth - 1)),
                then: boxed(self.expr(depth - 1)),
                els: boxed(self.expr(depth - 1)),
            },
            3 | 4 => {
                let (place, size) = self.place(false);
                Expr::load(place, size, self.random.chance(50))
            }
            _ => {
                let op = self.random.pick(&crate::arithmetic::OPS);
                let left = self.expr(depth - 1);
                let mut right = self.expr(depth - 1);
                if crate::arithmetic::divides(op) {
                    right = binary(BinaryOp::Or, right, constant(1));
                }
                binary(op, left, right)
            }
        }
    }
}

fn zero(to: Place, size: u32) -> Stmt {
    stmt(StmtKind::Zero { to, size })
}

/// What a statement does to the flow.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
    Return(i64),
}

struct Interpreter<'a> {
    module: &'a Module,
    arguments: &'a [u64],
    locals: Vec<i64>,
    slots: Vec<Vec<u8>>,
    out: Vec<u8>,
    cells: [Vec<u8>; 2],
    /// Which element each pointer is bound to.
    bound: Vec<usize>,
}

impl<'a> Interpreter<'a> {
    fn run(case: &'a Case, arguments: &'a [u64]) -> Outcome {
        let program = &case.module.programs[0];
        let mut machine = Interpreter {
            module: &case.module,
            arguments,
            locals: vec![0; program.locals.len()],
            slots: program.slots.iter().map(|s| vec![0; s.size as usize]).collect(),
            out: vec![0xaa; case.out_size as usize],
            cells: [0, 1].map(|_| vec![0; 8 * CELL_WORDS as usize]),
            bound: vec![0; program.ptrs as usize],
        };
        let StmtKind::Lookup { found, .. } = &program.body[1].kind else { panic!("no body") };
        let result = match machine.block(found) {
            Flow::Return(value) => value as u32,
            _ => program.result as u32,
        };
        Outcome { out: machine.out, result, events: vec![] }
    }

    fn block(&mut self, block: &[Stmt]) -> Flow {
        for stmt in block {
            match self.stmt(stmt) {
                Flow::Next => {}
                other => return other,
            }
        }
        Flow::Next
    }

    fn stmt(&mut self, stmt: &Stmt) -> Flow {
        match &stmt.kind {
            StmtKind::Set { local, value } => self.locals[local.0 as usize] = self.expr(value),
            StmtKind::Store { to, size, value } => {
                let bytes = self.expr(value).to_le_bytes();
                self.write(to, &bytes[..usize::from(*size)]);
            }
            StmtKind::Copy { to, from, size } => {
                let bytes = self.read(from, *size as usize);
                self.write(to, &bytes);
            }
            StmtKind::Zero { to, size } => self.write(to, &vec![0; *size as usize]),
            StmtKind::AtomicAdd { to, size, value } => {
                let size = usize::from(*size);
                let sum = word(&self.read(to, size), false).wrapping_add(self.expr(value));
                self.write(to, &sum.to_le_bytes()[..size]);
            }
            StmtKind::If { cond, then, els } => {
                let arm = if self.expr(cond) != 0 { then } else { els };
                return self.block(arm);
            }
            StmtKind::ForRange { index, from, to, body, .. } => {
                for i in self.expr(from)..self.expr(to) {
                    self.locals[index.0 as usize] = i;
                    match self.block(body) {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => break,
                        Flow::Return(value) => return Flow::Return(value),
                    }
                }
            }
            StmtKind::Loop { body, .. } => loop {
                match self.block(body) {
                    Flow::Next | Flow::Continue => {}
                    Flow::Break => break,
                    Flow::Return(value) => return Flow::Return(value),
                }
            },
            StmtKind::Lookup { key, value, found, missing, .. } => {
                let key = word(&self.read(key, 4), false) as usize;
                if key >= self.cells.len() {
                    return self.block(missing);
                }
                self.bound[value.0 as usize] = key;
                return self.block(found);
            }
            StmtKind::Break => return Flow::Break,
            StmtKind::Continue => return Flow::Continue,
            StmtKind::Return(value) => return Flow::Return(self.expr(value)),
            other => panic!("not generated: {other:?}"),
        }
        Flow::Next
    }

    fn at(&self, place: &Place) -> usize {
        let index = place.index.as_ref().map_or(0, |i| {
            let value = i.bound(self.expr(&i.value) as u64);
            value as usize * i.stride as usize
        });
        place.offset as usize + index
    }

    fn read(&self, place: &Place, size: usize) -> Vec<u8> {
        let at = self.at(place);
        let bytes = match place.base {
            Base::Slot(slot) => &self.slots[slot.0 as usize],
            Base::Ptr(OUT) => &self.out,
            Base::Ptr(ptr) => &self.cells[self.bound[ptr.0 as usize]],
            Base::Rodata(rodata) => &self.module.rodata[rodata.0 as usize].bytes,
            Base::Params => panic!("no program here has parameters"),
            Base::Context => {
                let value = self.arguments[at / 8];
                return value.to_le_bytes()[..size].to_vec();
            }
            Base::Losses => unreachable!("no program here loses anything"),
        };
        bytes[at..at + size].to_vec()
    }

    fn write(&mut self, place: &Place, from: &[u8]) {
        let at = self.at(place);
        let bytes = match place.base {
            Base::Slot(slot) => &mut self.slots[slot.0 as usize],
            Base::Ptr(OUT) => &mut self.out,
            Base::Ptr(ptr) => &mut self.cells[self.bound[ptr.0 as usize]],
            other => panic!("{other:?} is not written"),
        };
        bytes[at..at + from.len()].copy_from_slice(from);
    }

    fn expr(&self, expr: &Expr) -> i64 {
        match expr {
            Expr::Const(value) => *value,
            Expr::Local(local) => self.locals[local.0 as usize],
            Expr::Binary(op, left, right) => {
                crate::arithmetic::expected(*op, self.expr(left), self.expr(right))
            }
            Expr::Extend { value, bits, signed } => {
                word(&self.expr(value).to_le_bytes()[..usize::from(*bits) / 8], *signed)
            }
            Expr::ByteSwap { value, bits } => {
                let mut bytes = self.expr(value).to_le_bytes()[..usize::from(*bits) / 8].to_vec();
                bytes.reverse();
                word(&bytes, false)
            }
            Expr::Select { cond, then, els } => {
                let (then, els) = (self.expr(then), self.expr(els));
                if self.expr(cond) != 0 { then } else { els }
            }
            Expr::Load { from, size, signed } => {
                word(&self.read(from, usize::from(*size)), *signed)
            }
            other => panic!("not generated: {other:?}"),
        }
    }
}

fn word(bytes: &[u8], signed: bool) -> i64 {
    let mut full = [0; 8];
    full[..bytes.len()].copy_from_slice(bytes);
    let shift = 64 - 8 * bytes.len() as u32;
    let value = i64::from_le_bytes(full) << shift;
    if signed { value >> shift } else { ((value as u64) >> shift) as i64 }
}

fn check(seeds: std::ops::Range<u64>, callbacks: bool) {
    for seed in seeds {
        let case = Generator::program(seed, callbacks);
        let arguments: [&[u64]; 4] =
            [&[0, 0, 0, 0], &[1, 2, 3, 4], &[u64::MAX, 7, 1 << 40, 100], &[5, 1 << 63, 9, 12]];
        for (arguments, got) in arguments.iter().zip(case.run_all(&arguments)) {
            let wanted = Interpreter::run(&case, arguments);
            assert!(
                got == wanted,
                "seed {seed}, arguments {arguments:?}: result {} is not {}\n{:x?}\n{:x?}\n{}",
                got.result,
                wanted.result,
                got.words(),
                wanted.words(),
                print(&case.module)
            );
        }
    }
}

/// `RTRACE_PROGRAMS` and `RTRACE_SEED` ask for others.
fn wanted() -> std::ops::Range<u64> {
    seeds("RTRACE_PROGRAMS", PROGRAMS).unwrap()
}

#[test]
fn programs_with_plain_loops() {
    check(wanted(), false);
}

#[test]
fn programs_with_callbacks() {
    if has_callbacks() {
        check(wanted(), true);
    }
}
