//! Rows of tenants.

use async_trait::async_trait;

use super::Result;
use crate::domain::ids::TenantId;
use crate::domain::tenants::Tenant;

#[async_trait]
pub trait TenantStore {
    /// Returns the row of a tenant, if it has one.
    ///
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn find_tenant(&self, id: &TenantId) -> Result<Option<Tenant>>;

    /// As strong as [`find_tenant`](Self::find_tenant), for one change rather than for every request.
    async fn find_tenant_to_change(&self, id: &TenantId) -> Result<Option<Tenant>>;

    /// Returns the rows of all tenants, ordered by id.
    async fn list_all_tenants(&self) -> Result<Vec<Tenant>>;
}
