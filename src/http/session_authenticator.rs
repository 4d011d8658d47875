//! Authentication by sessions: finds the caller of a bearer token, or of the console's cookie.
//!
//! Browsers send the cookie with every request, whichever page caused it. So a request that relies on it must prove
//! that it comes from our own pages; a bearer token proves that by being there.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use http::StatusCode;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, USER_AGENT};
use http::request::Parts;

use super::authenticator::{Authenticator, SocketSession};
use super::connection_init::{SocketCookie, describe_problem};
use super::error::ErrorResponse;
use super::front::{Front, RequestOrigin, bearer, single};
use crate::domain::refusal::ErrorCode;
use crate::domain::sessions::MAX_USER_AGENT_BYTES;
use crate::domain::tokens::looks_like_service_token;
use crate::graphql::answers::Reader;
use crate::graphql::context::{RequestContext, SessionCookie};
use crate::graphql::engine::OperationContext;
use crate::service::callers::{CallerRef, Credentials, RequestedTenant};
use crate::service::error::Error;
use crate::service::{Caller, Request, Service};

/// Cookies of devices that are read. A browser that belongs to more operators is known to some of them.
const MAX_DEVICE_COOKIES: usize = 32;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The id of the tenant that a caller of the platform acts in.
pub const TENANT: HeaderName = HeaderName::from_static("x-keymark-tenant");

/// Authenticates by the sessions in the store.
#[derive(Clone)]
pub struct SessionAuthenticator {
    service: Arc<Service>,
    front: Arc<Front>,
}

impl SessionAuthenticator {
    pub fn new(service: Arc<Service>, front: Arc<Front>) -> Self {
        Self { service, front }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Authenticates a request about the tenant in its header. A bad bearer token is refused; a request with a stale
    /// cookie has no caller.
    pub async fn identify(&self, parts: &Parts) -> Result<RequestContext, ErrorResponse> {
        self.identify_in(parts, tenant_of(&parts.headers)).await
    }

    /// Authenticates a request about a tenant.
    pub async fn identify_in(&self, parts: &Parts, tenant: RequestedTenant) -> Result<RequestContext, ErrorResponse> {
        let (request, cookie) = (self.request(parts), self.front.cookie(parts));
        let context = |caller: Option<Caller>, allows_changes| {
            let context = RequestContext::new(request, cookie, allows_changes, caller.map(Arc::new));
            let has_session_cookie = !parts.headers.contains_key(AUTHORIZATION);
            let user_agent = user_agent(&parts.headers);
            context.with_cookies(device_cookies(&parts.headers, cookie), has_session_cookie).with_user_agent(user_agent)
        };
        if parts.headers.contains_key(AUTHORIZATION) {
            let credentials = match single(&parts.headers, AUTHORIZATION) {
                Some(value) => self.read_bearer(value, request).await?,
                None => None,
            };
            let caller = self.find_caller(credentials, tenant, request).await?.ok_or_else(bad_token)?;
            return Ok(context(Some(caller), true));
        }
        let Some(token) = cookie_token(&parts.headers, cookie) else {
            return Ok(context(None, true));
        };
        let allows_changes = match self.front.origin_of(parts) {
            RequestOrigin::Own => true,
            RequestOrigin::Absent => {
                if !matches!(single(&parts.headers, SEC_FETCH_SITE), Some("same-origin" | "none")) {
                    return Ok(context(None, false));
                }
                false
            }
            RequestOrigin::Allowed | RequestOrigin::Foreign => return Err(self.foreign_origin(parts, true)),
        };
        let credentials = self.service.tokens().read(token).map(Credentials::Session);
        let caller = match self.find_caller(credentials, tenant, request).await {
            // Like a session that has ended: signing in again says why.
            Err(refused) if refused.code == ErrorCode::TenantSuspended.as_str() => None,
            found => found?,
        };
        Ok(context(caller, allows_changes))
    }

    /// The request's id and address, as the middleware has set them.
    fn request(&self, parts: &Parts) -> Request {
        match parts.extensions.get::<Request>() {
            Some(request) => *request,
            None => self.service.request(self.front.client_address(parts)),
        }
    }

    async fn read_bearer(&self, authorization: &str, request: Request) -> Result<Option<Credentials>, ErrorResponse> {
        match bearer(authorization) {
            None => Ok(None),
            Some(token) if looks_like_service_token(token) => {
                let read = self.service.read_service_token(token, request).await;
                read.map_err(|error| service_error(&error, request))
            }
            Some(token) => Ok(self.service.tokens().read(token).map(Credentials::Session)),
        }
    }

    async fn find_caller(
        &self,
        credentials: Option<Credentials>,
        tenant: RequestedTenant,
        request: Request,
    ) -> Result<Option<Caller>, ErrorResponse> {
        match credentials {
            None => Ok(None),
            Some(credentials) => {
                let found = self.service.find_caller(&CallerRef { credentials, tenant }).await;
                found.map_err(|error| service_error(&error, request))
            }
        }
    }

    fn foreign_origin(&self, parts: &Parts, has_cookie: bool) -> ErrorResponse {
        let message = self.front.describe_foreign_origin(parts, has_cookie);
        ErrorResponse::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden.as_str(), message)
    }
}

