//! The ledger: the events' own counts against what programs and agent counted, as the difference of two moments.

use profiler_common::{COUNTERS, Counter};

use super::options::EngineError;
use super::run::Engine;
use profiles::ledger::{Drop, Ledger};

/// All counts since the start, read at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    totals: Ledger,
    /// Records that the programs wrote and that are not samples yet.
    in_flight: u64,
}

impl Moment {
    /// What happened since `before`. A hit whose record is still in flight is due in the interval that gets its sample.
    pub(super) fn since(&self, before: &Moment) -> Ledger {
        let (now, then) = (&self.totals, &before.totals);
        let less = |now: u64, then: u64| now.saturating_sub(then);
        let mut ledger = Ledger {
            due: less(now.due + before.in_flight, then.due + self.in_flight),
            recorded: less(now.recorded, then.recorded),
            idle: less(now.idle, then.idle),
            idle_undelivered: less(now.idle_undelivered, then.idle_undelivered),
            own: less(now.own, then.own),
            filtered: less(now.filtered, then.filtered),
            ..Ledger::default()
        };
        for (at, count) in ledger.dropped.iter_mut().enumerate() {
            *count = less(now.dropped[at], then.dropped[at]);
        }
        ledger.balance();
        ledger
    }

    /// Nothing more will come: what is still in flight is lost, and shows as undelivered.
    pub(super) fn last(self) -> Moment {
        Moment { in_flight: 0, ..self }
    }
}

impl Engine {
    /// The programs' counters so far, over all CPUs, in the order of [`Counter`].
    pub fn program_counters(&self) -> Result<[u64; COUNTERS], EngineError> {
        Ok(self.object.counters()?)
    }

    pub(super) fn moment(&self) -> Result<Moment, EngineError> {
        let due = self.timers.due()?;
        self.moment_of(due, self.idle_undelivered()?)
    }

    pub(super) fn moment_of(&self, due: u64, idle_undelivered: u64) -> Result<Moment, EngineError> {
        let counts = self.object.counters()?;
        let of = |counter: Counter| counts[counter as usize];
        let counters = &self.counters;
        let mut totals = Ledger {
            due,
            recorded: counters.samples,
            idle: of(Counter::Idle),
            own: of(Counter::Own),
            filtered: of(Counter::Filtered) + counters.filtered,
            idle_undelivered,
            ..Ledger::default()
        };
        for (reason, count) in Drop::ALL.into_iter().zip(&mut totals.dropped) {
            *count = match reason {
                Drop::RingFull => of(Counter::RingFull),
                Drop::NoScratch => of(Counter::NoScratch),
                Drop::QueueFull => counters.batch_full,
                Drop::Malformed => counters.malformed_records,
            };
        }
        let handled = counters.samples + counters.filtered + counters.batch_full + counters.malformed_records;
        Ok(Moment { totals, in_flight: of(Counter::Recorded).saturating_sub(handled) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(due: u64, recorded: u64, idle: u64, in_flight: u64) -> Moment {
        Moment { totals: Ledger { due, recorded, idle, ..Ledger::default() }, in_flight }
    }

    #[test]
    fn a_hit_is_due_in_the_interval_that_gets_its_sample() {
        let start = Moment::default();
        let first = moment(100, 80, 15, 5);
        let second = moment(200, 170, 30, 0);
        let whole = |ledger: Ledger| (ledger.due, ledger.recorded, ledger.idle, ledger.undelivered, ledger.surplus);
        assert_eq!(whole(first.since(&start)), (95, 80, 15, 0, 0));
        assert_eq!(whole(second.since(&first)), (105, 90, 15, 0, 0));
        assert_eq!(whole(second.since(&start)), (200, 170, 30, 0, 0));
    }

    #[test]
    fn what_is_in_flight_at_the_very_end_is_lost() {
        let end = moment(100, 80, 15, 5).last();
        assert_eq!(end.since(&Moment::default()).undelivered, 5);
    }
}
