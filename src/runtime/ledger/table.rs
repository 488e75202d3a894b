//! The table of losses: one row for each place and cause, when a run ends.
//!
//! Warnings come while a script runs and are about what it does. The table is
//! about what its output lacks, and is complete: what the kernel side counted
//! ([`crate::plan::Loss`]), what the kernel kept from programs, and what the
//! user side itself had to leave out.

use super::{Ledger, Place, error_text};
use crate::plan::{Cause, MAX_ROUNDS, Unwound};
use crate::source::Span;

/// A row: so much of one thing is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The statement; absent where it is no single one.
    pub span: Option<Span>,
    /// The cause in one word, for JSON.
    pub cause: &'static str,
    /// What is missing, and why.
    pub message: String,
    pub count: u64,
    /// The map that it is about, and the number of keys that it has room for.
    pub map: Option<(String, u32)>,
    /// An error of the kernel: negative, as helpers give it.
    pub error: Option<i64>,
    /// What to write.
    pub help: Option<String>,
    /// Whether a warning said so already, while the script ran.
    pub told: bool,
    /// Whether the script itself wanted it so: no reason for a table, nor to fail.
    pub wanted: bool,
}

/// What is lost on the user side, or told by the kernel when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// Runs that the kernel left out since the program was running on the CPU. The provider whose
    /// programs are not preempted, if there is one for the same.
    Busy { instead: Option<&'static str> },
    /// The same of the programs that keep up with processes (`--follow`, `dw_ustack`).
    Processes,
    /// Runs that a kprobe left out since another one was being handled.
    Nested,
    /// Packets without room in their buffer.
    Packets,
    /// Events on their way when `exit()` was called.
    AfterExit,
    /// Frames of stacks that are shown as addresses.
    Unnamed,
    /// Files of which `cat()` showed only the beginning, so many bytes.
    CatCut { limit: u64 },
}

/// How the rows of a run are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the event buffer.
    pub buffer: u64,
    /// Bytes of a page.
    pub page: u64,
}

impl Ledger {
    /// Counts something that no counter of the kernel side is about.
    pub fn add(&mut self, span: Option<Span>, what: Shortfall, count: u64) {
        if count == 0 {
            return;
        }
        match self.shortfalls.iter_mut().find(|(s, w, _)| (*s, *w) == (span, what)) {
            Some((.., held)) => *held = held.saturating_add(count),
            None => self.shortfalls.push((span, what, count)),
        }
    }

    /// Everything that the output lacks, in the order of the script.
    pub fn table(&self, sizes: Sizes) -> Vec<Row> {
        let mut rows: Vec<Row> = self.places.iter().flat_map(|p| p.rows(sizes)).collect();
        let others = self.shortfalls.iter().map(|(span, what, count)| what.row(*span, *count));
        rows.extend(others);
        rows.sort_by_key(|row| row.span.map_or((1, Span::default()), |span| (0, span)));
        rows
    }
}

impl Place {
    /// What is missing because of this, by error; nothing for what is only a warning.
    fn rows(&self, sizes: Sizes) -> impl Iterator<Item = Row> {
        self.seen.errors.iter().filter_map(move |(error, n)| self.row(sizes, *error, *n))
    }

