//! Records in the order of time: what they change in the process table, and what the kernel must then be given.

use std::sync::Arc;

use profiler_common::ProcessEntry;
use unwind::end::End;

use super::counters::MAX_COSTS;
use super::options::EngineError;
use super::run::{Engine, Item};
use super::settle::Unfinished;
use super::timers::monotonic_ns;
use crate::process::{ExecutableIndex, Mapping, Mappings, Published};
use crate::profile::{Process as BatchProcess, ProcessIndex};
use crate::sampler::object::PodProcessEntry;
use crate::sampler::perf_record::{Event, PerfRecord};
use crate::sampler::record::Record;
use crate::tables::TableMapping;

/// What may pass between a program's end and perf's own look at the clock, ns.
const JOIN_SLACK_NS: u64 = 20_000;

/// A mapping's executable and its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    pub(super) executable: ExecutableIndex,
    pub(super) bias: u64,
}

/// A process's mappings with their executables, at one version.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) mappings: Arc<Mappings>,
    pub(super) resolved: Arc<Vec<Option<Resolved>>>,
}

impl Snapshot {
    /// What the very same mapping was resolved to.
    pub(super) fn resolved_as(&self, mapping: &Mapping) -> Option<Resolved> {
        let (index, old) = self.mappings.find(mapping.start)?;
        if old == mapping { self.resolved.get(index).copied().flatten() } else { None }
    }
}

impl Engine {
    pub(super) fn handle(&mut self, items: Vec<Item>) -> Result<(), EngineError> {
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

    pub(super) fn handle_perf(&mut self, perf: PerfRecord) -> Result<(), EngineError> {
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
                    let early = self.early_copies.insert(perf.cpu, (perf.tid, perf.time_ns, copy));
                    // Its record was filtered, or never came.
                    self.counters.copies_unclaimed += u64::from(early.is_some());
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
    pub(super) fn retire(&mut self, pid: u32, old: Published) {
        // The exec and exit hooks were most likely faster: "not there" is the usual answer.
        let _ = self.processes_map.remove(&pid);
        if let Some(process) = self.processes.get_mut(pid) {
            process.stale_before = old.generation + 1;
        }
        self.tags.retire(old.tag);
        self.tables.unload_process(old.loaded);
    }

    pub(super) fn handle_record(&mut self, record: Record) -> Result<(), EngineError> {
        let pid = record.header.tgid;
        self.processes.ensure(pid);
        if !self.options.target.wants(&self.processes, pid, record.comm()) {
            self.counters.filtered += 1;
            return Ok(());
        }
        if self.counters.costs_ns.len() < MAX_COSTS {
            self.counters.costs_ns.push(record.header.cost_ns);
        }
        self.notice_removed_table(&record);
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

    /// The hooks may remove an entry that we made just before they ran (an exec that was preempted half-way): a sample that
    /// found none, after we published one, tells.
    fn notice_removed_table(&mut self, record: &Record) {
        let header = &record.header;
        if record.end != End::NoProcess || header.generation != 0 {
            return;
        }
        let removed = self
            .processes
            .get_mut(header.tgid)
            .and_then(|process| process.published.take_if(|published| published.time_ns < header.time_ns));
        if let Some(published) = removed {
            self.retire(header.tgid, published);
        }
    }

    /// Whether a copy is the one that a record asked for. perf takes its time before the program runs (since 6.2, where
    /// `bpf_overflow_handler` prepares the sample first) or after it; the next sample of the CPU is a period away.
    pub(super) fn belong_together(&self, record: &Record, tid: u32, time_ns: u64) -> bool {
        let window = (self.period_ns / 2).max(u64::from(record.header.cost_ns) + JOIN_SLACK_NS);
        record.header.tid == tid && record.header.time_ns.abs_diff(time_ns) < window
    }

    pub(super) fn batch_process(&mut self, pid: u32, record: &Record) -> ProcessIndex {
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
    pub(super) fn snapshot(&mut self, pid: u32) -> Snapshot {
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
                let executable = self.executables.resolve(self.processes.proc_root(), pid, &forebears, mapping)?;
                Some(Resolved { executable, bias: self.executables.bias(executable, mapping)? })
            })
            .collect();
        let snapshot = Snapshot { mappings, resolved: Arc::new(resolved) };
        self.snapshots.insert(pid, (key.0, key.1, snapshot.clone()));
        snapshot
    }

    pub(super) fn table_mappings(&mut self, snapshot: &Snapshot) -> Result<Vec<TableMapping>, EngineError> {
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
    pub(super) fn publish(&mut self, pid: u32) -> Result<(), EngineError> {
        let snapshot = self.snapshot(pid);
        let Some(process) = self.processes.get(pid) else { return Ok(()) };
        let version = process.version;
        if process.ended_ns.is_some() || process.published.as_ref().is_some_and(|old| old.version == version) {
            return Ok(());
        }
        let mappings = self.table_mappings(&snapshot)?;
        let Some(loaded) = self.tables.load_process(&mappings)? else { return Ok(()) };
        self.generation = self.generation.wrapping_add(1).max(1);
        let (tables, caches) = (&mut self.tables, &mut self.rule_caches);
        let tag = self.tags.take(|| {
            tables.wait_for_programs();
            caches.clear()
        });
        let entry = ProcessEntry { table: loaded.root, generation: self.generation, tag, tgid: pid };
        if self.processes_map.insert(pid, PodProcessEntry(entry), 0).is_err() {
            self.tables.counters.refused += 1;
            self.tags.retire(tag);
            self.tables.unload_process(loaded);
            return Ok(());
        }
        let time_ns = monotonic_ns();
        let published = Published { loaded, generation: self.generation, tag, version, time_ns };
        if let Some(process) = self.processes.get_mut(pid)
            && let Some(old) = process.published.replace(published)
        {
            self.tags.retire(old.tag);
            self.tables.unload_process(old.loaded);
        }
        Ok(())
    }
}
