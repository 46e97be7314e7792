//! Code made at run time: named by the map that the run time wrote, if it wrote one.
//!
//! Maps only grow, and a large one takes its time to read: one is read again when it changed and a name was missing, and only
//! after a pause in proportion to what the last reading took. What takes longer than anybody waits is kept when it comes: were it
//! thrown away, it would be read again and again. A map that was not read to its end gives no names: its later lines are the newer
//! code. All together keep within a budget: the one that was not used for the longest time is dropped first.

use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use symbolizer::perf_map::PerfMap;
use symbolizer::perf_map::locate::{Asked, Place, Reading, Version};
use symbolizer::{Failure, Statistics, Symbolizer};

use super::functions::Functions;
use crate::engine::{Code, Interval};
use profiles::profile::MappingIndex;

/// Largest `/tmp/perf-PID.map` that is read: a JVM's has a few MiB.
const MAX_PERF_MAP_BYTES: u64 = 64 << 20;
/// Bytes that all maps may take; one takes 40 MB at most (the symbolizer's limits).
const MAX_BYTES: usize = 64 << 20;
/// Most processes of which a map is known, usually one.
const MAX_MAPS: usize = 32;
/// Most late readings that are looked for: one that has come is outside the budget until the next interval takes it in.
const MAX_LATE: usize = 4;
/// The pause between two readings is this many times as long as the last one took: 1 % of a CPU at most.
const PAUSE: u32 = 100;
/// How long a late reading is looked for. One takes some seconds; by then its thread hangs, or waits behind one that does.
const LATE_FOR: Duration = Duration::from_secs(300);

struct Known {
    /// Empty once it was dropped; what else is known keeps it from being read again too soon.
    map: PerfMap,
    /// `None` once it was dropped: it is to be read again.
    version: Option<Version>,
    read_at: Instant,
    took: Duration,
    used: u64,
}

/// A reading that nobody waits for any more.
struct Late {
    reading: Receiver<Option<Reading>>,
    since: Instant,
}

/// A process, where its map is, and the locations to be named by it.
type Wanted = ((u32, u64), Arc<Place>, Vec<usize>);

/// Perf maps by process: pid and start time.
#[derive(Default)]
pub(super) struct RunTimeCode {
    maps: HashMap<(u32, u64), Known>,
    late: HashMap<(u32, u64), Late>,
    uses: u64,
    dropped: u64,
    refused: u64,
    out_of_time: u64,
    /// Times that names were missing since their map was still being read, or was lost on the way.
    not_told: u64,
}

impl RunTimeCode {
    pub(super) fn name(&mut self, interval: &mut Interval, symbolizer: &Symbolizer, functions: &mut Functions) {
        let Interval { batch, code, .. } = interval;
        let mut by_mapping: HashMap<MappingIndex, Wanted> = HashMap::new();
        for (number, location) in batch.locations.iter().enumerate() {
            let Some(mapping) = location.mapping else { continue };
            if let Some(Some(Code::RunTime { pid, start_time_ns, place: Some(place) })) = code.get(mapping.0 as usize) {
                let process = (*pid, *start_time_ns);
                by_mapping.entry(mapping).or_insert_with(|| (process, place.clone(), Vec::new())).2.push(number);
            }
        }
        self.take_late(Instant::now());
        let mut wanted: Vec<_> = by_mapping.into_iter().collect();
        wanted.sort_unstable_by_key(|(mapping, _)| *mapping);
        for (_, (process, place, locations)) in wanted {
            let addresses: Vec<u64> = locations.iter().map(|number| batch.locations[*number].address).collect();
            let read = |known| symbolizer.perf_map(&place, MAX_PERF_MAP_BYTES, known);
            let Some(map) = self.map(process, &addresses, read) else { continue };
            for (number, address) in locations.into_iter().zip(addresses) {
                if let Some(name) = map.lookup(address) {
                    let line = functions.line(batch, name);
                    batch.locations[number].lines = vec![line];
                }
            }
        }
    }

