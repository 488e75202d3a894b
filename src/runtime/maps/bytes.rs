//! Bytes of keys and values, of which a map may have a million: short ones lie in place.

use std::ops::Deref;

/// Bytes that do not change.
#[derive(Debug, Clone)]
pub enum Bytes {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

/// So that both kinds have the same size.
const SHORT: usize = 22;

impl Bytes {
    /// A copy.
    pub fn of(bytes: &[u8]) -> Bytes {
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Bytes::Short { length, bytes: short }
            }
            _ => Bytes::Long(bytes.into()),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_are_kept() {
        assert_eq!(size_of::<Bytes>(), 24);
        let text: Vec<u8> = (0..100).collect();
        for length in 0..text.len() {
            let bytes = Bytes::of(&text[..length]);
            assert_eq!(*bytes, text[..length]);
            assert_eq!(matches!(bytes, Bytes::Short { .. }), length <= SHORT);
        }
    }
}
