//! Where the arguments of a marker are, in the words of the assembler: the
//! texts that compilers put into notes for the constraint `nor`.

use std::collections::HashMap;

use super::{Operand, Scaled, Source};
use crate::host::arch::Arch;

/// What is around the arguments of one copy of a marker.
pub(super) struct Place<'a> {
    pub(super) arch: &'a Arch,
    /// Of the copy, as the binary counts.
    pub(super) address: u64,
    /// The loader never moves the binary.
    pub(super) fixed: bool,
    /// Addresses of variables that the arguments name.
    pub(super) variables: &'a HashMap<String, u64>,
}

/// The arguments of a note, each with its `size@`.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut depth = 0;
    let mut new = true;
    for c in text.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        // Arm's compilers write blanks inside of brackets.
        match list.last_mut() {
            _ if c.is_whitespace() => new |= depth <= 0,
            Some(last) if !new => last.push(c),
            _ => {
                list.push(c.to_string());
                new = false;
            }
        }
    }
    list
}

/// The size and sign in front of an argument, and the rest.
///
/// # Errors
/// It cannot be read, and why: a phrase with the text in it.
pub(super) fn size(text: &str) -> Result<(u8, bool, &str), String> {
    // The oldest notes have no sizes.
    let Some((size, place)) = text.split_once('@').filter(|(size, _)| !size.contains('%')) else {
        return Ok((8, false, text));
    };
    let number: i8 = match size.parse() {
        Ok(number) => number,
        Err(_) if size.ends_with('f') => return Err(format!("a floating-point number, {text}")),
        Err(_) => return Err(text.to_owned()),
    };
    match number.unsigned_abs() {
        bytes @ (1 | 2 | 4 | 8) => Ok((bytes, number < 0, place)),
        _ => Err(format!("a value of {} bytes, {text}", number.unsigned_abs())),
    }
}

/// Names in the arguments of a note that may be those of variables.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    let mut names = Vec::new();
    let mut before = None;
    for piece in text.split_inclusive(|c| !word(c)) {
        let name = piece.trim_end_matches(|c| !word(c));
        let register = before == Some('%');
        before = piece.chars().last();
        if !register && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            names.push(name);
        }
    }
    names
}

/// Where an argument is.
///
/// # Errors
/// It cannot be read: a phrase that says what it is.
pub(super) fn parse(text: &str, place: &Place<'_>) -> Result<Operand, String> {
    let (size, signed, operand) = size(text)?;
    let source = match place.arch.name {
        "aarch64" => arm(operand, place),
        _ => intel(operand, place),
    };
    Ok(Operand { size, signed, source: source.ok_or_else(|| text.to_owned())? })
}

/// `$5`, `%eax`, `-8(%rbp)`, `(%rax,%rbx,4)`, `table+8(%rip)`, `table(,%rax,4)`.
fn intel(text: &str, place: &Place<'_>) -> Option<Source> {
    if let Some(constant) = text.strip_prefix('$') {
        return Some(Source::Constant(integer(constant)?));
    }
    if let Some(register) = text.strip_prefix('%') {
        let (offset, shift) = intel_register(register, place.arch)?;
        return Some(Source::Register { offset, shift });
    }
    let (distance, inside) = match text.split_once('(') {
        Some((distance, rest)) => (distance, Some(rest.strip_suffix(')')?)),
        None => (text, None),
    };
    let (distance, named) = sum(distance, place)?;
    let mut registers = inside.unwrap_or("").split(',').map(str::trim);
    let base = match registers.next().filter(|r| !r.is_empty()) {
        Some("%rip" | "%eip") if named => None,
        // Relative to an instruction that is not known.
        Some("%rip" | "%eip") => return None,
        Some(register) => Some(intel_register(register.strip_prefix('%')?, place.arch)?.0),
        None => None,
    };
    let index = match registers.next() {
        Some(register) => Some(Scaled {
            offset: intel_register(register.strip_prefix('%')?, place.arch)?.0,
            bits: 64,
            signed: false,
            shift: match registers.next().unwrap_or("1") {
                "1" => 0,
                "2" => 1,
                "4" => 2,
                "8" => 3,
                _ => return None,
            },
        }),
        None => None,
    };
    if named && base.is_none() && !place.fixed {
        // The loader may have moved the variable as far as the marker.
        let here = place.arch.register(place.arch.instruction_pointer)?;
        let distance = distance.wrapping_sub(place.address.cast_signed());
        return Some(Source::Memory { base: Some(here), index, distance });
    }
    Some(Source::Memory { base, index, distance })
}

