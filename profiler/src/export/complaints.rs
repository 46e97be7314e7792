//! One line for many losses of the same kind: a server that refuses everything shall not fill a log.

use std::time::{Duration, Instant};

/// Time in which equal complaints become one line.
const COLLAPSE: Duration = Duration::from_secs(60);

/// The first is said at once, the following ones together at the first after a minute.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Counts one; `Some(n)`: say now that there were `n`, this one included.
    pub(super) fn add(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < COLLAPSE) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_once_a_minute() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let table = [(0, Some(1)), (1, None), (59, None), (60, Some(3)), (61, None), (500, Some(2))];
        for (second, said) in table {
            assert_eq!(complaints.add(start + Duration::from_secs(second)), said, "{second} s");
        }
    }
}
