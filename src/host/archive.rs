//! Binaries inside of zip archives, as `ARCHIVE!/NAME` names them: where they lie in the archive.
//! They can be mapped, and traced, if they are stored as they are, and not compressed.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

/// What separates the archive's path from the name in it.
const MARK: &str = "!/";

/// The archive's path and the name in it, if a path is of that form.
pub fn split(path: &Path) -> Option<(PathBuf, &str)> {
    let (archive, name) = path.to_str()?.split_once(MARK)?;
    Some((PathBuf::from(archive), name))
}

/// The archive and the bytes of it that are the file of such a path; of another path, nothing.
///
/// # Errors
/// Why it cannot be had, as a phrase for a diagnostic.
pub fn place(path: &Path) -> Option<Result<(PathBuf, Range<u64>), String>> {
    let (archive, name) = split(path)?;
    Some(find(&archive, name).map(|range| (archive, range)))
}

fn find(archive: &Path, name: &str) -> Result<Range<u64>, String> {
    let file = File::open(archive).map_err(|e| format!("`{}`: {e}", archive.display()))?;
    let mut zip =
        ZipArchive::new(file).map_err(|_| format!("`{}` is no zip archive", archive.display()))?;
    let index = zip.index_for_name(name);
    let index = index.ok_or_else(|| format!("`{}` has no `{name}` in it", archive.display()))?;
    let entry = zip.by_index_raw(index).map_err(|e| e.to_string())?;
    if entry.compression() != CompressionMethod::Stored {
        return Err("it is compressed in the archive, so that nothing can run it there".into());
    }
    let start = entry.data_start().ok_or("the archive does not say where it begins")?;
    Ok(start..start.saturating_add(entry.size()))
}
