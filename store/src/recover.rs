//! Opening: what a killed writer, a damaged disk or another version left behind becomes segments that can be read, and an index that
//! says what is in them.
//!
//! The newest segment is read whole, since a crash can have left anything at its end, which is cut off. Its end is what the index does
//! not know yet: what it knows was on the disk before, and is damaged if it is not good. Of an older one that the disk confirmed only the
//! length is looked at; should its content be damaged, the first question that meets it says so. A file that is not what it should be is set aside: it gets
//! another name, is reported, and is removed when its time comes. One file never ends the history: what can be neither renamed nor
//! removed stays as a segment that nobody reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{fs, io};

use super::bytes::Malformed;
use super::chunk::{ChunkHeader, Section};
use super::columns;
use super::error::StoreError;
use super::index::{ChunkRow, Index};
use super::segment::{Beginning, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentFile, UNREADABLE, file_name, number_of};

/// Ending of the name of a file that was set aside.
const SET_ASIDE: &str = ".set-aside";

/// A file that is not part of the history any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its new name.
    pub path: PathBuf,
    /// Why, for people. Empty for one that an earlier run set aside.
    pub why: String,
    pub(super) bytes: u64,
    /// When it was written last, ns since the Unix epoch.
    pub(super) modified_ns: u64,
}

/// A segment of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentFacts {
    pub(super) last_ns: u64,
    pub(super) bytes: u64,
}

/// What is there after opening.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) segments: BTreeMap<u32, SegmentFacts>,
    pub(super) set_aside: Vec<SetAside>,
    /// Files that could not be renamed or removed. They are among the segments, but the index does not know them.
    pub(super) stuck: BTreeSet<PathBuf>,
    /// Bytes that were cut off, of the newest segment and of those that the disk did not confirm.
    pub(super) cut_bytes: u64,
    /// Segments of which the disk did not confirm all.
    pub(super) unconfirmed: BTreeSet<u32>,
    pub(super) syncs_failed: u64,
    pub(super) next_number: u32,
}

impl Recovered {
    /// Notes that a number is taken; `None` if there is none after it.
    fn take(&mut self, number: u32) -> Option<()> {
        self.next_number = self.next_number.max(number.checked_add(1)?);
        Some(())
    }

    fn count_cut(&mut self, bytes: u64) {
        // By a damaged index it may be any number.
        self.cut_bytes = self.cut_bytes.saturating_add(bytes);
    }

    /// Gives a segment that is none another name.
    fn put_aside(&mut self, number: u32, path: &Path, why: String) {
        match set_aside(path, why) {
            Ok(file) => self.set_aside.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.leave(number, path),
        }
    }

    /// Leaves a file that nobody reads where it is, as old as it was written last.
    fn leave(&mut self, number: u32, path: &Path) {
        let SetAside { bytes, modified_ns, .. } = describe(path.to_owned(), String::new());
        self.keep(number, path, SegmentFacts { last_ns: modified_ns, bytes });
    }

    /// Removes a segment that has nothing; whether it is gone.
    fn remove(&mut self, number: u32, path: &Path) -> bool {
        match fs::remove_file(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(_) => {
                let SetAside { bytes, .. } = describe(path.to_owned(), String::new());
                // As old as can be, so that it is tried again with each batch.
                self.keep(number, path, SegmentFacts { last_ns: 0, bytes });
                false
            }
        }
    }

    fn keep(&mut self, number: u32, path: &Path, facts: SegmentFacts) {
        self.segments.insert(number, facts);
        self.stuck.insert(path.to_owned());
    }
}

/// Brings files and index together.
pub(super) fn recover(folder: &Path, index: &Index) -> Result<Recovered, StoreError> {
    let is_new = index.snapshot()?.is_empty()?;
    let recovered = bring_together(folder, index, is_new);
    if recovered.is_err() && is_new {
        // If it can't even do that, the first failure says why.
        let _ = forget_all(index);
    }
    recovered
}

