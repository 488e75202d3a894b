//! What a module promises to code generation and to the kernel's verifier.
//!
//! Module
//! 1. Names of programs and maps are C identifiers and differ from each
//!    other; a map's name has at most 15 characters and is not that of the
//!    scratch map, which code generation adds.
//! 2. Sizes of maps are what their kind takes: a key of 4 bytes and a value
//!    for arrays, both for hashes, none for ring buffers, whose size is a power
//!    of two of at least a page; a value per CPU has at most 32 KiB.
//! 3. Constant bytes are not empty; alignments are powers of two.
//!
//! Programs
//! 4. Ids are in range. A pointer is used only where a statement binds it.
//! 5. Accesses lie in their slot, value, key, record or constant, for every
//!    value of an index; indices count at least one element.
//! 6. Sizes of accesses are 1, 2, 4 or 8; atomic ones 4 or 8, and aligned.
//! 7. The context is loaded from at constant, aligned offsets and never written;
//!    constants and keys of an iteration are not written either.
//! 8. An index is not into a stack slot: kernels before 5.12 refuse that.
//! 9. Stack slots take at most [`STACK`] bytes, scratch slots end within
//!    [`SCRATCH`].
//! 10. `Break` and `Continue` stand in a loop; the body of an event, and what
//!     holds on to an object of the kernel, leave neither themselves nor the program. Loops through callbacks nest at most
//!     [`CALLBACK_DEPTH`] deep.
//! 11. Lookups, iterations and events name a map of a kind that has them; a
//!     lookup on another CPU, one that has a value per CPU.
//! 12. Helpers get the number of arguments that they take, in programs of
//!     kinds that may call them, and at most five. A size, constant or bounded,
//!     that follows a place stays inside it; so do keys and values of maps.
//! 13. Widths of `Extend` are 8, 16 or 32, of `ByteSwap` 16, 32 or 64; no
//!     divisor is the constant zero.
//! 14. Functions have a name of their own, no context, and at most
//!     [`MAX_PARAMETERS`] parameters, their first locals; calls give as many
//!     arguments, and only go to functions that come earlier.
//! 15. Copies are between places that do not overlap, as far as constants
//!     tell.

mod place;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::{
    Arg, Base, BinaryOp, Expr, ForeignId, Helper, Home, LocalId, MAX_PARAMETERS, Map, MapId,
    MapKind, Module, Place, Program, ProgramKind, PtrId, Rounds, Slot, Stmt, StmtKind,
};
use crate::plan;

/// Bytes of stack that slots may take; the rest of the kernel's 512 is for
/// what callbacks share and for values that do not fit the registers.
pub const STACK: u32 = 400;

/// Bytes of a value per CPU (`PCPU_MIN_UNIT_SIZE`, linux/percpu.h).
pub const PER_CPU_VALUE: u32 = 32 * 1024;

/// Bytes of scratch memory of a program. Eight are for code generation.
pub const SCRATCH: u32 = 1024 * 1024 - 8;

/// Bytes of an object of the kernel, whose real size is not known here.
const OBJECT: u32 = 1 << 16;

/// Loops through callbacks inside each other (`MAX_CALL_FRAMES` is 8).
pub const CALLBACK_DEPTH: u32 = 6;

