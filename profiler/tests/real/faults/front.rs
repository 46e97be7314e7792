//! An HTTP/2 server in front of the collector that answers some requests itself, as a collector that is busy or broken does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// `google.rpc.Status{details: [RetryInfo{2 s}]}`, as `grpc-status-details-bin` carries it before base64.
const RETRY_IN_2_S: &[u8] = b"\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x02";
/// An answer of two bytes that says "all taken", and the first half of it.
const ALL_TAKEN: &[u8] = b"\0\0\0\0\x02\x0a\0";
const HALF: &[u8] = b"\0\0\0\0\x02\x0a";

/// An answer of gRPC; with an HTTP status of 200, as always.
#[derive(Clone)]
pub(super) struct Says {
    body: &'static [u8],
    /// Without any, the answer ends with its body.
    trailers: Vec<(&'static str, String)>,
}

impl Says {
    fn status(code: u32, text: &str) -> Says {
        let trailers = vec![("grpc-status", code.to_string()), ("grpc-message", text.to_owned())];
        Says { body: b"", trailers }
    }

    /// `RESOURCE_EXHAUSTED`, and when to come again.
    pub(super) fn throttled() -> Says {
        let mut says = Says::status(8, "the queue is full");
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(RETRY_IN_2_S);
        says.trailers.push(("grpc-status-details-bin", details));
        says
    }

    pub(super) fn unauthenticated() -> Says {
        Says::status(16, "the token has expired")
    }

    pub(super) fn permission_denied() -> Says {
        Says::status(7, "the key was revoked")
    }

    /// In grpc-go's words.
    pub(super) fn too_large() -> Says {
        Says::status(8, "grpc: received message larger than max (5000000 vs. 4194304)")
    }

    pub(super) fn internal() -> Says {
        Says::status(13, "Permanent error: no exporter takes it")
    }

    /// It ends in its message.
    pub(super) fn half() -> Says {
        Says { body: HALF, trailers: Vec::new() }
    }

    /// It ends behind its message.
    pub(super) fn without_status() -> Says {
        Says { body: ALL_TAKEN, trailers: Vec::new() }
    }

    fn response(self) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
        let mut trailers = HeaderMap::new();
        for (name, value) in &self.trailers {
            trailers.insert(*name, value.parse().unwrap());
        }
        let trailers = (!trailers.is_empty()).then_some(Ok(trailers));
        let never = |never: Infallible| -> hyper::Error { match never {} };
        let body = Full::new(Bytes::from_static(self.body)).map_err(never);
        let body = body.with_trailers(async move { trailers }).boxed_unsync();
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    }
}

/// A port of loopback; nobody listens any more when this goes.
pub(super) struct Front {
    address: SocketAddr,
    listens: JoinHandle<()>,
}

impl Front {
    /// In front of `server`, `HOST:PORT`: says so of the first request, and all others are the server's.
    pub(super) fn start(runtime: &Runtime, server: &str, says: Says) -> Front {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (server, left) = (Arc::<str>::from(server), Arc::new(AtomicUsize::new(1)));
        let listens = runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, says, left) = (server.clone(), says.clone(), left.clone());
                let service = service_fn(move |request| answer(request, server.clone(), says.clone(), left.clone()));
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
        Front { address, listens }
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listens.abort();
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn answer(
    request: Request<Incoming>,
    server: Arc<str>,
    says: Says,
    left: Arc<AtomicUsize>,
) -> Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>, Failed> {
    if left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
        // A collector judges what it has read.
        request.into_body().collect().await?;
        return Ok(says.response());
    }
    let stream = TcpStream::connect(&*server).await?;
    let (mut collector, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(collector.send_request(request).await?.map(BodyExt::boxed_unsync))
}
