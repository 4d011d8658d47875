//! Verdicts: the results of verifying a key.

use std::time::Duration;

use super::ids::{SystemId, TenantId};
use super::keys::{Key, KeyDigest, Mark};
use super::system_names::SystemName;
use super::time::Timestamp;

/// The system that a valid key identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: TenantId,
    pub system: SystemId,
    /// The system's current name.
    pub system_name: SystemName,
    pub mark: Mark,
}

/// A key that was revoked, or whose system was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    pub digest: KeyDigest,
    pub tenant: TenantId,
    pub system: SystemId,
    pub mark: Mark,
    /// The time at which it was revoked or its system deleted.
    pub revoked_at: Timestamp,
}

/// The result of a verification. Revoked and unknown keys are verdicts, not errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is its system's current one.
    Valid(Identity),
    /// The text does not have the format of a key, or its checksum is wrong.
    Malformed,
    /// The key was never generated, or was revoked longer ago than the retention.
    NotFound,
    /// The key was revoked, or its system deleted, within the retention.
    Revoked(RevokedKey),
}

/// The status of a stored key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    Current(Identity),
    Revoked(RevokedKey),
}

impl From<Key> for KeyStatus {
    fn from(key: Key) -> Self {
        let Key { digest, tenant, system, system_name, mark, revoked_at, .. } = key;
        match revoked_at {
            None => Self::Current(Identity { tenant, system, system_name, mark }),
            Some(revoked_at) => Self::Revoked(RevokedKey { digest, tenant, system, mark, revoked_at }),
        }
    }
}

impl Verdict {
    /// Returns the verdict on the status that a look-up returned. A key that was revoked longer ago than `retention` is
    /// [`NotFound`](Self::NotFound), whether or not it has been purged yet.
    pub fn new(status: Option<KeyStatus>, now: Timestamp, retention: Duration) -> Self {
        match status {
            None => Self::NotFound,
            Some(KeyStatus::Current(identity)) => Self::Valid(identity),
            Some(KeyStatus::Revoked(key)) if now.since(key.revoked_at) < retention => Self::Revoked(key),
            Some(KeyStatus::Revoked(_)) => Self::NotFound,
        }
    }

    /// The stable code that verifiers receive.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Valid(_) => "VALID",
            Self::Malformed => "MALFORMED",
            Self::NotFound => "NOT_FOUND",
            Self::Revoked(_) => "REVOKED",
        }
    }
}
