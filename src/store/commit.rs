//! Committing batches.

use async_trait::async_trait;

use super::Result;
use crate::domain::audit::AuditEntry;
use crate::domain::changes::Batch;

#[async_trait]
pub trait CommitStore {
    /// Commits the whole batch durably and returns its audit entry, or changes nothing.
    ///
    /// Once this has returned the entry, later reads on every instance see the batch. Batches of one tenant take effect
    /// one after the other; the entry's number and hash continue the tenant's log.
    async fn commit(&self, batch: Batch) -> Result<AuditEntry>;
}
