//! A recording played back for as long as one likes, with as much that is new in each batch as the recording had at its end.

use std::collections::HashSet;

use profiler::profile::{Batch, LocationIndex, merge};

pub(super) const SECOND: u64 = 1_000_000_000;
/// Length of a batch.
const BATCH_NS: u64 = 10 * SECOND;
/// When the first batch begins, ns since the Unix epoch.
const START_NS: u64 = 1_700_000_000 * SECOND;

pub(super) struct Day {
    /// The recording; for a node with more CPUs several of its batches at once.
    batches: Vec<Batch>,
    /// Share of a batch's stacks that no batch before had, at the end of the recording.
    new_share: f64,
    /// Whether those that are made new are so by function, beside a leaf's address.
    new_functions: bool,
    /// Numbers what is made new.
    fresh: u64,
}

impl Day {
    /// `cpus` busy ones; a recording of fewer is laid over itself. `new_functions` is the share of stacks that are to be new by function.
    pub(super) fn new(recording: Vec<Batch>, cpus: u32, new_functions: Option<f64>) -> Day {
        let new_share = new_functions.unwrap_or_else(|| new_share(&recording));
        let recorded =
            recording.iter().flat_map(|batch| &batch.samples).map(|sample| sample.cpu + 1).max().unwrap_or(1);
        let layers = cpus.div_ceil(recorded);
        let batches = if layers <= 1 {
            recording
        } else {
            (0..recording.len()).filter_map(|first| layered(&recording, first, layers, recorded)).collect()
        };
        Day { batches, new_share, new_functions: new_functions.is_some(), fresh: 0 }
    }

    pub(super) fn describe(&self) -> String {
        let samples: usize = self.batches.iter().map(|batch| batch.samples.len()).sum();
        let stacks: usize = self.batches.iter().map(|batch| batch.stacks.len()).sum();
        let depth: usize = self.batches.iter().flat_map(|batch| &batch.stacks).map(|stack| stack.locations.len()).sum();
        format!(
            "{} batches of {} samples and {} stacks of {} frames; {:.1} % of a batch's stacks are new at the end",
            self.batches.len(),
            samples / self.batches.len(),
            stacks / self.batches.len(),
            depth / stacks.max(1),
            self.new_share * 100.0
        )
    }

    /// The batch of that number: a recorded one at its time, processes of each turn with new pids, some leaves in new places.
    pub(super) fn batch(&mut self, number: u64) -> Batch {
        let turn = number / self.batches.len() as u64;
        let mut batch = self.batches[(number % self.batches.len() as u64) as usize].clone();
        let monotonic = batch.monotonic_start_ns;
        batch.wall_start_ns = START_NS + number * BATCH_NS;
        batch.monotonic_start_ns = number * BATCH_NS;
        batch.duration_ns = BATCH_NS;
        for process in &mut batch.processes {
            process.pid = process.pid.wrapping_add(turn as u32 * 4099);
            process.start_time_ns += turn;
        }
        for sample in &mut batch.samples {
            sample.time_ns = sample.time_ns.wrapping_sub(monotonic).wrapping_add(batch.monotonic_start_ns);
            sample.tid = sample.tid.wrapping_add(turn as u32 * 4099);
        }
        if turn > 0 {
            self.renew(&mut batch);
        }
        batch
    }

    /// Gives as many stacks a leaf at an address of its own as are new in a batch.
    fn renew(&mut self, batch: &mut Batch) {
        let wanted = (batch.stacks.len() as f64 * self.new_share) as usize;
        let step = (batch.stacks.len() / wanted.max(1)).max(1);
        for stack in batch.stacks.iter_mut().step_by(step).take(wanted) {
            self.fresh += 1;
            if self.new_functions {
                // Another caller on the leaf's side: there most stacks of compilers part.
                let level = 1 + (self.fresh % (stack.locations.len() as u64 / 3).max(1)) as usize;
                if let Some(caller) = stack.locations.get_mut(level) {
                    *caller = LocationIndex((self.fresh.wrapping_mul(7919) % batch.locations.len() as u64) as u32);
                }
            }
            let Some(leaf) = stack.locations.first_mut() else { continue };
            let Some(mut location) = batch.locations.get(leaf.0 as usize).cloned() else { continue };
            location.address = location.address.wrapping_add(self.fresh << 4);
            *leaf = LocationIndex(batch.locations.len() as u32);
            batch.locations.push(location);
        }
    }
}

fn new_share(recording: &[Batch]) -> f64 {
    let mut seen: HashSet<Vec<(u64, String)>> = HashSet::new();
    let mut share = 0.0;
    let last = recording.len() - recording.len() / 3;
    for (number, batch) in recording.iter().enumerate() {
        let before = seen.len();
        for stack in &batch.stacks {
            let frames = stack.locations.iter().filter_map(|location| batch.locations.get(location.0 as usize));
            let file = |mapping: profiler::profile::MappingIndex| {
                batch.mappings.get(mapping.0 as usize).map(|mapping| mapping.filename)
            };
            let frames = frames.map(|location| {
                let file = location.mapping.and_then(file).map_or("", |name| batch.strings.get(name));
                (location.address, file.to_owned())
            });
            seen.insert(frames.collect());
        }
        if number >= last {
            share += (seen.len() - before) as f64 / batch.stacks.len().max(1) as f64;
        }
    }
    share / (recording.len() - last).max(1) as f64
}

/// Batches of the recording from `first` on as one, as if they had happened at once on other CPUs.
fn layered(recording: &[Batch], first: usize, layers: u32, cpus: u32) -> Option<Batch> {
    let mut parts = Vec::new();
    for layer in 0..layers {
        let mut batch = recording[(first + layer as usize) % recording.len()].clone();
        let start = batch.monotonic_start_ns;
        batch.monotonic_start_ns = 0;
        for process in &mut batch.processes {
            process.pid = process.pid.wrapping_add(layer << 22);
        }
        for sample in &mut batch.samples {
            sample.time_ns = sample.time_ns.wrapping_sub(start);
            sample.cpu += layer * cpus;
            sample.tid = sample.tid.wrapping_add(layer << 22);
        }
        parts.push(batch);
    }
    merge(&parts.iter().collect::<Vec<_>>()).ok()?
}
