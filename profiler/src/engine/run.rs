//! [`Engine`]: the loop's state and its steps. Drain, order, apply, publish, finish.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aya::maps::{MapData, RingBuf};
use profiler_common::{Counter, MAX_CACHE_TAG, ProcessEntry, filter};
use unwind::end::{End, provenance};

use super::copies::{CopiedFrames, walk_copy};
use super::counters::{EngineCounters, MAX_COSTS};
use super::order::{Order, Timed};
use super::target::Target;
use super::timers::{Timers, monotonic_ns};
use crate::ledger::{Drop, Ledger};
use crate::process::{Backing, ExecutableIndex, Executables, Mapping, Mappings, Processes, Published, RowState};
use crate::profile::{Batch, BatchBuilder, LocationIndex, LocationKind, Process as BatchProcess, Sample};
use crate::sampler::SamplerError;
use crate::sampler::features::Features;
use crate::sampler::object::{Object, ObjectOptions, PodProcessEntry};
use crate::sampler::perf_record::{self, Event, PerfRecord, StackCopy};
use crate::sampler::record::{self, Record};
use crate::tables::{AgentSlab, LocalSegment, Segments, TableMapping, Tables, encode_process_table};

/// Bytes of stack that perf core copies for a sample that the kernel could not finish: the most that a record holds, about
/// 6 µs each.
pub const DEFAULT_STACK_BYTES: u32 = 65_280;
/// Copies per CPU and second: at most 1.2 ms and 13 MB a second.
pub const DEFAULT_COPIES_PER_SECOND: u32 = 200;
/// Slab budget: 16 M rows, or 500 libraries of libc's size.
pub const DEFAULT_UNWIND_BYTES: u64 = 64 << 20;
/// Entries of the process hash: about 100 bytes of kernel memory each.
pub const DEFAULT_PROCESSES: u32 = 8192;
/// Most bytes of copied stacks that wait for their tables; the oldest are then finished with what is there.
const MAX_WAITING_COPY_BYTES: usize = 32 << 20;
/// How long the end of a recording waits for rows that are being built.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);
/// Ticks between two looks at which CPUs are online, and two sweeps of ended processes.
const SLOW_TICKS: u64 = 10;

/// What the engine is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples per CPU and second.
    pub frequency_hz: u32,
    /// Bits of [`profiler_common::filter`].
    pub filter: u32,
    /// Pids that the kernel lets through (with `filter::PIDS`).
    pub pids: Vec<u32>,
    /// cgroup ids that the kernel lets through (with `filter::CGROUPS`).
    pub cgroups: Vec<u64>,
    /// What the agent lets through.
    pub target: Target,
    /// Whether the profiler's own samples are kept.
    pub include_self: bool,
    /// Slab budget, bytes.
    pub unwind_bytes: u64,
    /// Stack bytes per copy.
    pub stack_bytes: u32,
    /// Copies per CPU and second.
    pub copies_per_second: u32,
    /// Entries of the process hash.
    pub processes: u32,
    /// Whether the rule cache is used.
    pub rule_cache: bool,
    /// Unwind every sample a second time in the agent and compare; needs `filter::COPY_ALL`.
    pub verify: bool,
    /// Where `/proc` is.
    pub proc_root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            frequency_hz: 99,
            filter: 0,
            pids: Vec::new(),
            cgroups: Vec::new(),
            target: Target::default(),
            include_self: false,
            unwind_bytes: DEFAULT_UNWIND_BYTES,
            stack_bytes: DEFAULT_STACK_BYTES,
            copies_per_second: DEFAULT_COPIES_PER_SECOND,
            processes: DEFAULT_PROCESSES,
            rule_cache: true,
            verify: false,
            proc_root: PathBuf::from("/proc"),
        }
    }
}

/// Why the engine could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Between us and the kernel.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A thread could not be started.
    #[error("cannot start the row builder's thread: {0}")]
    Thread(std::io::Error),
    /// A pid that was asked for does not exist.
    #[error("no process has pid {0}: nothing would be sampled")]
    NoSuchProcess(u32),
}

