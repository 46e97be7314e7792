//! An initial RAM file system: an archive in cpio's "newc" form, which the kernel unpacks into its root.
//!
//! Directories and regular files only, all owned by root, times zero, so that the same files give the same bytes.
//! Not compressed: emulated decompression takes longer than reading the file.

use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const NAME_OF_THE_END: &str = "TRAILER!!!";
/// A file's size has eight hexadecimal digits.
const LARGEST_FILE: u64 = u32::MAX as u64;

/// An archive being written.
pub(crate) struct Archive<W: Write> {
    out: W,
    written: u64,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub(crate) fn new(out: W) -> Self {
        Archive { out, written: 0, inode: 0, directories: BTreeSet::new() }
    }

    /// A directory and those above it; `path` without a leading slash.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if self.directories.insert(path[..end].to_owned()) {
                self.entry(&path[..end], DIRECTORY, &[])?;
            }
        }
        Ok(())
    }

    /// A regular file, with the directories above it; `mode` is the permission bits.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.directory(folder)?;
        }
        self.entry(path, REGULAR | (mode & 0o777), bytes)
    }

    /// A copy of a file of this machine, with its permissions; symbolic links are followed.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        let mode = fs::metadata(from)?.permissions().mode();
        self.file(path, mode, &bytes).with_context(|| path.to_owned())
    }

    /// Writes the end mark and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.header(NAME_OF_THE_END, 0, 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::other(format!("{path}: over 4 GiB")));
        }
        self.inode += 1;
        self.header(path, mode, bytes.len())?;
        self.put(bytes)?;
        self.pad()
    }

    /// Magic, thirteen numbers, the name with its NUL, padding to 4.
    fn header(&mut self, name: &str, mode: u32, size: usize) -> io::Result<()> {
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let (owner, time, device, check) = (0, 0, 0, 0);
        let numbers = [
            self.inode as usize,
            mode as usize,
            owner,
            owner,
            links,
            time,
            size,
            device,
            device,
            device,
            device,
            name.len() + 1,
            check,
        ];
        let digits: String = numbers.iter().map(|number| format!("{number:08X}")).collect();
        self.put(b"070701")?;
        self.put(digits.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> io::Result<()> {
        while !self.written.is_multiple_of(4) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_magic_thirteen_numbers_name_and_data_each_padded_to_four() {
        let mut archive = Archive::new(Vec::new());
        archive.file("etc/a", 0o644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let folder = "070701\
            00000001000041ED0000000000000000000000020000000000000000\
            00000000000000000000000000000000\
            0000000400000000etc\0\0\0";
        let file = "070701\
            00000002000081A40000000000000000000000010000000000000005\
            00000000000000000000000000000000\
            0000000600000000etc/a\0hello\0\0\0";
        assert_eq!(String::from_utf8_lossy(&bytes[..116]), folder.get(..116).unwrap());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(&format!("{folder}{file}")), "{text:?}");
        assert!(text.ends_with("0000000B00000000TRAILER!!!\0\0\0\0"), "{text:?}");
        assert_eq!(text.len() % 4, 0);
    }

    #[test]
    fn each_directory_stands_once_and_before_its_files() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b/c", 0o755, b"").unwrap();
        archive.file("a/b/d", 0o755, b"").unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        let names: Vec<&str> = text.split("070701").skip(1).map(|entry| entry[104..].trim_end_matches('\0')).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", NAME_OF_THE_END]);
    }
}
