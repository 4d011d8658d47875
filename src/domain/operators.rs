//! Operators: the people who sign in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ids::{OperatorId, TenantId};
use super::passwords::{MAX_PASSWORD_BYTES, UnfitPassword, check_password};
use super::permissions::{Permission, Permissions};
use super::refusal::Refusal;
use super::time::Timestamp;

/// How long the generated password of the first operator can be used. ASVS 5, V6.4.
pub const FIRST_PASSWORD_LIFETIME: Duration = Duration::from_hours(24);
const MAX_USERNAME_CHARACTERS: usize = 64;

/// A username: 1 to 64 ASCII letters, digits and `. _ - @ +`, in lower case; unique across tenants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Username(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a username is 1 to {MAX_USERNAME_CHARACTERS} letters, digits and . _ - @ +")]
pub struct NotAUsername;

impl Username {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = NotAUsername;

    fn from_str(typed: &str) -> Result<Self, NotAUsername> {
        let well_formed = (1..=MAX_USERNAME_CHARACTERS).contains(&typed.len())
            && typed.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@+".contains(&b));
        if well_formed { Ok(Self(typed.to_ascii_lowercase())) } else { Err(NotAUsername) }
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password in plain text. `Debug` does not print it, and its memory is wiped when it is dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password that need not follow the rules: one to compare with a stored hash, or a generated one.
    pub fn unchecked(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new password of this operator, chosen by a person.
    pub fn chosen(text: String, username: &Username) -> Result<Self, UnfitPassword> {
        let password = Self::unchecked(text);
        check_password(&password.0, username.as_str()).map(|()| password)
    }

    /// Returns true if it is longer than any operator's password.
    pub fn is_too_long(&self) -> bool {
        self.0.len() > MAX_PASSWORD_BYTES
    }

    /// Returns true if the other one has the same text. Runs in constant time for texts of the same length.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    /// The plain text: for hashing, and showing a generated password once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The argon2id hash of a password, as a PHC string. `Debug` does not print it, since passwords could be guessed with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    pub fn from_phc(phc: String) -> Self {
        Self(phc)
    }

    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A person who signs in, and belongs to one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    pub id: OperatorId,
    pub tenant: TenantId,
    pub username: Username,
    pub password_hash: PasswordHash,
    pub permissions: Permissions,
    /// Increases by one with each new password, and when the store was restored, which ends the sessions created before.
    pub password_version: u64,
    /// Starts at 1, and increases by one with each change.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The end of a generated first password, which its operator has to change. `None` for any other password. Not
    /// written then, as in release 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_expires_at: Option<Timestamp>,
    /// Whether the operator may act in every tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_platform: bool,
    /// While it is set, the operator cannot sign in and has no valid session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
}

impl Operator {
    pub fn new(
        id: OperatorId,
        tenant: TenantId,
        username: Username,
        password_hash: PasswordHash,
        permissions: Permissions,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            username,
            password_hash,
            permissions,
            password_version: 1,
            revision: 1,
            created_at: now,
            updated_at: now,
            password_expires_at: None,
            is_platform: false,
            suspended_at: None,
        }
    }

    /// Whether the row has members or permission codes that release 0.1 does not know.
    pub fn needs_second_format(&self) -> bool {
        self.is_platform || self.suspended_at.is_some() || !self.permissions.are_of_first_release()
    }

    /// The operator, who may act in every tenant.
    pub fn of_platform(self) -> Self {
        Self { is_platform: true, ..self }
    }

    /// The operator, whose password was generated and shown to another person.
    pub fn with_first_password(self) -> Self {
        Self { password_expires_at: Some(self.updated_at.plus(FIRST_PASSWORD_LIFETIME)), ..self }
    }

    /// Returns the operator as one of the platform with these codes, or `None` if nothing changes.
    pub fn promote(&self, permissions: Permissions, now: Timestamp) -> Option<Self> {
        let is_same = self.is_platform && self.permissions == permissions;
        (!is_same).then(|| Self { is_platform: true, permissions, ..self.changed(now) })
    }

    /// Returns the suspended operator, or `None` if they are suspended already.
    pub fn suspend(&self, now: Timestamp) -> Option<Self> {
        self.suspended_at.is_none().then(|| Self { suspended_at: Some(now), ..self.without_sessions(now) })
    }

    /// Returns the operator, who may sign in again.
    ///
    /// # Errors
    ///
    /// `NOT_SUSPENDED`.
    pub fn resume(&self, now: Timestamp) -> Result<Self, Refusal> {
        match self.suspended_at {
            Some(_) => Ok(Self { suspended_at: None, ..self.changed(now) }),
            None => Err(Refusal::OperatorNotSuspended),
        }
    }

    /// Whether the operator administers the operators of the tenant that they belong to.
    pub fn is_administrator(&self, now: Timestamp) -> bool {
        self.suspended_at.is_none()
            && !self.is_password_expired(now)
            && self.permissions.contains(Permission::EditOperators)
    }

    pub fn must_change_password(&self) -> bool {
        self.password_expires_at.is_some()
    }

    pub fn is_password_expired(&self, now: Timestamp) -> bool {
        self.password_expires_at.is_some_and(|end| now >= end)
    }

    /// Returns the operator with other permissions, or `None` if they are the same.
    pub fn with_permissions(&self, permissions: Permissions, now: Timestamp) -> Option<Self> {
        (permissions != self.permissions).then(|| Self { permissions, ..self.changed(now) })
    }

    pub fn with_password(&self, password_hash: PasswordHash, now: Timestamp) -> Self {
        let password_version = self.password_version + 1;
        Self { password_hash, password_version, password_expires_at: None, ..self.changed(now) }
    }

    /// Returns the operator, whose sessions have ended.
    pub fn without_sessions(&self, now: Timestamp) -> Self {
        Self { password_version: self.password_version + 1, ..self.changed(now) }
    }

    /// Returns the operator with a new hash of the same password.
    pub fn with_rehashed_password(&self, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self { password_hash, ..self.changed(now) }
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }
}