/// A finished recording: the batch, unnamed yet, and what names need.
pub struct Recording {
    /// Samples; locations have no lines yet.
    pub batch: Batch,
    /// Executables, whose files are still open.
    pub executables: Executables,
    /// Executable of each of the batch's mappings, where there is one.
    pub mapping_executables: Vec<Option<ExecutableIndex>>,
    /// Process of each of the batch's mappings that stands for code made at run time.
    pub jit_pids: HashMap<u32, u32>,
    /// What the engine saw.
    pub counters: EngineCounters,
    /// CPUs that were sampled.
    pub cpus: u32,
    /// Bytes of BPF maps and perf rings.
    pub kernel_bytes: u64,
    /// Kernel code that came or went while recording, in order.
    pub kernel_symbols: Vec<crate::sampler::perf_record::KernelSymbol>,
}

enum Item {
    Record(Record),
    Perf(PerfRecord),
}

impl Timed for Item {
    fn time_ns(&self) -> u64 {
        match self {
            Item::Record(record) => record.header.time_ns,
            Item::Perf(record) => record.time_ns,
        }
    }
    fn rank(&self) -> u8 {
        match self {
            Item::Perf(record) if !matches!(record.event, Event::Copy(_)) => 0,
            Item::Record(_) => 1,
            Item::Perf(_) => 2,
        }
    }
}

/// A mapping's executable and its bias.
#[derive(Clone, Copy, Debug)]
struct Resolved {
    executable: ExecutableIndex,
    bias: u64,
}

/// A process's mappings with their executables, at one version.
#[derive(Clone)]
struct Snapshot {
    mappings: Arc<Mappings>,
    resolved: Arc<Vec<Option<Resolved>>>,
}

impl Snapshot {
    /// What the very same mapping was resolved to.
    fn resolved_as(&self, mapping: &Mapping) -> Option<Resolved> {
        let (index, old) = self.mappings.find(mapping.start)?;
        if old == mapping { self.resolved.get(index).copied().flatten() } else { None }
    }
}

/// A sample that waits for its copy, or for the tables to walk it.
struct Unfinished {
    record: Record,
    snapshot: Snapshot,
    process: crate::profile::ProcessIndex,
    stale: bool,
    copy: Option<StackCopy>,
}

/// See the module documentation.
pub struct Engine {
    options: Options,
    object: Object,
    ring: RingBuf<MapData>,
    processes_map: aya::maps::HashMap<MapData, u32, PodProcessEntry>,
    timers: Timers,
    tables: Tables,
    executables: Executables,
    processes: Processes,
    snapshots: HashMap<u32, (u64, u64, Snapshot)>,
    order: Order<Item>,
    awaiting: HashMap<u32, Unfinished>,
    /// By CPU: thread, time and content of a copy that came before its record.
    early_copies: HashMap<u32, (u32, u64, StackCopy)>,
    waiting: VecDeque<Unfinished>,
    waiting_bytes: usize,
    dirty: HashSet<u32>,
    builder: BatchBuilder,
    mapping_executables: HashMap<u32, ExecutableIndex>,
    jit_pids: HashMap<u32, u32>,
    kernel_symbols: Vec<crate::sampler::perf_record::KernelSymbol>,
    local: LocalSegment,
    local_holds: Option<Arc<Mappings>>,
    generation: u32,
    tag: u32,
    ticks: u64,
    started_ns: u64,
    started_wall_ns: u64,
    started_idle: HashMap<u32, u64>,
    period_ns: u64,
    counters: EngineCounters,
}

