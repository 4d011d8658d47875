//! Removing rows that are past their retention.

use async_trait::async_trait;

use super::Result;
use crate::domain::ids::{OperatorId, TenantId};
use crate::domain::time::Timestamp;

/// Number of rows that [`PurgeStore::purge`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub keys: u64,
    pub sessions: u64,
}

#[async_trait]
pub trait PurgeStore {
    /// Removes keys revoked before `revoked_before`, sessions that ended before `now`, and buckets that are full again, in
    /// bounded batches.
    ///
    /// May run on any instance at any time. The feed reports removed rows without an audit entry.
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged>;

    /// Removes the sessions that an operator opened under earlier versions of the password than this one, in bounded
    /// batches. Returns their number.
    async fn purge_sessions(&self, operator: OperatorId, password_version: u64) -> Result<u64>;

    /// Removes the tenant's audit entries with numbers up to `last`, the oldest first, in bounded batches. Returns their
    /// number. The feed does not report them.
    async fn purge_audit(&self, tenant: &TenantId, last: u64) -> Result<u64>;
}
