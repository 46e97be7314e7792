//! A file's bytes by `mmap`, safe against a file that shrinks meanwhile.
//!
//! A container may truncate a file while we read it, and the kernel answers the next access with SIGBUS. The handler puts a
//! page of zeros under the fault, and the parser sees zeros: wrong bytes of a file that changed, instead of the end of the
//! agent. Only faults inside ranges that this module registered are handled; others get the default action.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ranges that are mapped at a time: one for each thread that reads files.
const SLOTS: usize = 64;

struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
}

static RANGES: [Range; SLOTS] = [const { Range { start: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; SLOTS];
/// Pages that were replaced by zeros.
static REPLACED: AtomicUsize = AtomicUsize::new(0);

/// How many pages of files that shrank were read as zeros.
pub fn replaced_pages() -> usize {
    REPLACED.load(Ordering::Relaxed)
}

const PAGE: usize = 4096;

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    let ours = RANGES
        .iter()
        .any(|range| address >= range.start.load(Ordering::Acquire) && address < range.end.load(Ordering::Acquire));
    if ours {
        let page = address & !(PAGE - 1);
        // SAFETY: mmap is async-signal-safe on Linux; the page lies in a mapping of ours.
        let placed = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                PAGE,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if placed != libc::MAP_FAILED {
            REPLACED.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: restores the default action; returning runs the faulting instruction again, which then ends the process.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a zeroed sigaction is valid; the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    });
}

struct Mapping {
    start: *mut libc::c_void,
    length: usize,
    slot: &'static Range,
}

impl std::ops::Drop for Mapping {
    fn drop(&mut self) {
        self.slot.end.store(0, Ordering::Release);
        // SAFETY: the mapping made in `with_bytes`; its bytes are no longer borrowed.
        unsafe { libc::munmap(self.start, self.length) };
        self.slot.start.store(0, Ordering::Release);
    }
}

/// Calls `read` with the whole content of `file`.
pub fn with_bytes<T>(file: &File, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    install();
    let length = file.metadata()?.len() as usize;
    if length == 0 {
        return Ok(read(&[]));
    }
    let slot = RANGES
        .iter()
        .find(|range| range.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok())
        .ok_or_else(|| io::Error::other("too many files are mapped at once"))?;
    // SAFETY: a fresh private mapping of a file that we hold open.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        slot.start.store(0, Ordering::Release);
        return Err(io::Error::last_os_error());
    }
    slot.start.store(start as usize, Ordering::Release);
    slot.end.store(start as usize + length.next_multiple_of(PAGE), Ordering::Release);
    let mapping = Mapping { start, length, slot };
    // SAFETY: the mapping is as long as said; pages that vanish are replaced by the handler above.
    let bytes = unsafe { std::slice::from_raw_parts(mapping.start.cast::<u8>(), length) };
    Ok(read(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_that_shrinks_while_it_is_read_gives_zeros() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 3 * PAGE]).unwrap();
        let before = replaced_pages();
        let (first, last) = with_bytes(&file, |bytes| {
            let first = bytes[0];
            file.set_len(PAGE as u64).unwrap();
            (first, bytes[2 * PAGE + 5])
        })
        .unwrap();
        assert_eq!((first, last), (7, 0));
        assert_eq!(replaced_pages(), before + 1);
    }
}
