//! Words: every operation against Rust's own arithmetic.

use rtrace::ir::*;

use crate::case::*;

pub const OPS: [BinaryOp; 23] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::UDiv,
    BinaryOp::UMod,
    BinaryOp::SDiv,
    BinaryOp::SMod,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::Shl,
    BinaryOp::LShr,
    BinaryOp::AShr,
    BinaryOp::Eq,
    BinaryOp::Ne,
    BinaryOp::ULt,
    BinaryOp::ULe,
    BinaryOp::UGt,
    BinaryOp::UGe,
    BinaryOp::SLt,
    BinaryOp::SLe,
    BinaryOp::SGt,
    BinaryOp::SGe,
];

const VALUES: [i64; 14] = [
    0,
    1,
    -1,
    2,
    7,
    -7,
    63,
    64,
    0x8000_0000,
    0xffff_ffff,
    -0x8000_0000,
    0x1234_5678_9abc_def0,
    i64::MAX,
    i64::MIN,
];

pub fn expected(op: BinaryOp, a: i64, b: i64) -> i64 {
    let (ua, ub) = (a.cast_unsigned(), b.cast_unsigned());
    let count = (ub & 63) as u32;
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::UDiv => (ua / ub).cast_signed(),
        BinaryOp::UMod => (ua % ub).cast_signed(),
        BinaryOp::SDiv => a.wrapping_div(b),
        BinaryOp::SMod => a.wrapping_rem(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => a << count,
        BinaryOp::LShr => (ua >> count).cast_signed(),
        BinaryOp::AShr => a >> count,
        BinaryOp::Eq => (a == b).into(),
        BinaryOp::Ne => (a != b).into(),
        BinaryOp::ULt => (ua < ub).into(),
        BinaryOp::ULe => (ua <= ub).into(),
        BinaryOp::UGt => (ua > ub).into(),
        BinaryOp::UGe => (ua >= ub).into(),
        BinaryOp::SLt => (a < b).into(),
        BinaryOp::SLe => (a <= b).into(),
        BinaryOp::SGt => (a > b).into(),
        BinaryOp::SGe => (a >= b).into(),
    }
}

pub fn divides(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::UDiv | BinaryOp::UMod | BinaryOp::SDiv | BinaryOp::SMod)
}

#[test]
fn operations_on_variables() {
    let mut case = Case::new(OPS.len() as u32);
    let body = (0..).zip(OPS).map(|(n, op)| {
        let stored = give(n, binary(op, argument(0), argument(1)));
        match divides(op) {
            true => when(argument(1), vec![stored], vec![give(n, constant(0))]),
            false => stored,
        }
    });
    case.body(body.collect());
    let pairs: Vec<_> = VALUES.iter().flat_map(|&a| VALUES.iter().map(move |&b| [a, b])).collect();
    let arguments: Vec<_> = pairs.iter().map(|p| p.map(i64::cast_unsigned)).collect();
    let arguments: Vec<&[u64]> = arguments.iter().map(|a| a.as_slice()).collect();
    for ([a, b], outcome) in pairs.iter().zip(case.run_all(&arguments)) {
        for (op, got) in OPS.into_iter().zip(outcome.words()) {
            let wanted = if divides(op) && *b == 0 { 0 } else { expected(op, *a, *b) };
            assert_eq!(got, wanted, "{op:?} {a} {b}");
        }
    }
}

#[test]
fn operations_on_a_variable_and_a_constant() {
    for op in OPS {
        for constant_first in [false, true] {
            let mut case = Case::new(VALUES.len() as u32);
            let body = (0..).zip(VALUES).map(|(n, v)| {
                let (a, b) = match constant_first {
                    true => (constant(v), argument(0)),
                    false => (argument(0), constant(v)),
                };
                match divides(op) && !constant_first && v == 0 {
                    true => give(n, constant(0)),
                    false if divides(op) && constant_first => when(
                        argument(0),
                        vec![give(n, binary(op, a, b))],
                        vec![give(n, constant(0))],
                    ),
                    false => give(n, binary(op, a, b)),
                }
            });
            case.body(body.collect());
            let arguments: Vec<_> = VALUES.iter().map(|&v| [v.cast_unsigned()]).collect();
            let arguments: Vec<&[u64]> = arguments.iter().map(|a| a.as_slice()).collect();
            for (&v, outcome) in VALUES.iter().zip(case.run_all(&arguments)) {
                for (&c, got) in VALUES.iter().zip(outcome.words()) {
                    let (a, b) = if constant_first { (c, v) } else { (v, c) };
                    let wanted = if divides(op) && b == 0 { 0 } else { expected(op, a, b) };
                    assert_eq!(got, wanted, "{op:?} {a} {b}");
                }
            }
        }
    }
}

#[test]
fn extending_swapping_selecting() {
    let boxed = |e| Box::new(e);
    let mut case = Case::new(12);
    let mut body = Vec::new();
    let mut n = 0;
    for bits in [8, 16, 32] {
        for signed in [false, true] {
            body.push(give(n, Expr::Extend { value: boxed(argument(0)), bits, signed }));
            n += 1;
        }
    }
    for bits in [16, 32, 64] {
        body.push(give(n, Expr::ByteSwap { value: boxed(argument(0)), bits }));
        n += 1;
    }
    body.push(give(
        n,
        Expr::Select {
            cond: boxed(binary(BinaryOp::SLt, argument(0), constant(0))),
            then: boxed(constant(5)),
            els: boxed(argument(0)),
        },
    ));
    body.push(give(
        n + 1,
        Expr::Select {
            cond: boxed(argument(0)),
            then: boxed(constant(1)),
            els: boxed(constant(2)),
        },
    ));
    body.push(give(n + 2, constant(i64::MIN)));
    case.body(body);
    let arguments: Vec<_> = VALUES.iter().map(|&v| [v.cast_unsigned()]).collect();
    let arguments: Vec<&[u64]> = arguments.iter().map(|a| a.as_slice()).collect();
    for (&v, outcome) in VALUES.iter().zip(case.run_all(&arguments)) {
        let wanted = [
            i64::from(v as u8),
            i64::from(v as i8),
            i64::from(v as u16),
            i64::from(v as i16),
            i64::from(v as u32),
            i64::from(v as i32),
            i64::from((v as u16).swap_bytes()),
            i64::from((v as u32).swap_bytes()),
            v.swap_bytes(),
            if v < 0 { 5 } else { v },
            if v != 0 { 1 } else { 2 },
            i64::MIN,
        ];
        assert_eq!(outcome.words(), wanted, "{v}");
    }
}

#[test]
fn a_program_without_return_gives_its_result() {
    let mut case = Case::new(1);
    case.module.programs[0].result = 3;
    case.body(vec![when(argument(0), vec![stmt(StmtKind::Return(constant(9)))], vec![])]);
    let outcomes = case.run_all(&[&[0], &[1]]);
    assert_eq!(outcomes.iter().map(|o| o.result).collect::<Vec<_>>(), [3, 9]);
}
