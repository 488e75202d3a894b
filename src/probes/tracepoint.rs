//! Static tracepoints of the kernel, with the fields of their records.
//!
//! Tracepoints of system calls are a case of their own: a perf event on one
//! costs its entry and exit path twice as much as a raw tracepoint does, and
//! its removal a grace period each. All system calls of an attach point become
//! one program on the raw tracepoint `sys_enter` (`sys_exit`) that tells calls
//! apart by their numbers. Where such programs can be preempted, calls of other
//! threads would be lost meanwhile: there, the program is on the perf event
//! `raw_syscalls`, during which preemption is off.

use super::group::{self, Match};
use super::list::{Line, Query};
use super::text::Part;
use super::{
    Access, Argument, BY_RECORD, Compat, Context, Expanded, Instance, Provider, RAW_SYSCALLS,
    Request, Side, Syscalls,
};
use crate::diag::{self, Diagnostic, Diagnostics};
use crate::host::Host;
use crate::host::arch::Arch;
use crate::host::btf::Btf;
use crate::host::features::Feature;
use crate::host::tracefs::{Event, Field, Place, Tracefs};
use crate::ir::ProgramKind;
use crate::parser::ast::TypeTag;
use crate::plan::{Attach, Mechanism, Names};
use crate::types::{Space, Type};

pub(super) static TRACEPOINT: Provider = Provider {
    name: "tracepoint",
    aliases: &["t"],
    usage: &["tracepoint:sched:sched_switch"],
    doc: "Fires at a tracepoint that kernel developers placed.",
    side: Side::Kernel,
    expand,
    list,
};

/// What a program on a perf event returns: at 0, the kernel drops the record for perf's own buffer.
const PASS_ON: i64 = 1;

/// Fields of system call records start here (struct syscall_trace_enter); what
/// is before them is the number of the call.
const SYSCALL_FIELDS: u32 = 16;
const NUMBER_FIELD: &str = "__syscall_nr";

fn expand(request: &Request<'_>, diags: &mut Diagnostics) -> Expanded {
    let any = Part { text: "*".into(), ..request.head.clone() };
    let (category, name) = match request.parts.as_slice() {
        [category, name] => (category, name),
        [name] if name.is_wildcard() => (&any, name),
        [name] => return Err(without_category(request, name)),
        _ => return Err(request.wrong_parts()),
    };
    let tracefs = request.host.tracefs().map_err(|reason| {
        Box::new(Diagnostic::error(request.span(), "tracepoints cannot be looked up").note(reason))
    })?;
    let events: Vec<Event> = if category.is_wildcard() || name.is_wildcard() {
        let matching = |e: &&Event| category.matches(&e.category) && name.matches(&e.name);
        tracefs.events(request.host).iter().filter(matching).cloned().collect()
    } else if tracefs.has_event(request.host, &category.text, &name.text) {
        vec![Event { category: category.text.clone(), name: name.text.clone() }]
    } else {
        return request.missing(Box::new(unknown(request.host, tracefs, category, name)), diags);
    };
    if events.is_empty()
        && let Some(why) = tracefs.absent()
    {
        let d = Diagnostic::error(request.span(), "tracepoints cannot be looked up by a pattern")
            .note(format!("{why}, and the kernel's types do not tell their categories"))
            .help("name them, without `*`, or mount it and let yourself read it");
        return Err(Box::new(d));
    }
    if events.is_empty() {
        let message = format!("no tracepoint matches `{}:{}`", category.text, name.text);
        super::nothing_matches(request.point, &message, request.options, diags);
        return Ok(Vec::new());
    }
    let mut lookup = Lookup { request, tracefs, raw: None };
    lookup.instances(events)
}

/// Only the event is named; its category may be known.
fn without_category(request: &Request<'_>, name: &Part) -> Box<Diagnostic> {
    let d = request.wrong_parts();
    let Ok(tracefs) = request.host.tracefs() else { return d };
    let Some(event) = tracefs.events(request.host).iter().find(|e| e.name == name.text) else {
        return d;
    };
    let whole = format!("{}:{}", event.category, event.name);
    let d = Diagnostic { helps: Vec::new(), ..*d };
    Box::new(d.help(format!("write `tracepoint:{whole}`")).replace(name.span, whole))
}