impl Engine {
    /// Loads everything, opens side-band, reads the processes that are there. No sample is taken before [`Engine::start`].
    pub fn new(options: Options) -> Result<Engine, EngineError> {
        let features = Features::probe()?;
        let cpus = crate::sampler::cpus::online()?.len() as u32;
        let mut object = Object::load(
            &ObjectOptions {
                filter: options.filter,
                own_pid: if options.include_self { 0 } else { std::process::id() },
                copies_per_second: options.copies_per_second,
                ring_bytes: ring_bytes(options.frequency_hz, cpus),
                processes: options.processes,
                rule_cache: options.rule_cache,
            },
            &features,
        )?;
        let ring = object.take_ring()?;
        let processes_map = object.take_processes()?;
        let tables = Tables::new(Segments::new(object.take_segments()?), options.unwind_bytes);
        let map_error =
            |error: aya::maps::MapError| SamplerError::Load { what: "filter".into(), why: error.to_string() };
        if options.filter & filter::PIDS != 0 {
            let mut map = object.take_pid_filter()?;
            for pid in &options.pids {
                if !options.proc_root.join(pid.to_string()).exists() {
                    return Err(EngineError::NoSuchProcess(*pid));
                }
                map.insert(pid, 1, 0).map_err(map_error)?;
            }
        }
        if options.filter & filter::CGROUPS != 0 {
            let mut map = object.take_cgroup_filter()?;
            for id in &options.cgroups {
                map.insert(id, 1, 0).map_err(map_error)?;
            }
        }
        object.attach_hooks()?;
        let period_ns = 1_000_000_000 / u64::from(options.frequency_hz.max(1));
        let timers = Timers::open(object.sample_program()?, period_ns, options.stack_bytes)?;
        let mut processes = Processes::new(&options.proc_root);
        processes.scan();
        let executables = Executables::new().map_err(EngineError::Thread)?;
        Ok(Engine {
            options,
            object,
            ring,
            processes_map,
            timers,
            tables,
            executables,
            processes,
            snapshots: HashMap::new(),
            order: Order::new(),
            awaiting: HashMap::new(),
            early_copies: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dirty: HashSet::new(),
            builder: BatchBuilder::new(),
            mapping_executables: HashMap::new(),
            jit_pids: HashMap::new(),
            kernel_symbols: Vec::new(),
            local: LocalSegment::new(),
            local_holds: None,
            generation: 0,
            tag: 0,
            ticks: 0,
            started_ns: 0,
            started_wall_ns: 0,
            started_idle: HashMap::new(),
            period_ns,
            counters: EngineCounters::default(),
        })
    }

    /// Starts the timers.
    pub fn start(&mut self) -> Result<(), EngineError> {
        self.started_ns = monotonic_ns();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.started_wall_ns = since_epoch.as_nanos() as u64;
        self.started_idle = idle_by_cpu(&self.options.proc_root);
        Ok(self.timers.start()?)
    }

    /// One round: drain, apply in order, publish, finish. Call it about ten times a second.
    pub fn tick(&mut self) -> Result<(), EngineError> {
        self.ticks += 1;
        let began = monotonic_ns();
        self.drain();
        let items = self.order.release(began);
        self.handle(items)?;
        if self.ticks.is_multiple_of(SLOW_TICKS) {
            self.timers.follow_hotplug()?;
            self.processes.forget_ended(began);
            let processes = &self.processes;
            self.snapshots.retain(|pid, _| processes.get(*pid).is_some());
        }
        Ok(())
    }

    /// Samples so far, with those that still wait for their tables.
    pub fn samples(&self) -> usize {
        self.builder.samples() + self.waiting.len()
    }

    /// Distinct processes sampled so far.
    pub fn sampled_processes(&self) -> usize {
        self.builder.processes()
    }

    /// Number of CPUs that are sampled.
    pub fn cpus(&self) -> usize {
        self.timers.len()
    }

    /// Samples lost so far: records that found the ring full or could not be decoded.
    pub fn lost(&self) -> u64 {
        let counters = self.object.counters().unwrap_or_default();
        counters[Counter::RingFull as usize] + counters[Counter::NoScratch as usize] + self.counters.malformed_records
    }

    /// What the engine saw so far.
    pub fn counters(&self) -> &EngineCounters {
        &self.counters
    }

    /// A command that was started: its samples and its descendants' are wanted.
    pub fn follow(&mut self, pid: u32) {
        self.options.target.trees.insert(pid);
    }

    /// The programs' work for the verifier, by program.
    pub fn verified_instructions(&mut self) -> crate::sampler::object::VerifiedInstructions {
        self.object.verified_instructions()
    }

