//! Random numbers from a seed, for tests that make their cases up: the same seed gives the same
//! case, so that a failure can be had again.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::ops::Range;

/// xorshift64*
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub(crate) fn of(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first number still looks like its seed.
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to below `n`; 0 below 0.
    pub(crate) fn below<N: TryInto<u64> + TryFrom<u64> + Default>(&mut self, n: N) -> N {
        let number = (self.next() >> 33) % n.try_into().unwrap_or(0).max(1);
        N::try_from(number).unwrap_or_default()
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// How many cases an environment variable asks for, from which seed on: `RTRACE_SEED`, or 1.
///
/// # Errors
/// One of the variables is not a number.
pub(crate) fn seeds(count: &str, default: u64) -> Result<Range<u64>, String> {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} is not a number: {text}")),
        Err(_) => Ok(default),
    };
    let first = number("RTRACE_SEED", 1)?;
    Ok(first..first.saturating_add(number(count, default)?))
}