    fn row(&self, sizes: Sizes, error: i64, count: u64) -> Option<Row> {
        let stack = |user: &bool| if *user { "ustack" } else { "kstack" };
        let full = self.map.as_ref().filter(|_| error == -i64::from(libc::E2BIG));
        let (cause, message, help) = match &self.cause {
            Cause::RingBufferFull => {
                let message = format!("events: no room in the buffer of {}", bytes(sizes.buffer));
                ("ring_buffer_full", message, sizes.help())
            }
            Cause::MapUpdate { .. } => match full {
                Some(map) => {
                    let message = format!("updates: `{}` has room for {} keys", map.name, map.room);
                    ("map_full", message, Some(map.table_help()))
                }
                None => {
                    let map = self.map.as_ref().map_or("", |m| m.name.as_str());
                    ("map_update", format!("updates of `{map}`: {}", error_text(error)), None)
                }
            },
            Cause::Helper { name } if name.starts_with("probe_read") => {
                let message = match error == -i64::from(libc::ERANGE) {
                    true => "reads: no address of the kernel".to_owned(),
                    false => format!("reads: {}", error_text(error)),
                };
                ("read_failed", message, None)
            }
            Cause::Helper { name } => {
                ("helper_failed", format!("calls of {name}: {}", error_text(error)), None)
            }
            Cause::StringCut { room } => {
                let message = format!("strings cut: they are longer than {} bytes", room - 1);
                let help =
                    format!("write `config = {{ max_strlen = {} }}`", room.saturating_mul(2));
                ("string_cut", message, Some(help))
            }
            Cause::ArgumentsCut { limit } => {
                ("arguments_cut", format!("lists cut: `join` takes {limit} strings"), None)
            }
            Cause::LoopLimit => {
                ("loop_limit", format!("loops ended after {MAX_ROUNDS} rounds"), None)
            }
            Cause::Stack { user } => {
                let message = format!("values of {}: {}", stack(user), error_text(error));
                ("stack_not_captured", message, None)
            }
            Cause::StackCut { user, limit } => {
                let message = format!("{} cut: there may be more than {limit} frames", stack(user));
                ("stack_cut", message, None)
            }
            Cause::Unwind { why: Unwound::NoTables } => {
                let message = "values of dw_ustack: no DWARF tables for the process".to_owned();
                let help = "name it by `-p`, `-c` or `--dwarf-pid`".to_owned();
                ("no_unwind_tables", message, Some(help))
            }
            Cause::Unwind { why: Unwound::UnknownCode } => {
                let message = "dw_ustack cut: code without DWARF tables".to_owned();
                ("unwind_unknown_code", message, None)
            }
            Cause::Unwind { why: Unwound::Failed } => {
                let message = "dw_ustack cut: the DWARF tables do not say how to go on".to_owned();
                ("unwind_failed", message, None)
            }
            Cause::StackTable { user } => {
                let message = format!("frames of {}: the table of stacks is full", stack(user));
                ("stack_table_full", message, None)
            }
            Cause::ArgumentsGone => {
                let message = "returns: the arguments of the call were not kept".to_owned();
                ("arguments_gone", message, None)
            }
            Cause::Exit
            | Cause::DeleteMissing { .. }
            | Cause::LookupMissing { .. }
            | Cause::DivisionByZero
            | Cause::IndexOutOfBounds
            | Cause::NoChild => return None,
        };
        let told = matches!(cause, "map_update" | "read_failed" | "helper_failed" | "map_full")
            || cause == "stack_not_captured";
        Some(Row {
            span: Some(self.span),
            cause,
            message,
            count,
            map: self.map.as_ref().map(|map| (map.name.clone(), map.room)),
            error: (told && error != 0).then_some(error),
            help,
            told: self.reported > 0,
            wanted: false,
        })
    }
}

impl Shortfall {
    fn row(self, span: Option<Span>, count: u64) -> Row {
        let (cause, message, help) = match self {
            Shortfall::Busy { instead } => {
                let message = "runs: the probe was still running on the CPU".to_owned();
                let help = |name| format!("if the kernel preempted it, `{name}` loses none");
                ("probe_busy", message, instead.map(help))
            }
            Shortfall::Processes => {
                let message =
                    "processes that came or went unseen: the CPU was busy with another".to_owned();
                ("processes_missed", message, None)
            }
            Shortfall::Nested => {
                let message = "runs: the CPU was in another kprobe".to_owned();
                ("probe_nested", message, None)
            }
            Shortfall::Packets => {
                ("packet_buffer_full", "packets: no room in the buffer".to_owned(), None)
            }
            Shortfall::AfterExit => {
                ("after_exit", "events: they came after `exit()`".to_owned(), None)
            }
            Shortfall::Unnamed => {
                let message = "frames without a name: shown as addresses".to_owned();
                ("unsymbolised", message, None)
            }
            Shortfall::CatCut { limit } => {
                let message = format!("files cut: `cat` shows {limit} bytes");
                let more = limit.saturating_mul(2);
                let help = format!("write `config = {{ max_cat_bytes = {more} }}`");
                ("cat_cut", message, Some(help))
            }
        };
        let wanted = self == Shortfall::AfterExit;
        Row { span, cause, message, count, map: None, error: None, help, told: false, wanted }
    }
}

impl Sizes {
    /// How to make the event buffer four times as large; nothing if it cannot be.
    fn help(self) -> Option<String> {
        const LARGEST: u64 = 1 << 31;
        let wanted = self.buffer.saturating_mul(4).min(LARGEST);
        let pages = wanted / self.page.max(1);
        (wanted > self.buffer)
            .then(|| format!("write `config = {{ perf_rb_pages = {pages} }}` ({})", bytes(wanted)))
    }
}

