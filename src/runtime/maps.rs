//! Maps as they are shown: every key once, the values of all CPUs merged, in
//! the order in which they are printed (output.md §5).
//!
//! Works on raw bytes from any [`MapReader`]; the one that asks the kernel is
//! [`KernelMap`].

mod bytes;
mod kernel;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;

use crate::plan::{Layout, Map, MapValue};
use crate::runtime::decode::{self, Number, Value, decode, word};
use crate::types::{Aggregation, SERIES_WORDS, Series};

use bytes::Bytes;
pub use kernel::KernelMap;

/// Where the bytes of a map come from.
pub trait MapReader {
    /// Calls `each` with every key and its value. For a per-CPU map these are
    /// the values of all possible CPUs in order, each rounded up to 8 bytes.
    ///
    /// # Errors
    /// What the kernel answers.
    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()>;
}

/// The content of a map at one time, merged and ordered.
#[derive(Debug, Clone)]
pub struct MapData<'p> {
    pub map: &'p Map,
    entries: Vec<Entry>,
    /// See [`MapData::newest`].
    newest: u64,
}

/// Entries that are kept at least while the largest ones are searched for.
const KEPT: usize = 4096;

/// A key and its merged value.
#[derive(Debug, Clone)]
pub struct Entry {
    key: Bytes,
    value: Merged,
    /// What the map is ordered by before its keys.
    rank: u64,
}

/// What all CPUs together hold for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Bytes by the layout of the map's value.
    Plain(Bytes),
    /// `count`, `sum`, `min`, `max`.
    Number(Number),
    /// `avg`
    Average { total: Number, count: u64 },
    /// `stats`
    Stats { total: Number, count: u64 },
    /// `hist` and `lhist`: samples per bucket.
    Buckets(Vec<u64>),
    /// `tseries`: intervals that have a value, by their numbers.
    Series(BTreeMap<u64, Number>),
}

