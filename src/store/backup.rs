//! Copies of a store that is in use.

use std::io;
use std::path::Path;

use async_trait::async_trait;

use super::Result;
use crate::files::NewFileError;

/// Describes a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    pub bytes: u64,
    pub keys: u64,
    pub audit_entries: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the database has tools of its own: use mongodump --oplog, or a snapshot of its volumes")]
    Unsupported,
    #[error(transparent)]
    File(#[from] NewFileError),
    /// The copy differs from the store, or from itself.
    #[error("the copy is damaged ({0}); check the disk")]
    Damaged(&'static str),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

#[async_trait]
pub trait BackupStore {
    /// Copies the store, as it is when the call begins, to a new file with mode 0600. Writers and readers do not wait for
    /// it. Until the copy is complete, checked and durable it has the suffix `.partial`; that file is removed after an
    /// error, and when the returned future is dropped.
    async fn back_up(&self, file: &Path) -> Result<Result<Backup, BackupError>>;
}
