//! Errors of the operations. `Display` is the message for the client; `source` is the cause, for the log.

use crate::domain::refusal::{ErrorCode, Refusal};
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules or the caller's permissions do not allow the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("The store cannot be reached. Nothing was changed. Try again later.")]
    Unavailable(#[source] StoreError),
    #[error("The disk of the store is full. Nothing was changed. Make room, then try again.")]
    DiskFull(#[source] StoreError),
    #[error(
        "The connection to the store was lost, and it is not known whether the change was made. Check before you try \
         again."
    )]
    OutcomeUnknown(#[source] StoreError),
    #[error(
        "The change was made, but an instance may use the old state for a while yet. Check that all instances reach the store."
    )]
    NotEnforced,
    #[error("A newer release of Keymark wrote this data, which this instance cannot read. Upgrade this instance.")]
    NewerFormat(#[source] StoreError),
    /// A bug or corrupt data.
    #[error("Internal error. The log of the server contains the cause.")]
    Internal(#[source] StoreError),
}

impl Error {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable(_)
            | Self::DiskFull(_)
            | Self::OutcomeUnknown(_)
            | Self::NotEnforced
            | Self::NewerFormat(_) => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Overloaded => Self::Unavailable(error),
            StoreError::DiskFull(_) => Self::DiskFull(error),
            StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown(error),
            StoreError::NewerFormat { .. } => Self::NewerFormat(error),
            StoreError::Conflict(_) | StoreError::PositionTooOld | StoreError::Corrupt(_) => Self::Internal(error),
        }
    }
}
