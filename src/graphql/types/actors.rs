//! Who acts.

use async_graphql::{Enum, ID, SimpleObject};

use crate::domain::actors;

/// Who performed or attempted an action.
#[derive(SimpleObject)]
pub(super) struct AuditActor {
    /// Kind of the actor.
    kind: AuditActorKind,
    /// Id of the operator. Null for the other kinds.
    id: Option<ID>,
    /// Username of the operator at that time. For the other kinds: `command line`, `keymark`, `others` or `anonymous`.
    name: String,
}

impl From<actors::AuditActor> for AuditActor {
    fn from(actor: actors::AuditActor) -> Self {
        Self { kind: actor.kind.into(), id: actor.id.map(|id| id.to_string().into()), name: actor.name }
    }
}

/// Kind of an actor.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "actors::AuditActorKind")]
pub enum AuditActorKind {
    /// An operator who is signed in or tried to sign in.
    Operator,
    /// Someone who ran `keymark` on the server's machine.
    CommandLine,
    /// Keymark itself, not a registered system.
    #[graphql(name = "SYSTEM")]
    Keymark,
    /// An unauthenticated client, such as one that presented a revoked key.
    Anonymous,
}