/// Checks a module; the error names the first broken promise.
///
/// # Errors
/// The program and what is wrong in it.
pub fn verify(module: &Module) -> Result<(), String> {
    let mut names = HashSet::from([plan::SCRATCH_MAP]);
    for map in &module.maps {
        check_map(map).map_err(|e| format!("map `{}`: {e}", map.name))?;
        if !names.insert(&map.name) {
            return Err(format!("map `{}`: another map has this name", map.name));
        }
    }
    for rodata in &module.rodata {
        if rodata.bytes.is_empty() || !rodata.align.is_power_of_two() {
            return Err(format!("constant `{}`: is empty or badly aligned", rodata.name));
        }
    }
    if module.license.is_empty() || module.license.contains('\0') {
        return Err("the license is no text".to_owned());
    }
    for (number, function) in module.functions.iter().enumerate() {
        let known = !names.insert(&function.name);
        check_function(module, number, function)
            .and_then(|()| ensure(!known, || "another function or map has this name".to_owned()))
            .map_err(|e| format!("function `{}`: {e}", function.name))?;
    }
    for program in &module.programs {
        let known = !names.insert(&program.name);
        check_program(module, program)
            .and_then(|()| ensure(!known, || "another program or map has this name".to_owned()))
            .map_err(|e| format!("program `{}`: {e}", program.name))?;
    }
    Ok(())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

fn check_map(map: &Map) -> Result<(), String> {
    ensure(is_identifier(&map.name) && map.name.len() <= 15, || {
        "the name is not a C identifier of at most 15 characters".to_owned()
    })?;
    let Map { key_size: key, value_size: value, max_entries: entries, .. } = *map;
    let sized = match map.kind {
        MapKind::RingBuffer => {
            key == 0 && value == 0 && entries >= 4096 && entries.is_power_of_two()
        }
        // It has an entry for each CPU of the machine that loads it.
        MapKind::PerfEventArray => key == 4 && value == 4 && entries == 0,
        MapKind::Array | MapKind::PerCpuArray => key == 4 && value > 0 && entries > 0,
        // `BPF_F_NO_PREALLOC` is a must.
        MapKind::LpmTrie => key > 4 && value > 0 && entries > 0 && map.flags == 1,
        MapKind::Hash | MapKind::LruHash | MapKind::PerCpuHash | MapKind::LruPerCpuHash => {
            key > 0 && value > 0 && entries > 0
        }
    };
    ensure(sized, || format!("a {:?} cannot have sizes {key}, {value}, {entries}", map.kind))?;
    ensure(!map.kind.per_cpu() || value <= PER_CPU_VALUE, || {
        format!("a value per CPU cannot have {value} bytes")
    })
}

fn check_program(module: &Module, program: &Program) -> Result<(), String> {
    ensure(is_identifier(&program.name), || "the name is not a C identifier".to_owned())?;
    ensure(!program.section.is_empty() && !program.section.contains('\0'), || {
        "the section has no name".to_owned()
    })?;
    ensure(program.kind.params().is_none(), || "a function is no program".to_owned())?;
    check_body(module, module.functions.len(), program)
}

fn check_function(module: &Module, number: usize, function: &Program) -> Result<(), String> {
    ensure(is_identifier(&function.name), || "the name is not a C identifier".to_owned())?;
    let params = function.kind.params().ok_or("a program is no function")?;
    let params = params as usize;
    ensure(params <= MAX_PARAMETERS && params <= function.locals.len(), || {
        format!("{params} parameters are too many")
    })?;
    check_body(module, number, function)
}

/// Checks all but the head of a program or function, which may call the
/// functions before `callable`.
fn check_body(module: &Module, callable: usize, program: &Program) -> Result<(), String> {
    let mut stack = 0;
    program.slots.iter().try_for_each(|slot| check_slot(slot, &mut stack))?;
    let mut checker = Checker {
        module,
        program,
        bound: vec![None; program.ptrs as usize],
        callable,
        loops: Vec::new(),
        callbacks: 0,
    };
    let params = program.kind.params().unwrap_or(0);
    for lent in &program.lent {
        ensure(lent.param < params, || format!("there is no parameter {}", lent.param))?;
        checker.bind(lent.ptr, Bound { size: lent.size, writable: true })?;
    }
    checker.block(&program.body)?;
    ensure(stack <= STACK, || format!("{stack} bytes do not fit the stack ({STACK})"))
}

fn check_slot(slot: &Slot, stack: &mut u32) -> Result<(), String> {
    ensure(slot.size > 0 && slot.align.is_power_of_two(), || {
        format!("slot `{}` is empty or badly aligned", slot.name)
    })?;
    match slot.home {
        Home::Stack => {
            *stack = stack.next_multiple_of(slot.align).saturating_add(slot.size);
            Ok(())
        }
        Home::Scratch { offset } => {
            ensure(offset % slot.align == 0, || format!("slot `{}` is not aligned", slot.name))?;
            let end = u64::from(offset) + u64::from(slot.size);
            ensure(end <= SCRATCH.into(), || {
                format!("slot `{}` ends at {end}, beyond {SCRATCH}", slot.name)
            })
        }
    }
}

/// What a pointer is bound to.
#[derive(Debug, Clone, Copy)]
struct Bound {
    size: u32,
    writable: bool,
}

/// What a jump out of the innermost construct would leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Loop,
    Event,
}

struct Checker<'a> {
    module: &'a Module,
    program: &'a Program,
    bound: Vec<Option<Bound>>,
    /// Functions before this one may be called.
    callable: usize,
    loops: Vec<Inside>,
    /// Loops through callbacks around the current statement.
    callbacks: u32,
}