    /// Timer hits by pid (with `filter::COUNT_PIDS`).
    pub fn hits_by_pid(&mut self) -> Result<Vec<(u32, u64)>, EngineError> {
        Ok(self.object.hits_by_pid()?)
    }

    fn drain(&mut self) {
        while let Some(item) = self.ring.next() {
            match record::parse(&item) {
                Some(record) => self.order.push(Item::Record(record)),
                None => self.counters.malformed_records += 1,
            }
        }
        let (order, counters) = (&mut self.order, &mut self.counters);
        self.timers.drain(|bytes| match perf_record::parse(bytes) {
            Ok(Some(record)) => order.push(Item::Perf(record)),
            Ok(None) => {}
            Err(_) => counters.malformed_side_band += 1,
        });
        self.counters.late = self.order.late();
    }

    fn handle(&mut self, items: Vec<Item>) -> Result<(), EngineError> {
        for item in items {
            match item {
                Item::Record(record) => self.handle_record(record)?,
                Item::Perf(record) => self.handle_perf(record)?,
            }
        }
        let dirty: Vec<u32> = self.dirty.drain().collect();
        for pid in dirty {
            self.publish(pid)?;
        }
        self.executables.take_built(&mut self.tables)?;
        self.finish_waiting(false);
        Ok(())
    }

    fn handle_perf(&mut self, perf: PerfRecord) -> Result<(), EngineError> {
        match perf.event {
            Event::Copy(copy) => {
                let joined = self
                    .awaiting
                    .get(&perf.cpu)
                    .is_some_and(|waiting| self.belong_together(&waiting.record, perf.tid, perf.time_ns));
                if joined && let Some(mut unfinished) = self.awaiting.remove(&perf.cpu) {
                    unfinished.copy = Some(copy);
                    self.wait_for_tables(unfinished);
                } else {
                    self.early_copies.insert(perf.cpu, (perf.tid, perf.time_ns, copy));
                }
                return Ok(());
            }
            // A ring of copies loses copies, a side-band ring side-band; both only say how many.
            Event::Lost(count) => self.counters.side_band_lost += count,
            Event::Throttle => self.counters.throttled += 1,
            Event::KernelSymbol(symbol) => {
                self.kernel_symbols.push(symbol);
                return Ok(());
            }
            _ => {}
        }
        let before = self.processes.get(perf.pid).map(|process| process.version);
        if let Some(old) = self.processes.apply(&perf) {
            self.retire(perf.pid, old);
        }
        if let Event::Fork { parent_pid } = &perf.event {
            self.options.target.forked(*parent_pid, perf.pid);
        }
        if let Some(process) = self.processes.get(perf.pid)
            && process.sampled
            && process.ended_ns.is_none()
            && Some(process.version) != before
        {
            self.dirty.insert(perf.pid);
        }
        Ok(())
    }

    /// Takes a table out of the kernel's sight and gives its words back.
    fn retire(&mut self, pid: u32, old: Published) {
        // The exec and exit hooks were most likely faster: "not there" is the usual answer.
        let _ = self.processes_map.remove(&pid);
        if let Some(process) = self.processes.get_mut(pid) {
            process.stale_before = old.generation + 1;
        }
        self.tables.unload_process(old.loaded);
    }

    fn handle_record(&mut self, record: Record) -> Result<(), EngineError> {
        let pid = record.header.tgid;
        self.processes.ensure(pid);
        if !self.options.target.wants(&self.processes, pid, record.comm()) {
            self.counters.filtered += 1;
            return Ok(());
        }
        if self.counters.costs_ns.len() < MAX_COSTS {
            self.counters.costs_ns.push(record.header.cost_ns);
        }
        let mut stale = false;
        if let Some(process) = self.processes.get_mut(pid) {
            process.cgroup_id = record.header.cgroup_id;
            process.sampled = true;
            stale = record.header.generation != 0 && record.header.generation < process.stale_before;
            if process.published.is_none() && process.ended_ns.is_none() && record.end != End::NoUser {
                self.dirty.insert(pid);
            }
        }
        let snapshot = self.snapshot(pid);
        let process = self.batch_process(pid, &record);
        let mut unfinished = Unfinished { record, snapshot, process, stale, copy: None };
        if unfinished.record.copy_requested()
            && let Some((tid, time_ns, copy)) = self.early_copies.remove(&unfinished.record.header.cpu)
            && self.belong_together(&unfinished.record, tid, time_ns)
        {
            unfinished.copy = Some(copy);
            self.wait_for_tables(unfinished);
        } else if unfinished.record.copy_requested() {
            // The next record of that CPU came before its copy: the copy was lost.
            if let Some(earlier) = self.awaiting.insert(unfinished.record.header.cpu, unfinished) {
                self.counters.copies_lost += 1;
                self.wait_for_tables(earlier);
            }
        } else {
            self.finish_sample(unfinished);
        }
        Ok(())
    }

