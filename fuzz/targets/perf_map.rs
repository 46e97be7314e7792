//! A JIT's symbol file, `/tmp/perf-PID.map`: written by the profiled process, so it may hold anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use symbolizer::perf_map::{PerfMap, PerfMapLimits};

fuzz_target!(|data: &[u8]| {
    let limits = PerfMapLimits { functions: 64, name_bytes: 1024, name: 100, ..PerfMapLimits::default() };
    let map = PerfMap::parse(data, limits);
    for line in data.split(|byte| *byte == b'\n') {
        let digits = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let Ok(address) = u64::from_str_radix(&String::from_utf8_lossy(digits), 16) else { continue };
        if let Some(name) = map.lookup(address) {
            assert!(name.len() <= 3 * limits.name, "a cut name, with three bytes for each that is not UTF-8");
        }
    }
});
