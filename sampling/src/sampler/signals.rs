//! [`Deferred`]: signals wait while the kernel verifies programs.
//!
//! A pending signal ends the verifier's work with `EAGAIN` (kernel/bpf/verifier.c), and the loader then tries again with a log, which is
//! ten times as slow: Ctrl-C in the first second was answered after ten. Deferred, it waits for the 0.5 to 1.5 s that loading takes.

/// All signals are deferred for the calling thread until this is dropped, on the same thread.
pub(super) struct Deferred {
    before: libc::sigset_t,
    /// A mask belongs to a thread.
    _stays: std::marker::PhantomData<*const ()>,
}

impl Deferred {
    pub(super) fn all() -> Deferred {
        // SAFETY: sigfillset writes a whole set, and pthread_sigmask the one before; neither can fail with valid arguments.
        let before = unsafe {
            let (mut all, mut before) = (std::mem::zeroed::<libc::sigset_t>(), std::mem::zeroed::<libc::sigset_t>());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            before
        };
        Deferred { before, _stays: std::marker::PhantomData }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        // SAFETY: the mask that the thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the calling thread lets this signal through.
    fn lets_through(signal: i32) -> bool {
        // SAFETY: the set is written whole before it is read.
        unsafe {
            let mut now = std::mem::zeroed::<libc::sigset_t>();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut now);
            libc::sigismember(&raw const now, signal) == 0
        }
    }

    #[test]
    fn signals_wait_exactly_as_long_as_it_lives() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGWINCH, libc::SIGCHLD] {
            let before = lets_through(signal);
            let deferred = Deferred::all();
            assert!(!lets_through(signal), "{signal}");
            drop(deferred);
            assert_eq!(lets_through(signal), before, "{signal}");
        }
    }
}