    /// Adds what names are missing for.
    pub(super) fn count_into(&self, statistics: &mut Statistics) {
        statistics.add(Failure::PerfMapDropped, self.dropped);
        statistics.add(Failure::PerfMapRefused, self.refused);
        statistics.add(Failure::PerfMapOutOfTime, self.out_of_time);
        statistics.add(Failure::Late, self.not_told);
    }

    /// Bytes that all maps take now.
    pub(super) fn bytes(&self) -> usize {
        self.maps.values().map(|known| known.map.memory()).sum()
    }

    /// The map of a process, read again if that is worth it; `read` tells none if it is still of the version that is known.
    fn map(
        &mut self,
        process: (u32, u64),
        addresses: &[u64],
        read: impl FnOnce(Option<Version>) -> Asked,
    ) -> Option<&PerfMap> {
        self.uses += 1;
        let known = self.maps.get(&process);
        let fresh = known.is_some_and(|known| {
            let complete = addresses.iter().all(|address| known.map.lookup(*address).is_some());
            complete || known.read_at.elapsed() < known.took * PAUSE
        });
        let version = known.and_then(|known| known.version);
        if !fresh {
            if self.late.contains_key(&process) {
                self.not_told += 1;
            } else {
                match read(version) {
                    Asked::Told(reading) => self.take(process, reading),
                    Asked::Late(reading) => self.look_for(process, reading),
                }
            }
        }
        let known = self.maps.get_mut(&process)?;
        known.used = self.uses;
        Some(&known.map)
    }

    /// Takes in what came of a reading.
    fn take(&mut self, process: (u32, u64), reading: Option<Reading>) {
        let Some(Reading { map, version, at: read_at, took }) = reading else { return };
        self.refused += map.counts().refused;
        self.out_of_time += map.counts().out_of_time;
        if map.counts().out_of_time == 0 {
            self.keep(process, Known { map, version: Some(version), read_at, took, used: self.uses }, MAX_BYTES);
        } else if let Some(known) = self.maps.get_mut(&process) {
            (known.read_at, known.took) = (read_at, took);
        } else {
            let map = PerfMap::default();
            self.keep(process, Known { map, version: None, read_at, took, used: self.uses }, MAX_BYTES);
        }
    }

    /// Takes in what has come late, also of processes that nobody asks for just now: it takes memory wherever it is.
    fn take_late(&mut self, now: Instant) {
        let mut come = Vec::new();
        self.late.retain(|process, late| match late.reading.try_recv() {
            Ok(reading) => {
                come.push((*process, reading));
                false
            }
            Err(TryRecvError::Empty) => now.saturating_duration_since(late.since) < LATE_FOR,
            Err(TryRecvError::Disconnected) => {
                self.not_told += 1;
                false
            }
        });
        for (process, reading) in come {
            self.take(process, reading);
        }
    }

    fn look_for(&mut self, process: (u32, u64), reading: Receiver<Option<Reading>>) {
        if self.late.len() >= MAX_LATE
            && let Some(oldest) = self.late.iter().min_by_key(|(_, late)| late.since).map(|(process, _)| *process)
        {
            self.late.remove(&oldest);
            self.dropped += 1;
        }
        self.late.insert(process, Late { reading, since: Instant::now() });
    }

