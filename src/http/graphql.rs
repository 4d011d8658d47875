//! `/graphql` by the [GraphQL-over-HTTP specification](https://graphql.github.io/graphql-over-http/draft/), and the
//! way from there to the WebSocket on the same path.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_graphql::{Executor, ObjectType, Schema, SubscriptionType, parser::types::OperationType};
use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    response::Response,
    routing::any,
};
use bytes::Bytes;
use futures::FutureExt;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, UPGRADE, VARY},
    request::Parts,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

use crate::graphql::{
    completion::OutputTypes,
    limits::{Documents, Limits},
};

use super::{
    following::{MAX_PAYLOADS_BYTES, Payloads},
    gate::{Gate, Refusal, answer},
    operation::{self, JsonError, Operation, Outcome, Parameters, RequestErrors},
    serve::InFlight,
    websocket::{self, ConnectionLimits},
};

/// Bounds on everything that a client sends to `/graphql`.
#[derive(Clone, Debug)]
pub struct TransportLimits {
    /// On the documents, over HTTP and WebSocket alike.
    pub documents: Limits,
    /// On a WebSocket.
    pub connection: ConnectionLimits,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// From the request's head to the end of its body.
    pub body_timeout: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            documents: Limits::default(),
            connection: ConnectionLimits::default(),
            body_bytes: 256 * 1024,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// What every request and every socket shares.
pub(super) struct Transport<E, G> {
    pub(super) executor: E,
    pub(super) gate: G,
    pub(super) documents: Documents,
    pub(super) types: OutputTypes,
    pub(super) limits: TransportLimits,
    pub(super) payloads: Payloads,
    pub(super) shutdown: CancellationToken,
}

/// `/graphql`: GET, POST and WebSocket. When `shutdown` is cancelled the sockets close with 1001; requests in
/// flight are [`serve`](super::serve::serve)'s to wait for.
///
/// # Panics
///
/// When async-graphql cannot read the schema that it writes.
pub fn routes<Q, M, S, G>(
    schema: Schema<Q, M, S>,
    gate: G,
    limits: TransportLimits,
    shutdown: CancellationToken,
) -> Router
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
    G: Gate,
{
    let types = OutputTypes::from_sdl(&schema.sdl()).expect("the SDL of a schema parses");
    let transport = Arc::new(Transport {
        executor: schema,
        gate,
        types,
        documents: Documents::new(limits.documents.clone()),
        limits,
        payloads: Payloads::new(MAX_PAYLOADS_BYTES),
        shutdown,
    });
    Router::new().route("/graphql", any(handle::<Schema<Q, M, S>, G>)).with_state(transport)
}

async fn handle<E: Executor, G: Gate>(State(transport): State<Arc<Transport<E, G>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && asks_for_websocket(&parts.headers) {
        return websocket::upgrade(transport, parts).await;
    }
    let media_type = negotiate(&parts.headers);
    let content_type = media_type.unwrap_or(MediaType::Json).content_type();
    let response =
        AssertUnwindSafe(respond(&transport, parts, body, media_type)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a request panicked");
            Err(Refusal::internal().into())
        });
    let mut response = response.unwrap_or_else(|no: No| {
        let mut response = no.refusal.into_response_as(content_type);
        if let Some(allow) = no.allow {
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    });
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Accept"));
    response
}

/// A refusal, with the methods that a 405 must name.
struct No {
    refusal: Refusal,
    allow: Option<&'static str>,
}

impl No {
    fn method(allow: &'static str, message: &str) -> Self {
        Self { refusal: Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT", message), allow: Some(allow) }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, allow: None }
    }
}

/// What the head of a request can be refused for is refused before its body is read.
async fn respond<E: Executor, G: Gate>(
    transport: &Transport<E, G>,
    parts: Parts,
    body: Body,
    media_type: Option<MediaType>,
) -> Result<Response, No> {
    let by_get = match parts.method {
        Method::GET | Method::HEAD => true,
        Method::POST => false,
        _ => {
            return Err(No::method("GET, HEAD, POST", "GraphQL is served by POST, queries by GET too."));
        }
    };
    let media_type = media_type.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "BAD_USER_INPUT",
            "Answers come as application/graphql-response+json or application/json.",
        )
    })?;
    if !by_get {
        check_content(&parts.headers, transport.limits.body_bytes)?;
    }
    let admission = transport.gate.admit(&parts).await?;
    let parameters = if by_get { read_query_string(&parts.uri)? } else { read_body(body, &transport.limits).await? };

    let operation = match Operation::prepare(&transport.documents, parameters) {
        Ok(operation) => operation,
        Err(error) => return Ok(answer_errors(media_type, &[error.into()])),
    };
    if by_get && operation.kind != OperationType::Query {
        return Err(No::method("POST", "Only queries can be run by GET."));
    }
    if operation.kind == OperationType::Subscription {
        let mut error = async_graphql::ServerError::new(
            "Subscriptions are served over WebSocket, with the subprotocol graphql-transport-ws.",
            None,
        );
        operation::set_code(&mut error, "BAD_USER_INPUT");
        return Ok(answer_errors(media_type, &[error]));
    }
    let held = parts.extensions.get::<InFlight>().cloned();
    let Operation { kind, request, selected } = operation;
    let mut response = operation::execute(transport.executor.clone(), kind, admission.attach(request), held)
        .await
        .ok_or_else(Refusal::internal)?;
    let headers = std::mem::take(&mut response.http_headers);
    let outcome = Outcome::of(response, &selected, &transport.types, admission.signed_in());
    let mut answered = match outcome {
        Outcome::Refused(errors) => answer_errors(media_type, &errors),
        Outcome::Executed(response) => answer_json(StatusCode::OK, media_type, &response),
    };
    append_headers(answered.headers_mut(), headers);
    Ok(answered)
}

