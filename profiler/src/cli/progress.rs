//! The line that shows that something is going on: on a terminal only, on standard error.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner with one line of text, which is gone once this is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn start() -> Progress {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    pub(super) fn say(&self, text: String) {
        self.0.set_message(text);
    }

    /// A line that stays, above the one that changes.
    pub(super) fn above(&self, line: &str) {
        self.0.println(line);
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Shows what is being done for as long as `work` takes, which says nothing on standard error itself.
pub(super) fn during<T>(text: impl Into<String>, work: impl FnOnce() -> T) -> T {
    let progress = Progress::start();
    progress.say(text.into());
    let result = work();
    progress.end();
    result
}

/// The same for a file. Nothing is shown for standard input: who writes there (`record -o -`) has a line on the same terminal.
pub(super) fn reading<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    let is_piped = file == Path::new(crate::output::STANDARD);
    if is_piped { work() } else { during(format!("reading {}", file.display()), work) }
}
