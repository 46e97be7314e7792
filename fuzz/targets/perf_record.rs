//! One record of the kernel's perf rings, with its header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::sampler::perf_record;

fuzz_target!(|data: &[u8]| {
    let _ = perf_record::parse(data);
});
