//! A pod's log, out of which a profile is taken: whoever may write there may write anything. In pieces of any size; lines bounded, and a
//! profile only if its checksums are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::kubectl::parcel::{Lines, MAX_LINE, Parcel, wrap};

fuzz_target!(|data: &[u8]| {
    let (piece, log) = data.split_first().unwrap_or((&0, &[]));
    let mut parcel = Parcel::default();
    let mut lines = Lines::default();
    for piece in log.chunks(usize::from(*piece).max(1)) {
        lines.push(piece, |line| {
            assert!(line.len() <= MAX_LINE);
            parcel.take(line);
        });
    }
    lines.finish(|line| {
        parcel.take(line);
    });
    let Ok(bytes) = parcel.open() else { return };
    let mut again = Parcel::default();
    for line in wrap(&bytes).unwrap_or_default().lines() {
        again.take(line.as_bytes());
    }
    assert_eq!(again.open(), Ok(bytes));
});
