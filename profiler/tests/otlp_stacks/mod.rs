//! Reads an OTLP request back into what its samples say, and a pprof profile into the same words: to be compared.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{Location, Profile, ProfilesDictionary};
use pprof_proto::Profile as Pprof;
use profiler::export::otlp::{PROVENANCE_ATTRIBUTE, Request, UNWIND_ATTRIBUTE};

/// What a sample says → how many there were, and their CPU time in ns.
pub(crate) type Stacks = BTreeMap<String, (u64, u64)>;

pub(crate) fn text_of(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(|value| text_of(Some(value))).collect::<Vec<_>>().join("+")
        }
        other => panic!("{other:?} is not expected"),
    }
}

pub(crate) fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    all.iter().map(|attribute| (attribute.key.clone(), text_of(attribute.value.as_ref()))).collect()
}

/// Attributes of an entry of the dictionary, or of what refers to it.
pub(crate) fn resolved(dictionary: &ProfilesDictionary, indices: &[i32]) -> BTreeMap<String, String> {
    let attribute = |index: &i32| {
        let attribute = &dictionary.attribute_table[*index as usize];
        (dictionary.string_table[attribute.key_strindex as usize].clone(), text_of(attribute.value.as_ref()))
    };
    indices.iter().map(attribute).collect()
}

fn place(dictionary: &ProfilesDictionary, location: &Location) -> String {
    let text = |index: i32| dictionary.string_table[index as usize].as_str();
    let mapping = &dictionary.mapping_table[location.mapping_index as usize];
    let build_id = resolved(dictionary, &mapping.attribute_indices).remove("process.executable.build_id.gnu");
    let (file, build_id) = (text(mapping.filename_strindex), build_id.unwrap_or_default());
    let mut words = format!(" {file}@{build_id}+{:x}", location.address);
    for line in &location.lines {
        let function = &dictionary.function_table[line.function_index as usize];
        let (name, system) = (text(function.name_strindex), text(function.system_name_strindex));
        let (file, start) = (text(function.filename_strindex), function.start_line);
        words += &format!("({name}|{system}|{file}:{}:{}|{start})", line.line, line.column);
    }
    words
}

/// All samples of requests, whatever their resource.
pub(crate) fn stacks<'request>(requests: impl IntoIterator<Item = &'request Request>) -> Stacks {
    let mut stacks = Stacks::new();
    for request in requests {
        let Some(dictionary) = &request.dictionary else { panic!("no dictionary") };
        for resource in &request.resource_profiles {
            let of_resource = attributes(resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes));
            for profile in resource.scope_profiles.iter().flat_map(|scope| &scope.profiles) {
                add_profile(&mut stacks, dictionary, &of_resource, profile);
            }
        }
    }
    stacks
}

fn add_profile(
    stacks: &mut Stacks,
    dictionary: &ProfilesDictionary,
    of_resource: &BTreeMap<String, String>,
    profile: &Profile,
) {
    for sample in &profile.samples {
        let own = resolved(dictionary, &sample.attribute_indices);
        let word = |key: &str| own.get(key).or(of_resource.get(key)).cloned().unwrap_or_default();
        let keys = ["process.pid", "thread.id", "thread.name", UNWIND_ATTRIBUTE, PROVENANCE_ATTRIBUTE];
        let mut words = keys.map(word).join(",");
        for index in &dictionary.stack_table[sample.stack_index as usize].location_indices {
            words += &place(dictionary, &dictionary.location_table[*index as usize]);
        }
        let count = sample.timestamps_unix_nano.len() as u64;
        let sums = stacks.entry(words).or_default();
        *sums = (sums.0 + count, sums.1 + count * profile.period as u64);
    }
}

/// The same of a profile in the profiler's own words.
pub(crate) fn pprof_stacks(profile: &Pprof) -> Stacks {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let mut stacks = Stacks::new();
    for sample in &profile.sample {
        let label = |wanted: &str| {
            let found = sample.label.iter().find(|label| text(label.key) == wanted);
            found.map_or(String::new(), |label| match label.str {
                0 => label.num.to_string(),
                index => text(index).to_owned(),
            })
        };
        let mut words = ["pid", "thread id", "thread name", "unwind", "provenance"].map(label).join(",");
        for id in &sample.location_id {
            let location = &profile.location[*id as usize - 1];
            let mapping = location.mapping_id.checked_sub(1).map(|index| &profile.mapping[index as usize]);
            let (file, build_id) = mapping.map_or(("", ""), |mapping| (text(mapping.filename), text(mapping.build_id)));
            words += &format!(" {file}@{build_id}+{:x}", location.address);
            for line in &location.line {
                let function = &profile.function[line.function_id as usize - 1];
                let (name, system) = (text(function.name), text(function.system_name));
                let (file, start) = (text(function.filename), function.start_line);
                words += &format!("({name}|{system}|{file}:{}:{}|{start})", line.line, line.column);
            }
        }
        let sums = stacks.entry(words).or_default();
        *sums = (sums.0 + sample.value[0] as u64, sums.1 + sample.value[1] as u64);
    }
    stacks
}
