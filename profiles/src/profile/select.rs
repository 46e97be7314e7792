//! A part of a batch: the samples of some of its processes, in a batch of their own with nothing else in it.
//!
//! A part costs what its samples refer to, not what the whole holds; texts are shared. So ten thousand parts of one batch cost
//! about as much as one copy of it.

use super::pprof::EncodeError;
use super::transfer::{Source, Target, get};
use super::{Batch, Process, Sample};
use crate::ledger::Ledger;

/// The samples of the processes for which `keep` holds. In the part's ledger the other samples are `filtered`, so that the
/// books of the whole still balance.
///
/// # Errors
/// An index in the batch that leads nowhere.
pub fn select(batch: &Batch, mut keep: impl FnMut(&Process) -> bool) -> Result<Batch, EncodeError> {
    let kept: Vec<bool> = batch.processes.iter().map(&mut keep).collect();
    let mut samples = Vec::new();
    for (number, sample) in batch.samples.iter().enumerate() {
        if *get("process", &kept, sample.process.0)? {
            samples.push(number as u32);
        }
    }
    copy(batch, &samples)
}

/// A batch taken apart: each process is in one part or in none.
pub struct Parts<'batch> {
    batch: &'batch Batch,
    /// By part: positions in [`Batch::samples`].
    samples: Vec<Vec<u32>>,
}

impl<'batch> Parts<'batch> {
    /// Sorts the samples into parts; `part_of` has the part of each process, by its index.
    ///
    /// # Errors
    /// A sample whose process does not exist, in the batch or in `part_of`.
    pub fn new(batch: &'batch Batch, part_of: &[Option<u32>]) -> Result<Parts<'batch>, EncodeError> {
        let count = part_of.iter().flatten().max().map_or(0, |most| *most as usize + 1);
        let mut samples = vec![Vec::new(); count];
        for (number, sample) in batch.samples.iter().enumerate() {
            if let Some(part) = get("process", part_of, sample.process.0)? {
                samples[*part as usize].push(number as u32);
            }
        }
        Ok(Parts { batch, samples })
    }

    /// How many parts there are, empty ones among them.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no part at all.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples of a part in order of time; none of a part that does not exist.
    pub fn samples(&self, part: u32) -> impl Iterator<Item = &'batch Sample> {
        let batch = self.batch;
        let numbers = self.samples.get(part as usize).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|number| batch.samples.get(*number as usize))
    }

    /// A part as a batch of its own, see [`select`].
    ///
    /// # Errors
    /// An index in the batch that leads nowhere.
    pub fn batch(&self, part: u32) -> Result<Batch, EncodeError> {
        copy(self.batch, self.samples.get(part as usize).map_or(&[][..], Vec::as_slice))
    }
}

fn copy(batch: &Batch, samples: &[u32]) -> Result<Batch, EncodeError> {
    let mut target = Target::like(batch);
    let mut source = Source::new(&mut target, batch, &[]);
    for number in samples {
        source.sample(get("sample", &batch.samples, *number)?)?;
    }
    let left_out = batch.samples.len() as u64 - samples.len() as u64;
    let ledger = &batch.ledger;
    let recorded = ledger.recorded.saturating_sub(left_out);
    let filtered = ledger.filtered + (ledger.recorded - recorded);
    Ok(target.finish(Ledger { recorded, filtered, ..*ledger }))
}
