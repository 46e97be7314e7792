//! Identity's own thread: reads processes when they are first sampled, walks the cgroup tree, forgets what is old. A process
//! whose `/proc` files are slow (its memory is being paged in) holds up this thread and nobody else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::cgroups::Hierarchy;
use super::known::Known;
use super::observed::{Observer, suspended_ns};
use crate::engine::Sampled;

/// Most processes that wait to be read, 24 bytes each.
const MAX_NOTED: usize = 8192;
/// Time between two walks of the cgroup tree: about 10 ms for 1,000 cgroups.
const BETWEEN_WALKS: Duration = Duration::from_secs(60);
/// The same when a cgroup was asked for that nobody knows.
const BETWEEN_WANTED_WALKS: Duration = Duration::from_secs(5);
/// How often the thread looks at the clock.
const TICK: Duration = Duration::from_millis(250);

/// Starts the thread; it ends when the last sender is gone.
pub(super) fn start(
    known: Arc<Known>,
    proc_root: PathBuf,
    hierarchy: Option<Hierarchy>,
) -> std::io::Result<SyncSender<Sampled>> {
    let (sender, receiver) = sync_channel(MAX_NOTED);
    let reader = Reader { known, proc_root, hierarchy, observer: Observer::new(suspended_ns()) };
    std::thread::Builder::new().name("identity".into()).spawn(move || reader.run(&receiver))?;
    Ok(sender)
}

struct Reader {
    known: Arc<Known>,
    proc_root: PathBuf,
    hierarchy: Option<Hierarchy>,
    observer: Observer,
}

impl Reader {
    fn run(mut self, noted: &Receiver<Sampled>) {
        self.walk();
        let mut walked = Instant::now();
        loop {
            match noted.recv_timeout(TICK) {
                Ok(sampled) => self.read(&sampled),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let wait = if self.known.is_walk_wanted() { BETWEEN_WANTED_WALKS } else { BETWEEN_WALKS };
            if walked.elapsed() >= wait {
                self.walk();
                walked = Instant::now();
                self.known.forget(walked);
            }
        }
    }

    fn read(&mut self, sampled: &Sampled) {
        let found = self.observer.observe(&self.proc_root, sampled.pid, sampled.start_time_ns).ok();
        let told =
            found.as_ref().map(|found| (!found.environment_read && !found.kernel_thread, found.environment.refused));
        // Counted once it can be found: whoever sees the count may ask for the process.
        self.known.observed((sampled.pid, sampled.start_time_ns), found, Instant::now());
        self.known.count(|counters| match told {
            Some((unreadable, refused)) => {
                counters.processes_read += 1;
                counters.environments_unreadable += u64::from(unreadable);
                counters.environment_values_refused += u64::from(refused);
            }
            None => counters.processes_missed += 1,
        });
    }

    fn walk(&self) {
        self.known.walk_begins();
        let Some(hierarchy) = &self.hierarchy else { return };
        let (found, cut_short) = hierarchy.walk();
        let refused = {
            let mut cgroups = self.known.cgroups();
            cgroups.walked(&found, cut_short, Instant::now());
            cgroups.take_refused() + u64::from(cut_short)
        };
        self.known.count(|counters| {
            counters.cgroup_walks += 1;
            counters.cgroups_refused += refused;
        });
    }
}
