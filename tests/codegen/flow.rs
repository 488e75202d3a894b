//! Control flow: branches, loops of every kind, and the ways out of them.

use libbpf_rs::{MapCore, MapFlags};
use rtrace::codegen::Cpu;
use rtrace::ir::*;
use rtrace::source::Span;

use crate::case::*;

fn range(index: LocalId, from: Expr, to: Expr, callback: bool, body: Vec<Stmt>) -> Stmt {
    stmt(StmtKind::ForRange { index, from, to, how: Rounds::by(callback), body })
}

fn stop() -> Stmt {
    stmt(StmtKind::Break)
}

fn next() -> Stmt {
    stmt(StmtKind::Continue)
}

fn equal(left: Expr, right: Expr) -> Expr {
    binary(BinaryOp::Eq, left, right)
}

/// Ways to run a counting loop here.
fn callbacks() -> Vec<bool> {
    if has_callbacks() { vec![false, true] } else { vec![false] }
}

#[test]
fn ranges_count_and_keep_what_they_set() {
    for callback in callbacks() {
        for (from, to) in [(0, 10), (-3, 4), (5, 5), (5, 2), (i64::MAX - 2, i64::MAX)] {
            let mut case = Case::new(4);
            let [i, sum, last] = ["i", "sum", "last"].map(|n| case.local(n));
            case.body(vec![
                set(last, constant(99)),
                range(
                    i,
                    constant(from),
                    constant(to),
                    callback,
                    vec![
                        set(sum, add(local(sum), binary(BinaryOp::Mul, local(i), local(i)))),
                        set(last, local(i)),
                    ],
                ),
                give(0, local(sum)),
                give(1, local(last)),
                give(2, constant(0)),
                give(3, constant(0)),
            ]);
            let sum = (from..to).fold(0i64, |s, i| s.wrapping_add(i.wrapping_mul(i)));
            let last = if from < to { to - 1 } else { 99 };
            assert_eq!(case.run(&[]).words(), [sum, last, 0, 0], "{from}..{to} {callback}");
        }
    }
}

/// LLVM knows closed forms for such sums; they would need 128-bit products.
#[test]
fn sums_over_a_variable_range_stay_loops() {
    for callback in callbacks() {
        let mut case = Case::new(2);
        let [i, sum] = ["i", "sum"].map(|n| case.local(n));
        let slot = case.slot(8, 8, Home::Stack);
        let bound = binary(BinaryOp::And, argument(0), constant(31));
        case.body(vec![
            store(Place::slot(slot), 8, constant(0)),
            range(
                i,
                constant(0),
                bound,
                callback,
                vec![
                    set(sum, add(local(sum), binary(BinaryOp::Mul, local(i), local(i)))),
                    store(
                        Place::slot(slot),
                        8,
                        add(
                            Expr::load(Place::slot(slot), 8, false),
                            binary(BinaryOp::Mul, local(sum), local(i)),
                        ),
                    ),
                ],
            ),
            give(0, local(sum)),
            give(1, Expr::load(Place::slot(slot), 8, false)),
        ]);
        for n in [0u64, 1, 31] {
            let (mut sum, mut second) = (0, 0);
            for i in 0..n as i64 {
                sum += i * i;
                second += sum * i;
            }
            assert_eq!(case.run(&[n]).words(), [sum, second], "{n}");
        }
    }
}

#[test]
fn break_and_continue() {
    for callback in callbacks() {
        let mut case = Case::new(1);
        let [i, sum] = ["i", "sum"].map(|n| case.local(n));
        case.body(vec![
            range(
                i,
                constant(0),
                constant(20),
                callback,
                vec![
                    when(equal(local(i), constant(3)), vec![next()], vec![]),
                    when(equal(local(i), argument(0)), vec![stop()], vec![]),
                    set(sum, add(local(sum), local(i))),
                ],
            ),
            give(0, local(sum)),
        ]);
        for stop in [0u64, 3, 4, 10, 100] {
            let rounds = (0..20).take_while(|&i| i == 3 || i != stop as i64);
            let sum: i64 = rounds.filter(|&i| i != 3).sum();
            assert_eq!(case.run(&[stop]).words(), [sum], "{stop} {callback}");
        }
    }
}

