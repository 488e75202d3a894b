//! Rows of many files in pages of one size: what goes where.

use crate::host::dwarf::frames::{Frames, Row};
use crate::plan::unwind::{PAGE_ROWS, ROW};

/// Ranges of code begin and end at pages of memory, so that few prefixes make one.
const MEMORY_PAGE: u64 = 4096;

/// A piece of a page that is smaller is not worth a range of its own.
const SMALL: u32 = 128;

/// Where some rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub page: u32,
    /// The first of them, and how many.
    pub first: u32,
    pub count: u32,
}

/// Rows that lie together, and the addresses that they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// As the file counts addresses; the last one has no end.
    pub start: u64,
    pub end: u64,
    pub place: Place,
}

/// The pages, by what is free of them.
#[derive(Debug)]
pub(super) struct Pages {
    free: Vec<Place>,
}

impl Pages {
    /// So many pages, all of them free.
    pub(super) fn new(count: u32) -> Pages {
        let mut pages = Pages { free: Vec::new() };
        pages.grow(0, count);
        pages
    }

    /// More pages: from one number to another.
    pub(super) fn grow(&mut self, from: u32, to: u32) {
        self.free.extend((from..to).map(|page| Place { page, first: 0, count: PAGE_ROWS }));
    }

    /// Gives rows back.
    pub(super) fn release(&mut self, place: Place) {
        let at = self.free.partition_point(|f| (f.page, f.first) < (place.page, place.first));
        self.free.insert(at, place);
        let mut joined: Vec<Place> = Vec::with_capacity(self.free.len());
        for place in self.free.drain(..) {
            match joined.last_mut() {
                Some(last) if last.page == place.page && last.first + last.count == place.first => {
                    last.count += place.count;
                }
                _ => joined.push(place),
            }
        }
        self.free = joined;
    }

    /// A piece for up to `wanted` rows; the first that is not too small.
    fn take(&mut self, wanted: u32) -> Option<Place> {
        let at = self.free.iter().position(|f| f.count >= wanted.min(SMALL))?;
        let free = self.free.get_mut(at)?;
        let taken = Place { count: wanted.min(free.count), ..*free };
        free.first += taken.count;
        free.count -= taken.count;
        if free.count == 0 {
            self.free.remove(at);
        }
        Some(taken)
    }

    /// Finds room for the rows of a file, and says which bytes go there. `None` if there is not
    /// enough; nothing is taken then.
    pub(super) fn place(&mut self, frames: &Frames) -> Option<Vec<(Chunk, Vec<u8>)>> {
        let mut chunks: Vec<(Chunk, Vec<u8>)> = Vec::new();
        let mut start = 0;
        let mut next = 0;
        while let Some(rows) = frames.rows.get(next..).filter(|rows| !rows.is_empty()) {
            let wanted = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let found = self.take(wanted).and_then(|place| {
                let found = chunk(frames.base, start, rows, place);
                if found.is_none() {
                    self.release(place);
                }
                // What lies this dense needs a page of its own.
                found.or_else(|| {
                    let whole = self.free.iter().position(|f| f.count == PAGE_ROWS)?;
                    let place = self.free.remove(whole);
                    let taken = Place { count: wanted.min(PAGE_ROWS), ..place };
                    if taken.count < PAGE_ROWS {
                        self.release(Place {
                            first: taken.count,
                            count: PAGE_ROWS - taken.count,
                            ..place
                        });
                    }
                    chunk(frames.base, start, rows, taken)
                })
            });
            let Some((chunk, unused)) = found else {
                for (chunk, _) in chunks {
                    self.release(chunk.place);
                }
                return None;
            };
            if let Some(unused) = unused {
                self.release(unused);
            }
            let used = chunk.place.count as usize;
            chunks.push((chunk, bytes(rows.get(..used).unwrap_or_default())));
            start = chunk.end;
            next += used;
            if chunk.end < u64::MAX {
                // The last row that starts before the next chunk is the first of it, too.
                let distance = u32::try_from(chunk.end - frames.base).unwrap_or(u32::MAX);
                let begins_there = frames.rows.get(next).is_some_and(|row| row.start <= distance);
                next -= usize::from(!begins_there);
            }
        }
        Some(chunks)
    }
}

