//! A list of names in one text, since a pattern may have tens of thousands: it is made, copied and
//! stored without touching each.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names in their order. Copies share what they hold until one of them changes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names(Arc<Inner>);

#[derive(Clone, Default, PartialEq, Eq)]
struct Inner {
    text: String,
    /// Where each name ends in the text.
    ends: Vec<usize>,
}

impl Names {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The name with that index.
    pub fn get(&self, index: usize) -> Option<&str> {
        let start = match index {
            0 => 0,
            n => *self.0.ends.get(n - 1)?,
        };
        self.0.text.get(start..*self.0.ends.get(index)?)
    }

    pub fn first(&self) -> Option<&str> {
        self.get(0)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }

    pub fn push(&mut self, name: &str) {
        Arc::make_mut(&mut self.0).push(name);
    }

    pub fn clear(&mut self) {
        *self = Names::default();
    }
}

impl Inner {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Names {
        let mut inner = Inner::default();
        names.into_iter().for_each(|name| inner.push(name.as_ref()));
        Names(Arc::new(inner))
    }
}

impl<S: AsRef<str>> From<Vec<S>> for Names {
    fn from(names: Vec<S>) -> Names {
        names.into_iter().collect()
    }
}

impl<S: AsRef<str>> Extend<S> for Names {
    fn extend<I: IntoIterator<Item = S>>(&mut self, names: I) {
        let inner = Arc::make_mut(&mut self.0);
        names.into_iter().for_each(|name| inner.push(name.as_ref()));
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Names, D::Error> {
        struct List;
        /// One name, which is put where it belongs at once.
        struct Name<'i>(&'i mut Inner);

        impl<'de> Visitor<'de> for List {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut inner = Inner::default();
                while list.next_element_seed(Name(&mut inner))?.is_some() {}
                Ok(Names(Arc::new(inner)))
            }
        }

        impl<'de> DeserializeSeed<'de> for Name<'_> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
                from.deserialize_str(self)
            }
        }

        impl Visitor<'_> for Name<'_> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<(), E> {
                self.0.push(name);
                Ok(())
            }
        }

        from.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_list() {
        let mut names: Names = ["vfs_read", "", "vfs_write"].into_iter().collect();
        let copy = names.clone();
        names.push("vfs_open");
        assert_eq!(names.len(), 4);
        assert_eq!(copy.len(), 3);
        assert_eq!(copy.first(), Some("vfs_read"));
        assert_eq!(names.get(3), Some("vfs_open"));
        assert_eq!(names.get(4), None);
        assert_eq!(copy.iter().collect::<Vec<_>>(), ["vfs_read", "", "vfs_write"]);
        let text = serde_json::to_string(&names).unwrap();
        assert_eq!(text, r#"["vfs_read","","vfs_write","vfs_open"]"#);
        assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), names);
        assert!(serde_json::from_str::<Names>("[1]").is_err());
    }
}