#[test]
fn a_while_loop_ends() {
    let mut case = Case::new(2);
    let [n, sum] = ["n", "sum"].map(|n| case.local(n));
    case.body(vec![
        stmt(StmtKind::Loop {
            copies: 1,
            body: vec![
                when(binary(BinaryOp::SGe, local(n), constant(100)), vec![stop()], vec![]),
                set(n, add(local(n), constant(1))),
                when(
                    equal(binary(BinaryOp::And, local(n), constant(1)), constant(0)),
                    vec![next()],
                    vec![],
                ),
                when(equal(local(n), argument(0)), vec![stop()], vec![]),
                set(sum, add(local(sum), local(n))),
            ],
        }),
        give(0, local(n)),
        give(1, local(sum)),
    ]);
    assert_eq!(case.run(&[0]).words(), [100, 2500]);
    assert_eq!(case.run(&[5]).words(), [5, 4]);
}

/// Elements of an array, visited by a plain loop: the index is bounded by the
/// loop, and clamped all the same.
#[test]
fn a_loop_over_memory() {
    for callback in callbacks() {
        let mut case = Case::new(2);
        let [i, sum] = ["i", "sum"].map(|n| case.local(n));
        let bytes: Vec<u8> = (1..=100u64).flat_map(|n| (n * n).to_le_bytes()).collect();
        let bytes = case.rodata(&bytes);
        let squares = case.slot(800, 8, Home::Scratch { offset: 0 });
        case.body(vec![
            stmt(StmtKind::Copy {
                to: Place::slot(squares),
                from: Place::rodata(bytes),
                size: 800,
            }),
            range(
                i,
                constant(0),
                constant(100),
                callback,
                vec![set(
                    sum,
                    add(
                        local(sum),
                        Expr::load(Place::slot(squares).indexed(local(i), 8, 100), 8, false),
                    ),
                )],
            ),
            give(0, local(sum)),
            give(1, constant(0)),
        ]);
        assert_eq!(case.run(&[]).words(), [338_350, 0]);
    }
}

#[test]
fn return_leaves_nested_callbacks() {
    if !has_callbacks() {
        return;
    }
    let mut case = Case::new(3);
    let [i, j, count] = ["i", "j", "count"].map(|n| case.local(n));
    let inner = range(
        j,
        local(i),
        constant(5),
        true,
        vec![
            set(count, add(local(count), constant(1))),
            give(0, local(count)),
            when(
                binary(BinaryOp::And, equal(local(i), argument(0)), equal(local(j), constant(3))),
                vec![stmt(StmtKind::Return(constant(42)))],
                vec![],
            ),
            when(equal(local(j), argument(1)), vec![stop()], vec![]),
        ],
    );
    case.body(vec![
        give(0, constant(0)),
        give(1, constant(0)),
        range(i, constant(0), constant(5), true, vec![inner, give(2, local(i))]),
        give(1, constant(1)),
    ]);
    for leave in [0u64, 2, 9] {
        for stop in [1u64, 9] {
            let (mut count, mut left) = (0, false);
            'outer: for i in 0..5u64 {
                for j in i..5 {
                    count += 1;
                    if i == leave && j == 3 {
                        left = true;
                        break 'outer;
                    }
                    if j == stop {
                        break;
                    }
                }
            }
            let outcome = case.run(&[leave, stop]);
            let words = outcome.words();
            assert_eq!(words[..2], [count, i64::from(!left)], "{leave} {stop}");
            assert_eq!(outcome.result, if left { 42 } else { 0 });
        }
    }
}

