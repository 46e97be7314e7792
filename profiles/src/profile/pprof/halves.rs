//! A part of a profile: some of its samples and only what these refer to. One that is too large for its receiver becomes two.

use hashbrown::HashMap;

use pprof_proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

use super::comments::of_part;

/// Two profiles with the samples of one, in their order; `None` if it has fewer than two samples. Everything else is in both.
/// What refers to nothing, in a profile that [`decode`](super::decode) would refuse, is left out.
pub fn halves(profile: &Profile) -> Option<[Profile; 2]> {
    if profile.sample.len() < 2 {
        return None;
    }
    let (first, second) = profile.sample.split_at(profile.sample.len() / 2);
    Some([part(profile, first), part(profile, second)])
}

/// A profile of these samples of another one, with only what they refer to. Its ledger calls the whole's others filtered.
pub fn part(whole: &Profile, samples: &[Sample]) -> Profile {
    let mut needed = Needed::of(whole, samples);
    let mut texts = Texts { whole, ids: HashMap::new(), all: Vec::new() };
    texts.id(0);
    // Ids count from 1 without gaps, in the order of the whole, in which the main binary is first.
    let mut part = Profile { sample: samples.to_vec(), ..Profile::default() };
    for mapping in &whole.mapping {
        if let Some(id) = needed.mappings.get_mut(&mapping.id) {
            *id = part.mapping.len() as u64 + 1;
            let (filename, build_id) = (texts.id(mapping.filename), texts.id(mapping.build_id));
            part.mapping.push(Mapping { id: *id, filename, build_id, ..*mapping });
        }
    }
    for function in &whole.function {
        if let Some(id) = needed.functions.get_mut(&function.id) {
            *id = part.function.len() as u64 + 1;
            part.function.push(Function {
                id: *id,
                name: texts.id(function.name),
                system_name: texts.id(function.system_name),
                filename: texts.id(function.filename),
                ..*function
            });
        }
    }
    for location in &whole.location {
        if let Some(id) = needed.locations.get_mut(&location.id) {
            *id = part.location.len() as u64 + 1;
            let known = |line: &Line| Some(Line { function_id: new_id(&needed.functions, line.function_id)?, ..*line });
            part.location.push(Location {
                id: *id,
                mapping_id: new_id(&needed.mappings, location.mapping_id).unwrap_or(0),
                line: location.line.iter().filter_map(known).collect(),
                ..location.clone()
            });
        }
    }
    for sample in &mut part.sample {
        sample.location_id = sample.location_id.iter().filter_map(|id| new_id(&needed.locations, *id)).collect();
        for label in &mut sample.label {
            let Label { key, str, num, num_unit } = *label;
            *label = Label { key: texts.id(key), str: texts.id(str), num, num_unit: texts.id(num_unit) };
        }
    }
    let mut kind = |kind: &ValueType| ValueType { r#type: texts.id(kind.r#type), unit: texts.id(kind.unit) };
    part.sample_type = whole.sample_type.iter().map(&mut kind).collect();
    part.period_type = whole.period_type.as_ref().map(kind);
    part.drop_frames = texts.id(whole.drop_frames);
    part.keep_frames = texts.id(whole.keep_frames);
    part.default_sample_type = texts.id(whole.default_sample_type);
    part.doc_url = texts.id(whole.doc_url);
    (part.time_nanos, part.duration_nanos, part.period) = (whole.time_nanos, whole.duration_nanos, whole.period);
    part.string_table = texts.all;
    let others = sample_count(whole, &whole.sample).saturating_sub(sample_count(whole, samples));
    for comment in of_part(&super::join::comments(whole), others) {
        part.comment.push(part.string_table.len() as i64);
        part.string_table.push(comment);
    }
    part
}

/// Samples that were taken, by the value type that counts; 0 in a profile without one.
fn sample_count(whole: &Profile, samples: &[Sample]) -> u64 {
    let counts = |kind: &ValueType| {
        let unit = usize::try_from(kind.unit).ok().and_then(|index| whole.string_table.get(index));
        unit.is_some_and(|unit| unit == "count")
    };
    let Some(at) = whole.sample_type.iter().position(counts) else { return 0 };
    let values = samples.iter().filter_map(|sample| sample.value.get(at));
    values.fold(0, |sum, value| sum.saturating_add(value.unsigned_abs()))
}

/// The new id of what exists.
fn new_id(ids: &HashMap<u64, u64>, id: u64) -> Option<u64> {
    ids.get(&id).copied().filter(|id| *id != 0)
}

/// Ids that samples lead to, each with its new one; 0 until the thing itself is found.
#[derive(Default)]
struct Needed {
    mappings: HashMap<u64, u64>,
    functions: HashMap<u64, u64>,
    locations: HashMap<u64, u64>,
}

impl Needed {
    fn of(whole: &Profile, samples: &[Sample]) -> Needed {
        let mut needed = Needed::default();
        needed.locations.extend(samples.iter().flat_map(|sample| &sample.location_id).map(|id| (*id, 0)));
        for location in &whole.location {
            if needed.locations.contains_key(&location.id) {
                needed.mappings.insert(location.mapping_id, 0);
                needed.functions.extend(location.line.iter().map(|line| (line.function_id, 0)));
            }
        }
        needed
    }
}

struct Texts<'whole> {
    whole: &'whole Profile,
    ids: HashMap<i64, i64>,
    all: Vec<String>,
}

impl Texts<'_> {
    fn id(&mut self, index: i64) -> i64 {
        let next = self.all.len() as i64;
        let id = *self.ids.entry(index).or_insert(next);
        if id == next {
            let text = usize::try_from(index).ok().and_then(|index| self.whole.string_table.get(index));
            self.all.push(text.cloned().unwrap_or_default());
        }
        id
    }
}
