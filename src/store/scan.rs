//! Reading everything that the in-memory cache is built from.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Result;
use crate::domain::changes::StoredRow;
use crate::domain::ids::TenantId;
use crate::domain::system_lists::ListedSystem;

/// Result of [`ScanStore::scan_rows`]. An error ends the stream; only a stream that ends without one is complete.
pub type Rows = BoxStream<'static, Result<StoredRow>>;

/// Result of [`ScanStore::scan_systems`]. An error ends the stream; only a stream that ends without one is complete.
pub type ListedSystems = BoxStream<'static, Result<ListedSystem>>;

#[async_trait]
pub trait ScanStore {
    /// Returns every key (revoked ones too), operator, session, token and row of every tenant, in no particular order. A row that
    /// cannot be read is returned as such; one in a newer format ends the stream with
    /// [`StoreError::NewerFormat`](super::StoreError::NewerFormat).
    ///
    /// Sees everything that was reported as committed before this call began, whatever happens to the database
    /// meanwhile (including a deposed primary that has not noticed yet). Later commits may be seen, row by row: of two
    /// rows of one batch, one may be returned as it was before and the other as it is after. A row that exists from
    /// before the call until the end of the stream is returned at least once.
    ///
    /// The stream may be read slowly, within the database's limit of some minutes between two rows. Dropping it stops
    /// the scan.
    async fn scan_rows(&self) -> Result<Rows>;

    /// Returns the number of the tenant's last audit entry, and the tenant's systems as that entry left them, roughly
    /// ordered by id.
    ///
    /// The number is not below that of any entry that was reported as committed, or received from a feed, before this
    /// call began, whatever happens to the database meanwhile. A system that a later entry concerns may be returned in
    /// any of its states from then on, more than once, or not at all; every other system is returned exactly once, except
    /// that unreadable ones are left out.
    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)>;
}
