//! Records in the order of time: what they change in the process table, and what the kernel must then be given.

use profiler_common::ProcessEntry;
use unwind::end::End;

use super::counters::MAX_COSTS;
use super::cut::{MAX_CGROUPS, MAX_KERNEL_SYMBOLS};
use super::held::Held;
use super::options::EngineError;
use super::run::{Engine, Item, Sampled};
use super::settle::{Owner, Unfinished};
use super::timers::monotonic_ns;
use crate::process::{ExecutableIndex, Finished, Published, Snapshot};
use crate::sampler::object::PodProcessEntry;
use crate::sampler::perf_record::{Event, PerfRecord, StackCopy};
use crate::sampler::record::Record;

/// What may pass between a program's end and perf's own look at the clock, ns.
const JOIN_SLACK_NS: u64 = 20_000;

impl Engine {
    pub(super) fn handle(&mut self, items: Vec<Item>) -> Result<(), EngineError> {
        for item in items {
            match item {
                Item::Record(record) => self.handle_record(record)?,
                Item::Perf(record) => self.handle_perf(record)?,
            }
        }
        self.take_finished()?;
        let dirty: Vec<u32> = self.dirty.drain().collect();
        for pid in dirty {
            self.publish(pid)?;
        }
        self.finish_waiting(false);
        Ok(())
    }

    /// Takes in what workers have done; processes that waited for it get new tables.
    pub(super) fn take_finished(&mut self) -> Result<(), EngineError> {
        let Finished { mut processes, regained } = self.executables.take_finished(&mut self.tables)?;
        processes.extend(self.users_of(&regained));
        for pid in &processes {
            self.processes.changed(*pid);
        }
        let read = self.processes.take_readings();
        for pid in &read {
            // It may have another name than the one for which it was left out: a record of that was lost.
            self.forget_unwanted(*pid);
        }
        for pid in processes.into_iter().chain(read) {
            if self.processes.get(pid).is_some_and(|process| process.sampled && process.ended_ns.is_none()) {
                self.dirty.insert(pid);
            }
        }
        Ok(())
    }

