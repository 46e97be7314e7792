//! [`Lookup`]: separate debug files, first in the target's root, then on the host.
//!
//! A file found is used only if its build id is the executable's, or, where one of them has none, its checksum is the one in
//! `.gnu_debuglink`. Paths come from hostile files: see [`root`] for how they are kept inside the target's root.

mod link;
mod root;

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::Object;

use crate::elf;
use crate::executable::Executable;
use crate::image::Image;
use crate::limits::{Deadline, TimeUp};
use crate::silence::Origin;
use crate::statistics::{Counters, Failure};
use crate::watch::Watch;
pub(crate) use link::Supplementary;
pub(crate) use root::{Directory, Open, Root};

/// Where distributions put debug files.
pub(crate) const DEBUG_DIRECTORY: &str = "/usr/lib/debug";

/// Finds files for one executable.
pub(crate) struct Lookup<'l> {
    executable: &'l Executable,
    counters: &'l Counters,
    watch: &'l Watch,
    /// What the thread is at between searches: the executable, or the last file that is of use.
    between: Cell<Option<Origin>>,
    root: Option<Root>,
    directories: Vec<PathBuf>,
}

/// A file that was found.
pub(crate) struct FoundFile {
    pub(crate) image: Arc<Image>,
    pub(crate) path: PathBuf,
}

impl<'l> Lookup<'l> {
    pub(crate) fn new(executable: &'l Executable, counters: &'l Counters, watch: &'l Watch) -> Self {
        Self::with_directories(executable, counters, watch, &[])
    }

    /// `directories` are searched besides [`DEBUG_DIRECTORY`].
    pub(crate) fn with_directories(
        executable: &'l Executable,
        counters: &'l Counters,
        watch: &'l Watch,
        directories: &[PathBuf],
    ) -> Self {
        let root = executable.root.clone().map(Root::of);
        let mut directories = directories.to_vec();
        directories.push(DEBUG_DIRECTORY.into());
        Self { executable, counters, watch, between: Cell::new(watch.origin()), root, directories }
    }

    /// The file at that absolute path.
    pub(crate) fn open(&self, path: &Path) -> Option<Arc<Image>> {
        self.kept(self.candidates(path).next())
    }

    /// The same path in the root and on the host.
    fn candidates<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = Arc<Image>> + 'a {
        let inside = move || self.found(|| self.root.as_ref().map_or(Open::Absent, |root| root.file(path, self.watch)));
        let outside = move || self.found(|| root::host_file(path, self.watch));
        std::iter::once_with(inside).chain(std::iter::once_with(outside)).flatten().filter_map(|file| self.map(&file))
    }

    /// What one search finds.
    fn found(&self, search: impl FnOnce() -> Open) -> Option<File> {
        self.watch.at(self.between.get());
        match search() {
            Open::Found(file) => return Some(file),
            Open::Absent => {}
            Open::Unsupported => self.counters.fail(Failure::RootUnsupported),
            Open::Silent => self.counters.fail(Failure::Silent),
        }
        None
    }

    /// A file that is of use is read from now on, and a hang is put down to its device; else it is as before the search.
    fn kept<T>(&self, found: Option<T>) -> Option<T> {
        match found {
            Some(_) => self.between.set(self.watch.origin()),
            None => self.watch.at(self.between.get()),
        }
        found
    }

    fn map(&self, file: &File) -> Option<Arc<Image>> {
        match Image::map(file) {
            Ok(image) => Some(Arc::new(image)),
            Err(_) => {
                self.counters.fail(Failure::DebugFileUnreadable);
                None
            }
        }
    }

    /// The file beside the executable with `extension` added to its whole name.
    pub(crate) fn beside_executable(&self, extension: &str) -> Option<Arc<Image>> {
        let mut path = self.executable.path.clone().into_os_string();
        path.push(".");
        path.push(extension);
        self.open(Path::new(&path))
    }

    /// The debug file of `file` (the executable).
    pub(crate) fn debug_file(&self, file: &object::File<'_>, deadline: &Deadline) -> Result<Option<FoundFile>, TimeUp> {
        let build_id = elf::build_id(file);
        if let Some(path) = build_id.and_then(build_id_path)
            && let Some(found) = self.by_build_id(&path, build_id)
        {
            return Ok(Some(found));
        }
        let Ok(Some((name, checksum))) = file.gnu_debuglink() else { return Ok(None) };
        for path in link::candidates(&self.executable.path, name, &self.directories) {
            for image in self.candidates(&path) {
                if link::matches(&image, build_id, checksum, deadline)? {
                    return Ok(self.kept(Some(FoundFile { image, path: path.clone() })));
                }
                self.counters.fail(Failure::DebugFileMismatch);
            }
        }
        Ok(self.kept(None))
    }

    fn by_build_id(&self, relative: &Path, build_id: Option<&[u8]>) -> Option<FoundFile> {
        let found = self.directories.iter().find_map(|directory| {
            let path = directory.join(relative);
            let image = self.candidates(&path).find(|image| {
                let same = object::File::parse(&***image).is_ok_and(|file| elf::build_id(&file) == build_id);
                if !same {
                    self.counters.fail(Failure::DebugFileMismatch);
                }
                same
            })?;
            Some(FoundFile { image, path })
        });
        self.kept(found)
    }

    /// The supplementary (dwz) file that the debug file at `debug_path` names.
    pub(crate) fn supplementary(&self, link: &Supplementary, debug_path: &Path) -> Option<Arc<Image>> {
        let by_id = build_id_path(&link.build_id).and_then(|path| self.by_build_id(&path, Some(&link.build_id)));
        if let Some(found) = by_id {
            return Some(found.image);
        }
        let path = debug_path.parent().unwrap_or(Path::new("/")).join(&link.path);
        let found = self.kept(self.candidates(&path).find(|image| {
            object::File::parse(&***image).is_ok_and(|file| elf::build_id(&file).is_none_or(|id| id == link.build_id))
        }));
        if found.is_none() {
            self.counters.fail(Failure::SupplementaryMissing);
        }
        found
    }
}

/// `.build-id/ab/cdef….debug`.
fn build_id_path(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    if rest.is_empty() {
        return None;
    }
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug")))
}
