//! Tenants.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};

use super::connection::PageInfo;
use super::payloads::Enforcement;
use super::read_together::ReadTogether;
use super::{DateTime, Paging, int};
use crate::domain::cursors;
use crate::domain::ids::TenantId;
use crate::domain::permissions::Permission;
use crate::domain::system_names::Search;
use crate::domain::tenants;
use crate::graphql::context::Authenticated;
use crate::graphql::error::refuse;
use crate::service;

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
    #[graphql(skip)]
    counts: Arc<SystemCounts>,
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
        let tenants = self.counts.items();
        let read = async {
            let counts = call.service.count_systems_of(call.caller, tenants).await?;
            Ok(tenants.iter().cloned().zip(counts).collect())
        };
        Ok(int(self.counts.find(&call, &self.tenant, read).await?.copied().unwrap_or(0)))
    }
}

impl From<&tenants::Tenant> for Tenant {
    fn from(tenant: &tenants::Tenant) -> Self {
        Self::new(tenant, Arc::new(SystemCounts::of([tenant.id.clone()])))
    }
}

impl Tenant {
    pub(super) fn new(tenant: &tenants::Tenant, counts: Arc<SystemCounts>) -> Self {
        Self {
            id: tenant.id.as_str().into(),
            name: tenant.name.to_string(),
            created_at: DateTime(tenant.created_at),
            suspended_at: tenant.suspended_at().map(DateTime),
            policy: tenant.policy.into(),
            tenant: tenant.id.clone(),
            counts,
        }
    }
}

/// The numbers of systems of tenants.
pub(super) type SystemCounts = ReadTogether<TenantId, u64>;

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

/// A page of tenants, ordered by id.
#[derive(SimpleObject)]
pub(crate) struct TenantConnection {
    /// Tenants of the page, with their cursors.
    edges: Vec<TenantEdge>,
    /// Tenants of the page, without their cursors.
    nodes: Vec<Tenant>,
    /// Cursors of the page's ends, and whether there are further pages.
    page_info: PageInfo,
    /// Number of tenants that match the search, on all pages.
    total_count: i32,
}

/// A tenant and its cursor.
#[derive(SimpleObject)]
struct TenantEdge {
    /// Cursor of this edge. Pass it as `after` or `before`.
    cursor: String,
    /// The tenant.
    node: Tenant,
}

impl TenantConnection {
    pub(crate) async fn load(call: &Authenticated<'_>, search: &Search, paging: Paging) -> Result<Self> {
        let keys = call.service.keyring();
        let request = paging.request(|cursor| cursors::decode_tenant(keys, cursor))?;
        let (page, total) = call.convert(call.service.list_tenants(call.caller, search, &request).await)?;
        let cursor = |tenant: &Arc<tenants::Tenant>| cursors::encode_tenant(keys, &tenant.id);
        let counts = Arc::new(SystemCounts::of(page.items.iter().map(|tenant| tenant.id.clone())));
        let node = |tenant: &Arc<tenants::Tenant>| Tenant::new(tenant, Arc::clone(&counts));
        let edge = |tenant| TenantEdge { cursor: cursor(tenant), node: node(tenant) };
        Ok(Self {
            edges: page.items.iter().map(edge).collect(),
            nodes: page.items.iter().map(node).collect(),
            page_info: PageInfo::of(&page, &request, cursor),
            total_count: int(total),
        })
    }
}

/// Result of `createTenant`, `renameTenant`, `setTenantPolicy`, `suspendTenant` and `resumeTenant`.
#[derive(SimpleObject)]
pub(crate) struct TenantPayload {
    /// The tenant after the change.
    tenant: Tenant,
    /// Whether every instance keeps to the change already.
    enforcement: Enforcement,
}

impl TenantPayload {
    pub(crate) fn new((tenant, enforcement): (tenants::Tenant, service::Enforcement)) -> Self {
        Self { tenant: Tenant::from(&tenant), enforcement: enforcement.into() }
    }
}

/// Result of `deleteTenant`.
#[derive(SimpleObject)]
pub(crate) struct DeleteTenantPayload {
    /// Id of the deleted tenant.
    pub deleted_tenant_id: ID,
}