impl<'p> MapData<'p> {
    /// Reads a whole map. A scalar map that holds no value gives no entry.
    ///
    /// # Errors
    /// What the reader answers.
    pub fn read(map: &'p Map, reader: &mut dyn MapReader) -> io::Result<MapData<'p>> {
        MapData::read_top(map, reader, 0)
    }

    /// Reads a map, but keeps only the `top` largest entries, or all for 0.
    ///
    /// # Errors
    /// What the reader answers.
    pub fn read_top(map: &'p Map, reader: &mut dyn MapReader, top: u64) -> io::Result<MapData<'p>> {
        let mut data = MapData { map, entries: Vec::new(), newest: 0 };
        let top = usize::try_from(top).ok().filter(|&n| n > 0);
        let room = top.map_or(usize::MAX, |n| n.saturating_mul(2).max(KEPT));
        reader.read(&mut |key, values| {
            let Some(entry) = entry(map, key, values) else { return };
            if let Merged::Series(points) = &entry.value {
                data.newest = data.newest.max(points.keys().next_back().copied().unwrap_or(0));
            }
            data.entries.push(entry);
            if let Some(top) = top
                && data.entries.len() >= room
            {
                data.keep(top);
            }
        })?;
        if let Some(top) = top {
            data.keep(top);
        }
        data.entries.sort_unstable_by(|a, b| order(map, a, b));
        Ok(data)
    }

    /// Leaves only the largest entries.
    fn keep(&mut self, count: usize) {
        let map = self.map;
        if let Some(rest) = self.entries.len().checked_sub(count).filter(|&rest| rest > 0) {
            self.entries.select_nth_unstable_by(rest, |a, b| order(map, a, b));
            self.entries.drain(..rest);
        }
    }

    /// A map with one entry, whatever its "is set" word says: what printing an
    /// empty scalar map shows.
    pub fn zero(map: &'p Map) -> MapData<'p> {
        let size = usize::try_from(map.value_size).unwrap_or(0).next_multiple_of(8);
        let value = Merged::of(map, &vec![0; size]);
        let entry = Entry { key: Bytes::of(&[]), value, rank: 0 };
        MapData { map, entries: vec![entry], newest: 0 }
    }

    /// Ascending entries: the `top` largest, or all for 0.
    pub fn entries(&self, top: u64) -> &[Entry] {
        let skip = match usize::try_from(top) {
            Ok(top) if top > 0 => self.entries.len().saturating_sub(top),
            _ => 0,
        };
        self.entries.get(skip..).unwrap_or(&[])
    }

    /// The number of the newest interval of a time series, over all keys.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The order in which entries are printed.
fn order(map: &Map, a: &Entry, b: &Entry) -> Ordering {
    let keys = || match &map.key {
        // By far the most frequent, and simple.
        Some(Layout::Int { size, signed }) => {
            let number = |e: &Entry| Number::of(word(&e.key, 0, *size), *size, *signed).as_i64();
            number(a).cmp(&number(b))
        }
        Some(layout) => decode::compare(layout, &a.key, &b.key).then_with(|| a.key.cmp(&b.key)),
        None => Ordering::Equal,
    };
    a.rank.cmp(&b.rank).then_with(keys)
}

impl Entry {
    /// The key; absent for a scalar map.
    pub fn key<'a>(&'a self, map: &'a Map) -> Option<Value<'a>> {
        map.key.as_ref().map(|layout| decode(layout, &self.key))
    }

    pub fn merged(&self) -> &Merged {
        &self.value
    }

    /// The value; nothing for histograms.
    pub fn value<'a>(&'a self, map: &'a Map) -> Value<'a> {
        self.value.value(map)
    }
}

impl Merged {
    /// Merges the values of one key: one value, or for a per-CPU map those of
    /// all CPUs, each rounded up to 8 bytes.
    pub fn of(map: &Map, values: &[u8]) -> Merged {
        let aggregation = match &map.value {
            MapValue::Plain(layout) => {
                let size = layout.size() as usize;
                return Merged::Plain(Bytes::of(values.get(..size).unwrap_or(values)));
            }
            MapValue::Aggregate(aggregation) => aggregation,
        };
        let number = |bits: u64| Number::of(bits, 8, aggregation.signed());
        let sum = |index| cpus(map, values).map(|v| cell(v, index)).fold(0, u64::wrapping_add);
        match aggregation {
            Aggregation::Count | Aggregation::Sum { .. } => Merged::Number(number(sum(0))),
            Aggregation::Min { .. } => Merged::Number(
                cpus(map, values)
                    .filter(|v| cell(v, 1) != 0)
                    .map(|v| number(cell(v, 0)))
                    .min()
                    .unwrap_or(number(0)),
            ),
            Aggregation::Max { .. } => Merged::Number(
                cpus(map, values)
                    .filter(|v| cell(v, 1) != 0)
                    .map(|v| number(cell(v, 0)))
                    .max()
                    .unwrap_or(number(0)),
            ),
            Aggregation::Avg { .. } => Merged::Average { total: number(sum(0)), count: sum(1) },
            Aggregation::Stats { .. } => Merged::Stats { total: number(sum(0)), count: sum(1) },
            Aggregation::Hist { .. } | Aggregation::Lhist { .. } => {
                let mut buckets = vec![0u64; aggregation.words() as usize];
                for value in cpus(map, values) {
                    for (bucket, bytes) in buckets.iter_mut().zip(value.chunks_exact(8)) {
                        *bucket = bucket.wrapping_add(word(bytes, 0, 8));
                    }
                }
                Merged::Buckets(buckets)
            }
            Aggregation::Tseries { count, function, signed, .. } => {
                Merged::Series(series(cpus(map, values), *count, *function, *signed))
            }
        }
    }

    /// The value as the script's user sees it; nothing for histograms.
    pub fn value<'a>(&'a self, map: &'a Map) -> Value<'a> {
        match (self, &map.value) {
            (Merged::Plain(bytes), MapValue::Plain(layout)) => decode(layout, bytes),
            (Merged::Number(n), _) => Value::Int(*n),
            (Merged::Average { total, count }, _) => Value::Int(total.divided(*count)),
            (Merged::Stats { total, count }, _) => {
                Value::Stats { count: *count, average: total.divided(*count), total: *total }
            }
            (Merged::Plain(_), MapValue::Aggregate(_))
            | (Merged::Buckets(_) | Merged::Series(_), _) => Value::None,
        }
    }

    /// What a map is ordered by before its keys; equal for all where only the
    /// keys count. All values of a map have the same type, so 64 bits suffice.
    fn rank(&self, map: &Map) -> u64 {
        // Negative numbers come first.
        let wide = |n: Number| match n {
            Number::Signed(n) => n.cast_unsigned() ^ (1 << 63),
            Number::Unsigned(n) => n,
        };
        let unsigned = matches!(
            map.value,
            MapValue::Aggregate(Aggregation::Min { .. } | Aggregation::Max { .. })
        );
        match (self, self.value(map)) {
            (Merged::Buckets(buckets), _) => buckets.iter().fold(0, |a, &n| a.saturating_add(n)),
            (_, Value::Int(n)) if unsigned => n.bits(),
            (
                _,
                Value::Int(n) | Value::Enum { number: n, .. } | Value::Stats { average: n, .. },
            ) => wide(n),
            _ => 0,
        }
    }
}

fn entry(map: &Map, key: &[u8], values: &[u8]) -> Option<Entry> {
    let value = Merged::of(map, values);
    let there = map.key.is_some() || is_set(map, &value, values);
    there.then(|| Entry { key: Bytes::of(key), rank: value.rank(map), value })
}

/// Whether a scalar map holds a value (see [`MapValue`]).
fn is_set(map: &Map, value: &Merged, values: &[u8]) -> bool {
    let Some(offset) = map.set_offset() else { return true };
    let told = cpus(map, values).any(|v| word(v, offset as usize, 8) != 0);
    told || match (value, &map.value) {
        (Merged::Plain(_), _) => false,
        (_, MapValue::Aggregate(Aggregation::Min { .. } | Aggregation::Max { .. })) => {
            cpus(map, values).any(|v| cell(v, 1) != 0)
        }
        (Merged::Number(n), _) => n.bits() != 0,
        (Merged::Average { count, .. } | Merged::Stats { count, .. }, _) => *count != 0,
        (Merged::Buckets(buckets), _) => buckets.iter().any(|&n| n != 0),
        (Merged::Series(points), _) => !points.is_empty(),
    }
}

/// The intervals of a time series that have a value on any CPU.
fn series<'a>(
    cpus: impl Iterator<Item = &'a [u8]>,
    count: u32,
    function: Series,
    signed: bool,
) -> BTreeMap<u64, Number> {
    let mut points: BTreeMap<u64, (Number, u64)> = BTreeMap::new();
    let number = |bits: u64| Number::of(bits, 8, signed);
    for value in cpus {
        for slot in value.chunks_exact(8 * SERIES_WORDS as usize).take(count as usize) {
            let (interval, sample, third) = (cell(slot, 0), number(cell(slot, 1)), cell(slot, 2));
            if interval == 0 {
                continue;
            }
            let merge = |held: &mut (Number, u64)| match function {
                Series::Last if third > held.1 => *held = (sample, third),
                Series::Last => {}
                Series::Max => held.0 = held.0.max(sample),
                Series::Min => held.0 = held.0.min(sample),
                Series::Avg | Series::Sum => {
                    held.0 = number(held.0.bits().wrapping_add(sample.bits()));
                    held.1 = held.1.wrapping_add(third);
                }
            };
            points.entry(interval).and_modify(merge).or_insert((sample, third));
        }
    }
    let value = |(sample, third): (Number, u64)| match function {
        Series::Avg => sample.divided(third),
        Series::Last | Series::Max | Series::Min | Series::Sum => sample,
    };
    // Slots that some CPU did not use for long may hold what others left behind.
    let newest = points.keys().next_back().copied().unwrap_or(0);
    let oldest = (newest + 1).saturating_sub(u64::from(count));
    points.into_iter().filter(|p| p.0 >= oldest).map(|(at, held)| (at, value(held))).collect()
}

/// The values of the CPUs; one if the map is not per CPU.
fn cpus<'a>(map: &Map, values: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let stride = match map.per_cpu {
        true => (map.value_size as usize).next_multiple_of(8),
        false => values.len(),
    };
    values.chunks(stride.max(1))
}

fn cell(value: &[u8], index: usize) -> u64 {
    word(value, index * 8, 8)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes that a test wrote down.
    pub(crate) struct Written(pub Vec<(Vec<u8>, Vec<u8>)>);

    impl MapReader for Written {
        fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
            for (key, values) in &self.0 {
                each(key, values);
            }
            Ok(())
        }
    }

