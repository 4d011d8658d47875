//! The store: what Keymark needs of a database, and nothing of what any one database is.
//!
//! A backend is done when it passes the contract suite in `tests/it/contract`. Domain rules live in [`crate::domain`];
//! a backend keeps conditions, numbers audit entries and links their hashes.

pub mod embedded;
pub mod mongo;
pub mod observed;
mod scan;

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use thiserror::Error;

use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::changes::{Batch, Change, Position, Row};
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::leases::Lease;
use crate::domain::operators::{Operator, Username};
pub use crate::domain::pages::{Page, PageEnd, PageRequest};
pub use crate::domain::quota::{Quota, take};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::system_names::Search;
use crate::domain::systems::{ListedSystem, System, SystemOrder, SystemSortKey};
use crate::domain::time::Timestamp;

/// Why a call of a store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A condition of the batch does not hold: nothing was written. Reading again and deciding again helps, except
    /// for names.
    #[error("a condition of the change does not hold: {0:?}")]
    Conflict(Conflict),
    /// The store cannot be reached or refuses to work now: nothing is known to be written. Trying later helps.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] Cause),
    /// The store did not say whether the batch was committed, and could not be asked. It may take effect yet.
    #[error("it is unknown whether the change was committed: {0}")]
    OutcomeUnknown(#[source] Cause),
    /// The position is older than what the feed remembers: the follower must load everything anew.
    #[error("the change feed no longer reaches back to this position")]
    PositionTooOld,
    /// What is stored cannot be read, or the store broke its own rules. Trying again does not help.
    #[error("stored data cannot be read: {0}")]
    Corrupt(#[source] Cause),
}

/// Which condition did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A row that is written or required has another revision, is missing, or is there already.
    Row,
    /// Another system of the tenant has the same folded name.
    NameTaken,
    /// Another operator, of whatever tenant, has the username.
    UsernameTaken,
    /// The marker is there already.
    Marker,
}

/// What a backend said, for the log and never for a client.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The feed: changes in commit order, until an error ends it.
pub type Feed = BoxStream<'static, Result<Change>>;

/// What [`Store::scan_rows`] finds, until an error ends it: only a stream that ended without one gave everything.
pub type Rows = BoxStream<'static, Result<Row>>;

/// What [`Store::scan_systems`] finds, until an error ends it: only a stream that ended without one gave everything.
pub type ListedSystems = BoxStream<'static, Result<ListedSystem>>;

/// What [`Store::purge`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub keys: u64,
    pub sessions: u64,
}

