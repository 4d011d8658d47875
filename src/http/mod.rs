//! HTTP: every route of both listeners.

pub mod admission;
pub mod console;
pub mod export;
mod following;
pub mod front;
pub mod gate;
pub mod graphql;
mod operation;
pub mod ops;
pub mod serve;
pub mod verify;
pub mod websocket;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

use self::admission::SessionGate;
use self::front::Front;
use self::graphql::TransportLimits;
use crate::graphql::{schema, sdl};
use crate::service::Service;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the public listener shows besides the API itself.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Whether the schema can be read: by introspection, and at `/schema.graphql`.
    pub introspection: bool,
    pub graphiql: bool,
}

/// Every route of the public listener. Those of the verification listener are [`verify::routes`].
pub fn public_routes(service: Arc<Service>, front: Front, shown: Shown, shutdown: CancellationToken) -> Router {
    let front = Arc::new(front);
    let gate = SessionGate::new(Arc::clone(&service), Arc::clone(&front));
    let schema = schema(Arc::clone(&service), shown.introspection);
    let api = graphql::routes(schema, gate.clone(), TransportLimits::default(), shutdown)
        .merge(export::routes(gate))
        .route("/schema.graphql", get(async move || schema_text(shown.introspection)))
        .layer(cors(&front));
    let naming = Naming { service: Arc::clone(&service), front };
    api.merge(ops::routes(service))
        .merge(console::routes(shown.graphiql))
        .layer(middleware::from_fn_with_state(naming, name_request))
}

/// Lets pages of the allowed origins use the API with bearer tokens. Credentials that a browser sends by itself are
/// never allowed.
fn cors(front: &Front) -> CorsLayer {
    let origins = front.allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(origins.collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([ACCEPT, AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE, X_REQUEST_ID])
}

fn schema_text(shown: bool) -> Response {
    if !shown {
        return StatusCode::NOT_FOUND.into_response();
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")], sdl()).into_response()
}

#[derive(Clone)]
struct Naming {
    service: Arc<Service>,
    front: Arc<Front>,
}

/// Gives a request the id under which logs, errors and the audit log know it, and answers with it.
async fn name_request(State(naming): State<Naming>, request: HttpRequest, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let named = naming.service.request(naming.front.client_address(&parts));
    parts.extensions.insert(named);
    // The route, not the path, which may hold anything that somebody took for an address.
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let (method, began) = (parts.method.clone(), Instant::now());
    let mut response = next.run(HttpRequest::from_parts(parts, body)).await;
    tracing::debug!(
        request = %named.id, %method, route = route.as_ref().map(MatchedPath::as_str), status = response.status().as_u16(),
        elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), "request answered"
    );
    let id = HeaderValue::from_str(&named.id.to_string()).expect("ids are ASCII");
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}
