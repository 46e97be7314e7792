//! `event.json`: what the attachment is, for whom and of when.

use serde::Serialize;

use super::multipart::ATTACHMENT;
use super::rfc3339::rfc3339;

/// Version 4 of the event, in the order in which it is written.
#[derive(Serialize)]
pub(super) struct Event<'texts> {
    start: String,
    end: String,
    attachments: [&'static str; 1],
    tags_profiler: &'texts str,
    family: &'static str,
    version: &'static str,
    /// Counts of a web service's end points; a profile of the kernel knows none.
    endpoint_counts: Option<()>,
}

impl Event<'_> {
    /// The event's JSON for a profile of this time; `tags` are `key:value` with commas between.
    pub(super) fn json(start_ns: u64, end_ns: u64, tags: &str) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Event {
            start: rfc3339(start_ns),
            end: rfc3339(end_ns),
            attachments: [ATTACHMENT],
            tags_profiler: tags,
            family: "native",
            version: "4",
            endpoint_counts: None,
        })
    }
}
