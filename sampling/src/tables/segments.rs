//! The slab's memory: BPF arrays of one 4 MiB value each, mapped into the agent, published in an array of maps.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{Array, ArrayOfMaps, MapData};
use unwind::slab::{MAX_SEGMENTS, SEGMENT_SHIFT, SEGMENT_WORDS, Segment, Slab};

use crate::sampler::SamplerError;
use crate::sampler::object::{PodSegment, create_segment, segment_fd};

/// Number of the segment that exists in the agent only: process tables of processes that are gone.
pub const LOCAL_SEGMENT: u32 = MAX_SEGMENTS - 1;

/// Memory of a segment; the agent writes it, the kernel reads it.
struct Mapped {
    words: *mut u32,
    /// Keeps the map, and with it the memory, alive; `None` for memory of our own.
    map: Option<Array<MapData, PodSegment>>,
}

// SAFETY: the pointer is to shared memory that lives as long as the map; one thread writes it.
unsafe impl Send for Mapped {}

/// All segments of the slab.
pub struct Segments {
    outer: Option<ArrayOfMaps<MapData, Array<MapData, PodSegment>>>,
    mapped: Vec<Mapped>,
    barrier: fn() -> bool,
}

/// Waits for an RCU grace period: `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu` in the kernel (≥ 4.3), and programs run under RCU.
/// False where it is refused.
fn membarrier() -> bool {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: a system call without pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 }
}

impl Segments {
    /// No segment yet.
    pub fn new(outer: ArrayOfMaps<MapData, Array<MapData, PodSegment>>) -> Segments {
        Segments { outer: Some(outer), mapped: Vec::new(), barrier: membarrier }
    }

    /// Segments that no kernel reads.
    #[cfg(test)]
    pub(crate) fn unpublished() -> Segments {
        Segments { outer: None, mapped: Vec::new(), barrier: membarrier }
    }

    /// The same, where `barrier` stands for the system call.
    #[cfg(test)]
    pub(crate) fn with_barrier(barrier: fn() -> bool) -> Segments {
        Segments { barrier, ..Segments::unpublished() }
    }

    pub(super) fn len(&self) -> usize {
        self.mapped.len()
    }

    /// Makes, maps and publishes one more segment. Publishing waits for an RCU grace period (5–17 ms measured).
    pub(super) fn add(&mut self) -> Result<(), SamplerError> {
        let map = self.outer.is_some().then(create_segment).transpose()?;
        let bytes = SEGMENT_WORDS * 4;
        let (flags, descriptor) = match &map {
            Some(map) => (libc::MAP_SHARED, segment_fd(map)),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a fresh mapping of our own map's memory, or of memory of our own.
        let words = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, 0)
        };
        if words == libc::MAP_FAILED {
            return Err(SamplerError::Map { what: "a slab segment", bytes, source: io::Error::last_os_error() });
        }
        let mapped = Mapped { words: words.cast(), map };
        if let (Some(outer), Some(map)) = (&mut self.outer, &mapped.map) {
            outer
                .set(self.mapped.len() as u32, map, 0)
                .map_err(|error| SamplerError::Load { what: "slab segment".into(), why: error.to_string() })?;
        }
        self.mapped.push(mapped);
        Ok(())
    }

    /// Waits until every program that began before has ended; false if nothing that waits for that could be done.
    pub(super) fn synchronize(&mut self) -> bool {
        // nohz_full kernels refuse the global command; an update of an outer map waits as well (kernel/bpf/syscall.c,
        // maybe_wait_bpf_programs). It puts in the same value again.
        (self.barrier)()
            || match (&mut self.outer, self.mapped.first().and_then(|first| first.map.as_ref())) {
                (Some(outer), Some(first)) => outer.set(0, first, 0).is_ok(),
                _ => false,
            }
    }

    /// Words that no program reads yet, since nothing points at them.
    pub(super) fn write(&mut self, address: u32, words: &[u32]) {
        let at = address as usize & (SEGMENT_WORDS - 1);
        let Some(segment) = self.mapped.get((address >> SEGMENT_SHIFT) as usize) else { return };
        if at + words.len() > SEGMENT_WORDS {
            return;
        }
        // SAFETY: in bounds of the mapping, checked above; ours alone to write.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), segment.words.add(at), words.len()) };
    }

    /// Words that programs may be reading: one store for each, in order.
    pub(super) fn rewrite(&mut self, address: u32, words: &[u32]) {
        for (address, word) in (address..).zip(words) {
            self.publish(address, *word);
        }
    }

    /// One store that programs may see at any moment, after everything written before.
    pub(super) fn publish(&mut self, address: u32, word: u32) {
        let at = address as usize & (SEGMENT_WORDS - 1);
        let Some(segment) = self.mapped.get((address >> SEGMENT_SHIFT) as usize) else { return };
        // SAFETY: in bounds by the mask; an aligned word of the mapping.
        unsafe { &*segment.words.add(at).cast::<AtomicU32>() }.store(word, Ordering::Release);
    }
}

impl std::ops::Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `add`, not used afterwards.
        unsafe { libc::munmap(self.words.cast(), SEGMENT_WORDS * 4) };
    }
}

impl Slab for Segments {
    fn segment(&self, index: u32) -> Option<&Segment> {
        let mapped = self.mapped.get(index as usize)?;
        // SAFETY: the mapping is SEGMENT_WORDS words long and lives as long as `self`; only `&mut self` writes it.
        Some(unsafe { &*mapped.words.cast::<Segment>() })
    }
}

/// A segment's worth of the agent's own memory.
pub struct LocalSegment(Box<Segment>);

impl LocalSegment {
    /// Word address of what was placed.
    pub const BASE: u32 = LOCAL_SEGMENT << SEGMENT_SHIFT;

    /// Zeroed; 4 MiB of address space, of which only touched pages count.
    pub fn new() -> LocalSegment {
        let words = vec![0u32; SEGMENT_WORDS].into_boxed_slice();
        // SANITY: the boxed slice was made with SEGMENT_WORDS elements just above.
        #[expect(clippy::expect_used, reason = "the length is a constant")]
        LocalSegment(words.try_into().expect("a slice of SEGMENT_WORDS words"))
    }

    /// Puts a table at the segment's start, [`LocalSegment::BASE`].
    pub fn place(&mut self, encode: impl FnOnce(u32, &mut Vec<u32>)) {
        let mut words = Vec::new();
        encode(Self::BASE, &mut words);
        let count = words.len().min(SEGMENT_WORDS);
        self.0[..count].copy_from_slice(&words[..count]);
    }
}

impl Default for LocalSegment {
    fn default() -> Self {
        Self::new()
    }
}

/// The kernel's words, and a local segment beside them.
pub struct AgentSlab<'a> {
    /// What the kernel reads.
    pub segments: &'a Segments,
    /// What only the agent reads.
    pub local: &'a LocalSegment,
}

impl Slab for AgentSlab<'_> {
    fn segment(&self, index: u32) -> Option<&Segment> {
        if index == LOCAL_SEGMENT { Some(&self.local.0) } else { self.segments.segment(index) }
    }
}