    /// A map named `@` with such a key and value, as the compiler would lay it out.
    pub(crate) fn map(key: Option<Layout>, value: MapValue) -> Map {
        let size = match &value {
            MapValue::Plain(layout) => layout.size(),
            MapValue::Aggregate(a) => 8 * a.words(),
        };
        let set = if key.is_none() { size.next_multiple_of(8) + 8 } else { size };
        Map {
            name: "@".into(),
            bpf_name: "AT_".into(),
            key_size: key.as_ref().map_or(4, Layout::size),
            key,
            per_cpu: matches!(value, MapValue::Aggregate(_)),
            value,
            value_size: set,
            max_entries: 4096,
        }
    }

    pub(crate) const U32: Layout = Layout::Int { size: 4, signed: false };

    pub(crate) fn aggregate(a: Aggregation) -> MapValue {
        MapValue::Aggregate(a)
    }

    pub(crate) fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    fn merged(a: Aggregation, values: &[u64]) -> Merged {
        Merged::of(&map(Some(U32), aggregate(a)), &words(values))
    }

    fn keys(map: &Map, entries: &[(&[u8], Vec<u8>)]) -> Vec<Vec<u8>> {
        let written = entries.iter().map(|(k, v)| (k.to_vec(), v.clone())).collect();
        let data = MapData::read(map, &mut Written(written)).unwrap();
        data.entries(0).iter().map(|e| e.key.to_vec()).collect()
    }

