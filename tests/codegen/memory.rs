//! Places: loads and stores, copies, indices, constant bytes, scratch memory,
//! maps and events.

use libbpf_rs::{MapCore, MapFlags};
use rtrace::codegen::Cpu;
use rtrace::ir::*;
use rtrace::plan;

use crate::case::*;

fn copy(to: Place, from: Place, size: u32) -> Stmt {
    stmt(StmtKind::Copy { to, from, size })
}

fn zero(to: Place, size: u32) -> Stmt {
    stmt(StmtKind::Zero { to, size })
}

/// `size` bytes that differ from each other and from 0.
fn pattern(size: u32) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8 + 1).collect()
}

#[test]
fn loads_and_stores_of_every_size() {
    let mut case = Case::new(8);
    let slot = case.slot(8, 8, Home::Stack);
    let mut body = vec![store(Place::slot(slot), 8, argument(0))];
    let mut n = 0;
    for size in [1u8, 2, 4, 8] {
        for signed in [false, true] {
            body.push(give(n, Expr::load(Place::slot(slot), size, signed)));
            n += 1;
        }
    }
    case.body(body);
    let v = 0x8182_8384_8586_8788_u64;
    let wanted = [
        0x88,
        0x88u8 as i8 as i64,
        0x8788,
        0x8788u16 as i16 as i64,
        0x8586_8788,
        0x8586_8788u32 as i32 as i64,
        v as i64,
        v as i64,
    ];
    assert_eq!(case.run(&[v]).words(), wanted);
}

#[test]
fn parts_of_the_context() {
    let mut case = Case::new(4);
    case.body(vec![
        give(0, Expr::load(Place::context(4), 4, false)),
        give(1, Expr::load(Place::context(0), 4, true)),
        // Two branches that load from the context are not merged into one load.
        when(argument(1), vec![give(2, argument(2))], vec![give(2, argument(3))]),
        copy(Place::ptr(OUT).at(24), Place::context(8), 8),
    ]);
    for (flag, chosen) in [(0, 4), (1, 3)] {
        let words = case.run(&[0x1122_3344_8000_0001, flag, 3, 4]).words();
        assert_eq!(words, [0x1122_3344, 0x8000_0001u32 as i32 as i64, chosen, flag as i64]);
    }
}

#[test]
fn unaligned_words_in_map_values_and_on_the_stack() {
    let mut case = Case::with_bytes(32);
    let slot = case.slot(16, 1, Home::Stack);
    case.body(vec![
        zero(Place::ptr(OUT), 32),
        zero(Place::slot(slot), 16),
        store(Place::slot(slot).at(3), 8, argument(0)),
        store(Place::ptr(OUT).at(5), 8, Expr::load(Place::slot(slot).at(3), 8, false)),
        store(Place::ptr(OUT).at(17), 4, Expr::load(Place::ptr(OUT).at(5), 4, false)),
    ]);
    let out = case.run(&[0x0102_0304_0506_0708]).out;
    assert_eq!(out[5..13], 0x0102_0304_0506_0708_u64.to_le_bytes());
    assert_eq!(out[17..21], 0x0506_0708_u32.to_le_bytes());
}

#[test]
fn copies_and_zeros_of_many_sizes() {
    for size in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 64, 100, 127, 128, 200] {
        for skew in [0, 1, 2, 4] {
            let mut case = Case::with_bytes(512);
            let bytes = case.rodata(&pattern(256));
            let slot = case.slot(208, 8, Home::Stack);
            let at = Place::slot(slot).at(skew);
            case.body(vec![
                zero(Place::ptr(OUT), 512),
                zero(Place::slot(slot), 208),
                copy(at.clone(), Place::rodata(bytes).at(skew), size),
                copy(Place::ptr(OUT).at(8), at.clone(), size),
                zero(at, size / 2),
                copy(Place::ptr(OUT).at(256), Place::slot(slot), 208),
            ]);
            let out = case.run(&[]).out;
            let (skew, size) = (skew as usize, size as usize);
            let mut wanted = vec![0; 512];
            wanted[8..8 + size].copy_from_slice(&pattern(256)[skew..skew + size]);
            let start = 256 + skew;
            wanted[start + size / 2..start + size]
                .copy_from_slice(&pattern(256)[skew + size / 2..skew + size]);
            assert_eq!(out, wanted, "size {size} skew {skew}");
        }
    }
}

