//! Names of code that a process made at run time, after it has exited.
//!
//! Compilers write them to `/tmp/perf-PID.map`: a line for each function with
//! its start and size in hex, and its name (linux/tools/perf/Documentation/
//! jit-interface.txt). Those of living processes are blazesym's business.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

use super::symbols::Symbol;

/// Files that are remembered.
const KEPT: usize = 64;

/// Bytes of a file that are read. Anybody can write one.
const LARGEST: u64 = 64 << 20;

/// The files that were asked for.
#[derive(Debug, Default)]
pub(super) struct Jitted {
    /// By process, sorted by address.
    files: HashMap<u32, Vec<Function>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    size: u64,
    name: String,
}

impl Jitted {
    /// The function at an address of a process, if it wrote one down.
    pub(super) fn find(&mut self, pid: u32, address: u64) -> Option<Symbol> {
        if !self.files.contains_key(&pid) && self.files.len() >= KEPT {
            self.files.clear();
        }
        let list = self.files.entry(pid).or_insert_with(|| read(pid));
        let before = list.partition_point(|function| function.start <= address);
        let function = list.get(before.checked_sub(1)?)?;
        let offset = address - function.start;
        (offset < function.size).then(|| Symbol {
            name: function.name.clone(),
            offset,
            module: None,
            code: None,
            inlined: Vec::new(),
        })
    }
}

fn read(pid: u32) -> Vec<Function> {
    // A pipe of that name must not hold us up, nor a link lead us astray.
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let path = format!("/tmp/perf-{pid}.map");
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    let plain = file.metadata().is_ok_and(|data| data.is_file());
    if !plain || file.take(LARGEST).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    functions(&String::from_utf8_lossy(&bytes))
}

/// Lines that are none are left out. Of several functions at a place the last
/// counts: the place was used again.
fn functions(text: &str) -> Vec<Function> {
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let mut list: Vec<Function> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let (start, size) = (number(words.next()?)?, number(words.next()?)?);
            Some(Function { start, size, name: words.next()?.trim().to_owned() })
        })
        .collect();
    list.reverse();
    list.sort_by_key(|function| function.start);
    list.dedup_by_key(|function| function.start);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_function_at_a_place_counts() {
        let list = functions("20 8 b\n0x10 4 a of c\nnonsense\n20 4 d\n30 zz e\n40 1\n");
        let found: Vec<(u64, u64, &str)> =
            list.iter().map(|f| (f.start, f.size, f.name.as_str())).collect();
        assert_eq!(found, [(0x10, 4, "a of c"), (0x20, 4, "d")]);
    }
}
