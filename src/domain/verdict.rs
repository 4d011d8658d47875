//! Verdicts: the results of verifying a key.

use std::time::Duration;

use super::external_ids::ExternalId;
use super::ids::{SystemId, TenantId};
use super::keys::{Key, KeyDigest, KeyEnd, KeyRole, Mark};
use super::system_names::SystemName;
use super::time::Timestamp;

/// The system that a valid key identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: TenantId,
    pub system: SystemId,
    /// The system's current name.
    pub system_name: SystemName,
    /// The system's current external id.
    pub external_id: Option<ExternalId>,
    pub mark: Mark,
    pub role: KeyRole,
    pub expires_at: Option<Timestamp>,
}

/// Why a known key is refused. Of several reasons, the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The key was revoked, its rotation ended early, or its system deleted.
    Revoked,
    /// Its system is suspended.
    Suspended,
    /// Its expiry or the end of its overlap has been reached.
    Expired,
}

/// A known key that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedKey {
    pub digest: KeyDigest,
    pub tenant: TenantId,
    pub system: SystemId,
    pub mark: Mark,
    pub reason: RefusalReason,
    /// Since when it is refused for this reason.
    pub since: Timestamp,
}

/// The result of a verification. Refused and unknown keys are verdicts, not errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is its system's current or retiring one.
    Valid(Identity),
    /// The text does not have the format of a key, or its checksum is wrong.
    Malformed,
    /// The key was never generated, or ended longer ago than the retention.
    NotFound,
    /// The key is known, but not valid.
    Refused(RefusedKey),
}

/// The status of a stored key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    Live {
        digest: KeyDigest,
        identity: Identity,
        suspended_at: Option<Timestamp>,
    },
    /// The key has ended.
    Ended(RefusedKey),
}

impl From<Key> for KeyStatus {
    fn from(key: Key) -> Self {
        let Key { digest, tenant, system, system_name, external_id, mark, revoked_at, end, .. } = key;
        let (role, expires_at, suspended_at) = (key.role, key.expires_at, key.suspended_at);
        match revoked_at {
            None => {
                let identity = Identity { tenant, system, system_name, external_id, mark, role, expires_at };
                Self::Live { digest, identity, suspended_at }
            }
            Some(since) => {
                let reason = RefusalReason::of_end(end);
                Self::Ended(RefusedKey { digest, tenant, system, mark, reason, since })
            }
        }
    }
}

impl KeyStatus {
    /// The status of the key in a tenant that is suspended since then.
    pub fn in_tenant(self, since: Option<Timestamp>) -> Self {
        match self {
            Self::Live { digest, identity, suspended_at } => {
                Self::Live { digest, identity, suspended_at: suspended_at.or(since) }
            }
            ended @ Self::Ended(_) => ended,
        }
    }

    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Live { identity, .. } => &identity.tenant,
            Self::Ended(key) => &key.tenant,
        }
    }

    /// Whether the key is valid at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        match self {
            Self::Live { identity, suspended_at, .. } => refusal_at(*suspended_at, identity.expires_at, now).is_none(),
            Self::Ended(_) => false,
        }
    }
}

impl RefusalReason {
    /// The reason that an ended key is refused for.
    pub fn of_end(end: Option<KeyEnd>) -> Self {
        if end.is_some_and(KeyEnd::is_by_time) { Self::Expired } else { Self::Revoked }
    }

    /// The stable code that verifiers receive.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Revoked => "REVOKED",
            Self::Suspended => "SUSPENDED",
            Self::Expired => "EXPIRED",
        }
    }
}

impl Verdict {
    /// Returns the verdict at `now` on the status that a look-up returned. A key that ended longer ago than `retention` is
    /// [`NotFound`](Self::NotFound), whether or not it has been purged yet.
    pub fn new(status: Option<KeyStatus>, now: Timestamp, retention: Duration) -> Self {
        match status {
            None => Self::NotFound,
            Some(KeyStatus::Live { digest, identity, suspended_at }) => {
                match refusal_at(suspended_at, identity.expires_at, now) {
                    None => Self::Valid(identity),
                    Some((reason, since)) => {
                        let Identity { tenant, system, mark, .. } = identity;
                        Self::Refused(RefusedKey { digest, tenant, system, mark, reason, since })
                    }
                }
            }
            Some(KeyStatus::Ended(key)) if now.since(key.since) < retention => Self::Refused(key),
            Some(KeyStatus::Ended(_)) => Self::NotFound,
        }
    }

    /// The stable code that verifiers receive.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Valid(_) => "VALID",
            Self::Malformed => "MALFORMED",
            Self::NotFound => "NOT_FOUND",
            Self::Refused(key) => key.reason.code(),
        }
    }
}

/// Why a live key is refused at `now`, and since when.
fn refusal_at(
    suspended_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<(RefusalReason, Timestamp)> {
    let suspended = suspended_at.map(|since| (RefusalReason::Suspended, since));
    suspended.or(expires_at.filter(|end| *end <= now).map(|since| (RefusalReason::Expired, since)))
}