/// Offset in the context of a register, and how far its value is from the right.
fn intel_register(name: &str, arch: &Arch) -> Option<(u32, u8)> {
    let high = |n: &str| matches!(n, "ah" | "bh" | "ch" | "dh").then(|| format!("{}x", &n[..1]));
    if let Some(whole) = high(name) {
        return Some((arch.register(&whole)?, 8));
    }
    let rest =
        name.strip_prefix(['r', 'e']).filter(|r| !r.starts_with(|c: char| c.is_ascii_digit()));
    let rest = rest.unwrap_or(name);
    let whole = match rest {
        "al" | "bl" | "cl" | "dl" => format!("{}x", &rest[..1]),
        "sil" | "dil" | "bpl" | "spl" => rest.trim_end_matches('l').to_owned(),
        _ if rest.starts_with('r') => rest.trim_end_matches(['b', 'w', 'd']).to_owned(),
        _ => rest.to_owned(),
    };
    Some((arch.register(&whole)?, 0))
}

/// `5`, `x0`, `w0`, `sp`, `[x0]`, `[sp,60]`, `[x0,x1]`, `[x0,w1,sxtw 3]`.
fn arm(text: &str, place: &Place<'_>) -> Option<Source> {
    let number = |text: &str| integer(text.strip_prefix('#').unwrap_or(text));
    if let Some(constant) = number(text) {
        return Some(Source::Constant(constant));
    }
    let Some(inside) = text.strip_prefix('[') else {
        return match text {
            "xzr" | "wzr" => Some(Source::Constant(0)),
            register => {
                Some(Source::Register { offset: arm_register(register, place.arch)?, shift: 0 })
            }
        };
    };
    let mut parts = inside.strip_suffix(']')?.split(',').map(str::trim);
    let base = Some(arm_register(parts.next()?, place.arch)?);
    let Some(second) = parts.next() else {
        return Some(Source::Memory { base, index: None, distance: 0 });
    };
    if let Some(distance) = number(second) {
        return Some(Source::Memory { base, index: None, distance });
    }
    // Blanks inside of brackets are gone by now: `sxtw3` or `sxtw#3`.
    let how = parts.next().unwrap_or("lsl");
    let (how, shift) =
        how.split_at_checked(how.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(how.len()))?;
    let (bits, signed) = match how {
        "lsl" | "sxtx" | "uxtx" => (64, false),
        "sxtw" => (32, true),
        "uxtw" => (32, false),
        _ => return None,
    };
    let shift = if shift.trim().is_empty() { 0 } else { number(shift.trim())? };
    let shift = u8::try_from(shift).ok().filter(|s| *s < 64)?;
    let offset = arm_register(second, place.arch)?;
    Some(Source::Memory { base, index: Some(Scaled { offset, bits, signed, shift }), distance: 0 })
}

fn arm_register(name: &str, arch: &Arch) -> Option<u32> {
    match name {
        "sp" | "wsp" => arch.register("sp"),
        "fp" => arch.register("r29"),
        "lr" => arch.register("r30"),
        _ => {
            let number = name.strip_prefix(['x', 'w'])?;
            arch.register(&format!("r{number}"))
                .filter(|_| number.starts_with(|c: char| c.is_ascii_digit()))
        }
    }
}

/// `8`, `-8`, `0x10`, `table`, `table+8`, `8+table-4`: the value, and whether a
/// variable is in it.
fn sum(text: &str, place: &Place<'_>) -> Option<(i64, bool)> {
    let mut total = 0i64;
    let mut named = false;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let negative = rest.starts_with('-');
        let term = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let end = term.find(['-', '+']).unwrap_or(term.len());
        let (term, after) = term.split_at_checked(end)?;
        let value = match integer(term) {
            Some(value) => value,
            None if named => return None,
            None => {
                named = true;
                place.variables.get(term)?.cast_signed()
            }
        };
        total = if negative { total.wrapping_sub(value) } else { total.wrapping_add(value) };
        rest = after;
    }
    Some((total, named))
}

