//! Reading, clearing and zeroing a BPF map: the raw system calls.
//!
//! libbpf-rs refuses batches on per-CPU maps and ends a batch walk silently on
//! any error, so the walk is here: `ENOENT` marks the last batch, `ENOSPC` a
//! hash bucket larger than the room given. Kernels that cannot batch a kind of
//! map are asked for one key at a time.

use std::collections::HashSet;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::plan::Map;
use crate::runtime::maps::{MapData, MapReader};

/// Bytes of keys and values that one call may bring.
const ROOM: usize = 4 << 20;

/// Entries that one call may bring.
const ENTRIES: usize = 4096;

/// No bucket of a hash holds that many entries.
const BUCKET: usize = 1 << 20;

/// The kernel's own number for "not supported"; not among libc's.
const ENOTSUPP: i32 = 524;

/// A map of the script in the kernel.
#[derive(Debug, Clone, Copy)]
pub struct KernelMap<'a> {
    fd: BorrowedFd<'a>,
    map: &'a Map,
    /// Bytes of a value, of all CPUs if the map is per CPU.
    value: usize,
}

/// `bpf_map_lookup_batch` and its kin.
type Batch = unsafe extern "C" fn(
    i32,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut u32,
    *const libbpf_sys::bpf_map_batch_opts,
) -> i32;

impl<'a> KernelMap<'a> {
    /// The map behind `fd`, which must have the sizes that `map` says.
    ///
    /// # Errors
    /// If the number of possible CPUs cannot be found.
    pub fn of(fd: BorrowedFd<'a>, map: &'a Map) -> io::Result<KernelMap<'a>> {
        let size = map.value_size as usize;
        let value = match map.per_cpu {
            true => size.next_multiple_of(8) * possible_cpus()?,
            false => size,
        };
        Ok(KernelMap { fd, map, value })
    }

    /// The value of one key (of all CPUs, each rounded up to 8 bytes, for a
    /// per-CPU map), if it is there. `key` is padded or cut to the map's size.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn find(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut exact = key.to_vec();
        exact.resize(self.map.key_size as usize, 0);
        let mut value = vec![0; self.value];
        Ok(self.look_up(&exact, &mut value)?.then_some(value))
    }

    /// Removes every key; a scalar map is no longer set.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn clear(&self) -> io::Result<()> {
        if self.map.key.is_none() {
            return self.store(&[0; 4], &vec![0; self.value]);
        }
        match self.walk(libbpf_sys::bpf_map_lookup_and_delete_batch, &mut |_, _| {}) {
            Err(e) if is_unsupported(&e) => self.delete_singly(),
            result => result,
        }
    }

    /// Sets every value to zero and keeps the keys; a scalar map that holds no
    /// value stays without one.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn zero(&self) -> io::Result<()> {
        let mut value = vec![0; self.value];
        match self.map.set_offset() {
            Some(offset) => {
                if MapData::read(self.map, &mut { *self })?.is_empty() {
                    return Ok(());
                }
                if let Some(set) = value.get_mut(offset as usize) {
                    *set = 1;
                }
                self.store(&[0; 4], &value)
            }
            None => self.keys()?.iter().try_for_each(|key| self.store(key, &value)),
        }
    }

    fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        self.clone().read(&mut |key, _| keys.push(key.to_vec()))?;
        Ok(keys)
    }

    /// Calls `each` with every entry that `batch` brings.
    fn walk(&self, batch: Batch, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let key_size = (self.map.key_size as usize).max(1);
        let value_size = self.value.max(1);
        let fit = (ROOM / (key_size + value_size)).clamp(1, ENTRIES);
        let mut room = fit.min((self.map.max_entries as usize).max(1));
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        // A position is a u32 for hashes and a key for other maps.
        let mut position = vec![0u8; key_size.max(8)];
        let mut next = position.clone();
        let mut first = true;
        loop {
            keys.resize(room * key_size, 0u8);
            values.resize(room * value_size, 0u8);
            let mut count = u32::try_from(room).unwrap_or(u32::MAX);
            let from = if first { ptr::null_mut() } else { position.as_mut_ptr().cast() };
            // SAFETY: `keys` and `values` have room for `count` entries of the map's sizes,
            // the positions for a key or a u32; all outlive the call. The options may be null.
            let code = unsafe {
                batch(
                    self.fd.as_raw_fd(),
                    from,
                    next.as_mut_ptr().cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &raw mut count,
                    ptr::null(),
                )
            };
            let last = match check(code) {
                Ok(()) => false,
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                    if room >= BUCKET {
                        return Err(e);
                    }
                    room *= 2;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let found = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size));
            for (key, value) in found.take(count as usize) {
                each(key, value);
            }
            if last {
                return Ok(());
            }
            std::mem::swap(&mut position, &mut next);
            first = false;
        }
    }

    fn read_singly(&self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut value = vec![0; self.value];
        // The kernel starts again when the key it was given is gone.
        let mut seen = HashSet::new();
        let mut key = self.key_after(None)?;
        while let Some(this) = key {
            if seen.len() > self.map.max_entries as usize || !seen.insert(this.clone()) {
                break;
            }
            if self.look_up(&this, &mut value)? {
                each(&this, &value);
            }
            key = self.key_after(Some(&this))?;
        }
        Ok(())
    }

    fn delete_singly(&self) -> io::Result<()> {
        let mut result = Ok(());
        let mut keys = Vec::new();
        self.read_singly(&mut |key, _| keys.push(key.to_vec()))?;
        for key in &keys {
            // SAFETY: `key` came from this map, so it has the map's key size.
            let code = unsafe {
                libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast())
            };
            result = result.and(present(code).map(drop));
        }
        result
    }

    fn key_after(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0u8; self.map.key_size as usize];
        let from = key.map_or(ptr::null(), |k| k.as_ptr().cast());
        // SAFETY: `from` is null or a key of this map; `next` has room for one.
        let code = unsafe {
            libbpf_sys::bpf_map_get_next_key(self.fd.as_raw_fd(), from, next.as_mut_ptr().cast())
        };
        Ok(present(code)?.then_some(next))
    }

    fn look_up(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        // SAFETY: `key` has the map's key size and `value` room for its values on all CPUs.
        let code = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_mut_ptr().cast(),
            )
        };
        present(code)
    }

    /// Overwrites the value of a key; a key that is gone stays gone.
    fn store(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let flags = u64::from(libbpf_sys::BPF_EXIST);
        // SAFETY: `key` has the map's key size and `value` that of its values on all CPUs.
        let code = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_ptr().cast(),
                flags,
            )
        };
        present(code).map(drop)
    }
}

