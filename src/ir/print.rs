//! The IR as text: one statement per line, inner statements indented. What
//! `--emit ir` shows, and what the `.ir` goldens hold.
//!
//! Places are in brackets: a slot's name, `p0` for a bound pointer, `ctx`, or
//! `&` and the name of constant bytes. Memory accesses say size and sign
//! (`u32[key+4]`); operators do where it matters (`/s`, `>>u`, `<s`).

use std::collections::HashMap;
use std::fmt::Write;

use super::{
    Arg, Base, BinaryOp, Expr, Home, LocalId, Map, MapId, MapKind, Module, Place, Program,
    ProgramKind, Rodata, RodataId, Rounds, SlotId, Stmt, StmtKind,
};
use crate::plan::Param;
use crate::plan::portable::Part;

/// The module as `--emit ir` shows it.
pub fn print(module: &Module) -> String {
    let mut printer = Printer {
        module,
        locals: Vec::new(),
        slots: Vec::new(),
        rodata: unique(module.rodata.iter().map(|r| r.name.as_str())),
        out: String::new(),
    };
    printer.module();
    printer.out
}

struct Printer<'a> {
    module: &'a Module,
    /// Names of the current program's locals and slots.
    locals: Vec<String>,
    slots: Vec<String>,
    rodata: Vec<String>,
    out: String,
}

/// The names, with their number behind those that occur twice or are empty.
fn unique<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for name in names.clone() {
        *counts.entry(name).or_default() += 1;
    }
    let number = |(n, name): (usize, &str)| match counts.get(name) {
        Some(1) if !name.is_empty() => name.to_owned(),
        Some(_) | None => format!("{name}#{n}"),
    };
    names.enumerate().map(number).collect()
}