fn unknown(host: &Host, tracefs: &Tracefs, category: &Part, name: &Part) -> Diagnostic {
    let shown = format!("{}:{}", category.text, name.text);
    let d = Diagnostic::error(name.span, format!("there is no tracepoint `{shown}`"));
    if let Some(why) = tracefs.absent().filter(|_| category.text != "syscalls") {
        let known = host.btf().map(|btf| btf.raw_tracepoints("vmlinux")).unwrap_or_default();
        return match diag::nearest(&name.text, known) {
            Some(near) => d.did_you_mean(name.span, near),
            None => d.note(format!("{why}, so the kernel's types were asked")),
        };
    }
    let events = tracefs.events(host);
    let here: Vec<&str> =
        events.iter().filter(|e| e.category == category.text).map(|e| e.name.as_str()).collect();
    if let Some(near) = diag::nearest(&name.text, here.iter().copied()) {
        return d.did_you_mean(name.span, near);
    }
    // Right event, wrong category.
    if let Some(event) = events.iter().find(|e| e.name == name.text) {
        let whole = category.span.to(name.span);
        return d
            .at(format!("did you mean `{}:{}`?", event.category, event.name))
            .replace(whole, format!("{}:{}", event.category, event.name));
    }
    if here.is_empty() {
        let categories = events.iter().map(|e| e.category.as_str());
        let d = Diagnostic { primary: Some((category.span, String::new())), ..d };
        return match diag::nearest(&category.text, categories) {
            Some(near) => d.did_you_mean(category.span, near),
            None => d.help("`-l 'tracepoint:*'` lists all tracepoints"),
        };
    }
    d.help(format!("`-l 'tracepoint:{}:*'` lists those of this category", category.text))
}

/// An attach point on its way to instances.
struct Lookup<'a> {
    request: &'a Request<'a>,
    tracefs: &'a Tracefs,
    /// How to trace all system calls at once; absent until needed.
    raw: Option<Option<Raw>>,
}

/// How all system calls are traced at once.
#[derive(Debug, Clone, Copy)]
struct Raw {
    compat: Compat,
    by: By,
}

/// What tells about each system call.
#[derive(Debug, Clone, Copy)]
enum By {
    /// The raw tracepoint, and the registers that it points to: the number of the call is at this
    /// offset in `struct pt_regs`.
    Registers { number: u32 },
    /// The record of the perf event (include/trace/events/syscalls.h): the number, and either all six
    /// arguments or what the call returned.
    Record,
}

/// The category of the perf events of all system calls.
const ALL_CALLS: &str = "raw_syscalls";

/// Where records of [`By::Record`] have the number, and what follows it.
const RECORD_NUMBER: u32 = 8;
const RECORD_REST: u32 = 16;

/// A system call to be told apart by its number.
struct Call {
    name: String,
    number: u32,
}