impl Checker<'_> {
    fn block(&mut self, block: &[Stmt]) -> Result<(), String> {
        block.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), String> {
        match &stmt.kind {
            StmtKind::Set { local, value } => {
                self.local(*local)?;
                self.expr(value)
            }
            StmtKind::Store { to, size, value } => {
                self.expr(value)?;
                access_size(*size)?;
                self.write(to, (*size).into())
            }
            StmtKind::Copy { to, from, size } => {
                self.read(from, *size)?;
                self.write(to, *size)?;
                let apart = to.base != from.base
                    || to.index.is_some()
                    || from.index.is_some()
                    || to.offset.abs_diff(from.offset) >= *size;
                ensure(apart, || format!("a copy of {size} bytes overlaps itself"))
            }
            StmtKind::Zero { to, size } => self.write(to, *size),
            StmtKind::AtomicAdd { to, size, value } => {
                self.expr(value)?;
                self.write(to, (*size).into())?;
                ensure(matches!(size, 4 | 8) && self.align(to) >= u32::from(*size), || {
                    format!("an atomic access of {size} bytes is not aligned")
                })
            }
            StmtKind::Eval(value) => self.expr(value),
            StmtKind::If { cond, then, els } => {
                self.expr(cond)?;
                self.block(then)?;
                self.block(els)
            }
            StmtKind::Loop { body, .. } => self.inside(Inside::Loop, body),
            StmtKind::ForRange { index, from, to, how, body } => {
                self.local(*index)?;
                self.expr(from)?;
                self.expr(to)?;
                match how {
                    Rounds::Callback => self.callback(body),
                    Rounds::Plain { .. } => self.inside(Inside::Loop, body),
                }
            }
            StmtKind::ForMap { map, key, value, body } => {
                let map = self.map_of_elements(*map)?;
                let key_bound = Bound { size: map.key_size, writable: false };
                let value_bound = Bound { size: map.value_size, writable: true };
                self.bind(*key, key_bound)?;
                self.bind(*value, value_bound)?;
                self.callback(body)?;
                self.unbind(*key);
                self.unbind(*value);
                Ok(())
            }
            StmtKind::Break | StmtKind::Continue => {
                ensure(self.loops.last() == Some(&Inside::Loop), || {
                    "a break or continue is outside of a loop".to_owned()
                })
            }
            StmtKind::Return(value) => {
                self.expr(value)?;
                ensure(!self.loops.contains(&Inside::Event), || {
                    "an event's body returns".to_owned()
                })
            }
            StmtKind::Lookup { map, key, cpu, value, found, missing } => {
                let map = self.map_of_elements(*map)?;
                self.read(key, map.key_size)?;
                if let Some(cpu) = cpu {
                    self.expr(cpu)?;
                    ensure(map.kind.per_cpu(), || format!("`{}` has no value per CPU", map.name))?;
                }
                self.bind(*value, Bound { size: map.value_size, writable: true })?;
                self.block(found)?;
                self.unbind(*value);
                self.block(missing)
            }
            StmtKind::Acquire { arg, value, found, missing, .. } => {
                self.expr(arg)?;
                self.bind(*value, Bound { size: OBJECT, writable: false })?;
                self.inside(Inside::Event, found)?;
                self.unbind(*value);
                self.block(missing)
            }
            StmtKind::Borrow { function, args, size, value, body } => {
                self.call_foreign(*function, args)?;
                self.bind(*value, Bound { size: *size, writable: true })?;
                self.block(body)?;
                self.unbind(*value);
                Ok(())
            }
            StmtKind::Event { map, size, record, body, lost } => {
                let map = self.map(*map)?;
                ensure(map.kind == MapKind::RingBuffer, || {
                    format!("`{}` takes no events", map.name)
                })?;
                ensure(*size > 0 && *size < map.max_entries, || {
                    format!("an event of {size} bytes never fits")
                })?;
                self.bind(*record, Bound { size: *size, writable: true })?;
                self.inside(Inside::Event, body)?;
                self.unbind(*record);
                self.block(lost)
            }
        }
    }

    fn call_foreign(&self, function: ForeignId, args: &[Expr]) -> Result<(), String> {
        let number = function.0 as usize;
        let callee = self.module.foreign.get(number);
        let callee = callee.ok_or_else(|| format!("there is no foreign {number}"))?;
        let takes = &callee.prototype.params;
        ensure(takes.len() == args.len() && takes.len() <= MAX_PARAMETERS, || {
            format!("`{}` takes {} arguments", callee.name, takes.len())
        })?;
        args.iter().try_for_each(|a| self.expr(a))
    }

    fn inside(&mut self, what: Inside, body: &[Stmt]) -> Result<(), String> {
        self.loops.push(what);
        self.block(body)?;
        self.loops.pop();
        Ok(())
    }

    fn callback(&mut self, body: &[Stmt]) -> Result<(), String> {
        self.callbacks += 1;
        ensure(self.callbacks <= CALLBACK_DEPTH, || {
            format!("loops through callbacks are more than {CALLBACK_DEPTH} deep")
        })?;
        self.inside(Inside::Loop, body)?;
        self.callbacks -= 1;
        Ok(())
    }

    fn bind(&mut self, ptr: PtrId, to: Bound) -> Result<(), String> {
        let known = self.bound.get_mut(ptr.0 as usize);
        let known = known.ok_or_else(|| format!("there is no pointer {}", ptr.0))?;
        ensure(known.is_none(), || format!("pointer {} is bound twice", ptr.0))?;
        *known = Some(to);
        Ok(())
    }

    fn unbind(&mut self, ptr: PtrId) {
        if let Some(known) = self.bound.get_mut(ptr.0 as usize) {
            *known = None;
        }
    }

    fn local(&self, id: LocalId) -> Result<(), String> {
        ensure((id.0 as usize) < self.program.locals.len(), || {
            format!("there is no local {}", id.0)
        })
    }

    fn context(&self) -> Result<(), String> {
        ensure(self.program.kind.params().is_none(), || "a function has no context".to_owned())
    }

    fn map(&self, id: MapId) -> Result<&Map, String> {
        self.module.maps.get(id.0 as usize).ok_or_else(|| format!("there is no map {}", id.0))
    }

    /// A map that has keys and values.
    fn map_of_elements(&self, id: MapId) -> Result<&Map, String> {
        let map = self.map(id)?;
        ensure(map.kind != MapKind::RingBuffer, || format!("`{}` has no elements", map.name))?;
        Ok(map)
    }

    fn expr(&self, expr: &Expr) -> Result<(), String> {
        match expr {
            Expr::Const(_) => Ok(()),
            Expr::Local(local) => self.local(*local),
            Expr::Binary(op, left, right) => {
                self.expr(left)?;
                self.expr(right)?;
                let divides =
                    matches!(op, BinaryOp::UDiv | BinaryOp::UMod | BinaryOp::SDiv | BinaryOp::SMod);
                ensure(!(divides && **right == Expr::Const(0)), || "a division by zero".to_owned())
            }
            Expr::Extend { value, bits, .. } => {
                self.expr(value)?;
                ensure(matches!(bits, 8 | 16 | 32), || format!("an extension from {bits} bits"))
            }
            Expr::Unknown(value) => self.expr(value),
            Expr::ByteSwap { value, bits } => {
                self.expr(value)?;
                ensure(matches!(bits, 16 | 32 | 64), || format!("a byte swap of {bits} bits"))
            }
            Expr::Select { cond, then, els } => {
                self.expr(cond)?;
                self.expr(then)?;
                self.expr(els)
            }
            Expr::Load { from, size, .. } => {
                access_size(*size)?;
                ensure(from.base != Base::Context || from.offset % u32::from(*size) == 0, || {
                    format!("a load of {size} bytes at {} of the context", from.offset)
                })?;
                self.read(from, (*size).into())
            }
            Expr::LoadTyped { pointer, size, .. } => {
                access_size(*size)?;
                self.expr(pointer)
            }
            Expr::Address(place) => self.read(place, 0),
            Expr::MapAddress(map) => self.map(*map).map(|_| ()),
            Expr::MapLength(map) => self.map_of_elements(*map).map(|_| ()),
            Expr::Call { helper, args } => self.call(*helper, args),
            Expr::CallFunction { function, args } => {
                let number = function.0 as usize;
                let callee = self.module.functions.get(number).filter(|_| number < self.callable);
                let callee = callee.ok_or_else(|| format!("function {number} cannot be called"))?;
                let count = u32::try_from(args.len()).unwrap_or(u32::MAX);
                ensure(callee.kind == ProgramKind::Function { params: count }, || {
                    format!("`{}` does not take {count} arguments", callee.name)
                })?;
                for (number, arg) in (0..).zip(args) {
                    match (callee.lent.iter().find(|l| l.param == number), arg) {
                        (Some(lent), Expr::Address(place)) => self.write(place, lent.size)?,
                        (Some(_), _) => return Err(format!("argument {number} is no memory")),
                        (None, _) => self.expr(arg)?,
                    }
                }
                Ok(())
            }
            Expr::CallForeign { function, args } => self.call_foreign(*function, args),
            Expr::Param(number) => ensure((*number as usize) < self.module.params.len(), || {
                format!("there is no parameter {number}")
            }),
            Expr::Reloc(number) => {
                ensure((*number as usize) < self.module.relocations.len(), || {
                    format!("there is no relocation {number}")
                })
            }
        }
    }

    fn call(&self, helper: Helper, args: &[Arg]) -> Result<(), String> {
        let info = helper.info();
        let name = info.name;
        ensure(args.len() == info.args && args.len() <= 5, || {
            format!("`{name}` takes {} arguments, not {}", info.args, args.len())
        })?;
        ensure(info.only.is_empty() || info.only.contains(&self.program.kind), || {
            format!("`{name}` cannot be called in a {:?} program", self.program.kind)
        })?;
        let before = std::iter::once(None).chain(args.iter().map(Some));
        for (arg, before) in args.iter().zip(before) {
            match arg {
                Arg::Value(Expr::Const(size)) if sizes(helper) => {
                    if let Some(Arg::Address(place)) = before {
                        let size = u32::try_from(*size);
                        let size = size.map_err(|_| format!("`{name}` gets a negative size"))?;
                        self.read(place, size)?;
                    }
                }
                Arg::Value(value) => self.expr(value)?,
                Arg::Address(place) => self.read(place, 0)?,
                Arg::Size { value, max } => {
                    self.expr(value)?;
                    let Some(Arg::Address(place)) = before else {
                        return Err(format!("`{name}` gets the size of nothing"));
                    };
                    self.read(place, *max)?;
                }
                Arg::Map(map) => {
                    self.map(*map)?;
                }
                Arg::Context => self.context()?,
            }
        }
        if let [Arg::Map(map), Arg::Address(key), rest @ ..] = args
            && matches!(helper, Helper::MapUpdateElem | Helper::MapDeleteElem)
        {
            let map = self.map_of_elements(*map)?;
            self.read(key, map.key_size)?;
            if let [Arg::Address(value), _] = rest {
                self.read(value, map.value_size)?;
            }
        }
        Ok(())
    }
}

