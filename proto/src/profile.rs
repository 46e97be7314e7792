//! The messages of `proto/profile.proto`, one struct each, fields in the schema's order.
//!
//! Written by hand with prost's derive (the schema is small and will not change), so that building needs no `protoc`.
//! Indices into `string_table` are `i64` as on the wire; nothing here checks them, [`crate::validity`] does.

use prost::Message;

/// A whole profile.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Profile {
    /// What each entry of [`Sample::value`] means.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks with their values.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Executables; the first one is the main binary.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Source functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// Every text; the first one is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// String index of a regular expression: frames to drop.
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// String index of a regular expression: exceptions from `drop_frames`.
    #[prost(int64, tag = "8")]
    pub keep_frames: i64,
    /// Wall clock at the start, ns since the Unix epoch.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Length, ns.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What `period` counts.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Events between two samples.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// String indices of free texts.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// String index of the preferred sample type's name; 0: the last one.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
    /// String index of an http(s) address with documentation.
    #[prost(int64, tag = "15")]
    pub doc_url: i64,
}

/// A kind of value and its unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct ValueType {
    /// String index, such as of `cpu`.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// String index, such as of `nanoseconds`.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// One stack with its values and labels.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Sample {
    /// Ids of locations, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One value for each of [`Profile::sample_type`].
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// Further facts.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A fact about a sample: either a text, or a number with a unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Label {
    /// String index.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// String index; 0: the label is a number.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// The number. pprof drops a number 0 that has no unit.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// String index of the number's unit; 0: pprof takes the key as the unit.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// An executable that locations lie in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Mapping {
    /// Not 0; unique.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// First address behind it.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Where in the file the mapping starts.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// String index of the path.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// String index of the build id.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Its locations' function names were looked up.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Its locations' source files were looked up.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Its locations' line numbers were looked up.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Its locations' inlined functions were looked up.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A place in code.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Location {
    /// Not 0; unique.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Id of a mapping; 0: none.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The address that was sampled.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Functions at this address, the innermost inlined one first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
    /// Several symbols share this address.
    #[prost(bool, tag = "5")]
    pub is_folded: bool,
}

/// A function at a location.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Line {
    /// Id of a function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Source line; 0: unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
    /// Source column; 0: unknown.
    #[prost(int64, tag = "3")]
    pub column: i64,
}

/// A source function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Function {
    /// Not 0; unique.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// String index of the name for people.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// String index of the linkage name.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// String index of the source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// Line on which the function starts; 0: unknown.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
