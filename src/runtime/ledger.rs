//! What got lost: counters of the kernel side to messages.
//!
//! Every place in the script that can lose something has counters, one for each
//! error that is told apart. Lost events are reported each time their counters grow. Other failures are
//! a warning that points at its statement, when it first happens. What the output
//! lacks at the end is in one [`table`]; warnings that are about nothing that is
//! missing come once more instead, if they happened again.

pub mod table;

use std::io;

use crate::diag::{self, Diagnostic};
use crate::plan::{Cause, ERRORS, Loss, MAX_ROUNDS, Map, Plan, Unwound};
use crate::runtime::decode::word;
use crate::source::Span;

pub use table::{Row, Shortfall, Sizes};

/// How often something was lost at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    /// By error: negative as helpers give it, zero for a null pointer; the status
    /// where it is about an exit. Only those that happened.
    pub errors: Vec<(i64, u64)>,
}

/// Something to tell the user.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Events that were lost since the last report.
    Lost {
        events: u64,
    },
    /// At the end: all events that were lost.
    LostInAll {
        events: u64,
    },
    Warning(Box<Warning>),
}

/// Something went wrong at a place in the script.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    pub span: Span,
    /// One sentence, for JSON.
    pub message: String,
    pub kind: WarningKind,
    /// How often it happened until now.
    pub count: u64,
    /// The same for people.
    pub diagnostic: Diagnostic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarningKind {
    /// A helper of the kernel failed.
    Helper {
        name: String,
        code: i64,
    },
    Other,
}

/// What was reported already, per place.
#[derive(Debug, Clone)]
pub struct Ledger {
    places: Vec<Place>,
    lost: u64,
    /// What no counter of the kernel side is about.
    shortfalls: Vec<(Option<Span>, Shortfall, u64)>,
}

#[derive(Debug, Clone)]
struct Place {
    span: Span,
    cause: Cause,
    /// Whether it is no warning.
    quiet: bool,
    /// Where the cause is about a map.
    map: Option<Full>,
    seen: Tally,
    reported: u64,
}

/// What to say about a map that is full.
#[derive(Debug, Clone)]
struct Full {
    name: String,
    room: u32,
    per_cpu: bool,
}

impl Tally {
    /// So many times the same error.
    pub fn new(count: u64, error: i64) -> Tally {
        Tally { count, errors: vec![(error, count)] }
    }

    /// Reads the counters of a place from those of all; what is not there is zero.
    fn of(loss: &Loss, all: &[u8]) -> Tally {
        let sign = if loss.cause == Cause::Exit { 1 } else { -1 };
        let counters = all.get(loss.at as usize..).unwrap_or_default().chunks_exact(8);
        let counts = counters.take(loss.cause.outcomes() as usize).map(|c| word(c, 0, 8));
        let errors = (0..).map(|n: i64| n * sign).zip(counts).filter(|(_, count)| *count > 0);
        let errors: Vec<_> = errors.collect();
        Tally { count: errors.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n)), errors }
    }

    /// The error that happened most.
    fn error(&self) -> i64 {
        self.errors.iter().max_by_key(|(_, count)| *count).map_or(0, |(error, _)| *error)
    }
}

/// The counters of all places of a plan, as the kernel side keeps them.
pub fn tallies(plan: &Plan, counters: &[u8]) -> Vec<Tally> {
    plan.losses.iter().map(|loss| Tally::of(loss, counters)).collect()
}

impl Ledger {
    /// An empty ledger for the places of a plan.
    pub fn of(plan: &Plan) -> Ledger {
        let places = plan.losses.iter().map(|loss| Place {
            span: loss.span,
            cause: loss.cause.clone(),
            quiet: loss.quiet,
            map: map_of(&loss.cause).and_then(|i| plan.maps.get(i as usize)).map(Full::of),
            seen: Tally::default(),
            reported: 0,
        });
        Ledger { places: places.collect(), lost: 0, shortfalls: Vec::new() }
    }

