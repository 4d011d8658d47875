//! The answer to "is this key good?".

use std::time::Duration;

use super::ids::{SystemId, TenantId};
use super::keys::{Key, KeyDigest, Mark};
use super::names::SystemName;
use super::time::Timestamp;

/// Whom a good key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: TenantId,
    pub system: SystemId,
    /// The system's name now.
    pub system_name: SystemName,
    pub mark: Mark,
}

/// What is remembered of a key that is good no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    pub digest: KeyDigest,
    pub tenant: TenantId,
    pub system: SystemId,
    pub mark: Mark,
    /// When it was revoked, or its system deleted.
    pub revoked_at: Timestamp,
}

/// What a verification finds. Revoked and unknown keys are answers, not errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is its system's current one.
    Valid(Box<Key>),
    /// The text has not the shape of a key, or its checksum is wrong.
    Malformed,
    /// No key of this text is known.
    NotFound,
    /// The key was good once: it was revoked, or its system deleted, within the retention.
    Revoked(Box<Key>),
}

impl Verdict {
    /// Judges what a look-up by digest found. A key revoked longer ago than `retention` is as good as unknown,
    /// whether or not it has been purged yet.
    pub fn on(found: Option<Key>, now: Timestamp, retention: Duration) -> Self {
        match found {
            None => Self::NotFound,
            Some(key) => match key.revoked_at {
                None => Self::Valid(Box::new(key)),
                Some(at) if now.since(at) < retention => Self::Revoked(Box::new(key)),
                Some(_) => Self::NotFound,
            },
        }
    }

    /// The stable code for verifiers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Valid(_) => "VALID",
            Self::Malformed => "MALFORMED",
            Self::NotFound => "NOT_FOUND",
            Self::Revoked(_) => "REVOKED",
        }
    }
}
