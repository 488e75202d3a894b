//! Tracepoints without the tracing file system: what the kernel's types tell of them, and what
//! system calls take, which is the same everywhere.
//!
//! Types name each tracepoint (`btf_trace_x`), but not its category, and have the record of those
//! that are alone in their class (`struct trace_event_raw_x`).

use super::Host;
use super::btf::Btf;
use super::syscalls;
use super::tracefs::{Event, Field, Format, Place};
use crate::parser::ast::TypeTag;
use crate::types::Type;

/// Names of calls, as tracepoints have them, and declarations of what they take, by the kernel's
/// `format` files. `name@arch` is for one architecture.
const CALLS: &str = include_str!("syscalls.txt");

/// Fields of the record of a system call start here, 8 bytes each (struct syscall_trace_enter).
const FIRST: u32 = 16;

/// Tracepoints of system calls, which are all that have a known category.
pub(super) fn events(host: &Host) -> Vec<Event> {
    let known = |name: &&str| syscalls::number(host.arch(), name).is_some();
    let names = CALLS.lines().map(name_of).filter(|n| !n.contains('@')).filter(known);
    let event = |name: String| Event { category: "syscalls".into(), name };
    let both = |call| ["sys_enter_", "sys_exit_"].map(|start| event(format!("{start}{call}")));
    let mut events: Vec<Event> = names.flat_map(both).collect();
    events.sort_unstable();
    events
}

/// Whether there is such a tracepoint; any category will do for those that are no system calls.
pub(super) fn has_event(host: &Host, btf: &Btf, category: &str, name: &str) -> bool {
    match call(category, name) {
        Some((_, call)) => syscalls::number(host.arch(), call).is_some(),
        None if category == "syscalls" => false,
        None => btf.raw_tracepoint_id(name).is_some(),
    }
}

/// The record of a tracepoint, if types tell it.
pub(super) fn format(host: &Host, btf: &Btf, category: &str, name: &str) -> Option<Format> {
    let number = field("int __syscall_nr", 8, 4)?;
    match call(category, name) {
        Some((true, call)) => {
            let own = format!("{call}@{}", host.arch().name);
            let line = |name: &str| CALLS.lines().find(|line| name_of(line) == name);
            let line = line(&own).or_else(|| line(call))?;
            let taken = line.split_once(": ").map_or("", |(_, taken)| taken);
            let taken = taken.split(", ").filter(|text| !text.is_empty()).zip(0..);
            let taken = taken.filter_map(|(text, n)| field(text, FIRST + 8 * n, 8));
            Some(Format { fields: std::iter::once(number).chain(taken).collect(), common: vec![] })
        }
        Some((false, _)) => {
            Some(Format { fields: vec![number, field("long ret", FIRST, 8)?], common: vec![] })
        }
        None => record(btf, name),
    }
}

/// Whether it is the entry of a system call, or its exit, and the call's name.
fn call<'n>(category: &str, name: &'n str) -> Option<(bool, &'n str)> {
    let name = name.strip_prefix("sys_").filter(|_| category == "syscalls")?;
    let entry = name.strip_prefix("enter_").map(|call| (true, call));
    entry.or_else(|| Some((false, name.strip_prefix("exit_")?)))
}

fn name_of(line: &str) -> &str {
    line.split_once(':').map_or(line, |(name, _)| name)
}

/// A field by its declaration.
fn field(text: &str, offset: u32, size: u32) -> Option<Field> {
    super::tracefs::parse_field(&format!("{text};\toffset:{offset};\tsize:{size};\tsigned:1;"))
}

fn record(btf: &Btf, name: &str) -> Option<Format> {
    let name = format!("trace_event_raw_{name}");
    let Type::Struct(record) = btf.find_type(Some(TypeTag::Struct), &name)? else { return None };
    let members = btf.members(record.id).into_iter();
    let fields = members.filter(|m| !["ent", "__data"].contains(&m.name.as_str())).map(|m| {
        let parts = [("__data_loc_", Place::DataLocation), ("__rel_loc_", Place::RelativeLocation)];
        let elsewhere = parts
            .iter()
            .find_map(|(start, place)| Some((m.name.strip_prefix(start)?.to_owned(), *place)));
        let (name, place) = elsewhere.unwrap_or((m.name, Place::Inline));
        let ty = m.ty.to_string();
        Field {
            text: format!("{ty} {name}"),
            name,
            ty: if place == Place::Inline { ty } else { "char".to_owned() },
            array: matches!(m.ty, Type::Array { .. } | Type::Str(_)),
            place,
            offset: m.offset,
            size: m.ty.size(),
            signed: m.ty.is_signed(),
            known: (place == Place::Inline).then_some(m.ty),
        }
    });
    Some(Format { fields: fields.collect(), common: vec![] })
}
