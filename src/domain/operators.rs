//! Operators: the people who sign in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ids::{OperatorId, TenantId};
use super::permissions::Permissions;
use super::time::Timestamp;

/// ASVS 5, V6.2.
pub const MIN_PASSWORD_BYTES: usize = 8;
/// Bounds the work of hashing a password that an anonymous client sends. ASVS 5, V6.2, rules out a short limit.
pub const MAX_PASSWORD_BYTES: usize = 1024;
const MAX_USERNAME_CHARACTERS: usize = 64;

/// A username: 1 to 64 ASCII letters, digits and `. _ - @ +`, in lower case; unique across tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A password has {MIN_PASSWORD_BYTES} to {MAX_PASSWORD_BYTES} bytes.")]
pub struct InvalidPasswordLength;

impl Password {
    /// A password of any length, to be compared with a stored hash.
    pub fn unchecked(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new password, of [`MIN_PASSWORD_BYTES`] to [`MAX_PASSWORD_BYTES`].
    pub fn checked(text: String) -> Result<Self, InvalidPasswordLength> {
        let password = Self::unchecked(text);
        let is_valid = (MIN_PASSWORD_BYTES..=MAX_PASSWORD_BYTES).contains(&password.0.len());
        if is_valid { Ok(password) } else { Err(InvalidPasswordLength) }
    }

    /// Returns true if it is longer than any operator's password.
    pub fn is_too_long(&self) -> bool {
        self.0.len() > MAX_PASSWORD_BYTES
    }

    /// The plain text: for hashing, comparing, and showing a generated password once.
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
    /// Increases by one with each new password, which ends the sessions created before.
    pub password_version: u64,
    /// Starts at 1, and increases by one with each change.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
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
        }
    }

    /// Returns the operator with other permissions, or `None` if they are the same.
    pub fn with_permissions(&self, permissions: Permissions, now: Timestamp) -> Option<Self> {
        (permissions != self.permissions).then(|| Self { permissions, ..self.changed(now) })
    }

    pub fn with_password(&self, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self { password_hash, password_version: self.password_version + 1, ..self.changed(now) }
    }

    /// Returns the operator with a new hash of the same password.
    pub fn with_rehashed_password(&self, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self { password_hash, ..self.changed(now) }
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }
}
