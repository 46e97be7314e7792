//! Damaged files, files of another version, and a damaged index.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use profiles::profile::Batch;
use store::{Grouping, Limits, Query, Skipped, Store, StoreError, decode_segment};

use crate::batches::{Maker, Random};
use crate::{all, assert_holds, edit, open, quick_folder, segments};

const EVERYTHING: Query = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };

/// Three segments with two batches each.
pub(crate) fn three_segments(folder: &Path) -> Vec<Batch> {
    let mut maker = Maker::new(5);
    let mut batches = Vec::new();
    for _ in 0..3 {
        let mut store = open(folder);
        for _ in 0..2 {
            let batch = maker.batch();
            store.append(&batch).unwrap();
            batches.push(batch);
        }
    }
    batches
}

fn flip(path: &Path, at: u64) {
    let byte = fs::read(path).unwrap()[at as usize];
    overwrite(path, at, &[byte ^ 0x10]);
}

pub(crate) fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_damaged_segment_is_left_out_then_set_aside_and_the_rest_stays() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    let middle = segments(folder.path())[1].clone();
    overwrite(&middle, 300, b"garbage");
    let mut store = open(folder.path());
    let reader = store.reader();
    let rest = [&batches[..2], &batches[4..]].concat();

    let skipped = Skipped { damaged_segments: 1, removed_segments: 0 };
    let (found, found_skipped) = all(&reader);
    assert_eq!((found.len(), found_skipped), (4, skipped));
    assert_eq!(reader.stacks(&EVERYTHING, Grouping::Threads).unwrap().skipped, skipped);

    let next = Maker::after(6, 6).batch();
    store.append(&next).unwrap();
    assert_holds(&reader, &[rest, vec![next]].concat());
    let aside = store.set_aside();
    assert_eq!(aside.len(), 1);
    // Its first chunk is the damaged one.
    let bytes = fs::read(&aside[0].path).unwrap();
    assert!(decode_segment(&bytes, |_| panic!("a batch of a damaged chunk")).is_err());
    let new_name = folder.path().join("00000001.segment.set-aside");
    assert_eq!(aside[0].path, new_name);
    assert!(aside[0].why.starts_with(&format!("{} is damaged at byte 16: ", middle.display())), "{}", aside[0].why);
    assert!(new_name.exists() && !middle.exists());
    assert_eq!(store.counters().set_aside, 1);
    drop(store);
    // Known to the next run, as that of an earlier one.
    assert_eq!(open(folder.path()).set_aside()[0].why, "");
}

#[test]
fn a_segment_that_is_damaged_while_it_is_written_is_set_aside_and_writing_goes_on() {
    let folder = quick_folder();
    let mut maker = Maker::new(7);
    let mut store = open(folder.path());
    store.append(&maker.batch()).unwrap();
    overwrite(&segments(folder.path())[0], 200, b"garbage");
    assert_eq!(all(&store.reader()).1.damaged_segments, 1);
    let next = maker.batch();
    store.append(&next).unwrap();
    assert_holds(&store.reader(), &[next]);
    assert_eq!(store.set_aside().len(), 1);
}

#[test]
fn what_is_no_segment_of_this_version_is_set_aside_when_opening() {
    // (what, where, bytes, what is said)
    let cases: [(&str, &[u8], &str); 3] = [
        (
            "another version",
            &[b"EVFLHIST\x01\0\0\0", &crc32fast::hash(b"EVFLHIST\x01\0\0\0").to_le_bytes()[..]].concat(),
            "it is of version 1, and this everflame reads version 2",
        ),
        ("another file", b"GARBAGE!", "it does not begin as a segment does"),
        ("a chunk in the middle of an unindexed one", b"", "damaged at byte 16: "),
    ];
    for (what, beginning, why) in cases {
        let folder = quick_folder();
        let batches = three_segments(folder.path());
        let first = &segments(folder.path())[0];
        if beginning.is_empty() {
            fs::remove_file(folder.path().join("index.redb")).unwrap();
            overwrite(first, 100, b"garbage");
        }
        overwrite(first, 0, beginning);
        let store = open(folder.path());
        assert_holds(&store.reader(), &batches[2..]);
        let aside = store.set_aside();
        assert_eq!(aside.len(), 1, "{what}");
        assert!(aside[0].why.starts_with(why), "{what}: {}", aside[0].why);
    }
}

