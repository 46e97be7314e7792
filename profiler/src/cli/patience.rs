//! [`Patience`]: how long an agent that does not answer is asked again. What it samples meanwhile is kept, and it may be restarted: one
//! request that fails must not cost the hour that was waited for.

use std::time::{Duration, Instant};

use crate::kubectl::outage::Outage;

/// How long an agent may not answer while its history is waited for and taken.
pub(super) const LONGEST_OUTAGE: Duration = Duration::from_secs(120);
/// Between two looks at whether the user wants an end, and at how far a history is.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// See the module documentation. One for all that is asked of an agent: a new question does not begin an outage anew.
pub(super) struct Patience<'run> {
    longest: Duration,
    outage: Outage,
    is_stopped: &'run dyn Fn() -> bool,
    /// The wish for an end has ended the waiting already: what there is by then is still wanted.
    is_heard: bool,
    say: &'run dyn Fn(String),
}

impl<'run> Patience<'run> {
    pub(super) fn new(
        longest: Duration,
        is_stopped: &'run dyn Fn() -> bool,
        say: &'run dyn Fn(String),
    ) -> Patience<'run> {
        Patience { longest, outage: Outage::default(), is_stopped, is_heard: false, say }
    }

    /// Whether the user wants an end of what is being done.
    pub(super) fn is_stopped(&self) -> bool {
        !self.is_heard && (self.is_stopped)()
    }

    /// What was being done has ended for the user's wish; what comes now is done all the same.
    pub(super) fn hear(&mut self) {
        self.is_heard = true;
    }

    /// Tells where it is.
    pub(super) fn say(&self, text: String) {
        (self.say)(text);
    }

    /// The agent answers (again).
    pub(super) fn answered(&mut self) {
        self.outage.over();
    }

    /// It does not. How long to wait before the next try; `None` if it was waited for long enough.
    pub(super) fn failed(&mut self) -> Option<Duration> {
        let now = Instant::now();
        (self.outage.lasts(now) < self.longest).then(|| self.outage.failed(now).max(LOOK))
    }

    /// Whether the last try failed.
    pub(super) fn is_away(&self) -> bool {
        self.outage.is_now()
    }

    /// Ends early when the user wants an end.
    pub(super) async fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_stopped() {
            tokio::time::sleep(LOOK).await;
        }
    }
}
