//! `push.v1` of Pyroscope: profiles with the labels of their series.
//!
//! Written by hand with prost's derive, as [`crate::profile`] is. Fields that only a server uses are left out.

use prost::Message;

/// The request of `/push.v1.PusherService/Push`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PushRequest {
    /// Series with new profiles.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<RawProfileSeries>,
}

/// Profiles of one series.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RawProfileSeries {
    /// What names the series; each name once, `__name__` among them.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelPair>,
    /// Its profiles.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<RawSample>,
}

/// A label of a series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct LabelPair {
    /// Letters, digits and `_`, no digit first.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Any text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One profile.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RawSample {
    /// pprof, in gzip or raw.
    #[prost(bytes = "vec", tag = "1")]
    pub raw_profile: Vec<u8>,
    /// A UUID as text.
    #[prost(string, tag = "2")]
    pub id: String,
}
