//! How long a test waits for what must come: a minute, and then it fails instead of hanging.

use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Takes steps until one gives something. Each waits for what it needs itself, for a moment.
pub(super) fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = step() {
            return found;
        }
        assert!(Instant::now() < end, "waited for a minute: {what}");
    }
}