/// A map's elements, their keys and values copied out through a stack slot, a
/// scratch slot and an event, with a nested loop over each.
#[test]
fn every_element_of_a_map() {
    if !has_callbacks() {
        return;
    }
    let mut case = Case::new(4);
    let map = case.map("elements", MapKind::Hash, [8, 16, 16]);
    let ring = case.map("rt_events", MapKind::RingBuffer, [0, 0, 4096]);
    let [i, keys, values, rounds] = ["i", "keys", "values", "rounds"].map(|n| case.local(n));
    let [key, value, record] = [case.ptr(), case.ptr(), case.ptr()];
    let copied = case.slot(16, 8, Home::Stack);
    let large = case.slot(1000, 8, Home::Scratch { offset: 0 });
    let word = |place| Expr::load(place, 8, false);
    let inner = range(
        i,
        constant(0),
        constant(2),
        true,
        vec![
            set(values, add(local(values), word(Place::ptr(value).indexed(local(i), 8, 2)))),
            when(equal(word(Place::ptr(key)), argument(0)), vec![stop()], vec![]),
        ],
    );
    case.body(vec![
        store(Place::slot(large).at(992), 8, constant(5)),
        stmt(StmtKind::ForMap {
            map,
            key,
            value,
            body: vec![
                stmt(StmtKind::Copy { to: Place::slot(copied), from: Place::ptr(value), size: 16 }),
                set(keys, add(local(keys), word(Place::ptr(key)))),
                inner,
                store(
                    Place::slot(large).at(992),
                    8,
                    add(word(Place::slot(large).at(992)), word(Place::slot(copied).at(8))),
                ),
                stmt(StmtKind::Event {
                    map: ring,
                    size: 24,
                    record,
                    body: vec![
                        stmt(StmtKind::Zero { to: Place::ptr(record), size: 8 }),
                        stmt(StmtKind::Copy {
                            to: Place::ptr(record).at(8),
                            from: Place::slot(copied),
                            size: 16,
                        }),
                    ],
                    lost: vec![],
                }),
                set(rounds, add(local(rounds), constant(1))),
            ],
        }),
        give(0, local(keys)),
        give(1, local(values)),
        give(2, local(rounds)),
        give(3, word(Place::slot(large).at(992))),
    ]);
    let object = case.load(Cpu::V3);
    let elements = object.maps().find(|m| m.name() == "elements").unwrap();
    for n in 1..=4u64 {
        let value = [(10 * n).to_le_bytes(), (100 * n).to_le_bytes()].concat();
        elements.update(&n.to_le_bytes(), &value, MapFlags::ANY).unwrap();
    }
    let mut context = [0u8; 96];
    context[0] = 2;
    let input = libbpf_rs::ProgramInput {
        context_in: Some(&mut context),
        ..libbpf_rs::ProgramInput::default()
    };
    object.progs_mut().next().unwrap().test_run(input).unwrap();
    let out = object.maps().find(|m| m.name() == "out").unwrap();
    let out = out.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
    let words: Vec<_> =
        out.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
    // Of element 2 only the first word was added.
    assert_eq!(words, [10, 110 * 10 - 200, 4, 5 + 1000]);
}

/// Locals that only one callback uses need no frame, unless they live from
/// round to round.
#[test]
fn locals_of_a_callback() {
    if !has_callbacks() {
        return;
    }
    let mut case = Case::new(2);
    let [i, fresh, kept] = ["i", "fresh", "kept"].map(|n| case.local(n));
    case.body(vec![
        give(0, constant(0)),
        give(1, constant(0)),
        range(
            i,
            constant(0),
            constant(10),
            true,
            vec![
                set(fresh, binary(BinaryOp::Mul, local(i), constant(3))),
                set(kept, add(local(kept), local(fresh))),
                give(0, local(kept)),
                give(1, local(fresh)),
            ],
        ),
    ]);
    assert_eq!(case.run(&[]).words(), [135, 27]);
}

#[test]
fn a_callback_may_use_the_context_and_events() {
    if !has_callbacks() {
        return;
    }
    let mut case = Case::new(1);
    let ring = case.map("rt_events", MapKind::RingBuffer, [0, 0, 4096]);
    let i = case.local("i");
    let record = case.ptr();
    let event = stmt(StmtKind::Event {
        map: ring,
        size: 16,
        record,
        body: vec![
            store(Place::ptr(record), 8, local(i)),
            store(Place::ptr(record).at(8), 8, argument(1)),
        ],
        lost: vec![],
    });
    case.body(vec![give(0, constant(0)), range(i, argument(0), constant(3), true, vec![event])]);
    let events = case.run(&[1, 0x77]).events;
    let wanted: Vec<_> =
        [1u64, 2].iter().map(|n| [n.to_le_bytes(), 0x77u64.to_le_bytes()].concat()).collect();
    assert_eq!(events, wanted);
}

