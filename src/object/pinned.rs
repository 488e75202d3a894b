//! What is kept of a run that goes on without rtrace, as bytes: the plan that it was attached by and
//! the object, with what others need to know of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Object;
use crate::plan::{Plan, checksum};

const MARK: &[u8; 8] = b"rt-pin01";
/// The mark, links, when it was made, bytes of the plan and of the object, checksum.
const HEADER: usize = 48;

/// What is known of a pinned run.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    /// The plan has been matched with the machine.
    pub object: Object,
    /// How many links there were.
    pub links: u64,
    pub since: SystemTime,
}

impl Pinned {
    /// What to keep of a run.
    pub fn bytes(plan: &Plan, elf: &[u8], links: u64, since: SystemTime) -> Vec<u8> {
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let plan = plan.to_bytes();
        let (size, body) = (plan.len() as u64, [plan.as_slice(), elf].concat());
        let words = [links, since, size, elf.len() as u64, checksum(&body)];
        let mut bytes = MARK.to_vec();
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        bytes.extend(body);
        bytes
    }

    /// Reads back what was kept; what follows it does not matter.
    ///
    /// # Errors
    /// Says in half a sentence what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Pinned, String> {
        let damaged = || "its object is damaged".to_owned();
        if !bytes.starts_with(MARK) {
            return Err(damaged());
        }
        let word = |n: usize| {
            let bytes = bytes.get(8 * n..8 * n + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let [Some(links), Some(since), Some(plan), Some(elf), Some(sum)] =
            [1, 2, 3, 4, 5].map(word)
        else {
            return Err(damaged());
        };
        let body = bytes.get(HEADER..).ok_or_else(damaged)?;
        let size = usize::try_from(plan.saturating_add(elf)).map_err(|_| damaged())?;
        let body = body.get(..size).filter(|b| checksum(b) == sum).ok_or_else(damaged)?;
        let (plan, elf) = usize::try_from(plan)
            .ok()
            .and_then(|n| body.split_at_checked(n))
            .ok_or_else(damaged)?;
        let object = Object { elf: elf.to_vec(), plan: Plan::from_bytes(plan)? };
        // Not within the sum.
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(since)).ok_or_else(damaged)?;
        Ok(Pinned { object, links, since })
    }
}

/// For fuzzing: the same with the mark, sizes that fit and the checksum; none if it is too short.
pub(super) fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.get(HEADER..)?;
    let size = body.len() as u64;
    let mut mended = bytes.to_vec();
    mended.get_mut(..MARK.len())?.copy_from_slice(MARK);
    let word =
        |at: usize| Some(u64::from_le_bytes(bytes.get(8 * at..8 * at + 8)?.try_into().ok()?));
    let plan = word(3)?.min(size);
    for (at, value) in [(3, plan), (4, size - plan), (5, checksum(body))] {
        mended.get_mut(8 * at..8 * at + 8)?.copy_from_slice(&value.to_le_bytes());
    }
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_told() {
        let whole = |bytes: &[u8]| Pinned::from_bytes(bytes).map(|p| p.links);
        assert!(whole(b"").is_err_and(|why| why.contains("damaged")));
        let plan: &[u8] = br#"{"version":0}"#;
        let body = [plan, b"\x7fELF"].concat();
        let words = [1, u64::MAX, plan.len() as u64, 4, checksum(&body)];
        let mut bytes = MARK.to_vec();
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        bytes.extend(&body);
        assert!(whole(&bytes).is_err_and(|why| why.contains("version 0")));
        for at in 8 * 3..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            assert!(whole(&damaged).is_err_and(|why| why.contains("damaged")), "byte {at}");
        }
    }
}
