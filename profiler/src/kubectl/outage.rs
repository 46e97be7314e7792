//! [`Outage`]: somebody does not answer for a while: since when, and how long to leave them alone before the next try. Free of I/O.

use std::time::{Duration, Instant};

/// Before the second try.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Before each of the later ones: an API server that comes back after a minute's upgrade is asked six times, not two hundred.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    /// The last one.
    pause: Duration,
}

impl Outage {
    /// Another try failed. How long to wait before the next.
    pub fn failed(&mut self, now: Instant) -> Duration {
        self.since.get_or_insert(now);
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.pause
    }

    /// They answer (again).
    pub fn over(&mut self) {
        *self = Outage::default();
    }

    /// Whether the last try failed.
    pub fn is_now(&self) -> bool {
        self.since.is_some()
    }

    /// Since the first try that failed; zero without one.
    pub fn lasts(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_an_answer_ends_it() {
        let (began, mut outage, mut waited) = (Instant::now(), Outage::default(), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let pause = outage.failed(began + waited);
            waited += pause;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses[..8], [300, 600, 1_200, 2_400, 4_800, 9_600, 10_000, 10_000]);
        assert_eq!(outage.lasts(began + waited), waited);
        assert!(waited > Duration::from_secs(150), "twenty failures are no three seconds: {waited:?}");
        assert!(outage.is_now());
        outage.over();
        assert!(!outage.is_now());
        assert_eq!(outage.lasts(began + waited), Duration::ZERO);
        assert_eq!(outage.failed(began + waited), FIRST_PAUSE);
    }
}
