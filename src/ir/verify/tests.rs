//! The verifier, on modules that break one promise each.

use super::*;
use crate::host::arch::ARCHES;
use crate::ir::{
    Base, FunctionId, Index, Local, Place, ProgramKind, Rodata, RodataId, Rounds, SlotId,
};
use crate::source::Span;

const SLOT: SlotId = SlotId(0);
const LARGE: SlotId = SlotId(1);
const HASH: MapId = MapId(0);
const CELLS: MapId = MapId(1);
const RING: MapId = MapId(2);
const WORD: Expr = Expr::Const(1);

fn map(name: &str, kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> Map {
    Map { name: name.into(), kind, key_size, value_size, max_entries, flags: 0 }
}

/// A module that breaks nothing, with this body.
fn module(body: Vec<StmtKind>) -> Module {
    let body = stmts(body);
    let span = Span::default();
    Module {
        functions: vec![],
        foreign: vec![],
        programs: vec![Program {
            name: "main".into(),
            kind: ProgramKind::PerfEvent,
            section: "perf_event".into(),
            locals: vec![Local { name: "x".into(), number: false }],
            slots: vec![
                Slot { name: "small".into(), size: 8, align: 8, home: Home::Stack },
                Slot {
                    name: "large".into(),
                    size: 64,
                    align: 8,
                    home: Home::Scratch { offset: 0 },
                },
            ],
            ptrs: 4,
            lent: vec![],
            body,
            result: 0,
            span,
        }],
        maps: vec![
            map("hash", MapKind::Hash, 8, 16, 10),
            map("cells", MapKind::PerCpuArray, 4, 8, 10),
            map("ring", MapKind::RingBuffer, 0, 0, 4096),
        ],
        rodata: vec![Rodata { name: "text".into(), bytes: vec![1, 2, 3, 4], align: 1 }],
        losses: 16,
        params: vec![plan::Param::OwnPid],
        relocations: vec![],
        license: "GPL".into(),
        arch: &ARCHES[0],
    }
}

fn stmts(kinds: Vec<StmtKind>) -> Vec<Stmt> {
    kinds.into_iter().map(|kind| Stmt { kind, span: Span::default() }).collect()
}

fn store(to: Place, size: u8) -> StmtKind {
    StmtKind::Store { to, size, value: WORD }
}

fn lookup(map: MapId, key: Place, found: Vec<StmtKind>) -> StmtKind {
    StmtKind::Lookup { map, key, cpu: None, value: PtrId(0), found: stmts(found), missing: vec![] }
}

fn event(size: u32, body: Vec<StmtKind>) -> StmtKind {
    StmtKind::Event { map: RING, size, record: PtrId(1), body: stmts(body), lost: vec![] }
}

fn each(map: MapId, body: Vec<StmtKind>) -> StmtKind {
    StmtKind::ForMap { map, key: PtrId(2), value: PtrId(3), body: stmts(body) }
}

fn range(callback: bool, body: Vec<StmtKind>) -> StmtKind {
    let body = stmts(body);
    StmtKind::ForRange { index: LocalId(0), from: WORD, to: WORD, how: Rounds::by(callback), body }
}

fn place(base: Base, offset: u32) -> Place {
    Place { base, offset, index: None }
}

fn slot() -> Place {
    Place::slot(SLOT)
}

fn call(helper: Helper, args: Vec<Arg>) -> StmtKind {
    StmtKind::Eval(Expr::Call { helper, args })
}

fn boxed(expr: Expr) -> Box<Expr> {
    Box::new(expr)
}

/// The error of a module with this body.
fn broken(body: Vec<StmtKind>) -> String {
    verify(&module(body)).expect_err("it breaks a promise")
}

#[track_caller]
fn check(body: Vec<StmtKind>, wanted: &str) {
    assert_eq!(broken(body), format!("program `main`: {wanted}"));
}

#[track_caller]
fn check_module(change: impl FnOnce(&mut Module), wanted: &str) {
    let mut module = module(vec![]);
    change(&mut module);
    assert_eq!(verify(&module).expect_err("it breaks a promise"), wanted);
}

#[test]
fn good_modules_pass() {
    let body = vec![
        store(slot(), 8),
        lookup(
            HASH,
            slot(),
            vec![
                StmtKind::Copy { to: Place::ptr(PtrId(0)).at(8), from: slot(), size: 8 },
                StmtKind::AtomicAdd { to: Place::ptr(PtrId(0)), size: 8, value: WORD },
            ],
        ),
        event(16, vec![range(false, vec![StmtKind::Break])]),
        each(HASH, vec![store(Place::ptr(PtrId(3)), 8), StmtKind::Continue]),
        store(Place::slot(LARGE).indexed(WORD, 8, 8), 8),
        StmtKind::Set { local: LocalId(0), value: Expr::Param(0) },
        StmtKind::Return(Expr::load(Place::context(8), 8, false)),
    ];
    assert_eq!(verify(&module(body)), Ok(()));
}

#[test]
fn names() {
    let not_identifier = "the name is not a C identifier of at most 15 characters";
    check_module(|m| m.maps[0].name = "a-b".into(), &format!("map `a-b`: {not_identifier}"));
    check_module(
        |m| m.maps[0].name = "a234567890123456".into(),
        &format!("map `a234567890123456`: {not_identifier}"),
    );
    check_module(|m| m.maps[1].name = "hash".into(), "map `hash`: another map has this name");
    check_module(
        |m| m.maps[1].name = "rt_scratch".into(),
        "map `rt_scratch`: another map has this name",
    );
    check_module(
        |m| m.programs[0].name = "hash".into(),
        "program `hash`: another program or map has this name",
    );
    check_module(
        |m| m.programs[0].name = "1st".into(),
        "program `1st`: the name is not a C identifier",
    );
    check_module(
        |m| m.programs[0].section = String::new(),
        "program `main`: the section has no name",
    );
}

#[test]
fn sizes_of_maps() {
    check_module(|m| m.maps[0].key_size = 0, "map `hash`: a Hash cannot have sizes 0, 16, 10");
    check_module(
        |m| m.maps[1].key_size = 8,
        "map `cells`: a PerCpuArray cannot have sizes 8, 8, 10",
    );
    check_module(
        |m| m.maps[1].value_size = 40000,
        "map `cells`: a value per CPU cannot have 40000 bytes",
    );
    check_module(
        |m| m.maps[2].max_entries = 5000,
        "map `ring`: a RingBuffer cannot have sizes 0, 0, 5000",
    );
}

#[test]
fn constants_and_license() {
    check_module(|m| m.rodata[0].bytes.clear(), "constant `text`: is empty or badly aligned");
    check_module(|m| m.license.clear(), "the license is no text");
}

#[test]
fn ids() {
    check(vec![StmtKind::Set { local: LocalId(1), value: WORD }], "there is no local 1");
    check(vec![store(Place::slot(SlotId(2)), 8)], "there is no slot 2");
    check(vec![lookup(MapId(3), slot(), vec![])], "there is no map 3");
    check(
        vec![StmtKind::Eval(Expr::load(Place::rodata(RodataId(1)), 1, false))],
        "there is no constant 1",
    );
    check(vec![StmtKind::Eval(Expr::Param(1))], "there is no parameter 1");
    check(vec![store(Place::ptr(PtrId(4)), 8)], "pointer 4 is not bound");
}

#[test]
fn pointers_are_bound_where_they_are_used() {
    check(vec![store(Place::ptr(PtrId(0)), 8)], "pointer 0 is not bound");
    check(
        vec![lookup(HASH, slot(), vec![]), store(Place::ptr(PtrId(0)), 8)],
        "pointer 0 is not bound",
    );
    check(
        vec![lookup(HASH, slot(), vec![lookup(HASH, slot(), vec![])])],
        "pointer 0 is bound twice",
    );
}

#[test]
fn accesses_stay_inside() {
    check(vec![store(slot().at(1), 8)], "an access to Slot(SlotId(0)) ends at 9, beyond 8");
    check(
        vec![StmtKind::Zero { to: Place::slot(LARGE), size: 65 }],
        "an access to Slot(SlotId(1)) ends at 65, beyond 64",
    );
    check(
        vec![lookup(HASH, slot(), vec![store(Place::ptr(PtrId(0)).at(12), 8)])],
        "an access to Ptr(PtrId(0)) ends at 20, beyond 16",
    );
    check(
        vec![event(8, vec![store(Place::ptr(PtrId(1)).at(8), 1)])],
        "an access to Ptr(PtrId(1)) ends at 9, beyond 8",
    );
    check(
        vec![store(Place::slot(LARGE).indexed(WORD, 8, 9), 8)],
        "an access to Slot(SlotId(1)) ends at 72, beyond 64",
    );
    check(
        vec![StmtKind::Eval(Expr::load(Place::rodata(RodataId(0)).at(1), 4, false))],
        "an access to Rodata(RodataId(0)) ends at 5, beyond 4",
    );
    check(
        vec![lookup(HASH, Place::rodata(RodataId(0)), vec![])],
        "an access to Rodata(RodataId(0)) ends at 8, beyond 4",
    );
    let nothing = Place {
        index: Some(Box::new(Index { value: WORD, stride: 8, count: 0 })),
        ..Place::slot(LARGE)
    };
    check(vec![store(nothing, 8)], "an index into nothing");
}

#[test]
fn sizes_of_accesses() {
    check(vec![store(slot(), 3)], "an access of 3 bytes");
    check(vec![StmtKind::Eval(Expr::load(slot(), 16, false))], "an access of 16 bytes");
    let add = |to, size| StmtKind::AtomicAdd { to, size, value: WORD };
    check(vec![add(slot(), 2)], "an atomic access of 2 bytes is not aligned");
    check(vec![add(slot().at(2), 4)], "an atomic access of 4 bytes is not aligned");
    check(
        vec![add(Place::slot(LARGE).indexed(WORD, 4, 4), 8)],
        "an atomic access of 8 bytes is not aligned",
    );
}

#[test]
fn what_must_not_be_written() {
    check(vec![store(Place::context(0), 8)], "a write to Context");
    check(vec![store(Place::losses(16), 8)], "an access to Losses ends at 24, beyond 16");
    check(vec![store(Place::rodata(RodataId(0)), 4)], "a write to Rodata(RodataId(0))");
    check(vec![each(HASH, vec![store(Place::ptr(PtrId(2)), 8)])], "a write to Ptr(PtrId(2))");
}

#[test]
fn the_context_and_the_stack_take_no_index() {
    let index = |base| StmtKind::Eval(Expr::load(place(base, 0).indexed(WORD, 1, 2), 1, false));
    check(vec![index(Base::Context)], "an index into Context");
    check(vec![index(Base::Slot(SLOT))], "an index into Slot(SlotId(0))");
    check(
        vec![StmtKind::Eval(Expr::load(Place::context(4), 8, false))],
        "a load of 8 bytes at 4 of the context",
    );
}

#[test]
fn room() {
    check_module(
        |m| m.programs[0].slots[0].size = 401,
        "program `main`: 401 bytes do not fit the stack (400)",
    );
    check_module(
        |m| m.programs[0].slots[1].size = SCRATCH + 1,
        &format!("program `main`: slot `large` ends at {}, beyond {SCRATCH}", SCRATCH + 1),
    );
    check_module(
        |m| m.programs[0].slots[1].home = Home::Scratch { offset: 4 },
        "program `main`: slot `large` is not aligned",
    );
    check_module(
        |m| m.programs[0].slots[1].align = 3,
        "program `main`: slot `large` is empty or badly aligned",
    );
}

#[test]
fn ways_out() {
    check(vec![StmtKind::Break], "a break or continue is outside of a loop");
    check(
        vec![range(false, vec![event(8, vec![StmtKind::Continue])])],
        "a break or continue is outside of a loop",
    );
    check(vec![event(8, vec![StmtKind::Return(WORD)])], "an event's body returns");
    let deep = (0..=CALLBACK_DEPTH).fold(vec![], |body, _| vec![range(true, body)]);
    check(deep, "loops through callbacks are more than 6 deep");
}

#[test]
fn kinds_of_maps() {
    check(vec![lookup(RING, slot(), vec![])], "`ring` has no elements");
    check(vec![each(RING, vec![])], "`ring` has no elements");
    check(
        vec![StmtKind::Event { map: CELLS, size: 8, record: PtrId(1), body: vec![], lost: vec![] }],
        "`cells` takes no events",
    );
    check(vec![event(4096, vec![])], "an event of 4096 bytes never fits");
    let on_cpu = StmtKind::Lookup {
        map: HASH,
        key: slot(),
        cpu: Some(WORD),
        value: PtrId(0),
        found: vec![],
        missing: vec![],
    };
    check(vec![on_cpu], "`hash` has no value per CPU");
}

#[test]
fn helpers() {
    check(
        vec![call(Helper::KtimeGetNs, vec![Arg::Context])],
        "`ktime_get_ns` takes 0 arguments, not 1",
    );
    check(
        vec![call(Helper::OverrideReturn, vec![Arg::Context, Arg::Value(WORD)])],
        "`override_return` cannot be called in a PerfEvent program",
    );
    check(
        vec![call(Helper::MapDeleteElem, vec![Arg::Map(MapId(9)), Arg::Address(slot())])],
        "there is no map 9",
    );
}

#[test]
fn sizes_of_arguments() {
    let comm = |size| call(Helper::GetCurrentComm, vec![Arg::Address(slot()), size]);
    check(
        vec![comm(Arg::Value(Expr::Const(16)))],
        "an access to Slot(SlotId(0)) ends at 16, beyond 8",
    );
    check(
        vec![comm(Arg::Size { value: WORD, max: 9 })],
        "an access to Slot(SlotId(0)) ends at 9, beyond 8",
    );
    check(vec![comm(Arg::Value(Expr::Const(-1)))], "`get_current_comm` gets a negative size");
    let update = |map, value| {
        let args = vec![Arg::Map(map), Arg::Address(slot()), Arg::Address(value), Arg::Value(WORD)];
        call(Helper::MapUpdateElem, args)
    };
    check(vec![update(HASH, slot())], "an access to Slot(SlotId(0)) ends at 16, beyond 8");
    check(vec![update(RING, slot())], "`ring` has no elements");
}

#[test]
fn widths_and_divisors() {
    let extend = Expr::Extend { value: boxed(WORD), bits: 64, signed: true };
    check(vec![StmtKind::Eval(extend)], "an extension from 64 bits");
    let swap = Expr::ByteSwap { value: boxed(WORD), bits: 8 };
    check(vec![StmtKind::Eval(swap)], "a byte swap of 8 bits");
    let divide = Expr::binary(BinaryOp::SMod, WORD, Expr::Const(0));
    check(vec![StmtKind::Eval(divide)], "a division by zero");
}

#[test]
fn copies_do_not_overlap() {
    let large = Place::slot(LARGE);
    check(
        vec![StmtKind::Copy { to: large.at(8), from: large.clone(), size: 9 }],
        "a copy of 9 bytes overlaps itself",
    );
}

/// A function of `params` parameters with this body.
fn function(name: &str, params: u32, body: Vec<StmtKind>) -> Program {
    let mut function = module(body).programs.remove(0);
    function.name = name.into();
    function.section = String::new();
    function.kind = ProgramKind::Function { params };
    function.locals = vec![Local { name: "x".into(), number: false }; params.max(1) as usize];
    function
}

fn call_function(number: u32, args: Vec<Expr>) -> StmtKind {
    StmtKind::Eval(Expr::CallFunction { function: FunctionId(number), args })
}

#[test]
fn functions() {
    let with = |functions: Vec<Program>, body: Vec<StmtKind>| {
        let mut module = module(body);
        module.functions = functions;
        verify(&module)
    };
    let leaf = || function("leaf", 1, vec![StmtKind::Return(WORD)]);
    let caller = || function("caller", 0, vec![call_function(0, vec![WORD])]);
    assert_eq!(with(vec![leaf(), caller()], vec![call_function(1, vec![])]), Ok(()));
    for (functions, body, wanted) in [
        (vec![], vec![call_function(0, vec![])], "program `main`: function 0 cannot be called"),
        (
            vec![leaf()],
            vec![call_function(0, vec![])],
            "program `main`: `leaf` does not take 0 arguments",
        ),
        (vec![caller(), leaf()], vec![], "function `caller`: function 0 cannot be called"),
        (vec![leaf(), leaf()], vec![], "function `leaf`: another function or map has this name"),
        (vec![function("six", 6, vec![])], vec![], "function `six`: 6 parameters are too many"),
        (
            vec![function(
                "curious",
                0,
                vec![StmtKind::Eval(Expr::load(Place::context(0), 8, false))],
            )],
            vec![],
            "function `curious`: a function has no context",
        ),
    ] {
        assert_eq!(with(functions, body), Err(wanted.to_owned()));
    }
}
