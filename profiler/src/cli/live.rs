//! What `everflame` alone shows: the address, and on a terminal one line that lives.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::history::Folder;
use super::page::Shown;
use super::progress::Progress;
use super::say::say;
use super::stop::Stop;
use crate::agent::status::Status;
use crate::report::thousands;

/// Between two looks. The numbers change every two seconds.
const LOOK: Duration = Duration::from_millis(500);

/// The line; gone when this is dropped.
pub(super) struct Line {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A line that can't be shown is no reason to fail.
            let _ = thread.join();
        }
    }
}

/// Says where the page is, and starts the line if somebody sees it. The folder comes with whether it can't be written.
pub(super) fn start(shown: Option<&Shown>, folder: Option<(&Folder, bool)>, status: &Arc<Status>, stop: &Stop) -> Line {
    let page = shown.map_or("no page (--page off)", |shown| shown.url.as_str());
    let history = match folder {
        None => "no history".to_owned(),
        Some((folder, false)) => format!("history in {}", folder.path().display()),
        Some((folder, true)) => format!("no history until {} can be written", folder.path().display()),
    };
    if let Err(error) = super::print::print(format!("everflame: {page}  ({history}; Ctrl-C ends)\n")) {
        // Nobody reads it, which is no reason not to profile.
        say(format_args!("{error:#}"));
    }
    let mut line = Line { end: None, thread: None };
    if !std::io::stderr().is_terminal() {
        return line;
    }
    let (end, ended) = channel::<()>();
    let (status, stop) = (Arc::clone(status), stop.clone());
    let thread = std::thread::Builder::new().name("everflame-line".into()).spawn(move || {
        let progress = Progress::start();
        let mut rate = Rate::default();
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let text = if stop.wanted() {
                "ending: the last samples are written".to_owned()
            } else {
                let numbers = status.numbers().clone();
                let lost = numbers.ledger.dropped_total() + numbers.intervals_dropped.1;
                describe(rate.of(numbers.engine.samples, Instant::now()), numbers.sampled_processes, lost)
            };
            progress.say(text);
        }
        progress.end();
    });
    if let Ok(thread) = thread {
        line = Line { end: Some(end), thread: Some(thread) };
    }
    line
}

fn describe(rate: Option<f64>, processes: u64, lost: u64) -> String {
    let rate = rate.map_or("starting".to_owned(), |rate| format!("{} samples/s", thousands(rate.round() as i128)));
    format!("{rate} · {} processes · {} lost", thousands(processes), thousands(lost))
}

/// Samples per second between the last two changes of their number.
#[derive(Default)]
struct Rate {
    last: Option<(u64, Instant)>,
    per_second: Option<f64>,
}

impl Rate {
    fn of(&mut self, samples: u64, now: Instant) -> Option<f64> {
        let Some((before, then)) = self.last else {
            self.last = (samples > 0).then_some((samples, now));
            return None;
        };
        // An idle machine has no change; after a while that is a rate as well.
        let waited = now.saturating_duration_since(then);
        if samples != before || waited > Duration::from_secs(5) {
            self.per_second = Some(samples.saturating_sub(before) as f64 / waited.as_secs_f64().max(0.001));
            self.last = Some((samples, now));
        }
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_between_changes() {
        let start = Instant::now();
        let mut rate = Rate::default();
        let at = |ms| start + Duration::from_millis(ms);
        for (ms, samples, expected) in [
            (0, 0, None),
            (500, 10, None),
            (1000, 10, None),
            (2500, 406, Some(198.0)),
            (3000, 406, Some(198.0)),
            (4500, 604, Some(99.0)),
            (10_000, 604, Some(0.0)),
        ] {
            assert_eq!(rate.of(samples, at(ms)), expected, "{ms} ms");
        }
        assert_eq!(describe(None, 0, 0), "starting · 0 processes · 0 lost");
        assert_eq!(describe(Some(1980.4), 312, 1), "1 980 samples/s · 312 processes · 1 lost");
    }
}
