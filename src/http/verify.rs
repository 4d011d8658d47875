//! The verification listener: verifies keys for gateways and services, and serves the metrics.
//!
//! It matches paths without a router, on hyper alone: a router would take a fifth of the time of a verification.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::front::{Front, X_FORWARDED_FOR, bearer};
use super::hosts::HostRefusal;
use super::ops;
use super::serve::{Client, Handler, Quick, RequestBody};
use super::tls::ClientCertificate;
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::{KeyRole, Mark};
use crate::domain::quota::{Quota, take, whole_seconds};
use crate::domain::time::Timestamp;
use crate::domain::tokens::{Token, looks_like_verifier_token};
use crate::domain::verdict::{self, RefusalReason, RefusedKey, Verdict};
use crate::metrics::Metrics;
use crate::service::callers::FoundVerifierToken;
use crate::verify::{Verification, Verifier};

/// Size of a request's body. A key has at most 82 bytes.
const BODY_BYTES: usize = 4096;
/// Time for a client to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// `Retry-After` when a key cannot be verified right now.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const VERIFY: &str = "/v1/verify";
const METRICS: &str = "/metrics";
const VERIFIER_TOKEN: HeaderName = HeaderName::from_static("x-keymark-verifier-token");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TENANT_ID: HeaderName = HeaderName::from_static("x-keymark-tenant-id");
const SYSTEM_ID: HeaderName = HeaderName::from_static("x-keymark-system-id");
const SYSTEM_NAME: HeaderName = HeaderName::from_static("x-keymark-system-name");
const EXTERNAL_ID: HeaderName = HeaderName::from_static("x-keymark-external-id");
const KEY_MARK: HeaderName = HeaderName::from_static("x-keymark-key-mark");
const KEY_EXPIRES_AT: HeaderName = HeaderName::from_static("x-keymark-key-expires-at");
/// All but the unreserved characters of RFC 3986, section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The configured token of the clients that may verify keys. Wiped when dropped.
pub struct VerifierToken(Zeroizing<String>);

impl VerifierToken {
    /// Returns true if `shown` is the token. Runs in constant time for texts of its length.
    pub fn matches(&self, shown: &[u8]) -> bool {
        shown.ct_eq(self.0.as_bytes()).into()
    }
}

impl From<String> for VerifierToken {
    fn from(token: String) -> Self {
        Self(Zeroizing::new(token))
    }
}

/// The clients that may verify keys: those with a certificate of a CA that the listener verifies, and those that satisfy
/// each other restriction that is set.
#[derive(Default)]
pub struct Access {
    /// If set, a token is required: this one, or a verifier token of the store.
    pub token: Option<VerifierToken>,
    /// Networks that the peer must be in.
    pub networks: Vec<IpNet>,
    /// Whether clients can present a certificate. If there is no other restriction, one is required, or a verifier token
    /// of the store.
    pub takes_certificates: bool,
}

impl Access {
    fn requires_credentials(&self) -> bool {
        self.token.is_some() || (self.takes_certificates && self.networks.is_empty())
    }

    fn allows(&self, peer: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&peer))
    }
}

/// The credentials of a client that has access.
enum Admission {
    /// None are required, and none were presented.
    NoToken,
    Certificate,
    Configured,
    Token(Arc<Token>),
}

