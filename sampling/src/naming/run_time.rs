//! Code made at run time: named by the map that the run time wrote, if it wrote one.
//!
//! Maps only grow, and a large one takes its time to read: one is read again when it changed and a name was missing, and only
//! after a pause in proportion to what the last reading took. All together keep within a budget: the one that was not used for
//! the longest time is dropped first.

use hashbrown::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use symbolizer::perf_map::locate::Place;
use symbolizer::perf_map::{PerfMap, PerfMapLimits};
use symbolizer::{Failure, Statistics};

use super::functions::Functions;
use crate::engine::{Code, Interval};
use profiles::profile::MappingIndex;

/// Largest `/tmp/perf-PID.map` that is read: a JVM's has a few MiB.
const MAX_PERF_MAP_BYTES: u64 = 64 << 20;
/// Bytes that all maps may take; one takes 40 MB at most (the symbolizer's limits).
const MAX_BYTES: usize = 64 << 20;
/// Most processes of which a map is known, usually one.
const MAX_MAPS: usize = 32;
/// The pause between two readings is this many times as long as the last one took: 1 % of a CPU at most.
const PAUSE: u32 = 100;

struct Known {
    /// Empty once it was dropped; what else is known keeps it from being read again too soon.
    map: PerfMap,
    size: u64,
    inode: u64,
    read_at: Instant,
    took: Duration,
    used: u64,
}

/// A process, where its map is, and the locations to be named by it.
type Wanted = ((u32, u64), Arc<Place>, Vec<usize>);

/// Perf maps by process: pid and start time.
#[derive(Default)]
pub(super) struct RunTimeCode {
    maps: HashMap<(u32, u64), Known>,
    uses: u64,
    dropped: u64,
    refused: u64,
}

impl RunTimeCode {
    pub(super) fn name(&mut self, interval: &mut Interval, functions: &mut Functions) {
        let Interval { batch, code, .. } = interval;
        let mut by_mapping: HashMap<MappingIndex, Wanted> = HashMap::new();
        for (number, location) in batch.locations.iter().enumerate() {
            let Some(mapping) = location.mapping else { continue };
            if let Some(Some(Code::RunTime { pid, start_time_ns, place: Some(place) })) = code.get(mapping.0 as usize) {
                let process = (*pid, *start_time_ns);
                by_mapping.entry(mapping).or_insert_with(|| (process, place.clone(), Vec::new())).2.push(number);
            }
        }
        let mut wanted: Vec<_> = by_mapping.into_iter().collect();
        wanted.sort_unstable_by_key(|(mapping, _)| *mapping);
        for (_, (process, place, locations)) in wanted {
            let addresses: Vec<u64> = locations.iter().map(|number| batch.locations[*number].address).collect();
            let Some(map) = self.map(process, &place, &addresses) else { continue };
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
    }

    fn map(&mut self, process: (u32, u64), place: &Place, addresses: &[u64]) -> Option<&PerfMap> {
        self.uses += 1;
        let fresh = self.maps.get(&process).is_some_and(|known| {
            let complete = addresses.iter().all(|address| known.map.lookup(*address).is_some());
            complete || known.read_at.elapsed() < known.took * PAUSE
        });
        if !fresh && let Ok(mut file) = place.open(MAX_PERF_MAP_BYTES) {
            let same =
                self.maps.get(&process).is_some_and(|known| (known.size, known.inode) == (file.size, file.inode));
            if !same {
                let read_at = Instant::now();
                let bytes = file.read().ok()?;
                let map = PerfMap::parse(&bytes, PerfMapLimits::default());
                let took = read_at.elapsed();
                self.refused += map.counts().refused;
                self.keep(
                    process,
                    Known { map, size: file.size, inode: file.inode, read_at, took, used: 0 },
                    MAX_BYTES,
                );
            }
        }
        let known = self.maps.get_mut(&process)?;
        known.used = self.uses;
        Some(&known.map)
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
        while self.maps.values().map(|known| known.map.memory()).sum::<usize>() > most {
            let others = self.maps.iter_mut().filter(|(other, known)| **other != process && known.map.memory() > 0);
            let Some((_, oldest)) = others.min_by_key(|(_, known)| known.used) else { return };
            (oldest.map, oldest.size) = (PerfMap::default(), 0);
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(used: u64) -> Known {
        let map = PerfMap::parse(b"1000 10 a name\n", PerfMapLimits::default());
        Known { map, size: 15, inode: 1, read_at: Instant::now(), took: Duration::ZERO, used }
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
        assert_eq!((with_names(&maps), maps.maps[&(2, 0)].size), (vec![1, 3, 4], 0), "2 is to be read again");
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
}
