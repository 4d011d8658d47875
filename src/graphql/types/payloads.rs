//! What mutations answer.

use async_graphql::{Enum, ID, SimpleObject};

use super::{DateTime, System, Viewer};
use crate::service;
use crate::service::sessions::OpenedSession;

/// What `signIn` answers.
#[derive(SimpleObject)]
pub(crate) struct SignInPayload {
    /// The operator who is signed in now.
    viewer: Viewer,
    /// The token for `Authorization: Bearer`; browsers get it as a cookie too.
    token: String,
    /// When the session ends.
    expires_at: DateTime,
}

impl From<OpenedSession> for SignInPayload {
    fn from(opened: OpenedSession) -> Self {
        let expires_at = DateTime(opened.caller.session.expires_at);
        Self { viewer: Viewer::from(&opened.caller), token: opened.token, expires_at }
    }
}

/// What `signOut` answers.
#[derive(SimpleObject)]
pub(crate) struct SignOutPayload {
    /// Whether a session was ended; false when nobody was signed in.
    pub signed_out: bool,
}

/// What `changePassword` answers: every session before it has ended.
#[derive(SimpleObject)]
pub(crate) struct ChangePasswordPayload {
    /// The operator, who is signed in anew.
    viewer: Viewer,
    /// The token of the new session.
    token: String,
    /// When the new session ends.
    expires_at: DateTime,
}

impl From<OpenedSession> for ChangePasswordPayload {
    fn from(opened: OpenedSession) -> Self {
        let SignInPayload { viewer, token, expires_at } = opened.into();
        Self { viewer, token, expires_at }
    }
}

/// What `createSystem` answers.
#[derive(SimpleObject)]
pub(crate) struct CreateSystemPayload {
    /// The new system.
    pub system: System,
}

/// What `renameSystem` answers.
#[derive(SimpleObject)]
pub(crate) struct RenameSystemPayload {
    /// The system under its new name.
    pub system: System,
}

/// What `deleteSystem` answers.
#[derive(SimpleObject)]
pub(crate) struct DeleteSystemPayload {
    /// The id of the system that is gone.
    pub deleted_system_id: ID,
    /// Whether every instance refuses the system's key.
    pub enforcement: Enforcement,
}

/// What `generateKey` answers.
#[derive(SimpleObject)]
pub(crate) struct GenerateKeyPayload {
    /// The whole key: shown here, once, and never again.
    pub api_key: String,
    /// The system with the mark of its key.
    pub system: System,
    /// Whether every instance accepts the key.
    pub enforcement: Enforcement,
}

/// What `revokeKey` answers.
#[derive(SimpleObject)]
pub(crate) struct RevokeKeyPayload {
    /// The system, without its key.
    pub system: System,
    /// Whether every instance refuses the key.
    pub enforcement: Enforcement,
}

/// Whether every instance is known to act on the change.
#[derive(SimpleObject)]
pub(crate) struct Enforcement {
    /// How far it has come.
    state: EnforcementState,
    /// From the durable commit to the proof, in milliseconds.
    elapsed_ms: f64,
    /// Instances that acknowledged it or are provably not answering from memory.
    instances: i32,
    /// While PENDING: no instance acts on the old state after this.
    enforced_no_later_than: Option<DateTime>,
}

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum EnforcementState {
    /// No instance anywhere acts on the old state.
    Enforced,
    /// An instance may act on the old state for a while yet.
    Pending,
}

impl From<service::Enforcement> for Enforcement {
    fn from(enforcement: service::Enforcement) -> Self {
        Self {
            state: if enforcement.is_enforced { EnforcementState::Enforced } else { EnforcementState::Pending },
            elapsed_ms: enforcement.elapsed.as_secs_f64() * 1000.0,
            instances: i32::try_from(enforcement.instances).unwrap_or(i32::MAX),
            enforced_no_later_than: enforcement.pending_until.map(DateTime),
        }
    }
}
