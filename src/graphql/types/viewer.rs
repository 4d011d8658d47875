//! The signed-in operator.

use async_graphql::{ID, SimpleObject};

use super::DateTime;
use crate::service::Caller;

/// The operator who asks.
#[derive(SimpleObject)]
pub(crate) struct Viewer {
    /// Names the operator.
    id: ID,
    /// What the operator signs in with.
    username: String,
    /// The tenant that the operator belongs to.
    tenant_id: ID,
    /// The permission codes that the operator holds.
    permissions: Vec<String>,
    /// When the session ends, unless it is ended before.
    session_expires_at: DateTime,
}

impl From<&Caller> for Viewer {
    fn from(caller: &Caller) -> Self {
        Self {
            id: caller.operator.id.to_string().into(),
            username: caller.operator.username.to_string(),
            tenant_id: caller.operator.tenant.to_string().into(),
            permissions: caller.operator.permissions.codes(),
            session_expires_at: DateTime(caller.session.expires_at),
        }
    }
}