/// Whether a number after an address is the size of what lies there.
fn sizes(helper: Helper) -> bool {
    match helper {
        Helper::GetCurrentComm
        | Helper::GetFuncRet
        | Helper::GetNsCurrentPidTgid
        | Helper::ProbeReadKernel
        | Helper::ProbeReadUser
        | Helper::ProbeReadKernelStr
        | Helper::ProbeReadUserStr
        | Helper::ProbeWriteUser
        | Helper::GetStack
        | Helper::SkbOutput
        | Helper::DPath
        | Helper::RingbufOutput
        | Helper::SeqPrintf
        | Helper::SeqWrite
        | Helper::TracePrintk => true,
        Helper::KtimeGetNs
        | Helper::KtimeGetBootNs
        | Helper::KtimeGetTaiNs
        | Helper::Jiffies64
        | Helper::GetCurrentPidTgid
        | Helper::GetCurrentUidGid
        | Helper::GetCurrentTask
        | Helper::GetCurrentTaskBtf
        | Helper::TaskPtRegs
        | Helper::GetCurrentCgroupId
        | Helper::GetCurrentAncestorCgroupId
        | Helper::GetSmpProcessorId
        | Helper::GetNumaNodeId
        | Helper::GetPrandomU32
        | Helper::MapUpdateElem
        | Helper::MapDeleteElem
        | Helper::GetFuncIp
        | Helper::GetAttachCookie
        | Helper::SendSignal
        | Helper::SendSignalThread
        | Helper::OverrideReturn
        | Helper::GetSocketCookie => false,
    }
}

fn access_size(size: u8) -> Result<(), String> {
    ensure(matches!(size, 1 | 2 | 4 | 8), || format!("an access of {size} bytes"))
}
