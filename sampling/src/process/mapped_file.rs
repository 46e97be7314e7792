//! A file's bytes by `mmap`, safe against a file that shrinks meanwhile.
//!
//! A container may truncate a file while we read it, and the kernel answers the next access with SIGBUS. The symbolizer's
//! mappings are guarded against that, and these are of the same kind: the process has one handler, whoever maps first. The parser
//! sees zeros: wrong bytes of a file that changed, instead of the end of the agent.

use std::fs::File;
use std::io;

use symbolizer::GuardedMapping;

/// How many pages of files that shrank were read as zeros, here and by the symbolizer.
pub fn replaced_pages() -> usize {
    symbolizer::replaced_pages()
}

/// Calls `read` with the whole content of `file`.
pub fn with_bytes<T>(file: &File, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    match file.metadata()?.len() {
        0 => Ok(read(&[])),
        length => Ok(read(&GuardedMapping::map(file, length)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const PAGE: usize = 4096;

    fn file_of_three_pages() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 3 * PAGE]).unwrap();
        file
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_gives_zeros() {
        let file = file_of_three_pages();
        let before = replaced_pages();
        let (first, last) = with_bytes(&file, |bytes| {
            let first = bytes[0];
            file.set_len(PAGE as u64).unwrap();
            (first, bytes[2 * PAGE + 5])
        })
        .unwrap();
        assert_eq!((first, last), (7, 0));
        assert!(replaced_pages() > before);
    }

    #[test]
    fn files_of_the_engine_and_of_the_symbolizer_may_shrink_in_any_order() {
        let (ours, theirs) = (file_of_three_pages(), file_of_three_pages());
        let mapped = GuardedMapping::map(&theirs, 3 * PAGE as u64).unwrap();
        let read = with_bytes(&ours, |bytes| {
            theirs.set_len(PAGE as u64).unwrap();
            let of_theirs = (mapped[0], mapped[2 * PAGE]);
            ours.set_len(PAGE as u64).unwrap();
            (of_theirs, bytes[0], bytes[2 * PAGE], mapped[PAGE], bytes[PAGE])
        });
        assert_eq!(read.unwrap(), ((7, 0), 7, 0, 0, 0));
        assert!(mapped.damaged());
    }

    #[test]
    fn an_empty_file_has_no_bytes_and_what_is_no_file_is_an_error() {
        assert_eq!(with_bytes(&tempfile::tempfile().unwrap(), <[u8]>::len).unwrap(), 0);
        assert!(with_bytes(&File::open("/").unwrap(), <[u8]>::len).is_err());
    }
}
