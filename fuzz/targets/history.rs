//! A segment of the history: what is read of it, exactly and by function, is a batch that holds together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::profile::pprof::{self, ProfileInfo};
use profiler::store;

fuzz_target!(|data: &[u8]| {
    let info = ProfileInfo { frequency_hz: 99, cpus: 1, kernel_release: String::new() };
    let _ = store::decode_segment(data, |batch| {
        let _ = pprof::encode(&batch, &info);
    });
    if let Ok(sums) = store::sum_segment(data) {
        let _ = sums.profile(&info);
    }
});
