//! Batches merged and taken apart: no sample changes its stack, process or owner, and the books still balance.

mod pprof_batch;

use std::collections::BTreeMap;
use std::sync::Arc;

use pprof_batch::{Builder, info, small_batch};
use profiles::ledger::Ledger;
use profiles::profile::pprof::{EncodeError, encode};
use profiles::profile::{Batch, Identity, IdentityIndex, LocationKind, Parts, ProcessIndex, Sample, merge, select};
use unwind::end::End;

/// All that a sample says, in words.
fn words(batch: &Batch, sample: &Sample) -> String {
    let text = |index| batch.strings.get(index);
    let process = &batch.processes[sample.process.0 as usize];
    let owner = process.identity.map(|identity| batch.identities[identity.0 as usize].service.to_string());
    let mut words = format!(
        "{} {} {}/{} {} {:?} {} {}",
        sample.time_ns,
        sample.weight_ns,
        process.pid,
        sample.tid,
        text(process.executable),
        owner,
        text(sample.thread_name),
        sample.end.name()
    );
    for location in &batch.stacks[sample.stack.0 as usize].locations {
        let location = &batch.locations[location.0 as usize];
        let mapping = location.mapping.map_or("-", |mapping| text(batch.mappings[mapping.0 as usize].filename));
        words += &format!(" {mapping}+{:x}", location.address);
        for line in &location.lines {
            words += &format!("({}:{})", text(batch.functions[line.function.0 as usize].name), line.line);
        }
    }
    words
}

fn all_words(batch: &Batch) -> Vec<String> {
    batch.samples.iter().map(|sample| words(batch, sample)).collect()
}

fn sizes(batch: &Batch) -> [usize; 6] {
    [
        batch.mappings.len(),
        batch.functions.len(),
        batch.locations.len(),
        batch.stacks.len(),
        batch.processes.len(),
        batch.identities.len(),
    ]
}

fn later(mut batch: Batch, by_ns: u64) -> Batch {
    batch.wall_start_ns += by_ns;
    batch.monotonic_start_ns += by_ns;
    batch.samples.iter_mut().for_each(|sample| sample.time_ns += by_ns);
    batch
}

fn owned(mut batch: Batch, services: &[&str]) -> Batch {
    let identity = |service: &&str| Identity { service: Arc::from(*service), ..Identity::default() };
    batch.identities = services.iter().map(identity).collect();
    for (number, process) in batch.processes.iter_mut().enumerate() {
        process.identity = Some(IdentityIndex((number % services.len()) as u32));
    }
    batch
}

#[test]
fn equal_batches_merge_into_one_with_each_thing_once_and_every_sample() {
    let first = owned(small_batch(), &["a", "b"]);
    let second = later(first.clone(), 10_000_000_000);
    let third = later(first.clone(), 20_000_000_000);
    let merged = merge(&[&first, &third, &second]).unwrap().unwrap();
    assert_eq!(sizes(&merged), sizes(&first));
    assert_eq!(all_words(&merged), [all_words(&first), all_words(&second), all_words(&third)].concat());
    assert_eq!(
        (merged.wall_start_ns, merged.monotonic_start_ns, merged.duration_ns, merged.period_ns),
        (first.wall_start_ns, 5_000, 30_000_000_000, 10_101_010)
    );
    let expected = Ledger {
        due: 3 * 1_980,
        recorded: 15,
        idle: 3 * 1_970,
        dropped: first.ledger.dropped.map(|count| 3 * count),
        undelivered: 6,
        ..Ledger::default()
    };
    assert_eq!(merged.ledger, expected);
    assert_eq!(merge(&[]).unwrap().map(|batch| batch.samples.len()), None);
}

#[test]
fn the_longest_period_is_the_merged_ones_and_samples_keep_their_weight() {
    let fast = small_batch();
    let mut slow = later(small_batch(), 10_000_000_000);
    slow.period_ns = 50_000_000;
    slow.samples.iter_mut().for_each(|sample| sample.weight_ns = 50_000_000);
    let merged = merge(&[&fast, &slow]).unwrap().unwrap();
    assert_eq!(merged.period_ns, 50_000_000);
    let weight: u64 = merged.samples.iter().map(|sample| sample.weight_ns).sum();
    assert_eq!(weight, 5 * 10_101_010 + 5 * 50_000_000);
}

#[test]
fn a_wall_clock_that_steps_back_changes_neither_order_nor_duration() {
    let first = small_batch();
    let mut second = later(small_batch(), 10_000_000_000);
    second.wall_start_ns = first.wall_start_ns - 3_600_000_000_000;
    for batches in [[&first, &second], [&second, &first]] {
        let merged = merge(&batches).unwrap().unwrap();
        assert_eq!(all_words(&merged), [all_words(&first), all_words(&second)].concat());
        assert_eq!(
            (merged.wall_start_ns, merged.monotonic_start_ns, merged.duration_ns),
            (first.wall_start_ns, first.monotonic_start_ns, 20_000_000_000),
            "it begins when the first one began, by the clock of that time"
        );
    }
}

