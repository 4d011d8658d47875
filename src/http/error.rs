//! Responses to requests that are refused.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::graphql::operation::INTERNAL_MESSAGE;

/// Why a request is refused, as an HTTP response with a GraphQL error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    pub status: StatusCode,
    /// `extensions.code` of the error.
    pub code: &'static str,
    /// For the reader of the error; contains nothing internal.
    pub message: String,
    /// When to retry: `Retry-After` and `extensions.retryAfterSeconds`.
    pub retry_after_seconds: Option<u64>,
    /// `WWW-Authenticate`, which a 401 must carry
    /// ([RFC 9110, section 15.5.2](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2)).
    pub challenge: Option<&'static str>,
}

impl ErrorResponse {
    /// A response without `Retry-After`; with status 401, it challenges with `Bearer`.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after_seconds: None,
            challenge: (status == StatusCode::UNAUTHORIZED).then_some("Bearer"),
        }
    }

    /// Adds the time after which a retry may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", INTERNAL_MESSAGE)
    }

    pub(super) fn into_response_as(self, content_type: &'static str) -> Response {
        let mut extensions = json!({ "code": self.code });
        if let Some(seconds) = self.retry_after_seconds {
            extensions["retryAfterSeconds"] = seconds.into();
        }
        let body = json!({ "errors": [{ "message": self.message, "extensions": extensions }] });
        let mut response = api_response(self.status, content_type, body.to_string());
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

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        self.into_response_as("application/json; charset=utf-8")
    }
}

pub(super) fn api_response(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set_api_headers(response.headers_mut(), content_type);
    response
}

/// Sets the headers that all responses of the API have.
pub(super) fn set_api_headers(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
