//! Who asks, as resolvers see it: the data of one operation.

use std::sync::Arc;

use async_graphql::{Context, Result};
use tokio::sync::OnceCell;

use super::error::{from_service, refuse};
use crate::auth::tokens::SessionRef;
use crate::domain::operators::Operator;
use crate::domain::refusal::Refusal;
use crate::service::error::Error;
use crate::service::{Caller, Request, Service};

/// The name of the cookie that carries a session's token, and whether browsers send it over TLS alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    pub secure: bool,
}

impl SessionCookie {
    /// A `__Host-` cookie is bound to its host by the browser (RFC 6265bis, section 4.1.3.2).
    pub fn name(self) -> &'static str {
        if self.secure { "__Host-keymark-session" } else { "keymark-session" }
    }

    /// The `Set-Cookie` that gives a browser the token for so many seconds.
    pub fn set(self, token: &str, max_age_seconds: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={token}; Path=/; Max-Age={max_age_seconds}; HttpOnly; SameSite=Strict{secure}", self.name())
    }

    /// The `Set-Cookie` that takes it away.
    pub fn clear(self) -> String {
        self.set("", 0)
    }
}

/// Who asks for one operation, and how.
pub struct Asker {
    pub request: Request,
    pub cookie: SessionCookie,
    /// Whether the way that the credentials came allows changes: a cookie does only from our own origin.
    pub may_change: bool,
    named: Option<SessionRef>,
    caller: OnceCell<Option<Arc<Caller>>>,
}

impl Asker {
    /// Whoever the caller was found to be when the request was admitted.
    pub fn known(request: Request, cookie: SessionCookie, may_change: bool, caller: Option<Arc<Caller>>) -> Self {
        Self { request, cookie, may_change, named: None, caller: OnceCell::new_with(Some(caller)) }
    }

    /// Whoever the session stands for when the operation asks: a socket outlives what was true when it opened.
    pub fn named(request: Request, cookie: SessionCookie, named: SessionRef) -> Self {
        Self { request, cookie, may_change: true, named: Some(named), caller: OnceCell::new() }
    }

    /// The signed-in operator, if anybody is.
    pub async fn find_caller(&self, service: &Service) -> Result<Option<&Arc<Caller>>, Error> {
        let find = async || match self.named {
            Some(named) => service.find_caller(named).await.map(|caller| caller.map(Arc::new)),
            None => Ok(None),
        };
        Ok(self.caller.get_or_try_init(find).await?.as_ref())
    }
}

/// What nearly every resolver needs.
pub struct Call<'a> {
    pub service: &'a Arc<Service>,
    pub request: Request,
    pub caller: &'a Arc<Caller>,
}

impl<'a> Call<'a> {
    /// The call of a signed-in operator; `UNAUTHENTICATED` for anybody else.
    pub async fn of(ctx: &Context<'a>) -> Result<Self> {
        let (service, asker) = (ctx.data_unchecked::<Arc<Service>>(), ctx.data_unchecked::<Asker>());
        let caller = asker.find_caller(service).await.map_err(|error| from_service(error, asker.request))?;
        let caller = caller.ok_or_else(|| refuse(&Refusal::Unauthenticated))?;
        Ok(Self { service, request: asker.request, caller })
    }

    pub fn operator(&self) -> &'a Operator {
        &self.caller.operator
    }

    /// Shows what the service answered.
    pub fn shown<T>(&self, outcome: Result<T, Error>) -> Result<T> {
        outcome.map_err(|error| from_service(error, self.request))
    }
}
