//! Who asks: what the GraphQL transport wants to know of authentication, and all that it knows.

use std::{future::Future, sync::Arc};

use async_graphql::Request;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};
use serde_json::json;

/// Decides who asks.
pub trait Gate: Clone + Send + Sync + 'static {
    /// Asked once for an HTTP request, before its body is read.
    fn admit(&self, parts: &Parts) -> impl Future<Output = Result<Admission, Refusal>> + Send;

    /// Asked before a WebSocket is opened; a foreign `Origin` is refused here.
    fn admit_upgrade(&self, parts: &Parts) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Asked when a WebSocket is open and sent `connection_init`: with the request that opened it and the message's
    /// payload, an empty object where there is none. A refusal closes the socket with 4403, or with 1013 where its
    /// status says that trying again may help (429 and 5xx).
    fn admit_socket(
        &self,
        parts: &Parts,
        payload: &serde_json::Map<String, serde_json::Value>,
    ) -> impl Future<Output = Result<SocketAdmission, Refusal>> + Send;
}

/// Somebody, or nobody, may run operations.
#[derive(Clone)]
pub struct Admission {
    attach: Arc<dyn Fn(Request) -> Request + Send + Sync>,
    signed_in: bool,
}

impl Admission {
    /// `attach` gives each operation its data, such as the caller; on a WebSocket it runs for every operation.
    pub fn new(signed_in: bool, attach: impl Fn(Request) -> Request + Send + Sync + 'static) -> Self {
        Self { attach: Arc::new(attach), signed_in }
    }

    /// Whether the caller is known; errors suggest names of the schema to these alone.
    #[must_use]
    pub fn signed_in(&self) -> bool {
        self.signed_in
    }

    pub(super) fn attach(&self, request: Request) -> Request {
        (self.attach)(request)
    }
}

/// Somebody may run operations on a WebSocket, for as long as their session lasts.
pub struct SocketAdmission {
    /// As for an HTTP request.
    pub admission: Admission,
    /// Resolves when the session is over: the socket closes with 4403.
    pub ended: BoxFuture<'static, ()>,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the HTTP answer.
    pub status: StatusCode,
    /// `extensions.code` of the error.
    pub code: &'static str,
    /// For the person who reads the error; nothing internal.
    pub message: String,
    /// When to try again: `Retry-After` and `extensions.retryAfterSeconds`.
    pub retry_after_seconds: Option<u64>,
    /// `WWW-Authenticate`, which a 401 must carry
    /// ([RFC 9110, section 15.5.2](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2)).
    pub challenge: Option<&'static str>,
}

impl Refusal {
    /// A refusal without `Retry-After`; one of status 401 challenges with `Bearer`.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after_seconds: None,
            challenge: (status == StatusCode::UNAUTHORIZED).then_some("Bearer"),
        }
    }

    /// The same refusal, with the time after which trying again may help.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "Something went wrong on the server.")
    }

    pub(super) fn into_response_as(self, content_type: &'static str) -> Response {
        let mut extensions = json!({ "code": self.code });
        if let Some(seconds) = self.retry_after_seconds {
            extensions["retryAfterSeconds"] = seconds.into();
        }
        let body = json!({ "errors": [{ "message": self.message, "extensions": extensions }] });
        let mut response = answer(self.status, content_type, body.to_string());
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_response_as("application/json; charset=utf-8")
    }
}

/// A response with the headers that every answer of the API has.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
