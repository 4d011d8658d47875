//! Errors of a store.

use thiserror::Error;

/// Why a call of a store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A condition of the batch does not hold; nothing was written. Read again and decide again, except when a name is
    /// taken.
    #[error("a condition of the change does not hold: {0:?}")]
    Conflict(Conflict),
    /// The store cannot be reached or refuses the call; nothing is known to be written. Retry later.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] Cause),
    /// Too many calls wait for the same kind of read; nothing was read. Retry later.
    #[error("too many calls wait for the store")]
    Overloaded,
    /// The disk of the embedded store is full; nothing was written.
    #[error("the disk of the store is full: {0}")]
    DiskFull(#[source] Cause),
    /// The outcome of the commit could not be determined. The batch may still take effect.
    #[error("it is unknown whether the change was committed: {0}")]
    OutcomeUnknown(#[source] Cause),
    /// The feed no longer holds the changes after this position: the follower must load everything anew.
    #[error("the change feed no longer reaches back to this position")]
    PositionTooOld,
    /// A newer release wrote this data in a format that this release does not know. It can neither be read nor replaced.
    #[error("a newer release wrote this data: its format is {found}, and this release knows format {known} and older")]
    NewerFormat { found: i64, known: i64 },
    /// Stored data cannot be read, or breaks the store's own rules. A retry does not help.
    #[error("stored data cannot be read: {0}")]
    Corrupt(#[source] Cause),
}

/// The condition that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A row that the batch writes or requires has another revision, is missing, or exists already.
    Row,
    /// Another system of the tenant has the same folded name.
    NameTaken,
    /// Another system of the tenant has the external id.
    ExternalIdTaken,
    /// Another operator, of any tenant, has the username.
    UsernameTaken,
    /// Another token of the same kind and tenant has the same folded name.
    TokenNameTaken,
    /// The tenant, whose row is to be deleted, has systems.
    TenantNotEmpty,
    /// The marker is already set.
    Marker,
}

/// The backend's own error, for the log; it is never sent to a client.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Returns `None` for an unreadable row. For reads in which one unreadable row must not hide or hold up the others.
pub(crate) fn skip_unreadable<T>(row: Result<T>) -> Result<Option<T>> {
    match row {
        Err(StoreError::Corrupt(cause)) => {
            tracing::error!(%cause, "unreadable row left out");
            Ok(None)
        }
        row => row.map(Some),
    }
}
