//! Who asks: a bearer token, or the console's cookie, becomes a caller.
//!
//! A browser sends the cookie by itself, whoever made it ask; so a request that relies on it must show that it comes
//! from our own pages. A bearer token shows that by being there.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use http::StatusCode;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};
use http::request::Parts;

use super::front::{Front, RequestOrigin, single};
use super::gate::{Admission, Gate, Refusal, SocketAdmission};
use crate::auth::tokens::SessionRef;
use crate::domain::refusal::ErrorCode;
use crate::graphql::asker::{Asker, SessionCookie};
use crate::service::error::Error;
use crate::service::{Caller, Request, Service};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Admits by the sessions of the store.
#[derive(Clone)]
pub struct SessionGate {
    service: Arc<Service>,
    front: Arc<Front>,
}

/// Who sent a request, and whether the way the credentials came allows changes.
pub struct Sender {
    pub caller: Option<Arc<Caller>>,
    pub request: Request,
    pub may_change: bool,
}

impl SessionGate {
    pub fn new(service: Arc<Service>, front: Arc<Front>) -> Self {
        Self { service, front }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Finds out who sent a request.
    pub async fn identify(&self, parts: &Parts) -> Result<Sender, Refusal> {
        let request = self.request(parts);
        if parts.headers.contains_key(AUTHORIZATION) {
            let named = single(&parts.headers, AUTHORIZATION).and_then(|value| self.read_bearer(value));
            let caller = self.find_caller(named, request).await?.ok_or_else(bad_token)?;
            return Ok(Sender { caller: Some(Arc::new(caller)), request, may_change: true });
        }
        let Some(token) = cookie_token(&parts.headers, self.front.cookie(parts)) else {
            return Ok(Sender { caller: None, request, may_change: true });
        };
        let may_change = match self.front.origin_of(parts) {
            RequestOrigin::Own => true,
            RequestOrigin::Unsaid => {
                if !matches!(single(&parts.headers, SEC_FETCH_SITE), Some("same-origin" | "none")) {
                    return Ok(Sender { caller: None, request, may_change: false });
                }
                false
            }
            RequestOrigin::Allowed | RequestOrigin::Foreign => return Err(foreign()),
        };
        let caller = self.find_caller(self.service.tokens().read(token), request).await?;
        Ok(Sender { caller: caller.map(Arc::new), request, may_change })
    }

    /// The request's id and address, as the middleware that names requests found them.
    fn request(&self, parts: &Parts) -> Request {
        match parts.extensions.get::<Request>() {
            Some(request) => *request,
            None => self.service.request(self.front.client_address(parts)),
        }
    }

    fn read_bearer(&self, authorization: &str) -> Option<SessionRef> {
        let (scheme, token) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return None;
        }
        self.service.tokens().read(token.trim())
    }

    async fn find_caller(&self, named: Option<SessionRef>, request: Request) -> Result<Option<Caller>, Refusal> {
        match named {
            None => Ok(None),
            Some(named) => self.service.find_caller(named).await.map_err(|error| failure(&error, request)),
        }
    }
}

impl Gate for SessionGate {
    async fn admit(&self, parts: &Parts) -> Result<Admission, Refusal> {
        let sender = self.identify(parts).await?;
        let cookie = self.front.cookie(parts);
        let Sender { caller, request, may_change } = sender;
        Ok(Admission::new(caller.is_some(), move |operation| {
            operation.data(Asker::known(request, cookie, may_change, caller.clone()))
        }))
    }

    async fn admit_upgrade(&self, parts: &Parts) -> Result<(), Refusal> {
        match self.front.origin_of(parts) {
            RequestOrigin::Foreign => Err(foreign()),
            RequestOrigin::Own | RequestOrigin::Allowed | RequestOrigin::Unsaid => Ok(()),
        }
    }

    async fn admit_socket(
        &self,
        parts: &Parts,
        payload: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<SocketAdmission, Refusal> {
        let request = self.request(parts);
        let cookie = self.front.cookie(parts);
        // Some clients spell it as the header is spelt.
        let authorization = payload.get("authorization").or_else(|| payload.get("Authorization"));
        let named = match authorization {
            Some(authorization) => authorization.as_str().and_then(|value| self.read_bearer(value)),
            // An allowed origin may use tokens, never the cookie.
            None if self.front.origin_of(parts) == RequestOrigin::Allowed => None,
            None => cookie_token(&parts.headers, cookie).and_then(|token| self.service.tokens().read(token)),
        };
        let (Some(named), Some(caller)) = (named, self.find_caller(named, request).await?) else {
            return Err(bad_token());
        };
        let (service, address): (_, Option<IpAddr>) = (Arc::clone(&self.service), request.source_address);
        let admission = Admission::new(true, move |operation| {
            operation.data(Asker::named(service.request(address), cookie, named))
        });
        let ended = self.service.session_ended(&caller).boxed();
        Ok(SocketAdmission { admission, ended })
    }
}

/// The token in the session's cookie.
fn cookie_token(headers: &HeaderMap, cookie: SessionCookie) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == cookie.name() && !value.is_empty()).then_some(value))
}

fn bad_token() -> Refusal {
    let message = "The token is not good, or its session has ended. Sign in again.";
    Refusal::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated.as_str(), message)
}

fn foreign() -> Refusal {
    let message = "Requests that rely on the cookie must come from the console's own origin: behind a proxy, the one that \
                   --public-origin names, or that the Host header does.";
    Refusal::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden.as_str(), message)
}

/// What could not be found out, as an answer. The cause goes to the log.
pub fn failure(error: &Error, request: Request) -> Refusal {
    if let Some(cause) = error.source() {
        tracing::error!(request = %request.id, code = error.code().as_str(), %cause, "a request failed");
    }
    let status = match error.code() {
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let refusal = Refusal::new(status, error.code().as_str(), error.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE { refusal.retry_after(1) } else { refusal }
}
