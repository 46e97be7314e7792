//! Opening: what a killed writer, a damaged disk or another version left behind becomes segments that can be read, and an index that
//! says what is in them.
//!
//! The newest segment is read whole, since a crash can have left anything at its end, which is cut off. Of an older one only the
//! length is looked at; should its content be damaged, the first question that meets it says so. A file that is not what it
//! should be is set aside: it gets another name, is reported, and is removed when its time comes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::bytes::Malformed;
use super::chunk;
use super::columns;
use super::error::StoreError;
use super::index::{ChunkRow, Index};
use super::segment::{Beginning, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentFile, file_name, number_of};

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
    /// Bytes that were cut off the newest segment.
    pub(super) cut_bytes: u64,
    pub(super) next_number: u32,
}

/// Brings files and index together.
pub(super) fn recover(folder: &Path, index: &Index) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered::default();
    let mut numbers = Vec::new();
    let entries = fs::read_dir(folder).map_err(StoreError::io("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = number_of(name) {
            numbers.push(number);
        } else if let Some(number) = name.strip_suffix(SET_ASIDE).and_then(number_of) {
            recovered.next_number = recovered.next_number.max(number.saturating_add(1));
            recovered.set_aside.push(describe(entry.path(), String::new()));
        }
    }
    numbers.sort_unstable();
    let newest = numbers.last().copied();
    for number in numbers {
        recovered.next_number = recovered.next_number.max(number.saturating_add(1));
        let path = folder.join(file_name(number));
        match check(&path, index, number, Some(number) == newest)? {
            Verdict::Good { facts, cut } => {
                recovered.segments.insert(number, facts);
                recovered.cut_bytes += cut;
            }
            Verdict::Empty => {
                index.replace(number, &[])?;
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            }
            Verdict::Bad(why) => {
                index.replace(number, &[])?;
                recovered.set_aside.push(set_aside(&path, why)?);
            }
        }
    }
    for (number, _) in index.snapshot()?.segments()? {
        if !recovered.segments.contains_key(&number) {
            index.replace(number, &[])?;
        }
    }
    Ok(recovered)
}

/// Gives a file another name, so that it is not looked at again.
pub(super) fn set_aside(path: &Path, why: String) -> Result<SetAside, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(SET_ASIDE);
    let aside = PathBuf::from(name);
    fs::rename(path, &aside).map_err(StoreError::io("rename", path))?;
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
    },
    /// There is nothing in it: its writer was killed while it was made.
    Empty,
    Bad(String),
}

fn check(path: &Path, index: &Index, number: u32, newest: bool) -> Result<Verdict, StoreError> {
    let Some(file) = SegmentFile::open(path.to_owned())? else { return Ok(Verdict::Empty) };
    match file.beginning()? {
        Beginning::Ours => {}
        Beginning::Unfinished => return Ok(Verdict::Empty),
        Beginning::OtherVersion(version) => {
            return Ok(Verdict::Bad(format!(
                "it is of version {version}, and this everflame reads version {FORMAT_VERSION}"
            )));
        }
        Beginning::NotASegment => return Ok(Verdict::Bad("it does not begin as a segment does".to_owned())),
    }
    let known = index.snapshot()?.chunks(number)?;
    let known_end = known.last().map_or(Ok(SEGMENT_HEADER_BYTES), ChunkRow::end);
    if !newest && !known.is_empty() && known_end == Ok(file.bytes()) {
        return Ok(Verdict::Good { facts: facts(&known, file.bytes()), cut: 0 });
    }
    let scan = scan(&file)?;
    if let Some(problem) = scan.problem
        && (!newest || scan.more_behind)
    {
        return Ok(Verdict::Bad(format!("damaged at byte {}: {problem}", scan.end)));
    }
    if scan.rows != known {
        index.replace(number, &scan.rows)?;
    }
    if scan.rows.is_empty() {
        return Ok(Verdict::Empty);
    }
    let cut = file.bytes() - scan.end;
    if cut > 0 {
        let truncated = fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(scan.end));
        truncated.map_err(StoreError::io("cut", path))?;
    }
    Ok(Verdict::Good { facts: facts(&scan.rows, scan.end), cut })
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
    /// Whether a chunk's header stands behind a bad chunk: then it is not the end that a crash leaves.
    more_behind: bool,
}

/// Reads a whole segment and checks each chunk.
fn scan(file: &SegmentFile) -> Result<Scan, StoreError> {
    let mut scan = Scan { rows: Vec::new(), end: SEGMENT_HEADER_BYTES, problem: None, more_behind: false };
    while scan.end < file.bytes() {
        match chunk_at(file, scan.end, scan.rows.len() as u32) {
            Ok(row) => {
                scan.end = row.end().unwrap_or(u64::MAX);
                scan.rows.push(row);
            }
            Err(StoreError::Damaged { problem, .. }) => {
                scan.problem = Some(problem);
                let behind = file.header(scan.end).map(|header| scan.end.saturating_add(header.chunk_bytes()));
                scan.more_behind = behind.is_ok_and(|behind| file.header(behind).is_ok());
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(scan)
}

fn chunk_at(file: &SegmentFile, offset: u64, number: u32) -> Result<ChunkRow, StoreError> {
    let bytes = file.chunk(offset)?;
    let damaged = |problem| file.damaged(offset, problem);
    let (header, [samples, ..]) = chunk::decode(&bytes).map_err(damaged)?;
    if header.number != number {
        return Err(damaged(Malformed("a chunk out of order")));
    }
    let (facts, samples) = columns::decode(&samples).map_err(damaged)?;
    let header = bytes.first_chunk().ok_or_else(|| damaged(Malformed("a chunk that is cut short")))?;
    Ok(ChunkRow::new(offset, *header, &facts, &samples))
}
