//! Functions to put user probes on: not mangled, never inlined, and called as often as their
//! work says.

use std::arch::naked_asm;
use std::ffi::{CStr, c_char};
use std::hint::black_box;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_add(a: i64, b: i64) -> i64 {
    black_box(a) + black_box(b)
}

/// As many arguments as x86-64 passes in registers.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_six(a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64 {
    black_box([b, c, d, e, f]);
    -black_box(a)
}

/// Returns its argument.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_str(text: *const c_char) -> *const c_char {
    black_box(text)
}

pub(crate) fn string(i: u64) {
    const WORDS: [&CStr; 4] = [c"alpha", c"beta", c"gamma", c"delta"];
    if let Some(word) = WORDS.get(usize::try_from(i % 4).unwrap_or(0)) {
        rt_target_str(word.as_ptr());
    }
}

/// In a script: `struct RtRecord { uint32_t id; uint8_t kind; uint64_t size; char name[16];
/// struct RtRecord *next; }`.
#[repr(C)]
pub(crate) struct RtRecord {
    id: u32,
    kind: u8,
    size: u64,
    name: [u8; 16],
    next: *const RtRecord,
}

/// Returns the id.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_struct(record: &RtRecord) -> u32 {
    black_box(record.next);
    black_box(record.id)
}

pub(crate) fn record(i: u64) {
    let id = u32::try_from(i).unwrap_or(u32::MAX);
    let name = *b"record\0\0\0\0\0\0\0\0\0\0";
    let last = RtRecord { id: id + 1, kind: 8, size: 2, name, next: std::ptr::null() };
    let first = RtRecord { id, kind: 7, size: 1 << 40, name, next: &raw const last };
    rt_target_struct(black_box(&first));
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_outer(i: u64) -> u64 {
    rt_target_inner(i) + rt_target_inner(i) + rt_target_inner(i)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_inner(i: u64) -> u64 {
    black_box(i)
}

/// Writes once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_store(at: *mut u64, value: u64) {
    // SAFETY: `fixed_page` has mapped the page, for good.
    unsafe { at.write_volatile(value) }
}

/// A page at an address that watchpoints can name.
pub(crate) fn fixed_page() -> Result<*mut u64, String> {
    const ADDRESS: usize = 0x1000_0000;
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let wanted = std::ptr::without_provenance_mut(ADDRESS);
    // SAFETY: new memory, and none that is in use is replaced.
    let page =
        unsafe { libc::mmap(wanted, 4096, access, flags | libc::MAP_FIXED_NOREPLACE, -1, 0) };
    match page == libc::MAP_FAILED {
        true => Err(format!("no memory at {ADDRESS:#x}: {}", std::io::Error::last_os_error())),
        false => Ok(page.cast()),
    }
}

/// Is on the CPU for so many milliseconds.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn rt_target_spin(ms: u64) {
    let start = std::time::Instant::now();
    while black_box(start.elapsed().as_millis()) < ms.into() {}
}

/// Makes a user stack that is known frame by frame: `rt_stack_leaf`, `rt_stack_second`,
/// `rt_stack_first`, `rt_stack_outer`, and nothing below, since the chain of frame pointers
/// begins there. Compilers leave frame pointers out, so these are written by hand.
pub(crate) fn stack() {
    // SAFETY: the functions keep to the C calling convention and use no memory but the stack.
    unsafe { rt_stack_outer() }
}

#[cfg(target_arch = "x86_64")]
mod frames {
    use super::naked_asm;

    /// A zero frame pointer ends the chain; the caller's is put back afterwards.
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    pub(crate) unsafe extern "C" fn rt_stack_outer() {
        naked_asm!("push rbp", "xor ebp, ebp", "call {}", "pop rbp", "ret", sym rt_stack_first)
    }

    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn rt_stack_first() {
        naked_asm!("push rbp", "mov rbp, rsp", "call {}", "pop rbp", "ret", sym rt_stack_second)
    }

    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn rt_stack_second() {
        naked_asm!("push rbp", "mov rbp, rsp", "call {}", "pop rbp", "ret", sym rt_stack_leaf)
    }

    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn rt_stack_leaf() {
        naked_asm!(
            "push rbp", "mov rbp, rsp", "mov eax, {}", "syscall", "pop rbp", "ret",
            const libc::SYS_getppid
        )
    }
}

#[cfg(target_arch = "aarch64")]
mod frames {
    use super::naked_asm;

    /// A zero frame pointer ends the chain; the caller's is put back afterwards.
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    pub(crate) unsafe extern "C" fn rt_stack_outer() {
        naked_asm!(
            "stp x29, x30, [sp, -16]!", "mov x29, xzr", "bl {}", "ldp x29, x30, [sp], 16", "ret",
            sym rt_stack_first
        )
    }

    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn rt_stack_first() {
        naked_asm!(
            "stp x29, x30, [sp, -16]!", "mov x29, sp", "bl {}", "ldp x29, x30, [sp], 16", "ret",
            sym rt_stack_second
        )
    }

    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn rt_stack_second() {
        naked_asm!(
            "stp x29, x30, [sp, -16]!", "mov x29, sp", "bl {}", "ldp x29, x30, [sp], 16", "ret",
            sym rt_stack_leaf
        )
    }

    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn rt_stack_leaf() {
        naked_asm!(
            "stp x29, x30, [sp, -16]!", "mov x29, sp", "mov x8, {}", "svc 0",
            "ldp x29, x30, [sp], 16", "ret",
            const libc::SYS_getppid
        )
    }
}

use frames::rt_stack_outer;

/// Variables of one, four and eight bytes, for `uaddr()`; they can be written.
#[unsafe(no_mangle)]
#[used]
pub(crate) static RT_LETTER: AtomicU8 = AtomicU8::new(b'r');
#[unsafe(no_mangle)]
#[used]
pub(crate) static RT_ANSWER: AtomicU32 = AtomicU32::new(42);
#[unsafe(no_mangle)]
#[used]
pub(crate) static RT_LARGE: AtomicU64 = AtomicU64::new(1 << 40);
