//! [`Uploads`]: several intervals become one upload for every sink.
//!
//! A fleet does not fire at once: when a node's uploads end is moved by a hash of its name, the same after each restart.

use std::sync::Arc;
use std::time::Duration;

use super::INTERVAL;
use super::NamedBatch;
use super::naming::Consume;
use crate::profile::{Batch, merge};

/// See the module documentation.
pub struct Uploads {
    submit: Box<dyn Fn(Arc<Batch>) + Send>,
    /// Intervals in one upload.
    length: u32,
    /// Intervals until the next upload.
    left: u32,
    collected: Vec<NamedBatch>,
}

impl Uploads {
    /// One upload each `interval`, rounded to whole intervals of the agent; the first after a part of it that depends on the
    /// node's name. `submit` must not wait.
    pub fn new(submit: Box<dyn Fn(Arc<Batch>) + Send>, interval: Duration, node: &str) -> Uploads {
        let length = u32::try_from(interval.as_secs() / INTERVAL.as_secs()).unwrap_or(u32::MAX).max(1);
        Uploads { submit, length, left: 1 + crc32fast::hash(node.as_bytes()) % length, collected: Vec::new() }
    }

    fn upload(&mut self) {
        self.left = self.length;
        let collected = std::mem::take(&mut self.collected);
        let batches: Vec<&Batch> = collected.iter().map(Arc::as_ref).collect();
        match merge(&batches) {
            Ok(Some(merged)) => (self.submit)(Arc::new(merged)),
            Ok(None) => {}
            Err(error) => tracing::error!("an upload is lost: {error}"),
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

    use super::*;
    use crate::ledger::Ledger;
    use crate::profile::BatchBuilder;

    fn batch() -> NamedBatch {
        Arc::new(BatchBuilder::new().finish(10, Ledger { due: 1, ..Ledger::default() }))
    }

    #[test]
    fn intervals_are_merged_and_the_end_uploads_the_rest() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        let submit = move |batch: Arc<Batch>| seen.lock().unwrap().push(batch.ledger.due);
        let mut uploads = Uploads::new(Box::new(submit), Duration::from_secs(60), "node-1");
        let first = uploads.left;
        assert!((1..=6).contains(&first));
        for _ in 0..first + 6 + 2 {
            uploads.take(&batch());
        }
        uploads.finish();
        uploads.finish();
        assert_eq!(*sent.lock().unwrap(), [u64::from(first), 6, 2]);
    }
}
