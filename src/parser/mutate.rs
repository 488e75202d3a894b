//! Texts that are almost scripts, for tests that nothing panics.

/// Calls `check` with `count` variants of `text`, the same ones every time:
/// characters removed, inserted, replaced, pieces copied, the end cut off.
pub(crate) fn each(text: &str, count: usize, check: impl Fn(&str)) {
    let odd: Vec<char> = "{}()[]<>/\\\"';:,$@#*?.=-&!\n \u{e9}\u{0}a0".chars().collect();
    let original: Vec<char> = text.chars().collect();
    // xorshift64; the seed is any number but 0.
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ text.len() as u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n.max(1) as u64).expect("below a usize")
    };
    for _ in 0..count {
        let mut chars = original.clone();
        for _ in 0..=below(5) {
            let at = below(chars.len());
            let len = below(12).min(chars.len() - at);
            match below(6) {
                0 => drop(chars.drain(at..at + len)),
                1 => chars.insert(at, odd[below(odd.len())]),
                2 if len > 0 => chars[at] = odd[below(odd.len())],
                3 => {
                    let piece: Vec<char> = chars[at..at + len].to_vec();
                    let to = below(chars.len());
                    chars.splice(to..to, piece);
                }
                4 if below(8) == 0 => chars.truncate(at),
                _ => chars.truncate(chars.len().saturating_sub(below(3))),
            }
        }
        check(&chars.into_iter().collect::<String>());
    }
}