/// The name behind an id, also if there is none.
fn name(names: &[String], id: u32) -> &str {
    names.get(id as usize).map_or("?", String::as_str)
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let blanks = "  ".repeat(depth);
        writeln!(self.out, "{blanks}{text}").expect("bug: a string takes all");
    }

    fn module(&mut self) {
        let module = self.module;
        self.line(0, &format!("arch {}", module.arch.name));
        self.line(0, &format!("license {:?}", module.license));
        for param in &module.params {
            self.line(0, &format!("param {}", param_name(*param)));
        }
        for map in &module.maps {
            self.line(0, &map_text(map));
        }
        if module.losses > 0 {
            self.line(0, &format!("losses {}", module.losses));
        }
        for (number, rodata) in module.rodata.iter().enumerate() {
            let name = self.rodata.get(number).cloned().unwrap_or_default();
            self.line(0, &format!("rodata {name} {}", rodata_text(rodata)));
        }
        for program in module.bodies() {
            self.out.push('\n');
            self.program(program);
        }
    }

    fn program(&mut self, program: &Program) {
        self.locals = unique(program.locals.iter().map(|l| l.name.as_str()));
        self.slots = unique(program.slots.iter().map(|s| s.name.as_str()));
        let kind = kind_name(program.kind);
        let head = match program.kind.params() {
            Some(params) => {
                let param = |p| match program.lent.iter().find(|l| l.param == p) {
                    Some(lent) => format!("p{}[{}]", lent.ptr.0, lent.size),
                    None => self.local(LocalId(p)).to_owned(),
                };
                let params: Vec<_> = (0..params).map(param).collect();
                format!("function {}({})", program.name, params.join(", "))
            }
            None => format!("program {} {kind} {:?}", program.name, program.section),
        };
        self.line(0, &format!("{head} result {}", program.result));
        for (number, slot) in program.slots.iter().enumerate() {
            let name = self.slots.get(number).cloned().unwrap_or_default();
            let home = match slot.home {
                Home::Stack => "stack".to_owned(),
                Home::Scratch { offset } => format!("scratch+{offset}"),
            };
            self.line(1, &format!("slot {name} {} align {} {home}", slot.size, slot.align));
        }
        self.block(1, &program.body);
    }

    fn block(&mut self, depth: usize, block: &[Stmt]) {
        for stmt in block {
            self.stmt(depth, stmt);
        }
    }

    fn stmt(&mut self, depth: usize, stmt: &Stmt) {
        let text = match &stmt.kind {
            StmtKind::Set { local, value } => {
                format!("{} = {}", self.local(*local), self.whole(value))
            }
            StmtKind::Store { to, size, value } => {
                format!("u{}{} = {}", 8 * u32::from(*size), self.place(to), self.whole(value))
            }
            StmtKind::Copy { to, from, size } => {
                format!("copy {} <- {}, {size}", self.place(to), self.place(from))
            }
            StmtKind::Zero { to, size } => format!("zero {}, {size}", self.place(to)),
            StmtKind::AtomicAdd { to, size, value } => {
                let bits = 8 * u32::from(*size);
                format!("atomic u{bits}{} += {}", self.place(to), self.whole(value))
            }
            StmtKind::Eval(value) => format!("eval {}", self.whole(value)),
            StmtKind::If { cond, .. } => format!("if {}", self.whole(cond)),
            StmtKind::Loop { copies, .. } => format!("loop{}", in_copies(*copies)),
            StmtKind::ForRange { index, from, to, how, .. } => {
                let how = match how {
                    Rounds::Callback => " by callback".to_owned(),
                    Rounds::Plain { copies } => in_copies(*copies),
                };
                let index = self.local(*index);
                format!("for {index} in {}..{}{how}", self.expr(from), self.expr(to))
            }
            StmtKind::ForMap { map, key, value, .. } => {
                format!("for p{}, p{} in {}", key.0, value.0, self.map(*map))
            }
            StmtKind::Break => "break".to_owned(),
            StmtKind::Continue => "continue".to_owned(),
            StmtKind::Return(value) => format!("return {}", self.whole(value)),
            StmtKind::Lookup { map, key, cpu, value, .. } => {
                let cpu = cpu.as_ref().map(|c| format!(" on {}", self.whole(c)));
                let (map, key) = (self.map(*map), self.place(key));
                format!("lookup {map}{key}{} as p{}", cpu.unwrap_or_default(), value.0)
            }
            StmtKind::Acquire { kfunc, arg, value, .. } => {
                format!("acquire {}({}) as p{}", kfunc.name(), self.whole(arg), value.0)
            }
            StmtKind::Borrow { function, args, size, value, .. } => {
                let call = Expr::CallForeign { function: *function, args: args.clone() };
                format!("borrow {} {size} as p{}", self.expr(&call), value.0)
            }
            StmtKind::Event { map, size, record, .. } => {
                format!("event {} {size} as p{}", self.map(*map), record.0)
            }
        };
        self.line(depth, &text);
        let [first, second] = stmt.blocks();
        self.block(depth + 1, first);
        if !second.is_empty() {
            self.line(depth, second_name(&stmt.kind));
            self.block(depth + 1, second);
        }
    }

    fn local(&self, id: LocalId) -> &str {
        name(&self.locals, id.0)
    }

    fn map(&self, id: MapId) -> &str {
        self.module.maps.get(id.0 as usize).map_or("?", |m| m.name.as_str())
    }

    fn place(&self, place: &Place) -> String {
        let base = match place.base {
            Base::Slot(SlotId(id)) => name(&self.slots, id).to_owned(),
            Base::Ptr(id) => format!("p{}", id.0),
            Base::Context => "ctx".to_owned(),
            Base::Rodata(RodataId(id)) => format!("&{}", name(&self.rodata, id)),
            Base::Losses => "losses".to_owned(),
            Base::Params => "params".to_owned(),
        };
        let offset = match place.offset {
            0 => String::new(),
            n => format!("+{n}"),
        };
        let index = place.index.as_ref().map(|i| {
            let value = self.expr(&i.value);
            format!(" + {value}*{} of {}", i.stride, i.count)
        });
        format!("[{base}{offset}{}]", index.unwrap_or_default())
    }

    /// An expression that needs no parentheses where it stands.
    fn whole(&self, expr: &Expr) -> String {
        match expr {
            Expr::Binary(op, left, right) => {
                format!("{} {} {}", self.expr(left), operator(*op), self.expr(right))
            }
            Expr::Const(_)
            | Expr::Local(_)
            | Expr::Extend { .. }
            | Expr::Unknown(_)
            | Expr::ByteSwap { .. }
            | Expr::Select { .. }
            | Expr::Load { .. }
            | Expr::LoadTyped { .. }
            | Expr::Address(_)
            | Expr::MapAddress(_)
            | Expr::MapLength(_)
            | Expr::Call { .. }
            | Expr::CallFunction { .. }
            | Expr::CallForeign { .. }
            | Expr::Param(_)
            | Expr::Reloc(_) => self.expr(expr),
        }
    }

    fn expr(&self, expr: &Expr) -> String {
        let sign = |signed: bool| if signed { "s" } else { "u" };
        match expr {
            Expr::Const(value) => value.to_string(),
            Expr::Local(local) => self.local(*local).to_owned(),
            Expr::Binary(..) => format!("({})", self.whole(expr)),
            Expr::Extend { value, bits, signed } => {
                format!("{}{bits}({})", sign(*signed), self.whole(value))
            }
            Expr::Unknown(value) => format!("unknown({})", self.whole(value)),
            Expr::ByteSwap { value, bits } => format!("swap{bits}({})", self.whole(value)),
            Expr::Select { cond, then, els } => {
                let [cond, then, els] = [cond, then, els].map(|e| self.whole(e));
                format!("select({cond}, {then}, {els})")
            }
            Expr::Load { from, size, signed } => {
                format!("{}{}{}", sign(*signed), 8 * u32::from(*size), self.place(from))
            }
            Expr::LoadTyped { pointer, offset, size, signed } => {
                let access = format!("{}{}", sign(*signed), 8 * u32::from(*size));
                format!("typed {access}[{}+{offset}]", self.expr(pointer))
            }
            Expr::Address(place) => format!("address{}", self.place(place)),
            Expr::MapAddress(map) => format!("address {}", self.map(*map)),
            Expr::MapLength(map) => format!("length {}", self.map(*map)),
            Expr::Call { helper, args } => {
                let args: Vec<_> = args.iter().map(|a| self.arg(a)).collect();
                format!("{}({})", helper.info().name, args.join(", "))
            }
            Expr::CallFunction { function, args } => {
                let name = self.module.functions.get(function.0 as usize);
                let args: Vec<_> = args.iter().map(|a| self.whole(a)).collect();
                format!("{}({})", name.map_or("?", |f| f.name.as_str()), args.join(", "))
            }
            Expr::CallForeign { function, args } => {
                let name = self.module.foreign.get(function.0 as usize);
                let args: Vec<_> = args.iter().map(|a| self.whole(a)).collect();
                format!("{}({})", name.map_or("?", |f| f.name.as_str()), args.join(", "))
            }
            Expr::Param(number) => {
                let param = self.module.params.get(*number as usize);
                param.map_or("?", |p| param_name(*p)).to_owned()
            }
            Expr::Reloc(number) => {
                let row = self.module.relocations.get(*number as usize);
                row.map_or("?".to_owned(), |row| format!("<{row}>"))
            }
        }
    }

    fn arg(&self, arg: &Arg) -> String {
        match arg {
            Arg::Value(value) => self.whole(value),
            Arg::Address(place) => self.place(place),
            Arg::Size { value, max } => format!("{} of {max}", self.whole(value)),
            Arg::Map(map) => self.map(*map).to_owned(),
            Arg::Context => "ctx".to_owned(),
        }
    }
}

