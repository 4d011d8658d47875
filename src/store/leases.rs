//! Leases, by which instances learn how far each of them has applied the feed.

use async_trait::async_trait;

use super::Result;
use crate::domain::leases::{Lease, LogTime};

#[async_trait]
pub trait LeaseStore {
    /// Replaces the incarnation's whole lease. The feed reports it as a change with this single write.
    ///
    /// Once this has succeeded, the lease is durable, comes in the feed after everything that was reported before the
    /// call began, and is seen by every later [`list_leases`](Self::list_leases). If it failed, the lease may still
    /// arrive at any later time, and overwrite what the incarnation put, or restore what was deleted, meanwhile. A
    /// lease with the sequence of the stored one may be left out of the feed. A call takes effect at most once: what it
    /// put does not return after another lease of the incarnation has replaced it.
    async fn put_lease(&self, lease: &Lease) -> Result<()>;

    /// Returns the leases of all incarnations, including dead ones, in no particular order.
    ///
    /// Sees every lease that was reported as put or deleted before this call began, whatever happens to the database
    /// meanwhile.
    async fn list_leases(&self) -> Result<Vec<Lease>>;

    /// Like [`list_leases`](Self::list_leases), as of this time of the feed or a later one. Cheaper: it sees every lease
    /// that was put or deleted up to `position`, and not necessarily those since.
    async fn list_leases_at(&self, position: LogTime) -> Result<Vec<Lease>>;

    /// Deletes the incarnation's lease if it still has this lease's sequence. Returns whether it did. The feed reports
    /// it as a change with this single write. If the call failed, the lease may still be deleted later.
    async fn delete_lease(&self, lease: &Lease) -> Result<bool>;
}
