//! A dictionary with only what a part of a request refers to. Made for the requests of this module's encoder: no links.

use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, Line, Location, Mapping, Profile, ProfilesDictionary, Sample, Stack, ValueType,
};

use super::dictionary::{Dictionary, Value};

/// The old dictionary, the new one, and what became of each index. Each method is `None` for an index that leads nowhere.
pub(super) struct Rebuild<'old> {
    old: &'old ProfilesDictionary,
    new: Dictionary,
    strings: Vec<Option<i32>>,
    attributes: Vec<Option<i32>>,
    functions: Vec<Option<i32>>,
    mappings: Vec<Option<i32>>,
    locations: Vec<Option<i32>>,
    stacks: Vec<Option<i32>>,
}

fn at<T>(all: &[T], index: i32) -> Option<&T> {
    all.get(usize::try_from(index).ok()?)
}

fn note(all: &mut [Option<i32>], index: i32, new: i32) -> Option<i32> {
    *all.get_mut(usize::try_from(index).ok()?)? = Some(new);
    Some(new)
}

impl<'old> Rebuild<'old> {
    pub(super) fn new(old: &'old ProfilesDictionary) -> Rebuild<'old> {
        let unknown = |length: usize| {
            let mut all = vec![None; length];
            // "Not set" stays so.
            if let Some(zero) = all.first_mut() {
                *zero = Some(0);
            }
            all
        };
        Rebuild {
            old,
            new: Dictionary::new(),
            strings: unknown(old.string_table.len()),
            attributes: unknown(old.attribute_table.len()),
            functions: unknown(old.function_table.len()),
            mappings: unknown(old.mapping_table.len()),
            locations: unknown(old.location_table.len()),
            stacks: unknown(old.stack_table.len()),
        }
    }

    pub(super) fn finish(self) -> ProfilesDictionary {
        self.new.finish()
    }

    /// A profile's types and times, without its samples.
    pub(super) fn profile_head(&mut self, old: &Profile) -> Option<Profile> {
        Some(Profile {
            sample_type: self.value_type(old.sample_type)?,
            period_type: self.value_type(old.period_type)?,
            attribute_indices: self.attributes(&old.attribute_indices)?,
            time_unix_nano: old.time_unix_nano,
            duration_nano: old.duration_nano,
            period: old.period,
            ..Profile::default()
        })
    }

    pub(super) fn sample(&mut self, old: &Sample) -> Option<Sample> {
        Some(Sample {
            stack_index: self.stack(old.stack_index)?,
            attribute_indices: self.attributes(&old.attribute_indices)?,
            ..old.clone()
        })
    }

    fn value_type(&mut self, old: Option<ValueType>) -> Option<Option<ValueType>> {
        let Some(old) = old else { return Some(None) };
        let (type_strindex, unit_strindex) = (self.string(old.type_strindex)?, self.string(old.unit_strindex)?);
        Some(Some(ValueType { type_strindex, unit_strindex }))
    }

    fn string(&mut self, index: i32) -> Option<i32> {
        if let Some(known) = at(&self.strings, index)? {
            return Some(*known);
        }
        let new = self.new.string(at(&self.old.string_table, index)?);
        note(&mut self.strings, index, new)
    }

    fn attributes(&mut self, indices: &[i32]) -> Option<Vec<i32>> {
        indices.iter().map(|index| self.attribute(*index)).collect()
    }

    fn attribute(&mut self, index: i32) -> Option<i32> {
        if let Some(known) = at(&self.attributes, index)? {
            return Some(*known);
        }
        let old = at(&self.old.attribute_table, index)?;
        let value = match old.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(text) => Value::Text(text.clone()),
            any_value::Value::IntValue(number) => Value::Number(*number),
            _ => return None,
        };
        let (key, unit) = (self.string(old.key_strindex)?, self.string(old.unit_strindex)?);
        let new = self.new.attribute_of(key, unit, value);
        note(&mut self.attributes, index, new)
    }

    fn function(&mut self, index: i32) -> Option<i32> {
        if let Some(known) = at(&self.functions, index)? {
            return Some(*known);
        }
        let old = at(&self.old.function_table, index)?;
        let function = Function {
            name_strindex: self.string(old.name_strindex)?,
            system_name_strindex: self.string(old.system_name_strindex)?,
            filename_strindex: self.string(old.filename_strindex)?,
            start_line: old.start_line,
        };
        let new = self.new.function(function);
        note(&mut self.functions, index, new)
    }

    fn mapping(&mut self, index: i32) -> Option<i32> {
        if let Some(known) = at(&self.mappings, index)? {
            return Some(*known);
        }
        let old = at(&self.old.mapping_table, index)?;
        let filename_strindex = self.string(old.filename_strindex)?;
        let attribute_indices = self.attributes(&old.attribute_indices)?;
        let new = self.new.mapping(Mapping { filename_strindex, attribute_indices, ..old.clone() });
        note(&mut self.mappings, index, new)
    }

    fn location(&mut self, index: i32) -> Option<i32> {
        if let Some(known) = at(&self.locations, index)? {
            return Some(*known);
        }
        let old = at(&self.old.location_table, index)?;
        let mut lines = Vec::with_capacity(old.lines.len());
        for line in &old.lines {
            lines.push(Line { function_index: self.function(line.function_index)?, ..*line });
        }
        let mapping_index = self.mapping(old.mapping_index)?;
        let attribute_indices = self.attributes(&old.attribute_indices)?;
        let new = self.new.location(Location { mapping_index, address: old.address, lines, attribute_indices });
        note(&mut self.locations, index, new)
    }

    fn stack(&mut self, index: i32) -> Option<i32> {
        if let Some(known) = at(&self.stacks, index)? {
            return Some(*known);
        }
        let old = at(&self.old.stack_table, index)?;
        let location_indices = old.location_indices.iter().map(|index| self.location(*index)).collect::<Option<_>>()?;
        let new = self.new.stack(Stack { location_indices });
        note(&mut self.stacks, index, new)
    }
}