/// Those that resolvers set, such as cookies.
fn append_headers(to: &mut HeaderMap, from: HeaderMap) {
    let mut last = None;
    for (name, value) in from {
        // A name is given with the first of its values alone.
        last = name.or(last);
        if let Some(name) = &last {
            to.append(name.clone(), value);
        }
    }
}

/// A request error has status 400, and 200 for clients that know `application/json` alone: these take any other
/// status for a failure on the way.
fn answer_errors(media_type: MediaType, errors: &[async_graphql::ServerError]) -> Response {
    let status = match media_type {
        MediaType::GraphqlResponse => StatusCode::BAD_REQUEST,
        MediaType::Json => StatusCode::OK,
    };
    answer_json(status, media_type, &RequestErrors { errors })
}

fn answer_json(status: StatusCode, media_type: MediaType, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => answer(status, media_type.content_type(), body),
        Err(error) => {
            tracing::error!(%error, "a response cannot be serialized");
            Refusal::internal().into_response_as(media_type.content_type())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    GraphqlResponse,
    Json,
}

impl MediaType {
    fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }
}

/// The media type of the answer by [RFC 9110, section 12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1);
/// `None` when the client takes none of ours. A client that has no preference gets `application/json`; one that
/// names both alike gets `application/graphql-response+json`.
fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    /// How well a range fits a media type, and its weight in thousandths.
    type Fit = Option<(u8, u16)>;
    let (mut graphql, mut json): (Fit, Fit) = (None, None);
    let mut ranges = 0;
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or("*/*;q=0").split(',') {
            let mut parameters = range.split(';');
            let name = parameters.next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            ranges += 1;
            let Some(weight) = weight_of(parameters) else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            let (fits_graphql, fits_json) = match name.as_str() {
                "application/graphql-response+json" => (Some(2), None),
                "application/json" => (None, Some(2)),
                "application/*" => (Some(1), Some(1)),
                "*/*" => (Some(0), Some(0)),
                _ => (None, None),
            };
            // The most specific range counts, whatever the weight of the others.
            graphql = graphql.max(fits_graphql.map(|fit| (fit, weight)));
            json = json.max(fits_json.map(|fit| (fit, weight)));
        }
    }
    if ranges == 0 {
        return Some(MediaType::Json);
    }
    let by_weight = |fit: Fit| fit.map(|(fit, weight)| (weight, fit)).filter(|(weight, _)| *weight > 0);
    match (by_weight(graphql), by_weight(json)) {
        (None, None) => None,
        (graphql @ Some((_, 2)), json) if graphql >= json => Some(MediaType::GraphqlResponse),
        (graphql, json) if graphql > json => Some(MediaType::GraphqlResponse),
        _ => Some(MediaType::Json),
    }
}

