//! OTLP over gRPC: the encoder's bytes as they are, so that what is spooled is what is sent.
//!
//! Connects when something is sent, and again by itself. What codes mean: OTLP specification, "Failures", and
//! `google.rpc.RetryInfo` for how long to wait; of answers without a code, see `grpc_reply`.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue};
use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::ServiceExt as _;

use super::grpc_reply::Reply;
use super::http::{USER_AGENT, headers, own_headers};
use super::status::{COLLECTOR_NEEDS, MAX_ANSWER_BYTES, partial_success, printable, renew};
use super::tls::Material;
use super::token::TokenFile;
use super::{Answer, Sending, Transport, TransportError, chain};
use crate::export::address::{Server, Wire};
use crate::export::counters::Answered;
use crate::export::settings::SinkSettings;
use crate::export::{Message, Outcome};

/// See the module.
pub struct GrpcTransport {
    channel: Channel,
    path: PathAndQuery,
    shown: String,
    headers: HeaderMap,
    token: Option<TokenFile>,
    gzip: bool,
    timeout: Duration,
}

impl GrpcTransport {
    /// A channel to `server`. In a tokio runtime only.
    ///
    /// # Errors
    /// [`TransportError`]: files that can't be used, no certificate authorities.
    pub fn new(settings: &SinkSettings, server: &Server) -> Result<GrpcTransport, TransportError> {
        let failed =
            |error: &dyn std::error::Error| TransportError::Client { address: server.to_string(), why: chain(error) };
        let mut endpoint = Endpoint::from_shared(server.url("/"))
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .map_err(|error| failed(&error))?
            .connect_timeout(settings.connect_timeout);
        if server.is_secure() {
            let material = Material::read(&settings.tls)?;
            endpoint = endpoint.tls_config(material.grpc()).map_err(|error| failed(&error))?;
        }
        let path =
            format!("{}{}", server.base_path, if server.exact_path { "" } else { Wire::OtlpGrpc.request_path() });
        Ok(GrpcTransport {
            channel: endpoint.connect_lazy(),
            path: path.parse().map_err(|error| failed(&error))?,
            shown: server.to_string(),
            headers: headers(settings, server)?,
            token: settings.bearer_token_file.as_deref().map(TokenFile::new),
            gzip: settings.gzip,
            timeout: settings.request_timeout,
        })
    }

    async fn try_send(&self, message: &Message) -> Answer {
        let Ok(mut headers) = own_headers(message) else {
            let text = format!("{}: a header of the message can't be sent", self.shown);
            return Answer { outcome: Outcome::Refused(text), answered: Answered::Rejected };
        };
        // gRPC has its own, and tonic sets it.
        headers.remove(CONTENT_TYPE);
        headers.extend(self.headers.clone());
        // A token that was not taken, and what was said to it.
        let mut refused: Option<(HeaderValue, Answer)> = None;
        loop {
            let mut sent = None;
            if let Some(token) = &self.token {
                let token = match token.header().await {
                    Ok(token) => token,
                    Err(text) => {
                        let outcome = Outcome::Retry(None, format!("{}: {text}", self.shown));
                        return Answer { outcome, answered: Answered::Disk };
                    }
                };
                // Nobody has renewed it meanwhile.
                if let Some((last, answer)) = refused.take()
                    && last == token
                {
                    return answer;
                }
                headers.insert(AUTHORIZATION, token.clone());
                sent = Some(token);
            }
            let reply = Arc::<Reply>::default();
            let exporting = self.export(headers.clone(), message.body.clone(), reply.clone());
            let Ok(exported) = tokio::time::timeout(self.timeout, exporting).await else {
                let outcome = Outcome::Retry(None, format!("{}: no answer in time", self.shown));
                return Answer { outcome, answered: Answered::Timeout };
            };
            let is_unauthenticated = matches!(&exported, Err(status) if status.code() == Code::Unauthenticated);
            let answer = self.judged(&reply, exported);
            match sent {
                Some(token) if is_unauthenticated => refused = Some((token, answer)),
                _ => return answer,
            }
        }
    }

