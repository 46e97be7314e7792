//! Ctrl-C and SIGTERM end a recording early; a second one ends the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Set once the user wants an end.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    wanted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

/// Shells report the end by a signal as 128 and its number.
const SIGNALLED: i32 = 128;

impl Stop {
    /// Watches for both signals.
    pub(super) fn watch() -> io::Result<Stop> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Registered first, so that it sees the flag as the first signal left it: only the second ends us.
            signal_hook::flag::register_conditional_shutdown(signal, SIGNALLED + signal, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
        let terminated = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTERM, terminated.clone())?;
        Ok(Stop { wanted: flag, terminated })
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
