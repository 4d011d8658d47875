//! The answer to "is this key good?".

use std::time::Duration;

use super::ids::{SystemId, TenantId};
use super::keys::{Key, KeyDigest, Mark};
use super::system_names::SystemName;
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
    Valid(Identity),
    /// The text has not the shape of a key, or its checksum is wrong.
    Malformed,
    /// No key of this text is known.
    NotFound,
    /// The key was good once: it was revoked, or its system deleted, within the retention.
    Revoked(RevokedKey),
}

/// What a look-up by digest finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Current(Identity),
    Revoked(RevokedKey),
}

impl From<Key> for Found {
    fn from(key: Key) -> Self {
        let Key { digest, tenant, system, system_name, mark, revoked_at, .. } = key;
        match revoked_at {
            None => Self::Current(Identity { tenant, system, system_name, mark }),
            Some(revoked_at) => Self::Revoked(RevokedKey { digest, tenant, system, mark, revoked_at }),
        }
    }
}

impl Verdict {
    /// Judges what a look-up found. A key revoked longer ago than `retention` is as good as unknown, whether or not it
    /// has been purged yet.
    pub fn on(found: Option<Found>, now: Timestamp, retention: Duration) -> Self {
        match found {
            None => Self::NotFound,
            Some(Found::Current(identity)) => Self::Valid(identity),
            Some(Found::Revoked(key)) if now.since(key.revoked_at) < retention => Self::Revoked(key),
            Some(Found::Revoked(_)) => Self::NotFound,
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
