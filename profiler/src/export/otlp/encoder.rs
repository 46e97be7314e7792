//! [`OtlpEncoder`]: a batch into requests, one unless it would be too large.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::profiles::v1development::{
    Profile, ResourceProfiles, Sample as Row, ScopeProfiles, ValueType,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::Request;
use super::parts::parts;
use super::resource::{SCHEMA_URL, resource};
use super::tables::Tables;
use super::validity::parse;
use crate::export::digest::digest;
use crate::export::series::{MAX_SERIES, series};
use crate::export::text::TextCounters;
use crate::export::{Encode, EncodeError, Message};
use crate::profile::pprof::EncodeError as BrokenBatch;
use crate::profile::{Batch, Identity, Process, Sample, StringIndex};

const WIRE: &str = "otlp";
/// Largest body: what a gRPC server takes is 4 MiB unless it is told otherwise, and its frame and headers want some.
pub const MAX_MESSAGE_BYTES: usize = (4 << 20) - (64 << 10);

/// What the encoder can't know from a batch.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// `host.name`.
    pub host: String,
    /// The operator's resource attributes, keys and values; they count where the owner of a resource says nothing.
    pub attributes: Vec<(String, String)>,
    /// A resource for each process instead of each service and container; else `process.pid` is an attribute of the samples.
    pub resource_per_process: bool,
    /// Bodies above this are parted until they are not; [`MAX_MESSAGE_BYTES`] unless the receiver takes more.
    pub message_bytes: usize,
}

/// Rows of a resource by their period, ns.
type Periods = Vec<(u64, Vec<Row>)>;
/// What samples of one row have in common: resource, period, stack, attributes.
type RowKey = (u32, u64, i32, Vec<i32>);

/// OTLP's wire.
pub struct OtlpEncoder {
    config: OtlpConfig,
    counters: Arc<TextCounters>,
}

impl OtlpEncoder {
    /// An encoder without state.
    pub fn new(config: OtlpConfig, counters: Arc<TextCounters>) -> OtlpEncoder {
        OtlpEncoder { config, counters }
    }

    /// The request of a whole batch.
    fn request(&self, batch: &Batch, id: [u8; 16]) -> Result<Request, BrokenBatch> {
        let mut tables = Tables::new(batch);
        let mut resources = self.resources(batch)?;
        let span = Span::of(batch);
        let mut rows: HashMap<RowKey, (usize, usize)> = HashMap::new();
        for sample in &batch.samples {
            let broken = BrokenBatch { table: "process", index: sample.process.0 };
            let process = batch.processes.get(sample.process.0 as usize).ok_or(broken.clone())?;
            let number = *resources.of_process.get(sample.process.0 as usize).ok_or(broken.clone())?;
            let stack_index = tables.stack(sample)?;
            let on_samples = (!self.config.resource_per_process).then_some(process);
            let attribute_indices = tables.attributes(sample, on_samples);
            let profiles = &mut resources.all.get_mut(number as usize).ok_or(broken)?.rows;
            let key = (number, sample.weight_ns, stack_index, attribute_indices);
            let (profile, row) = match rows.get(&key) {
                Some(known) => *known,
                None => {
                    let attribute_indices = key.3.clone();
                    let row = Row { stack_index, attribute_indices, ..Row::default() };
                    let place = add_row(profiles, sample.weight_ns, row);
                    *rows.entry(key).or_insert(place)
                }
            };
            profiles[profile].1[row].timestamps_unix_nano.push(span.time(sample));
        }
        let mut value_type = |name: &str, unit: &str| ValueType {
            type_strindex: tables.dictionary.string(name),
            unit_strindex: tables.dictionary.string(unit),
        };
        let sample_type = Some(value_type("samples", "count"));
        let period_type = Some(value_type("cpu", "nanoseconds"));
        let profile = |number: (usize, usize), period: u64, samples: Vec<Row>| Profile {
            sample_type,
            period_type,
            period: i64::try_from(period).unwrap_or(i64::MAX),
            samples,
            time_unix_nano: span.start_ns,
            duration_nano: span.end_ns - span.start_ns,
            profile_id: profile_id(id, number),
            ..Profile::default()
        };
        let mut resource_profiles = Vec::with_capacity(resources.all.len());
        for OfResource { resource, rows: by_period, .. } in resources.by_service() {
            if by_period.is_empty() {
                continue;
            }
            let number = resource_profiles.len();
            let numbered = by_period.into_iter().enumerate();
            let profiles = numbered.map(|(second, (period, rows))| profile((number, second), period, rows)).collect();
            resource_profiles.push(of_resource(resource, profiles));
        }
        Ok(Request { resource_profiles, dictionary: Some(tables.dictionary.finish()) })
    }

    fn resources(&self, batch: &Batch) -> Result<Resources, BrokenBatch> {
        let of = |owner: &Identity, process: Option<&Process>| {
            let resource = resource(batch, owner, process, &self.config.host, &self.config.attributes, &self.counters);
            OfResource { service: owner.service.clone(), resource, rows: Vec::new() }
        };
        let series = series(batch, MAX_SERIES, &self.counters)?;
        if !self.config.resource_per_process {
            let all = series.owners.iter().map(|owner| of(owner, None)).collect();
            return Ok(Resources { all, of_process: series.of_process });
        }
        // A process whose comm changed is in the batch twice, and is one resource.
        let mut numbers: HashMap<(u32, u32, u64, StringIndex), u32> = HashMap::new();
        let mut resources = Resources { all: Vec::new(), of_process: Vec::with_capacity(batch.processes.len()) };
        for (process, owner) in batch.processes.iter().zip(&series.of_process) {
            let key = (*owner, process.pid, process.start_time_ns, process.executable);
            let number = *numbers.entry(key).or_insert(resources.all.len() as u32);
            if number as usize == resources.all.len() {
                let owner = series.owners.get(*owner as usize).cloned().unwrap_or_default();
                resources.all.push(of(&owner, Some(process)));
            }
            resources.of_process.push(number);
        }
        Ok(resources)
    }

