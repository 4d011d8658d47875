//! The verification listener: is this key good?

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::StatusCode;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::front::{Front, peer};
use crate::domain::verdict::{self, Verdict};
use crate::metrics::Metrics;
use crate::verify::Verifier;

/// Bytes of a request's body: a key has at most 82.
const BODY_BYTES: usize = 4096;
const VERIFIER_TOKEN: HeaderName = HeaderName::from_static("x-keymark-verifier-token");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TENANT_ID: HeaderName = HeaderName::from_static("x-keymark-tenant-id");
const SYSTEM_ID: HeaderName = HeaderName::from_static("x-keymark-system-id");
const SYSTEM_NAME: HeaderName = HeaderName::from_static("x-keymark-system-name");
/// All but the unreserved characters of RFC 3986, section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Who may ask. Each restriction that is set must be met.
#[derive(Default)]
pub struct Access {
    /// What `X-Keymark-Verifier-Token` must be.
    pub token: Option<Zeroizing<String>>,
    /// Where the peer must be.
    pub networks: Vec<IpNet>,
}

impl Access {
    fn admits(&self, parts: &Parts) -> bool {
        let token = self.token.as_ref().is_none_or(|token| {
            let shown = parts.headers.get(VERIFIER_TOKEN).map_or(&[][..], HeaderValue::as_bytes);
            shown.ct_eq(token.as_bytes()).into()
        });
        let network = self.networks.is_empty()
            || peer(parts).is_some_and(|peer| self.networks.iter().any(|network| network.contains(&peer)));
        token && network
    }
}

struct Shared {
    verifier: Verifier,
    access: Access,
    front: Arc<Front>,
    metrics: Arc<Metrics>,
}

/// Every route of the verification listener.
pub fn routes(verifier: Verifier, access: Access, front: Arc<Front>, metrics: Arc<Metrics>) -> Router {
    let shared = Arc::new(Shared { verifier, access, front, metrics });
    Router::new()
        .route("/v1/verify", post(verify))
        .route("/v1/forward-auth", any(forward_auth))
        .route("/v1/forward-auth/", any(forward_auth))
        .route("/v1/forward-auth/{*path}", any(forward_auth))
        .route("/metrics", get(metrics_text))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

async fn admit(State(shared): State<Arc<Shared>>, request: HttpRequest, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if !shared.access.admits(&parts) {
        let refused = Answer::refused("FORBIDDEN", "You may not ask for verifications here.");
        return json(StatusCode::FORBIDDEN, &refused);
    }
    next.run(HttpRequest::from_parts(parts, body)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    #[serde(borrow)]
    api_key: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    valid: bool,
    code: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    tenant_id: &'a str,
    system_id: String,
    system_name: &'a str,
    mark: &'a str,
    checked_at: String,
}

impl Answer<'_> {
    fn refused(code: &'static str, message: &'static str) -> Self {
        Self { valid: false, code, identity: None, message: Some(message) }
    }
}

async fn verify(State(shared): State<Arc<Shared>>, source: Source, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let refused = Answer::refused("BAD_REQUEST", "The body cannot be read, or is too large.");
            return json(rejection.status(), &refused);
        }
    };
    // A list would be read as the members in their order.
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    let Some(question) = serde_json::from_slice::<Question<'_>>(&body).ok().filter(|_| is_object) else {
        let refused = Answer::refused("BAD_REQUEST", r#"Send JSON: {"apiKey": "…"}."#);
        return json(StatusCode::BAD_REQUEST, &refused);
    };
    match shared.judge(&source, &question.api_key).await {
        Some(Verdict::Valid(key)) => {
            let checked_at = shared.verifier.service().environment().now().to_string();
            let identity = Identity {
                tenant_id: key.tenant.as_str(),
                system_id: key.system.to_string(),
                system_name: key.system_name.as_str(),
                mark: key.mark.as_str(),
                checked_at,
            };
            json(StatusCode::OK, &Answer { valid: true, code: "VALID", identity: Some(identity), message: None })
        }
        Some(verdict) => {
            json(StatusCode::OK, &Answer { valid: false, code: verdict.code(), identity: None, message: None })
        }
        None => {
            let refused = Answer::refused("UNAVAILABLE", "It cannot be decided now whether the key is good.");
            json(StatusCode::SERVICE_UNAVAILABLE, &refused)
        }
    }
}

async fn forward_auth(State(shared): State<Arc<Shared>>, source: Source, headers: HeaderMap) -> Response {
    let mut response = match presented(&headers) {
        None => unauthorized(None),
        Some(key) => match shared.judge(&source, key).await {
            Some(Verdict::Valid(key)) => identity_headers(&key),
            Some(verdict) => unauthorized(Some(verdict.code())),
            None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The one key of a request: two different ones, or one of the headers twice, are no key.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let once = |name| {
        let mut values = headers.get_all(name).into_iter();
        let value = values.next();
        if values.next().is_some() { Err(()) } else { Ok(value) }
    };
    let key = match once(API_KEY).ok()? {
        None => None,
        Some(value) => Some(value.to_str().ok()?.trim()),
    };
    let bearer = match once(AUTHORIZATION).ok()? {
        None => None,
        Some(value) => {
            let credentials = value.to_str().ok()?.split_once(' ');
            let bearer = credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
            bearer.map(|(_, token)| token.trim())
        }
    };
    match (key, bearer) {
        (Some(key), Some(bearer)) => (key == bearer).then_some(key),
        (key, bearer) => key.or(bearer),
    }
}

fn identity_headers(key: &verdict::Identity) -> Response {
    let text = |value: &str| HeaderValue::from_str(value).expect("ids are ASCII, and the name is percent-encoded");
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(TENANT_ID, text(key.tenant.as_str()));
    headers.insert(SYSTEM_ID, text(&key.system.to_string()));
    headers.insert(SYSTEM_NAME, text(&utf8_percent_encode(key.system_name.as_str(), ESCAPED).to_string()));
    response
}

/// The challenge of RFC 6750, section 3; where no one key was presented it has no error.
fn unauthorized(verdict: Option<&'static str>) -> Response {
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    let error = verdict.map(|code| format!(r#", error="invalid_token", error_description="{code}""#));
    let challenge = format!(r#"Bearer realm="keymark"{}"#, error.unwrap_or_default());
    let challenge = HeaderValue::from_str(&challenge).expect("the codes are plain ASCII");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], shared.metrics.encode()).into_response()
}

impl Shared {
    /// `None`: it cannot be decided.
    async fn judge(&self, source: &Source, presented: &str) -> Option<Verdict> {
        let request = || self.verifier.service().request(source.0);
        match self.verifier.verify(request, presented).await {
            Ok(verdict) => {
                self.metrics.count_verdict(verdict.code());
                Some(verdict)
            }
            Err(error) => {
                self.metrics.count_verdict("UNAVAILABLE");
                tracing::error!(cause = %error, "a verification could not be decided");
                None
            }
        }
    }
}

/// Where a request came from.
struct Source(Option<IpAddr>);

impl FromRequestParts<Arc<Shared>> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Infallible> {
        Ok(Self(shared.front.client_address(parts)))
    }
}

fn json(status: StatusCode, answer: &Answer<'_>) -> Response {
    let body = serde_json::to_vec(answer).expect("an answer is text and truth values");
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
