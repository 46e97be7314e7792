//! One try to hand one message over. A transport knows addresses, time-outs and secrets; what to do after a failure is
//! [`super::delivery`]'s.

pub mod grpc;
mod grpc_reply;
pub mod http;
pub mod status;
pub mod tls;
mod token;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use super::address::{Address, Server, Wire};
use super::counters::Answered;
use super::file::FolderTransport;
use super::settings::SinkSettings;
use super::{Message, Outcome};

/// What one try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to do with the message.
    pub outcome: Outcome,
    /// What sort of answer it was, for counters.
    pub answered: Answered,
}

/// A try on its way. Dropping it ends it.
pub type Sending<'message> = Pin<Box<dyn Future<Output = Answer> + Send + 'message>>;

/// Carries messages to one place.
pub trait Transport: Send + Sync {
    /// Tries once. Ends by itself within the transport's own time-outs.
    fn send<'message>(&'message self, message: &'message Message) -> Sending<'message>;

    /// Where to, without secrets.
    fn address(&self) -> &str;
}

/// Settings that no transport can be made of.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file with a certificate or key can't be read.
    #[error("can't read {what} {}: {source}", path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{what} {} is not usable: {why}", path.display())]
    Unusable {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Only one of the two.
    #[error("a client certificate and its key go together; only one of them is given")]
    HalfIdentity,
    /// A header that HTTP does not know how to send.
    #[error("the header {0} is not valid")]
    Header(String),
    /// The client could not be made, for want of certificate authorities on this system as a rule.
    #[error("can't make a client for {address}: {why}")]
    Client {
        /// Where to.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// It does not say which wire it speaks.
    #[error("{0} does not answer like a Datadog agent; say what it speaks, as in otlp+http://")]
    UnknownWire(String),
    /// Nothing answers that could tell, and the port says nothing.
    #[error(
        "nobody knows what {address} speaks, since it does not answer: {why}; say it, as in datadog+http://, otlp+grpc://, \
         otlp+http:// or pyroscope+http://"
    )]
    NoAnswer {
        /// Where to.
        address: String,
        /// What happened.
        why: String,
    },
}

/// The transport of a sink. `wire` is the address's own, or what [`ask`] found out; files have none. In a tokio runtime only.
///
/// # Errors
/// [`TransportError`].
pub fn open(settings: &SinkSettings, wire: Option<Wire>) -> Result<Box<dyn Transport>, TransportError> {
    match (&settings.address, wire) {
        (Address::Folder(folder), _) => Ok(Box::new(FolderTransport::new(folder.clone()))),
        (Address::Server(server), Some(Wire::OtlpGrpc)) => Ok(Box::new(grpc::GrpcTransport::new(settings, server)?)),
        (Address::Server(server), Some(wire)) => Ok(Box::new(http::HttpTransport::new(settings, server, wire)?)),
        (Address::Server(server), None) => Err(TransportError::UnknownWire(server.to_string())),
    }
}

/// What an address speaks. One that does not say is asked once for `/info`; without an answer its port decides.
///
/// # Errors
/// [`TransportError`]: no client for it, or neither answer nor port says anything. [`TransportError::NoAnswer`] may pass.
pub async fn ask(settings: &SinkSettings, server: &Server) -> Result<Wire, TransportError> {
    if let Some(wire) = server.wire {
        return Ok(wire);
    }
    let (answer, why) = match http::get(settings, server, "/info").await? {
        // So speak a proxy whose server is away, a server that is not ready or has too much to do, and whoever wants another token.
        Ok((status @ (401 | 403 | 408 | 425 | 429 | 500..=599), _)) => (None, format!("{status} is what it says")),
        Ok((_, answer)) => (Some(answer), String::new()),
        Err(why) => (None, why),
    };
    let address = server.to_string();
    match server.wire_by_answer(answer.as_deref()) {
        Some(wire) => Ok(wire),
        None if answer.is_some() => Err(TransportError::UnknownWire(address)),
        None => Err(TransportError::NoAnswer { address, why }),
    }
}

/// An error with the errors below it, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
