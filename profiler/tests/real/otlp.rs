//! A recorded batch through an OpenTelemetry collector, over HTTP and over gRPC, against the pprof of the same batch.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use profiler::export::otlp::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder, Request};
use profiler::profile::pprof;
use prost::Message as _;

use crate::otlp_stacks::{attributes, pprof_stacks, stacks};
use crate::recorded::{self, CONTAINER};
use crate::servers::{Collector, wait_for};

/// The collector writes the attributes of resources as references into the dictionary: back to texts.
pub(crate) fn spelled_out(bytes: &[u8]) -> Request {
    // `ProfilesData` has the request's two fields under the same numbers.
    let mut request = Request::decode(bytes).unwrap();
    let strings = request.dictionary.as_ref().unwrap().string_table.clone();
    let text = |index: i32| strings[index as usize].clone();
    let spell = |pair: &mut KeyValue| {
        if pair.key.is_empty() {
            pair.key = text(pair.key_strindex);
        }
        if let Some(AnyValue { value: Some(value) }) = &mut pair.value
            && let Value::StringValueStrindex(index) = value
        {
            *value = Value::StringValue(text(*index));
        }
    };
    let dictionary = request.dictionary.as_mut().unwrap();
    for attribute in &mut dictionary.attribute_table {
        if let Some(AnyValue { value: Some(value) }) = &mut attribute.value
            && let Value::StringValueStrindex(index) = value
        {
            *value = Value::StringValue(text(*index));
        }
    }
    for resource in request.resource_profiles.iter_mut().filter_map(|profiles| profiles.resource.as_mut()) {
        resource.attributes.iter_mut().for_each(spell);
    }
    request
}

fn config(resource_per_process: bool) -> OtlpConfig {
    OtlpConfig {
        host: "node-1".to_owned(),
        attributes: vec![("cloud.region".to_owned(), "north".to_owned())],
        resource_per_process,
        message_bytes: MAX_MESSAGE_BYTES,
    }
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn what_the_collector_decoded_are_the_stacks_of_the_pprof_sample_for_sample() {
    let Some(collector) = Collector::start() else { return };
    let Some(batch) = recorded::batch() else { return };
    let expected = pprof_stacks(&pprof::encode(&batch, &recorded::info()).unwrap());
    assert_eq!(expected.values().map(|(count, _)| count).sum::<u64>(), batch.samples.len() as u64);
    let addresses = [format!("otlp+http://{}", collector.http), format!("otlp+grpc://{}", collector.grpc())];
    let mut before = 0;
    for (address, per_process) in addresses.iter().flat_map(|address| [(address, false), (address, true)]) {
        let mut encoder = OtlpEncoder::new(config(per_process), Arc::default());
        let messages = recorded::send(address, &mut encoder, &batch);
        let written = wait_for("the collector's file", || {
            let written = collector.written();
            (written.len() >= before + messages.len()).then_some(written)
        });
        let requests: Vec<Request> = written[before..].iter().map(|bytes| spelled_out(bytes)).collect();
        before = written.len();
        let seen = stacks(&requests);
        assert_eq!(seen.len(), expected.len(), "{address}");
        for (stack, amounts) in &expected {
            assert_eq!(seen.get(stack), Some(amounts), "{address}: {stack}");
        }
        let resources = requests.iter().flat_map(|request| &request.resource_profiles);
        let ours: Vec<_> = resources
            .map(|profiles| attributes(&profiles.resource.as_ref().unwrap().attributes))
            .filter(|attributes| attributes.get("container.id").is_some_and(|id| id == CONTAINER))
            .collect();
        assert_eq!(ours.len(), 1, "{address}");
        for (key, value) in [
            ("service.name", "web"),
            ("k8s.namespace.name", "shop"),
            ("k8s.deployment.name", "web"),
            ("cloud.region", "north"),
            ("host.name", "node-1"),
        ] {
            assert_eq!(ours[0].get(key).map(String::as_str), Some(value), "{address}: {key}");
        }
    }
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn every_field_that_is_sent_arrives() {
    let Some(collector) = Collector::start() else { return };
    let Some(batch) = recorded::batch() else { return };
    let mut encoder = OtlpEncoder::new(config(false), Arc::default());
    let messages = recorded::send(&format!("otlp+http://{}", collector.http), &mut encoder, &batch);
    let written = wait_for("the collector's file", || {
        let written = collector.written();
        (written.len() == messages.len()).then_some(written)
    });
    for (message, bytes) in messages.iter().zip(&written) {
        let (sent, seen) = (Request::decode(&*message.body).unwrap(), Request::decode(&**bytes).unwrap());
        let (ours, theirs) = (sent.dictionary.as_ref().unwrap(), seen.dictionary.as_ref().unwrap());
        assert_eq!(theirs.stack_table, ours.stack_table);
        assert_eq!(theirs.location_table, ours.location_table);
        assert_eq!(theirs.function_table, ours.function_table);
        assert_eq!(theirs.mapping_table, ours.mapping_table);
        assert_eq!(theirs.link_table, ours.link_table);
        assert_eq!(theirs.string_table[..ours.string_table.len()], ours.string_table, "it only appends");
        assert_eq!(theirs.attribute_table.len(), ours.attribute_table.len());
        for (theirs, ours) in theirs.attribute_table.iter().zip(&ours.attribute_table).skip(1) {
            assert_eq!(theirs.key_strindex, ours.key_strindex);
            assert_eq!(theirs.unit_strindex, ours.unit_strindex);
        }
        assert_eq!(seen.resource_profiles.len(), sent.resource_profiles.len());
        let (seen, sent) = (seen.resource_profiles.iter(), sent.resource_profiles.iter());
        for (theirs, ours) in seen.zip(sent) {
            assert_eq!(theirs.schema_url, ours.schema_url);
            assert_eq!(theirs.scope_profiles, ours.scope_profiles, "profile ids, times, periods, samples, scopes");
        }
    }
}