/// More values at once than registers and stack hold.
#[test]
fn many_locals() {
    const COUNT: usize = 150;
    let mut case = Case::new(COUNT as u32);
    let locals: Vec<_> = (0..COUNT).map(|n| case.local(&format!("v{n}"))).collect();
    let clock = Expr::Call { helper: Helper::KtimeGetNs, args: vec![] };
    let mut body: Vec<_> = (0..)
        .zip(&locals)
        .map(|(n, l)| set(*l, binary(BinaryOp::Mul, argument(0), constant(n))))
        .collect();
    body.push(stmt(StmtKind::Eval(clock)));
    // A counter must stay where the verifier can see it.
    let count = locals[7];
    body.push(set(count, constant(0)));
    body.push(stmt(StmtKind::Loop {
        copies: 1,
        body: vec![
            when(binary(BinaryOp::SGe, local(count), constant(8)), vec![stop()], vec![]),
            set(count, add(local(count), constant(1))),
        ],
    }));
    body.extend((0..).zip(&locals).map(|(n, l)| give(n, local(*l))));
    case.body(body);
    let mut wanted: Vec<_> = (0..COUNT as i64).map(|n| 3 * n).collect();
    wanted[7] = 8;
    assert_eq!(case.run(&[3]).words(), wanted);
}

