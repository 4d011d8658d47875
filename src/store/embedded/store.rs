//! The store: its file, its writer, and reads.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use redb::Database;
use rustix::process::setpriority_process;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::errors::OpenError;
use super::migrations;
use super::snapshot::Snapshot;
use super::tables;
use super::writer::{Handle, Opener, Writer};
use crate::store::{Result, Store, StoreError};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "keymark.redb";

/// Name of the file with the id of the process that holds the store.
pub(super) const PID_FILE_NAME: &str = "keymark.pid";

/// Number of changes that the feed keeps.
pub const MAX_FEED_CHANGES: u64 = 10_000;

/// The greatest nice value (setpriority(2)).
const LOWEST_PRIORITY: i32 = 19;

/// Size of the cache of pages, unless another is given.
const CACHE_BYTES: usize = 4 << 20;

/// The embedded implementation of [`Store`].
pub struct EmbeddedStore {
    pub(super) writer: Writer,
    pub(super) max_feed_changes: u64,
    /// A permit for each scan that may run at the same time: half of the processors.
    scans: Arc<Semaphore>,
}

impl EmbeddedStore {
    /// Opens the store in an existing directory with a cache of 4 MiB, and creates its file if missing.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with_cache(directory, CACHE_BYTES)
    }

    /// Opens the store in an existing directory, and creates its file if missing. The store keeps at most `cache_bytes` of
    /// the file's pages in memory; others it reads from the file.
    pub fn open_with_cache(directory: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        let path = directory.join(FILE_NAME);
        let pid_path = directory.join(PID_FILE_NAME);
        let opener = move || open_file(&path, cache_bytes);
        let database = opener().map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse(read_pid(&pid_path)),
            error => OpenError::Failed(error),
        })?;
        write_pid(&pid_path).map_err(|error| OpenError::Failed(redb::Error::Io(error)))?;
        Self::start(database, Box::new(opener), MAX_FEED_CHANGES)
    }

    /// Opens the store with a custom database and number of changes in the feed. `opener` is called again after a failed
    /// commit.
    pub fn open_with(
        opener: impl Fn() -> Result<Database, redb::Error> + Send + Sync + 'static,
        max_feed_changes: u64,
    ) -> Result<Self, OpenError> {
        let prepared = move || prepare(opener()?);
        let database = prepared().map_err(OpenError::Failed)?;
        Self::start(database, Box::new(prepared), max_feed_changes)
    }

    fn start(database: Database, opener: Opener, max_feed_changes: u64) -> Result<Self, OpenError> {
        let writer = Writer::start(database, opener).map_err(OpenError::Failed)?;
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { writer, max_feed_changes, scans: Arc::new(Semaphore::new((processors / 2).max(1))) })
    }

    /// Reads on the calling thread. For reads that take microseconds.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        read(&Snapshot::of(&*self.writer.handle.read()?)?)
    }

    /// Reads on a thread that may block. For reads whose duration grows with the tenant.
    pub(super) async fn read_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let handle: Arc<Handle> = Arc::clone(&self.writer.handle);
        let read = move || read(&Snapshot::of(&*handle.read()?)?);
        tokio::task::spawn_blocking(read).await.map_err(|error| StoreError::Unavailable(error.into()))?
    }

    /// Reads on a thread of the lowest priority, and stops when the caller drops the future. For scans that may read a
    /// tenant's whole log, for tenths of a second: nothing else can stop a thread, and other requests go first. Scans beyond
    /// half of the processors wait in turn.
    pub(super) async fn scan_blocking<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Snapshot, &mut Progress) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.scans).acquire_owned().await;
        let turn = turn.map_err(|error| StoreError::Unavailable(error.into()))?;
        let handle: Arc<Handle> = Arc::clone(&self.writer.handle);
        self.run_in_background("scan", move |progress| {
            let _turn = turn;
            scan(&Snapshot::of(&*handle.read()?)?, progress)
        })
        .await
    }

    /// Runs `work` on a thread of the lowest priority, and stops it when the caller drops the future.
    pub(super) async fn run_in_background<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Progress) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stop = CancellationToken::new();
        let mut progress = Progress { stop: stop.clone(), ..Progress::default() };
        let _stop_on_drop = stop.drop_guard();
        let (sender, done) = oneshot::channel();
        let run = move || {
            // On Linux, `None` is the calling thread. A thread cannot raise its priority again, so it is not one of tokio's.
            if let Err(error) = setpriority_process(None, LOWEST_PRIORITY) {
                tracing::debug!(%error, "priority of a thread not lowered");
            }
            // Fails if the caller is gone.
            let _ = sender.send(work(&mut progress));
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        spawned.map_err(|error| StoreError::Unavailable(error.into()))?;
        done.await.map_err(|error| StoreError::Unavailable(error.into()))?
    }
}

/// Counts the rows of a scan.
#[derive(Default)]
pub(super) struct Progress {
    rows: u64,
    stop: CancellationToken,
}

impl Progress {
    /// Rows between two checks, which take less than a millisecond to read.
    const CHECK_INTERVAL: u64 = 256;

    /// To be called before each row. Fails if the caller has dropped the future of the scan.
    pub(super) fn row(&mut self) -> Result<()> {
        let is_due = self.rows.is_multiple_of(Self::CHECK_INTERVAL);
        self.rows += 1;
        if is_due && self.stop.is_cancelled() {
            return Err(StoreError::Unavailable("the caller is gone".into()));
        }
        Ok(())
    }
}

fn open_file(path: &Path, cache_bytes: usize) -> Result<Database, redb::Error> {
    if !path.try_exists()? {
        create_file(path)?;
    }
    prepare(Database::builder().set_cache_size(cache_bytes).create(path)?)
}

/// Creates the file under another name and links it, so that it is complete whenever it exists: redb cannot open a file
/// whose creation was interrupted.
fn create_file(path: &Path) -> Result<(), redb::Error> {
    let incomplete = path.with_extension(format!("redb.{}", std::process::id()));
    remove_if_present(&incomplete)?;
    // Only this user can read it, whatever the permissions of the directory.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&incomplete)?;
    drop(prepare(Database::create(&incomplete)?)?);
    match std::fs::hard_link(&incomplete, path) {
        // Another process was faster.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => remove_if_present(&incomplete)?,
    }
    let directory = path.parent().expect("a file in the data directory");
    Ok(std::fs::File::open(directory)?.sync_all()?)
}

fn remove_if_present(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn prepare(database: Database) -> Result<Database, redb::Error> {
    if !tables::are_created(&database)? || migrations::lacks_entries(&database)? {
        migrations::record_origins(&database)?;
        migrations::add_tenants(&database)?;
        migrations::index_audit(&database)?;
        tables::create_all(&database)?;
    }
    Ok(database)
}

pub(super) fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write_pid(path: &Path) -> std::io::Result<()> {
    remove_if_present(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", std::process::id())
}

#[async_trait]
impl Store for EmbeddedStore {
    fn is_shared(&self) -> bool {
        false
    }

    /// Each read sees the last commit.
    fn read_epoch(&self) -> u64 {
        0
    }

    async fn ping(&self) -> Result<()> {
        self.read(|_| Ok(()))
    }
}
