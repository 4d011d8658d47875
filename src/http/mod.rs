//! HTTP: the routes of both listeners.

mod accept;
pub mod authenticator;
mod conditional;
pub mod connection_init;
pub mod connections;
pub mod console;
pub mod error;
pub mod export;
pub mod front;
pub mod graphql;
pub mod hosts;
pub mod ops;
pub mod serve;
pub mod session_authenticator;
mod small_requests;
mod threads;
pub mod tls;
pub mod verify;
pub mod websocket;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

use self::front::Front;
use self::graphql::TransportLimits;
use self::hosts::HostRefusal;
use self::session_authenticator::{SessionAuthenticator, TENANT};
use crate::graphql::{schema, sdl};
use crate::service::Service;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Optional parts of the public listener.
#[derive(Clone, Copy, Debug)]
pub struct PublicFeatures {
    /// Whether clients can read the schema, by introspection and at `/schema.graphql`.
    pub introspection: bool,
    pub graphiql: bool,
    /// Bytes of the answers of the API that are cached. 0: none are.
    pub answer_bytes: usize,
}

/// All routes of the public listener. Those of the verification listener are in [`verify::routes`].
pub fn public_routes(
    service: Arc<Service>,
    front: Front,
    features: PublicFeatures,
    shutdown: CancellationToken,
) -> Router {
    let front = Arc::new(front);
    let authenticator = SessionAuthenticator::new(Arc::clone(&service), Arc::clone(&front));
    let schema = schema(Arc::clone(&service), features.introspection);
    let limits = TransportLimits { answer_bytes: features.answer_bytes, ..TransportLimits::default() };
    let api = graphql::routes(schema, authenticator.clone(), limits, shutdown)
        .merge(export::routes(authenticator))
        .route("/schema.graphql", get(async move || schema_text(features.introspection)))
        .layer(cors(&front));
    let is_https = front.is_https();
    let identifier = RequestIdentifier { service: Arc::clone(&service), front: Arc::clone(&front) };
    api.merge(console::routes(features.graphiql))
        .layer(middleware::from_fn_with_state(front, refuse_unknown_hosts))
        // Health checks send any host, and learn nothing from which a page could profit.
        .merge(ops::routes(service))
        .layer(middleware::map_response_with_state(is_https, secure))
        .layer(middleware::from_fn_with_state(identifier, identify_request))
}

async fn refuse_unknown_hosts(State(front): State<Arc<Front>>, request: HttpRequest, next: Next) -> Response {
    let Err(refusal) = front.hosts.check(request.version(), request.headers()) else { return next.run(request).await };
    let text = match refusal {
        HostRefusal::Unknown => {
            "Keymark does not serve this host name. Use its public origin, localhost or an IP address, or add the name to \
             --allowed-hosts.\n"
        }
        HostRefusal::Malformed => "Send one Host header.\n",
    };
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (refusal.status(), headers, text).into_response()
}

/// Adds the headers that protect all responses in browsers. The console's pages have a policy of their own.
async fn secure(State(is_https): State<bool>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        forbid_use_as_page(headers);
    }
    if is_https {
        // One year. Without subdomains, which may be no part of Keymark.
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// Has browsers neither guess the type of the response, nor frame it, nor load anything for it.
fn forbid_use_as_page(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, const { HeaderValue::from_static("nosniff") });
    let policy = const { HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'") };
    headers.insert(CONTENT_SECURITY_POLICY, policy);
}

/// Allows pages of the allowed origins to use the API with bearer tokens, never with the cookie.
fn cors(front: &Front) -> CorsLayer {
    let origins = front.allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(origins.collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([ACCEPT, AUTHORIZATION, CONTENT_TYPE, TENANT])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE, X_REQUEST_ID])
}

fn schema_text(is_public: bool) -> Response {
    if !is_public {
        return StatusCode::NOT_FOUND.into_response();
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")], sdl()).into_response()
}

#[derive(Clone)]
struct RequestIdentifier {
    service: Arc<Service>,
    front: Arc<Front>,
}

/// Gives each request an id, which the logs, errors, the audit log and the response contain.
async fn identify_request(State(identifier): State<RequestIdentifier>, request: HttpRequest, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let identified = identifier.service.request(identifier.front.client_address(&parts));
    parts.extensions.insert(identified);
    // The route, not the path: a path can contain anything, even a secret that was pasted into the address bar.
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let (method, began) = (parts.method.clone(), Instant::now());
    let mut response = next.run(HttpRequest::from_parts(parts, body)).await;
    tracing::debug!(
        request = %identified.id, %method, route = route.as_ref().map(MatchedPath::as_str), status = response.status().as_u16(),
        elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), "request answered"
    );
    let id = HeaderValue::from_str(&identified.id.to_string()).expect("ids are ASCII");
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}