/// An index that was to be made anew and knows some segments only would pass next time for one that knew them all.
fn forget_all(index: &Index) -> Result<(), StoreError> {
    for (number, _) in index.snapshot()?.segments()? {
        index.replace(number, &[])?;
    }
    Ok(())
}

fn bring_together(folder: &Path, index: &Index, is_new: bool) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered::default();
    let mut numbers = Vec::new();
    let entries = fs::read_dir(folder).map_err(StoreError::io("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = number_of(name) {
            if recovered.take(number).is_some() {
                numbers.push(number);
            } else {
                let why = "its number leaves none for later ones".to_owned();
                recovered.put_aside(number, &entry.path(), why);
            }
        } else if let Some(number) = name.strip_suffix(SET_ASIDE).and_then(number_of) {
            recovered.take(number);
            recovered.set_aside.push(describe(entry.path(), String::new()));
        }
    }
    numbers.sort_unstable();
    let newest = numbers.last().copied();
    for number in numbers {
        let path = folder.join(file_name(number));
        let verdict = match check(&path, (index, is_new), number, Some(number) == newest) {
            Err(error) if is_of_the_file(&error) => Verdict::Bad(error.to_string()),
            // It stays where it is: the next start finds it good, once somebody mended its rights.
            Err(error) if is_forbidden(&error) => {
                index.replace(number, &[])?;
                recovered.leave(number, &path);
                continue;
            }
            verdict => verdict?,
        };
        match verdict {
            Verdict::Good { facts, cut, synced } => {
                recovered.segments.insert(number, facts);
                recovered.count_cut(cut);
                recovered.syncs_failed += u64::from(!synced);
            }
            Verdict::Empty { cut } => {
                index.replace(number, &[])?;
                if recovered.remove(number, &path) {
                    recovered.count_cut(cut);
                }
            }
            Verdict::Bad(why) => {
                index.replace(number, &[])?;
                recovered.put_aside(number, &path, why);
            }
        }
    }
    let snapshot = index.snapshot()?;
    for number in snapshot.doubted()? {
        if recovered.segments.contains_key(&number) {
            recovered.unconfirmed.insert(number);
        } else {
            // The disk kept not even its name.
            recovered.count_cut(end_of(&snapshot.chunks(number)?));
            index.replace(number, &[])?;
        }
    }
    for (number, _) in snapshot.segments()? {
        if !recovered.segments.contains_key(&number) {
            index.replace(number, &[])?;
        }
    }
    Ok(recovered)
}

/// Where these rows end, bytes from the segment's beginning.
fn end_of(rows: &[ChunkRow]) -> u64 {
    rows.last().and_then(|row| row.end().ok()).unwrap_or(0)
}

/// Whether it is one file that the system refuses, and for good. What the process lacks now is asked again later.
fn is_of_the_file(error: &StoreError) -> bool {
    let StoreError::Io { source, .. } = error else { return false };
    let code = source.raw_os_error();
    matches!(code, Some(libc::EISDIR | libc::ELOOP | libc::ENXIO | libc::ENODEV))
}

