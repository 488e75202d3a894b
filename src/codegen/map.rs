//! Maps: globals in `.maps` whose BTF says what they are, as libbpf reads it
//! (`__uint` and `__type` of bpf_helpers.h).

use inkwell::AddressSpace;
use inkwell::context::Context;
use inkwell::module::Module;

use super::builder::Pointer;
use super::debug::{Debug, Meta};
use super::object::Part;
use super::program::{CLAIMED_ENTRIES, ScratchMap, preemptible};
use crate::ir::verify::PER_CPU_VALUE;
use crate::ir::{Home, Map, MapKind, Module as IrModule, Program, Use};
use crate::plan::{self, MapValue, Plan};
use crate::types::Aggregation;

/// Adds a map to the LLVM module.
pub(super) fn emit<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    debug: &Debug<'c>,
    map: &Map,
    plan: &Plan,
    part: Part,
) -> Pointer<'c> {
    let number = |n: u32| debug.pointer(Some(debug.array(debug.int(4, true), 4, n.into())));
    let mut fields = vec![("type", number(map.kind.number()))];
    if map.flags != 0 {
        fields.push(("map_flags", number(map.flags)));
    }
    if map.kind != MapKind::RingBuffer {
        let (key, value) = types(debug, map, plan);
        fields.push(("key", debug.pointer(Some(key))));
        fields.push(("value", debug.pointer(Some(value))));
    }
    fields.push(("max_entries", number(map.max_entries)));
    let members: Vec<_> =
        (0..).zip(&fields).map(|(at, (name, ty))| ((*name).to_owned(), 8 * at, 8, *ty)).collect();
    let size = 8 * u32::try_from(fields.len()).expect("bug: a map has few fields");
    let ty = context.ptr_type(AddressSpace::default()).array_type(size / 8);
    let global = llvm.add_global(ty, None, &map.name);
    if part.defines() {
        global.set_initializer(&ty.const_zero());
    }
    global.set_section(Some(".maps"));
    global.set_alignment(8);
    debug.global(global, debug.structure(size.into(), &members));
    global.as_pointer_value()
}

/// Types of key and value: what the plan says, if it says the right size.
fn types<'c>(debug: &Debug<'c>, map: &Map, plan: &Plan) -> (Meta<'c>, Meta<'c>) {
    let (mut key, mut value) = (debug.bytes(map.key_size), debug.bytes(map.value_size));
    let Some(known) = plan.maps.iter().find(|m| m.bpf_name == map.name) else {
        return (key, value);
    };
    if let Some(layout) = known.key.as_ref().filter(|k| k.size() == map.key_size) {
        key = debug.layout(layout);
    }
    let ty = match &known.value {
        MapValue::Plain(layout) => Some((layout.size(), debug.layout(layout))),
        MapValue::Aggregate(Aggregation::Count) => Some((8, debug.int(8, false))),
        MapValue::Aggregate(_) => None,
    };
    let set = known.set_offset();
    match ty {
        Some((size, ty)) if size == map.value_size => value = ty,
        Some((size, ty)) if set.is_some_and(|at| at >= size && at + 8 == map.value_size) => {
            let at = u64::from(set.unwrap_or_default());
            let members = [
                ("value".to_owned(), 0, u64::from(size), ty),
                ("set".to_owned(), at, 8, debug.int(8, false)),
            ];
            value = debug.structure(map.value_size.into(), &members);
        }
        Some(_) | None => {}
    }
    (key, value)
}

/// Adds the map of large temporaries, if a program has some.
pub(super) fn emit_scratch<'c>(
    context: &'c Context,
    llvm: &Module<'c>,
    debug: &Debug<'c>,
    module: &IrModule,
    plan: &Plan,
    part: Part,
) -> Option<ScratchMap<'c>> {
    let mut entries = 0;
    let mut first = Vec::new();
    let mut size = 0;
    for program in module.bodies() {
        first.push(entries);
        if let Some(needs) = scratch_size(program) {
            size = size.max(needs.next_multiple_of(8));
            entries += match preemptible(program.kind) {
                true => CLAIMED_ENTRIES,
                false => 1,
            };
        }
    }
    if entries == 0 {
        return None;
    }
    let mut all = module.bodies();
    let claims = all.any(|p| preemptible(p.kind) && scratch_size(p).is_some());
    let value_size = size + if claims { 8 } else { 0 };
    // A value per CPU is limited; one of all CPUs together is not. The run side
    // makes as many of those as there are CPUs.
    let shared = value_size > PER_CPU_VALUE;
    let map = Map {
        name: plan::SCRATCH_MAP.into(),
        kind: if shared { MapKind::Array } else { MapKind::PerCpuArray },
        key_size: 4,
        value_size,
        max_entries: entries,
        flags: 0,
    };
    let map = emit(context, llvm, debug, &map, plan, part);
    Some(ScratchMap { map, busy: size, first, each_cpu: shared.then_some(entries) })
}

/// Bytes of scratch memory that a program uses, if it uses any.
fn scratch_size(program: &Program) -> Option<u32> {
    let mut size = None;
    for stmt in &program.body {
        stmt.all_uses(&mut |used| {
            let Use::Slot(slot) = used else { return };
            let Some(slot) = program.slots.get(slot.0 as usize) else { return };
            if let Home::Scratch { offset } = slot.home {
                size = Some(size.unwrap_or(0).max(offset + slot.size));
            }
        });
    }
    size
}
