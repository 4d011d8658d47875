//! Payloads of mutations.

use async_graphql::{Enum, ID, SimpleObject};

use super::{DateTime, System, Viewer};
use crate::service;
use crate::service::sessions::NewSession;

/// Result of `signIn`.
#[derive(SimpleObject)]
pub(crate) struct SignInPayload {
    /// The operator who signed in.
    viewer: Viewer,
    /// Token of the session, to be sent as `Authorization: Bearer <token>`. Browsers also receive it as a cookie. Keep
    /// it secret.
    token: String,
    /// Time at which the session expires, unless it ends before.
    expires_at: DateTime,
}

impl From<NewSession> for SignInPayload {
    fn from(opened: NewSession) -> Self {
        let expires_at = DateTime(opened.session.expires_at);
        Self { viewer: Viewer::from(&opened.caller()), token: opened.token, expires_at }
    }
}

/// Result of `signOut`.
#[derive(SimpleObject)]
pub(crate) struct SignOutPayload {
    /// True if a session was ended, false if no operator was signed in.
    pub signed_out: bool,
}

/// Result of `changePassword`. The operator's earlier sessions have ended; a new one has begun.
#[derive(SimpleObject)]
pub(crate) struct ChangePasswordPayload {
    /// The operator, signed in to the new session.
    viewer: Viewer,
    /// Token of the new session, to be used as the one that `signIn` returns.
    token: String,
    /// Time at which the new session expires, unless it ends before.
    expires_at: DateTime,
}

impl From<NewSession> for ChangePasswordPayload {
    fn from(opened: NewSession) -> Self {
        let SignInPayload { viewer, token, expires_at } = opened.into();
        Self { viewer, token, expires_at }
    }
}

/// Result of `createSystem`.
#[derive(SimpleObject)]
pub(crate) struct CreateSystemPayload {
    /// The new system.
    pub system: System,
}

/// Result of `renameSystem`.
#[derive(SimpleObject)]
pub(crate) struct RenameSystemPayload {
    /// The system with its new name.
    pub system: System,
}

/// Result of `deleteSystem`.
#[derive(SimpleObject)]
pub(crate) struct DeleteSystemPayload {
    /// Id of the deleted system.
    pub deleted_system_id: ID,
    /// Whether every instance refuses the system's keys already.
    pub enforcement: Enforcement,
}

/// Result of `generateKey`.
#[derive(SimpleObject)]
pub(crate) struct GenerateKeyPayload {
    /// The full API key. It is shown only in this response and cannot be retrieved again, so store it or hand it over
    /// right away.
    pub api_key: String,
    /// The system, with the mark of its new key.
    pub system: System,
    /// Whether every instance accepts the key already.
    pub enforcement: Enforcement,
}

/// Result of `revokeKey`.
#[derive(SimpleObject)]
pub(crate) struct RevokeKeyPayload {
    /// The system, now without keys.
    pub system: System,
    /// Whether every instance refuses the keys already.
    pub enforcement: Enforcement,
}

/// Result of `rotateKey`.
#[derive(SimpleObject)]
pub(crate) struct RotateKeyPayload {
    /// The full new API key. It is shown only in this response and cannot be retrieved again, so store it or hand it over
    /// right away.
    pub api_key: String,
    /// The system, with its new key and the one that retires.
    pub system: System,
    /// Whether every instance accepts the new key already.
    pub enforcement: Enforcement,
}

/// Result of `endRotation`.
#[derive(SimpleObject)]
pub(crate) struct EndRotationPayload {
    /// The system, without a retiring key.
    pub system: System,
    /// Whether every instance refuses the key already.
    pub enforcement: Enforcement,
}

/// Result of `setKeyExpiry`.
#[derive(SimpleObject)]
pub(crate) struct SetKeyExpiryPayload {
    /// The system with the new end of its key.
    pub system: System,
    /// Whether every instance keeps to the new end already.
    pub enforcement: Enforcement,
}

/// Result of `suspendSystem`.
#[derive(SimpleObject)]
pub(crate) struct SuspendSystemPayload {
    /// The suspended system.
    pub system: System,
    /// Whether every instance refuses the system's keys already.
    pub enforcement: Enforcement,
}

/// Result of `resumeSystem`.
#[derive(SimpleObject)]
pub(crate) struct ResumeSystemPayload {
    /// The system, no longer suspended.
    pub system: System,
    /// Whether every instance accepts the system's keys already.
    pub enforcement: Enforcement,
}

/// Result of `describeSystem`.
#[derive(SimpleObject)]
pub(crate) struct DescribeSystemPayload {
    /// The system with its new description.
    pub system: System,
}

/// Result of `setExternalId`.
#[derive(SimpleObject)]
pub(crate) struct SetExternalIdPayload {
    /// The system with its new external id.
    pub system: System,
}

/// How far a change has reached the instances of Keymark. A mutation returns once every instance enforces its change,
/// or once the server's `--enforcement-wait` is over, which by default is long enough for `ENFORCED`.
#[derive(SimpleObject)]
pub(crate) struct Enforcement {
    /// State of the enforcement when the mutation returned.
    state: EnforcementState,
    /// Time from the commit until every instance enforced the change, or until the wait ended, in milliseconds, with up to
    /// three decimals.
    elapsed_ms: f64,
    /// Number of instances that acknowledged the change, or are known not to use a cached state from before it.
    instances: i32,
    /// For `PENDING`: time after which no instance uses the old state. Null for `ENFORCED`, and if no bound is known.
    enforced_no_later_than: Option<DateTime>,
}

/// State of the enforcement of a change.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum EnforcementState {
    /// Every instance enforces the change. No instance uses the old state.
    Enforced,
    /// The change is committed, but an instance may use the old state a little longer.
    Pending,
}

impl From<service::Enforcement> for Enforcement {
    fn from(enforcement: service::Enforcement) -> Self {
        Self {
            state: if enforcement.is_enforced { EnforcementState::Enforced } else { EnforcementState::Pending },
            elapsed_ms: (enforcement.elapsed.as_secs_f64() * 1e6).round() / 1e3,
            instances: i32::try_from(enforcement.instances).unwrap_or(i32::MAX),
            enforced_no_later_than: enforcement.pending_until.map(DateTime),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn elapsed_milliseconds_have_three_decimals() {
        for (nanos, expected) in [(0, "0"), (1_234_567_891, "1234.568"), (12_300_000, "12.3"), (499, "0")] {
            let elapsed = Duration::from_nanos(nanos);
            let enforcement = service::Enforcement { elapsed, ..service::Enforcement::NOTHING_TO_ENFORCE };
            assert_eq!(Enforcement::from(enforcement).elapsed_ms.to_string(), expected);
        }
    }
}
