//! A writer that is killed loses nothing that it had appended, and the store always opens.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use store::{Limits, Store};

use crate::batches::{Maker, Random, plain};
use crate::{all, assert_holds, long, open, quick_folder, segments};

/// Copies a history's files, the newest segment cut to `length`.
fn copy_cut(from: &Path, to: &Path, length: u64, with_index: bool) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if with_index || name != "index.redb" {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
    let newest = segments(to).pop().unwrap();
    fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(length).unwrap();
}

#[test]
fn a_segment_that_is_cut_anywhere_keeps_all_its_whole_chunks() {
    let source = quick_folder();
    let mut maker = Maker::new(4);
    maker.samples = 3;
    let batches: Vec<_> = (0..3).map(|_| maker.batch()).collect();
    let mut store = open(source.path());
    let segment = |folder: &Path| segments(folder)[0].clone();
    let mut ends = Vec::new();
    for batch in &batches {
        store.append(batch).unwrap();
        ends.push(fs::metadata(segment(source.path())).unwrap().len());
    }
    drop(store);
    let next = maker.batch();

    // All of it takes some thousand times the opening of a database.
    let step = if long() { 1 } else { 211 };
    let borders = ends.iter().flat_map(|end| [end - 1, *end]);
    let cuts = (0..ends[2]).step_by(step).chain(borders).chain([1, 15, 16, 17]);
    for cut in cuts {
        for with_index in [true, false] {
            let folder = quick_folder();
            copy_cut(source.path(), folder.path(), cut, with_index);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let mut store = open(folder.path());
            assert_holds(&store.reader(), &batches[..whole]);
            assert!(store.set_aside().is_empty(), "cut at {cut}");
            store.append(&next).unwrap();
            drop(store);
            let expected = [&batches[..whole], std::slice::from_ref(&next)].concat();
            assert_holds(&open(folder.path()).reader(), &expected);
        }
    }
}

const WRITER_FOLDER: &str = "EVERFLAME_TEST_WRITER_FOLDER";
const WRITER_SEED: &str = "EVERFLAME_TEST_WRITER_SEED";
const WRITER_BYTES: &str = "EVERFLAME_TEST_WRITER_BYTES";

/// What the tests below start and kill: appends and flushes for ever, and says after each batch that it is there.
#[test]
fn writer_that_is_killed() {
    let (Some(folder), Ok(seed)) = (std::env::var_os(WRITER_FOLDER), std::env::var(WRITER_SEED)) else { return };
    let bytes = std::env::var(WRITER_BYTES).unwrap().parse().unwrap();
    let mut maker = Maker::new(seed.parse().unwrap());
    let mut store = Store::open(Path::new(&folder), limits(bytes)).unwrap();
    // Its parent is to end it. Should it be gone, the pipe is broken, and this panics.
    for count in 1_u64.. {
        store.append(&maker.batch()).unwrap();
        writeln!(std::io::stdout(), "appended {count}").unwrap();
        if count % 3 == 0 {
            store.flush().unwrap();
        }
    }
}

fn limits(bytes: u64) -> Limits {
    // Each writer begins at the same time of 2023.
    Limits { age: Duration::from_secs(100 * 365 * 86_400), bytes }
}

/// Starts a writer and kills it once it has appended `wanted` batches and is somewhere in what comes after. How many it said there were.
fn killed_writer(folder: &Path, seed: u64, bytes: u64, wanted: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(WRITER_FOLDER, folder)
        .env(WRITER_SEED, seed.to_string())
        .env(WRITER_BYTES, bytes.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    while acknowledged < wanted {
        let line = lines.next().unwrap().unwrap();
        // The first line has the test's name before it.
        if let Some(count) = line.rsplit("appended ").next().and_then(|count| count.parse().ok()) {
            acknowledged = count;
        }
    }
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged
}

#[test]
fn a_writer_that_is_killed_at_any_point_loses_nothing_that_it_appended() {
    let mut random = Random(77);
    let (mut kills, mut kept, mut torn) = (0, 0, 0);
    // All that a folder has is read after each.
    for _ in 0..20 {
        let folder = quick_folder();
        let mut expected = Vec::new();
        for _ in 0..5 {
            kills += 1;
            let acknowledged = killed_writer(folder.path(), kills, 1 << 30, 1 + random.below(12));
            let newest = segments(folder.path()).pop().unwrap();
            let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
            let before = length(&newest);
            let store = Store::open(folder.path(), limits(1 << 30)).unwrap();
            assert!(store.set_aside().is_empty());
            // What was being written is cut off, and nothing is that was not counted.
            assert_eq!(store.counters().bytes_cut, before.saturating_sub(length(&newest).max(16)), "round {kills}");
            torn += u64::from(store.counters().bytes_cut > 0);
            let (found, _) = all(&store.reader());
            let written = found.len() as u64 - expected.len() as u64;
            assert!(written >= acknowledged, "{written} of {acknowledged} in round {kills}");
            let mut maker = Maker::new(kills);
            expected.extend((0..written).map(|_| plain(&maker.batch())));
            assert!(found.iter().map(plain).eq(expected.iter().cloned()), "round {kills}");
            kept += written;
        }
    }
    println!("{kills} writers killed, of which {torn} in the middle of a chunk: {kept} batches, none lost");
    assert_eq!(kills, 100);
}

#[test]
fn a_writer_that_is_killed_while_segments_end_and_are_removed_leaves_a_history_without_holes() {
    let folder = quick_folder();
    let mut random = Random(78);
    // Segments end at 16 KiB, after some batches, and there is room for none but the one in hand.
    let bytes = 256 << 10;
    let mut most = 0;
    for seed in 1..=20 {
        let acknowledged = killed_writer(folder.path(), seed, bytes, 1 + random.below(40));
        let store = Store::open(folder.path(), limits(bytes)).unwrap();
        assert!(store.set_aside().is_empty(), "{:?}", store.set_aside());
        // Killed before it removed them, it leaves the segments before as well.
        let found: Vec<_> = all(&store.reader()).0.iter().map(plain).collect();
        let mut maker = Maker::new(seed);
        let mut written = Vec::new();
        while written.last() != found.last() {
            assert!(written.len() < 10_000, "a batch that nobody wrote, in round {seed}");
            written.push(plain(&maker.batch()));
        }
        assert!(written.len() as u64 >= acknowledged, "{} of {acknowledged}", written.len());
        // What this writer wrote, up to the last one, without a hole.
        let begun = found.iter().position(|batch| written.contains(batch)).unwrap();
        let own = &found[begun..];
        assert!(written.ends_with(own), "round {seed}: {} of {}", own.len(), written.len());
        most = most.max(own.len());
    }
    println!("20 writers killed, which left up to {most} batches in a row");
    assert!(most > 1);
}
