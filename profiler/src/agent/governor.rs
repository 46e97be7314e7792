//! [`Governor`]: keeps profiling within its share of the processors by lowering the rate. Pure: it is told what was used, and says
//! at which rate to go on.
//!
//! Used time is paid from an account that fills a little slower than the limit allows, so that a burst (a node full of new programs
//! whose tables are built) is paid back by going slower afterwards, and the long-term share stays within the limit.

use std::time::Duration;

/// How much unused time may be saved up for a burst, in seconds at the limit. It begins full: start-up builds the tables of everything
/// that runs, some 0.4 s of processor time that no lower rate would save.
const SAVED_SECONDS: f64 = 30.0;
/// A debt is paid back over about so many seconds.
const PAY_BACK_SECONDS: f64 = 60.0;
/// While in debt, at least this part of the limit may still be used: the profile becomes coarse, never empty.
const LEAST_SHARE: f64 = 0.25;
/// The account fills at this part of the limit: what is saved at the start comes on top, and the kernel charges the programs a few
/// percent more than their own timers see. With all of it 0.204 % were used of 0.2 % in the first eight minutes.
const MARGIN: f64 = 0.9;
/// The rate is raised at most by this factor at a time, and only if it is worth as much as [`WORTH`].
const RAISE: f64 = 2.0;
const WORTH: f64 = 1.2;

/// See the module documentation.
#[derive(Debug)]
pub struct Governor {
    wanted_hz: u32,
    hz: u32,
    /// Processor seconds per second that the account fills with, over all CPUs.
    income: f64,
    /// Processor seconds saved up; negative is a debt.
    saved: f64,
    /// The most that may be saved up.
    most_saved: f64,
}

impl Governor {
    /// Starts at `wanted_hz` with all saved that may be; `limit` in processor seconds per second, over all CPUs.
    pub fn new(wanted_hz: u32, limit: f64) -> Governor {
        let most_saved = limit * SAVED_SECONDS;
        Governor { wanted_hz, hz: wanted_hz, income: limit * MARGIN, saved: most_saved, most_saved }
    }

    /// The rate in force, Hz.
    pub fn frequency_hz(&self) -> u32 {
        self.hz
    }

    /// Whether less is sampled than was asked for.
    pub fn is_limiting(&self) -> bool {
        self.hz < self.wanted_hz
    }

    /// Never more than this from here on, whatever the processor allows; the new rate if it changes. A higher one comes back
    /// step by step.
    pub fn cap(&mut self, hz: u32) -> Option<u32> {
        self.wanted_hz = hz.max(1);
        (self.hz > self.wanted_hz).then(|| {
            self.hz = self.wanted_hz;
            self.hz
        })
    }

    /// Takes what was used (agent and programs) in the time since the last call; the new rate if it changes. Call it every
    /// few seconds.
    pub fn observe(&mut self, elapsed: Duration, used: Duration) -> Option<u32> {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let used = used.as_secs_f64();
        self.saved = (self.saved + self.income * seconds - used).min(self.most_saved);
        let allowed = (self.income + self.saved / PAY_BACK_SECONDS).max(self.income * LEAST_SHARE);
        let per_hz = (used / seconds) / f64::from(self.hz);
        let possible = if per_hz > 0.0 { allowed / per_hz } else { f64::from(self.wanted_hz) };
        let next = if possible < f64::from(self.hz) {
            // What was saved is for bursts.
            if self.saved > 0.0 {
                return None;
            }
            possible
        } else if possible > f64::from(self.hz) * WORTH {
            possible.min(f64::from(self.hz) * RAISE)
        } else {
            return None;
        };
        let next = (next as u32).clamp(1, self.wanted_hz);
        (next != self.hz).then(|| {
            self.hz = next;
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    /// Runs `steps` of 5 s with a cost per second and hertz and a fixed one; the share used and the last rate.
    fn run(governor: &mut Governor, steps: u32, fixed: f64, per_hz: f64) -> (f64, u32) {
        let mut sum = 0.0;
        for _ in 0..steps {
            let used = STEP.as_secs_f64() * (fixed + per_hz * f64::from(governor.frequency_hz()));
            sum += used;
            governor.observe(STEP, Duration::from_secs_f64(used));
        }
        (sum / (f64::from(steps) * STEP.as_secs_f64()), governor.frequency_hz())
    }

    #[test]
    fn a_cost_within_the_limit_changes_nothing() {
        let mut governor = Governor::new(99, 0.02);
        let (_, hz) = run(&mut governor, 100, 0.001, 0.000_1);
        assert_eq!(hz, 99);
        assert!(!governor.is_limiting());
    }

    #[test]
    fn a_cost_beyond_it_lowers_the_rate_until_the_share_is_kept() {
        for (fixed, per_hz) in [(0.0, 0.000_2), (0.001, 0.000_1), (0.002, 0.001)] {
            let mut governor = Governor::new(99, 0.004);
            // What is saved at the start is used up first; what is saved later may be used within the time that counts.
            run(&mut governor, 60, fixed, per_hz);
            let (share, hz) = run(&mut governor, 120, fixed, per_hz);
            assert!(hz < 99 && governor.is_limiting());
            assert!(share <= 0.004, "{share} used of 0.004 with {fixed} + {per_hz}/Hz");
            assert!(share > 0.002, "{share}: half of what is allowed is left unused");
        }
    }

    #[test]
    fn start_up_is_paid_from_what_is_saved() {
        let mut governor = Governor::new(99, 0.02);
        assert_eq!(governor.observe(STEP, Duration::from_millis(500)), None);
        let (_, hz) = run(&mut governor, 10, 0.001, 0.000_05);
        assert_eq!(hz, 99);
    }

    #[test]
    fn a_burst_is_paid_back_and_the_rate_comes_back() {
        let mut governor = Governor::new(99, 0.02);
        governor.observe(STEP, Duration::from_secs(1));
        assert!(governor.frequency_hz() < 20);
        let (_, hz) = run(&mut governor, 60, 0.001, 0.000_05);
        assert_eq!(hz, 99);
    }

    #[test]
    fn a_cap_holds_until_it_is_lifted() {
        let mut governor = Governor::new(99, 0.02);
        assert_eq!(governor.cap(24), Some(24));
        assert_eq!(run(&mut governor, 20, 0.0, 0.000_01).1, 24);
        assert_eq!(governor.cap(49), None);
        assert_eq!(run(&mut governor, 20, 0.0, 0.000_01).1, 49);
    }

    #[test]
    fn the_rate_never_becomes_zero() {
        let mut governor = Governor::new(99, 0.000_1);
        let (_, hz) = run(&mut governor, 50, 0.5, 0.0);
        assert_eq!(hz, 1);
    }
}
