//! The context of a request, as resolvers read it.

use std::sync::Arc;

use async_graphql::{Context, Result};
use tokio::sync::OnceCell;

use super::error::{from_service, refuse};
use crate::auth::devices::DeviceCookie;
use crate::domain::operators::Operator;
use crate::domain::refusal::Refusal;
use crate::service::callers::CallerRef;
use crate::service::error::Error;
use crate::service::{Caller, Request, Service};

/// 400 days, the longest that browsers keep a cookie (RFC 6265bis, section 5.5).
const DEVICE_MAX_AGE_SECONDS: u64 = 400 * 24 * 60 * 60;

/// The cookie that carries a session's token, and those of devices. If `secure`, browsers send them over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    pub secure: bool,
}

impl SessionCookie {
    /// Browsers bind a `__Host-` cookie to its host (RFC 6265bis, section 4.1.3.2).
    pub fn name(self) -> &'static str {
        if self.secure { "__Host-keymark-session" } else { "keymark-session" }
    }

    /// The `Set-Cookie` header that stores the token for `max_age_seconds`.
    pub fn set(self, token: &str, max_age_seconds: u64) -> String {
        self.header(self.name(), token, max_age_seconds)
    }

    /// What the names of all cookies of devices begin with.
    pub fn device_prefix(self) -> &'static str {
        if self.secure { "__Host-keymark-device-" } else { "keymark-device-" }
    }

    /// The `Set-Cookie` header that stores the cookie of a device.
    pub fn set_device(self, device: &DeviceCookie) -> String {
        let name = format!("{}{}", self.device_prefix(), device.suffix);
        self.header(&name, &device.value, DEVICE_MAX_AGE_SECONDS)
    }

    fn header(self, name: &str, value: &str, max_age_seconds: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; Max-Age={max_age_seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    /// The `Set-Cookie` header that deletes the cookie.
    pub fn clear(self) -> String {
        self.set("", 0)
    }
}

/// A request, and who sent it.
#[derive(Clone)]
pub struct RequestContext {
    pub request: Request,
    pub cookie: SessionCookie,
    /// Whether the request may change anything: one with the cookie may only if it comes from our own origin.
    pub allows_changes: bool,
    /// The cookies of devices, as they were sent.
    pub devices: Vec<String>,
    /// Whether the caller was found by the session's cookie.
    pub has_session_cookie: bool,
    /// The `User-Agent` of the client.
    pub user_agent: Option<Box<str>>,
    reference: Option<CallerRef>,
    caller: OnceCell<Option<Arc<Caller>>>,
    /// The caller, as of the begin of each root field. The last one counts.
    refreshed: boxcar::Vec<Arc<Caller>>,
}

impl RequestContext {
    /// A request whose caller is known.
    pub fn new(request: Request, cookie: SessionCookie, allows_changes: bool, caller: Option<Arc<Caller>>) -> Self {
        Self {
            request,
            cookie,
            allows_changes,
            devices: Vec::new(),
            has_session_cookie: false,
            user_agent: None,
            reference: None,
            caller: OnceCell::new_with(Some(caller)),
            refreshed: boxcar::Vec::new(),
        }
    }

    /// Adds the cookies of devices, and whether the caller was found by the session's cookie.
    #[must_use]
    pub fn with_cookies(self, devices: Vec<String>, has_session_cookie: bool) -> Self {
        Self { devices, has_session_cookie, ..self }
    }

    #[must_use]
    pub fn with_user_agent(self, user_agent: Option<Box<str>>) -> Self {
        Self { user_agent, ..self }
    }

    /// An operation on a WebSocket. The caller is looked up when the operation is executed, since a socket outlives
    /// what was true when it was opened.
    pub fn for_socket(request: Request, cookie: SessionCookie, reference: CallerRef) -> Self {
        Self {
            request,
            cookie,
            allows_changes: true,
            devices: Vec::new(),
            has_session_cookie: false,
            user_agent: None,
            reference: Some(reference),
            caller: OnceCell::new(),
            refreshed: boxcar::Vec::new(),
        }
    }

    /// The caller, if known already.
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.caller.get()?.as_ref()
    }

    /// The signed-in operator; `None` without valid credentials.
    pub async fn find_caller(&self, service: &Service) -> Result<Option<&Arc<Caller>>, Error> {
        let find = async || match &self.reference {
            Some(reference) => service.find_caller(reference).await.map(|caller| caller.map(Arc::new)),
            None => Ok(None),
        };
        let found = self.caller.get_or_try_init(find).await?.as_ref();
        let refreshed = || (0..self.refreshed.count()).rev().find_map(|number| self.refreshed.get(number));
        Ok(found.map(|caller| refreshed().unwrap_or(caller)))
    }

    /// Finds the caller again when a root field begins: the body of the request may have arrived long after its head, and
    /// each mutation of a document waits until it is enforced.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` if the session or token has ended.
    pub(super) async fn refresh_caller(&self, service: &Service) -> Result<(), Error> {
        if let Some(caller) = self.find_caller(service).await? {
            self.refreshed.push(Arc::new(service.refresh_caller(caller).await?));
        }
        Ok(())
    }
}

/// A request with an authenticated caller: what nearly every resolver needs.
pub struct Authenticated<'a> {
    pub service: &'a Arc<Service>,
    pub request: Request,
    pub caller: &'a Arc<Caller>,
}

impl<'a> Authenticated<'a> {
    /// # Errors
    ///
    /// `UNAUTHENTICATED` without valid credentials.
    pub async fn new(ctx: &Context<'a>) -> Result<Self> {
        let (service, context) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<RequestContext>());
        let caller = context.find_caller(service).await.map_err(|error| from_service(error, context.request))?;
        let caller = caller.ok_or_else(|| refuse(&Refusal::Unauthenticated))?;
        Ok(Self { service, request: context.request, caller })
    }

    /// The signed-in operator.
    ///
    /// # Errors
    ///
    /// `FORBIDDEN` for a service token.
    pub fn signed_in(&self) -> Result<&'a Operator> {
        let (operator, _) = self.caller.signed_in().map_err(|refusal| refuse(&refusal))?;
        Ok(operator)
    }

    /// Converts an error of the service.
    pub fn convert<T>(&self, outcome: Result<T, Error>) -> Result<T> {
        outcome.map_err(|error| from_service(error, self.request))
    }
}