/// What stands before the second block of a statement.
fn second_name(kind: &StmtKind) -> &'static str {
    match kind {
        StmtKind::Lookup { .. } | StmtKind::Acquire { .. } => "missing",
        StmtKind::Event { .. } => "lost",
        StmtKind::If { .. }
        | StmtKind::Set { .. }
        | StmtKind::Store { .. }
        | StmtKind::Copy { .. }
        | StmtKind::Zero { .. }
        | StmtKind::AtomicAdd { .. }
        | StmtKind::Eval(_)
        | StmtKind::Loop { .. }
        | StmtKind::ForRange { .. }
        | StmtKind::ForMap { .. }
        | StmtKind::Borrow { .. }
        | StmtKind::Break
        | StmtKind::Continue
        | StmtKind::Return(_) => "else",
    }
}

fn map_text(map: &Map) -> String {
    let kind = match map.kind {
        MapKind::Hash => "hash",
        MapKind::LruHash => "lru_hash",
        MapKind::PerCpuHash => "percpu_hash",
        MapKind::LruPerCpuHash => "lru_percpu_hash",
        MapKind::Array => "array",
        MapKind::PerCpuArray => "percpu_array",
        MapKind::LpmTrie => "lpm_trie",
        MapKind::RingBuffer => "ringbuf",
        MapKind::PerfEventArray => "perf_event_array",
    };
    let flags = match map.flags {
        0 => String::new(),
        flags => format!(" flags {flags:#x}"),
    };
    let Map { name, key_size, value_size, max_entries, .. } = map;
    match map.kind {
        MapKind::RingBuffer => format!("map {name} {kind} {max_entries}{flags}"),
        MapKind::Hash
        | MapKind::LruHash
        | MapKind::PerCpuHash
        | MapKind::LruPerCpuHash
        | MapKind::Array
        | MapKind::PerCpuArray
        | MapKind::LpmTrie
        | MapKind::PerfEventArray => {
            format!("map {name} {kind} key {key_size} value {value_size} max {max_entries}{flags}")
        }
    }
}

