//! Shared libraries by their short names: the loader's cache
//! (`/etc/ld.so.cache`, the format of glibc 2.2 and later), or a look into the
//! standard directories.

use std::fs;
use std::path::{Path, PathBuf};

use super::Host;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Bytes of the cache's head and of an entry (elf/dl-cache.h of glibc).
const HEAD: usize = 48;
const ENTRY: usize = 24;

/// The file of a library; `name` may lack the version (`libssl.so`) and the
/// `.so` (`libssl`). Among several versions, the one that the loader prefers.
pub(super) fn find(host: &Host, name: &str) -> Option<PathBuf> {
    let arch = host.arch().name;
    let cache = fs::read(host.path("/etc/ld.so.cache")).unwrap_or_default();
    let entries = cached(&cache, arch);
    if let Some((_, path)) = entries.iter().find(|(soname, _)| matches(soname, name)) {
        return Some(PathBuf::from(path));
    }
    let triplet = format!("{arch}-linux-gnu");
    let directories = [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib64".to_owned(),
        "/usr/lib64".to_owned(),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
    ];
    directories.iter().find_map(|dir| {
        let list = fs::read_dir(host.path(dir)).ok()?;
        let names = list.filter_map(|e| e.ok()?.file_name().into_string().ok());
        // The highest version, as text: good enough without a loader's cache.
        let best = names.filter(|file| matches(file, name)).max()?;
        Some(Path::new(dir).join(best))
    })
}

fn matches(soname: &str, name: &str) -> bool {
    match soname.strip_prefix(name) {
        Some("") => true,
        Some(rest) if name.contains(".so") => rest.starts_with('.'),
        Some(rest) => rest.strip_prefix(".so").is_some_and(|r| r.is_empty() || r.starts_with('.')),
        None => false,
    }
}

/// Names and paths in a loader's cache, in its order.
fn cached(bytes: &[u8], arch: &str) -> Vec<(String, String)> {
    let Some(start) = bytes.windows(MAGIC.len()).position(|w| w == MAGIC) else {
        return Vec::new();
    };
    let bytes = bytes.get(start..).unwrap_or_default();
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let text = |at: u32| -> Option<String> {
        let tail = bytes.get(at as usize..)?;
        let end = tail.iter().position(|&b| b == 0)?;
        String::from_utf8(tail.get(..end)?.to_vec()).ok()
    };
    // The byte that says for which machine a library is.
    let wanted = match arch {
        "x86_64" => 0x03,
        "aarch64" => 0x0a,
        _ => 0x00,
    };
    let count = word(MAGIC.len()).unwrap_or(0) as usize;
    (0..count.min(bytes.len() / ENTRY))
        .filter_map(|i| {
            let at = HEAD + i * ENTRY;
            (word(at)? >> 8 & 0xff == wanted).then_some(())?;
            Some((text(word(at + 4)?)?, text(word(at + 8)?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names() {
        assert!(matches("libc.so.6", "libc"));
        assert!(matches("libc.so.6", "libc.so"));
        assert!(matches("libc.so.6", "libc.so.6"));
        assert!(!matches("libcap.so.2", "libc"));
        assert!(!matches("libc.so.60", "libc.so.6"));
    }

    #[test]
    fn a_cache_is_read_and_damage_is_survived() {
        let mut cache = b"ld.so-1.7.0 old part".to_vec();
        let mut new = MAGIC.to_vec();
        new.extend(2u32.to_le_bytes());
        new.resize(HEAD, 0);
        let strings = HEAD + 2 * ENTRY;
        for (flags, key) in [(0x803u32, strings), (0x303, strings)] {
            for word in [flags, key as u32, strings as u32 + 10, 0, 0, 0] {
                new.extend(word.to_le_bytes());
            }
        }
        new.extend(b"libc.so.6\0/lib/libc.so.6\0");
        cache.extend(&new);
        assert_eq!(cached(&cache, "x86_64"), [("libc.so.6".into(), "/lib/libc.so.6".into())]);
        for end in 0..cache.len() {
            cached(&cache[..end], "x86_64");
        }
    }
}