    /// Takes a map in; others make way for it if all take more than `most` bytes.
    fn keep(&mut self, process: (u32, u64), known: Known, most: usize) {
        if self.maps.len() >= MAX_MAPS
            && !self.maps.contains_key(&process)
            && let Some(oldest) = self.maps.iter().min_by_key(|(_, known)| known.used).map(|(process, _)| *process)
        {
            self.maps.remove(&oldest);
            self.dropped += 1;
        }
        self.maps.insert(process, known);
        while self.bytes() > most {
            let others = self.maps.iter_mut().filter(|(other, known)| **other != process && known.map.memory() > 0);
            let Some((_, oldest)) = others.min_by_key(|(_, known)| known.used) else { return };
            (oldest.map, oldest.version) = (PerfMap::default(), None);
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use symbolizer::perf_map::PerfMapLimits;

    use super::*;

    const VERSION: Version = Version { size: 15, inode: 1 };

    fn known(used: u64) -> Known {
        let map = PerfMap::parse(b"1000 10 a name\n", PerfMapLimits::default());
        Known { map, version: Some(VERSION), read_at: Instant::now(), took: Duration::ZERO, used }
    }

    /// That took seconds.
    fn reading() -> Option<Reading> {
        let Known { map, read_at: at, .. } = known(0);
        Some(Reading { map, version: VERSION, at, took: Duration::from_secs(5) })
    }

    fn late(maps: &RunTimeCode) -> u64 {
        let mut statistics = Statistics { failures: vec![0; Failure::ALL.len()], ..Statistics::default() };
        maps.count_into(&mut statistics);
        statistics.failure(Failure::Late)
    }

    fn with_names(maps: &RunTimeCode) -> Vec<u32> {
        let named = maps.maps.iter().filter(|(_, known)| known.map.lookup(0x1000).is_some());
        let mut pids: Vec<u32> = named.map(|((pid, _), _)| *pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn all_maps_keep_within_one_budget_and_the_least_recently_used_goes_first() {
        let mut maps = RunTimeCode::default();
        let one = known(0).map.memory();
        for (pid, used) in [(1, 5), (2, 3), (3, 4)] {
            maps.keep((pid, 0), known(used), 3 * one);
        }
        assert_eq!(with_names(&maps), [1, 2, 3]);
        maps.keep((4, 0), known(0), 3 * one);
        assert_eq!((with_names(&maps), maps.maps[&(2, 0)].version), (vec![1, 3, 4], None), "2 is to be read again");
        maps.keep((5, 0), known(0), one - 1);
        assert_eq!(with_names(&maps), [5], "the one that was asked for stays in any case");
        let mut statistics = Statistics { failures: vec![0; Failure::ALL.len()], ..Statistics::default() };
        maps.count_into(&mut statistics);
        assert_eq!(statistics.failure(Failure::PerfMapDropped), 4);
    }

    #[test]
    fn no_more_processes_are_known_than_the_bound() {
        let mut maps = RunTimeCode::default();
        for pid in 0..=MAX_MAPS as u32 {
            maps.keep((pid, 0), known(u64::from(pid) + 1), usize::MAX);
        }
        assert_eq!((maps.maps.len(), maps.maps.contains_key(&(0, 0)), maps.dropped), (MAX_MAPS, false, 1));
    }

    #[test]
    fn a_map_that_comes_late_is_read_once_and_then_rests_like_any_other() {
        let mut maps = RunTimeCode::default();
        let (reply, receiver) = channel();
        assert!(maps.map((1, 0), &[0x1000], |_| Asked::Late(receiver)).is_none());
        let never = |_: Option<Version>| -> Asked { panic!("nobody is to be asked") };
        maps.take_late(Instant::now());
        assert!(maps.map((1, 0), &[0x1000], never).is_none());
        assert_eq!(late(&maps), 1);
        reply.send(reading()).unwrap();
        maps.take_late(Instant::now());
        for (address, name) in [(0x1000, Some("a name")), (0x2000, None)] {
            assert_eq!(maps.map((1, 0), &[address], never).unwrap().lookup(address), name);
        }
        assert_eq!((late(&maps), maps.late.len()), (1, 0));
    }

    #[test]
    fn what_was_known_serves_while_it_is_read_again() {
        let mut maps = RunTimeCode::default();
        maps.keep((1, 0), known(0), MAX_BYTES);
        let (_reply, receiver) = channel();
        let map = maps.map((1, 0), &[0x1000, 0x2000], |_| Asked::Late(receiver));
        assert_eq!(map.unwrap().lookup(0x1000), Some("a name"));
        let map = maps.map((1, 0), &[0x1000, 0x2000], |_| panic!("it is being read"));
        assert_eq!(map.unwrap().lookup(0x1000), Some("a name"));
    }

    #[test]
    fn a_late_map_that_does_not_come_is_asked_for_again() {
        let mut maps = RunTimeCode::default();
        for is_lost in [true, false] {
            let (reply, receiver) = channel();
            assert!(maps.map((1, 0), &[0x1000], |_| Asked::Late(receiver)).is_none());
            let _reply = (!is_lost).then_some(reply);
            let begun = maps.late[&(1, 0)].since;
            maps.take_late(begun);
            assert_eq!(maps.late.is_empty(), is_lost);
            maps.take_late(begun + LATE_FOR);
            assert!(maps.late.is_empty());
        }
        assert!(maps.map((1, 0), &[0x1000], |_| Asked::Told(reading())).is_some());
        assert_eq!(late(&maps), 1, "that it was lost");
    }

    #[test]
    fn no_more_late_maps_are_looked_for_than_the_bound() {
        let mut maps = RunTimeCode::default();
        let mut replies = Vec::new();
        for pid in 0..=MAX_LATE as u32 {
            let (reply, receiver) = channel();
            replies.push(reply);
            maps.look_for((pid, 0), receiver);
        }
        assert_eq!((maps.late.len(), maps.dropped), (MAX_LATE, 1));
    }

    #[test]
    fn a_map_that_was_not_read_to_its_end_gives_no_name_and_is_read_again_after_its_pause() {
        // The time is up before the first line that is looked at for it.
        let lines = "1000 10 of old code\n".repeat(10_000);
        let cut = || {
            let map = PerfMap::parse(lines.as_bytes(), PerfMapLimits { time: Duration::ZERO, ..Default::default() });
            assert!(map.counts().out_of_time > 0 && map.lookup(0x1000).is_some());
            let at = Instant::now();
            Asked::Told(Some(Reading { map, version: VERSION, at, took: Duration::from_secs(60) }))
        };
        let mut maps = RunTimeCode::default();
        maps.keep((1, 0), known(0), MAX_BYTES);
        for (pid, address, name, version) in
            [(1, 0x1000, Some("a name"), None), (1, 0x2000, None, Some(VERSION)), (2, 0x1000, None, None)]
        {
            let mut asked = None;
            let read = |known| {
                asked = known;
                cut()
            };
            assert_eq!(maps.map((pid, 0), &[address], read).unwrap().lookup(address), name, "{pid} {address:x}");
            assert_eq!(asked, version, "{pid} {address:x}");
            let rests = |_: Option<Version>| -> Asked { panic!("it rests") };
            assert_eq!(maps.map((pid, 0), &[address], rests).unwrap().lookup(address), name, "{pid} {address:x}");
        }
        assert!(maps.out_of_time > 0);
        let pause = maps.maps.get_mut(&(2, 0)).unwrap();
        pause.took = Duration::ZERO;
        assert!(maps.map((2, 0), &[0x1000], |_| Asked::Told(reading())).unwrap().lookup(0x1000).is_some());
    }

    #[test]
    fn what_can_t_be_read_again_serves_as_it_was() {
        let mut maps = RunTimeCode::default();
        maps.keep((1, 0), known(0), MAX_BYTES);
        let mut asked = Vec::new();
        for (address, name) in [(0x1000, Some("a name")), (0x2000, None)] {
            let read = |known| {
                asked.push(known);
                Asked::Told(None)
            };
            assert_eq!(maps.map((1, 0), &[address], read).unwrap().lookup(address), name);
        }
        assert_eq!(asked, [Some(VERSION)], "only where a name was missing");
        assert!(maps.map((2, 0), &[0x1000], |_| Asked::Told(None)).is_none(), "there is none");
    }
}
