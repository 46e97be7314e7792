//! Questions with a second thread, which opens segments ahead: the answers are the same, whatever happens to a segment.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use store::{Grouping, Query, StoreError};

use crate::batches::{SECOND, START};
use crate::damage::overwrite;
use crate::hostile::{answers, three_segments};
use crate::{open, quick_folder, segments};

#[test]
fn answers_are_the_same_and_whoever_counts_is_told_of_each_second_thread() {
    type Happens = fn(&Path);
    let cases: [(&str, Happens); 3] = [
        ("all is well", |_| ()),
        ("one is damaged", |segment| overwrite(segment, 300, b"garbage")),
        ("one is gone", |segment| fs::remove_file(segment).unwrap()),
    ];
    for (what, happens) in cases {
        let folder = quick_folder();
        three_segments(folder.path());
        let store = open(folder.path());
        happens(&segments(folder.path())[1]);
        let expected = answers(&store.reader());
        let threads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&threads);
        let asking = std::thread::current().id();
        let helped = store.reader().helped_by(Arc::new(move |work: &mut dyn FnMut()| {
            assert_ne!(std::thread::current().id(), asking);
            counted.fetch_add(1, Ordering::Relaxed);
            work();
        }));
        assert!(answers(&helped) == expected, "{what}");
        // A series looks for its values first.
        assert_eq!((threads.load(Ordering::Relaxed), expected.len()), (9, 7), "{what}: one for each question");
        // Where nobody does what is to be done on the second thread, the first one does it.
        let unhelped = store.reader().helped_by(Arc::new(|_: &mut dyn FnMut()| ()));
        assert!(answers(&unhelped) == expected, "{what}");
    }
}

#[test]
fn a_question_of_one_segment_takes_one_thread_and_one_that_is_given_up_ends() {
    let folder = quick_folder();
    three_segments(folder.path());
    let store = open(folder.path());
    let asked = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&asked);
    let given_up = Arc::new(AtomicBool::new(false));
    let reader = store.reader().until(Arc::clone(&given_up)).helped_by(Arc::new(move |work: &mut dyn FnMut()| {
        told.store(true, Ordering::Relaxed);
        work();
    }));
    // Each has thirty seconds.
    let query = Query { from_ns: START + 31 * SECOND, to_ns: START + 59 * SECOND, filters: Vec::new() };
    assert!(reader.stacks(&query, Grouping::Functions).unwrap().samples() > 0);
    assert!(!asked.load(Ordering::Relaxed));
    let query = Query { to_ns: START + 61 * SECOND, ..query };
    assert!(reader.stacks(&query, Grouping::Functions).unwrap().samples() > 0);
    assert!(asked.load(Ordering::Relaxed));
    given_up.store(true, Ordering::Relaxed);
    let error = reader.stacks(&query, Grouping::Functions);
    assert!(matches!(error, Err(StoreError::GivenUp)), "{:?}", error.err());
}
