//! Why a request was not carried out: one message for whoever asked, another for the log.

use std::fmt;

use crate::domain::refusal::{ErrorCode, Refusal};
use crate::store::StoreError;

#[derive(Debug)]
pub enum Error {
    /// Understood and not granted.
    Refused(Refusal),
    /// Not possible now.
    Unavailable(StoreError),
    /// It may have been carried out or not, and could not be found out.
    OutcomeUnknown(StoreError),
    /// It stands, but an instance may act without it for a while yet.
    NotEnforced,
    /// A fault of ours.
    Internal(StoreError),
}

impl Error {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable(_) | Self::OutcomeUnknown(_) | Self::NotEnforced => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// The cause, for the log alone.
    pub fn cause(&self) -> Option<&StoreError> {
        match self {
            Self::Refused(_) | Self::NotEnforced => None,
            Self::Unavailable(cause) | Self::OutcomeUnknown(cause) | Self::Internal(cause) => Some(cause),
        }
    }
}

/// The message for whoever asked.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unavailable(_) => f.write_str("The store cannot be reached. Nothing was changed. Try again later."),
            Self::OutcomeUnknown(_) => {
                f.write_str("The store did not say whether the change was made. Look before you try again.")
            }
            Self::NotEnforced => {
                f.write_str("The change stands, but not every instance is known to act on it yet. Try again.")
            }
            Self::Internal(_) => f.write_str("Something went wrong inside Keymark."),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown(error),
            StoreError::Conflict(_) | StoreError::PositionTooOld | StoreError::Corrupt(_) => Self::Internal(error),
        }
    }
}
