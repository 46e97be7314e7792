//! Connections: a bounded number, each with bounded time for a head and for its whole life. A full house waits in the kernel's queue.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::respond::Page;

/// How connections are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// At once; each costs some 20 KB.
    pub most: usize,
    /// Longest head, bytes.
    pub head_bytes: usize,
    /// Time for a head, also of the next request on a connection that stays open.
    pub head_time: Duration,
    /// Time for a whole connection: who reads slowly does not hold it for ever.
    pub life: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Connections { most: 64, head_bytes: 16 << 10, head_time: Duration::from_secs(10), life: LONGEST_LIFE }
    }
}

/// The usual life of a connection: in so much time an answer is read, or is not.
pub const LONGEST_LIFE: Duration = Duration::from_secs(600);
/// Headers of one request.
const MAX_HEADERS: usize = 64;
/// After a failure to accept, which is the lack of a file descriptor, most likely.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, page: Arc<Page>, bounds: Connections) {
    let places = Arc::new(Semaphore::new(bounds.most));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = Arc::clone(&page);
                tokio::spawn(async move {
                    serve_one(stream, page, bounds).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the page can't take a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends, or has had time enough.
pub async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin, page: Arc<Page>, bounds: Connections) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = Arc::clone(&page);
        // Bodies are refused, and never read.
        async move { Ok::<_, Infallible>(page.answer(&request.into_parts().0).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Answers are written from where they are: a copy would be counted by nobody.
        .writev(true)
        .header_read_timeout(bounds.head_time)
        .max_buf_size(bounds.head_bytes)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(bounds.life, served).await {
        // A client's business.
        tracing::debug!("a connection to the page ended: {error}");
    }
}