impl Lookup<'_> {
    fn instances(&mut self, events: Vec<Event>) -> Expanded {
        let (mut enter, mut exit, mut perf) = (Vec::new(), Vec::new(), Vec::new());
        for (i, event) in events.into_iter().enumerate() {
            // One look is enough if nothing is asked for: see `group`.
            let fields = match i == 0 || self.request.needs.args() {
                true => self
                    .tracefs
                    .format(self.request.host, &event.category, &event.name)
                    .map(|f| f.fields),
                false => Ok(Vec::new()),
            };
            match self.call(&event, fields.as_deref().unwrap_or_default()) {
                Some((entering, raw, number)) => {
                    let args = fields.map(|f| self.raw_arguments(&f, raw, entering));
                    let target = Call { name: full_name(&event), number };
                    let list = if entering { &mut enter } else { &mut exit };
                    list.push(Match { target, args });
                }
                None => {
                    let args = fields.map(|f| self.record_arguments(&f, &event));
                    perf.push(Match { target: event, args });
                }
            }
        }
        let needs = self.request.needs;
        let mut instances = Vec::new();
        if let Some(Some(raw)) = self.raw {
            for (calls, enter) in [(enter, true), (exit, false)] {
                let groups = group::by_arguments(calls, needs);
                instances.extend(groups.into_iter().map(|g| self.raw_instance(g, raw, enter)));
            }
        }
        // Without cookies, a program that must know its name has only one.
        let cookies = self.request.host.has(Feature::AttachCookie);
        // The kernel guards the two kinds in different ways, so that a program of both could start
        // in the middle of itself.
        let (calls, others): (Vec<_>, Vec<_>) =
            perf.into_iter().partition(|m| m.target.category == "syscalls");
        let groups = [calls, others].into_iter().flat_map(|list| group::by_arguments(list, needs));
        for group in groups {
            if needs.probe_name && !cookies {
                instances.extend(group.into_iter().map(|m| self.perf_instance(vec![m])));
            } else {
                instances.push(self.perf_instance(group));
            }
        }
        Ok(instances)
    }

    /// How to trace an event with all system calls: whether
    /// it is on entry, and the number of its call. `None` if it is no system
    /// call, or a field is used that only its own record has.
    fn call(&mut self, event: &Event, fields: &[Field]) -> Option<(bool, Raw, u32)> {
        if event.category != "syscalls" {
            return None;
        }
        let entering = event.name.strip_prefix("sys_enter_");
        let call = entering.or_else(|| event.name.strip_prefix("sys_exit_"))?;
        let number = self.request.host.syscall_number(call)?;
        let elsewhere = |f: &Field| {
            f.place != Place::Inline && self.request.needs.args_fields.contains(&f.name)
        };
        if fields.iter().any(elsewhere) {
            return None;
        }
        let raw = (*self.raw.get_or_insert_with(|| Raw::of(self.request, self.tracefs)))?;
        Some((entering.is_some(), raw, number))
    }

    fn raw_instance(&self, group: Vec<Match<Call>>, raw: Raw, enter: bool) -> Instance {
        let (targets, args): (Vec<Call>, Vec<_>) =
            group.into_iter().map(|m| (m.target, m.args)).unzip();
        let args = args.into_iter().next().unwrap_or(Ok(Vec::new()));
        let mut numbers: Vec<(u32, u32)> = targets.iter().map(|c| c.number).zip(0..).collect();
        numbers.sort_unstable();
        let event = if enter { "sys_enter" } else { "sys_exit" };
        let names: Names = targets.into_iter().map(|c| c.name).collect();
        let (kind, section, mechanism, result) = match raw.by {
            // What lies in the registers can be loaded directly only by a program
            // that knows the type of what points to them.
            By::Registers { .. } => (
                ProgramKind::BtfTracepoint,
                format!("tp_btf/{event}"),
                Mechanism::RawTracepoint { event: event.into(), btf: true },
                0,
            ),
            By::Record => (
                ProgramKind::Tracepoint,
                format!("tracepoint/{ALL_CALLS}/{event}"),
                Mechanism::Tracepoint { category: ALL_CALLS.into(), event: event.into() },
                PASS_ON,
            ),
        };
        let number = raw.number(enter);
        Instance {
            kind,
            section,
            context: Context { args, result, ..context(self.request.provider, Space::User) },
            attach: vec![self.request.attach(names, mechanism)],
            syscalls: Some(Syscalls { enter, numbers, number, compat: raw.compat }),
            keeper: None,
        }
    }

    fn perf_instance(&self, group: Vec<Match<Event>>) -> Instance {
        let user = group.iter().any(|m| m.target.category == "syscalls");
        let space = if user { Space::User } else { Space::Kernel };
        let cookies = self.request.needs.probe_name && group.len() > 1;
        let section = match group.as_slice() {
            [only] => format!("tracepoint/{}/{}", only.target.category, only.target.name),
            _ => "tracepoint".into(),
        };
        // Links to records have numbers that only the file system tells.
        let raw = self.tracefs.absent().is_some() && self.request.host.is_live();
        let mut args = Ok(Vec::new());
        let mut attach: Vec<Attach> = Vec::new();
        for (found, cookie) in group.into_iter().zip(0u64..) {
            let name = full_name(&found.target);
            if cookie == 0 {
                args = found.args;
            }
            let Event { category, name: event } = found.target;
            let mechanism = match raw {
                true => Mechanism::RawTracepoint { event, btf: false },
                false => Mechanism::Tracepoint { category, event },
            };
            let link = self.request.attach(vec![name], mechanism);
            attach.push(Attach { cookies: if cookies { vec![cookie] } else { vec![] }, ..link });
        }
        let kind = if raw { ProgramKind::RawTracepoint } else { ProgramKind::Tracepoint };
        Instance {
            kind,
            section: if raw { "raw_tp".into() } else { section },
            context: Context { args, result: PASS_ON, ..context(self.request.provider, space) },
            attach,
            syscalls: None,
            keeper: None,
        }
    }

    /// The type of a field; fields that the block does not use are not worth
    /// reading BTF for.
    fn convert(&self, field: &Field, space: Space) -> Type {
        let Request { needs, host, .. } = self.request;
        let used = needs.whole_args || needs.args_fields.contains(&field.name);
        field.convert(|| host.btf().ok().filter(|_| used), space)
    }

    /// Fields of a record as arguments.
    fn record_arguments(&self, fields: &[Field], event: &Event) -> Vec<Argument> {
        let space = if event.category == "syscalls" { Space::User } else { Space::Kernel };
        let argument = |field: &Field| Argument {
            name: field.name.clone(),
            ty: self.convert(field, space),
            access: match field.place {
                Place::Inline => Access::Context { offset: field.offset, size: field.size },
                Place::DataLocation => {
                    Access::DataLocation { offset: field.offset, relative: false }
                }
                Place::RelativeLocation => {
                    Access::DataLocation { offset: field.offset, relative: true }
                }
            },
        };
        fields.iter().map(argument).collect()
    }

    /// Fields of a system call's record as arguments of the raw tracepoint.
    /// Fields that are not there (since Linux 7, texts that the kernel has
    /// copied) are left out.
    fn raw_arguments(&self, fields: &[Field], raw: Raw, enter: bool) -> Vec<Argument> {
        let arch = self.request.host.arch();
        let argument = |field: &Field| {
            let access = if field.place != Place::Inline {
                return None;
            } else if field.name == NUMBER_FIELD {
                raw.number(enter)
            } else {
                // At the exit, the only other field is what the call returned.
                let index = field.offset.checked_sub(SYSCALL_FIELDS)? / 8;
                match raw.by {
                    By::Record => Access::Context { offset: RECORD_REST + 8 * index, size: 8 },
                    By::Registers { .. } if enter => {
                        let register = arch.syscall_arguments.get(index as usize)?;
                        Access::SyscallRegister { offset: arch.register(register)? }
                    }
                    By::Registers { .. } => Access::Context { offset: 8, size: 8 },
                }
            };
            let ty = self.convert(field, Space::User);
            Some(Argument { name: field.name.clone(), ty, access })
        };
        fields.iter().filter_map(argument).collect()
    }
}

