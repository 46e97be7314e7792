//! Which samples are wanted, as far as the agent decides it: the kernel leaves out what it can by itself.

use std::collections::HashSet;

use crate::process::Processes;

/// What the user asked for; empty means everything.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Names of processes (or of threads).
    pub comms: Vec<String>,
    /// Processes whose descendants are wanted as well (a command that we started).
    pub trees: HashSet<u32>,
}

impl Target {
    /// Whether everything is wanted.
    pub fn is_everything(&self) -> bool {
        self.comms.is_empty() && self.trees.is_empty()
    }

    /// A process was made: a child of a wanted tree belongs to it.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if self.trees.contains(&parent) {
            self.trees.insert(child);
        } else {
            // A reused pid does not inherit what its last owner belonged to.
            self.trees.remove(&child);
        }
    }

    /// Whether a sample of this process and thread name is wanted.
    pub fn wants(&self, processes: &Processes, pid: u32, thread_name: &[u8]) -> bool {
        if self.is_everything() {
            return true;
        }
        if self.trees.contains(&pid) {
            return true;
        }
        self.comms.iter().any(|comm| {
            comm.as_bytes() == thread_name || processes.get(pid).is_some_and(|process| *process.comm == **comm)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_takes_in_children_and_loses_reused_pids() {
        let nowhere = tempfile::tempdir().unwrap();
        let processes = Processes::new(nowhere.path());
        let mut target = Target { trees: HashSet::from([5]), ..Target::default() };
        target.forked(5, 6);
        target.forked(6, 7);
        target.forked(8, 9);
        target.forked(8, 7);
        let wanted: Vec<u32> = (4..10).filter(|pid| target.wants(&processes, *pid, b"x")).collect();
        assert_eq!(wanted, [5, 6]);
        assert!(Target::default().wants(&processes, 1, b""));
        let by_name = Target { comms: vec!["x".into()], ..Target::default() };
        assert!(by_name.wants(&processes, 1, b"x") && !by_name.wants(&processes, 1, b"xy"));
    }
}
