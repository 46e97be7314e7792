//! What time it is, as far as samples may be removed by it: the wall clock can jump, and a history would be gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What it may be ahead of itself from one look to the next: clocks are set right by some seconds every day.
const JUMP_NS: u64 = 60_000_000_000;

/// The wall clock when it was believed last.
pub(super) struct Clock {
    wall_ns: u64,
    /// Goes on while the machine is suspended, and never jumps.
    boot_ns: u64,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { wall_ns: wall_ns(), boot_ns: boot_ns() }
    }

    /// The time that samples are as old as seen from, where the newest sample is of `newest_ns`: no later than the clock, whatever a
    /// file says.
    pub(super) fn believed(&mut self, newest_ns: u64, age: Duration) -> u64 {
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        newest_ns.min(self.at(wall_ns(), boot_ns(), age_ns))
    }

    /// The time, ns. A clock that was set ahead makes nothing old: what it should show counts until so much time has passed that all
    /// that was there before is too old anyway.
    fn at(&mut self, wall_ns: u64, boot_ns: u64, age_ns: u64) -> u64 {
        let passed_ns = boot_ns.saturating_sub(self.boot_ns);
        let due_ns = self.wall_ns.saturating_add(passed_ns);
        if wall_ns > due_ns.saturating_add(JUMP_NS) && passed_ns < age_ns {
            return due_ns;
        }
        *self = Clock { wall_ns, boot_ns };
        wall_ns
    }
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

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;
    const AGE: u64 = 24 * HOUR;
    const OPENED: u64 = 1000 * HOUR;

    #[test]
    fn a_clock_is_believed_but_for_as_long_as_samples_are_kept_after_it_was_set_ahead() {
        const BOOTED: u64 = 9000 * HOUR;
        /// Time since the store was opened, what the clock is ahead of that, what of it is believed.
        type Look = (u64, i64, i64);
        let cases: [(&str, &[Look]); 7] = [
            ("it goes right", &[(0, 0, 0), (HOUR, 0, 0), (100 * HOUR, 0, 0)]),
            ("it is set right by some seconds", &[(HOUR, 50, 50), (2 * HOUR, 100, 100), (3 * HOUR, 90, 90)]),
            ("it jumps soon", &[(HOUR, 9000 * 3600, 0), (2 * HOUR, 9000 * 3600, 0), (23 * HOUR, 9000 * 3600, 0)]),
            ("it jumps after days", &[(100 * HOUR, 0, 0), (101 * HOUR, 9000 * 3600, 0), (123 * HOUR, 9000 * 3600, 0)]),
            ("it was wrong at first", &[(HOUR, 9000 * 3600, 0), (24 * HOUR, 9000 * 3600, 9000 * 3600)]),
            ("it jumps and comes back", &[(HOUR, 9000 * 3600, 0), (2 * HOUR, 1, 1), (200 * HOUR, 2, 2)]),
            ("it jumps twice", &[(24 * HOUR, 3600, 3600), (25 * HOUR, 7200, 3600), (48 * HOUR, 7200, 7200)]),
        ];
        for (what, looks) in cases {
            let mut clock = Clock { wall_ns: OPENED, boot_ns: BOOTED };
            for (passed, ahead, expected) in looks {
                let ahead_by = |seconds: &i64| (OPENED + passed).saturating_add_signed(seconds * SECOND as i64);
                let found = clock.at(ahead_by(ahead), BOOTED + passed, AGE);
                assert_eq!(found, ahead_by(expected), "{what}, after {} s", passed / SECOND);
            }
        }
    }

    #[test]
    fn samples_from_the_future_make_nothing_old_and_an_older_newest_one_counts() {
        let mut clock = Clock::start();
        let age = Duration::from_secs(3600);
        assert_eq!(clock.believed(OPENED, age), OPENED);
        assert!(clock.believed(u64::MAX, age) < wall_ns() + HOUR);
    }

    #[test]
    fn the_clocks_of_this_machine_go() {
        let mut clock = Clock::start();
        let started_ns = clock.wall_ns;
        let newest = clock.believed(u64::MAX, Duration::from_secs(3600));
        assert!(newest >= started_ns && newest < started_ns + HOUR && clock.boot_ns > 0);
    }
}
