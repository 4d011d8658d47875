//! Why something is refused: one list of codes, from which messages and documentation follow.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::operators::UnfitPassword;
use super::permissions::Permission;
use super::system_names::NameError;

/// The stable code of an error: `extensions.code` for clients.
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
    Conflict,
    InvalidCredentials,
    InvalidPassword,
    RateLimited,
    BadUserInput,
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
            Self::Conflict => "CONFLICT",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::InvalidPassword => "INVALID_PASSWORD",
            Self::RateLimited => "RATE_LIMITED",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// A request that is understood and not granted. Its `Display` is the message for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unauthenticated,
    Forbidden(Permission),
    NotFound,
    InvalidName(NameError),
    NameTaken,
    UsernameTaken,
    KeyAlreadyGenerated,
    KeyNotGenerated,
    Conflict,
    InvalidCredentials,
    InvalidPassword(UnfitPassword),
    RateLimited { retry_after_seconds: u64 },
    BadUserInput(String),
}

impl Refusal {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::NotFound => ErrorCode::NotFound,
            Self::InvalidName(_) => ErrorCode::InvalidName,
            Self::NameTaken | Self::UsernameTaken => ErrorCode::NameTaken,
            Self::KeyAlreadyGenerated => ErrorCode::KeyAlreadyGenerated,
            Self::KeyNotGenerated => ErrorCode::KeyNotGenerated,
            Self::Conflict => ErrorCode::Conflict,
            Self::InvalidCredentials => ErrorCode::InvalidCredentials,
            Self::InvalidPassword(_) => ErrorCode::InvalidPassword,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::BadUserInput(_) => ErrorCode::BadUserInput,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str("Sign in first."),
            Self::Forbidden(permission) => {
                write!(f, "This needs the permission code {permission}. Ask an administrator of your tenant for it.")
            }
            Self::NotFound => f.write_str("There is no such thing in your tenant."),
            Self::InvalidName(reason) => reason.fmt(f),
            Self::NameTaken => f.write_str("Another system of your tenant has this name."),
            Self::UsernameTaken => f.write_str("Another operator has this username."),
            Self::KeyAlreadyGenerated => {
                f.write_str("The system has a key already. Revoke it before you generate a new one.")
            }
            Self::KeyNotGenerated => f.write_str("The system has no key."),
            Self::Conflict => f.write_str("Somebody else changed this meanwhile. Look at it again."),
            Self::InvalidCredentials => f.write_str("The username or the password is wrong."),
            Self::InvalidPassword(reason) => reason.fmt(f),
            Self::RateLimited { retry_after_seconds } => {
                write!(f, "Too many attempts. Try again in {retry_after_seconds} s.")
            }
            Self::BadUserInput(message) => f.write_str(message),
        }
    }
}
