//! Tenants.

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};

use super::{DateTime, int};
use crate::domain::ids::TenantId;
use crate::domain::permissions::Permission;
use crate::domain::tenants;
use crate::graphql::context::Authenticated;
use crate::graphql::error::refuse;

/// A customer of the platform, with its own systems, operators, tokens and audit log.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Tenant {
    /// Globally unique id, chosen when the tenant was created: the value of the `X-Keymark-Tenant` header.
    pub id: ID,
    /// Display name. Need not be unique.
    name: String,
    /// Time at which the tenant was created.
    created_at: DateTime,
    /// Time at which the tenant was suspended. Null if it is not.
    suspended_at: Option<DateTime>,
    /// Rules for the tenant's keys and sessions.
    policy: TenantPolicy,
    #[graphql(skip)]
    tenant: TenantId,
}

#[ComplexObject]
impl Tenant {
    /// Number of systems of the tenant. Counted only if selected. Requires one of `api_key_management:view`,
    /// `tenant_management:view` and `tenant_management:edit`.
    async fn system_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let call = Authenticated::new(ctx).await?;
        let permissions = call.caller.permissions();
        if !permissions.contains(Permission::ViewTenants) && !permissions.contains(Permission::EditTenants) {
            call.caller.check(Permission::View).map_err(|refusal| refuse(&refusal))?;
        }
        Ok(int(call.convert(call.service.count_systems_of(&self.tenant).await)?))
    }
}

impl From<&tenants::Tenant> for Tenant {
    fn from(tenant: &tenants::Tenant) -> Self {
        Self {
            id: tenant.id.as_str().into(),
            name: tenant.name.to_string(),
            created_at: DateTime(tenant.created_at),
            suspended_at: tenant.suspended_at().map(DateTime),
            policy: tenant.policy.into(),
            tenant: tenant.id.clone(),
        }
    }
}

/// Rules for the keys and sessions of a tenant.
#[derive(SimpleObject)]
pub(super) struct TenantPolicy {
    /// The longest life of a new key, in days. Null: any, also without an end.
    max_key_lifetime_days: Option<u32>,
    /// The longest time that a session may be idle, in minutes. Null: the setting of the server.
    session_idle_minutes: Option<u32>,
}

impl From<tenants::TenantPolicy> for TenantPolicy {
    fn from(policy: tenants::TenantPolicy) -> Self {
        let tenants::TenantPolicy { max_key_lifetime_days, session_idle_minutes } = policy;
        Self { max_key_lifetime_days, session_idle_minutes }
    }
}
