//! How to get from a function's frame to its caller's: the call frame information
//! of `.eh_frame` as a table that a program in the kernel can search.
//!
//! x86-64 only. A row says where the frame of the caller is (the CFA, of DWARF),
//! and where the caller's `rbp` was kept; the return address is always just below
//! the CFA. What needs more than that is a row that says so ([`Step::Unknown`]).

use std::collections::HashMap;
use std::path::Path;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, EndianSlice,
    LittleEndian, Operation, Reader as _, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, UnwindTableRow, X86_64,
};
use object::{Object, ObjectSection};

use super::super::elf::{Bytes, executable_segments, offset_in};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Tables of damaged files end here.
const MOST_ROWS: usize = 1 << 24;

/// The table of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frames {
    /// What addresses in rows are relative to; as the file counts addresses.
    pub base: u64,
    /// Sorted by address, each good until the next.
    pub rows: Vec<Row>,
    /// Address, size and place in the file of what is loaded as code.
    segments: Vec<(u64, u64, u64)>,
}

/// From an address on, how to get to the caller's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Bytes from [`Frames::base`].
    pub start: u32,
    pub step: Step,
}

/// How to get to the caller's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is no caller: a thread starts here.
    Outermost,
    /// The CFA is in a register, plus so many bytes (a multiple of 8).
    Plain { from: From, offset: i32, rbp: Rbp },
    /// The CFA is what is kept at `rbp + offset`: of functions that align their stack.
    Kept { offset: i32, rbp: Rbp },
    /// All registers are in the record that the kernel keeps of an interrupted
    /// program (`struct ucontext`, on the stack).
    Signal,
    /// Not expressible, or not known.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Rsp,
    Rbp,
}

/// Where the caller's `rbp` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rbp {
    /// Where it was.
    Same,
    /// So many words below the CFA.
    Below(u8),
    /// Where `rbp` points.
    Pointed,
}

/// Codes of [`Step`]s as programs read them, in the low three bits of a word of 32.
/// The next eight say where `rbp` is: 0 for the same, [`CODE_POINTED`], else words below the
/// CFA. The rest is the signed offset, in words.
pub const CODE_OUTERMOST: u32 = 0;
pub const CODE_RSP: u32 = 1;
pub const CODE_RBP: u32 = 2;
pub const CODE_KEPT: u32 = 3;
pub const CODE_SIGNAL: u32 = 4;
pub const CODE_UNKNOWN: u32 = 5;
pub const CODE_POINTED: u32 = 255;

/// Words that an offset can have: 21 bits, signed.
const MOST_WORDS: i32 = 1 << 20;

impl Step {
    /// What functions do that keep frame pointers, once they run.
    pub const FRAME_POINTER: Step = Step::Plain { from: From::Rbp, offset: 16, rbp: Rbp::Below(2) };

    /// The word that programs read.
    pub fn code(self) -> u32 {
        let rbp_code = |rbp| match rbp {
            Rbp::Same => 0,
            Rbp::Below(words) => u32::from(words),
            Rbp::Pointed => CODE_POINTED,
        };
        let pack = |kind: u32, offset: i32, rbp| {
            kind | rbp_code(rbp) << 3 | (offset / 8).cast_unsigned() << 11
        };
        match self {
            Step::Outermost => CODE_OUTERMOST,
            Step::Plain { from: From::Rsp, offset, rbp } => pack(CODE_RSP, offset, rbp),
            Step::Plain { from: From::Rbp, offset, rbp } => pack(CODE_RBP, offset, rbp),
            Step::Kept { offset, rbp } => pack(CODE_KEPT, offset, rbp),
            Step::Signal => CODE_SIGNAL,
            Step::Unknown => CODE_UNKNOWN,
        }
    }
}

impl Frames {
    /// A table for code without one, which keeps frame pointers.
    pub fn by_pointers() -> Frames {
        let rows = vec![Row { start: 0, step: Step::FRAME_POINTER }];
        Frames { rows, ..Frames::default() }
    }

    /// The table of a file.
    ///
    /// # Errors
    /// Why there is none, as a phrase for a diagnostic.
    pub fn of_file(path: &Path) -> Result<Frames, String> {
        Frames::of_bytes(&Bytes::map(path)?)
    }

