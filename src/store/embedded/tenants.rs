//! Look-ups and lists of the rows of tenants.

use async_trait::async_trait;
use redb::ReadableTable;

use super::errors::storage;
use super::store::EmbeddedStore;
use super::tables::{TENANTS, decode};
use crate::domain::ids::TenantId;
use crate::domain::tenants::Tenant;
use crate::store::errors::skip_unreadable;
use crate::store::{Result, TenantStore};

#[async_trait]
impl TenantStore for EmbeddedStore {
    async fn find_tenant(&self, id: &TenantId) -> Result<Option<Tenant>> {
        self.read(|snapshot| snapshot.get(TENANTS, id.as_str()))
    }

    async fn find_tenant_to_change(&self, id: &TenantId) -> Result<Option<Tenant>> {
        self.find_tenant(id).await
    }

    async fn list_all_tenants(&self) -> Result<Vec<Tenant>> {
        let list = |snapshot: &super::snapshot::Snapshot| {
            let tenants = snapshot.0.open_table(TENANTS).map_err(storage)?;
            let rows = tenants.iter().map_err(storage)?;
            let read = |row: Result<_, redb::StorageError>| {
                let row: (_, redb::AccessGuard<'_, &[u8]>) = row.map_err(storage)?;
                skip_unreadable(decode(row.1.value()))
            };
            rows.filter_map(|row| read(row).transpose()).collect()
        };
        self.read_blocking(list).await
    }
}
