//! An embedded store: one redb file, one process, nothing to install.
//!
//! Commits are two-phase and synced before they are answered. The last [`FEED_KEPT`] changes are kept as the feed.

mod changes;
mod commit;
mod feed;
mod reads;
mod tables;
mod writer;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redb::Database;
use thiserror::Error;
use tokio::sync::mpsc;

use self::reads::Snapshot;
use self::writer::{Handle, Opener, Writer};
use super::scan::{CHUNKS_AHEAD, stream_of};
use super::{Feed, ListedSystems, Page, PageRequest, Purged, Quota, Result, Rows, Store, StoreError};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead};
use crate::domain::changes::{Batch, Position};
use crate::domain::ids::{AuditEntryId, OperatorId, SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest};
use crate::domain::leases::Lease;
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::system_names::Search;
use crate::domain::systems::{System, SystemOrder, SystemSortKey};
use crate::domain::time::Timestamp;

/// The file, in the data directory.
pub const FILE_NAME: &str = "keymark.redb";
/// Says which process holds the file.
const PID_FILE_NAME: &str = "keymark.pid";
/// How many changes the feed goes back.
pub const FEED_KEPT: u64 = 10_000;
/// Bytes of pages that are kept in memory.
const CACHE_BYTES: usize = 16 << 20;

/// Why the file could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the file; with its id, if it could be read.
    #[error("{} is using it", .0.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    InUse(Option<u32>),
    #[error(transparent)]
    Failed(redb::Error),
}

/// The embedded store.
pub struct EmbeddedStore {
    writer: Writer,
    feed_kept: u64,
}

impl EmbeddedStore {
    /// Opens the store in an existing directory, or makes it there.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(FILE_NAME);
        let pid_path = directory.join(PID_FILE_NAME);
        let opener = move || open_file(&path);
        let database = opener().map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse(read_pid(&pid_path)),
            error => OpenError::Failed(error),
        })?;
        write_pid(&pid_path).map_err(|error| OpenError::Failed(redb::Error::Io(error)))?;
        Self::start(database, Box::new(opener), FEED_KEPT)
    }

    /// Opens the store by other means than a file of that name, and keeps another number of changes as the feed.
    /// `opener` is asked again after a commit that failed.
    pub fn open_with(
        opener: impl Fn() -> Result<Database, redb::Error> + Send + Sync + 'static,
        feed_kept: u64,
    ) -> Result<Self, OpenError> {
        let prepared = move || prepare(opener()?);
        let database = prepared().map_err(OpenError::Failed)?;
        Self::start(database, Box::new(prepared), feed_kept)
    }

    fn start(database: Database, opener: Opener, feed_kept: u64) -> Result<Self, OpenError> {
        let writer = Writer::start(database, opener).map_err(OpenError::Failed)?;
        Ok(Self { writer, feed_kept })
    }

    /// Reads on the calling thread: for what takes microseconds.
    fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        read(&Snapshot::of(&*self.writer.handle.read()?)?)
    }

    /// Reads on a thread that may block: for what grows with the tenant.
    async fn scan<T: Send + 'static>(&self, read: impl FnOnce(&Snapshot) -> Result<T> + Send + 'static) -> Result<T> {
        let handle: Arc<Handle> = Arc::clone(&self.writer.handle);
        let scan = move || read(&Snapshot::of(&*handle.read()?)?);
        tokio::task::spawn_blocking(scan).await.map_err(|error| StoreError::Unavailable(error.into()))?
    }
}

fn open_file(path: &PathBuf) -> Result<Database, redb::Error> {
    // Made here, so that nobody else may read it, whatever the directory allows.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
    prepare(database)
}

fn prepare(database: Database) -> Result<Database, redb::Error> {
    if !tables::are_created(&database)? {
        tables::create_all(&database)?;
    }
    Ok(database)
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write_pid(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", std::process::id())
}

/// What redb says, as the trait says it.
fn storage(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(reason) => StoreError::Corrupt(reason.into()),
        error => StoreError::Unavailable(error.into()),
    }
}

/// What the trait says, as a transaction ends with it.
fn corrupt(error: StoreError) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}

#[async_trait]
impl Store for EmbeddedStore {
    fn is_shared(&self) -> bool {
        false
    }

    async fn ping(&self) -> Result<()> {
        self.read(|_| Ok(()))
    }

    async fn find_system(&self, tenant: &TenantId, id: SystemId) -> Result<Option<System>> {
        self.read(|snapshot| snapshot.get(tables::SYSTEMS, (tenant.as_str(), id.to_string().as_str())))
    }

    async fn find_systems(&self, tenant: &TenantId, ids: &[SystemId]) -> Result<Vec<System>> {
        self.read(|snapshot| snapshot.find_systems(tenant, ids))
    }

