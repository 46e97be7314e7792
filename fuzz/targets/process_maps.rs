//! `/proc/PID/maps`: the paths in it are the profiled process's choice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::process::Mappings;
use profiler::process::maps::Maps;

fuzz_target!(|data: &[u8]| {
    let mappings = Mappings::from_unsorted(Maps::parse(data).mappings);
    let mut end = 0;
    for mapping in mappings.iter() {
        assert!(mapping.start >= end && mapping.start < mapping.end, "in order, none empty, none over another");
        end = mapping.end;
    }
});
