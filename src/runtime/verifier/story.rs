//! The register story: where the value that the verifier does not trust came from, from the
//! statement that made it to the one that failed. Shown on `-v`.

use super::log::{Log, Step};

/// Instructions that a story tells of.
const LONGEST: usize = 10;

/// A line for each instruction that made the value, the first one first; empty if nothing
/// is known.
pub(super) fn tell(log: &Log<'_>) -> Vec<String> {
    let Some((last, before)) = log.steps.split_last() else { return Vec::new() };
    let blamed = log.reasons.iter().find_map(|reason| blamed(reason));
    let mut wanted: Vec<u8> = blamed.or_else(|| target(last.text)).into_iter().collect();
    wanted.extend(source(last.text));
    let mut told: Vec<&Step<'_>> = vec![last];
    for step in before.iter().rev() {
        if told.len() >= LONGEST || wanted.is_empty() {
            break;
        }
        let Some(written) = wanted.iter().copied().find(|r| writes(step.text, *r)) else {
            continue;
        };
        told.push(step);
        let anew = made_anew(step.text);
        wanted.retain(|r| !anew || *r != written);
        // What is loaded from memory has no history.
        if !step.text.contains("*(") && !step.text.starts_with("call ") {
            wanted.extend(source(step.text));
        }
    }
    told.iter().rev().map(|step| line(step)).collect()
}

fn line(step: &Step<'_>) -> String {
    let text = step.text;
    let mut line = format!("{:>4}: {text}", step.index);
    let known = register_of(step).and_then(|r| Some((r, state_of(step.state, r)?)));
    if let Some((register, state)) = known {
        line = format!("{line:<44} r{register} is {}", words(state));
    }
    match step.comment {
        Some(comment) => format!("{line}   // {}", comment.trim()),
        None => line,
    }
}

/// The register that an instruction is about, for what is known after it.
fn register_of(step: &Step<'_>) -> Option<u8> {
    target(step.text).or_else(|| step.text.starts_with("call ").then_some(0))
}

/// `R7 max value is outside …`
fn blamed(reason: &str) -> Option<u8> {
    let digits = reason.strip_prefix('R')?.split(' ').next()?;
    digits.parse().ok().filter(|n| *n <= 10)
}

/// The register that is written: `r7 += r0`, `w2 = w0`.
fn target(text: &str) -> Option<u8> {
    let (left, _) = text.split_once('=')?;
    register(left.split(' ').next()?)
}

/// The register that is read: `r7 = r0`, `r7 += r0`, `r0 = *(u64 *)(r1 +8)`.
fn source(text: &str) -> Option<u8> {
    let (_, right) = text.split_once("= ")?;
    match right.split_once(")(") {
        Some((_, place)) => register(place.split([' ', '+', '-', ')']).next()?),
        None => register(right.split(' ').next()?),
    }
}

fn register(word: &str) -> Option<u8> {
    let digits = word.strip_prefix(['r', 'w'])?;
    digits.parse().ok().filter(|n| *n <= 10)
}

fn writes(text: &str, register: u8) -> bool {
    target(text) == Some(register) || (register == 0 && text.starts_with("call "))
}

/// Whether the old value of the register does not matter.
fn made_anew(text: &str) -> bool {
    text.starts_with("call ") || text.split(' ').nth(1) == Some("=")
}

