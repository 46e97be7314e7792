//! A pprof file: what is accepted is the same after writing and reading, and every view of it can be made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::{
    profile::pprof,
    report::{
        StackTable,
        folded::{self, FoldedOptions},
    },
};

fuzz_target!(|data: &[u8]| {
    let Ok(profile) = pprof::decode(data) else { return };
    let again = pprof::decode(&pprof::to_raw(&profile)).expect("what was written");
    assert_eq!(again, profile);
    let Ok(table) = StackTable::from_profile(&profile) else { return };
    for sample_type in 0..profile.sample_type.len() {
        let _ = folded::render(&table, sample_type, FoldedOptions::default());
    }
});