impl Admission {
    /// The tenant whose keys the client may verify. `None`: all.
    fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Token(token) if !token.is_platform => Some(&token.tenant),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
enum AccessRefusal {
    NoToken,
    WrongToken,
    /// The text is no verifier token of the store, and not the configured token.
    OtherText,
    ExpiredToken,
    SuspendedTenant,
    /// The token of a tenant does not give access to the metrics.
    TenantToken,
    Network,
    /// The token cannot be verified.
    Unavailable,
}

/// At most one warning of a refused client in this time, since anybody can cause them.
const WARNING_INTERVAL: Quota = Quota { burst: 1, interval: Duration::from_secs(60) };

/// All routes of the verification listener.
pub fn routes(verifier: Verifier, access: Access, front: Arc<Front>, metrics: Arc<Metrics>) -> Routes {
    Routes(Arc::new(Shared { verifier, access, front, metrics, next_warning: Mutex::default() }))
}

/// Created by [`routes`].
#[derive(Clone)]
pub struct Routes(Arc<Shared>);

struct Shared {
    verifier: Verifier,
    access: Access,
    front: Arc<Front>,
    metrics: Arc<Metrics>,
    next_warning: Mutex<Timestamp>,
}

impl Shared {
    /// Checks the certificate, the network and the token of a client.
    async fn admit(
        &self,
        peer: IpAddr,
        certificate: Option<&ClientCertificate>,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Admission, AccessRefusal> {
        let now = || self.verifier.service().environment().now();
        let is_certified = certificate.is_some_and(|certificate| certificate.is_valid(now()));
        let admission = match presented_token(headers, path) {
            Some(token) => self.check_token(token, peer, headers, path).await,
            None => Ok(Admission::NoToken),
        };
        match admission {
            // The configured token gives no more access than a certificate, so another text is ignored.
            Ok(Admission::NoToken) | Err(AccessRefusal::OtherText) if is_certified => Ok(Admission::Certificate),
            // A token of a tenant restricts the client to it.
            Ok(admission) if is_certified => Ok(admission),
            Ok(Admission::NoToken) if self.access.requires_credentials() => Err(AccessRefusal::NoToken),
            Ok(admission) if self.access.allows(peer) => Ok(admission),
            Ok(_) => Err(AccessRefusal::Network),
            Err(refusal) => Err(refusal),
        }
    }

    async fn check_token(
        &self,
        presented: &[u8],
        peer: IpAddr,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Admission, AccessRefusal> {
        let configured = self.access.token.as_ref();
        if configured.is_some_and(|token| token.matches(presented)) {
            return Ok(Admission::Configured);
        }
        let text = std::str::from_utf8(presented).ok().filter(|text| looks_like_verifier_token(text));
        let Some(text) = text else {
            // While no token is required, another text is ignored: it may be meant for another server.
            return if configured.is_some() { Err(AccessRefusal::OtherText) } else { Ok(Admission::NoToken) };
        };
        let service = self.verifier.service();
        match service.find_verifier_token(text, || self.front.client_behind(peer, headers)).await {
            Ok(FoundVerifierToken::Valid(token)) if !token.is_platform && path == METRICS => {
                Err(AccessRefusal::TenantToken)
            }
            Ok(FoundVerifierToken::Valid(token)) => Ok(Admission::Token(token)),
            Ok(FoundVerifierToken::Unknown) => Err(AccessRefusal::WrongToken),
            Ok(FoundVerifierToken::Expired) => Err(AccessRefusal::ExpiredToken),
            Ok(FoundVerifierToken::OfSuspendedTenant) => Err(AccessRefusal::SuspendedTenant),
            Err(error) => {
                tracing::debug!(cause = %error, "verifier token not verified");
                Err(AccessRefusal::Unavailable)
            }
        }
    }

    /// Counts a client without access, and logs some of them.
    fn record_refused(&self, refusal: AccessRefusal, peer: IpAddr, headers: &HeaderMap) {
        let counters = &self.metrics.refused_verifiers;
        let (counter, reason) = match refusal {
            AccessRefusal::NoToken => (&counters.no_token, "no verifier token"),
            AccessRefusal::WrongToken | AccessRefusal::OtherText => (&counters.wrong_token, "wrong verifier token"),
            AccessRefusal::ExpiredToken => (&counters.expired_token, "expired verifier token"),
            AccessRefusal::SuspendedTenant => (&counters.wrong_token, "verifier token of a suspended tenant"),
            AccessRefusal::TenantToken => (&counters.tenant_token, "metrics requested with the token of a tenant"),
            AccessRefusal::Unavailable => {
                self.metrics.verifications.unavailable.inc();
                return;
            }
            AccessRefusal::Network => (&counters.network, "not in --verify-allow"),
        };
        counter.inc();
        let source = self.front.client_behind(peer, headers);
        let now = self.verifier.service().environment().now();
        let mut next = self.next_warning.lock().unwrap_or_else(PoisonError::into_inner);
        match take(*next, WARNING_INTERVAL, now) {
            Ok(after) => {
                *next = after;
                tracing::warn!(%source, reason, "verifier refused; further ones are counted");
            }
            Err(_) => tracing::debug!(%source, reason, "verifier refused"),
        }
    }
}

impl Handler for Routes {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<impl RequestBody>, client: &Client) -> Response<Full<Bytes>> {
        self.answer_client(request, client.address.ip(), client.certificate.as_ref()).await
    }

    fn quick(&self) -> Option<Quick> {
        let headers = vec![HOST, AUTHORIZATION, API_KEY, X_FORWARDED_FOR, VERIFIER_TOKEN];
        Some(Quick { headers, environment: self.0.verifier.service().environment().clone() })
    }
}

impl Routes {
    /// Answers a request from `peer`, which presented no certificate.
    pub async fn answer<B: Body<Data = Bytes>>(&self, request: Request<B>, peer: IpAddr) -> Response<Full<Bytes>> {
        self.answer_client(request, peer, None).await
    }

