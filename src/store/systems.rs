//! Systems of a tenant.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{Page, PageRequest, Result};
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};

/// What became of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemState {
    Present(System),
    /// The audit log has its deletion.
    Deleted,
    /// The tenant never had it.
    Unknown,
}

#[async_trait]
pub trait SystemStore {
    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>>;

    /// Looks a system up for a refusal that a client may take as proof, such as that a key is revoked already.
    ///
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn recheck_system(&self, tenant: &TenantId, id: SystemId) -> Result<SystemState>;

    /// Returns the tenant's systems with these ids, in no particular order. Ids that are not the tenant's are skipped.
    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>>;

    /// Returns the tenant's system with this external id.
    async fn find_system_by_external_id(&self, tenant: &TenantId, external_id: &ExternalId) -> Result<Option<System>>;

    /// Returns the tenant's systems whose folded name, description or external id matches, in the requested order; ids break ties, in
    /// the same direction.
    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>>;

    /// Returns the number of the tenant's systems whose folded name, description or external id matches.
    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64>;

    /// Returns the number of systems of each tenant that has any.
    async fn count_systems_by_tenant(&self) -> Result<HashMap<TenantId, u64>>;
}