    /// Whether a copy is the one that a record asked for. perf takes its time before the program runs (since 6.2, where
    /// `bpf_overflow_handler` prepares the sample first) or after it; the next sample of the CPU is a period away.
    fn belong_together(&self, record: &Record, tid: u32, time_ns: u64) -> bool {
        record.header.tid == tid && record.header.time_ns.abs_diff(time_ns) < self.period_ns / 2
    }

    fn batch_process(&mut self, pid: u32, record: &Record) -> crate::profile::ProcessIndex {
        let known = self.processes.get(pid);
        let comm = known.map_or_else(|| String::from_utf8_lossy(record.comm()).into(), |process| process.comm.clone());
        let executable = known.map_or_else(|| "".into(), |process| process.executable.clone());
        let start_time_ns = known.map_or(0, |process| process.start_time_ns);
        let process = BatchProcess {
            pid,
            start_time_ns,
            comm: self.builder.text(&comm),
            executable: self.builder.text(&executable),
            cgroup_id: record.header.cgroup_id,
            cgroup: self.builder.text(""),
        };
        self.builder.process(process)
    }

    /// The process's mappings with their executables, opened while the process is still there to open them through.
    fn snapshot(&mut self, pid: u32) -> Snapshot {
        let Some(process) = self.processes.get(pid) else {
            return Snapshot { mappings: Arc::default(), resolved: Arc::default() };
        };
        let key = (process.start_time_ns, process.version);
        if let Some((start, version, snapshot)) = self.snapshots.get(&pid)
            && (*start, *version) == key
        {
            return snapshot.clone();
        }
        let mappings = process.mappings.clone();
        let forebears = self.processes.forebears(pid);
        // What was mapped before and still is was opened before: a JIT adds mappings many times a second.
        let before = self.snapshots.remove(&pid).filter(|(start, ..)| *start == key.0).map(|(.., snapshot)| snapshot);
        let resolved = mappings
            .iter()
            .map(|mapping| {
                let known = before.as_ref().and_then(|before| before.resolved_as(mapping));
                if known.is_some() {
                    return known;
                }
                let executable =
                    self.executables.resolve(self.processes.proc_root(), pid, &forebears, mapping)?;
                Some(Resolved { executable, bias: self.executables.bias(executable, mapping)? })
            })
            .collect();
        let snapshot = Snapshot { mappings, resolved: Arc::new(resolved) };
        self.snapshots.insert(pid, (key.0, key.1, snapshot.clone()));
        snapshot
    }

    fn table_mappings(&mut self, snapshot: &Snapshot) -> Result<Vec<TableMapping>, EngineError> {
        let mut all = Vec::with_capacity(snapshot.mappings.iter().len());
        for (mapping, resolved) in snapshot.mappings.iter().zip(snapshot.resolved.iter()) {
            let (descriptor, bias) = match resolved {
                Some(Resolved { executable, bias }) => {
                    (self.executables.descriptor(*executable, &mut self.tables)?, *bias)
                }
                None => (0, 0),
            };
            all.push(TableMapping { start: mapping.start, end: mapping.end, descriptor, bias });
        }
        Ok(all)
    }

