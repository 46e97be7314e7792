//! How much of the kernel's memory the object's maps take, as far as their sizes tell. The slab's segments are made later, and
//! are `tables`' own.
//!
//! The kernel's own figure (`memlock` in fdinfo) counts no ring before 6.4.

use aya::Ebpf;
use aya::maps::{Map, MapInfo, MapType};

/// A node of a hash beside its key and value, and a bucket's head (kernel/bpf/hashtab.c).
const HASH_NODE: u64 = 48;
const HASH_BUCKET: u64 = 16;
/// Pages of a ring beside its data: the consumer's, the producer's and the kernel's own.
const RING_PAGES: u64 = 3 * 4096;

/// Bytes of all maps of an object that has just been loaded.
pub(super) fn bytes(object: &Ebpf) -> u64 {
    let cpus = aya::util::nr_cpus().unwrap_or(1) as u64;
    let of = |map: &Map| {
        let info = info(map)?;
        Some(estimate(info.map_type().ok()?, info.key_size(), info.value_size(), info.max_entries(), cpus))
    };
    object.maps().filter_map(|(_, map)| of(map)).sum()
}

/// `None` for kinds that the object has not.
fn info(map: &Map) -> Option<MapInfo> {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => data.info().ok(),
        _ => None,
    }
}

fn estimate(kind: MapType, key: u32, value: u32, entries: u32, cpus: u64) -> u64 {
    let words = |bytes: u32| u64::from(bytes).next_multiple_of(8);
    let entries = u64::from(entries);
    match kind {
        MapType::RingBuf => entries + RING_PAGES,
        MapType::PerCpuArray => entries * words(value) * cpus,
        // All nodes are made in advance, and one more for each CPU.
        MapType::Hash => {
            (entries + cpus) * (HASH_NODE + words(key) + words(value)) + entries.next_power_of_two() * HASH_BUCKET
        }
        _ => entries * words(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_map_takes_what_its_entries_take() {
        for (kind, (key, value, entries), bytes) in [
            (MapType::RingBuf, (0, 0, 1 << 20), (1 << 20) + 12_288),
            (MapType::PerCpuArray, (4, 32 << 10, 1), 128 << 10),
            (MapType::PerCpuArray, (4, 12, 2), 128),
            (MapType::Hash, (4, 16, 1000), 1004 * 72 + 16_384),
            (MapType::Array, (4, 5, 3), 24),
            (MapType::ArrayOfMaps, (4, 4, 64), 512),
        ] {
            assert_eq!(estimate(kind, key, value, entries, 4), bytes, "{kind:?} {key} {value} {entries}");
        }
    }
}
