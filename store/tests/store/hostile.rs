//! Files that are damaged behind right checksums, as nobody's disk does it: between good segments, whose answers stay whole.

use std::fs;
use std::path::Path;
use std::time::Duration;

use profiles::profile::{Batch, Function};
use store::{Grouping, Label, Limits, Query, Reader, Store};

use crate::batches::{Maker, SECOND, START};
use crate::edit::{self, Chunk, OWNERS, SAMPLES, SHAPES};
use crate::functions::rows;
use crate::{assert_holds, open, quick_folder, segments};

/// A batch with functions of names that no other segment has.
fn batch(maker: &mut Maker, segment: u64) -> Batch {
    let mut batch = maker.batch();
    let file = batch.strings.intern(&format!("src/{segment}.rs"));
    let names: Vec<_> = (0..4).map(|name| batch.strings.intern(&format!("only::in{segment}::f{name}"))).collect();
    batch.functions =
        names.into_iter().map(|name| Function { name, system_name: name, filename: file, start_line: 3 }).collect();
    batch
}

/// Three segments with three batches each, in a folder without an index.
pub(crate) fn three_segments(folder: &Path) -> Vec<Batch> {
    let mut batches = Vec::new();
    for segment in 0..3 {
        let mut store = open(folder);
        let mut maker = Maker::after(70 + segment, segment * 3);
        for _ in 0..3 {
            let batch = batch(&mut maker, segment);
            store.append(&batch).unwrap();
            batches.push(batch);
        }
    }
    fs::remove_file(folder.join("index.redb")).unwrap();
    batches
}

/// What each question has for an answer, in words, and whether it left out a segment.
pub(crate) fn answers(reader: &Reader) -> Vec<(&'static str, String, u64)> {
    let query = Query { from_ns: START + 3 * SECOND, to_ns: START + 88 * SECOND, filters: Vec::new() };
    let mut answers = Vec::new();
    for (name, grouping) in
        [("threads", Grouping::Threads), ("processes", Grouping::Processes), ("functions", Grouping::Functions)]
    {
        let sums = reader.stacks(&query, grouping).unwrap();
        let facts = (sums.batch.wall_start_ns, sums.batch.duration_ns, sums.batch.ledger, sums.left_out_ns);
        let words = format!("{facts:?} {:?}", rows(&sums, |frames| frames));
        answers.push((name, words, sums.skipped.damaged_segments));
    }
    for (name, step) in [("series", 10 * SECOND), ("fine series", SECOND)] {
        let mut series = reader.series(&query, Label::Process, step, 2).unwrap();
        let skipped = std::mem::take(&mut series.skipped);
        answers.push((name, format!("{series:?}"), skipped.damaged_segments));
    }
    let mut values = reader.values(&query, Label::Process, 2).unwrap();
    let skipped = std::mem::take(&mut values.skipped);
    answers.push(("values", format!("{values:?}"), skipped.damaged_segments));
    // Of these nobody tells what was left out.
    answers.push(("labels", format!("{:?}", reader.labels(&query).unwrap()), 0));
    answers
}

type Damage = fn(&mut Vec<Chunk>);