impl MapReader for KernelMap<'_> {
    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        if self.map.key.is_none() {
            let mut value = vec![0; self.value];
            if self.look_up(&[0; 4], &mut value)? {
                each(&[0; 4], &value);
            }
            return Ok(());
        }
        match self.walk(libbpf_sys::bpf_map_lookup_batch, each) {
            // Refused before anything was read, so nothing is seen twice.
            Err(e) if is_unsupported(&e) => self.read_singly(each),
            result => result,
        }
    }
}

/// Number of CPUs that per-CPU values have room for.
///
/// # Errors
/// If the kernel's list of CPUs cannot be read.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    // SAFETY: takes no arguments and only reads a file.
    let count = unsafe { libbpf_sys::libbpf_num_possible_cpus() };
    usize::try_from(count).map_err(|_| io::Error::from_raw_os_error(-count))
}

/// libbpf's result: zero or a negative error number.
fn check(code: i32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// Whether the key was there.
fn present(code: i32) -> io::Result<bool> {
    match code {
        code if code == -libc::ENOENT => Ok(false),
        code => check(code).map(|()| true),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};

    use super::*;
    use crate::plan::{Layout, MapValue};
    use crate::runtime::decode::Number;
    use crate::runtime::maps::tests::{U32, aggregate, map};
    use crate::runtime::maps::{MapData, Merged};
    use crate::types::Aggregation;

    /// A map in the kernel, or nothing where the kernel does not let us.
    fn create(kind: u32, map: &Map) -> Option<OwnedFd> {
        // SAFETY: the name may be null, the options too.
        let fd = unsafe {
            libbpf_sys::bpf_map_create(
                kind,
                ptr::null(),
                map.key_size,
                map.value_size,
                map.max_entries,
                ptr::null(),
            )
        };
        if fd < 0 {
            eprintln!("skipped: cannot create a map: {}", io::Error::from_raw_os_error(-fd));
            return None;
        }
        // SAFETY: `fd` was made just now and belongs to nobody else.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn insert(kernel: &KernelMap<'_>, key: u32, word: u64) {
        let value: Vec<u8> =
            word.to_ne_bytes().iter().copied().cycle().take(kernel.value).collect();
        // SAFETY: sizes as in `store`.
        let code = unsafe {
            libbpf_sys::bpf_map_update_elem(
                kernel.fd.as_raw_fd(),
                key.to_ne_bytes().as_ptr().cast(),
                value.as_ptr().cast(),
                0,
            )
        };
        assert_eq!(code, 0);
    }

    #[test]
    fn large_hashes_are_read_whole_cleared_and_zeroed() {
        let mut count = map(Some(U32), aggregate(Aggregation::Count));
        count.max_entries = 20_000;
        let mut plain = map(Some(U32), MapValue::Plain(Layout::Int { size: 2, signed: false }));
        plain.max_entries = 20_000;
        for (kind, map) in [
            (libbpf_sys::BPF_MAP_TYPE_PERCPU_HASH, &count),
            (libbpf_sys::BPF_MAP_TYPE_LRU_PERCPU_HASH, &count),
            (libbpf_sys::BPF_MAP_TYPE_HASH, &plain),
        ] {
            let Some(fd) = create(kind, map) else { return };
            let kernel = KernelMap::of(fd.as_fd(), map).unwrap();
            assert!(MapData::read(map, &mut { kernel }).unwrap().is_empty());
            for key in 0..10_000 {
                insert(&kernel, key, 1);
            }
            let data = MapData::read(map, &mut { kernel }).unwrap();
            assert_eq!(data.entries(0).len(), 10_000);
            let mut singly = 0;
            kernel.read_singly(&mut |_, _| singly += 1).unwrap();
            assert_eq!(singly, 10_000);
            kernel.zero().unwrap();
            let data = MapData::read(map, &mut { kernel }).unwrap();
            assert_eq!(data.entries(0).len(), 10_000);
            let zero = |m: &Merged| match m {
                Merged::Plain(bytes) => **bytes == [0, 0],
                other => *other == Merged::Number(Number::Unsigned(0)),
            };
            assert!(data.entries(0).iter().all(|e| zero(e.merged())));
            assert_eq!(kernel.find(&7u32.to_ne_bytes()).unwrap(), Some(vec![0; kernel.value]));
            assert_eq!(kernel.find(&70_000u32.to_ne_bytes()).unwrap(), None);
            kernel.clear().unwrap();
            assert!(MapData::read(map, &mut { kernel }).unwrap().is_empty());
            insert(&kernel, 1, 1);
            kernel.delete_singly().unwrap();
            assert!(MapData::read(map, &mut { kernel }).unwrap().is_empty());
        }
    }

    #[test]
    fn crowded_buckets_make_the_batch_grow() {
        let m = map(Some(U32), MapValue::Plain(Layout::Int { size: 8, signed: false }));
        let Some(fd) = create(libbpf_sys::BPF_MAP_TYPE_HASH, &m) else { return };
        // The walk starts with room for one entry, which some buckets exceed.
        let small = Map { max_entries: 1, ..m.clone() };
        let kernel = KernelMap::of(fd.as_fd(), &small).unwrap();
        for key in 0..m.max_entries {
            insert(&kernel, key, 1);
        }
        assert_eq!(MapData::read(&small, &mut { kernel }).unwrap().entries(0).len(), 4096);
    }

    #[test]
    fn scalars_are_set_cleared_and_zeroed() {
        let sum = map(None, aggregate(Aggregation::Sum { signed: true }));
        let plain = map(None, MapValue::Plain(Layout::Int { size: 8, signed: true }));
        for (kind, map) in [
            (libbpf_sys::BPF_MAP_TYPE_PERCPU_ARRAY, &sum),
            (libbpf_sys::BPF_MAP_TYPE_ARRAY, &plain),
        ] {
            let one = Map { max_entries: 1, ..map.clone() };
            let Some(fd) = create(kind, &one) else { return };
            let kernel = KernelMap::of(fd.as_fd(), &one).unwrap();
            let there = || !MapData::read(&one, &mut { kernel }).unwrap().is_empty();
            assert!(!there());
            kernel.zero().unwrap();
            assert!(!there(), "zero() of a map without a value gives it none");
            insert(&kernel, 0, 5);
            assert!(there());
            kernel.zero().unwrap();
            assert!(there());
            let data = MapData::read(&one, &mut { kernel }).unwrap();
            let shown: Vec<_> = data.entries(0).iter().map(|e| e.value(&one)).collect();
            assert_eq!(shown, [crate::runtime::decode::Value::Int(Number::Signed(0))]);
            kernel.clear().unwrap();
            assert!(!there());
        }
    }
}