    /// Takes the counters as they are now, in the plan's order.
    pub fn update(&mut self, now: &[Tally]) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut lost = 0u64;
        for (place, now) in self.places.iter_mut().zip(now) {
            let more = now.count.saturating_sub(place.seen.count);
            place.seen = now.clone();
            if place.cause == Cause::RingBufferFull {
                lost = lost.saturating_add(more);
            } else if place.is_warning() && more > 0 && place.reported == 0 {
                notices.push(place.report());
            }
        }
        if lost > 0 {
            self.lost = self.lost.saturating_add(lost);
            notices.insert(0, Notice::Lost { events: lost });
        }
        notices
    }

    /// [`Ledger::update`] when the run has ended. What the table is about to tell is no
    /// warning any more, unless `-k` asks for it.
    pub fn last_update(&mut self, now: &[Tally]) -> Vec<Notice> {
        let told: Vec<bool> = self.places.iter().map(|p| p.reported > 0).collect();
        let mut notices = self.update(now);
        let mut places =
            self.places.iter_mut().zip(told).filter(|(p, told)| !told && p.reported > 0);
        notices.retain(|notice| {
            if !matches!(notice, Notice::Warning(_)) {
                return true;
            }
            // Warnings come in the order of the places.
            let Some((place, _)) = places.next() else { return true };
            let kept = !place.is_loss() || place.is_read();
            if !kept {
                place.reported = 0;
            }
            kept
        });
        notices
    }

    /// The last word, after a last [`Ledger::update`].
    pub fn finish(&mut self) -> Vec<Notice> {
        let again = self.places.iter_mut().filter(|p| p.reported > 0 && p.seen.count > p.reported);
        let mut notices: Vec<Notice> = again.filter(|p| !p.is_loss()).map(Place::report).collect();
        if self.lost > 0 {
            notices.push(Notice::LostInAll { events: self.lost });
        }
        notices
    }

    /// The status of an `exit()` that found no room in the ring buffer.
    pub fn exit_asked(&self) -> Option<i64> {
        let asked = self.places.iter().find(|p| p.cause == Cause::Exit && p.seen.count > 0);
        asked.map(|p| p.seen.error())
    }

    /// Counts packets that were lost, which are events, too.
    pub fn lost_packets(&mut self, span: Option<Span>, count: u64) -> Notice {
        self.lost = self.lost.saturating_add(count);
        self.add(span, Shortfall::Packets, count);
        Notice::Lost { events: count }
    }

    /// Events that were lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl Place {
    fn is_warning(&self) -> bool {
        !self.quiet && self.cause != Cause::Exit
    }

    /// Whether it is a failed read: a warning only with `-k`.
    fn is_read(&self) -> bool {
        matches!(&self.cause, Cause::Helper { name } if name.starts_with("probe_read"))
    }

    /// Whether the table at the end has it.
    fn is_loss(&self) -> bool {
        match self.cause {
            Cause::RingBufferFull
            | Cause::MapUpdate { .. }
            | Cause::Helper { .. }
            | Cause::StringCut { .. }
            | Cause::ArgumentsCut { .. }
            | Cause::LoopLimit
            | Cause::Stack { .. }
            | Cause::StackCut { .. }
            | Cause::Unwind { .. }
            | Cause::StackTable { .. }
            | Cause::ArgumentsGone => true,
            Cause::Exit
            | Cause::DeleteMissing { .. }
            | Cause::LookupMissing { .. }
            | Cause::DivisionByZero
            | Cause::IndexOutOfBounds
            | Cause::NoChild => false,
        }
    }

    fn report(&mut self) -> Notice {
        self.reported = self.seen.count;
        let (count, error) = (self.seen.count, self.seen.error());
        let helper = |name: &str, code| WarningKind::Helper { name: name.into(), code };
        let full = self.map.as_ref().filter(|_| error == -i64::from(libc::E2BIG));
        let (message, kind) = match &self.cause {
            Cause::RingBufferFull | Cause::Exit => {
                ("an event was lost".to_string(), WarningKind::Other)
            }
            Cause::MapUpdate { .. } => {
                let message = full.map(|map| format!("map `{}` is full", map.name));
                (message.unwrap_or_else(|| error_text(error)), helper("map_update_elem", error))
            }
            Cause::DeleteMissing { .. } => (
                "Can't delete map element because it does not exist.".to_string(),
                helper("map_delete_elem", error),
            ),
            Cause::LookupMissing { .. } => (
                "Can't lookup map element because it does not exist.".to_string(),
                helper("map_lookup_elem", error),
            ),
            Cause::Helper { name } => (error_text(error), helper(name, error)),
            Cause::DivisionByZero => {
                ("division by zero, 1 is used as the result".to_string(), WarningKind::Other)
            }
            Cause::IndexOutOfBounds => {
                ("array index out of bounds".to_string(), WarningKind::Other)
            }
            Cause::LoopLimit => {
                let message = format!("the loop ended after {} rounds", MAX_ROUNDS);
                (message, WarningKind::Other)
            }
            Cause::Stack { user } => {
                let name = if *user { "ustack" } else { "kstack" };
                (format!("Error reading {name}."), WarningKind::Other)
            }
            Cause::Unwind { why } => (unwound(*why).to_string(), WarningKind::Other),
            Cause::StackTable { user } => {
                let name = if *user { "ustack" } else { "kstack" };
                (format!("the frames of a {name} could not be kept"), WarningKind::Other)
            }
            Cause::StringCut { room } => {
                (format!("a string is longer than {} bytes", room - 1), WarningKind::Other)
            }
            Cause::ArgumentsCut { limit } => {
                (format!("a list has more than {limit} strings"), WarningKind::Other)
            }
            Cause::StackCut { user, limit } => {
                let name = if *user { "ustack" } else { "kstack" };
                (format!("a {name} has more than {limit} frames"), WarningKind::Other)
            }
            Cause::ArgumentsGone => {
                ("a function returned whose arguments were not kept".into(), WarningKind::Other)
            }
            Cause::NoChild => {
                ("`cpid` is 0: there is no child process".to_string(), WarningKind::Other)
            }
        };
        let times = |count: u64| match count {
            1 => "once".to_string(),
            n => format!("{n} times"),
        };
        let mut diagnostic =
            Diagnostic::warning(diag::Warning::Runtime, self.span, &message).at(times(count));
        if let WarningKind::Helper { name, code } = &kind {
            diagnostic = diagnostic.note(format!("helper: {name}, retcode: {code}"));
        }
        diagnostic = match (&self.cause, full) {
            (Cause::MapUpdate { .. }, Some(map)) => diagnostic.note(map.note()).help(map.help()),
            (Cause::Stack { .. } | Cause::StackTable { .. }, _) if error != 0 => {
                diagnostic.note(error_text(error))
            }
            (Cause::Unwind { why: Unwound::NoTables }, _) => diagnostic.note(
                "tables are made when a process is first met; those of `-p`, `-c` and \
                 `--dwarf-pid` before tracing starts",
            ),
            (Cause::LoopLimit, _) => diagnostic.note("the kernel makes no more at a time"),
            (Cause::ArgumentsGone, _) => diagnostic.note(GONE),
            (Cause::NoChild, _) => diagnostic.help("start one with `-c`"),
            _ => diagnostic,
        };
        for (other, count) in self.seen.errors.iter().filter(|(other, _)| *other != error) {
            diagnostic = diagnostic.note(format!("{}: {}", times(*count), error_text(*other)));
        }
        let span = self.span;
        Notice::Warning(Box::new(Warning { span, message, kind, count, diagnostic }))
    }
}

