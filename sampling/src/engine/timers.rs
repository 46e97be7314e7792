//! One sampling timer and one side-band event on each online CPU, also on those that come online later, with their rings.

use std::time::Duration;

use crate::sampler::perf_event::{PerfEvent, PerfRing};
use crate::sampler::{SamplerError, cpus};

/// Least and most bytes of each CPU's ring for stack copies.
const COPY_RING_BYTES: std::ops::RangeInclusive<usize> = 2 << 20..=4 << 20;
/// Bytes of each CPU's side-band ring: about 10,000 records between two drains.
pub(super) const SIDE_BAND_RING_BYTES: usize = 1 << 20;
/// Samples of one CPU between two rounds of the engine, as far as [`ROUND`] allows it.
const SAMPLES_PER_ROUND: u32 = 10;
/// Shortest and longest time between two rounds, unless new programs appear: a program's first samples need copies until a round has seen it.
const ROUND: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);
/// Shortest time between two rounds while new programs appear.
const SHORTEST_ROUND: Duration = Duration::from_millis(5);
/// Start phases are spread over a period, but never over more than this.
const MAX_STAGGER: Duration = Duration::from_millis(10);

/// CLOCK_MONOTONIC, ns: the one clock of records, side-band and agent.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the timespec; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The wall clock, ns since the Unix epoch.
pub(super) fn wall_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How long to wait between two rounds: a quarter while new programs appear. Until a round has seen one its samples need copies,
/// which are too small for deep stacks (beside compilers at 99 Hz 96.1 % whole with 50 ms, 97.2 % with 25 ms), and the files of one
/// that ends meanwhile are gone (500 programs of 10 ms at 999 Hz, half of them never seen: 94 to 96 % named and whole with 10 ms,
/// 99.8 % with 5 ms).
pub(super) fn round(period_ns: u64, new_programs: bool) -> Duration {
    let usual = (Duration::from_nanos(period_ns) * SAMPLES_PER_ROUND).clamp(*ROUND.start(), *ROUND.end());
    if new_programs { (usual / 4).max(SHORTEST_ROUND) } else { usual }
}

/// A ring for the copies of a new program's samples at this rate: those of 100 ms, since perf core reserves room for the
/// whole copy however little stack there is, and a busy machine may let us wait for so long.
fn copy_ring_bytes(period_ns: u64, stack_bytes: u32) -> usize {
    let copies = Duration::from_millis(100).as_nanos() as u64 / period_ns.max(1);
    let wanted = usize::try_from(copies * u64::from(stack_bytes)).unwrap_or(usize::MAX);
    wanted.clamp(*COPY_RING_BYTES.start(), *COPY_RING_BYTES.end()).next_power_of_two()
}

/// What a ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// Who maps, forks, execs, exits.
    SideBand,
    /// Registers and stacks.
    Copies,
}

struct Cpu {
    number: u32,
    sampling: PerfEvent,
    side_band: PerfEvent,
    copies: PerfRing,
    records: PerfRing,
    /// Count and hits due when the period last changed.
    counted: u64,
    due: u64,
}

impl Cpu {
    /// Hits due since the event was opened: a software clock counts ns.
    fn due(&self, period_ns: u64) -> Result<u64, SamplerError> {
        Ok(self.due + self.sampling.count()?.saturating_sub(self.counted) / period_ns)
    }
}

/// All CPUs' events.
pub(super) struct Timers {
    cpus: Vec<Cpu>,
    period_ns: u64,
    stack_bytes: u32,
    program: i32,
    is_started: bool,
    /// Hits due on events that were closed.
    closed_due: u64,
}

impl Timers {
    /// Opens the events of every online CPU; side-band records flow from here on, samples from [`Timers::start`] on.
    pub(super) fn open(program: i32, period_ns: u64, stack_bytes: u32) -> Result<Timers, SamplerError> {
        let mut timers = Timers { cpus: Vec::new(), period_ns, stack_bytes, program, is_started: false, closed_due: 0 };
        timers.open_missing(&cpus::online()?)?;
        Ok(timers)
    }

