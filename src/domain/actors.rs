//! Who causes the events of the audit log.

use serde::{Deserialize, Serialize};

use super::ids::{ActorId, TokenId};
use super::operators::Operator;
use super::system_names::SystemName;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditActorKind {
    Operator,
    ServiceToken,
    CommandLine,
    #[serde(rename = "SYSTEM")]
    Keymark,
    Anonymous,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditActor {
    pub kind: AuditActorKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ActorId>,
    pub name: String,
    /// Whether an operator or token of the platform acted outside of its own tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_platform: bool,
}

impl AuditActor {
    /// The operator, in the operator's own tenant.
    pub fn operator(operator: &Operator) -> Self {
        let name = operator.username.to_string();
        Self { id: Some(ActorId::Operator(operator.id)), ..Self::named(AuditActorKind::Operator, name) }
    }

    /// A service token, in its own tenant.
    pub fn service_token(id: TokenId, name: &SystemName) -> Self {
        Self { id: Some(ActorId::Token(id)), ..Self::named(AuditActorKind::ServiceToken, name.to_string()) }
    }

    /// Somebody who runs `keymark operator …` with access to the store.
    pub fn command_line() -> Self {
        Self::named(AuditActorKind::CommandLine, "command line".to_owned())
    }

    pub fn keymark() -> Self {
        Self::named(AuditActorKind::Keymark, "keymark".to_owned())
    }

    /// Several actors whose attempts are aggregated. Of Keymark's kind, since an operator may have this name.
    pub fn others() -> Self {
        Self::named(AuditActorKind::Keymark, "others".to_owned())
    }

    pub fn anonymous() -> Self {
        Self::named(AuditActorKind::Anonymous, "anonymous".to_owned())
    }

    fn named(kind: AuditActorKind, name: String) -> Self {
        Self { kind, id: None, name, is_platform: false }
    }
}
