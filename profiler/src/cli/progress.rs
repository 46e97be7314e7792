//! The line that shows that something is going on: on a terminal only, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner with one line of text.
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
