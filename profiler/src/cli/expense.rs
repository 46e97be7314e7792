//! What sampling costs the agent itself: CPU time per sample, the start apart. Names and files at the end are not in it, nor is
//! the programs' time, which the kernel spends in the sampled processes.

use std::time::{Duration, Instant};

/// Opening files, building rows and first samples are mostly over by then.
const START: Duration = Duration::from_secs(5);

/// CPU time of the process and samples, at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    cpu: Duration,
    samples: usize,
}

impl Spent {
    fn per_sample_us(self, before: Spent) -> Option<f64> {
        let samples = self.samples.checked_sub(before.samples).filter(|samples| *samples > 0)?;
        Some(self.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / samples as f64)
    }
}

/// Looks at the clock after each round.
pub(super) struct Expense {
    started: Instant,
    /// At the end of [`START`].
    settled: Option<Spent>,
    now: Spent,
}

impl Expense {
    pub(super) fn begin() -> Expense {
        Expense { started: Instant::now(), settled: None, now: Spent::default() }
    }

    /// After a round; `samples` so far.
    pub(super) fn look(&mut self, samples: usize) {
        self.now = Spent { cpu: cpu_time(), samples };
        if self.settled.is_none() && self.started.elapsed() >= START {
            self.settled = Some(self.now);
        }
    }

    /// A line for people; empty without samples.
    pub(super) fn text(&self) -> String {
        let Some(whole) = self.now.per_sample_us(Spent::default()) else { return String::new() };
        match self.settled.and_then(|settled| self.now.per_sample_us(settled)) {
            Some(steady) => {
                let start = START.as_secs();
                format!("agent CPU per sample: {steady:.1} µs after the first {start} s, {whole:.1} µs with them\n")
            }
            None => format!("agent CPU per sample: {whole:.1} µs, start included\n"),
        }
    }
}

/// CPU time of this process, all threads.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the timespec; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_told_apart_once_there_is_something_after_it() {
        let spent = |milliseconds, samples| Spent { cpu: Duration::from_millis(milliseconds), samples };
        let text = |settled, now| Expense { started: Instant::now(), settled, now }.text();
        assert_eq!(text(None, spent(100, 0)), "");
        assert_eq!(text(None, spent(100, 1000)), "agent CPU per sample: 100.0 µs, start included\n");
        let settled = Some(spent(100, 1000));
        assert_eq!(text(settled, spent(100, 1000)), "agent CPU per sample: 100.0 µs, start included\n");
        assert_eq!(
            text(settled, spent(120, 2000)),
            "agent CPU per sample: 20.0 µs after the first 5 s, 60.0 µs with them\n"
        );
    }

    #[test]
    fn a_look_sees_this_processs_own_time() {
        let mut expense = Expense::begin();
        expense.look(1);
        let first = expense.now.cpu;
        assert!(first > Duration::ZERO && expense.settled.is_none());
        while cpu_time() == first {}
        expense.look(2);
        assert!(expense.now.cpu > first);
    }
}
