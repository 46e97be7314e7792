//! Records of many rings in the order of time.
//!
//! Rings are not ordered among each other, and within one a record has its time before it is written: tens of µs, or as long as
//! a hypervisor takes the CPU away just then. So each drain gives out only what was [`WRITTEN_NS`] old when it began, or older
//! than the drain before it. What comes later than that is counted, and for a while only the drain before counts.

/// How long after its time a record is in its ring, ns. perf core takes the time with preemption disabled, so that only interrupts
/// and a hypervisor come between. It is what a new program's samples wait for their mappings: with the time between two drains
/// (50 ms then) instead, 8 % of the samples of a compiling machine needed copies that were too small.
const WRITTEN_NS: u64 = 10_000_000;
/// How long a record that came later than that has them wait for a whole drain again, ns.
const CAREFUL_NS: u64 = 1_000_000_000;

/// Anything with a time.
pub(super) trait Timed {
    /// CLOCK_MONOTONIC, ns.
    fn time_ns(&self) -> u64;
    /// Among equal times, the lower rank first: what happened to a process goes before its samples.
    fn rank(&self) -> u8;
}

/// Holds items back until their turn.
#[derive(Debug)]
pub(super) struct Order<T> {
    waiting: Vec<T>,
    released_to: u64,
    limit: u64,
    late: u64,
    /// How many were late when that was looked at, and until when to be careful.
    late_before: u64,
    careful_until: u64,
}

impl<T: Timed> Order<T> {
    pub(super) fn new() -> Order<T> {
        Order { waiting: Vec::new(), released_to: 0, limit: 0, late: 0, late_before: 0, careful_until: 0 }
    }

    pub(super) fn push(&mut self, item: T) {
        if item.time_ns() < self.released_to {
            self.late += 1;
        }
        self.waiting.push(item);
    }

    /// Items that came after their time's turn.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// What may be handled now, in order; `drain_began` is when the drain that just ended began.
    pub(super) fn release(&mut self, drain_began: u64) -> Vec<T> {
        let before = std::mem::replace(&mut self.limit, drain_began);
        if std::mem::replace(&mut self.late_before, self.late) < self.late {
            self.careful_until = drain_began.saturating_add(CAREFUL_NS);
        }
        let written = if drain_began < self.careful_until { 0 } else { drain_began.saturating_sub(WRITTEN_NS) };
        self.release_before(before.max(written))
    }

    /// Everything, when no more will come.
    pub(super) fn release_all(&mut self) -> Vec<T> {
        self.release_before(u64::MAX)
    }

    fn release_before(&mut self, limit: u64) -> Vec<T> {
        self.waiting.sort_by_key(|item| (item.time_ns(), item.rank()));
        let count = self.waiting.partition_point(|item| item.time_ns() < limit);
        self.released_to = self.released_to.max(limit);
        let rest = self.waiting.split_off(count);
        std::mem::replace(&mut self.waiting, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(u64, u8);
    impl Timed for Item {
        fn time_ns(&self) -> u64 {
            self.0
        }
        fn rank(&self) -> u8 {
            self.1
        }
    }

    #[test]
    fn items_come_out_in_order_and_only_when_nothing_older_can_come() {
        let mut order = Order::new();
        order.push(Item(30, 0));
        order.push(Item(10, 1));
        order.push(Item(10, 0));
        assert_eq!(order.release(20), []);
        order.push(Item(15, 0));
        assert_eq!(order.release(40), [Item(10, 0), Item(10, 1), Item(15, 0)]);
        assert_eq!(order.late(), 0);
        order.push(Item(5, 0));
        assert_eq!(order.late(), 1);
        assert_eq!(order.release_all(), [Item(5, 0), Item(30, 0)]);
    }

    #[test]
    fn what_is_written_for_certain_does_not_wait_for_another_drain() {
        let mut order = Order::new();
        let drain_began = 5 * WRITTEN_NS;
        let limit = drain_began - WRITTEN_NS;
        for time in [limit - 1, limit, limit + 1, drain_began - 1, drain_began] {
            order.push(Item(time, 0));
        }
        assert_eq!(order.release(drain_began), [Item(limit - 1, 0)]);
        // The next drain begins before that time is over: what was there before the first is older than it.
        let next = [Item(limit, 0), Item(limit + 1, 0), Item(drain_began - 1, 0)];
        assert_eq!(order.release(drain_began + WRITTEN_NS / 2), next);
        assert_eq!(order.release_all(), [Item(drain_began, 0)]);
    }

    #[test]
    fn once_a_record_was_late_the_next_ones_wait_for_a_whole_drain_for_a_second() {
        let mut order = Order::new();
        let drain = |order: &mut Order<Item>, began: u64, times: &[u64]| {
            times.iter().for_each(|time| order.push(Item(*time, 0)));
            order.release(began).iter().map(|item| item.0).collect::<Vec<_>>()
        };
        let began = |number: u64| number * 5 * WRITTEN_NS;
        assert_eq!(drain(&mut order, began(1), &[1]), [1]);
        assert_eq!(drain(&mut order, began(2), &[2]), [2]);
        assert_eq!(order.late(), 1);
        let until = began(2) + CAREFUL_NS;
        let (before, after) = (until - 5 * WRITTEN_NS, until);
        assert_eq!(drain(&mut order, before, &[before - 2 * WRITTEN_NS]), [0; 0]);
        assert_eq!(drain(&mut order, before + 1, &[]), [before - 2 * WRITTEN_NS]);
        assert_eq!(drain(&mut order, after, &[after - 2 * WRITTEN_NS]), [after - 2 * WRITTEN_NS]);
    }
}