    fn judged(&self, reply: &Reply, exported: Result<Bytes, Status>) -> Answer {
        // tonic reads no message that is longer than asked for, and none of what is behind it.
        let too_long = matches!(&exported, Err(status) if status.code() == Code::OutOfRange);
        match (exported, reply.without_status(&self.shown, too_long)) {
            // How the connection broke says more than that no status came.
            (Err(status), _) if is_local(&status) => judge(&self.shown, &status),
            (_, Some(answer)) => answer,
            (Ok(response), None) => partial_success(&self.shown, &response),
            (Err(status), None) => judge(&self.shown, &status),
        }
    }

    async fn export(&self, headers: HeaderMap, body: Bytes, reply: Arc<Reply>) -> Result<Bytes, Status> {
        let channel = self.channel.clone().map_response(move |response| reply.watch(response));
        let mut client = Grpc::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        if self.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let request = Request::from_parts(MetadataMap::from_headers(headers), Default::default(), body);
        Ok(client.unary(request, self.path.clone(), AlreadyEncoded).await?.into_inner())
    }
}

impl Transport for GrpcTransport {
    fn send<'message>(&'message self, message: &'message Message) -> Sending<'message> {
        Box::pin(self.try_send(message))
    }

    fn address(&self) -> &str {
        &self.shown
    }
}

/// The meaning of a status from `address`. Sans-IO.
pub fn judge(address: &str, status: &Status) -> Answer {
    let why = match std::error::Error::source(status) {
        // Not the server's word but the connection's.
        Some(source) => chain(source),
        None => status.message().to_owned(),
    };
    let text = format!("{address} answered {:?}: {}", status.code(), printable(&why));
    let local = is_local(status);
    let (retry, answered) = match status.code() {
        Code::Ok => return Answer { outcome: Outcome::Delivered, answered: Answered::Ok },
        // grpc-go's and tonic's words for a request over the server's limit.
        Code::ResourceExhausted | Code::OutOfRange if is_too_large(status.message()) => {
            return Answer { outcome: Outcome::TooLarge(text), answered: Answered::Rejected };
        }
        Code::ResourceExhausted => (true, Answered::Throttled),
        Code::Unavailable if local => (true, Answered::Unreachable),
        Code::Unavailable => (true, Answered::Unavailable),
        Code::DeadlineExceeded => (true, Answered::Timeout),
        // A connection that broke, also before the request was on it, or an answer that is none. Never the message's fault.
        Code::Cancelled | Code::Unknown | Code::Internal if local => (true, Answered::Broken),
        Code::Cancelled | Code::Aborted | Code::OutOfRange | Code::DataLoss => (true, Answered::Internal),
        Code::Unimplemented => {
            let why = printable(status.message());
            let text = format!("{address} does not take profiles over OTLP: {why}; {COLLECTOR_NEEDS}");
            return Answer { outcome: Outcome::Refused(text), answered: Answered::Rejected };
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            let text = format!("{text}; {}", renew(Wire::OtlpGrpc));
            let outcome = Outcome::Retry(retry_delay(status.details()), text);
            return Answer { outcome, answered: Answered::Rejected };
        }
        _ => (false, Answered::Rejected),
    };
    let outcome = if retry { Outcome::Retry(retry_delay(status.details()), text) } else { Outcome::Refused(text) };
    Answer { outcome, answered }
}

/// Not a server's word but the connection's.
fn is_local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn is_too_large(message: &str) -> bool {
    message.contains("larger than max") || message.contains("message length too large")
}

/// `google.rpc.Status`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let nanos = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, nanos))
}

/// Passes protobuf through.
#[derive(Clone, Copy)]
struct AlreadyEncoded;

impl Codec for AlreadyEncoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AlreadyEncoded;
    type Decoder = AlreadyEncoded;

    fn encoder(&mut self) -> AlreadyEncoded {
        *self
    }

    fn decoder(&mut self) -> AlreadyEncoded {
        *self
    }
}

impl Encoder for AlreadyEncoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, body: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(body);
        Ok(())
    }
}