    async fn answer_client<B: Body<Data = Bytes>>(
        &self,
        request: Request<B>,
        peer: IpAddr,
        certificate: Option<&ClientCertificate>,
    ) -> Response<Full<Bytes>> {
        let mut response = match request.uri().path() {
            // Health checks have no token and send any host, and learn nothing from which a page could profit.
            ops::HEALTH => plain(StatusCode::OK, ops::HEALTHY),
            ops::READINESS => {
                let (status, text) = ops::readiness(self.0.verifier.service()).await;
                plain(status, text)
            }
            _ => self.route(request, peer, certificate).await,
        };
        super::forbid_use_as_page(response.headers_mut());
        response
    }

    async fn route<B: Body<Data = Bytes>>(
        &self,
        request: Request<B>,
        peer: IpAddr,
        certificate: Option<&ClientCertificate>,
    ) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let (peer, headers, path) = (peer.to_canonical(), &head.headers, head.uri.path());
        let admission = match self.0.admit(peer, certificate, headers, path).await {
            Ok(admission) => admission,
            Err(refusal) => {
                self.0.record_refused(refusal, peer, headers);
                return match refusal {
                    AccessRefusal::Unavailable => {
                        wait_for(RETRY_DELAY, json(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE))
                    }
                    _ => json(StatusCode::FORBIDDEN, FORBIDDEN),
                };
            }
        };
        // A web page does not have a token.
        if matches!(admission, Admission::NoToken)
            && let Err(refusal) = self.0.front.hosts.check(head.version, &head.headers)
        {
            return json(
                refusal.status(),
                match refusal {
                    HostRefusal::Unknown => UNKNOWN_HOST,
                    HostRefusal::Malformed => MALFORMED_HOST,
                },
            );
        }
        let request = ClientRequest { shared: &self.0, peer, headers, only: admission.tenant() };
        let response = match path {
            VERIFY if head.method == Method::POST => request.verify(body).await,
            "/v1/forward-auth" => request.forward_auth().await,
            path if path.starts_with("/v1/forward-auth/") => request.forward_auth().await,
            VERIFY => return not_allowed("POST"),
            METRICS if head.method == Method::GET || head.method == Method::HEAD => return self.metrics(),
            METRICS => return not_allowed("GET,HEAD"),
            _ => return empty(StatusCode::NOT_FOUND),
        };
        self.0.metrics.verification_seconds.observe(began.elapsed().as_secs_f64());
        response
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.0.metrics.encode()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Metrics::CONTENT_TYPE));
        response
    }
}

const VALID_MEMBERS: &str = r#"{"valid":true,"code":"VALID","tenantId":"#;
const MALFORMED: &str = r#"{"valid":false,"code":"MALFORMED"}"#;
const NOT_FOUND: &str = r#"{"valid":false,"code":"NOT_FOUND"}"#;
const UNAVAILABLE: &str =
    r#"{"valid":false,"code":"UNAVAILABLE","message":"The API key cannot be verified right now. Try again."}"#;
const RATE_LIMITED: &str = r#"{"valid":false,"code":"RATE_LIMITED","message":"Too many bad keys were presented from this address. Try again later."}"#;
const FORBIDDEN: &str = r#"{"valid":false,"code":"FORBIDDEN","message":"This client may not verify keys. Send a verifier token that is valid here, or use an allowed network."}"#;
const UNKNOWN_HOST: &str = r#"{"valid":false,"code":"UNKNOWN_HOST","message":"Keymark does not serve this host name. Use localhost or an IP address, add the name to --allowed-hosts, or send a verifier token."}"#;
const MALFORMED_HOST: &str = r#"{"valid":false,"code":"BAD_REQUEST","message":"Send one Host header."}"#;
const INVALID_BODY: &str = r#"{"valid":false,"code":"BAD_REQUEST","message":"Send JSON: {\"apiKey\": \"…\"}."}"#;
const UNREADABLE_BODY: &str =
    r#"{"valid":false,"code":"BAD_REQUEST","message":"The body cannot be read, is too large, or arrived too late."}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifyRequest<'a> {
    #[serde(borrow)]
    api_key: Cow<'a, str>,
}

