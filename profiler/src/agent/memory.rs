//! [`MemoryGovernor`]: keeps the agent within its memory, by sampling less, then by forgetting what can be read again. And
//! [`cgroup_limit`]: how much that is. Pure but for the reading of the limit.
//!
//! A lower rate makes the next intervals smaller; what is forgotten (symbols, debug information) is read again when it is
//! needed, which costs processor time, so that it is the second step.

use std::path::Path;

/// From this part of the limit on, the rate is lowered.
const LOWER_FROM: f64 = 0.80;
/// From this part on, caches are emptied.
const EVICT_FROM: f64 = 0.90;
/// Below this part the rate comes back.
const RAISE_BELOW: f64 = 0.65;
/// Looks (of two seconds each) between two changes: an interval of ten seconds must pass before a change shows.
const LOOKS_BETWEEN: u32 = 6;
/// Looks between two evictions: what is read again right away would only be evicted again.
const LOOKS_BETWEEN_EVICTIONS: u32 = 30;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Go on.
    None,
    /// Sample at most so often on each CPU, Hz.
    Rate(u32),
    /// Empty the caches.
    Evict,
}

/// See the module documentation.
#[derive(Debug)]
pub struct MemoryGovernor {
    wanted_hz: u32,
    hz: u32,
    limit_bytes: u64,
    since_change: u32,
    since_eviction: u32,
}

impl MemoryGovernor {
    /// Allows `wanted_hz` until memory is short; `limit_bytes` of 0 is no limit.
    pub fn new(wanted_hz: u32, limit_bytes: u64) -> MemoryGovernor {
        let since_eviction = LOOKS_BETWEEN_EVICTIONS;
        MemoryGovernor { wanted_hz, hz: wanted_hz, limit_bytes, since_change: LOOKS_BETWEEN, since_eviction }
    }

    /// Takes what is used now, in the agent and in the kernel on its behalf. Call it every two seconds.
    pub fn observe(&mut self, used_bytes: u64) -> Relief {
        if self.limit_bytes == 0 {
            return Relief::None;
        }
        let share = used_bytes as f64 / self.limit_bytes as f64;
        self.since_change = self.since_change.saturating_add(1);
        self.since_eviction = self.since_eviction.saturating_add(1);
        if share >= EVICT_FROM && self.since_eviction > LOOKS_BETWEEN_EVICTIONS {
            self.since_eviction = 0;
            return Relief::Evict;
        }
        let next = if share >= LOWER_FROM {
            (self.hz / 2).max(1)
        } else if share < RAISE_BELOW {
            self.hz.saturating_mul(2).min(self.wanted_hz)
        } else {
            self.hz
        };
        if next == self.hz || self.since_change <= LOOKS_BETWEEN {
            return Relief::None;
        }
        (self.hz, self.since_change) = (next, 0);
        Relief::Rate(next)
    }
}

/// The smallest memory limit of the agent's own cgroup and those above it, bytes; `None` without one.
///
/// Reads `/proc/self/cgroup` (cgroups(7)) and `memory.max` (version 2) or `memory.limit_in_bytes` (version 1) below
/// `cgroup_root`. In a container that sees only its own part, that part's root has the limit.
pub fn cgroup_limit(proc_root: &Path, cgroup_root: &Path) -> Option<u64> {
    let own = std::fs::read_to_string(proc_root.join("self/cgroup")).ok()?;
    own.lines().filter_map(|line| limit_of(line, cgroup_root)).min()
}

fn limit_of(line: &str, cgroup_root: &Path) -> Option<u64> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let (mount, file) = if controllers.is_empty() {
        (cgroup_root.to_owned(), "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        (cgroup_root.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // `..`: the path as seen from another cgroup namespace leads out of what is mounted.
    let below = Path::new(path.trim_start_matches('/'));
    let levels = below.ancestors().filter(|level| !level.components().any(|part| part.as_os_str() == ".."));
    let read = |level: &Path| {
        let text = std::fs::read_to_string(mount.join(level).join(file)).ok()?;
        // Version 1 says "none" by a number near 2⁶³, rounded down to a page.
        text.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 62)
    };
    levels.filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000;

    /// What is done in so many looks at one use.
    fn looks(governor: &mut MemoryGovernor, count: u32, used: u64) -> Vec<Relief> {
        (0..count).map(|_| governor.observe(used)).filter(|relief| *relief != Relief::None).collect()
    }

    #[test]
    fn with_room_or_without_a_limit_nothing_happens() {
        assert_eq!(looks(&mut MemoryGovernor::new(99, LIMIT), 100, 799), []);
        assert_eq!(looks(&mut MemoryGovernor::new(99, 0), 100, u64::MAX), []);
    }

    #[test]
    fn short_memory_halves_the_rate_an_interval_apart_and_never_to_nothing() {
        let mut governor = MemoryGovernor::new(99, LIMIT);
        assert_eq!(looks(&mut governor, 1, 800), [Relief::Rate(49)]);
        assert_eq!(looks(&mut governor, LOOKS_BETWEEN, 800), []);
        assert_eq!(looks(&mut governor, 1, 800), [Relief::Rate(24)]);
        let more = looks(&mut governor, 100, 800);
        assert_eq!(more, [12, 6, 3, 1].map(Relief::Rate));
    }

    #[test]
    fn very_short_memory_evicts_as_well_but_not_at_every_look() {
        let mut governor = MemoryGovernor::new(99, LIMIT);
        assert_eq!(looks(&mut governor, 2, 900), [Relief::Evict, Relief::Rate(49)]);
        let evictions = looks(&mut governor, 10 * LOOKS_BETWEEN_EVICTIONS, 2_000);
        assert_eq!(evictions.iter().filter(|relief| **relief == Relief::Evict).count(), 9);
    }

    #[test]
    fn the_rate_comes_back_with_the_memory() {
        let mut governor = MemoryGovernor::new(99, LIMIT);
        looks(&mut governor, 50, 850);
        assert_eq!(looks(&mut governor, 100, 700), [], "between the two it stays");
        let raised = looks(&mut governor, 100, 100);
        assert_eq!(raised.last(), Some(&Relief::Rate(99)));
        assert!(raised.len() > 3, "step by step: {raised:?}");
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let (proc_root, cgroup_root) = (folder.path().join("proc"), folder.path().join("cgroup"));
        write("cgroup/pods/one/memory.max", "300\n");
        write("cgroup/pods/memory.max", "200\n");
        write("cgroup/pods/two/memory.max", "max\n");
        write("cgroup/memory.max", "max\n");
        write("cgroup/memory/pods/one/memory.limit_in_bytes", "9223372036854771712\n");
        write("cgroup/memory/memory.limit_in_bytes", "700\n");
        let table = [
            ("0::/pods/one\n", Some(200)),
            ("0::/pods/two/deeper\n", Some(200)),
            ("0::/\n", None),
            ("0::/../../one\n", None),
            ("4:cpu,cpuacct:/pods/one\n", None),
            ("9:memory:/pods/one\n1:name=systemd:/\n", Some(700)),
            ("9:memory:/elsewhere/in/the/host\n0::/pods\n", Some(200)),
            ("nonsense\n::\n", None),
        ];
        for (own, expected) in table {
            write("proc/self/cgroup", own);
            assert_eq!(cgroup_limit(&proc_root, &cgroup_root), expected, "{own}");
        }
        assert_eq!(cgroup_limit(Path::new("/nowhere"), &cgroup_root), None);
    }
}