    /// A CPU may go offline between the list and the open: that is no error, the next look tries again.
    fn add_if_online(&mut self, number: u32) -> Result<bool, SamplerError> {
        match self.add(number) {
            Ok(()) => Ok(true),
            Err(SamplerError::PerfEventOpen { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, number: u32) -> Result<(), SamplerError> {
        let sampling = PerfEvent::sampling(number, self.period_ns, self.stack_bytes)?;
        let side_band = PerfEvent::side_band(number)?;
        let copies = PerfRing::map(&sampling, copy_ring_bytes(self.period_ns, self.stack_bytes))?;
        let records = PerfRing::map(&side_band, SIDE_BAND_RING_BYTES)?;
        sampling.set_program(self.program)?;
        side_band.enable()?;
        if self.is_started {
            sampling.enable()?;
        }
        self.cpus.push(Cpu { number, sampling, side_band, copies, records, counted: 0, due: 0 });
        Ok(())
    }

    /// Starts sampling, each CPU at another phase of the period.
    pub(super) fn start(&mut self) -> Result<(), SamplerError> {
        self.is_started = true;
        let count = self.cpus.len().max(1) as u32;
        let apart = Duration::from_nanos(self.period_ns).min(MAX_STAGGER) / count;
        for cpu in &self.cpus {
            cpu.sampling.enable()?;
            std::thread::sleep(apart);
        }
        Ok(())
    }

    /// Stops sampling; side-band goes on.
    pub(super) fn stop(&mut self) -> Result<(), SamplerError> {
        self.is_started = false;
        self.cpus.iter().try_for_each(|cpu| cpu.sampling.disable())
    }

    /// Stops side-band as well.
    pub(super) fn stop_side_band(&self) -> Result<(), SamplerError> {
        self.cpus.iter().try_for_each(|cpu| cpu.side_band.disable())
    }

    /// Changes the period of every timer. A started period ends as the old length had it begin anew, so up to one hit a CPU is
    /// late once.
    pub(super) fn set_period(&mut self, period_ns: u64) -> Result<(), SamplerError> {
        for cpu in &mut self.cpus {
            let counted = cpu.sampling.count()?;
            cpu.due += counted.saturating_sub(cpu.counted) / self.period_ns;
            cpu.counted = counted;
            cpu.sampling.set_period(period_ns)?;
        }
        self.period_ns = period_ns;
        Ok(())
    }

    /// Number of CPUs that are sampled.
    pub(super) fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Hits due so far, over all CPUs: the events' own counts, divided by the period.
    pub(super) fn due(&self) -> Result<u64, SamplerError> {
        let mut due = self.closed_due;
        for cpu in &self.cpus {
            due += cpu.due(self.period_ns)?;
        }
        Ok(due)
    }

    /// Hits due so far on each CPU that is sampled now.
    pub(super) fn due_by_cpu(&self) -> Result<Vec<(u32, u64)>, SamplerError> {
        self.cpus.iter().map(|cpu| Ok((cpu.number, cpu.due(self.period_ns)?))).collect()
    }

    /// The CPUs that have events.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.cpus.iter().map(|cpu| cpu.number)
    }

    /// What each CPU's event has counted, ns; `None` while sampling has not been started. Each is asked on its CPU.
    pub(super) fn counts(&self) -> Result<Option<Vec<(u32, u64)>>, SamplerError> {
        if !self.is_started {
            return Ok(None);
        }
        self.cpus.iter().map(|cpu| Ok((cpu.number, cpu.sampling.count()?))).collect::<Result<_, _>>().map(Some)
    }

    /// Lets go of these CPUs' events and rings; the hits that were due on them stay counted.
    pub(super) fn close(&mut self, gone: &[u32]) {
        let (mut closed, period) = (0, self.period_ns);
        self.cpus.retain(|cpu| {
            let stays = !gone.contains(&cpu.number);
            if !stays {
                closed += cpu.due(period).unwrap_or(cpu.due);
            }
            stays
        });
        self.closed_due += closed;
    }

    /// Opens events on those of these CPUs that have none, and gives their numbers.
    pub(super) fn open_missing(&mut self, online: &[u32]) -> Result<Vec<u32>, SamplerError> {
        let mut come = Vec::new();
        for number in online.iter().copied() {
            if !self.numbers().any(|known| known == number) && self.add_if_online(number)? {
                come.push(number);
            }
        }
        Ok(come)
    }

    /// Hands every waiting perf record of every CPU to `each`: side-band first, so that what a copy needs is known.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Ring, &[u8])) {
        for cpu in &mut self.cpus {
            cpu.records.drain(|record| each(Ring::SideBand, record));
        }
        for cpu in &mut self.cpus {
            cpu.copies.drain(|record| each(Ring::Copies, record));
        }
    }

    /// Bytes of all rings, as they are mapped: a change of the rate leaves them as they are.
    pub(super) fn ring_bytes(&self) -> u64 {
        self.cpus.iter().map(|cpu| (cpu.copies.bytes() + cpu.records.bytes()) as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_shorter_and_rings_larger_at_a_high_rate() {
        for (hz, milliseconds, with_new_programs, ring_mib) in
            [(1, 100, 25, 2), (99, 100, 25, 2), (200, 50, 12, 2), (999, 10, 5, 4), (9999, 10, 5, 4)]
        {
            let period_ns = 1_000_000_000 / hz;
            assert_eq!(round(period_ns, false).as_millis(), milliseconds, "{hz} Hz");
            assert_eq!(round(period_ns, true).as_millis(), with_new_programs, "{hz} Hz");
            assert_eq!(copy_ring_bytes(period_ns, 65_280), ring_mib << 20, "{hz} Hz");
        }
    }
}
