//! Histograms: which values a bucket holds, its label, and its row.
//!
//! A row is the label in 16 columns, the count in 8, and a bar of 52.

use std::io::Write as _;

use crate::types::Aggregation;

const LABEL: usize = 16;
const BAR: u64 = 52;
const SUFFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// A bucket to show: its number, and its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub index: usize,
    pub count: u64,
}

/// The smallest and largest value of a bucket; the outer buckets are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub min: Option<i128>,
    /// Inclusive.
    pub max: Option<i128>,
}

/// From the first to the last bucket that is not empty.
pub fn buckets(counts: &[u64]) -> impl Iterator<Item = Bucket> {
    let first = counts.iter().position(|&n| n != 0).unwrap_or(counts.len());
    let last = counts.iter().rposition(|&n| n != 0).map_or(first, |i| i + 1);
    let shown = counts.iter().enumerate().take(last).skip(first);
    shown.map(|(index, &count)| Bucket { index, count })
}

/// Appends the rows of a `hist` or `lhist` value. `div` divides the counts
/// that are shown, not the bars.
pub fn rows(out: &mut Vec<u8>, of: &Aggregation, counts: &[u64], div: u64) {
    let largest = counts.iter().copied().max().unwrap_or(0);
    for bucket in buckets(counts) {
        let start = out.len();
        label(out, of, bucket.index);
        out.resize(out.len().max(start + LABEL), b' ');
        let count = bucket.count.checked_div(div).unwrap_or(bucket.count);
        write!(out, "{count:>8} |").expect("bug: memory takes every write");
        let full = u128::from(BAR) * u128::from(bucket.count) / u128::from(largest.max(1));
        let full = usize::try_from(full).unwrap_or(0);
        let end = out.len() + usize::try_from(BAR).unwrap_or(0);
        out.resize(out.len() + full, b'@');
        out.resize(end, b' ');
        out.extend_from_slice(b"|\n");
    }
}

/// The values that go into a bucket (builtins.md §8).
pub fn bounds(of: &Aggregation, index: usize) -> Bounds {
    match of {
        Aggregation::Hist { bits } => match index.checked_sub(1) {
            None => Bounds { min: None, max: Some(-1) },
            Some(place) => {
                let (low, width) = power(*bits, place);
                Bounds { min: Some(low), max: Some(low + width - 1) }
            }
        },
        Aggregation::Lhist { min, max, step } => {
            let (min, max, step) = (i128::from(*min), i128::from(*max), i128::from(*step).max(1));
            let steps = usize::try_from((max - min) / step).unwrap_or(0);
            match index.checked_sub(1) {
                None => Bounds { min: None, max: Some(min - 1) },
                Some(place) if place >= steps => Bounds { min: Some(max), max: None },
                Some(place) => {
                    let low = min + step * place as i128;
                    Bounds { min: Some(low), max: Some(low + step - 1) }
                }
            }
        }
        Aggregation::Count
        | Aggregation::Sum { .. }
        | Aggregation::Min { .. }
        | Aggregation::Max { .. }
        | Aggregation::Avg { .. }
        | Aggregation::Stats { .. }
        | Aggregation::Tseries { .. } => Bounds { min: None, max: None },
    }
}

fn label(out: &mut Vec<u8>, of: &Aggregation, index: usize) {
    let step = match of {
        Aggregation::Lhist { step, .. } => i128::from(*step),
        _ => 0,
    };
    let bound = |n: i128| match of {
        Aggregation::Hist { bits } => power_label(*bits, n),
        _ => step_label(step, n),
    };
    match bounds(of, index) {
        Bounds { min: None, max: None } => Ok(()),
        Bounds { min: None, max: Some(max) } => write!(out, "(..., {})", bound(max + 1)),
        Bounds { min: Some(min), max: None } => write!(out, "[{}, ...)", bound(min)),
        Bounds { min: Some(min), max: Some(max) } if min == max => write!(out, "[{}]", bound(min)),
        Bounds { min: Some(min), max: Some(max) } => {
            write!(out, "[{}, {})", bound(min), bound(max + 1))
        }
    }
    .expect("bug: memory takes every write");
}

