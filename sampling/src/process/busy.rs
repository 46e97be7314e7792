//! Who uses the processors just now: two looks at `/proc`, since one tells only what was used ever.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::proc_files::{list, read_cpu_ticks};

/// A first look.
#[derive(Debug)]
pub struct Busy {
    proc_root: PathBuf,
    before: HashMap<u32, u64>,
}

impl Busy {
    /// Looks at all processes: about 20 µs each.
    pub fn look(proc_root: &Path) -> Busy {
        Busy { proc_root: proc_root.to_owned(), before: ticks(proc_root).collect() }
    }

    /// The processes that have used a clock tick (10 ms) or more since then, also those that are new.
    pub fn since(&self) -> Vec<u32> {
        let has_worked = |(pid, now): &(u32, u64)| self.before.get(pid).copied().unwrap_or(0) < *now;
        ticks(&self.proc_root).filter(has_worked).map(|(pid, _)| pid).collect()
    }
}

fn ticks(proc_root: &Path) -> impl Iterator<Item = (u32, u64)> {
    list(proc_root).into_iter().filter_map(move |pid| Some((pid, read_cpu_ticks(proc_root, pid)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_worked_between_the_looks_is_busy() {
        let root = tempfile::tempdir().unwrap();
        let work = |pid: u32, user: u64, system: u64| {
            let directory = root.path().join(pid.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            let stat = format!("{pid} (a) b) R 1 1 1 0 -1 4194560 1 2 3 4 {user} {system} 7 8 20 0 1 0 4242 100");
            std::fs::write(directory.join("stat"), stat).unwrap();
        };
        work(10, 5, 5);
        work(11, 5, 5);
        work(12, 5, 5);
        work(13, 5, 5);
        let busy = Busy::look(root.path());
        work(11, 6, 5);
        work(12, 5, 6);
        std::fs::remove_dir_all(root.path().join("13")).unwrap();
        work(14, 0, 1);
        work(15, 0, 0);
        let mut found = busy.since();
        found.sort_unstable();
        assert_eq!(found, [11, 12, 14]);
    }
}