    /// The table of an ELF file in memory.
    ///
    /// # Errors
    /// Why there is none, as a phrase for a diagnostic.
    pub fn of_bytes(bytes: &[u8]) -> Result<Frames, String> {
        let elf = object::File::parse(bytes).map_err(|_| "it is not an ELF file".to_owned())?;
        if elf.architecture() != object::Architecture::X86_64 {
            return Err("it is not for x86-64".into());
        }
        let segments = executable_segments(&elf);
        let base = segments.iter().map(|s| s.0).min().ok_or("it has no code")?;
        let mut rows = Rows { base, rows: Vec::new() };
        let section = |name: &str| {
            let section = elf.section_by_name(name)?;
            let data = section.uncompressed_data().ok()?;
            (!data.is_empty()).then(|| (section.address(), data))
        };
        let mut bases = BaseAddresses::default();
        for (name, set) in [
            (".text", BaseAddresses::set_text as fn(BaseAddresses, u64) -> BaseAddresses),
            (".got", BaseAddresses::set_got),
        ] {
            if let Some(section) = elf.section_by_name(name) {
                bases = set(bases, section.address());
            }
        }
        if let Some((address, data)) = section(".eh_frame") {
            let mut frames = EhFrame::new(&data, LittleEndian);
            frames.set_address_size(8);
            rows.read(&frames, &bases.set_eh_frame(address));
        } else if let Some((_, data)) = section(".debug_frame") {
            let mut frames = DebugFrame::new(&data, LittleEndian);
            frames.set_address_size(8);
            rows.read(&frames, &bases);
        }
        // Go, and what has no tables at all, keeps frame pointers.
        let rows = rows.settled(&segments).unwrap_or_else(|| Frames::by_pointers().rows);
        Ok(Frames { base, rows, segments })
    }

    /// The address, as the file counts, of a place in the file: of code that starts there
    /// or soon behind it, since mappings start at pages.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let page = 1 << 16;
        self.segments.iter().find_map(|(address, size, from)| {
            let inside = (from.saturating_sub(page)..from.saturating_add(*size)).contains(&offset);
            inside.then(|| address.wrapping_add(offset).wrapping_sub(*from))
        })
    }

    /// The same without its rows: where its code is.
    #[must_use]
    pub fn without_rows(&self) -> Frames {
        Frames { base: self.base, rows: Vec::new(), segments: self.segments.clone() }
    }

    /// The place in the file of an address.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        offset_in(&self.segments, address)
    }

    /// The row at an address, as the file counts.
    pub fn at(&self, address: u64) -> Option<Row> {
        let distance = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let after = self.rows.partition_point(|row| row.start <= distance);
        self.rows.get(after.checked_sub(1)?).copied()
    }
}

/// Rows in the making, in pieces that do not overlap, in any order.
struct Rows {
    base: u64,
    /// Start, end and step, as addresses from the base.
    rows: Vec<(u32, u32, Step)>,
}

impl Rows {
    /// Takes what a section says; damaged entries are left out.
    fn read<'a, S>(&mut self, section: &S, bases: &BaseAddresses)
    where
        S: UnwindSection<Slice<'a>>,
    {
        let mut cies: HashMap<usize, CommonInformationEntry<Slice<'a>>> = HashMap::new();
        let mut context = UnwindContext::new();
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let fde = partial.parse(|section, bases, offset| {
                let at = gimli::UnwindOffset::into(offset);
                if let Some(known) = cies.get(&at) {
                    return Ok(known.clone());
                }
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(at, cie.clone());
                Ok(cie)
            });
            let Ok(fde) = fde else { continue };
            if fde.cie().return_address_register() != X86_64::RA {
                continue;
            }
            let signal = fde.is_signal_trampoline();
            let Ok(mut table) = fde.rows(section, bases, &mut context) else { continue };
            while let Ok(Some(row)) = table.next_row() {
                self.row(section, row, signal);
                if self.rows.len() >= MOST_ROWS {
                    return;
                }
            }
        }
    }

    fn row<'a, S>(&mut self, section: &S, row: &UnwindTableRow<usize>, signal: bool)
    where
        S: UnwindSection<Slice<'a>>,
    {
        let near = |address: u64| u32::try_from(address.checked_sub(self.base)?).ok();
        let (Some(start), Some(end)) = (near(row.start_address()), near(row.end_address())) else {
            return;
        };
        if start >= end {
            return;
        }
        if let CfaRule::Expression(expression) = row.cfa()
            && let Some(late) = plt(section, expression)
        {
            // One piece of code after the other, of 16 bytes each, all of the same kind.
            for at in (start..end).step_by(16).take(MOST_ROWS) {
                let step = |offset| {
                    let (from, rbp) = (From::Rsp, Rbp::Same);
                    Step::Plain { from, offset, rbp }
                };
                // By its address, not by its place in the table.
                let skew = u32::try_from((self.base + u64::from(at)) % 16).unwrap_or(0);
                let middle = (at - skew).saturating_add(late);
                self.rows.push((at, middle.clamp(at, end), step(8)));
                self.rows.push((middle.clamp(at, end), at.saturating_add(16).min(end), step(16)));
            }
            return;
        }
        self.rows.push((start, end, step(section, row, signal)));
    }

    /// Sorted, without gaps: where nothing is said, [`Step::Unknown`]. Nothing if there are none.
    fn settled(mut self, segments: &[(u64, u64, u64)]) -> Option<Vec<Row>> {
        self.rows.retain(|(start, end, _)| start < end);
        self.rows.sort_by_key(|row| row.0);
        if self.rows.is_empty() {
            return None;
        }
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows.len());
        let mut add = |start: u32, step: Step| {
            if rows.last().is_none_or(|last| last.step != step) {
                rows.push(Row { start, step });
            }
        };
        let mut at = 0;
        for (start, end, step) in self.rows {
            // Of entries that overlap the first counts.
            let start = start.max(at);
            if start >= end {
                continue;
            }
            if start > at {
                add(at, Step::Unknown);
            }
            add(start, step);
            at = end;
        }
        let last = segments.iter().map(|s| s.0.saturating_add(s.1)).max().unwrap_or(0);
        if u64::from(at) < last.saturating_sub(self.base) {
            add(at, Step::Unknown);
        }
        Some(rows)
    }
}

