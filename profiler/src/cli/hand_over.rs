//! A recording that nobody sits before: progress and profile as lines on standard output, which the container runtime keeps as the
//! pod's log and `everflame kubectl` reads from there.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;

use crate::kubectl::parcel;
use crate::profile::pprof::to_gzip;

/// Between two lines of progress: kubelet keeps 10 MiB of a log, and a day of these is 4 MB.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// The lines of progress.
pub(super) struct HandOver {
    of: Duration,
    next: Duration,
}

impl HandOver {
    pub(super) fn begin(of: Option<Duration>) -> HandOver {
        HandOver { of: of.unwrap_or_default(), next: Duration::ZERO }
    }

    /// A line, if it is time for one.
    pub(super) fn progress(&mut self, elapsed: Duration, samples: u64) {
        if elapsed < self.next {
            return;
        }
        self.next = elapsed + BETWEEN_LINES;
        // Who follows may be gone; the profile at the end is what counts.
        let _ = print(&parcel::progress(elapsed, self.of, samples));
    }
}

/// The profile, with what is said of it.
pub(super) fn profile(profile: &pprof_proto::Profile, summary: &str) -> anyhow::Result<()> {
    let mut text = parcel::summary(summary);
    text += &parcel::wrap(&to_gzip(profile)).context("the profile can't be handed over")?;
    print(&text).context("cannot write the profile to standard output")
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
