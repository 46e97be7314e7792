//! [`Uploads`]: several intervals become one upload for every sink.
//!
//! A fleet does not fire at once: when a node's uploads end is moved by a hash of its name, the same after each restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::INTERVAL;
use super::NamedBatch;
use super::naming::Consume;
use crate::profile::{Batch, merge};

/// Uploads that could not be made of their intervals, a bug of ours.
#[derive(Debug, Default)]
pub struct Lost {
    uploads: AtomicU64,
    samples: AtomicU64,
}

impl Lost {
    /// Uploads, and the samples in them.
    pub fn counts(&self) -> (u64, u64) {
        (self.uploads.load(Ordering::Relaxed), self.samples.load(Ordering::Relaxed))
    }
}

/// See the module documentation.
pub struct Uploads {
    submit: Box<dyn Fn(Arc<Batch>) + Send>,
    /// Intervals in one upload.
    length: u32,
    /// Intervals until the next upload.
    left: u32,
    collected: Vec<NamedBatch>,
    lost: Arc<Lost>,
}

impl Uploads {
    /// One upload each `interval`, rounded to whole intervals of the agent; the first after a part of it that depends on the
    /// node's name. `submit` must not wait; what is lost before it is counted in `lost`.
    pub fn new(submit: Box<dyn Fn(Arc<Batch>) + Send>, interval: Duration, node: &str, lost: Arc<Lost>) -> Uploads {
        let length = u32::try_from(interval.as_secs() / INTERVAL.as_secs()).unwrap_or(u32::MAX).max(1);
        let left = 1 + crc32fast::hash(node.as_bytes()) % length;
        Uploads { submit, length, left, collected: Vec::new(), lost }
    }

    fn upload(&mut self) {
        self.left = self.length;
        let collected = std::mem::take(&mut self.collected);
        let batches: Vec<&Batch> = collected.iter().map(Arc::as_ref).collect();
        match merge(&batches) {
            Ok(Some(merged)) => (self.submit)(Arc::new(merged)),
            Ok(None) => {}
            Err(error) => {
                let samples: u64 = batches.iter().map(|batch| batch.samples.len() as u64).sum();
                self.lost.uploads.fetch_add(1, Ordering::Relaxed);
                self.lost.samples.fetch_add(samples, Ordering::Relaxed);
                tracing::error!(
                    samples,
                    "an upload is lost, a bug that is worth a report; the next one goes out: {error}"
                );
            }
        }
    }
}

impl Consume for Uploads {
    fn take(&mut self, batch: &NamedBatch) {
        self.collected.push(Arc::clone(batch));
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.upload();
        }
    }

    fn finish(&mut self) {
        if !self.collected.is_empty() {
            self.upload();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use unwind::end::End;

    use super::*;
    use crate::ledger::Ledger;
    use crate::profile::{BatchBuilder, ProcessIndex, Sample, StackIndex};

    fn batch() -> NamedBatch {
        Arc::new(BatchBuilder::new().finish(10, Ledger { due: 1, ..Ledger::default() }))
    }

    #[test]
    fn intervals_are_merged_and_the_end_uploads_the_rest() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        let submit = move |batch: Arc<Batch>| seen.lock().unwrap().push(batch.ledger.due);
        let mut uploads = Uploads::new(Box::new(submit), Duration::from_secs(60), "node-1", Arc::default());
        let first = uploads.left;
        assert!((1..=6).contains(&first));
        for _ in 0..first + 6 + 2 {
            uploads.take(&batch());
        }
        uploads.finish();
        uploads.finish();
        assert_eq!(*sent.lock().unwrap(), [u64::from(first), 6, 2]);
    }

    #[test]
    fn an_upload_that_can_t_be_made_is_counted_and_the_next_one_goes_out() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (seen, lost) = (Arc::clone(&sent), Arc::new(Lost::default()));
        let submit = move |batch: Arc<Batch>| seen.lock().unwrap().push(batch.ledger.due);
        let mut uploads = Uploads::new(Box::new(submit), INTERVAL, "node-1", Arc::clone(&lost));
        let mut broken = BatchBuilder::new().finish(10, Ledger::default());
        broken.samples.extend([1, 2].map(|time_ns| Sample {
            time_ns,
            weight_ns: 10,
            process: ProcessIndex(0),
            tid: 1,
            thread_name: broken.strings.intern(""),
            cpu: 0,
            stack: StackIndex(5),
            end: End::Complete,
            provenance: 0,
        }));
        uploads.take(&Arc::new(broken));
        uploads.take(&batch());
        assert_eq!((lost.counts(), sent.lock().unwrap().as_slice()), ((1, 2), [1].as_slice()));
    }
}