/// Why arguments were not kept.
const GONE: &str = "its call was missed, or too many calls were under way at once";

impl Full {
    fn of(map: &Map) -> Full {
        Full { name: map.name.clone(), room: map.max_entries, per_cpu: map.per_cpu }
    }

    fn note(&self) -> String {
        format!("it has room for {} keys; updates of other keys are dropped", self.room)
    }

    fn help(&self) -> String {
        format!("raise `max_map_keys`, or declare the map: `{}`", self.declaration())
    }

    fn table_help(&self) -> String {
        let (more, declaration) = (self.more(), self.declaration());
        format!("write `config = {{ max_map_keys = {more} }}` or `{declaration}`")
    }

    fn declaration(&self) -> String {
        let kind = if self.per_cpu { "percpuhash" } else { "hash" };
        format!("let {} = {kind}({});", self.name, self.more())
    }

    fn more(&self) -> u64 {
        u64::from(self.room).saturating_mul(2).max(1)
    }
}

fn map_of(cause: &Cause) -> Option<u32> {
    match cause {
        Cause::MapUpdate { map } | Cause::DeleteMissing { map } | Cause::LookupMissing { map } => {
            Some(*map)
        }
        Cause::RingBufferFull
        | Cause::Exit
        | Cause::Helper { .. }
        | Cause::StringCut { .. }
        | Cause::ArgumentsCut { .. }
        | Cause::DivisionByZero
        | Cause::IndexOutOfBounds
        | Cause::LoopLimit
        | Cause::Stack { .. }
        | Cause::StackCut { .. }
        | Cause::Unwind { .. }
        | Cause::StackTable { .. }
        | Cause::ArgumentsGone
        | Cause::NoChild => None,
    }
}

