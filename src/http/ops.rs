//! Liveness and readiness.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;

use crate::service::Service;

pub(super) const HEALTH: &str = "/healthz";
pub(super) const READINESS: &str = "/readyz";
/// The response at [`HEALTH`].
pub(super) const HEALTHY: &str = "ok\n";

/// `/healthz` succeeds while the process runs; `/readyz` while the cache is loaded and the store responds, until the
/// instance shuts down, else 503.
pub fn routes(service: Arc<Service>) -> Router {
    let ready = async |State(service): State<Arc<Service>>| readiness(&service).await;
    Router::new().route(HEALTH, get(|| async { HEALTHY })).route(READINESS, get(ready)).with_state(service)
}

/// The response at [`READINESS`].
pub(super) async fn readiness(service: &Service) -> (StatusCode, &'static str) {
    if service.draining().has_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "the instance shuts down\n")
    } else if service.is_ready().await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the cache is not loaded yet, or the store cannot be reached\n")
    }
}
