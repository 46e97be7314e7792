//! [`Watch`]: what a thread is about to touch.
//!
//! A thread that hangs can't say on what. So it says so beforehand: the executable, then each file that it looks for elsewhere
//! (the way there may lead over any mount) and the device that such a file lies on. Whatever it touched last is left alone.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::silence::{Origin, Silence, lock};

/// What a thread is doing.
#[derive(Default)]
pub(crate) struct Progress {
    /// What it touched last, and when its job began.
    pub(crate) at: Option<(Origin, Instant)>,
    /// Jobs done.
    pub(crate) done: u64,
    /// What it was waiting for when another one took its place.
    pub(crate) given_up: Option<Origin>,
}

/// A thread's own word on what it is about to touch.
#[derive(Default)]
pub(crate) struct Watch {
    progress: Arc<Mutex<Progress>>,
    silence: Arc<Silence>,
    left_alone: Cell<Option<Origin>>,
}

impl Watch {
    pub(crate) fn new(progress: Arc<Mutex<Progress>>, silence: Arc<Silence>) -> Watch {
        Watch { progress, silence, left_alone: Cell::new(None) }
    }

    /// Of a thread that is to leave these alone.
    #[cfg(test)]
    pub(crate) fn avoiding(origins: &[Origin]) -> Watch {
        let watch = Watch::default();
        origins.iter().for_each(|origin| watch.silence.avoid(*origin, Instant::now()));
        watch
    }

    /// A job begins, with that.
    pub(crate) fn begin(&self, origin: Option<Origin>) {
        lock(&self.progress).at = origin.map(|origin| (origin, Instant::now()));
        self.left_alone.set(None);
    }

    /// The job is done. Gives what the thread was given up for.
    pub(crate) fn end(&self) -> Option<Origin> {
        let mut progress = lock(&self.progress);
        progress.at = None;
        progress.done += 1;
        progress.given_up.inspect(|origin| self.silence.came_back(*origin))
    }

    /// The job goes on with that.
    pub(crate) fn at(&self, origin: impl Into<Option<Origin>>) {
        if let (Some(origin), Some((at, _))) = (origin.into(), &mut lock(&self.progress).at) {
            *at = origin;
        }
    }

    /// What the job is at.
    pub(crate) fn origin(&self) -> Option<Origin> {
        lock(&self.progress).at.map(|(origin, _)| origin)
    }

    /// Whether that did not answer lately.
    pub(crate) fn is_silent(&self, origin: Origin) -> bool {
        self.silence.avoids(origin, Instant::now())
    }

    /// The same; if so, the job goes on without it, and that is noted.
    pub(crate) fn leaves_alone(&self, origin: Origin) -> bool {
        let is_silent = self.is_silent(origin);
        if is_silent {
            self.left_alone.set(Some(origin));
        }
        is_silent
    }

    /// What the job had to go on without, if anything.
    pub(crate) fn left_alone(&self) -> Option<Origin> {
        self.left_alone.get()
    }
}