impl Raw {
    /// What the kernel's types say; without them, perf events do.
    fn of(request: &Request<'_>, tracefs: &Tracefs) -> Option<Raw> {
        if request.without_feature(RAW_SYSCALLS) {
            return None;
        }
        let Request { host, .. } = request;
        let btf = host.btf().ok()?;
        let arch = host.arch();
        let compat = compat(btf, arch)?;
        let skips = !host.has(Feature::NopreemptTracepoints)
            || request.without_feature(Feature::NopreemptTracepoints.info().name);
        let by_record = skips
            && !request.without_feature(BY_RECORD)
            && tracefs.absent().is_none()
            && tracefs.has_event(host, ALL_CALLS, "sys_enter");
        let by = match by_record {
            true => By::Record,
            false => By::Registers { number: number_register(btf, arch)? },
        };
        Some(Raw { compat, by })
    }

    /// The number of the system call.
    fn number(self, enter: bool) -> Access {
        match self.by {
            By::Record => Access::Context { offset: RECORD_NUMBER, size: 8 },
            By::Registers { .. } if enter => Access::Context { offset: 8, size: 8 },
            By::Registers { number } => Access::SyscallRegister { offset: number },
        }
    }
}

/// Programs that are put on the perf event of all system calls. The kernel takes 64 on one event, of
/// all tools together (`BPF_TRACE_MAX_PROGS`, kernel/trace/bpf_trace.c).
const MOST_ON_AN_EVENT: usize = 32;

