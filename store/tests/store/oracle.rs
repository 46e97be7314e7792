//! Questions, against sums over all samples by brute force.

use std::collections::BTreeMap;

use profiles::page::{PageOptions, container};
use profiles::profile::Batch;
use profiles::profile::pprof::{ProfileInfo, label};
use profiles::report::StackTable;
use profiles::report::folded::{self, FoldedOptions};
use store::{Grouping, Label, Match, Query, Reader, Store, StoreError};

use crate::batches::{Maker, Plain, PlainFrame, Random, SECOND, START, plain};
use crate::{open, quick_folder};

/// Some hundred batches over three segments, and all their samples in words.
fn history(store: &mut Option<Store>, folder: &std::path::Path) -> Vec<Plain> {
    let mut samples = Vec::new();
    for segment in 0..3 {
        *store = None;
        let mut opened = open(folder);
        let mut maker = Maker::after(20 + segment, segment * 30);
        for _ in 0..30 {
            let batch = maker.batch();
            samples.extend(plain(&batch));
            opened.append(&batch).unwrap();
        }
        *store = Some(opened);
    }
    samples
}

fn queries() -> Vec<Query> {
    let ranges =
        [(0, u64::MAX), (START + 95 * SECOND, START + 205 * SECOND), (START + 333, START + 9 * SECOND), (5, 6)];
    let filters = [
        vec![],
        vec![(Label::Pod, Match::Equals("pod-1".into()))],
        vec![(Label::Namespace, Match::Equals("back".into())), (Label::Thread, Match::Prefix("ma".into()))],
        vec![(Label::Process, Match::Equals("java".into())), (Label::Process, Match::Contains("gin".into()))],
        vec![(Label::Pod, Match::Equals(String::new()))],
        vec![(Label::Service, Match::Equals("nobody".into()))],
    ];
    let all = ranges.iter().flat_map(|(from_ns, to_ns)| {
        filters.iter().map(|filters| Query { from_ns: *from_ns, to_ns: *to_ns, filters: filters.clone() })
    });
    all.collect()
}

fn wanted<'samples>(samples: &'samples [Plain], query: &'samples Query) -> impl Iterator<Item = &'samples Plain> {
    let allowed = |sample: &Plain| {
        query.filters.iter().all(|(label, _)| {
            let mut alternatives = query.filters.iter().filter(|(other, _)| other == label);
            alternatives.any(|(_, wanted)| wanted.holds(&sample.owner.labels[label.name()]))
        })
    };
    samples
        .iter()
        .filter(move |sample| query.from_ns <= sample.wall_ns && sample.wall_ns < query.to_ns && allowed(sample))
}