/// Whether the file may be good, and everflame has no right to it.
fn is_forbidden(error: &StoreError) -> bool {
    let StoreError::Io { source, .. } = error else { return false };
    matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

/// Gives a file another name, so that it is not looked at again.
pub(super) fn set_aside(path: &Path, why: String) -> io::Result<SetAside> {
    let mut name = path.as_os_str().to_owned();
    name.push(SET_ASIDE);
    let aside = PathBuf::from(name);
    fs::rename(path, &aside)?;
    Ok(describe(aside, why))
}

fn describe(path: PathBuf, why: String) -> SetAside {
    let metadata = fs::metadata(&path).ok();
    let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
    let age = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    SetAside {
        path,
        why,
        bytes: metadata.map_or(0, |metadata| metadata.len()),
        modified_ns: age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
    }
}

enum Verdict {
    Good {
        facts: SegmentFacts,
        cut: u64,
        /// Whether all of it is known to be on the disk.
        synced: bool,
    },
    /// There is nothing whole in it: its writer was killed while it was made.
    Empty {
        cut: u64,
    },
    Bad(String),
}

/// `is_new` says that the index knew of no chunk at all.
fn check(path: &Path, (index, is_new): (&Index, bool), number: u32, newest: bool) -> Result<Verdict, StoreError> {
    let snapshot = index.snapshot()?;
    let mut known = snapshot.chunks(number)?;
    // What the disk did not confirm proves nothing, and what it lost of it is counted like an end that is cut off.
    let doubted = if snapshot.is_doubted(number)? { std::mem::take(&mut known) } else { Vec::new() };
    let written = end_of(&doubted);
    let file = match SegmentFile::open(path.to_owned()) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Verdict::Empty { cut: written }),
        Err(StoreError::Damaged { problem, .. }) => return Ok(Verdict::Bad(problem.to_string())),
        Err(error) => return Err(error),
    };
    let written = written.max(file.bytes());
    match file.beginning() {
        Ok(Beginning::Ours) => {}
        Ok(Beginning::Unfinished) if newest || known.is_empty() => {
            return Ok(Verdict::Empty { cut: written - file.bytes() });
        }
        Ok(Beginning::Unfinished) => return Ok(Verdict::Bad("it lost all that the index knows of".to_owned())),
        Ok(Beginning::OtherVersion(version)) => {
            return Ok(Verdict::Bad(format!(
                "it is of version {version}, and this everflame reads version {FORMAT_VERSION}"
            )));
        }
        Ok(Beginning::NotASegment) => return Ok(Verdict::Bad("it does not begin as a segment does".to_owned())),
        Err(StoreError::Damaged { problem, .. }) => return Ok(Verdict::Bad(problem.to_string())),
        Err(error) => return Err(error),
    }
    let known_end = known.last().map_or(Ok(SEGMENT_HEADER_BYTES), ChunkRow::end);
    if !newest && !known.is_empty() && known_end == Ok(file.bytes()) {
        return Ok(Verdict::Good { facts: facts(&known, file.bytes()), cut: 0, synced: true });
    }
    let scan = scan(&file)?;
    // Behind what the index knows nothing was confirmed, of whichever segment: a sync that fails ends one. In an older one a chunk further
    // on says that this is not the end.
    let unconfirmed = newest || (!is_new && scan.rows.len() >= known.len());
    if let Some(problem) = scan.problem
        && !(unconfirmed && is_torn_end(&file, (&known, is_new || !newest), scan.end, problem)?)
    {
        return Ok(Verdict::Bad(format!("damaged at byte {}: {problem}", scan.end)));
    }
    // Of the newest one a crash may have taken the end.
    if !newest && scan.rows.len() < known.len() {
        return Ok(Verdict::Bad(format!("it lost its end: {} chunks of {} are there", scan.rows.len(), known.len())));
    }
    if scan.rows != known {
        index.replace(number, &scan.rows)?;
    }
    let cut = written.saturating_sub(scan.end);
    if scan.rows.is_empty() {
        return Ok(Verdict::Empty { cut });
    }
    if file.bytes() > scan.end {
        let truncated = fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(scan.end));
        truncated.map_err(StoreError::io("cut", path))?;
    }
    // A killed writer may not have waited for its last minute. The index says from now on that it is there.
    let synced = file.sync().is_ok();
    if !synced {
        index.doubt(number)?;
    }
    Ok(Verdict::Good { facts: facts(&scan.rows, scan.end), cut, synced })
}

/// Whether a problem at `end` can be what a crash leaves: what was written last, of which a machine without power has some pages and
/// some not.
fn is_torn_end(
    file: &SegmentFile,
    (known, is_new): (&[ChunkRow], bool),
    end: u64,
    problem: Malformed,
) -> Result<bool, StoreError> {
    let is_there = |row: &ChunkRow| row.offset >= end && row.end().is_ok_and(|end| end <= file.bytes());
    if problem == UNREADABLE || known.iter().any(is_there) {
        return Ok(false);
    }
    // An index that was made anew does not know what was whole. Then something behind says that this is not the end.
    let more_behind = if is_new { file.has_header_from(end + 1) } else { Ok(false) };
    match more_behind {
        Err(StoreError::Damaged { .. }) => Ok(false),
        found => found.map(|found| !found),
    }
}