/// What a row of DWARF says.
fn step<'a, S>(section: &S, row: &UnwindTableRow<usize>, signal: bool) -> Step
where
    S: UnwindSection<Slice<'a>>,
{
    // A register of which nothing is said is the same.
    let rule = |register: Register| row.register(register).unwrap_or(RegisterRule::SameValue);
    let rbp = match rule(X86_64::RBP) {
        RegisterRule::SameValue | RegisterRule::Undefined => Some(Rbp::Same),
        RegisterRule::Offset(at) if at < 0 && at % 8 == 0 => {
            let words = u8::try_from(-at / 8).ok();
            words.filter(|words| u32::from(*words) < CODE_POINTED).map(Rbp::Below)
        }
        RegisterRule::Expression(expression) => {
            let pointed = place(section, &expression) == Some((X86_64::RBP, 0, false));
            pointed.then_some(Rbp::Pointed)
        }
        _ => None,
    };
    match (rule(X86_64::RA), row.cfa()) {
        (RegisterRule::Undefined, _) => Step::Outermost,
        // As glibc and musl have it: `rip` in the record that `rsp` points to.
        (RegisterRule::Expression(ra), CfaRule::Expression(cfa)) if signal => {
            let known = place(section, cfa) == Some((X86_64::RSP, SIGNAL_RSP, true))
                && place(section, &ra) == Some((X86_64::RSP, SIGNAL_RIP, false));
            if known { Step::Signal } else { Step::Unknown }
        }
        (RegisterRule::Offset(-8), CfaRule::RegisterAndOffset { register, offset }) => {
            let from = match *register {
                X86_64::RSP => Some(From::Rsp),
                X86_64::RBP => Some(From::Rbp),
                _ => None,
            };
            match (from, words(*offset), rbp) {
                (Some(from), Some(offset), Some(rbp)) => Step::Plain { from, offset, rbp },
                _ => Step::Unknown,
            }
        }
        (RegisterRule::Offset(-8), CfaRule::Expression(cfa)) => match (place(section, cfa), rbp) {
            (Some((X86_64::RBP, offset, true)), Some(rbp)) => match words(offset) {
                Some(offset) => Step::Kept { offset, rbp },
                None => Step::Unknown,
            },
            _ => Step::Unknown,
        },
        _ => Step::Unknown,
    }
}

/// Offsets from `rsp` in a signal's record of the registers (`struct rt_sigframe` of
/// arch/x86/include/asm/sigframe.h, behind its return address).
pub const SIGNAL_RBP: i64 = 120;
pub const SIGNAL_RSP: i64 = 160;
pub const SIGNAL_RIP: i64 = 168;

/// An offset that fits a row: a multiple of 8, in bytes.
fn words(offset: i64) -> Option<i32> {
    let bytes = i32::try_from(offset).ok()?;
    (bytes % 8 == 0 && (-MOST_WORDS..MOST_WORDS).contains(&(bytes / 8))).then_some(bytes)
}

