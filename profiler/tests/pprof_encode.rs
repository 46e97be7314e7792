//! Batch → pprof: exact rows, pprof's own checks, the file form.

mod pprof_batch;

use pprof_batch::{info, small_batch};
use pprof_proto::validity;
use profiler::profile::pprof::{decode, encode, to_gzip, to_raw};

#[test]
fn a_batch_becomes_a_profile_that_pprof_accepts() {
    let profile = encode(&small_batch(), &info()).unwrap();
    assert_eq!(validity::check(&profile), Ok(()));
    assert_eq!(validity::parse(&to_raw(&profile)), Ok(profile.clone()));
    assert_eq!(decode(&to_gzip(&profile)).unwrap(), profile);
}
