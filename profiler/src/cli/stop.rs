//! Ctrl-C, SIGTERM and a terminal that goes away (SIGHUP) end a recording early; a second signal ends the program, after a last deed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What is done before a second signal ends the program.
type LastDeed = Box<dyn FnOnce() + Send>;

/// Set once the user wants an end.
#[derive(Clone, Default)]
pub(super) struct Stop {
    wanted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    /// The second signal came.
    is_ending: Arc<AtomicBool>,
    last_deed: Arc<Mutex<Option<LastDeed>>>,
}

/// Shells report the end by a signal as 128 and its number.
const SIGNALLED: i32 = 128;

impl Stop {
    /// Watches for these signals, on a thread of its own: what comes second is heard whatever the program does.
    pub(super) fn watch() -> io::Result<Stop> {
        let stop = Stop::default();
        let mut wanted = vec![SIGINT, SIGTERM];
        // Under nohup the end of the terminal is to change nothing.
        if !is_ignored(SIGHUP) {
            wanted.push(SIGHUP);
        }
        let mut signals = Signals::new(wanted)?;
        let heard = stop.clone();
        std::thread::Builder::new().name("everflame-stop".into()).spawn(move || {
            for signal in signals.forever() {
                if heard.hear(signal) {
                    // Without the handlers of exit: other threads run.
                    signal_hook::low_level::exit(SIGNALLED + signal);
                }
            }
        })?;
        Ok(stop)
    }

    /// Takes note of a signal. True if it is the second one, and the last deed is done.
    fn hear(&self, signal: i32) -> bool {
        if signal == SIGTERM {
            self.terminated.store(true, Ordering::Relaxed);
        }
        if !self.wanted.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.is_ending.store(true, Ordering::Relaxed);
        let deed = self.last_deed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(deed) = deed {
            deed();
        }
        true
    }

    /// What is done when a second signal comes.
    pub(super) fn before_exit(&self, deed: impl FnOnce() + Send + 'static) {
        *self.last_deed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(deed));
    }

    /// Does not return once the second signal came: the program is about to end, with that signal's exit code and no other.
    pub(super) fn give_way(&self) {
        while self.is_ending.load(Ordering::Relaxed) {
            std::thread::park();
        }
    }

    /// Whether a signal came.
    pub(super) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether SIGTERM came, which, unlike Ctrl-C on a terminal, only we got.
    pub(super) fn terminated(&self) -> bool {
        self.terminated.load(Ordering::Relaxed)
    }
}

/// Whether the program was started with this signal ignored.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: without a new action the call only writes the present one (sigaction(2)).
    unsafe {
        let mut now = std::mem::zeroed::<libc::sigaction>();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Stop {
        /// As if SIGTERM had come.
        pub(crate) fn terminate(&self) -> bool {
            self.hear(SIGTERM)
        }
    }

    #[test]
    fn the_first_signal_asks_and_the_second_ends_after_the_last_deed() {
        let done = Arc::new(AtomicBool::new(false));
        let (stop, deed) = (Stop::default(), done.clone());
        stop.before_exit(move || deed.store(true, Ordering::Relaxed));
        assert!(!stop.wanted() && !stop.terminated());
        assert!(!stop.hear(SIGINT));
        assert!(stop.wanted() && !stop.terminated() && !done.load(Ordering::Relaxed));
        assert!(stop.terminate());
        assert!(stop.terminated() && done.load(Ordering::Relaxed));
    }
}
