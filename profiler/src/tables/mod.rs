//! The unwind tables in memory that the kernel reads: who owns which words of the slab, and when they may be reused.
//!
//! `extents` and `process_table` are pure; `segments` holds the mapped BPF memory; [`Tables`] ties them to executables and
//! processes. Building rows is the `unwind` crate's business, deciding what to load is `process`'s.

mod extents;
mod process_table;
mod segments;

use std::collections::HashMap;

use unwind::build::{Placement, Plan};
use unwind::rule::{ESCAPE_WORDS, EscapeRule};
use unwind::slab::{DESCRIPTOR_NOT_LOADED, DESCRIPTOR_WORDS};

pub use process_table::{MAX_MAPPINGS, TableMapping, encode as encode_process_table, words as process_table_words};
pub use segments::{AgentSlab, LOCAL_SEGMENT, LocalSegment, Segments};

use crate::sampler::SamplerError;

/// Most escape rules, over all executables: 32 bytes each. They are never freed, since rule caches may point at them.
/// A desktop's whole /usr needs a few hundred.
pub const MAX_ESCAPE_RULES: usize = 8192;

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
    /// Extents refused because the budget was used up.
    pub refused: u64,
    /// Escape rules refused because [`MAX_ESCAPE_RULES`] were there.
    pub escapes_refused: u64,
    /// Grace periods waited for.
    pub grace_periods: u64,
}

/// The slab and its books.
pub struct Tables {
    segments: Segments,
    extents: extents::Extents,
    escapes: HashMap<EscapeRule, u32>,
    /// Freed, but maybe still being read by a program that began before.
    quarantine: Vec<Extent>,
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

    fn allocate(&mut self, words: u32) -> Result<Option<Extent>, SamplerError> {
        loop {
            if let Some(extent) = self.extents.allocate(words) {
                return Ok(Some(extent));
            }
            if !self.quarantine.is_empty() {
                self.wait_for_programs();
                continue;
            }
            if !self.extents.can_grow() {
                self.counters.refused += 1;
                return Ok(None);
            }
            self.segments.add()?;
            self.extents.grow();
        }
    }

    /// Waits until every program that might still read freed extents has ended, then gives them back.
    ///
    /// `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu` in the kernel (≥ 4.3): programs run under RCU. Never a sleep: a virtual
    /// CPU can stop for seconds inside a program.
    pub fn wait_for_programs(&mut self) {
        const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
        // SAFETY: a system call without pointers.
        let waited = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if waited != 0 {
            // nohz_full kernels refuse the global command; an update of an outer map waits for RCU as well.
            self.segments.synchronize();
        }
        self.counters.grace_periods += 1;
        for extent in self.quarantine.drain(..) {
            self.extents.free(extent);
        }
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

    /// Says that the executable has no rows at all: its code is walked by frame pointer.
    pub fn mark_without_rows(&mut self, descriptor: u32) {
        self.write(descriptor, &[0; DESCRIPTOR_WORDS as usize]);
    }

    /// Writes an executable's tables and fills its descriptor; `None` if the budget is used up.
    pub fn load_executable(&mut self, descriptor: u32, plan: &Plan) -> Result<Option<LoadedExecutable>, SamplerError> {
        let mut extents = Vec::new();
        let sizes: Vec<u32> =
            plan.chunk_words().chain([plan.rule_words().max(1), plan.page_table_words().max(1)]).collect();
        for words in sizes {
            match self.allocate(words)? {
                Some(extent) => extents.push(extent),
                None => {
                    for extent in extents {
                        self.free(extent);
                    }
                    return Ok(None);
                }
            }
        }
        for rule in plan.escapes() {
            self.escape(rule)?;
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
        self.write(descriptor, &body);
        self.segments.publish(descriptor, table);
        Ok(Some(LoadedExecutable { descriptor, extents }))
    }

    /// Takes an executable out of use; its words come back after a grace period.
    pub fn unload_executable(&mut self, executable: LoadedExecutable) {
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
        let Some(extent) = self.allocate(process_table_words(mappings.len()))? else { return Ok(None) };
        let mut words = Vec::new();
        encode_process_table(extent.address, mappings, &mut words);
        self.write(extent.address, &words);
        Ok(Some(LoadedProcess { root: extent.address, extent }))
    }

    /// Gives a process table back; call it after the hash no longer names it.
    pub fn unload_process(&mut self, process: LoadedProcess) {
        self.free(process.extent);
    }
}
