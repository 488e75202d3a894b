//! Wall-clock time: `time()` and `strftime()`.
//!
//! Programs stamp events with clocks that count from some start; the distance
//! to the wall clock is measured once, so that equal stamps always print the
//! same text.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// What is shown for a time that cannot be.
const IMPOSSIBLE: &[u8] = b"(?)";

/// The longest text that one format may give, in bytes.
const LONGEST: usize = 4096;

const SECOND: i128 = 1_000_000_000;

/// How far the clocks of timestamps are from the wall clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    pub boot: i128,
    pub monotonic: i128,
    pub tai: i128,
}

/// A point in wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// Since 1970, UTC.
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Clock {
    /// Measures the clocks of this machine.
    pub fn measure() -> Clock {
        Clock {
            boot: wall_minus(ClockId::CLOCK_BOOTTIME),
            monotonic: wall_minus(ClockId::CLOCK_MONOTONIC),
            tai: wall_minus(ClockId::CLOCK_TAI),
        }
    }

    /// The wall-clock time of a stamp; `clock` as in `Layout::Timestamp`.
    pub fn wall(&self, nanoseconds: u64, clock: u32) -> Option<Wall> {
        let distance = match clock {
            0 => self.boot,
            1 => self.monotonic,
            2 => self.tai,
            _ => return None,
        };
        let all = i128::from(nanoseconds) + distance;
        Some(Wall {
            seconds: i64::try_from(all.div_euclid(SECOND)).ok()?,
            nanoseconds: u32::try_from(all.rem_euclid(SECOND)).ok()?,
        })
    }
}

impl Wall {
    /// The time now.
    pub fn now() -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        }
    }
}

/// Appends a timestamp: `strftime(3)` in local time, and `%f`, `%l`, `%k` for
/// micro-, milli- and nanoseconds of 6, 3 and 9 digits. `(?)` if impossible.
pub fn timestamp(out: &mut Vec<u8>, format: &str, at: Option<Wall>) {
    let Some(at) = at else {
        out.extend_from_slice(IMPOSSIBLE);
        return;
    };
    let start = out.len();
    let mut characters = format.bytes();
    while let Some(byte) = characters.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let done = match characters.next() {
            Some(b'f') => write!(out, "{:06}", at.nanoseconds / 1000),
            Some(b'l') => write!(out, "{:03}", at.nanoseconds / 1_000_000),
            Some(b'k') => write!(out, "{:09}", at.nanoseconds),
            Some(other) => out.write_all(&[b'%', other]),
            None => out.write_all(b"%%"),
        };
        done.expect("bug: memory takes every write");
    }
    strftime(out, start, at.seconds);
}

/// Appends a time by a plain `strftime(3)` format, in local time.
pub fn time(out: &mut Vec<u8>, format: &str, at: Wall) {
    let start = out.len();
    out.extend_from_slice(format.as_bytes());
    strftime(out, start, at.seconds);
}

/// Appends a time as `2026-01-02 03:04:05.600000000`, in UTC.
pub fn utc(out: &mut Vec<u8>, at: Wall) {
    // SAFETY: all zeros are a valid `tm`: numbers and a pointer that may be null.
    let mut utc: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to live values of the right types.
    let found = unsafe { libc::gmtime_r(&raw const at.seconds, &raw mut utc) };
    if found.is_null() {
        out.extend_from_slice(IMPOSSIBLE);
        return;
    }
    let libc::tm { tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec, .. } = utc;
    write!(
        out,
        "{:04}-{:02}-{tm_mday:02} {tm_hour:02}:{tm_min:02}:{tm_sec:02}.{:09}",
        i64::from(tm_year) + 1900,
        tm_mon + 1,
        at.nanoseconds
    )
    .expect("bug: memory takes every write");
}

/// Replaces the format that `out` has from `start` on by the time.
fn strftime(out: &mut Vec<u8>, start: usize, seconds: i64) {
    // A blank more tells an empty result from one that did not fit.
    out.extend_from_slice(b" \0");
    let text = out.len();
    let mut room = 128;
    let local = local(seconds);
    while let Some(local) = local.as_ref().filter(|_| room <= LONGEST) {
        out.resize(text + room, 0);
        let (before, space) = out.split_at_mut(text);
        let format = before.get(start..).unwrap_or(b"\0");
        // SAFETY: `space` has `room` bytes, `format` ends in a NUL, they do not
        // overlap, and `local` was filled in by localtime_r.
        let len = unsafe {
            libc::strftime(space.as_mut_ptr().cast(), room, format.as_ptr().cast(), local)
        };
        if len > 0 {
            out.copy_within(text..text + len - 1, start);
            out.truncate(start + len - 1);
            return;
        }
        room *= 2;
    }
    out.truncate(start);
    out.extend_from_slice(IMPOSSIBLE);
}

fn local(seconds: i64) -> Option<libc::tm> {
    // SAFETY: all zeros are a valid `tm`: numbers and a pointer that may be null.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to live values of the right types.
    let found = unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    (!found.is_null()).then_some(local)
}

/// The wall clock minus `clock`, from the closest of a few readings.
fn wall_minus(clock: ClockId) -> i128 {
    let read = |id| {
        clock_gettime(id).map_or(0, |t| i128::from(t.tv_sec()) * SECOND + i128::from(t.tv_nsec()))
    };
    (0..5)
        .map(|_| {
            let before = read(clock);
            let wall = read(ClockId::CLOCK_REALTIME);
            let after = read(clock);
            (after - before, wall - (before + after) / 2)
        })
        .min_by_key(|(took, _)| *took)
        .map_or(0, |(_, distance)| distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: &str, seconds: i64, nanoseconds: u32) -> String {
        let mut out = b">".to_vec();
        timestamp(&mut out, format, Some(Wall { seconds, nanoseconds }));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fractions_have_their_own_letters() {
        assert_eq!(shown("%s.%f", 7, 1_002_003), ">7.001002");
        assert_eq!(shown("%s.%l", 7, 1_002_003), ">7.001");
        assert_eq!(shown("%s.%k", 7, 1_002_003), ">7.001002003");
        assert_eq!(shown("%%f %%l %", 7, 1_002_003), ">%f %l %");
        assert_eq!(shown("", 7, 0), ">");
    }

    #[test]
    fn long_and_impossible_times() {
        assert_eq!(shown(&"%Y".repeat(200), 86_400 * 200, 0), format!(">{}", "1970".repeat(200)));
        assert_eq!(shown(&"%Y".repeat(2000), 0, 0), ">(?)");
        assert_eq!(shown("%Y", i64::MAX, 0), ">(?)");
        let mut out = Vec::new();
        timestamp(&mut out, "%Y", None);
        assert_eq!(out, b"(?)");
    }

    #[test]
    fn stamps_are_moved_to_the_wall_clock() {
        let clock = Clock { boot: 10 * SECOND, monotonic: 20 * SECOND, tai: -SECOND };
        let wall = |ns, which| clock.wall(ns, which).map(|w| (w.seconds, w.nanoseconds));
        assert_eq!(wall(1_500_000_000, 0), Some((11, 500_000_000)));
        assert_eq!(wall(1, 1), Some((20, 1)));
        assert_eq!(wall(1, 2), Some((-1, 1)));
        assert_eq!(wall(1, 3), None);
    }

    #[test]
    fn the_measured_clock_is_right() {
        let clock = Clock::measure();
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let stamp = boot.tv_sec() as u64 * 1_000_000_000 + boot.tv_nsec() as u64;
        let found = clock.wall(stamp, 0).unwrap();
        assert!((Wall::now().seconds - found.seconds).abs() <= 1);
    }
}