/// A database for Keymark.
///
/// Every call answers within a bounded time: an unreachable database gives [`StoreError::Unavailable`]. An id of
/// another tenant is found as little as one that never existed. What a call has answered as committed is seen by
/// every later call, on every instance.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether other processes may answer from memory over the same store, so that a change is not exact before they
    /// know of it. `false` says that this process alone can have the store open.
    fn is_shared(&self) -> bool;

    /// Whether the store answers at all.
    async fn ping(&self) -> Result<()>;

    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>>;

    /// The tenant's systems of these ids, in no order. An id that is none of the tenant's gives nothing.
    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>>;

    /// The tenant's systems whose folded names match, in the order asked for; ids break ties, in the same direction.
    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>>;

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64>;

    /// The key with one of these digests: by one look-up that sees every change answered before it began, whatever
    /// happens to the database meanwhile (a linearizable read).
    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>>;

    /// The operator of this id. Sees as much as [`find_key`](Self::find_key) does.
    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>>;

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>>;

    /// The operators of one tenant, or of all, by username.
    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>>;

    /// The session of this id, ended or not. Sees as much as [`find_key`](Self::find_key) does.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>>;

    /// The operator's sessions, ended ones that were not purged yet included.
    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>>;

    /// Every tenant that ever had an audit entry, by id.
    async fn list_tenants(&self) -> Result<Vec<TenantId>>;

    /// Where the tenant's log ends; number 0 when it is empty.
    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead>;

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>>;

    /// The tenant's entries that match, newest first; a place is an entry's number, so *after* 7 are 6, 5, ….
    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>>;

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64>;

    /// The tenant's entries with numbers above `number`, oldest first, `limit` at most.
    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>>;

    /// Commits the batch whole, durably, and gives its audit entry; or changes nothing.
    ///
    /// When it has answered, every instance's later reads see it. Batches of one tenant take effect one after the
    /// other; the entry's number and hash continue the tenant's log.
    async fn commit(&self, batch: Batch) -> Result<AuditEntry>;

    /// Follows what is committed: all of it after `position`, or, without one, all that is committed once this call
    /// has answered. Positions of one feed serve another one of the same store, also after a restart.
    ///
    /// All followers are told the same changes in the same order with the same times ([`Change::at`]), and none
    /// without all before it. What began after something was answered as committed or put comes after it.
    ///
    /// The feed ends with the first error. [`StoreError::PositionTooOld`] (of the call, or as the feed's first item)
    /// means that changes were missed for good.
    async fn watch(&self, after: Option<&Position>) -> Result<Feed>;

    /// Every key (revoked ones too), operator and session of every tenant, in no order. For memory to be built from.
    ///
    /// Sees everything that was answered as committed before this call began, whatever happens to the database
    /// meanwhile (a primary that was deposed and does not know it yet included). What is committed later may be seen,
    /// of each row for itself: one of two rows of a batch may come as it was before and the other as it is after. A
    /// row that is there from before the call to the end of the stream comes once at least.
    ///
    /// The stream may be read as slowly as need be, but for limits of the database of some minutes between two rows;
    /// dropping it ends the work.
    async fn scan_rows(&self) -> Result<Rows>;

    /// The number where the tenant's log ends, and the tenant's systems as that entry left them, about in the order of
    /// their ids. For memory to be built from.
    ///
    /// The number is not below that of any entry that was answered as committed, or told by a feed, before this call
    /// began, whatever happens to the database meanwhile. Of a system that an entry after that number is about, the
    /// stream may give any state from then on, more than one, or none; every other one comes once.
    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)>;

    /// Replaces whole what the incarnation said before. The feed tells it as a change with this one write.
    ///
    /// When this has answered, the lease is durable, stands in the feed after everything answered before the call
    /// began, and is seen by every later [`list_leases`](Self::list_leases). When it failed, it may arrive all the
    /// same, at any later time, also over what the incarnation put, or what was deleted, meanwhile. A lease with the
    /// sequence of the one that is there may be told or not.
    async fn put_lease(&self, lease: &Lease) -> Result<()>;

    /// The leases of all incarnations, dead ones included, in no order. Sees every lease that was answered as put or
    /// deleted before this call began, whatever happens to the database meanwhile.
    async fn list_leases(&self) -> Result<Vec<Lease>>;

    /// Removes the incarnation's lease if it has this lease's sequence still, and says whether it did. The feed tells
    /// it as a change with this one write. When this failed, it may be removed all the same, later.
    async fn delete_lease(&self, lease: &Lease) -> Result<bool>;

    /// Takes one of the bucket's quota; `Err` of the inner result says how long until one is free, and takes none.
    /// One bucket is shared by all instances, and callers at the same time never get more than the quota.
    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>>;

    /// Gives back one that [`take_token`](Self::take_token) took.
    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()>;

    /// A setting of the store itself, such as its secret's fingerprint.
    async fn find_setting(&self, name: &str) -> Result<Option<String>>;

    /// Sets it if it is `expected` still (`None`: unset), and says whether it was.
    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool>;

    /// Whether a batch with this marker was committed.
    async fn has_marker(&self, marker: &str) -> Result<bool>;

    /// Removes keys revoked before `revoked_before`, sessions that ended before `now`, and buckets that are full
    /// again. Safe to run anywhere, any time. Removals appear in the feed without an entry.
    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged>;
}
