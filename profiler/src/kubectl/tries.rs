//! [`Tries`]: for how long a one-shot's log is tried that did not give the whole profile. Free of I/O.
//!
//! What is in the way has a patience each, and one does not use up another's. A server that is away is waited for until the Job's
//! deadline, since the pod samples without it; so is a log that is refused while the pod runs. The log of a pod that has ended, refused by a
//! server that answers everything else, is tried for a minute. One that was read to its end then has all that it will ever have, but for
//! what a connection lost: it is read a few times more.

use std::time::{Duration, Instant};

use super::outage::Outage;

/// How long the log of a pod that has ended may be refused: kubelet may be away.
const UNREADABLE: Duration = Duration::from_secs(60);
/// How often a log that has ended is read for what is missing.
const READS: u32 = 3;

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    away: Outage,
    unreadable: Outage,
    /// Since the pod has ended.
    reads: u32,
}

impl Tries {
    /// Whether there may be more to come than is in the log by now.
    pub fn may_follow(&self) -> bool {
        self.reads == 0
    }

    /// The server does not tell how the pod is. How long to wait.
    pub fn unanswered(&mut self, now: Instant) -> Duration {
        self.unreadable.over();
        self.away.failed(now)
    }

    /// The log was refused, or broke off. How long to wait; `None` if the patience is used up, and it counts as read.
    pub fn refused(&mut self, has_ended: bool, now: Instant) -> Option<Duration> {
        if !has_ended {
            self.unreadable.over();
            return Some(self.away.failed(now));
        }
        self.away.over();
        (self.unreadable.lasts(now) < UNREADABLE).then(|| self.unreadable.failed(now))
    }

    /// The log was read to its end.
    pub fn answered(&mut self) {
        self.away.over();
        self.unreadable.over();
    }

    /// Counts a read of a log that has ended; whether it was the last one. `has_nothing` is of a profiler that failed and handed nothing
    /// over: it is read twice, since its last word may have been lost.
    pub fn is_over(&mut self, has_nothing: bool) -> bool {
        self.reads += 1;
        self.reads > READS || (has_nothing && self.reads > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refused again and again from then on, of a pod that has ended: how long that is borne.
    fn borne(tries: &mut Tries, from: Instant) -> Duration {
        let mut now = from;
        while let Some(pause) = tries.refused(true, now) {
            now += pause;
        }
        now - from
    }

    #[test]
    fn neither_a_server_that_was_away_nor_a_log_that_was_refused_before_takes_time_from_a_log_that_has_ended() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let alone = borne(&mut Tries::default(), began);
        assert!(alone >= UNREADABLE && alone < UNREADABLE * 2, "{alone:?}");
        let befores: [fn(&mut Tries, Instant) -> Duration; 2] =
            [|tries, now| tries.unanswered(now), |tries, now| tries.refused(false, now).unwrap()];
        for before in befores {
            let mut tries = Tries::default();
            for second in 0..3_600 {
                before(&mut tries, after(second));
            }
            assert_eq!(borne(&mut tries, after(3_600)), alone);
            // It is used up, until the server was away or the log read.
            assert_eq!(tries.refused(true, after(4_000)), None);
            tries.unanswered(after(4_001));
            assert_eq!(borne(&mut tries, after(4_002)), alone);
            tries.answered();
            assert_eq!(borne(&mut tries, after(5_000)), alone);
        }
    }

    #[test]
    fn a_log_that_has_ended_is_read_four_times_and_twice_where_nothing_was_handed_over() {
        for (has_nothing, expected) in [(false, 4), (true, 2)] {
            let mut tries = Tries::default();
            assert!(tries.may_follow());
            let reads = 1 + std::iter::from_fn(|| (!tries.is_over(has_nothing)).then_some(())).count();
            assert_eq!(reads, expected);
            assert!(!tries.may_follow());
        }
    }
}
