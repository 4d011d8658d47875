//! `/graphql` by the [GraphQL-over-HTTP specification](https://graphql.github.io/graphql-over-http/draft/), and the
//! upgrade to the WebSocket on the same path.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, ObjectType, Schema, SubscriptionType};
use async_graphql_axum::GraphQLResponse;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures::FutureExt;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RETRY_AFTER,
    UPGRADE, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

use super::accept::{Preference, preferences};
use super::authenticator::Authenticator;
use super::conditional::is_known;
use super::error::{ErrorResponse, api_response, set_api_headers};
use super::serve::InFlight;
use super::websocket::{self, ConnectionLimits, SocketServer};
use crate::graphql::answers::{Answers, Known, Question, Reader};
use crate::graphql::engine::{Engine, OperationContext};
use crate::graphql::limits::Limits;
use crate::graphql::operation::{JsonError, Outcome, Parameters, error_with_code, parse_json};
use crate::service::answers::{AnswerSource, LogState};

/// Limits on everything that a client sends to `/graphql`.
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
    /// Bytes of the answers that are cached. 0: none are.
    pub answer_bytes: usize,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            documents: Limits::default(),
            connection: ConnectionLimits::default(),
            body_bytes: 256 * 1024,
            body_timeout: Duration::from_secs(30),
            answer_bytes: 0,
        }
    }
}

/// Shared by all requests.
struct Transport<E, A> {
    engine: Arc<Engine<E>>,
    authenticator: A,
    limits: TransportLimits,
    sockets: Arc<SocketServer<E, A>>,
    /// `None` if no answers are cached.
    answers: Option<Arc<Answers>>,
}

/// `/graphql`: GET, POST and WebSocket. When `shutdown` is cancelled, sockets close with 1001;
/// [`serve`](super::serve::serve) waits for requests in flight.
///
/// # Panics
///
/// If async-graphql cannot parse the SDL that it prints.
pub fn routes<Q, M, S, A>(
    schema: Schema<Q, M, S>,
    authenticator: A,
    limits: TransportLimits,
    shutdown: CancellationToken,
) -> Router
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
    A: Authenticator,
{
    let engine = Arc::new(Engine::new(schema, limits.documents.clone()));
    let sockets = Arc::new(SocketServer {
        engine: Arc::clone(&engine),
        authenticator: authenticator.clone(),
        limits: limits.connection.clone(),
        shutdown,
    });
    let answers = (limits.answer_bytes > 0).then(|| Arc::new(Answers::new(limits.answer_bytes)));
    let transport = Arc::new(Transport { engine, authenticator, limits, sockets, answers });
    Router::new().route("/graphql", any(handle::<Schema<Q, M, S>, A>)).with_state(transport)
}

async fn handle<E: Executor, A: Authenticator>(
    State(transport): State<Arc<Transport<E, A>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && requests_websocket(&parts.headers) {
        return websocket::upgrade(Arc::clone(&transport.sockets), parts).await;
    }
    let media_type = negotiate(&parts.headers);
    let content_type = media_type.unwrap_or(MediaType::Json).content_type();
    let response =
        AssertUnwindSafe(respond(&transport, parts, body, media_type)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("request panicked");
            Err(ErrorResponse::internal().into())
        });
    let mut response = response.unwrap_or_else(|Rejection { error, allow }| {
        let mut response = error.into_response_as(content_type);
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    });
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    response
}

/// An error, with the methods that a 405 must list.
struct Rejection {
    error: ErrorResponse,
    allow: Option<&'static str>,
}

