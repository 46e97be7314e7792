//! One record of the eBPF programs' ring.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::sampler::record;

fuzz_target!(|data: &[u8]| {
    if let Some(record) = record::parse(data) {
        assert!(record.comm().len() <= 16);
        let _ = record.copy_requested();
    }
});
