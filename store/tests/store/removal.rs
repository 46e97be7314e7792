//! Files that go away: under a reader's eyes, because there is no room, and not at all.

use std::fs;
use std::path::Path;
use std::time::Duration;

use profiles::profile::Batch;
use store::{Grouping, Limits, Query, Skipped, Store};

use crate::batches::Maker;
use crate::damage::{overwrite, three_segments};
use crate::{all, assert_holds, open, quick_folder, segments};

const EVERYTHING: Query = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };

/// The index alone takes more, so that all goes but the segment in hand.
const NO_ROOM: Limits = Limits { age: Duration::from_secs(1 << 32), bytes: 1 << 20 };

fn open_without_room(folder: &Path) -> Store {
    Store::open(folder, NO_ROOM).unwrap()
}

#[test]
fn a_reader_goes_on_when_segments_are_removed_meanwhile() {
    let folder = quick_folder();
    three_segments(folder.path());
    let mut store = open_without_room(folder.path());
    let reader = store.reader();
    let mut found = Vec::new();
    let next = Maker::after(6, 6).batch();
    let skipped = reader.batches(0, u64::MAX, |batch| {
        if found.is_empty() {
            store.append(&next).unwrap();
        }
        found.push(batch);
    });
    // What it had open it reads to the end.
    assert_eq!(skipped.unwrap(), Skipped { damaged_segments: 0, removed_segments: 2 });
    assert_eq!(found.len(), 2);
    assert_eq!(store.counters().segments_removed, 3);
    assert_holds(&reader, &[next]);
}

#[test]
fn a_reader_goes_on_when_a_segment_is_set_aside_meanwhile() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    overwrite(&segments(folder.path())[1], 300, b"garbage");
    let mut store = open(folder.path());
    let reader = store.reader();
    let mut found = Vec::new();
    let skipped = reader.batches(0, u64::MAX, |batch| {
        if found.is_empty() {
            let other = store.reader().stacks(&EVERYTHING, Grouping::Threads).unwrap();
            assert_eq!(other.skipped, Skipped { damaged_segments: 1, removed_segments: 0 });
            store.append(&Maker::after(6, 6).batch()).unwrap();
        }
        found.push(batch);
    });
    assert_eq!(skipped.unwrap(), Skipped { damaged_segments: 0, removed_segments: 1 });
    assert_eq!(found.len(), batches.len() - 2);
}

#[test]
fn a_segment_that_somebody_deleted_is_left_out_and_not_called_damaged() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    let store = open(folder.path());
    fs::remove_file(&segments(folder.path())[1]).unwrap();
    let (found, skipped) = all(&store.reader());
    assert_eq!((found.len(), skipped), (4, Skipped { damaged_segments: 0, removed_segments: 1 }));
    drop(store);
    assert_holds(&open(folder.path()).reader(), &[&batches[..2], &batches[4..]].concat());
}

#[test]
fn what_was_set_aside_goes_first_when_there_is_no_room() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    let aside = folder.path().join("00000007.segment.set-aside");
    // Of a length, not of bytes.
    fs::File::create(&aside).unwrap().set_len(64 << 20).unwrap();
    let mut store = Store::open(folder.path(), Limits { bytes: 32 << 20, ..NO_ROOM }).unwrap();
    assert!(store.set_aside().len() == 1 && store.bytes() > 64 << 20);
    let next = Maker::after(6, 6).batch();
    store.append(&next).unwrap();
    assert!(!aside.exists() && store.set_aside().is_empty() && store.bytes() < 32 << 20);
    assert_eq!((store.counters().segments_removed, store.counters().removals_failed), (0, 0));
    assert_holds(&store.reader(), &[batches, vec![next]].concat());
    // Its number is not used again.
    assert!(segments(folder.path()).last().unwrap().ends_with("00000008.segment"));
}

#[test]
fn what_was_set_aside_goes_when_its_time_comes() {
    let folder = quick_folder();
    let aside = folder.path().join("00000000.segment.set-aside");
    let file = fs::File::create(&aside).unwrap();
    let year = Duration::from_secs(365 * 86_400);
    let mut maker = Maker::new(92);
    // The batches are of November 2023.
    for (years, stays) in [(53, true), (50, false)] {
        file.set_modified(std::time::UNIX_EPOCH + year * years).unwrap();
        let mut store = Store::open(folder.path(), Limits { age: year, ..Limits::default() }).unwrap();
        store.append(&maker.batch()).unwrap();
        assert_eq!((aside.exists(), store.set_aside().len()), (stays, usize::from(stays)), "{years}");
    }
}