/// One file for each process, all of one name and build id.
fn namesakes(pids: &[u32]) -> Batch {
    let mut builder = Builder::new();
    for pid in pids {
        let mapping = builder.mapping("/app/server", "");
        let function = builder.function(&format!("of_{pid}"), "", "", 0);
        let location = builder.location(LocationKind::Native, Some(mapping), 0x10, &[(function, 0)]);
        let nameless = builder.location(LocationKind::Native, Some(mapping), 0x20, &[]);
        let stack = builder.stack(&[location, nameless]);
        let process = builder.process(*pid, "server", "/app/server");
        builder.sample(process, *pid, "server", stack, End::Complete, 1);
    }
    builder.0
}

#[test]
fn files_of_one_name_stay_apart_and_find_themselves_in_the_next_batch_by_their_process() {
    // (first batch's processes, second batch's, mappings after merging)
    let cases: [(&[u32], &[u32], usize); 5] =
        [(&[1], &[1], 1), (&[1], &[2], 1), (&[1, 2], &[1, 2], 2), (&[1, 2], &[2, 3], 3), (&[1, 2], &[1], 3)];
    for (first, second, mappings) in cases {
        let (first, second) = (namesakes(first), later(namesakes(second), 10_000_000_000));
        let merged = merge(&[&first, &second]).unwrap().unwrap();
        assert_eq!(merged.mappings.len(), mappings, "{:?} {:?}", all_words(&first), all_words(&second));
        assert_eq!(all_words(&merged), [all_words(&first), all_words(&second)].concat());
    }
}

#[test]
fn two_files_of_one_name_in_one_process_are_never_one() {
    let mut builder = Builder::new();
    let process = builder.process(1, "p", "/bin/p");
    for _ in 0..2 {
        let mapping = builder.mapping("/lib/plugin.so", "");
        let location = builder.location(LocationKind::Native, Some(mapping), 0x10, &[]);
        let stack = builder.stack(&[location]);
        builder.sample(process, 1, "p", stack, End::Complete, 1);
    }
    let merged = merge(&[&builder.0]).unwrap().unwrap();
    assert_eq!((merged.mappings.len(), merged.stacks.len()), (2, 2));
}

#[test]
fn a_part_has_its_processes_samples_and_nothing_else() {
    let whole = owned(small_batch(), &["server", "kernel"]);
    let kernel = select(&whole, |process| process.pid == 7).unwrap();
    assert_eq!(all_words(&kernel), [words(&whole, &whole.samples[4])]);
    assert_eq!(sizes(&kernel), [1, 1, 1, 1, 1, 1]);
    let texts: Vec<&str> = kernel.strings.iter().collect();
    assert_eq!(texts, ["", "[kernel.kallsyms]", "do_syscall_64", "kworker/0:1"]);
    assert_eq!(kernel.ledger, Ledger { recorded: 1, filtered: 4, ..whole.ledger });
    assert_eq!(kernel.ledger.accounted(), whole.ledger.accounted());

    let server = select(&whole, |process| process.pid != 7).unwrap();
    assert_eq!(all_words(&server), all_words(&whole)[..4]);
    let nothing = select(&whole, |_| false).unwrap();
    assert_eq!((nothing.samples.len(), sizes(&nothing)), (0, [0; 6]));
    assert_eq!(nothing.strings.iter().collect::<Vec<_>>(), [""]);
}

#[test]
fn everything_selected_is_the_same_profile() {
    let whole = owned(small_batch(), &["a", "b"]);
    let all = select(&whole, |_| true).unwrap();
    assert_eq!(encode(&all, &info()), encode(&whole, &info()));
}

#[test]
fn parts_hold_every_sample_of_their_processes_once() {
    let pids: Vec<u32> = (0..50).map(|number| number + 1).collect();
    let whole = namesakes(&pids);
    let part_of: Vec<Option<u32>> = (0..50).map(|number| (number % 7 != 0).then_some(number % 7)).collect();
    let parts = Parts::new(&whole, &part_of).unwrap();
    assert_eq!(parts.len(), 7);
    let mut seen = BTreeMap::new();
    for part in 0..7 {
        let batch = parts.batch(part).unwrap();
        assert_eq!(batch.samples.len(), parts.samples(part).count());
        for sample in &batch.samples {
            seen.insert(words(&batch, sample), part);
        }
    }
    let expected: BTreeMap<String, u32> = whole
        .samples
        .iter()
        .filter_map(|sample| Some((words(&whole, sample), part_of[sample.process.0 as usize]?)))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(parts.batch(7).unwrap().samples.len(), 0);
}

#[test]
fn an_index_that_leads_nowhere_is_an_error_here_as_well() {
    let mut batch = small_batch();
    batch.samples[0].process = ProcessIndex(9);
    let error = EncodeError { table: "process", index: 9 };
    assert_eq!(select(&batch, |_| true).unwrap_err(), error);
    assert_eq!(merge(&[&batch]).unwrap_err(), error);
    assert_eq!(Parts::new(&batch, &[None; 2]).err(), Some(error));
}
