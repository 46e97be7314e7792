//! A file system in user space that holds one executable, `program`, and falls silent when it is told to: from then on every
//! request waits for ever, as with a dead network server.
//!
//! Speaks the kernel's protocol by hand (`include/uapi/linux/fuse.h`, version 7.31), as little of it as `exec` needs.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fixtures::skip;

const IN_HEADER: usize = 40;
const FOR_EVER: u64 = 1 << 30;
const ROOT: u64 = 1;
const PROGRAM: u64 = 2;

mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// The mounted file system; unmounted, and every request that waits answered with an error, when this goes.
pub(crate) struct SilentFuse {
    folder: tempfile::TempDir,
    mounted: PathBuf,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    device: Option<Arc<File>>,
}

impl SilentFuse {
    /// `None` where FUSE can't be mounted, after saying why.
    pub(crate) fn mount(program: &Path) -> Option<SilentFuse> {
        Self::mount_at(program, "")
    }

    /// The same, not on [`SilentFuse::folder`] but at that place in it.
    pub(crate) fn mount_at(program: &Path, place: &str) -> Option<SilentFuse> {
        let content = std::fs::read(program).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mounted = folder.path().join(place);
        std::fs::create_dir_all(&mounted).unwrap();
        let device = match File::options().read(true).write(true).open("/dev/fuse") {
            Ok(device) => Arc::new(device),
            Err(error) => {
                skip(format_args!("/dev/fuse: {error}"));
                return None;
            }
        };
        let target = CString::new(mounted.to_str().unwrap()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        let kind = c"fuse.silent";
        // SAFETY: C strings that outlive the call.
        let result = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if result != 0 {
            skip(format_args!("mounting a FUSE file system: {}", std::io::Error::last_os_error()));
            return None;
        }
        let (silent, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_silent, was_asked) = (silent.clone(), asked.clone());
        // The thread's read ends with an error once the file system is unmounted.
        let requests = device.try_clone().unwrap();
        std::thread::spawn(move || serve(requests, &content, &is_silent, &was_asked));
        Some(SilentFuse { folder, mounted, silent, asked, device: Some(device) })
    }

    /// A folder on a local file system, which it is mounted on or in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the program is.
    pub(crate) fn program(&self) -> PathBuf {
        self.mounted.join("program")
    }

    /// Has the kernel forget what it has read of the program, but for what is mapped.
    pub(crate) fn forget_pages(&self) {
        let program = File::open(self.program()).unwrap();
        // SAFETY: an open descriptor; 0 and 0 are the whole file.
        assert_eq!(unsafe { libc::posix_fadvise(program.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
    }

    /// Answers nothing any more.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Whether somebody has asked since then.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

impl Drop for SilentFuse {
    fn drop(&mut self) {
        let target = CString::new(self.mounted.to_str().unwrap()).unwrap();
        // SAFETY: a C string that outlives the call. Forced: the kernel gives up every request that waits.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) };
        self.device = None;
    }
}

fn serve(mut device: File, content: &[u8], silent: &AtomicBool, asked: &AtomicBool) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length) = device.read(&mut buffer) {
        let request = &buffer[..length];
        let (kind, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
        let no_answer = matches!(kind, opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT);
        if silent.load(Ordering::Acquire) {
            asked.fetch_or(!no_answer, Ordering::AcqRel);
            continue;
        }
        if no_answer {
            continue;
        }
        let answer = answer(kind, node, &request[IN_HEADER..], content);
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let mut reply = Vec::new();
        reply.extend((16 + body.len() as u32).to_le_bytes());
        reply.extend(error.to_le_bytes());
        reply.extend(unique.to_le_bytes());
        reply.extend(body);
        // A request that was interrupted meanwhile takes no answer.
        let _ = device.write(&reply);
    }
}

fn answer(kind: u32, node: u64, body: &[u8], content: &[u8]) -> Result<Vec<u8>, i32> {
    match kind {
        opcode::INIT => {
            let mut reply = Vec::new();
            // Version, read-ahead, no flags, background limits, largest write, time granularity; the rest is unused.
            for word in [7u32, 31, 128 << 10, 0, 12 | 10 << 16, 128 << 10, 1] {
                reply.extend(word.to_le_bytes());
            }
            reply.resize(64, 0);
            Ok(reply)
        }
        opcode::LOOKUP if node == ROOT && body == b"program\0" => {
            let mut reply = Vec::new();
            for word in [PROGRAM, 0, FOR_EVER, FOR_EVER, 0] {
                reply.extend(word.to_le_bytes());
            }
            reply.extend(attributes(PROGRAM, content.len() as u64));
            Ok(reply)
        }
        opcode::LOOKUP => Err(libc::ENOENT),
        opcode::GETATTR => {
            let mut reply = Vec::new();
            reply.extend(FOR_EVER.to_le_bytes());
            reply.extend([0; 8]);
            reply.extend(attributes(node, content.len() as u64));
            Ok(reply)
        }
        opcode::OPEN => Ok(vec![0; 16]),
        opcode::READ => {
            let (offset, size) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
            let from = offset.min(content.len());
            Ok(content[from..(from + size).min(content.len())].to_vec())
        }
        opcode::RELEASE | opcode::FLUSH => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    }
}

/// `struct fuse_attr`.
fn attributes(node: u64, size: u64) -> Vec<u8> {
    let mode = if node == ROOT { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o755 };
    let mut bytes = Vec::new();
    for word in [node, size, size.div_ceil(512), 0, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    // Nanoseconds of three times, mode, links, user, group, device, block size, flags.
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0u32] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
