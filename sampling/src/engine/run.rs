//! [`Engine`]: its state, its beginning, and what it tells of itself. A round is in `rounds`, what it does with records in `follow` and
//! `settle`, the end in `finish`.

use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use aya::maps::{MapData, RingBuf};
use profiler_common::Counter;

use super::account::Moment;
use super::counters::EngineCounters;
use super::held::Held;
use super::hotplug::Looks;
use super::idle::IdleBefore;
use super::options::{EngineError, Options};
use super::order::{Order, Timed};
use super::run_time::RunTimeCode;
use super::settle::{Capture, Unfinished};
use super::tags::Tags;
use super::timers::{Timers, monotonic_ns};
use super::unwanted::Unwanted;
use crate::process::{ExecutableCounters, ExecutableIndex, Executables, ProcessCounters, Processes, Resolution};
use crate::sampler::features::Features;
use crate::sampler::filter_set::FilterSet;
use crate::sampler::hierarchy::CgroupHierarchy;
use crate::sampler::object::{Object, ObjectOptions, PodProcessEntry, RuleCaches, VerifiedInstructions};
use crate::sampler::perf_record::{Event, KernelSymbol, PerfRecord, StackCopy};
use crate::sampler::record::Record;
use crate::tables::{LocalSegment, Segments, TableCounters, Tables};
use profiles::ledger::Ledger;
use profiles::profile::{BatchBuilder, MappingIndex};

/// Changes of the rate that are remembered, for samples that wait meanwhile: the governor makes one every two seconds at most.
const MAX_PERIODS: usize = 32;

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
    pub(super) snapshots: HashMap<u32, Held>,
    pub(super) order: Order<Item>,
    pub(super) awaiting: HashMap<u32, Unfinished>,
    /// By CPU: thread, time and content of a copy that came before its record.
    pub(super) early_copies: HashMap<u32, (u32, u64, StackCopy)>,
    pub(super) waiting: VecDeque<Unfinished>,
    pub(super) waiting_bytes: usize,
    pub(super) dirty: HashSet<u32>,
    pub(super) builder: BatchBuilder,
    pub(super) executable_mappings: HashMap<ExecutableIndex, MappingIndex>,
    pub(super) run_time_code: RunTimeCode,
    pub(super) kernel_symbols: Vec<KernelSymbol>,
    pub(super) local: LocalSegment,
    pub(super) local_holds: Option<Arc<Vec<Resolution>>>,
    pub(super) generation: u32,
    /// CLOCK_MONOTONIC of the round that last told of an exec, ns.
    pub(super) new_program_ns: u64,
    pub(super) tags: Tags,
    pub(super) unwanted: Unwanted,
    pub(super) rule_caches: RuleCaches,
    pub(super) swept_ns: u64,
    pub(super) interval_started_ns: u64,
    pub(super) cut_before: Moment,
    pub(super) idle_before: IdleBefore,
    pub(super) looks: Looks,
    pub(super) period_ns: u64,
    /// Earlier periods and when each ended, ns, the latest first; at most [`MAX_PERIODS`].
    pub(super) periods_before: VecDeque<(u64, u64)>,
    pub(super) counters: EngineCounters,
    pub(super) captures: Vec<Capture>,
    pub(super) cgroups: Vec<(u64, Vec<u8>)>,
    pub(super) cgroup_hierarchy: Option<CgroupHierarchy>,
    pid_filter: FilterSet<u32>,
    cgroup_filter: FilterSet<u64>,
    /// Who wants to hear of processes when they are first sampled.
    pub(super) listener: Option<SyncSender<Sampled>>,
    /// Start time and program of the processes that the listener heard of.
    pub(super) announced: HashMap<u32, (u64, Arc<str>)>,
}

/// A process that was sampled for the first time, or for the first time with this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Its pid.
    pub pid: u32,
    /// When it was made, ns, as its [`Process`](crate::process::Process) has it.
    pub start_time_ns: u64,
    /// cgroup id, 0 if unknown.
    pub cgroup_id: u64,
}

