//! Executables that nobody uses any more are let go of: file, rows and place in the tables.
//!
//! An open file keeps its file system mounted and a deleted file's blocks on the disk, so this is not only about our memory.

use super::early_files::MAX_HELD;
use super::executable::{Executable, RowState};
use super::executables::{Executables, KnownFile, MAX_EXECUTABLES};
use super::roots::MAX_ROOTS;
use super::{ExecutableIndex, FileKey};
use crate::tables::Tables;

/// How long an executable that nobody uses is kept, ns: programs that are run every minute are not read anew each time.
const KEEP_NS: u64 = 180_000_000_000;
/// The same while there is no room for new ones.
const KEEP_PRESSED_NS: u64 = 10_000_000_000;
/// Between two sweeps, ns; each looks at every mapping of every sampled process, some ms on a large node.
const SWEEP_EVERY_NS: u64 = 10_000_000_000;
/// Descriptors for all else: perf events and rings, maps, sockets, the symbolizer's files.
const OTHER_FILES: usize = 1024;

/// When to sweep, and how many may stay.
pub(super) struct Sweep {
    last_ns: u64,
    is_pressed: bool,
    most: usize,
}

impl Sweep {
    /// `open_files` is how many descriptors the process may have.
    pub(super) fn new(open_files: usize) -> Sweep {
        // Small limits are shared with the rest; better few executables than no sockets.
        let left = open_files.saturating_sub(OTHER_FILES + MAX_HELD + MAX_ROOTS).max(open_files / 4);
        Sweep { last_ns: 0, is_pressed: false, most: left.min(MAX_EXECUTABLES) }
    }

    /// Most executables at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// There was no room for an executable.
    pub(super) fn press(&mut self) {
        self.is_pressed = true;
    }
}

/// How many descriptors this process may have (`RLIMIT_NOFILE`).
pub(super) fn open_files_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid rlimit to write to.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    if known { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { OTHER_FILES }
}

impl Executables {
    /// Whether it is time for [`Executables::forget_unused`].
    pub fn is_sweep_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.sweep.last_ns) >= SWEEP_EVERY_NS
    }

    /// Lets go of executables that have not been `in_use` for three minutes, sooner if there is no room for others. In use are
    /// those that a process maps, a table in the kernel names or a batch shows; all others' indices find nothing afterwards.
    pub fn forget_unused(&mut self, now_ns: u64, in_use: impl Fn(ExecutableIndex) -> bool, tables: &mut Tables) {
        self.sweep.last_ns = now_ns;
        self.retry_refused(now_ns);
        let keep_ns = if std::mem::take(&mut self.sweep.is_pressed) { KEEP_PRESSED_NS } else { KEEP_NS };
        let is_old = |last_used_ns: u64| now_ns.saturating_sub(last_used_ns) > keep_ns;
        let mut unused = Vec::new();
        for (index, executable) in self.slots.iter_mut() {
            // The vDSO is the kernel's and always there; what is being read is let go of afterwards.
            let stays = executable.file.is_none() || matches!(executable.rows, RowState::Building) || in_use(index);
            if stays {
                executable.last_used_ns = now_ns;
            } else if is_old(executable.last_used_ns.max(executable.last_sampled_ns)) {
                unused.push(index);
            }
        }
        for index in unused {
            if let Some(executable) = self.slots.remove(index) {
                self.counters.forgotten += 1;
                release(executable, tables);
            }
        }
        let slots = &self.slots;
        let is_kept = |index: ExecutableIndex| slots.get(index).is_some();
        self.by_identity.retain(|_, index| is_kept(*index));
        self.by_file.retain(|_, KnownFile { executable, last_used_ns }| {
            executable.is_none_or(is_kept) && !is_old(*last_used_ns)
        });
        self.early.forget(is_kept);
    }

    /// Estimate of the memory that the table takes, bytes, rows apart: those are the slab's.
    pub fn bytes(&self) -> usize {
        const TEXTS_AND_SEGMENTS: usize = 512;
        let each = size_of::<Executable>() + TEXTS_AND_SEGMENTS + size_of::<([u8; 32], ExecutableIndex)>();
        self.slots.len() * each + self.by_file.len() * size_of::<(FileKey, KnownFile)>() + self.early.bytes()
    }
}

