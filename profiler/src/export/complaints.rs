//! One line for many troubles of the same kind: a server that refuses everything shall not fill a log.

use std::time::{Duration, Instant};

/// Time in which equal complaints become one line.
const COLLAPSE: Duration = Duration::from_secs(60);

/// The same for what may last for hours and comes about once a minute.
const COLLAPSE_LONG: Duration = Duration::from_secs(600);

/// The first is said at once, the following ones together at the first after a while.
#[derive(Debug)]
pub(super) struct Complaints {
    collapse: Duration,
    last: Option<Instant>,
    unsaid: u64,
}

impl Default for Complaints {
    /// One line a minute at most.
    fn default() -> Self {
        Complaints { collapse: COLLAPSE, last: None, unsaid: 0 }
    }
}

impl Complaints {
    /// One line in ten minutes at most.
    pub(super) fn rare() -> Complaints {
        Complaints { collapse: COLLAPSE_LONG, ..Complaints::default() }
    }

    /// Counts one; `Some(n)`: say now that there were `n`, this one included.
    pub(super) fn add(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.collapse) {
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
    fn the_first_is_said_at_once_and_the_others_together_after_a_while() {
        let start = Instant::now();
        let each_minute: &[(u64, Option<u64>)] =
            &[(0, Some(1)), (1, None), (59, None), (60, Some(3)), (61, None), (500, Some(2))];
        let rare: &[(u64, Option<u64>)] = &[(0, Some(1)), (60, None), (599, None), (600, Some(3)), (1_199, None)];
        for (mut complaints, table) in [(Complaints::default(), each_minute), (Complaints::rare(), rare)] {
            for (second, said) in table {
                assert_eq!(complaints.add(start + Duration::from_secs(*second)), *said, "{second} s");
            }
        }
    }
}