impl Authenticator for SessionAuthenticator {
    async fn authenticate(&self, parts: &Parts) -> Result<OperationContext, ErrorResponse> {
        let context = self.identify(parts).await?;
        let caller = context.caller().cloned();
        let context = OperationContext::new(caller.is_some(), move |operation| operation.data(context.clone()));
        Ok(context.with_reader(caller.map(|caller| Reader { service: Arc::clone(&self.service), caller })))
    }

    async fn check_upgrade(&self, parts: &Parts) -> Result<(), ErrorResponse> {
        match self.front.origin_of(parts) {
            RequestOrigin::Foreign => {
                let has_cookie = cookie_token(&parts.headers, self.front.cookie(parts)).is_some();
                Err(self.foreign_origin(parts, has_cookie))
            }
            RequestOrigin::Own | RequestOrigin::Allowed | RequestOrigin::Absent => Ok(()),
        }
    }

    async fn authenticate_socket(
        &self,
        parts: &Parts,
        payload: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<SocketSession, ErrorResponse> {
        let request = self.request(parts);
        let cookie = self.front.cookie(parts);
        // Some clients spell it as the header is spelt.
        let authorization = payload.get("authorization").or_else(|| payload.get("Authorization"));
        let tenant = match payload.get("tenant") {
            None | Some(serde_json::Value::Null) => tenant_of(&parts.headers),
            Some(tenant) => RequestedTenant::parse(tenant.as_str()),
        };
        let credentials = match authorization {
            Some(authorization) => match authorization.as_str() {
                Some(value) => self.read_bearer(value, request).await?,
                None => None,
            },
            // An allowed origin may use tokens, never the cookie.
            None if self.front.origin_of(parts) == RequestOrigin::Allowed => None,
            None => {
                let session = cookie_token(&parts.headers, cookie).and_then(|token| self.service.tokens().read(token));
                session.map(Credentials::Session)
            }
        };
        let Some(caller) = self.find_caller(credentials, tenant, request).await? else {
            let cookie = match cookie_token(&parts.headers, cookie) {
                None => SocketCookie::Absent,
                Some(_) if self.front.origin_of(parts) == RequestOrigin::Allowed => SocketCookie::NotAllowed,
                Some(_) => SocketCookie::Used,
            };
            return Err(describe_problem(payload, cookie).map_or_else(bad_token, unauthenticated));
        };
        let reference = caller.reference();
        let slot = self.service.open_socket(&caller).map_err(|refusal| service_error(&refusal.into(), request))?;
        let (service, address): (_, Option<IpAddr>) = (Arc::clone(&self.service), request.source_address);
        let context = OperationContext::new(true, move |operation| {
            operation.data(RequestContext::for_socket(service.request(address), cookie, reference.clone()))
        });
        let is_checked = Arc::default();
        let ended = self.service.session_ended(&caller, Arc::clone(&is_checked)).boxed();
        Ok(SocketSession { context, ended, is_checked, slot: Some(slot) })
    }
}

/// Names and values of all cookies.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// The token in the session's cookie.
fn cookie_token(headers: &HeaderMap, cookie: SessionCookie) -> Option<&str> {
    cookies(headers).find_map(|(name, value)| (name == cookie.name() && !value.is_empty()).then_some(value))
}

/// The values of the cookies of devices: one for each operator who has signed in from the browser.
fn device_cookies(headers: &HeaderMap, cookie: SessionCookie) -> Vec<String> {
    let devices = cookies(headers).filter(|(name, _)| name.starts_with(cookie.device_prefix()));
    devices.map(|(_, value)| value.to_owned()).take(MAX_DEVICE_COOKIES).collect()
}

/// The tenant in the header of the request.
pub fn tenant_of(headers: &HeaderMap) -> RequestedTenant {
    if headers.contains_key(TENANT) { RequestedTenant::parse(single(headers, TENANT)) } else { RequestedTenant::Home }
}

/// The first [`MAX_USER_AGENT_BYTES`] of the header, if it is printable ASCII.
fn user_agent(headers: &HeaderMap) -> Option<Box<str>> {
    let text = single(headers, USER_AGENT)?;
    Some(text[..text.len().min(MAX_USER_AGENT_BYTES)].into())
}

fn bad_token() -> ErrorResponse {
    unauthenticated("The token is invalid, or its session has ended. Sign in again.")
}

fn unauthenticated(message: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated.as_str(), message)
}

/// The response to an error of the service. Its cause goes to the log.
pub fn service_error(error: &Error, request: Request) -> ErrorResponse {
    if let Some(cause) = error.source() {
        tracing::error!(request = %request.id, code = error.code().as_str(), %cause, "request failed");
    }
    let status = match error.code() {
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden | ErrorCode::TenantSuspended => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let response = ErrorResponse::new(status, error.code().as_str(), error.to_string());
    let retry_after_seconds = match error {
        Error::Refused(refusal) => refusal.retry_after_seconds(),
        _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
    };
    ErrorResponse { retry_after_seconds, ..response }
}
