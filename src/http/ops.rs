//! Liveness and readiness.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;

use crate::service::Service;

/// `/healthz` succeeds while the process runs; `/readyz` while the cache is loaded and the store responds, else 503.
pub fn routes(service: Arc<Service>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready)).with_state(service)
}

async fn ready(State(service): State<Arc<Service>>) -> (StatusCode, &'static str) {
    if service.is_ready().await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the cache is not loaded yet, or the store cannot be reached\n")
    }
}
