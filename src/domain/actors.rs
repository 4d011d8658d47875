//! Who causes the events of the audit log.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{ActorId, TokenId};
use super::operators::Operator;
use super::system_names::{SystemName, is_invisible};

const MAX_COMMAND_USER_CHARACTERS: usize = 64;

/// The person who runs a command, by the name that they or their system state: 1 to 64 printable characters. Nothing
/// proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CommandUser(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to {MAX_COMMAND_USER_CHARACTERS} printable characters, with no space at its ends")]
pub struct NotACommandUser;

impl TryFrom<String> for CommandUser {
    type Error = NotACommandUser;

    fn try_from(name: String) -> Result<Self, NotACommandUser> {
        let is_printable = name.chars().all(|c| c == ' ' || !(c.is_whitespace() || is_invisible(c)));
        let is_of_length = (1..=MAX_COMMAND_USER_CHARACTERS).contains(&name.chars().count());
        if is_printable && is_of_length && name.trim() == name { Ok(Self(name)) } else { Err(NotACommandUser) }
    }
}

impl From<CommandUser> for String {
    fn from(CommandUser(name): CommandUser) -> Self {
        name
    }
}

impl fmt::Display for CommandUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

    /// The same, with the name of the person, if it is known.
    pub fn command_line_of(user: Option<&CommandUser>) -> Self {
        match user {
            Some(user) => Self::named(AuditActorKind::CommandLine, format!("command line ({user})")),
            None => Self::command_line(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_command_user_is_printable_and_short() {
        let parse = |name: &str| CommandUser::try_from(name.to_owned());
        for good in ["ada", "Ada Lovelace", "деплой", "CI (nightly) #7", &"é".repeat(64)] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ada", "ada ", "a\nb", "a\tb", "a\u{0}", "a\u{202e}b", "a\u{200b}b", &"a".repeat(65)] {
            assert_eq!(parse(bad), Err(NotACommandUser), "{bad:?}");
        }
    }

    #[test]
    fn actor_of_the_command_line_has_the_name_of_its_user() {
        let ada = CommandUser::try_from("ada".to_owned()).unwrap();
        assert_eq!(AuditActor::command_line_of(Some(&ada)).name, "command line (ada)");
        assert_eq!(AuditActor::command_line_of(None), AuditActor::command_line());
    }
}