/// The chunk that begins with `rows` and goes as far as the place has room; the rest of the place
/// is given back. `None` if not even one page of memory's code fits.
fn chunk(base: u64, start: u64, rows: &[Row], place: Place) -> Option<(Chunk, Option<Place>)> {
    if place.count as usize >= rows.len() {
        return Some((Chunk { start, end: u64::MAX, place }, None));
    }
    let beyond = rows.get(place.count as usize)?;
    let end = (base + u64::from(beyond.start)) / MEMORY_PAGE * MEMORY_PAGE;
    let first = rows.first()?;
    if end <= start || end <= base + u64::from(first.start) {
        return None;
    }
    let distance = u32::try_from(end - base).ok()?;
    let used = u32::try_from(rows.partition_point(|row| row.start < distance)).ok()?;
    let kept = Place { count: used, ..place };
    let unused = Place { first: place.first + used, count: place.count - used, ..place };
    Some((Chunk { start, end, place: kept }, (unused.count > 0).then_some(unused)))
}

fn bytes(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * ROW as usize);
    for row in rows {
        bytes.extend(row.start.to_ne_bytes());
        bytes.extend(row.step.code().to_ne_bytes());
    }
    bytes
}

/// The prefixes that make up a range of addresses: first address and its number of bits.
pub(super) fn prefixes(mut start: u64, end: u64) -> Vec<(u64, u32)> {
    let mut list = Vec::new();
    while start < end {
        let most = (end - start).ilog2();
        let bits = start.trailing_zeros().min(most);
        list.push((start, 64 - bits));
        start += 1 << bits;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dwarf::frames::Step;

    fn frames(rows: impl Iterator<Item = u32>) -> Frames {
        let step = |n: u32| if n.is_multiple_of(2) { Step::Outermost } else { Step::Unknown };
        let rows = rows.enumerate();
        let rows = rows.map(|(n, start)| Row { start, step: step(u32::try_from(n).unwrap_or(0)) });
        let mut frames = Frames::by_pointers();
        frames.rows = rows.collect();
        frames.base = 0x1000;
        frames
    }

    /// Every row is found where it is.
    fn check(frames: &Frames, chunks: &[(Chunk, Vec<u8>)]) {
        assert_eq!(chunks.first().map(|c| c.0.start), Some(0));
        assert_eq!(chunks.last().map(|c| c.0.end), Some(u64::MAX));
        for pair in chunks.windows(2) {
            assert_eq!(pair[0].0.end, pair[1].0.start);
            assert!(pair[0].0.end.is_multiple_of(MEMORY_PAGE));
        }
        for row in &frames.rows {
            for address in [row.start, row.start + 1] {
                let absolute = frames.base + u64::from(address);
                let (chunk, bytes) =
                    chunks.iter().find(|c| (c.0.start..c.0.end).contains(&absolute)).unwrap();
                assert_eq!(bytes.len(), (chunk.place.count * ROW) as usize);
                let word = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
                let mut all =
                    (0..chunk.place.count as usize).map(|n| (word(n * 8), word(n * 8 + 4)));
                let found = all.rfind(|r| r.0 <= address).unwrap();
                assert_eq!(found.1, frames.at(absolute).unwrap().step.code());
            }
        }
    }

    #[test]
    fn rows_find_room_in_several_pages() {
        let mut pages = Pages::new(8);
        for frames in [
            frames((0..20_000).map(|n| n * 7)),
            frames(0..3),
            frames((0..5000).map(|n| n * 4000)),
            frames((0..8000).map(|n| n * 2)),
        ] {
            let chunks = pages.place(&frames).expect("there is room");
            check(&frames, &chunks);
        }
    }

    #[test]
    fn what_is_given_back_can_be_used_again() {
        let mut pages = Pages::new(2);
        let large = frames((0..15_000).map(|n| n * 9));
        let chunks = pages.place(&large).expect("there is room");
        assert!(pages.place(&large).is_none());
        for (chunk, _) in chunks {
            pages.release(chunk.place);
        }
        assert_eq!(pages.free.len(), 2);
        check(&large, &pages.place(&large).expect("there is room again"));
    }

    #[test]
    fn prefixes_cover_a_range() {
        let list = prefixes(0x7f00_0000_1000, 0x7f00_0000_9000);
        let sizes: u64 = list.iter().map(|(_, bits)| 1u64 << (64 - bits)).sum();
        assert_eq!(sizes, 0x8000);
        assert!(list.iter().all(|(at, bits)| at.trailing_zeros() >= 64 - bits));
        assert_eq!(prefixes(4096, 8192), [(4096, 52)]);
        assert!(prefixes(5, 5).is_empty());
    }
}
