//! Errors of the MongoDB backend, and what the server's error codes mean.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::store::{Cause, StoreError};

/// Why the database cannot be used. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The message does not repeat the URI, which may hold a password.
    #[error(
        "The MongoDB URI cannot be read: write it as mongodb://user:password@host:27017/?replicaSet=rs0, with special \
         characters of user and password percent-encoded."
    )]
    Uri,
    #[error("{0:?} is no name for a MongoDB database: use 1 to 63 letters, digits, hyphens and underscores.")]
    DatabaseName(String),
    /// No server responds, or the replica set has no primary.
    #[error("MongoDB does not answer: check that the hosts of the URI run and have a primary.")]
    Unreachable(#[source] Cause),
    /// The user name or the password is wrong, or the user lacks a role.
    #[error(
        "MongoDB refuses the user of the URI: check name, password and authSource, and grant readWrite and dbAdmin on \
         the database."
    )]
    Refused(#[source] Cause),
    /// A server outside of any replica set: it has no transactions and no change streams.
    #[error(
        "This MongoDB is a standalone server, which has no transactions: start mongod with --replSet rs0 and run \
         rs.initiate() once."
    )]
    Standalone,
    #[error("The replica set of this MongoDB is not initiated yet: run rs.initiate() once.")]
    NotInitiated,
    #[error("The replica set of this MongoDB is named {found}, and the URI says replicaSet={named}: change the URI.")]
    OtherSet { named: String, found: String },
    #[error(
        "This MongoDB is a sharded cluster (mongos): give the URI of one replica set; to outgrow it, spread the \
         tenants over several deployments."
    )]
    Sharded,
    /// The URI names a single member, which is not the primary.
    #[error(
        "The URI names one member alone, and it is not the primary: name all members and leave directConnection out."
    )]
    NotPrimary,
    /// Older than MongoDB 6.0.
    #[error("This MongoDB is too old: use 6.0 or later.")]
    TooOld,
    #[error(
        "A newer release of Keymark has used this database (its version is {found}, this release knows {known}): \
         start that release or a later one."
    )]
    Newer { found: i64, known: i64 },
    #[error("A migration from {0} into this database was not finished: run it again, or drop the database.")]
    UnfinishedTransfer(String),
    #[error("The database {0} is not empty: choose another one, or drop it.")]
    NotEmpty(String),
    /// Creating or updating collections and indexes failed.
    #[error("The database cannot be prepared: {0}.")]
    Preparation(#[source] Cause),
    /// The client does not use the concerns that it was configured with: a defect.
    #[error("The MongoDB client did not take its read and write concerns: a defect.")]
    Concerns,
}

/// MongoDB did not respond within the limit of a call.
#[derive(Debug, thiserror::Error)]
#[error("MongoDB did not answer in time ({what})")]
pub(super) struct TimedOut {
    what: &'static str,
}

impl TimedOut {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl From<TimedOut> for StoreError {
    fn from(late: TimedOut) -> Self {
        Self::Unavailable(Box::new(late))
    }
}

/// DocumentValidationFailure: the document does not match the validator of its collection.
pub(super) const DOCUMENT_VALIDATION_FAILURE: i32 = 121;
pub(super) const DUPLICATE_KEY: i32 = 11000;

pub(super) fn store_error(error: Error) -> StoreError {
    match (&*error.kind, code_of(&error)) {
        (ErrorKind::Bson(_) | ErrorKind::InvalidResponse { .. }, _) | (_, Some(DOCUMENT_VALIDATION_FAILURE)) => {
            StoreError::Corrupt(Box::new(error))
        }
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// The server's error code (MongoDB 6.0, `src/mongo/base/error_codes.yml`).
pub(super) fn code_of(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(unmet)) => Some(unmet.code),
        _ => None,
    }
}

pub(super) fn is_duplicate_key(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(cause) => cause.downcast_ref::<Error>().and_then(code_of) == Some(DUPLICATE_KEY),
        _ => false,
    }
}

/// Whether authentication or authorization failed: Unauthorized and AuthenticationFailed.
pub(super) fn is_refusal(error: &Error) -> bool {
    match *error.kind {
        ErrorKind::Authentication { .. } => true,
        _ => matches!(code_of(error), Some(13 | 18)),
    }
}

pub(super) fn corrupt(cause: impl Into<Cause>) -> StoreError {
    StoreError::Corrupt(cause.into())
}
