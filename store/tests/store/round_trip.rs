//! Batches come back as they were.

use profiles::profile::{ProcessIndex, StackIndex};
use store::{StoreError, decode_segment};

use crate::batches::{Maker, SECOND, START, plain};
use crate::{all, assert_holds, open, quick_folder, segments};

#[test]
fn batches_come_back_exactly_now_and_after_opening_again() {
    let folder = quick_folder();
    let mut maker = Maker::new(1);
    let batches: Vec<_> = (0..30).map(|_| maker.batch()).collect();
    let mut store = open(folder.path());
    let reader = store.reader();
    assert_eq!(reader.extent().unwrap(), None);
    for (count, batch) in batches.iter().enumerate() {
        store.append(batch).unwrap();
        // Seen at once, without a flush.
        assert_eq!(all(&reader).0.len(), count + 1);
    }
    assert_holds(&reader, &batches);
    let (found, _) = all(&reader);
    for (found, expected) in found.iter().zip(&batches) {
        let facts = |batch: &profiles::profile::Batch| {
            (batch.wall_start_ns, batch.monotonic_start_ns, batch.duration_ns, batch.period_ns, batch.ledger)
        };
        assert_eq!(facts(found), facts(expected));
    }
    let counters = store.counters();
    assert_eq!((counters.batches, counters.samples, counters.index_failures), (30, 1200, 0));
    drop(store);
    let mut alone = Vec::new();
    decode_segment(&std::fs::read(&segments(folder.path())[0]).unwrap(), |batch| alone.push(plain(&batch))).unwrap();
    assert_eq!(alone, batches.iter().map(plain).collect::<Vec<_>>());

    let mut store = open(folder.path());
    assert_holds(&store.reader(), &batches);
    let more = maker.batch();
    store.append(&more).unwrap();
    assert_holds(&store.reader(), &[batches, vec![more]].concat());
    let (first, last) = store.reader().extent().unwrap().unwrap();
    assert!(
        (START..START + 10 * SECOND).contains(&first) && (START + 300 * SECOND..START + 310 * SECOND).contains(&last)
    );
}

#[test]
fn a_batch_without_samples_and_one_that_is_read_alone_are_fine() {
    let folder = quick_folder();
    let mut maker = Maker::new(2);
    let mut store = open(folder.path());
    let first = maker.batch();
    maker.samples = 0;
    let empty = maker.batch();
    maker.samples = 40;
    let last = maker.batch();
    for batch in [&first, &empty, &last] {
        store.append(batch).unwrap();
    }
    let mut found = Vec::new();
    store.reader().batches(START + 20 * SECOND, START + 30 * SECOND, |batch| found.push(batch)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(plain(&found[0]), plain(&last));
    assert_holds(&store.reader(), &[first, empty, last]);
}

#[test]
fn a_batch_that_does_not_hold_together_is_refused_and_the_next_one_is_not() {
    let folder = quick_folder();
    let mut maker = Maker::new(3);
    let mut store = open(folder.path());
    let good = [maker.batch(), maker.batch()];
    store.append(&good[0]).unwrap();
    let mut stack = maker.batch();
    stack.samples[7].stack = StackIndex(9999);
    let mut process = maker.batch();
    process.samples[39].process = ProcessIndex(9999);
    for broken in [stack, process] {
        assert!(matches!(store.append(&broken), Err(StoreError::Batch(_))));
    }
    store.append(&good[1]).unwrap();
    assert_eq!((store.counters().batches, store.counters().batches_refused), (2, 2));
    assert_holds(&store.reader(), &good);
    drop(store);
    assert_holds(&open(folder.path()).reader(), &good);
}

#[test]
fn a_question_that_is_given_up_ends_at_the_next_chunk() {
    let folder = quick_folder();
    let mut maker = Maker::new(5);
    let mut store = open(folder.path());
    for _ in 0..5 {
        store.append(&maker.batch()).unwrap();
    }
    let given_up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = store.reader().until(given_up.clone());
    let mut seen = 0;
    let error = reader.batches(0, u64::MAX, |_| {
        seen += 1;
        given_up.store(seen == 2, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(matches!(error, Err(StoreError::GivenUp)), "{error:?}");
    assert_eq!(seen, 2);
    assert_eq!(all(&store.reader()).0.len(), 5);
}