impl Engine {
    /// Loads everything, opens side-band, reads the processes that are there. No sample is taken before [`Engine::start`].
    pub fn new(options: Options) -> Result<Engine, EngineError> {
        let features = Features::probe()?;
        let asked = match &options.cgroup_hierarchy {
            Some(one) if !features.can_tell(one) => return Err(EngineError::CgroupHierarchy(one.mount.clone())),
            Some(one) => vec![one.clone()],
            None => CgroupHierarchy::mounted(&options.proc_root),
        };
        let cgroup_hierarchy = asked.into_iter().find(|hierarchy| features.can_tell(hierarchy));
        let cpus = crate::sampler::cpus::online()?.len() as u32;
        let mut object = Object::load(
            &ObjectOptions {
                filter: options.filter,
                own_pid: if options.include_self { 0 } else { std::process::id() },
                copies_per_second: options.copies_per_second.max(options.frequency_hz.saturating_add(1)),
                ring_bytes: ring_bytes(options.frequency_hz, cpus),
                processes: options.processes,
                rule_cache: options.rule_cache,
                cgroup_controller: cgroup_hierarchy.as_ref().and_then(|hierarchy| hierarchy.controller),
            },
            &features,
        )?;
        let ring = object.take_ring()?;
        let processes_map = object.take_processes()?;
        let rule_caches = object.take_rule_caches()?;
        let tables = Tables::new(Segments::new(object.take_segments()?), options.unwind_bytes);
        let mut pid_filter = object.take_pid_filter()?;
        for pid in &options.pids {
            if !options.proc_root.join(pid.to_string()).exists() {
                return Err(EngineError::NoSuchProcess(*pid));
            }
            pid_filter.allow(*pid)?;
        }
        let mut cgroup_filter = object.take_cgroup_filter()?;
        for id in &options.cgroups {
            cgroup_filter.allow(*id)?;
        }
        object.attach_hooks()?;
        let period_ns = 1_000_000_000 / u64::from(options.frequency_hz.max(1));
        let timers = Timers::open(object.sample_program()?, period_ns, options.stack_bytes)?;
        let mut processes = Processes::new(&options.proc_root);
        processes.scan();
        let executables = Executables::new(&options.proc_root);
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
            run_time_code: RunTimeCode::default(),
            kernel_symbols: Vec::new(),
            local: LocalSegment::new(),
            local_holds: None,
            generation: 0,
            new_program_ns: 0,
            tags: Tags::default(),
            unwanted: Unwanted::default(),
            rule_caches,
            swept_ns: 0,
            interval_started_ns: 0,
            cut_before: Moment::default(),
            idle_before: IdleBefore::default(),
            looks: Looks::default(),
            period_ns,
            periods_before: VecDeque::new(),
            counters: EngineCounters::default(),
            captures: Vec::new(),
            cgroups: Vec::new(),
            cgroup_hierarchy,
            pid_filter,
            cgroup_filter,
            listener: None,
            announced: HashMap::new(),
        })
    }

    /// Starts the timers.
    pub fn start(&mut self) -> Result<(), EngineError> {
        self.interval_started_ns = monotonic_ns();
        self.restart_idle()?;
        Ok(self.timers.start()?)
    }

    /// Changes the rate from here on; samples keep the weight that they were taken with.
    pub fn set_frequency(&mut self, frequency_hz: u32) -> Result<(), EngineError> {
        let period_ns = 1_000_000_000 / u64::from(frequency_hz.max(1));
        if period_ns != self.period_ns {
            self.restart_idle()?;
            self.periods_before.push_front((self.period_ns, monotonic_ns()));
            self.periods_before.truncate(MAX_PERIODS);
            self.timers.set_period(period_ns)?;
            self.period_ns = period_ns;
        }
        Ok(())
    }

    /// What one hit at this time stands for, ns.
    pub(super) fn weight_ns(&self, time_ns: u64) -> u64 {
        let earlier = self.periods_before.iter().take_while(|(_, until)| time_ns < *until).last();
        earlier.map_or(self.period_ns, |(period, _)| *period)
    }

    /// Samples so far, with those that still wait for their tables.
    pub fn samples(&self) -> usize {
        self.counters.samples as usize + self.waiting.len()
    }

    /// Whether this interval holds as much as it may: from here on samples are dropped and counted, until the next cut.
    pub fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// Distinct processes sampled in this interval so far.
    pub fn sampled_processes(&self) -> usize {
        self.builder.processes()
    }

    /// Number of CPUs that are sampled.
    pub fn cpus(&self) -> usize {
        self.timers.len()
    }

    /// Number of CPUs that are online; those that are sampled if the kernel does not tell.
    pub fn online_cpus(&self) -> u32 {
        crate::sampler::cpus::online().map_or(self.timers.len(), |online| online.len()) as u32
    }

    /// The ledger since the start.
    pub fn ledger(&self) -> Result<Ledger, EngineError> {
        Ok(self.moment()?.since(&Moment::default()))
    }

    /// What the tables refused so far.
    pub fn table_counters(&self) -> &TableCounters {
        &self.tables.counters
    }

    /// What the process table left out so far.
    pub fn process_counters(&self) -> &ProcessCounters {
        &self.processes.counters
    }

    /// Bytes of BPF maps and perf rings.
    pub fn kernel_bytes(&self) -> u64 {
        self.object.map_bytes() + self.tables.bytes() + self.timers.ring_bytes()
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

    /// What executables could not be had so far.
    pub fn executable_counters(&self) -> &ExecutableCounters {
        &self.executables.counters
    }

    /// Tells `listener` of each process when it is first sampled, while it most likely still lives. A full channel is not waited
    /// for; the process is announced again with its next sample.
    pub fn announce_to(&mut self, listener: SyncSender<Sampled>) {
        self.listener = Some(listener);
    }

    /// The hierarchy that the samples' cgroup ids are of; `None` if none is mounted (ids are then of version 2).
    pub fn cgroup_hierarchy(&self) -> Option<&CgroupHierarchy> {
        self.cgroup_hierarchy.as_ref()
    }

    /// The pids that the kernel lets through or leaves out, with `filter::PIDS` or `filter::PIDS_DENIED`.
    pub fn pid_filter(&mut self) -> &mut FilterSet<u32> {
        &mut self.pid_filter
    }

    /// The cgroups that the kernel lets through or leaves out, with `filter::CGROUPS` or `filter::CGROUPS_DENIED`. Ids are of
    /// [`Engine::cgroup_hierarchy`].
    pub fn cgroup_filter(&mut self) -> &mut FilterSet<u64> {
        &mut self.cgroup_filter
    }

    /// A command that was started: its samples and its descendants' are wanted.
    pub fn follow(&mut self, pid: u32) {
        self.options.target.follow(pid);
        self.forget_unwanted(pid);
    }

    /// The programs' work for the verifier, by program.
    pub fn verified_instructions(&mut self) -> VerifiedInstructions {
        self.object.verified_instructions()
    }

    /// Timer hits by pid (with `filter::COUNT_PIDS`).
    pub fn hits_by_pid(&mut self) -> Result<Vec<(u32, u64)>, EngineError> {
        Ok(self.object.hits_by_pid()?)
    }
}

/// Room for two seconds of samples of 512 bytes, a power of two between 1 and 64 MiB.
fn ring_bytes(frequency_hz: u32, cpus: u32) -> u32 {
    let wanted = u64::from(frequency_hz) * u64::from(cpus) * 2 * 512;
    wanted.clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}
