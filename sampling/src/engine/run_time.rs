//! Code made at run time: each process's is a mapping of its own, for as long as an interval.
//!
//! By process and start, since a pid may be used again within the interval, and the same address is other code there.

use hashbrown::HashMap;
use std::sync::Arc;

use symbolizer::perf_map::locate::Place;

use profiles::profile::{BatchBuilder, MappingIndex};

struct Code {
    mapping: MappingIndex,
    /// Where the process's perf map is.
    place: Option<Arc<Place>>,
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct RunTimeCode {
    by_process: HashMap<(u32, u64), Code>,
}

impl RunTimeCode {
    /// The mapping of a process that started at that time, if it has one.
    pub(super) fn mapping(&self, pid: u32, start_time_ns: u64) -> Option<MappingIndex> {
        self.by_process.get(&(pid, start_time_ns)).map(|code| code.mapping)
    }

    /// Gives a process a mapping; its perf map is at `place`.
    pub(super) fn add(
        &mut self,
        builder: &mut BatchBuilder,
        (pid, start_time_ns): (u32, u64),
        place: Option<Arc<Place>>,
    ) -> MappingIndex {
        let mapping = builder.new_mapping(&format!("[anon {pid}]"), "");
        self.by_process.insert((pid, start_time_ns), Code { mapping, place });
        mapping
    }

    /// Mapping, process, its start and where its perf map is.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MappingIndex, u32, u64, Option<Arc<Place>>)> + '_ {
        self.by_process.iter().map(|((pid, start), code)| (code.mapping, *pid, *start, code.place.clone()))
    }

    /// The interval is over.
    pub(super) fn clear(&mut self) {
        self.by_process.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_of_one_pid_have_a_mapping_each() {
        let (mut code, mut builder) = (RunTimeCode::default(), BatchBuilder::new());
        let first = code.add(&mut builder, (7, 100), None);
        assert_eq!((code.mapping(7, 100), code.mapping(7, 200)), (Some(first), None));
        let second = code.add(&mut builder, (7, 200), None);
        assert_ne!(first, second);
        assert_eq!((code.mapping(7, 100), code.mapping(7, 200)), (Some(first), Some(second)));
        let mut told: Vec<_> = code.iter().map(|(mapping, pid, start, _)| (mapping, pid, start)).collect();
        told.sort_unstable_by_key(|(_, _, start)| *start);
        assert_eq!(told, [(first, 7, 100), (second, 7, 200)]);
    }
}