/// `scalar(umax=7)` of `R0=scalar(umax=7) R1=ctx()`.
fn state_of(state: &str, wanted: u8) -> Option<&str> {
    let mut rest = state;
    loop {
        let at = rest.find('R')?;
        let tail = rest.get(at + 1..)?;
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let number = tail.get(..digits)?.parse::<u8>();
        let (mark, value) = tail.get(digits..)?.split_once('=')?;
        let own = number == Ok(wanted) && mark.trim_start_matches('_').len() <= 2;
        // The value ends at a blank outside of brackets.
        let mut depth = 0usize;
        let end = value.find(|c| {
            match c {
                '(' | '{' => depth += 1,
                ')' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ' ' && depth == 0
        });
        let (value, next) = value.split_at(end.unwrap_or(value.len()));
        if own {
            return Some(value);
        }
        rest = next;
    }
}

/// What is known of a register, for people.
fn words(state: &str) -> String {
    let (kind, inside) = match state.split_once('(') {
        Some((kind, inside)) => (kind, inside.strip_suffix(')').unwrap_or(inside)),
        None => (state, ""),
    };
    let field = |name: &str| {
        // `smax=umax=7` says both.
        let at = inside.match_indices(name).map(|m| m.0).find(|at| {
            let before = inside.get(..*at).and_then(|b| b.chars().last());
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })?;
        let mut rest = inside.get(at + name.len()..)?.strip_prefix('=')?;
        while let Some((word, value)) = rest.split_once('=')
            && word.chars().all(char::is_alphanumeric)
            && word.starts_with(char::is_alphabetic)
        {
            rest = value;
        }
        rest.split([',', ')']).next()
    };
    let number = kind.trim_start_matches("inv").trim_start_matches("0x");
    if kind != "inv"
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    {
        return kind.trim_start_matches("inv").to_owned();
    }
    let least = field("smin").or(field("smin_value")).or(field("umin")).or(field("umin_value"));
    let most = field("umax").or(field("umax_value"));
    let below = field("smax").or(field("smax_value"));
    match kind {
        "scalar" | "inv" => match (least, most, below) {
            (Some(least), Some(most), _) => format!("a number from {least} to {most}"),
            (None, Some(most), _) => format!("a number up to {most}"),
            (Some(least), None, _) => format!("a number from {least} on"),
            (None, None, Some(most)) => format!("any number up to {most}, also below zero"),
            (None, None, None) => "any number".to_owned(),
        },
        "ctx" => "the context of the probe".to_owned(),
        "map_ptr" => format!("the map `{}`", field("map").unwrap_or("?")),
        _ if kind.ends_with("_or_null") => format!("{}, or null", thing(kind, &field)),
        _ if kind.starts_with("fp") => match kind.get(2..) {
            Some("0" | "") | None => "the stack".to_owned(),
            Some(offset) => format!("the stack at {offset}"),
        },
        _ => {
            let what = thing(kind, &field);
            match (field("off").filter(|o| *o != "0"), most) {
                (_, Some(most)) => format!("{what}, from byte 0 to {most}"),
                (Some(off), None) => format!("{what}, at byte {off}"),
                (None, None) => what,
            }
        }
    }
}

fn thing<'a>(kind: &str, field: &dyn Fn(&str) -> Option<&'a str>) -> String {
    match kind.trim_end_matches("_or_null") {
        "map_value" => {
            let size = field("vs").unwrap_or("?");
            match field("map") {
                Some(map) => format!("a value of the map `{map}` ({size} bytes)"),
                None => format!("a value of a map ({size} bytes)"),
            }
        }
        "ringbuf_mem" | "mem" | "alloc_mem" => match field("sz").or(field("mem_size")) {
            Some(size) => format!("{size} bytes of memory"),
            None => "memory".to_owned(),
        },
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_put_into_words() {
        assert_eq!(
            words("scalar(smin=smin32=0,smax=umax=smax32=umax32=7,var_off=(0x0; 0x7))"),
            "a number from 0 to 7"
        );
        assert_eq!(words("scalar()"), "any number");
        assert_eq!(words("inv(id=0)"), "any number");
        assert_eq!(words("inv(id=0,umax_value=56,var_off=(0x0; 0x38))"), "a number up to 56");
        assert_eq!(words("inv7"), "7");
        assert_eq!(words("8"), "8");
        assert_eq!(
            words("map_value(map=tables,ks=4,vs=32)"),
            "a value of the map `tables` (32 bytes)"
        );
        assert_eq!(
            words("map_value_or_null(id=1,map=hits,ks=4,vs=8)"),
            "a value of the map `hits` (8 bytes), or null"
        );
        assert_eq!(words("fp-16"), "the stack at -16");
    }

    #[test]
    fn the_story_begins_where_the_value_was_made() {
        let log = "; $i = pid & 7; @ a.bt:2\n9: (85) call bpf_get_current_pid_tgid#14 ; R0=scalar()\n\
                   10: (57) r0 &= 7 ; R0=scalar(smin=0,umax=7)\n; $a[$i] @ a.bt:3\n\
                   11: (bf) r2 = r0 ; R0=scalar(smin=0,umax=7) R2=scalar(smin=0,umax=7)\n\
                   12: (79) r6 = *(u64 *)(r2 +0)\nR2 invalid mem access 'scalar'\n";
        let told = tell(&Log::parse(log));
        assert_eq!(told.len(), 4, "{told:#?}");
        assert!(told[0].contains("call bpf_get_current_pid_tgid#14"), "{told:#?}");
        assert!(told[1].contains("r0 is a number from 0 to 7"), "{told:#?}");
        assert!(told[3].ends_with("// $a[$i] @ a.bt:3"), "{told:#?}");
    }
}
