//! The unwind tables in memory that the kernel reads: who owns which words of the slab, and when they may be reused.
//!
//! `extents` and `process_table` are pure; `segments` holds the mapped BPF memory; [`Tables`] ties them to executables and
//! processes. Building rows is the `unwind` crate's business, deciding what to load is `process`'s.

mod extents;
mod process_table;
mod segments;

use hashbrown::HashMap;

use unwind::build::{Placement, Plan};
use unwind::rule::{ESCAPE_WORDS, EscapeRule};
use unwind::slab::{DESCRIPTOR_NOT_LOADED, DESCRIPTOR_WORDS};

pub use process_table::{MAX_MAPPINGS, TableMapping, encode as encode_process_table, words as process_table_words};
pub use segments::{AgentSlab, LOCAL_SEGMENT, LocalSegment, Segments};

use crate::sampler::SamplerError;

/// Most escape rules, over all executables: 32 bytes each. They are never freed, since rule caches may point at them.
/// A desktop's whole /usr needs a few hundred.
pub const MAX_ESCAPE_RULES: usize = 8192;

/// New escape rules that one executable may bring: 32 would fill the list. libc brings 40, whatever has more is odd.
const MAX_ESCAPE_RULES_EACH: usize = MAX_ESCAPE_RULES / 32;
/// Of the budget, executables get all but one of so many parts: a slab full of rows must still take process tables.
const PROCESS_PART: u64 = 8;
/// A single executable gets at most one of so many parts of the budget.
const LARGEST_PART: u64 = 2;
/// All process tables together get at most one of so many parts of the budget.
const PROCESSES_PART: u64 = 2;

/// Consecutive words of the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Word address.
    pub address: u32,
    /// Number of words.
    pub words: u32,
}

/// An executable in the slab.
#[derive(Debug)]
pub struct LoadedExecutable {
    /// Word address of its descriptor.
    pub descriptor: u32,
    extents: Vec<Extent>,
}

impl LoadedExecutable {
    /// Words that it takes.
    pub fn words(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.words)).sum()
    }
}

/// A process table in the slab.
#[derive(Debug)]
pub struct LoadedProcess {
    /// Word address of its root.
    pub root: u32,
    extent: Extent,
}

/// What the tables refused, evicted or gave up, for the user to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounters {
    /// Extents refused because the budget was used up; executables that then took the place of others included.
    pub refused: u64,
    /// Escape rules refused because [`MAX_ESCAPE_RULES`] were there, or one executable brought too many.
    pub escapes_refused: u64,
    /// Process tables refused because others took all that process tables may take.
    pub processes_refused: u64,
    /// Grace periods waited for.
    pub grace_periods: u64,
    /// Grace periods that could not be waited for: what was freed was not used again.
    pub grace_periods_refused: u64,
}

/// The slab and its books.
pub struct Tables {
    segments: Segments,
    extents: extents::Extents,
    escapes: HashMap<EscapeRule, u32>,
    /// Freed, but maybe still being read by a program that began before.
    quarantine: Vec<Extent>,
    /// Words of executables, and of processes.
    executable_words: u64,
    process_words: u64,
    /// The descriptor for executables that are looked for.
    pending: Option<u32>,
    /// What was refused.
    pub counters: TableCounters,
}

impl Tables {
    /// A slab of at most `budget_bytes`, in segments of 4 MiB made as they are needed.
    pub fn new(segments: Segments, budget_bytes: u64) -> Tables {
        let segment_bytes = (unwind::slab::SEGMENT_WORDS * 4) as u64;
        let most = (budget_bytes / segment_bytes).clamp(1, LOCAL_SEGMENT as u64) as u32;
        Tables {
            segments,
            extents: extents::Extents::new(most),
            escapes: HashMap::new(),
            quarantine: Vec::new(),
            executable_words: 0,
            process_words: 0,
            pending: None,
            counters: TableCounters::default(),
        }
    }

    /// The mapped memory, to read the same words that the kernel reads.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Bytes of kernel memory that the segments take.
    pub fn bytes(&self) -> u64 {
        self.segments.len() as u64 * (unwind::slab::SEGMENT_WORDS * 4) as u64
    }

    /// Bytes in use by tables.
    pub fn used_bytes(&self) -> u64 {
        self.extents.used_words() * 4
    }

    /// Bytes in use by escape rules, which stay for good.
    pub fn escape_bytes(&self) -> u64 {
        self.escapes.len() as u64 * u64::from(ESCAPE_WORDS) * 4
    }