#[test]
fn a_file_that_can_t_be_removed_is_counted_once_keeps_its_bytes_and_is_tried_again() {
    let folder = quick_folder();
    three_segments(folder.path());
    let mut store = open_without_room(folder.path());
    // What can't be unlinked: a directory.
    let first = segments(folder.path())[0].clone();
    let first_bytes = fs::metadata(&first).unwrap().len();
    fs::remove_file(&first).unwrap();
    fs::create_dir(&first).unwrap();
    let others = || {
        let others =
            ["index.redb", "00000003.segment"].map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
        others.iter().sum::<u64>()
    };
    let mut maker = Maker::after(6, 6);
    let mut expected: Vec<Batch> = Vec::new();
    for _ in 0..3 {
        expected.push(maker.batch());
        store.append(expected.last().unwrap()).unwrap();
        let counters = store.counters();
        assert_eq!((counters.segments_removed, counters.removals_failed), (2, 1));
    }
    // Nobody is asked to read it.
    assert_holds(&store.reader(), &expected);
    assert_eq!(store.bytes(), others() + first_bytes);
    fs::remove_dir(&first).unwrap();
    fs::write(&first, "").unwrap();
    expected.push(maker.batch());
    store.append(expected.last().unwrap()).unwrap();
    assert!(!first.exists());
    assert_eq!((store.counters().segments_removed, store.counters().removals_failed), (3, 1));
    assert_eq!(store.bytes(), others());
}

#[test]
fn a_damaged_segment_that_can_t_be_renamed_is_out_of_the_way_and_keeps_its_bytes() {
    let folder = quick_folder();
    let batches = three_segments(folder.path());
    let middle = segments(folder.path())[1].clone();
    overwrite(&middle, 300, b"garbage");
    let mut store = open(folder.path());
    assert_eq!(all(&store.reader()).1.damaged_segments, 1);
    // A file does not take the place of a directory.
    fs::create_dir(folder.path().join("00000001.segment.set-aside")).unwrap();
    let before = store.bytes();
    let next = Maker::after(6, 6).batch();
    store.append(&next).unwrap();
    let counters = store.counters();
    assert_eq!((counters.set_aside, counters.removals_failed), (0, 1));
    assert!(middle.exists() && store.bytes() >= before);
    let mut expected = [&batches[..2], &batches[4..], &[next]].concat();
    assert_holds(&store.reader(), &expected);
    // It ends no history: it is stuck for the next one as well.
    drop(store);
    let mut store = open(folder.path());
    expected.push(Maker::after(7, 7).batch());
    store.append(expected.last().unwrap()).unwrap();
    assert_holds(&store.reader(), &expected);
    let counters = store.counters();
    assert_eq!((counters.set_aside, counters.removals_failed, counters.segments_removed), (0, 1, 0));
    assert!(middle.exists() && store.bytes() >= before);
    // Once it can be renamed it is, with the next opening.
    drop(store);
    fs::remove_dir(folder.path().join("00000001.segment.set-aside")).unwrap();
    let store = open(folder.path());
    assert_holds(&store.reader(), &expected);
    assert_eq!((store.counters().set_aside, store.counters().removals_failed), (1, 0));
}

#[test]
fn there_are_ten_thousand_segments_at_most() {
    let folder = quick_folder();
    let mut maker = Maker::new(93);
    maker.samples = 1;
    open(folder.path()).append(&maker.batch()).unwrap();
    let first = segments(folder.path())[0].clone();
    for number in 1..10_000 {
        fs::hard_link(&first, folder.path().join(format!("{number:08}.segment"))).unwrap();
    }
    let mut store = open(folder.path());
    for more in 1..=2 {
        store.append(&maker.batch()).unwrap();
        assert_eq!(segments(folder.path()).len(), 10_000);
        assert_eq!(store.counters().segments_removed, 1, "after {more}");
    }
}
