//! [`Answering`]: what answers to people take: processor time, those in the making included, memory until they are read, and how many
//! questions got none because others took too much.
//!
//! What somebody asks is no cost of profiling, and must not lower the rate. An answer may take many looks of the governor, so what it
//! has used is told at any time and not only once it is there.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Answering {
    account: Mutex<Account>,
    /// Bytes by tray.
    unread: [AtomicUsize; 2],
    refused: AtomicU64,
}

/// Where an answer lies until its client has read it. Each has a bound of its own: who is slow to read stacks keeps nobody from sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tray {
    /// Sums by label and time, and how far the history is.
    Sums,
    /// Stacks, also as files.
    Stacks,
}

impl Tray {
    /// Once so many bytes lie there, nothing more is put on it. 100,000 distinct stacks are some 4 MiB: who reads leaves less.
    pub const fn most_unread(self) -> usize {
        match self {
            Tray::Sums => 16 << 20,
            Tray::Stacks => 64 << 20,
        }
    }
}

/// An answer that is not read yet.
struct Unread {
    bytes: Bytes,
    answering: Arc<Answering>,
    tray: Tray,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.answering.unread[self.tray as usize].fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Account {
    /// Of answers that are there, ns.
    finished_ns: u64,
    /// Clocks of the threads that make one, and what they stood at when it began.
    running: Vec<(libc::clockid_t, u64)>,
}

/// An answer in the making, by the thread that began it; dropped there when it is done.
#[derive(Debug)]
pub(super) struct Turn {
    answering: Arc<Answering>,
    clock: libc::clockid_t,
}

impl Answering {
    /// The calling thread begins an answer. It makes one at a time.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let clock = own_clock();
        let began = (clock, read_ns(clock));
        self.account().running.push(began);
        Turn { answering: Arc::clone(self), clock }
    }

    /// All that answers took so far, ns. It never goes back.
    pub fn cpu_ns(&self) -> u64 {
        let account = self.account();
        account.running.iter().fold(account.finished_ns, |sum, (clock, began_ns)| {
            sum.saturating_add(read_ns(*clock).saturating_sub(*began_ns))
        })
    }

    /// Bytes of answers that nobody has read yet.
    pub fn unread_bytes(&self, tray: Tray) -> usize {
        self.unread[tray as usize].load(Ordering::Relaxed)
    }

    /// Questions that got no answer since the start because of others, or because it took too long.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer's bytes, counted as unread until they are dropped, as a connection does once it has written them.
    pub fn hold(self: &Arc<Self>, tray: Tray, bytes: Bytes) -> Bytes {
        self.unread[tray as usize].fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Unread { bytes, answering: Arc::clone(self), tray })
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut account = self.answering.account();
        // Under the lock, so that nobody sees the answer neither running nor finished.
        if let Some(at) = account.running.iter().position(|(clock, _)| *clock == self.clock) {
            let (clock, began_ns) = account.running.swap_remove(at);
            account.finished_ns = account.finished_ns.saturating_add(read_ns(clock).saturating_sub(began_ns));
        }
    }
}

/// The calling thread's processor time as a clock that other threads can read while it lives.
fn own_clock() -> libc::clockid_t {
    let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
    // SAFETY: the calling thread exists, and its clock's id is written. Without one the clock stays "whoever reads it".
    unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
    clock
}

/// ns; 0 for a clock that is gone.
fn read_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the timespec; for a clock that does not exist it stays zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn an_answer_counts_while_it_is_made_and_stays_counted_afterwards() {
        let answering = Arc::new(Answering::default());
        let ((worked, is_half_done), (go_on, waits)) = (channel(), channel::<()>());
        let of_thread = Arc::clone(&answering);
        let thread = std::thread::spawn(move || {
            let _turn = of_thread.begin();
            let clock = own_clock();
            let until = read_ns(clock) + 5_000_000;
            while read_ns(clock) < until {}
            worked.send(()).unwrap();
            waits.recv().unwrap();
        });
        is_half_done.recv().unwrap();
        let half = answering.cpu_ns();
        assert!(half >= 5_000_000, "{half}");
        go_on.send(()).unwrap();
        thread.join().unwrap();
        let whole = answering.cpu_ns();
        assert!(whole >= half, "{whole} after {half}");
        assert_eq!(answering.cpu_ns(), whole, "nobody works any more");
    }
}