#[test]
fn large_copies_and_zeros() {
    for size in [1024, 1025, 1032, 1100, 2047, 4096, 10007] {
        for skew in [0, 4] {
            let mut case = Case::with_bytes(32768);
            let bytes = case.rodata(&pattern(16384));
            let slot = case.slot(16384, 8, Home::Scratch { offset: 64 });
            case.body(vec![
                zero(Place::ptr(OUT), 32768),
                copy(Place::slot(slot).at(skew), Place::rodata(bytes).at(8), size),
                copy(Place::ptr(OUT).at(skew), Place::slot(slot).at(skew), size),
                zero(Place::slot(slot).at(skew), size - 3),
                copy(Place::ptr(OUT).at(16384), Place::slot(slot).at(skew), size),
            ]);
            let out = case.run(&[]).out;
            let (skew, size) = (skew as usize, size as usize);
            let mut wanted = vec![0; 32768];
            let from = &pattern(16384)[8..8 + size];
            wanted[skew..skew + size].copy_from_slice(from);
            wanted[16384 + size - 3..16384 + size].copy_from_slice(&from[size - 3..]);
            assert!(out == wanted, "size {size} skew {skew}");
        }
    }
}

#[test]
fn indices_are_clamped() {
    let mut case = Case::new(12);
    let slot = case.slot(80, 8, Home::Scratch { offset: 0 });
    let bytes = case.rodata(&pattern(40));
    let element = |place: Place, stride, count| place.indexed(argument(0), stride, count);
    case.body(vec![
        zero(Place::ptr(OUT), 96),
        zero(Place::slot(slot), 80),
        // Known to be in bounds, as LLVM sees it; the check must stay all the same.
        when(
            binary(BinaryOp::ULt, argument(0), constant(10)),
            vec![store(element(Place::slot(slot), 8, 10), 8, constant(7))],
            vec![],
        ),
        store(element(Place::ptr(OUT), 8, 10), 8, constant(1)),
        store(element(Place::ptr(OUT).at(4), 8, 10), 4, constant(2)),
        give(10, Expr::load(element(Place::slot(slot), 8, 10), 8, false)),
        give(11, Expr::load(element(Place::rodata(bytes).at(2), 4, 9), 1, false)),
    ]);
    for index in [0u64, 3, 9, 10, 1 << 40, u64::MAX] {
        let at = index.min(9) as usize;
        let mut wanted = vec![0i64; 12];
        wanted[at] = 1 | 2 << 32;
        wanted[10] = if index < 10 { 7 } else { 0 };
        wanted[11] = (2 + 4 * index.min(8)) as i64 + 1;
        assert_eq!(case.run(&[index]).words(), wanted, "index {index}");
    }
}

#[test]
fn params_are_read_when_the_program_runs() {
    let mut case = Case::new(2);
    case.module.params = vec![plan::Param::StartTime, plan::Param::OwnPid];
    case.body(vec![give(0, Expr::Param(0)), give(1, Expr::Param(1))]);
    let elf = case.compile(Cpu::V3);
    let mut open = libbpf_rs::ObjectBuilder::default().open_memory(&elf).unwrap();
    let mut params =
        open.maps_mut().find(|m| m.name().to_string_lossy().contains(".rodata")).unwrap();
    let value = params.initial_value_mut().unwrap();
    value[..8].copy_from_slice(&77u64.to_le_bytes());
    value[8..].copy_from_slice(&88u64.to_le_bytes());
    let object = open.load().unwrap();
    let program = object.progs_mut().next().unwrap();
    program.test_run(libbpf_rs::ProgramInput::default()).unwrap();
    let out = object.maps().find(|m| m.name() == "out").unwrap();
    let words = out.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
    assert_eq!(words, [77u64.to_le_bytes(), 88u64.to_le_bytes()].concat());
}

fn lookup(map: MapId, key: Place, value: PtrId, found: Vec<Stmt>, missing: Vec<Stmt>) -> Stmt {
    stmt(StmtKind::Lookup { map, key, cpu: None, value, found, missing })
}

fn call(helper: Helper, args: Vec<Arg>) -> Expr {
    Expr::Call { helper, args }
}

