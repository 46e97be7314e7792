//! One batch's samples as columns, which pack several times better than rows.
//!
//! Samples are put together by CPU: there the timer comes at a fixed period, so that a time is a number of periods since the
//! sample before (nearly always 1) and what the timer was late (some µs).

use super::bytes::{Bytes, Malformed, put, put_signed};
use profiles::ledger::{Drop, Ledger};

/// Samples of one batch, 32 bytes each once they are read. 256 CPUs have as many in ten seconds at 1,600 Hz.
pub(super) const MAX_SAMPLES: usize = 4 << 20;
/// Largest count in a ledger: so that ledgers can be summed. 1,000 CPUs at 1,000 Hz reach it after eight years.
const MAX_COUNT: u64 = 1 << 48;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) wall_start_ns: u64,
    pub(super) monotonic_start_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) period_ns: u64,
    pub(super) ledger: Ledger,
}

impl Facts {
    /// A sample's wall clock, ns since the Unix epoch.
    pub(super) fn wall_ns(&self, time_ns: u64) -> u64 {
        time_ns.wrapping_sub(self.monotonic_start_ns).wrapping_add(self.wall_start_ns)
    }
}

/// A sample with indices into the segment's dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredSample {
    /// CLOCK_MONOTONIC, ns.
    pub(super) time_ns: u64,
    pub(super) weight_ns: u64,
    pub(super) cpu: u32,
    pub(super) thread: u32,
    pub(super) trace: u32,
}

/// The wall clock of the first and the last sample; the batch's start if there are none.
pub(super) fn times(facts: &Facts, samples: &[StoredSample]) -> (u64, u64) {
    let mut walls = samples.iter().map(|sample| facts.wall_ns(sample.time_ns));
    let first = walls.next().unwrap_or(facts.wall_start_ns);
    walls.fold((first, first), |(first, last), wall| (first.min(wall), last.max(wall)))
}

/// Runs of equal values: each value with how often it comes.
fn put_runs(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => runs.push((value, 1)),
        }
    }
    for (value, count) in runs {
        put(out, value);
        put(out, count);
    }
}

/// Reads runs; `set` is given the samples of each with its value.
fn runs(
    bytes: &mut Bytes<'_>,
    mut samples: &mut [StoredSample],
    mut set: impl FnMut(&mut StoredSample, u64),
) -> Result<(), Malformed> {
    while !samples.is_empty() {
        let value = bytes.number()?;
        let times = usize::try_from(bytes.number()?).ok().filter(|times| *times > 0 && *times <= samples.len());
        let times = times.ok_or(Malformed("a run beyond the samples"))?;
        let (run, rest) = std::mem::take(&mut samples).split_at_mut(times);
        run.iter_mut().for_each(|sample| set(sample, value));
        samples = rest;
    }
    Ok(())
}

fn ledger_fields(ledger: &mut Ledger) -> [&mut u64; 8] {
    let Ledger { due, recorded, idle, idle_undelivered, own, filtered, dropped: _, undelivered, surplus } = ledger;
    [due, recorded, idle, idle_undelivered, own, filtered, undelivered, surplus]
}

/// The samples' section. The samples are left in the order of CPU and time.
pub(super) fn encode(facts: &Facts, samples: &mut [StoredSample]) -> Result<Vec<u8>, Malformed> {
    if samples.len() > MAX_SAMPLES {
        return Err(Malformed("a batch with too many samples"));
    }
    samples.sort_by_key(|sample| (sample.cpu, sample.time_ns));
    let mut out = Vec::with_capacity(samples.len() * 8 + 64);
    for fact in [facts.wall_start_ns, facts.monotonic_start_ns, facts.duration_ns, facts.period_ns] {
        put(&mut out, fact);
    }
    let mut ledger = facts.ledger;
    for count in ledger_fields(&mut ledger) {
        put(&mut out, (*count).min(MAX_COUNT));
    }
    put(&mut out, ledger.dropped.len() as u64);
    for count in ledger.dropped {
        put(&mut out, count.min(MAX_COUNT));
    }
    put(&mut out, samples.len() as u64);
    for thread in samples.iter().map(|sample| sample.thread) {
        put(&mut out, u64::from(thread));
    }
    for trace in samples.iter().map(|sample| sample.trace) {
        put(&mut out, u64::from(trace));
    }
    put_runs(&mut out, samples.iter().map(|sample| u64::from(sample.cpu)));
    put_runs(&mut out, samples.iter().map(|sample| sample.weight_ns));
    let steps: Vec<(u64, i64)> = steps(facts, samples).collect();
    put_runs(&mut out, steps.iter().map(|(periods, _)| *periods));
    for (_, late) in steps {
        put_signed(&mut out, late);
    }
    Ok(out)
}

/// Periods since the CPU's sample before, and what is left over.
fn steps(facts: &Facts, samples: &[StoredSample]) -> impl Iterator<Item = (u64, i64)> {
    let mut before = (u32::MAX, facts.monotonic_start_ns);
    samples.iter().map(move |sample| {
        let since = if before.0 == sample.cpu { before.1 } else { facts.monotonic_start_ns };
        before = (sample.cpu, sample.time_ns);
        let step = sample.time_ns.wrapping_sub(since) as i64;
        // A step back (a batch whose samples began before it) is all left over.
        let nearest = |step: u64| step.saturating_add(facts.period_ns / 2).checked_div(facts.period_ns);
        let periods = u64::try_from(step).ok().and_then(nearest).unwrap_or(0);
        (periods, step.wrapping_sub(periods.wrapping_mul(facts.period_ns) as i64))
    })
}

