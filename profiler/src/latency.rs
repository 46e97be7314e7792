//! [`Latency`]: how long something takes, each time, for `/metrics`: filled by any thread without a lock, of one size for ever.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets, ms: from what nobody notices to a whole interval. What takes longer is in a last one.
const BOUNDS_MS: [u64; 7] = [1, 5, 20, 100, 500, 2_000, 10_000];
/// With the last one.
const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// [`Latency`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Upper bound of each bucket in seconds, and how many times are in it and in no lower one.
    pub buckets: [(f64, u64); BUCKETS],
    /// How many there are.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum_seconds: f64,
}

impl Latency {
    /// It took so long, this time.
    pub fn took(&self, time: Duration) {
        let bucket = BOUNDS_MS.iter().position(|bound| time <= Duration::from_millis(*bound));
        self.buckets[bucket.unwrap_or(BUCKETS - 1)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Does `work`, and notes what it took.
    pub fn of<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.took(began.elapsed());
        done
    }

    /// All times so far.
    pub fn times(&self) -> Times {
        let bound = |at: usize| BOUNDS_MS.get(at).map_or(f64::INFINITY, |bound| *bound as f64 / 1e3);
        let buckets = std::array::from_fn(|at| (bound(at), self.buckets[at].load(Relaxed)));
        // Not a counter of its own: it must be the sum of the buckets, whatever is added meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        Times { buckets, count, sum_seconds: self.sum_ns.load(Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for micros in [0, 1_000, 1_001, 20_000, 9_999_999, 10_000_001, 3_600_000_000] {
            latency.took(Duration::from_micros(micros));
        }
        let times = latency.times();
        assert_eq!(times.buckets.map(|(_, count)| count), [2, 1, 1, 0, 0, 0, 1, 2]);
        assert_eq!((times.buckets[0].0, times.buckets[BUCKETS - 1].0, times.count), (0.001, f64::INFINITY, 7));
        assert_eq!(times.sum_seconds, 3_620.022_001);
    }

    #[test]
    fn what_is_done_is_handed_on_and_counted_once() {
        let latency = Latency::default();
        assert_eq!(latency.of(|| 7), 7);
        assert_eq!(latency.times().count, 1);
    }
}