    async fn list_systems(
        &self,
        tenant: &TenantId,
        search: &Search,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Result<Page<System>> {
        if *search == Search::All {
            return self.read(|snapshot| snapshot.list_systems(tenant, search, order, page));
        }
        let (tenant, search, page) = (tenant.clone(), search.clone(), page.clone());
        self.scan(move |snapshot| snapshot.list_systems(&tenant, &search, order, &page)).await
    }

    async fn count_systems(&self, tenant: &TenantId, search: &Search) -> Result<u64> {
        if *search == Search::All {
            return self.read(|snapshot| snapshot.count_systems(tenant, search));
        }
        let (tenant, search) = (tenant.clone(), search.clone());
        self.scan(move |snapshot| snapshot.count_systems(&tenant, &search)).await
    }

    async fn find_key(&self, digests: &[KeyDigest]) -> Result<Option<Key>> {
        self.read(|snapshot| {
            for digest in digests {
                if let Some(key) = snapshot.get(tables::KEYS, digest.as_bytes())? {
                    return Ok(Some(key));
                }
            }
            Ok(None)
        })
    }

    async fn find_operator(&self, id: OperatorId) -> Result<Option<Operator>> {
        self.read(|snapshot| snapshot.get(tables::OPERATORS, id.to_string().as_str()))
    }

    async fn find_operator_by_username(&self, username: &Username) -> Result<Option<Operator>> {
        self.read(|snapshot| snapshot.find_operator_by_username(username))
    }

    async fn list_operators(&self, tenant: Option<&TenantId>) -> Result<Vec<Operator>> {
        let tenant = tenant.cloned();
        self.scan(move |snapshot| snapshot.list_operators(tenant.as_ref())).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>> {
        self.read(|snapshot| snapshot.get(tables::SESSIONS, String::from(id).as_str()))
    }

    async fn list_sessions(&self, operator: OperatorId) -> Result<Vec<Session>> {
        self.read(|snapshot| snapshot.list_sessions(operator))
    }

    async fn list_tenants(&self) -> Result<Vec<TenantId>> {
        self.scan(Snapshot::list_tenants).await
    }

    async fn audit_head(&self, tenant: &TenantId) -> Result<AuditHead> {
        self.read(|snapshot| snapshot.audit_head(tenant))
    }

    async fn find_audit_entry(&self, tenant: &TenantId, id: AuditEntryId) -> Result<Option<AuditEntry>> {
        self.read(|snapshot| snapshot.find_audit_entry(tenant, id))
    }

    async fn list_audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest<u64>,
    ) -> Result<Page<AuditEntry>> {
        let (tenant, filter, page) = (tenant.clone(), filter.clone(), page.clone());
        self.scan(move |snapshot| snapshot.list_audit(&tenant, &filter, &page)).await
    }

    async fn count_audit(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.scan(move |snapshot| snapshot.count_audit(&tenant, &filter)).await
    }

    async fn list_audit_after(&self, tenant: &TenantId, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        let tenant = tenant.clone();
        self.scan(move |snapshot| snapshot.list_audit_after(&tenant, number, limit)).await
    }

    async fn commit(&self, batch: Batch) -> Result<AuditEntry> {
        let kept = self.feed_kept;
        self.writer.submit(move |txn| commit::commit(txn, batch, kept)).await
    }

    async fn watch(&self, after: Option<&Position>) -> Result<Feed> {
        feed::follow(&self.writer.handle, after)
    }

    async fn scan_rows(&self) -> Result<Rows> {
        // A commit that fails meanwhile closes the file, and need not wait for this: a snapshot stands by itself.
        let snapshot = Snapshot::of(&*self.writer.handle.read()?)?;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        Ok(stream_of(chunks, tokio::task::spawn_blocking(move || snapshot.scan_rows(&sender))))
    }

    async fn scan_systems(&self, tenant: &TenantId) -> Result<(u64, ListedSystems)> {
        let snapshot = Snapshot::of(&*self.writer.handle.read()?)?;
        let number = snapshot.audit_head(tenant)?.number;
        let tenant = tenant.clone();
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let scan = tokio::task::spawn_blocking(move || snapshot.scan_systems(&tenant, &sender));
        Ok((number, stream_of(chunks, scan)))
    }

    async fn put_lease(&self, lease: &Lease) -> Result<()> {
        let (lease, kept) = (*lease, self.feed_kept);
        self.writer.submit(move |txn| commit::put_lease(txn, lease, kept).map(Ok)).await
    }

    async fn list_leases(&self) -> Result<Vec<Lease>> {
        self.scan(Snapshot::list_leases).await
    }

    async fn delete_lease(&self, lease: &Lease) -> Result<bool> {
        let (lease, kept) = (*lease, self.feed_kept);
        self.writer.submit(move |txn| commit::delete_lease(txn, lease, kept).map(Ok)).await
    }

    async fn take_token(&self, bucket: &str, quota: Quota, now: Timestamp) -> Result<Result<(), Duration>> {
        let bucket = bucket.to_owned();
        self.writer.submit(move |txn| commit::take_token(txn, &bucket, quota, now).map(Ok)).await
    }

    async fn return_token(&self, bucket: &str, quota: Quota) -> Result<()> {
        let bucket = bucket.to_owned();
        self.writer.submit(move |txn| commit::return_token(txn, &bucket, quota).map(Ok)).await
    }

    async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        self.read(|snapshot| snapshot.text(tables::SETTINGS, name))
    }

    async fn replace_setting(&self, name: &str, expected: Option<&str>, value: &str) -> Result<bool> {
        let (name, expected, value) = (name.to_owned(), expected.map(str::to_owned), value.to_owned());
        self.writer.submit(move |txn| commit::replace_setting(txn, &name, expected.as_deref(), &value).map(Ok)).await
    }

    async fn has_marker(&self, marker: &str) -> Result<bool> {
        self.read(|snapshot| snapshot.contains(tables::MARKERS, marker))
    }

    async fn purge(&self, now: Timestamp, revoked_before: Timestamp) -> Result<Purged> {
        let kept = self.feed_kept;
        self.writer.submit(move |txn| commit::purge(txn, now, revoked_before, kept).map(Ok)).await
    }
}
