//! Registers, calling convention and system call numbers: one row per
//! architecture. Nothing else in rtrace is specific to one.

/// An architecture that rtrace compiles for.
#[derive(Debug, PartialEq, Eq)]
pub struct Arch {
    /// As `uname -m` says.
    pub name: &'static str,
    /// BPF target of LLVM; follows the byte order.
    pub triple: &'static str,
    /// Registers in `struct pt_regs` (asm/ptrace.h): name and byte offset.
    pub registers: &'static [(&'static str, u32)],
    /// Names of the registers that carry integer arguments, in order.
    pub arguments: &'static [&'static str],
    /// The same for system calls.
    pub syscall_arguments: &'static [&'static str],
    pub result: &'static str,
    pub instruction_pointer: &'static str,
    pub stack_pointer: &'static str,
    /// Where stack arguments start at function entry, from the stack pointer.
    pub stack_argument_offset: u32,
    /// Structs of more than 16 bytes are passed by their addresses, and the address
    /// for such a result has a register of its own. Else they are on the stack, and
    /// that address is the first argument.
    pub large_by_reference: bool,
    /// Whether kernel and user addresses never overlap.
    pub separate_address_spaces: bool,
    /// Ways to use memory that its debug registers can watch for.
    pub watchpoints: &'static [&'static str],
    /// What registers look like in a system call of a 64-bit program. If they
    /// look otherwise it may still be one; only the task's flags say so then.
    pub native_call: &'static [Sign],
}

/// Something that can be told from `struct pt_regs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Two registers hold the same.
    Equal(&'static str, &'static str),
    /// Some bits of the low `size` bytes of a register have this value.
    Bits { register: &'static str, size: u8, mask: u32, value: u32 },
}

/// Every architecture.
pub static ARCHES: &[Arch] = &[
    Arch {
        name: "x86_64",
        triple: "bpfel",
        // struct pt_regs, arch/x86/include/uapi/asm/ptrace.h.
        registers: &[
            ("r15", 0),
            ("r14", 8),
            ("r13", 16),
            ("r12", 24),
            ("bp", 32),
            ("bx", 40),
            ("r11", 48),
            ("r10", 56),
            ("r9", 64),
            ("r8", 72),
            ("ax", 80),
            ("cx", 88),
            ("dx", 96),
            ("si", 104),
            ("di", 112),
            ("orig_rax", 120),
            ("ip", 128),
            ("pc", 128),
            ("cs", 136),
            ("flags", 144),
            ("sp", 152),
            ("ss", 160),
        ],
        arguments: &["di", "si", "dx", "cx", "r8", "r9"],
        syscall_arguments: &["di", "si", "dx", "r10", "r8", "r9"],
        result: "ax",
        instruction_pointer: "ip",
        stack_pointer: "sp",
        stack_argument_offset: 8,
        large_by_reference: false,
        separate_address_spaces: true,
        watchpoints: &["rw", "w", "x"],
        // The `syscall` instruction keeps the return address in rcx; `int 0x80`,
        // by which 64-bit programs can make 32-bit calls, does not. 0x33 is
        // __USER_CS (asm/segment.h), the code segment of 64-bit programs.
        native_call: &[
            Sign::Bits { register: "cs", size: 2, mask: 0xffff, value: 0x33 },
            Sign::Equal("cx", "ip"),
        ],
    },
    Arch {
        name: "aarch64",
        triple: "bpfel",
        // struct user_pt_regs, arch/arm64/include/uapi/asm/ptrace.h.
        registers: &[
            ("r0", 0),
            ("r1", 8),
            ("r2", 16),
            ("r3", 24),
            ("r4", 32),
            ("r5", 40),
            ("r6", 48),
            ("r7", 56),
            ("r8", 64),
            ("r9", 72),
            ("r10", 80),
            ("r11", 88),
            ("r12", 96),
            ("r13", 104),
            ("r14", 112),
            ("r15", 120),
            ("r16", 128),
            ("r17", 136),
            ("r18", 144),
            ("r19", 152),
            ("r20", 160),
            ("r21", 168),
            ("r22", 176),
            ("r23", 184),
            ("r24", 192),
            ("r25", 200),
            ("r26", 208),
            ("r27", 216),
            ("r28", 224),
            ("r29", 232),
            ("r30", 240),
            ("sp", 248),
            ("pc", 256),
            ("pstate", 264),
        ],
        arguments: &["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"],
        syscall_arguments: &["r0", "r1", "r2", "r3", "r4", "r5"],
        result: "r0",
        instruction_pointer: "pc",
        stack_pointer: "sp",
        stack_argument_offset: 0,
        large_by_reference: true,
        separate_address_spaces: false,
        watchpoints: &["r", "w", "x", "rw"],
        // PSR_MODE32_BIT (asm/ptrace.h).
        native_call: &[Sign::Bits { register: "pstate", size: 4, mask: 0x10, value: 0 }],
    },
];

impl Arch {
    /// The row of a machine name as `uname -m` gives it.
    pub fn find(name: &str) -> Option<&'static Arch> {
        ARCHES.iter().find(|a| a.name == name)
    }

    /// Byte offset of a register in `struct pt_regs`.
    pub fn register(&self, name: &str) -> Option<u32> {
        self.registers.iter().find(|r| r.0 == name).map(|r| r.1)
    }

    /// Byte offset of the register that carries integer argument `n`.
    pub fn argument(&self, n: usize) -> Option<u32> {
        self.register(self.arguments.get(n)?)
    }
}