/// A number with or without a sign, in base 10 or (`0x`) 16. Large ones are bits.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    };
    Some(if negative { value.wrapping_neg() } else { value }.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(arch: &str, text: &str) -> Result<Operand, String> {
        let variables = HashMap::from([("table".to_owned(), 0x4000u64)]);
        let arch = Arch::find(arch).unwrap();
        parse(text, &Place { arch, address: 0x1000, fixed: false, variables: &variables })
    }

    fn memory(base: Option<u32>, index: Option<Scaled>, distance: i64) -> Source {
        Source::Memory { base, index, distance }
    }

    #[test]
    fn texts_are_split_between_arguments() {
        let list = split("-4@%eax 8@-8(%rbp)  4@$5");
        assert_eq!(list, ["-4@%eax", "8@-8(%rbp)", "4@$5"]);
        assert_eq!(split("-4@[sp, 60] 8@x1"), ["-4@[sp,60]", "8@x1"]);
        assert_eq!(split("8@(%rax, %rbx, 4)"), ["8@(%rax,%rbx,4)"]);
        assert!(split("").is_empty());
        assert_eq!(variables("-4@table+4(%rip) 8@%rax 8@.LC0(%rip)"), ["table"]);
    }

    #[test]
    fn operands_of_x86() {
        let source = |text: &str| on("x86_64", text).map(|o| o.source);
        let register = |offset, shift| Ok(Source::Register { offset, shift });
        let ints = on("x86_64", "-2@$-5").unwrap();
        assert_eq!((ints.size, ints.signed, ints.source), (2, true, Source::Constant(-5)));
        assert_eq!(source("8@$0xffffffffffffffff"), Ok(Source::Constant(-1)));
        assert_eq!(source("4@%eax"), register(80, 0));
        assert_eq!(source("1@%al"), register(80, 0));
        assert_eq!(source("1@%ah"), register(80, 8));
        assert_eq!(source("8@%r12"), register(24, 0));
        assert_eq!(source("4@%r12d"), register(24, 0));
        assert_eq!(source("1@%sil"), register(104, 0));
        assert_eq!(source("%rbx"), register(40, 0));
        assert_eq!(source("8@-8(%rbp)"), Ok(memory(Some(32), None, -8)));
        assert_eq!(source("8@(%rsp)"), Ok(memory(Some(152), None, 0)));
        let scaled = Scaled { offset: 40, bits: 64, signed: false, shift: 2 };
        assert_eq!(source("4@16(%rax,%rbx,4)"), Ok(memory(Some(80), Some(scaled), 16)));
        assert_eq!(source("4@table+8(%rip)"), Ok(memory(Some(128), None, 0x3008)));
        assert_eq!(source("4@table(,%rbx,4)"), Ok(memory(Some(128), Some(scaled), 0x3000)));
        assert_eq!(source("4@table(%rax)"), Ok(memory(Some(80), None, 0x4000)));
        for text in ["8@other(%rip)", "8@%nope", "4@(%rax,%rbx,3)", "x@%rax", "8@8(%rip)", "8@("] {
            assert_eq!(source(text), Err(text.to_owned()));
        }
        assert_eq!(source("8f@%xmm0").unwrap_err(), "a floating-point number, 8f@%xmm0");
        assert_eq!(source("16@%xmm0").unwrap_err(), "a value of 16 bytes, 16@%xmm0");
    }

    #[test]
    fn operands_of_arm() {
        let source = |text: &str| on("aarch64", text).map(|o| o.source);
        assert_eq!(source("-4@5"), Ok(Source::Constant(5)));
        assert_eq!(source("8@x19"), Ok(Source::Register { offset: 152, shift: 0 }));
        assert_eq!(source("4@w3"), Ok(Source::Register { offset: 24, shift: 0 }));
        assert_eq!(source("8@xzr"), Ok(Source::Constant(0)));
        assert_eq!(source("-4@[sp,60]"), Ok(memory(Some(248), None, 60)));
        assert_eq!(source("-4@[x29,-16]"), Ok(memory(Some(232), None, -16)));
        let index = |bits, signed, shift| Some(Scaled { offset: 8, bits, signed, shift });
        assert_eq!(source("8@[x0,x1]"), Ok(memory(Some(0), index(64, false, 0), 0)));
        assert_eq!(source("8@[x0,x1,lsl3]"), Ok(memory(Some(0), index(64, false, 3), 0)));
        assert_eq!(source("4@[x0,w1,sxtw#2]"), Ok(memory(Some(0), index(32, true, 2), 0)));
        for text in ["8@[x0", "8@x99", "8@d0", "8@[x0,:lo12:table]"] {
            assert_eq!(source(text), Err(text.to_owned()));
        }
    }
}