#[test]
fn a_segment_that_is_damaged_behind_its_checksums_is_left_out_of_each_answer_whole() {
    let source = quick_folder();
    let batches = three_segments(source.path());
    let files = segments(source.path());
    let copied = |numbers: &[usize]| {
        let folder = quick_folder();
        for segment in numbers.iter().map(|number| &files[*number]) {
            fs::copy(segment, folder.path().join(segment.file_name().unwrap())).unwrap();
        }
        folder
    };
    let [whole, without] = [&[0, 1, 2][..], &[0, 2]].map(|numbers| answers(&open(copied(numbers).path()).reader()));

    let stacks = ["threads", "processes", "functions"];
    let owners = ["series", "fine series", "values"];
    let all = [&stacks[..], &owners].concat();
    let cases: [(&str, Damage, &[&str]); 6] = [
        (
            "a thread that is not there",
            |chunks| edit::set_last_thread(&mut chunks[1].sections[SAMPLES], u32::MAX),
            &all,
        ),
        ("the thread after the last one", |chunks| edit::set_last_thread(&mut chunks[2].sections[SAMPLES], 200), &all),
        (
            "a stack that is not there",
            |chunks| edit::set_last_trace(&mut chunks[2].sections[SAMPLES], u32::MAX),
            &stacks,
        ),
        (
            "a function without a text",
            |chunks| edit::spoil_text(&mut chunks[0].sections[SHAPES], "only::in1::f2"),
            &stacks,
        ),
        ("a file without a text", |chunks| edit::spoil_text(&mut chunks[0].sections[SHAPES], "src/1.rs"), &stacks),
        ("an owner without a text", |chunks| edit::spoil_text(&mut chunks[0].sections[OWNERS], "postgres"), &all),
    ];
    for (what, damage, damaged) in cases {
        let folder = copied(&[0, 1, 2]);
        edit::edit(&segments(folder.path())[1], damage);
        let mut store = open(folder.path());
        assert!(store.set_aside().is_empty(), "{what}: {:?}", store.set_aside());
        let expected = whole.iter().zip(&without);
        for ((question, found, skipped), (whole, without)) in answers(&store.reader()).into_iter().zip(expected) {
            let is_damaged = damaged.contains(&question);
            assert_eq!(skipped, u64::from(is_damaged), "{what}: {question}");
            let is_left_out = is_damaged || question == "labels" && damaged.contains(&"values");
            let (_, expected, _) = if is_left_out { without } else { whole };
            assert!(found == *expected, "{what}: {question}\n{found}\n{expected}");
        }
        // Then it is set aside, and the others are all there is.
        let next = Maker::after(80, 9).batch();
        store.append(&next).unwrap();
        assert_eq!(store.set_aside().len(), 1, "{what}");
        let rest = [&batches[..3], &batches[6..], &[next]].concat();
        assert_holds(&store.reader(), &rest);
    }
}

#[test]
fn a_chunk_of_another_time_than_its_samples_is_no_good_one() {
    let changes: [Damage; 3] = [
        |chunks| chunks[2].last_ns = u64::MAX,
        |chunks| chunks[1].first_ns = 0,
        |chunks| (chunks[0].first_ns, chunks[0].last_ns) = (START - SECOND, START - SECOND),
    ];
    for change in changes {
        let folder = quick_folder();
        let batches = three_segments(folder.path());
        edit::edit(&segments(folder.path())[0], change);
        let store = open(folder.path());
        let aside = store.set_aside();
        assert!(aside.len() == 1 && aside[0].why.contains("a chunk of another time than its samples"), "{aside:?}");
        assert_holds(&store.reader(), &batches[3..]);
    }
}

#[test]
fn samples_of_the_far_future_make_nothing_old() {
    let folder = quick_folder();
    // The samples are some years old.
    let limits = Limits { age: Duration::from_secs(100 * 365 * 86_400), ..Limits::default() };
    let mut expected = Vec::new();
    for (segment, jump_ns) in [(0, 0), (1, u64::MAX / 4 * 3), (2, 0)] {
        let mut store = Store::open(folder.path(), limits).unwrap();
        let mut maker = Maker::after(90 + segment, segment * 2);
        for _ in 0..2 {
            let mut batch = maker.batch();
            batch.wall_start_ns += jump_ns;
            store.append(&batch).unwrap();
            expected.push(batch);
        }
        assert_eq!(store.counters().segments_removed, 0);
    }
    assert_holds(&open_with(folder.path(), limits).reader(), &expected);
}

fn open_with(folder: &Path, limits: Limits) -> Store {
    Store::open(folder, limits).unwrap()
}

#[test]
fn a_file_with_the_last_number_does_not_end_the_history() {
    let folder = quick_folder();
    let mut maker = Maker::new(91);
    let batches = [maker.batch(), maker.batch()];
    open(folder.path()).append(&batches[0]).unwrap();
    let last = folder.path().join("4294967295.segment");
    fs::copy(&segments(folder.path())[0], &last).unwrap();
    let mut store = open(folder.path());
    store.append(&batches[1]).unwrap();
    assert_holds(&store.reader(), &batches);
    let aside = store.set_aside();
    assert_eq!((aside.len(), &*aside[0].why), (1, "its number leaves none for later ones"));
    drop(store);

    // With the last but one there is no number for another segment, which is said.
    fs::rename(&segments(folder.path())[1], folder.path().join("4294967294.segment")).unwrap();
    let mut store = open(folder.path());
    for _ in 0..2 {
        let error = store.append(&maker.batch()).unwrap_err().to_string();
        assert!(error.starts_with("can't number another segment in "), "{error}");
    }
    assert_holds(&store.reader(), &batches);
}
