//! What time it is, as far as samples may be removed by it: the wall clock can jump, and a history would be gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When the store was opened.
pub(super) struct Clock {
    wall_ns: u64,
    /// Goes on while the machine is suspended, and never jumps.
    boot_ns: u64,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { wall_ns: wall_ns(), boot_ns: boot_ns() }
    }

    /// The time that samples are as old as seen from, where the newest sample is of `newest_ns`.
    pub(super) fn believed(&self, newest_ns: u64, age: Duration) -> u64 {
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        believed(newest_ns, wall_ns(), self.wall_ns, boot_ns().saturating_sub(self.boot_ns), age_ns)
    }
}

/// No later than the clock, whatever a file says. And not later than the time when the store was opened and what has passed since,
/// until all that was there then is too old anyway: so a clock that is set ahead makes nothing old.
fn believed(newest_ns: u64, now_ns: u64, opened_ns: u64, open_for_ns: u64, age_ns: u64) -> u64 {
    let passed_ns = if open_for_ns < age_ns { opened_ns.saturating_add(open_for_ns) } else { u64::MAX };
    newest_ns.min(now_ns).min(passed_ns)
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid, and nothing else is read or written.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;
    const AGE: u64 = 24 * HOUR;
    const OPENED: u64 = 1000 * HOUR;

    #[test]
    fn a_clock_that_goes_right_is_believed_and_so_is_an_older_newest_sample() {
        assert_eq!(believed(OPENED + HOUR, OPENED + HOUR, OPENED, HOUR, AGE), OPENED + HOUR);
        assert_eq!(believed(OPENED - 100 * HOUR, OPENED + HOUR, OPENED, HOUR, AGE), OPENED - 100 * HOUR);
    }

    #[test]
    fn a_sample_from_the_future_and_a_clock_that_jumps_ahead_make_nothing_old() {
        assert_eq!(believed(u64::MAX, OPENED + HOUR, OPENED, HOUR, AGE), OPENED + HOUR);
        assert_eq!(believed(OPENED + 9000 * HOUR, OPENED + 9000 * HOUR, OPENED, HOUR, AGE), OPENED + HOUR);
    }

    #[test]
    fn after_as_long_as_samples_are_kept_the_clock_is_believed_again() {
        // It was wrong when the store was opened.
        let now = OPENED + 9000 * HOUR;
        assert_eq!(believed(now, now, OPENED, AGE, AGE), now);
    }

    #[test]
    fn the_clocks_of_this_machine_go() {
        let clock = Clock::start();
        let newest = clock.believed(u64::MAX, Duration::from_secs(3600));
        assert!(newest >= clock.wall_ns && newest < clock.wall_ns + HOUR && clock.boot_ns > 0);
    }
}
