//! What pprof refuses when it reads a profile, case by case: a profile that passes here opens in `go tool pprof`.
//!
//! The cases are those of pprof's `ParseUncompressed` and `CheckValid`, in its order, so that the first error is the same one.
//! Left out: pprof's checks of its own in-memory pointers, which no bytes can break, and its text formats of old. One thing
//! is stricter: prost refuses texts that are not UTF-8, which proto3 demands and pprof lets pass.

use std::collections::HashSet;

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};

use crate::profile::{Profile, ValueType};

/// Why pprof would refuse a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Zero bytes.
    #[error("empty input file")]
    Empty,
    /// Not protobuf, a known field with another wire type, or a text that is not UTF-8.
    #[error("not a pprof profile: {0}")]
    Wire(prost::DecodeError),
    /// Two profiles behind each other: `time_nanos` occurs twice.
    #[error("concatenated profiles detected")]
    Concatenated,
    /// `string_table[0]` is not empty.
    #[error("string_table[0] must be '', not {0:?}")]
    FirstString(String),
    /// An index that the string table does not have; an empty table has not even index 0.
    #[error("malformed profile format: string index {index} of {table_length} in {field}")]
    StringIndex {
        /// Which field holds it.
        field: &'static str,
        /// The index.
        index: i64,
        /// How many strings there are.
        table_length: usize,
    },
    /// Samples, but nothing says what their values mean.
    #[error("missing sample type information")]
    NoSampleType,
    /// A sample with more or fewer values than there are sample types.
    #[error("mismatch: sample has {values} values vs. {types} types")]
    ValueCount {
        /// How many values.
        values: usize,
        /// How many types.
        types: usize,
    },
    /// A sample refers to a location that does not exist.
    #[error("sample has nil location: id {0}")]
    UnknownLocation(u64),
    /// A mapping with id 0.
    #[error("found mapping with reserved ID=0")]
    MappingIdZero,
    /// Two mappings with one id.
    #[error("multiple mappings with same id: {0}")]
    MappingIdTwice(u64),
    /// A function with id 0.
    #[error("found function with reserved ID=0")]
    FunctionIdZero,
    /// Two functions with one id.
    #[error("multiple functions with same id: {0}")]
    FunctionIdTwice(u64),
    /// A location with id 0.
    #[error("found location with reserved id=0")]
    LocationIdZero,
    /// Two locations with one id.
    #[error("multiple locations with same id: {0}")]
    LocationIdTwice(u64),
    /// A line whose function id is 0 or does not exist.
    #[error("location id: {location} has a line with nil function: id {function}")]
    UnknownFunction {
        /// The location.
        location: u64,
        /// The function that does not exist.
        function: u64,
    },
}

/// Decodes uncompressed bytes and checks the profile.
///
/// # Errors
/// [`Invalid`], the same case that pprof would name first.
pub fn parse(bytes: &[u8]) -> Result<Profile, Invalid> {
    if bytes.is_empty() {
        return Err(Invalid::Empty);
    }
    // While prost decodes it, a second time_nanos would only overwrite the first.
    refuse_concatenated(bytes)?;
    let profile = Profile::decode(bytes).map_err(Invalid::Wire)?;
    check(&profile)?;
    Ok(profile)
}

/// Checks a decoded profile. Two things show only in the bytes, not here: emptiness and concatenation; see [`parse`].
///
/// # Errors
/// [`Invalid`], the same case that pprof would name first.
pub fn check(profile: &Profile) -> Result<(), Invalid> {
    check_strings(profile)?;
    check_samples(profile)?;
    let mut ids = HashSet::new();
    for mapping in &profile.mapping {
        if mapping.id == 0 {
            return Err(Invalid::MappingIdZero);
        }
        if !ids.insert(mapping.id) {
            return Err(Invalid::MappingIdTwice(mapping.id));
        }
    }
    let mut functions = HashSet::new();
    for function in &profile.function {
        if function.id == 0 {
            return Err(Invalid::FunctionIdZero);
        }
        if !functions.insert(function.id) {
            return Err(Invalid::FunctionIdTwice(function.id));
        }
    }
    ids.clear();
    for location in &profile.location {
        if location.id == 0 {
            return Err(Invalid::LocationIdZero);
        }
        if !ids.insert(location.id) {
            return Err(Invalid::LocationIdTwice(location.id));
        }
        if let Some(line) = location.line.iter().find(|line| !functions.contains(&line.function_id)) {
            return Err(Invalid::UnknownFunction { location: location.id, function: line.function_id });
        }
    }
    Ok(())
}

fn check_samples(profile: &Profile) -> Result<(), Invalid> {
    let types = profile.sample_type.len();
    if types == 0 && !profile.sample.is_empty() {
        return Err(Invalid::NoSampleType);
    }
    let known: HashSet<u64> = profile.location.iter().map(|location| location.id).collect();
    for sample in &profile.sample {
        if sample.value.len() != types {
            return Err(Invalid::ValueCount { values: sample.value.len(), types });
        }
        if let Some(id) = sample.location_id.iter().find(|id| !known.contains(id)) {
            return Err(Invalid::UnknownLocation(*id));
        }
    }
    Ok(())
}

/// The indices that pprof resolves: all but those of a label's half that is not in use.
fn check_strings(profile: &Profile) -> Result<(), Invalid> {
    if let Some(first) = profile.string_table.first().filter(|first| !first.is_empty()) {
        return Err(Invalid::FirstString(first.clone()));
    }
    let table_length = profile.string_table.len();
    let has = |field: &'static str, index: i64| match usize::try_from(index) {
        Ok(position) if position < table_length => Ok(()),
        _ => Err(Invalid::StringIndex { field, index, table_length }),
    };
    let has_value_type = |value_type: &ValueType| {
        has("value_type.type", value_type.r#type)?;
        has("value_type.unit", value_type.unit)
    };
    for mapping in &profile.mapping {
        has("mapping.filename", mapping.filename)?;
        has("mapping.build_id", mapping.build_id)?;
    }
    for function in &profile.function {
        has("function.name", function.name)?;
        has("function.system_name", function.system_name)?;
        has("function.filename", function.filename)?;
    }
    profile.sample_type.iter().try_for_each(has_value_type)?;
    for label in profile.sample.iter().flat_map(|sample| &sample.label) {
        has("label.key", label.key)?;
        if label.str != 0 {
            has("label.str", label.str)?;
        } else {
            has("label.num_unit", label.num_unit)?;
        }
    }
    has("drop_frames", profile.drop_frames)?;
    has("keep_frames", profile.keep_frames)?;
    profile.period_type.iter().try_for_each(has_value_type)?;
    profile.comment.iter().try_for_each(|comment| has("comment", *comment))?;
    has("default_sample_type", profile.default_sample_type)?;
    has("doc_url", profile.doc_url)
}

const TIME_NANOS: u32 = 9;

/// Walks the top level only. Broken bytes are left to the decoder, whose message says more.
fn refuse_concatenated(mut bytes: &[u8]) -> Result<(), Invalid> {
    let mut seen = false;
    while !bytes.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut bytes) else { return Ok(()) };
        if tag == TIME_NANOS && wire_type == prost::encoding::WireType::Varint {
            let Ok(value) = decode_varint(&mut bytes) else { return Ok(()) };
            if seen {
                return Err(Invalid::Concatenated);
            }
            seen = value != 0;
        } else if skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
