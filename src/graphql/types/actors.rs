//! Who acts.

use async_graphql::{Enum, ID, SimpleObject};

use crate::domain::actors;

/// Who performed or attempted an action.
#[derive(SimpleObject)]
pub(super) struct AuditActor {
    /// Kind of the actor.
    kind: AuditActorKind,
    /// Id of the operator or service token. Null for the other kinds.
    id: Option<ID>,
    /// Username of the operator, or name of the service token, at that time. For the other kinds:
    /// `command line (NAME)` or, if the name is not known, `command line`; `keymark`, `others` or `anonymous`.
    name: String,
    /// Whether an operator or service token of the platform acted, from outside of the tenant.
    is_platform: bool,
}

impl From<actors::AuditActor> for AuditActor {
    fn from(actor: actors::AuditActor) -> Self {
        let actors::AuditActor { kind, id, name, is_platform } = actor;
        Self { kind: kind.into(), id: id.map(|id| id.to_string().into()), name, is_platform }
    }
}

/// Kind of an actor.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "actors::AuditActorKind")]
pub enum AuditActorKind {
    /// An operator who is signed in or tried to sign in.
    Operator,
    /// A service token.
    ServiceToken,
    /// Someone who ran `keymark` on the server's machine.
    CommandLine,
    /// Keymark itself, not a registered system.
    #[graphql(name = "SYSTEM")]
    Keymark,
    /// An unauthenticated client, such as one that presented a revoked key.
    Anonymous,
}
