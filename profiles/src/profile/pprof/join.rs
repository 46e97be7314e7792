//! Profiles of several machines as one. Nothing is added up but samples with equal stacks and labels: labels tell the machines' pods
//! apart, and what is equal in name, file and address is one location.
//!
//! Takes profiles that [`decode`](super::decode) has checked; what refers to nothing in another one is left out.

use hashbrown::HashMap;
use std::hash::Hash;

use pprof_proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

use super::comments::{Origin, joined};

/// Profiles that can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Not one.
    #[error("there is no profile to join")]
    Nothing,
    /// They measured different things.
    #[error("the profiles have different sample types")]
    SampleTypes,
}

/// One profile of several: from the earliest start to the latest end, in our own comments what can be added up, added up.
///
/// # Errors
/// [`JoinError`].
pub fn join(profiles: &[Profile]) -> Result<Profile, JoinError> {
    join_of(profiles, Origin::Machines)
}

/// The same of parts of one machine's time, such as its containers: what each part says of the whole machine is not added up.
///
/// # Errors
/// [`JoinError`].
pub fn join_parts(profiles: &[Profile]) -> Result<Profile, JoinError> {
    join_of(profiles, Origin::OneMachine)
}

fn join_of(profiles: &[Profile], origin: Origin) -> Result<Profile, JoinError> {
    let first = profiles.first().ok_or(JoinError::Nothing)?;
    if profiles.iter().any(|other| types(other) != types(first)) {
        return Err(JoinError::SampleTypes);
    }
    let mut made = Joined::default();
    made.text("");
    for profile in profiles {
        made.take(profile);
    }
    let mut whole = Profile { sample: made.samples(), ..Profile::default() };
    let mut kind = |kind: &ValueType| ValueType {
        r#type: made.text(text(first, kind.r#type)),
        unit: made.text(text(first, kind.unit)),
    };
    whole.sample_type = first.sample_type.iter().map(&mut kind).collect();
    whole.period_type = first.period_type.as_ref().map(kind);
    whole.default_sample_type = made.text(text(first, first.default_sample_type));
    // Of different periods none is right.
    whole.period = if profiles.iter().all(|other| other.period == first.period) { first.period } else { 0 };
    let start = profiles.iter().map(|profile| profile.time_nanos).min().unwrap_or(0);
    let end = profiles.iter().map(|profile| profile.time_nanos.saturating_add(profile.duration_nanos)).max();
    whole.time_nanos = start;
    whole.duration_nanos = end.unwrap_or(0).saturating_sub(start);
    let comments: Vec<Vec<String>> = profiles.iter().map(comments).collect();
    whole.comment = joined(&comments, origin).iter().map(|comment| made.text(comment)).collect();
    (whole.mapping, whole.function, whole.location) = (made.mappings, made.functions, made.locations);
    whole.string_table = made.texts;
    Ok(whole)
}

fn text(profile: &Profile, index: i64) -> &str {
    usize::try_from(index).ok().and_then(|index| profile.string_table.get(index)).map_or("", String::as_str)
}

