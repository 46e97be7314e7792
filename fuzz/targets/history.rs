//! A segment of the history: what is read of it, exactly and by function, is a batch that holds together. And between two good ones,
//! asked like any history: if it is damaged, each answer is that of the good ones alone.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use profiler::profile::pprof::{self, ProfileInfo};
use profiler::store::{self, Grouping, Label, Limits, Match, Query, Reader, Store};

const GOOD: &[u8] = include_bytes!("../seeds/history/00000000.segment");
const GROUPINGS: [Grouping; 3] = [Grouping::Threads, Grouping::Processes, Grouping::Functions];

fuzz_target!(|data: &[u8]| {
    let info = ProfileInfo { frequency_hz: 99, cpus: 1, kernel_release: String::new() };
    let _ = store::decode_segment(data, |batch| {
        let _ = pprof::encode(&batch, &info);
    });
    if let Ok(sums) = store::sum_segment(data) {
        let _ = sums.profile(&info);
    }
    among_good_ones(data, &info);
    // Memory that nothing else would give back.
    std::fs::remove_dir_all(folder()).expect("the folder goes");
});

/// A folder in memory, where a history is made again for each input.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| PathBuf::from(format!("/dev/shm/everflame-fuzz-{}", std::process::id())))
}

fn history(segments: &[&[u8]]) -> Store {
    let _ = std::fs::remove_dir_all(folder());
    std::fs::create_dir_all(folder()).expect("a folder");
    for (number, segment) in segments.iter().enumerate() {
        std::fs::write(folder().join(format!("{number:08}.segment")), segment).expect("a segment");
    }
    Store::open(folder(), Limits::default()).expect("a history")
}

/// Rows, samples and CPU time of each kind of sums.
fn sums(reader: &Reader) -> [(usize, u64, u64, u64); 3] {
    let everything = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };
    GROUPINGS.map(|grouping| {
        let sums = reader.stacks(&everything, grouping).expect("an answer");
        (sums.counts.len(), sums.samples(), sums.cpu_ns(), sums.skipped.damaged_segments)
    })
}

fn among_good_ones(data: &[u8], info: &ProfileInfo) {
    static EXPECTED: OnceLock<[(usize, u64, u64, u64); 3]> = OnceLock::new();
    let expected = EXPECTED.get_or_init(|| sums(&history(&[GOOD, GOOD]).reader()));
    let history = history(&[GOOD, data, GOOD]);
    let is_aside = !history.set_aside().is_empty();
    let reader = history.reader();
    for (found, expected) in sums(&reader).into_iter().zip(expected) {
        let damaged = found.3;
        if is_aside || damaged > 0 {
            assert_eq!(found, (expected.0, expected.1, expected.2, damaged));
        }
    }
    let filters = vec![(Label::Process, Match::Contains("n".into())), (Label::Pod, Match::Prefix("pod".into()))];
    for filters in [Vec::new(), filters] {
        let query = Query { from_ns: 1_700_000_000_000_000_000, to_ns: 1_700_000_100_000_000_000, filters };
        reader.values(&query, Label::Executable, 3).expect("values");
        reader.labels(&query).expect("labels");
        reader.series(&query, Label::Thread, 1_000_000_000, 3).expect("a series");
        let sums = reader.stacks(&query, Grouping::Functions).expect("an answer");
        let _ = sums.profile(info);
        let _ = sums.table(info);
    }
    reader.batches(0, u64::MAX, |batch| drop(pprof::encode(&batch, info))).expect("batches");
}
