//! The caller.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};

use super::{DateTime, Session, Tenant};
use crate::domain::ids::TenantId;
use crate::domain::operators::Operator;
use crate::domain::sessions::SessionId;
use crate::domain::time::Timestamp;
use crate::graphql::context::RequestContext;
use crate::graphql::error::from_service;
use crate::service::{Caller, Service};

/// The signed-in operator and their session, or the service token.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Viewer {
    /// Globally unique id of the operator or service token.
    id: ID,
    /// Name that the operator signs in with, or name of the service token.
    username: String,
    /// Id of the tenant that the operator or service token belongs to.
    tenant_id: ID,
    /// Permission codes that the operator holds, such as `api_key_management:view`. No code implies another. Use them
    /// to decide which controls to show; the server checks them on every request.
    permissions: Vec<String>,
    /// Whether the operator still has a generated password: of the first start, or from an administrator. Have them choose
    /// another one (`changePassword`) before they do anything else: this one expires 24 hours after it was generated.
    must_change_password: bool,
    /// Whether the operator is of the platform, and may act in every tenant.
    is_platform: bool,
    /// Time at which the session expires, unless it ends before. Of a service token without an expiry: the end of the year
    /// 9999.
    session_expires_at: DateTime,
    #[graphql(skip)]
    home: TenantId,
    /// `None` for a service token.
    #[graphql(skip)]
    signed_in: Option<(Arc<Operator>, SessionId)>,
}

#[ComplexObject]
impl Viewer {
    /// The tenant that the operator or service token belongs to. Null if it was deleted.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Tenant>> {
        let service = ctx.data_unchecked::<Arc<Service>>();
        let request = ctx.data_unchecked::<RequestContext>().request;
        let found = service.find_tenant(&self.home).await.map_err(|error| from_service(error, request))?;
        Ok(found.as_deref().map(Tenant::from))
    }

    /// Where the operator is signed in, newest first. At most 100. Empty for a service token.
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<Session>> {
        let Some((operator, current)) = &self.signed_in else { return Ok(Vec::new()) };
        let service = ctx.data_unchecked::<Arc<Service>>();
        let request = ctx.data_unchecked::<RequestContext>().request;
        let open = service.list_open_sessions(operator).await.map_err(|error| from_service(error, request))?;
        Ok(open.into_iter().map(|open| Session::new(open, Some(*current))).collect())
    }
}

/// 9999-12-31T23:59:59.999Z.
const NEVER: Timestamp = Timestamp::from_millis(253_402_300_799_999);

impl From<&Caller> for Viewer {
    fn from(caller: &Caller) -> Self {
        Self {
            id: caller.id().to_string().into(),
            username: caller.actor().name,
            tenant_id: caller.home().to_string().into(),
            permissions: caller.permissions().codes(),
            must_change_password: caller.must_change_password(),
            is_platform: caller.is_platform(),
            session_expires_at: DateTime(caller.expires_at().unwrap_or(NEVER)),
            home: caller.home().clone(),
            signed_in: caller.signed_in().ok().map(|(operator, session)| (Arc::clone(operator), session.id)),
        }
    }
}
