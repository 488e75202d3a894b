//! Time series: a graph of their values, a row for each interval (output.md
//! §6.4), and their JSON.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::time::{self, Clock, Wall};
use crate::runtime::decode::Number;
use crate::runtime::output::json;
use crate::types::Aggregation;

const MEMORY: &str = "bug: memory takes every write";

/// Columns of the graph between its outer ones.
const INNER: usize = 51;

/// The clock of [`Aggregation::Tseries`], as `Layout::Timestamp` numbers them.
const TAI: u32 = 2;

/// Interval length and how many there are.
fn shape(of: &Aggregation) -> (u64, u64) {
    match of {
        Aggregation::Tseries { interval, count, .. } => (*interval, u64::from(*count)),
        _ => (1, 0),
    }
}

/// The intervals to show: the last so many that end at `newest`, from the
/// first that has a value.
fn shown<'p>(
    of: &Aggregation,
    points: &'p BTreeMap<u64, Number>,
    newest: u64,
) -> impl Iterator<Item = (u64, Option<Number>)> + use<'p> {
    let (_, count) = shape(of);
    let oldest = (newest + 1).saturating_sub(count);
    let first = points.range(oldest..).next().map_or(newest + 1, |p| *p.0);
    (first..=newest).map(|at| (at, points.get(&at).copied()))
}

fn start(of: &Aggregation, at: u64, clock: &Clock) -> Option<Wall> {
    clock.wall(at.saturating_mul(shape(of).0), TAI)
}

/// Appends the graph.
pub fn graph(
    out: &mut Vec<u8>,
    of: &Aggregation,
    points: &BTreeMap<u64, Number>,
    newest: u64,
    clock: &Clock,
) {
    let values = || shown(of, points, newest).filter_map(|p| p.1.map(wide));
    let (Some(mut min), Some(mut max)) = (values().min(), values().max()) else {
        out.extend_from_slice(b"<no data>\n");
        return;
    };
    if min == max {
        (min, max) = (min - 1, max + 1);
    }
    let (unit, digits) = match shape(of).0 {
        1_000_000_000.. => ("", 0),
        1_000_000.. => (".ms", 3),
        1_000.. => (".\u{3bc}s", 6),
        _ => (".ns", 9),
    };
    let width = "hh:mm:ss".len() + if digits > 0 { digits + 1 } else { 0 };
    let place = |n: i128| usize::try_from((INNER as i128 + 1) * (n - min) / (max - min)).ok();
    let scale = |out: &mut Vec<u8>| {
        writeln!(out, "{:width$} {min:<21}{max:>32}", "").expect(MEMORY);
    };
    scale(out);
    let line = "_".repeat(INNER);
    let head = format!("hh:mm:ss{unit}");
    writeln!(out, "{head:<width$} |{line}|").expect(MEMORY);
    for (at, value) in shown(of, points, newest) {
        let wall = start(of, at, clock);
        match wall {
            Some(wall) => {
                time::time(out, "%H:%M:%S", wall);
                if digits > 0 {
                    let fraction = format!("{:09}", wall.nanoseconds);
                    write!(out, ".{}", fraction.get(..digits).unwrap_or("")).expect(MEMORY);
                }
            }
            None => write!(out, "{:<width$}", "(?)").expect(MEMORY),
        }
        out.push(b' ');
        let mut row = vec![b' '; INNER + 2];
        let mut put = |column: Option<usize>, mark: u8| {
            if let Some(cell) = column.and_then(|c| row.get_mut(c)) {
                *cell = mark;
            }
        };
        put(Some(0), b'|');
        put(Some(INNER + 1), b'|');
        if min < 0 && max > 0 {
            put(place(0), b'.');
        }
        if let Some(n) = value {
            put(place(wide(n)), b'*');
        }
        out.extend_from_slice(&row);
        match value {
            Some(n) => writeln!(out, " {n}"),
            None => writeln!(out, " -"),
        }
        .expect(MEMORY);
    }
    writeln!(out, "{:width$} v{line}v", "").expect(MEMORY);
    scale(out);
}

/// Appends a JSON array of the intervals that have a value.
pub fn intervals(
    out: &mut Vec<u8>,
    of: &Aggregation,
    points: &BTreeMap<u64, Number>,
    newest: u64,
    clock: &Clock,
) {
    out.push(b'[');
    let there = shown(of, points, newest).filter_map(|(at, value)| Some((at, value?)));
    for (i, (at, value)) in there.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"interval_start\":");
        let mut text = Vec::new();
        match start(of, at, clock) {
            Some(wall) => time::utc(&mut text, wall),
            None => text.extend_from_slice(b"(?)"),
        }
        json::string(out, &text);
        out.extend_from_slice(b",\"value\":");
        json::number(out, value);
        out.push(b'}');
    }
    out.push(b']');
}

fn wide(n: Number) -> i128 {
    match n {
        Number::Signed(n) => i128::from(n),
        Number::Unsigned(n) => i128::from(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Series;

    const CLOCK: Clock = Clock { boot: 0, monotonic: 0, tai: 0 };

    fn series(interval: u64, count: u32) -> Aggregation {
        Aggregation::Tseries { interval, count, function: Series::Last, signed: true }
    }

    fn points(list: &[(u64, i64)]) -> BTreeMap<u64, Number> {
        list.iter().map(|(at, n)| (*at, Number::Signed(*n))).collect()
    }

    fn drawn(of: &Aggregation, list: &[(u64, i64)], newest: u64) -> String {
        let mut out = Vec::new();
        graph(&mut out, of, &points(list), newest, &CLOCK);
        // Minutes and seconds are the same in most zones.
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_graph_as_in_the_contract() {
        let text = drawn(&series(1_000_000_000, 4), &[(7, -5), (8, 0), (10, 5)], 10);
        let rows: Vec<&str> = text.lines().map(|l| l.get(8..).unwrap_or(l)).collect();
        let line = "_".repeat(51);
        let blanks = |n| " ".repeat(n);
        let expected = [
            format!(" -5{}5", blanks(50)),
            format!(" |{line}|"),
            format!(" *{}.{}| -5", blanks(25), blanks(25)),
            format!(" |{}*{}| 0", blanks(25), blanks(25)),
            format!(" |{}.{}| -", blanks(25), blanks(25)),
            format!(" |{}.{}* 5", blanks(25), blanks(25)),
            format!(" v{line}v"),
            format!(" -5{}5", blanks(50)),
        ];
        assert_eq!(rows, expected);
        assert!(text.contains("\nhh:mm:ss |"), "{text}");
    }

    #[test]
    fn what_is_too_old_is_left_out_and_equal_values_have_room() {
        let text = drawn(&series(1_000_000, 3), &[(1, 100), (9, 4)], 10);
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.contains("3                                                   5"), "{text}");
        assert!(text.contains("hh:mm:ss.ms  |"), "{text}");
        assert!(text.contains(".009 |"), "{text}");
        assert_eq!(drawn(&series(1, 3), &[], 0), "<no data>\n");
    }

    #[test]
    fn json_has_the_intervals_with_values() {
        let mut out = Vec::new();
        let list = points(&[(1, 5), (3, -6)]);
        intervals(&mut out, &series(200_000_000, 10), &list, 3, &CLOCK);
        let expected = "[{\"interval_start\":\"1970-01-01 00:00:00.200000000\",\"value\":5},\
                        {\"interval_start\":\"1970-01-01 00:00:00.600000000\",\"value\":-6}]";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