    #[test]
    fn cpus_are_merged_by_the_aggregation() {
        let minus = (-3i64).cast_unsigned();
        assert_eq!(merged(Aggregation::Count, &[2, 3]), Merged::Number(Number::Unsigned(5)));
        let signed = Aggregation::Sum { signed: true };
        assert_eq!(merged(signed, &[2, minus]), Merged::Number(Number::Signed(-1)));
        // The second CPU saw nothing: its zero does not count.
        let min = Aggregation::Min { signed: true };
        assert_eq!(merged(min, &[5, 1, 0, 0, 7, 1]), Merged::Number(Number::Signed(5)));
        let max = Aggregation::Max { signed: true };
        assert_eq!(merged(max, &[minus, 1, 0, 0]), Merged::Number(Number::Signed(-3)));
        assert_eq!(
            merged(Aggregation::Max { signed: false }, &[minus, 1, 4, 1]),
            Merged::Number(Number::Unsigned(minus))
        );
        let avg = merged(Aggregation::Avg { signed: true }, &[minus, 1, minus, 1]);
        assert_eq!(avg, Merged::Average { total: Number::Signed(-6), count: 2 });
        let buckets =
            merged(Aggregation::Lhist { min: 0, max: 20, step: 10 }, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(buckets, Merged::Buckets(vec![6, 8, 10, 12]));
    }

    #[test]
    fn the_largest_entries_are_found_without_keeping_all() {
        assert!(size_of::<Entry>() <= 64, "a million of them are {} MB", size_of::<Entry>());
        let m = map(Some(U32), MapValue::Plain(Layout::Int { size: 8, signed: true }));
        // Every number once, in no order, and every fifth of them negative.
        let number = |key: u32| {
            let n = i64::from(key.wrapping_mul(7919) % 50_021);
            if n % 5 == 0 { -n } else { n }
        };
        let bytes = |key: u32| (key.to_ne_bytes().to_vec(), number(key).to_ne_bytes().to_vec());
        let written: Vec<_> = (0..50_021).map(bytes).collect();
        let all = MapData::read(&m, &mut Written(written.clone())).unwrap();
        for count in [1, 3, 5000] {
            let top = MapData::read_top(&m, &mut Written(written.clone()), count).unwrap();
            assert_eq!(top.entries.len() as u64, count);
            assert!(top.entries.capacity() < 25_000);
            let keys = |data: &MapData<'_>| -> Vec<Vec<u8>> {
                data.entries(count).iter().map(|e| e.key.to_vec()).collect()
            };
            assert_eq!(keys(&top), keys(&all));
        }
        let values: Vec<i64> = all
            .entries(0)
            .iter()
            .map(|e| match e.value(&m) {
                Value::Int(n) => n.as_i64(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(values.is_sorted() && values[0] < 0);
    }

    #[test]
    fn short_bytes_are_zeros() {
        let m = map(Some(U32), aggregate(Aggregation::Stats { signed: false }));
        let zero = Merged::Stats { total: Number::Unsigned(0), count: 0 };
        assert_eq!(Merged::of(&m, &[]), zero);
        assert_eq!(
            zero.value(&m),
            Value::Stats { count: 0, average: Number::Unsigned(0), total: Number::Unsigned(0) }
        );
    }

    #[test]
    fn scalars_are_there_once_they_were_set() {
        let read = |map: &Map, values: &[u64]| {
            let written = vec![(vec![0; 4], words(values))];
            !MapData::read(map, &mut Written(written)).unwrap().is_empty()
        };
        let plain = map(None, MapValue::Plain(Layout::Int { size: 8, signed: true }));
        assert!(!read(&plain, &[0, 0]));
        assert!(read(&plain, &[0, 1]));
        let count = map(None, aggregate(Aggregation::Count));
        assert!(!read(&count, &[0, 0, 0, 0]));
        assert!(read(&count, &[0, 0, 1, 0]));
        // After zero().
        assert!(read(&count, &[0, 1, 0, 1]));
        let avg = map(None, aggregate(Aggregation::Avg { signed: true }));
        assert!(read(&avg, &[0, 1, 0, 0, 0, 0]));
        let hist = map(None, aggregate(Aggregation::Lhist { min: 0, max: 1, step: 1 }));
        assert!(!read(&hist, &[0, 0, 0, 0]));
        assert!(read(&hist, &[0, 7, 0, 0]));
    }

    #[test]
    fn narrow_integers_are_ordered_as_numbers_and_ties_by_key() {
        let m = map(Some(U32), MapValue::Plain(Layout::Int { size: 2, signed: true }));
        let found = keys(
            &m,
            &[
                (&[3, 0, 0, 0], vec![1, 0]),
                (&[2, 0, 0, 0], vec![0, 1]),
                (&[9, 0, 0, 0], vec![0xff, 0xff]),
                (&[1, 0, 0, 0], vec![1, 0]),
            ],
        );
        assert_eq!(found.iter().map(|k| k[0]).collect::<Vec<_>>(), [9, 1, 3, 2]);
    }

    #[test]
    fn text_values_leave_the_order_to_the_keys() {
        let m = map(Some(Layout::Str { size: 2 }), MapValue::Plain(Layout::Str { size: 2 }));
        let found = keys(&m, &[(b"b\0", b"1\0".to_vec()), (b"a\0", b"2\0".to_vec())]);
        assert_eq!(found, [b"a\0", b"b\0"]);
    }

    #[test]
    fn averages_and_totals_rank_aggregations() {
        let stats = map(Some(U32), aggregate(Aggregation::Stats { signed: true }));
        let found =
            keys(&stats, &[(&[1, 0, 0, 0], words(&[30, 2])), (&[2, 0, 0, 0], words(&[40, 4]))]);
        assert_eq!(found[0][0], 2);
        // Minima are compared as unsigned numbers, so -1 comes last.
        let min = map(Some(U32), aggregate(Aggregation::Min { signed: true }));
        let found =
            keys(&min, &[(&[1, 0, 0, 0], words(&[u64::MAX, 1])), (&[2, 0, 0, 0], words(&[4, 1]))]);
        assert_eq!(found[0][0], 2);
        let hist = map(Some(U32), aggregate(Aggregation::Lhist { min: 0, max: 1, step: 1 }));
        let found =
            keys(&hist, &[(&[1, 0, 0, 0], words(&[9, 0, 0])), (&[2, 0, 0, 0], words(&[0, 4, 4]))]);
        assert_eq!(found[0][0], 2);
    }

    #[test]
    fn top_keeps_the_largest() {
        let m = map(Some(U32), MapValue::Plain(U32));
        let written =
            (0..5u32).map(|n| (n.to_ne_bytes().to_vec(), n.to_ne_bytes().to_vec())).collect();
        let data = MapData::read(&m, &mut Written(written)).unwrap();
        let top = |n| data.entries(n).iter().map(|e| e.key[0]).collect::<Vec<_>>();
        assert_eq!(top(2), [3, 4]);
        assert_eq!(top(9), [0, 1, 2, 3, 4]);
        assert_eq!(top(0), [0, 1, 2, 3, 4]);
    }
}