    /// The messages of a request: itself, or parts of it until they are small enough or can't be parted.
    fn messages(&self, request: Request, id: [u8; 16], start_ns: u64) -> Result<Vec<Message>, EncodeError> {
        let (length, limit) = (request.encoded_len(), self.config.message_bytes);
        // One more than would do if nothing were in two parts.
        let count = length / limit.max(1) + 1;
        if length > limit
            && let Some(parts) = parts(&request, id, count)
        {
            drop(request);
            let mut messages = Vec::with_capacity(parts.len());
            for (part, id) in parts {
                messages.extend(self.messages(part, id, start_ns)?);
            }
            return Ok(messages);
        }
        Ok(vec![message(&request, id, start_ns)?])
    }
}

impl Encode for OtlpEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Message>, EncodeError> {
        if batch.samples.is_empty() {
            return Ok(Vec::new());
        }
        let start_ns = batch.wall_start_ns;
        let id = digest(&[WIRE.as_bytes(), self.config.host.as_bytes(), &start_ns.to_le_bytes()]);
        let request = self.request(batch, id).map_err(broken)?;
        self.messages(request, id, start_ns)
    }

    /// Two requests with half of the observations each, and a dictionary each.
    fn split(&self, message: &Message) -> Option<Vec<Message>> {
        let request = Request::decode(&*message.body).ok()?;
        let halves = parts(&request, message.id, 2)?;
        halves.iter().map(|(half, id)| self::message(half, *id, message.start_ns).ok()).collect()
    }
}

/// A resource and its samples.
struct OfResource {
    service: Arc<str>,
    resource: Resource,
    rows: Periods,
}

/// Resources, and the resource of each process.
struct Resources {
    all: Vec<OfResource>,
    of_process: Vec<u32>,
}

impl Resources {
    /// Those of one service behind each other: they run the same code, so that parts of the request have less in common.
    fn by_service(self) -> Vec<OfResource> {
        let mut first: HashMap<Arc<str>, usize> = HashMap::new();
        let mut all: Vec<(usize, OfResource)> = Vec::with_capacity(self.all.len());
        for resource in self.all {
            let next = first.len();
            all.push((*first.entry(resource.service.clone()).or_insert(next), resource));
        }
        all.sort_by_key(|(service, _)| *service);
        all.into_iter().map(|(_, resource)| resource).collect()
    }
}

/// Adds a row to the profile of its period; where it is. There is a second period only if the rate was changed in between.
fn add_row(profiles: &mut Periods, period: u64, row: Row) -> (usize, usize) {
    let at = profiles.iter().position(|(other, _)| *other == period).unwrap_or_else(|| {
        profiles.push((period, Vec::new()));
        profiles.len() - 1
    });
    profiles[at].1.push(row);
    (at, profiles[at].1.len() - 1)
}

/// The time of a profile: the batch's, and wider if a sample lies outside, since timestamps must lie inside.
struct Span {
    start_ns: u64,
    /// Exclusive.
    end_ns: u64,
    /// Wall clock less CLOCK_MONOTONIC.
    offset_ns: i128,
}

impl Span {
    fn of(batch: &Batch) -> Span {
        let offset_ns = i128::from(batch.wall_start_ns) - i128::from(batch.monotonic_start_ns);
        let end_ns = batch.wall_start_ns.saturating_add(batch.duration_ns);
        let mut span = Span { start_ns: batch.wall_start_ns, end_ns, offset_ns };
        for sample in &batch.samples {
            let time = span.time(sample);
            span.start_ns = span.start_ns.min(time);
            span.end_ns = span.end_ns.max(time.saturating_add(1));
        }
        span
    }

    fn time(&self, sample: &Sample) -> u64 {
        let time = (i128::from(sample.time_ns) + self.offset_ns).clamp(0, i128::from(u64::MAX - 1));
        time as u64
    }
}

fn of_resource(resource: Resource, profiles: Vec<Profile>) -> ResourceProfiles {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ResourceProfiles {
        resource: Some(resource),
        scope_profiles: vec![ScopeProfiles { scope: Some(scope), profiles, schema_url: SCHEMA_URL.to_owned() }],
        schema_url: SCHEMA_URL.to_owned(),
    }
}

/// The id of a profile by its place in a request: resource, profile.
pub(super) fn profile_id(request: [u8; 16], (resource, profile): (usize, usize)) -> Vec<u8> {
    digest(&[&request, &(resource as u64).to_le_bytes(), &(profile as u64).to_le_bytes()]).to_vec()
}

/// The request as bytes that were read back and found to keep the protocol's rules.
fn message(request: &Request, id: [u8; 16], start_ns: u64) -> Result<Message, EncodeError> {
    let body = request.encode_to_vec();
    let request = parse(&body).map_err(broken)?;
    let samples = samples(&request);
    let headers = vec![("content-type".to_owned(), "application/x-protobuf".to_owned())];
    Ok(Message { id, start_ns, samples, headers, body: body.into() })
}

fn samples(request: &Request) -> u64 {
    let scopes = request.resource_profiles.iter().flat_map(|resource| &resource.scope_profiles);
    let rows = scopes.flat_map(|scope| &scope.profiles).flat_map(|profile| &profile.samples);
    rows.map(|row| row.timestamps_unix_nano.len() as u64).sum()
}

fn broken(why: impl ToString) -> EncodeError {
    EncodeError { wire: WIRE, why: why.to_string() }
}