fn types(profile: &Profile) -> Vec<(&str, &str)> {
    profile.sample_type.iter().map(|kind| (text(profile, kind.r#type), text(profile, kind.unit))).collect()
}

/// A profile's comments.
pub(super) fn comments(profile: &Profile) -> Vec<String> {
    profile.comment.iter().map(|comment| text(profile, *comment).to_owned()).collect()
}

/// Locations and labels of a sample, in the ids of the whole.
type Key = (Vec<u64>, Vec<(i64, i64, i64, i64)>);
/// A location without its id.
type Place = (u64, u64, Vec<(u64, i64, i64)>, bool);
/// A function without its id.
type Named = (i64, i64, i64, i64);
/// A mapping without its id.
type File = (u64, u64, u64, i64, i64, [bool; 4]);

/// Each thing once, with the place where it is.
#[derive(Default)]
struct Joined {
    texts: Vec<String>,
    text_ids: HashMap<String, i64>,
    mappings: Vec<Mapping>,
    mapping_ids: HashMap<File, u64>,
    functions: Vec<Function>,
    function_ids: HashMap<Named, u64>,
    locations: Vec<Location>,
    location_ids: HashMap<Place, u64>,
    /// In the order in which they came.
    sums: Vec<(Key, Vec<i64>)>,
    sum_ids: HashMap<Key, usize>,
}

impl Joined {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(id) = self.text_ids.get(text) {
            return *id;
        }
        let id = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.text_ids.insert(text.to_owned(), id);
        id
    }

    fn take(&mut self, profile: &Profile) {
        let (mut mappings, mut functions, mut locations) = (HashMap::new(), HashMap::new(), HashMap::new());
        for mapping in &profile.mapping {
            mappings.insert(mapping.id, self.mapping(profile, mapping));
        }
        for function in &profile.function {
            functions.insert(function.id, self.function(profile, function));
        }
        for location in &profile.location {
            locations.insert(location.id, self.location(location, &mappings, &functions));
        }
        let mut texts: HashMap<i64, i64> = HashMap::new();
        let mut text_of =
            |joined: &mut Joined, index: i64| *texts.entry(index).or_insert_with(|| joined.text(text(profile, index)));
        for sample in &profile.sample {
            let stack = sample.location_id.iter().filter_map(|id| locations.get(id)).copied().collect();
            let labels = sample.label.iter().map(|label| {
                let (key, str, unit) =
                    (text_of(self, label.key), text_of(self, label.str), text_of(self, label.num_unit));
                (key, str, label.num, unit)
            });
            let key: Key = (stack, labels.collect());
            let next = self.sums.len();
            let at = *self.sum_ids.entry(key.clone()).or_insert(next);
            if at == next {
                self.sums.push((key, sample.value.clone()));
            } else if let Some((_, sums)) = self.sums.get_mut(at) {
                for (sum, value) in sums.iter_mut().zip(&sample.value) {
                    *sum = sum.saturating_add(*value);
                }
            }
        }
    }

    fn mapping(&mut self, profile: &Profile, mapping: &Mapping) -> u64 {
        let (filename, build_id) =
            (self.text(text(profile, mapping.filename)), self.text(text(profile, mapping.build_id)));
        let has = [mapping.has_functions, mapping.has_filenames, mapping.has_line_numbers, mapping.has_inline_frames];
        let key = (mapping.memory_start, mapping.memory_limit, mapping.file_offset, filename, build_id, has);
        let (id, is_new) = number(&mut self.mapping_ids, key);
        if is_new {
            self.mappings.push(Mapping { id, filename, build_id, ..*mapping });
        }
        id
    }

    fn function(&mut self, profile: &Profile, function: &Function) -> u64 {
        let name = self.text(text(profile, function.name));
        let system_name = self.text(text(profile, function.system_name));
        let filename = self.text(text(profile, function.filename));
        let (id, is_new) = number(&mut self.function_ids, (name, system_name, filename, function.start_line));
        if is_new {
            self.functions.push(Function { id, name, system_name, filename, ..*function });
        }
        id
    }

    fn location(&mut self, location: &Location, mappings: &HashMap<u64, u64>, functions: &HashMap<u64, u64>) -> u64 {
        let mapping_id = mappings.get(&location.mapping_id).copied().unwrap_or(0);
        let line = |line: &Line| Some(Line { function_id: *functions.get(&line.function_id)?, ..*line });
        let lines: Vec<Line> = location.line.iter().filter_map(line).collect();
        let content = lines.iter().map(|line| (line.function_id, line.line, line.column)).collect();
        let (id, is_new) = number(&mut self.location_ids, (mapping_id, location.address, content, location.is_folded));
        if is_new {
            self.locations.push(Location { id, mapping_id, line: lines, ..location.clone() });
        }
        id
    }

    /// The hottest first, as in every profile of ours.
    fn samples(&mut self) -> Vec<Sample> {
        let mut sums = std::mem::take(&mut self.sums);
        sums.sort_by_key(|(_, values)| std::cmp::Reverse(values.last().copied()));
        let label = |(key, str, num, num_unit)| Label { key, str, num, num_unit };
        let sample = |((stack, labels), value): (Key, Vec<i64>)| Sample {
            location_id: stack,
            value,
            label: labels.into_iter().map(label).collect(),
        };
        sums.into_iter().map(sample).collect()
    }
}

/// The number of a thing, counting from 1, and whether it is new.
fn number<T: Eq + Hash>(ids: &mut HashMap<T, u64>, thing: T) -> (u64, bool) {
    let next = ids.len() as u64 + 1;
    let id = *ids.entry(thing).or_insert(next);
    (id, id == next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::pprof::{decode, to_raw};

    /// A stack of one function in one file, a sample with a label for each value.
    fn profile(function: &str, samples: &[(&str, i64)], comments: &[&str]) -> Profile {
        let mut texts: Vec<String> = ["", "cpu", "nanoseconds", "/bin/x", "pod", function].map(str::to_owned).into();
        let mut text = |word: &str| {
            texts.push(word.to_owned());
            texts.len() as i64 - 1
        };
        let sample = samples.iter().map(|(pod, value)| Sample {
            location_id: vec![1],
            value: vec![*value],
            label: vec![Label { key: 4, str: text(pod), ..Label::default() }],
        });
        let sample = sample.collect();
        let comment = comments.iter().map(|comment| text(comment)).collect();
        Profile {
            sample_type: vec![ValueType { r#type: 1, unit: 2 }],
            sample,
            comment,
            mapping: vec![Mapping { id: 1, filename: 3, ..Mapping::default() }],
            function: vec![Function { id: 1, name: 5, ..Function::default() }],
            location: vec![Location {
                id: 1,
                mapping_id: 1,
                address: 16,
                line: vec![Line { function_id: 1, ..Line::default() }],
                ..Location::default()
            }],
            string_table: texts,
            time_nanos: 1_000,
            duration_nanos: 30_000,
            period: 10,
            ..Profile::default()
        }
    }

    fn rows(profile: &Profile) -> Vec<(String, String, i64)> {
        let of = |sample: &Sample| {
            let location = &profile.location[sample.location_id[0] as usize - 1];
            let function = &profile.function[location.line[0].function_id as usize - 1];
            (text(profile, function.name).to_owned(), text(profile, sample.label[0].str).to_owned(), sample.value[0])
        };
        profile.sample.iter().map(of).collect()
    }

    #[test]
    fn samples_of_equal_stack_and_labels_are_added_and_each_thing_is_there_once() {
        let one = profile("main", &[("a", 5), ("b", 7)], &[]);
        let mut other = profile("main", &[("c", 9), ("b", 1)], &[]);
        (other.time_nanos, other.period) = (2_000, 20);
        let third = profile("work", &[("b", 2)], &[]);
        let whole = join(&[one, other, third]).unwrap();
        let row = |function: &str, pod: &str, value| (function.to_owned(), pod.to_owned(), value);
        assert_eq!(rows(&whole), [row("main", "c", 9), row("main", "b", 8), row("main", "a", 5), row("work", "b", 2)]);
        assert_eq!((whole.mapping.len(), whole.function.len(), whole.location.len()), (1, 2, 2));
        assert_eq!((whole.time_nanos, whole.duration_nanos, whole.period), (1_000, 31_000, 0));
        assert_eq!(decode(&to_raw(&whole)).unwrap(), whole, "it is valid");
    }

    #[test]
    fn one_profile_stays_what_it_is() {
        let one = profile("main", &[("a", 5), ("b", 3)], &["kernel: release=6.1", "free text"]);
        let whole = join(std::slice::from_ref(&one)).unwrap();
        assert_eq!(rows(&whole), rows(&one));
        assert_eq!((whole.period, whole.duration_nanos), (10, 30_000));
        assert_eq!(comments(&whole), ["kernel: release=6.1", "free text"]);
    }

    #[test]
    fn what_measured_something_else_is_not_joined() {
        let mut other = profile("main", &[("a", 5)], &[]);
        other.string_table[1] = "inuse_space".to_owned();
        assert_eq!(join(&[profile("main", &[], &[]), other]), Err(JoinError::SampleTypes));
        assert_eq!(join(&[]), Err(JoinError::Nothing));
    }
}