impl Rejection {
    fn method(allow: &'static str, message: &str) -> Self {
        let error = ErrorResponse::new(StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT", message);
        Self { error, allow: Some(allow) }
    }
}

impl From<ErrorResponse> for Rejection {
    fn from(error: ErrorResponse) -> Self {
        Self { error, allow: None }
    }
}

/// Whatever the head of a request can be refused for is checked before its body is read.
async fn respond<E: Executor, A: Authenticator>(
    transport: &Transport<E, A>,
    parts: Parts,
    body: Body,
    media_type: Option<MediaType>,
) -> Result<Response, Rejection> {
    let by_get = match parts.method {
        Method::GET | Method::HEAD => true,
        Method::POST => false,
        _ => return Err(Rejection::method("GET, HEAD, POST", "Send GraphQL requests by POST, or queries by GET.")),
    };
    let media_type = media_type.ok_or_else(|| {
        ErrorResponse::new(
            StatusCode::NOT_ACCEPTABLE,
            "BAD_USER_INPUT",
            "Responses are application/graphql-response+json or application/json: accept one of them.",
        )
    })?;
    if !by_get {
        check_content(&parts.headers, transport.limits.body_bytes)?;
    }
    let context = transport.authenticator.authenticate(&parts).await?;
    let request = if by_get {
        Bytes::copy_from_slice(parts.uri.query().unwrap_or_default().as_bytes())
    } else {
        read_body(body, &transport.limits).await?
    };
    let asked = Asked::new(transport, &context, &request, by_get);
    let known = match &asked {
        Some(asked) => asked.answers.find(&asked.reader, &asked.question).await,
        None => Known::Nothing,
    };
    if let (Some(asked), Known::Answer(state, answer)) = (&asked, &known) {
        let tag = asked.tag(state, &parts, media_type);
        return Ok(asked.response(tag, &parts, media_type, answer.clone(), AnswerSource::Cache));
    }

    let parameters = if by_get { parse_query_string(&parts.uri)? } else { parse_body(&request)? };
    let operation = match transport.engine.prepare(parameters) {
        Ok(operation) => operation,
        Err(error) => return Ok(errors_response(media_type, &[error.into()])),
    };
    if by_get && operation.kind != OperationType::Query {
        return Err(Rejection::method("POST", "Only queries can be sent by GET."));
    }
    if operation.kind == OperationType::Subscription {
        let message = "Subscriptions need a WebSocket, with the subprotocol graphql-transport-ws.";
        return Ok(errors_response(media_type, &[error_with_code(message, "BAD_USER_INPUT")]));
    }
    let asked = asked.filter(|_| operation.is_function_of_the_log);
    let before = match (&asked, known) {
        (Some(_), Known::Log(state)) => Some(state),
        (Some(asked), Known::Nothing) if by_get || asked.answers.is_asked_again(&asked.question) => {
            asked.reader.log_state(&asked.question).await
        }
        _ => None,
    };
    let mut tag = asked.as_ref().zip(before).and_then(|(asked, state)| asked.tag(&state, &parts, media_type));
    if let Some(asked) = &asked
        && let Some(known) = tag.take_if(|tag| is_known(tag, &parts.headers))
    {
        return Ok(asked.response(Some(known), &parts, media_type, Bytes::new(), AnswerSource::Client));
    }
    let in_flight = parts.extensions.get::<InFlight>().cloned();
    match transport.engine.execute(operation, &context, in_flight).await {
        Outcome::Refused(errors) => Ok(errors_response(media_type, &errors)),
        Outcome::Executed(response) => {
            if let Some(asked) = asked
                && response.errors.is_empty()
                && response.http_headers.is_empty()
            {
                let body = Bytes::from(serde_json::to_vec(&response).map_err(not_serializable)?);
                let response = asked.response(tag, &parts, media_type, body.clone(), AnswerSource::Computed);
                if let Some(before) = before {
                    asked.keep(before, body);
                }
                return Ok(response);
            }
            let retry_after = retry_after_seconds(&response.errors);
            // With the headers that resolvers have set, such as cookies.
            let mut response = GraphQLResponse::from(response).into_response();
            set_api_headers(response.headers_mut(), media_type.content_type());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            Ok(response)
        }
        Outcome::Failed => Err(ErrorResponse::internal().into()),
    }
}

/// A question whose answer may be cached.
struct Asked {
    answers: Arc<Answers>,
    reader: Reader,
    question: Question,
}

impl Asked {
    fn new<E, A>(
        transport: &Transport<E, A>,
        context: &OperationContext,
        request: &Bytes,
        by_get: bool,
    ) -> Option<Self> {
        let (answers, reader) = (transport.answers.clone()?, context.reader()?);
        Some(Self { answers, reader: reader.clone(), question: reader.question(request, by_get)? })
    }

