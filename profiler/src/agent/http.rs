//! `/metrics`, `/healthz` and `/readyz` over HTTP. Nothing here shows a profile.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::metrics;
use super::status::Status;

/// What OpenMetrics text is called (OpenMetrics 1.0, "Overall Structure").
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Shared {
    status: Arc<Status>,
    registry: Registry,
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, status: Arc<Status>, registry: Registry) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .with_state(Arc::new(Shared { status, registry }));
    axum::serve(listener, routes).await
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> Response {
    match metrics::render(&shared.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn show_health(State(shared): State<Arc<Shared>>) -> Response {
    let stuck = shared.status.stuck();
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join(", "))).into_response()
}

async fn show_readiness(State(shared): State<Arc<Shared>>) -> Response {
    match shared.status.not_ready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
