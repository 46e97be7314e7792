//! Sums by function, against exact sums that are merged by function here.

use std::collections::BTreeMap;

use profiles::profile::{Batch, Function, FunctionIndex, Line, LocationKind};
use store::{Grouping, Label, Match, Query, Skipped, StackSums, sum_segment};
use unwind::end::End;

use crate::batches::{Maker, PlainFrame, Random, SECOND, START, plain};
use crate::{open, quick_folder, segments};

/// Functions of a location, innermost first. The last function has no name.
const LINES: [&[u32]; 8] = [&[], &[0], &[1], &[0, 1], &[2, 0, 1], &[5], &[0, 5], &[5, 1]];

/// A batch whose locations are at few lines of few functions, so that many differ in nothing but their address.
fn batch(maker: &mut Maker, random: &mut Random) -> Batch {
    let mut batch = maker.batch();
    let mut text = |text: &str| batch.strings.intern(text);
    let (file, other_file, unnamed) = (text("src/lib.rs"), text("src/other.rs"), text(""));
    let names = ["one", "two", "three", "one", "a name of more than sixteen bytes"].map(text);
    let function = |name, filename| Function { name, system_name: name, filename, start_line: 3 };
    batch.functions = names.iter().map(|name| function(*name, file)).chain([function(unnamed, file)]).collect();
    batch.functions[3].filename = other_file;
    for sample in batch.samples.iter_mut().filter(|sample| sample.cpu == 0) {
        (sample.end, sample.provenance) = (End::Complete, 0);
    }
    for location in &mut batch.locations {
        if location.address % 2 == 0 {
            (location.kind, location.mapping) = (LocationKind::Native, None);
        }
        location.lines = LINES[random.below(8) as usize]
            .iter()
            .map(|function| Line {
                function: FunctionIndex(*function),
                line: random.below(3) as u32,
                column: random.below(3) as u32,
            })
            .collect();
    }
    batch
}

/// Frames, leaf first, as a flame graph knows them.
fn by_function(mut frames: Vec<PlainFrame>) -> Vec<PlainFrame> {
    for (level, (_, _, address, lines)) in frames.iter_mut().enumerate() {
        if !lines.is_empty() && lines.iter().all(|(name, ..)| !name.is_empty()) {
            *address = 0;
        }
        for (inlining, (.., line, column)) in lines.iter_mut().enumerate() {
            *column = 0;
            if (level, inlining) != (0, 0) {
                *line = 0;
            }
        }
    }
    frames
}

/// Each row in words, with its sums; `change` is made with its frames.
pub(crate) fn rows(
    sums: &StackSums,
    change: impl Fn(Vec<PlainFrame>) -> Vec<PlainFrame>,
) -> BTreeMap<String, (u64, u64)> {
    let mut rows = BTreeMap::new();
    for (row, count) in plain(&sums.batch).into_iter().zip(&sums.counts) {
        let words = format!("{:?} {:?} {:?} {}", row.owner, change(row.frames), row.end, row.provenance);
        let (counts, weights): &mut (u64, u64) = rows.entry(words).or_default();
        *counts += count;
        *weights += row.weight_ns;
    }
    rows
}

#[test]
fn sums_by_function_are_exact_ones_merged_by_function() {
    let folder = quick_folder();
    let mut random = Random(17);
    let mut store = None;
    for segment in 0..4 {
        // Each opening begins a segment.
        drop(store.take());
        let mut opened = open(folder.path());
        let mut maker = Maker::after(40 + segment, segment * 10);
        for _ in 0..10 {
            opened.append(&batch(&mut maker, &mut random)).unwrap();
        }
        store = Some(opened);
    }
    let reader = store.as_ref().unwrap().reader();
    assert_eq!(segments(folder.path()).len(), 4);
    let everything = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };
    let part = Query { from_ns: START + 55 * SECOND, to_ns: START + 255 * SECOND, ..everything.clone() };
    let filters = vec![(Label::Pod, Match::Equals("pod-1".into())), (Label::Thread, Match::Prefix("ma".into()))];
    for query in [everything.clone(), part, Query { filters, ..everything }] {
        let [exact, functions] =
            [Grouping::Processes, Grouping::Functions].map(|grouping| reader.stacks(&query, grouping).unwrap());
        let expected = rows(&exact, by_function);
        // In no other form than the model has, and no row twice.
        assert!(rows(&functions, |frames| frames) == expected, "{query:?}");
        assert_eq!(functions.counts.len(), expected.len());
        assert!(expected.len() < exact.counts.len(), "{} rows of {}", expected.len(), exact.counts.len());
        let mut stacks: Vec<_> = functions.batch.stacks.iter().map(|stack| &stack.locations).collect();
        stacks.sort();
        stacks.dedup();
        assert_eq!(stacks.len(), functions.batch.stacks.len(), "each stack once");
        assert!(stacks.iter().any(|stack| stack.is_empty()));
        assert!(functions.batch.samples.is_sorted_by_key(|sample| std::cmp::Reverse(sample.weight_ns)));
        assert_eq!((functions.left_out_ns, functions.skipped), (0, Skipped::default()));
    }
}

#[test]
fn sums_by_function_do_not_read_what_only_exact_stacks_need() {
    let folder = quick_folder();
    let mut maker = Maker::new(50);
    let mut store = open(folder.path());
    store.append(&maker.batch()).unwrap();
    let segment = segments(folder.path())[0].clone();
    // The exact section is a chunk's last one.
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let reader = store.reader();
    let everything = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };
    let skipped = |grouping| reader.stacks(&everything, grouping).unwrap().skipped.damaged_segments;
    assert_eq!([Grouping::Functions, Grouping::Processes, Grouping::Threads].map(skipped), [0, 1, 1]);
    assert_eq!(reader.stacks(&everything, Grouping::Functions).unwrap().samples(), 40);
}

#[test]
fn a_segments_bytes_have_the_same_sums_as_its_history() {
    let folder = quick_folder();
    let mut random = Random(18);
    let mut maker = Maker::new(60);
    let mut store = open(folder.path());
    for _ in 0..5 {
        store.append(&batch(&mut maker, &mut random)).unwrap();
    }
    let everything = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };
    let expected = store.reader().stacks(&everything, Grouping::Functions).unwrap();
    let mut bytes = std::fs::read(&segments(folder.path())[0]).unwrap();
    let found = sum_segment(&bytes).unwrap();
    assert_eq!((found.samples(), found.grouping), (200, Grouping::Functions));
    assert!(rows(&found, |frames| frames) == rows(&expected, |frames| frames));
    bytes.pop();
    assert!(sum_segment(&bytes).is_err());
}
