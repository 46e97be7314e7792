//! Each rule of OTLP profiles, broken in a request that keeps all others.
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary, ResourceProfiles, Stack,
};
use profiler::export::otlp::{Invalid, Request, check, parse};
use prost::Message;

use crate::owned_batch::{CONTAINER, owned_by, web};

fn valid() -> Request {
    crate::encode(&owned_by(web()))
}

fn dictionary(request: &mut Request) -> &mut ProfilesDictionary {
    request.dictionary.as_mut().unwrap()
}

fn profile(request: &mut Request) -> &mut Profile {
    &mut request.resource_profiles[0].scope_profiles[0].profiles[0]
}

fn attributes(request: &mut Request) -> &mut Vec<KeyValue> {
    &mut request.resource_profiles[0].resource.as_mut().unwrap().attributes
}

type Case = (&'static str, fn(&mut Request), Invalid);

#[test]
fn each_broken_rule_is_named() {
    let index = |field, table, index| Invalid::Index(field, table, index);
    let start = 1_700_000_000_000_000_000;
    let whole = valid();
    let tables = whole.dictionary.as_ref().unwrap();
    let (strings, stacks) = (tables.string_table.len(), tables.stack_table.len());
    let cases: Vec<Case> = vec![
        ("no dictionary", |request| request.dictionary = None, Invalid::NoDictionary),
        ("no resource", |request| request.resource_profiles.clear(), Invalid::Empty("resource")),
        (
            "no profile",
            |request| request.resource_profiles.push(ResourceProfiles::default()),
            Invalid::Empty("profile of a resource"),
        ),
        ("no sample", |request| profile(request).samples.clear(), Invalid::Empty("sample of a profile")),
        ("no zero mapping", |request| dictionary(request).mapping_table.clear(), Invalid::ZeroEntry("mapping_table")),
        (
            "no zero location",
            |request| dictionary(request).location_table.rotate_left(1),
            Invalid::ZeroEntry("location_table"),
        ),
        (
            "no zero function",
            |request| dictionary(request).function_table.rotate_left(1),
            Invalid::ZeroEntry("function_table"),
        ),
        ("no zero link", |request| dictionary(request).link_table.clear(), Invalid::ZeroEntry("link_table")),
        (
            "zeros for the ids of link 0",
            |request| dictionary(request).link_table[0].trace_id = vec![0; 16],
            Invalid::ZeroEntry("link_table"),
        ),
        (
            "no zero string",
            |request| dictionary(request).string_table.rotate_left(1),
            Invalid::ZeroEntry("string_table"),
        ),
        (
            "no zero attribute",
            |request| dictionary(request).attribute_table.rotate_left(1),
            Invalid::ZeroEntry("attribute_table"),
        ),
        ("no zero stack", |request| dictionary(request).stack_table.rotate_left(1), Invalid::ZeroEntry("stack_table")),
        (
            "a stack twice",
            |request| {
                let again = dictionary(request).stack_table[1].clone();
                dictionary(request).stack_table.push(again);
            },
            Invalid::Twice("stack_table", stacks),
        ),
        (
            "a string twice",
            |request| {
                let again = dictionary(request).string_table[1].clone();
                dictionary(request).string_table.push(again);
            },
            Invalid::Twice("string_table", strings),
        ),
        (
            "an unused string",
            |request| dictionary(request).string_table.push("unused".to_owned()),
            Invalid::Unused("string_table", strings),
        ),
        (
            "an unused stack",
            |request| dictionary(request).stack_table.push(Stack { location_indices: vec![1, 1, 1] }),
            Invalid::Unused("stack_table", stacks),
        ),
        (
            "an unused link",
            |request| {
                let link = Link { trace_id: vec![1; 16], span_id: vec![1; 8] };
                dictionary(request).link_table.push(link);
            },
            Invalid::Unused("link_table", 1),
        ),
        (
            "a link with a short id",
            |request| dictionary(request).link_table.push(Link { trace_id: vec![1; 15], span_id: vec![1; 8] }),
            Invalid::Id("trace_id", 15),
        ),
        (
            "a mapping's file beyond",
            |request| dictionary(request).mapping_table.push(Mapping { filename_strindex: 99, ..Mapping::default() }),
            index("mapping.filename_strindex", "string_table", 99),
        ),
        (
            "a function without any name",
            |request| dictionary(request).function_table.push(Function { start_line: 1, ..Function::default() }),
            Invalid::NotSet("a function's name, system name and file"),
        ),
        (
            "a location's mapping below",
            |request| dictionary(request).location_table[1].mapping_index = -1,
            index("location.mapping_index", "mapping_table", -1),
        ),
        (
            "a line without function",
            |request| {
                let lines = vec![Line { line: 5, ..Line::default() }];
                dictionary(request).location_table.push(Location { lines, ..Location::default() });
            },
            Invalid::NotSet("line.function_index"),
        ),
        (
            "a stack with a place that is not set",
            |request| dictionary(request).stack_table[1].location_indices[0] = 0,
            Invalid::NotSet("stack.location_indices"),
        ),
        (
            "an attribute without value",
            |request| dictionary(request).attribute_table[1].value = None,
            Invalid::NotSet("an attribute's value"),
        ),
        (
            "an attribute without key",
            |request| {
                let value = Some(AnyValue { value: Some(Value::IntValue(1)) });
                dictionary(request).attribute_table.push(KeyValueAndUnit { value, ..KeyValueAndUnit::default() });
            },
            Invalid::NotSet("attribute.key_strindex"),
        ),
        (
            "a sample's stack beyond",
            |request| profile(request).samples[0].stack_index = 5,
            index("sample.stack_index", "stack_table", 5),
        ),
        (
            "a sample's link beyond",
            |request| profile(request).samples[0].link_index = 1,
            index("sample.link_index", "link_table", 1),
        ),
        (
            "a sample's attribute beyond",
            |request| profile(request).samples[0].attribute_indices.push(99),
            index("attribute_indices", "attribute_table", 99),
        ),
        (
            "a sample's attribute that is not set",
            |request| profile(request).samples[0].attribute_indices.push(0),
            Invalid::NotSet("attribute_indices"),
        ),
        (
            "an attribute twice on a sample",
            |request| {
                let first = profile(request).samples[0].attribute_indices[0];
                profile(request).samples[0].attribute_indices.push(first);
            },
            Invalid::KeyTwice("thread.id".to_owned(), "sample"),
        ),
        (
            "a sample without observation",
            |request| profile(request).samples[0].timestamps_unix_nano.clear(),
            Invalid::Shape { values: 0, timestamps: 0 },
        ),
        (
            "fewer values than timestamps",
            |request| profile(request).samples[0].values.push(1),
            Invalid::Shape { values: 1, timestamps: 2 },
        ),
        (
            "samples of two shapes",
            |request| profile(request).samples[1].values.push(1),
            Invalid::Shape { values: 1, timestamps: 1 },
        ),
        (
            "a timestamp too early",
            |request| profile(request).samples[0].timestamps_unix_nano[0] -= 1,
            Invalid::Timestamp(start - 1),
        ),
        (
            "a timestamp at the end",
            |request| profile(request).samples[0].timestamps_unix_nano[0] += 10_000_000_000,
            Invalid::Timestamp(start + 10_000_000_000),
        ),
        (
            "two samples of one identity",
            |request| {
                let mut again = profile(request).samples[0].clone();
                again.attribute_indices.reverse();
                profile(request).samples.push(again);
            },
            Invalid::Identity(1),
        ),
        ("no sample type", |request| profile(request).sample_type = None, Invalid::NotSet("sample_type")),
        ("no period type", |request| profile(request).period_type = None, Invalid::NotSet("period_type")),
        ("a negative period", |request| profile(request).period = -1, Invalid::Period(-1)),
        ("a short profile id", |request| profile(request).profile_id.truncate(3), Invalid::Id("profile_id", 3)),
        ("a profile id of zeros", |request| profile(request).profile_id.fill(0), Invalid::Id("profile_id", 16)),
        ("a payload without format", |request| profile(request).original_payload.push(1), Invalid::OriginalPayload),
        (
            "a resource's key twice",
            |request| {
                let again = attributes(request)[3].clone();
                assert_eq!(again.value, Some(AnyValue { value: Some(Value::StringValue(CONTAINER.to_owned())) }));
                attributes(request).push(again);
            },
            Invalid::KeyTwice("container.id".to_owned(), "resource"),
        ),
        (
            "a resource's attribute without value",
            |request| attributes(request)[0].value = None,
            Invalid::Attribute("service.name".to_owned(), "resource"),
        ),
        (
            "a resource's attribute without key",
            |request| attributes(request)[0].key.clear(),
            Invalid::Attribute(String::new(), "resource"),
        ),
        (
            "a resource's value in the dictionary",
            |request| attributes(request)[0].value = Some(AnyValue { value: Some(Value::StringValueStrindex(1)) }),
            Invalid::Attribute("service.name".to_owned(), "resource"),
        ),
    ];
    assert_eq!(check(&whole), Ok(()));
    for (name, break_it, expected) in cases {
        let mut broken = whole.clone();
        break_it(&mut broken);
        assert_eq!(check(&broken), Err(expected.clone()), "{name}");
        assert_eq!(parse(&broken.encode_to_vec()), Err(expected), "{name}, as bytes");
    }
}

#[test]
fn what_is_no_protobuf_is_no_request() {
    assert!(matches!(parse(b"\xff"), Err(Invalid::Wire(_))));
    assert_eq!(parse(b""), Err(Invalid::NoDictionary));
    let bytes = valid().encode_to_vec();
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "{length}");
    }
}