/// Pointers of every kind reach a callback: a record of the ring buffer, a
/// map's value, the current task.
#[test]
fn a_callback_uses_pointers_from_outside() {
    if !has_callbacks() {
        return;
    }
    let mut case = Case::new(3);
    let ring = case.map("rt_events", MapKind::RingBuffer, [0, 0, 4096]);
    let [i, task] = ["i", "task"].map(|n| case.local(n));
    let record = case.ptr();
    let typed =
        |offset| Expr::LoadTyped { pointer: Box::new(local(task)), offset, size: 4, signed: false };
    let body = vec![
        store(Place::ptr(record).indexed(local(i), 8, 4), 8, local(i)),
        store(Place::ptr(OUT).indexed(local(i), 8, 3), 8, typed(tgid_offset())),
    ];
    let event = StmtKind::Event {
        map: ring,
        size: 32,
        record,
        body: vec![
            stmt(StmtKind::Zero { to: Place::ptr(record), size: 32 }),
            range(i, constant(0), constant(3), true, body),
        ],
        lost: vec![],
    };
    case.body(vec![
        set(task, Expr::Call { helper: Helper::GetCurrentTaskBtf, args: vec![] }),
        stmt(event),
        give(2, typed(tgid_offset())),
    ]);
    let outcome = case.run(&[]);
    let words = outcome.words();
    assert_eq!(words, [i64::from(std::process::id()); 3]);
    let wanted: Vec<u8> = [0u64, 1, 2, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(outcome.events, [wanted]);
}

/// Kernels before 6.7 verify a callback as if it ran exactly once, with what
/// is known where the loop starts.
#[test]
fn what_a_callback_changes_is_not_known() {
    if !has_callbacks() {
        return;
    }
    let mut case = Case::new(4);
    let map = case.map("nothing", MapKind::Hash, [8, 8, 4]);
    let [i, seen, later, never] = ["i", "seen", "later", "never"].map(|n| case.local(n));
    let [key, value] = [case.ptr(), case.ptr()];
    let slot = case.slot(8, 8, Home::Stack);
    let first = Expr::load(Place::slot(slot), 4, false);
    case.body(vec![
        stmt(StmtKind::Zero { to: Place::slot(slot), size: 8 }),
        range(
            i,
            constant(0),
            constant(3),
            true,
            vec![
                when(equal(local(seen), constant(1)), vec![set(later, constant(5))], vec![]),
                when(
                    equal(first, constant(1)),
                    vec![store(Place::slot(slot).at(4), 4, constant(6))],
                    vec![],
                ),
                set(seen, constant(1)),
                store(Place::slot(slot), 4, constant(1)),
            ],
        ),
        stmt(StmtKind::ForMap {
            map,
            key,
            value,
            body: vec![set(never, constant(1)), set(i, Expr::load(Place::ptr(key), 8, false))],
        }),
        when(local(never), vec![give(0, constant(-1))], vec![give(0, local(later))]),
        give(1, Expr::load(Place::slot(slot).at(4), 4, false)),
        give(2, local(never)),
        give(3, local(i)),
    ]);
    assert_eq!(case.run(&[]).words(), [5, 6, 0, 2]);
}

/// The kernel adds up the stack of a program and of its callbacks.
#[test]
fn callbacks_that_need_much_stack() {
    if !has_callbacks() {
        return;
    }
    const SLOT: u32 = 280;
    const COUNT: i64 = 40;
    let mut case = Case::new(2);
    let i = case.local("i");
    let slot = case.slot(SLOT, 8, Home::Stack);
    let values: Vec<_> = (0..COUNT).map(|n| case.local(&format!("v{n}"))).collect();
    let clock = Expr::Call { helper: Helper::KtimeGetNs, args: vec![] };
    let mut body: Vec<_> = (0..)
        .zip(&values)
        .map(|(n, v)| set(*v, binary(BinaryOp::Mul, argument(0), add(local(i), constant(n)))))
        .collect();
    body.push(stmt(StmtKind::Eval(clock)));
    body.push(give(0, values.iter().fold(constant(0), |sum, v| add(sum, local(*v)))));
    body.push(store(Place::slot(slot).at(SLOT - 8), 8, local(i)));
    case.body(vec![
        stmt(StmtKind::Zero { to: Place::slot(slot), size: SLOT }),
        range(i, constant(0), constant(3), true, body),
        give(1, Expr::load(Place::slot(slot).at(SLOT - 8), 8, false)),
    ]);
    let sum: i64 = (0..COUNT).map(|n| 5 * (2 + n)).sum();
    assert_eq!(case.run(&[5]).words(), [sum, 2]);
}

/// A program and the function that it calls: neither takes too much, together they do.
#[test]
fn a_function_and_its_caller_that_need_much_stack() {
    const SLOT: u32 = 272;
    let read = |slot: SlotId, from: Expr| {
        let size = Arg::Value(constant(SLOT.into()));
        let args = vec![Arg::Address(Place::slot(slot)), size, Arg::Value(from)];
        stmt(StmtKind::Eval(Expr::Call { helper: Helper::ProbeReadKernel, args }))
    };
    let last = |slot: SlotId| Expr::load(Place::slot(slot).at(SLOT - 8), 8, false);
    let mut case = Case::new(2);
    let slot = case.slot(SLOT, 8, Home::Stack);
    let given = case.local("given");
    case.body(vec![
        read(slot, constant(0)),
        store(Place::slot(slot).at(SLOT - 8), 8, argument(0)),
        set(given, Expr::CallFunction { function: FunctionId(0), args: vec![argument(0)] }),
        give(0, local(given)),
        give(1, last(slot)),
    ]);
    let own = SlotId(0);
    case.module.functions.push(Program {
        name: "deep".into(),
        kind: ProgramKind::Function { params: 1 },
        section: String::new(),
        locals: vec![Local { name: "p".into(), number: false }],
        slots: vec![Slot { name: "own".into(), size: SLOT, align: 8, home: Home::Stack }],
        ptrs: 0,
        lent: vec![],
        body: vec![
            read(own, constant(0)),
            store(Place::slot(own).at(SLOT - 8), 8, add(local(LocalId(0)), constant(1))),
            stmt(StmtKind::Return(last(own))),
        ],
        result: 0,
        span: Span::new(0, 0, 5),
    });
    assert_eq!(case.run(&[5]).words(), [6, 5]);
}

/// Jumps reach 32,767 instructions, and LLVM ends the process if one must go further.
#[test]
fn copies_that_would_be_too_many() {
    let mut case = Case::new(1);
    let n = case.local("n");
    let clock = || stmt(StmtKind::Eval(Expr::Call { helper: Helper::KtimeGetNs, args: vec![] }));
    let mut body = vec![
        when(binary(BinaryOp::SGe, local(n), constant(3)), vec![stop()], vec![]),
        set(n, add(local(n), constant(1))),
    ];
    body.extend((0..100).map(|_| clock()));
    case.body(vec![stmt(StmtKind::Loop { copies: 400, body }), give(0, local(n))]);
    assert_eq!(case.run(&[]).words(), [3]);
}
