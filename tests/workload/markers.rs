//! Markers (USDT) whose arguments are in every kind of place that a note can name. The notes are
//! written by hand, as `sys/sdt.h` would, so that it is known which kind is which.

use std::arch::global_asm;
use std::ffi::{CStr, CString, c_int, c_long, c_void};

unsafe extern "C" {
    fn rt_markers(i: u64);
    fn rt_watched(i: u64) -> u64;
}

/// `rtrace:shapes` with i, `rtrace:copies` with i, i + 1000 and i, and `rtrace:counted`: the shapes
/// again, with a counter of who watches.
#[inline(never)]
pub(crate) fn shapes(i: u64) {
    // SAFETY: keeps to the C calling convention and uses no memory but the stack.
    unsafe { rt_markers(i) }
}

/// `rtrace:watched` with i, if somebody watches.
pub(crate) fn watched(i: u64) {
    // SAFETY: as above.
    unsafe { rt_watched(i) };
}

/// A function of a shared library.
fn of_library(path: &str, function: &CStr) -> Result<*mut c_void, String> {
    let name = CString::new(path).map_err(|why| why.to_string())?;
    // SAFETY: the library is ours, and runs nothing when it is loaded.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        return Err(format!("cannot load the library {path}"));
    }
    // SAFETY: the library is open, and stays so.
    let found = unsafe { libc::dlsym(library, function.as_ptr()) };
    match found.is_null() {
        true => Err(format!("the library has no `{}`", function.to_string_lossy())),
        false => Ok(found),
    }
}

/// Calls `rt_sum_twice(10000)` of the library, which calls `rt_sum` 20000 times inside of each other.
pub(crate) fn sums(path: &str) -> Result<impl FnMut(u64) + 'static, String> {
    let function = of_library(path, c"rt_sum_twice")?;
    // SAFETY: that is its type in `library.c`.
    let function = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_long) -> c_long>(function)
    };
    Ok(move |_| {
        // SAFETY: the stack has room for so many calls of a few words.
        unsafe { function(10_000) };
    })
}

/// Calls `rt_library(i)` of a shared library, which has the marker `rtlib:round`.
pub(crate) fn library(path: &str) -> Result<impl FnMut(u64) + 'static, String> {
    let function = of_library(path, c"rt_library")?;
    // SAFETY: that is its type in `library.c`.
    let function = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(function)
    };
    Ok(move |i| {
        // SAFETY: takes any number.
        unsafe { function(c_int::try_from(i).unwrap_or(c_int::MAX)) };
    })
}

/// Calls `rt_sum(0)` of the library that is stored in an archive as it is, where it lies there.
pub(crate) fn archive(path: &str) -> Result<impl FnMut(u64) + 'static, String> {
    use object::{Object, ObjectSegment, ObjectSymbol};
    let bytes = std::fs::read(path).map_err(|why| format!("{path}: {why}"))?;
    let start = bytes.windows(4).position(|bytes| bytes == b"\x7fELF").ok_or("no ELF file")?;
    let elf = object::File::parse(bytes.get(start..).unwrap_or_default());
    let elf = elf.map_err(|why| why.to_string())?;
    let symbol = elf.symbols().find(|s| s.name() == Ok("rt_sum")).ok_or("no `rt_sum`")?;
    let address = symbol.address();
    let offset = elf.segments().find_map(|s| {
        let distance = address.checked_sub(s.address()).filter(|d| *d < s.size())?;
        usize::try_from(s.file_range().0 + distance).ok()
    });
    let offset = start + offset.ok_or("`rt_sum` is not in the file")?;
    let file = std::fs::File::open(path).map_err(|why| format!("{path}: {why}"))?;
    let (size, fd) = (bytes.len(), std::os::fd::AsRawFd::as_raw_fd(&file));
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: asks for new memory, which nobody else uses.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_PRIVATE, fd, 0) };
    if map == libc::MAP_FAILED {
        return Err(format!("{path} cannot be mapped"));
    }
    // SAFETY: the offset lies in the mapping, which stays; the function that is there has this type
    // in `library.c`, and for 0 it calls and reads nothing.
    let function = unsafe {
        let code = map.cast::<u8>().add(offset).cast::<c_void>();
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(i64) -> i64>(code)
    };
    Ok(move |_| {
        // SAFETY: as above.
        unsafe { function(0) };
    })
}

/// A note about the label `$site`.
macro_rules! note {
    ($site:literal, $name:literal, $counter:literal, $arguments:literal) => {
        concat!(
            ".pushsection .note.stapsdt, \"\", @note\n",
            ".balign 4\n",
            ".4byte 8, 2f - 1f, 3\n",
            ".asciz \"stapsdt\"\n",
            "1: .8byte ",
            $site,
            "\n",
            ".8byte 0\n",
            ".8byte ",
            $counter,
            "\n",
            ".asciz \"rtrace\"\n",
            ".asciz \"",
            $name,
            "\"\n",
            ".asciz \"",
            $arguments,
            "\"\n",
            "2: .balign 4\n",
            ".popsection\n"
        )
    };
}