/// `@m[argument] += 1` as lowering writes it: in place, inserted when missing.
#[test]
fn counting_in_a_hash() {
    for kind in [MapKind::Hash, MapKind::PerCpuHash, MapKind::LruHash, MapKind::LruPerCpuHash] {
        let mut case = Case::new(3);
        let map = case.map("counts", kind, [8, 8, 128]);
        let key = case.slot(8, 8, Home::Stack);
        let fresh = case.slot(8, 8, Home::Stack);
        let value = case.ptr();
        let count = |number| {
            lookup(
                map,
                Place::slot(key),
                value,
                vec![
                    stmt(StmtKind::AtomicAdd {
                        to: Place::ptr(value),
                        size: 8,
                        value: constant(1),
                    }),
                    give(number, Expr::load(Place::ptr(value), 8, false)),
                ],
                vec![
                    store(Place::slot(fresh), 8, constant(1)),
                    give(
                        number,
                        call(
                            Helper::MapUpdateElem,
                            vec![
                                Arg::Map(map),
                                Arg::Address(Place::slot(key)),
                                Arg::Address(Place::slot(fresh)),
                                Arg::Value(constant(1)),
                            ],
                        ),
                    ),
                ],
            )
        };
        case.body(vec![
            store(Place::slot(key), 8, argument(0)),
            count(0),
            count(1),
            give(
                2,
                call(Helper::MapDeleteElem, vec![Arg::Map(map), Arg::Address(Place::slot(key))]),
            ),
        ]);
        assert_eq!(case.run(&[5]).words(), [0, 2, 0], "{kind:?}");
    }
}

#[test]
fn another_cpus_value() {
    if kernel() < (5, 19) {
        return;
    }
    let mut case = Case::new(1);
    let map = case.map("cells", MapKind::PerCpuArray, [4, 8, 2]);
    let key = case.slot(4, 4, Home::Stack);
    let value = case.ptr();
    let cell = |cpu, found| {
        stmt(StmtKind::Lookup {
            map,
            key: Place::slot(key),
            cpu,
            value,
            found,
            missing: vec![give(0, constant(-1))],
        })
    };
    let cpu = call(Helper::GetSmpProcessorId, vec![]);
    case.body(vec![
        store(Place::slot(key), 4, constant(1)),
        cell(None, vec![store(Place::ptr(value), 8, argument(0))]),
        cell(Some(cpu), vec![give(0, Expr::load(Place::ptr(value), 8, false))]),
    ]);
    assert_eq!(case.run(&[42]).words(), [42]);
}

