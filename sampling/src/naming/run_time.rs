//! Code made at run time: named by the map that the run time wrote, if it wrote one.
//!
//! Maps only grow, and a large one takes its time to read: one is read again when it changed and a name was missing, and only
//! after a pause in proportion to what the last reading took.

use hashbrown::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use symbolizer::perf_map::locate::Place;
use symbolizer::perf_map::{PerfMap, PerfMapLimits};

use super::functions::Functions;
use crate::engine::{Code, Interval};
use profiles::profile::MappingIndex;

/// Largest `/tmp/perf-PID.map` that is read: a JVM's has a few MiB.
const MAX_PERF_MAP_BYTES: u64 = 64 << 20;
/// Most maps that are kept, each at most about 45 MB (the symbolizer's limits), usually one.
const MAX_MAPS: usize = 32;
/// The pause between two readings is this many times as long as the last one took: 1 % of a CPU at most.
const PAUSE: u32 = 100;

struct Known {
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
    intervals: u64,
}

impl RunTimeCode {
    pub(super) fn name(&mut self, interval: &mut Interval, functions: &mut Functions) {
        self.intervals += 1;
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

    fn map(&mut self, process: (u32, u64), place: &Place, addresses: &[u64]) -> Option<&PerfMap> {
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
                self.make_room(process);
                let known = Known { map, size: file.size, inode: file.inode, read_at, took, used: self.intervals };
                self.maps.insert(process, known);
            }
        }
        let known = self.maps.get_mut(&process)?;
        known.used = self.intervals;
        Some(&known.map)
    }

    fn make_room(&mut self, process: (u32, u64)) {
        if self.maps.len() >= MAX_MAPS
            && !self.maps.contains_key(&process)
            && let Some(oldest) = self.maps.iter().min_by_key(|(_, known)| known.used).map(|(process, _)| *process)
        {
            self.maps.remove(&oldest);
        }
    }
}
