//! BTF targets of tracing programs (`tp_btf`, `fentry`, `fexit`) without
//! libbpf's own search.
//!
//! libbpf parses all of the kernel's BTF to find the function that a section
//! names, which takes longer than everything else at start-up together. It
//! lets us handle sections of our own, though, and these take precedence over
//! its built-in ones: ours declare the programs as raw tracepoint programs,
//! so that libbpf sees no need for BTF, and turn them into tracing programs
//! right before they are loaded, with the ids that `host::btf` has found.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_long};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Once;

use libbpf_sys as c;

use super::{bpf_functions, sys};
use crate::host::Host;
use crate::plan::Mechanism;
use crate::types::TypeId;

/// The sections that we handle, and how their programs attach.
const SECTIONS: [(&CStr, c::bpf_attach_type); 4] = [
    (c"tp_btf+", c::BPF_TRACE_RAW_TP),
    (c"fentry+", c::BPF_TRACE_FENTRY),
    (c"fexit+", c::BPF_TRACE_FEXIT),
    (c"iter+", c::BPF_TRACE_ITER),
];

/// What a tracing program is for.
#[derive(Debug)]
pub(super) struct Target {
    /// Id of a `FUNC` (fentry, fexit, iter) or of a typedef `btf_trace_…` (`tp_btf`).
    pub id: u32,
    /// The module's BTF object; absent for the kernel's own.
    pub module: Option<OwnedFd>,
    /// The BPF program that the function is in.
    pub program: Option<OwnedFd>,
}

thread_local! {
    /// Targets of the programs of the object that is being loaded, by the
    /// name of the program.
    static TARGETS: RefCell<HashMap<CString, Target>> = RefCell::default();
}

/// What the kernel wants to know at load time, in words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    Function { module: &'a str, name: &'a str },
    RawTracepoint { event: &'a str },
    Iterator { name: &'a str },
    BpfFunction { program: u32, type_id: u32 },
}

impl Wanted<'_> {
    /// What a mechanism's program is for; nothing for most.
    pub(super) fn of(mechanism: &Mechanism) -> Option<Wanted<'_>> {
        match mechanism {
            Mechanism::Trampoline { function, module, .. } => {
                Some(Wanted::Function { module, name: function })
            }
            Mechanism::BpfTrampoline { program, type_id, .. } => {
                Some(Wanted::BpfFunction { program: *program, type_id: *type_id })
            }
            Mechanism::RawTracepoint { event, btf: true } => Some(Wanted::RawTracepoint { event }),
            Mechanism::Iter { name, .. } => Some(Wanted::Iterator { name }),
            Mechanism::Begin
            | Mechanism::End
            | Mechanism::Signal
            | Mechanism::Test
            | Mechanism::Bench
            | Mechanism::Watchpoint { .. }
            | Mechanism::Packets { .. }
            | Mechanism::Kprobe { .. }
            | Mechanism::KprobeMulti { .. }
            | Mechanism::KprobeSession { .. }
            | Mechanism::Tracepoint { .. }
            | Mechanism::RawTracepoint { btf: false, .. }
            | Mechanism::Uprobe { .. }
            | Mechanism::UprobeMulti { .. }
            | Mechanism::Perf { .. } => None,
        }
    }
}

/// Finds the BTF id for what a program is for.
///
/// # Errors
/// Says what is missing, as a phrase for a note.
pub(super) fn find(host: &Host, wanted: Wanted<'_>) -> Result<Target, String> {
    if let Wanted::BpfFunction { program, type_id } = wanted {
        let program = Some(bpf_functions::program(program)?);
        return Ok(Target { id: type_id, module: None, program });
    }
    let btf = host.btf()?;
    let at = match wanted {
        Wanted::BpfFunction { .. } => unreachable!("bug: no function of the kernel"),
        Wanted::Function { module, name } => btf
            .function_in(module, name)
            .map(|f| f.id)
            .ok_or_else(|| format!("the types of `{module}` have no function `{name}`")),
        Wanted::RawTracepoint { event } => btf
            .raw_tracepoint_id(event)
            .ok_or_else(|| format!("the kernel's types have no raw tracepoint `{event}`")),
        Wanted::Iterator { name } => btf
            .function_in("vmlinux", &format!("bpf_iter_{name}"))
            .map(|f| f.id)
            .ok_or_else(|| format!("the kernel has no iterator `{name}`")),
    }?;
    let TypeId::Btf { id, module } = at else { unreachable!("bug: not a type of the kernel") };
    let module = if module == 0 { None } else { Some(module_object(btf.module_of(at))?) };
    Ok(Target { id, module, program: None })
}

/// The kernel's BTF object of a module.
fn module_object(module: &str) -> Result<OwnedFd, String> {
    let mut id = 0;
    while let Ok((next, object)) = sys::next_btf_object(id) {
        if object.name == module {
            return Ok(object.fd);
        }
        id = next;
    }
    Err(format!("the module `{module}` is not loaded"))
}

/// Makes libbpf ask us about tracing programs, in this process from now on.
pub(super) fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (section, attach_type) in SECTIONS {
            let options = c::libbpf_prog_handler_opts {
                sz: size_of::<c::libbpf_prog_handler_opts>() as c::size_t,
                cookie: c_long::from(attach_type),
                prog_setup_fn: None,
                prog_prepare_load_fn: Some(prepare),
                prog_attach_fn: None,
            };
            // SAFETY: the section's name and the options live until the call
            // returns; `prepare` lives as long as the process.
            let id = unsafe {
                c::libbpf_register_prog_handler(
                    section.as_ptr(),
                    c::BPF_PROG_TYPE_RAW_TRACEPOINT,
                    attach_type,
                    &raw const options,
                )
            };
            assert!(id >= 0, "bug: libbpf refuses the section {section:?}: {id}");
        }
    });
}

/// Calls `load` while `targets` are what [`prepare`] finds.
pub(super) fn with_targets<T>(targets: HashMap<CString, Target>, load: impl FnOnce() -> T) -> T {
    TARGETS.set(targets);
    let result = load();
    TARGETS.take();
    result
}

/// libbpf's callback right before it loads a program of one of our sections.
extern "C" fn prepare(
    program: *mut c::bpf_program,
    options: *mut c::bpf_prog_load_opts,
    attach_type: c_long,
) -> c_int {
    // SAFETY: libbpf calls with a program that lives, whose name is a C string.
    let name = unsafe { CStr::from_ptr(c::bpf_program__name(program)) };
    TARGETS.with_borrow(|targets| {
        let Some(target) = targets.get(name) else { return -libc::ESRCH };
        // SAFETY: the program is not loaded yet, so its type may change, and
        // libbpf hands us the options to be changed.
        unsafe {
            c::bpf_program__set_type(program, c::BPF_PROG_TYPE_TRACING);
            (*options).expected_attach_type = attach_type as c::bpf_attach_type;
            (*options).attach_btf_id = target.id;
            if let Some(program) = &target.program {
                (*options).attach_prog_fd = program.as_raw_fd() as u32;
            }
            if let Some(module) = &target.module {
                (*options).attach_btf_obj_fd = module.as_raw_fd() as u32;
            }
        }
        0
    })
}
