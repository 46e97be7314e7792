//! [`Silence`]: what did not answer, how long it is left alone, and how many threads still wait for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::debug_file::Directory;
use crate::executable::{Content, Executable};

/// How long what did not answer is left alone.
pub(crate) const AVOID: Duration = Duration::from_secs(300);
/// Threads that one origin may hold; then it is left alone until one of them gets its answer.
pub(crate) const MAX_STUCK: usize = 2;
/// Threads that are given up at a time, each with its stack. Once there are so many, nothing is touched but executables that
/// are thought to be local, and what gets stuck keeps its place.
pub(crate) const MAX_GIVEN_UP: usize = 8;
/// Origins that are avoided at a time; more are avoided no longer than these.
const MAX_AVOIDED: usize = 1024;

/// What may fall silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Device(u32, u32),
    /// An executable that is thought to be on a local device.
    Executable(u64),
    /// The ways to debug files below a root; `None` is the host's.
    DebugFiles(Option<Directory>),
    /// The way to perf maps below a root.
    PerfMaps(Directory),
}

impl Origin {
    pub(crate) fn of(executable: &Executable) -> Origin {
        match &executable.content {
            Content::File(file) if let Some((major, minor)) = file.device() => Origin::Device(major, minor),
            Content::File(_) | Content::Bytes(_) => Origin::Executable(executable.key),
        }
    }
}

/// One origin that did not answer.
#[derive(Default)]
struct Silent {
    until: Option<Instant>,
    /// Threads that were given up for it and have not come back.
    stuck: usize,
}

#[derive(Default)]
struct Books {
    origins: HashMap<Origin, Silent>,
    given_up: usize,
}

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Silence(Mutex<Books>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that could panic is done while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Silence {
    pub(crate) fn avoids(&self, origin: Origin, now: Instant) -> bool {
        let books = lock(&self.0);
        if books.given_up >= MAX_GIVEN_UP && !matches!(origin, Origin::Executable(_)) {
            return true;
        }
        let silent = books.origins.get(&origin);
        silent.is_some_and(|silent| silent.stuck >= MAX_STUCK || silent.until.is_some_and(|until| now < until))
    }

    /// It did not answer: leaves it alone from now on, if it is not left alone already.
    pub(crate) fn avoid(&self, origin: Origin, now: Instant) {
        let mut books = lock(&self.0);
        if books.origins.len() >= MAX_AVOIDED && !books.origins.contains_key(&origin) {
            books.origins.retain(|_, silent| silent.stuck > 0);
        }
        let silent = books.origins.entry(origin).or_default();
        if silent.until.is_none_or(|until| until <= now) {
            silent.until = Some(now + AVOID);
        }
    }

    /// Whether one more thread may be given up.
    pub(crate) fn has_room(&self) -> bool {
        lock(&self.0).given_up < MAX_GIVEN_UP
    }

    /// A thread that waits for it was replaced.
    pub(crate) fn give_up(&self, origin: Origin) {
        let mut books = lock(&self.0);
        books.given_up += 1;
        books.origins.entry(origin).or_default().stuck += 1;
    }

    /// Such a thread has got its answer.
    pub(crate) fn came_back(&self, origin: Origin) {
        let mut books = lock(&self.0);
        books.given_up = books.given_up.saturating_sub(1);
        if let Some(silent) = books.origins.get_mut(&origin) {
            silent.stuck = silent.stuck.saturating_sub(1);
        }
        books.answered(origin);
    }

    /// It need not be left alone any longer, but for threads that wait for it.
    pub(crate) fn answered(&self, origin: Origin) {
        lock(&self.0).answered(origin);
    }

    #[cfg(test)]
    pub(crate) fn given_up(&self) -> usize {
        lock(&self.0).given_up
    }
}

impl Books {
    fn answered(&mut self, origin: Origin) {
        if let Some(silent) = self.origins.get_mut(&origin) {
            silent.until = None;
            if silent.stuck == 0 {
                self.origins.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Origin = Origin::Device(0, 7);

    #[test]
    fn what_holds_as_many_threads_as_it_may_is_left_alone_until_one_comes_back() {
        let (silence, now) = (Silence::default(), Instant::now());
        for stuck in 1..=MAX_STUCK {
            assert!(!silence.avoids(DEAD, now + AVOID), "{stuck}");
            silence.avoid(DEAD, now);
            silence.give_up(DEAD);
            assert!(silence.avoids(DEAD, now), "{stuck}");
        }
        assert!(silence.avoids(DEAD, now + AVOID * 1000));
        silence.answered(DEAD);
        assert!(silence.avoids(DEAD, now), "two threads know better");
        silence.came_back(DEAD);
        assert!(!silence.avoids(DEAD, now));
        silence.came_back(DEAD);
        assert_eq!((silence.given_up(), lock(&silence.0).origins.len()), (0, 0));
    }

    #[test]
    fn when_too_many_threads_are_out_only_local_executables_are_touched() {
        let (silence, now) = (Silence::default(), Instant::now());
        for number in 0..MAX_GIVEN_UP as u64 {
            assert!(!silence.avoids(DEAD, now) && silence.has_room());
            silence.give_up(Origin::Executable(number));
        }
        let touched = |origin| !silence.avoids(origin, now);
        assert!(!touched(DEAD) && !touched(Origin::DebugFiles(None)) && touched(Origin::Executable(100)));
        silence.came_back(Origin::Executable(0));
        assert!(touched(DEAD) && touched(Origin::DebugFiles(None)));
    }

    #[test]
    fn no_more_is_remembered_than_the_bound_but_for_what_holds_threads() {
        let (silence, now) = (Silence::default(), Instant::now());
        silence.avoid(DEAD, now);
        silence.give_up(DEAD);
        for key in 0..2 * MAX_AVOIDED as u64 {
            silence.avoid(Origin::Executable(key), now);
        }
        let books = lock(&silence.0);
        assert!(books.origins.len() <= MAX_AVOIDED && books.origins[&DEAD].stuck == 1);
    }
}