/// Whether the kernel may refuse so many programs on one event.
pub fn too_many_on_an_event<'i>(instances: impl Iterator<Item = &'i Instance>) -> bool {
    let mut counts = [0, 0];
    for instance in instances.filter(|i| i.kind == ProgramKind::Tracepoint) {
        if let Some(calls) = &instance.syscalls {
            counts[usize::from(calls.enter)] += 1;
        }
    }
    counts.into_iter().any(|count| count > MOST_ON_AN_EVENT)
}

/// What has to be done without so that attach points lead to the mechanism again that a program was
/// built for.
pub(super) fn as_built(mechanism: &Mechanism) -> Vec<String> {
    let without = match mechanism {
        Mechanism::Tracepoint { category, .. } if category == ALL_CALLS => {
            Feature::NopreemptTracepoints.info().name
        }
        Mechanism::Tracepoint { .. } => RAW_SYSCALLS,
        Mechanism::RawTracepoint { .. } => BY_RECORD,
        _ => return Vec::new(),
    };
    vec![without.to_owned()]
}

/// Where the kernel marks 32-bit system calls: `TS_COMPAT` in
/// arch/x86/include/asm/thread_info.h, `TIF_32BIT` in that of arm64.
fn compat(btf: &Btf, arch: &Arch) -> Option<Compat> {
    let (field, mask) = match arch.name {
        "x86_64" => ("status", 2),
        _ => ("flags", 1 << 22),
    };
    let Type::Struct(task) = btf.find_type(Some(TypeTag::Struct), "task_struct")? else {
        return None;
    };
    let (offset, _) = btf.member_at(task.id, &format!("thread_info.{field}"))?;
    // Little endian: the low half of a longer word has the bit.
    Some(Compat { offset, size: 4, mask, field })
}

/// Where a system call's number is while it runs.
fn number_register(btf: &Btf, arch: &Arch) -> Option<u32> {
    if let Some(offset) = arch.register("orig_rax") {
        return Some(offset);
    }
    let Type::Struct(regs) = btf.find_type(Some(TypeTag::Struct), "pt_regs")? else {
        return None;
    };
    Some(btf.member_at(regs.id, "syscallno")?.0)
}

fn full_name(event: &Event) -> String {
    format!("tracepoint:{}:{}", event.category, event.name)
}

fn context(provider: &'static Provider, space: Space) -> Context {
    let named = "tracepoints have named fields; use `args.<field>`";
    Context {
        numbered: Err(named.into()),
        retval: Err("tracepoints do not return; use `args.ret` at `sys_exit_…`".into()),
        ctx: Err(named.into()),
        stacks: true,
        ..Context::none(provider, space)
    }
}

fn list(query: &Query<'_>) -> Result<Vec<Line>, String> {
    let tracefs = query.host.tracefs()?;
    let wanted = |e: &&Event| query.accepts(&[&e.category, &e.name]);
    let line = |event: &Event| {
        let mut line = Line::of(full_name(event));
        if query.verbose
            && let Ok(format) = tracefs.format(query.host, &event.category, &event.name)
        {
            line.details = format.fields.into_iter().map(|f| f.text).collect();
        }
        line
    };
    Ok(tracefs.events(query.host).iter().filter(wanted).map(line).collect())
}