    fn allocate(&mut self, words: u32) -> Result<Option<Extent>, SamplerError> {
        loop {
            if let Some(extent) = self.extents.allocate(words) {
                return Ok(Some(extent));
            }
            if !self.quarantine.is_empty() && self.wait_for_programs() {
                continue;
            }
            if !self.extents.can_grow() {
                self.counters.refused += 1;
                return Ok(None);
            }
            match self.segments.add() {
                Ok(()) => self.extents.grow(),
                // Memory that the kernel does not give later is a smaller budget, not the end of a recording.
                Err(_) if self.extents.segments() > 0 => self.extents.stop_growing(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until every program that might still read freed extents has ended, then gives them back. False if the kernel does
    /// not let us wait: then nothing is given back. Never a sleep instead: a virtual CPU can stop for seconds inside a program.
    pub fn wait_for_programs(&mut self) -> bool {
        if !self.segments.synchronize() {
            self.counters.grace_periods_refused += 1;
            return false;
        }
        self.counters.grace_periods += 1;
        for extent in self.quarantine.drain(..) {
            self.extents.free(extent);
        }
        true
    }

    fn free(&mut self, extent: Extent) {
        self.quarantine.push(extent);
    }

    /// Words that go to the kernel are stored plainly: nothing points at them before the last store that publishes them.
    fn write(&mut self, address: u32, words: &[u32]) {
        self.segments.write(address, words);
    }

    /// A descriptor that says "rows exist, but are not loaded": processes can be published before their rows are built.
    pub fn reserve_descriptor(&mut self) -> Result<Option<u32>, SamplerError> {
        let Some(extent) = self.allocate(DESCRIPTOR_WORDS)? else { return Ok(None) };
        self.write(extent.address, &[0, 0, 0, 0, DESCRIPTOR_NOT_LOADED, 0, 0, 0]);
        Ok(Some(extent.address))
    }

    /// The descriptor for code whose file is still looked for; 0 if the budget is used up.
    pub fn pending_descriptor(&mut self) -> Result<u32, SamplerError> {
        if self.pending.is_none() {
            self.pending = self.reserve_descriptor()?;
        }
        Ok(self.pending.unwrap_or(0))
    }

    /// Gives a descriptor back; no process table may name it any more.
    pub fn release_descriptor(&mut self, descriptor: u32) {
        self.free(Extent { address: descriptor, words: DESCRIPTOR_WORDS });
    }

    /// Says that the executable has no rows at all: its code is walked by frame pointer.
    pub fn mark_without_rows(&mut self, descriptor: u32) {
        self.segments.rewrite(descriptor, &[0; DESCRIPTOR_WORDS as usize]);
    }

    /// Whether an executable may have as much as its plan takes, were it alone.
    pub fn is_too_large(&self, plan: &Plan) -> bool {
        let words: u64 = sizes(plan).iter().map(|words| u64::from(*words)).sum();
        words > self.extents.budget_words() / LARGEST_PART
    }

    /// Whether a plan would find room once these executables were unloaded.
    pub fn would_fit<'a>(&self, plan: &Plan, unloaded: impl Iterator<Item = &'a LoadedExecutable> + Clone) -> bool {
        let sizes = sizes(plan);
        let freed: u64 = unloaded.clone().map(LoadedExecutable::words).sum();
        let extents = unloaded.flat_map(|executable| executable.extents.iter().copied());
        self.has_share(&sizes, freed) && self.extents.would_fit(self.quarantine.iter().copied().chain(extents), &sizes)
    }

    /// Whether executables may take so much more.
    fn has_share(&self, sizes: &[u32], freed: u64) -> bool {
        let wanted: u64 = sizes.iter().map(|words| u64::from(*words)).sum();
        let budget = self.extents.budget_words();
        (self.executable_words + wanted).saturating_sub(freed) <= budget - budget / PROCESS_PART
    }

    /// Writes an executable's tables and fills its descriptor; `None` if the budget is used up.
    pub fn load_executable(&mut self, descriptor: u32, plan: &Plan) -> Result<Option<LoadedExecutable>, SamplerError> {
        let mut extents = Vec::new();
        let sizes = sizes(plan);
        if !self.has_share(&sizes, 0) {
            return Ok(None);
        }
        for words in sizes {
            match self.allocate(words)? {
                Some(extent) => extents.push(extent),
                None => {
                    // Nothing was written there, so nobody reads it.
                    extents.into_iter().for_each(|extent| self.extents.free(extent));
                    return Ok(None);
                }
            }
        }
        let before = self.escapes.len();
        for rule in plan.escapes() {
            if self.escapes.len() - before < MAX_ESCAPE_RULES_EACH {
                self.escape(rule)?;
            }
        }
        let (chunks, rest) = extents.split_at(extents.len().saturating_sub(2));
        let [rules, page_table] = rest else { return Ok(None) };
        let chunks: Vec<u32> = chunks.iter().map(|extent| extent.address).collect();
        let placement = Placement { page_table: page_table.address, rules: rules.address, chunks: &chunks };
        let (escapes, segments) = (&self.escapes, &mut self.segments);
        let written = plan.write(placement, &mut |rule| escapes.get(&rule).copied(), &mut |address, words| {
            segments.write(address, words);
        });
        self.counters.escapes_refused += u64::from(written.escapes_refused);
        // The page table goes last: a program that reads the descriptor meanwhile sees "none" or everything.
        let mut body = written.descriptor;
        let table = std::mem::take(&mut body[0]);
        // Looked at only while there is no page table: then rows exist, but are on their way in or out.
        body[4] |= DESCRIPTOR_NOT_LOADED;
        // One that read an earlier page table just before may see this body with it: that is the same file's and says the same,
        // and what it points at is not reused before a grace period.
        self.segments.rewrite(descriptor, &body);
        self.segments.publish(descriptor, table);
        let loaded = LoadedExecutable { descriptor, extents };
        self.executable_words += loaded.words();
        Ok(Some(loaded))
    }

    /// Takes an executable out of use; its words come back after a grace period.
    pub fn unload_executable(&mut self, executable: LoadedExecutable) {
        self.executable_words = self.executable_words.saturating_sub(executable.words());
        self.segments.publish(executable.descriptor, 0);
        for extent in executable.extents {
            self.free(extent);
        }
    }

    fn escape(&mut self, rule: EscapeRule) -> Result<(), SamplerError> {
        if self.escapes.contains_key(&rule) || self.escapes.len() >= MAX_ESCAPE_RULES {
            return Ok(());
        }
        let Some(extent) = self.allocate(ESCAPE_WORDS)? else { return Ok(()) };
        let EscapeRule { register, flags, inner, outer, return_address, fp, rbx, r12 } = rule;
        self.write(
            extent.address,
            &[register, flags, inner as u32, outer as u32, return_address as u32, fp as u32, rbx as u32, r12 as u32],
        );
        self.escapes.insert(rule, extent.address);
        Ok(())
    }

    /// Writes a process table; `None` if the budget is used up.
    pub fn load_process(&mut self, mappings: &[TableMapping]) -> Result<Option<LoadedProcess>, SamplerError> {
        let words = process_table_words(mappings.len());
        if self.process_words + u64::from(words) > self.extents.budget_words() / PROCESSES_PART {
            self.counters.processes_refused += 1;
            return Ok(None);
        }
        let Some(extent) = self.allocate(words)? else { return Ok(None) };
        self.process_words += u64::from(extent.words);
        let mut words = Vec::new();
        encode_process_table(extent.address, mappings, &mut words);
        self.write(extent.address, &words);
        Ok(Some(LoadedProcess { root: extent.address, extent }))
    }

    /// Gives a process table back; call it after the hash no longer names it.
    pub fn unload_process(&mut self, process: LoadedProcess) {
        self.process_words = self.process_words.saturating_sub(u64::from(process.extent.words));
        self.free(process.extent);
    }
}

/// Words of each extent that a plan takes, as [`Plan::write`] wants them: chunks, rules, page table.
fn sizes(plan: &Plan) -> Vec<u32> {
    plan.chunk_words().chain([plan.rule_words().max(1), plan.page_table_words().max(1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mappings(count: usize) -> Vec<TableMapping> {
        let mapping = |at: u64| TableMapping { start: at << 13, end: (at << 13) + 4096, descriptor: 0, bias: 0 };
        (1..=count as u64).map(mapping).collect()
    }

    #[test]
    fn process_tables_take_half_of_the_slab_and_come_back_after_a_grace_period() {
        let mut tables = Tables::new(Segments::unpublished(), 4 << 20);
        let large = mappings(MAX_MAPPINGS);
        let mut loaded = Vec::new();
        while let Some(process) = tables.load_process(&large).unwrap() {
            loaded.push(process);
        }
        let each = u64::from(process_table_words(MAX_MAPPINGS)) * 4;
        assert_eq!(loaded.len() as u64, (2 << 20) / each);
        assert_eq!((tables.counters.processes_refused, tables.counters.refused), (1, 0));
        tables.unload_process(loaded.pop().unwrap());
        assert!(tables.load_process(&large).unwrap().is_some());
        assert_eq!(tables.counters.grace_periods, 0, "there was room elsewhere");
        assert!(tables.load_process(&mappings(1)).unwrap().is_some(), "a small one still fits");
    }

    #[test]
    fn a_descriptor_that_was_given_back_is_used_again() {
        let mut tables = Tables::new(Segments::unpublished(), 4 << 20);
        let pending = tables.pending_descriptor().unwrap();
        assert_eq!(tables.pending_descriptor().unwrap(), pending);
        let first = tables.reserve_descriptor().unwrap().unwrap();
        assert_ne!(first, pending);
        tables.release_descriptor(first);
        assert_ne!(tables.reserve_descriptor().unwrap().unwrap(), first, "a program may still read it");
        tables.wait_for_programs();
        assert_eq!(tables.reserve_descriptor().unwrap().unwrap(), first);
    }

    #[test]
    fn what_was_freed_is_not_used_again_where_programs_can_not_be_waited_for() {
        let mut tables = Tables::new(Segments::with_barrier(|| false), 8 << 20);
        let first = tables.reserve_descriptor().unwrap().unwrap();
        tables.release_descriptor(first);
        assert!(!tables.wait_for_programs());
        let mut taken = Vec::new();
        while let Some(descriptor) = tables.reserve_descriptor().unwrap() {
            taken.push(descriptor);
        }
        assert!(taken.len() > 100_000 && !taken.contains(&first), "a program may still read it");
        assert_eq!((tables.counters.grace_periods, tables.counters.refused), (0, 1));
        assert!(tables.counters.grace_periods_refused > 1);
    }
}
