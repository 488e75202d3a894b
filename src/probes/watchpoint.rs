//! Memory that is watched by the CPU's debug registers.

use super::list::{Line, Query};
use super::text::{Part, number};
use super::{Expanded, Provider, Request, Side, perf};
use crate::diag::{Diagnostic, Diagnostics};
use crate::host::features::Feature;
use crate::plan::Mechanism;

pub(super) static WATCHPOINT: Provider = Provider {
    name: "watchpoint",
    aliases: &["w"],
    usage: &["watchpoint:0x10000000:8:w"],
    doc: "Fires when memory is read (`r`), written (`w`) or executed (`x`).",
    side: Side::Named,
    expand,
    list,
};

/// `HW_BREAKPOINT_R`, `_W` and `_X` of linux/hw_breakpoint.h, by their letters.
const KINDS: [(char, u32); 3] = [('r', 1), ('w', 2), ('x', 4)];

/// Bytes of a breakpoint on an instruction: `sizeof(long)`.
const EXECUTED: u64 = 8;

fn expand(request: &Request<'_>, _: &mut Diagnostics) -> Expanded {
    let [address, length, mode] = request.parts.as_slice() else {
        return Err(request.wrong_parts());
    };
    let value = |part: &Part| {
        number(&part.text)
            .ok_or_else(|| request.error_at(part, format!("`{}` is not a number", part.text)))
    };
    let (at, bytes) = (value(address)?, value(length)?);
    if at == 0 {
        let d = request.error_at(address, "nothing is at address 0");
        return Err(Box::new(d.help("give the address of the memory, as in `0x10000000`")));
    }
    let kind = kind(request, mode)?;
    let executed = kind == 4;
    if !matches!(bytes, 1 | 2 | 4 | 8) {
        let d = request.error_at(length, format!("{bytes} bytes cannot be watched"));
        return Err(Box::new(d.note("1, 2, 4 or 8 bytes can")));
    }
    if executed && bytes != EXECUTED {
        let d = request.error_at(length, "the execution of memory is watched in words");
        return Err(Box::new(d.help(format!("write {EXECUTED}"))));
    }
    if !executed && at % bytes != 0 {
        let message = format!("`{}` is not a multiple of {bytes}", address.text);
        let d = request.error_at(address, message);
        return Err(Box::new(d.note("the CPU watches whole, aligned words")));
    }
    if !request.host.has(Feature::Watchpoint) {
        let d = Diagnostic::error(request.span(), "this kernel has no watchpoints");
        return Err(Box::new(
            d.note("it has no hardware breakpoints (`CONFIG_HAVE_HW_BREAKPOINT`)"),
        ));
    }
    let name = format!("watchpoint:{at}:{bytes}:{}", mode.text);
    let length = u8::try_from(bytes).unwrap_or(8);
    let mechanism = Mechanism::Watchpoint { address: at, length, kind };
    Ok(vec![perf::instance(request, name, mechanism)])
}

/// The bits of a mode that the CPU can watch for.
fn kind(request: &Request<'_>, mode: &Part) -> Result<u32, Box<Diagnostic>> {
    let mut bits = 0;
    for letter in mode.text.chars() {
        let Some((_, bit)) = KINDS.iter().find(|k| k.0 == letter) else {
            let d = request.error_at(mode, format!("`{letter}` is no way to use memory"));
            return Err(Box::new(d.help("the mode is made of `r`, `w` and `x`")));
        };
        if bits & bit != 0 {
            return Err(request.error_at(mode, format!("`{letter}` is there twice")));
        }
        bits |= bit;
    }
    let modes = request.host.arch().watchpoints;
    let possible = modes.iter().any(|m| {
        let of = |letter: char| KINDS.iter().find(|k| k.0 == letter).map_or(0, |k| k.1);
        m.chars().map(of).sum::<u32>() == bits
    });
    if !possible {
        let message = format!("this CPU cannot watch for `{}`", mode.text);
        let list: Vec<String> = modes.iter().map(|m| format!("`{m}`")).collect();
        let d = request.error_at(mode, message);
        return Err(Box::new(d.note(format!("it can for {}", list.join(", ")))));
    }
    Ok(bits)
}

fn list(_: &Query<'_>) -> Result<Vec<Line>, String> {
    // Any address.
    Ok(Vec::new())
}