/// The weight of a media range in thousandths. `None` when its parameters rule our answers out, or are malformed.
fn weight_of<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    let mut weight = 1000;
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => {
                let parsed: f32 = value.parse().ok()?;
                if !(0.0..=1.0).contains(&parsed) {
                    return None;
                }
                weight = (parsed * 1000.0).round() as u16;
            }
            "charset" if !is_utf8(value) => return None,
            _ => {}
        }
    }
    Some(weight)
}

fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// Only a body of JSON in UTF-8, of bounded size. A JSON content type also makes a browser ask before it sends such
/// a request for a foreign page.
fn check_content(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    let unsupported = |message: &str| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_USER_INPUT", message);
    let mut content_types = headers.get_all(CONTENT_TYPE).iter();
    let content_type = content_types
        .next()
        .filter(|_| content_types.next().is_none())
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut parameters = content_type.split(';');
    let name = parameters.next().unwrap_or_default().trim();
    if !name.eq_ignore_ascii_case("application/json") {
        return Err(unsupported("The body must be application/json."));
    }
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8(value.trim().trim_matches('"')) {
            return Err(unsupported("The body must be in UTF-8."));
        }
    }
    let encoded =
        headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(unsupported("The body must not be compressed."));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BAD_USER_INPUT",
        format!("The body is too large: at most {limit} bytes."),
    )
}

async fn read_body(body: Body, limits: &TransportLimits) -> Result<Parameters, Refusal> {
    let body = Limited::new(body, limits.body_bytes).collect();
    let body: Bytes = match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(too_large(limits.body_bytes));
        }
        Ok(Err(_)) => return Err(Refusal::bad_request("The body did not arrive whole.")),
        Err(_) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "BAD_USER_INPUT",
                "The body did not arrive in time.",
            ));
        }
    };
    match operation::parse_json(&body).map_err(|error| malformed("The body", &error))? {
        Json::Object(members) => Parameters::from_json(members).map_err(Refusal::bad_request),
        Json::Array(_) => Err(Refusal::bad_request("Several operations in one request are not supported.")),
        _ => Err(Refusal::bad_request("The body must be a JSON object.")),
    }
}

fn malformed(what: &str, error: &JsonError) -> Refusal {
    match error {
        JsonError::TooManyValues => {
            Refusal::new(StatusCode::BAD_REQUEST, "QUERY_TOO_COMPLEX", format!("{what} has {error}."))
        }
        JsonError::Malformed(_) => Refusal::bad_request(format!("{what} is not JSON: {error}.")),
    }
}

/// [Parameters of a GET request](https://graphql.github.io/graphql-over-http/draft/#sec-GET): `variables` and
/// `extensions` are JSON, and an empty string stands for nothing.
fn read_query_string(uri: &Uri) -> Result<Parameters, Refusal> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Refusal::bad_request("The query string is malformed."))?;
    let mut members = Map::new();
    for (name, value) in pairs {
        let value = match name.as_str() {
            "query" => Json::String(value),
            "operationName" | "variables" | "extensions" if value.is_empty() => continue,
            "operationName" => Json::String(value),
            "variables" | "extensions" => {
                operation::parse_json(value.as_bytes()).map_err(|error| malformed(&format!("`{name}`"), &error))?
            }
            _ => continue,
        };
        if members.insert(name, value).is_some() {
            return Err(Refusal::bad_request("A parameter is given twice."));
        }
    }
    Parameters::from_json(members).map_err(Refusal::bad_request)
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let names = |header, token: &str| {
        headers
            .get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    names(UPGRADE, "websocket") && names(CONNECTION, "upgrade")
}