/// The head of a request, and where it comes from.
struct ClientRequest<'a> {
    shared: &'a Shared,
    peer: IpAddr,
    headers: &'a HeaderMap,
    /// The tenant whose keys are verified. `None`: all.
    only: Option<&'a TenantId>,
}

impl ClientRequest<'_> {
    async fn verify(&self, body: impl Body<Data = Bytes>) -> Response<Full<Bytes>> {
        let mut reading = pin!(read(body));
        // The body nearly always arrives with the head, and then needs no timer.
        let read = match reading.as_mut().now_or_never() {
            Some(read) => read,
            None => timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)),
        };
        let body = match read {
            Ok(body) => body,
            Err(status) => return json(status, UNREADABLE_BODY),
        };
        // serde would read an array as the members in their order.
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        let Some(question) = serde_json::from_slice::<VerifyRequest<'_>>(&body).ok().filter(|_| is_object) else {
            return json(StatusCode::BAD_REQUEST, INVALID_BODY);
        };
        let Some(verification) = self.verify_key(&question.api_key).await else {
            return wait_for(RETRY_DELAY, json(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE));
        };
        if let Some(wait) = verification.retry_after {
            return wait_for(wait, json(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED));
        }
        match verification.verdict {
            Verdict::Valid(key) => json(StatusCode::OK, Identity::of(&key).to_json(verification.checked_at)),
            Verdict::Malformed => json(StatusCode::OK, MALFORMED),
            Verdict::NotFound => json(StatusCode::OK, NOT_FOUND),
            Verdict::Refused(key) => json(StatusCode::OK, refused_to_json(&key)),
        }
    }

    async fn forward_auth(&self) -> Response<Full<Bytes>> {
        let mut response = match presented(self.headers) {
            None => unauthorized(r#"Bearer realm="keymark""#),
            Some(key) => match self.verify_key(key).await {
                // Gateways know no other refusal, so a source beyond the limit is refused like any other.
                Some(Verification { verdict, retry_after, .. }) => {
                    let response = forwarded(&verdict);
                    match retry_after {
                        Some(wait) => wait_for(wait, response),
                        None => response,
                    }
                }
                None => wait_for(RETRY_DELAY, empty(StatusCode::SERVICE_UNAVAILABLE)),
            },
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// `None` if the key cannot be verified.
    async fn verify_key(&self, presented: &str) -> Option<Verification> {
        let Shared { verifier, front, metrics, .. } = self.shared;
        let source = || front.client_behind(self.peer, self.headers);
        let counters = &metrics.verifications;
        match verifier.verify(source, presented, self.only).await {
            Ok(judgement) => {
                let counter = match &judgement.verdict {
                    Verdict::Valid(_) => &counters.valid,
                    Verdict::Malformed => &counters.malformed,
                    Verdict::NotFound => &counters.not_found,
                    Verdict::Refused(key) => match key.reason {
                        RefusalReason::Revoked => &counters.revoked,
                        RefusalReason::Suspended => &counters.suspended,
                        RefusalReason::Expired => &counters.expired,
                    },
                };
                counter.inc();
                log(&judgement.verdict);
                if judgement.retry_after.is_some() {
                    metrics.limited.inc();
                }
                Some(judgement)
            }
            Err(error) => {
                counters.unavailable.inc();
                // At a higher level, a store that is down would flood the log; a counter has their number.
                tracing::debug!(cause = %error, "key not verified");
                None
            }
        }
    }
}

/// Logs a verdict, with the system and the mark of a known key: never with the key.
fn log(verdict: &Verdict) {
    match verdict {
        Verdict::Valid(verdict::Identity { tenant, system, mark, .. }) => {
            tracing::debug!(verdict = "VALID", %tenant, %system, mark = mark.as_str(), "key verified");
        }
        Verdict::Refused(RefusedKey { tenant, system, mark, reason, .. }) => {
            tracing::debug!(verdict = reason.code(), %tenant, %system, mark = mark.as_str(), "key verified");
        }
        Verdict::Malformed => tracing::debug!(verdict = "MALFORMED", "key verified"),
        Verdict::NotFound => tracing::debug!(verdict = "NOT_FOUND", "key verified"),
    }
}

/// The whole body, without a copy if it arrived in one piece; or the status of the error.
async fn read(body: impl Body<Data = Bytes>) -> Result<Bytes, StatusCode> {
    let mut body = pin!(body);
    let (mut whole, mut pieces) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        let Ok(piece) = frame.into_data() else { continue };
        if whole.len() + pieces.len() + piece.len() > BODY_BYTES {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&piece);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// The verifier token of a request. In `Authorization` only where that is not the client's own.
fn presented_token<'a>(headers: &'a HeaderMap, path: &str) -> Option<&'a [u8]> {
    match headers.get(VERIFIER_TOKEN) {
        Some(token) => Some(token.as_bytes()),
        None if path == VERIFY || path == METRICS => {
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer).map(str::as_bytes)
        }
        None => None,
    }
}