    /// Gives the kernel a process's table: a new one is written, then one hash value swapped.
    fn publish(&mut self, pid: u32) -> Result<(), EngineError> {
        let snapshot = self.snapshot(pid);
        let Some(process) = self.processes.get(pid) else { return Ok(()) };
        let version = process.version;
        if process.ended_ns.is_some() || process.published.as_ref().is_some_and(|old| old.version == version) {
            return Ok(());
        }
        let mappings = self.table_mappings(&snapshot)?;
        let Some(loaded) = self.tables.load_process(&mappings)? else { return Ok(()) };
        self.generation = self.generation.wrapping_add(1).max(1);
        // A tag may come again only when no cache can hold the old one. Two grace periods and a cleared cache would allow it;
        // until then tags that ran out switch the cache off for new processes, which costs time and no truth.
        self.tag = self.tag.saturating_add(1).min(MAX_CACHE_TAG + 1);
        let tag = if self.tag > MAX_CACHE_TAG { 0 } else { self.tag };
        let entry = ProcessEntry { table: loaded.root, generation: self.generation, tag, reserved: 0 };
        if self.processes_map.insert(pid, PodProcessEntry(entry), 0).is_err() {
            self.tables.counters.refused += 1;
            self.tables.unload_process(loaded);
            return Ok(());
        }
        let published = Published { loaded, generation: self.generation, version };
        if let Some(process) = self.processes.get_mut(pid)
            && let Some(old) = process.published.replace(published)
        {
            self.tables.unload_process(old.loaded);
        }
        Ok(())
    }

    fn wait_for_tables(&mut self, unfinished: Unfinished) {
        self.waiting_bytes += unfinished.copy.as_ref().map_or(0, |copy| copy.stack.len());
        self.waiting.push_back(unfinished);
    }

    /// Whether some executable of the snapshot is still with the row builder.
    fn is_building(&self, snapshot: &Snapshot) -> bool {
        snapshot.resolved.iter().flatten().any(|resolved| {
            let rows = self.executables.get(resolved.executable).map(|executable| &executable.rows);
            matches!(rows, Some(RowState::Building | RowState::Unbuilt))
        })
    }

    /// Finishes the samples whose tables are there; all of them when `now`.
    fn finish_waiting(&mut self, now: bool) {
        let mut still = VecDeque::new();
        while let Some(unfinished) = self.waiting.pop_front() {
            let over = self.waiting_bytes > MAX_WAITING_COPY_BYTES;
            if unfinished.copy.is_some() {
                // Asks for the rows, should nobody have done so yet.
                let _ = self.table_mappings(&unfinished.snapshot);
                if !now && !over && self.is_building(&unfinished.snapshot) {
                    still.push_back(unfinished);
                    continue;
                }
            }
            self.waiting_bytes -= unfinished.copy.as_ref().map_or(0, |copy| copy.stack.len());
            self.finish_sample(unfinished);
        }
        self.waiting = still;
    }

    fn walk_unfinished(&mut self, snapshot: &Snapshot, copy: &StackCopy) -> CopiedFrames {
        let same = self.local_holds.as_ref().is_some_and(|held| Arc::ptr_eq(held, &snapshot.mappings));
        let mappings = if same { Vec::new() } else { self.table_mappings(snapshot).unwrap_or_default() };
        if !same {
            self.local.place(|base, words| encode_process_table(base, &mappings, words));
            self.local_holds = Some(snapshot.mappings.clone());
        }
        let slab = AgentSlab { segments: self.tables.segments(), local: &self.local };
        walk_copy(copy, &slab, LocalSegment::BASE)
    }

