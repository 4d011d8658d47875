//! The signed-in operator.

use async_graphql::{ID, SimpleObject};

use super::DateTime;
use crate::service::Caller;

/// The signed-in operator and their session.
#[derive(SimpleObject)]
pub(crate) struct Viewer {
    /// Globally unique id of the operator.
    id: ID,
    /// Name that the operator signs in with.
    username: String,
    /// Id of the tenant that the operator belongs to.
    tenant_id: ID,
    /// Permission codes that the operator holds, such as `api_key_management:view`. No code implies another. Use them
    /// to decide which controls to show; the server checks them on every request.
    permissions: Vec<String>,
    /// Whether the operator still has the password that Keymark generated at its first start. Have them choose another one
    /// (`changePassword`) before they do anything else: this one expires 24 hours after it was generated.
    must_change_password: bool,
    /// Time at which the session expires, unless it ends before.
    session_expires_at: DateTime,
}

impl From<&Caller> for Viewer {
    fn from(caller: &Caller) -> Self {
        Self {
            id: caller.operator.id.to_string().into(),
            username: caller.operator.username.to_string(),
            tenant_id: caller.operator.tenant.to_string().into(),
            permissions: caller.operator.permissions.codes(),
            must_change_password: caller.operator.must_change_password(),
            session_expires_at: DateTime(caller.session.expires_at),
        }
    }
}
