//! The database as Keymark uses it, independent of any particular one.
//!
//! [`Store`] is made of one trait per concept, each in its own file here; a backend implements it in its file of the
//! same name. A backend is complete when it passes the contract suite in `tests/it/contract`. Domain rules live in
//! [`crate::domain`]: a backend enforces the conditions of a batch, numbers audit entries and chains their hashes.

mod audit;
mod backup;
mod chunks;
mod commit;
pub mod embedded;
mod errors;
mod feed;
pub mod intercepted;
mod keys;
mod leases;
pub mod metrics;
pub mod mongo;
mod operators;
mod purge;
mod scan;
mod sessions;
mod settings;
mod systems;
mod tenants;
mod throttle;
mod tokens;
mod transfer;
mod usage;

use async_trait::async_trait;

pub use self::audit::AuditStore;
pub use self::backup::{Backup, BackupError, BackupStore};
pub use self::commit::CommitStore;
pub(crate) use self::errors::skip_unreadable;
pub use self::errors::{Cause, Conflict, Result, StoreError};
pub use self::feed::{Feed, FeedStore};
pub use self::keys::KeyStore;
pub use self::leases::LeaseStore;
pub use self::operators::OperatorStore;
pub use self::purge::{PurgeStore, Purged};
pub use self::scan::{ListedSystems, Rows, ScanStore};
pub use self::sessions::SessionStore;
pub use self::settings::SettingsStore;
pub use self::systems::{SystemState, SystemStore};
pub use self::tenants::TenantStore;
pub use self::throttle::ThrottleStore;
pub use self::tokens::TokenStore;
pub use self::transfer::{Record, RecordKind, Records, TransferStore};
pub use self::usage::{ROWS_PER_USE, UsageStore};
pub use crate::domain::pages::{Page, PageEnd, PageRequest};
pub use crate::domain::quota::{Quota, take};

/// A database for Keymark.
///
/// Every call returns within a bounded time: if the database cannot be reached, with [`StoreError::Unavailable`]. An id
/// of another tenant is treated like one that never existed. Once a call has reported a change as committed, every
/// later call on every instance sees it.
#[async_trait]
pub trait Store:
    SystemStore
    + KeyStore
    + OperatorStore
    + SessionStore
    + TenantStore
    + TokenStore
    + AuditStore
    + CommitStore
    + FeedStore
    + ScanStore
    + LeaseStore
    + ThrottleStore
    + SettingsStore
    + PurgeStore
    + UsageStore
    + BackupStore
    + Send
    + Sync
    + 'static
{
    /// Whether other processes may serve from their caches over the same store, so that a change takes full effect only
    /// when they have received it. `false` if only this process can have the store open.
    fn is_shared(&self) -> bool;

    /// A number that changes before reads may go back in time. While it stays the same, a read of this process sees
    /// everything that its earlier reads saw.
    fn read_epoch(&self) -> u64;

    /// Succeeds if the store responds.
    async fn ping(&self) -> Result<()>;
}
