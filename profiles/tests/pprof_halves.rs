//! A profile in two: valid, only what is used, sums as before.

mod pprof_batch;

use pprof_batch::{info, small_batch};
use pprof_proto::{Profile, Sample, validity};
use profiles::profile::pprof::{encode, halves};

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
