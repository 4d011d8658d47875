//! Copies of the file, and the check of a copy.

use std::fs::File;
use std::io;
use std::path::Path;

use async_trait::async_trait;
use redb::backends::FileBackend;
use redb::{Database, Key, ReadableTable, ReadableTableMetadata, TableDefinition, Value};

use super::errors::OpenError;
use super::rows::Storage;
use super::snapshot::Snapshot;
use super::store::{EmbeddedStore, FILE_NAME, PID_FILE_NAME, Progress, read_pid};
use super::tables::{AUDIT, AUDIT_HEADS, KEYS, TableVisitor, decode, visit_all};
use crate::domain::audit::{AuditEntry, AuditHead};
use crate::files::NewFile;
use crate::store::{Backup, BackupError, BackupStore, Result, StoreError};

/// Size of the cache of pages of a copy.
const CACHE_BYTES: usize = 64 << 20;

#[async_trait]
impl BackupStore for EmbeddedStore {
    async fn back_up(&self, file: &Path) -> Result<Result<Backup, BackupError>> {
        // Holds a snapshot but not the handle, so a failing commit can close the file meanwhile.
        let snapshot = Snapshot::of(&*self.writer.handle.read()?)?;
        let path = file.to_owned();
        // The thread below has only the open file, so dropping this future removes its name although the thread runs on,
        // and no thread publishes what a later backup writes under that name.
        let created = blocking(move || {
            let new = NewFile::create(&path)?;
            let copy = File::options().read(true).write(true).open(new.partial())?;
            Ok((new, copy))
        });
        let (new, copy) = match created.await? {
            Ok(created) => created,
            Err(error) => return Ok(Err(error)),
        };
        let copied = self.run_in_background("backup", move |progress| Ok(snapshot.copy_to(&copy, progress))).await?;
        match copied {
            Ok((keys, audit_entries)) => {
                blocking(move || Ok(Backup { bytes: new.publish()?, keys, audit_entries })).await
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<Result<T, BackupError>> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable(error.into()))
}

impl Snapshot {
    /// Writes a durable copy to an empty file, and checks it. Returns its numbers of keys and of audit entries.
    fn copy_to(&self, file: &File, progress: &mut Progress) -> Result<(u64, u64), BackupError> {
        let open = || {
            let file = FileBackend::new(file.try_clone()?).map_err(io_error)?;
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file).map_err(io_error)
        };
        let copy = open()?;
        visit_all(&mut CopyTables { from: self, to: &copy, progress }).map_err(io_error)?;
        copy.close().map_err(io_error)?;

        let mut copy = open()?;
        check_integrity(&mut copy)?;
        let read = Snapshot::of(&copy).map_err(io::Error::other)?;
        visit_all(&mut CompareTables { from: self, to: &read }).map_err(|error| match error {
            redb::Error::Corrupted(_) => BackupError::Damaged("it lacks rows"),
            error => io_error(error).into(),
        })?;
        let (ours, theirs) = (self.audit_heads()?, read.audit_heads()?);
        if ours != theirs {
            return Err(BackupError::Damaged("an audit log ends elsewhere"));
        }
        read.check_audit_ends()?;
        let counted = read.len(KEYS).and_then(|keys| Ok((keys, read.len(AUDIT)?))).map_err(io::Error::other)?;
        drop(read);
        copy.close().map_err(io_error)?;
        file.sync_all()?;
        Ok(counted)
    }

    fn audit_heads(&self) -> io::Result<Vec<(String, AuditHead)>> {
        let heads = self.0.open_table(AUDIT_HEADS).map_err(io_error)?;
        let head = |row: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (tenant, head) = row.map_err(io_error)?;
            Ok((tenant.value().to_owned(), decode(head.value()).map_err(io::Error::other)?))
        };
        heads.iter().map_err(io_error)?.map(head).collect()
    }

    /// Checks that each audit log ends with the entry that was written last.
    fn check_audit_ends(&self) -> Result<(), BackupError> {
        for (tenant, head) in self.audit_heads()? {
            let last: Option<AuditEntry> = self.get(AUDIT, (tenant.as_str(), head.number)).map_err(io::Error::other)?;
            if last.is_none_or(|last| last.head() != head) {
                return Err(BackupError::Damaged("an audit log lacks its last entry"));
            }
        }
        Ok(())
    }
}

struct CopyTables<'a> {
    from: &'a Snapshot,
    to: &'a Database,
    progress: &'a mut Progress,
}

impl TableVisitor for CopyTables<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Storage<()> {
        let mut txn = self.to.begin_write()?;
        txn.set_two_phase_commit(true);
        {
            let mut to = txn.open_table(table)?;
            for row in self.from.0.open_table(table)?.iter()? {
                self.progress.row().map_err(|error| redb::Error::Io(io::Error::other(error)))?;
                let (key, value) = row?;
                to.insert(key.value(), value.value())?;
            }
        }
        txn.commit()?;
        Ok(())
    }
}

/// Fails with [`redb::Error::Corrupted`] if a table has another number of rows.
struct CompareTables<'a> {
    from: &'a Snapshot,
    to: &'a Snapshot,
}

impl TableVisitor for CompareTables<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Storage<()> {
        if self.from.0.open_table(table)?.len()? == self.to.0.open_table(table)?.len()? {
            Ok(())
        } else {
            Err(redb::Error::Corrupted("a table lacks rows".to_owned()))
        }
    }
}

/// Checks a store's file that no process uses: its checksums, and the ends of its audit logs.
pub fn check_file(file: &Path) -> Result<(), BackupError> {
    let damaged = |_| BackupError::Damaged("it is no store, or part of it is missing");
    let mut database = Database::builder().set_cache_size(CACHE_BYTES).open(file).map_err(damaged)?;
    check_integrity(&mut database)?;
    let tables = Snapshot::of(&database).map_err(io::Error::other)?;
    if tables.0.open_table(AUDIT_HEADS).is_err() {
        return Err(BackupError::Damaged("it is no store of Keymark"));
    }
    tables.check_audit_ends()
}

fn check_integrity(database: &mut Database) -> Result<(), BackupError> {
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) | Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(_))) => {
            Err(BackupError::Damaged("its checksums do not match"))
        }
        Err(error) => Err(io_error(error).into()),
    }
}

fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// Keeps other processes from opening a store.
#[must_use]
pub struct Held(#[expect(dead_code, reason = "the file is locked while it is open")] Option<Database>);

/// Locks the store in the directory, if there is one that can be opened.
///
/// # Errors
///
/// If a process uses it.
pub fn hold(directory: &Path) -> Result<Held, OpenError> {
    match Database::open(directory.join(FILE_NAME)) {
        Ok(database) => Ok(Held(Some(database))),
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
            Err(OpenError::InUse(read_pid(&directory.join(PID_FILE_NAME))))
        }
        Err(error) => {
            tracing::warn!(%error, "store to be replaced cannot be opened");
            Ok(Held(None))
        }
    }
}