/// A history of one segment with `known` batches that the index knows, and `unknown` ones that it does not, as a killed writer leaves it.
fn killed(folder: &Path, known: usize, unknown: usize) -> Vec<Batch> {
    let mut maker = Maker::new(13);
    let mut store = open(folder);
    let batches: Vec<Batch> = (0..known + unknown).map(|_| maker.batch()).collect();
    for batch in &batches[..known] {
        store.append(batch).unwrap();
    }
    store.flush().unwrap();
    let index = fs::read(folder.join("index.redb")).unwrap();
    for batch in &batches[known..] {
        store.append(batch).unwrap();
    }
    drop(store);
    if known == 0 {
        fs::remove_file(folder.join("index.redb")).unwrap();
    } else {
        fs::write(folder.join("index.redb"), index).unwrap();
    }
    batches
}

#[test]
fn damage_in_the_newest_segment_is_set_aside_wherever_it_is_and_a_torn_end_is_cut() {
    // (chunks that the index knows, others, the damaged one, whether its header; whether that is the end that a crash leaves)
    let cases = [
        (6, 0, 0, true, false),
        (6, 0, 0, false, false),
        (6, 0, 3, true, false),
        (6, 0, 3, false, false),
        (6, 0, 5, true, false),
        (6, 0, 5, false, false),
        (3, 3, 2, true, false),
        // Pages of what was not flushed come to the disk in any order.
        (3, 3, 3, true, true),
        (3, 3, 4, false, true),
        (3, 3, 5, false, true),
        // Without an index whatever stands behind says that this is not the end.
        (0, 6, 0, true, false),
        (0, 6, 3, true, false),
        (0, 6, 3, false, false),
        (0, 6, 5, true, true),
        (0, 6, 5, false, true),
        (0, 1, 0, true, true),
    ];
    for (known, unknown, damaged, header, torn) in cases {
        let what = format!("{damaged} of {known} + {unknown}, header {header}");
        let folder = quick_folder();
        let batches = killed(folder.path(), known, unknown);
        let segment = segments(folder.path())[0].clone();
        let length = fs::metadata(&segment).unwrap().len();
        let offset = edit::chunks(&segment)[damaged].offset as u64;
        flip(&segment, offset + if header { 2 } else { 90 });
        let store = open(folder.path());
        let counters = store.counters();
        if torn {
            assert_holds(&store.reader(), &batches[..damaged]);
            assert_eq!((counters.set_aside, counters.bytes_cut), (0, length - offset), "{what}");
        } else {
            assert_eq!(all(&store.reader()).0.len(), 0, "{what}");
            assert_eq!((counters.set_aside, counters.bytes_cut), (1, 0), "{what}");
            let why = &store.set_aside()[0].why;
            assert!(why.starts_with(&format!("damaged at byte {offset}: ")), "{what}: {why}");
            assert_eq!(fs::metadata(&store.set_aside()[0].path).unwrap().len(), length);
        }
    }
}

#[test]
fn a_segment_that_the_disk_can_t_read_is_set_aside_when_opening() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    let first = &segments(folder.path())[0];
    fs::remove_file(first).unwrap();
    // Reading it fails as on a bad sector.
    std::os::unix::fs::symlink("/proc/self/mem", first).unwrap();
    let store = open(folder.path());
    assert_holds(&store.reader(), &batches[2..]);
    assert_eq!(store.set_aside().iter().map(|file| &*file.why).collect::<Vec<_>>(), ["the disk can't read it"]);
}