    /// Who has a table that names one of these executables: what the rule caches hold under its tag is not true any more.
    fn users_of(&self, executables: &[ExecutableIndex]) -> Vec<u32> {
        if executables.is_empty() {
            return Vec::new();
        }
        let names_one = |published: &Published| executables.iter().any(|one| published.executables.contains(one));
        let users = self.processes.iter().filter(|process| process.published.as_ref().is_some_and(names_one));
        users.map(|process| process.pid).collect()
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
            Event::Lost(count) => {
                self.counters.side_band_lost += count;
                self.processes.lost_records();
                return Ok(());
            }
            Event::Throttle => self.counters.throttled += 1,
            Event::KernelSymbol(symbol) => {
                if self.kernel_symbols.len() < MAX_KERNEL_SYMBOLS {
                    self.kernel_symbols.push(symbol);
                } else {
                    self.counters.kernel_symbols_dropped += 1;
                }
                return Ok(());
            }
            Event::Cgroup { id, path } => {
                // Another hierarchy's ids say nothing about ours.
                if !self.cgroup_hierarchy.as_ref().is_none_or(|hierarchy| hierarchy.has_perf_records) {
                    return Ok(());
                }
                if self.cgroups.len() < MAX_CGROUPS {
                    self.cgroups.push((id, path));
                } else {
                    self.counters.cgroups_dropped += 1;
                }
                return Ok(());
            }
            _ => {}
        }
        self.reconsider_unwanted(&perf);
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
        let process = self.processes.ensure(pid);
        if let Some(process) = process.filter(|_| record.header.tid == pid) {
            process.take_name(record.comm());
        }
        if !self.options.target.wants(&self.processes, pid, record.comm()) {
            self.counters.filtered += 1;
            self.mark_unwanted(pid, record.header.time_ns);
            return Ok(());
        }
        self.forget_unwanted(pid);
        self.counters.program_ns += u64::from(record.header.cost_ns);
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
        // Its view of the process may be older than code that took other code's place.
        let displacements = self.processes.get(pid).map(|process| process.displacements);
        stale |= self.snapshots.get(&pid).map(|held| held.displacements) != displacements;
        let owner = self.owner(pid, &record);
        self.announce(&owner);
        let mut unfinished = Unfinished { record, snapshot, owner, stale, copy: None };
        if unfinished.record.copy_requested() {
            unfinished.copy = self.take_early_copy(&unfinished.record);
        }
        if unfinished.copy.is_some() {
            self.wait_for_tables(unfinished);
        } else if unfinished.record.copy_requested() {
            // The next record of that CPU came before its copy: the copy was lost.
            if let Some(earlier) = self.awaiting.insert(unfinished.record.header.cpu, unfinished) {
                self.counters.copies_lost += 1;
                self.wait_for_tables(earlier);
            }
        } else if unfinished.snapshot.is_pending && !unfinished.record.user.is_empty() {
            self.wait_for_tables(unfinished);
        } else {
            self.finish_sample(unfinished);
        }
        Ok(())
    }

    /// The copy of this record, if it came before it. An older one of the CPU belongs to nobody; a younger one has yet to be asked for.
    fn take_early_copy(&mut self, record: &Record) -> Option<StackCopy> {
        let (tid, time_ns, copy) = self.early_copies.remove(&record.header.cpu)?;
        if self.belong_together(record, tid, time_ns) {
            return Some(copy);
        }
        if time_ns > record.header.time_ns {
            self.early_copies.insert(record.header.cpu, (tid, time_ns, copy));
        } else {
            self.counters.copies_unclaimed += 1;
        }
        None
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

    fn announce(&mut self, owner: &Owner) {
        let Some(listener) = &self.listener else { return };
        let known = self.announced.get(&owner.pid);
        if known.is_some_and(|(start, program)| *start == owner.start_time_ns && *program == owner.executable) {
            return;
        }
        let sampled = Sampled { pid: owner.pid, start_time_ns: owner.start_time_ns, cgroup_id: owner.cgroup_id };
        match listener.try_send(sampled) {
            Ok(()) => {
                self.announced.insert(owner.pid, (owner.start_time_ns, owner.executable.clone()));
            }
            Err(_) => self.counters.announcements_deferred += 1,
        }
    }

    fn owner(&self, pid: u32, record: &Record) -> Owner {
        let known = self.processes.get(pid);
        Owner {
            pid,
            start_time_ns: known.map_or(0, |process| process.start_time_ns),
            comm: known.map_or_else(|| String::from_utf8_lossy(record.comm()).into(), |process| process.comm.clone()),
            executable: known.map_or_else(|| "".into(), |process| process.executable.clone()),
            cgroup_id: record.header.cgroup_id,
        }
    }

    /// The process's mappings with their executables, opened while the process is still there to open them through.
    pub(super) fn snapshot(&mut self, pid: u32) -> Snapshot {
        let Some(process) = self.processes.get(pid) else { return Snapshot::default() };
        let now_ns = monotonic_ns();
        let before = self.snapshots.remove(&pid).filter(|held| held.is_of(process));
        if let Some(held) = before.as_ref().filter(|held| held.version == process.version || held.must_do(now_ns)) {
            self.counters.republish_deferred += u64::from(held.version != process.version);
            let snapshot = held.snapshot.clone();
            self.snapshots.extend(before.map(|held| (pid, held)));
            return snapshot;
        }
        let before = before.map(|held| held.snapshot);
        let snapshot = Snapshot::take(&self.processes, &mut self.executables, pid, before.as_ref()).unwrap_or_default();
        self.snapshots.insert(pid, Held::new(process, snapshot.clone(), monotonic_ns()));
        snapshot
    }

    /// Gives the kernel a process's table: a new one is written, then one hash value swapped.
    pub(super) fn publish(&mut self, pid: u32) -> Result<(), EngineError> {
        let snapshot = self.snapshot(pid);
        let Some(process) = self.processes.get(pid) else { return Ok(()) };
        let version = process.version;
        let is_published = process.published.as_ref().is_some_and(|old| old.version == version);
        if process.ended_ns.is_some() || process.awaits_maps() || is_published {
            return Ok(());
        }
        if self.snapshots.get(&pid).is_none_or(|held| held.version != version) {
            self.dirty.insert(pid);
            return Ok(());
        }
        let mappings = snapshot.table(&mut self.executables, &mut self.tables)?;
        let Some(loaded) = self.tables.load_process(&mappings)? else { return Ok(()) };
        self.generation = self.generation.wrapping_add(1).max(1);
        let (tables, caches) = (&mut self.tables, &mut self.rule_caches);
        let tag = self.tags.take(|| tables.wait_for_programs() && caches.clear());
        let entry = ProcessEntry { table: loaded.root, generation: self.generation, tag, tgid: pid };
        if self.processes_map.insert(pid, PodProcessEntry(entry), 0).is_err() {
            self.tables.counters.refused += 1;
            self.tags.retire(tag);
            self.tables.unload_process(loaded);
            return Ok(());
        }
        let time_ns = monotonic_ns();
        let executables = snapshot.executables().collect();
        let published = Published { loaded, generation: self.generation, tag, version, time_ns, executables };
        if let Some(process) = self.processes.get_mut(pid)
            && let Some(old) = process.published.replace(published)
        {
            self.tags.retire(old.tag);
            self.tables.unload_process(old.loaded);
        }
        Ok(())
    }
}
