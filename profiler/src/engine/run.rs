//! [`Engine`]: the loop's state, its beginning, one round, its end. What a round does with records is in `follow` and `settle`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aya::maps::{MapData, RingBuf};
use profiler_common::{Counter, filter};

use super::account::idle_by_cpu;
use super::counters::EngineCounters;
use super::follow::{Resolved, Snapshot};
use super::options::{EngineError, Options};
use super::order::{Order, Timed};
use super::settle::{Capture, Unfinished};
use super::tags::Tags;
use super::timers::{Timers, monotonic_ns, round};
use crate::process::{ExecutableIndex, Executables, ProcessCounters, Processes, mapping_of};
use crate::profile::{Batch, BatchBuilder, MappingIndex};
use crate::sampler::SamplerError;
use crate::sampler::features::Features;
use crate::sampler::object::{Object, ObjectOptions, PodProcessEntry, RuleCaches, VerifiedInstructions};
use crate::sampler::perf_record::{self, Event, KernelSymbol, PerfRecord, StackCopy};
use crate::sampler::record::{self, Record};
use crate::tables::{LocalSegment, Segments, TableCounters, Tables};

/// How long the end of a recording waits for rows that are being built.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);
/// Ticks between two looks at which CPUs are online, and two sweeps of ended processes.
const SLOW_TICKS: u64 = 10;

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
    /// What the tables refused.
    pub table_counters: TableCounters,
    /// What the process table left out.
    pub process_counters: ProcessCounters,
    /// Copies that were kept, as many as [`Options::keep_captures`] asked for.
    pub captures: Vec<Capture>,
    /// CPUs that were sampled.
    pub cpus: u32,
    /// Bytes of BPF maps and perf rings.
    pub kernel_bytes: u64,
    /// Kernel code that came or went while recording, in order.
    pub kernel_symbols: Vec<KernelSymbol>,
}

pub(super) enum Item {
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
/// See the module documentation.
pub struct Engine {
    pub(super) options: Options,
    pub(super) object: Object,
    pub(super) ring: RingBuf<MapData>,
    pub(super) processes_map: aya::maps::HashMap<MapData, u32, PodProcessEntry>,
    pub(super) timers: Timers,
    pub(super) tables: Tables,
    pub(super) executables: Executables,
    pub(super) processes: Processes,
    pub(super) snapshots: HashMap<u32, (u64, u64, Snapshot)>,
    pub(super) order: Order<Item>,
    pub(super) awaiting: HashMap<u32, Unfinished>,
    /// By CPU: thread, time and content of a copy that came before its record.
    pub(super) early_copies: HashMap<u32, (u32, u64, StackCopy)>,
    pub(super) waiting: VecDeque<Unfinished>,
    pub(super) waiting_bytes: usize,
    pub(super) dirty: HashSet<u32>,
    pub(super) builder: BatchBuilder,
    pub(super) executable_mappings: HashMap<ExecutableIndex, MappingIndex>,
    pub(super) jit_pids: HashMap<u32, u32>,
    pub(super) kernel_symbols: Vec<KernelSymbol>,
    pub(super) local: LocalSegment,
    pub(super) local_holds: Option<Arc<Vec<Option<Resolved>>>>,
    pub(super) generation: u32,
    pub(super) tags: Tags,
    pub(super) rule_caches: RuleCaches,
    pub(super) ticks: u64,
    pub(super) started_ns: u64,
    pub(super) started_wall_ns: u64,
    pub(super) started_idle: HashMap<u32, u64>,
    pub(super) period_ns: u64,
    pub(super) counters: EngineCounters,
    pub(super) captures: Vec<Capture>,
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
                copies_per_second: options.copies_per_second.max(options.frequency_hz.saturating_add(1)),
                ring_bytes: ring_bytes(options.frequency_hz, cpus),
                processes: options.processes,
                rule_cache: options.rule_cache,
            },
            &features,
        )?;
        let ring = object.take_ring()?;
        let processes_map = object.take_processes()?;
        let rule_caches = object.take_rule_caches()?;
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
            executable_mappings: HashMap::new(),
            jit_pids: HashMap::new(),
            kernel_symbols: Vec::new(),
            local: LocalSegment::new(),
            local_holds: None,
            generation: 0,
            tags: Tags::default(),
            rule_caches,
            ticks: 0,
            started_ns: 0,
            started_wall_ns: 0,
            started_idle: HashMap::new(),
            period_ns,
            counters: EngineCounters::default(),
            captures: Vec::new(),
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

    /// How long to wait between two calls of [`Engine::tick`]: 100 ms at 99 Hz, less at higher rates.
    pub fn round(&self) -> Duration {
        round(self.period_ns)
    }

    /// One round: drain, apply in order, publish, finish. Call it each [`Engine::round`].
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
        self.options.target.follow(pid);
    }

    /// The programs' work for the verifier, by program.
    pub fn verified_instructions(&mut self) -> VerifiedInstructions {
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
        let mut mapped = Vec::new();
        let (order, counters) = (&mut self.order, &mut self.counters);
        self.timers.drain(|bytes| match perf_record::parse(bytes) {
            Ok(Some(record)) => {
                if let Event::Mmap(mmap) = &record.event {
                    mapped.push((record.pid, mapping_of(mmap)));
                }
                order.push(Item::Perf(record));
            }
            Ok(None) => {}
            Err(_) => counters.malformed_side_band += 1,
        });
        self.counters.late = self.order.late();
        let now = monotonic_ns();
        let only_pids = self.options.filter & filter::PIDS != 0;
        for (pid, mapping) in mapped {
            if !only_pids || self.options.pids.contains(&pid) {
                self.executables.open_early(self.processes.proc_root(), pid, &mapping, now);
            }
        }
        self.executables.end_round(now);
    }
    /// Stops the timers, reads what is left, waits a bounded time for rows, and hands everything over.
    pub fn finish(mut self) -> Result<Recording, EngineError> {
        self.timers.stop()?;
        let ended_ns = monotonic_ns();
        // At once: what the kernel accounts as idle from here on is not ours to explain.
        let due = self.timers.due()?;
        let idle_undelivered = self.idle_undelivered()?;
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

        let ledger = self.ledger(due, idle_undelivered)?;
        let by_mapping: HashMap<u32, ExecutableIndex> =
            self.executable_mappings.iter().map(|(executable, mapping)| (mapping.0, *executable)).collect();
        let mut batch = self.builder.finish(self.period_ns, ledger);
        batch.wall_start_ns = self.started_wall_ns;
        batch.monotonic_start_ns = self.started_ns;
        batch.duration_ns = ended_ns.saturating_sub(self.started_ns);
        let mapping_executables =
            (0..batch.mappings.len() as u32).map(|index| by_mapping.get(&index).copied()).collect();
        Ok(Recording {
            batch,
            executables: self.executables,
            mapping_executables,
            jit_pids: self.jit_pids,
            counters: self.counters,
            captures: self.captures,
            table_counters: self.tables.counters,
            process_counters: self.processes.counters,
            cpus: self.timers.len() as u32,
            kernel_bytes: self.tables.bytes() + self.timers.ring_bytes(),
            kernel_symbols: self.kernel_symbols,
        })
    }
}

/// Room for two seconds of samples of 512 bytes, a power of two between 1 and 64 MiB.
fn ring_bytes(frequency_hz: u32, cpus: u32) -> u32 {
    let wanted = u64::from(frequency_hz) * u64::from(cpus) * 2 * 512;
    wanted.clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}
