//! What the store wrote, refused, lost and removed since it was opened.

/// Counts since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Batches written.
    pub batches: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes written to segments.
    pub bytes: u64,
    /// Batches that could not be written (a full or read-only disk): their samples are not in the history.
    pub batches_failed: u64,
    /// Samples in those.
    pub samples_failed: u64,
    /// Batches that do not hold together or are too large.
    pub batches_refused: u64,
    /// Samples in those.
    pub samples_refused: u64,
    /// Times that the index could not be written: what is missing in it comes back when it is made again.
    pub index_failures: u64,
    /// Frames on the root side that were cut off stacks with more than 4,096.
    pub frames_cut: u64,
    /// Texts of more than 64 KiB in a batch: their beginning was kept.
    pub texts_cut: u64,
    /// Times that the disk did not confirm what was written: a machine without power may lose more than the last minute.
    pub syncs_failed: u64,
    /// Bytes of unfinished chunks that were cut off when opening, or removed with a segment that had nothing else; and what the disk lost of
    /// what it had not confirmed.
    pub bytes_cut: u64,
    /// Times that the index was damaged and made anew.
    pub indexes_remade: u64,
    /// Files that were set aside: damaged, or of another version.
    pub set_aside: u64,
    /// Segments that were removed because of their age or the limit of bytes.
    pub segments_removed: u64,
    /// Files that could not be removed, renamed or, for lack of rights, read; each once. It is tried again with each batch, or at the next
    /// start.
    pub removals_failed: u64,
}
