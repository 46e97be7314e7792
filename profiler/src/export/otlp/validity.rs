//! The rules of OTLP profiles, case by case: what passes here is taken by receivers that check, and means the same to those that
//! do not.
//!
//! Of the protocol's SHOULDs, those are rules here that our own requests keep: nothing twice, nothing without use, one shape of
//! samples. Attributes of resources must be plain, as receivers want them.

use std::collections::HashSet;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::profiles::v1development::{Profile, ProfilesDictionary, Sample};
use prost::Message;

use super::Request;

/// Why a request breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not protobuf.
    #[error("not an OTLP profiles request: {0}")]
    Wire(prost::DecodeError),
    /// No dictionary.
    #[error("there is no dictionary")]
    NoDictionary,
    /// Nothing in it: no resource, no profile of a resource, or no sample of a profile.
    #[error("there is no {0}")]
    Empty(&'static str),
    /// Entry 0 is missing or is not the zero value.
    #[error("{0}[0] is not there, or not the zero value")]
    ZeroEntry(&'static str),
    /// Two equal entries.
    #[error("{0}[{1}] is there twice")]
    Twice(&'static str, usize),
    /// An entry that nothing refers to.
    #[error("nothing refers to {0}[{1}]")]
    Unused(&'static str, usize),
    /// An index beyond its table, or below it.
    #[error("{0} refers to {1}[{2}], which is not there")]
    Index(&'static str, &'static str, i32),
    /// "Not set" where something must be.
    #[error("{0} is not set")]
    NotSet(&'static str),
    /// A key twice in one set of attributes.
    #[error("attribute {0:?} is there twice in one {1}")]
    KeyTwice(String, &'static str),
    /// An attribute without key or value, or one that refers to the dictionary outside of it.
    #[error("attribute {0:?} of a {1} is not plain, or has no value")]
    Attribute(String, &'static str),
    /// Values and timestamps: none, of different length, or not as in the profile's other samples.
    #[error("a sample has {values} values and {timestamps} timestamps")]
    Shape {
        /// How many values.
        values: usize,
        /// How many timestamps.
        timestamps: usize,
    },
    /// A timestamp before the profile's beginning, or not before its end.
    #[error("timestamp {0} lies outside of its profile")]
    Timestamp(u64),
    /// Two samples of one stack, attributes and link.
    #[error("two samples of a profile have one identity: stack {0}")]
    Identity(i32),
    /// An id of another length, or of zeros.
    #[error("{0} has {1} bytes, or only zeros")]
    Id(&'static str, usize),
    /// A negative period.
    #[error("the period is {0}")]
    Period(i64),
    /// An original payload without its format, or the other way round.
    #[error("an original payload and its format must be set together")]
    OriginalPayload,
}

/// Reads a request and checks it.
///
/// # Errors
/// The first rule that it breaks.
pub fn parse(bytes: &[u8]) -> Result<Request, Invalid> {
    let request = Request::decode(bytes).map_err(Invalid::Wire)?;
    check(&request)?;
    Ok(request)
}

/// Checks a request.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(request: &Request) -> Result<(), Invalid> {
    let dictionary = request.dictionary.as_ref().ok_or(Invalid::NoDictionary)?;
    let mut tables = Tables::of(dictionary)?;
    tables.check_entries(dictionary)?;
    if request.resource_profiles.is_empty() {
        return Err(Invalid::Empty("resource"));
    }
    for resource in &request.resource_profiles {
        check_plain(resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes), "resource")?;
        let mut profiles = 0;
        for scope in &resource.scope_profiles {
            check_plain(scope.scope.as_ref().map_or(&[][..], |scope| &scope.attributes), "scope")?;
            for profile in &scope.profiles {
                check_profile(&mut tables, dictionary, profile)?;
                profiles += 1;
            }
        }
        if profiles == 0 {
            return Err(Invalid::Empty("profile of a resource"));
        }
    }
    tables.all().into_iter().try_for_each(Table::check_used)
}

/// One table, and which of its entries were referred to.
struct Table {
    name: &'static str,
    used: Vec<bool>,
}

impl Table {
    /// A table of these entries, by their bytes: the first one is zero, no two are equal.
    fn of<T: Message>(name: &'static str, entries: &[T]) -> Result<Table, Invalid> {
        let mut seen = HashSet::with_capacity(entries.len());
        if entries.first().is_none_or(|zero| zero.encoded_len() != 0) {
            return Err(Invalid::ZeroEntry(name));
        }
        for (index, entry) in entries.iter().enumerate() {
            if !seen.insert(entry.encode_to_vec()) {
                return Err(Invalid::Twice(name, index));
            }
        }
        Ok(Table { name, used: vec![false; entries.len()] })
    }

    fn of_strings(entries: &[String]) -> Result<Table, Invalid> {
        let name = "string_table";
        let mut seen = HashSet::with_capacity(entries.len());
        if entries.first().is_none_or(|zero| !zero.is_empty()) {
            return Err(Invalid::ZeroEntry(name));
        }
        match entries.iter().position(|entry| !seen.insert(entry)) {
            Some(index) => Err(Invalid::Twice(name, index)),
            None => Ok(Table { name, used: vec![false; entries.len()] }),
        }
    }

    /// Notes that `field` refers to an entry; 0 is "not set".
    fn refer(&mut self, field: &'static str, index: i32) -> Result<(), Invalid> {
        let entry = usize::try_from(index).ok().and_then(|index| self.used.get_mut(index));
        *entry.ok_or(Invalid::Index(field, self.name, index))? = true;
        Ok(())
    }

    /// As [`Self::refer`], where something must be set.
    fn need(&mut self, field: &'static str, index: i32) -> Result<(), Invalid> {
        if index == 0 { Err(Invalid::NotSet(field)) } else { self.refer(field, index) }
    }

    fn check_used(&self) -> Result<(), Invalid> {
        match self.used.iter().skip(1).position(|used| !used) {
            Some(index) => Err(Invalid::Unused(self.name, index + 1)),
            None => Ok(()),
        }
    }
}

struct Tables {
    mappings: Table,
    locations: Table,
    functions: Table,
    links: Table,
    strings: Table,
    attributes: Table,
    stacks: Table,
}

impl Tables {
    fn of(dictionary: &ProfilesDictionary) -> Result<Tables, Invalid> {
        Ok(Tables {
            mappings: Table::of("mapping_table", &dictionary.mapping_table)?,
            locations: Table::of("location_table", &dictionary.location_table)?,
            functions: Table::of("function_table", &dictionary.function_table)?,
            links: Table::of("link_table", &dictionary.link_table)?,
            strings: Table::of_strings(&dictionary.string_table)?,
            attributes: Table::of("attribute_table", &dictionary.attribute_table)?,
            stacks: Table::of("stack_table", &dictionary.stack_table)?,
        })
    }

    fn all(&self) -> [&Table; 7] {
        let Tables { mappings, locations, functions, links, strings, attributes, stacks } = self;
        [mappings, locations, functions, links, strings, attributes, stacks]
    }

    /// What the entries themselves refer to; entries 0 refer to nothing.
    fn check_entries(&mut self, dictionary: &ProfilesDictionary) -> Result<(), Invalid> {
        for mapping in &dictionary.mapping_table {
            self.strings.refer("mapping.filename_strindex", mapping.filename_strindex)?;
            self.check_set(dictionary, &mapping.attribute_indices, "mapping")?;
        }
        for function in dictionary.function_table.iter().skip(1) {
            let names = [function.name_strindex, function.system_name_strindex, function.filename_strindex];
            names.into_iter().try_for_each(|name| self.strings.refer("function", name))?;
            if names == [0; 3] {
                return Err(Invalid::NotSet("a function's name, system name and file"));
            }
        }
        for location in &dictionary.location_table {
            self.mappings.refer("location.mapping_index", location.mapping_index)?;
            self.check_set(dictionary, &location.attribute_indices, "location")?;
            location
                .lines
                .iter()
                .try_for_each(|line| self.functions.need("line.function_index", line.function_index))?;
        }
        for stack in &dictionary.stack_table {
            let mut indices = stack.location_indices.iter();
            indices.try_for_each(|index| self.locations.need("stack.location_indices", *index))?;
        }
        for attribute in dictionary.attribute_table.iter().skip(1) {
            self.strings.need("attribute.key_strindex", attribute.key_strindex)?;
            self.strings.refer("attribute.unit_strindex", attribute.unit_strindex)?;
            if attribute.value.as_ref().is_none_or(|value| value.value.is_none()) {
                return Err(Invalid::NotSet("an attribute's value"));
            }
        }
        for link in dictionary.link_table.iter().skip(1) {
            check_id("trace_id", &link.trace_id, 16)?;
            check_id("span_id", &link.span_id, 8)?;
        }
        Ok(())
    }

    /// A set of attributes: each is there, each key once.
    fn check_set(&mut self, dictionary: &ProfilesDictionary, set: &[i32], of: &'static str) -> Result<(), Invalid> {
        let mut keys = HashSet::with_capacity(set.len());
        for index in set {
            self.attributes.need("attribute_indices", *index)?;
            let key = dictionary.attribute_table.get(*index as usize).map_or(0, |attribute| attribute.key_strindex);
            if !keys.insert(key) {
                let text = dictionary.string_table.get(key as usize).cloned().unwrap_or_default();
                return Err(Invalid::KeyTwice(text, of));
            }
        }
        Ok(())
    }
}

fn check_profile(tables: &mut Tables, dictionary: &ProfilesDictionary, profile: &Profile) -> Result<(), Invalid> {
    let types = [("sample_type", profile.sample_type), ("period_type", profile.period_type)];
    for (field, value_type) in types {
        let value_type = value_type.ok_or(Invalid::NotSet(field))?;
        tables.strings.need(field, value_type.type_strindex)?;
        tables.strings.refer(field, value_type.unit_strindex)?;
    }
    if profile.period < 0 {
        return Err(Invalid::Period(profile.period));
    }
    if !profile.profile_id.is_empty() {
        check_id("profile_id", &profile.profile_id, 16)?;
    }
    if profile.original_payload.is_empty() != profile.original_payload_format.is_empty() {
        return Err(Invalid::OriginalPayload);
    }
    tables.check_set(dictionary, &profile.attribute_indices, "profile")?;
    let first = profile.samples.first().ok_or(Invalid::Empty("sample of a profile"))?;
    let shape = |sample: &Sample| (sample.values.is_empty(), sample.timestamps_unix_nano.is_empty());
    let end = profile.time_unix_nano.saturating_add(profile.duration_nano);
    let mut identities = HashSet::with_capacity(profile.samples.len());
    for sample in &profile.samples {
        let (values, timestamps) = (sample.values.len(), sample.timestamps_unix_nano.len());
        let lengths_differ = values != 0 && timestamps != 0 && values != timestamps;
        if values.max(timestamps) == 0 || lengths_differ || shape(sample) != shape(first) {
            return Err(Invalid::Shape { values, timestamps });
        }
        let is_outside = |time: &&u64| !(profile.time_unix_nano..end).contains(*time);
        if let Some(outside) = sample.timestamps_unix_nano.iter().find(is_outside) {
            return Err(Invalid::Timestamp(*outside));
        }
        tables.stacks.refer("sample.stack_index", sample.stack_index)?;
        tables.links.refer("sample.link_index", sample.link_index)?;
        tables.check_set(dictionary, &sample.attribute_indices, "sample")?;
        let mut set = sample.attribute_indices.clone();
        set.sort_unstable();
        if !identities.insert((sample.stack_index, set, sample.link_index)) {
            return Err(Invalid::Identity(sample.stack_index));
        }
    }
    Ok(())
}

/// Attributes outside of the dictionary: a key of its own, once, and a value that does not refer to it.
fn check_plain(attributes: &[KeyValue], of: &'static str) -> Result<(), Invalid> {
    let mut keys = HashSet::with_capacity(attributes.len());
    for attribute in attributes {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        let refers = value.is_none_or(|value| matches!(value, any_value::Value::StringValueStrindex(_)));
        if attribute.key.is_empty() || attribute.key_strindex != 0 || refers {
            return Err(Invalid::Attribute(attribute.key.clone(), of));
        }
        if !keys.insert(&attribute.key) {
            return Err(Invalid::KeyTwice(attribute.key.clone(), of));
        }
    }
    Ok(())
}

fn check_id(what: &'static str, id: &[u8], length: usize) -> Result<(), Invalid> {
    if id.len() != length || id.iter().all(|byte| *byte == 0) { Err(Invalid::Id(what, id.len())) } else { Ok(()) }
}