impl Decoder for AlreadyEncoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(type_url: &str, seconds: i64, nanos: i32) -> Vec<u8> {
        let value = RetryInfo { retry_delay: Some(Delay { seconds, nanos }) }.encode_to_vec();
        RpcStatus { details: vec![Any { type_url: type_url.into(), value }] }.encode_to_vec()
    }

    #[test]
    fn each_code_has_one_meaning() {
        let retry = |answered| (true, answered);
        let refused = (false, Answered::Rejected);
        let table = [
            (Code::Cancelled, retry(Answered::Internal)),
            (Code::Unknown, refused),
            (Code::InvalidArgument, refused),
            (Code::DeadlineExceeded, retry(Answered::Timeout)),
            (Code::NotFound, refused),
            (Code::AlreadyExists, refused),
            (Code::PermissionDenied, retry(Answered::Rejected)),
            (Code::ResourceExhausted, retry(Answered::Throttled)),
            (Code::FailedPrecondition, refused),
            (Code::Aborted, retry(Answered::Internal)),
            (Code::OutOfRange, retry(Answered::Internal)),
            (Code::Unimplemented, refused),
            (Code::Internal, refused),
            (Code::Unavailable, retry(Answered::Unavailable)),
            (Code::DataLoss, retry(Answered::Internal)),
            (Code::Unauthenticated, retry(Answered::Rejected)),
        ];
        for (code, (retried, answered)) in table {
            let judged = judge("otlp+grpc://c:4317", &Status::new(code, "why"));
            let text = match judged.outcome {
                Outcome::Retry(None, text) if retried => text,
                Outcome::Refused(text) if !retried => text,
                other => panic!("{code:?}: {other:?}"),
            };
            assert!(text.starts_with("otlp+grpc://c:4317 ") && text.contains("why"), "{text}");
            assert_eq!(judged.answered, answered, "{code:?}");
        }
        assert_eq!(judge("a", &Status::new(Code::Ok, "")).outcome, Outcome::Delivered);
    }

    #[test]
    fn what_a_broken_connection_says_is_not_the_server_s_word() {
        let table = [
            (Code::Cancelled, Answered::Broken),
            (Code::Unknown, Answered::Broken),
            (Code::Internal, Answered::Broken),
            (Code::Unavailable, Answered::Unreachable),
        ];
        for (code, answered) in table {
            let mut status = Status::new(code, "tonic's words");
            status.set_source(std::sync::Arc::new(std::io::Error::other("connection closed")));
            let judged = judge("a", &status);
            assert_eq!(judged.answered, answered, "{code:?}");
            let Outcome::Retry(None, text) = judged.outcome else { panic!("{code:?}") };
            assert!(text.contains("connection closed"), "{text}");
        }
    }

    #[test]
    fn a_collector_without_profiles_is_named_as_such() {
        let outcome = judge("a", &Status::unimplemented("unknown service")).outcome;
        let expected = "a does not take profiles over OTLP: unknown service; an OpenTelemetry Collector needs \
                        --feature-gates=service.profilesSupport and a profiles pipeline";
        assert_eq!(outcome, Outcome::Refused(expected.into()));
    }

    #[test]
    fn a_request_over_the_server_s_limit_is_too_large_and_not_retried() {
        let messages = [
            (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes",
            ),
        ];
        for (code, message) in messages {
            assert!(matches!(judge("a", &Status::new(code, message)).outcome, Outcome::TooLarge(_)), "{message}");
        }
    }

    #[test]
    fn retry_info_says_how_long_to_wait() {
        let known = "type.googleapis.com/google.rpc.RetryInfo";
        let table = [
            (details(known, 3, 500_000_000), Some(Duration::from_millis(3_500))),
            (details("type.googleapis.com/google.rpc.Help", 3, 0), None),
            (details(known, -3, 0), None),
            (details(known, 3, -1), None),
            (details(known, 3, i32::MAX), None),
            (b"garbage".to_vec(), None),
            (Vec::new(), None),
        ];
        for (details, expected) in table {
            let status = Status::with_details(Code::ResourceExhausted, "slow down", details.into());
            let Outcome::Retry(after, _) = judge("a", &status).outcome else { panic!("{status}") };
            assert_eq!(after, expected);
        }
    }
}
