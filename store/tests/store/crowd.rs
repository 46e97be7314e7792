//! More pods, and more values of a label, than anybody looks at: each is told apart or counted, and no CPU time is lost.

use store::{Label, LabelSummary, MAX_VALUES, Match, Query, Reader, Series, Skipped, Values};

use crate::batches::{SECOND, START, crowd};
use crate::{open, quick_folder};

fn everything() -> Query {
    Query { from_ns: START, to_ns: START + 80 * SECOND, filters: Vec::new() }
}

/// Of the first so many pods, each with a sample.
fn cpu_ns(pods: usize) -> u64 {
    let pods = pods as u64;
    pods * (pods + 1) / 2
}

fn sum(values: &Values) -> u64 {
    values.top.iter().map(|(_, ns)| ns).sum::<u64>() + values.other_ns
}

fn sum_of_series(series: &Series) -> u64 {
    series.top.iter().flat_map(|(_, steps)| steps).chain(&series.other).sum()
}

fn summary(reader: &Reader, label: Label) -> LabelSummary {
    let labels = reader.labels(&everything()).unwrap();
    labels.into_iter().find(|summary| summary.label == label).unwrap()
}

#[test]
fn ten_thousand_pods_are_told_apart_and_those_beyond_a_limit_are_counted_together() {
    const PODS: usize = 10_000;
    let folder = quick_folder();
    let mut store = open(folder.path());
    // Each pod twice.
    for batch in 0..8 {
        let first = batch % 4 * 2_500;
        store.append(&crowd(u64::from(batch), first..first + 2_500)).unwrap();
    }
    let reader = store.reader();

    let all = reader.values(&everything(), Label::Pod, PODS).unwrap();
    assert_eq!((all.top.len(), all.distinct, all.other_ns), (PODS, PODS, 0));
    assert_eq!(all.skipped, Skipped::default());
    for (number, (pod, ns)) in (0..PODS as u64).rev().zip(&all.top) {
        assert_eq!((pod.as_str(), *ns), (format!("pod-{number}").as_str(), 2 * (number + 1)));
    }
    let few = reader.values(&everything(), Label::Pod, 50).unwrap();
    assert_eq!((few.top.as_slice(), few.distinct), (&all.top[..50], PODS));
    assert_eq!((sum(&all), sum(&few)), (2 * cpu_ns(PODS), 2 * cpu_ns(PODS)));
    let pods = summary(&reader, Label::Pod);
    assert_eq!((pods.values, pods.cpu_ns), (PODS, 2 * cpu_ns(PODS)));

    let series = reader.series(&everything(), Label::Pod, 20 * SECOND, 8).unwrap();
    let names = |top: &[(String, Vec<u64>)]| top.iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>();
    assert_eq!(names(&series.top), all.top[..8].iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>());
    assert_eq!((series.other.len(), sum_of_series(&series)), (4, 2 * cpu_ns(PODS)));

    let filters = vec![(Label::Pod, Match::Equals("pod-9876".to_owned()))];
    let one = reader.values(&Query { filters, ..everything() }, Label::Pod, 50).unwrap();
    assert_eq!((one.top, one.other_ns), (vec![("pod-9876".to_owned(), 2 * 9877)], 0));
}

#[test]
fn values_beyond_those_that_are_told_apart_are_counted_together_and_the_sum_stays() {
    const THREADS: usize = 70_000;
    let folder = quick_folder();
    let mut store = open(folder.path());
    for batch in 0..7 {
        store.append(&crowd(u64::from(batch), batch * 10_000..(batch + 1) * 10_000)).unwrap();
    }
    let reader = store.reader();

    let all = reader.values(&everything(), Label::Thread, THREADS).unwrap();
    assert_eq!((all.top.len(), all.distinct), (MAX_VALUES, MAX_VALUES));
    // Those that came first are told apart.
    assert_eq!(all.other_ns, cpu_ns(THREADS) - cpu_ns(MAX_VALUES));
    assert_eq!(sum(&all), cpu_ns(THREADS));
    let few = reader.values(&everything(), Label::Thread, 3).unwrap();
    assert_eq!((few.top.as_slice(), sum(&few)), (&all.top[..3], cpu_ns(THREADS)));
    let threads = summary(&reader, Label::Thread);
    assert_eq!((threads.values, threads.cpu_ns), (MAX_VALUES, cpu_ns(THREADS)));
    let series = reader.series(&everything(), Label::Thread, 10 * SECOND, 100).unwrap();
    assert_eq!((series.top.len(), sum_of_series(&series)), (100, cpu_ns(THREADS)));

    // A filter finds what was not told apart.
    let filters = vec![(Label::Thread, Match::Equals("thread-69999".to_owned()))];
    let one = reader.values(&Query { filters, ..everything() }, Label::Thread, 3).unwrap();
    assert_eq!((one.top, one.other_ns), (vec![("thread-69999".to_owned(), 70_000)], 0));
}
