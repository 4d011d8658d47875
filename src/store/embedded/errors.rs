//! Errors of the embedded store.

use crate::store::StoreError;

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the file; with its id, if it could be read.
    #[error("{} is using it", .0.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    InUse(Option<u32>),
    #[error(transparent)]
    Failed(redb::Error),
}

/// Converts an error of a read.
pub(super) fn storage(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(reason) => StoreError::Corrupt(reason.into()),
        error => StoreError::Unavailable(error.into()),
    }
}
