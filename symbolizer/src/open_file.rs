//! [`OpenFile`]: a file that is held open by whoever needs it, and closed where it may take its time.
//!
//! `close` flushes, and FUSE and NFS ask their server for that: one that is silent holds whoever closes, for good.

use std::fmt;
use std::fs::File;
use std::ops::Deref;

/// Takes over a file that nobody needs any more.
pub type Closer = Box<dyn Fn(File) + Send + Sync>;

/// See the module documentation.
pub struct OpenFile {
    /// `None` only while it is dropped.
    file: Option<File>,
    device: Option<(u32, u32)>,
    closer: Option<Closer>,
}

impl OpenFile {
    /// A file on a device that may not answer; its last user hands it to `closer`, which must not wait.
    pub fn closed_by(file: File, device: (u32, u32), closer: Closer) -> OpenFile {
        OpenFile { file: Some(file), device: Some(device), closer: Some(closer) }
    }

    /// Major and minor number of its device, if that may not answer.
    pub fn device(&self) -> Option<(u32, u32)> {
        self.device
    }
}

impl From<File> for OpenFile {
    /// A file on a local file system: its last user closes it.
    fn from(file: File) -> OpenFile {
        OpenFile { file: Some(file), device: None, closer: None }
    }
}

impl Deref for OpenFile {
    type Target = File;

    #[expect(clippy::expect_used, reason = "SANITY: the file is taken in `drop` alone")]
    fn deref(&self) -> &File {
        self.file.as_ref().expect("the file is there until it is dropped")
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let (Some(file), Some(closer)) = (self.file.take(), &self.closer) {
            closer(file);
        }
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.file, formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_last_user_hands_the_file_over() {
        let (sender, receiver) = channel();
        let file = File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        let closer = Box::new(move |file: File| sender.send(file.as_raw_fd()).unwrap());
        let one = Arc::new(OpenFile::closed_by(file, (0, 7), closer));
        let other = one.clone();
        drop(one);
        assert!(receiver.try_recv().is_err());
        assert_eq!(other.as_raw_fd(), number);
        drop(other);
        assert_eq!(receiver.try_recv(), Ok(number));
    }
}