/// A size as people say it.
fn bytes(size: u64) -> String {
    match size {
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n => format!("{} KiB", n.div_ceil(1 << 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Loss, MapValue};
    use crate::runtime::ledger::Tally;
    use crate::runtime::maps::tests::{U32, aggregate, map};
    use crate::runtime::output::tests::{plan, span};
    use crate::types::Aggregation;

    const SIZES: Sizes = Sizes { buffer: 1 << 20, page: 4096 };

    fn row(cause: Cause, error: i64) -> Option<Row> {
        let mut plan = plan("begin { f() }");
        let at = span("begin { f() }", "f()");
        plan.losses = vec![Loss { span: at, cause, at: 0, quiet: false }];
        let mut a = map(Some(U32), aggregate(Aggregation::Count));
        a.name = "@a".into();
        let plain = MapValue::Plain(U32);
        plan.maps = vec![a, map(Some(U32), plain)];
        let mut ledger = Ledger::of(&plan);
        ledger.update(&[Tally::new(3, error)]);
        let table = ledger.table(SIZES);
        assert!(table.iter().all(|row| row.span == Some(at) && row.count == 3));
        table.into_iter().next()
    }

    fn told(cause: Cause, error: i64) -> (&'static str, String, String) {
        let row = row(cause, error).expect("bug: this is a loss");
        (row.cause, row.message, row.help.unwrap_or_default())
    }

    #[test]
    fn rows_say_what_is_missing_and_what_to_write() {
        let of = |cause, message: &str, help: &str| (cause, message.to_owned(), help.to_owned());
        assert_eq!(
            told(Cause::RingBufferFull, 0),
            of(
                "ring_buffer_full",
                "events: no room in the buffer of 1 MiB",
                "write `config = { perf_rb_pages = 1024 }` (4 MiB)"
            )
        );
        assert_eq!(
            told(Cause::MapUpdate { map: 0 }, -7),
            of(
                "map_full",
                "updates: `@a` has room for 4096 keys",
                "write `config = { max_map_keys = 8192 }` or `let @a = percpuhash(8192);`"
            )
        );
        assert_eq!(
            told(Cause::MapUpdate { map: 0 }, -12),
            of("map_update", "updates of `@a`: Cannot allocate memory", "")
        );
        assert_eq!(
            told(Cause::StringCut { room: 64 }, 0),
            of(
                "string_cut",
                "strings cut: they are longer than 63 bytes",
                "write `config = { max_strlen = 128 }`"
            )
        );
        let read = Cause::Helper { name: "probe_read_user_str".into() };
        assert_eq!(told(read, -14), of("read_failed", "reads: Bad address", ""));
        let signal = Cause::Helper { name: "send_signal".into() };
        let message = "calls of send_signal: Operation not permitted";
        assert_eq!(told(signal, -1), of("helper_failed", message, ""));
    }

    #[test]
    fn warnings_are_no_losses() {
        for cause in [
            Cause::DivisionByZero,
            Cause::IndexOutOfBounds,
            Cause::DeleteMissing { map: 0 },
            Cause::LookupMissing { map: 0 },
            Cause::NoChild,
            Cause::Exit,
        ] {
            assert_eq!(row(cause, -2), None);
        }
    }

    #[test]
    fn the_user_side_adds_to_the_table() {
        let script = "a() b()";
        let (a, b) = (span(script, "a()"), span(script, "b()"));
        let mut ledger = Ledger::of(&plan(script));
        ledger.add(None, Shortfall::Packets, 2);
        ledger.add(Some(b), Shortfall::Nested, 1);
        ledger.add(Some(a), Shortfall::Busy { instead: None }, 3);
        ledger.add(Some(a), Shortfall::Busy { instead: None }, 4);
        ledger.add(Some(a), Shortfall::Nested, 0);
        let rows: Vec<_> =
            ledger.table(SIZES).into_iter().map(|r| (r.span, r.cause, r.count)).collect();
        assert_eq!(
            rows,
            [
                (Some(a), "probe_busy", 7),
                (Some(b), "probe_nested", 1),
                (None, "packet_buffer_full", 2)
            ]
        );
    }

    #[test]
    fn the_largest_buffer_cannot_grow() {
        assert_eq!(Sizes { buffer: 1 << 31, page: 4096 }.help(), None);
        let help = Sizes { buffer: 4096, page: 4096 }.help();
        assert_eq!(help.as_deref(), Some("write `config = { perf_rb_pages = 4 }` (16 KiB)"));
    }
}