    fn finish_sample(&mut self, unfinished: Unfinished) {
        let Unfinished { record, snapshot, process, stale, copy } = unfinished;
        let mut user = record.user;
        let (mut end, mut ways) = (record.end, record.header.provenance);
        self.counters.kernel_walked_frames += user.len() as u64;
        self.counters.cache_hits += u64::from(record.header.cache_hits);
        let kernel_finished = !end.worth_a_copy();
        if let Some(copy) = copy {
            let again = self.walk_unfinished(&snapshot, &copy);
            if kernel_finished {
                self.verify(&user, end, &again);
            } else if better(&again, end, user.len()) {
                (user, end, ways) = (again.frames, again.end, again.provenance);
            }
            self.counters.finished_from_copy += u64::from(!kernel_finished);
        } else if !kernel_finished {
            self.counters.copy_missing += 1;
        }
        if kernel_finished && end != End::NoUser {
            self.counters.finished_in_kernel += 1;
        }
        if stale {
            self.counters.stale += 1;
            ways |= provenance::STALE;
        }
        let mut locations = Vec::with_capacity(record.kernel.len() + user.len());
        for (depth, address) in record.kernel.iter().enumerate() {
            // Return addresses point behind the call; only the leaf is exact.
            let inside = if depth == 0 { *address } else { address.wrapping_sub(1) };
            locations.push(self.builder.location(LocationKind::Kernel, None, inside));
        }
        for address in &user {
            locations.push(self.user_location(&snapshot, record.header.tgid, *address));
        }
        let Some(stack) = self.builder.stack(locations) else {
            self.counters.stacks_refused += 1;
            return;
        };
        let thread_name = String::from_utf8_lossy(record.header.comm.split(|byte| *byte == 0).next().unwrap_or(&[]));
        let sample = Sample {
            time_ns: record.header.time_ns,
            weight_ns: self.period_ns,
            process,
            tid: record.header.tid,
            thread_name: self.builder.text(&thread_name),
            cpu: record.header.cpu,
            stack,
            end,
            provenance: ways,
        };
        self.builder.push(sample);
    }

    fn verify(&mut self, user: &[u64], end: End, again: &CopiedFrames) {
        if !self.options.verify {
            return;
        }
        let cut = again.end == End::BadRead && end != End::BadRead && user.starts_with(&again.frames);
        if cut {
            self.counters.verified_cut += 1;
        } else if again.frames == user && again.end == end {
            self.counters.verified_same += 1;
        } else {
            self.counters.verified_different += 1;
        }
    }

    fn user_location(&mut self, snapshot: &Snapshot, pid: u32, address: u64) -> LocationIndex {
        let Some((index, mapping)) = snapshot.mappings.find(address) else {
            return self.builder.location(LocationKind::Unknown, None, address);
        };
        match snapshot.resolved.get(index).copied().flatten() {
            Some(Resolved { executable, bias }) => {
                self.executables.touch(executable, self.ticks);
                let (path, build_id) = match self.executables.get(executable) {
                    Some(executable) => (executable.path.clone(), executable.build_id.clone()),
                    None => ("".into(), String::new()),
                };
                let kind = if mapping.backing == Backing::Vdso { LocationKind::Vdso } else { LocationKind::Native };
                let at = self.builder.mapping(&path, &build_id);
                self.mapping_executables.insert(at.0, executable);
                self.builder.location(kind, Some(at), address.wrapping_sub(bias))
            }
            None if mapping.backing == Backing::Anonymous => {
                // By process: the same address is other code in the next one.
                let at = self.builder.mapping(&jit_mapping(pid), "");
                self.jit_pids.insert(at.0, pid);
                self.builder.location(LocationKind::Jit, Some(at), address)
            }
            None => {
                let at = self.builder.mapping(&mapping.path, "");
                let in_file = address.wrapping_sub(mapping.start).wrapping_add(mapping.file_offset);
                self.builder.location(LocationKind::Unknown, Some(at), in_file)
            }
        }
    }

    /// Stops the timers, reads what is left, waits a bounded time for rows, and hands everything over.
    pub fn finish(mut self) -> Result<Recording, EngineError> {
        self.timers.stop()?;
        let ended_ns = monotonic_ns();
        let due = self.timers.due()?;
        self.timers.stop_side_band()?;
        self.drain();
        let items = self.order.release_all();
        self.handle(items)?;
        let left: Vec<Unfinished> = self.awaiting.drain().map(|(_, unfinished)| unfinished).collect();
        for unfinished in left {
            self.counters.copies_lost += 1;
            self.wait_for_tables(unfinished);
        }
        let patience = Instant::now() + FINISH_PATIENCE;
        self.finish_waiting(false);
        while !self.waiting.is_empty() && self.executables.building() > 0 && Instant::now() < patience {
            self.executables.wait_built(&mut self.tables, Duration::from_millis(100))?;
            self.finish_waiting(false);
        }
        self.finish_waiting(true);

        let ledger = self.ledger(due)?;
        let mapping_executables = self.mapping_executables;
        let mut batch = self.builder.finish(self.period_ns, ledger);
        batch.wall_start_ns = self.started_wall_ns;
        batch.monotonic_start_ns = self.started_ns;
        batch.duration_ns = ended_ns.saturating_sub(self.started_ns);
        let mapping_executables =
            (0..batch.mappings.len() as u32).map(|index| mapping_executables.get(&index).copied()).collect();
        Ok(Recording {
            batch,
            executables: self.executables,
            mapping_executables,
            jit_pids: self.jit_pids,
            counters: self.counters,
            cpus: self.timers.len() as u32,
            kernel_bytes: self.tables.bytes() + self.timers.ring_bytes(),
            kernel_symbols: self.kernel_symbols,
        })
    }

