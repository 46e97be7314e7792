//! `.gnu_debuglink`, `.gnu_debugaltlink` and `.debug_sup`: where a file says that the rest of its debug information is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::elf::{self, DecompressionBudget};
use crate::image::Image;
use crate::limits::{Deadline, TimeUp};

/// A supplementary file: entries that several debug files share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Supplementary {
    pub(crate) path: PathBuf,
    pub(crate) build_id: Vec<u8>,
}

impl Supplementary {
    /// What `file` (whose bytes are `image`) says about its supplementary file.
    pub(crate) fn of(file: &object::File<'_>, image: &[u8]) -> Option<Self> {
        let mut budget = DecompressionBudget(0);
        if let Ok(section) = elf::section(file, ".gnu_debugaltlink", &mut budget)
            && let Some((path, build_id)) = split_at_zero(section.bytes(image))
        {
            return Some(Self::new(path, build_id));
        }
        let section = elf::section(file, ".debug_sup", &mut budget).ok()?;
        // version (2 bytes) and "is supplementary" (1 byte), then the path, then a counted checksum of under 128 bytes.
        let (_, rest) = section.bytes(image).split_at_checked(3)?;
        let (path, rest) = split_at_zero(rest)?;
        let (length, rest) = rest.split_first()?;
        Some(Self::new(path, rest.get(..usize::from(*length))?))
    }

    fn new(path: &[u8], build_id: &[u8]) -> Self {
        Self { path: OsStr::from_bytes(path).into(), build_id: build_id.to_vec() }
    }
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    (end > 0).then_some((&bytes[..end], &bytes[end + 1..]))
}

/// The paths that a debug link of `executable` can mean, in the order of gdb's search.
pub(crate) fn candidates(executable: &Path, name: &[u8], directories: &[PathBuf]) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name));
    // The link is a bare file name; anything else is not from a linker.
    if name.components().count() != 1 || name.file_name().is_none() {
        return Vec::new();
    }
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let mut paths = vec![directory.join(name), directory.join(".debug").join(name)];
    for base in directories {
        paths.push(base.join(directory.strip_prefix("/").unwrap_or(directory)).join(name));
    }
    // A debug link that names the executable itself is common; it has no more to say than we know.
    paths.retain(|path| path != executable);
    paths
}

/// Bytes between looks at the clock.
const CHECKSUM_STEP: usize = 1 << 16;

/// Whether the file is the one meant: by build id if both have one, else by checksum.
pub(crate) fn matches(
    image: &Image,
    build_id: Option<&[u8]>,
    checksum: u32,
    deadline: &Deadline,
) -> Result<bool, TimeUp> {
    if let (Some(wanted), Ok(file)) = (build_id, object::File::parse(&**image))
        && let Some(found) = elf::build_id(&file)
    {
        return Ok(found == wanted);
    }
    let mut sum = flate2::Crc::new();
    for part in image.chunks(CHECKSUM_STEP) {
        for _ in 0..CHECKSUM_STEP / 64 {
            deadline.tick()?;
        }
        sum.update(part);
    }
    Ok(sum.sum() == checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_link_is_looked_for_where_gdb_looks() {
        let directories = [PathBuf::from("/usr/lib/debug")];
        let paths = candidates(Path::new("/usr/bin/tool"), b"tool.debug", &directories);
        let expected = ["/usr/bin/tool.debug", "/usr/bin/.debug/tool.debug", "/usr/lib/debug/usr/bin/tool.debug"];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert_eq!(candidates(Path::new("/usr/bin/tool"), b"tool", &directories).len(), 2);
        for hostile in [&b"../../etc/shadow"[..], b"/etc/shadow", b"..", b""] {
            assert_eq!(candidates(Path::new("/usr/bin/tool"), hostile, &directories), Vec::<PathBuf>::new());
        }
    }
}