/// The key of a request. Two different keys, or a repeated header, are no key.
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
        Some(value) => bearer(value.to_str().ok()?),
    };
    match (key, bearer) {
        (Some(key), Some(bearer)) => (key == bearer).then_some(key),
        (key, bearer) => key.or(bearer),
    }
}

/// The identity of a valid key.
struct Identity<'a> {
    tenant: &'a str,
    system: SystemId,
    name: &'a str,
    external_id: Option<&'a str>,
    mark: Mark,
    role: KeyRole,
    expires_at: Option<Timestamp>,
}

const WRITTEN: &str = "a vector takes whatever is written";

impl<'a> Identity<'a> {
    fn of(key: &'a verdict::Identity) -> Self {
        let verdict::Identity { tenant, system, system_name, external_id, mark, role, expires_at } = key;
        let (tenant, name) = (tenant.as_str(), system_name.as_str());
        let external_id = external_id.as_ref().map(ExternalId::as_str);
        Self { tenant, system: *system, name, external_id, mark: *mark, role: *role, expires_at: *expires_at }
    }

    fn to_json(&self, checked_at: Timestamp) -> Vec<u8> {
        // All members except the name and the external id have a bounded length, and most of these need no escapes.
        let mut text = Vec::with_capacity(420 + self.name.len() + self.external_id.map_or(0, str::len));
        text.extend_from_slice(VALID_MEMBERS.as_bytes());
        serde_json::to_writer(&mut text, self.tenant).expect(WRITTEN);
        write!(text, r#","systemId":"{}","systemName":"#, self.system).expect(WRITTEN);
        serde_json::to_writer(&mut text, self.name).expect(WRITTEN);
        if let Some(external_id) = self.external_id {
            text.extend_from_slice(br#","externalId":"#);
            serde_json::to_writer(&mut text, external_id).expect(WRITTEN);
        }
        text.extend_from_slice(br#","mark":"#);
        serde_json::to_writer(&mut text, self.mark.as_str()).expect(WRITTEN);
        write!(text, r#","keyRole":"{}""#, self.role.as_str()).expect(WRITTEN);
        if let Some(end) = self.expires_at {
            write!(text, r#","expiresAt":"{end}""#).expect(WRITTEN);
        }
        write!(text, r#","checkedAt":"{checked_at}"}}"#).expect(WRITTEN);
        text
    }

    fn to_headers(&self) -> Response<Full<Bytes>> {
        const ASCII: &str = "ids are ASCII, and the name and the external id are percent-encoded";
        let encode = |text: &str| {
            let mut encoded = String::with_capacity(3 * text.len());
            encoded.extend(utf8_percent_encode(text, ESCAPED));
            HeaderValue::try_from(encoded).expect(ASCII)
        };
        let mut system = String::with_capacity(32);
        write!(system, "{}", self.system).expect("a string takes whatever is written");
        let mut response = empty(StatusCode::OK);
        let headers = response.headers_mut();
        // These six, and those that every response has.
        headers.reserve(9);
        headers.insert(TENANT_ID, HeaderValue::from_str(self.tenant).expect(ASCII));
        headers.insert(SYSTEM_ID, HeaderValue::try_from(system).expect(ASCII));
        headers.insert(SYSTEM_NAME, encode(self.name));
        if let Some(external_id) = self.external_id {
            headers.insert(EXTERNAL_ID, encode(external_id));
        }
        headers.insert(KEY_MARK, HeaderValue::from_str(self.mark.as_str()).expect(ASCII));
        if let Some(end) = self.expires_at {
            headers.insert(KEY_EXPIRES_AT, HeaderValue::try_from(end.to_string()).expect(ASCII));
        }
        response
    }
}

/// The answer for a key that is known, but refused.
fn refused_to_json(key: &RefusedKey) -> Vec<u8> {
    let RefusedKey { tenant, system, mark, reason, since, .. } = key;
    let mut text = Vec::with_capacity(256);
    write!(text, r#"{{"valid":false,"code":"{}","tenantId":"#, reason.code()).expect(WRITTEN);
    serde_json::to_writer(&mut text, tenant.as_str()).expect(WRITTEN);
    write!(text, r#","systemId":"{system}","mark":"#).expect(WRITTEN);
    serde_json::to_writer(&mut text, mark.as_str()).expect(WRITTEN);
    write!(text, r#","since":"{since}"}}"#).expect(WRITTEN);
    text
}

fn forwarded(verdict: &Verdict) -> Response<Full<Bytes>> {
    match verdict {
        Verdict::Valid(key) => Identity::of(key).to_headers(),
        Verdict::Malformed => {
            unauthorized(r#"Bearer realm="keymark", error="invalid_token", error_description="MALFORMED""#)
        }
        Verdict::NotFound => {
            unauthorized(r#"Bearer realm="keymark", error="invalid_token", error_description="NOT_FOUND""#)
        }
        Verdict::Refused(key) => unauthorized(match key.reason {
            RefusalReason::Revoked => r#"Bearer realm="keymark", error="invalid_token", error_description="REVOKED""#,
            RefusalReason::Suspended => {
                r#"Bearer realm="keymark", error="invalid_token", error_description="SUSPENDED""#
            }
            RefusalReason::Expired => r#"Bearer realm="keymark", error="invalid_token", error_description="EXPIRED""#,
        }),
    }
}

fn wait_for(wait: Duration, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    response
}

/// A response with a challenge by RFC 6750, section 3; without an error if no single key was presented.
fn unauthorized(challenge: &'static str) -> Response<Full<Bytes>> {
    let mut response = empty(StatusCode::UNAUTHORIZED);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    proptest! {
        #[test]
        fn response_is_json_for_every_name_and_external_id(
            (name, external_id) in ("[\\PC\"\\\\]{0,64}", "[\\PC\"\\\\]{0,200}"),
            millis in 0..4_102_444_800_000i64,
        ) {
            let system: SystemId = "sys_01hf7yat0000000000000000zz".parse().unwrap();
            let (mark, now) = (Mark::try_from("9zZ0".to_owned()).unwrap(), Timestamp::from_millis(millis));
            let (role, expires_at) = (KeyRole::Retiring, Some(now));
            let external_id = external_id.as_str();
            let identity = Identity { tenant: "acme", system, name: &name, external_id: Some(external_id), mark, role, expires_at };
            let answer: Json = serde_json::from_slice(&identity.to_json(now)).unwrap();
            prop_assert_eq!(answer, json!({
                "valid": true, "code": "VALID", "tenantId": "acme", "systemId": system.to_string(),
                "systemName": name, "externalId": external_id, "mark": "9zZ0", "keyRole": "RETIRING", "expiresAt": now.to_string(),
                "checkedAt": now.to_string(),
            }));
            let headers = identity.to_headers();
            for (header, text) in [(SYSTEM_NAME, name.as_str()), (EXTERNAL_ID, external_id)] {
                let encoded = headers.headers()[header].to_str().unwrap();
                let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().unwrap();
                prop_assert_eq!(decoded, text);
            }
        }
    }

    #[test]
    fn fixed_responses_are_json_with_a_code() {
        for text in [
            MALFORMED,
            NOT_FOUND,
            UNAVAILABLE,
            FORBIDDEN,
            UNKNOWN_HOST,
            MALFORMED_HOST,
            INVALID_BODY,
            UNREADABLE_BODY,
            RATE_LIMITED,
        ] {
            let answer: Json = serde_json::from_str(text).unwrap();
            assert!(answer["valid"] == false && answer["code"].is_string(), "{text}");
        }
    }
}