/// Smallest value and width of a `hist` bucket, the one below zero not counted.
fn power(bits: u8, place: usize) -> (i128, i128) {
    let bits = u32::from(bits);
    if place >> bits <= 1 {
        return (place as i128, 1);
    }
    let shift = u32::try_from((place >> bits) - 1).unwrap_or(0).min(64);
    let low = (1 << bits) | (place & ((1 << bits) - 1));
    ((low as i128) << shift, 1 << shift)
}

/// A bound of a `hist` bucket: divided by 1024 as often as the width of its
/// bucket allows.
fn power_label(bits: u8, bound: i128) -> String {
    let highest = bound.max(1).ilog2();
    let width = highest.saturating_sub(u32::from(bits));
    let times = width / 10;
    let suffix = SUFFIXES.get(times as usize).copied().unwrap_or("");
    format!("{}{suffix}", bound >> (10 * times))
}

/// A bound of an `lhist` bucket: in K or M if the step is a multiple of 1024.
fn step_label(step: i128, bound: i128) -> String {
    match bound {
        0 => "0".into(),
        n if step % 1024 == 0 && n % (1 << 20) == 0 => format!("{}M", n >> 20),
        n if step % 1024 == 0 && n % 1024 == 0 => format!("{}K", n >> 10),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(of: &Aggregation, counts: &[u64]) -> String {
        let mut out = Vec::new();
        rows(&mut out, of, counts, 1);
        String::from_utf8(out).unwrap()
    }

    fn hist_label(bits: u8, value: u64) -> String {
        let mut out = Vec::new();
        label(&mut out, &Aggregation::Hist { bits }, hist_index(bits, value as i64));
        String::from_utf8(out).unwrap()
    }

    /// The formula of builtins.md §8.
    fn hist_index(bits: u8, n: i64) -> usize {
        let k = u32::from(bits);
        match u64::try_from(n) {
            Err(_) => 0,
            Ok(n) if n < 1 << (k + 1) => n as usize + 1,
            Ok(n) => {
                let p = n.ilog2();
                (((p - k + 1) << k) as u64 + ((n >> (p - k)) & ((1 << k) - 1)) + 1) as usize
            }
        }
    }

    #[test]
    fn powers_of_two_as_in_the_contract() {
        let mut counts = vec![0; 65];
        for (value, count) in [(0, 1), (1, 1), (2, 4), (8, 3)] {
            counts[hist_index(0, value)] = count;
        }
        let expected = "\
[0]                    1 |@@@@@@@@@@@@@                                       |
[1]                    1 |@@@@@@@@@@@@@                                       |
[2, 4)                 4 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[4, 8)                 0 |                                                    |
[8, 16)                3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@             |
";
        assert_eq!(shown(&Aggregation::Hist { bits: 0 }, &counts), expected);
    }

    #[test]
    fn steps_as_in_the_contract() {
        let expected = "\
(..., 0)               2 |@@@@@@@@@@@                                         |
[0, 25)                9 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[25, 50)               4 |@@@@@@@@@@@@@@@@@@@@@@@                             |
[50, 75)               0 |                                                    |
[75, 100)              0 |                                                    |
[100, ...)             1 |@@@@@                                               |
";
        let of = Aggregation::Lhist { min: 0, max: 100, step: 25 };
        assert_eq!(shown(&of, &[2, 9, 4, 0, 0, 1]), expected);
    }

    #[test]
    fn empty_histograms_have_no_rows() {
        assert_eq!(shown(&Aggregation::Hist { bits: 0 }, &[0; 65]), "");
        assert_eq!(shown(&Aggregation::Hist { bits: 0 }, &[]), "");
    }

    #[test]
    fn counts_are_divided_and_bars_are_not() {
        let mut out = Vec::new();
        rows(&mut out, &Aggregation::Lhist { min: 0, max: 2, step: 1 }, &[0, 10, 5, 0], 5);
        let bar = |n| format!("{}{}", "@".repeat(n), " ".repeat(52 - n));
        let expected = format!(
            "[0]                    2 |{}|\n[1]                    1 |{}|\n",
            bar(52),
            bar(26)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn large_counts_do_not_overflow_the_bar() {
        let bar = "@".repeat(52);
        assert_eq!(
            shown(&Aggregation::Hist { bits: 0 }, &[u64::MAX]),
            format!("(..., 0)        {} |{bar}|\n", u64::MAX)
        );
    }

    #[test]
    fn labels_of_powers() {
        for (bits, value, expected) in [
            (0, 512, "[512, 1K)"),
            (0, 1024, "[1K, 2K)"),
            (0, 512 << 10, "[512K, 1M)"),
            (0, 1 << 20, "[1M, 2M)"),
            (0, 512 << 20, "[512M, 1G)"),
            (0, i64::MAX as u64, "[4E, 8E)"),
            (1, 3, "[3]"),
            (1, 4, "[4, 6)"),
            (1, 1024, "[1024, 1536)"),
            (1, 4096, "[4K, 6K)"),
            (2, 7, "[7]"),
            (2, 8, "[8, 10)"),
            (2, 1024, "[1024, 1280)"),
            (2, 4096, "[4K, 5K)"),
            (2, 1 << 20, "[1024K, 1280K)"),
            (5, 63, "[63]"),
            (5, 64, "[64, 66)"),
        ] {
            assert_eq!(hist_label(bits, value), expected, "{bits} bits, {value}");
        }
        assert_eq!(hist_label(0, u64::MAX), "(..., 0)");
    }

    #[test]
    fn every_value_lies_in_the_bounds_of_its_bucket() {
        for bits in 0..=5 {
            let of = Aggregation::Hist { bits };
            let near = (0..63).flat_map(|p| [(1i64 << p) - 1, 1 << p, (1 << p) + 1]);
            for value in near.chain([-1, i64::MIN, i64::MAX, 12345]) {
                let found = bounds(&of, hist_index(bits, value));
                let value = i128::from(value);
                assert!(found.min.is_none_or(|min| min <= value), "{bits} {value} {found:?}");
                assert!(found.max.is_none_or(|max| value <= max), "{bits} {value} {found:?}");
            }
            // Buckets follow each other without a gap.
            for index in 1..of.words() as usize {
                let (before, this) = (bounds(&of, index - 1), bounds(&of, index));
                assert_eq!(before.max.unwrap() + 1, this.min.unwrap(), "{bits} {index}");
            }
            assert_eq!(bounds(&of, of.words() as usize - 1).max, Some(i128::from(i64::MAX)));
        }
    }

    #[test]
    fn labels_of_steps() {
        let labels = |min, max, step| {
            let of = Aggregation::Lhist { min, max, step };
            (0..of.words() as usize)
                .map(|i| {
                    let mut out = Vec::new();
                    label(&mut out, &of, i);
                    String::from_utf8(out).unwrap()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(-1, 1, 1), ["(..., -1)", "[-1]", "[0]", "[1, ...)"]);
        assert_eq!(labels(0, 2000, 1000), ["(..., 0)", "[0, 1000)", "[1000, 2000)", "[2000, ...)"]);
        assert_eq!(labels(0, 1024, 512), ["(..., 0)", "[0, 512)", "[512, 1024)", "[1024, ...)"]);
        assert_eq!(labels(0, 2 << 20, 1 << 20), ["(..., 0)", "[0, 1M)", "[1M, 2M)", "[2M, ...)"]);
        assert_eq!(
            labels(1 << 19, (1 << 20) + 1024, 1 << 19),
            ["(..., 512K)", "[512K, 1M)", "[1025K, ...)"]
        );
    }
}
