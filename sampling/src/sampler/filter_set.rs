//! The sets of pids and cgroups that the programs let through or leave out; they can be changed while sampling.
//!
//! Which of them are looked at, and what becomes of those not listed, is fixed at load by the bits of
//! [`profiler_common::filter`]: with `PIDS` or `CGROUPS` only allowed ones pass, with `PIDS_DENIED` or `CGROUPS_DENIED` all but
//! denied ones. Hits left out are counted as filtered.

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use profiler_common::filter;

use super::SamplerError;

/// One of the sets, of pids (`u32`) or cgroup ids (`u64`).
pub struct FilterSet<K> {
    map: HashMap<MapData, K, u32>,
    what: &'static str,
}

impl<K: Pod> FilterSet<K> {
    pub(super) fn new(map: HashMap<MapData, K, u32>, what: &'static str) -> FilterSet<K> {
        FilterSet { map, what }
    }

    /// Lets it through from now on.
    ///
    /// # Errors
    /// [`SamplerError::FilterFull`] when the set has [`filter::MAX_LISTED`] others.
    pub fn allow(&mut self, key: K) -> Result<(), SamplerError> {
        self.set(key, filter::ALLOWED)
    }

    /// Leaves it out from now on.
    ///
    /// # Errors
    /// As [`FilterSet::allow`].
    pub fn deny(&mut self, key: K) -> Result<(), SamplerError> {
        self.set(key, filter::DENIED)
    }

    /// Treats it as those that were never listed. One that is not listed is no error.
    pub fn forget(&mut self, key: K) -> Result<(), SamplerError> {
        match self.map.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if is(&error, libc::ENOENT) => Ok(()),
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn set(&mut self, key: K, verdict: u32) -> Result<(), SamplerError> {
        self.map.insert(key, verdict, 0).map_err(|error| {
            if is(&error, libc::E2BIG) { SamplerError::FilterFull { what: self.what } } else { self.refused(&error) }
        })
    }

    fn refused(&self, error: &MapError) -> SamplerError {
        SamplerError::Load { what: format!("filter of {}", self.what), why: error.to_string() }
    }
}

fn is(error: &MapError, number: i32) -> bool {
    matches!(error, MapError::SyscallError(call) if call.io_error.raw_os_error() == Some(number))
}
