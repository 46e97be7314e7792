//! Mappings that survive a truncated file, for the whole agent: a process has one handler for SIGBUS.
//!
//! Reading a page that lies beyond the end of a mapped file raises SIGBUS. The handler installed here looks the address up in a
//! fixed table of our own mappings; if it is in one, it puts a zero page there, marks the mapping as damaged and lets the read
//! go on. Any other SIGBUS goes to the handler that was there before. The handler takes no lock and allocates nothing.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings that exist at one time. More are refused (and read into memory if small).
const SLOTS: usize = 1024;

struct Slot {
    /// 0 = free, 1 = being filled in; else the first address.
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
}

static TABLE: [Slot; SLOTS] =
    [const { Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), damaged: AtomicBool::new(false) } }; SLOTS];

/// Pages that were replaced by zeros.
static REPLACED: AtomicUsize = AtomicUsize::new(0);

static PREVIOUS: OnceLock<Option<Previous>> = OnceLock::new();

#[derive(Clone, Copy)]
struct Previous(libc::sigaction);

/// How many pages of files that shrank were read as zeros, in all mappings.
pub fn replaced_pages() -> usize {
    REPLACED.load(Ordering::Relaxed)
}

/// A read-only mapping of a whole file. What lies beyond the end of one that shrinks reads as zeros.
#[derive(Debug)]
pub struct GuardedMapping {
    map: memmap2::Mmap,
    slot: usize,
}

impl GuardedMapping {
    /// Maps the first `length` bytes of `file`, at least one.
    ///
    /// # Errors
    /// The kernel's, and one of its own if 1,024 mappings exist already.
    pub fn map(file: &File, length: u64) -> io::Result<Self> {
        if PREVIOUS.get_or_init(install).is_none() {
            return Err(io::Error::other("no SIGBUS handler"));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // Private, since some FUSE files can't be mapped otherwise (FOPEN_DIRECT_IO).
        // SAFETY: the bytes are only ever read as plain bytes with bounds checks; see the module documentation for a file that
        // shrinks, and the parent's for one that changes.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map_copy_read_only(file) }?;
        let start = map.as_ptr() as usize;
        for (index, slot) in TABLE.iter().enumerate() {
            if slot.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                slot.damaged.store(false, Ordering::Relaxed);
                slot.end.store(start + length.next_multiple_of(page_size()), Ordering::Relaxed);
                slot.start.store(start, Ordering::Release);
                return Ok(Self { map, slot: index });
            }
        }
        Err(io::Error::other("too many mapped files"))
    }

    /// Whether a page turned out to lie beyond the file's end.
    pub fn damaged(&self) -> bool {
        TABLE[self.slot].damaged.load(Ordering::Acquire)
    }

    pub(crate) fn release(&self) {
        // A damaged mapping has anonymous pages in it; dropping those would only bring the next SIGBUS.
        if !self.damaged() {
            // SAFETY: the mapping is read-only and file-backed: a dropped page is read again from the file.
            let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl Deref for GuardedMapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for GuardedMapping {
    fn drop(&mut self) {
        // Before the unmapping (fields are dropped after this): nobody reads through it any more.
        TABLE[self.slot].start.store(0, Ordering::Release);
    }
}

fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: no pointers.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    })
}

fn install() -> Option<Previous> {
    page_size();
    // SAFETY: an all-zero sigaction is a valid value; both pointers are to live values; the handler is async-signal-safe.
    unsafe {
        let mut previous: libc::sigaction = std::mem::zeroed();
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        (libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous) == 0).then_some(Previous(previous))
    }
}

extern "C" fn on_sigbus(signal: libc::c_int, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler; mmap replaces one page of a mapping that is ours
    // (its slot is cleared before it is unmapped, and the faulting thread is reading it now).
    unsafe {
        let address = (*information).si_addr() as usize;
        for slot in &TABLE {
            let start = slot.start.load(Ordering::Acquire);
            if start > 1 && address >= start && address < slot.end.load(Ordering::Relaxed) {
                let page = address & !(page_size() - 1);
                let fresh = libc::mmap(
                    page as *mut libc::c_void,
                    page_size(),
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                );
                if fresh != libc::MAP_FAILED {
                    slot.damaged.store(true, Ordering::Release);
                    REPLACED.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
        pass_on(signal, information, context);
    }
}

/// Hands the signal to whoever had it before.
///
/// # Safety
/// Only from the signal handler, with its arguments.
unsafe fn pass_on(signal: libc::c_int, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().copied().flatten();
    // SAFETY: a handler address that sigaction gave us is called with the signature that its flags say.
    unsafe {
        match previous {
            Some(Previous(action)) if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN => {
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        std::mem::transmute(action.sa_sigaction);
                    handler(signal, information, context);
                } else {
                    let handler: extern "C" fn(libc::c_int) = std::mem::transmute(action.sa_sigaction);
                    handler(signal);
                }
            }
            _ => {
                // Returning would fault again at once: with the default action, that ends the process as it should.
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, std::ptr::null_mut());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::GuardedMapping;

    #[test]
    fn a_file_that_shrinks_reads_as_zeros_and_is_marked() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 64 << 10]).unwrap();
        let mapped = GuardedMapping::map(&file, 64 << 10).unwrap();
        assert_eq!((mapped[0], mapped[60 << 10], mapped.damaged()), (7, 7, false));
        file.set_len(4096).unwrap();
        assert_eq!((mapped[0], mapped[60 << 10], mapped.damaged()), (7, 0, true));
        drop(mapped);
        let again = GuardedMapping::map(&file, 4096).unwrap();
        assert!(!again.damaged());
    }
}