#[test]
fn events_arrive_and_get_lost() {
    let mut case = Case::new(2);
    let ring = case.map("rt_events", MapKind::RingBuffer, [0, 0, 4096]);
    let record = case.ptr();
    let index = case.local("i");
    let event = |size: u32| {
        stmt(StmtKind::Event {
            map: ring,
            size,
            record,
            body: vec![
                store(Place::ptr(record), 4, constant(3)),
                store(Place::ptr(record).at(4), 4, constant(0)),
                store(Place::ptr(record).at(8), 8, argument(0)),
            ],
            lost: vec![give(0, add(Expr::load(Place::ptr(OUT), 8, false), constant(1)))],
        })
    };
    case.body(vec![
        give(0, constant(0)),
        event(16),
        stmt(StmtKind::ForRange {
            index,
            from: constant(0),
            to: constant(3),
            how: Rounds::PLAIN,
            body: vec![event(1496)],
        }),
        give(1, constant(1)),
    ]);
    let outcome = case.run(&[0x55]);
    let head = [3u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    let wanted = [head, 0x55u64.to_le_bytes().to_vec()].concat();
    assert_eq!(outcome.words(), [1, 1]);
    assert_eq!(outcome.events.iter().map(Vec::len).collect::<Vec<_>>(), [16, 1496, 1496]);
    assert_eq!(outcome.events[0], wanted);
}

/// Scratch memory is bound once, where it is needed; in a program that can be
/// preempted it is claimed and given back on every way out.
#[test]
fn scratch_memory_is_claimed_and_released() {
    let mut case = Case::new(2);
    let slot = case.slot(600, 8, Home::Scratch { offset: 8 });
    let body = vec![
        zero(Place::slot(slot), 600),
        store(Place::slot(slot).at(592), 8, argument(0)),
        when(
            binary(BinaryOp::Eq, argument(0), constant(2)),
            vec![stmt(StmtKind::Return(constant(7)))],
            vec![],
        ),
        give(0, Expr::load(Place::slot(slot).at(592), 8, false)),
    ];
    case.body(vec![give(0, constant(0)), when(argument(0), body, vec![]), give(1, constant(1))]);
    // A kprobe-like program that the kernel will test-run all the same: only the kind, which
    // decides about claiming, is another.
    case.module.programs[0].kind = ProgramKind::Uprobe;
    for (argument, words, result) in [(0, [0, 1], 0), (1, [1, 1], 0), (2, [0, 0], 7)] {
        let outcomes = case.run_all(&[[argument].as_slice(); 20]);
        for outcome in outcomes {
            let got: Vec<_> = outcome.words();
            assert_eq!((got[0], outcome.result), (words[0], result));
            assert!(got[1] == words[1] || argument == 2);
        }
    }
    // When every entry is taken, the run does nothing.
    let object = case.load(Cpu::V3);
    let scratch = object.maps().find(|m| m.name() == "rt_scratch").unwrap();
    assert_eq!((scratch.max_entries(), scratch.value_size()), (4, 616));
    let cpus = libbpf_rs::num_possible_cpus().unwrap();
    let mut taken = vec![0u8; 616];
    taken[608] = 1;
    let program = object.progs_mut().next().unwrap();
    let run = || {
        let mut context = [0u8; 96];
        context[0] = 2;
        let input = libbpf_rs::ProgramInput {
            context_in: Some(&mut context),
            ..libbpf_rs::ProgramInput::default()
        };
        program.test_run(input).unwrap().return_value
    };
    assert_eq!(run(), 7);
    for entry in 0..4u32 {
        let values = vec![taken.clone(); cpus];
        scratch.update_percpu(&entry.to_le_bytes(), &values, MapFlags::ANY).unwrap();
        assert_eq!(run(), if entry == 3 { 0 } else { 7 }, "{entry} entries taken");
    }
    for value in scratch.lookup_percpu(&[0; 4], MapFlags::ANY).unwrap().unwrap() {
        assert_eq!(value[608..], 1u64.to_le_bytes());
    }
}

#[test]
fn the_current_task_can_be_followed() {
    if kernel() < (5, 11) {
        return;
    }
    let mut case = Case::new(2);
    let task = call(Helper::GetCurrentTaskBtf, vec![]);
    let offset = tgid_offset();
    let typed =
        |signed| Expr::LoadTyped { pointer: Box::new(task.clone()), offset, size: 4, signed };
    case.body(vec![
        // Not merged into one load, now from the context, now from the task.
        when(argument(0), vec![give(0, typed(false))], vec![give(0, argument(1))]),
        give(1, typed(true)),
    ]);
    let tgid = i64::from(std::process::id());
    assert_eq!(case.run(&[0, 6]).words(), [6, tgid]);
    assert_eq!(case.run(&[1, 6]).words(), [tgid, tgid]);
}

/// A size that LLVM knows to be small enough is cut all the same, where the
/// verifier can see it.
#[test]
fn sizes_of_arguments_vary() {
    let mut case = Case::with_bytes(80);
    let text = case.rodata(&pattern(64));
    let length = case.local("length");
    let read = |size| {
        let args = vec![
            Arg::Address(Place::ptr(OUT).at(8)),
            size,
            Arg::Value(Expr::Address(Place::rodata(text))),
        ];
        call(Helper::ProbeReadKernel, args)
    };
    case.body(vec![
        zero(Place::ptr(OUT), 80),
        set(length, add(binary(BinaryOp::And, argument(0), constant(127)), argument(1))),
        when(
            binary(BinaryOp::ULt, local(length), constant(64)),
            vec![give(0, read(Arg::size(add(local(length), constant(1)), 64)))],
            vec![give(0, read(Arg::size(local(length), 32)))],
        ),
    ]);
    for (first, second, copied) in
        [(0, 0, 1), (5, 4, 10), (62, 1, 64), (63, 9, 32), (0, u64::MAX, 32)]
    {
        let out = case.run(&[first, second]).out;
        let mut wanted = vec![0; 80];
        wanted[8..8 + copied].copy_from_slice(&pattern(64)[..copied]);
        assert!(out == wanted, "{first} + {second}");
    }
}

/// An event's body must not be left, not even for want of scratch memory.
#[test]
fn scratch_memory_of_an_event() {
    for kind in [ProgramKind::Special, ProgramKind::Uprobe] {
        let mut case = Case::new(1);
        case.module.programs[0].kind = kind;
        let ring = case.map("rt_events", MapKind::RingBuffer, [0, 0, 4096]);
        let slot = case.slot(600, 8, Home::Scratch { offset: 0 });
        let record = case.ptr();
        let body = vec![
            store(Place::slot(slot).at(8), 8, argument(0)),
            copy(Place::ptr(record), Place::slot(slot).at(8), 8),
        ];
        let event = StmtKind::Event { map: ring, size: 8, record, body, lost: vec![] };
        case.body(vec![give(0, constant(1)), stmt(event)]);
        assert_eq!(case.run(&[6]).events, [6u64.to_le_bytes()]);
    }
}