    /// The entity tag of the answer to a GET request.
    fn tag(&self, state: &LogState, parts: &Parts, media_type: MediaType) -> Option<HeaderValue> {
        let tag = || self.reader.entity_tag(&self.question, state, media_type.content_type());
        (parts.method != Method::POST).then(|| HeaderValue::try_from(tag()).expect("Base64 is a header's"))
    }

    /// The response with this answer, or without if the client has it: the one with this entity tag.
    fn response(
        &self,
        tag: Option<HeaderValue>,
        parts: &Parts,
        media_type: MediaType,
        answer: Bytes,
        mut source: AnswerSource,
    ) -> Response {
        let mut response = api_response(StatusCode::OK, media_type.content_type(), answer);
        if let Some(tag) = tag {
            if is_known(&tag, &parts.headers) {
                source = AnswerSource::Client;
                *response.body_mut() = Body::empty();
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response.headers_mut().remove(CONTENT_TYPE);
            }
            let headers = response.headers_mut();
            headers.insert(ETAG, tag);
            headers.insert(CACHE_CONTROL, const { HeaderValue::from_static("private, no-cache") });
            headers.append(VARY, const { HeaderValue::from_static("Authorization, Cookie, X-Keymark-Tenant") });
        }
        self.reader.service.count_answer(source);
        response
    }

    /// Caches the answer, which the response does not wait for.
    fn keep(self, before: LogState, answer: Bytes) {
        tokio::spawn(async move { self.answers.keep(&self.reader, self.question, before, answer).await });
    }
}

fn not_serializable(error: serde_json::Error) -> ErrorResponse {
    tracing::error!(%error, "response not serializable");
    ErrorResponse::internal()
}

/// Errors of an operation that was not executed.
#[derive(Serialize)]
struct RequestErrors<'a> {
    errors: &'a [async_graphql::ServerError],
}

/// A request error has status 400, and 200 for clients that accept only `application/json`: they take any other status
/// for a failure of an intermediary.
fn errors_response(media_type: MediaType, errors: &[async_graphql::ServerError]) -> Response {
    let status = match media_type {
        MediaType::GraphqlResponse => StatusCode::BAD_REQUEST,
        MediaType::Json => StatusCode::OK,
    };
    match serde_json::to_vec(&RequestErrors { errors }) {
        Ok(body) => api_response(status, media_type.content_type(), body),
        Err(error) => not_serializable(error).into_response_as(media_type.content_type()),
    }
}

/// The longest `extensions.retryAfterSeconds` of the errors.
fn retry_after_seconds(errors: &[async_graphql::ServerError]) -> Option<u64> {
    let seconds = |error: &async_graphql::ServerError| match error.extensions.as_ref()?.get("retryAfterSeconds")? {
        async_graphql::Value::Number(seconds) => seconds.as_u64(),
        _ => None,
    };
    errors.iter().filter_map(seconds).max()
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

/// The media type of the response, by [RFC 9110, section
/// 12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1); `None` if the client accepts neither. A client without
/// a preference gets `application/json`; one that names both with the same weight gets
/// `application/graphql-response+json`.
fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    /// How specifically a range matches a media type, and its weight in thousandths.
    type Match = Option<(u8, u16)>;
    let (mut graphql, mut json): (Match, Match) = (None, None);
    let mut has_ranges = false;
    for Preference { name, weight, parameters } in preferences(headers, ACCEPT) {
        has_ranges = true;
        let excludes_utf8 =
            parameters.iter().any(|(name, value)| name.eq_ignore_ascii_case("charset") && !is_utf8(value));
        let Some(weight) = weight.filter(|_| !excludes_utf8) else { continue };
        let (matches_graphql, matches_json) = match name.as_str() {
            "application/graphql-response+json" => (Some(2), None),
            "application/json" => (None, Some(2)),
            "application/*" => (Some(1), Some(1)),
            "*/*" => (Some(0), Some(0)),
            _ => (None, None),
        };
        // The most specific range decides, whatever the weights of the others.
        graphql = graphql.max(matches_graphql.map(|specificity| (specificity, weight)));
        json = json.max(matches_json.map(|specificity| (specificity, weight)));
    }
    if !has_ranges {
        return Some(MediaType::Json);
    }
    let by_weight =
        |range: Match| range.map(|(specificity, weight)| (weight, specificity)).filter(|(weight, _)| *weight > 0);
    match (by_weight(graphql), by_weight(json)) {
        (None, None) => None,
        (graphql @ Some((_, 2)), json) if graphql >= json => Some(MediaType::GraphqlResponse),
        (graphql, json) if graphql > json => Some(MediaType::GraphqlResponse),
        _ => Some(MediaType::Json),
    }
}

fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// Only a body of JSON in UTF-8, of bounded size. A JSON content type also makes a browser ask before it sends such
/// a request for a foreign page.
fn check_content(headers: &HeaderMap, limit: usize) -> Result<(), ErrorResponse> {
    let unsupported = |message: &str| ErrorResponse::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_USER_INPUT", message);
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

fn too_large(limit: usize) -> ErrorResponse {
    ErrorResponse::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BAD_USER_INPUT",
        format!("The body is too large: at most {limit} bytes."),
    )
}

async fn read_body(body: Body, limits: &TransportLimits) -> Result<Bytes, ErrorResponse> {
    let body = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits.body_bytes)),
        Ok(Err(_)) => Err(ErrorResponse::bad_request("The body is incomplete.")),
        Err(_) => {
            let message = "The body did not arrive in time.";
            Err(ErrorResponse::new(StatusCode::REQUEST_TIMEOUT, "BAD_USER_INPUT", message))
        }
    }
}

fn parse_body(body: &[u8]) -> Result<Parameters, ErrorResponse> {
    match parse_json(body).map_err(|error| malformed("The body", &error))? {
        Json::Object(members) => Parameters::from_json(members).map_err(ErrorResponse::bad_request),
        Json::Array(_) => {
            Err(ErrorResponse::bad_request("Batches are not supported: send one operation in a request."))
        }
        _ => Err(ErrorResponse::bad_request("The body must be a JSON object.")),
    }
}

fn malformed(what: &str, error: &JsonError) -> ErrorResponse {
    match error {
        JsonError::TooManyValues => {
            ErrorResponse::new(StatusCode::BAD_REQUEST, "QUERY_TOO_COMPLEX", format!("{what} has {error}."))
        }
        JsonError::Malformed(_) => ErrorResponse::bad_request(format!("{what} is not JSON: {error}.")),
    }
}

/// [Parameters of a GET request](https://graphql.github.io/graphql-over-http/draft/#sec-GET): `variables` and
/// `extensions` are JSON, and an empty string counts as absent.
fn parse_query_string(uri: &Uri) -> Result<Parameters, ErrorResponse> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| ErrorResponse::bad_request("The query string is malformed."))?;
    let mut members = Map::new();
    for (name, value) in pairs {
        let value = match name.as_str() {
            "query" => Json::String(value),
            "operationName" | "variables" | "extensions" if value.is_empty() => continue,
            "operationName" => Json::String(value),
            "variables" | "extensions" => {
                parse_json(value.as_bytes()).map_err(|error| malformed(&format!("`{name}`"), &error))?
            }
            _ => continue,
        };
        if members.insert(name, value).is_some() {
            return Err(ErrorResponse::bad_request("A parameter is present more than once."));
        }
    }
    Parameters::from_json(members).map_err(ErrorResponse::bad_request)
}

fn requests_websocket(headers: &HeaderMap) -> bool {
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
