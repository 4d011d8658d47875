//! The audit log of each tenant.

use async_trait::async_trait;

use super::{Page, PageRequest, Result};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::ids::{AuditEntryId, TenantId};

#[async_trait]
pub trait AuditStore {
    /// Returns every tenant that has an audit entry, ordered by id.
    async fn list_tenants(&self) -> Result<Vec<TenantId>>;

    /// Returns the number and hash of the tenant's last entry; number 0 if the log is empty.
    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead>;

    /// As [`audit_head`](Self::audit_head), from what is stored alone: includes every entry that was read before the call
    /// began. A head that is known in memory may follow an entry that can be read already.
    async fn stored_audit_head(&self, tenant: &TenantId) -> Result<AuditHead>;

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>>;

    /// Returns the tenant's matching entries, newest first. Positions are entry numbers, so *after* 7 come 6, 5, ….
    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>>;

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64>;

    /// Returns the tenant's entries with numbers above `number`, oldest first, at most `limit`.
    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>>;

    /// Returns the numbers and hashes of those of the tenant's entries that have one of these numbers, in any order.
    async fn find_audit_hashes(&self, tenant: &TenantId, numbers: &[u64]) -> Result<Vec<AuditHead>>;

    /// Looks up the number and hash of an entry, for a refusal that a client may take as proof that the log does not
    /// contain it.
    ///
    /// A linearizable read, as [`find_key`](super::KeyStore::find_key) is.
    async fn recheck_audit_entry(&self, tenant: &TenantId, number: u64) -> Result<Option<AuditHead>>;
}
