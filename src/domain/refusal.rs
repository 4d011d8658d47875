//! Refusals, and the list of error codes that clients see.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::external_ids::ExternalIdError;
use super::passwords::UnfitPassword;
use super::permissions::Permission;
use super::system_names::NameError;
use super::texts::TextError;

/// Stable code of an error: `extensions.code` in responses. The schema's `ErrorCode` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    Unauthenticated,
    Forbidden,
    NotFound,
    InvalidName,
    NameTaken,
    KeyAlreadyGenerated,
    KeyNotGenerated,
    RotationInProgress,
    NotSuspended,
    LastAdministrator,
    TenantNotEmpty,
    TenantSuspended,
    Conflict,
    InvalidCredentials,
    InvalidPassword,
    PasswordExpired,
    RateLimited,
    BadUserInput,
    CursorInvalid,
    QueryTooComplex,
    Unavailable,
    Internal,
}

impl ErrorCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidName => "INVALID_NAME",
            Self::NameTaken => "NAME_TAKEN",
            Self::KeyAlreadyGenerated => "KEY_ALREADY_GENERATED",
            Self::KeyNotGenerated => "KEY_NOT_GENERATED",
            Self::RotationInProgress => "ROTATION_IN_PROGRESS",
            Self::NotSuspended => "NOT_SUSPENDED",
            Self::LastAdministrator => "LAST_ADMINISTRATOR",
            Self::TenantNotEmpty => "TENANT_NOT_EMPTY",
            Self::TenantSuspended => "TENANT_SUSPENDED",
            Self::Conflict => "CONFLICT",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::InvalidPassword => "INVALID_PASSWORD",
            Self::PasswordExpired => "PASSWORD_EXPIRED",
            Self::RateLimited => "RATE_LIMITED",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// A request that is valid but not granted. `Display` is the message for the person who sent it: what happened, then
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("You are not signed in. Sign in and try again.")]
    Unauthenticated,
    #[error("This requires the permission code {0}. Ask an administrator of your tenant for it.")]
    Forbidden(Permission),
    #[error("Not found: your tenant has no system with this id. It may have been deleted.")]
    SystemNotFound,
    #[error("Not found: there is no operator with this username.")]
    OperatorNotFound,
    #[error("Not found: your tenant has no such operator. It may have been removed.")]
    OperatorIdNotFound,
    #[error("Not found: there is no session with this id. It may have ended.")]
    SessionNotFound,
    #[error("Not found: your tenant has no token with this id. It may have been revoked.")]
    TokenNotFound,
    #[error("Not found: there is no tenant with this id.")]
    TenantNotFound,
    #[error("A tenant with this id exists already. Choose another id.")]
    TenantIdTaken,
    #[error("Your tenant has a token of this name. Choose another name, or revoke that token.")]
    TokenNameTaken,
    #[error("Only operators and service tokens of the platform may do this.")]
    PlatformOnly,
    #[error("Only operators and service tokens of the platform may act in another tenant than their own.")]
    ForeignTenant,
    #[error("A service token cannot do this. Sign in as an operator.")]
    OperatorOnly,
    #[error("This would leave the tenant without an operator who holds operator_management:edit.")]
    LastAdministrator,
    #[error("The tenant has systems. Delete them first.")]
    TenantNotEmpty,
    #[error("The tenant is suspended. Ask the platform's administrator to resume it.")]
    TenantSuspended,
    #[error("Your account is suspended. Ask an administrator of your tenant to resume it.")]
    OperatorSuspended,
    #[error("The tenant is not suspended, so there is nothing to resume.")]
    TenantNotSuspended,
    #[error("The operator is not suspended, so there is nothing to resume.")]
    OperatorNotSuspended,
    #[error(transparent)]
    InvalidName(NameError),
    #[error("Another system of your tenant has this name. Choose a different one.")]
    NameTaken,
    #[error("Another system of your tenant has this external id. Choose a different one, or remove it there.")]
    ExternalIdTaken,
    #[error("Another operator has this username. Choose a different one.")]
    UsernameTaken,
    #[error("The system already has a key. Revoke it before you generate a new one.")]
    KeyAlreadyGenerated,
    #[error("The system has no key, so there is nothing to revoke.")]
    KeyNotGenerated,
    #[error("The system has no key, so there is nothing to rotate. Generate a key.")]
    NothingToRotate,
    #[error("The system has no key, so there is no expiry to set.")]
    NoKeyToExpire,
    #[error("The system has no retiring key: no rotation is in progress.")]
    NothingRetiring,
    #[error("The key before this one is still retiring. End that rotation, or rotate with an overlap of 0.")]
    RotationInProgress,
    #[error("The system is not suspended, so there is nothing to resume.")]
    NotSuspended,
    #[error("An instance of release 0.1 is running, which would not enforce this. Upgrade every instance first.")]
    OldInstances,
    #[error(transparent)]
    InvalidText(TextError),
    #[error(transparent)]
    InvalidExternalId(ExternalIdError),
    #[error("Someone else changed this in the meantime. Load it again before you retry.")]
    Conflict,
    /// The row is not at the revision that the change is based on.
    #[error("Someone else changed this in the meantime. Load it again before you retry.")]
    OtherRevision { current: u64 },
    #[error("The username or the password is wrong.")]
    InvalidCredentials,
    #[error(transparent)]
    InvalidPassword(UnfitPassword),
    #[error(
        "The generated password has expired. Ask an administrator to reset it, or run `keymark operator set-password`."
    )]
    PasswordExpired,
    #[error("Too many attempts. Try again in {retry_after_seconds} s.")]
    RateLimited { retry_after_seconds: u64 },
    #[error("Too many {what} at the same time. Try again in {retry_after_seconds} s.")]
    TooManyAtOnce { what: &'static str, retry_after_seconds: u64 },
    #[error("{0}")]
    BadUserInput(String),
    #[error(
        "The audit log does not contain the entry of this cursor: it was restored from a backup, or archived up to a later \
         one. Load everything again, and continue without the cursor."
    )]
    CursorInvalid,
}

