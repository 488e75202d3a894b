//! Packets to files that tcpdump and its kin read (pcap-savefile(5)): raw IP,
//! times in microseconds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Write};

use super::time::Wall;

/// Magic number, version 2.4, time zone and accuracy (both 0).
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
/// Longer packets are cut.
const LONGEST: u32 = 262_144;
/// `LINKTYPE_RAW`: the packet starts with its IP header.
const RAW_IP: u32 = 101;

/// The files of a run, each opened with its first packet.
#[derive(Default)]
pub struct Files {
    open: HashMap<String, File>,
}

impl Files {
    /// Appends a packet.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub fn append(&mut self, name: &str, at: Wall, packet: &[u8]) -> io::Result<()> {
        let file = match self.open.entry(name.to_owned()) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(place) => {
                let mut file = File::create(name)?;
                file.write_all(&head())?;
                place.insert(file)
            }
        };
        // Handed on whole, so that a reader never sees a part.
        file.write_all(&record(at, packet))
    }
}

fn head() -> Vec<u8> {
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend(VERSION.iter().flat_map(|n| n.to_ne_bytes()));
    bytes.extend([0, 0, LONGEST, RAW_IP].iter().flat_map(|n: &u32| n.to_ne_bytes()));
    bytes
}

fn record(at: Wall, packet: &[u8]) -> Vec<u8> {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let kept = length.min(LONGEST);
    let seconds = u32::try_from(at.seconds).unwrap_or(0);
    let words = [seconds, at.nanoseconds / 1000, kept, length];
    let mut bytes: Vec<u8> = words.iter().flat_map(|n| n.to_ne_bytes()).collect();
    bytes.extend(packet.iter().take(kept as usize));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_the_manual_says() {
        let word =
            |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let bytes = head();
        assert_eq!(bytes.len(), 24);
        assert_eq!((word(&bytes, 0), word(&bytes, 20)), (0xa1b2_c3d4, 101));
        let at = Wall { seconds: 7, nanoseconds: 8_009 };
        let bytes = record(at, &[0x45, 0, 0]);
        let head: Vec<u32> = (0..4).map(|i| word(&bytes, 4 * i)).collect();
        assert_eq!(head, [7, 8, 3, 3]);
        assert_eq!(bytes[16..], [0x45, 0, 0]);
    }
}