// Numbers from 0 in steps of 10, and the counter of `rtrace:watched`. The kernel finds the counter
// by its place in the file; a linker may have mapped the first page of the data twice, so it is in
// the second.
global_asm!(
    ".pushsection .data.rt_markers, \"aw\"",
    ".balign 8",
    ".globl rt_marker_table",
    "rt_marker_table: .4byte 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150",
    ".size rt_marker_table, 64",
    ".globl rt_marker_word",
    "rt_marker_word: .2byte -1234, 0",
    ".size rt_marker_word, 4",
    ".space 4096",
    ".globl rt_marker_counter",
    "rt_marker_counter: .2byte 0, 0",
    ".size rt_marker_counter, 4",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl rt_markers",
    ".type rt_markers, @function",
    "rt_markers:",
    "pushq %rbp",
    "movq %rsp, %rbp",
    "pushq %rbx",
    "subq $40, %rsp",
    "movq %rdi, %rbx",
    "movl $-3, %eax",
    "movl $0x12345, %r10d",
    "leaq rt_marker_table(%rip), %rsi",
    "movq %rdi, (%rsp)",
    "leaq 1000(%rdi), %rcx",
    "movq %rcx, 8(%rsp)",
    "movl $-7, -20(%rbp)",
    "7701: nop",
    "7702: nop",
    "7703: nop",
    "7704: nop",
    "7707: nop",
    "addq $40, %rsp",
    "popq %rbx",
    "popq %rbp",
    "ret",
    ".size rt_markers, . - rt_markers",
    note!(
        "7701b",
        "shapes",
        "0",
        "-4@$-5 8@$12345678901 -4@%eax 4@%eax 8@%rbx -1@%ah 2@%r10w -8@(%rsp) -4@-20(%rbp) \
         4@8(%rsi,%rbx,4) -2@rt_marker_word(%rip) 8@rt_marker_table+8(%rip) 8f@%xmm0"
    ),
    note!(
        "7707b",
        "counted",
        "rt_marker_counter",
        "-4@$-5 8@$12345678901 -4@%eax 4@%eax 8@%rbx -1@%ah 2@%r10w -8@(%rsp) -4@-20(%rbp) \
         4@8(%rsi,%rbx,4) -2@rt_marker_word(%rip) 8@rt_marker_table+8(%rip) 8f@%xmm0"
    ),
    note!("7702b", "copies", "0", "8@%rbx"),
    note!("7703b", "copies", "0", "8@8(%rsp)"),
    note!("7704b", "copies", "0", "8@%rbx"),
    ".globl rt_watched",
    ".type rt_watched, @function",
    "rt_watched:",
    "cmpw $0, rt_marker_counter(%rip)",
    "je 7706f",
    "7705: nop",
    "7706: ret",
    ".size rt_watched, . - rt_watched",
    note!("7705b", "watched", "rt_marker_counter", "8@%rdi"),
    options(att_syntax)
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl rt_markers",
    ".type rt_markers, @function",
    "rt_markers:",
    "stp x29, x30, [sp, -64]!",
    "add x29, sp, 48",
    "mov w9, -3",
    "mov x10, x0",
    "mov w11, 255",
    "mov w12, 0x2345",
    "movk w12, 1, lsl 16",
    "adrp x13, rt_marker_table",
    "add x13, x13, :lo12:rt_marker_table",
    "add x13, x13, 8",
    "adrp x14, rt_marker_word",
    "add x14, x14, :lo12:rt_marker_word",
    "str x0, [sp, 16]",
    "add x15, x0, 1000",
    "str x15, [sp, 24]",
    "mov w15, -7",
    "stur w15, [x29, -4]",
    "7701: nop",
    "7702: nop",
    "7703: nop",
    "7704: nop",
    "7707: nop",
    "ldp x29, x30, [sp], 64",
    "ret",
    ".size rt_markers, . - rt_markers",
    note!(
        "7701b",
        "shapes",
        "0",
        "-4@-5 8@12345678901 -4@w9 4@w9 8@x10 -1@w11 2@w12 -8@[sp, 16] -4@[x29, -4] \
         4@[x13, w10, sxtw 2] -2@[x14] 8@[x13] 8f@d0"
    ),
    note!(
        "7707b",
        "counted",
        "rt_marker_counter",
        "-4@-5 8@12345678901 -4@w9 4@w9 8@x10 -1@w11 2@w12 -8@[sp, 16] -4@[x29, -4] \
         4@[x13, w10, sxtw 2] -2@[x14] 8@[x13] 8f@d0"
    ),
    note!("7702b", "copies", "0", "8@x10"),
    note!("7703b", "copies", "0", "8@[sp, 24]"),
    note!("7704b", "copies", "0", "8@x10"),
    ".globl rt_watched",
    ".type rt_watched, @function",
    "rt_watched:",
    "adrp x9, rt_marker_counter",
    "ldrh w9, [x9, :lo12:rt_marker_counter]",
    "cbz w9, 7706f",
    "7705: nop",
    "7706: ret",
    ".size rt_watched, . - rt_watched",
    note!("7705b", "watched", "rt_marker_counter", "8@x0"),
);
