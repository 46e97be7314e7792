//! What arrived, interval by interval: the same whatever the machine was busy with meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use profiler::profile::pprof::decode;

use crate::agent::files;
use crate::intake::{pushes, uploads};
use crate::servers::Server;

/// Start of an interval, ns since the epoch → samples in it.
pub(crate) type Intervals = BTreeMap<u64, u64>;

/// A folder of files as intervals: the same agent's own account of what there was.
pub(crate) fn in_files(folder: &Path) -> Intervals {
    let read = |path: &std::path::PathBuf| {
        let profile = decode(&std::fs::read(path).unwrap()).unwrap();
        let samples = profile.sample.iter().map(|sample| sample.value[0] as u64).sum();
        (profile.time_nanos as u64, samples)
    };
    files(folder).iter().map(read).collect()
}

/// Start and end of each file's interval, ns since the epoch.
pub(crate) fn spans(folder: &Path) -> Vec<(u64, u64)> {
    let read = |path: &std::path::PathBuf| {
        let profile = decode(&std::fs::read(path).unwrap()).unwrap();
        (profile.time_nanos as u64, (profile.time_nanos + profile.duration_nanos) as u64)
    };
    files(folder).iter().map(read).collect()
}

/// What arrived, by interval, each request once; and the ids that came more than once, with how often more.
pub(crate) struct Arrived {
    pub(crate) intervals: Intervals,
    pub(crate) again: BTreeMap<String, usize>,
}

fn arrived(requests: impl Iterator<Item = (String, Vec<u8>)>) -> Arrived {
    let mut arrived = Arrived { intervals: Intervals::new(), again: BTreeMap::new() };
    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (id, body) in requests {
        if let Some(before) = bodies.get(&id) {
            assert!(*before == body, "the same id, the same profile: {id}");
            *arrived.again.entry(id).or_default() += 1;
            continue;
        }
        let profile = decode(&body).unwrap();
        let samples: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
        *arrived.intervals.entry(profile.time_nanos as u64).or_default() += samples as u64;
        bodies.insert(id, body);
    }
    arrived
}

pub(crate) fn at_datadog(server: &Server) -> Arrived {
    arrived(
        uploads(server.folder()).into_iter().map(|upload| (upload.id().to_owned(), upload.form().attachment.to_vec())),
    )
}

pub(crate) fn at_pyroscope(server: &Server) -> Arrived {
    arrived(pushes(server.folder()).into_iter().map(|push| (push.id, push.profile)))
}