fn rodata_text(rodata: &Rodata) -> String {
    let printable = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    let text = rodata.bytes.iter().rposition(|b| *b != 0).and_then(|end| rodata.bytes.get(..=end));
    let bytes = match text {
        Some(text) if text.iter().all(printable) => {
            format!("{:?}", String::from_utf8_lossy(text))
        }
        Some(_) => rodata.bytes.iter().map(|b| format!("{b:02x}")).collect(),
        None => "zero".to_owned(),
    };
    format!("{} align {} {bytes}", rodata.bytes.len(), rodata.align)
}

fn kind_name(kind: ProgramKind) -> &'static str {
    match kind {
        ProgramKind::Special => "special",
        ProgramKind::Kprobe => "kprobe",
        ProgramKind::Uprobe => "uprobe",
        ProgramKind::Trampoline => "trampoline",
        ProgramKind::Tracepoint => "tracepoint",
        ProgramKind::RawTracepoint => "raw_tracepoint",
        ProgramKind::BtfTracepoint => "btf_tracepoint",
        ProgramKind::PerfEvent => "perf_event",
        ProgramKind::Packet => "packet",
        ProgramKind::Iter => "iter",
        ProgramKind::Function { .. } => "function",
    }
}

fn param_name(param: Param) -> &'static str {
    match param {
        Param::Known(_) => "known",
        Param::Argument { part: Part::Offset, .. } => "argument_offset",
        Param::Argument { part: Part::Size, .. } => "argument_size",
        Param::Lookup(_) => "lookup",
        Param::Option { .. } => "option",
        Param::StartTime => "start_time",
        Param::TaiOffset => "tai_offset",
        Param::ChildPid => "child_pid",
        Param::TargetPid => "target_pid",
        Param::PidNamespaceDevice => "pid_namespace_device",
        Param::PidNamespaceInode => "pid_namespace_inode",
        Param::OwnPid => "own_pid",
        Param::CpuCount => "cpu_count",
        Param::ScopeCgroup => "scope_cgroup",
        Param::ScopeLevel => "scope_level",
    }
}

fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::UDiv => "/u",
        BinaryOp::UMod => "%u",
        BinaryOp::SDiv => "/s",
        BinaryOp::SMod => "%s",
        BinaryOp::And => "&",
        BinaryOp::Or => "|",
        BinaryOp::Xor => "^",
        BinaryOp::Shl => "<<",
        BinaryOp::LShr => ">>u",
        BinaryOp::AShr => ">>s",
        BinaryOp::Eq => "==",
        BinaryOp::Ne => "!=",
        BinaryOp::ULt => "<u",
        BinaryOp::ULe => "<=u",
        BinaryOp::UGt => ">u",
        BinaryOp::UGe => ">=u",
        BinaryOp::SLt => "<s",
        BinaryOp::SLe => "<=s",
        BinaryOp::SGt => ">s",
        BinaryOp::SGe => ">=s",
    }
}

fn in_copies(copies: u32) -> String {
    if copies > 1 { format!(" in {copies} copies") } else { String::new() }
}
