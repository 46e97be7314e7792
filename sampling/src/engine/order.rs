//! Records of many rings in the order of time.
//!
//! Rings are not ordered among each other, and within one a record has its time before it is written: tens of µs, or as long as
//! a hypervisor takes the CPU away just then. So each drain gives out only what was [`WRITTEN_NS`] old when it began, or older
//! than the drain before it: everything older has been read.

/// How long after its time a record is in its ring for certain, ns. perf core takes the time with preemption disabled, so that
/// only interrupts and a hypervisor come between; what is later still is handled late and counted. It is what a new program's
/// samples wait for their mappings: with the time between two drains (50 ms) instead, 8 % of the samples of a compiling machine
/// needed copies that were too small.
const WRITTEN_NS: u64 = 10_000_000;

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
}

impl<T: Timed> Order<T> {
    pub(super) fn new() -> Order<T> {
        Order { waiting: Vec::new(), released_to: 0, limit: 0, late: 0 }
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
        self.release_before(before.max(drain_began.saturating_sub(WRITTEN_NS)))
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
}
