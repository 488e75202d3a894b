//! Expressions made at random, with their values.

use super::random::Random;
use super::value::{Kind, Op, Value};

/// An expression, its text in both forms, and what it comes to.
#[derive(Debug)]
pub struct Expression {
    /// With `{N}` for the inputs.
    template: String,
    pub inputs: Vec<u64>,
    pub value: Value,
    pub divides_by_zero: bool,
}

impl Expression {
    /// With inputs from a map.
    pub fn computed(&self, seed: u64) -> String {
        self.with(|i| format!("@in[{seed}, {i}]"))
    }

    /// With inputs as literals.
    pub fn folded(&self) -> String {
        self.with(|i| format!("{:#x}", self.inputs[i]))
    }

    fn with(&self, input: impl Fn(usize) -> String) -> String {
        (0..self.inputs.len())
            .fold(self.template.clone(), |text, i| text.replace(&format!("{{{i}}}"), &input(i)))
    }
}

pub struct Generator {
    random: Random,
    inputs: Vec<u64>,
    divides_by_zero: bool,
}

/// Values where something tends to happen.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    3,
    7,
    63,
    64,
    127,
    128,
    255,
    0x7fff,
    0xffff_ffff,
    0x8000_0000,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// How deep expressions nest.
const DEPTH: u32 = 4;

type Made = (String, Value);

impl Generator {
    pub fn of(seed: u64) -> Generator {
        Generator { random: Random::of(seed), inputs: Vec::new(), divides_by_zero: false }
    }

    pub fn expression(mut self) -> Expression {
        let (template, value) = self.any(DEPTH);
        let Generator { inputs, divides_by_zero, .. } = self;
        Expression { template, inputs, value, divides_by_zero }
    }

    fn any(&mut self, depth: u32) -> Made {
        if depth == 0 || self.random.below(8) == 0 {
            return self.leaf();
        }
        match self.random.below(12) {
            0 => self.unary(depth),
            1 => self.cast(depth),
            2 => self.choice(depth),
            3 => self.logic(depth),
            _ => self.binary(depth),
        }
    }

    fn kind(&mut self) -> Kind {
        let size = self.random.pick(&[1, 2, 4, 8]);
        Kind::int(size, self.random.below(2) == 0)
    }

    fn bits(&mut self) -> u64 {
        match self.random.below(3) {
            0 => self.random.pick(&EDGES),
            1 => self.random.pick(&EDGES).wrapping_neg(),
            _ => self.random.next() >> self.random.below(64),
        }
    }

    fn leaf(&mut self) -> Made {
        if self.random.below(4) == 0 {
            let value = i128::from(self.bits() >> self.random.below(60));
            let literal = Value::literal(value).expect("a word fits");
            return (value.to_string(), literal);
        }
        let (bits, kind) = (self.bits(), self.kind());
        let input = Value { kind: Kind::int(8, true), bits, literal: false };
        self.inputs.push(bits);
        (format!("(({}){{{}}})", kind.name(), self.inputs.len() - 1), input.cast(kind))
    }

    /// Something that is not a truth value: these have rules of their own.
    fn integer(&mut self, depth: u32) -> Made {
        loop {
            let kept = (self.inputs.len(), self.divides_by_zero);
            let made = self.any(depth);
            if !made.1.kind.truth {
                return made;
            }
            self.forget(kept);
        }
    }

    fn forget(&mut self, (inputs, divides): (usize, bool)) {
        self.inputs.truncate(inputs);
        self.divides_by_zero = divides;
    }

    fn unary(&mut self, depth: u32) -> Made {
        let (text, value) = self.integer(depth - 1);
        let (op, result) = match self.random.below(3) {
            0 => ('-', value.negate()),
            1 => ('~', value.complement()),
            _ => ('!', Some(Value::truth(value.bits == 0))),
        };
        match result {
            Some(result) => (format!("({op}{text})"), result),
            None => (text, value),
        }
    }

    fn cast(&mut self, depth: u32) -> Made {
        let (text, value) = self.any(depth - 1);
        let kind = self.kind();
        (format!("(({}){text})", kind.name()), value.cast(kind))
    }

    fn choice(&mut self, depth: u32) -> Made {
        let (condition, c) = self.any(depth - 1);
        let (left, a) = self.integer(depth - 1);
        let (right, b) = self.integer(depth - 1);
        let taken = if c.bits != 0 { a.promoted(b) } else { b.promoted(a) };
        match taken {
            // What literals alone give is settled elsewhere.
            Some(value) if !a.literal && !b.literal => {
                (format!("({condition} ? {left} : {right})"), value)
            }
            _ => (condition, c),
        }
    }

    fn logic(&mut self, depth: u32) -> Made {
        let (left, a) = self.any(depth - 1);
        let (right, b) = self.any(depth - 1);
        match self.random.below(2) {
            0 => (format!("({left} && {right})"), Value::truth(a.bits != 0 && b.bits != 0)),
            _ => (format!("({left} || {right})"), Value::truth(a.bits != 0 || b.bits != 0)),
        }
    }

    fn binary(&mut self, depth: u32) -> Made {
        let (left, a) = self.integer(depth - 1);
        let (right, b) = self.integer(depth - 1);
        let op = self.random.pick(&Op::ALL);
        if matches!(op, Op::Div | Op::Mod) && b.bits == 0 {
            // What is known to be zero is an error.
            if b.literal || !right.contains('{') || right.contains([' ', '!', '~']) {
                return (left, a);
            }
            self.divides_by_zero = true;
        }
        match Value::binary(op, a, b) {
            Some(value) => (format!("({left} {} {right})", op.text()), value),
            None => (left, a),
        }
    }
}
