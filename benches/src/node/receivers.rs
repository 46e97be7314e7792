//! Back ends that take everything: what the agent sends is counted and forgotten.

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a back end got.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// A server on a port of the loopback, for as long as its runtime lives.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) received: Arc<Received>,
}

impl Receiver {
    /// # Errors
    /// When no port can be had.
    pub(crate) fn start(runtime: &tokio::runtime::Runtime) -> Result<Receiver> {
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).context("a port of the loopback")?;
        let (address, received) = (listener.local_addr()?, Arc::new(Received::default()));
        let router = Router::new()
            .fallback(take)
            // The agent bounds its messages itself.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&received));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Receiver { address, received })
    }

    /// Requests and bytes so far.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.received.requests.load(Ordering::Relaxed), self.received.bytes.load(Ordering::Relaxed))
    }
}

/// An empty answer is a valid one for an intake of pprof, and for OTLP: a message without fields.
async fn take(State(received): State<Arc<Received>>, body: Bytes) -> StatusCode {
    received.requests.fetch_add(1, Ordering::Relaxed);
    received.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    StatusCode::OK
}
