//! Who causes the events of the audit log.

use serde::{Deserialize, Serialize};

use super::ids::OperatorId;
use super::operators::Operator;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditActorKind {
    Operator,
    CommandLine,
    #[serde(rename = "SYSTEM")]
    Keymark,
    Anonymous,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditActor {
    pub kind: AuditActorKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OperatorId>,
    pub name: String,
}

impl AuditActor {
    pub fn operator(operator: &Operator) -> Self {
        Self { kind: AuditActorKind::Operator, id: Some(operator.id), name: operator.username.to_string() }
    }

    /// Somebody who runs `keymark operator …` with access to the store.
    pub fn command_line() -> Self {
        Self { kind: AuditActorKind::CommandLine, id: None, name: "command line".to_owned() }
    }

    pub fn keymark() -> Self {
        Self { kind: AuditActorKind::Keymark, id: None, name: "keymark".to_owned() }
    }

    /// Several actors whose attempts are aggregated. Of Keymark's kind, since an operator may have this name.
    pub fn others() -> Self {
        Self { kind: AuditActorKind::Keymark, id: None, name: "others".to_owned() }
    }

    pub fn anonymous() -> Self {
        Self { kind: AuditActorKind::Anonymous, id: None, name: "anonymous".to_owned() }
    }
}
