//! [`Reader`]: asks the history, also while it is being written. Here is how segments and chunks are walked; `stacks`, `series`
//! and `values` say what becomes of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError};

use super::bytes::Malformed;
use super::chunk::{ChunkHeader, Section};
use super::columns::{self, Facts, StoredSample};
use super::dictionary::{Part, Table};
use super::error::StoreError;
use super::index::{ChunkRow, Snapshot};
use super::label::Query;
use super::result::ResultTables;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentFile};
use super::tables::Tables;
use super::writer::Shared;
use profiles::profile::Batch;

/// Asks a history. Cheap to clone; each question sees the history as it was when it was asked.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    given_up: Arc<AtomicBool>,
    helper: Option<Arc<Helper>>,
}

/// What is called on the second thread of a question, with all that is done there.
pub type Helper = dyn Fn(&mut dyn FnMut()) + Send + Sync;

/// What a question could not look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Segments that are damaged. The writer sets them aside.
    pub damaged_segments: u64,
    /// Segments that were removed while the question was answered.
    pub removed_segments: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared, given_up: Arc::default(), helper: None }
    }

    /// A reader whose questions end with [`StoreError::GivenUp`] soon after `given_up` was set: within a chunk, about 1 ms.
    #[must_use]
    pub fn until(&self, given_up: Arc<AtomicBool>) -> Reader {
        Reader { given_up, ..self.clone() }
    }

    /// A reader whose questions take a second thread: it opens the next segment while the one before is added to the answer, since reading,
    /// unpacking and checking a dictionary takes about as long as that. It is one segment ahead and no more, so that an answer needs
    /// the memory of two dictionaries instead of one.
    ///
    /// `helper` is called on that thread, so that whoever counts what answers take can count it as well.
    #[must_use]
    pub fn helped_by(&self, helper: Arc<Helper>) -> Reader {
        Reader { helper: Some(helper), ..self.clone() }
    }

    /// Times of the first and the last sample, ns since the Unix epoch; `None` if there is no history.
    ///
    /// # Errors
    /// The index can't be read.
    pub fn extent(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let segments = self.shared.index()?.snapshot()?.segments()?;
        let times = segments.into_iter().map(|(_, times)| times);
        Ok(times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))))
    }

    /// Gives the batches whose samples touch the range of time to `visit`, oldest segment first, each whole and as it was appended.
    /// Tables hold only what the samples use, in another order. Never with a second thread: `visit` may take its time, and nothing is
    /// held open for it.
    ///
    /// # Errors
    /// The history can't be read.
    pub fn batches(&self, from_ns: u64, to_ns: u64, mut visit: impl FnMut(Batch)) -> Result<Skipped, StoreError> {
        let query = Query { from_ns, to_ns, filters: Vec::new() };
        let alone = Reader { helper: None, ..self.clone() };
        alone.each_segment(&query, &[Part::Owners, Part::Shapes, Part::Exact], |segment| {
            for chunk in 0..segment.chunks.len() {
                let (facts, mut samples) = segment.samples(chunk)?;
                samples.sort_by_key(|sample| (sample.time_ns, sample.cpu));
                let mut tables = ResultTables::default();
                let batch = tables.batch_of_chunk(&segment.tables, &facts, &samples);
                visit(batch.map_err(|problem| segment.damaged(chunk, problem))?);
            }
            Ok(())
        })
    }

    /// Walks the segments that touch the query's range, with `parts` of their dictionaries. A damaged one is reported to the
    /// writer and left out.
    pub(super) fn each_segment(
        &self,
        query: &Query,
        parts: &[Part],
        mut visit: impl FnMut(&SegmentView<'_>) -> Result<(), StoreError>,
    ) -> Result<Skipped, StoreError> {
        let snapshot = self.shared.index()?.snapshot()?;
        let mut segments = snapshot.segments()?;
        segments.retain(|(_, (first_ns, last_ns))| *last_ns >= query.from_ns && *first_ns < query.to_ns);
        let open = |number| self.open_segment(&snapshot, number, query, parts);
        let (mut skipped, mut visited) = (Skipped::default(), 0);
        let mut take = |number, view: Result<Option<SegmentView<'_>>, StoreError>| -> Result<(), StoreError> {
            match view.and_then(|view| view.map(|view| visit(&view)).transpose()) {
                Ok(Some(())) => {}
                Ok(None) => skipped.removed_segments += 1,
                Err(StoreError::Damaged { path, offset, problem }) => {
                    let why = StoreError::Damaged { path, offset, problem }.to_string();
                    self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(number, why);
                    skipped.damaged_segments += 1;
                }
                Err(error) => return Err(error),
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            if let Some(helper) = self.helper.as_deref().filter(|_| segments.len() > 1) {
                // Without room: whoever opens waits until the one before is taken.
                let (ready, opened) = sync_channel(0);
                let (open, segments) = (&open, &segments);
                let ahead = move || {
                    helper(&mut || {
                        for (number, _) in segments {
                            // Nobody takes it once a visit failed.
                            if ready.send((*number, open(*number))).is_err() {
                                break;
                            }
                        }
                    });
                };
                // Where no thread can be had, this one does all.
                let _ = std::thread::Builder::new().name("history-ahead".to_owned()).spawn_scoped(scope, ahead);
                for (number, view) in opened {
                    visited += 1;
                    take(number, view)?;
                }
            }
            segments.iter().skip(visited).try_for_each(|(number, _)| take(*number, open(*number)))
        })?;
        Ok(skipped)
    }

    /// `None` if it was removed meanwhile.
    fn open_segment<'query>(
        &'query self,
        snapshot: &Snapshot,
        number: u32,
        query: &'query Query,
        parts: &[Part],
    ) -> Result<Option<SegmentView<'query>>, StoreError> {
        let Some(file) = SegmentFile::open(self.shared.segment_path(number))? else { return Ok(None) };
        SegmentView::open(file, snapshot.chunks(number)?, query, parts, &self.given_up).map(Some)
    }
}

