//! The engine's turn on a busy machine.
//!
//! A round takes little time, but has to come soon: until it has seen a new program, each of that program's samples needs a
//! copy, and rings hold those of about 100 ms. With a hundred threads of usual niceness in line, a round would come too late.
//! Not for heavy work: naming and encoding wait for their turn like everyone else.

/// Niceness of the thread that drives the engine: ten times the usual share, should it ever need it.
const NICENESS: i32 = -10;

/// The calling thread goes before programs of usual niceness as long as this lives. Programs that it starts meanwhile would
/// inherit that, as threads would: the workers' give it up when they begin. Without the permission for it nothing happens.
#[derive(Debug)]
pub struct Precedence {
    before: Option<i32>,
}

impl Precedence {
    /// For the calling thread.
    pub fn take() -> Precedence {
        // SAFETY: no pointers; `who` 0 is the calling thread.
        let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        // SAFETY: as above.
        let done = before > NICENESS && unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } == 0;
        Precedence { before: done.then_some(before) }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: as above. Going back to a higher niceness needs no permission.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, before) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether threads of this process may go before others.
    fn is_permitted() -> bool {
        // SAFETY: no pointers; `who` 0 is the calling thread, which ends with this.
        let try_it = || unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) == 0 };
        std::thread::spawn(try_it).join().unwrap()
    }

    #[test]
    fn precedence_is_taken_where_it_is_permitted_and_ends_with_its_guard() {
        // SAFETY: no pointers.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = niceness();
        let precedence = Precedence::take();
        assert_eq!(niceness(), if is_permitted() { before.min(NICENESS) } else { before });
        drop(precedence);
        assert_eq!(niceness(), before);
    }
}