    fn ledger(&self, due: u64) -> Result<Ledger, EngineError> {
        let counts = self.object.counters()?;
        let of = |counter: Counter| counts[counter as usize];
        let mut ledger = Ledger {
            due,
            recorded: self.builder.samples() as u64,
            idle: of(Counter::Idle),
            own: of(Counter::Own),
            filtered: of(Counter::Filtered) + self.counters.filtered,
            ..Ledger::default()
        };
        for (reason, count) in Drop::ALL.into_iter().zip(&mut ledger.dropped) {
            *count = match reason {
                Drop::RingFull => of(Counter::RingFull),
                Drop::NoScratch => of(Counter::NoScratch),
                Drop::QueueFull => self.counters.stacks_refused,
                Drop::Malformed => self.counters.malformed_records,
            };
        }
        ledger.idle_undelivered = self.idle_undelivered()?;
        ledger.balance();
        Ok(ledger)
    }

    /// Hits due on CPUs that slept and were never handed over: as many as the kernel's accounting of idle time allows.
    fn idle_undelivered(&self) -> Result<u64, EngineError> {
        let (hits, idle) = (self.object.counter_by_cpu(Counter::Hits)?, self.object.counter_by_cpu(Counter::Idle)?);
        let accounted = idle_by_cpu(&self.options.proc_root);
        let at = |counts: &[u64], cpu: u32| counts.get(cpu as usize).copied().unwrap_or(0);
        let mut sum = 0;
        for (cpu, due) in self.timers.due_by_cpu()? {
            let undelivered = due.saturating_sub(at(&hits, cpu));
            let slept_ns = accounted
                .get(&cpu)
                .zip(self.started_idle.get(&cpu))
                .map_or(0, |(now, before)| now.saturating_sub(*before));
            sum += undelivered.min((slept_ns / self.period_ns).saturating_sub(at(&idle, cpu)));
        }
        Ok(sum)
    }
}

/// Idle time of each CPU, ns, as `/proc/stat` accounts it (idle + iowait, proc(5)).
fn idle_by_cpu(proc_root: &std::path::Path) -> HashMap<u32, u64> {
    const TICK_NS: u64 = 10_000_000;
    let stat = std::fs::read_to_string(proc_root.join("stat")).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu: u32 = fields.next()?.parse().ok()?;
        let idle: u64 = fields.nth(3)?.parse().ok()?;
        let waiting: u64 = fields.next()?.parse().ok()?;
        Some((cpu, (idle + waiting) * TICK_NS))
    };
    stat.lines().filter_map(line).collect()
}

/// Whether a walk of the copy tells more than the kernel's record did.
fn better(again: &CopiedFrames, end: End, frames: usize) -> bool {
    again.end == End::Complete || again.frames.len() > frames || (again.frames.len() == frames && again.end != end)
}

/// The name of a process's code without a file.
fn jit_mapping(pid: u32) -> String {
    format!("[anon {pid}]")
}

/// Room for two seconds of samples of 512 bytes, a power of two between 1 and 64 MiB.
fn ring_bytes(frequency_hz: u32, cpus: u32) -> u32 {
    let wanted = u64::from(frequency_hz) * u64::from(cpus) * 2 * 512;
    wanted.clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}