fn still_wanted(given_up: &AtomicBool) -> Result<(), StoreError> {
    if given_up.load(Ordering::Relaxed) { Err(StoreError::GivenUp) } else { Ok(()) }
}

/// A segment with the chunks that a query wants.
pub(super) struct SegmentView<'query> {
    file: SegmentFile,
    query: &'query Query,
    given_up: &'query AtomicBool,
    pub(super) chunks: Vec<(ChunkHeader, ChunkRow)>,
    pub(super) tables: Tables,
    /// By thread, whether the filters allow it, as far as somebody asked.
    allowed: Vec<Cell<Option<bool>>>,
}

impl<'query> SegmentView<'query> {
    fn open(
        file: SegmentFile,
        rows: Vec<ChunkRow>,
        query: &'query Query,
        parts: &[Part],
        given_up: &'query AtomicBool,
    ) -> Result<SegmentView<'query>, StoreError> {
        let mut chunks = Vec::with_capacity(rows.len());
        for row in rows {
            let header = row.header().map_err(|problem| file.damaged(row.offset, problem))?;
            chunks.push((header, row));
        }
        let wanted = |header: &ChunkHeader| header.last_ns >= query.from_ns && header.first_ns < query.to_ns;
        // A chunk needs what all chunks before it brought, those after the last wanted one are not read.
        let last = chunks.iter().rposition(|(header, _)| wanted(header)).map_or(0, |last| last + 1);
        let mut tables = Tables::default();
        for (header, row) in chunks.iter().take(last) {
            still_wanted(given_up)?;
            for part in parts {
                let section = match part {
                    Part::Owners => Section::Owners,
                    Part::Shapes => Section::Shapes,
                    Part::Exact => Section::Exact,
                };
                let bytes = file.section(row.offset, header, section)?;
                tables.add(*part, &bytes).map_err(|problem| file.damaged(row.offset, problem))?;
            }
        }
        chunks.retain(|(header, _)| wanted(header));
        let allowed = vec![Cell::new(None); tables.len(Table::Threads)];
        Ok(SegmentView { file, query, given_up, chunks, tables, allowed })
    }

    /// A problem in one of the wanted chunks.
    pub(super) fn damaged(&self, chunk: usize, problem: Malformed) -> StoreError {
        self.file.damaged(self.chunks.get(chunk).map_or(SEGMENT_HEADER_BYTES, |(_, row)| row.offset), problem)
    }

    /// All samples of a chunk, by CPU and time.
    pub(super) fn samples(&self, chunk: usize) -> Result<(Facts, Vec<StoredSample>), StoreError> {
        self.still_wanted()?;
        let Some((header, row)) = self.chunks.get(chunk) else { return Ok(Default::default()) };
        let bytes = self.file.section(row.offset, header, Section::Samples)?;
        columns::decode(&bytes).map_err(|problem| self.damaged(chunk, problem))
    }

    /// Whether the filters allow a thread of a chunk.
    #[inline]
    pub(super) fn allows(&self, chunk: usize, thread: u32) -> Result<bool, StoreError> {
        if self.query.filters.is_empty() {
            return Ok(true);
        }
        let known = self.allowed.get(thread as usize);
        let known = known.ok_or_else(|| self.damaged(chunk, Malformed("a thread that is not there")))?;
        if let Some(allowed) = known.get() {
            return Ok(allowed);
        }
        self.still_wanted()?;
        let allowed = self.query.allows(&self.tables, thread).map_err(|problem| self.damaged(chunk, problem))?;
        known.set(Some(allowed));
        Ok(allowed)
    }

    /// Time of the first and the last sample of the wanted chunks.
    pub(super) fn times(&self) -> Option<(u64, u64)> {
        let times = self.chunks.iter().map(|(header, _)| (header.first_ns, header.last_ns));
        times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    pub(super) fn given_up(&self) -> &AtomicBool {
        self.given_up
    }

    pub(super) fn still_wanted(&self) -> Result<(), StoreError> {
        still_wanted(self.given_up)
    }

    /// Whether a chunk has samples of a thread that the filters allow.
    pub(super) fn has_allowed(&self, chunk: usize) -> Result<bool, StoreError> {
        if self.query.filters.is_empty() {
            return Ok(true);
        }
        for (thread, _) in self.sums(chunk)? {
            if self.allows(chunk, thread)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn sums(&self, chunk: usize) -> Result<Vec<(u32, u64)>, StoreError> {
        self.still_wanted()?;
        let sums = self.chunks.get(chunk).map_or(Ok(Vec::new()), |(_, row)| row.sums());
        sums.map_err(|problem| self.damaged(chunk, problem))
    }

    /// CPU time of the threads that the filters allow, in the query's range: thread, a time, ns. A chunk whose samples all have
    /// the same `place` gives one sum for each thread, without reading its samples.
    pub(super) fn each_thread(
        &self,
        place: impl Fn(u64) -> u64,
        mut visit: impl FnMut(&Tables, u32, u64, u64) -> Result<(), Malformed>,
    ) -> Result<(), StoreError> {
        for chunk in 0..self.chunks.len() {
            let Some((first_ns, last_ns)) = self.chunks.get(chunk).map(|(header, _)| (header.first_ns, header.last_ns))
            else {
                continue;
            };
            let whole =
                self.query.contains(first_ns) && self.query.contains(last_ns) && place(first_ns) == place(last_ns);
            let mut visit = |thread: u32, time_ns: u64, weight: u64| -> Result<(), StoreError> {
                if self.allows(chunk, thread)? {
                    let visited = visit(&self.tables, thread, time_ns, weight);
                    visited.map_err(|problem| self.damaged(chunk, problem))?;
                }
                Ok(())
            };
            if whole {
                self.sums(chunk)?.into_iter().try_for_each(|(thread, weight)| visit(thread, first_ns, weight))?;
                continue;
            }
            let (facts, samples) = self.samples(chunk)?;
            for sample in &samples {
                let time_ns = facts.wall_ns(sample.time_ns);
                if self.query.contains(time_ns) {
                    visit(sample.thread, time_ns, sample.weight_ns)?;
                }
            }
        }
        Ok(())
    }
}
