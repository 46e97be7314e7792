//! The request's dictionary while it is made: seven tables, each thing once, with the zero value first.
//!
//! Entry 0 of each table means "not set", and must be there.

use std::collections::HashMap;
use std::hash::Hash;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, ProfilesDictionary, Stack,
};

/// The value of an attribute; there are no others here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<Value> for AnyValue {
    fn from(value: Value) -> AnyValue {
        let value = match value {
            Value::Text(text) => any_value::Value::StringValue(text),
            Value::Number(number) => any_value::Value::IntValue(number),
        };
        AnyValue { value: Some(value) }
    }
}

/// What makes a location: mapping, address, lines, attributes.
type LocationKey = (i32, u64, Vec<Line>, Vec<i32>);
/// What makes an attribute: key and unit as strings' indices, and the value.
type AttributeKey = (i32, i32, Value);

/// Content → index; 0 is the zero value.
struct Table<Key>(HashMap<Key, i32>);

impl<Key: Hash + Eq> Table<Key> {
    fn with_zero(zero: Key) -> Table<Key> {
        Table(HashMap::from([(zero, 0)]))
    }

    /// The index, and whether it is new.
    fn index(&mut self, key: Key) -> (i32, bool) {
        let next = self.0.len() as i32;
        let index = *self.0.entry(key).or_insert(next);
        (index, index == next)
    }
}

/// A dictionary that grows.
pub(super) struct Dictionary {
    tables: ProfilesDictionary,
    strings: Table<String>,
    mappings: Table<Mapping>,
    functions: Table<Function>,
    locations: Table<LocationKey>,
    stacks: Table<Stack>,
    attributes: HashMap<AttributeKey, i32>,
}

impl Dictionary {
    pub(super) fn new() -> Dictionary {
        Dictionary {
            tables: ProfilesDictionary {
                mapping_table: vec![Mapping::default()],
                location_table: vec![Location::default()],
                function_table: vec![Function::default()],
                // Its ids stay empty: that is the zero value, and one back end refuses zero bytes in their place.
                link_table: vec![Link::default()],
                string_table: vec![String::new()],
                attribute_table: vec![KeyValueAndUnit::default()],
                stack_table: vec![Stack::default()],
            },
            strings: Table::with_zero(String::new()),
            mappings: Table::with_zero(Mapping::default()),
            functions: Table::with_zero(Function::default()),
            locations: Table::with_zero((0, 0, Vec::new(), Vec::new())),
            stacks: Table::with_zero(Stack::default()),
            attributes: HashMap::new(),
        }
    }

    pub(super) fn string(&mut self, text: &str) -> i32 {
        if let Some(index) = self.strings.0.get(text) {
            return *index;
        }
        self.tables.string_table.push(text.to_owned());
        self.strings.index(text.to_owned()).0
    }

    pub(super) fn mapping(&mut self, mapping: Mapping) -> i32 {
        let (index, new) = self.mappings.index(mapping.clone());
        if new {
            self.tables.mapping_table.push(mapping);
        }
        index
    }

    pub(super) fn function(&mut self, function: Function) -> i32 {
        let (index, new) = self.functions.index(function);
        if new {
            self.tables.function_table.push(function);
        }
        index
    }

    pub(super) fn location(&mut self, location: Location) -> i32 {
        let Location { mapping_index, address, lines, attribute_indices } = location.clone();
        let (index, new) = self.locations.index((mapping_index, address, lines, attribute_indices));
        if new {
            self.tables.location_table.push(location);
        }
        index
    }

    pub(super) fn stack(&mut self, stack: Stack) -> i32 {
        let (index, new) = self.stacks.index(stack.clone());
        if new {
            self.tables.stack_table.push(stack);
        }
        index
    }

    /// The index of an attribute without unit.
    pub(super) fn attribute(&mut self, key: &str, value: Value) -> i32 {
        let key = self.string(key);
        self.attribute_of(key, 0, value)
    }

    /// The index of an attribute whose texts have indices already.
    pub(super) fn attribute_of(&mut self, key_strindex: i32, unit_strindex: i32, value: Value) -> i32 {
        let next = self.tables.attribute_table.len() as i32;
        let index = *self.attributes.entry((key_strindex, unit_strindex, value.clone())).or_insert(next);
        if index == next {
            let value = Some(value.into());
            self.tables.attribute_table.push(KeyValueAndUnit { key_strindex, value, unit_strindex });
        }
        index
    }

    pub(super) fn finish(self) -> ProfilesDictionary {
        self.tables
    }
}
