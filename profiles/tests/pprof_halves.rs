//! A profile in two: valid, only what is used, sums as before.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod pprof_batch;

use std::collections::BTreeMap;

use pprof_batch::{info, small_batch};
use pprof_proto::{Profile, Sample, validity};
use profiles::profile::pprof::{comment_pairs, encode, halves};

/// All that a sample says, whatever the ids.
fn words(profile: &Profile, sample: &Sample) -> String {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let mut words = format!("{:?}", sample.value);
    for label in &sample.label {
        words += &format!(" {}={}{}", text(label.key), text(label.str), label.num);
    }
    for id in &sample.location_id {
        let location = &profile.location[*id as usize - 1];
        let mapping = location.mapping_id.checked_sub(1).map_or("-", |index| {
            let mapping = &profile.mapping[index as usize];
            text(mapping.filename)
        });
        words += &format!(" {mapping}+{:x}", location.address);
        for line in &location.line {
            let function = &profile.function[line.function_id as usize - 1];
            words += &format!(
                "({} {} {}:{})",
                text(function.name),
                text(function.system_name),
                text(function.filename),
                line.line
            );
        }
    }
    words
}

/// Keys and values of a comment of ours; empty if it is not there.
fn pairs(profile: &Profile, name: &str) -> BTreeMap<String, u64> {
    let comments: Vec<String> =
        profile.comment.iter().map(|index| profile.string_table[*index as usize].clone()).collect();
    let pairs = comment_pairs(&comments, name).unwrap_or_default();
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.parse().unwrap())).collect()
}

fn all_words(profile: &Profile) -> Vec<String> {
    profile.sample.iter().map(|sample| words(profile, sample)).collect()
}

#[test]
fn two_halves_hold_each_sample_once_and_nothing_that_is_not_used() {
    let whole = encode(&small_batch(), &info()).unwrap();
    let [first, second] = halves(&whole).unwrap();
    for half in [&first, &second] {
        assert_eq!(validity::check(half), Ok(()));
        let ids: Vec<u64> = half.location.iter().map(|location| location.id).collect();
        assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
        let head = |profile: &Profile| {
            let text = |index: i64| profile.string_table[index as usize].clone();
            let kinds: Vec<_> = profile.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
            // The ledger and how walks ended are a half's own.
            let comments: Vec<String> = profile.comment.iter().take(3).map(|comment| text(*comment)).collect();
            let times = (profile.time_nanos, profile.duration_nanos, profile.period);
            (kinds, comments, times, text(profile.default_sample_type))
        };
        assert_eq!(head(half), head(&whole));
    }
    assert_eq!([all_words(&first), all_words(&second)].concat(), all_words(&whole));
    // Of the whole's hits those that a half does not have are filtered; how walks ended is known of the whole alone.
    let ledger = pairs(&whole, "ledger");
    assert_eq!((ledger["recorded"], ledger["filtered"], pairs(&whole, "ends").is_empty()), (5, 0, false));
    let recorded = [&first, &second].map(|half| pairs(half, "ledger")["recorded"]);
    assert!(recorded.iter().all(|recorded| *recorded > 0) && recorded.iter().sum::<u64>() == 5, "{recorded:?}");
    for (half, recorded) in [&first, &second].into_iter().zip(recorded) {
        let mut of_half = ledger.clone();
        of_half.extend([("recorded".to_owned(), recorded), ("filtered".to_owned(), 5 - recorded)]);
        assert_eq!(pairs(half, "ledger"), of_half);
        assert!(pairs(half, "ends").is_empty() && pairs(half, "stacks").is_empty());
    }
    let counts = |profile: &Profile| [profile.mapping.len(), profile.location.len(), profile.function.len()];
    assert_eq!((counts(&whole), counts(&first), counts(&second)), ([3, 5, 5], [3, 4, 4], [2, 3, 4]));
    assert!(!second.string_table.iter().any(|text| text == "src/main.rs"));
}

#[test]
fn what_has_one_sample_has_no_halves() {
    let mut profile = encode(&small_batch(), &info()).unwrap();
    profile.sample.truncate(1);
    assert_eq!(halves(&profile), None);
    profile.sample.clear();
    assert_eq!(halves(&profile), None);
}