/// What a stack lacks that was not unwound to its end.
fn unwound(why: Unwound) -> &'static str {
    match why {
        Unwound::NoTables => "a dw_ustack has no frames: no DWARF tables for the process",
        Unwound::UnknownCode => "a dw_ustack ends at code without DWARF tables",
        Unwound::Failed => "a dw_ustack ends where the DWARF tables do not say how to go on",
    }
}

/// strerror(3) of what a helper gave.
fn error_text(code: i64) -> String {
    match i32::try_from(code.unsigned_abs()) {
        Ok(0) | Err(_) => "the helper gave nothing".into(),
        Ok(number) if number.unsigned_abs() >= ERRORS - 1 => "a rare error".into(),
        Ok(number) => {
            // The standard library appends the number.
            let text = io::Error::from_raw_os_error(number).to_string();
            text.split(" (os error").next().unwrap_or_default().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::output::tests::{plan, span};

    fn ledger(script: &str, losses: Vec<(&str, Cause)>) -> Ledger {
        let mut plan = plan(script);
        plan.losses = losses
            .into_iter()
            .map(|(at, cause)| Loss { span: span(script, at), cause, at: 0, quiet: false })
            .collect();
        Ledger::of(&plan)
    }

    fn tally(count: u64, error: i64) -> Tally {
        Tally::new(count, error)
    }

    #[test]
    fn counters_are_read_where_the_plan_says() {
        let mut counters = [0u64; 1 + ERRORS as usize + 256];
        (counters[0], counters[1], counters[1 + 14], counters[1 + ERRORS as usize + 3]) =
            (5, 2, 3, 1);
        let bytes: Vec<u8> = counters.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let causes =
            [Cause::RingBufferFull, Cause::Helper { name: "probe_read".into() }, Cause::Exit];
        let mut plan = plan("");
        let mut at = 0;
        for cause in causes {
            plan.losses.push(Loss {
                span: Span::default(),
                cause: cause.clone(),
                at,
                quiet: false,
            });
            at += cause.outcomes() * 8;
        }
        let [full, read, exit] =
            <[Tally; 3]>::try_from(tallies(&plan, &bytes)).expect("three places");
        assert_eq!(full, tally(5, 0));
        assert_eq!(read, Tally { count: 5, errors: vec![(0, 2), (-14, 3)] });
        assert_eq!((read.error(), exit), (-14, tally(1, 3)));
        assert_eq!(tallies(&plan, &bytes[..7])[0], Tally::default());
    }

    #[test]
    fn lost_events_are_told_each_time_and_in_all() {
        let full = || Cause::RingBufferFull;
        let mut ledger =
            ledger("print(1) print(2)", vec![("print(1)", full()), ("print(2)", full())]);
        assert_eq!(ledger.update(&[tally(0, 0), tally(0, 0)]), []);
        assert_eq!(ledger.update(&[tally(2, 0), tally(1, 0)]), [Notice::Lost { events: 3 }]);
        assert_eq!(ledger.update(&[tally(2, 0), tally(1, 0)]), []);
        assert_eq!(ledger.update(&[tally(2, 0), tally(5, 0)]), [Notice::Lost { events: 4 }]);
        assert_eq!(ledger.finish(), [Notice::LostInAll { events: 7 }]);
    }

    #[test]
    fn a_place_warns_when_it_first_fails_and_at_the_end() {
        let mut ledger = ledger("1 / $x", vec![("1 / $x", Cause::DivisionByZero)]);
        let counts = |notices: &[Notice]| -> Vec<u64> {
            notices
                .iter()
                .map(|n| match n {
                    Notice::Warning(w) => w.count,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(counts(&ledger.update(&[tally(2, 0)])), [2]);
        assert_eq!(counts(&ledger.update(&[tally(9, 0)])), [0; 0]);
        assert_eq!(counts(&ledger.finish()), [9]);
        assert_eq!(counts(&ledger.finish()), [0; 0]);
    }

    #[test]
    fn errors_of_a_place_are_told_apart() {
        let mut ledger = ledger("f()", vec![("f()", Cause::Helper { name: "f".into() })]);
        let errors = vec![(-14, 3), (-34, 2)];
        let notices = ledger.update(&[Tally { count: 5, errors }]);
        let [Notice::Warning(warning)] = notices.as_slice() else { panic!("{notices:?}") };
        assert_eq!((warning.count, warning.message.as_str()), (5, "Bad address"));
        let notes = warning.diagnostic.notes.join("; ");
        assert_eq!(notes, "helper: f, retcode: -14; 2 times: Numerical result out of range");
        let rows = ledger.table(Sizes { buffer: 4096, page: 4096 });
        let rows: Vec<_> = rows.iter().map(|row| (row.count, row.error)).collect();
        assert_eq!(rows, [(3, Some(-14)), (2, Some(-34))]);
    }

    #[test]
    fn at_the_end_the_table_tells_instead_of_a_warning() {
        let full = |warns: &mut Ledger, n| warns.last_update(&[tally(n, 0)]).len();
        let sizes = Sizes { buffer: 4096, page: 4096 };
        let mut cut = ledger("f()", vec![("f()", Cause::StringCut { room: 8 })]);
        assert_eq!(full(&mut cut, 3), 0);
        assert!(cut.table(sizes).iter().all(|row| !row.told && row.count == 3));
        let mut division = ledger("f()", vec![("f()", Cause::DivisionByZero)]);
        assert_eq!(full(&mut division, 3), 1);
        let mut earlier = ledger("f()", vec![("f()", Cause::StringCut { room: 8 })]);
        assert_eq!(earlier.update(&[tally(1, 0)]).len(), 1);
        assert_eq!(full(&mut earlier, 3), 0);
        assert!(earlier.table(sizes).iter().all(|row| row.told));
    }

    #[test]
    fn error_numbers_have_words() {
        assert_eq!(error_text(-14), "Bad address");
        assert_eq!(error_text(-2), "No such file or directory");
        assert_eq!(error_text(0), "the helper gave nothing");
        assert_eq!(error_text(i64::MIN), "the helper gave nothing");
    }
}
