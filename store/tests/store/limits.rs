//! What is too old or too much is removed.

use std::time::Duration;

use profiles::profile::{Batch, Function, FunctionIndex, Line, Stack};
use store::{Limits, Store, StoreError};

use crate::batches::{Maker, SECOND, START, plain};
use crate::{all, assert_holds, open, quick_folder, segments};

#[test]
fn segments_last_an_hour_and_go_when_all_of_them_is_too_old() {
    let folder = quick_folder();
    let limits = Limits { age: Duration::from_secs(3 * 3600), bytes: 1 << 30 };
    let mut store = Store::open(folder.path(), limits).unwrap();
    let reader = store.reader();
    // 6 hours, a batch each 10 minutes.
    for batch in 0..36 {
        let mut maker = Maker::after(8, batch * 60);
        maker.samples = 5;
        store.append(&maker.batch()).unwrap();
    }
    let hours = |hours: u64| START + hours * 3600 * SECOND;
    let (first, _) = reader.extent().unwrap().unwrap();
    // The newest sample is nearly at the sixth hour; the segment of the third one ends after "3 hours ago".
    assert!((hours(2)..hours(2) + 10 * SECOND).contains(&first), "{first}");
    assert_eq!(segments(folder.path()).len(), 4);
    assert_eq!(all(&reader).0.len(), 24);
    assert_eq!(store.counters().segments_removed, 2);
}

#[test]
fn bytes_stay_within_the_limit_and_the_oldest_go_first() {
    let folder = quick_folder();
    let limits = Limits { age: Duration::from_secs(1 << 40), bytes: 8 << 20 };
    let mut store = Store::open(folder.path(), limits).unwrap();
    let mut maker = Maker::new(9);
    maker.samples = 4000;
    let mut last = None;
    for _ in 0..120 {
        let batch = maker.batch();
        store.append(&batch).unwrap();
        // A batch of 4,000 samples may come on top of the limit, and the segment that it is in.
        let index = std::fs::metadata(folder.path().join("index.redb")).unwrap().len();
        assert!(store.bytes() < limits.bytes + limits.bytes / 8, "{} of which index {index}", store.bytes());
        last = Some(batch);
    }
    assert!(store.counters().segments_removed > 0);
    let (found, _) = all(&store.reader());
    assert_eq!(found.last().map(|batch| batch.wall_start_ns), last.map(|batch| batch.wall_start_ns));
    let times: Vec<u64> = found.iter().map(|batch| batch.wall_start_ns).collect();
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 10 * SECOND), "no holes");
    let on_disk: u64 =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk < store.bytes() + 100, "all files are counted, but for the lock");
}

/// Gives a batch functions of its own, with names of so many bytes.
fn with_names(batch: &mut Batch, number: usize, functions: usize, bytes: usize) {
    let names: Vec<_> = (0..functions)
        .map(|function| {
            let name = format!("{number}::{function}::");
            batch.strings.intern(&(name.clone() + &"x".repeat(bytes - name.len())))
        })
        .collect();
    let file = batch.strings.intern("src/main.rs");
    batch.functions =
        names.iter().map(|name| Function { name: *name, system_name: *name, filename: file, start_line: 1 }).collect();
    let lines = |from: usize| (from..functions).step_by(batch.locations.len());
    let lines: Vec<Vec<Line>> = (0..batch.locations.len())
        .map(|from| {
            lines(from).map(|function| Line { function: FunctionIndex(function as u32), line: 1, column: 0 }).collect()
        })
        .collect();
    for (location, lines) in batch.locations.iter_mut().zip(lines) {
        location.lines = lines;
    }
}

#[test]
fn a_segment_ends_when_its_names_take_too_much_memory() {
    let folder = quick_folder();
    let mut store = open(folder.path());
    let mut maker = Maker::new(14);
    let mut batches = Vec::new();
    for number in 0..12 {
        let mut batch = maker.batch();
        // 1.5 MB.
        with_names(&mut batch, number, 1500, 1000);
        store.append(&batch).unwrap();
        batches.push(batch);
    }
    // After five or six it is beyond 8 MiB.
    assert!((2..=3).contains(&segments(folder.path()).len()));
    assert_holds(&store.reader(), &batches);
}

#[test]
fn of_texts_and_stacks_that_are_too_long_the_beginning_is_kept_and_it_is_counted() {
    let folder = quick_folder();
    let mut store = open(folder.path());
    let mut batch = Maker::new(15).batch();
    with_names(&mut batch, 0, 40, 70_000);
    let deep = batch.stacks.iter().position(|stack| !stack.locations.is_empty()).unwrap();
    let leaf = batch.stacks[deep].locations[0];
    batch.locations[leaf.0 as usize].lines.clear();
    batch.stacks[deep] = Stack { locations: vec![leaf; 5000] };
    store.append(&batch).unwrap();
    let counters = store.counters();
    let used = batch.samples.iter().flat_map(|sample| &batch.stacks[sample.stack.0 as usize].locations);
    let used = used.flat_map(|location| &batch.locations[location.0 as usize].lines);
    let names: std::collections::BTreeSet<u32> = used.map(|line| line.function.0).collect();
    // Ends of the stack make it several; each is counted.
    assert!(counters.frames_cut > 0 && counters.frames_cut.is_multiple_of(904), "{counters:?}");
    assert_eq!(counters.texts_cut, names.len() as u64);

    let mut expected = plain(&batch);
    for sample in &mut expected {
        sample.frames.truncate(4096);
        for (name, system_name, ..) in sample.frames.iter_mut().flat_map(|(.., lines)| lines) {
            name.truncate(65_536);
            system_name.truncate(65_536);
        }
    }
    let (found, _) = all(&store.reader());
    assert!(plain(&found[0]) == expected);
}

#[test]
fn a_batch_that_is_too_large_is_refused_with_its_samples_and_the_next_one_is_not() {
    let folder = quick_folder();
    let mut store = open(folder.path());
    let mut maker = Maker::new(16);
    let good = [maker.batch(), maker.batch()];
    store.append(&good[0]).unwrap();
    let mut huge = maker.batch();
    // 72 MB.
    with_names(&mut huge, 0, 1200, 60_000);
    assert!(matches!(store.append(&huge), Err(StoreError::Batch(_))));
    store.append(&good[1]).unwrap();
    let counters = store.counters();
    assert_eq!((counters.batches_refused, counters.samples_refused), (1, 40));
    assert_eq!((counters.batches, counters.samples), (2, 80));
    assert_holds(&store.reader(), &good);
    drop(store);
    let store = open(folder.path());
    assert_holds(&store.reader(), &good);
    assert!(store.set_aside().is_empty());
}