fn facts(rows: &[ChunkRow], bytes: u64) -> SegmentFacts {
    let last = rows.iter().filter_map(|row| row.header().ok()).map(|header| header.last_ns).max();
    SegmentFacts { last_ns: last.unwrap_or(0), bytes }
}

struct Scan {
    rows: Vec<ChunkRow>,
    /// Where the last good chunk ends.
    end: u64,
    /// What is wrong there.
    problem: Option<Malformed>,
}

/// Reads a whole segment and checks each chunk.
fn scan(file: &SegmentFile) -> Result<Scan, StoreError> {
    let mut scan = Scan { rows: Vec::new(), end: SEGMENT_HEADER_BYTES, problem: None };
    while scan.end < file.bytes() {
        match chunk_at(file, scan.end, scan.rows.len() as u32) {
            Ok(row) => {
                scan.end = row.end().unwrap_or(u64::MAX);
                scan.rows.push(row);
            }
            Err(StoreError::Damaged { problem, .. }) => {
                scan.problem = Some(problem);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(scan)
}

fn chunk_at(file: &SegmentFile, offset: u64, number: u32) -> Result<ChunkRow, StoreError> {
    let damaged = |problem| file.damaged(offset, problem);
    let bytes = file.header_bytes(offset)?;
    let header = ChunkHeader::parse(&bytes).map_err(damaged)?;
    if header.number != number {
        return Err(damaged(Malformed("a chunk out of order")));
    }
    for section in [Section::Owners, Section::Shapes, Section::Exact] {
        file.section(offset, &header, section)?;
    }
    let samples = file.section(offset, &header, Section::Samples)?;
    let (facts, samples) = columns::decode(&samples).map_err(damaged)?;
    // By these it is removed one day.
    if columns::times(&facts, &samples) != (header.first_ns, header.last_ns) {
        return Err(damaged(Malformed("a chunk of another time than its samples")));
    }
    Ok(ChunkRow::new(offset, bytes, &facts, &samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_can_t_read_is_never_the_end_that_a_crash_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name(0));
        fs::write(&path, [0; 200]).unwrap();
        let file = SegmentFile::open(path).unwrap().unwrap();
        let is_torn = |is_new, problem| is_torn_end(&file, (&[], is_new), 16, problem).unwrap();
        for is_new in [true, false] {
            assert!(is_torn(is_new, Malformed("a chunk's header with a wrong checksum")));
            assert!(!is_torn(is_new, UNREADABLE));
        }
    }

    #[test]
    fn an_index_that_could_not_be_made_anew_is_one_that_knows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(&folder.path().join("index")).unwrap();
        let row = ChunkRow { offset: 16, header: [0; super::super::chunk::HEADER_BYTES], sums: Vec::new() };
        for number in [0, 7] {
            index.add(number, 0, &row, (1, 2)).unwrap();
        }
        assert!(!index.snapshot().unwrap().is_empty().unwrap());
        forget_all(&index).unwrap();
        let snapshot = index.snapshot().unwrap();
        assert!(snapshot.is_empty().unwrap() && snapshot.segments().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_refused_is_told_from_a_process_that_lacks_something() {
        let cases = [
            (libc::EISDIR, (true, false)),
            (libc::EACCES, (false, true)),
            (libc::EPERM, (false, true)),
            (libc::ELOOP, (true, false)),
            (libc::EMFILE, (false, false)),
            (libc::ENOMEM, (false, false)),
            (libc::ENOSPC, (false, false)),
        ];
        for (code, expected) in cases {
            let error = StoreError::io("read", Path::new("a"))(io::Error::from_raw_os_error(code));
            assert_eq!((is_of_the_file(&error), is_forbidden(&error)), expected, "{error}");
        }
        assert!(!is_of_the_file(&StoreError::IndexClosed) && !is_forbidden(&StoreError::IndexClosed));
    }
}