fn release(executable: Executable, tables: &mut Tables) {
    if let RowState::Loaded(loaded) = executable.rows {
        tables.unload_executable(loaded);
    }
    if let Some(descriptor) = executable.descriptor {
        tables.release_descriptor(descriptor);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::mappings::{Backing, Mapping};
    use super::super::patience::until;
    use super::super::snapshot::{Resolution, Resolved};
    use super::*;
    use crate::tables::Segments;

    /// Our own program, as if process 7 had mapped it; the `/proc` in which it did is made up.
    fn with_our_own_program() -> (tempfile::TempDir, Executables, Mapping, ExecutableIndex) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7/map_files");
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/proc/self/exe", folder.join("1000-2000")).unwrap();
        let mut executables = Executables::new(root.path());
        let mapping = Mapping {
            start: 0x1000,
            end: 0x2000,
            file_offset: 0,
            device: (8, 1),
            inode: 0,
            path: "/own".into(),
            backing: Backing::File,
        };
        let opened = super::super::opening::open_mapped(root.path(), 7, &mapping).unwrap();
        let index = executables.know(opened, None, (None, None), &mapping).unwrap();
        (root, executables, mapping, index)
    }

    fn tables() -> Tables {
        Tables::new(Segments::unpublished(), 4 << 20)
    }

    #[test]
    fn an_executable_goes_three_minutes_after_its_last_use_with_all_that_knew_it() {
        let (root, mut executables, mapping, index) = with_our_own_program();
        let mut tables = tables();
        let descriptor = executables.descriptor(index, &mut tables).unwrap();
        assert_ne!(descriptor, 0);
        until("its rows are built", || {
            executables.wait(std::time::Duration::from_secs(1));
            executables.take_finished(&mut tables).unwrap();
            (executables.working() == 0).then_some(())
        });
        let rows_bytes = tables.used_bytes();
        assert!(rows_bytes > 1000, "our own program has rows");
        executables.forget_unused(KEEP_NS, |_| false, &mut tables);
        assert!(executables.get(index).is_some(), "not yet");
        executables.forget_unused(2 * KEEP_NS, |used| used == index, &mut tables);
        executables.forget_unused(3 * KEEP_NS, |_| false, &mut tables);
        assert!(executables.get(index).is_some(), "it was in use until three minutes ago");
        executables.forget_unused(3 * KEEP_NS + 1, |_| false, &mut tables);
        assert!(executables.get(index).is_none());
        assert_eq!(executables.counters.forgotten, 1);
        assert!(executables.by_file.is_empty() && executables.by_identity.is_empty());
        tables.wait_for_programs();
        assert_eq!(tables.used_bytes(), tables.escape_bytes(), "rows and descriptor are free again");

        let opened = super::super::opening::open_mapped(root.path(), 7, &mapping).unwrap();
        let again = executables.know(opened, None, (None, None), &mapping).unwrap();
        assert_eq!(again.slot, index.slot);
        assert!(again != index && executables.get(index).is_none() && executables.get(again).is_some());
        assert_eq!(executables.descriptor(index, &mut tables).unwrap(), 0, "a stale index gets no table");
        let stale = Resolution::Known(Resolved { executable: index, bias: 0 });
        assert!(!matches!(executables.resolve(Path::new("/nowhere"), (7, &[]), &mapping), known if known == stale));
    }

    #[test]
    fn without_room_the_unused_go_sooner() {
        let (_root, mut executables, _, index) = with_our_own_program();
        executables.sweep.press();
        executables.forget_unused(KEEP_PRESSED_NS, |_| false, &mut tables());
        assert!(executables.get(index).is_some());
        executables.sweep.press();
        executables.forget_unused(KEEP_PRESSED_NS + 1, |_| false, &mut tables());
        assert!(executables.get(index).is_none());
    }

    #[test]
    fn executables_share_the_descriptors_with_the_rest_of_the_agent() {
        for (limit, most) in [(1024, 256), (4096, 1024), (10_000, 10_000 - 3072), (1 << 20, MAX_EXECUTABLES)] {
            assert_eq!(Sweep::new(limit).most(), most, "{limit}");
        }
    }
}