#[test]
fn an_older_segment_that_lost_its_end_is_set_aside_however_much_that_is() {
    let source = quick_folder();
    three_segments(source.path());
    let first = &segments(source.path())[0];
    let length = fs::metadata(first).unwrap().len();
    let border = edit::chunks(first)[1].offset as u64;
    // (what is left, what is said)
    let cases = [
        (length - 1, format!("damaged at byte {border}: ")),
        (border, "it lost its end: 1 chunks of 2 are there".to_owned()),
        (border - 1, "damaged at byte 16: ".to_owned()),
        (16, "it lost its end: 0 chunks of 2 are there".to_owned()),
        (15, "it lost all that the index knows of".to_owned()),
        (0, "it lost all that the index knows of".to_owned()),
    ];
    for (left, why) in cases {
        let folder = quick_folder();
        let batches = three_segments(folder.path());
        let first = &segments(folder.path())[0];
        fs::OpenOptions::new().write(true).open(first).unwrap().set_len(left).unwrap();
        let store = open(folder.path());
        assert_holds(&store.reader(), &batches[2..]);
        let aside = store.set_aside();
        assert!(aside.len() == 1 && aside[0].why.starts_with(&why), "{left}: {aside:?}");
        assert_eq!((store.counters().set_aside, store.counters().bytes_cut), (1, 0), "{left}");
    }
}

#[test]
fn what_can_t_be_read_as_a_file_is_set_aside_and_does_not_end_the_history() {
    type Put = fn(&Path);
    let cases: [(&str, Put, &str); 2] = [
        ("a folder", |path| fs::create_dir(path).unwrap(), "Is a directory (os error 21)"),
        (
            "a link to itself",
            |path| std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap(),
            "Too many levels of symbolic links (os error 40)",
        ),
    ];
    for (what, put, why) in cases {
        let folder = quick_folder();
        let batches = three_segments(folder.path());
        let middle = &segments(folder.path())[1];
        fs::remove_file(middle).unwrap();
        put(middle);
        let store = open(folder.path());
        assert_holds(&store.reader(), &[&batches[..2], &batches[4..]].concat());
        let expected = format!("can't read {}: {why}", middle.display());
        assert_eq!(store.set_aside().iter().map(|file| &file.why).collect::<Vec<_>>(), [&expected], "{what}");
    }
}

#[test]
fn the_first_minute_of_a_new_segment_is_an_end_that_a_crash_leaves() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    let index = fs::read(folder.path().join("index.redb")).unwrap();
    let mut store = open(folder.path());
    let mut maker = Maker::after(6, 6);
    for _ in 0..3 {
        store.append(&maker.batch()).unwrap();
    }
    drop(store);
    // As the machine lost its power before the first flush: of the last pages any may be missing.
    fs::write(folder.path().join("index.redb"), index).unwrap();
    let newest = &segments(folder.path())[3];
    let length = fs::metadata(newest).unwrap().len();
    flip(newest, edit::chunks(newest)[0].offset as u64 + 90);
    let store = open(folder.path());
    assert_holds(&store.reader(), &batches);
    assert_eq!((store.counters().set_aside, store.counters().bytes_cut), (0, length - 16));
}

#[test]
fn a_damaged_index_is_made_again_from_the_segments() {
    let source = quick_folder();
    let batches = three_segments(source.path());
    let index = fs::read(source.path().join("index.redb")).unwrap();
    let mut random = Random(11);
    for round in 0..12 {
        let mut damaged = index.clone();
        match round {
            0 => damaged.clear(),
            1 => damaged.truncate(100),
            2 => damaged.truncate(index.len() / 2),
            3 => damaged.fill(0),
            4 => damaged[..4096].fill(0xff),
            _ => {
                for _ in 0..1 << (round - 4) {
                    let at = random.below(damaged.len() as u64 / 4) as usize;
                    damaged[at] ^= 1 << random.below(8);
                }
            }
        }
        fs::write(source.path().join("index.redb"), damaged).unwrap();
        let store = open(source.path());
        assert_holds(&store.reader(), &batches);
        assert!(store.set_aside().is_empty(), "round {round}");
    }
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not_in_the_way() {
    let folder = quick_folder();
    let store = open(folder.path());
    let reader = store.reader();
    let refused = Store::open(folder.path(), Limits::default()).err().unwrap().to_string();
    let expected = format!(
        "the history in {} is in use by another everflame (pid {})",
        folder.path().display(),
        std::process::id()
    );
    assert!(refused.starts_with(&expected), "{refused}");
    drop(store);
    open(folder.path());
    // It was the closed store's.
    assert!(matches!(reader.extent(), Err(StoreError::IndexClosed)));
}
