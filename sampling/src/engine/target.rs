//! Which samples are wanted, as far as the agent decides it: the kernel leaves out what it can by itself.

use std::collections::HashSet;

use crate::process::Processes;

/// What the user asked for; the default means everything.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Names of processes (or of threads).
    pub comms: Vec<String>,
    /// Names of processes (or of threads) that are not wanted, whatever else is.
    not_comms: Vec<String>,
    /// Set once a command is followed, for good: when all of it has ended, nothing is wanted rather than everything.
    following: bool,
    /// The followed command and its descendants.
    tree: HashSet<u32>,
    /// Followed, but their own fork record was not seen yet.
    expected: HashSet<u32>,
}

impl Target {
    /// Everything, or only processes and threads of these names.
    pub fn named(comms: Vec<String>) -> Target {
        Target { comms, ..Target::default() }
    }

    /// The same without processes and threads of these names.
    #[must_use]
    pub fn without(mut self, comms: Vec<String>) -> Target {
        self.not_comms = comms;
        self
    }

    /// A command that we started: it and its descendants are wanted.
    pub fn follow(&mut self, pid: u32) {
        self.following = true;
        self.tree.insert(pid);
        self.expected.insert(pid);
    }

    /// Whether everything is wanted.
    pub fn is_everything(&self) -> bool {
        self.not_comms.is_empty() && self.asks_for_everything()
    }

    fn asks_for_everything(&self) -> bool {
        self.comms.is_empty() && !self.following
    }

    /// A process was made: a child of the tree belongs to it.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if self.tree.contains(&parent) {
            self.tree.insert(child);
        } else if !self.expected.remove(&child) {
            // A reused pid does not inherit what its last owner belonged to.
            self.tree.remove(&child);
        }
    }

    /// Whether a sample of this process and thread name is wanted.
    pub fn wants(&self, processes: &Processes, pid: u32, thread_name: &[u8]) -> bool {
        if self.is_everything() {
            return true;
        }
        let has_name = |names: &dyn Fn(&[u8]) -> bool| {
            names(thread_name) || processes.get(pid).is_some_and(|process| names(process.comm.as_bytes()))
        };
        if !self.not_comms.is_empty() && has_name(&|name| self.excludes(name)) {
            return false;
        }
        self.asks_for_everything() || self.tree.contains(&pid) || has_name(&|name| self.names(name))
    }

    /// Whether nothing of a process of this name can be wanted, whichever of its threads is sampled. Its threads' names are asked
    /// for only if they matter; without them (`None`) some may be wanted.
    pub fn wants_none_of(&self, pid: u32, name: &[u8], thread_names: impl FnOnce() -> Option<Vec<Vec<u8>>>) -> bool {
        if self.is_everything() {
            return false;
        }
        if self.excludes(name) {
            return true;
        }
        let is_asked_for = self.asks_for_everything() || self.tree.contains(&pid);
        if is_asked_for && self.not_comms.is_empty() {
            return false;
        }
        if !is_asked_for && self.comms.is_empty() {
            return true;
        }
        let wanted = |name: &[u8]| !self.excludes(name) && (is_asked_for || self.names(name));
        thread_names().is_some_and(|names| !names.iter().any(|name| wanted(name)))
    }

    fn names(&self, name: &[u8]) -> bool {
        self.comms.iter().any(|comm| comm.as_bytes() == name)
    }

    fn excludes(&self, name: &[u8]) -> bool {
        self.not_comms.iter().any(|comm| comm.as_bytes() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_takes_in_children_and_loses_reused_pids() {
        let nowhere = tempfile::tempdir().unwrap();
        let processes = Processes::new(nowhere.path());
        let wanted =
            |target: &Target| -> Vec<u32> { (4..10).filter(|pid| target.wants(&processes, *pid, b"x")).collect() };
        let mut target = Target::default();
        target.follow(5);
        // The command's own record comes after we followed it, from a parent that is not followed.
        target.forked(4, 5);
        target.forked(5, 6);
        target.forked(6, 7);
        target.forked(8, 9);
        assert_eq!(wanted(&target), [5, 6, 7]);
        target.forked(8, 7);
        assert_eq!(wanted(&target), [5, 6]);
        target.forked(8, 5);
        target.forked(8, 6);
        assert!(wanted(&target).is_empty(), "an ended tree is not everything");
    }

    #[test]
    fn names_choose_threads_and_without_any_everything_is_wanted() {
        let nowhere = tempfile::tempdir().unwrap();
        let processes = Processes::new(nowhere.path());
        assert!(Target::default().wants(&processes, 1, b""));
        let by_name = Target::named(vec!["x".into()]);
        assert!(by_name.wants(&processes, 1, b"x") && !by_name.wants(&processes, 1, b"xy"));
    }

    #[test]
    fn a_process_is_wholly_unwanted_only_if_neither_tree_nor_any_thread_is_asked_for() {
        let threads = |names: &[&str]| Some(names.iter().map(|name| name.as_bytes().to_vec()).collect());
        assert!(!Target::default().wants_none_of(1, b"x", || threads(&["x"])));
        let by_name = Target::named(vec!["x".into()]);
        assert!(by_name.wants_none_of(1, b"a", || threads(&["a", "xy"])));
        assert!(!by_name.wants_none_of(1, b"a", || threads(&["a", "x"])));
        assert!(!by_name.wants_none_of(1, b"a", || None), "names that can't be had may be wanted");
        let mut command = Target::default();
        command.follow(5);
        assert!(command.wants_none_of(4, b"a", || panic!("names do not matter")));
        assert!(!command.wants_none_of(5, b"a", || None));
        let mut both = Target::named(vec!["x".into()]);
        both.follow(5);
        assert!(!both.wants_none_of(5, b"a", || threads(&["a"])));
        assert!(both.wants_none_of(6, b"a", || threads(&["a"])));
    }

    #[test]
    fn excluded_names_go_before_what_is_asked_for() {
        let nowhere = tempfile::tempdir().unwrap();
        let processes = Processes::new(nowhere.path());
        let threads = |names: &[&str]| Some(names.iter().map(|name| name.as_bytes().to_vec()).collect());
        let without = Target::default().without(vec!["x".into()]);
        assert!(!without.is_everything());
        assert!(without.wants(&processes, 1, b"a") && !without.wants(&processes, 1, b"x"));
        assert!(without.wants_none_of(1, b"x", || panic!("the process's own name is enough")));
        assert!(!without.wants_none_of(1, b"a", || threads(&["a", "x"])));
        assert!(without.wants_none_of(1, b"a", || threads(&["x", "x"])));
        assert!(!without.wants_none_of(1, b"a", || None));
        let both = Target::named(vec!["a".into(), "x".into()]).without(vec!["x".into()]);
        assert!(
            both.wants(&processes, 1, b"a") && !both.wants(&processes, 1, b"x") && !both.wants(&processes, 1, b"b")
        );
        assert!(both.wants_none_of(1, b"b", || threads(&["b", "x"])));
        assert!(!both.wants_none_of(1, b"b", || threads(&["b", "a"])));
        let mut command = Target::default().without(vec!["x".into()]);
        command.follow(5);
        assert!(command.wants(&processes, 5, b"a") && !command.wants(&processes, 5, b"x"));
        assert!(command.wants_none_of(4, b"a", || panic!("it is not followed")));
        assert!(!command.wants_none_of(5, b"a", || threads(&["a"])));
    }
}
