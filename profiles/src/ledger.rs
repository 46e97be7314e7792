//! The ledger: what became of every hit of the sampling timer.
//!
//! `due` is what the kernel's own event counters say, over all CPUs; the rest is what the programs and the agent counted. The
//! difference is shown as `undelivered`: overflows that the kernel never handed to the program (it skips timer overruns, and
//! drops overflows uncounted while another BPF program runs on that CPU).

/// Why a recorded sample was dropped after the kernel took it. One reason = one counter = one line in the docs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Drop {
    /// The BPF ring was full.
    RingFull,
    /// A CPU's scratch memory could not be had.
    NoScratch,
    /// The agent's own queue or batch was full.
    QueueFull,
    /// A record that could not be decoded.
    Malformed,
}

impl Drop {
    /// Every reason.
    pub const ALL: [Drop; 4] = [Drop::RingFull, Drop::NoScratch, Drop::QueueFull, Drop::Malformed];

    /// The name used in counters and reports.
    pub fn name(self) -> &'static str {
        match self {
            Drop::RingFull => "ring_full",
            Drop::NoScratch => "no_scratch",
            Drop::QueueFull => "queue_full",
            Drop::Malformed => "malformed",
        }
    }
}

/// Counts of timer hits, over all CPUs, for one period of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Timer hits due: the events' own counts divided by the period.
    pub due: u64,
    /// Recorded as samples.
    pub recorded: u64,
    /// Hits on an idle CPU.
    pub idle: u64,
    /// Due while the kernel's own accounting says that the CPU was idle, and never handed over: a sleeping CPU may leave its
    /// timer alone (seen on virtual machines, with perf's own tools as well).
    pub idle_undelivered: u64,
    /// Hits in the profiler itself, left out.
    pub own: u64,
    /// Hits left out by what the user asked for (pid, comm, cgroup, user or kernel only).
    pub filtered: u64,
    /// Dropped, by reason, in the order of [`Drop::ALL`].
    pub dropped: [u64; Drop::ALL.len()],
    /// Due, but never handed to the program.
    pub undelivered: u64,
    /// Handed over although not due by the count (a CPU's count is read a moment before or after its last hit).
    pub surplus: u64,
}

impl Ledger {
    /// All that was dropped, whatever the reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Hits that the programs or the agent saw.
    pub fn accounted(&self) -> u64 {
        let seen = [self.recorded, self.idle, self.idle_undelivered, self.own, self.filtered, self.dropped_total()];
        seen.into_iter().fold(0, u64::saturating_add)
    }

    /// Adds another period's counts; the books balance as they did before. Counts that were read from a damaged file end at the largest
    /// number.
    pub fn add(&mut self, other: &Ledger) {
        // Taken apart by name, so that a new field can't be forgotten here.
        let Ledger { due, recorded, idle, idle_undelivered, own, filtered, dropped, undelivered, surplus } = other;
        let sums = [
            (&mut self.due, due),
            (&mut self.recorded, recorded),
            (&mut self.idle, idle),
            (&mut self.idle_undelivered, idle_undelivered),
            (&mut self.own, own),
            (&mut self.filtered, filtered),
            (&mut self.undelivered, undelivered),
            (&mut self.surplus, surplus),
        ];
        for (sum, count) in sums.into_iter().chain(self.dropped.iter_mut().zip(dropped)) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// Sets `undelivered` and `surplus` so that the books balance: due + surplus = accounted + undelivered.
    pub fn balance(&mut self) {
        let accounted = self.accounted();
        self.undelivered = self.due.saturating_sub(accounted);
        self.surplus = accounted.saturating_sub(self.due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_puts_the_difference_on_the_side_where_it_belongs() {
        let mut short = Ledger { due: 100, recorded: 60, idle: 30, dropped: [2, 0, 0, 1], ..Ledger::default() };
        short.balance();
        assert_eq!((short.undelivered, short.surplus), (7, 0));

        let mut over = Ledger { due: 10, recorded: 9, filtered: 2, ..Ledger::default() };
        over.balance();
        assert_eq!((over.undelivered, over.surplus), (0, 1));
    }

    #[test]
    fn counts_that_can_t_be_end_at_the_largest_number() {
        let most = Ledger { due: u64::MAX, recorded: u64::MAX, dropped: [u64::MAX; 4], ..Ledger::default() };
        let mut sum = Ledger { due: 1, surplus: 2, ..Ledger::default() };
        sum.add(&most);
        sum.add(&most);
        assert_eq!((sum.due, sum.surplus, sum.dropped), (u64::MAX, 2, [u64::MAX; 4]));
        assert_eq!((sum.accounted(), sum.dropped_total()), (u64::MAX, u64::MAX));
    }
}