/// Reads a section; samples in the order of CPU and time.
pub(super) fn decode(section: &[u8]) -> Result<(Facts, Vec<StoredSample>), Malformed> {
    let mut bytes = Bytes(section);
    let bytes = &mut bytes;
    let mut facts = Facts {
        wall_start_ns: bytes.number()?,
        monotonic_start_ns: bytes.number()?,
        duration_ns: bytes.number()?,
        period_ns: bytes.number()?,
        ledger: Ledger::default(),
    };
    let mut count = || {
        let count = bytes.number()?;
        if count <= MAX_COUNT { Ok(count) } else { Err(Malformed("a count of samples that can't be")) }
    };
    for field in ledger_fields(&mut facts.ledger) {
        *field = count()?;
    }
    if count()? != Drop::ALL.len() as u64 {
        return Err(Malformed("another number of reasons to drop a sample"));
    }
    for field in &mut facts.ledger.dropped {
        *field = count()?;
    }
    // Each sample takes three bytes at least: its thread, its trace and how late it was.
    let count = bytes.count()?;
    if count > MAX_SAMPLES.min(bytes.0.len() / 3) {
        return Err(Malformed("a count of samples that can't be"));
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let thread = bytes.small()?;
        samples.push(StoredSample { time_ns: 0, weight_ns: 0, cpu: 0, thread, trace: 0 });
    }
    for sample in &mut samples {
        sample.trace = bytes.small()?;
    }
    let mut beyond = false;
    runs(bytes, &mut samples, |sample, cpu| {
        sample.cpu = cpu as u32;
        beyond |= cpu > u64::from(u32::MAX);
    })?;
    if beyond {
        return Err(Malformed("a CPU beyond 32 bits"));
    }
    runs(bytes, &mut samples, |sample, weight| sample.weight_ns = weight)?;
    // A number of periods, before it is a time.
    runs(bytes, &mut samples, |sample, periods| sample.time_ns = periods)?;
    let mut before = (u32::MAX, facts.monotonic_start_ns);
    for sample in &mut samples {
        let since = if before.0 == sample.cpu { before.1 } else { facts.monotonic_start_ns };
        let step = sample.time_ns.wrapping_mul(facts.period_ns).wrapping_add(bytes.signed()? as u64);
        sample.time_ns = since.wrapping_add(step);
        before = (sample.cpu, sample.time_ns);
    }
    bytes.end()?;
    Ok((facts, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: u32, time_ns: u64) -> StoredSample {
        StoredSample { time_ns, weight_ns: 10, cpu, thread: cpu.wrapping_add(300), trace: time_ns as u32 % 5 }
    }

    #[test]
    fn samples_come_back_exactly_whatever_their_times() {
        let ledger = Ledger { due: 9, dropped: [1, 2, 3, MAX_COUNT], surplus: 8, ..Ledger::default() };
        let facts = Facts { wall_start_ns: 1 << 60, monotonic_start_ns: 1000, duration_ns: 5, period_ns: 100, ledger };
        let cases: [(&str, u64, Vec<StoredSample>); 5] = [
            ("none", 100, vec![]),
            ("two CPUs at their period", 100, vec![sample(0, 1003), sample(1, 1050), sample(0, 1104), sample(1, 1149)]),
            ("idle between, and before the batch's start", 100, vec![sample(7, 400), sample(7, 1_000_000)]),
            ("no period", 0, vec![sample(3, 2000), sample(3, 2000), sample(u32::MAX, 5000)]),
            ("the ends of the clock", u64::MAX, vec![sample(0, 0), sample(0, u64::MAX), sample(1, u64::MAX)]),
        ];
        for (name, period_ns, mut samples) in cases {
            let facts = Facts { period_ns, ..facts };
            let section = encode(&facts, &mut samples).unwrap();
            assert_eq!(decode(&section), Ok((facts, samples)), "{name}");
            for length in 0..section.len() {
                assert!(decode(&section[..length]).is_err(), "{name} cut to {length}");
            }
        }
    }

    #[test]
    fn a_sample_at_its_time_takes_few_bytes() {
        let facts = Facts { period_ns: 10_101_010, ..Facts::default() };
        let mut samples: Vec<StoredSample> = (1..=1000)
            .map(|number| StoredSample { thread: 1, trace: 1, ..sample(0, number * 10_101_010 + number % 50) })
            .collect();
        assert!(encode(&facts, &mut samples).unwrap().len() < 1000 * 4 + 100);
    }

    #[test]
    fn times_are_those_of_the_first_and_last_sample_in_whatever_order() {
        let facts = Facts { wall_start_ns: 1000, monotonic_start_ns: 500, ..Facts::default() };
        assert_eq!(times(&facts, &[]), (1000, 1000));
        assert_eq!(times(&facts, &[sample(0, 520), sample(1, 510), sample(1, 590)]), (1010, 1090));
    }

    #[test]
    fn more_samples_than_there_are_bytes_for_are_refused_before_memory_is_taken() {
        let mut section = encode(&Facts::default(), &mut []).unwrap();
        // Without the count of samples.
        section.pop();
        for (count, bytes) in [(MAX_SAMPLES as u64 + 1, 3 * MAX_SAMPLES + 3), (1000, 2999), (1 << 60, 100)] {
            let mut section = section.clone();
            put(&mut section, count);
            section.resize(section.len() + bytes, 0);
            assert!(decode(&section).is_err(), "{count}");
        }
        let mut many = vec![sample(0, 0); MAX_SAMPLES + 1];
        assert_eq!(encode(&Facts::default(), &mut many), Err(Malformed("a batch with too many samples")));
    }
}