/// Frames, leaf first, without what a flame graph does not show.
fn as_seen(frames: &[PlainFrame]) -> Vec<PlainFrame> {
    let mut frames = frames.to_vec();
    for (level, (_, _, address, lines)) in frames.iter_mut().enumerate() {
        if !lines.is_empty() {
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

/// Sums by everything that a row keeps apart.
fn sums<'plain>(
    samples: impl Iterator<Item = (&'plain Plain, u64)>,
    grouping: Grouping,
) -> BTreeMap<String, (u64, u64)> {
    let mut sums = BTreeMap::new();
    for (sample, count) in samples {
        let owner = &sample.owner;
        let name = match grouping {
            Grouping::Threads => format!("{owner:?}"),
            Grouping::Processes | Grouping::Functions => {
                format!("{} {} {}", owner.comm, owner.executable, owner.identity)
            }
        };
        let frames = if grouping == Grouping::Functions { as_seen(&sample.frames) } else { sample.frames.clone() };
        let key = format!("{name} {frames:?} {:?} {}", sample.end, sample.provenance);
        let (counts, weights): &mut (u64, u64) = sums.entry(key).or_default();
        *counts += count;
        *weights += sample.weight_ns;
    }
    sums
}

#[test]
fn stacks_are_the_sums_of_the_samples_that_were_asked_for() {
    let folder = quick_folder();
    let mut store = None;
    let samples = history(&mut store, folder.path());
    let reader = store.as_ref().unwrap().reader();
    let mut rows = 0;
    for query in queries() {
        for grouping in [Grouping::Threads, Grouping::Processes, Grouping::Functions] {
            let found = reader.stacks(&query, grouping).unwrap();
            let expected = sums(wanted(&samples, &query).map(|sample| (sample, 1)), grouping);
            let plain = plain(&found.batch);
            // No row twice.
            assert_eq!(plain.len(), expected.len(), "{query:?}");
            assert_eq!(sums(plain.iter().zip(found.counts.iter().copied()), grouping), expected, "{query:?}");
            assert_eq!(found.samples(), wanted(&samples, &query).count() as u64);
            assert_eq!(found.cpu_ns(), wanted(&samples, &query).map(|sample| sample.weight_ns).sum::<u64>());
            assert_eq!(found.left_out_ns, 0);
            rows += plain.len();
        }
    }
    assert!(rows > 1000, "{rows}");
}

#[test]
fn by_functions_there_are_fewer_rows_and_the_page_is_the_same() {
    let folder = quick_folder();
    let mut store = None;
    history(&mut store, folder.path());
    let reader = store.as_ref().unwrap().reader();
    let info = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: "6.1".into() };
    let mut fewer = 0;
    for query in queries() {
        let [all, functions] = [Grouping::Processes, Grouping::Functions].map(|grouping| {
            let sums = reader.stacks(&query, grouping).unwrap();
            let options = PageOptions { title: "node".into(), notes: Vec::new() };
            let seen = |table: &StackTable| {
                let page = container(table, &options).unwrap();
                (page.len(), folded::render(table, 1, FoldedOptions { by_process: true, annotate: true }).unwrap())
            };
            let table = StackTable::from_profile(&sums.profile(&info).unwrap()).unwrap();
            let (page, lines) = seen(&table);
            // Without the way through a profile as well.
            let direct = sums.table(&info).unwrap();
            assert!((&direct.comments, direct.total(0)) == (&table.comments, table.total(0)));
            assert!(seen(&direct) == (page, lines.clone()), "{query:?}");
            (sums.counts.len(), page, lines)
        });
        assert!(functions.0 <= all.0);
        fewer += all.0 - functions.0;
        // As many texts, functions, frames and rows, if in another order.
        assert_eq!(functions.1, all.1);
        assert!(functions.2 == all.2, "{query:?}");
    }
    assert!(fewer > 0);
}

#[test]
fn an_answer_is_a_profile_with_its_samples_time_and_range() {
    let folder = quick_folder();
    let mut store = None;
    let samples = history(&mut store, folder.path());
    let query = Query { from_ns: START + 100 * SECOND, to_ns: START + 200 * SECOND, filters: Vec::new() };
    let info = ProfileInfo { frequency_hz: 99, cpus: 2, kernel_release: "6.1".into() };
    let reader = store.as_ref().unwrap().reader();
    let expected: Vec<&Plain> = wanted(&samples, &query).collect();
    for grouping in [Grouping::Threads, Grouping::Processes, Grouping::Functions] {
        let sums = reader.stacks(&query, grouping).unwrap();
        let profile = sums.profile(&info).unwrap();
        assert_eq!((profile.time_nanos, profile.duration_nanos), ((START + 100 * SECOND) as i64, 100 * SECOND as i64));
        let has_pid = profile.string_table.iter().any(|text| text == label::PID);
        assert_eq!(has_pid, grouping == Grouping::Threads);
        let table = StackTable::from_profile(&profile).unwrap();
        assert_eq!(table.total(0), expected.len() as i64);
        assert_eq!(table.total(1), expected.iter().map(|sample| sample.weight_ns as i64).sum::<i64>());
        // Ten batches of 40.
        let recorded = table.comments.iter().find_map(|comment| comment.strip_prefix("ledger: due=430 recorded=400 "));
        assert!(recorded.is_some(), "{:?}", table.comments);
    }
    // The same question has the same answer, byte for byte.
    let bytes = |reader: &Reader| {
        profiles::profile::pprof::to_raw(&reader.stacks(&query, Grouping::Threads).unwrap().profile(&info).unwrap())
    };
    assert_eq!(bytes(&reader), bytes(&reader));
}

#[test]
fn values_and_labels_are_the_sums_by_label() {
    let folder = quick_folder();
    let mut store = None;
    let samples = history(&mut store, folder.path());
    let reader = store.as_ref().unwrap().reader();
    for query in queries() {
        let summaries = reader.labels(&query).unwrap();
        for (label, summary) in Label::ALL.into_iter().zip(summaries) {
            let mut expected = BTreeMap::<&str, u64>::new();
            for sample in wanted(&samples, &query) {
                *expected.entry(&sample.owner.labels[label.name()]).or_default() += sample.weight_ns;
            }
            let mut ordered: Vec<(String, u64)> =
                expected.iter().map(|(value, sum)| ((*value).to_owned(), *sum)).collect();
            ordered.sort_by_key(|(value, sum)| (std::cmp::Reverse(*sum), value.clone()));
            let found = reader.values(&query, label, 2).unwrap();
            assert_eq!(found.distinct, ordered.len(), "{label:?} {query:?}");
            assert_eq!(found.other_ns, ordered.iter().skip(2).map(|(_, sum)| sum).sum::<u64>());
            ordered.truncate(2);
            assert_eq!(found.top, ordered, "{label:?} {query:?}");
            expected.remove("");
            assert_eq!((summary.label, summary.values), (label, expected.len()));
            assert_eq!(summary.cpu_ns, expected.values().sum::<u64>());
        }
    }
}

#[test]
fn a_series_is_the_sums_of_each_step_also_where_steps_cut_batches() {
    let folder = quick_folder();
    let mut store = None;
    let samples = history(&mut store, folder.path());
    let reader = store.as_ref().unwrap().reader();
    let mut random = Random(3);
    for step in [7 * SECOND, 10 * SECOND, 60 * SECOND, 1000 * SECOND] {
        for mut query in queries().into_iter().filter(|query| query.to_ns != u64::MAX) {
            query.from_ns += random.below(SECOND);
            let found = reader.series(&query, Label::Pod, step, 2).unwrap();
            let steps = query.to_ns.saturating_sub(query.from_ns).div_ceil(step) as usize;
            let top: Vec<String> = found.top.iter().map(|(name, _)| name.clone()).collect();
            let ranked = reader.values(&query, Label::Pod, 2).unwrap().top;
            assert_eq!(top, ranked.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
            let mut rows = vec![vec![0; steps]; top.len() + 1];
            for sample in wanted(&samples, &query) {
                let row = top.iter().position(|name| *name == sample.owner.labels["pod"]).unwrap_or(top.len());
                rows[row][((sample.wall_ns - query.from_ns) / step) as usize] += sample.weight_ns;
            }
            let other = rows.pop().unwrap();
            assert_eq!(found.top.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), rows);
            assert_eq!(found.other, other);
            assert_eq!((found.from_ns, found.step_ns), (query.from_ns, step));
        }
    }
    let day = Query { from_ns: START, to_ns: START + 86_400 * SECOND, filters: Vec::new() };
    for step in [0, 1, SECOND] {
        assert!(matches!(reader.series(&day, Label::Pod, step, 5), Err(StoreError::Query(_))), "{step}");
    }
}

#[test]
fn questions_are_answered_while_another_thread_appends() {
    let folder = quick_folder();
    let mut store = open(folder.path());
    let reader = store.reader();
    let mut maker = Maker::new(30);
    let batches: Vec<Batch> = (0..60).map(|_| maker.batch()).collect();
    let everything = Query { from_ns: 0, to_ns: u64::MAX, filters: Vec::new() };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for batch in &batches {
                store.append(batch).unwrap();
            }
        });
        let mut before = 0;
        loop {
            let ended = writer.is_finished();
            let found = reader.stacks(&everything, Grouping::Processes).unwrap();
            // Whole batches, and never fewer than before.
            assert!(found.samples() >= before && found.samples().is_multiple_of(40));
            before = found.samples();
            if ended {
                break;
            }
        }
        assert_eq!(before, 2400);
    });
}