impl Refusal {
    /// When a retry may succeed. `None` if a retry alone does not help.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_seconds } | Self::TooManyAtOnce { retry_after_seconds, .. } => {
                Some(*retry_after_seconds)
            }
            _ => None,
        }
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::PlatformOnly | Self::ForeignTenant | Self::OperatorOnly | Self::OperatorSuspended => {
                ErrorCode::Forbidden
            }
            Self::SystemNotFound
            | Self::OperatorNotFound
            | Self::OperatorIdNotFound
            | Self::SessionNotFound
            | Self::TokenNotFound
            | Self::TenantNotFound => ErrorCode::NotFound,
            Self::InvalidName(_) => ErrorCode::InvalidName,
            Self::NameTaken
            | Self::ExternalIdTaken
            | Self::UsernameTaken
            | Self::TenantIdTaken
            | Self::TokenNameTaken => ErrorCode::NameTaken,
            Self::KeyAlreadyGenerated => ErrorCode::KeyAlreadyGenerated,
            Self::KeyNotGenerated | Self::NothingToRotate | Self::NoKeyToExpire | Self::NothingRetiring => {
                ErrorCode::KeyNotGenerated
            }
            Self::RotationInProgress => ErrorCode::RotationInProgress,
            Self::NotSuspended | Self::TenantNotSuspended | Self::OperatorNotSuspended => ErrorCode::NotSuspended,
            Self::LastAdministrator => ErrorCode::LastAdministrator,
            Self::TenantNotEmpty => ErrorCode::TenantNotEmpty,
            Self::TenantSuspended => ErrorCode::TenantSuspended,
            Self::OldInstances => ErrorCode::Unavailable,
            Self::Conflict | Self::OtherRevision { .. } => ErrorCode::Conflict,
            Self::InvalidCredentials => ErrorCode::InvalidCredentials,
            Self::InvalidPassword(_) => ErrorCode::InvalidPassword,
            Self::PasswordExpired => ErrorCode::PasswordExpired,
            Self::RateLimited { .. } | Self::TooManyAtOnce { .. } => ErrorCode::RateLimited,
            Self::BadUserInput(_) | Self::InvalidText(_) | Self::InvalidExternalId(_) => ErrorCode::BadUserInput,
            Self::CursorInvalid => ErrorCode::CursorInvalid,
        }
    }
}