/// The operations of an expression, if they are few.
fn operations<'a, S>(section: &S, expression: &UnwindExpression<usize>) -> Vec<Operation<Slice<'a>>>
where
    S: UnwindSection<Slice<'a>>,
{
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let Ok(expression) = expression.get(section) else { return Vec::new() };
    let mut reader = expression.0;
    let mut found = Vec::new();
    while !reader.is_empty() && found.len() < 16 {
        match Operation::parse(&mut reader, encoding) {
            Ok(operation) => found.push(operation),
            Err(_) => return Vec::new(),
        }
    }
    found
}

/// A register plus an offset, and whether that is read from memory.
fn place<'a, S>(section: &S, expression: &UnwindExpression<usize>) -> Option<(Register, i64, bool)>
where
    S: UnwindSection<Slice<'a>>,
{
    match operations(section, expression).as_slice() {
        [Operation::RegisterOffset { register, offset, .. }] => Some((*register, *offset, false)),
        [
            Operation::RegisterOffset { register, offset, .. },
            Operation::Deref { size: 8, space: false, .. },
        ] => Some((*register, *offset, true)),
        _ => None,
    }
}

/// Where in each 16 bytes of a procedure linkage table there is one word more on the stack:
/// `rsp + 8 + ((rip & 15) >= N) * 8`.
fn plt<'a, S>(section: &S, expression: &UnwindExpression<usize>) -> Option<u32>
where
    S: UnwindSection<Slice<'a>>,
{
    match operations(section, expression).as_slice() {
        [
            Operation::RegisterOffset { register: X86_64::RSP, offset: 8, .. },
            Operation::RegisterOffset { register: X86_64::RA, offset: 0, .. },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value: late @ 0..=15 },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] => u32::try_from(*late).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_table_knows_every_function() {
        let path = std::env::current_exe().expect("a path");
        let frames = Frames::of_file(&path).expect("it has a table");
        assert!(frames.rows.len() > 1000);
        assert!(frames.rows.is_sorted_by_key(|row| row.start));
        let binary = crate::host::elf::Binary::open(&path).expect("it is a program");
        let main = binary.functions(&|name| name == "main");
        let address = main.first().expect("it has one").address;
        // Nothing has been pushed yet but the return address.
        let first = Step::Plain { from: From::Rsp, offset: 8, rbp: Rbp::Same };
        assert_eq!(frames.at(address).map(|row| row.step), Some(first));
        assert_eq!(frames.offset_of(address).and_then(|o| frames.address_of(o)), Some(address));
        let start = binary.functions(&|name| name == "_start");
        let start = start.first().expect("it has one").address;
        let steps: Vec<_> = (0..16).filter_map(|n| frames.at(start + n)).map(|r| r.step).collect();
        assert!(steps.contains(&Step::Outermost), "{steps:?}");
    }

    #[test]
    fn the_c_library_says_what_signals_do() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("a list");
        let libc =
            maps.lines().find_map(|l| l.split_whitespace().last().filter(|p| p.contains("/libc")));
        let Some(libc) = libc else { return };
        let frames = Frames::of_file(Path::new(libc)).expect("it has a table");
        assert!(frames.rows.iter().any(|row| row.step == Step::Signal));
        assert!(frames.rows.iter().any(|row| row.step == Step::Outermost));
        let known = frames.rows.iter().filter(|row| row.step != Step::Unknown).count();
        assert!(known * 100 > frames.rows.len() * 80, "{known} of {}", frames.rows.len());
    }

    #[test]
    fn codes_keep_what_steps_say() {
        let step = Step::Plain { from: From::Rsp, offset: 0x1238, rbp: Rbp::Below(2) };
        assert_eq!(step.code(), CODE_RSP | 2 << 3 | (0x1238 / 8) << 11);
        let kept = Step::Kept { offset: -8, rbp: Rbp::Pointed };
        assert_eq!(kept.code().cast_signed() >> 11, -1);
        assert_eq!(kept.code() & 7, CODE_KEPT);
        assert_eq!(kept.code() >> 3 & 0xff, CODE_POINTED);
    }

    #[test]
    fn damage_is_survived() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/debian/usr/bin/shop");
        let good = std::fs::read(path).expect("it is there");
        assert!(Frames::of_bytes(&good).is_ok());
        for at in (0..good.len()).step_by(7) {
            let mut bytes = good.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0xff;
            }
            let _ = Frames::of_bytes(&bytes);
            let _ = Frames::of_bytes(good.get(..at).unwrap_or_default());
        }
    }
}
