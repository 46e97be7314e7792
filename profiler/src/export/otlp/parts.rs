//! A request that is too large for its receiver, in parts: each with its share of the observations, and a dictionary of what it
//! uses. What is common to several parts is in each of them, so that parts together are larger than the whole.

use opentelemetry_proto::tonic::profiles::v1development::{Profile, ResourceProfiles, Sample, ScopeProfiles};

use super::Request;
use super::encoder::profile_id;
use super::rebuild::Rebuild;
use crate::export::digest::digest;

/// `count` requests with the observations of one, fewer if it has not so many, and their ids, from which their profiles get
/// theirs; `None` of a request with fewer than two observations, or with an index that leads nowhere.
pub(super) fn parts(request: &Request, id: [u8; 16], count: usize) -> Option<Vec<(Request, [u8; 16])>> {
    let scopes = request.resource_profiles.iter().flat_map(|resource| &resource.scope_profiles);
    let samples = scopes.flat_map(|scope| &scope.profiles).flat_map(|profile| &profile.samples);
    let total: usize = samples.map(observations).sum();
    if total < 2 {
        return None;
    }
    let count = count.clamp(2, total);
    let of = |number: usize| {
        let id = digest(&[&id, &(number as u64).to_le_bytes()]);
        Some((part(request, number * total / count, (number + 1) * total / count, id)?, id))
    };
    (0..count).map(of).collect()
}

fn observations(sample: &Sample) -> usize {
    sample.timestamps_unix_nano.len().max(sample.values.len())
}

/// The observations from `from` up to `to`, in the order of the whole.
fn part(whole: &Request, from: usize, to: usize, id: [u8; 16]) -> Option<Request> {
    let mut rebuild = Rebuild::new(whole.dictionary.as_ref()?);
    let mut at = 0;
    let mut resource_profiles = Vec::new();
    for resource in &whole.resource_profiles {
        let mut scope_profiles = Vec::new();
        let mut number = 0;
        for scope in &resource.scope_profiles {
            let mut profiles = Vec::new();
            for profile in &scope.profiles {
                let mut samples = Vec::new();
                for sample in &profile.samples {
                    let count = observations(sample);
                    let (begin, end) = (from.saturating_sub(at).min(count), to.saturating_sub(at).min(count));
                    at += count;
                    if begin < end {
                        samples.push(rebuild.sample(&cut(sample, begin, end))?);
                    }
                }
                if !samples.is_empty() {
                    profiles.push(Profile {
                        samples,
                        profile_id: profile_id(id, (resource_profiles.len(), number)),
                        ..rebuild.profile_head(profile)?
                    });
                    number += 1;
                }
            }
            if !profiles.is_empty() {
                let (scope, schema_url) = (scope.scope.clone(), scope.schema_url.clone());
                scope_profiles.push(ScopeProfiles { scope, profiles, schema_url });
            }
        }
        if !scope_profiles.is_empty() {
            let (resource, schema_url) = (resource.resource.clone(), resource.schema_url.clone());
            resource_profiles.push(ResourceProfiles { resource, scope_profiles, schema_url });
        }
    }
    Some(Request { resource_profiles, dictionary: Some(rebuild.finish()) })
}

fn cut(sample: &Sample, begin: usize, end: usize) -> Sample {
    Sample {
        stack_index: sample.stack_index,
        attribute_indices: sample.attribute_indices.clone(),
        link_index: sample.link_index,
        values: sample.values.get(begin..end).unwrap_or_default().to_vec(),
        timestamps_unix_nano: sample.timestamps_unix_nano.get(begin..end).unwrap_or_default().to_vec(),
    }
}
